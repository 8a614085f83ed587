//! Files of strangers: the copying reader finds what the ordinary one finds, and survives whatever is done to the file while
//! it reads. What it lends was one frame that passed its check, whoever scribbles meanwhile.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use common::campaign::Campaign;
use common::{Child, Numbers, bytes, data_offset, frame_len, head, mix, role, word_at};
use kekbit::{
    Channel, Checksum, CopyingReader, Durability, End, FormatError, OpenError, Position, ReadError, Record,
    SeekError, SequenceStamp, Start, State, Timestamp, Verify, Wait, Writer,
};
use tempfile::TempDir;

/// Bytes that tell whether they belong together: a seed, and what follows from it and the length.
fn certified(seed: u64, len: usize) -> Vec<u8> {
    let mut out = seed.to_le_bytes().to_vec();
    out.extend(bytes(seed ^ len as u64, len.saturating_sub(8)));
    out
}

/// The seed of bytes that belong together.
fn seed_of(payload: &[u8]) -> Option<u64> {
    let seed = u64::from_le_bytes(payload.get(..8)?.try_into().ok()?);
    (payload == certified(seed, payload.len())).then_some(seed)
}

/// How a channel is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    Closed,
    Full,
    Abandoned,
    Sealed,
}

/// A channel with records alone and in batches, through two stages, with many entries in its index, synced in the middle.
/// The record with sequence N has the seed N.
fn make(path: &Path, fill: u64, longest: u64, checksum: Checksum, left: Left) {
    let options = Writer::options().capacity(fill.next_multiple_of(4096)).checksum(checksum);
    let options = options.max_record_len(longest + 100);
    let options = options.durability(Durability::AtEnd).stage(Timestamp::nanos()).stage(SequenceStamp);
    let mut writer = options.create(path).unwrap();
    let mut numbers = Numbers(fill ^ longest);
    let (mut sequence, mut synced) = (0, false);
    loop {
        let count = if numbers.below(4) == 0 { 1 + numbers.below(5) } else { 1 };
        let payloads: Vec<_> = (0..count)
            .map(|i| {
                let bound = [16, 100, longest][numbers.below(3) as usize];
                certified(sequence + i, 8 + numbers.below(bound) as usize)
            })
            .collect();
        let needed = 8 + payloads.iter().map(|p| frame_len(p.len() as u64 + 16)).sum::<u64>();
        if writer.tail().offset() + 8 + needed + 8 > fill {
            break;
        }
        if count == 1 {
            writer.append(&payloads[0]).unwrap();
        } else {
            let mut batch = writer.batch();
            payloads.iter().for_each(|payload| batch.push(payload).unwrap());
            batch.commit().unwrap();
        }
        sequence += count;
        writer.heartbeat();
        if !synced && writer.tail().offset() > fill / 2 {
            writer.sync().unwrap();
            writer.sync().unwrap();
            synced = true;
        }
    }
    match left {
        Left::Closed => writer.close().unwrap(),
        Left::Full => {
            while writer.append(&certified(sequence, 100)).is_ok() {
                sequence += 1;
            }
        }
        Left::Abandoned | Left::Sealed => writer.abandon(),
    }
    if left == Left::Sealed {
        Channel::seal(path).unwrap();
    }
}

/// All that is told of a record.
type Told = (u64, Position, Vec<u8>, Vec<u8>, Option<u64>, Option<u64>);

fn told(record: &Record<'_>) -> Told {
    (
        record.sequence(),
        record.position(),
        record.payload().to_vec(),
        record.stored().to_vec(),
        record.timestamp_nanos(),
        record.sequence_stamp(),
    )
}

/// How reading ended.
fn ending(error: Option<ReadError>, end: Option<End>) -> String {
    error.map_or_else(|| format!("{end:?}"), |error| error.to_string())
}

/// What the ordinary reader finds, or why it begins nowhere.
fn ordinary(channel: &Channel, start: Start) -> Result<(Vec<Told>, String), String> {
    let mut reader = channel.reader(start).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    loop {
        match reader.try_next() {
            Ok(Some(record)) => found.push(told(&record)),
            Ok(None) => match reader.check_end() {
                Ok(end) => return Ok((found, ending(None, end))),
                Err(error) => return Ok((found, ending(Some(error), None))),
            },
            Err(error) => return Ok((found, ending(Some(error), None))),
        }
    }
}

/// The same of the copying one.
fn copying(reader: &mut CopyingReader, start: Start) -> Result<(Vec<Told>, String), String> {
    reader.seek(start).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    loop {
        match reader.try_next() {
            Ok(Some(record)) => found.push(told(&record)),
            Ok(None) => match reader.check_end() {
                Ok(end) => return Ok((found, ending(None, end))),
                Err(error) => return Ok((found, ending(Some(error), None))),
            },
            Err(error) => return Ok((found, ending(Some(error), None))),
        }
    }
}

/// Compares everything that the two readers tell of a channel, and returns how many records it has.
fn compare(path: &Path) -> usize {
    let channel = Channel::options().verify(Verify::Always).open(path).unwrap();
    let mut reader = CopyingReader::open(path).unwrap();
    let all = ordinary(&channel, Start::Beginning).unwrap();
    assert_eq!(copying(&mut reader, Start::Beginning).unwrap(), all, "{}", path.display());
    let verified = |result: Result<_, ReadError>| result.map_err(|error| error.to_string());
    let whole = verified(channel.verify(|_| ()));
    assert_eq!(verified(reader.verify(|_| ())), whole);
    assert_eq!(reader.first_sequence(), channel.first_sequence());
    assert_eq!((reader.synced_tail(), reader.reserved()), (channel.synced_tail(), channel.reserved()));
    if whole.is_err() {
        // Whoever jumps may pass over damage, and the two jump from different places.
        return all.0.len();
    }
    assert_eq!(verified(reader.end_point()), verified(channel.end_point()));
    let first = channel.first_sequence();
    let mut starts = vec![Start::End, Start::Last(0), Start::Last(1), Start::Last(7), Start::Last(u64::MAX)];
    starts.extend([0, first, u64::MAX].map(Start::Sequence));
    starts.extend([0, 4, 8, u64::MAX, !7].map(|at| Start::Position(Position::new(at))));
    for (i, (sequence, position, _, _, time, _)) in all.0.iter().enumerate() {
        if i % (1 + all.0.len() / 5) == 0 {
            starts.push(Start::Sequence(*sequence));
            starts.push(Start::Position(*position));
            starts.extend(time.map(|time| Start::Time(UNIX_EPOCH + Duration::from_nanos(time))));
        }
    }
    for start in starts {
        let found = copying(&mut reader, start);
        assert_eq!(found, ordinary(&channel, start), "{}: {start:?}", path.display());
    }
    all.0.len()
}

/// A copy is of another boot.
fn copied(path: &Path) -> PathBuf {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    copy
}

#[test]
fn every_sample_reads_the_same() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/draft");
    let mut compared = 0;
    for entry in fs::read_dir(samples).unwrap() {
        let sample = entry.unwrap().path();
        if sample.extension().is_some_and(|extension| extension == "kek") {
            let dir = common::dir();
            let path = dir.path().join(sample.file_name().unwrap());
            fs::copy(&sample, &path).unwrap();
            compare(&path);
            compared += 1;
        }
    }
    assert!(compared >= 19, "{compared} samples");
}

#[test]
fn every_state_reads_the_same_here_and_as_a_copy() {
    let dir = common::dir();
    let path = dir.path().join("state.kek");
    for left in [Left::Closed, Left::Full, Left::Abandoned, Left::Sealed] {
        for checksum in [Checksum::Crc32c, Checksum::None] {
            // Records that span blocks of the copy, and many in one.
            for (fill, longest) in [(200 << 10, 2000), (1 << 20, 300_000), (4096, 100)] {
                make(&path, fill, longest, checksum, left);
                let found = compare(&path);
                assert!(found > 5, "{found}: {left:?} {fill}");
                compare(&copied(&path));
                fs::remove_file(&path).unwrap();
            }
        }
    }
}

#[test]
fn a_torn_channel_reads_the_same() {
    let dir = common::dir();
    let path = dir.path().join("torn.kek");
    make(&path, 64 << 10, 2000, Checksum::Crc32c, Left::Abandoned);
    let copy = copied(&path);
    let (end, data) = {
        let channel = Channel::open(&copy).unwrap();
        (channel.end_point().unwrap().position.offset(), data_offset(&fs::read(&copy).unwrap()))
    };
    let file = File::options().write(true).open(&copy).unwrap();
    let mut states = Vec::new();
    for at in (8..end).step_by(1000) {
        let original = fs::read(&copy).unwrap();
        file.write_all_at(&[!original[(data + at) as usize]], data + at).unwrap();
        compare(&copy);
        states.push(CopyingReader::open(&copy).unwrap().verify(|_| ()).map(|end| end.state));
        file.write_all_at(&original[(data + at) as usize..][..1], data + at).unwrap();
    }
    assert!(states.iter().any(Result::is_err), "damage below the synced tail");
    assert!(states.iter().any(|state| matches!(state, Ok(State::Torn))), "and above it");
}

#[test]
fn a_live_channel_reads_the_same_and_is_followed() {
    let dir = common::dir();
    let path = dir.path().join("live.kek");
    let mut writer = Writer::options().capacity(16 << 20).create(&path).unwrap();
    let mut reader = CopyingReader::open(&path).unwrap();
    assert!(reader.try_next().unwrap().is_none());
    assert_eq!(reader.check_end().unwrap(), None);
    for sequence in 0..500 {
        // What was appended is there at once, also behind what was read ahead.
        let payload = certified(sequence, 8 + Numbers(sequence).below(3000) as usize);
        writer.append(&payload).unwrap();
        if sequence % 3 == 0 {
            writer.batch().commit().unwrap();
        }
        let record = reader.try_next().unwrap().expect("it has been appended");
        assert_eq!((record.sequence(), &record[..]), (sequence, &payload[..]));
        if sequence % 7 == 0 {
            assert!(reader.try_next().unwrap().is_none());
        }
    }
    compare(&path);
    reader.set_durable(true);
    writer.append(b"not synced").unwrap();
    assert!(reader.try_next().unwrap().is_none());
    writer.sync().unwrap();
    let shared = reader.try_next().unwrap().expect("it is synced").to_shared();
    writer.close().unwrap();
    assert!(reader.next(common::patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Closed));
    drop(reader);
    assert_eq!((&shared[..], shared.channel().is_none()), (&b"not synced"[..], true));
}

#[test]
fn a_writer_in_another_process_is_followed_to_its_end_without_a_wrong_word() {
    let this = "a_writer_in_another_process_is_followed_to_its_end_without_a_wrong_word";
    if let Some((_, arguments)) = role() {
        let mut writer = Writer::options().capacity(256 << 20).create(&arguments[0]).unwrap();
        common::say("ready");
        common::listen();
        for sequence in 0..arguments[1].parse().unwrap() {
            let longest = if sequence % 100 == 0 { 200_000 } else { 300 };
            writer.append(&certified(sequence, 8 + Numbers(sequence).below(longest) as usize)).unwrap();
        }
        writer.close().unwrap();
        return;
    }
    let campaign = Campaign::new("copying reader follows");
    let count = campaign.count(20_000, 100_000);
    let dir = common::dir();
    let path = dir.path().join("followed.kek");
    let mut child = Child::start(this, "writer", &[path.to_str().unwrap(), &count.to_string()]);
    child.hear();
    let mut reader = CopyingReader::open(&path).unwrap();
    child.tell("go");
    let mut next = 0;
    while let Some(record) = reader.next(common::patience()).unwrap() {
        assert_eq!((record.sequence(), seed_of(&record)), (next, Some(next)));
        next += 1;
    }
    assert_eq!((next, reader.end()), (count, Some(End::Closed)));
    assert!(child.end().success());
    campaign.done(count, "records followed by copying");
}

/// What becomes of a damaged channel: how much of it is still lent, and how it ends. Everything that is lent must be an
/// exact prefix.
fn examine(path: &Path, original: &[Told]) -> String {
    let mut reader = match CopyingReader::open(path) {
        Ok(reader) => reader,
        Err(error) => return format!("not opened: {error}"),
    };
    let (found, end) = copying(&mut reader, Start::Beginning).unwrap();
    assert!(found.len() <= original.len() && found == original[..found.len()], "no exact prefix");
    format!("{} records, {end}", found.len())
}

#[test]
fn every_flipped_bit_and_every_cut_leaves_an_exact_prefix() {
    let campaign = Campaign::new("copying reader, damaged files");
    let long = common::campaign::is_long();
    let dir = common::dir();
    let path = dir.path().join("damaged.kek");
    let mut examined = 0;
    for (left, is_copy) in [(Left::Closed, false), (Left::Closed, true), (Left::Abandoned, true)] {
        let fill = if long { 64 << 10 } else { 1500 };
        make(&path, fill, 2000.min(fill / 4), Checksum::Crc32c, left);
        let path = if is_copy { copied(&path) } else { path.clone() };
        let content = fs::read(&path).unwrap();
        let data = data_offset(&content) as usize;
        let mut reader = CopyingReader::open(&path).unwrap();
        let (original, _) = copying(&mut reader, Start::Beginning).unwrap();
        let intact = examine(&path, &original);
        let end = data + reader.verify(|_| ()).unwrap().position.offset() as usize + 8;
        let file = File::options().write(true).open(&path).unwrap();
        let mut noticed = 0;
        for at in 0..content.len() {
            // In the short run: what is read as records, and one bit now and then of everything else.
            let bits = if long || (data..end).contains(&at) { 0..8 } else { at % 8..at % 8 + 1 };
            if !long && !(data..end).contains(&at) && at % 37 != 0 {
                continue;
            }
            for bit in bits {
                file.write_all_at(&[content[at] ^ 1 << bit], at as u64).unwrap();
                noticed += u32::from(examine(&path, &original) != intact);
                examined += 1;
            }
            file.write_all_at(&content[at..=at], at as u64).unwrap();
        }
        assert!(noticed as usize > (end - data) * 4, "{noticed} flips are noticed");
        for len in
            (0..content.len()).rev().filter(|len| long || *len <= end + 16 && (*len >= data || len % 64 == 0))
        {
            file.set_len(len as u64).unwrap();
            let told = examine(&path, &original);
            assert_eq!(told == intact, len >= end, "cut to {len}: {told}");
            examined += 1;
        }
        fs::remove_file(&path).unwrap();
        let _ = fs::remove_file(dir.path().join("damaged.kek"));
    }
    campaign.done(examined, "flips and cuts read by copying");
}

/// What the neighbour does to the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Malice {
    /// Other bytes in frames, whose checksums are left as they are.
    Bytes,
    /// Whole frames, with checksums that are right, in place of others.
    Frames,
    /// Anything: header, control, index, lengths, kinds, zeros.
    Anything,
    /// The file is cut, and grows again.
    Lengths,
}

const MALICE: [Malice; 4] = [Malice::Bytes, Malice::Frames, Malice::Anything, Malice::Lengths];

/// The position of each frame, and the header word's upper half.
fn frames(content: &[u8]) -> Vec<(u64, u32)> {
    let (data, mut at, mut frames) = (data_offset(content), 0, Vec::new());
    loop {
        let kl = (word_at(content, (data + at) as usize) >> 32) as u32;
        if kl >> 28 == 0 || kl >> 28 > 3 {
            return frames;
        }
        frames.push((at, kl));
        at += frame_len(u64::from(kl & 0x0FFF_FFFF));
    }
}

/// Scribbles over the file until the test has nothing more to say.
fn scribble(path: &str, malice: Malice, seed: u64) {
    let content = fs::read(path).unwrap();
    let (data, frames) = (data_offset(&content), frames(&content));
    let file = File::options().read(true).write(true).open(path).unwrap();
    let write = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).unwrap();
    let whole = content.len() as u64;
    let mut numbers = Numbers(seed);
    // One thread listens, so that scribbling need not.
    let listening = std::thread::spawn(common::listen);
    common::say("scribbling");
    while !listening.is_finished() {
        if numbers.below(64) == 0 {
            // So that there is something to be read, for a moment.
            write(&content, 0);
        }
        let (position, kl) = frames[numbers.below(frames.len() as u64) as usize];
        let len = u64::from(kl & 0x0FFF_FFFF);
        let frame = &content[(data + position) as usize..(data + position + 8 + len) as usize];
        match malice {
            Malice::Bytes => {
                let count = 1 + numbers.below(4);
                let at = data + position + 8 + numbers.below(len.max(1));
                let count = count.min(data + position + 8 + len - at) as usize;
                write(&bytes(numbers.next(), count), at);
                if numbers.below(8) != 0 {
                    write(&content[at as usize..at as usize + count], at);
                }
            }
            Malice::Frames => {
                // One of a few other payloads of the same length, then the old one.
                if kl >> 28 == 1 && len >= 24 {
                    let mut payload = frame[8..24].to_vec();
                    payload.extend(certified(1 << 40 | numbers.below(4), len as usize - 16));
                    let mut forged = head(&content, position, 1, &payload).to_le_bytes().to_vec();
                    forged.extend(&payload);
                    write(&forged, data + position);
                }
                if numbers.below(2) == 0 {
                    write(frame, data + position);
                }
            }
            Malice::Anything => {
                let at = match numbers.below(8) {
                    0 => numbers.below(whole - 8),
                    1 => 4096 + 8 * numbers.below((data - 4096) / 8),
                    _ => data + position,
                };
                let word = match numbers.below(6) {
                    0 => 0,
                    1 => numbers.next(),
                    // Every kind, lengths near and far, with checks that are right for an empty payload.
                    n => {
                        let kl = (numbers.below(16) as u32) << 28
                            | (numbers.next() as u32 & 0x0FFF_FFFF) >> numbers.below(29);
                        let kl = if n == 2 { kl & 0xF000_0000 } else { kl };
                        u64::from(kl) << 32 | u64::from(mix(&content, at.wrapping_sub(data), kl))
                    }
                };
                write(&word.to_le_bytes(), at);
                if numbers.below(3) == 0 {
                    let from = numbers.below(whole) as usize;
                    let to = (from + 5000).min(content.len());
                    write(&content[from..to], from as u64);
                }
                if numbers.below(2) == 0 {
                    write(&content[at as usize..at as usize + 8], at);
                }
            }
            Malice::Lengths => {
                let len = match numbers.below(3) {
                    0 => numbers.below(whole),
                    1 => data + position + numbers.below(16),
                    _ => whole + numbers.below(1 << 20),
                };
                file.set_len(len).unwrap();
                if numbers.below(2) == 0 {
                    // What was cut comes back, in pieces.
                    for piece in (0..content.len()).step_by(10_000) {
                        write(&content[piece..(piece + 10_000).min(content.len())], piece as u64);
                    }
                }
            }
        }
    }
}

/// Reads once, from anywhere, and returns how many records were lent. Each must be in one piece.
fn read_under_fire(path: &Path, malice: Malice, records: u64, numbers: &mut Numbers) -> u64 {
    let Ok(mut reader) = CopyingReader::open(path) else { return 0 };
    let start = match numbers.below(10) {
        0 => Start::End,
        1 => Start::Last(numbers.below(100)),
        2 => Start::Sequence(numbers.below(records)),
        3 => Start::Position(Position::new(8 * numbers.below(8 << 10))),
        4 => Start::Time(UNIX_EPOCH + Duration::from_nanos(numbers.next())),
        5 => {
            let _ = (reader.verify(|_| ()).is_ok(), reader.end_point().is_ok());
            Start::Beginning
        }
        _ => Start::Beginning,
    };
    if reader.seek(start).is_err() {
        return 0;
    }
    let mut lent = 0;
    // An error may be of the moment: it is asked again, since nothing may come of that either.
    for _ in 0..3 {
        while let Ok(Some(record)) = reader.try_next() {
            lent += 1;
            assert!(lent <= 3 << 13, "there are not so many words");
            if malice == Malice::Anything {
                // A word whose check is right for no bytes may be a record, of any sequence.
                assert!(record.is_empty() || seed_of(&record).is_some_and(|seed| seed < records));
                continue;
            }
            let seed = seed_of(&record).expect("what is lent is in one piece");
            match malice {
                Malice::Frames => {
                    assert!(seed == record.sequence() || (1 << 40..(1 << 40) + 4).contains(&seed))
                }
                _ => assert_eq!(seed, record.sequence(), "not a record that was written"),
            }
        }
        let _ = reader.check_end();
    }
    lent
}

#[test]
fn a_hostile_neighbour_changes_nothing_that_was_checked() {
    let this = "a_hostile_neighbour_changes_nothing_that_was_checked";
    if let Some((malice, arguments)) = role() {
        let malice = MALICE.into_iter().find(|known| format!("{known:?}") == malice).unwrap();
        scribble(&arguments[0], malice, arguments[1].parse().unwrap());
        return;
    }
    let campaign = Campaign::new("hostile neighbour");
    let passes = campaign.count(400, 100_000);
    let (mut done, mut lent) = (0, 0);
    for (part, malice) in MALICE.into_iter().enumerate() {
        let mut numbers = campaign.numbers(part as u64);
        let dir = common::dir();
        let path = dir.path().join("shared.kek");
        make(&path, 64 << 10, 2000, Checksum::Crc32c, Left::Closed);
        let records = CopyingReader::open(&path).unwrap().end_point().unwrap().sequence;
        let arguments = [path.to_str().unwrap(), &numbers.next().to_string()];
        let mut child = Child::start(this, &format!("{malice:?}"), &arguments);
        child.hear();
        let before = lent;
        for _ in 0..passes {
            lent += read_under_fire(&path, malice, records, &mut numbers);
            done += 1;
        }
        println!("{malice:?}: {passes} passes, {} records lent", lent - before);
        assert!(lent > before, "{malice:?} leaves something to be read now and then");
        assert!(child.end().success(), "the neighbour has been there to the end");
    }
    campaign.done(done, format_args!("passes beside a neighbour that scribbles, {lent} records lent"));
}

#[test]
fn lengths_that_lie_cost_no_memory() {
    let this = "lengths_that_lie_cost_no_memory";
    if let Some((_, arguments)) = role() {
        use nix::sys::resource::{Resource, setrlimit};
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        let limit = pages * 4096 + (48 << 20);
        setrlimit(Resource::RLIMIT_AS, limit, limit).unwrap();
        let mut reader = CopyingReader::open(&arguments[0]).unwrap();
        assert!(matches!(reader.try_next(), Err(ReadError::Corrupt { .. })));
        // A good entry of the index may lead past the lie.
        let _ = reader.seek(Start::End);
        return;
    }
    let dir = common::dir();
    let path = dir.path().join("lies.kek");
    make(&path, 64 << 10, 2000, Checksum::Crc32c, Left::Abandoned);
    let mut content = fs::read(&path).unwrap();
    // A channel of 1 TiB with records of 256 MiB, as far as its header is concerned.
    content[32..40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    content[168..176].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    content[40..44].copy_from_slice(&((1_u32 << 28) - 1).to_le_bytes());
    common::repair_header(&mut content);
    let data = data_offset(&content) as usize;
    for kind in [1_u32, 2, 3, 9, 12] {
        let kl = kind << 28 | 0x0FFF_FFFF;
        content[data..data + 8].copy_from_slice(&(u64::from(kl) << 32).to_le_bytes());
        fs::write(&path, &content).unwrap();
        assert!(Child::start(this, "reader", &[path.to_str().unwrap()]).end().success(), "kind {kind}");
        if kind == 1 {
            // The file is long enough for it, but the channel's records are not so long.
            let mut sparse = content.clone();
            sparse[40..44].copy_from_slice(&2000_u32.to_le_bytes());
            common::repair_header(&mut sparse);
            fs::write(&path, &sparse).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
            assert!(Child::start(this, "reader", &[path.to_str().unwrap()]).end().success(), "sparse");
        }
    }
}

#[test]
fn an_index_that_leads_astray_is_not_followed() {
    let dir = common::dir();
    let path = dir.path().join("astray.kek");
    make(&path, 64 << 10, 2000, Checksum::Crc32c, Left::Closed);
    let content = fs::read(&path).unwrap();
    let mut reader = CopyingReader::open(&path).unwrap();
    let (records, _) = copying(&mut reader, Start::Beginning).unwrap();
    let expected = (reader.end_point().unwrap(), copying(&mut reader, Start::Last(5)).unwrap());
    let file = File::options().write(true).open(&path).unwrap();
    let entry = |position: u64, sequence: u64| {
        let mut entry = [position, sequence, 0].map(u64::to_le_bytes).concat();
        let check = crc32c::crc32c(&entry) ^ mix(&content, u64::MAX, 1);
        entry.extend(check.to_le_bytes());
        entry.extend(1_u32.to_le_bytes());
        entry
    };
    // Into payloads, and past the terminal, where nothing is written: with checks that are right.
    let (_, last, ..) = records[records.len() - 1];
    for position in [last.offset() + 8, last.offset() + 16, word_at(&content, 32) - 64] {
        for slot in 0..16 {
            file.write_all_at(&entry(position, position / 8), 4096 + 512 + 32 * slot).unwrap();
        }
        let mut reader = CopyingReader::open(&path).unwrap();
        assert_eq!(reader.end_point().unwrap(), expected.0, "{position}");
        assert_eq!(copying(&mut reader, Start::Last(5)).unwrap(), expected.1);
    }
    let before = reader.seek(Start::Position(Position::new(12)));
    assert!(matches!(before, Err(SeekError::NotARecord { .. })));
}

#[test]
fn the_header_is_read_once() {
    let dir = common::dir();
    let path = dir.path().join("header.kek");
    make(&path, 64 << 10, 2000, Checksum::Crc32c, Left::Closed);
    let mut reader = CopyingReader::open(&path).unwrap();
    let all = copying(&mut reader, Start::Beginning).unwrap();
    File::options().write(true).open(&path).unwrap().write_all_at(&[0xA5; 4096], 0).unwrap();
    for start in [Start::Beginning, Start::Sequence(3), Start::Last(2)] {
        let (found, end) = copying(&mut reader, start).unwrap();
        assert_eq!((found.last(), &end), (all.0.last(), &all.1), "{start:?}");
    }
    assert!(matches!(CopyingReader::open(&path), Err(OpenError::Format { .. })));
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let dir = common::dir();
    let path = |name: &str| dir.path().join(name);
    let what = |path: &Path| match CopyingReader::open(path) {
        Err(OpenError::NotAFile { what, .. }) => what,
        other => panic!("{}: {other:?}", path.display()),
    };
    assert_eq!(what(dir.path()), "a directory");
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(what(&path("fifo")), "a FIFO, a socket or a device");
    let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    assert_eq!(what(&path("socket")), "a FIFO, a socket or a device");
    assert_eq!(what("/dev/zero".as_ref()), "a FIFO, a socket or a device");
    make(&path("real.kek"), 8192, 100, Checksum::Crc32c, Left::Closed);
    std::os::unix::fs::symlink(path("real.kek"), path("link")).unwrap();
    assert_eq!(what(&path("link")), "a symbolic link");
    assert!(matches!(CopyingReader::open(path("none")), Err(OpenError::NotFound { .. })));
    let format = |content: &[u8]| {
        fs::write(path("short.kek"), content).unwrap();
        match CopyingReader::open(path("short.kek")) {
            Err(OpenError::Format { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    };
    let real = fs::read(path("real.kek")).unwrap();
    assert!(matches!(format(b""), FormatError::NotAChannel));
    assert!(matches!(format(&real[..15]), FormatError::NotAChannel));
    assert!(matches!(format(&real[..4095]), FormatError::Header(_)));
    assert!(matches!(format(&real[..4096]), FormatError::Truncated { .. }));
    assert!(matches!(format(&real[..data_offset(&real) as usize + 7]), FormatError::Truncated { .. }));
}

#[test]
fn a_file_that_may_not_be_read_is_an_error() {
    let this = "a_file_that_may_not_be_read_is_an_error";
    if let Some((_, arguments)) = role() {
        let nobody = nix::unistd::Uid::from_raw(65534);
        if nix::unistd::Uid::effective().is_root() {
            nix::unistd::setuid(nobody).unwrap();
        }
        let error = CopyingReader::open(&arguments[0]).expect_err("it may not be read");
        assert!(
            matches!(&error, OpenError::Io { source, .. } if source.raw_os_error() == Some(13)),
            "{error}"
        );
        return;
    }
    let dir: TempDir = common::dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("secret.kek");
    make(&path, 8192, 100, Checksum::Crc32c, Left::Closed);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(Child::start(this, "reader", &[path.to_str().unwrap()]).end().success());
}

#[test]
fn waiting_for_what_never_comes_gives_up() {
    let dir = common::dir();
    let path = dir.path().join("quiet.kek");
    let _writer = Writer::options().capacity(8192).create(&path).unwrap();
    let mut reader = CopyingReader::open(&path).unwrap();
    assert!(reader.next(Wait::spin().retries(10)).unwrap().is_none());
    assert_eq!(reader.end(), None);
    reader.set_timeout(Some(Duration::from_millis(1)));
    assert!(reader.next(common::patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::TimedOut));
}
