//! Makes the sample files under `testdata/draft`, each with what a reader must find in it.
//!
//! `cargo run -p kekbit --features lz4 --example make_samples`, and after it `python3 testdata/worked.py`, which brings the worked
//! example of FORMAT.md up to date. Only needed when the format has changed: the salts are random, so that every run
//! makes other bytes.
//!
//! What a sample holds is written down from what was appended, not from what was read back, except for the times of
//! the timestamp stage, which nobody but the file knows.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kekbit::{
    AppendContext, AppendError, Appended, Channel, Checksum, CorrelationId, Handler, Lz4, SequenceStamp,
    StageError, StageInfo, TickUnit, Timestamp, Writer,
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Where the data region of every sample but `large` begins.
const DATA: usize = 12288;

fn main() -> Result {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/draft");
    fs::create_dir_all(&directory)?;
    let make = |name: &str| Sample::new(&directory, name);
    worked(make("worked")?)?;
    empty(make("empty")?)?;
    lengths(make("lengths")?)?;
    batch(make("batch")?)?;
    full(make("full")?)?;
    stages(make("stages")?)?;
    compressed(make("compressed")?)?;
    checksum_none(make("checksum-none")?)?;
    abandoned(make("abandoned")?)?;
    sealed(make("sealed")?)?;
    crashed(make("torn")?, Checksum::Crc32c, Some(5), End::Torn(5))?;
    crashed(make("torn-checksum-none")?, Checksum::None, None, End::Torn(4))?;
    crashed(make("corrupt-synced")?, Checksum::Crc32c, Some(1), End::Corrupt(1))?;
    cut_out(make("corrupt-hole")?, 8, 512)?;
    cut_out(make("corrupt-terminal")?, 4, 512)?;
    corrupt_payload(make("corrupt-payload")?)?;
    reused(make("reused")?, &directory)?;
    other_kinds(make("skippable")?, &[(3, 24), (12, 0), (15, 5)], None)?;
    other_kinds(make("unknown-kind")?, &[(7, 5)], Some(7))?;
    large(make("large")?)
}

/// A sample file in the making, and what is expected of it.
struct Sample {
    path: PathBuf,
    lines: String,
    next: u64,
}

impl Sample {
    fn new(directory: &Path, name: &str) -> Result<Sample> {
        let path = directory.join(format!("{name}.kek"));
        if path.exists() {
            fs::remove_file(&path)?;
        }
        Ok(Sample { path, lines: String::new(), next: 0 })
    }

    /// Expects `payload` where it was appended.
    fn expect(&mut self, at: Appended, payload: &[u8], more: &str) {
        let (seq, pos, len) = (at.sequence, at.position.offset(), payload.len());
        let data = match payload.first() {
            Some(first) if len > 64 && payload.iter().all(|byte| byte == first) => {
                format!(r#""fill":"{first:02x}""#)
            }
            _ => format!(r#""hex":"{}""#, payload.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        };
        writeln!(self.lines, r#"{{"seq":{seq},"pos":{pos},"len":{len},{data}{more}}}"#)
            .expect("strings grow");
        self.next = seq + 1;
    }

    fn append<C: kekbit::Chain>(&mut self, writer: &mut Writer<C>, payload: &[u8]) -> Result<Appended> {
        let at = writer.append(payload)?;
        self.expect(at, payload, "");
        Ok(at)
    }

    /// Writes down how it ends.
    fn end(mut self, state: &str, pos: u64, sealed: bool) -> Result {
        let next = self.next;
        writeln!(self.lines, r#"{{"end":"{state}","pos":{pos},"next":{next},"sealed":{sealed}}}"#)?;
        Ok(fs::write(self.path.with_extension("jsonl"), self.lines)?)
    }

    /// Writes down where the damage is.
    fn error(mut self, what: &str, pos: u64) -> Result {
        writeln!(self.lines, r#"{{"error":"{what}","pos":{pos}}}"#)?;
        Ok(fs::write(self.path.with_extension("jsonl"), self.lines)?)
    }

    /// Changes the file's bytes behind the library's back.
    fn damage(&self, change: impl FnOnce(&mut Vec<u8>)) -> Result {
        let mut bytes = fs::read(&self.path)?;
        change(&mut bytes);
        Ok(fs::write(&self.path, bytes)?)
    }
}

/// The example that FORMAT.md takes apart.
fn worked(mut sample: Sample) -> Result {
    let mut writer = Writer::options()
        .capacity(4096)
        .max_record_len(256)
        .timeout(Duration::from_secs(5))
        .tick(TickUnit::Millis)
        .writer_id(7)
        .channel_id(42)
        .first_sequence(100)
        .content_type("text/plain")
        .meta("venue", "XETR")
        .stage(Timestamp::nanos())
        .create(&sample.path)?;
    let payloads: [&[u8]; 2] = [b"buy 10", b"sell 5.5"];
    let mut at = Vec::new();
    for payload in payloads {
        at.push(writer.append(payload)?);
    }
    let tail = writer.tail().offset();
    writer.close()?;
    let channel = Channel::open(&sample.path)?;
    for (record, (at, payload)) in channel.records().zip(at.into_iter().zip(payloads)) {
        let time = record?.timestamp_nanos().ok_or("the stage puts a time in front")?;
        sample.expect(at, payload, &format!(r#","ts":{time}"#));
    }
    sample.end("closed", tail, true)
}

fn empty(sample: Sample) -> Result {
    Writer::options().capacity(4096).create(&sample.path)?.close()?;
    sample.end("closed", 0, true)
}

fn lengths(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4096).create(&sample.path)?;
    for len in [0, 1, 7, 8, 9, 96] {
        let payload: Vec<u8> = (0..len).map(|i| b'a' + i % 26).collect();
        sample.append(&mut writer, &payload)?;
    }
    let tail = writer.tail().offset();
    writer.close()?;
    sample.end("closed", tail, true)
}

fn batch(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4096).first_sequence(1_000_000).create(&sample.path)?;
    sample.append(&mut writer, b"alone")?;
    let mut batch = writer.batch();
    let payloads: [&[u8]; 4] = [b"", b"inner", b"eight...", b"last"];
    for payload in payloads {
        batch.push(payload)?;
    }
    let first = batch.commit()?;
    for (i, payload) in (0..).zip(payloads) {
        sample.expect(Appended { sequence: first.sequence + i, ..first }, payload, "");
    }
    sample.append(&mut writer, b"behind")?;
    let tail = writer.tail().offset();
    writer.close()?;
    sample.end("closed", tail, true)
}

fn full(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4096).max_record_len(504).create(&sample.path)?;
    loop {
        match writer.append(&[b'f'; 500]) {
            Ok(at) => sample.expect(at, &[b'f'; 500], ""),
            Err(AppendError::Full { .. }) => break,
            Err(other) => return Err(other.into()),
        }
    }
    let tail = writer.tail().offset();
    drop(writer);
    sample.end("full", tail, true)
}

/// A stage of nobody's: two bytes behind what it is given, which say how long that is.
struct Length;

impl Handler for Length {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: 1 << 16,
            version: 3,
            suffix_len: 2,
            name: "length".into(),
            params: b"le".to_vec(),
            ..StageInfo::default()
        }
    }

    fn after(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        suffix: &mut [u8],
    ) -> std::result::Result<(), StageError> {
        suffix.copy_from_slice(&u16::try_from(body.len())?.to_le_bytes());
        Ok(())
    }
}

fn stages(mut sample: Sample) -> Result {
    let mut writer = Writer::options()
        .capacity(4096)
        .first_sequence(7)
        .schema("trades v3")
        .meta("", "")
        .meta("ключ", "значение")
        .stage(Timestamp::new(TickUnit::Micros))
        .stage(Length)
        .stage(SequenceStamp)
        .create(&sample.path)?;
    let payloads: [&[u8]; 3] = [b"", b"one", b"twenty bytes of text"];
    let mut at = Vec::new();
    for payload in payloads {
        at.push(writer.append(payload)?);
    }
    let tail = writer.tail().offset();
    writer.close()?;
    let channel = Channel::open(&sample.path)?;
    for (record, (at, payload)) in channel.records().zip(at.into_iter().zip(payloads)) {
        let time = record?.timestamp_nanos().ok_or("the stage puts a time in front")?;
        sample.expect(at, payload, &format!(r#","ts":{time},"stamp":{}"#, at.sequence));
    }
    sample.end("closed", tail, true)
}

fn compressed(mut sample: Sample) -> Result {
    let correlation = CorrelationId::new();
    let mut writer = Writer::options()
        .capacity(8192)
        .stage(Timestamp::new(TickUnit::Millis))
        .stage(Lz4::new())
        .stage(SequenceStamp)
        .stage(correlation.clone())
        .create(&sample.path)?;
    let text = b"buy 10, sell 5, buy 10, sell 5, cancel 10; ".repeat(20);
    let payloads: [&[u8]; 5] = [b"", b"stays as it is", &[b'x'; 100], &text, &[b'y'; 5000]];
    let mut at = Vec::new();
    for (number, payload) in payloads.into_iter().enumerate() {
        correlation.set(u64::MAX - number as u64);
        at.push(writer.append(payload)?);
    }
    let tail = writer.tail().offset();
    writer.close()?;
    let channel = Channel::open(&sample.path)?;
    for (record, (at, payload)) in channel.shared_records().zip(at.into_iter().zip(payloads)) {
        let time = record?.record().timestamp_nanos().ok_or("the stage puts a time in front")?;
        let correlation = u64::MAX - at.sequence;
        let more = format!(r#","ts":{time},"stamp":{},"corr":{correlation}"#, at.sequence);
        sample.expect(at, payload, &more);
    }
    sample.end("closed", tail, true)
}

fn checksum_none(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4096).checksum(Checksum::None).create(&sample.path)?;
    sample.append(&mut writer, b"not covered")?;
    sample.append(&mut writer, &[b'n'; 100])?;
    let tail = writer.tail().offset();
    writer.close()?;
    sample.end("closed", tail, true)
}

fn abandoned(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4096).create(&sample.path)?;
    sample.append(&mut writer, b"the last words")?;
    let tail = writer.tail().offset();
    writer.abandon();
    sample.end("abandoned", tail, false)
}

fn sealed(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4096).create(&sample.path)?;
    sample.append(&mut writer, b"sealed by somebody else")?;
    let tail = writer.tail().offset();
    writer.abandon();
    Channel::seal(&sample.path)?;
    sample.end("abandoned", tail, true)
}

/// How a crashed sample ends: at which of its records.
#[derive(Clone, Copy)]
enum End {
    Torn(usize),
    Corrupt(usize),
}

/// Seven records and no end. Two syncs, of two records and of four: with checksums the slots lag by one, so that they
/// tell of the first; without they tell of the second. One bit of the record `damaged` is wrong.
fn crashed(mut sample: Sample, checksum: Checksum, damaged: Option<usize>, end: End) -> Result {
    let mut writer = Writer::options().capacity(4096).checksum(checksum).create(&sample.path)?;
    let (End::Torn(good) | End::Corrupt(good)) = end;
    let mut positions = Vec::new();
    for i in 0..7 {
        let payload = format!("record number {i}");
        let at = writer.append(payload.as_bytes())?;
        positions.push(at.position.offset());
        if i < good {
            sample.expect(at, payload.as_bytes(), "");
        }
        if i == 1 || i == 3 {
            writer.sync()?;
        }
    }
    writer.abandon();
    if let Some(damaged) = damaged {
        let at = DATA + usize::try_from(positions[damaged])? + 8;
        sample.damage(|bytes| bytes[at + 3] ^= 0x10)?;
    }
    match end {
        End::Torn(at) => sample.end("torn", positions[at], false),
        End::Corrupt(at) => sample.error("corrupt", positions[at]),
    }
}

/// A closed channel of frames of 128 bytes, in which 512 bytes from `hole` on have become zero.
fn cut_out(mut sample: Sample, records: u64, hole: usize) -> Result {
    let mut writer = Writer::options().capacity(4096).create(&sample.path)?;
    for i in 0..records {
        let payload = [b'0' + u8::try_from(i)?; 120];
        let at = writer.append(&payload)?;
        if at.position.offset() < hole as u64 {
            sample.expect(at, &payload, "");
        }
    }
    writer.close()?;
    sample.damage(|bytes| bytes[DATA + hole..DATA + hole + 512].fill(0))?;
    sample.error("corrupt", hole as u64)
}

fn corrupt_payload(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4096).create(&sample.path)?;
    sample.append(&mut writer, b"good")?;
    let bad = writer.append(b"bad to be")?.position.offset();
    writer.append(b"never seen")?;
    writer.close()?;
    let at = DATA + usize::try_from(bad)? + 8 + 3;
    sample.damage(|bytes| bytes[at] = b'_')?;
    sample.error("corrupt", bad)
}

/// A file in its second life, with frames of the first behind its tail.
fn reused(mut sample: Sample, directory: &Path) -> Result {
    let retired = directory.join("retired.tmp");
    let options = || Writer::options().capacity(8192).max_record_len(5000);
    let mut writer = options().create(&retired)?;
    while writer.fits(24) {
        writer.append(&[b'O'; 24])?;
    }
    writer.abandon();
    let mut writer = options().create_from(&retired, &sample.path)?;
    sample.append(&mut writer, &[b'N'; 4100])?;
    sample.append(&mut writer, b"new")?;
    let tail = writer.tail().offset();
    writer.abandon();
    sample.end("abandoned", tail, false)
}

/// Frames of kinds that this library does not write, each with so many bytes, between two records. Made by hand.
fn other_kinds(mut sample: Sample, frames: &[(u32, usize)], unknown: Option<u32>) -> Result {
    let mut writer = Writer::options().capacity(4096).create(&sample.path)?;
    sample.append(&mut writer, b"before")?;
    let mut at = usize::try_from(writer.tail().offset())?;
    writer.abandon();
    let first = at as u64;
    let record: &[u8] = b"behind";
    sample.damage(|bytes| {
        for &(kind, len) in frames {
            at += put_frame(bytes, at, kind, &vec![0xEE; len]);
        }
        if unknown.is_none() {
            put_frame(bytes, at, 1, record);
        }
    })?;
    if let Some(kind) = unknown {
        return sample.error(&format!("unknown kind {kind}"), first);
    }
    // Only a channel can make a position: the one behind the first record, as it is counted there.
    let channel = Channel::open(&sample.path)?;
    let found = channel.records().nth(1).ok_or("the record behind is there")??;
    assert_eq!(found.position().offset(), at as u64, "the frames lie one behind the other");
    sample.expect(Appended { position: found.position(), sequence: 1 }, record, "");
    sample.end("abandoned", at as u64 + 16, false)
}

/// Puts a frame into the data region of `file` at `position`, and returns how many bytes it takes.
fn put_frame(file: &mut [u8], position: usize, kind: u32, payload: &[u8]) -> usize {
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    let (salt0, salt1) = (word(72), word(80));
    let kl = kind << 28 | payload.len() as u32;
    let a = (position as u64 ^ salt0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let b = ((a ^ a >> 32 ^ u64::from(kl)).wrapping_add(salt1)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut padded = payload.to_vec();
    padded.resize(payload.len().next_multiple_of(8), 0);
    let check = crc32c::crc32c(&padded) ^ (b >> 32) as u32;
    let head = u64::from(kl) << 32 | u64::from(check);
    let at = DATA + position;
    file[at..at + 8].copy_from_slice(&head.to_le_bytes());
    file[at + 8..at + 8 + padded.len()].copy_from_slice(&padded);
    8 + padded.len()
}

/// More than one interval of the index, and more entries of the trail than it holds.
fn large(mut sample: Sample) -> Result {
    let mut writer = Writer::options().capacity(4 << 20).create(&sample.path)?;
    for i in 0..290_usize {
        let fill = u8::try_from(i % 251)?;
        if i % 10 == 0 {
            sample.append(&mut writer, format!("number {i}").as_bytes())?;
        } else {
            sample.append(&mut writer, &vec![fill; 4000 + i])?;
        }
    }
    let tail = writer.tail().offset();
    writer.close()?;
    sample.end("closed", tail, true)
}
