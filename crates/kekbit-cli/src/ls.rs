//! `kek ls`: the channels and journals in a directory.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use kekbit::{Channel, FormatError, Journal, OpenError};

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
/// Of a directory in it that holds channels which are named after their ids, DIR/hhhh_hhhh/hhhh_hhhh.kekbit, it lists these, too.
///
/// What is no channel is passed over. What could be one and cannot be read is named on standard error, as is damage in a channel of
/// kekbit 0.3, which is listed as far as it is good.
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
        let mut list = List { json: self.json, rows: vec![HEADINGS.map(str::to_owned)], exit: Exit::Done };
        for name in names(&self.dir).map_err(cannot)? {
            let (path, name) = (self.dir.join(&name), PathBuf::from(name));
            if !path.is_dir() {
                list.channel(&path, &name)?;
            } else if Journal::is_at(&path) {
                list.journal(&path, &name)?;
            } else if Channel::id_of(path.join(SOME_CHANNEL)).is_some() {
                list.half(&path, &name)?;
            }
        }
        if !self.json {
            print(table(&list.rows).as_bytes())?;
        }
        Ok(list.exit)
    }
}

/// The names in a directory, in order.
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let names: io::Result<Vec<_>> = directory.read_dir()?.map(|entry| Ok(entry?.file_name())).collect();
    names.map(|mut names| {
        names.sort();
        names
    })
}

/// What is listed, as far as it has come.
struct List {
    json: bool,
    rows: Vec<[String; 6]>,
    /// Of the first that could not be read, or is damaged.
    exit: Exit,
}

impl List {
    fn channel(&mut self, path: &Path, name: &Path) -> Result<(), Failure> {
        let looked_up = match Info::open(path) {
            Err(error) if is_no_channel(&error) => return Ok(()),
            opened => Info::opened(path, opened),
        };
        match looked_up {
            Ok(info) => {
                match self.json {
                    true => print_json(&info)?,
                    false => self.rows.push(row(&one_line(&name.to_string_lossy()), &info)),
                }
                if let Some(damage) = &info.damage {
                    self.failed(damage);
                }
            }
            Err(failure) => self.failed(&failure),
        }
        Ok(())
    }

    /// The channels in a directory that is named after half an id.
    fn half(&mut self, path: &Path, name: &Path) -> Result<(), Failure> {
        let inner = match names(path) {
            Ok(names) => names,
            Err(error) => {
                self.failed(&Failure::io(format_args!("cannot list {}", path.display()), error));
                return Ok(());
            }
        };
        for inner in inner {
            let path = path.join(&inner);
            if Channel::id_of(&path).is_some() && !path.is_dir() {
                self.channel(&path, &name.join(inner))?;
            }
        }
        Ok(())
    }

    fn journal(&mut self, path: &Path, name: &Path) -> Result<(), Failure> {
        match Status::of(path) {
            Ok(status) if self.json => print_json(&status)?,
            Ok(status) => self.rows.push(journal_row(&one_line(&name.to_string_lossy()), &status)),
            Err(failure) => self.failed(&failure.about(path)),
        }
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) {
        failure.report();
        if self.exit == Exit::Done {
            self.exit = failure.exit;
        }
    }
}

/// What a directory has in it that is named after half an id.
const SOME_CHANNEL: &str = "0000_0000.kekbit";

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
