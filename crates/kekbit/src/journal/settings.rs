//! What a journal was told to do by itself, as it remembers it: in the header of each of its channels.

use std::time::Duration;

use super::period::Period;
use super::retention::Retention;
use crate::layout::attributes::Settings;

/// Bytes of a channel's capacity, unless something else is chosen.
pub(crate) const ROLL_BYTES: u64 = 256 << 20;

/// What a journal was told to do by itself; see [`Journal::settings`](crate::Journal::settings).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct JournalSettings {
    /// Bytes of a channel's capacity.
    pub roll_bytes: u64,
    /// By which period it rolls.
    pub roll_every: Option<Period>,
    /// Bytes on the disk that all channels together may take.
    pub retain_bytes: Option<u64>,
    /// For how long records are kept.
    pub retain_age: Option<Duration>,
    /// How many channels are kept, with the one that is being written.
    pub retain_count: Option<u64>,
    /// Whether what a named cursor has not passed is kept whatever the limits.
    pub retain_for_cursors: bool,
}

impl Default for JournalSettings {
    fn default() -> Self {
        JournalSettings::decode(ROLL_BYTES, &Settings::default())
    }
}

impl JournalSettings {
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            bytes: self.retain_bytes,
            age: self.retain_age,
            count: self.retain_count,
            for_cursors: self.retain_for_cursors,
        }
    }

    pub(crate) fn decode(roll_bytes: u64, settings: &Settings) -> JournalSettings {
        let some = |number: u64| (number > 0).then_some(number);
        JournalSettings {
            roll_bytes,
            roll_every: Period::of_seconds(settings.period),
            retain_bytes: some(settings.retain_bytes),
            retain_age: some(settings.retain_age).map(Duration::from_nanos),
            retain_count: some(settings.retain_count),
            retain_for_cursors: settings.for_cursors,
        }
    }
}

/// The same as it stands in a header. A limit of nothing is one of the least that there is.
pub(crate) fn encode(every: Option<Period>, retention: &Retention) -> Settings {
    let nanos = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    Settings {
        retain_bytes: retention.bytes.map_or(0, |bytes| bytes.max(1)),
        retain_age: retention.age.map_or(0, |age| nanos(age).max(1)),
        retain_count: retention.count.map_or(0, |count| count.max(1)),
        period: every.map_or(0, Period::seconds),
        for_cursors: retention.for_cursors,
    }
}
