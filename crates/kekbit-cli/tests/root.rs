//! Channels by their ids, below a root directory; and the unit of time that `kek write` is told.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{Place, Run, assert_fails, info, json, kek, stdout_of};
use kekbit::{Channel, TickUnit};
use nix::unistd::geteuid;

#[test]
fn a_channel_is_written_and_read_by_its_id() {
    let place = Place::new();
    let root = place.path("not/there/yet");
    let file = place.path("file");
    fs::write(&file, "one\ntwo\n").unwrap();
    let run = kek().arg("write").arg("--root").arg(&root).arg("0xAAAABBBBCCCCDDDD").arg(&file).run("");
    assert!(run.status.success(), "{run:?}");
    assert!(root.join("aaaa_bbbb/cccc_dddd.kekbit").is_file());
    let by_id = |verb: &str| {
        let mut command = kek();
        command.arg(verb).arg("--root").arg(&root).arg(0xAAAA_BBBB_CCCC_DDDD_u64.to_string());
        command
    };
    assert_eq!(stdout_of(&mut by_id("cat")), "one\ntwo\n");
    assert_eq!(stdout_of(by_id("tail").args(["-n", "1"])), "two\n");
    assert_eq!(json(&stdout_of(by_id("info").arg("--json")))["channel_id"], "12297848147757817309");
    assert!(stdout_of(&mut by_id("verify")).contains("cccc_dddd.kekbit"));
    assert!(by_id("seal").run("").status.success());
    let again = by_id("write").run("x\n");
    assert_fails(&again, 4, "exists already");
}

#[test]
fn what_is_no_id_and_what_is_not_there_are_told() {
    let place = Place::new();
    for verb in ["write", "cat", "tail", "info", "verify", "seal"] {
        assert_fails(&kek().arg(verb).arg("--root").arg(place.path("")).arg("orders").run(""), 2, "`orders`");
    }
    let missing = kek().arg("cat").arg("--root").arg(place.path("")).arg("7").run("");
    assert_fails(&missing, 3, "0000_0000/0000_0007.kekbit");
    let both = kek().args(["write", "--channel-id", "8", "--root"]).arg(place.path("")).arg("7").run("");
    assert_eq!(both.status.code(), Some(2));
    let journal = kek().args(["write", "--roll-bytes", "1M", "--root"]).arg(place.path("")).arg("7").run("");
    assert_fails(&journal, 2, "--root");
}

#[test]
fn ls_lists_the_channels_that_are_named_after_their_ids() {
    let place = Place::new();
    place.channel("plain.kek", "x\n");
    for id in ["5", "0x100000002"] {
        assert!(kek().arg("write").arg("--root").arg(place.path("")).arg(id).run("x\n").status.success());
    }
    fs::create_dir(place.path("other")).unwrap();
    place.channel("other/0000_0005.kekbit", "x\n");
    place.channel("0000_0000/plain.kek", "x\n");
    let text = stdout_of(kek().arg("ls").arg(place.path("")));
    let names: Vec<_> = text.lines().skip(1).map(|line| line.split_whitespace().last().unwrap()).collect();
    assert_eq!(names, ["0000_0000/0000_0005.kekbit", "0000_0001/0000_0002.kekbit", "plain.kek"]);
    let objects = stdout_of(kek().args(["ls", "--json"]).arg(place.path("")));
    let ids: Vec<_> =
        objects.lines().map(|line| json(line)["channel_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["5", "4294967298", "0"]);
    // Of one of the directories: as of any other.
    let text = stdout_of(kek().arg("ls").arg(place.path("0000_0000")));
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_directory_of_channels_that_cannot_be_listed_is_named() {
    let place = Place::new();
    // Where somebody else may run it, should this be root, who may list everything.
    fs::set_permissions(place.dir(), PermissionsExt::from_mode(0o755)).unwrap();
    // By another process, as in `inspect`.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_kek")).arg(place.path("kek")).status();
    assert!(copied.unwrap().success());
    assert!(kek().arg("write").arg("--root").arg(place.path("")).arg("5").run("x\n").status.success());
    let closed = place.path("0000_0000");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    let mut command = Command::new(place.path("kek"));
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let run = command.arg("ls").arg(place.path("")).run("");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    assert_fails(&run, 7, "0000_0000");
}

#[test]
fn times_are_recorded_in_the_unit_that_was_chosen() {
    let place = Place::new();
    for unit in TickUnit::ALL {
        let path = place.path(&unit.to_string());
        let run =
            kek().args(["write", "--timeout", "1500ms", "--tick", &unit.to_string()]).arg(&path).run("x\n");
        assert!(run.status.success(), "{run:?}");
        let timeout = if unit == TickUnit::Secs { "2s" } else { "1s 500ms" };
        let info = info(&path);
        assert_eq!(
            (info["tick"].as_str(), info["timeout"].as_str()),
            (Some(&*unit.to_string()), Some(timeout))
        );
        assert_eq!(info["stages"][0]["tick"].as_str(), Some(&*unit.to_string()));
        let text = stdout_of(kek().arg("info").arg(&path));
        assert!(text.lines().any(|line| line == format!("tick            {unit}")), "{text}");

        let channel = Channel::open(&path).unwrap();
        assert_eq!(channel.tick_unit(), unit);
        let nanos = channel.records().next().unwrap().unwrap().timestamp_nanos().unwrap();
        assert_eq!(nanos % unit.nanos(), 0, "{unit}");
        assert!(nanos.abs_diff(channel.created_nanos()) < 60_000_000_000, "{unit}");
    }
    let unknown = kek().args(["write", "--tick", "minutes"]).arg(place.path("no")).run("");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("`ns`"), "{unknown:?}");
}

#[test]
fn a_journal_tells_what_its_newest_channel_says() {
    let place = Place::new();
    let path = place.path("orders");
    for (tick, writer) in [("us", "1"), ("ms", "2")] {
        let mut command = kek();
        command.args(["write", "--roll-bytes", "64K", "--tick", tick, "--writer-id", writer]);
        let run = command.args(["--channel-id", "0x2a", "--timeout", "5s"]).arg(&path).run("x\n");
        assert!(run.status.success(), "{run:?}");
    }
    let info = info(&path);
    for (key, value) in [("tick", "ms"), ("writer_id", "2"), ("channel_id", "42"), ("timeout", "5s")] {
        assert_eq!(info[key], value, "{key}");
    }
    let text = stdout_of(kek().arg("info").arg(&path));
    for line in ["writer id       2", "channel id      42", "tick            ms", "timeout         5s"] {
        assert!(text.lines().any(|there| there == line), "{line} is missing in {text}");
    }
}
