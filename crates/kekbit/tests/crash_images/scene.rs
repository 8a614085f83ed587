//! What happens to a channel before the machine crashes: a scene, played on a file that is watched.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use kekbit::{
    AppendError, Channel, Checksum, Durability, Prepare, SharedWriter, SyncHandle, Writer, WriterOptions,
};

use crate::common::{self, Numbers, bytes, data_offset, frame_len};
use crate::disk::{Disk, Moment, Watch};

/// How the scene ends, before the machine does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// The writer dies.
    Abandoned,
    /// The channel is closed, or gets full.
    Ended,
    /// The writer dies, and somebody seals the channel before the machine crashes.
    Sealed,
}

/// Who appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cast {
    /// One thread, which also syncs.
    Alone,
    /// Three threads share the writer, and each waits for its records to be durable.
    Shared,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) checksum: Checksum,
    pub(crate) durability: Durability,
    pub(crate) cast: Cast,
    pub(crate) ending: Ending,
    /// Whether the file had an earlier life, full of frames.
    pub(crate) reused: bool,
    /// Whether the file is on storage, where space is written with zeros ahead of its use. Else in memory.
    pub(crate) storage: bool,
    /// What the disk writes at once.
    pub(crate) unit: usize,
    /// Appends, at the most.
    pub(crate) appends: u64,
    /// Whether each record's frame fills one unit, so that a lost one shows a whole frame of something else.
    pub(crate) aligned: bool,
}

pub(crate) const PLAN: Plan = Plan {
    checksum: Checksum::Crc32c,
    durability: Durability::AtEnd,
    cast: Cast::Alone,
    ending: Ending::Abandoned,
    reused: false,
    storage: false,
    unit: 512,
    appends: 12,
    aligned: false,
};

impl Plan {
    /// Any plan.
    pub(crate) fn any(numbers: &mut Numbers) -> Plan {
        let one_in = |numbers: &mut Numbers, n| numbers.below(n) == 0;
        let durability = match numbers.below(16) {
            0..=2 => Durability::Never,
            3..=8 => Durability::AtEnd,
            9 => Durability::Interval(Duration::from_millis(1)),
            _ => Durability::Each,
        };
        let storage = one_in(numbers, 24);
        Plan {
            checksum: if one_in(numbers, 8) { Checksum::None } else { Checksum::Crc32c },
            durability,
            cast: if one_in(numbers, 12) { Cast::Shared } else { Cast::Alone },
            ending: match numbers.below(4) {
                0 => Ending::Ended,
                1 => Ending::Sealed,
                _ => Ending::Abandoned,
            },
            reused: !storage && one_in(numbers, 3),
            storage,
            unit: if one_in(numbers, 5) { 4096 } else { 512 },
            appends: [6, 12, 24, 48][numbers.below(4) as usize],
            aligned: one_in(numbers, 6),
        }
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.cast == Cast::Shared || matches!(self.durability, Durability::Interval(_))
    }
}

/// What one append has added.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) payloads: Vec<Vec<u8>>,
    /// The tail behind it.
    pub(crate) tail: u64,
}

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) plan: Plan,
    pub(crate) seed: u64,
    pub(crate) first_sequence: u64,
    pub(crate) groups: Vec<Group>,
    pub(crate) moments: Vec<Moment>,
}

/// At most so many moments of a scene become images.
const MOMENTS: u64 = 3;

impl Scene {
    /// Plays at `path`, where nothing is, and removes the file.
    pub(crate) fn play(path: &Path, plan: Plan, seed: u64) -> Scene {
        let numbers = &mut Numbers(seed);
        let first_sequence = numbers.below(1000);
        let writer = create(path, plan, first_sequence, numbers);
        let pause = Duration::from_micros(if plan.has_threads() { 100 } else { 0 });
        let disk = Disk::watch_new(path, MOMENTS, pause, numbers.clone());
        let groups = match plan.cast {
            Cast::Alone => alone(writer, path, plan, &disk, numbers),
            Cast::Shared => shared(writer, path, plan, &disk, numbers),
        };
        let mut moments = disk.moments();
        moments.push(disk.crash());
        Scene { plan, seed, first_sequence, groups, moments }
    }
}

fn create(path: &Path, plan: Plan, first_sequence: u64, numbers: &mut Numbers) -> Writer {
    let capacity =
        if plan.storage { 768 << 10 } else { [4096, 8192, 16384, 32768][numbers.below(4) as usize] };
    let prepare = [Prepare::OnDemand, Prepare::Inline(8192), Prepare::All][numbers.below(3) as usize];
    let options = |durability| -> WriterOptions {
        Writer::options()
            .capacity(capacity)
            .max_record_len(capacity - 16)
            .checksum(plan.checksum)
            .prepare(prepare)
            .first_sequence(first_sequence)
            .durability(durability)
    };
    if !plan.reused {
        return options(plan.durability).create(path).unwrap();
    }
    let retired: PathBuf = path.with_extension("retired");
    let mut before = options(Durability::Never).create(&retired).unwrap();
    // In another life the same numbers lead to other content in frames of the same lengths.
    let frames = &mut numbers.clone();
    while let Some(group) = group(&before, frames, plan, 1) {
        append(&mut before, &group);
    }
    before.close().unwrap();
    options(plan.durability).create_from(retired, path).unwrap()
}

fn payload(numbers: &mut Numbers, plan: Plan, life: u64) -> Vec<u8> {
    if plan.aligned {
        return bytes(numbers.next() ^ life, plan.unit - 8);
    }
    let len = match numbers.below(10) {
        0 => 0,
        1 | 2 => numbers.below(9),
        3..=6 => 60 + numbers.below(200),
        7 | 8 => 400 + numbers.below(300),
        _ => numbers.below(if plan.storage { 100_000 } else { 2500 }),
    };
    bytes(numbers.next() ^ life, len as usize)
}

/// What is appended next, unless it would end the channel.
fn group(writer: &Writer, numbers: &mut Numbers, plan: Plan, life: u64) -> Option<Group> {
    let count = if !plan.aligned && numbers.below(3) == 0 { 2 + numbers.below(4) } else { 1 };
    let payloads: Vec<_> = (0..count).map(|_| payload(numbers, plan, life)).collect();
    let inner: u64 = payloads.iter().map(|payload| frame_len(payload.len() as u64)).sum();
    let frame = if count > 1 { frame_len(8 + inner) } else { inner };
    writer.fits((frame - 8) as usize).then(|| Group { payloads, tail: writer.tail().offset() + frame })
}

fn append(writer: &mut Writer, group: &Group) {
    if let [payload] = &group.payloads[..] {
        writer.append(payload).unwrap();
    } else {
        let mut batch = writer.batch();
        group.payloads.iter().for_each(|payload| batch.push(payload).unwrap());
        batch.commit().unwrap();
    }
    assert_eq!(writer.tail().offset(), group.tail);
}

/// A claim that comes to nothing, full of what might be taken for frames: heads without sense, or the first frames of
/// this very channel, each at the beginning of a unit.
#[allow(clippy::forget_non_drop, reason = "what a claim does when it is dropped is the library's business")]
fn claim_in_vain(writer: &mut Writer, path: &Path, plan: Plan, disk: &Disk, numbers: &mut Numbers) {
    let tail = writer.tail().offset() as usize;
    let len = (plan.unit as u64 * (1 + numbers.below(4))) as usize;
    if !writer.fits(len) {
        return;
    }
    let file = std::fs::read(path).unwrap();
    let data = data_offset(&file) as usize;
    let mut claim = writer.claim(len).unwrap();
    if numbers.below(2) == 0 {
        for word in claim.chunks_exact_mut(8) {
            let head = 1 << 60 | numbers.below(64) << 32 | (numbers.next() & 0xFFFF_FFFF);
            word.copy_from_slice(&head.to_le_bytes());
        }
    } else {
        let begins = tail + 8;
        for at in (begins.next_multiple_of(plan.unit)..begins + len).step_by(plan.unit) {
            let room = (begins + len - at).min(plan.unit).min(tail);
            claim[at - begins..at - begins + room].copy_from_slice(&file[data..data + room]);
        }
    }
    disk.remember();
    if numbers.below(8) == 0 {
        disk.may_crash();
    }
}

fn alone(mut writer: Writer, path: &Path, plan: Plan, disk: &Disk, numbers: &mut Numbers) -> Vec<Group> {
    let handle = writer.sync_handle();
    let mut groups = Vec::new();
    let frames = &mut numbers.clone();
    let mut last = None;
    for _ in 0..numbers.below(plan.appends + 1) {
        match numbers.below(16) {
            0 => writer.heartbeat(),
            1..=3 => claim_in_vain(&mut writer, path, plan, disk, numbers),
            4 => disk.remember(),
            5 => disk.may_crash(),
            6..=8 if plan.durability != Durability::Never => {
                sync(&mut writer, &handle, last, numbers);
                disk.acknowledge(writer.tail().offset());
            }
            6 if matches!(plan.durability, Durability::Interval(_)) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => {}
        }
        let Some(group) = group(&writer, frames, plan, 2) else { continue };
        last = Some(writer.tail());
        append(&mut writer, &group);
        disk.publish(group.tail);
        if plan.durability == Durability::Each {
            assert_eq!(writer.synced_tail().offset(), group.tail);
        }
        // Whoever synced, and whenever.
        disk.acknowledge(writer.synced_tail().offset());
        groups.push(group);
    }
    drop(handle);
    finish(writer, path, plan, disk, numbers);
    groups
}

/// Makes everything durable, in one of the ways there are.
fn sync(writer: &mut Writer, handle: &SyncHandle, last: Option<kekbit::Position>, numbers: &mut Numbers) {
    match (numbers.below(3), last) {
        (0, _) => writer.sync().unwrap(),
        (1, Some(last)) => drop(handle.wait_for(last).unwrap()),
        _ => drop(handle.sync().unwrap()),
    }
    assert_eq!(writer.synced_tail(), writer.tail());
}

/// Three threads append and wait for their records to be durable, while the machine may crash.
fn shared(writer: Writer, path: &Path, plan: Plan, disk: &Watch, numbers: &mut Numbers) -> Vec<Group> {
    const THREADS: u64 = 3;
    let (writer, groups) = (SharedWriter::new(writer), Mutex::new(Vec::<Group>::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (writer, groups, mut numbers) = (writer.clone(), &groups, Numbers(numbers.next() ^ thread));
            scope.spawn(move || {
                for _ in 0..plan.appends / THREADS {
                    let (frames, handle) = (&mut numbers, writer.sync_handle());
                    let appended = writer.with(common::patience(), |writer| {
                        let group = group(writer, frames, plan, 2)?;
                        let at = writer.tail();
                        append(writer, &group);
                        disk.publish(group.tail);
                        let tail = group.tail;
                        groups.lock().unwrap().push(group);
                        Some((at, tail))
                    });
                    let Some((at, tail)) = appended.unwrap() else { return };
                    match plan.durability {
                        Durability::Never => {}
                        Durability::Each => disk.acknowledge(tail),
                        _ if frames.below(3) == 0 => {}
                        _ => disk.acknowledge(handle.wait_for(at).unwrap().offset().max(tail)),
                    }
                }
            });
        }
        disk.may_crash();
    });
    // The others have gone, so this is the writer itself.
    let ended = plan.ending == Ending::Ended;
    if ended {
        writer.close().unwrap();
        if plan.durability != Durability::Never {
            disk.acknowledge(groups.lock().unwrap().last().map_or(0, |group| group.tail));
            disk.end();
        }
    } else {
        writer.with(common::patience(), |writer| disk.acknowledge(writer.synced_tail().offset())).unwrap();
        let panicked = std::thread::scope(|scope| {
            let dying = scope.spawn(|| {
                // A writer that is dropped in a panic does not close its channel.
                let _writer = writer;
                std::panic::resume_unwind(Box::new(()));
            });
            dying.join().is_err()
        });
        assert!(panicked);
        seal(path, plan, disk);
    }
    groups.into_inner().unwrap()
}

fn finish(mut writer: Writer, path: &Path, plan: Plan, disk: &Disk, numbers: &mut Numbers) {
    let tail = writer.tail().offset();
    match plan.ending {
        Ending::Ended if tail > 0 && numbers.below(3) == 0 => {
            let full = writer.append(&vec![0; writer.max_record_len()]);
            assert!(matches!(full, Err(AppendError::Full { .. })), "{full:?}");
            drop(writer);
        }
        Ending::Ended => writer.close().unwrap(),
        Ending::Abandoned | Ending::Sealed => {
            writer.abandon();
            seal(path, plan, disk);
            return;
        }
    }
    if plan.durability != Durability::Never {
        disk.acknowledge(tail);
        disk.end();
    }
}

/// Seals the channel if that is the plan.
fn seal(path: &Path, plan: Plan, disk: &Disk) {
    if plan.ending == Ending::Sealed {
        let sealed = Channel::seal(path).unwrap();
        disk.acknowledge(sealed.end.position.offset());
        disk.end();
    }
}
