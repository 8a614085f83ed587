//! When each channel of a journal began, in one file, so that a time is found without opening a channel for each step.
//!
//! ```text
//! 0       8         16      20       32
//! +-------+---------+-------+--------+
//! | first | created | CRC   | zeros  |     one entry a channel, ascending
//! +-------+---------+-------+--------+
//! ```
//!
//! It is derived: what it says is compared with the headers of the channels that it leads to, and whoever finds that it is wrong, or not
//! there, looks at headers instead. So it is never synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::names::{self, TIMES};
use crate::layout::crc::crc32c_padded;
use crate::layout::{put, u64_at};
use crate::sys::file;

const ENTRY: usize = 32;
/// So many entries of channels that have gone may be left, however few there are.
const SLACK: usize = 1024;

/// When a channel began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Began {
    /// Sequence of its first record.
    pub(crate) first: u64,
    /// In nanoseconds since the Unix epoch.
    pub(crate) created: u64,
}

impl Began {
    fn encode(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        put(&mut bytes, 0, self.first.to_le_bytes());
        put(&mut bytes, 8, self.created.to_le_bytes());
        let check = crc32c_padded(&bytes[..16]);
        put(&mut bytes, 16, check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Began> {
        let began = Began { first: u64_at(bytes, 0), created: u64_at(bytes, 8) };
        (began.encode() == *bytes).then_some(began)
    }
}

/// The writer's side. A failure costs speed only, and that of others.
#[derive(Debug)]
pub(crate) struct Times(Option<Told>);

/// The file.
#[derive(Debug)]
struct Told {
    directory: PathBuf,
    file: File,
    entries: usize,
    /// With more of them it is seen which channels have gone.
    most: usize,
}

impl Times {
    /// Tells nobody anything.
    pub(crate) fn none() -> Times {
        Times(None)
    }

    /// Opens the file of the journal in `directory`, whose channels are `names`, and drops what it says of others: of the next channels,
    /// which were there before a crash, and, when there is enough of that, of those that have gone.
    pub(crate) fn open(directory: &Path, names: &[u64], next: u64) -> Times {
        Times(Told::open(directory, names, next).ok())
    }

    /// Tells of a channel that begins.
    pub(crate) fn add(&mut self, began: Began) {
        let Some(told) = &mut self.0 else { return };
        if told.file.write_all(&began.encode()).is_err() {
            // Half an entry would put all behind it out of place.
            self.0 = None;
            return;
        }
        told.entries += 1;
        if told.entries > told.most {
            told.drop_gone(began.first + 1);
        }
    }
}

impl Told {
    fn open(directory: &Path, names: &[u64], next: u64) -> io::Result<Told> {
        let path = directory.join(TIMES);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path)?;
        let known = entries(&file)?;
        let oldest = names.first().copied().unwrap_or(next);
        let kept: Vec<_> = known.iter().filter(|began| (oldest..next).contains(&began.first)).collect();
        let most = 2 * kept.len() + SLACK;
        let behind = known.last().is_some_and(|last| last.first >= next);
        let whole = file.metadata()?.len() == (known.len() * ENTRY) as u64;
        let mut entries = known.len();
        if !whole || behind || entries > most {
            let place = file::temporary_name(&path)?;
            let replaced =
                fs::write(&place, kept.iter().flat_map(|began| began.encode()).collect::<Vec<_>>())
                    .and_then(|()| fs::rename(&place, &path));
            if let Err(error) = replaced {
                let _ = fs::remove_file(&place);
                return Err(error);
            }
            file = OpenOptions::new().append(true).custom_flags(flags).open(&path)?;
            entries = kept.len();
        }
        Ok(Told { directory: directory.to_owned(), file, entries, most })
    }

    /// Forgets the channels that have gone, if they are many; those that are there are before `next`.
    fn drop_gone(&mut self, next: u64) {
        let renewed =
            names::list(&self.directory).and_then(|names| Told::open(&self.directory, &names, next));
        match renewed {
            Ok(told) => *self = told,
            // It grows, until that succeeds.
            Err(_) => self.most *= 2,
        }
    }
}

/// The valid entries before the first that is not.
fn entries(file: &File) -> io::Result<Vec<Began>> {
    let mut bytes = vec![0; file.metadata()?.len() as usize / ENTRY * ENTRY];
    let read = file::read_at(file, &mut bytes, 0)?;
    Ok(bytes[..read / ENTRY * ENTRY].chunks_exact(ENTRY).map_while(Began::decode).collect())
}

/// The last channel for which `is_before` is true, and the one behind it, as far as they are told of; it must be true of all earlier ones
/// if it is of a later one. `None` if nothing can be said.
pub(crate) fn around(
    directory: &Path,
    is_before: impl Fn(&Began) -> bool,
) -> Option<(Option<Began>, Option<Began>)> {
    let file = file::open(&directory.join(TIMES), false).ok()?;
    file::expect_random(&file).ok()?;
    let count = file.metadata().ok()?.len() / ENTRY as u64;
    let entry = |at: u64| {
        let mut bytes = [0; ENTRY];
        let read = file::read_at(&file, &mut bytes, at * ENTRY as u64).ok()?;
        if read == ENTRY { Began::decode(&bytes) } else { None }
    };
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(&entry(middle)?) { low = middle + 1 } else { high = middle }
    }
    let before = if low > 0 { Some(entry(low - 1)?) } else { None };
    let behind = if low < count { Some(entry(low)?) } else { None };
    Some((before, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(n: u64) -> Began {
        Began { first: 10 * n, created: 1000 * n }
    }

    fn older_than(directory: &Path, nanos: u64) -> Option<(Option<Began>, Option<Began>)> {
        around(directory, |began| began.created < nanos)
    }

    fn first(began: Option<Began>) -> Option<u64> {
        began.map(|began| began.first)
    }

    #[test]
    fn a_time_is_found_between_two_entries() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(older_than(dir.path(), 0), None);
        let mut times = Times::open(dir.path(), &[], 0);
        assert_eq!(older_than(dir.path(), 0), Some((None, None)));
        (0..100).for_each(|n| times.add(began(n)));
        for (nanos, before, behind) in [
            (0, None, Some(0)),
            (1, Some(0), Some(10)),
            (1000, Some(0), Some(10)),
            (1001, Some(10), Some(20)),
            (50_500, Some(500), Some(510)),
            (99_001, Some(990), None),
            (u64::MAX, Some(990), None),
        ] {
            let found = older_than(dir.path(), nanos).unwrap();
            assert_eq!((first(found.0), first(found.1)), (before, behind), "{nanos}");
        }
    }

    #[test]
    fn what_is_damaged_says_nothing_and_is_dropped_by_the_next_writer() {
        let dir = tempfile::tempdir().unwrap();
        let mut times = Times::open(dir.path(), &[], 0);
        (0..100).for_each(|n| times.add(began(n)));
        let path = dir.path().join(TIMES);
        let mut bytes = fs::read(&path).unwrap();
        bytes[50 * ENTRY + 3] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(older_than(dir.path(), 50_500), None);
        let names: Vec<_> = (0..100).map(|n| 10 * n).collect();
        let mut times = Times::open(dir.path(), &names, 1000);
        times.add(began(100));
        assert_eq!(fs::read(&path).unwrap().len(), 51 * ENTRY);
        assert_eq!(first(older_than(dir.path(), u64::MAX).unwrap().0), Some(1000));
        // Half an entry, too.
        fs::write(&path, &bytes[..7 * ENTRY + 5]).unwrap();
        drop(Times::open(dir.path(), &names, 1000));
        assert_eq!(fs::read(&path).unwrap().len(), 7 * ENTRY);
    }

    #[test]
    fn what_has_gone_is_dropped_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut times = Times::open(dir.path(), &[], 0);
        for n in 0..5000 {
            // Three of them are there at a time.
            fs::write(names::channel_path(dir.path(), 10 * n), []).unwrap();
            if n >= 3 {
                fs::remove_file(names::channel_path(dir.path(), 10 * (n - 3))).unwrap();
            }
            times.add(began(n));
            if n % 10 == 0 {
                let len = fs::metadata(dir.path().join(TIMES)).unwrap().len() as usize;
                assert!(len <= (SLACK + 10) * ENTRY, "{len} bytes for three channels");
                assert_eq!(first(older_than(dir.path(), u64::MAX).unwrap().0), Some(10 * n));
            }
        }
    }

    #[test]
    fn what_is_told_of_others_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let told: Vec<_> = (0..3000).flat_map(|n| began(n).encode()).collect();
        fs::write(dir.path().join(TIMES), told).unwrap();
        let count = || fs::read(dir.path().join(TIMES)).unwrap().len() / ENTRY;
        // Few have gone.
        drop(Times::open(dir.path(), &[5000], 30_000));
        assert_eq!(count(), 3000);
        // What comes next was there before a crash.
        drop(Times::open(dir.path(), &[0], 29_000));
        assert_eq!(count(), 2900);
        drop(Times::open(dir.path(), &[28_000], 29_000));
        assert_eq!(count(), 100);
    }
}
