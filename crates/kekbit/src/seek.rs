//! Where reading begins: from the index to the entry before, and from there by walking.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Position;
use crate::channel::Channel;
use crate::cursor::{Cursor, Step};
use crate::error::{ReadError, SeekError};
use crate::layout::entry::Entry;
use crate::memory::Memory;
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
    /// records (1 MiB of them, or 64 KiB near the end): then it is the beginning of the block that may hold that time,
    /// see [`Channel::seeks_time_exactly`].
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
pub(crate) fn seek<M: Memory>(
    channel: &Channel,
    cursor: &mut Cursor<M>,
    start: Start,
) -> Result<Skip, SeekError> {
    // An entry is checked, but a file can be cut short before it: then walking from here finds out where.
    let jump = |cursor: &mut Cursor<M>, entry: Entry| cursor.move_to(entry.position, entry.sequence, channel);
    match start {
        Start::Beginning => Ok(Skip::None),
        Start::End => {
            jump(cursor, channel.last_entry(|_| true))?;
            while cursor.step(channel)? == Step::Record {}
            Ok(Skip::None)
        }
        Start::Last(0) => seek(channel, cursor, Start::End),
        Start::Last(n) => {
            let end = end_sequence(channel)?;
            let first = end.saturating_sub(n).max(channel.first_sequence());
            seek(channel, cursor, Start::Sequence(first))
        }
        Start::Sequence(sequence) => {
            let first = channel.first_sequence();
            if sequence < first {
                return Err(SeekError::BeforeFirst { sequence, first });
            }
            jump(cursor, channel.last_entry(|entry| entry.sequence <= sequence))?;
            Ok(Skip::BelowSequence(sequence))
        }
        Start::Position(position) => {
            let at = position.offset();
            jump(cursor, channel.last_entry(|entry| entry.position <= at))?;
            while cursor.position() < at {
                if cursor.step(channel)? != Step::Record {
                    break;
                }
                if cursor.record_position() == at {
                    // Behind padding, which the step has passed over together with the record.
                    cursor.move_to(at, cursor.sequence() - 1, channel)?;
                    break;
                }
            }
            if cursor.position() == at { Ok(Skip::None) } else { Err(SeekError::NotARecord { position }) }
        }
        Start::Time(time) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            // Strictly before: a timestamp in coarse ticks may be equal to the time of an entry behind it.
            jump(cursor, channel.last_entry(|entry| entry.time < nanos))?;
            Ok(if channel.seeks_time_exactly() { Skip::BeforeTime(nanos) } else { Skip::None })
        }
    }
}

/// Sequence of the record that would be next at the tail.
fn end_sequence(channel: &Channel) -> Result<u64, ReadError> {
    let mut cursor = channel.cursor();
    let last = channel.last_entry(|_| true);
    cursor.move_to(last.position, last.sequence, channel)?;
    while cursor.step(channel)? == Step::Record {}
    Ok(cursor.sequence())
}
