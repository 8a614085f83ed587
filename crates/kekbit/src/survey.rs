//! Walking over a file of which anything may be damaged: what of it can still be proven, and where it goes on behind
//! what cannot.
//!
//! ```text
//! proven frames | a frame that fails its check, and whatever is behind it      | proven frames     | ...
//!               ^ from                                                         ^ to
//!               +-------------------------- gap -------------------------------+
//! ```
//!
//! A frame is **proven** if it passes its check (which covers its position, kind, length and content, and the channel's
//! salt) and something says that a frame begins there: the beginning of the data, the end of a proven frame, or behind
//! a gap one of two things:
//! - an entry of the index or the trail that passes its own check; it tells the sequence too;
//! - that [`CHAIN`] frames lie one behind another, the first of them a record or a batch, and each passes its check.
//!
//! A frame alone is not enough. Where garbage lies, each multiple of 8 is tried, and passes by accident with a
//! probability of 2⁻³². A channel of the largest capacity has 2⁴² of them: one frame would be found in nearly every such
//! heap of garbage, two in one of 2²², and three in one of 2⁵⁴. Intact frames that are fewer, between two gaps and
//! without an entry that leads to them, are lost with the gap.
//!
//! Without checksums a frame's check says nothing of its content, so what is behind a gap cannot be proven at all, nor,
//! in a file from another boot, what is past the last sync.
//!
//! Invariants:
//! - Everything is read by `pread` and nothing is believed twice: a frame is checked in the buffer that it is then taken
//!   from. What the disk cannot read counts as zeros. So neither truncation nor another process that writes meanwhile does
//!   any harm.
//! - The place only moves forward, so that no record is taken twice or out of order, and the walk ends.
//! - The work is linear in the file's length, whatever it holds: see [`CREDIT`].
//! - Memory holds one piece of the file or its longest frame, and 16 bytes for each entry of the index.

use std::io;

use crate::Position;
use crate::error::SalvageError;
use crate::layout::control::{SLOT, SLOTS, Slot, TRAIL, TRAIL_SLOTS};
use crate::layout::crc::crc32c_padded;
use crate::layout::entry::{ENTRY, Entry, Mark, index_slots};
use crate::layout::frame::{BATCH_HEADER, Checksum, Head, Kind, Salt, WORD, batch_records, frame_len};
use crate::layout::header::Header;
use crate::layout::u64_at;
use crate::lossy::{Bytes, Storage, read_lossy};
use crate::stage_layout::StageLayout;
use crate::sys::file::PIECE;

/// So many frames, one behind another, prove that the first one is one.
const CHAIN: u32 = 3;
/// Bytes of which checksums are computed in search of frames, for each byte of the file at first, so that several of the
/// longest frames can be tried anywhere, and for each byte that is searched. Random bytes need far less; whoever forges
/// heads with long lengths finds that they are no longer tried.
const CREDIT: u64 = 16;
const CREDIT_PER_BYTE: u64 = 64;
/// What a look outside of the buffer costs, in the same currency.
const LOOK: u64 = 512;
/// Bytes between two calls of progress.
const STEP: u64 = 64 << 10;

/// A stretch of a damaged channel of which nothing can be proven.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Gap {
    /// Position of the first frame that is not good.
    pub from: Position,
    /// Position where good frames begin again; if there are none, the end of what may have held some.
    pub to: Position,
    /// Sequence, in the damaged channel, of the first record that is lost, if it is known.
    pub sequence: Option<u64>,
    /// Sequence, in the damaged channel, of the first record behind the gap, if it is known: behind the last gap, of the one
    /// that would have come next.
    pub next_sequence: Option<u64>,
    /// Sequence, in the new channel, of the first record behind the gap.
    pub salvaged_sequence: u64,
    /// Whether there are good frames behind it.
    pub resumes: bool,
    /// What is wrong at its beginning.
    pub what: &'static str,
}

impl Gap {
    /// Bytes of the gap.
    pub fn len(&self) -> u64 {
        self.to.offset() - self.from.offset()
    }

    /// Whether it has none: nothing is missing but the end of the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records that are lost in it, if that is known.
    pub fn lost(&self) -> Option<u64> {
        Some(self.next_sequence? - self.sequence?)
    }
}

/// What is done with what is found.
pub(crate) trait Sink {
    /// A proven frame of kind record or batch, with so many records. `time` is the stamp of its last record, if it has
    /// one.
    fn frame(
        &mut self,
        kind: Kind,
        payload: &[u8],
        records: u64,
        time: Option<u64>,
    ) -> Result<(), SalvageError>;
    fn gap(&mut self, gap: Gap);
    fn progress(&mut self, at: Position);
}

/// Nobody who would want to know.
struct Deaf;

impl Sink for Deaf {
    fn frame(&mut self, _: Kind, _: &[u8], _: u64, _: Option<u64>) -> Result<(), SalvageError> {
        Ok(())
    }

    fn gap(&mut self, _: Gap) {}

    fn progress(&mut self, _: Position) {}
}

/// What was found, in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) records: u64,
    /// The terminal frame, if it was reached.
    pub(crate) terminal: Option<Kind>,
    /// Sequence behind the last record, if it is known.
    pub(crate) next_sequence: Option<u64>,
}

/// A place that is known to be the beginning of a frame, by an entry of index or trail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Anchor {
    position: u64,
    sequence: u64,
}

/// A proven frame.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    len: u64,
    end: u64,
    records: u64,
    /// Sequence of its first record, if a stage has put it there.
    stamped: Option<u64>,
    time: Option<u64>,
}

/// Why there is no proven frame at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bad {
    /// A word of zero, or the end of the file.
    Nothing,
    /// Something that fails its check or contradicts itself.
    Invalid(&'static str),
    /// An intact frame of an unknown kind, up to here.
    Unknown(u64),
}

/// A walk over the data of one file.
#[derive(Debug)]
pub(crate) struct Survey<S> {
    bytes: Bytes<S>,
    header: Header,
    layout: StageLayout,
    salt: Salt,
    same_boot: bool,
    anchors: Vec<Anchor>,
    next_anchor: usize,
    /// Up to here something was written: by what the slots and the entries say.
    written: u64,
    /// Sequence at the terminal frame, by its entry.
    terminal_sequence: Option<u64>,
    /// From here on nothing is believed.
    believed: u64,
    credit: u64,
    /// Behind the last word that is not zero and that was looked at in a gap.
    content: u64,
    /// Records taken so far, and those since the last gap.
    records: u64,
    since: u64,
    /// Sequence of the next record, if it is known.
    sequence: Option<u64>,
    /// The last gap, as long as it may still turn out which record comes behind it.
    pending: Option<Gap>,
    told: u64,
}

impl<S: Storage> Survey<S> {
    /// A walk over `storage`, `len` bytes long, whose intact header is `header`.
    pub(crate) fn new(
        storage: S,
        len: u64,
        header: Header,
        layout: StageLayout,
        same_boot: bool,
    ) -> io::Result<Survey<S>> {
        let data = header.regions.data;
        let data_len = len.min(data + header.capacity).saturating_sub(data) & !7;
        let bytes = Bytes::new(storage, data, data_len);
        let mut survey = Survey {
            bytes,
            salt: header.mixing(),
            layout,
            same_boot,
            anchors: Vec::new(),
            next_anchor: 0,
            written: 0,
            terminal_sequence: None,
            believed: u64::MAX,
            credit: CREDIT * data_len,
            content: 0,
            records: 0,
            since: 0,
            sequence: Some(header.first_sequence),
            pending: None,
            told: 0,
            header,
        };
        survey.read_slots()?;
        survey.read_anchors(len)?;
        Ok(survey)
    }

    fn read_slots(&mut self) -> io::Result<()> {
        let mut slots = [None; 2];
        for (slot, at) in slots.iter_mut().zip(SLOTS) {
            let mut bytes = [0; SLOT];
            read_lossy(&self.bytes.storage, &mut bytes, self.header.regions.control + at)?;
            *slot = Slot::decode(&bytes, self.salt);
        }
        let synced = Slot::newer(slots[0], slots[1]).map_or(0, |slot| slot.synced.min(self.header.capacity));
        self.written = synced;
        if self.header.checksum == Checksum::None && !self.same_boot {
            self.believed = synced;
        }
        Ok(())
    }

    /// Reads all entries of index and trail that pass their checks, in the order of their positions.
    fn read_anchors(&mut self, len: u64) -> io::Result<()> {
        let regions = self.header.regions;
        let slots = index_slots(self.header.capacity, self.header.index_interval);
        let index = slots.saturating_mul(ENTRY).min(regions.index_len) & !(ENTRY - 1);
        self.read_entries(regions.index, (regions.index + index).min(len))?;
        self.read_entries(regions.control + TRAIL, regions.control + TRAIL + TRAIL_SLOTS * ENTRY)?;
        self.anchors.sort_unstable();
        // Of entries that contradict those before them, none is followed.
        let mut last = Anchor { position: 0, sequence: self.header.first_sequence };
        self.anchors.retain(|&anchor| {
            let records = anchor.sequence.checked_sub(last.sequence);
            let possible = records.is_some_and(|records| records <= (anchor.position - last.position) / WORD);
            if possible {
                last = anchor;
            }
            possible
        });
        self.written = self.written.max(last.position);
        Ok(())
    }

    fn read_entries(&mut self, from: u64, to: u64) -> io::Result<()> {
        let mut piece = vec![0; PIECE.min(to.saturating_sub(from)) as usize];
        let mut at = from;
        while at < to {
            // What is in a hole is no entry; data begin at a block, which entries do not cross.
            at = at.max(self.bytes.storage.next_data(at, to) & !(ENTRY - 1));
            let piece = &mut piece[..PIECE.min(to.saturating_sub(at)) as usize];
            read_lossy(&self.bytes.storage, piece, at)?;
            for bytes in piece.as_chunks::<{ ENTRY as usize }>().0 {
                if Entry::is_written(bytes) {
                    self.add_anchor(Entry::decode(bytes, self.salt));
                }
            }
            at += PIECE;
        }
        Ok(())
    }

    fn add_anchor(&mut self, entry: Option<Entry>) {
        let Some(entry) = entry.filter(|entry| entry.position <= self.header.capacity - WORD) else { return };
        let records = entry.sequence.checked_sub(self.header.first_sequence);
        if records.is_none_or(|records| records > entry.position / WORD) {
            return;
        }
        if entry.mark == Mark::Terminal {
            self.terminal_sequence = Some(entry.sequence);
        }
        self.anchors.push(Anchor { position: entry.position, sequence: entry.sequence });
    }

    /// Walks from the first frame to the end, and hands everything to `sink`.
    pub(crate) fn run(&mut self, sink: &mut impl Sink) -> Result<Found, SalvageError> {
        let mut at = 0;
        let terminal = loop {
            if at >= self.told + STEP {
                sink.progress(Position::new(at));
                self.told = at;
            }
            self.settle_by_anchor(at);
            let frame = match self.frame(at).map_err(SalvageError::reading)? {
                Ok(frame) if frame.kind.is_terminal() => break Some(frame.kind),
                Ok(frame) => frame,
                Err(bad) => match self.pass_over(at, bad, sink).map_err(SalvageError::reading)? {
                    Some(next) => {
                        at = next;
                        continue;
                    }
                    None => break None,
                },
            };
            if matches!(frame.kind, Kind::Record | Kind::Batch) {
                self.settle_by_stamp(at, &frame);
                let payload = self.bytes.get(at + WORD, frame.len).map_err(SalvageError::reading)?;
                sink.frame(frame.kind, payload, frame.records, frame.time)?;
                self.records += frame.records;
                self.since += frame.records;
                self.sequence = self.sequence.map(|sequence| sequence + frame.records);
            }
            at = frame.end;
        };
        self.emit(sink);
        sink.progress(Position::new(at));
        Ok(Found { records: self.records, terminal, next_sequence: self.sequence })
    }

    /// An entry for this place tells the sequence.
    fn settle_by_anchor(&mut self, at: u64) {
        while let Some(anchor) = self.anchors.get(self.next_anchor).filter(|anchor| anchor.position <= at) {
            if anchor.position == at && self.sequence.is_none() {
                self.settle(anchor.sequence);
            }
            self.next_anchor += 1;
        }
    }

    /// A record that carries its sequence tells it.
    fn settle_by_stamp(&mut self, at: u64, frame: &Frame) {
        if let (None, Some(sequence)) = (self.sequence, frame.stamped)
            && sequence.checked_sub(self.header.first_sequence).is_some_and(|n| n <= at / WORD)
        {
            self.settle(sequence);
        }
    }

    /// The next record is `sequence`, if that is possible. Then it is also known which record came behind the gap.
    fn settle(&mut self, sequence: u64) {
        let Some(first) = sequence.checked_sub(self.since) else { return };
        let before = self.header.first_sequence + self.records - self.since;
        if first < before.max(self.pending.as_ref().and_then(|gap| gap.sequence).unwrap_or(0)) {
            return;
        }
        self.sequence = Some(sequence);
        if let Some(gap) = &mut self.pending {
            gap.next_sequence = Some(first);
        }
    }

    fn emit(&mut self, sink: &mut impl Sink) {
        if let Some(gap) = self.pending.take() {
            sink.gap(gap);
        }
    }

    /// There is no proven frame at `at`: looks for the next one. `None` if there is none, and no gap then if this is
    /// the tail.
    fn pass_over(&mut self, at: u64, bad: Bad, sink: &mut impl Sink) -> io::Result<Option<u64>> {
        self.emit(sink);
        let what = match bad {
            Bad::Nothing if at + WORD > self.bytes.len => "the file ends here, but there was data behind",
            Bad::Nothing => "nothing is written here, but there is data behind",
            Bad::Invalid(what) => what,
            Bad::Unknown(_) => "a frame of an unknown kind",
        };
        let from = if let Bad::Unknown(end) = bad { end } else { (at + WORD).min(self.bytes.len) };
        self.content = if bad == Bad::Nothing { at } else { from };
        let next = self.search(from, sink)?;
        let sequence = self.sequence.take();
        let gap = Gap {
            from: Position::new(at),
            to: Position::new(next.unwrap_or(self.content.max(self.written).max(at))),
            sequence,
            next_sequence: None,
            salvaged_sequence: self.header.first_sequence + self.records,
            resumes: next.is_some(),
            what,
        };
        self.since = 0;
        if next.is_some() {
            self.pending = Some(gap);
            return Ok(next);
        }
        // In the same boot what is behind the tail was never finished; in another it may be what is left of records.
        let is_tail = bad == Bad::Nothing && at >= self.written && (self.same_boot || self.content <= at);
        if is_tail {
            self.sequence = sequence;
        } else {
            let next_sequence =
                self.terminal_sequence.filter(|&end| sequence.is_some_and(|next| next <= end));
            self.pending = Some(Gap { next_sequence, ..gap });
            self.sequence = next_sequence;
        }
        Ok(None)
    }

    /// Whether frames are proven somewhere behind `at`, where the good ones end.
    pub(crate) fn goes_on_behind(mut self, at: u64) -> io::Result<bool> {
        Ok(self.search(at + WORD, &mut Deaf)?.is_some())
    }

    /// The first place from `from` on where a frame is proven.
    fn search(&mut self, from: u64, sink: &mut impl Sink) -> io::Result<Option<u64>> {
        let provable = self.header.checksum != Checksum::None;
        let mut at = from;
        while at + WORD <= self.bytes.len {
            if at >= self.told + STEP {
                sink.progress(Position::new(at));
                self.told = at;
            }
            if !self.bytes.has(at) {
                at = self.bytes.next_data(at);
                if at + WORD > self.bytes.len {
                    break;
                }
            }
            let head = Head(u64_at(self.bytes.get(at, WORD)?, 0));
            self.credit += WORD * CREDIT_PER_BYTE;
            if head.0 != 0 {
                self.content = at + WORD;
                if provable && (self.is_anchored(at, head)? || self.is_chain(at, head)?) {
                    return Ok(Some(at));
                }
            }
            at += WORD;
        }
        Ok(None)
    }

    /// Whether an entry leads to `at`, and the frame there passes its check.
    fn is_anchored(&mut self, at: u64, head: Head) -> io::Result<bool> {
        while self.anchors.get(self.next_anchor).is_some_and(|anchor| anchor.position < at) {
            self.next_anchor += 1;
        }
        if self.anchors.get(self.next_anchor).is_none_or(|anchor| anchor.position != at) {
            return Ok(false);
        }
        Ok(self.is_terminal(at, head) || (self.possible_end(at, head)?.is_some() && self.passes(at, head)?))
    }

    /// Whether [`CHAIN`] frames follow one another from `at` on. The heads are compared with what is possible before
    /// anything is computed from what they say.
    fn is_chain(&mut self, at: u64, first: Head) -> io::Result<bool> {
        if !matches!(Kind::from_number(first.kind_number()), Some(Kind::Record | Kind::Batch)) {
            return Ok(false);
        }
        let Some(mut end) = self.possible_end(at, first)? else { return Ok(false) };
        let (mut at, mut head) = (at, first);
        for length in 2..=CHAIN {
            if end + WORD > self.bytes.len {
                return Ok(false);
            }
            let next = Head(self.look(end)?);
            let next_end = match self.possible_end(end, next)? {
                Some(next_end) => next_end,
                // Nothing counts behind a terminal, so it can only be the last of the chain.
                None if length == CHAIN && self.is_terminal(end, next) => return self.passes(at, head),
                None => return Ok(false),
            };
            if !self.passes(at, head)? {
                return Ok(false);
            }
            (at, head, end) = (end, next, next_end);
        }
        self.passes(at, head)
    }

    /// A word, without losing the buffer. Costs something.
    fn look(&mut self, at: u64) -> io::Result<u64> {
        if !self.bytes.has(at) {
            self.credit = self.credit.saturating_sub(LOOK);
        }
        self.bytes.look(at)
    }

    fn is_terminal(&self, at: u64, head: Head) -> bool {
        Kind::from_number(head.kind_number()).is_some_and(Kind::is_terminal)
            && head.len() == 0
            && head.check() == self.salt.mix(at, head.kl())
    }

    /// Where a frame with this head would end, if it can be one; terminal frames are none here.
    fn possible_end(&mut self, at: u64, head: Head) -> io::Result<Option<u64>> {
        let end = at + frame_len(head.len());
        if end > self.bytes.len || end + WORD > self.header.capacity {
            return Ok(None);
        }
        let possible = match Kind::from_number(head.kind_number()) {
            Some(Kind::Record) => self.is_possible_record(head.kl()),
            Some(Kind::Batch) => {
                let fits = head.len() >= BATCH_HEADER && head.len().is_multiple_of(8);
                // Count and zero.
                fits && self.look(at + WORD)? <= head.len() / WORD
            }
            Some(Kind::Padding | Kind::Skippable) => true,
            _ => false,
        };
        Ok(possible.then_some(end))
    }

    /// Whether a record can have the length that the upper half of a header word says.
    fn is_possible_record(&self, kl: u32) -> bool {
        let around = u64::from(self.layout.around);
        let len = Head::new(kl, 0).len();
        kl >> 28 == Kind::Record as u32 && (around..=u64::from(self.header.max_record_len)).contains(&len)
    }

    /// Whether a frame that is possible passes its check, if there is credit left to find out.
    fn passes(&mut self, at: u64, head: Head) -> io::Result<bool> {
        let Some(left) = self.credit.checked_sub(head.len()) else { return Ok(false) };
        self.credit = left;
        Ok(self.bytes.crc(at + WORD, head.len())? ^ self.salt.mix(at, head.kl()) == head.check())
    }

    /// The frame at `at`, checked in the buffer.
    fn frame(&mut self, at: u64) -> io::Result<Result<Frame, Bad>> {
        if at + WORD > self.bytes.len {
            return Ok(Err(Bad::Nothing));
        }
        let head = Head(u64_at(self.bytes.get(at, WORD)?, 0));
        if head.0 == 0 {
            return Ok(Err(Bad::Nothing));
        }
        if at >= self.believed {
            return Ok(Err(Bad::Invalid("past the last sync nothing is believed without checksums")));
        }
        let kind = Kind::from_number(head.kind_number());
        if let Some(kind) = kind.filter(|kind| kind.is_terminal()) {
            let frame = Frame { kind, len: 0, end: at + WORD, records: 0, stamped: None, time: None };
            return Ok(match self.is_terminal(at, head) {
                true => Ok(frame),
                false => Err(Bad::Invalid("a terminal frame does not pass its check")),
            });
        }
        let end = at + frame_len(head.len());
        if end > self.bytes.len || end + WORD > self.header.capacity {
            return Ok(Err(Bad::Invalid("a frame reaches past the end of the file")));
        }
        // What a wrong head says costs credit, as in a search, or few bytes could make much work again and again.
        let Some(left) = self.credit.checked_sub(head.len()) else {
            return Ok(Err(Bad::Invalid("a frame does not pass its check")));
        };
        let checksum = self.header.checksum;
        let payload = &self.bytes.get(at, end - at)?[WORD as usize..][..head.len() as usize];
        let crc = if checksum == Checksum::None { 0 } else { crc32c_padded(payload) };
        if head.check() != crc ^ self.salt.mix(at, head.kl()) {
            self.credit = left;
            return Ok(Err(Bad::Invalid("a frame does not pass its check")));
        }
        Ok(match kind {
            None => Err(Bad::Unknown(end)),
            Some(kind) => self.proven(at, kind, head, end),
        })
    }

    /// What is in a frame that has passed its check and lies in the buffer.
    fn proven(&self, at: u64, kind: Kind, head: Head, end: u64) -> Result<Frame, Bad> {
        let payload = &self.bytes.buffered(at, end - at)[WORD as usize..][..head.len() as usize];
        let (records, first, last) = match kind {
            Kind::Record if !self.is_possible_record(head.kl()) => {
                return Err(Bad::Invalid("a record has an impossible length"));
            }
            Kind::Record => (1, Some(payload), Some(payload)),
            Kind::Batch => {
                let (mut first, mut last) = (None, None);
                let each = |record| {
                    first = first.or(Some(record));
                    last = Some(record);
                };
                let records = batch_records(payload, |kl| self.is_possible_record(kl), each);
                let count = records.ok_or(Bad::Invalid("a batch does not hold what it says"))?;
                (u64::from(count), first, last)
            }
            _ => (0, None, None),
        };
        let stamped = first.and_then(|stored| self.layout.sequence(stored));
        let time = last.and_then(|stored| self.layout.timestamp(stored));
        Ok(Frame { kind, len: head.len(), end, records, stamped, time })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nix::errno::Errno;

    use super::*;
    use crate::layout::PAGE;
    use crate::layout::frame::kind_and_length;
    use crate::layout::header::tests::sample;

    /// A file in memory that counts what is read of it, and some pages of which cannot be read.
    struct Disk {
        bytes: Vec<u8>,
        unreadable: Vec<u64>,
        read: Cell<u64>,
    }

    impl Storage for &Disk {
        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
            let len = buffer.len().min(self.bytes.len().saturating_sub(at as usize));
            let pages = at / PAGE..(at + len as u64).div_ceil(PAGE);
            let good = pages.clone().take_while(|page| !self.unreadable.contains(page)).count() as u64;
            // As the kernel does it: what is in front of the bad page, and an error only for nothing.
            let len = if good < pages.end - pages.start {
                ((pages.start + good) * PAGE).saturating_sub(at) as usize
            } else {
                len
            };
            if len == 0 && good == 0 && !pages.is_empty() {
                return Err(Errno::EIO.into());
            }
            buffer[..len].copy_from_slice(&self.bytes[at as usize..][..len]);
            self.read.set(self.read.get() + len as u64);
            Ok(len)
        }

        fn next_data(&self, at: u64, _: u64) -> u64 {
            at
        }
    }

    /// Collects what is found.
    #[derive(Default)]
    struct Basket {
        payloads: Vec<Vec<u8>>,
        gaps: Vec<Gap>,
    }

    impl Sink for Basket {
        fn frame(&mut self, _: Kind, payload: &[u8], _: u64, _: Option<u64>) -> Result<(), SalvageError> {
            self.payloads.push(payload.to_vec());
            Ok(())
        }

        fn gap(&mut self, gap: Gap) {
            self.gaps.push(gap);
        }

        fn progress(&mut self, _: Position) {}
    }

    /// A channel of `capacity` bytes with these payloads, without index and slots.
    fn disk(capacity: u64, payloads: &[Vec<u8>]) -> (Disk, Header) {
        let header = sample(capacity);
        let mut bytes = vec![0; (header.regions.data + capacity) as usize];
        bytes[..PAGE as usize].copy_from_slice(&header.encode().unwrap());
        let mut at = 0;
        for payload in payloads {
            let kl = kind_and_length(Kind::Record, payload.len() as u32);
            let head = Head::new(kl, crc32c_padded(payload) ^ header.mixing().mix(at, kl));
            let place = &mut bytes[(header.regions.data + at) as usize..];
            place[..8].copy_from_slice(&head.0.to_le_bytes());
            place[8..8 + payload.len()].copy_from_slice(payload);
            at += frame_len(payload.len() as u64);
        }
        (Disk { bytes, unreadable: Vec::new(), read: Cell::new(0) }, header)
    }

    fn survey(disk: &Disk, header: &Header) -> (Basket, Found) {
        let (layout, len) = (StageLayout::default(), disk.bytes.len() as u64);
        let mut survey = Survey::new(disk, len, header.clone(), layout, false).unwrap();
        let mut basket = Basket::default();
        let found = survey.run(&mut basket).unwrap();
        (basket, found)
    }

    #[test]
    fn what_the_disk_cannot_read_is_lost_and_nothing_else() {
        let payloads: Vec<_> = (0..1000_u32).map(|n| n.to_le_bytes().repeat(30)).collect();
        let (mut disk, header) = disk(1 << 20, &payloads);
        let first_page = header.regions.data / PAGE;
        disk.unreadable = vec![1, 2, first_page + 3, first_page + 4, first_page + 20];
        let (basket, found) = survey(&disk, &header);
        let hit = |n: u64| (3 * PAGE..5 * PAGE).contains(&n) || (20 * PAGE..21 * PAGE).contains(&n);
        let is_lost = |n: usize| (128 * n as u64..128 * n as u64 + 128).any(hit);
        let expected: Vec<_> =
            payloads.iter().enumerate().filter(|(n, _)| !is_lost(*n)).map(|(_, p)| p.clone()).collect();
        assert_eq!(found.records, expected.len() as u64);
        assert!(basket.payloads == expected);
        let gaps: Vec<_> = basket.gaps.iter().map(|gap| (gap.from.offset(), gap.to.offset())).collect();
        assert_eq!(gaps, [(3 * PAGE, 5 * PAGE), (20 * PAGE, 21 * PAGE)]);
    }

    #[test]
    fn forged_heads_with_long_lengths_cost_no_more_than_the_file_is_long() {
        let (mut disk, header) = disk(1 << 20, &[]);
        let data = header.regions.data;
        // Every word could be the head of a record that ends where another begins, 64 KiB on: for each of them a checksum
        // over 64 KiB would be computed in vain.
        let kl = kind_and_length(Kind::Record, 64 << 10);
        for at in (0..1 << 20).step_by(8) {
            let check = !header.mixing().mix(at, kl);
            disk.bytes[(data + at) as usize..][..8].copy_from_slice(&Head::new(kl, check).0.to_le_bytes());
        }
        let (layout, len) = (StageLayout::default(), disk.bytes.len() as u64);
        let mut survey = Survey::new(&disk, len, header.clone(), layout, false).unwrap();
        let given = CREDIT + CREDIT_PER_BYTE;
        let searched = survey.search(8, &mut Basket::default()).unwrap();
        assert_eq!(searched, None);
        let tried = (given << 20) - survey.credit;
        assert!(tried > 32 << 20, "{tried} bytes: the credit was never needed");
        // Near the end no second frame fits any more, so that nothing is tried.
        let rest = CREDIT_PER_BYTE * 2 * (64 << 10) + (64 << 10);
        assert!(survey.credit <= rest, "{} of it is left: it was not the limit", survey.credit);
        assert!(disk.read.get() < (given + 4) << 20, "{} bytes were read", disk.read.get());
        // Behind it an honest frame chain is found all the same.
        let (basket, _) = survey_of_honest_end(&mut disk, &header);
        assert_eq!(basket.payloads.len(), 3);
    }

    #[test]
    fn forged_heads_behind_good_chains_cost_no_more_than_the_file_is_long() {
        let (mut disk, header) = disk(1 << 20, &[]);
        let data = header.regions.data;
        // Again and again three empty records, which cost nothing to be found, and the head of a long one behind them.
        let long = kind_and_length(Kind::Record, 512 << 10);
        let empty = kind_and_length(Kind::Record, 0);
        for at in (0..64 << 10).step_by(8) {
            let head = match at % 32 {
                24 => Head::new(long, !header.mixing().mix(at, long)),
                _ => Head::new(empty, crc32c_padded(&[]) ^ header.mixing().mix(at, empty)),
            };
            disk.bytes[(data + at) as usize..][..8].copy_from_slice(&head.0.to_le_bytes());
        }
        let (layout, len) = (StageLayout::default(), disk.bytes.len() as u64);
        let mut survey = Survey::new(&disk, len, header.clone(), layout, false).unwrap();
        let mut basket = Basket::default();
        let found = survey.run(&mut basket).unwrap();
        assert!(found.records >= 6000 && basket.gaps.len() >= 2000, "{found:?}");
        // Every byte that was summed up in vain has been paid for, until nothing was left; then the rest of the file, which
        // is empty, was searched.
        let earned = CREDIT_PER_BYTE << 20;
        assert!(survey.credit < earned, "{} is left: the credit was not the limit", survey.credit);
    }

    /// The same file with three good records at its end.
    fn survey_of_honest_end(disk: &mut Disk, header: &Header) -> (Basket, Found) {
        let mut at = (1 << 20) - 4096;
        disk.bytes[(header.regions.data + at) as usize..].fill(0);
        for _ in 0..3 {
            let kl = kind_and_length(Kind::Record, 8);
            let head = Head::new(kl, crc32c_padded(&[1; 8]) ^ header.mixing().mix(at, kl));
            let place = &mut disk.bytes[(header.regions.data + at) as usize..];
            place[..8].copy_from_slice(&head.0.to_le_bytes());
            place[8..16].copy_from_slice(&[1; 8]);
            at += 16;
        }
        survey(disk, header)
    }
}
