//! Who makes records durable, when, and who is told: the policies, the handle for other threads, and the reader that stops
//! at the synced tail.

mod common;

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Child, dir, patience, record, repair_header, role, say, wait_until, wait_until_released};
use kekbit::{
    Channel, CreateError, Durability, End, Journal, JournalReader, Position, ReadError, Reader, Roll,
    SealError, SharedWriter, Start, State, SyncError, Writer,
};
use nix::unistd::{ForkResult, fork};

const LONGEST: u64 = 100;

fn writer(path: &std::path::Path, durability: Durability) -> Writer {
    Writer::options().capacity(1 << 20).durability(durability).create(path).unwrap()
}

/// Sequences of the records that are lent now.
fn take(reader: &mut Reader) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Some(next) = reader.try_next().unwrap() {
        assert_eq!(*next, *record(next.sequence(), LONGEST));
        taken.push(next.sequence());
    }
    taken
}

fn append(writer: &mut Writer, count: u64) -> Position {
    let mut last = writer.tail();
    for _ in 0..count {
        last = writer.append(&record(writer.next_sequence(), LONGEST)).unwrap().position;
    }
    last
}

#[test]
fn never_means_that_not_even_closing_syncs() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::Never);
    let channel = Channel::open(&path).unwrap();
    append(&mut writer, 3);
    assert_eq!(writer.synced_tail().offset(), 0);
    writer.close().unwrap();
    assert_eq!(channel.synced_tail().offset(), 0);
}

#[test]
fn the_default_syncs_when_asked_and_at_the_end() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::default());
    let channel = Channel::open(&path).unwrap();
    append(&mut writer, 3);
    assert_eq!(writer.synced_tail().offset(), 0);
    writer.sync().unwrap();
    assert_eq!((writer.synced_tail(), channel.synced_tail()), (writer.tail(), writer.tail()));
    append(&mut writer, 1);
    assert!(channel.synced_tail() < writer.tail());
    let tail = writer.tail();
    writer.close().unwrap();
    assert!(channel.synced_tail() > tail, "the terminal frame is synced too");
}

#[test]
fn an_interval_syncs_by_itself() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::Interval(Duration::from_millis(1)));
    for _ in 0..3 {
        append(&mut writer, 2);
        wait_until("the sync", || writer.synced_tail() == writer.tail());
    }
}

#[test]
fn an_interval_of_zero_is_refused() {
    let path = dir().path().join("a.kek");
    let created = Writer::options().durability(Durability::Interval(Duration::ZERO)).create(path);
    assert!(matches!(created, Err(CreateError::Options { .. })), "{created:?}");
}

#[test]
fn each_record_is_durable_when_append_returns() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::Each);
    let channel = Channel::open(&path).unwrap();
    for _ in 0..100 {
        append(&mut writer, 1);
        assert_eq!((writer.synced_tail(), channel.synced_tail()), (writer.tail(), writer.tail()));
    }
    let mut batch = writer.batch();
    batch.push(b"one").unwrap();
    batch.push(b"two").unwrap();
    batch.commit().unwrap();
    assert_eq!(channel.synced_tail(), writer.tail());
}

#[test]
fn who_waits_for_a_position_is_told_when_it_is_durable_while_the_writer_goes_on() {
    let dir = dir();
    let mut writer = writer(&dir.path().join("a.kek"), Durability::AtEnd);
    let (first, handle, stop) = (append(&mut writer, 1), writer.sync_handle(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let handle = handle.clone();
                scope.spawn(move || handle.wait_for(first).unwrap())
            })
            .collect();
        scope.spawn(|| {
            waiting.into_iter().for_each(|thread| assert!(thread.join().unwrap() > first));
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) && writer.fits(LONGEST as usize) {
            append(&mut writer, 1);
        }
    });
    assert!(handle.synced_tail() > first && handle.synced_tail() <= writer.tail());
    assert_eq!(handle.synced_tail(), writer.synced_tail());
    assert!(handle.failure().is_none());
}

#[test]
fn what_is_not_appended_cannot_be_waited_for() {
    let dir = dir();
    let mut writer = writer(&dir.path().join("a.kek"), Durability::AtEnd);
    let handle = writer.sync_handle();
    append(&mut writer, 2);
    let waited = handle.wait_for(writer.tail());
    assert!(
        matches!(waited, Err(SyncError::NotAppended { position }) if position == writer.tail()),
        "{waited:?}"
    );
    assert_eq!(handle.synced_tail().offset(), 0, "and nothing was synced for that");
}

#[test]
fn a_handle_does_not_keep_the_writer_alive_and_says_what_was_durable() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::Never);
    let handle = writer.sync_handle();
    let durable = append(&mut writer, 2);
    let tail = handle.sync().unwrap();
    assert_eq!(tail, writer.tail());
    let lost = append(&mut writer, 1);
    drop(writer);
    wait_until_released(&path);
    assert_eq!(handle.wait_for(durable).unwrap(), tail);
    assert!(matches!(handle.wait_for(lost), Err(SyncError::Gone)));
    assert!(matches!(handle.sync(), Err(SyncError::Gone)));
    assert_eq!(handle.synced_tail(), tail);
}

#[test]
fn a_forked_child_cannot_sync() {
    let this = "a_forked_child_cannot_sync";
    if let Some((_, arguments)) = role() {
        let mut writer = writer(std::path::Path::new(&arguments[0]), Durability::AtEnd);
        let handle = writer.sync_handle();
        append(&mut writer, 1);
        // SAFETY: the child only tells what it has found, on a stream that the only other thread does not use.
        if let ForkResult::Child = unsafe { fork() }.unwrap() {
            say(matches!(handle.sync(), Err(SyncError::Gone)));
            // SAFETY: ends this process at once, without dropping anything.
            unsafe { nix::libc::_exit(0) };
        }
        common::listen();
        return;
    }
    let dir = dir();
    let mut child = Child::start(this, "writer", &[dir.path().join("a.kek").to_str().unwrap()]);
    assert_eq!(child.hear(), "true");
}

#[test]
fn threads_that_share_a_writer_are_told_only_of_durable_records() {
    const THREADS: usize = 8;
    const EACH: usize = 25;
    let dir = dir();
    let path = dir.path().join("a.kek");
    let writer = SharedWriter::new(writer(&path, Durability::Each));
    let positions: HashSet<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (writer, handle) = (writer.clone(), writer.sync_handle());
                scope.spawn(move || {
                    (0..EACH)
                        .map(|_| {
                            let appended = writer.append_wait(b"from a thread", patience()).unwrap();
                            assert!(handle.synced_tail() > appended.position);
                            appended.position
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(positions.len(), THREADS * EACH);
    writer.close().unwrap();
    assert_eq!(Channel::open(&path).unwrap().records().count(), THREADS * EACH);
}

#[test]
fn a_durable_reader_stops_at_the_synced_tail() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::AtEnd);
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    append(&mut writer, 2);
    assert_eq!((take(&mut reader), reader.check_end().unwrap()), (vec![], None));
    writer.sync().unwrap();
    append(&mut writer, 1);
    assert_eq!((take(&mut reader), reader.check_end().unwrap()), (vec![0, 1], None));
    // Batches are synced as a whole.
    let mut batch = writer.batch();
    for sequence in 3..6 {
        batch.push(&record(sequence, LONGEST)).unwrap();
    }
    batch.commit().unwrap();
    assert_eq!(take(&mut reader), []);
    writer.sync_handle().sync().unwrap();
    assert_eq!(take(&mut reader), [2, 3, 4, 5]);
    append(&mut writer, 1);
    assert!(reader.next(kekbit::Wait::backoff().retries(3)).unwrap().is_none());
    assert_eq!(reader.end(), None, "the writer lives, and may sync");
    writer.close().unwrap();
    assert_eq!((take(&mut reader), reader.end()), (vec![6], Some(End::Closed)));
}

#[test]
fn a_reader_can_begin_and_cease_to_care() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::AtEnd);
    append(&mut writer, 2);
    writer.sync().unwrap();
    append(&mut writer, 2);
    let channel = Channel::open(&path).unwrap();
    let mut reader = channel.reader(Start::Last(1)).unwrap();
    reader.set_durable(true);
    assert_eq!(take(&mut reader), [], "a start past the synced tail waits for it");
    reader.set_durable(false);
    assert_eq!(take(&mut reader), [3]);
    append(&mut writer, 1);
    reader.set_durable(true);
    assert_eq!(take(&mut reader), []);
    writer.sync().unwrap();
    assert_eq!(take(&mut reader), [4]);
}

#[test]
fn what_a_dead_writer_has_not_synced_ends_a_durable_reader_until_it_is_sealed() {
    let this = "what_a_dead_writer_has_not_synced_ends_a_durable_reader_until_it_is_sealed";
    if let Some((_, arguments)) = role() {
        let mut writer = writer(std::path::Path::new(&arguments[0]), Durability::AtEnd);
        append(&mut writer, 2);
        writer.sync().unwrap();
        append(&mut writer, 2);
        say("appended");
        nix::unistd::pause();
    }
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "appended");
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    assert_eq!((take(&mut reader), reader.check_end().unwrap()), (vec![0, 1], None));
    child.kill();
    // Waiting finds out by itself.
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(
        (reader.end(), take(&mut reader), reader.end()),
        (Some(End::Unsynced), vec![], Some(End::Unsynced))
    );
    Channel::seal(&path).unwrap();
    assert_eq!((take(&mut reader), reader.end()), (vec![2, 3], Some(End::Abandoned)));
}

#[test]
fn a_channel_that_was_closed_without_a_sync_ends_a_durable_reader_as_unsynced() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::Never);
    append(&mut writer, 2);
    writer.close().unwrap();
    wait_until_released(&path);
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    assert_eq!((take(&mut reader), reader.check_end().unwrap()), (vec![], Some(End::Unsynced)));
}

#[test]
fn of_another_boot_everything_has_been_on_the_disk_and_of_a_copy_what_it_says() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::Never);
    append(&mut writer, 2);
    // The slots tell of the sync before.
    writer.sync().unwrap();
    writer.sync().unwrap();
    append(&mut writer, 2);
    let copy = dir.path().join("copy.kek");
    std::fs::copy(&path, &copy).unwrap();
    drop(writer);
    let mut reader = Channel::open(&copy).unwrap().reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    assert_eq!((take(&mut reader), reader.check_end().unwrap()), (vec![0, 1], Some(End::Unsynced)));
    // The file itself, as of an earlier boot.
    let mut bytes = std::fs::read(&path).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot: Vec<u8> =
        (0..16).map(|i| u8::from_str_radix(&boot.replace('-', "")[2 * i..2 * i + 2], 16).unwrap()).collect();
    let at = bytes[..4096].windows(16).position(|window| window == boot).unwrap();
    bytes[at] ^= 1;
    repair_header(&mut bytes[..4096]);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    assert_eq!((take(&mut reader), reader.end()), (vec![0, 1, 2, 3], Some(End::Closed)));
}

#[test]
fn after_a_crash_of_the_file_system_alone_what_was_not_synced_is_torn_to_whoever_is_told() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::AtEnd);
    append(&mut writer, 2);
    writer.sync().unwrap();
    writer.sync().unwrap();
    let synced = writer.synced_tail();
    append(&mut writer, 2);
    writer.abandon();
    wait_until_released(&path);
    // What a lost page shows.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = (common::data_offset(&bytes) + synced.offset()) as usize;
    bytes[at + 8..at + 16].fill(0xEE);
    std::fs::write(&path, bytes).unwrap();
    let open = |crashed| Channel::options().crashed(crashed).open(&path).unwrap();
    let corrupt = open(false).verify(|_| ());
    assert!(matches!(corrupt, Err(ReadError::Corrupt { position, .. }) if position == synced), "{corrupt:?}");
    assert!(matches!(Channel::seal(&path), Err(SealError::Damaged { .. })));
    let end = open(true).verify(|_| ()).unwrap();
    assert_eq!((end.state, end.position, end.sequence), (State::Torn, synced, 2));
    let mut reader = open(true).reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    assert_eq!(take(&mut reader), [0, 1]);
    let sealed = Channel::seal_options().crashed(true).seal(&path).unwrap();
    assert_eq!((sealed.before, sealed.end.position), (State::Torn, synced));
    assert!(sealed.cut.is_some());
    assert_eq!(open(false).verify(|_| ()).unwrap().state, State::Abandoned);
}

#[test]
fn what_nobody_has_synced_is_not_durable_because_a_crash_is_told_of() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::AtEnd);
    append(&mut writer, 2);
    writer.sync().unwrap();
    writer.sync().unwrap();
    append(&mut writer, 2);
    writer.abandon();
    wait_until_released(&path);
    let mut reader = Channel::options().crashed(true).open(&path).unwrap().reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    assert_eq!((take(&mut reader), reader.check_end().unwrap()), (vec![0, 1], Some(End::Unsynced)));
}

#[test]
fn nothing_leads_behind_the_end_that_sealing_has_made() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::AtEnd);
    append(&mut writer, 10);
    writer.sync().unwrap();
    writer.sync().unwrap();
    let synced = writer.synced_tail();
    // Far enough for entries of the trail.
    while writer.tail().offset() < 300 << 10 {
        append(&mut writer, 1);
    }
    writer.abandon();
    wait_until_released(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = (common::data_offset(&bytes) + synced.offset()) as usize;
    bytes[at + 8..at + 16].fill(0xEE);
    std::fs::write(&path, bytes).unwrap();
    // Somebody reads it, so that it is not cut short.
    let _reader = Channel::options().crashed(true).open(&path).unwrap();
    let sealed = Channel::seal_options().crashed(true).seal(&path).unwrap();
    assert_eq!(sealed.end.position, synced);
    let channel = Channel::open(&path).unwrap();
    assert_eq!(channel.end_point().unwrap(), sealed.end);
    assert_eq!(channel.records_from(Start::Last(3)).unwrap().count(), 3);
    assert_eq!(channel.records_from(Start::End).unwrap().count(), 0);
}

#[test]
fn a_handle_knows_that_a_channel_has_ended_and_is_durable() {
    let dir = dir();
    let mut writer =
        Writer::options().capacity(4096).max_record_len(1000).create(dir.path().join("a.kek")).unwrap();
    let handle = writer.sync_handle();
    while writer.append(&[7; 1000]).is_ok() {}
    let end = writer.synced_tail();
    assert!(end > writer.tail(), "the terminal frame is synced too");
    writer.sync().unwrap();
    assert_eq!((handle.sync().unwrap(), handle.synced_tail(), writer.synced_tail()), (end, end, end));
    writer.close().unwrap();
    assert_eq!(handle.sync().unwrap(), end);
}

#[test]
fn sealing_makes_an_end_durable_that_is_not_known_to_be() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let mut writer = writer(&path, Durability::Never);
    append(&mut writer, 3);
    writer.close().unwrap();
    wait_until_released(&path);
    let synced_on_the_disk = || {
        let copy = dir.path().join("copy.kek");
        std::fs::copy(&path, &copy).unwrap();
        Channel::open(&copy).unwrap().synced_tail()
    };
    assert_eq!(synced_on_the_disk().offset(), 0);
    let before = Channel::open(&path).unwrap().verify(|_| ()).unwrap();
    let sealed = Channel::seal(&path);
    assert!(matches!(sealed, Err(SealError::Ended { state: State::Closed, .. })), "{sealed:?}");
    assert!(synced_on_the_disk() > before.position);
    assert_eq!(Channel::open(&path).unwrap().verify(|_| ()).unwrap(), before);
}

/// What a reader of what is durable finds by now.
fn count_durable(reader: &mut JournalReader) -> u64 {
    while reader.try_next().unwrap().is_some() {}
    reader.sequence()
}

#[test]
fn what_a_journal_syncs_after_its_channels_have_ended_is_told_to_those_who_read_what_is_durable() {
    let dir = dir();
    let path = dir.path().join("journal");
    let options = Journal::options().roll(Roll::Bytes(4096));
    let mut journal = options.clone().durability(Durability::Never).open(&path).unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    reader.set_durable(true);
    let append = |journal: &mut Journal| {
        for _ in 0..300 {
            journal.append(b"in one of many channels").unwrap();
        }
        journal.next_sequence()
    };
    append(&mut journal);
    assert_eq!(count_durable(&mut reader), 0);
    // By its writer, when it is asked to.
    let next = append(&mut journal);
    journal.sync().unwrap();
    assert_eq!(count_durable(&mut reader), next);
    let end = append(&mut journal);
    journal.close().unwrap();
    assert_eq!(count_durable(&mut reader), next);
    // By the next, whose policy asks for it.
    drop(options.durability(Durability::AtEnd).open(&path).unwrap());
    assert_eq!(count_durable(&mut reader), end);
    let mut later = Journal::reader(&path).unwrap();
    later.set_durable(true);
    assert_eq!(count_durable(&mut later), end);
}

#[test]
fn a_writer_that_dies_before_it_tells_what_it_has_synced_leaves_that_to_the_next() {
    let dir = dir();
    let path = dir.path().join("journal");
    let mut journal = Journal::options().open(&path).unwrap();
    journal.append(b"durable").unwrap();
    journal.close().unwrap();
    // Its slots tell already; its live word does not.
    let channel = Journal::channels(&path).unwrap().remove(0);
    File::options().write(true).open(&channel).unwrap().write_all_at(&[0; 8], 4096).unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    reader.set_durable(true);
    assert_eq!(count_durable(&mut reader), 0);
    drop(Journal::options().open(&path).unwrap());
    assert_eq!(count_durable(&mut reader), 1);
}
