//! Whatever the bytes of a file of 0.3, and whatever happens to it meanwhile: its reader ends, without a panic, and what it lends lies
//! in the file. (What the real 0.3.5 writes is read in the tests of `kek`.)

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use common::bytes;
use common::campaign::{Campaign, is_long};
use kekbit::legacy::{Channel, State};
use kekbit::{End, FormatError, OpenError, Position, ReadError, SeekError, Start, TickUnit, Wait};
use proptest::prelude::*;
use tempfile::TempDir;

const CAPACITY: usize = 16384;
const LONGEST: u64 = 120;
const WATERMARK: u64 = 0xFFFF_FFFF_1111_1111;
const CLOSE: u64 = u64::MAX;
const DATA: usize = 1024;
/// Bytes of the data region that are in a file.
const BOUND: usize = CAPACITY + 160 - DATA;

fn put(file: &mut [u8], at: usize, word: u64) {
    file[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

fn word(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

/// A file without records, and without the mark for that.
fn blank() -> Vec<u8> {
    let mut file = vec![0; CAPACITY + 160];
    file[..8].copy_from_slice(b"*KEKBIT*");
    for (n, word) in
        [1 << 48, 7, 8, CAPACITY as u64 | LONGEST << 32, 30, 1_600_000_000].into_iter().enumerate()
    {
        put(&mut file, 8 + 8 * n, word);
    }
    file
}

/// A file with records of these lengths, and `mark` behind them: what lies past its end is left out, as 0.3 does. And where each
/// record begins.
fn image(lens: &[usize], mark: u64) -> (Vec<u8>, Vec<usize>) {
    let mut file = blank();
    let len = file.len();
    file.resize(len + 1024, 0);
    let (mut at, mut starts) = (0, Vec::new());
    for (n, len) in lens.iter().enumerate() {
        starts.push(at);
        put(&mut file, DATA + at, *len as u64);
        file[DATA + at + 8..][..*len].copy_from_slice(&payload(n, *len));
        at += 8 + len.next_multiple_of(8);
    }
    put(&mut file, DATA + at, mark);
    file.truncate(len);
    (file, starts)
}

fn payload(n: usize, len: usize) -> Vec<u8> {
    bytes(n as u64, len)
}

const LENS: [usize; 12] = [5, 0, 16, 120, 1, 0, 0, 8, 64, 7, 0, 33];

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: common::dir() }
    }

    fn put(&self, file: &[u8]) -> PathBuf {
        let path = self.dir.path().join("0000_0001.kekbit");
        std::fs::write(&path, file).unwrap();
        path
    }
}

/// Positions and bytes of records.
type Records = Vec<(u64, Vec<u8>)>;

/// Reads `file` in every way there is; what was there, and how it ended.
fn look(place: &Place, file: &[u8]) -> Option<(Records, Result<Option<End>, ReadError>)> {
    let path = place.put(file);
    let channel = match Channel::open(&path) {
        Ok(channel) => channel,
        Err(error) => {
            assert!(matches!(error, OpenError::Format { .. }) && !error.to_string().is_empty(), "{error:?}");
            return None;
        }
    };
    let mut reader = channel.reader();
    let mut records = Records::new();
    let end = loop {
        match reader.try_next() {
            Ok(Some(record)) => {
                let at = record.position().offset();
                let from = DATA + at as usize;
                assert_eq!(word(file, from), record.len() as u64);
                assert_eq!(file[from + 8..][..record.len()], record[..]);
                assert_eq!(record.sequence(), records.len() as u64);
                records.push((at, record.to_vec()));
            }
            Ok(None) => break Ok(reader.end()),
            Err(error) => break Err(error),
        }
        assert!(records.len() <= file.len() / 8, "it does not end");
    };
    let (at, count) = (reader.position(), records.len() as u64);
    assert_eq!(reader.sequence(), count);
    // Where it has stopped it stays.
    assert_eq!(reader.try_next().map(|record| record.is_none()).ok(), end.is_ok().then_some(true));
    assert_eq!(reader.position(), at);
    let check_up = channel.check_up(|_| {});
    assert_eq!((check_up.position, check_up.sequence), (at, count));
    match (&end, channel.end_point()) {
        (Ok(Some(End::Closed)), Ok(there)) => assert_eq!((there.state, there.loss), (State::Closed, None)),
        (Ok(None), Ok(there)) => assert_eq!((there.state, there.loss), (State::Unfinished, None)),
        (Err(ReadError::CutOff { loss, position }), Ok(there)) => {
            assert_eq!((there.state, there.loss, *position), (State::CutOff, Some(*loss), at));
            assert!(loss.missing() <= LONGEST.max(1 << 25) && loss.beyond() <= loss.capacity(), "{loss:?}");
        }
        (Err(ReadError::Corrupt { position, .. }), Err(ReadError::Corrupt { position: again, .. })) => {
            assert_eq!((*position, again), (at, at));
        }
        other => panic!("{other:?}"),
    }
    // Backwards, and from places in between.
    reader.seek(Start::End).unwrap();
    assert_eq!((reader.position(), reader.sequence()), (at, count));
    for (n, (position, stored)) in records.iter().enumerate().rev() {
        let record = reader.try_previous().unwrap().expect("there is one before");
        assert_eq!((record.position().offset(), record.sequence()), (*position, n as u64));
        assert_eq!(record[..], stored[..]);
    }
    assert!(reader.try_previous().unwrap().is_none());
    for start in [Start::Last(3), Start::Sequence(count.saturating_sub(3)), Start::Time(SystemTime::now())] {
        reader.seek(start).unwrap();
        let first = if matches!(start, Start::Time(_)) { 0 } else { records.len().saturating_sub(3) };
        if let Some((position, _)) = records.get(first) {
            assert_eq!(reader.try_next().unwrap().unwrap().position().offset(), *position);
        }
    }
    for (position, stored) in records.iter().step_by(records.len() / 8 + 1) {
        reader.seek(Start::Position(Position::new(*position))).unwrap();
        assert_eq!(reader.try_next().unwrap().as_deref(), Some(&stored[..]));
    }
    Some((records, end))
}

/// How many of the records of the image lie wholly before `end`, where something is wrong: without those without bytes right before
/// it, of which that is to be proof.
fn certain(lens: &[usize], starts: &[usize], end: usize) -> usize {
    let behind = |n: usize| starts[n] + 8 + lens[n].next_multiple_of(8);
    let whole = (0..lens.len()).take_while(|n| behind(*n) <= end).count();
    let next = whole.checked_sub(1).map_or(0, behind);
    if next + 8 <= end {
        return whole;
    }
    whole - lens[..whole].iter().rev().take_while(|len| **len == 0).count()
}

#[track_caller]
fn assert_begins(found: &Records, lens: &[usize], starts: &[usize], count: usize) {
    assert!(found.len() >= count, "{} of {count}", found.len());
    for n in 0..count {
        assert_eq!(found[n], (starts[n] as u64, payload(n, lens[n])));
    }
}

#[test]
fn every_flipped_bit_leaves_what_is_before_it() {
    let place = Place::new();
    for mark in [CLOSE, WATERMARK] {
        let (file, starts) = image(&LENS, mark);
        let last = DATA + starts[LENS.len() - 1] + 64;
        for at in (0..last).chain((last..file.len()).step_by(97)) {
            for bit in if at < 128 || (DATA..last).contains(&at) { 0..8 } else { 3..4 } {
                let mut file = file.clone();
                file[at] ^= 1 << bit;
                let Some((records, _)) = look(&place, &file) else {
                    assert!(at < 128, "byte {at} makes it no channel");
                    continue;
                };
                let end = at.saturating_sub(DATA) & !7;
                let end = if at < DATA { 0 } else { end };
                assert_begins(&records, &LENS, &starts, certain(&LENS, &starts, end));
            }
        }
    }
}

#[test]
fn every_truncation_leaves_what_is_left() {
    let place = Place::new();
    // Filled to the brim, with records without bytes here and there.
    let lens: Vec<_> = (0..CAPACITY / 8)
        .map(|n| LENS[n % LENS.len()])
        .scan(0, |at, len| {
            *at += 8 + len.next_multiple_of(8);
            (*at <= CAPACITY).then_some(len)
        })
        .collect();
    let (file, starts) = image(&lens, CLOSE);
    let step = if is_long() { 1 } else { 7 };
    for len in (0..2000).step_by(step).chain((14_000..=file.len()).step_by(step)) {
        let found = look(&place, &file[..len]);
        let bound = len.saturating_sub(DATA);
        let Some((records, end)) = found else {
            assert!(bound < 8, "{len} bytes are no channel");
            continue;
        };
        let count = lens.iter().zip(&starts).take_while(|(len, at)| *at + 8 + **len <= bound).count();
        assert_begins(
            &records,
            &lens,
            &starts,
            certain(&lens, &starts, bound.min(starts[count])).min(records.len()),
        );
        let next = starts[records.len()];
        match end.unwrap_err() {
            ReadError::CutOff { position, loss } => {
                assert_eq!((position.offset(), records.len()), (next as u64, count));
                let (record_len, missing, beyond) = (loss.record_len(), loss.missing(), loss.beyond());
                assert_eq!(beyond, (CAPACITY - bound) as u64);
                if next + 8 <= bound {
                    assert_eq!(record_len, Some(lens[count] as u64));
                    assert_eq!(missing, (next + 8 + lens[count] - bound) as u64);
                } else {
                    assert_eq!((record_len, missing), (None, 0));
                }
            }
            // Zeros up to the end are proof of nothing.
            ReadError::Corrupt { .. } => assert!(lens[records.len()..count].iter().all(|len| *len == 0)),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn what_reads_as_zeros_up_to_the_end_of_the_file_is_no_record() {
    let place = Place::new();
    let (mut file, starts) = image(&[5, 0, 0, 9], CLOSE);
    let (records, end) = look(&place, &file).unwrap();
    assert!(records.len() == 4 && matches!(end, Ok(Some(End::Closed))));
    // What a lost page of the disk looks like.
    file[DATA + starts[1]..].fill(0);
    let (records, end) = look(&place, &file).unwrap();
    assert_eq!(records.len(), 1);
    assert!(matches!(end, Err(ReadError::Corrupt { position, .. }) if position.offset() == starts[1] as u64));
    // What somebody has made longer has no more records in it.
    file.resize(1 << 20, 0);
    assert_eq!(look(&place, &file).unwrap().0.len(), 1);
    // A hole of 4 GiB is passed over, not read.
    let mut file = blank();
    file[32..36].copy_from_slice(&0xFFFF_FFF8_u32.to_le_bytes());
    let path = place.put(&file);
    File::options().write(true).open(&path).unwrap().set_len(0xFFFF_FFF8 + 160).unwrap();
    let end = Channel::open(&path).unwrap().end_point();
    assert!(matches!(end, Err(ReadError::Corrupt { .. })), "{end:?}");
}

#[test]
fn what_was_made_longer_is_cut_off_where_its_writer_ended_it() {
    let place = Place::new();
    let lens = vec![120; CAPACITY / 128];
    let (mut file, _) = image(&lens, CLOSE);
    let before = look(&place, &file).unwrap();
    file.resize(1 << 20, 0);
    let after = look(&place, &file).unwrap();
    assert_eq!(before.0, after.0);
    assert_eq!(format!("{:?}", before.1), format!("{:?}", after.1));
    assert_eq!(before.0.len(), BOUND / 128);
}

#[test]
fn headers_that_no_writer_has_written_are_refused() {
    let place = Place::new();
    let refused = |at: usize, bytes: &[u8]| {
        let mut file = blank();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        match Channel::open(place.put(&file)).unwrap_err() {
            OpenError::Format { source, .. } => source,
            error => panic!("{error:?}"),
        }
    };
    assert!(matches!(refused(0, b"+"), FormatError::NotAChannel));
    assert!(matches!(refused(14, &[3]), FormatError::NotLegacy { major: 3, minor: 0 }));
    assert!(matches!(refused(8, &[1]), FormatError::NotLegacy { major: 1, minor: 0 }));
    assert!(matches!(refused(32, &16376_u32.to_le_bytes()), FormatError::Header(_)));
    assert!(matches!(refused(32, &16388_u32.to_le_bytes()), FormatError::Header(_)));
    assert!(matches!(refused(36, &128_u32.to_le_bytes()), FormatError::Header(_)));
    assert!(matches!(refused(36, &119_u32.to_le_bytes()), FormatError::Header(_)));
    assert!(matches!(refused(56, &[1]), FormatError::Header(_)));
}

#[test]
fn a_reader_waits_times_out_and_takes_it_back() {
    let place = Place::new();
    let (file, starts) = image(&[5, 9], WATERMARK);
    let path = place.put(&file);
    let channel = Channel::open(&path).unwrap();
    assert_eq!((channel.timeout(), channel.tick_unit()), (Some(Duration::from_secs(30)), TickUnit::Secs));
    assert_eq!(channel.created_nanos(), 1_600_000_000_000_000_000);
    let mut reader = channel.reader();
    reader.seek(Start::Sequence(2)).unwrap();
    // Giving up is no end.
    assert!(reader.next(Wait::spin().retries(10)).unwrap().is_none());
    assert_eq!(reader.end(), None);
    reader.set_timeout(Some(Duration::from_millis(1)));
    assert!(reader.next(common::patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::TimedOut));
    // The third comes after all, and then the end.
    let next = starts[1] + 24;
    let live = File::options().write(true).open(&path).unwrap();
    live.write_all_at(b"third", (DATA + next + 8) as u64).unwrap();
    live.write_all_at(&CLOSE.to_le_bytes(), (DATA + next + 16) as u64).unwrap();
    live.write_all_at(&5_u64.to_le_bytes(), (DATA + next) as u64).unwrap();
    assert_eq!(reader.next(common::patience()).unwrap().as_deref(), Some(&b"third"[..]));
    assert_eq!(reader.end(), None);
    assert!(reader.next(common::patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Closed));
    // A question changes nothing of where reading is to begin.
    reader.seek(Start::Sequence(2)).unwrap();
    assert_eq!(reader.check_end().unwrap(), None);
    assert_eq!(reader.try_next().unwrap().map(|record| record.sequence()), Some(2));
    assert!(matches!(
        reader.seek(Start::Position(Position::new(8))),
        Err(SeekError::NotARecord { position }) if position.offset() == 8
    ));
}

#[test]
fn a_record_without_room_for_its_handlers_is_no_record() {
    let place = Place::new();
    let path = place.put(&image(&[20, 15, 30], CLOSE).0);
    let channel = Channel::options().timestamp(TickUnit::Nanos).sequence().open(&path).unwrap();
    let mut reader = channel.reader();
    assert_eq!(reader.try_next().unwrap().unwrap().len(), 4);
    assert!(matches!(reader.try_next(), Err(ReadError::Corrupt { .. })));
    let options = (0..16).fold(Channel::options(), |options, _| options.sequence());
    assert!(matches!(options.open(&path), Err(OpenError::Format { source: FormatError::Header(_), .. })));
}

#[test]
fn what_changes_while_it_is_read_does_no_harm() {
    let place = Place::new();
    let lens = vec![24; 400];
    let (file, _) = image(&lens, CLOSE);
    let path = place.put(&file);
    let campaign = Campaign::new("what_changes_while_it_is_read_does_no_harm");
    let looks = campaign.count(2_000, 1_000_000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let hostile = File::options().write(true).open(&path).unwrap();
            let mut numbers = campaign.numbers(1);
            while !done.load(Ordering::Relaxed) {
                let at = (DATA as u64 + numbers.below(BOUND as u64)) & !7;
                let words = [0, 24, 120, 121, CLOSE, WATERMARK, numbers.next()];
                match numbers.below(20) {
                    0 => hostile.set_len(numbers.below(file.len() as u64)).unwrap(),
                    1..=3 => hostile.write_all_at(&file, 0).unwrap(),
                    n => hostile.write_all_at(&words[n as usize % words.len()].to_le_bytes(), at).unwrap(),
                }
            }
        });
        let mut numbers = campaign.numbers(2);
        for _ in 0..looks {
            let Ok(channel) = Channel::open(&path) else { continue };
            let mut reader = channel.reader();
            for _ in 0..numbers.below(600) {
                let taken = match numbers.below(3) {
                    0 => reader.try_previous(),
                    _ => reader.try_next(),
                };
                if taken.is_ok_and(|record| record.is_some_and(|record| record.len() > 120)) {
                    panic!("no record is that long");
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    campaign.done(looks, "readers of a file that changed meanwhile");
}

/// Words that mean something, and some that do not.
fn words() -> impl Strategy<Value = Vec<u64>> {
    let word = prop_oneof![
        4 => Just(0),
        4 => 1..=LONGEST,
        2 => Just(WATERMARK),
        1 => Just(CLOSE),
        1 => LONGEST + 1..1 << 32,
        1 => any::<u64>(),
    ];
    prop::collection::vec(word, 0..400)
}

proptest! {
    #[test]
    fn any_words_are_read_to_some_end(words in words(), at in 0..BOUND / 8, len in 0..CAPACITY + 400) {
        let place = Place::new();
        let mut file = blank();
        file.resize(1 << 17, 0);
        for (n, word) in words.iter().enumerate() {
            put(&mut file, DATA + 8 * (at % 64 + n), *word);
        }
        // The way there.
        (0..at % 64).for_each(|n| put(&mut file, DATA + 8 * n, 0));
        file.truncate(if len < 400 { CAPACITY + 160 } else { len });
        look(&place, &file);
    }

    #[test]
    fn any_bytes_are_read_to_some_end(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), is_channel in any::<bool>()) {
        if is_channel {
            let blank = blank();
            let header = bytes.len().min(57);
            bytes[..header].copy_from_slice(&blank[..header]);
        }
        look(&Place::new(), &bytes);
    }
}

#[test]
fn only_files_are_opened() {
    let place = Place::new();
    let missing = place.dir.path().join("none.kekbit");
    assert!(matches!(Channel::open(&missing), Err(OpenError::NotFound { .. })));
    assert!(matches!(Channel::open(place.dir.path()), Err(OpenError::NotAFile { .. })));
    let path: &Path = &place.put(&image(&LENS, CLOSE).0);
    let link = place.dir.path().join("link.kekbit");
    std::os::unix::fs::symlink(path, &link).unwrap();
    assert!(matches!(Channel::open(&link), Err(OpenError::NotAFile { .. })));
    assert_eq!(Channel::open(path).unwrap().end_point().unwrap().sequence, 12);
}
