//! An entry of the index, and of the trail in the control region: 32 bytes that tie a position to a sequence and a time.
//!
//! ```text
//! 0           8           16          24      28      32
//! +-----------+-----------+-----------+-------+-------+
//! | position  | sequence  | time      | check | mark  |
//! +-----------+-----------+-----------+-------+-------+
//! ```
//!
//! `check` is the CRC-32C of the first 24 bytes, mixed with the salt and the mark. A mark of zero means "no entry".
//! Entries are derived data: they can be lost without a loss of records, and a reader checks one before it trusts it.

use super::frame::Salt;
use super::{crc, put, u32_at, u64_at};

/// Bytes of an entry.
pub(crate) const ENTRY: u64 = 32;

/// What stands at an entry's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Mark {
    /// A record, a batch, or the place where the next one will be.
    Frame = 1,
    /// The terminal frame.
    Terminal = 2,
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Offset of a frame in the data region.
    pub(crate) position: u64,
    /// Sequence of the first record at or behind that position.
    pub(crate) sequence: u64,
    /// Nanoseconds since the Unix epoch when the entry was written: not before any earlier record. The record at the
    /// position may have been stamped a moment before.
    pub(crate) time: u64,
    pub(crate) mark: Mark,
}

impl Entry {
    pub(crate) fn encode(&self, salt: Salt) -> [u8; ENTRY as usize] {
        let mut bytes = [0; ENTRY as usize];
        put(&mut bytes, 0, self.position.to_le_bytes());
        put(&mut bytes, 8, self.sequence.to_le_bytes());
        put(&mut bytes, 16, self.time.to_le_bytes());
        let check = check(&bytes, salt, self.mark as u32);
        put(&mut bytes, 24, check.to_le_bytes());
        put(&mut bytes, 28, (self.mark as u32).to_le_bytes());
        bytes
    }

    /// The entry in `bytes`, or `None` if there is none or it does not pass its check.
    pub(crate) fn decode(bytes: &[u8; ENTRY as usize], salt: Salt) -> Option<Entry> {
        let mark = match u32_at(bytes, 28) {
            1 => Mark::Frame,
            2 => Mark::Terminal,
            _ => return None,
        };
        let entry =
            Entry { position: u64_at(bytes, 0), sequence: u64_at(bytes, 8), time: u64_at(bytes, 16), mark };
        (check(bytes, salt, mark as u32) == u32_at(bytes, 24) && entry.position.is_multiple_of(8))
            .then_some(entry)
    }

    /// Whether `bytes` hold something, valid or not.
    pub(crate) fn is_written(bytes: &[u8; ENTRY as usize]) -> bool {
        u32_at(bytes, 28) != 0
    }
}

fn check(bytes: &[u8; ENTRY as usize], salt: Salt, mark: u32) -> u32 {
    crc::crc32c_padded(&bytes[..24]) ^ salt.mix(u64::MAX, mark)
}

/// Number of slots of an index: one entry an interval at least, twice that at most, first and terminal, and enough
/// for heartbeats in a small channel.
pub(crate) const fn index_slots(capacity: u64, interval: u64) -> u64 {
    let slots = 2 * (capacity / interval) + 2;
    if slots < 128 { 128 } else { slots }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_a_round_trip_and_no_flipped_bit() {
        let salt = Salt::new(*b"sixteen of salt!");
        let entry = Entry { position: 104, sequence: 9, time: 1_700_000_000_000_000_000, mark: Mark::Frame };
        let bytes = entry.encode(salt);
        assert_eq!(Entry::decode(&bytes, salt), Some(entry));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::decode(&damaged, salt), None, "bit {bit}");
        }
        assert_eq!(Entry::decode(&bytes, Salt::new(*b"other salt here!")), None);
    }
}
