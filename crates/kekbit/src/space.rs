//! The space that a writer has in its file: what is reserved, so that storing there cannot fail, and what is prepared, so
//! that it does not fault.
//!
//! ```text
//! tail <= prepared <= reserved <= capacity      (prepared may lag behind the tail: then pages fault)
//! ```
//!
//! Invariants:
//! - What is reserved is the file's, and the file is that long, until it is cut at its end.
//! - No page past what is reserved is populated: that would allocate it, or fail.

use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};

use nix::errno::Errno;

use crate::ahead::{Ahead, Board, Ground, Helps, PIECE, Shared, reserve_meanwhile};
use crate::error::{AppendError, is_no_space};
use crate::layout::control::RESERVED;
use crate::layout::header::Regions;
use crate::layout::{PAGE, round_up};
use crate::memory::map::Map;
use crate::options::Prepare;
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
    fn new(on_storage: bool, zeroes: bool, data: u64, capacity: u64) -> Growth {
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
        let aligned = round_up(self.data + least, self.align) - self.data;
        let end = if self.next < self.align { round_up(least, PAGE) } else { aligned };
        end.min(self.capacity)
    }

    /// After a step for which there was space.
    pub(crate) fn grow(&mut self) {
        self.next = (2 * self.next).clamp(PAGE, self.step.1);
    }

    /// After one for which there was none: less will do, until it is just what is needed. The next steps begin from there,
    /// since on some file systems it takes long to find out that there is no space.
    fn shrink(&mut self) {
        self.next = if self.next > PAGE { self.next / 4 } else { 0 };
    }
}

/// The space of one writer.
#[derive(Debug)]
pub(crate) struct Space {
    map: Arc<Map>,
    /// Not the description that the writer's lock lies on: a forked child inherits this one.
    file: Arc<File>,
    syncer: Arc<Syncer>,
    regions: Regions,
    capacity: u64,
    prepare: Prepare,
    /// Whether what is reserved is written with zeros.
    zeroes: bool,
    growth: Growth,
    /// Bytes of the data region that are reserved, and that are prepared, as far as the writer knows.
    reserved: u64,
    prepared: u64,
    ahead: Option<Ahead>,
}

impl Space {
    pub(crate) fn new(
        map: &Arc<Map>,
        file: File,
        syncer: &Arc<Syncer>,
        (regions, capacity): (Regions, u64),
        prepare: Prepare,
        reserved: u64,
        (on_storage, zeroes): (bool, bool),
    ) -> Space {
        Space {
            map: Arc::clone(map),
            file: Arc::new(file),
            syncer: Arc::clone(syncer),
            growth: Growth::new(on_storage, zeroes, regions.data, capacity),
            regions,
            capacity,
            prepare,
            zeroes,
            reserved,
            prepared: 0,
            ahead: None,
        }
    }

    /// Prepares what the options ask for at once, and starts the helper if they ask for one.
    pub(crate) fn prepare_at_creation(&mut self, tail: u64) -> io::Result<()> {
        match self.prepare {
            Prepare::All => self.prepare_for(tail, self.reserved),
            Prepare::Ahead(distance) => {
                let plot = Plot {
                    map: Arc::downgrade(&self.map),
                    file: Arc::clone(&self.file),
                    syncer: Arc::downgrade(&self.syncer),
                    data: self.regions.data,
                    zeroes: self.zeroes,
                };
                let distance = round_up(u64::from(distance).max(PAGE), PAGE);
                let (reserved, capacity, growth) = (self.reserved, self.capacity, self.growth);
                self.ahead = Some(Ahead::start(tail, reserved, capacity, distance, growth, plot)?);
            }
            Prepare::OnDemand | Prepare::Inline(_) => {}
        }
        Ok(())
    }

    /// Makes `[tail, need)` ready to be written, and more. Returns up to where frames may reach: at least `need`, and not
    /// farther than what is reserved.
    pub(crate) fn make_ready(&mut self, tail: u64, need: u64) -> Result<u64, AppendError> {
        self.pick_up();
        if need > self.reserved {
            self.reserve_for(need)?;
        }
        self.prepare_for(tail, need);
        if let Some(ahead) = &self.ahead {
            ahead.tell(tail);
        }
        // What is not prepared faults, and not just the next page of it.
        Ok(if self.prepared >= need { self.reserved.min(self.prepared) } else { self.reserved })
    }

    /// Takes note of what the helper has done.
    fn pick_up(&mut self) {
        if let Some(ahead) = &self.ahead {
            let (reserved, prepared) = (ahead.shared.reserved(), ahead.shared.prepared());
            self.prepared = prepared;
            self.set_reserved(reserved);
        }
    }

    /// Takes note of what is reserved, and tells others.
    fn set_reserved(&mut self, reserved: u64) {
        if reserved != self.reserved {
            self.reserved = reserved;
            self.map.store(self.regions.control + RESERVED, reserved);
            self.syncer.tell_reserved(reserved);
        }
    }

    fn reserve_for(&mut self, need: u64) -> Result<(), AppendError> {
        let Some(ahead) = &self.ahead else { return self.grow(need) };
        let shared = Arc::clone(&ahead.shared);
        let turn = shared.try_turn();
        if turn.is_none() && !self.zeroes && self.reserve_meanwhile(&shared, need)? {
            return Ok(());
        }
        let _turn = turn.unwrap_or_else(|| shared.turn());
        self.pick_up();
        if need <= self.reserved {
            return Ok(());
        }
        self.grow(need)?;
        shared.raise(self.reserved);
        shared.set_refused(self.growth.next < self.growth.step.0);
        Ok(())
    }

    /// Reserves what is needed, and a little more if there is space, while the helper is reserving. `false` if its piece must
    /// be waited for.
    fn reserve_meanwhile(&mut self, shared: &Shared, need: u64) -> Result<bool, AppendError> {
        let (from, exact) = (self.reserved, round_up(need, PAGE));
        let generous = round_up(need.max(from + PIECE), PAGE).min(self.capacity);
        let done = match reserve_meanwhile(shared, self, from, generous) {
            Err(errno) if is_no_space(errno) => reserve_meanwhile(shared, self, from, exact),
            done => done,
        };
        let done = done.map_err(|errno| self.refusal(need, errno))?;
        self.pick_up();
        Ok(done)
    }

    /// What the one who appends is told.
    fn refusal(&self, need: u64, errno: Errno) -> AppendError {
        let source = errno.into();
        if is_no_space(errno) {
            AppendError::NoSpace { needed: need - self.reserved, source }
        } else {
            AppendError::Io { action: "reserve space", source }
        }
    }

    /// Reserves what is needed, and more if there is space.
    fn grow(&mut self, need: u64) -> Result<(), AppendError> {
        let exact = round_up(need, PAGE);
        let reached = loop {
            let generous = self.growth.end(self.reserved, need);
            match self.reserve(self.reserved, generous) {
                Ok(()) => break generous,
                Err(errno) if is_no_space(errno) && generous > exact => self.growth.shrink(),
                Err(errno) => return Err(self.refusal(need, errno)),
            }
        };
        self.growth.grow();
        let before = self.reserved;
        self.set_reserved(reached);
        if !self.zeroes {
            return Ok(());
        }
        let data = self.regions.data;
        let synced = zero_space(&self.file, &self.syncer, data + before, data + reached);
        synced.map_err(|error| AppendError::Poisoned { source: error.into_source() })
    }

    /// Populates pages ahead of the tail. A failure costs speed only: the pages are reserved, and fault one by one.
    fn prepare_for(&mut self, tail: u64, need: u64) {
        let Some(step) = self.prepare.step(self.capacity) else { return };
        if need <= self.prepared {
            return;
        }
        let from = self.prepared.max(tail & !(PAGE - 1));
        let to = round_up(need.max(from + step), PAGE).min(self.reserved);
        if let Some(ahead) = &self.ahead {
            // The helper goes on behind it at the same time.
            ahead.shared.claim_prepared(to);
        }
        if self.populate(from, to).is_ok() {
            self.prepared = to;
        }
    }

    /// Gives back what is reserved behind `end`: cuts the file there. Nobody may be looking at anything behind it.
    pub(crate) fn trim(&mut self, end: u64) -> Result<(), Errno> {
        self.stop_helper();
        let end = round_up(end, PAGE);
        if end >= self.reserved {
            // Nothing behind it; and growing a file that somebody has cut is no trimming.
            return Ok(());
        }
        set_len(&self.file, self.regions.data + end)?;
        self.set_reserved(end);
        Ok(())
    }

    /// Waits for the piece that the helper is just doing, and does without it from then on.
    pub(crate) fn stop_helper(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            let shared = Arc::clone(&ahead.shared);
            drop(ahead);
            self.set_reserved(shared.reserved());
        }
    }
}

impl Ground for Space {
    fn reserve(&self, from: u64, to: u64) -> Result<(), Errno> {
        reserve(&self.file, self.regions.data + from, self.regions.data + to)
    }

    fn populate(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.map.populate_write(self.regions.data + from, to - from)
    }
}

/// The space as the helper has it: keeps nothing alive that the writer's lock lies on.
#[derive(Debug)]
struct Plot {
    map: Weak<Map>,
    file: Arc<File>,
    syncer: Weak<Syncer>,
    data: u64,
    zeroes: bool,
}

impl Ground for Plot {
    fn reserve(&self, from: u64, to: u64) -> Result<(), Errno> {
        reserve(&self.file, self.data + from, self.data + to)
    }

    fn populate(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.map.upgrade().map_or(Ok(()), |map| map.populate_write(self.data + from, to - from))
    }
}

impl Helps for Plot {
    fn acquire(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.reserve(from, to)?;
        if self.zeroes
            && let Some(syncer) = self.syncer.upgrade()
        {
            // A failure poisons the writer, which reports it.
            let _ = zero_space(&self.file, &syncer, self.data + from, self.data + to);
        }
        Ok(())
    }
}

/// Writes zeros into new space of the file and syncs them.
fn zero_space(file: &File, syncer: &Syncer, from: u64, to: u64) -> Result<(), crate::SyncError> {
    if write_zeros(file, from, to).is_err() {
        // It is reserved, so that nothing depends on it but what a sync costs.
        return Ok(());
    }
    syncer.sync_space(from, to)
}
