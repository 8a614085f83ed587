//! Copies of parts of the file, and what they prove.
//!
//! The writer stores a payload, then the mark behind it, then the length before it. It does so through a mapping, and no read of a
//! file is atomic against that: what one read has copied may be newer in one place than in another, even within a word. So everything
//! is copied three times, one after the other, and a record counts if its length is the same in all of them. A word is stored to twice at
//! the most, first the mark and then the length, and a store is torn by one read only. So one of three reads has seen the word as it was,
//! and what all have seen is that. Then the payload was complete before the last copy began.

use std::fs::File;
use std::{io, mem};

use super::format::{DATA, Header, WORD, Word, frame_len};
use crate::layout::u64_at;
use crate::sys::file;

/// Bytes that are copied at once, unless a record is longer.
const BLOCK: u64 = 128 << 10;

/// How many copies must agree.
pub(super) const COPIES: usize = 3;

/// A copy of a part of the data region: whole records that count.
#[derive(Debug, Default)]
pub(super) struct Copied {
    bytes: Vec<u8>,
    /// Position of the first of them.
    from: u64,
}

impl Copied {
    fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    /// `len` bytes from the position `at` on, if they are here.
    pub(super) fn bytes(&self, at: u64, len: u64) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.from)?).ok()?;
        self.bytes.get(from..from.checked_add(usize::try_from(len).ok()?)?)
    }

    /// Length of the record at `at`, if all of it is here.
    pub(super) fn record_len(&self, header: &Header, at: u64) -> Option<u64> {
        let word = u64_at(self.bytes(at, WORD)?, 0);
        match header.judge(at, word, self.end()) {
            Word::Record(len) => Some(len),
            _ => None,
        }
    }

    /// Where the zeros from `at` on end, if that is here: with the length of a record, since all that is here are records.
    pub(super) fn end_of_zeros(&self, at: u64) -> Option<u64> {
        let words = self.bytes(at, self.end().checked_sub(at)?)?.chunks_exact(WORD as usize);
        let zeros = words.into_iter().position(|word| word != [0; WORD as usize])?;
        Some(at + zeros as u64 * WORD)
    }

    /// Copies the record at `at`, which is thought to have `len` bytes, and as many behind it as one read brings: those that count. The
    /// file has `bound` bytes of data.
    pub(super) fn fill(
        &mut self,
        file: &File,
        header: &Header,
        at: u64,
        len: u64,
        bound: u64,
    ) -> io::Result<()> {
        self.read(file, at, (at + frame_len(len)).max(at + BLOCK).min(bound))?;
        for _ in 1..COPIES {
            let end = self.end_of_records(header);
            let before = mem::take(&mut self.bytes);
            self.read(file, at, end)?;
            let mut sure = at;
            while let Some(len) = self.record_len(header, sure) {
                let word = (sure - at) as usize..(sure - at + WORD) as usize;
                // The payloads may differ, the lengths may not.
                if before.get(word.clone()) != self.bytes.get(word) {
                    break;
                }
                sure += frame_len(len);
            }
            self.bytes.truncate((sure - at) as usize);
        }
        Ok(())
    }

    /// Behind the last whole record, or behind what is here if that ends within its padding.
    fn end_of_records(&self, header: &Header) -> u64 {
        let mut end = self.from;
        while let Some(len) = self.record_len(header, end) {
            end += frame_len(len);
        }
        end.min(self.end())
    }

    /// Copies `[from, to)` of the data region, as far as it is there.
    fn read(&mut self, file: &File, from: u64, to: u64) -> io::Result<()> {
        self.from = from;
        self.bytes.clear();
        // What one long record has taken is given back.
        self.bytes.shrink_to(2 * BLOCK as usize);
        while self.end() < to {
            let (at, before) = (self.end(), self.bytes.len());
            let len = (to - at).min(BLOCK) as usize;
            self.bytes.resize(before + len, 0);
            let read = file::read_at(file, &mut self.bytes[before..], DATA + at);
            self.bytes.truncate(before + *read.as_ref().unwrap_or(&0));
            if read? < len {
                // It has become shorter meanwhile.
                break;
            }
        }
        Ok(())
    }
}

/// The word at the position `at`, if the file has it.
pub(super) fn word_at(file: &File, at: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; WORD as usize];
    let len = file::read_at(file, &mut bytes, DATA + at)?;
    Ok((len == bytes.len()).then(|| u64::from_le_bytes(bytes)))
}

/// Where the first word lies from `from` on that is not zero, and what it is; `None` if there is none below `bound`. Passes over
/// holes where the file system tells of them.
pub(super) fn next_word(file: &File, from: u64, bound: u64) -> io::Result<Option<(u64, u64)>> {
    let mut piece = vec![0; BLOCK.min(bound.saturating_sub(from)) as usize];
    let mut at = from;
    while at + WORD <= bound {
        // Data begin at a block, which is a multiple of 8, and so does the data region.
        at = at.max((file::next_data(file, DATA + at, DATA + bound) & !7) - DATA);
        let len = (bound.saturating_sub(at)).min(piece.len() as u64) as usize;
        let read = file::read_at(file, &mut piece[..len], DATA + at)?;
        let words = piece[..read].chunks_exact(WORD as usize);
        if let Some(n) = words.clone().position(|word| word != [0; WORD as usize]) {
            return Ok(Some((at + n as u64 * WORD, u64_at(&piece, n * WORD as usize))));
        }
        if read < WORD as usize {
            break;
        }
        at += (read & !7) as u64;
    }
    Ok(None)
}
