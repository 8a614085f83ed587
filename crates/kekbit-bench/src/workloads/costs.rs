//! How what kekbit does grows with the capacity of a channel and with what has been written to it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kekbit::{Channel, Checksum, Durability, Prepare, Start, Writer};
use nix::fcntl::{FallocateFlags, fallocate};

use crate::Result;
use crate::alone::Figure;
use crate::clock::now_ns;
use crate::payload::Outgoing;

/// The name of the peer of all these figures.
const KEKBIT: &str = "kekbit";
const SIZE: usize = 96;

/// Does it, and says how many nanoseconds it took.
fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begun = now_ns();
    let done = what()?;
    Ok((done, (now_ns() - begun) as f64))
}

fn append(writer: &mut Writer, outgoing: &mut Outgoing<0>, records: u64) -> Result<()> {
    for _ in 0..records {
        writer.append(outgoing.next())?;
    }
    Ok(())
}

/// A channel of this capacity, of which only the beginning is used: the file is as long as what has been reserved.
pub(crate) fn capacity(dir: &Path, capacity: u64, records: u64) -> Result<Vec<Figure>> {
    let case = human(capacity);
    let path = dir.join("capacity.kek");
    let options = Writer::options().capacity(capacity).durability(Durability::Never);
    let (mut writer, create) = timed(|| Ok(options.create(&path)?))?;
    let mut outgoing = Outgoing::<0>::new(SIZE)?;
    let ((), appends) = timed(|| append(&mut writer, &mut outgoing, records))?;
    let (channel, open) = timed(|| Ok(Channel::open(&path)?))?;
    let (_, open_end) = timed(|| Ok(channel.reader(Start::End)?))?;
    if channel.end_point()?.sequence != records {
        return Err("the records are not there".into());
    }
    drop(channel);
    let ((), close) = timed(|| Ok(writer.close()?))?;
    let figures = [
        ("ns/create", create),
        ("ns/record", appends / records as f64),
        ("ns/open", open),
        ("ns/find the end", open_end),
        ("ns/close", close),
    ];
    Ok(figures.map(|(measure, value)| Figure::of(case.clone(), KEKBIT, measure, value)).into())
}

/// Bytes of the records that fill a channel, and of those that are punched out of the file at once.
const FILLER: usize = (1 << 20) - 64;
const PAGE: u64 = 4096;
/// Small records at the end of each stretch, among which one seeks.
const SMALL: u64 = 20_000;
const SEEKS: u64 = 100;

/// One channel that grows to these lengths: what appending, opening and seeking cost then.
///
/// So that 64 GiB need neither memory nor disk, it is filled with records of nearly 1 MiB (which makes as many entries of the
/// index as small ones would) that are claimed and committed without being written, and whose pages are given back to the
/// file system at once. So there is no checksum here, and pages are made on demand.
pub(crate) fn length(dir: &Path, lengths: &[u64]) -> Result<Vec<Figure>> {
    let path = dir.join("length.kek");
    let longest = lengths.iter().copied().max().ok_or("no length")?;
    let mut writer = Writer::options()
        .capacity(longest + (64 << 20))
        .checksum(Checksum::None)
        .prepare(Prepare::OnDemand)
        .durability(Durability::Never)
        .create(&path)?;
    let file = File::options().read(true).write(true).open(&path)?;
    let mut data = [0; 8];
    // Offset of the data, by FORMAT.md.
    file.read_exact_at(&mut data, 160)?;
    let data = u64::from_le_bytes(data);
    let mut outgoing = Outgoing::<0>::new(SIZE)?;
    let created = SystemTime::now();
    let mut figures = Vec::new();
    for length in lengths {
        while writer.tail().offset() + FILLER as u64 + 8 < *length {
            let at = data + writer.claim(FILLER)?.commit(FILLER)?.position.offset();
            // Whole pages that hold nothing but the payload.
            let (from, to) = ((at + 8).next_multiple_of(PAGE), (at + FILLER as u64) / PAGE * PAGE);
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, punch, i64::try_from(from)?, i64::try_from(to - from)?)?;
        }
        let ((), appends) = timed(|| append(&mut writer, &mut outgoing, SMALL))?;
        let channel = Channel::open(&path)?;
        let records = writer.next_sequence();
        // Evenly spread, in an order without a pattern.
        let picks = (0..SEEKS).map(|n| (n * 61 % SEEKS * 2 + 1) as f64 / (2 * SEEKS) as f64);
        let lived = created.elapsed()?;
        let ((), open) = timed(|| {
            let mut reader = Channel::open(&path)?.reader(Start::End)?;
            if reader.sequence() != records || reader.try_next()?.is_some() {
                return Err("that is not the end".into());
            }
            Ok(())
        })?;
        let ((), by_sequence) = timed(|| {
            for part in picks.clone() {
                let wanted = (part * records as f64) as u64;
                let mut reader = channel.reader(Start::Sequence(wanted))?;
                if reader.try_next()?.map(|record| record.sequence()) != Some(wanted) {
                    return Err(format!("record {wanted} was not found").into());
                }
            }
            Ok(())
        })?;
        let ((), by_time) = timed(|| {
            for part in picks.clone() {
                let wanted = created + Duration::from_secs_f64(part * lived.as_secs_f64());
                if channel.reader(Start::Time(wanted))?.try_next()?.is_none() {
                    return Err("there is nothing at that time".into());
                }
            }
            Ok(())
        })?;
        let measures = [
            ("ns/record", appends / SMALL as f64),
            ("ns/open at the end", open),
            ("ns/seek to a sequence", by_sequence / SEEKS as f64),
            ("ns/seek to a time", by_time / SEEKS as f64),
        ];
        figures.extend(measures.map(|(measure, value)| Figure::of(human(*length), KEKBIT, measure, value)));
    }
    writer.close()?;
    Ok(figures)
}

/// What making the pages of a file costs that holds so many records, all at once.
pub(crate) fn populate(dir: &Path, size: usize, records: u64) -> Result<Vec<Figure>> {
    let len = crate::peers::frame_len(size) as u64 * records;
    let (_, time) = timed(|| {
        let map = crate::peers::new_map(&dir.join("populate"), len)?;
        Ok(map.advise(memmap2::Advice::PopulateWrite)?)
    })?;
    let figures = [("ns/record", time / records as f64), ("records", records as f64)];
    Ok(figures.map(|(measure, value)| Figure::of(format!("{size} bytes"), "populate", measure, value)).into())
}

/// Bytes, as people write them.
pub(crate) fn human(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(bits, _)| bytes > 0 && bytes.is_multiple_of(1 << bits)) {
        Some((bits, unit)) => format!("{} {unit}", bytes >> bits),
        None => format!("{bytes} bytes"),
    }
}
