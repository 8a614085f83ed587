//! kekbit with one setting changed, to see what each costs. The rest is as it comes: prepared 256 KiB at a time, with a
//! checksum, synced at the end.

use kekbit::{
    Chain, Checksum, Durability, Prepare, Reader, TickUnit, Timestamp, Wait, Writer, WriterOptions,
};

use super::kekbit::{capacity, path, wait_for_channel};
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};

/// A way to append records, of which each is compiled for itself.
pub(crate) trait Way: Sized {
    type Chain: Chain;

    fn stages(options: WriterOptions) -> WriterOptions<Self::Chain>;

    fn new(link: &Link<'_>) -> Self;

    fn append(&mut self, writer: &mut Writer<Self::Chain>, record: &[u8]) -> Result<()>;

    /// Appends what was gathered.
    fn flush(&mut self, _writer: &mut Writer<Self::Chain>) -> Result<()> {
        Ok(())
    }
}

/// `append`.
pub(crate) struct Plain;

impl Way for Plain {
    type Chain = ();

    fn stages(options: WriterOptions) -> WriterOptions {
        options
    }

    fn new(_: &Link<'_>) -> Plain {
        Plain
    }

    #[inline]
    fn append(&mut self, writer: &mut Writer, record: &[u8]) -> Result<()> {
        writer.append(record)?;
        Ok(())
    }
}

/// `append_with`: written in place.
pub(crate) struct InPlace;

impl Way for InPlace {
    type Chain = ();

    fn stages(options: WriterOptions) -> WriterOptions {
        options
    }

    fn new(_: &Link<'_>) -> InPlace {
        InPlace
    }

    #[inline]
    fn append(&mut self, writer: &mut Writer, record: &[u8]) -> Result<()> {
        writer.append_with(record.len(), |space| {
            space.copy_from_slice(record);
            record.len()
        })?;
        Ok(())
    }
}

/// `append` with a timestamp in front of each record.
pub(crate) struct Stamped;

impl Way for Stamped {
    type Chain = <() as kekbit::Push<Timestamp>>::Output;

    fn stages(options: WriterOptions) -> WriterOptions<Self::Chain> {
        options.stage(Timestamp::new(TickUnit::Nanos))
    }

    fn new(_: &Link<'_>) -> Stamped {
        Stamped
    }

    #[inline]
    fn append(&mut self, writer: &mut Writer<Self::Chain>, record: &[u8]) -> Result<()> {
        writer.append(record)?;
        Ok(())
    }
}

/// Records of a batch.
const BATCH: usize = 16;

/// Batches. Gathering the records is part of the cost.
pub(crate) struct Batches {
    gathered: Vec<u8>,
    size: usize,
}

impl Way for Batches {
    type Chain = ();

    fn stages(options: WriterOptions) -> WriterOptions {
        options
    }

    fn new(link: &Link<'_>) -> Batches {
        Batches { gathered: Vec::with_capacity(BATCH * link.size), size: link.size }
    }

    #[inline]
    fn append(&mut self, writer: &mut Writer, record: &[u8]) -> Result<()> {
        self.gathered.extend_from_slice(record);
        if self.gathered.len() == BATCH * self.size { self.flush(writer) } else { Ok(()) }
    }

    #[inline]
    fn flush(&mut self, writer: &mut Writer) -> Result<()> {
        let mut batch = writer.batch();
        for record in self.gathered.chunks_exact(self.size) {
            batch.push(record)?;
        }
        batch.commit()?;
        self.gathered.clear();
        Ok(())
    }
}

/// kekbit with a setting.
pub(crate) struct Setting<W> {
    name: &'static str,
    prepare: Prepare,
    checksum: Checksum,
    durability: Durability,
    wait: Option<Wait<'static>>,
    way: std::marker::PhantomData<W>,
}

impl<W> Setting<W> {
    fn new(name: &'static str) -> Setting<W> {
        Setting {
            name,
            prepare: Prepare::default(),
            checksum: Checksum::Crc32c,
            durability: Durability::AtEnd,
            wait: None,
            way: std::marker::PhantomData,
        }
    }
}

/// The names of those that are compared by what appending costs.
pub(crate) fn appending_names() -> Vec<String> {
    [names(&appending()), names(&in_place()), names(&stamped()), names(&batches())].concat()
}

/// The names of those that are compared by what a round trip takes.
pub(crate) fn waiting_names() -> Vec<String> {
    names(&waiting())
}

fn names<W: Way>(settings: &[Setting<W>]) -> Vec<String> {
    settings.iter().map(Peer::name).collect()
}

/// Settings that change what appending costs.
pub(crate) fn appending() -> Vec<Setting<Plain>> {
    let prepare = |name, prepare| Setting { prepare, ..Setting::new(name) };
    vec![
        Setting::new("default settings"),
        prepare("Prepare::OnDemand", Prepare::OnDemand),
        prepare("Prepare::Inline(64 KiB)", Prepare::Inline(64 << 10)),
        prepare("Prepare::Inline(1 MiB)", Prepare::Inline(1 << 20)),
        prepare("Prepare::All", Prepare::All),
        Setting { checksum: Checksum::None, ..Setting::new("Checksum::None") },
        Setting { durability: Durability::Never, ..Setting::new("Durability::Never") },
    ]
}

pub(crate) fn in_place() -> Vec<Setting<InPlace>> {
    vec![Setting::new("append_with")]
}

pub(crate) fn stamped() -> Vec<Setting<Stamped>> {
    vec![Setting::new("timestamp stage")]
}

pub(crate) fn batches() -> Vec<Setting<Batches>> {
    vec![Setting::new("batches of 16")]
}

/// Ways to wait, which change what a round trip takes.
pub(crate) fn waiting() -> Vec<Setting<Plain>> {
    let wait = |name, wait| Setting { wait: Some(wait), ..Setting::new(name) };
    vec![
        wait("Wait::spin", Wait::spin()),
        wait("Wait::yielding", Wait::yielding()),
        wait("Wait::backoff", Wait::backoff()),
    ]
}

impl<W: Way> Peer for Setting<W> {
    type Sender = SettingSender<W>;
    type Receiver = SettingReceiver;

    fn name(&self) -> String {
        format!("kekbit, {}", self.name)
    }

    fn about(&self) -> About {
        About { kept: true, checksummed: self.checksum != Checksum::None, survives_kill: true }
    }

    fn takes_part(&self, _: Workload) -> bool {
        // Only where settings are compared: see `plan`.
        false
    }

    fn sender(&self, link: &Link<'_>) -> Result<SettingSender<W>> {
        // Room for what stages and batches add.
        let room = Link { size: link.size + 16, ..link.clone() };
        let options = Writer::options()
            .capacity(capacity(&room)?)
            .max_record_len(link.size as u64 + 8)
            .prepare(self.prepare)
            .checksum(self.checksum)
            .durability(self.durability);
        Ok(SettingSender { writer: W::stages(options).create(path(link))?, way: W::new(link) })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<SettingReceiver> {
        Ok(SettingReceiver { reader: wait_for_channel(link)?, wait: self.wait })
    }
}

/// The sending side.
pub(crate) struct SettingSender<W: Way> {
    writer: Writer<W::Chain>,
    way: W,
}

impl<W: Way> Sender for SettingSender<W> {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.way.append(&mut self.writer, record)
    }

    fn flush(&mut self) -> Result<()> {
        self.way.flush(&mut self.writer)
    }

    fn finish(self) -> Result<()> {
        Ok(self.writer.close()?)
    }
}

/// The receiving side.
pub(crate) struct SettingReceiver {
    reader: Reader,
    wait: Option<Wait<'static>>,
}

impl Receiver for SettingReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        let record = match self.wait {
            Some(wait) => self.reader.next(wait)?,
            None => self.reader.try_next()?,
        };
        Ok(record.map(|record| each(&record)).map_or(0, |()| 1))
    }
}
