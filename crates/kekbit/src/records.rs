//! The plain iterator over the records of a channel.

use crate::channel::Channel;
use crate::cursor::{Cursor, Poll, Step};
use crate::error::ReadError;
use crate::memory::map::BorrowedView;
use crate::publish::Window;
use crate::reader::End;
use crate::record::Record;
use crate::seek::Skip;

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
        if skip != Skip::None {
            // What is to be passed over is looked at one by one.
            cursor.set_limit(0);
        }
        Records { channel, cursor, skip, end: None, failed: false }
    }

    #[inline]
    fn current(&self) -> Record<'c> {
        let (position, sequence) = (self.cursor.record_position(), self.cursor.sequence() - 1);
        Record::new(self.cursor.record(), position, sequence, self.channel)
    }

    #[cold]
    #[inline(never)]
    fn next_slowly(&mut self) -> Option<Result<Record<'c>, ReadError>> {
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
