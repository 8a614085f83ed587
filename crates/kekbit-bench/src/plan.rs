//! What is to be measured: which peers, at which sizes and rates.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::Result;
use crate::peer::Workload;
use crate::peers::{self, Entry};
use crate::roles::{Role, Side};
use crate::run::RunArgs;

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
    /// Round trips.
    Pingpong,
    /// Latencies at a given rate.
    OpenLoop,
}

/// Figures with their measures.
pub(crate) type Figures = Vec<(String, f64)>;

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
}

/// Jobs in groups that are compared with each other, and what has to be left out, with the reason.
pub(crate) fn plan(args: &RunArgs) -> Result<(Vec<Vec<Job>>, Vec<String>)> {
    crate::run::check_dir(&args.dir)?;
    let kinds = if args.workloads.is_empty() { Kind::value_variants() } else { &args.workloads };
    let (mut groups, mut skipped) = (Vec::new(), Vec::new());
    let entries: Vec<_> = peers::entries().into_iter().filter(|entry| wanted(&entry.name, args)).collect();
    let (entries, missing): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .map(|entry| ((entry.command)().map(drop), entry))
        .partition(|(there, _)| there.is_ok());
    for (error, entry) in missing {
        let why = error.err().map(|error| error.to_string()).unwrap_or_default();
        let line = format!("{}: skipped: {why}", entry.name);
        eprintln!("{line}");
        skipped.push(line);
    }
    let entries: Vec<_> = entries.into_iter().map(|(_, entry)| entry).collect();
    for kind in kinds {
        groups.extend(roles(*kind, &entries, args));
    }
    groups.retain(|group| !group.is_empty());
    if groups.is_empty() {
        return Err("nothing to measure: no peer with such a name takes part in these workloads".into());
    }
    Ok((groups, skipped))
}

fn wanted(name: &str, args: &RunArgs) -> bool {
    args.peers.is_empty() || args.peers.iter().any(|part| name.contains(part.as_str()))
}

/// A workload that peers run in processes, at all its sizes and rates.
fn roles(kind: Kind, entries: &[Entry], args: &RunArgs) -> Vec<Vec<Job>> {
    let (workload, sizes): (_, &[usize]) = match kind {
        Kind::Append => (Workload::Append, &[96, 1024]),
        Kind::Stream => (Workload::Stream, &[32, 96, 256, 1024]),
        Kind::Fresh => (Workload::Fresh, &[96, 1024]),
        Kind::Sustained => (Workload::Sustained, &[96]),
        Kind::Pingpong => (Workload::Pingpong, &[96]),
        Kind::OpenLoop => (Workload::OpenLoop, &[256]),
    };
    let sizes = if args.sizes.is_empty() { sizes } else { &args.sizes };
    let no_rate = [None];
    let rates: Vec<Option<f64>> = args.rates.iter().copied().map(Some).collect();
    let rates: &[_] = if kind == Kind::OpenLoop { &rates } else { &no_rate };
    let mut groups = Vec::new();
    for (size, rate) in sizes.iter().flat_map(|size| rates.iter().map(move |rate| (*size, *rate))) {
        let case = match rate {
            Some(rate) => format!("{size} bytes, {rate}/s"),
            None => format!("{size} bytes"),
        };
        let taking_part = entries.iter().filter(|entry| entry.workloads.contains(&workload));
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

fn work(workload: Workload, entry: &Entry, size: usize, rate: Option<f64>, args: &RunArgs) -> Work {
    let timed = match workload {
        Workload::Sustained => Some(args.seconds.unwrap_or(60.0)),
        Workload::OpenLoop => Some(args.seconds.unwrap_or(30.0)),
        _ => None,
    };
    let frame = (size as u64 + 15) & !7;
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
