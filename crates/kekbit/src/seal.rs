//! Sealing: puts the terminal frame into a channel whose writer is dead, so that it has ended for good.
//!
//! ```text
//! locks -> verify -> keep what is cut off, synced -> space -> index -> write again -> terminal, sync -> give back space
//!                                                   from here on the file changes
//! ```
//!
//! What is read need not be what is on the disk: the kernel marks pages that it could not write as clean, and a sync
//! passes them over. So everything that no slot says is synced is written again.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use crate::channel::{Channel, EndPoint, State};
use crate::cut::{Cut, KeptCut};
use crate::error::{Attempt, OpenError, SealError};
use crate::layout::PAGE;
use crate::layout::control::{SLOT, SLOTS, SYNCED, Slot, TRAIL, TRAIL_SLOTS};
use crate::layout::entry::{ENTRY, Entry, index_slots};
use crate::layout::frame::{Kind, WORD};
use crate::memory::map::{Access, Map};
use crate::open::Verify;
use crate::options::{Durability, Prepare};
use crate::pen::{Pen, PenStart};
use crate::stage_layout::StageLayout;
use crate::survey::Survey;
use crate::sys::file;
use crate::sys::interruption::uninterrupted;
use crate::sys::lock::{self, Held, Role};
use crate::time::Clock;

/// What sealing has done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Sealed {
    /// Where the channel ends now. Its state is [`State::Abandoned`].
    pub end: EndPoint,
    /// How it stood before: [`State::Abandoned`] or [`State::Torn`].
    pub before: State,
    /// What lay behind the last good record, if a crash of the machine may have left something there that was not zero, or
    /// if there were intact records. `None` also if it was to be discarded.
    pub cut: Option<Cut>,
}

/// Options for sealing; made by [`Channel::seal_options`].
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `seal`"]
pub struct SealOptions {
    discard: bool,
    force: bool,
    crashed: bool,
}

impl SealOptions {
    /// Gives up what lies behind the last good record, instead of keeping it in a file beside the channel. Default: off.
    pub fn discard(mut self, discard: bool) -> Self {
        self.discard = discard;
        self
    }

    /// Takes what was not synced for what a crash may have left, although the machine has not been restarted: see
    /// [`ReadOptions::crashed`](crate::ReadOptions::crashed). Default: off, and refused as [`SealError::Damaged`].
    pub fn crashed(mut self, crashed: bool) -> Self {
        self.crashed = crashed;
        self
    }

    /// Whether what was not synced is taken for what a crash may have left.
    pub(crate) fn is_crashed(&self) -> bool {
        self.crashed
    }

    /// Seals also on a file system that other machines may share, where a writer on another machine may live. Default:
    /// refused.
    pub fn force_shared_file_system(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Seals the channel at `path`, see [`Channel::seal`].
    ///
    /// # Errors
    ///
    /// As [`Channel::seal`].
    pub fn seal(self, path: impl AsRef<Path>) -> Result<Sealed, SealError> {
        seal(path.as_ref(), &self)
    }
}

impl Channel {
    /// Seals the abandoned or torn channel at `path`: checks every record, ends it behind the last good one, and syncs
    /// it. What a crash of the machine has left of later records is cut off, and kept in a file beside the channel: see
    /// [`Cut`].
    ///
    /// # Durability
    ///
    /// What is cut off is synced before the channel is touched, the file and its name. Then everything before the end is
    /// written anew, whatever earlier writes have come to, and synced.
    ///
    /// # Errors
    ///
    /// [`SealError::WriterLives`] as long as it does, [`SealError::Ended`] if there is a terminal frame already, which
    /// is durable then, if it was not before, [`SealError::Damaged`] if there is damage where a crash cannot have made it, [`SealError::NoSpaceForCut`] if what
    /// is cut off cannot be kept.
    pub fn seal(path: impl AsRef<Path>) -> Result<Sealed, SealError> {
        Channel::seal_options().seal(path)
    }

    /// Options for sealing.
    pub fn seal_options() -> SealOptions {
        SealOptions::default()
    }
}

fn seal(path: &Path, options: &SealOptions) -> Result<Sealed, SealError> {
    // Who reads it shares the readers' lock, so that it is not reused meanwhile.
    let channel =
        Channel::options().verify(Verify::Always).stored(true).crashed(options.crashed).open(path)?;
    let header = channel.header().clone();
    if header.features_sealer != 0 {
        return Err(SealError::Features { path: path.to_owned(), unknown: header.features_sealer });
    }
    let file = file::open(path, true).sealing("open", path)?;
    // The file that is sealed is the one that is checked, whatever happens to its name meanwhile.
    if !channel.is_file(&file).sealing("look up", path)? {
        return Err(SealError::BeingSealed { path: path.to_owned() });
    }
    let file_system = file::file_system(&file).sealing("look up the file system of", path)?;
    if let Some(name) = file_system.shared_between_machines().filter(|_| !options.force) {
        return Err(SealError::SharedFileSystem { path: path.to_owned(), file_system: name });
    }
    let Some(_sealer) = Held::exclusive(&file, Role::Sealer).sealing("lock", path)? else {
        return Err(SealError::BeingSealed { path: path.to_owned() });
    };
    if lock::is_held(&file, Role::Writer).sealing("ask for the writer of", path)? {
        // Or it keeps the mapping of a channel that has ended.
        return Err(match channel.end_point() {
            Ok(end) if end.sealed => SealError::Ended { path: path.to_owned(), state: end.state },
            _ => SealError::WriterLives { path: path.to_owned() },
        });
    }
    let damaged = |source| SealError::Damaged { path: path.to_owned(), source };
    let before = channel.verify(|_| ()).map_err(damaged)?;
    let tail = before.position.offset();
    let total = header.regions.data + header.capacity;
    let ended = || SealError::Ended { path: path.to_owned(), state: before.state };
    let kept = if !before.sealed {
        let len = file.metadata().sealing("look up", path)?.len();
        keep_cut(&channel, &file, tail, len.min(total), options)?
    } else if channel.synced_slot() > tail {
        return Err(ended());
    } else {
        // Its end may never have reached the disk: its writer was told so, or did not want to know.
        None
    };
    // A copy may have holes where there was nothing, and storing into one on a full disk would raise SIGBUS. Other errors
    // do not matter: the file is no longer than it was.
    let first_free = header.regions.data + tail + WORD;
    if let Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) = file::reserve(&file, 0, first_free) {
        return Err(errno).sealing("reserve space for", path);
    }
    // As long as it is by now: a copy that was cut short behind its last frame has just got the terminal's word.
    let len = file.metadata().sealing("look up", path)?.len();
    let map = Arc::new(Map::new(&file, len.min(total), Access::Write).sealing("map", path)?);
    let cut = kept.map(KeptCut::keep);
    // The terminal's entry stays with the terminal.
    let index_used = keep_entries(&map, &channel, if before.sealed { tail + 1 } else { tail });
    write_again(&map, &channel, index_used, tail);
    // The header too, which nobody but its writer has synced, and not that of a copy.
    file::sync(&file).sealing("sync", path)?;
    let start = PenStart {
        tail,
        sequence: before.sequence,
        reserved: len.min(total) - header.regions.data,
        index_used,
        synced: channel.synced_tail().offset().min(tail),
        prepared: 0,
        slot_counter: newest_slot(&map, &channel),
        on_storage: file_system.is_storage(),
    };
    let second = file.try_clone().sealing("open", path)?;
    let mut pen = Pen::new(map, second, header, start, Durability::AtEnd, Prepare::OnDemand);
    pen.clock = Clock::not_before(channel.last_entry(|_| true).time);
    let synced = |source| SealError::Sync { path: path.to_owned(), source };
    if before.sealed {
        pen.syncer().finish(tail + WORD).map_err(synced)?;
    } else {
        pen.end_untrimmed(Kind::Abandoned).map_err(synced)?;
    }
    let directory = file::open_directory(file::directory_of(path)).sealing("open the directory of", path)?;
    file::sync(&directory).sealing("sync the directory of", path)?;
    if before.sealed {
        return Err(ended());
    }
    // A reader may be looking at what is torn: the space behind the end is given back only if there is none. A share of
    // the readers' lock is held all the time, so that nobody reuses the file meanwhile.
    let readers = Held::shared(&file, Role::Readers).sealing("lock", path)?;
    drop(channel);
    if readers.is_some() && lock::exclusive(&file, Role::Readers).sealing("lock", path)? {
        pen.trim().map_err(synced)?;
    }
    let end = EndPoint { state: State::Abandoned, sealed: true, ..before };
    Ok(Sealed { end, before: before.state, cut })
}

/// Syncs the channel at `path`, which has ended, with its name, and says in it that it is durable to its end: on the disk, since without
/// that nothing is believed of a channel without checksums after a crash of the machine; and to readers that ask for what is durable. What is
/// no channel, or none any more, has nothing to be synced.
pub(crate) fn settle_ended(path: &Path) -> io::Result<()> {
    let channel = match Channel::options().stored(true).open(path) {
        Err(OpenError::NotFound { .. } | OpenError::Format { .. } | OpenError::Reused { .. }) => {
            return Ok(());
        }
        opened => opened.map_err(io::Error::other)?,
    };
    let file = file::open(path, true)?;
    // As long as the channel is open its file is not reused; but it may have been removed, and the name given to another.
    if !channel.is_file(&file)? {
        return Ok(());
    }
    file::sync(&file)?;
    file::sync(&file::open_directory(file::directory_of(path))?)?;
    let end = channel.end_point().map_err(io::Error::other)?;
    let behind = end.position.offset() + WORD;
    let is_told = channel.synced_slot() >= behind;
    if !end.sealed || (is_told && channel.announced() >= behind) {
        return Ok(());
    }
    let control = channel.header().regions.control;
    let map = Map::new(&file, control + PAGE, Access::Write)?;
    if !is_told {
        let counter = newest_slot(&map, &channel) + 1;
        let slot = Slot { synced: behind, counter }.encode(channel.header().mixing());
        map.store_words(control + SLOTS[(counter % 2) as usize], &slot);
        uninterrupted(|| map.sync(control, PAGE))?;
    }
    map.store(control + SYNCED, behind);
    Ok(())
}

/// Keeps what is not zero behind the tail, up to `end` of the file, if it may be what is left of records.
fn keep_cut(
    channel: &Channel,
    file: &File,
    tail: u64,
    end: u64,
    options: &SealOptions,
) -> Result<Option<KeptCut>, SealError> {
    if options.discard {
        return Ok(None);
    }
    let (path, header) = (channel.path(), channel.header());
    let data = header.regions.data;
    let content = file::end_of_content(file, data + tail, end).sealing("read", path)?;
    let len = content - (data + tail);
    if len == 0 {
        return Ok(None);
    }
    if channel.is_of_this_boot() {
        // Only the file system can have crashed, which is rare, and behind the tail usually lies what was never finished.
        let layout = StageLayout::new(&header.attributes.stages, header.max_record_len).unwrap_or_default();
        let survey = Survey::new(file, end, header.clone(), layout, true).sealing("read", path)?;
        if !survey.goes_on_behind(tail).sealing("read", path)? {
            return Ok(None);
        }
    }
    KeptCut::make(file, path, data, tail, len).map(Some)
}

/// Lets the next sync write everything that is not known to be on the disk: the control region, the entries of the index,
/// and the records behind the synced tail that a slot tells of.
fn write_again(map: &Map, channel: &Channel, index_used: u64, tail: u64) {
    let regions = &channel.header().regions;
    map.write_again(regions.control, PAGE);
    if index_used > 0 {
        map.write_again(regions.index, index_used * ENTRY);
    }
    // The slots of a copy tell of the disk of the original.
    let synced = if channel.is_original() { channel.synced_slot().min(tail) } else { 0 };
    map.write_again(regions.data + synced, tail + WORD - synced);
}

/// Drops the entries of index and trail that lie at or past `tail`, or that are damaged, and returns how many are left
/// in the index.
fn keep_entries(map: &Map, channel: &Channel, tail: u64) -> u64 {
    let header = channel.header();
    let slots = index_slots(header.capacity, header.index_interval).min(header.regions.index_len / ENTRY);
    let mut kept = 0;
    for slot in 0..slots {
        let at = header.regions.index + slot * ENTRY;
        let bytes = map.words::<{ ENTRY as usize }>(at);
        if !Entry::is_written(&bytes) {
            // Behind a page that was lost there may be entries still.
            continue;
        }
        match Entry::decode(&bytes, header.mixing()).filter(|entry| entry.position < tail) {
            Some(_) if kept == slot => kept += 1,
            _ => map.store_words(at, &[0; ENTRY as usize]),
        }
    }
    for slot in 0..TRAIL_SLOTS {
        let at = header.regions.control + TRAIL + slot * ENTRY;
        let bytes = map.words::<{ ENTRY as usize }>(at);
        if Entry::decode(&bytes, header.mixing()).is_none_or(|entry| entry.position >= tail) {
            map.store_words(at, &[0; ENTRY as usize]);
        }
    }
    kept
}

/// The counter of the newest valid slot. No writer counts so far that none could follow: such slots are wiped out.
fn newest_slot(map: &Map, channel: &Channel) -> u64 {
    let header = channel.header();
    let at = SLOTS.map(|slot| header.regions.control + slot);
    let [a, b] = at.map(|at| Slot::decode(&map.words::<SLOT>(at), header.mixing()));
    match Slot::newer(a, b).map_or(0, |slot| slot.counter) {
        counter if counter < 1 << 62 => counter,
        _ => {
            at.into_iter().for_each(|at| map.store_words(at, &[0; SLOT]));
            0
        }
    }
}
