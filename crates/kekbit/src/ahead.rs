//! A thread that makes space ready ahead of the tail, so that the thread that appends hardly ever makes a system call.
//!
//! ```text
//!  ...frames | 0 | prepared: no fault       | reserved: no error      | not yet the file's
//!            ^tail                          ^                         ^
//!            mark: where it was a moment ago, left by the writer whenever it takes the slow path
//!                |<--------- distance ------------------->|    the helper works up to here, piece by piece, then sleeps
//! ```
//!
//! Invariants:
//! - What is reserved only grows as long as the helper lives: it is gone before the file is cut at its end.
//! - A range of the file is reserved once: whoever reserves has the turn. A file system in memory that has no space takes
//!   back what a failed reservation covers, also if an earlier one had been told that it succeeded. The exception is
//!   [`reserve_meanwhile`].
//! - The helper writes nothing that the writer may write: zeros go where nothing has been raised yet.
//!
//! The writer never waits for the helper's progress. What it needs before the helper has come that far it does itself;
//! only the kernel's own lock of the file makes it wait while a piece is being reserved, and a piece is no larger than
//! what the writer would reserve. Where new space is also written with zeros and synced ([`Durability::Interval`]) it waits for
//! the piece, which takes as long as its own would.
//!
//! [`Durability::Interval`]: crate::Durability::Interval

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::layout::PAGE;
use crate::space::Growth;

/// Bytes that the helper populates at once: few, since whoever maps or unmaps memory in this process waits meanwhile.
pub(crate) const PIECE: u64 = 64 << 10;
/// Having done everything, the helper naps for the time in which the writer goes through this part of the distance, at the
/// speed that it last had, so that nobody need wake it: waking a thread is a system call, on some machines of 20 µs.
const NAP_SHARE: u64 = 8;
const NAPS: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(50));
/// If the writer does not move the helper sleeps. It is woken when this part of the distance is lacking again, and, also from
/// a nap, when no more than this part is left.
const WAKE_SHARE: u64 = 4;

/// Space in the data region of a file: that of the kernel, or that of a model of it.
pub(crate) trait Ground {
    /// Makes `[from, to)` the file's own.
    fn reserve(&self, from: u64, to: u64) -> Result<(), Errno>;

    /// Makes the pages of `[from, to)`, which the file has, present for writing.
    fn populate(&self, from: u64, to: u64) -> Result<(), Errno>;
}

/// What writer and helper tell each other of the space that both of them reserve.
pub(crate) trait Board {
    /// The right to reserve, which one of them has at a time.
    type Turn<'b>
    where
        Self: 'b;

    /// How much of the data region is reserved.
    fn reserved(&self) -> u64;

    /// Tells that `[0, to)` is reserved. Less than before changes nothing.
    fn raise(&self, to: u64);

    /// The turn, if nobody has it.
    fn try_turn(&self) -> Option<Self::Turn<'_>>;

    /// Waits for the turn.
    fn turn(&self) -> Self::Turn<'_>;
}

/// The helper reserves from what is reserved up to `to(reserved)`. `false` if the writer is at it.
pub(crate) fn reserve_ahead<B: Board>(
    board: &B,
    reserve: impl FnOnce(u64, u64) -> Result<(), Errno>,
    to: impl FnOnce(u64) -> u64,
) -> Result<bool, Errno> {
    let Some(_turn) = board.try_turn() else { return Ok(false) };
    let from = board.reserved();
    let to = to(from);
    if from < to {
        reserve(from, to)?;
        board.raise(to);
    }
    Ok(true)
}

/// The writer reserves `[from, to)` while the helper has the turn and may be reserving the same. `false` if it cannot be
/// told whether that is surely reserved, until the helper's turn is over.
///
/// If the helper's call comes last and fails, a file system in memory takes back the pages that were reserved only. Those
/// that were populated it leaves; and a page that can be populated is there.
pub(crate) fn reserve_meanwhile<B: Board>(
    board: &B,
    ground: &impl Ground,
    from: u64,
    to: u64,
) -> Result<bool, Errno> {
    // If the helper has got the space, this finds it there: the kernel lets one in at a time.
    ground.reserve(from, to)?;
    if ground.populate(from, to).is_err() {
        return Ok(false);
    }
    board.raise(to);
    Ok(true)
}

/// The [`Board`] of two threads, and what else they know of each other.
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

impl Board for Shared {
    type Turn<'b> = MutexGuard<'b, ()>;

    fn reserved(&self) -> u64 {
        // Acquire, partner of the Release in `raise`: the file has grown before.
        self.reserved.load(Ordering::Acquire)
    }

    fn raise(&self, to: u64) {
        // Release, partner of the Acquire in `reserved`.
        self.reserved.fetch_max(to, Ordering::Release);
    }

    fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Relaxed where nothing else is said: where to work next and what need not fault is advice.
impl Shared {
    pub(crate) fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Relaxed)
    }

    /// Tells that `[0, to)` is prepared, or about to be.
    pub(crate) fn claim_prepared(&self, to: u64) {
        self.prepared.fetch_max(to, Ordering::Relaxed);
    }

    /// Tells whether there was no space for the helper.
    pub(crate) fn set_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    fn mark(&self) -> u64 {
        // SeqCst, as in `tell`: of one that goes to sleep and one that tells, at least one sees the other.
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
    fn work(&self, growth: &mut Growth, ground: &impl Helps) -> bool {
        let mark = self.mark();
        let target = self.target(mark);
        let mut worked = false;
        if self.reserved() < target && !self.refused.load(Ordering::Relaxed) {
            // The writer may have reserved more meanwhile.
            let to = |from| if from < target { growth.end(from, target) } else { from };
            match reserve_ahead(self, |from, to| ground.acquire(from, to), to) {
                Ok(reserved) => {
                    growth.grow();
                    worked = reserved;
                }
                // The writer will come to it, and is then told.
                Err(_) => self.set_refused(true),
            }
        }
        // What lies before the tail has been written.
        let from = self.prepared().max(mark & !(PAGE - 1));
        let to = target.min(self.reserved()).min(from + PIECE);
        if from < to {
            // A failure costs speed only, and the next piece may do better.
            let _ = ground.populate(from, to);
            self.claim_prepared(to);
            worked = true;
        }
        worked
    }
}

/// Where the writer was at some time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    mark: u64,
    at: Instant,
}

impl Shared {
    /// Rests when everything is done: for a while if the writer is at work, else until it is.
    fn rest(&self, pace: &mut Pace) {
        let (now, mark) = (Pace { mark: self.mark(), at: Instant::now() }, pace.mark);
        let (took, done) = (now.at - pace.at, now.mark - mark);
        *pace = now;
        if done > 0 {
            let nap = took.as_secs_f64() * (self.distance / NAP_SHARE) as f64 / done as f64;
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

/// What the helper works on: it also writes zeros where that is the policy.
pub(crate) trait Helps: Ground + Send + 'static {
    /// Reserves `[from, to)` and does to it what is done to all new space.
    fn acquire(&self, from: u64, to: u64) -> Result<(), Errno>;
}

/// The helper, as its writer has it. Ends with it.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) shared: Arc<Shared>,
    /// `None` once it is gone.
    thread: Option<JoinHandle<()>>,
    process: u32,
}

impl Ahead {
    /// Starts a helper that works up to `distance` bytes ahead of `tail`.
    pub(crate) fn start(
        tail: u64,
        reserved: u64,
        capacity: u64,
        distance: u64,
        mut growth: Growth,
        ground: impl Helps,
    ) -> io::Result<Ahead> {
        let shared = Arc::new(Shared {
            mark: AtomicU64::new(tail),
            distance,
            capacity,
            reserved: AtomicU64::new(reserved),
            prepared: AtomicU64::new(tail),
            refused: AtomicBool::new(false),
            sleeps: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            turn: Mutex::new(()),
        });
        let seen = Arc::clone(&shared);
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
        let shared = &*self.shared;
        shared.mark.store(tail, Ordering::SeqCst);
        if shared.is_wanted(tail)
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
