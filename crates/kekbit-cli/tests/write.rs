//! `kek write`: what becomes a record, when it is visible, and how it ends.

mod common;

use common::{Place, Run, Running, assert_fails, info, kek, stdout_of, wait_for_records, wait_until};
use nix::sys::signal::Signal;

/// The records of a channel as `kek cat --json` prints them: the texts.
fn texts(path: &std::path::Path) -> Vec<String> {
    let lines = stdout_of(kek().args(["cat", "--json"]).arg(path));
    lines.lines().map(|line| common::json(line)["data"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lines_lose_their_line_feed_and_nothing_else() {
    let place = Place::new();
    let path = place.channel("a.kek", "one\r\n\ntwo\nlast");
    assert_eq!(texts(&path), ["one\r", "", "two", "last"]);
}

#[test]
fn null_terminated_records_may_hold_line_feeds() {
    let place = Place::new();
    let path = place.path("a.kek");
    assert!(kek().args(["write", "-0"]).arg(&path).run("a\nb\0\0c").status.success());
    assert_eq!(texts(&path), ["a\nb", "", "c"]);
}

#[test]
fn framed_records_are_what_their_lengths_say() {
    let place = Place::new();
    let path = place.path("a.kek");
    assert!(
        kek()
            .args(["write", "--framed"])
            .arg(&path)
            .run(b"\x02\0\0\0a\n\0\0\0\0\x01\0\0\0b")
            .status
            .success()
    );
    assert_eq!(texts(&path), ["a\n", "", "b"]);
}

#[test]
fn a_truncated_frame_fails_after_the_records_before_it() {
    let place = Place::new();
    let path = place.path("a.kek");
    let output = kek().args(["write", "--framed"]).arg(&path).run(b"\x01\0\0\0a\x09\0\0\0b");
    assert_fails(&output, 7, "middle of a frame: 5 of its 13 bytes are there; 1 record (1 byte) was written");
    assert_eq!(texts(&path), ["a"]);
    assert_eq!(info(&path)["state"], "closed");
}

#[test]
fn however_pages_are_prepared_the_records_are_the_same() {
    let place = Place::new();
    let lines: String = (0..30_000).map(|n| format!("line {n}\n")).collect();
    for how in ["demand", "inline", "inline=64K", "ahead", "ahead=1M", "all"] {
        let path = place.path(how);
        let written = kek().args(["write", "--capacity", "4M", "--prepare", how]).arg(&path).run(&lines);
        assert_eq!(written.status.code(), Some(0), "{how}: {written:?}");
        assert_eq!(stdout_of(kek().arg("cat").arg(&path)), lines, "{how}");
    }
}

#[test]
fn whole_files_are_records_even_empty_ones() {
    let place = Place::new();
    let (a, b, path) = (place.file("a", "x\ny\n"), place.file("b", ""), place.path("a.kek"));
    assert!(kek().args(["write", "--whole"]).arg(&path).args([&a, &b]).run("").status.success());
    assert_eq!(texts(&path), ["x\ny\n", ""]);
}

#[test]
fn files_and_standard_input_follow_one_another() {
    let place = Place::new();
    let (a, b, path) = (place.file("a", "1\n2"), place.file("b", "4\n"), place.path("a.kek"));
    assert!(kek().arg("write").arg(&path).arg(&a).arg("-").arg(&b).run("3\n").status.success());
    assert_eq!(texts(&path), ["1", "2", "3", "4"]);
}

#[test]
fn input_much_larger_than_the_buffers_arrives_unchanged() {
    let place = Place::new();
    let text: String = (0..200_000).map(|n| format!("line {n} {}\n", "x".repeat(n % 97))).collect();
    let path = place.channel("a.kek", &text);
    assert!(stdout_of(kek().arg("cat").arg(&path)) == text);
    let long = "y".repeat(700_000) + "\n";
    let path = place.channel("b.kek", &long.repeat(5));
    assert!(stdout_of(kek().arg("cat").arg(&path)) == long.repeat(5));
}

#[test]
fn a_record_is_visible_before_its_successor_arrives() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    let follower = Running::start(kek().args(["tail", "-f", "--wait", "--from", "start"]).arg(&path));
    for text in ["first", "second", "third"] {
        writer.write(text);
        writer.write("\n");
        assert_eq!(follower.line(), text);
    }
    assert!(writer.is_running());
    assert_eq!(info(&path)["state"], "open");
    writer.close_stdin();
    assert_eq!(writer.status().code(), Some(0));
    assert_eq!(info(&path)["state"], "closed");
}

#[test]
fn an_interval_syncs_while_there_is_no_input() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().args(["write", "--sync", "1ms"]).arg(&path));
    writer.write("one\n");
    wait_for_records(&path, 1);
    wait_until("the sync", || info(&path)["synced"] == info(&path)["tail"]);
    assert!(writer.is_running());
}

#[test]
fn each_syncs_every_record_and_none_syncs_nothing() {
    let place = Place::new();
    for (policy, synced) in [("each", true), ("none", false)] {
        let path = place.path(policy);
        let mut writer = Running::start(kek().args(["write", "--sync", policy]).arg(&path));
        writer.write("one\ntwo\n");
        wait_for_records(&path, 2);
        wait_until("the sync", || !synced || info(&path)["synced"] == info(&path)["tail"]);
        assert_eq!(info(&path)["synced"] != 0, synced);
        assert!(writer.is_running());
    }
}

#[test]
fn a_signal_appends_what_was_read_and_closes() {
    let place = Place::new();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let path = place.path(&code.to_string());
        let mut writer = Running::start(kek().arg("write").arg(&path));
        writer.write("one\ntwo\n");
        wait_for_records(&path, 2);
        writer.write("unterminated");
        // What is in the pipe may have been read or not; what is in the channel stays.
        writer.signal(signal);
        assert_eq!(writer.status().code(), Some(code));
        let texts = texts(&path);
        assert!(texts == ["one", "two"] || texts == ["one", "two", "unterminated"], "{texts:?}");
        assert_eq!(info(&path)["state"], "closed");
    }
}

#[test]
fn a_fifo_that_nobody_writes_to_does_not_keep_a_signal_waiting() {
    let place = Place::new();
    let (fifo, path) = (place.path("fifo"), place.path("a.kek"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut writer = Running::start(kek().arg("write").arg(&path).arg(&fifo));
    wait_until("the channel", || path.exists());
    writer.signal(Signal::SIGTERM);
    assert_eq!(writer.status().code(), Some(143));
}

#[test]
fn an_existing_path_is_refused_and_left_alone() {
    let place = Place::new();
    let path = place.file("a.kek", "precious");
    assert_fails(&kek().arg("write").arg(&path).run("x\n"), 4, "exists already");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_missing_input_is_found_before_anything_is_created() {
    let place = Place::new();
    let path = place.path("a.kek");
    let output = kek().arg("write").arg(&path).arg(place.path("nope")).run("");
    assert_fails(&output, 3, "cannot read");
    let output = kek().arg("write").arg(&path).arg(place.dir()).run("");
    assert_fails(&output, 7, "it is a directory");
    assert!(!path.exists());
    let output = kek().arg("write").arg(place.path("no/such/a.kek")).run("");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_full_channel_says_how_many_were_written() {
    let place = Place::new();
    let path = place.path("a.kek");
    let lines = "a line\n".repeat(1000);
    let output = kek().args(["write", "--capacity", "4K"]).arg(&path).run(&lines);
    // Each frame has 8 bytes for the header word, 8 for the timestamp and 8 for the text; 8 are for the terminal.
    assert_fails(&output, 5, "the channel is full (4096 bytes); 170 records (1020 bytes) were written");
    assert_eq!(texts(&path).len(), 170);
    assert_eq!(info(&path)["state"], "full");
}

#[test]
fn a_record_that_is_too_long_fails_after_the_records_before_it() {
    let place = Place::new();
    for (name, input) in
        [("a", "1234\n12345\n1\n".to_owned()), ("b", format!("1234\n{}", "x".repeat(1 << 20)))]
    {
        let path = place.path(name);
        let output = kek().args(["write", "--max-record", "4"]).arg(&path).run(input);
        assert_fails(&output, 5, "exceeds the limit of 4");
        assert!(String::from_utf8_lossy(&output.stderr).contains("1 record (4 bytes) was written"));
        assert_eq!(texts(&path), ["1234"]);
        assert_eq!(info(&path)["state"], "closed");
    }
}

#[test]
fn the_limit_on_file_sizes_is_an_error_and_no_signal() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -f 2048; exec \"$0\" write \"$1\"", env!("CARGO_BIN_EXE_kek")]).arg(&path);
    let output = shell.run("some text for a line\n".repeat(200_000));
    assert_fails(&output, 5, "no space");
    let count = texts(&path).len();
    assert!(count > 10_000, "{count}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("{count} records")));
    assert_eq!(info(&path)["state"], "closed");
}

#[test]
fn what_is_said_of_the_channel_is_in_its_header() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut command = kek();
    command.args(["write", "--quiet", "--capacity", "1M", "--max-record", "1K", "--timeout", "1500ms"]);
    command.args(["--writer-id", "18446744073709551615", "--channel-id", "7", "--checksum", "none"]);
    command.args(["--content-type", "text/plain", "--meta", "a=b=c", "--meta", "d=", "--no-timestamp"]);
    let output = command.arg(&path).run("x\n");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let info = info(&path);
    assert_eq!(info["capacity"], 1 << 20);
    assert_eq!(info["max_record_len"], 1024);
    assert_eq!(info["timeout"], "1s 500ms");
    assert_eq!(info["writer_id"], "18446744073709551615");
    assert_eq!(info["channel_id"], "7");
    assert_eq!(info["checksum"], "none");
    assert_eq!(info["content_type"], "text/plain");
    assert_eq!(info["meta"], serde_json::json!({"a": "b=c", "d": ""}));
    assert_eq!(info["stages"], serde_json::json!([]));
}

#[test]
fn a_summary_is_printed_unless_it_is_to_be_quiet() {
    let place = Place::new();
    let output = kek().arg("write").arg(place.path("a.kek")).run("ab\nc\n");
    assert_fails(&output, 0, "2 records (3 bytes) were written");
}

#[test]
fn nonsense_is_a_usage_error_and_creates_nothing() {
    let place = Place::new();
    let path = place.path("a.kek");
    for options in [
        &["--capacity", "lots"][..],
        &["--capacity", "1"],
        &["--timeout", "0s"],
        &["--sync", "sometimes"],
        &["--prepare", "later"],
        &["--prepare", "ahead=0"],
        &["--meta", "novalue"],
        &["--max-record", "1G"],
        &["--framed", "-0"],
        &["--no-such-option"],
    ] {
        let output = kek().arg("write").args(options).arg(&path).run("x\n");
        assert_eq!(output.status.code(), Some(2), "{options:?}: {output:?}");
        assert!(!path.exists(), "{options:?}");
    }
}

#[test]
fn timestamps_are_those_of_the_arrival() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writer = Running::start(kek().arg("write").arg(&path));
    for (count, text) in [(1, "one\n"), (2, "two\n"), (3, "three\n")] {
        writer.write(text);
        wait_for_records(&path, count);
    }
    let lines = stdout_of(kek().args(["cat", "--json"]).arg(&path));
    let times: Vec<_> =
        lines.lines().map(|line| common::json(line)["ts"].as_str().unwrap().to_owned()).collect();
    assert!(times[0] < times[1] && times[1] < times[2], "{times:?}");
    assert!(times[0].as_str() > info(&path)["created"].as_str().unwrap(), "{times:?}");
}

#[test]
fn of_many_writers_on_one_path_one_wins_and_nothing_is_left_of_the_others() {
    let place = Place::new();
    let path = place.path("a.kek");
    let mut writers: Vec<_> = (0..20).map(|_| Running::start(kek().arg("write").arg(&path))).collect();
    writers.iter_mut().for_each(Running::close_stdin);
    let mut codes: Vec<_> = writers.iter_mut().map(|writer| writer.status().code().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes[0], 0);
    assert!(codes[1..].iter().all(|code| *code == 4), "{codes:?}");
    assert_eq!(std::fs::read_dir(place.dir()).unwrap().count(), 1);
}
