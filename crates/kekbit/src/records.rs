//! The plain iterator over the records of a channel.

use crate::channel::Channel;
use crate::cursor::{Cursor, Step};
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
    pub(crate) channel: &'c Channel,
    pub(crate) cursor: Cursor<Window<BorrowedView<'c>>>,
    pub(crate) skip: Skip,
    pub(crate) end: Option<End>,
    pub(crate) failed: bool,
}

impl Records<'_> {
    /// How the channel has ended, if the iterator has come to its end: closed, full, sealed as abandoned, or torn. `None`
    /// at a tail that may grow, or whose writer is dead without anybody having sealed it; [`Channel::end_point`] asks.
    pub fn end(&self) -> Option<End> {
        self.end
    }
}

impl<'c> Iterator for Records<'c> {
    type Item = Result<Record<'c>, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.failed {
                return None;
            }
            match self.cursor.step(self.channel) {
                Ok(Step::Record) => {}
                Ok(step) => {
                    self.end = End::of(step);
                    return None;
                }
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
            let (position, sequence) = (self.cursor.record_position(), self.cursor.sequence() - 1);
            let record = Record::new(self.cursor.record(), position, sequence, self.channel);
            if self.skip == Skip::None || self.skip.is_over(&record) {
                self.skip = Skip::None;
                return Some(Ok(record));
            }
        }
    }
}
