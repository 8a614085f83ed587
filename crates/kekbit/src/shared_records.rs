//! Iterators over records that may travel: of every channel, also where a stage stands in place of the payload.

use crate::channel::Channel;
use crate::error::{ReadError, SeekError};
use crate::reader::{End, Reader};
use crate::record::SharedRecord;
use crate::seek::Start;

/// The records of a channel from some place on, each keeping the channel open by itself; made by
/// [`Channel::shared_records`].
///
/// It ends at the tail, and goes on when it is asked again after more has been appended. After an error it ends for
/// good.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct SharedRecords {
    reader: Reader,
    failed: bool,
}

/// The records of a channel before some place, the last first, each keeping the channel open by itself; made by
/// [`Channel::shared_records_back`].
///
/// It ends at the first record. After an error it ends for good.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct SharedRecordsBack {
    /// `None` until the end has been sought, from which it begins.
    reader: Option<Reader>,
    channel: Channel,
    failed: bool,
}

impl Channel {
    /// The records that are there, as [`Channel::records`], but of every channel: also where a [stage](crate::Handler) stands in
    /// place of the payload that kekbit brings. Each may travel to other threads, and outlives the iterator.
    ///
    /// A payload that has to be made is made in a buffer, and copied once more for the record, which allocates. Others stay where they
    /// are. Where a record need not outlive the next one, a [`Reader`] does less.
    ///
    /// # Example: all that is there, compressed or not
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("log.kek");
    /// # let mut writer = kekbit::Writer::create(&path)?;
    /// # writer.append(b"one")?;
    /// let channel = kekbit::Channel::open(&path)?;
    /// let records: Vec<_> = channel.shared_records().collect::<Result<_, _>>()?;
    /// drop(channel);
    /// assert_eq!(&records[0][..], b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shared_records(&self) -> SharedRecords {
        SharedRecords { reader: Reader::at_beginning(self.clone()), failed: false }
    }

    /// The records from `start` on.
    ///
    /// # Errors
    ///
    /// See [`SeekError`].
    pub fn shared_records_from(&self, start: Start) -> Result<SharedRecords, SeekError> {
        Ok(SharedRecords { reader: self.reader(start)?, failed: false })
    }

    /// The records that are there, the last first, as [`Channel::records_back`], but of every channel: see
    /// [`Channel::shared_records`].
    pub fn shared_records_back(&self) -> SharedRecordsBack {
        SharedRecordsBack { reader: None, channel: self.clone(), failed: false }
    }

    /// The records before `start`, the last first.
    ///
    /// # Errors
    ///
    /// See [`SeekError`].
    pub fn shared_records_back_from(&self, start: Start) -> Result<SharedRecordsBack, SeekError> {
        let reader = Some(self.reader(start)?);
        Ok(SharedRecordsBack { reader, channel: self.clone(), failed: false })
    }
}

impl SharedRecords {
    /// How the channel has ended, if the iterator has come to its end, as [`Records::end`](crate::Records::end).
    pub fn end(&self) -> Option<End> {
        self.reader.end()
    }
}

impl Iterator for SharedRecords {
    type Item = Result<SharedRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.reader.try_next();
        self.failed = next.is_err();
        next.map(|record| record.map(|record| record.to_shared())).transpose()
    }
}

impl SharedRecordsBack {
    fn go_back(&mut self) -> Result<Option<SharedRecord>, ReadError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(Reader::at_end(self.channel.clone())?),
        };
        Ok(reader.try_previous()?.map(|record| record.to_shared()))
    }
}

impl Iterator for SharedRecordsBack {
    type Item = Result<SharedRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let previous = self.go_back();
        self.failed = previous.is_err();
        previous.transpose()
    }
}
