//! A thread that stands still, at whatever system call, keeps nobody else from going on, and has missed nothing when it goes
//! on itself: the helper of a writer, and a reader that opens a file which is being reused.

mod common;
#[path = "common/stopped.rs"]
mod stopped;

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use common::{
    Child, GENEROUS, Mount, bytes, data_offset, fill_disk, free_disk, listen, payloads, record, role,
    round_up, say, wait_until,
};
use kekbit::{AppendError, Channel, CreateError, Durability, End, OpenError, Prepare, Start, Writer};
use nix::libc;
use nix::unistd::{Pid, gettid};
use stopped::{At, HELPER, Stopped};

const LONGEST: u64 = 2000;
const PAGE: u64 = 4096;

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

/// Writes what it is told, with a helper that works 256 KiB ahead.
fn obey(path: &str, durability: Durability) {
    let prepare = Prepare::Ahead(256 << 10);
    let mut writer =
        Writer::options().capacity(8 << 20).durability(durability).prepare(prepare).create(path).unwrap();
    say("created");
    while let Some(told) = listen() {
        match told.as_str() {
            "fill" => append_until_no_space(&mut writer),
            "close" => break,
            bytes => {
                let to = writer.tail().offset() + bytes.parse::<u64>().unwrap();
                while writer.tail().offset() + LONGEST < to {
                    writer.append(&record(writer.next_sequence(), LONGEST)).unwrap();
                }
            }
        }
        say(writer.next_sequence());
    }
    writer.close().unwrap();
    say("closed");
}

/// A child that obeys, and its helper, which stands still.
fn child_with_stopped_helper(test: &str, path: &Path) -> Option<(Child, Stopped)> {
    let mut child = Child::start(test, "writer", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "created");
    // It gives itself its name.
    wait_until("there is a helper", || Stopped::find(child.id(), HELPER).is_some());
    let thread = Stopped::find(child.id(), HELPER).unwrap();
    // What it does at first is done.
    let sleeps = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/task/{thread}/stat", child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('S')
    };
    wait_until("the helper sleeps", sleeps);
    let stopped = Stopped::stop(test, thread)?;
    Some((child, stopped))
}

/// What the child says next. If it waits for the helper, which this thread holds, the test is over.
fn hear_in_time(child: &mut Child) -> String {
    let (heard, hears) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if hears.recv_timeout(GENEROUS) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the writer waits for its helper");
            std::process::exit(1);
        }
    });
    let said = child.hear();
    drop(heard);
    watchdog.join().unwrap();
    said
}

#[test]
fn a_writer_does_not_wait_for_a_helper_that_stands_still() {
    let this = "a_writer_does_not_wait_for_a_helper_that_stands_still";
    if let Some((_, arguments)) = role() {
        return obey(&arguments[0], Durability::Never);
    }
    // At the beginning and at the end of the helper's first reservation, when it has the turn to reserve, and behind that.
    for steps in 0..4 {
        let dir = common::dir();
        let path = dir.path().join("channel.kek");
        let Some((mut child, mut helper)) = child_with_stopped_helper(this, &path) else { return };
        // The helper is woken, and stopped again when it reserves.
        child.tell("200000");
        child.hear();
        helper.step_to(libc::SYS_fallocate);
        for _ in 0..steps {
            helper.step();
        }
        child.tell("6000000");
        // It does all the rest by itself.
        let records: u64 = hear_in_time(&mut child).parse().unwrap();
        assert_records(&path, records);
        // What the helper was about to do does no harm.
        drop(helper);
        child.tell("100000");
        let records = child.hear().parse().unwrap();
        child.tell("close");
        assert_eq!(child.hear(), "closed");
        assert!(child.end().success());
        assert_records(&path, records);
        let file = std::fs::read(&path).unwrap();
        let tail = Channel::open(&path).unwrap().end_point().unwrap().position.offset();
        assert_eq!(file.len() as u64, data_offset(&file) + round_up(tail + 8, PAGE));
    }
}

#[test]
fn what_the_writer_has_reserved_survives_a_reservation_of_the_helper_that_fails() {
    let this = "what_the_writer_has_reserved_survives_a_reservation_of_the_helper_that_fails";
    if let Some((_, arguments)) = role() {
        return obey(&arguments[0], Durability::Never);
    }
    let Some(mount) = Mount::memory(this, 1 << 20) else { return };
    let (path, ballast) = (mount.path.join("channel.kek"), mount.path.join("ballast"));
    let Some((mut child, mut helper)) = child_with_stopped_helper(this, &path) else { return };
    // The helper is about to reserve what the writer then reserves itself, a few pages more than it writes.
    child.tell("200000");
    child.hear();
    helper.step_to(libc::SYS_fallocate);
    child.tell("150000");
    child.hear();
    let len = path.metadata().unwrap().len();
    assert!(len > 400_000, "a few pages are reserved and not touched");
    fill_disk(&ballast);
    // Now the helper's reservation fails, and the kernel takes back what it has reserved, but not what was before.
    assert_eq!(helper.step(), At::Exit);
    drop(helper);
    fill_disk(&ballast);
    assert_eq!(path.metadata().unwrap().len(), len, "it has failed");
    child.tell("fill");
    let records: u64 = child.hear().parse().unwrap();
    assert_records(&path, records);
    let end = Channel::open(&path).unwrap().end_point().unwrap().position.offset();
    let data = data_offset(&std::fs::read(&path).unwrap());
    assert!(data + end + LONGEST + 16 > len, "all of what was reserved is used: {end} of {len}");
    free_disk(&ballast);
    child.tell("300000");
    let records = child.hear().parse().unwrap();
    child.tell("close");
    assert_eq!(child.hear(), "closed");
    assert!(child.end().success());
    assert_records(&path, records);
}

#[test]
fn zeros_that_the_helper_writes_cover_no_record() {
    let this = "zeros_that_the_helper_writes_cover_no_record";
    if let Some((_, arguments)) = role() {
        // A sync now and then is the reason for zeros, but here there is none.
        return obey(&arguments[0], Durability::Interval(60 * GENEROUS));
    }
    // On storage, where zeros are of use.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channel.kek");
    let Some((mut child, mut helper)) = child_with_stopped_helper(this, &path) else { return };
    child.tell("400000");
    child.hear();
    helper.step_to(libc::SYS_pwrite64);
    // The writer comes to where the helper is writing zeros, and must wait, however long that takes.
    child.tell("400000");
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(2));
        assert_ne!(helper.step(), At::End);
    }
    drop(helper);
    child.hear();
    child.tell("2000000");
    let records = child.hear().parse().unwrap();
    assert_records(&path, records);
    child.tell("close");
    assert_eq!(child.hear(), "closed");
    assert!(child.end().success());
    assert_records(&path, records);
}

/// Records of each life in what follows, of lengths that are the same in all lives.
const LIVES_RECORDS: u64 = 60;

/// The content of record `index` in life `life`, as long as in any other.
fn content(life: u64, index: u64) -> Vec<u8> {
    bytes(life << 32 | index, (7 * index % 300) as usize)
}

/// Opens the channel of life 1 by its name, and says what it has found there, if anything.
fn open_and_say(path: &Path) {
    say(gettid());
    listen();
    // From here on the test stops this thread at each system call.
    let opened = Channel::open(path);
    let found = match &opened {
        Ok(channel) => {
            assert_eq!(channel.channel_id(), 1, "the header of another life");
            let mut reader = channel.reader(Start::Beginning).unwrap();
            let mut count = 0;
            while let Some(found) = reader.try_next().unwrap() {
                assert!(found.payload() == content(1, count), "record {count} of another life");
                count += 1;
            }
            assert_eq!((count, reader.end()), (LIVES_RECORDS, Some(End::Closed)));
            "read"
        }
        Err(OpenError::NotFound { .. }) => "not found",
        Err(OpenError::Reused { .. }) => "reused",
        Err(other) => panic!("{other}"),
    };
    drop(opened);
    say(found);
}

#[test]
fn a_reader_that_stands_still_at_any_system_call_sees_one_life() {
    let this = "a_reader_that_stands_still_at_any_system_call_sees_one_life";
    if let Some((_, arguments)) = role() {
        return open_and_say(Path::new(&arguments[0]));
    }
    let dir = common::dir();
    let (old, new) = (dir.path().join("old.kek"), dir.path().join("new.kek"));
    let options = || Writer::options().capacity(64 << 10).durability(Durability::Never);
    let write = |mut writer: Writer, life| {
        for index in 0..LIVES_RECORDS {
            writer.append(&content(life, index)).unwrap();
        }
        writer
    };
    let (mut outcomes, mut refused) = (Vec::new(), 0);
    for steps in 0.. {
        write(options().channel_id(1).keep_space(true).create(&old).unwrap(), 1).close().unwrap();
        let mut child = Child::start(this, "reader", &[old.to_str().unwrap()]);
        let thread = Pid::from_raw(child.hear().parse().unwrap());
        let Some(mut reader) = Stopped::stop(this, thread) else { return };
        child.tell("open");
        // Beginnings and ends of system calls, from the one that hears this on.
        let last = (0..steps).map(|_| reader.step()).last();
        if last == Some(At::End) {
            break;
        }
        let reused = options().channel_id(2).create_from(&old, &new);
        let live = match reused {
            Ok(writer) => Some(write(writer, 2)),
            Err(CreateError::InUse { .. }) => {
                refused += 1;
                None
            }
            Err(other) => panic!("{other}"),
        };
        drop(reader);
        let outcome = child.hear();
        assert!(child.end().success(), "after {steps} steps");
        // It has read the old life if that was left to it, and otherwise nothing.
        let had_read = outcome == "read" && live.is_some();
        assert!(!had_read || outcomes.iter().any(|known| known == "read"), "after {steps} steps");
        outcomes.push(outcome);
        drop(live);
        for path in [&old, &new] {
            // One of them is there.
            let _ = std::fs::remove_file(path);
        }
    }
    let count = |wanted: &str| outcomes.iter().filter(|outcome| *outcome == wanted).count();
    println!(
        "{} stops: {} read, {refused} reuses refused, {} not found",
        outcomes.len(),
        count("read"),
        count("not found")
    );
    // Before it has opened the file, or has the lock: gone. From then on nobody gets the file, until it closes it.
    assert!(count("not found") >= 2 && refused >= 10 && count("read") >= refused);
}
