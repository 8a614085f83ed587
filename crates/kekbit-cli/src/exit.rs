//! How `kek` ends: the exit codes, and the one line that says why.

use std::fmt;
use std::io;
use std::path::Path;

use kekbit::{
    AppendError, CreateError, CursorError, FormatError, JournalError, JournalReadError, OpenError, ReadError,
    SealError, SeekError, SyncError,
};

use crate::values::one_line;

/// The exit codes. They are part of the command's interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Damage was found.
    Damage,
    /// The command line makes no sense.
    Usage,
    /// Missing, or not a channel.
    Missing,
    /// Exists already, or locked by a live writer.
    Taken,
    /// Full, no space left, or a record too long.
    Full,
    /// What was followed is abandoned or torn, or its writer timed out; or what was asked for has been given up.
    Lost,
    /// Another error of input or output.
    Io,
    /// Ended by this signal, after tidying up.
    Signal(i32),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Damage => 1,
            Exit::Usage => 2,
            Exit::Missing => 3,
            Exit::Taken => 4,
            Exit::Full => 5,
            Exit::Lost => 6,
            Exit::Io => 7,
            Exit::Signal(number) => 128 + number as u8,
        }
    }

    /// What a process that is `kek` too has ended with.
    pub(crate) fn from_code(code: i32) -> Option<Exit> {
        use Exit::{Damage, Done, Full, Io, Lost, Missing, Taken, Usage};
        let all = [Done, Damage, Usage, Missing, Taken, Full, Lost, Io];
        all.into_iter().find(|exit| i32::from(exit.code()) == code)
    }
}

/// Why a verb did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, message: Some(message.to_string()) }
    }

    /// An error of input or output, with what was tried.
    pub(crate) fn io(what: impl fmt::Display, error: io::Error) -> Failure {
        let exit = if is_missing(&error) { Exit::Missing } else { Exit::Io };
        Failure::new(exit, format_args!("{what}: {error}"))
    }

    /// Standard output did not take what was written. Whoever closes it wants no more: that is no error.
    pub(crate) fn output(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Done, message: None };
        }
        Failure::new(Exit::Io, format_args!("cannot write to standard output: {error}"))
    }

    /// Ended by this signal, which needs no explanation.
    pub(crate) fn signal(number: i32) -> Failure {
        Failure { exit: Exit::Signal(number), message: None }
    }

    /// The same failure, its message preceded by the path that it is about.
    pub(crate) fn about(self, path: &Path) -> Failure {
        let message = self.message.map(|message| format!("{}: {message}", path.display()));
        Failure { message, ..self }
    }

    /// The same failure, its message followed by more.
    pub(crate) fn and(self, more: impl fmt::Display) -> Failure {
        Failure { message: self.message.map(|message| format!("{message}; {more}")), ..self }
    }

    /// The line, if there is one.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Prints the line, if there is one.
    pub(crate) fn report(&self) {
        if let Some(message) = &self.message {
            note(message);
        }
    }
}

/// Whether there is nothing of that name, also because what should be a directory is none.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Prints one line of diagnostics. Whether it arrives does not matter.
pub(crate) fn note(message: impl fmt::Display) {
    use std::io::Write;
    let message = message.to_string();
    let _ = io::stderr().write_all(format!("kek: {}\n", one_line(&message)).as_bytes());
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let exit = match &error {
            OpenError::Io { source, .. } if is_missing(source) => Exit::Missing,
            OpenError::NotFound { .. }
            | OpenError::NotAFile { .. }
            | OpenError::Format { .. }
            | OpenError::OtherChannel { .. }
            | OpenError::Encoded { .. } => Exit::Missing,
            OpenError::Reused { .. } | OpenError::BeingCreated { .. } => Exit::Taken,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}

/// Whether a file that could not be opened is a channel whose header or length is damaged.
pub(crate) fn is_damaged(error: &OpenError) -> bool {
    matches!(error, OpenError::Format { source: FormatError::Header(_) | FormatError::Truncated { .. }, .. })
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Failure {
        let exit = match &error {
            CreateError::AlreadyExists { .. } | CreateError::InUse { .. } => Exit::Taken,
            CreateError::Options(_) => Exit::Usage,
            CreateError::NoSpace { .. } => Exit::Full,
            CreateError::Io { source, .. } if is_missing(source) => Exit::Missing,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Failure {
        let exit = match error {
            AppendError::TooLong { .. } | AppendError::Full { .. } | AppendError::NoSpace { .. } => {
                Exit::Full
            }
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Failure {
        Failure::new(Exit::Io, error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        let exit = match error {
            ReadError::Corrupt { .. }
            | ReadError::CutOff { .. }
            | ReadError::Undecodable { .. }
            | ReadError::UnknownKind { .. } => Exit::Damage,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}

impl From<SeekError> for Failure {
    fn from(error: SeekError) -> Failure {
        match error {
            SeekError::Read(error) => error.into(),
            error => Failure::new(Exit::Usage, error),
        }
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Failure {
        let exit = match error {
            SealError::Open(error) => return error.into(),
            SealError::WriterLives { .. } | SealError::BeingSealed { .. } => Exit::Taken,
            SealError::Damaged {
                source: ReadError::Corrupt { .. } | ReadError::UnknownKind { .. }, ..
            } => Exit::Damage,
            SealError::NoSpaceForCut { .. } => Exit::Full,
            SealError::Features { .. } => Exit::Missing,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        let exit = match error {
            JournalError::Create(error) => return error.into(),
            JournalError::Open(error) => return error.into(),
            JournalError::Seal(error) => return error.into(),
            JournalError::Cursor(error) => return error.into(),
            JournalError::InUse { .. } => Exit::Taken,
            JournalError::Options(_) | JournalError::Type(_) => Exit::Usage,
            JournalError::Damaged { .. } => Exit::Damage,
            JournalError::Io { ref source, .. } if is_missing(source) => Exit::Missing,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}

impl From<JournalReadError> for Failure {
    fn from(error: JournalReadError) -> Failure {
        let exit = match error {
            JournalReadError::Open(error) => return error.into(),
            JournalReadError::Read { path, source } => return Failure::from(source).about(&path),
            JournalReadError::Seek { path, source } => return Failure::from(source).about(&path),
            JournalReadError::Lagged { .. } => Exit::Lost,
            JournalReadError::Io { ref source, .. } if is_missing(source) => Exit::Missing,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}

impl From<CursorError> for Failure {
    fn from(error: CursorError) -> Failure {
        let exit = match error {
            CursorError::Read(error) => return error.into(),
            CursorError::Name { .. } => Exit::Usage,
            CursorError::InUse { .. } => Exit::Taken,
            CursorError::NotFound { .. } => Exit::Missing,
            CursorError::Damaged { .. } => Exit::Damage,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}
