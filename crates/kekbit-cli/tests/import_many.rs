//! `kek import` of whole roots, what it leaves behind when it fails, and what it says of handlers that nobody has named.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of, wait_until};
use kekbit::{Channel, Start, TickUnit};
use nix::sys::signal::Signal;

/// In milliseconds.
const CREATED: u64 = 1_600_000_000_000;

/// So many records of eight bytes.
fn numbers(count: u64) -> impl Iterator<Item = [u8; 8]> {
    (0..count).map(u64::to_le_bytes)
}

/// `kek import` in a process whose files may have 64 KiB.
fn short_of_space() -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 128; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_kek"), "import"]);
    shell
}

#[test]
fn an_import_without_space_leaves_no_new_channel() {
    let place = Place::new();
    let old = place.original("0000_0000/0000_002a.kekbit", 42, CREATED, numbers(100_000));
    let (new, root) = (place.path("new.kek"), place.path("root"));
    let failed = short_of_space().args([&old, &new]).run("");
    assert_fails(&failed, 5, "of 100000 records had been copied");
    assert_fails(&failed, 5, "new.kek is removed again");
    assert!(!new.exists());
    let failed = short_of_space().arg("--root").args([&root, &old]).run("");
    assert_fails(&failed, 5, "0000_0000/0000_002a.kekbit is removed again");
    assert!(!Channel::path_in(&root, 42).exists());
    // With space it works.
    assert!(kek().arg("import").args([&old, &new]).run("").status.success());
    assert_eq!(info(&new)["records"], 100_000);
    // What was there before is not removed.
    assert_fails(&kek().arg("import").args([&old, &new]).run(""), 4, "exists already");
    assert_eq!(info(&new)["records"], 100_000);
}

#[test]
fn in_a_journal_what_was_copied_stays_and_is_appended_again() {
    let place = Place::new();
    let (old, journal) =
        (place.original("old.kekbit", 42, CREATED, numbers(100_000)), place.path("journal/"));
    let failed = short_of_space().args([&old, &journal]).run("");
    assert_fails(&failed, 5, "importing again appends them again: begin with an empty directory");
    let there = info(&journal)["records"].as_u64().unwrap();
    assert!(0 < there && there < 100_000);
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert!(stderr.contains(&format!("{there} of 100000 records had been copied; they stay in")), "{stderr}");
    assert!(kek().arg("import").args([&old, &journal]).run("").status.success());
    assert_eq!(info(&journal)["records"], there + 100_000);
    let help = stdout_of(kek().args(["import", "--help"]));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("importing again appends it again: begin with an empty directory"), "{help}");
}

#[test]
fn a_signal_ends_an_import_and_leaves_no_new_channel() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        // One that is copied before the signal arrives is complete; a longer one is not.
        let interrupted = (0..6).any(|doubled| {
            let place = Place::new();
            let records = 200_000 << doubled;
            let old = place.original("old.kekbit", 42, CREATED, numbers(records));
            let new = place.path("new.kek");
            let mut import = Running::start(kek().arg("import").args([&old, &new]));
            wait_until("its creation", || new.exists() || !import.is_running());
            if import.is_running() {
                import.signal(signal);
            }
            let status = import.status();
            let stderr = import.stderr();
            if status.success() {
                assert_eq!(info(&new)["records"], records);
                return false;
            }
            assert_eq!(status.code(), Some(code), "{stderr}");
            assert!(
                stderr.contains("interrupted; ") && stderr.contains("new.kek is removed again"),
                "{stderr}"
            );
            assert!(!new.exists());
            true
        });
        assert!(interrupted, "every import was faster than {signal}");
    }
}

#[test]
fn a_whole_root_is_imported_by_the_ids_in_the_headers() {
    let place = Place::new();
    let (ids, root) = ([42, 43, 0x1_0000_0002], place.path("root"));
    let olds = ids.map(|id| {
        let name = Channel::path_in("old", id);
        place.original(name.to_str().unwrap(), id, CREATED, [format!("of {id}")])
    });
    let imported = kek().args(["import", "--json", "--root"]).arg(&root).args(&olds).run("");
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    assert_eq!(String::from_utf8_lossy(&imported.stderr).lines().count(), ids.len(), "{imported:?}");
    let objects = String::from_utf8(imported.stdout).unwrap();
    assert_eq!(objects.lines().map(|line| json(line)["records"].as_u64()).collect::<Vec<_>>(), [Some(1); 3]);
    assert_eq!(Channel::ids_in(&root).unwrap(), ids);
    for id in ids {
        let channel = Channel::open_in(&root, id).unwrap();
        assert_eq!(&channel.records().next().unwrap().unwrap()[..], format!("of {id}").as_bytes());
        assert_eq!(channel.writer_id(), 1850);
    }
    // The id is not the name's, one is missing, one is damaged, and one is there already: the others are imported all the same.
    let renamed = place.original("any.name", 44, CREATED, ["x"]);
    let damaged = place.original("damaged.kekbit", 45, CREATED, ["good", "bad"]);
    File::options().write(true).open(&damaged).unwrap().write_all_at(&[0xff; 2], 1024 + 16).unwrap();
    let mixed = [&place.path("none"), &olds[0], &damaged, &renamed];
    let imported = kek().args(["import", "--root"]).arg(&root).args(mixed).run("");
    assert_eq!(imported.status.code(), Some(4), "{imported:?}");
    let stderr = String::from_utf8(imported.stderr).unwrap();
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 4, "{stderr}");
    assert!(
        lines[1].contains("0000_002a.kekbit exists already") && lines[1].contains("another root"),
        "{stderr}"
    );
    assert!(lines[0].contains("does not exist") && lines[2].contains("corrupt at position 16"), "{stderr}");
    assert!(lines[3].contains("no damage"), "{stderr}");
    assert_eq!(Channel::ids_in(&root).unwrap(), [42, 43, 44, 45, 0x1_0000_0002]);
    // Only with a root there may be several.
    for paths in [&olds[..], &olds[..1]] {
        assert_fails(&kek().arg("import").args(paths).run(""), 2, "--root DIR");
    }
}

#[test]
fn of_a_root_it_is_said_how_its_channels_are_named() {
    let place = Place::new();
    place.original("old/0000_0000/0000_002a.kekbit", 42, CREATED, ["x"]);
    let old = place.path("old");
    let dir = old.display();
    for verb in ["info", "verify", "cat", "tail"] {
        let refused = kek().arg(verb).arg(&old).run("");
        assert_fails(&refused, 3, &format!("`kek ls {dir}` lists its channels, `--root {dir} ID` names one"));
    }
    let refused = kek().arg("import").args([&old, &place.path("x.kek")]).run("");
    assert_fails(
        &refused,
        3,
        &format!("`kek import --root NEWROOT {dir}/*_*/*_*.kekbit` imports its channels"),
    );
    // Nor are the directories of one file made.
    let channel = Channel::path_in(&old, 42);
    let refused = kek().arg("import").args([&channel, &Channel::path_in(place.path("new"), 42)]).run("");
    assert_fails(&refused, 3, "--root DIR creates the directories");
    let refused = kek().arg("import").args([&channel, &place.path("new/x.kek")]).run("");
    assert!(refused.status.code() == Some(3) && !String::from_utf8_lossy(&refused.stderr).contains("--root"));
    // Of another directory it is said what it was.
    fs::create_dir(place.path("other")).unwrap();
    place.file("other/file", "x");
    assert_fails(&kek().arg("info").arg(place.path("other")).run(""), 3, "`kek write` begins one");
    let refused = kek().arg("import").args([place.path("other"), place.path("x.kek")]).run("");
    assert_fails(&refused, 3, "is a directory, not a regular file");
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("NEWROOT"));
}

#[test]
fn times_that_nobody_has_named_are_noticed() {
    let place = Place::new();
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let created = nanos / 1_000_000;
    let mut round = 0;
    let mut stderr_of = |arguments: &[&str], created: u64, words: &[u64]| {
        round += 1;
        let records =
            words.iter().map(|word| [&word.to_le_bytes()[..], &word.to_le_bytes(), b"payload"].concat());
        let old = place.original(&format!("{round}.kekbit"), 42, created, records);
        let imported =
            kek().arg("import").args(arguments).args([&old, &place.path(&format!("{round}.kek"))]).run("");
        assert_eq!(imported.status.code(), Some(0), "{imported:?}");
        String::from_utf8(imported.stderr).unwrap()
    };
    for unit in TickUnit::ALL {
        let ticks = nanos / unit.nanos();
        let told = stderr_of(&[], created, &[ticks; 120]);
        assert!(told.contains(&format!("import it anew with --timestamp {unit}")), "{told}");
        // Whoever names it is not told, nor who wants to hear nothing.
        let named = stderr_of(&["--timestamp", &unit.to_string()], created, &[ticks; 120]);
        assert!(!named.contains("anew") && named.contains("its records are from"), "{named}");
        assert_eq!(stderr_of(&["-q"], created, &[ticks; 120]), "");
        // One of the first hundred is something else: before the creation, or not yet.
        for other in [ticks - 2_000_000_000 / unit.nanos(), ticks + 400_000_000_000_000 / unit.nanos()] {
            let mut words = [ticks; 120];
            words[99] = other;
            let told = stderr_of(&[], created, &words);
            assert!(!told.contains("anew"), "{unit}: {told}");
        }
        let mut words = [ticks; 120];
        words[100] = 7;
        assert!(stderr_of(&[], created, &words).contains("anew"), "{unit}");
    }
    // No records, short ones, and a header that tells no time.
    assert!(!stderr_of(&[], created, &[]).contains("anew"));
    assert!(!stderr_of(&[], 0, &[1, 2, 3]).contains("anew"));
    let short = place.original("short.kekbit", 42, created, ["short"]);
    let imported = kek().arg("import").args([&short, &place.path("short.kek")]).run("");
    assert!(!String::from_utf8_lossy(&imported.stderr).contains("anew"), "{imported:?}");
}

#[test]
fn units_have_the_names_of_both() {
    let place = Place::new();
    let ticks = CREATED + 5;
    let old = place.original("old.kekbit", 42, CREATED, [ticks.to_le_bytes()]);
    for unit in ["ms", "millis"] {
        let new = place.path(unit);
        assert!(kek().args(["import", "--timestamp", unit]).args([&old, &new]).run("").status.success());
        let mut reader = Channel::open(&new).unwrap().reader(Start::Beginning).unwrap();
        assert_eq!(reader.try_next().unwrap().unwrap().timestamp_nanos(), Some(ticks * 1_000_000));
        let written = place.path(&format!("written.{unit}"));
        assert!(kek().args(["write", "--tick", unit]).arg(&written).run("x\n").status.success());
        assert_eq!(info(&written)["tick"], "ms");
    }
    let refused = kek().args(["import", "--timestamp", "minutes"]).args([&old, &place.path("x")]).run("");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`ms`"), "{refused:?}");
}

#[test]
fn a_quiet_import_tells_damage_only() {
    let place = Place::new();
    let old = place.original("old.kekbit", 42, CREATED, ["good", "bad"]);
    let quiet = kek().args(["import", "-q"]).args([&old, &place.path("a.kek")]).run("");
    assert_eq!((quiet.status.code(), &*quiet.stderr), (Some(0), &b""[..]));
    File::options().write(true).open(&old).unwrap().write_all_at(&[0xff; 2], 1024 + 16).unwrap();
    let damaged = kek().args(["import", "-q"]).args([&old, &place.path("b.kek")]).run("");
    assert_fails(&damaged, 1, "corrupt at position 16");
    assert_eq!(stdout_of(kek().arg("cat").arg(place.path("b.kek"))), "good\n");
}
