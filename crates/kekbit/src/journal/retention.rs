//! What a journal keeps, and what it gives up.

use std::time::Duration;

/// A channel that has ended and has a successor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// Sequence of its first record.
    pub(crate) first: u64,
    /// When its successor began, in nanoseconds since the Unix epoch: no record of it is younger.
    pub(crate) ended: u64,
    /// Bytes that it takes on the disk.
    pub(crate) bytes: u64,
}

/// Limits; what exceeds any of them may be given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Retention {
    pub(crate) bytes: Option<u64>,
    pub(crate) age: Option<Duration>,
    pub(crate) count: Option<u64>,
    /// Whether what a named cursor has not passed stays, whatever the limits.
    pub(crate) for_cursors: bool,
}

impl Retention {
    /// Whether anything is ever given up.
    pub(crate) fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.age.is_some() || self.count.is_some()
    }

    /// How many of `segments`, oldest first, can be given up at the time `now`. The channel that is being written, of `current`
    /// bytes, whose first record is `first`, counts and stays. `needed`: the first sequence that somebody has still to read.
    pub(crate) fn excess(
        &self,
        segments: &[Segment],
        (first, current): (u64, u64),
        now: u64,
        needed: Option<u64>,
    ) -> usize {
        let mut bytes = segments.iter().map(|segment| segment.bytes).fold(current, u64::saturating_add);
        let mut count = segments.len() as u64 + 1;
        let ends = segments.iter().skip(1).map(|segment| segment.first).chain([first]);
        let mut excess = 0;
        for (segment, end) in segments.iter().zip(ends) {
            let age = Duration::from_nanos(now.saturating_sub(segment.ended));
            let too_much = self.bytes.is_some_and(|limit| bytes > limit)
                || self.count.is_some_and(|limit| count > limit)
                || self.age.is_some_and(|limit| age > limit);
            if !too_much || needed.is_some_and(|needed| needed < end) {
                break;
            }
            bytes -= segment.bytes.min(bytes);
            count -= 1;
            excess += 1;
        }
        excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Five channels of 100 bytes and 10 records; each ended a second after the one before.
    fn five() -> Vec<Segment> {
        (0..5).map(|n| Segment { first: 10 * n, ended: n * SECOND, bytes: 100 }).collect()
    }

    fn excess(retention: Retention, needed: Option<u64>) -> usize {
        retention.excess(&five(), (50, 100), 5 * SECOND, needed)
    }

    #[test]
    fn without_limits_everything_stays() {
        assert!(!Retention::default().is_limited());
        assert_eq!(excess(Retention::default(), None), 0);
    }

    #[test]
    fn bytes_count_those_of_the_channel_that_is_being_written() {
        for (bytes, gone) in [(600, 0), (599, 1), (500, 1), (250, 4), (100, 5), (0, 5)] {
            assert_eq!(
                excess(Retention { bytes: Some(bytes), ..Retention::default() }, None),
                gone,
                "{bytes}"
            );
        }
    }

    #[test]
    fn the_count_counts_it_too_and_never_gives_it_up() {
        for (count, gone) in [(6, 0), (5, 1), (1, 5), (0, 5)] {
            assert_eq!(
                excess(Retention { count: Some(count), ..Retention::default() }, None),
                gone,
                "{count}"
            );
        }
    }

    #[test]
    fn a_channel_is_as_old_as_its_youngest_record_may_be() {
        for (seconds, gone) in [(5, 0), (4, 1), (2, 3), (0, 5)] {
            let age = Some(Duration::from_secs(seconds));
            assert_eq!(excess(Retention { age, ..Retention::default() }, None), gone, "{seconds}");
        }
    }

    #[test]
    fn what_somebody_has_still_to_read_stays_whatever_the_limits() {
        let all = Retention { count: Some(1), ..Retention::default() };
        for (needed, gone) in [(0, 0), (9, 0), (10, 1), (29, 2), (49, 4), (50, 5), (1000, 5)] {
            assert_eq!(excess(all, Some(needed)), gone, "{needed}");
        }
    }

    #[test]
    fn the_first_that_must_stay_keeps_all_behind_it() {
        let mut segments = five();
        segments[1].ended = u64::MAX;
        let old = Retention { age: Some(Duration::from_secs(1)), ..Retention::default() };
        assert_eq!(old.excess(&segments, (50, 100), 5 * SECOND, None), 1);
    }
}
