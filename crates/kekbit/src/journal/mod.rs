//! Journals: directories of channels that follow one another, so that there is no end.
//!
//! ```text
//!  orders/   00000000000000000000.kek   [ 0 ..... 41807 | closed ]
//!            00000000000000041808.kek   [ 41808 . 90116 | closed ]
//!            00000000000000090117.kek   [ 90117 .
//! ```
//!
//! In the order in which data flows: names on the disk (`names`), who writes (`lock`), what the last writer has left
//! (`recovery`), how channels are made (`plan`, by `period` and `retention`), what is done beside the writer (`upkeep`), how it goes
//! on in the next channel (`roller`), the writer itself (here), the reader. A channel knows nothing of journals but that its writer may have [`Successors`](crate::pen::Successors).

mod cursor;
mod error;
mod lock;
mod names;
mod options;
mod period;
mod plan;
mod reader;
mod recovery;
mod retention;
mod roller;
mod salvage;
mod settings;
mod times;
mod upkeep;

use std::fmt;
use std::path::{Path, PathBuf};

pub use cursor::{CursorError, CursorInfo, NamedCursor};
pub use error::{JournalError, JournalReadError};
pub use options::{JournalOptions, Roll};
pub use period::Period;
pub use reader::JournalReader;
pub use salvage::{JournalFinding, JournalSalvaged};
pub use settings::JournalSettings;

use crate::batch::Batch;
use crate::channel::Channel;
use crate::claim::Claim;
use crate::encode::Encode;
use crate::error::{AppendError, SyncError};
use crate::handler::Chain;
use crate::metadata::Metadata;
use crate::open::ReadOptions;
use crate::seal::{SealOptions, Sealed};
use crate::shared::SharedWriter;
use crate::sync_handle::SyncHandle;
use crate::writer::{Appended, Writer};

/// Bytes that are reserved in a channel before it is gone on to: the word of its first frame, and the one behind it.
const LEAST_ROOM: u64 = 16;

/// The producer of a journal: appends records, in order, for years. When a channel is at its end it goes on in the next.
///
/// Opened for writing it begins a new channel behind the last record, since no channel is written twice. Dropping it closes the
/// channel, as dropping a [`Writer`] does.
///
/// # Concurrency
///
/// One writer at a time, readers without number; see [`Writer`].
///
/// # Durability
///
/// As a channel's, see [`Durability`](crate::Durability): whatever is durable, everything before it is durable too, in
/// whichever channel. Rolling itself waits for no disk.
///
/// # Example: append, restart, go on
///
/// ```
/// use kekbit::{Journal, Start, Wait};
///
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("orders");
/// for day in ["monday", "tuesday"] {
///     let mut journal = Journal::options().open(&path)?;
///     journal.append(day.as_bytes())?;
///     journal.close()?;
/// }
/// let mut reader = Journal::reader(&path)?;
/// assert_eq!(reader.try_next()?.as_deref(), Some(&b"monday"[..]));
/// assert_eq!(reader.try_next()?.as_deref(), Some(&b"tuesday"[..]));
/// assert!(reader.try_next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Journal<C: Chain = ()> {
    writer: Writer<C>,
    path: PathBuf,
    set_aside: Vec<PathBuf>,
}

/// What [`Journal::seal`] has done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct JournalSealed {
    /// Sequence of the record that would be next.
    pub next_sequence: u64,
    /// The channels that had no end, and what was done to each. One in which nothing was is removed.
    pub channels: Vec<(PathBuf, Sealed)>,
    /// Files that were set aside, under these names, see [`Journal::set_aside`].
    pub set_aside: Vec<PathBuf>,
}

impl Journal {
    /// Options for opening a journal for writing.
    pub fn options() -> JournalOptions {
        JournalOptions::default()
    }

    /// Opens the journal in the directory at `path` for reading, from its oldest record on. Needs no right to write.
    ///
    /// # Errors
    ///
    /// If the directory cannot be listed.
    pub fn reader(path: impl AsRef<Path>) -> Result<JournalReader, JournalReadError> {
        JournalReader::open(path.as_ref(), Channel::options())
    }

    /// The same, with options for opening its channels.
    ///
    /// # Errors
    ///
    /// As [`Journal::reader`].
    pub fn reader_with(
        path: impl AsRef<Path>,
        options: ReadOptions,
    ) -> Result<JournalReader, JournalReadError> {
        JournalReader::open(path.as_ref(), options)
    }

    /// The channels of the journal at `path`, by their names, oldest first. Whether they are what their names say is told by opening
    /// them.
    ///
    /// # Errors
    ///
    /// If the directory cannot be listed.
    pub fn channels(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, JournalReadError> {
        let path = path.as_ref();
        let names = names::list(path).map_err(|source| JournalReadError::Io {
            action: "list",
            path: path.to_owned(),
            source,
        })?;
        Ok(names.into_iter().map(|first| names::channel_path(path, first)).collect())
    }

    /// What the last writer of the journal at `path` was told to do by itself; `None` if there has been none, or if nothing is left
    /// of it: it stands in the channels, and a writer that appends nothing leaves none.
    ///
    /// # Errors
    ///
    /// If the directory cannot be listed.
    pub fn settings(path: impl AsRef<Path>) -> Result<Option<JournalSettings>, JournalReadError> {
        for channel in Journal::channels(path)?.iter().rev() {
            if let Ok(channel) = Channel::options().stored(true).open(channel)
                && let Some(settings) = &channel.header().attributes.journal
            {
                return Ok(Some(JournalSettings::decode(channel.capacity(), settings)));
            }
        }
        Ok(None)
    }

    /// Gives up the oldest channels of the journal at `path` that exceed the limits, whatever it was told itself. Nobody may be writing it.
    /// The newest channel always stays. Returns how many have gone.
    ///
    /// # Errors
    ///
    /// [`JournalError::InUse`] while somebody writes it; see [`JournalError`].
    pub fn give_up(path: impl AsRef<Path>, limits: &JournalSettings) -> Result<u64, JournalError> {
        recovery::give_up(path.as_ref(), &limits.retention())
    }

    /// Ends the journal at `path`, whose last writer is dead, durably and as the next writer would: seals what has no end, and sets aside
    /// what does not follow from what is before. A journal that has ended well stays as it is. The next writer then begins a new channel.
    ///
    /// # Errors
    ///
    /// [`JournalError::InUse`] while somebody writes it, [`JournalError::Seal`] if there is damage where a crash cannot have made it; see
    /// [`JournalError`].
    ///
    /// # Example: end what a dead writer has left
    ///
    /// ```
    /// use kekbit::{Channel, Journal};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("orders");
    /// let mut journal = Journal::options().open(&path)?;
    /// journal.append(b"buy 10")?;
    /// // Nobody else may do it meanwhile.
    /// assert!(Journal::seal(&path, &Channel::seal_options()).is_err());
    /// journal.close()?;
    /// let sealed = Journal::seal(&path, &Channel::seal_options())?;
    /// assert_eq!((sealed.next_sequence, sealed.channels.len()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn seal(path: impl AsRef<Path>, options: &SealOptions) -> Result<JournalSealed, JournalError> {
        let found = recovery::end(path.as_ref(), options)?;
        Ok(JournalSealed { next_sequence: found.next, channels: found.sealed, set_aside: found.set_aside })
    }

    /// Whether there is a journal at `path`: a directory in which somebody has written one.
    pub fn is_at(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        path.join(names::LOCK).is_file() || names::list(path).is_ok_and(|names| !names.is_empty())
    }

    /// The named cursors of the journal at `path`, by name.
    ///
    /// # Errors
    ///
    /// If one of them cannot be read.
    pub fn cursors(path: impl AsRef<Path>) -> Result<Vec<CursorInfo>, CursorError> {
        cursor::list(path.as_ref())
    }

    /// Moves the cursor `name` of the journal at `path`, which nobody has, to the record `sequence`; creates it if there is none.
    /// What is committed is durable. A sequence past the end lasts until the next writer sets it back to where it begins.
    ///
    /// # Errors
    ///
    /// [`CursorError::InUse`] while somebody has it.
    pub fn set_cursor(path: impl AsRef<Path>, name: &str, sequence: u64) -> Result<(), CursorError> {
        cursor::set(path.as_ref(), name, sequence)
    }

    /// Removes the cursor `name` of the journal at `path`, which nobody has.
    ///
    /// # Errors
    ///
    /// [`CursorError::NotFound`], [`CursorError::InUse`].
    pub fn remove_cursor(path: impl AsRef<Path>, name: &str) -> Result<(), CursorError> {
        cursor::remove(path.as_ref(), name)
    }
}

impl<C: Chain> Journal<C> {
    fn new(writer: Writer<C>, path: PathBuf, set_aside: Vec<PathBuf>) -> Journal<C> {
        Journal { writer, path, set_aside }
    }

    /// Appends `payload` as one record.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`], but a journal is never full. [`AppendError::NoSpace`] also if there is none for the next channel:
    /// then nothing has happened, and the journal goes on once there is some.
    #[inline]
    pub fn append(&mut self, payload: &[u8]) -> Result<Appended, AppendError> {
        self.writer.append(payload)
    }

    /// Appends a record of at most `max_len` bytes that `fill` writes in place, as [`Writer::append_with`].
    ///
    /// # Errors
    ///
    /// As [`Writer::append_with`].
    #[inline]
    pub fn append_with(
        &mut self,
        max_len: usize,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Appended, AppendError> {
        self.writer.append_with(max_len, fill)
    }

    /// Appends a value that writes itself in place.
    ///
    /// # Errors
    ///
    /// As [`Writer::append_encoded`].
    #[inline]
    pub fn append_encoded(&mut self, value: &(impl Encode + ?Sized)) -> Result<Appended, AppendError> {
        self.writer.append_encoded(value)
    }

    /// Claims space for a record, as [`Writer::claim`].
    ///
    /// # Errors
    ///
    /// As [`Journal::append`] with `max_len` bytes.
    #[inline]
    pub fn claim(&mut self, max_len: usize) -> Result<Claim<'_, C>, AppendError> {
        self.writer.claim(max_len)
    }

    /// Begins a batch, as [`Writer::batch`]. It never spans two channels.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, C> {
        self.writer.batch()
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    ///
    /// As [`Writer::sync`].
    pub fn sync(&mut self) -> Result<(), SyncError> {
        self.writer.sync()
    }

    /// A handle with which other threads make records durable; see [`SyncHandle::wait_for_record`].
    pub fn sync_handle(&self) -> SyncHandle {
        self.writer.sync_handle()
    }

    /// A sign of life, as [`Writer::heartbeat`].
    pub fn heartbeat(&mut self) {
        self.writer.heartbeat();
    }

    /// Goes on in the next channel now, unless nothing has been appended to this one.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    pub fn roll(&mut self) -> Result<(), AppendError> {
        if self.writer.tail().offset() == 0 { Ok(()) } else { self.writer.pen.roll(LEAST_ROOM) }
    }

    /// Gives up what exceeds the limits by now; that is also done after each roll. May wait until channels that have only just ended are
    /// synced.
    pub fn retain(&mut self) {
        self.writer.pen.retain();
    }

    /// Shares the journal between threads.
    pub fn share(self) -> SharedWriter<C> {
        SharedWriter::new(self.writer)
    }

    /// Ends the channel that is being written, and removes it if it is empty.
    ///
    /// # Errors
    ///
    /// As [`Writer::close`].
    pub fn close(self) -> Result<(), SyncError> {
        self.writer.close()
    }

    /// Sequence of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.writer.next_sequence()
    }

    /// The longest record that is accepted, in bytes, as stored.
    pub fn max_record_len(&self) -> usize {
        self.writer.max_record_len()
    }

    /// What was said of the channel that is being written when it was created. After a roll that is another one, with another
    /// creation time and first sequence.
    pub fn metadata(&self) -> Metadata<'_> {
        self.writer.metadata()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Files that were set aside when the journal was opened, under these names: what a crash of the machine has left behind the
    /// last record that was durable, and what had such a name but does not follow from what is before.
    pub fn set_aside(&self) -> &[PathBuf] {
        &self.set_aside
    }
}

impl<C: Chain> fmt::Debug for Journal<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path)
            .field("next_sequence", &self.next_sequence())
            .finish_non_exhaustive()
    }
}
