//! A frame: one header word, then the payload, zero-padded to 8 bytes.
//!
//! ```text
//!  63    60 59                    32 31                     0
//! +--------+------------------------+------------------------+
//! | kind   | length of the payload  | check                  |   header word
//! +--------+------------------------+------------------------+
//! | payload ...                          zero padding to 8   |
//! +----------------------------------------------------------+
//!   \______________ kl ____________/
//! ```
//!
//! A word of zero means "not written": no kind is zero. The check mixes the payload's CRC-32C with the frame's
//! position, kind and length and with the channel's salt, so that a frame that is stale, that was moved, or that is
//! left over from an earlier life of a reused file does not pass.
//!
//! A batch is one frame whose payload is a count, a zero, and `count` inner frames of kind record with a check of zero.

use super::{PAGE, u32_at, u64_at};

/// Bytes of a header word.
pub(crate) const WORD: u64 = 8;
/// The longest payload that the 28 bits of a length can tell: 256 MiB - 1.
pub(crate) const MAX_PAYLOAD: u64 = (1 << 28) - 1;
/// Bytes in front of the first inner frame of a batch's payload: count and zero.
pub(crate) const BATCH_HEADER: u64 = 8;

/// What a frame is. The numbers are those of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Record = 1,
    Batch = 2,
    Padding = 3,
    Closed = 4,
    Full = 5,
    Abandoned = 6,
    /// Kinds 12 to 15, which a reader that does not know them passes over.
    Skippable = 12,
}

impl Kind {
    /// The kind with the number `n`, or `None` for one that this version does not know and may not skip.
    pub(crate) fn from_number(n: u8) -> Option<Kind> {
        Some(match n {
            1 => Kind::Record,
            2 => Kind::Batch,
            3 => Kind::Padding,
            4 => Kind::Closed,
            5 => Kind::Full,
            6 => Kind::Abandoned,
            12..=15 => Kind::Skippable,
            _ => return None,
        })
    }

    pub(crate) fn is_terminal(self) -> bool {
        matches!(self, Kind::Closed | Kind::Full | Kind::Abandoned)
    }
}

/// Kind and length, as the upper half of a header word.
#[inline]
pub(crate) const fn kind_and_length(kind: Kind, len: u32) -> u32 {
    (kind as u32) << 28 | len
}

/// A header word, taken apart. Nothing in it is believed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head(pub(crate) u64);

impl Head {
    #[inline]
    pub(crate) fn new(kl: u32, check: u32) -> Head {
        Head(u64::from(kl) << 32 | u64::from(check))
    }

    #[inline]
    pub(crate) fn kl(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn check(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) fn kind_number(self) -> u8 {
        (self.0 >> 60) as u8
    }

    #[inline]
    pub(crate) fn len(self) -> u64 {
        self.0 >> 32 & MAX_PAYLOAD
    }
}

/// Payloads up to this length are short: copied and checked by code without a call. Longer ones are worth one.
pub(crate) const SHORT: u64 = 128;

/// Bytes that a frame with a payload of `len` bytes takes: header word, payload, padding.
#[inline]
pub(crate) const fn frame_len(len: u64) -> u64 {
    (len + WORD + 7) & !7
}

/// How many records the payload of a batch holds, or `None` if it does not hold what it says: its inner frames are
/// records of possible lengths (`possible` is asked with the upper half of their header words), as many as it counts, and
/// end where it ends. Calls `each` with them, in order, as far as they are well-formed.
pub(crate) fn batch_records<'p>(
    payload: &'p [u8],
    possible: impl Fn(u32) -> bool,
    mut each: impl FnMut(&'p [u8]),
) -> Option<u32> {
    let len = payload.len() as u64;
    if len < BATCH_HEADER || !len.is_multiple_of(8) || u32_at(payload, 4) != 0 {
        return None;
    }
    let count = u32_at(payload, 0);
    let (mut at, mut left) = (BATCH_HEADER, count);
    while left > 0 && at + WORD <= len {
        let head = Head(u64_at(payload, at as usize));
        if !possible(head.kl()) || head.check() != 0 || at + frame_len(head.len()) > len {
            return None;
        }
        each(&payload[(at + WORD) as usize..][..head.len() as usize]);
        at += frame_len(head.len());
        left -= 1;
    }
    (left == 0 && at == len).then_some(count)
}

/// The longest record that a channel of `capacity` bytes can hold beside its terminal word.
pub(crate) const fn longest_record(capacity: u64) -> u64 {
    let room = capacity - 2 * WORD;
    if room < MAX_PAYLOAD { room } else { MAX_PAYLOAD }
}

/// The smallest capacity: one page.
pub(crate) const MIN_CAPACITY: u64 = PAGE;
/// The largest capacity, 32 TiB: a writer and readers of one process map it each, and x86-64 gives them 47 bits.
pub(crate) const MAX_CAPACITY: u64 = 1 << 45;

/// The salt of a channel, as the two words that enter every check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Salt(u64, u64);

impl Salt {
    pub(crate) fn new(bytes: [u8; 16]) -> Salt {
        Salt(u64_at(&bytes, 0), u64_at(&bytes, 8))
    }

    /// What position, kind and length add to the check of a frame. It does not depend on the payload, so that the
    /// processor computes it beside the CRC.
    #[inline]
    pub(crate) fn mix(self, position: u64, kl: u32) -> u32 {
        let a = (position ^ self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let b = ((a ^ a >> 32 ^ u64::from(kl)).wrapping_add(self.1)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (b >> 32) as u32
    }
}

/// Whether frames carry the CRC-32C of their payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Checksum {
    /// No checksum of the payload; position, kind, length and salt are still checked. After a reboot, and in a copy of
    /// the file, nothing past the last sync is believed: with `Durability::Never` that is nothing at all, so use the two
    /// together only for what live readers read.
    None = 0,
    /// CRC-32C (Castagnoli) of the payload.
    #[default]
    Crc32c = 1,
}

impl Checksum {
    pub(crate) fn from_number(n: u8) -> Option<Checksum> {
        match n {
            0 => Some(Checksum::None),
            1 => Some(Checksum::Crc32c),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_back_what_was_put_in() {
        let head = Head::new(kind_and_length(Kind::Batch, 0x0FFF_FFFF), 7);
        assert_eq!((head.kind_number(), head.len(), head.check()), (2, MAX_PAYLOAD, 7));
    }

    #[test]
    fn frames_are_multiples_of_eight() {
        assert_eq!([0, 1, 8, 9, 96].map(frame_len), [8, 16, 16, 24, 104]);
    }

    #[test]
    fn every_bit_of_position_kind_length_and_salt_enters_the_mix() {
        let salt = Salt::new([0x5A; 16]);
        let base = salt.mix(4096, 1 << 28 | 96);
        for bit in 0..46 {
            assert_ne!(base, salt.mix(4096 ^ 1 << bit, 1 << 28 | 96), "position bit {bit}");
        }
        for bit in 0..32 {
            assert_ne!(base, salt.mix(4096, (1 << 28 | 96) ^ 1 << bit), "kl bit {bit}");
        }
        for bit in 0..128 {
            let mut bytes = [0x5A; 16];
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(base, Salt::new(bytes).mix(4096, 1 << 28 | 96), "salt bit {bit}");
        }
    }
}
