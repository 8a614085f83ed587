//! `kek import`: copies channels of kekbit 0.3 into channels or a journal.
//!
//! OLD is read three times: to find out where it ends and what it takes, to see whether what is said of its handlers can be, and to
//! copy it. What a live writer appends after the first time is left out.
//!
//! - `handlers`: what 0.3's handlers have put before the records
//! - `copy`: the records, and what becomes of NEW if that fails
//! - `report`: what is said of it

mod copy;
mod handlers;
mod report;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use indicatif::ProgressBar;
use kekbit::legacy::{Channel, CheckUp};
use kekbit::{Chain, CreateError, Journal, OpenError, ReadError, Writer, WriterOptions};

use self::copy::{Copy, OriginalStamp};
use self::handlers::{Handlers, Stamps};
use self::report::Outcome;
use crate::exit::{Exit, Failure};
use crate::progress;
use crate::root::is_root;
use crate::signals::Signals;
use crate::values::rfc3339;
use crate::write::is_for_journal;

/// Copy channels of kekbit 0.3 into channels, or one into a journal
///
/// OLD is not changed. NEW gets its records, byte for byte, with checksums, its writer id, its channel id, its timeout, and the time
/// of its creation as the meta value `kekbit-0.3-created`. When it has all of them it is closed and synced. NEW is a journal under
/// the same conditions as for `kek write`: an empty directory, one with a journal in it, or a name that ends with a slash.
///
/// With --root any number of channels become channels below DIR, each with the id that is in its header and the name that goes with
/// it. What fails is told, the others are imported all the same, and it exits with the highest code of all.
///
/// What 0.3's handlers have put before each record is part of the record, and the file does not tell. Whoever remembers can name them,
/// in the order in which their bytes stand in the record: of chained handlers the one that was linked last comes first. A timestamp then
/// becomes the timestamp of the record in NEW, and a sequence its sequence, if NEW is a channel and no number is missing.
///
/// A channel that was filled has lost the records that 0.3 wrote past the end of its file. What is lost is said, in bytes, and it exits
/// with 1, as at any damage, when the good records before it are copied. Of a channel without a closing mark nobody can tell whether its
/// writer lives: what is there is copied.
///
/// If it fails otherwise, for want of space or because of SIGINT or SIGTERM, a new channel is removed again. In a journal what was
/// copied stays, and importing again appends it again: begin with an empty directory.
#[derive(Args, Debug)]
#[command(
    override_usage = "kek import [OPTIONS] <OLD> <NEW>\n       kek import [OPTIONS] --root <DIR> <OLD>...",
    after_long_help = "Examples:
  kek import 0000_0000/0000_002a.kekbit new.kek
  kek import 0000_0000/0000_002a.kekbit orders/
  kek import --root new old/*_*/*_*.kekbit
  kek import --timestamp ms --sequence old.kekbit new.kek
  kek import --json old.kekbit new.kek | jq .loss"
)]
pub(crate) struct ImportArgs {
    /// The channel of kekbit 0.3
    #[arg(value_name = "OLD")]
    from: PathBuf,

    /// The new channel, or the directory of a journal; with --root, more channels of kekbit 0.3
    #[arg(value_name = "NEW")]
    more: Vec<PathBuf>,

    /// Each OLD becomes the channel DIR/hhhh_hhhh/hhhh_hhhh.kekbit, after the id in its header
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(flatten)]
    handlers: Handlers,

    /// One JSON object for each OLD, about what was copied and what is lost
    #[arg(long)]
    json: bool,

    /// Says nothing about what was copied, and shows no progress; damage and what is not as it was are told all the same
    #[arg(short, long)]
    quiet: bool,

    /// Creates NEW also on a file system that other machines may share
    #[arg(long)]
    force_shared_file_system: bool,
}

/// What NEW is.
enum Target {
    Channel(PathBuf),
    Journal(PathBuf),
    /// The channel below a root that has its name after the id.
    Named {
        root: PathBuf,
        path: PathBuf,
    },
}

impl Target {
    fn path(&self) -> &Path {
        match self {
            Target::Channel(path) | Target::Journal(path) | Target::Named { path, .. } => path,
        }
    }
}

impl ImportArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let signals = Signals::install().map_err(|error| Failure::io("cannot handle signals", error))?;
        match (&self.root, &*self.more) {
            (None, [to]) => {
                let to = match is_for_journal(to, false)? {
                    true => Target::Journal(to.clone()),
                    false => Target::Channel(to.clone()),
                };
                self.import(&self.from, |_| to, &signals)
            }
            (None, _) => {
                let why = "one OLD and one NEW are expected: several become channels below a directory with --root DIR";
                Err(Failure::new(Exit::Usage, why))
            }
            (Some(root), _) => self.import_all(root, &signals),
        }
    }

    /// Imports each OLD, also if that fails with some.
    fn import_all(&self, root: &Path, signals: &Signals) -> Result<Exit, Failure> {
        let mut worst = Exit::Done;
        for from in std::iter::once(&self.from).chain(&self.more) {
            let to = |old: &Channel| {
                let path = kekbit::Channel::path_in(root, old.channel_id());
                Target::Named { root: root.to_owned(), path }
            };
            let exit = self.import(from, to, signals).unwrap_or_else(|failure| {
                failure.report();
                failure.exit
            });
            if exit.code() > worst.code() {
                worst = exit;
            }
            if matches!(exit, Exit::Signal(_)) {
                break;
            }
        }
        Ok(worst)
    }

    fn import(
        &self,
        from: &Path,
        to: impl FnOnce(&Channel) -> Target,
        signals: &Signals,
    ) -> Result<Exit, Failure> {
        let old = Channel::open(from).map_err(|error| unopened(from, error))?;
        let to = to(&old);
        let bar = self.bar(old.bytes_in_file().ok(), "checking");
        let found = old.check_up(|position| bar.set_position(position.offset()));
        bar.finish_and_clear();
        if let Err(error @ ReadError::Io { .. }) = found.outcome {
            return Err(Failure::from(error).about(from));
        }
        let stamps = Stamps::of(&self.handlers, &old, found.sequence)?;
        if let Some(signal) = signals.received() {
            return Err(Failure::signal(signal));
        }
        let for_journal = matches!(to, Target::Journal(_));
        let first_sequence = match &stamps.numbers {
            Some(numbers) if !for_journal && !stamps.has_gaps && *numbers.start() <= 1 << 63 => {
                *numbers.start()
            }
            _ => 0,
        };
        let old = self.handlers.options().open(from)?;
        let ticks = Rc::new(Cell::new(0));
        let stamp = self.handlers.unit().map(|unit| OriginalStamp { unit, ticks: Rc::clone(&ticks) });
        let options = self.options(&old, &found, &to)?.first_sequence(first_sequence);
        let copy = Copy { args: self, signals, old: &old, found: &found, to: &to, ticks };
        let imported = match stamp {
            Some(stamp) => copy_into(copy, options.stage(stamp), &to),
            None => copy_into(copy, options, &to),
        }?;
        Outcome { args: self, old: &old, found: &found, stamps: &stamps, to: &to, first_sequence, imported }
            .report()
    }

    fn options(&self, old: &Channel, found: &CheckUp, to: &Target) -> Result<WriterOptions, Failure> {
        // A record takes here what it took there, the mark behind it too.
        let needed = found.position.offset() + 2 * WORD;
        let capacity = match to {
            Target::Journal(path) => settings(path)?.roll_bytes,
            _ => needed.max(old.capacity()).next_multiple_of(4096),
        };
        let mut options = Writer::options()
            .capacity(capacity)
            .max_record_len(old.max_record_len())
            .writer_id(old.writer_id())
            .channel_id(old.channel_id())
            .tick(old.tick_unit())
            .meta("kekbit-0.3-created", rfc3339(old.created_nanos()))
            .force_shared_file_system(self.force_shared_file_system);
        if let Some(timeout) = old.timeout() {
            options = options.timeout(timeout);
        }
        Ok(options)
    }

    fn bar(&self, total: Option<u64>, what: &'static str) -> ProgressBar {
        if self.quiet { ProgressBar::hidden() } else { progress::bar(total, what) }
    }
}

/// Bytes of a length, and of a mark.
const WORD: u64 = 8;

/// Creates NEW, or goes on with it, and copies.
fn copy_into<C: Chain>(
    copy: Copy<'_>,
    options: WriterOptions<C>,
    to: &Target,
) -> Result<copy::Imported, Failure> {
    match to {
        Target::Journal(path) => {
            copy.run(Journal::options().channels(options).settings(&settings(path)?).open(path)?)
        }
        Target::Channel(path) => copy.run(options.create(path).map_err(|error| {
            let failure = Failure::from(error);
            match failure.exit == Exit::Missing && kekbit::Channel::id_of(path).is_some() {
                true => {
                    failure.and("--root DIR creates the directories of a channel that is named after its id")
                }
                false => failure,
            }
        })?),
        Target::Named { root, path } => match options.create_in(root) {
            Err(CreateError::AlreadyExists { .. }) => {
                let why = format_args!(
                    "{} exists already: a channel is written once, choose another root for this one",
                    path.display()
                );
                Err(Failure::new(Exit::Taken, why).about(copy.old.path()))
            }
            created => copy.run(created?),
        },
    }
}

/// How the journal rolls and what it keeps, as it remembers it.
fn settings(path: &Path) -> Result<kekbit::JournalSettings, Failure> {
    let before = if path.is_dir() { Journal::settings(path)? } else { None };
    Ok(before.unwrap_or_default())
}

/// Why OLD cannot be opened; of a root, how its channels are named.
fn unopened(from: &Path, error: OpenError) -> Failure {
    let is_root = matches!(error, OpenError::NotAFile { .. }) && is_root(from);
    match is_root {
        true => Failure::from(error).and(format_args!(
            "`kek import --root NEWROOT {}/*_*/*_*.kekbit` imports its channels",
            from.display()
        )),
        false => error.into(),
    }
}
