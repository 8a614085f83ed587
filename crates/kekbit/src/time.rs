//! Clocks, tick units, and which boot of the machine this is.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::sys::file::kernel_text;

/// The unit of a timestamp or a timeout.
///
/// # Example: ticks and durations
///
/// ```
/// use std::time::Duration;
/// use kekbit::TickUnit;
///
/// let span = Duration::from_micros(1_500);
/// assert_eq!(TickUnit::Millis.ticks(span), 1);
/// assert_eq!(TickUnit::Millis.ticks_up(span), 2);
/// assert_eq!(TickUnit::Millis.duration(2), Duration::from_millis(2));
/// assert_eq!("ms".parse(), Ok(TickUnit::Millis));
/// assert!("minutes".parse::<TickUnit>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum TickUnit {
    /// 10⁻⁹ s, written `ns`.
    #[default]
    Nanos = 0,
    /// 10⁻⁶ s, written `us`; `µs` is read too.
    Micros = 1,
    /// 10⁻³ s, written `ms`.
    Millis = 2,
    /// 1 s, written `s`.
    Secs = 3,
}

impl TickUnit {
    /// All units, the shortest first.
    pub const ALL: [TickUnit; 4] = [TickUnit::Nanos, TickUnit::Micros, TickUnit::Millis, TickUnit::Secs];

    /// The unit with this number in the file, if there is one.
    pub const fn from_number(number: u8) -> Option<TickUnit> {
        match number {
            0 => Some(TickUnit::Nanos),
            1 => Some(TickUnit::Micros),
            2 => Some(TickUnit::Millis),
            3 => Some(TickUnit::Secs),
            _ => None,
        }
    }

    /// The unit's number in the file: 0 to 3. The numbers of kekbit 0.3 were others.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Nanoseconds of one tick.
    pub const fn nanos(self) -> u64 {
        match self {
            TickUnit::Nanos => 1,
            TickUnit::Micros => 1_000,
            TickUnit::Millis => 1_000_000,
            TickUnit::Secs => 1_000_000_000,
        }
    }

    /// Whole ticks in so many nanoseconds. Each division is by a constant: by a variable it takes as long as the rest of an append.
    #[inline]
    pub(crate) fn of_nanos(self, nanos: u64) -> u64 {
        match self {
            TickUnit::Nanos => nanos,
            TickUnit::Micros => nanos / TickUnit::Micros.nanos(),
            TickUnit::Millis => nanos / TickUnit::Millis.nanos(),
            TickUnit::Secs => nanos / TickUnit::Secs.nanos(),
        }
    }

    /// Whole ticks of `duration`: rounded down; [`u64::MAX`] if there are more. How timestamps are made.
    pub fn ticks(self, duration: Duration) -> u64 {
        saturated(duration.as_nanos() / u128::from(self.nanos()))
    }

    /// Ticks that are not shorter than `duration`: rounded up; [`u64::MAX`] if there are more. How timeouts are recorded, so that
    /// none becomes shorter than it was asked for.
    pub fn ticks_up(self, duration: Duration) -> u64 {
        saturated(duration.as_nanos().div_ceil(u128::from(self.nanos())))
    }

    /// How long so many ticks are. Exact: no number of ticks is too long for a duration.
    pub const fn duration(self, ticks: u64) -> Duration {
        let in_a_second = 1_000_000_000 / self.nanos();
        // Less than 10⁹: so many nanoseconds are less than a second.
        let rest = ticks % in_a_second * self.nanos();
        Duration::new(ticks / in_a_second, rest as u32)
    }

    /// Ticks since the Unix epoch by the system's wall clock, rounded down; 0 before it. It goes back when the clock is set back,
    /// which the stamps of a [`Timestamp`](crate::Timestamp) stage do not.
    pub fn now(self) -> u64 {
        self.of_nanos(unix_nanos())
    }
}

fn saturated(ticks: u128) -> u64 {
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

impl fmt::Display for TickUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TickUnit::Nanos => "ns",
            TickUnit::Micros => "us",
            TickUnit::Millis => "ms",
            TickUnit::Secs => "s",
        })
    }
}

impl FromStr for TickUnit {
    type Err = TickUnitError;

    fn from_str(text: &str) -> Result<TickUnit, TickUnitError> {
        match text {
            "ns" => Ok(TickUnit::Nanos),
            "us" | "µs" => Ok(TickUnit::Micros),
            "ms" => Ok(TickUnit::Millis),
            "s" => Ok(TickUnit::Secs),
            _ => Err(TickUnitError),
        }
    }
}

/// A text that is no tick unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no tick unit: expected `ns`, `us`, `ms` or `s`")]
pub struct TickUnitError;

/// Nanoseconds since the Unix epoch by the system's wall clock; 0 before it, and the year 2554 is the end.
///
/// By the system call's own words: `SystemTime` copies them back and forth, for which a timestamp would wait.
#[inline]
pub(crate) fn unix_nanos() -> u64 {
    match clock_gettime(ClockId::CLOCK_REALTIME) {
        // Asked beforehand, so that what is made of the time need not wait for the answer.
        Ok(time) if (0..LAST_SECOND).contains(&time.tv_sec()) => {
            time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
        }
        Ok(time) => out_of_range(time.tv_sec()),
        // Every kernel has this clock.
        Err(_) => 0,
    }
}

const LAST_SECOND: i64 = (u64::MAX / 1_000_000_000) as i64;

#[cold]
fn out_of_range(seconds: i64) -> u64 {
    if seconds < 0 { 0 } else { u64::MAX }
}

/// A wall clock that never goes back, shared by everything that one writer stamps: so an entry of the index is never
/// before the timestamp of an earlier record, also when the system's clock is set back.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: u64,
}

impl Clock {
    /// A clock that does not go back behind `time` either.
    pub(crate) fn not_before(time: u64) -> Clock {
        Clock { last: time }
    }

    /// From here on it is at least `time`.
    pub(crate) fn catch_up(&mut self, time: u64) {
        self.last = self.last.max(time);
    }

    #[inline]
    pub(crate) fn now(&mut self) -> u64 {
        let now = unix_nanos();
        if now < self.last {
            return self.set_back();
        }
        self.last = now;
        now
    }

    #[cold]
    fn set_back(&self) -> u64 {
        self.last
    }
}

/// The random id that the kernel gives to each boot, or zeros where it cannot be told: then nothing counts as written
/// in this boot.
pub(crate) fn boot_id() -> [u8; 16] {
    // No process sees two boots. What could not be told this time may be told the next.
    static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
    if let Some(id) = BOOT_ID.get() {
        return *id;
    }
    let id = read_boot_id();
    if id != [0; 16] {
        return *BOOT_ID.get_or_init(|| id);
    }
    id
}

fn read_boot_id() -> [u8; 16] {
    let text = kernel_text("/proc/sys/kernel/random/boot_id");
    let digits: Vec<u8> = text.bytes().filter_map(|c| char::from(c).to_digit(16)).map(|d| d as u8).collect();
    let mut id = [0; 16];
    if digits.len() == 32 {
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn a_duration_in_ticks_is_rounded_as_it_says() {
        let span = Duration::new(1, 500_000_001);
        for (unit, down, up) in [
            (TickUnit::Nanos, 1_500_000_001, 1_500_000_001),
            (TickUnit::Micros, 1_500_000, 1_500_001),
            (TickUnit::Millis, 1_500, 1_501),
            (TickUnit::Secs, 1, 2),
        ] {
            assert_eq!((unit.ticks(span), unit.ticks_up(span)), (down, up), "{unit}");
        }
    }

    #[test]
    fn more_ticks_than_there_are_numbers_are_the_most() {
        for unit in TickUnit::ALL {
            let most = if unit == TickUnit::Secs { Duration::MAX.as_secs() } else { u64::MAX };
            assert_eq!((unit.ticks(Duration::MAX), unit.ticks_up(Duration::MAX)), (most, u64::MAX), "{unit}");
        }
    }

    #[test]
    fn a_unit_has_one_number_and_one_name() {
        for (number, unit) in TickUnit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(unit.number()), number);
            assert_eq!(TickUnit::from_number(unit.number()), Some(unit));
            assert_eq!(unit.to_string().parse(), Ok(unit));
        }
        assert_eq!("µs".parse(), Ok(TickUnit::Micros));
        assert!((4..=u8::MAX).all(|number| TickUnit::from_number(number).is_none()));
        for text in ["", "S", " s", "m", "nanos", "3"] {
            assert_eq!(text.parse::<TickUnit>(), Err(TickUnitError), "{text}");
        }
    }

    #[test]
    fn now_is_between_two_looks_at_the_clock() {
        for unit in TickUnit::ALL {
            let before = unix_nanos() / unit.nanos();
            let now = unit.now();
            assert!((before..=unix_nanos() / unit.nanos()).contains(&now), "{unit}");
        }
    }

    proptest! {
        #[test]
        fn ticks_become_a_duration_and_back(ticks: u64, number in 0..4_u8) {
            let unit = TickUnit::from_number(number).unwrap();
            let span = unit.duration(ticks);
            prop_assert_eq!(span.as_nanos(), u128::from(ticks) * u128::from(unit.nanos()));
            prop_assert_eq!((unit.ticks(span), unit.ticks_up(span)), (ticks, ticks));
        }
    }

    #[test]
    fn a_clock_does_not_go_back() {
        let future = unix_nanos() + 3_600_000_000_000;
        let mut clock = Clock::not_before(future);
        assert_eq!((clock.now(), clock.now()), (future, future));
        let mut clock = Clock::default();
        let first = clock.now();
        assert!(first > 1_700_000_000_000_000_000 && clock.now() >= first);
        assert_eq!((out_of_range(-1), out_of_range(i64::MAX)), (0, u64::MAX));
    }

    #[test]
    fn the_kernel_tells_its_boot() {
        assert_ne!(boot_id(), [0; 16]);
        assert_eq!(boot_id(), boot_id());
    }
}
