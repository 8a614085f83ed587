//! Stages: whatever chain a record goes through, what went in comes out, live and afterwards; and a stage or an
//! encoder that fails leaves no trace.

mod common;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{bytes, payloads};
use kekbit::{
    AppendContext, AppendError, Chain, Channel, Checksum, DecodeError, Decoder, Encode, EncodeError, End,
    Handler, Journal, OpenError, Roll, SequenceStamp, StageError, StageInfo, Start, TickUnit, Timestamp,
    Verify, Writer, WriterOptions,
};
use proptest::prelude::*;

/// A stage of any kind, chosen at run time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Any {
    Timestamp(TickUnit),
    Sequence,
    /// So many bytes in front: the sum of what is behind, again and again.
    Before(u8),
    /// So many bytes behind.
    After(u8),
    /// As many in front as behind.
    Around(u8),
    /// Writes each byte twice.
    Double,
    /// Turns the bytes around, and puts one in front and two behind.
    Reverse,
}

fn sum(body: &[u8]) -> u8 {
    body.iter().fold(body.len() as u8, |sum, byte| sum.rotate_left(1) ^ byte)
}

impl Handler for Any {
    fn describe(&self) -> StageInfo {
        let (id, prefix_len, suffix_len) = match *self {
            Any::Timestamp(unit) => return Timestamp::new(unit).describe(),
            Any::Sequence => return SequenceStamp.describe(),
            Any::Before(n) => (1, n, 0),
            Any::After(n) => (2, 0, n),
            Any::Around(n) => (3, n, n),
            Any::Double => (4, 0, 0),
            Any::Reverse => (5, 1, 2),
        };
        StageInfo {
            id: id | 1 << 16,
            version: 9,
            prefix_len: prefix_len.into(),
            suffix_len: suffix_len.into(),
            replaces: matches!(self, Any::Double | Any::Reverse),
            name: format!("{self:?}"),
            params: vec![prefix_len, suffix_len],
        }
    }

    fn before(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        prefix: &mut [u8],
    ) -> Result<(), StageError> {
        match self {
            Any::Timestamp(unit) => Timestamp::new(*unit).before(cx, body, prefix),
            Any::Sequence => SequenceStamp.before(cx, body, prefix),
            _ => {
                prefix.fill(sum(body));
                Ok(())
            }
        }
    }

    fn after(&mut self, _: &mut AppendContext<'_>, body: &[u8], suffix: &mut [u8]) -> Result<(), StageError> {
        suffix.fill(!sum(body));
        Ok(())
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        match self {
            Any::Double => out.extend(body.iter().flat_map(|byte| [*byte, *byte])),
            _ => out.extend(body.iter().rev()),
        }
        Ok(())
    }

    fn check(&self, prefix: &[u8], body: &[u8], suffix: &[u8]) -> Result<(), StageError> {
        let stamped = matches!(self, Any::Timestamp(_) | Any::Sequence);
        let sound = (stamped || prefix.iter().all(|byte| *byte == sum(body)))
            && suffix.iter().all(|byte| *byte == !sum(body));
        if sound { Ok(()) } else { Err(format!("{self:?}: the sum is wrong").into()) }
    }

    fn undo(&self, prefix: &[u8], body: &[u8], suffix: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        let info = self.describe();
        assert_eq!((prefix.len(), suffix.len()), (info.prefix_len as usize, info.suffix_len as usize));
        match self {
            Any::Double => out.extend(body.iter().step_by(2)),
            _ => out.extend(body.iter().rev()),
        }
        Ok(())
    }
}

fn any_stage() -> impl Strategy<Value = Any> {
    let unit =
        prop::sample::select(vec![TickUnit::Nanos, TickUnit::Micros, TickUnit::Millis, TickUnit::Secs]);
    prop_oneof![
        unit.prop_map(Any::Timestamp),
        Just(Any::Sequence),
        (0_u8..20).prop_map(Any::Before),
        (0_u8..20).prop_map(Any::After),
        (0_u8..20).prop_map(Any::Around),
        Just(Any::Double),
        Just(Any::Reverse),
    ]
}

/// Writes `lens` through the chain of `options`, in all ways in turn, and reads them back by `decoder`.
fn round_trip<C: Chain, D: Chain>(
    options: WriterOptions<C>,
    decoder: impl Fn(&Channel) -> Decoder<D>,
    stages: &[Any],
    lens: &[usize],
) {
    let dir = common::dir();
    let path = dir.path().join("staged.kek");
    let mut writer = options.create(&path).unwrap();
    let channel = Channel::options().stored(true).open(&path).unwrap();
    let described: Vec<_> = stages.iter().map(Handler::describe).collect();
    assert_eq!(channel.stages(), described, "the header records the stages");
    let mut live = channel.reader(Start::Beginning).unwrap();
    let mut undo = decoder(&channel);
    let mut expected = Vec::new();
    for (i, len) in lens.iter().enumerate() {
        let payload = bytes(i as u64, *len);
        match i % 4 {
            0 => writer.append(&payload).unwrap(),
            1 => writer.append_encoded(&payload).unwrap(),
            2 => {
                let mut claim = writer.claim(len + 10).unwrap();
                claim[..*len].copy_from_slice(&payload);
                claim.commit(*len).unwrap()
            }
            _ => {
                let mut batch = writer.batch();
                batch.push(b"companion").unwrap();
                batch.push(&payload).unwrap();
                expected.push(b"companion".to_vec());
                batch.commit().unwrap()
            }
        };
        expected.push(payload);
        while let Some(record) = live.try_next().unwrap() {
            let decoded = undo.decode(&record).unwrap();
            assert_eq!(decoded.payload, expected[record.sequence() as usize]);
            assert_eq!(decoded.fields.len(), stages.len());
        }
        assert_eq!(live.sequence(), expected.len() as u64);
    }
    writer.close().unwrap();
    assert!(live.try_next().unwrap().is_none() && live.end() == Some(End::Closed));

    let channel = Channel::options().stored(true).open(&path).unwrap();
    let mut undo = decoder(&channel);
    let mut count = 0;
    let mut times = Vec::new();
    for record in channel.records() {
        let record = record.unwrap();
        let decoded = undo.decode(&record).unwrap();
        assert_eq!(decoded.payload, expected[count]);
        for (stage, field) in stages.iter().zip(&decoded.fields) {
            let info = stage.describe();
            assert_eq!(
                (field.prefix.len(), field.suffix.len()),
                (info.prefix_len as usize, info.suffix_len as usize)
            );
            if *stage == Any::Sequence {
                assert_eq!(field.prefix, (count as u64).to_le_bytes());
            }
        }
        times.extend(record.timestamp_nanos());
        if let Some(stamp) = record.sequence_stamp() {
            assert_eq!(stamp, count as u64);
        }
        count += 1;
    }
    assert_eq!(count, expected.len());
    assert!(times.is_sorted());
    // What no stage stands in place of is found by any reader.
    if described.iter().any(|stage| stage.replaces) {
        assert!(matches!(Channel::open(&path), Err(OpenError::Encoded { .. })));
    } else {
        assert_eq!(payloads(&Channel::open(&path).unwrap()), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn what_goes_through_any_chain_of_up_to_five_stages_comes_out(
        stages in prop::collection::vec(any_stage(), 1..=5),
        lens in prop::collection::vec(prop_oneof![0..20_usize, 200..300_usize, 0..3000_usize], 1..12),
    ) {
        let options = Writer::options().capacity(4 << 20).max_record_len(200_000);
        let (s, l) = (&stages[..], &lens[..]);
        macro_rules! chain {
            ($($stage:ident)*) => {
                round_trip(
                    options$(.stage($stage))*,
                    |channel| Decoder::new(channel)$(.stage($stage))*.build().unwrap(),
                    s,
                    l,
                )
            };
        }
        match *s {
            [a] => chain!(a),
            [a, b] => chain!(a b),
            [a, b, c] => chain!(a b c),
            [a, b, c, d] => chain!(a b c d),
            [a, b, c, d, e] => chain!(a b c d e),
            _ => unreachable!(),
        }
    }
}

#[test]
fn timestamps_lie_between_the_clock_before_and_after_in_every_unit() {
    for unit in [TickUnit::Nanos, TickUnit::Micros, TickUnit::Millis, TickUnit::Secs] {
        let dir = common::dir();
        let path = dir.path().join("stamped.kek");
        let mut writer = Writer::options().stage(Timestamp::new(unit)).create(&path).unwrap();
        let before = std::time::SystemTime::now();
        writer.append(b"now").unwrap();
        let after = std::time::SystemTime::now();
        let channel = Channel::open(&path).unwrap();
        let record = channel.records().next().unwrap().unwrap();
        let tick = std::time::Duration::from_nanos(unit.nanos());
        let stamp = record.timestamp().unwrap();
        assert!(before < stamp + tick && stamp <= after);
        assert_eq!(record.timestamp_nanos().unwrap() % unit.nanos(), 0);
        assert_eq!(record.sequence_stamp(), None);
    }
}

#[test]
fn a_decoder_with_other_stages_is_refused() {
    let dir = common::dir();
    let path = dir.path().join("staged.kek");
    Writer::options().stage(Any::Sequence).stage(Any::Double).create(&path).unwrap().close().unwrap();
    match Channel::open(&path) {
        Err(OpenError::Encoded { stage, id, .. }) => {
            assert_eq!((stage.as_str(), id), ("Double", 4 | 1 << 16))
        }
        other => panic!("{other:?}"),
    }
    let channel = Channel::options().stored(true).open(&path).unwrap();
    let other = |result| matches!(result, Err(DecodeError::OtherStages { .. }));
    assert!(other(Decoder::new(&channel).build().map(drop)));
    assert!(other(Decoder::new(&channel).stage(Any::Sequence).build().map(drop)));
    assert!(other(Decoder::new(&channel).stage(Any::Double).stage(Any::Sequence).build().map(drop)));
    assert!(other(Decoder::new(&channel).stage(Any::Sequence).stage(Any::Reverse).build().map(drop)));
    assert!(Decoder::new(&channel).stage(Any::Sequence).stage(Any::Double).build().is_ok());
}

/// What the next record meets at a [`Trap`].
const PASSES: u8 = 0;
const FAILS: u8 = 1;
const PANICS: u8 = 2;

/// A stage that does what it is told, and counts what has been published.
#[derive(Clone, Debug)]
struct Trap {
    replaces: bool,
    mode: Arc<AtomicU8>,
    published: Arc<AtomicU64>,
}

impl Trap {
    fn new(replaces: bool) -> Trap {
        Trap { replaces, mode: Arc::default(), published: Arc::default() }
    }

    fn spring(&self) -> Result<(), StageError> {
        match self.mode.load(Ordering::Relaxed) {
            FAILS => Err("refused on purpose".into()),
            PANICS => panic!("on purpose"),
            _ => Ok(()),
        }
    }
}

impl Handler for Trap {
    fn describe(&self) -> StageInfo {
        let suffix_len = if self.replaces { 0 } else { 4 };
        StageInfo {
            id: 1 << 17,
            version: 1,
            suffix_len,
            replaces: self.replaces,
            name: "trap".into(),
            ..StageInfo::default()
        }
    }

    fn after(&mut self, _: &mut AppendContext<'_>, _: &[u8], suffix: &mut [u8]) -> Result<(), StageError> {
        suffix.fill(0xEE);
        if self.replaces { Ok(()) } else { self.spring() }
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        // Half of it, before anything goes wrong.
        let (half, rest) = body.split_at(body.len() / 2);
        out.extend_from_slice(half);
        self.spring()?;
        out.extend_from_slice(rest);
        Ok(())
    }

    fn published(&mut self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }
}

/// A way to append some bytes.
type Way<C> = fn(&mut Writer<C>, &[u8]) -> Result<(), AppendError>;

fn ways<C: Chain>() -> [Way<C>; 5] {
    [
        |writer, payload| writer.append(payload).map(drop),
        |writer, payload| writer.append_encoded(payload).map(drop),
        |writer, payload| {
            writer
                .append_with(payload.len(), |space| <[u8] as Encode>::encode(payload, space).unwrap())
                .map(drop)
        },
        |writer, payload| {
            let mut claim = writer.claim(payload.len())?;
            claim.copy_from_slice(payload);
            claim.commit(payload.len()).map(drop)
        },
        |writer, payload| {
            let mut batch = writer.batch();
            batch.push(payload)?;
            batch.commit().map(drop)
        },
    ]
}

fn check_a_trap<C: Chain>(options: WriterOptions<C>, trap: &Trap) {
    let dir = common::dir();
    let path = dir.path().join("trapped.kek");
    let mut writer = options.create(&path).unwrap();
    let channel = Channel::options().stored(true).open(&path).unwrap();
    let mut expected = Vec::new();
    for len in [0_usize, 1, 8, 200, 256, 1000] {
        for way in ways() {
            for mode in [PASSES, FAILS, PANICS, PASSES] {
                trap.mode.store(mode, Ordering::Relaxed);
                let payload = bytes(expected.len() as u64, len);
                let before = (writer.tail(), writer.next_sequence());
                let result = catch_unwind(AssertUnwindSafe(|| way(&mut writer, &payload)));
                match mode {
                    PASSES => {
                        result.unwrap().unwrap();
                        let suffix = if trap.replaces { &[][..] } else { &[0xEE; 4] };
                        expected.push([&payload[..], suffix].concat());
                    }
                    FAILS => assert!(matches!(result.unwrap(), Err(AppendError::Stage(_)))),
                    _ => assert!(result.is_err()),
                }
                if mode != PASSES {
                    assert_eq!((writer.tail(), writer.next_sequence()), before);
                }
                assert_eq!(trap.published.load(Ordering::Relaxed), expected.len() as u64);
                assert_eq!(channel.records().count(), expected.len());
            }
        }
    }
    writer.close().unwrap();
    let stored: Vec<_> = channel.records().map(|record| record.unwrap().stored()[8..].to_vec()).collect();
    assert_eq!(stored, expected);
    assert_eq!(channel.verify(|_| ()).unwrap().sequence, expected.len() as u64);
}

#[test]
fn a_stage_that_fails_or_panics_leaves_no_trace() {
    for replaces in [false, true] {
        let trap = Trap::new(replaces);
        let options = Writer::options().capacity(1 << 20).max_record_len(2000);
        check_a_trap(options.stage(SequenceStamp).stage(trap.clone()), &trap);
    }
}

#[test]
fn a_refused_record_of_a_batch_leaves_the_others() {
    for replaces in [false, true] {
        let dir = common::dir();
        let path = dir.path().join("batch.kek");
        let trap = Trap::new(replaces);
        let mut writer = Writer::options().stage(SequenceStamp).stage(trap.clone()).create(&path).unwrap();
        let mut batch = writer.batch();
        for i in 0..30_u8 {
            let mode = i % 3;
            trap.mode.store(mode, Ordering::Relaxed);
            let pushed = catch_unwind(AssertUnwindSafe(|| batch.push(&[i; 100])));
            assert_eq!(matches!(pushed, Ok(Ok(()))), mode == PASSES);
        }
        assert_eq!(batch.len(), 10);
        batch.commit().unwrap();
        assert_eq!(trap.published.load(Ordering::Relaxed), 10);
        let channel = Channel::options().stored(true).open(&path).unwrap();
        for (i, record) in channel.records().enumerate() {
            let record = record.unwrap();
            assert_eq!(record.sequence_stamp(), Some(i as u64), "no sequence is used up by a refusal");
            assert_eq!(record.stored()[8..108], [3 * i as u8; 100]);
        }
        assert_eq!(channel.records().count(), 10);
    }
}

/// Encodes itself in one of several wrong ways, after it has scribbled over all of its space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Fails,
    Panics,
    SaysTooMuch,
    SaysTheMost,
}

impl Encode for Wrong {
    fn max_len(&self) -> usize {
        300
    }

    fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
        space.fill(0x99);
        match self {
            Wrong::Fails => Err("refused on purpose".into()),
            Wrong::Panics => panic!("on purpose"),
            Wrong::SaysTooMuch => Ok(301),
            Wrong::SaysTheMost => Ok(usize::MAX),
        }
    }
}

fn check_wrong_encoders<C: Chain>(options: WriterOptions<C>) {
    let dir = common::dir();
    let path = dir.path().join("encoded.kek");
    let mut writer = options.create(&path).unwrap();
    let mut expected = Vec::new();
    for i in 0..20 {
        for wrong in [Wrong::Fails, Wrong::Panics, Wrong::SaysTooMuch, Wrong::SaysTheMost] {
            let before = (writer.tail(), writer.next_sequence());
            let result = catch_unwind(AssertUnwindSafe(|| writer.append_encoded(&wrong)));
            match wrong {
                Wrong::Fails => assert!(matches!(result.unwrap(), Err(AppendError::Encode(_)))),
                Wrong::Panics => assert!(result.is_err()),
                _ => assert!(matches!(result.unwrap(), Err(AppendError::BeyondClaim { claimed: 300, .. }))),
            }
            assert_eq!((writer.tail(), writer.next_sequence()), before);
        }
        let payload = bytes(i, i as usize);
        writer.append_encoded(&payload).unwrap();
        expected.push(payload);
    }
    writer.close().unwrap();
    let channel = Channel::options().stored(true).open(&path).unwrap();
    assert_eq!(channel.verify(|_| ()).unwrap().sequence, 20);
    for (record, payload) in channel.records().zip(&expected) {
        assert!(record.unwrap().stored().ends_with(payload));
    }
}

#[test]
fn an_encoder_that_fails_panics_or_says_too_much_leaves_no_trace() {
    let options = || Writer::options().capacity(1 << 16).max_record_len(1000);
    check_wrong_encoders(options());
    check_wrong_encoders(options().stage(Timestamp::nanos()));
    check_wrong_encoders(options().stage(Timestamp::nanos()).stage(Trap::new(true)));
}

#[test]
fn what_a_stage_makes_too_long_is_refused_with_its_length() {
    let dir = common::dir();
    let options = || Writer::options().capacity(4096).max_record_len(100);
    let mut writer = options().stage(Any::Double).create(dir.path().join("double.kek")).unwrap();
    assert!(matches!(writer.append(&[1; 51]), Err(AppendError::TooLong { len: 102, limit: 100 })));
    writer.append(&[1; 50]).unwrap();
    let mut writer = options().stage(Any::Around(8)).create(dir.path().join("around.kek")).unwrap();
    assert!(matches!(writer.append(&[1; 85]), Err(AppendError::TooLong { len: 101, limit: 100 })));
    writer.append(&[1; 84]).unwrap();
    assert!(matches!(writer.claim(85), Err(AppendError::TooLong { len: 101, .. })));
}

#[test]
fn a_decoder_finds_what_the_stage_finds_wrong() {
    let dir = common::dir();
    let path = dir.path().join("wrong.kek");
    // Written by a stage that looks the same in the header, but sums otherwise.
    let mut writer = Writer::options().stage(Trap::new(false)).create(&path).unwrap();
    writer.append(b"abc").unwrap();
    let channel = Channel::open(&path).unwrap();
    struct Strict;
    impl Handler for Strict {
        fn describe(&self) -> StageInfo {
            Trap::new(false).describe()
        }
        fn check(&self, _: &[u8], _: &[u8], suffix: &[u8]) -> Result<(), StageError> {
            if suffix == [0; 4] { Ok(()) } else { Err("not zero".into()) }
        }
    }
    let mut decoder = Decoder::new(&channel).stage(Strict).build().unwrap();
    let record = channel.records().next().unwrap().unwrap();
    assert!(
        matches!(decoder.decode(&record), Err(DecodeError::Stage(error)) if error.to_string() == "not zero")
    );
}

/// Without its feature, and only then.
#[cfg(not(feature = "lz4"))]
#[test]
fn a_stage_of_a_feature_that_was_left_out_is_refused_with_its_name() {
    struct Compressing;
    impl Handler for Compressing {
        fn describe(&self) -> StageInfo {
            StageInfo {
                id: 4,
                version: 1,
                prefix_len: 4,
                replaces: true,
                name: "lz4".into(),
                ..StageInfo::default()
            }
        }
    }
    let dir = common::dir();
    let path = dir.path().join("compressed.kek");
    let mut writer = Writer::options().stage(Compressing).create(&path).unwrap();
    writer.append(b"as it is").unwrap();
    let error = Channel::open(&path).unwrap_err();
    assert!(matches!(&error, OpenError::Encoded { stage, id: 4, .. } if stage == "lz4"));
    assert!(error.to_string().contains("build kekbit with its feature `lz4`"), "{error}");
    let channel = Channel::options().stored(true).open(&path).unwrap();
    assert_eq!(&channel.records().next().unwrap().unwrap()[..], b"\0\0\0\0as it is");
}

/// `N` words in front of the payload, which it says it does not look at: what it was given, and how many records were
/// published before. Refuses, or panics at, the records of these numbers.
struct Blind<const N: usize> {
    bodies: Arc<Mutex<Vec<usize>>>,
    published: u64,
    refuses: Range<u64>,
    panics: Range<u64>,
    calls: u64,
}

impl<const N: usize> Blind<N> {
    fn new(bodies: &Arc<Mutex<Vec<usize>>>) -> Blind<N> {
        Blind { bodies: Arc::clone(bodies), published: 0, refuses: 0..0, panics: 0..0, calls: 0 }
    }
}

impl<const N: usize> Handler for Blind<N> {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: 1 << 16,
            version: 1,
            prefix_len: 8 * N as u32,
            name: "blind".into(),
            ..StageInfo::default()
        }
    }

    fn looks_at_body(&self) -> bool {
        false
    }

    fn before(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        prefix: &mut [u8],
    ) -> Result<(), StageError> {
        self.bodies.lock().unwrap().push(body.len());
        self.calls += 1;
        assert!(!self.panics.contains(&(self.calls - 1)), "as it was told to");
        for (i, word) in prefix.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (self.published + i as u64).to_le_bytes();
        }
        if self.refuses.contains(&(self.calls - 1)) { Err("no".into()) } else { Ok(()) }
    }

    fn published(&mut self) {
        self.published += 1;
    }
}

fn blind_stages_are_put_in_front<const N: usize>(checksum: Checksum) {
    let dir = common::dir();
    let path = dir.path().join("blind.kek");
    let bodies = Arc::default();
    let options = Writer::options().capacity(1 << 20).max_record_len(100_000).checksum(checksum);
    let mut writer = options.stage(Blind::<N>::new(&bodies)).create(&path).unwrap();
    // Around what is short together, and what needs room to be made.
    let lens: Vec<usize> = (0..260).chain([1000, 4096, 65_536, 99_000]).collect();
    for len in &lens {
        writer.append(&common::bytes(*len as u64, *len)).unwrap();
    }
    assert!(matches!(writer.append(&vec![0; 100_001]), Err(AppendError::TooLong { .. })));
    writer.append(b"and goes on").unwrap();
    writer.close().unwrap();
    let empty = bodies.lock().unwrap().iter().all(|len| *len == 0);
    assert_eq!(empty, (1..=3).contains(&N), "these lengths are put in front without the payload");
    let channel = Channel::options().verify(Verify::Always).open(&path).unwrap();
    let records: Vec<_> = channel.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len(), lens.len() + 1);
    for (number, record) in records.iter().enumerate() {
        let words: Vec<u64> = (0..N as u64).map(|i| number as u64 + i).collect();
        let prefix: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(record.stored()[..8 * N], prefix, "{number} of {N}: each record was published once");
        match lens.get(number) {
            Some(len) => assert_eq!(record.payload(), common::bytes(*len as u64, *len)),
            None => assert_eq!(record.payload(), b"and goes on"),
        }
    }
}

#[test]
fn stages_that_do_not_look_at_the_payload_are_put_in_front_of_it() {
    for checksum in [Checksum::Crc32c, Checksum::None] {
        blind_stages_are_put_in_front::<0>(checksum);
        blind_stages_are_put_in_front::<1>(checksum);
        blind_stages_are_put_in_front::<2>(checksum);
        blind_stages_are_put_in_front::<3>(checksum);
        blind_stages_are_put_in_front::<4>(checksum);
    }
}

#[test]
fn one_that_refuses_or_panics_leaves_no_trace_of_the_record() {
    let dir = common::dir();
    let path = dir.path().join("blind.kek");
    let stage = Blind::<1> { refuses: 1..3, panics: 3..5, ..Blind::new(&Arc::default()) };
    let mut writer = Writer::options().stage(stage).create(&path).unwrap();
    writer.append(b"first").unwrap();
    let (tail, before) = (writer.tail(), std::fs::read(&path).unwrap());
    for _ in 0..2 {
        assert!(matches!(writer.append(b"refused"), Err(AppendError::Stage(_))));
    }
    for _ in 0..2 {
        assert!(catch_unwind(AssertUnwindSafe(|| writer.append(b"panics"))).is_err());
    }
    assert_eq!((writer.tail(), writer.next_sequence()), (tail, 1));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    writer.append(b"second").unwrap();
    let channel = Channel::open(&path).unwrap();
    let stored: Vec<_> = channel.records().map(|record| record.unwrap().stored().to_vec()).collect();
    // Nothing was published in between.
    let expected =
        [[&0_u64.to_le_bytes()[..], b"first"].concat(), [&1_u64.to_le_bytes()[..], b"second"].concat()];
    assert_eq!(stored, expected);
}

/// Panics when it is told that the record of this number is published.
struct Startled<const N: usize> {
    at: u64,
    published: u64,
}

impl<const N: usize> Handler for Startled<N> {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: 1 << 16,
            version: 1,
            prefix_len: N as u32,
            name: "startled".into(),
            ..StageInfo::default()
        }
    }

    fn looks_at_body(&self) -> bool {
        false
    }

    fn published(&mut self) {
        self.published += 1;
        assert!(self.published - 1 != self.at, "as it was told to");
    }
}

fn a_panic_after_publication_costs_no_record<const N: usize>() {
    let dir = common::dir();
    let journal = Journal::options().roll(Roll::Bytes(4096));
    let mut journal =
        journal.stage(Startled::<N> { at: 3, published: 0 }).open(dir.path().join("j")).unwrap();
    let panics = (0..500_u64)
        .filter(|number| catch_unwind(AssertUnwindSafe(|| journal.append(&number.to_le_bytes()))).is_err())
        .count();
    assert_eq!((panics, journal.next_sequence()), (1, 500));
    journal.close().unwrap();
    let mut reader = Journal::reader(dir.path().join("j")).unwrap();
    for number in 0..500_u64 {
        let record = reader.try_next().unwrap().unwrap();
        assert_eq!((record.sequence(), record.payload()), (number, &number.to_le_bytes()[..]), "{N}");
    }
}

#[test]
fn a_handler_that_panics_once_the_record_is_published_costs_no_record() {
    a_panic_after_publication_costs_no_record::<7>();
    a_panic_after_publication_costs_no_record::<8>();
    a_panic_after_publication_costs_no_record::<16>();
    a_panic_after_publication_costs_no_record::<24>();
}
