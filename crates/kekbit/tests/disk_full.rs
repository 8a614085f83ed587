//! A full disk, and a limit on file sizes: a typed error, no signal, nothing lost, and the same writer goes on when
//! there is space again.

mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use common::{Child, Mount, listen, names_in, patience, record, role, say};
use kekbit::{AppendError, Channel, CreateError, Durability, End, Prepare, SealError, Start, State, Writer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const LONGEST: u64 = 2000;

/// Appends until there is no space left; returns how many records there are then.
fn append_until_no_space(writer: &mut Writer) -> u64 {
    loop {
        let (tail, sequence) = (writer.tail(), writer.next_sequence());
        match writer.append(&record(sequence, LONGEST)) {
            Ok(at) => assert_eq!(at.sequence, sequence),
            Err(AppendError::NoSpace { needed, .. }) => {
                assert!(needed > 0);
                assert_eq!((writer.tail(), writer.next_sequence()), (tail, sequence), "as it was");
                return sequence;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Fills the file system to its last byte, and returns the file that takes it all.
fn fill(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("ballast");
    let mut file = File::create(&path).unwrap();
    let block = [1; 4096];
    while file.write_all(&block).is_ok() {}
    path
}

/// Frees the space that a file takes, although a child that another test is just starting may have it open.
fn free(ballast: &Path) {
    File::options().write(true).open(ballast).unwrap().set_len(0).unwrap();
    std::fs::remove_file(ballast).unwrap();
}

/// All records of the channel, each as it should be.
fn count(path: &Path) -> u64 {
    let channel = Channel::open(path).unwrap();
    let mut count = 0;
    for found in channel.records() {
        assert!(found.unwrap()[..] == record(count, LONGEST)[..], "record {count}");
        count += 1;
    }
    assert_eq!(channel.verify(|_| ()).unwrap().sequence, count);
    count
}

fn prepare(name: &str) -> Prepare {
    match name {
        "on demand" => Prepare::OnDemand,
        "inline" => Prepare::Inline(256 << 10),
        _ => Prepare::All,
    }
}

/// A writer that reports when the disk is full, and goes on when it is told to.
fn write(path: &str, how: &str) {
    let mut writer = Writer::options().capacity(8 << 20).prepare(prepare(how)).create(path).unwrap();
    loop {
        say(append_until_no_space(&mut writer));
        // Again and again: it stays a typed error.
        for _ in 0..10 {
            append_until_no_space(&mut writer);
        }
        match listen().as_deref() {
            Some("sync") => {
                writer.sync().unwrap();
                say("synced");
                listen();
            }
            Some("close") => break,
            _ => {}
        }
    }
    writer.close().unwrap();
    say("closed");
}

/// A reader that follows to the end.
fn follow(path: &str) {
    let channel = Channel::wait_for(path, patience()).unwrap().unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    say("following");
    let mut count = 0;
    while let Some(found) = reader.next(patience()).unwrap() {
        assert!(found[..] == record(count, LONGEST)[..], "record {count}");
        count += 1;
    }
    assert_eq!(reader.end(), Some(End::Closed));
    say(count);
}

#[test]
fn a_full_disk_is_a_typed_error_and_the_writer_goes_on_when_there_is_space() {
    let this = "a_full_disk_is_a_typed_error_and_the_writer_goes_on_when_there_is_space";
    match role() {
        Some((role, arguments)) if role == "writer" => return write(&arguments[0], &arguments[1]),
        Some((_, arguments)) => return follow(&arguments[0]),
        None => {}
    }
    for how in ["on demand", "inline"] {
        let Some(mount) = Mount::memory(this, 1 << 20) else { return };
        let ballast = mount.path.join("first ballast");
        std::fs::write(&ballast, vec![1; 300 << 10]).unwrap();
        let path = mount.path.join("channel.kek");
        let mut writer = Child::start(this, "writer", &[path.to_str().unwrap(), how]);
        let mut reader = Child::start(this, "reader", &[path.to_str().unwrap()]);
        assert_eq!(reader.hear(), "following");
        let records: u64 = writer.hear().parse().unwrap();
        assert!(records > 200, "most of the 700 KiB are used: {records}");
        assert_eq!(count(&path), records);
        assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Open);

        // Readers that jump about, and to where nothing is.
        let channel = Channel::open(&path).unwrap();
        assert!(channel.reader(Start::End).unwrap().try_next().unwrap().is_none());
        assert_eq!(channel.records_from(Start::Last(5)).unwrap().count(), 5);

        writer.tell("sync");
        assert_eq!(writer.hear(), "synced");
        free(&ballast);
        writer.tell("go on");
        let more: u64 = writer.hear().parse().unwrap();
        assert!(more > records + 200, "another 300 KiB: {more} after {records}");
        assert_eq!(count(&path), more);
        writer.tell("close");
        assert_eq!(writer.hear(), "closed", "there is always space for the end");
        assert!(writer.end().success());
        assert_eq!(reader.hear(), more.to_string(), "the reader has seen them all");
        assert!(reader.end().success());
        assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Closed);
    }
}

#[test]
fn a_killed_writer_on_a_full_disk_leaves_a_channel_that_can_be_sealed_there() {
    let this = "a_killed_writer_on_a_full_disk_leaves_a_channel_that_can_be_sealed_there";
    if let Some((_, arguments)) = role() {
        return write(&arguments[0], &arguments[1]);
    }
    let Some(mount) = Mount::memory(this, 1 << 20) else { return };
    let path = mount.path.join("channel.kek");
    let mut writer = Child::start(this, "writer", &[path.to_str().unwrap(), "inline"]);
    let records: u64 = writer.hear().parse().unwrap();
    fill(&mount.path);
    writer.kill();
    writer.end();
    let channel = Channel::open(&path).unwrap();
    let mut reader = channel.reader(Start::End).unwrap();
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Abandoned));
    assert_eq!(Channel::seal(&path).unwrap().end.sequence, records);
    assert_eq!(count(&path), records);
}

#[test]
fn a_frame_that_fills_the_last_page_of_a_full_disk_has_the_word_behind_it_or_is_not_appended() {
    let this = "a_frame_that_fills_the_last_page_of_a_full_disk_has_the_word_behind_it_or_is_not_appended";
    if let Some((_, arguments)) = role() {
        // Each frame fills a page, so that the word behind it lies in the next one.
        let mut writer = Writer::options().capacity(8 << 20).create(&arguments[0]).unwrap();
        let refused = loop {
            if let Err(error) = writer.append(&[7; 4088]) {
                break error;
            }
        };
        assert!(matches!(refused, AppendError::NoSpace { .. }), "{refused}");
        say(writer.next_sequence());
        return writer.close().unwrap();
    }
    let Some(mount) = Mount::memory(this, 1 << 20) else { return };
    let path = mount.path.join("channel.kek");
    let mut writer = Child::start(this, "writer", &[path.to_str().unwrap()]);
    let records: u64 = writer.hear().parse().unwrap();
    assert!(writer.end().success(), "there is space for the end");
    let end = Channel::open(&path).unwrap().verify(|_| ()).unwrap();
    assert_eq!((end.state, end.sequence), (State::Closed, records));
}

#[test]
fn a_claim_or_a_batch_without_space_changes_nothing() {
    let this = "a_claim_or_a_batch_without_space_changes_nothing";
    let Some(mount) = Mount::memory(this, 1 << 20) else { return };
    let path = mount.path.join("channel.kek");
    let ballast = mount.path.join("ballast");
    std::fs::write(&ballast, vec![1; 300 << 10]).unwrap();
    let mut writer = Writer::options().capacity(8 << 20).create(&path).unwrap();
    let records = append_until_no_space(&mut writer);
    let no_space = |error| matches!(error, AppendError::NoSpace { .. });
    assert!(no_space(writer.claim(100_000).unwrap_err()));
    assert!(no_space(writer.append_with(100_000, |_| unreachable!()).unwrap_err()));
    assert!(no_space(writer.append_encoded(&vec![1; 100_000]).unwrap_err()));
    let mut batch = writer.batch();
    // Whatever is left of the last page that was reserved takes some small ones.
    let mut pushed = 0;
    let refused = loop {
        match batch.push(&record(records + pushed, 16)) {
            Ok(()) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert!(no_space(refused));
    drop(batch);
    assert_eq!((count(&path), writer.next_sequence()), (records, records));
    free(&ballast);
    let mut batch = writer.batch();
    for i in 0..3 {
        batch.push(&record(records + i, LONGEST)).unwrap();
    }
    batch.commit().unwrap();
    writer.close().unwrap();
    assert_eq!(count(&path), records + 3);
}

#[test]
fn creation_on_a_full_disk_fails_and_leaves_nothing_behind() {
    let this = "creation_on_a_full_disk_fails_and_leaves_nothing_behind";
    let Some(mount) = Mount::memory(this, 1 << 20) else { return };
    let create = |name: &str, prepare| {
        let path = mount.path.join(name);
        Writer::options().capacity(2 << 20).prepare(prepare).durability(Durability::Never).create(path)
    };
    let ballast = fill(&mount.path);
    assert!(matches!(create("a.kek", Prepare::OnDemand), Err(CreateError::NoSpace { .. })));
    assert_eq!(names_in(&mount.path), ["ballast"]);
    // Nearly full: less than header, control, index and a first page.
    File::options().write(true).open(&ballast).unwrap().set_len((1 << 20) - 12288).unwrap();
    assert!(matches!(create("a.kek", Prepare::OnDemand), Err(CreateError::NoSpace { .. })));
    assert_eq!(names_in(&mount.path), ["ballast"]);
    free(&ballast);
    // Everything at once is a wish; a channel that begins smaller will do.
    let mut writer = create("a.kek", Prepare::All).unwrap();
    let records = append_until_no_space(&mut writer);
    assert_eq!(count(&mount.path.join("a.kek")), records);
}

#[test]
fn a_limit_on_file_sizes_is_a_typed_error_and_no_signal() {
    let this = "a_limit_on_file_sizes_is_a_typed_error_and_no_signal";
    if let Some((_, arguments)) = role() {
        let path = Path::new(&arguments[0]);
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        let limit = |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).unwrap();
        limit(8192);
        assert!(matches!(Writer::create(path), Err(CreateError::NoSpace { .. })));
        assert!(names_in(path.parent().unwrap()).is_empty(), "nothing is left behind");
        limit(1 << 20);
        let mut writer = Writer::options().capacity(8 << 20).create(path).unwrap();
        let first = append_until_no_space(&mut writer);
        assert_eq!(count(path), first);
        limit(2 << 20);
        let second = append_until_no_space(&mut writer);
        assert!(second > first + 500);
        writer.close().unwrap();
        assert_eq!(count(path), second);
        say(second);
        return;
    }
    let dir = common::dir();
    let path = dir.path().join("limited.kek");
    let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
    let said = child.hear();
    assert!(child.end().success(), "SIGXFSZ would have killed it");
    assert_eq!(said, count(&path).to_string());
    assert!(path.metadata().unwrap().len() <= 2 << 20);
}

#[test]
fn a_copy_with_holes_is_sealed_when_there_is_space_for_it() {
    let this = "a_copy_with_holes_is_sealed_when_there_is_space_for_it";
    let Some(mount) = Mount::memory(this, 4 << 20) else { return };
    let dir = common::dir();
    let (path, copy) = (dir.path().join("abandoned.kek"), mount.path.join("copy.kek"));
    let mut writer = Writer::options().capacity(64 << 20).create(&path).unwrap();
    for n in 0..1000 {
        writer.append(&record(n, LONGEST)).unwrap();
    }
    writer.abandon();
    let copied = std::process::Command::new("cp").arg("--sparse=always").args([&path, &copy]).status();
    assert!(copied.unwrap().success());
    let ballast = fill(&mount.path);
    assert_eq!(count(&copy), 1000);
    assert!(matches!(Channel::seal(&copy), Err(SealError::Io { .. })), "and no SIGBUS");
    free(&ballast);
    assert_eq!(Channel::seal(&copy).unwrap().end.sequence, 1000);
    assert_eq!(count(&copy), 1000);
}
