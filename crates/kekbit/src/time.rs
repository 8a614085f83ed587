//! Clocks, tick units, and which boot of the machine this is.

use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::sys::file::kernel_text;

/// The unit of a timestamp or a timeout. The numbers are those of the file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum TickUnit {
    /// 10⁻⁹ s.
    #[default]
    Nanos = 0,
    /// 10⁻⁶ s.
    Micros = 1,
    /// 10⁻³ s.
    Millis = 2,
    /// 1 s.
    Secs = 3,
}

impl TickUnit {
    pub(crate) fn from_number(n: u8) -> Option<TickUnit> {
        [TickUnit::Nanos, TickUnit::Micros, TickUnit::Millis, TickUnit::Secs].get(usize::from(n)).copied()
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

    /// `duration` in ticks, rounded up, so that a timeout never becomes none.
    pub(crate) fn ticks(self, duration: Duration) -> u64 {
        u64::try_from(duration.as_nanos().div_ceil(u128::from(self.nanos()))).unwrap_or(u64::MAX)
    }

    /// The span of `ticks`; the longest that can be told if there are too many.
    pub(crate) fn duration(self, ticks: u64) -> Duration {
        ticks
            .checked_mul(self.nanos())
            .map_or_else(|| Duration::from_secs(ticks / (1_000_000_000 / self.nanos())), Duration::from_nanos)
    }
}

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

    #[test]
    fn ticks_round_up_and_back() {
        assert_eq!(TickUnit::Millis.ticks(Duration::from_micros(1500)), 2);
        assert_eq!(TickUnit::Secs.duration(3), Duration::from_secs(3));
        assert_eq!(TickUnit::Secs.duration(u64::MAX), Duration::from_secs(u64::MAX));
        assert_eq!(TickUnit::Nanos.ticks(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_kernel_tells_its_boot() {
        assert_ne!(boot_id(), [0; 16]);
        assert_eq!(boot_id(), boot_id());
    }
}
