//! kekbit 0.3.5 without an end: channel after channel, each in a new file, since it knows no other way. The receiver removes
//! what it has left behind.

use std::path::PathBuf;

use kekbit_0_3::api::{EncoderHandler, Reader, Writer};
use kekbit_0_3::core::{ShmReader, ShmWriter, shm_reader, storage_path};

use super::PARTS;
use super::meet::wait_until;
use super::old::{create, take};
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};

/// Channels in new files.
pub(crate) struct OldFiles;

pub(crate) fn all() -> Vec<OldFiles> {
    vec![OldFiles]
}

/// What it cannot be trusted with at the end of a channel, with a record of any size.
const UNSAFE_END: u32 = 4096;

impl Peer for OldFiles {
    type Sender = FilesSender;
    type Receiver = FilesReceiver;

    fn name(&self) -> String {
        "kekbit 0.3.5, new files".into()
    }

    fn about(&self) -> About {
        About { kept: true, checksummed: false, survives_kill: true }
    }

    fn takes_part(&self, workload: Workload) -> bool {
        matches!(workload, Workload::Sustained | Workload::OpenLoop)
    }

    fn sender(&self, link: &Link<'_>) -> Result<FilesSender> {
        let (root, size, segment) = (link.dir.join(link.name), link.size, link.segment);
        Ok(FilesSender { writer: create(&root, size, 0, segment)?, root, size, segment, number: 0 })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<FilesReceiver> {
        let root = link.dir.join(link.name);
        let reader = wait_until("the first channel", || Ok(shm_reader(&root, 0).ok()))?;
        Ok(FilesReceiver { reader, root, number: 0 })
    }
}

/// The sending side.
pub(crate) struct FilesSender {
    writer: ShmWriter<EncoderHandler>,
    root: PathBuf,
    size: usize,
    segment: u64,
    number: u64,
}

impl FilesSender {
    #[cold]
    fn enter_next(&mut self) -> Result<()> {
        self.number += 1;
        if let Some(oldest) = self.number.checked_sub(PARTS) {
            let oldest = storage_path(&self.root, oldest);
            wait_until("the receiver", || Ok((!oldest.exists()).then_some(())))?;
        }
        // The last one is closed by being dropped, when the next one is there.
        self.writer = create(&self.root, self.size, self.number, self.segment)?;
        Ok(())
    }
}

impl Sender for FilesSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        if self.writer.available() < UNSAFE_END + record.len() as u32 {
            self.enter_next()?;
        }
        self.writer.write(&record).map_err(|error| format!("{error:?}"))?;
        Ok(())
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// The receiving side.
pub(crate) struct FilesReceiver {
    reader: ShmReader,
    root: PathBuf,
    number: u64,
}

impl FilesReceiver {
    #[cold]
    fn enter_next(&mut self) -> Result<()> {
        // It is there already.
        let next = self.number + 1;
        self.reader = shm_reader(&self.root, next).map_err(|error| format!("{error:?}"))?;
        std::fs::remove_file(storage_path(&self.root, self.number))?;
        self.number = next;
        Ok(())
    }
}

impl Receiver for FilesReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        let count = take(&mut self.reader, each)?;
        if count == 0 && self.reader.exhausted().is_some() {
            self.enter_next()?;
        }
        Ok(count)
    }
}
