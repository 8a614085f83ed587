//! kekbit's journal: it rolls by itself, gives up what the receiver has passed, and uses the files again.
//!
//! The receiver is a named cursor, and the journal keeps what that has not passed: so nothing is lost. A receiver that falls behind would make
//! the journal longer; as the other peers do, the sender waits for one that is more than a channel behind.

use std::path::PathBuf;

use kekbit::{Durability, Journal, NamedCursor, Roll, Writer};

use super::meet::wait_until;
use super::{AT_ONCE, PARTS};
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};

/// The name of the receiver's cursor.
const RECEIVER: &str = "receiver";

/// A journal of channels in files that are used again.
pub(crate) struct Rolling;

pub(crate) fn all() -> Vec<Rolling> {
    vec![Rolling]
}

impl Peer for Rolling {
    type Sender = RollingSender;
    type Receiver = RollingReceiver;

    fn name(&self) -> String {
        "kekbit, journal".into()
    }

    fn about(&self) -> About {
        // What is kept is the end: the last files.
        About { kept: true, checksummed: true, survives_kill: true }
    }

    fn takes_part(&self, workload: Workload) -> bool {
        matches!(workload, Workload::Sustained | Workload::OpenLoop)
    }

    fn sender(&self, link: &Link<'_>) -> Result<RollingSender> {
        let path = link.dir.join(link.name);
        let channels = Writer::options().max_record_len(link.size as u64).durability(Durability::Never);
        let options = Journal::options().channels(channels).roll(Roll::Bytes(link.segment));
        // One more is made ready.
        let journal = options.retain_count(PARTS - 1).retain_for_cursors(true).open(&path)?;
        Journal::set_cursor(&path, RECEIVER, 0)?;
        Ok(RollingSender { journal, began: 0, path })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<RollingReceiver> {
        let path = link.dir.join(link.name);
        wait_until("the journal", || {
            Ok(Journal::cursors(&path)?.iter().any(|cursor| cursor.name == RECEIVER).then_some(()))
        })?;
        Ok(RollingReceiver { cursor: Journal::reader(&path)?.cursor(RECEIVER)?, uncommitted: 0 })
    }
}

/// The sending side.
pub(crate) struct RollingSender {
    journal: Journal,
    path: PathBuf,
    /// Sequence of the first record of the channel that is being written.
    began: u64,
}

impl RollingSender {
    /// A channel begins with the record `first`.
    #[cold]
    fn wait_for_receiver(&mut self, first: u64) -> Result<()> {
        let before = std::mem::replace(&mut self.began, first);
        wait_until("the receiver", || {
            let cursors = Journal::cursors(&self.path)?;
            Ok(cursors.iter().any(|cursor| cursor.sequence >= before).then_some(()))
        })
    }
}

impl Sender for RollingSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        let at = self.journal.append(record)?;
        if at.position.offset() == 0 { self.wait_for_receiver(at.sequence) } else { Ok(()) }
    }

    fn finish(self) -> Result<()> {
        Ok(self.journal.close()?)
    }
}

/// The receiving side.
pub(crate) struct RollingReceiver {
    cursor: NamedCursor,
    uncommitted: usize,
}

impl Receiver for RollingReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        let mut count = 0;
        while count < AT_ONCE
            && let Some(record) = self.cursor.try_next()?
        {
            each(&record);
            count += 1;
        }
        // Whoever commits each few records that it finds has the next few before it ever rests.
        self.uncommitted += count;
        if self.uncommitted >= AT_ONCE || (count == 0 && self.uncommitted > 0) {
            self.cursor.commit();
            self.uncommitted = 0;
        }
        Ok(count)
    }
}
