//! Reading files of strangers: every byte is copied out of the file once, checked, and lent from the copy.
//!
//! ```text
//!  file   ...|frame|frame|frame|frame...
//!                   |  pread |            a block, or one frame if it is longer
//!  copy             |frame|fr|            what was checked here is what is lent from here
//!                    at
//! ```
//!
//! Invariants:
//! - The file is never mapped, and nothing of it is looked at twice: header, index entries and frames are copied and then
//!   checked, and only the copy is used.
//! - The one exception makes a check stricter, not weaker: a word that was zero, or a frame that did not pass, is copied
//!   anew, and judged by the new copy alone. It may have been written while it was copied: no read of a file is atomic.
//! - Nothing is allocated that the file does not fill: a length is compared with `max_record_len` and with the file's
//!   length first, and the copy grows with the bytes that have really come.
//!
//! What it never does: trust the mapping's assumption, leave a check out, or skip a damaged frame.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::Position;
use crate::channel::{CheckUp, EndPoint, check_up, end_point};
use crate::cursor::{Cursor, Growth, Step};
use crate::error::{Attempt, OpenError, ReadError, SeekError};
use crate::follow::Following;
use crate::handler::StageInfo;
use crate::layout::attributes::Attributes;
use crate::layout::control::{HEARTBEAT, RESERVED, SYNCED};
use crate::layout::entry::Entry;
use crate::layout::frame::{Head, WORD, frame_len};
use crate::layout::u64_at;
use crate::metadata::Metadata;
use crate::open::{ReadOptions, Verify, look_into};
use crate::opened::{Opened, Source};
use crate::publish::Place;
use crate::reader::End;
use crate::record::Record;
use crate::seek::Start;
use crate::sys::interruption::uninterrupted;
use crate::undo::Undone;
use crate::wait::Wait;

/// Reads a channel whose file others may write to, cut or replace while it is read.
///
/// It has the methods of a [`Reader`](crate::Reader), and the same records, ends and errors; but it never maps the file, so
/// that nothing that happens to the file can raise a signal or change a record that was lent. Use it where somebody whom
/// you do not trust has permission to write to the file; for all others [`Channel`](crate::Channel) is a few times as
/// fast, and simpler.
///
/// # Trust
///
/// Whatever is done to the file, and whenever: no signal, no panic, no undefined behaviour, no waiting (unless asked for),
/// and memory for one block and the longest frame that the file really holds, which is 256 MiB at the most, and for going back
/// 1 MiB. Where records are compressed, twice as much as the longest of them says that it was: for each stage that compresses at most
/// 255 times what it has made, and never more than 256 MiB.
///
/// Each record that it lends was a frame that passed its check, in one piece: header word and payload come from the same
/// copy that was checked. From the first damaged frame on nothing is lent. With [`Checksum::None`](crate::Checksum) the check
/// covers position, kind and length alone: then a payload may be anything, even a mixture of old and new bytes, though it
/// does not change once it was lent.
///
/// **A check is no signature.** Who can write to the file can write frames, times and sequences that pass every check, take
/// records away, or say that the channel has ended. A start other than [`Start::Beginning`] finds its place through the
/// index, and so believes its sequences.
///
/// Verifying is not a choice here: [`ReadOptions::verify`] does not matter.
///
/// # Example: read what a stranger has left
///
/// ```
/// use kekbit::CopyingReader;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("inbox.kek");
/// # let mut writer = kekbit::Writer::create(&path)?;
/// # writer.append(b"one")?;
/// let mut reader = CopyingReader::open(&path)?;
/// assert_eq!(reader.try_next()?.as_deref(), Some(&b"one"[..]));
/// // Somebody cuts the file: the reader says so, and lives.
/// std::fs::File::options().write(true).open(&path)?.set_len(100)?;
/// assert!(reader.try_next().is_err());
/// # std::mem::forget(writer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CopyingReader {
    following: Following<Copied, Opened>,
}

impl CopyingReader {
    /// Opens the channel at `path`, to be read from its first record on; [`CopyingReader::seek`] begins elsewhere.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. What is no regular file is refused without waiting for anybody.
    pub fn open(path: impl AsRef<Path>) -> Result<CopyingReader, OpenError> {
        ReadOptions::default().copying(path)
    }

    /// Goes on from `start`, forwards or backwards. An entry of the index counts only if the frame that it leads to passes
    /// its check; if it does not, an earlier one is taken, and the way from there is walked.
    ///
    /// # Errors
    ///
    /// See [`SeekError`].
    pub fn seek(&mut self, start: Start) -> Result<(), SeekError> {
        self.following.seek(start)
    }

    /// The next record, if it is there; as [`Reader::try_next`](crate::Reader::try_next), but with a system call now and then.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. After [`ReadError::Corrupt`] and [`ReadError::Undecodable`] the reader does not move on.
    pub fn try_next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        self.following.try_next()
    }

    /// The next record; waits for it as `wait` says, as [`Reader::next`](crate::Reader::next).
    ///
    /// # Errors
    ///
    /// As [`CopyingReader::try_next`].
    pub fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, ReadError> {
        self.following.next(wait)
    }

    /// The record before this place, and moves back before it; as [`Reader::try_previous`](crate::Reader::try_previous).
    ///
    /// # Errors
    ///
    /// As [`CopyingReader::try_next`].
    pub fn try_previous(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        self.following.try_previous()
    }

    /// How the channel has ended, as [`Reader::end`](crate::Reader::end).
    pub fn end(&self) -> Option<End> {
        self.following.end()
    }

    /// If there is nothing to read: asks whether the writer lives, as [`Reader::check_end`](crate::Reader::check_end).
    ///
    /// # Errors
    ///
    /// As [`CopyingReader::try_next`], and if the file system does not answer.
    pub fn check_end(&mut self) -> Result<Option<End>, ReadError> {
        self.following.check_end()
    }

    /// Sets how long this reader waits for a sign of life, as [`Reader::set_timeout`](crate::Reader::set_timeout).
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.following.timeout = timeout;
    }

    /// Sets whether this reader stops at the synced tail, as [`Reader::set_durable`](crate::Reader::set_durable). The synced
    /// tail is what the file says of it.
    pub fn set_durable(&mut self, durable: bool) {
        self.following.cursor.set_durable(durable);
    }

    /// Position of the next record, or of the batch that it is part of.
    pub fn position(&self) -> Position {
        Position::new(self.following.cursor.position())
    }

    /// Sequence of the next record.
    pub fn sequence(&self) -> u64 {
        self.following.cursor.sequence()
    }

    /// Where the channel ends at the moment, as [`Channel::end_point`](crate::Channel::end_point). This reader stays where it
    /// is.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn end_point(&self) -> Result<EndPoint, ReadError> {
        let source = &self.following.source;
        end_point(source, &mut source.copying_cursor()?)
    }

    /// Checks every record from the first on, as [`Channel::verify`](crate::Channel::verify). This reader stays where it is.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]; the position is that of the first damage.
    pub fn verify(&self, progress: impl FnMut(Position)) -> Result<EndPoint, ReadError> {
        self.check_up(progress)?.outcome
    }

    /// The same, and tells how far the channel is good also where there is damage behind.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn check_up(&self, progress: impl FnMut(Position)) -> Result<CheckUp, ReadError> {
        let source = &self.following.source;
        Ok(check_up(source, &mut source.copying_cursor()?, progress))
    }

    /// Bytes from `position` to the last byte in the file that is not zero.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn bytes_behind(&self, position: Position) -> Result<u64, ReadError> {
        self.following.source.bytes_behind(position)
    }

    /// Asks the kernel whether the writer lives.
    ///
    /// # Errors
    ///
    /// If the file system does not support the question.
    pub fn writer_lives(&self) -> Result<bool, ReadError> {
        self.following.source.writer_lives()
    }

    /// The path under which the channel was opened.
    pub fn path(&self) -> &Path {
        &self.following.source.path
    }

    /// What the writer said of the channel when it created it, as it stood in the header when the file was opened.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::of(&self.following.source.header)
    }

    /// Sequence of the first record.
    pub fn first_sequence(&self) -> u64 {
        self.following.source.header.first_sequence
    }

    pub(crate) fn attributes(&self) -> &Attributes {
        &self.following.source.header.attributes
    }

    /// The stages that each record went through, as [`Channel::stages`](crate::Channel::stages).
    pub fn stages(&self) -> &[StageInfo] {
        &self.following.source.header.attributes.stages
    }

    /// Whether [`Start::Time`] finds the very record: if the channel has a timestamp stage.
    pub fn seeks_time_exactly(&self) -> bool {
        self.following.source.layout.has_timestamp()
    }

    /// Up to where the file says that records are durable, as [`Channel::synced_tail`](crate::Channel::synced_tail).
    pub fn synced_tail(&self) -> Position {
        Position::new(self.following.source.synced_tail())
    }

    /// Bytes of the data region that the file says are reserved on the disk.
    pub fn reserved(&self) -> u64 {
        let source = &self.following.source;
        source.word(source.header.regions.control + RESERVED).min(source.header.capacity)
    }
}

impl ReadOptions {
    /// Opens the channel at `path` for a reader that does not trust the file, and from then on copies out of it. It verifies
    /// always.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn copying(self, path: impl AsRef<Path>) -> Result<CopyingReader, OpenError> {
        let path = path.as_ref();
        let opened = look_into(path, &self.verify(Verify::Always))?;
        let cursor = opened.copying_cursor().map_err(|error| match error {
            ReadError::Io { action, source } => OpenError::Io { action, path: path.to_owned(), source },
            cut => OpenError::Io { action: "read", path: path.to_owned(), source: io::Error::other(cut) },
        })?;
        Ok(CopyingReader { following: Following::new(opened, cursor) })
    }
}

/// Bytes that are copied at once, unless a frame is longer.
const BLOCK: u64 = 128 << 10;
/// Entries of the index that may lead nowhere before everything is walked.
const TRIES: u32 = 16;

/// A place between frames in a copy of a part of the data region.
///
/// Like the window of `publish.rs`, with the copy in place of the memory, and its end as the bound.
#[derive(Debug)]
pub(crate) struct Copied {
    /// A whole number of words.
    bytes: Vec<u8>,
    /// Position of the first of them.
    from: u64,
    /// A multiple of 8, with a word of the copy behind it.
    at: u64,
    /// The payload that was taken last: inside the copy.
    payload: (u64, u64),
    limit: u64,
}

impl Copied {
    fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    fn index(&self, at: u64) -> usize {
        (at - self.from) as usize
    }

    /// Forgets everything but `bytes`, at least a word, and moves there.
    fn replace(&mut self, at: u64, bytes: Vec<u8>) {
        assert!(bytes.len() as u64 >= WORD && bytes.len().is_multiple_of(8));
        *self = Copied { bytes, from: at, at, payload: (at, 0), limit: self.limit };
    }
}

impl Place for Copied {
    type Bytes<'a> = &'a [u8];

    const SHOWS_NOW: bool = false;

    #[inline]
    fn at(&self) -> u64 {
        self.at
    }

    #[inline]
    fn head(&self) -> Head {
        Head(u64_at(&self.bytes, self.index(self.at)))
    }

    #[inline]
    fn take(&mut self, head: Head) -> bool {
        let end = self.at + frame_len(head.len());
        if end + WORD > self.end() {
            return false;
        }
        self.payload = (self.at + WORD, head.len());
        self.at = end;
        true
    }

    #[inline]
    fn take_below_limit(&mut self, head: Head) -> bool {
        self.at + frame_len(head.len()) + WORD <= self.limit && self.take(head)
    }

    fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    fn enter(&mut self) -> bool {
        self.payload.1 >= WORD && self.move_to(self.payload.0 + WORD)
    }

    fn move_to(&mut self, at: u64) -> bool {
        let possible = at.is_multiple_of(8)
            && at >= self.from
            && at.checked_add(WORD).is_some_and(|end| end <= self.end());
        if possible {
            self.at = at;
        }
        possible
    }

    #[inline]
    fn taken_at(&self) -> u64 {
        self.payload.0 - WORD
    }

    #[inline]
    fn payload(&self) -> &[u8] {
        let at = self.index(self.payload.0);
        &self.bytes[at..at + self.payload.1 as usize]
    }
}

impl Growth<Copied> for Opened {
    fn grow(&self, place: &mut Copied, needed: u64) -> Result<bool, ReadError> {
        let len = self.data_len()?;
        if needed > len {
            return Ok(false);
        }
        // What lies before has been lent and given back.
        let passed = place.index(place.at);
        place.bytes.drain(..passed);
        (place.from, place.payload) = (place.at, (place.at, 0));
        if place.bytes.capacity() as u64 > 4 * BLOCK && needed - place.from <= BLOCK {
            place.bytes.shrink_to(2 * BLOCK as usize);
        }
        let enough = needed.max(place.at + BLOCK).min(len);
        let before = place.end();
        while place.end() < enough {
            let at = place.end();
            if !self.copy(&mut place.bytes, at, (enough - at).min(BLOCK))? {
                // It has become shorter meanwhile.
                break;
            }
        }
        Ok(place.end() > before)
    }

    fn jump(&self, place: &mut Copied, at: u64) -> Result<bool, ReadError> {
        if place.move_to(at) {
            return Ok(true);
        }
        let len = self.reach.saturating_sub(at).min(BLOCK);
        let mut bytes = Vec::new();
        let moved = at.is_multiple_of(8) && self.copy(&mut bytes, at, len)?;
        if moved {
            place.replace(at, bytes);
        }
        Ok(moved)
    }

    fn jump_back(&self, place: &mut Copied, at: u64) -> Result<bool, ReadError> {
        if place.move_to(at) {
            return Ok(true);
        }
        // Half a block before it, and half a block from it on.
        let before = self.jump(place, at.saturating_sub(BLOCK / 2))?;
        Ok((before && place.move_to(at)) || self.jump(place, at)?)
    }

    fn look_again(&self, place: &mut Copied) -> Result<bool, ReadError> {
        let mut bytes = Vec::new();
        // The word alone: what is read after it was written before it.
        if !self.copy(&mut bytes, place.at, WORD)? {
            return Err(cut_short(place.at));
        }
        place.replace(place.at, bytes);
        Ok(true)
    }

    fn durable_tail(&self) -> u64 {
        if self.other_boot { u64::MAX } else { self.synced_tail() }
    }
}

impl Source<Copied> for Opened {
    fn opened(&self) -> &Opened {
        self
    }

    /// Only an entry that leads to a frame is gone on from. One that leads to the tail does too, but a place where nothing is
    /// written proves nothing.
    fn last_entry(&self, wanted: impl Fn(&Entry) -> bool) -> Result<Entry, ReadError> {
        let mut below = u64::MAX;
        for _ in 0..TRIES {
            let entry = Opened::last_entry(self, |entry| entry.position < below && wanted(entry));
            if entry.position == 0 || self.leads_to_a_frame(&entry)? {
                return Ok(entry);
            }
            below = entry.position;
        }
        Ok(self.beginning())
    }

    fn heartbeat_nanos(&self) -> u64 {
        self.word(self.header.regions.control + HEARTBEAT)
    }

    fn record<'r>(
        &'r self,
        stored: &'r [u8],
        position: u64,
        sequence: u64,
        undone: Option<&'r Undone>,
    ) -> Record<'r> {
        Record::copied(stored, position, sequence, &self.layout, undone)
    }
}

impl Opened {
    /// A cursor over copies, at the first frame.
    fn copying_cursor(&self) -> Result<Cursor<Copied>, ReadError> {
        self.cursor_at(&self.beginning())?.ok_or_else(|| cut_short(0))
    }

    /// A cursor over copies where `entry` leads to, if the file reaches that far.
    fn cursor_at(&self, entry: &Entry) -> Result<Option<Cursor<Copied>>, ReadError> {
        let mut place = Copied { bytes: Vec::new(), from: 0, at: 0, payload: (0, 0), limit: u64::MAX };
        let there = self.jump(&mut place, entry.position)?;
        Ok(there.then(|| Cursor::new(place, entry.sequence, self.rules())))
    }

    fn leads_to_a_frame(&self, entry: &Entry) -> Result<bool, ReadError> {
        let Some(mut cursor) = self.cursor_at(entry)? else { return Ok(false) };
        match cursor.step(self) {
            Ok(step) => Ok(matches!(step, Step::Record | Step::End(_))),
            Err(error @ ReadError::Io { .. }) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Appends up to `len` bytes of the data region from `at` on to `bytes`, whole words of them; whether there were any.
    fn copy(&self, bytes: &mut Vec<u8>, at: u64, len: u64) -> Result<bool, ReadError> {
        let before = bytes.len();
        bytes.resize(before + len as usize, 0);
        let read = read_once(&self.file, &mut bytes[before..], self.header.regions.data + at);
        let words = *read.as_ref().unwrap_or(&0) & !7;
        bytes.truncate(before + words);
        read.reading("read the data")?;
        Ok(words > 0)
    }

    /// A live word of the control region; zero if the file is too short for it.
    fn word(&self, at: u64) -> u64 {
        self.words::<8>(at).map_or(0, u64::from_le_bytes)
    }

    fn synced_tail(&self) -> u64 {
        let control = self.header.regions.control;
        let synced = if self.same_boot { self.word(control + SYNCED) } else { self.synced_slot() };
        synced.min(self.header.capacity)
    }
}

/// One read of up to `bytes.len()` bytes; how many have come.
fn read_once(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    uninterrupted(|| file.read_at(bytes, at))
}

/// The file has lost what had been there.
fn cut_short(at: u64) -> ReadError {
    ReadError::Corrupt { position: Position::new(at), what: "the file has become shorter than this" }
}
