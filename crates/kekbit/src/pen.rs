//! What a writer does to its file, without the stages: frames, index, space, durability, the end.
//!
//! The fast path is [`Room`]'s; this is everything that its `limit` stands for. [`Pen::make_room`] is called when a
//! frame does not fit below the limit, does whatever is due there (reserve space, prepare pages, write an entry of the
//! index or the trail), and sets the next limit. The sealer of an abandoned channel uses the same code for its end.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::error::{AppendError, SyncError, is_no_space};
use crate::layout::control::{HEARTBEAT, RESERVED, TRAIL, TRAIL_SLOTS, TRAIL_STEP};
use crate::layout::entry::{ENTRY, Entry, Mark, index_slots};
use crate::layout::frame::{Kind, MAX_PAYLOAD, WORD, frame_len};
use crate::layout::header::Header;
use crate::layout::{PAGE, round_up};
use crate::memory::map::{Map, WriterView};
use crate::options::{Durability, Prepare};
use crate::publish::Room;
use crate::sync_handle::Ticker;
use crate::syncer::{Syncer, SyncerStart};
use crate::sys::file::{reserve, set_len, write_zeros};
use crate::time::Clock;

/// Least and most bytes by which the reservation grows; in between it doubles. On storage reserving costs next to
/// nothing, and the page cache makes larger pages of larger steps; a file system in memory clears what it reserves, 1 µs
/// a page, while the append waits.
const RESERVE_ON_STORAGE: (u64, u64) = (4 << 20, 16 << 20);
const RESERVE_IN_MEMORY: (u64, u64) = (256 << 10, 512 << 10);
/// Where syncs are frequent, what is reserved is written with zeros and synced before it is used: then a sync of a record
/// has no space to allocate in the file system's own journal, and writes that record's pages only.
const RESERVE_FOR_SYNCS: (u64, u64) = (256 << 10, 1 << 20);
/// Bytes of a large page of the page cache on a disk.
const LARGE_PAGE: u64 = 2 << 20;

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
    /// Not the description that the writer's lock lies on: a forked child inherits this one.
    file: File,
    durability: Durability,
    /// Whether each append of this writer syncs before it returns.
    syncs_each: bool,
    prepare: Prepare,
    /// Bytes of the data region that are reserved, and that are prepared.
    reserved: u64,
    prepared: u64,
    reserve_step: (u64, u64),
    /// Bytes by which the reservation grows next.
    reserve_next: u64,
    /// A frame that reaches past these is preceded by an entry.
    next_index: u64,
    next_trail: u64,
    /// The tails that the last entries tell of. The next ones are at least half a step away.
    indexed_at: Option<u64>,
    trailed_at: Option<u64>,
    index_used: u64,
    trail_used: u64,
    /// Whether what is reserved is written with zeros.
    zeroes: bool,
}

/// Where a pen begins to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PenStart {
    pub(crate) tail: u64,
    pub(crate) sequence: u64,
    pub(crate) reserved: u64,
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
        let zeroes = durability.syncs_often() && start.on_storage;
        let reserve_step = match (start.on_storage, zeroes) {
            (true, true) => RESERVE_FOR_SYNCS,
            (true, false) => RESERVE_ON_STORAGE,
            (false, _) => RESERVE_IN_MEMORY,
        };
        let from = SyncerStart {
            tail: start.tail,
            reserved: start.reserved,
            synced: start.synced,
            slot_counter: start.slot_counter,
            sparing: syncs_each,
        };
        let syncer = Arc::new(Syncer::new(&map, &header, Arc::clone(room.gate()), from));
        Pen {
            room,
            sequence: start.sequence,
            clock: Clock::default(),
            ended: None,
            syncer,
            ticker: None,
            map,
            file,
            durability,
            syncs_each,
            // Each sync makes the pages that it writes fault again.
            prepare: if syncs_each { Prepare::OnDemand } else { prepare },
            reserved: start.reserved,
            prepared: 0,
            reserve_step,
            reserve_next: reserve_step.0,
            next_index: start.tail,
            next_trail: start.tail,
            indexed_at: None,
            trailed_at: None,
            index_used: start.index_used,
            trail_used: 0,
            zeroes,
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

    /// Starts what the policy asks for beside the writer.
    pub(crate) fn start_ticker(&mut self) -> io::Result<()> {
        if let Durability::Interval(interval) = self.durability {
            self.ticker = Some(Ticker::start(&self.syncer, interval)?);
        }
        Ok(())
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
        self.reserve_for(need)?;
        self.prepare_for(need);
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
        let prepared = if self.prepared >= need { self.prepared } else { u64::MAX };
        let next = self.reserved.min(prepared).min(due).max(need);
        self.room.set_limit(next, !self.syncs_each);
        Ok(())
    }

    fn reserve_for(&mut self, need: u64) -> Result<(), AppendError> {
        if need <= self.reserved {
            return Ok(());
        }
        let data = self.header.regions.data;
        let exact = round_up(need, PAGE);
        // In small pieces, so that no large page comes into being, of which each sync would write the whole.
        let align = if self.reserve_step == RESERVE_ON_STORAGE { LARGE_PAGE } else { PAGE };
        let reached = loop {
            // The file ends on a multiple of what a large page can be, so that none is cut in two.
            let aligned = round_up(data + (self.reserved + self.reserve_next).max(need), align) - data;
            let plain = round_up((self.reserved + self.reserve_next).max(need), PAGE);
            let generous = if self.reserve_next < align { plain } else { aligned }.min(self.header.capacity);
            match reserve(&self.file, data + self.reserved, data + generous) {
                Ok(()) => break generous,
                // Nearly full: less will do, until it is just what is needed. The next steps begin from there, since
                // on some file systems it takes long to find out that there is no space.
                Err(errno) if is_no_space(errno) && generous > exact => {
                    self.reserve_next = if self.reserve_next > PAGE { self.reserve_next / 4 } else { 0 };
                }
                Err(errno) if is_no_space(errno) => {
                    return Err(AppendError::NoSpace { needed: need - self.reserved, source: errno.into() });
                }
                Err(errno) => return Err(AppendError::Io { action: "reserve space", source: errno.into() }),
            }
        };
        self.reserve_next = (2 * self.reserve_next).clamp(PAGE, self.reserve_step.1);
        let before = std::mem::replace(&mut self.reserved, reached);
        self.map.store(self.header.regions.control + RESERVED, self.reserved);
        self.syncer.tell_reserved(self.reserved);
        if self.zeroes { self.zero_space(data + before, data + reached) } else { Ok(()) }
    }

    /// Writes zeros into new space of the file and syncs them.
    fn zero_space(&mut self, from: u64, to: u64) -> Result<(), AppendError> {
        if write_zeros(&self.file, from, to).is_err() {
            // It is reserved, so that nothing depends on it but what a sync costs.
            return Ok(());
        }
        let synced = self.syncer.sync_space(from, to);
        synced.map_err(|error| AppendError::Poisoned { source: error.into_source() })
    }

    /// Populates everything that is reserved, if the options ask for all.
    pub(crate) fn prepare_at_creation(&mut self) {
        if self.prepare == Prepare::All {
            self.prepare_for(self.reserved);
        }
    }

    /// Populates pages ahead of the tail. A failure costs speed only: the pages are reserved, and fault one by one.
    fn prepare_for(&mut self, need: u64) {
        let Some(step) = self.prepare.step(self.header.capacity) else { return };
        if need <= self.prepared {
            return;
        }
        let from = self.prepared.max(self.room.tail() & !(PAGE - 1));
        let to = round_up(need.max(from + step), PAGE).min(self.reserved);
        if self.map.populate_write(self.header.regions.data + from, to - from).is_ok() {
            self.prepared = to;
        }
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

    /// Ends the channel, and gives back the space behind the end. Once.
    pub(crate) fn end(&mut self, kind: Kind) -> Result<(), SyncError> {
        let goes_on = self.ended.is_none();
        self.end_untrimmed(kind)?;
        if goes_on { self.trim() } else { Ok(()) }
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
        let len = self.header.regions.data + round_up(self.room.tail() + WORD, PAGE);
        if len >= self.header.regions.data + self.reserved {
            // Nothing behind it; and growing a file that somebody has cut is no trimming.
            return Ok(());
        }
        set_len(&self.file, len).map_err(|errno| SyncError::Trim { source: errno.into() })?;
        self.reserved = len - self.header.regions.data;
        self.map.store(self.header.regions.control + RESERVED, self.reserved);
        self.syncer.tell_reserved(self.reserved);
        Ok(())
    }
}
