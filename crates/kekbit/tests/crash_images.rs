//! What a crash of the machine may leave of a channel: of everything that was written since a sync, any subset of the
//! disk's sectors, in any order.
//!
//! A scene (scene.rs) is a channel that is created, written, synced, ended and sealed, on a disk that notes what each
//! sync has made durable (disk.rs). At some moments, most of them in the middle of a sync, the machine crashes. An image
//! is what the disk may have then: each unit, of 512 or 4096 bytes, that was written since it became durable is
//!
//! - **old**, as when it became durable; in a file's first life that is often zeros, in a later one content of an earlier,
//! - **new**, as in memory at the crash,
//! - **stale**, as in memory at some time between,
//! - **zeros**, as if it had never been written in this life, or
//! - **garbage**: half old and half new, half garbage, all garbage, or what belongs elsewhere.
//!
//! Zeros and garbage are for units only that hold nothing that was synced: a disk that destroys what it has already
//! written breaks every promise. So they are in the data behind the synced tail; in the index and the trail, which are
//! derived; in the live words, which nobody believes after a crash; and in the slot that is being written, not in the one
//! that counts.
//!
//! An image lies in a file of its own, whose inode is not the header's, so that it is read as after another boot. A
//! reader must get exactly the first so many records that were appended, at least those that somebody was told are
//! durable, batches whole or not at all, and learn that the channel is torn exactly if there is something behind them.
//! Then it is sealed, on such a disk again: wherever in that the machine crashes once more, nothing may change about it.

mod common;
#[path = "crash_images/disk.rs"]
mod disk;
#[path = "common/interposed.rs"]
mod interposed;
#[path = "crash_images/scene.rs"]
mod scene;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::campaign::{Campaign, is_long};
use common::sectors::{SECTOR, Sectors};
use common::{Numbers, bytes, data_offset, round_up, word_at};
use disk::{Disk, Moment};
use kekbit::{Channel, Checksum, Cut, Durability, End, SealError, Start, State};
use scene::{Cast, Ending, PLAN, Plan, Scene};
use tempfile::TempDir;

const CONTROL: usize = 4096;
const SLOTS: [usize; 2] = [CONTROL + 2048, CONTROL + 3072];

/// Which slot of a file was written last, and what it says.
fn newest_slot(file: &[u8]) -> (usize, u64) {
    let at = SLOTS.into_iter().max_by_key(|&at| word_at(file, at + 8)).unwrap();
    (at, word_at(file, at))
}

/// All that may be in one unit after a crash.
struct Choices {
    at: usize,
    new: Vec<u8>,
    others: Vec<Vec<u8>>,
}

/// What the disk may have of a file.
struct Remains<'m> {
    moment: &'m Moment,
    unit: usize,
    dirty: Vec<Choices>,
}

impl<'m> Remains<'m> {
    fn new(moment: &'m Moment, plan: Plan, numbers: &mut Numbers) -> Remains<'m> {
        let unit = plan.unit;
        let dirty = moment.dirty(unit);
        let dirty = dirty.into_iter().map(|at| Choices::new(moment, at, plan, numbers)).collect();
        Remains { moment, unit, dirty }
    }

    /// The file with, for each dirty unit, what `choose` says: `None` is old.
    fn image<'s>(&'s self, choose: impl Fn(usize, &'s Choices) -> Option<&'s [u8]>, len: usize) -> Vec<u8> {
        let units = self.dirty.iter().enumerate();
        let chosen = units.filter_map(|(i, choices)| Some((choices.at, choose(i, choices)?)));
        self.moment.with(self.unit, chosen, len)
    }

    /// One of the lengths that the file has had.
    fn len(&self, numbers: &mut Numbers) -> usize {
        self.moment.len(numbers)
    }
}

impl Choices {
    fn new(moment: &Moment, at: usize, plan: Plan, numbers: &mut Numbers) -> Choices {
        let unit = plan.unit;
        let [old, new] = [&moment.durable, &moment.current].map(|file| Sectors::unit(file, at, unit));
        let mut others = moment.stale(at, unit);
        if may_be_garbage(moment, at * unit, plan) {
            others.push(vec![0; unit]);
            if plan.checksum == Checksum::Crc32c {
                // Torn writes: at any byte, and with garbage as the other half or as all of it.
                let cut = numbers.below(unit as u64) as usize;
                let random = bytes(numbers.next(), unit);
                let halves = [(&old, &new), (&new, &old), (&new, &random), (&random, &new)];
                for (first, second) in halves {
                    others.push([&first[..cut], &second[cut..]].concat());
                }
                // What belongs elsewhere: the disk has written to the wrong place.
                let first = data_offset(&moment.current) / unit as u64;
                let elsewhere = first + numbers.below(moment.published / unit as u64 + 1);
                others.push(Sectors::unit(&moment.current, elsewhere as usize, unit));
            }
        }
        Choices { at, new, others }
    }
}

/// Whether the unit that begins at `begin` holds nothing that had been synced.
fn may_be_garbage(moment: &Moment, begin: usize, plan: Plan) -> bool {
    let file = &moment.current;
    let data = data_offset(file) as usize;
    if begin < data {
        // A unit of 512 bytes holds one slot at most; a page holds both.
        return plan.unit == SECTOR && begin >= CONTROL && begin != newest_slot(&moment.durable).0;
    }
    // A slot may tell of a sync that is not yet acknowledged to anybody.
    let synced = [&moment.durable, file].map(|file| newest_slot(file).1 as usize).into_iter().max().unwrap();
    begin - data >= synced.max(moment.acknowledged as usize)
}

/// What must be found in an image.
#[derive(Clone, Copy)]
struct Expected {
    /// Position that the records must reach.
    least: u64,
    /// How many groups there must be, if that is known.
    exactly: Option<usize>,
    /// Whether there must be a terminal frame.
    ended: bool,
    /// Whether it is not torn: all that was written is there.
    intact: bool,
}

/// The files of one thread of a campaign, and how many images it has looked at.
struct Bench {
    dir: TempDir,
    storage: TempDir,
    image: File,
    path: PathBuf,
    images: u64,
    torn: u64,
}

impl Bench {
    fn new() -> Bench {
        let dir = common::dir();
        let path = dir.path().join("image.kek");
        let image = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        Bench { dir, storage: tempfile::tempdir().unwrap(), image, path, images: 0, torn: 0 }
    }

    /// Checks scenes until there have been `least` images more.
    fn check(&mut self, least: u64, plan: Plan) {
        let (goal, torn) = (self.images + least, self.torn);
        for seed in 1.. {
            self.check_scene(plan, seed);
            if self.images >= goal {
                println!(
                    "{} images, {} of them torn: {plan:?}",
                    self.images + least - goal,
                    self.torn - torn
                );
                return;
            }
        }
    }

    fn check_scene(&mut self, plan: Plan, seed: u64) {
        let dir = if plan.storage { &self.storage } else { &self.dir };
        let path = dir.path().join("scene.kek");
        let scene = Scene::play(&path, plan, seed);
        let inode = path.metadata().unwrap().ino();
        assert_ne!(self.image.metadata().unwrap().ino(), inode, "the image would pass for the same boot");
        std::fs::remove_file(&path).unwrap();
        for (which, moment) in scene.moments.iter().enumerate() {
            self.check_moment(&scene, which, moment);
        }
    }

    fn check_moment(&mut self, scene: &Scene, which: usize, moment: &Moment) {
        let numbers = &mut Numbers(scene.seed ^ (which as u64) << 56 ^ 0x1A6E);
        let remains = Remains::new(moment, scene.plan, numbers);
        let context = format!("seed {}, moment {which}, {:?}", scene.seed, scene.plan);
        let expected =
            Expected { least: moment.acknowledged, exactly: None, ended: moment.ended, intact: false };
        let units = remains.dirty.len();
        if units <= all_subsets_up_to() {
            for subset in 0..1_u64 << units {
                let choose = |i: usize, of| new_if(subset >> i & 1 == 1, of);
                let image = remains.image(choose, remains.len(numbers));
                self.check_image(scene, &image, expected, &|| format!("{context}, subset {subset:#b}"));
            }
        }
        let rich = if units == 0 { 0 } else { (8 + 4 * units.min(12)) * if is_long() { 2 } else { 1 } };
        for round in 0..rich {
            let (salt, share, mixed) = (numbers.next(), numbers.below(17), numbers.below(3) > 0);
            let choose = |i: usize, of| pick(of, &mut Numbers(salt ^ i as u64), share, mixed);
            let image = remains.image(choose, remains.len(numbers));
            self.check_image(scene, &image, expected, &|| format!("{context}, mixture {round}"));
        }
        // The machine stopped, but everything had been written: then everything is there.
        let alone = !scene.plan.has_threads();
        let no_checks = scene.plan.checksum == Checksum::None;
        let least = if no_checks { moment.acknowledged } else { moment.published };
        let expected = Expected { least, intact: alone && !no_checks, ..expected };
        self.check_image(scene, &moment.current, expected, &|| format!("{context}, everything"));
    }

    fn put(&self, image: &[u8]) {
        self.image.write_all_at(image, 0).unwrap();
        self.image.set_len(image.len() as u64).unwrap();
    }

    fn check_image(&mut self, scene: &Scene, image: &[u8], expected: Expected, context: &dyn Fn() -> String) {
        self.put(image);
        let found = check_content(&self.path, scene, image, expected, context);
        self.images += 1;
        self.torn += u64::from(found.state == State::Torn);
        // Sealing costs more than reading; a good part is enough.
        if self.images.is_multiple_of(8) {
            let expected = Expected { exactly: Some(found.groups), ..expected };
            self.check_sealing(scene, image, found, expected, &|| format!("{}, sealed", context()));
        }
    }

    /// Seals the image, which must change nothing about its records, and lets the machine crash meanwhile.
    fn check_sealing(
        &mut self,
        scene: &Scene,
        image: &[u8],
        found: Found,
        expected: Expected,
        context: &dyn Fn() -> String,
    ) {
        let numbers = &mut Numbers(scene.seed ^ self.images);
        let disk = Disk::watch_image(&self.path, 8, numbers.clone());
        let sealed = Channel::seal(&self.path);
        if found.sealed {
            assert!(matches!(sealed, Err(SealError::Ended { .. })), "{sealed:?}: {}", context());
            return;
        }
        let sealed = sealed.unwrap_or_else(|error| panic!("{error}: {}", context()));
        assert_eq!((sealed.before, sealed.end.state), (found.state, State::Abandoned), "{}", context());
        check_cut(sealed.cut.as_ref(), found.tail, image, context);
        let mut moments = disk.moments();
        moments.push(disk.crash());
        drop(disk);

        let file = std::fs::read(&self.path).unwrap();
        let after = Expected { ended: true, ..expected };
        let found = check_content(&self.path, scene, &file, after, context);
        assert_eq!(sealed.end.position.offset(), found.tail, "{}", context());
        assert!(matches!(Channel::seal(&self.path), Err(SealError::Ended { .. })), "{}", context());
        let len = data_offset(&file) + round_up(found.tail + 8, 4096);
        assert_eq!(file.len() as u64, len, "{}", context());

        let last = moments.len() - 1;
        for (which, moment) in moments.iter().enumerate() {
            let expected = if which == last { after } else { expected };
            self.check_crash_while_sealing(scene, moment, expected, numbers, &|| {
                format!("{}, crashed at its sync {which} of {last}", context())
            });
        }
    }

    fn check_crash_while_sealing(
        &mut self,
        scene: &Scene,
        moment: &Moment,
        expected: Expected,
        numbers: &mut Numbers,
        context: &dyn Fn() -> String,
    ) {
        let remains = Remains::new(moment, Plan { unit: SECTOR, ..scene.plan }, numbers);
        let units = remains.dirty.len();
        // All subsets now and then, a few each time.
        let all = units <= 10 && numbers.below(64) == 0;
        let (count, salt) = if all { (1 << units, 0) } else { (3.min(1 << units.min(10)), numbers.next()) };
        for subset in 0..count {
            let subset = if all { subset } else { salt.rotate_left(subset as u32 * 20) };
            let choose = |i: usize, of| new_if(subset >> (i % 64) & 1 == 1, of);
            let image = remains.image(choose, remains.len(numbers));
            self.put(&image);
            let context = || format!("{}, subset {subset:#b} of {units}", context());
            let found = check_content(&self.path, scene, &image, expected, &context);
            self.images += 1;
            // Once more, as whoever comes after the second crash does.
            match Channel::seal(&self.path) {
                Ok(sealed) => {
                    assert!(!found.sealed, "{}", context());
                    check_cut(sealed.cut.as_ref(), found.tail, &image, &context);
                }
                Err(SealError::Ended { .. }) => assert!(found.sealed, "{}", context()),
                Err(error) => panic!("{error}: {}", context()),
            }
            let file = std::fs::read(&self.path).unwrap();
            check_content(&self.path, scene, &file, Expected { ended: true, ..expected }, &context);
        }
    }
}

/// What sealing has cut off is everything behind the good records, but for zeros at the end.
fn check_cut(cut: Option<&Cut>, tail: u64, unsealed: &[u8], context: &dyn Fn() -> String) {
    let behind = unsealed.get((data_offset(unsealed) + tail) as usize..).unwrap_or_default();
    let words = behind.chunks(8).rposition(|word| word.iter().any(|byte| *byte != 0)).map_or(0, |at| at + 1);
    assert_eq!(cut.map_or(0, |cut| cut.len), 8 * words as u64, "{}", context());
    if let Some(cut) = cut {
        assert!(std::fs::read(&cut.path).unwrap() == behind[..8 * words], "{}", context());
        std::fs::remove_file(&cut.path).unwrap();
    }
}

/// Moments with at most so many dirty units are turned into all the images that old and new make.
fn all_subsets_up_to() -> usize {
    if is_long() { 12 } else { 6 }
}

fn new_if(is_new: bool, choices: &Choices) -> Option<&[u8]> {
    is_new.then_some(&choices.new)
}

/// New by `share` of 16; otherwise old or, if `mixed`, something else.
fn pick<'c>(choices: &'c Choices, numbers: &mut Numbers, share: u64, mixed: bool) -> Option<&'c [u8]> {
    if mixed && !choices.others.is_empty() && numbers.below(3) == 0 {
        return Some(&choices.others[numbers.below(choices.others.len() as u64) as usize]);
    }
    new_if(numbers.below(16) < share, choices)
}

/// What a reader has found in an image.
#[derive(Clone, Copy, Debug)]
struct Found {
    groups: usize,
    tail: u64,
    state: State,
    sealed: bool,
}

/// Reads the channel in every way there is. Its records must be the first so many groups of the scene.
fn check_content(
    path: &Path,
    scene: &Scene,
    image: &[u8],
    expected: Expected,
    context: &dyn Fn() -> String,
) -> Found {
    let channel = Channel::open(path).unwrap_or_else(|error| panic!("{error}: {}", context()));
    let read: Vec<_> = channel
        .records()
        .map(|record| record.unwrap_or_else(|error| panic!("{error}: {}", context())).payload())
        .collect();
    let (mut groups, mut at) = (0_usize, 0);
    for group in &scene.groups {
        let end = at + group.payloads.len();
        if end > read.len() {
            break;
        }
        assert!(
            read[at..end] == group.payloads[..],
            "group {groups} is not what was appended: {}",
            context()
        );
        (groups, at) = (groups + 1, end);
    }
    assert_eq!(at, read.len(), "part of a batch, or more than was appended: {}", context());
    let tail = groups.checked_sub(1).map_or(0, |last| scene.groups[last].tail);
    assert!(tail >= expected.least, "ends at {tail}, {} was durable: {}", expected.least, context());
    if let Some(exactly) = expected.exactly {
        assert_eq!(groups, exactly, "{}", context());
    }

    let end = channel.end_point().unwrap_or_else(|error| panic!("{error}: {}", context()));
    assert_eq!(end.position.offset(), tail, "{}", context());
    assert_eq!(end.sequence, scene.first_sequence + read.len() as u64, "{}", context());
    let verified = channel.verify(|_| ()).unwrap_or_else(|error| panic!("{error}: {}", context()));
    assert_eq!(verified, end, "{}", context());
    check_state(scene, image, tail, end.state, end.sealed, expected, context);

    let mut reader = channel.reader(Start::Last(2)).unwrap();
    for expected in &read[read.len().saturating_sub(2)..] {
        let record = reader.try_next().unwrap().map(|record| record.payload());
        assert_eq!(record, Some(*expected), "{}", context());
    }
    assert!(reader.try_next().unwrap().is_none(), "{}", context());
    let seen = reader.check_end().unwrap();
    let ends = [
        (State::Abandoned, End::Abandoned),
        (State::Torn, End::Torn),
        (State::Closed, End::Closed),
        (State::Full, End::Full),
    ];
    let agree = ends.iter().any(|&(state, end_seen)| state == end.state && Some(end_seen) == seen);
    assert!(agree, "{seen:?}: {}", context());
    Found { groups, tail, state: end.state, sealed: end.sealed }
}

/// Whether the state is the one that the bytes at the tail stand for.
fn check_state(
    scene: &Scene,
    image: &[u8],
    tail: u64,
    state: State,
    sealed: bool,
    expected: Expected,
    context: &dyn Fn() -> String,
) {
    let is_free = word_at(image, (data_offset(image) + tail) as usize) == 0;
    let proper = match (state, sealed) {
        (State::Abandoned, false) => is_free,
        (State::Torn, false) => !is_free && !expected.intact,
        (State::Closed | State::Full | State::Abandoned, true) => !is_free,
        _ => false,
    };
    assert!(proper, "{state}, sealed: {sealed}, nothing at the tail: {is_free}: {}", context());
    assert!(sealed || !expected.ended, "its end was durable, but it is {state}: {}", context());
    if matches!(state, State::Closed | State::Full) {
        assert_eq!(tail, scene.groups.last().map_or(0, |group| group.tail), "{state}: {}", context());
    }
    if scene.plan.checksum == Checksum::None && !sealed {
        assert_eq!(tail, newest_slot(image).1, "more or less than was synced is believed: {}", context());
    }
}

#[test]
fn any_subset_of_sectors_leaves_a_prefix_with_everything_synced() {
    let mut bench = Bench::new();
    bench.check(10, PLAN);
    bench.check(6, Plan { appends: 40, ..PLAN });
}

#[test]
fn each_record_that_was_synced_by_itself_is_found_though_no_slot_tells_of_it() {
    let mut bench = Bench::new();
    bench.check(10, Plan { durability: Durability::Each, appends: 48, ..PLAN });
    bench.check(2, Plan { durability: Durability::Each, storage: true, appends: 30, ..PLAN });
}

#[test]
fn records_that_threads_waited_for_are_there() {
    let mut bench = Bench::new();
    bench.check(4, Plan { cast: Cast::Shared, durability: Durability::Each, appends: 24, ..PLAN });
    bench.check(4, Plan { cast: Cast::Shared, appends: 24, ..PLAN });
    bench.check(4, Plan { durability: Durability::Interval(Duration::from_millis(1)), ..PLAN });
}

#[test]
fn lost_pages_make_no_difference() {
    let mut bench = Bench::new();
    bench.check(4, Plan { unit: 4096, appends: 40, ..PLAN });
    bench.check(4, Plan { unit: 4096, reused: true, appends: 40, ..PLAN });
}

#[test]
fn frames_of_an_earlier_life_and_of_other_places_stay_dead() {
    let mut bench = Bench::new();
    bench.check(6, Plan { reused: true, ..PLAN });
    bench.check(8, Plan { reused: true, aligned: true, appends: 20, ..PLAN });
    bench.check(24, Plan { aligned: true, appends: 20, ..PLAN });
    bench.check(4, Plan { reused: true, checksum: Checksum::None, ..PLAN });
}

#[test]
fn without_checksums_nothing_is_believed_but_what_was_synced() {
    let mut bench = Bench::new();
    let plan = Plan { checksum: Checksum::None, ..PLAN };
    bench.check(6, plan);
    bench.check(4, Plan { durability: Durability::Each, ..plan });
    bench.check(4, Plan { durability: Durability::Never, ending: Ending::Ended, ..plan });
}

#[test]
fn an_end_that_was_acknowledged_is_there() {
    let mut bench = Bench::new();
    bench.check(6, Plan { ending: Ending::Ended, ..PLAN });
    bench.check(4, Plan { ending: Ending::Ended, durability: Durability::Never, ..PLAN });
    bench.check(6, Plan { ending: Ending::Sealed, ..PLAN });
    bench.check(4, Plan { ending: Ending::Sealed, durability: Durability::Never, ..PLAN });
}

#[test]
fn crash_images_of_all_kinds() {
    let campaign = Campaign::new("crash images");
    let goal = campaign.count(5000, 1_000_000);
    let (images, torn, scenes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = if is_long() { 2 } else { 1 };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut bench = Bench::new();
                while images.load(Ordering::Relaxed) < goal {
                    let mut numbers = campaign.numbers(scenes.fetch_add(1, Ordering::Relaxed));
                    let plan = Plan::any(&mut numbers);
                    bench.check_scene(plan, numbers.next());
                    images.fetch_add(std::mem::take(&mut bench.images), Ordering::Relaxed);
                    torn.fetch_add(std::mem::take(&mut bench.torn), Ordering::Relaxed);
                }
            });
        }
    });
    let (images, torn, scenes) = (images.into_inner(), torn.into_inner(), scenes.into_inner());
    campaign.done(images, format!("images of {scenes} scenes, {torn} torn, nothing synced lost"));
}
