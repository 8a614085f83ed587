//! `kek cursor`: the named cursors of a journal.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kekbit::{Journal, Start};

use crate::exit::{Exit, Failure, note};
use crate::journal::Status;
use crate::output::{print, print_json};
use crate::stream::expect_journal;
use crate::values;

/// List, move and remove the named cursors of a journal
///
/// A cursor remembers how far a consumer has come. It belongs to the program that reads by its name; while that runs nobody else can
/// move or remove it.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek cursor ls orders/
  kek cursor set orders/ billing -- -100
  kek cursor rm orders/ billing")]
pub(crate) struct CursorArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List them: where each is, how many records it has still to see, when it moved last
    Ls {
        /// The directory of the journal
        path: PathBuf,

        /// One JSON object a line: name, sequence, lag, committed, in_use
        #[arg(long)]
        json: bool,
    },
    /// Move one, or create it
    Set {
        /// The directory of the journal
        path: PathBuf,

        /// Its name
        name: String,

        /// The record that it is to see next: `start`, `end`, a sequence such as 42, -5 for the last five records, or @TIME
        #[arg(value_name = "POS", value_parser = values::start, allow_hyphen_values = true)]
        to: Start,
    },
    /// Remove one
    Rm {
        /// The directory of the journal
        path: PathBuf,

        /// Its name
        name: String,
    },
}

impl CursorArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self.what {
            What::Ls { path, json } => {
                let rows = Status::of(&path)?.cursors;
                if json {
                    rows.iter().try_for_each(print_json)?;
                } else {
                    let digits = |number: u64| number.to_string().len();
                    let width =
                        rows.iter().map(|row| digits(row.sequence.max(row.lag))).max().unwrap_or(0).max(8);
                    let mut text = format!(
                        "{:>width$}  {:>width$}  {:<30}  {:<6}  NAME\n",
                        "SEQUENCE", "LAG", "COMMITTED", "IN USE"
                    );
                    for row in rows {
                        let in_use = if row.in_use { "yes" } else { "no" };
                        text += &format!(
                            "{:>width$}  {:>width$}  {:<30}  {in_use:<6}  {}\n",
                            row.sequence, row.lag, row.committed, row.name
                        );
                    }
                    print(text.as_bytes())?;
                }
            }
            What::Set { path, name, to } => {
                expect_journal(&path)?;
                let mut reader = Journal::reader(&path)?;
                reader.seek(to)?;
                // A time is found by looking at the record.
                let sequence = match reader.try_next()? {
                    Some(record) => record.sequence(),
                    None => reader.sequence(),
                };
                Journal::set_cursor(&path, &name, sequence)
                    .map_err(|error| Failure::from(error).about(&path))?;
                let end = reader.end_point()?.map_or(0, |end| end.sequence);
                if sequence > end {
                    note(format_args!(
                        "{}: {sequence} is past the end: the next writer sets {name} back to where it begins",
                        path.display()
                    ));
                }
            }
            What::Rm { path, name } => {
                expect_journal(&path)?;
                Journal::remove_cursor(&path, &name).map_err(|error| Failure::from(error).about(&path))?;
            }
        }
        Ok(Exit::Done)
    }
}
