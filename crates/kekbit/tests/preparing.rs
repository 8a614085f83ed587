//! Space and pages made ready ahead of the tail, in whatever way: readers see the same, the file is as long as it should be,
//! and the helper thread of [`Prepare::Ahead`] neither outlives its writer nor stands in its way.

mod common;
#[path = "common/stopped.rs"]
mod stopped;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Child, GENEROUS, Mount, Numbers, bytes, data_offset, fill_disk, listen, names_in, patience, payloads,
    record, role, round_up, say, wait_until,
};
use kekbit::{AppendError, Channel, Durability, End, Prepare, Reader, Start, Writer};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use proptest::prelude::*;
use stopped::{HELPER, Stopped};

const LONGEST: u64 = 2000;
const PAGE: u64 = 4096;

/// Each way, with little and with much.
const WAYS: [Prepare; 7] = [
    Prepare::OnDemand,
    Prepare::Inline(1),
    Prepare::Inline(256 << 10),
    Prepare::Ahead(1),
    Prepare::Ahead(64 << 10),
    Prepare::Ahead(u32::MAX),
    Prepare::All,
];

const POLICIES: [Durability; 4] =
    [Durability::Never, Durability::AtEnd, Durability::Interval(Duration::from_millis(1)), Durability::Each];

/// Appends the records up to number `to`.
fn append_to(writer: &mut Writer, to: u64) {
    for sequence in writer.next_sequence()..to {
        assert_eq!(writer.append(&record(sequence, LONGEST)).unwrap().sequence, sequence);
    }
}

/// Appends until there is no space left.
fn append_until_no_space(writer: &mut Writer) {
    loop {
        match writer.append(&record(writer.next_sequence(), LONGEST)) {
            Ok(_) => {}
            Err(AppendError::NoSpace { .. }) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Asserts that the records up to number `to` are there, and no others.
fn assert_records(path: &Path, to: u64) {
    let channel = Channel::open(path).unwrap();
    assert!(payloads(&channel).into_iter().eq((0..to).map(|sequence| record(sequence, LONGEST))));
    assert_eq!(channel.verify(|_| ()).unwrap().sequence, to);
}

/// What is done to a channel.
#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    /// Claims so much, and appends a part of it.
    Claim(usize, usize),
    Batch(Vec<usize>),
    Sync,
    /// The reader catches up.
    Read,
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0..3000_usize, 1 => 0..200_000_usize];
    prop_oneof![
        6 => len.clone().prop_map(Op::Append),
        1 => (len.clone(), len.clone()).prop_map(|(a, b)| Op::Claim(a.max(b), a.min(b))),
        1 => prop::collection::vec(0..5000_usize, 0..10).prop_map(Op::Batch),
        1 => Just(Op::Sync),
        2 => Just(Op::Read),
    ]
}

/// Does `ops`, as far as they fit. Each record follows from its number.
fn act(writer: &mut Writer, op: &Op, written: &mut Vec<Vec<u8>>) {
    let content = |number: usize, len: usize| bytes(number as u64, len);
    match op {
        Op::Append(len) if writer.fits(*len) => {
            written.push(content(written.len(), *len));
            writer.append(written.last().unwrap()).unwrap();
        }
        Op::Claim(claimed, len) if writer.fits(*claimed) => {
            written.push(content(written.len(), *len));
            let mut claim = writer.claim(*claimed).unwrap();
            claim.fill(0xEE);
            claim[..*len].copy_from_slice(written.last().unwrap());
            claim.commit(*len).unwrap();
        }
        Op::Batch(lens) if writer.fits(8 + lens.iter().map(|len| len + 16).sum::<usize>()) => {
            let first = written.len();
            written.extend(lens.iter().enumerate().map(|(i, len)| content(first + i, *len)));
            let mut batch = writer.batch();
            written[first..].iter().for_each(|payload| batch.push(payload).unwrap());
            if lens.is_empty() {
                drop(batch);
            } else {
                batch.commit().unwrap();
            }
        }
        Op::Sync => writer.sync().unwrap(),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_way_of_preparing_a_reader_sees_the_same(
        way in prop::sample::select(&WAYS[..]),
        durability in prop::sample::select(&POLICIES[..]),
        on_storage in any::<bool>(),
        keep in any::<bool>(),
        reuse in any::<bool>(),
        capacity in prop_oneof![4096..70_000_u64, 1_000_000..6_000_000_u64],
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let dir = if on_storage { tempfile::tempdir().unwrap() } else { common::dir() };
        let path = dir.path().join("channel.kek");
        let options = Writer::options()
            .capacity(capacity)
            .max_record_len((capacity / 2).min(1 << 20))
            .durability(durability)
            .prepare(way)
            .keep_space(keep);
        let mut writer = if reuse {
            let old = dir.path().join("old.kek");
            let mut retired = options.clone().create(&old).unwrap();
            append_to(&mut retired, 5);
            while retired.fits(1500) {
                retired.append(&[0xEE; 1500]).unwrap();
            }
            retired.close().unwrap();
            options.create_from(old, &path).unwrap()
        } else {
            options.create(&path).unwrap()
        };
        let channel = Channel::open(&path).unwrap();
        let mut reader = channel.reader(Start::Beginning).unwrap();
        let data = data_offset(&std::fs::read(&path).unwrap()[..4096]);
        let (mut written, mut read) = (Vec::new(), 0);
        for op in &ops {
            act(&mut writer, op, &mut written);
            // What is reserved is there, and so is the word that a reader looks at next.
            let len = path.metadata().unwrap().len();
            prop_assert!(data + channel.reserved() <= len);
            prop_assert!(writer.tail().offset() + 8 <= channel.reserved());
            prop_assert!(channel.reserved() <= round_up(capacity, PAGE));
            if matches!(op, Op::Read) {
                while let Some(found) = reader.try_next().unwrap() {
                    prop_assert!(found[..] == written[read][..]);
                    read += 1;
                }
                prop_assert_eq!(read, written.len());
            }
        }
        let before = path.metadata().unwrap().len();
        let tail = writer.tail().offset();
        writer.close().unwrap();
        while let Some(found) = reader.try_next().unwrap() {
            prop_assert!(found[..] == written[read][..]);
            read += 1;
        }
        prop_assert_eq!((read, reader.end()), (written.len(), Some(End::Closed)));
        prop_assert_eq!(channel.verify(|_| ()).unwrap().sequence, written.len() as u64);
        let len = path.metadata().unwrap().len();
        if keep {
            prop_assert!(len >= before);
        } else {
            prop_assert_eq!(len, data + round_up(tail + 8, PAGE));
        }
        prop_assert_eq!(data + channel.reserved(), len);
    }
}

/// The helper thread of this process, if there is one.
fn own_helper() -> Option<Pid> {
    Stopped::find(nix::unistd::getpid(), HELPER)
}

/// A thread that has ended may be in the list of threads a moment longer.
fn wait_until_it_is_gone() {
    wait_until("the helper is gone", || own_helper().is_none());
}

/// Creates a channel with a helper, alone in its process.
fn with_helper(path: &Path) -> Writer {
    let mut writer = Writer::options().capacity(1 << 20).prepare(Prepare::AHEAD).create(path).unwrap();
    append_to(&mut writer, 10);
    // It gives itself its name.
    wait_until("there is a helper", || own_helper().is_some());
    writer
}

#[test]
fn the_helper_ends_with_its_writer() {
    let this = "the_helper_ends_with_its_writer";
    let Some((_, arguments)) = role() else {
        let dir = common::dir();
        let mut child = Child::start(this, "writer", &[dir.path().to_str().unwrap()]);
        assert_eq!(child.hear(), "done");
        assert!(child.end().success());
        return;
    };
    let dir = Path::new(&arguments[0]);
    let path = dir.join("channel.kek");
    type End = fn(Writer);
    let ends: [(&str, End); 6] = [
        ("close", |writer| writer.close().unwrap()),
        ("drop", drop),
        ("abandon", Writer::abandon),
        ("panic", |writer| {
            std::panic::set_hook(Box::new(|_| ()));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _writer = writer;
                panic!("on purpose");
            }));
            assert!(panicked.is_err());
        }),
        ("full", |mut writer| {
            while writer.append(&[7; 1000]).is_ok() {}
            assert!(writer.is_ended());
            wait_until_it_is_gone();
        }),
        ("sent to another thread", |writer| std::thread::spawn(|| writer.close().unwrap()).join().unwrap()),
    ];
    for (name, end) in ends {
        let writer = with_helper(&path);
        let handle = writer.sync_handle();
        end(writer);
        println!("{name}");
        wait_until_it_is_gone();
        // Nothing keeps the writer's lock: the file can be reused at once.
        let next = Writer::options().create_from(&path, dir.join("next.kek")).unwrap();
        drop((next, handle));
        std::fs::remove_file(dir.join("next.kek")).unwrap();
    }
    // A channel that gets no name has no helper either.
    drop(with_helper(&path));
    assert!(Writer::options().prepare(Prepare::AHEAD).create(&path).is_err());
    wait_until_it_is_gone();
    assert_eq!(names_in(dir), ["channel.kek"]);
    say("done");
}

#[test]
fn a_forked_child_that_drops_its_writer_does_not_wait_for_a_helper_that_it_does_not_have() {
    let this = "a_forked_child_that_drops_its_writer_does_not_wait_for_a_helper_that_it_does_not_have";
    let Some((_, arguments)) = role() else {
        let dir = common::dir();
        let path = dir.path().join("channel.kek");
        let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
        assert_eq!(child.hear(), "closed");
        assert!(child.end().success());
        return assert_records(&path, 300);
    };
    let mut writer = with_helper(Path::new(&arguments[0]));
    // SAFETY: the child only drops a value and exits.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(writer);
            // SAFETY: ends this process at once, without running what its copy of the test harness would.
            unsafe { libc::_exit(7) };
        }
        ForkResult::Parent { child } => {
            assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 7))));
        }
    }
    assert!(own_helper().is_some());
    append_to(&mut writer, 300);
    writer.close().unwrap();
    say("closed");
}

/// How often a thread has given the processor away.
fn switches(thread: Pid) -> String {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap().to_owned()
}

#[test]
fn the_helper_sleeps_when_there_is_nothing_to_do() {
    let this = "the_helper_sleeps_when_there_is_nothing_to_do";
    let Some((_, arguments)) = role() else {
        let dir = common::dir();
        let mut child = Child::start(this, "writer", &[dir.path().to_str().unwrap()]);
        assert_eq!(child.hear(), "done");
        assert!(child.end().success());
        return;
    };
    let path = Path::new(&arguments[0]).join("channel.kek");
    let mut writer =
        Writer::options().capacity(64 << 20).prepare(Prepare::Ahead(1 << 20)).create(path).unwrap();
    wait_until("there is a helper", || own_helper().is_some());
    let thread = own_helper().unwrap();
    // Also after it has napped, and when the whole capacity is prepared.
    for to in [0, 500, 2000, u64::MAX] {
        while writer.next_sequence() < to && writer.fits(LONGEST as usize) {
            writer.append(&record(writer.next_sequence(), LONGEST)).unwrap();
        }
        // Longer than any nap.
        wait_until("the helper sleeps", || {
            let before = switches(thread);
            std::thread::sleep(Duration::from_millis(200));
            switches(thread) == before
        });
    }
    say("done");
}

#[test]
fn the_helper_reserves_and_populates_what_is_ahead_and_no_more() {
    for dir in [common::dir(), tempfile::tempdir().unwrap()] {
        for distance in [64 << 10, 1 << 20, 3 << 20] {
            let path = dir.path().join("channel.kek");
            let options = Writer::options().capacity(64 << 20).durability(Durability::Never);
            let mut writer = options.prepare(Prepare::Ahead(distance)).create(&path).unwrap();
            let data = data_offset(&std::fs::read(&path).unwrap()[..4096]);
            for to in [0, 1000, 3000] {
                append_to(&mut writer, to);
                let tail = writer.tail().offset();
                // It may be told of a tail that is a step of the trail old, and need not be woken for a quarter of the distance.
                let least = tail + u64::from(distance) * 3 / 4 - (64 << 10).min(u64::from(distance) / 2);
                wait_until("it is ahead", || path.metadata().unwrap().len() >= data + least);
                // On storage space costs nothing, and grows in steps of up to 16 MiB.
                let most = tail + u64::from(distance) + (18 << 20);
                assert!(path.metadata().unwrap().len() <= data + most, "a bounded distance");
            }
            writer.close().unwrap();
            assert_records(&path, 3000);
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn the_end_cuts_the_file_for_good_whatever_the_helper_is_doing() {
    let dir = common::dir();
    let path = dir.path().join("channel.kek");
    let data = {
        Writer::options().capacity(8 << 20).create(&path).unwrap().close().unwrap();
        let data = data_offset(&std::fs::read(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        data
    };
    let mut numbers = Numbers(1);
    for round in 0..300 {
        let options = Writer::options().capacity(8 << 20).prepare(Prepare::Ahead(4 << 20));
        let mut writer = options.create(&path).unwrap();
        append_to(&mut writer, numbers.below(300));
        let tail = writer.tail().offset();
        let channel = Channel::open(&path).unwrap();
        writer.close().unwrap();
        let len = path.metadata().unwrap().len();
        assert_eq!(len, data + round_up(tail + 8, PAGE), "round {round}");
        assert_eq!(data + channel.reserved(), len);
        // Nobody is left who could make it longer.
        assert_eq!(path.metadata().unwrap().blocks() * 512, len, "and nothing behind it");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_reader_that_believes_an_old_word_of_what_is_reserved_touches_nothing_behind_the_file() {
    let this = "a_reader_that_believes_an_old_word_of_what_is_reserved_touches_nothing_behind_the_file";
    if let Some((_, arguments)) = role() {
        let channel = Channel::open(&arguments[0]).unwrap();
        let mut reader: Reader = channel.reader(Start::Beginning).unwrap();
        say("open");
        listen();
        let mut count = 0;
        while let Some(found) = reader.next(patience()).unwrap() {
            assert!(found[..] == record(count, LONGEST)[..]);
            count += 1;
        }
        assert_eq!(reader.end(), Some(End::Closed));
        return say(count);
    }
    let Some(mount) = Mount::memory(this, 2 << 20) else { return };
    let (path, ballast) = (mount.path.join("channel.kek"), mount.path.join("ballast"));
    let mut writer =
        Writer::options().capacity(8 << 20).prepare(Prepare::Ahead(512 << 10)).create(&path).unwrap();
    append_to(&mut writer, 100);
    wait_until("the helper is ahead", || path.metadata().unwrap().len() > 512 << 10);
    // So that the word says it.
    append_to(&mut writer, 200);
    let reserved = Channel::open(&path).unwrap().reserved();
    let mut child = Child::start(this, "reader", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "open");
    writer.close().unwrap();
    fill_disk(&ballast);
    // As if the reader had looked before the end cut the file.
    let file = File::options().read(true).write(true).open(&path).unwrap();
    assert!(Channel::open(&path).unwrap().reserved() < reserved);
    let before = file.metadata().unwrap();
    file.write_all_at(&reserved.to_le_bytes(), 4096 + RESERVED).unwrap();
    assert_eq!(Channel::open(&path).unwrap().reserved(), reserved);
    child.tell("read");
    assert_eq!(child.hear(), "200");
    assert!(child.end().success(), "no signal");
    let after = file.metadata().unwrap();
    assert_eq!((after.len(), after.blocks()), (before.len(), before.blocks()), "and nothing is allocated");
}

/// Where the control page says how much is reserved.
const RESERVED: u64 = 128;

#[test]
fn a_copy_with_holes_is_reused_on_a_full_disk_without_a_signal() {
    let this = "a_copy_with_holes_is_reused_on_a_full_disk_without_a_signal";
    if let Some((_, arguments)) = role() {
        let dir = Path::new(&arguments[0]);
        let (from, to) = (dir.join("copy.kek"), dir.join("next.kek"));
        let mut writer = Writer::options().capacity(1 << 20).create_from(from, to).unwrap();
        append_until_no_space(&mut writer);
        say(writer.next_sequence());
        listen();
        return writer.close().unwrap();
    }
    let Some(mount) = Mount::memory(this, 2 << 20) else { return };
    let dir = common::dir();
    let (path, copy) = (dir.path().join("whole.kek"), mount.path.join("copy.kek"));
    let mut writer =
        Writer::options().capacity(1 << 20).prepare(Prepare::All).keep_space(true).create(&path).unwrap();
    append_to(&mut writer, 10);
    writer.close().unwrap();
    let copied = std::process::Command::new("cp").arg("--sparse=always").args([&path, &copy]).status();
    assert!(copied.unwrap().success());
    assert!(copy.metadata().unwrap().blocks() * 512 < copy.metadata().unwrap().len(), "it has holes");
    let ballast = mount.path.join("ballast");
    fill_disk(&ballast);
    // A little: header, control, index, some data.
    let len = ballast.metadata().unwrap().len();
    File::options().write(true).open(&ballast).unwrap().set_len(len - (200 << 10)).unwrap();
    let mut child = Child::start(this, "writer", &[mount.path.to_str().unwrap()]);
    let records: u64 = child.hear().parse().unwrap();
    assert!(records > 50);
    assert_records(&mount.path.join("next.kek"), records);
    child.tell("close");
    assert!(child.end().success(), "no signal");
}

#[test]
fn a_helper_that_syncs_zeros_ahead_harms_no_record() {
    // On storage, where new space is written with zeros by the helper while the writer appends before it.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channel.kek");
    let options =
        Writer::options().capacity(16 << 20).durability(Durability::Interval(Duration::from_millis(1)));
    let mut writer = options.prepare(Prepare::Ahead(1 << 20)).create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    let begun = Instant::now();
    let mut read = 0;
    while writer.fits(LONGEST as usize) {
        let to = writer.next_sequence() + 50;
        while writer.next_sequence() < to && writer.fits(LONGEST as usize) {
            writer.append(&record(writer.next_sequence(), LONGEST)).unwrap();
        }
        while let Some(found) = reader.try_next().unwrap() {
            assert!(found[..] == record(read, LONGEST)[..], "record {read}");
            read += 1;
        }
        assert!(begun.elapsed() < GENEROUS);
    }
    let records = writer.next_sequence();
    assert_eq!(read, records);
    writer.close().unwrap();
    assert_records(&path, records);
}
