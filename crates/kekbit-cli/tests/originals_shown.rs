//! What `kek` shows of channels of kekbit 0.3 that are damaged, cut off, or another than their name says.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Place, Run, assert_fails, json, kek, stdout_of};
use kekbit::Channel;
use serde_json::json;

const CREATED: u64 = 1_600_000_000_000;
const DAMAGE: &str = "corrupt at position 32: neither the length of a record nor a mark";

/// Two good records, then one whose length cannot be.
fn damaged(place: &Place, name: &str) -> PathBuf {
    let path = place.original(name, 42, CREATED, ["one", "two", "three"]);
    File::options().write(true).open(&path).unwrap().write_all_at(&[0xff; 2], 1024 + 32).unwrap();
    path
}

/// Two good records, then one of which the file has two bytes.
fn cut(place: &Place, name: &str) -> PathBuf {
    let path = place.original(name, 42, CREATED, ["one", "two", "three"]);
    File::options().write(true).open(&path).unwrap().set_len(1024 + 42).unwrap();
    path
}

const LOSS: &str = "cut off at position 32: the first record that is lost has 5 bytes, of which 3 lie past the end of the file";

#[test]
fn backwards_the_good_records_are_printed_and_then_what_is_wrong_behind_them() {
    let place = Place::new();
    for (path, wrong) in [(damaged(&place, "damaged"), DAMAGE), (cut(&place, "cut"), LOSS)] {
        for (arguments, printed) in [
            (&[][..], "two\none\n"),
            (&["-n", "1"], "two\n"),
            (&["--from", "-1"], "two\n"),
            (&["--from", "1"], "two\n"),
        ] {
            let back = kek().args(["cat", "--reverse"]).args(arguments).arg(&path).run("");
            assert_fails(&back, 1, wrong);
            assert_eq!(String::from_utf8(back.stdout).unwrap(), printed, "{arguments:?}");
        }
        // What ends before the damage does not come to it, as forwards.
        for arguments in [&["--until", "1"][..], &["--reverse", "--until", "1"]] {
            assert_eq!(stdout_of(kek().arg("cat").args(arguments).arg(&path)), "one\n", "{arguments:?}");
        }
    }
    let good = place.original("good", 42, CREATED, ["one", "two"]);
    assert_eq!(stdout_of(kek().args(["cat", "--reverse"]).arg(&good)), "two\none\n");
}

#[test]
fn a_damaged_one_is_told_as_far_as_it_is_good() {
    let place = Place::new();
    let path = damaged(&place, "ch/damaged.kekbit");
    place.original("ch/good.kekbit", 43, CREATED, ["x"]);
    let told = kek().args(["info", "--json"]).arg(&path).run("");
    assert_fails(&told, 1, DAMAGE);
    let info = json(std::str::from_utf8(&told.stdout).unwrap());
    for (key, value) in [
        ("state", json!("corrupt")),
        ("sealed", json!(false)),
        ("writer_id", json!("1850")),
        ("channel_id", json!("42")),
        ("capacity", json!(16384)),
        ("records", json!(2)),
        ("tail", json!(32)),
        ("created", json!("2020-09-13T12:26:40.000000000Z")),
    ] {
        assert_eq!(info[key], value, "{key}");
    }
    let told = kek().arg("info").arg(&path).run("");
    assert_fails(&told, 1, DAMAGE);
    let text = String::from_utf8(told.stdout).unwrap();
    for line in ["state           corrupt", "records         2", "writer id       1850"] {
        assert!(text.lines().any(|there| there == line), "{line} is missing in {text}");
    }
    let listed = kek().arg("ls").arg(place.path("ch")).run("");
    assert_fails(&listed, 1, DAMAGE);
    let text = String::from_utf8(listed.stdout).unwrap();
    let states: Vec<_> = text.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(states, ["corrupt", "closed"], "{text}");
    let listed = kek().args(["ls", "--json"]).arg(place.path("ch")).run("");
    assert_fails(&listed, 1, DAMAGE);
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 2);
}

#[test]
fn what_is_lost_is_told_in_words_of_its_own() {
    let place = Place::new();
    let path = cut(&place, "cut");
    let text = stdout_of(kek().arg("info").arg(&path));
    let says = "cut-off, the first record that is lost has 5 bytes, of which 3 lie past the end of the file, as does all that \
                was written behind it";
    assert!(text.contains(says), "{text}");
    // No record of what was synced, and no word as if there were.
    assert!(!text.contains("what is synced"), "{text}");
    let imported = kek().args(["import", "--json"]).args([&path, &place.path("new.kek")]).run("");
    let report = json(std::str::from_utf8(&imported.stdout).unwrap());
    assert!(
        report["damage"].as_str().unwrap().starts_with("the first record that is lost has 5 bytes"),
        "{report}"
    );
    // If even its length is lost.
    File::options().write(true).open(&path).unwrap().set_len(1024 + 36).unwrap();
    let text = stdout_of(kek().arg("info").arg(&path));
    assert!(
        text.contains("all that was written behind the good records lies past the end of the file"),
        "{text}"
    );
}

#[test]
fn a_time_is_asked_for_in_words_that_the_format_has() {
    let place = Place::new();
    let path = place.original("old", 42, CREATED, ["one", "two"]);
    for (verb, arguments, printed, says) in [
        ("cat", &["--from", "@-5m"][..], "one\ntwo\n", "beginning with the first one"),
        ("tail", &["--from", "@-5m"], "one\ntwo\n", "beginning with the first one"),
        ("cat", &["--until", "@-5m"], "", "none is known to be before that time"),
    ] {
        let run = kek().arg(verb).args(arguments).arg(&path).run("");
        assert_fails(&run, 0, says);
        assert_eq!(String::from_utf8(run.stdout).unwrap(), printed);
        assert!(!String::from_utf8_lossy(&run.stderr).contains("block"), "{verb} {arguments:?}");
    }
}

/// Puts a copy of the channel 42 where 43 belongs.
fn misname(root: &Path) {
    fs::copy(Channel::path_in(root, 42), Channel::path_in(root, 43)).unwrap();
}

#[test]
fn a_channel_under_another_id_is_refused() {
    let place = Place::new();
    let [today, old] = ["today", "old"].map(|root| place.path(root));
    assert!(kek().args(["write", "--root"]).arg(&today).arg("42").run("x\n").status.success());
    place.original("old/0000_0000/0000_002a.kekbit", 42, CREATED, ["x"]);
    for (root, verbs) in
        [(&today, &["cat", "tail", "info", "verify", "seal"][..]), (&old, &["cat", "tail", "info", "verify"])]
    {
        misname(root);
        for verb in verbs {
            let refused = kek().arg(verb).arg("--root").arg(root).arg("43").run("");
            assert_fails(&refused, 3, "is channel 42, not 43 as its name says");
            assert!(refused.stdout.is_empty(), "{refused:?}");
            // By its own id, and by its path.
            assert!(kek().arg(verb).arg("--root").arg(root).arg("42").run("").status.success());
            assert!(kek().arg(verb).arg(Channel::path_in(root, 43)).run("").status.success());
        }
        let refused = kek().args(["cat", "--untrusted", "--root"]).arg(root).arg("43").run("");
        assert_fails(&refused, 3, "is channel 42, not 43");
    }
    let again = kek().args(["write", "--root"]).arg(&today).arg("42").run("x\n");
    assert_fails(&again, 4, "exists already: a channel is written once, choose another id");
}

#[test]
fn the_help_of_json_says_what_becomes_of_numbers() {
    for verb in ["cat", "tail"] {
        let help = stdout_of(kek().args([verb, "--help"]));
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            help.contains("jq before 1.7 rounds those above 2^53; NaN and infinities are null"),
            "{help}"
        );
    }
}
