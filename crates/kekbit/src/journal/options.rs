//! What can be chosen when a journal is opened for writing.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::Journal;
use super::cursor;
use super::error::JournalError;
use super::lock::WriterLock;
use super::names;
use super::period::Period;
use super::plan::Plan;
use super::recovery::{Recovered, recover, remove_temporaries};
use super::retention::{Retention, Segment};
use super::roller::Roller;
use super::settings::{self, JournalSettings};
use crate::handler::{Chain, Push};
use crate::layout::header::Header;
use crate::options::{Durability, WriterOptions};
use crate::pen::Successors;
use crate::seal::SealOptions;
use crate::syncs::Ended;
use crate::sys::file;
use crate::typed::{self, Codec};
use crate::wait::Wait;
use crate::writer::Writer;

/// When a journal begins its next channel. It does so too when a record no longer fits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Roll {
    /// When a channel has so many bytes: the capacity of each. Default: 256 MiB.
    Bytes(u64),
    /// With the first record behind such a boundary. Default: whenever.
    Every(Period),
}

/// Options of a journal; made by [`Journal::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open`"]
pub struct JournalOptions<C = ()> {
    channel: WriterOptions<C>,
    every: Option<Period>,
    retention: Retention,
    background: bool,
    patience: Duration,
    crashed: bool,
    /// Whether another type of records may begin.
    replaces_type: bool,
}

impl Default for JournalOptions {
    fn default() -> Self {
        JournalOptions {
            channel: WriterOptions::default().capacity(settings::ROLL_BYTES),
            every: None,
            retention: Retention::default(),
            background: true,
            patience: Duration::from_secs(2),
            crashed: false,
            replaces_type: false,
        }
    }
}

impl<C: Chain> JournalOptions<C> {
    /// When the next channel is begun. Sizes and times may be combined.
    pub fn roll(mut self, roll: Roll) -> Self {
        match roll {
            Roll::Bytes(bytes) => self.channel = self.channel.capacity(bytes),
            Roll::Every(period) => self.every = Some(period),
        }
        self
    }

    /// What an earlier writer was told, see [`Journal::settings`]. What is set afterwards counts.
    pub fn settings(mut self, settings: &JournalSettings) -> Self {
        self.channel = self.channel.capacity(settings.roll_bytes);
        self.every = settings.roll_every;
        self.retention = settings.retention();
        self
    }

    /// How each channel is created: the longest record, checksum, durability, stages, attributes and so on. Their capacity is that of
    /// the last [`Roll::Bytes`] or of these options, whichever is set last; their first sequence is the journal's.
    pub fn channels<D: Chain>(self, channel: WriterOptions<D>) -> JournalOptions<D> {
        let JournalOptions { every, retention, background, patience, crashed, replaces_type, .. } = self;
        JournalOptions { channel, every, retention, background, patience, crashed, replaces_type }
    }

    /// Adds `handler` as the innermost stage of each record, as [`WriterOptions::stage`].
    pub fn stage<H>(self, handler: H) -> JournalOptions<C::Output>
    where
        C: Push<H>,
    {
        let JournalOptions { channel, every, retention, background, patience, crashed, replaces_type } = self;
        let channel = channel.stage(handler);
        JournalOptions { channel, every, retention, background, patience, crashed, replaces_type }
    }

    /// The records are values of the codec `K`, as [`WriterOptions::record_type`].
    pub fn record_type<K: Codec>(mut self) -> Self {
        self.channel = self.channel.record_type::<K>();
        self
    }

    /// Whether the type of the records may be another than that of the journal's newest ones. From here on they are then what these
    /// options say, or of no type if they say nothing; a reader that was asked for the type before is told by
    /// [`TypedError::Type`](crate::typed::TypedError::Type) where the other begins. Default: a journal keeps its type, and another is
    /// refused as [`JournalError::Type`].
    ///
    /// The type is what content type, schema and layout of the channels say. Options that say none of them are refused by a journal
    /// with a schema or a layout: bytes of no type are another one, too. A content type alone is no promise, and is handed down to
    /// the next channels.
    ///
    /// # Example: the second version of a record
    ///
    /// ```
    /// # #[cfg(feature = "serde")] {
    /// use kekbit::typed::{Postcard, TypedError};
    /// use kekbit::{Journal, JournalError};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Old { lots: u32 }
    /// #[derive(Serialize, Deserialize)]
    /// struct Order { lots: u32, symbol: String }
    ///
    /// kekbit::record_type!(Old as "shop.order.v1");
    /// kekbit::record_type!(Order as "shop.order.v2");
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("orders");
    /// let mut journal = Journal::options().open_typed::<Postcard<Old>>(&path)?;
    /// journal.append(&Old { lots: 10 })?;
    /// journal.close()?;
    ///
    /// let refused = Journal::options().open_typed::<Postcard<Order>>(&path);
    /// assert!(matches!(refused, Err(JournalError::Type(_))));
    /// let mut journal = Journal::options().replace_type(true).open_typed::<Postcard<Order>>(&path)?;
    /// journal.append(&Order { lots: 5, symbol: "AAPL".into() })?;
    ///
    /// let mut reader = Journal::reader(&path)?.typed::<Postcard<Old>>();
    /// assert_eq!(reader.try_next()?.map(|record| record.value.lots), Some(10));
    /// assert!(matches!(reader.try_next(), Err(TypedError::Type(_))));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace_type(mut self, replace: bool) -> Self {
        self.replaces_type = replace;
        self
    }

    /// When records become durable. Default: when their channel has ended, or the journal is closed.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.channel = self.channel.durability(durability);
        self
    }

    /// Gives up the oldest channels while all together take more than so many bytes on the disk. The one that is made ready to be
    /// next comes on top: up to one channel more. Default: no limit.
    ///
    /// This limit and the others are looked at when the journal is opened, after each roll, and by [`Journal::retain`]; in between they may be
    /// exceeded. The channel that is being written always stays, and so does the newest record.
    pub fn retain_bytes(mut self, bytes: u64) -> Self {
        self.retention.bytes = Some(bytes);
        self
    }

    /// Gives up channels whose records are all older than this. A journal in which nothing is appended gives up nothing by itself.
    /// Default: no limit.
    pub fn retain_age(mut self, age: Duration) -> Self {
        self.retention.age = Some(age);
        self
    }

    /// Gives up the oldest channels while there are more than so many, with the one that is being written. Default: no limit.
    pub fn retain_count(mut self, channels: u64) -> Self {
        self.retention.count = Some(channels);
        self
    }

    /// Whether what a named cursor has not passed stays, whatever the limits; a cursor that nobody moves then keeps everything.
    /// Without a cursor the limits alone count, so create it before there is something that it needs. Default: limits are limits, and
    /// who is overtaken is told.
    pub fn retain_for_cursors(mut self, retain: bool) -> Self {
        self.retention.for_cursors = retain;
        self
    }

    /// Whether a thread that belongs to the journal makes the next channel ready, syncs what has ended, and gives up what exceeds
    /// the limits. Without it the append that begins a channel does all that, and the clock is looked at only every 64 KiB.
    /// Default: there is one.
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// How long to wait for a writer that has the journal: one that was killed may keep it for some time. Default: 2 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Takes what was not synced for what a crash of the machine may have left, although the machine has not been restarted: for a
    /// file system that was shut down or whose disk was gone, and that was mounted again. See
    /// [`ReadOptions::crashed`](crate::ReadOptions::crashed). Default: off, and refused as [`JournalError::Seal`].
    pub fn crashed(mut self, crashed: bool) -> Self {
        self.crashed = crashed;
        self
    }

    /// The header of its channels.
    pub(crate) fn header(&self, path: &Path) -> Result<Header, JournalError> {
        self.channel.header(path).map_err(JournalError::Create)
    }

    /// Opens the journal in the directory at `path`, which is created if it is not there (its parent has to be), behind its last record. What its last
    /// writer has left unended is sealed, and what a crash has left behind that is set aside; see [`Journal::set_aside`].
    ///
    /// # Durability
    ///
    /// Unless the policy is never, everything that is there is durable when this returns, the journal's name included.
    ///
    /// # Errors
    ///
    /// See [`JournalError`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Journal<C>, JournalError> {
        let path = path.as_ref();
        let never = self.channel.durability == Durability::Never;
        // What cannot be is refused before anything is made.
        let mut header = self.header(path)?;
        header.attributes.journal = Some(settings::encode(self.every, &self.retention));
        fits(&header)?;
        create_directory(path)?;
        let lock = WriterLock::take(path, Wait::backoff().at_most(self.patience))?;
        let sealing = SealOptions::default().crashed(self.crashed);
        let found = recover(path, &sealing, !never)?;
        let Recovered { next, time, segments, unsynced, set_aside, .. } = found;
        if !self.replaces_type {
            keep_type(path, &segments, &mut header)?;
            fits(&header)?;
        }
        let mut chain = None;
        let mut options = self.channel.map_chain(|made| chain = Some(made));
        let chain = chain.expect("it has just been taken out of the options");
        (options.joins_journal, options.keep_space) = (true, self.retention.is_limited());
        let plan = Plan {
            directory: path.to_owned(),
            options,
            header,
            every: self.every,
            retention: self.retention,
        };
        let mut roller = Roller::new(plan, segments, lock);
        let mut pen = roller.first(next, time).map_err(JournalError::Create)?;
        // Those that were empty have told where to begin.
        remove_temporaries(path, |_| true)?;
        // Behind the end nothing is left of what they had passed.
        cursor::set_back(path, next).map_err(JournalError::Cursor)?;
        pen.syncs().precede(unsynced.into_iter().map(Ended::Closed));
        if !never {
            pen.syncs().settle().map_err(|error| JournalError::io("sync", path)(error.into_source()))?;
        }
        if self.background {
            roller.start_helper(pen.syncs()).map_err(JournalError::io("start the thread of", path))?;
        } else {
            roller.retain(pen.syncs());
        }
        pen.start_ticker().map_err(JournalError::io("start the syncing thread of", path))?;
        pen.join_journal(Box::new(roller));
        Ok(Journal::new(Writer::new(pen, chain), path.to_owned(), set_aside))
    }
}

/// Whether everything that the header is to say has room in it.
fn fits(header: &Header) -> Result<(), JournalError> {
    let why = "the attributes leave no room for the journal's settings and its content type";
    header.encode().map(drop).ok_or_else(|| JournalError::Options(why.into()))
}

/// Lets the header go on from that of the newest of these channels, all of which have records, if its records are of that type.
fn keep_type(directory: &Path, segments: &[Segment], header: &mut Header) -> Result<(), JournalError> {
    for path in segments.iter().rev().map(|segment| names::channel_path(directory, segment.first)) {
        // One that is damaged tells nothing: those before it do.
        if let Ok(newest) = names::read_header(&path) {
            let kept = typed::go_on(&newest.attributes, &mut header.attributes, &path);
            return kept.map_err(JournalError::Type);
        }
    }
    Ok(())
}

/// Creates the directory unless it is there. Its name is synced before there is anything in it, whatever the policy: nobody who syncs
/// a record asks for that any more.
fn create_directory(path: &Path) -> Result<(), JournalError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Who has created it may have died before the sync.
        Err(_) if path.is_dir() => match names::list(path) {
            Ok(names) if names.is_empty() => {}
            _ => return Ok(()),
        },
        Err(error) => return Err(JournalError::io("create", path)(error)),
    }
    let parent = file::directory_of(path);
    let synced = file::open_directory(parent).and_then(|opened| file::sync(&opened));
    synced.map_err(|errno| JournalError::io("sync", parent)(errno.into()))
}
