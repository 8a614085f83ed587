//! What a journal's rolls do to the appends around them.
//!
//! One thread appends and looks at the clock around each append; a follower with a named cursor reads along in another. An append that
//! finds itself at position 0 is the one that has rolled; the three behind it are those that meet a new channel.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use kekbit::{Durability, Journal, Roll, Wait, Writer};

use crate::Result;
use crate::alone::Figure;
use crate::clock::now_ns;
use crate::histogram::Latencies;
use crate::roles::pin;

/// Appends behind a roll that are recorded apart.
const AFTER: u64 = 3;
/// Records between two commits of the follower.
const COMMITS: u64 = 256;

pub(crate) const ORDINARY: &str = "kekbit, journal, ordinary appends";
pub(crate) const BEHIND: &str = "kekbit, journal, three appends after a roll";
pub(crate) const ROLLING: &str = "kekbit, journal, the append that rolls";

/// Measures so many rolls of channels of `segment` bytes. The writer and the follower have a core each, as long as there are two; the
/// journal's own thread is where the scheduler puts it.
pub(crate) fn measure(
    dir: &Path,
    size: usize,
    rolls: u64,
    segment: u64,
    cores: [usize; 2],
) -> Result<Vec<Figure>> {
    let path = dir.join("journal");
    let channels = Writer::options().max_record_len(size as u64).durability(Durability::Never);
    let options = Journal::options().channels(channels).roll(Roll::Bytes(segment));
    let mut journal = options.retain_count(4).retain_for_cursors(true).open(&path)?;
    let (payload, stop) = (vec![0x5A; size], AtomicBool::new(false));
    let mut cursor = Journal::reader(&path)?.cursor("follower")?;
    let (mut ordinary, mut rolling, mut behind) = (Latencies::new()?, Latencies::new()?, Latencies::new()?);
    std::thread::scope(|scope| -> Result<()> {
        let stop = &stop;
        let following = scope.spawn(move || -> std::result::Result<u64, String> {
            pin(cores[1]).map_err(|error| error.to_string())?;
            let mut records = 0;
            while cursor.next(Wait::spin().until(stop)).map_err(|error| error.to_string())?.is_some() {
                records += 1;
                if records % COMMITS == 0 {
                    cursor.commit();
                }
            }
            Ok(records)
        });
        pin(cores[0])?;
        let (mut rolled, mut since) = (0, u64::MAX);
        while rolled <= rolls {
            let begun = now_ns();
            let at = journal.append(&payload)?;
            let took = now_ns() - begun;
            if at.position.offset() == 0 {
                (rolled, since) = (rolled + 1, 0);
                // The first channel has not been rolled to.
                if rolled > 1 {
                    rolling.record(took);
                }
                continue;
            }
            since = since.saturating_add(1);
            let class = if rolled > 1 && since <= AFTER { &mut behind } else { &mut ordinary };
            class.record(took);
        }
        stop.store(true, Ordering::Relaxed);
        let read = following.join().map_err(|_| "the follower has panicked")??;
        if read == 0 || read > journal.next_sequence() {
            return Err(format!("{} records, {read} followed", journal.next_sequence()).into());
        }
        Ok(())
    })?;
    let of = |(peer, latencies): (&str, Latencies)| {
        let figures = latencies.figures().into_iter();
        figures
            .map(|(measure, value)| Figure::of(format!("{size} bytes"), peer, &measure, value))
            .collect::<Vec<_>>()
    };
    Ok([(ORDINARY, ordinary), (BEHIND, behind), (ROLLING, rolling)].map(of).concat())
}
