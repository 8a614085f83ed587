//! Retention races with readers: the smallest channels roll over and over, two or three of them are kept, and their files are used again
//! or removed, while readers follow, open, lag and die.
//!
//! ```text
//! writer       rolls; with its thread and without, with two channels kept and with three; is opened anew now and then
//! process 0    lives to the end, so that what it forgets to give back adds up
//! process 1-2  killed every now and then, wherever they are, and started again
//! ```
//!
//! Each process has a reader of each kind: one follows; one opens at the beginning, over and over; one opens at a sequence, a time, the
//! last few records or the end; one stands still in the middle of a channel until it has lagged, and goes on. What a record is follows
//! from its sequence. Nothing may be wrong with one, and nothing may go wrong but that a reader has lagged.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use common::campaign::{Campaign, is_long};
use common::{Child, Numbers};
use kekbit::{
    AppendError, Durability, Journal, JournalOptions, JournalReadError, JournalReader, Roll, Stage, Start,
    Timestamp, Wait, Writer,
};

const TEST: &str = "retention_that_races_with_readers_gives_them_right_records_or_tells_them_that_they_lag";
const PROCESSES: u64 = 3;
/// One of each kind in each process.
const KINDS: u64 = 4;
const READERS: u64 = PROCESSES * KINDS;
const LONGEST: u64 = 1000;
/// What a process of readers holds at most: of each reader the channel that it reads, one that it looks at, the directory and the board, and
/// 64 mappings that it keeps.
const MOST_IN_READERS: Held = Held { descriptors: 12 + 4 * KINDS, mapped: 66 * KINDS };

#[test]
fn retention_that_races_with_readers_gives_them_right_records_or_tells_them_that_they_lag() {
    if let Some((_, arguments)) = common::role() {
        return read_along(&arguments);
    }
    let campaign = Campaign::new("journal race");
    let rolls = campaign.count(3_000, 1_000_000);
    let dir = common::dir();
    std::fs::create_dir(journal_in(dir.path())).unwrap();
    let before = Held::now(dir.path());
    let mut race = Race::new(&campaign, dir.path());
    let phases = campaign.count(8, 100);
    for phase in 0..phases {
        race.run(phase, rolls * (phase + 1) / phases);
    }
    let (appended, kills, files, peak) = race.end();
    assert_eq!(Held::now(dir.path()), before, "the writer has not given back what it had");
    let board = Board::open(dir.path());
    let sum = |of: u64, kinds: std::ops::Range<u64>| {
        let readers = (0..READERS).filter(|reader| kinds.contains(&(reader % KINDS)));
        readers.map(|reader| board.word(of + reader)).sum::<u64>()
    };
    let all = 0..KINDS;
    let [read, opened, lagged] = [Board::READ, Board::OPENED, Board::LAGGED].map(|of| sum(of, all.clone()));
    assert!(sum(Board::LAGGED, 3..4) > 0, "who stands still lags");
    assert!(read > opened && opened > 10 * READERS, "{read} records, opened {opened} times");
    let readers = Held { descriptors: board.max(Board::DESCRIPTORS), mapped: board.max(Board::MAPPED) };
    readers.assert_at_most(MOST_IN_READERS);
    campaign.done(
        rolls,
        format!(
            "rolls, {appended} records, {phases} writers; {READERS} readers in {PROCESSES} processes: {opened} times opened, \
             {read} records read, {lagged} times lagged, {kills} processes killed; at most {files} files, {} descriptors and {} \
             mappings in the writer, {} and {} in a process of readers",
            peak.descriptors, peak.mapped, readers.descriptors, readers.mapped
        ),
    );
}

/// The payload of a record.
fn payload(sequence: u64) -> Vec<u8> {
    common::record(sequence, LONGEST)
}

fn journal_in(dir: &Path) -> PathBuf {
    dir.join("journal")
}

/// What all processes write on, word by word.
struct Board(File);

impl Board {
    /// Sequence behind the last record that is surely there, and how often the journal has rolled.
    const NEXT: u64 = 0;
    const ROLLS: u64 = 1;
    /// Whether the writer is done.
    const DONE: u64 = 2;
    /// The reader that has failed, and 1.
    const FAILED: u64 = 3;
    /// Of each process: the most that it has held.
    const DESCRIPTORS: u64 = 8;
    const MAPPED: u64 = 16;
    /// Of each reader: records, opened journals, how often it has lagged.
    const READ: u64 = 64;
    const OPENED: u64 = 128;
    const LAGGED: u64 = 192;

    fn open(dir: &Path) -> Board {
        let path = dir.join("board");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(4096).unwrap();
        Board(file)
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 8 * at).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Each word has one writer at a time.
    fn set(&self, at: u64, word: u64) {
        self.0.write_all_at(&word.to_le_bytes(), 8 * at).unwrap();
    }

    fn is_done(&self) -> bool {
        self.word(Board::DONE) != 0
    }

    fn assert_nobody_failed(&self) {
        assert_eq!(self.word(Board::FAILED), 0, "a reader has failed");
    }

    /// The most of what the processes have noted from `first` on.
    fn max(&self, first: u64) -> u64 {
        (0..PROCESSES).map(|process| self.word(first + process)).max().unwrap()
    }
}

/// What a process holds that it could forget to give back: descriptors, and mapped files of the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Held {
    descriptors: u64,
    mapped: u64,
}

impl Held {
    fn now(dir: &Path) -> Held {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let dir = dir.to_str().unwrap();
        Held {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count() as u64,
            // Files that have been removed are still called by the names that they had.
            mapped: maps.lines().filter(|line| line.contains(dir)).count() as u64,
        }
    }

    fn or_more(self, other: Held) -> Held {
        Held { descriptors: self.descriptors.max(other.descriptors), mapped: self.mapped.max(other.mapped) }
    }

    fn assert_at_most(self, most: Held) {
        let fits = self.descriptors <= most.descriptors && self.mapped <= most.mapped;
        assert!(fits, "{self:?} of at most {most:?}");
    }
}

/// The writer's side.
struct Race<'t> {
    dir: &'t Path,
    board: Board,
    readers: Vec<Child>,
    seed: u64,
    numbers: Numbers,
    sequence: u64,
    rolls: u64,
    kills: u64,
    next_kill: u64,
    peak: Held,
    files: u64,
}

impl<'t> Race<'t> {
    /// What the writer holds at most: lock, times, the channel that is being written, one that is ready, three that are kept and the 16
    /// for which its thread has not had the time yet, of each up to three descriptors, besides the pipes to the readers and what every process
    /// has.
    const MOST: Held = Held { descriptors: 80, mapped: 32 };
    /// The same of the files in the directory.
    const MOST_FILES: u64 = 26;

    fn new(campaign: &Campaign, dir: &'t Path) -> Race<'t> {
        let mut race = Race {
            dir,
            board: Board::open(dir),
            readers: Vec::new(),
            seed: campaign.seed(),
            numbers: campaign.numbers(0),
            sequence: 0,
            rolls: 0,
            kills: 0,
            next_kill: 0,
            peak: Held::default(),
            files: 0,
        };
        race.readers = (0..PROCESSES).map(|process| race.start(process)).collect();
        race
    }

    fn start(&self, process: u64) -> Child {
        let life = (self.seed ^ self.kills).to_string();
        let mut child =
            Child::start(TEST, "readers", &[self.dir.to_str().unwrap(), &process.to_string(), &life]);
        assert_eq!(child.hear(), "here");
        child
    }

    fn options(phase: u64) -> JournalOptions<Stage<Timestamp, ()>> {
        Journal::options()
            .channels(Writer::options().max_record_len(1024).durability(Durability::Never))
            .roll(Roll::Bytes(4096))
            .retain_count(2 + phase / 2 % 2)
            .background(phase.is_multiple_of(2))
            .stage(Timestamp::nanos())
    }

    /// One writer, until the journal has rolled `until` times. Some roll when they like, some when a channel is full.
    fn run(&mut self, phase: u64, until: u64) {
        let mut journal = Race::options(phase).open(journal_in(self.dir)).unwrap();
        assert_eq!(journal.next_sequence(), self.sequence);
        let rolls_by_itself = phase % 8 < 6;
        let mut is_first = true;
        while self.rolls < until {
            let begins = self.append(&mut journal).unwrap();
            if begins && !std::mem::take(&mut is_first) {
                self.rolled();
            }
            self.board.set(Board::NEXT, self.sequence);
            if rolls_by_itself && self.numbers.below(3) > 0 {
                journal.roll().unwrap();
            }
        }
        journal.close().unwrap();
    }

    /// Appends a record, or a few at once; whether a channel begins with it.
    fn append<C: kekbit::Chain>(&mut self, journal: &mut Journal<C>) -> Result<bool, AppendError> {
        let mut count = 1;
        let at = if self.numbers.below(8) == 0 {
            let mut batch = journal.batch();
            count += self.numbers.below(3);
            for n in 0..count {
                batch.push(&common::record(self.sequence + n, LONGEST))?;
            }
            batch.commit()?
        } else {
            journal.append(&payload(self.sequence))?
        };
        assert_eq!(at.sequence, self.sequence);
        self.sequence += count;
        Ok(at.position.offset() == 0)
    }

    fn rolled(&mut self) {
        self.rolls += 1;
        self.board.set(Board::ROLLS, self.rolls);
        if self.rolls > self.next_kill {
            self.kill_one();
            self.next_kill += 1 + self.numbers.below(if is_long() { 4000 } else { 1000 });
        }
        if self.rolls.is_multiple_of(64) {
            self.look_around();
        }
    }

    /// Kills a process of readers, wherever it is, and starts another.
    fn kill_one(&mut self) {
        let process = 1 + self.numbers.below(PROCESSES - 1);
        self.kills += 1;
        self.readers[process as usize].kill();
        self.readers[process as usize] = self.start(process);
    }

    fn look_around(&mut self) {
        self.board.assert_nobody_failed();
        let files = common::names_in(&journal_in(self.dir)).len() as u64;
        self.files = self.files.max(files);
        assert!(self.files <= Race::MOST_FILES, "{files} files of at most {}", Race::MOST_FILES);
        self.peak = self.peak.or_more(Held::now(self.dir));
        self.peak.assert_at_most(Race::MOST);
    }

    /// Records, processes killed, and the most that there was of files and of what the writer held.
    fn end(mut self) -> (u64, u64, u64, Held) {
        self.look_around();
        self.board.set(Board::DONE, 1);
        for mut child in self.readers {
            assert_eq!(child.hear_or_end().as_deref(), Some("done"), "a process of readers has failed");
            assert!(child.end().success());
        }
        self.board.assert_nobody_failed();
        let names = common::names_in(&journal_in(self.dir));
        let (channels, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.ends_with(".kek"));
        assert!((1..=3).contains(&channels.len()), "{channels:?}");
        assert_eq!(others, ["times", "writer.lock"]);
        (self.sequence, self.kills, self.files, self.peak)
    }
}

/// A process of readers.
fn read_along(arguments: &[String]) {
    let [dir, process, life] = arguments else { panic!("{arguments:?}") };
    let [process, life] = [process, life].map(|text| text.parse::<u64>().unwrap());
    let dir = Path::new(dir);
    let before = Held::now(dir);
    common::say("here");
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..KINDS)
            .map(|kind| {
                let number = process * KINDS + kind;
                scope.spawn(move || Visitor::new(dir, number, Numbers(life ^ number << 32)).run())
            })
            .collect();
        watch(dir, process, || readers.iter().all(|reader| reader.is_finished()));
    });
    assert_eq!(Held::now(dir), before, "the readers have not given back what they had");
    common::say("done");
}

/// Notes what this process holds, until `is_over`.
fn watch(dir: &Path, process: u64, is_over: impl Fn() -> bool) {
    let board = Board::open(dir);
    let mut peak = Held {
        descriptors: board.word(Board::DESCRIPTORS + process),
        mapped: board.word(Board::MAPPED + process),
    };
    while !is_over() {
        peak = peak.or_more(Held::now(dir));
        board.set(Board::DESCRIPTORS + process, peak.descriptors);
        board.set(Board::MAPPED + process, peak.mapped);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Which record comes next.
#[derive(Clone, Copy, Debug)]
struct Expected {
    least: u64,
    most: u64,
}

impl Expected {
    fn exactly(sequence: u64) -> Expected {
        Expected { least: sequence, most: sequence }
    }

    fn from(least: u64) -> Expected {
        Expected { least, most: u64::MAX }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// Its sequence.
    Record(u64),
    Nothing,
    Lagged,
}

/// One reader. What it has done is noted for whoever takes its place.
struct Visitor {
    journal: PathBuf,
    board: Board,
    number: u64,
    numbers: Numbers,
    read: u64,
    opened: u64,
    lagged: u64,
    /// Sequence and timestamp of a record.
    seen: Option<(u64, u64)>,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.board.set(Board::FAILED, self.number + 1);
        }
    }
}

impl Visitor {
    fn new(dir: &Path, number: u64, numbers: Numbers) -> Visitor {
        let board = Board::open(dir);
        let [read, opened, lagged] =
            [Board::READ, Board::OPENED, Board::LAGGED].map(|of| board.word(of + number));
        Visitor { journal: journal_in(dir), board, number, numbers, read, opened, lagged, seen: None }
    }

    fn run(self) {
        match self.number % KINDS {
            0 => self.follow(),
            1 => self.again_and_again(Visitor::begin),
            2 => self.again_and_again(Visitor::jump),
            _ => self.again_and_again(Visitor::stand_still),
        }
    }

    fn note(&self) {
        self.board.set(Board::READ + self.number, self.read);
        self.board.set(Board::OPENED + self.number, self.opened);
        self.board.set(Board::LAGGED + self.number, self.lagged);
    }

    fn open(&mut self) -> JournalReader {
        self.opened += 1;
        Journal::reader(&self.journal).unwrap()
    }

    /// Takes the next record, which must be what is `expected`; what comes behind it is what is expected then.
    fn step(&mut self, reader: &mut JournalReader, expected: &mut Expected, wait: Wait<'_>) -> Found {
        let Expected { least, most } = *expected;
        match reader.next(wait) {
            Ok(Some(record)) => {
                let sequence = record.sequence();
                assert!((least..=most).contains(&sequence), "{sequence} instead of {expected:?}");
                assert!(record.payload() == payload(sequence), "record {sequence} is not as it was appended");
                let at = record.timestamp_nanos().unwrap();
                if let Some((_, before)) = self.seen.filter(|seen| seen.0 < sequence) {
                    assert!(before <= at, "the time has gone back at record {sequence}");
                }
                self.seen = Some((sequence, at));
                self.read += 1;
                *expected = Expected::exactly(sequence + 1);
                Found::Record(sequence)
            }
            Ok(None) => Found::Nothing,
            Err(error) => {
                *expected = self.lag(error, *expected);
                // What is said to be left may have gone by now.
                while let Err(error) = reader.seek(Start::Sequence(expected.least)) {
                    *expected = self.lag(error, *expected);
                }
                Found::Lagged
            }
        }
    }

    /// Whoever has lagged goes on with the oldest record.
    fn lag(&mut self, error: JournalReadError, expected: Expected) -> Expected {
        let JournalReadError::Lagged { wanted, oldest } = error else { panic!("{error}") };
        assert!(oldest > wanted, "{wanted} has been given up, but {oldest} has not");
        assert!((expected.least..=expected.most).contains(&wanted), "{wanted} instead of {expected:?}");
        self.lagged += 1;
        Expected::exactly(oldest)
    }

    /// Reads everything that it can get.
    fn follow(mut self) {
        let mut reader = self.open();
        let mut expected = Expected::from(0);
        loop {
            // Before the last look.
            let end = self.board.is_done().then(|| self.board.word(Board::NEXT));
            for _ in 0..1000 {
                if self.step(&mut reader, &mut expected, Wait::backoff().at_most(SOON)) == Found::Nothing {
                    break;
                }
            }
            self.note();
            if end.is_some_and(|end| expected.least >= end) {
                return;
            }
        }
    }

    fn again_and_again(mut self, visit: impl Fn(&mut Visitor)) {
        while !self.board.is_done() {
            visit(&mut self);
            self.note();
        }
    }

    fn read_some(&mut self, reader: &mut JournalReader, mut expected: Expected) {
        for _ in 0..self.numbers.below(12) {
            if self.step(reader, &mut expected, Wait::backoff().at_most(SOON)) == Found::Nothing {
                return;
            }
        }
    }

    fn begin(&mut self) {
        let mut reader = self.open();
        self.read_some(&mut reader, Expected::from(0));
    }

    /// Opens somewhere near the end.
    fn jump(&mut self) {
        let next = self.board.word(Board::NEXT);
        let mut reader = self.open();
        let back = self.numbers.below(30);
        let (start, mut expected) = match self.numbers.below(5) {
            0 => {
                let wanted = (next + 2).saturating_sub(back);
                (Start::Sequence(wanted), Expected::exactly(wanted))
            }
            1 => (Start::Last(back), Expected::from(next.saturating_sub(back))),
            2 => (Start::End, Expected::from(next)),
            3 => return ask(&reader, next),
            _ => return self.jump_to_time(&mut reader),
        };
        match reader.seek(start) {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(start, Start::Sequence(_)), "{start:?}: {error}");
                expected = self.lag(error, expected);
                if reader.seek(Start::Beginning).is_ok() {
                    expected = Expected::from(expected.least);
                }
            }
        }
        self.read_some(&mut reader, expected);
    }

    /// The first record that is not older than one that was seen before is that one, if it is still there.
    fn jump_to_time(&mut self, reader: &mut JournalReader) {
        let Some((sequence, nanos)) = self.seen else { return self.begin() };
        reader.seek(Start::Time(UNIX_EPOCH + Duration::from_nanos(nanos))).unwrap();
        let mut expected = Expected::from(0);
        if let Found::Record(found) = self.step(reader, &mut expected, Wait::backoff().at_most(SOON)) {
            let (_, at) = self.seen.expect("it was seen just now");
            assert!(at >= nanos, "record {found} is older than {nanos}");
            let gone = || reader.oldest_sequence().unwrap().is_some_and(|oldest| oldest > sequence);
            assert!(found <= sequence || gone(), "{found} instead of {sequence}, which is still there");
            self.read_some(reader, expected);
        }
    }

    /// Reads the first record of a channel, and nothing until that channel must have been given up.
    fn stand_still(&mut self) {
        let mut reader = self.open();
        let mut expected = Expected::from(0);
        if self.step(&mut reader, &mut expected, Wait::backoff().at_most(SOON)) == Found::Nothing {
            return;
        }
        let until = self.board.word(Board::ROLLS) + 4 + self.numbers.below(8);
        while self.board.word(Board::ROLLS) < until && !self.board.is_done() {
            std::thread::sleep(Duration::from_micros(200));
        }
        // What is left of the channel that it has open, which nobody may have taken away; and on.
        for _ in 0..20 {
            if self.step(&mut reader, &mut expected, Wait::backoff().at_most(SOON)) == Found::Nothing {
                return;
            }
        }
    }
}

/// How long a reader waits for the next record before it does something else.
const SOON: Duration = Duration::from_millis(5);

/// From the first record on there is always an oldest one, and an end, which is not before the record `next`.
fn ask(reader: &JournalReader, next: u64) {
    if next > 0 {
        assert!(reader.oldest_sequence().unwrap().is_some());
        let end = reader.end_point().unwrap().unwrap().sequence;
        assert!(end >= next, "the end is {end}, and {next} records have been appended");
    }
}
