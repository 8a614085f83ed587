//! `kek cat` and `kek tail`: what is printed, from where, in which form, and how it ends.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of, wait_for_records, wait_until};
use kekbit::{AppendContext, Handler, StageError, StageInfo, Writer};
use nix::sys::signal::Signal;

const FIVE: &str = "a\nb\nc\nd\ne\n";

#[test]
fn the_forms_of_output_are_what_their_names_say() {
    let place = Place::new();
    let path = place.path("a.kek");
    assert!(kek().args(["write", "-0"]).arg(&path).run(b"one\0\0\xff\n").status.success());
    for verb in ["cat", "tail"] {
        for (form, printed) in [
            (None, &b"one\n\n\xff\n\n"[..]),
            (Some("-0"), b"one\0\0\xff\n\0"),
            (Some("--null"), b"one\0\0\xff\n\0"),
            (Some("--raw"), b"one\xff\n"),
            (Some("--framed"), b"\x03\0\0\0one\0\0\0\0\x02\0\0\0\xff\n"),
            (Some("--hex"), b"6f6e65\n\nff0a\n"),
        ] {
            let output = kek().arg(verb).args(form).arg(&path).run("");
            assert!(output.status.success() && output.stdout == printed, "{verb} {form:?}: {output:?}");
        }
    }
}

#[test]
fn json_has_one_object_a_line() {
    let place = Place::new();
    let path = place.path("a.kek");
    assert!(kek().args(["write", "-0"]).arg(&path).run("h\u{e9}\"\n\0\u{0}").status.success());
    let framed =
        kek().args(["write", "--framed", "--no-timestamp"]).arg(place.path("b.kek")).run(b"\x01\0\0\0\xff");
    assert!(framed.status.success());
    let lines = stdout_of(kek().args(["cat", "--json"]).arg(&path));
    let records: Vec<_> = lines.lines().map(json).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["seq"], 0);
    assert_eq!(records[0]["pos"], 0);
    assert_eq!(records[0]["len"], 5);
    assert_eq!(records[0]["data"], "h\u{e9}\"\n");
    assert_eq!(records[0]["enc"], "utf8");
    assert_eq!(records[1]["seq"], 1);
    assert_eq!(records[1]["pos"], 24);
    let times = [&records[0], &records[1]].map(|record| record["ts"].as_str().unwrap().to_owned());
    assert!(times[0] <= times[1], "{times:?}");
    assert!(times[0].len() == "2026-01-01T00:00:00.000000000Z".len() && times[0].ends_with('Z'), "{times:?}");
    let line = stdout_of(kek().args(["cat", "--json"]).arg(place.path("b.kek")));
    assert_eq!(
        json(&line),
        serde_json::json!({"seq": 0, "pos": 0, "len": 1, "data": "/w==", "enc": "base64"})
    );
}

#[test]
fn long_records_become_the_same_json_and_hexadecimal_as_short_ones() {
    let place = Place::new();
    let texts = ["\"\n".repeat(400_000).into_bytes(), vec![0xff; 700_001], b"short".to_vec()];
    let files: Vec<_> = texts.iter().enumerate().map(|(n, text)| place.file(&n.to_string(), text)).collect();
    let path = place.path("a.kek");
    assert!(kek().args(["write", "--whole"]).arg(&path).args(&files).run("").status.success());
    let lines = stdout_of(kek().args(["cat", "--json"]).arg(&path));
    let records: Vec<_> = lines.lines().map(json).collect();
    assert_eq!(records.len(), 3);
    assert!(records[0]["enc"] == "utf8" && records[0]["data"].as_str().unwrap().as_bytes() == texts[0]);
    let base64 = "/".repeat(933_334) + "8=";
    assert!(records[1]["enc"] == "base64" && records[1]["data"] == base64);
    assert_eq!(records[2]["data"], "short");
    let hex = stdout_of(kek().args(["cat", "--hex"]).arg(&path));
    assert!(hex == "220a".repeat(400_000) + "\n" + &"ff".repeat(700_001) + "\n73686f7274\n");
}

#[test]
fn a_position_is_start_end_sequence_last_or_time() {
    let place = Place::new();
    let path = place.channel("a.kek", FIVE);
    for verb in ["cat", "tail"] {
        for (from, printed) in [
            (&["--from", "start"][..], "a\nb\nc\nd\ne\n"),
            (&["--from", "end"], ""),
            (&["--from", "3"], "d\ne\n"),
            (&["--from=0"], "a\nb\nc\nd\ne\n"),
            (&["--from", "5"], ""),
            (&["--from", "99"], ""),
            (&["--from", "-2"], "d\ne\n"),
            (&["--from=-2"], "d\ne\n"),
            (&["--from", "-99"], "a\nb\nc\nd\ne\n"),
            (&["--from", "@2026-01-01T00:00:00Z"], "a\nb\nc\nd\ne\n"),
            (&["--from", "@-1h"], "a\nb\nc\nd\ne\n"),
            (&["--from", "@2500-01-01T00:00:00Z"], ""),
        ] {
            assert_eq!(stdout_of(kek().arg(verb).args(from).arg(&path)), printed, "{verb} {from:?}");
        }
        let output = kek().arg(verb).args(["--from", "yesterday"]).arg(&path).run("");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn a_time_is_the_first_record_that_is_not_older() {
    let place = Place::new();
    let path = place.channel("a.kek", FIVE);
    let lines = stdout_of(kek().args(["cat", "--json"]).arg(&path));
    let times: Vec<_> = lines.lines().map(|line| json(line)["ts"].as_str().unwrap().to_owned()).collect();
    let from_third = stdout_of(kek().args(["cat", "--from", &format!("@{}", times[2])]).arg(&path));
    let first = times.iter().position(|time| *time == times[2]).unwrap();
    assert_eq!(from_third, FIVE[2 * first..]);
}

#[test]
fn without_timestamps_a_time_is_that_of_a_block_and_this_is_said() {
    let place = Place::new();
    let path = place.path("a.kek");
    assert!(kek().args(["write", "--no-timestamp"]).arg(&path).run(FIVE).status.success());
    let output = kek().args(["cat", "--from", "@-1h"]).arg(&path).run("");
    assert_fails(&output, 0, "no timestamps");
    assert_eq!(output.stdout, FIVE.as_bytes());
}

#[test]
fn counts_limit_what_is_printed() {
    let place = Place::new();
    let path = place.channel("a.kek", FIVE);
    assert_eq!(stdout_of(kek().args(["cat", "-n", "2", "--from", "1"]).arg(&path)), "b\nc\n");
    assert_eq!(stdout_of(kek().args(["cat", "-n", "0"]).arg(&path)), "");
    assert_eq!(stdout_of(kek().args(["tail", "-n", "2"]).arg(&path)), "d\ne\n");
    assert_eq!(stdout_of(kek().args(["tail", "-n", "0"]).arg(&path)), "");
    let many: String = (0..100).map(|n| format!("{n}\n")).collect();
    let last: String = (90..100).map(|n| format!("{n}\n")).collect();
    assert_eq!(stdout_of(kek().arg("tail").arg(place.channel("b.kek", &many))), last);
}

#[test]
fn a_live_channel_is_printed_without_waiting_for_more() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    writer.write("one\ntwo\n");
    wait_for_records(&path, 2);
    assert_eq!(stdout_of(kek().arg("cat").arg(&path)), "one\ntwo\n");
    assert_eq!(stdout_of(kek().args(["tail", "-n", "1"]).arg(&path)), "two\n");
    assert_eq!(stdout_of(kek().args(["tail", "--from", "2"]).arg(&path)), "");
    assert!(writer.is_running());
}

#[test]
fn damage_is_reported_behind_the_good_records() {
    let place = Place::new();
    let path = place.channel("a.kek", FIVE);
    let third = json(stdout_of(kek().args(["cat", "--json"]).arg(&path)).lines().nth(2).unwrap());
    let position = third["pos"].as_u64().unwrap();
    // A closed channel is cut behind the page of its terminal, so this one's data is its last page; a payload lies
    // behind the frame's word and the timestamp.
    let data = path.metadata().unwrap().len() - 4096;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"X", data + position + 16).unwrap();
    for command in [&["cat"][..], &["tail"], &["tail", "-f", "--from", "start"]] {
        let output = kek().args(command).arg(&path).run("");
        assert_fails(&output, 1, &format!("corrupt at position {position}"));
        assert_eq!(output.stdout, b"a\nb\n", "{command:?}");
    }
    assert_fails(&kek().arg("verify").arg(&path).run(""), 1, &format!("corrupt at position {position}"));
    // What lies behind damage is not returned, whatever the way there.
    assert_fails(&kek().args(["cat", "--from", "3"]).arg(&path).run(""), 1, "corrupt");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::new();
    let path = place.channel("a.kek", &"some line of text\n".repeat(500_000));
    for command in [&["cat"][..], &["tail", "-f", "--from", "start"]] {
        let mut child =
            kek().args(command).arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "some line of text\n");
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn an_idle_follower_ends_when_nobody_reads_it() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    writer.write("one\n");
    wait_for_records(&path, 1);
    let mut child = kek().args(["tail", "-f"]).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    wait_until("the end of the follower", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(writer.is_running());
}

#[test]
fn following_ends_with_zero_at_a_closed_and_a_full_channel() {
    let place = Place::new();
    let closed = place.channel("a.kek", FIVE);
    let output = kek().args(["tail", "-f", "-n", "1"]).arg(&closed).run("");
    assert!(output.status.success() && output.stdout == b"e\n" && output.stderr.is_empty(), "{output:?}");
    let full = place.path("b.kek");
    kek().args(["write", "--capacity", "4K"]).arg(&full).run("x\n".repeat(1000));
    let output = kek().args(["tail", "-f", "-n", "1"]).arg(&full).run("");
    assert_fails(&output, 0, "the channel is full");
    assert_eq!(output.stdout, b"x\n");
}

#[test]
fn following_a_dead_writer_ends_with_six_behind_its_last_record() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    writer.write("one\n");
    let mut follower = Running::start(kek().args(["tail", "-f", "--wait=1h"]).arg(&path));
    assert_eq!(follower.line(), "one");
    writer.write("two\n");
    wait_for_records(&path, 2);
    writer.signal(Signal::SIGKILL);
    writer.status();
    assert_eq!(follower.rest(), ["two"]);
    assert_eq!(follower.status().code(), Some(6));
    assert!(follower.stderr().contains("abandoned"));
    let output = kek().args(["tail", "-f"]).arg(&path).run("");
    assert_fails(&output, 6, "abandoned");
    assert_eq!(output.stdout, b"one\ntwo\n");
    assert_eq!(stdout_of(kek().arg("tail").arg(&path)), "one\ntwo\n");
    assert_eq!(stdout_of(kek().arg("cat").arg(&path)), "one\ntwo\n");
}

#[test]
fn a_stopped_writer_times_out_and_goes_on() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().args(["write", "--timeout", "50ms"]).arg(&path));
    writer.write("one\n");
    wait_for_records(&path, 1);
    writer.signal(Signal::SIGSTOP);
    let output = kek().args(["tail", "-f"]).arg(&path).run("");
    assert_fails(&output, 6, "timed out");
    assert_eq!(output.stdout, b"one\n");
    assert_eq!(info(&path)["state"], "open");
    writer.signal(Signal::SIGCONT);
    writer.write("two\n");
    writer.close_stdin();
    assert_eq!(writer.status().code(), Some(0));
    assert_eq!(stdout_of(kek().args(["tail", "-f"]).arg(&path)), "one\ntwo\n");
}

#[test]
fn a_follower_past_the_end_waits_for_its_sequence() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    writer.write("0\n1\n");
    wait_for_records(&path, 2);
    let follower = Running::start(kek().args(["tail", "-f", "--from", "4", "--json"]).arg(&path));
    writer.write("2\n3\n4\n");
    assert_eq!(json(&follower.line())["data"], "4");
}

#[test]
fn waiting_for_a_channel_has_a_limit() {
    let place = Place::new();
    let output = kek().args(["tail", "-f", "--wait=10ms"]).arg(place.path("nope")).run("");
    assert_fails(&output, 3, "has not appeared within 10ms");
    let path = place.channel("a.kek", FIVE);
    assert_eq!(stdout_of(kek().args(["tail", "--wait", "-n1"]).arg(&path)), "e\n");
}

#[test]
fn four_followers_from_different_places_get_the_same_bytes() {
    let place = Place::new();
    let path = place.path("a.kek");
    let lines: Vec<String> = (0..20_000).map(|n| format!("{n} {}", "z".repeat(n % 50))).collect();
    let starts = [0, 1, 5_000, 19_999];
    let mut writer = Running::start(kek().args(["write", "--capacity", "4M"]).arg(&path));
    let followers: Vec<_> = starts
        .iter()
        .map(|start| {
            let from = start.to_string();
            let tail = ["tail", "-f", "--wait", "--from", &from].map(str::to_owned);
            let path = path.clone();
            std::thread::spawn(move || kek().args(tail).arg(path).run(""))
        })
        .collect();
    for part in lines.chunks(100) {
        writer.write(&(part.join("\n") + "\n"));
    }
    writer.close_stdin();
    for (start, follower) in starts.into_iter().zip(followers) {
        let output = follower.join().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        assert!(output.stdout == (lines[start..].join("\n") + "\n").into_bytes(), "from {start}");
    }
}

/// A stage that puts other bytes in place of the payload.
struct Masked;

impl Handler for Masked {
    fn describe(&self) -> StageInfo {
        StageInfo { id: 70_000, version: 1, replaces: true, name: "masked".into(), ..StageInfo::default() }
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        out.extend(body.iter().map(|byte| !byte));
        Ok(())
    }
}

#[test]
fn what_a_stage_has_replaced_is_not_printed_but_inspected() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Writer::options().capacity(1 << 16).stage(Masked).create(&path).unwrap();
    writer.append(b"secret").unwrap();
    writer.close().unwrap();
    for verb in ["cat", "tail"] {
        let output = kek().arg(verb).arg(&path).run("");
        assert_fails(&output, 3, "stage `masked` (id 70000) stands in place of the payload");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(info(&path)["stages"][0]["replaces"], true);
    assert!(stdout_of(kek().arg("verify").arg(&path)).contains("1 record,"));
}

#[test]
fn a_channel_need_not_begin_at_zero() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Writer::options().capacity(1 << 16).first_sequence(100).create(&path).unwrap();
    writer.append(b"a").unwrap();
    writer.append(b"b").unwrap();
    writer.close().unwrap();
    assert_eq!(stdout_of(kek().args(["cat", "--from", "101"]).arg(&path)), "b\n");
    assert_eq!(stdout_of(kek().args(["tail", "-n", "9"]).arg(&path)), "a\nb\n");
    assert_eq!(info(&path)["records"], 2);
    let line = stdout_of(kek().args(["cat", "-n1", "--json"]).arg(&path));
    assert_eq!(json(&line)["seq"], 100);
    assert!(json(&line).get("ts").is_none(), "{line}");
    let output = kek().args(["cat", "--from", "99"]).arg(&path).run("");
    assert_fails(&output, 2, "sequence 99 is before the channel's first, 100");
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error_and_no_signal() {
    let place = Place::new();
    let path = place.channel("a.kek", &"some line of text\n".repeat(10_000));
    let help = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" --help > /dev/full", env!("CARGO_BIN_EXE_kek")])
        .run("");
    assert_fails(&help, 7, "cannot write to standard output");
    for redirect in ["> /dev/full", "> \"$2\""] {
        let mut shell = std::process::Command::new("sh");
        let script = format!("ulimit -f 8; exec \"$0\" cat \"$1\" {redirect}");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_kek")]).arg(&path).arg(place.path("out"));
        assert_fails(&shell.run(""), 7, "cannot write to standard output");
    }
}

#[test]
fn a_durable_follower_prints_only_what_is_synced() {
    let place = Place::new();
    for (policy, lines) in [("each", &["one", "two"][..]), ("none", &[])] {
        let path = place.path(policy);
        let mut writer = Running::start(kek().args(["write", "--sync", policy]).arg(&path));
        writer.write("one\ntwo\n");
        wait_for_records(&path, 2);
        let mut follower =
            Running::start(kek().args(["tail", "-f", "--durable", "--from", "start"]).arg(&path));
        for line in lines {
            assert_eq!(follower.line(), *line);
        }
        writer.signal(Signal::SIGKILL);
        assert_eq!((follower.status().code(), follower.rest()), (Some(6), vec![]));
        let says =
            if lines.is_empty() { "what it has not synced has not been printed" } else { "everything" };
        let stderr = follower.stderr();
        assert!(stderr.contains("abandoned: the writer is dead") && stderr.contains(says), "{stderr}");
    }
}

#[test]
fn untrusted_prints_the_same_and_says_the_same() {
    let place = Place::new();
    let lines: String = (0..5000).map(|n| format!("record number {n}\n")).collect();
    let closed = place.channel("closed.kek", &lines);
    let abandoned = place.abandoned("abandoned.kek", FIVE);
    let damaged = place.channel("damaged.kek", FIVE);
    let file = std::fs::File::options().read(true).write(true).open(&damaged).unwrap();
    let mut data = [0; 8];
    file.read_exact_at(&mut data, 160).unwrap();
    file.write_all_at(b"\xA5", u64::from_le_bytes(data) + 60).unwrap();
    let cut = place.file("cut.kek", &std::fs::read(&closed).unwrap()[..50_000]);
    let none = place.path("none.kek");
    for path in [&closed, &abandoned, &damaged, &cut, &none] {
        for arguments in [
            &["cat"][..],
            &["cat", "--json", "--from", "3", "-n", "2"],
            &["cat", "--from", "-2"],
            &["tail"],
            &["tail", "-f", "--from", "start"],
            &["tail", "-n", "3", "--hex"],
            &["verify"],
        ] {
            let trusting = kek().args(arguments).arg(path).run("");
            let copying = kek().args(arguments).arg("--untrusted").arg(path).run("");
            assert_eq!(copying, trusting, "{arguments:?} {path:?}");
        }
    }
    let fifo = place.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_fails(&kek().args(["cat", "--untrusted"]).arg(&fifo).run(""), 3, "not a regular file");
}

#[test]
fn the_last_durable_records_are_counted_from_the_synced_tail() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = kekbit::Writer::create(&path).unwrap();
    for text in ["one", "two", "three", "four"] {
        writer.append(text.as_bytes()).unwrap();
        if text == "three" {
            writer.sync().unwrap();
        }
    }
    let tail = |arguments: &[&str]| stdout_of(kek().args(["tail", "-n", "2"]).args(arguments).arg(&path));
    assert_eq!(tail(&[]), "three\nfour\n");
    assert_eq!(tail(&["--durable"]), "two\nthree\n");
    writer.close().unwrap();
    assert_eq!(tail(&["--durable"]), "three\nfour\n");
    assert_eq!(tail(&["--durable", "--untrusted"]), "three\nfour\n");
}

#[test]
fn reverse_prints_the_same_records_from_the_last_to_the_first() {
    let place = Place::new();
    let path = place.channel("a.kek", &(0..3000).map(|n| format!("{n}\n")).collect::<String>());
    let cat = |options: &[&str]| {
        let lines = stdout_of(kek().arg("cat").args(options).arg(&path));
        lines.lines().map(|line| line.parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    for selection in [
        &[][..],
        &["--from", "10"],
        &["--from", "-7"],
        &["--from", "end"],
        &["--until", "5"],
        &["--until", "0"],
        &["--until", "-2990"],
        &["--until", "start"],
        &["--from", "100", "--until", "120"],
        &["--from", "120", "--until", "100"],
        &["--from", "2995", "--until", "5000"],
        &["--from", "5000"],
        &["--from", "@2020-01-01T00:00:00Z", "--until", "@3000-01-01T00:00:00Z"],
        &["--until", "@2020-01-01T00:00:00Z"],
        &["--untrusted", "--from", "2000"],
    ] {
        let forwards = cat(selection);
        let backwards = cat(&[selection, &["--reverse"]].concat());
        assert!(backwards.iter().rev().eq(&forwards), "{selection:?}");
        let few = cat(&[selection, &["-r", "-n", "3"]].concat());
        assert!(few.iter().eq(forwards.iter().rev().take(3)), "{selection:?}");
    }
    assert_eq!(cat(&["-r", "-n", "2", "--until", "100"]), [99, 98]);
    assert_eq!(cat(&["--from", "100", "--until", "120"]), (100..120).collect::<Vec<_>>());
    assert!(cat(&["-n", "0", "-r"]).is_empty());
}

#[test]
fn a_live_channel_is_printed_backwards_from_where_it_is() {
    let place = Place::new();
    let path = place.path("live.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    writer.write(FIVE);
    wait_for_records(&path, 5);
    assert_eq!(stdout_of(kek().args(["cat", "-r"]).arg(&path)), "e\nd\nc\nb\na\n");
    writer.close_stdin();
    writer.status();
}

#[test]
fn a_pipe_is_no_channel_in_either_direction() {
    let place = Place::new();
    for options in [&["cat"][..], &["cat", "--reverse"], &["cat", "-r", "--untrusted"]] {
        let piped = kek().args(options).arg("/dev/stdin").run("kekbit\n");
        assert_fails(&piped, 3, "not a regular file");
        let named = kek().current_dir(place.dir()).args(options).arg("-").run("kekbit\n");
        assert_fails(&named, 2, "no pipe");
    }
}
