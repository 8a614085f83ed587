//! The program itself, with tiny numbers: every workload measures every peer, and what is wrong is an error and no figure.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kekbit-bench"))
}

/// Runs `run` in a directory of its own, which must be empty again afterwards but for the samples.
fn run(dir: &Path, arguments: &[&str]) -> Output {
    let scratch = dir.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let output = program()
        .arg("run")
        .args(arguments)
        .arg("--dir")
        .arg(&scratch)
        .arg("--out")
        .arg(dir.join("samples.jsonl"))
        .output()
        .unwrap();
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "something is left over");
    output
}

/// Samples as workload, case, peer, round, measure; every value is above zero.
fn samples(dir: &Path) -> Vec<[String; 5]> {
    let text = std::fs::read_to_string(dir.join("samples.jsonl")).unwrap();
    let sample = |line: &str| {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(sample["value"].as_f64().unwrap() > 0.0, "{line}");
        let text = |field: &str| sample[field].as_str().unwrap().to_owned();
        [text("workload"), text("case"), text("peer"), sample["round"].to_string(), text("measure")]
    };
    text.lines().map(sample).collect()
}

/// What is at `index` in all samples.
fn all(samples: &[[String; 5]], index: usize) -> BTreeSet<&str> {
    samples.iter().map(|sample| sample[index].as_str()).collect()
}

fn set<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

/// Peers that are only in some builds have tests of their own.
fn is_foreign(peer: &str) -> bool {
    ["Aeron", "iceoryx2", "Chronicle Queue"].iter().any(|name| peer.starts_with(name))
}

/// Runs one workload for one round, after which there are these cases, peers and measures; all of each in all of the others,
/// unless another number of samples is given.
#[track_caller]
fn measured(arguments: &[&str], cases: &[&str], peers: &[&str], measures: &[&str], count: Option<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[&["--rounds", "1", "--cores", "0", "--workload"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut samples = samples(dir.path());
    if !peers.iter().any(|peer| is_foreign(peer)) {
        samples.retain(|sample| !is_foreign(&sample[2]));
    }
    assert_eq!(all(&samples, 0), set(&[arguments[0]]));
    assert_eq!(all(&samples, 1), set(cases));
    assert_eq!(all(&samples, 2), set(peers));
    assert_eq!(all(&samples, 4), set(measures));
    assert_eq!(samples.len(), count.unwrap_or(cases.len() * peers.len() * measures.len()));
}

const LATENCIES: [&str; 9] =
    ["ns/record", "records", "p50 ns", "p90 ns", "p99 ns", "p99.9 ns", "p99.99 ns", "max ns", "samples"];

#[test]
fn append_measures_every_peer_that_keeps_what_it_is_given() {
    measured(
        &["append", "--records", "2000"],
        &["96 bytes", "1024 bytes"],
        &[
            "raw, prepared",
            "raw, prepared, no checksum",
            "raw, fresh",
            "kekbit, prepared",
            "kekbit, prepared, no checksum",
            "kekbit, fresh",
            "kekbit 0.3.5, fresh",
        ],
        &["ns/record", "records"],
        None,
    );
}

#[test]
fn stream_measures_every_peer() {
    measured(
        &["stream", "--records", "2000"],
        &["32 bytes", "96 bytes", "256 bytes", "1024 bytes"],
        &[
            "raw, prepared",
            "raw, prepared, no checksum",
            "kekbit, prepared",
            "kekbit, prepared, no checksum",
            "kekbit 0.3.5, fresh",
            "Unix pipe, 1 MiB",
            "Unix stream socket",
        ],
        &["ns/record", "records"],
        None,
    );
}

#[test]
fn fresh_measures_what_makes_its_pages_as_it_goes() {
    measured(
        &["fresh", "--records", "2000", "--size", "96", "--peer", "raw", "kekbit"],
        &["96 bytes"],
        &["raw, fresh", "raw, populate and stream in series", "kekbit, fresh", "kekbit 0.3.5, fresh"],
        &["ns/record", "records"],
        None,
    );
    measured(
        &["fresh", "--records", "2000", "--size", "96", "--peer", "populate"],
        &["96 bytes"],
        &["populate", "raw, populate and stream in series"],
        &["ns/record", "records"],
        None,
    );
}

#[test]
fn stages_are_measured_beside_the_clock() {
    measured(
        &["stages", "--records", "2000"],
        &["96 bytes"],
        &[
            "kekbit, no stage",
            "kekbit, timestamp",
            "kekbit, timestamp and sequence",
            "clock, SystemTime::now",
            "clock, and 1.3 appends without a stage",
        ],
        &["ns/record"],
        None,
    );
}

#[test]
fn sustained_goes_from_file_to_file() {
    // Files of 64 KiB, so that some hundred of them are gone through.
    measured(
        &["sustained", "--seconds", "0.3", "--segment", "65536"],
        &["96 bytes"],
        &[
            "raw, reuse",
            "kekbit, reuse",
            "kekbit, journal",
            "kekbit 0.3.5, new files",
            "Unix pipe, 1 MiB",
            "Unix stream socket",
        ],
        &["ns/record", "records"],
        None,
    );
}

#[test]
fn pingpong_tells_percentiles_of_every_peer() {
    measured(
        &["pingpong", "--records", "30"],
        &["96 bytes"],
        &[
            "raw_rtt",
            "raw, prepared",
            "kekbit, prepared",
            "kekbit 0.3.5, fresh",
            "Unix pipe, 1 MiB",
            "Unix stream socket",
        ],
        &LATENCIES,
        None,
    );
}

#[test]
fn the_open_loop_tells_percentiles_at_each_rate() {
    measured(
        &["open-loop", "--seconds", "0.2", "--rate", "1000", "20000", "--segment", "65536"],
        &["256 bytes, 1000/s", "256 bytes, 20000/s"],
        &[
            "raw, reuse",
            "kekbit, reuse",
            "kekbit, journal",
            "kekbit, fresh",
            "kekbit 0.3.5, new files",
            "Unix pipe, 1 MiB",
            "Unix stream socket",
        ],
        &LATENCIES,
        None,
    );
}

#[test]
fn scan_walks_over_the_same_channel_in_every_way() {
    measured(
        &["scan", "--records", "5000"],
        &["96 bytes", "96 bytes, mapped before"],
        &["walk", "walk, CRC", "kekbit", "kekbit, verified", "kekbit, Reader", "kekbit, Reader, verified"],
        &["ns/record"],
        None,
    );
}

#[test]
fn costs_tells_of_settings_sizes_readers_capacities_and_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(
        dir.path(),
        &[
            "--workload",
            "costs",
            "--rounds",
            "1",
            "--cores",
            "0",
            "--records",
            "50",
            "--lengths",
            "0.002,0.005",
            "--capacities",
            "0.001,64",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let samples = samples(dir.path());
    let cases = |workload: &str| -> BTreeSet<&str> {
        samples.iter().filter(|sample| sample[0] == workload).map(|sample| sample[1].as_str()).collect()
    };
    let settings = ["append, 96 bytes", "create, append, close, 96 bytes", "round trip, 96 bytes"];
    assert_eq!(cases("cost of settings"), set(&settings));
    let sizes = ["8 bytes", "32 bytes", "128 bytes", "512 bytes", "2 KiB", "8 KiB", "64 KiB"];
    assert_eq!(cases("cost of size"), set(&sizes));
    assert_eq!(cases("cost of readers"), set(&["1", "2", "4", "8"]));
    assert_eq!(cases("cost of capacity").len(), 2);
    assert_eq!(cases("cost of length").len(), 2);
    let peers: BTreeSet<_> =
        samples.iter().filter(|sample| sample[0] == "cost of settings").map(|s| s[2].as_str()).collect();
    for setting in ["Prepare::All", "Checksum::None", "timestamp stage", "batches of 16", "Wait::backoff"] {
        assert!(peers.contains(format!("kekbit, {setting}").as_str()), "{setting} is not in {peers:?}");
    }
}

#[test]
fn a_run_goes_on_with_the_next_round() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = |rounds: &'static str| {
        ["--workload", "append", "--cores", "0", "--records", "100", "--size", "96", "--rounds", rounds]
    };
    for (rounds, lines, last) in [("2", 28, "1"), ("2", 28, "1"), ("3", 42, "2")] {
        let output = run(dir.path(), &arguments(rounds));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let samples = samples(dir.path());
        assert_eq!((samples.len(), samples[lines - 1][3].as_str()), (lines, last));
    }
    // The first of a round is another one in the next.
    let samples = samples(dir.path());
    assert_ne!(samples[0][2], samples[14][2]);
}

#[test]
fn a_command_that_is_missing_is_skipped_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(
        dir.path(),
        &[
            "--workload",
            "command",
            "append",
            "--peer",
            "raw, fresh",
            "--kek",
            "/nowhere/kek",
            "--rounds",
            "1",
            "--cores",
            "0",
            "--records",
            "100",
        ],
    );
    assert!(output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("command: skipped: /nowhere/kek is not there"), "{complaint}");
    assert_eq!(all(&samples(dir.path()), 2), set(&["raw, fresh"]));
}

#[test]
fn command_feeds_and_drains_cat() {
    // Any program will do for the one that is not asked for.
    measured(
        &["command", "--records", "20000", "--kek", "/bin/true", "--peer", "cat > file", "cat file"],
        &["write", "cat", "cat, into a pipe"],
        &["cat > file", "cat file"],
        &["ns/record"],
        Some(3),
    );
}

#[test]
fn a_command_that_does_nothing_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(
        dir.path(),
        &[
            "--workload",
            "command",
            "--rounds",
            "1",
            "--cores",
            "0",
            "--records",
            "20000",
            "--kek",
            "/bin/true",
            "--peer",
            "kek",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("command, write, kek write: failed: "), "{complaint}");
    let too_early = "command, cat, into a pipe, kek cat: failed: the output ends too early";
    assert!(complaint.contains(too_early), "{complaint}");
    // What goes to /dev/null cannot be looked at.
    assert_eq!(samples(dir.path()).len(), 1);
}

#[test]
fn a_peer_that_fails_is_named_and_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // More than kekbit 0.3.5 can have in one channel; no memory is touched by the others, which are sparse.
    let output = run(
        dir.path(),
        &[
            "--workload",
            "append",
            "--peer",
            "kekbit 0.3.5",
            "raw, fresh",
            "--rounds",
            "1",
            "--cores",
            "0",
            "--records",
            "1",
            "--size",
            "40000000",
            "96",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    let failure =
        "append, 40000000 bytes, kekbit 0.3.5, fresh: failed: sender: exit status: 1: kekbit-bench: ";
    assert!(complaint.contains(failure), "{complaint}");
    let samples = samples(dir.path());
    assert_eq!(samples.iter().filter(|sample| sample[2] == "kekbit 0.3.5, fresh").count(), 2);
    assert_eq!(samples.iter().filter(|sample| sample[2] == "raw, fresh").count(), 4);
}

/// The receiver of a pipe that somebody else sends to.
fn receiver(dir: &Path, records: &str) -> Child {
    let made = Command::new("mkfifo").arg(dir.join("link")).status().unwrap();
    assert!(made.success());
    program()
        .args(["role", "--peer", "Unix pipe, 1 MiB", "--side", "receiver", "--workload", "stream"])
        .args(["--link", "link", "--size", "16", "--segment", "4096", "--core", "0", "--records", records])
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends records that somebody has put together to a receiver: what it says after "ready", and what it complains of.
fn send(records: &[[u8; 16]]) -> (bool, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut child = receiver(dir.path(), &records.len().to_string());
    let mut pipe = OpenOptions::new().read(true).write(true).open(dir.path().join("link")).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    for record in records {
        pipe.write_all(&16_u32.to_le_bytes()).unwrap();
        pipe.write_all(record).unwrap();
    }
    line.clear();
    output.read_line(&mut line).unwrap();
    drop(input);
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    (child.wait().unwrap().success(), line, complaint)
}

/// As `payload` has it.
fn good_records() -> Vec<[u8; 16]> {
    let record = |sequence: u64| {
        let mut record = [0; 16];
        record[..8].copy_from_slice(&sequence.to_le_bytes());
        (8..16).for_each(|at| record[at] = (at * 131 + 89) as u8);
        record
    };
    (0..5).map(record).collect()
}

#[test]
fn a_receiver_takes_what_the_protocol_says() {
    let (success, line, complaint) = send(&good_records());
    assert!(success, "{complaint}");
    let outcome: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(outcome["records"], 5);
    assert!(outcome["ended_ns"].as_u64() >= outcome["begun_ns"].as_u64());
}

#[test]
fn a_receiver_that_gets_a_wrong_byte_fails_and_says_no_figure() {
    for at in [0, 7, 8, 15] {
        let mut records = good_records();
        records[3][at] ^= 0x10;
        let (success, line, complaint) = send(&records);
        assert!(!success && line.is_empty(), "byte {at}: {line}");
        assert!(complaint.contains("after 3 good records: "), "{complaint}");
    }
}

#[test]
fn what_has_no_place_to_go_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = program()
        .args(["run", "--dir", "/nowhere", "--out"])
        .arg(dir.path().join("samples.jsonl"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("kekbit-bench: /nowhere: "));
    let output = run(dir.path(), &["--workload", "stream", "--peer", "nobody"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("no peer with such a name"));
    assert!(File::open(dir.path().join("samples.jsonl")).is_err());
}

/// Every workload between processes, and records of a length that some systems send in pieces.
#[cfg(any(feature = "aeron", feature = "iceoryx2", feature = "chronicle"))]
fn takes_part(name: &str, peers: &[&str]) {
    let records = ["ns/record", "records"];
    let stream = ["stream", "--records", "3000", "--size", "33", "--peer", name];
    measured(&stream, &["33 bytes"], peers, &records, None);
    let pieces = ["stream", "--records", "300", "--size", "70000", "--peer", name];
    measured(&pieces, &["70000 bytes"], peers, &records, None);
    let sustained = ["sustained", "--seconds", "0.3", "--peer", name];
    measured(&sustained, &["96 bytes"], peers, &records, None);
    let pingpong = ["pingpong", "--records", "30", "--peer", name];
    measured(&pingpong, &["96 bytes"], peers, &LATENCIES, None);
    let open_loop = ["open-loop", "--seconds", "0.2", "--rate", "1000", "--peer", name];
    measured(&open_loop, &["256 bytes, 1000/s"], peers, &LATENCIES, None);
}

#[cfg(feature = "aeron")]
#[test]
fn aeron_takes_part() {
    takes_part(
        "Aeron",
        &[
            "Aeron, shared backing off, 16M",
            "Aeron, shared backing off, 64M",
            "Aeron, invoker, 8M",
            "Aeron, invoker, 4M, claims",
        ],
    );
}

#[cfg(feature = "iceoryx2")]
#[test]
fn iceoryx2_takes_part() {
    takes_part("iceoryx2", &["iceoryx2, buffer of 64", "iceoryx2, buffer of 256"]);
}

#[cfg(feature = "chronicle")]
#[test]
fn chronicle_queue_takes_part() {
    takes_part("Chronicle", &["Chronicle Queue"]);
}
