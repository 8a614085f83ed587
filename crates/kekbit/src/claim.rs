//! A claim: space for one record, written in place.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::AppendError;
use crate::handler::{AppendContext, Chain};
use crate::layout::frame::Kind;
use crate::writer::{Appended, Writer};

/// Space for one record in the channel's memory. Its content is unspecified until it is written.
///
/// Nothing is visible before [`Claim::commit`], and the space need not be used up. Dropping or forgetting a claim
/// changes nothing: the next append takes the same space.
///
/// # Example: commit less than was claimed
///
/// ```
/// use std::io::Write;
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = kekbit::Writer::create(dir.path().join("claims.kek"))?;
/// let mut claim = writer.claim(1024)?;
/// let mut space = &mut claim[..];
/// write!(space, "temperature {:.1}", 21.5)?;
/// let unused = space.len();
/// let len = claim.len() - unused;
/// claim.commit(len)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Two claims cannot live at once, and nothing can be appended during one:
///
/// ```compile_fail,E0499
/// # let dir = tempfile::tempdir().unwrap();
/// let mut writer = kekbit::Writer::create(dir.path().join("x.kek")).unwrap();
/// let first = writer.claim(8).unwrap();
/// let second = writer.claim(8).unwrap();
/// first.commit(8).unwrap();
/// ```
///
/// ```compile_fail,E0499
/// # let dir = tempfile::tempdir().unwrap();
/// let mut writer = kekbit::Writer::create(dir.path().join("x.kek")).unwrap();
/// let claim = writer.claim(8).unwrap();
/// writer.append(b"in between").unwrap();
/// claim.commit(8).unwrap();
/// ```
#[must_use = "a claim that is not committed has no effect"]
pub struct Claim<'w, C: Chain> {
    writer: &'w mut Writer<C>,
    len: usize,
}

impl<'w, C: Chain> Claim<'w, C> {
    #[inline]
    pub(crate) fn new(writer: &'w mut Writer<C>, len: usize) -> Result<Self, AppendError> {
        if writer.chain.replaces() {
            // The stage decides how long the record becomes; the payload waits outside.
            let limit = writer.pen.longest_frame();
            if len as u64 > limit {
                return Err(AppendError::TooLong { len: len as u64, limit });
            }
            writer.payload.resize(len, 0);
        } else {
            writer.make_room_for_record(len.saturating_add(writer.around()))?;
        }
        Ok(Claim { writer, len })
    }

    /// Whether the space lies outside the channel's memory, since a stage stands in place of the payload.
    #[cfg(feature = "zerocopy")]
    #[inline]
    pub(crate) fn is_outside(&self) -> bool {
        self.writer.chain.replaces()
    }

    /// Appends the first `len` bytes of the space as a record.
    ///
    /// # Errors
    ///
    /// [`AppendError::BeyondClaim`] if `len` exceeds what was claimed; [`AppendError::Stage`] if a stage refuses the
    /// record; [`AppendError::Sync`] with [`Durability::Each`](crate::Durability::Each).
    #[inline]
    pub fn commit(self, len: usize) -> Result<Appended, AppendError> {
        if len > self.len {
            return Err(AppendError::BeyondClaim { len: len as u64, claimed: self.len as u64 });
        }
        let writer = self.writer;
        if writer.chain.replaces() {
            let payload = std::mem::take(&mut writer.payload);
            let appended = writer.append(&payload[..len]);
            writer.payload = payload;
            return appended;
        }
        let stored = len + writer.around();
        if !C::EMPTY {
            let Writer { pen, chain, .. } = &mut *writer;
            let space = pen.room.space(stored as u64).expect("the claim made room");
            let mut cx = AppendContext::new(pen.sequence, &mut pen.clock);
            chain.complete(&mut cx, space).map_err(AppendError::Stage)?;
        }
        let at = writer.pen.room.publish_in_place(Kind::Record, stored as u64).expect("the claim made room");
        let appended = writer.appended(at, 1);
        let synced = writer.after_append();
        writer.chain.published();
        synced.map(|()| appended)
    }
}

impl<C: Chain> Deref for Claim<'_, C> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if self.writer.chain.replaces() {
            return &self.writer.payload;
        }
        let prefix = self.writer.chain.prefix_len();
        let space = self.writer.pen.room.own_space((prefix + self.len) as u64).expect("the claim made room");
        &space[prefix..]
    }
}

impl<C: Chain> DerefMut for Claim<'_, C> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        if self.writer.chain.replaces() {
            return &mut self.writer.payload;
        }
        let prefix = self.writer.chain.prefix_len();
        let space = self.writer.pen.room.space((prefix + self.len) as u64).expect("the claim made room");
        &mut space[prefix..]
    }
}

impl<C: Chain> fmt::Debug for Claim<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("len", &self.len).finish_non_exhaustive()
    }
}
