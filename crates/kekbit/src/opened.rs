//! An opened channel file: its header, its mapping, what may be believed of it, and its index.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cursor::{Belief, Rules};
use crate::layout::control::{SLOT, SLOTS, Slot, TRAIL, TRAIL_SLOTS};
use crate::layout::entry::{ENTRY, Entry, Mark, index_slots};
use crate::layout::frame::{Checksum, WORD};
use crate::layout::header::Header;
use crate::memory::map::Map;
use crate::stages::StageLayout;

/// What all clones of a channel share.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) map: Arc<Map>,
    pub(crate) header: Header,
    pub(crate) layout: StageLayout,
    pub(crate) verify: bool,
    /// Whether the writer lived when the channel was opened.
    pub(crate) live: bool,
    pub(crate) random: bool,
    /// Whether the live words of the control region tell the truth: written in this boot, by a writer of this file.
    pub(crate) same_boot: bool,
    /// Whether this file was written in another boot, so that what it holds has been on the disk.
    pub(crate) other_boot: bool,
    /// Entries at or past this position do not exist.
    pub(crate) entries_below: u64,
    pub(crate) belief: Belief,
    /// Bytes of the data region that the file had when the channel was opened.
    pub(crate) data_len: u64,
}

impl Opened {
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            salt: self.header.mixing(),
            checksum: self.header.checksum,
            verify: self.verify,
            belief: self.belief,
            around: (self.layout.prefix + self.layout.suffix) as u32,
            max_record_len: self.header.max_record_len,
        }
    }

    /// Finds out what may be believed of a channel whose writer is dead.
    pub(crate) fn believe(&mut self, same_boot: bool) {
        let synced = self.synced_slot();
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
    }

    /// What the newer valid slot says of the synced tail; nothing valid is nothing synced.
    pub(crate) fn synced_slot(&self) -> u64 {
        let salt = self.header.mixing();
        let [a, b] =
            SLOTS.map(|at| Slot::decode(&self.map.words::<SLOT>(self.header.regions.control + at), salt));
        Slot::newer(a, b).map_or(0, |slot| slot.synced.min(self.header.capacity))
    }

    fn entry(&self, at: u64) -> Option<Entry> {
        let bytes = if self.live {
            self.map.words(at)
        } else {
            // The index of a copy may have holes; touching one through a mapping on a full tmpfs would raise SIGBUS.
            let mut bytes = [0; ENTRY as usize];
            self.file.read_exact_at(&mut bytes, at).ok()?;
            bytes
        };
        let entry = Entry::decode(&bytes, self.header.mixing())?;
        let reach = self.map.len() - self.header.regions.data;
        let in_reach = entry.position < self.entries_below && entry.position <= reach.saturating_sub(WORD);
        // No record takes less than a word.
        let records = entry.sequence.checked_sub(self.header.first_sequence)?;
        (in_reach && records <= entry.position / WORD).then_some(entry)
    }

    pub(crate) fn last_entry(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let regions = &self.header.regions;
        let slots =
            index_slots(self.header.capacity, self.header.index_interval).min(regions.index_len / ENTRY);
        let beginning = Entry {
            position: 0,
            sequence: self.header.first_sequence,
            time: self.header.created,
            mark: Mark::Frame,
        };
        let mut best = beginning;
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
        for slot in 0..TRAIL_SLOTS {
            if let Some(entry) = self.entry(regions.control + TRAIL + slot * ENTRY).filter(&wanted)
                && entry.position > best.position
            {
                best = entry;
            }
        }
        best
    }
}
