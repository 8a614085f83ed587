//! Typed records: what goes in comes out, in place where that is promised, and another type is refused by everybody.
#![cfg(all(feature = "lz4", feature = "serde", feature = "zerocopy"))]

mod common;

#[path = "typed/journals.rs"]
mod journals;
#[path = "typed/wrapped.rs"]
mod wrapped;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{dir, patience};
use kekbit::typed::{Codec, Plain, Postcard, TypeError, TypedError};
use kekbit::{
    AppendContext, AppendError, Channel, CopyingReader, CreateError, EncodeError, Handler, Journal,
    JournalError, SequenceStamp, StageError, StageInfo, Start, Timestamp, Wait, Writer,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use zerocopy::little_endian::{F64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Debug)]
#[repr(C)]
struct Price {
    bid: F64,
    size: U32,
    symbol: [u8; 4],
}

kekbit::record_type!(Price as "test.price.v1" { bid, size, symbol as text });

/// With Rust's own numbers, and so with an alignment.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Debug)]
#[repr(C)]
struct Native {
    a: u64,
    b: u32,
    c: i32,
}

kekbit::record_type!(Native as "test.native.v1" { a, b, c });

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
enum Order {
    Buy { symbol: String, lots: Vec<u32> },
    Amend(u64, Option<f64>),
    Cancel,
}

kekbit::record_type!(Order as "test.order.v1");

fn price(number: u32) -> Price {
    Price { bid: f64::from(number).into(), size: number.into(), symbol: *b"AAPL" }
}

/// `len` bytes in front of the payload, which says so.
struct Front(u32);

impl Handler for Front {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: 1 << 20,
            version: 1,
            prefix_len: self.0,
            name: "front".into(),
            ..StageInfo::default()
        }
    }
}

/// The payload, with each byte turned around.
struct Inverted;

impl Handler for Inverted {
    fn describe(&self) -> StageInfo {
        StageInfo { id: 1 << 21, version: 1, replaces: true, name: "inverted".into(), ..StageInfo::default() }
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        out.extend(body.iter().map(|byte| !byte));
        Ok(())
    }
}

#[test]
fn a_plain_value_is_read_where_it_lies() {
    let dir = dir();
    let path = dir.path().join("plain.kek");
    let options = Writer::options().stage(Timestamp::nanos()).stage(SequenceStamp);
    let mut writer = options.create_typed::<Plain<Native>>(&path).unwrap();
    for number in 0..100 {
        writer.append(&Native { a: number, b: 1, c: -1 }).unwrap();
        writer.append_with(|value| *value = Native { a: number, b: 2, c: -2 }).unwrap();
    }
    writer.close().unwrap();
    let channel = Channel::open(&path).unwrap().typed::<Plain<Native>>().unwrap();
    let mut count = 0;
    for record in channel.records() {
        let record = record.unwrap();
        let (number, way) = (count / 2, count % 2 + 1);
        assert_eq!(*record.value, Native { a: number, b: way as u32, c: -(way as i32) });
        assert_eq!(
            std::ptr::from_ref(record.value).cast::<u8>(),
            record.payload().as_ptr(),
            "no copy was made"
        );
        assert_eq!((record.sequence(), record.sequence_stamp()), (count, Some(count)));
        assert!(record.timestamp_nanos().is_some());
        count += 1;
    }
    assert_eq!(count, 200);
}

#[test]
fn a_plain_value_is_written_where_it_stays() {
    let dir = dir();
    let path = dir.path().join("in-place.kek");
    let mut writer = Writer::options().create_typed::<Plain<Price>>(&path).unwrap();
    let mut places = Vec::new();
    for number in 0..3 {
        writer
            .append_with(|value| {
                places.push(std::ptr::from_mut(value).addr());
                *value = price(number);
            })
            .unwrap();
    }
    // Frames of 8 + 16 bytes, one behind the other, in the writer's mapping.
    assert_eq!(places, [places[0], places[0] + 24, places[0] + 48]);
    let panicked = catch_unwind(AssertUnwindSafe(|| writer.append_with(|_| panic!("no value"))));
    assert!(panicked.is_err());
    assert_eq!((writer.next_sequence(), writer.tail().offset()), (3, 72), "nothing has happened");
    writer.append(&price(3)).unwrap();
    writer.close().unwrap();
    let channel = Channel::open(&path).unwrap().typed::<Plain<Price>>().unwrap();
    let read: Vec<Price> = channel.records().map(|record| *record.unwrap().value).collect();
    assert_eq!(read, [0, 1, 2, 3].map(price));
}

#[test]
fn a_stage_in_place_of_the_payload_is_given_a_value_that_was_written_outside() {
    let dir = dir();
    let path = dir.path().join("inverted.kek");
    let mut writer = Writer::options().stage(Inverted).create_typed::<Plain<Price>>(&path).unwrap();
    writer
        .append_with(|value| {
            assert_eq!(value.as_bytes(), [0; 16], "it begins with zeros");
            *value = price(7);
        })
        .unwrap();
    writer.close().unwrap();
    let channel = Channel::options().stored(true).open(&path).unwrap();
    let stored = channel.records().next().unwrap().unwrap().stored().to_vec();
    let expected: Vec<u8> = price(7).as_bytes().iter().map(|byte| !byte).collect();
    assert_eq!(stored, expected);
}

/// Whether `error` says what both are.
fn names_both(error: &impl std::fmt::Display, recorded: &str, expected: &str) {
    let text = error.to_string();
    assert!(text.contains(recorded) && text.contains(expected), "{text}");
}

#[test]
fn another_type_is_refused_and_the_error_names_both() {
    /// The same name, another length.
    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Longer([u8; 24]);
    kekbit::record_type!(Longer as "test.price.v1");

    /// The same name and length, another field.
    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Other {
        bid: F64,
        size: F32,
        symbol: [u8; 4],
    }
    kekbit::record_type!(Other as "test.price.v1" { bid, size, symbol });

    /// The same bytes under other names, some of which it does not tell.
    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Same {
        price: F64,
        lots: U32,
        ticker: [u8; 4],
    }
    kekbit::record_type!(Same as "test.price.v1" { price, lots, ticker });

    /// It tells no field at all.
    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Silent([u8; 16]);
    kekbit::record_type!(Silent as "test.price.v1");

    /// Another name, and nothing else that differs.
    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Renamed([u8; 16]);
    kekbit::record_type!(Renamed as "test.price.v2");

    use zerocopy::little_endian::F32;

    let dir = dir();
    let path = dir.path().join("price.kek");
    Writer::options().create_typed::<Plain<Price>>(&path).unwrap().close().unwrap();
    let open = || Channel::open(&path).unwrap();
    let recorded =
        "`application/x-kekbit-plain` of `test.price.v1` (16:1 bid=f64@0 size=u32@8 symbol=text[4]@12)";
    let refused = open().typed::<Plain<Longer>>().unwrap_err();
    names_both(&refused, recorded, "`test.price.v1` (24:1)");
    names_both(&refused, path.to_str().unwrap(), "take the type that they were written with");
    names_both(&open().typed::<Plain<Other>>().unwrap_err(), recorded, "size=f32@8");
    names_both(
        &open().typed::<Plain<Native>>().unwrap_err(),
        recorded,
        "`test.native.v1` (16:8 a=u64@0 b=u32@8",
    );
    names_both(&open().typed::<Plain<Renamed>>().unwrap_err(), recorded, "`test.price.v2` (16:1)");
    let postcard = open().typed::<Postcard<Order>>().unwrap_err();
    names_both(&postcard, recorded, "`application/x-postcard` of `test.order.v1`");
    assert!(matches!(postcard, TypeError::Other { .. }));
    open().typed::<Plain<Same>>().unwrap();
    open().typed::<Plain<Silent>>().unwrap();
    open().typed::<Plain<Price>>().unwrap();
    // A reader of each kind, too.
    assert!(open().reader(Start::Beginning).unwrap().typed::<Plain<Longer>>().is_err());
    assert!(CopyingReader::open(&path).unwrap().typed::<Plain<Longer>>().is_err());

    let untyped = dir.path().join("untyped.kek");
    let writer = Writer::create(&untyped).unwrap();
    names_both(&writer.typed::<Plain<Price>>().unwrap_err(), "of no type", "`test.price.v1`");
    let refused = Channel::open(&untyped).unwrap().typed::<Plain<Price>>().unwrap_err();
    names_both(&refused, "of no type", "`test.price.v1`");
}

#[test]
fn a_typed_writer_is_made_of_one_that_was_created_for_the_type() {
    let dir = dir();
    let path = dir.path().join("made.kek");
    let writer = Writer::options().record_type::<Postcard<Order>>().create(&path).unwrap();
    let mut orders = writer.typed::<Postcard<Order>>().unwrap();
    orders.append(&Order::Cancel).unwrap();
    assert_eq!(orders.next_sequence(), 1);
    let writer = orders.into_inner();
    assert!(writer.typed::<Plain<Price>>().is_err());
    let channel = Channel::open(&path).unwrap();
    assert_eq!(channel.content_type(), Some("application/x-postcard"));
    assert_eq!(channel.schema(), Some("test.order.v1"));
    assert!(channel.metadata().record_layout().is_none());
}

#[test]
fn a_type_with_an_alignment_is_refused_where_the_stages_do_not_keep_it() {
    let dir = dir();
    let path = |name: &str| dir.path().join(name);
    let create =
        |len| Writer::options().stage(Front(len)).create_typed::<Plain<Native>>(path(&len.to_string()));
    assert!(matches!(create(4), Err(CreateError::Options(text)) if text.contains("multiple of 8")));
    assert!(!path("4").exists());
    create(8).unwrap().append(&Native { a: 1, b: 2, c: 3 }).unwrap();
    let replaced = Writer::options().stage(Inverted).create_typed::<Plain<Native>>(path("replaced"));
    assert!(matches!(replaced, Err(CreateError::Options(_))));
    // One that may begin anywhere may do so behind any stage.
    let odd = path("odd.kek");
    let mut writer = Writer::options().stage(Front(5)).create_typed::<Plain<Price>>(&odd).unwrap();
    writer.append(&price(1)).unwrap();
    writer.append_with(|value| *value = price(2)).unwrap();
    writer.close().unwrap();
    let channel = Channel::open(&odd).unwrap().typed::<Plain<Price>>().unwrap();
    let read: Vec<Price> = channel.records().map(|record| *record.unwrap().value).collect();
    assert_eq!(read, [1, 2].map(price));
    let mut copying = CopyingReader::open(&odd).unwrap().typed::<Plain<Price>>().unwrap();
    assert_eq!(*copying.try_next().unwrap().unwrap().value, price(1));
    assert_eq!(*copying.next(Wait::backoff()).unwrap().unwrap().value, price(2));
    let copying = CopyingReader::open(path("8")).unwrap().typed::<Plain<Native>>().unwrap_err();
    assert!(matches!(copying, TypeError::UnalignedCopy { align: 8, .. }));
    names_both(&copying, "a copying reader may put it anywhere", "take types of zerocopy::little_endian");
    assert!(!copying.to_string().contains("stages"), "{copying}");
}

#[test]
fn a_channel_in_which_no_value_fits_is_not_made() {
    let dir = dir();
    let options = |len| Writer::options().max_record_len(len).stage(Timestamp::nanos());
    let small = options(23).create_typed::<Plain<Price>>(dir.path().join("small"));
    assert!(
        matches!(small, Err(CreateError::Options(text)) if text.contains("24 bytes") && text.contains("is 23"))
    );
    let small =
        Journal::options().channels(options(23)).open_typed::<Plain<Price>>(dir.path().join("journal"));
    assert!(matches!(small, Err(JournalError::Options(_))));
    assert!(common::names_in(dir.path()).is_empty());
    options(24).create_typed::<Plain<Price>>(dir.path().join("fits")).unwrap().append(&price(1)).unwrap();
}

#[test]
fn a_record_that_is_no_value_is_an_error_behind_which_reading_goes_on() {
    let dir = dir();
    let path = dir.path().join("mixed.kek");
    let mut writer = Writer::options().create_typed::<Postcard<Order>>(&path).unwrap();
    writer.append(&Order::Cancel).unwrap();
    writer.inner_mut().append(&[9, 9, 9]).unwrap();
    // A value, and something behind it.
    writer.inner_mut().append(&[2, 0]).unwrap();
    writer.append(&Order::Amend(1, None)).unwrap();
    writer.close().unwrap();
    let channel = Channel::open(&path).unwrap().typed::<Postcard<Order>>().unwrap();
    let read: Vec<_> = channel
        .records()
        .map(|record| record.map(|record| record.value).map_err(|e| e.to_string()))
        .collect();
    assert_eq!(read.len(), 4);
    assert_eq!((&read[0], &read[3]), (&Ok(Order::Cancel), &Ok(Order::Amend(1, None))));
    assert!(read[1].as_ref().is_err_and(|text| text.starts_with("record 1 is no value of its type: ")));
    assert_eq!(read[2], Err("record 2 is no value of its type: 1 bytes are left over".into()));
    let mut reader = channel.reader(Start::Sequence(1)).unwrap();
    assert!(matches!(reader.try_next(), Err(TypedError::Value(error)) if error.sequence == 1));
    assert!(matches!(reader.next(patience()), Err(TypedError::Value(error)) if error.sequence == 2));
    assert_eq!(reader.try_next().unwrap().unwrap().value, Order::Amend(1, None));
    assert_eq!(reader.try_previous().unwrap().unwrap().value, Order::Amend(1, None));
    assert!(matches!(reader.try_previous(), Err(TypedError::Value(error)) if error.sequence == 2));
}

/// A codec that refuses odd numbers, after it has filled its scratch.
struct Even;

impl Codec for Even {
    type Value = u32;
    type View<'p> = u32;
    const CONTENT_TYPE: &'static str = "application/x-even";

    fn name() -> String {
        "even".into()
    }

    fn encode<'v>(value: &'v u32, scratch: &'v mut Vec<u8>) -> Result<&'v [u8], EncodeError> {
        scratch.clear();
        scratch.extend_from_slice(&value.to_le_bytes());
        match value % 3 {
            0 => Ok(scratch),
            1 => Err(format!("{value} is odd").into()),
            _ => panic!("{value} is too odd"),
        }
    }

    fn decode(payload: &[u8]) -> Result<u32, EncodeError> {
        Ok(u32::from_le_bytes(payload.try_into()?))
    }
}

#[test]
fn an_encoder_that_fails_or_panics_leaves_no_trace() {
    let dir = dir();
    let path = dir.path().join("even.kek");
    let mut writer = Writer::options().create_typed::<Even>(&path).unwrap();
    writer.append(&0).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(writer.append(&1), Err(AppendError::Encode(error)) if error.to_string() == "1 is odd"));
    assert!(catch_unwind(AssertUnwindSafe(|| writer.append(&2))).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let mut batch = writer.batch();
    batch.push(&3).unwrap();
    assert!(matches!(batch.push(&4), Err(AppendError::Encode(_))));
    assert!(catch_unwind(AssertUnwindSafe(|| batch.push(&5))).is_err());
    batch.push(&6).unwrap();
    assert_eq!(batch.len(), 2);
    batch.commit().unwrap();
    let mut shared = writer.share();
    assert!(shared.append(&7).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| shared.append(&8))).is_err());
    shared.append_wait(&9, patience()).unwrap();
    shared.into_inner().close().unwrap();
    let channel = Channel::open(&path).unwrap().typed::<Even>().unwrap();
    let read: Vec<u32> = channel.records().map(|record| record.unwrap().value).collect();
    assert_eq!(read, [0, 3, 6, 9]);
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![
        (".{0,20}", proptest::collection::vec(any::<u32>(), 0..20))
            .prop_map(|(symbol, lots)| Order::Buy { symbol, lots }),
        (any::<u64>(), proptest::option::of(-1e9..1e9)).prop_map(|(id, price)| Order::Amend(id, price)),
        Just(Order::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_values_come_out_as_they_went_in(
        orders in proptest::collection::vec(orders(), 0..50),
        natives in proptest::collection::vec(any::<(u64, u32, i32)>(), 0..50),
        timestamps in any::<bool>(),
    ) {
        let dir = dir();
        let (a, b) = (dir.path().join("orders.kek"), dir.path().join("natives.kek"));
        let native = |(a, b, c): &(u64, u32, i32)| Native { a: *a, b: *b, c: *c };
        macro_rules! write {
            ($options:expr) => {{
                let mut writer = $options.create_typed::<Postcard<Order>>(&a).unwrap();
                let live = Channel::open(&a).unwrap().typed::<Postcard<Order>>().unwrap();
                let mut live = live.reader(Start::Beginning).unwrap();
                for order in &orders {
                    writer.append(order).unwrap();
                    prop_assert_eq!(&live.try_next().unwrap().unwrap().value, order);
                }
                prop_assert!(live.try_next().unwrap().is_none());
                writer.close().unwrap();
                let mut writer = $options.create_typed::<Plain<Native>>(&b).unwrap();
                for values in &natives {
                    writer.append(&native(values)).unwrap();
                }
                writer.close().unwrap();
            }};
        }
        let options = || Writer::options().capacity(1 << 20);
        if timestamps { write!(options().stage(Timestamp::nanos())) } else { write!(options()) }
        let channel = Channel::open(&a).unwrap().typed::<Postcard<Order>>().unwrap();
        let read: Vec<Order> = channel.records().map(|record| record.unwrap().value).collect();
        prop_assert_eq!(read, orders);
        let channel = Channel::open(&b).unwrap().typed::<Plain<Native>>().unwrap();
        let read: Vec<Native> = channel.records().map(|record| *record.unwrap().value).collect();
        prop_assert_eq!(read, natives.iter().map(native).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = <Postcard<Order> as Codec>::decode(&bytes);
        let plain = <Plain<Price> as Codec>::decode(&bytes);
        prop_assert_eq!(plain.is_ok(), bytes.len() == 16);
    }
}
