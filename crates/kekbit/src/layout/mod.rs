//! The bytes of a channel file, as pure functions: they know no file, no memory map and no atomics.
//!
//! ```text
//! 0        4096      8192              8192 + index            + capacity
//! +--------+---------+-----------------+------------------------+
//! | header | control | index           | data                   |
//! +--------+---------+-----------------+------------------------+
//! ```
//!
//! Every region begins and ends on a multiple of [`PAGE`] bytes. Every number is little endian. FORMAT.md describes
//! the same bytes for people who write a reader in another language; the two must say the same.
//!
//! What comes from a file is input: decoding bounds it and never panics on it.

pub(crate) mod attributes;
pub(crate) mod control;
pub(crate) mod crc;
pub(crate) mod entry;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod place;

/// Size in bytes of the header and of the control region, and the unit of every region.
pub(crate) const PAGE: u64 = 4096;

/// The least multiple of `unit` (a power of two) that is not below `n`; `n` is far from the end of `u64`.
pub(crate) const fn round_up(n: u64, unit: u64) -> u64 {
    (n + unit - 1) & !(unit - 1)
}

/// Reads the little-endian `u64` at `at`; the caller's constants keep it inside `bytes`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Reads the little-endian `u32` at `at`; the caller's constants keep it inside `bytes`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Reads the little-endian `u16` at `at`; the caller's constants keep it inside `bytes`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Stores `value` as little-endian bytes at `at`.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
