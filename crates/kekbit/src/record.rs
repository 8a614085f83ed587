//! A record, as a reader sees it.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Position;
use crate::channel::Channel;
use crate::memory::map::SharedBytes;

/// A record: its payload, where it lies, and what the stages have recorded. Copying it copies no bytes.
///
/// It dereferences to the payload: what was appended, without what the stages put around it. (In a channel that was
/// opened for its stored bytes it is those.)
///
/// The bytes lie in the channel's memory, so that a record cannot outlive its channel, nor the next step of the reader
/// that lends it:
///
/// ```compile_fail,E0505
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = kekbit::Channel::open("some.kek")?;
/// let record = channel.records().next().unwrap()?;
/// drop(channel);
/// println!("{:?}", &record[..]);
/// # Ok(()) }
/// ```
///
/// ```compile_fail,E0499
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reader = kekbit::Channel::open("some.kek")?.reader(kekbit::Start::Beginning)?;
/// let first = reader.try_next()?;
/// let second = reader.try_next()?;
/// println!("{first:?}");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy)]
pub struct Record<'c> {
    stored: &'c [u8],
    position: Position,
    sequence: u64,
    channel: &'c Channel,
}

impl<'c> Record<'c> {
    #[inline]
    pub(crate) fn new(stored: &'c [u8], position: u64, sequence: u64, channel: &'c Channel) -> Record<'c> {
        Record { stored, position: Position::new(position), sequence, channel }
    }

    /// What was appended.
    #[inline]
    pub fn payload(&self) -> &'c [u8] {
        // The cursor has made sure that a record is not shorter than what the stages add.
        let layout = self.channel.layout();
        &self.stored[layout.prefix..self.stored.len() - layout.suffix]
    }

    /// The bytes in the file, with what the stages put around or in place of the payload.
    #[inline]
    pub fn stored(&self) -> &'c [u8] {
        self.stored
    }

    /// Position of the record's frame; that of the batch, if it is part of one.
    #[inline]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Sequence of the record.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Nanoseconds since the Unix epoch, if the channel has a [`Timestamp`](crate::Timestamp) stage.
    pub fn timestamp_nanos(&self) -> Option<u64> {
        self.channel.layout().timestamp(self.stored)
    }

    /// The same as a time of the system's clock.
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.timestamp_nanos().map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    /// The same record, keeping its channel open by itself.
    pub fn to_shared(&self) -> SharedRecord {
        let stored = self.channel.share(self.stored).expect("a record lies in its channel");
        let (position, sequence) = (self.position.offset(), self.sequence);
        SharedRecord { channel: self.channel.clone(), stored, position, sequence }
    }

    /// The sequence that a [`SequenceStamp`](crate::SequenceStamp) stage has put into the record.
    pub fn sequence_stamp(&self) -> Option<u64> {
        self.channel.layout().sequence(self.stored)
    }
}

impl Deref for Record<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.payload()
    }
}

impl AsRef<[u8]> for Record<'_> {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("sequence", &self.sequence)
            .field("position", &self.position)
            .field("payload", &self.payload().escape_ascii().to_string())
            .finish()
    }
}

/// A record that keeps its channel open, so that it may travel to other threads and outlive its reader. Made by
/// [`Record::to_shared`]; cloning copies no bytes.
#[derive(Clone)]
pub struct SharedRecord {
    channel: Channel,
    stored: SharedBytes,
    position: u64,
    sequence: u64,
}

impl SharedRecord {
    /// The record.
    pub fn record(&self) -> Record<'_> {
        Record::new(self.stored.as_slice(), self.position, self.sequence, &self.channel)
    }

    /// The channel that it belongs to.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl Deref for SharedRecord {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.record().payload()
    }
}

impl AsRef<[u8]> for SharedRecord {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SharedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record().fmt(f)
    }
}
