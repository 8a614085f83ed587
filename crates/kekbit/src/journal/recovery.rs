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
//!
//! Where nothing is synced unless somebody asks for it, the newest that has ended in this boot does as well: its writer has seen to all
//! before it.
//!
//! In this order, since the machine may crash again in between, and others read meanwhile: what does not follow is set aside before any
//! channel gets an end, behind which a reader would look for the next; and what is before a channel is synced before that gets its end,
//! which vouches for it. Whoever comes after a crash in the middle finds what this one has found.

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
use crate::open::Verify;
use crate::seal::{SealOptions, Sealed};
use crate::syncs::Ended;
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
    /// Those of them that have ended in this boot and were not synced, or of which that is not told.
    pub(crate) unsynced: Vec<PathBuf>,
    /// What was set aside.
    pub(crate) set_aside: Vec<PathBuf>,
    /// What was sealed.
    pub(crate) sealed: Vec<(PathBuf, Sealed)>,
}

/// A channel, as it is found, with the latest time that its index tells of.
enum Found {
    /// It has ended, all of it is durable, and everybody is told so.
    Durable(EndPoint, u64),
    /// It has ended in this boot, or is durable, but not everybody is told so.
    Ended(EndPoint, u64),
    /// It has to be sealed.
    Unended(u64),
    /// No channel, or one that has not begun, or begins elsewhere.
    Stray,
}

/// Brings the journal in `directory`, which nobody else writes, to an end from which it can go on. `syncs`: whether what is not durable will
/// be synced then, so that it matters which that is.
pub(crate) fn recover(
    directory: &Path,
    sealing: &SealOptions,
    syncs: bool,
) -> Result<Recovered, JournalError> {
    // They may take space that is needed.
    remove_temporaries(directory, |first| first == NOT_BEGUN.0)?;
    let floor = names::floor(directory).map_err(JournalError::io("list", directory))?;
    let names = names::list(directory).map_err(JournalError::io("list", directory))?;
    let mut start = names.len();
    let (mut durable, mut ended) = (false, false);
    while start > 0 && !durable && !ended {
        start -= 1;
        let found = look_at(directory, names[start], sealing.is_crashed())?;
        durable = matches!(found, Found::Durable(..));
        ended = !syncs && matches!(found, Found::Ended(..));
    }
    let mut found = Recovered {
        next: 0,
        time: 0,
        segments: Vec::new(),
        unsynced: Vec::new(),
        set_aside: Vec::new(),
        sealed: Vec::new(),
    };
    let (settled, rest) = names.split_at(start);
    for first in settled {
        found.segments.extend(segment(directory, *first)?);
        if !durable {
            found.unsynced.push(channel_path(directory, *first));
        }
    }
    let Chain { follow, strays, behind } = chain(directory, rest, sealing)?;
    // Before any channel gets an end: whoever reads it goes on behind that. And from the last one on, so that there is never a hole, in
    // front of which a reader would be told that it lags.
    for aside in [behind, strays] {
        for first in aside.iter().rev() {
            found.set_aside.push(set_aside(directory, *first)?);
        }
        if !aside.is_empty() {
            sync_directory(directory)?;
        }
    }
    let mut next = None;
    for (first, what) in follow {
        let path = channel_path(directory, first);
        let (end, time, cut) = match what {
            Found::Stray => continue,
            Found::Durable(end, time) => (end, time, false),
            Found::Ended(end, time) => {
                found.unsynced.push(path.clone());
                (end, time, false)
            }
            Found::Unended(time) => {
                // The end that this one gets is durable, and vouches for all before it.
                for ended in found.unsynced.drain(..) {
                    let synced = Ended::Closed(ended.clone()).settle();
                    synced.map_err(|error| JournalError::io("sync", &ended)(error.into_source()))?;
                }
                let (end, cut) = seal(&path, sealing, &mut found.sealed)?;
                (end, time, cut)
            }
        };
        found.time = found.time.max(time);
        next = Some(end.sequence);
        if end.sequence > first {
            found.segments.extend(segment(directory, first)?);
            continue;
        }
        // Nothing is in it, and its name will be needed.
        found.unsynced.retain(|unsynced| *unsynced != path);
        if cut {
            // What was cut off can be salvaged only with its header.
            found.set_aside.push(set_aside(directory, first)?);
        } else {
            let place = temporary(&path).map_err(JournalError::io("rename", &path))?;
            // Until the next channel is there, this tells where the journal goes on.
            fs::rename(&path, &place).map_err(JournalError::io("rename", &path))?;
        }
        sync_directory(directory)?;
    }
    found.next = next.unwrap_or(floor);
    Ok(found)
}

/// Which channels follow one another, and which are none of the journal's.
struct Chain {
    follow: Vec<(u64, Found)>,
    /// Where one would follow, but what is there is none.
    strays: Vec<u64>,
    /// Where none follows.
    behind: Vec<u64>,
}

/// Finds out which of the channels `names` follow from the first of them. Changes nothing.
fn chain(directory: &Path, names: &[u64], sealing: &SealOptions) -> Result<Chain, JournalError> {
    let mut chain = Chain { follow: Vec::new(), strays: Vec::new(), behind: Vec::new() };
    let mut expected = None;
    for (at, first) in names.iter().enumerate() {
        if expected.is_some_and(|expected| expected != *first) {
            chain.behind.extend(&names[at..]);
            break;
        }
        let what = look_at(directory, *first, sealing.is_crashed())?;
        expected = match &what {
            Found::Stray => {
                chain.strays.push(*first);
                continue;
            }
            Found::Durable(end, _) | Found::Ended(end, _) => Some(end.sequence),
            Found::Unended(_) if at + 1 < names.len() => Some(end_when_sealed(directory, *first, sealing)?),
            Found::Unended(_) => None,
        };
        chain.follow.push((*first, what));
    }
    Ok(chain)
}

/// The sequence behind the last good record of a channel that has to be sealed.
fn end_when_sealed(directory: &Path, first: u64, sealing: &SealOptions) -> Result<u64, JournalError> {
    let path = channel_path(directory, first);
    let options = Channel::options().stored(true).verify(Verify::Always).crashed(sealing.is_crashed());
    let channel = options.open(&path).map_err(JournalError::Open)?;
    match channel.verify(|_| ()) {
        Ok(end) => Ok(end.sequence),
        // Sealing tells, and does nothing.
        Err(_) => Ok(seal(&path, sealing, &mut Vec::new())?.0.sequence),
    }
}

/// Removes the oldest channels that exceed the limits; how many.
pub(crate) fn give_up(directory: &Path, retention: &Retention) -> Result<u64, JournalError> {
    let _lock = WriterLock::take(directory, Wait::backoff().at_most(DYING))?;
    let mut segments = recover(directory, &SealOptions::default(), false)?.segments;
    // All of them have records; the newest ones stay.
    let Some(newest) = segments.pop() else { return Ok(0) };
    let needed = if retention.for_cursors { cursor::least_needed(directory) } else { None };
    let excess = retention.excess(&segments, (newest.first, newest.bytes), unix_nanos(), needed);
    let mut gone = 0;
    // The names of those that stay tell where the journal goes on.
    sync_directory(directory)?;
    for segment in &segments[..excess] {
        let path = channel_path(directory, segment.first);
        if names::read_header(&path).is_ok_and(|header| header.first_sequence == segment.first) {
            remove_durably(directory, segment.first).map_err(JournalError::io("remove", &path))?;
            gone += 1;
        }
    }
    Ok(gone)
}

/// Removes the channel that begins with `first`, so that it stays removed: were the next one gone after a crash of the machine, but
/// not this, there would be a hole between what is kept and this.
pub(crate) fn remove_durably(directory: &Path, first: u64) -> io::Result<()> {
    fs::remove_file(channel_path(directory, first))?;
    Ok(file::sync(&file::open_directory(directory)?)?)
}

/// Removes channels that never got their names, and those that have lost theirs.
pub(crate) fn remove_temporaries(directory: &Path, which: impl Fn(u64) -> bool) -> Result<(), JournalError> {
    let listing = JournalError::io("list", directory);
    for entry in fs::read_dir(directory).map_err(listing)? {
        let entry = entry.map_err(JournalError::io("list", directory))?;
        let name = entry.file_name();
        if names::temporary(&name).is_some_and(&which) || names::is_temporary_times(&name) {
            let path = entry.path();
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn look_at(directory: &Path, first: u64, crashed: bool) -> Result<Found, JournalError> {
    let path = channel_path(directory, first);
    let channel = match Channel::options().stored(true).random_access(true).crashed(crashed).open(&path) {
        Ok(channel) => channel,
        Err(OpenError::NotAFile { .. }) => return Ok(Found::Stray),
        // One that is newer than this is no stray; and what is damaged may be worth something.
        Err(OpenError::Format {
            source: FormatError::NotAChannel | FormatError::Truncated { .. }, ..
        }) => {
            return Ok(Found::Stray);
        }
        // What it is before its first sync, which is what makes any of it durable.
        Err(OpenError::Format { source: FormatError::Header(_), .. })
            if has_no_data(&path)
                || names::has_hardly_begun(&path).map_err(JournalError::io("read", &path))? =>
        {
            return Ok(Found::Stray);
        }
        Err(source) => return Err(JournalError::Open(source)),
    };
    if channel.first_sequence() != first {
        return Ok(Found::Stray);
    }
    let time = channel.last_entry(|_| true).time.max(channel.created_nanos());
    let (this_boot, synced) = (channel.is_of_this_boot(), channel.synced_slot());
    // Whoever reads what is durable, in this boot, is not told by the slot.
    let is_told = |end: &EndPoint| !(this_boot || crashed) || channel.announced() > end.position.offset();
    Ok(match channel.end_point() {
        Ok(end) if end.sealed && synced > end.position.offset() && is_told(&end) => Found::Durable(end, time),
        Ok(end) if end.sealed && (this_boot || synced > end.position.offset()) => Found::Ended(end, time),
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

/// Ends the journal in `directory`, whose writer is dead, as the next writer would, and makes that durable.
pub(crate) fn end(directory: &Path, sealing: &SealOptions) -> Result<Recovered, JournalError> {
    let _lock = WriterLock::take(directory, Wait::backoff().at_most(DYING))?;
    let mut recovered = recover(directory, sealing, true)?;
    for path in &recovered.unsynced {
        // What has ended is synced by that.
        seal(path, sealing, &mut recovered.sealed)?;
    }
    sync_directory(directory)?;
    Ok(recovered)
}

/// Ends a channel whose writer is dead, behind its last good record, and tells of that in `sealed`; whether something was cut off.
fn seal(
    path: &Path,
    options: &SealOptions,
    sealed: &mut Vec<(PathBuf, Sealed)>,
) -> Result<(EndPoint, bool), JournalError> {
    let crashed = options.is_crashed();
    let mut waiting = Waiting::new(Wait::backoff().at_most(DYING));
    loop {
        match options.clone().seal(path) {
            Ok(done) => {
                let found = (done.end, done.cut.is_some());
                sealed.push((path.to_owned(), done));
                return Ok(found);
            }
            Err(SealError::Ended { .. }) => {
                let channel = Channel::options().stored(true).crashed(crashed).open(path);
                let channel = channel.map_err(JournalError::Open)?;
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

pub(crate) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
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
