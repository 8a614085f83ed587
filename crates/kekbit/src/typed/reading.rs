//! Reading values one after the other: readers and cursors, and what they find.

use std::fmt;
use std::ops::Deref;

use thiserror::Error;

use super::{Codec, TypeError, Typed, TypedSharedRecord, compare};
use crate::copying::CopyingReader;
use crate::encode::EncodeError;
use crate::error::{ReadError, SeekError};
use crate::journal::{JournalReadError, JournalReader, NamedCursor};
use crate::reader::Reader;
use crate::record::Record;
use crate::seek::Start;
use crate::wait::Wait;

/// A record with the value that is in it. It dereferences to the record.
pub struct TypedRecord<'r, K: Codec> {
    /// What was appended, or a view of it.
    pub value: K::View<'r>,
    record: Record<'r>,
}

impl<'r, K: Codec> TypedRecord<'r, K> {
    /// The record as bytes.
    pub fn record(&self) -> Record<'r> {
        self.record
    }

    /// The same, keeping its channel open by itself, as [`Record::to_shared`].
    pub fn to_shared(&self) -> TypedSharedRecord<K> {
        TypedSharedRecord::new(self.record.to_shared())
    }

    pub(super) fn decode(record: Record<'r>) -> Result<TypedRecord<'r, K>, ValueError> {
        Ok(TypedRecord { value: value_of::<K>(record)?, record })
    }
}

/// The value in `record`.
#[inline]
pub(super) fn value_of<K: Codec>(record: Record<'_>) -> Result<K::View<'_>, ValueError> {
    K::decode(record.payload()).map_err(|source| ValueError { sequence: record.sequence(), source })
}

impl<'r, K: Codec> Deref for TypedRecord<'r, K> {
    type Target = Record<'r>;

    fn deref(&self) -> &Record<'r> {
        &self.record
    }
}

impl<'r, K: Codec<View<'r>: fmt::Debug>> fmt::Debug for TypedRecord<'r, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRecord")
            .field("sequence", &self.record.sequence())
            .field("position", &self.record.position())
            .field("value", &self.value)
            .finish()
    }
}

/// A record that is good, but no value of the type. The reader goes on behind it.
#[derive(Debug, Error)]
#[error("record {sequence} is no value of its type: {source}")]
pub struct ValueError {
    /// The record.
    pub sequence: u64,
    /// What the codec says.
    pub source: EncodeError,
}

/// Why a value could not be read; `E` is what reading bytes may fail with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TypedError<E: std::error::Error + 'static> {
    /// As for records of bytes.
    #[error(transparent)]
    Read(#[from] E),
    /// A record is no value.
    #[error(transparent)]
    Value(ValueError),
    /// Of a journal: one of its channels is of another type.
    #[error(transparent)]
    Type(TypeError),
}

/// What a step forwards or backwards has found, as a value.
#[inline]
fn decoded<'r, K: Codec, E: std::error::Error>(
    record: Option<Record<'r>>,
) -> Result<Option<TypedRecord<'r, K>>, TypedError<E>> {
    record.map(TypedRecord::decode).transpose().map_err(TypedError::Value)
}

impl Reader {
    /// The same reader, for values of the codec `K`.
    ///
    /// # Errors
    ///
    /// As [`Channel::typed`](crate::Channel::typed).
    pub fn typed<K: Codec>(self) -> Result<Typed<Reader, K>, TypeError> {
        compare::<K>(&self.channel().header().attributes, Some(self.channel().path()))?;
        Ok(Typed::new(self))
    }
}

impl<K: Codec> Typed<Reader, K> {
    /// The next value, if it is there, as [`Reader::try_next`].
    ///
    /// # Errors
    ///
    /// As [`Reader::try_next`]; [`TypedError::Value`] if the record is no value, and then the reader stands behind it.
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<ReadError>> {
        decoded(self.inner.try_next()?)
    }

    /// The next value; waits for it as [`Reader::next`].
    ///
    /// # Errors
    ///
    /// As [`Typed::try_next`].
    #[inline]
    pub fn next(&mut self, wait: Wait<'_>) -> Result<Option<TypedRecord<'_, K>>, TypedError<ReadError>> {
        decoded(self.inner.next(wait)?)
    }

    /// The value before this place, as [`Reader::try_previous`].
    ///
    /// # Errors
    ///
    /// As [`Reader::try_previous`]; [`TypedError::Value`] if the record is no value, and then the reader stands before it.
    pub fn try_previous(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<ReadError>> {
        decoded(self.inner.try_previous()?)
    }
}

impl CopyingReader {
    /// The same reader, for values of the codec `K`, which must be readable at any address ([`Codec::ALIGN`] of 1).
    ///
    /// # Errors
    ///
    /// As [`Channel::typed`](crate::Channel::typed); [`TypeError::UnalignedCopy`].
    pub fn typed<K: Codec>(self) -> Result<Typed<CopyingReader, K>, TypeError> {
        compare::<K>(self.attributes(), Some(self.path()))?;
        if K::ALIGN > 1 {
            let (path, expected) = (self.path().to_owned(), format!("`{}`", K::name()));
            return Err(TypeError::UnalignedCopy { path, expected, align: K::ALIGN });
        }
        Ok(Typed::new(self))
    }
}

impl<K: Codec> Typed<CopyingReader, K> {
    /// The next value, if it is there, as [`CopyingReader::try_next`].
    ///
    /// # Errors
    ///
    /// As [`CopyingReader::try_next`]; [`TypedError::Value`] if the record is no value, and then the reader stands behind it.
    pub fn try_next(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<ReadError>> {
        decoded(self.inner.try_next()?)
    }

    /// The next value; waits for it as [`CopyingReader::next`].
    ///
    /// # Errors
    ///
    /// As [`Typed::try_next`].
    pub fn next(&mut self, wait: Wait<'_>) -> Result<Option<TypedRecord<'_, K>>, TypedError<ReadError>> {
        decoded(self.inner.next(wait)?)
    }

    /// The value before this place, as [`CopyingReader::try_previous`].
    ///
    /// # Errors
    ///
    /// As [`CopyingReader::try_previous`]; [`TypedError::Value`] if the record is no value, and then the reader stands before it.
    pub fn try_previous(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<ReadError>> {
        decoded(self.inner.try_previous()?)
    }

    /// Goes on from `start`, as [`CopyingReader::seek`].
    ///
    /// # Errors
    ///
    /// As [`CopyingReader::seek`].
    pub fn seek(&mut self, start: Start) -> Result<(), SeekError> {
        self.inner.seek(start)
    }
}

impl JournalReader {
    /// The same reader, for values of the codec `K`. Whether they are is found out channel by channel, as it comes to them: in a
    /// journal another type may begin, if a writer has said so ([`JournalOptions::replace_type`](crate::JournalOptions::replace_type)).
    /// From there on each record is told as [`TypedError::Type`]; [`Typed::into_inner`] gives the reader back, to go on with the other type.
    pub fn typed<K: Codec>(self) -> Typed<JournalReader, K> {
        Typed::new(self)
    }
}

impl<K: Codec> Typed<JournalReader, K> {
    /// The next value, if it is there, as [`JournalReader::try_next`].
    ///
    /// # Errors
    ///
    /// As [`JournalReader::try_next`]; [`TypedError::Value`] if the record is no value, and [`TypedError::Type`] if its
    /// channel's are not; then the reader stands behind it.
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<JournalReadError>> {
        let Typed { inner, compared, .. } = self;
        decoded(of_its_type::<K>(inner.try_next()?, compared)?)
    }

    /// The next value; waits for it as [`JournalReader::next`].
    ///
    /// # Errors
    ///
    /// As [`Typed::try_next`].
    #[inline]
    pub fn next(
        &mut self,
        wait: Wait<'_>,
    ) -> Result<Option<TypedRecord<'_, K>>, TypedError<JournalReadError>> {
        let Typed { inner, compared, .. } = self;
        decoded(of_its_type::<K>(inner.next(wait)?, compared)?)
    }

    /// The value before this place, as [`JournalReader::try_previous`].
    ///
    /// # Errors
    ///
    /// As [`JournalReader::try_previous`] and [`Typed::try_next`]; then the reader stands before the record.
    pub fn try_previous(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<JournalReadError>> {
        let Typed { inner, compared, .. } = self;
        decoded(of_its_type::<K>(inner.try_previous()?, compared)?)
    }

    /// Goes on from `start`, as [`JournalReader::seek`].
    ///
    /// # Errors
    ///
    /// As [`JournalReader::seek`].
    pub fn seek(&mut self, start: Start) -> Result<(), JournalReadError> {
        self.inner.seek(start)
    }
}

impl NamedCursor {
    /// The same cursor, for values of the codec `K`, as [`JournalReader::typed`].
    pub fn typed<K: Codec>(self) -> Typed<NamedCursor, K> {
        Typed::new(self)
    }
}

impl<K: Codec> Typed<NamedCursor, K> {
    /// The next value, if it is there, as [`NamedCursor::try_next`].
    ///
    /// # Errors
    ///
    /// As [`NamedCursor::try_next`]; [`TypedError::Value`] and [`TypedError::Type`] as of a [`JournalReader`]. Then the cursor stands
    /// behind the record: who commits passes over it.
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<JournalReadError>> {
        let Typed { inner, compared, .. } = self;
        decoded(of_its_type::<K>(inner.try_next()?, compared)?)
    }

    /// The next value; waits for it as [`NamedCursor::next`].
    ///
    /// # Errors
    ///
    /// As [`Typed::try_next`].
    #[inline]
    pub fn next(
        &mut self,
        wait: Wait<'_>,
    ) -> Result<Option<TypedRecord<'_, K>>, TypedError<JournalReadError>> {
        let Typed { inner, compared, .. } = self;
        decoded(of_its_type::<K>(inner.next(wait)?, compared)?)
    }

    /// Goes on from `start`, as [`NamedCursor::seek`].
    ///
    /// # Errors
    ///
    /// As [`NamedCursor::seek`].
    pub fn seek(&mut self, start: Start) -> Result<(), JournalReadError> {
        self.inner.seek(start)
    }

    /// Goes on with the oldest record that is there, as [`NamedCursor::skip_to_oldest`].
    ///
    /// # Errors
    ///
    /// As [`NamedCursor::skip_to_oldest`].
    pub fn skip_to_oldest(&mut self) -> Result<u64, JournalReadError> {
        self.inner.skip_to_oldest()
    }

    /// Remembers that everything before this place is done, as [`NamedCursor::commit`].
    pub fn commit(&mut self) {
        self.inner.commit();
    }

    /// Remembers that everything before the record `sequence` is done, as [`NamedCursor::commit_to`].
    pub fn commit_to(&mut self, sequence: u64) {
        self.inner.commit_to(sequence);
    }
}

/// The record, if its channel is of the type `K`: asked once for each channel, of which `compared` remembers the last.
#[inline]
fn of_its_type<'r, K: Codec>(
    record: Option<Record<'r>>,
    compared: &mut Option<u64>,
) -> Result<Option<Record<'r>>, TypedError<JournalReadError>> {
    if let Some(channel) = record.as_ref().and_then(Record::channel)
        && *compared != Some(channel.first_sequence())
    {
        compare::<K>(&channel.header().attributes, Some(channel.path())).map_err(TypedError::Type)?;
        *compared = Some(channel.first_sequence());
    }
    Ok(record)
}
