//! A full disk, and a limit on file sizes: a typed error, no signal, nothing lost, and the same writer goes on when
//! there is space again.

mod common;
#[path = "common/disk.rs"]
mod disk;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use common::campaign::Campaign;
use common::{Child, Mount, listen, names_in, patience, record, role, say};
use disk::Disk;
use kekbit::{
    AppendError, Channel, CreateError, Durability, End, Prepare, Reader, SealError, Start, State, Writer,
};
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
        "ahead" => Prepare::Ahead(512 << 10),
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
    for how in ["on demand", "inline", "ahead"] {
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
    let mut writer = Child::start(this, "writer", &[path.to_str().unwrap(), "ahead"]);
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
        let options = Writer::options().capacity(8 << 20).prepare(Prepare::AHEAD);
        let mut writer = options.create(path).unwrap();
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

/// All policies, the syncing thread's too, which has nothing to do here.
const POLICIES: [Durability; 4] =
    [Durability::Never, Durability::AtEnd, Durability::Interval(Duration::from_secs(3600)), Durability::Each];
const PREPARATIONS: [Prepare; 4] =
    [Prepare::OnDemand, Prepare::Inline(64 << 10), Prepare::Ahead(256 << 10), Prepare::All];

/// Reads what there is to read, and compares it.
fn catch_up(reader: &mut Reader, count: &mut u64) {
    while let Some(found) = reader.try_next().unwrap() {
        assert!(found[..] == record(*count, LONGEST)[..], "record {count}");
        *count += 1;
    }
}

/// Fills a channel in a directory where there is no space for much, makes space by `free`, and goes on; a reader
/// follows. Returns how many records there were before, or `None` if there was no space for the channel.
fn fill_and_go_on(path: &Path, durability: Durability, prepare: Prepare, free: impl FnOnce()) -> Option<u64> {
    let options = Writer::options().capacity(2 << 20).durability(durability).prepare(prepare);
    let directory = path.parent().unwrap();
    let names = names_in(directory);
    let mut writer = match options.clone().create(path) {
        Ok(writer) => writer,
        Err(CreateError::NoSpace { .. }) => {
            assert_eq!(names_in(directory), names, "nothing is left behind");
            free();
            options.create(path).unwrap().close().unwrap();
            return None;
        }
        Err(other) => panic!("{other}"),
    };
    let mut reader = Channel::open(path).unwrap().reader(Start::Beginning).unwrap();
    let mut read = 0;
    let records = append_until_no_space(&mut writer);
    catch_up(&mut reader, &mut read);
    assert_eq!(read, records, "each that was acknowledged, and no other");
    writer.sync().unwrap();
    assert_eq!(append_until_no_space(&mut writer), records, "and again");
    free();
    for at in records..records + 20 {
        writer.append(&record(at, LONGEST)).unwrap();
    }
    writer.close().unwrap();
    catch_up(&mut reader, &mut read);
    assert_eq!((read, reader.end()), (records + 20, Some(End::Closed)));
    assert_eq!(count(path), records + 20);
    Some(records)
}

#[test]
fn at_whatever_page_the_disk_is_full_nothing_is_lost() {
    let this = "at_whatever_page_the_disk_is_full_nothing_is_lost";
    let campaign = Campaign::new("full disks");
    const SIZE: u64 = 1 << 20;
    let Some(mount) = Mount::memory(this, SIZE) else { return };
    let (path, ballast) = (mount.path.join("channel.kek"), mount.path.join("ballast"));
    let (mut done, mut appended) = (0, Vec::new());
    for pages in 0..campaign.count(12, 200) {
        for durability in POLICIES {
            for prepare in PREPARATIONS {
                std::fs::write(&ballast, vec![1; (SIZE - pages * 4096) as usize]).unwrap();
                let records = fill_and_go_on(&path, durability, prepare, || free(&ballast));
                // Header, control page, index and the first page of data.
                assert_eq!(records.is_some(), pages >= 4, "{pages} pages, {durability:?}, {prepare:?}");
                appended.extend(records);
                free(&path);
                done += 1;
            }
        }
    }
    assert!(appended.iter().max() > appended.iter().min(), "more pages, more records");
    campaign.done(done, "pages at which the disk was full, policies and preparations");
}

#[test]
fn a_full_disk_of_ext4_is_a_typed_error_and_the_writer_goes_on() {
    let this = "a_full_disk_of_ext4_is_a_typed_error_and_the_writer_goes_on";
    let Some(disk) = Disk::new(this, 16 << 20) else { return };
    for durability in POLICIES {
        for prepare in PREPARATIONS {
            for left in [300 << 10, 1 << 20] {
                if durability == Durability::Each && left > 300 << 10 {
                    // Hundreds of syncs, one for each record, show nothing more.
                    continue;
                }
                let (path, ballast) = (disk.path().join("channel.kek"), fill(disk.path()));
                let len = ballast.metadata().unwrap().len();
                File::options().write(true).open(&ballast).unwrap().set_len(len - left).unwrap();
                // What was freed is there when the file system has written it down.
                disk.sync();
                let records = fill_and_go_on(&path, durability, prepare, || {
                    free(&ballast);
                    disk.sync();
                });
                assert!(
                    records.is_some_and(|records| records > 50),
                    "{records:?} {durability:?}, {prepare:?}"
                );
                free(&path);
            }
        }
    }
}

#[test]
fn under_any_limit_on_file_sizes_there_is_an_error_and_no_signal() {
    let this = "under_any_limit_on_file_sizes_there_is_an_error_and_no_signal";
    if let Some((_, arguments)) = role() {
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        let limit = |bytes| setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).unwrap();
        let path = Path::new(&arguments[0]);
        let mut records = Vec::new();
        for bytes in limits() {
            for durability in POLICIES {
                if durability == Durability::Each && bytes > 1 << 18 && bytes != 300_001 {
                    // Hundreds of syncs, one for each record, show nothing more.
                    continue;
                }
                for prepare in [Prepare::OnDemand, Prepare::Ahead(256 << 10)] {
                    limit(bytes);
                    let lifted = fill_and_go_on(path, durability, prepare, || limit(hard));
                    // Header, control page, index and the first page of data.
                    assert_eq!(lifted.is_some(), bytes >= 4 * 4096, "limit of {bytes}, {durability:?}");
                    std::fs::remove_file(path).unwrap();
                    records.extend(lifted);
                }
                end_under_limit(path, durability, bytes, &limit, hard);
            }
        }
        say(records.len());
        return;
    }
    // On storage files are written with zeros; in memory they are not.
    for dir in [tempfile::tempdir().unwrap(), common::dir()] {
        let path = dir.path().join("limited.kek");
        let mut child = Child::start(this, "writer", &[path.to_str().unwrap()]);
        let said = child.hear_or_end();
        let status = child.end();
        assert!(status.success(), "SIGXFSZ would have killed it: {status}");
        assert!(said.unwrap().parse::<u64>().unwrap() > 20);
    }
}

/// Below, at and above what a file needs, grows to, and is in steps of.
fn limits() -> Vec<u64> {
    let steps = [
        0, 1, 4095, 4096, 8192, 12288, 16383, 16384, 16385, 20480, 65536, 77824, 77825, 262_144, 274_432,
        300_001,
    ];
    let mut limits = steps.to_vec();
    limits.extend([524_288, 1 << 20, (1 << 20) + 4096]);
    limits
}

/// Ends and seals channels that are longer than the limit is by then.
fn end_under_limit(path: &Path, durability: Durability, bytes: u64, limit: &dyn Fn(u64), hard: u64) {
    let create = || {
        let mut writer = Writer::options().capacity(2 << 20).durability(durability).create(path).unwrap();
        for at in 0..10 {
            writer.append(&record(at, LONGEST)).unwrap();
        }
        writer
    };
    let mut writer = create();
    limit(bytes);
    writer.append(&record(10, LONGEST)).unwrap();
    writer.sync().unwrap();
    writer.close().unwrap();
    assert_eq!(count(path), 11);
    limit(hard);
    std::fs::remove_file(path).unwrap();
    create().abandon();
    limit(bytes);
    assert_eq!(Channel::seal(path).unwrap().end.sequence, 10);
    assert_eq!(count(path), 10);
    limit(hard);
    std::fs::remove_file(path).unwrap();
}
