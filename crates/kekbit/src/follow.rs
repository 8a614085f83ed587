//! Following a channel while it is written: what every reader of its own has in common, whether it maps the file or copies
//! out of it.

use std::time::{Duration, Instant};

use crate::back::Back;
use crate::cursor::{Cursor, Poll, Silence, Step};
use crate::error::{ReadError, SeekError};
use crate::layout::PAGE;
use crate::opened::Source;
use crate::publish::Place;
use crate::reader::End;
use crate::record::Record;
use crate::seek::{self, Skip, Start};
use crate::undo::Undone;
use crate::wait::{CHECK_INTERVAL, Next, Wait, Waiting};

/// Bytes that a reader prepares ahead at once, once it reaches what is prepared. 64 KiB at once, what a fault maps anyway, make
/// reading slower than faults do, since each call costs 2 µs; 1 MiB would be a little faster, but the record that has to
/// wait would wait 80 µs instead of 20.
const PREPARE: u64 = 256 << 10;

/// A place in a channel, what was found there, and what is known of its writer.
#[derive(Debug)]
pub(crate) struct Following<P, S> {
    pub(crate) source: S,
    pub(crate) cursor: Cursor<P>,
    skip: Skip,
    back: Back,
    end: Option<End>,
    pub(crate) timeout: Option<Duration>,
    /// Since when there has been no progress beyond this sequence, and the heartbeat then.
    idle: Option<(Instant, u64, u64)>,
    prepared: u64,
    last_check: Option<Instant>,
    /// The payload of the current record, where it is not in the stored bytes; every record then takes the slow path.
    undone: Option<Box<Undone>>,
}

impl<P, S> Following<P, S>
where
    P: for<'a> Place<Bytes<'a> = &'a [u8]> + 'static,
    S: Source<P>,
{
    /// Begins with the first record; `cursor` stands there.
    pub(crate) fn new(source: S, mut cursor: Cursor<P>) -> Following<P, S> {
        let timeout = source.opened().timeout();
        let undone = Undone::new(&source.opened().layout);
        if undone.is_some() {
            cursor.set_limit(0);
        }
        Following {
            source,
            cursor,
            skip: Skip::None,
            back: Back::default(),
            end: None,
            timeout,
            idle: None,
            prepared: 0,
            last_check: None,
            undone,
        }
    }

    /// Goes on from `start`.
    pub(crate) fn seek(&mut self, start: Start) -> Result<(), SeekError> {
        self.skip = seek::seek(&self.source, &mut self.cursor, start)?;
        // What is to be passed over is looked at one by one.
        self.cursor.set_limit(0);
        self.end = None;
        self.idle = None;
        Ok(())
    }

    /// Goes on from behind the last record; there is no such place only if the way there cannot be read.
    pub(crate) fn seek_end(&mut self) -> Result<(), ReadError> {
        seek::to_end(&self.source, &mut self.cursor)?;
        self.cursor.set_limit(0);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn try_next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        if self.advance()? { Ok(Some(self.current())) } else { Ok(None) }
    }

    #[inline]
    pub(crate) fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, ReadError> {
        if self.advance()? || self.wait_for_record(wait)? { Ok(Some(self.current())) } else { Ok(None) }
    }

    /// Takes the next record, if it is there. In a function of its own it costs a fifth more.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> Result<bool, ReadError> {
        match self.cursor.poll() {
            Poll::Record => Ok(true),
            // An end that was found may no longer be one.
            Poll::Nothing if self.end.is_none() => Ok(false),
            _ => self.advance_slowly(),
        }
    }

    #[cold]
    #[inline(never)]
    fn advance_slowly(&mut self) -> Result<bool, ReadError> {
        loop {
            self.end = match self.cursor.step(&self.source)? {
                Step::Record => {
                    if self.is_reached()? {
                        self.skip = Skip::None;
                        self.prepare();
                        return Ok(true);
                    }
                    continue;
                }
                Step::Nothing | Step::Unsynced => match self.end() {
                    // These were found out by asking, and stay true.
                    Some(end @ (End::Abandoned | End::TimedOut | End::Unsynced)) => Some(end),
                    _ => None,
                },
                step => End::of(step),
            };
            return Ok(false);
        }
    }

    /// Whether the record that was taken is not to be passed over; then its payload is there.
    fn is_reached(&mut self) -> Result<bool, ReadError> {
        let sequence = self.cursor.sequence() - 1;
        if matches!(self.skip, Skip::BelowSequence(wanted) if sequence < wanted) {
            return Ok(false);
        }
        if let Some(undone) = &mut self.undone {
            let position = self.cursor.record_position();
            if let Err(error) = undone.undo(self.cursor.record(), position, sequence) {
                // As for a failed check: whoever asks again is told again.
                let spot = self.cursor.taken();
                self.cursor.return_to(&spot, &self.source)?;
                return Err(error);
            }
        }
        Ok(self.skip == Skip::None || self.skip.is_over(&self.current()))
    }

    #[inline]
    pub(crate) fn try_previous(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        if self.go_back()? { Ok(Some(self.current_back())) } else { Ok(None) }
    }

    /// Takes the record before this place, if there is one, and moves before it.
    pub(crate) fn go_back(&mut self) -> Result<bool, ReadError> {
        if self.skip != Skip::None && self.advance()? {
            // The record from which reading was to begin; now the place is before it.
            self.back.step(&self.source, &mut self.cursor)?;
        }
        let here = self.cursor.here();
        let is_unsynced = self.cursor.is_unsynced(&self.source);
        if is_unsynced {
            seek::to_durable_tail(&self.source, &mut self.cursor)?;
        }
        let mut moved = self.back.step(&self.source, &mut self.cursor);
        if let (Ok(true), Some(undone)) = (&moved, &mut self.undone) {
            let (position, sequence) = (self.cursor.record_position(), self.cursor.sequence());
            if let Err(error) = undone.undo(self.cursor.record(), position, sequence) {
                self.cursor.return_to(&here, &self.source)?;
                moved = Err(error);
            }
        }
        match moved {
            Ok(true) => {
                self.skip = Skip::None;
                self.end = None;
            }
            _ if is_unsynced => self.cursor.return_to(&here, &self.source)?,
            _ => {}
        }
        moved
    }

    /// Prepares what comes next, if what is prepared has been read, and lets records be taken up to there.
    fn prepare(&mut self) {
        // A record was found: whatever was thought of the writer, it lives, or did.
        self.end = None;
        let reach = self.cursor.reach();
        if reach >= self.prepared {
            self.prepare_ahead(PREPARE);
            // Whatever the file says of itself, there is some way to go before this is asked again.
            if reach >= self.prepared {
                self.prepared = reach + PREPARE;
            }
        }
        self.cursor.set_limit(if self.undone.is_some() { 0 } else { self.prepared });
    }

    /// Prepares the next `bytes` bytes, as far as they are there and not prepared yet.
    pub(crate) fn prepare_ahead(&mut self, bytes: u64) {
        let reach = self.cursor.reach();
        let (from, to) = (self.prepared.max(reach & !(PAGE - 1)), reach.saturating_add(bytes));
        if from < to {
            self.prepared = self.source.prepare(from, to - from);
        }
    }

    #[inline]
    pub(crate) fn current(&self) -> Record<'_> {
        let (position, sequence) = (self.cursor.record_position(), self.cursor.sequence() - 1);
        self.source.record(self.cursor.record(), position, sequence, self.undone.as_deref())
    }

    /// The record that was taken last, if that was by going back: the next one.
    #[inline]
    pub(crate) fn current_back(&self) -> Record<'_> {
        let (position, sequence) = (self.cursor.record_position(), self.cursor.sequence());
        self.source.record(self.cursor.record(), position, sequence, self.undone.as_deref())
    }

    #[cold]
    fn wait_for_record(&mut self, wait: Wait<'_>) -> Result<bool, ReadError> {
        if self.has_ended() {
            return Ok(false);
        }
        let mut waiting = Waiting::new(wait);
        loop {
            let next = waiting.pause();
            // Look first, so that giving up never misses what is there.
            if self.advance()? {
                self.end = None;
                return Ok(true);
            }
            if self.has_ended() {
                return Ok(false);
            }
            match next {
                Next::Poll => {}
                Next::Check => match self.check_end()? {
                    Some(_) => return Ok(false),
                    // It may have been written between the look and the question.
                    None if self.advance()? => return Ok(true),
                    None => {}
                },
                Next::GiveUp => {
                    // Who waits little at a time notices a dead writer too.
                    if self.last_check.is_none_or(|last| last.elapsed() >= CHECK_INTERVAL) {
                        self.check_end()?;
                    }
                    return Ok(false);
                }
            }
        }
    }

    /// Whether nothing is to be passed over any more.
    pub(crate) fn has_begun(&self) -> bool {
        self.skip == Skip::None
    }

    /// Whether nothing can come any more, whoever is asked.
    fn has_ended(&self) -> bool {
        matches!(self.end, Some(End::Closed | End::Full | End::Torn | End::Abandoned))
    }

    pub(crate) fn end(&self) -> Option<End> {
        match (self.end, self.idle) {
            // A record has come after all.
            (Some(End::TimedOut), Some((_, sequence, _))) if sequence != self.cursor.sequence() => None,
            (Some(End::Unsynced), _) if !self.cursor.is_held_back() => None,
            (end, _) => end,
        }
    }

    pub(crate) fn check_end(&mut self) -> Result<Option<End>, ReadError> {
        if self.has_ended() {
            return Ok(self.end);
        }
        self.last_check = Some(Instant::now());
        if self.cursor.is_held_back() {
            return self.check_unsynced();
        }
        match self.cursor.silence(&self.source, || self.source.opened().writer_lives())? {
            // Something has come, of whatever kind: the next step tells.
            Silence::Broken => self.end = None,
            Silence::Final => self.end = Some(End::Abandoned),
            Silence::Pause => self.check_timeout(),
        }
        Ok(self.end)
    }

    /// As [`Following::check_end`], where something is written that is not durable yet.
    fn check_unsynced(&mut self) -> Result<Option<End>, ReadError> {
        if self.source.opened().writer_may_sync()? {
            self.check_timeout();
        } else {
            // It may have synced between the look and its death: look again.
            self.end = self.cursor.is_unsynced(&self.source).then_some(End::Unsynced);
        }
        Ok(self.end)
    }

    fn check_timeout(&mut self) {
        self.end = None;
        if let Some(timeout) = self.timeout {
            let signs = (self.cursor.sequence(), self.source.heartbeat_nanos());
            match self.idle {
                Some((since, sequence, heartbeat)) if (sequence, heartbeat) == signs => {
                    self.end = (since.elapsed() >= timeout).then_some(End::TimedOut);
                }
                // A new sign of life is never timed out at once, however late this thread comes to look.
                _ => self.idle = Some((Instant::now(), signs.0, signs.1)),
            }
        }
    }
}
