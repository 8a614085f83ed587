//! Reading the channels of kekbit 0.3, whose files have another format, and a fault.
//!
//! [`Channel`] is such a file, [`Reader`] reads it record by record, as a [`kekbit::Reader`](crate::Reader) does its own. There is no
//! writer: `kek import` copies such a channel into a channel or a journal of today.
//!
//! # What is lost
//!
//! 0.3 made the file of a channel 864 bytes too short for what it wrote. As long as the last 864 bytes of the capacity are not
//! reached, nothing is wrong. Of a channel that was filled further, the record that the end of the file cuts off and all behind
//! it were never part of the file. Reading ends there with [`ReadError::CutOff`], which tells how many bytes are
//! missing. 0.3's own reader goes on past the end of the file, and returns what is there as records: mostly zeros, perhaps what was
//! written there and is still in memory.
//!
//! # What cannot be told
//!
//! - **Whether the writer lives.** 0.3 has no locks. A channel without a closing mark is [`State::Unfinished`]: its writer may be at
//!   it, or have died long ago. Only time tells, and that is a reader's opinion: [`End::TimedOut`].
//! - **Whether the bytes are right.** There are no checksums. A length that cannot be, and zeros up to the end of the file, are
//!   damage; a payload is whatever lies there. A record without bytes is a zero word, which is also what a lost page of the disk looks
//!   like: it counts if what follows such words makes sense.
//! - **Whether a handler has put something before the payloads.** [`ReadOptions::timestamp`] and [`ReadOptions::sequence`] say so, for
//!   those who remember.
//!
//! Nobody is trusted here: the file is never mapped, every byte is copied out of it before it is looked at, and nothing that is in
//! the file or happens to it makes a reader panic, run for ever, or take more memory than twice the longest record that 0.3 could
//! write (64 MiB) and a few megabytes.

mod copy;
mod format;
mod open;
mod reader;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::format::Header;
pub use self::format::Loss;
pub use self::open::ReadOptions;
pub use self::reader::Reader;
use crate::Position;
use crate::error::{Attempt, ReadError};
use crate::handler::StageInfo;
use crate::reader::End;
use crate::stage_layout::StageLayout;
use crate::sys::file;
use crate::time::TickUnit;

/// How a channel of 0.3 stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum State {
    /// The writer has closed it, and everything is there.
    Closed,
    /// It has no closing mark: the writer is still at it, or has died. 0.3 has no locks, so the file does not tell which.
    Unfinished,
    /// Its records go on past the end of the file, where they are lost.
    CutOff,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            State::Closed => "closed",
            State::Unfinished => "unfinished",
            State::CutOff => "cut-off",
        })
    }
}

/// Where a channel ends at the moment, and how it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EndPoint {
    /// Position behind the last record.
    pub position: Position,
    /// Number of records: the sequence of the one that would be next.
    pub sequence: u64,
    /// How the channel stands.
    pub state: State,
    /// What is lost, if it is cut off.
    pub loss: Option<Loss>,
}

/// How far a channel is good, and how it stands there.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckUp {
    /// Position behind the last good record.
    pub position: Position,
    /// Sequence of the record that is next there.
    pub sequence: u64,
    /// Where the channel ends, or what is wrong with it. That it is cut off is how it stands, and no error here.
    pub outcome: Result<EndPoint, ReadError>,
}

/// A channel that kekbit 0.3 has written, opened for reading. Cloning it is cheap and opens nothing anew.
///
/// It can be read while 0.3 writes it, with nothing but read permission. See [the module](self) for what its format loses, and what
/// it cannot tell.
///
/// # Example: read what an old program has left
///
/// ```
/// use kekbit::legacy;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("0000_0001.kekbit");
/// // What 0.3 writes: a header, and from byte 1024 on each record behind its length.
/// let mut file = vec![0; 16384 + 160];
/// file[..8].copy_from_slice(b"*KEKBIT*");
/// file[8..16].copy_from_slice(&(1_u64 << 48).to_le_bytes());
/// file[32..40].copy_from_slice(&(16384_u64 | 120 << 32).to_le_bytes());
/// file[1024..1037].copy_from_slice(b"\x05\0\0\0\0\0\0\0hello");
/// file[1040..1048].copy_from_slice(&u64::MAX.to_le_bytes());
/// std::fs::write(&path, file)?;
///
/// let channel = legacy::Channel::open(&path)?;
/// let mut reader = channel.reader();
/// while let Some(record) = reader.try_next()? {
///     println!("{}", record.escape_ascii());
/// }
/// assert_eq!(reader.end(), Some(kekbit::End::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Channel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    header: Header,
    stages: Vec<StageInfo>,
    layout: StageLayout,
}

impl Channel {
    /// A reader of its own, at the first record.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }

    /// Where the channel ends at the moment, and how it stands: reads all of it, since the format has no index.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. That it is cut off is no error here.
    pub fn end_point(&self) -> Result<EndPoint, ReadError> {
        self.check_up(|_| {}).outcome
    }

    /// Walks over every record and tells how far the channel is good, also where there is damage behind. `progress` is told now and
    /// then how far it has come.
    pub fn check_up(&self, mut progress: impl FnMut(Position)) -> CheckUp {
        let mut reader = self.reader();
        let mut told = 0;
        let outcome = loop {
            match reader.try_next() {
                Ok(Some(record)) => {
                    let at = record.position().offset();
                    if at >= told {
                        progress(record.position());
                        told = at + PROGRESS;
                    }
                }
                Ok(None) => break Ok((reader.end() == Some(End::Closed)).then_some(State::Closed)),
                Err(error) => break Err(error),
            }
        };
        let (position, sequence) = (reader.position(), reader.sequence());
        let there = |state, loss| EndPoint { position, sequence, state, loss };
        let outcome = match outcome {
            Ok(state) => Ok(there(state.unwrap_or(State::Unfinished), None)),
            Err(ReadError::CutOff { loss, .. }) => Ok(there(State::CutOff, Some(loss))),
            Err(error) => Err(error),
        };
        CheckUp { position, sequence, outcome }
    }

    /// The path under which the channel was opened.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Major and minor version of the format.
    pub fn format_version(&self) -> (u16, u16) {
        (1, 0)
    }

    /// Identifier of the writer.
    pub fn writer_id(&self) -> u64 {
        self.inner.header.writer_id
    }

    /// Identifier of the channel.
    pub fn channel_id(&self) -> u64 {
        self.inner.header.channel_id
    }

    /// Bytes for records, as its writer counted them: 864 more than the file has room for.
    pub fn capacity(&self) -> u64 {
        self.inner.header.capacity
    }

    /// The longest record in bytes, those of the handlers included.
    pub fn max_record_len(&self) -> u64 {
        self.inner.header.max_record_len
    }

    /// How long a reader is to wait for a new record before it takes the writer for gone; `None` for 0, and never too long to be
    /// told.
    pub fn timeout(&self) -> Option<Duration> {
        let Header { timeout, tick, .. } = self.inner.header;
        (timeout > 0).then(|| tick.duration(timeout))
    }

    /// When it was created, in nanoseconds since the Unix epoch, to the tick.
    pub fn created_nanos(&self) -> u64 {
        let Header { created, tick, .. } = self.inner.header;
        created.saturating_mul(tick.nanos())
    }

    /// When it was created, to the tick.
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.created_nanos())
    }

    /// The unit in which its file tells timeout and creation time.
    pub fn tick_unit(&self) -> TickUnit {
        self.inner.header.tick
    }

    /// What stands in front of the payloads, as it was [said](ReadOptions): the file does not tell.
    pub fn stages(&self) -> &[StageInfo] {
        &self.inner.stages
    }

    /// Whether [`Start::Time`](crate::Start::Time) finds the very record: if a timestamp was [named](ReadOptions::timestamp).
    pub fn seeks_time_exactly(&self) -> bool {
        self.inner.layout.has_timestamp()
    }

    /// Bytes of the capacity that the file has. What was written behind them is lost.
    ///
    /// # Errors
    ///
    /// If the file system does not tell how long the file is.
    pub fn bytes_in_file(&self) -> io::Result<u64> {
        Ok(self.inner.header.bound(self.inner.file.metadata()?.len()))
    }

    /// Whether what is synced outlives a power cut: not on a file system in memory.
    ///
    /// # Errors
    ///
    /// If the file system does not tell what it is.
    pub fn is_on_storage(&self) -> io::Result<bool> {
        Ok(file::file_system(&self.inner.file)?.is_storage())
    }

    fn bound(&self) -> Result<u64, ReadError> {
        self.bytes_in_file().reading("look up")
    }
}

/// Bytes between two calls of `progress`.
const PROGRESS: u64 = 1 << 20;
