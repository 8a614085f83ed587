//! Damage: every flipped bit and every cut of a channel of 64 KiB is found, or changes nothing; and a record that was
//! not written is never returned.
//!
//! The gate has minutes, so most flips are examined only where they can mislead. In the long campaign every one is
//! examined from the first record to the last, and every cut; use a release build.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use common::campaign::{Campaign, is_long};
use common::{Numbers, bytes, data_offset, frame_len, head, word_at};
use kekbit::{
    Channel, Durability, EndPoint, FormatError, OpenError, Position, ReadError, SequenceStamp, Start, State,
    Timestamp, Writer,
};
use tempfile::TempDir;

/// Whether every flip and every cut is examined by reading everything.
static EXHAUSTIVE: LazyLock<bool> = LazyLock::new(is_long);

/// A channel to be damaged, and what it should hold.
struct Specimen {
    _dir: TempDir,
    path: PathBuf,
    file: File,
    original: Vec<u8>,
    expected: Vec<Vec<u8>>,
    /// Position of each frame, and which record is the first in it.
    frames: Vec<(u64, usize)>,
    end: EndPoint,
    /// How many damages there were, since when.
    done: Cell<u64>,
    begun: Instant,
}

/// What has become of a damaged channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// Opening, reading or verifying says that something is wrong.
    Noticed,
    /// Everything that was written is there.
    Unchanged,
}

/// Which bits of a byte are flipped, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bits {
    All,
    /// One, another one in each byte of a word.
    One,
}

impl Specimen {
    /// 64 KiB of records of 0 to 2000 bytes, alone and in batches, through two stages, with an index entry every few
    /// hundred bytes, synced in the middle.
    fn new(fill: u64, close: bool) -> Specimen {
        let dir = common::dir();
        let path = dir.path().join("specimen.kek");
        let mut writer = Writer::options()
            .capacity(64 << 10)
            .durability(Durability::AtEnd)
            .meta("key", "value")
            .stage(Timestamp::nanos())
            .stage(SequenceStamp)
            .create(&path)
            .unwrap();
        let mut numbers = Numbers(64);
        let mut expected = Vec::new();
        let mut synced = false;
        let len = |numbers: &mut Numbers| {
            let bound = [16, 100, 2000][numbers.below(3) as usize];
            numbers.below(bound) as usize
        };
        while writer.tail().offset() < fill {
            let count = if numbers.below(4) == 0 { 1 + numbers.below(6) } else { 1 };
            let payloads: Vec<_> = (0..count).map(|_| bytes(numbers.next(), len(&mut numbers))).collect();
            let needed = 8 + payloads.iter().map(|p| frame_len(p.len() as u64 + 16)).sum::<u64>();
            if writer.tail().offset() + 8 + needed + 8 > 64 << 10 {
                break;
            }
            if count == 1 {
                writer.append(&payloads[0]).unwrap();
            } else {
                let mut batch = writer.batch();
                payloads.iter().for_each(|payload| batch.push(payload).unwrap());
                batch.commit().unwrap();
            }
            expected.extend(payloads);
            writer.heartbeat();
            if !synced && writer.tail().offset() > fill / 2 {
                writer.sync().unwrap();
                writer.sync().unwrap();
                synced = true;
            }
        }
        if close {
            writer.close().unwrap();
        } else {
            writer.abandon();
        }
        Specimen::of(dir, path, expected)
    }

    fn of(dir: TempDir, path: PathBuf, expected: Vec<Vec<u8>>) -> Specimen {
        let original = std::fs::read(&path).unwrap();
        let channel = Channel::open(&path).unwrap();
        assert_eq!(common::payloads(&channel), expected);
        let end = channel.verify(|_| ()).unwrap();
        let mut frames: Vec<_> = channel
            .records()
            .enumerate()
            .map(|(i, record)| (record.unwrap().position().offset(), i))
            .collect();
        frames.dedup_by_key(|(position, _)| *position);
        let file = File::options().write(true).open(&path).unwrap();
        Specimen {
            _dir: dir,
            path,
            file,
            original,
            expected,
            frames,
            end,
            done: Cell::new(0),
            begun: Instant::now(),
        }
    }

    /// The same bytes in another file: a copy, of which nobody can tell in which boot it was written.
    fn copied(self) -> Specimen {
        let path = self.path.with_extension("copy");
        std::fs::copy(&self.path, &path).unwrap();
        Specimen::of(self._dir, path, self.expected)
    }

    fn data(&self) -> u64 {
        data_offset(&self.original)
    }

    fn examine(&self) -> Outcome {
        let Ok(channel) = Channel::open(&self.path) else { return Outcome::Noticed };
        let mut read = 0;
        for record in channel.records() {
            let Ok(record) = record else { return Outcome::Noticed };
            assert!(read < self.expected.len(), "a record that was not written");
            assert!(record[..] == self.expected[read][..], "not what was written as record {read}");
            assert_eq!(record.sequence(), read as u64);
            read += 1;
        }
        match channel.verify(|_| ()) {
            Ok(end) if end == self.end => {}
            _ => return Outcome::Noticed,
        }
        assert_eq!(read, self.expected.len(), "records are missing, and nothing says so");
        Outcome::Unchanged
    }

    /// As [`Specimen::examine`] for damage at `at` of the file, but begins at the frame there if that settles it.
    fn examine_near(&self, channel: &Channel, at: u64) -> Outcome {
        let frame = self.frames.partition_point(|(position, _)| self.data() + position <= at) - 1;
        let (position, first) = self.frames[frame];
        let Ok(mut records) = channel.records_from(Start::Position(Position::new(position))) else {
            return Outcome::Noticed;
        };
        match records.next() {
            Some(Err(_)) => Outcome::Noticed,
            Some(Ok(record)) if record[..] != self.expected[first][..] => panic!("not what was written"),
            _ => self.examine(),
        }
    }

    /// An index that is damaged must not mislead.
    fn examine_seeks(&self) -> Outcome {
        let Ok(channel) = Channel::open(&self.path) else { return Outcome::Noticed };
        let count = self.expected.len();
        for (start, first) in [
            (Start::Last(1), count - 1),
            (Start::Sequence(count as u64 / 2), count / 2),
            (Start::Sequence(1), 1),
        ] {
            let record = channel.records_from(start).unwrap().next().unwrap().unwrap();
            assert!((&record[..], record.sequence()) == (&self.expected[first][..], first as u64));
        }
        assert_eq!(channel.end_point().unwrap(), self.end);
        Outcome::Unchanged
    }

    /// Flips bits of `range`, one at a time, and returns the bytes of which no flip was noticed.
    ///
    /// One in 29 is examined from the first record to the last. Of the others those in the control page and in the
    /// index can mislead only who jumps, so jumping is examined; and for those in a frame, that frame, through a
    /// channel that is open already, since opening does not look at frames.
    fn flip(&self, range: impl Iterator<Item = u64>, bits: Bits) -> Vec<u64> {
        let channel = Channel::open(&self.path).unwrap();
        let mut unnoticed = Vec::new();
        for at in range {
            let byte = self.original[at as usize];
            let bits = if bits == Bits::All || *EXHAUSTIVE { 0..8 } else { at % 8..at % 8 + 1 };
            let count = bits.end - bits.start;
            let noticed = bits.filter(|bit| {
                self.done.set(self.done.get() + 1);
                self.file.write_all_at(&[byte ^ 1 << bit], at).unwrap();
                let outcome = match at {
                    _ if *EXHAUSTIVE || (8 * at + bit).is_multiple_of(29) => self.examine(),
                    at if at < 4096 || at >= self.data() + self.end.position.offset() => self.examine(),
                    at if at < self.data() => self.examine_seeks(),
                    at => self.examine_near(&channel, at),
                };
                outcome == Outcome::Noticed
            });
            match noticed.count() as u64 {
                0 => unnoticed.push(at),
                n if n == count => {}
                n => panic!("byte {at}: {n} of {count} flips are noticed"),
            }
            self.file.write_all_at(&[byte], at).unwrap();
        }
        unnoticed
    }

    /// Cuts the file to `len` bytes; the cuts get shorter and shorter.
    fn cut(&self, len: u64) -> Outcome {
        self.done.set(self.done.get() + 1);
        self.file.set_len(len).unwrap();
        match Channel::open(&self.path) {
            Ok(channel)
                if !*EXHAUSTIVE
                    && len > self.data() + 8
                    && len < self.data() + self.end.position.offset() =>
            {
                self.examine_near(&channel, len - 8)
            }
            _ => self.examine(),
        }
    }

    /// Offsets in the file of the bytes behind payloads that complete a word.
    fn padding(&self) -> Vec<u64> {
        let (mut at, mut padding) = (0, Vec::new());
        while at < self.end.position.offset() {
            let head = word_at(&self.original, (self.data() + at) as usize);
            let len = head >> 32 & 0x0FFF_FFFF;
            padding.extend(self.data() + at + 8 + len..self.data() + at + frame_len(len));
            at += frame_len(len);
        }
        assert_eq!(at, self.end.position.offset());
        padding
    }

    /// Behind the word at the tail, which is the terminal frame if there is one.
    fn behind_the_end(&self) -> u64 {
        self.data() + self.end.position.offset() + 8
    }

    fn len(&self) -> u64 {
        self.original.len() as u64
    }

    /// Says how much was done.
    fn report(&self, campaign: &'static str) {
        let what = format!("of a channel of {} bytes", self.len());
        Campaign::begun_at(campaign, self.begun).done(self.done.get(), what);
    }
}

/// Flips in header, control and index.
fn flip_the_front(specimen: &Specimen, bits: Bits) {
    assert_eq!(specimen.flip(0..4096, bits), [], "the header's checksum covers all of it");
    // Control and index are derived: without them, reading is slower. Their damage changes nothing.
    let derived = specimen.flip(4096..specimen.data(), bits);
    assert!(derived.into_iter().eq(4096..specimen.data()));
}

/// Flips in the data region, up to the word at the tail, and behind it.
fn flip_the_data(specimen: &Specimen, bits: Bits) {
    let behind = specimen.behind_the_end();
    assert_eq!(specimen.flip(specimen.data()..behind, bits), specimen.padding());
    // Nobody reads these; each of the nearest, and one now and then.
    let free = || (behind..specimen.len()).filter(|at| *EXHAUSTIVE || *at < behind + 512 || at % 61 == 0);
    assert!(specimen.flip(free(), bits).into_iter().eq(free()));
}

#[test]
fn every_flipped_bit_before_the_data_of_a_closed_channel_is_noticed_or_changes_nothing() {
    let specimen = Specimen::new(64 << 10, true);
    flip_the_front(&specimen, Bits::All);
    specimen.report("bit flips");
}

#[test]
fn every_flipped_bit_in_the_data_of_a_closed_channel_is_noticed_unless_it_is_in_padding() {
    let specimen = Specimen::new(64 << 10, true);
    assert!(specimen.padding().len() > 100);
    flip_the_data(&specimen, Bits::All);
    specimen.report("bit flips");
}

#[test]
fn a_flipped_bit_in_a_copy_of_a_closed_channel_is_noticed_or_changes_nothing() {
    let specimen = Specimen::new(8 << 10, true).copied();
    flip_the_front(&specimen, Bits::One);
    flip_the_data(&specimen, Bits::One);
    specimen.report("bit flips");
}

#[test]
fn every_flipped_bit_of_an_abandoned_channel_is_noticed_or_changes_nothing() {
    let specimen = Specimen::new(12 << 10, false);
    assert_eq!((specimen.end.state, specimen.end.sealed), (State::Abandoned, false));
    flip_the_front(&specimen, Bits::All);
    flip_the_data(&specimen, Bits::All);
    specimen.report("bit flips");
}

#[test]
fn a_flipped_bit_in_a_copy_of_an_abandoned_channel_is_noticed_or_changes_nothing() {
    let specimen = Specimen::new(12 << 10, false).copied();
    flip_the_front(&specimen, Bits::One);
    flip_the_data(&specimen, Bits::One);
    specimen.report("bit flips");
}

/// Every length up to a little behind the end, and some beyond.
fn cut_everywhere(specimen: &Specimen) {
    let behind = specimen.behind_the_end();
    for len in (0..=specimen.len()).rev().filter(|len| *EXHAUSTIVE || *len < behind + 512 || len % 61 == 0) {
        let expected = if len < behind { Outcome::Noticed } else { Outcome::Unchanged };
        assert_eq!(specimen.cut(len), expected, "cut to {len} bytes");
    }
    specimen.report("truncations");
}

#[test]
fn every_cut_of_a_closed_channel_is_noticed_unless_it_takes_nothing_away() {
    cut_everywhere(&Specimen::new(64 << 10, true));
    cut_everywhere(&Specimen::new(4 << 10, true).copied());
}

#[test]
fn every_cut_of_an_abandoned_channel_is_noticed_unless_it_takes_nothing_away() {
    cut_everywhere(&Specimen::new(12 << 10, false));
    cut_everywhere(&Specimen::new(4 << 10, false).copied());
}

/// Opens a file with this content.
fn open_bytes(content: &[u8]) -> Result<Channel, OpenError> {
    let dir = common::dir();
    let path = dir.path().join("input.kek");
    std::fs::write(&path, content).unwrap();
    Channel::open(&path)
}

fn format_error(content: &[u8]) -> FormatError {
    match open_bytes(content) {
        Err(OpenError::Format { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

/// A closed channel with ten records, as bytes.
fn small_channel() -> Vec<u8> {
    static CHANNEL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let dir = common::dir();
        let path = dir.path().join("small.kek");
        let mut writer = Writer::options().capacity(8192).create(&path).unwrap();
        for i in 0..10 {
            writer.append(&bytes(i, 40)).unwrap();
        }
        writer.close().unwrap();
        std::fs::read(&path).unwrap()
    });
    CHANNEL.clone()
}

/// The same channel with other bytes at `at` of its header, whose checksum is right.
fn with_header_bytes(at: usize, new: &[u8]) -> Vec<u8> {
    let mut file = small_channel();
    file[at..at + new.len()].copy_from_slice(new);
    common::repair_header(&mut file);
    file
}

fn with_header_word(at: usize, word: u64) -> Vec<u8> {
    with_header_bytes(at, &word.to_le_bytes())
}

#[test]
fn what_is_no_channel_is_not_opened() {
    assert!(matches!(format_error(b""), FormatError::NotAChannel));
    assert!(matches!(format_error(b"*KEKBIT"), FormatError::NotAChannel));
    assert!(matches!(format_error(&[0; 100_000]), FormatError::NotAChannel));
    for seed in 0..200 {
        assert!(matches!(format_error(&bytes(seed, 20_000)), FormatError::NotAChannel));
    }
    // Random bytes behind the right beginning.
    for seed in 0..200 {
        let mut content = bytes(seed, 20_000);
        content[..16].copy_from_slice(&small_channel()[..16]);
        assert!(matches!(format_error(&content), FormatError::Header(_)));
    }
}

#[test]
fn what_is_no_file_is_not_opened() {
    let dir = common::dir();
    let path = dir.path().join("thing");
    let what = |path: &std::path::Path| match Channel::open(path) {
        Err(OpenError::NotAFile { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what(dir.path()), "a directory");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(what(&path), "a FIFO, a socket or a device");
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(what(&socket), "a FIFO, a socket or a device");
    assert_eq!(what("/dev/null".as_ref()), "a FIFO, a socket or a device");
    let (target, link) = (dir.path().join("target.kek"), dir.path().join("link"));
    std::fs::write(&target, small_channel()).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert_eq!(what(&link), "a symbolic link");
    std::fs::remove_file(&target).unwrap();
    assert_eq!(what(&link), "a symbolic link", "a dangling one too");
    assert!(matches!(Channel::open(&target), Err(OpenError::NotFound { .. })));
    assert!(matches!(Channel::open(dir.path().join("no/such")), Err(OpenError::NotFound { .. })));
}

#[test]
fn files_of_other_versions_are_named_by_their_version() {
    // What kekbit 0.3 writes: 128 bytes of header, of which 57 are used.
    let mut old = Vec::from(*b"*KEKBIT*");
    for word in [1_u64 << 48, 1850, 4242, 300_000 | 1000 << 32, 99_999_999_999, 1_600_000_000_000_000_000] {
        old.extend_from_slice(&word.to_le_bytes());
    }
    old.resize(300_000 + 128, 0);
    let error = format_error(&old);
    assert!(matches!(error, FormatError::Legacy));
    assert!(error.to_string().contains("`kekbit::legacy` reads it"));
    old.truncate(128);
    assert!(matches!(format_error(&old), FormatError::Legacy));
    let newer = with_header_word(8, 3 << 48 | 7 << 32);
    assert!(matches!(format_error(&newer), FormatError::Version { major: 3, minor: 7 }));
    // A later minor version only adds what this one may pass over.
    assert_eq!(open_bytes(&with_header_word(8, 2 << 48 | 1 << 32)).unwrap().format_version(), (2, 1));
}

#[test]
fn features_that_readers_must_know_are_asked_for_and_others_are_not() {
    for bit in 1..64 {
        let known = word_at(&small_channel(), 192);
        let error = format_error(&with_header_word(192, known | 1 << bit));
        assert!(matches!(error, FormatError::Features { unknown } if unknown == 1 << bit));
    }
    for at in [200, 208] {
        let channel = open_bytes(&with_header_word(at, u64::MAX)).unwrap();
        assert_eq!(channel.records().count(), 10);
    }
}

#[test]
fn a_header_that_claims_absurd_sizes_is_refused() {
    let sizes = [0, 1, 4095, 4097, 1 << 45 | 4096, 1 << 47, 1 << 63, u64::MAX, !4095];
    // Capacity; offset and length of header, control, index and data; all of them words.
    for at in [32, 112, 120, 128, 136, 144, 152, 160, 168] {
        for size in sizes.into_iter().filter(|size| (at, *size) != (112, 0)) {
            let file = with_header_word(at, size);
            // An index may have any length that fits, and none.
            let refused = matches!(open_bytes(&file), Err(OpenError::Format { .. }));
            assert!(refused || (at, size) == (152, 0), "{size:#x} at {at}");
        }
    }
    for capacity in [1_u64 << 45, 1 << 40] {
        // Consistent, but far larger than the file: every record that is there can still be read.
        let mut file = with_header_word(32, capacity);
        file[168..176].copy_from_slice(&capacity.to_le_bytes());
        common::repair_header(&mut file);
        let channel = open_bytes(&file).unwrap();
        assert_eq!((channel.records().count(), channel.capacity()), (10, capacity));
    }
    for len in [8192 - 15, 1 << 28, u32::MAX] {
        assert!(matches!(format_error(&with_header_bytes(40, &len.to_le_bytes())), FormatError::Header(_)));
    }
    for (at, value) in [(44, 4), (44, 255), (45, 2), (45, 255)] {
        assert!(matches!(format_error(&with_header_bytes(at, &[value])), FormatError::Header(_)));
    }
    for interval in [0, 1, 4095] {
        assert!(matches!(format_error(&with_header_word(176, interval)), FormatError::Header(_)));
    }
    for len in [3869_u32, 1 << 16, u32::MAX] {
        assert!(matches!(format_error(&with_header_bytes(216, &len.to_le_bytes())), FormatError::Header(_)));
    }
}

#[test]
fn random_words_in_a_header_with_a_right_checksum_never_make_a_reader_panic() {
    let mut numbers = Numbers(3);
    for _ in 0..10_000 {
        let at = 8 * (4 + numbers.below(40)) as usize;
        let word = numbers.next() >> numbers.below(64);
        let Ok(channel) = open_bytes(&with_header_word(at, word)) else { continue };
        let count = channel.records().take_while(Result::is_ok).count();
        assert!(count <= 10, "{word:#x} at {at}");
        for start in
            [Start::End, Start::Last(3), Start::Sequence(5), Start::Time(std::time::SystemTime::now())]
        {
            if let Ok(records) = channel.records_from(start) {
                assert!(records.take_while(Result::is_ok).count() <= 10);
            }
        }
        let _ = (channel.end_point().is_ok(), channel.synced_tail(), channel.timeout(), channel.reserved());
    }
}

/// How many records there are in a channel whose only frame is this one, with a right checksum, as if a writer of
/// this boot had written it.
fn read_crafted(kind: u32, words: &[u64], len: usize) -> Result<usize, ReadError> {
    let dir = common::dir();
    let path = dir.path().join("crafted.kek");
    Writer::options().capacity(8192).max_record_len(1024).create(&path).unwrap().abandon();
    let content = std::fs::read(&path).unwrap();
    let payload: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).take(len).collect();
    let word = head(&content, 0, kind, &payload);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&payload, data_offset(&content) + 8).unwrap();
    file.write_all_at(&word.to_le_bytes(), data_offset(&content)).unwrap();
    let records = Channel::open(&path).unwrap();
    records.records().map(|record| record.map(drop)).collect::<Result<Vec<_>, _>>().map(|all| all.len())
}

#[test]
fn a_frame_that_contradicts_itself_is_corrupt_although_its_checksum_is_right() {
    let inner = |kind: u64, len: u64| (kind << 28 | len) << 32;
    let batch = [2, inner(1, 8), 0xABCD, inner(1, 0)];
    assert_eq!(read_crafted(2, &batch, 32).unwrap(), 2, "a batch as it should be");
    assert_eq!(read_crafted(1, &[0; 128], 1024).unwrap(), 1, "a record as it should be");
    assert_eq!(read_crafted(2, &[0], 8).unwrap(), 0, "an empty batch");
    for kind in [3, 12, 13, 14, 15] {
        assert_eq!(read_crafted(kind, &batch, 32).unwrap(), 0, "what may be passed over");
    }
    for kind in [7, 8, 9, 10, 11] {
        let unknown = read_crafted(kind, &batch, 32);
        assert!(matches!(unknown, Err(ReadError::UnknownKind { kind: k, .. }) if u32::from(k) == kind));
    }
    let with = |i: usize, word: u64| {
        let mut changed = batch;
        changed[i] = word;
        changed
    };
    for (what, kind, words, len) in [
        ("it counts too few", 2, &with(0, 1)[..], 32),
        ("it counts none", 2, &with(0, 0), 32),
        ("it counts too many", 2, &with(0, 3), 32),
        ("it counts far too many", 2, &with(0, u64::from(u32::MAX)), 32),
        ("the word behind the count is not zero", 2, &with(0, 2 | 1 << 32), 32),
        ("an inner record reaches past the batch", 2, &with(3, inner(1, 1)), 32),
        ("an inner record is longer than allowed", 2, &with(3, inner(1, 1025)), 32),
        ("an inner record has a check", 2, &with(3, inner(1, 0) | 1), 32),
        ("a batch in a batch", 2, &with(3, inner(2, 0)), 32),
        ("a terminal in a batch", 2, &with(3, inner(4, 0)), 32),
        ("nothing in a batch", 2, &with(3, 0), 32),
        ("a batch without a count", 2, &[], 0),
        ("half a count", 2, &[0], 4),
        ("a batch that ends within a word", 2, &batch, 28),
        ("a record longer than allowed", 1, &[0; 129], 1025),
        ("a terminal with a payload", 4, &[0], 8),
        ("a frame that reaches past the file", 1, &[0; 1024], 8192),
    ] {
        assert!(matches!(read_crafted(kind, words, len), Err(ReadError::Corrupt { .. })), "{what}");
    }
}

#[test]
fn a_moved_frame_does_not_pass() {
    let dir = common::dir();
    let path = dir.path().join("moved.kek");
    let mut writer = Writer::options().capacity(8192).max_record_len(1024).create(&path).unwrap();
    for text in [b"first..8", b"second.8", b"third..8"] {
        writer.append(text).unwrap();
    }
    writer.close().unwrap();
    let content = std::fs::read(&path).unwrap();
    let at = |index: u64| data_offset(&content) as usize + 16 * index as usize;
    for (from, to) in [(0, 1), (1, 0), (2, 1), (0, 2)] {
        let mut moved = content.clone();
        moved.copy_within(at(from)..at(from) + 16, at(to));
        std::fs::write(&path, &moved).unwrap();
        let channel = Channel::open(&path).unwrap();
        let corrupt = channel.verify(|_| ());
        let position = Position::new(16 * to);
        assert!(
            matches!(corrupt, Err(ReadError::Corrupt { position: p, .. }) if p == position),
            "{corrupt:?}"
        );
    }
}
