//! The command with compressed records: what is written so is read as if it had not been.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of};
use kekbit::{AppendContext, Channel, CorrelationId, Handler, Lz4, StageError, StageInfo, Timestamp, Writer};

/// Lines of which most can be compressed.
fn lines() -> String {
    (0..300_u32)
        .map(|n| match n % 3 {
            0 => format!("{n}\n"),
            _ => format!("{n}: {}\n", "buy 10, sell 5, cancel 10; ".repeat(n as usize % 37)),
        })
        .collect()
}

fn write(path: &Path, options: &[&str], input: &str) -> Output {
    kek().arg("write").args(options).arg(path).run(input)
}

fn cat(path: &Path, options: &[&str]) -> String {
    stdout_of(kek().arg("cat").args(options).arg(path))
}

/// Bytes of the channel's records, as they are stored.
fn tail(path: &Path) -> u64 {
    info(path)["tail"].as_u64().unwrap()
}

#[test]
fn what_was_compressed_is_printed_as_it_was() {
    let place = Place::new();
    let (plain, compressed) = (place.path("plain.kek"), place.path("compressed.kek"));
    let lines = lines();
    for (path, options) in [(&plain, &["-q"][..]), (&compressed, &["-q", "--compress"])] {
        assert_eq!(write(path, options, &lines).status.code(), Some(0));
    }
    assert!(tail(&compressed) < tail(&plain) / 3, "{} {}", tail(&compressed), tail(&plain));
    for options in [
        &[][..],
        &["-0"],
        &["--framed"],
        &["--raw"],
        &["--hex"],
        &["--untrusted"],
        &["--from", "-7"],
        &["--from", "200", "-n", "3"],
        &["--from", "@1970-01-02T00:00:00Z"],
        &["--reverse", "-n", "5"],
        &["--reverse", "--untrusted"],
    ] {
        let printed = |path: &Path| kek().arg("cat").args(options).arg(path).run("");
        let (compressed, plain) = (printed(&compressed), printed(&plain));
        assert!(compressed.status.success() && compressed.stdout == plain.stdout, "{options:?}");
        assert!(!plain.stdout.is_empty());
    }
    assert_eq!(cat(&compressed, &[]), lines);
    let printed = stdout_of(kek().arg("tail").arg(&compressed));
    assert_eq!(printed, stdout_of(kek().arg("tail").arg(&plain)));
    // Nothing but position and time is different.
    let without = |path: &Path| -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            let mut line = json(line);
            let (pos, ts) = (line["pos"].take(), line["ts"].take());
            assert!(pos.is_u64() && ts.is_string());
            line
        };
        cat(path, &["--json"]).lines().map(parse).collect()
    };
    assert_eq!(without(&compressed), without(&plain));
    assert_eq!(stdout_of(kek().arg("verify").arg(&compressed)).matches("no damage").count(), 1);
    stdout_of(kek().args(["verify", "--untrusted"]).arg(&compressed));
}

#[test]
fn info_names_the_stages() {
    let place = Place::new();
    let path = place.path("a.kek");
    write(&path, &["-q", "--compress", "--max-record", "5000"], "x\n");
    let told = info(&path);
    let names: Vec<_> = told["stages"].as_array().unwrap().iter().map(|stage| &stage["name"]).collect();
    assert_eq!(names, ["timestamp", "lz4"]);
    assert_eq!((&told["stages"][1]["id"], &told["stages"][1]["replaces"]), (&4.into(), &true.into()));
    assert_eq!(told["max_record_len"], 5000);
    let text = stdout_of(kek().arg("info").arg(&path));
    assert!(text.contains("stage           lz4 (id 4, version 1)\n"), "{text}");
    let bare = place.path("b.kek");
    write(&bare, &["-q", "--compress", "--no-timestamp"], "x\n");
    assert_eq!(info(&bare)["stages"].as_array().unwrap().len(), 1);
    assert!(!cat(&bare, &["--json"]).contains("ts"));
}

#[test]
fn the_longest_record_is_told_by_what_is_read() {
    let place = Place::new();
    // What does not become shorter, as long as it may be, and a byte longer.
    let random: Vec<u8> = (0..1001_u64)
        .map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_mul(n | 1) >> 32) as u8)
        .collect();
    let longest = place.file("longest", &random[..1000]);
    let longer = place.file("longer", &random);
    let compressible = place.file("compressible", vec![b'x'; 1001]);
    for options in [&["--compress"][..], &["--compress", "--no-timestamp"]] {
        let run = |name: &str, file: &Path| {
            let path = place.path(&format!("{name}-{}.kek", options.len()));
            let options = [options, &["--whole", "--max-record", "1000"]].concat();
            (kek().arg("write").args(options).arg(&path).arg(file).run(""), path)
        };
        let (output, path) = run("longest", &longest);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(cat(&path, &["--hex"]).len(), 2001);
        assert_eq!(info(&path)["max_record_len"], 1000);
        for file in [&longer, &compressible] {
            let (output, path) = run(&file.file_name().unwrap().to_string_lossy(), file);
            assert_fails(&output, 5, "exceeds the limit of 1000: choose a larger --max-record");
            assert_eq!(info(&path)["records"], 0);
        }
    }
    // The largest that the capacity allows.
    let path = place.path("largest.kek");
    let output = kek()
        .args(["write", "-q", "--compress", "--whole", "--capacity", "4K", "--max-record", "4068"])
        .arg(&path)
        .arg(&longest)
        .run("");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(info(&path)["max_record_len"], 4068);
}

#[test]
fn a_journal_of_compressed_records_is_one_like_any_other() {
    let place = Place::new();
    let path = place.path("journal");
    let lines = lines();
    let options = ["-q", "--compress", "--roll-bytes", "8K"];
    assert_eq!(write(&path, &options, &lines).status.code(), Some(0));
    assert!(fs::read_dir(&path).unwrap().count() > 2, "it rolls");
    // A run may compress or not: each channel says what it is.
    assert_eq!(write(&path, &["-q"], "plain\n").status.code(), Some(0));
    assert_eq!(write(&path, &["-q", "--compress"], "compressed\n").status.code(), Some(0));
    assert_eq!(cat(&path, &[]), format!("{lines}plain\ncompressed\n"));
    let reversed: String = cat(&path, &[]).lines().rev().map(|line| format!("{line}\n")).collect();
    assert_eq!(cat(&path, &["--reverse"]), reversed);
    assert_eq!(cat(&path, &["--from", "-2"]), "plain\ncompressed\n");
    assert_eq!(stdout_of(kek().arg("tail").args(["-n", "1"]).arg(&path)), "compressed\n");
    stdout_of(kek().arg("verify").arg(&path));
    assert_eq!(json(&stdout_of(kek().args(["info", "--json"]).arg(&path)))["records"], 302);
    let stat = stdout_of(kek().args(["stat", "--json", "-n", "1", "-i", "1ms"]).arg(&path));
    assert_eq!(json(&stat)["records"], 302);
}

#[test]
fn compressed_records_are_followed_while_they_are_written() {
    let place = Place::new();
    let path = place.path("live.kek");
    let mut writer = Running::start(kek().args(["write", "-q", "--compress"]).arg(&path));
    let follower = Running::start(kek().args(["tail", "-f", "--wait", "--from", "start"]).arg(&path));
    let long = "all work and no play makes jack a dull boy; ".repeat(50);
    for line in ["short", &long, "short again"] {
        writer.write(&format!("{line}\n"));
        assert_eq!(follower.line(), line);
    }
    writer.close_stdin();
    assert_eq!(writer.status().code(), Some(0));
    assert!(follower.rest().is_empty());
}

#[test]
fn what_is_good_of_a_damaged_compressed_channel_is_saved() {
    let place = Place::new();
    let (path, saved) = (place.path("damaged.kek"), place.path("saved.kek"));
    let lines = lines();
    write(&path, &["-q", "--compress"], &lines);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - tail(&path) as usize / 2 - 4096;
    bytes[middle..middle + 100].fill(0xFF);
    fs::write(&path, bytes).unwrap();
    assert_eq!(kek().arg("verify").arg(&path).run("").status.code(), Some(1));
    let output = kek().arg("cat").arg(&path).run("");
    assert_eq!(output.status.code(), Some(1));
    let good = String::from_utf8(output.stdout).unwrap();
    assert!(lines.starts_with(&good) && good.len() > 1000);
    let output = kek().arg("salvage").arg(&path).arg(&saved).run("");
    assert!(saved.exists(), "{output:?}");
    let printed = cat(&saved, &[]);
    let mut all = lines.lines();
    assert!(
        printed.lines().all(|line| all.any(|other| other == line)),
        "each is one of those that were written"
    );
    let lost = 300 - printed.lines().count();
    assert!((1..20).contains(&lost), "{lost} are lost");
    assert_eq!(info(&saved)["stages"], info(&path)["stages"]);
}

/// Says that it compresses, and does not.
struct Forger;

impl Handler for Forger {
    fn describe(&self) -> StageInfo {
        Lz4::new().describe()
    }

    fn before(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        prefix: &mut [u8],
    ) -> Result<(), StageError> {
        prefix.fill(0);
        prefix[0] = if body.starts_with(b"bad") { 100 } else { 0 };
        Ok(())
    }
}

fn forged(place: &Place) -> PathBuf {
    let path = place.path("forged.kek");
    let mut writer = Writer::options().stage(Timestamp::nanos()).stage(Forger).create(&path).unwrap();
    for record in ["good", "bad, as it is no block", "good"] {
        writer.append(record.as_bytes()).unwrap();
    }
    writer.close().unwrap();
    path
}

#[test]
fn what_cannot_be_undone_is_damage() {
    let place = Place::new();
    let path = forged(&place);
    for trust in [&[][..], &["--untrusted"]] {
        let output = kek().arg("cat").args(trust).arg(&path).run("");
        assert_eq!(output.stdout, b"good\n");
        let says = "corrupt at position 24: record 1: stage `lz4` cannot undo it";
        assert_fails(&output, 1, says);
        let output = kek().arg("verify").args(trust).arg(&path).run("");
        assert_fails(
            &output,
            1,
            "corrupt at position 24: 1 record, 24 bytes before it are good; record 1: stage `lz4`",
        );
    }
    let output = kek().args(["verify", "--json"]).arg(&path).run("");
    let told = json(std::str::from_utf8(&output.stdout).unwrap().trim());
    let damage = &told["first_damage"];
    assert_eq!(
        (&damage["kind"], &damage["position"], &damage["sequence"]),
        (&"corrupt".into(), &24.into(), &1.into())
    );
    let output = kek().args(["cat", "--reverse"]).arg(&path).run("");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"good\n"[..]));
}

#[test]
fn correlation_ids_are_printed_as_strings() {
    let place = Place::new();
    let path = place.path("correlated.kek");
    let correlation = CorrelationId::new();
    let mut writer = Writer::options().stage(Lz4::new()).stage(correlation.clone()).create(&path).unwrap();
    for id in [0, 7, u64::MAX] {
        correlation.set(id);
        assert_eq!(correlation.clone().get(), id);
        writer.append(b"x").unwrap();
    }
    writer.close().unwrap();
    let lines = cat(&path, &["--json"]);
    let ids: Vec<_> = lines.lines().map(|line| json(line)["corr"].clone()).collect();
    assert_eq!(ids, ["0", "7", "18446744073709551615"]);
    assert_eq!(Channel::open(&path).unwrap().shared_records().count(), 3);
    assert_eq!(
        stdout_of(kek().args(["tail", "--json", "-n", "1"]).arg(&path)),
        lines.lines().last().unwrap().to_owned() + "\n"
    );
}
