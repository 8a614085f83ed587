//! One file on a disk that may lose power: what a sync has made durable, what is in memory, and how it looked in between.
//!
//! ```text
//! pages that a sync has covered    durable: as when that sync began, or any later version
//! pages that were written since    any version since, mixed by sectors
//! ```
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use crate::common::Numbers;

const PAGE: usize = 4096;
/// The least that a disk writes at once.
pub(crate) const SECTOR: usize = 512;
/// How many versions are remembered.
const VERSIONS: usize = 5;

/// Which file: device and inode.
pub(crate) type Key = (u64, u64);

pub(crate) fn key(file: &File) -> Key {
    let metadata = file.metadata().unwrap();
    (metadata.dev(), metadata.ino())
}

pub(crate) fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], read as u64).unwrap() {
            0 => break,
            n => read += n,
        }
    }
    bytes.truncate(read);
    bytes
}

/// What a disk has of a file, as far as it was told.
#[derive(Clone, Debug)]
pub(crate) struct Durable {
    pub(crate) bytes: Vec<u8>,
    /// When each page became durable, and how the file looked at times in between.
    since: Vec<u64>,
    versions: Vec<(u64, Arc<Vec<u8>>)>,
    time: u64,
}

impl Durable {
    pub(crate) fn new(bytes: Vec<u8>) -> Durable {
        let since = vec![0; bytes.len().div_ceil(PAGE)];
        Durable { bytes, since, versions: Vec::new(), time: 1 }
    }

    /// The file looks like this now, between two other times.
    pub(crate) fn remember(&mut self, now: Vec<u8>, numbers: &mut Numbers) {
        self.time += 1;
        let version = (self.time, Arc::new(now));
        if self.versions.len() < VERSIONS {
            self.versions.push(version);
        } else {
            let at = numbers.below(VERSIONS as u64) as usize;
            self.versions[at] = version;
        }
    }

    /// A sync begins; when that is.
    pub(crate) fn begin_sync(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// The sync of `[from, to)` that began at that time, when the file looked like `seen`, has succeeded.
    pub(crate) fn end_sync(&mut self, began: u64, seen: &[u8], from: usize, to: usize) {
        self.time += 1;
        self.bytes.resize(seen.len(), 0);
        self.since.resize(seen.len().div_ceil(PAGE), 0);
        let (first, last) = (from / PAGE, to.min(seen.len()).div_ceil(PAGE));
        for page in first..last {
            let range = page * PAGE..((page + 1) * PAGE).min(seen.len());
            self.bytes[range.clone()].copy_from_slice(&seen[range]);
            self.since[page] = began;
        }
    }

    /// What there is at this moment, at which memory has `current`.
    pub(crate) fn moment(&self, current: Vec<u8>) -> Sectors {
        Sectors {
            durable: self.bytes.clone(),
            current,
            since: self.since.clone(),
            versions: self.versions.clone(),
        }
    }
}

/// A file at the moment of a crash.
#[derive(Debug)]
pub(crate) struct Sectors {
    /// As the disk must have it, but for newer versions of its sectors, and as it stands in memory.
    pub(crate) durable: Vec<u8>,
    pub(crate) current: Vec<u8>,
    since: Vec<u64>,
    versions: Vec<(u64, Arc<Vec<u8>>)>,
}

impl Sectors {
    /// One unit of a file, which reads as zeros past its end.
    pub(crate) fn unit(file: &[u8], at: usize, unit: usize) -> Vec<u8> {
        let begin = (at * unit).min(file.len());
        let mut bytes = file[begin..(begin + unit).min(file.len())].to_vec();
        bytes.resize(unit, 0);
        bytes
    }

    /// The versions of a unit between the durable one and the current one, neither of which they equal.
    pub(crate) fn stale(&self, at: usize, unit: usize) -> Vec<Vec<u8>> {
        let since = self.since.get(at * unit / PAGE).copied().unwrap_or(0);
        let ends = [&self.durable, &self.current].map(|file| Sectors::unit(file, at, unit));
        let stale = self.versions.iter().filter(|(time, _)| *time >= since);
        let units = stale.map(|(_, file)| Sectors::unit(file, at, unit));
        units.filter(|bytes| !ends.contains(bytes)).collect()
    }

    /// The units that the disk may have otherwise than it must.
    pub(crate) fn dirty(&self, unit: usize) -> Vec<usize> {
        let len = self.durable.len().max(self.current.len());
        let differs = |&at: &usize| {
            Sectors::unit(&self.durable, at, unit) != Sectors::unit(&self.current, at, unit)
                || !self.stale(at, unit).is_empty()
        };
        (0..len.div_ceil(unit)).filter(differs).collect()
    }

    /// The file as it must be, with these units instead.
    pub(crate) fn with<'b>(
        &self,
        unit: usize,
        units: impl IntoIterator<Item = (usize, &'b [u8])>,
        len: usize,
    ) -> Vec<u8> {
        let mut image = self.durable.clone();
        image.resize(self.durable.len().max(self.current.len()).next_multiple_of(PAGE), 0);
        for (at, bytes) in units {
            image[at * unit..][..unit].copy_from_slice(bytes);
        }
        image.truncate(len);
        image
    }

    /// One of the lengths that the file has had.
    pub(crate) fn len(&self, numbers: &mut Numbers) -> usize {
        [self.durable.len(), self.current.len()][numbers.below(2) as usize]
    }
}
