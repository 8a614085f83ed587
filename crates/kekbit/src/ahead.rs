//! A thread that makes space ready ahead of the tail, so that the thread that appends hardly ever makes a system call.
//!
//! ```text
//!  ...frames | 0 | prepared: no fault       | reserved: no error      | not yet the file's
//!            ^tail                          ^                         ^
//!            mark: where it was a moment ago, left by the writer whenever it takes the slow path
//!                |<--------- distance ------------------->|    the helper works up to here, piece by piece, then rests
//! ```
//!
//! Invariants:
//! - What is reserved only grows as long as the helper lives: it has gone before the file is cut at its end.
//! - The writer never waits for the helper's progress. What it needs before the helper has come that far it does itself, at
//!   the same time if need be: reserving and populating twice is harmless. Only the kernel makes it wait, for a piece that is
//!   no larger than what it would reserve itself.
//! - But zeros must not be written where the writer may be already. Where new space is written with zeros
//!   ([`Durability::Interval`]) one of them at a time has the turn, and the writer waits for a piece that it needs, as it
//!   would wait for its own.
//!
//! [`Durability::Interval`]: crate::Durability::Interval

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ground::{Ground, Growth};
use crate::layout::PAGE;

/// Bytes that are populated at once: few, since whoever maps or unmaps memory in this process waits meanwhile.
pub(crate) const PIECE: u64 = 64 << 10;
/// Having done everything, the helper naps for the time in which the writer goes through this part of the distance, at the
/// speed that it last had, so that nobody need wake it: waking a thread is a system call, on some machines of 20 µs.
const NAP_SHARE: u64 = 8;
const NAPS: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(50));
/// If the writer does not move the helper sleeps. It is woken when this part of the distance is lacking again, and, also from
/// a nap, when no more than this part is left.
const WAKE_SHARE: u64 = 4;

/// What writer and helper know of each other. Relaxed where nothing else is said: where to work next and what need not
/// fault is advice.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where the writer was when it last told, and how far ahead of that to work.
    mark: AtomicU64,
    distance: u64,
    capacity: u64,
    reserved: AtomicU64,
    /// Up to where pages are present, or somebody is about to make them so.
    prepared: AtomicU64,
    /// Whether the helper has been refused space: then it is the writer's to find out how much there is.
    refused: AtomicBool,
    /// Whether the helper sleeps until it is woken.
    sleeps: AtomicBool,
    stopped: AtomicBool,
    turn: Mutex<()>,
}

impl Shared {
    /// How much of the data region is reserved.
    pub(crate) fn reserved(&self) -> u64 {
        // Acquire, partner of the Release in `raise`: the file has grown before.
        self.reserved.load(Ordering::Acquire)
    }

    /// Tells that `[0, to)` is reserved. Less than before changes nothing.
    pub(crate) fn raise(&self, to: u64) {
        // Release, partner of the Acquire in `reserved`.
        self.reserved.fetch_max(to, Ordering::Release);
    }

    pub(crate) fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Relaxed)
    }

    /// Tells that `[0, to)` is prepared, or about to be.
    pub(crate) fn claim_prepared(&self, to: u64) {
        self.prepared.fetch_max(to, Ordering::Relaxed);
    }

    /// Tells whether there is no space for more than what is needed.
    pub(crate) fn set_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// The turn to reserve, if nobody has it.
    pub(crate) fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Waits for the turn.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) -> u64 {
        // SeqCst, as in `tell` and for `sleeps`: of one that goes to sleep and one that tells, at least one sees the other.
        self.mark.load(Ordering::SeqCst)
    }

    fn target(&self, mark: u64) -> u64 {
        ((mark + self.distance) & !(PAGE - 1)).min(self.capacity)
    }

    fn is_stopped(&self) -> bool {
        // Whoever stops it then wakes it, which orders this.
        self.stopped.load(Ordering::Relaxed)
    }

    /// Does one piece of what is to be done. `false` if there is nothing.
    fn work(&self, growth: &mut Growth, ground: &Ground) -> bool {
        let mark = self.mark();
        let target = self.target(mark);
        let reserved = self.reserve_piece(target, growth, ground);
        // What lies before the tail has been written.
        let from = self.prepared().max(mark & !(PAGE - 1));
        let to = target.min(self.reserved()).min(from + PIECE);
        if from < to {
            // If it fails, the next piece may do better.
            let _ = ground.populate(from, to);
            self.claim_prepared(to);
        }
        reserved || from < to
    }

    fn reserve_piece(&self, target: u64, growth: &mut Growth, ground: &Ground) -> bool {
        if self.reserved() >= target || self.refused.load(Ordering::Relaxed) {
            return false;
        }
        // If the writer is at it, it tells when it is done.
        let Some(_turn) = self.try_turn() else { return false };
        let from = self.reserved();
        if from >= target {
            return true;
        }
        let to = growth.end(from, target);
        if ground.reserve(from, to).is_err() {
            // The writer will come to it, and is then told.
            self.set_refused(true);
            return false;
        }
        growth.grow();
        // A failure poisons the writer, which reports it.
        let _ = ground.clear(from, to);
        self.raise(to);
        true
    }

    /// Rests when everything is done: for a while if the writer is at work, else until it is.
    fn rest(&self, pace: &mut Pace) {
        let (now, before) = (Pace { mark: self.mark(), at: Instant::now() }, *pace);
        *pace = now;
        if now.mark > before.mark {
            let (took, done) = ((now.at - before.at).as_secs_f64(), now.mark - before.mark);
            let nap = took * (self.distance / NAP_SHARE) as f64 / done as f64;
            thread::park_timeout(Duration::from_secs_f64(nap.min(NAPS.1.as_secs_f64())).max(NAPS.0));
            return;
        }
        self.sleeps.store(true, Ordering::SeqCst);
        if self.mark() == now.mark && !self.is_stopped() {
            thread::park();
        }
        self.sleeps.store(false, Ordering::SeqCst);
        // The time asleep says nothing of the writer's speed.
        pace.at = Instant::now();
    }

    /// Whether the helper must be woken for a writer at `tail`.
    fn is_wanted(&self, tail: u64) -> bool {
        let (mut target, prepared) = (self.target(tail), self.prepared().max(tail));
        if self.refused.load(Ordering::Relaxed) {
            target = target.min(self.reserved());
        }
        let (left, lacks) = (prepared - tail, target.saturating_sub(prepared));
        let share = self.distance / WAKE_SHARE;
        lacks > 0 && (left < share || (lacks >= share && self.sleeps.load(Ordering::SeqCst)))
    }
}

/// Where the writer was at some time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    mark: u64,
    at: Instant,
}

/// The helper, as its writer has it. Ends with it.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) shared: Arc<Shared>,
    /// `None` once it has gone.
    thread: Option<JoinHandle<()>>,
    process: u32,
}

impl Ahead {
    /// Starts a helper that works up to `distance` bytes ahead of `tail` on `ground`, of which `reserved` bytes are reserved,
    /// and at most `capacity` ever will be.
    pub(crate) fn start(
        ground: &Arc<Ground>,
        mut growth: Growth,
        (tail, prepared, reserved, capacity): (u64, u64, u64, u64),
        distance: u64,
    ) -> io::Result<Ahead> {
        let shared = Arc::new(Shared {
            mark: AtomicU64::new(tail),
            distance,
            capacity,
            reserved: AtomicU64::new(reserved),
            prepared: AtomicU64::new(prepared.max(tail & !(PAGE - 1))),
            refused: AtomicBool::new(false),
            sleeps: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            turn: Mutex::new(()),
        });
        let (seen, ground) = (Arc::clone(&shared), Arc::clone(ground));
        let thread = thread::Builder::new().name("kekbit-ahead".to_owned()).spawn(move || {
            let mut pace = Pace { mark: tail, at: Instant::now() };
            while !seen.is_stopped() {
                if !seen.work(&mut growth, &ground) {
                    seen.rest(&mut pace);
                }
            }
        })?;
        Ok(Ahead { shared, thread: Some(thread), process: std::process::id() })
    }

    /// The writer tells where it is. Wakes the helper if need be.
    pub(crate) fn tell(&self, tail: u64) {
        self.shared.mark.store(tail, Ordering::SeqCst);
        if self.shared.is_wanted(tail)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.process != std::process::id() {
            // A forked child has no such thread, and must not wait for it.
            std::mem::forget(thread);
            return;
        }
        self.shared.stopped.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        // It does not panic, and if it did, nothing would be lost but speed.
        let _ = thread.join();
    }
}
