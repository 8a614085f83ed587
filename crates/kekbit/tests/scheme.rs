//! Channels that are named after their ids, below a root directory.

mod common;
#[path = "common/strace.rs"]
mod strace;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;

use common::{dir, names_in, patience};
use kekbit::{Channel, CreateError, Durability, OpenError, Writer};
use nix::unistd::gettid;
use strace::{Call, Strace};

const IDS: [u64; 5] = [0, 1, 0xFFFF_FFFF, 0x1_0000_0000, u64::MAX];

#[test]
fn what_is_created_by_id_is_found_by_id_and_by_path() {
    let dir = dir();
    let root = dir.path().join("not/there/yet");
    for id in IDS {
        let mut writer = Writer::options().channel_id(id).create_in(&root).unwrap();
        writer.append(&id.to_le_bytes()).unwrap();
        writer.close().unwrap();
    }
    for id in IDS {
        let (by_id, by_path) =
            (Channel::open_in(&root, id).unwrap(), Channel::open(Channel::path_in(&root, id)).unwrap());
        for channel in [by_id, by_path] {
            assert_eq!(channel.channel_id(), id);
            assert_eq!(&channel.records().next().unwrap().unwrap()[..], id.to_le_bytes());
            assert_eq!(Channel::id_of(channel.path()), Some(id));
        }
    }
    assert_eq!(Channel::ids_in(&root).unwrap(), IDS);
}

#[test]
fn an_id_must_have_been_chosen_and_nothing_is_made_before_all_is_well() {
    let dir = dir();
    let root = dir.path().join("root");
    let refused = Writer::options().create_in(&root).unwrap_err();
    assert!(matches!(&refused, CreateError::Options(why) if why.contains("channel_id")), "{refused}");
    let refused = Writer::options().channel_id(1).capacity(1).create_in(&root).unwrap_err();
    assert!(matches!(refused, CreateError::Options(_)), "{refused}");
    assert!(!root.exists());
}

#[test]
fn a_channel_is_created_once() {
    let dir = dir();
    drop(Writer::options().channel_id(7).create_in(dir.path()).unwrap());
    let again = Writer::options().channel_id(7).create_in(dir.path()).unwrap_err();
    assert!(matches!(again, CreateError::AlreadyExists { path } if path == Channel::path_in(dir.path(), 7)));
    let missing = Channel::open_in(dir.path(), 8).unwrap_err();
    assert!(matches!(missing, OpenError::NotFound { path } if path == Channel::path_in(dir.path(), 8)));
}

#[test]
fn a_file_in_the_way_of_a_directory_is_an_error_that_names_it() {
    let dir = dir();
    fs::write(dir.path().join("0000_0000"), "in the way").unwrap();
    let refused = Writer::options().channel_id(7).create_in(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("0000_0000"), "{refused}");
    assert_eq!(Channel::ids_in(dir.path()).unwrap(), []);
}

#[test]
fn a_file_under_another_channels_name_is_not_taken_for_it() {
    let dir = dir();
    drop(Writer::options().channel_id(7).create_in(dir.path()).unwrap());
    fs::rename(Channel::path_in(dir.path(), 7), Channel::path_in(dir.path(), 8)).unwrap();
    let refused = Channel::open_in(dir.path(), 8).unwrap_err();
    assert!(matches!(refused, OpenError::OtherChannel { expected: 8, found: 7, .. }), "{refused}");
    let waited = Channel::options().wait_for_in(dir.path(), 8, patience()).unwrap_err();
    assert!(matches!(waited, OpenError::OtherChannel { .. }), "{waited}");
    assert_eq!(Channel::open(Channel::path_in(dir.path(), 8)).unwrap().channel_id(), 7);
}

#[test]
fn a_reader_waits_for_a_channel_whose_directories_are_not_there() {
    let dir = dir();
    let root = dir.path().join("root");
    let none = Channel::options().wait_for_in(&root, 7, kekbit::Wait::spin().retries(3)).unwrap();
    assert!(none.is_none());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| Channel::options().wait_for_in(&root, 7, patience()).unwrap().unwrap());
        let writer = Writer::options().channel_id(7).writer_id(3).create_in(&root).unwrap();
        assert_eq!(reader.join().unwrap().writer_id(), 3);
        drop(writer);
    });
}

#[test]
fn a_listing_passes_over_what_has_other_names() {
    let dir = dir();
    for id in [0x1_0000_0002, 5] {
        drop(Writer::options().channel_id(id).create_in(dir.path()).unwrap());
    }
    fs::write(dir.path().join("0000_0000/0000_0006.kek"), "").unwrap();
    fs::write(dir.path().join("0000_0000/0000_000A.kekbit"), "").unwrap();
    fs::write(dir.path().join("0000_0009"), "").unwrap();
    fs::create_dir_all(dir.path().join("orders/0000_0001.kekbit")).unwrap();
    drop(Writer::create(dir.path().join("plain.kek")).unwrap());
    // Links that lead to themselves, and nowhere.
    symlink("0000_0007", dir.path().join("0000_0007")).unwrap();
    symlink("nowhere", dir.path().join("0000_0008")).unwrap();
    assert_eq!(Channel::ids_in(dir.path()).unwrap(), [5, 0x1_0000_0002]);
    let missing = Channel::ids_in(dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(missing, OpenError::NotFound { .. }), "{missing}");
}

#[test]
fn directories_have_the_permissions_of_their_channels() {
    let dir = dir();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let mask = 0o777 ^ {
        let probe = dir.path().join("probe");
        fs::create_dir(&probe).unwrap();
        mode(&probe)
    };
    for (file, directory) in [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755)] {
        let root = dir.path().join(format!("{file:o}"));
        drop(Writer::options().channel_id(1).mode(file).create_in(&root).unwrap());
        assert_eq!(mode(&Channel::path_in(&root, 1)), file & !mask);
        assert_eq!(mode(&root), directory & !mask, "{file:o}");
        assert_eq!(mode(&root.join("0000_0000")), directory & !mask, "{file:o}");
    }
}

#[test]
fn threads_that_create_the_same_directories_do_not_meet() {
    let dir = dir();
    let root = dir.path().join("a/b/c");
    std::thread::scope(|scope| {
        for id in 0..16 {
            let root = &root;
            scope.spawn(move || {
                let options =
                    Writer::options().channel_id(id).capacity(1 << 16).durability(Durability::Never);
                options.create_in(root).unwrap().close().unwrap();
            });
        }
    });
    assert_eq!(Channel::ids_in(&root).unwrap(), Vec::from_iter(0..16));
    assert_eq!(names_in(&root), ["0000_0000"]);
}

/// The calls of a thread that runs `act`, or `None` where threads cannot be watched.
fn calls_of(log: &Path, act: impl FnOnce() + Send) -> Option<Vec<Call>> {
    let (said, thread) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            said.send(gettid()).unwrap();
            // An error: nobody watches.
            if gone.recv().is_ok() {
                act();
            }
        });
        match Strace::attach(thread.recv().unwrap().as_raw(), false, log, &[]) {
            Ok(strace) => {
                go.send(()).unwrap();
                Some(strace.calls())
            }
            Err(why) => {
                drop(go);
                println!("skipped: {why}");
                None
            }
        }
    })
}

#[test]
fn the_name_of_a_directory_is_synced_before_there_is_anything_in_it() {
    let dir = dir();
    let root = dir.path().join("a/b");
    let quote = |path: &Path| format!("\"{}\"", path.display());
    // A second creator cannot know whether the first one of an empty directory has come to the sync.
    let emptied = dir.path().join("emptied/0000_0000");
    fs::create_dir_all(&emptied).unwrap();
    for (root, id, expected) in [
        (root.clone(), 1, vec![dir.path().to_owned(), dir.path().join("a"), root.clone()]),
        (root.clone(), 2, vec![]),
        (dir.path().join("emptied"), 3, vec![dir.path().join("emptied")]),
    ] {
        let log = dir.path().join(format!("log of {id}"));
        let options = Writer::options().channel_id(id).capacity(1 << 16).durability(Durability::Never);
        let Some(calls) = calls_of(&log, || options.create_in(&root).unwrap().close().unwrap()) else {
            return;
        };
        let path = Channel::path_in(&root, id);
        let named = |call: &Call| call.name == "linkat" && call.arguments.contains(&quote(&path));
        let at = calls.iter().position(named).expect("it gets its name");
        let mut synced = Vec::new();
        for (number, call) in calls[..at].iter().enumerate().filter(|(_, call)| call.name == "fsync") {
            assert_eq!(call.result, "0");
            let opens = |open: &&Call| open.name == "openat" && open.result == call.arguments;
            let opened = calls[..number].iter().rev().find(opens).expect("it was opened");
            if opened.arguments.contains("O_DIRECTORY") && !opened.arguments.contains("O_TMPFILE") {
                synced.push((number, opened.arguments.split('"').nth(1).unwrap().to_owned()));
            }
        }
        let paths: Vec<_> = synced.iter().map(|(_, path)| Path::new(path)).collect();
        assert_eq!(paths, expected.iter().map(AsRef::as_ref).collect::<Vec<&Path>>(), "channel {id}");
        // What is made in a directory comes after the sync of the directory's own name.
        for (number, parent) in &synced {
            let made = |call: &&Call| call.name == "mkdir" && call.result == "0";
            let inside = calls.iter().enumerate().filter(|(_, call)| made(call));
            for (at, call) in inside {
                let new = Path::new(call.arguments.split('"').nth(1).unwrap());
                let grandparent = new.parent().and_then(Path::parent);
                assert!(
                    grandparent != Some(Path::new(parent)) || at > *number,
                    "{} in {parent}",
                    new.display()
                );
            }
        }
    }
}
