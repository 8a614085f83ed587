//! The values of a channel, and iterators over them: lent from its memory, or each keeping it open by itself.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use super::reading::value_of;
use super::{Codec, TypeError, Typed, TypedError, TypedRecord, ValueError, compare};
use crate::channel::Channel;
use crate::error::{ReadError, SeekError};
use crate::reader::Reader;
use crate::record::{Record, SharedRecord};
use crate::records::{Records, RecordsBack};
use crate::seek::Start;
use crate::shared_records::{SharedRecords, SharedRecordsBack};

/// The values of a channel from some place on; made by [`Typed::records`]. It dereferences to the iterator over the records.
#[must_use = "an iterator does nothing until it is asked"]
pub struct TypedRecords<'c, K> {
    records: Records<'c>,
    codec: PhantomData<fn() -> K>,
}

/// The values of a channel before some place, the last first; made by [`Typed::records_back`].
#[must_use = "an iterator does nothing until it is asked"]
pub struct TypedRecordsBack<'c, K> {
    records: RecordsBack<'c>,
    codec: PhantomData<fn() -> K>,
}

/// The records of a channel from some place on, each keeping the channel open by itself; made by [`Typed::shared_records`]. It
/// dereferences to the iterator over the records.
#[must_use = "an iterator does nothing until it is asked"]
pub struct TypedSharedRecords<K> {
    records: SharedRecords,
    codec: PhantomData<fn() -> K>,
}

/// The records of a channel before some place, the last first, each keeping the channel open by itself; made by
/// [`Typed::shared_records_back`].
#[must_use = "an iterator does nothing until it is asked"]
pub struct TypedSharedRecordsBack<K> {
    records: SharedRecordsBack,
    codec: PhantomData<fn() -> K>,
}

/// A record that keeps its channel open, and the value in it, which is decoded when it is asked for. It dereferences to the record.
pub struct TypedSharedRecord<K> {
    record: SharedRecord,
    codec: PhantomData<fn() -> K>,
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
        TypedRecords { records: self.inner.records(), codec: PhantomData }
    }

    /// The values from `start` on, as [`Channel::records_from`].
    ///
    /// # Errors
    ///
    /// As [`Channel::records_from`].
    pub fn records_from(&self, start: Start) -> Result<TypedRecords<'_, K>, SeekError> {
        Ok(TypedRecords { records: self.inner.records_from(start)?, codec: PhantomData })
    }

    /// The values that are there, the last first, as [`Channel::records_back`].
    pub fn records_back(&self) -> TypedRecordsBack<'_, K> {
        TypedRecordsBack { records: self.inner.records_back(), codec: PhantomData }
    }

    /// The values before `start`, the last first, as [`Channel::records_back_from`].
    ///
    /// # Errors
    ///
    /// As [`Channel::records_back_from`].
    pub fn records_back_from(&self, start: Start) -> Result<TypedRecordsBack<'_, K>, SeekError> {
        Ok(TypedRecordsBack { records: self.inner.records_back_from(start)?, codec: PhantomData })
    }

    /// The records that are there, as [`Channel::shared_records`]: of every channel, compressed ones too.
    ///
    /// # Example: values of a compressed channel, for another thread
    ///
    /// ```
    /// # #[cfg(all(feature = "serde", feature = "lz4"))] {
    /// use kekbit::typed::Postcard;
    /// use kekbit::{Channel, Lz4, Writer};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Line(String);
    /// kekbit::record_type!(Line as "log.line.v1");
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("log.kek");
    /// let mut log = Writer::options().stage(Lz4::new()).create_typed::<Postcard<Line>>(&path)?;
    /// log.append(&Line("one".repeat(100)))?;
    ///
    /// let channel = Channel::open(&path)?.typed::<Postcard<Line>>()?;
    /// let lines = channel.shared_records().collect::<Result<Vec<_>, _>>()?;
    /// let longest = std::thread::spawn(move || lines.iter().map(|line| line.value().unwrap().0.len()).max());
    /// assert_eq!(longest.join().unwrap(), Some(300));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shared_records(&self) -> TypedSharedRecords<K> {
        TypedSharedRecords { records: self.inner.shared_records(), codec: PhantomData }
    }

    /// The records from `start` on, as [`Channel::shared_records_from`].
    ///
    /// # Errors
    ///
    /// As [`Channel::shared_records_from`].
    pub fn shared_records_from(&self, start: Start) -> Result<TypedSharedRecords<K>, SeekError> {
        Ok(TypedSharedRecords { records: self.inner.shared_records_from(start)?, codec: PhantomData })
    }

    /// The records that are there, the last first, as [`Channel::shared_records_back`].
    pub fn shared_records_back(&self) -> TypedSharedRecordsBack<K> {
        TypedSharedRecordsBack { records: self.inner.shared_records_back(), codec: PhantomData }
    }

    /// The records before `start`, the last first, as [`Channel::shared_records_back_from`].
    ///
    /// # Errors
    ///
    /// As [`Channel::shared_records_back_from`].
    pub fn shared_records_back_from(&self, start: Start) -> Result<TypedSharedRecordsBack<K>, SeekError> {
        Ok(TypedSharedRecordsBack {
            records: self.inner.shared_records_back_from(start)?,
            codec: PhantomData,
        })
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

/// What an iterator has found, as a value.
#[inline]
fn found<K: Codec>(
    record: Result<Record<'_>, ReadError>,
) -> Result<TypedRecord<'_, K>, TypedError<ReadError>> {
    TypedRecord::decode(record?).map_err(TypedError::Value)
}

impl<'c, K: Codec> Iterator for TypedRecords<'c, K> {
    type Item = Result<TypedRecord<'c, K>, TypedError<ReadError>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.records.next().map(found)
    }
}

impl<'c, K: Codec> Iterator for TypedRecordsBack<'c, K> {
    type Item = Result<TypedRecord<'c, K>, TypedError<ReadError>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.records.next().map(found)
    }
}

impl<K: Codec> Iterator for TypedSharedRecords<K> {
    type Item = Result<TypedSharedRecord<K>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.records.next()?.map(TypedSharedRecord::new))
    }
}

impl<K: Codec> Iterator for TypedSharedRecordsBack<K> {
    type Item = Result<TypedSharedRecord<K>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.records.next()?.map(TypedSharedRecord::new))
    }
}

impl<'c, K> Deref for TypedRecords<'c, K> {
    type Target = Records<'c>;

    fn deref(&self) -> &Records<'c> {
        &self.records
    }
}

impl<K> Deref for TypedSharedRecords<K> {
    type Target = SharedRecords;

    fn deref(&self) -> &SharedRecords {
        &self.records
    }
}

impl<K: Codec> TypedSharedRecord<K> {
    pub(super) fn new(record: SharedRecord) -> TypedSharedRecord<K> {
        TypedSharedRecord { record, codec: PhantomData }
    }

    /// What was appended, or a view of it.
    ///
    /// # Errors
    ///
    /// If the record is no value.
    pub fn value(&self) -> Result<K::View<'_>, ValueError> {
        value_of::<K>(self.record.record())
    }

    /// The record with its value.
    ///
    /// # Errors
    ///
    /// As [`TypedSharedRecord::value`].
    pub fn record(&self) -> Result<TypedRecord<'_, K>, ValueError> {
        TypedRecord::decode(self.record.record())
    }

    /// The record as bytes.
    pub fn into_shared(self) -> SharedRecord {
        self.record
    }
}

impl<K> Clone for TypedSharedRecord<K> {
    fn clone(&self) -> Self {
        TypedSharedRecord { record: self.record.clone(), codec: PhantomData }
    }
}

impl<K> Deref for TypedSharedRecord<K> {
    type Target = SharedRecord;

    fn deref(&self) -> &SharedRecord {
        &self.record
    }
}

macro_rules! shown_as_records {
    ($($type:ty: $field:ident;)*) => {$(
        impl<K> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.$field.fmt(f)
            }
        }
    )*};
}

shown_as_records! {
    TypedRecords<'_, K>: records;
    TypedRecordsBack<'_, K>: records;
    TypedSharedRecords<K>: records;
    TypedSharedRecordsBack<K>: records;
    TypedSharedRecord<K>: record;
}
