//! Walking over frames: what every kind of reading has in common.
//!
//! A cursor stands between records. [`Cursor::step`] looks at the word there and either takes the record, or says that
//! there is nothing yet, or how the channel ended. Padding and batches are passed through without the caller noticing:
//! inner frames of a batch lie next to each other and next to the frame behind the batch, so that once a batch has been
//! entered and checked as a whole, walking on is the same.
//!
//! What an invalid word means depends on who can have made it, see [`Belief`].

use crate::Position;
use crate::error::ReadError;
use crate::layout::crc::{Short, crc32c_padded};
use crate::layout::frame::{Checksum, Head, Kind, SHORT, Salt, WORD, batch_records, frame_len};
use crate::publish::Place;

/// What a reader may believe of a channel, found out when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Belief {
    /// A zero word below this position is damage: something was there.
    pub(crate) written: u64,
    /// A failed check below this position is damage; at or past it, it is the torn tail of a crash of the machine.
    pub(crate) sound: u64,
    /// Nothing at or past this position is believed at all.
    pub(crate) believed: u64,
}

impl Belief {
    /// The writer lives, or did a moment ago.
    pub(crate) const LIVE: Belief = Belief { written: 0, sound: u64::MAX, believed: u64::MAX };
}

/// How a cursor checks what it finds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) salt: Salt,
    pub(crate) checksum: Checksum,
    /// Whether the checks of records are computed; lengths are compared with the bounds always.
    pub(crate) verify: bool,
    pub(crate) belief: Belief,
    /// Bytes that the stages add to each record: none is shorter.
    pub(crate) around: u32,
    pub(crate) max_record_len: u32,
}

/// What a step has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A record, now the current one.
    Record,
    /// Nothing yet.
    Nothing,
    /// A terminal frame.
    End(Kind),
    /// What a crash of the machine has left of the last writes.
    Torn,
    /// Something that is not known to be durable, see [`Cursor::set_durable`].
    Unsynced,
}

/// What a quick look has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Poll {
    /// A record, now the current one.
    Record,
    /// Nothing yet, as a step would find.
    Nothing,
    /// Whatever a step finds.
    Unclear,
}

/// What it means that nothing is written where the next frame would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Silence {
    /// Something is written by now.
    Broken,
    /// The writer lives.
    Pause,
    /// The writer is dead, and has left nothing behind that was not seen: nothing will ever be written here.
    Final,
}

/// Tells how far a channel has come by now, and lets a place reach that far.
pub(crate) trait Growth<P> {
    /// Lets `place` reach farther, to `needed` if that is possible; whether it does.
    fn grow(&self, place: &mut P, needed: u64) -> Result<bool, ReadError>;

    /// Moves `place` to `at`, which may be far away; `false`, and nowhere, if the file does not reach that far.
    fn jump(&self, place: &mut P, at: u64) -> Result<bool, ReadError>;

    /// Moves `place` to `at`, which lies before it, and what will be read next before that.
    fn jump_back(&self, place: &mut P, at: u64) -> Result<bool, ReadError> {
        self.jump(place, at)
    }

    /// Lets `place` show what the file holds by now; `false` if it does that anyway.
    fn look_again(&self, _place: &mut P) -> Result<bool, ReadError> {
        Ok(false)
    }

    /// Position before which everything is durable.
    fn durable_tail(&self) -> u64;
}

/// Where a record begins. True for as long as the channel is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    pub(crate) sequence: u64,
    at: u64,
    /// The same, or where the batch begins that the record is part of.
    frame: u64,
}

/// A place between records.
#[derive(Debug)]
pub(crate) struct Cursor<P> {
    window: P,
    /// Sequence of the next record.
    sequence: u64,
    /// Position of the batch that was entered last, and where it ends.
    batch: (u64, u64),
    rules: Rules,
    /// Up to where the caller lets [`Cursor::poll`] go.
    limit: u64,
    /// The checksum of short records, if there is one, and the processor has it.
    short: Option<Short>,
    /// Nothing at or past this position is taken without asking for the durable tail anew; `u64::MAX`: nobody cares.
    durable: u64,
    /// Whether the last step has stopped there.
    held_back: bool,
    /// Where it belongs, if it could not be moved back there: then the next step does that first. Out of the way of what is read each time.
    astray: Option<Box<Spot>>,
    /// A header word's upper half less `least` is at most `span` for every record of a possible length.
    least: u32,
    span: u32,
}

impl<P: Place> Cursor<P> {
    /// A cursor at the first frame.
    pub(crate) fn new(window: P, first_sequence: u64, rules: Rules) -> Cursor<P> {
        let least = (Kind::Record as u32) << 28 | rules.around;
        let span = rules.max_record_len.saturating_sub(rules.around);
        let mut cursor = Cursor {
            window,
            sequence: first_sequence,
            batch: (0, 0),
            rules,
            limit: u64::MAX,
            short: Short::new().filter(|_| rules.checksum == Checksum::Crc32c),
            durable: u64::MAX,
            held_back: false,
            astray: None,
            least,
            span,
        };
        cursor.set_limit(u64::MAX);
        cursor
    }

    /// Lets [`Cursor::poll`] take records up to `limit`, as far as they need no more than it looks at.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
        // Where not everything is believed each record is looked at. A frame that ends at the durable tail, which lies
        // between frames, is the last before it; the limit counts the word behind it.
        let plain = self.rules.belief.believed == u64::MAX;
        let limit = limit.min(self.durable.saturating_add(WORD));
        self.window.set_limit(if plain && self.astray.is_none() { limit } else { 0 });
    }

    /// Whether to stop at the durable tail: what lies past it is not looked at.
    pub(crate) fn set_durable(&mut self, durable: bool) {
        self.durable = if durable { 0 } else { u64::MAX };
        self.held_back = false;
        self.set_limit(self.limit);
    }

    /// Whether the last step has stopped at the durable tail.
    pub(crate) fn is_held_back(&self) -> bool {
        self.held_back
    }

    /// Whether what lies at this place is not durable by now, as far as anybody cares.
    pub(crate) fn is_unsynced(&mut self, growth: &impl Growth<P>) -> bool {
        let at = self.window.at();
        if at >= self.durable {
            self.durable = growth.durable_tail();
            self.set_limit(self.limit);
        }
        at >= self.durable
    }

    /// Moves to a frame that is known to begin at `position` with the record `sequence`; `false`, and nowhere, if the
    /// file does not reach that far.
    pub(crate) fn move_to(
        &mut self,
        position: u64,
        sequence: u64,
        growth: &impl Growth<P>,
    ) -> Result<bool, ReadError> {
        let moved = growth.jump(&mut self.window, position)?;
        if moved {
            self.sequence = sequence;
            self.batch = (0, 0);
            self.astray = None;
        }
        Ok(moved)
    }

    /// Where the current record begins.
    pub(crate) fn taken(&self) -> Spot {
        let (at, frame) = (self.window.taken_at(), self.record_position());
        Spot { sequence: self.sequence - 1, at, frame }
    }

    /// This place, to be returned to.
    pub(crate) fn here(&self) -> Spot {
        let here = Spot { sequence: self.sequence, at: self.window.at(), frame: self.position() };
        self.astray.as_deref().copied().unwrap_or(here)
    }

    /// Takes the record that begins at `spot`, and stays before it. If there is something else, the place is another than before.
    pub(crate) fn take_at(&mut self, spot: &Spot, growth: &impl Growth<P>) -> Result<Step, ReadError> {
        if !self.move_back(spot, growth)? {
            return Ok(Step::Nothing);
        }
        let step = self.step(growth)?;
        if step == Step::Record {
            // The record stays the current one.
            self.window.move_to(spot.at);
            self.sequence = spot.sequence;
        }
        Ok(step)
    }

    /// Moves back to where a record was found, or the place behind one.
    fn move_back(&mut self, spot: &Spot, growth: &impl Growth<P>) -> Result<bool, ReadError> {
        let known = self.batch.0 == spot.frame && spot.at < self.batch.1;
        if spot.at != spot.frame && !(known && self.window.move_to(spot.at)) {
            // A batch is checked as a whole when it is entered.
            if !growth.jump_back(&mut self.window, spot.frame)? {
                return Ok(false);
            }
            self.batch = (0, 0);
            let entered = self.step(growth)? == Step::Record && spot.at < self.batch.1;
            if !(entered && self.window.move_to(spot.at)) {
                return Ok(false);
            }
        } else if spot.at == spot.frame {
            if !growth.jump_back(&mut self.window, spot.at)? {
                return Ok(false);
            }
            self.batch = (0, 0);
        }
        self.sequence = spot.sequence;
        Ok(true)
    }

    /// Returns to a place where it was. If that cannot be read now, the next step tries it again.
    pub(crate) fn return_to(&mut self, spot: &Spot, growth: &impl Growth<P>) -> Result<(), ReadError> {
        self.astray = None;
        let moved = self.move_back(spot, growth);
        if !matches!(moved, Ok(true)) {
            self.astray = Some(Box::new(*spot));
            self.sequence = spot.sequence;
        }
        self.set_limit(self.limit);
        if moved? { Ok(()) } else { Err(self.corrupt("what was read here before has gone")) }
    }

    /// Position of the next frame; inside a batch, of the batch.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        let at = self.window.at();
        if at < self.batch.1 { self.batch.0 } else { at }
    }

    /// How far the bytes reach that have been looked at.
    #[inline]
    pub(crate) fn reach(&self) -> u64 {
        self.window.at()
    }

    /// Sequence of the next record.
    #[inline]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Position of the current record.
    #[inline]
    pub(crate) fn record_position(&self) -> u64 {
        let at = self.window.taken_at();
        if at < self.batch.1 { self.batch.0 } else { at }
    }

    /// The current record, as it is stored.
    #[inline]
    pub(crate) fn record(&self) -> P::Bytes<'_> {
        self.window.payload()
    }

    /// Whether something has been written at this place.
    fn is_written(&self) -> bool {
        self.window.head().0 != 0
    }

    /// Finds out what it means that [`Cursor::step`] has found nothing. `writer_lives` asks the kernel; it is not asked
    /// if something has been written meanwhile.
    pub(crate) fn silence(
        &mut self,
        growth: &impl Growth<P>,
        writer_lives: impl FnOnce() -> Result<bool, ReadError>,
    ) -> Result<Silence, ReadError> {
        growth.look_again(&mut self.window)?;
        if self.is_written() {
            return Ok(Silence::Broken);
        }
        if writer_lives()? {
            return Ok(Silence::Pause);
        }
        // It may have written between the look and its death: look again. The answer comes from the kernel, whose lock
        // orders it after the writer's last store, so that what is not written now never will be.
        growth.look_again(&mut self.window)?;
        Ok(if self.is_written() { Silence::Broken } else { Silence::Final })
    }

    /// Takes the next record if it is there, lies below the limit, and nothing speaks against it. Otherwise nothing has
    /// happened, and [`Cursor::step`] tells more, unless there is nothing to tell.
    #[inline(always)]
    pub(crate) fn poll(&mut self) -> Poll {
        let (at, head) = (self.window.at(), self.window.head());
        if head.kl().wrapping_sub(self.least) > self.span {
            let idle = head.0 == 0 && P::SHOWS_NOW && at >= self.rules.belief.written && !self.held_back;
            return if idle { Poll::Nothing } else { Poll::Unclear };
        }
        if !self.window.take_below_limit(head) {
            return Poll::Unclear;
        }
        if self.rules.verify && !self.is_sound(at, head) {
            self.window.move_to(at);
            return Poll::Unclear;
        }
        self.sequence += 1;
        Poll::Record
    }

    /// Whether the frame that was taken at `at` passes its check, or is an inner one of a batch, which passed as a whole.
    /// Makes no call for a short record, so that it needs no stack.
    #[inline(never)]
    fn is_sound(&self, at: u64, head: Head) -> bool {
        if at < self.batch.1 {
            return true;
        }
        match self.short {
            Some(short) if head.len() <= SHORT => {
                let crc = short.crc32c_padded(self.window.payload().as_ref());
                head.check() == crc ^ self.rules.salt.mix(at, head.kl())
            }
            _ => self.passes(at, head),
        }
    }

    /// Takes the next record, if there is one, or tells what there is instead.
    #[inline]
    pub(crate) fn step(&mut self, growth: &impl Growth<P>) -> Result<Step, ReadError> {
        match self.poll() {
            Poll::Record => Ok(Step::Record),
            _ => self.step_surely(self.window.head(), growth),
        }
    }

    /// Everything but a plain record that lies below the limit. What speaks against a frame is believed
    /// only after another look: it may have been copied while it was written.
    #[inline(never)]
    fn step_surely(&mut self, mut head: Head, growth: &impl Growth<P>) -> Result<Step, ReadError> {
        if let Some(spot) = self.astray.as_deref().copied() {
            self.return_to(&spot, growth)?;
            head = self.window.head();
        }
        let mut looked_at = None;
        loop {
            let step = self.step_carefully(head, growth);
            if matches!(step, Ok(Step::Record | Step::End(_) | Step::Unsynced) | Err(ReadError::Io { .. })) {
                return step;
            }
            let at = self.window.at();
            if looked_at == Some(at) || !growth.look_again(&mut self.window)? {
                return step;
            }
            looked_at = Some(at);
            head = self.window.head();
        }
    }

    fn step_carefully(&mut self, mut head: Head, growth: &impl Growth<P>) -> Result<Step, ReadError> {
        self.held_back = false;
        loop {
            let at = self.window.at();
            if head.0 == 0 {
                let damaged = at < self.rules.belief.written;
                return if damaged {
                    Err(self.corrupt("nothing is written here, but there is data behind"))
                } else {
                    Ok(Step::Nothing)
                };
            }
            let inner = at < self.batch.1;
            // The durable tail lies between frames: what begins before it ends before it.
            if !inner && self.is_unsynced(growth) {
                self.held_back = true;
                return Ok(Step::Unsynced);
            }
            // A batch is believed as a whole, so that its records appear together.
            if !inner && at >= self.rules.belief.believed {
                return Ok(Step::Torn);
            }
            let Some(kind) = Kind::from_number(head.kind_number()) else {
                return self.unknown(head, growth);
            };
            if kind.is_terminal() {
                let sound = head.len() == 0 && !inner && head.check() == self.rules.salt.mix(at, head.kl());
                return if sound {
                    Ok(Step::End(kind))
                } else {
                    self.invalid("a terminal frame does not pass its check")
                };
            }
            // Before anything is done about its length.
            if kind == Kind::Record && head.kl().wrapping_sub(self.least) > self.span {
                return self.invalid("a record has an impossible length");
            }
            if !self.take(head, growth)? {
                return self.invalid("a frame reaches past the end of the file");
            }
            // The inner frames of a batch have been checked with it.
            if self.rules.verify && !inner && !self.passes(at, head) {
                self.window.move_to(at);
                return self.invalid("a frame does not pass its check");
            }
            match kind {
                Kind::Record => {
                    self.sequence += 1;
                    return Ok(Step::Record);
                }
                Kind::Batch if inner => {
                    self.window.move_to(at);
                    return self.invalid("a batch lies inside a batch");
                }
                Kind::Batch => {
                    let end = self.window.at();
                    if !self.chains_up() || !self.window.enter() {
                        self.window.move_to(at);
                        return self.invalid("a batch does not hold what it says");
                    }
                    self.batch = (at, end);
                }
                // Padding, and kinds that may be passed over.
                _ => {}
            }
            head = self.window.head();
        }
    }

    /// An intact frame of an unknown kind is not damage, but something that a newer version has to say.
    fn unknown(&mut self, head: Head, growth: &impl Growth<P>) -> Result<Step, ReadError> {
        let at = self.window.at();
        let intact = self.take(head, growth)? && self.passes(at, head);
        self.window.move_to(at);
        if intact {
            return Err(ReadError::UnknownKind { position: Position::new(at), kind: head.kind_number() });
        }
        self.invalid("a frame does not pass its check")
    }

    /// Takes the frame, if need be after asking how far the file reaches by now.
    fn take(&mut self, head: Head, growth: &impl Growth<P>) -> Result<bool, ReadError> {
        if self.window.take(head) {
            return Ok(true);
        }
        let needed = self.window.at() + frame_len(head.len()) + WORD;
        Ok(growth.grow(&mut self.window, needed)? && self.window.take(head))
    }

    /// Whether the frame that was taken at `at` passes its check.
    #[inline(never)]
    fn passes(&self, at: u64, head: Head) -> bool {
        let crc = match self.rules.checksum {
            Checksum::Crc32c => crc32c_padded(self.window.payload().as_ref()),
            Checksum::None => 0,
        };
        head.check() == crc ^ self.rules.salt.mix(at, head.kl())
    }

    /// Whether the batch that was taken is what it says.
    fn chains_up(&self) -> bool {
        let payload = self.window.payload();
        batch_records(payload.as_ref(), |kl| kl.wrapping_sub(self.least) <= self.span, |_| ()).is_some()
    }

    pub(crate) fn corrupt(&self, what: &'static str) -> ReadError {
        ReadError::Corrupt { position: Position::new(self.position()), what }
    }

    /// What a failed check at this place means.
    #[cold]
    fn invalid(&self, what: &'static str) -> Result<Step, ReadError> {
        if self.window.at() < self.rules.belief.sound { Err(self.corrupt(what)) } else { Ok(Step::Torn) }
    }
}
