//! `kek info`, `ls`, `verify` and `seal`, and what every verb says of a file that is no channel.

mod common;

use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of, wait_for_records};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

#[test]
fn info_tells_what_a_channel_is() {
    let place = Place::new();
    let path = place.channel("a.kek", "one\ntwo\n");
    let info = info(&path);
    assert_eq!(info["path"], path.to_str().unwrap());
    assert_eq!(info["format"], "2.0-draft");
    assert_eq!(info["state"], "closed");
    assert_eq!(info["writer_id"], "0");
    assert_eq!(info["channel_id"], "0");
    assert_eq!(info["capacity"], 1_u64 << 30);
    assert_eq!(info["max_record_len"], 1 << 20);
    assert_eq!(info["timeout"], serde_json::Value::Null);
    assert!(info["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(info["records"], 2);
    assert_eq!(info["tail"], 48);
    assert!(info["synced"].is_u64());
    assert!(["machine", "process"].contains(&info["durability"].as_str().unwrap()));
    assert_eq!(info["checksum"], "crc32c");
    assert_eq!(info["meta"], serde_json::json!({}));
    assert_eq!(info["stages"][0]["name"], "timestamp");
    let text = stdout_of(kek().arg("info").arg(&path));
    for line in ["state           closed", "records         2", "stage           timestamp (id 1, version 1)"]
    {
        assert!(text.lines().any(|there| there == line), "{line} is missing in {text}");
    }
}

#[test]
fn durability_is_that_of_the_file_system() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = memory.path().join("a.kek");
    assert!(kek().arg("write").arg(&path).run("x\n").status.success());
    assert_eq!(info(&path)["durability"], "process");
}

#[test]
fn every_state_has_its_name() {
    let place = Place::new();
    let open = place.path("open");
    let mut writer = Running::start(kek().arg("write").arg(&open));
    wait_for_records(&open, 0);
    assert_eq!(info(&open)["state"], "open");
    assert_eq!(info(&open)["sealed"], false);
    assert!(writer.is_running());
    let full = place.path("full");
    kek().args(["write", "--capacity", "4K"]).arg(&full).run("x\n".repeat(1000));
    assert_eq!(info(&full)["state"], "full");
    let abandoned = place.abandoned("abandoned", "x\n");
    assert_eq!(info(&abandoned)["state"], "abandoned");
    assert_eq!(info(&abandoned)["records"], 1);
    assert_eq!(info(&abandoned)["sealed"], false);
}

#[test]
fn ls_lists_channels_passes_over_the_rest_and_names_the_unreadable() {
    let place = Place::new();
    place.channel("b.kek", "one\n");
    place.channel("a.kek", "one\ntwo\n");
    place.file("notes.txt", "no channel");
    place.file("empty", "");
    std::fs::create_dir(place.path("dir")).unwrap();
    symlink(place.path("a.kek"), place.path("link")).unwrap();
    mkfifo(&place.path("fifo"), Mode::S_IRWXU).unwrap();
    let table = stdout_of(kek().arg("ls").arg(place.dir()));
    let names: Vec<_> = table.lines().map(|line| line.split_whitespace().next_back().unwrap()).collect();
    assert_eq!(names, ["NAME", "a.kek", "b.kek"]);
    let lines = stdout_of(kek().args(["ls", "--json"]).current_dir(place.dir()));
    let records: Vec<_> = lines.lines().map(|line| json(line)["records"].as_u64().unwrap()).collect();
    assert_eq!(records, [2, 1]);
    place.file("new", with_version(&place.path("a.kek"), 3));
    let output = kek().arg("ls").arg(place.dir()).run("");
    assert_fails(&output, 3, "format version 3.0 is not supported");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), table);
    assert_fails(&kek().arg("ls").arg(place.path("nope")).run(""), 3, "cannot list");
    assert_fails(&kek().arg("ls").arg(place.path("empty")).run(""), 3, "is not a directory");
}

/// The bytes of the channel, with another major version.
fn with_version(path: &Path, major: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    // The version is a little-endian u64 behind the magic: major, minor and the rest from the top.
    bytes[8..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, major, 0]);
    bytes
}

#[test]
fn what_is_no_channel_exits_with_three_and_one_line() {
    let place = Place::new();
    let good = place.channel("good", "one\n");
    mkfifo(&place.path("fifo"), Mode::S_IRWXU).unwrap();
    symlink(&good, place.path("link")).unwrap();
    let random: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (path, says) in [
        (place.path("nope"), "does not exist"),
        (place.file("empty", ""), "not a kekbit channel"),
        (place.file("random", random), "not a kekbit channel"),
        (place.file("text", "hello"), "not a kekbit channel"),
        (place.file("newer", with_version(&good, 4)), "version 4.0 is not supported"),
        (place.file("new", with_version(&good, 3)), "version 3.0 is not supported"),
        (place.path("fifo"), "FIFO"),
        (place.path("link"), "symbolic link"),
        (place.dir().to_owned(), "directory"),
        (good.join("below"), "Not a directory"),
    ] {
        for verb in ["cat", "tail", "info", "verify", "seal"] {
            let output = kek().arg(verb).arg(&path).run("");
            assert_fails(&output, 3, says);
            assert!(output.stdout.is_empty(), "{output:?}");
        }
    }
}

#[test]
fn names_that_break_lines_do_not_break_what_is_printed() {
    let place = Place::new();
    let path = place.path("a\nb\u{1b}[31m.kek");
    let written = kek().args(["write", "--meta", "k=1\nstate  torn"]).arg(&path).run("one\n");
    assert_fails(&written, 0, r"a\nb\u{1b}[31m.kek");
    let table = stdout_of(kek().arg("ls").arg(place.dir()));
    assert!(table.lines().count() == 2 && table.ends_with(" a\\nb\\u{1b}[31m.kek\n"), "{table}");
    let info = stdout_of(kek().arg("info").arg(&path));
    assert!(info.contains(r"meta            k=1\nstate  torn"), "{info}");
    assert_eq!(stdout_of(kek().arg("verify").arg(&path)).lines().count(), 1);
    assert_fails(&kek().arg("cat").arg(place.path("no\nne")).run(""), 3, r"no\nne does not exist");
}

#[test]
fn missing_rights_are_another_error() {
    let place = Place::new();
    let path = place.channel("a.kek", "one\n");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    std::fs::set_permissions(place.dir(), PermissionsExt::from_mode(0o755)).unwrap();
    // Rights do not bind root, and nobody else may be able to reach the place where the command was built. It is copied
    // by another process: a descriptor of our own could be inherited by what other tests start, and the file be busy.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_kek")).arg(place.path("kek")).status();
    assert!(copied.unwrap().success());
    let unprivileged = || {
        let mut command = Command::new(place.path("kek"));
        if geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command
    };
    for verb in ["cat", "tail", "info", "verify", "seal"] {
        assert_fails(&unprivileged().arg(verb).arg(&path).run(""), 7, "ermission denied");
    }
    std::fs::set_permissions(place.dir(), PermissionsExt::from_mode(0o555)).unwrap();
    assert_fails(&unprivileged().arg("write").arg(place.path("b.kek")).run("x\n"), 7, "ermission denied");
    std::fs::set_permissions(place.dir(), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn verify_passes_every_sound_state() {
    let place = Place::new();
    let closed = place.channel("closed", "one\ntwo\n");
    let abandoned = place.abandoned("abandoned", "one\n");
    let open = place.path("open");
    let mut writer = Running::start(kek().arg("write").arg(&open));
    writer.write("one\n");
    wait_for_records(&open, 1);
    let printed = stdout_of(kek().arg("verify").args([&closed, &abandoned, &open]));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(lines[0].ends_with("closed: closed, 2 records, 48 bytes, no damage"), "{printed}");
    assert!(lines[1].ends_with("abandoned: abandoned, 1 record, 24 bytes, no damage"), "{printed}");
    assert!(lines[2].ends_with("open: open, 1 record, 24 bytes, no damage"), "{printed}");
}

#[test]
fn verify_goes_on_behind_a_damaged_channel_and_damage_outweighs_the_rest() {
    let place = Place::new();
    let (good, bad) = (place.channel("good", "one\n"), place.channel("bad", "one\n"));
    let file = std::fs::OpenOptions::new().write(true).open(&bad).unwrap();
    // In the only record; the data is the last page.
    file.write_all_at(b"X", bad.metadata().unwrap().len() - 4096 + 16).unwrap();
    let output = kek().arg("verify").args([&place.path("nope"), &bad, &good]).run("");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("does not exist") && stderr.contains("corrupt at position 0"), "{stderr}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("good: closed"));
}

#[test]
fn verify_finds_damage_in_the_header() {
    let place = Place::new();
    let path = place.channel("a.kek", "one\n");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 8], 40).unwrap();
    assert_fails(&kek().arg("verify").arg(&path).run(""), 1, "damaged header");
    assert_fails(&kek().arg("cat").arg(&path).run(""), 3, "damaged header");
    file.set_len(5000).unwrap();
    assert_eq!(kek().arg("verify").arg(&path).run("").status.code(), Some(1));
}

#[test]
fn seal_refuses_while_the_writer_lives_and_ends_what_it_left() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    writer.write("one\n");
    wait_for_records(&path, 1);
    assert_fails(&kek().arg("seal").arg(&path).run(""), 4, "live writer");
    assert_fails(&kek().arg("write").arg(&path).run(""), 4, "exists already");
    writer.signal(Signal::SIGKILL);
    writer.status();
    let sealed = kek().arg("seal").arg(&path).run("");
    assert_fails(&sealed, 0, "it was abandoned, and is sealed before sequence 1");
    assert_eq!(info(&path)["state"], "abandoned");
    assert_eq!(info(&path)["sealed"], true);
    assert_eq!(stdout_of(kek().arg("cat").arg(&path)), "one\n");
    assert_fails(&kek().arg("seal").arg(&path).run(""), 0, "has ended already: it is abandoned");
    assert_fails(&kek().args(["tail", "-f"]).arg(&path).run(""), 6, "abandoned");
    let closed = place.channel("closed", "one\n");
    assert_fails(&kek().arg("seal").arg(&closed).run(""), 0, "has ended already: it is closed");
}

#[test]
fn a_torn_channel_is_what_it_is_until_it_is_sealed() {
    let place = Place::new();
    let original = place.abandoned("original", "one\ntwo\nthree\n");
    // A copy counts as written in another boot: what was not synced before its damage is torn.
    let path = place.path("torn");
    std::fs::copy(&original, &path).unwrap();
    let lines = stdout_of(kek().args(["cat", "--json"]).arg(&path));
    let third = json(lines.lines().nth(2).unwrap())["pos"].as_u64().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|window| window == b"three").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", at as u64).unwrap();

    assert_eq!(info(&path)["state"], "torn");
    assert_fails(&kek().arg("verify").arg(&path).run(""), 1, &format!("torn at position {third}: 2 records"));
    for verb in ["cat", "tail"] {
        let output = kek().arg(verb).arg(&path).run("");
        assert_fails(&output, 0, "torn: what follows is damaged or lost");
        assert_eq!(output.stdout, b"one\ntwo\n");
    }
    let output = kek().args(["tail", "-f"]).arg(&path).run("");
    assert_fails(&output, 6, "torn");
    assert_eq!(output.stdout, b"one\ntwo\n");
    assert_fails(&kek().arg("seal").arg(&path).run(""), 0, "it was torn, and is sealed before sequence 2");
    assert!(stdout_of(kek().arg("verify").arg(&path)).contains("2 records"));
    assert_eq!(info(&path)["state"], "abandoned");
    let output = kek().arg("cat").arg(&path).run("");
    assert!(output.stdout == b"one\ntwo\n" && output.stderr.is_empty(), "{output:?}");
}
