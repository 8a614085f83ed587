//! The publish protocol, in its two halves: [`Room`] is the writer's, [`Window`] the readers'.
//!
//! ```text
//!            tail                                   limit
//!             v                                       v
//!  ...frame | 0 | free: nothing is promised of it     |          before
//!  ...frame | H | payload, padding | 0 | free         |          after
//!             ^                      ^
//!             3. Release store       2. zero       (1. payload and padding)
//! ```
//!
//! Invariants:
//! - The word at the tail is zero, reserved on the disk, and stays zero until the frame there is complete.
//! - A frame fits if `tail + frame + 8 <= limit`: the word behind it is the next tail, or the terminal's.
//! - `limit` never exceeds what is mapped and reserved. Everything that must stop an append (capacity, reservation,
//!   preparation, an index entry that is due, a poisoned or ended writer) is folded into it.
//! - What was published never changes. Bytes behind the tail's word may hold anything, so that a claim which was
//!   dropped or forgotten needs no clean-up.
//! - A reader's position is the end of a frame that it has checked against its bound, so the word there may be loaded;
//!   a length from the file is compared with the bound before anything else is touched.
//!
//! Neither half ever makes a system call, allocates, or takes a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::layout::crc::{Crc, Short, crc32c_padded};
use crate::layout::frame::{Checksum, Head, Kind, SHORT, Salt, WORD, frame_len, kind_and_length};
use crate::memory::map::WriterView;
use crate::memory::{Memory, WriteMemory};

/// Up to where frames may reach without further ado. Shared with those who may have to stop the writer from another
/// thread: after a sync that has failed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// For [`Room::append`].
    append: AtomicU64,
    /// For claims and batches that begin.
    claim: AtomicU64,
    shut: AtomicBool,
}

impl Gate {
    // SeqCst throughout: of two threads that open and shut it at the same time, either the one that opens sees that it
    // is shut, or its stores come before those that shut it.
    fn open(&self, append: u64, claim: u64) {
        self.append.store(append, Ordering::SeqCst);
        self.claim.store(claim, Ordering::SeqCst);
        if self.shut.load(Ordering::SeqCst) {
            self.shut();
        }
    }

    /// Lets the next append take the slow path, where it looks what is wanted of it.
    pub(crate) fn pause(&self) {
        self.append.store(0, Ordering::SeqCst);
        self.claim.store(0, Ordering::SeqCst);
    }

    /// Shuts it for good.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        self.append.store(0, Ordering::SeqCst);
        self.claim.store(0, Ordering::SeqCst);
    }
}

/// The writer's half: where the next frame goes.
#[derive(Debug)]
pub(crate) struct Room<M> {
    memory: M,
    tail: u64,
    /// Up to where a frame may reach that has been begun.
    limit: u64,
    /// Up to where one may reach that begins now; never more than `limit`.
    gate: Arc<Gate>,
    max_len: u64,
    salt: Salt,
    checksum: Checksum,
    /// How short records are checked, and below which length records are short: never more than one above `max_len`.
    short: ShortCheck,
    short_below: u64,
}

/// The check of a short record.
#[derive(Clone, Copy, Debug)]
enum ShortCheck {
    None,
    Crc32c(Short),
}

impl<M: WriteMemory> Room<M> {
    /// A room at `tail`, a multiple of 8 whose word lies inside the memory and is reserved. It has no space yet.
    pub(crate) fn new(memory: M, tail: u64, max_len: u32, salt: Salt, checksum: Checksum) -> Room<M> {
        assert!(tail.is_multiple_of(8) && tail + WORD <= memory.len());
        let (gate, max_len) = (Arc::default(), u64::from(max_len));
        let short = match checksum {
            Checksum::None => Some(ShortCheck::None),
            Checksum::Crc32c => Short::new().map(ShortCheck::Crc32c),
        };
        let (short, short_below) = match short {
            Some(short) => (short, SHORT.min(max_len) + 1),
            None => (ShortCheck::None, 0),
        };
        Room { memory, tail, limit: 0, gate, max_len, salt, checksum, short, short_below }
    }

    /// What another thread shuts to stop this writer.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    #[inline]
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    #[inline]
    pub(crate) fn max_len(&self) -> u64 {
        self.max_len
    }

    /// Lets frames (with the word behind them) reach up to `limit`, up to which the region must be reserved: storing
    /// past it would raise SIGBUS. Whether [`Room::append`] may use it is said by `quick`; claims and batches may.
    pub(crate) fn set_limit(&mut self, limit: u64, quick: bool) {
        assert!(limit <= self.memory.len());
        self.limit = limit;
        self.gate.open(if quick { limit } else { 0 }, limit);
    }

    /// Lets nothing be written any more.
    pub(crate) fn shut(&mut self) {
        self.limit = 0;
        self.gate.shut();
    }

    /// Whether a frame with `len` bytes of payload may be begun.
    #[inline]
    pub(crate) fn may_begin(&self, len: u64) -> bool {
        // Relaxed: a writer that is stopped a little later has lost nothing.
        self.tail + frame_len(len) + WORD <= self.gate.claim.load(Ordering::Relaxed)
    }

    /// Whether a frame with `len` bytes of payload fits.
    #[inline]
    fn fits(&self, len: u64) -> bool {
        self.tail + frame_len(len) + WORD <= self.limit
    }

    /// Publishes `payload` as a record and returns its position, or `None` if it is too long or does not fit.
    #[inline(always)]
    pub(crate) fn append(&mut self, payload: &[u8]) -> Option<u64> {
        let len = payload.len() as u64;
        if len < self.short_below {
            return if self.lets_append(len) { Some(self.put_short(payload)) } else { None };
        }
        if len <= self.max_len && self.lets_append(len) {
            Some(self.put(Kind::Record, payload))
        } else {
            None
        }
    }

    /// Whether the gate is open for a record of `len` bytes.
    #[inline]
    fn lets_append(&self, len: u64) -> bool {
        // Relaxed, as in `may_begin`.
        self.tail + frame_len(len) + WORD <= self.gate.append.load(Ordering::Relaxed)
    }

    /// Publishes `payload`, which is short and fits, as a record. Makes no call, so that it needs no stack.
    #[inline(never)]
    fn put_short(&mut self, payload: &[u8]) -> u64 {
        if payload.len() > SHORT as usize {
            return self.put(Kind::Record, payload);
        }
        let crc = self.short_crc(payload);
        // SAFETY: it fits, as in `put`.
        unsafe { self.memory.fill(self.tail + WORD, payload) };
        self.publish(Kind::Record, payload.len() as u64, crc)
    }

    /// Publishes `front` and `payload` behind it as one record, as [`Room::append`] does.
    #[inline(always)]
    pub(crate) fn append_behind<const N: usize>(&mut self, front: [u8; N], payload: &[u8]) -> Option<u64> {
        const { assert!(N.is_multiple_of(8) && N as u64 <= SHORT) };
        let len = N as u64 + payload.len() as u64;
        if len < self.short_below {
            return if self.lets_append(len) { Some(self.put_short_behind(front, payload)) } else { None };
        }
        if len <= self.max_len && self.lets_append(len) {
            Some(self.put_behind(front, payload))
        } else {
            None
        }
    }

    /// Publishes `front` and `payload` behind it, which are short together and fit, as a record. Makes no call, so that it
    /// needs no stack.
    #[inline(never)]
    fn put_short_behind<const N: usize>(&mut self, front: [u8; N], payload: &[u8]) -> u64 {
        if payload.len() + N > SHORT as usize {
            return self.put_behind(front, payload);
        }
        let crc = match self.short {
            ShortCheck::Crc32c(short) => short.crc32c_padded_behind(&front, payload),
            ShortCheck::None => 0,
        };
        self.fill_behind(&front, payload);
        self.publish(Kind::Record, (N + payload.len()) as u64, crc)
    }

    /// Publishes `front` and `payload` behind it, which fit, as a record.
    #[inline(never)]
    fn put_behind<const N: usize>(&mut self, front: [u8; N], payload: &[u8]) -> u64 {
        let crc = match self.checksum {
            Checksum::Crc32c => Crc::new().update(&front).update(payload).finish(),
            Checksum::None => 0,
        };
        self.fill_behind(&front, payload);
        self.publish(Kind::Record, (N + payload.len()) as u64, crc)
    }

    /// Writes `front`, whose length is a multiple of 8, and `payload` behind it, which fit together.
    #[inline(always)]
    fn fill_behind(&mut self, front: &[u8], payload: &[u8]) {
        let at = self.tail + WORD;
        // SAFETY: both fit together, as in `put`, and so does the first; a multiple of 8 keeps the second one's place aligned.
        unsafe { self.memory.fill(at + front.len() as u64, payload) };
        // Word by word, as a stage writes them: a wider load would wait until several stores have left the store buffer.
        for (i, word) in front.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: as above.
            unsafe { self.memory.fill(at + 8 * i as u64, word) };
        }
    }

    /// Publishes `payload` as a frame of `kind`, of whatever length; `None` if it does not fit.
    #[inline]
    pub(crate) fn append_as(&mut self, kind: Kind, payload: &[u8]) -> Option<u64> {
        if self.fits(payload.len() as u64) { Some(self.put(kind, payload)) } else { None }
    }

    /// Publishes `payload`, which fits, as a frame of `kind`.
    #[inline(never)]
    fn put(&mut self, kind: Kind, payload: &[u8]) -> u64 {
        // Before the destination is touched: readers poll its first cache line.
        let crc = self.crc(payload);
        // SAFETY: it fits: header word and padded payload end 8 bytes before the limit, which lies inside the memory.
        unsafe { self.memory.fill(self.tail + WORD, payload) };
        self.publish(kind, payload.len() as u64, crc)
    }

    #[inline]
    fn crc(&self, payload: &[u8]) -> u32 {
        match self.checksum {
            Checksum::Crc32c => crc32c_padded(payload),
            Checksum::None => 0,
        }
    }

    #[inline(always)]
    fn short_crc(&self, payload: &[u8]) -> u32 {
        match self.short {
            ShortCheck::Crc32c(short) => short.crc32c_padded(payload),
            ShortCheck::None => 0,
        }
    }

    /// Publishes the frame whose payload of `len` bytes, padded, is in place, and returns its position.
    /// The caller has made sure that it fits.
    #[inline(always)]
    fn publish(&mut self, kind: Kind, len: u64, crc: u32) -> u64 {
        let (at, end) = (self.tail, self.tail + frame_len(len));
        let kl = kind_and_length(kind, len as u32);
        let head = Head::new(kl, crc ^ self.salt.mix(at, kl));
        // SAFETY: the frame fits, and with it the word behind it.
        unsafe { self.memory.clear(end) };
        // SAFETY: the word at the tail is reserved, and no reader has seen anything but zero there.
        unsafe { self.memory.publish(at, head.0) };
        self.tail = end;
        at
    }

    /// Ends the channel: publishes a terminal frame into the word at the tail, which is always free for it. Nothing
    /// can be written afterwards.
    pub(crate) fn end(&mut self, kind: Kind) -> u64 {
        debug_assert!(kind.is_terminal());
        self.shut();
        let kl = kind_and_length(kind, 0);
        // SAFETY: the word at the tail is reserved, and no reader has seen anything but zero there.
        unsafe { self.memory.publish(self.tail, Head::new(kl, self.salt.mix(self.tail, kl)).0) };
        self.tail
    }
}

impl Room<WriterView> {
    /// The first `len` bytes of the next frame's payload, to be written; `None` if they do not fit.
    ///
    /// Their content is unspecified. Nothing happens until [`Room::publish_in_place`].
    #[inline]
    pub(crate) fn space(&mut self, len: u64) -> Option<&mut [u8]> {
        if !self.fits(len) {
            return None;
        }
        // SAFETY: they fit, no reader has been told of them, and the borrow of self keeps the only writer away.
        Some(unsafe { self.memory.bytes_mut(self.tail + WORD, len) })
    }

    /// The same bytes, to be looked at by the writer.
    #[inline]
    pub(crate) fn own_space(&self, len: u64) -> Option<&[u8]> {
        if !self.fits(len) {
            return None;
        }
        // SAFETY: they fit, and only the writer changes them, which this borrow keeps from doing so.
        Some(unsafe { self.memory.bytes(self.tail + WORD, len) })
    }

    /// Publishes the first `len` bytes of the space as a frame; `None` if they do not fit.
    #[inline]
    pub(crate) fn publish_in_place(&mut self, kind: Kind, len: u64) -> Option<u64> {
        let padded = frame_len(len) - WORD;
        let space = self.space(padded)?;
        if let (1.., Some(last)) = (len % WORD, space.last_chunk_mut()) {
            let padding = u64::MAX << (8 * (len % WORD));
            *last = (u64::from_le_bytes(*last) & !padding).to_le_bytes();
        }
        Some(if padded < self.short_below { self.finish_short(kind, len) } else { self.finish(kind, len) })
    }

    /// Publishes the frame whose payload of `len` bytes, padded, is in place and fits.
    #[inline(never)]
    fn finish(&mut self, kind: Kind, len: u64) -> u64 {
        // SAFETY: it fits, and only the writer changes it, which this borrow keeps from doing so.
        let payload = unsafe { self.memory.bytes(self.tail + WORD, frame_len(len) - WORD) };
        let crc = self.crc(payload);
        self.publish(kind, len, crc)
    }

    /// The same for a short payload. Makes no call, so that it needs no stack.
    #[inline(never)]
    fn finish_short(&mut self, kind: Kind, len: u64) -> u64 {
        // SAFETY: it fits, and only the writer changes it, which this borrow keeps from doing so.
        let payload = unsafe { self.memory.bytes(self.tail + WORD, frame_len(len) - WORD) };
        let crc = self.short_crc(payload);
        self.publish(kind, len, crc)
    }
}

/// A place between frames, and the frame that was taken last. The word at the place may be looked at; whatever else is
/// looked at is compared with the bound before.
pub(crate) trait Place {
    /// Bytes of a payload that was taken.
    type Bytes<'a>: AsRef<[u8]>
    where
        Self: 'a;

    /// Whether [`Place::head`] shows what the file holds by now, and not what it held when it was copied.
    const SHOWS_NOW: bool;

    fn at(&self) -> u64;

    /// The word at this place: a header word, or zero if nothing has been written yet.
    fn head(&self) -> Head;

    /// Takes the frame with the header word `head` that was found here: its payload becomes [`Place::payload`], and the
    /// place moves behind it. `false`, and nothing, if the frame and the word behind it reach past the bound.
    fn take(&mut self, head: Head) -> bool;

    /// The same, if they do not reach past the limit either.
    fn take_below_limit(&mut self, head: Head) -> bool;

    /// Sets the limit of [`Place::take_below_limit`]: whatever there is to do before a frame is taken that reaches farther
    /// is folded into it. At first there is none but the bound.
    fn set_limit(&mut self, limit: u64);

    /// Moves into the payload that was taken, behind its first 8 bytes: to the first inner frame of a batch.
    fn enter(&mut self) -> bool;

    /// Moves to `at`, if a word can be there.
    fn move_to(&mut self, at: u64) -> bool;

    /// Where the frame begins that was taken last.
    fn taken_at(&self) -> u64;

    /// The payload that was taken last.
    fn payload(&self) -> Self::Bytes<'_>;
}

/// The readers' half: a place between frames in shared memory, and how far the file is known to reach.
#[derive(Debug)]
pub(crate) struct Window<M> {
    memory: M,
    /// A multiple of 8 with `at + 8 <= bound`.
    at: u64,
    /// Bytes of the region that are mapped and that the file has.
    bound: u64,
    /// The limit that was set, and the smaller of it and the bound.
    wanted_limit: u64,
    limit: u64,
    /// The payload that was taken last: inside the region.
    payload: (u64, u64),
}

impl<M: Memory> Window<M> {
    /// A window at the beginning of the region, of which the file has the first `bound` bytes, at least 8: looking
    /// past them would raise SIGBUS.
    pub(crate) fn new(memory: M, bound: u64) -> Window<M> {
        assert!(WORD <= bound && bound <= memory.len());
        Window { memory, at: 0, bound, wanted_limit: u64::MAX, limit: bound, payload: (0, 0) }
    }

    pub(crate) fn bound(&self) -> u64 {
        self.bound
    }

    /// Tells that the file has the first `bound` bytes of the region by now.
    pub(crate) fn set_bound(&mut self, bound: u64) {
        assert!(self.at + WORD <= bound && bound <= self.memory.len());
        self.bound = bound;
        self.limit = self.wanted_limit.min(bound);
    }

    /// Takes the frame of `head`, which ends at `end` and has been compared with the bound.
    #[inline]
    fn pass(&mut self, head: Head, end: u64) {
        self.payload = (self.at + WORD, head.len());
        self.at = end;
    }
}

impl<M: Memory> Place for Window<M> {
    type Bytes<'a>
        = M::Bytes<'a>
    where
        M: 'a;

    const SHOWS_NOW: bool = true;

    #[inline]
    fn at(&self) -> u64 {
        self.at
    }

    fn move_to(&mut self, at: u64) -> bool {
        let possible = at.is_multiple_of(8) && at.checked_add(WORD).is_some_and(|end| end <= self.bound);
        if possible {
            self.at = at;
        }
        possible
    }

    #[inline]
    fn head(&self) -> Head {
        // SAFETY: `at` is a multiple of 8, and `at + 8` is at most the bound.
        Head(unsafe { self.memory.load(self.at) })
    }

    #[inline]
    fn take(&mut self, head: Head) -> bool {
        let end = self.at + frame_len(head.len());
        let possible = end + WORD <= self.bound;
        if possible {
            self.pass(head, end);
        }
        possible
    }

    #[inline]
    fn take_below_limit(&mut self, head: Head) -> bool {
        let end = self.at + frame_len(head.len());
        // Never more than the bound.
        let possible = end + WORD <= self.limit;
        if possible {
            self.pass(head, end);
        }
        possible
    }

    fn set_limit(&mut self, limit: u64) {
        self.wanted_limit = limit;
        self.limit = limit.min(self.bound);
    }

    fn enter(&mut self) -> bool {
        self.payload.1 >= WORD && self.move_to(self.payload.0 + WORD)
    }

    #[inline]
    fn taken_at(&self) -> u64 {
        self.payload.0 - WORD
    }

    #[inline]
    fn payload(&self) -> M::Bytes<'_> {
        // SAFETY: whoever took it has compared it with the bound; its header word was there, so it is published.
        unsafe { self.memory.bytes(self.payload.0, self.payload.1) }
    }
}
