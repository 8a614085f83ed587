//! What exceeds the limits of a journal is given up, the oldest first, and nothing else; and no sequence is given twice by that.

mod common;

use std::fs;
use std::time::Duration;

use common::journal::{channels, first_sequences, read_from, tiny};
use common::{dir, names_in, patience, record, wait_until};
use kekbit::{Durability, Journal, JournalReadError, Start};

#[test]
fn what_exceeds_the_limits_is_given_up_the_oldest_first_and_its_files_are_used_again() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = tiny().retain_count(4).background(background).open(&path).unwrap();
        let mut keeping_up = Journal::reader(&path).unwrap();
        let mut lagging = Journal::reader(&path).unwrap();
        assert!(lagging.try_next().unwrap().is_none());
        let mut inodes = std::collections::BTreeSet::new();
        for sequence in 0..2000 {
            journal.append(&record(sequence, 300)).unwrap();
            let found = keeping_up.next(patience()).unwrap().expect("it was appended");
            assert_eq!((found.sequence(), &found[..]), (sequence, &record(sequence, 300)[..]));
            for path in channels(&path) {
                // It may go while it is looked at.
                inodes.extend(fs::metadata(path).map(|file| std::os::unix::fs::MetadataExt::ino(&file)));
            }
        }
        drop(keeping_up);
        wait_until("there are four channels", || channels(&path).len() <= 4);
        // What the lagging one has open it reads to its end; then it is told what is left.
        let lagged = loop {
            match lagging.try_next() {
                Ok(Some(found)) => {
                    let expected = record(found.sequence(), 300);
                    assert_eq!(&found[..], expected);
                }
                Ok(None) => {}
                Err(error) => break error,
            }
        };
        let JournalReadError::Lagged { wanted, oldest } = lagged else { panic!("{lagged}") };
        assert!(wanted < oldest && oldest == first_sequences(&path)[0]);
        lagging.seek(Start::Sequence(oldest)).unwrap();
        let rest = std::iter::from_fn(|| lagging.try_next().unwrap().map(|record| record.sequence()));
        assert!(rest.eq(oldest..2000));
        assert!(matches!(lagging.seek(Start::Sequence(0)), Err(JournalReadError::Lagged { wanted: 0, .. })));
        if !background {
            // No file is made that need not be; with the thread, which comes late at times, a few more are.
            assert!(inodes.len() < 12, "{} files", inodes.len());
        }
    }
}

#[test]
fn what_only_has_such_a_name_is_never_given_up() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let options = tiny().durability(Durability::AtEnd).retain_count(2).background(background);
        let mut journal = options.clone().open(&path).unwrap();
        for sequence in 0..100 {
            journal.append(&record(sequence, 300)).unwrap();
        }
        journal.close().unwrap();
        let foreign = path.join(format!("{:020}.kek", 1));
        fs::write(&foreign, b"mine").unwrap();
        let mut journal = options.open(&path).unwrap();
        for sequence in 100..200 {
            journal.append(&record(sequence, 300)).unwrap();
        }
        journal.close().unwrap();
        assert_eq!(fs::read(&foreign).unwrap(), b"mine");
        assert!(channels(&path).len() <= 3);
    }
}

#[test]
fn limits_hold_when_a_journal_is_opened_again() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..500 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    journal.close().unwrap();
    assert!(channels(&path).len() > 10);
    let mut journal = tiny().retain_count(3).background(false).open(&path).unwrap();
    journal.append(b"more").unwrap();
    journal.retain();
    let firsts = first_sequences(&path);
    assert_eq!(firsts.len(), 3);
    assert_eq!(read_from(&path, Start::Beginning).len() as u64, 501 - firsts[0]);
    // A day has not passed, nor have so many bytes been written.
    let mut journal_2 = {
        journal.close().unwrap();
        tiny()
            .retain_age(Duration::from_secs(86400))
            .retain_bytes(1 << 30)
            .background(false)
            .open(&path)
            .unwrap()
    };
    journal_2.append(b"more").unwrap();
    journal_2.retain();
    assert_eq!(first_sequences(&path)[..3], firsts[..]);
}

#[test]
fn a_sequence_is_never_given_twice_although_nothing_is_kept() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut sequence = 0;
        for run in 0..12 {
            let mut journal = tiny().retain_count(1).background(background).open(&path).unwrap();
            assert_eq!(journal.next_sequence(), sequence, "run {run}");
            journal.retain();
            for _ in 0..run % 3 {
                journal.append(&record(sequence, 300)).unwrap();
                sequence += 1;
                journal.roll().unwrap();
                journal.retain();
            }
            if run % 2 == 0 { journal.close().unwrap() } else { drop(journal) }
        }
        assert_eq!(tiny().open(&path).unwrap().next_sequence(), sequence);
        // A writer may die when nothing but a name is left to tell.
        for name in [".{}.kek.0123456789abcdef.tmp", "{}.kek.stray-0"] {
            channels(&path).iter().for_each(|channel| fs::remove_file(channel).unwrap());
            sequence += 10;
            fs::write(path.join(name.replace("{}", &format!("{sequence:020}"))), b"").unwrap();
            let mut journal = tiny().open(&path).unwrap();
            assert_eq!(journal.append(b"more").unwrap().sequence, sequence);
            sequence += 1;
        }
    }
}

#[test]
fn the_newest_record_stays_until_there_is_a_newer_one() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = tiny().retain_count(1).background(background).open(&path).unwrap();
        for number in 0..5_u64 {
            assert_eq!(journal.append(&number.to_le_bytes()).unwrap().sequence, number);
            // The channel that is being written is empty, and one is too many: but it has the newest record.
            journal.roll().unwrap();
            // The thread may come to it a little later.
            wait_until("what is older has gone", || {
                journal.retain();
                first_sequences(&path) == [number, number + 1]
            });
            journal.retain();
            assert_eq!(first_sequences(&path), [number, number + 1]);
            let there = read_from(&path, Start::Beginning);
            assert_eq!(there, [(number, number.to_le_bytes().to_vec())]);
        }
        journal.append(b"newer").unwrap();
        wait_until("it has gone too", || {
            journal.retain();
            first_sequences(&path) == [5]
        });
        assert_eq!(read_from(&path, Start::Beginning), [(5, b"newer".to_vec())]);
    }
}

#[test]
fn an_empty_channel_stays_if_its_name_alone_tells_where_to_go_on() {
    let dir = dir();
    let path = dir.path().join("journal");
    fs::create_dir(&path).unwrap();
    // Left by a writer that has died between giving up what it had and the first record of what was next. The first writer that
    // comes removes it.
    fs::write(path.join(format!(".{:020}.kek.0123456789abcdef.tmp", 7)), b"").unwrap();
    for run in 0..3 {
        let journal = tiny().open(&path).unwrap();
        assert_eq!(journal.next_sequence(), 7, "run {run}");
        // It has nothing to say.
        if run % 2 == 0 {
            journal.close().unwrap()
        } else {
            drop(journal)
        }
        assert!(
            !names_in(&path)
                .iter()
                .any(|name| name.ends_with(".tmp") && name.starts_with(".00000000000000000007"))
        );
    }
    let mut journal = tiny().open(&path).unwrap();
    assert_eq!(journal.append(b"seven").unwrap().sequence, 7);
    journal.close().unwrap();
    // Where there are records, theirs do.
    tiny().open(&path).unwrap().close().unwrap();
    assert_eq!(first_sequences(&path), [7]);
}
