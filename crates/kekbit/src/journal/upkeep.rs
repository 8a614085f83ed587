//! What is to be done for a journal beside appending: the next channel is prepared, what has ended is synced and trimmed, what is no
//! longer kept is given up. A thread does it, so that the writer need not wait; or the writer, if there is no such thread.
//!
//! The writer wakes the thread when half of a channel is written, never at a roll: waking takes longer than all else that a roll does.
//! From then on the thread looks by itself for what has ended, at first often.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::cursor;
use super::plan::Plan;
use super::recovery::{remove_durably, sync_directory};
use super::retention::Segment;
use super::times::{Began, Times};
use crate::create::Nameless;
use crate::mapping::Mapping;
use crate::options::Durability;
use crate::pen::Pen;
use crate::syncer::Syncer;
use crate::syncs::Syncs;
use crate::sys::file::Unnamed;
use crate::time::unix_nanos;

/// Mapped bytes of channels that have ended, which are kept for those that will be written in the same files.
const KEEP_MAPPED: u64 = 256 << 20;
/// However large they are, so many are kept.
const KEEP_LEAST: usize = 2;
/// However small they are, no more are kept: each process can have so many mappings only.
const KEEP_MOST: usize = 64;
/// The thread naps for this part of the time that the channel has taken so far.
const NAP_SHARE: u64 = 4;
pub(crate) const NAPS: (Duration, Duration) = (Duration::from_micros(50), Duration::from_secs(1));

/// What the writer and the thread share.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) plan: Plan,
    state: Mutex<State>,
    /// Something is to be done.
    wake: Condvar,
    /// Whether the time of the channel that is being written is over.
    pub(crate) due: AtomicBool,
    /// Held by whoever sees to what has ended, for as long as that takes. Taken before `state`.
    kept: Mutex<Kept>,
}

/// Held for an instant only.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The next channel.
    pub(crate) ready: Option<Nameless>,
    /// Whether one is to be prepared.
    pub(crate) wanted: bool,
    /// Whether a roll is to be expected.
    pub(crate) soon: bool,
    /// Channels that have ended and are still to be seen to.
    pub(crate) retired: VecDeque<Retired>,
    /// How many channels there are beside the one that is being written.
    pub(crate) others: usize,
    /// The channel that is being written: when it began, and when its time is over.
    pub(crate) began: u64,
    pub(crate) over: Option<u64>,
    pub(crate) syncer: Weak<Syncer>,
    /// Whether it is to be seen what can be given up.
    retains: bool,
    pub(crate) stops: bool,
    /// Whether the thread sleeps until it is woken.
    sleeps: bool,
}

/// A channel that has ended, with its writer.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) pen: Pen,
    /// What follows it.
    pub(crate) next: Began,
    /// Left over from giving the next one its name.
    pub(crate) file: Unnamed,
}

/// Channels that have ended.
#[derive(Debug)]
struct Kept {
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// Mappings of some of them.
    mappings: VecDeque<(u64, Mapping)>,
    /// The first sequence behind them.
    end: u64,
    times: Times,
}

/// One thing to be done.
enum Job {
    Prepare,
    Settle,
    Retain,
    /// The time of the channel that began then is over.
    Over {
        began: u64,
    },
}

impl Upkeep {
    /// Of the journal of `plan`, whose channels, all of them ended, are `segments`.
    pub(crate) fn new(plan: Plan, segments: Vec<Segment>) -> Upkeep {
        let state = State { others: segments.len(), retains: true, ..State::default() };
        let kept =
            Kept { segments: segments.into(), mappings: VecDeque::new(), end: 0, times: Times::none() };
        Upkeep {
            plan,
            state: Mutex::new(state),
            wake: Condvar::new(),
            due: AtomicBool::new(false),
            kept: Mutex::new(kept),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked, the state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // The same.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if it sleeps, or if it must not nap on.
    pub(crate) fn wake(&self, state: MutexGuard<'_, State>, now: bool) {
        let wakes = state.sleeps || now;
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// The writer's first channel has begun.
    pub(crate) fn begin(&self, began: Began) {
        let mut kept = self.kept();
        let names: Vec<_> = kept.segments.iter().map(|segment| segment.first).collect();
        kept.end = began.first;
        kept.times = Times::open(&self.plan.directory, &names, began.first);
        kept.times.add(began);
    }

    /// What the thread does until it is told to stop.
    pub(crate) fn work(&self, syncs: &Syncs) {
        while let Some(job) = self.next_job() {
            match job {
                Job::Prepare => self.prepare(),
                Job::Settle => {
                    self.settle(syncs);
                }
                Job::Retain => self.retain(),
                Job::Over { began } => self.end_time(began),
            }
        }
    }

    /// Waits for something to do; `None` at the end.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.wanted && state.ready.is_none() && !state.stops {
                state.wanted = false;
                return Some(Job::Prepare);
            }
            // After each that has ended: its file may be wanted for the next one.
            if std::mem::take(&mut state.retains) {
                return Some(Job::Retain);
            }
            if !state.retired.is_empty() {
                return Some(Job::Settle);
            }
            if state.stops {
                return None;
            }
            let now = unix_nanos();
            if state.over.is_some_and(|over| over <= now) {
                state.over = None;
                return Some(Job::Over { began: state.began });
            }
            // Not longer than a second: the system's clock may be set.
            let rest = state.over.map(|over| Duration::from_nanos(over - now).min(NAPS.1));
            let nap = Duration::from_nanos(now.saturating_sub(state.began) / NAP_SHARE);
            let nap = state.soon.then_some(nap.clamp(NAPS.0, NAPS.1));
            state.sleeps = nap.is_none();
            state = match nap.into_iter().chain(rest).min() {
                Some(time) => self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.sleeps = false;
        }
    }

    fn end_time(&self, began: u64) {
        if self.state().ready.is_none() {
            self.prepare();
        }
        let state = self.state();
        if state.began != began {
            // It has ended meanwhile.
            return;
        }
        self.due.store(true, Ordering::SeqCst);
        let syncer = state.syncer.upgrade();
        drop(state);
        if let Some(syncer) = syncer {
            syncer.gate().pause();
        }
    }

    fn prepare(&self) {
        // The writer comes to it by itself if this fails, and is told then.
        if let Ok(nameless) = self.plan.prepare() {
            self.state().ready.get_or_insert(nameless);
        }
    }

    /// Syncs the oldest channel that has ended and is still to be seen to, unless nobody asked for that, and gives back what it does not
    /// need. `false` if there is none.
    pub(crate) fn settle(&self, syncs: &Syncs) -> bool {
        // Before it is taken, so that one comes after the other.
        let mut kept = self.kept();
        let Some(Retired { mut pen, next, file }) = self.state().retired.pop_front() else { return false };
        drop(file);
        kept.times.add(next);
        // A failure poisons the writer, which reports it.
        let settled = self.plan.options.durability == Durability::Never || syncs.settle().is_ok();
        let (first, _) = pen.begun();
        let mapped = if settled && self.plan.retention.is_limited() { pen.mapped() } else { Ok(None) };
        if settled && !self.plan.retention.is_limited() {
            let _ = pen.trim();
        }
        drop(pen);
        if let Ok(Some((map, metadata, present))) = mapped {
            let mapped = (kept.mappings.len() as u64 + 1).saturating_mul(map.len());
            if (mapped <= KEEP_MAPPED || kept.mappings.len() < KEEP_LEAST)
                && kept.mappings.len() < KEEP_MOST
                && let Ok(mapping) = Mapping::new(map, &metadata, present)
            {
                kept.mappings.push_back((first, mapping));
            }
        }
        kept.segments.push_back(Segment { first, ended: next.created, bytes: self.plan.bytes_of(first) });
        kept.end = next.first;
        self.state().retains |= settled;
        true
    }

    /// Gives up what exceeds the limits, the oldest first and one at a time, so that whatever happens meanwhile there is no hole. A file
    /// that nobody holds becomes the next channel's.
    pub(crate) fn retain(&self) {
        let mut kept = self.kept();
        let retention = &self.plan.retention;
        if !retention.is_limited() {
            return;
        }
        // Cursors only move on; who sets one back while this happens may find that it has lagged.
        let needed = if retention.for_cursors { cursor::least_needed(&self.plan.directory) } else { None };
        let current = (kept.end, self.plan.bytes_of(kept.end));
        let excess = retention.excess(kept.segments.make_contiguous(), current, unix_nanos(), needed);
        for _ in 0..excess {
            let Some(first) = kept.segments.front().map(|segment| segment.first) else { return };
            if kept.segments.len() == 1 && sync_directory(&self.plan.directory).is_err() {
                // From here on the name of the channel that is being written is all that tells where the journal goes on.
                return;
            }
            let reuses = {
                let mut state = self.state();
                // The newest record stays, wherever it is: its sequence tells the next writer where to go on.
                let begun = || state.syncer.upgrade().is_some_and(|syncer| syncer.has_begun());
                if state.others == 1 && !begun() {
                    return;
                }
                state.others -= 1;
                state.ready.is_none()
            };
            kept.segments.pop_front();
            if !self.plan.is_ours(first) {
                continue;
            }
            let at = kept.mappings.iter().position(|(of, _)| *of == first);
            let mut mapping = at.and_then(|at| kept.mappings.remove(at)).map(|(_, mapping)| mapping);
            if reuses && let Ok(nameless) = self.plan.reuse(first, &mut mapping) {
                self.state().ready.get_or_insert(nameless);
                continue;
            }
            // Somebody reads it still, and will do so until it is through; or it has gone.
            match remove_durably(&self.plan.directory, first) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return,
                _ => {}
            }
        }
    }
}
