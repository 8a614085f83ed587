//! A scan of a closed channel in memory, by one thread: what walking over the frames costs through kekbit, beside a bare loop
//! over the same bytes.
//!
//! In the case `N bytes` a scan begins with opening the file and mapping its pages; in `N bytes, mapped before` it is the
//! second one over the same mapping. All of them add up the lengths of the records, and must come to the same sum.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use kekbit::{Channel, Durability, Start, Verify, Writer};
use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::Result;
use crate::alone::Figure;
use crate::clock::now_ns;
use crate::payload::Outgoing;
use crate::peers::frame_len;

/// Records, and the sum of their lengths.
type Sum = (u64, u64);

/// Opens the file and scans it twice: what it comes to, and nanoseconds from before it was opened and for the second time.
type Scan = fn(&Path) -> Result<(Sum, [u64; 2])>;

const SCANS: [(&str, Scan); 6] = [
    ("walk", walk::<false>),
    ("kekbit", iterator::<false>),
    ("kekbit, Reader", reader::<false>),
    ("walk, CRC", walk::<true>),
    ("kekbit, verified", iterator::<true>),
    ("kekbit, Reader, verified", reader::<true>),
];

pub(crate) fn measure(dir: &Path, size: usize, records: u64, round: u32) -> Result<Vec<Figure>> {
    let path = dir.join("scan.kek");
    let mut writer = Writer::options()
        .capacity((frame_len(size) as u64 * records + 16).max(4096))
        .max_record_len(size as u64)
        .durability(Durability::Never)
        .create(&path)?;
    let mut outgoing = Outgoing::<0>::new(size)?;
    for _ in 0..records {
        writer.append(outgoing.next())?;
    }
    writer.close()?;
    let mut figures = Vec::new();
    for turn in 0..SCANS.len() {
        let (peer, scan) = SCANS[(round as usize + turn) % SCANS.len()];
        let (sum, times) = scan(&path)?;
        if sum != (records, records * size as u64) {
            return Err(format!("{peer} has found {} records of {} bytes together", sum.0, sum.1).into());
        }
        let cases = [format!("{size} bytes"), format!("{size} bytes, mapped before")];
        for (case, nanoseconds) in cases.into_iter().zip(times) {
            figures.push(Figure::of(case, peer, "ns/record", nanoseconds as f64 / records as f64));
        }
    }
    Ok(figures)
}

/// Scans twice, of which the first time has begun at `begun`.
fn twice(begun: u64, mut scan: impl FnMut() -> Result<Sum>) -> Result<(Sum, [u64; 2])> {
    let sum = scan()?;
    let mapped = now_ns();
    if scan()? != sum {
        return Err("the second scan has found something else".into());
    }
    Ok((sum, [mapped - begun, now_ns() - mapped]))
}

/// Bytes that are mapped at once.
const STEP: usize = 256 << 10;

/// The bare loop: header word after header word, by their lengths, up to the end of the channel; with the CRC of each record
/// if that is asked for, which is thrown away. It maps pages a step ahead.
fn walk<const CRC: bool>(path: &Path) -> Result<(Sum, [u64; 2])> {
    let begun = now_ns();
    let file = File::open(path)?;
    // Offset of the data, by FORMAT.md.
    let mut data = [0; 8];
    file.read_exact_at(&mut data, 160)?;
    let data = usize::try_from(u64::from_le_bytes(data))?;
    let map: MmapRaw = MmapOptions::new().map_raw_read_only(&file)?;
    // SAFETY: nobody writes to the file, and it is as long as its map.
    let bytes = unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) };
    let frames = bytes.get(data..).ok_or("the file ends before its data")?;
    let mut mapped = data;
    twice(begun, || {
        let (mut at, mut sum, mut crc) = (0, (0, 0), 0);
        loop {
            let head = u64::from_le_bytes(*frames[at..].first_chunk().ok_or("the channel has no end")?);
            if head >> 60 != 1 {
                break;
            }
            let len = (head >> 32 & 0x0FFF_FFFF) as usize;
            if data + at + len + 16 > mapped && mapped < map.len() {
                let ahead = (len + STEP).min(map.len() - mapped);
                map.advise_range(Advice::PopulateRead, mapped, ahead)?;
                mapped += ahead;
            }
            if CRC {
                crc ^= crate::crc::crc32c_padded(&frames[at + 8..at + 8 + len]);
            }
            sum = (sum.0 + 1, sum.1 + len as u64);
            at += frame_len(len);
        }
        std::hint::black_box(crc);
        Ok(sum)
    })
}

fn open<const VERIFIED: bool>(path: &Path) -> Result<Channel> {
    let verify = if VERIFIED { Verify::Always } else { Verify::Never };
    Ok(Channel::options().verify(verify).open(path)?)
}

/// `Channel::records`.
fn iterator<const VERIFIED: bool>(path: &Path) -> Result<(Sum, [u64; 2])> {
    let begun = now_ns();
    let channel = open::<VERIFIED>(path)?;
    twice(begun, || {
        let mut sum = (0, 0);
        for record in channel.records() {
            sum = (sum.0 + 1, sum.1 + record?.len() as u64);
        }
        Ok(sum)
    })
}

/// `Reader::try_next`.
fn reader<const VERIFIED: bool>(path: &Path) -> Result<(Sum, [u64; 2])> {
    let begun = now_ns();
    let channel = open::<VERIFIED>(path)?;
    twice(begun, || {
        let mut reader = channel.reader(Start::Beginning)?;
        let mut sum = (0, 0);
        while let Some(record) = reader.try_next()? {
            sum = (sum.0 + 1, sum.1 + record.len() as u64);
        }
        Ok(sum)
    })
}
