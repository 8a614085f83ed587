//! Reading a journal: channel after channel, as if they were one.
//!
//! Whoever is at the terminal of a channel goes on in the one that is named by the next sequence. If that is not there but a
//! later one is, what was to be read has been given up. If there is none at all, the next is still to come: the writer links
//! the successor before it ends a channel, so this is so only between two writers.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::cursor::{CursorError, NamedCursor};
use super::error::JournalReadError;
use super::lock::WriterLock;
use super::names::{self, channel_path};
use super::times::{self, Began};
use crate::channel::{Channel, EndPoint};
use crate::error::{OpenError, ReadError, SeekError};
use crate::mapping::Mapping;
use crate::open::ReadOptions;
use crate::reader::{End, Reader};
use crate::record::Record;
use crate::seek::Start;
use crate::sys::file;
use crate::wait::{Next, Wait, Waiting};

/// Mapped bytes of channels that have been read, which are kept for channels that will be written in the same files.
const KEEP_MAPPED: u64 = 256 << 20;
/// However large they are, so many are kept.
const KEEP_LEAST: usize = 2;
/// Attempts to find the next channel between two looks at the directory.
const MISSES_PER_LISTING: u32 = 256;
/// The longest time between two looks at the directory, for those who poll seldom.
const LISTING_INTERVAL: Duration = Duration::from_millis(100);

/// Reads a journal from some place on, across its channels, and waits for more if it is asked to.
///
/// It lends its records: each lives until the next step. It never comes to an end: a journal whose writer has gone may be
/// written again, and then it goes on.
///
/// # Example: follow, from the fifth record on
///
/// ```
/// use kekbit::{Journal, Roll, Start, Wait};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("ticks");
/// let mut journal = Journal::options().roll(Roll::Bytes(4096)).open(&path)?;
/// let mut reader = Journal::reader(&path)?;
/// for number in 0..1000_u32 {
///     journal.append(&number.to_le_bytes())?;
/// }
/// reader.seek(Start::Sequence(5))?;
/// for number in 5..1000_u32 {
///     let record = reader.next(Wait::backoff())?.expect("it waits");
///     assert_eq!(&record[..], number.to_le_bytes());
/// }
/// assert!(reader.try_next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct JournalReader {
    directory: PathBuf,
    options: ReadOptions,
    /// In the channel that is being read.
    reader: Option<Reader>,
    /// Sequence of the first record of the channel that is to be read next, if there is no reader; `None`: it is not known yet.
    next: Option<u64>,
    /// What is to be passed over before the first record, in whichever channel.
    start: Start,
    durable: bool,
    misses: u32,
    listed: Option<Instant>,
    mappings: VecDeque<Mapping>,
}

impl JournalReader {
    pub(crate) fn open(path: &Path, options: ReadOptions) -> Result<JournalReader, JournalReadError> {
        let reader = JournalReader {
            directory: path.to_owned(),
            options,
            reader: None,
            next: None,
            start: Start::Beginning,
            durable: false,
            misses: 0,
            listed: None,
            mappings: VecDeque::new(),
        };
        reader.list()?;
        Ok(reader)
    }

    /// Sets whether this reader stops at the synced tail, as [`Reader::set_durable`].
    pub fn set_durable(&mut self, durable: bool) {
        self.durable = durable;
        if let Some(reader) = &mut self.reader {
            reader.set_durable(durable);
        }
    }

    /// The next record, if it is there. Never blocks. `None` is "nothing yet".
    ///
    /// # Errors
    ///
    /// [`JournalReadError::Lagged`] if it has been given up: [`JournalReader::seek`] then finds what is left. See
    /// [`JournalReadError`].
    #[inline(always)]
    pub fn try_next(&mut self) -> Result<Option<Record<'_>>, JournalReadError> {
        if self.advance()? { Ok(Some(self.current())) } else { Ok(None) }
    }

    /// The next record; waits for it as `wait` says. `None` if that gave up.
    ///
    /// # Errors
    ///
    /// As [`JournalReader::try_next`].
    #[inline]
    pub fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, JournalReadError> {
        if self.advance()? || self.wait_for_record(wait)? { Ok(Some(self.current())) } else { Ok(None) }
    }

    /// Goes on from `start`. A sequence that is not there yet is waited for. [`Start::Position`] is none of a journal's, since
    /// positions are those of one channel.
    ///
    /// # Errors
    ///
    /// [`JournalReadError::Lagged`] if the record of that sequence has been given up. See [`JournalReadError`].
    pub fn seek(&mut self, start: Start) -> Result<(), JournalReadError> {
        if let Start::Position(position) = start {
            let source = SeekError::NotARecord { position };
            return Err(JournalReadError::Seek { path: self.directory.clone(), source });
        }
        self.leave();
        (self.next, self.start, self.misses) = (None, start, 0);
        if !self.find_start()? && matches!(start, Start::End | Start::Last(_)) {
            // There is nothing, so that everything comes behind it.
            self.start = Start::Beginning;
        }
        Ok(())
    }

    /// Sequence of the next record. From [`Start::Time`] on, before a record has been found, that is the first that may be it; of
    /// an empty journal 0, or the one that was asked for.
    pub fn sequence(&self) -> u64 {
        let next = self.reader.as_ref().map(Reader::sequence).or(self.next).unwrap_or(0);
        match self.start {
            Start::Sequence(wanted) => next.max(wanted),
            _ => next,
        }
    }

    /// Takes this reader's place for that of a cursor with a name; if there is such a cursor, goes on where that has committed. It is
    /// created in the directory of the journal, which must allow that.
    ///
    /// # Errors
    ///
    /// See [`CursorError`].
    pub fn cursor(self, name: &str) -> Result<NamedCursor, CursorError> {
        NamedCursor::new(self, name)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The sequence of the next record; reads it, if it is there.
    pub(crate) fn resolve(&mut self) -> Result<u64, JournalReadError> {
        // A time is found by looking at records.
        Ok(match self.try_next()? {
            Some(record) => record.sequence(),
            None => self.sequence(),
        })
    }

    /// The channel that is being read, if any.
    pub fn channel(&self) -> Option<&Channel> {
        self.reader.as_ref().map(Reader::channel)
    }

    /// Sequence of the oldest record that is there, or of the next if there is none; `None` if there is no channel.
    ///
    /// # Errors
    ///
    /// See [`JournalReadError`].
    pub fn oldest_sequence(&self) -> Result<Option<u64>, JournalReadError> {
        for first in self.list()? {
            if self.look_at(first)?.is_some() {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    /// Where the journal ends at the moment, and how its last channel stands; `None` if there is none. Looks at the index of that
    /// channel, and walks from its last entry.
    ///
    /// # Errors
    ///
    /// See [`JournalReadError`].
    pub fn end_point(&self) -> Result<Option<EndPoint>, JournalReadError> {
        for first in self.list()?.into_iter().rev() {
            if let Some(channel) = self.look_at(first)? {
                let path = channel_path(&self.directory, first);
                return channel
                    .end_point()
                    .map(Some)
                    .map_err(|source| JournalReadError::Read { path, source });
            }
        }
        Ok(None)
    }

    /// The channel that begins with `first`, to be looked at here and there; as [`JournalReader::open_named`] otherwise.
    fn look_at(&self, first: u64) -> Result<Option<Channel>, JournalReadError> {
        let path = channel_path(&self.directory, first);
        named(self.options.clone().random_access(true).open(path), first)
    }

    /// Asks the kernel whether somebody writes the journal. A system call.
    ///
    /// # Errors
    ///
    /// If the file system does not support the question.
    pub fn writer_lives(&self) -> Result<bool, JournalReadError> {
        WriterLock::is_taken(&self.directory).map_err(|source| self.io("ask for the writer of", source))
    }

    #[inline(always)]
    fn advance(&mut self) -> Result<bool, JournalReadError> {
        match self.reader.as_mut().map(Reader::advance) {
            Some(Ok(true)) => Ok(true),
            Some(Ok(false)) if self.reader.as_ref().is_some_and(|reader| reader.end().is_none()) => Ok(false),
            Some(Err(source)) => Err(self.read_error(source)),
            _ => self.go_on(),
        }
    }

    #[inline]
    fn current(&self) -> Record<'_> {
        self.reader.as_ref().expect("a record was found by it").current()
    }

    #[cold]
    #[inline(never)]
    fn wait_for_record(&mut self, wait: Wait<'_>) -> Result<bool, JournalReadError> {
        let mut waiting = Waiting::new(wait);
        loop {
            let next = waiting.pause();
            // Look first, so that giving up never misses what is there.
            if self.advance()? {
                return Ok(true);
            }
            match next {
                Next::Poll => {}
                Next::Check => self.check()?,
                Next::GiveUp => return Ok(false),
            }
        }
    }

    /// If there is nothing to read: sees whether the channel that is being read is still the journal's. After a crash of the machine
    /// the next writer sets aside what does not follow.
    fn check(&mut self) -> Result<(), JournalReadError> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let channel = reader.channel();
        let is_named = match file::open(channel.path(), false) {
            Ok(file) => channel.is_file(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        if !is_named.map_err(|source| self.io("look up a channel of", source))? {
            // What comes next is wherever that sequence is.
            let next = self.sequence();
            self.leave();
            (self.next, self.start) = (None, Start::Sequence(next));
        }
        Ok(())
    }

    /// Goes on where the channel that was being read ends, or begins.
    #[cold]
    #[inline(never)]
    fn go_on(&mut self) -> Result<bool, JournalReadError> {
        loop {
            if let Some(reader) = &mut self.reader {
                let path = reader.channel().path().to_owned();
                match reader.advance() {
                    Ok(true) => {
                        self.start = Start::Beginning;
                        return Ok(true);
                    }
                    Ok(false) => match reader.end() {
                        // Only a terminal leads on.
                        Some(End::Closed | End::Full | End::Abandoned) => {
                            // An empty channel is removed, and its name used again.
                            let empty = reader.sequence() == reader.channel().first_sequence();
                            self.leave();
                            if empty {
                                return Ok(false);
                            }
                        }
                        _ => return Ok(false),
                    },
                    Err(source) => return Err(JournalReadError::Read { path, source }),
                }
            }
            let found = match self.next {
                Some(next) => self.enter(next)?,
                None => self.find_start()?,
            };
            if !found {
                return Ok(false);
            }
        }
    }

    /// Leaves the channel that is being read; what comes next is the channel that begins where it is now.
    fn leave(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        self.next = Some(reader.sequence());
        self.misses = 0;
        if reader.has_begun() {
            self.start = Start::Beginning;
        }
        if let Some(mapping) = reader.into_mapping() {
            self.mappings.push_back(mapping);
            while self.mappings.len() > KEEP_LEAST
                && self.mappings.iter().map(Mapping::len).sum::<u64>() > KEEP_MAPPED
            {
                self.mappings.pop_front();
            }
        }
    }

    /// Opens the channel that begins with `first`; whether it is there.
    fn enter(&mut self, first: u64) -> Result<bool, JournalReadError> {
        let path = channel_path(&self.directory, first);
        match self.open_named(first)? {
            Some(channel) => {
                let start = match self.start {
                    Start::Sequence(sequence) if sequence < first => Start::Beginning,
                    start => start,
                };
                self.read(&channel, start)?;
                Ok(true)
            }
            // If later ones are there, it never will be.
            None => {
                self.misses += 1;
                // What is there under its name, half made, is the next writer's to see to.
                let is_time = self.listed.is_none_or(|listed| listed.elapsed() >= LISTING_INTERVAL);
                if (self.misses % MISSES_PER_LISTING == 1 || is_time) && !is_there(&path) {
                    self.listed = Some(Instant::now());
                    let oldest = self.oldest_behind(first)?;
                    // It may have come, and its successor, since it was looked for.
                    if let Some(oldest) = oldest.filter(|_| !is_there(&path)) {
                        // Whoever asks again is told again.
                        self.misses = 0;
                        return Err(JournalReadError::Lagged { wanted: first, oldest });
                    }
                }
                Ok(false)
            }
        }
    }

    /// The first sequence of the oldest channel that begins behind `first`.
    fn oldest_behind(&mut self, first: u64) -> Result<Option<u64>, JournalReadError> {
        for later in self.list()?.into_iter().filter(|later| *later > first) {
            if self.open_named(later)?.is_some() {
                return Ok(Some(later));
            }
        }
        Ok(None)
    }

    fn read(&mut self, channel: &Channel, start: Start) -> Result<(), JournalReadError> {
        let reader = channel.reader(start);
        let mut reader =
            reader.map_err(|source| JournalReadError::Seek { path: channel.path().to_owned(), source })?;
        reader.set_durable(self.durable);
        self.reader = Some(reader);
        self.misses = 0;
        Ok(())
    }

    /// The channel that begins with `first`, if there is one. What has such a name but says something else is none.
    fn open_named(&mut self, first: u64) -> Result<Option<Channel>, JournalReadError> {
        let path = channel_path(&self.directory, first);
        let mut mapping = path.symlink_metadata().ok().and_then(|metadata| self.take_mapping(&metadata));
        let opened = self.options.clone().open_mapped(&path, &mut mapping);
        self.mappings.extend(mapping);
        named(opened, first)
    }

    fn take_mapping(&mut self, metadata: &Metadata) -> Option<Mapping> {
        let at = self.mappings.iter().position(|mapping| mapping.is_of(metadata))?;
        self.mappings.remove(at)
    }

    /// Finds the channel in which `start` lies; whether there is one.
    fn find_start(&mut self) -> Result<bool, JournalReadError> {
        let mut names = self.list()?;
        // What was found by counting back from the end is not asked for by its number.
        let mut counted = false;
        loop {
            let (Some(oldest), Some(newest)) = (names.first().copied(), names.last().copied()) else {
                return Ok(false);
            };
            let first = match self.start {
                Start::Sequence(wanted) if wanted < oldest && counted => oldest,
                Start::Sequence(wanted) if wanted < oldest => {
                    return Err(JournalReadError::Lagged { wanted, oldest });
                }
                Start::Sequence(wanted) => names[names.partition_point(|first| *first <= wanted) - 1],
                Start::Time(time) => {
                    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
                    self.last_before(&names, nanos)?
                }
                Start::End | Start::Last(_) => newest,
                _ => oldest,
            };
            let path = channel_path(&self.directory, first);
            let Some(channel) = self.open_named(first)? else {
                // It is none of the journal's, or it has been given up since, and then others may have come.
                if is_there(&path) {
                    names.retain(|name| *name != first);
                } else {
                    names = self.list()?;
                }
                continue;
            };
            if let Start::Last(count) = self.start {
                // How many there are is known when it is known where the last channel ends.
                let end = channel.end_point();
                let end = end.map_err(|source| JournalReadError::Read { path, source })?.sequence;
                self.start = Start::Sequence(end.saturating_sub(count).max(oldest));
                counted = true;
                continue;
            }
            self.next = Some(first);
            let start = match self.start {
                Start::Sequence(wanted) if wanted < first => Start::Beginning,
                start => start,
            };
            self.read(&channel, start)?;
            if self.start == Start::End {
                // From here on everything counts.
                self.start = Start::Beginning;
            }
            return Ok(true);
        }
    }

    /// The last of the channels that began before `nanos`, or the first of all.
    fn last_before(&self, names: &[u64], nanos: u64) -> Result<u64, JournalReadError> {
        // What the file of times says is believed as far as the headers say the same.
        let told = times::around(&self.directory, nanos).unwrap_or_default();
        let index = |began: Option<Began>| names.binary_search(&began?.first).ok();
        let (mut low, mut high) = (index(told.0).unwrap_or(0), index(told.1).unwrap_or(names.len()));
        let is_before = |first: u64| Ok::<_, JournalReadError>(self.began(first)?.unwrap_or(0) < nanos);
        if low >= high || (low > 0 && !is_before(names[low])?) {
            low = 0;
        }
        if high < names.len() && (high <= low || is_before(names[high])?) {
            high = names.len();
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            // What cannot be read is taken for one that is too old: whoever looks into it will see.
            if is_before(names[middle])? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(names[low])
    }

    /// When the channel that begins with `first` was created, in nanoseconds since the Unix epoch.
    fn began(&self, first: u64) -> Result<Option<u64>, JournalReadError> {
        let path = channel_path(&self.directory, first);
        match names::read_header(&path) {
            Ok(header) => Ok(Some(header.created)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Ok(None)
            }
            Err(source) => Err(JournalReadError::Io { action: "read", path, source }),
        }
    }

    fn list(&self) -> Result<Vec<u64>, JournalReadError> {
        names::list(&self.directory).map_err(|source| self.io("list", source))
    }

    fn io(&self, action: &'static str, source: io::Error) -> JournalReadError {
        JournalReadError::Io { action, path: self.directory.clone(), source }
    }

    fn read_error(&self, source: ReadError) -> JournalReadError {
        let path = self.channel().map_or(&*self.directory, Channel::path).to_owned();
        JournalReadError::Read { path, source }
    }
}

/// What was opened under the name of the channel that begins with `first`, if it is that.
fn named(opened: Result<Channel, OpenError>, first: u64) -> Result<Option<Channel>, JournalReadError> {
    match opened {
        Ok(channel) => Ok(Some(channel).filter(|channel| channel.first_sequence() == first)),
        // What is just being reused has been given up.
        Err(error) if is_none(&error) => Ok(None),
        Err(error) => Err(JournalReadError::Open(error)),
    }
}

/// Whether what could not be opened is no channel: none any more, or never one.
fn is_none(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::NotFound { .. }
            | OpenError::NotAFile { .. }
            | OpenError::Format { .. }
            | OpenError::Reused { .. }
    )
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
