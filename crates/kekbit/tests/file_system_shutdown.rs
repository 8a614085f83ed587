//! A file system that stops in the middle of everything, as at a power cut: what had been acknowledged as durable is
//! there when it is mounted again.
//!
//! A child process writes channels of all policies on an ext4 of its own (a loop device over a file) and notes outside of
//! it what it was told is durable. At some moment the file system is shut down without flushing its log
//! (`FS_IOC_SHUTDOWN`): nothing that is still in memory reaches the disk any more. The child is killed, and the file
//! system mounted again, which recovers its log. Then the channels are read, sealed, and the file system is shut down
//! once more, meanwhile or right after.
//!
//! What counts is what had been acknowledged before the shutdown began. A sync that is under way just then may return
//! success for what never reaches the disk: ext4 does not report that it could not mark the blocks as written. With the
//! power gone there would be nobody left to be told.
//!
//! The machine has not booted meanwhile, and the files have their inodes, so that nothing tells kekbit of the crash but the
//! option `crashed`. How many channels are called corrupt without it is counted.
//!
//! Needs root, mkfs.ext4 and losetup.

mod common;
#[path = "common/volume.rs"]
mod volume;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::campaign::Campaign;
use common::{Child, Numbers, bytes};
use kekbit::{
    Channel, Durability, End, OpenError, SealError, Sealed, SharedWriter, Start, State, SyncHandle, Writer,
    WriterOptions,
};
use volume::Volume;

const TEST: &str = "what_was_acknowledged_survives_a_file_system_that_stops";

#[test]
fn what_was_acknowledged_survives_a_file_system_that_stops() {
    if let Some((_, arguments)) = common::role() {
        return write_until_killed(&arguments);
    }
    let Some(volume) = Volume::new(TEST, tempfile::tempdir().unwrap()) else { return };
    let campaign = Campaign::new("file system shutdowns");
    let cycles = campaign.count(3, 500);
    let mut seen = Seen::default();
    for cycle in 0..cycles {
        run_cycle(&volume, &campaign, cycle, &mut seen);
    }
    // Otherwise nothing was tested.
    assert!(seen.acknowledged > 0 && seen.sealed > 0, "{seen:?}");
    campaign.done(
        cycles,
        format!(
            "shutdowns while writing, {} while or after sealing, {} channels, {} records acknowledged, {} found, \
             {} torn, {} sealed, {} corrupt to whoever does not know of the crash, {} syncs lost that succeeded during a shutdown",
            seen.second,
            seen.channels,
            seen.acknowledged,
            seen.records,
            seen.torn,
            seen.sealed,
            seen.corrupt,
            seen.late,
        ),
    );
}

/// What a campaign has come across.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    channels: u64,
    acknowledged: u64,
    records: u64,
    torn: u64,
    sealed: u64,
    second: u64,
    corrupt: u64,
    late: u64,
}

/// The channels that are written at the same time, each by one or three threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Each,
    Interval,
    Syncing,
    SharedEach,
    SharedSyncing,
    Reused,
    Never,
    /// Many short channels, one after the other, each of which is closed.
    Closing,
}

const PARTS: [Part; 8] = [
    Part::Each,
    Part::Interval,
    Part::Syncing,
    Part::SharedEach,
    Part::SharedSyncing,
    Part::Reused,
    Part::Never,
    Part::Closing,
];
const CAPACITY: u64 = 4 << 20;
const THREADS: u64 = 3;

impl Part {
    fn durability(self) -> Durability {
        match self {
            Part::Each | Part::SharedEach | Part::Reused => Durability::Each,
            Part::Interval => Durability::Interval(Duration::from_millis(2)),
            Part::Syncing | Part::SharedSyncing | Part::Closing => Durability::AtEnd,
            Part::Never => Durability::Never,
        }
    }

    fn file(self, dir: &Path, n: u64) -> PathBuf {
        dir.join(format!("{self:?}-{n}.kek"))
    }
}

const RETIRED: &str = "retired.kek";

/// Record `sequence` of a group of `count` records that begins with `first`, in a cycle's channel `salt`.
fn record(salt: u64, sequence: u64, first: u64, count: u64) -> Vec<u8> {
    let len = Numbers(sequence ^ salt).below(400) as usize;
    let mut record: Vec<u8> = [sequence, first, count].iter().flat_map(|word| word.to_le_bytes()).collect();
    record.extend(bytes(sequence ^ salt, len));
    record
}

fn salt(seed: u64, part: Part, n: u64) -> u64 {
    Numbers(seed ^ (part as u64) << 32 ^ n).next()
}

/// What the writing process was told, kept where its file system does not matter: for each part, whether (or how often)
/// a channel was created, and up to which position its records are durable; of the part that closes, how many are closed.
struct Notes {
    file: File,
    words: Mutex<[u64; 2 * PARTS.len()]>,
}

impl Notes {
    fn note(&self, part: Part, which: usize, value: u64) {
        let at = 2 * part as usize + which;
        let mut words = self.words.lock().unwrap();
        if value > words[at] {
            words[at] = value;
            self.file.write_all_at(&value.to_le_bytes(), 8 * at as u64).unwrap();
        }
    }

    fn created(&self, part: Part) {
        self.note(part, 0, 1);
    }

    fn durable(&self, part: Part, position: u64) {
        self.note(part, 1, position);
    }
}

fn read_notes(path: &Path) -> [u64; 2 * PARTS.len()] {
    let file = std::fs::read(path).unwrap();
    std::array::from_fn(|i| common::word_at(&file, 8 * i))
}

/// In the child: writes all parts until the file system stops, and waits to be killed.
fn write_until_killed(arguments: &[String]) {
    let [dir, notes, seed] = arguments else { panic!("{arguments:?}") };
    let (dir, seed) = (Path::new(dir), seed.parse().unwrap());
    let file = File::options().write(true).open(notes).unwrap();
    let notes = &Notes { file, words: Mutex::default() };
    common::say("begun");
    std::thread::scope(|scope| {
        for part in PARTS {
            scope.spawn(move || {
                let result = write_part(dir, part, seed, notes);
                // Once the file system has stopped every call fails; the channels that are full have ended before.
                drop(result);
            });
        }
    });
    let _ = common::listen();
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn write_part(dir: &Path, part: Part, seed: u64, notes: &Notes) -> Outcome {
    if part == Part::Closing {
        return write_and_close(dir, seed, notes);
    }
    let (path, retired) = (part.file(dir, 0), dir.join(RETIRED));
    let options: WriterOptions = Writer::options().capacity(CAPACITY).durability(part.durability());
    let writer = if part == Part::Reused && retired.exists() {
        options.create_from(retired, path)?
    } else {
        options.create(path)?
    };
    notes.created(part);
    let salt = salt(seed, part, 0);
    match part {
        Part::SharedEach | Part::SharedSyncing => write_together(writer, part, salt, notes),
        _ => write_alone(writer, part, salt, notes),
    }
}

/// Appends one group: a record, or a batch of some.
fn append(writer: &mut Writer, salt: u64) -> Outcome {
    let first = writer.next_sequence();
    let numbers = &mut Numbers(first ^ !salt);
    let count = if numbers.below(4) == 0 { 2 + numbers.below(5) } else { 1 };
    if count == 1 {
        writer.append(&record(salt, first, first, 1))?;
    } else {
        let mut batch = writer.batch();
        (first..first + count).try_for_each(|sequence| batch.push(&record(salt, sequence, first, count)))?;
        batch.commit()?;
    }
    Ok(())
}

fn write_alone(mut writer: Writer, part: Part, salt: u64, notes: &Notes) -> Outcome {
    let numbers = &mut Numbers(salt);
    let handle = writer.sync_handle();
    loop {
        append(&mut writer, salt)?;
        match part.durability() {
            Durability::Each => notes.durable(part, writer.tail().offset()),
            Durability::Interval(_) => {
                notes.durable(part, writer.synced_tail().offset());
                std::thread::sleep(Duration::from_micros(numbers.below(100)));
            }
            _ => match numbers.below(40) {
                0 => sync(&mut writer, part, notes)?,
                1 => notes.durable(part, handle.sync()?.offset()),
                2 => writer.heartbeat(),
                3 => std::thread::sleep(Duration::from_micros(numbers.below(1000))),
                _ => {}
            },
        }
    }
}

fn sync(writer: &mut Writer, part: Part, notes: &Notes) -> Outcome {
    writer.sync()?;
    notes.durable(part, writer.tail().offset());
    Ok(())
}

fn write_together(writer: Writer, part: Part, salt: u64, notes: &Notes) -> Outcome {
    let writer = SharedWriter::new(writer);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (writer, handle) = (writer.clone(), writer.sync_handle());
            scope.spawn(move || while append_and_wait(&writer, &handle, part, salt, notes).is_ok() {});
        }
    });
    Ok(())
}

fn append_and_wait(
    writer: &SharedWriter,
    handle: &SyncHandle,
    part: Part,
    salt: u64,
    notes: &Notes,
) -> Outcome {
    let appended = writer.with(common::patience(), |writer| {
        let at = writer.tail();
        append(writer, salt).map(|()| (at, writer.tail()))
    });
    let (at, tail) = appended??;
    if part.durability() != Durability::Each {
        handle.wait_for(at)?;
    }
    notes.durable(part, tail.offset());
    Ok(())
}

/// How many groups the channel `n` of those that are closed has.
fn groups_of(n: u64) -> u64 {
    n % 7
}

fn write_and_close(dir: &Path, seed: u64, notes: &Notes) -> Outcome {
    for n in 0.. {
        let path = Part::Closing.file(dir, n);
        let mut writer = Writer::options().capacity(64 << 10).durability(Durability::AtEnd).create(path)?;
        notes.note(Part::Closing, 0, n + 1);
        for _ in 0..groups_of(n) {
            append(&mut writer, salt(seed, Part::Closing, n))?;
        }
        writer.close()?;
        notes.note(Part::Closing, 1, n + 1);
    }
    Ok(())
}

/// A channel that may be there after the crash, and what must be.
#[derive(Debug)]
struct Written {
    path: PathBuf,
    salt: u64,
    /// Whether its name was acknowledged as durable.
    exists: bool,
    /// Position up to which its records were.
    durable: u64,
    /// Whether its end was.
    closed: bool,
    reused: bool,
    /// Up to where they were by what was said during the shutdown.
    late: u64,
}

/// What may be there by what was noted last, and must be by what had been noted when the shutdown began.
fn what_was_written(dir: &Path, seed: u64, noted: &[u64], last: &[u64]) -> Vec<Written> {
    let mut all = Vec::new();
    for part in PARTS {
        let at = 2 * part as usize;
        let (first, second) = (noted[at], noted[at + 1]);
        let channels = if part == Part::Closing { last[at] + 1 } else { 1 };
        for n in 0..channels {
            let many = part == Part::Closing;
            all.push(Written {
                path: part.file(dir, n),
                salt: salt(seed, part, n),
                exists: part != Part::Never && n < first,
                durable: if many { 0 } else { second },
                closed: many && n < second,
                reused: part == Part::Reused,
                late: if many { 0 } else { last[at + 1] },
            });
        }
    }
    all
}

fn run_cycle(volume: &Volume, campaign: &Campaign, cycle: u64, seen: &mut Seen) {
    let mut numbers = campaign.numbers(cycle);
    let (ordered, seed) = (numbers.below(2) == 0, numbers.next());
    let context = format!("cycle {cycle}");
    let notes = common::dir();
    let notes = notes.path().join("notes");
    std::fs::write(&notes, [0; 16 * PARTS.len()]).unwrap();
    volume.mount(ordered).unwrap();
    let arguments = [volume.path.to_str().unwrap(), notes.to_str().unwrap(), &seed.to_string()];
    let mut child = Child::start(TEST, "writer", &arguments);
    assert_eq!(child.hear(), "begun");
    let durable = |part: Part| read_notes(&notes)[2 * part as usize + 1] > 0;
    match cycle % 3 {
        // All of them have got somewhere.
        0 => common::wait_until("records are durable", || PARTS.into_iter().all(durable)),
        // One has, others may just be created.
        1 => common::wait_until("a record is durable", || PARTS.into_iter().any(durable)),
        _ => {}
    }
    let longest = [1_000, 50_000, 400_000][numbers.below(3) as usize];
    std::thread::sleep(Duration::from_micros(numbers.below(longest)));
    let noted = read_notes(&notes);
    volume.shut_down();
    child.kill();
    child.end();
    volume.mount_again(ordered);

    let written = what_was_written(&volume.path, seed, &noted, &read_notes(&notes));
    let mut found = Vec::new();
    for channel in &written {
        if let Some(records) = check_first(channel, seen, &context) {
            found.push((channel, records));
        }
    }
    seal_and_stop_again(volume, &found, ordered, &mut numbers, seen, &context);
    clear(&volume.path, &found);
    volume.unmount();
}

/// Reads a channel after the crash and returns how many records it has; `None` if it is not there, and need not be.
fn check_first(channel: &Written, seen: &mut Seen, context: &str) -> Option<u64> {
    let path = &channel.path;
    if !path.exists() {
        assert!(!channel.exists, "{context}: it is gone: {channel:?}");
        return None;
    }
    seen.channels += 1;
    // By the rules for a file system that has not crashed: no promise but the common one.
    match Channel::open(path).map(|channel| channel.verify(|_| ())) {
        Ok(Ok(_)) => {}
        Ok(Err(kekbit::ReadError::Corrupt { .. })) => seen.corrupt += 1,
        other => panic!("{context}: {other:?}: {channel:?}"),
    }
    let records = check(channel, None, seen, context);
    seen.records += records;
    Some(records)
}

/// Opens a channel as its user does after such a crash.
fn open(path: &Path) -> Result<Channel, OpenError> {
    Channel::options().crashed(true).open(path)
}

/// Seals a channel as its user does after such a crash.
fn seal(path: &Path) -> Result<Sealed, SealError> {
    Channel::seal_options().crashed(true).seal(path)
}

/// Whatever was acknowledged is there: an exact prefix, groups whole. Returns how many records there are.
fn check(channel: &Written, exactly: Option<u64>, seen: &mut Seen, context: &str) -> u64 {
    let opened = open(&channel.path).unwrap_or_else(|error| panic!("{context}: {error}: {channel:?}"));
    let (mut next, mut end_of_group) = (0, 0);
    for found in opened.records() {
        let found = found.unwrap_or_else(|error| panic!("{context}: {error}: {channel:?}"));
        assert_eq!(found.sequence(), next, "{context}: {channel:?}");
        let word = |i: usize| common::word_at(found.payload(), 8 * i);
        let (first, count) = (word(1), word(2));
        assert!(
            found.payload() == record(channel.salt, next, first, count),
            "{context}: record {next}: {channel:?}"
        );
        assert_eq!(if next == end_of_group { next } else { end_of_group - count }, first, "{context}");
        end_of_group = first + count;
        next += 1;
        if found.position().offset() < channel.durable {
            seen.acknowledged += u64::from(exactly.is_none());
        }
    }
    assert_eq!(next, end_of_group, "{context}: part of a batch: {channel:?}");
    let end = opened.verify(|_| ()).unwrap_or_else(|error| panic!("{context}: {error}: {channel:?}"));
    assert_eq!(opened.end_point().unwrap(), end, "{context}: {channel:?}");
    assert_eq!(end.sequence, next, "{context}: {channel:?}");
    assert!(end.position.offset() >= channel.durable, "{context}: lost: {end:?}: {channel:?}");
    match exactly {
        Some(exactly) => assert_eq!(next, exactly, "{context}: {channel:?}"),
        None => seen.late += u64::from(end.position.offset() < channel.late),
    }
    if channel.closed {
        assert_eq!(end.state, State::Closed, "{context}: {channel:?}");
    }
    seen.torn += u64::from(end.state == State::Torn && exactly.is_none());
    let mut reader = opened.reader(Start::End).unwrap();
    assert!(reader.try_next().unwrap().is_none());
    assert_eq!(reader.check_end().unwrap() == Some(End::Torn), end.state == State::Torn, "{context}");
    next
}

/// Seals every channel, and stops the file system once more, meanwhile or right after.
fn seal_and_stop_again(
    volume: &Volume,
    found: &[(&Written, u64)],
    ordered: bool,
    numbers: &mut Numbers,
    seen: &mut Seen,
    context: &str,
) {
    let delay = (numbers.below(2) == 0).then(|| Duration::from_micros(numbers.below(30_000)));
    let stopping = &AtomicBool::new(false);
    let stop = || {
        stopping.store(true, Ordering::SeqCst);
        volume.shut_down();
    };
    // Whether it was sealed, by a call that had returned when the shutdown began.
    let try_to_seal = |channel: &Written| {
        let sealed = seal(&channel.path);
        (sealed, !stopping.load(Ordering::SeqCst))
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let sealing =
            scope.spawn(|| found.iter().map(|(channel, _)| try_to_seal(channel)).collect::<Vec<_>>());
        if let Some(delay) = delay {
            std::thread::sleep(delay);
            stop();
            sealing.join().unwrap()
        } else {
            let results = sealing.join().unwrap();
            stop();
            results
        }
    });
    seen.second += 1;
    volume.mount_again(ordered);
    for (&(channel, records), (sealed, before)) in found.iter().zip(&results) {
        let context = format!("{context}, {delay:?} after sealing began, which said {sealed:?}");
        let acknowledged = *before && matches!(sealed, Ok(_) | Err(SealError::Ended { .. }));
        assert!(acknowledged || !before, "{context}");
        check(channel, Some(records), seen, &context);
        let end = open(&channel.path).unwrap().end_point().unwrap();
        assert!(end.sealed || !acknowledged, "{context}: {end:?}");
        match seal(&channel.path) {
            Ok(_) => assert!(!end.sealed, "{context}"),
            Err(SealError::Ended { .. }) => assert!(end.sealed, "{context}"),
            Err(error) => panic!("{context}: {error}"),
        }
        seen.sealed += 1;
        check(channel, Some(records), seen, &context);
    }
}

/// Removes everything but one channel, to be reused in the next cycle.
fn clear(dir: &Path, found: &[(&Written, u64)]) {
    let largest = found.iter().filter(|(channel, _)| !channel.reused).max_by_key(|(_, records)| *records);
    let kept = dir.join(RETIRED);
    if let Some((channel, _)) = largest {
        std::fs::rename(&channel.path, &kept).unwrap();
    }
    for name in common::names_in(dir) {
        if name != RETIRED && name != "lost+found" {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
    }
}
