//! A journal that is written by one process after another, each of which dies, and followed by two with named cursors.
//!
//! ```text
//! life:      0           1        2            a process that opens the journal and appends until it dies
//! records:   0 ... 317 | 318 .. | 400 ...      what each is follows from the seed, its life and its sequence
//! ```
//!
//! Records come in groups, most of them of one, others batches. Writers and followers note what they are about to do and what
//! they have done in a file of its own, so that it is true after their death. A record tells its life, so that one that was
//! lost and written anew does not pass for the first.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::error::Error;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kekbit::{
    AppendError, Appended, Durability, Journal, JournalOptions, JournalReadError, JournalReader, NamedCursor,
    ReadOptions, Roll, Start, Wait,
};

use crate::common::{Child, Numbers, bytes, say, word_at};

/// Names of the cursors.
pub(crate) const FOLLOWERS: [&str; 2] = ["first", "second"];

/// One word of the notes. Each has one process that writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    /// The sequence behind the group that the writer is about to append.
    Intended,
    /// The sequence behind the last group for which it was told that it is appended.
    Appended,
    /// The same of those that are durable.
    Durable,
    /// In how many channels it has appended, in all lives.
    Begun,
    /// What a follower is done with, before it commits it.
    Processed(usize),
    /// What it has committed.
    Committed(usize),
    /// What it has committed and synced.
    Synced(usize),
    /// How often it was overtaken.
    Lagged(usize),
    /// How many processes have come upon what must not be.
    Failed,
}

impl Note {
    const COUNT: u64 = 13;

    fn at(self) -> u64 {
        8 * match self {
            Note::Intended => 0,
            Note::Appended => 1,
            Note::Durable => 2,
            Note::Failed => 3,
            Note::Processed(follower) => 4 + follower as u64,
            Note::Committed(follower) => 6 + follower as u64,
            Note::Synced(follower) => 8 + follower as u64,
            Note::Lagged(follower) => 10 + follower as u64,
            Note::Begun => 12,
        }
    }
}

/// What the processes of a journal have noted.
#[derive(Debug)]
pub(crate) struct Notes {
    file: File,
    pub(crate) path: PathBuf,
}

impl Notes {
    pub(crate) fn create(path: PathBuf) -> Notes {
        std::fs::write(&path, vec![0; 8 * Note::COUNT as usize]).unwrap();
        Notes::open(path)
    }

    pub(crate) fn open(path: impl Into<PathBuf>) -> Notes {
        let path = path.into();
        Notes { file: File::options().read(true).write(true).open(&path).unwrap(), path }
    }

    pub(crate) fn set(&self, note: Note, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), note.at()).unwrap();
    }

    pub(crate) fn get(&self, note: Note) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, note.at()).unwrap();
        u64::from_le_bytes(word)
    }

    /// All of them as they are now.
    pub(crate) fn all(&self) -> Noted {
        let mut words = [0; 8 * Note::COUNT as usize];
        self.file.read_exact_at(&mut words, 0).unwrap();
        Noted(words)
    }

    /// In a process that goes on until the journal's file system stops: something else has stopped it, if it has not been.
    pub(crate) fn failed(&self, what: &str) {
        let _ = std::fs::write(self.path.with_extension("failed"), what);
        self.set(Note::Failed, 1);
    }

    /// What it was.
    pub(crate) fn failure(&self) -> String {
        std::fs::read_to_string(self.path.with_extension("failed")).unwrap_or_default()
    }
}

/// What was noted at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted([u8; 8 * Note::COUNT as usize]);

impl Noted {
    pub(crate) fn get(&self, note: Note) -> u64 {
        word_at(&self.0, note.at() as usize)
    }
}

/// How a journal is opened in all its lives. Follows from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) capacity: u64,
    pub(crate) durability: Durability,
    /// Channels, or bytes of them, that are kept.
    pub(crate) count: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) for_cursors: bool,
    pub(crate) background: bool,
    /// Whether the writer goes on although a follower is about to be overtaken.
    pub(crate) may_overtake: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64, durabilities: &[Durability]) -> Plan {
        let mut numbers = Numbers(seed ^ 0x0914);
        let capacity = (64 << 10) << [0, 0, 0, 1, 2, 4][numbers.below(6) as usize];
        let durability = durabilities[numbers.below(durabilities.len() as u64) as usize];
        let for_cursors = numbers.below(2) == 0;
        let channels = if for_cursors { 1 + numbers.below(3) } else { 3 + numbers.below(4) };
        let by_bytes = numbers.below(2) == 0;
        Plan {
            seed,
            capacity,
            durability,
            count: (!by_bytes).then_some(channels),
            bytes: by_bytes.then_some((channels + 1) * (capacity + (16 << 10))),
            for_cursors,
            background: numbers.below(4) > 0,
            may_overtake: !for_cursors && numbers.below(2) == 0,
        }
    }

    pub(crate) fn options(&self) -> JournalOptions {
        let mut options = Journal::options()
            .roll(Roll::Bytes(self.capacity))
            .durability(self.durability)
            .retain_for_cursors(self.for_cursors)
            .background(self.background);
        if let Some(count) = self.count {
            options = options.retain_count(count);
        }
        if let Some(bytes) = self.bytes {
            options = options.retain_bytes(bytes);
        }
        options
    }

    /// Whether a follower can do with what is durable: it is not waited for when nobody is there to make it so.
    pub(crate) fn reads_durable(&self) -> bool {
        self.durability != Durability::Never && (self.for_cursors || self.may_overtake)
    }

    /// How far the writer may be ahead of what the followers have committed. What is kept in any case is longer, or it is
    /// not to fill the disk.
    pub(crate) fn window(&self) -> u64 {
        match (self.for_cursors, self.may_overtake) {
            (true, _) => 20_000,
            (_, true) => u64::MAX,
            // So many are in each channel, as long as they may be.
            _ => self.capacity / 640,
        }
    }
}

/// The record `sequence` of a group of `count` that begins with `first`, written by the life `life`.
fn record(seed: u64, [sequence, life, first, count]: [u64; 4]) -> Vec<u8> {
    let key = Numbers(seed ^ sequence.wrapping_mul(0xA076_1D64_78BD_642F) ^ life << 48).next();
    let mut record: Vec<u8> =
        [sequence, life, first, count].iter().flat_map(|word| word.to_le_bytes()).collect();
    record.extend(bytes(key, (key >> 32) as usize % 400));
    record
}

/// Where a record belongs, by its own words; its bytes are what was written there.
fn check_record(seed: u64, sequence: u64, found: &[u8]) -> [u64; 4] {
    assert!(found.len() >= 32, "record {sequence} has {} bytes", found.len());
    let words = std::array::from_fn(|i| word_at(found, 8 * i));
    let [told, _, first, count] = words;
    assert_eq!(told, sequence, "it is another record: {words:?}");
    assert!((first..first + count).contains(&sequence), "it is of no such group: {words:?}");
    assert!(found == record(seed, words), "record {sequence} is not what was written: {words:?}");
    words
}

/// One process that writes the journal.
#[derive(Debug)]
pub(crate) struct Life<'n> {
    pub(crate) plan: Plan,
    pub(crate) life: u64,
    pub(crate) notes: &'n Notes,
}

impl Life<'_> {
    /// Appends a group, in one of the ways that there are; the last of its records, and the sequence behind.
    pub(crate) fn append(&self, journal: &mut Journal) -> Result<(Appended, u64), AppendError> {
        let first = journal.next_sequence();
        let mut numbers = Numbers(self.plan.seed ^ first ^ self.life << 40);
        numbers.next();
        let way = numbers.below(8);
        let count = if way < 2 { 2 + numbers.below(5) } else { 1 };
        self.notes.set(Note::Intended, first + count);
        let one = record(self.plan.seed, [first, self.life, first, count]);
        let appended = match way {
            0 | 1 => {
                let mut batch = journal.batch();
                for sequence in first..first + count {
                    batch.push(&record(self.plan.seed, [sequence, self.life, first, count]))?;
                }
                batch.commit()?
            }
            2 => journal.append_with(one.len() + 9, |space| {
                space[..one.len()].copy_from_slice(&one);
                one.len()
            })?,
            3 => {
                let mut claim = journal.claim(one.len() + 100)?;
                claim.fill(0xEE);
                claim[..one.len()].copy_from_slice(&one);
                claim.commit(one.len())?
            }
            _ => journal.append(&one)?,
        };
        assert_eq!(journal.next_sequence(), first + count);
        self.notes.set(Note::Appended, first + count);
        if appended.position.offset() == 0 {
            self.notes.set(Note::Begun, self.notes.get(Note::Begun) + 1);
        }
        Ok((appended, first + count))
    }

    /// Whether the followers are close enough for the next group.
    pub(crate) fn may_go_on(&self, next: u64) -> bool {
        let window = self.plan.window();
        (0..FOLLOWERS.len()).all(|i| next <= self.notes.get(Note::Committed(i)).saturating_add(window))
    }
}

/// What is in a journal: sequences without a gap or a repeat, each record what its life wrote, groups whole. `lives` are the
/// first sequences of the lives so far. `live`: a writer may be giving up the oldest meanwhile. Returns the sequences.
pub(crate) fn check_all(
    mut reader: JournalReader,
    seed: u64,
    lives: &[u64],
    live: bool,
    context: &str,
) -> Range<u64> {
    let (mut found, mut end_of_group) = (None::<Range<u64>>, 0);
    loop {
        let record = match reader.try_next() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(JournalReadError::Lagged { .. }) if live => {
                reader.seek(Start::Beginning).unwrap();
                found = None;
                continue;
            }
            Err(error) => panic!("{context}: {error}"),
        };
        let sequence = record.sequence();
        let [_, life, first, count] = check_record(seed, sequence, &record);
        let range = found.get_or_insert(sequence..sequence);
        assert_eq!(sequence, range.end, "{context}: a gap or a repeat");
        if sequence == range.start {
            end_of_group = sequence;
        }
        let begins = if sequence == end_of_group { sequence } else { end_of_group - count };
        assert_eq!(begins, first, "{context}: part of a batch");
        let writer = lives.partition_point(|begun| *begun <= sequence) as u64 - 1;
        assert_eq!(life, writer, "{context}: record {sequence} was written by another life of {lives:?}");
        (range.end, end_of_group) = (sequence + 1, first + count);
    }
    let next = reader.sequence();
    let found = found.unwrap_or(next..next);
    assert_eq!(found.end, next, "{context}");
    assert!(found.is_empty() || end_of_group == next, "{context}: part of a batch at the end, {next}");
    found
}

/// What a follower is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Following<'a> {
    pub(crate) path: &'a Path,
    pub(crate) notes: &'a Notes,
    pub(crate) seed: u64,
    pub(crate) index: usize,
    /// Whether it reads only what is durable.
    pub(crate) durable: bool,
    /// Whether it may be overtaken.
    pub(crate) may_lag: bool,
}

impl Following<'_> {
    /// Starts a process that runs the role `follower` of `test`.
    pub(crate) fn start(&self, test: &str) -> Child {
        let flags = [self.durable, self.may_lag].map(|flag| u64::from(flag).to_string());
        let (seed, index) = (self.seed.to_string(), self.index.to_string());
        let mut arguments =
            vec![self.path.to_str().unwrap(), self.notes.path.to_str().unwrap(), &seed, &index];
        arguments.extend(flags.iter().map(String::as_str));
        Child::start(test, "follower", &arguments)
    }

    /// In that process.
    pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
        let [path, notes, seed, index, durable, may_lag] = arguments else { panic!("{arguments:?}") };
        let flag = |text: &String| text == "1";
        let following = Following {
            path: Path::new(path),
            notes: &Notes::open(notes),
            seed: seed.parse()?,
            index: index.parse()?,
            durable: flag(durable),
            may_lag: flag(may_lag),
        };
        following.follow()
    }

    /// Follows from where its cursor is, until it is killed: says where that is, checks each record, notes it, and commits now
    /// and then.
    fn follow(&self) -> Result<(), Box<dyn Error>> {
        let index = self.index;
        let mut reader = Journal::reader(self.path)?;
        reader.set_durable(self.durable);
        let mut cursor = reader.cursor(FOLLOWERS[index])?;
        let mut next = cursor.committed();
        let (low, high) = (self.notes.get(Note::Committed(index)), self.notes.get(Note::Processed(index)));
        assert!(
            (low..=high).contains(&next),
            "cursor {index} is at {next}; committed was {low}, processed {high}"
        );
        self.notes.set(Note::Committed(index), next);
        self.notes.set(Note::Processed(index), next);
        say(next);
        let mut numbers = Numbers(self.seed ^ next ^ index as u64);
        // Some do so seldom, so that a crash takes them far back.
        let synced_of = [4, 64, 1024][numbers.below(3) as usize];
        let mut life = 0;
        loop {
            match cursor.next(Wait::backoff().at_most(Duration::from_millis(1))) {
                Ok(Some(found)) => {
                    assert_eq!(found.sequence(), next, "a gap or a repeat for follower {index}");
                    let [_, writer, ..] = check_record(self.seed, next, &found);
                    assert!(writer >= life, "record {next} of life {writer} behind one of life {life}");
                    (next, life) = (next + 1, writer);
                    self.notes.set(Note::Processed(index), next);
                    if numbers.below(16) == 0 {
                        self.commit(&mut cursor, next, &mut numbers, synced_of)?;
                    }
                }
                // Whoever waits for it need not wait for ever.
                Ok(None) => self.commit(&mut cursor, next, &mut numbers, synced_of)?,
                Err(JournalReadError::Lagged { wanted, oldest }) if self.may_lag => {
                    assert!(wanted == next && oldest > next, "{wanted}, {oldest}, at {next}");
                    next = cursor.skip_to_oldest()?;
                    assert!(next > wanted, "{next} after {wanted}");
                    self.notes.set(Note::Processed(index), next);
                    self.notes.set(Note::Lagged(index), self.notes.get(Note::Lagged(index)) + 1);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Commits what is processed, at times in two steps, and one of so many times for good.
    fn commit(
        &self,
        cursor: &mut NamedCursor,
        next: u64,
        numbers: &mut Numbers,
        synced_of: u64,
    ) -> Result<(), Box<dyn Error>> {
        if cursor.committed() == next {
            return Ok(());
        }
        if numbers.below(4) == 0 {
            cursor.commit_to(next - 1);
        }
        cursor.commit();
        assert_eq!(cursor.committed(), next);
        self.notes.set(Note::Committed(self.index), next);
        if numbers.below(synced_of) == 0 {
            cursor.sync()?;
            self.notes.set(Note::Synced(self.index), next);
        }
        Ok(())
    }
}

/// The journal at `path`, as options for opening its channels say.
pub(crate) fn open(path: &Path, options: ReadOptions) -> JournalReader {
    Journal::reader_with(path, options).unwrap()
}

/// Where the cursors are, by what their files say.
pub(crate) fn cursors(path: &Path) -> [u64; FOLLOWERS.len()] {
    let found = Journal::cursors(path).unwrap();
    assert!(found.iter().map(|cursor| &*cursor.name).eq(FOLLOWERS), "{found:?}");
    std::array::from_fn(|i| found[i].sequence)
}
