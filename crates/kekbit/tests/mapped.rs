//! Mappings that outlive their channel, for the next one in the same file.

mod common;

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use common::{Child, Mount, listen, role, say};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use kekbit::{
    Channel, CreateError, Durability, End, Mapping, Prepare, ReadError, Reader, SealError, Start, State,
    Verify, Wait, Writer, WriterOptions,
};
use tempfile::TempDir;

const CAPACITY: u64 = 256 << 10;

fn options() -> WriterOptions {
    Writer::options().capacity(CAPACITY).keep_space(true)
}

fn open(dir: &TempDir, number: u64, mut mapping: Option<Mapping>) -> Reader {
    let channel = Channel::options().open_mapped(path(dir, number), &mut mapping).unwrap();
    assert!(mapping.is_none());
    channel.reader(Start::Beginning).unwrap()
}

fn path(dir: &TempDir, number: u64) -> PathBuf {
    dir.path().join(format!("{number}.kek"))
}

/// Channels that follow one another in three files, each writer and reader over the mapping of the one before in its file.
fn lives(dir: &TempDir, options: &WriterOptions, len_of: impl Fn(u64) -> usize) {
    const FILES: u64 = 3;
    let (mut written, mut read) = (VecDeque::new(), VecDeque::new());
    let (mut sequence, mut expected) = (0_u64, 0);
    for life in 0..30 {
        let mut writer = match life {
            0..FILES => options.clone().create(path(dir, life)).unwrap(),
            _ => {
                let (from, to) = (path(dir, life - FILES), path(dir, life));
                let mut mapping = written.pop_front();
                assert!(mapping.is_some());
                options.clone().create_from_mapped(from, &mut mapping, to).unwrap()
            }
        };
        let mut reader = open(dir, life, if life < FILES { None } else { read.pop_front() });
        // Some are filled, some are left half empty, so that the next life finds both behind its tail.
        for _ in 0..(life % 4 + 1) * 100 {
            let record = vec![sequence as u8; len_of(sequence)];
            if !writer.fits(record.len()) {
                break;
            }
            writer.append(&record).unwrap();
            sequence += 1;
            if sequence % 3 == 0 {
                let record = reader.try_next().unwrap().expect("it was appended");
                assert_eq!(&record[..], vec![expected as u8; len_of(expected)]);
                expected += 1;
            }
        }
        written.push_back(writer.close_mapped().unwrap().expect("nobody else has it"));
        while let Some(record) = reader.next(Wait::spin()).unwrap() {
            assert_eq!(&record[..], vec![expected as u8; len_of(expected)]);
            expected += 1;
        }
        assert_eq!((reader.end(), expected), (Some(End::Closed), sequence));
        read.push_back(reader.into_mapping().expect("nobody else has it"));
    }
    assert!(sequence > 1000);
}

#[test]
fn channels_in_the_pages_of_others_hold_their_own_records_and_nothing_else() {
    for prepare in [Prepare::OnDemand, Prepare::INLINE, Prepare::Ahead(1 << 20), Prepare::All] {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        lives(&dir, &options().prepare(prepare), |sequence| (sequence * 37 % 900) as usize);
        let dir = tempfile::tempdir().unwrap();
        lives(&dir, &options().prepare(prepare), |_| 96);
    }
}

#[test]
fn without_kept_space_it_is_the_same() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    lives(&dir, &options().keep_space(false), |sequence| (sequence * 37 % 900) as usize);
}

#[test]
fn a_mapping_of_something_else_is_no_matter() {
    let dir = tempfile::tempdir().unwrap();
    let create = |number| options().create(path(&dir, number)).unwrap();
    let mut other = create(0).close_mapped().unwrap();
    create(1).close().unwrap();
    // Another file.
    let mut writer = options().create_from_mapped(path(&dir, 1), &mut other, path(&dir, 2)).unwrap();
    writer.append(b"two").unwrap();
    writer.close().unwrap();
    let other = open(&dir, 0, None).into_mapping().unwrap();
    assert_eq!(open(&dir, 2, Some(other)).try_next().unwrap().as_deref(), Some(&b"two"[..]));
    // A reader's, for a writer; a writer's, for a reader.
    let mut readers = open(&dir, 2, None).into_mapping();
    let mut writer = options().create_from_mapped(path(&dir, 2), &mut readers, path(&dir, 3)).unwrap();
    writer.append(b"three").unwrap();
    let writers = writer.close_mapped().unwrap().unwrap();
    assert_eq!(open(&dir, 3, Some(writers)).try_next().unwrap().as_deref(), Some(&b"three"[..]));
    // Of another length.
    let retired = options().create_from(path(&dir, 3), path(&dir, 4)).unwrap();
    let mut mapping = retired.close_mapped().unwrap();
    let reader = open(&dir, 4, None);
    let readers = reader.into_mapping().unwrap();
    let larger = options().capacity(4 * CAPACITY);
    let mut writer = larger.create_from_mapped(path(&dir, 4), &mut mapping, path(&dir, 5)).unwrap();
    for _ in 0..3 * CAPACITY / 1032 {
        writer.append(&[5; 1024]).unwrap();
    }
    let mut reader = open(&dir, 5, Some(readers));
    for _ in 0..3 * CAPACITY / 1032 {
        assert_eq!(reader.try_next().unwrap().as_deref(), Some(&[5; 1024][..]));
    }
}

#[test]
fn a_writers_mapping_keeps_its_file_from_others_and_a_readers_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut mapping = options().create(path(&dir, 0)).unwrap().close_mapped().unwrap();
    let refused = options().create_from(path(&dir, 0), path(&dir, 1));
    assert!(matches!(refused, Err(CreateError::InUse { .. })), "{refused:?}");
    // Somebody who reads stands in the way of its owner, too, who can try again.
    let reader = open(&dir, 0, None);
    let refused = options().create_from_mapped(path(&dir, 0), &mut mapping, path(&dir, 1));
    assert!(matches!(refused, Err(CreateError::InUse { .. })) && mapping.is_some(), "{refused:?}");
    drop((reader, mapping));
    let readers = open(&dir, 0, None).into_mapping().unwrap();
    let writer = options().create_from(path(&dir, 0), path(&dir, 1)).unwrap();
    drop(readers);
    writer.close().unwrap();
}

#[test]
fn a_channel_of_which_anything_is_left_gives_no_mapping() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = options().create(path(&dir, 0)).unwrap();
    writer.append(b"kept").unwrap();
    let channel = Channel::open(path(&dir, 0)).unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    let record = reader.try_next().unwrap().unwrap().to_shared();
    assert!(channel.into_mapping().is_none(), "a reader is left");
    assert!(reader.into_mapping().is_none(), "a record is left");
    // It keeps the file from being reused, as ever.
    writer.close().unwrap();
    let refused = options().create_from(path(&dir, 0), path(&dir, 1));
    assert!(matches!(refused, Err(CreateError::InUse { .. })), "{refused:?}");
    assert_eq!(&record[..], b"kept");
}

#[test]
fn a_handle_of_the_last_life_does_not_reach_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = options().create(path(&dir, 0)).unwrap();
    writer.append(&[1; 4096]).unwrap();
    let handle = writer.sync_handle();
    let mut mapping = writer.close_mapped().unwrap();
    let synced = handle.synced_tail();
    let mut writer = options().create_from_mapped(path(&dir, 0), &mut mapping, path(&dir, 1)).unwrap();
    writer.append(b"new").unwrap();
    assert_eq!(writer.synced_tail().offset(), 0);
    assert_eq!(handle.sync().unwrap(), synced);
    assert_eq!((handle.synced_tail(), writer.synced_tail().offset()), (synced, 0));
    assert_eq!(Channel::open(path(&dir, 1)).unwrap().synced_tail().offset(), 0);
}

#[test]
fn a_closed_channel_whose_mapping_is_kept_is_closed_to_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = path(&dir, 0);
    let mut writer = options().create(&path).unwrap();
    for number in 0..100_u8 {
        writer.append(&[number; 100]).unwrap();
    }
    let mapping = writer.close_mapped().unwrap();
    assert!(mapping.is_some());
    let channel = Channel::open(&path).unwrap();
    assert!(!channel.writer_lives().unwrap());
    assert_eq!(channel.end_point().unwrap().state, State::Closed);
    assert!(matches!(Channel::seal(&path), Err(SealError::Ended { .. })));
    drop(channel);
    // What is damaged is found, also by a reader that trusts a live writer.
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(100).rposition(|window| window == [99; 100]).unwrap() as u64;
    std::fs::File::options().write(true).open(&path).unwrap().write_all_at(b"!", at).unwrap();
    let channel = Channel::options().verify(Verify::UnlessLive).open(&path).unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    for _ in 0..99 {
        assert!(reader.next(Wait::spin()).unwrap().is_some());
    }
    assert!(matches!(reader.next(Wait::spin()), Err(ReadError::Corrupt { .. })));
}

#[test]
fn a_reader_of_what_is_durable_waits_for_the_sync_of_an_end_that_it_sees() {
    let dir = tempfile::tempdir().unwrap();
    let path = path(&dir, 0);
    let mut writer = options().durability(Durability::Never).create(&path).unwrap();
    writer.append(b"one").unwrap();
    // The end is there, nothing is synced, and its writer is not gone: as in the middle of its last sync.
    let mapping = writer.close_mapped().unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    reader.set_durable(true);
    assert!(reader.next(Wait::spin().retries(10)).unwrap().is_none());
    assert_eq!((reader.check_end().unwrap(), reader.end()), (None, None));
    drop(mapping);
    assert!(reader.next(common::patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Unsynced));
}

#[test]
fn a_child_that_reads_keeps_the_file_although_its_parent_has_given_it_up() {
    let this = "a_child_that_reads_keeps_the_file_although_its_parent_has_given_it_up";
    if let Some((_, arguments)) = role() {
        let mut reader = Channel::open(&arguments[0]).unwrap().reader(Start::Beginning).unwrap();
        // SAFETY: the child uses its own copy of a value and the standard streams, which no other thread does.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // Waits until its parent has gone on.
                assert_eq!(listen().as_deref(), Some("read"));
                let record = reader.try_next().unwrap().map(|record| record.to_vec());
                say(if record.as_deref() == Some(b"old") { "old" } else { "something else" });
                // SAFETY: ends this process at once, without running what its copy of the test harness would.
                unsafe { nix::libc::_exit(0) };
            }
            ForkResult::Parent { child } => {
                let mapping = reader.into_mapping();
                say(if mapping.is_some() { "given up" } else { "not given up" });
                assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0))));
                drop(mapping);
                return;
            }
        }
    }
    let dir = common::dir();
    let (old, new) = (dir.path().join("old.kek"), dir.path().join("new.kek"));
    let mut writer = options().create(&old).unwrap();
    writer.append(b"old").unwrap();
    writer.close().unwrap();
    let mut child = Child::start(this, "reader", &[old.to_str().unwrap()]);
    assert_eq!(child.hear(), "given up");
    let refused = options().create_from(&old, &new);
    assert!(matches!(refused, Err(CreateError::InUse { .. })), "{refused:?}");
    child.tell("read");
    assert_eq!(child.hear(), "old");
    assert!(child.end().success());
    options().create_from(&old, &new).unwrap();
}

#[test]
fn a_child_does_not_end_its_parents_channel_by_closing_it() {
    let dir = common::dir();
    let path = dir.path().join("0.kek");
    let mut writer = options().create(&path).unwrap();
    writer.append(b"one").unwrap();
    // SAFETY: the child only looks at its copy of a value and exits.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = if matches!(writer.close_mapped(), Ok(None)) { 7 } else { 8 };
            // SAFETY: ends this process at once, without running what its copy of the test harness would.
            unsafe { nix::libc::_exit(code) };
        }
        ForkResult::Parent { child } => {
            assert!(matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 7))));
        }
    }
    writer.append(b"two").unwrap();
    let channel = Channel::open(&path).unwrap();
    assert_eq!((channel.records().count(), channel.end_point().unwrap().state), (2, State::Open));
}

#[test]
fn on_a_full_disk_a_reused_file_keeps_the_space_that_it_has() {
    let Some(mount) = Mount::memory("on_a_full_disk_a_reused_file_keeps_the_space_that_it_has", 1 << 20)
    else {
        return;
    };
    let options = || Writer::options().capacity(4 << 20).keep_space(true);
    let (old, new) = (mount.path.join("old.kek"), mount.path.join("new.kek"));
    let mut writer = options().create(&old).unwrap();
    while writer.append(&[1; 1000]).is_ok() {}
    let records = writer.next_sequence();
    let mut mapping = writer.close_mapped().unwrap();
    let len = old.metadata().unwrap().len();
    // More than there is, all at once.
    let mut writer = options().prepare(Prepare::All).create_from_mapped(&old, &mut mapping, &new).unwrap();
    assert_eq!(new.metadata().unwrap().len(), len);
    while writer.append(&[2; 1000]).is_ok() {}
    assert_eq!(writer.next_sequence(), records);
    drop(writer);
    let channel = Channel::open(&new).unwrap();
    assert!(channel.records().all(|record| record.unwrap()[..] == [2; 1000]));
}

#[test]
fn a_reader_reads_the_same_whatever_it_was_told_to_prepare() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut writer = options().create(path(&dir, 0)).unwrap();
    for number in 0..2000_u64 {
        writer.append(&number.to_le_bytes()).unwrap();
    }
    for bytes in [0, 1, 4096, 10_000, CAPACITY, u64::MAX] {
        let mut reader = open(&dir, 0, None);
        for number in 0..2000_u64 {
            if number % 300 == 0 {
                reader.prepare(bytes);
            }
            assert_eq!(reader.try_next().unwrap().as_deref(), Some(&number.to_le_bytes()[..]));
        }
        assert!(reader.try_next().unwrap().is_none());
    }
}
