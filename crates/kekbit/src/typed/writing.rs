//! Appending values: writers, journals, writers that threads share, batches.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use super::{Codec, TypeError, Typed, compare};
use crate::batch::Batch;
use crate::error::{AppendError, CreateError, SyncError};
use crate::handler::Chain;
use crate::journal::{Journal, JournalError, JournalOptions};
use crate::layout::header::Header;
use crate::options::WriterOptions;
use crate::shared::{SharedError, SharedWriter};
use crate::wait::Wait;
use crate::writer::{Appended, Writer};

impl<C: Chain> WriterOptions<C> {
    /// Creates a channel whose records are values of the codec `K`; the header records that.
    ///
    /// # Errors
    ///
    /// As [`WriterOptions::create`]; also if the stages put the payload where `K` cannot read it, or if a value cannot fit a record.
    pub fn create_typed<K: Codec>(self, path: impl AsRef<Path>) -> Result<Typed<Writer<C>, K>, CreateError> {
        Ok(Typed::new(self.made_for::<K>(path.as_ref())?.create(path)?))
    }

    /// The same below `root`, as [`WriterOptions::create_in`].
    ///
    /// # Errors
    ///
    /// As [`WriterOptions::create_in`] and [`WriterOptions::create_typed`].
    pub fn create_typed_in<K: Codec>(
        self,
        root: impl AsRef<Path>,
    ) -> Result<Typed<Writer<C>, K>, CreateError> {
        Ok(Typed::new(self.made_for::<K>(root.as_ref())?.create_in(root)?))
    }

    /// These options for values of the codec `K`, if the stages put the payload where it can read it.
    fn made_for<K: Codec>(self, path: &Path) -> Result<WriterOptions<C>, CreateError> {
        let options = self.record_type::<K>();
        let header = options.header(path)?;
        compare::<K>(&header.attributes, Some(path))
            .map_err(|error| CreateError::Options(error.to_string()))?;
        fits::<K>(&header).map_err(CreateError::Options)?;
        Ok(options)
    }
}

impl<C: Chain> JournalOptions<C> {
    /// Opens a journal whose records are values of the codec `K`, for writing; the headers record that.
    ///
    /// A journal keeps its type: whoever opens it without one, or with another, is refused, until a writer says by
    /// [`JournalOptions::replace_type`] that another type begins.
    ///
    /// # Errors
    ///
    /// As [`JournalOptions::open`]; [`JournalError::Type`] if the newest records that are there are none and the type is not to be
    /// replaced, or if the stages put the payload where `K` cannot read it.
    pub fn open_typed<K: Codec>(self, path: impl AsRef<Path>) -> Result<Typed<Journal<C>, K>, JournalError> {
        let path = path.as_ref();
        let options = self.record_type::<K>();
        let header = options.header(path)?;
        compare::<K>(&header.attributes, Some(path)).map_err(JournalError::Type)?;
        fits::<K>(&header).map_err(JournalError::Options)?;
        Ok(Typed::new(options.open(path)?))
    }
}

/// Whether a value can be appended at all, if each has the same length and no stage changes that.
fn fits<K: Codec>(header: &Header) -> Result<(), String> {
    let (Some(layout), stages) = (K::layout(), &header.attributes.stages) else { return Ok(()) };
    let around: u64 =
        stages.iter().map(|stage| u64::from(stage.prefix_len) + u64::from(stage.suffix_len)).sum();
    let (len, limit) = (layout.size() as u64 + around, u64::from(header.max_record_len));
    if len <= limit || stages.iter().any(|stage| stage.replaces) {
        return Ok(());
    }
    let name = K::name();
    Err(format!("each value of `{name}` makes a record of {len} bytes, and max_record_len is {limit}"))
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

    /// Makes everything that was appended durable, as [`Writer::sync`].
    ///
    /// # Errors
    ///
    /// As [`Writer::sync`].
    pub fn sync(&mut self) -> Result<(), SyncError> {
        self.inner.sync()
    }

    /// A sign of life, as [`Writer::heartbeat`].
    pub fn heartbeat(&mut self) {
        self.inner.heartbeat();
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

    /// Makes everything that was appended durable, as [`Journal::sync`].
    ///
    /// # Errors
    ///
    /// As [`Journal::sync`].
    pub fn sync(&mut self) -> Result<(), SyncError> {
        self.inner.sync()
    }

    /// A sign of life, as [`Journal::heartbeat`].
    pub fn heartbeat(&mut self) {
        self.inner.heartbeat();
    }

    /// Goes on in the next channel now, as [`Journal::roll`].
    ///
    /// # Errors
    ///
    /// As [`Journal::roll`].
    pub fn roll(&mut self) -> Result<(), AppendError> {
        self.inner.roll()
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

    /// Does something with the writer that other threads must not come between, as [`SharedWriter::with`].
    ///
    /// # Errors
    ///
    /// As [`SharedWriter::with`].
    ///
    /// # Example: each value with the number of its request
    ///
    /// ```
    /// # #[cfg(feature = "serde")] {
    /// use kekbit::typed::Postcard;
    /// use kekbit::{Channel, CorrelationId, Wait, Writer};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Answer(u64);
    /// kekbit::record_type!(Answer as "service.answer.v1");
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("answers.kek");
    /// let correlation = CorrelationId::new();
    /// let options = Writer::options().stage(correlation.clone());
    /// let writer = options.create_typed::<Postcard<Answer>>(&path)?.share();
    /// let answer = |request: u64| {
    ///     writer.clone().with(Wait::backoff(), |writer| {
    ///         correlation.set(request);
    ///         writer.append(&Answer(10 * request))
    ///     })
    /// };
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| answer(7));
    ///     scope.spawn(|| answer(8));
    /// });
    ///
    /// for record in Channel::open(&path)?.typed::<Postcard<Answer>>()?.records() {
    ///     let record = record?;
    ///     assert_eq!(record.correlation_id(), Some(record.value.0 / 10));
    /// }
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with<R>(
        &mut self,
        wait: Wait<'_>,
        act: impl FnOnce(&mut TypedTurn<'_, C, K>) -> R,
    ) -> Result<R, SharedError> {
        let Typed { inner, scratch, .. } = self;
        inner.with(wait, |writer| act(&mut TypedTurn { writer, scratch, codec: PhantomData }))
    }
}

/// A thread's turn at a shared writer, which nobody else has meanwhile; handed out by [`Typed::with`].
pub struct TypedTurn<'w, C: Chain, K> {
    writer: &'w mut Writer<C>,
    scratch: &'w mut Vec<u8>,
    codec: PhantomData<fn() -> K>,
}

impl<C: Chain, K: Codec> TypedTurn<'_, C, K> {
    /// Appends `value` as one record.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`]; [`AppendError::Encode`] if it cannot be encoded, and then nothing has happened.
    pub fn append(&mut self, value: &K::Value) -> Result<Appended, AppendError> {
        self.writer.append(K::encode(value, self.scratch).map_err(AppendError::Encode)?)
    }

    /// Begins a batch: records that appear together or not at all, as [`Writer::batch`].
    pub fn batch(&mut self) -> TypedBatch<'_, C, K> {
        TypedBatch { batch: self.writer.batch(), scratch: self.scratch, codec: PhantomData }
    }

    /// The writer, to do with it what needs no type. Records that are appended to it as bytes are not looked at.
    pub fn writer(&mut self) -> &mut Writer<C> {
        self.writer
    }
}

impl<C: Chain, K> fmt::Debug for TypedTurn<'_, C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedTurn").field(&self.writer).finish()
    }
}

/// Values on their way into one frame; see [`Batch`].
#[must_use = "a batch that is not committed has no effect"]
pub struct TypedBatch<'w, C: Chain, K> {
    pub(super) batch: Batch<'w, C>,
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
