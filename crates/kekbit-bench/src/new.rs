//! This kekbit.

use std::path::Path;

use kekbit::{Channel, Checksum, Durability, Prepare, Start, Wait, Writer};

use crate::{Append, Peer, Read, Result};

/// A channel with the given way to prepare its memory.
pub(crate) struct New {
    pub(crate) prepare: Prepare,
    pub(crate) checksum: Checksum,
}

impl Peer for New {
    fn name(&self) -> &'static str {
        if self.prepare == Prepare::All { "kekbit, prepared" } else { "kekbit, fresh" }
    }

    fn writer(&self, path: &Path, size: usize, records: u64) -> Result<Append> {
        let mut writer = Writer::options()
            .capacity(((size as u64 + 15) & !7) * records + 16)
            .max_record_len(size as u64)
            .checksum(self.checksum)
            .prepare(self.prepare)
            .durability(Durability::Never)
            .create(path)?;
        Ok(Box::new(move |payload, records| {
            for _ in 0..records {
                writer.append(payload)?;
            }
            Ok(())
        }))
    }

    fn reader(&self, path: &Path) -> Result<Read> {
        let mut reader = Channel::open(path)?.reader(Start::Beginning)?;
        Ok(Box::new(move |records| {
            let mut bytes = 0;
            for _ in 0..records {
                let record = reader.next(Wait::spin())?.ok_or("the channel has ended early")?;
                bytes += record.len() as u64 + u64::from(std::hint::black_box(&record)[0] == 0);
            }
            Ok(bytes)
        }))
    }
}
