//! Every ending is seen for what it is: closed, full, abandoned by a dead writer, timed out for a stopped one; and
//! whatever ends a writer, what it had appended is there.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Child, GENEROUS, Numbers, listen, patience, record, role, say, wait_until};
use kekbit::{AppendError, Channel, End, Reader, SealError, Start, State, Wait, Writer};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

const LONGEST: u64 = 200;

/// Takes records as long as there are any, each of which must be the one that follows; returns how many.
fn take_all(reader: &mut Reader) -> u64 {
    let mut count = 0;
    let mut next = reader.sequence();
    while let Some(found) = reader.try_next().unwrap() {
        assert!(found.sequence() == next && found[..] == record(next, LONGEST)[..], "record {next} is torn");
        next += 1;
        count += 1;
    }
    count
}

/// Waits until the kernel has released the lock of a dead writer: of one that was killed, or one in this process,
/// whose lock a child of another test may have inherited until it runs its own program.
fn wait_until_released(channel: &Channel) {
    wait_until("the dead writer's lock is released", || !channel.writer_lives().unwrap());
}

#[test]
fn closed_and_full_are_reported_by_the_poll_that_reaches_them() {
    for (full, end) in [(false, End::Closed), (true, End::Full)] {
        let dir = common::dir();
        let path = dir.path().join("end.kek");
        let mut writer = Writer::options().capacity(4096).create(&path).unwrap();
        let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
        let mut records = 0;
        if full {
            while writer.append(&record(records, LONGEST)).is_ok() {
                records += 1;
            }
        } else {
            writer.append(&record(0, LONGEST)).unwrap();
            records = 1;
            assert_eq!((take_all(&mut reader), reader.end()), (1, None));
            writer.close().unwrap();
        }
        assert_eq!(reader.end(), None);
        for _ in 0..records - reader.sequence() {
            assert!(reader.try_next().unwrap().is_some());
            assert_eq!(reader.end(), None, "not before the end is reached");
        }
        assert!(reader.try_next().unwrap().is_none());
        assert_eq!(reader.end(), Some(end));
        assert!(reader.next(Wait::spin()).unwrap().is_none(), "waiting ends at once");
        assert_eq!(reader.check_end().unwrap(), Some(end));
    }
}

#[test]
fn a_waiting_reader_is_woken_by_every_ending() {
    for (act, end) in [
        ((|writer: Writer| writer.close().unwrap()) as fn(Writer), End::Closed),
        (drop, End::Closed),
        (Writer::abandon, End::Abandoned),
        (|mut writer| assert!(matches!(writer.append(&[0; 4000]), Err(AppendError::Full { .. }))), End::Full),
    ] {
        for wait in [Wait::spin(), Wait::yielding(), Wait::backoff()] {
            let dir = common::dir();
            let path = dir.path().join("end.kek");
            let mut writer = Writer::options().capacity(4096).max_record_len(4080).create(&path).unwrap();
            writer.append(&record(0, LONGEST)).unwrap();
            let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
            let following = std::thread::spawn(move || {
                let mut count = 0;
                while reader.next(wait.at_most(GENEROUS)).unwrap().is_some() {
                    count += 1;
                }
                (count, reader.end())
            });
            act(writer);
            assert_eq!(following.join().unwrap(), (1, Some(end)));
        }
    }
}

/// Appends records without end, some of them in batches.
fn append_for_ever(path: &str) {
    let mut writer = Writer::options().capacity(4 << 30).create(path).unwrap();
    loop {
        let next = writer.next_sequence();
        if next.is_multiple_of(10) {
            let mut batch = writer.batch();
            for i in 0..next % 7 {
                batch.push(&record(next + i, LONGEST)).unwrap();
            }
            batch.commit().unwrap();
        }
        writer.append(&record(writer.next_sequence(), LONGEST)).unwrap();
    }
}

#[test]
fn a_killed_writer_leaves_everything_that_was_visible() {
    let this = "a_killed_writer_leaves_everything_that_was_visible";
    if let Some((_, arguments)) = role() {
        return append_for_ever(&arguments[0]);
    }
    let mut numbers = Numbers(std::process::id().into());
    for round in 0..100 {
        let dir = common::dir();
        let path = dir.path().join("killed.kek");
        let child = Child::start(this, "writer", &[path.to_str().unwrap()]);
        let channel = Channel::wait_for(&path, patience()).unwrap().unwrap();
        let mut reader = channel.reader(Start::Beginning).unwrap();
        // In the first rounds at once, later after more and more records.
        let enough = numbers.below(1 + 50 * round);
        while reader.sequence() < enough {
            take_all(&mut reader);
        }
        assert_eq!(reader.check_end().unwrap(), None, "the writer lives");
        assert!(matches!(Channel::seal(&path), Err(SealError::WriterLives { .. })));
        child.kill();
        let visible = channel.end_point().unwrap().sequence;
        wait_until_released(&channel);
        take_all(&mut reader);
        assert_eq!(reader.end(), None, "nobody has asked yet");
        assert_eq!(reader.check_end().unwrap(), Some(End::Abandoned));
        assert!(reader.sequence() >= visible);
        check_what_is_left(&path, reader.sequence());
        drop(child);
    }
}

/// The channel is abandoned with so many records, can be sealed once, and has ended then.
fn check_what_is_left(path: &Path, records: u64) {
    let channel = Channel::open(path).unwrap();
    wait_until_released(&channel);
    let before = channel.verify(|_| ()).unwrap();
    assert_eq!((before.state, before.sealed, before.sequence), (State::Abandoned, false, records));
    let mut earlier = channel.reader(Start::End).unwrap();
    let sealed = Channel::seal(path).unwrap();
    assert_eq!((sealed.before, sealed.end.sequence, sealed.end.sealed), (State::Abandoned, records, true));
    let again = Channel::seal(path);
    assert!(matches!(again, Err(SealError::Ended { state: State::Abandoned, .. })));
    // Who had it open reads the same.
    assert_eq!((take_all(&mut earlier), earlier.check_end().unwrap()), (0, Some(End::Abandoned)));
    let mut reader = Channel::open(path).unwrap().reader(Start::Beginning).unwrap();
    assert_eq!((take_all(&mut reader), reader.end()), (records, Some(End::Abandoned)));
}

#[test]
fn a_reader_that_waits_for_a_killed_writer_is_told() {
    let this = "a_reader_that_waits_for_a_killed_writer_is_told";
    if let Some((_, arguments)) = role() {
        let mut writer = Writer::create(&arguments[0]).unwrap();
        writer.append(&record(0, LONGEST)).unwrap();
        say("appended");
        listen();
        return;
    }
    for wait in [Wait::spin(), Wait::yielding(), Wait::backoff()] {
        let dir = common::dir();
        let path = dir.path().join("killed.kek");
        let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
        assert_eq!(child.hear(), "appended");
        let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
        assert_eq!(take_all(&mut reader), 1);
        assert!(reader.next(wait.retries(2000)).unwrap().is_none());
        assert_eq!(reader.end(), None, "the writer is silent, but it lives");
        child.kill();
        assert!(reader.next(wait.at_most(GENEROUS)).unwrap().is_none());
        assert_eq!(reader.end(), Some(End::Abandoned));
    }
}

#[test]
fn a_stopped_writer_times_readers_out_and_goes_on_without_loss() {
    let this = "a_stopped_writer_times_readers_out_and_goes_on_without_loss";
    if let Some((_, arguments)) = role() {
        return append_for_ever(&arguments[0]);
    }
    let dir = common::dir();
    let path = dir.path().join("stopped.kek");
    let child = Child::start(this, "writer", &[path.to_str().unwrap()]);
    let channel = Channel::wait_for(&path, patience()).unwrap().unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    let mut patient = channel.reader(Start::Beginning).unwrap();
    reader.set_timeout(Some(Duration::from_millis(20)));
    for _ in 0..3 {
        child.signal(Signal::SIGSTOP);
        let stopped = waitpid(child.id(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)));
        take_all(&mut reader);
        assert!(reader.next(patience()).unwrap().is_none());
        assert_eq!(reader.end(), Some(End::TimedOut));
        assert_eq!(channel.end_point().unwrap().state, State::Open, "that is this reader's opinion only");
        take_all(&mut patient);
        assert_eq!(patient.check_end().unwrap(), None, "and not that of one without a timeout");
        assert!(matches!(Channel::seal(&path), Err(SealError::WriterLives { .. })));
        child.signal(Signal::SIGCONT);
        let (sequence, goal) = (reader.sequence(), reader.sequence() + 1000);
        // A reader that has timed out may be told so again before the writer has woken up.
        wait_until("the writer goes on", || {
            reader.next(patience()).unwrap().is_some_and(|r| r[..] == record(sequence, LONGEST)[..])
        });
        assert_eq!(reader.end(), None, "the opinion is taken back");
        wait_until("there are a thousand more", || {
            take_all(&mut reader);
            reader.sequence() >= goal
        });
    }
}

#[test]
fn signs_of_life_put_off_the_timeout() {
    let dir = common::dir();
    let path = dir.path().join("quiet.kek");
    let timeout = Duration::from_millis(30);
    let mut writer = Writer::options().timeout(timeout).create(&path).unwrap();
    let channel = Channel::open(&path).unwrap();
    assert_eq!(channel.timeout(), Some(timeout));
    let mut reader = channel.reader(Start::Beginning).unwrap();
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::TimedOut));
    writer.heartbeat();
    assert_eq!(reader.check_end().unwrap(), None, "a heartbeat is a sign of life");
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::TimedOut));
    writer.append(&record(0, LONGEST)).unwrap();
    assert_eq!(reader.end(), Some(End::TimedOut), "nobody has looked yet");
    assert!(reader.try_next().unwrap().is_some());
    assert_eq!(reader.end(), None, "a record takes it back");
    assert!(reader.try_next().unwrap().is_none());
    assert_eq!((reader.end(), reader.check_end().unwrap()), (None, None));
}

#[test]
fn a_forked_child_does_not_keep_a_dead_writer_alive() {
    let this = "a_forked_child_does_not_keep_a_dead_writer_alive";
    if let Some((_, arguments)) = role() {
        let mut writer = Writer::create(&arguments[0]).unwrap();
        writer.append(&record(0, LONGEST)).unwrap();
        // SAFETY: the child only uses the standard streams, which the only other thread does not.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                say("forked");
                assert_eq!(listen().as_deref(), Some("are you there?"));
                say("the child lives");
                listen();
                // SAFETY: ends this process at once, without dropping anything.
                unsafe { nix::libc::_exit(0) };
            }
            ForkResult::Parent { .. } => {
                nix::unistd::pause();
                return;
            }
        }
    }
    let dir = common::dir();
    let path = dir.path().join("forked.kek");
    let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "forked");
    let channel = Channel::open(&path).unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    assert_eq!((take_all(&mut reader), reader.check_end().unwrap()), (1, None));
    child.kill();
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Abandoned));
    Channel::seal(&path).unwrap();
    child.tell("are you there?");
    assert_eq!(child.hear(), "the child lives", "it has lived all the time");
}

#[test]
fn a_forked_child_that_drops_its_writer_does_not_end_a_live_channel() {
    let this = "a_forked_child_that_drops_its_writer_does_not_end_a_live_channel";
    if let Some((_, arguments)) = role() {
        let mut writer = Writer::create(&arguments[0]).unwrap();
        for sequence in 0..10 {
            writer.append(&record(sequence, LONGEST)).unwrap();
        }
        // SAFETY: the child only drops a value and exits.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                drop(writer);
                // SAFETY: ends this process at once, without running what its copy of the test harness would.
                unsafe { nix::libc::_exit(7) };
            }
            ForkResult::Parent { child } => {
                assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 7))));
                say("dropped");
                listen();
                for sequence in 10..20 {
                    writer.append(&record(sequence, LONGEST)).unwrap();
                }
                writer.close().unwrap();
                say("closed");
                return;
            }
        }
    }
    let dir = common::dir();
    let path = dir.path().join("forked.kek");
    let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "dropped");
    let channel = Channel::open(&path).unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    assert_eq!((take_all(&mut reader), reader.check_end().unwrap()), (10, None));
    assert_eq!(channel.end_point().unwrap().state, State::Open);
    assert!(matches!(Channel::seal(&path), Err(SealError::WriterLives { .. })));
    child.tell("go on");
    assert_eq!(child.hear(), "closed");
    assert_eq!((take_all(&mut reader), reader.end()), (10, Some(End::Closed)));
    assert!(child.end().success());
}

#[test]
fn a_panic_leaves_the_channel_abandoned_and_not_closed() {
    let dir = common::dir();
    let path = dir.path().join("panic.kek");
    let copy = path.clone();
    let panicked = std::thread::spawn(move || {
        let mut writer = Writer::create(copy).unwrap();
        writer.append(&record(0, LONGEST)).unwrap();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    check_what_is_left(&path, 1);
}

#[test]
fn a_channel_can_be_sealed_only_once_by_whoever_is_first() {
    let dir = common::dir();
    let path = dir.path().join("sealed.kek");
    let mut writer = Writer::create(&path).unwrap();
    writer.append(&record(0, LONGEST)).unwrap();
    writer.abandon();
    wait_until_released(&Channel::open(&path).unwrap());
    let results: Vec<_> = std::thread::scope(|scope| {
        let sealers: Vec<_> = (0..8).map(|_| scope.spawn(|| Channel::seal(&path))).collect();
        sealers.into_iter().map(|sealer| sealer.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, SealError::Ended { .. } | SealError::BeingSealed { .. }), "{error}");
    }
}

#[test]
fn what_has_ended_otherwise_is_not_sealed() {
    let dir = common::dir();
    let path = dir.path().join("closed.kek");
    Writer::create(&path).unwrap().close().unwrap();
    let length = path.metadata().unwrap().len();
    assert!(matches!(Channel::seal(&path), Err(SealError::Ended { state: State::Closed, .. })));
    assert_eq!(path.metadata().unwrap().len(), length);
    assert!(matches!(Channel::seal(dir.path().join("none")), Err(SealError::Open(_))));
}
