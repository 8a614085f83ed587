//! Time: a clock that processes share, what it costs to read it, and when each record is due.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock, which all processes of a machine share. `Instant` is the same clock, but its
/// times cannot be told to another process.
#[inline]
pub(crate) fn now() -> u64 {
    // It takes no pointer of ours and a clock that every Linux has: it does not fail.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the monotonic clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// What one reading of the clock costs, in nanoseconds: the median of many batches.
pub(crate) fn cost() -> f64 {
    const BATCH: u64 = 1000;
    let mut batches: Vec<u64> = (0..101)
        .map(|_| {
            let begun = now();
            for _ in 0..BATCH {
                std::hint::black_box(now());
            }
            now() - begun
        })
        .collect();
    batches.sort_unstable();
    batches[batches.len() / 2] as f64 / BATCH as f64
}

/// The schedule of an open loop: when each record is due, whatever became of those before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begin: u64,
    /// Nanoseconds between two records, in units of 2⁻³².
    step: u128,
}

impl Pace {
    pub(crate) fn new(begin: u64, rate: u64) -> Pace {
        Pace { begin, step: (1_000_000_000u128 << 32) / u128::from(rate.max(1)) }
    }

    /// When the record with this number is due.
    #[inline]
    pub(crate) fn due(&self, number: u64) -> u64 {
        self.begin + ((u128::from(number) * self.step) >> 32) as u64
    }
}

/// One record of how many is timed, so that reading the clock takes less than a twentieth of the time between records.
pub(crate) fn stride(rate: u64, clock: f64) -> u64 {
    let between = 1e9 / rate as f64;
    (clock / (between / 20.0)).ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_drift() {
        let pace = Pace::new(1000, 3);
        assert_eq!([pace.due(0), pace.due(1), pace.due(3)], [1000, 333_334_333, 1_000_000_999]);
        // A day of a million records a second is a day, to the nanosecond or so.
        let day = 86_400u64;
        assert!(Pace::new(0, 1_000_000).due(day * 1_000_000).abs_diff(day * 1_000_000_000) < 100);
    }

    #[test]
    fn the_clock_takes_a_twentieth_at_the_most() {
        assert_eq!(stride(100_000, 25.0), 1);
        assert_eq!(stride(1_000_000, 50.0), 1);
        assert_eq!(stride(10_000_000, 25.0), 5);
    }

    #[test]
    fn the_clock_goes_on_and_costs_something() {
        let begun = now();
        assert!(cost() > 0.0 && now() > begun);
    }
}
