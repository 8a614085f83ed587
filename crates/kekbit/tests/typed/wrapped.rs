//! What a typed writer, channel, reader or cursor does as the one that it was made of does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kekbit::typed::{Plain, Postcard, TypedError};
use kekbit::{
    Channel, CopyingReader, CorrelationId, CreateError, Durability, Journal, Lz4, ReadError, Start,
    Timestamp, Wait, Writer,
};

use crate::common::{dir, patience, wait_until};
use crate::{Inverted, Native, Order, Price, price};

fn order(number: u64) -> Order {
    Order::Buy { symbol: "ABC".repeat(40), lots: vec![number as u32; 10] }
}

#[test]
fn a_channel_is_read_backwards_and_from_anywhere() {
    let dir = dir();
    let path = dir.path().join("prices.kek");
    let mut writer = Writer::options().create_typed::<Plain<Price>>(&path).unwrap();
    for number in 0..5 {
        writer.append(&price(number)).unwrap();
    }
    writer.inner_mut().append(b"no price").unwrap();
    let channel = Channel::open(&path).unwrap().typed::<Plain<Price>>().unwrap();
    let mut back = channel.records_back();
    assert!(matches!(back.next(), Some(Err(TypedError::Value(error))) if error.sequence == 5));
    let read: Vec<Price> = back.map(|record| *record.unwrap().value).collect();
    assert_eq!(read, [4, 3, 2, 1, 0].map(price));
    let read = channel.records_back_from(Start::Sequence(2)).unwrap();
    let read: Vec<Price> = read.map(|record| *record.unwrap().value).collect();
    assert_eq!(read, [1, 0].map(price));
    // A record that outlives everything it came from.
    let mut reader = channel.reader(Start::Sequence(3)).unwrap();
    let record = reader.try_next().unwrap().unwrap().to_shared();
    drop((reader, channel));
    assert_eq!((*record.value().unwrap(), record.record().unwrap().sequence()), (price(3), 3));
    assert_eq!(&record.clone().into_shared()[..8], 3_f64.to_le_bytes());
}

#[test]
fn records_of_a_compressed_channel_travel_with_their_values() {
    let dir = dir();
    let path = dir.path().join("orders.kek");
    let options = Writer::options().stage(Timestamp::nanos()).stage(Lz4::new());
    let mut writer = options.create_typed::<Postcard<Order>>(&path).unwrap();
    for number in 0..5 {
        writer.append(&order(number)).unwrap();
    }
    writer.inner_mut().append(&[9, 9, 9]).unwrap();
    let channel = Channel::open(&path).unwrap().typed::<Postcard<Order>>().unwrap();
    // Nothing can be lent of it.
    for refused in [channel.records().next(), channel.records_back().next()] {
        assert!(matches!(refused, Some(Err(TypedError::Read(ReadError::Encoded { .. })))));
    }
    let mut records = channel.shared_records();
    let all: Vec<_> = records.by_ref().collect::<Result<_, _>>().unwrap();
    assert!(records.end().is_none());
    writer.close().unwrap();
    assert!(records.next().is_none() && records.end().is_some());
    let from: Vec<_> = channel.shared_records_from(Start::Sequence(3)).unwrap().map(Result::unwrap).collect();
    let back: Vec<_> = channel.shared_records_back().map(Result::unwrap).collect();
    let before = channel.shared_records_back_from(Start::Sequence(2)).unwrap();
    let before: Vec<_> = before.map(Result::unwrap).collect();
    drop((records, channel));
    let told = std::thread::spawn(move || {
        let numbers = |records: Vec<kekbit::typed::TypedSharedRecord<Postcard<Order>>>| {
            let number = |record: &kekbit::typed::TypedSharedRecord<Postcard<Order>>| match record.value() {
                Ok(Order::Buy { lots, .. }) => u64::from(lots[0]),
                Ok(other) => panic!("{other:?}"),
                Err(error) => 100 + error.sequence,
            };
            records.iter().map(number).collect::<Vec<_>>()
        };
        [all, from, back, before].map(numbers)
    });
    let expected: [&[u64]; 4] = [&[0, 1, 2, 3, 4, 105], &[3, 4, 105], &[105, 4, 3, 2, 1, 0], &[1, 0]];
    assert_eq!(told.join().unwrap(), expected);
}

#[test]
fn writers_and_journals_sync_give_signs_of_life_and_roll() {
    let dir = dir();
    let path = dir.path().join("prices.kek");
    let mut writer = Writer::options().create_typed::<Plain<Price>>(&path).unwrap();
    let channel = Channel::open(&path).unwrap();
    writer.append(&price(0)).unwrap();
    assert!(channel.synced_tail() < writer.tail());
    writer.sync().unwrap();
    assert_eq!(channel.synced_tail(), writer.tail());
    let before = channel.heartbeat_nanos();
    wait_until("a later sign of life", || {
        writer.heartbeat();
        channel.heartbeat_nanos() > before
    });

    let path = dir.path().join("journal");
    let options = Journal::options().durability(Durability::Never);
    let mut journal = options.open_typed::<Plain<Price>>(&path).unwrap();
    journal.append(&price(0)).unwrap();
    let channel = Channel::open(&Journal::channels(&path).unwrap()[0]).unwrap();
    let before = (channel.synced_tail(), channel.heartbeat_nanos());
    journal.sync().unwrap();
    assert!(channel.synced_tail() > before.0);
    wait_until("a later sign of life", || {
        journal.heartbeat();
        channel.heartbeat_nanos() > before.1
    });
    journal.roll().unwrap();
    journal.append(&price(1)).unwrap();
    assert_eq!(Journal::channels(&path).unwrap().len(), 2);
}

#[test]
fn a_batch_is_filled_in_place() {
    let dir = dir();
    let path = dir.path().join("batch.kek");
    let native = |a: u64| Native { a, b: 1, c: -1 };
    let options = Writer::options().stage(Timestamp::nanos());
    let mut writer = options.create_typed::<Plain<Native>>(&path).unwrap();
    let mut places = Vec::new();
    let mut batch = writer.batch();
    for number in 0..3 {
        let fill = |value: &mut Native| {
            places.push(std::ptr::from_mut(value).addr());
            *value = native(number);
        };
        batch.push_with(fill).unwrap();
    }
    assert!(catch_unwind(AssertUnwindSafe(|| batch.push_with(|_| panic!("no value")))).is_err());
    batch.push(&native(3)).unwrap();
    assert_eq!(batch.len(), 4);
    batch.commit().unwrap();
    // A word, a timestamp and 16 bytes, one behind the other, in the writer's mapping.
    assert_eq!(places, [places[0], places[0] + 32, places[0] + 64]);
    let channel = Channel::open(&path).unwrap().typed::<Plain<Native>>().unwrap();
    let read: Vec<Native> = channel.records().map(|record| *record.unwrap().value).collect();
    assert_eq!(read, [0, 1, 2, 3].map(native));
    assert!(channel.records().all(|record| record.unwrap().timestamp_nanos().is_some_and(|time| time > 0)));

    let path = dir.path().join("inverted.kek");
    let mut writer = Writer::options().stage(Inverted).create_typed::<Plain<Price>>(&path).unwrap();
    let mut batch = writer.batch();
    batch.push_with(|value| *value = price(7)).unwrap();
    batch.push(&price(7)).unwrap();
    batch.commit().unwrap();
    let channel = Channel::options().stored(true).open(&path).unwrap();
    let stored: Vec<_> = channel.records().map(|record| record.unwrap().stored().to_vec()).collect();
    assert_eq!((stored.len(), &stored[0]), (2, &stored[1]));
    assert_eq!(stored[0][12..], b"AAPL".map(|byte| !byte));
}

#[test]
fn values_of_threads_carry_the_numbers_that_were_set_for_them() {
    const EACH: u64 = 500;
    let dir = dir();
    let path = dir.path().join("shared.kek");
    let correlation = CorrelationId::new();
    let options = Writer::options().capacity(1 << 20).stage(correlation.clone());
    let writer = options.create_typed::<Plain<Native>>(&path).unwrap().share();
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let (mut writer, correlation) = (writer.clone(), correlation.clone());
            scope.spawn(move || {
                for number in 0..EACH {
                    let id = thread * EACH + number;
                    let value = Native { a: id, b: 0, c: 0 };
                    let appended = writer.with(patience(), |writer| {
                        correlation.set(id);
                        writer.append(&value)?;
                        let sequence = writer.writer().next_sequence();
                        let mut batch = writer.batch();
                        batch.push(&value)?;
                        batch.commit().map(|appended| appended.sequence == sequence)
                    });
                    assert!(appended.unwrap().unwrap(), "nobody comes in between");
                }
            });
        }
    });
    writer.close().unwrap();
    let channel = Channel::open(&path).unwrap().typed::<Plain<Native>>().unwrap();
    let mut count = 0;
    for record in channel.records() {
        let record = record.unwrap();
        assert_eq!(record.correlation_id(), Some(record.value.a));
        count += 1;
    }
    assert_eq!(count, 4 * 2 * EACH);
}

#[test]
fn a_copying_reader_and_a_cursor_go_back_and_to_other_places() {
    let dir = dir();
    let path = dir.path().join("prices.kek");
    let mut writer = Writer::options().create_typed::<Plain<Price>>(&path).unwrap();
    for number in 0..3 {
        writer.append(&price(number)).unwrap();
    }
    let mut copying = CopyingReader::open(&path).unwrap().typed::<Plain<Price>>().unwrap();
    copying.seek(Start::Sequence(2)).unwrap();
    assert_eq!(*copying.try_previous().unwrap().unwrap().value, price(1));
    assert_eq!(*copying.next(Wait::backoff()).unwrap().unwrap().value, price(1));
    writer.inner_mut().append(b"no price").unwrap();
    copying.seek(Start::Sequence(4)).unwrap();
    assert!(matches!(copying.try_previous(), Err(TypedError::Value(error)) if error.sequence == 3));
    assert_eq!(*copying.try_previous().unwrap().unwrap().value, price(2));

    let path = dir.path().join("journal");
    let mut journal = Journal::options().open_typed::<Plain<Price>>(&path).unwrap();
    for number in 0..5 {
        journal.append(&price(number)).unwrap();
    }
    let cursor = || Journal::reader(&path).unwrap().cursor("done").unwrap().typed::<Plain<Price>>();
    let mut first = cursor();
    for number in 0..3 {
        assert_eq!(*first.try_next().unwrap().unwrap().value, price(number));
    }
    first.commit_to(2);
    assert_eq!(first.committed(), 2);
    drop(first);
    let mut second = cursor();
    assert_eq!(*second.try_next().unwrap().unwrap().value, price(2));
    second.seek(Start::Last(1)).unwrap();
    assert_eq!(*second.try_next().unwrap().unwrap().value, price(4));
    assert_eq!(second.skip_to_oldest().unwrap(), 0);
    assert_eq!(*second.try_next().unwrap().unwrap().value, price(0));
    assert_eq!(second.committed(), 2);
}

#[test]
fn a_typed_channel_may_be_named_after_its_id() {
    let dir = dir();
    let root = dir.path().join("channels");
    let options = || Writer::options().channel_id(42);
    let refused = options().stage(Inverted).create_typed_in::<Plain<Native>>(&root);
    assert!(matches!(refused, Err(CreateError::Options(_))));
    assert!(!root.exists());
    let mut writer = options().create_typed_in::<Plain<Price>>(&root).unwrap();
    writer.append(&price(1)).unwrap();
    let channel = Channel::open_in(&root, 42).unwrap().typed::<Plain<Price>>().unwrap();
    assert_eq!(*channel.records().next().unwrap().unwrap().value, price(1));
}
