//! The bytes of a channel of 0.3, as pure functions: they know no file. FORMAT.md describes the same bytes.
//!
//! ```text
//! 0        128          1024                          capacity + 160   capacity + 1024
//! +--------+------------+------+---------+---+--------+ . . . . . . . . +
//! | header | not used   | len  | payload |pad|  ...   |  never kept     |
//! | 128    |            | u64  |         |   |        |                 |
//! +--------+------------+------+---------+---+--------+ . . . . . . . . +
//! ```
//!
//! Its writer made the file long enough for data that begin at 128, and put them at 1024: it counted the header's bytes as
//! words. So the last 864 bytes of a full channel were never part of the file.

use std::fmt;

use crate::error::FormatError;
use crate::layout::header::{LEGACY, MAGIC};
use crate::layout::{round_up, u32_at, u64_at};
use crate::time::TickUnit;

/// Where the data begin in the file.
pub(super) const DATA: u64 = 1024;
/// Bytes of a length, and what everything is aligned to.
pub(super) const WORD: u64 = 8;
/// Bytes of the header that mean something.
pub(super) const HEADER: usize = 128;

/// Bytes of a file beyond the capacity: for the header, and for a last mark.
const BESIDES: u64 = HEADER as u64 + 32;
/// No writer made a smaller one.
const MIN_CAPACITY: u64 = 16 << 10;

/// In place of a length: nothing here yet.
const WATERMARK: u64 = 0xFFFF_FFFF_1111_1111;
/// No record is that long.
const UNKNOWN: u32 = u32::MAX;

/// In place of a length: closed.
const CLOSE: u64 = u64::MAX;

/// The header, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) writer_id: u64,
    pub(super) channel_id: u64,
    /// A multiple of 8 from 16 KiB on, and below 4 GiB.
    pub(super) capacity: u64,
    /// At most a 128th of the capacity.
    pub(super) max_record_len: u64,
    /// In ticks.
    pub(super) timeout: u64,
    /// In ticks since the Unix epoch.
    pub(super) created: u64,
    pub(super) tick: TickUnit,
}

impl Header {
    /// The header in `bytes`, which are fewer than [`HEADER`] if the file is shorter. What is refused here its own reader
    /// refuses too, or panics on.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, FormatError> {
        if bytes.len() < 16 || bytes[..8] != MAGIC {
            return Err(FormatError::NotAChannel);
        }
        let version = u64_at(bytes, 8);
        if version != LEGACY {
            return Err(FormatError::NotLegacy {
                major: (version >> 48) as u16,
                minor: (version >> 32) as u16,
            });
        }
        if bytes.len() < HEADER {
            return Err(FormatError::Truncated { len: bytes.len() as u64, needed: DATA + WORD });
        }
        let capacity = u64::from(u32_at(bytes, 32));
        if capacity < MIN_CAPACITY || !capacity.is_multiple_of(WORD) {
            return Err(FormatError::Header("the capacity is below 16384, or no multiple of 8"));
        }
        let max_record_len = u64::from(u32_at(bytes, 36));
        if max_record_len > round_up(capacity / 128 - WORD, WORD) || !max_record_len.is_multiple_of(WORD) {
            return Err(FormatError::Header(
                "the longest record is more than a 128th of the capacity, or no multiple of 8",
            ));
        }
        let tick = match bytes[56] {
            9 => TickUnit::Nanos,
            6 => TickUnit::Micros,
            3 => TickUnit::Millis,
            0 => TickUnit::Secs,
            _ => return Err(FormatError::Header("the tick unit is unknown")),
        };
        Ok(Header {
            writer_id: u64_at(bytes, 16),
            channel_id: u64_at(bytes, 24),
            capacity,
            max_record_len,
            timeout: u64_at(bytes, 40),
            created: u64_at(bytes, 48),
            tick,
        })
    }

    /// How many bytes of data a file of `len` bytes has: none that its writer has not put there, also where somebody has
    /// made the file longer.
    pub(super) fn bound(&self, len: u64) -> u64 {
        len.min(self.capacity + BESIDES).saturating_sub(DATA)
    }

    /// What the word at the position `at` says, if the file has `bound` bytes of data. The word is among them.
    pub(super) fn judge(&self, at: u64, word: u64, bound: u64) -> Word {
        match word {
            WATERMARK => Word::Nothing,
            CLOSE => Word::Closed,
            len if len > self.max_record_len => Word::Bad("neither the length of a record nor a mark"),
            len if at + frame_len(len) > self.capacity => {
                Word::Bad("a record longer than the rest of the channel")
            }
            len if at + WORD + len > bound => {
                Word::CutOff(self.loss(bound, Some((len, at + WORD + len - bound))))
            }
            len => Word::Record(len),
        }
    }

    /// What is lost if records go on past `bound`: of one the length and how much of it.
    pub(super) fn loss(&self, bound: u64, record: Option<(u64, u64)>) -> Loss {
        let (record_len, missing) = record.unwrap_or((UNKNOWN.into(), 0));
        // Nothing of a channel is longer than its capacity, which is a `u32` in its header.
        let short = |bytes: u64| u32::try_from(bytes).unwrap_or(UNKNOWN);
        Loss {
            record_len: short(record_len),
            missing: short(missing),
            beyond: short(self.capacity.saturating_sub(bound)),
            capacity: short(self.capacity),
        }
    }
}

/// Bytes that a record of `len` bytes takes, its length among them; `len` is below 2^32.
pub(super) fn frame_len(len: u64) -> u64 {
    WORD + round_up(len, WORD)
}

/// What is found where a record may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// A record of so many bytes, all of them in the file.
    Record(u64),
    Nothing,
    Closed,
    /// A record that reaches past the end of the file.
    CutOff(Loss),
    Bad(&'static str),
}

/// What was never kept of a channel whose records go on past the end of its file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Loss {
    // No channel of 0.3 has 4 GiB, and it is part of what every read may return.
    /// Above every length: unknown.
    record_len: u32,
    missing: u32,
    beyond: u32,
    capacity: u32,
}

impl Loss {
    /// Length of the record that the end of the file cuts off; `None` if no more than where it would begin is known, so
    /// that there may have been none.
    pub fn record_len(&self) -> Option<u64> {
        (self.record_len < UNKNOWN).then_some(self.record_len.into())
    }

    /// How many of that record's last bytes are missing.
    pub fn missing(&self) -> u64 {
        self.missing.into()
    }

    /// Bytes of the channel's capacity that lie past the end of the file: of what was written there nothing is left.
    pub fn beyond(&self) -> u64 {
        self.beyond.into()
    }

    /// The channel's capacity.
    pub fn capacity(&self) -> u64 {
        self.capacity.into()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { missing, beyond, capacity, .. } = self;
        match self.record_len() {
            Some(len) => write!(
                f,
                "the first record that is lost has {len} bytes, of which {missing} lie past the end of the file, as does \
                 all that was written behind it"
            )?,
            None => write!(
                f,
                "all that was written behind the good records lies past the end of the file and is lost"
            )?,
        }
        write!(f, ": {beyond} of the channel's {capacity} bytes lie there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            writer_id: 1,
            channel_id: 2,
            capacity: 16384,
            max_record_len: 120,
            timeout: 0,
            created: 0,
            tick: TickUnit::Nanos,
        }
    }

    #[test]
    fn the_last_864_bytes_of_the_capacity_are_not_in_the_file() {
        let header = header();
        assert_eq!(header.bound(16384 + 160), 16384 - 864);
        // Whoever made the file longer has added none.
        assert_eq!(header.bound(1 << 20), 16384 - 864);
        assert_eq!(header.bound(2000), 976);
        assert_eq!(header.bound(100), 0);
    }

    #[test]
    fn a_word_is_a_length_or_a_mark_or_damage() {
        let (header, bound) = (header(), 16384 - 864);
        assert_eq!(header.judge(0, WATERMARK, bound), Word::Nothing);
        assert_eq!(header.judge(0, CLOSE, bound), Word::Closed);
        assert_eq!(header.judge(0, 120, bound), Word::Record(120));
        assert!(matches!(header.judge(0, 121, bound), Word::Bad(_)));
        assert!(matches!(header.judge(0, 1 << 63, bound), Word::Bad(_)));
        let last = bound - 8;
        assert_eq!(header.judge(last, 0, bound), Word::Record(0));
        let Word::CutOff(loss) = header.judge(last - 8, 17, bound) else { panic!("it is cut off") };
        assert_eq!((loss.record_len(), loss.missing(), loss.beyond()), (Some(17), 9, 864));
        assert!(matches!(header.judge(16384 - 120, 120, 16384), Word::Bad(_)));
    }
}
