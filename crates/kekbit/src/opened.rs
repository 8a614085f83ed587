//! An opened channel file: its header, what may be believed of it, and its index. All of it is copied before it is checked,
//! so that this serves those who map the file, and those who do not trust it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Position;
use crate::cursor::{Belief, Growth, Rules};
use crate::error::{Attempt, ReadError};
use crate::layout::control::{SLOT, SLOTS, Slot, TRAIL, TRAIL_SLOTS};
use crate::layout::entry::{ENTRY, Entry, Mark, index_slots};
use crate::layout::frame::{Checksum, Head, Kind, WORD};
use crate::layout::header::Header;
use crate::memory::map::Map;
use crate::metadata::Metadata;
use crate::record::Record;
use crate::stage_layout::StageLayout;
use crate::sys::file;
use crate::sys::lock::{self, Role};
use crate::undo::Undone;

/// What is known of a channel whose file is open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) header: Header,
    pub(crate) layout: StageLayout,
    pub(crate) verify: bool,
    /// Whether the writer lived when the channel was opened, and the channel had not ended.
    pub(crate) live: bool,
    /// Whether the writer's lock was held then.
    pub(crate) locked: bool,
    pub(crate) random: bool,
    /// Whether the live words of the control region tell the truth: written in this boot, by a writer of this file.
    pub(crate) same_boot: bool,
    /// Whether this file was written in another boot, so that what it holds has been on the disk.
    pub(crate) other_boot: bool,
    /// What the slots said of the synced tail when the channel was opened, if its writer was dead.
    pub(crate) slots_said: u64,
    /// Entries at or past this position do not exist.
    pub(crate) entries_below: u64,
    pub(crate) belief: Belief,
    /// Bytes of the data region that the file had when the channel was opened.
    pub(crate) data_len: u64,
    /// Bytes of the data region that the file can ever have: of a dead writer's, those that it has.
    pub(crate) reach: u64,
    /// The mapping through which control and index may be read: of a live writer's file that is trusted. They are reserved,
    /// and a look there costs less than a system call.
    pub(crate) front: Option<Arc<Map>>,
}

/// What is read, for those who walk over it: the mapped file, or copies of it.
pub(crate) trait Source<P>: Growth<P> {
    fn opened(&self) -> &Opened;

    /// The last entry of index and trail from which one may go on, and for which `wanted` is true; it must be true of all
    /// earlier entries if it is of a later one. If there is none, the beginning of the channel.
    fn last_entry(&self, wanted: impl Fn(&Entry) -> bool) -> Result<Entry, ReadError> {
        Ok(self.opened().last_entry(wanted))
    }

    /// The writer's last sign of life.
    fn heartbeat_nanos(&self) -> u64;

    /// The record that is stored as `stored`; with the payload that `undone` has made, if it has to be made.
    fn record<'r>(
        &'r self,
        stored: &'r [u8],
        position: u64,
        sequence: u64,
        undone: Option<&'r Undone>,
    ) -> Record<'r>;

    /// Makes `[from, from + len)` of the data region, which will be read next, present as far as it is the file's; up to
    /// where that is.
    fn prepare(&self, from: u64, len: u64) -> u64 {
        from.saturating_add(len)
    }
}

impl Opened {
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            salt: self.header.mixing(),
            checksum: self.header.checksum,
            verify: self.verify,
            belief: self.belief,
            around: self.layout.around,
            max_record_len: self.header.max_record_len,
        }
    }

    /// Finds out what may be believed of a channel whose writer is dead.
    pub(crate) fn believe(&mut self, same_boot: bool) -> io::Result<()> {
        // Slots that cannot be read are not slots that say nothing: damage to what is synced must not be taken for torn.
        let synced = self.read_slots()?;
        self.slots_said = synced;
        if !same_boot {
            self.entries_below = synced;
        }
        let last = self.last_entry(|_| true);
        let ended = last.mark == Mark::Terminal;
        self.belief = if same_boot || ended {
            // What was in memory is still what was written; and an end that is durable vouches for all before it. The
            // terminal's own word is vouched for by the sync alone: a writer may die between its entry and the word.
            let written = if ended { synced.max(last.position) } else { synced };
            Belief { written, sound: u64::MAX, believed: u64::MAX }
        } else {
            let believed = if self.header.checksum == Checksum::None { synced } else { u64::MAX };
            Belief { written: synced, sound: synced, believed }
        };
        Ok(())
    }

    /// Whether a terminal frame is in place, where the index says that it is.
    pub(crate) fn has_terminal(&self) -> io::Result<bool> {
        let last = self.last_entry(|_| true);
        if last.mark != Mark::Terminal {
            return Ok(false);
        }
        let word = self.read_words::<{ WORD as usize }>(self.header.regions.data + last.position)?;
        Ok(word.is_some_and(|word| {
            let head = Head(u64::from_le_bytes(word));
            let terminal = Kind::from_number(head.kind_number()).is_some_and(Kind::is_terminal);
            terminal && head.check() == self.header.mixing().mix(last.position, head.kl())
        }))
    }

    /// What the newer valid slot says of the synced tail; nothing valid is nothing synced.
    pub(crate) fn synced_slot(&self) -> u64 {
        self.read_slots().unwrap_or(self.slots_said)
    }

    fn read_slots(&self) -> io::Result<u64> {
        let [a, b] = SLOTS.map(|at| self.read_words::<SLOT>(self.header.regions.control + at));
        let decode = |bytes: Option<_>| bytes.and_then(|bytes| Slot::decode(&bytes, self.header.mixing()));
        let newer = Slot::newer(decode(a?), decode(b?));
        Ok(newer.map_or(0, |slot| slot.synced.min(self.header.capacity)))
    }

    /// `N` bytes at `at` of control or index, if the file has them. The writer may be changing them, so their check must be
    /// checked. What cannot be read is not there: entries serve to walk less.
    pub(crate) fn words<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        self.read_words(at).ok().flatten()
    }

    fn read_words<const N: usize>(&self, at: u64) -> io::Result<Option<[u8; N]>> {
        if let Some(map) = &self.front {
            return Ok(Some(map.words(at)));
        }
        // The index of a copy may have holes; touching one through a mapping on a full tmpfs would raise SIGBUS.
        let mut bytes = [0; N];
        let read = file::read_at(&self.file, &mut bytes, at)?;
        Ok((read == N).then_some(bytes))
    }

    /// Bytes of the data region that the file has by now, as far as they may be looked at.
    pub(crate) fn data_len(&self) -> Result<u64, ReadError> {
        let len = self.file.metadata().reading("look up the file's length")?.len();
        Ok(len.saturating_sub(self.header.regions.data).min(self.reach) & !7)
    }

    /// Bytes from `position` to the last byte in the file that is not zero.
    pub(crate) fn bytes_behind(&self, position: Position) -> Result<u64, ReadError> {
        let (data, from) = (self.header.regions.data, position.offset() & !7);
        let end = self.data_len()?.max(from);
        let content = file::end_of_content(&self.file, data + from, data + end).reading("read")? - data;
        Ok(content.saturating_sub(position.offset()))
    }

    /// Asks the kernel whether the writer lives.
    pub(crate) fn writer_lives(&self) -> Result<bool, ReadError> {
        Ok(self.live && self.writer_may_sync()?)
    }

    /// Asks the kernel whether the writer may still sync what it has written: it lives, or is just ending the channel, or
    /// keeps the mapping of one that has ended.
    pub(crate) fn writer_may_sync(&self) -> Result<bool, ReadError> {
        if !self.locked {
            // It was dead already, and nobody can take its place.
            return Ok(false);
        }
        lock::is_held(&self.file, Role::Writer).reading("ask for the writer")
    }

    /// How long to wait for a sign of life of the writer.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        Metadata::of(&self.header).timeout()
    }

    fn entry(&self, at: u64) -> Option<Entry> {
        self.existing(&self.words(at)?)
    }

    /// The entry in `bytes`, if it exists.
    fn existing(&self, bytes: &[u8; ENTRY as usize]) -> Option<Entry> {
        let entry = Entry::decode(bytes, self.header.mixing())?;
        let in_reach =
            entry.position < self.entries_below && entry.position <= self.reach.saturating_sub(WORD);
        // No record takes less than a word.
        let records = entry.sequence.checked_sub(self.header.first_sequence)?;
        (in_reach && records <= entry.position / WORD).then_some(entry)
    }

    /// Stands for an entry of the first frame.
    pub(crate) fn beginning(&self) -> Entry {
        Entry {
            position: 0,
            sequence: self.header.first_sequence,
            time: self.header.created,
            mark: Mark::Frame,
        }
    }

    pub(crate) fn last_entry(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let regions = &self.header.regions;
        let slots =
            index_slots(self.header.capacity, self.header.index_interval).min(regions.index_len / ENTRY);
        let mut best = self.beginning();
        let mut take = |slot: u64| match self.entry(regions.index + slot * ENTRY).filter(&wanted) {
            Some(entry) => {
                if entry.position >= best.position {
                    best = entry;
                }
                true
            }
            None => false,
        };
        // In leaps that double, since few of the slots of a large channel may be in use; then by halves.
        let (mut low, mut leap) = (0, 1);
        while low + leap <= slots && take(low + leap - 1) {
            low += leap;
            leap *= 2;
        }
        let mut high = slots.min(low + leap - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if take(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // At once: a system call for each would be most of what opening costs.
        let trail = self.words::<{ (TRAIL_SLOTS * ENTRY) as usize }>(regions.control + TRAIL);
        for bytes in trail.iter().flat_map(|trail| trail.as_chunks().0) {
            if let Some(entry) = self.existing(bytes).filter(&wanted)
                && entry.position > best.position
            {
                best = entry;
            }
        }
        best
    }
}
