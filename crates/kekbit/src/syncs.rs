//! Durability over channels that follow one another: what belongs to a journal's earlier channels is synced before anything
//! of the one that is being written, so that what is durable is always a beginning of the whole.
//!
//! ```text
//! ended, not yet synced to their end        being written
//!   [ .... closed ]  [ .... closed ]          [ ....
//!          1.               2.                   3.
//! ```
//!
//! A channel by itself is the last of a line of one.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::libc;

use crate::error::SyncError;
use crate::seal::settle_ended;
use crate::syncer::{Ending, Syncer};
use crate::writer::Appended;

/// What all who sync share.
#[derive(Debug)]
pub(crate) struct Syncs {
    line: Mutex<Line>,
    /// Held while channels that have ended are synced: one after the other.
    settling: Mutex<()>,
}

/// A channel that has ended and has a successor.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// It is still mapped by the one who has written it.
    Written { syncer: Arc<Syncer>, ending: Ending },
    /// Its file.
    Closed(PathBuf),
}

impl Ended {
    pub(crate) fn settle(&self) -> Result<(), SyncError> {
        match self {
            Ended::Written { syncer, ending } => syncer.settle(ending),
            Ended::Closed(path) => match settle_ended(path) {
                // Nobody wants it any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other.map_err(|source| SyncError::Failed { source }),
            },
        }
    }
}

#[derive(Debug)]
struct Line {
    /// Channels that have ended and may not be durable, oldest first.
    before: VecDeque<Ended>,
    current: Arc<Syncer>,
    /// Sequence of the first record of the current one.
    first: u64,
    /// Whether there may be more than one.
    is_journal: bool,
}

/// When so many channels wait to be synced, or twice as many, or four times, it is seen which of them are still there.
const MANY: usize = 1024;

impl Syncs {
    pub(crate) fn new(current: Arc<Syncer>, first: u64) -> Syncs {
        let line = Line { before: VecDeque::new(), current, first, is_journal: false };
        Syncs { line: Mutex::new(line), settling: Mutex::new(()) }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Whatever panicked, the line is consistent between any two statements.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The syncer of the channel that is being written.
    pub(crate) fn current(&self) -> Arc<Syncer> {
        Arc::clone(&self.line().current)
    }

    /// The channel that was being written has ended; `next` follows it, with the record `first`.
    pub(crate) fn advance(&self, ended: Ended, next: Arc<Syncer>, first: u64) {
        let mut line = self.line();
        line.before.push_back(ended);
        if line.before.len() >= MANY && line.before.len().is_power_of_two() {
            line.before
                .retain(|ended| !matches!(ended, Ended::Closed(path) if path.symlink_metadata().is_err()));
        }
        line.current = next;
        line.first = first;
    }

    /// Before the first channel of this writer, which is a journal's, lie these.
    pub(crate) fn precede(&self, earlier: impl IntoIterator<Item = Ended>) {
        let mut line = self.line();
        line.before.extend(earlier);
        line.is_journal = true;
    }

    /// Syncs every channel that has ended. A failure poisons the one that is being written.
    pub(crate) fn settle(&self) -> Result<(), SyncError> {
        let _settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(ended) = self.line().before.front().cloned() else { return Ok(()) };
            ended.settle().inspect_err(|error| {
                if let SyncError::Failed { source } = error {
                    self.current().fail(Errno::from_raw(source.raw_os_error().unwrap_or(libc::EIO)));
                }
            })?;
            self.line().before.pop_front();
        }
    }

    /// Everything that was appended before becomes durable. Returns the synced tail of the channel that is being written.
    pub(crate) fn sync(&self) -> Result<u64, SyncError> {
        loop {
            let current = self.current();
            self.settle()?;
            match current.sync_appended() {
                // It has ended meanwhile, and was synced with all that have.
                Err(SyncError::Gone) if !Arc::ptr_eq(&current, &self.current()) => {}
                synced => return synced,
            }
        }
    }

    /// The record becomes durable.
    pub(crate) fn wait_for(&self, appended: Appended) -> Result<(), SyncError> {
        loop {
            let (current, is_there) = {
                let line = self.line();
                (Arc::clone(&line.current), appended.sequence >= line.first)
            };
            self.settle()?;
            if !is_there {
                return Ok(());
            }
            match current.sync_past(appended.position.offset()) {
                Err(SyncError::Gone) if !Arc::ptr_eq(&current, &self.current()) => {}
                synced => return synced.map(drop),
            }
        }
    }

    /// What lies before `position` of the channel that is being written becomes durable; of a journal, of which a position alone does not
    /// tell in which channel it is, everything.
    pub(crate) fn wait_for_position(&self, position: u64) -> Result<u64, SyncError> {
        if self.line().is_journal { self.sync() } else { self.current().sync_past(position) }
    }
}
