//! The stages that kekbit brings: a timestamp and a sequence in front of the payload, eight bytes each.

use crate::handler::{AppendContext, Handler, StageError, StageInfo};
use crate::layout::u64_at;
use crate::time::TickUnit;

const TIMESTAMP: u32 = 1;
const SEQUENCE: u32 = 2;

/// Puts the time of the append in front of the record: ticks since the Unix epoch, as a little-endian `u64`. It never
/// goes back within a channel. With this stage, readers can seek to a time exactly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timestamp {
    unit: TickUnit,
}

impl Timestamp {
    /// Timestamps in `unit`, rounded down.
    pub const fn new(unit: TickUnit) -> Timestamp {
        Timestamp { unit }
    }

    /// Timestamps in nanoseconds.
    pub const fn nanos() -> Timestamp {
        Timestamp::new(TickUnit::Nanos)
    }
}

impl Handler for Timestamp {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: TIMESTAMP,
            version: 1,
            prefix_len: 8,
            name: "timestamp".into(),
            params: vec![self.unit as u8],
            ..StageInfo::default()
        }
    }

    fn looks_at_body(&self) -> bool {
        false
    }

    #[inline]
    fn before(&mut self, cx: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&self.unit.of_nanos(cx.now()).to_le_bytes());
        Ok(())
    }
}

/// Puts the record's sequence in front of it, as a little-endian `u64`: for readers that get records without their
/// channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceStamp;

impl Handler for SequenceStamp {
    fn describe(&self) -> StageInfo {
        StageInfo { id: SEQUENCE, version: 1, prefix_len: 8, name: "sequence".into(), ..StageInfo::default() }
    }

    fn looks_at_body(&self) -> bool {
        false
    }

    #[inline]
    fn before(&mut self, cx: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&cx.sequence().to_le_bytes());
        Ok(())
    }
}

/// Where the stages of a channel have put their bytes, for readers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct StageLayout {
    /// Bytes around the payload, if no stage replaces it.
    pub(crate) prefix: usize,
    pub(crate) suffix: usize,
    /// Where the timestamp lies in a stored record, and in what unit.
    timestamp: Option<(usize, TickUnit)>,
    sequence: Option<usize>,
    /// The first stage that stands in place of the payload.
    pub(crate) replaced_by: Option<StageInfo>,
}

impl StageLayout {
    /// The layout that `stages` make, or what is wrong with them.
    pub(crate) fn new(stages: &[StageInfo], max_record_len: u32) -> Result<StageLayout, &'static str> {
        let mut layout = StageLayout::default();
        for stage in stages {
            let at = layout.prefix;
            layout.prefix += stage.prefix_len as usize;
            layout.suffix += stage.suffix_len as usize;
            if layout.prefix + layout.suffix > max_record_len as usize {
                return Err("its stages add more than a record can have");
            }
            match (stage.id, stage.version, stage.prefix_len) {
                (TIMESTAMP, 1, 8) => {
                    let unit = stage.params.first().and_then(|unit| TickUnit::from_number(*unit));
                    layout.timestamp =
                        layout.timestamp.or(Some((at, unit.ok_or("a timestamp has an unknown unit")?)));
                }
                (SEQUENCE, 1, 8) => layout.sequence = layout.sequence.or(Some(at)),
                _ => {}
            }
            if stage.replaces {
                layout.replaced_by = Some(stage.clone());
                break;
            }
        }
        Ok(layout)
    }

    pub(crate) fn has_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }

    /// Nanoseconds since the Unix epoch that a timestamp stage has put into `stored`.
    pub(crate) fn timestamp(&self, stored: &[u8]) -> Option<u64> {
        let (at, unit) = self.timestamp?;
        stored.get(at..at + 8).map(|bytes| u64_at(bytes, 0).saturating_mul(unit.nanos()))
    }

    /// The sequence that a sequence stage has put into `stored`.
    pub(crate) fn sequence(&self, stored: &[u8]) -> Option<u64> {
        let at = self.sequence?;
        stored.get(at..at + 8).map(|bytes| u64_at(bytes, 0))
    }
}
