//! Named cursors: readers whose place survives them.
//!
//! A cursor is a file in the journal's directory `cursors`, mapped by its owner, who has a lock on it. Committing stores the place into
//! one of two slots in turn, so that whenever the owner dies one of them is whole: no system call.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use thiserror::Error;

use super::error::JournalReadError;
use super::reader::JournalReader;
use crate::layout::place::{LEN, Place};
use crate::memory::map::{Access, Map};
use crate::record::Record;
use crate::seek::Start;
use crate::sys::file::{self, Unnamed};
use crate::sys::interruption::uninterrupted;
use crate::sys::lock::{self, Role};
use crate::time::unix_nanos;
use crate::wait::{Next, Wait, Waiting};

const DIRECTORY: &str = "cursors";
const SUFFIX: &str = ".cursor";
const LONGEST_NAME: usize = 128;
/// How long is waited for an owner that is just dying.
const DYING: Duration = Duration::from_secs(2);

/// What can go wrong with a cursor.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CursorError {
    /// A name has 1 to 128 letters, digits, `-`, `_` and `.`, and does not begin with a dot.
    #[error("{name:?} is no name for a cursor: 1 to {LONGEST_NAME} of A-Z a-z 0-9 - _ . and not a dot first")]
    Name {
        /// The name.
        name: String,
    },
    /// Somebody else has it.
    #[error("cursor {name:?} is in use by another process or thread")]
    InUse {
        /// The name.
        name: String,
    },
    /// There is none of this name.
    #[error("there is no cursor {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The file does not say where the cursor is.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] JournalReadError),
    /// The system refused something else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CursorError {
    fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> CursorError {
        let path = path.to_owned();
        move |source| CursorError::Io { action, path, source: source.into() }
    }
}

/// A cursor, as anybody sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CursorInfo {
    /// Its name.
    pub name: String,
    /// Sequence of the first record that its owner is not done with.
    pub sequence: u64,
    /// When that was committed.
    pub committed: SystemTime,
    /// Whether somebody has it.
    pub in_use: bool,
}

/// Where a cursor's file is.
fn path_of(journal: &Path, name: &str) -> Result<PathBuf, CursorError> {
    let fits = (1..=LONGEST_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        Ok(journal.join(DIRECTORY).join(format!("{name}{SUFFIX}")))
    } else {
        Err(CursorError::Name { name: name.to_owned() })
    }
}

fn read(path: &Path, file: &File) -> Result<Place, CursorError> {
    let mut bytes = [0; LEN];
    let mut waiting = Waiting::new(Wait::backoff().retries(3));
    loop {
        let read = file::read_at(file, &mut bytes, 0).map_err(CursorError::io("read", path))?;
        match Place::read(&bytes[..read]) {
            Ok(place) => return Ok(place),
            // Both slots may have been written while they were read.
            Err(_) if waiting.pause() != Next::GiveUp => {}
            Err(what) => return Err(CursorError::Damaged { path: path.to_owned(), what }),
        }
    }
}

/// The names of the cursors of the journal at `journal`, in order.
fn names(journal: &Path) -> Result<Vec<String>, CursorError> {
    let directory = journal.join(DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(CursorError::io("list", &directory))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(CursorError::io("list", &directory))?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let name = name.strip_suffix(SUFFIX).filter(|name| path_of(journal, name).is_ok());
        found.extend(name.map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

/// How the cursor `name` stands; `None` if there is none.
fn info(journal: &Path, name: String) -> Result<Option<CursorInfo>, CursorError> {
    let path = path_of(journal, &name)?;
    let file = match file::open(&path, false) {
        // It has just been removed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(CursorError::io("open", &path))?,
    };
    let place = read(&path, &file)?;
    let in_use = lock::is_held(&file, Role::Writer);
    let in_use = in_use.map_err(CursorError::io("ask for the owner of", &path))?;
    let committed = UNIX_EPOCH + Duration::from_nanos(place.time);
    Ok(Some(CursorInfo { name, sequence: place.sequence, committed, in_use }))
}

/// The cursors of the journal at `journal`, by name.
pub(crate) fn list(journal: &Path) -> Result<Vec<CursorInfo>, CursorError> {
    names(journal)?.into_iter().filter_map(|name| info(journal, name).transpose()).collect()
}

/// The first sequence that some cursor has still to see, whatever happens to the machine; `None` if there is no cursor. What cannot be
/// read or synced keeps everything.
pub(crate) fn least_needed(journal: &Path) -> Option<u64> {
    let least = || -> Result<Option<u64>, CursorError> {
        let cursors = list(journal)?;
        for CursorInfo { name, .. } in &cursors {
            // What it says now, or has said since.
            let path = path_of(journal, name)?;
            match file::open(&path, false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => {
                    let file = opened.map_err(CursorError::io("open", &path))?;
                    file::sync(&file).map_err(CursorError::io("sync", &path))?;
                }
            }
        }
        // Those that are not there must not come back.
        match sync_directory(&journal.join(DIRECTORY)) {
            Err(CursorError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            synced => synced?,
        }
        Ok(cursors.iter().map(|cursor| cursor.sequence).min())
    };
    least().unwrap_or(Some(0))
}

fn sync_directory(directory: &Path) -> Result<(), CursorError> {
    let synced = file::open_directory(directory).and_then(|opened| file::sync(&opened));
    synced.map_err(CursorError::io("sync", directory))
}

/// A cursor that this process owns.
#[derive(Debug)]
struct Owned {
    map: Map,
    place: Place,
    path: PathBuf,
}

impl Owned {
    /// Takes the cursor `name`; creates it at the sequence that `beginning` says if there is none.
    fn take(
        journal: &Path,
        name: &str,
        beginning: impl FnOnce() -> Result<Option<u64>, CursorError>,
    ) -> Result<Owned, CursorError> {
        let path = path_of(journal, name)?;
        let mut beginning = Some(beginning);
        let mut waiting = Waiting::new(Wait::backoff().at_most(DYING));
        loop {
            // A description of its own for each attempt, which only the mapping keeps: it is not inherited.
            let file = match file::open(&path, true) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let sequence = match beginning.take() {
                        Some(beginning) => beginning()?,
                        None => None,
                    };
                    let Some(sequence) = sequence else {
                        return Err(CursorError::NotFound { name: name.to_owned() });
                    };
                    create(&path, Place { sequence, counter: 1, time: unix_nanos() })?;
                    continue;
                }
                opened => opened.map_err(CursorError::io("open", &path))?,
            };
            let place = read(&path, &file)?;
            let map = Map::new(&file, LEN as u64, Access::Write).map_err(CursorError::io("map", &path))?;
            if lock::exclusive(&file, Role::Writer).map_err(CursorError::io("lock", &path))? {
                // Unless it has been removed, and perhaps made anew, since it was opened.
                if !file::is_named(&file, &path).map_err(CursorError::io("look up", &path))? {
                    continue;
                }
                // Once more: its last owner may have gone since.
                let place = read(&path, &file).unwrap_or(place);
                return Ok(Owned { map, place, path });
            }
            if waiting.pause() == Next::GiveUp {
                return Err(CursorError::InUse { name: name.to_owned() });
            }
        }
    }

    fn commit(&mut self, sequence: u64) {
        self.place = Place { sequence, counter: self.place.counter + 1, time: unix_nanos() };
        self.map.store_words(self.place.slot(), &self.place.encode());
    }

    /// If it is past the end of a journal that nobody writes, a crash of the machine has taken records away that somebody had passed:
    /// those that will have their sequences are others. The next writer sees to it, but not while somebody has the cursor.
    fn set_back(&mut self, reader: &JournalReader) -> Result<(), CursorError> {
        if reader.writer_lives()? {
            return Ok(());
        }
        match reader.end_point() {
            Ok(Some(end)) if end.sequence < self.place.sequence => {
                self.commit(end.sequence);
                self.sync()
            }
            // Whoever reads what cannot be read is told.
            _ => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), CursorError> {
        uninterrupted(|| self.map.sync(0, LEN as u64)).map_err(CursorError::io("sync", &self.path))
    }
}

fn create(path: &Path, place: Place) -> Result<(), CursorError> {
    let directory = file::directory_of(path);
    let made = DirBuilder::new().mode(0o700).create(directory);
    if let Err(error) = made
        && !directory.is_dir()
    {
        return Err(CursorError::io("create", directory)(error));
    }
    let mut unnamed = Unnamed::create(path, 0o600).map_err(CursorError::io("create", path))?;
    file::reserve(&unnamed.file, 0, LEN as u64).map_err(CursorError::io("reserve space for", path))?;
    file::write_all_at(&unnamed.file, &place.file(), 0).map_err(CursorError::io("write", path))?;
    file::sync(&unnamed.file).map_err(CursorError::io("sync", path))?;
    match unnamed.name(path) {
        // Somebody else has just made it.
        Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(()),
        named => {
            named.map_err(CursorError::io("name", path))?;
            for directory in [directory, file::directory_of(directory)] {
                sync_directory(directory)?;
            }
            Ok(())
        }
    }
}

/// Moves the cursor `name`, which nobody has, to the record `sequence`; creates it if there is none.
pub(crate) fn set(journal: &Path, name: &str, sequence: u64) -> Result<(), CursorError> {
    let mut owned = Owned::take(journal, name, || Ok(Some(sequence)))?;
    owned.commit(sequence);
    owned.sync()
}

/// Sets cursors back that are past the end of the journal, `end`: a crash of the machine may take records away that somebody had
/// passed. Nobody has them then.
pub(crate) fn set_back(journal: &Path, end: u64) -> Result<(), CursorError> {
    for name in names(journal).unwrap_or_default() {
        // What cannot be read is for its owner to see.
        if let Ok(Some(cursor)) = info(journal, name)
            && cursor.sequence > end
            && !cursor.in_use
        {
            set(journal, &cursor.name, end)?;
        }
    }
    Ok(())
}

/// Removes the cursor `name`, which nobody has.
pub(crate) fn remove(journal: &Path, name: &str) -> Result<(), CursorError> {
    let owned = Owned::take(journal, name, || Ok(None))?;
    fs::remove_file(&owned.path).map_err(CursorError::io("remove", &owned.path))?;
    sync_directory(file::directory_of(&owned.path))
}

/// A reader with a name, whose place in the journal survives it: made by [`JournalReader::cursor`].
///
/// It begins behind the last record that was committed, whoever has committed it. What was read but not committed is read again
/// after a crash: at least once. Committing in the same batch that records what came of it, in another journal, makes that exactly
/// once; then the place is read from there, and this one's is a hint.
///
/// # Durability
///
/// A commit outlives this process as soon as it returns. [`NamedCursor::sync`] makes it outlive a power cut; without it an earlier
/// commit may count after one. If a power cut takes records away that it had passed, the journal's next writer sets it back to the end,
/// or its next owner does, if that comes first.
///
/// # Concurrency
///
/// It has one owner at a time.
///
/// # Example: what was done with is not seen again
///
/// ```
/// use kekbit::Journal;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("orders");
/// let mut journal = Journal::options().open(&path)?;
/// for order in ["buy 10", "sell 5", "buy 1"] {
///     journal.append(order.as_bytes())?;
/// }
/// let mut billing = Journal::reader(&path)?.cursor("billing")?;
/// assert_eq!(billing.try_next()?.as_deref(), Some(&b"buy 10"[..]));
/// billing.commit();
/// assert_eq!(billing.try_next()?.as_deref(), Some(&b"sell 5"[..]));
/// // It dies before it has billed that.
/// drop(billing);
/// let mut billing = Journal::reader(&path)?.cursor("billing")?;
/// assert_eq!(billing.try_next()?.as_deref(), Some(&b"sell 5"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NamedCursor {
    reader: JournalReader,
    owned: Owned,
    name: String,
}

impl NamedCursor {
    pub(crate) fn new(mut reader: JournalReader, name: &str) -> Result<NamedCursor, CursorError> {
        let journal = reader.path().to_owned();
        let mut is_new = false;
        let mut owned = Owned::take(&journal, name, || {
            is_new = true;
            Ok(Some(reader.resolve()?))
        })?;
        if !is_new {
            owned.set_back(&reader)?;
        }
        match reader.seek(Start::Sequence(owned.place.sequence)) {
            // Whoever asks for the next record is told.
            Ok(()) | Err(JournalReadError::Lagged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(NamedCursor { reader, owned, name: name.to_owned() })
    }

    /// Goes on with the oldest record that is there, after [`JournalReadError::Lagged`]. Returns its sequence; commits nothing.
    ///
    /// # Errors
    ///
    /// As [`JournalReader::seek`].
    pub fn skip_to_oldest(&mut self) -> Result<u64, JournalReadError> {
        self.reader.seek(Start::Beginning)?;
        Ok(self.reader.sequence())
    }

    /// Goes on from `start`, as [`JournalReader::seek`]; what is committed stays. The next commit takes what was passed over for read;
    /// behind what is committed already it changes nothing.
    ///
    /// # Errors
    ///
    /// As [`JournalReader::seek`].
    pub fn seek(&mut self, start: Start) -> Result<(), JournalReadError> {
        self.reader.seek(start)
    }

    /// Commits: everything that was read is done with. A commit never goes back: [`Journal::set_cursor`](crate::Journal::set_cursor) does.
    pub fn commit(&mut self) {
        self.commit_to(self.reader.sequence());
    }

    /// Commits everything before the record `sequence`, if that has been read; also if the reader has come farther.
    pub fn commit_to(&mut self, sequence: u64) {
        // Not ahead of what was read, nor back behind what is committed.
        let sequence = sequence.min(self.reader.sequence());
        if sequence > self.owned.place.sequence {
            self.owned.commit(sequence);
        }
    }

    /// Makes the last commit outlive a power cut.
    ///
    /// # Errors
    ///
    /// If the system cannot write it.
    pub fn sync(&self) -> Result<(), CursorError> {
        self.owned.sync()
    }

    /// Sequence of the first record that is not committed.
    pub fn committed(&self) -> u64 {
        self.owned.place.sequence
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next record, as [`JournalReader::try_next`].
    ///
    /// # Errors
    ///
    /// As [`JournalReader::try_next`].
    #[inline(always)]
    pub fn try_next(&mut self) -> Result<Option<Record<'_>>, JournalReadError> {
        self.reader.try_next()
    }

    /// The next record, as [`JournalReader::next`].
    ///
    /// # Errors
    ///
    /// As [`JournalReader::next`].
    #[inline]
    pub fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, JournalReadError> {
        self.reader.next(wait)
    }
}

impl Deref for NamedCursor {
    type Target = JournalReader;

    fn deref(&self) -> &JournalReader {
        &self.reader
    }
}
