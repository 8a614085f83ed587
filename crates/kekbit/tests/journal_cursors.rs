//! A named cursor goes on where it was, whoever has died meanwhile, and what it has not passed can be kept for it.

mod common;

use std::fs;

use common::journal::{first_sequences, tiny};
use common::{Child, dir, listen, patience, record, role, say, wait_until};
use kekbit::{CursorError, Journal, JournalReadError, Start};

#[test]
fn a_named_cursor_goes_on_behind_what_was_committed() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..200 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    let mut committed = 0;
    for run in 0..20_u64 {
        let mut cursor = Journal::reader(&path).unwrap().cursor("billing").unwrap();
        assert_eq!((cursor.committed(), cursor.sequence()), (committed, committed));
        for _ in 0..run {
            let expected = record(cursor.sequence(), 300);
            assert_eq!(&cursor.try_next().unwrap().unwrap()[..], expected);
        }
        match run % 3 {
            0 => {
                cursor.commit();
                committed += run;
            }
            // Not ahead of what was read.
            1 => {
                cursor.commit_to(u64::MAX);
                committed += run;
            }
            _ => {}
        }
        // Nor back.
        cursor.commit_to(committed.saturating_sub(1));
        assert_eq!(cursor.committed(), committed);
        if run % 2 == 0 {
            cursor.sync().unwrap();
        }
        let cursors = Journal::cursors(&path).unwrap();
        assert_eq!((cursors.len(), &*cursors[0].name), (1, "billing"));
        assert!(cursors[0].in_use && cursors[0].sequence == committed);
    }
    assert!(!Journal::cursors(&path).unwrap()[0].in_use);
}

#[test]
fn a_cursor_begins_where_its_reader_was() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..200 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    for (name, start, sequence) in [
        ("a", Start::Beginning, 0),
        ("b", Start::End, 200),
        ("c", Start::Sequence(77), 77),
        ("d", Start::Last(3), 197),
    ] {
        let mut reader = Journal::reader(&path).unwrap();
        reader.seek(start).unwrap();
        let cursor = reader.cursor(name).unwrap();
        assert_eq!((cursor.committed(), cursor.sequence()), (sequence, sequence), "{start:?}");
    }
    let names = Journal::cursors(&path).unwrap();
    assert!(names.iter().map(|cursor| &*cursor.name).eq(["a", "b", "c", "d"]));
}

#[test]
fn a_cursor_has_one_owner_and_can_be_set_and_removed_by_others_only_without_one() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..50 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    let reader = || Journal::reader(&path).unwrap();
    let cursor = reader().cursor("one").unwrap();
    let in_use = |error: Result<(), CursorError>| {
        assert!(matches!(error, Err(CursorError::InUse { .. })), "{error:?}")
    };
    in_use(reader().cursor("one").map(drop));
    in_use(Journal::set_cursor(&path, "one", 7));
    in_use(Journal::remove_cursor(&path, "one"));
    drop(cursor);
    Journal::set_cursor(&path, "one", 7).unwrap();
    assert_eq!(reader().cursor("one").unwrap().committed(), 7);
    // Back, too: whoever does that knows why.
    Journal::set_cursor(&path, "one", 3).unwrap();
    assert_eq!(reader().cursor("one").unwrap().committed(), 3);
    Journal::set_cursor(&path, "two", 9).unwrap();
    Journal::remove_cursor(&path, "one").unwrap();
    assert!(matches!(Journal::remove_cursor(&path, "one"), Err(CursorError::NotFound { .. })));
    assert_eq!(Journal::cursors(&path).unwrap().len(), 1);
    for wrong in ["", ".hidden", "a/b", "a b", "ä", &"x".repeat(129)] {
        assert!(matches!(Journal::set_cursor(&path, wrong, 0), Err(CursorError::Name { .. })), "{wrong}");
    }
    fs::write(path.join("cursors/two.cursor"), b"not a cursor").unwrap();
    assert!(matches!(reader().cursor("two"), Err(CursorError::Damaged { .. })));
    assert!(Journal::cursors(&path).is_err());
}

#[test]
fn what_a_cursor_has_not_passed_stays_if_that_is_asked_for() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal =
            tiny().retain_count(2).retain_for_cursors(true).background(background).open(&path).unwrap();
        let mut cursor = Journal::reader(&path).unwrap().cursor("slow").unwrap();
        for sequence in 0..300 {
            journal.append(&record(sequence, 300)).unwrap();
        }
        assert_eq!(first_sequences(&path)[0], 0);
        for sequence in 0..300 {
            let found = cursor.try_next().unwrap().expect("it has stayed");
            assert_eq!((found.sequence(), &found[..]), (sequence, &record(sequence, 300)[..]));
            cursor.commit();
            if sequence == 150 {
                // The thread may come to it a little later; never to more than that.
                wait_until("what it has passed has gone", || {
                    journal.retain();
                    let firsts = first_sequences(&path);
                    assert!(firsts[0] <= 151, "{firsts:?}");
                    firsts[0] > 0 && firsts[1] > 151
                });
            }
        }
        wait_until("two are left", || {
            journal.retain();
            first_sequences(&path).len() == 2
        });
        // A cursor that cannot be read may need anything.
        fs::write(path.join("cursors/damaged.cursor"), b"").unwrap();
        for sequence in 300..400 {
            journal.append(&record(sequence, 300)).unwrap();
        }
        journal.retain();
        assert!(first_sequences(&path).len() > 5);
        fs::remove_file(path.join("cursors/damaged.cursor")).unwrap();
    }
}

#[test]
fn a_cursor_past_the_end_is_set_back_by_the_next_writer() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..10 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    journal.close().unwrap();
    // As a power cut leaves it that has taken records away.
    Journal::set_cursor(&path, "ahead", 1000).unwrap();
    Journal::set_cursor(&path, "behind", 7).unwrap();
    let mut journal = tiny().open(&path).unwrap();
    let places: Vec<_> = Journal::cursors(&path).unwrap().iter().map(|cursor| cursor.sequence).collect();
    assert_eq!(places, [10, 7]);
    journal.append(b"ten").unwrap();
    let mut cursor = Journal::reader(&path).unwrap().cursor("ahead").unwrap();
    assert_eq!(&cursor.try_next().unwrap().unwrap()[..], b"ten");
}

#[test]
fn a_cursor_that_was_overtaken_is_told_and_can_go_on() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().retain_count(2).background(false).open(&path).unwrap();
    drop(Journal::reader(&path).unwrap().cursor("slow").unwrap());
    for sequence in 0..300 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    let mut cursor = Journal::reader(&path).unwrap().cursor("slow").unwrap();
    let oldest = first_sequences(&path)[0];
    for _ in 0..2 {
        let lagged = cursor.try_next();
        assert!(
            matches!(lagged, Err(JournalReadError::Lagged { wanted: 0, oldest: o }) if o == oldest),
            "{lagged:?}"
        );
    }
    assert_eq!(cursor.skip_to_oldest().unwrap(), oldest);
    assert_eq!(cursor.try_next().unwrap().unwrap().sequence(), oldest);
    assert_eq!(cursor.committed(), 0);
    cursor.commit();
    assert_eq!(cursor.committed(), oldest + 1);
}

#[test]
fn whoever_owned_a_cursor_that_was_killed_what_it_committed_counts() {
    const THIS: &str = "whoever_owned_a_cursor_that_was_killed_what_it_committed_counts";
    if let Some((_, arguments)) = role() {
        let mut cursor = Journal::reader(&arguments[0]).unwrap().cursor("killed").unwrap();
        say(cursor.committed());
        while let Some(found) = cursor.next(patience()).unwrap() {
            let sequence = found.sequence();
            cursor.commit();
            if sequence % 10 == 9 {
                say(sequence);
                listen();
            }
        }
        unreachable!("it is killed");
    }
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().open(&path).unwrap();
    for sequence in 0..300 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    let mut expected = 0;
    for life in 1..6 {
        let mut child = Child::start(THIS, "read", &[path.to_str().unwrap()]);
        let begun: u64 = child.hear().parse().unwrap();
        assert!(begun >= expected, "{begun} of {expected}");
        for _ in 0..life {
            expected = child.hear().parse::<u64>().unwrap() + 1;
            child.tell("go on");
        }
        child.kill();
        child.end();
        assert!(Journal::cursors(&path).unwrap()[0].sequence >= expected);
    }
}
