//! `kek ls`: the channels and journals in a directory.

use std::path::PathBuf;

use clap::Args;
use kekbit::{FormatError, Journal, OpenError};

use crate::exit::{Exit, Failure};
use crate::info::Info;
use crate::journal::Status;
use crate::output::{print, print_json};
use crate::values::one_line;

/// List the channels and journals in a directory
///
/// Of a journal in it, which is a directory itself, it tells the totals, and the time at which its oldest channel was created; TAIL is
/// what its channels take on the disk, and its name ends with a slash. Of a directory that is a journal, it lists the channels.
///
/// What is no channel is passed over. What could be one and cannot be read is named on standard error.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek ls
  kek ls /var/lib/orders
  kek ls --json /var/lib/orders | jq -r 'select(.state == \"abandoned\") | .path'")]
pub(crate) struct LsArgs {
    /// The directory
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// One JSON object a line for each channel and journal, as `kek info --json` prints it
    #[arg(long)]
    json: bool,
}

impl LsArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let cannot = |error| Failure::io(format_args!("cannot list {}", self.dir.display()), error);
        if !self.dir.metadata().map_err(cannot)?.is_dir() {
            let what = format_args!("{} is not a directory", self.dir.display());
            return Err(Failure::new(Exit::Missing, what));
        }
        let mut names = Vec::new();
        for entry in self.dir.read_dir().map_err(cannot)? {
            names.push(entry.map_err(cannot)?.file_name());
        }
        names.sort();
        let (mut rows, mut exit) = (vec![HEADINGS.map(str::to_owned)], Exit::Done);
        for name in names {
            let path = self.dir.join(&name);
            if path.is_dir() {
                if !Journal::is_at(&path) {
                    continue;
                }
                match Status::of(&path) {
                    Ok(status) if self.json => print_json(&status)?,
                    Ok(status) => rows.push(journal_row(&one_line(&name.to_string_lossy()), &status)),
                    Err(failure) => {
                        let failure = failure.about(&path);
                        failure.report();
                        exit = if exit == Exit::Done { failure.exit } else { exit };
                    }
                }
                continue;
            }
            let looked_up = match Info::open(&path) {
                Err(error) if is_no_channel(&error) => continue,
                opened => opened.map_err(Failure::from).and_then(|channel| Info::of(&channel)),
            };
            match looked_up {
                Ok(info) if self.json => print_json(&info)?,
                Ok(info) => rows.push(row(&one_line(&name.to_string_lossy()), &info)),
                Err(failure) => {
                    failure.report();
                    exit = if exit == Exit::Done { failure.exit } else { exit };
                }
            }
        }
        if !self.json {
            print(table(&rows).as_bytes())?;
        }
        Ok(exit)
    }
}

const HEADINGS: [&str; 6] = ["STATE", "RECORDS", "TAIL", "CAPACITY", "CREATED", "NAME"];

fn row(name: &str, info: &Info) -> [String; 6] {
    let numbers = [info.records, info.tail, info.capacity].map(|number| number.to_string());
    let [records, tail, capacity] = numbers;
    // Seconds are enough for people.
    let created = info.created.split('.').next().unwrap_or_default().to_owned() + "Z";
    [info.state.clone(), records, tail, capacity, created, name.to_owned()]
}

fn journal_row(name: &str, status: &Status) -> [String; 6] {
    let [records, bytes] = [status.records, status.bytes].map(|number| number.to_string());
    // There is no end to it.
    let capacity = "-".to_owned();
    let created = status.created.as_deref().and_then(|created| created.split('.').next());
    let created = created.map_or_else(|| "-".to_owned(), |created| created.to_owned() + "Z");
    [status.state.clone(), records, bytes, capacity, created, name.to_owned() + "/"]
}

/// Whether there is nothing to be said of it: it has gone meanwhile, or it never was a channel.
fn is_no_channel(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::NotFound { .. }
            | OpenError::NotAFile { .. }
            | OpenError::Format { source: FormatError::NotAChannel, .. }
    )
}

/// Columns as wide as their widest cell; numbers to the right.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [state, records, tail, capacity, created, _] = [0, 1, 2, 3, 4, 5].map(width);
    let line = |[a, b, c, d, e, name]: &[String; 6]| {
        format!("{a:<state$}  {b:>records$}  {c:>tail$}  {d:>capacity$}  {e:<created$}  {name}\n")
    };
    rows.iter().map(line).collect()
}
