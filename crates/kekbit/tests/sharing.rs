//! Sharing: a writer by threads, a channel by readers in threads and processes, records beyond their reader.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use common::{Child, GENEROUS, patience, payloads, record, role, say, wait_until};
use kekbit::{
    AppendError, Channel, CreateError, End, OpenError, SharedError, SharedRecord, SharedWriter, Start, State,
    Wait, Writer,
};

const THREADS: u64 = 8;
const EACH: u64 = 5000;

fn number_pair(bytes: &[u8]) -> (u64, u64) {
    let (thread, number) = bytes.split_at(8);
    (u64::from_le_bytes(thread.try_into().unwrap()), u64::from_le_bytes(number[..8].try_into().unwrap()))
}

#[test]
fn eight_threads_share_a_writer_and_each_keeps_its_order() {
    let dir = common::dir();
    let path = dir.path().join("shared.kek");
    let shared = SharedWriter::new(Writer::options().capacity(64 << 20).create(&path).unwrap());
    let busy = AtomicU64::new(0);
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (shared, busy, barrier) = (shared.clone(), &busy, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..EACH {
                    let payload = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                    // Busy means that nothing has happened: the same record is tried again.
                    let at = loop {
                        match shared.append(&payload) {
                            Ok(at) => break at,
                            Err(SharedError::Busy) => busy.fetch_add(1, Ordering::Relaxed),
                            Err(other) => panic!("{other}"),
                        };
                    };
                    assert!(at.sequence < THREADS * EACH);
                }
            });
        }
    });
    shared.close().unwrap();
    let mut next = [0; THREADS as usize];
    let channel = Channel::open(&path).unwrap();
    for record in channel.records() {
        let (thread, number) = number_pair(&record.unwrap());
        assert_eq!(number, next[thread as usize], "of thread {thread}");
        next[thread as usize] += 1;
    }
    assert_eq!(next, [EACH; THREADS as usize], "none is lost, {busy:?} were tried again");
}

#[test]
fn what_one_thread_does_with_the_writer_no_other_comes_between() {
    let dir = common::dir();
    let path = dir.path().join("shared.kek");
    let shared = SharedWriter::new(Writer::create(&path).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let shared = &shared;
            scope.spawn(move || {
                for _ in 0..200 {
                    let act = |writer: &mut Writer| {
                        for part in 0..3_u64 {
                            writer.append(&[thread.to_le_bytes(), part.to_le_bytes()].concat()).unwrap();
                        }
                    };
                    shared.with(Wait::yielding(), act).unwrap();
                }
            });
        }
    });
    shared.close().unwrap();
    let all: Vec<_> = payloads(&Channel::open(&path).unwrap()).iter().map(|p| number_pair(p)).collect();
    assert_eq!(all.len(), 4 * 200 * 3);
    for three in all.chunks(3) {
        assert!(three.iter().enumerate().all(|(i, pair)| *pair == (three[0].0, i as u64)), "{three:?}");
    }
}

#[test]
fn a_writer_that_another_thread_holds_is_busy_and_nothing_happens() {
    let dir = common::dir();
    let path = dir.path().join("busy.kek");
    let shared = SharedWriter::new(Writer::create(&path).unwrap());
    let (holding, held) = mpsc::channel();
    let (let_go, wait) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let holder = &shared;
        scope.spawn(move || {
            let hold = |writer: &mut Writer| {
                holding.send(()).unwrap();
                wait.recv().unwrap();
                writer.append(b"after all that").unwrap();
            };
            holder.with(Wait::spin(), hold).unwrap();
        });
        held.recv().unwrap();
        let stop = AtomicBool::new(true);
        for result in [
            shared.append(b"x"),
            shared.append_wait(b"x", Wait::spin().retries(0)),
            shared.append_wait(b"x", Wait::yielding().retries(10)),
            shared.append_wait(b"x", Wait::backoff().at_most(Duration::from_millis(2))),
            shared.append_wait(b"x", Wait::backoff().until(&stop)),
        ] {
            assert!(matches!(result, Err(SharedError::Busy)));
        }
        assert_eq!(payloads(&Channel::open(&path).unwrap()).len(), 0);
        let_go.send(()).unwrap();
        shared.append_wait(b"then me", Wait::backoff().at_most(GENEROUS)).unwrap();
    });
    shared.close().unwrap();
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [&b"after all that"[..], b"then me"]);
}

#[test]
fn a_panic_while_the_writer_is_held_takes_back_what_was_not_committed() {
    let dir = common::dir();
    let path = dir.path().join("panic.kek");
    let shared = SharedWriter::new(Writer::create(&path).unwrap());
    shared.append(b"before").unwrap();
    let acts: [fn(&mut Writer); 4] = [
        |_| panic!("on purpose"),
        |writer| {
            writer.append_with(100, |_| panic!("on purpose")).unwrap();
        },
        |writer| {
            let mut claim = writer.claim(100).unwrap();
            claim.fill(1);
            panic!("on purpose");
        },
        |writer| {
            let mut batch = writer.batch();
            batch.push(b"lost").unwrap();
            panic!("on purpose");
        },
    ];
    for act in acts {
        let panicked = catch_unwind(AssertUnwindSafe(|| shared.with(Wait::spin(), act)));
        assert!(panicked.is_err());
        shared.append(b"and on").unwrap();
    }
    let in_thread = shared.clone();
    let panicked =
        std::thread::spawn(move || in_thread.with(Wait::spin(), |_| panic!("on purpose")).unwrap());
    assert!(panicked.join().is_err());
    assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Open);
    shared.close().unwrap();
    let channel = Channel::open(&path).unwrap();
    assert_eq!(payloads(&channel).len(), 5);
    assert_eq!(channel.verify(|_| ()).unwrap().state, State::Closed);
}

#[test]
fn a_closed_shared_writer_says_so_and_the_last_one_to_go_closes() {
    let dir = common::dir();
    let path = dir.path().join("closed.kek");
    let shared = SharedWriter::new(Writer::create(&path).unwrap());
    let other = shared.clone();
    shared.close().unwrap();
    shared.close().unwrap();
    assert!(matches!(other.append(b"late"), Err(SharedError::Append(AppendError::Closed))));

    let path = dir.path().join("dropped.kek");
    let shared = SharedWriter::new(Writer::create(&path).unwrap());
    let other = shared.clone();
    drop(shared);
    other.append(b"still here").unwrap();
    assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Open);
    drop(other);
    assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Closed);
}

#[test]
fn readers_in_threads_and_processes_all_see_the_same() {
    let this = "readers_in_threads_and_processes_all_see_the_same";
    let follow = |path: &str, wait: Wait<'_>, start: u64| {
        let channel = Channel::wait_for(path, patience()).unwrap().unwrap();
        let mut reader = channel.reader(Start::Sequence(start)).unwrap();
        let mut next = start;
        while let Some(found) = reader.next(wait.at_most(GENEROUS)).unwrap() {
            assert!(found.sequence() == next && found[..] == record(next, 300)[..]);
            next += 1;
        }
        assert_eq!(reader.end(), Some(End::Closed));
        next
    };
    if let Some((start, arguments)) = role() {
        say(follow(&arguments[0], Wait::backoff(), start.parse().unwrap()));
        return;
    }
    let dir = common::dir();
    let path = dir.path().join("many.kek");
    let path = path.to_str().unwrap();
    let mut children: Vec<_> =
        ["0", "1", "500", "19999"].into_iter().map(|start| Child::start(this, start, &[path])).collect();
    std::thread::scope(|scope| {
        let waits = [Wait::spin(), Wait::yielding(), Wait::backoff(), Wait::backoff()];
        let threads: Vec<_> = waits
            .into_iter()
            .enumerate()
            .map(|(i, wait)| scope.spawn(move || follow(path, wait, 100 * i as u64)))
            .collect();
        let mut writer = Writer::options().capacity(16 << 20).create(path).unwrap();
        for sequence in 0..20_000 {
            writer.append(&record(sequence, 300)).unwrap();
        }
        writer.close().unwrap();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 20_000);
        }
    });
    for child in &mut children {
        assert_eq!(child.hear(), "20000");
    }
}

#[test]
fn one_open_channel_serves_many_threads_at_once() {
    let dir = common::dir();
    let path = dir.path().join("one.kek");
    let mut writer = Writer::options().capacity(16 << 20).create(&path).unwrap();
    let channel = Channel::open(&path).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (channel, mut reader) = (&channel, channel.reader(Start::Beginning).unwrap());
            scope.spawn(move || {
                let mut records = channel.records();
                let mut next = 0;
                while let Some(found) = reader.next(Wait::yielding()).unwrap() {
                    let same = records.next().unwrap().unwrap();
                    assert!(found.sequence() == next && found[..] == record(next, 300)[..]);
                    assert_eq!((same.sequence(), same.payload()), (next, found.payload()));
                    next += 1;
                }
                assert_eq!((next, reader.end()), (10_000, Some(End::Closed)));
            });
        }
        for sequence in 0..10_000 {
            writer.append(&record(sequence, 300)).unwrap();
        }
        writer.close().unwrap();
    });
}

#[test]
fn a_shared_record_outlives_reader_channel_and_file() {
    let dir = common::dir();
    let path = dir.path().join("kept.kek");
    let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
    for sequence in 0..100 {
        writer.append(&record(sequence, 300)).unwrap();
    }
    let channel = Channel::open(&path).unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    let mut kept: Vec<SharedRecord> = Vec::new();
    while let Some(found) = reader.try_next().unwrap() {
        kept.push(found.to_shared());
    }
    drop((reader, channel));
    writer.close().unwrap();
    std::fs::remove_file(&path).unwrap();
    let kept = std::thread::spawn(move || {
        let again = kept.clone();
        drop(kept);
        again
    });
    for (sequence, kept) in kept.join().unwrap().iter().enumerate() {
        assert_eq!(kept[..], record(sequence as u64, 300));
        assert_eq!((kept.record().sequence(), kept.channel().unwrap().path()), (sequence as u64, &*path));
        assert_eq!(kept.record().to_shared()[..], kept[..]);
    }
}

#[test]
fn a_file_is_not_reused_as_long_as_a_record_of_it_is_kept() {
    let dir = common::dir();
    let (old, new) = (dir.path().join("old.kek"), dir.path().join("new.kek"));
    let mut writer = Writer::options().capacity(1 << 20).create(&old).unwrap();
    writer.append(b"kept").unwrap();
    writer.close().unwrap();
    let channel = Channel::open(&old).unwrap();
    let kept = channel.records().next().unwrap().unwrap().to_shared();
    drop(channel);
    let reuse = || Writer::options().capacity(1 << 20).create_from(&old, &new);
    assert!(matches!(reuse(), Err(CreateError::InUse { .. })));
    assert_eq!(&kept[..], b"kept");
    drop(kept);
    // A child that another test is just starting may have a copy of the descriptor for a moment.
    wait_until("the last reader has gone", || match reuse() {
        Ok(mut writer) => writer.append(b"new").is_ok(),
        Err(CreateError::InUse { .. }) => false,
        Err(other) => panic!("{other}"),
    });
    assert_eq!(payloads(&Channel::open(&new).unwrap()), [b"new"]);
    assert!(matches!(Channel::open(&old), Err(OpenError::NotFound { .. })));
}

#[test]
fn a_channel_that_is_not_there_yet_is_waited_for() {
    let dir = common::dir();
    let path = dir.path().join("later.kek");
    assert!(Channel::wait_for(&path, Wait::spin().retries(10)).unwrap().is_none());
    let stop = AtomicBool::new(true);
    assert!(Channel::wait_for(&path, Wait::backoff().until(&stop)).unwrap().is_none());
    // Somebody may be about to copy a channel there.
    std::fs::write(&path, "").unwrap();
    assert!(Channel::wait_for(&path, Wait::spin().retries(10)).unwrap().is_none());
    std::fs::write(&path, "no channel").unwrap();
    assert!(matches!(Channel::wait_for(&path, patience()), Err(OpenError::Format { .. })));
    std::fs::remove_file(&path).unwrap();
    let waiting = std::thread::spawn({
        let path = path.clone();
        move || {
            let channel = Channel::wait_for(path, patience()).unwrap().unwrap();
            let mut reader = channel.reader(Start::Beginning).unwrap();
            reader.next(patience()).unwrap().map(|record| record.to_vec())
        }
    });
    let mut writer = Writer::create(&path).unwrap();
    writer.append(b"here at last").unwrap();
    assert_eq!(waiting.join().unwrap().as_deref(), Some(&b"here at last"[..]));
}

#[test]
fn a_reader_stops_waiting_when_it_is_told_to() {
    let dir = common::dir();
    let path = dir.path().join("quiet.kek");
    let mut writer = Writer::create(&path).unwrap();
    let stop = AtomicBool::new(false);
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    for wait in
        [Wait::spin(), Wait::yielding(), Wait::backoff(), Wait::backoff_up_to(Duration::from_micros(30))]
    {
        assert!(reader.next(wait.retries(0)).unwrap().is_none());
        assert!(reader.next(wait.retries(400)).unwrap().is_none());
        assert!(reader.next(wait.at_most(Duration::ZERO)).unwrap().is_none());
        assert!(reader.next(wait.at_most(Duration::from_millis(1))).unwrap().is_none());
        assert_eq!(reader.end(), None, "giving up is no end");
        stop.store(false, Ordering::Relaxed);
        reader = std::thread::scope(|scope| {
            let stop = &stop;
            let waiting = scope.spawn(move || {
                assert!(reader.next(wait.until(stop)).unwrap().is_none());
                reader
            });
            stop.store(true, Ordering::Relaxed);
            waiting.join().unwrap()
        });
        // What is there is returned, also by a wait that gives up at once.
        writer.append(b"x").unwrap();
        assert!(reader.next(wait.until(&stop).retries(0)).unwrap().is_some());
    }
}
