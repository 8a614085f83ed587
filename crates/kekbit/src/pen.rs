//! What a writer does to its file, without the stages: frames, index, space, durability, the end.
//!
//! The fast path is [`Room`]'s; this is everything that its `limit` stands for. [`Pen::make_room`] is called when a
//! frame does not fit below the limit, does whatever is due there (reserve space, prepare pages, write an entry of the
//! index or the trail), and sets the next limit. The sealer of an abandoned channel uses the same code for its end.

use std::fs::{File, Metadata};
use std::io;
use std::sync::Arc;

use crate::error::{AppendError, SyncError};
use crate::layout::control::{HEARTBEAT, TRAIL, TRAIL_SLOTS, TRAIL_STEP};
use crate::layout::entry::{ENTRY, Entry, Mark, index_slots};
use crate::layout::frame::{Kind, MAX_PAYLOAD, WORD, frame_len};
use crate::layout::header::Header;
use crate::memory::map::{Map, WriterView};
use crate::options::{Durability, Prepare};
use crate::publish::Room;
use crate::space::{Space, SpaceStart};
use crate::sync_handle::Ticker;
use crate::syncer::{Syncer, SyncerStart};
use crate::sys::file::file_system;
use crate::time::Clock;

/// The writing side of a channel file.
#[derive(Debug)]
pub(crate) struct Pen {
    pub(crate) room: Room<WriterView>,
    /// Sequence of the next record.
    pub(crate) sequence: u64,
    pub(crate) clock: Clock,
    pub(crate) header: Header,
    /// `None` while it may go on, else how it ended.
    ended: Option<Kind>,
    syncer: Arc<Syncer>,
    /// Syncs at an interval, if that is the policy.
    ticker: Option<Ticker>,
    map: Arc<Map>,
    space: Space,
    /// Whether the end leaves the file as long as it is.
    keeps_space: bool,
    durability: Durability,
    /// Whether each append of this writer syncs before it returns.
    syncs_each: bool,
    /// A frame that reaches past these is preceded by an entry.
    next_index: u64,
    next_trail: u64,
    /// The tails that the last entries tell of. The next ones are at least half a step away.
    indexed_at: Option<u64>,
    trailed_at: Option<u64>,
    index_used: u64,
    trail_used: u64,
}

/// Where a pen begins to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PenStart {
    pub(crate) tail: u64,
    pub(crate) sequence: u64,
    pub(crate) reserved: u64,
    /// Bytes of the data region whose pages are present in the mapping already.
    pub(crate) prepared: u64,
    pub(crate) index_used: u64,
    pub(crate) synced: u64,
    pub(crate) slot_counter: u64,
    /// Whether the file is on storage, not in memory.
    pub(crate) on_storage: bool,
}

impl Pen {
    /// The one pen of `map`, a writable mapping of `file`, whose header is `header`. The file has the first
    /// `start.reserved` bytes of the data region, and the word at `start.tail` is among them.
    pub(crate) fn new(
        map: Arc<Map>,
        file: File,
        header: Header,
        start: PenStart,
        durability: Durability,
        prepare: Prepare,
    ) -> Pen {
        assert!(start.tail + WORD <= start.reserved);
        let view = WriterView::sole(Arc::clone(&map), header.regions.data);
        let room = Room::new(view, start.tail, header.max_record_len, header.mixing(), header.checksum);
        let syncs_each = durability == Durability::Each;
        let from = SyncerStart {
            tail: start.tail,
            reserved: start.reserved,
            synced: start.synced,
            slot_counter: start.slot_counter,
            sparing: syncs_each,
        };
        let syncer = Arc::new(Syncer::new(&map, &header, Arc::clone(room.gate()), from));
        // Each sync makes the pages that it writes fault again.
        let prepare = if syncs_each { Prepare::OnDemand } else { prepare };
        let space = Space::new(SpaceStart {
            map: &map,
            file,
            syncer: &syncer,
            regions: header.regions,
            capacity: header.capacity,
            prepare,
            reserved: start.reserved,
            prepared: start.prepared,
            on_storage: start.on_storage,
            zeroes: durability.syncs_often() && start.on_storage,
        });
        Pen {
            room,
            sequence: start.sequence,
            clock: Clock::default(),
            ended: None,
            syncer,
            ticker: None,
            map,
            space,
            keeps_space: false,
            durability,
            syncs_each,
            next_index: start.tail,
            next_trail: start.tail,
            indexed_at: None,
            trailed_at: None,
            index_used: start.index_used,
            trail_used: 0,
            header,
        }
    }

    /// Whether each append syncs before it returns.
    pub(crate) fn syncs_each(&self) -> bool {
        self.syncs_each
    }

    /// Leaves it to whoever appends to sync each record, by the syncer; whether that is the policy.
    pub(crate) fn defer_syncs(&mut self) -> bool {
        self.syncs_each = false;
        self.durability == Durability::Each
    }

    pub(crate) fn syncer(&self) -> &Arc<Syncer> {
        &self.syncer
    }

    /// Leaves the file as long as it is at the end.
    pub(crate) fn keep_space(&mut self) {
        self.keeps_space = true;
    }

    /// Prepares what the options ask for at creation, and starts the thread that prepares more if they ask for that.
    pub(crate) fn prepare_at_creation(&mut self) -> io::Result<()> {
        self.space.prepare_at_creation(self.room.tail())
    }

    /// Starts what the policy asks for beside the writer.
    pub(crate) fn start_ticker(&mut self) -> io::Result<()> {
        if let Durability::Interval(interval) = self.durability {
            self.ticker = Some(Ticker::start(&self.syncer, interval)?);
        }
        Ok(())
    }

    /// What a [`Mapping`](crate::Mapping) is made of: the mapping, its file, how much of it is present. `None` where a file is
    /// not known by its device and inode.
    pub(crate) fn mapped(&self) -> io::Result<Option<(Arc<Map>, Metadata, u64)>> {
        let file = self.space.file();
        if file_system(file)?.shared_between_machines().is_some() {
            return Ok(None);
        }
        Ok(Some((Arc::clone(&self.map), file.metadata()?, self.space.present(self.room.tail()))))
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.syncer.failure().is_some()
    }

    pub(crate) fn synced(&self) -> u64 {
        self.syncer.synced()
    }

    /// The longest payload that a frame of this channel can have.
    pub(crate) fn longest_frame(&self) -> u64 {
        MAX_PAYLOAD.min(self.header.capacity - 2 * WORD)
    }

    /// Whether a payload of `len` bytes fits what is left of the capacity.
    pub(crate) fn has_capacity_for(&self, len: u64) -> bool {
        self.ended.is_none() && self.room.tail() + frame_len(len) + WORD <= self.header.capacity
    }

    /// Makes sure that a frame with `len` bytes of payload, not more than a frame can have, fits below the limit.
    #[cold]
    #[inline(never)]
    pub(crate) fn make_room(&mut self, len: u64) -> Result<(), AppendError> {
        if let Some(errno) = self.syncer.failure() {
            return Err(AppendError::Poisoned { source: errno.into() });
        }
        match self.ended {
            Some(Kind::Full) => return Err(AppendError::Full { capacity: self.header.capacity }),
            Some(_) => return Err(AppendError::Closed),
            None => {}
        }
        let tail = self.room.tail();
        self.syncer.tell_tail(tail);
        let need = tail + frame_len(len) + WORD;
        if need > self.header.capacity {
            return match self.end(Kind::Full) {
                Ok(()) | Err(SyncError::Trim { .. }) => {
                    Err(AppendError::Full { capacity: self.header.capacity })
                }
                Err(error) => Err(AppendError::Poisoned { source: error.into_source() }),
            };
        }
        let ready = self.space.make_ready(tail, need)?;
        let interval = self.header.index_interval;
        if need > self.next_index && self.indexed_at.is_none_or(|at| tail - at >= interval / 2) {
            self.write_index(Mark::Frame);
            self.indexed_at = Some(tail);
            self.next_index = tail + interval;
        }
        if need > self.next_trail && self.trailed_at.is_none_or(|at| tail - at >= TRAIL_STEP / 2) {
            self.write_trail();
            self.trailed_at = Some(tail);
            self.next_trail = tail + TRAIL_STEP;
        }
        // What is needed may be far more than what is then written: a claim that is committed short, a batch that grows.
        // Such a writer comes by again half a step later, and not for each frame.
        let due = |next: u64, step: u64| if next >= need { next } else { need + step / 2 };
        let due = due(self.next_index, interval).min(due(self.next_trail, TRAIL_STEP));
        self.room.set_limit(ready.min(due).max(need), !self.syncs_each);
        Ok(())
    }

    fn entry(&mut self, mark: Mark) -> [u8; ENTRY as usize] {
        let entry =
            Entry { position: self.room.tail(), sequence: self.sequence, time: self.clock.now(), mark };
        entry.encode(self.header.mixing())
    }

    /// Adds an entry for the tail to the index, if a slot is left; the last one is the terminal's.
    fn write_index(&mut self, mark: Mark) {
        let slots = index_slots(self.header.capacity, self.header.index_interval)
            .min(self.header.regions.index_len / ENTRY);
        if self.index_used + u64::from(mark == Mark::Frame) < slots {
            let bytes = self.entry(mark);
            self.map.store_words(self.header.regions.index + self.index_used * ENTRY, &bytes);
            self.index_used += 1;
        }
    }

    fn write_trail(&mut self) {
        let bytes = self.entry(Mark::Frame);
        let slot = self.trail_used % TRAIL_SLOTS;
        self.map.store_words(self.header.regions.control + TRAIL + slot * ENTRY, &bytes);
        self.trail_used += 1;
    }

    /// Tells readers that the writer lives although it has nothing to say, and when.
    pub(crate) fn heartbeat(&mut self) {
        if self.ended.is_some() || self.is_poisoned() {
            return;
        }
        let now = self.clock.now();
        self.map.store(self.header.regions.control + HEARTBEAT, now);
        // Slots that what is still to be written will not need may tell of times.
        let rest = 2 * ((self.header.capacity - self.room.tail()) / self.header.index_interval) + 2;
        let slots = index_slots(self.header.capacity, self.header.index_interval);
        if self.index_used + rest < slots {
            self.write_index(Mark::Frame);
        }
    }

    fn end_of_data(&self) -> u64 {
        self.room.tail() + if self.ended.is_some() { WORD } else { 0 }
    }

    /// Makes everything that was appended durable. A failure poisons the pen for good.
    pub(crate) fn sync(&mut self) -> Result<(), SyncError> {
        self.syncer.tell_tail(self.room.tail());
        self.syncer.sync_to(self.end_of_data(), false)
    }

    /// The same after each append.
    pub(crate) fn sync_each(&mut self) -> Result<(), SyncError> {
        self.syncer.tell_tail(self.room.tail());
        self.syncer.sync_to(self.end_of_data(), true)
    }

    /// Ends the channel, and gives back the space behind the end unless that is to be kept. Once.
    pub(crate) fn end(&mut self, kind: Kind) -> Result<(), SyncError> {
        let goes_on = self.ended.is_none();
        self.end_untrimmed(kind)?;
        if goes_on && !self.keeps_space {
            self.trim()
        } else {
            self.space.stop_helper();
            Ok(())
        }
    }

    /// Ends the channel: last entry of the index, terminal frame, sync unless the policy is never.
    pub(crate) fn end_untrimmed(&mut self, kind: Kind) -> Result<(), SyncError> {
        if let Some(errno) = self.syncer.failure() {
            return Err(SyncError::Failed { source: errno.into() });
        }
        if self.ended.is_some() {
            return Ok(());
        }
        self.write_index(Mark::Terminal);
        self.room.end(kind);
        self.ended = Some(kind);
        match self.durability {
            Durability::Never => Ok(()),
            _ => self.syncer.finish(self.end_of_data()),
        }
    }

    /// Gives back what is reserved behind the end: cuts the file after the page of the terminal frame. Nobody may be
    /// looking at anything behind it.
    pub(crate) fn trim(&mut self) -> Result<(), SyncError> {
        let end = self.room.tail() + WORD;
        self.space.trim(end).map_err(|errno| SyncError::Trim { source: errno.into() })
    }
}
