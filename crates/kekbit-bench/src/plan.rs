//! What is to be measured: which peers, at which sizes and rates.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::Result;
use crate::alone::{Alone, What};
use crate::peer::Workload;
use crate::peers::{self, Entry, frame_len, settings};
use crate::roles::{Role, Side};
use crate::run::RunArgs;
use crate::workloads::command::{self, Tool};
use crate::workloads::costs::human;

/// What can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// One thread appends, nobody reads.
    Append,
    /// From sender to receiver, over prepared memory.
    Stream,
    /// From sender to receiver, with everything included.
    Fresh,
    /// From sender to receiver, for a minute, everything included.
    Sustained,
    /// The same through a journal, beside its predecessor and Aeron.
    Journal,
    /// What a journal's rolls do to the appends around them.
    Rolls,
    /// Round trips.
    Pingpong,
    /// Latencies at a given rate.
    OpenLoop,
    /// What stages cost an append.
    Stages,
    /// Walking over a closed channel.
    Scan,
    /// `kek write` and `kek cat` beside `cat`.
    Command,
    /// What each setting costs, and how cost grows with sizes and readers.
    Costs,
}

/// Something to be measured once a round.
pub(crate) struct Job {
    pub(crate) workload: String,
    pub(crate) case: String,
    pub(crate) peer: String,
    pub(crate) work: Work,
}

/// How it is measured.
pub(crate) enum Work {
    /// By processes that play roles.
    Roles {
        command: fn() -> Result<Command>,
        role: Role,
        receivers: usize,
        /// If the number of records is to be found out: how many there may be.
        most: Option<u64>,
        /// How long it is to take.
        seconds: f64,
    },
    /// By a process of its own, which names cases and peers itself.
    Alone(Alone),
    /// By a command, which this process feeds.
    Command { tool: Tool, kek: PathBuf, lines: u64 },
}

/// Jobs in groups that are compared with each other. What has to be left out, since its tools are missing, is named on
/// standard error, and is no failure.
pub(crate) fn plan(args: &RunArgs) -> Result<Vec<Vec<Job>>> {
    crate::run::check_dir(&args.dir)?;
    let kinds = if args.workloads.is_empty() { Kind::value_variants() } else { &args.workloads };
    let mut groups = Vec::new();
    let skip = |what: &str, why: &dyn std::fmt::Display| eprintln!("{what}: skipped: {why}");
    let mut entries = peers::entries();
    entries.retain(|entry| {
        wanted(&entry.name, args) && (entry.command)().inspect_err(|error| skip(&entry.name, error)).is_ok()
    });
    for kind in kinds {
        match kind {
            Kind::Scan => groups.push(vec![alone("scan", "96 bytes", scan(args))]),
            Kind::Stages => groups.push(vec![alone("stages", "96 bytes", process(What::Stages, args))]),
            Kind::Rolls => groups.push(vec![alone("rolls", "96 bytes", rolls(args))]),
            Kind::Command => match command::find_kek(args.kek.as_deref()) {
                Ok(kek) => groups.extend(commands(&kek, args)),
                Err(error) => skip("command", &error),
            },
            Kind::Costs => groups.extend(costs(args)?),
            Kind::Fresh => {
                let mut fresh = roles(*kind, &entries, args);
                add_populate(&mut fresh, args);
                groups.extend(fresh);
            }
            _ => groups.extend(roles(*kind, &entries, args)),
        }
    }
    groups.iter_mut().for_each(|group| group.retain(|job| wanted(&job.peer, args)));
    groups.retain(|group| !group.is_empty());
    if groups.is_empty() {
        return Err("nothing to measure: no peer with such a name takes part in these workloads".into());
    }
    Ok(groups)
}

fn wanted(name: &str, args: &RunArgs) -> bool {
    args.peers.is_empty() || args.peers.iter().any(|part| name.contains(part.as_str()))
}

/// What is compared with a journal: where there is more than one configuration, by the words with which they begin.
const JOURNALS: [&str; 3] = ["kekbit, journal", "kekbit 0.3.5", "Aeron"];

/// A workload that peers run in processes, at all its sizes and rates.
fn roles(kind: Kind, entries: &[Entry], args: &RunArgs) -> Vec<Vec<Job>> {
    let (workload, sizes): (_, &[usize]) = match kind {
        Kind::Append => (Workload::Append, &[96, 1024]),
        Kind::Stream => (Workload::Stream, &[32, 96, 256, 1024]),
        Kind::Fresh => (Workload::Fresh, &[96, 1024]),
        Kind::Sustained | Kind::Journal => (Workload::Sustained, &[96]),
        Kind::Pingpong => (Workload::Pingpong, &[96]),
        Kind::OpenLoop => (Workload::OpenLoop, &[256]),
        Kind::Scan | Kind::Rolls | Kind::Stages | Kind::Command | Kind::Costs => return Vec::new(),
    };
    let sizes = if args.sizes.is_empty() { sizes } else { &args.sizes };
    let rates: Vec<Option<f64>> = match kind {
        Kind::OpenLoop => args.rates.iter().copied().map(Some).collect(),
        _ => vec![None],
    };
    let mut groups = Vec::new();
    for (size, rate) in sizes.iter().flat_map(|size| rates.iter().map(move |rate| (*size, *rate))) {
        let case = match rate {
            Some(rate) => format!("{size} bytes, {rate}/s"),
            None => format!("{size} bytes"),
        };
        let taking_part =
            entries.iter().filter(|entry| entry.workloads.contains(&workload)).filter(|entry| {
                kind != Kind::Journal || JOURNALS.iter().any(|name| entry.name.starts_with(name))
            });
        let jobs = taking_part.map(|entry| Job {
            workload: name(kind),
            case: case.clone(),
            peer: entry.name.clone(),
            work: work(workload, entry, size, rate, args),
        });
        groups.push(jobs.collect());
    }
    groups
}

fn alone(workload: &str, case: &str, alone: Alone) -> Job {
    Job { workload: workload.into(), case: case.into(), peer: "kekbit".into(), work: Work::Alone(alone) }
}

fn process(what: What, args: &RunArgs) -> Alone {
    Alone {
        what,
        dir: PathBuf::new(),
        core: args.cores[0],
        other_core: args.cores.get(1).copied().unwrap_or(args.cores[0]),
        round: 0,
        size: 96,
        records: args.records.unwrap_or(1_000_000),
        bytes: Vec::new(),
    }
}

fn scan(args: &RunArgs) -> Alone {
    let records = args.records.unwrap_or(args.space / frame_len(96) as u64);
    Alone { records, ..process(What::Scan, args) }
}

fn rolls(args: &RunArgs) -> Alone {
    let bytes = vec![args.segment.min(ROLLED)];
    Alone { records: args.records.unwrap_or(ROLLS), bytes, ..process(What::Rolls, args) }
}

/// Rolls of a round, and bytes of a channel.
const ROLLS: u64 = 1000;
const ROLLED: u64 = 4 << 20;

/// Making pages without writing any record, beside those who write some.
fn add_populate(groups: &mut [Vec<Job>], args: &RunArgs) {
    for group in groups {
        let Some(Work::Roles { role, .. }) = group.first().map(|job| &job.work) else { continue };
        let size = role.size;
        let records = args.records.unwrap_or(args.space / frame_len(size) as u64);
        let case = group[0].case.clone();
        let work = Alone { size, records, ..process(What::Populate, args) };
        group.push(Job { peer: "populate".into(), ..alone("fresh", &case, work) });
    }
}

fn commands(kek: &Path, args: &RunArgs) -> Vec<Vec<Job>> {
    let job = |tool: Tool| Job {
        workload: "command".into(),
        case: tool.names().0.into(),
        peer: tool.names().1.into(),
        work: Work::Command {
            tool,
            kek: kek.to_owned(),
            lines: args.records.unwrap_or(args.space / 2 / command::LINE as u64),
        },
    };
    command::TOOLS.iter().map(|group| group.iter().map(|tool| job(*tool)).collect()).collect()
}

/// What settings cost, and how cost grows.
fn costs(args: &RunArgs) -> Result<Vec<Vec<Job>>> {
    let all = peers::entries();
    let job = |workload: &str, case: &str, entry: &Entry, role: Workload, size| Job {
        workload: workload.into(),
        case: case.into(),
        peer: entry.name.clone(),
        work: work(role, entry, size, None, args),
    };
    let jobs = |names: &[String], workload: &str, case: &str, role, size| -> Vec<Job> {
        let entries = all.iter().filter(|entry| names.contains(&entry.name));
        entries.map(|entry| job(workload, case, entry, role, size)).collect()
    };
    let (appending, waiting) = (settings::appending_names(), settings::waiting_names());
    let settings = |names: &[String], case, role| jobs(names, "cost of settings", case, role, 96);
    let mut groups = vec![settings(&appending, "append, 96 bytes", Workload::Append)];
    let everything = settings(&appending, "create, append, close, 96 bytes", Workload::Fresh);
    groups.push(with_receivers(everything, 0));
    groups.push(settings(&waiting, "round trip, 96 bytes", Workload::Pingpong));
    let checked = ["raw, prepared", "kekbit, prepared"].map(String::from);
    let unchecked = checked.clone().map(|name| name + ", no checksum");
    for size in SIZES {
        let names = [&checked[..], &unchecked[..]].concat();
        groups.push(jobs(&names, "cost of size", &human(size), Workload::Append, size as usize));
    }
    for readers in READERS {
        let group = jobs(&checked, "cost of readers", &readers.to_string(), Workload::Stream, 96);
        groups.push(with_receivers(group, readers));
    }
    for capacity in &args.capacities {
        let work = Alone { bytes: vec![gib(*capacity)?], ..process(What::Capacity, args) };
        groups.push(vec![alone("cost of capacity", &human(gib(*capacity)?), work)]);
    }
    let lengths = args.lengths.iter().map(|length| gib(*length)).collect::<Result<Vec<_>>>()?;
    if !lengths.is_empty() {
        groups.push(vec![alone(
            "cost of length",
            "",
            Alone { bytes: lengths, ..process(What::Length, args) },
        )]);
    }
    Ok(groups)
}

/// Bytes of a record, from what fits a word to what fills many pages.
const SIZES: [u64; 7] = [8, 32, 128, 512, 2048, 8192, 65536];
const READERS: [usize; 4] = [1, 2, 4, 8];

fn gib(gib: f64) -> Result<u64> {
    let bytes = (gib * f64::from(1 << 30)).round();
    if (4096.0..=(1_u64 << 45) as f64).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(format!("{gib} GiB are not between 4 KiB and 32 TiB").into())
    }
}

fn with_receivers(mut jobs: Vec<Job>, count: usize) -> Vec<Job> {
    for job in &mut jobs {
        if let Work::Roles { receivers, .. } = &mut job.work {
            *receivers = count;
        }
    }
    jobs
}

fn work(workload: Workload, entry: &Entry, size: usize, rate: Option<f64>, args: &RunArgs) -> Work {
    let timed = match workload {
        Workload::Sustained => Some(args.seconds.unwrap_or(60.0)),
        Workload::OpenLoop => Some(args.seconds.unwrap_or(30.0)),
        _ => None,
    };
    let frame = frame_len(size) as u64;
    let most = match workload {
        Workload::Pingpong => 1_000_000.min(args.space / frame),
        _ => args.space / frame,
    };
    Work::Roles {
        command: entry.command,
        role: Role {
            peer: entry.name.clone(),
            side: Side::Sender,
            workload,
            dir: PathBuf::new(),
            link: "link".into(),
            size,
            segment: args.segment,
            core: 0,
            records: if timed.is_some() { None } else { args.records },
            seconds: timed,
            rate,
        },
        receivers: usize::from(workload != Workload::Append),
        most: timed.is_none().then_some(most),
        seconds: timed.or(args.seconds).unwrap_or(1.0),
    }
}

fn name(kind: Kind) -> String {
    kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
