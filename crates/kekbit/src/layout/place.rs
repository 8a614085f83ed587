//! A named cursor's file: how far its owner has come in a journal.
//!
//! ```text
//! 0      magic, version, zeros
//! 512    slot 0    written in turn with
//! 1024   slot 1    the other one, in another disk sector
//! 4096   end
//!
//! slot:  0            8            16           24      28
//!        +------------+------------+------------+-------+------+
//!        | sequence   | counter    | time       | CRC   | zero |
//!        +------------+------------+------------+-------+------+
//! ```
//!
//! Of two valid slots the one with the greater counter counts. The CRC is CRC-32C over the first 24 bytes of the slot. It is
//! written last, so that of a slot that was being written when its writer died nothing is believed.

use super::{crc, put, u64_at};

/// The first bytes of the file.
const MAGIC: [u8; 8] = *b"*KEKCUR*";
const VERSION: u64 = 1;
/// Where the slots are.
pub(crate) const SLOTS: [u64; 2] = [512, 1024];
/// Bytes of a slot.
pub(crate) const SLOT: usize = 32;
/// Bytes of the file.
pub(crate) const LEN: usize = 4096;

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// Sequence of the first record that is not done with.
    pub(crate) sequence: u64,
    /// Counts commits; the first is 1.
    pub(crate) counter: u64,
    /// When that was committed, in nanoseconds since the Unix epoch.
    pub(crate) time: u64,
}

impl Place {
    pub(crate) fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        put(&mut bytes, 0, self.sequence.to_le_bytes());
        put(&mut bytes, 8, self.counter.to_le_bytes());
        put(&mut bytes, 16, self.time.to_le_bytes());
        let check = crc::crc32c_padded(&bytes[..24]);
        put(&mut bytes, 24, check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SLOT]) -> Option<Place> {
        let place = Place { sequence: u64_at(bytes, 0), counter: u64_at(bytes, 8), time: u64_at(bytes, 16) };
        // Nobody counts so far that none could follow.
        let valid = (1..1 << 62).contains(&place.counter)
            && u64_at(bytes, 24) == u64::from(crc::crc32c_padded(&bytes[..24]));
        valid.then_some(place)
    }

    /// Where this place is written.
    pub(crate) fn slot(&self) -> u64 {
        SLOTS[(self.counter % 2) as usize]
    }

    /// A new file that says so.
    pub(crate) fn file(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, VERSION.to_le_bytes());
        bytes[self.slot() as usize..][..SLOT].copy_from_slice(&self.encode());
        bytes
    }

    /// What a file says: its newest valid slot. `Err` with what is wrong.
    pub(crate) fn read(bytes: &[u8]) -> Result<Place, &'static str> {
        let bytes: &[u8; LEN] = bytes.first_chunk().ok_or("it is cut short")?;
        if bytes[..8] != MAGIC {
            return Err("it is no cursor");
        }
        if u64_at(bytes, 8) != VERSION {
            return Err("it has a version that is not known");
        }
        let slots = SLOTS.map(|at| Place::decode(bytes[at as usize..].first_chunk().unwrap_or(&[0; SLOT])));
        let newest = slots.into_iter().flatten().max_by_key(|place| place.counter);
        newest.ok_or("neither of its slots is valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_of_two_valid_slots_counts() {
        let first = Place { sequence: 7, counter: 1, time: 100 };
        let mut file = first.file();
        assert_eq!(Place::read(&file), Ok(first));
        let second = Place { sequence: 9, counter: 2, time: 200 };
        assert_ne!(first.slot(), second.slot());
        file[second.slot() as usize..][..SLOT].copy_from_slice(&second.encode());
        assert_eq!(Place::read(&file), Ok(second));
    }

    #[test]
    fn of_a_slot_that_is_half_written_nothing_is_believed() {
        let (old, new) =
            (Place { sequence: 7, counter: 1, time: 100 }, Place { sequence: 300, counter: 3, time: 200 });
        let between = Place { sequence: 8, counter: 2, time: 150 };
        let mut file = old.file();
        file[between.slot() as usize..][..SLOT].copy_from_slice(&between.encode());
        assert_eq!(old.slot(), new.slot());
        for words in 0..=4 {
            let mut torn = file;
            torn[new.slot() as usize..][..8 * words].copy_from_slice(&new.encode()[..8 * words]);
            // With none of it written the old slot is valid, and older.
            let expected = if words == 4 { new } else { between };
            assert_eq!(Place::read(&torn), Ok(expected), "{words} words");
        }
    }

    #[test]
    fn what_is_no_cursor_is_not_taken_for_one() {
        assert!(Place::read(&[]).is_err() && Place::read(&[0; LEN]).is_err());
        let file = Place { sequence: 7, counter: 1, time: 100 }.file();
        assert!(Place::read(&file[..LEN - 1]).is_err());
        for byte in [0, 8, SLOTS[1] as usize, SLOTS[1] as usize + 24, SLOTS[1] as usize + 28] {
            let mut damaged = file;
            damaged[byte] ^= 1;
            assert!(Place::read(&damaged).is_err(), "byte {byte}");
        }
    }
}
