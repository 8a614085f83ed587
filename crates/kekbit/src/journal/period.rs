//! Spans of time by which a journal rolls: they begin on boundaries of UTC, whenever the journal was opened.

/// How often a journal begins a new channel: at the boundary of a minute, an hour or a day, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Period {
    /// At the beginning of each minute.
    Minute,
    /// Of each hour.
    Hour,
    /// Of each day, at midnight UTC.
    Day,
}

impl Period {
    /// Its length in seconds.
    pub(crate) const fn seconds(self) -> u32 {
        match self {
            Period::Minute => 60,
            Period::Hour => 60 * 60,
            Period::Day => 24 * 60 * 60,
        }
    }

    pub(crate) fn of_seconds(seconds: u32) -> Option<Period> {
        [Period::Minute, Period::Hour, Period::Day].into_iter().find(|period| period.seconds() == seconds)
    }

    fn nanos(self) -> u64 {
        u64::from(self.seconds()) * 1_000_000_000
    }

    /// The boundary behind `time`; both in nanoseconds since the Unix epoch, which began at such a boundary. Unix time has no
    /// leap seconds.
    pub(crate) fn end_of(self, time: u64) -> u64 {
        (time / self.nanos()).saturating_add(1).saturating_mul(self.nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_end_on_boundaries_of_utc() {
        // 2026-11-26T19:53:18.5Z
        let time = 1_795_722_798_500_000_000;
        let seconds = |period: Period| period.end_of(time) / 1_000_000_000;
        assert_eq!(seconds(Period::Minute), 1_795_722_840);
        assert_eq!(seconds(Period::Hour), 1_795_723_200);
        assert_eq!(seconds(Period::Day), 1_795_737_600);
        assert_eq!(Period::Day.end_of(1_795_737_600_000_000_000), 1_795_824_000_000_000_000);
        assert_eq!(Period::Minute.end_of(u64::MAX), u64::MAX);
    }
}
