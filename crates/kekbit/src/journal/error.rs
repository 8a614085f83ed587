//! What can go wrong with a journal as a whole.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::cursor::CursorError;
use crate::error::{CreateError, OpenError, ReadError, SealError, SeekError};
use crate::typed::TypeError;

/// Why a journal could not be opened for writing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Somebody else writes it.
    #[error("{} is being written by another process or thread: a journal has one writer", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The options contradict each other or are out of range.
    #[error("{0}")]
    Options(String),
    /// The next channel could not be created.
    #[error(transparent)]
    Create(CreateError),
    /// The records that are there are of another type than those that were to follow.
    #[error(transparent)]
    Type(TypeError),
    /// One of its channels could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The last channel could not be sealed.
    #[error(transparent)]
    Seal(SealError),
    /// A named cursor that a crash of the machine has left past the end could not be set back.
    #[error(transparent)]
    Cursor(CursorError),
    /// There is damage that no crash can have made.
    #[error("{} is damaged: {source}", path.display())]
    Damaged {
        /// The channel.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system refused something else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
        let path = path.to_owned();
        move |source| JournalError::Io { action, path, source }
    }
}

/// Why reading a journal did not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalReadError {
    /// What was to be read next has been given up in the meantime.
    #[error("record {wanted} has been given up: the oldest that is there is {oldest}")]
    Lagged {
        /// Sequence of the record that was to be read.
        wanted: u64,
        /// Sequence of the oldest record that is there.
        oldest: u64,
    },
    /// As for one of its channels.
    #[error("{}: {source}", path.display())]
    Read {
        /// The channel.
        path: PathBuf,
        /// What is wrong.
        source: ReadError,
    },
    /// A place in one of its channels could not be found.
    #[error("{}: {source}", path.display())]
    Seek {
        /// The channel.
        path: PathBuf,
        /// What is wrong.
        source: SeekError,
    },
    /// One of its channels could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The system refused something else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
