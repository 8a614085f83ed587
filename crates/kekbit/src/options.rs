//! What can be chosen when a channel is created.

use std::path::Path;
use std::time::Duration;

use crate::ahead::PIECE;
use crate::error::{Attempt, CreateError};
use crate::handler::{Chain, Push};
use crate::layout::attributes::Attributes;
use crate::layout::frame::{Checksum, MAX_CAPACITY, MIN_CAPACITY, longest_record};
use crate::layout::header::{ATTRIBUTES_MAX, DRAFT, Header, Regions, VERSION, index_interval};
use crate::layout::{PAGE, round_up};
use crate::stages::LZ4;
use crate::sys::file;
use crate::time::{TickUnit, boot_id, unix_nanos};
use crate::typed::{self, Codec};

/// When what was appended is made durable, that is, outlives a power cut. Whatever the choice, it is visible to readers
/// at once and outlives this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Never by itself, not even at the end; the kernel writes it some time. Nor is the name of the file: a sync that is
    /// asked for makes the content durable, but whether it has a name after a power cut is known only when its directory
    /// has been synced. The kernel may then use large pages, which
    /// makes a fresh file on a disk several times faster, and each [`Writer::sync`](crate::Writer::sync) write more.
    Never,
    /// When the channel ends, and whenever [`Writer::sync`](crate::Writer::sync) is called. Who calls that very often should
    /// choose one of the following, for which the file is made ready so that each sync writes less.
    #[default]
    AtEnd,
    /// Whenever this long has passed since the last sync and something was appended: by a thread that belongs to the
    /// writer, so that appending does not wait, but where the file needs more space, which with [`Prepare::Ahead`] that
    /// thread sees to in time. What a power cut can take is what was appended in that time, and during one sync. Also whenever `sync` is
    /// called and at the end. Not zero.
    Interval(Duration),
    /// Before each append returns. Also whenever `sync` is called and at the end. Threads that append through a
    /// [`SharedWriter`](crate::SharedWriter) share their syncs (group commit).
    Each,
}

impl Durability {
    /// Whether there are so many syncs that it pays to prepare the file for them.
    pub(crate) fn syncs_often(self) -> bool {
        matches!(self, Durability::Interval(_) | Durability::Each)
    }
}

/// How space and pages are made ready ahead of the tail, so that appending makes no system call and does not fault.
///
/// Whatever the choice, readers see the same, and a full disk is an error of the append that needs the space. What it costs,
/// for records of 96 bytes in a fresh file in memory (tmpfs) and on a disk (ext4, [`Durability::Never`]); one run on two busy
/// cores, so that only ratios mean something:
///
/// | | at full speed, ns a record | a million records a second: of 10 000 the slowest | of 100 000 | creation, for each MiB of capacity |
/// | --- | --- | --- | --- | --- |
/// | [`OnDemand`](Prepare::OnDemand) | 162, 47 | 140, 5 µs | 530, 690 µs | |
/// | [`INLINE`](Prepare::INLINE) | 134, 43 | 240, 8 µs | 1090, 640 µs | |
/// | [`AHEAD`](Prepare::AHEAD) | 139, 41 | 2.9, 2.9 µs | 32, 38 µs | |
/// | [`All`](Prepare::All) | 18, 18 | 2.9, 2.9 µs | 33, 34 µs | 1.3, 0.5 ms |
/// | `All`, whole file [reused](WriterOptions::create_from) | 18, 22 | | | 0.5, 0.1 ms |
///
/// With [`Durability::Each`] nothing is prepared, since each sync makes the pages that it writes fault again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Prepare {
    /// Not at all: each new page faults when it is first written. Least memory.
    OnDemand,
    /// The appending thread prepares this many bytes at once whenever it reaches the end of what is prepared: fewer
    /// interruptions than on demand, but longer ones. 64 KiB to 1 MiB are equally fast.
    Inline(u32),
    /// A thread that belongs to the writer reserves space and prepares up to this many bytes ahead of the tail, so that
    /// appending hardly ever waits. It pays where the writer pauses between records, or another core is free: a writer that
    /// overtakes it goes on by itself, as if inline.
    ///
    /// It takes that much memory, and on a disk that much is written once more if the kernel writes it before it is used. The
    /// thread learns of the tail every 64 KiB, so that less than 256 KiB are of no use; it sleeps while nothing is
    /// appended, and ends with the writer. With [`Durability::Interval`] it also does the writing that new
    /// space needs there.
    Ahead(u32),
    /// The whole capacity is reserved and prepared at creation; if there is not that much
    /// space, as little as possible, and the rest as it is reserved. Longest start, shortest tail, most memory: for
    /// bursts that fit it.
    All,
}

impl Default for Prepare {
    fn default() -> Self {
        Prepare::INLINE
    }
}

impl Prepare {
    /// Inline, 256 KiB at once. The default: the fastest that needs neither a thread nor memory for what may never come.
    pub const INLINE: Prepare = Prepare::Inline(256 << 10);
    /// Ahead, up to 8 MiB: with less, a busy machine lets the writer catch up now and then; more is no better.
    pub const AHEAD: Prepare = Prepare::Ahead(8 << 20);

    /// Bytes to prepare at once.
    pub(crate) fn step(self, capacity: u64) -> Option<u64> {
        match self {
            Prepare::OnDemand => None,
            Prepare::Inline(bytes) => Some(u64::from(bytes).max(PAGE)),
            // What it does itself, where the helper has not come so far.
            Prepare::Ahead(bytes) => Some(u64::from(bytes).clamp(PAGE, PIECE)),
            Prepare::All => Some(capacity),
        }
    }
}

/// Options of a new channel; made by [`Writer::options`](crate::Writer::options).
///
/// # Example: a channel with everything chosen
///
/// ```
/// use std::time::Duration;
/// use kekbit::{Checksum, Durability, TickUnit, Timestamp, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// let mut writer = Writer::options()
///     .capacity(1 << 20)
///     .max_record_len(4096)
///     .timeout(Duration::from_secs(5))
///     .writer_id(7)
///     .channel_id(42)
///     .content_type("application/x-ticks")
///     .meta("venue", "XETR")
///     .durability(Durability::AtEnd)
///     .stage(Timestamp::new(TickUnit::Nanos))
///     .create(dir.path().join("ticks.kek"))?;
/// writer.append(b"first")?;
/// writer.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `create`"]
pub struct WriterOptions<C = ()> {
    pub(crate) capacity: u64,
    max_record_len: Option<u64>,
    timeout: Option<Duration>,
    tick: TickUnit,
    writer_id: u64,
    pub(crate) channel_id: Option<u64>,
    first_sequence: u64,
    checksum: Checksum,
    attributes: Attributes,
    pub(crate) mode: u32,
    pub(crate) durability: Durability,
    pub(crate) prepare: Prepare,
    pub(crate) keep_space: bool,
    pub(crate) force: bool,
    /// Whether the channel is one of a journal, which has threads and syncs of its own.
    pub(crate) joins_journal: bool,
    pub(crate) chain: C,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            capacity: 1 << 30,
            max_record_len: None,
            timeout: None,
            tick: TickUnit::Nanos,
            writer_id: 0,
            channel_id: None,
            first_sequence: 0,
            checksum: Checksum::Crc32c,
            attributes: Attributes::default(),
            mode: 0o600,
            durability: Durability::default(),
            prepare: Prepare::default(),
            keep_space: false,
            force: false,
            joins_journal: false,
            chain: (),
        }
    }
}

impl<C: Chain> WriterOptions<C> {
    /// Bytes for records, 4096 to 2⁴⁵ (32 TiB), rounded up to a multiple of 4096. Each record takes 8 bytes and its
    /// length rounded up to 8. Default: 1 GiB. Space is reserved on the disk as the channel grows.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// The longest record in bytes, as stored, with what the stages add: at most 2²⁸ - 1 (256 MiB - 1), and at most
    /// the capacity less 16. Default: the smaller of 1 MiB and an eighth of the capacity.
    pub fn max_record_len(mut self, bytes: u64) -> Self {
        self.max_record_len = Some(bytes);
        self
    }

    /// How long a reader waits for a sign of life before it says that the channel timed out. Default: for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The unit in which the timeout is recorded, rounded up to a whole number of it. Default: nanoseconds.
    pub fn tick(mut self, unit: TickUnit) -> Self {
        self.tick = unit;
        self
    }

    /// A number for the writer, for the application to choose. Default: 0.
    pub fn writer_id(mut self, id: u64) -> Self {
        self.writer_id = id;
        self
    }

    /// A number for the channel, for the application to choose. Default: 0.
    pub fn channel_id(mut self, id: u64) -> Self {
        self.channel_id = Some(id);
        self
    }

    /// The sequence of the first record, at most 2⁶³. Default: 0.
    pub fn first_sequence(mut self, sequence: u64) -> Self {
        self.first_sequence = sequence;
        self
    }

    /// Whether records carry a checksum. Default: CRC-32C.
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// What the records are, for instance a media type.
    pub fn content_type(mut self, text: impl Into<String>) -> Self {
        self.attributes.content_type = Some(text.into());
        self
    }

    /// The name of the schema that the records follow.
    pub fn schema(mut self, text: impl Into<String>) -> Self {
        self.attributes.schema = Some(text.into());
        self
    }

    /// The records are values of the codec `K`: sets content type, schema, and where their fields lie. For a journal's
    /// channels, and for those that are [reused](WriterOptions::create_from); then ask for them with
    /// [`Writer::typed`](crate::Writer::typed). [`WriterOptions::create_typed`] does both.
    pub fn record_type<K: Codec>(mut self) -> Self {
        typed::record::<K>(&mut self.attributes);
        self
    }

    /// Adds a key and a value of the application's own to the header. All attributes together have 3864 bytes.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.user.push((key.into(), value.into()));
        self
    }

    /// Permission bits of the file, before the process's mask. Default: 0600.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// When records become durable. Default: at the end.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How space and pages are made ready ahead of the tail. Default: [`Prepare::INLINE`].
    pub fn prepare(mut self, prepare: Prepare) -> Self {
        self.prepare = prepare;
        self
    }

    /// Keeps the space that is reserved behind the end when the channel ends, for a file that will be
    /// [reused](WriterOptions::create_from): its successor then finds all of it reserved, and what was written or prepared
    /// in memory. To readers it makes no difference. A sealer gives the space back nevertheless. Default: it is given back.
    ///
    /// # Example: two files in turn
    ///
    /// ```
    /// use kekbit::{Channel, Durability, Writer};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let path = |number: u64| dir.path().join(format!("{number}.kek"));
    /// let options = Writer::options().capacity(1 << 20).durability(Durability::Never).keep_space(true);
    /// let mut writer = options.clone().create(path(0))?;
    /// for number in 1..10 {
    ///     writer.append(format!("record of {}", number - 1).as_bytes())?;
    ///     // The successor first, so that readers find it; the file of the one before the last is free by now.
    ///     let next = match number {
    ///         1 => options.clone().create(path(1))?,
    ///         _ => options.clone().create_from(path(number - 2), path(number))?,
    ///     };
    ///     writer.close()?;
    ///     writer = next;
    /// }
    /// assert_eq!(&Channel::open(path(8))?.records().next().unwrap()?[..], b"record of 8");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_space(mut self, keep: bool) -> Self {
        self.keep_space = keep;
        self
    }

    /// Writes also on a file system that other machines may share, where nobody can tell whether the writer lives.
    /// Default: refused.
    pub fn force_shared_file_system(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Adds `handler` as the innermost stage: its bytes lie next to the payload.
    pub fn stage<H>(self, handler: H) -> WriterOptions<C::Output>
    where
        C: Push<H>,
    {
        self.map_chain(|chain| chain.push(handler))
    }

    /// The same options with another chain, which `map` makes of this one.
    pub(crate) fn map_chain<D>(self, map: impl FnOnce(C) -> D) -> WriterOptions<D> {
        WriterOptions {
            chain: map(self.chain),
            capacity: self.capacity,
            max_record_len: self.max_record_len,
            timeout: self.timeout,
            tick: self.tick,
            writer_id: self.writer_id,
            channel_id: self.channel_id,
            first_sequence: self.first_sequence,
            checksum: self.checksum,
            attributes: self.attributes,
            mode: self.mode,
            durability: self.durability,
            prepare: self.prepare,
            keep_space: self.keep_space,
            force: self.force,
            joins_journal: self.joins_journal,
        }
    }

    /// The header of a channel with these options; its inode is not known yet.
    pub(crate) fn header(&self, path: &Path) -> Result<Header, CreateError> {
        let wrong = |text: String| Err(CreateError::Options(text));
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&self.capacity) {
            return wrong(format!(
                "capacity of {} bytes is outside {MIN_CAPACITY} to {MAX_CAPACITY}",
                self.capacity
            ));
        }
        let capacity = round_up(self.capacity, PAGE);
        let max_record_len = self.max_record_len.unwrap_or((1 << 20).min(capacity / 8));
        if max_record_len > longest_record(capacity) {
            return wrong(format!(
                "max_record_len of {max_record_len} bytes exceeds the {} that a capacity of {capacity} allows",
                longest_record(capacity)
            ));
        }
        if self.durability == Durability::Interval(Duration::ZERO) {
            return wrong(
                "an interval of zero between syncs: choose a longer one, or to sync each record".into(),
            );
        }
        if self.first_sequence > 1 << 63 {
            return wrong(format!("first_sequence {} exceeds 2^63", self.first_sequence));
        }
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            return wrong(format!(
                "mode {:o}: expected permission bits that let the owner read and write",
                self.mode
            ));
        }
        let mut attributes = self.attributes.clone();
        self.chain.describe(&mut attributes.stages);
        let around =
            attributes.stages.iter().map(|s| u64::from(s.prefix_len) + u64::from(s.suffix_len)).sum::<u64>();
        if around > max_record_len {
            return wrong(format!("the stages add {around} bytes to a record of at most {max_record_len}"));
        }
        if attributes.stages.iter().filter(|stage| stage.replaces && stage.id == LZ4).count() > 1 {
            return wrong(
                "records would be compressed more than once, which readers do not undo: leave one `Lz4` stage out"
                    .into(),
            );
        }
        let salt = file::random().creating("get randomness for", path)?;
        let header = Header {
            version: VERSION,
            writer_id: self.writer_id,
            channel_id: self.channel_id.unwrap_or(0),
            capacity,
            max_record_len: max_record_len as u32,
            tick: self.tick,
            checksum: self.checksum,
            timeout: self.timeout.map_or(0, |timeout| self.tick.ticks_up(timeout).max(1)),
            created: unix_nanos(),
            first_sequence: self.first_sequence,
            salt,
            boot_id: boot_id(),
            inode: 0,
            regions: Regions::for_capacity(capacity, index_interval(capacity)),
            index_interval: index_interval(capacity),
            features_reader: DRAFT,
            features_sealer: 0,
            features_info: 0,
            attributes,
        };
        if header.encode().is_none() {
            return wrong(format!(
                "the attributes and stages exceed the {ATTRIBUTES_MAX} bytes of the header"
            ));
        }
        Ok(header)
    }
}
