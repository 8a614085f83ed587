//! A journal of measurements that takes only so much space, however long it is written: the oldest go, and their files are written anew.
//!
//! ```sh
//! cargo run --example retention -- write /tmp/telemetry bytes=1048576   # type how many to append: 10000, 100000, ...
//! cargo run --example retention -- read /tmp/telemetry slow             # in another terminal; type how many to read
//! ```
//!
//! A reader that is too slow is told that it has been overtaken, and by how much; it goes on with what is left. If nothing may be lost,
//! write with `cursors`: then what a named cursor has not passed stays, whatever the limits, and a reader that never comes back fills the
//! disk. With `age=60` measurements are kept for a minute. Limits can be combined; what exceeds any of them goes.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::str;
use std::time::Duration;

use kekbit::{Journal, JournalOptions, JournalReadError, Roll};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str =
    "usage: retention write DIRECTORY [bytes=N] [age=SECONDS] [cursors], or retention read DIRECTORY NAME";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match &args[..] {
        [role, path, limits @ ..] if role == "write" => write(path, limits),
        [role, path, name] if role == "read" => read(path, name),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("retention: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Appends as many measurements as each line of the input says.
fn write(path: &str, limits: &[String]) -> Result<()> {
    // Whole channels are given up: small ones keep closely to the limits, large ones roll seldom.
    let options = limits.iter().try_fold(Journal::options().roll(Roll::Bytes(64 << 10)), limit)?;
    let mut journal = options.open(path)?;
    let (mut channels, mut files) = (0_u64, HashSet::new());
    println!("{}", kept(path)?);
    for line in io::stdin().lines() {
        for _ in 0..number(&line?)? {
            let appended = journal.append(measure(journal.next_sequence()).as_bytes());
            let appended = appended.map_err(|error| format!("cannot append to {path}: {error}"))?;
            if appended.position.offset() == 0 {
                // The first in its channel: has that been made in a file of one that was given up?
                channels += 1;
                let newest = Journal::channels(path)?.pop().ok_or("the channel has gone")?;
                files.insert(newest.metadata()?.ino());
            }
        }
        journal.retain();
        println!("{}; written: {channels} channels in {} files", kept(path)?, files.len());
    }
    Ok(journal.close()?)
}

/// Adds what one of the arguments says.
fn limit(options: JournalOptions, argument: &String) -> Result<JournalOptions> {
    Ok(match argument.split_once('=') {
        Some(("bytes", bytes)) => options.retain_bytes(number(bytes)?),
        Some(("age", seconds)) => options.retain_age(Duration::from_secs(number(seconds)?)),
        None if argument == "cursors" => options.retain_for_cursors(true),
        _ => return Err(USAGE.into()),
    })
}

/// What is there, and what it takes.
fn kept(path: &str) -> Result<String> {
    let reader = Journal::reader(path)?;
    let (oldest, end) = (reader.oldest_sequence()?, reader.end_point()?);
    let channels = Journal::channels(path)?;
    // One that has just been given up takes nothing.
    let bytes: u64 =
        channels.iter().filter_map(|channel| channel.metadata().ok()).map(|file| 512 * file.blocks()).sum();
    let (oldest, end) = (oldest.unwrap_or(0), end.map_or(0, |end| end.sequence));
    Ok(format!("there: {oldest}..{end}, {} channels, {bytes} bytes", channels.len()))
}

/// Reads as many measurements as each line of the input says, if they are there, as the consumer `name`.
fn read(path: &str, name: &str) -> Result<()> {
    let mut reader = Journal::reader(path)?.cursor(name)?;
    println!("next: {}", reader.committed());
    for line in io::stdin().lines() {
        let (wanted, mut count, mut sum) = (number(&line?)?, 0, 0.0);
        while count < wanted {
            match reader.try_next() {
                Ok(Some(measured)) => {
                    sum += parse(&measured)?;
                    count += 1;
                    reader.commit();
                }
                Ok(None) => break,
                Err(error @ JournalReadError::Lagged { wanted: next, .. }) => {
                    let oldest = reader.skip_to_oldest()?;
                    println!("{error}; {} are lost", oldest - next);
                }
                Err(error) => return Err(error.into()),
            }
        }
        println!("read: {count}, mean {:.1} C; next: {}", sum / count.max(1) as f64, reader.sequence());
    }
    Ok(())
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().map_err(|_| format!("{text:?} is no number").into())
}

/// What the thermometer shows: it goes up and down between 10.0 and 29.9 degrees.
fn measure(sequence: u64) -> String {
    let tenths = (sequence % 400).min(399 - sequence % 400);
    format!("{:.1} C", 10.0 + tenths as f64 / 10.0)
}

fn parse(measured: &[u8]) -> Result<f64> {
    let text = str::from_utf8(measured)?;
    let celsius = text.strip_suffix(" C").ok_or_else(|| format!("{text:?} is no measurement"))?;
    Ok(celsius.parse()?)
}
