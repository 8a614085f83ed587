//! The control region: the only page behind the header that the writer changes.
//!
//! ```text
//! 0     synced tail     live word: position up to which a sync has succeeded
//! 128   reserved end    live word: bytes of the data region that are reserved on the disk
//! 256   heartbeat       live word: nanoseconds since the Unix epoch of the writer's last sign of life
//! 512   trail           16 entries, written in turn, one every 64 KiB of data: where the tail was lately
//! 2048  slot 0          synced tail for after a crash, written in turn with
//! 3072  slot 1          the other one, in another disk sector
//! ```
//!
//! Everything else is zero. The live words serve readers in the same boot; after a crash only the slots count.
//!
//! ```text
//! slot:  0             8          16       20      24
//!        +-------------+----------+--------+-------+
//!        | synced tail | counter  | check  | zero  |
//!        +-------------+----------+--------+-------+
//! ```
//!
//! A slot is written to the disk by the sync that comes **after** the one that it tells of, so what it says was already
//! true when it was written; it may lag the truth by one sync, and by 17 where each record is synced. It does not where more depends on it: at the end of a
//! channel, and in a channel without checksums, a sync is followed by another one of this page alone.

use super::frame::Salt;
use super::{crc, put, u32_at, u64_at};

/// Live word: synced tail.
pub(crate) const SYNCED: u64 = 0;
/// Live word: reserved end of the data region.
pub(crate) const RESERVED: u64 = 128;
/// Live word: heartbeat.
pub(crate) const HEARTBEAT: u64 = 256;
/// First entry of the trail.
pub(crate) const TRAIL: u64 = 512;
/// Entries of the trail.
pub(crate) const TRAIL_SLOTS: u64 = 16;
/// Bytes of data between two entries of the trail, unless a frame is longer.
pub(crate) const TRAIL_STEP: u64 = 64 << 10;
/// The two slots.
pub(crate) const SLOTS: [u64; 2] = [2048, 3072];
/// Bytes of a slot.
pub(crate) const SLOT: usize = 24;

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) synced: u64,
    pub(crate) counter: u64,
}

impl Slot {
    pub(crate) fn encode(&self, salt: Salt) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        put(&mut bytes, 0, self.synced.to_le_bytes());
        put(&mut bytes, 8, self.counter.to_le_bytes());
        let check = check(&bytes, salt);
        put(&mut bytes, 16, check.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SLOT], salt: Salt) -> Option<Slot> {
        let valid = check(bytes, salt) == u32_at(bytes, 16) && u32_at(bytes, 20) == 0;
        let slot = Slot { synced: u64_at(bytes, 0), counter: u64_at(bytes, 8) };
        // No writer counts that far, and the next counter must be larger.
        (valid && slot.counter < 1 << 63).then_some(slot)
    }

    /// The one that counts of two slots: the newer valid one.
    pub(crate) fn newer(a: Option<Slot>, b: Option<Slot>) -> Option<Slot> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if a.counter > b.counter { a } else { b }),
            (a, b) => a.or(b),
        }
    }
}

fn check(bytes: &[u8; SLOT], salt: Salt) -> u32 {
    crc::crc32c_padded(&bytes[..16]) ^ salt.mix(u64::MAX, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_valid_slot_counts() {
        let salt = Salt::new([3; 16]);
        let (old, new) = (Slot { synced: 8, counter: 1 }, Slot { synced: 64, counter: 2 });
        let (mut a, b) = (new.encode(salt), old.encode(salt));
        let read = |a: &_, b: &_| Slot::newer(Slot::decode(a, salt), Slot::decode(b, salt));
        assert_eq!(read(&a, &b), Some(new));
        assert_eq!(read(&b, &a), Some(new));
        a[3] ^= 1;
        assert_eq!(read(&a, &b), Some(old));
        assert_eq!(Slot::decode(&[0; SLOT], salt), None);
    }
}
