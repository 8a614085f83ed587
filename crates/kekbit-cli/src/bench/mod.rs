//! `kek bench`: how fast it is here.
//!
//! Each workload is played in rounds, each round by processes of its own, which are this program started again:
//!
//! - `options`: what is asked for, and whether it makes sense
//! - `plan`: what one round does; `cast`: its processes, from start to end; `part`: what each of them does
//! - `place`: where they are; `ring`: channels that follow one another; `pattern`: what is written and checked
//! - `clock`: time, and schedules; `timing`: taking times
//! - `result`: from reports to figures; `table`, `json`, `hgrm`, `page`: the figures for people and for programs;
//!   `sinks`: the files they go to

mod cast;
mod clock;
mod hgrm;
mod json;
mod options;
mod page;
pub(crate) mod part;
mod pattern;
mod place;
mod plan;
mod result;
mod ring;
mod sinks;
mod table;
mod timing;

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::bench::options::{DurableArgs, FanoutArgs, LoopArgs, OutputArgs, ReadArgs, Setting};
use crate::bench::part::Role;
use crate::bench::plan::{Amount, Plan};
use crate::bench::result::{Outcome, Summary};
use crate::bench::sinks::Sinks;
use crate::exit::{Exit, Failure, note};
use crate::machine::Machine;
use crate::output::{print, print_json};
use crate::progress;
use crate::signals::Signals;

/// Measure how fast channels are on this machine
///
/// Every writer and every reader is a process of its own. What is written is checked by whoever reads it, each byte of
/// each record; a difference ends the benchmark with exit code 1 and the position.
///
/// Without --rate the loop is closed: the next record follows as soon as the last is done, which tells the throughput.
/// Records are then timed one in about a thousand, since reading the clock takes longer than appending one.
///
/// With --rate the loop is open: each record is due at a time of its own, and its latency counts from then, whether it was
/// sent in time or not. A benchmark that waits for a slow record before it sends the next, and counts from when it was
/// sent, leaves out everything that would have been late because of it (coordinated omission); this one does not.
///
/// Everything is included by default: pages that are touched for the first time, the end of one channel and the beginning
/// of the next. A run of some --duration goes through a ring of three files, which are reused; one of --records fits one
/// file, if that takes no more than 1 GiB. With --prepare all and one file the pages are made ready before the time
/// begins, and the result says `burst`.
///
/// The figures of several rounds are shown as their median, with the least and the most. A warm-up at the beginning of each
/// round is left out.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek bench stream
  kek bench stream --size 256 --rate 1M --duration 30s --rounds 1 --hgrm stream.hgrm
  kek bench write --records 5M --prepare all
  kek bench pingpong --pin 0,1 --html pingpong.html
  kek bench durable --dir /var/tmp --sync each")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand, Debug)]
enum Workload {
    /// Append alone: one process, nobody reads
    Write(LoopArgs),
    /// Scan a closed channel, with and without computing its checksums
    ///
    /// The first pass opens the file and maps its pages; it is shown apart. In the end, when no time is taken any more,
    /// each byte is compared with what was written.
    Read(ReadArgs),
    /// One process writes, another reads
    Stream(LoopArgs),
    /// A record to another process and one back, through two channels
    Pingpong(LoopArgs),
    /// One process writes, several read
    Fanout(FanoutArgs),
    /// Make records durable: each one before its append returns, or all at an interval
    ///
    /// With `each`, a latency is how long an append takes. With an interval, it is how long after its append a record is
    /// seen by another process that reads only what is durable.
    Durable(DurableArgs),
}

/// One thing that is measured in each round.
#[derive(Debug)]
pub(crate) struct Case {
    name: String,
    plan: Plan,
    /// The first is the one whose records are counted.
    roles: Vec<Role>,
}

/// A workload, as it will be run.
#[derive(Debug)]
pub(crate) struct Bench {
    verb: &'static str,
    /// What is counted.
    unit: &'static str,
    /// What a latency is.
    latency: String,
    cases: Vec<Case>,
    setting: Setting,
}

impl BenchArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let signals = Signals::install().map_err(|error| Failure::io("cannot handle signals", error))?;
        let clock = clock::cost();
        let (bench, output) = match self.workload {
            Workload::Write(args) => args.write(clock)?,
            Workload::Read(args) => args.read(clock)?,
            Workload::Stream(args) => args.stream(clock)?,
            Workload::Pingpong(args) => args.pingpong(clock)?,
            Workload::Fanout(args) => args.fanout(clock)?,
            Workload::Durable(args) => args.durable(clock)?,
        };
        let played = bench.play(&output, &signals);
        match played {
            // Whoever was interrupted knows why.
            Err(failure) if signals.received().is_some() => {
                Ok(signals.received().map_or(failure.exit, Exit::Signal))
            }
            other => other.map(|()| Exit::Done),
        }
    }
}

impl Bench {
    fn play(&self, output: &OutputArgs, signals: &Signals) -> Result<(), Failure> {
        let sinks = Sinks::open(output, self)?;
        let dir = place::directory(&self.setting.dir, &self.cases)?;
        let machine = Machine::this(&self.setting.dir);
        if output.json {
            print_json(&json::machine(&machine, self))?;
        } else {
            print(table::head(self, &machine).as_bytes())?;
        }
        let rounds = self.rounds(dir.path(), output, signals)?;
        drop(dir);
        let summaries: Vec<Summary> = self
            .cases
            .iter()
            .zip(&rounds)
            .filter_map(|(case, rounds)| Summary::new(&case.name, case.plan.size, rounds))
            .collect();
        if output.json {
            summaries.iter().try_for_each(|summary| print_json(&json::result(self, summary)))?;
        } else {
            print(table::results(self, &summaries).as_bytes())?;
        }
        for summary in summaries.iter().filter(|summary| summary.cut_short) {
            note(format_args!(
                "{}: behind its schedule and cut short: the latencies say how far, choose a lower --rate",
                summary.name
            ));
        }
        sinks.write(self, &summaries, &machine)
    }

    /// The outcomes of each case. The rounds of the cases take turns, each round beginning with another one, so that a
    /// machine that gets slower or faster meanwhile does so for all.
    fn rounds(
        &self,
        dir: &Path,
        output: &OutputArgs,
        signals: &Signals,
    ) -> Result<Vec<Vec<Outcome>>, Failure> {
        const STEPS: u64 = 1000;
        let (rounds, count) = (self.setting.rounds, self.cases.len());
        let bar = progress::steps(rounds * count as u64 * STEPS, output.quiet);
        let filled = self.fill(dir, signals, |_| bar.set_message("writing what will be read"))?;
        let mut outcomes: Vec<Vec<Outcome>> = self.cases.iter().map(|_| Vec::new()).collect();
        let mut done = 0;
        for round in 0..rounds {
            for turn in 0..count {
                let index = (turn + round as usize) % count;
                let case = &self.cases[index];
                bar.set_message(format!("{}, round {} of {rounds}", case.name, round + 1));
                let here = match &filled {
                    Some(dir) => dir.clone(),
                    None => dir.join(format!("{round}-{index}")),
                };
                if filled.is_none() {
                    std::fs::create_dir(&here)
                        .map_err(|error| Failure::io("cannot create a directory", error))?;
                }
                let planned = case.planned_nanos();
                let tick = |elapsed: Duration| {
                    let part =
                        planned.map_or(0, |planned| elapsed.as_nanos() as u64 * STEPS / planned.max(1));
                    bar.set_position(done * STEPS + part.min(STEPS));
                };
                let reports = cast::play(&here, &case.plan, &case.roles, &self.setting.pins, signals, tick)?;
                let outcome = Outcome::new(&case.plan, &case.roles, &reports)?;
                if output.json {
                    bar.suspend(|| print_json(&json::round(self, case, round, &outcome)))?;
                }
                outcomes[index].push(outcome);
                if filled.is_none() {
                    // The next round needs the space.
                    std::fs::remove_dir_all(&here)
                        .map_err(|error| Failure::io("cannot remove a directory", error))?;
                }
                done += 1;
                bar.set_position(done * STEPS);
            }
        }
        bar.finish_and_clear();
        Ok(outcomes)
    }

    /// Writes what is read again and again, if there is such a thing.
    fn fill(
        &self,
        dir: &Path,
        signals: &Signals,
        tick: impl FnMut(Duration),
    ) -> Result<Option<std::path::PathBuf>, Failure> {
        let Some(case) = self.cases.first().filter(|case| case.roles == [Role::Scan]) else {
            return Ok(None);
        };
        let plan = Plan { amount: Amount::Records(case.plan.scanned), ..case.plan.clone() };
        cast::play(dir, &plan, &[Role::Writer], &self.setting.pins, signals, tick)?;
        Ok(Some(dir.to_owned()))
    }
}

impl Case {
    /// How long a round takes, if that is known.
    fn planned_nanos(&self) -> Option<u64> {
        let nanos = |amount| match (amount, self.plan.rate) {
            (Amount::Nanos(nanos), _) => Some(nanos),
            (Amount::Records(records), Some(rate)) => {
                u64::try_from(u128::from(records) * 1_000_000_000 / u128::from(rate)).ok()
            }
            _ => None,
        };
        Some(nanos(self.plan.warmup)?.saturating_add(nanos(self.plan.amount)?))
    }
}
