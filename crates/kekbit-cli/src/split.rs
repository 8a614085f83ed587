//! Cutting input into records: by terminator, by length, or not at all.
//!
//! ```text
//! bytes:   [ done | not yet taken               | free ]
//!                 start    scanned              end
//! ```
//!
//! Bytes between `start` and `scanned` hold no terminator. Records are lent from the buffer, whose size is bounded by
//! the longest record, whatever the input is.

use std::fmt;

use memchr::memchr;

/// How input becomes records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Split {
    /// A record ends before this byte, and at the end of the input.
    Terminated(u8),
    /// A record follows its length, a little-endian `u32`.
    Framed,
    /// The whole input is one record.
    Whole,
}

/// Why input does not become records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SplitError {
    /// A record is longer than `limit`: `len` bytes, or at least so many.
    TooLong { len: u64, limit: usize, exact: bool },
    /// The input ends in the middle of a frame.
    Truncated { have: usize, want: usize },
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SplitError::TooLong { len, limit, exact } => {
                let least = if exact { "" } else { "at least " };
                write!(
                    f,
                    "record of {least}{len} bytes exceeds the limit of {limit}: choose a larger --max-record"
                )
            }
            SplitError::Truncated { have, want } => {
                write!(f, "the input ends in the middle of a frame: {have} of its {want} bytes are there")
            }
        }
    }
}

/// Bytes to ask for at once. A fuzzer's inputs are small, and shall pass through every state of the buffer.
const READ: usize = if cfg!(fuzzing) { 64 } else { 256 << 10 };
/// As little as this is moved to the front before each read, so that reads go to the same, cached memory.
const CHEAP_TO_MOVE: usize = READ / 64;
const LENGTH: usize = size_of::<u32>();

/// Input on its way into records.
#[derive(Debug)]
pub(crate) struct Splitter {
    split: Split,
    limit: usize,
    bytes: Vec<u8>,
    start: usize,
    scanned: usize,
    end: usize,
}

impl Splitter {
    /// Cuts input into records of at most `limit` bytes.
    pub(crate) fn new(split: Split, limit: usize) -> Splitter {
        Splitter { split, limit, bytes: vec![0; 2 * READ], start: 0, scanned: 0, end: 0 }
    }

    pub(crate) fn split(&self) -> Split {
        self.split
    }

    /// Where input is to be read to; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let kept = self.end - self.start;
        if self.start > 0 && (kept <= CHEAP_TO_MOVE || self.bytes.len() - self.end < READ) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.scanned -= self.start;
            (self.start, self.end) = (0, kept);
        }
        if self.bytes.len() - self.end < READ {
            self.bytes.resize(2 * self.bytes.len(), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes have been read to where [`Splitter::space`] was.
    pub(crate) fn filled(&mut self, len: usize) {
        self.end += len;
    }

    /// The next record that is complete.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, SplitError> {
        let (from, len, end) = match self.split {
            Split::Terminated(terminator) => match memchr(terminator, &self.bytes[self.scanned..self.end]) {
                Some(at) => (self.start, self.scanned + at - self.start, self.scanned + at + 1),
                None => {
                    self.scanned = self.end;
                    return self.check(self.end - self.start, false).map(|()| None);
                }
            },
            Split::Framed => match self.frame() {
                Some(len) => {
                    self.check(len, true)?;
                    let from = self.start + LENGTH;
                    if self.end - from < len {
                        return Ok(None);
                    }
                    (from, len, from + len)
                }
                None => return Ok(None),
            },
            Split::Whole => return self.check(self.end - self.start, false).map(|()| None),
        };
        self.check(len, true)?;
        (self.start, self.scanned) = (end, end);
        Ok(Some(&self.bytes[from..from + len]))
    }

    /// The record that the end of the input completes. Afterwards nothing is left, and another input may begin.
    pub(crate) fn finish(&mut self) -> Result<Option<&[u8]>, SplitError> {
        let (start, end) = (self.start, self.end);
        if self.split == Split::Framed && start < end {
            let want = self.frame().map_or(LENGTH, |len| len + LENGTH);
            return Err(SplitError::Truncated { have: end - start, want });
        }
        (self.start, self.scanned, self.end) = (0, 0, 0);
        let is_record = start < end || self.split == Split::Whole;
        Ok(is_record.then(|| &self.bytes[start..end]))
    }

    /// Length of the next frame's record, once it is there.
    fn frame(&self) -> Option<usize> {
        let length = self.bytes[self.start..self.end].first_chunk::<LENGTH>()?;
        Some(u32::from_le_bytes(*length) as usize)
    }

    #[inline]
    fn check(&self, len: usize, exact: bool) -> Result<(), SplitError> {
        if len > self.limit {
            return Err(SplitError::TooLong { len: len as u64, limit: self.limit, exact });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All records of `input`, read in pieces of `piece` bytes, and the error that ended them.
    fn records(split: Split, limit: usize, input: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<SplitError>) {
        let mut splitter = Splitter::new(split, limit);
        let mut records = Vec::new();
        for part in input.chunks(piece) {
            splitter.space()[..part.len()].copy_from_slice(part);
            splitter.filled(part.len());
            loop {
                match splitter.next() {
                    Ok(Some(record)) => records.push(record.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (records, Some(error)),
                }
            }
        }
        match splitter.finish() {
            Ok(last) => records.extend(last.map(<[u8]>::to_vec)),
            Err(error) => return (records, Some(error)),
        }
        (records, None)
    }

    #[test]
    fn lines_keep_carriage_returns_and_the_last_needs_no_terminator() {
        for piece in [1, 2, 3, 100] {
            let (lines, error) = records(Split::Terminated(b'\n'), 10, b"a\r\n\nbc\nlast", piece);
            assert_eq!(lines, [&b"a\r"[..], b"", b"bc", b"last"]);
            assert_eq!(error, None);
        }
    }

    #[test]
    fn an_empty_input_is_no_line_but_a_whole() {
        assert_eq!(records(Split::Terminated(b'\n'), 10, b"", 1), (vec![], None));
        assert_eq!(records(Split::Framed, 10, b"", 1), (vec![], None));
        assert_eq!(records(Split::Whole, 10, b"", 1), (vec![vec![]], None));
    }

    #[test]
    fn a_record_at_the_limit_passes_and_one_beyond_it_does_not() {
        for piece in [1, 7, 100] {
            let (lines, error) = records(Split::Terminated(b'\n'), 3, b"123\n1234\n1\n", piece);
            assert_eq!(lines, [b"123"]);
            assert!(matches!(error, Some(SplitError::TooLong { len: 4, limit: 3, .. })), "{error:?}");
            let (whole, error) = records(Split::Whole, 3, b"1234", piece);
            assert!(whole.is_empty() && matches!(error, Some(SplitError::TooLong { limit: 3, .. })));
        }
    }

    #[test]
    fn a_truncated_frame_is_an_error_behind_the_good_ones() {
        let frames = b"\x02\0\0\0ab\0\0\0\0\x03\0\0\0xy";
        for piece in [1, 5, 100] {
            let (good, error) = records(Split::Framed, 10, frames, piece);
            assert_eq!(good, [&b"ab"[..], b""]);
            assert_eq!(error, Some(SplitError::Truncated { have: 6, want: 7 }));
        }
        let (_, error) = records(Split::Framed, 10, b"\xff\xff\xff\xff", 4);
        assert_eq!(error, Some(SplitError::TooLong { len: u64::from(u32::MAX), limit: 10, exact: true }));
    }

    #[test]
    fn records_longer_than_the_buffer_arrive_whole() {
        let long = vec![b'x'; 3 * READ + 5];
        let input = [&long[..], b"\n", &long, b"\nshort\n"].concat();
        let (lines, error) = records(Split::Terminated(b'\n'), long.len(), &input, READ);
        assert_eq!((lines.len(), error), (3, None));
        assert!(lines[0] == long && lines[1] == long && lines[2] == b"short");
    }

    #[test]
    fn memory_is_bounded_by_the_limit_not_by_the_line() {
        let mut splitter = Splitter::new(Split::Terminated(b'\n'), 1000);
        let len = splitter.space().len();
        splitter.space().fill(b'x');
        splitter.filled(len);
        assert!(splitter.next().is_err());
        assert_eq!(splitter.bytes.len(), 2 * READ);
    }
}
