//! Where reading begins: from the index to the entry before, and from there by walking.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Position;
use crate::channel::Channel;
use crate::cursor::{Cursor, Step};
use crate::error::{ReadError, SeekError};
use crate::layout::entry::Entry;
use crate::opened::Source;
use crate::publish::Place;
use crate::record::Record;

/// Where reading begins. What is not there yet is waited for: from [`Start::Sequence`] or [`Start::Time`] beyond the
/// tail, earlier records that are appended meanwhile are passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Start {
    /// The first record.
    Beginning,
    /// Behind the last record that is there now.
    End,
    /// The last so many records that are there now, or all if there are fewer.
    Last(u64),
    /// The record with this sequence.
    Sequence(u64),
    /// The record at this position, which must come from this channel; of a batch, its first record.
    Position(Position),
    /// The first record that is not older than this.
    ///
    /// Exact with a [`Timestamp`](crate::Timestamp) stage. Without one, the index tells times only for blocks of
    /// records (1 MiB of them, a 63rd of a smaller channel, or 64 KiB near the end): then it is the beginning of the block that
    /// may hold that time, see [`Channel::seeks_time_exactly`].
    Time(SystemTime),
}

/// What is to be passed over before the first record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Skip {
    None,
    BelowSequence(u64),
    BeforeTime(u64),
}

impl Skip {
    /// Whether `record` is not to be passed over.
    #[cold]
    pub(crate) fn is_over(self, record: &Record<'_>) -> bool {
        match self {
            Skip::None => true,
            Skip::BelowSequence(sequence) => record.sequence() >= sequence,
            Skip::BeforeTime(nanos) => record.timestamp_nanos().is_none_or(|at| at >= nanos),
        }
    }
}

impl Channel {
    /// Whether [`Start::Time`] finds the very record: if the channel has a timestamp stage.
    pub fn seeks_time_exactly(&self) -> bool {
        self.layout().has_timestamp()
    }
}

/// Moves `cursor` to `start`, or to a place shortly before it and says what is to be passed over.
pub(crate) fn seek<P: Place>(
    source: &impl Source<P>,
    cursor: &mut Cursor<P>,
    start: Start,
) -> Result<Skip, SeekError> {
    let first = source.opened().header.first_sequence;
    match start {
        Start::Beginning => {
            cursor.move_to(0, first, source)?;
            Ok(Skip::None)
        }
        Start::End => {
            to_end(source, cursor)?;
            Ok(Skip::None)
        }
        Start::Last(n) => {
            to_end(source, cursor)?;
            if n == 0 {
                return Ok(Skip::None);
            }
            let wanted = cursor.sequence().saturating_sub(n).max(first);
            seek(source, cursor, Start::Sequence(wanted))
        }
        Start::Sequence(sequence) => {
            if sequence < first {
                return Err(SeekError::BeforeFirst { sequence, first });
            }
            jump(source, cursor, |entry| entry.sequence <= sequence)?;
            Ok(Skip::BelowSequence(sequence))
        }
        Start::Position(position) => {
            let at = position.offset();
            jump(source, cursor, |entry| entry.position <= at)?;
            while cursor.position() < at {
                if cursor.step(source)? != Step::Record {
                    break;
                }
                if cursor.record_position() == at {
                    // Behind padding, which the step has passed over together with the record.
                    cursor.move_to(at, cursor.sequence() - 1, source)?;
                    break;
                }
            }
            if cursor.position() == at { Ok(Skip::None) } else { Err(SeekError::NotARecord { position }) }
        }
        Start::Time(time) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            // Strictly before: a timestamp in coarse ticks may be equal to the time of an entry behind it.
            jump(source, cursor, |entry| entry.time < nanos)?;
            let exact = source.opened().layout.has_timestamp();
            Ok(if exact { Skip::BeforeTime(nanos) } else { Skip::None })
        }
    }
}

/// Moves to the last entry for which `wanted` is true. It is checked, but a file can be cut short before it: then walking
/// from the beginning finds out where.
fn jump<P: Place>(
    source: &impl Source<P>,
    cursor: &mut Cursor<P>,
    wanted: impl Fn(&Entry) -> bool,
) -> Result<(), ReadError> {
    let entry = source.last_entry(wanted)?;
    if !cursor.move_to(entry.position, entry.sequence, source)? {
        cursor.move_to(0, source.opened().header.first_sequence, source)?;
    }
    Ok(())
}

/// Moves to the tail of what is durable, which lies between frames, from somewhere behind it.
pub(crate) fn to_durable_tail<P: Place>(
    source: &impl Source<P>,
    cursor: &mut Cursor<P>,
) -> Result<(), ReadError> {
    let tail = source.durable_tail();
    jump(source, cursor, |entry| entry.position <= tail)?;
    while cursor.position() < tail && cursor.step(source)? == Step::Record {}
    Ok(())
}

/// Moves from where [`seek`] has left `cursor` to before the first record that is not to be passed over, or to the tail.
pub(crate) fn pass_over<P: Place>(
    source: &impl Source<P>,
    cursor: &mut Cursor<P>,
    is_over: impl Fn(&Cursor<P>) -> bool,
) -> Result<(), ReadError> {
    while cursor.step(source)? == Step::Record {
        if is_over(cursor) {
            let spot = cursor.taken();
            return cursor.return_to(&spot, source);
        }
    }
    Ok(())
}

/// Moves behind the last record.
pub(crate) fn to_end<P: Place>(source: &impl Source<P>, cursor: &mut Cursor<P>) -> Result<(), ReadError> {
    jump(source, cursor, |_| true)?;
    while cursor.step(source)? == Step::Record {}
    Ok(())
}
