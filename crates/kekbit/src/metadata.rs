//! What a channel says of itself in its header, for everything that has a channel behind it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::handler::StageInfo;
use crate::layout::frame::Checksum;
use crate::layout::header::{DRAFT, Header};
use crate::time::TickUnit;
use crate::typed::Layout;

/// What the writer said of a channel when it created it. It never changes.
///
/// [`Writer`](crate::Writer::metadata), [`Channel`](crate::Channel::metadata), [`Reader`](crate::Reader::metadata) and
/// [`CopyingReader`](crate::CopyingReader::metadata) have that of their channel, [`SharedWriter`](crate::SharedWriter::metadata) that
/// of the channel with which it was made. A [`Journal`](crate::Journal::metadata) and a
/// [`JournalReader`](crate::JournalReader::metadata) have that of the channel in which they are, which is another one after a roll: with
/// another creation time and first sequence, and the same for the rest until somebody opens the journal with other options.
///
/// Two are equal if they are of the same channel, opened by whomever.
///
/// # Example: the same on both sides
///
/// ```
/// use std::time::Duration;
/// use kekbit::{Channel, TickUnit, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.kek");
/// let options = Writer::options().writer_id(7).channel_id(42).timeout(Duration::from_secs(30)).tick(TickUnit::Secs);
/// let writer = options.create(&path)?;
/// let channel = Channel::open(&path)?;
/// assert_eq!(writer.metadata(), channel.metadata());
/// assert_eq!((channel.metadata().writer_id(), channel.metadata().channel_id()), (7, 42));
/// assert_eq!(channel.metadata().timeout(), Some(Duration::from_secs(30)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Metadata<'c> {
    header: &'c Header,
}

impl<'c> Metadata<'c> {
    pub(crate) fn of(header: &'c Header) -> Metadata<'c> {
        Metadata { header }
    }

    /// Version of the format: major, minor.
    pub fn format_version(&self) -> (u16, u16) {
        ((self.header.version >> 48) as u16, (self.header.version >> 32) as u16)
    }

    /// Whether the format is a draft, which may still change.
    pub fn is_draft(&self) -> bool {
        self.header.features_reader & DRAFT != 0
    }

    /// The writer's number, chosen by the application.
    pub fn writer_id(&self) -> u64 {
        self.header.writer_id
    }

    /// The channel's number, chosen by the application.
    pub fn channel_id(&self) -> u64 {
        self.header.channel_id
    }

    /// Bytes for records.
    pub fn capacity(&self) -> u64 {
        self.header.capacity
    }

    /// The longest record in bytes, as stored.
    pub fn max_record_len(&self) -> u64 {
        u64::from(self.header.max_record_len)
    }

    /// How long to wait for a sign of life of the writer; `None` is for ever.
    pub fn timeout(&self) -> Option<Duration> {
        (self.header.timeout != 0).then(|| self.header.tick.duration(self.header.timeout))
    }

    /// The unit in which the timeout is recorded.
    pub fn tick_unit(&self) -> TickUnit {
        self.header.tick
    }

    /// When the channel was created, in nanoseconds since the Unix epoch.
    pub fn created_nanos(&self) -> u64 {
        self.header.created
    }

    /// When the channel was created.
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.header.created)
    }

    /// Sequence of the first record.
    pub fn first_sequence(&self) -> u64 {
        self.header.first_sequence
    }

    /// Whether records carry a checksum.
    pub fn checksum(&self) -> Checksum {
        self.header.checksum
    }

    /// What the records are, if the writer has said so.
    pub fn content_type(&self) -> Option<&'c str> {
        self.header.attributes.content_type.as_deref()
    }

    /// The schema that the records follow, if the writer has said so.
    pub fn schema(&self) -> Option<&'c str> {
        self.header.attributes.schema.as_deref()
    }

    /// Where the fields of each record lie, if the writer has said so in a way that this version understands.
    pub fn record_layout(&self) -> Option<Layout> {
        self.header.attributes.layout.as_ref()?.parse().ok()
    }

    /// The application's own keys and values.
    pub fn meta(&self) -> &'c [(String, String)] {
        &self.header.attributes.user
    }

    /// The value of the first of the application's own keys that is `key`.
    pub fn meta_value(&self, key: &str) -> Option<&'c str> {
        self.meta().iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The stages that each record went through, the outermost first.
    pub fn stages(&self) -> &'c [StageInfo] {
        &self.header.attributes.stages
    }
}

impl fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("format_version", &self.format_version())
            .field("writer_id", &self.writer_id())
            .field("channel_id", &self.channel_id())
            .field("capacity", &self.capacity())
            .field("max_record_len", &self.max_record_len())
            .field("timeout", &self.timeout())
            .field("tick_unit", &self.tick_unit())
            .field("created_nanos", &self.created_nanos())
            .field("first_sequence", &self.first_sequence())
            .field("checksum", &self.checksum())
            .field("content_type", &self.content_type())
            .field("schema", &self.schema())
            .field("record_layout", &self.record_layout())
            .field("meta", &self.meta())
            .field("stages", &self.stages())
            .finish()
    }
}
