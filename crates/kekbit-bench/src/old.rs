//! kekbit 0.3.5. It has no way to prepare memory.

use std::path::{Path, PathBuf};

use kekbit_0_3::api::{EncoderHandler, Reader, Writer};
use kekbit_0_3::core::TickUnit::Nanos;
use kekbit_0_3::core::{Metadata, shm_reader, shm_writer};

use crate::{Append, Peer, Read, Result};

/// The predecessor.
pub(crate) struct Old;

fn root(path: &Path) -> PathBuf {
    path.with_extension("old")
}

impl Peer for Old {
    fn name(&self) -> &'static str {
        "kekbit 0.3.5, fresh"
    }

    fn writer(&self, path: &Path, size: usize, records: u64) -> Result<Append> {
        // It loses what lies in the last kilobyte, and wants records below a 128th of the capacity.
        let capacity = u32::try_from(((size as u64 + 15) & !7) * records + (1 << 20))?;
        let metadata = Metadata::new(1, 2, capacity, size as u32, u64::MAX >> 1, Nanos);
        let mut writer = shm_writer(&root(path), &metadata, EncoderHandler::default())
            .map_err(|error| format!("{error:?}"))?;
        Ok(Box::new(move |payload, records| {
            for _ in 0..records {
                writer.write(&payload).map_err(|error| format!("{error:?}"))?;
            }
            Ok(())
        }))
    }

    fn reader(&self, path: &Path) -> Result<Read> {
        let mut reader = shm_reader(&root(path), 2).map_err(|error| format!("{error:?}"))?;
        Ok(Box::new(move |records| {
            let (mut bytes, mut count) = (0, 0);
            while count < records {
                match reader.try_read().map_err(|error| format!("{error:?}"))? {
                    Some(record) => {
                        bytes += record.len() as u64 + u64::from(std::hint::black_box(record)[0] == 0);
                        count += 1;
                    }
                    None => std::hint::spin_loop(),
                }
            }
            Ok(bytes)
        }))
    }
}
