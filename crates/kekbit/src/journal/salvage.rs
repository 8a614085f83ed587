//! Salvaging a journal: each channel by itself, in order, and what is missing between them.
//!
//! ```text
//! SRC   0 [ good | gap | good ]     700 [ unreadable ]     900 [ good ]        may be damaged anywhere; never changed
//! DST   0 [ good ]  510 [ good ]                           900 [ good ]        intact, closed; there only when it is complete
//! ```
//!
//! Records keep their sequences: where it is known which record comes behind a gap, a channel of its own begins with it. So whoever reads
//! the new journal is told of each hole, as of records that have been given up, and named cursors lead where they led.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::JournalReadError;
use super::lock::WriterLock;
use super::names::{channel_path, first_sequence, read_header};
use super::{Journal, cursor};
use crate::error::{CreateError, FormatError, SalvageError};
use crate::salvage::{Apart, Finding, SalvageOptions, Salvaged};
use crate::sys::file;

/// What was found in a damaged journal.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct JournalSalvaged {
    /// Records that are good, and are in the new journal.
    pub records: u64,
    /// Sequence of the first record of the damaged journal, by the name of its oldest channel.
    pub first_sequence: u64,
    /// Sequence behind the last record that is good.
    pub next_sequence: u64,
    /// Channels of the new journal.
    pub channels: u64,
    /// Gaps in channels.
    pub gap_count: u64,
    /// Bytes of all gaps.
    pub gap_bytes: u64,
    /// Channels of which nothing could be saved.
    pub lost_channels: u64,
    /// Stretches of records that are in no channel.
    pub holes: u64,
    /// Records that are lost in all, if that is known. What was lost behind the last good record without a trace does not count.
    pub lost: Option<u64>,
}

impl JournalSalvaged {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.gap_count == 0 && self.lost_channels == 0 && self.holes == 0
    }
}

/// What is told while a journal is salvaged.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalFinding<'a> {
    /// Something about the channel at this path.
    Channel(&'a Path, Finding),
    /// The channel at this path has been salvaged.
    Salvaged(&'a Path, &'a Salvaged),
    /// Nothing could be saved of the channel at this path, and why.
    Lost(&'a Path, &'a SalvageError),
    /// Records from the first sequence on and before the second are in no channel; `None`: nobody knows how many.
    Hole(u64, Option<u64>),
    /// A named cursor could not be copied, and why.
    Cursor(&'a super::CursorError),
}

impl SalvageOptions {
    /// Salvages the journal in the directory `from` into a new one, `to`, which must not exist or be an empty directory: each channel as
    /// [`SalvageOptions::run`], but so that records keep their sequences as far as they are known. Named cursors are copied.
    /// `watch` is told what is found while it is found.
    ///
    /// # Durability
    ///
    /// The new journal is complete, closed and synced before it has its name, and then its name is synced. What dies on the way leaves a
    /// hidden directory beside it.
    ///
    /// # Errors
    ///
    /// See [`SalvageError`]. A channel of which nothing can be saved is none.
    ///
    /// # Example: a journal of which a file is lost
    ///
    /// ```
    /// use kekbit::{Channel, Journal, Roll, Start};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let (damaged, saved) = (dir.path().join("damaged"), dir.path().join("saved"));
    /// # let mut journal = Journal::options().roll(Roll::Bytes(4096)).open(&damaged)?;
    /// # for n in 0..1000_u32 {
    /// #     journal.append(&n.to_le_bytes())?;
    /// # }
    /// # journal.close()?;
    /// let lost = Journal::channels(&damaged)?[1].clone();
    /// std::fs::remove_file(lost)?;
    /// let salvaged = Channel::salvage_options().run_journal(&damaged, &saved, |_| ())?;
    /// assert_eq!((salvaged.holes, salvaged.next_sequence), (1, 1000));
    /// assert_eq!(salvaged.lost, Some(1000 - salvaged.records));
    /// let mut reader = Journal::reader(&saved)?;
    /// reader.seek(Start::Sequence(999))?;
    /// assert_eq!(reader.try_next()?.as_deref(), Some(&999_u32.to_le_bytes()[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_journal(
        self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        mut watch: impl FnMut(JournalFinding<'_>),
    ) -> Result<JournalSalvaged, SalvageError> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let asking = |source| SalvageError::Io { action: "ask for the writer of", source };
        if WriterLock::is_taken(from).map_err(asking)? {
            return Err(SalvageError::WriterLives { path: from.to_owned() });
        }
        let mode = from.metadata().map_err(SalvageError::reading)?.mode() & 0o777 | 0o700;
        let place = Place::beside(to, mode)?;
        let mut salvage = Salvage {
            options: self,
            to: &place.path,
            watch: &mut watch,
            found: JournalSalvaged {
                records: 0,
                first_sequence: 0,
                next_sequence: 0,
                channels: 0,
                gap_count: 0,
                gap_bytes: 0,
                lost_channels: 0,
                holes: 0,
                lost: Some(0),
            },
            expected: None,
        };
        salvage.channels(from)?;
        salvage.cursors(from)?;
        let found = salvage.found;
        place.name(to)?;
        Ok(found)
    }
}

struct Salvage<'a> {
    options: SalvageOptions,
    to: &'a Path,
    watch: &'a mut dyn FnMut(JournalFinding<'_>),
    found: JournalSalvaged,
    /// Sequence with which the next channel should begin, if that is known.
    expected: Option<u64>,
}

impl Salvage<'_> {
    fn channels(&mut self, from: &Path) -> Result<(), SalvageError> {
        let listed = Journal::channels(from).map_err(|error| match error {
            JournalReadError::Io { source, .. } => SalvageError::Io { action: "list", source },
            other => SalvageError::Io { action: "list", source: io::Error::other(other) },
        })?;
        let mut hole = None;
        for (n, path) in listed.iter().enumerate() {
            let Some(first) = path.file_name().and_then(first_sequence) else { continue };
            if n == 0 {
                (self.found.first_sequence, self.found.next_sequence) = (first, first);
            }
            let begins = self.expected.filter(|expected| *expected < first);
            if let Some(begins) = hole.or(begins) {
                self.found.holes += 1;
                (self.watch)(JournalFinding::Hole(begins, Some(first)));
            }
            hole = None;
            match self.channel(path, first) {
                Ok(apart) => self.add(path, first, &apart),
                Err(
                    error @ (SalvageError::Open(_) | SalvageError::Header { .. } | SalvageError::Io { .. }),
                ) => {
                    self.found.lost_channels += 1;
                    (self.watch)(JournalFinding::Lost(path, &error));
                    hole = Some(self.found.next_sequence.max(first));
                    self.expected = None;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(begins) = hole {
            self.found.holes += 1;
            (self.watch)(JournalFinding::Hole(begins, None));
        }
        let total = self.expected.filter(|_| hole.is_none());
        self.found.lost = match listed.is_empty() {
            true => Some(0),
            false => total
                .and_then(|end| end.checked_sub(self.found.first_sequence)?.checked_sub(self.found.records)),
        };
        Ok(())
    }

    fn channel(&mut self, path: &Path, first: u64) -> Result<Apart, SalvageError> {
        let told = read_header(path).map_or(first, |header| header.first_sequence);
        let stray = match told == first {
            false => Some("it begins with another record than its name says"),
            true if first < self.found.next_sequence => Some("its records are in the channel before it"),
            true => None,
        };
        if let Some(what) = stray {
            let source = FormatError::Header(what);
            return Err(SalvageError::Header { path: path.to_owned(), source });
        }
        let (to, watch) = (self.to, &mut self.watch);
        self.options.run_apart(
            path,
            |first| channel_path(to, first),
            |finding| watch(JournalFinding::Channel(path, finding)),
        )
    }

    fn add(&mut self, path: &Path, first: u64, apart: &Apart) {
        let salvaged = &apart.salvaged;
        self.found.records += salvaged.records;
        self.found.channels += apart.begins.len() as u64;
        self.found.gap_count += salvaged.gap_count;
        self.found.gap_bytes += salvaged.gap_bytes;
        self.found.next_sequence = apart.next;
        self.expected = salvaged.lost.map(|lost| first + salvaged.records + lost);
        (self.watch)(JournalFinding::Salvaged(path, salvaged));
    }

    fn cursors(&mut self, from: &Path) -> Result<(), SalvageError> {
        let cursors = match cursor::list(from) {
            Ok(cursors) => cursors,
            Err(error) => {
                (self.watch)(JournalFinding::Cursor(&error));
                return Ok(());
            }
        };
        for cursor in &cursors {
            if let Err(error) = cursor::set(self.to, &cursor.name, cursor.sequence) {
                (self.watch)(JournalFinding::Cursor(&error));
            }
        }
        Ok(())
    }
}

/// A directory that has no name yet. Removed when it is dropped.
struct Place {
    path: PathBuf,
}

impl Place {
    fn beside(to: &Path, mode: u32) -> Result<Place, SalvageError> {
        let taken = match fs::read_dir(to) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            // No directory.
            Err(_) => true,
        };
        if taken {
            return Err(CreateError::AlreadyExists { path: to.to_owned() }.into());
        }
        let creating = |source| CreateError::Io { action: "create", path: to.to_owned(), source };
        let path = file::temporary_name(to).map_err(creating)?;
        DirBuilder::new().mode(mode).create(&path).map_err(creating)?;
        Ok(Place { path })
    }

    fn name(self, to: &Path) -> Result<(), SalvageError> {
        let failed = |action| move |source| CreateError::Io { action, path: to.to_owned(), source };
        let sync = |path: &Path| {
            let synced = file::open_directory(path).and_then(|directory| file::sync(&directory));
            synced.map_err(|errno| failed("sync the directory of")(errno.into()))
        };
        sync(&self.path)?;
        fs::rename(&self.path, to).map_err(failed("name"))?;
        sync(file::directory_of(to))?;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is there no more if it has got its name.
        let _ = fs::remove_dir_all(&self.path);
    }
}
