//! A batch: records that appear together or not at all.

use std::fmt;

use crate::Position;
use crate::error::AppendError;
use crate::handler::{AppendContext, Chain};
use crate::layout::frame::{BATCH_HEADER, Head, Kind, WORD, frame_len, kind_and_length};
use crate::layout::put;
use crate::writer::{Appended, Writer};

/// Records on their way into one frame, so that readers see all of them or none, also after a power cut.
///
/// Nothing is visible before [`Batch::commit`]; dropping or forgetting a batch changes nothing.
///
/// # Example: a transfer
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let mut writer = kekbit::Writer::create(dir.path().join("bank.kek"))?;
/// let mut transfer = writer.batch();
/// transfer.push(b"alice -10")?;
/// transfer.push(b"bob +10")?;
/// let at = transfer.commit()?;
/// assert_eq!((at.sequence, writer.next_sequence()), (0, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a batch that is not committed has no effect"]
pub struct Batch<'w, C: Chain> {
    writer: &'w mut Writer<C>,
    /// Bytes of the frame's payload so far; a multiple of 8.
    used: u64,
    count: u32,
}

impl<'w, C: Chain> Batch<'w, C> {
    pub(crate) fn new(writer: &'w mut Writer<C>) -> Self {
        Batch { writer, used: BATCH_HEADER, count: 0 }
    }

    /// Records in the batch so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`]; [`AppendError::BatchTooLong`] if the batch would not fit an empty channel. The batch is
    /// then as it was before; after [`AppendError::Full`] the channel has ended, and the batch is lost.
    pub fn push(&mut self, payload: &[u8]) -> Result<(), AppendError> {
        let sequence = self.writer.pen.sequence + u64::from(self.count);
        if self.writer.chain.replaces() {
            let mut built = std::mem::take(&mut self.writer.built);
            built.clear();
            let mut cx = AppendContext::new(sequence, &mut self.writer.pen.clock);
            let result = self.writer.chain.build(&mut cx, payload, &mut built).map_err(AppendError::Stage);
            let result = result.and_then(|()| {
                self.place(built.len(), |_, _, space| {
                    space.copy_from_slice(&built);
                    Ok(())
                })
            });
            self.writer.built = built;
            return result;
        }
        self.push_in_place(payload.len(), |space| space.copy_from_slice(payload))
    }

    /// Whether payloads are put together outside the channel's memory, since a stage stands in place of them.
    #[cfg(feature = "zerocopy")]
    pub(crate) fn is_outside(&self) -> bool {
        self.writer.chain.replaces()
    }

    /// Adds a record whose payload of `len` bytes `fill` writes in place. Only if no stage stands in place of it.
    pub(crate) fn push_in_place(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), AppendError> {
        let prefix = self.writer.chain.prefix_len();
        self.place(len + self.writer.around(), |chain, cx, space| {
            fill(&mut space[prefix..prefix + len]);
            if C::EMPTY { Ok(()) } else { chain.complete(cx, space).map_err(AppendError::Stage) }
        })
    }

    /// Adds an inner frame whose payload of `len` bytes is written by `fill`.
    fn place(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut C, &mut AppendContext<'_>, &mut [u8]) -> Result<(), AppendError>,
    ) -> Result<(), AppendError> {
        let Writer { pen, chain, .. } = &mut *self.writer;
        let (len, limit) = (len as u64, pen.room.max_len());
        if len > limit {
            return Err(AppendError::TooLong { len, limit });
        }
        let (used, limit) = (self.used + frame_len(len), pen.longest_frame());
        if used > limit {
            return Err(AppendError::BatchTooLong { len: used, limit });
        }
        if !pen.room.may_begin(used) {
            pen.make_room_keeping(used, self.used)?;
        }
        let sequence = pen.sequence + u64::from(self.count);
        let mut cx = AppendContext::new(sequence, &mut pen.clock);
        let space = pen.room.space(used).expect("there is room for it");
        let frame = &mut space[self.used as usize..];
        put(frame, 0, Head::new(kind_and_length(Kind::Record, len as u32), 0).0.to_le_bytes());
        let (body, padding) = frame[WORD as usize..].split_at_mut(len as usize);
        fill(chain, &mut cx, body)?;
        padding.fill(0);
        self.used = used;
        self.count += 1;
        Ok(())
    }

    /// Appends the records, as one. Of an empty batch nothing is written, and the place of the next record is returned.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`].
    pub fn commit(self) -> Result<Appended, AppendError> {
        let writer = self.writer;
        if self.count == 0 {
            let position = Position::new(writer.pen.room.tail());
            return Ok(Appended { position, sequence: writer.pen.sequence });
        }
        // Nothing can have been appended since, so there is still room, unless a push has found the channel full.
        if !writer.pen.room.may_begin(self.used) {
            writer.pen.make_room_keeping(self.used, self.used)?;
        }
        let space = writer.pen.room.space(self.used).expect("every push made room");
        put(space, 0, u64::from(self.count).to_le_bytes());
        let at = writer.pen.room.publish_in_place(Kind::Batch, self.used).expect("every push made room");
        let appended = writer.appended(at, u64::from(self.count));
        let synced = writer.after_append();
        for _ in 0..self.count {
            writer.chain.published();
        }
        synced.map(|()| appended)
    }
}

impl<C: Chain> fmt::Debug for Batch<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.count).finish_non_exhaustive()
    }
}
