//! The timestamps of `kek write`: when a record arrived, not when it was appended a moment later.
//!
//! What arrives with one read arrives at one time, so the clock is asked once for it, or at least once for every
//! [`STRETCH`] records: asking for each would take as long as appending it. In the channel this is the library's own
//! timestamp stage. A time comes from the writer's clock, which never goes back, and is never after the append, so
//! that seeking to a time stays exact.

use std::cell::Cell;
use std::rc::Rc;

use kekbit::{AppendContext, Handler, StageError, StageInfo, TickUnit, Timestamp};

/// Records that may share a time although more has been done than reading them: a few microseconds of work.
const STRETCH: u32 = 64;

/// Stamps each record with the time of its arrival.
#[derive(Debug, Default)]
pub(crate) struct ArrivalStamp {
    unit: TickUnit,
    ticks: u64,
    left: Rc<Cell<u32>>,
}

/// Tells the stamp that something new has arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals {
    left: Rc<Cell<u32>>,
}

impl Arrivals {
    pub(crate) fn stamp(&self, unit: TickUnit) -> ArrivalStamp {
        ArrivalStamp { unit, ticks: 0, left: Rc::clone(&self.left) }
    }

    /// What is appended from now on gets a new time.
    pub(crate) fn mark(&self) {
        self.left.set(0);
    }
}

impl Handler for ArrivalStamp {
    fn describe(&self) -> StageInfo {
        Timestamp::new(self.unit).describe()
    }

    #[inline]
    fn before(&mut self, cx: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => {
                self.ticks = cx.now() / self.unit.nanos();
                self.left.set(STRETCH - 1);
            }
        }
        prefix.copy_from_slice(&self.ticks.to_le_bytes());
        Ok(())
    }
}
