//! Reading a journal: channel after channel, as if they were one.
//!
//! Whoever is at the terminal of a channel goes on in the one that is named by the next sequence. If that is not there but a
//! later one is, what was to be read has been given up. If there is none at all, the next is still to come: the writer links
//! the successor before it ends a channel, so this is so only between two writers.
//!
//! Backwards it is the other way round: whoever is at the first record of a channel goes on in the one with the greatest name before,
//! which must end there. If there is none, this is the oldest record, unless there were older ones when reading began.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::cursor::{CursorError, NamedCursor};
use super::error::JournalReadError;
use super::lock::WriterLock;
use super::names::{self, channel_path};
use super::times::{self, Began};
use crate::channel::{Channel, EndPoint};
use crate::error::{OpenError, ReadError, SeekError};
use crate::layout::entry::Mark;
use crate::mapping::Mapping;
use crate::metadata::Metadata;
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
/// However small they are, no more are kept: each process can have so many mappings only.
const KEEP_MOST: usize = 64;
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
    /// Sequence of the oldest record when the directory was first listed since reading began where it began last.
    oldest: Option<u64>,
    /// The channels that begin before this record, as they were listed when that was gone back from.
    before: (u64, Vec<u64>),
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
            oldest: None,
            before: (0, Vec::new()),
            mappings: VecDeque::new(),
        };
        // Whether it can be listed; there may be many.
        fs::read_dir(path).map_err(|source| reader.io("list", source))?;
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

    /// The record before this place, and moves back before it: [`JournalReader::try_next`] then returns the same record again. `None`
    /// at the oldest record that is there. Never waits.
    ///
    /// Within a channel as [`Reader::try_previous`]; to the channel before it goes by its name, and lists the directory once.
    ///
    /// # Errors
    ///
    /// [`JournalReadError::Lagged`] if records before this place have been given up since this reader first looked at what there is (when
    /// it went back into another channel, or sought the end), or if a channel is missing: what it names is the oldest record that can
    /// be read on from. See [`JournalReadError`]. The reader
    /// stays where it is.
    ///
    /// # Example: the newest first
    ///
    /// ```
    /// use kekbit::{Journal, Roll, Start};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("ticks");
    /// let mut journal = Journal::options().roll(Roll::Bytes(4096)).open(&path)?;
    /// for number in 0..1000_u32 {
    ///     journal.append(&number.to_le_bytes())?;
    /// }
    /// let mut reader = Journal::reader(&path)?;
    /// reader.seek(Start::End)?;
    /// for number in (0..1000_u32).rev() {
    ///     assert_eq!(reader.try_previous()?.as_deref(), Some(&number.to_le_bytes()[..]));
    /// }
    /// assert!(reader.try_previous()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_previous(&mut self) -> Result<Option<Record<'_>>, JournalReadError> {
        if self.go_back()? {
            Ok(Some(self.reader.as_ref().expect("a record was found by it").current_back()))
        } else {
            Ok(None)
        }
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
        (self.oldest, self.before) = (None, (0, Vec::new()));
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

    /// What the writer said of the channel that is being read, if any. After a roll that is another one.
    pub fn metadata(&self) -> Option<Metadata<'_>> {
        self.channel().map(Channel::metadata)
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
        let found = self.first_that_is_there(|names| names)?;
        Ok(found.map(|channel| channel.first_sequence()))
    }

    /// Where the journal ends at the moment, and how its last channel stands; `None` if there is none. Looks at the index of that
    /// channel, and walks from its last entry.
    ///
    /// # Errors
    ///
    /// See [`JournalReadError`].
    pub fn end_point(&self) -> Result<Option<EndPoint>, JournalReadError> {
        let found = self.first_that_is_there(|mut names| {
            names.reverse();
            names
        })?;
        let Some(channel) = found else { return Ok(None) };
        let path = channel.path().to_owned();
        channel.end_point().map(Some).map_err(|source| JournalReadError::Read { path, source })
    }

    /// The first channel that there is, in the order that `order` gives their names; `None` if there is none.
    fn first_that_is_there(
        &self,
        order: impl Fn(Vec<u64>) -> Vec<u64>,
    ) -> Result<Option<Channel>, JournalReadError> {
        loop {
            let names = order(self.list()?);
            for first in &names {
                if let Some(channel) = self.look_at(*first)? {
                    return Ok(Some(channel));
                }
            }
            // If one has gone since they were listed, others have come.
            if names.iter().all(|first| is_there(&channel_path(&self.directory, *first))) {
                return Ok(None);
            }
        }
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
                Next::Check if self.check()? => return Ok(true),
                Next::Check => {}
                Next::GiveUp => return Ok(false),
            }
        }
    }

    /// If there is nothing to read: sees whether the channel that is being read is still the journal's, and whether somebody will see to its
    /// end. After a crash of the machine the next writer sets aside what does not follow. Returns whether something has come meanwhile.
    fn check(&mut self) -> Result<bool, JournalReadError> {
        let Some(reader) = &self.reader else { return Ok(false) };
        let (wanted, channel) = (reader.sequence(), reader.channel());
        let first = channel.first_sequence();
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
        } else if !channel.writer_lives().map_err(|source| self.read_error(source))? {
            // It may have come to its end, and others behind it, since it was looked at.
            if self.advance()? {
                return Ok(true);
            }
            if self.reader.as_ref().is_some_and(|reader| reader.channel().first_sequence() == first) {
                self.is_lost(wanted, first)?;
            }
        }
        Ok(false)
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
                        Some(End::Torn) => {
                            let (wanted, first) = (reader.sequence(), reader.channel().first_sequence());
                            return self.is_lost(wanted, first);
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

    /// Takes the record before this place, if there is one, and moves before it.
    fn go_back(&mut self) -> Result<bool, JournalReadError> {
        if self.is_before_start() && self.advance()? {
            // The record from which reading was to begin; now the place is before it.
            self.go_back_within()?;
        }
        loop {
            if self.go_back_within()? {
                self.start = Start::Beginning;
                return Ok(true);
            }
            let end = match (&self.reader, self.next) {
                (Some(reader), _) => reader.channel().first_sequence(),
                (None, Some(next)) => next,
                (None, None) => return Ok(false),
            };
            if !self.enter_before(end)? {
                return Ok(false);
            }
        }
    }

    /// The same in the channel that is being read.
    fn go_back_within(&mut self) -> Result<bool, JournalReadError> {
        match self.reader.as_mut().map(Reader::go_back) {
            None => Ok(false),
            Some(Ok(moved)) => Ok(moved),
            Some(Err(source)) => Err(self.read_error(source)),
        }
    }

    /// Whether the place where reading is to begin has still to be found.
    fn is_before_start(&self) -> bool {
        self.reader
            .as_ref()
            .map_or(self.start != Start::Beginning || self.next.is_none(), |reader| !reader.has_begun())
    }

    /// Goes to the place before the record `end` in the channel in which the record before lies; whether there is one.
    fn enter_before(&mut self, end: u64) -> Result<bool, JournalReadError> {
        loop {
            if end > self.before.0 {
                self.before = (end, self.list()?);
                self.oldest = self.oldest.or(self.before.1.first().copied());
            }
            let names = &self.before.1;
            let Some(at) = names.partition_point(|first| *first < end).checked_sub(1) else {
                return self.nothing_before(end);
            };
            let first = names[at];
            let Some(channel) = self.open_named(first)? else {
                if is_there(&channel_path(&self.directory, first)) {
                    // It is none of the journal's.
                    self.before.1.remove(at);
                } else {
                    // Others may have gone too.
                    self.before.0 = 0;
                }
                continue;
            };
            return self.read_back(&channel, end).map(|()| true);
        }
    }

    /// Reads on in `channel`, from before the record `end`: backwards.
    fn read_back(&mut self, channel: &Channel, end: u64) -> Result<(), JournalReadError> {
        let path = channel.path();
        let mut reader = channel.reader(Start::End).map_err(|error| seek_error(path, error))?;
        if reader.sequence() > end {
            // It was another that was left here.
            reader = channel.reader(Start::Sequence(end)).map_err(|error| seek_error(path, error))?;
        } else if reader.sequence() < end {
            // There is a hole.
            return Err(JournalReadError::Lagged { wanted: end - 1, oldest: end });
        }
        reader.set_durable(self.durable);
        self.leave();
        self.reader = Some(reader);
        Ok(())
    }

    /// There is no channel before the record `end`.
    fn nothing_before(&mut self, end: u64) -> Result<bool, JournalReadError> {
        self.before.0 = 0;
        // What is still there under the name of the oldest was none of the journal's.
        let has_gone = |oldest: u64| oldest < end && !is_there(&channel_path(&self.directory, oldest));
        if !self.oldest.is_some_and(has_gone) {
            return Ok(false);
        }
        let oldest = self.oldest_behind(end.saturating_sub(1))?.unwrap_or(end);
        Err(JournalReadError::Lagged { wanted: end - 1, oldest })
    }

    /// Looks now and then whether the channel that begins with `first`, which has no end, is one that the next writer will not see to, since a later one
    /// vouches for it: then what was behind `wanted` is lost. Otherwise that is still to come.
    fn is_lost(&mut self, wanted: u64, first: u64) -> Result<bool, JournalReadError> {
        if !self.is_time_to_list() {
            return Ok(false);
        }
        let mut later = self.list()?;
        later.retain(|later| *later > first);
        for newest in later.iter().rev() {
            let Some(channel) = self.look_at(*newest)? else { continue };
            let vouches = |end: EndPoint| end.sealed && channel.synced_slot() > end.position.offset();
            if channel.end_point().is_ok_and(vouches)
                && let Some(oldest) = self.oldest_behind(first)?
            {
                self.misses = 0;
                return Err(JournalReadError::Lagged { wanted, oldest });
            }
        }
        Ok(false)
    }

    /// Whether the directory is to be listed again, by one who has not found what comes next.
    fn is_time_to_list(&mut self) -> bool {
        self.misses += 1;
        let is_time = self.misses % MISSES_PER_LISTING == 1
            || self.listed.is_none_or(|listed| listed.elapsed() >= LISTING_INTERVAL);
        if is_time {
            self.listed = Some(Instant::now());
        }
        is_time
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
            let mapped = |mappings: &VecDeque<Mapping>| mappings.iter().map(Mapping::len).sum::<u64>();
            while self.mappings.len() > KEEP_MOST
                || (self.mappings.len() > KEEP_LEAST && mapped(&self.mappings) > KEEP_MAPPED)
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
                // What is there under its name, half made, is the next writer's to see to.
                if self.is_time_to_list() && !is_there(&path) {
                    let oldest = self.oldest_behind(first)?;
                    // It may have come, and its successor, since it was looked for.
                    if let Some(oldest) = oldest.filter(|_| !is_there(&path)) {
                        // Whoever asks again is told again.
                        self.misses = 0;
                        let wanted = self.sequence();
                        if wanted < oldest {
                            return Err(JournalReadError::Lagged { wanted, oldest });
                        }
                        // What has gone would have been passed over.
                        (self.next, self.start) = (None, Start::Sequence(wanted));
                        return self.find_start();
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
        let mut reader = channel.reader(start).map_err(|error| seek_error(channel.path(), error))?;
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

    fn take_mapping(&mut self, metadata: &fs::Metadata) -> Option<Mapping> {
        let at = self.mappings.iter().position(|mapping| mapping.is_of(metadata))?;
        self.mappings.remove(at)
    }

    /// Finds the channel in which `start` lies; whether there is one.
    fn find_start(&mut self) -> Result<bool, JournalReadError> {
        if let Some(channel) = self.find_told()? {
            return self.begin_in(&channel);
        }
        let mut names = self.list()?;
        // What was found by counting back from the end is not asked for by its number.
        let mut counted = false;
        loop {
            let (Some(oldest), Some(newest)) = (names.first().copied(), names.last().copied()) else {
                return Ok(false);
            };
            self.oldest.get_or_insert(oldest);
            let first = match self.start {
                Start::Sequence(wanted) if wanted < oldest && counted => oldest,
                Start::Sequence(wanted) if wanted < oldest => {
                    return Err(JournalReadError::Lagged { wanted, oldest });
                }
                Start::Sequence(wanted) => names[names.partition_point(|first| *first <= wanted) - 1],
                Start::Time(time) => self.last_before(&names, nanos_of(time))?,
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
            return self.begin_in(&channel);
        }
    }

    /// Begins in the channel in which `start` lies.
    fn begin_in(&mut self, channel: &Channel) -> Result<bool, JournalReadError> {
        let first = channel.first_sequence();
        self.next = Some(first);
        let start = match self.start {
            Start::Sequence(wanted) if wanted < first => Start::Beginning,
            start => start,
        };
        self.read(channel, start)?;
        if self.start == Start::End {
            // From here on everything counts.
            self.start = Start::Beginning;
        }
        Ok(true)
    }

    /// The channel in which `start` lies, if that is a sequence or a time and the file of times tells of it; as far as what is there says
    /// the same, so that the directory need not be listed.
    fn find_told(&mut self) -> Result<Option<Channel>, JournalReadError> {
        let told = match self.start {
            Start::Sequence(wanted) => times::around(&self.directory, |began| began.first <= wanted),
            Start::Time(time) => {
                let nanos = nanos_of(time);
                times::around(&self.directory, |began| began.created < nanos)
            }
            _ => None,
        };
        let Some((Some(began), behind)) = told else { return Ok(None) };
        let Some(channel) = self.open_named(began.first)? else { return Ok(None) };
        if channel.created_nanos() != began.created {
            return Ok(None);
        }
        // What follows, if it has ended.
        let last = channel.last_entry(|_| true);
        let next = (last.mark == Mark::Terminal).then_some(last.sequence);
        let is_it = match (self.start, next) {
            (Start::Sequence(wanted), Some(next)) => wanted < next,
            // Behind what a dead writer has left there may be others, with a hole before them.
            (Start::Sequence(wanted), None) => {
                behind.is_none()
                    && (wanted < last.sequence
                        || channel.writer_lives().map_err(|source| self.read_error(source))?)
            }
            (_, None) => behind.is_none(),
            // Nothing that begins behind it is earlier.
            (_, Some(next)) => match behind.and(self.began(next)?) {
                Some(began) => matches!(self.start, Start::Time(time) if began >= nanos_of(time)),
                // Nothing follows, or it was empty and has gone.
                None => !is_there(&channel_path(&self.directory, next)),
            },
        };
        Ok(Some(channel).filter(|_| is_it))
    }

    /// The last of the channels that began before `nanos`, or the first of all.
    fn last_before(&self, names: &[u64], nanos: u64) -> Result<u64, JournalReadError> {
        // What the file of times says is believed as far as the headers say the same.
        let told = times::around(&self.directory, |began| began.created < nanos).unwrap_or_default();
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

fn seek_error(path: &Path, source: SeekError) -> JournalReadError {
    let path = path.to_owned();
    match source {
        SeekError::Read(source) => JournalReadError::Read { path, source },
        source => JournalReadError::Seek { path, source },
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

/// Since the Unix epoch; before it, and later than can be told, the nearest that can.
fn nanos_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
