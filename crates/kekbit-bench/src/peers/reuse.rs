//! kekbit without an end: channel after channel, each in the file of one that everybody has left.
//!
//! A channel that is full is followed by the next one, under the next number, in the file of the oldest one, which both sides
//! have mapped already. Creation, change-over and reuse are part of what is measured. The receiver opens the next channel before it lets go of the last
//! one, so that the sender, which takes the oldest file only, never takes one that the receiver has still to read: it is
//! told that the file is in use, and waits.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use kekbit::{AppendError, Channel, CreateError, Mapping, OpenError, Reader, Start, Writer, WriterOptions};

use super::kekbit::{KekbitReceiver, options};
use super::meet::wait_until;
use super::{AT_ONCE, PARTS};
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};

/// Channels in files that are used again.
pub(crate) struct Reuse;

pub(crate) fn all() -> Vec<Reuse> {
    vec![Reuse]
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number}.kek"))
}

impl Peer for Reuse {
    type Sender = ReuseSender;
    type Receiver = ReuseReceiver;

    fn name(&self) -> String {
        "kekbit, reuse".into()
    }

    fn about(&self) -> About {
        // What is kept is the end: the last files.
        About { kept: true, checksummed: true, survives_kill: true }
    }

    fn takes_part(&self, workload: Workload) -> bool {
        matches!(workload, Workload::Sustained | Workload::OpenLoop)
    }

    fn sender(&self, link: &Link<'_>) -> Result<ReuseSender> {
        let dir = link.dir.join(link.name);
        std::fs::create_dir(&dir)?;
        let options = options(link, kekbit::Checksum::Crc32c).capacity(link.segment).keep_space(true);
        let writer = options.clone().create(path(&dir, 0))?;
        Ok(ReuseSender { writer, options, dir, number: 0, mappings: VecDeque::new() })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<ReuseReceiver> {
        let dir = link.dir.join(link.name);
        let reader = wait_until("the first channel", || enter(&dir, 0, &mut None))?;
        Ok(ReuseReceiver {
            from: KekbitReceiver { reader },
            dir,
            number: 0,
            mappings: VecDeque::new(),
            mapping: None,
        })
    }
}

/// A reader of the channel with this number, if it is there.
fn enter(dir: &Path, number: u64, mapping: &mut Option<Mapping>) -> Result<Option<Reader>> {
    match Channel::options().open_mapped(path(dir, number), mapping) {
        Ok(channel) => Ok(Some(channel.reader(Start::Beginning)?)),
        Err(OpenError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The sending side.
pub(crate) struct ReuseSender {
    writer: Writer,
    options: WriterOptions,
    dir: PathBuf,
    number: u64,
    /// Those of the files that have been left, the oldest first.
    mappings: VecDeque<Option<Mapping>>,
}

impl ReuseSender {
    /// Goes on in the next channel. The last one is full, and has ended by that.
    #[cold]
    fn enter_next(&mut self) -> Result<()> {
        self.number += 1;
        let next = path(&self.dir, self.number);
        let writer = match self.number.checked_sub(PARTS) {
            None => self.options.clone().create(&next)?,
            Some(oldest) => {
                let (oldest, mut mapping) = (path(&self.dir, oldest), self.mappings.pop_front().flatten());
                wait_until("the receiver", || {
                    match self.options.clone().create_from_mapped(&oldest, &mut mapping, &next) {
                        Err(CreateError::InUse { .. }) => Ok(None),
                        created => Ok(Some(created?)),
                    }
                })?
            }
        };
        let left = std::mem::replace(&mut self.writer, writer);
        self.mappings.push_back(left.close_mapped()?);
        Ok(())
    }
}

impl Sender for ReuseSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        match self.writer.append(record) {
            Ok(_) => Ok(()),
            Err(AppendError::Full { .. }) => {
                self.enter_next()?;
                self.writer.append(record)?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn finish(self) -> Result<()> {
        Ok(self.writer.close()?)
    }
}

/// The receiving side.
pub(crate) struct ReuseReceiver {
    from: KekbitReceiver,
    dir: PathBuf,
    number: u64,
    /// Those of the files that have been left, the oldest first.
    mappings: VecDeque<Option<Mapping>>,
    /// That of the file that comes next.
    mapping: Option<Mapping>,
}

impl ReuseReceiver {
    /// Goes on in the next channel, if it is there.
    #[cold]
    fn enter_next(&mut self) -> Result<()> {
        if self.mapping.is_none() && self.mappings.len() as u64 == PARTS - 1 {
            self.mapping = self.mappings.pop_front().flatten();
        }
        if let Some(next) = enter(&self.dir, self.number + 1, &mut self.mapping)? {
            self.number += 1;
            let left = std::mem::replace(&mut self.from.reader, next);
            self.mappings.push_back(left.into_mapping());
        }
        Ok(())
    }
}

impl Receiver for ReuseReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        let count = self.from.poll(each)?;
        if count < AT_ONCE && self.from.reader.end().is_some() {
            self.enter_next()?;
        }
        Ok(count)
    }
}
