//! What a journal says is durable is so in every channel, and after a sync that has failed it says so, too.

mod common;
#[path = "common/strace.rs"]
mod strace;

use common::journal::{channels, read_all, tiny};
use common::{Child, dir, listen, patience, record, role, say};
use kekbit::{AppendError, Channel, Durability, Journal, JournalReadError, Start};
use strace::Strace;

#[test]
fn a_record_is_durable_when_it_has_been_waited_for_in_whichever_channel_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for durability in [Durability::Never, Durability::AtEnd] {
        for background in [true, false] {
            let path = dir.path().join(format!("{durability:?}-{background}"));
            let mut journal = tiny().durability(durability).background(background).open(&path).unwrap();
            let handle = journal.sync_handle();
            let mut appended = Vec::new();
            for sequence in 0..200 {
                appended.push(journal.append(&record(sequence, 300)).unwrap());
            }
            // Its position is past the end of what is being written by now.
            journal.roll().unwrap();
            for at in [199, 3, 150, 0] {
                handle.wait_for_record(appended[at]).unwrap();
            }
            // A position alone does not tell the channel: everything becomes durable, whatever is at that place by now.
            handle.wait_for(appended[199].position).unwrap();
            handle.sync().unwrap();
            journal.append(b"more").unwrap();
            journal.sync().unwrap();
            drop(journal);
            let gone = handle.wait_for_record(appended[199]);
            assert!(gone.is_ok(), "{gone:?}");
        }
    }
}

#[test]
fn each_record_is_durable_when_it_has_been_appended_in_whichever_channel() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let mut journal = tiny().durability(Durability::Each).background(background).open(&path).unwrap();
        for sequence in 0..200 {
            let at = journal.append(&record(sequence, 300)).unwrap();
            let (last, earlier) = (channels(&path).pop().unwrap(), channels(&path));
            let synced = Channel::open(&last).unwrap().synced_tail();
            assert!(synced > at.position, "record {sequence}: {synced} of {}", at.position);
            // All channels before it to their ends.
            if sequence % 50 == 49 {
                for path in &earlier[..earlier.len() - 1] {
                    let channel = Channel::open(path).unwrap();
                    assert!(channel.synced_tail() > channel.end_point().unwrap().position);
                }
            }
        }
        assert!(channels(&path).len() > 5);
    }
}

#[test]
fn a_journal_that_is_sealed_is_durable_to_its_end_also_where_it_had_ended() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = tiny().durability(Durability::Never).open(&path).unwrap();
    for sequence in 0..100 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    journal.close().unwrap();
    let is_durable = |path: &std::path::PathBuf| {
        let channel = Channel::open(path).unwrap();
        channel.synced_tail() > channel.end_point().unwrap().position
    };
    assert!(!channels(&path).iter().any(is_durable));
    let sealed = Journal::seal(&path, &Channel::seal_options()).unwrap();
    assert_eq!((sealed.next_sequence, sealed.channels.len(), sealed.set_aside.len()), (100, 0, 0));
    assert!(channels(&path).iter().all(is_durable));
}

#[test]
fn threads_that_share_a_journal_still_share_syncs_after_a_roll() {
    for background in [true, false] {
        let dir = dir();
        let path = dir.path().join("journal");
        let journal = tiny().durability(Durability::Each).background(background).open(&path).unwrap();
        let shared = journal.share();
        for sequence in 0..200 {
            let record = record(sequence, 300);
            // Others can append before somebody syncs for all.
            let at = shared.with(patience(), |writer| {
                let at = writer.append(&record).unwrap();
                assert!(writer.synced_tail() <= at.position, "record {sequence} was synced at once");
                at
            });
            let at = at.unwrap();
            let synced = Channel::open(channels(&path).pop().unwrap()).unwrap().synced_tail();
            assert!(synced > at.position, "record {sequence}: {synced} of {}", at.position);
        }
        assert!(channels(&path).len() > 5);
    }
}

#[test]
fn after_a_sync_that_has_failed_a_journal_neither_appends_nor_rolls() {
    const THIS: &str = "after_a_sync_that_has_failed_a_journal_neither_appends_nor_rolls";
    if let Some((fails_in, arguments)) = role() {
        return write_without_a_disk(&fails_in, &arguments[0]);
    }
    for fails_in in ["sync", "roll", "roll, each"] {
        // On storage: in memory nothing is synced.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut child = Child::start(THIS, fails_in, &[path.to_str().unwrap()]);
        assert_eq!(child.hear(), "ready");
        let before = channels(&path).len();
        let log = tempfile::tempdir().unwrap();
        let fault = ["msync:error=EIO".to_owned()];
        let attached = Strace::attach(child.id().as_raw(), true, &log.path().join("log"), &fault);
        let _strace = match attached {
            Ok(strace) => strace,
            Err(why) => {
                eprintln!("{THIS}: skipped, since {why}");
                return;
            }
        };
        child.tell("go");
        assert_eq!(child.hear(), "poisoned");
        let now = channels(&path).len();
        // A roll that is refused makes no successor; one that fails itself has made it.
        assert_eq!(now, before + usize::from(fails_in != "sync"));
        assert!(child.end().success());
        // The next writer goes on behind what was appended; nobody but the disk has failed.
        let mut journal = tiny().open(&path).unwrap();
        let next = journal.append(b"next").unwrap().sequence;
        assert_eq!(next, 5);
        assert_eq!(read_all(&path).len(), 6);
        let mut reader = Journal::reader(&path).unwrap();
        reader.seek(Start::Last(1)).unwrap();
        let last: Result<_, JournalReadError> = reader.try_next();
        assert_eq!(&last.unwrap().unwrap()[..], b"next");
    }
}

/// In a child, of which every `msync` fails once it is told to go on.
fn write_without_a_disk(fails_in: &str, path: &str) {
    let durability = if fails_in == "roll, each" { Durability::Each } else { Durability::AtEnd };
    let mut journal = tiny().durability(durability).background(false).open(path).unwrap();
    for sequence in 0..5 {
        journal.append(&record(sequence, 300)).unwrap();
    }
    say("ready");
    assert_eq!(listen().as_deref(), Some("go"));
    let poisoned = |error: AppendError| assert!(matches!(error, AppendError::Poisoned { .. }), "{error}");
    match fails_in {
        "sync" => {
            journal.sync().unwrap_err();
            poisoned(journal.roll().unwrap_err());
            poisoned(journal.roll().unwrap_err());
        }
        // Without a thread it syncs what has ended itself, and who has not asked for that is told by what comes next.
        "roll" => journal.roll().unwrap(),
        _ => poisoned(journal.roll().unwrap_err()),
    }
    for _ in 0..2 {
        poisoned(journal.append(b"more").unwrap_err());
        assert_eq!(journal.next_sequence(), 5);
    }
    journal.sync().unwrap_err();
    say("poisoned");
    journal.close().unwrap_err();
}
