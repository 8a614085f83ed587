//! What must be true of an image, and of what comes of it.

use std::fs;
use std::path::{Path, PathBuf};

use kekbit::{Journal, JournalReadError, Start};
use tempfile::TempDir;

use crate::common::campaign::is_long;
use crate::common::{self, Numbers};
use crate::disk::{Change, Disk, Moment};
use crate::image::{self, Recipe, Which};
use crate::scene::{self, Plan, Scene, Script, payload};

/// How much was seen of what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) images: u64,
    /// Of a crash in what comes of an image.
    pub(crate) again: u64,
    /// Images of which files were set aside, or records were cut off.
    pub(crate) aside: u64,
    pub(crate) cut: u64,
    /// Readers that were told that they lag.
    pub(crate) lagged: u64,
    /// Images in which not everything is that was appended.
    pub(crate) lost: u64,
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Count>>(counts: I) -> Count {
        counts.fold(Count::default(), |a, b| Count {
            images: a.images + b.images,
            again: a.again + b.again,
            aside: a.aside + b.aside,
            cut: a.cut + b.cut,
            lagged: a.lagged + b.lagged,
            lost: a.lost + b.lost,
        })
    }
}

/// The directories of one thread of a campaign.
pub(crate) struct Bench {
    dir: TempDir,
    storage: TempDir,
    pub(crate) count: Count,
}

/// What must be found in an image.
#[derive(Clone, Debug)]
struct Expected<'s> {
    plan: Plan,
    /// What was appended before the first crash.
    script: &'s Script,
    /// From which sequence on the records are those of which life.
    lives: Vec<(u64, u64)>,
    /// Records from and up to which everything must be there.
    oldest: u64,
    least: u64,
    /// In so many pieces at the most.
    runs: usize,
    /// At least so many must be found by whoever goes on.
    found: u64,
    /// At most so many can be there.
    most: u64,
    cursors: Vec<(String, u64)>,
}

impl Expected<'_> {
    fn payload(&self, sequence: u64) -> Vec<u8> {
        let (_, life) = self.lives.iter().rfind(|(from, _)| *from <= sequence).unwrap();
        payload(*life, sequence)
    }

    fn is_of_any_life(&self, sequence: u64, record: &[u8]) -> bool {
        self.lives.iter().any(|(_, life)| payload(*life, sequence) == record)
    }

    /// The same when a writer has gone on at `next` with the records of `script`.
    fn after(&self, next: u64, script: &Script) -> Self {
        let mut after = self.clone();
        after.lives.push((next, script.life));
        after.most = after.most.max(script.end()).max(next);
        after
    }
}

/// What was read: first and last sequence of each run without a gap; between two of them the reader has lagged.
type Runs = Vec<(u64, u64)>;

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench { dir: common::dir(), storage: tempfile::tempdir().unwrap(), count: Count::default() }
    }

    /// Checks `scenes` scenes of this plan.
    pub(crate) fn check(&mut self, scenes: u64, plan: Plan) {
        for seed in 1..=scenes {
            self.check_scene(plan, seed);
        }
        println!("{:?}: {plan:?}", std::mem::take(&mut self.count));
    }

    pub(crate) fn check_scene(&mut self, plan: Plan, seed: u64) {
        let root = self.empty("scene", plan);
        let scene = Scene::play(&root, plan, seed);
        fs::remove_dir_all(&root).unwrap();
        for (which, moment) in scene.moments.iter().enumerate() {
            let context = format!("seed {seed}, moment {which}, {plan:?}");
            // Or one might reach the disk before the other, and leave a hole.
            let gone = given_up(moment);
            assert!(gone.len() <= 1, "{gone:?} are being given up at once: {context}");
            let numbers = &mut Numbers(seed ^ (which as u64) << 56 ^ 0x1A6E);
            let expected = Expected {
                plan,
                script: &scene.script,
                lives: vec![(0, scene.script.life)],
                oldest: oldest(moment),
                least: moment.told.acknowledged,
                runs: usize::MAX,
                found: moment.told.acknowledged,
                most: scene.script.end(),
                cursors: moment.told.cursors.clone().into_iter().collect(),
            };
            let mixed = if is_long() { 24 } else { 6 };
            for recipe in image::recipes(moment, mixed, numbers) {
                let context = format!("{context}, {recipe:?}");
                // Where names come in order none is missing before a later one.
                let runs = if matches!(recipe.which, Which::First(_)) { 1 } else { usize::MAX };
                let expected = Expected { runs, ..expected.clone() };
                self.check_image(moment, recipe, &expected, numbers, &context, true);
            }
        }
    }

    /// An empty directory of this name.
    fn empty(&self, name: &str, plan: Plan) -> PathBuf {
        let dir = if plan.storage { &self.storage } else { &self.dir };
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Makes an image, and checks it. `again`: lets the machine crash while it is recovered.
    fn check_image(
        &mut self,
        moment: &Moment,
        recipe: Recipe,
        expected: &Expected<'_>,
        numbers: &mut Numbers,
        context: &str,
        again: bool,
    ) {
        let root = self.empty(if again { "image" } else { "again" }, expected.plan);
        image::make(&root, moment, recipe, expected.plan, expected.script);
        self.count.images += 1;
        self.count.again += u64::from(!again);
        let path = root.join("journal");
        if !path.is_dir() {
            assert_eq!(expected.least, 0, "the journal is gone: {context}");
            fs::remove_dir_all(&root).unwrap();
            return;
        }
        let before = self.read(&path, expected, context);
        check_runs(&before, expected, context);
        self.count.lost += u64::from(before.last().is_none_or(|(_, end)| *end < expected.most));
        // Recovering is watched now and then.
        if again && numbers.below(if is_long() { 32 } else { 24 }) == 0 {
            self.check_crash_while_recovering(&root, &before, expected, numbers, context);
        } else {
            let other = numbers.next();
            self.check_recovery(&path, &before, expected, other, numbers, context, |_| ());
        }
        fs::remove_dir_all(&root).unwrap();
    }

    /// Reads the journal as somebody who cannot write; each record must be the one that was appended.
    fn read(&mut self, path: &Path, expected: &Expected<'_>, context: &str) -> Runs {
        let mut reader = Journal::reader(path).unwrap_or_else(|error| panic!("{error}: {context}"));
        let (mut runs, mut lagged) = (Runs::new(), true);
        loop {
            match reader.try_next() {
                Ok(Some(record)) => {
                    let sequence = record.sequence();
                    if std::mem::take(&mut lagged) {
                        runs.push((sequence, sequence));
                    }
                    let (_, end) = runs.last_mut().unwrap();
                    assert_eq!(sequence, *end, "a gap: {context}");
                    *end += 1;
                    // What does not follow may be of an earlier life until it is set aside.
                    let is_it = record.payload() == expected.payload(sequence)
                        || runs.len() > 1 && expected.is_of_any_life(sequence, record.payload());
                    assert!(is_it, "record {sequence} is not what was appended: {context}");
                }
                Ok(None) => break,
                Err(JournalReadError::Lagged { wanted, mut oldest }) => {
                    assert!(oldest > wanted, "lagged from {wanted} to {oldest}: {context}");
                    let is_next = lagged || runs.last().is_none_or(|(_, end)| *end == wanted);
                    assert!(is_next, "lagged at {wanted}: {context}");
                    lagged = true;
                    self.count.lagged += 1;
                    // A living writer may have given up that, too.
                    while let Err(error) = reader.seek(Start::Sequence(oldest)) {
                        let JournalReadError::Lagged { oldest: later, .. } = error else { panic!("{error}") };
                        assert!(later > oldest, "lagged from {oldest} to {later}: {context}");
                        oldest = later;
                    }
                }
                Err(error) => panic!("{error}: {context}"),
            }
        }
        runs
    }

    /// The next writer comes, and goes on. Tells `opened` when it is there, and what it has found.
    #[allow(clippy::too_many_arguments, reason = "what an image is, and what is to be done with it")]
    fn check_recovery(
        &mut self,
        path: &Path,
        before: &[(u64, u64)],
        expected: &Expected<'_>,
        other: u64,
        numbers: &mut Numbers,
        context: &str,
        opened: impl FnOnce(u64),
    ) -> (u64, Script) {
        let plan = expected.plan;
        let journal = plan.options(plan.durability).open(path);
        let mut journal = journal.unwrap_or_else(|error| panic!("it does not open: {error}: {context}"));
        let next = journal.next_sequence();
        opened(next);
        assert!(next >= expected.found, "goes on at {next}, {} is there: {context}", expected.found);
        // There may be more than could be read: behind a channel whose end was lost. And a reader may have found what does not
        // follow, behind what it was told that it has lost.
        let agrees = before.first().is_none_or(|(_, end)| *end <= next);
        assert!(agrees, "goes on at {next}, {before:?} was read: {context}");
        self.count.aside += u64::from(!journal.set_aside().is_empty());
        self.count.cut += u64::from(common::names_in(path).iter().any(|name| name.contains(".cut-")));
        for aside in journal.set_aside() {
            assert!(aside.is_file(), "{aside:?}: {context}");
        }
        check_cursors(path, next, expected, context);
        let mut script = Script { life: other, ..Script::default() };
        for _ in 0..numbers.below(12) {
            script.append(&mut journal, numbers);
        }
        let end = script.end().max(next);
        assert_eq!(journal.next_sequence(), end, "{context}");
        let after = expected.after(next, &script);
        let runs = self.read(path, &after, context);
        assert_eq!(runs.last().map_or(next, |(_, end)| *end), end, "{context}");
        // It may have given something up by now.
        let channels = first_sequences(path);
        let oldest = channels.first().copied().unwrap_or(end);
        let pieces = if plan.count.is_some() { usize::MAX } else { 1 };
        check_runs(&runs, &Expected { oldest, least: next, runs: pieces, ..after }, context);
        let gone = before.first().is_some_and(|(first, _)| *first < oldest);
        let kept = !gone || plan.count.is_some_and(|count| channels.len() as u64 >= count);
        assert!(kept, "{channels:?} is left of {before:?}: {context}");
        if numbers.below(2) == 0 {
            journal.close().unwrap();
        } else {
            scene::die(journal);
        }
        assert!(
            !common::names_in(path).iter().any(|name| name.ends_with(".tmp")),
            "{:?}: {context}",
            common::names_in(path)
        );
        (next, script)
    }

    /// The same on a disk that may lose power again.
    fn check_crash_while_recovering(
        &mut self,
        root: &Path,
        before: &[(u64, u64)],
        expected: &Expected<'_>,
        numbers: &mut Numbers,
        context: &str,
    ) {
        let disk = Disk::watch(root, 4, numbers.clone());
        // What the image has is durable, wherever it crashes; when the journal is open, that goes for what was found.
        let found = before.first().map_or(expected.least, |(_, end)| *end).max(expected.least);
        disk.tell(|told| {
            told.acknowledged = found;
            told.cursors = expected.cursors.iter().cloned().collect();
        });
        let other = numbers.next();
        let told = |next| {
            disk.tell(|told| {
                told.opened = true;
                told.cursors.values_mut().for_each(|at| *at = (*at).min(next));
            });
        };
        let path = root.join("journal");
        let (next, script) = self.check_recovery(&path, before, expected, other, numbers, context, told);
        let mut moments = disk.moments();
        moments.push(disk.crash());
        drop(disk);
        for (which, moment) in moments.iter().enumerate() {
            let context = format!("{context}, crashed again at moment {which}");
            let expected = Expected {
                oldest: oldest(moment).max(before.first().map_or(found, |(first, _)| *first)),
                least: moment.told.acknowledged,
                // Who was not told before that it lags is not told because of recovering.
                runs: if moment.told.opened { usize::MAX } else { before.len().max(1) },
                // What one has found the next one finds.
                found: next,
                cursors: moment.told.cursors.clone().into_iter().collect(),
                ..expected.after(next, &script)
            };
            for recipe in
                image::recipes(moment, 4, numbers).into_iter().rev().take(if is_long() { 8 } else { 4 })
            {
                let context = format!("{context}, {recipe:?}");
                self.check_image(moment, recipe, &expected, numbers, &context, false);
            }
        }
    }
}

/// Whether everything is there that must be, and nothing that cannot be.
fn check_runs(runs: &[(u64, u64)], expected: &Expected<'_>, context: &str) {
    let &Expected { oldest, least, most, .. } = expected;
    for (_, end) in runs {
        assert!(*end <= most, "{end} records, {most} were appended: {context}");
    }
    let end = runs.last().map_or(0, |(_, end)| *end);
    let in_batch = expected.lives.len() == 1 && expected.script.inner.contains(&end);
    assert!(!in_batch, "it ends in a batch, at {end}: {context}");
    assert!(runs.len() <= expected.runs, "lagged where nothing was given up: {runs:?}: {context}");
    let whole = oldest >= least || runs.iter().any(|(first, end)| *first <= oldest && *end >= least);
    assert!(whole, "{oldest} to {least} was durable and kept, {runs:?} is there: {context}");
}

/// Named cursors are not back behind what was durable, nor ahead of what is there.
fn check_cursors(path: &Path, next: u64, expected: &Expected<'_>, context: &str) {
    let cursors = Journal::cursors(path).unwrap_or_else(|error| panic!("{error}: {context}"));
    for (name, least) in &expected.cursors {
        let cursor = cursors.iter().find(|cursor| cursor.name == *name);
        let at = cursor.unwrap_or_else(|| panic!("cursor {name} is gone: {context}")).sequence;
        assert!(at >= *least.min(&next), "cursor {name} is back at {at} behind {least}: {context}");
    }
    let oldest = first_sequences(path).first().copied().unwrap_or(next);
    for cursor in cursors {
        let (name, at) = (&cursor.name, cursor.sequence);
        assert!(at <= next, "cursor {name} is at {at}, past the end {next}: {context}");
        // What was not durable may be gone whoever would have needed it.
        let kept = !expected.plan.for_cursors || at >= oldest.min(expected.least);
        assert!(kept, "cursor {name} is at {at}, but the oldest is {oldest}: {context}");
    }
}

/// The sequences in the names of channels, oldest first.
fn first_sequences(path: &Path) -> Vec<u64> {
    let names = common::names_in(path);
    names.iter().filter_map(|name| name.strip_suffix(".kek")?.parse().ok()).collect()
}

fn first_sequence(path: &Path) -> Option<u64> {
    path.to_str()?.strip_prefix("journal/")?.strip_suffix(".kek")?.parse().ok()
}

/// The channels that have been given up, but not durably.
fn given_up(moment: &Moment) -> Vec<u64> {
    let oldest = oldest(moment);
    let gone = moment.changes.iter().filter_map(|change| match change {
        Change::Vanishes(path) | Change::Moves(path, ..) => {
            first_sequence(path).filter(|first| *first < oldest)
        }
        Change::Appears(..) => None,
    });
    gone.collect()
}

/// The first sequence of the oldest channel that those who were there saw.
fn oldest(moment: &Moment) -> u64 {
    moment.current.keys().filter_map(|path| first_sequence(path)).min().unwrap_or(0)
}
