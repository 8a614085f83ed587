//! The bare loop without an end: over memory that is used again and again.
//!
//! ```text
//!  +-----------+-----------+-----------+-----------+---------+
//!  | part 0    | part 1    | part 2    | part 3    | control |
//!  +-----------+-----------+-----------+-----------+---------+
//!    sender -> | jump to the next part when a frame does not fit
//! ```
//!
//! The control word is the number of the part, counted from the beginning, in which the receiver is. The sender enters a
//! part only when the receiver has left what was there; until then it waits, as everything of a fixed size must.

use std::sync::atomic::Ordering;

use memmap2::MmapRaw;

use super::PARTS;
use super::meet::{wait_for_path, wait_until};
use super::raw::{Found, Frames, Taking, WORD, create, damage, frame_len, open_for_writing, word};
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};

/// The bare loop over a ring.
pub(crate) struct RawReuse;

pub(crate) fn all() -> Vec<RawReuse> {
    vec![RawReuse]
}

const CONTROL: usize = 4096;

impl Peer for RawReuse {
    type Sender = ReuseSender;
    type Receiver = ReuseReceiver;

    fn name(&self) -> String {
        "raw, reuse".into()
    }

    fn about(&self) -> About {
        About { kept: false, checksummed: true, survives_kill: true }
    }

    fn takes_part(&self, workload: Workload) -> bool {
        matches!(workload, Workload::Sustained | Workload::OpenLoop)
    }

    fn sender(&self, link: &Link<'_>) -> Result<ReuseSender> {
        let path = link.dir.join(link.name);
        let part = (link.segment as usize).max(frame_len(link.size) + WORD).next_multiple_of(4096);
        let begun = path.with_extension("new");
        let map = create(&begun, (part * PARTS as usize + CONTROL) as u64)?;
        let control = open_for_writing(&begun)?;
        std::fs::rename(&begun, &path)?;
        Ok(ReuseSender { frames: Frames::new(map, part), control, part, number: 0 })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<ReuseReceiver> {
        let path = link.dir.join(link.name);
        wait_for_path(&path)?;
        let control = open_for_writing(&path)?;
        let part = (control.len() - CONTROL) / PARTS as usize;
        Ok(ReuseReceiver { taking: Taking::new(open_for_writing(&path)?), control, part, number: 0 })
    }
}

/// The sending side.
pub(crate) struct ReuseSender {
    frames: Frames<true>,
    control: MmapRaw,
    part: usize,
    number: u64,
}

impl ReuseSender {
    #[cold]
    fn enter_next(&mut self) -> Result<()> {
        self.number += 1;
        // Acquire: the partner of the receiver's Release, after which it does not look at what it has left.
        let is_left = || {
            word(&self.control, self.control.len() - CONTROL).load(Ordering::Acquire) + PARTS > self.number
        };
        wait_until("the receiver", || Ok(is_left().then_some(())))?;
        self.frames.jump((self.number % PARTS) as usize * self.part, self.part);
        Ok(())
    }
}

impl Sender for ReuseSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        if !self.frames.put(record) {
            self.enter_next()?;
            if !self.frames.put(record) {
                return Err("a record does not fit a part of the ring".into());
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// The receiving side.
pub(crate) struct ReuseReceiver {
    taking: Taking,
    control: MmapRaw,
    part: usize,
    number: u64,
}

impl Receiver for ReuseReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        for count in 0..super::AT_ONCE {
            match self.taking.next() {
                Found::Record(record) => each(record),
                Found::Nothing => return Ok(count),
                Found::Jump => {
                    self.number += 1;
                    self.taking.jump((self.number % PARTS) as usize * self.part);
                    // Release: the partner of the sender's Acquire.
                    word(&self.control, self.control.len() - CONTROL).store(self.number, Ordering::Release);
                    return Ok(count);
                }
                Found::Damage(head) => return Err(damage(head)),
            }
        }
        Ok(super::AT_ONCE)
    }
}
