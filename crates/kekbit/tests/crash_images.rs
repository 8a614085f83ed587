//! What a crash of the machine may leave of a channel: of everything that was written after the last sync, any subset
//! of the disk's sectors, in any order.
//!
//! A scene is a channel that was written, synced (its file then is `synced`) and written on (`crashed`). An image takes
//! for each sector that differs either the old or the new content. It lies in a file of its own, whose inode is not the
//! header's, so that it is read as after another boot. Of every image a reader must get exactly the first so many
//! records that were appended, at least the synced ones, batches whole or not at all, and sealing must change nothing
//! about that.

mod common;

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{Numbers, bytes, data_offset, frame_len, round_up};
use kekbit::{Channel, Checksum, Cut, Durability, End, Prepare, SealError, Start, State, Writer};
use tempfile::TempDir;

/// What the machine was doing when it crashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Crash {
    /// Nothing to the disk on purpose; the kernel was writing back.
    Appending,
    /// A sync.
    Syncing,
    /// Closing the channel.
    Closing,
    /// The channel had been closed without a sync.
    ClosedUnsynced,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    checksum: Checksum,
    crash: Crash,
    /// Whether the file had an earlier life, full of frames.
    reused: bool,
    /// What the disk writes at once.
    unit: usize,
    /// Whether a unit that was lost and held nothing synced may read as zeros.
    zeros: bool,
    /// Records between two syncs, at the most.
    records: u64,
    /// Whether each record's frame fills one unit, so that a lost one shows a whole frame of an earlier life.
    aligned: bool,
}

const PLAN: Plan = Plan {
    checksum: Checksum::Crc32c,
    crash: Crash::Appending,
    reused: false,
    unit: 512,
    zeros: false,
    records: 6,
    aligned: false,
};

/// What one append has added.
struct Group {
    payloads: Vec<Vec<u8>>,
    /// The tail behind it.
    tail: u64,
}

struct Scene {
    plan: Plan,
    seed: u64,
    synced: Vec<u8>,
    crashed: Vec<u8>,
    groups: Vec<Group>,
    /// Groups that had been synced.
    durable: usize,
    first_sequence: u64,
    inode: u64,
}

const SLOTS: [usize; 2] = [4096 + 2048, 4096 + 3072];

/// Where the slot lies that was written last.
fn newest_slot(file: &[u8]) -> usize {
    SLOTS.into_iter().max_by_key(|&at| common::word_at(file, at + 8)).unwrap()
}

fn payload(numbers: &mut Numbers, life: u64) -> Vec<u8> {
    let len = match numbers.below(10) {
        0 => 0,
        1 | 2 => numbers.below(9),
        3..=6 => 60 + numbers.below(200),
        7 | 8 => 400 + numbers.below(300),
        _ => numbers.below(2500),
    };
    bytes(numbers.next() ^ life, len as usize)
}

/// Appends something, unless it would end the channel. In another life the same numbers lead to other content in frames
/// of the same lengths.
fn append(writer: &mut Writer, numbers: &mut Numbers, plan: Plan, life: u64) -> Option<Group> {
    let batch = !plan.aligned && numbers.below(3) == 0;
    let count = if batch { 1 + numbers.below(5) } else { 1 };
    let payloads: Vec<_> =
        (0..count)
            .map(|_| {
                if plan.aligned {
                    bytes(numbers.next() ^ life, plan.unit - 8)
                } else {
                    payload(numbers, life)
                }
            })
            .collect();
    let inner: u64 = payloads.iter().map(|payload| frame_len(payload.len() as u64)).sum();
    let frame = if batch { frame_len(8 + inner) } else { inner };
    let tail = writer.tail().offset() + frame;
    if !writer.fits((frame - 8) as usize) {
        return None;
    }
    if numbers.below(8) == 0 {
        writer.heartbeat();
    }
    if numbers.below(4) == 0 {
        // A claim that comes to nothing, with what might be taken for a frame in it.
        let mut claim = writer.claim((frame - 8) as usize).unwrap();
        for word in claim.chunks_exact_mut(8) {
            let head = 1 << 60 | numbers.below(64) << 32 | (numbers.next() & 0xFFFF_FFFF);
            word.copy_from_slice(&head.to_le_bytes());
        }
    }
    if batch {
        let mut batch = writer.batch();
        payloads.iter().for_each(|payload| batch.push(payload).unwrap());
        batch.commit().unwrap();
    } else {
        writer.append(&payloads[0]).unwrap();
    }
    assert_eq!(writer.tail().offset(), tail);
    Some(Group { payloads, tail })
}

impl Scene {
    fn play(path: &Path, plan: Plan, seed: u64) -> Scene {
        let numbers = &mut Numbers(seed);
        let capacity = [4096, 8192, 16384, 32768][numbers.below(4) as usize];
        let prepare = [Prepare::OnDemand, Prepare::Inline(8192), Prepare::All][numbers.below(3) as usize];
        let first_sequence = numbers.below(1000);
        let durability =
            if plan.crash == Crash::ClosedUnsynced { Durability::Never } else { Durability::AtEnd };
        let options = Writer::options()
            .capacity(capacity)
            .max_record_len(capacity - 16)
            .checksum(plan.checksum)
            .prepare(prepare)
            .first_sequence(first_sequence)
            .durability(durability);
        let frames = &mut Numbers(seed ^ 0xF4A3);
        let mut writer = if plan.reused {
            let retired = path.with_extension("retired");
            let mut before = options.clone().create(&retired).unwrap();
            let frames = &mut frames.clone();
            while append(&mut before, frames, plan, 1).is_some() {}
            before.close().unwrap();
            options.create_from(retired, path).unwrap()
        } else {
            options.create(path).unwrap()
        };
        let mut groups = Vec::new();
        for _ in 0..numbers.below(4) {
            for _ in 0..numbers.below(plan.records) {
                groups.extend(append(&mut writer, frames, plan, 2));
            }
            writer.sync().unwrap();
        }
        let (synced, durable) = (std::fs::read(path).unwrap(), groups.len());
        for _ in 0..numbers.below(plan.records) {
            groups.extend(append(&mut writer, frames, plan, 2));
        }
        match plan.crash {
            Crash::Appending => writer.abandon(),
            Crash::Syncing => {
                writer.sync().unwrap();
                writer.abandon();
            }
            Crash::Closing | Crash::ClosedUnsynced => writer.close().unwrap(),
        }
        let crashed = std::fs::read(path).unwrap();
        let inode = path.metadata().unwrap().ino();
        Scene { plan, seed, synced, crashed, groups, durable, first_sequence, inode }
    }

    /// Whether the last thing that was written says that everything else had been synced, so that no crash leaves it
    /// without the rest.
    fn has_confirmation(&self) -> bool {
        match self.plan.crash {
            Crash::Closing => true,
            Crash::Syncing => self.plan.checksum == Checksum::None,
            Crash::Appending | Crash::ClosedUnsynced => false,
        }
    }

    /// The units in which the two files differ.
    fn dirty(&self) -> Vec<usize> {
        let len = self.synced.len().max(self.crashed.len());
        let unit = self.plan.unit;
        let kept = newest_slot(&self.crashed) / unit;
        (0..len.div_ceil(unit))
            .filter(|&i| self.unit(&self.synced, i) != self.unit(&self.crashed, i))
            .filter(|&i| !self.has_confirmation() || unit > 512 || i != kept)
            .collect()
    }

    /// One unit of a file, which reads as zeros past its end.
    fn unit(&self, file: &[u8], i: usize) -> Vec<u8> {
        let unit = self.plan.unit;
        let mut bytes: Vec<u8> = file.iter().skip(i * unit).take(unit).copied().collect();
        bytes.resize(unit, 0);
        bytes
    }

    fn synced_tail(&self) -> u64 {
        self.durable.checked_sub(1).map_or(0, |last| self.groups[last].tail)
    }

    /// The file after a crash: of the dirty units those are new for which `is_new` says so.
    fn image(&self, dirty: &[usize], is_new: impl Fn(usize) -> bool, numbers: &mut Numbers) -> Vec<u8> {
        let unit = self.plan.unit;
        let mut image = self.synced.clone();
        image.resize(round_up(self.synced.len().max(self.crashed.len()) as u64, 4096) as usize, 0);
        let free = (data_offset(&image) + self.synced_tail()) as usize;
        for (i, &at) in dirty.iter().enumerate() {
            let bytes = &mut image[at * unit..(at + 1) * unit];
            if is_new(i) {
                bytes.copy_from_slice(&self.unit(&self.crashed, at));
            } else if self.plan.zeros && at * unit >= free && numbers.below(2) == 0 {
                bytes.fill(0);
            }
        }
        let lens = [self.synced.len(), self.crashed.len()];
        image.truncate(lens[numbers.below(2) as usize]);
        image
    }
}

/// What is expected of an image beyond a prefix of the records.
#[derive(Clone, Copy)]
enum Expected {
    AtLeastDurable,
    ExactlyDurable,
    Everything,
}

/// The directory for a test's files, and how many images it has looked at.
struct Bench {
    dir: TempDir,
    images: usize,
}

/// What sealing has cut off is everything behind the good records, but for zeros at the end.
fn check_cut(cut: Option<&Cut>, tail: u64, unsealed: &[u8], context: &str) {
    let behind = &unsealed[(data_offset(unsealed) + tail) as usize..];
    let words = behind.chunks_exact(8).rposition(|word| word != [0; 8]).map_or(0, |at| at + 1);
    assert_eq!(cut.map_or(0, |cut| cut.len), 8 * words as u64, "{context}");
    if let Some(cut) = cut {
        assert!(std::fs::read(&cut.path).unwrap() == behind[..8 * words], "{context}");
        std::fs::remove_file(&cut.path).unwrap();
    }
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: common::dir(), images: 0 }
    }

    /// Checks scenes until there have been `least` images.
    fn check(&mut self, least: usize, plan: Plan) {
        let goal = self.images + least;
        for seed in 1.. {
            let path = self.dir.path().join("scene.kek");
            self.check_scene(&Scene::play(&path, plan, seed));
            // Only now, so that no image can have got its inode.
            std::fs::remove_file(path).unwrap();
            if self.images >= goal {
                return;
            }
        }
    }

    fn check_scene(&mut self, scene: &Scene) {
        let numbers = &mut Numbers(scene.seed ^ 0x1A6E);
        let dirty = scene.dirty();
        let without_checks = scene.plan.checksum == Checksum::None;
        let expected = if without_checks { Expected::ExactlyDurable } else { Expected::AtLeastDurable };
        if dirty.len() <= 12 {
            for subset in 0..1_u64 << dirty.len() {
                let image = scene.image(&dirty, |i| subset >> i & 1 == 1, numbers);
                self.check_image(scene, &image, expected, subset);
            }
        } else {
            for _ in 0..64 {
                let (salt, share) = (numbers.next(), numbers.below(17));
                let is_new = |i: usize| Numbers(salt ^ i as u64).below(16) < share;
                let image = scene.image(&dirty, is_new, numbers);
                self.check_image(scene, &image, expected, salt);
            }
        }
        if scene.has_confirmation() {
            // The first half of the work was done, then the second.
            let (mut image, slot) = (scene.crashed.clone(), newest_slot(&scene.crashed));
            image[slot..slot + 512].copy_from_slice(&scene.synced[slot..slot + 512]);
            let expected = if without_checks && scene.plan.crash == Crash::Syncing {
                Expected::ExactlyDurable
            } else {
                Expected::Everything
            };
            self.check_image(scene, &image, expected, u64::MAX - 1);
            self.check_image(scene, &scene.crashed, Expected::Everything, u64::MAX);
        }
    }

    fn check_image(&mut self, scene: &Scene, image: &[u8], expected: Expected, subset: u64) {
        let path = self.dir.path().join("image.kek");
        std::fs::write(&path, image).unwrap();
        assert_ne!(path.metadata().unwrap().ino(), scene.inode, "the image would pass for the same boot");
        let mut context = format!("seed {}, subset {subset:#x}, {:?}", scene.seed, scene.plan);
        let whole = check_content(&path, scene, None, &context);
        let enough = match expected {
            Expected::AtLeastDurable => whole >= scene.durable,
            Expected::ExactlyDurable => whole == scene.durable,
            Expected::Everything => whole == scene.groups.len(),
        };
        assert!(enough, "{whole} groups of {} durable: {context}", scene.durable);
        self.images += 1;
        // Sealing costs more than reading; a good part is enough.
        if subset.is_multiple_of(2) {
            context.push_str(", sealed");
            self.check_sealing(&path, scene, whole, &context);
        }
        std::fs::remove_file(&path).unwrap();
    }

    /// Seals the image, which must change nothing about its records, and lets the machine crash meanwhile.
    fn check_sealing(&mut self, path: &PathBuf, scene: &Scene, whole: usize, context: &str) {
        let before = Channel::open(path).unwrap().end_point().unwrap();
        let (unsealed, sealed) = (std::fs::read(path).unwrap(), Channel::seal(path));
        if before.sealed {
            assert!(matches!(sealed, Err(SealError::Ended { .. })), "{sealed:?}: {context}");
            return;
        }
        let sealed = sealed.unwrap_or_else(|error| panic!("{error}: {context}"));
        check_cut(sealed.cut.as_ref(), before.position.offset(), &unsealed, context);
        assert_eq!((sealed.before, sealed.end.state), (before.state, State::Abandoned), "{context}");
        assert_eq!(
            (sealed.end.position, sealed.end.sequence),
            (before.position, before.sequence),
            "{context}"
        );
        check_content(path, scene, Some(whole), context);
        let end = Channel::open(path).unwrap().end_point().unwrap();
        assert!(end.sealed && end.state == State::Abandoned, "{end:?}: {context}");
        assert!(matches!(Channel::seal(path), Err(SealError::Ended { .. })), "{context}");
        let file = std::fs::read(path).unwrap();
        let tail = end.position.offset();
        assert_eq!(file.len() as u64, data_offset(&file) + round_up(tail + 8, 4096), "{context}");

        // A crash while it was being sealed, before the second slot was written.
        let confirmation = newest_slot(&file) / 512;
        let mut image = unsealed;
        let mut text = format!("{context}, crashed while sealing, new:");
        let numbers = &mut Numbers(scene.seed ^ image.len() as u64 ^ self.images as u64);
        for at in 0..file.len().min(image.len()) / 512 {
            let range = at * 512..(at + 1) * 512;
            if image[range.clone()] != file[range.clone()] && at != confirmation && numbers.below(2) == 0 {
                image[range.clone()].copy_from_slice(&file[range]);
                write!(text, " {at}").unwrap();
            }
        }
        let again = path.with_extension("again");
        std::fs::write(&again, image).unwrap();
        check_content(&again, scene, Some(whole), &text);
        std::fs::remove_file(again).unwrap();
        self.images += 1;
    }
}

/// Reads the channel in every way there is. Its records must be the first so many groups of the scene; returns how many.
fn check_content(path: &Path, scene: &Scene, exactly: Option<usize>, context: &str) -> usize {
    let channel = Channel::open(path).unwrap_or_else(|error| panic!("{error}: {context}"));
    let read: Vec<_> = channel
        .records()
        .map(|record| record.unwrap_or_else(|error| panic!("{error}: {context}")).payload())
        .collect();
    let (mut whole, mut at) = (0, 0);
    for group in &scene.groups {
        let end = at + group.payloads.len();
        if end > read.len() {
            break;
        }
        assert!(read[at..end] == group.payloads[..], "group {whole} is not what was appended: {context}");
        (whole, at) = (whole + 1, end);
    }
    assert_eq!(at, read.len(), "part of a batch, or more than was appended: {context}");
    if let Some(exactly) = exactly {
        assert_eq!(whole, exactly, "{context}");
    }

    let end = channel.end_point().unwrap_or_else(|error| panic!("{error}: {context}"));
    let tail = whole.checked_sub(1).map_or(0, |last| scene.groups[last].tail);
    assert_eq!(end.position.offset(), tail, "{context}");
    assert_eq!(end.sequence, scene.first_sequence + read.len() as u64, "{context}");
    let verified = channel.verify(|_| ()).unwrap_or_else(|error| panic!("{error}: {context}"));
    assert_eq!(verified, end, "{context}");
    match end.state {
        State::Abandoned => {}
        State::Torn => assert!(!end.sealed, "{context}"),
        State::Closed => assert!(end.sealed && whole == scene.groups.len(), "{context}"),
        other => panic!("{other} after a crash: {context}"),
    }

    let mut reader = channel.reader(Start::Last(2)).unwrap();
    for expected in &read[read.len().saturating_sub(2)..] {
        let record = reader.try_next().unwrap().map(|record| record.payload().to_vec());
        assert_eq!(record.as_deref(), Some(*expected), "{context}");
    }
    assert!(reader.try_next().unwrap().is_none(), "{context}");
    let seen = reader.check_end().unwrap();
    let ends = [(State::Abandoned, End::Abandoned), (State::Torn, End::Torn), (State::Closed, End::Closed)];
    assert!(ends.iter().any(|&(state, end_seen)| state == end.state && Some(end_seen) == seen), "{context}");
    whole
}

#[test]
fn any_subset_of_sectors_leaves_a_prefix_with_everything_synced() {
    let mut bench = Bench::new();
    bench.check(3000, PLAN);
    bench.check(1500, Plan { records: 16, ..PLAN });
    println!("{} images", bench.images);
}

#[test]
fn a_crash_in_the_middle_of_a_sync_leaves_what_the_sync_before_had_reached() {
    let mut bench = Bench::new();
    bench.check(2000, Plan { crash: Crash::Syncing, ..PLAN });
    println!("{} images", bench.images);
}

#[test]
fn lost_pages_and_zeroed_sectors_make_no_difference() {
    let mut bench = Bench::new();
    bench.check(700, Plan { unit: 4096, records: 16, ..PLAN });
    bench.check(700, Plan { zeros: true, ..PLAN });
    bench.check(400, Plan { unit: 4096, zeros: true, records: 16, ..PLAN });
    println!("{} images", bench.images);
}

#[test]
fn frames_of_an_earlier_life_stay_dead_after_a_crash() {
    let mut bench = Bench::new();
    bench.check(1500, Plan { reused: true, records: 10, ..PLAN });
    bench.check(500, Plan { reused: true, aligned: true, records: 20, ..PLAN });
    bench.check(500, Plan { reused: true, checksum: Checksum::None, records: 10, ..PLAN });
    println!("{} images", bench.images);
}

#[test]
fn without_checksums_nothing_is_believed_but_what_was_synced() {
    let mut bench = Bench::new();
    let plan = Plan { checksum: Checksum::None, ..PLAN };
    bench.check(1000, plan);
    bench.check(700, Plan { crash: Crash::Syncing, ..plan });
    bench.check(300, Plan { crash: Crash::ClosedUnsynced, ..plan });
    println!("{} images", bench.images);
}

#[test]
fn a_crash_around_the_end_of_a_channel_leaves_a_prefix_or_all_of_it() {
    let mut bench = Bench::new();
    bench.check(1000, Plan { crash: Crash::Closing, ..PLAN });
    bench.check(700, Plan { crash: Crash::ClosedUnsynced, ..PLAN });
    println!("{} images", bench.images);
}
