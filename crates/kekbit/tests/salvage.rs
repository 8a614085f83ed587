//! Salvaging: what can be proven good of a damaged channel, and nothing else, is in the new one.
//!
//! The model knows each frame that was written and each entry of index and trail. A frame is intact if its bytes are; what
//! must be saved then follows from three rules, see [`Model::expected`], and what is saved must be exactly that.

mod common;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::campaign::Campaign;
use common::{Child, Numbers, bytes, data_offset, role, say, word_at};
use kekbit::{
    AppendContext, Channel, Checksum, CreateError, Durability, Finding, Gap, Handler, OpenError,
    SalvageError, Salvaged, SequenceStamp, StageError, StageInfo, Start, State, TickUnit, Timestamp, Writer,
    WriterOptions,
};

/// One frame: its records and where it lies.
#[derive(Clone, Debug)]
struct Frame {
    from: u64,
    /// Behind the bytes that its check covers.
    covered: u64,
    to: u64,
    first_sequence: u64,
    payloads: Vec<Vec<u8>>,
}

struct Model {
    first_sequence: u64,
    /// The last one may be the terminal, without records.
    frames: Vec<Frame>,
    has_terminal: bool,
    /// Whether each record carries its sequence.
    stamped: bool,
    original: Vec<u8>,
}

const INDEX: u64 = 8192;
const TRAIL: u64 = 4096 + 512;
const TRAIL_END: u64 = TRAIL + 16 * 32;
const SLOTS: [u64; 2] = [4096 + 2048, 4096 + 3072];

/// What is to be done with the file, at random.
fn options(numbers: &mut Numbers) -> WriterOptions {
    let capacity = [16 << 10, 64 << 10, 192 << 10, 1 << 20][numbers.below(4) as usize];
    let durability = [Durability::Never, Durability::AtEnd][numbers.below(2) as usize];
    Writer::options()
        .capacity(capacity)
        .max_record_len(capacity / 4)
        .first_sequence(numbers.below(1000))
        .writer_id(numbers.next())
        .channel_id(numbers.next())
        .content_type("application/x-test")
        .meta("key", "value")
        .durability(durability)
}

impl Model {
    fn write(path: &Path, numbers: &mut Numbers) -> Model {
        let options = options(numbers);
        match numbers.below(3) {
            0 => Model::fill(options.create(path).unwrap(), path, numbers, 0, false),
            1 => {
                let options = options.stage(Timestamp::new(TickUnit::Micros));
                Model::fill(options.create(path).unwrap(), path, numbers, 8, false)
            }
            _ => {
                let options = options.stage(Timestamp::nanos()).stage(SequenceStamp);
                Model::fill(options.create(path).unwrap(), path, numbers, 16, true)
            }
        }
    }

    fn fill<C: kekbit::Chain>(
        mut writer: Writer<C>,
        path: &Path,
        numbers: &mut Numbers,
        around: u64,
        stamped: bool,
    ) -> Model {
        let first_sequence = writer.next_sequence();
        let goal = numbers.below(400);
        let longest = [40, 300, 3000][numbers.below(3) as usize];
        let mut frames = Vec::new();
        while (frames.len() as u64) < goal {
            match numbers.below(40) {
                0 => writer.heartbeat(),
                1 => writer.sync().unwrap(),
                _ => {}
            }
            let is_batch = numbers.below(6) == 0;
            let count = if is_batch { 1 + numbers.below(4) } else { 1 };
            let payloads: Vec<_> =
                (0..count).map(|_| bytes(numbers.next(), numbers.below(longest) as usize)).collect();
            let inner: u64 = payloads.iter().map(|p| common::frame_len(p.len() as u64 + around)).sum();
            let from = writer.tail().offset();
            if !writer.fits(inner as usize + 64) {
                break;
            }
            let first_sequence = writer.next_sequence();
            let covered = if is_batch {
                let mut batch = writer.batch();
                payloads.iter().for_each(|payload| batch.push(payload).unwrap());
                batch.commit().unwrap();
                writer.tail().offset()
            } else {
                writer.append(&payloads[0]).unwrap();
                from + 8 + payloads[0].len() as u64 + around
            };
            let to = writer.tail().offset();
            frames.push(Frame { from, covered, to, first_sequence, payloads });
        }
        let has_terminal = numbers.below(3) > 0;
        if has_terminal {
            let (from, first_sequence) = (writer.tail().offset(), writer.next_sequence());
            writer.close().unwrap();
            let to = from + 8;
            frames.push(Frame { from, covered: to, to, first_sequence, payloads: Vec::new() });
        } else {
            writer.abandon();
            common::wait_until_released(path);
        }
        let original = std::fs::read(path).unwrap();
        Model { first_sequence, frames, has_terminal, stamped, original }
    }

    fn data(&self) -> u64 {
        data_offset(&self.original)
    }

    fn is_intact(&self, frame: &Frame, damaged: &[u8]) -> bool {
        let data = self.data();
        let range = |to: u64| (data + frame.from) as usize..(data + to) as usize;
        damaged.len() & !7 >= (data + frame.to) as usize
            && damaged[range(frame.covered)] == self.original[range(frame.covered)]
    }

    /// The entries that are in `file`: position to sequence. Of a damaged file only those that were in the original.
    fn entries(
        &self,
        file: &[u8],
        known: Option<&HashMap<[u8; 32], (u64, u64)>>,
    ) -> HashMap<[u8; 32], (u64, u64)> {
        let places = (INDEX..self.data()).chain(TRAIL..TRAIL_END).step_by(32);
        let mut found = HashMap::new();
        for at in places.map(|at| at as usize).filter(|at| at + 32 <= file.len()) {
            let entry: [u8; 32] = file[at..at + 32].try_into().unwrap();
            let is_one = known.map_or(entry[28..] != [0; 4], |known| known.contains_key(&entry));
            if is_one {
                found.insert(entry, (word_at(&entry, 0), word_at(&entry, 8)));
            }
        }
        found
    }

    /// The ranges of frames that must be saved, and nothing else. A run is a maximal range of intact frames, in which the
    /// terminal counts as one.
    /// 1. The run that begins with the first frame of all is saved.
    /// 2. A run of at least three frames is saved.
    /// 3. Of a shorter run those are saved that lie at or behind an intact entry that leads to one of its frames.
    ///
    /// Nothing behind the terminal is looked at; there are no frames.
    fn expected(&self, damaged: &[u8], anchors: &[u64]) -> Vec<(usize, usize)> {
        let mut runs = Vec::new();
        let mut at = 0;
        while at < self.frames.len() {
            if !self.is_intact(&self.frames[at], damaged) {
                at += 1;
                continue;
            }
            let begin = at;
            while at < self.frames.len() && self.is_intact(&self.frames[at], damaged) {
                at += 1;
            }
            let is_anchored = |frame: &Frame| anchors.contains(&frame.from);
            if begin == 0 || at - begin >= 3 {
                runs.push((begin, at));
            } else if let Some(skip) = self.frames[begin..at].iter().position(is_anchored) {
                runs.push((begin + skip, at));
            }
        }
        runs
    }
}

/// Damages anything but the header.
fn damage(file: &mut Vec<u8>, stale: &[u8], numbers: &mut Numbers) {
    let kinds = numbers.below(7);
    for _ in 0..=numbers.below(4) {
        let unit = [512, 4096][numbers.below(2) as usize];
        let len = file.len() as u64;
        if len < 4096 + 2 * unit {
            return;
        }
        // Most of what is written lies in front of most of the space.
        let reach = if numbers.below(3) == 0 { len } else { (len / 8).max(20 << 10).min(len) };
        let sector = |numbers: &mut Numbers| {
            let sectors = (reach - 4096) / unit;
            (4096 + numbers.below(sectors.max(1)) * unit) as usize
        };
        let (at, unit) = (sector(numbers), unit as usize);
        match if kinds == 6 { numbers.below(6) } else { kinds } {
            0 => {
                for _ in 0..1 + numbers.below(5) {
                    let bit = 4096 * 8 + numbers.below((reach - 4096) * 8);
                    file[(bit / 8) as usize] ^= 1 << (bit % 8);
                }
            }
            1 => file[at..at + unit].fill(0),
            2 => {
                let other = sector(numbers);
                if at != other && at.abs_diff(other) >= unit {
                    let saved = file[at..at + unit].to_vec();
                    file.copy_within(other..other + unit, at);
                    file[other..other + unit].copy_from_slice(&saved);
                }
            }
            3 if at + unit <= stale.len() => file[at..at + unit].copy_from_slice(&stale[at..at + unit]),
            3 | 4 => {
                let len = 1 + numbers.below(2 * unit as u64).min((file.len() - at) as u64 - 1) as usize;
                let noise = bytes(numbers.next(), len);
                file[at..at + len].copy_from_slice(&noise);
            }
            _ => {
                let least = data_offset(file) + 8;
                file.truncate((least + numbers.below(reach.max(least + 1) - least)) as usize);
            }
        }
    }
}

/// Salvages `from`, and returns all gaps that were told, too.
fn salvage(from: &Path, to: &Path) -> (Salvaged, Vec<Gap>) {
    let mut gaps = Vec::new();
    let salvaged = Channel::salvage_options().run(from, to, |finding| {
        if let Finding::Gap(gap) = finding {
            gaps.push(gap);
        }
    });
    (salvaged.unwrap(), gaps)
}

/// The payloads of each frame of a channel.
fn groups(channel: &Channel) -> Vec<Vec<Vec<u8>>> {
    let mut groups: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut last = None;
    for (n, record) in channel.records().enumerate() {
        let record = record.unwrap();
        assert_eq!(record.sequence(), channel.first_sequence() + n as u64);
        if last != Some(record.position()) {
            groups.push(Vec::new());
        }
        last = Some(record.position());
        groups.last_mut().unwrap().push(record.payload().to_vec());
    }
    groups
}

/// Compares what was salvaged with what must be. Returns how many records were saved and how many gaps there are.
fn check(model: &Model, damaged: &[u8], salvaged: &Salvaged, gaps: &[Gap], saved: &Path) -> (u64, u64) {
    let entries = model.entries(damaged, Some(&model.entries(&model.original, None)));
    let mut anchors: Vec<_> = entries.values().map(|&(position, _)| position).collect();
    anchors.sort_unstable();
    let runs = model.expected(damaged, &anchors);

    let channel = Channel::open(saved).unwrap();
    let end = channel.verify(|_| ()).unwrap();
    assert_eq!((end.state, end.sealed), (State::Closed, true));
    assert_eq!(channel.first_sequence(), model.first_sequence);
    assert_eq!(channel.meta_value("key"), Some("value"));
    assert!(channel.meta_value("salvaged-from").unwrap().ends_with("damaged.kek"));
    let frames = |&(from, to): &(usize, usize)| model.frames[from..to].iter();
    let wanted: Vec<_> =
        runs.iter().flat_map(frames).map(|f| &f.payloads).filter(|p| !p.is_empty()).cloned().collect();
    let got = groups(&channel);
    let first_difference = got.iter().zip(&wanted).position(|(got, wanted)| got != wanted);
    assert!(
        got == wanted,
        "{} frames instead of {}, first difference at {first_difference:?}; {runs:?} of {} frames, {gaps:?}, entries {anchors:?}",
        got.len(),
        wanted.len(),
        model.frames.len(),
    );
    let records = wanted.iter().map(|payloads| payloads.len() as u64).sum();
    assert_eq!(salvaged.records, records);
    assert_eq!((salvaged.gap_count, &salvaged.gaps[..]), (gaps.len() as u64, &gaps[..gaps.len().min(1000)]));
    check_gaps(model, damaged, &anchors, &runs, salvaged, gaps);
    (records, gaps.len() as u64)
}

/// Every gap reaches from the end of one saved run to the beginning of the next.
fn check_gaps(
    model: &Model,
    damaged: &[u8],
    anchors: &[u64],
    runs: &[(usize, usize)],
    salvaged: &Salvaged,
    gaps: &[Gap],
) {
    let begins_well = runs.first().is_some_and(|run| run.0 == 0);
    let mut left = gaps.iter();
    // Where the good frames before end, how many records they had, and whether the sequence is known there.
    let (mut end, mut saved, mut known) = (0, 0, true);
    for (n, &(from, to)) in runs.iter().enumerate() {
        let run = &model.frames[from..to];
        let run_end = run.last().unwrap().to;
        if n > 0 || !begins_well {
            let gap = left.next().expect("a gap between two runs");
            assert_eq!((gap.from.offset(), gap.to.offset(), gap.resumes), (end, run[0].from, true));
            let lost_from = model.frames.iter().find(|f| f.from == end).map(|f| f.first_sequence);
            assert_eq!(gap.sequence, lost_from.filter(|_| known));
            // At the run's end too: an entry may be written ahead of the frame that it leads to. The terminal is the end.
            let reach = if model.has_terminal && to == model.frames.len() { run_end - 8 } else { run_end };
            let told = anchors.iter().any(|at| (run[0].from..=reach).contains(at));
            let stamped = model.stamped && run.iter().any(|frame| !frame.payloads.is_empty());
            known = told || stamped;
            assert_eq!(gap.next_sequence, known.then_some(run[0].first_sequence), "{gap:?}");
            assert_eq!(gap.salvaged_sequence, model.first_sequence + saved);
        }
        end = run_end;
        saved += run.iter().map(|frame| frame.payloads.len() as u64).sum::<u64>();
    }
    let reached = model.has_terminal && runs.last().is_some_and(|run| run.1 == model.frames.len());
    assert_eq!(salvaged.end, reached.then_some(State::Closed));
    let total: u64 = model.frames.iter().map(|frame| frame.payloads.len() as u64).sum();
    if reached {
        assert_eq!(left.next(), None, "behind the terminal");
        assert_eq!(salvaged.lost, known.then_some(total - saved));
        return;
    }
    assert!(salvaged.lost.is_none_or(|lost| lost <= total - saved));
    // What is lost at the end leaves a trace, unless nothing but zeros is left of it, and nothing that tells of it.
    let content = damaged[((model.data() + end) as usize).min(damaged.len() & !7)..damaged.len() & !7]
        .chunks_exact(8)
        .rposition(|word| word != [0; 8])
        .map_or(end, |at| end + 8 * (at as u64 + 1));
    let slot = SLOTS.iter().filter(|&&at| {
        damaged.len() as u64 >= at + 24
            && damaged[at as usize..][..24] == model.original[at as usize..][..24]
            && word_at(damaged, at as usize + 16) != 0
    });
    let synced = slot
        .max_by_key(|&&at| word_at(damaged, at as usize + 8))
        .map_or(0, |&at| word_at(damaged, at as usize));
    let written = synced.max(anchors.last().copied().unwrap_or(0));
    match left.next() {
        Some(gap) => {
            assert_eq!((gap.from.offset(), gap.resumes), (end, false));
            assert_eq!(
                gap.to.offset(),
                end.max(content).max(written),
                "content {content}, written {written}"
            );
            assert!(content > end || written > end, "a gap where nothing is missing: {gap:?}");
        }
        None => assert!(content <= end && written <= end, "{end} of {content}, {written}"),
    }
    assert_eq!(left.next(), None);
}

#[test]
fn what_can_be_proven_is_saved_and_nothing_else_and_gaps_cover_the_rest() {
    let campaign = Campaign::new("salvage");
    let dir = common::dir();
    let (path, damaged_path) = (dir.path().join("original.kek"), dir.path().join("damaged.kek"));
    let (saved_path, stale_path) = (dir.path().join("saved.kek"), dir.path().join("stale.kek"));
    let count = campaign.count(300, 20_000);
    let (mut records, mut gaps, mut whole) = (0, 0, 0);
    for part in 0..count {
        let numbers = &mut campaign.numbers(part);
        let model = Model::write(&path, numbers);
        let stale = Model::write(&stale_path, &mut numbers.clone()).original;
        let mut damaged = model.original.clone();
        damage(&mut damaged, &stale, numbers);
        std::fs::write(&damaged_path, &damaged).unwrap();
        println!("part {part}, seed {}", campaign.seed());
        let (salvaged, told) = salvage(&damaged_path, &saved_path);
        assert!(std::fs::read(&damaged_path).unwrap() == damaged, "the damaged channel was changed");
        let found = check(&model, &damaged, &salvaged, &told, &saved_path);
        assert_eq!(Channel::salvage_options().survey(&damaged_path, |_| ()).unwrap(), salvaged);
        records += found.0;
        gaps += found.1;
        whole += u64::from(found.1 == 0);
        // Last the original, so that no copy can have got its inode.
        for path in [&saved_path, &stale_path, &damaged_path, &path] {
            std::fs::remove_file(path).unwrap();
        }
    }
    // So that it is known to have looked at what it is for.
    assert!(gaps > count / 2 && whole < count * 3 / 4 && records > count, "{records} {gaps} {whole}");
    campaign.done(count, format!("damaged channels salvaged, {records} records around {gaps} gaps"));
}

/// A channel of `count` records of 100 bytes each.
fn plain(path: &Path, count: u64, checksum: Checksum) -> Vec<u8> {
    let mut writer = Writer::options().capacity(1 << 16).checksum(checksum).create(path).unwrap();
    for n in 0..count {
        writer.append(&bytes(n, 100)).unwrap();
    }
    writer.close().unwrap();
    std::fs::read(path).unwrap()
}

/// Bytes of a frame in [`plain`].
const FRAME: u64 = 112;

#[test]
fn a_channel_without_damage_is_copied_as_a_whole() {
    let dir = common::dir();
    let (path, saved) = (dir.path().join("whole.kek"), dir.path().join("saved.kek"));
    plain(&path, 100, Checksum::Crc32c);
    let (salvaged, gaps) = salvage(&path, &saved);
    assert_eq!((salvaged.records, salvaged.lost, salvaged.end), (100, Some(0), Some(State::Closed)));
    assert!(gaps.is_empty(), "{gaps:?}");
    assert_eq!(
        common::payloads(&Channel::open(&path).unwrap()),
        common::payloads(&Channel::open(&saved).unwrap())
    );
    assert_eq!(common::names_in(dir.path()), ["saved.kek", "whole.kek"]);
}

#[test]
fn without_checksums_everything_before_the_first_damage_is_saved() {
    let dir = common::dir();
    let (path, saved) = (dir.path().join("none.kek"), dir.path().join("saved.kek"));
    let mut bytes = plain(&path, 100, Checksum::None);
    let data = data_offset(&bytes);
    // A head is all that is checked.
    bytes[(data + 30 * FRAME) as usize] ^= 1;
    let damaged = dir.path().join("damaged.kek");
    std::fs::write(&damaged, bytes).unwrap();
    let (salvaged, gaps) = salvage(&damaged, &saved);
    assert_eq!((salvaged.records, salvaged.end), (30, None));
    assert_eq!((gaps.len(), gaps[0].from.offset(), gaps[0].resumes), (1, 30 * FRAME, false));
    assert_eq!((gaps[0].to.offset(), gaps[0].lost()), (100 * FRAME + 8, Some(70)));
    assert_eq!(Channel::open(&saved).unwrap().records().count(), 30);
}

#[test]
fn without_a_header_nothing_can_be_proven_and_the_error_says_so() {
    let dir = common::dir();
    let (path, saved) = (dir.path().join("a.kek"), dir.path().join("saved.kek"));
    let bytes = plain(&path, 10, Checksum::Crc32c);
    let mut damaged = bytes.clone();
    damaged[70] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = Channel::salvage(&path, &saved).unwrap_err();
    assert!(matches!(error, SalvageError::Header { .. }), "{error:?}");
    assert!(error.to_string().contains("its checksum does not match: without an intact header"), "{error}");
    std::fs::write(&path, &bytes[..8000]).unwrap();
    assert!(matches!(Channel::salvage(&path, &saved), Err(SalvageError::Header { .. })));
    std::fs::write(&path, "no channel").unwrap();
    assert!(matches!(Channel::salvage(&path, &saved), Err(SalvageError::Open(OpenError::Format { .. }))));
    assert_eq!(common::names_in(dir.path()), ["a.kek"], "nothing is left behind");
}

#[test]
fn what_is_there_already_is_not_replaced() {
    let dir = common::dir();
    let (path, saved) = (dir.path().join("a.kek"), dir.path().join("saved.kek"));
    plain(&path, 10, Checksum::Crc32c);
    std::fs::write(&saved, "precious").unwrap();
    let taken = Channel::salvage(&path, &saved);
    assert!(matches!(taken, Err(SalvageError::Create(CreateError::AlreadyExists { .. }))), "{taken:?}");
    assert_eq!(std::fs::read(&saved).unwrap(), b"precious");
    assert!(Channel::salvage(&path, &path).is_err());
    std::fs::remove_file(&saved).unwrap();
    // Also if it appears while the channel is being salvaged.
    let options = Channel::salvage_options();
    let raced = options.run(&path, &saved, |_| {
        let _ = std::fs::write(&saved, "precious");
    });
    assert!(matches!(raced, Err(SalvageError::Create(CreateError::AlreadyExists { .. }))), "{raced:?}");
    assert_eq!(std::fs::read(&saved).unwrap(), b"precious");
    assert_eq!(common::names_in(dir.path()), ["a.kek", "saved.kek"]);
}

fn live_writer(path: &str) {
    let mut writer = Writer::create(path).unwrap();
    writer.append(b"one").unwrap();
    say("there");
    common::listen();
    writer.abandon();
}

#[test]
fn a_channel_that_is_being_written_is_not_salvaged() {
    let this = "a_channel_that_is_being_written_is_not_salvaged";
    if let Some((_, arguments)) = role() {
        return live_writer(&arguments[0]);
    }
    let dir = common::dir();
    let (path, saved) = (dir.path().join("a.kek"), dir.path().join("saved.kek"));
    let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "there");
    let refused = Channel::salvage(&path, &saved);
    assert!(matches!(refused, Err(SalvageError::WriterLives { .. })), "{refused:?}");
    child.tell("enough");
    child.end();
    common::wait_until("the lock is released", || Channel::salvage(&path, &saved).is_ok());
    assert_eq!(Channel::open(&saved).unwrap().records().count(), 1);
}

#[test]
fn what_is_read_only_is_salvaged_and_left_as_it_is() {
    let dir = common::dir();
    let (path, saved) = (dir.path().join("a.kek"), dir.path().join("saved.kek"));
    let before = plain(&path, 10, Checksum::Crc32c);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o440)).unwrap();
    assert_eq!(salvage(&path, &saved).0.records, 10);
    assert!(std::fs::read(&path).unwrap() == before);
    // Its permissions, but the owner may write.
    assert_eq!(std::fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o640);
}

/// The timestamp stage of a machine whose clock was a day ahead.
struct Ahead {
    next: u64,
}

const STEP: u64 = 1_000_000;

impl Handler for Ahead {
    fn describe(&self) -> StageInfo {
        Timestamp::nanos().describe()
    }

    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        self.next += STEP;
        prefix.copy_from_slice(&self.next.to_le_bytes());
        Ok(())
    }
}

#[test]
fn times_of_the_new_index_are_not_before_the_records() {
    let dir = common::dir();
    let (path, saved) = (dir.path().join("a.kek"), dir.path().join("saved.kek"));
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
    let begin = tomorrow.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut writer = Writer::options().capacity(1 << 22).stage(Ahead { next: begin }).create(&path).unwrap();
    for n in 0..20_000 {
        writer.append(&bytes(n, 100)).unwrap();
    }
    writer.close().unwrap();
    salvage(&path, &saved);
    let channel = Channel::open(&saved).unwrap();
    for sequence in [0, 1, 5_000, 12_345, 19_999] {
        let time = UNIX_EPOCH + Duration::from_nanos(begin + (sequence + 1) * STEP);
        let record = channel.records_from(Start::Time(time)).unwrap().next().unwrap().unwrap();
        assert_eq!(record.sequence(), sequence);
    }
}

#[test]
fn without_checksums_nothing_past_the_last_sync_of_another_boot_is_saved() {
    let dir = common::dir();
    let (path, copy) = (dir.path().join("none.kek"), dir.path().join("copy.kek"));
    let mut writer = Writer::options().capacity(1 << 16).checksum(Checksum::None).create(&path).unwrap();
    for n in 0..30 {
        writer.append(&bytes(n, 100)).unwrap();
        if n == 9 {
            writer.sync().unwrap();
        }
    }
    writer.abandon();
    common::wait_until_released(&path);
    std::fs::copy(&path, &copy).unwrap();
    // In the boot in which it was written everything is there.
    assert_eq!(salvage(&path, &dir.path().join("saved.kek")).0.records, 30);
    let (salvaged, gaps) = salvage(&copy, &dir.path().join("saved copy.kek"));
    assert_eq!((salvaged.records, gaps.len()), (10, 1));
    assert_eq!((gaps[0].from.offset(), gaps[0].resumes), (10 * FRAME, false));
}

#[test]
fn after_a_crash_of_the_file_system_alone_only_what_was_synced_is_saved_without_checksums() {
    let dir = common::dir();
    let (from, to) = (dir.path().join("from.kek"), dir.path().join("to.kek"));
    let mut writer = Writer::options().capacity(64 << 10).checksum(Checksum::None).create(&from).unwrap();
    writer.append(b"synced").unwrap();
    writer.sync().unwrap();
    writer.append(b"in memory only").unwrap();
    writer.abandon();
    common::wait_until_released(&from);
    assert_eq!(Channel::salvage_options().survey(&from, |_| ()).unwrap().records, 2);
    let salvaged = Channel::salvage_options().crashed(true).run(&from, &to, |_| ()).unwrap();
    assert_eq!((salvaged.records, salvaged.gap_count), (1, 1), "{salvaged:?}");
    assert_eq!(common::payloads(&Channel::open(&to).unwrap()), [b"synced"]);
}
