//! One writer and 64 readers, for long: the writer fills channel after channel, the readers come, lag and die, and whoever
//! reads sees each record once, in order, as it was appended.
//!
//! ```text
//! process 0    4 readers that read everything from first to last, 12 that come and go; lives to the end
//! process 1-3  16 readers each that come and go; killed every now and then, and started again
//! ```
//!
//! Who comes and goes opens a channel, the newest or the one that will go next, at its beginning, its end, a sequence or its last records,
//! reads for a while with pauses in which the writer runs ahead, crosses into the next channel if there is one, and leaves.
//! A channel behind all that read everything is made into a new one, or removed while some are reading it.

mod common;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::campaign::{Campaign, is_long};
use common::{Child, Numbers};
use kekbit::{Channel, CreateError, Durability, End, OpenError, Reader, Start, State, Wait, Writer};

const TEST: &str = "readers_that_come_and_lag_and_die_see_each_record_once";
const PROCESSES: u64 = 4;
const THREADS: u64 = 16;
/// Readers that read everything.
const THOROUGH: u64 = 4;
/// How many channels the writer may be ahead of them.
const AHEAD: usize = 6;
const LONGEST: usize = 96;

#[test]
fn readers_that_come_and_lag_and_die_see_each_record_once() {
    if let Some((_, arguments)) = common::role() {
        return read_along(&arguments);
    }
    let campaign = Campaign::new("long load");
    let total = campaign.count(200_000, 100_000_000);
    let dir = common::dir();
    let before = Resources::now(dir.path());
    let load = Load::new(&campaign, dir.path(), total);
    let (channels, reused, kills) = load.run();
    let board = Board::open(dir.path());
    let sum = |first| (0..PROCESSES * THREADS).map(|reader| board.word(first + reader)).sum::<u64>();
    for reader in 0..THOROUGH {
        assert_eq!(board.word(Board::READ + reader), total, "reader {reader} has not read everything");
    }
    let (read, visits) = (sum(Board::READ), sum(Board::VISITS));
    assert!(read > THOROUGH * total && visits > PROCESSES * THREADS, "{read} records, {visits} visits");
    drop(board);
    before.assert_given_back(dir.path());
    campaign.done(
        total,
        format!(
            "records past {} readers, {read} read, in {channels} channels ({reused} in reused files), {visits} \
             visits, {kills} processes of {THREADS} readers killed",
            PROCESSES * THREADS
        ),
    );
}

/// The payload of a record: 32 to 96 bytes.
fn payload(sequence: u64, buffer: &mut [u8; LONGEST]) -> &[u8] {
    let mixed = sequence.wrapping_add(0x5EED).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for (i, word) in buffer.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&mixed.rotate_left(5 * i as u32).wrapping_add(sequence).to_le_bytes());
    }
    &buffer[..32 + (mixed >> 40) as usize % (LONGEST - 31)]
}

fn name(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.kek"))
}

/// What all processes write on, word by word.
struct Board(File);

impl Board {
    /// First sequence of the newest channel, and 1.
    const NEWEST: u64 = 0;
    /// Whether the writer is done.
    const DONE: u64 = 1;
    /// Readers that have failed.
    const FAILED: u64 = 2;
    /// Of each reader: records read, and channels opened.
    const READ: u64 = 64;
    const VISITS: u64 = 128;

    fn path(dir: &Path) -> PathBuf {
        dir.join("board")
    }

    fn open(dir: &Path) -> Board {
        Board(File::options().read(true).write(true).open(Board::path(dir)).unwrap())
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
}

/// What a process holds that it could forget to give back.
#[derive(PartialEq, Eq, Debug)]
struct Resources {
    descriptors: usize,
    mapped: usize,
}

impl Resources {
    /// Descriptors of this process, and files of `dir` that it has mapped.
    fn now(dir: &Path) -> Resources {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let dir = dir.to_str().unwrap();
        Resources {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            mapped: maps.lines().filter(|line| line.contains(dir)).count(),
        }
    }

    fn assert_given_back(&self, dir: &Path) {
        assert_eq!(Resources::now(dir), *self);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let own: u64 = own.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(own < 64 << 10, "{own} KiB of memory of its own");
    }
}

/// The writer's side.
struct Load<'t> {
    dir: &'t Path,
    total: u64,
    seed: u64,
    board: Board,
    readers: Vec<Child>,
    numbers: Numbers,
    /// Channels that are there, by first sequence.
    channels: VecDeque<u64>,
    reused: u64,
    kills: u64,
}

impl<'t> Load<'t> {
    fn new(campaign: &Campaign, dir: &'t Path, total: u64) -> Load<'t> {
        File::create(Board::path(dir)).unwrap().set_len(4096).unwrap();
        let mut load = Load {
            dir,
            total,
            seed: campaign.seed(),
            board: Board::open(dir),
            readers: Vec::new(),
            numbers: campaign.numbers(0),
            channels: VecDeque::new(),
            reused: 0,
            kills: 0,
        };
        load.readers = (0..PROCESSES).map(|process| load.start(process)).collect();
        load
    }

    fn start(&self, process: u64) -> Child {
        let life = (self.seed ^ self.kills).to_string();
        let (process, total) = (process.to_string(), self.total.to_string());
        let arguments = [self.dir.to_str().unwrap(), &process, &total, &life];
        let mut child = Child::start(TEST, "readers", &arguments);
        assert_eq!(child.hear(), "here");
        child
    }

    /// Channels, how many of them in reused files, processes killed.
    fn run(mut self) -> (u64, u64, u64) {
        let (capacity, kills) = if is_long() { (64 << 20, 200) } else { (1 << 20, 4) };
        let (mut sequence, mut channels, buffer) = (0, 0, &mut [0; LONGEST]);
        while sequence < self.total {
            let mut writer = self.next_channel(sequence, capacity);
            channels += 1;
            while sequence < self.total && writer.fits(LONGEST) {
                writer.append(payload(sequence, buffer)).unwrap();
                sequence += 1;
                if sequence.is_multiple_of(self.total / kills) {
                    self.kill_one();
                }
            }
            writer.close().unwrap();
        }
        self.board.set(Board::DONE, 1);
        for mut child in self.readers {
            assert_eq!(child.hear_or_end().as_deref(), Some("done"), "a process of readers has failed");
            assert!(child.end().success());
        }
        assert_eq!(
            self.board.word(Board::FAILED),
            0,
            "a reader has failed in a process that was then killed"
        );
        (channels, self.reused, self.kills)
    }

    /// The channel that begins with record `first`, when those who read everything are near enough.
    fn next_channel(&mut self, first: u64, capacity: u64) -> Writer {
        while self.channels.len() >= AHEAD && self.slowest() < self.channels[1] {
            assert_eq!(self.board.word(Board::FAILED), 0, "a reader has failed");
            std::thread::sleep(Duration::from_micros(200));
        }
        let options =
            Writer::options().capacity(capacity).first_sequence(first).durability(Durability::Never);
        let path = name(self.dir, first);
        let mut made = None;
        if self.channels.len() >= AHEAD {
            let oldest = name(self.dir, self.channels.pop_front().unwrap());
            match options.clone().create_from(&oldest, &path) {
                Ok(writer) => made = Some(writer),
                // Somebody is reading it. With its name it loses whoever would come.
                Err(CreateError::InUse { .. }) => std::fs::remove_file(oldest).unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
        self.reused += u64::from(made.is_some());
        let writer = made.unwrap_or_else(|| options.create(&path).unwrap());
        self.channels.push_back(first);
        self.board.set(Board::NEWEST, first + 1);
        writer
    }

    /// Up to where all those have read who read everything.
    fn slowest(&self) -> u64 {
        (0..THOROUGH).map(|reader| self.board.word(Board::READ + reader)).min().unwrap()
    }

    /// Kills a process of readers, wherever it is, and starts another.
    fn kill_one(&mut self) {
        let process = 1 + self.numbers.below(PROCESSES - 1);
        self.kills += 1;
        self.readers[process as usize].kill();
        self.readers[process as usize] = self.start(process);
    }
}

/// A process of readers.
fn read_along(arguments: &[String]) {
    let [dir, process, total, life] = arguments else { panic!("{arguments:?}") };
    let [process, total, life] = [process, total, life].map(|text| text.parse::<u64>().unwrap());
    let dir = Path::new(dir);
    let before = Resources::now(dir);
    common::say("here");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let number = process * THREADS + thread;
            scope.spawn(move || {
                let visitor = Visitor::new(dir, number, total, Numbers(life ^ number << 32));
                if number < THOROUGH { visitor.read_everything() } else { visitor.come_and_go() }
            });
        }
    });
    before.assert_given_back(dir);
    common::say("done");
}

/// One reader. What it has read is noted for whoever takes its place.
struct Visitor<'t> {
    dir: &'t Path,
    board: Board,
    number: u64,
    total: u64,
    numbers: Numbers,
    read: u64,
    visits: u64,
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.board.set(Board::FAILED, self.number + 1);
        }
    }
}

impl<'t> Visitor<'t> {
    fn new(dir: &'t Path, number: u64, total: u64, numbers: Numbers) -> Visitor<'t> {
        let board = Board::open(dir);
        let (read, visits) = (board.word(Board::READ + number), board.word(Board::VISITS + number));
        Visitor { dir, board, number, total, numbers, read, visits }
    }

    fn note(&self) {
        self.board.set(Board::READ + self.number, self.read);
        self.board.set(Board::VISITS + self.number, self.visits);
    }

    /// Opens the channel that begins with record `first`, unless it has been removed.
    fn open(&mut self, first: u64) -> Option<Channel> {
        match Channel::open(name(self.dir, first)) {
            Ok(channel) => {
                assert_eq!(channel.first_sequence(), first);
                self.visits += 1;
                Some(channel)
            }
            Err(OpenError::NotFound { .. } | OpenError::Reused { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads at most `most` records, of which the first is `next`, until the channel ends or there is none for some time.
    /// Returns the next one, and whether the channel has ended.
    fn read(&mut self, reader: &mut Reader, mut next: u64, most: u64, wait: Wait<'_>) -> (u64, bool) {
        let buffer = &mut [0; LONGEST];
        for _ in 0..most {
            match reader.next(wait).unwrap() {
                Some(record) => {
                    assert_eq!(record.sequence(), next, "a gap or a repetition");
                    assert!(
                        record.payload() == payload(next, buffer),
                        "record {next} is not as it was appended"
                    );
                }
                None => {
                    let end = reader.end();
                    assert!(matches!(end, None | Some(End::Closed)), "{end:?} before record {next}");
                    return (next, end.is_some());
                }
            }
            next += 1;
            self.read += 1;
        }
        (next, false)
    }

    fn read_everything(mut self) {
        let mut next = 0;
        while next < self.total {
            let path = name(self.dir, next);
            let channel = Channel::wait_for(&path, common::patience()).unwrap();
            let channel = channel.unwrap_or_else(|| panic!("there is no {}", path.display()));
            self.visits += 1;
            let mut reader = channel.reader(Start::Beginning).unwrap();
            loop {
                let ended;
                (next, ended) = self.read(&mut reader, next, 10_000, common::patience());
                self.note();
                if ended {
                    break;
                }
            }
            assert_eq!(channel.end_point().unwrap().state, State::Closed);
        }
        assert_eq!(next, self.total);
    }

    fn come_and_go(mut self) {
        while self.board.word(Board::DONE) == 0 {
            std::thread::sleep(Duration::from_micros(self.numbers.below(20_000)));
            let Some(newest) = self.board.word(Board::NEWEST).checked_sub(1) else { continue };
            // Few do, so that now and then nobody is in the way of a reuse.
            let older = if self.number % 32 == 31 { self.older() } else { None };
            self.visit(older.unwrap_or(newest));
            self.note();
        }
    }

    /// First sequence of the oldest channel that has a name, which is about to lose it.
    fn older(&self) -> Option<u64> {
        let names = common::names_in(self.dir);
        names.iter().find_map(|name| name.strip_suffix(".kek")?.parse().ok())
    }

    /// Opens the channel that begins with record `first`, reads for a while, and leaves.
    fn visit(&mut self, first: u64) {
        let Some(channel) = self.open(first) else { return };
        let end = channel.end_point().unwrap().sequence;
        let (start, least, most) = match self.numbers.below(5) {
            0 => (Start::Beginning, first, first),
            1 => (Start::End, end, u64::MAX),
            2 => {
                let last = self.numbers.below(1000);
                (Start::Last(last), end.saturating_sub(last).max(first), u64::MAX)
            }
            _ => {
                let sequence = first + self.numbers.below(end - first + 1);
                (Start::Sequence(sequence), sequence, sequence)
            }
        };
        let mut reader = channel.reader(start).unwrap();
        drop(channel);
        let mut next = self.first_record(&mut reader, least, most);
        let visit = 1 << self.numbers.below(if is_long() { 17 } else { 12 });
        let wait = Wait::backoff().at_most(Duration::from_millis(5));
        for _ in 0..1 + self.numbers.below(4) {
            let Some(from) = next else { return };
            let (reached, ended) = self.read(&mut reader, from, visit, wait);
            next = Some(reached);
            if ended {
                let Some(channel) = self.open(reached) else { return };
                reader = channel.reader(Start::Beginning).unwrap();
            }
            std::thread::sleep(Duration::from_micros(self.numbers.below(10_000)));
        }
    }

    /// Reads one record, whose sequence is between `least` and `most`, and returns the one that must be next; `None` if
    /// there is none for some time.
    fn first_record(&mut self, reader: &mut Reader, least: u64, most: u64) -> Option<u64> {
        let wait = Wait::backoff().at_most(Duration::from_millis(5));
        let record = reader.next(wait).unwrap()?;
        let sequence = record.sequence();
        assert!((least..=most).contains(&sequence), "{sequence} instead of {least} to {most}");
        assert!(record.payload() == payload(sequence, &mut [0; LONGEST]), "record {sequence}");
        self.read += 1;
        Some(sequence + 1)
    }
}
