//! What the fuzz targets of `fuzz/` need beyond the library's face: its layouts, and its cursor over plain memory.
//!
//! Compiled with `--cfg fuzzing` only, which nobody but a fuzzer sets. No part of the library: it may change at any time.

use crate::cursor::{Belief, Cursor, Growth, Step};
use crate::error::{FormatError, ReadError};
use crate::handler::{AppendContext, Handler, StageInfo};
use crate::layout::entry::{Entry, Mark};
use crate::layout::frame::{Checksum, Kind, Salt};
use crate::layout::{attributes, control, crc, entry, frame, header};
use crate::lz4::Lz4;
use crate::memory::Memory;
use crate::publish::{Place, Window};
use crate::stage_layout::StageLayout;
use crate::time::Clock;
use crate::undo::Undone;
use crate::{Position, cursor};

/// The record that `payload` becomes in a channel that compresses so many times.
pub fn compress(payload: &[u8], times: usize) -> Vec<u8> {
    let mut clock = Clock::default();
    let mut record = payload.to_vec();
    for _ in 0..times {
        let (mut body, mut stage) = (Vec::new(), Lz4::new());
        let mut cx = AppendContext::new(0, &mut clock);
        stage.instead(&mut cx, &record, &mut body).expect("it is not too long");
        let mut prefix = [0; 4];
        stage.before(&mut cx, &body, &mut prefix).expect("its prefix is that long");
        record = [&prefix[..], &body].concat();
    }
    record
}

/// The payload of `stored`, as readers of a channel with these stages make it; `None` if one of them cannot be undone.
///
/// # Panics
///
/// If the payload need not be made.
pub fn undo(stages: &[StageInfo], stored: &[u8]) -> Option<Vec<u8>> {
    let layout = StageLayout::new(stages, u32::MAX).expect("these are stages");
    let mut undone = Undone::new(&layout).expect("something stands in place of the payload");
    let made = undone.undo(stored, 0, 0);
    if let Err(error) = &made {
        assert!(!error.to_string().is_empty());
    }
    made.ok().map(|()| undone.payload().to_vec())
}

/// CRC-32C of `bytes`, zero-padded to a multiple of 8.
pub fn crc32c_padded(bytes: &[u8]) -> u32 {
    crc::crc32c_padded(bytes)
}

/// What position, kind and length add to a check.
pub fn mix(salt: [u8; 16], position: u64, kl: u32) -> u32 {
    Salt::new(salt).mix(position, kl)
}

/// The boot id as it is recorded in a header.
pub fn boot_id() -> [u8; 16] {
    crate::time::boot_id()
}

/// A header, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header(header::Header);

impl Header {
    /// Decodes it.
    ///
    /// # Errors
    ///
    /// As opening a channel.
    pub fn decode(bytes: &[u8]) -> Result<Header, FormatError> {
        header::Header::decode(bytes).map(Header)
    }

    /// Encodes it, if the attributes fit.
    pub fn encode(&self) -> Option<[u8; 4096]> {
        self.0.encode()
    }

    /// The attributes.
    pub fn attributes(&self) -> Attributes {
        Attributes(self.0.attributes.clone())
    }

    /// Where control, index and data begin and end, and the capacity.
    pub fn regions(&self) -> ([(u64, u64); 3], u64) {
        let r = &self.0.regions;
        let control = (r.control, r.control + crate::layout::PAGE);
        let index = (r.index, r.index + r.index_len);
        ([control, index, (r.data, r.data + self.0.capacity)], self.0.capacity)
    }

    /// The longest record.
    pub fn max_record_len(&self) -> u32 {
        self.0.max_record_len
    }

    /// What the stages put before and behind the payload, and the timestamp and the sequence that they have put into
    /// `stored`.
    ///
    /// # Errors
    ///
    /// As opening a channel.
    pub fn take_apart(&self, stored: &[u8]) -> Result<Parts, &'static str> {
        let layout = StageLayout::new(&self.0.attributes.stages, self.0.max_record_len)?;
        let (timestamp, sequence) = (layout.timestamp(stored), layout.sequence(stored));
        // In front of what a stage stands in place of, or of the payload.
        let prefix = layout.around as usize - layout.suffix;
        Ok(Parts { prefix, suffix: layout.suffix, timestamp, sequence })
    }

    /// Number of slots that the index should have.
    pub fn index_slots(&self) -> u64 {
        entry::index_slots(self.0.capacity, self.0.index_interval)
    }
}

/// What the stages of a header make of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Bytes before the payload.
    pub prefix: usize,
    /// Bytes behind it.
    pub suffix: usize,
    /// Nanoseconds since the epoch.
    pub timestamp: Option<u64>,
    /// The sequence stage's.
    pub sequence: Option<u64>,
}

/// Attributes, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attributes(attributes::Attributes);

impl Attributes {
    /// Decodes them.
    ///
    /// # Errors
    ///
    /// As opening a channel.
    pub fn decode(bytes: &[u8]) -> Result<Attributes, &'static str> {
        attributes::Attributes::decode(bytes).map(Attributes)
    }

    /// Encodes them, if they fit.
    pub fn encode(&self) -> Option<Vec<u8>> {
        self.0.encode()
    }

    /// Bytes of memory that they hold.
    pub fn footprint(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let stages = self.0.stages.iter().map(|s| s.name.capacity() + s.params.capacity());
        let user = self.0.user.iter().map(|(key, value)| key.capacity() + value.capacity());
        let tables = self.0.stages.capacity() * size_of::<StageInfo>()
            + self.0.user.capacity() * size_of::<(String, String)>();
        text(&self.0.content_type) + text(&self.0.schema) + stages.chain(user).sum::<usize>() + tables
    }
}

/// A slot's synced tail and counter.
pub fn slot(bytes: &[u8; 24], salt: [u8; 16]) -> Option<(u64, u64)> {
    control::Slot::decode(bytes, Salt::new(salt)).map(|slot| (slot.synced, slot.counter))
}

/// The slot as bytes.
pub fn slot_bytes(synced: u64, counter: u64, salt: [u8; 16]) -> [u8; 24] {
    control::Slot { synced, counter }.encode(Salt::new(salt))
}

/// Position, sequence and time of an entry of the index, and whether it is the terminal's.
pub fn entry(bytes: &[u8; 32], salt: [u8; 16]) -> Option<(u64, u64, u64, bool)> {
    let entry = Entry::decode(bytes, Salt::new(salt))?;
    Some((entry.position, entry.sequence, entry.time, entry.mark == Mark::Terminal))
}

/// The entry as bytes.
pub fn entry_bytes(position: u64, sequence: u64, time: u64, terminal: bool, salt: [u8; 16]) -> [u8; 32] {
    let mark = if terminal { Mark::Terminal } else { Mark::Frame };
    Entry { position, sequence, time, mark }.encode(Salt::new(salt))
}

/// Kind number, length and check of a header word, and the bytes that its frame takes.
pub fn head(word: u64) -> (u8, u64, u32, u64) {
    let head = frame::Head(word);
    (head.kind_number(), head.len(), head.check(), frame::frame_len(head.len()))
}

/// How a walk checks what it finds.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are those of the cursor's own rules")]
pub struct Rules {
    pub salt: [u8; 16],
    pub crc: bool,
    pub verify: bool,
    pub written: u64,
    pub sound: u64,
    pub believed: u64,
    pub durable: Option<u64>,
    pub around: u32,
    pub max_record_len: u32,
}

/// What a step of a walk has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The record `sequence` at `position`, whose stored bytes are `len` from `at` on.
    Record {
        /// Of the frame or its batch.
        position: u64,
        /// Of the record.
        sequence: u64,
        /// Where its bytes begin.
        at: u64,
        /// How many they are.
        len: u64,
    },
    /// Nothing yet.
    Nothing,
    /// A terminal frame of this kind.
    End(u8),
    /// What a crash has left.
    Torn,
    /// Something that is not durable.
    Unsynced,
    /// Damage at this position.
    Corrupt(u64),
    /// A frame of an unknown kind at this position.
    Unknown(u64, u8),
}

/// A cursor over plain memory.
#[derive(Debug)]
pub struct Walk<'m> {
    cursor: Cursor<Window<Plain<'m>>>,
    memory: &'m [u8],
    growth: Reach,
}

impl<'m> Walk<'m> {
    /// A walk from the beginning of `memory`, of which the first `bound` bytes are said to be there at first, and
    /// `grown` when it is asked for.
    pub fn new(memory: &'m [u8], bound: u64, grown: u64, first_sequence: u64, rules: &Rules) -> Walk<'m> {
        let window = Window::new(Plain(memory), bound);
        let Rules { written, sound, believed, durable, .. } = *rules;
        let rules = cursor::Rules {
            salt: Salt::new(rules.salt),
            checksum: if rules.crc { Checksum::Crc32c } else { Checksum::None },
            verify: rules.verify,
            belief: Belief { written, sound, believed },
            around: rules.around,
            max_record_len: rules.max_record_len,
        };
        let mut cursor = Cursor::new(window, first_sequence, rules);
        cursor.set_durable(durable.is_some());
        Walk { cursor, memory, growth: Reach { grown, durable: durable.unwrap_or(u64::MAX) } }
    }

    /// One step.
    pub fn step(&mut self) -> Found {
        match self.cursor.step(&self.growth) {
            Ok(Step::Record) => {
                let bytes = self.cursor.record();
                Found::Record {
                    position: self.cursor.record_position(),
                    sequence: self.cursor.sequence() - 1,
                    at: (bytes.as_ptr().addr() - self.memory.as_ptr().addr()) as u64,
                    len: bytes.len() as u64,
                }
            }
            Ok(Step::Nothing) => Found::Nothing,
            Ok(Step::End(kind)) => Found::End(match kind {
                Kind::Closed => 4,
                Kind::Full => 5,
                _ => 6,
            }),
            Ok(Step::Torn) => Found::Torn,
            Ok(Step::Unsynced) => Found::Unsynced,
            Err(ReadError::Corrupt { position, .. }) => Found::Corrupt(position.offset()),
            Err(ReadError::UnknownKind { position, kind }) => Found::Unknown(position.offset(), kind),
            Err(error) => panic!("plain memory makes no such error: {error}"),
        }
    }

    /// How far the bytes reach that have been looked at.
    pub fn reach(&self) -> u64 {
        self.cursor.reach()
    }

    /// Moves to a frame, if the memory reaches that far.
    pub fn move_to(&mut self, position: Position, sequence: u64) -> bool {
        self.cursor.move_to(position.offset(), sequence, &self.growth).is_ok_and(|moved| moved)
    }
}

/// Memory in which every access is checked: one that is out of bounds is a panic.
#[derive(Debug)]
struct Plain<'m>(&'m [u8]);

impl<'m> Memory for Plain<'m> {
    type Bytes<'a>
        = &'m [u8]
    where
        Self: 'a;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    unsafe fn load(&self, at: u64) -> u64 {
        assert!(at.is_multiple_of(8), "words are loaded where words are");
        crate::layout::u64_at(self.0, at as usize)
    }

    unsafe fn bytes(&self, at: u64, len: u64) -> &'m [u8] {
        &self.0[at as usize..][..len as usize]
    }
}

/// What is there when the cursor asks.
#[derive(Debug)]
struct Reach {
    grown: u64,
    durable: u64,
}

impl<M: Memory> Growth<Window<M>> for Reach {
    fn grow(&self, window: &mut Window<M>, _: u64) -> Result<bool, ReadError> {
        let grown = self.grown > window.bound();
        if grown {
            window.set_bound(self.grown);
        }
        Ok(grown)
    }

    fn jump(&self, window: &mut Window<M>, at: u64) -> Result<bool, ReadError> {
        Ok(window.move_to(at) || (self.grow(window, at)? && window.move_to(at)))
    }

    fn durable_tail(&self) -> u64 {
        self.durable
    }
}
