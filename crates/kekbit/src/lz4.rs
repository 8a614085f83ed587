//! Compression: a stage that stands in place of what it is given.
//!
//! ```text
//! [length: u32][body]      length 0: the body is what the stage was given
//!                          otherwise an LZ4 block, which becomes so many bytes
//! ```
//!
//! The library does the compressing and its undoing; here are the bounds. What comes from a file is input: no length is
//! believed before it has been compared with what so many bytes can become.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::handler::{AppendContext, Handler, StageError, StageInfo};
use crate::layout::frame::MAX_PAYLOAD;
use crate::layout::u32_at;
use crate::stages::LZ4;

/// Compresses records with LZ4. Those that do not become shorter stay as they are, so that a stored record is never more
/// than the stage's 4 bytes longer than without it.
///
/// With this feature every reader undoes it: records are what was appended, and [`Record::stored`](crate::Record::stored) what
/// is in the file. The plain iterators of a [`Channel`](crate::Channel) cannot lend what is not in its memory;
/// [`Channel::shared_records`](crate::Channel::shared_records) is the one for such channels.
///
/// # What it costs
///
/// Each record is compressed alone, so that each can be read alone, and what repeats must repeat within the record: **short
/// records gain nothing**. Of lines of a log, and of JSON objects, records of 96 bytes became 4 % longer, those of 256 bytes a third
/// shorter, of 1 KiB to 37 and 45 %, of 4 KiB to 27 and 38 %. Several messages in one record gain more than any compression of
/// each.
///
/// On one core of an AMD EPYC, appending a record took 0.15 to 0.2 µs more than without the stage, and 0.25 to 0.6 ns more for each
/// byte; reading one 25 ns more, and 0.1 to 0.3 ns for each byte, also where it stays as it is, since it is copied. (`cargo run --release
/// -p kekbit --features lz4 --example compression` measures all of that.) So short records are appended several times as slowly; it
/// pays where space or the bandwidth of the disk is short.
///
/// The writer keeps a table of 8 KiB, and one of 16 KiB once a record of 64 KiB has come, and a buffer for the longest record; a reader
/// two such buffers. Once they are as large as they must be, nothing is allocated for a record.
///
/// [`WriterOptions::max_record_len`](crate::WriterOptions::max_record_len) counts stored bytes: a record of that length less 4 is
/// always accepted, a longer one only if it becomes short enough. None may have more than 2^28 - 1 bytes.
///
/// # Example: a timestamp outside, so that it can be sought without undoing anything
///
/// ```
/// use kekbit::{Channel, Lz4, Start, Timestamp, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("log.kek");
/// let mut writer = Writer::options().stage(Timestamp::nanos()).stage(Lz4::new()).create(&path)?;
/// writer.append("all work and no play makes jack a dull boy\n".repeat(100).as_bytes())?;
/// writer.close()?;
///
/// let mut reader = Channel::open(&path)?.reader(Start::Beginning)?;
/// let record = reader.try_next()?.unwrap();
/// assert!(record.starts_with(b"all work") && record.len() == 4300);
/// assert!(record.stored().len() < 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lz4 {
    small: CompressTable,
    /// For records of 64 KiB and more, once one has come.
    large: Option<CompressTable>,
    /// What the prefix of the record says that is being made.
    length: u32,
}

const PREFIX: u32 = 4;
const VERSION: u16 = 1;
/// What a byte of a block can become at the most: it counts so many bytes of a match.
const EXPANSION: u64 = 255;
/// Shorter ones never become shorter.
const SHORTEST: usize = 13;
/// From so many bytes on, positions do not fit the small table.
const LARGE: usize = u16::MAX as usize;

impl Lz4 {
    /// The stage.
    pub fn new() -> Lz4 {
        Lz4 { small: CompressTable::small(), large: None, length: 0 }
    }
}

impl Default for Lz4 {
    fn default() -> Lz4 {
        Lz4::new()
    }
}

impl std::fmt::Debug for Lz4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lz4").finish_non_exhaustive()
    }
}

impl Handler for Lz4 {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: LZ4,
            version: VERSION,
            prefix_len: PREFIX,
            replaces: true,
            name: "lz4".into(),
            ..StageInfo::default()
        }
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let limit = MAX_PAYLOAD as usize;
        if body.len() > limit {
            return Err(
                format!("{} bytes exceed the {limit} that can be compressed at once", body.len()).into()
            );
        }
        self.length = 0;
        let start = out.len();
        if body.len() >= SHORTEST {
            let table = match &mut self.large {
                _ if body.len() < LARGE => &mut self.small,
                large => large.get_or_insert_with(CompressTable::large),
            };
            out.resize(start + get_maximum_output_size(body.len()), 0);
            let len = compress_into_with_table(body, &mut out[start..], table)?;
            if len < body.len() {
                out.truncate(start + len);
                self.length = body.len() as u32;
                return Ok(());
            }
            out.truncate(start);
        }
        out.extend_from_slice(body);
        Ok(())
    }

    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&self.length.to_le_bytes());
        Ok(())
    }

    fn undo(&self, prefix: &[u8], body: &[u8], suffix: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        undo(prefix, body, suffix, out)
    }
}

/// Whether `stage` is this one.
pub(crate) fn is(stage: &StageInfo) -> bool {
    (stage.id, stage.version, stage.prefix_len, stage.suffix_len, stage.replaces)
        == (LZ4, VERSION, PREFIX, 0, true)
}

/// Appends to `out` what was compressed.
///
/// # Errors
///
/// If no writer can have made it.
pub(crate) fn undo(prefix: &[u8], body: &[u8], _: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
    let length = u32_at(prefix, 0);
    if length == 0 {
        out.extend_from_slice(body);
        return Ok(());
    }
    let limit = (body.len() as u64 * EXPANSION).min(MAX_PAYLOAD);
    if u64::from(length) > limit {
        return Err(format!("{length} bytes cannot come from a block of {}", body.len()).into());
    }
    if !ends_in_literals(body) {
        return Err("the block does not end where it should".into());
    }
    let start = out.len();
    out.resize(start + length as usize, 0);
    let made = decompress_into(body, &mut out[start..]);
    // Not too many: there was no space for them.
    let whole = made.as_ref().is_ok_and(|made| *made == length as usize);
    if !whole {
        out.truncate(start);
    }
    match made {
        Ok(made) if !whole => Err(format!("{made} bytes instead of {length} come from the block").into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the block is damaged: {error}").into()),
    }
}

/// Whether the last sequence of a block has literals, as it must. What undoes it would pass over a last byte that says of itself that
/// it has none. Such a byte is below 16, so that the way through the block is walked for few.
fn ends_in_literals(block: &[u8]) -> bool {
    let Some(last) = block.last().copied() else { return false };
    last >= 16 || literals_at_end(block) != Some(0)
}

/// The number of literals in the last sequence of a block; `None` if it breaks off before its end.
fn literals_at_end(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let token = *block.get(at)?;
        at += 1;
        let literals = length(block, &mut at, token >> 4)?;
        at = at.checked_add(literals).filter(|at| *at <= block.len())?;
        if at == block.len() {
            return Some(literals);
        }
        // How far back the match lies.
        at += 2;
        length(block, &mut at, token & 15)?;
    }
}

/// The length that begins with a half of a token and goes on at `at`.
fn length(block: &[u8], at: &mut usize, half: u8) -> Option<usize> {
    let mut length = usize::from(half);
    if half == 15 {
        loop {
            let more = *block.get(*at)?;
            *at += 1;
            // No more than the block has bytes, each of which is below 256.
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}
