//! `kek bench`: what it prints and writes, what it refuses, and that nothing is left. Nothing depends on how fast it is.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Place, Run, Running, assert_fails, json, kek, stdout_of, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const WORKLOADS: [&str; 6] = ["write", "read", "stream", "pingpong", "fanout", "durable"];

/// A benchmark of one round with its channels in `dir`.
fn bench(dir: &Path, workload: &str) -> Command {
    bench_rounds(dir, workload, "1")
}

fn bench_rounds(dir: &Path, workload: &str, rounds: &str) -> Command {
    let mut command = kek();
    command.args(["bench", workload, "--wait", "yield", "--rounds", rounds, "--dir"]).arg(dir);
    if workload == "fanout" {
        command.args(["--readers", "1,3"]);
    }
    command
}

/// The lines of this kind that `--json` prints.
fn lines(command: &mut Command, kind: &str) -> Vec<Value> {
    all_lines(command).into_iter().filter(|line| line["kind"] == kind).collect()
}

fn all_lines(command: &mut Command) -> Vec<Value> {
    let output = stdout_of(command.arg("--json"));
    let lines: Vec<Value> = output.lines().map(json).collect();
    assert_eq!(lines[0]["kind"], "setting", "{output}");
    assert!(lines.iter().skip(1).all(|line| line["kind"] == "round" || line["kind"] == "result"), "{output}");
    lines
}

fn assert_empty(dir: &Path) {
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left");
}

fn cases(workload: &str) -> &'static [&'static str] {
    match workload {
        "read" => &["not verified", "verified"],
        "fanout" => &["1 reader", "3 readers"],
        "durable" => &["each synced", "every 10ms"],
        "write" => &["write"],
        "stream" => &["stream"],
        _ => &["pingpong"],
    }
}

#[test]
fn each_workload_says_what_it_has_measured() {
    for workload in WORKLOADS {
        let place = Place::new();
        let output = bench(place.dir(), workload).args(["--records", "200"]).run("");
        assert_eq!(output.status.code(), Some(0), "{workload}: {output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("kek bench {workload} ")), "{text}");
        let needed = [
            "96 bytes, checksum crc32c",
            "closed, as fast as possible",
            "reading it takes",
            "hypervisor",
            "label",
        ];
        needed.iter().chain(cases(workload)).for_each(|part| assert!(text.contains(part), "{part}: {text}"));
        assert_empty(place.dir());
    }
}

#[test]
fn json_has_the_setting_the_rounds_and_the_results() {
    for workload in WORKLOADS {
        let place = Place::new();
        let lines = all_lines(bench_rounds(place.dir(), workload, "2").args(["--records", "200"]));
        let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
        let setting = &lines[0];
        assert_eq!(setting["bench"], workload);
        assert!(setting["clock_ns"].as_f64().unwrap() > 0.0, "{setting}");
        for field in ["processor", "cores", "caches", "memory", "kernel", "hypervisor", "file_system", "date"]
        {
            assert!(setting["machine"].get(field).is_some(), "{field}: {setting}");
        }
        let rounds = of("round");
        assert_eq!(rounds.len(), 2 * cases(workload).len(), "{rounds:?}");
        for round in &rounds {
            let records = round["records"].as_u64().unwrap();
            assert_eq!(records, 200, "{round}");
            assert!(round["ns"].as_u64().unwrap() > 0 && round["records_per_s"].as_f64().unwrap() > 0.0);
        }
        let results = of("result");
        let names: Vec<&str> = results.iter().map(|result| result["case"].as_str().unwrap()).collect();
        assert_eq!(names, cases(workload));
        for result in &results {
            assert_eq!((&result["rounds"], &result["size"]), (&2.into(), &96.into()), "{result}");
            let rate = &result["records_per_s"];
            let of = |field: &str| rate[field].as_f64().unwrap();
            assert!(of("min") <= of("median") && of("median") <= of("max"), "{rate}");
            for field in ["p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max", "mean"] {
                assert!(result["latency_ns"].get(field).is_some(), "{field}: {result}");
            }
        }
    }
}

#[test]
fn each_record_is_timed_where_the_clock_does_not_count() {
    let place = Place::new();
    let by_schedule = ["--rate", "5k", "--duration", "200ms", "--warmup", "10ms"];
    for (workload, readers) in [("write", 1), ("stream", 1), ("pingpong", 1), ("fanout", 1)] {
        for round in lines(bench(place.dir(), workload).args(by_schedule), "round") {
            let readers = if round["case"] == "3 readers" { 3 } else { readers };
            // On a machine that is very busy it may be cut short, and then says so.
            if round["cut_short"] == false {
                assert_eq!(round["records"], 1000, "{round}");
                assert_eq!(round["samples"], 1000 * readers, "{round}");
            }
            let latency = &round["latency_ns"];
            assert!(latency["p50"].as_f64().unwrap() <= latency["max"].as_f64().unwrap(), "{latency}");
        }
    }
    for round in lines(bench(place.dir(), "durable").args(["--sync", "each", "--records", "50"]), "round") {
        assert_eq!(round["samples"], 50, "{round}");
        // Of fifty nobody knows what is exceeded by one in a hundred.
        assert!(round["latency_ns"]["p99"].is_null() && round["latency_ns"]["p90"].is_number(), "{round}");
    }
    assert_empty(place.dir());
}

#[test]
fn records_of_any_length_arrive_unchanged() {
    for size in ["0", "1", "7", "8", "9", "4000", "100k"] {
        for workload in ["stream", "pingpong", "read"] {
            let place = Place::new();
            let mut command = bench(place.dir(), workload);
            command.args(["--records", "300", "--size", size, "--checksum", "none"]);
            for round in lines(&mut command, "round") {
                assert!(round["records"].as_u64().unwrap() >= 300, "{size}: {round}");
            }
        }
    }
}

#[test]
fn a_long_run_goes_through_a_ring_of_files() {
    for workload in ["write", "stream", "pingpong", "fanout", "durable"] {
        let place = Place::new();
        let mut command = bench(place.dir(), workload);
        for round in lines(command.args(["--records", "1000", "--capacity", "4K"]), "round") {
            // 39 records fit one file, and there are a hundred for the warm-up.
            assert_eq!((&round["files"], &round["label"]), (&29.into(), &"sustained".into()), "{round}");
        }
        assert_empty(place.dir());
    }
}

#[test]
fn time_ends_a_run_too() {
    for workload in WORKLOADS {
        let place = Place::new();
        let mut command = bench(place.dir(), workload);
        command.args(["--duration", "30ms", "--capacity", "64K", "--prepare", "demand"]);
        for round in lines(&mut command, "round") {
            assert!(round["records"].as_u64().unwrap() > 0, "{round}");
        }
        assert_empty(place.dir());
    }
}

#[test]
fn what_was_prepared_is_called_a_burst() {
    let place = Place::new();
    let label = |more: &[&str]| {
        let mut command = bench(place.dir(), "stream");
        lines(command.args(["--records", "1000"]).args(more), "result")[0]["label"].clone()
    };
    assert_eq!(label(&[]), "fresh");
    assert_eq!(label(&["--prepare", "all"]), "burst");
    // The successors are made ready while the time is taken.
    assert_eq!(label(&["--prepare", "all", "--capacity", "8K"]), "sustained");
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_else() {
    let place = Place::new();
    let channels = Place::new();
    for workload in WORKLOADS {
        let path = place.path(&format!("{workload}.html"));
        let mut command = bench(channels.dir(), workload);
        command.args(["--records", "300", "--html"]).arg(&path);
        // In a closed loop three hundred are too few for a sample.
        if ["write", "stream", "fanout"].contains(&workload) {
            command.args(["--rate", "20k"]);
        }
        stdout_of(&mut command);
        let page = fs::read_to_string(&path).unwrap();
        assert_well_formed(&page);
        let pictures = if workload == "read" { 1 } else { 2 };
        assert_eq!(page.matches("<svg ").count(), pictures, "{workload}");
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        for link in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!elsewhere.contains(link), "{workload}: {link}");
        }
        for part in ["<h2>Throughput", "<h2>Setting", "<h2>Machine", "checksum crc32c", "--records 300"] {
            assert!(page.contains(part), "{workload}: {part}");
        }
    }
    let names: Vec<_> = fs::read_dir(place.dir()).unwrap().collect();
    assert_eq!(names.len(), WORKLOADS.len(), "temporary files are left: {names:?}");
}

/// Each element that begins also ends, where it should, and what is between is escaped.
fn assert_well_formed(page: &str) {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let mut open: Vec<&str> = Vec::new();
    while let Some((text, after)) = rest.split_once('<') {
        for entity in text.split('&').skip(1) {
            let name = entity.split_once(';').map_or("", |(name, _)| name);
            assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "{entity:?}");
        }
        let (tag, after) = after.split_once('>').expect("the end of a tag");
        assert!(tag.matches('"').count().is_multiple_of(2) && !tag.contains('<'), "<{tag}>");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{tag}>");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        rest = after;
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest:?}");
}

#[test]
fn distributions_are_in_the_usual_text_form() {
    let (place, channels) = (Place::new(), Place::new());
    let one = place.path("one.hgrm");
    let mut command = bench_rounds(channels.dir(), "pingpong", "2");
    stdout_of(command.args(["--records", "500", "--hgrm"]).arg(&one));
    assert_eq!(samples(&one), 1000, "two rounds");
    // Several cases: a directory.
    let many = place.path("many");
    stdout_of(bench(channels.dir(), "durable").args(["--records", "40", "--hgrm"]).arg(&many));
    assert_eq!(samples(&many.join("each-synced.hgrm")), 40);
    assert!(many.join("every-10ms.hgrm").exists());
    // One case, but a directory that is there.
    stdout_of(bench(channels.dir(), "pingpong").args(["--records", "5", "--hgrm"]).arg(&many));
    assert_eq!(samples(&many.join("pingpong.hgrm")), 5);
}

/// Reads such a file, and returns how many samples it says there are.
fn samples(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("       Value     Percentile TotalCount 1/(1-Percentile)"));
    let (mut last, mut count) = (vec![0.0; 3], 0.0);
    for line in lines.filter(|line| !line.is_empty()) {
        if let Some(words) = line.strip_prefix("#[Max     =") {
            let total = words.rsplit_once('=').unwrap().1.trim_end_matches(']').trim();
            assert_eq!(total.parse::<f64>().unwrap(), count, "{text}");
        }
        if line.starts_with('#') {
            continue;
        }
        let row: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!((0..3).all(|column| last[column] <= row[column]), "{line}");
        count = row[2];
        last = row;
    }
    assert_eq!(last[1], 1.0, "{text}");
    count as u64
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::new();
    let refused = |workload: &str, args: &[&str], says: &str| {
        let output = bench(place.dir(), workload).args(args).run("");
        assert_fails(&output, 2, says);
        assert!(output.stdout.is_empty(), "{output:?}");
        assert_empty(place.dir());
    };
    refused("write", &["--size", "70000", "--capacity", "64K"], "choose a capacity of at least 70016 bytes");
    refused("stream", &["--size", "300M"], "exceeds the 268435455 bytes");
    refused("stream", &["--capacity", "100"], "--capacity 100 is outside 4096");
    refused("stream", &["--pin", "0,60000"], "core 60000 is not there");
    refused("stream", &["--rate", "3", "--duration", "10ms"], "none is due in the time");
    refused("read", &["--records", "1000", "--capacity", "4K"], "more than --capacity 4096");
    refused("write", &["--html", "/nowhere/page.html"], "cannot write /nowhere/page.html");
    refused("write", &["--html", "/"], "cannot write /: is a directory");
    refused("write", &["--hgrm", "/nowhere/x.hgrm"], "cannot write /nowhere/x.hgrm");
    refused("durable", &["--hgrm", "/dev/null/x"], "cannot write /dev/null/x");
    let output = kek().args(["bench", "write", "--dir", "/nowhere"]).run("");
    assert_fails(&output, 2, "cannot use --dir /nowhere");
}

#[test]
fn values_that_cannot_be_are_refused() {
    let place = Place::new();
    for args in [
        &["write", "--records", "0"][..],
        &["write", "--rate", "0"],
        &["write", "--rate", "2G"],
        &["write", "--duration", "0s"],
        &["write", "--rounds", "0"],
        &["write", "--records", "1", "--duration", "1s"],
        &["write", "--prepare", "sometimes"],
        &["write", "--pin", "one"],
        &["fanout", "--readers", "0"],
        &["fanout", "--readers", "65"],
        &["durable", "--sync", "none"],
        &["read", "--rate", "5"],
        &["dance"],
        &[],
    ] {
        let output = kek().arg("bench").args(args).current_dir(place.dir()).run("");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    }
    assert_empty(place.dir());
}

#[test]
fn space_is_looked_for_before_it_is_needed() {
    let place = Place::new();
    let mut command = bench(place.dir(), "write");
    assert_fails(&command.args(["--prepare", "all", "--capacity", "10T"]).run(""), 5, "a round may need");
    assert_empty(place.dir());
}

#[test]
fn whoever_is_interrupted_leaves_nothing() {
    for (workload, signal) in
        [("stream", Signal::SIGINT), ("pingpong", Signal::SIGTERM), ("read", Signal::SIGINT)]
    {
        let place = Place::new();
        let mut command = bench(place.dir(), workload);
        let mut running = Running::start(command.args(["--duration", "60s", "--capacity", "64K"]));
        let has_channel = || channels_below(place.dir()) > 0;
        wait_until("the first channel", has_channel);
        running.signal(signal);
        assert_eq!(running.status().code(), Some(128 + signal as i32), "{workload}");
        assert_empty(place.dir());
    }
}

/// Files in this directory, at any depth. What vanishes meanwhile is not counted.
fn channels_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { channels_below(&entry.path()) } else { 1 }).sum()
}

#[test]
fn parts_do_not_outlive_the_benchmark() {
    let place = Place::new();
    let mut command = bench(place.dir(), "stream");
    let mut running = Running::start(command.args(["--duration", "60s", "--capacity", "64K"]));
    let marker = place.dir().to_str().unwrap().to_owned();
    let parts = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines
            .filter(|line| {
                let line = String::from_utf8_lossy(line);
                line.contains("bench-part") && line.contains(&marker)
            })
            .count()
    };
    // They are at work, and hear nothing more from their parent: the first channels have been reused.
    let round = || fs::read_dir(place.dir()).unwrap().flatten().next().map(|dir| dir.path().join("0-0"));
    wait_until("the fourth channel", || {
        round().is_some_and(|dir| channels_below(&dir) > 0 && !dir.join("there-0.kek").exists())
    });
    assert_eq!(parts(), 2);
    running.signal(Signal::SIGKILL);
    running.status();
    wait_until("the end of the parts", || parts() == 0);
}
