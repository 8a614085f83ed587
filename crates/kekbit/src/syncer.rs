//! Making records durable: one sync at a time, for everybody who waits for it, while the writer goes on appending.
//!
//! ```text
//! writer, threads that wait, the interval's thread      one of them has the turn, the others wait for it to end
//!        \            |             /
//!         turn: find the tail -> msync up to it -> synced tail, for the others and for readers
//! ```
//!
//! Invariants:
//! - The synced tail moves only after a sync that reached it has succeeded, and never back.
//! - The first sync that fails is the last one: its error is kept, the writer's gate is shut, and no later sync is
//!   attempted, since the kernel may report success for pages that it has already given up.
//! - Whoever syncs anything of the file has the turn. Two at once could see each other's error.
//!
//! It never keeps the mapping alive, on which the writer's lock lies: with the writer gone there is nothing to be synced.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::SyncError;
use crate::layout::PAGE;
use crate::layout::control::{SLOTS, SYNCED, Slot};
use crate::layout::entry::ENTRY;
use crate::layout::frame::{Checksum, Head, Kind, Salt, WORD, frame_len};
use crate::layout::header::Header;
use crate::memory::map::Map;
use crate::publish::Gate;
use crate::sys::file;
use crate::sys::interruption::uninterrupted;

/// With [`crate::Durability::Each`] the control page is part of every so many syncs only: of a sync of a few bytes it
/// is a good part of the cost.
const SYNCS_PER_SLOT: u32 = 16;
/// What is the most that one who syncs waits for others to join, and which part of a sync that may take.
const GATHER_LONGEST: Duration = Duration::from_micros(200);
const GATHER_SHARE: u32 = 4;

/// What the writer and all that wait for durability share.
#[derive(Debug)]
pub(crate) struct Syncer {
    map: Weak<Map>,
    control: u64,
    data: u64,
    salt: Salt,
    checksum: Checksum,
    /// Whether the control page is part of few syncs.
    sparing: bool,
    gate: Arc<Gate>,
    /// Where the tail was a short while ago: a place to walk from.
    known: AtomicU64,
    /// Bytes of the data region that are reserved.
    reserved: AtomicU64,
    state: Mutex<State>,
    turn_ended: Condvar,
}

#[derive(Debug)]
struct State {
    synced: u64,
    slot_counter: u64,
    syncs_since_slot: u32,
    failed: Option<Errno>,
    /// The directory in which the file got its name, while neither name nor header is synced.
    directory: Option<Arc<File>>,
    /// Whether the channel has ended and all of it is synced.
    finished: bool,
    /// Whether somebody has the turn.
    taken: bool,
    /// Who waits for it to end.
    waiting: u32,
    /// How many wanted something when the last turn ended.
    company: u32,
    took: Duration,
}

/// How much of the file a sync writes beside the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extent {
    /// Nothing.
    Data,
    /// Control page and index, with a slot that tells of the sync before.
    Whole,
}

/// The end of a channel that has a successor, of which its index does not tell yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Position behind the terminal.
    pub(crate) end: u64,
    /// The entry that will tell of it, and where it goes.
    pub(crate) entry: (u64, [u8; ENTRY as usize]),
}

/// Where a syncer begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncerStart {
    pub(crate) tail: u64,
    pub(crate) reserved: u64,
    pub(crate) synced: u64,
    pub(crate) slot_counter: u64,
    pub(crate) sparing: bool,
}

impl Syncer {
    pub(crate) fn new(map: &Arc<Map>, header: &Header, gate: Arc<Gate>, start: SyncerStart) -> Syncer {
        Syncer {
            map: Arc::downgrade(map),
            control: header.regions.control,
            data: header.regions.data,
            salt: header.mixing(),
            checksum: header.checksum,
            sparing: start.sparing,
            gate,
            known: AtomicU64::new(start.tail),
            reserved: AtomicU64::new(start.reserved),
            state: Mutex::new(State {
                synced: start.synced,
                slot_counter: start.slot_counter,
                syncs_since_slot: 0,
                failed: None,
                directory: None,
                finished: false,
                taken: false,
                waiting: 0,
                company: 1,
                took: Duration::ZERO,
            }),
            turn_ended: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked, the state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Position up to which a sync has succeeded.
    pub(crate) fn synced(&self) -> u64 {
        self.state().synced
    }

    /// The error of the sync that has failed.
    pub(crate) fn failure(&self) -> Option<Errno> {
        self.state().failed
    }

    /// The writer tells where it is: every frame before `tail` is published.
    pub(crate) fn tell_tail(&self, tail: u64) {
        // Release, partner of the Acquire in `find_tail`.
        self.known.store(tail, Ordering::Release);
    }

    /// The writer tells how much of the data region is reserved.
    pub(crate) fn tell_reserved(&self, reserved: u64) {
        // Release, partner of the Acquire in `find_tail`: a frame in what is reserved comes after this.
        self.reserved.store(reserved, Ordering::Release);
    }

    /// The end of what has been appended, the terminal included.
    fn find_tail(&self, map: &Map) -> u64 {
        // Acquire, partners of the Releases in `tell_tail` and `tell_reserved`; the tail first, so that the space is at
        // least what was reserved for it.
        let mut tail = self.known.load(Ordering::Acquire);
        let reserved = self.reserved.load(Ordering::Acquire);
        // Bounded whatever stands there: this side trusts its own frames, but does not depend on it.
        while tail + WORD <= reserved {
            let head = Head(map.word(self.data + tail));
            match Kind::from_number(head.kind_number()) {
                Some(kind) if kind.is_terminal() => return tail + WORD,
                Some(_) if tail + frame_len(head.len()) + WORD <= reserved => tail += frame_len(head.len()),
                _ => break,
            }
        }
        tail
    }

    /// Everything that was appended before becomes durable. Returns the synced tail.
    pub(crate) fn sync_appended(&self) -> Result<u64, SyncError> {
        let state = self.state();
        if state.finished {
            return Ok(state.synced);
        }
        drop(state);
        let map = self.map()?;
        let tail = self.find_tail(&map);
        self.sync_up_to(map, tail)
    }

    /// The record at `position` becomes durable. Returns the synced tail.
    pub(crate) fn sync_past(&self, position: u64) -> Result<u64, SyncError> {
        let state = self.state();
        if state.synced > position {
            return Ok(state.synced);
        }
        drop(state);
        let map = self.map()?;
        let tail = self.find_tail(&map);
        if position >= tail {
            return Err(SyncError::NotAppended { position: crate::Position::new(position) });
        }
        self.sync_up_to(map, position + 1)
    }

    /// Waits until the synced tail is at least `least`, or syncs.
    fn sync_up_to(&self, map: Arc<Map>, least: u64) -> Result<u64, SyncError> {
        let mut state = self.state();
        loop {
            if state.synced >= least {
                return Ok(state.synced);
            }
            if let Some(errno) = state.failed {
                return Err(SyncError::Failed { source: errno.into() });
            }
            if !state.taken {
                break;
            }
            state = self.wait_for_turn_to_end(state);
        }
        let turn = Turn::take(self, state, map);
        turn.gather();
        let end = self.find_tail(&turn.map);
        let extent = if self.sparing && turn.state().syncs_since_slot < SYNCS_PER_SLOT {
            Extent::Data
        } else {
            Extent::Whole
        };
        turn.sync(end, extent)?;
        if self.checksum == Checksum::None {
            turn.confirm(end)?;
        }
        turn.announce(end);
        Ok(end)
    }

    /// The writer makes everything up to `end` durable, whether or not it is already, and the control page with it
    /// unless that is to be spared.
    pub(crate) fn sync_to(&self, end: u64, may_spare: bool) -> Result<(), SyncError> {
        let turn = self.turn()?;
        let spare = self.sparing && may_spare && turn.state().syncs_since_slot < SYNCS_PER_SLOT;
        turn.sync(end, if spare { Extent::Data } else { Extent::Whole })?;
        if self.checksum == Checksum::None {
            // After a crash nothing past the slot is believed of such a channel, so it must tell of this sync too.
            turn.confirm(end)?;
        }
        turn.announce(end);
        Ok(())
    }

    /// The channel has ended at `end`, behind the terminal: that becomes durable, and a slot says so on the disk too, so
    /// that damage anywhere before it is told from a torn tail.
    pub(crate) fn finish(&self, end: u64) -> Result<(), SyncError> {
        let turn = self.turn()?;
        turn.sync(end, Extent::Whole)?;
        turn.confirm(end)?;
        turn.announce(end);
        turn.state().finished = true;
        Ok(())
    }

    /// The same for a channel that has a successor by now, whose writer has not synced it. Until everything else is durable the
    /// index does not tell of the end, which would vouch for all before it.
    pub(crate) fn settle(&self, &Ending { end, entry: (at, entry) }: &Ending) -> Result<(), SyncError> {
        let turn = self.turn()?;
        turn.sync(end, Extent::Whole)?;
        turn.map.store_words(at, &entry);
        turn.attempt(|map| map.sync(at, ENTRY))?;
        turn.confirm(end)?;
        turn.announce(end);
        turn.state().finished = true;
        Ok(())
    }

    /// Nothing can become durable any more, since something before it cannot.
    pub(crate) fn fail(&self, errno: Errno) {
        self.state().failed.get_or_insert(errno);
        self.gate.shut();
    }

    /// The file has a name in `directory` and a header, neither of which is synced: the first sync does that, too.
    pub(crate) fn settle_first(&self, directory: File) {
        self.state().directory = Some(Arc::new(directory));
    }

    /// Whether the writer is there, and has appended something.
    pub(crate) fn has_begun(&self) -> bool {
        let first =
            self.map().ok().and_then(|map| Kind::from_number(Head(map.word(self.data)).kind_number()));
        first.is_some_and(|kind| !kind.is_terminal())
    }

    /// What another thread shuts to stop the writer.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Writes `[from, to)` of the file to the storage, of which no record is part.
    pub(crate) fn sync_space(&self, from: u64, to: u64) -> Result<(), SyncError> {
        let turn = self.turn()?;
        turn.attempt(|map| map.sync(from, to - from))
    }

    fn map(&self) -> Result<Arc<Map>, SyncError> {
        // A forked child has a copy of this, but not of the mapping.
        self.map.upgrade().filter(|map| map.is_of_this_process()).ok_or_else(|| match self.state().failed {
            // The first error says more than that the writer has gone because of it.
            Some(errno) => SyncError::Failed { source: errno.into() },
            None => SyncError::Gone,
        })
    }

    /// Waits for the turn, which is given to those who have not failed.
    fn turn(&self) -> Result<Turn<'_>, SyncError> {
        let map = self.map()?;
        let mut state = self.state();
        loop {
            if let Some(errno) = state.failed {
                return Err(SyncError::Failed { source: errno.into() });
            }
            if !state.taken {
                return Ok(Turn::take(self, state, map));
            }
            state = self.wait_for_turn_to_end(state);
        }
    }

    fn wait_for_turn_to_end<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.waiting += 1;
        let mut state = self.turn_ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }
}

/// The right to sync, which one thread has at a time. Ends when it is dropped.
struct Turn<'s> {
    syncer: &'s Syncer,
    map: Arc<Map>,
}

impl<'s> Turn<'s> {
    fn take(syncer: &'s Syncer, mut state: MutexGuard<'s, State>, map: Arc<Map>) -> Turn<'s> {
        state.taken = true;
        Turn { syncer, map }
    }

    fn state(&self) -> MutexGuard<'s, State> {
        self.syncer.state()
    }

    /// Lets those who were served together last time come together again: they have just been woken, and a sync that
    /// begins without them is one that they must wait out.
    fn gather(&self) {
        let state = self.state();
        let (company, patience) = (state.company, (state.took / GATHER_SHARE).min(GATHER_LONGEST));
        drop(state);
        if company <= 1 {
            return;
        }
        let begun = Instant::now();
        while self.state().waiting + 1 < company && begun.elapsed() < patience {
            std::thread::yield_now();
        }
    }

    /// Syncs everything before `end`; only then the synced tail is there.
    fn sync(&self, end: u64, extent: Extent) -> Result<(), SyncError> {
        let Syncer { control, data, .. } = *self.syncer;
        let directory = self.state().directory.clone();
        if let Some(directory) = directory {
            self.attempt(|map| map.sync(0, PAGE))?;
            self.attempt(|_| file::sync(&directory))?;
            self.state().directory = None;
        }
        let mut state = self.state();
        let from = match extent {
            Extent::Data => {
                state.syncs_since_slot += 1;
                data + state.synced.min(end)
            }
            Extent::Whole => {
                // What the last sync has reached: true already, whatever becomes of this one.
                let synced = state.synced;
                self.write_slot(&mut state, synced);
                control
            }
        };
        drop(state);
        // One call: two cost nearly twice as much. The word behind the end is part of it.
        let to = data + (end + WORD).min(self.syncer.reserved.load(Ordering::Acquire));
        let begun = Instant::now();
        self.attempt(|map| map.sync(from, to.max(from) - from))?;
        self.state().took = begun.elapsed();
        Ok(())
    }

    /// Says on the disk, too, that everything before `end` is synced.
    fn confirm(&self, end: u64) -> Result<(), SyncError> {
        self.write_slot(&mut self.state(), end);
        self.attempt(|map| map.sync(self.syncer.control, PAGE))
    }

    /// Tells those who wait, and live readers, what the last sync has reached.
    fn announce(&self, end: u64) {
        let mut state = self.state();
        state.synced = state.synced.max(end);
        self.map.store(self.syncer.control + SYNCED, state.synced);
    }

    fn write_slot(&self, state: &mut State, synced: u64) {
        state.slot_counter += 1;
        state.syncs_since_slot = 0;
        let slot = Slot { synced, counter: state.slot_counter };
        let at = self.syncer.control + SLOTS[(state.slot_counter % 2) as usize];
        self.map.store_words(at, &slot.encode(self.syncer.salt));
    }

    /// Tries to sync. The first failure is final.
    fn attempt(&self, sync: impl Fn(&Map) -> Result<(), Errno>) -> Result<(), SyncError> {
        // Of a sync that was interrupted nothing has been given up.
        uninterrupted(|| sync(&self.map)).map_err(|errno| {
            self.state().failed = Some(errno);
            self.syncer.gate.shut();
            SyncError::Failed { source: errno.into() }
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.state();
        state.taken = false;
        state.company = state.waiting + 1;
        drop(state);
        self.syncer.turn_ended.notify_all();
    }
}
