//! `kek retain`: gives up what a journal need not keep, now.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kekbit::Journal;

use crate::exit::{Exit, Failure, note};
use crate::stream::expect_journal;
use crate::values::{self, counted};

/// Give up what a journal need not keep
///
/// Removes the oldest channels that exceed the limits: those that the journal remembers, or the ones that are given here, which it does
/// not remember. Its writer does that by itself at each roll; nobody may be writing it. The newest records always stay.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek retain orders/
  kek retain --bytes 10G orders/")]
pub(crate) struct RetainArgs {
    /// The directory of the journal
    path: PathBuf,

    /// Bytes on the disk that all channels together may take
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    bytes: Option<u64>,

    /// For how long records are kept
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    age: Option<Duration>,

    /// How many channels are kept
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Keeps what a named cursor has not passed, whatever the limits
    #[arg(long)]
    cursors: bool,

    /// Says nothing about what was given up
    #[arg(short, long)]
    quiet: bool,
}

impl RetainArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        expect_journal(&self.path)?;
        let mut limits = Journal::settings(&self.path)?.unwrap_or_default();
        if self.bytes.is_some() || self.age.is_some() || self.count.is_some() {
            (limits.retain_bytes, limits.retain_age, limits.retain_count) =
                (self.bytes, self.age, self.count);
        }
        limits.retain_for_cursors |= self.cursors;
        let limited =
            limits.retain_bytes.is_some() || limits.retain_age.is_some() || limits.retain_count.is_some();
        if !limited {
            if !self.quiet {
                let why =
                    "it was told to keep everything: --bytes, --age and --count give up what exceeds them";
                note(format_args!("{}: {why}", self.path.display()));
            }
            return Ok(Exit::Done);
        }
        let gone = Journal::give_up(&self.path, &limits)?;
        if !self.quiet {
            note(format_args!("{}: gave up {}", self.path.display(), counted(gone, "channel")));
        }
        Ok(Exit::Done)
    }
}
