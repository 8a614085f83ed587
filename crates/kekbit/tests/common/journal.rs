//! What the tests of journals share: journals of the smallest channels, and what is in a directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kekbit::{Durability, Journal, JournalOptions, Roll, Start, Writer};

use super::names_in;

/// The smallest channels: they are full after a few records.
pub(crate) fn tiny() -> JournalOptions {
    Journal::options()
        .channels(Writer::options().max_record_len(1024).durability(Durability::Never))
        .roll(Roll::Bytes(4096))
}

/// Whether each channel is synced by the thread, by the roll, or not at all must make no difference to readers.
pub(crate) fn variants() -> Vec<JournalOptions> {
    let mut all = Vec::new();
    for durability in [Durability::Never, Durability::AtEnd, Durability::Each] {
        for background in [true, false] {
            all.push(tiny().durability(durability).background(background));
        }
    }
    all.push(tiny().durability(Durability::Interval(Duration::from_millis(1))));
    all
}

/// A channel that nobody syncs, and that begins with the record `first`.
pub(crate) fn options_of(first: u64) -> kekbit::WriterOptions {
    Writer::options().capacity(4096).durability(Durability::Never).first_sequence(first)
}

pub(crate) fn channels(path: &Path) -> Vec<PathBuf> {
    let names = names_in(path).into_iter().filter(|name| name.ends_with(".kek"));
    names.map(|name| path.join(name)).collect()
}

pub(crate) fn first_sequences(path: &Path) -> Vec<u64> {
    channels(path).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap()).collect()
}

/// Everything that is there from `start` on.
pub(crate) fn read_from(path: &Path, start: Start) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Journal::reader(path).unwrap();
    reader.seek(start).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.try_next().unwrap() {
        records.push((record.sequence(), record.to_vec()));
    }
    records
}

pub(crate) fn read_all(path: &Path) -> Vec<Vec<u8>> {
    let records = read_from(path, Start::Beginning);
    assert!(records.iter().enumerate().all(|(n, (sequence, _))| n as u64 == *sequence));
    records.into_iter().map(|(_, record)| record).collect()
}
