//! A map that lives in several processes: one owns it, the others hold the same, live, whoever of them is killed and when.
//!
//! ```sh
//! cargo run --example replica -- primary /tmp/map       # type `set KEY VALUE` or `remove KEY`; leave with Ctrl-D
//! cargo run --example replica -- follow /tmp/map one    # in a second terminal
//! cargo run --example replica -- follow /tmp/map two    # in a third; kill -9 any of them, and start it again
//! kek stat /tmp/map                                     # in a fourth: how far each is behind
//! ```
//!
//! The records are the map: a change is in the journal before it happens, so that whoever applies the same records has the same map.
//! It is held in memory, and so it comes back from the first record on; where that takes too long, see `system_image`. The primary
//! leaves with a digest of its map, with which each replica compares its own.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;
use std::str;
use std::time::Duration;

use kekbit::{AppendError, Journal, JournalReader, Wait};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As often a replica that catches up says how far it is.
const MANY: u64 = 1000;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match &args[..] {
        [role, path] if role == "primary" => lead(path),
        [role, path, name] if role == "follow" => follow(path, name),
        _ => Err("usage: replica primary DIRECTORY, or replica follow DIRECTORY NAME".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replica: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Owns the map, and changes it as it is told to on standard input.
fn lead(path: &str) -> Result<()> {
    // Replicas on the same machine see what is appended at once. A power cut takes both sides back to what was synced.
    let mut journal = Journal::options().open(path)?;
    let mut map = Map::default();
    let mut reader = Journal::reader(path)?;
    while let Some(record) = reader.try_next()? {
        map.apply(str::from_utf8(&record)?)?;
    }
    println!("{}: {map}", journal.next_sequence());
    for line in io::stdin().lines() {
        let line = line?;
        if !matches!(words(&line)[..], ["set", _, _] | ["remove", _]) {
            println!("type: set KEY VALUE, or remove KEY");
            continue;
        }
        match journal.append(line.as_bytes()) {
            Ok(_) => map.apply(&line)?,
            // What is not in the journal does not happen.
            Err(error @ AppendError::TooLong { .. }) => println!("refused: {error}"),
            Err(error) => return Err(format!("cannot append to {path}: {error}").into()),
        }
        println!("{}: {map}", journal.next_sequence());
    }
    journal.append(format!("left {}", map.digest()).as_bytes())?;
    journal.close()?;
    println!("left: {map}");
    Ok(())
}

/// Holds the same map until the primary leaves. Nobody else has this `name`.
fn follow(path: &str, name: &str) -> Result<()> {
    if !Journal::is_at(path) {
        return Err(format!("there is no journal at {path}: start the primary first").into());
    }
    // The map begins anew, and so does the cursor: it tells others how far this replica is.
    Journal::set_cursor(path, name, 0)?;
    let mut journal = Journal::reader(path)?.cursor(name)?;
    let mut map = Map::default();
    let mut news = 0;
    loop {
        // As long as there is something to show, nothing is waited for.
        let patient = Wait::backoff().at_most(Duration::from_millis(100));
        if let Some(record) = journal.next(if news > 0 { Wait::spin().retries(0) } else { patient })? {
            map.apply(str::from_utf8(&record)?)?;
            journal.commit();
            news += 1;
            if news < MANY {
                continue;
            }
        }
        if news > 0 {
            println!("{}: {map}, {} behind", journal.sequence(), lag(&journal)?);
            news = 0;
        } else if map.left && !journal.writer_lives()? && lag(&journal)? == 0 {
            println!("left: {map}");
            return Ok(());
        }
    }
}

/// How many records there are that have not been read.
fn lag(journal: &JournalReader) -> Result<u64> {
    let end = journal.end_point()?.map_or(0, |end| end.sequence);
    Ok(end.saturating_sub(journal.sequence()))
}

/// The map that comes of the records.
#[derive(Default)]
struct Map {
    pairs: BTreeMap<String, String>,
    /// Whether the last record says that the primary has left.
    left: bool,
}

/// A record, as it is typed and as `kek cat` shows it.
fn words(record: &str) -> Vec<&str> {
    record.splitn(3, ' ').collect()
}

impl Map {
    /// Does what a record says: the same in each process.
    fn apply(&mut self, record: &str) -> Result<()> {
        self.left = false;
        match words(record)[..] {
            ["set", key, value] => drop(self.pairs.insert(key.to_owned(), value.to_owned())),
            ["remove", key] => drop(self.pairs.remove(key)),
            ["left", digest] if digest == self.digest() => self.left = true,
            ["left", digest] => {
                return Err(format!("diverged: the primary had {digest}, here is {self}").into());
            }
            _ => return Err(format!("{record:?} is no change of a map").into()),
        }
        Ok(())
    }

    /// Equal maps have the same; others, all but surely, another.
    fn digest(&self) -> String {
        let digest = self.pairs.iter().fold(0, |digest, (key, value)| {
            crc32c::crc32c_append(digest, format!("{key} {value}\n").as_bytes())
        });
        format!("{digest:08x}")
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys, digest {}", self.pairs.len(), self.digest())
    }
}
