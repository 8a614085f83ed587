//! Files that have several lives: a channel is retired and its file becomes another channel, while readers come and go.
//!
//! What must hold: a file is not reused while anybody uses it; a reader sees one life only, the one whose name it asked
//! for; nothing of an earlier life shows in a later one, though its frames still lie behind the tail.

mod common;

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use common::{GENEROUS, Numbers, bytes, data_offset, names_in, payloads};
use kekbit::{
    Channel, CopyingReader, CreateError, Durability, End, OpenError, Prepare, Reader, SharedRecord, Start,
    State, Verify, Wait, Writer, WriterOptions,
};
use proptest::prelude::*;

/// The content of record `index` in life `life`: each life has records of the same lengths, so that frames of one lie
/// exactly where those of another would.
fn content(life: u64, index: u64) -> Vec<u8> {
    let len = Numbers(index).below(300);
    bytes(life << 32 | index, len as usize)
}

fn contents(life: u64, count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|index| content(life, index)).collect()
}

fn options() -> WriterOptions {
    Writer::options().capacity(64 << 10).durability(Durability::Never)
}

/// A channel with `count` records of life `life` that has ended.
fn retire(path: &Path, life: u64, count: u64) {
    let mut writer = options().create(path).unwrap();
    for payload in contents(life, count) {
        writer.append(&payload).unwrap();
    }
    writer.close().unwrap();
}

/// Asserts that the file at `retired` cannot be reused, and that the attempt leaves everything as it was.
fn assert_in_use(directory: &Path, retired: &str) {
    let (names, path) = (names_in(directory), directory.join(retired));
    let before = std::fs::read(&path).unwrap();
    let attempt = options().create_from(&path, directory.join("next.kek"));
    assert!(matches!(&attempt, Err(CreateError::InUse { path: named }) if *named == path), "{attempt:?}");
    assert_eq!(names_in(directory), names);
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_file_is_not_reused_while_anybody_reads_it() {
    let dir = common::dir();
    let path = dir.path().join("old.kek");
    retire(&path, 1, 100);
    let channel = Channel::open(&path).unwrap();
    assert_in_use(dir.path(), "old.kek");

    let mut reader = channel.reader(Start::Beginning).unwrap();
    drop(channel);
    assert_in_use(dir.path(), "old.kek");

    // A single record that was taken along keeps its file from being reused.
    let shared: SharedRecord = reader.try_next().unwrap().unwrap().to_shared();
    drop(reader);
    assert_in_use(dir.path(), "old.kek");
    assert_eq!(shared.record().payload(), content(1, 0));

    drop(shared);
    options().create_from(&path, dir.path().join("next.kek")).unwrap();
}

#[test]
fn a_file_is_not_reused_while_its_writer_lives() {
    let dir = common::dir();
    let mut writer = options().create(dir.path().join("old.kek")).unwrap();
    writer.append(b"before").unwrap();
    assert_in_use(dir.path(), "old.kek");
    writer.append(b"after").unwrap();
    let channel = Channel::open(dir.path().join("old.kek")).unwrap();
    assert_eq!(payloads(&channel), [&b"before"[..], b"after"]);
    assert_eq!(channel.end_point().unwrap().state, State::Open);
    drop(channel);
    writer.abandon();
    options().create_from(dir.path().join("old.kek"), dir.path().join("next.kek")).unwrap();
}

#[test]
fn reuse_replaces_nothing_and_takes_nothing_that_is_no_channel() {
    let dir = common::dir();
    let (old, taken, text) =
        (dir.path().join("old.kek"), dir.path().join("taken.kek"), dir.path().join("notes.txt"));
    retire(&old, 1, 10);
    retire(&taken, 2, 10);
    std::fs::write(&text, "dear diary").unwrap();
    let names = names_in(dir.path());
    let attempts = [(&old, &taken), (&old, &old), (&text, &dir.path().join("next.kek"))];
    for (retired, path) in attempts {
        let attempt = options().create_from(retired, path);
        let refused = matches!(attempt, Err(CreateError::AlreadyExists { .. } | CreateError::Retired { .. }));
        assert!(refused, "{attempt:?}");
    }
    assert_eq!(names_in(dir.path()), names);
    assert_eq!(payloads(&Channel::open(&old).unwrap()), contents(1, 10));
    assert_eq!(payloads(&Channel::open(&taken).unwrap()), contents(2, 10));
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "dear diary");
}

#[test]
fn frames_of_an_earlier_life_never_show() {
    let dir = common::dir();
    // More than the first page, which is cleared.
    const OLD: u64 = 200;
    for count in (0..=OLD).step_by(7) {
        let (old, new) = (dir.path().join("old.kek"), dir.path().join(format!("{count}.kek")));
        retire(&old, 1, OLD);
        let mut writer = options().create_from(&old, &new).unwrap();
        for payload in contents(2, count) {
            writer.append(&payload).unwrap();
        }
        assert!(!old.exists());
        let tail = writer.tail();

        // Live and unverified, where nothing but the zero behind each frame keeps the old ones away.
        let live = Channel::options().verify(Verify::Never).open(&new).unwrap();
        assert_eq!(payloads(&live), contents(2, count));
        assert_eq!(live.end_point().unwrap().position, tail);
        let mut reader = live.reader(Start::End).unwrap();
        assert!(reader.try_next().unwrap().is_none());

        writer.abandon();
        assert_eq!(reader.check_end().unwrap(), Some(End::Abandoned));
        let end = Channel::open(&new).unwrap().verify(|_| ()).unwrap();
        assert_eq!((end.position, end.sequence, end.state), (tail, count, State::Abandoned));

        let file = std::fs::read(&new).unwrap();
        let stale = content(1, OLD - 1);
        let is_there = file.windows(stale.len()).any(|window| window == stale);
        assert!(is_there || count == OLD, "the old frames are gone, and nothing was tested");
    }
}

#[test]
fn an_old_name_never_leads_to_the_new_content() {
    let dir = common::dir();
    let (old, new) = (dir.path().join("old.kek"), dir.path().join("new.kek"));
    retire(&old, 1, 50);
    let mut writer = options().channel_id(2).create_from(&old, &new).unwrap();
    writer.append(&content(2, 0)).unwrap();
    assert!(matches!(Channel::open(&old), Err(OpenError::NotFound { .. })));
    // A new channel may take the old name: it is another file.
    retire(&old, 3, 5);
    assert_eq!(payloads(&Channel::open(&old).unwrap()), contents(3, 5));
    assert_eq!(payloads(&Channel::open(&new).unwrap()), [content(2, 0)]);
}

/// Options for what follows: a ring of two files in turn.
fn ring(prepare: Prepare) -> WriterOptions {
    Writer::options().capacity(512 << 10).durability(Durability::Never).prepare(prepare).keep_space(true)
}

/// Appends the records of life `life` up to number `to`.
fn append_to(writer: &mut Writer, life: u64, to: u64) {
    for index in writer.next_sequence()..to {
        writer.append(&content(life, index)).unwrap();
    }
}

#[test]
fn a_file_whose_space_was_kept_is_reused_whole() {
    for dir in [common::dir(), tempfile::tempdir().unwrap()] {
        for prepare in [Prepare::OnDemand, Prepare::INLINE, Prepare::Ahead(512 << 10), Prepare::All] {
            let path = |number: u64| dir.path().join(format!("{number}.kek"));
            let mut writer = ring(prepare).create(path(0)).unwrap();
            let mut len = 0;
            for number in 0..5_u64 {
                append_to(&mut writer, number, 100 + 60 * number);
                let tail = writer.tail();
                writer.close().unwrap();
                let metadata = path(number).metadata().unwrap();
                assert!(metadata.len() >= len, "it only gets longer");
                assert!(metadata.blocks() * 512 >= metadata.len(), "and has its space");
                len = metadata.len();
                // Whoever looks sees no difference.
                let channel = Channel::open(path(number)).unwrap();
                let end = channel.verify(|_| ()).unwrap();
                assert_eq!((end.position, end.state, end.sealed), (tail, State::Closed, true));
                assert_eq!(payloads(&channel), contents(number, 100 + 60 * number));
                assert_eq!(channel.records_from(Start::Last(3)).unwrap().count(), 3);
                let mut copying = CopyingReader::open(path(number)).unwrap();
                let copied = std::iter::from_fn(|| copying.try_next().unwrap().map(drop)).count() as u64;
                assert_eq!((copied, copying.end()), (end.sequence, Some(End::Closed)));
                drop(copying);
                assert!(Channel::seal(path(number)).is_err(), "it has ended");
                drop(channel);
                writer = ring(prepare).create_from(path(number), path(number + 1)).unwrap();
                let channel = Channel::open(path(number + 1)).unwrap();
                assert_eq!(channel.records().count(), 0);
                let data = data_offset(&std::fs::read(path(number + 1)).unwrap()[..4096]);
                assert!(data + channel.reserved() >= len, "all of it is the new channel's");
            }
            drop(writer);
            std::fs::remove_file(path(5)).unwrap();
        }
    }
}

#[test]
fn a_full_channel_keeps_its_space_too_and_a_sealed_one_does_not() {
    let dir = common::dir();
    let (path, next) = (dir.path().join("a.kek"), dir.path().join("b.kek"));
    let options = ring(Prepare::All);
    let mut writer = options.clone().create(&path).unwrap();
    let whole = path.metadata().unwrap().len();
    append_to(&mut writer, 1, 10);
    while writer.append(&[1; 1000]).is_ok() {}
    assert!(writer.is_ended());
    drop(writer);
    assert_eq!(path.metadata().unwrap().len(), whole);
    let mut writer = options.create_from(&path, &next).unwrap();
    append_to(&mut writer, 1, 10);
    writer.abandon();
    common::wait_until_released(&next);
    assert_eq!(Channel::seal(&next).unwrap().end.sequence, 10);
    assert!(next.metadata().unwrap().len() < whole);
}

/// Records of a roll, and rolls. Half of the time the writer waits for its readers, so that they cross over; in
/// between it runs ahead, so that they lag and files are reused under their hands.
const ROLL: u64 = 40;
const ROLLS: u64 = 4000;
const STRIDE: u64 = 100;
const READERS: usize = 2;

fn name(first: u64) -> String {
    format!("{first:020}.kek")
}

/// What a reader has been through.
#[derive(Clone, Copy, Default, Debug)]
struct Journey {
    records: u64,
    crossings: u64,
    lags: u64,
}

struct Ring<'t> {
    directory: &'t Path,
    /// First sequence of the newest channel.
    newest: AtomicU64,
    /// Next sequence that each reader expects.
    reached: [AtomicU64; READERS],
    /// Channels that were made from a retired file.
    reused: AtomicU64,
    failed: AtomicBool,
}

impl Ring<'_> {
    fn path(&self, first: u64) -> PathBuf {
        self.directory.join(name(first))
    }

    /// Makes the channel that begins with `first` from the oldest retired file that nobody reads, or a fresh one.
    fn successor(&self, first: u64, retired: &mut VecDeque<u64>) -> Writer {
        let options = options().first_sequence(first);
        for i in 0..retired.len() {
            match options.clone().create_from(self.path(retired[i]), self.path(first)) {
                Ok(writer) => {
                    retired.remove(i);
                    self.reused.fetch_add(1, Ordering::Relaxed);
                    return writer;
                }
                Err(CreateError::InUse { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        options.create(self.path(first)).unwrap()
    }

    fn write(&self) {
        let mut retired = VecDeque::new();
        let mut writer = self.successor(0, &mut retired);
        for roll in 0..ROLLS {
            let first = roll * ROLL;
            for sequence in first..first + ROLL {
                let at = writer.append(&content(0, sequence)).unwrap();
                assert_eq!(at.sequence, sequence);
            }
            if roll + 1 < ROLLS {
                let next = self.successor(first + ROLL, &mut retired);
                writer.close().unwrap();
                writer = next;
                self.newest.store(first + ROLL, Ordering::Release);
                retired.push_back(first);
                while retired.len() > 3 {
                    std::fs::remove_file(self.path(retired.pop_front().unwrap())).unwrap();
                }
            }
            if (roll / STRIDE).is_multiple_of(2) {
                self.wait_for_readers(first + ROLL);
            }
        }
        writer.close().unwrap();
    }

    fn wait_for_readers(&self, sequence: u64) {
        let begun = Instant::now();
        while self.reached.iter().any(|reached| reached.load(Ordering::Acquire) < sequence) {
            assert!(begun.elapsed() < GENEROUS, "a reader stands still");
            if self.failed.load(Ordering::Relaxed) {
                panic!("a reader has failed");
            }
            std::thread::yield_now();
        }
    }

    fn read(&self, number: usize) -> Journey {
        let _mark = FailureMark(&self.failed);
        let (mut journey, mut expected) = (Journey::default(), 0);
        while expected < ROLLS * ROLL {
            let channel = match Channel::open(self.path(expected)) {
                Ok(channel) => channel,
                Err(OpenError::NotFound { .. } | OpenError::Reused { .. }) => {
                    // Not there yet, or not any more: then a later one is.
                    let newest = self.newest.load(Ordering::Acquire);
                    if newest > expected {
                        journey.lags += 1;
                        expected = newest;
                        self.reached[number].store(expected, Ordering::Release);
                    } else {
                        std::thread::yield_now();
                    }
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            assert_eq!(channel.first_sequence(), expected, "the channel of another life");
            journey.crossings += 1;
            let mut reader = channel.reader(Start::Beginning).unwrap();
            self.follow(&mut reader, &mut expected, number, &mut journey);
        }
        journey
    }

    fn follow(&self, reader: &mut Reader, expected: &mut u64, number: usize, journey: &mut Journey) {
        let wait = Wait::backoff().at_most(GENEROUS);
        while let Some(record) = reader.next(wait).unwrap() {
            assert_eq!(record.sequence(), *expected);
            assert!(record.payload() == content(0, *expected), "record {expected} is not what was written");
            *expected += 1;
            journey.records += 1;
            self.reached[number].store(*expected, Ordering::Release);
        }
        assert_eq!(reader.end(), Some(End::Closed));
        assert_eq!(*expected % ROLL, 0, "a channel ended before its last record");
    }
}

/// Tells the writer that it need not wait for a reader that has panicked.
struct FailureMark<'t>(&'t AtomicBool);

impl Drop for FailureMark<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn readers_cross_from_file_to_file_while_files_are_reused() {
    let dir = common::dir();
    let ring = Ring {
        directory: dir.path(),
        newest: AtomicU64::new(0),
        reached: [const { AtomicU64::new(0) }; READERS],
        reused: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    };
    let journeys: Vec<Journey> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                scope.spawn({
                    let ring = &ring;
                    move || ring.read(number)
                })
            })
            .collect();
        ring.write();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    println!("{ROLLS} rolls, {} files reused, {journeys:?}", ring.reused.load(Ordering::Relaxed));
    // Where the writer waited, in half of the rolls, every reader has read every channel but perhaps the first ones.
    for journey in journeys {
        assert!(journey.crossings >= ROLLS / 3 && journey.records >= ROLLS / 3 * ROLL, "{journey:?}");
    }
    assert!(ring.reused.load(Ordering::Relaxed) >= ROLLS / 3, "hardly any file was reused");
    let temporary = names_in(dir.path()).into_iter().filter(|name| !name.ends_with(".kek"));
    assert_eq!(temporary.count(), 0);
}

/// One thing that may happen to a few files.
#[derive(Clone, Debug)]
enum Op {
    Append { file: usize, records: u64 },
    Batch { file: usize, records: u64 },
    End { file: usize, seal: bool },
    Open { file: usize },
    Drop { reader: usize },
    Reuse { file: usize, capacity: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let file = 0..3_usize;
    prop_oneof![
        4 => (file.clone(), 0..30_u64).prop_map(|(file, records)| Op::Append { file, records }),
        1 => (file.clone(), 0..20_u64).prop_map(|(file, records)| Op::Batch { file, records }),
        3 => (file.clone(), any::<bool>()).prop_map(|(file, seal)| Op::End { file, seal }),
        2 => file.clone().prop_map(|file| Op::Open { file }),
        3 => (0..4_usize).prop_map(|reader| Op::Drop { reader }),
        4 => (file, 1..5_u64).prop_map(|(file, pages)| Op::Reuse { file, capacity: pages * 8192 }),
    ]
}

/// A file's present life.
struct Life {
    number: u64,
    path: PathBuf,
    writer: Option<Writer>,
    records: Vec<Vec<u8>>,
}

impl Life {
    fn append(&mut self, records: u64, batch: bool) {
        let Some(writer) = &mut self.writer else { return };
        let first = self.records.len() as u64;
        let new: Vec<_> = (first..first + records).map(|index| content(self.number, index)).collect();
        let bytes: usize = 8 + new.iter().map(|payload| payload.len() + 16).sum::<usize>();
        if !writer.fits(bytes) {
            return;
        }
        if batch {
            let mut batch = writer.batch();
            new.iter().for_each(|payload| batch.push(payload).unwrap());
            batch.commit().unwrap();
        } else {
            for payload in &new {
                // A claim that comes to nothing leaves the bytes of another life behind.
                writer.claim(payload.len()).unwrap().fill(0xEE);
                writer.append(payload).unwrap();
            }
        }
        self.records.extend(new);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let channel = Channel::open(&self.path).unwrap();
        prop_assert_eq!(channel.channel_id(), self.number);
        prop_assert!(payloads(&channel) == self.records);
        let end = channel.verify(|_| ()).unwrap();
        prop_assert_eq!(end.sequence, self.records.len() as u64);
        prop_assert_eq!(end.state == State::Open, self.writer.is_some());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_with_several_lives_behave_like_lists(ops in prop::collection::vec(op(), 1..40)) {
        let dir = common::dir();
        let path_of = |number: u64| dir.path().join(format!("{number}.kek"));
        let create = |number: u64| options().capacity(32 << 10).max_record_len(8000).channel_id(number);
        let mut files: Vec<Life> = (0..3).map(|number| {
            let path = path_of(number);
            let writer = Some(create(number).create(&path).unwrap());
            Life { number, path, writer, records: Vec::new() }
        }).collect();
        // A reader, the life that it reads, and how many records it has read.
        let mut readers: Vec<(Reader, u64, u64)> = Vec::new();
        let mut next = 3;
        for op in ops {
            match op {
                Op::Append { file, records } => files[file].append(records, false),
                Op::Batch { file, records } => files[file].append(records, true),
                Op::End { file, seal } => if let Some(writer) = files[file].writer.take() {
                    if seal {
                        writer.abandon();
                        prop_assert_eq!(Channel::seal(&files[file].path).unwrap().before, State::Abandoned);
                    } else {
                        writer.close().unwrap();
                    }
                },
                Op::Open { file } => {
                    let reader = Channel::open(&files[file].path).unwrap().reader(Start::Beginning).unwrap();
                    readers.push((reader, files[file].number, 0));
                }
                Op::Drop { reader } => if reader < readers.len() { readers.remove(reader); },
                Op::Reuse { file, capacity } => {
                    let life = &mut files[file];
                    let used = life.writer.is_some() || readers.iter().any(|reader| reader.1 == life.number);
                    let path = path_of(next);
                    let options = create(next).capacity(capacity).max_record_len(8000);
                    match options.create_from(&life.path, &path) {
                        Ok(writer) => {
                            prop_assert!(!used);
                            *life = Life { number: next, path, writer: Some(writer), records: Vec::new() };
                            next += 1;
                        }
                        Err(CreateError::InUse { .. }) => prop_assert!(used),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            for (reader, life, read) in &mut readers {
                while let Some(record) = reader.try_next().unwrap() {
                    prop_assert!(record.payload() == content(*life, *read));
                    *read += 1;
                }
                let file = files.iter().find(|file| file.number == *life).expect("no life ends under a reader");
                prop_assert_eq!(*read, file.records.len() as u64);
            }
            for file in &files {
                file.check()?;
            }
            prop_assert_eq!(names_in(dir.path()).len(), files.len());
        }
    }
}
