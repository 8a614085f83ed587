//! The stages that kekbit brings: a timestamp, a sequence and a correlation id in front of the payload, eight bytes each.
//! The one that stands in place of it, compression, is in `lz4.rs`, behind a feature.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::handler::{AppendContext, Handler, StageError, StageInfo};
use crate::time::TickUnit;

pub(crate) const TIMESTAMP: u32 = 1;
pub(crate) const SEQUENCE: u32 = 2;
pub(crate) const CORRELATION: u32 = 3;
pub(crate) const LZ4: u32 = 4;

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

/// A number that the application puts in front of each record, to find again what belongs together: the request that a
/// record answers, the trace that it is part of. [`Record::correlation_id`](crate::Record::correlation_id) tells it,
/// and `kek cat --json` prints it as `corr`.
///
/// It is the stage that puts the number in front of each record, as a little-endian `u64`, and the application's handle at the same
/// time: a clone of it is the same number. So one clone becomes the stage, and [`CorrelationId::set`] of another sets the number
/// for the records that follow. For a [`Decoder`](crate::Decoder) a new one will do.
///
/// # Concurrency
///
/// There is one number for the whole channel. Threads that share a writer set it where no other thread comes in between:
/// in [`SharedWriter::with`](crate::SharedWriter::with).
///
/// # Example: each thread's records carry its request
///
/// ```
/// use kekbit::{Channel, CorrelationId, SharedWriter, Wait, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("answers.kek");
/// let correlation = CorrelationId::new();
/// let writer = SharedWriter::new(Writer::options().stage(correlation.clone()).create(&path)?);
/// let answer = |request: u64, text: &str| {
///     writer.with(Wait::backoff(), |writer| {
///         correlation.set(request);
///         writer.append(text.as_bytes())
///     })
/// };
/// std::thread::scope(|scope| {
///     scope.spawn(|| answer(7, "seven"));
///     scope.spawn(|| answer(8, "eight"));
/// });
///
/// for record in Channel::open(&path)?.records() {
///     let record = record?;
///     let expected: &[u8] = if record.correlation_id() == Some(7) { b"seven" } else { b"eight" };
///     assert_eq!(&record[..], expected);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CorrelationId {
    current: Arc<AtomicU64>,
}

impl CorrelationId {
    /// A number of its own, 0 until it is set.
    pub fn new() -> CorrelationId {
        CorrelationId::default()
    }

    /// Sets the number for the records that are appended from now on. It stays, whatever becomes of them.
    #[inline]
    pub fn set(&self, id: u64) {
        // Relaxed: whoever appends from another thread has got the writer from this one, which orders the two.
        self.current.store(id, Ordering::Relaxed);
    }

    /// The number that the next record will carry.
    #[inline]
    pub fn get(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }
}

impl Handler for CorrelationId {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: CORRELATION,
            version: 1,
            prefix_len: 8,
            name: "correlation".into(),
            ..StageInfo::default()
        }
    }

    fn looks_at_body(&self) -> bool {
        false
    }

    #[inline]
    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&self.get().to_le_bytes());
        Ok(())
    }
}
