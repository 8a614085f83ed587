//! A channel that is right, with single fields changed and the checks around them repaired, so that the changes get past
//! them: opening, reading, seeking, verifying and sealing it end without a panic, and what is read lies in the file.
//! Without a change, everything that was put in is read.
//!
//! ```text
//! how to look at it | the channel: capacity, stages, records, batches, padding, terminal | changes
//! ```

#![no_main]

use kekbit::fuzzing::{Rules, crc32c_padded, entry_bytes, mix, slot_bytes};
use kekbit::{Channel, Start, State, Verify};
use kekbit_fuzz::frames::{BATCH, RECORD, check, push_frame, push_inner};
use kekbit_fuzz::input::Input;
use kekbit_fuzz::look::Look;
use kekbit_fuzz::place::{Place, with_place};
use libfuzzer_sys::fuzz_target;

const PAGE: usize = 4096;
const CONTROL: usize = PAGE;
const INDEX: usize = 2 * PAGE;
const DATA: usize = 3 * PAGE;
const SALT: [u8; 16] = *b"sixteen of salt!";
/// The longest file after a change of its length.
const LONGEST: u64 = 1 << 18;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let look = Look::new(&mut input);
    with_place(|place| {
        let mut built = Built::new(&mut input, place);
        let changes = 1 + input.below(6);
        let intact = input.is_empty();
        for _ in 0..changes {
            if !input.is_empty() {
                built.change(&mut input);
            }
        }
        place.put(&built.image, built.len, look.live);
        if intact && look.reads_all() {
            built.is_all_there(place);
        }
        look.at(place, built.len, &mut input, &built.marks);
        place.release(look.live);
        place.buffer = built.image;
    });
});

/// A channel as a writer leaves it, with the places of everything that can be changed.
struct Built {
    image: Vec<u8>,
    len: u64,
    rules: Rules,
    /// Sequence and stored bytes of each record.
    records: Vec<(u64, Vec<u8>)>,
    /// Offsets of the header words of frames, also of those in batches; whether a frame has a check.
    heads: Vec<(usize, bool)>,
    /// Offsets of entries and slots that are written.
    entries: Vec<usize>,
    state: State,
    /// Numbers that mean something here.
    marks: Vec<u64>,
}

impl Built {
    fn new(input: &mut Input<'_>, place: &mut Place) -> Built {
        let (kind, ending) = (input.byte(), input.byte());
        let capacity = PAGE << (kind & 1);
        let (stamped, sequenced) = (kind & 2 != 0, kind & 4 != 0);
        let rules = Rules {
            salt: SALT,
            crc: kind & 8 == 0,
            verify: true,
            written: 0,
            sound: u64::MAX,
            believed: u64::MAX,
            durable: None,
            around: 8 * (u32::from(stamped) + u32::from(sequenced)),
            max_record_len: 1 << 10,
        };
        let first = if kind & 16 == 0 { u64::from(kind) } else { 1 << 63 };
        let mut image = std::mem::take(&mut place.buffer);
        image.clear();
        image.resize(DATA, 0);
        let mut built = Built {
            image,
            len: 0,
            rules,
            records: Vec::new(),
            heads: Vec::new(),
            entries: Vec::new(),
            state: State::Abandoned,
            marks: Vec::new(),
        };
        let mut data = Vec::with_capacity(capacity);
        let mut index = vec![(0_u64, first, 1_000_u64, false)];
        for _ in 0..ending & 15 {
            let piece = input.byte();
            let (before, begun) = (built.records.len(), data.len());
            built.push(&mut data, input, piece, first);
            if data.len() + 16 > capacity {
                // It does not fit: as if it had never been.
                data.truncate(begun);
                built.records.truncate(before);
                built.heads.retain(|(at, _)| *at < DATA + begun);
                break;
            }
            if piece & 0x40 != 0 {
                let next = first + built.records.len() as u64;
                index.push((data.len() as u64, next, 1_000 + next % 1_000, false));
            }
        }
        let (tail, next) = (data.len() as u64, first + built.records.len() as u64);
        let terminal = [0, 4, 5, 6][usize::from(ending >> 4 & 3)];
        if terminal != 0 {
            index.push((tail, next, 3_000, true));
            built.heads.push((DATA + data.len(), true));
            push_frame(&mut data, &rules, terminal, &[]);
            built.state = [State::Closed, State::Full, State::Abandoned][usize::from(terminal) - 4];
        }
        let end = data.len() as u64;
        let synced = if ending & 0x40 == 0 { end } else { 0 };
        data.resize(capacity, 0);
        built.image.extend_from_slice(&data);
        built.len = built.image.len() as u64;
        built.write_header(capacity as u64, first, (stamped, sequenced), place, ending & 0x80 != 0);
        built.write_control(synced, tail, next);
        for (i, (position, sequence, time, terminal)) in index.into_iter().enumerate() {
            let at = INDEX + 32 * i;
            built.put(at, &entry_bytes(position, sequence, time, terminal, SALT));
            built.entries.push(at);
        }
        built.marks = vec![built.len, DATA as u64, capacity as u64, tail, next, first, 1_000, INDEX as u64];
        // What another boot believes of a channel without checksums is what was synced.
        if !rules.crc && synced < end && ending & 0x80 == 0 {
            built.records.clear();
            built.state = State::Torn;
        }
        built
    }

    /// A record, a batch, or something that is passed over.
    fn push(&mut self, data: &mut Vec<u8>, input: &mut Input<'_>, piece: u8, first: u64) {
        let at = DATA + data.len();
        match piece & 7 {
            0 | 1 => {
                let kind = [3, 12, 13, 15][usize::from(piece >> 3 & 3)];
                let len = input.below(48);
                push_frame(data, &self.rules, kind, input.take(len));
            }
            2 | 3 => {
                let count = input.below(5);
                let mut batch = (count as u64).to_le_bytes().to_vec();
                for _ in 0..count {
                    self.heads.push((at + 8 + batch.len(), false));
                    let stored = self.stored(input, first);
                    push_inner(&mut batch, &stored);
                }
                push_frame(data, &self.rules, BATCH, &batch);
            }
            _ => {
                let stored = self.stored(input, first);
                push_frame(data, &self.rules, RECORD, &stored);
            }
        }
        self.heads.push((at, true));
    }

    /// The next record, as it is stored.
    fn stored(&mut self, input: &mut Input<'_>, first: u64) -> Vec<u8> {
        let sequence = first + self.records.len() as u64;
        let mut stored = Vec::with_capacity(80);
        for _ in 0..self.rules.around / 8 {
            stored.extend_from_slice(&(1_000 + sequence % 1_000).to_le_bytes());
        }
        let len = input.below(64);
        stored.extend_from_slice(input.take(len));
        self.records.push((sequence, stored.clone()));
        stored
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.image.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn write_header(&mut self, capacity: u64, first: u64, stages: (bool, bool), place: &Place, here: bool) {
        self.put(0, b"*KEKBIT*\0\0\0\0\0\0\x02\0");
        self.put(32, &capacity.to_le_bytes());
        self.put(40, &self.rules.max_record_len.to_le_bytes());
        self.put(45, &[u8::from(self.rules.crc)]);
        self.put(56, &900_u64.to_le_bytes());
        self.put(64, &first.to_le_bytes());
        self.put(72, &SALT);
        if here {
            let (boot_id, inode) = place.born();
            self.put(88, &boot_id);
            self.put(104, &inode.to_le_bytes());
        }
        let table = [0, PAGE, CONTROL, PAGE, INDEX, PAGE, DATA, capacity as usize, 1 << 20, 1 << 16, 1];
        for (i, word) in table.into_iter().enumerate() {
            self.put(112 + 8 * i, &(word as u64).to_le_bytes());
        }
        let mut attributes = Vec::new();
        attribute(&mut attributes, 1, b"text/plain");
        if stages.0 {
            attribute(&mut attributes, 3, b"\x01\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0t\0");
        }
        if stages.1 {
            attribute(&mut attributes, 3, b"\x02\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0s");
        }
        attribute(&mut attributes, 4, b"\x01\0kv");
        self.put(216, &(attributes.len() as u32).to_le_bytes());
        self.put(224, &attributes);
        self.repair_header();
    }

    fn write_control(&mut self, synced: u64, tail: u64, next: u64) {
        self.put(CONTROL, &synced.to_le_bytes());
        let reserved = (self.len - DATA as u64).to_le_bytes();
        self.put(CONTROL + 128, &reserved);
        self.put(CONTROL + 512, &entry_bytes(tail, next, 2_000, false, SALT));
        self.put(CONTROL + 2048, &slot_bytes(0, 2, SALT));
        self.put(CONTROL + 3072, &slot_bytes(synced, 3, SALT));
        self.entries.extend([CONTROL + 512, CONTROL + 2048, CONTROL + 3072]);
    }

    /// The salt that checks are made with: the file's, which may have been changed.
    fn salt(&self) -> [u8; 16] {
        let mut salt = SALT;
        salt.copy_from_slice(&self.image[72..88]);
        salt
    }

    fn repair_header(&mut self) {
        let check = crc32c_padded(&self.image[..PAGE - 4]);
        self.put(PAGE - 4, &check.to_le_bytes());
    }

    /// Changes one field, and repairs the check that covers it.
    fn change(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        let pick = usize::from(input.byte());
        match what % 8 {
            // A word, a half or a byte of the header.
            0 | 1 => {
                let (at, width) = match what >> 3 & 3 {
                    0 => (32 + 8 * (pick % 23), 8),
                    1 => (216 + pick % 32 * 4, 4),
                    2 => (16 + pick, 1),
                    // The regions.
                    _ if pick < 224 => (112 + 8 * (pick % 10), 8),
                    // An index without a slot, where the data begins.
                    _ => {
                        self.put(144, &(DATA as u64).to_le_bytes());
                        self.put(152, &[0; 8]);
                        (176, 8)
                    }
                };
                self.write(at, width, input);
                self.repair_header();
            }
            2 => {
                let at = self.entries[pick % self.entries.len()];
                self.write(at + 8 * (usize::from(what >> 3) % 3), 8, input);
                self.repair_entry(at, what);
            }
            // An entry where there was none, in the index or in the trail.
            3 => {
                let at =
                    if what & 8 == 0 { INDEX + 32 * (pick % 128) } else { CONTROL + 512 + 32 * (pick % 16) };
                let (position, sequence) = (input.number(&self.marks) & !7, input.number(&self.marks));
                let time = input.number(&self.marks);
                let bytes = entry_bytes(position, sequence, time, what & 16 != 0, self.salt());
                self.put(at, &bytes);
                self.entries.push(at);
            }
            // The header word of a frame.
            4 | 5 => {
                let Some(&(at, checked)) = self.heads.get(pick % self.heads.len().max(1)) else { return };
                match what >> 3 & 3 {
                    0 => {
                        let kind = self.image[at + 7] & 15 | input.byte() << 4;
                        self.put(at + 7, &[kind]);
                    }
                    1 => self.write(at, 8, input),
                    // The first word of the payload: what a batch counts, or the word behind.
                    2 => self.write(at + 8, 4, input),
                    _ => {
                        let kind = self.image.get(at + 7).map_or(0, |byte| byte & 0xF0);
                        self.write(at + 4, 4, input);
                        let byte = self.image.get(at + 7).map_or(0, |byte| byte & 15);
                        self.put(at + 7, &[kind | byte]);
                    }
                }
                if checked {
                    self.repair_frame(at);
                }
                if what & 0x80 != 0 {
                    self.repair_all_frames();
                }
            }
            // Bytes anywhere, and every check that is right repaired or none.
            6 => {
                let at = DATA + 8 * pick;
                let bytes = input.take(usize::from(what >> 3 & 15));
                self.put(at, bytes);
                if what & 0x80 != 0 {
                    self.repair_all_frames();
                }
            }
            // The length of the file: cut, or with a hole behind.
            _ => self.len = input.number(&self.marks) % LONGEST,
        }
    }

    fn write(&mut self, at: usize, width: usize, input: &mut Input<'_>) {
        let number = input.number(&self.marks).to_le_bytes();
        self.put(at, &number[..width]);
    }

    /// Slots and entries lie in different places.
    fn repair_entry(&mut self, at: usize, what: u8) {
        let salt = self.salt();
        let word = |i: usize| u64_at(&self.image, at + 8 * i);
        if matches!(at, 6144 | 7168) {
            let bytes = slot_bytes(word(0), word(1), salt);
            self.put(at, &bytes);
        } else {
            let terminal = (self.image[at + 28] == 2) != (what & 0x80 != 0);
            let bytes = entry_bytes(word(0), word(1), word(2), terminal, salt);
            self.put(at, &bytes);
        }
    }

    /// The check of the frame whose header word is at `at`, if the file has its payload.
    fn repair_frame(&mut self, at: usize) {
        let word = u64_at(&self.image, at);
        let (kl, len) = ((word >> 32) as u32, (word >> 32 & 0x0FFF_FFFF) as usize);
        let rules = Rules { salt: self.salt(), ..self.rules };
        let position = (at - DATA) as u64;
        let check = match self.image.get(at + 8..at + 8 + len) {
            Some(payload) => check(&rules, position, kl, payload),
            None => mix(rules.salt, position, kl),
        };
        self.put(at, &check.to_le_bytes());
    }

    fn repair_all_frames(&mut self) {
        for (at, checked) in self.heads.clone() {
            if checked {
                self.repair_frame(at);
            }
        }
    }

    /// Without a change everything is read that was put in.
    fn is_all_there(&self, place: &Place) {
        let options = Channel::options().verify(Verify::Always).stored(true);
        let channel = options.open(place.path()).expect("it is a channel");
        let mut reader = channel.reader(Start::Beginning).expect("it has a beginning");
        for (sequence, stored) in &self.records {
            let record = reader.try_next().expect("it is not damaged").expect("all records are there");
            assert_eq!((record.sequence(), record.stored()), (*sequence, &stored[..]));
        }
        assert!(matches!(reader.try_next(), Ok(None)));
        let end = channel.verify(|_| ()).expect("it is not damaged");
        assert_eq!(end.state, self.state);
        assert_eq!(channel.end_point().expect("it is not damaged").position, end.position);
    }
}

/// Appends an attribute.
fn attribute(attributes: &mut Vec<u8>, tag: u16, value: &[u8]) {
    attributes.extend_from_slice(&tag.to_le_bytes());
    attributes.extend_from_slice(&(value.len() as u16).to_le_bytes());
    attributes.extend_from_slice(value);
    attributes.resize(attributes.len().next_multiple_of(8), 0);
}

/// A word of the image, which may end before.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}
