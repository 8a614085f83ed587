//! Reading values: channels, readers, journals.

use std::fmt;
use std::ops::Deref;

use thiserror::Error;

use super::{Codec, TypeError, Typed, compare};
use crate::channel::Channel;
use crate::copying::CopyingReader;
use crate::encode::EncodeError;
use crate::error::{ReadError, SeekError};
use crate::journal::{JournalReadError, JournalReader, NamedCursor};
use crate::reader::Reader;
use crate::record::Record;
use crate::records::Records;
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

    fn decode(record: Record<'r>) -> Result<TypedRecord<'r, K>, DecodeError> {
        match K::decode(record.payload()) {
            Ok(value) => Ok(TypedRecord { value, record }),
            Err(source) => Err(DecodeError { sequence: record.sequence(), source }),
        }
    }
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
pub struct DecodeError {
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
    Decode(DecodeError),
    /// Of a journal: one of its channels is of another type.
    #[error(transparent)]
    Type(TypeError),
}

impl Channel {
    /// The same channel, for values of the codec `K`.
    ///
    /// # Errors
    ///
    /// If the header records another type, or none.
    pub fn typed<K: Codec>(self) -> Result<Typed<Channel, K>, TypeError> {
        compare::<K>(&self.header().attributes, Some(self.path()))?;
        Ok(Typed::new(self))
    }
}

impl<K: Codec> Typed<Channel, K> {
    /// The values that are there, as [`Channel::records`].
    pub fn records(&self) -> TypedRecords<'_, K> {
        TypedRecords { records: self.inner.records(), codec: std::marker::PhantomData }
    }

    /// The values from `start` on, as [`Channel::records_from`].
    ///
    /// # Errors
    ///
    /// As [`Channel::records_from`].
    pub fn records_from(&self, start: Start) -> Result<TypedRecords<'_, K>, SeekError> {
        Ok(TypedRecords { records: self.inner.records_from(start)?, codec: std::marker::PhantomData })
    }

    /// A reader of its own, as [`Channel::reader`].
    ///
    /// # Errors
    ///
    /// As [`Channel::reader`].
    pub fn reader(&self, start: Start) -> Result<Typed<Reader, K>, SeekError> {
        Ok(Typed::new(self.inner.reader(start)?))
    }
}

/// The values of a channel from some place on; made by [`Typed::records`].
#[must_use = "an iterator does nothing until it is asked"]
pub struct TypedRecords<'c, K> {
    records: Records<'c>,
    codec: std::marker::PhantomData<fn() -> K>,
}

impl<'c, K: Codec> Iterator for TypedRecords<'c, K> {
    type Item = Result<TypedRecord<'c, K>, TypedError<ReadError>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.records.next()? {
            Ok(record) => TypedRecord::decode(record).map_err(TypedError::Decode),
            Err(error) => Err(error.into()),
        })
    }
}

impl<'c, K> Deref for TypedRecords<'c, K> {
    type Target = Records<'c>;

    fn deref(&self) -> &Records<'c> {
        &self.records
    }
}

impl<K> fmt::Debug for TypedRecords<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.records.fmt(f)
    }
}

/// What a step forwards or backwards has found, as a value.
#[inline]
fn decoded<'r, K: Codec, E: std::error::Error>(
    record: Option<Record<'r>>,
) -> Result<Option<TypedRecord<'r, K>>, TypedError<E>> {
    record.map(TypedRecord::decode).transpose().map_err(TypedError::Decode)
}

impl Reader {
    /// The same reader, for values of the codec `K`.
    ///
    /// # Errors
    ///
    /// As [`Channel::typed`].
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
    /// As [`Reader::try_next`]; [`TypedError::Decode`] if the record is no value, and then the reader stands behind it.
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
    /// As [`Reader::try_previous`]; [`TypedError::Decode`] if the record is no value, and then the reader stands before it.
    pub fn try_previous(&mut self) -> Result<Option<TypedRecord<'_, K>>, TypedError<ReadError>> {
        decoded(self.inner.try_previous()?)
    }
}

impl CopyingReader {
    /// The same reader, for values of the codec `K`, which must be readable at any address ([`Codec::ALIGN`] of 1).
    ///
    /// # Errors
    ///
    /// As [`Channel::typed`]; [`TypeError::Unaligned`].
    pub fn typed<K: Codec>(self) -> Result<Typed<CopyingReader, K>, TypeError> {
        compare::<K>(self.attributes(), Some(self.path()))?;
        if K::ALIGN > 1 {
            let (path, expected) = (Some(self.path().to_owned()), format!("`{}`", K::name()));
            return Err(TypeError::Unaligned { path, expected, align: K::ALIGN });
        }
        Ok(Typed::new(self))
    }
}

impl<K: Codec> Typed<CopyingReader, K> {
    /// The next value, if it is there, as [`CopyingReader::try_next`].
    ///
    /// # Errors
    ///
    /// As [`CopyingReader::try_next`]; [`TypedError::Decode`] if the record is no value, and then the reader stands behind it.
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
}

impl JournalReader {
    /// The same reader, for values of the codec `K`. Whether they are is found out channel by channel, as it comes to them.
    pub fn typed<K: Codec>(self) -> Typed<JournalReader, K> {
        Typed::new(self)
    }
}

impl<K: Codec> Typed<JournalReader, K> {
    /// The next value, if it is there, as [`JournalReader::try_next`].
    ///
    /// # Errors
    ///
    /// As [`JournalReader::try_next`]; [`TypedError::Decode`] if the record is no value, and [`TypedError::Type`] if its
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
    /// As [`NamedCursor::try_next`]; [`TypedError::Decode`] and [`TypedError::Type`] as of a [`JournalReader`]. Then the cursor stands
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

    /// Remembers that everything before this place is done, as [`NamedCursor::commit`].
    pub fn commit(&mut self) {
        self.inner.commit();
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
