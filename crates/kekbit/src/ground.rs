//! The space of a channel's file: taken from the file system, written with zeros where that pays, made present in memory.
//! Writer and helper do the same to it, each on its own; nothing here knows how far the other has come.

use std::fs::File;
use std::sync::{Arc, Weak};

use nix::errno::Errno;

use crate::error::SyncError;
use crate::layout::{PAGE, round_up};
use crate::memory::map::Map;
use crate::syncer::Syncer;
use crate::sys::file::{reserve, set_len, write_zeros};

/// Least and most bytes by which the reservation grows; in between it doubles. On storage reserving costs next to
/// nothing, and the page cache makes larger pages of larger steps; a file system in memory clears what it reserves, 1 µs
/// a page, while the append waits.
const RESERVE_ON_STORAGE: (u64, u64) = (4 << 20, 16 << 20);
const RESERVE_IN_MEMORY: (u64, u64) = (256 << 10, 512 << 10);
/// Where syncs are frequent, what is reserved is written with zeros and synced before it is used: then a sync of a record
/// has no space to allocate in the file system's own journal, and writes that record's pages only.
const RESERVE_FOR_SYNCS: (u64, u64) = (256 << 10, 1 << 20);
/// Bytes of a large page of the page cache on a disk.
const LARGE_PAGE: u64 = 2 << 20;

/// By how much the reservation grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    step: (u64, u64),
    /// Bytes by which it grows next.
    next: u64,
    /// The file ends on a multiple of this.
    align: u64,
    /// Where the data region begins, and how long it may become.
    data: u64,
    capacity: u64,
}

impl Growth {
    pub(crate) fn new(on_storage: bool, zeroes: bool, data: u64, capacity: u64) -> Growth {
        let (step, align) = match (on_storage, zeroes) {
            // In small pieces, so that no large page comes into being, of which each sync would write the whole.
            (true, true) => (RESERVE_FOR_SYNCS, PAGE),
            (true, false) => (RESERVE_ON_STORAGE, LARGE_PAGE),
            (false, _) => (RESERVE_IN_MEMORY, PAGE),
        };
        Growth { step, next: step.0, align, data, capacity }
    }

    /// Up to where to reserve next, from `reserved` on, of which `need` is needed.
    pub(crate) fn end(&self, reserved: u64, need: u64) -> u64 {
        let least = (reserved + self.next).max(need);
        // The file ends on a multiple of what a large page can be, so that none is cut in two.
        let align = if self.next < self.align { PAGE } else { self.align };
        (round_up(self.data + least, align) - self.data).min(self.capacity)
    }

    /// After a step for which there was space.
    pub(crate) fn grow(&mut self) {
        self.next = (2 * self.next).clamp(PAGE, self.step.1);
    }

    /// After one for which there was none: less will do, until it is just what is needed. The next steps begin from there,
    /// since on some file systems it takes long to find out that there is no space.
    pub(crate) fn shrink(&mut self) {
        self.next = if self.next > PAGE { self.next / 4 } else { 0 };
    }

    /// Whether there has been space for all that was asked for, for some time.
    pub(crate) fn is_generous(&self) -> bool {
        self.next >= self.step.0
    }
}

/// The file and its mapping. Keeps nothing alive that the writer's lock lies on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) map: Weak<Map>,
    /// Not the description that the writer's lock lies on: a forked child inherits this one.
    pub(crate) file: File,
    pub(crate) syncer: Arc<Syncer>,
    /// Where the data region begins.
    pub(crate) data: u64,
    /// Whether new space is written with zeros.
    pub(crate) zeroes: bool,
}

impl Ground {
    /// Makes `[from, to)` of the data region the file's own, which is that long then. What of it was reserved before stays
    /// so, also if this fails.
    pub(crate) fn reserve(&self, from: u64, to: u64) -> Result<(), Errno> {
        reserve(&self.file, self.data + from, self.data + to)
    }

    /// Writes zeros into new space and syncs them, if that is the policy.
    pub(crate) fn clear(&self, from: u64, to: u64) -> Result<(), SyncError> {
        let (from, to) = (self.data + from, self.data + to);
        if !self.zeroes || write_zeros(&self.file, from, to).is_err() {
            // It is reserved, so that nothing depends on it but what a sync costs.
            return Ok(());
        }
        self.syncer.sync_space(from, to)
    }

    /// Makes pages present that the file has. A failure costs speed only: they fault one by one.
    pub(crate) fn populate(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.map.upgrade().map_or(Ok(()), |map| map.populate_write(self.data + from, to - from))
    }

    /// Cuts the file.
    pub(crate) fn cut(&self, end: u64) -> Result<(), Errno> {
        set_len(&self.file, self.data + end)
    }
}
