//! A writer that threads share.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use thiserror::Error;

use crate::Position;
use crate::error::{AppendError, SyncError};
use crate::handler::Chain;
use crate::layout::header::Header;
use crate::metadata::Metadata;
use crate::sync_handle::SyncHandle;
use crate::wait::{Next, Wait, Waiting};
use crate::writer::{Appended, Writer};

/// A writer shared by threads. It never blocks by default: if another thread is appending, it tries again, with
/// growing pauses, and after some time says that it is busy.
///
/// Each thread's records keep their order; those of different threads are interleaved as they come.
///
/// # Durability
///
/// With [`Durability::Each`](crate::Durability::Each) an append returns when its record is durable, and threads that append
/// at the same time share one sync (group commit). Nobody holds the writer during such a sync; but whoever needs more space in
/// the file, every few hundred kilobytes, holds it while that is written, so that an append is told "busy" only after a
/// second. With any other policy a thread that wants its record durable waits for that by
/// [`SharedWriter::sync_handle`].
///
/// # Example: two threads
///
/// ```
/// use kekbit::{Channel, SharedWriter, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("shared.kek");
/// let writer = SharedWriter::new(Writer::create(&path)?);
/// let other = writer.clone();
/// std::thread::spawn(move || other.append(b"from a thread")).join().unwrap()?;
/// writer.append(b"from main")?;
/// writer.close()?;
/// assert_eq!(Channel::open(&path)?.records().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedWriter<C: Chain = ()> {
    /// `None` after `close`.
    writer: Arc<Mutex<Option<Writer<C>>>>,
    header: Arc<Header>,
    handle: SyncHandle,
    /// Whether what is appended must be durable before that returns.
    syncs_each: bool,
}

/// Why a shared writer did not append.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SharedError {
    /// Other threads have been appending all the time. Nothing has happened; try again.
    #[error("the writer is busy")]
    Busy,
    /// As for a writer of one's own.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Attempts before "busy": with growing pauses, a few hundred microseconds.
const DEFAULT_WAIT: Wait<'static> = Wait::backoff().retries(325);

/// The same where a disk may be at work meanwhile.
const WAIT_FOR_DISK: Wait<'static> = Wait::backoff().at_most(Duration::from_secs(1));

impl<C: Chain> SharedWriter<C> {
    /// Shares `writer`.
    pub fn new(mut writer: Writer<C>) -> SharedWriter<C> {
        let handle = writer.sync_handle();
        let syncs_each = writer.pen.defer_syncs();
        let header = Arc::new(writer.pen.header.clone());
        SharedWriter { writer: Arc::new(Mutex::new(Some(writer))), header, handle, syncs_each }
    }

    /// What was said of the channel when it was created; of a journal, of the channel that was being written when it was shared.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::of(&self.header)
    }

    /// A handle with which threads make records durable and wait for it.
    pub fn sync_handle(&self) -> SyncHandle {
        self.handle.clone()
    }

    /// Appends `payload` as one record.
    ///
    /// # Errors
    ///
    /// [`SharedError::Busy`], or as [`Writer::append`].
    pub fn append(&self, payload: &[u8]) -> Result<Appended, SharedError> {
        self.append_wait(payload, if self.syncs_each { WAIT_FOR_DISK } else { DEFAULT_WAIT })
    }

    /// The same, but tries as long as `wait` says.
    ///
    /// # Errors
    ///
    /// As [`SharedWriter::append`].
    pub fn append_wait(&self, payload: &[u8], wait: Wait<'_>) -> Result<Appended, SharedError> {
        self.with(wait, |writer| writer.append(payload))?.map_err(SharedError::from)
    }

    /// Does something with the writer that other threads must not come between, for instance a batch.
    ///
    /// If `act` panics, what it had not committed has not happened, and the writer can be used further on.
    ///
    /// With [`Durability::Each`](crate::Durability::Each) what `act` has appended is durable when this returns, and not
    /// before.
    ///
    /// # Errors
    ///
    /// [`SharedError::Busy`]; [`AppendError::Closed`] after [`SharedWriter::close`]; [`AppendError::Sync`] if what was
    /// appended could not be synced.
    pub fn with<R>(&self, wait: Wait<'_>, act: impl FnOnce(&mut Writer<C>) -> R) -> Result<R, SharedError> {
        let mut waiting = Waiting::new(wait);
        loop {
            let mut guard = match self.writer.try_lock() {
                Ok(guard) => guard,
                // A panic in the middle of an append leaves no trace of it.
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    if waiting.pause() == Next::GiveUp {
                        return Err(SharedError::Busy);
                    }
                    continue;
                }
            };
            let writer = guard.as_mut().ok_or(SharedError::Append(AppendError::Closed))?;
            let before = writer.next_sequence();
            let done = act(writer);
            let position = Position::new(writer.tail().offset().saturating_sub(1));
            let appended = writer.next_sequence() > before;
            let last = Appended { position, sequence: writer.next_sequence().saturating_sub(1) };
            drop(guard);
            if self.syncs_each && appended {
                let synced = self.handle.wait_for_record(last);
                synced.map_err(|error| AppendError::Sync { source: error.into_source() })?;
            }
            return Ok(done);
        }
    }

    /// Closes the channel for all threads; waits for an append that is going on.
    ///
    /// # Errors
    ///
    /// As [`Writer::close`]. A second close succeeds.
    pub fn close(&self) -> Result<(), SyncError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map_or(Ok(()), Writer::close)
    }
}

impl<C: Chain> Clone for SharedWriter<C> {
    fn clone(&self) -> Self {
        SharedWriter {
            writer: Arc::clone(&self.writer),
            header: Arc::clone(&self.header),
            handle: self.handle.clone(),
            syncs_each: self.syncs_each,
        }
    }
}

impl<C: Chain> fmt::Debug for SharedWriter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWriter").finish_non_exhaustive()
    }
}
