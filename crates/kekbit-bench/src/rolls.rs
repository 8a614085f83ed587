//! What a journal's rolls do to the appends around them.
//!
//! One thread appends and looks at the clock around each append; a follower in another thread reads along. An append that finds
//! itself at position 0 is the one that has rolled; the three behind it are those that meet a new channel.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use kekbit::{Durability, Journal, Roll, Wait, Writer};

use crate::Result;
use crate::clock::now_ns;
use crate::histogram::Latencies;
use crate::roles::pin;

/// Appends behind a roll that are recorded apart.
const BEHIND: u64 = 3;

#[derive(clap::Args, Clone)]
pub(crate) struct RollsArgs {
    /// Rolls.
    #[arg(long, default_value_t = 1000)]
    rolls: u64,
    /// Bytes of a record.
    #[arg(long, default_value_t = 96)]
    size: usize,
    /// Bytes of a channel.
    #[arg(long, default_value_t = 4 << 20)]
    segment: u64,
    /// Where the journal goes.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// The cores of writer and follower.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    cores: Vec<usize>,
}

pub(crate) fn run(args: &RollsArgs) -> Result<()> {
    let &[writer, follower, ..] = &args.cores[..] else { return Err("two cores are needed".into()) };
    let dir = tempfile::tempdir_in(&args.dir)?;
    let path = dir.path().join("journal");
    let channels = Writer::options().max_record_len(args.size as u64).durability(Durability::Never);
    let mut journal =
        Journal::options().channels(channels).roll(Roll::Bytes(args.segment)).retain_count(4).open(&path)?;
    let (payload, stop) = (vec![0x5A; args.size], AtomicBool::new(false));
    let mut reader = Journal::reader(&path)?;
    let (mut ordinary, mut rolling, mut behind) = (Latencies::new()?, Latencies::new()?, Latencies::new()?);
    std::thread::scope(|scope| -> Result<()> {
        let stop = &stop;
        let following = scope.spawn(move || -> std::result::Result<u64, String> {
            pin(follower).map_err(|error| error.to_string())?;
            let mut records = 0;
            while reader.next(Wait::spin().until(stop)).map_err(|error| error.to_string())?.is_some() {
                records += 1;
            }
            Ok(records)
        });
        pin(writer)?;
        let (mut rolls, mut since) = (0, u64::MAX);
        while rolls <= args.rolls {
            let begun = now_ns();
            let at = journal.append(&payload)?;
            let took = now_ns() - begun;
            if at.position.offset() == 0 {
                (rolls, since) = (rolls + 1, 0);
                // The first channel has not been rolled to.
                if rolls > 1 {
                    rolling.record(took);
                }
                continue;
            }
            since = since.saturating_add(1);
            let class = if rolls > 1 && since <= BEHIND { &mut behind } else { &mut ordinary };
            class.record(took);
        }
        stop.store(true, Ordering::Relaxed);
        let read = following.join().map_err(|_| "the follower has panicked")??;
        println!("{} records, {read} followed, {} rolls", journal.next_sequence(), args.rolls);
        Ok(())
    })?;
    for (name, latencies) in [("ordinary", ordinary), ("rolling", rolling), ("the three behind", behind)] {
        let figures: Vec<_> =
            latencies.figures().into_iter().map(|(measure, value)| format!("{value} {measure}")).collect();
        println!("{name:<17} {}", figures.join("; "));
    }
    Ok(())
}
