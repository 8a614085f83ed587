//! Rights: reading needs read permission on the file and nothing else, works on a read-only mount, and what is
//! forbidden is said to be forbidden, not missing.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Child, Mount, bytes, names_in, patience, payloads, role, say, wait_until};
use kekbit::{Channel, CreateError, End, OpenError, SealError, Start, State, Verify, Wait, Writer};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

/// Becomes a user who owns nothing, for good.
fn become_nobody() {
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(65534)).unwrap();
    setuid(Uid::from_raw(65534)).unwrap();
}

/// Whether tests of other users are possible; says so if not.
fn is_root(test: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        eprintln!("{test}: skipped, since it may not become another user");
    }
    root
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn forbidden(error: &OpenError) -> bool {
    matches!(error, OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
}

#[test]
fn who_may_only_read_reads_everything_and_follows() {
    let this = "who_may_only_read_reads_everything_and_follows";
    if let Some((_, arguments)) = role() {
        become_nobody();
        let path = Path::new(&arguments[0]);
        assert!(std::fs::OpenOptions::new().write(true).open(path).is_err(), "it may only read");
        let channel = Channel::open(path).unwrap();
        let records = payloads(&channel).len();
        assert_eq!(channel.end_point().unwrap().state, State::Open);
        assert!(matches!(Channel::seal(path), Err(SealError::Io { .. } | SealError::WriterLives { .. })));
        assert!(matches!(
            Writer::create(path.with_extension("new")),
            Err(CreateError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied
        ));
        say(records);
        let mut reader = channel.reader(Start::Beginning).unwrap();
        let mut count = 0;
        while let Some(record) = reader.next(patience()).unwrap() {
            assert_eq!(record[..], bytes(count, 100));
            count += 1;
        }
        assert_eq!(reader.end(), Some(End::Closed));
        say(count);
        return;
    }
    if !is_root(this) {
        return;
    }
    let dir = common::dir();
    set_mode(dir.path(), 0o755);
    let path = dir.path().join("readable.kek");
    let mut writer = Writer::options().create(&path).unwrap();
    set_mode(&path, 0o604);
    for i in 0..10 {
        writer.append(&bytes(i, 100)).unwrap();
    }
    let mut child = Child::start(this, "reader", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "10");
    for i in 10..5000 {
        writer.append(&bytes(i, 100)).unwrap();
    }
    writer.close().unwrap();
    assert_eq!(child.hear(), "5000");
    assert!(child.end().success());
}

#[test]
fn who_may_only_read_finds_a_dead_writer_and_may_not_seal() {
    let this = "who_may_only_read_finds_a_dead_writer_and_may_not_seal";
    if let Some((_, arguments)) = role() {
        become_nobody();
        let path = Path::new(&arguments[0]);
        let channel = Channel::open(path).unwrap();
        let mut reader = channel.reader(Start::Beginning).unwrap();
        assert!(reader.next(Wait::spin()).unwrap().is_some());
        assert_eq!(reader.check_end().unwrap(), None);
        say("following");
        assert!(reader.next(patience()).unwrap().is_none());
        assert_eq!(reader.end(), Some(End::Abandoned));
        let sealed = Channel::seal(path);
        assert!(matches!(
            sealed,
            Err(SealError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied
        ));
        say("abandoned");
        return;
    }
    if !is_root(this) {
        return;
    }
    let dir = common::dir();
    set_mode(dir.path(), 0o755);
    let path = dir.path().join("readable.kek");
    let mut writer = Writer::create(&path).unwrap();
    set_mode(&path, 0o604);
    writer.append(b"alone").unwrap();
    let mut child = Child::start(this, "reader", &[path.to_str().unwrap()]);
    assert_eq!(child.hear(), "following");
    writer.abandon();
    assert_eq!(child.hear(), "abandoned");
    assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Abandoned);
}

#[test]
fn a_file_that_may_not_be_read_is_not_said_to_be_missing() {
    let this = "a_file_that_may_not_be_read_is_not_said_to_be_missing";
    if let Some((_, arguments)) = role() {
        become_nobody();
        for path in &arguments {
            assert!(forbidden(&Channel::open(path).unwrap_err()), "{path}");
            assert!(forbidden(&Channel::wait_for(path, patience()).unwrap_err()), "{path}");
            assert!(matches!(Channel::seal(path), Err(SealError::Open(error)) if forbidden(&error)));
        }
        say("forbidden");
        return;
    }
    if !is_root(this) {
        return;
    }
    let dir = common::dir();
    set_mode(dir.path(), 0o755);
    let private = dir.path().join("private.kek");
    Writer::create(&private).unwrap().close().unwrap();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let hidden = closed.join("hidden.kek");
    Writer::options().mode(0o644).create(&hidden).unwrap().close().unwrap();
    set_mode(&closed, 0o700);
    let paths = [private.to_str().unwrap(), hidden.to_str().unwrap()];
    let mut child = Child::start(this, "reader", &paths);
    assert_eq!(child.hear(), "forbidden");
    assert!(child.end().success());
}

#[test]
fn a_channel_on_a_read_only_mount_is_read_live_and_afterwards() {
    let this = "a_channel_on_a_read_only_mount_is_read_live_and_afterwards";
    let dir = common::dir();
    let create = |name: &str| {
        let mut writer = Writer::options().capacity(1 << 20).create(dir.path().join(name)).unwrap();
        writer.append(&bytes(0, 100)).unwrap();
        writer
    };
    create("abandoned.kek").abandon();
    let abandoned = Channel::open(dir.path().join("abandoned.kek")).unwrap();
    wait_until("its lock is released", || !abandoned.writer_lives().unwrap());
    create("closed.kek").close().unwrap();
    let mut live = create("live.kek");
    let Some(mount) = Mount::read_only(this, dir.path()) else { return };
    let names =
        [("abandoned.kek", State::Abandoned), ("closed.kek", State::Closed), ("live.kek", State::Open)];
    for (name, state) in names {
        let channel = Channel::options().verify(Verify::Always).open(mount.path.join(name)).unwrap();
        assert_eq!(payloads(&channel), [bytes(0, 100)], "{name}");
        assert_eq!(channel.end_point().unwrap().state, state);
    }
    let mut reader = Channel::open(mount.path.join("live.kek")).unwrap().reader(Start::End).unwrap();
    assert_eq!(reader.check_end().unwrap(), None, "the writer is seen to live, from the other mount too");
    for i in 1..5000 {
        live.append(&bytes(i, 100)).unwrap();
        assert_eq!(reader.try_next().unwrap().unwrap()[..], bytes(i, 100));
    }
    live.abandon();
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Abandoned));

    let read_only = |source: &std::io::Error| source.kind() == std::io::ErrorKind::ReadOnlyFilesystem;
    let created = Writer::create(mount.path.join("new.kek"));
    assert!(matches!(created, Err(CreateError::Io { source, .. }) if read_only(&source)));
    let sealed = Channel::seal(mount.path.join("live.kek"));
    assert!(matches!(sealed, Err(SealError::Io { source, .. }) if read_only(&source)));
    assert_eq!(names_in(dir.path()), names.map(|(name, _)| name));
    // Where it may be written, it can be.
    assert_eq!(Channel::seal(dir.path().join("live.kek")).unwrap().end.sequence, 5000);
}
