//! The one writer of a channel.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use crate::Position;
use crate::batch::Batch;
use crate::claim::Claim;
use crate::encode::Encode;
use crate::error::{AppendError, SyncError};
use crate::handler::{AppendContext, Chain};
use crate::layout::frame::Kind;
use crate::mapping::Mapping;
use crate::metadata::Metadata;
use crate::options::WriterOptions;
use crate::pen::Pen;
use crate::sync_handle::SyncHandle;

/// Stored records up to this length are put together on the stack, so that their checksum is computed before the
/// cache line is touched that readers poll.
const SMALL: usize = 256;
/// How often is looked whether others have let go of a mapping: for a millisecond, or some.
const PATIENCE: u32 = 1000;

/// The producer of a channel: appends records, in order, until it closes the channel or the channel is full.
///
/// There is one for each channel, from its creation on; it can be sent to another thread, and shared through a
/// [`SharedWriter`](crate::SharedWriter). Dropping it closes the channel, except during a panic, in a forked child, or
/// after a failed sync: then the channel is left to be found abandoned.
///
/// # Concurrency
///
/// Appending publishes the record to readers in all threads and processes at once. They never delay the writer, nor
/// can they change anything.
///
/// A child made by `fork` does not inherit the writer's memory: it may drop its copy of the writer, which does
/// nothing, and must not use it otherwise.
///
/// # Durability
///
/// Every append outlives this process as soon as it returns. Whether it outlives a power cut is chosen by
/// [`Durability`](crate::Durability). After a sync that has failed, by whomever, nothing more is appended and the channel is
/// not closed: an append that had begun by then may still become visible. If it is the last sync that fails, that of the end,
/// the channel reads as ended; [`Channel::seal`](crate::Channel::seal) then makes that durable.
///
/// # Example: write and read back
///
/// ```
/// use kekbit::{Channel, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("orders.kek");
/// let mut writer = Writer::options().capacity(1 << 20).create(&path)?;
/// writer.append(b"buy 10")?;
/// let at = writer.append(b"sell 5")?;
/// assert_eq!(at.sequence, 1);
/// writer.close()?;
///
/// let channel = Channel::open(&path)?;
/// let records: Vec<_> = channel.records().collect::<Result<_, _>>()?;
/// assert_eq!(&records[1][..], b"sell 5");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Example: a record that is too long changes nothing
///
/// ```
/// use kekbit::{AppendError, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = Writer::options().max_record_len(8).create(dir.path().join("short.kek"))?;
/// assert!(matches!(writer.append(&[0; 9]), Err(AppendError::TooLong { len: 9, limit: 8 })));
/// assert_eq!(writer.append(&[0; 8])?.sequence, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A closed writer cannot be used:
///
/// ```compile_fail,E0382
/// # let dir = tempfile::tempdir().unwrap();
/// let mut writer = kekbit::Writer::create(dir.path().join("x.kek")).unwrap();
/// writer.close().unwrap();
/// writer.append(b"too late").unwrap();
/// ```
pub struct Writer<C: Chain = ()> {
    pub(crate) pen: Pen,
    pub(crate) chain: C,
    /// A payload on its way into a stage that stands in its place, and what comes out of it.
    pub(crate) payload: Vec<u8>,
    pub(crate) built: Vec<u8>,
    process: u32,
    /// One thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

/// Where an append has put its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Position of the record's frame.
    pub position: Position,
    /// Sequence of the record; of a batch, that of its first record.
    pub sequence: u64,
}

impl Writer {
    /// Options for a new channel.
    pub fn options() -> WriterOptions {
        WriterOptions::default()
    }

    /// Creates a channel with default options.
    ///
    /// # Errors
    ///
    /// See [`WriterOptions::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Writer, crate::CreateError> {
        Writer::options().create(path)
    }
}

impl<C: Chain> Writer<C> {
    pub(crate) fn new(pen: Pen, chain: C) -> Writer<C> {
        let process = std::process::id();
        Writer { pen, chain, payload: Vec::new(), built: Vec::new(), process, _not_sync: PhantomData }
    }

    /// Appends `payload` as one record.
    ///
    /// # Errors
    ///
    /// [`AppendError::TooLong`], [`AppendError::NoSpace`] and [`AppendError::Stage`] leave the channel as it was, and
    /// the writer can go on. [`AppendError::Full`] ends the channel.
    #[inline]
    pub fn append(&mut self, payload: &[u8]) -> Result<Appended, AppendError> {
        if C::EMPTY {
            match self.pen.room.append(payload) {
                Some(at) => Ok(self.appended(at, 1)),
                None => self.append_slowly(payload),
            }
        } else if self.chain.looks_at_body() || self.chain.replaces() || self.chain.suffix_len() > 0 {
            self.append_staged(payload)
        } else {
            match self.chain.prefix_len() {
                8 => self.append_behind::<8>(payload),
                16 => self.append_behind::<16>(payload),
                24 => self.append_behind::<24>(payload),
                _ => self.append_staged(payload),
            }
        }
    }

    /// Appends a record of at most `max_len` bytes that `fill` writes in place; it returns how many it has written.
    /// The space has unspecified content.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`]; [`AppendError::BeyondClaim`] if `fill` returns more than `max_len`. If `fill` panics nothing
    /// has happened.
    #[inline]
    pub fn append_with(
        &mut self,
        max_len: usize,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Appended, AppendError> {
        let mut claim = self.claim(max_len)?;
        let len = fill(&mut claim);
        claim.commit(len)
    }

    /// Appends a value that writes itself in place.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`]; [`AppendError::Encode`] if the value cannot be encoded, and then nothing has happened.
    #[inline]
    pub fn append_encoded(&mut self, value: &(impl Encode + ?Sized)) -> Result<Appended, AppendError> {
        let mut claim = self.claim(value.max_len())?;
        let len = value.encode(&mut claim).map_err(AppendError::Encode)?;
        claim.commit(len)
    }

    /// Claims space for a record of at most `max_len` bytes, to be written in place and then committed. Dropping or
    /// forgetting the claim changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`] with `max_len` bytes; in particular the channel ends here if they no longer fit.
    #[inline]
    pub fn claim(&mut self, max_len: usize) -> Result<Claim<'_, C>, AppendError> {
        Claim::new(self, max_len)
    }

    /// Begins a batch: records that appear together or not at all, also after a power cut.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, C> {
        Batch::new(self)
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    ///
    /// [`SyncError::Failed`]: then the writer is poisoned, and everything since the last successful sync may be lost.
    pub fn sync(&mut self) -> Result<(), SyncError> {
        self.pen.sync()
    }

    /// A handle with which other threads make records durable and wait for it, while this writer goes on appending.
    pub fn sync_handle(&self) -> SyncHandle {
        SyncHandle::new(Arc::clone(self.pen.syncs()))
    }

    /// A sign of life, for a writer that has nothing to append: it puts off the readers' timeout.
    pub fn heartbeat(&mut self) {
        self.pen.heartbeat();
    }

    /// Ends the channel as closed: last entry of the index, terminal frame, a sync unless the policy is never.
    ///
    /// # Errors
    ///
    /// See [`SyncError`]. A channel that is full already has been ended by that, and this succeeds.
    pub fn close(mut self) -> Result<(), SyncError> {
        self.pen.end(Kind::Closed)
    }

    /// The same, and keeps the file mapped in this process, for a successor
    /// [in the same file](WriterOptions::create_from_mapped). Also for a channel that has ended because it is full. `None` if a
    /// [`SyncHandle`] is syncing in another thread, on a file system that other machines may share, and in a forked child, where
    /// it does nothing else.
    ///
    /// # Errors
    ///
    /// See [`SyncError`].
    pub fn close_mapped(mut self) -> Result<Option<Mapping>, SyncError> {
        if self.process != std::process::id() {
            return Ok(None);
        }
        self.pen.end(Kind::Closed)?;
        let Ok(Some((mut map, file, present))) = self.pen.mapped() else { return Ok(None) };
        drop(self);
        // Those who waited for the last sync go away just now.
        for _ in 0..PATIENCE {
            match Mapping::new(map, &file, present) {
                Ok(mapping) => return Ok(Some(mapping)),
                Err(shared) => map = shared,
            }
            std::thread::yield_now();
        }
        Ok(None)
    }

    /// Goes away without ending the channel, so that readers find it abandoned.
    pub fn abandon(mut self) {
        self.process = 0;
    }

    /// Whether a record of `len` bytes (before the stages) fits what is left of the capacity. If not, appending it
    /// would end the channel. Nothing is said of the space on the disk, nor for a stage that replaces the payload.
    pub fn fits(&self, len: usize) -> bool {
        let stored = (len as u64).saturating_add(self.around() as u64);
        !self.pen.is_poisoned() && stored <= self.pen.room.max_len() && self.pen.has_capacity_for(stored)
    }

    /// Position of the next record.
    pub fn tail(&self) -> Position {
        Position::new(self.pen.room.tail())
    }

    /// Sequence of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.pen.sequence
    }

    /// Up to where the records are known to be durable.
    pub fn synced_tail(&self) -> Position {
        Position::new(self.pen.synced())
    }

    /// Whether the channel has ended: it is full.
    pub fn is_ended(&self) -> bool {
        self.pen.is_ended()
    }

    /// What was said of the channel when it was created; in a journal, of the channel that is being written.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::of(&self.pen.header)
    }

    /// The longest record that is accepted, in bytes, as stored.
    pub fn max_record_len(&self) -> usize {
        self.pen.room.max_len() as usize
    }

    /// Bytes that the stages add, if none of them replaces.
    #[inline]
    pub(crate) fn around(&self) -> usize {
        self.chain.prefix_len() + self.chain.suffix_len()
    }

    #[inline]
    pub(crate) fn appended(&mut self, at: u64, records: u64) -> Appended {
        let sequence = self.pen.sequence;
        self.pen.sequence += records;
        Appended { position: Position::new(at), sequence }
    }

    /// Appends a record as it is to be stored, when the fast path could not.
    #[cold]
    #[inline(never)]
    fn append_slowly(&mut self, stored: &[u8]) -> Result<Appended, AppendError> {
        self.make_room_for_record(stored.len())?;
        let at = self.pen.room.append_as(Kind::Record, stored).expect("there is room for it");
        let appended = self.appended(at, 1);
        self.after_append().map(|()| appended)
    }

    fn append_stored(&mut self, stored: &[u8]) -> Result<Appended, AppendError> {
        match self.pen.room.append(stored) {
            Some(at) => Ok(self.appended(at, 1)),
            None => self.append_slowly(stored),
        }
    }

    #[inline(never)]
    fn append_staged(&mut self, payload: &[u8]) -> Result<Appended, AppendError> {
        let mut cx = AppendContext::new(self.pen.sequence, &mut self.pen.clock);
        let (prefix, suffix) = (self.chain.prefix_len(), self.chain.suffix_len());
        let len = payload.len() + prefix + suffix;
        let appended = if self.chain.replaces() {
            let mut built = std::mem::take(&mut self.built);
            built.clear();
            let built_well = self.chain.build(&mut cx, payload, &mut built).map_err(AppendError::Stage);
            let appended = built_well.and_then(|()| self.append_stored(&built));
            self.built = built;
            appended
        } else if len <= SMALL {
            let mut buffer = [0; SMALL];
            buffer[prefix..prefix + payload.len()].copy_from_slice(payload);
            self.chain.complete(&mut cx, &mut buffer[..len]).map_err(AppendError::Stage)?;
            self.append_stored(&buffer[..len])
        } else {
            let mut claim = self.claim(payload.len())?;
            claim.copy_from_slice(payload);
            return claim.commit(payload.len());
        };
        self.published(appended)
    }

    /// Appends a record whose stages make these `N` bytes in front of the payload and nothing else, without having seen it.
    #[inline]
    fn append_behind<const N: usize>(&mut self, payload: &[u8]) -> Result<Appended, AppendError> {
        let mut front = [0; N];
        let mut cx = AppendContext::new(self.pen.sequence, &mut self.pen.clock);
        self.chain.complete(&mut cx, &mut front).map_err(AppendError::Stage)?;
        match self.pen.room.append_behind(front, payload) {
            Some(at) => {
                // First: nothing that a handler does may come between a record and its sequence.
                let appended = self.appended(at, 1);
                self.chain.published();
                Ok(appended)
            }
            None => self.append_behind_slowly(front, payload),
        }
    }

    /// The same, when the fast path could not.
    #[cold]
    #[inline(never)]
    fn append_behind_slowly<const N: usize>(
        &mut self,
        front: [u8; N],
        payload: &[u8],
    ) -> Result<Appended, AppendError> {
        let appended = self.append_slowly(&[&front, payload].concat());
        self.published(appended)
    }

    /// Tells the stages if a record was published, though perhaps it is not durable.
    #[inline]
    fn published(&mut self, appended: Result<Appended, AppendError>) -> Result<Appended, AppendError> {
        if matches!(appended, Ok(_) | Err(AppendError::Sync { .. })) {
            self.chain.published();
        }
        appended
    }

    /// Makes sure that a record with `len` bytes as stored fits below the limit.
    #[inline]
    pub(crate) fn make_room_for_record(&mut self, len: usize) -> Result<(), AppendError> {
        let (len, limit) = (len as u64, self.pen.room.max_len());
        if len > limit {
            return Err(AppendError::TooLong { len, limit });
        }
        if self.pen.room.may_begin(len) { Ok(()) } else { self.pen.make_room(len) }
    }

    /// What is due after an append that did not take the fast path.
    #[inline]
    pub(crate) fn after_append(&mut self) -> Result<(), AppendError> {
        if !self.pen.syncs_each() {
            return Ok(());
        }
        self.pen.sync_each().map_err(|error| AppendError::Sync { source: error.into_source() })
    }
}

impl<C: Chain> Drop for Writer<C> {
    fn drop(&mut self) {
        let left_alone = std::thread::panicking() || self.process != std::process::id();
        if !left_alone && !self.pen.is_poisoned() {
            // Whoever wants to know calls `close`.
            let _ = self.pen.end(Kind::Closed);
        }
    }
}

impl<C: Chain> fmt::Debug for Writer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("tail", &self.tail())
            .field("next_sequence", &self.next_sequence())
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}
