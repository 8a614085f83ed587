//! This kekbit, through its public face.

use std::path::PathBuf;

use kekbit::{Channel, Checksum, Durability, Prepare, Reader, Start, Wait, Writer, WriterOptions};

use super::meet::PATIENCE;
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};

/// One channel that holds all records.
pub(crate) struct Kekbit {
    prepare: Prepare,
    checksum: Checksum,
}

pub(crate) fn all() -> Vec<Kekbit> {
    let with = |prepare, checksum| Kekbit { prepare, checksum };
    vec![
        with(Prepare::All, Checksum::Crc32c),
        with(Prepare::All, Checksum::None),
        with(Prepare::default(), Checksum::Crc32c),
    ]
}

/// A channel's file.
pub(crate) fn path(link: &Link<'_>) -> PathBuf {
    link.dir.join(link.name).with_extension("kek")
}

/// Room for all records in one channel.
pub(crate) fn capacity(link: &Link<'_>) -> Result<u64> {
    let records = link.records.ok_or("one channel needs to know the number of records")?;
    Ok((super::raw::frame_len(link.size) as u64 * records + 16).max(4096))
}

/// A reader of the channel, as soon as it is there.
pub(crate) fn wait_for_channel(link: &Link<'_>) -> Result<Reader> {
    let wait = Wait::yielding().at_most(PATIENCE);
    let channel = Channel::wait_for(path(link), wait)?.ok_or("the channel has not appeared")?;
    Ok(channel.reader(Start::Beginning)?)
}

/// What all configurations have in common: nothing is synced, since no peer does that here.
pub(crate) fn options(link: &Link<'_>, checksum: Checksum) -> WriterOptions {
    Writer::options().max_record_len(link.size as u64).checksum(checksum).durability(Durability::Never)
}

impl Peer for Kekbit {
    type Sender = KekbitSender;
    type Receiver = KekbitReceiver;

    fn name(&self) -> String {
        let prepare = if self.prepare == Prepare::All { "prepared" } else { "fresh" };
        let checksum = if self.checksum == Checksum::None { ", no checksum" } else { "" };
        format!("kekbit, {prepare}{checksum}")
    }

    fn about(&self) -> About {
        About { kept: true, checksummed: self.checksum != Checksum::None, survives_kill: true }
    }

    fn takes_part(&self, workload: Workload) -> bool {
        match (self.prepare, self.checksum) {
            (Prepare::All, Checksum::Crc32c) => {
                matches!(workload, Workload::Append | Workload::Stream | Workload::Pingpong)
            }
            (Prepare::All, _) => matches!(workload, Workload::Append | Workload::Stream),
            _ => matches!(workload, Workload::Append | Workload::Fresh | Workload::OpenLoop),
        }
    }

    fn sender(&self, link: &Link<'_>) -> Result<KekbitSender> {
        let options = options(link, self.checksum).capacity(capacity(link)?).prepare(self.prepare);
        Ok(KekbitSender { writer: options.create(path(link))? })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<KekbitReceiver> {
        let mut reader = wait_for_channel(link)?;
        if self.prepare == Prepare::All {
            reader.prepare(reader.channel().capacity());
        }
        Ok(KekbitReceiver { reader })
    }
}

/// The sending side.
pub(crate) struct KekbitSender {
    writer: Writer,
}

impl Sender for KekbitSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.writer.append(record)?;
        Ok(())
    }

    fn finish(self) -> Result<()> {
        Ok(self.writer.close()?)
    }
}

/// The receiving side.
pub(crate) struct KekbitReceiver {
    pub(crate) reader: Reader,
}

impl Receiver for KekbitReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        for count in 0..super::AT_ONCE {
            match self.reader.try_next()? {
                Some(record) => each(&record),
                None => return Ok(count),
            }
        }
        Ok(super::AT_ONCE)
    }
}
