//! What can go wrong, by operation. Every message names the path or the position, the limit and the actual value.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use thiserror::Error;

use crate::encode::EncodeError;
use crate::handler::StageError;
use crate::legacy::Loss;
use crate::stages::LZ4;
use crate::{Position, State};

/// Why bytes are not a channel that this version reads.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file does not begin with kekbit's signature.
    #[error("not a kekbit channel")]
    NotAChannel,
    /// The format has another major version.
    #[error("format version {major}.{minor} is not supported, only 2.x is")]
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The original kekbit wrote it: [`legacy`](crate::legacy) reads it.
    #[error(
        "format version 1.0, which kekbit 0.3 wrote: `kekbit::legacy` reads it, and `kek import` copies it into a channel of today"
    )]
    Legacy,
    /// It is no channel of 0.3, which is all that [`legacy`](crate::legacy) reads.
    #[error("format version {major}.{minor} is not that of kekbit 0.3 (1.0){}", if *.major == 2 { ": `kekbit::Channel` reads it" } else { "" })]
    NotLegacy {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The header asks for abilities that this version does not have.
    #[error("the channel needs features that this version does not know (bits {unknown:#x})")]
    Features {
        /// The bits that are not known.
        unknown: u64,
    },
    /// The header is damaged or contradicts itself.
    #[error("damaged header: {0}")]
    Header(&'static str),
    /// The file ends before its data begins.
    #[error("cut short: {len} bytes, at least {needed} expected")]
    Truncated {
        /// Bytes of the file.
        len: u64,
        /// Bytes that header, control, index and the first word need.
        needed: u64,
    },
}

/// Why a channel could not be created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Something with that name is there already.
    #[error("{} exists already: a channel is written once, choose another name", path.display())]
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// The options contradict each other or are out of range.
    #[error("{0}")]
    Options(String),
    /// The file system may be shared between machines, where locks may not tell who lives.
    #[error("{} is on {file_system}, where locks are not known to hold between machines: use a local disk, or force it", path.display())]
    SharedFileSystem {
        /// The path.
        path: PathBuf,
        /// What file system it is.
        file_system: &'static str,
    },
    /// The file system cannot reserve space.
    #[error("the file system of {} cannot reserve space (fallocate): a full disk would end the process", path.display())]
    CannotReserve {
        /// The path.
        path: PathBuf,
    },
    /// There is no space for the smallest channel with these options.
    #[error("no space for {}: {source}", path.display())]
    NoSpace {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file to be reused is being read or written.
    #[error("{} is in use: it can be reused when its last reader has gone", path.display())]
    InUse {
        /// The retired file.
        path: PathBuf,
    },
    /// The file to be reused is no channel.
    #[error("{}: {source}", path.display())]
    Retired {
        /// The retired file.
        path: PathBuf,
        /// Why not.
        source: FormatError,
    },
    /// The system refused something else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a channel could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// It is a directory, a FIFO, a device, or a symbolic link, which is not followed.
    #[error("{} is {what}, not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It is no channel that this version reads.
    #[error("{}: {source}", path.display())]
    Format {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: FormatError,
    },
    /// It is being reused for another channel just now.
    #[error("{} is being reused for another channel", path.display())]
    Reused {
        /// The path.
        path: PathBuf,
    },
    /// The file is named after one channel id, and its header has another.
    #[error("{} is channel {found}, not {expected} as its name says: open it by its path if that is meant", path.display())]
    OtherChannel {
        /// The path.
        path: PathBuf,
        /// The id that the name stands for.
        expected: u64,
        /// The id in the header.
        found: u64,
    },
    /// Kekbit 0.3 is creating it, or has died of it: there is a lock beside it.
    #[error("{} is being created, since there is {}: if nobody is at it any more, remove that", path.display(), lock.display())]
    BeingCreated {
        /// The path.
        path: PathBuf,
        /// The lock, a file.
        lock: PathBuf,
    },
    /// A stage has put other bytes in place of the payload, and only its handler can undo that; or, if kekbit brings that stage,
    /// the feature that was left out.
    #[error("{}: stage `{stage}` (id {id}) stands in place of the payload: {}", path.display(), remedy(*.id))]
    Encoded {
        /// The path.
        path: PathBuf,
        /// The stage's name.
        stage: String,
        /// The stage's id.
        id: u32,
    },
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What those can do who have met the stage `id`.
fn remedy(id: u32) -> &'static str {
    match id {
        // Built with it, it is a version of the stage that this one does not know.
        LZ4 if !cfg!(feature = "lz4") => {
            "build kekbit with its feature `lz4`, which undoes it, or open it for its stored bytes"
        }
        ..65536 => "a newer version of kekbit may undo it: open it for its stored bytes meanwhile",
        _ => "open it for its stored bytes, and decode them with that stage's handler",
    }
}

/// Why a record was not appended. Unless the variant says otherwise the channel is as it was before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The record is longer than the channel allows.
    #[error(
        "record of {len} bytes exceeds the channel's limit of {limit}: create the channel with a larger max_record_len"
    )]
    TooLong {
        /// Bytes of the record as it would be stored.
        len: u64,
        /// Bytes that a record may have at the most.
        limit: u64,
    },
    /// More was written than was claimed.
    #[error("{len} bytes exceed the {claimed} that were claimed")]
    BeyondClaim {
        /// Bytes that were said to be written.
        len: u64,
        /// Bytes that were claimed.
        claimed: u64,
    },
    /// The batch would not fit even an empty channel, or the length of a frame.
    #[error("batch of {len} bytes exceeds the {limit} that an empty channel can hold")]
    BatchTooLong {
        /// Bytes of the batch.
        len: u64,
        /// Bytes that fit.
        limit: u64,
    },
    /// The record no longer fits; the channel has ended here, and all that was appended before is readable.
    #[error("the channel is full ({capacity} bytes)")]
    Full {
        /// Bytes of the channel.
        capacity: u64,
    },
    /// The disk, the quota, or the limit on file sizes leaves no space. The writer can go on once there is some.
    #[error("no space for the next {needed} bytes: {source}")]
    NoSpace {
        /// Bytes that were asked for.
        needed: u64,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier sync failed; what had been written since the last successful one may be lost, and nothing more is
    /// written.
    #[error("the writer has failed: {source}")]
    Poisoned {
        /// The first error.
        source: io::Error,
    },
    /// The record is visible to readers, but syncing it failed: it may not survive a power cut, and nothing more is
    /// written.
    #[error("the record was appended but could not be synced: {source}")]
    Sync {
        /// What the system said.
        source: io::Error,
    },
    /// The channel has been ended.
    #[error("the channel is closed")]
    Closed,
    /// A stage refused the record.
    #[error("a stage refused the record: {0}")]
    Stage(#[source] StageError),
    /// The value could not be encoded.
    #[error("the record could not be encoded: {0}")]
    Encode(#[source] EncodeError),
    /// The system refused something else.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why data could not be synced, or a channel not closed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SyncError {
    /// This sync or an earlier one failed. The writer is poisoned: a second try might report success for lost data.
    #[error("sync failed: {source}")]
    Failed {
        /// The first error.
        source: io::Error,
    },
    /// The writer has gone, so that what it had not synced cannot be synced any more.
    #[error("the writer has gone before this was synced")]
    Gone,
    /// No record has been appended there yet.
    #[error("no record has been appended at position {position} yet")]
    NotAppended {
        /// What was to become durable.
        position: Position,
    },
    /// The channel is ended and synced, but the space behind its end could not be given back.
    #[error("cannot give back the space behind the channel's end: {source}")]
    Trim {
        /// What the system said.
        source: io::Error,
    },
}

impl SyncError {
    /// What the system said, for an error of another operation.
    pub(crate) fn into_source(self) -> io::Error {
        match self {
            SyncError::Failed { source } | SyncError::Trim { source } => source,
            other => io::Error::other(other),
        }
    }
}

/// Why the next record could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes at this position are not what was written. Nothing behind it is returned.
    #[error("corrupt at position {position}: {what}")]
    Corrupt {
        /// Where the damaged frame begins.
        position: Position,
        /// What is wrong.
        what: &'static str,
    },
    /// The record passes its check, but a stage that stands in place of the payload cannot undo what is there: it was not that stage
    /// that made it, or the channel has no checksum. Nothing behind it is returned.
    #[error("corrupt at position {position}: record {sequence}: {source}")]
    Undecodable {
        /// Where the record's frame begins.
        position: Position,
        /// The record.
        sequence: u64,
        /// Which stage, and what is wrong. Elsewhere, since an error that is larger than a record slows readers down.
        source: Box<UndoError>,
    },
    /// A stage has put other bytes in place of the payload, so that the payload does not lie in the channel's memory, from which a
    /// plain iterator lends.
    #[error(
        "stage `{stage}` (id {id}) stands in place of the payload, which a plain iterator cannot lend: read with a reader, or with `shared_records`"
    )]
    Encoded {
        /// The stage's name.
        stage: Box<str>,
        /// The stage's id.
        id: u32,
    },
    /// A channel of kekbit 0.3 goes on past the end of its file, where everything is lost; see [`legacy`](crate::legacy).
    #[error("cut off at position {position}: {loss}")]
    CutOff {
        /// Where the record begins that is cut off, or would be next.
        position: Position,
        /// How much is lost.
        loss: Loss,
    },
    /// An intact frame of a kind that this version does not know and may not pass over.
    #[error("frame of unknown kind {kind} at position {position}: a newer version of kekbit may read it")]
    UnknownKind {
        /// Where the frame begins.
        position: Position,
        /// Its kind.
        kind: u8,
    },
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

// What readers return for each record has room for no more, and is made and moved all the time.
const _: () = assert!(size_of::<ReadError>() <= 32);

/// Why a stage that stands in place of the payload could not be undone.
#[derive(Debug, Error)]
#[non_exhaustive]
#[error("stage `{stage}` cannot undo it: {source}")]
pub struct UndoError {
    /// The stage's name.
    pub stage: String,
    /// What is wrong.
    pub source: StageError,
}

/// Why reading could not begin where it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SeekError {
    /// The channel begins with a later record.
    #[error("sequence {sequence} is before the channel's first, {first}")]
    BeforeFirst {
        /// What was asked for.
        sequence: u64,
        /// The first one.
        first: u64,
    },
    /// No frame begins there.
    #[error("no record begins at position {position}")]
    NotARecord {
        /// What was asked for.
        position: Position,
    },
    /// The way there could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a channel was not sealed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// Its writer lives.
    #[error("{} has a live writer", path.display())]
    WriterLives {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else is sealing or salvaging it, or its name has just come to lead to another file.
    #[error("{} is being sealed or salvaged by somebody else, or was just replaced", path.display())]
    BeingSealed {
        /// The path.
        path: PathBuf,
    },
    /// It has ended already.
    #[error("{} has ended already: it is {state}", path.display())]
    Ended {
        /// The path.
        path: PathBuf,
        /// How it ended.
        state: State,
    },
    /// Sealing it needs abilities that this version does not have.
    #[error("{}: sealing it needs features that this version does not know (bits {unknown:#x})", path.display())]
    Features {
        /// The path.
        path: PathBuf,
        /// The bits that are not known.
        unknown: u64,
    },
    /// The file system may be shared between machines.
    #[error("{} is on {file_system}, where locks are not known to hold between machines: force it only if no writer lives anywhere", path.display())]
    SharedFileSystem {
        /// The path.
        path: PathBuf,
        /// What file system it is.
        file_system: &'static str,
    },
    /// There is no space to keep what would be cut off. The channel is as it was.
    #[error("no space for {}, which would keep {needed} bytes that sealing cuts off: make room, or discard them: {source}", path.display())]
    NoSpaceForCut {
        /// The file that was to keep them.
        path: PathBuf,
        /// How many bytes they are.
        needed: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is damaged where it should be sound, so where it ends cannot be told.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        source: ReadError,
    },
    /// It is sealed, but that could not be made durable.
    #[error("{}: {source}", path.display())]
    Sync {
        /// The path.
        path: PathBuf,
        /// What went wrong.
        source: SyncError,
    },
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a channel was not salvaged. The new one then does not exist.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// Its writer lives, so that it is not damaged but unfinished.
    #[error("{} has a live writer: only a channel that nobody writes is salvaged", path.display())]
    WriterLives {
        /// The path.
        path: PathBuf,
    },
    /// Somebody is sealing it.
    #[error("{} is being sealed", path.display())]
    BeingSealed {
        /// The path.
        path: PathBuf,
    },
    /// It could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// Its header is damaged, or the file ends before its data: without them nothing in it can be proven.
    #[error("{}: {source}: without an intact header nothing in a channel can be proven", path.display())]
    Header {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
    /// The new channel could not be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The new channel did not take a record.
    #[error("{}: {source}", path.display())]
    Append {
        /// The new channel's path.
        path: PathBuf,
        /// Why not.
        source: AppendError,
    },
    /// The new channel could not be made durable.
    #[error("{}: {source}", path.display())]
    Sync {
        /// The new channel's path.
        path: PathBuf,
        /// What went wrong.
        source: SyncError,
    },
    /// The system refused something else.
    #[error("cannot {action} the damaged channel: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl SalvageError {
    pub(crate) fn reading(source: io::Error) -> SalvageError {
        SalvageError::Io { action: "read", source }
    }
}

/// Attaches what was tried, and on what, to what the system said.
pub(crate) trait Attempt<T> {
    fn creating(self, action: &'static str, path: &Path) -> Result<T, CreateError>;
    fn opening(self, action: &'static str, path: &Path) -> Result<T, OpenError>;
    fn sealing(self, action: &'static str, path: &Path) -> Result<T, SealError>;
    fn reading(self, action: &'static str) -> Result<T, ReadError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn creating(self, action: &'static str, path: &Path) -> Result<T, CreateError> {
        self.map_err(|error| {
            let (source, path) = (error.into(), path.to_owned());
            match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EEXIST) => CreateError::AlreadyExists { path },
                Some(Errno::EOPNOTSUPP) => CreateError::CannotReserve { path },
                Some(errno) if is_no_space(errno) => CreateError::NoSpace { path, source },
                _ => CreateError::Io { action, path, source },
            }
        })
    }

    fn opening(self, action: &'static str, path: &Path) -> Result<T, OpenError> {
        self.map_err(|error| {
            let (source, path) = (error.into(), path.to_owned());
            match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT) => OpenError::NotFound { path },
                Some(Errno::ELOOP) => OpenError::NotAFile { path, what: "a symbolic link" },
                Some(Errno::ENXIO) => OpenError::NotAFile { path, what: "a FIFO, a socket or a device" },
                Some(Errno::EISDIR) => OpenError::NotAFile { path, what: "a directory" },
                _ => OpenError::Io { action, path, source },
            }
        })
    }

    fn sealing(self, action: &'static str, path: &Path) -> Result<T, SealError> {
        self.map_err(|error| SealError::Io { action, path: path.to_owned(), source: error.into() })
    }

    fn reading(self, action: &'static str) -> Result<T, ReadError> {
        self.map_err(|error| ReadError::Io { action, source: error.into() })
    }
}

/// Whether the system says that there is no room: on the disk, in the quota, or below the limit on file sizes.
pub(crate) fn is_no_space(errno: Errno) -> bool {
    matches!(errno, Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)
}

/// The same of an error of any kind.
pub(crate) fn is_no_space_error(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw).is_some_and(is_no_space)
}
