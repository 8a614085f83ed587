//! Creation: all at once or not at all, one winner, nothing replaced, nothing left behind.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Barrier;

use common::{Child, listen, names_in, payloads, role, say};
use kekbit::{Channel, Checksum, CreateError, Prepare, SequenceStamp, State, Timestamp, Writer};

fn exists(result: Result<Writer, CreateError>) -> bool {
    matches!(result, Err(CreateError::AlreadyExists { .. }))
}

#[test]
fn of_fifty_pairs_of_threads_one_of_each_wins() {
    let dir = common::dir();
    let barrier = Barrier::new(100);
    let winners: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let start = |i: usize| {
            let (path, barrier) = (dir.path().join(format!("{:02}.kek", i / 2)), &barrier);
            scope.spawn(move || {
                barrier.wait();
                match Writer::create(path) {
                    Ok(mut writer) => {
                        writer.append(i.to_string().as_bytes()).unwrap();
                        writer.close().unwrap();
                        Some((i / 2, i))
                    }
                    Err(CreateError::AlreadyExists { .. }) => None,
                    Err(other) => panic!("{other}"),
                }
            })
        };
        let threads: Vec<_> = (0..100).map(start).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    check_winners(dir.path(), winners);
}

#[test]
fn of_fifty_pairs_of_processes_one_of_each_wins() {
    let this = "of_fifty_pairs_of_processes_one_of_each_wins";
    if let Some((number, arguments)) = role() {
        say("ready");
        listen();
        match Writer::create(&arguments[0]) {
            Ok(mut writer) => {
                say("won");
                writer.append(number.as_bytes()).unwrap();
                writer.close().unwrap();
            }
            Err(CreateError::AlreadyExists { .. }) => say("exists"),
            Err(other) => say(other),
        }
        return;
    }
    let dir = common::dir();
    let start = |i: usize| {
        let path = dir.path().join(format!("{:02}.kek", i / 2));
        Child::start(this, &i.to_string(), &[path.to_str().unwrap()])
    };
    let mut children: Vec<_> = (0..100).map(start).collect();
    for child in &mut children {
        assert_eq!(child.hear(), "ready");
    }
    for child in &mut children {
        child.tell("go");
    }
    let mut winners = Vec::new();
    for (i, mut child) in children.into_iter().enumerate() {
        match child.hear().as_str() {
            "won" => winners.push((i / 2, i)),
            "exists" => {}
            other => panic!("{other}"),
        }
        assert!(child.end().success());
    }
    check_winners(dir.path(), winners);
}

/// One winner for each path, whose channel is there, and nothing else.
fn check_winners(directory: &Path, mut winners: Vec<(usize, usize)>) {
    winners.sort_unstable();
    assert!(winners.iter().map(|(pair, _)| *pair).eq(0..50), "{winners:?}");
    let names: Vec<_> = (0..50).map(|pair| format!("{pair:02}.kek")).collect();
    assert_eq!(names_in(directory), names);
    for ((_, winner), name) in winners.into_iter().zip(names) {
        let channel = Channel::open(directory.join(name)).unwrap();
        assert_eq!(payloads(&channel), [winner.to_string().as_bytes()]);
        assert_eq!(channel.end_point().unwrap().state, State::Closed);
    }
}

#[test]
fn nothing_is_replaced_and_no_link_followed() {
    let dir = common::dir();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("file"), "precious").unwrap();
    std::fs::create_dir(path("directory")).unwrap();
    std::fs::write(path("target"), "precious").unwrap();
    symlink(path("target"), path("link")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    Writer::create(path("closed")).unwrap().close().unwrap();
    let live = Writer::create(path("live")).unwrap();
    let names = names_in(dir.path());
    for name in &names {
        assert!(exists(Writer::create(path(name))), "{name}");
    }
    assert_eq!(names_in(dir.path()), names);
    assert_eq!(std::fs::read(path("file")).unwrap(), b"precious");
    assert_eq!(std::fs::read(path("target")).unwrap(), b"precious");
    assert!(!path("nowhere").exists());
    drop(live);
}

#[test]
fn only_the_owner_may_read_and_write_unless_asked_for() {
    let dir = common::dir();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    let path = dir.path().join("private.kek");
    let _private = Writer::create(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    let path = dir.path().join("shared.kek");
    let _shared = Writer::options().mode(0o640).create(&path).unwrap();
    // The process's mask may take bits away, but adds none.
    assert_eq!(mode(&path) | 0o040, 0o640);
    for wrong in [0, 0o200, 0o400, 0o044, 0o1600, 0o4755] {
        let refused = Writer::options().mode(wrong).create(dir.path().join("wrong.kek"));
        assert!(matches!(refused, Err(CreateError::Options(_))), "{wrong:o}");
    }
    assert_eq!(names_in(dir.path()), ["private.kek", "shared.kek"]);
}

#[test]
fn what_is_out_of_range_is_refused_with_the_limit_and_leaves_nothing_behind() {
    let dir = common::dir();
    let path = dir.path().join("x.kek");
    let options = Writer::options;
    let message = |result: Result<Writer, CreateError>| match result {
        Err(CreateError::Options(text)) => text,
        other => panic!("{other:?}"),
    };
    for capacity in [0, 1, 4095, (1 << 45) + 1, u64::MAX] {
        let text = message(options().capacity(capacity).create(&path));
        assert!(text.contains(&capacity.to_string()) && text.contains("4096"), "{text}");
    }
    for len in [65536 - 15, 1 << 28, u64::MAX] {
        let text = message(options().capacity(65536).max_record_len(len).create(&path));
        assert!(text.contains(&len.to_string()) && text.contains("65520"), "{text}");
    }
    let text = message(options().first_sequence((1 << 63) + 1).create(&path));
    assert!(text.contains("2^63"), "{text}");
    let staged = options().max_record_len(15).stage(Timestamp::nanos()).stage(SequenceStamp).create(&path);
    assert!(matches!(staged, Err(CreateError::Options(text)) if text.contains("16") && text.contains("15")));
    for too_long in ["x".repeat(3865), "x".repeat(70_000)] {
        let text = message(options().content_type(too_long.as_str()).create(&path));
        assert!(text.contains("3864"), "{text}");
        message(options().schema(too_long.as_str()).create(&path));
        message(options().meta(too_long.as_str(), "").create(&path));
        message(options().meta("", too_long.as_str()).create(&path));
    }
    let many = (0..400).fold(options(), |options, i| options.meta(i.to_string(), "value"));
    message(many.create(&path));
    assert!(names_in(dir.path()).is_empty());
    // And what is just in range is not.
    options().meta("k", "x".repeat(3864 - 4 - 2 - 1 - 1)).create(&path).unwrap();
    assert_eq!(Channel::open(&path).unwrap().meta()[0].1.len(), 3856);
}

#[test]
fn small_odd_and_large_channels_can_be_created() {
    let dir = common::dir();
    // The largest of all, 32 TiB, would take 2 GiB for its index at once.
    for (name, capacity) in [("smallest.kek", 4096_u64), ("odd.kek", 4097), ("large.kek", 1 << 36)] {
        let path = dir.path().join(name);
        let writer = Writer::options().capacity(capacity).prepare(Prepare::OnDemand).create(&path).unwrap();
        let channel = Channel::open(&path).unwrap();
        assert_eq!(channel.capacity(), capacity.next_multiple_of(4096));
        writer.close().unwrap();
        assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Closed);
    }
}

#[test]
fn a_missing_directory_is_said_and_not_made() {
    let dir = common::dir();
    let missing = dir.path().join("missing");
    match Writer::create(missing.join("x.kek")) {
        Err(CreateError::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
    assert!(names_in(dir.path()).is_empty());
    std::fs::write(&missing, "a file").unwrap();
    assert!(matches!(Writer::create(missing.join("x.kek")), Err(CreateError::Io { .. })));
    assert!(Writer::create("").is_err());
    assert!(exists(Writer::create("/")));
    assert!(exists(Writer::create(dir.path().join(".."))));
}

#[test]
fn a_path_without_a_directory_is_in_the_working_directory() {
    let this = "a_path_without_a_directory_is_in_the_working_directory";
    if let Some((_, arguments)) = role() {
        std::env::set_current_dir(&arguments[0]).unwrap();
        let mut writer = Writer::create("relative.kek").unwrap();
        writer.append(b"here").unwrap();
        assert_eq!(payloads(&Channel::open("relative.kek").unwrap()), [b"here"]);
        writer.abandon();
        Channel::seal("relative.kek").unwrap();
        say("done");
        return;
    }
    let dir = common::dir();
    let mut child = Child::start(this, "writer", &[dir.path().to_str().unwrap()]);
    assert_eq!(child.hear(), "done");
    assert!(child.end().success());
    assert_eq!(names_in(dir.path()), ["relative.kek"]);
    assert_eq!(payloads(&Channel::open(dir.path().join("relative.kek")).unwrap()), [b"here"]);
}

#[test]
fn a_channel_says_what_was_chosen() {
    let dir = common::dir();
    let path = dir.path().join("chosen.kek");
    let timeout = std::time::Duration::from_micros(1500);
    let writer = Writer::options()
        .capacity(100_000)
        .max_record_len(999)
        .timeout(timeout)
        .tick(kekbit::TickUnit::Millis)
        .writer_id(u64::MAX)
        .channel_id(1 << 63)
        .first_sequence(1 << 63)
        .checksum(Checksum::None)
        .content_type("text/plain")
        .schema("lines")
        .meta("a", "1")
        .meta("a", "2")
        .create(&path)
        .unwrap();
    assert_eq!(writer.next_sequence(), 1 << 63);
    let channel = Channel::open(&path).unwrap();
    assert_eq!((channel.capacity(), channel.max_record_len()), (102_400, 999));
    assert_eq!(channel.timeout(), Some(std::time::Duration::from_millis(2)), "in ticks, rounded up");
    assert_eq!(channel.tick_unit(), kekbit::TickUnit::Millis);
    assert_eq!((channel.writer_id(), channel.channel_id()), (u64::MAX, 1 << 63));
    assert_eq!((channel.first_sequence(), channel.checksum()), (1 << 63, Checksum::None));
    assert_eq!((channel.content_type(), channel.schema()), (Some("text/plain"), Some("lines")));
    let meta = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    assert_eq!(channel.meta(), meta);
    assert_eq!((channel.format_version(), channel.stages()), ((2, 0), &[][..]));
    assert!(path.metadata().unwrap().len() >= 8192 + 4096 + 4096 && path.metadata().unwrap().nlink() == 1);
}
