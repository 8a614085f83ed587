//! kekbit 0.3.5. It has no way to prepare memory, and no checksum.

use std::path::Path;

use kekbit_0_3::api::{EncoderHandler, ReadError, Reader, Writer};
use kekbit_0_3::core::TickUnit::Nanos;
use kekbit_0_3::core::{Metadata, ShmReader, ShmWriter, shm_reader, shm_writer};

use super::meet::wait_until;
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};

/// One channel that holds all records.
pub(crate) struct Old;

pub(crate) fn all() -> Vec<Old> {
    vec![Old]
}

const CHANNEL: u64 = 2;

impl Peer for Old {
    type Sender = OldSender;
    type Receiver = OldReceiver;

    fn name(&self) -> String {
        "kekbit 0.3.5, fresh".into()
    }

    fn about(&self) -> About {
        About { kept: true, checksummed: false, survives_kill: true }
    }

    fn takes_part(&self, workload: Workload) -> bool {
        matches!(workload, Workload::Append | Workload::Stream | Workload::Fresh | Workload::Pingpong)
    }

    fn sender(&self, link: &Link<'_>) -> Result<OldSender> {
        let records = link.records.ok_or("one channel needs to know the number of records")?;
        let bytes = super::raw::frame_len(link.size) as u64 * records;
        Ok(OldSender { writer: create(&link.dir.join(link.name), link.size, CHANNEL, bytes)? })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<OldReceiver> {
        let root = link.dir.join(link.name);
        let reader = wait_until("the channel", || Ok(shm_reader(&root, CHANNEL).ok()))?;
        Ok(OldReceiver { reader })
    }
}

/// A channel below `root` for so many bytes of frames. It loses what lies in the last kilobyte, and wants records below a
/// 128th of the capacity.
pub(crate) fn create(
    root: &Path,
    size: usize,
    channel: u64,
    bytes: u64,
) -> Result<ShmWriter<EncoderHandler>> {
    let capacity = bytes + (4096).max(size as u64 * 128 + 1024);
    let capacity = u32::try_from(capacity.next_multiple_of(8))
        .map_err(|_| format!("{capacity} bytes exceed the 4 GiB of kekbit 0.3.5: send fewer records"))?;
    let metadata = Metadata::new(1, channel, capacity, size as u32, u64::MAX >> 1, Nanos);
    Ok(shm_writer(root, &metadata, EncoderHandler::default()).map_err(|error| format!("{error:?}"))?)
}

/// The sending side.
pub(crate) struct OldSender {
    writer: ShmWriter<EncoderHandler>,
}

impl Sender for OldSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.writer.write(&record).map_err(|error| format!("{error:?}"))?;
        Ok(())
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// The receiving side.
pub(crate) struct OldReceiver {
    reader: ShmReader,
}

impl Receiver for OldReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        let count = take(&mut self.reader, each)?;
        match self.reader.exhausted() {
            Some(end) if count == 0 => Err(format!("{end:?}").into()),
            _ => Ok(count),
        }
    }
}

/// Takes the records that are there. If the channel has ended the reader says so.
#[inline]
pub(crate) fn take(reader: &mut ShmReader, each: &mut impl FnMut(&[u8])) -> Result<usize> {
    for count in 0..super::AT_ONCE {
        match reader.try_read() {
            Ok(Some(record)) => each(record),
            Ok(None) | Err(ReadError::Closed) => return Ok(count),
            Err(error) => return Err(format!("{error:?}").into()),
        }
    }
    Ok(super::AT_ONCE)
}
