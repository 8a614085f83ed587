//! What is there: a channel, opened for reading.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Position;
use crate::cursor::{Cursor, Growth, Rules, Silence, Step};
use crate::error::{Attempt, OpenError, ReadError, SeekError};
use crate::handler::StageInfo;
use crate::layout::control::{HEARTBEAT, RESERVED, SYNCED};
use crate::layout::entry::Entry;
use crate::layout::frame::{Checksum, Kind};
use crate::layout::header::Header;
use crate::mapping::Mapping;
use crate::memory::Memory;
use crate::memory::map::{BorrowedView, Map, OwnedView, SharedBytes};
use crate::metadata::Metadata;
use crate::open::ReadOptions;
use crate::opened::{Opened, Source};
use crate::publish::{Place, Window};
use crate::reader::Reader;
use crate::record::Record;
use crate::records::{Records, RecordsBack};
use crate::seek::{self, Skip, Start};
use crate::stage_layout::StageLayout;
use crate::sys::file;
use crate::time::TickUnit;
use crate::undo::Undone;

/// How a channel stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum State {
    /// Its writer lives.
    Open,
    /// The writer has closed it.
    Closed,
    /// A record no longer fitted.
    Full,
    /// The writer is dead. Everything that it appended is there; if the machine has crashed, everything that was synced
    /// and perhaps more.
    Abandoned,
    /// The machine has crashed, and the last records, which had not been synced, are damaged or lost.
    Torn,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            State::Open => "open",
            State::Closed => "closed",
            State::Full => "full",
            State::Abandoned => "abandoned",
            State::Torn => "torn",
        })
    }
}

/// Where a channel ends at the moment, and how it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EndPoint {
    /// Position behind the last record.
    pub position: Position,
    /// Sequence of the record that would be next.
    pub sequence: u64,
    /// How the channel stands.
    pub state: State,
    /// Whether a terminal frame is in place: a dead writer's channel is abandoned before it is sealed, too.
    pub sealed: bool,
}

/// How far a channel is good, and how it stands there.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckUp {
    /// Position behind the last good record: of the first damage, if there is any.
    pub position: Position,
    /// Sequence of the record that is next there.
    pub sequence: u64,
    /// Where the channel ends, or what is wrong with it.
    pub outcome: Result<EndPoint, ReadError>,
}

/// A channel, opened for reading. Cloning it is cheap and opens nothing anew.
///
/// Opening works with nothing but read permission, on a read-only mount too, and while the channel is being written.
/// As long as it is open its file is not reused, though it can be removed or renamed. A child made by `fork` keeps it open
/// too, until it runs another program or ends.
///
/// # Trust
///
/// A channel is read straight from its mapped file, under one assumption: **nobody but kekbit writes to the file or
/// truncates it**. Whoever has permission to write to the file can break it; then records may change while they are
/// looked at, and a truncated file ends the process by SIGBUS. Damage that is in the file when it is read is no such
/// thing: it is found by checks, and lengths are compared with the file's before they are used.
///
/// For files that a stranger may write to there is the [`CopyingReader`](crate::CopyingReader), which survives anything.
///
/// # Example: read what is there
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("log.kek");
/// # let mut writer = kekbit::Writer::create(&path)?;
/// # writer.append(b"one")?;
/// let channel = kekbit::Channel::open(&path)?;
/// for record in channel.records() {
///     let record = record?;
///     println!("{} {}", record.sequence(), record.escape_ascii());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Example: what is no channel is not opened
///
/// ```
/// use kekbit::{Channel, OpenError};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("notes.txt");
/// std::fs::write(&path, "dear diary")?;
/// assert!(matches!(Channel::open(&path), Err(OpenError::Format { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Channel {
    inner: Arc<Mapped>,
}

/// What all clones of a channel share.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) opened: Opened,
    pub(crate) map: Arc<Map>,
    /// Up to where the data region has been prepared from its beginning on, by whichever reader: asking the kernel for
    /// pages that are present costs nearly as much as for others.
    prepared: AtomicU64,
}

impl Mapped {
    pub(crate) fn new(opened: Opened, map: Arc<Map>, present: u64) -> Mapped {
        Mapped { opened, map, prepared: AtomicU64::new(present) }
    }
}

impl Deref for Mapped {
    type Target = Opened;

    #[inline]
    fn deref(&self) -> &Opened {
        &self.opened
    }
}

impl Channel {
    /// Opens the channel at `path`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Channel, OpenError> {
        Channel::options().open(path)
    }

    /// Options for opening a channel.
    pub fn options() -> ReadOptions {
        ReadOptions::default()
    }

    pub(crate) fn new(mapped: Mapped) -> Channel {
        Channel { inner: Arc::new(mapped) }
    }

    /// Gives the channel up, but keeps its file mapped in this process, for another channel
    /// [in the same file](ReadOptions::open_mapped). The file may then be reused. `None` if a clone of the channel, a reader or
    /// a shared record of it is left, if it was opened for [random access](ReadOptions::random_access), and on a file system that
    /// other machines may share.
    pub fn into_mapping(self) -> Option<Mapping> {
        let Mapped { mut opened, map, prepared } = Arc::into_inner(self.inner)?;
        let shared = file::file_system(&opened.file).ok()?.shared_between_machines();
        // Advice stays with a mapping.
        if opened.random || shared.is_some() {
            return None;
        }
        opened.front = None;
        Mapping::new(map, &opened.file.metadata().ok()?, prepared.into_inner()).ok()
    }

    /// Whether `file` is this channel's.
    pub(crate) fn is_file(&self, file: &File) -> io::Result<bool> {
        let (ours, theirs) = (self.inner.file.metadata()?, file.metadata()?);
        Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
    }

    #[inline]
    pub(crate) fn layout(&self) -> &StageLayout {
        &self.inner.layout
    }

    pub(crate) fn share(&self, bytes: &[u8]) -> Option<SharedBytes> {
        SharedBytes::new(&self.inner.map, bytes)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.inner.header
    }

    /// A cursor that borrows this channel, at the first frame.
    pub(crate) fn cursor(&self) -> Cursor<Window<BorrowedView<'_>>> {
        self.cursor_with(self.inner.rules())
    }

    fn cursor_with(&self, rules: Rules) -> Cursor<Window<BorrowedView<'_>>> {
        let inner = &*self.inner;
        let view = BorrowedView::borrowed(&inner.map, inner.header.regions.data);
        let window = Window::new(view, inner.data_len);
        Cursor::new(window, inner.header.first_sequence, rules)
    }

    /// A cursor that keeps the mapping alive by itself, at the first frame.
    pub(crate) fn owned_cursor(&self) -> Cursor<Window<OwnedView>> {
        let inner = &*self.inner;
        let view = OwnedView::owned(Arc::clone(&inner.map), inner.header.regions.data);
        let window = Window::new(view, inner.data_len);
        Cursor::new(window, inner.header.first_sequence, inner.rules())
    }

    /// The records that are there: a plain iterator that ends at the tail. When more have been appended, it goes on.
    ///
    /// It lends from the channel's memory. Where a stage stands in place of the payload it yields [`ReadError::Encoded`] and
    /// nothing else: [`Channel::shared_records`] and readers undo the stage.
    pub fn records(&self) -> Records<'_> {
        Records::new(self, self.cursor(), Skip::None)
    }

    /// The records from `start` on.
    ///
    /// # Errors
    ///
    /// See [`SeekError`].
    pub fn records_from(&self, start: Start) -> Result<Records<'_>, SeekError> {
        let mut cursor = self.cursor();
        let skip = seek::seek(self, &mut cursor, start)?;
        Ok(Records::new(self, cursor, skip))
    }

    /// The records that are there, the last first: from the end, wherever that is when it is asked for the first one.
    ///
    /// Going back takes two to three times as long as going on, see [`Reader::try_previous`].
    ///
    /// # Example: the last three
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("log.kek");
    /// # let mut writer = kekbit::Writer::create(&path)?;
    /// # for line in ["one", "two", "three", "four"] {
    /// #     writer.append(line.as_bytes())?;
    /// # }
    /// let channel = kekbit::Channel::open(&path)?;
    /// let mut last = Vec::new();
    /// for record in channel.records_back().take(3) {
    ///     last.push(record?.to_vec());
    /// }
    /// assert_eq!(last, [&b"four"[..], b"three", b"two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn records_back(&self) -> RecordsBack<'_> {
        RecordsBack::from_end(self, self.cursor())
    }

    /// The records before `start`, the last first: before [`Start::Sequence`] 42 the first is 41.
    ///
    /// # Errors
    ///
    /// See [`SeekError`].
    pub fn records_back_from(&self, start: Start) -> Result<RecordsBack<'_>, SeekError> {
        let mut cursor = self.cursor();
        let skip = seek::seek(self, &mut cursor, start)?;
        Ok(RecordsBack::new(self, cursor, skip)?)
    }

    /// A reader of its own, from `start` on, that follows the channel while it is written.
    ///
    /// # Errors
    ///
    /// See [`SeekError`].
    pub fn reader(&self, start: Start) -> Result<Reader, SeekError> {
        Reader::new(self.clone(), start)
    }

    /// Where the channel ends at the moment, and how it stands. Looks at the index, and walks from its last entry.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn end_point(&self) -> Result<EndPoint, ReadError> {
        end_point(self, &mut self.cursor())
    }

    /// Checks every record from the first on, whatever the options said, and tells where the channel ends. Calls
    /// `progress` with the position now and then, at least once every 64 KiB unless a record is longer.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]; the position is that of the first damage.
    pub fn verify(&self, progress: impl FnMut(Position)) -> Result<EndPoint, ReadError> {
        self.check_up(progress).outcome
    }

    /// The same, and tells how far the channel is good also where there is damage behind.
    pub fn check_up(&self, progress: impl FnMut(Position)) -> CheckUp {
        let rules = Rules { verify: true, ..self.inner.rules() };
        check_up(self, &mut self.cursor_with(rules), progress)
    }

    /// Bytes from `position` to the last byte in the file that is not zero: what lies behind damage, or behind the tail.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn bytes_behind(&self, position: Position) -> Result<u64, ReadError> {
        self.inner.bytes_behind(position)
    }

    /// Asks the kernel whether the writer lives. A system call.
    ///
    /// # Errors
    ///
    /// If the file system does not support the question.
    pub fn writer_lives(&self) -> Result<bool, ReadError> {
        self.inner.writer_lives()
    }

    /// The last entry of index and trail that exists and for which `wanted` is true; it must be true of all earlier
    /// entries if it is of a later one. If there is none, the beginning of the channel.
    pub(crate) fn last_entry(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        self.inner.last_entry(wanted)
    }

    /// The path under which the channel was opened.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What the writer said of the channel when it created it; the following methods tell parts of that.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::of(&self.inner.header)
    }

    /// Version of the format: major, minor.
    pub fn format_version(&self) -> (u16, u16) {
        self.metadata().format_version()
    }

    /// Whether the format is a draft, which may still change.
    pub fn is_draft(&self) -> bool {
        self.metadata().is_draft()
    }

    /// The writer's number, chosen by the application.
    pub fn writer_id(&self) -> u64 {
        self.metadata().writer_id()
    }

    /// The channel's number, chosen by the application.
    pub fn channel_id(&self) -> u64 {
        self.metadata().channel_id()
    }

    /// Bytes for records.
    pub fn capacity(&self) -> u64 {
        self.metadata().capacity()
    }

    /// The longest record in bytes, as stored.
    pub fn max_record_len(&self) -> u64 {
        self.metadata().max_record_len()
    }

    /// How long to wait for a sign of life of the writer; `None` is for ever.
    pub fn timeout(&self) -> Option<Duration> {
        self.metadata().timeout()
    }

    /// The unit in which the timeout is recorded.
    pub fn tick_unit(&self) -> TickUnit {
        self.metadata().tick_unit()
    }

    /// When the channel was created, in nanoseconds since the Unix epoch.
    pub fn created_nanos(&self) -> u64 {
        self.metadata().created_nanos()
    }

    /// Sequence of the first record.
    pub fn first_sequence(&self) -> u64 {
        self.metadata().first_sequence()
    }

    /// Whether records carry a checksum.
    pub fn checksum(&self) -> Checksum {
        self.metadata().checksum()
    }

    /// What the records are, if the writer has said so.
    pub fn content_type(&self) -> Option<&str> {
        self.metadata().content_type()
    }

    /// The schema that the records follow, if the writer has said so.
    pub fn schema(&self) -> Option<&str> {
        self.metadata().schema()
    }

    /// The application's own keys and values.
    pub fn meta(&self) -> &[(String, String)] {
        self.metadata().meta()
    }

    /// The value of the first of the application's own keys that is `key`.
    pub fn meta_value(&self, key: &str) -> Option<&str> {
        self.metadata().meta_value(key)
    }

    /// The stages that each record went through, the outermost first.
    pub fn stages(&self) -> &[StageInfo] {
        self.metadata().stages()
    }

    /// Whether what is synced outlives a power cut: not on a file system in memory.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn is_on_storage(&self) -> Result<bool, ReadError> {
        file::file_system(&self.inner.file)
            .map(file::FileSystem::is_storage)
            .reading("look up the file system")
    }

    /// Up to where the records are known to be durable: what the writer says while it lives or in the same boot, else
    /// what a slot on the disk tells, which may be one sync late, and 17 where each record is synced.
    pub fn synced_tail(&self) -> Position {
        let synced = if self.inner.same_boot { self.announced() } else { self.inner.synced_slot() };
        Position::new(synced.min(self.inner.header.capacity))
    }

    /// Up to where its writer says that everything is synced, to whoever reads it in the same boot.
    pub(crate) fn announced(&self) -> u64 {
        self.inner.map.word(self.inner.header.regions.control + SYNCED)
    }

    /// Up to where a slot of the control region says that everything is synced.
    pub(crate) fn synced_slot(&self) -> u64 {
        self.inner.synced_slot()
    }

    /// Whether this is the file that its writer wrote, as far as anybody can tell: no copy, no file of which a crash is
    /// told.
    pub(crate) fn is_original(&self) -> bool {
        self.inner.same_boot || self.inner.other_boot
    }

    /// Whether the file was written in this boot of this machine, so that it holds what was in memory.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.inner.same_boot
    }

    /// Bytes of the data region that are reserved on the disk.
    pub fn reserved(&self) -> u64 {
        self.inner.map.word(self.inner.header.regions.control + RESERVED).min(self.inner.header.capacity)
    }

    /// Nanoseconds since the Unix epoch of the writer's last heartbeat, or of the creation.
    pub fn heartbeat_nanos(&self) -> u64 {
        self.inner.map.word(self.inner.header.regions.control + HEARTBEAT)
    }

    /// Prepares `[from, from + len)` of the data region as far as it is reserved; up to where that is.
    fn prepare(&self, from: u64, len: u64) -> u64 {
        let inner = &*self.inner;
        if inner.random {
            return from.saturating_add(len);
        }
        // Relaxed: advice.
        let prepared = inner.prepared.load(Ordering::Relaxed);
        let start = if from <= prepared { prepared } else { from };
        // Reserved pages only: populating a hole would allocate it.
        let end =
            from.saturating_add(len).min(self.reserved()).min(inner.map.len() - inner.header.regions.data);
        // A failure costs speed only.
        if start < end
            && inner.map.populate_read(inner.header.regions.data + start, end - start).is_ok()
            && start == prepared
        {
            inner.prepared.fetch_max(end, Ordering::Relaxed);
        }
        end
    }
}

impl<M: Memory> Growth<Window<M>> for Channel {
    fn grow(&self, window: &mut Window<M>, _: u64) -> Result<bool, ReadError> {
        let len = self.inner.data_len()?;
        let grown = len > window.bound();
        if grown {
            window.set_bound(len);
        }
        Ok(grown)
    }

    fn jump(&self, window: &mut Window<M>, at: u64) -> Result<bool, ReadError> {
        Ok(window.move_to(at) || (self.grow(window, at)? && window.move_to(at)))
    }

    fn durable_tail(&self) -> u64 {
        // What is left of another boot has come from the disk.
        if self.inner.other_boot { u64::MAX } else { self.synced_tail().offset() }
    }
}

/// Where `source` ends at the moment, from the last entry of its index on.
pub(crate) fn end_point<P: Place>(
    source: &impl Source<P>,
    cursor: &mut Cursor<P>,
) -> Result<EndPoint, ReadError> {
    let last = source.last_entry(|_| true)?;
    cursor.move_to(last.position, last.sequence, source)?;
    walk_to_end(source, cursor, |_| ())
}

/// Walks `cursor` to where `source` ends at the moment, or to the first damage.
pub(crate) fn check_up<P: Place>(
    source: &impl Source<P>,
    cursor: &mut Cursor<P>,
    progress: impl FnMut(Position),
) -> CheckUp {
    let outcome = walk_to_end(source, cursor, progress);
    CheckUp { position: Position::new(cursor.position()), sequence: cursor.sequence(), outcome }
}

/// Walks `cursor` to where `source` ends at the moment.
pub(crate) fn walk_to_end<P: Place>(
    source: &impl Source<P>,
    cursor: &mut Cursor<P>,
    mut progress: impl FnMut(Position),
) -> Result<EndPoint, ReadError> {
    let mut next = 0;
    let (state, sealed) = loop {
        match cursor.step(source)? {
            Step::Record => {
                if cursor.position() >= next {
                    progress(Position::new(cursor.position()));
                    next = cursor.position() + (64 << 10);
                }
            }
            Step::End(kind) => break (end_state(kind), true),
            Step::Torn => break (State::Torn, false),
            // This cursor does not stop at the durable tail.
            Step::Unsynced => {}
            Step::Nothing => match cursor.silence(source, || source.opened().writer_lives())? {
                Silence::Broken => {}
                Silence::Pause => break (State::Open, false),
                Silence::Final => break (State::Abandoned, false),
            },
        }
    };
    let position = Position::new(cursor.position());
    progress(position);
    Ok(EndPoint { position, sequence: cursor.sequence(), state, sealed })
}

impl<M: Memory> Source<Window<M>> for Channel {
    fn opened(&self) -> &Opened {
        &self.inner.opened
    }

    fn heartbeat_nanos(&self) -> u64 {
        Channel::heartbeat_nanos(self)
    }

    #[inline]
    fn record<'r>(
        &'r self,
        stored: &'r [u8],
        position: u64,
        sequence: u64,
        undone: Option<&'r Undone>,
    ) -> Record<'r> {
        Record::new(stored, position, sequence, self, undone)
    }

    fn prepare(&self, from: u64, len: u64) -> u64 {
        Channel::prepare(self, from, len)
    }
}

pub(crate) fn end_state(kind: Kind) -> State {
    match kind {
        Kind::Closed => State::Closed,
        Kind::Full => State::Full,
        _ => State::Abandoned,
    }
}
