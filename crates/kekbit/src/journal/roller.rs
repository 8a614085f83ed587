//! Where a journal's writer goes on when its channel is at its end.
//!
//! ```text
//!                    successor                 retire
//! writer:  ...full --> [ named, begins ] --> old one: terminal ........................ first frame in the new one
//!                          ^                        \
//! helper:   prepared, nameless <--- reused <--- given up <--- synced, trimmed
//! ```
//!
//! In this order: the successor gets its name, then the old channel its terminal frame, then the successor its first frame. So
//! whoever finds the terminal finds the successor, and a channel that has no terminal has no successor with records.
//!
//! Nothing of this waits for the disk: the successor was made beforehand, and what has ended is synced by the helper, or by
//! whoever syncs next. Nor does the writer wait for the helper: what is not prepared it makes itself.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use super::LEAST_ROOM;
use super::lock::WriterLock;
use super::plan::Plan;
use super::retention::Segment;
use super::times::Began;
use super::upkeep::{NAPS, Retired, Upkeep};
use crate::error::{AppendError, CreateError, SyncError, is_no_space_error};
use crate::layout::header::Header;
use crate::options::Durability;
use crate::pen::{Pen, Successors};
use crate::syncer::Ending;
use crate::syncs::{Ended, Syncs};
use crate::sys::file::Unnamed;
use crate::time::{Clock, unix_nanos};

/// Channels that have ended and wait for the helper: with so many, the writer sees to them itself.
const BACKLOG: usize = 16;

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Roller {
    upkeep: Arc<Upkeep>,
    helper: Option<JoinHandle<()>>,
    /// Whether the helper has been told that half of the channel is written.
    told: bool,
    /// When the time of the channel is over, by the last look at the clock.
    over: u64,
    process: u32,
    /// As long as this is there nobody else writes the journal.
    _lock: WriterLock,
}

impl Roller {
    /// For the writer that has the lock of the journal of `plan`, whose channels, all of them ended, are `segments`.
    pub(crate) fn new(plan: Plan, segments: Vec<Segment>, lock: WriterLock) -> Roller {
        Roller {
            upkeep: Arc::new(Upkeep::new(plan, segments)),
            helper: None,
            told: false,
            over: u64::MAX,
            process: std::process::id(),
            _lock: lock,
        }
    }

    /// Starts a thread that does what the writer need not wait for.
    pub(crate) fn start_helper(&mut self, syncs: &Arc<Syncs>) -> io::Result<()> {
        let (upkeep, syncs) = (Arc::clone(&self.upkeep), Arc::clone(syncs));
        let builder = thread::Builder::new().name("kekbit-journal".to_owned());
        self.helper = Some(builder.spawn(move || upkeep.work(&syncs))?);
        Ok(())
    }

    /// The first channel of this writer, which begins with the record `first`, not before `time`: its header is synced, its
    /// name unless the policy is never.
    pub(crate) fn first(&mut self, first: u64, time: u64) -> Result<Pen, CreateError> {
        let plan = &self.upkeep.plan;
        let mut clock = Clock::not_before(time);
        let header = Header { first_sequence: first, created: clock.now(), ..plan.header()? };
        let path = plan.path(first);
        let mut pen = plan.options.create_nameless(header, &path)?.name(&path)?;
        pen.clock = clock;
        // A failure costs speed only: the first append does it.
        let _ = pen.reserve_first(LEAST_ROOM);
        let (_, created) = pen.begun();
        self.upkeep.begin(Began { first, created });
        let mut state = self.upkeep.state();
        (state.began, state.syncer) = (created, Arc::downgrade(pen.syncer()));
        drop(state);
        Ok(pen)
    }
}

impl Successors for Roller {
    fn is_due(&self) -> bool {
        self.upkeep.due.load(Ordering::SeqCst) || (self.helper.is_none() && self.over <= unix_nanos())
    }

    fn tell(&mut self, tail: u64, capacity: u64) {
        if tail == 0
            && let Some(every) = self.upkeep.plan.every
        {
            // Its time begins with its first record.
            let now = unix_nanos();
            self.over = every.end_of(now);
            let mut state = self.upkeep.state();
            state.over = Some(self.over);
            self.upkeep.due.store(false, Ordering::SeqCst);
            self.upkeep.wake(state, self.over - now < NAPS.1.as_nanos() as u64);
        }
        if !self.told && tail >= capacity / 2 {
            self.told = true;
            let mut state = self.upkeep.state();
            let lacks = state.ready.is_none();
            (state.soon, state.wanted) = (true, lacks);
            self.upkeep.wake(state, lacks);
        }
    }

    fn successor(&mut self, first: u64, now: u64, room: u64) -> Result<(Pen, Unnamed), AppendError> {
        let plan = &self.upkeep.plan;
        let ready = {
            let mut state = self.upkeep.state();
            state.wanted = false;
            state.ready.take()
        };
        let refused = |error| match error {
            CreateError::NoSpace { source, .. } => {
                AppendError::NoSpace { needed: plan.options.capacity, source }
            }
            CreateError::Io { source, .. } if is_no_space_error(&source) => {
                AppendError::NoSpace { needed: plan.options.capacity, source }
            }
            CreateError::Io { source, .. } => {
                AppendError::Io { action: "begin the next channel of the journal", source }
            }
            other => AppendError::Io {
                action: "begin the next channel of the journal",
                source: io::Error::other(other),
            },
        };
        let mut nameless = ready.map_or_else(|| plan.prepare(), Ok).map_err(refused)?;
        if let Err(error) = nameless.pen.reserve_first(room) {
            self.upkeep.state().ready.get_or_insert(nameless);
            return Err(error);
        }
        nameless.begin(first, now, &plan.path(first)).map_err(refused)
    }

    fn retire(&mut self, old: Pen, ending: Ending, new: &Pen, file: Unnamed) -> Result<(), SyncError> {
        let plan = &self.upkeep.plan;
        let (first, created) = new.begun();
        let each = plan.options.durability == Durability::Each;
        let ended = match plan.options.durability {
            Durability::Never => Ended::Closed(plan.path(old.begun().0)),
            _ => Ended::Written { syncer: Arc::clone(old.syncer()), ending },
        };
        new.syncs().advance(ended, Arc::clone(new.syncer()), first);
        self.told = false;
        let mut state = self.upkeep.state();
        self.upkeep.due.store(false, Ordering::SeqCst);
        state.retired.push_back(Retired { pen: old, next: Began { first, created }, file });
        state.others += 1;
        (state.began, state.syncer, state.soon) = (created, Arc::downgrade(new.syncer()), false);
        let helped = self.helper.is_some() && state.retired.len() < BACKLOG;
        self.upkeep.wake(state, false);
        // Whoever wants each record durable wants it before this one, too.
        let settled = if each { new.syncs().settle() } else { Ok(()) };
        if !helped {
            while self.upkeep.settle(new.syncs()) {}
            // Also for a helper that does not keep up: what is there is bounded.
            self.upkeep.retain();
        }
        settled
    }

    fn retain(&self, syncs: &Syncs) {
        // What has only just ended counts, too.
        while self.upkeep.settle(syncs) {}
        self.upkeep.retain();
    }

    fn discard(&self, first: u64) {
        // Its name tells where to go on, if there is no other.
        if first > 0 && self.upkeep.state().others == 0 {
            return;
        }
        // The next writer does it, if this fails.
        let _ = fs::remove_file(self.upkeep.plan.path(first));
    }
}

impl Drop for Roller {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // A forked child has no such thread, and must not wait for it; nor may it remove files that have no name yet.
            std::mem::forget((self.helper.take(), Arc::clone(&self.upkeep)));
            return;
        }
        let Some(helper) = self.helper.take() else { return };
        let mut state = self.upkeep.state();
        state.stops = true;
        self.upkeep.wake(state, true);
        // It does not panic, and if it did, the records would be as safe as without it.
        let _ = helper.join();
    }
}
