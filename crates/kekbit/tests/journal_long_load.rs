//! A hundred times as much goes through a journal as it keeps: whoever keeps up reads each byte of it, and what it takes of the disk, of memory,
//! of descriptors and of mappings has a bound.
//!
//! ```text
//! writer           appends, hashes what it appends, and waits for the slowest cursor when that is half of what is kept behind it
//! 4 followers      processes of their own, each with a cursor, hash what they read
//! ```
//!
//! The journal has a file system to itself where mounting is allowed, so that also files that have lost their names are seen.

mod common;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::campaign::{Campaign, is_long};
use common::{Child, GENEROUS, Mount, Numbers, bytes, patience, role, say};
use kekbit::{Durability, Journal, Roll, Writer};
use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const TEST: &str = "followers_that_keep_up_with_a_journal_that_keeps_little_read_each_byte";
const FOLLOWERS: u64 = 4;
const SHORTEST: usize = 64;
const LONGEST: usize = 16 << 10;
/// Mapped bytes of channels that a writer or a reader keeps for the next ones in the same files.
const KEPT_MAPPED: u64 = 256 << 20;

/// Bytes: in all, kept, of a channel, between two looks.
#[derive(Clone, Copy)]
struct Sizes {
    total: u64,
    kept: u64,
    channel: u64,
    mark: u64,
}

impl Sizes {
    fn new() -> Sizes {
        if is_long() {
            Sizes { total: 200_000_000_000, kept: 2_000_000_000, channel: 32 << 20, mark: 16 << 20 }
        } else {
            Sizes { total: 40_000_000, kept: 4_000_000, channel: 256 << 10, mark: 128 << 10 }
        }
    }

    /// How far the writer goes ahead of the slowest follower.
    fn ahead(self) -> u64 {
        self.kept / 2
    }

    /// What channels may take in the directory. Besides what is kept: one that is being written, one that is ready, one that is on its
    /// way from one to the other, and 16 for which the journal's thread has not had the time yet.
    fn most_in_directory(self) -> u64 {
        self.kept + 19 * (self.channel + (64 << 10))
    }

    /// What they may take of the file system: a follower may have files mapped that have been removed.
    fn most_on_disk(self) -> u64 {
        self.most_in_directory() + FOLLOWERS * (self.most_mapped() + self.channel)
    }

    /// What a process keeps mapped.
    fn most_mapped(self) -> u64 {
        KEPT_MAPPED.min(64 * self.channel)
    }
}

#[test]
fn followers_that_keep_up_with_a_journal_that_keeps_little_read_each_byte() {
    if let Some((_, arguments)) = role() {
        return follow(&arguments);
    }
    let campaign = Campaign::new("journal long load");
    let sizes = Sizes::new();
    let place = Place::new(sizes.most_on_disk());
    let mut load = Load::new(&campaign, &place, sizes);
    let written = load.run();
    let read: Vec<_> = load.followers.into_iter().map(Told::of).collect();
    let mut peak = Peak::default();
    for (number, follower) in read.iter().enumerate() {
        assert_eq!(follower.read, written, "follower {number} has read something else");
        peak = peak.or_more(follower.peak);
    }
    load.peak.assert_bounded("the writer", sizes);
    peak.assert_bounded("a follower", sizes);
    assert!(load.disk <= sizes.most_in_directory(), "{} bytes in the directory", load.disk);
    assert!(load.used <= sizes.most_on_disk(), "{} bytes of the file system", load.used);
    campaign.done(
        written.records,
        format!(
            "records, {} MB, through a journal that keeps {} MB in channels of {} MiB: the SHA-256 of the writer and of {FOLLOWERS} \
             followers is {}…; at most {} MB in the directory{}, {} channels in {} files; waited {} times for the slowest. \
             At most, writer: {}; followers: {peak}",
            written.bytes / 1_000_000,
            sizes.kept / 1_000_000,
            sizes.channel as f64 / f64::from(1 << 20),
            &written.hash[..16],
            load.disk / 1_000_000,
            place.used.map_or(String::new(), |_| format!(" and {} MB of the file system", load.used / 1_000_000)),
            load.channels.len(),
            load.inodes.len(),
            load.waits,
            load.peak,
        ),
    );
}

/// Where the journal is: a file system of its own, or a directory of one.
struct Place {
    journal: PathBuf,
    /// What is used of the file system, if it is its own.
    used: Option<fn(&Path) -> u64>,
    _mount: Option<Mount>,
    _dir: Option<TempDir>,
}

impl Place {
    /// With so many bytes.
    fn new(size: u64) -> Place {
        let mount = Mount::memory(TEST, size);
        let dir = mount.is_none().then(common::dir);
        let parent = mount.as_ref().map(|mount| &*mount.path).or(dir.as_ref().map(TempDir::path)).unwrap();
        let used: fn(&Path) -> u64 = |path| {
            let told = statvfs(path).unwrap();
            (told.blocks() - told.blocks_free()) * told.fragment_size()
        };
        Place {
            journal: parent.join("journal"),
            used: mount.as_ref().map(|_| used),
            _mount: mount,
            _dir: dir,
        }
    }
}

/// What was written, or read.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stream {
    records: u64,
    bytes: u64,
    hash: String,
}

/// Puts a stream together, record by record.
#[derive(Default)]
struct Hasher {
    records: u64,
    bytes: u64,
    hash: Sha256,
}

impl Hasher {
    fn add(&mut self, payload: &[u8]) {
        self.records += 1;
        self.bytes += payload.len() as u64;
        self.hash.update(payload);
    }

    fn end(self) -> Stream {
        let hash = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Stream { records: self.records, bytes: self.bytes, hash }
    }
}

/// The most that a process has had, seen every now and then: descriptors, mappings, and memory in KiB, as the kernel calls it.
#[derive(Clone, Copy, Default, Debug)]
struct Peak {
    descriptors: u64,
    mappings: u64,
    /// All that was resident at once, at any time.
    resident: u64,
    own: u64,
    /// Of mapped files; on a file system in memory that is "shared memory".
    of_files: u64,
}

impl Peak {
    fn now() -> Peak {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        Peak {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count() as u64,
            mappings: std::fs::read_to_string("/proc/self/maps").unwrap().lines().count() as u64,
            resident: kib("VmHWM:"),
            own: kib("RssAnon:"),
            of_files: kib("RssFile:") + kib("RssShmem:"),
        }
    }

    fn or_more(self, other: Peak) -> Peak {
        Peak {
            descriptors: self.descriptors.max(other.descriptors),
            mappings: self.mappings.max(other.mappings),
            resident: self.resident.max(other.resident),
            own: self.own.max(other.own),
            of_files: self.of_files.max(other.of_files),
        }
    }

    fn look(&mut self) {
        *self = self.or_more(Peak::now());
    }

    /// However much goes through.
    fn assert_bounded(self, who: &str, sizes: Sizes) {
        // What is kept mapped, and what is just being written or read; 32 MiB for the program and its libraries.
        let of_files = (sizes.most_mapped() + 19 * sizes.channel + (32 << 20)) >> 10;
        assert!(self.own <= 32 << 10 && self.of_files <= of_files, "{who}: {self:?}");
        assert!(self.resident <= of_files + (32 << 10), "{who}: {self:?}");
        assert!(self.descriptors <= 80 && self.mappings <= 200, "{who}: {self:?}");
    }

    fn words(self) -> [u64; 5] {
        [self.descriptors, self.mappings, self.resident, self.own, self.of_files]
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors, {} mappings, {} MiB resident ({} MiB of mapped files, {} MiB its own)",
            self.descriptors,
            self.mappings,
            self.resident >> 10,
            self.of_files >> 10,
            self.own >> 10
        )
    }
}

/// What a follower tells at its end.
struct Told {
    read: Stream,
    peak: Peak,
}

impl Told {
    fn say(&self) {
        let Stream { records, bytes, hash } = &self.read;
        let peak = self.peak.words().map(|word| word.to_string()).join(" ");
        say(format!("{hash} {records} {bytes} {peak}"));
    }

    fn of(mut follower: Child) -> Told {
        let told = follower.hear_or_end().expect("a follower has failed");
        assert!(follower.end().success());
        let (hash, numbers) = told.split_once(' ').unwrap();
        let numbers: Vec<u64> = numbers.split(' ').map(|word| word.parse().unwrap()).collect();
        let [records, bytes, descriptors, mappings, resident, own, of_files] = numbers[..] else {
            panic!("{told}")
        };
        Told {
            read: Stream { records, bytes, hash: hash.to_owned() },
            peak: Peak { descriptors, mappings, resident, own, of_files },
        }
    }
}

/// The writer's side.
struct Load<'t> {
    journal: &'t Path,
    used_of: Option<fn(&Path) -> u64>,
    sizes: Sizes,
    numbers: Numbers,
    writer: Journal,
    followers: Vec<Child>,
    /// Sequences, and how many bytes had been appended before each.
    marks: VecDeque<(u64, u64)>,
    peak: Peak,
    disk: u64,
    used: u64,
    waits: u64,
    channels: BTreeSet<PathBuf>,
    inodes: BTreeSet<u64>,
}

impl<'t> Load<'t> {
    fn new(campaign: &Campaign, place: &'t Place, sizes: Sizes) -> Load<'t> {
        let options = Writer::options().max_record_len(LONGEST as u64).durability(Durability::Never);
        let writer = Journal::options()
            .channels(options)
            .roll(Roll::Bytes(sizes.channel))
            .retain_bytes(sizes.kept)
            .open(&place.journal)
            .unwrap();
        let mut load = Load {
            journal: &place.journal,
            used_of: place.used,
            sizes,
            numbers: campaign.numbers(0),
            writer,
            followers: Vec::new(),
            marks: VecDeque::new(),
            peak: Peak::default(),
            disk: 0,
            used: 0,
            waits: 0,
            channels: BTreeSet::new(),
            inodes: BTreeSet::new(),
        };
        for number in 0..FOLLOWERS {
            let arguments = [place.journal.to_str().unwrap(), &number.to_string()];
            let mut follower = Child::start(TEST, "follower", &arguments);
            assert_eq!(follower.hear(), "here");
            load.followers.push(follower);
        }
        load
    }

    /// Appends everything.
    fn run(&mut self) -> Stream {
        let mut written = Hasher::default();
        let noise = bytes(self.numbers.next(), 2 * LONGEST);
        let mut record = vec![0; LONGEST];
        let mut next_mark = 0;
        while written.bytes < self.sizes.total {
            if written.bytes >= next_mark {
                next_mark += self.sizes.mark;
                self.marks.push_back((written.records, written.bytes));
                self.look_around();
                self.wait_for_followers(written.bytes);
            }
            let word = self.numbers.next();
            let record = &mut record[..SHORTEST + word as usize % (LONGEST - SHORTEST + 1)];
            let from = (word >> 32) as usize % LONGEST;
            record.copy_from_slice(&noise[from..from + record.len()]);
            record[..8].copy_from_slice(&word.to_le_bytes());
            self.writer.append(record).unwrap();
            written.add(record);
        }
        self.look_around();
        written.end()
    }

    /// Waits until the slowest follower is near enough, if it is not.
    fn wait_for_followers(&mut self, bytes: u64) {
        let mut progress = (0, Instant::now());
        loop {
            let slowest = Journal::cursors(self.journal).unwrap().iter().map(|cursor| cursor.sequence).min();
            let slowest = slowest.expect("each follower has a cursor");
            while self.marks.get(1).is_some_and(|(sequence, _)| *sequence <= slowest) {
                self.marks.pop_front();
            }
            if bytes - self.marks[0].1 <= self.sizes.ahead() {
                return;
            }
            self.waits += u64::from(progress.0 == 0);
            if slowest > progress.0 {
                progress = (slowest, Instant::now());
            }
            assert!(progress.1.elapsed() < GENEROUS, "a follower stands still at record {slowest}");
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Notes what this process has, and what there is on the disk.
    fn look_around(&mut self) {
        self.peak.look();
        let mut disk = 0;
        for name in common::names_in(self.journal) {
            let path = self.journal.join(&name);
            // It may go while it is looked at.
            let Ok(metadata) = path.symlink_metadata() else { continue };
            disk += 512 * metadata.blocks();
            if name.ends_with(".kek") {
                self.inodes.insert(metadata.ino());
                self.channels.insert(path);
            }
        }
        self.disk = self.disk.max(disk);
        self.used = self.used.max(self.used_of.map_or(0, |used| used(self.journal)));
    }
}

/// A follower. It knows how much there will be.
fn follow(arguments: &[String]) {
    let [journal, number] = arguments else { panic!("{arguments:?}") };
    let sizes = Sizes::new();
    let mut cursor = Journal::reader(journal).unwrap().cursor(&format!("follower-{number}")).unwrap();
    say("here");
    let mut read = Hasher::default();
    let mut peak = Peak::default();
    let mut next_mark = 0;
    while read.bytes < sizes.total {
        let record = cursor.next(patience()).unwrap().expect("it is appended");
        assert_eq!(record.sequence(), read.records, "a gap or a repetition");
        read.add(&record);
        if read.bytes >= next_mark {
            next_mark += sizes.mark;
            cursor.commit();
            peak.look();
        }
    }
    cursor.commit();
    peak.look();
    Told { read: read.end(), peak }.say();
}
