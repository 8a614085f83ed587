//! What happens to a journal before the machine crashes: a scene, played in a directory that is watched.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kekbit::{
    Appended, Checksum, CursorError, Durability, Journal, JournalOptions, JournalReadError, Roll, Start,
    Writer,
};

use crate::common::{Numbers, bytes, frame_len};
use crate::disk::{Disk, Moment, Watch};

/// How a writer of the scene goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// It closes the journal.
    Closes,
    /// It dies.
    Dies,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) durability: Durability,
    pub(crate) checksum: Checksum,
    /// Bytes of each channel.
    pub(crate) capacity: u64,
    /// How many channels are kept, and whether cursors keep theirs.
    pub(crate) count: Option<u64>,
    pub(crate) for_cursors: bool,
    pub(crate) background: bool,
    /// Whether somebody syncs, or waits for a record, whatever the policy.
    pub(crate) by_hand: bool,
    /// Whether named cursors come, move and go.
    pub(crate) cursors: bool,
    /// Writers, one after the other, in one boot; all but the last leave like this, and the first may have another policy.
    pub(crate) writers: u64,
    pub(crate) leave: Leave,
    pub(crate) first: Durability,
    /// Whether the files are on storage. Else in memory.
    pub(crate) storage: bool,
    /// What the disk writes at once.
    pub(crate) unit: usize,
    /// Steps of each writer, at the most.
    pub(crate) steps: u64,
}

pub(crate) const PLAN: Plan = Plan {
    durability: Durability::AtEnd,
    checksum: Checksum::Crc32c,
    capacity: 4096,
    count: None,
    for_cursors: false,
    background: true,
    by_hand: true,
    cursors: false,
    writers: 1,
    leave: Leave::Dies,
    first: Durability::AtEnd,
    storage: false,
    unit: 512,
    steps: 60,
};

impl Plan {
    /// Any plan.
    pub(crate) fn any(numbers: &mut Numbers) -> Plan {
        let one_in = |numbers: &mut Numbers, n| numbers.below(n) == 0;
        let any_durability = |numbers: &mut Numbers| match numbers.below(8) {
            0 | 1 => Durability::Never,
            2..=4 => Durability::AtEnd,
            5 => Durability::Interval(Duration::from_millis(1)),
            _ => Durability::Each,
        };
        let durability = any_durability(numbers);
        let for_cursors = one_in(numbers, 4);
        Plan {
            durability,
            checksum: if one_in(numbers, 8) { Checksum::None } else { Checksum::Crc32c },
            capacity: [4096, 4096, 8192, 16384][numbers.below(4) as usize],
            count: if for_cursors || one_in(numbers, 2) { Some(1 + numbers.below(4)) } else { None },
            for_cursors,
            // Whoever creates a cursor while the thread gives channels up may find that it has lagged.
            background: !for_cursors && !one_in(numbers, 3),
            by_hand: !one_in(numbers, 4),
            cursors: for_cursors || one_in(numbers, 3),
            writers: 1 + numbers.below(3),
            leave: if one_in(numbers, 3) { Leave::Closes } else { Leave::Dies },
            first: if one_in(numbers, 3) { any_durability(numbers) } else { durability },
            storage: one_in(numbers, 16),
            unit: if one_in(numbers, 5) { 4096 } else { 512 },
            steps: [6, 12, 24, 60][numbers.below(4) as usize],
        }
    }

    /// A journal with this policy.
    pub(crate) fn options(&self, durability: Durability) -> JournalOptions {
        let channels = Writer::options().max_record_len(1024).checksum(self.checksum).durability(durability);
        let options = Journal::options().channels(channels).roll(Roll::Bytes(self.capacity));
        let options = match self.count {
            Some(count) => options.retain_count(count),
            None => options,
        };
        options.retain_for_cursors(self.for_cursors).background(self.background)
    }
}

/// The record `sequence` of a life, which ends where a crash takes records away.
pub(crate) fn payload(life: u64, sequence: u64) -> Vec<u8> {
    let mut numbers = Numbers(life ^ sequence.rotate_left(32));
    let len = match numbers.below(8) {
        0 => numbers.below(16),
        1..=5 => 200 + numbers.below(400),
        _ => 600 + numbers.below(400),
    };
    bytes(numbers.next(), len as usize)
}

/// What one append has added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Sequence behind its last record.
    pub(crate) end: u64,
    /// The channel, by its first sequence, and the tail behind it there.
    pub(crate) channel: u64,
    pub(crate) tail: u64,
}

/// What was appended, and may be found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) life: u64,
    pub(crate) groups: Vec<Group>,
    /// Sequences of records that are not the first of their batch.
    pub(crate) inner: BTreeSet<u64>,
}

impl Script {
    pub(crate) fn end(&self) -> u64 {
        self.groups.last().map_or(0, |group| group.end)
    }

    pub(crate) fn append(&mut self, journal: &mut Journal, numbers: &mut Numbers) -> Appended {
        let first = journal.next_sequence();
        let count = if numbers.below(4) == 0 { 2 + numbers.below(3) } else { 1 };
        let payloads: Vec<_> = (first..first + count).map(|sequence| payload(self.life, sequence)).collect();
        let inner: u64 = payloads.iter().map(|payload| frame_len(payload.len() as u64)).sum();
        let (appended, len) = if let [payload] = &payloads[..] {
            (journal.append(payload).unwrap(), inner)
        } else {
            let mut batch = journal.batch();
            payloads.iter().for_each(|payload| batch.push(payload).unwrap());
            (batch.commit().unwrap(), frame_len(8 + inner))
        };
        let at = appended.position.offset();
        let channel = if at == 0 { first } else { self.groups.last().map_or(first, |group| group.channel) };
        self.inner.extend(first + 1..first + count);
        self.groups.push(Group { end: first + count, channel, tail: at + len });
        appended
    }

    /// The channel in which the record before `sequence` is, and the tail behind it; and whether there is a later channel.
    pub(crate) fn place_before(&self, sequence: u64) -> Option<(u64, u64)> {
        let groups = self.groups.iter().take_while(|group| group.end <= sequence);
        groups.last().map(|group| (group.channel, group.tail))
    }
}

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) script: Script,
    pub(crate) moments: Vec<Moment>,
}

/// At most so many moments of a scene become images, and the last one.
const MOMENTS: u64 = 4;

impl Scene {
    /// Plays in the directory `root`, which is empty; the journal is called `journal`.
    pub(crate) fn play(root: &Path, plan: Plan, seed: u64) -> Scene {
        let numbers = &mut Numbers(seed);
        let disk = Disk::watch(root, MOMENTS, numbers.clone());
        let path = root.join("journal");
        let mut script = Script { life: numbers.next(), ..Script::default() };
        for writer in 0..plan.writers {
            let durability = if writer == 0 { plan.first } else { plan.durability };
            let mut journal = plan.options(durability).open(&path).unwrap();
            assert_eq!(journal.next_sequence(), script.end());
            if durability != Durability::Never {
                acknowledge(&disk, script.end());
            }
            for _ in 0..numbers.below(plan.steps + 1) {
                step(&mut journal, plan, durability, &mut script, &disk, numbers);
            }
            let is_last = writer + 1 == plan.writers;
            match plan.leave {
                Leave::Closes if !is_last || numbers.below(2) == 0 => {
                    journal.close().unwrap();
                    if durability != Durability::Never {
                        acknowledge(&disk, script.end());
                    }
                }
                // The machine may crash under a living writer, too; that makes no difference to the disk.
                _ => die(journal),
            }
        }
        let mut moments = disk.moments();
        moments.push(disk.crash());
        Scene { script, moments }
    }
}

fn acknowledge(disk: &Disk, end: u64) {
    disk.tell(|told| told.acknowledged = told.acknowledged.max(end));
}

/// A writer that is dropped in a panic leaves its channel as it is.
pub(crate) fn die(journal: Journal) {
    let panicked = std::thread::scope(|scope| {
        let dying = scope.spawn(|| {
            let _journal = journal;
            std::panic::resume_unwind(Box::new(()));
        });
        dying.join().is_err()
    });
    assert!(panicked);
}

fn step(
    journal: &mut Journal,
    plan: Plan,
    durability: Durability,
    script: &mut Script,
    disk: &Watch,
    numbers: &mut Numbers,
) {
    match numbers.below(24) {
        0 => journal.roll().unwrap(),
        1 => journal.retain(),
        2 | 3 => disk.remember(),
        4 => disk.may_crash(),
        5 => journal.heartbeat(),
        6 | 7 if plan.by_hand => {
            match numbers.below(2) {
                0 => journal.sync().unwrap(),
                _ => {
                    journal.sync_handle().sync().unwrap();
                }
            }
            acknowledge(disk, script.end());
        }
        8..=11 if plan.cursors => {
            let name = if numbers.below(6) == 0 { "b" } else { "a" };
            move_cursor(journal.path(), name, disk, numbers);
        }
        _ => {
            let appended = script.append(journal, numbers);
            if durability == Durability::Each {
                acknowledge(disk, script.end());
            } else if plan.by_hand && numbers.below(8) == 0 {
                // What comes after the record need not be durable; there is nothing.
                journal.sync_handle().wait_for_record(appended).unwrap();
                acknowledge(disk, script.end());
            }
        }
    }
}

fn move_cursor(path: &Path, name: &str, disk: &Disk, numbers: &mut Numbers) {
    let durable = |at: u64| {
        disk.tell(|told| {
            told.cursors.insert(name.to_owned(), at);
        });
    };
    match numbers.below(12) {
        0 => {
            disk.tell(|told| {
                told.cursors.remove(name);
            });
            match Journal::remove_cursor(path, name) {
                Ok(()) | Err(CursorError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        1 => {
            let at =
                Journal::cursors(path).unwrap().iter().find(|cursor| cursor.name == name).map(|c| c.sequence);
            let end = Journal::reader(path).unwrap().end_point().unwrap().map_or(0, |end| end.sequence);
            // Back is not kept, forward is.
            let at = at.unwrap_or(end).max(end);
            Journal::set_cursor(path, name, at).unwrap();
            durable(at);
        }
        _ => {
            let mut cursor = Journal::reader(path).unwrap().cursor(name).unwrap();
            for _ in 0..numbers.below(40) {
                match cursor.try_next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(JournalReadError::Lagged { .. }) => {
                        cursor.skip_to_oldest().unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
                if numbers.below(3) == 0 {
                    cursor.commit();
                }
            }
            if numbers.below(2) == 0 {
                cursor.seek(Start::Sequence(cursor.committed())).ok();
                cursor.commit();
            }
            if numbers.below(3) == 0 {
                cursor.sync().unwrap();
                durable(cursor.committed());
            }
        }
    }
}
