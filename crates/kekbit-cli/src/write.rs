//! `kek write`: creates a channel, or goes on with a journal, and appends records to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use kekbit::typed::TypeError;
use kekbit::{
    AppendError, Chain, Checksum, CreateError, Durability, Journal, JournalError, JournalSettings, Lz4,
    Period, Prepare, SyncError, TickUnit, Writer, WriterOptions,
};

use crate::arrival::Arrivals;
use crate::exit::{Exit, Failure, note};
use crate::input::{Event, Input, Inputs};
use crate::progress;
use crate::root::RootArgs;
use crate::signals::Signals;
use crate::split::{Split, SplitError, Splitter};
use crate::values::{self, Limit, Sync, counted};

/// Create a channel, or go on with a journal, and append records to it
///
/// Creates the channel PATH and appends the FILEs, or standard input, one record for each line. Each record is visible
/// to readers as soon as its terminator has arrived. At the end of the input the channel is closed. A channel is
/// written once: PATH must not exist yet.
///
/// If PATH is an empty directory, or one with a journal in it, if it ends with a slash, or if one of the options for journals is given,
/// PATH is a journal: a directory of channels that follow one another, which is created if it is not there. Then the records are
/// appended behind those that are there. A journal that has a record remembers how it rolls and what it keeps until it is told
/// otherwise.
///
/// Lines end with a line feed, which is not part of the record; a carriage return before it is. A last line without a
/// line feed is a record too, in each FILE.
///
/// On SIGINT or SIGTERM it appends what it has read, closes the channel, and exits with 130 or 143; a second one ends
/// it at once. When the channel or the disk is full, or a record is too long, the records before stay, standard error
/// says how many they are, and it exits with 5.
///
/// Sizes are bytes, or have a unit: 4096, 64K, 64KiB, 1M, 1G; K is 1024. Durations have a unit: 10ms, 2s, 5m, 1h30m, 7d.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  seq 1000000 | kek write numbers.kek
  kek write log.kek access.log error.log
  tail -f access.log | kek write --sync 1s --timeout 1m access.kek
  some-program | kek write orders/
  tail -F access.log | kek write --roll-every day --retain-age 30d access/
  find . -print0 | kek write -0 --no-timestamp names.kek
  kek write --compress documents.kek < documents.ndjson
  kek write --root /srv/channels 42 orders.txt
  kek write --whole --capacity 4G --max-record 16M images.kek *.png")]
pub(crate) struct WriteArgs {
    /// The channel to create, or the directory of a journal
    path: PathBuf,

    /// What to append; `-` is standard input, and so is no FILE at all
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Records end with a zero byte instead of a line feed
    #[arg(short = '0', long, group = "split")]
    null: bool,

    /// Records follow their length, a little-endian u32
    ///
    /// A frame that the end of the input cuts off is an error; the records before it are appended.
    #[arg(long, group = "split")]
    framed: bool,

    /// Each FILE is one record, even an empty one
    #[arg(long, group = "split")]
    whole: bool,

    /// Bytes for records, 4K to 32T
    ///
    /// Each record takes 8 bytes, 8 more for its timestamp, and its length rounded up to 8. The space is reserved on
    /// the disk as the channel grows, and what is left is given back at the end. [default: 1G, or twice the size of the
    /// FILEs if that is more]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    capacity: Option<u64>,

    /// The longest record, at most 256M - 1
    ///
    /// Counts the bytes of the record as they are read, also where it is compressed; those of its timestamp come on top. [default:
    /// 1M, or an eighth of the capacity if that is less]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_record: Option<u64>,

    /// How long readers wait for a new record before they say that the writer has timed out [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,

    /// The unit of the records' timestamps, rounded down, and of the recorded timeout, rounded up: ns, us, ms or s
    #[arg(long, value_name = "UNIT", value_parser = values::tick, default_value_t = TickUnit::Nanos)]
    tick: TickUnit,

    /// A number for the writer, for whatever you need it; decimal, or hexadecimal as in 0x2a
    #[arg(long, value_name = "N", value_parser = values::id, default_value = "0")]
    writer_id: u64,

    /// A number for the channel
    #[arg(long, value_name = "N", value_parser = values::id, default_value = "0", conflicts_with = "root")]
    channel_id: u64,

    #[command(flatten)]
    root: RootArgs,

    /// What protects each record against damage
    #[arg(long, value_enum, default_value_t = ChecksumArg::Crc32c)]
    checksum: ChecksumArg,

    /// What the records are, for instance a media type
    ///
    /// A journal keeps its own: without this option the next channels have it too, and one whose records are of a type, with a schema
    /// or a layout in its header, is refused. With it the records are TEXT from here on, and whoever reads the type that was before is
    /// told so.
    #[arg(long, value_name = "TEXT")]
    content_type: Option<String>,

    /// A key and a value for the channel's header; can be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::meta)]
    meta: Vec<(String, String)>,

    /// When records become durable, that is, outlive a power cut: none, each, or a DURATION
    ///
    /// `none` leaves it to the kernel, as `cat` and `cp` do: records outlive the process at once, and a power cut after
    /// some 30 seconds. `each` syncs every record before the next is appended. A DURATION is how long a record may
    /// remain without a sync, also while there is no input; then the end is synced too.
    #[arg(long, value_name = "WHEN", default_value = "none")]
    sync: Sync,

    /// How pages are made ready before they are written: demand, inline[=SIZE], ahead[=SIZE], or all
    ///
    /// `demand` leaves it to the kernel, page by page: least memory, and the slowest. `inline` makes SIZE bytes (256K) ready
    /// at once, whenever they are reached. `ahead` lets a thread of its own keep up to SIZE bytes (8M) ready, so that no record
    /// waits. `all` makes the whole capacity ready before the first record.
    #[arg(long, value_name = "HOW", value_parser = values::prepare, default_value = "inline")]
    prepare: Prepare,

    /// Records carry no timestamp
    #[arg(long)]
    no_timestamp: bool,

    /// Compresses each record by itself, with LZ4
    ///
    /// Every reader undoes it. Records that do not become shorter stay as they are. Short ones seldom do: it takes records of some
    /// hundred bytes, in which something repeats, and costs a few nanoseconds for each byte.
    #[arg(long)]
    compress: bool,

    /// Writes also on a file system that other machines may share, where a second writer would not be noticed
    #[arg(long)]
    force_shared_file_system: bool,

    /// Says nothing about what was written, and shows no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten, next_help_heading = "Options for journals")]
    journal: JournalArgs,
}

/// How a journal rolls, and what it keeps: what is not said is as before.
#[derive(Args, Clone, Debug, Default)]
struct JournalArgs {
    /// Begins a new channel when one has so many bytes [default: 256M, or as before]
    #[arg(long, value_name = "SIZE", value_parser = values::size, conflicts_with = "capacity")]
    roll_bytes: Option<u64>,

    /// Begins a new channel at each boundary, UTC, as well
    #[arg(long, value_name = "PERIOD", value_enum)]
    roll_every: Option<PeriodArg>,

    /// Gives up the oldest channels while all take more than so many bytes on the disk; or `none`
    #[arg(long, value_name = "SIZE", value_parser = values::limit(values::size))]
    retain_bytes: Option<Limit<u64>>,

    /// Gives up channels whose records are all older; or `none`
    #[arg(long, value_name = "DURATION", value_parser = values::limit(values::duration))]
    retain_age: Option<Limit<Duration>>,

    /// Gives up the oldest channels while there are more than so many; or `none`
    #[arg(long, value_name = "N", value_parser = values::limit(values::count))]
    retain_count: Option<Limit<u64>>,

    /// Keeps what a named cursor has not passed, whatever the limits; with `=no`, not any more
    #[arg(
        long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
        value_parser = BoolishValueParser::new()
    )]
    retain_cursors: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum PeriodArg {
    Minute,
    Hour,
    Day,
    /// At no boundary
    None,
}

impl JournalArgs {
    fn is_given(&self) -> bool {
        let JournalArgs { roll_bytes, roll_every, retain_bytes, retain_age, retain_count, retain_cursors } =
            self;
        roll_bytes.is_some()
            || roll_every.is_some()
            || retain_bytes.is_some()
            || retain_age.is_some()
            || retain_count.is_some()
            || retain_cursors.is_some()
    }

    /// Changes what the journal was told before into what it is told now.
    fn apply(&self, settings: &mut JournalSettings) {
        if let Some(bytes) = self.roll_bytes {
            settings.roll_bytes = bytes;
        }
        if let Some(period) = self.roll_every {
            settings.roll_every = match period {
                PeriodArg::Minute => Some(Period::Minute),
                PeriodArg::Hour => Some(Period::Hour),
                PeriodArg::Day => Some(Period::Day),
                PeriodArg::None => None,
            };
        }
        if let Some(Limit(bytes)) = self.retain_bytes {
            settings.retain_bytes = bytes;
        }
        if let Some(Limit(age)) = self.retain_age {
            settings.retain_age = age;
        }
        if let Some(Limit(count)) = self.retain_count {
            settings.retain_count = count;
        }
        if let Some(retain) = self.retain_cursors {
            settings.retain_for_cursors = retain;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ChecksumArg {
    /// CRC-32C
    Crc32c,
    /// None: lost records are told from written ones by the last sync only
    None,
}

const DEFAULT_CAPACITY: u64 = 1 << 30;
const DEFAULT_MAX_RECORD: u64 = 1 << 20;
const LONGEST_RECORD: u64 = (256 << 20) - 1;
/// Bytes that the timestamp adds to each record.
const TIMESTAMP: u64 = 8;
/// Bytes that compressing adds to a record that does not become shorter.
const LZ4: u64 = 4;
/// Bytes to read at once where each record is synced: a signal waits until all of them are.
const SLOW_READ: usize = 4 << 10;
/// Bytes of the capacity that no record can have: its header word and the terminal's.
const WORDS: u64 = 16;

impl WriteArgs {
    pub(crate) fn run(mut self) -> Result<Exit, Failure> {
        if let Some((_, id)) = self.root.place(&self.path)? {
            (self.path, self.channel_id) = (self.root.resolve(&self.path)?, id);
        }
        let signals = Signals::install().map_err(|error| Failure::io("cannot handle signals", error))?;
        let inputs = Inputs::look_up(self.files.clone())?;
        let arrivals = Arrivals::default();
        let settings = if self.writes_journal()? { Some(self.settings()?) } else { None };
        let capacity = settings.as_ref().map_or_else(
            || {
                let twice = inputs.total.unwrap_or(0).saturating_mul(2);
                self.capacity.unwrap_or(DEFAULT_CAPACITY.max(twice))
            },
            |settings| settings.roll_bytes,
        );
        let options = self.options(capacity);
        let (stamp, settings) = (arrivals.stamp(self.tick), settings.as_ref());
        // The timestamp outside, where seeking to a time finds it without undoing anything.
        match (self.no_timestamp, self.compress) {
            (true, false) => self.write(options, settings, arrivals, &inputs, &signals),
            (false, false) => self.write(options.stage(stamp), settings, arrivals, &inputs, &signals),
            (true, true) => self.write(options.stage(Lz4::new()), settings, arrivals, &inputs, &signals),
            (false, true) => {
                self.write(options.stage(stamp).stage(Lz4::new()), settings, arrivals, &inputs, &signals)
            }
        }
    }

    /// Appends the inputs to the channel, or to the journal with these settings.
    fn write<C: Chain>(
        &self,
        options: WriterOptions<C>,
        settings: Option<&JournalSettings>,
        arrivals: Arrivals,
        inputs: &Inputs,
        signals: &Signals,
    ) -> Result<Exit, Failure> {
        match settings {
            Some(settings) => {
                let journal = self.open_journal(settings, options)?;
                Pump::new(self, journal, arrivals, inputs.total).run(inputs, signals)
            }
            None => {
                let writer = self.create(options)?;
                Pump::new(self, writer, arrivals, inputs.total).run(inputs, signals)
            }
        }
    }

    /// Bytes that the stages add to a record at the most.
    fn stages(&self) -> u64 {
        let timestamp = if self.no_timestamp { 0 } else { TIMESTAMP };
        timestamp + if self.compress { LZ4 } else { 0 }
    }

    fn create<C: Chain>(&self, options: WriterOptions<C>) -> Result<Writer<C>, Failure> {
        let Some(root) = &self.root.root else { return Ok(options.create(&self.path)?) };
        options.create_in(root).map_err(|error| match error {
            CreateError::AlreadyExists { path } => {
                let path = path.display();
                let why = format_args!("{path} exists already: a channel is written once, choose another id");
                Failure::new(Exit::Taken, why)
            }
            error => error.into(),
        })
    }

    /// Whether the path is a journal's, or is to become one.
    fn writes_journal(&self) -> Result<bool, Failure> {
        if self.root.root.is_some() && self.journal.is_given() {
            let why = "below a --root there are channels: name the directory of a journal";
            return Err(Failure::new(Exit::Usage, why));
        }
        is_for_journal(&self.path, self.journal.is_given())
    }

    /// How the journal rolls and what it keeps: what it remembers, and what is said now.
    fn settings(&self) -> Result<JournalSettings, Failure> {
        let before = if self.path.is_dir() { Journal::settings(&self.path)? } else { None };
        let mut settings = before.unwrap_or_default();
        self.journal.apply(&mut settings);
        settings.roll_bytes = self.capacity.unwrap_or(settings.roll_bytes);
        Ok(settings)
    }

    fn open_journal<C: Chain>(
        &self,
        settings: &JournalSettings,
        channels: WriterOptions<C>,
    ) -> Result<Journal<C>, Failure> {
        let options = Journal::options().channels(channels).settings(settings);
        let opened = options.replace_type(self.content_type.is_some()).open(&self.path);
        let journal = opened.map_err(|error| match error {
            JournalError::Type(TypeError::Journal { path, recorded, expected }) => {
                let why = format_args!(
                    "the records are {recorded}, and these are {expected}: say with --content-type what they are from here on"
                );
                Failure::new(Exit::Usage, why).about(&path)
            }
            error => error.into(),
        })?;
        for aside in journal.set_aside() {
            note(format_args!(
                "{}: set aside, since it does not follow from what is before",
                aside.display()
            ));
        }
        Ok(journal)
    }

    fn options(&self, capacity: u64) -> WriterOptions {
        let record = self.max_record.unwrap_or(DEFAULT_MAX_RECORD.min(capacity / 8));
        // What is more than the format allows is for the library to refuse, but not because of the stages.
        let longest = LONGEST_RECORD.min(capacity.saturating_sub(WORDS)).max(record);
        let stored = record.saturating_add(self.stages()).min(longest);
        let mut options = Writer::options()
            .capacity(capacity)
            .max_record_len(stored)
            .tick(self.tick)
            .writer_id(self.writer_id)
            .channel_id(self.channel_id)
            .force_shared_file_system(self.force_shared_file_system)
            .prepare(self.prepare)
            .checksum(match self.checksum {
                ChecksumArg::Crc32c => Checksum::Crc32c,
                ChecksumArg::None => Checksum::None,
            })
            .durability(match self.sync {
                Sync::None => Durability::Never,
                Sync::Each => Durability::Each,
                Sync::Every(interval) => Durability::Interval(interval),
            });
        if let Some(timeout) = self.timeout {
            options = options.timeout(timeout);
        }
        if let Some(text) = &self.content_type {
            options = options.content_type(text);
        }
        self.meta.iter().fold(options, |options, (key, value)| options.meta(key, value))
    }

    fn split(&self) -> Split {
        match (self.framed, self.whole) {
            (true, _) => Split::Framed,
            (_, true) => Split::Whole,
            _ => Split::Terminated(if self.null { 0 } else { b'\n' }),
        }
    }
}

/// Whether the path is a journal's, or is to become one: because of its name, or because that is `wanted` anyway.
pub(crate) fn is_for_journal(path: &Path, wanted: bool) -> Result<bool, Failure> {
    if path.is_dir() {
        let cannot = |error| Failure::io(format_args!("cannot list {}", path.display()), error);
        if Journal::is_at(path) || path.read_dir().map_err(cannot)?.next().is_none() {
            return Ok(true);
        }
        let why = "it is a directory with other things in it: a journal needs one of its own";
        return Err(Failure::new(Exit::Taken, why).about(path));
    }
    // A name that ends with a slash is a directory's.
    let wanted = wanted || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    // Without that slash, so that a file is found.
    let bare: PathBuf = path.components().collect();
    if wanted && bare.symlink_metadata().is_ok() {
        let why = "it exists and is no directory: a journal is one";
        return Err(Failure::new(Exit::Taken, why).about(path));
    }
    Ok(wanted)
}

/// What records are appended to.
pub(crate) trait Sink {
    fn append(&mut self, record: &[u8]) -> Result<(), AppendError>;

    /// The longest record, as stored.
    fn max_record_len(&self) -> usize;

    fn close(self) -> Result<(), SyncError>;
}

macro_rules! sink {
    ($name:ident) => {
        impl<C: Chain> Sink for $name<C> {
            #[inline]
            fn append(&mut self, record: &[u8]) -> Result<(), AppendError> {
                $name::append(self, record).map(drop)
            }

            fn max_record_len(&self) -> usize {
                $name::max_record_len(self)
            }

            fn close(self) -> Result<(), SyncError> {
                $name::close(self)
            }
        }
    };
}

sink!(Writer);
sink!(Journal);

/// Moves records from the inputs into the channel or the journal.
struct Pump<'a, S> {
    args: &'a WriteArgs,
    writer: S,
    arrivals: Arrivals,
    splitter: Splitter,
    progress: ProgressBar,
    records: u64,
    bytes: u64,
}

impl<'a, S: Sink> Pump<'a, S> {
    fn new(args: &'a WriteArgs, writer: S, arrivals: Arrivals, total: Option<u64>) -> Pump<'a, S> {
        let longest = writer.max_record_len().saturating_sub(args.stages() as usize);
        let splitter = Splitter::new(args.split(), longest);
        let progress = if args.quiet { ProgressBar::hidden() } else { progress::bar(total, "writing") };
        Pump { args, writer, arrivals, splitter, progress, records: 0, bytes: 0 }
    }

    /// Appends everything. However that ends, what was appended stays, and the channel is closed.
    fn run(mut self, inputs: &Inputs, signals: &Signals) -> Result<Exit, Failure> {
        let outcome = self.append_all(inputs, signals);
        self.progress.finish_and_clear();
        let Pump { args, writer, records, bytes, .. } = self;
        let were = values::were(records);
        let written = format!("{} ({}) {were} written", counted(records, "record"), counted(bytes, "byte"));
        let closed = writer.close();
        match outcome {
            Err(failure) => Err(failure.about(&args.path).and(written)),
            Ok(exit) => {
                closed.map_err(|error| Failure::from(error).about(&args.path).and(&written))?;
                if !args.quiet {
                    note(format_args!("{}: {written}", args.path.display()));
                }
                Ok(exit)
            }
        }
    }

    fn append_all(&mut self, inputs: &Inputs, signals: &Signals) -> Result<Exit, Failure> {
        for input in inputs.open() {
            if let Some(signal) = self.append_input(input?, signals)? {
                return Ok(Exit::Signal(signal));
            }
        }
        Ok(Exit::Done)
    }

    /// Appends one input; the signal that has cut it short, if one has.
    fn append_input(&mut self, mut input: Input, signals: &Signals) -> Result<Option<i32>, Failure> {
        let cut_short = loop {
            let space = self.splitter.space();
            let len = if self.args.sync == Sync::Each { space.len().min(SLOW_READ) } else { space.len() };
            match input.read(&mut space[..len], signals)? {
                Event::Read(0) => break None,
                Event::Signal(signal) => break Some(signal),
                Event::Read(len) => {
                    self.splitter.filled(len);
                    self.arrivals.mark();
                    self.append_complete(&input)?;
                    self.progress.inc(len as u64);
                }
            }
        };
        if cut_short.is_some() && !matches!(self.splitter.split(), Split::Terminated(_)) {
            // Half a frame or half a file is no record.
            return Ok(cut_short);
        }
        if let Some(record) = self.splitter.finish().map_err(|error| refused(&input, error))? {
            self.writer.append(record)?;
            self.records += 1;
            self.bytes += record.len() as u64;
        }
        Ok(cut_short)
    }

    fn append_complete(&mut self, input: &Input) -> Result<(), Failure> {
        let slow = self.args.sync == Sync::Each;
        while let Some(record) = self.splitter.next().map_err(|error| refused(input, error))? {
            if slow {
                self.arrivals.mark();
            }
            self.writer.append(record)?;
            self.records += 1;
            self.bytes += record.len() as u64;
        }
        Ok(())
    }
}

fn refused(input: &Input, error: SplitError) -> Failure {
    let exit = match error {
        SplitError::TooLong { .. } => Exit::Full,
        SplitError::Truncated { .. } => Exit::Io,
    };
    Failure::new(exit, format_args!("{}: {error}", input.name()))
}
