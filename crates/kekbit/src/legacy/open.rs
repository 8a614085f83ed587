//! Opening channels of 0.3, by their paths or by their ids; and what is to be known of their records beforehand.

use std::path::Path;
use std::sync::Arc;

use super::format::{self, HEADER, Header};
use super::{Channel, Inner};
use crate::error::{Attempt, FormatError, OpenError};
use crate::handler::{Handler, StageInfo};
use crate::layout::header::MAGIC;
use crate::stage_layout::StageLayout;
use crate::stages::{SequenceStamp, Timestamp};
use crate::sys::file;
use crate::time::TickUnit;
use crate::wait::{Next, Wait, Waiting};

impl Channel {
    /// Opens the channel of 0.3 at `path`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]: [`FormatError::NotLegacy`] for a channel of today or of an unknown version,
    /// [`OpenError::BeingCreated`] as long as there is a `.lock` beside it, which also its creator's death leaves behind.
    pub fn open(path: impl AsRef<Path>) -> Result<Channel, OpenError> {
        Channel::options().open(path)
    }

    /// Options, to say what stands in front of the payloads.
    pub fn options() -> ReadOptions {
        ReadOptions::default()
    }

    /// Opens the channel `id` below `root`, as [`ReadOptions::open_in`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn open_in(root: impl AsRef<Path>, id: u64) -> Result<Channel, OpenError> {
        Channel::options().open_in(root, id)
    }

    /// Opens the channel of 0.3 at `path`, waiting for it to appear, as [`ReadOptions::wait_for`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn wait_for(path: impl AsRef<Path>, wait: Wait<'_>) -> Result<Option<Channel>, OpenError> {
        Channel::options().wait_for(path, wait)
    }
}

/// What 0.3's handlers have put in front of each record, and nobody but the writer's author knows.
///
/// 0.3 records nothing of its handlers: a record is the bytes that they and the encoder have written, one behind the other. Say
/// which they were, in the order in which their bytes lie there: of handlers that were chained, **the one that was linked last
/// comes first**. Then payload, [`Record::timestamp_nanos`](crate::Record::timestamp_nanos) and
/// [`Record::sequence_stamp`](crate::Record::sequence_stamp) are what they should be. Without this a payload is all of the bytes.
///
/// # Example: take the handlers' bytes off
///
/// For `ChainedHandler::link(ChainedHandler::link(EncoderHandler::default(), SequenceHandler::new(0)),
/// TimestampHandler::new(TickUnit::Millis))`:
///
/// ```
/// use kekbit::{TickUnit, legacy};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("0000_0001.kekbit");
/// # let mut file = vec![0; 16384 + 160];
/// # file[..8].copy_from_slice(b"*KEKBIT*");
/// # file[14] = 1;
/// # file[32..40].copy_from_slice(&(16384_u64 | 120 << 32).to_le_bytes());
/// # for (n, word) in [18, 1_600_000_000_123_u64, 7, u64::from_le_bytes(*b"hi\0\0\0\0\0\0"), u64::MAX].iter().enumerate() {
/// #     file[1024 + 8 * n..][..8].copy_from_slice(&word.to_le_bytes());
/// # }
/// # std::fs::write(&path, file)?;
/// let channel = legacy::Channel::options().timestamp(TickUnit::Millis).sequence().open(&path)?;
/// let mut reader = channel.reader();
/// let record = reader.try_next()?.unwrap();
/// assert_eq!(record.payload(), b"hi");
/// assert_eq!(record.timestamp_nanos(), Some(1_600_000_000_123_000_000));
/// assert_eq!(record.sequence_stamp(), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until something is opened with them"]
pub struct ReadOptions {
    stages: Vec<StageInfo>,
}

impl ReadOptions {
    /// Next come the eight bytes of a `TimestampHandler` with this unit.
    pub fn timestamp(mut self, unit: TickUnit) -> ReadOptions {
        self.stages.push(Timestamp::new(unit).describe());
        self
    }

    /// Next come the eight bytes of a `SequenceHandler`.
    pub fn sequence(mut self) -> ReadOptions {
        self.stages.push(SequenceStamp.describe());
        self
    }

    /// Opens the channel of 0.3 at `path`.
    ///
    /// # Errors
    ///
    /// As [`Channel::open`]; and if the handlers that were named would put more in front of a record than one can have.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Channel, OpenError> {
        let path = path.as_ref();
        let format = |source| OpenError::Format { path: path.to_owned(), source };
        let file = file::open(path, false).opening("open", path)?;
        let kind = file.metadata().opening("look up", path)?.file_type();
        if !kind.is_file() {
            let what = if kind.is_dir() { "a directory" } else { "a FIFO, a socket or a device" };
            return Err(OpenError::NotAFile { path: path.to_owned(), what });
        }
        // The lock is made before the file, and removed when the file is complete: so it is asked for between opening and reading.
        let lock = path.with_extension("lock");
        let is_locked = lock != path && lock.symlink_metadata().is_ok();
        let mut bytes = [0; HEADER];
        let len = file::read_at(&file, &mut bytes, 0).opening("read", path)?;
        // At first it is empty, then zeros.
        if is_locked && (bytes[..8] == MAGIC || bytes == [0; HEADER]) {
            return Err(OpenError::BeingCreated { path: path.to_owned(), lock });
        }
        let header = Header::decode(&bytes[..len]).map_err(format)?;
        let len = file.metadata().opening("look up", path)?.len();
        let needed = format::DATA + format::WORD;
        if len < needed {
            return Err(format(FormatError::Truncated { len, needed }));
        }
        let layout = StageLayout::new(&self.stages, header.max_record_len as u32);
        let layout = layout.map_err(|what| format(FormatError::Header(what)))?;
        let inner = Inner { path: path.to_owned(), file, header, stages: self.stages, layout };
        Ok(Channel { inner: Arc::new(inner) })
    }
    /// Opens the channel `id` below `root`, as 0.3 named it, and as [`Channel::path_in`](crate::Channel::path_in) does.
    ///
    /// # Errors
    ///
    /// As [`ReadOptions::open`]; [`OpenError::OtherChannel`] if the file is there and says that it is another channel.
    pub fn open_in(self, root: impl AsRef<Path>, id: u64) -> Result<Channel, OpenError> {
        named(self.open(crate::Channel::path_in(root, id))?, id)
    }

    /// The same, waiting for the channel to appear, as [`ReadOptions::wait_for`]. `None` if `wait` gave up. The directories need not
    /// be there yet.
    ///
    /// # Errors
    ///
    /// As [`ReadOptions::open_in`]; a channel that is not there, or is being created, is none.
    pub fn wait_for_in(
        self,
        root: impl AsRef<Path>,
        id: u64,
        wait: Wait<'_>,
    ) -> Result<Option<Channel>, OpenError> {
        let path = crate::Channel::path_in(root, id);
        self.wait_for(path, wait)?.map(|channel| named(channel, id)).transpose()
    }

    /// Opens the channel of 0.3 at `path`, waiting for it to appear, and to be complete. `None` if `wait` gave up.
    ///
    /// # Errors
    ///
    /// As [`ReadOptions::open`]; a channel that is not there, or is being created, is none, nor is a file of zero bytes, which
    /// somebody may be copying.
    pub fn wait_for(self, path: impl AsRef<Path>, wait: Wait<'_>) -> Result<Option<Channel>, OpenError> {
        let (path, mut waiting) = (path.as_ref(), Waiting::new(wait));
        loop {
            match self.clone().open(path) {
                Ok(channel) => return Ok(Some(channel)),
                Err(OpenError::NotFound { .. } | OpenError::BeingCreated { .. }) => {}
                Err(OpenError::Format { source: FormatError::NotAChannel, .. }) if is_empty(path) => {}
                Err(error) => return Err(error),
            }
            if waiting.pause() == Next::GiveUp {
                return Ok(None);
            }
        }
    }
}

/// The channel, if it has the id after which it is named.
fn named(channel: Channel, id: u64) -> Result<Channel, OpenError> {
    match channel.channel_id() {
        found if found == id => Ok(channel),
        found => Err(OpenError::OtherChannel { path: channel.path().to_owned(), expected: id, found }),
    }
}

fn is_empty(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.len() == 0)
}
