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
//! - The control word and the syncer are told by the writer alone, so that what they say only grows, until the end.

use std::fs::File;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use crate::ahead::{Ahead, PIECE, Shared};
use crate::error::{AppendError, is_no_space};
use crate::ground::{Ground, Growth};
use crate::layout::control::RESERVED;
use crate::layout::header::Regions;
use crate::layout::{PAGE, round_up};
use crate::memory::map::Map;
use crate::options::Prepare;
use crate::syncer::Syncer;

/// The space of one writer.
#[derive(Debug)]
pub(crate) struct Space {
    map: Arc<Map>,
    ground: Arc<Ground>,
    growth: Growth,
    control: u64,
    capacity: u64,
    prepare: Prepare,
    /// Bytes of the data region that are reserved, and that are prepared, as far as the writer knows.
    reserved: u64,
    prepared: u64,
    ahead: Option<Ahead>,
}

/// What a space is made of.
#[derive(Debug)]
pub(crate) struct SpaceStart<'p> {
    pub(crate) map: &'p Arc<Map>,
    pub(crate) file: File,
    pub(crate) syncer: &'p Arc<Syncer>,
    pub(crate) regions: Regions,
    pub(crate) capacity: u64,
    pub(crate) prepare: Prepare,
    pub(crate) reserved: u64,
    pub(crate) prepared: u64,
    pub(crate) on_storage: bool,
    /// Whether new space is written with zeros.
    pub(crate) zeroes: bool,
}

impl Space {
    pub(crate) fn new(start: SpaceStart<'_>) -> Space {
        let SpaceStart {
            map,
            file,
            syncer,
            regions,
            capacity,
            prepare,
            reserved,
            prepared,
            on_storage,
            zeroes,
        } = start;
        let (syncer, data) = (Arc::clone(syncer), regions.data);
        Space {
            map: Arc::clone(map),
            ground: Arc::new(Ground { map: Arc::downgrade(map), file, syncer, data, zeroes }),
            growth: Growth::new(on_storage, zeroes, data, capacity),
            control: regions.control,
            capacity,
            prepare,
            reserved,
            prepared,
            ahead: None,
        }
    }

    /// Prepares what the options ask for at once, and starts the helper if they ask for one.
    pub(crate) fn prepare_at_creation(&mut self, tail: u64) -> io::Result<()> {
        match self.prepare {
            Prepare::All => self.prepare_for(tail, self.reserved),
            Prepare::Ahead(distance) => {
                let distance = round_up(u64::from(distance).max(PAGE), PAGE);
                let place = (tail, self.prepared, self.reserved, self.capacity);
                self.ahead = Some(Ahead::start(&self.ground, self.growth, place, distance)?);
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
            self.prepared = ahead.shared.prepared();
            let reserved = ahead.shared.reserved();
            self.set_reserved(reserved);
        }
    }

    /// Takes note of what is reserved, and tells others.
    fn set_reserved(&mut self, reserved: u64) {
        if reserved != self.reserved {
            self.reserved = reserved;
            self.map.store(self.control + RESERVED, reserved);
            self.ground.syncer.tell_reserved(reserved);
        }
    }

    fn reserve_for(&mut self, need: u64) -> Result<(), AppendError> {
        let Some(ahead) = &self.ahead else { return self.grow(need) };
        let shared = Arc::clone(&ahead.shared);
        let turn = shared.try_turn();
        if turn.is_none() && !self.ground.zeroes {
            return self.reserve_meanwhile(&shared, need);
        }
        let _turn = turn.unwrap_or_else(|| shared.turn());
        self.pick_up();
        if need <= self.reserved {
            return Ok(());
        }
        let grown = self.grow(need);
        shared.raise(self.reserved);
        grown?;
        shared.set_refused(!self.growth.is_generous());
        Ok(())
    }

    /// Reserves what is needed, and a little more if there is space, while the helper is reserving.
    fn reserve_meanwhile(&mut self, shared: &Shared, need: u64) -> Result<(), AppendError> {
        let (from, exact) = (self.reserved, round_up(need, PAGE));
        let generous = round_up(need.max(from + PIECE), PAGE).min(self.capacity);
        let reserved = match self.ground.reserve(from, generous) {
            Err(errno) if is_no_space(errno) && generous > exact => {
                self.ground.reserve(from, exact).map(|()| exact)
            }
            done => done.map(|()| generous),
        };
        shared.raise(reserved.map_err(|errno| self.refusal(need, errno))?);
        self.pick_up();
        Ok(())
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
            match self.ground.reserve(self.reserved, generous) {
                Ok(()) => break generous,
                Err(errno) if is_no_space(errno) && generous > exact => self.growth.shrink(),
                Err(errno) => return Err(self.refusal(need, errno)),
            }
        };
        self.growth.grow();
        let before = self.reserved;
        self.set_reserved(reached);
        let cleared = self.ground.clear(before, reached);
        cleared.map_err(|error| AppendError::Poisoned { source: error.into_source() })
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
        if self.ground.populate(from, to).is_ok() {
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
        self.ground.cut(end)?;
        self.set_reserved(end);
        Ok(())
    }

    /// Up to where pages are present, of a writer whose tail is at `tail`.
    pub(crate) fn present(&self, tail: u64) -> u64 {
        self.prepared.max(tail & !(PAGE - 1)).min(self.reserved)
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.ground.file
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
