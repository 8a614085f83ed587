//! The coordinator: measures every peer in processes of its own, in rounds that are interleaved, since absolute figures
//! drift on shared machines and only ratios within a round mean something.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::alone::{Alone, Figure, What};
use crate::part::{Part, Patience};
use crate::peers::foreign;
use crate::plan::{Job, Work, plan};
use crate::roles::{Outcome, Role, Side};
use crate::sample::{self, Sample};
use crate::workloads::command;
use crate::{Result, histogram, promises};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// What to measure; everything if none is named.
    #[arg(long = "workload", num_args = 1..)]
    pub(crate) workloads: Vec<crate::plan::Kind>,
    /// Only peers whose names contain one of these.
    #[arg(long = "peer", num_args = 1..)]
    pub(crate) peers: Vec<String>,
    /// Rounds of each case that the file of samples is to hold in the end.
    #[arg(long, default_value_t = 15)]
    pub(crate) rounds: u32,
    /// The file of samples, to which each is added as soon as it is measured. A run that was interrupted goes on with the
    /// next round. What the peers promise is beside it, in `peers.json`.
    #[arg(long, default_value = "samples.jsonl")]
    pub(crate) out: PathBuf,
    /// Where the peers put their files: in memory, or on a disk.
    #[arg(long, default_value = "/dev/shm")]
    pub(crate) dir: PathBuf,
    /// Seconds that a measurement takes: where the time is the load (sustained: 60, open loop: 30), or at the most, by a
    /// trial beforehand, where records are counted (1).
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Records of a measurement, without a trial.
    #[arg(long)]
    pub(crate) records: Option<u64>,
    /// Bytes of a record, in place of each workload's own.
    #[arg(long = "size", num_args = 1..)]
    pub(crate) sizes: Vec<usize>,
    /// Records a second of the open loop.
    #[arg(long = "rate", num_args = 1.., default_values_t = [100_000.0, 1_000_000.0])]
    pub(crate) rates: Vec<f64>,
    /// Bytes that the records of a burst may take, with their frames.
    #[arg(long, default_value_t = 1 << 30)]
    pub(crate) space: u64,
    /// Bytes of a file, for peers that go from file to file.
    #[arg(long, default_value_t = 64 << 20)]
    pub(crate) segment: u64,
    /// Cores of the sender and of the receivers.
    #[arg(long, value_delimiter = ',', num_args = 1.., default_values_t = [0, 1])]
    pub(crate) cores: Vec<usize>,
    /// Capacities of channels of which the cost is told, in GiB.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_values_t = [1.0, 4.0, 16.0, 64.0])]
    pub(crate) capacities: Vec<f64>,
    /// Lengths of channels of which the cost is told, in GiB, ascending.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_values_t = [0.0625, 1.0, 16.0, 64.0])]
    pub(crate) lengths: Vec<f64>,
    /// The command `kek`, if it is not beside this program.
    #[arg(long)]
    pub(crate) kek: Option<PathBuf>,
    /// Seconds after which a peer that should have ended is killed.
    #[arg(long, default_value_t = 120.0)]
    pub(crate) deadline: f64,
}

/// Trips or records of a trial.
const TRIAL: u64 = 20_000;

pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let done = if args.out.exists() { sample::read(&args.out)? } else { Vec::new() };
    let groups = plan(args)?;
    promises::add(&args.out.with_file_name(promises::FILE), promises::all())?;
    let mut run = Run { args, stop, bar: ProgressBar::hidden(), failures: Vec::new() };
    let mut rounds: Vec<_> = groups.into_iter().map(|group| (next_round(&done, &group), group)).collect();
    for (first, group) in rounds.iter().filter(|(first, _)| *first >= args.rounds) {
        eprintln!("{}, {}: {first} rounds are there already", group[0].workload, group[0].case);
    }
    rounds.retain(|(first, _)| *first < args.rounds);
    for (_, group) in &mut rounds {
        run.try_out(group);
    }
    run.tell(&estimate(&rounds, args.rounds));
    run.bar =
        bar(rounds.iter().map(|(first, group)| group.len() as u64 * u64::from(args.rounds - first)).sum());
    for (first, group) in &rounds {
        for round in *first..args.rounds {
            for turn in 0..group.len() {
                if run.is_stopped() {
                    return Err(run.summary("interrupted").into());
                }
                run.measure(&group[(round as usize + turn) % group.len()], round)?;
            }
        }
    }
    run.bar.finish_and_clear();
    if run.failures.is_empty() { Ok(()) } else { Err(run.summary("not everything was measured").into()) }
}

/// How much there is to do, in a line.
fn estimate(rounds: &[(u32, Vec<Job>)], wanted: u32) -> String {
    // What comes on top of the measured time: processes that start, memory that is made and given back.
    const AROUND: f64 = 1.0;
    // Processes of their own and commands take as long as they take: some seconds.
    const ALONE: f64 = 4.0;
    let (mut count, mut seconds) = (0, 0.0);
    for (first, group) in rounds {
        let times = wanted - first;
        let each = group.iter().map(|job| match &job.work {
            Work::Roles { seconds, .. } => seconds + AROUND,
            Work::Alone(_) | Work::Command { .. } => ALONE,
        });
        count += group.len() * times as usize;
        seconds += each.sum::<f64>() * f64::from(times);
    }
    format!("{count} measurements, about {:.0} minutes", (seconds / 60.0).ceil())
}

/// The round that follows those in `done`.
fn next_round(done: &[Sample], group: &[Job]) -> u32 {
    // A process of its own names cases and peers by itself, but keeps to its workload.
    let is_of = |sample: &&Sample| {
        group.iter().any(|job| {
            let named = match &job.work {
                Work::Alone(alone) if alone.what == What::Length || alone.what == What::Scan => true,
                _ => (&job.case, &job.peer) == (&sample.case, &sample.peer),
            };
            job.workload == sample.workload && named
        })
    };
    done.iter().filter(is_of).map(|sample| sample.round + 1).max().unwrap_or(0)
}

fn bar(total: u64) -> ProgressBar {
    // The template is ours, and sound.
    let style = ProgressStyle::with_template("[{bar:30}] {pos} of {len}, {eta} left: {msg}");
    let bar = ProgressBar::new(total).with_style(style.expect("a sound template").progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

struct Run<'a> {
    args: &'a RunArgs,
    stop: Arc<AtomicBool>,
    bar: ProgressBar,
    /// What was not measured, and why.
    failures: Vec<String>,
}

impl Run<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn summary(&self, what: &str) -> String {
        self.failures.iter().fold(what.to_owned(), |text, failure| text + "\n  " + failure)
    }

    fn tell(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// How long a measurement may take that is to take so many seconds.
    fn patience(&self, seconds: f64) -> Patience {
        let seconds = self.args.deadline + 2.0 * seconds;
        Patience { until: Instant::now() + Duration::from_secs_f64(seconds), stop: Arc::clone(&self.stop) }
    }

    /// Measures a little of each, to find out how many records a measurement may have. What fails is left out.
    fn try_out(&mut self, group: &mut Vec<Job>) {
        group.retain_mut(|job| {
            let Work::Roles { role, most: Some(most), .. } = &mut job.work else { return true };
            if role.total().is_some() || self.is_stopped() {
                return true;
            }
            role.records = Some(TRIAL.min(*most));
            let figures = self.figures(job, 0);
            let Work::Roles { role, most: Some(most), seconds, .. } = &mut job.work else { return true };
            match figures {
                Ok(figures) => {
                    let each = figures.iter().find(|figure| figure.measure == "ns/record");
                    let each = each.map_or(1.0, |figure| figure.value.max(1.0));
                    role.records = Some(((*seconds * 1e9 / each) as u64).clamp(TRIAL.min(*most), *most));
                    true
                }
                Err(error) => {
                    self.fail(job, &*error);
                    false
                }
            }
        });
    }

    fn fail(&mut self, job: &Job, error: &dyn std::error::Error) {
        let failure = format!("{}, {}, {}: failed: {error}", job.workload, job.case, job.peer);
        self.tell(&failure);
        self.failures.push(failure);
    }

    /// Measures once, and keeps what came out.
    fn measure(&mut self, job: &Job, round: u32) -> Result<()> {
        let what = format!("{}, {}, {}", job.workload, job.case, job.peer);
        self.bar.set_message(what.clone());
        let begun = Instant::now();
        match self.figures(job, round) {
            Ok(figures) => {
                let took = begun.elapsed().as_secs_f64();
                self.tell(&format!("round {round}, {what}: {} ({took:.1} s)", told(job, &figures)));
                let samples = figures.into_iter().map(|figure| Sample {
                    workload: job.workload.clone(),
                    case: figure.case,
                    peer: figure.peer,
                    round,
                    measure: figure.measure,
                    value: figure.value,
                });
                sample::append(&self.args.out, &samples.collect::<Vec<_>>())?;
            }
            Err(error) if !self.is_stopped() => self.fail(job, &*error),
            Err(_) => {}
        }
        self.bar.inc(1);
        Ok(())
    }

    fn figures(&self, job: &Job, round: u32) -> Result<Vec<Figure>> {
        // Gone with all that is in it when this is over, however it ends.
        let dir = tempfile::Builder::new().prefix("kekbit-bench-").tempdir_in(&self.args.dir)?;
        let cores = &self.args.cores;
        let of_this_job = |figures: Vec<(String, f64)>| {
            let figure =
                |(measure, value): (String, _)| Figure::of(job.case.clone(), &job.peer, &measure, value);
            figures.into_iter().map(figure).collect()
        };
        match &job.work {
            Work::Roles { command, role, receivers, seconds, .. } => {
                let role = Role { dir: dir.path().to_owned(), ..role.clone() };
                let patience = self.patience(*seconds);
                let played = play(*command, &role, *receivers, cores, &patience);
                foreign::clear_away(dir.path())?;
                let (sent, received) = played?;
                figures_of(&role, &sent, &received).map(of_this_job)
            }
            Work::Alone(alone) => {
                let alone = Alone { dir: dir.path().to_owned(), round, ..alone.clone() };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(alone.arguments());
                let mut part = Part::start("process", command, self.patience(self.args.deadline))?;
                let figures = part.outcome()?;
                part.end()?;
                Ok(figures)
            }
            Work::Command { tool, kek, lines } => {
                let patience = self.patience(0.0);
                let time = command::measure(*tool, kek, dir.path(), *lines, cores, &patience)?;
                Ok(of_this_job(vec![("ns/record".into(), time / *lines as f64)]))
            }
        }
    }
}

/// Figures in a line.
fn told(job: &Job, figures: &[Figure]) -> String {
    let of = |figure: &Figure| {
        let whose = if figure.peer == job.peer && figure.case == job.case {
            String::new()
        } else {
            format!("{}, {}: ", figure.case, figure.peer)
        };
        format!("{whose}{} {}", digits(figure.value), figure.measure)
    };
    figures.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// Three digits, as far as there are more.
fn digits(value: f64) -> String {
    let decimals = (2 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 9) as usize;
    format!("{value:.decimals$}")
}

/// Lets a sender and its receivers play their roles.
fn play(
    command: fn() -> Result<Command>,
    role: &Role,
    receivers: usize,
    cores: &[usize],
    patience: &Patience,
) -> Result<(Outcome, Vec<Outcome>)> {
    let start = |what, side, core| {
        let mut command = command()?;
        command.args(Role { side, core, ..role.clone() }.arguments());
        Part::start(what, command, patience.clone())
    };
    let mut sender = start("sender", Side::Sender, cores[0])?;
    sender.expect("created")?;
    let others = if cores.len() > 1 { &cores[1..] } else { cores };
    let mut parts = (0..receivers)
        .map(|n| start("receiver", Side::Receiver, others[n % others.len()]))
        .collect::<Result<Vec<_>>>()?;
    for part in parts.iter_mut().chain([&mut sender]) {
        part.expect("ready")?;
    }
    for part in parts.iter_mut().chain([&mut sender]) {
        part.go()?;
    }
    // A receiver that fails says so at once, while its sender may wait for it for ever.
    let received = parts.iter_mut().map(Part::outcome).collect::<Result<Vec<Outcome>>>()?;
    let sent = sender.outcome()?;
    for part in parts.into_iter().chain([sender]) {
        part.end()?;
    }
    Ok((sent, received))
}

/// What is told of a measurement.
fn figures_of(role: &Role, sent: &Outcome, received: &[Outcome]) -> Result<Vec<(String, f64)>> {
    for outcome in received {
        if outcome.records != sent.records {
            return Err(format!("{} records sent, {} received", sent.records, outcome.records).into());
        }
    }
    if role.total().is_some_and(|total| total != sent.records) || sent.records == 0 {
        return Err(format!("{} records sent instead of {:?}", sent.records, role.total()).into());
    }
    let ended = received.iter().chain([sent]).map(|outcome| outcome.ended_ns).max().unwrap_or(0);
    let elapsed = ended.checked_sub(sent.begun_ns).ok_or("ended before it began")?;
    let mut figures = vec![
        ("ns/record".to_owned(), elapsed as f64 / sent.records as f64),
        ("records".to_owned(), sent.records as f64),
    ];
    let histograms: Vec<_> =
        received.iter().chain([sent]).filter_map(|outcome| outcome.histogram.as_deref()).collect();
    for histogram in histograms {
        figures.extend(histogram::Latencies::decode(histogram)?.figures());
    }
    Ok(figures)
}

/// Whether a directory for measurements can be made there.
pub(crate) fn check_dir(dir: &Path) -> Result<()> {
    tempfile::tempdir_in(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(())
}
