//! What the records contain: their sequence in the first eight bytes, then noise that differs from one to the next.
//!
//! ```text
//! sequence u64 le | noise of buffer (sequence mod buffers)          shorter than 8: the low bytes of the sequence
//! ```
//!
//! Making and checking a record must cost little beside appending and reading it, so the noise is made once, for as many
//! records as stay in the nearest cache.

/// Bytes of noise, about: half of a usual level-1 cache.
const NOISE: usize = 16 << 10;
const SEQUENCE: usize = size_of::<u64>();
/// So many records ahead the sequence is written. A copy in wide words of what was stored in narrow ones a moment ago
/// has to wait until the store has reached the cache.
const AHEAD: u64 = 2;

#[derive(Debug)]
pub(crate) struct Pattern {
    buffers: Vec<Vec<u8>>,
    mask: u64,
}

impl Pattern {
    pub(crate) fn new(size: usize) -> Pattern {
        let buffers = (NOISE / size.max(1)).clamp(4, 64);
        let buffers = 1 << buffers.ilog2();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let buffers: Vec<Vec<u8>> = (0..buffers).map(|_| (0..size).map(|_| noise()).collect()).collect();
        let mask = buffers.len() as u64 - 1;
        let mut pattern = Pattern { buffers, mask };
        (0..AHEAD).for_each(|sequence| pattern.stamp(sequence));
        pattern
    }

    #[inline]
    fn stamp(&mut self, sequence: u64) {
        let buffer = &mut self.buffers[(sequence & self.mask) as usize];
        let bytes = sequence.to_le_bytes();
        match buffer.first_chunk_mut::<SEQUENCE>() {
            Some(first) => *first = bytes,
            None => buffer.iter_mut().zip(bytes).for_each(|(into, byte)| *into = byte),
        }
    }

    /// The record with this sequence. They are asked for one after the other, from zero on.
    #[inline]
    pub(crate) fn record(&mut self, sequence: u64) -> &[u8] {
        self.stamp(sequence + AHEAD);
        &self.buffers[(sequence & self.mask) as usize]
    }

    /// Whether these are the bytes of the record with this sequence: all of them.
    #[inline]
    pub(crate) fn matches(&self, sequence: u64, payload: &[u8]) -> bool {
        let buffer = &self.buffers[(sequence & self.mask) as usize];
        match (buffer.split_first_chunk::<SEQUENCE>(), payload.split_first_chunk::<SEQUENCE>()) {
            (Some((_, noise)), Some((first, rest))) => {
                u64::from_le_bytes(*first) == sequence && rest == noise
            }
            (None, None) => payload == &sequence.to_le_bytes()[..buffer.len()],
            _ => false,
        }
    }

    /// What is wrong with bytes that do not match.
    pub(crate) fn difference(&self, sequence: u64, payload: &[u8]) -> String {
        let mut expected = self.buffers[(sequence & self.mask) as usize].clone();
        if payload.len() != expected.len() {
            return format!("{} bytes, expected {}", payload.len(), expected.len());
        }
        let bytes = sequence.to_le_bytes();
        let first = SEQUENCE.min(expected.len());
        expected[..first].copy_from_slice(&bytes[..first]);
        match expected.iter().zip(payload).position(|(expected, byte)| expected != byte) {
            Some(at) => format!("byte {at} is {:#04x}, expected {:#04x}", payload[at], expected[at]),
            None => "nothing is wrong".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_at_every_size() {
        for size in [0, 1, 3, 7, 8, 9, 96, 1000, 70_000] {
            let (mut pattern, checking) = (Pattern::new(size), Pattern::new(size));
            for sequence in 0..200 {
                let record = pattern.record(sequence).to_vec();
                assert!(record.len() == size && checking.matches(sequence, &record), "{size}, {sequence}");
            }
            let record = pattern.record(200).to_vec();
            for at in (0..size).step_by(1 + size / 100) {
                let mut changed = record.clone();
                changed[at] ^= 1;
                assert!(!checking.matches(200, &changed), "{size}, byte {at}");
                assert!(checking.difference(200, &changed).starts_with(&format!("byte {at} is")));
            }
            let mut longer = record.clone();
            longer.push(0);
            assert!(!checking.matches(200, &longer));
            assert!(size == 0 || !checking.matches(200, &record[1..]));
            assert!(size == 0 || !checking.matches(201, &record));
        }
    }
}
