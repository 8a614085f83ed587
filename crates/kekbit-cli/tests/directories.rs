//! Every verb takes the directory of a journal, or says why not.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of, wait_until};
use nix::sys::signal::Signal;

fn numbers(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// A journal of these numbers in channels of 4 KiB, each of which is durable to its end.
fn journal(place: &Place, name: &str, records: u64) -> PathBuf {
    let path = place.path(name);
    let written = kek()
        .args(["write", "--quiet", "--roll-bytes", "4K", "--sync", "1h"])
        .arg(&path)
        .run(numbers(0..records));
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    path
}

fn channels(path: &Path) -> Vec<PathBuf> {
    let mut channels: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    channels.retain(|path| path.extension().is_some_and(|extension| extension == "kek"));
    channels.sort();
    channels
}

fn first(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// The numbers that are printed.
fn printed(command: &mut std::process::Command) -> Vec<u64> {
    stdout_of(command).lines().map(|line| line.parse().unwrap()).collect()
}

fn cat(path: &Path, options: &[&str]) -> Vec<u64> {
    printed(kek().arg("cat").args(options).arg(path))
}

/// The journal of a writer that was killed after so many numbers.
fn abandoned(place: &Place, name: &str, records: u64) -> PathBuf {
    let path = place.path(name);
    let mut writer = Running::start(kek().args(["write", "--roll-bytes", "4K"]).arg(&path));
    writer.write(&numbers(0..records));
    wait_until("the records are there", || {
        path.join("writer.lock").exists() && info(&path)["next_sequence"] == records
    });
    writer.signal(Signal::SIGKILL);
    writer.status();
    path
}

#[test]
fn a_journal_is_printed_backwards() {
    let place = Place::new();
    let path = journal(&place, "numbers", 1000);
    assert_eq!(cat(&path, &["-r"]), (0..1000).rev().collect::<Vec<_>>());
    assert_eq!(cat(&path, &["-r", "-n", "3"]), [999, 998, 997]);
    assert_eq!(cat(&path, &["--reverse", "--from", "500", "--until", "503"]), [502, 501, 500]);
    assert_eq!(cat(&path, &["--from", "500", "--until", "503"]), [500, 501, 502]);
    assert_eq!(cat(&path, &["-r", "--from", "-2"]), [999, 998]);
    assert!(cat(&path, &["-r", "--until", "0"]).is_empty());
    // What was given up is refused in either direction; without a place the oldest that is left is the end.
    stdout_of(kek().args(["retain", "--quiet", "--count", "2"]).arg(&path));
    let oldest = info(&path)["first_sequence"].as_u64().unwrap();
    for direction in [&[][..], &["-r"]] {
        let refused = kek().args(["cat", "--from", "5"]).args(direction).arg(&path).run("");
        assert_fails(&refused, 6, "given up");
    }
    assert_eq!(cat(&path, &["-r"]), (oldest..1000).rev().collect::<Vec<_>>());
    assert!(cat(&path, &["-r", "--until", "5"]).is_empty());
}

#[test]
fn a_hole_in_a_journal_ends_printing_backwards() {
    let place = Place::new();
    let path = journal(&place, "numbers", 1000);
    let all = channels(&path);
    fs::remove_file(&all[1]).unwrap();
    let output = kek().args(["cat", "-r"]).arg(&path).run("");
    assert_fails(&output, 6, "given up");
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64, 1000 - first(&all[2]));
}

#[test]
fn sealing_a_journal_ends_what_a_dead_writer_has_left() {
    let place = Place::new();
    let path = abandoned(&place, "killed", 500);
    let last = channels(&path).pop().unwrap();
    assert_eq!(info(&last)["sealed"], false);
    let sealed = kek().arg("seal").arg(&path).run("");
    assert_eq!(sealed.status.code(), Some(0), "{sealed:?}");
    let said = String::from_utf8_lossy(&sealed.stderr);
    assert!(said.contains("it was abandoned") && said.contains("ends before sequence 500"), "{said}");
    assert_eq!(info(&last)["sealed"], true);
    assert_eq!(cat(&path, &[]), (0..500).collect::<Vec<_>>());
    // Once more, it has ended.
    let again = kek().arg("seal").arg(&path).run("");
    assert_eq!(again.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&again.stderr).contains("has ended already, before sequence 500"));
    // And it goes on.
    let written = kek().args(["write", "--quiet"]).arg(&path).run(numbers(500..600));
    assert_eq!(written.status.code(), Some(0));
    assert_eq!(cat(&path, &[]), (0..600).collect::<Vec<_>>());
}

#[test]
fn a_journal_that_somebody_writes_is_neither_sealed_nor_salvaged() {
    let place = Place::new();
    let path = place.path("live");
    let mut writer = Running::start(kek().args(["write", "--roll-bytes", "4K"]).arg(&path));
    writer.write("one\n");
    wait_until("the record is there", || {
        path.join("writer.lock").exists() && info(&path)["next_sequence"] == 1
    });
    assert_fails(&kek().arg("seal").arg(&path).run(""), 4, "being written");
    let to = place.path("saved");
    assert_fails(&kek().arg("salvage").arg(&path).arg(&to).run(""), 4, "live writer");
    assert!(!to.exists());
    writer.write("two\n");
    writer.close_stdin();
    assert!(writer.status().success());
    assert_eq!(info(&path)["records"], 2);
}

#[test]
fn a_damaged_channel_that_no_crash_makes_is_not_sealed() {
    let place = Place::new();
    let path = abandoned(&place, "killed", 500);
    let last = channels(&path).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let at = bytes.windows(3).position(|window| window == b"499").unwrap();
    bytes[at] ^= 1;
    fs::File::options()
        .write(true)
        .open(&last)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))
        .unwrap();
    assert_fails(&kek().arg("seal").arg(&path).run(""), 1, "does not pass its check");
}

#[test]
fn an_intact_journal_is_salvaged_as_it_is() {
    let place = Place::new();
    let path = journal(&place, "numbers", 700);
    stdout_of(kek().args(["cursor", "set"]).arg(&path).args(["billing", "321"]));
    let to = place.path("saved");
    let salvaged = kek().args(["salvage", "--json"]).arg(&path).arg(&to).run("");
    assert_eq!(salvaged.status.code(), Some(0), "{salvaged:?}");
    let told = json(String::from_utf8(salvaged.stdout).unwrap().trim());
    assert_eq!((&told["records"], &told["lost"], &told["holes"]), (&700.into(), &0.into(), &0.into()));
    assert_eq!(cat(&to, &[]), (0..700).collect::<Vec<_>>());
    let firsts = |path: &Path| channels(path).iter().map(|path| first(path)).collect::<Vec<_>>();
    assert_eq!(firsts(&to), firsts(&path));
    assert_eq!(info(&to)["cursors"][0]["sequence"], 321);
    assert_eq!(info(&to)["roll_bytes"], 4096);
    let written = kek().args(["write", "--quiet"]).arg(&to).run(numbers(700..710));
    assert_eq!(written.status.code(), Some(0));
    assert_eq!(cat(&to, &["--from", "699"]), (699..710).collect::<Vec<_>>());
    // What is there is not touched.
    assert_fails(&kek().arg("salvage").arg(&path).arg(&to).run(""), 4, "exists already");
    let names: Vec<_> = fs::read_dir(place.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn salvaged_records_keep_their_sequences_and_what_is_missing_is_told() {
    let place = Place::new();
    let path = journal(&place, "numbers", 1500);
    let all = channels(&path);
    assert!(all.len() > 8);
    // A record in the middle of a channel, a header, a file.
    let (start, next) = (first(&all[1]), first(&all[2]));
    let victim = (start + next) / 2;
    let mut bytes = fs::read(&all[1]).unwrap();
    let text = victim.to_string();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(&all[1], bytes).unwrap();
    let mut bytes = fs::read(&all[4]).unwrap();
    bytes[20] ^= 1;
    fs::write(&all[4], bytes).unwrap();
    fs::remove_file(&all[6]).unwrap();
    let missing = [victim..victim + 1, first(&all[4])..first(&all[5]), first(&all[6])..first(&all[7])];
    let good: Vec<_> = (0..1500).filter(|n| !missing.iter().any(|range| range.contains(n))).collect();

    let to = place.path("saved");
    let salvaged = kek().args(["salvage", "--json"]).arg(&path).arg(&to).run("");
    assert_eq!(salvaged.status.code(), Some(1), "{salvaged:?}");
    let stdout = String::from_utf8(salvaged.stdout).unwrap();
    let told: Vec<_> = stdout.lines().map(json).collect();
    assert_eq!(told.len(), 5, "{stdout}");
    assert_eq!(told[0]["channel"], all[1].display().to_string());
    let gap = &told[0]["gap"];
    assert_eq!((&gap["sequence"], &gap["next_sequence"]), (&victim.into(), &(victim + 1).into()));
    assert_eq!(gap["salvaged_sequence"], victim + 1);
    assert_eq!(told[1]["lost_channel"]["channel"], all[4].display().to_string());
    let hole = |range: &std::ops::Range<u64>| serde_json::json!({"from": range.start, "to": range.end});
    assert_eq!((&told[2]["hole"], &told[3]["hole"]), (&hole(&missing[1]), &hole(&missing[2])));
    let whole = &told[4];
    assert_eq!(whole["records"], good.len());
    assert_eq!(whole["lost"], 1500 - good.len());
    assert_eq!((&whole["gaps"], &whole["lost_channels"], &whole["holes"]), (&1.into(), &1.into(), &2.into()));

    // Record by record, each with the sequence that it had.
    let mut found = Vec::new();
    for channel in channels(&to) {
        assert_eq!(kek().arg("verify").arg(&channel).run("").status.code(), Some(0));
        for line in stdout_of(kek().args(["cat", "--json"]).arg(&channel)).lines().map(json) {
            assert_eq!(line["data"], line["seq"].as_u64().unwrap().to_string());
            found.push(line["seq"].as_u64().unwrap());
        }
    }
    assert_eq!(found, good);
    // Whoever reads across a hole is told.
    assert_fails(&kek().arg("cat").arg(&to).run(""), 6, "given up");
    assert_eq!(
        cat(&to, &["--from", &missing[2].end.to_string()]),
        (missing[2].end..1500).collect::<Vec<_>>()
    );

    // The same for people.
    let text = kek().arg("salvage").arg(&path).arg(place.path("again")).run("");
    let (stdout, stderr) = (String::from_utf8(text.stdout).unwrap(), String::from_utf8(text.stderr).unwrap());
    assert_eq!(stdout.lines().count(), 4, "{stdout}");
    assert!(stdout.contains("1 record lost") && stdout.contains("hole: "), "{stdout}");
    assert!(stderr.contains("1 gap, 1 lost channel, 2 holes"), "{stderr}");
}

#[test]
fn a_journal_is_listed_with_its_totals_and_its_channels_inside_of_it() {
    let place = Place::new();
    journal(&place, "numbers", 700);
    place.channel("alone.kek", "one\n");
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("notes.txt"), "mine").unwrap();
    let listed = stdout_of(kek().arg("ls").arg(place.dir()));
    let rows: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{listed}");
    assert_eq!((rows[1][0], rows[1][1], rows[1][5]), ("closed", "1", "alone.kek"));
    assert_eq!((rows[2][0], rows[2][1], rows[2][3], rows[2][5]), ("closed", "700", "-", "numbers/"));
    assert!(rows[2][4].starts_with("20") && rows[2][4].ends_with('Z'), "{listed}");
    let lines = stdout_of(kek().args(["ls", "--json"]).arg(place.dir()));
    let lines: Vec<_> = lines.lines().map(json).collect();
    assert_eq!((&lines[1]["records"], &lines[1]["next_sequence"]), (&700.into(), &700.into()));
    assert_eq!(lines[1], info(&place.path("numbers")));
    let inside = stdout_of(kek().arg("ls").arg(place.path("numbers")));
    assert_eq!(inside.lines().count(), 1 + channels(&place.path("numbers")).len());
}

#[test]
fn what_is_no_journal_is_refused_by_every_verb() {
    let place = Place::new();
    let (other, empty) = (place.path("other"), place.path("empty"));
    fs::create_dir(&other).unwrap();
    fs::create_dir(&empty).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    let to = place.path("to");
    for directory in [&other, &empty] {
        for verb in [
            &["cat"][..],
            &["cat", "-r"],
            &["tail"],
            &["info"],
            &["verify"],
            &["seal"],
            &["retain"],
            &["stat"],
            &["cursor", "ls"],
            &["tail", "--wait=10ms"],
        ] {
            let says = if verb.contains(&"--wait=10ms") { "has not appeared" } else { "no journal" };
            assert_fails(&kek().args(verb).arg(directory).run(""), 3, says);
        }
        assert_fails(&kek().arg("salvage").arg(directory).arg(&to).run(""), 3, "no journal");
        assert!(!to.exists());
        assert_eq!(stdout_of(kek().arg("ls").arg(directory)).lines().count(), 1);
    }
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    // And what is for journals alone refuses a channel.
    let channel = place.channel("one.kek", "one\n");
    for verb in [&["retain"][..], &["stat"], &["cursor", "ls"]] {
        assert_fails(&kek().args(verb).arg(&channel).run(""), 3, "a journal is a directory");
    }
    assert_fails(&kek().arg("salvage").arg(&channel).arg(&other).run(""), 4, "exists already");
}

#[test]
fn a_follower_waits_for_a_journal_in_an_empty_directory() {
    let place = Place::new();
    let path = place.path("later");
    fs::create_dir(&path).unwrap();
    let mut follower = Running::start(kek().args(["tail", "-F", "--wait", "--from", "start"]).arg(&path));
    let written = kek().args(["write", "--quiet"]).arg(&path).run("one\n");
    assert_eq!(written.status.code(), Some(0));
    assert_eq!(follower.line(), "one");
    follower.signal(Signal::SIGTERM);
    follower.status();
}
