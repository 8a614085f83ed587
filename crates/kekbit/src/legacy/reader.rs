//! A reader of its own: follows a channel of 0.3.
//!
//! Invariants:
//! - Nothing is lent that has not been copied, by a read that began after the record's length had been seen.
//! - A word that makes no sense is copied until three copies, one after the other, are the same, before it is called damage.
//! - Where the format gives no way but to walk from the first record on, that is done: there is no index. On the way back it is
//!   walked a block at a time, from places that were noted on the way there.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::copy::{COPIES, Copied, next_word, word_at};
use super::format::{Loss, WORD, Word, frame_len};
use super::{Channel, Inner};
use crate::Position;
use crate::error::{Attempt, ReadError, SeekError};
use crate::reader::End;
use crate::record::Record;
use crate::seek::{Skip, Start};
use crate::wait::{Next, Wait, Waiting};

/// Reads a channel of 0.3 record by record, and waits for more if it is asked to.
///
/// It lends its records: each lives until the next step. Their sequences count from 0; their positions are offsets in the data
/// region, as `ShmReader::position` told them. It can be sent to another thread, and keeps the channel open.
///
/// # Example: follow until the end, or until it says nothing for as long as its timeout
///
/// ```no_run
/// use kekbit::{End, Wait, legacy};
///
/// let mut reader = legacy::Channel::open("0000_0000/0000_002a.kekbit")?.reader();
/// while let Some(record) = reader.next(Wait::backoff())? {
///     println!("{}", record.escape_ascii());
/// }
/// assert!(matches!(reader.end(), Some(End::Closed | End::TimedOut)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    channel: Channel,
    copied: Copied,
    /// Where the next record begins, and its sequence.
    at: u64,
    sequence: u64,
    taken: Taken,
    /// What zeros below this position are: records without bytes.
    zeros: u64,
    skip: Skip,
    /// What reading has come to; it does not go on from there.
    stop: Option<Stop>,
    timeout: Option<Duration>,
    /// Since when there has been nothing beyond this sequence, and whether that is too long.
    idle: Option<(Instant, u64)>,
    timed_out: bool,
    trail: Vec<Mark>,
    back: Back,
}

/// The record that was taken last.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    at: u64,
    len: u64,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    Closed,
    Corrupt(&'static str),
    CutOff(Loss),
}

/// By what a place is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Seen {
    word: u64,
    /// Behind zeros: where the next word lies, and what it is.
    behind: Option<(u64, u64)>,
    changes: bool,
}

/// Where a record begins, and its sequence.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: u64,
    sequence: u64,
}

/// Where the records begin that lie right before a place.
#[derive(Debug, Default)]
struct Back {
    starts: Vec<u64>,
    before: u64,
}

/// How often a word is looked at that makes no sense and changes.
const LOOKS: u32 = 1000;
/// Bytes between two marks.
const STEP: u64 = 64 << 10;

impl Reader {
    pub(super) fn new(channel: Channel) -> Reader {
        let timeout = channel.timeout();
        Reader {
            channel,
            copied: Copied::default(),
            at: 0,
            sequence: 0,
            taken: Taken::default(),
            zeros: 0,
            skip: Skip::None,
            stop: None,
            timeout,
            idle: None,
            timed_out: false,
            trail: Vec::new(),
            back: Back::default(),
        }
    }

    /// The next record, if it is there. Never blocks, but makes a system call now and then.
    ///
    /// `None` is "nothing yet" as long as [`Reader::end`] is `None`.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. After [`ReadError::Corrupt`] and [`ReadError::CutOff`] the reader does not move on.
    pub fn try_next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        if self.advance()? { Ok(Some(self.current())) } else { Ok(None) }
    }

    /// The next record; waits for it as `wait` says. `None` means that the channel has ended, or timed out, which [`Reader::end`] then
    /// tells, or that `wait` gave up, and then `end` is `None`. That a writer has died is not noticed: see [the module](super).
    ///
    /// # Errors
    ///
    /// As [`Reader::try_next`].
    pub fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, ReadError> {
        if self.advance()? || self.wait_for_record(wait)? { Ok(Some(self.current())) } else { Ok(None) }
    }

    /// The record before this place, and moves back before it, as [`kekbit::Reader::try_previous`](crate::Reader::try_previous).
    ///
    /// # Errors
    ///
    /// As [`Reader::try_next`]; the reader then stays where it is.
    pub fn try_previous(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        if self.skip != Skip::None && self.advance()? {
            // The record from which reading was to begin; now the place is before it.
            self.return_to(Mark { at: self.taken.at, sequence: self.taken.sequence });
        }
        if self.go_back()? { Ok(Some(self.current())) } else { Ok(None) }
    }

    /// Goes on from `start`: walks there from the first record. Damage on the way to [`Start::End`] and [`Start::Last`] is the end
    /// that they find.
    ///
    /// # Errors
    ///
    /// See [`SeekError`].
    pub fn seek(&mut self, start: Start) -> Result<(), SeekError> {
        self.return_to(Mark::default());
        self.skip = match start {
            Start::Beginning => Skip::None,
            Start::End => {
                self.walk_to_end()?;
                Skip::None
            }
            Start::Last(count) => {
                self.walk_to_end()?;
                let first = self.sequence.saturating_sub(count);
                if count > 0 {
                    self.return_to(self.mark_before(|mark| mark.sequence <= first));
                }
                Skip::BelowSequence(first)
            }
            Start::Sequence(sequence) => {
                self.return_to(self.mark_before(|mark| mark.sequence <= sequence));
                Skip::BelowSequence(sequence)
            }
            Start::Position(position) => {
                self.return_to(self.mark_before(|mark| mark.at <= position.offset()));
                while self.at < position.offset() && self.step()? {}
                if self.at != position.offset() {
                    return Err(SeekError::NotARecord { position });
                }
                Skip::None
            }
            Start::Time(time) if self.channel.seeks_time_exactly() => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                Skip::BeforeTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
            }
            Start::Time(_) => Skip::None,
        };
        Ok(())
    }

    /// How the channel has ended, as far as this reader has seen: [`End::Closed`], or [`End::TimedOut`], which it takes back when a
    /// record comes after all; `None` while it may go on.
    pub fn end(&self) -> Option<End> {
        match self.stop {
            Some(Stop::Closed) => Some(End::Closed),
            Some(_) => None,
            None => (self.timed_out && self.is_idle()).then_some(End::TimedOut),
        }
    }

    /// If there is nothing to read: asks the clock how long there has been none.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_next`].
    pub fn check_end(&mut self) -> Result<Option<End>, ReadError> {
        let (here, skip) = (Mark { at: self.at, sequence: self.sequence }, self.skip);
        if self.step()? {
            self.return_to(here);
            self.skip = skip;
            return Ok(None);
        }
        if self.stop.is_none()
            && let Some(timeout) = self.timeout
        {
            match self.idle {
                Some((since, _)) if self.is_idle() => self.timed_out = since.elapsed() >= timeout,
                _ => (self.idle, self.timed_out) = (Some((Instant::now(), self.sequence)), false),
            }
        }
        Ok(self.end())
    }

    /// Sets how long this reader waits for a new record; `None` is for ever. Default: what the channel says.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
        self.timed_out = false;
    }

    /// Position of the next record.
    pub fn position(&self) -> Position {
        Position::new(self.at)
    }

    /// Sequence of the next record: how many lie before it.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The channel that this reader reads.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Whether nothing has come since the clock was looked at.
    fn is_idle(&self) -> bool {
        self.idle.is_some_and(|(_, sequence)| sequence == self.sequence)
    }

    fn current(&self) -> Record<'_> {
        let Taken { at, len, sequence } = self.taken;
        // It was there when it was taken, and nothing has been copied since.
        let stored = self.copied.bytes(at + WORD, len).unwrap_or_default();
        Record::copied(stored, at, sequence, &self.channel.inner.layout, None)
    }

    /// Takes the next record that is not to be passed over.
    fn advance(&mut self) -> Result<bool, ReadError> {
        while self.step()? {
            if self.skip == Skip::None || self.skip.is_over(&self.current()) {
                self.skip = Skip::None;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the next record, if it is there.
    fn step(&mut self) -> Result<bool, ReadError> {
        if let Some(stop) = self.stop {
            return self.stopped(stop);
        }
        let here = self.copied.record_len(&self.channel.inner.header, self.at);
        if here == Some(0) && self.at >= self.zeros {
            self.zeros = self.copied.end_of_zeros(self.at).unwrap_or(self.zeros);
        }
        let len = match here.filter(|len| *len > 0 || self.at < self.zeros) {
            Some(len) => len,
            None => match self.look()? {
                Word::Record(len) => len,
                Word::Nothing => return Ok(false),
                Word::Closed => return self.stopped(Stop::Closed),
                Word::CutOff(loss) => return self.stopped(Stop::CutOff(loss)),
                Word::Bad(what) => return self.stopped(Stop::Corrupt(what)),
            },
        };
        if len < self.channel.inner.layout.prefix as u64 {
            return self
                .stopped(Stop::Corrupt("a record shorter than what its handlers are said to put before it"));
        }
        self.taken = Taken { at: self.at, len, sequence: self.sequence };
        if self.at >= self.trail.last().map_or(0, |mark| mark.at) + STEP {
            self.trail.push(Mark { at: self.at, sequence: self.sequence });
        }
        self.at += frame_len(len);
        self.sequence += 1;
        Ok(true)
    }

    fn stopped(&mut self, stop: Stop) -> Result<bool, ReadError> {
        self.stop = Some(stop);
        let position = Position::new(self.at);
        match stop {
            Stop::Closed => Ok(false),
            Stop::Corrupt(what) => Err(ReadError::Corrupt { position, what }),
            Stop::CutOff(loss) => Err(ReadError::CutOff { position, loss }),
        }
    }

    /// Looks into the file at this place. A record has then been copied.
    #[cold]
    fn look(&mut self) -> Result<Word, ReadError> {
        let (mut before, mut same) = (None, 0);
        // A writer of 0.3 changes a word twice at the most; somebody else may do so for ever.
        for _ in 0..LOOKS {
            let mut seen = Seen::default();
            let word = self.look_once(&mut seen)?;
            if !matches!(word, Word::Bad(_) | Word::CutOff(_)) {
                return Ok(word);
            }
            same = if before == Some(seen) && !seen.changes { same + 1 } else { 1 };
            before = Some(seen);
            // Nothing else has come since: this is what is there.
            if same == COPIES {
                return Ok(word);
            }
        }
        Ok(Word::Bad("bytes that change all the time"))
    }

    /// Looks into the file at this place, and notes in `seen` by what that is judged.
    fn look_once(&mut self, seen: &mut Seen) -> Result<Word, ReadError> {
        let Inner { file, header, .. } = &*self.channel.inner;
        let bound = self.channel.bound()?;
        if self.at + WORD > bound {
            return Ok(Word::CutOff(header.loss(bound, None)));
        }
        let Some(word) = word_at(file, self.at).reading("read the data")? else {
            return Ok(Word::CutOff(header.loss(bound.min(self.at), None)));
        };
        seen.word = word;
        let word = header.judge(self.at, word, bound);
        let Word::Record(len) = word else { return Ok(word) };
        if len == 0 && self.at >= self.zeros {
            match self.end_of_zeros(bound, seen)? {
                Some(end) => self.zeros = end,
                None => {
                    return Ok(Word::Bad(
                        "zeros, and nothing behind them that can follow a record without bytes",
                    ));
                }
            }
        }
        self.copied.fill(file, header, self.at, len, bound).reading("read the data")?;
        match self.copied.record_len(header, self.at) {
            Some(len) if len > 0 || self.at < self.zeros => Ok(Word::Record(len)),
            _ => {
                seen.changes = true;
                Ok(Word::Bad("a record that changes while it is read"))
            }
        }
    }

    /// Up to where the zeros at this place are the lengths of records without bytes: up to a word that is no zero, if it makes
    /// sense.
    fn end_of_zeros(&self, bound: u64, seen: &mut Seen) -> Result<Option<u64>, ReadError> {
        let Inner { file, header, .. } = &*self.channel.inner;
        let found = next_word(file, self.at + WORD, bound).reading("read the data")?;
        seen.behind = found;
        let follows = |(at, word): &(u64, u64)| !matches!(header.judge(*at, *word, bound), Word::Bad(_));
        Ok(found.filter(follows).map(|(at, _)| at))
    }

    #[cold]
    fn wait_for_record(&mut self, wait: Wait<'_>) -> Result<bool, ReadError> {
        let mut waiting = Waiting::new(wait);
        while self.stop.is_none() {
            let next = waiting.pause();
            // Look first, so that giving up never misses what is there.
            if self.advance()? {
                return Ok(true);
            }
            if next != Next::Poll && self.check_end()?.is_some() || next == Next::GiveUp {
                // Something may have come between the look and the question.
                return self.advance();
            }
        }
        Ok(false)
    }

    /// Goes on from `mark`.
    fn return_to(&mut self, mark: Mark) {
        (self.at, self.sequence) = (mark.at, mark.sequence);
        self.skip = Skip::None;
        self.stop = None;
    }

    /// Behind the last good record.
    fn walk_to_end(&mut self) -> Result<(), ReadError> {
        loop {
            match self.step() {
                Ok(true) => {}
                Err(error @ ReadError::Io { .. }) => return Err(error),
                Ok(false) | Err(_) => return Ok(()),
            }
        }
    }

    /// The last mark for which `is_before` is true; of the records before it, all are. The first record, if there is none.
    fn mark_before(&self, is_before: impl Fn(&Mark) -> bool) -> Mark {
        let count = self.trail.partition_point(is_before);
        count.checked_sub(1).map_or(Mark::default(), |last| self.trail[last])
    }

    /// Takes the record before this place, if there is one, and moves before it.
    fn go_back(&mut self) -> Result<bool, ReadError> {
        let (here, stop) = (Mark { at: self.at, sequence: self.sequence }, self.stop);
        if here.at == 0 {
            return Ok(false);
        }
        let moved = self.take_before(here);
        match moved {
            Ok(start) => {
                self.return_to(start);
                self.back.before = start.at;
            }
            Err(_) => {
                self.return_to(here);
                self.stop = stop;
                self.back = Back::default();
            }
        }
        moved.map(|_| true)
    }

    fn take_before(&mut self, here: Mark) -> Result<Mark, ReadError> {
        let changed = ReadError::Corrupt {
            position: Position::new(here.at),
            what: "what lies before has changed since it was read",
        };
        if self.back.before != here.at || self.back.starts.is_empty() {
            self.back.starts.clear();
            self.return_to(self.mark_before(|mark| mark.at < here.at));
            while self.at < here.at {
                self.back.starts.push(self.at);
                if !self.step()? {
                    return Err(changed);
                }
            }
            if (self.at, self.sequence) != (here.at, here.sequence) {
                return Err(changed);
            }
        }
        let Some(at) = self.back.starts.pop() else { return Err(changed) };
        let start = Mark { at, sequence: here.sequence - 1 };
        self.return_to(start);
        if !self.step()? || self.at != here.at {
            return Err(changed);
        }
        Ok(start)
    }
}
