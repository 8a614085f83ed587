//! However many channels a journal has, whoever seeks in it looks at few pages of few files, and finds what a scan finds; and whoever
//! goes on with it looks at its last channel.
//!
//! What is counted: the files of the directory that are opened, as inotify tells, and of each of them the pages that are in memory
//! afterwards, of which none was before: also what the kernel has read ahead. The names in the directory are not to be read at all, since
//! there are many; to look one up, with its inode, is the file system's affair and is not counted.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use common::campaign::Campaign;
use common::{Child, Numbers, bytes, listen, role, say};
use kekbit::{Channel, Durability, Journal, JournalReader, Roll, Start, Timestamp, Writer};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

const CAPACITY: u64 = 10 << 20;
/// Of a seek, with the first record that is read then.
const MOST_PAGES: usize = 64;
const MOST_FILES: usize = 3;
/// Of a channel that is looked at, but not read.
const FEW_PAGES: usize = 8;

/// Forgets what the page cache has of a file.
fn evict(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

/// Pages of the file that are in the page cache.
fn resident(path: &Path) -> usize {
    let file = File::open(path).unwrap();
    if file.metadata().unwrap().len() == 0 {
        return 0;
    }
    let map = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
    let mut pages = vec![0u8; map.len().div_ceil(4096)];
    // SAFETY: the mapping is as long as it says, and there is a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), pages.as_mut_ptr()) };
    assert_eq!(result, 0);
    pages.iter().filter(|page| **page & 1 == 1).count()
}

/// A journal whose files are not in memory, and what becomes of that.
struct Cold {
    journal: PathBuf,
    opened: Inotify,
}

/// What was looked at.
#[derive(Clone, Default, Debug)]
struct Looked {
    /// The names of the files, and how many pages of each.
    files: Vec<(String, usize)>,
    /// Whether the names in the directory were read.
    listed: bool,
}

impl Looked {
    fn pages(&self) -> usize {
        self.files.iter().map(|(_, pages)| pages).sum()
    }

    fn channels(&self) -> Vec<&str> {
        let names = self.files.iter().map(|(name, _)| &**name);
        names.filter(|name| name.ends_with(".kek") && !name.starts_with('.')).collect()
    }

    fn pages_of(&self, wanted: &str) -> usize {
        self.files.iter().find(|(name, _)| name == wanted).map_or(0, |(_, pages)| *pages)
    }
}

impl Cold {
    fn new(journal: &Path) -> Cold {
        for name in common::names_in(journal) {
            evict(&journal.join(name));
        }
        let opened = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        opened.add_watch(journal, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS).unwrap();
        Cold { journal: journal.to_owned(), opened }
    }

    /// What `act` looks at, which is forgotten again if there are no others who need it.
    fn look<T>(&self, act: impl FnOnce() -> T) -> (T, Looked) {
        self.names();
        let done = act();
        let (names, listed) = self.names();
        let files = names.into_iter().filter(|name| self.journal.join(name).is_file());
        let pages = |name: String| {
            let pages = resident(&self.journal.join(&name));
            (name, pages)
        };
        (done, Looked { files: files.map(pages).collect(), listed })
    }

    fn forget(&self, looked: &Looked) {
        for (name, _) in &looked.files {
            let path = self.journal.join(name);
            evict(&path);
            assert_eq!(resident(&path), 0, "{name} is still in memory");
        }
    }

    /// The names of the files that were opened since this was asked for last, and whether the names in the directory were read.
    fn names(&self) -> (BTreeSet<String>, bool) {
        let (mut names, mut listed) = (BTreeSet::new(), false);
        loop {
            match self.opened.read_events() {
                Ok(events) => {
                    for event in events {
                        assert!(!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW), "not all was told");
                        match event.name {
                            Some(name) => drop(names.insert(name.into_string().unwrap())),
                            None => listed |= event.mask.contains(AddWatchFlags::IN_ACCESS),
                        }
                    }
                }
                Err(nix::Error::EAGAIN) => return (names, listed),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// What a scan has found: of each record its time and a checksum of its payload.
struct Scan {
    times: Vec<u64>,
    sums: Vec<u32>,
    /// First sequences of channels that are full, or nearly.
    full: Vec<u64>,
}

impl Scan {
    fn of(journal: &Path) -> Scan {
        let mut scan = Scan { times: Vec::new(), sums: Vec::new(), full: Vec::new() };
        for path in Journal::channels(journal).unwrap() {
            let channel = Channel::open(path).unwrap();
            assert_eq!(channel.first_sequence(), scan.times.len() as u64);
            for record in channel.records() {
                let record = record.unwrap();
                assert_eq!(record.sequence(), scan.times.len() as u64);
                scan.times.push(record.timestamp_nanos().unwrap());
                scan.sums.push(crc32c::crc32c(record.payload()));
            }
            if channel.end_point().unwrap().position.offset() > CAPACITY / 2 {
                scan.full.push(channel.first_sequence());
            }
        }
        scan
    }

    fn len(&self) -> u64 {
        self.times.len() as u64
    }

    /// A record, every other time in a channel that is full.
    fn any(&self, numbers: &mut Numbers) -> u64 {
        if numbers.below(2) == 0 {
            return numbers.below(self.len());
        }
        let of = numbers.below(self.full.len() as u64) as usize;
        let first = self.full[of];
        let begins_behind = |first: u64| self.full.get(of + 1).is_some_and(|next| *next <= first);
        let most = (self.len() - first).min(20_000);
        let chosen = first + numbers.below(most);
        if begins_behind(chosen) { first } else { chosen }
    }

    /// Where to seek to, and the sequence of the first record that is there.
    fn start(&self, numbers: &mut Numbers) -> (Start, u64) {
        let wanted = self.any(numbers);
        if numbers.below(2) == 0 {
            return (Start::Sequence(wanted), wanted);
        }
        let nanos = self.times[wanted as usize] + numbers.below(3) - 1;
        let first = self.times.partition_point(|time| *time < nanos);
        (Start::Time(UNIX_EPOCH + Duration::from_nanos(nanos)), first as u64)
    }

    /// The next record of `reader` is that with the sequence `wanted`; if there is none so far, there is none.
    fn check(&self, reader: &mut JournalReader, wanted: u64) {
        match reader.try_next().unwrap() {
            Some(record) => {
                assert_eq!(record.sequence(), wanted);
                assert_eq!(record.timestamp_nanos(), Some(self.times[wanted as usize]));
                assert_eq!(crc32c::crc32c(record.payload()), self.sums[wanted as usize]);
            }
            None => assert_eq!(wanted, self.len()),
        }
    }
}

/// Writes a journal of so many channels: most have a few hundred short records, one in a hundred is full of long ones, and one of short
/// ones. Their files are as long as the capacity says, with holes.
fn write(journal: &Path, channels: u64, numbers: &mut Numbers) {
    let options = Journal::options().roll(Roll::Bytes(CAPACITY)).stage(Timestamp::nanos());
    let mut writer = options.open(journal).unwrap();
    let long = bytes(numbers.next(), 64 << 10);
    for channel in 0..channels {
        let (most, longest) = match channel % 100 {
            20 => (u64::MAX, 64 << 10),
            70 => (u64::MAX, 300),
            _ => (200 + numbers.below(200), 200),
        };
        let mut count = 0;
        loop {
            let len = numbers.below(longest) as usize;
            let from = numbers.below((long.len() - len) as u64) as usize;
            let at = writer.append(&long[from..from + len]).unwrap();
            count += 1;
            // Just before it would roll by itself.
            if count == most || at.position.offset() + (130 << 10) > CAPACITY {
                break;
            }
        }
        writer.roll().unwrap();
    }
    writer.close().unwrap();
    for path in Journal::channels(journal).unwrap() {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(Channel::open(&path).unwrap().capacity() + (12 << 10)).unwrap();
    }
}

#[test]
fn seeking_in_ten_thousand_channels_looks_at_few_pages_of_three_files() {
    let campaign = Campaign::new("journal seek");
    let (channels, seeks) = (campaign.count(100, 10_000), campaign.count(300, 10_000));
    // On storage: what is in memory cannot be evicted.
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut numbers = campaign.numbers(0);
    write(&journal, channels, &mut numbers);
    let scan = Scan::of(&journal);
    assert_eq!(Journal::channels(&journal).unwrap().len() as u64, channels);
    let cold = Cold::new(&journal);
    let random = Channel::options().random_access(true);
    let mut most = [(0, 0); 2];
    let mut pages = 0;
    for _ in 0..seeks {
        let (start, wanted) = scan.start(&mut numbers);
        let (reader, looked) = cold.look(|| {
            let mut reader = Journal::reader_with(&journal, random.clone()).unwrap();
            reader.seek(start).unwrap();
            scan.check(&mut reader, wanted);
            reader
        });
        drop(reader);
        let by_time = usize::from(matches!(start, Start::Time(_)));
        most[by_time].0 = most[by_time].0.max(looked.files.len());
        most[by_time].1 = most[by_time].1.max(looked.pages());
        pages += looked.pages();
        assert!(looked.files.len() <= MOST_FILES && looked.pages() <= MOST_PAGES, "{start:?}: {looked:?}");
        // What is not there yet may have been given up.
        assert!(!looked.listed || wanted == scan.len(), "{start:?} {wanted} of {}: {looked:?}", scan.len());
        cold.forget(&looked);
    }
    without_the_file_of_times(&journal, &scan, &mut numbers);
    let apparent: u64 =
        Journal::channels(&journal).unwrap().iter().map(|path| path.metadata().unwrap().len()).sum();
    campaign.done(
        seeks,
        format!(
            "seeks in {channels} channels ({} MB, {} records): by sequence at most {} files and {} pages, by time {} and {}, {:.1} \
             pages on average",
            apparent / 1_000_000,
            scan.len(),
            most[0].0,
            most[0].1,
            most[1].0,
            most[1].1,
            pages as f64 / seeks as f64
        ),
    );
}

/// It is derived: without it the same is found, by looking at more.
fn without_the_file_of_times(journal: &Path, scan: &Scan, numbers: &mut Numbers) {
    std::fs::remove_file(journal.join("times")).unwrap();
    for _ in 0..50 {
        let (start, wanted) = scan.start(numbers);
        let mut reader = Journal::reader(journal).unwrap();
        reader.seek(start).unwrap();
        scan.check(&mut reader, wanted);
    }
}

const RESTARTS: &str = "whoever_goes_on_with_a_journal_of_a_thousand_channels_looks_at_the_last";

/// Channels of some ten records, of which each is durable when the next begins, or never.
fn many(policy: &str) -> kekbit::JournalOptions {
    let durability = if policy == "never synced" { Durability::Never } else { Durability::AtEnd };
    Journal::options().channels(Writer::options().durability(durability)).roll(Roll::Bytes(64 << 10))
}

/// Writes so many channels of a journal, each of which has some records.
fn write_many(journal: &Path, channels: u64, policy: &str) -> Journal {
    let mut writer = many(policy).open(journal).unwrap();
    for channel in 0..channels {
        for n in 0..10 {
            writer.append(&bytes(10 * channel + n, 500)).unwrap();
        }
        if channel + 1 < channels {
            writer.roll().unwrap();
        }
    }
    writer
}

#[test]
fn whoever_goes_on_with_a_journal_of_a_thousand_channels_looks_at_the_last() {
    if let Some((_, arguments)) = role() {
        let [journal, channels] = &arguments[..] else { panic!("{arguments:?}") };
        let mut writer = write_many(Path::new(journal), channels.parse().unwrap(), "at end");
        writer.sync().unwrap();
        // Not durable, but in the channel that is being written.
        writer.append(b"the last words").unwrap();
        say("written");
        listen();
        unreachable!("it is killed");
    }
    let campaign = Campaign::new("journal restart");
    let channels = campaign.count(40, 1_000);
    let mut told = Vec::new();
    for way in ["closed", "never synced", "killed"] {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let mut expected = 10 * channels;
        if way == "killed" {
            let arguments = [journal.to_str().unwrap(), &channels.to_string()];
            let mut child = Child::start(RESTARTS, "writer", &arguments);
            assert_eq!(child.hear(), "written");
            child.kill();
            child.end();
            expected += 1;
        } else {
            write_many(&journal, channels, way).close().unwrap();
        }
        let names = common::names_in(&journal);
        let names: Vec<_> = names.iter().filter(|name| name.ends_with(".kek")).collect();
        assert_eq!(names.len() as u64, channels);
        let (last, before) = (names[names.len() - 1], names[names.len() - 2]);
        let cold = Cold::new(&journal);
        let (writer, looked) = cold.look(|| many(way).background(false).open(&journal).unwrap());
        assert_eq!(writer.next_sequence(), expected);
        drop(writer);
        // The last one, the one before if the last was not durable to its end, and the new one.
        let new = format!("{expected:020}.kek");
        let few = [before, last, &new];
        assert!(looked.channels().iter().all(|name| few.contains(&&name.to_string())), "{way}: {looked:?}");
        assert_eq!(looked.channels().contains(&&**before), way == "killed", "{way}: {looked:?}");
        assert!(looked.pages_of(before) <= FEW_PAGES, "{way}: {looked:?}");
        told.push(format!(
            "{way}: {} pages of the last, {} of the one before, 0 of the others",
            looked.pages_of(last),
            looked.pages_of(before)
        ));
    }
    campaign.done(3, format!("journals of {channels} channels opened for writing ({})", told.join("; ")));
}
