//! What kekbit costs, beside a bare loop, its predecessor and its peers: the same workloads through each, in processes of
//! their own, in rounds that are interleaved.
//!
//! ```text
//! cargo run --release -p kekbit-bench -- run
//! cargo run --release -p kekbit-bench -- run --workload stream --peer raw kekbit --rounds 5 --out stream.jsonl
//! cargo run --release -p kekbit-bench -- durable --dir /var/tmp
//! ```
//!
//! In the order in which one asks: what is measured (`plan`), by whom (`run`, `part`), in which processes (`roles`), with what
//! in the records (`payload`), how (`workloads`), through what (`peers`, by the traits in `peer`), and what is left of it
//! (`sample`, `promises`). Then what it means: `figures` (samples in order), `stats` (ratios with their intervals), `goals`,
//! and `report`, which writes BENCHMARKS.md.

mod alone;
mod clock;
// The very checksum of the library, so that the bare loop does the same work.
#[allow(dead_code, reason = "the bare loop needs one function of it")]
#[path = "../../kekbit/src/layout/crc.rs"]
mod crc;
mod durable;
mod figures;
mod goals;
mod hiccups;
mod histogram;
mod once;
mod part;
mod payload;
mod peer;
mod peers;
mod plan;
mod promises;
mod report;
mod roles;
mod run;
mod sample;
mod stats;
mod workloads;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Failure of a workload, whatever the reason.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "What kekbit costs, beside a bare loop, its predecessor and its peers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures the workloads through all peers, and keeps samples.
    Run(run::RunArgs),
    /// Writes BENCHMARKS.md from samples.
    Report(report::ReportArgs),
    /// Describes this machine, as JSON.
    Machine(report::MachineArgs),
    /// Records that are durable one by one, beside the raw disk, okaywal and SQLite.
    Durable(durable::DurableArgs),
    /// What a sync of one record makes the device write.
    SyncBytes(durable::SyncBytesArgs),
    /// What the machine itself does to latencies.
    Hiccups(hiccups::HiccupsArgs),
    /// Appends once through one peer, then reads once: for `strace -c`, `valgrind --tool=callgrind` and `perf`.
    Once(once::OnceArgs),
    #[command(hide = true)]
    Role(roles::Role),
    #[command(hide = true)]
    Alone(alone::Alone),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Machine(args) => report::describe_machine(&args),
        Command::Durable(args) => durable::run(&args),
        Command::SyncBytes(args) => durable::sync_bytes(&args),
        Command::Hiccups(args) => hiccups::run(&args),
        Command::Once(args) => once::run(&args),
        Command::Role(role) => roles::run(&role),
        Command::Alone(alone) => alone::run(&alone),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kekbit-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
