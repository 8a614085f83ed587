//! What a journal's next writer finds: after a clean end, the death of a writer, or a crash of the machine.
//!
//! ```text
//!  durable to its end     ended, perhaps not durable    no terminal         later ones
//!  [ ....... closed ]      [ ....... closed ]            [ ....             [ ...
//!   nothing to be seen to   synced, or sealed             sealed             do not continue it: set aside
//! ```
//!
//! Whatever is durable of a channel, all channels before it are durable to their ends. So the newest one that is durable to its end
//! vouches for all before it, which are not looked at; and what lies behind it and does not follow was never durable: it is what a crash
//! has left, or none of the journal's. It is set aside under another name. What is deleted is empty.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::cursor;
use super::error::JournalError;
use super::lock::WriterLock;
use super::names::{self, NOT_BEGUN, channel_path};
use super::retention::{Retention, Segment};
use crate::channel::{Channel, EndPoint};
use crate::error::{FormatError, OpenError, ReadError, SealError};
use crate::layout::PAGE;
use crate::sys::file::{self, temporary_name as temporary};
use crate::time::unix_nanos;
use crate::wait::{Next, Wait, Waiting};

/// How long is waited for a writer that is just dying: the kernel takes its memory apart before it gives up its locks.
const DYING: Duration = Duration::from_secs(2);

/// What there is.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Sequence of the next record.
    pub(crate) next: u64,
    /// The latest time that the last channel tells of: the next may not begin before.
    pub(crate) time: u64,
    /// The channels, all of them ended, oldest first.
    pub(crate) segments: Vec<Segment>,
    /// Those of them that have ended in this boot and were not synced.
    pub(crate) unsynced: Vec<PathBuf>,
    /// What was set aside.
    pub(crate) set_aside: Vec<PathBuf>,
}

/// A channel, as it is found, with the latest time that its index tells of.
enum Found {
    /// It has ended, and all of it is durable.
    Durable(EndPoint, u64),
    /// It has ended in this boot.
    Ended(EndPoint, u64),
    /// It has to be sealed.
    Unended(u64),
    /// No channel, or one that has not begun, or begins elsewhere.
    Stray,
}

/// Brings the journal in `directory`, which nobody else writes, to an end from which it can go on.
pub(crate) fn recover(directory: &Path) -> Result<Recovered, JournalError> {
    // They may take space that is needed.
    remove_temporaries(directory, |first| first == NOT_BEGUN)?;
    let floor = names::floor(directory).map_err(JournalError::io("list", directory))?;
    let names = names::list(directory).map_err(JournalError::io("list", directory))?;
    let mut start = names.len();
    let mut durable = false;
    while start > 0 && !durable {
        start -= 1;
        durable = matches!(look_at(directory, names[start])?, Found::Durable(..));
    }
    let mut found =
        Recovered { next: 0, time: 0, segments: Vec::new(), unsynced: Vec::new(), set_aside: Vec::new() };
    let (settled, rest) = names.split_at(start);
    for first in settled {
        found.segments.extend(segment(directory, *first)?);
    }
    let mut expected = None;
    let mut rest = rest;
    while let Some((first, later)) = rest.split_first() {
        let path = channel_path(directory, *first);
        let (end, time, cut) = match look_at(directory, *first)? {
            // From the last one on, so that there is never a hole.
            _ if expected.is_some_and(|expected| expected != *first) => {
                for first in rest.iter().rev() {
                    found.set_aside.push(set_aside(directory, *first)?);
                }
                sync_directory(directory)?;
                break;
            }
            Found::Stray => {
                found.set_aside.push(set_aside(directory, *first)?);
                sync_directory(directory)?;
                rest = later;
                continue;
            }
            Found::Durable(end, time) => (end, time, false),
            Found::Ended(end, time) => {
                found.unsynced.push(path.clone());
                (end, time, false)
            }
            Found::Unended(time) => {
                let (end, cut) = seal(&path)?;
                (end, time, cut)
            }
        };
        found.time = found.time.max(time);
        expected = Some(end.sequence);
        rest = later;
        if end.sequence > *first {
            found.segments.extend(segment(directory, *first)?);
            continue;
        }
        // Nothing is in it, and its name will be needed.
        found.unsynced.retain(|unsynced| *unsynced != path);
        if cut {
            // What was cut off can be salvaged only with its header.
            found.set_aside.push(set_aside(directory, *first)?);
        } else {
            let place = temporary(&path).map_err(JournalError::io("rename", &path))?;
            // Until the next channel is there, this tells where the journal goes on.
            fs::rename(&path, &place).map_err(JournalError::io("rename", &path))?;
        }
        sync_directory(directory)?;
    }
    found.next = expected.unwrap_or(floor);
    Ok(found)
}

/// Removes the oldest channels that exceed the limits; how many.
pub(crate) fn give_up(directory: &Path, retention: &Retention) -> Result<u64, JournalError> {
    let _lock = WriterLock::take(directory, Wait::backoff().at_most(DYING))?;
    let mut segments = recover(directory)?.segments;
    // All of them have records; the newest ones stay.
    let Some(newest) = segments.pop() else { return Ok(0) };
    let needed = if retention.for_cursors { cursor::least_needed(directory) } else { None };
    let excess = retention.excess(&segments, (newest.first, newest.bytes), unix_nanos(), needed);
    let mut gone = 0;
    for segment in &segments[..excess] {
        let path = channel_path(directory, segment.first);
        if names::read_header(&path).is_ok_and(|header| header.first_sequence == segment.first) {
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
            gone += 1;
        }
    }
    sync_directory(directory)?;
    Ok(gone)
}

/// Removes channels that never got their names, and those that have lost theirs.
pub(crate) fn remove_temporaries(directory: &Path, which: impl Fn(u64) -> bool) -> Result<(), JournalError> {
    let listing = JournalError::io("list", directory);
    for entry in fs::read_dir(directory).map_err(listing)? {
        let entry = entry.map_err(JournalError::io("list", directory))?;
        if names::temporary(&entry.file_name()).is_some_and(&which) {
            let path = entry.path();
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn look_at(directory: &Path, first: u64) -> Result<Found, JournalError> {
    let path = channel_path(directory, first);
    let channel = match Channel::options().stored(true).random_access(true).open(&path) {
        Ok(channel) => channel,
        Err(OpenError::NotAFile { .. }) => return Ok(Found::Stray),
        // One that is newer than this is no stray; and what is damaged may be worth something.
        Err(OpenError::Format {
            source: FormatError::NotAChannel | FormatError::Truncated { .. }, ..
        }) => {
            return Ok(Found::Stray);
        }
        Err(OpenError::Format { source: FormatError::Header(_), .. }) if has_no_data(&path) => {
            return Ok(Found::Stray);
        }
        Err(source) => return Err(JournalError::Open(source)),
    };
    if channel.first_sequence() != first {
        return Ok(Found::Stray);
    }
    let time = channel.last_entry(|_| true).time.max(channel.created_nanos());
    Ok(match channel.end_point() {
        Ok(end) if end.sealed && channel.synced_slot() > end.position.offset() => Found::Durable(end, time),
        Ok(end) if end.sealed && channel.is_of_this_boot() => Found::Ended(end, time),
        // Also where there is damage: sealing tells.
        _ => Found::Unended(time),
    })
}

/// Whether nothing but zeros is behind the header of a file that may have been a channel.
fn has_no_data(path: &Path) -> bool {
    file::open(path, false)
        .and_then(|file| file::end_of_content(&file, PAGE, file.metadata()?.len()))
        .is_ok_and(|end| end == PAGE)
}

/// Ends a channel whose writer is dead, behind its last good record; whether something was cut off.
fn seal(path: &Path) -> Result<(EndPoint, bool), JournalError> {
    let mut waiting = Waiting::new(Wait::backoff().at_most(DYING));
    loop {
        match Channel::seal(path) {
            Ok(sealed) => return Ok((sealed.end, sealed.cut.is_some())),
            Err(SealError::Ended { .. }) => {
                let channel = Channel::options().stored(true).open(path).map_err(JournalError::Open)?;
                let end = channel.end_point();
                let damaged =
                    |error: ReadError| JournalError::Damaged { path: path.to_owned(), source: error.into() };
                return Ok((end.map_err(damaged)?, false));
            }
            Err(SealError::WriterLives { .. } | SealError::BeingSealed { .. })
                if waiting.pause() != Next::GiveUp => {}
            Err(source) => return Err(JournalError::Seal(source)),
        }
    }
}

/// Gives what does not belong to the journal another name.
fn set_aside(directory: &Path, first: u64) -> Result<PathBuf, JournalError> {
    let path = channel_path(directory, first);
    for number in 0_u64.. {
        let mut name = path.clone().into_os_string();
        name.push(format!(".stray-{number}"));
        match renameat2(AT_FDCWD, &path, AT_FDCWD, name.as_os_str(), RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => return Ok(name.into()),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(JournalError::io("rename", &path)(errno.into())),
        }
    }
    unreachable!("there are not so many files");
}

fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    let synced = file::open_directory(directory).and_then(|opened| file::sync(&opened));
    synced.map_err(|errno| JournalError::io("sync", directory)(errno.into()))
}

/// What is kept of a channel that has ended; `None` if it has gone.
fn segment(directory: &Path, first: u64) -> Result<Option<Segment>, JournalError> {
    let path = channel_path(directory, first);
    match fs::symlink_metadata(&path) {
        Ok(metadata) => {
            Ok(Some(Segment { first, ended: last_change(&metadata), bytes: 512 * metadata.blocks() }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::io("look up", &path)(error)),
    }
}

/// In nanoseconds since the Unix epoch. Not before the last record, but perhaps after it: then it is kept longer.
fn last_change(metadata: &Metadata) -> u64 {
    let nanos = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
}
