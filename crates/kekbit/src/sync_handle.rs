//! Durability for threads that are not the writer.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use crate::Position;
use crate::error::SyncError;
use crate::syncs::Syncs;
use crate::writer::Appended;

/// Makes records durable and waits for it, from any thread, while the writer goes on appending. Made by
/// [`Writer::sync_handle`](crate::Writer::sync_handle); cloning it is cheap.
///
/// Threads that wait at the same time share one sync (group commit): the first of them syncs for all, and who comes while
/// it does shares the next one.
///
/// # Durability
///
/// What a call returns as durable outlives a power cut, if the file is on storage; see
/// [`Channel::is_on_storage`](crate::Channel::is_on_storage).
///
/// # Concurrency
///
/// It does not keep the writer alive, nor its lock. When the writer has gone, what had been synced is still reported as
/// durable, and everything else is [`SyncError::Gone`].
///
/// # Example: one thread appends, another acknowledges
///
/// ```
/// use kekbit::Writer;
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = Writer::create(dir.path().join("ledger.kek"))?;
/// let durable = writer.sync_handle();
/// let appended = writer.append(b"debit 10")?;
/// let acknowledging = std::thread::spawn(move || durable.wait_for(appended.position));
/// writer.append(b"not kept waiting")?;
/// acknowledging.join().unwrap()?;
/// assert!(writer.synced_tail() > appended.position);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SyncHandle {
    syncs: Arc<Syncs>,
}

impl SyncHandle {
    pub(crate) fn new(syncs: Arc<Syncs>) -> SyncHandle {
        SyncHandle { syncs }
    }

    /// Makes everything durable that was appended before, and returns the synced tail.
    ///
    /// # Errors
    ///
    /// [`SyncError::Failed`]: then the writer is poisoned, and everything since the last successful sync may be lost.
    /// [`SyncError::Gone`] if there is something to be synced, but the writer has gone.
    pub fn sync(&self) -> Result<Position, SyncError> {
        self.syncs.sync().map(Position::new)
    }

    /// Waits until the record at `position` is durable, and syncs if nobody else does. Returns the synced tail. Of a journal, whose
    /// channels have each positions of their own, everything becomes durable: there is [`SyncHandle::wait_for_record`].
    ///
    /// # Errors
    ///
    /// As [`SyncHandle::sync`]; [`SyncError::NotAppended`] if no record is there yet.
    pub fn wait_for(&self, position: Position) -> Result<Position, SyncError> {
        self.syncs.wait_for_position(position.offset()).map(Position::new)
    }

    /// Waits until the record that was appended is durable, and syncs if nobody else does: also of a journal, whichever
    /// of its channels it is in.
    ///
    /// # Errors
    ///
    /// As [`SyncHandle::wait_for`].
    pub fn wait_for_record(&self, appended: Appended) -> Result<(), SyncError> {
        self.syncs.wait_for(appended)
    }

    /// Up to where the records are known to be durable. Does not sync.
    pub fn synced_tail(&self) -> Position {
        Position::new(self.syncs.current().synced())
    }

    /// The error of the sync that has failed, which has poisoned the writer for good.
    pub fn failure(&self) -> Option<io::Error> {
        self.syncs.current().failure().map(io::Error::from)
    }
}

impl fmt::Debug for SyncHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncHandle").field("synced_tail", &self.synced_tail()).finish_non_exhaustive()
    }
}

/// A thread that syncs at an interval, as long as the writer lives.
#[derive(Debug)]
pub(crate) struct Ticker {
    /// Dropping it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    process: u32,
}

impl Ticker {
    pub(crate) fn start(syncs: &Arc<Syncs>, interval: Duration) -> io::Result<Ticker> {
        let (stop, stopped) = channel();
        let syncs: Weak<Syncs> = Arc::downgrade(syncs);
        let thread = thread::Builder::new().name("kekbit-sync".to_owned()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let synced = syncs.upgrade().map(|syncs| syncs.sync());
                // A failure poisons the writer, which reports it.
                if !matches!(synced, Some(Ok(_))) {
                    return;
                }
            }
        })?;
        Ok(Ticker { stop: Some(stop), thread: Some(thread), process: std::process::id() })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // A forked child has no such thread, and must not wait for it.
            std::mem::forget((self.stop.take(), self.thread.take()));
            return;
        }
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did, the records would be as safe as without it.
            let _ = thread.join();
        }
    }
}
