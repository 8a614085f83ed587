//! A reader of its own: follows a channel while it is written.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::Position;
use crate::channel::Channel;
use crate::cursor::Step;
use crate::error::{FormatError, OpenError, ReadError, SeekError};
use crate::follow::Following;
use crate::layout::frame::Kind;
use crate::mapping::Mapping;
use crate::memory::map::OwnedView;
use crate::metadata::Metadata;
use crate::open::ReadOptions;
use crate::publish::Window;
use crate::record::Record;
use crate::seek::Start;
use crate::wait::{Next, Wait, Waiting};

/// Why there is nothing more to read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum End {
    /// The writer has closed the channel.
    Closed,
    /// A record no longer fitted.
    Full,
    /// The writer is dead. Everything that it appended has been read; if the machine has crashed, everything that was
    /// synced and perhaps more.
    Abandoned,
    /// The machine has crashed, and what follows is damaged or lost.
    Torn,
    /// No sign of life for as long as the channel's timeout says. An opinion of this reader, which it takes back when a
    /// record comes after all.
    TimedOut,
    /// The writer is dead, and what it appended last was never synced: a reader that stops at the synced tail (see
    /// [`Reader::set_durable`]) does not come any farther, unless somebody seals the channel.
    Unsynced,
}

impl End {
    /// The end that a step of a cursor has found, if it has found one.
    pub(crate) fn of(step: Step) -> Option<End> {
        match step {
            Step::Record | Step::Nothing | Step::Unsynced => None,
            Step::End(Kind::Closed) => Some(End::Closed),
            Step::End(Kind::Full) => Some(End::Full),
            Step::End(_) => Some(End::Abandoned),
            Step::Torn => Some(End::Torn),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            End::Closed => "closed",
            End::Full => "full",
            End::Abandoned => "abandoned",
            End::Torn => "torn",
            End::TimedOut => "timed out",
            End::Unsynced => "unsynced",
        })
    }
}

/// Reads a channel from some place on, record by record, and waits for more if it is asked to.
///
/// It lends its records: each lives until the next step. It can be sent to another thread, and keeps the channel open.
///
/// # Concurrency
///
/// Any number of readers read at once, in all threads and processes. They do not disturb the writer, and may be as far
/// behind as they like: what was appended never changes.
///
/// # Example: follow until the end
///
/// ```
/// use kekbit::{Channel, End, Start, Wait, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("live.kek");
/// let mut writer = Writer::create(&path)?;
/// let mut reader = Channel::open(&path)?.reader(Start::Beginning)?;
/// let counting = std::thread::spawn(move || -> Result<(usize, Option<End>), kekbit::ReadError> {
///     let mut count = 0;
///     while let Some(record) = reader.next(Wait::backoff())? {
///         count += record.len();
///     }
///     Ok((count, reader.end()))
/// });
/// writer.append(b"seven c")?;
/// writer.close()?;
/// assert_eq!(counting.join().unwrap()?, (7, Some(End::Closed)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    following: Following<Window<OwnedView>, Channel>,
}

impl Reader {
    pub(crate) fn new(channel: Channel, start: Start) -> Result<Reader, SeekError> {
        let cursor = channel.owned_cursor();
        let mut following = Following::new(channel, cursor);
        following.seek(start)?;
        Ok(Reader { following })
    }

    /// A reader before the first record; finding that takes nothing that can fail.
    pub(crate) fn at_beginning(channel: Channel) -> Reader {
        let cursor = channel.owned_cursor();
        let mut following = Following::new(channel, cursor);
        following.cursor.set_limit(0);
        Reader { following }
    }

    /// A reader behind the last record.
    pub(crate) fn at_end(channel: Channel) -> Result<Reader, ReadError> {
        let mut reader = Reader::at_beginning(channel);
        reader.following.seek_end()?;
        Ok(reader)
    }

    /// The next record, if it is there. Never blocks, and makes no system call while records are there but two
    /// for some hundred kilobytes of them: one that maps what comes next, one that asks how far the file has grown.
    ///
    /// `None` is "nothing yet" as long as [`Reader::end`] is `None`. A dead writer is not noticed by this, since that
    /// takes a system call; ask [`Reader::check_end`] now and then.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]. After [`ReadError::Corrupt`] and [`ReadError::Undecodable`] the reader does not move on.
    #[inline(always)]
    pub fn try_next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        self.following.try_next()
    }

    /// The next record; waits for it as `wait` says. While waiting it asks now and then whether the writer lives, so that
    /// a dead one is noticed by itself.
    ///
    /// `None` means that the channel has ended, or timed out, which [`Reader::end`] then tells, or that `wait` gave up,
    /// and then `end` is `None`.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_next`].
    #[inline]
    pub fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, ReadError> {
        self.following.next(wait)
    }

    /// The record before this place, and moves back before it: [`Reader::try_next`] then returns the same record again. `None` at the
    /// first record of the channel. Never blocks.
    ///
    /// Frames do not tell where the one before begins: this walks forward from the last entry of the index before this place, once
    /// for each block of it (1 MiB, or 64 KiB near the end of a channel that is being written), and notes where the records begin. So
    /// going back takes two to three times as long as going on, with records of a few bytes five times, and at most 1 MiB of memory.
    /// Damaged or missing entries make the way longer.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]: where [`Start::Sequence`] and the step behind it would fail to find that record. The reader then stays where
    /// it is.
    ///
    /// # Example: the last word
    ///
    /// ```
    /// use kekbit::{Channel, Start, Writer};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("prices.kek");
    /// let mut writer = Writer::create(&path)?;
    /// for price in ["AAPL 187", "MSFT 402", "AAPL 188", "MSFT 401"] {
    ///     writer.append(price.as_bytes())?;
    /// }
    /// let mut reader = Channel::open(&path)?.reader(Start::End)?;
    /// while let Some(record) = reader.try_previous()? {
    ///     if record.starts_with(b"AAPL") {
    ///         assert_eq!(&record[..], b"AAPL 188");
    ///         break;
    ///     }
    /// }
    /// // From there on, forwards.
    /// assert_eq!(reader.try_next()?.as_deref(), Some(&b"AAPL 188"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_previous(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        self.following.try_previous()
    }

    /// How the channel has ended, as far as this reader has seen; `None` while it may go on.
    ///
    /// Closed, full and torn are seen by the poll that reaches them, a dead writer and a timeout by
    /// [`Reader::check_end`] and by waiting.
    pub fn end(&self) -> Option<End> {
        self.following.end()
    }

    /// If there is nothing to read: asks the kernel whether the writer lives, and the clock how long there has been no
    /// sign of life. A few hundred nanoseconds, so not for every idle poll.
    ///
    /// # Errors
    ///
    /// As [`Reader::try_next`], and if the file system does not answer.
    pub fn check_end(&mut self) -> Result<Option<End>, ReadError> {
        self.following.check_end()
    }

    /// Sets how long this reader waits for a sign of life; `None` is for ever. Default: what the channel says.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.following.timeout = timeout;
    }

    /// Sets whether this reader stops at the synced tail ([`Channel::synced_tail`]), so that every record that it lends
    /// survives a crash of the machine, on a file system on storage. Default: off.
    ///
    /// What lies past it is "nothing yet", until a sync has reached it; with a writer that died without one it is
    /// [`End::Unsynced`]. Of what was written in another boot everything counts as synced, since it has come from the
    /// disk; of a copy, what its slots say.
    ///
    /// Reading costs a load more for each sync.
    ///
    /// # Example: act only upon what cannot be lost
    ///
    /// ```
    /// use kekbit::{Channel, Start, Writer};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("orders.kek");
    /// let mut writer = Writer::create(&path)?;
    /// let mut reader = Channel::open(&path)?.reader(Start::Beginning)?;
    /// reader.set_durable(true);
    /// writer.append(b"buy 10")?;
    /// assert!(reader.try_next()?.is_none());
    /// writer.sync()?;
    /// assert_eq!(reader.try_next()?.as_deref(), Some(&b"buy 10"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_durable(&mut self, durable: bool) {
        self.following.cursor.set_durable(durable);
    }

    /// Makes the next `bytes` bytes of the channel present in this process at once, as far as its file has them by now, so
    /// that reading them does not wait for the kernel: about 0.3 µs for each 4 KiB. By itself a reader prepares 256 KiB
    /// whenever it comes to what is not prepared, some 20 µs. Does nothing for a channel that was opened for [random access](crate::ReadOptions::random_access).
    ///
    /// # Example: be ready for a burst
    ///
    /// ```
    /// use kekbit::{Channel, Prepare, Start, Writer};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("ticks.kek");
    /// let mut writer = Writer::options().capacity(16 << 20).prepare(Prepare::All).create(&path)?;
    /// let mut reader = Channel::open(&path)?.reader(Start::Beginning)?;
    /// reader.prepare(16 << 20);
    /// writer.append(b"buy 10")?;
    /// assert_eq!(reader.try_next()?.as_deref(), Some(&b"buy 10"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prepare(&mut self, bytes: u64) {
        self.following.prepare_ahead(bytes);
    }

    /// Gives the channel up, but keeps its file mapped in this process, as [`Channel::into_mapping`]. `None` if a clone of the
    /// channel, another reader or a shared record of it is left.
    pub fn into_mapping(self) -> Option<Mapping> {
        let Following { source, cursor, .. } = self.following;
        drop(cursor);
        source.into_mapping()
    }

    /// Takes the next record, if it is there: it is then the current one.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> Result<bool, ReadError> {
        self.following.advance()
    }

    /// The record that was taken last.
    #[inline]
    pub(crate) fn current(&self) -> Record<'_> {
        self.following.current()
    }

    /// Takes the record before this place, if there is one: it is then the current one of [`Reader::current_back`].
    pub(crate) fn go_back(&mut self) -> Result<bool, ReadError> {
        self.following.go_back()
    }

    /// The record that was taken last, if that was by going back.
    #[inline]
    pub(crate) fn current_back(&self) -> Record<'_> {
        self.following.current_back()
    }

    /// Whether the place where reading was to begin has been found.
    pub(crate) fn has_begun(&self) -> bool {
        self.following.has_begun()
    }

    /// Position of the next record, or of the batch that it is part of.
    pub fn position(&self) -> Position {
        Position::new(self.following.cursor.position())
    }

    /// Sequence of the next record.
    pub fn sequence(&self) -> u64 {
        self.following.cursor.sequence()
    }

    /// What the writer said of the channel when it created it.
    pub fn metadata(&self) -> Metadata<'_> {
        self.channel().metadata()
    }

    /// The channel that this reader reads.
    pub fn channel(&self) -> &Channel {
        &self.following.source
    }
}

impl Channel {
    /// Opens the channel at `path`, waiting for it to appear. `None` if `wait` gave up.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; a channel that is not there is none, nor is a file of zero bytes, which somebody may be
    /// copying.
    ///
    /// # Example: start before the writer does
    ///
    /// ```
    /// use std::time::Duration;
    /// use kekbit::{Channel, Wait};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("later.kek");
    /// let wait = Wait::backoff().at_most(Duration::from_millis(5));
    /// assert!(Channel::wait_for(&path, wait)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for(path: impl AsRef<Path>, wait: Wait<'_>) -> Result<Option<Channel>, OpenError> {
        Channel::options().wait_for(path, wait)
    }
}

impl ReadOptions {
    /// Opens the channel at `path`, waiting for it to appear, as [`Channel::wait_for`]. `None` if `wait` gave up.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn wait_for(self, path: impl AsRef<Path>, wait: Wait<'_>) -> Result<Option<Channel>, OpenError> {
        let path = path.as_ref();
        let mut waiting = Waiting::new(wait);
        loop {
            match self.clone().open(path) {
                Ok(channel) => return Ok(Some(channel)),
                Err(OpenError::NotFound { .. }) => {}
                Err(OpenError::Format { source: FormatError::NotAChannel, .. }) if is_empty(path) => {}
                Err(error) => return Err(error),
            }
            if waiting.pause() == Next::GiveUp {
                return Ok(None);
            }
        }
    }
}

fn is_empty(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.len() == 0)
}
