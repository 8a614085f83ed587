//! What the disk may have after a crash: which names, which versions of the sectors, and a directory that is so.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use kekbit::Checksum;

use crate::common::sectors::{Key, Sectors};
use crate::common::{Numbers, bytes, data_offset, repair_header, word_at};
use crate::disk::{Change, Entry, Moment, Names};
use crate::scene::{Plan, Script};

const CONTROL: usize = 4096;
const SLOTS: [usize; 2] = [CONTROL + 2048, CONTROL + 3072];

/// Which of the changes of names that are not durable have reached the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// The first so many: a file system with a journal.
    First(usize),
    /// Any of them.
    Any(u64),
    /// Any of them, and names that files have lost may be there beside their new ones.
    Both(u64),
}

/// Which versions of what is not durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// None: as it was durable.
    Old,
    /// As in memory.
    New,
    /// New by this share of 16; else old, or if `rich`, anything else that may be there.
    Mixed { salt: u64, share: u64, rich: bool },
}

/// One image of a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) which: Which,
    pub(crate) content: Content,
    /// Whether the files are the original ones after another boot. Else copies.
    pub(crate) original: bool,
}

/// The recipes for a moment: each beginning of the changes with all of the content, and `mixed` others.
pub(crate) fn recipes(moment: &Moment, mixed: u64, numbers: &mut Numbers) -> Vec<Recipe> {
    let mut recipes = Vec::new();
    let changes = moment.changes.len();
    for first in 0..=changes {
        for content in [Content::Old, Content::New] {
            recipes.push(Recipe { which: Which::First(first), content, original: numbers.below(2) == 0 });
        }
    }
    for _ in 0..mixed {
        let which = match numbers.below(4) {
            0 => Which::First(numbers.below(changes as u64 + 1) as usize),
            1 => Which::Both(numbers.next()),
            _ => Which::Any(numbers.next()),
        };
        let (salt, share, rich) = (numbers.next(), numbers.below(17), numbers.below(3) > 0);
        let content = Content::Mixed { salt, share, rich };
        recipes.push(Recipe { which, content, original: numbers.below(2) == 0 });
    }
    recipes
}

/// The names that are there by this recipe.
fn names(moment: &Moment, which: Which) -> Names {
    let mut names = moment.durable.clone();
    let mut apply = |change: &Change, both| change.apply(&mut names, both);
    match which {
        Which::First(count) => moment.changes[..count].iter().for_each(|change| apply(change, false)),
        Which::Any(salt) | Which::Both(salt) => {
            let mut numbers = Numbers(salt);
            for change in &moment.changes {
                let both = matches!(which, Which::Both(_)) && numbers.below(2) == 0;
                if numbers.below(2) == 0 {
                    apply(change, both);
                }
            }
        }
    }
    names
}

/// What has been promised of the data of a file.
fn promised(file: &Sectors, moment: &Moment, script: &Script) -> Option<usize> {
    let (durable, current) = (&file.durable, &file.current);
    if durable.len() < CONTROL || current.len() < CONTROL || durable[..CONTROL] != current[..CONTROL] {
        // It is between two lives.
        return None;
    }
    let slot = |file: &[u8]| {
        let newest =
            SLOTS.into_iter().filter(|at| file.len() >= at + 32).max_by_key(|at| word_at(file, at + 8));
        newest.map_or(0, |at| word_at(file, at))
    };
    let first = word_at(current, 64);
    let told = match script.place_before(moment.told.acknowledged) {
        Some((channel, tail)) if channel == first => tail + 8,
        Some((channel, _)) if channel > first => return None,
        _ => 0,
    };
    Some(slot(durable).max(slot(current)).max(told) as usize)
}

/// The content of a file by this recipe.
fn image_of(
    file: &Sectors,
    key: Key,
    content: Content,
    moment: &Moment,
    plan: Plan,
    script: &Script,
) -> Vec<u8> {
    let Content::Mixed { salt, share, rich } = content else {
        return if matches!(content, Content::Old) { file.durable.clone() } else { file.current.clone() };
    };
    let unit = plan.unit;
    let numbers = &mut Numbers(salt ^ key.1.rotate_left(40));
    // Garbage may be where nothing lies that was durable, and where there are checksums.
    let from = promised(file, moment, script)
        .filter(|_| rich && plan.checksum == Checksum::Crc32c)
        .map(|at| data_offset(&file.current) as usize + at);
    let mut chosen = Vec::new();
    for at in file.dirty(unit) {
        let new = Sectors::unit(&file.current, at, unit);
        let mut others = if rich { file.stale(at, unit) } else { Vec::new() };
        if from.is_some_and(|from| at * unit >= from) {
            let (old, random) = (Sectors::unit(&file.durable, at, unit), bytes(numbers.next(), unit));
            let cut = numbers.below(unit as u64) as usize;
            for (first, second) in [(&old, &new), (&new, &old), (&new, &random), (&random, &new)] {
                others.push([&first[..cut], &second[cut..]].concat());
            }
            others.push(vec![0; unit]);
        }
        if !others.is_empty() && numbers.below(3) == 0 {
            chosen.push((at, others.swap_remove(numbers.below(others.len() as u64) as usize)));
        } else if numbers.below(16) < share {
            chosen.push((at, new));
        }
    }
    let len = file.len(numbers);
    file.with(unit, chosen.iter().map(|(at, bytes)| (*at, &bytes[..])), len)
}

/// Makes the image in the directory `root`, which is empty.
pub(crate) fn make(root: &Path, moment: &Moment, recipe: Recipe, plan: Plan, script: &Script) {
    let mut made: HashMap<Key, &Path> = HashMap::new();
    let names = names(moment, recipe.which);
    for (path, entry) in &names {
        // Its own name may be durable in a directory of which that is not so.
        let place = root.join(path);
        if !place.parent().unwrap().is_dir() {
            continue;
        }
        match entry {
            // Before what is in it, by the order of the names.
            Entry::Directory => fs::create_dir(place).unwrap(),
            Entry::File(key) => match made.get(key) {
                Some(other) => fs::hard_link(root.join(other), place).unwrap(),
                None => {
                    let image = image_of(&moment.files[key], *key, recipe.content, moment, plan, script);
                    write(&place, image, recipe.original);
                    made.insert(*key, path);
                }
            },
        }
    }
}

/// Writes a file that seems to be of another boot, or a copy of one.
fn write(path: &Path, mut image: Vec<u8>, original: bool) {
    let file = File::options().write(true).create_new(true).open(path).unwrap();
    let is_channel = image.len() >= CONTROL && image.starts_with(b"*KEKBIT*");
    let inode = file.metadata().unwrap().ino();
    // A copy that happens to have the inode of its original would pass for that, and for one of this boot.
    if is_channel && (original || word_at(&image, 104) == inode) {
        let mut page = image[..CONTROL].to_vec();
        repair_header(&mut page);
        if page == image[..CONTROL] {
            page[88..104].fill(0xB0);
            page[104..112].copy_from_slice(&inode.to_le_bytes());
            repair_header(&mut page);
            image[..CONTROL].copy_from_slice(&page);
        }
    }
    file.write_all_at(&image, 0).unwrap();
}
