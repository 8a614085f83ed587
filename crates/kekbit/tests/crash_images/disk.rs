//! A disk that remembers what it was told to keep: this test program has its own `msync`, `fsync` and `fdatasync`, which
//! the library is linked to. None of them writes anything to a real disk. For a file that is watched they note which
//! pages are durable now, as they stood when the call began; that is all that a sync promises.
//!
//! ```text
//! pages that a sync has covered    durable: as when that sync began, or any later version
//! pages that were written since    any version since, mixed by sectors
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc::{c_int, c_void};

use crate::common::Numbers;

const PAGE: usize = 4096;
/// The least that a disk writes at once.
pub(crate) const SECTOR: usize = 512;

type Key = (u64, u64);

/// What is watched, and of a file that is not: what syncs have made durable, an `fsync` all of it, an `msync` a part.
static WATCHED: LazyLock<Mutex<HashMap<Key, Arc<Disk>>>> = LazyLock::new(Mutex::default);
static SYNCED: LazyLock<Mutex<HashMap<Key, Vec<u8>>>> = LazyLock::new(Mutex::default);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // One failed scene must not fail all the others.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A moment at which the machine may crash.
#[derive(Debug)]
pub(crate) struct Moment {
    /// Position up to which somebody had been told that everything is durable.
    pub(crate) acknowledged: u64,
    /// Position up to which everything had been published.
    pub(crate) published: u64,
    /// Whether somebody had been told that the end of the channel is durable.
    pub(crate) ended: bool,
    /// The file as the disk must have it, but for newer versions of its sectors, and as it stands in memory.
    pub(crate) durable: Vec<u8>,
    pub(crate) current: Vec<u8>,
    /// When each page became durable, and how the file looked at times in between.
    durable_since: Vec<u64>,
    versions: Vec<(u64, Arc<Vec<u8>>)>,
}

impl Moment {
    /// One unit of a file, which reads as zeros past its end.
    pub(crate) fn unit(file: &[u8], at: usize, unit: usize) -> Vec<u8> {
        let begin = (at * unit).min(file.len());
        let mut bytes = file[begin..(begin + unit).min(file.len())].to_vec();
        bytes.resize(unit, 0);
        bytes
    }

    /// The versions of a unit between the durable one and the current one, neither of which they equal.
    pub(crate) fn stale(&self, at: usize, unit: usize) -> Vec<Vec<u8>> {
        let since = self.durable_since.get(at * unit / PAGE).copied().unwrap_or(0);
        let ends = [&self.durable, &self.current].map(|file| Moment::unit(file, at, unit));
        let stale = self.versions.iter().filter(|(time, _)| *time >= since);
        let units = stale.map(|(_, file)| Moment::unit(file, at, unit));
        units.filter(|bytes| !ends.contains(bytes)).collect()
    }

    /// The units that the disk may have otherwise than it must.
    pub(crate) fn dirty(&self, unit: usize) -> Vec<usize> {
        let len = self.durable.len().max(self.current.len());
        let differs = |&at: &usize| {
            Moment::unit(&self.durable, at, unit) != Moment::unit(&self.current, at, unit)
                || !self.stale(at, unit).is_empty()
        };
        (0..len.div_ceil(unit)).filter(differs).collect()
    }
}

/// What the disk has of one file.
#[derive(Debug)]
pub(crate) struct Disk {
    key: Key,
    file: File,
    /// How long a sync takes, in which other threads go on.
    pause: Duration,
    acknowledged: AtomicU64,
    published: AtomicU64,
    ended: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    durable: Vec<u8>,
    durable_since: Vec<u64>,
    versions: Vec<(u64, Arc<Vec<u8>>)>,
    time: u64,
    /// A choice of all moments that there were, each as likely as the others.
    moments: Vec<Moment>,
    seen: u64,
    most: u64,
    numbers: Numbers,
}

/// How many versions are remembered.
const VERSIONS: usize = 5;

impl Disk {
    /// Watches the file at `path`, which has just been created: what the syncs of its creation saw is durable. Of a reused
    /// file's old content the disk may have what it had, or what is there now. Remembers at most `most` moments.
    pub(crate) fn watch_new(path: &Path, most: u64, pause: Duration, numbers: Numbers) -> Watch {
        let file = File::open(path).unwrap();
        let durable = locked(&SYNCED).remove(&key(&file)).expect("creating a channel syncs its file");
        let watch = Disk::watch(file, durable, most, pause, numbers);
        watch.remember();
        watch
    }

    /// Watches the file at `path`, which is as the disk has it.
    pub(crate) fn watch_image(path: &Path, most: u64, numbers: Numbers) -> Watch {
        let file = File::open(path).unwrap();
        let durable = content(&file);
        Disk::watch(file, durable, most, Duration::ZERO, numbers)
    }

    fn watch(file: File, durable: Vec<u8>, most: u64, pause: Duration, numbers: Numbers) -> Watch {
        let key = key(&file);
        let durable_since = vec![0; durable.len().div_ceil(PAGE)];
        let kept = Kept {
            durable,
            durable_since,
            versions: Vec::new(),
            time: 1,
            moments: Vec::new(),
            seen: 0,
            most,
            numbers,
        };
        let disk = Arc::new(Disk {
            key,
            file,
            pause,
            acknowledged: AtomicU64::new(0),
            published: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            kept: Mutex::new(kept),
        });
        assert!(locked(&WATCHED).insert(key, Arc::clone(&disk)).is_none());
        Watch(disk)
    }

    /// Somebody was told that everything up to `position` is durable.
    pub(crate) fn acknowledge(&self, position: u64) {
        self.acknowledged.fetch_max(position, Ordering::SeqCst);
    }

    /// Everything up to `position` has been published.
    pub(crate) fn publish(&self, position: u64) {
        self.published.fetch_max(position, Ordering::SeqCst);
    }

    /// Somebody was told that the end of the channel is durable.
    pub(crate) fn end(&self) {
        self.ended.store(1, Ordering::SeqCst);
    }

    /// Remembers how the file looks now, between two other times.
    pub(crate) fn remember(&self) {
        let kept = &mut *locked(&self.kept);
        kept.time += 1;
        let version = (kept.time, Arc::new(content(&self.file)));
        if kept.versions.len() < VERSIONS {
            kept.versions.push(version);
        } else {
            let at = kept.numbers.below(VERSIONS as u64) as usize;
            kept.versions[at] = version;
        }
    }

    /// The machine may crash now.
    pub(crate) fn may_crash(&self) {
        self.choose(&mut locked(&self.kept));
    }

    /// The machine crashes now.
    pub(crate) fn crash(&self) -> Moment {
        self.moment(&locked(&self.kept))
    }

    pub(crate) fn moments(&self) -> Vec<Moment> {
        std::mem::take(&mut locked(&self.kept).moments)
    }

    fn choose(&self, kept: &mut Kept) {
        kept.seen += 1;
        let place = if kept.seen <= kept.most { kept.seen - 1 } else { kept.numbers.below(kept.seen) };
        if place < kept.most {
            let moment = self.moment(kept);
            if place as usize == kept.moments.len() {
                kept.moments.push(moment);
            } else {
                kept.moments[place as usize] = moment;
            }
        }
    }

    fn moment(&self, kept: &Kept) -> Moment {
        // What was promised first, then what there is: that can only be more.
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        let published = self.published.load(Ordering::SeqCst);
        let ended = self.ended.load(Ordering::SeqCst) != 0;
        Moment {
            acknowledged,
            published,
            ended,
            durable: kept.durable.clone(),
            current: content(&self.file),
            durable_since: kept.durable_since.clone(),
            versions: kept.versions.clone(),
        }
    }

    /// A sync of `[from, to)` of the file, in the middle of which the machine may crash.
    fn sync(&self, from: usize, to: usize) {
        let kept = &mut *locked(&self.kept);
        kept.time += 1;
        let began = kept.time;
        let seen = content(&self.file);
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        self.choose(kept);
        kept.time += 1;
        kept.durable.resize(seen.len(), 0);
        kept.durable_since.resize(seen.len().div_ceil(PAGE), 0);
        let (first, last) = (from / PAGE, to.min(seen.len()).div_ceil(PAGE));
        for page in first..last {
            let range = page * PAGE..((page + 1) * PAGE).min(seen.len());
            kept.durable[range.clone()].copy_from_slice(&seen[range]);
            kept.durable_since[page] = began;
        }
    }
}

/// Ends the watching when dropped.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Disk>);

impl std::ops::Deref for Watch {
    type Target = Disk;

    fn deref(&self) -> &Disk {
        &self.0
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        locked(&WATCHED).remove(&self.key);
    }
}

fn key(file: &File) -> Key {
    let metadata = file.metadata().unwrap();
    (metadata.dev(), metadata.ino())
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], read as u64).unwrap() {
            0 => break,
            n => read += n,
        }
    }
    bytes.truncate(read);
    bytes
}

/// The file that is mapped at `address`, where in it that is, and what it is called.
fn mapped(address: usize) -> Option<(Key, usize, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let (begin, end) = (hex(begin)?, hex(end)?);
        if !(begin..end).contains(&address) {
            return None;
        }
        let offset = hex(fields.nth(1)?)?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = nix::libc::makedev(hex(major)? as u32, hex(minor)? as u32);
        let inode = fields.next()?.parse().ok()?;
        Some(((device, inode), offset + address - begin, fields.next()?.to_owned()))
    })
}

// SAFETY: it stands in for the C library's function of that name and signature, for this program alone; it touches no
// memory of the caller.
#[unsafe(no_mangle)]
extern "C" fn msync(address: *mut c_void, len: usize, _flags: c_int) -> c_int {
    if let Some((key, at, path)) = mapped(address as usize) {
        let disk = locked(&WATCHED).get(&key).cloned();
        match disk {
            Some(disk) => disk.sync(at, at + len),
            None => sync_unwatched(key, Path::new(&path), at, at + len),
        }
    }
    0
}

/// A part of a file becomes durable that nobody watches yet: one that is being reused.
fn sync_unwatched(key: Key, path: &Path, from: usize, to: usize) {
    let mut synced = locked(&SYNCED);
    let Some(durable) = synced.get_mut(&key) else { return };
    let seen = content(&File::open(path).unwrap());
    durable.resize(seen.len(), 0);
    let range = from..to.min(seen.len());
    durable[range.clone()].copy_from_slice(&seen[range]);
}

// SAFETY: as for `msync`.
#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    let Ok(file) = File::open(format!("/proc/self/fd/{descriptor}")) else { return 0 };
    if file.metadata().unwrap().is_file() {
        let key = key(&file);
        let disk = locked(&WATCHED).get(&key).cloned();
        match disk {
            Some(disk) => disk.sync(0, usize::MAX),
            None => {
                locked(&SYNCED).insert(key, content(&file));
            }
        }
    }
    0
}

// SAFETY: as for `msync`.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    fsync(descriptor)
}
