//! Reading backwards gives what reading forwards gives, in whichever order the two are mixed: a reader stands between two records.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::journal::{first_sequences, tiny};
use common::{Numbers, bytes, data_offset, dir, head, patience, record, word_at};
use kekbit::{
    Channel, CopyingReader, Durability, Journal, JournalReadError, JournalReader, ReadError, Reader, Record,
    Start, Timestamp, Verify, Wait, Writer,
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A record, as a scan from the first one on has found it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    sequence: u64,
    position: u64,
    payload: Vec<u8>,
}

fn seen(record: &Record<'_>) -> Seen {
    Seen { sequence: record.sequence(), position: record.position().offset(), payload: record.to_vec() }
}

fn scan(channel: &Channel) -> Vec<Seen> {
    channel.records().map(|record| seen(&record.unwrap())).collect()
}

/// What is done to the index of a channel that nobody writes.
#[derive(Clone, Copy, Debug)]
enum Index {
    Intact,
    Missing,
    /// One byte in so many is damaged.
    Damaged(u64),
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Live,
    Closed,
    Abandoned,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    first_sequence: u64,
    records: u64,
    longest: u64,
    /// One in so many appends is a batch, and one in so many records is made padding, or a frame of a kind to be passed over.
    batches: u64,
    padding: u64,
    heartbeats: u64,
    index: Index,
    ending: Ending,
    seed: u64,
}

fn shape() -> impl Strategy<Value = Shape> {
    let index = prop_oneof![Just(Index::Intact), Just(Index::Missing), (2..200_u64).prop_map(Index::Damaged)];
    let ending = prop_oneof![Just(Ending::Live), Just(Ending::Closed), Just(Ending::Abandoned)];
    (
        prop_oneof![Just(0), Just(1), Just(1 << 63)],
        prop_oneof![0..20_u64, 200..2000_u64],
        prop_oneof![Just(8_u64), Just(300), Just(3000)],
        prop_oneof![Just(2_u64), Just(20), Just(u64::MAX)],
        prop_oneof![Just(2_u64), Just(9), Just(u64::MAX)],
        prop_oneof![Just(3_u64), Just(50), Just(u64::MAX)],
        index,
        ending,
        any::<u64>(),
    )
        .prop_map(
            |(first_sequence, records, longest, batches, padding, heartbeats, index, ending, seed)| Shape {
                first_sequence,
                records,
                longest,
                batches,
                padding,
                heartbeats,
                index,
                ending,
                seed,
            },
        )
}

/// The channel, and its writer if that lives.
fn make(shape: Shape) -> (TempDir, PathBuf, Option<Writer>) {
    let dir = dir();
    let path = dir.path().join("back.kek");
    let options = Writer::options().capacity(8 << 20).durability(Durability::Never);
    let mut writer = options.first_sequence(shape.first_sequence).create(&path).unwrap();
    let mut numbers = Numbers(shape.seed);
    let mut alone = Vec::new();
    let mut left = shape.records;
    while left > 0 {
        let payload = |numbers: &mut Numbers| {
            let len = numbers.below(shape.longest) as usize;
            bytes(numbers.next(), len)
        };
        if numbers.next().is_multiple_of(shape.batches) {
            let mut batch = writer.batch();
            for _ in 0..numbers.below(6).min(left) {
                batch.push(&payload(&mut numbers)).unwrap();
            }
            left -= batch.len() as u64;
            batch.commit().unwrap();
        } else {
            alone.push(writer.append(&payload(&mut numbers)).unwrap().position.offset());
            left -= 1;
        }
        if numbers.next().is_multiple_of(shape.heartbeats) {
            writer.heartbeat();
        }
    }
    let live = match shape.ending {
        Ending::Live => Some(writer),
        Ending::Closed => {
            writer.close().unwrap();
            None
        }
        Ending::Abandoned => {
            writer.abandon();
            None
        }
    };
    let mut file = fs::read(&path).unwrap();
    alone.retain(|_| numbers.next().is_multiple_of(shape.padding));
    pass_over(&mut file, &alone, &mut numbers);
    // What tells of records that are none any more would tell a lie.
    let index = if alone.is_empty() { shape.index } else { Index::Missing };
    spoil(&mut file, index, &mut numbers);
    let opened = File::options().write(true).open(&path).unwrap();
    opened.write_all_at(&file, 0).unwrap();
    (dir, path, live)
}

/// Makes padding, or frames of kinds that may be passed over, of the frames at these positions.
fn pass_over(file: &mut [u8], positions: &[u64], numbers: &mut Numbers) {
    let data = data_offset(file);
    for position in positions {
        let at = (data + position) as usize;
        let len = (word_at(file, at) >> 32 & 0xFFF_FFFF) as usize;
        let payload = file[at + 8..at + 8 + len].to_vec();
        let kind = [3, 12, 15][numbers.below(3) as usize];
        let word = head(file, *position, kind, &payload);
        file[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
}

fn spoil(file: &mut [u8], index: Index, numbers: &mut Numbers) {
    let control = word_at(file, 128) as usize;
    let (from, len) = (word_at(file, 144) as usize, word_at(file, 152) as usize);
    for region in [from..from + len, control + 512..control + 1024] {
        match index {
            Index::Intact => {}
            Index::Missing => file[region].fill(0),
            Index::Damaged(one_in) => {
                for byte in &mut file[region] {
                    if *byte != 0 && numbers.next().is_multiple_of(one_in) {
                        *byte ^= 1;
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Next(u64),
    Previous(u64),
    /// To so many thousandths of the sequences that are there.
    Seek(u64),
    SeekEnd,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..60_u64).prop_map(Step::Next),
        4 => (0..120_u64).prop_map(Step::Previous),
        1 => (0..=1100_u64).prop_map(Step::Seek),
        1 => Just(Step::SeekEnd),
    ];
    prop::collection::vec(step, 1..30)
}

/// What the readers have in common here.
trait BothWays {
    fn forth(&mut self) -> Option<Seen>;
    fn back(&mut self) -> Option<Seen>;
    fn go_to(&mut self, start: Start);
    fn at(&self) -> u64;
}

macro_rules! both_ways {
    ($reader:ty, $go_to:expr) => {
        impl BothWays for $reader {
            fn forth(&mut self) -> Option<Seen> {
                self.try_next().unwrap().as_ref().map(seen)
            }

            fn back(&mut self) -> Option<Seen> {
                self.try_previous().unwrap().as_ref().map(seen)
            }

            fn go_to(&mut self, start: Start) {
                let go_to: fn(&mut $reader, Start) = $go_to;
                go_to(self, start);
            }

            fn at(&self) -> u64 {
                self.sequence()
            }
        }
    };
}

both_ways!(Reader, |reader, start| *reader = reader.channel().reader(start).unwrap());
both_ways!(CopyingReader, |reader, start| reader.seek(start).unwrap());
both_ways!(JournalReader, |reader, start| reader.seek(start).unwrap());

/// Does the steps, and compares with the list, whose first record has the sequence `first`.
fn walk(reader: &mut dyn BothWays, all: &[Seen], first: u64, steps: &[Step]) {
    let mut at = 0;
    for step in steps {
        match *step {
            Step::Next(count) => {
                for _ in 0..count {
                    assert_eq!(reader.forth().as_ref(), all.get(at), "forth at {at} of {}", all.len());
                    at = (at + 1).min(all.len());
                }
            }
            Step::Previous(count) => {
                for _ in 0..count {
                    let before = at.checked_sub(1);
                    let expected = before.map(|before| &all[before]);
                    assert_eq!(reader.back().as_ref(), expected, "back at {at} of {}", all.len());
                    if let Some(before) = before {
                        at = before;
                        assert_eq!(reader.at(), first + at as u64);
                    }
                }
            }
            Step::Seek(thousandths) => {
                let wanted = (all.len() as u64 * thousandths).div_ceil(1000);
                reader.go_to(Start::Sequence(first + wanted));
                at = (wanted as usize).min(all.len());
            }
            Step::SeekEnd => {
                reader.go_to(Start::End);
                at = all.len();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn in_whatever_order_it_is_read_there_is_one_list(shape in shape(), steps in steps(), verify in any::<bool>()) {
        let (_dir, path, _live) = make(shape);
        let verify = if verify { Verify::Always } else { Verify::UnlessLive };
        let channel = Channel::options().verify(verify).open(&path).unwrap();
        let all = scan(&channel);
        let first = shape.first_sequence;
        walk(&mut channel.reader(Start::Beginning).unwrap(), &all, first, &steps);
        walk(&mut CopyingReader::open(&path).unwrap(), &all, first, &steps);
        let backwards: Vec<_> = channel.records_back().map(|record| seen(&record.unwrap())).collect();
        prop_assert!(backwards.iter().rev().eq(&all));
        let middle = all.len() / 2;
        for start in [Start::Sequence(first + middle as u64), Start::Last((all.len() - middle) as u64)] {
            let before = channel.records_back_from(start).unwrap();
            let before: Vec<_> = before.map(|record| seen(&record.unwrap())).collect();
            prop_assert!(before.iter().rev().eq(&all[..middle]), "{:?}", start);
        }
        prop_assert_eq!(channel.records_back_from(Start::Beginning).unwrap().count(), 0);
        let beyond = Start::Sequence(first + all.len() as u64 + 5);
        prop_assert_eq!(channel.records_back_from(beyond).unwrap().count(), all.len());
    }

    #[test]
    fn a_journal_is_one_list_both_ways(
        lens in prop::collection::vec(0..900_usize, 0..120),
        rolls in prop::collection::vec(any::<bool>(), 8),
        first_lives in 1..4_usize,
        steps in steps(),
    ) {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut all = Vec::new();
        for (life, part) in lens.chunks(lens.len().div_ceil(first_lives).max(1)).enumerate() {
            let mut journal = tiny().open(&path).unwrap();
            for len in part {
                let payload = bytes(all.len() as u64, *len);
                let at = journal.append(&payload).unwrap();
                all.push(Seen { sequence: at.sequence, position: at.position.offset(), payload });
                if rolls[(all.len() + life) % 8] && all.len() % 7 == 0 {
                    journal.roll().unwrap();
                }
            }
        }
        let live = tiny().open(&path).unwrap();
        let mut reader = Journal::reader(&path).unwrap();
        walk(&mut reader, &all, 0, &steps);
        drop(live);
        let mut reader = Journal::reader(&path).unwrap();
        walk(&mut reader, &all, 0, &steps);
    }
}

#[test]
fn many_records_without_an_index_are_found_too() {
    let dir = dir();
    let path = dir.path().join("many.kek");
    let count = 50_000_u64;
    let mut writer = Writer::options().capacity(4 << 20).create(&path).unwrap();
    for n in 0..count {
        writer.append(&n.to_le_bytes()).unwrap();
    }
    writer.close().unwrap();
    let mut file = fs::read(&path).unwrap();
    spoil(&mut file, Index::Missing, &mut Numbers(0));
    fs::write(&path, file).unwrap();
    let channel = Channel::open(&path).unwrap();
    let mut expected = (0..count).rev();
    for record in channel.records_back() {
        let record = record.unwrap();
        let number = expected.next().unwrap();
        assert_eq!((record.sequence(), &record[..]), (number, &number.to_le_bytes()[..]));
    }
    assert_eq!(expected.next(), None);
    // The same by copies, from one place to another far away.
    let mut reader = CopyingReader::open(&path).unwrap();
    for start in [30_000, 100, 49_999, 1] {
        reader.seek(Start::Sequence(start)).unwrap();
        for number in (0..start).rev().take(50) {
            assert_eq!(reader.try_previous().unwrap().unwrap().sequence(), number);
        }
    }
}

#[test]
fn an_end_that_was_seen_is_none_once_the_reader_has_gone_back() {
    let dir = dir();
    let path = dir.path().join("end.kek");
    let mut writer = Writer::create(&path).unwrap();
    for n in 0..5 {
        writer.append(&[n]).unwrap();
    }
    writer.close().unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    while reader.next(patience()).unwrap().is_some() {}
    let end = reader.end();
    assert!(end.is_some());
    assert_eq!(&reader.try_previous().unwrap().unwrap()[..], [4]);
    assert_eq!(reader.end(), None);
    assert_eq!(&reader.next(patience()).unwrap().unwrap()[..], [4]);
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), end);
}

#[test]
fn what_was_to_be_waited_for_still_is_if_there_was_nothing_before() {
    let dir = dir();
    let path = dir.path().join("wait.kek");
    let mut writer = Writer::create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Sequence(2)).unwrap();
    assert!(reader.try_previous().unwrap().is_none());
    for n in 0..3 {
        writer.append(&[n]).unwrap();
    }
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], [2]);
    // Before what is waited for lies the last that is there.
    let mut reader = Channel::open(&path).unwrap().reader(Start::Sequence(10)).unwrap();
    assert_eq!(&reader.try_previous().unwrap().unwrap()[..], [2]);
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], [2]);
    writer.append(&[3]).unwrap();
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], [3]);
}

#[test]
fn a_time_is_a_place_too() {
    let dir = dir();
    let path = dir.path().join("time.kek");
    let mut writer = Writer::options().stage(Timestamp::nanos()).create(&path).unwrap();
    for n in 0..500_u64 {
        writer.append(&n.to_le_bytes()).unwrap();
    }
    let channel = Channel::open(&path).unwrap();
    let times: Vec<_> = channel.records().map(|record| record.unwrap().timestamp().unwrap()).collect();
    for at in [0, 1, 250, 499] {
        let first = times.partition_point(|time| *time < times[at]) as u64;
        let mut back = channel.records_back_from(Start::Time(times[at])).unwrap();
        let before = back.next().map(|record| record.unwrap().sequence());
        assert_eq!(before, first.checked_sub(1));
        let mut reader = channel.reader(Start::Time(times[at])).unwrap();
        assert_eq!(reader.try_previous().unwrap().map(|record| record.sequence()), first.checked_sub(1));
    }
}

#[test]
fn a_reader_that_stops_at_what_is_durable_never_goes_back_to_what_is_not() {
    let dir = dir();
    let path = dir.path().join("durable.kek");
    let mut writer = Writer::options().durability(Durability::AtEnd).create(&path).unwrap();
    writer.append(b"first").unwrap();
    let from_end = || Channel::open(&path).unwrap().reader(Start::End).unwrap();
    // Nothing is durable yet: the reader stays where it is, behind the first record.
    let mut early = from_end();
    early.set_durable(true);
    assert!(early.try_previous().unwrap().is_none());
    for round in 1..20_u64 {
        writer.sync().unwrap();
        let synced = writer.next_sequence();
        for _ in 0..round % 7 * 500 + 1 {
            writer.append(b"not synced").unwrap();
        }
        let mut reader = from_end();
        assert_eq!(reader.try_previous().unwrap().unwrap().sequence(), writer.next_sequence() - 1);
        let mut durable = from_end();
        durable.set_durable(true);
        assert_eq!(durable.try_previous().unwrap().unwrap().sequence(), synced - 1);
        assert_eq!(durable.try_next().unwrap().unwrap().sequence(), synced - 1);
        assert!(durable.try_next().unwrap().is_none());
        let second = synced.checked_sub(2);
        durable.try_previous().unwrap().unwrap();
        assert_eq!(durable.try_previous().unwrap().map(|record| record.sequence()), second);
    }
    assert_eq!(early.try_next().unwrap().unwrap().sequence(), 1);
}

#[test]
fn both_ways_while_it_is_written() {
    let dir = dir();
    let path = dir.path().join("live.kek");
    let mut writer = Writer::options().capacity(64 << 20).create(&path).unwrap();
    const COUNT: u64 = 60_000;
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                let mut at = 0;
                while at < COUNT {
                    for _ in 0..numbers.below(3000) {
                        let Some(found) = reader.try_next().unwrap() else { break };
                        assert_eq!((found.sequence(), &found[..]), (at, &record(at, 100)[..]));
                        at += 1;
                    }
                    if at == COUNT {
                        break;
                    }
                    if numbers.below(50) == 0 {
                        reader = reader.channel().reader(Start::End).unwrap();
                        at = reader.sequence();
                    }
                    for _ in 0..numbers.below(2000) {
                        let Some(found) = reader.try_previous().unwrap() else {
                            assert_eq!(at, 0);
                            break;
                        };
                        at -= 1;
                        assert_eq!((found.sequence(), &found[..]), (at, &record(at, 100)[..]));
                    }
                }
                for sequence in (0..COUNT).rev() {
                    let found = reader.try_previous().unwrap().unwrap();
                    assert_eq!((found.sequence(), &found[..]), (sequence, &record(sequence, 100)[..]));
                }
                assert!(reader.try_previous().unwrap().is_none());
            });
        }
        for sequence in 0..COUNT {
            writer.append(&record(sequence, 100)).unwrap();
        }
    });
}

/// A record, or what is said instead.
fn said(found: Result<Option<Record<'_>>, ReadError>) -> Result<Option<Seen>, String> {
    found.map(|record| record.as_ref().map(seen)).map_err(|error| error.to_string())
}

/// So many bytes of records, alone and in batches, with entries of the index here and there.
fn specimen(path: &Path, len: u64) -> Vec<Seen> {
    let mut writer = Writer::options().capacity(1 << 20).create(path).unwrap();
    let mut numbers = Numbers(77);
    while writer.tail().offset() < len {
        let mut batch = writer.batch();
        for _ in 0..numbers.below(4) {
            let len = numbers.below(200) as usize;
            batch.push(&bytes(numbers.next(), len)).unwrap();
        }
        batch.commit().unwrap();
        writer.append(&bytes(numbers.next(), 100)).unwrap();
        if numbers.below(9) == 0 {
            writer.heartbeat();
        }
    }
    writer.close().unwrap();
    scan(&Channel::open(path).unwrap())
}

#[test]
fn damage_is_told_as_a_seek_to_the_record_before_tells_it() {
    let dir = dir();
    let path = dir.path().join("damaged.kek");
    let all = specimen(&path, 60_000);
    let intact = fs::read(&path).unwrap();
    let data = data_offset(&intact);
    let mut numbers = Numbers(5);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..60 {
        let channel = Channel::options().verify(Verify::Always).open(&path).unwrap();
        let mut mapped = channel.reader(Start::End).unwrap();
        let at = data + numbers.below(all.last().unwrap().position);
        let damaged = intact[at as usize] ^ 1 << numbers.below(8);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[damaged], at).unwrap();
        // What it has copied it does not read again.
        let mut copying = CopyingReader::open(&path).unwrap();
        copying.seek(Start::End).unwrap();
        let mut place = all.len();
        while place > 0 {
            let wanted = all[place - 1].sequence;
            let expected = channel.reader(Start::Sequence(wanted));
            let expected = match expected {
                Ok(mut reader) => said(reader.try_next()),
                Err(error) => Err(error.to_string()),
            };
            // Each is asked twice: where there is damage it stays.
            let found = said(mapped.try_previous());
            assert_eq!(found, expected, "byte {at}, record {wanted}");
            assert_eq!(said(copying.try_previous()), expected, "byte {at}, record {wanted}");
            if found.is_err() {
                bad += 1;
                assert_eq!(said(mapped.try_previous()), expected);
                assert_eq!(said(copying.try_previous()), expected);
                // Forwards it goes on from where it was.
                assert_eq!(mapped.sequence(), wanted + 1);
                let next = all.get(place).cloned();
                assert_eq!(said(mapped.try_next()), Ok(next.clone()));
                assert_eq!(said(copying.try_next()), Ok(next));
                // Before the damage.
                let before = readable_before(&channel, &mut place, &all);
                let Some(before) = before else { break };
                mapped = channel.reader(Start::Sequence(before)).unwrap();
                copying.seek(Start::Sequence(before)).unwrap();
                continue;
            }
            good += 1;
            place -= 1;
        }
        file.write_all_at(&intact[at as usize..][..1], at).unwrap();
    }
    assert!(good > 1000 && bad > 10, "{good} records, {bad} errors");
}

/// The sequence of the last record before `place` that can still be sought to; `place` is then its.
fn readable_before(channel: &Channel, place: &mut usize, all: &[Seen]) -> Option<u64> {
    while *place > 0 {
        *place -= 1;
        let sequence = all[*place].sequence;
        if channel.reader(Start::Sequence(sequence)).is_ok_and(|mut reader| reader.try_next().is_ok()) {
            return Some(sequence);
        }
    }
    None
}

#[test]
fn a_file_that_is_cut_and_restored_is_read_on_where_the_copying_reader_was() {
    let dir = dir();
    let path = dir.path().join("cut.kek");
    // More than is copied at once.
    let all = specimen(&path, 700_000);
    let intact = fs::read(&path).unwrap();
    let mut reader = CopyingReader::open(&path).unwrap();
    for stop in [all.len(), all.len() - 1, all.len() * 3 / 4] {
        reader.seek(Start::End).unwrap();
        for place in (stop..all.len()).rev() {
            assert_eq!(seen(&reader.try_previous().unwrap().unwrap()), all[place]);
        }
        // Far away, so that nothing of it is in the copy any more.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(data_offset(&intact) + 4096).unwrap();
        let mut failed = 0;
        while let Ok(found) = reader.try_previous() {
            assert!(found.is_some());
            failed += 1;
        }
        let at = reader.sequence() as usize;
        assert_eq!(at + failed, stop);
        assert!(reader.try_previous().is_err());
        file.write_all_at(&intact, 0).unwrap();
        assert_eq!(reader.try_next().unwrap().as_ref().map(seen).as_ref(), all.get(at));
        if at < all.len() {
            assert_eq!(seen(&reader.try_previous().unwrap().unwrap()), all[at]);
        }
        for place in (0..at).rev() {
            assert_eq!(seen(&reader.try_previous().unwrap().unwrap()), all[place]);
        }
    }
}

fn filled(path: &Path, records: u64) -> Journal {
    let mut journal = tiny().open(path).unwrap();
    for sequence in 0..records {
        journal.append(&record(sequence, 300)).unwrap();
    }
    journal
}

/// Goes back as far as it can; the sequence of the oldest record, and what is said behind it.
fn go_back(reader: &mut JournalReader) -> (u64, Result<(), JournalReadError>) {
    let mut at = reader.sequence();
    loop {
        match reader.try_previous() {
            Ok(Some(found)) => {
                assert_eq!((found.sequence(), &found[..]), (at - 1, &record(at - 1, 300)[..]));
                at -= 1;
            }
            Ok(None) => return (at, Ok(())),
            Err(error) => return (at, Err(error)),
        }
    }
}

#[test]
fn channels_that_come_while_it_is_read_both_ways_are_read_too() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = filled(&path, 300);
    let mut reader = Journal::reader(&path).unwrap();
    reader.seek(Start::End).unwrap();
    let mut at = 300;
    for round in 0..10_u64 {
        for _ in 0..100 + 20 * round {
            at -= 1;
            let found = reader.try_previous().unwrap().unwrap();
            assert_eq!((found.sequence(), &found[..]), (at, &record(at, 300)[..]));
        }
        for sequence in journal.next_sequence()..journal.next_sequence() + 50 {
            journal.append(&record(sequence, 300)).unwrap();
        }
        while at < journal.next_sequence() {
            let found = reader.next(patience()).unwrap().unwrap();
            assert_eq!((found.sequence(), &found[..]), (at, &record(at, 300)[..]));
            at += 1;
        }
        assert!(reader.try_next().unwrap().is_none());
    }
}

#[test]
fn the_oldest_that_is_left_is_the_end_unless_older_ones_were_there_when_reading_began() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = filled(&path, 500);
    let mut reader = Journal::reader(&path).unwrap();
    reader.seek(Start::End).unwrap();
    assert_eq!(go_back(&mut reader).0, 0);
    reader.seek(Start::End).unwrap();
    for sequence in (450..500).rev() {
        assert_eq!(reader.try_previous().unwrap().unwrap().sequence(), sequence);
    }
    // Given up while it reads: what it has open it reads, and then it is told.
    let firsts = first_sequences(&path);
    let kept = firsts.partition_point(|first| *first <= 300);
    for first in &firsts[..kept] {
        fs::remove_file(path.join(format!("{first:020}.kek"))).unwrap();
    }
    let oldest = firsts[kept];
    for _ in 0..2 {
        let (at, end) = go_back(&mut reader);
        assert_eq!(at, oldest);
        let Err(JournalReadError::Lagged { wanted, oldest: left }) = end else { panic!("{end:?}") };
        assert_eq!((wanted, left), (oldest - 1, oldest));
    }
    // Forwards it goes on.
    assert_eq!(reader.try_next().unwrap().unwrap().sequence(), oldest);
    // Whoever begins now finds an end.
    reader.seek(Start::End).unwrap();
    let (at, end) = go_back(&mut reader);
    assert!(at == oldest && end.is_ok(), "{at}, {end:?}");
    journal.append(&record(500, 300)).unwrap();
    reader.seek(Start::End).unwrap();
    assert_eq!(go_back(&mut reader).0, oldest);
}

#[test]
fn a_missing_channel_is_told_and_what_only_has_such_a_name_is_not_read() {
    let dir = dir();
    let path = dir.path().join("journal");
    let _journal = filled(&path, 500);
    let firsts = first_sequences(&path);
    // Between two channels, and before all of them.
    let channel = path.join(format!("{:020}.kek", firsts[3]));
    fs::copy(&channel, path.join(format!("{:020}.kek", firsts[3] + 1))).unwrap();
    fs::write(path.join(format!("{:020}.kek", firsts[8] - 1)), b"mine").unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    reader.seek(Start::End).unwrap();
    let (at, end) = go_back(&mut reader);
    assert!(at == 0 && end.is_ok(), "{at}, {end:?}");
    fs::remove_file(&channel).unwrap();
    reader.seek(Start::End).unwrap();
    for _ in 0..2 {
        let (at, end) = go_back(&mut reader);
        assert_eq!(at, firsts[4]);
        assert!(
            matches!(end, Err(JournalReadError::Lagged { wanted, oldest }) if wanted + 1 == at && oldest == at),
            "{end:?}"
        );
    }
    // What is before the hole can be sought.
    reader.seek(Start::Sequence(firsts[3] - 1)).unwrap();
    assert_eq!(go_back(&mut reader).0, 0);
}

#[test]
fn an_oldest_name_that_was_never_a_channel_is_not_missed() {
    let dir = dir();
    let path = dir.path().join("journal");
    let _journal = filled(&path, 300);
    let firsts = first_sequences(&path);
    fs::remove_file(path.join(format!("{:020}.kek", 0))).unwrap();
    fs::write(path.join(format!("{:020}.kek", 0)), b"mine").unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    reader.seek(Start::End).unwrap();
    let (at, end) = go_back(&mut reader);
    assert!(at == firsts[1] && end.is_ok(), "{at}, {end:?}");
}

#[test]
fn a_journal_that_gives_up_and_reuses_what_is_read_backwards() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().retain_count(6).open(&path).unwrap();
    for sequence in 0..300 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2_u64)
            .map(|seed| {
                let mut reader = Journal::reader(&path).unwrap();
                scope.spawn(move || {
                    let mut numbers = Numbers(seed);
                    let (mut ends, mut lags) = (0, 0);
                    while !stop.load(Ordering::Relaxed) || ends + lags == 0 {
                        reader.seek(Start::End).unwrap();
                        // As far as it is not overtaken.
                        for _ in 0..numbers.below(30) {
                            match reader.try_next() {
                                Ok(Some(found)) => {
                                    let expected = record(found.sequence(), 300);
                                    assert_eq!(&found[..], expected);
                                }
                                Ok(None) => break,
                                Err(JournalReadError::Lagged { .. }) => break,
                                Err(error) => panic!("{error}"),
                            }
                        }
                        match go_back(&mut reader) {
                            (_, Ok(())) => ends += 1,
                            (at, Err(JournalReadError::Lagged { wanted, oldest })) => {
                                assert!(wanted + 1 == at && oldest >= at, "{wanted}, {oldest} at {at}");
                                lags += 1;
                            }
                            (_, Err(error)) => panic!("{error}"),
                        }
                    }
                    (ends, lags)
                })
            })
            .collect();
        for sequence in 300..20_000 {
            journal.append(&record(sequence, 300)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            let (ends, lags) = reader.join().unwrap();
            assert!(ends + lags > 0);
        }
    });
    journal.append(b"last").unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    reader.seek(Start::End).unwrap();
    assert_eq!(&reader.try_previous().unwrap().unwrap()[..], b"last");
    assert_eq!(
        reader.next(Wait::backoff().at_most(common::GENEROUS)).unwrap().as_deref(),
        Some(&b"last"[..])
    );
}
