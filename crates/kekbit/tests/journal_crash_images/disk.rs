//! A disk that remembers what it was told to keep of a whole directory: what is in its files (common/sectors.rs), and what they are
//! called.
//!
//! ```text
//! fsync of a file, msync       the content, as it was when the call began
//! fsync of a directory         what was linked, renamed and removed in it before
//! since then                   any versions of any sectors; of links, renames and removals: the first so many, or any of them
//! ```
//!
//! A file that is synced has no name by that. This test program has its own `linkat`, `rename`, `renameat2`, `unlink` and
//! `mkdir`, which do what they are for and note it; files that are created by opening them are found by listing.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use nix::errno::Errno;
use nix::libc::{self, c_char, c_int, c_long, c_uint, mode_t};

use crate::common::Numbers;
use crate::common::sectors::{Durable, Key, Sectors, content, key};

/// What has been promised by some moment, and to whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Every record before this sequence is durable.
    pub(crate) acknowledged: u64,
    /// Up to where named cursors are durable. Of one that is being removed, or that may not be there yet, nothing.
    pub(crate) cursors: BTreeMap<String, u64>,
    /// The next writer has been told that it may go on.
    pub(crate) opened: bool,
}

/// What a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Directory,
    File(Key),
}

/// What lies under each name, relative to the root.
pub(crate) type Names = BTreeMap<PathBuf, Entry>;

/// One change of names that is not known to be durable.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Appears(PathBuf, Entry),
    Vanishes(PathBuf),
    /// From, to, and what.
    Moves(PathBuf, PathBuf, Entry),
}

impl Change {
    /// The directory that has to be synced for it.
    fn directory(&self) -> &Path {
        let (Change::Appears(path, _) | Change::Vanishes(path) | Change::Moves(_, path, _)) = self;
        path.parent().unwrap()
    }

    /// Lets it happen. `both`: the old name may stay beside the new one, as if they had been written one after the other.
    pub(crate) fn apply(&self, names: &mut Names, both: bool) {
        match self {
            Change::Appears(path, entry) => drop(names.insert(path.clone(), *entry)),
            Change::Vanishes(path) => drop(names.remove(path)),
            Change::Moves(from, to, entry) => {
                if !both {
                    names.remove(from);
                }
                names.insert(to.clone(), *entry);
            }
        }
    }
}

/// A moment at which the machine may crash.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) told: Told,
    /// What the directory looks like to those who are there.
    pub(crate) current: Names,
    /// The names that the disk must have, and what has changed since, in order.
    pub(crate) durable: Names,
    pub(crate) changes: Vec<Change>,
    pub(crate) files: HashMap<Key, Sectors>,
}

/// A disk with one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    told: Told,
    current: Names,
    durable: Names,
    changes: Vec<Change>,
    /// Each is kept open, so that no other file gets its inode.
    files: HashMap<Key, (File, Durable)>,
    /// A choice of all moments that there were, each as likely as the others.
    moments: Vec<Moment>,
    seen: u64,
    most: u64,
    numbers: Numbers,
}

static DISKS: RwLock<Vec<Arc<Disk>>> = RwLock::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // One failed scene must not fail all the others.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk on which `path` lies.
fn disk_of(path: &Path) -> Option<Arc<Disk>> {
    let disks = DISKS.read().unwrap_or_else(PoisonError::into_inner);
    disks.iter().find(|disk| path.starts_with(&disk.root)).cloned()
}

impl Disk {
    /// Watches the directory `root`. Whatever is in it is durable. Remembers at most `most` moments.
    pub(crate) fn watch(root: &Path, most: u64, numbers: Numbers) -> Watch {
        let state = State {
            told: Told::default(),
            current: Names::new(),
            durable: Names::new(),
            changes: Vec::new(),
            files: HashMap::new(),
            moments: Vec::new(),
            seen: 0,
            most,
            numbers,
        };
        let disk = Arc::new(Disk { root: root.to_owned(), state: Mutex::new(state) });
        let state = &mut *locked(&disk.state);
        disk.look(state);
        state.changes.clear();
        state.durable = state.current.clone();
        for (file, durable) in state.files.values_mut() {
            *durable = Durable::new(content(file));
        }
        DISKS.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&disk));
        Watch(Arc::clone(&disk))
    }

    /// Somebody is told something.
    pub(crate) fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut locked(&self.state).told);
    }

    /// Remembers how the files look now, between two other times.
    pub(crate) fn remember(&self) {
        let State { files, numbers, .. } = &mut *locked(&self.state);
        for (file, durable) in files.values_mut() {
            durable.remember(content(file), numbers);
        }
    }

    /// The machine may crash now.
    pub(crate) fn may_crash(&self) {
        let state = &mut *locked(&self.state);
        self.look(state);
        self.choose(state);
    }

    /// The machine crashes now.
    pub(crate) fn crash(&self) -> Moment {
        let state = &mut *locked(&self.state);
        self.look(state);
        self.moment(state)
    }

    pub(crate) fn moments(&self) -> Vec<Moment> {
        std::mem::take(&mut locked(&self.state).moments)
    }

    /// Finds what has been created by opening it.
    fn look(&self, state: &mut State) {
        let mut found = Names::new();
        list(&self.root, Path::new(""), &mut found, &mut |key, path| {
            state
                .files
                .entry(key)
                .or_insert_with(|| (File::open(self.root.join(path)).unwrap(), Durable::new(Vec::new())));
        });
        for (path, entry) in &found {
            let known = state.current.get(path);
            if known.is_none() {
                state.changes.push(Change::Appears(path.clone(), *entry));
            }
            assert!(known.is_none_or(|known| known == entry), "{path:?} has changed unseen");
        }
        let gone = state.current.keys().find(|path| !found.contains_key(*path));
        assert!(gone.is_none(), "{gone:?} has gone unseen");
        state.current = found;
    }

    fn choose(&self, state: &mut State) {
        state.seen += 1;
        let place = if state.seen <= state.most { state.seen - 1 } else { state.numbers.below(state.seen) };
        if place < state.most {
            let moment = self.moment(state);
            if place as usize == state.moments.len() {
                state.moments.push(moment);
            } else {
                state.moments[place as usize] = moment;
            }
        }
    }

    fn moment(&self, state: &State) -> Moment {
        let files = state.files.iter();
        Moment {
            told: state.told.clone(),
            current: state.current.clone(),
            durable: state.durable.clone(),
            changes: state.changes.clone(),
            files: files.map(|(key, (file, durable))| (*key, durable.moment(content(file)))).collect(),
        }
    }

    /// A sync of `[from, to)` of a file, in the middle of which the machine may crash.
    fn sync_file(&self, key: Key, from: usize, to: usize, open: impl FnOnce() -> File) {
        let state = &mut *locked(&self.state);
        self.look(state);
        let (file, durable) = state.files.entry(key).or_insert_with(|| (open(), Durable::new(Vec::new())));
        let (began, seen) = (durable.begin_sync(), content(file));
        self.choose(state);
        state.files.get_mut(&key).unwrap().1.end_sync(began, &seen, from, to);
    }

    /// A sync of a directory, too.
    fn sync_directory(&self, path: &Path) {
        let state = &mut *locked(&self.state);
        self.look(state);
        self.choose(state);
        let State { changes, durable, .. } = state;
        changes.retain(|change| {
            let is_here = change.directory() == path;
            if is_here {
                change.apply(durable, false);
            }
            !is_here
        });
    }

    /// Does something to names, and notes what it was if it succeeds. The machine may crash right after it.
    fn change(
        &self,
        act: impl FnOnce() -> c_int,
        change: impl FnOnce(&State, &dyn Fn(&Path) -> PathBuf) -> Change,
    ) -> c_int {
        let state = &mut *locked(&self.state);
        self.look(state);
        let done = act();
        let errno = Errno::last();
        if done == 0 {
            let relative = |path: &Path| path.strip_prefix(&self.root).unwrap().to_owned();
            let change = change(state, &relative);
            change.apply(&mut state.current, false);
            state.changes.push(change);
            self.choose(state);
        }
        errno.set();
        done
    }
}

/// All that is below `root`.
fn list(root: &Path, below: &Path, names: &mut Names, file: &mut dyn FnMut(Key, &Path)) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            names.insert(path.clone(), Entry::Directory);
            list(root, &path, names, file);
        } else {
            let key = (metadata.dev(), metadata.ino());
            file(key, &path);
            names.insert(path, Entry::File(key));
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
        let mut disks = DISKS.write().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|disk| !Arc::ptr_eq(disk, &self.0));
    }
}

/// A part of a mapped file becomes durable.
pub(crate) fn sync_mapped(key: Key, path: &Path, from: usize, to: usize) {
    if let Some(disk) = disk_of(path) {
        disk.sync_file(key, from, to, || panic!("{path:?} was never synced as a whole"));
    }
}

/// All of a file or directory becomes durable.
pub(crate) fn sync_opened(file: &File) {
    use std::os::fd::AsRawFd;
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let Some(disk) = disk_of(&path) else { return };
    if file.metadata().unwrap().is_dir() {
        disk.sync_directory(path.strip_prefix(&disk.root).unwrap());
    } else {
        disk.sync_file(key(file), 0, usize::MAX, || file.try_clone().unwrap());
    }
}

fn path_at(path: *const c_char) -> PathBuf {
    // SAFETY: the caller of the C library's function passes a string that ends with a zero and lives as long as the call.
    let path = unsafe { CStr::from_ptr(path) };
    PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()))
}

fn done(result: c_long) -> c_int {
    result as c_int
}

/// The file at `path`, which has just got that name.
fn entry_at(path: &Path) -> Entry {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() { Entry::Directory } else { Entry::File((metadata.dev(), metadata.ino())) }
}

fn moved(from: &Path, to: &Path, act: impl FnOnce() -> c_int) -> c_int {
    match disk_of(to) {
        Some(disk) => {
            disk.change(act, |_, relative| Change::Moves(relative(from), relative(to), entry_at(to)))
        }
        None => act(),
    }
}

// SAFETY: it stands in for the C library's function of that name and signature, for this program alone, and does the same.
#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the arguments are the caller's.
    let act =
        || done(unsafe { libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) });
    moved(&path_at(from), &path_at(to), act)
}

// SAFETY: as for `rename`.
#[unsafe(no_mangle)]
extern "C" fn renameat2(
    old: c_int,
    from: *const c_char,
    new: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: the arguments are the caller's.
    let act = || done(unsafe { libc::syscall(libc::SYS_renameat2, old, from, new, to, flags) });
    moved(&path_at(from), &path_at(to), act)
}

// SAFETY: as for `rename`.
#[unsafe(no_mangle)]
extern "C" fn linkat(old: c_int, from: *const c_char, new: c_int, to: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the arguments are the caller's.
    let act = || done(unsafe { libc::syscall(libc::SYS_linkat, old, from, new, to, flags) });
    let to = path_at(to);
    match disk_of(&to) {
        Some(disk) => disk.change(act, |_, relative| Change::Appears(relative(&to), entry_at(&to))),
        None => act(),
    }
}

// SAFETY: as for `rename`.
#[unsafe(no_mangle)]
extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the arguments are the caller's.
    let act = || done(unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) });
    let path = path_at(path);
    match disk_of(&path) {
        Some(disk) => disk.change(act, |_, relative| Change::Appears(relative(&path), Entry::Directory)),
        None => act(),
    }
}

// SAFETY: as for `rename`.
#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the arguments are the caller's.
    let act = || done(unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) });
    let path = path_at(path);
    match disk_of(&path) {
        Some(disk) => disk.change(act, |_, relative| Change::Vanishes(relative(&path))),
        None => act(),
    }
}
