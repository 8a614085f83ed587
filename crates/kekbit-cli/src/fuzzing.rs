//! What the fuzz target `command` needs of the command line and of the splitter. Compiled with `--cfg fuzzing` only.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Command, CommandFactory, FromArgMatches};
use kekbit::Start;

use crate::Kek;
use crate::split::{Split, SplitError, Splitter};
use crate::values;

/// The command line's parser; parsing does not change what it accepts.
#[derive(Debug)]
pub struct CommandLine(Command);

impl Default for CommandLine {
    fn default() -> Self {
        CommandLine(Kek::command())
    }
}

impl CommandLine {
    /// Parses the arguments of `kek`, its name included.
    ///
    /// # Errors
    ///
    /// What would be printed.
    pub fn parse(&mut self, arguments: Vec<OsString>) -> Result<(), clap::Error> {
        let matches = self.0.try_get_matches_from_mut(arguments)?;
        Kek::from_arg_matches(&matches).map(drop)
    }
}

/// A size.
///
/// # Errors
///
/// What would be printed.
pub fn size(text: &str) -> Result<u64, String> {
    values::size(text)
}

/// A span of time.
///
/// # Errors
///
/// What would be printed.
pub fn duration(text: &str) -> Result<Duration, String> {
    values::duration(text)
}

/// The same, printed.
pub fn friendly(duration: Duration) -> String {
    values::friendly(duration)
}

/// A place to begin.
///
/// # Errors
///
/// What would be printed.
pub fn start(text: &str) -> Result<Start, String> {
    values::start(text)
}

/// A key and a value.
///
/// # Errors
///
/// What would be printed.
pub fn meta(text: &str) -> Result<(String, String), String> {
    values::meta(text)
}

/// When to sync.
pub fn is_sync(text: &str) -> bool {
    text.parse::<values::Sync>().is_ok()
}

/// A time, printed.
pub fn rfc3339(nanos: u64) -> String {
    values::rfc3339(nanos)
}

/// What may break a line, escaped.
pub fn one_line(text: &str) -> String {
    values::one_line(text).into_owned()
}

/// How input is cut into records: before each byte with this value, by lengths, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of the splitter's own")]
pub enum Cut {
    Terminated(u8),
    Framed,
    Whole,
}

/// Cuts `input`, which arrives in pieces, into records of at most `limit` bytes. Calls `record` with each, and returns
/// whether all of it could be cut.
pub fn split<'i>(
    cut: Cut,
    limit: usize,
    input: impl Iterator<Item = &'i [u8]>,
    mut record: impl FnMut(&[u8]),
) -> bool {
    let split = match cut {
        Cut::Terminated(byte) => Split::Terminated(byte),
        Cut::Framed => Split::Framed,
        Cut::Whole => Split::Whole,
    };
    let mut splitter = Splitter::new(split, limit);
    let all = || -> Result<(), SplitError> {
        for mut piece in input {
            while !piece.is_empty() {
                let space = splitter.space();
                assert!(!space.is_empty(), "there is always space to read to");
                let len = piece.len().min(space.len());
                space[..len].copy_from_slice(&piece[..len]);
                splitter.filled(len);
                piece = &piece[len..];
                while let Some(found) = splitter.next()? {
                    record(found);
                }
            }
        }
        if let Some(found) = splitter.finish()? {
            record(found);
        }
        Ok(())
    };
    match all() {
        Ok(()) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
