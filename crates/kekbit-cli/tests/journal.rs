//! The command with journals: directories of channels that follow one another.

mod common;

use std::fs;
use std::path::Path;

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of, wait_until};
use kekbit::Journal;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Appends these lines to the journal.
fn append(path: &Path, options: &[&str], lines: &str) {
    let written = kek().args(["write", "--quiet"]).args(options).arg(path).run(lines);
    assert_eq!(written.status.code(), Some(0), "{written:?}");
}

fn numbers(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

fn cat(path: &Path, options: &[&str]) -> String {
    stdout_of(kek().arg("cat").args(options).arg(path))
}

/// A journal of 300 numbers in small channels, written in three runs.
fn journal(place: &Place) -> std::path::PathBuf {
    let path = place.path("numbers");
    append(&path, &["--roll-bytes", "4K"], &numbers(0..100));
    append(&path, &[], &numbers(100..250));
    append(&path, &["--no-timestamp"], &numbers(250..300));
    path
}

#[test]
fn a_directory_is_a_journal_that_each_run_goes_on_with() {
    let place = Place::new();
    let path = journal(&place);
    assert_eq!(cat(&path, &[]), numbers(0..300));
    let channels = fs::read_dir(&path)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".kek"));
    assert!(channels.count() >= 3);
    // An empty directory becomes one, too, and what is called like a directory.
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    for path in [empty, place.path("called/")] {
        for line in ["one\n", "two\n"] {
            append(&path, &[], line);
        }
        assert_eq!(cat(&path, &[]), "one\ntwo\n");
    }
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let place = Place::new();
    let path = place.path("refused");
    assert_fails(&kek().args(["write", "--roll-bytes", "100"]).arg(&path).run("one\n"), 2, "100 bytes");
    assert!(!path.exists());
}

#[test]
fn a_limit_stays_until_another_is_set_or_none() {
    let place = Place::new();
    let path = place.path("limited");
    let limits = || {
        let status = info(&path);
        ["roll_bytes", "roll_every", "retain_bytes", "retain_age", "retain_count", "retain_cursors"]
            .map(|key| status[key].to_string())
    };
    let options = ["--roll-bytes=64K", "--roll-every=day", "--retain-bytes=1M", "--retain-age=1h"];
    append(&path, &[&options[..], &["--retain-count=9", "--retain-cursors"]].concat(), "one\n");
    let all = ["65536", "\"day\"", "1048576", "\"1h\"", "9", "true"];
    assert_eq!(limits(), all);
    append(&path, &[], "two\n");
    assert_eq!(limits(), all);
    append(&path, &["--roll-every=hour", "--retain-bytes=none", "--retain-cursors=no"], "three\n");
    assert_eq!(limits(), ["65536", "\"hour\"", "null", "\"1h\"", "9", "false"]);
    append(&path, &["--roll-every=none", "--retain-age=none", "--retain-count=none"], "four\n");
    assert_eq!(limits(), ["65536", "null", "null", "null", "null", "false"]);
    assert_eq!(cat(&path, &[]), "one\ntwo\nthree\nfour\n");
}

#[test]
fn what_is_no_journal_is_refused() {
    let place = Place::new();
    let other = place.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    assert_fails(&kek().arg("write").arg(&other).run("one\n"), 4, "other things in it");
    for verb in ["cat", "tail", "info", "verify", "retain"] {
        assert_fails(&kek().arg(verb).arg(&other).run(""), 3, "no journal");
    }
    assert_fails(&kek().args(["cursor", "ls"]).arg(&other).run(""), 3, "no journal");
    assert_fails(
        &kek().arg("stat").arg(other.join("notes.txt")).run(""),
        3,
        "it is no directory: a journal is a directory",
    );
    assert_fails(&kek().arg("stat").arg(place.path("missing")).run(""), 3, "missing does not exist");
    let channel = place.channel("one.kek", "one\n");
    assert_fails(&kek().args(["tail", "-F"]).arg(&channel).run(""), 2, "-F is for journals");
    assert_fails(&kek().args(["write", "--retain-count", "3"]).arg(&channel).run("x\n"), 4, "no directory");
    assert_fails(&kek().arg("write").arg(place.path("one.kek/")).run("x\n"), 4, "no directory");
    let path = journal(&place);
    assert_fails(&kek().args(["cat", "--untrusted"]).arg(&path).run(""), 2, "--untrusted");
}

#[test]
fn a_place_in_a_journal_is_named_as_in_a_channel() {
    let place = Place::new();
    let path = journal(&place);
    assert_eq!(cat(&path, &["--from", "123", "-n", "5"]), numbers(123..128));
    assert_eq!(cat(&path, &["--from", "-7"]), numbers(293..300));
    assert_eq!(cat(&path, &["--from", "end"]), "");
    assert_eq!(stdout_of(kek().arg("tail").arg(&path)), numbers(290..300));
    assert_eq!(stdout_of(kek().args(["tail", "-n", "200"]).arg(&path)), numbers(100..300));
    let line = json(cat(&path, &["--json", "--from", "42", "-n", "1"]).trim());
    assert_eq!((&line["seq"], &line["data"]), (&42.into(), &"42".into()));
}

#[test]
fn a_follower_goes_across_channels_and_with_capital_f_across_writers() {
    let place = Place::new();
    let path = place.path("live");
    append(&path, &["--roll-bytes", "4K"], &numbers(0..10));
    let mut forever = Running::start(kek().args(["tail", "-F", "--from", "start"]).arg(&path));
    let ended = stdout_of(kek().args(["tail", "-f", "--from", "start"]).arg(&path));
    assert_eq!(ended, numbers(0..10));
    for run in 1..4 {
        append(&path, &[], &numbers(200 * run..200 * (run + 1)));
    }
    let expected = numbers(0..10) + &numbers(200..800);
    for line in expected.lines() {
        assert_eq!(forever.line(), line);
    }
    forever.signal(Signal::SIGTERM);
    forever.status();
}

#[test]
fn a_journal_that_is_not_there_yet_is_waited_for() {
    let place = Place::new();
    let (missing, empty) = (place.path("missing"), place.path("empty"));
    fs::create_dir(&empty).unwrap();
    for path in [&missing, &empty] {
        assert_fails(&kek().args(["tail", "-f"]).arg(path).run(""), 3, "");
        assert_fails(&kek().args(["tail", "-f", "--wait=10ms"]).arg(path).run(""), 3, "has not appeared");
        let mut follower = Running::start(kek().args(["tail", "-F", "--from", "start"]).arg(path));
        assert_eq!(follower.error_line(), format!("kek: {}: waiting for it to appear", path.display()));
        append(path, &["--roll-bytes", "4K"], &numbers(0..300));
        for line in numbers(0..300).lines() {
            assert_eq!(follower.line(), line);
        }
        follower.signal(Signal::SIGTERM);
        follower.status();
    }
}

#[test]
fn a_killed_writer_is_succeeded_by_the_next() {
    let place = Place::new();
    let path = place.path("killed");
    for run in 0..4_u64 {
        let mut writer = Running::start(kek().args(["write", "--roll-bytes", "4K"]).arg(&path));
        writer.write(&numbers(100 * run..100 * (run + 1)));
        wait_until("the records are there", || {
            path.join("writer.lock").exists() && info(&path)["next_sequence"] == 100 * (run + 1)
        });
        if run == 0 {
            let second = kek().arg("write").arg(&path).run("x\n");
            assert_fails(&second, 4, "being written");
        }
        writer.signal(Signal::SIGKILL);
        writer.status();
        assert_fails(&kek().args(["tail", "-f"]).arg(&path).run(""), 6, "abandoned");
    }
    assert_eq!(cat(&path, &[]), numbers(0..400));
    assert_eq!(kek().arg("verify").arg(&path).run("").status.code(), Some(0));
}

#[test]
fn a_journal_gives_up_what_it_was_told_to_and_says_so() {
    let place = Place::new();
    let path = place.path("kept");
    append(&path, &["--roll-bytes", "4K", "--retain-count", "3"], &numbers(0..2000));
    let status = info(&path);
    assert_eq!((&status["retain_count"], &status["roll_bytes"]), (&3.into(), &4096.into()));
    assert_eq!((&status["next_sequence"], &status["state"]), (&2000.into(), &"closed".into()));
    assert!(status["channels"].as_u64().unwrap() <= 4, "{status}");
    let first = status["first_sequence"].as_u64().unwrap();
    assert_eq!(cat(&path, &[]), numbers(first..2000));
    assert_fails(&kek().args(["cat", "--from", "0"]).arg(&path).run(""), 6, "given up");
    // By hand, too; what a cursor needs stays if that is asked for.
    let unlimited = place.path("unlimited");
    append(&unlimited, &["--roll-bytes", "4K"], &numbers(0..10));
    let retained = kek().arg("retain").arg(&unlimited).run("");
    assert!(String::from_utf8_lossy(&retained.stderr).contains("told to keep everything"), "{retained:?}");
    append(&path, &["--retain-count", "50"], &numbers(2000..4000));
    stdout_of(kek().args(["cursor", "set"]).arg(&path).args(["slow", "2500"]));
    let kept = kek().args(["retain", "--count", "1", "--cursors"]).arg(&path).run("");
    assert_eq!(kept.status.code(), Some(0), "{kept:?}");
    let first = info(&path)["first_sequence"].as_u64().unwrap();
    assert!(first > 2000 && first <= 2500, "{first}");
    stdout_of(kek().args(["retain", "--quiet", "--count", "1"]).arg(&path));
    assert_eq!(info(&path)["channels"], 1);
}

#[test]
fn cursors_are_listed_moved_and_removed() {
    let place = Place::new();
    let path = journal(&place);
    let set = |name: &str, to: &str| {
        let set = kek().args(["cursor", "set"]).arg(&path).args([name, to]).run("");
        assert_eq!(set.status.code(), Some(0), "{set:?}");
        // Who is ahead of the journal is told.
        let told = String::from_utf8_lossy(&set.stderr).contains("past the end");
        assert_eq!(told, to == "1000", "{set:?}");
    };
    for (name, to) in [("a", "start"), ("b", "end"), ("c", "42"), ("d", "-3"), ("e", "1000")] {
        set(name, to);
    }
    let listed = stdout_of(kek().args(["cursor", "ls", "--json"]).arg(&path));
    let listed: Vec<_> = listed.lines().map(json).collect();
    let places: Vec<_> =
        listed.iter().map(|cursor| (cursor["sequence"].clone(), cursor["lag"].clone())).collect();
    assert_eq!(
        places,
        [(0, 300), (300, 0), (42, 258), (297, 3), (1000, 0)].map(|(a, b)| (a.into(), b.into()))
    );
    stdout_of(kek().args(["cursor", "rm"]).arg(&path).arg("c"));
    assert_fails(&kek().args(["cursor", "rm"]).arg(&path).arg("c").run(""), 3, "no cursor");
    assert_fails(&kek().args(["cursor", "set"]).arg(&path).args(["a/b", "0"]).run(""), 2, "no name");
    let text = stdout_of(kek().args(["cursor", "ls"]).arg(&path));
    assert!(text.lines().count() == 5 && text.contains("297"), "{text}");
    let stat = stdout_of(kek().args(["stat", "-i", "10ms", "-n", "2", "--json"]).arg(&path));
    assert_eq!(stat.lines().count(), 2);
    assert_eq!(json(stat.lines().next().unwrap())["cursors"][2]["lag"], 3);
    let stat = stdout_of(kek().args(["stat", "-i", "10ms", "-n", "1"]).arg(&path));
    assert!(stat.contains("d 3"), "{stat}");
}

#[test]
fn a_missing_channel_and_damage_in_one_are_found() {
    let place = Place::new();
    let path = journal(&place);
    let mut channels: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    channels.retain(|path| path.extension().is_some_and(|extension| extension == "kek"));
    channels.sort();
    fs::remove_file(&channels[1]).unwrap();
    let verified = kek().arg("verify").arg(&path).run("");
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(String::from_utf8_lossy(&verified.stderr).contains("the one before ends before"));
    // Whoever reads across the hole is told.
    let read = kek().arg("cat").arg(&path).run("");
    assert_eq!(read.status.code(), Some(6), "{read:?}");
    let mut bytes = fs::read(&channels[0]).unwrap();
    let at = bytes.windows(2).rposition(|pair| pair == b"12").unwrap();
    bytes[at] ^= 1;
    fs::write(&channels[0], bytes).unwrap();
    assert_eq!(kek().arg("verify").arg(&path).run("").status.code(), Some(1));
}

#[test]
fn a_journal_tells_what_the_records_of_its_newest_channel_are() {
    let place = Place::new();
    let journal = place.path("journal/");
    for content_type in ["text/plain", "application/json"] {
        let mut command = kek();
        command.args(["write", "--compress", "--tick", "ms", "--content-type", content_type]);
        assert!(command.arg(&journal).run("{}\n").status.success());
    }
    let info = info(&journal);
    assert_eq!(info["content_type"], "application/json");
    let [timestamp, lz4] = &info["stages"].as_array().unwrap()[..] else { panic!("{info}") };
    assert_eq!((&timestamp["tick"], &lz4["id"]), (&json!("ms"), &json!(4)));
    assert_eq!((&info["schema"], &info["layout"]), (&Value::Null, &Value::Null));
    let text = stdout_of(kek().arg("info").arg(&journal));
    let newest = Journal::channels(&journal).unwrap().pop().unwrap();
    let channel = stdout_of(kek().arg("info").arg(newest));
    let about = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("content type") || line.starts_with("stage"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(about(&text).len(), 3, "{text}");
    assert_eq!(about(&text), about(&channel));
}
