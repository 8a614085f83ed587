//! `kek import`: copies a channel of kekbit 0.3 into a channel or a journal.
//!
//! OLD is read three times: to find out where it ends and what it takes, to see whether what is said of its handlers can be, and to
//! copy it. What a live writer appends after the first time is left out.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use indicatif::ProgressBar;
use kekbit::legacy::{Channel, CheckUp, EndPoint, State};
use kekbit::{
    AppendContext, Chain, Handler, Journal, ReadError, StageError, StageInfo, TickUnit, Timestamp, Writer,
    WriterOptions,
};
use serde::Serialize;

use crate::exit::{Exit, Failure, note};
use crate::original::{JsonLoss, remark};
use crate::output::print_json;
use crate::progress;
use crate::values::{counted, rfc3339};
use crate::write::{Sink, is_for_journal};

/// Copy a channel of kekbit 0.3 into a channel or a journal
///
/// OLD is not changed. NEW gets its records, byte for byte, with checksums, its writer id, its channel id, its timeout, and the time
/// of its creation as the meta value `kekbit-0.3-created`. When it has all of them it is closed and synced. NEW is a journal under
/// the same conditions as for `kek write`: an empty directory, one with a journal in it, or a name that ends with a slash.
///
/// What 0.3's handlers have put before each record is part of the record, and the file does not tell. Whoever remembers can name them,
/// in the order in which their bytes stand in the record: of chained handlers the one that was linked last comes first. A timestamp then
/// becomes the timestamp of the record in NEW, and a sequence its sequence, if NEW is a channel and no number is missing.
///
/// A channel that was filled has lost the records that 0.3 wrote past the end of its file. What is lost is said, in bytes, and it exits
/// with 1, as at any damage, when the good records before it are copied. Of a channel without a closing mark nobody can tell whether its
/// writer lives: what is there is copied.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek import 0000_0000/0000_002a.kekbit new.kek
  kek import 0000_0000/0000_002a.kekbit orders/
  kek import --timestamp millis --sequence old.kekbit new.kek
  kek import --json old.kekbit new.kek | jq .loss")]
pub(crate) struct ImportArgs {
    /// The channel of kekbit 0.3
    #[arg(value_name = "OLD")]
    from: PathBuf,

    /// The new channel, or the directory of a journal
    #[arg(value_name = "NEW")]
    to: PathBuf,

    #[command(flatten)]
    handlers: Handlers,

    /// One JSON object about what was copied and what is lost
    #[arg(long)]
    json: bool,

    /// Creates NEW also on a file system that other machines may share
    #[arg(long)]
    force_shared_file_system: bool,
}

/// A handler of 0.3, by the eight bytes that it has put before each record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    Timestamp(UnitArg),
    Sequence,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum UnitArg {
    Nanos,
    Micros,
    Millis,
    Secs,
}

impl UnitArg {
    fn unit(self) -> TickUnit {
        match self {
            UnitArg::Nanos => TickUnit::Nanos,
            UnitArg::Micros => TickUnit::Micros,
            UnitArg::Millis => TickUnit::Millis,
            UnitArg::Secs => TickUnit::Secs,
        }
    }
}

/// The handlers, in the order in which they stand on the command line.
#[derive(Clone, Default, Debug)]
struct Handlers(Vec<Named>);

impl Handlers {
    /// Bytes that they have put before each record.
    fn len(&self) -> usize {
        8 * self.0.len()
    }

    fn unit(&self) -> Option<TickUnit> {
        self.0.iter().find_map(|named| match named {
            Named::Timestamp(unit) => Some(unit.unit()),
            Named::Sequence => None,
        })
    }
}

impl Args for Handlers {
    fn augment_args(command: Command) -> Command {
        let timestamp = Arg::new("timestamp")
            .long("timestamp")
            .value_name("UNIT")
            .value_parser(clap::builder::EnumValueParser::<UnitArg>::new())
            .help("A TimestampHandler with this tick unit has put eight bytes before each record");
        let sequence = Arg::new("sequence")
            .long("sequence")
            .action(ArgAction::SetTrue)
            .help("A SequenceHandler has put eight bytes before each record");
        command.arg(timestamp).arg(sequence)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Handlers::augment_args(command)
    }
}

impl FromArgMatches for Handlers {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Handlers, clap::Error> {
        let timestamp = matches.get_one::<UnitArg>("timestamp");
        let sequence = matches.get_flag("sequence");
        let mut named = Vec::new();
        named.extend(timestamp.map(|unit| (matches.index_of("timestamp"), Named::Timestamp(*unit))));
        named.extend(sequence.then(|| (matches.index_of("sequence"), Named::Sequence)));
        named.sort_by_key(|(index, _)| *index);
        Ok(Handlers(named.into_iter().map(|(_, named)| named).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Handlers::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What its handlers have put before the records, as a whole.
#[derive(Default)]
struct Stamps {
    /// Nanoseconds since the Unix epoch.
    times: Option<RangeInclusive<u64>>,
    /// Records whose time is before that of the one before: in NEW time does not go back.
    back: u64,
    numbers: Option<RangeInclusive<u64>>,
    /// Whether a number is missing.
    has_gaps: bool,
}

const PROGRESS_STEP: u64 = 1 << 20;
/// In nanoseconds.
const DAY: u64 = 86_400_000_000_000;

impl ImportArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let for_journal = is_for_journal(&self.to, false)?;
        let old = Channel::open(&self.from)?;
        let bar = progress::bar(old.bytes_in_file().ok(), "checking");
        let found = old.check_up(|position| bar.set_position(position.offset()));
        bar.finish_and_clear();
        if let Err(error @ ReadError::Io { .. }) = found.outcome {
            return Err(Failure::from(error).about(&self.from));
        }
        let named = self.handlers.0.iter().fold(Channel::options(), |options, named| match named {
            Named::Timestamp(unit) => options.timestamp(unit.unit()),
            Named::Sequence => options.sequence(),
        });
        let stamps = self.stamps(&old, found.sequence)?;
        let old = named.open(&self.from)?;
        let first_sequence = match &stamps.numbers {
            Some(numbers) if !for_journal && !stamps.has_gaps && *numbers.start() <= 1 << 63 => {
                *numbers.start()
            }
            _ => 0,
        };
        let ticks = Rc::new(Cell::new(0));
        let stamp = self.handlers.unit().map(|unit| OriginalStamp { unit, ticks: Rc::clone(&ticks) });
        let copy = Copy { args: &self, old: &old, found: &found, ticks };
        let options = self.options(&old, &found, for_journal)?.first_sequence(first_sequence);
        let imported = match (for_journal, stamp) {
            (true, Some(stamp)) => copy.run(self.open_journal(options.stage(stamp))?),
            (true, None) => copy.run(self.open_journal(options)?),
            (false, Some(stamp)) => copy.run(options.stage(stamp).create(&self.to)?),
            (false, None) => copy.run(options.create(&self.to)?),
        }?;
        self.report(&found, &stamps, first_sequence, for_journal, imported)
    }

    /// Looks whether what is said of the handlers can be true of the first `count` records.
    fn stamps(&self, old: &Channel, count: u64) -> Result<Stamps, Failure> {
        let mut stamps = Stamps::default();
        if self.handlers.0.is_empty() || count == 0 {
            return Ok(stamps);
        }
        let wrong = |sequence: u64, why: &str| {
            let why =
                format!("record {sequence} {why}: name its handlers, in the order of their bytes, or none");
            Err(Failure::new(Exit::Usage, why).about(&self.from))
        };
        let mut reader = old.reader();
        while let Some(record) = reader.try_next()? {
            let sequence = record.sequence();
            if record.len() < self.handlers.len() {
                return wrong(sequence, "is shorter than what its handlers are said to put before it");
            }
            for (named, bytes) in self.handlers.0.iter().zip(record.as_chunks::<8>().0) {
                let value = u64::from_le_bytes(*bytes);
                match named {
                    Named::Timestamp(unit) => {
                        // A clock is wrong by hours; another unit, or another handler's bytes, by decades.
                        let time = value.checked_mul(unit.unit().nanos());
                        let Some(time) = time.filter(|time| time.saturating_add(DAY) >= old.created_nanos())
                        else {
                            return wrong(
                                sequence,
                                "has no time since the channel's creation where one is said to be",
                            );
                        };
                        stamps.back +=
                            u64::from(stamps.times.as_ref().is_some_and(|times| time < *times.end()));
                        widen(&mut stamps.times, time);
                    }
                    Named::Sequence => {
                        match &stamps.numbers {
                            Some(numbers) if value <= *numbers.end() => {
                                return wrong(sequence, "has no sequence where one is said to be");
                            }
                            Some(numbers) if value - numbers.end() > 1 => stamps.has_gaps = true,
                            _ => {}
                        }
                        widen(&mut stamps.numbers, value);
                    }
                }
            }
            if sequence + 1 >= count {
                break;
            }
        }
        Ok(stamps)
    }

    fn options(&self, old: &Channel, found: &CheckUp, for_journal: bool) -> Result<WriterOptions, Failure> {
        // A record takes here what it took there, the mark behind it too.
        let needed = found.position.offset() + 2 * WORD;
        let capacity = match for_journal {
            true => self.settings()?.roll_bytes,
            false => needed.max(old.capacity()).next_multiple_of(4096),
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

    /// How the journal rolls and what it keeps, as it remembers it.
    fn settings(&self) -> Result<kekbit::JournalSettings, Failure> {
        let before = if self.to.is_dir() { Journal::settings(&self.to)? } else { None };
        Ok(before.unwrap_or_default())
    }

    fn open_journal<C: Chain>(&self, channels: WriterOptions<C>) -> Result<Journal<C>, Failure> {
        Ok(Journal::options().channels(channels).settings(&self.settings()?).open(&self.to)?)
    }

    fn report(
        &self,
        found: &CheckUp,
        stamps: &Stamps,
        first_sequence: u64,
        for_journal: bool,
        imported: Imported,
    ) -> Result<Exit, Failure> {
        let loss = found.outcome.as_ref().ok().and_then(|end| end.loss);
        let damage = match &found.outcome {
            Ok(end) if end.state == State::CutOff => remark(end),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let is_numbered =
            !for_journal && stamps.numbers.as_ref().is_some_and(|n| *n.start() == first_sequence);
        let is_numbered = is_numbered && !stamps.has_gaps;
        if self.json {
            print_json(&Report {
                from: self.from.display().to_string(),
                to: self.to.display().to_string(),
                records: imported.records,
                bytes: imported.bytes,
                state: state(found),
                tail: found.position.offset(),
                loss: loss.as_ref().map(JsonLoss::of),
                damage: damage.clone(),
                first_time: stamps.times.as_ref().map(|times| rfc3339(*times.start())),
                last_time: stamps.times.as_ref().map(|times| rfc3339(*times.end())),
                raised_times: stamps.back,
                first_number: stamps.numbers.as_ref().map(|numbers| *numbers.start()),
                last_number: stamps.numbers.as_ref().map(|numbers| *numbers.end()),
                numbers_kept: stamps.numbers.is_some().then_some(is_numbered),
            })?;
        }
        let (from, to) = (self.from.display(), self.to.display());
        if let Some(times) = &stamps.times {
            let (first, last) = (rfc3339(*times.start()), rfc3339(*times.end()));
            note(format_args!("{from}: its records are from {first} to {last}"));
        }
        if stamps.back > 0 {
            let raised = counted(stamps.back, "record");
            note(format_args!(
                "{from}: the clock went back: {raised} got a time before them, since none goes back in {to}"
            ));
        }
        if let Some(numbers) = stamps.numbers.as_ref().filter(|_| !is_numbered) {
            let why = if for_journal { "a journal has its own" } else { "some are missing between them" };
            let (first, last) = (numbers.start(), numbers.end());
            note(format_args!("{from}: its numbers {first} to {last} are not those of {to}: {why}"));
        }
        let records =
            format!("{} ({})", counted(imported.records, "record"), counted(imported.bytes, "byte"));
        match (&found.outcome, damage) {
            (Err(_), Some(damage)) => {
                note(format_args!("{from}: {damage}; {to} has the {records} before it"))
            }
            (Ok(EndPoint { position, .. }), Some(damage)) => {
                note(format_args!(
                    "{from}: cut off at position {position}: {damage}; {to} has the {records} before it"
                ));
            }
            (Ok(end), None) if end.state == State::Unfinished => {
                let why = remark(end).unwrap_or_default();
                note(format_args!("{from}: unfinished: {why}; {to} has the {records} that are there by now"));
                return Ok(Exit::Done);
            }
            _ => {
                note(format_args!("{from}: no damage; {to} has its {records}"));
                return Ok(Exit::Done);
            }
        }
        Ok(Exit::Damage)
    }
}

/// Bytes of a length, and of a mark.
const WORD: u64 = 8;

fn state(found: &CheckUp) -> String {
    found.outcome.as_ref().map_or_else(|_| "corrupt".to_owned(), |end| end.state.to_string())
}

fn widen(range: &mut Option<RangeInclusive<u64>>, value: u64) {
    let (first, last) = range.take().map_or((value, value), RangeInclusive::into_inner);
    *range = Some(first.min(value)..=last.max(value));
}

/// Puts the time that a record had in OLD before it.
struct OriginalStamp {
    unit: TickUnit,
    ticks: Rc<Cell<u64>>,
}

impl Handler for OriginalStamp {
    fn describe(&self) -> StageInfo {
        Timestamp::new(self.unit).describe()
    }

    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&self.ticks.get().to_le_bytes());
        Ok(())
    }
}

/// From OLD to NEW.
struct Copy<'a> {
    args: &'a ImportArgs,
    old: &'a Channel,
    found: &'a CheckUp,
    ticks: Rc<Cell<u64>>,
}

struct Imported {
    records: u64,
    bytes: u64,
}

impl Copy<'_> {
    /// Appends everything that was found. However that ends, what was appended stays, and NEW is closed.
    fn run(self, mut sink: impl Sink) -> Result<Imported, Failure> {
        let bar = progress::bar(Some(self.found.position.offset()), "importing");
        let mut imported = Imported { records: 0, bytes: 0 };
        let outcome = self.append_all(&mut sink, &bar, &mut imported);
        bar.finish_and_clear();
        let closed = sink.close();
        let written =
            format!("{} of {} were copied", imported.records, counted(self.found.sequence, "record"));
        let to = &self.args.to;
        outcome.map_err(|failure| failure.and(&written))?;
        closed.map_err(|error| Failure::from(error).about(to).and(&written))?;
        Ok(imported)
    }

    fn append_all(
        &self,
        sink: &mut impl Sink,
        bar: &ProgressBar,
        imported: &mut Imported,
    ) -> Result<(), Failure> {
        let (mut reader, mut shown) = (self.old.reader(), 0);
        let unit = self.args.handlers.unit().map_or(1, TickUnit::nanos);
        while imported.records < self.found.sequence {
            // It has been there: what is wrong now has become so.
            let next = reader.try_next().map_err(|error| Failure::from(error).about(&self.args.from))?;
            let Some(record) = next else {
                let why = "it has fewer records than a moment ago: somebody has changed it";
                return Err(Failure::new(Exit::Damage, why).about(&self.args.from));
            };
            if let Some(nanos) = record.timestamp_nanos() {
                self.ticks.set(self.ticks.get().max(nanos / unit));
            }
            sink.append(record.payload()).map_err(|error| Failure::from(error).about(&self.args.to))?;
            imported.records += 1;
            imported.bytes += record.payload().len() as u64;
            let at = record.position().offset();
            if at >= shown {
                bar.set_position(at);
                shown = at + PROGRESS_STEP;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Report {
    from: String,
    to: String,
    records: u64,
    /// Of their payloads.
    bytes: u64,
    /// Of OLD: `closed`, `unfinished`, `cut-off` or `corrupt`.
    state: String,
    /// Position in OLD behind the last record.
    tail: u64,
    loss: Option<JsonLoss>,
    damage: Option<String>,
    first_time: Option<String>,
    last_time: Option<String>,
    /// Records whose time was before that of one before them, and is not any more.
    raised_times: u64,
    first_number: Option<u64>,
    last_number: Option<u64>,
    /// Whether the numbers are the sequences of the records in NEW.
    numbers_kept: Option<bool>,
}
