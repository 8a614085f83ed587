//! A disk that remembers what it was told to keep: this test program has its own `msync`, `fsync` and `fdatasync`
//! (common/interposed.rs). For a file that is watched they note which pages are durable now, as they stood when the call
//! began; that is all that a sync promises (common/sectors.rs).

use std::collections::HashMap;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::common::Numbers;
use crate::common::sectors::{Durable, Key, Sectors, content, key};

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
    pub(crate) file: Sectors,
}

impl Deref for Moment {
    type Target = Sectors;

    fn deref(&self) -> &Sectors {
        &self.file
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
    durable: Durable,
    /// A choice of all moments that there were, each as likely as the others.
    moments: Vec<Moment>,
    seen: u64,
    most: u64,
    numbers: Numbers,
}

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
        let kept = Kept { durable: Durable::new(durable), moments: Vec::new(), seen: 0, most, numbers };
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
        kept.durable.remember(content(&self.file), &mut kept.numbers);
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
        Moment { acknowledged, published, ended, file: kept.durable.moment(content(&self.file)) }
    }

    /// A sync of `[from, to)` of the file, in the middle of which the machine may crash.
    fn sync(&self, from: usize, to: usize) {
        let kept = &mut *locked(&self.kept);
        let began = kept.durable.begin_sync();
        let seen = content(&self.file);
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        self.choose(kept);
        kept.durable.end_sync(began, &seen, from, to);
    }
}

/// Ends the watching when dropped.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Disk>);

impl Deref for Watch {
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

/// A part of a mapped file becomes durable.
pub(crate) fn sync_mapped(key: Key, path: &Path, from: usize, to: usize) {
    let disk = locked(&WATCHED).get(&key).cloned();
    if let Some(disk) = disk {
        return disk.sync(from, to);
    }
    // Nobody watches it yet: one that is being reused.
    let mut synced = locked(&SYNCED);
    let Some(durable) = synced.get_mut(&key) else { return };
    let seen = content(&File::open(path).unwrap());
    durable.resize(seen.len(), 0);
    let range = from..to.min(seen.len());
    durable[range.clone()].copy_from_slice(&seen[range]);
}

/// All of a file becomes durable.
pub(crate) fn sync_opened(file: &File) {
    if !file.metadata().unwrap().is_file() {
        return;
    }
    let key = key(file);
    let disk = locked(&WATCHED).get(&key).cloned();
    match disk {
        Some(disk) => disk.sync(0, usize::MAX),
        None => drop(locked(&SYNCED).insert(key, content(file))),
    }
}
