//! A journal is one sequence of records, however many channels it takes, whoever writes it, and however often that one dies.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use common::journal::{channels, first_sequences, options_of, read_all, read_from, tiny, variants};
use common::{
    Child, Mount, Numbers, bytes, dir, fill_disk, free_disk, listen, names_in, patience, record, role, say,
};
use kekbit::{
    AppendError, Channel, Checksum, Durability, Journal, JournalError, JournalReadError, Period, Prepare,
    Roll, SharedError, Start, Timestamp, Wait, Writer,
};
use proptest::prelude::*;

#[test]
fn records_go_on_in_the_next_channel_when_one_is_full() {
    for options in variants() {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = options.clone().open(&path).unwrap();
        let expected: Vec<_> = (0..500).map(|sequence| record(sequence, 1024)).collect();
        for (sequence, record) in expected.iter().enumerate() {
            assert_eq!(journal.append(record).unwrap().sequence, sequence as u64);
        }
        assert_eq!(read_all(&path), expected, "{options:?}");
        journal.close().unwrap();
        assert_eq!(read_all(&path), expected, "{options:?}");
        assert!(channels(&path).len() > 50);
        // Each but the last is a channel that anybody can read by itself, closed, with the records that its name promises.
        let mut next = 0;
        for path in channels(&path) {
            let channel = Channel::open(&path).unwrap();
            assert_eq!(channel.first_sequence(), next);
            assert!(path.ends_with(format!("{next:020}.kek")));
            let end = channel.verify(|_| ()).unwrap();
            assert!(end.sealed && end.sequence > next);
            next = end.sequence;
        }
        assert_eq!(next, 500);
    }
}

#[test]
fn a_reader_that_follows_sees_each_record_once_and_in_order() {
    for options in variants() {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = options.open(&path).unwrap();
        std::thread::scope(|scope| {
            let followers: Vec<_> = (0..3)
                .map(|_| {
                    let mut reader = Journal::reader(&path).unwrap();
                    scope.spawn(move || {
                        for sequence in 0..3000 {
                            let found = reader.next(patience()).unwrap().expect("it was appended");
                            assert_eq!(
                                (found.sequence(), &found[..]),
                                (sequence, &record(sequence, 200)[..])
                            );
                        }
                        assert!(reader.try_next().unwrap().is_none());
                    })
                })
                .collect();
            for sequence in 0..3000 {
                journal.append(&record(sequence, 200)).unwrap();
            }
            for follower in followers {
                follower.join().unwrap();
            }
        });
    }
}

#[test]
fn a_journal_goes_on_where_its_last_writer_has_left_it() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut reader = None;
    let mut sequence = 0;
    for run in 0..10_u64 {
        let mut journal = tiny().open(&path).unwrap();
        assert_eq!(journal.next_sequence(), sequence);
        assert!(journal.set_aside().is_empty());
        // Some writers have nothing to say.
        for _ in 0..run % 4 * 7 {
            journal.append(&record(sequence, 1024)).unwrap();
            sequence += 1;
        }
        if run % 2 == 0 {
            journal.close().unwrap()
        } else {
            drop(journal)
        }
        // One reader sees them all come and go.
        let reader = reader.get_or_insert_with(|| Journal::reader(&path).unwrap());
        while reader.sequence() < sequence {
            let expected = record(reader.sequence(), 1024);
            assert_eq!(&reader.next(patience()).unwrap().expect("it was appended")[..], expected);
        }
        assert!(reader.try_next().unwrap().is_none());
    }
    assert_eq!(read_all(&path), (0..sequence).map(|sequence| record(sequence, 1024)).collect::<Vec<_>>());
}

#[test]
fn a_writer_that_says_nothing_leaves_no_channel_behind() {
    let dir = dir();
    let path = dir.path().join("journal");
    tiny().open(&path).unwrap().close().unwrap();
    assert_eq!(names_in(&path), ["times", "writer.lock"]);
    drop(tiny().open(&path).unwrap());
    assert_eq!(names_in(&path), ["times", "writer.lock"]);
    assert!(read_all(&path).is_empty());
}

#[test]
fn a_journal_has_one_writer() {
    let dir = dir();
    let path = dir.path().join("journal");
    let journal = tiny().open(&path).unwrap();
    assert!(Journal::reader(&path).unwrap().writer_lives().unwrap());
    let second = tiny().patience(Duration::ZERO).open(&path);
    assert!(matches!(second, Err(JournalError::InUse { .. })), "{second:?}");
    journal.close().unwrap();
    assert!(!Journal::reader(&path).unwrap().writer_lives().unwrap());
    tiny().patience(Duration::ZERO).open(&path).unwrap();
}

#[test]
fn a_channel_is_not_rolled_before_something_is_in_it() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..5 {
        journal.roll().unwrap();
        journal.roll().unwrap();
        assert_eq!(journal.append(b"one").unwrap().sequence, sequence);
    }
    assert_eq!(first_sequences(&path), [0, 1, 2, 3, 4]);
}

#[test]
fn a_batch_goes_on_in_the_next_channel_as_a_whole() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = tiny().background(background).open(&path).unwrap();
        let mut expected = Vec::new();
        for number in 0..100_u64 {
            let count = number % 7 + 1;
            let mut batch = journal.batch();
            for n in 0..count {
                let record = bytes(1000 * number + n, 300);
                batch.push(&record).unwrap();
                expected.push(record);
            }
            let at = batch.commit().unwrap();
            assert_eq!(at.sequence + count, expected.len() as u64);
        }
        assert_eq!(read_all(&path), expected);
        // No batch is in two channels: what a channel begins with is the beginning of a batch.
        let mut begins = vec![0];
        for number in 0..100_u64 {
            begins.push(begins.last().unwrap() + number % 7 + 1);
        }
        assert!(first_sequences(&path).iter().all(|first| begins.contains(first)));
        let mut batch = journal.batch();
        let refused = (0..20).find_map(|_| batch.push(&[0; 300]).err());
        assert!(matches!(refused, Some(AppendError::BatchTooLong { .. })), "{refused:?}");
    }
}

#[test]
fn a_record_that_no_channel_can_hold_is_refused_and_changes_nothing() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..20 {
        assert!(matches!(journal.append(&[0; 1025]), Err(AppendError::TooLong { len: 1025, limit: 1024 })));
        assert_eq!(journal.append(&[0; 1024]).unwrap().sequence, sequence);
    }
    assert_eq!(read_all(&path).len(), 20);
}

#[test]
fn stages_and_their_state_go_on_in_the_next_channel() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().stage(Timestamp::nanos()).open(&path).unwrap();
    for _ in 0..500 {
        journal.append(b"tick").unwrap();
    }
    let mut reader = Journal::reader(&path).unwrap();
    let mut before = 0;
    for _ in 0..500 {
        let record = reader.try_next().unwrap().unwrap();
        let at = record.timestamp_nanos().unwrap();
        assert!(at >= before && &record[..] == b"tick");
        before = at;
    }
}

#[test]
fn seeking_finds_what_a_scan_finds() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().stage(Timestamp::nanos()).open(&path).unwrap();
    let mut times = Vec::new();
    for sequence in 0..1000 {
        if sequence % 100 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        times.push(SystemTime::now());
        journal.append(&record(sequence, 100)).unwrap();
    }
    let all = read_from(&path, Start::Beginning);
    assert_eq!(all.len(), 1000);
    for sequence in [0, 1, 37, 38, 39, 500, 998, 999] {
        assert_eq!(read_from(&path, Start::Sequence(sequence)), all[sequence as usize..]);
        assert_eq!(read_from(&path, Start::Last(1000 - sequence)), all[sequence as usize..]);
        let by_time = read_from(&path, Start::Time(times[sequence as usize]));
        assert_eq!(by_time, all[1000 - by_time.len()..]);
        // No older record can be told apart by the clock.
        let first = by_time[0].0;
        assert!(first <= sequence, "{first} is past {sequence}");
        assert!(first == 0 || times[first as usize - 1] <= times[sequence as usize]);
    }
    assert!(read_from(&path, Start::Last(0)).is_empty() && read_from(&path, Start::End).is_empty());
    assert_eq!(read_from(&path, Start::Last(5000)), all);
    assert_eq!(read_from(&path, Start::Time(SystemTime::UNIX_EPOCH)), all);
}

#[test]
fn what_is_not_there_yet_is_waited_for_across_channels() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    let [mut far, mut end] = [(), ()].map(|()| Journal::reader(&path).unwrap());
    journal.append(b"zero").unwrap();
    far.seek(Start::Sequence(300)).unwrap();
    end.seek(Start::End).unwrap();
    for sequence in 1..400 {
        assert!(far.sequence() > 300 || sequence <= 300 || far.try_next().unwrap().is_some());
        journal.append(&record(sequence, 100)).unwrap();
        if sequence < 300 {
            assert!(far.try_next().unwrap().is_none());
        }
        let found = end.try_next().unwrap().expect("it was appended");
        assert_eq!((found.sequence(), &found[..]), (sequence, &record(sequence, 100)[..]));
    }
    assert!(far.sequence() > 300);
}

#[test]
fn a_reader_may_come_before_the_first_record_and_before_the_first_channel() {
    let dir = dir();
    let path = dir.path().join("journal");
    fs::create_dir(&path).unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    assert!(reader.try_next().unwrap().is_none());
    let mut journal = tiny().open(&path).unwrap();
    assert!(reader.try_next().unwrap().is_none());
    journal.append(b"first").unwrap();
    assert_eq!(&reader.next(patience()).unwrap().unwrap()[..], b"first");
    assert!(matches!(Journal::reader(dir.path().join("none")), Err(JournalReadError::Io { .. })));
}

#[test]
fn a_journal_remembers_what_it_was_told() {
    let dir = dir();
    let path = dir.path().join("journal");
    assert!(!Journal::is_at(&path));
    fs::create_dir(&path).unwrap();
    assert!(!Journal::is_at(&path) && Journal::settings(&path).unwrap().is_none());
    let told = tiny()
        .roll(Roll::Every(Period::Hour))
        .retain_bytes(1 << 30)
        .retain_age(Duration::from_secs(3600))
        .retain_count(7)
        .retain_for_cursors(true);
    let mut journal = told.open(&path).unwrap();
    assert!(Journal::is_at(&path));
    let settings = Journal::settings(&path).unwrap().unwrap();
    assert_eq!((settings.roll_bytes, settings.roll_every), (4096, Some(Period::Hour)));
    assert_eq!((settings.retain_bytes, settings.retain_count), (Some(1 << 30), Some(7)));
    assert_eq!((settings.retain_age, settings.retain_for_cursors), (Some(Duration::from_secs(3600)), true));
    journal.append(b"zero").unwrap();
    journal.close().unwrap();
    // And what is set afterwards counts.
    let mut journal = Journal::options().settings(&settings).retain_count(8).open(&path).unwrap();
    journal.append(b"one").unwrap();
    let again = Journal::settings(&path).unwrap().unwrap();
    assert_eq!(again.retain_count, Some(8));
    assert_eq!((again.roll_bytes, again.roll_every), (4096, Some(Period::Hour)));
    let reader = Journal::reader(&path).unwrap();
    assert_eq!(reader.end_point().unwrap().unwrap().sequence, 2);
    assert_eq!(Journal::channels(&path).unwrap(), channels(&path));
}

#[test]
fn what_is_in_the_way_is_set_aside_and_never_deleted() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..50 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    journal.close().unwrap();
    let name = |first: u64| path.join(format!("{first:020}.kek"));
    fs::write(path.join(".00000000000000000050.kek.0123456789abcdef.tmp"), b"never named").unwrap();
    fs::write(path.join("README.txt"), b"mine").unwrap();
    // Half created; a channel under a name that is not its own; one that does not follow.
    fs::write(name(50), b"").unwrap();
    fs::copy(name(0), name(60)).unwrap();
    let mut later = options_of(70).create(name(70)).unwrap();
    later.append(b"later").unwrap();
    later.abandon();
    let before = read_from(&path, Start::Beginning);
    assert_eq!(before.len(), 50);

    let mut journal = tiny().open(&path).unwrap();
    assert_eq!(journal.next_sequence(), 50);
    assert_eq!(journal.set_aside().len(), 3);
    assert!(journal.set_aside().iter().all(|path| path.is_file()));
    journal.append(b"fifty").unwrap();
    let names = names_in(&path);
    assert!(!names.iter().any(|name| name.ends_with(".tmp")));
    assert!(names.contains(&"README.txt".to_owned()));
    for first in [50_u64, 60, 70] {
        assert!(names.contains(&format!("{first:020}.kek.stray-0")));
    }
    assert_eq!(read_from(&path, Start::Beginning).len(), 51);
}

#[test]
fn a_channel_that_does_not_follow_is_none_of_the_journal() {
    let dir = dir();
    let name = |path: &Path, first: u64| path.join(format!("{first:020}.kek"));
    let journal_of_ten = |name: &str| {
        let path = dir.path().join(name);
        let mut journal = tiny().open(&path).unwrap();
        for sequence in 0..10 {
            journal.append(&record(sequence, 100)).unwrap();
        }
        journal.close().unwrap();
        path
    };
    // What a crash leaves of a successor whose predecessor has lost its last records, and a copy under a wrong name.
    let torn = journal_of_ten("torn");
    let twelve = |path: &Path| {
        let mut writer = options_of(12).create(name(path, 12)).unwrap();
        writer.append(b"twelve").unwrap();
        writer.abandon();
    };
    twelve(&torn);
    let copied = journal_of_ten("copied");
    fs::copy(name(&copied, 0), name(&copied, 10)).unwrap();
    for (path, stray) in [(torn, 12_u64), (copied, 10)] {
        let mut journal = tiny().open(&path).unwrap();
        assert_eq!(journal.set_aside(), [path.join(format!("{stray:020}.kek.stray-0"))]);
        assert_eq!(journal.append(b"ten").unwrap().sequence, 10);
        journal.close().unwrap();
        assert_eq!(read_all(&path).len(), 11);
        // The same name, set aside once more.
        if stray == 12 {
            twelve(&path);
            let journal = tiny().open(&path).unwrap();
            assert_eq!(journal.set_aside(), [path.join(format!("{stray:020}.kek.stray-1"))]);
        }
    }
}

#[test]
fn what_is_durable_is_never_set_aside_whatever_is_before_it() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().durability(Durability::AtEnd).open(&path).unwrap();
    for sequence in 0..100 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    journal.close().unwrap();
    let firsts = first_sequences(&path);
    let last = *firsts.last().unwrap();
    // A hole, and what a crash has left of a file that was just being reused.
    fs::remove_file(path.join(format!("{:020}.kek", firsts[firsts.len() - 2]))).unwrap();
    fs::write(path.join(format!("{:020}.kek", firsts[0])), vec![0; 20000]).unwrap();
    let journal = tiny().open(&path).unwrap();
    assert_eq!((journal.next_sequence(), journal.set_aside()), (100, &[][..]));
    assert_eq!(read_from(&path, Start::Sequence(last)).len() as u64, 100 - last);
    let mut reader = Journal::reader(&path).unwrap();
    let lagged = loop {
        match reader.try_next() {
            Ok(found) => assert!(found.is_some(), "it is told"),
            Err(error) => break error,
        }
    };
    assert!(matches!(lagged, JournalReadError::Lagged { oldest, .. } if oldest == last), "{lagged}");
    // And again, to whoever asks again.
    assert!(matches!(reader.try_next(), Err(JournalReadError::Lagged { .. })));
}

#[test]
fn a_damaged_header_with_records_behind_it_is_an_error_and_stays() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    journal.append(b"zero").unwrap();
    journal.close().unwrap();
    let channel = channels(&path)[0].clone();
    let mut bytes = fs::read(&channel).unwrap();
    bytes[100] ^= 1;
    fs::write(&channel, &bytes).unwrap();
    assert!(matches!(tiny().open(&path), Err(JournalError::Open(_))));
    // So is one of a version that is not known.
    bytes[100] ^= 1;
    bytes[14] = 9;
    common::repair_header(&mut bytes[..4096]);
    fs::write(&channel, &bytes).unwrap();
    assert!(matches!(tiny().open(&path), Err(JournalError::Open(_))));
    assert_eq!(fs::read(&channel).unwrap(), bytes);
}

#[test]
fn an_abandoned_channel_is_sealed_and_an_empty_one_removed() {
    let dir = dir();
    let path = dir.path().join("journal");
    fs::create_dir(&path).unwrap();
    let options = Writer::options().capacity(4096).durability(Durability::Never);
    // What is left by a writer that dies between the name of the successor and the end of the old one.
    let mut writer = options.clone().create(path.join(format!("{:020}.kek", 0))).unwrap();
    writer.append(b"zero").unwrap();
    writer.append(b"one").unwrap();
    writer.abandon();
    options.first_sequence(2).create(path.join(format!("{:020}.kek", 2))).unwrap().abandon();
    let mut reader = Journal::reader(&path).unwrap();
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], b"zero");
    let mut journal = tiny().open(&path).unwrap();
    assert_eq!(journal.append(b"two").unwrap().sequence, 2);
    assert_eq!(read_all(&path), [&b"zero"[..], b"one", b"two"]);
    for expected in [&b"one"[..], b"two"] {
        assert_eq!(&reader.next(patience()).unwrap().unwrap()[..], expected);
    }
}

#[test]
fn a_reader_of_an_empty_channel_finds_the_one_that_takes_its_name() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    journal.append(b"zero").unwrap();
    journal.close().unwrap();
    let options = Writer::options().capacity(4096).durability(Durability::Never);
    options.first_sequence(1).create(path.join(format!("{:020}.kek", 1))).unwrap().abandon();
    let mut reader = Journal::reader(&path).unwrap();
    assert!(reader.try_next().unwrap().is_some() && reader.try_next().unwrap().is_none());
    assert_eq!(reader.channel().unwrap().first_sequence(), 1);
    let mut journal = tiny().open(&path).unwrap();
    journal.append(b"one").unwrap();
    assert_eq!(&reader.next(patience()).unwrap().unwrap()[..], b"one");
}

#[test]
fn without_space_nothing_happens_and_with_it_the_journal_goes_on() {
    let this = "without_space_nothing_happens_and_with_it_the_journal_goes_on";
    let Some(mount) = Mount::memory(this, 4 << 20) else { return };
    for background in [true, false] {
        let path = mount.path.join("journal");
        let ballast = mount.path.join("ballast");
        let mut journal = tiny().background(background).open(&path).unwrap();
        let mut sequence = 0;
        for round in 0..3 {
            fill_disk(&ballast);
            // Until the channel is at its end, and perhaps that of a successor that was ready.
            let error = loop {
                match journal.append(&record(sequence, 300)) {
                    Ok(at) => {
                        assert_eq!(at.sequence, sequence);
                        sequence += 1;
                    }
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, AppendError::NoSpace { .. }), "{error}");
            assert!(matches!(journal.append(&[0; 1000]), Err(AppendError::NoSpace { .. })));
            assert_eq!(journal.next_sequence(), sequence);
            free_disk(&ballast);
            for _ in 0..100 {
                assert_eq!(
                    journal.append(&record(sequence, 300)).unwrap().sequence,
                    sequence,
                    "round {round}"
                );
                sequence += 1;
            }
        }
        let expected: Vec<_> = (0..sequence).map(|sequence| record(sequence, 300)).collect();
        assert_eq!(read_all(&path), expected);
        journal.close().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn who_asks_for_what_is_durable_goes_on_behind_what_was_synced_by_hand_or_by_the_next_writer() {
    for by_hand in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = tiny().open(&path).unwrap();
        let mut reader = Journal::reader(&path).unwrap();
        reader.set_durable(true);
        for sequence in 0..50 {
            journal.append(&record(sequence, 300)).unwrap();
        }
        assert!(reader.try_next().unwrap().is_none());
        let _journal = if by_hand {
            journal.sync().unwrap();
            journal
        } else {
            journal.close().unwrap();
            tiny().durability(Durability::AtEnd).open(&path).unwrap()
        };
        for sequence in 0..50 {
            let found = reader.next(patience()).unwrap().unwrap();
            assert_eq!((found.sequence(), found.payload()), (sequence, &record(sequence, 300)[..]));
        }
    }
}

#[test]
fn threads_share_a_journal_across_rolls() {
    let dir = tempfile::tempdir().unwrap();
    for durability in [Durability::Each, Durability::Never] {
        let path = dir.path().join(format!("{durability:?}"));
        let shared = tiny().durability(durability).open(&path).unwrap().share();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let shared = shared.clone();
                scope.spawn(move || {
                    for number in 0..100_u64 {
                        let mut record = thread.to_le_bytes().to_vec();
                        record.extend_from_slice(&number.to_le_bytes());
                        record.resize(200, 0);
                        loop {
                            match shared.append_wait(&record, patience()) {
                                Ok(_) => break,
                                Err(SharedError::Busy) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                });
            }
        });
        shared.close().unwrap();
        let records = read_all(&path);
        assert_eq!(records.len(), 400);
        for thread in 0..4_u64 {
            let of_thread = records.iter().filter(|record| record[..8] == thread.to_le_bytes());
            let numbers = of_thread.map(|record| u64::from_le_bytes(record[8..16].try_into().unwrap()));
            assert!(numbers.eq(0..100));
        }
    }
}

#[test]
fn a_killed_writer_loses_nothing_and_the_next_goes_on() {
    const THIS: &str = "a_killed_writer_loses_nothing_and_the_next_goes_on";
    if let Some((_, arguments)) = role() {
        let mut journal = tiny().durability(Durability::AtEnd).open(&arguments[0]).unwrap();
        say(journal.next_sequence());
        while listen().is_some() {
            for _ in 0..40 {
                let sequence = journal.next_sequence();
                journal.append(&record(sequence, 300)).unwrap();
            }
            say(journal.next_sequence());
        }
        unreachable!("it is killed");
    }
    let dir = dir();
    let path = dir.path().join("journal");
    let stop = AtomicBool::new(false);
    let mut said = 0;
    std::thread::scope(|scope| {
        fs::create_dir(&path).unwrap();
        let mut follower = Journal::reader(&path).unwrap();
        let stop = &stop;
        let following = scope.spawn(move || {
            while let Some(found) = follower.next(Wait::backoff().until(stop)).unwrap() {
                let expected = record(found.sequence(), 300);
                assert_eq!(&found[..], expected);
            }
            follower.sequence()
        });
        for life in 0..8 {
            let mut child = Child::start(THIS, "write", &[path.to_str().unwrap()]);
            let next: u64 = child.hear().parse().unwrap();
            assert!(next >= said, "life {life}: {next} of {said}");
            for _ in 0..life {
                child.tell("go on");
                said = child.hear().parse().unwrap();
            }
            // In the middle of something, perhaps.
            child.tell("go on");
            child.kill();
        }
        let journal = tiny().open(&path).unwrap();
        assert!(journal.next_sequence() >= said);
        let all = read_all(&path);
        assert_eq!(all.len() as u64, journal.next_sequence());
        assert!(all.iter().enumerate().all(|(n, found)| *found == record(n as u64, 300)));
        common::wait_until("the follower has seen it all", || {
            stop.store(true, Ordering::Relaxed);
            following.is_finished()
        });
        assert!(following.join().unwrap() <= journal.next_sequence());
    });
}

#[test]
fn without_checksums_and_with_all_prepared_it_is_the_same() {
    let dir = dir();
    let path = dir.path().join("journal");
    let channels =
        Writer::options().checksum(Checksum::None).prepare(Prepare::All).durability(Durability::Never);
    let mut journal = Journal::options()
        .channels(channels)
        .roll(Roll::Bytes(64 << 10))
        .retain_count(3)
        .open(&path)
        .unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    for sequence in 0..20_000 {
        journal.append(&record(sequence, 100)).unwrap();
        let found = reader.next(patience()).unwrap().expect("it was appended");
        assert_eq!((found.sequence(), &found[..]), (sequence, &record(sequence, 100)[..]));
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Append(usize),
    Claim(usize, usize),
    DropClaim(usize),
    Batch(Vec<usize>),
    DropBatch(Vec<usize>),
    Roll,
    Sync,
    Reopen { options: usize, close: bool },
    Look,
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = || 0..=1024_usize;
    let lens = || prop::collection::vec(0..=400_usize, 0..8);
    prop_oneof![
        8 => len().prop_map(Operation::Append),
        2 => (len(), len()).prop_map(|(a, b)| Operation::Claim(a.max(b), a.min(b))),
        1 => len().prop_map(Operation::DropClaim),
        3 => lens().prop_map(Operation::Batch),
        1 => lens().prop_map(Operation::DropBatch),
        1 => Just(Operation::Roll),
        1 => Just(Operation::Sync),
        1 => (0..7_usize, any::<bool>()).prop_map(|(options, close)| Operation::Reopen { options, close }),
        1 => Just(Operation::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_it_readers_see_one_plain_list(
        operations in prop::collection::vec(operation(), 1..200),
        first_options in 0..7_usize,
    ) {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = variants()[first_options].clone().open(&path).unwrap();
        let mut reader = Journal::reader(&path).unwrap();
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut numbers = Numbers(first_options as u64);
        for operation in operations {
            match operation {
                Operation::Append(len) => {
                    let record = bytes(numbers.next(), len);
                    prop_assert_eq!(journal.append(&record).unwrap().sequence, model.len() as u64);
                    model.push(record);
                }
                Operation::Claim(claimed, used) => {
                    let record = bytes(numbers.next(), claimed);
                    let mut claim = journal.claim(claimed).unwrap();
                    claim.copy_from_slice(&record);
                    prop_assert_eq!(claim.commit(used).unwrap().sequence, model.len() as u64);
                    model.push(record[..used].to_vec());
                }
                Operation::DropClaim(len) => {
                    let mut claim = journal.claim(len).unwrap();
                    claim.fill(0xFF);
                }
                Operation::Batch(lens) => {
                    let mut batch = journal.batch();
                    let begins = model.len() as u64;
                    for len in lens {
                        let record = bytes(numbers.next(), len);
                        batch.push(&record).unwrap();
                        model.push(record);
                    }
                    prop_assert_eq!(batch.commit().unwrap().sequence, begins);
                }
                Operation::DropBatch(lens) => {
                    let mut batch = journal.batch();
                    for len in lens {
                        batch.push(&bytes(numbers.next(), len)).unwrap();
                    }
                }
                Operation::Roll => journal.roll().unwrap(),
                Operation::Sync => journal.sync().unwrap(),
                Operation::Reopen { options, close } => {
                    if close { journal.close().unwrap() } else { drop(journal) }
                    journal = variants()[options].clone().open(&path).unwrap();
                }
                Operation::Look => {
                    while reader.sequence() < model.len() as u64 {
                        let sequence = reader.sequence() as usize;
                        let record = reader.next(patience()).unwrap().expect("it was appended");
                        prop_assert_eq!(&record[..], &model[sequence][..]);
                    }
                    prop_assert!(reader.try_next().unwrap().is_none());
                }
            }
            prop_assert_eq!(journal.next_sequence(), model.len() as u64);
        }
        prop_assert_eq!(&read_all(&path), &model);
        if !model.is_empty() {
            let at = numbers.below(model.len() as u64);
            prop_assert_eq!(read_from(&path, Start::Sequence(at)).len() as u64, model.len() as u64 - at);
            prop_assert_eq!(read_from(&path, Start::Last(at)).len() as u64, at);
        }
    }
}
