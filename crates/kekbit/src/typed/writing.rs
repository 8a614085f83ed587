//! Appending values: writers, journals, writers that threads share, batches.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use super::{Codec, TypeError, Typed, compare};
use crate::batch::Batch;
use crate::error::{AppendError, CreateError, SyncError};
use crate::handler::Chain;
use crate::journal::{Journal, JournalError, JournalOptions};
use crate::options::WriterOptions;
use crate::shared::{SharedError, SharedWriter};
use crate::wait::Wait;
use crate::writer::{Appended, Writer};

impl<C: Chain> WriterOptions<C> {
    /// Creates a channel whose records are values of the codec `K`; the header records that.
    ///
    /// # Errors
    ///
    /// As [`WriterOptions::create`]; also if the stages put the payload where `K` cannot read it.
    pub fn create_typed<K: Codec>(self, path: impl AsRef<Path>) -> Result<Typed<Writer<C>, K>, CreateError> {
        let path = path.as_ref();
        let options = self.record_type::<K>();
        let header = options.header(path)?;
        compare::<K>(&header.attributes, Some(path))
            .map_err(|error| CreateError::Options(error.to_string()))?;
        Ok(Typed::new(options.create(path)?))
    }
}

impl<C: Chain> JournalOptions<C> {
    /// Opens a journal whose records are values of the codec `K`, for writing; the headers record that.
    ///
    /// # Errors
    ///
    /// As [`JournalOptions::open`]; [`JournalError::Type`] if the records that are there are none, or if the stages put the
    /// payload where `K` cannot read it.
    pub fn open_typed<K: Codec>(self, path: impl AsRef<Path>) -> Result<Typed<Journal<C>, K>, JournalError> {
        let path = path.as_ref();
        let options = self.record_type::<K>();
        let header = options.header(path)?;
        compare::<K>(&header.attributes, Some(path)).map_err(JournalError::Type)?;
        Ok(Typed::new(options.open(path)?))
    }
}

impl<C: Chain> Writer<C> {
    /// The same writer, for values of the codec `K`.
    ///
    /// # Errors
    ///
    /// If its channel was not created for these, see [`WriterOptions::record_type`].
    pub fn typed<K: Codec>(self) -> Result<Typed<Writer<C>, K>, TypeError> {
        compare::<K>(&self.pen.header.attributes, None)?;
        Ok(Typed::new(self))
    }
}

impl<C: Chain, K: Codec> Typed<Writer<C>, K> {
    /// Appends `value` as one record.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`]; [`AppendError::Encode`] if it cannot be encoded, and then nothing has happened.
    #[inline]
    pub fn append(&mut self, value: &K::Value) -> Result<Appended, AppendError> {
        self.inner.append(K::encode(value, &mut self.scratch).map_err(AppendError::Encode)?)
    }

    /// Begins a batch: records that appear together or not at all, as [`Writer::batch`].
    #[inline]
    pub fn batch(&mut self) -> TypedBatch<'_, C, K> {
        TypedBatch { batch: self.inner.batch(), scratch: &mut self.scratch, codec: PhantomData }
    }

    /// Shares the writer between threads: each clones it.
    pub fn share(self) -> Typed<SharedWriter<C>, K> {
        Typed::new(SharedWriter::new(self.inner))
    }

    /// Ends the channel, as [`Writer::close`].
    ///
    /// # Errors
    ///
    /// As [`Writer::close`].
    pub fn close(self) -> Result<(), SyncError> {
        self.inner.close()
    }
}

impl<C: Chain, K: Codec> Typed<Journal<C>, K> {
    /// Appends `value` as one record.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`]; [`AppendError::Encode`] if it cannot be encoded, and then nothing has happened.
    #[inline]
    pub fn append(&mut self, value: &K::Value) -> Result<Appended, AppendError> {
        self.inner.append(K::encode(value, &mut self.scratch).map_err(AppendError::Encode)?)
    }

    /// Begins a batch: records that appear together or not at all, as [`Journal::batch`].
    #[inline]
    pub fn batch(&mut self) -> TypedBatch<'_, C, K> {
        TypedBatch { batch: self.inner.batch(), scratch: &mut self.scratch, codec: PhantomData }
    }

    /// Shares the journal between threads: each clones it.
    pub fn share(self) -> Typed<SharedWriter<C>, K> {
        Typed::new(self.inner.share())
    }

    /// Ends the journal, as [`Journal::close`].
    ///
    /// # Errors
    ///
    /// As [`Journal::close`].
    pub fn close(self) -> Result<(), SyncError> {
        self.inner.close()
    }
}

impl<C: Chain, K: Codec> Typed<SharedWriter<C>, K> {
    /// Appends `value` as one record. It is encoded before the writer is asked for. Each thread takes a clone.
    ///
    /// # Errors
    ///
    /// As [`SharedWriter::append`]; [`AppendError::Encode`] if it cannot be encoded, and then nothing has happened.
    pub fn append(&mut self, value: &K::Value) -> Result<Appended, SharedError> {
        self.inner.append(K::encode(value, &mut self.scratch).map_err(AppendError::Encode)?)
    }

    /// The same, but tries as long as `wait` says.
    ///
    /// # Errors
    ///
    /// As [`Typed::append`].
    pub fn append_wait(&mut self, value: &K::Value, wait: Wait<'_>) -> Result<Appended, SharedError> {
        self.inner.append_wait(K::encode(value, &mut self.scratch).map_err(AppendError::Encode)?, wait)
    }
}

/// Values on their way into one frame; see [`Batch`].
#[must_use = "a batch that is not committed has no effect"]
pub struct TypedBatch<'w, C: Chain, K> {
    batch: Batch<'w, C>,
    scratch: &'w mut Vec<u8>,
    codec: PhantomData<fn() -> K>,
}

impl<C: Chain, K: Codec> TypedBatch<'_, C, K> {
    /// Adds a record.
    ///
    /// # Errors
    ///
    /// As [`Batch::push`]; [`AppendError::Encode`] if `value` cannot be encoded. The batch is then as it was before.
    pub fn push(&mut self, value: &K::Value) -> Result<(), AppendError> {
        self.batch.push(K::encode(value, self.scratch).map_err(AppendError::Encode)?)
    }

    /// Appends the records, as one.
    ///
    /// # Errors
    ///
    /// As [`Batch::commit`].
    pub fn commit(self) -> Result<Appended, AppendError> {
        self.batch.commit()
    }

    /// Records in the batch so far.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

impl<C: Chain, K> fmt::Debug for TypedBatch<'_, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batch.fmt(f)
    }
}
