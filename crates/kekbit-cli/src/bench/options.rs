//! What can be asked for, and whether it makes sense.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bench::part::Role;
use crate::bench::plan::{Amount, Plan, WaitFor};
use crate::bench::{Bench, Case, clock, place};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::machine;
use crate::values::{self, Sync, counted, friendly};
use crate::write::ChecksumArg;

/// How much of what.
#[derive(Args, Debug)]
struct LoadArgs {
    /// Bytes of a record
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "96")]
    size: u64,

    /// Records in a round, besides the warm-up
    #[arg(long, value_name = "N", value_parser = values::number)]
    records: Option<u64>,

    /// How long a round takes, besides the warm-up [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, conflicts_with = "records")]
    duration: Option<Duration>,

    /// How many rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,

    /// Bytes of a channel [default: what --records take, up to 1 GiB; otherwise 64 MiB, for `read` 256 MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    capacity: Option<u64>,

    /// Whether records carry a checksum
    #[arg(long, value_enum, default_value_t = ChecksumArg::Crc32c)]
    checksum: ChecksumArg,

    /// How pages are made ready before they are written, as for `kek write`
    #[arg(long, value_name = "HOW", value_parser = prepare, default_value = "inline")]
    prepare: String,

    /// How processes wait [default: spin if there is a core for each of them, otherwise yield]
    #[arg(long, value_enum)]
    wait: Option<WaitFor>,

    /// The cores to run on: the first for the writer, the others in turn for those who read
    #[arg(long, value_name = "CORE,CORE…", value_parser = cores)]
    pin: Option<Cores>,

    /// Where the channels are, in a directory that is removed in the end [default: the directory in memory, /dev/shm, if
    /// there is one; for `durable`, /var/tmp]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Cores(Vec<usize>);

fn cores(text: &str) -> Result<Cores, String> {
    machine::parse_list(text).map(Cores).ok_or_else(|| "expected cores, such as 0,1 or 2-5".to_owned())
}

/// The text, if it says how to prepare: it is told to other processes as it is.
fn prepare(text: &str) -> Result<String, String> {
    values::prepare(text).map(|_| text.to_owned())
}

fn warmup(text: &str) -> Result<Amount, String> {
    if let Ok(records) = text.parse() {
        return Ok(Amount::Records(records));
    }
    let nanos = values::duration(text).map(|duration| Amount::Nanos(nanos(duration)));
    nanos.map_err(|error| format!("{error}, or a number of records"))
}

/// Where the results go, beside standard output.
#[derive(Args, Debug)]
pub(crate) struct OutputArgs {
    /// One JSON object a line: the machine and the setting, then each round, then each result
    #[arg(long)]
    pub(crate) json: bool,

    /// Writes a page that shows everything: figures, pictures, options, the machine
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// An option of those workloads that have latencies.
    #[arg(skip)]
    pub(crate) hgrm: Option<PathBuf>,

    /// Shows no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LoopArgs {
    #[command(flatten)]
    load: LoadArgs,

    /// Records a second, each due at a time of its own; without it, as fast as possible
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<u64>,

    /// How much of each round is left out at its beginning: a duration, or a number of records, also 0 [default: a tenth
    /// of what is measured]
    #[arg(long, value_name = "DURATION|N", value_parser = warmup)]
    warmup: Option<Amount>,

    /// Writes the latencies of all rounds in HdrHistogram's text form, in nanoseconds; of several cases, one file for each
    /// into a directory
    #[arg(long, value_name = "FILE|DIR")]
    hgrm: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    with: LoopArgs,

    /// How many readers, from 1 to 64: several numbers are several cases
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_values_t = [1, 2, 4, 8],
          value_parser = clap::value_parser!(u64).range(1..=64))]
    readers: Vec<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct DurableArgs {
    #[command(flatten)]
    with: LoopArgs,

    /// When records are synced: `each`, or an interval; several are several cases
    #[arg(long, value_name = "WHEN,WHEN…", value_delimiter = ',', default_values = ["each", "10ms"], value_parser = sync)]
    sync: Vec<String>,
}

/// The greatest rate: a record a nanosecond.
const FASTEST: u64 = 1_000_000_000;

fn rate(text: &str) -> Result<u64, String> {
    let rate = values::number(text)?;
    if rate > FASTEST {
        return Err(format!(
            "{rate} records a second exceed {FASTEST}: without --rate it is as fast as possible"
        ));
    }
    Ok(rate)
}

fn sync(text: &str) -> Result<String, String> {
    match text.parse()? {
        Sync::None => {
            Err("nothing is durable without a sync: expected `each` or a duration such as 10ms".to_owned())
        }
        Sync::Each | Sync::Every(_) => Ok(text.to_owned()),
    }
}

/// What all cases have in common.
#[derive(Debug)]
pub(crate) struct Setting {
    /// As it was typed.
    pub(crate) command: String,
    pub(crate) rounds: u64,
    pub(crate) pins: Vec<usize>,
    pub(crate) dir: PathBuf,
    /// Nanoseconds for reading the clock.
    pub(crate) clock: f64,
}

/// Bytes of all records that go into one file by themselves.
const LARGE: u64 = 1 << 30;
const USUAL: u64 = 64 << 20;
const TO_READ: u64 = 256 << 20;
/// One record of how many is timed in a closed loop: a prime, so that it does not beat with the size of pages.
const STRIDE: u64 = 1021;

fn usage(message: impl Display) -> Failure {
    Failure::new(Exit::Usage, message)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl LoopArgs {
    pub(crate) fn write(self, clock: f64) -> Result<(Bench, OutputArgs), Failure> {
        let plan = Plan { times_appends: true, ..self.load.plan(&self, clock)? };
        let cases = vec![self.load.case("write", plan, vec![Role::Writer])?];
        self.bench("write", "records", "an append", cases, clock)
    }

    pub(crate) fn stream(self, clock: f64) -> Result<(Bench, OutputArgs), Failure> {
        let plan = self.load.plan(&self, clock)?;
        let cases = vec![self.load.case("stream", plan, vec![Role::Writer, Role::Reader])?];
        self.bench("stream", "records", "from the append to the reader", cases, clock)
    }

    pub(crate) fn pingpong(self, clock: f64) -> Result<(Bench, OutputArgs), Failure> {
        let plan = Plan { stride: 1, ..self.load.plan(&self, clock)? };
        let cases = vec![self.load.case("pingpong", plan, vec![Role::Ping, Role::Pong])?];
        self.bench("pingpong", "round trips", "there and back", cases, clock)
    }

    fn bench(
        self,
        verb: &'static str,
        unit: &'static str,
        latency: &str,
        cases: Vec<Case>,
        clock: f64,
    ) -> Result<(Bench, OutputArgs), Failure> {
        let from = if self.rate.is_some() { ", from when it was due" } else { "" };
        let latency = format!("{latency}{from}");
        let setting = self.load.setting(verb, clock);
        let output = OutputArgs { hgrm: self.hgrm, ..self.output };
        Ok((Bench { verb, unit, latency, cases, setting }, output))
    }
}

impl FanoutArgs {
    pub(crate) fn fanout(self, clock: f64) -> Result<(Bench, OutputArgs), Failure> {
        let FanoutArgs { with, readers } = self;
        let plan = with.load.plan(&with, clock)?;
        let case = |readers: &u64| {
            let mut roles = vec![Role::Writer];
            roles.extend((0..*readers).map(|_| Role::Reader));
            with.load.case(&counted(*readers, "reader"), plan.clone(), roles)
        };
        let cases = readers.iter().map(case).collect::<Result<_, _>>()?;
        with.bench("fanout", "records", "from the append to each reader", cases, clock)
    }
}

impl DurableArgs {
    pub(crate) fn durable(self, clock: f64) -> Result<(Bench, OutputArgs), Failure> {
        let DurableArgs { with, sync } = self;
        let plan = with.load.plan(&with, clock)?;
        let case = |sync: &String| {
            let plan = Plan { sync: Some(sync.clone()), ..plan.clone() };
            match plan.syncs_each() {
                // A sync takes so long that the clock does not count.
                true => {
                    let plan = Plan { stride: 1, times_appends: true, ..plan };
                    with.load.case("each synced", plan, vec![Role::Writer])
                }
                false => {
                    with.load.case(&format!("every {sync}"), plan, vec![Role::Writer, Role::DurableReader])
                }
            }
        };
        let cases = sync.iter().map(case).collect::<Result<_, _>>()?;
        with.bench("durable", "records", "from the append until durable", cases, clock)
    }
}

impl ReadArgs {
    pub(crate) fn read(self, clock: f64) -> Result<(Bench, OutputArgs), Failure> {
        let ReadArgs { load, output } = self;
        let takes = load.records.map(|records| load.takes(records)).transpose()?;
        let capacity = load.capacity.or(takes).unwrap_or(TO_READ);
        if let Some(takes) = takes.filter(|takes| *takes > capacity) {
            return Err(usage(format_args!(
                "{} records take {takes} bytes, more than --capacity {capacity}: what is scanned is one channel",
                load.records.unwrap_or(0)
            )));
        }
        let amount = load.duration.map_or(Amount::Records(1), |duration| Amount::Nanos(nanos(duration)));
        let mut plan = Plan { files: Some(1), capacity, ..load.basis(amount, None, clock)? };
        plan.scanned = load.records.unwrap_or_else(|| plan.per_file());
        let case = |name, verify| load.case(name, Plan { verify, ..plan.clone() }, vec![Role::Scan]);
        let mut cases = vec![case("not verified", false)?];
        if plan.checksum {
            cases.push(case("verified", true)?);
        }
        let setting = load.setting("read", clock);
        Ok((Bench { verb: "read", unit: "records", latency: String::new(), cases, setting }, output))
    }
}

impl LoadArgs {
    /// Bytes of the smallest channel that so many records fit.
    fn takes(&self, records: u64) -> Result<u64, Failure> {
        let bytes =
            records.checked_mul(Plan::frame(self.size()?)).and_then(|bytes| bytes.checked_add(4096 + 8));
        let bytes = bytes.filter(|bytes| *bytes < LARGEST);
        bytes.map(|bytes| bytes / 4096 * 4096).ok_or_else(|| {
            usage(format_args!("{records} records of {} bytes are more than any channel holds", self.size))
        })
    }

    fn size(&self) -> Result<usize, Failure> {
        match self.size {
            size @ 0..=LONGEST => Ok(size as usize),
            size => {
                Err(usage(format_args!("--size {size} exceeds the {LONGEST} bytes that a record can have")))
            }
        }
    }

    /// What all plans have in common, before it is known how many files there are.
    fn basis(&self, amount: Amount, rate: Option<u64>, clock: f64) -> Result<Plan, Failure> {
        Ok(Plan {
            size: self.size()?,
            capacity: self.capacity.unwrap_or(USUAL),
            files: None,
            checksum: matches!(self.checksum, ChecksumArg::Crc32c),
            prepare: self.prepare.clone(),
            sync: None,
            wait: WaitFor::Spin,
            warmup: Amount::Records(0),
            amount,
            rate,
            stride: rate.map_or(STRIDE, |rate| clock::stride(rate, clock)),
            times_appends: false,
            scanned: 0,
            verify: true,
        })
    }

    fn plan(&self, args: &LoopArgs, clock: f64) -> Result<Plan, Failure> {
        let amount = match self.records {
            Some(records) => Amount::Records(records),
            None => Amount::Nanos(nanos(self.duration.unwrap_or(Duration::from_secs(1)))),
        };
        let warmup = args.warmup.unwrap_or(match amount {
            Amount::Records(records) => Amount::Records(records / 10),
            Amount::Nanos(nanos) => Amount::Nanos(nanos / 10),
        });
        let mut plan = Plan { warmup, ..self.basis(amount, args.rate, clock)? };
        if let (Some(rate), Some(0)) = (args.rate, amount.records(args.rate)) {
            return Err(usage(format_args!(
                "at {rate} records a second none is due in the time: choose a longer --duration"
            )));
        }
        if let Some((warmup, more)) = plan.records() {
            let records = warmup.checked_add(more).filter(|records| *records < 1 << 62);
            let records = records.ok_or_else(|| usage("that is more records than anybody can wait for"))?;
            if self.capacity.is_none() {
                let takes =
                    self.takes(records).ok().filter(|takes| self.records.is_some() && *takes <= LARGE);
                plan.capacity = takes.unwrap_or(USUAL);
            }
            plan.files = Some(records.div_ceil(plan.per_file().max(1)));
        }
        Ok(plan)
    }

    /// A case, if it can be played at all.
    fn case(&self, name: &str, mut plan: Plan, roles: Vec<Role>) -> Result<Case, Failure> {
        let (size, capacity) = (plan.size, plan.capacity);
        if !(4096..LARGEST).contains(&capacity) {
            return Err(usage(format_args!("--capacity {capacity} is outside 4096 to {}", LARGEST - 1)));
        }
        if plan.per_file() == 0 {
            let least = Plan::frame(size) + 8;
            return Err(usage(format_args!(
                "--size {size} does not fit --capacity {capacity}: choose a capacity of at least {least} bytes"
            )));
        }
        let allowed = machine::allowed();
        if let (Some(pin), Some(allowed)) = (&self.pin, &allowed)
            && let Some(core) = pin.0.iter().find(|core| !allowed.contains(core))
        {
            let allowed = machine::write_list(allowed.iter().copied());
            return Err(usage(format_args!(
                "--pin: core {core} is not there, or not for this process, which may use {allowed}"
            )));
        }
        plan.wait = self.wait.unwrap_or_else(|| {
            let mut cores = match &self.pin {
                Some(pin) => pin.0.clone(),
                None => allowed.unwrap_or_default(),
            };
            cores.sort_unstable();
            cores.dedup();
            if cores.len() >= roles.len() { WaitFor::Spin } else { WaitFor::Yield }
        });
        Ok(Case { name: name.to_owned(), plan, roles })
    }

    fn setting(&self, verb: &str, clock: f64) -> Setting {
        let dir = self.dir.clone().unwrap_or_else(|| place::default(verb == "durable"));
        let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        Setting {
            command: std::iter::once("kek".to_owned()).chain(words).collect::<Vec<_>>().join(" "),
            rounds: self.rounds,
            pins: self.pin.clone().map_or_else(Vec::new, |pin| pin.0),
            dir,
            clock,
        }
    }
}

/// The longest record, and a capacity that none has.
const LONGEST: u64 = (1 << 28) - 1;
const LARGEST: u64 = (1 << 45) + 1;

/// A duration, or a number of things, in words.
pub(crate) fn amount(amount: Amount, unit: &str) -> String {
    match amount {
        Amount::Records(records) => format!("{} {unit}", human::count(records as f64)),
        Amount::Nanos(nanos) => friendly(Duration::from_nanos(nanos)),
    }
}
