//! State that is back at once: an image of it now and then, and a journal of what came after. The state is how often each word was
//! typed, so that a line that is counted twice, or not at all, shows.
//!
//! ```sh
//! cargo run --example system_image -- /tmp/words        # type lines; an image is made after each 100 of them
//! cargo run --example system_image -- /tmp/words 10     # after Ctrl-C, kill -9 or a power cut: goes on; now after each 10
//! kek cat /tmp/words/image.kek; kek info /tmp/words/journal
//! ```
//!
//! An image is a channel of its own, whose header says how many records of the journal are in it. It gets its name when it is closed,
//! and so durable. What it covers the journal may give up; the cursor `image` keeps the rest.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::str;

use kekbit::{Channel, Journal, NamedCursor, OpenError, Roll, Start, Writer};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The key of how many records are in an image, in its header.
const COVERS: &str = "covers";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let done = match &args[..] {
        [directory] => run(Path::new(directory), 100),
        [directory, lines] => match lines.parse() {
            Ok(lines @ 1..) => run(Path::new(directory), lines),
            _ => Err(format!("{lines} is no number of lines").into()),
        },
        _ => Err("usage: system_image DIRECTORY [LINES]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("system_image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path, between: u64) -> Result<()> {
    fs::create_dir_all(directory)
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    // At each roll everything may go that has ended, but for what the cursor has not passed. It has to be there before a record is.
    let path = directory.join("journal");
    let options = Journal::options().roll(Roll::Bytes(1 << 20)).retain_count(1).retain_for_cursors(true);
    let mut journal = options.open(&path)?;
    let mut changes = Journal::reader(&path)?.cursor("image")?;

    let (mut words, mut covered) = Words::load(directory)?;
    if covered > journal.next_sequence() {
        let (path, end) = (path.display(), journal.next_sequence());
        return Err(format!("the image covers {covered} lines, but {path} ends at {end}").into());
    }
    changes.seek(Start::Sequence(covered)).map_err(|error| format!("the image is too old: {error}"))?;
    let replayed = words.catch_up(&mut changes)?;
    println!("image of {covered} lines, {replayed} replayed: {words}");

    for line in io::stdin().lines() {
        let appended = journal.append(line?.as_bytes());
        appended.map_err(|error| format!("cannot append to {}: {error}", path.display()))?;
        words.catch_up(&mut changes)?;
        println!("{} lines: {words}", changes.sequence());
        if changes.sequence() - covered >= between {
            covered = changes.sequence();
            // The image must not know of what a power cut can still take from the journal.
            journal.sync()?;
            words.save(directory, covered)?;
            changes.commit();
            changes.sync()?;
            journal.retain();
            println!("image of {covered} lines");
        }
    }
    Ok(journal.close()?)
}

/// How often each word was typed.
#[derive(Default)]
struct Words(BTreeMap<String, u64>);

impl Words {
    /// Counts what is in the journal and not yet in here: the only way in, for what is new and for what is replayed. How many lines.
    fn catch_up(&mut self, changes: &mut NamedCursor) -> Result<u64> {
        let begin = changes.sequence();
        while let Some(line) = changes.try_next()? {
            for word in str::from_utf8(&line)?.split_whitespace() {
                *self.0.entry(word.to_owned()).or_default() += 1;
            }
        }
        Ok(changes.sequence() - begin)
    }

    /// Makes an image that covers so many records, in place of the one before.
    fn save(&self, directory: &Path, covers: u64) -> Result<()> {
        let (new, path) = (directory.join("image.new"), directory.join("image.kek"));
        // Whoever has begun that was killed: the journal has one writer.
        if new.exists() {
            fs::remove_file(&new).map_err(|error| format!("cannot remove {}: {error}", new.display()))?;
        }
        let mut image = Writer::options().meta(COVERS, covers.to_string()).create(&new)?;
        for (word, count) in &self.0 {
            let appended = image.append(format!("{count} {word}").as_bytes());
            appended.map_err(|error| format!("cannot append to {}: {error}", new.display()))?;
        }
        image.close()?;
        fs::rename(&new, &path)
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(|error| format!("cannot put the image at {}: {error}", path.display()).into())
    }

    /// The image, and how many records are in it; if there is none, nothing.
    fn load(directory: &Path) -> Result<(Words, u64)> {
        let path = directory.join("image.kek");
        let image = match Channel::open(&path) {
            Err(OpenError::NotFound { .. }) => return Ok((Words::default(), 0)),
            opened => opened?,
        };
        let wrong = || format!("{} is no image", path.display());
        let covers = image.meta_value(COVERS).and_then(|covers| covers.parse().ok()).ok_or_else(wrong)?;
        let mut words = BTreeMap::new();
        for record in image.records() {
            let record = record.map_err(|error| format!("{}: {error}", path.display()))?;
            let (count, word) = str::from_utf8(&record)?.split_once(' ').ok_or_else(wrong)?;
            words.insert(word.to_owned(), count.parse()?);
        }
        Ok((Words(words), covers))
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words, {} different", self.0.values().sum::<u64>(), self.0.len())
    }
}
