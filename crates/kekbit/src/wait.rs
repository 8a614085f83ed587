//! Waiting: how a reader spends the time until there is something, and when it gives up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How to wait for the next record: a strategy, and what ends the waiting.
///
/// | strategy | latency | processor |
/// | --- | --- | --- |
/// | [`Wait::spin`] | least | one core, all the time |
/// | [`Wait::yielding`] | little more, while cores are free | whatever others leave |
/// | [`Wait::backoff`] | up to the longest pause when idle | almost none when idle |
///
/// # Example: poll at most ten times
///
/// ```
/// use kekbit::{Channel, Start, Wait, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("quiet.kek");
/// # let _writer = Writer::create(&path)?;
/// let mut reader = Channel::open(&path)?.reader(Start::Beginning)?;
/// assert!(reader.next(Wait::spin().retries(10))?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a Wait does nothing until something waits by it"]
pub struct Wait<'a> {
    strategy: Strategy,
    limit: Option<Duration>,
    retries: Option<u64>,
    stop: Option<&'a AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
enum Strategy {
    Spin,
    Yield,
    Backoff { longest: Duration },
}

impl<'a> Wait<'a> {
    const fn new(strategy: Strategy) -> Wait<'a> {
        Wait { strategy, limit: None, retries: None, stop: None }
    }

    /// Polls without a pause.
    pub const fn spin() -> Wait<'a> {
        Wait::new(Strategy::Spin)
    }

    /// Lets other threads run between polls.
    pub const fn yielding() -> Wait<'a> {
        Wait::new(Strategy::Yield)
    }

    /// Polls, then yields, then sleeps, each time twice as long, up to 1 ms.
    pub const fn backoff() -> Wait<'a> {
        Wait::new(Strategy::Backoff { longest: Duration::from_millis(1) })
    }

    /// As [`Wait::backoff`], but sleeps up to `longest` at once. That is also how late the end of a dead writer may be
    /// noticed.
    pub const fn backoff_up_to(longest: Duration) -> Wait<'a> {
        Wait::new(Strategy::Backoff { longest })
    }

    /// Gives up after `limit`.
    pub const fn at_most(mut self, limit: Duration) -> Wait<'a> {
        self.limit = Some(limit);
        self
    }

    /// Gives up after so many polls beyond the first.
    pub const fn retries(mut self, retries: u64) -> Wait<'a> {
        self.retries = Some(retries);
        self
    }

    /// Gives up when there is nothing and `stop` is true, at the latest after one sleep. A reader that always finds a
    /// record never waits: test the flag in its loop, too.
    pub const fn until<'b>(self, stop: &'b AtomicBool) -> Wait<'b> {
        Wait { strategy: self.strategy, limit: self.limit, retries: self.retries, stop: Some(stop) }
    }
}

/// What comes next while waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Look again.
    Poll,
    /// Look again, and see whether whoever is waited for still lives: there has been some time for it to die.
    Check,
    /// It has taken too long.
    GiveUp,
}

/// The state of one waiting.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    wait: Wait<'a>,
    polls: u64,
    begun: Option<Instant>,
    last_check: Option<Instant>,
}

/// Polls before the clock is looked at for the first time, and between two looks while spinning.
const POLLS_PER_LOOK: u64 = 256;
const YIELDS: u64 = 64;
const SHORTEST_SLEEP: Duration = Duration::from_micros(20);
/// At the most so often is asked whether the other side lives.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(1);

impl<'a> Waiting<'a> {
    pub(crate) fn new(wait: Wait<'a>) -> Waiting<'a> {
        Waiting { wait, polls: 0, begun: None, last_check: None }
    }

    /// Spends some time and says what comes next.
    pub(crate) fn pause(&mut self) -> Next {
        // Relaxed: the flag orders nothing but itself.
        if self.wait.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
            || self.wait.retries.is_some_and(|retries| self.polls >= retries)
        {
            return Next::GiveUp;
        }
        self.polls += 1;
        let mut look = self.polls.is_multiple_of(POLLS_PER_LOOK);
        match self.wait.strategy {
            Strategy::Spin => std::hint::spin_loop(),
            Strategy::Yield => {
                std::thread::yield_now();
                // It may have taken milliseconds.
                look = true;
            }
            Strategy::Backoff { .. } if self.polls <= POLLS_PER_LOOK => std::hint::spin_loop(),
            Strategy::Backoff { .. } if self.polls <= POLLS_PER_LOOK + YIELDS => {
                std::thread::yield_now();
                look = true;
            }
            Strategy::Backoff { longest } => {
                let doublings = (self.polls - POLLS_PER_LOOK - YIELDS - 1).min(16) as u32;
                let sleep = (SHORTEST_SLEEP * (1 << doublings)).min(longest);
                std::thread::sleep(self.remaining().map_or(sleep, |rest| sleep.min(rest)));
                look = true;
            }
        }
        // If there is a limit it matters when the waiting began.
        let begins = self.begun.is_none() && self.wait.limit.is_some();
        if !look && !begins {
            return Next::Poll;
        }
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        if self.wait.limit.is_some_and(|limit| now - begun >= limit) {
            return Next::GiveUp;
        }
        if look && self.last_check.is_none_or(|last| now - last >= CHECK_INTERVAL) {
            self.last_check = Some(now);
            return Next::Check;
        }
        Next::Poll
    }

    fn remaining(&self) -> Option<Duration> {
        Some(self.wait.limit?.saturating_sub(self.begun?.elapsed()))
    }
}
