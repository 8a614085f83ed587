//! What kekbit costs: the same workload through a bare loop, this kekbit and kekbit 0.3.5, in one run, with the rounds
//! interleaved, since absolute figures drift on shared machines and only ratios within a run mean something.
//!
//! ```text
//! cargo run --release -p kekbit-bench -- append --dir /dev/shm
//! cargo run --release -p kekbit-bench -- stream --dir /dev/shm --size 96
//! ```

/// The very checksum of the library, so that the bare loop does the same work.
#[allow(dead_code, reason = "the bare loop needs one function of it")]
#[path = "../../kekbit/src/layout/crc.rs"]
mod crc;
mod durable;
mod new;
mod old;
#[allow(dead_code, reason = "the workloads are about to be built on it")]
mod peer;
mod raw;
#[allow(dead_code, reason = "the workloads are about to be built on it")]
mod sample;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

/// Failure of a workload, whatever the reason.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "What kekbit costs, beside a bare loop and kekbit 0.3.5, in one run")]
struct Cli {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(clap::Args, Clone)]
struct Load {
    /// Where the files go.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Bytes of a record.
    #[arg(long, default_value_t = 96)]
    size: usize,
    /// Records of a round.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Rounds of each peer.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

#[derive(Subcommand)]
enum Workload {
    /// Appends alone, one thread, nobody reads.
    Append(Load),
    /// From a writing process to a reading process.
    Stream(Load),
    /// Records that are durable one by one, beside the raw disk, okaywal and SQLite.
    Durable(durable::DurableArgs),
    /// What a sync of one record makes the device write.
    SyncBytes(durable::SyncBytesArgs),
    /// Appends once through one peer, then reads once: for `strace -c`, `valgrind --tool=callgrind` and `perf`.
    Once {
        /// The peer, by its name.
        #[arg(long, default_value = "kekbit, prepared")]
        peer: String,
        /// Also read what was appended.
        #[arg(long)]
        read: bool,
        #[command(flatten)]
        load: Load,
    },
    #[command(hide = true)]
    Reader { peer: String, path: PathBuf, records: u64 },
}

/// Appends a payload so many times.
type Append = Box<dyn FnMut(&[u8], u64) -> Result<()>>;

/// Reads so many records, touching each, and says how many bytes there were.
type Read = Box<dyn FnMut(u64) -> Result<u64>>;

/// Something that carries records through a file.
trait Peer {
    /// As it is shown and found again.
    fn name(&self) -> &'static str;
    /// Creates the file, with its memory prepared if the peer can, and is ready to append.
    fn writer(&self, path: &Path, size: usize, records: u64) -> Result<Append>;
    /// Opens the file, with its memory prepared if the peer can, and is ready to read.
    fn reader(&self, path: &Path) -> Result<Read>;
}

fn peers() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(raw::Raw { prepared: true }),
        Box::new(new::New { prepare: kekbit::Prepare::All, checksum: kekbit::Checksum::Crc32c }),
        Box::new(raw::Raw { prepared: false }),
        Box::new(new::New { prepare: kekbit::Prepare::default(), checksum: kekbit::Checksum::Crc32c }),
        Box::new(old::Old),
    ]
}

fn main() -> Result<()> {
    match Cli::parse().workload {
        Workload::Append(load) => compare(&load, append),
        Workload::Stream(load) => compare(&load, stream),
        Workload::Durable(args) => durable::run(&args),
        Workload::SyncBytes(args) => durable::sync_bytes(&args),
        Workload::Once { peer, read, load } => {
            let dir = tempfile::tempdir_in(&load.dir)?;
            let (path, peer) = (dir.path().join("file"), find(&peer)?);
            let mut writer = peer.writer(&path, load.size, load.records)?;
            writer(&vec![0x5A; load.size], load.records)?;
            if read {
                println!("{} bytes", peer.reader(&path)?(load.records)?);
            }
            Ok(())
        }
        Workload::Reader { peer, path, records } => {
            pin(1)?;
            let mut read = find(&peer)?.reader(&path)?;
            println!("ready");
            println!("{}", read(records)?);
            Ok(())
        }
    }
}

fn find(name: &str) -> Result<Box<dyn Peer>> {
    Ok(peers().into_iter().find(|peer| peer.name() == name).ok_or("no such peer")?)
}

fn compare(load: &Load, run: fn(&dyn Peer, &Path, &Load) -> Result<Duration>) -> Result<()> {
    pin(0)?;
    let peers = peers();
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); peers.len()];
    for round in 0..load.rounds {
        for turn in 0..peers.len() {
            let which = (round + turn) % peers.len();
            let dir = tempfile::tempdir_in(&load.dir)?;
            times[which].push(run(&*peers[which], &dir.path().join("file"), load)?);
        }
    }
    let median = |which: usize| {
        let mut sorted = times[which].clone();
        sorted.sort();
        sorted[sorted.len() / 2].as_nanos() as f64 / load.records as f64
    };
    println!(
        "{:24} {:>10} {:>14} {:>20} {:>20}",
        "", "ns/record", "million/s", "of raw, prepared", "of raw, fresh"
    );
    for (which, peer) in peers.iter().enumerate() {
        let ns = median(which);
        println!(
            "{:24} {:>10.1} {:>14.1} {:>20.2} {:>20.2}",
            peer.name(),
            ns,
            1e3 / ns,
            ns / median(0),
            ns / median(2)
        );
    }
    Ok(())
}

fn append(peer: &dyn Peer, path: &Path, load: &Load) -> Result<Duration> {
    let payload = vec![0x5A; load.size];
    let mut writer = peer.writer(path, load.size, load.records)?;
    let begun = Instant::now();
    writer(&payload, load.records)?;
    Ok(begun.elapsed())
}

fn stream(peer: &dyn Peer, path: &Path, load: &Load) -> Result<Duration> {
    let payload = vec![0x5A; load.size];
    let mut writer = peer.writer(path, load.size, load.records)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["reader", peer.name()])
        .arg(path)
        .arg(load.records.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    if lines.next().ok_or("the reader has gone")?? != "ready" {
        return Err("the reader is not ready".into());
    }
    let begun = Instant::now();
    writer(&payload, load.records)?;
    let read: u64 = lines.next().ok_or("the reader has gone")??.parse()?;
    let elapsed = begun.elapsed();
    child.wait()?;
    if read != load.records * load.size as u64 {
        return Err(format!("{}: {read} bytes arrived", peer.name()).into());
    }
    Ok(elapsed)
}

/// Keeps this process on one core: writer and reader each have their own.
fn pin(core: usize) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(core)?;
    // On a machine with one core there is nothing to choose.
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    Ok(())
}
