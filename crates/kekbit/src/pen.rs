//! What a writer does to its file, without the stages: frames, index, space, durability, the end.
//!
//! The fast path is [`Room`]'s; this is everything that its `limit` stands for. [`Pen::make_room`] is called when a
//! frame does not fit below the limit, does whatever is due there (reserve space, prepare pages, write an entry of the
//! index or the trail), and sets the next limit. The sealer of an abandoned channel uses the same code for its end.

use std::fmt::Debug;
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
use crate::syncer::{Ending, Syncer, SyncerStart};
use crate::syncs::Syncs;
use crate::sys::file::{Unnamed, file_system};
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
    /// This channel's syncer, behind those of a journal's earlier channels.
    syncs: Arc<Syncs>,
    /// Of a journal's writer: where it goes on.
    successors: Option<Box<dyn Successors>>,
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

/// Where a journal's writer goes on when its channel is at its end. Asked off the hot path only.
pub(crate) trait Successors: Debug + Send {
    /// Whether the channel's time is over, however much room it has.
    fn is_due(&self) -> bool;

    /// The writer is at `tail` of a channel with this capacity.
    fn tell(&mut self, tail: u64, capacity: u64);

    /// The channel that follows, with the record `first`, and begins at the time `now`: it has its name, and at least `room` bytes of
    /// data are reserved. With a file that is needed no more, for [`Successors::retire`]. If there is none, nothing has happened.
    fn successor(&mut self, first: u64, now: u64, room: u64) -> Result<(Pen, Unnamed), AppendError>;

    /// The channel of `old` has ended, as `ending` says, and `new` follows it. `file` is to be dropped.
    fn retire(&mut self, old: Pen, ending: Ending, new: &Pen, file: Unnamed) -> Result<(), SyncError>;

    /// The channel that begins with `first` has ended, and nothing is in it: its name will be needed.
    fn discard(&self, first: u64);

    /// Gives up what is no longer kept by now; `syncs` are the writer's.
    fn retain(&self, syncs: &Syncs);
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
        let syncs = Arc::new(Syncs::new(Arc::clone(&syncer), start.sequence));
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
            syncs,
            successors: None,
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

    /// What makes durable whatever was appended, in a journal's earlier channels, too.
    pub(crate) fn syncs(&self) -> &Arc<Syncs> {
        &self.syncs
    }

    /// Goes on in another channel whenever this one is at its end.
    pub(crate) fn join_journal(&mut self, successors: Box<dyn Successors>) {
        self.successors = Some(successors);
    }

    /// Gives up what the journal no longer keeps.
    pub(crate) fn retain(&self) {
        if let Some(successors) = &self.successors {
            successors.retain(&self.syncs);
        }
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
            self.ticker = Some(Ticker::start(&self.syncs, interval)?);
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
        if self.must_roll(tail, need) {
            self.roll(frame_len(len) + WORD)?;
            return self.make_room(len);
        }
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
        if let Some(successors) = &mut self.successors {
            successors.tell(tail, self.header.capacity);
            if tail > 0 && successors.is_due() {
                // It has become so since.
                self.room.gate().pause();
            }
        }
        Ok(())
    }

    /// The same for a frame of whose payload the first `begun` bytes are in place already: they go along where it goes.
    pub(crate) fn make_room_keeping(&mut self, len: u64, begun: u64) -> Result<(), AppendError> {
        if self.successors.is_none() {
            return self.make_room(len);
        }
        let (first, kept) = (self.header.first_sequence, self.room.own_space(begun).map(<[u8]>::to_vec));
        self.make_room(len)?;
        if let Some(kept) = kept.filter(|_| self.header.first_sequence != first) {
            self.room.space(begun).expect("there is room for more").copy_from_slice(&kept);
        }
        Ok(())
    }

    /// Whether what is next belongs to another channel of the journal. No channel is left empty.
    fn must_roll(&self, tail: u64, need: u64) -> bool {
        self.successors
            .as_ref()
            .is_some_and(|roller| need > self.header.capacity || (tail > 0 && roller.is_due()))
    }

    /// Goes on in the next channel, where the next `room` bytes are reserved: that gets its name, then this one ends. If there is none,
    /// nothing has happened.
    pub(crate) fn roll(&mut self, room: u64) -> Result<(), AppendError> {
        if let Some(errno) = self.syncer.failure() {
            return Err(AppendError::Poisoned { source: errno.into() });
        }
        if self.ended.is_some() {
            return Err(AppendError::Closed);
        }
        let Some(mut successors) = self.successors.take() else { return Ok(()) };
        let (mut next, file) = match successors.successor(self.sequence, self.clock.now(), room) {
            Ok(next) => next,
            Err(error) => {
                self.successors = Some(successors);
                return Err(error);
            }
        };
        // In this order: whoever finds the terminal finds the successor.
        let ending = self.end_for_successor();
        // What belongs to the writer goes with it.
        next.clock = std::mem::take(&mut self.clock);
        next.syncs = Arc::clone(&self.syncs);
        next.ticker = self.ticker.take();
        next.syncs_each = self.syncs_each;
        let old = std::mem::replace(self, next);
        let retired = successors.retire(old, ending, self, file);
        self.successors = Some(successors);
        retired.map_err(|error| AppendError::Poisoned { source: error.into_source() })
    }

    /// Ends a channel that has a successor: the terminal frame, and nothing that takes time.
    fn end_for_successor(&mut self) -> Ending {
        let entry = self.entry(Mark::Terminal);
        let at = self.header.regions.index + self.index_used * ENTRY;
        self.room.end(Kind::Closed);
        self.ended = Some(Kind::Closed);
        Ending { end: self.end_of_data(), entry: (at, entry) }
    }

    /// The header says that the channel begins at the time `now`, with the record `first`, and the first sync will make that durable, and the
    /// name in `directory`. Nobody has seen the channel yet.
    pub(crate) fn begin(&mut self, first: u64, now: u64, directory: Option<File>) {
        assert_eq!(self.room.tail(), 0);
        self.header.first_sequence = first;
        self.header.created = now;
        self.sequence = first;
        let page =
            self.header.encode().expect("it has been encoded before, and its numbers have no other length");
        self.map.store_words(0, &page);
        self.map.store(self.header.regions.control + HEARTBEAT, self.header.created);
        if let Some(directory) = directory {
            self.syncer.settle_first(directory);
        }
    }

    /// Makes the first `room` bytes ready, of a channel in which nothing is yet.
    pub(crate) fn reserve_first(&mut self, room: u64) -> Result<(), AppendError> {
        self.space.make_ready(self.room.tail(), self.room.tail() + room).map(drop)
    }

    /// Makes the pages present in which `begin` and the first entry of the index will store. Nobody has seen the channel yet.
    pub(crate) fn touch_beginning(&self) {
        let page = self.header.encode().expect("it has been encoded before");
        self.map.store_words(0, &page);
        self.map.store(self.header.regions.index, 0);
    }

    /// Sequence of the first record, and when the channel was created.
    pub(crate) fn begun(&self) -> (u64, u64) {
        (self.header.first_sequence, self.header.created)
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
        self.syncs.settle()?;
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
        if let Some(successors) = self.successors.as_ref().filter(|_| goes_on && self.room.tail() == 0) {
            successors.discard(self.header.first_sequence);
        }
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
            _ => {
                self.syncs.settle()?;
                self.syncer.finish(self.end_of_data())
            }
        }
    }

    /// Gives back what is reserved behind the end: cuts the file after the page of the terminal frame. Nobody may be
    /// looking at anything behind it.
    pub(crate) fn trim(&mut self) -> Result<(), SyncError> {
        let end = self.room.tail() + WORD;
        self.space.trim(end).map_err(|errno| SyncError::Trim { source: errno.into() })
    }
}
