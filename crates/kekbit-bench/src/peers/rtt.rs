//! One cache line that two cores pass to each other: what a round trip costs on this machine at least.
//!
//! The line holds a number. The sender's side makes it odd, the receiver's even again. It carries no record, so it is no
//! peer like the others; it is measured by the same loop, with the same two readings of the clock.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;

use super::meet::wait_for_path;
use super::{Entry, raw, this_program};
use crate::Result;
use crate::peer::{About, Workload};

/// Its name.
pub(crate) const NAME: &str = "raw_rtt";

pub(crate) fn entry() -> Entry {
    Entry {
        name: NAME.into(),
        about: About { kept: false, checksummed: false, survives_kill: true },
        workloads: vec![Workload::Pingpong],
        command: this_program,
    }
}

/// A side's view of the line.
pub(crate) struct Line(MmapRaw);

impl Line {
    pub(crate) fn create(path: &Path) -> Result<Line> {
        let begun = path.with_extension("new");
        let map = raw::create(&begun, 4096)?;
        std::fs::rename(begun, path)?;
        Ok(Line(map))
    }

    pub(crate) fn open(path: &Path) -> Result<Line> {
        wait_for_path(path)?;
        raw::open_for_writing(path).map(Line)
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        raw::word(&self.0, 0)
    }

    /// Passes the line to the other side as the round trip `n`, and waits until it is back.
    #[inline]
    pub(crate) fn ping(&self, n: u64) {
        // Release and Acquire, as the publication of a record has them.
        self.word().store(2 * n + 1, Ordering::Release);
        while self.word().load(Ordering::Acquire) != 2 * n + 2 {
            std::hint::spin_loop();
        }
    }

    /// Waits for round trip `n` and passes the line back.
    #[inline]
    pub(crate) fn pong(&self, n: u64) {
        while self.word().load(Ordering::Acquire) != 2 * n + 1 {
            std::hint::spin_loop();
        }
        self.word().store(2 * n + 2, Ordering::Release);
    }
}
