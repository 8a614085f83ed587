//! What stages cost each append, beside the same append without any and beside what a stage cannot do without: its clock.
//!
//! One thread, prepared memory, a few hundred records of each kind in turn, so that whatever the machine is doing at the
//! time does it to all of them.

use std::hint::black_box;
use std::path::Path;
use std::time::SystemTime;

use kekbit::{Chain, Durability, Prepare, SequenceStamp, Timestamp, Writer, WriterOptions};

use crate::Result;
use crate::alone::Figure;
use crate::clock::now_ns;
use crate::payload::Outgoing;

pub(crate) const NONE: &str = "kekbit, no stage";
pub(crate) const TIMESTAMP: &str = "kekbit, timestamp";
pub(crate) const BOTH: &str = "kekbit, timestamp and sequence";
pub(crate) const CLOCK: &str = "clock, SystemTime::now";
pub(crate) const BOUND: &str = "clock, and 1.3 appends without a stage";

/// Records of one kind before those of the next.
const TURN: u64 = 500;

/// What appends one record, or does something else that is measured beside it.
type Act<'a> = Box<dyn FnMut(u64) -> Result<()> + 'a>;

pub(crate) fn measure(dir: &Path, size: usize, records: u64, round: u32) -> Result<Vec<Figure>> {
    let capacity = (size as u64 + 8 + 8 + 16).next_multiple_of(8) * (records + TURN) + 4096;
    let options = || Writer::options().capacity(capacity).prepare(Prepare::All).durability(Durability::Never);
    let mut acts: [(&str, Act<'_>); 4] = [
        (NONE, appending(options(), &dir.join("none.kek"), size)?),
        (TIMESTAMP, appending(options().stage(Timestamp::nanos()), &dir.join("timestamp.kek"), size)?),
        (
            BOTH,
            appending(options().stage(Timestamp::nanos()).stage(SequenceStamp), &dir.join("both.kek"), size)?,
        ),
        (
            CLOCK,
            Box::new(|count| {
                for _ in 0..count {
                    black_box(SystemTime::now());
                }
                Ok(())
            }),
        ),
    ];
    acts.rotate_left(round as usize % 4);
    let mut times = [0; 4];
    let turns = records.div_ceil(TURN);
    for _ in 0..turns {
        for ((_, act), time) in acts.iter_mut().zip(&mut times) {
            let begun = now_ns();
            act(TURN)?;
            *time += now_ns() - begun;
        }
    }
    let each = |time: u64| time as f64 / (turns * TURN) as f64;
    let mut measured: Vec<(&str, f64)> =
        acts.iter().zip(times).map(|((name, _), time)| (*name, each(time))).collect();
    let of = |wanted: &str| measured.iter().find(|(name, _)| *name == wanted).map(|(_, time)| *time);
    let bound = 1.3 * of(NONE).ok_or("no append")? + of(CLOCK).ok_or("no clock")?;
    measured.push((BOUND, bound));
    let case = format!("{size} bytes");
    let figure = |(peer, value): (&str, f64)| Figure::of(case.clone(), peer, "ns/record", value);
    Ok(measured.into_iter().map(figure).collect())
}

/// Appends so many records each time. The calls into it are one for [`TURN`] records.
fn appending<'a, C: Chain + 'a>(options: WriterOptions<C>, path: &Path, size: usize) -> Result<Act<'a>> {
    let (mut writer, mut outgoing) = (options.create(path)?, Outgoing::<0>::new(size)?);
    Ok(Box::new(move |count| {
        for _ in 0..count {
            writer.append(outgoing.next())?;
        }
        Ok(())
    }))
}
