//! What 0.3's handlers have put before the records of OLD: as it is said, whether that can be, and what it looks like if nothing is
//! said.

use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use kekbit::TickUnit;
use kekbit::legacy::{Channel, ReadOptions};

use crate::exit::{Exit, Failure};
use crate::values;

/// A handler of 0.3, by the eight bytes that it has put before each record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    Timestamp(TickUnit),
    Sequence,
}

/// The handlers, in the order in which they stand on the command line.
#[derive(Clone, Default, Debug)]
pub(super) struct Handlers(Vec<Named>);

impl Handlers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that they have put before each record.
    fn len(&self) -> usize {
        8 * self.0.len()
    }

    pub(super) fn unit(&self) -> Option<TickUnit> {
        self.0.iter().find_map(|named| match named {
            Named::Timestamp(unit) => Some(*unit),
            Named::Sequence => None,
        })
    }

    /// Takes their bytes off.
    pub(super) fn options(&self) -> ReadOptions {
        self.0.iter().fold(Channel::options(), |options, named| match named {
            Named::Timestamp(unit) => options.timestamp(*unit),
            Named::Sequence => options.sequence(),
        })
    }
}

impl Args for Handlers {
    fn augment_args(command: Command) -> Command {
        let timestamp = Arg::new("timestamp")
            .long("timestamp")
            .value_name("UNIT")
            .value_parser(values::tick)
            .help("A TimestampHandler with this tick unit has put eight bytes before each record: ns, us, ms or s");
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
        let timestamp = matches.get_one::<TickUnit>("timestamp");
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
pub(super) struct Stamps {
    /// Nanoseconds since the Unix epoch.
    pub(super) times: Option<RangeInclusive<u64>>,
    /// Records whose time is before that of the one before: in NEW time does not go back.
    pub(super) back: u64,
    pub(super) numbers: Option<RangeInclusive<u64>>,
    /// Whether a number is missing.
    pub(super) has_gaps: bool,
}

/// In nanoseconds.
const DAY: u64 = 86_400_000_000_000;

impl Stamps {
    /// Looks whether what is said of the handlers can be true of the first `count` records.
    pub(super) fn of(handlers: &Handlers, old: &Channel, count: u64) -> Result<Stamps, Failure> {
        let mut stamps = Stamps::default();
        if handlers.is_empty() || count == 0 {
            return Ok(stamps);
        }
        let wrong = |sequence: u64, why: &str| {
            let why =
                format!("record {sequence} {why}: name its handlers, in the order of their bytes, or none");
            Err(Failure::new(Exit::Usage, why).about(old.path()))
        };
        let mut reader = old.reader();
        while let Some(record) = reader.try_next()? {
            let sequence = record.sequence();
            if record.len() < handlers.len() {
                return wrong(sequence, "is shorter than what its handlers are said to put before it");
            }
            for (named, bytes) in handlers.0.iter().zip(record.as_chunks::<8>().0) {
                let value = u64::from_le_bytes(*bytes);
                match named {
                    Named::Timestamp(unit) => {
                        // A clock is wrong by hours; another unit, or another handler's bytes, by decades.
                        let time = value.checked_mul(unit.nanos());
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
}

fn widen(range: &mut Option<RangeInclusive<u64>>, value: u64) {
    let (first, last) = range.take().map_or((value, value), RangeInclusive::into_inner);
    *range = Some(first.min(value)..=last.max(value));
}

/// Records that are looked at for times.
const LOOKED_AT: u64 = 100;

/// The unit in which the first eight bytes of every one of the first `count` records, or of the first hundred, are a time between the
/// creation of the channel and now: a TimestampHandler has put them there, in all likelihood.
pub(super) fn likely_unit(old: &Channel, count: u64) -> Option<TickUnit> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let (created, now) = (old.created_nanos(), u64::try_from(now.as_nanos()).ok()?);
    if created == 0 {
        // Then every small number would be one.
        return None;
    }
    let (mut reader, mut units) = (old.reader(), TickUnit::ALL.to_vec());
    for _ in 0..count.min(LOOKED_AT) {
        // What cannot be read is told by those who copy it.
        let record = reader.try_next().ok().flatten()?;
        let value = u64::from_le_bytes(*record.first_chunk()?);
        units.retain(|unit| {
            // A time is rounded down to its unit, so that it may be before the creation by less than one.
            let first = created - created % unit.nanos();
            value.checked_mul(unit.nanos()).is_some_and(|time| (first..=now).contains(&time))
        });
    }
    if count == 0 { None } else { units.first().copied() }
}
