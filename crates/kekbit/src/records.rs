//! The plain iterators over the records of a channel, forwards and backwards.
//!
//! They lend from the channel's memory for as long as that is there. Where a stage stands in place of the payload, what undoing
//! it makes would have to lie in a buffer that is used again for the next record: so they end with an error that says so.

use crate::back::Back;
use crate::channel::Channel;
use crate::cursor::{Cursor, Poll, Step};
use crate::error::ReadError;
use crate::memory::map::BorrowedView;
use crate::publish::Window;
use crate::reader::End;
use crate::record::Record;
use crate::seek::{self, Skip};

/// The records of a channel from some place on; made by [`Channel::records`].
///
/// It ends at the tail, and goes on when it is asked again after more has been appended. After an error it ends for
/// good.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Records<'c> {
    channel: &'c Channel,
    cursor: Cursor<Window<BorrowedView<'c>>>,
    skip: Skip,
    end: Option<End>,
    failed: bool,
}

impl Records<'_> {
    /// How the channel has ended, if the iterator has come to its end: closed, full, sealed as abandoned, or torn. `None`
    /// at a tail that may grow, or whose writer is dead without anybody having sealed it; [`Channel::end_point`] asks.
    pub fn end(&self) -> Option<End> {
        self.end
    }
}

impl<'c> Records<'c> {
    /// The records of `channel` that `cursor` comes to, without those that `skip` passes over.
    pub(crate) fn new(
        channel: &'c Channel,
        mut cursor: Cursor<Window<BorrowedView<'c>>>,
        skip: Skip,
    ) -> Records<'c> {
        if skip != Skip::None || channel.layout().is_encoded() {
            // What is to be passed over is looked at one by one.
            cursor.set_limit(0);
        }
        Records { channel, cursor, skip, end: None, failed: false }
    }

    #[inline]
    fn current(&self) -> Record<'c> {
        let (position, sequence) = (self.cursor.record_position(), self.cursor.sequence() - 1);
        Record::new(self.cursor.record(), position, sequence, self.channel, None)
    }

    #[cold]
    #[inline(never)]
    fn next_slowly(&mut self) -> Option<Result<Record<'c>, ReadError>> {
        if let Some(error) = encoded(self.channel).filter(|_| !self.failed) {
            self.failed = true;
            return Some(Err(error));
        }
        while !self.failed {
            match self.cursor.step(self.channel) {
                Ok(Step::Record) => {
                    let record = self.current();
                    if self.skip == Skip::None || self.skip.is_over(&record) {
                        self.skip = Skip::None;
                        self.cursor.set_limit(u64::MAX);
                        return Some(Ok(record));
                    }
                }
                Ok(step) => {
                    self.end = End::of(step);
                    return None;
                }
                Err(error) => {
                    self.failed = true;
                    self.cursor.set_limit(0);
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<'c> Iterator for Records<'c> {
    type Item = Result<Record<'c>, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.poll() == Poll::Record { Some(Ok(self.current())) } else { self.next_slowly() }
    }
}

/// The records of a channel before some place, the last first; made by [`Channel::records_back`].
///
/// It ends at the first record. After an error it ends for good.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct RecordsBack<'c> {
    channel: &'c Channel,
    cursor: Cursor<Window<BorrowedView<'c>>>,
    back: Back,
    /// Whether the place where it begins has still to be found: the end.
    at_end: bool,
    failed: bool,
}

impl<'c> RecordsBack<'c> {
    /// From the end of `channel`, wherever that is when it is asked first.
    pub(crate) fn from_end(
        channel: &'c Channel,
        cursor: Cursor<Window<BorrowedView<'c>>>,
    ) -> RecordsBack<'c> {
        RecordsBack { channel, cursor, back: Back::default(), at_end: true, failed: false }
    }

    /// From where `cursor` stands, once `skip` has been passed over.
    pub(crate) fn new(
        channel: &'c Channel,
        mut cursor: Cursor<Window<BorrowedView<'c>>>,
        skip: Skip,
    ) -> Result<RecordsBack<'c>, ReadError> {
        if skip != Skip::None && !channel.layout().is_encoded() {
            let is_over = |cursor: &Cursor<Window<BorrowedView<'c>>>| {
                let (position, sequence) = (cursor.record_position(), cursor.sequence() - 1);
                skip.is_over(&Record::new(cursor.record(), position, sequence, channel, None))
            };
            seek::pass_over(channel, &mut cursor, is_over)?;
        }
        Ok(RecordsBack { channel, cursor, back: Back::default(), at_end: false, failed: false })
    }

    fn go_back(&mut self) -> Result<bool, ReadError> {
        if std::mem::take(&mut self.at_end) {
            seek::to_end(self.channel, &mut self.cursor)?;
        }
        self.back.step(self.channel, &mut self.cursor)
    }
}

impl<'c> Iterator for RecordsBack<'c> {
    type Item = Result<Record<'c>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match encoded(self.channel).map_or_else(|| self.go_back(), Err) {
            Ok(true) => {
                let (position, sequence) = (self.cursor.record_position(), self.cursor.sequence());
                Some(Ok(Record::new(self.cursor.record(), position, sequence, self.channel, None)))
            }
            Ok(false) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// Why nothing of `channel` can be lent from its memory, if so it is.
fn encoded(channel: &Channel) -> Option<ReadError> {
    let stage = channel.layout().replaced().next()?;
    Some(ReadError::Encoded { stage: stage.name.as_str().into(), id: stage.id })
}
