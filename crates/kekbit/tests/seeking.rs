//! Seeking: wherever reading begins, it finds what a scan from the first record on would find.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Numbers, bytes};
use kekbit::{
    Chain, Channel, Position, Reader, SeekError, Start, State, TickUnit, Timestamp, Wait, Writer,
    WriterOptions,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A record, as a scan has found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    sequence: u64,
    position: u64,
    nanos: Option<u64>,
    first_word: u64,
}

fn seen(record: &kekbit::Record<'_>) -> Seen {
    let mut word = [0; 8];
    let n = record.len().min(8);
    word[..n].copy_from_slice(&record[..n]);
    Seen {
        sequence: record.sequence(),
        position: record.position().offset(),
        nanos: record.timestamp_nanos(),
        first_word: u64::from_le_bytes(word),
    }
}

fn scan(channel: &Channel) -> Vec<Seen> {
    channel.records().map(|record| seen(&record.unwrap())).collect()
}

/// What kind of channel is written.
#[derive(Clone, Copy, Debug)]
struct Shape {
    first_sequence: u64,
    /// Bytes of data, about.
    fill: u64,
    longest: u64,
    /// One in so many appends is a batch; one in so many is followed by a heartbeat.
    batches: u64,
    heartbeats: u64,
    capacity: u64,
    seed: u64,
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        prop_oneof![Just(0), Just(1), Just(1_000_000), Just(1 << 63)],
        prop_oneof![0_u64..5_000, 50_000..400_000_u64, 2_000_000..4_000_000_u64],
        prop_oneof![Just(64_u64), Just(1000), Just(30_000), Just(300_000)],
        prop_oneof![Just(3_u64), Just(20), Just(u64::MAX)],
        prop_oneof![Just(2_u64), Just(50), Just(u64::MAX)],
        prop_oneof![Just(8_u64 << 20), Just(1 << 30)],
        any::<u64>(),
    )
        .prop_map(|(first_sequence, fill, longest, batches, heartbeats, capacity, seed)| Shape {
            first_sequence,
            fill,
            longest,
            batches,
            heartbeats,
            capacity,
            seed,
        })
}

fn append_some<C: Chain>(writer: &mut Writer<C>, shape: Shape, until: u64) {
    let mut numbers = Numbers(shape.seed ^ until);
    while writer.tail().offset() < until {
        let payload =
            |numbers: &mut Numbers| bytes(numbers.next(), numbers.clone().below(shape.longest) as usize);
        if numbers.next().is_multiple_of(shape.batches) {
            let mut batch = writer.batch();
            for _ in 0..numbers.below(6) {
                batch.push(&payload(&mut numbers)).unwrap();
            }
            batch.commit().unwrap();
        } else {
            writer.append(&payload(&mut numbers)).unwrap();
        }
        if numbers.next().is_multiple_of(shape.heartbeats) {
            writer.heartbeat();
        }
    }
}

fn write<C: Chain>(options: WriterOptions<C>, shape: Shape) -> (TempDir, Channel, Writer<C>) {
    let dir = common::dir();
    let path = dir.path().join("seek.kek");
    let options = options.capacity(shape.capacity).first_sequence(shape.first_sequence);
    let mut writer = options.create(&path).unwrap();
    append_some(&mut writer, shape, shape.fill);
    (dir, Channel::open(&path).unwrap(), writer)
}

/// Reading from `start` on gives `expected` and what follows it: by the iterator, and by a reader.
fn check(channel: &Channel, start: Start, expected: &[Seen]) {
    let few = expected.len().min(5);
    let read: Vec<_> =
        channel.records_from(start).unwrap().take(few + 1).map(|record| seen(&record.unwrap())).collect();
    assert_eq!(read[..], expected[..expected.len().min(few + 1)], "{start:?}");
    let mut reader = channel.reader(start).unwrap();
    for expected in &expected[..few] {
        assert_eq!(seen(&reader.try_next().unwrap().unwrap()), *expected, "{start:?}");
    }
    if expected.is_empty() {
        assert!(reader.try_next().unwrap().is_none(), "{start:?}");
    }
}

fn check_sequences(channel: &Channel, all: &[Seen], numbers: &mut Numbers) {
    let (first, count) = (channel.first_sequence(), all.len() as u64);
    let random = (0..20).map(|_| numbers.below(count + 1));
    for n in [0, 1, count / 2, count.saturating_sub(1), count].into_iter().chain(random.collect::<Vec<_>>()) {
        let from = |n: u64| &all[n.min(count) as usize..];
        check(channel, Start::Sequence(first + n), from(n));
        check(channel, Start::Last(n), from(count - n.min(count)));
    }
    check(channel, Start::Last(count + 1), all);
    check(channel, Start::Last(u64::MAX), all);
    check(channel, Start::Sequence(u64::MAX), &[]);
    check(channel, Start::Beginning, all);
    check(channel, Start::End, &[]);
    if first > 0 {
        let before = channel.records_from(Start::Sequence(first - 1)).unwrap_err();
        assert!(matches!(before, SeekError::BeforeFirst { sequence, first: f } if sequence + 1 == f));
        assert!(matches!(channel.reader(Start::Sequence(0)), Err(SeekError::BeforeFirst { .. })));
    }
}

fn check_positions(channel: &Channel, all: &[Seen], numbers: &mut Numbers) {
    let tail = channel.end_point().unwrap().position.offset();
    let at = |position| Start::Position(Position::new(position));
    check(channel, at(tail), &[]);
    for _ in 0..20.min(all.len()) {
        let chosen = all[numbers.below(all.len() as u64) as usize].position;
        let first = all.partition_point(|seen| seen.position < chosen);
        check(channel, at(chosen), &all[first..]);
        for wrong in [chosen + 1, chosen + 8, chosen.wrapping_sub(8), chosen + 4] {
            if wrong != tail && !all.iter().any(|seen| seen.position == wrong) {
                let refused = channel.records_from(at(wrong));
                assert!(
                    matches!(refused, Err(SeekError::NotARecord { position }) if position.offset() == wrong)
                );
            }
        }
    }
    for wrong in [tail + 8, tail + (1 << 20), channel.capacity(), 1 << 50, u64::MAX, u64::MAX - 7] {
        assert!(matches!(channel.reader(at(wrong)), Err(SeekError::NotARecord { .. })), "{wrong}");
    }
}

fn check_times(channel: &Channel, all: &[Seen], unit: TickUnit, numbers: &mut Numbers) {
    assert!(channel.seeks_time_exactly());
    let mut times = vec![0, 1, u64::MAX];
    for _ in 0..20.min(all.len()) {
        let nanos = all[numbers.below(all.len() as u64) as usize].nanos.unwrap();
        times.extend([nanos, nanos + 1, nanos - 1, nanos + unit.nanos(), nanos - unit.nanos()]);
    }
    for nanos in times {
        let first = all.partition_point(|seen| seen.nanos.unwrap() < nanos);
        check(channel, Start::Time(UNIX_EPOCH + Duration::from_nanos(nanos)), &all[first..]);
    }
    check(channel, Start::Time(UNIX_EPOCH - Duration::from_secs(1)), all);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn every_start_finds_what_a_scan_finds(
        shape in shape(),
        unit in prop::sample::select(vec![TickUnit::Nanos, TickUnit::Micros, TickUnit::Millis, TickUnit::Secs]),
        abandon in any::<bool>(),
    ) {
        let (dir, live, writer) = write(Writer::options().stage(Timestamp::new(unit)), shape);
        let mut numbers = Numbers(shape.seed);
        let all = scan(&live);
        let path = live.path().to_owned();
        let mut look = |channel: &Channel, state| {
            check_sequences(channel, &all, &mut numbers);
            check_positions(channel, &all, &mut numbers);
            check_times(channel, &all, unit, &mut numbers);
            assert_eq!(channel.end_point().unwrap(), channel.verify(|_| ()).unwrap());
            assert_eq!(channel.end_point().unwrap().state, state);
        };
        look(&live, State::Open);
        let state = if abandon { State::Abandoned } else { State::Closed };
        if abandon { writer.abandon() } else { writer.close().unwrap() }
        look(&live, state);
        look(&Channel::open(&path).unwrap(), state);
        // A copy, of which nobody can tell in which boot it was written, and with a damaged index.
        let copy = dir.path().join("copy.kek");
        let mut file = std::fs::read(&path).unwrap();
        std::fs::write(&copy, &file).unwrap();
        look(&Channel::open(&copy).unwrap(), state);
        for at in (8192..common::data_offset(&file) as usize).step_by(96) {
            file[at + 28] ^= 2;
        }
        std::fs::write(&path, &file).unwrap();
        look(&Channel::open(&path).unwrap(), state);
    }
}

/// What a reader takes next, from a channel to which more is appended.
fn next(reader: &mut Reader) -> Option<u64> {
    reader.try_next().unwrap().map(|record| record.sequence())
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let dir = common::dir();
    let path = dir.path().join("later.kek");
    let mut writer = Writer::options().first_sequence(100).stage(Timestamp::nanos()).create(&path).unwrap();
    let channel = Channel::open(&path).unwrap();
    for _ in 0..3 {
        writer.append(b"early").unwrap();
    }
    let mut by_sequence = channel.reader(Start::Sequence(110)).unwrap();
    let mut at_end = channel.reader(Start::End).unwrap();
    let mut iterator = channel.records_from(Start::Sequence(110)).unwrap();
    for sequence in 103..110 {
        assert_eq!((next(&mut by_sequence), iterator.next().is_none()), (None, true));
        assert!(by_sequence.next(Wait::spin().retries(3)).unwrap().is_none());
        writer.append(b"too early").unwrap();
        assert_eq!(next(&mut at_end), Some(sequence));
    }
    writer.append(b"the one").unwrap();
    assert_eq!(next(&mut by_sequence), Some(110));
    assert_eq!(iterator.next().unwrap().unwrap().sequence(), 110);
    // Half of a batch is passed over, too.
    let mut in_batch = channel.reader(Start::Sequence(113)).unwrap();
    let mut batch = writer.batch();
    for _ in 0..4 {
        batch.push(b"together").unwrap();
    }
    batch.commit().unwrap();
    assert_eq!((next(&mut in_batch), next(&mut in_batch), next(&mut in_batch)), (Some(113), Some(114), None));

    let later = SystemTime::now() + Duration::from_secs(3600);
    let mut by_time = channel.reader(Start::Time(later)).unwrap();
    writer.append(b"an hour too early").unwrap();
    assert_eq!(next(&mut by_time), None);
    writer.close().unwrap();
    assert_eq!(next(&mut by_time), None);
    assert_eq!(by_time.end(), Some(kekbit::End::Closed));
}

#[test]
fn a_time_between_two_records_is_found_although_more_is_appended_meanwhile() {
    let dir = common::dir();
    let path = dir.path().join("between.kek");
    let mut writer = Writer::options().capacity(1 << 24).stage(Timestamp::nanos()).create(&path).unwrap();
    let channel = Channel::open(&path).unwrap();
    let mut times = Vec::new();
    for i in 0..3000_u64 {
        if i.is_multiple_of(100) {
            times.push(SystemTime::now());
        }
        writer.append(&bytes(i, 1000)).unwrap();
        if i % 500 == 499 {
            let all = scan(&channel);
            for time in &times {
                let nanos = time.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
                let first = all.partition_point(|seen| seen.nanos.unwrap() < nanos);
                check(&channel, Start::Time(*time), &all[first..]);
            }
        }
    }
}

#[test]
fn without_timestamps_a_time_is_found_to_the_block() {
    let dir = common::dir();
    let path = dir.path().join("blocks.kek");
    let mut writer = Writer::options().capacity(16 << 20).create(&path).unwrap();
    let mut times = Vec::new();
    for i in 0..6000_u64 {
        if i.is_multiple_of(500) {
            times.push((i, SystemTime::now()));
        }
        writer.append(&bytes(i, 1000)).unwrap();
    }
    let tail = writer.tail().offset();
    let look = || {
        let channel = Channel::open(&path).unwrap();
        assert!(!channel.seeks_time_exactly());
        for (first, time) in &times {
            let record = channel.records_from(Start::Time(*time)).unwrap().next().unwrap().unwrap();
            assert!(record.sequence() <= *first, "never too late");
            let exact = first * 1008;
            let block = if tail - exact < 15 * (64 << 10) { 64 << 10 } else { 1 << 20 };
            assert!(record.position().offset() + block + 1008 >= exact, "nor more than a block too early");
        }
    };
    look();
    writer.close().unwrap();
    look();
}
