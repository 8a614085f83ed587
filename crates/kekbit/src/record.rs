//! A record, as a reader sees it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Position;
use crate::channel::Channel;
use crate::memory::map::SharedBytes;
use crate::stage_layout::StageLayout;
use crate::undo::Undone;

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
    payload: &'c [u8],
    position: Position,
    sequence: u64,
    layout: &'c StageLayout,
    /// In whose memory it lies; `None`: it is a copy.
    channel: Option<&'c Channel>,
}

impl<'c> Record<'c> {
    #[inline]
    pub(crate) fn new(
        stored: &'c [u8],
        position: u64,
        sequence: u64,
        channel: &'c Channel,
        undone: Option<&'c Undone>,
    ) -> Record<'c> {
        Record::with(stored, position, sequence, channel.layout(), Some(channel), undone)
    }

    #[inline]
    fn with(
        stored: &'c [u8],
        position: u64,
        sequence: u64,
        layout: &'c StageLayout,
        channel: Option<&'c Channel>,
        undone: Option<&'c Undone>,
    ) -> Record<'c> {
        // The cursor has made sure that a record is not shorter than what the stages add. So it is nothing only where the
        // payload is not in it, since a stage stands in place of it.
        let end = stored.len().saturating_sub(layout.suffix);
        let (payload, layout) = match stored.get(layout.prefix..end) {
            Some(payload) => (payload, layout),
            None => made(undone, layout),
        };
        Record { stored, payload, position: Position::new(position), sequence, layout, channel }
    }

    /// A record that does not lie in a channel's memory.
    #[inline]
    pub(crate) fn copied(
        stored: &'c [u8],
        position: u64,
        sequence: u64,
        layout: &'c StageLayout,
        undone: Option<&'c Undone>,
    ) -> Record<'c> {
        Record::with(stored, position, sequence, layout, None, undone)
    }

    /// The channel that it is read from; `None` if it is a copy, as those of a [`CopyingReader`](crate::CopyingReader) are.
    #[inline]
    pub fn channel(&self) -> Option<&'c Channel> {
        self.channel
    }

    /// What was appended.
    #[inline]
    pub fn payload(&self) -> &'c [u8] {
        self.payload
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
        self.layout.timestamp(self.stored)
    }

    /// The same as a time of the system's clock.
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.timestamp_nanos().map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    /// The same record, keeping its channel open by itself. A record of a [`CopyingReader`](crate::CopyingReader) is
    /// copied once more instead, and so is a payload that had to be made because a stage stands in place of it.
    pub fn to_shared(&self) -> SharedRecord {
        let made = self.layout.is_encoded();
        let stored = match self.channel {
            Some(channel) => {
                let bytes = channel.share(self.stored).expect("a record lies in its channel");
                Stored::Shared(channel.clone(), bytes)
            }
            None => Stored::Copied(Arc::new((self.stored.into(), self.layout.clone()))),
        };
        let made = made.then(|| Arc::new((self.payload.into(), self.layout.clone())));
        SharedRecord { stored, made, position: self.position.offset(), sequence: self.sequence }
    }

    /// The sequence that a [`SequenceStamp`](crate::SequenceStamp) stage has put into the record.
    pub fn sequence_stamp(&self) -> Option<u64> {
        self.layout.sequence(self.stored)
    }

    /// The number that the application has set for the record, if the channel has the stage of a
    /// [`CorrelationId`](crate::CorrelationId).
    pub fn correlation_id(&self) -> Option<u64> {
        self.layout.correlation(self.stored)
    }
}

/// The payload that had to be made, and the layout that knows what was found on the way.
#[cold]
#[inline(never)]
fn made<'c>(undone: Option<&'c Undone>, layout: &'c StageLayout) -> (&'c [u8], &'c StageLayout) {
    undone.map_or((&[], layout), |undone| (undone.payload(), undone.layout()))
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
    stored: Stored,
    /// The payload, if it is not in the stored bytes.
    made: Option<Arc<(Box<[u8]>, StageLayout)>>,
    position: u64,
    sequence: u64,
}

/// Where the bytes of a shared record are.
#[derive(Clone)]
enum Stored {
    Shared(Channel, SharedBytes),
    Copied(Arc<(Box<[u8]>, StageLayout)>),
}

impl SharedRecord {
    /// The record.
    pub fn record(&self) -> Record<'_> {
        let (position, sequence) = (self.position, self.sequence);
        let record = match &self.stored {
            Stored::Shared(channel, bytes) => {
                Record::new(bytes.as_slice(), position, sequence, channel, None)
            }
            Stored::Copied(copied) => Record::copied(&copied.0, position, sequence, &copied.1, None),
        };
        match &self.made {
            Some(made) => Record { payload: &made.0, layout: &made.1, ..record },
            None => record,
        }
    }

    /// The channel that it keeps open; `None` for a copy.
    pub fn channel(&self) -> Option<&Channel> {
        match &self.stored {
            Stored::Shared(channel, _) => Some(channel),
            Stored::Copied(_) => None,
        }
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
