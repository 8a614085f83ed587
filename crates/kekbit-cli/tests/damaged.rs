//! What `kek` does with a channel that is damaged: `verify`, `salvage`, `seal`.

mod common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of, wait_for_records};
use serde_json::{Value, json as object};

/// A closed channel of 300 records of 24 bytes each (a frame of 32), without timestamps, synced.
fn synced(place: &Place, name: &str) -> PathBuf {
    let lines: String = (0..300).map(|n| format!("record number {n:010}\n")).collect();
    let path = place.path(name);
    let mut write = kek();
    write.args(["write", "--no-timestamp", "--sync", "each", "--capacity", "64K"]).arg(&path);
    assert!(write.run(lines).status.success());
    path
}

const FRAME: u64 = 32;
const TAIL: u64 = 300 * FRAME;

/// Damages the payload of one record.
fn damage(path: &Path, record: u64) {
    let bytes = std::fs::read(path).unwrap();
    let data = u64::from_le_bytes(bytes[160..168].try_into().unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"X", data + record * FRAME + 8).unwrap();
}

fn lines_of(text: &[u8]) -> Vec<Value> {
    String::from_utf8(text.to_vec()).unwrap().lines().map(json).collect()
}

#[test]
fn verify_tells_where_a_channel_is_corrupt_and_what_is_behind_it() {
    let place = Place::new();
    let path = synced(&place, "a.kek");
    damage(&path, 40);
    damage(&path, 41);
    damage(&path, 200);
    let output = kek().args(["verify", "--json"]).arg(&path).run("");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let verdict = &lines_of(&output.stdout)[0];
    assert_eq!(verdict["path"], path.to_str().unwrap());
    assert_eq!(verdict["state"], "corrupt");
    assert_eq!((verdict["records"].as_u64(), verdict["tail"].as_u64()), (Some(40), Some(40 * FRAME)));
    assert_eq!(verdict["synced"], TAIL + 8);
    assert_eq!(
        verdict["first_damage"],
        object!({
            "kind": "corrupt", "position": 40 * FRAME, "sequence": 40, "bytes_behind": TAIL + 8 - 40 * FRAME,
            "what": "a frame does not pass its check",
        })
    );
    // How many records were in the first gap nobody can tell; an entry behind the second tells it for both.
    let gap = |from: u64, to: u64, sequence: Option<u64>, next: Option<u64>, before: u64| {
        object!({
            "from": from * FRAME, "to": to * FRAME, "sequence": sequence, "next_sequence": next, "lost": null,
            "salvaged_sequence": before, "resumes": true, "what": "a frame does not pass its check",
        })
    };
    let gaps = [gap(40, 42, Some(40), None, 40), gap(200, 201, None, Some(201), 198)];
    assert_eq!(verdict["gaps"], object!(gaps));
    assert_eq!((verdict["gap_count"].as_u64(), verdict["salvageable"].as_u64()), (Some(2), Some(297)));
    assert_eq!((&verdict["lost"], &verdict["ok"]), (&object!(3), &object!(false)));
    let said = kek().arg("verify").arg(&path).run("");
    assert_fails(&said, 1, "corrupt at position 1280: 40 records, 1280 bytes before it are good");
    assert_fails(&said, 1, "would save 297 records around 2 gaps, 3 records lost");
}

#[test]
fn verify_tells_torn_from_corrupt_and_checks_all_paths() {
    let place = Place::new();
    let good = place.channel("good.kek", "one\n");
    // Nothing of it was synced, and a copy counts as from another boot.
    let abandoned = place.abandoned("abandoned.kek", "one\ntwo\nthree\nfour\nfive\n");
    let torn = place.path("torn.kek");
    std::fs::copy(abandoned, &torn).unwrap();
    let bytes = std::fs::read(&torn).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    std::fs::OpenOptions::new().write(true).open(&torn).unwrap().write_all_at(b"x", at as u64).unwrap();
    let header = synced(&place, "header.kek");
    std::fs::OpenOptions::new().write(true).open(&header).unwrap().write_all_at(b"x", 70).unwrap();
    let nope = place.path("nope.kek");
    let output = kek().args(["verify", "--json"]).args([&good, &nope, &torn, &header]).run("");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let verdicts = lines_of(&output.stdout);
    assert_eq!(verdicts.len(), 4);
    assert_eq!((&verdicts[0]["state"], &verdicts[0]["ok"]), (&object!("closed"), &object!(true)));
    assert_eq!((&verdicts[0]["first_damage"], &verdicts[0]["gaps"]), (&Value::Null, &object!([])));
    assert_eq!((&verdicts[1]["state"], &verdicts[1]["ok"]), (&Value::Null, &object!(false)));
    assert!(verdicts[1]["error"].as_str().unwrap().ends_with("does not exist"));
    assert_eq!((&verdicts[2]["state"], &verdicts[2]["records"]), (&object!("torn"), &object!(1)));
    assert_eq!(verdicts[2]["first_damage"]["kind"], "torn");
    assert_eq!((&verdicts[2]["salvageable"], &verdicts[2]["lost"]), (&object!(4), &Value::Null));
    assert_eq!((&verdicts[3]["state"], &verdicts[3]["ok"]), (&object!("corrupt"), &object!(false)));
    assert_eq!(verdicts[3]["first_damage"]["position"], Value::Null);
    assert_eq!(kek().args(["verify", "--json"]).args([&good, &nope]).run("").status.code(), Some(3));
    assert_eq!(kek().args(["verify", "--json"]).args([&nope, &torn]).run("").status.code(), Some(1));
}

#[test]
fn salvage_saves_what_is_good_and_reports_the_gaps() {
    let place = Place::new();
    let (path, saved) = (synced(&place, "a.kek"), place.path("saved.kek"));
    damage(&path, 40);
    let before = std::fs::read(&path).unwrap();
    let output = kek().args(["salvage", "--json"]).args([&path, &saved]).run("");
    assert_fails(&output, 1, "1 gap, 1 record lost;");
    let lines = lines_of(&output.stdout);
    assert_eq!(
        lines,
        [
            object!({"gap": {
                "from": 40 * FRAME, "to": 41 * FRAME, "sequence": 40, "next_sequence": 41, "lost": 1,
                "salvaged_sequence": 40, "resumes": true, "what": "a frame does not pass its check",
            }}),
            object!({
                "from": path.to_str().unwrap(), "to": saved.to_str().unwrap(), "records": 299, "first_sequence": 0,
                "gaps": 1, "gap_bytes": FRAME, "lost": 1, "end": "closed",
            }),
        ]
    );
    let expected: String =
        (0..300).filter(|n| *n != 40).map(|n| format!("record number {n:010}\n")).collect();
    assert_eq!(stdout_of(kek().arg("cat").arg(&saved)), expected);
    let saved_info = info(&saved);
    assert_eq!(
        (&saved_info["state"], &saved_info["meta"]["salvaged-from"]),
        (&object!("closed"), &object!(path))
    );
    assert!(std::fs::read(&path).unwrap() == before);

    // In words, and to a name that is taken.
    let again = place.path("again.kek");
    let output = kek().arg("salvage").args([&path, &again]).run("");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "gap at positions 1280 to 1312: a frame does not pass its check: 1 record lost, from sequence 40 on; \
         then sequence 41, as 40 in the new channel\n"
    );
    assert_fails(&kek().arg("salvage").args([&path, &again]).run(""), 4, "exists already");
    let whole = synced(&place, "whole.kek");
    let copied = kek().arg("salvage").args([&whole, &place.path("copied.kek")]).run("");
    assert_fails(&copied, 0, "no damage");
    assert!(copied.stdout.is_empty());
}

#[test]
fn salvage_refuses_what_it_cannot_do_and_leaves_nothing_behind() {
    let place = Place::new();
    let (path, saved) = (place.path("a.kek"), place.path("saved.kek"));
    let mut writer = Running::start(kek().arg("write").arg(&path));
    writer.write("one\n");
    wait_for_records(&path, 1);
    assert_fails(&kek().arg("salvage").args([&path, &saved]).run(""), 4, "live writer");
    drop(writer);
    assert_fails(&kek().arg("salvage").args([&place.path("nope"), &saved]).run(""), 3, "does not exist");
    let text = place.file("text", "hello");
    assert_fails(&kek().arg("salvage").args([&text, &saved]).run(""), 3, "not a kekbit channel");
    let header = synced(&place, "header.kek");
    std::fs::OpenOptions::new().write(true).open(&header).unwrap().write_all_at(b"x", 70).unwrap();
    let output = kek().arg("salvage").args([&header, &saved]).run("");
    assert_fails(&output, 1, "damaged header: its checksum does not match: without an intact header");
    assert!(!saved.exists());
}

#[test]
fn seal_says_where_it_has_put_what_it_cuts_off() {
    let place = Place::new();
    let abandoned = place.abandoned("abandoned.kek", "one\ntwo\nthree\nfour\nfive\n");
    let bytes = std::fs::read(&abandoned).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    for (name, discard) in [("kept.kek", false), ("discarded.kek", true)] {
        let path = place.path(name);
        std::fs::copy(&abandoned, &path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"x", at as u64).unwrap();
        let mut seal = kek();
        seal.arg("seal").arg(&path);
        let cut = place.path(&format!("{name}.cut-24"));
        if discard {
            assert_fails(&seal.arg("--discard").run(""), 0, "has left behind it is given up");
            assert!(!cut.exists());
        } else {
            // Four frames of 24 bytes each.
            let said = format!("96 bytes that lay behind it are kept in {}", cut.display());
            assert_fails(&seal.run(""), 0, &said);
            assert!(std::fs::read(&cut).unwrap() == bytes_with_x(&bytes, at)[at - 16..at + 80]);
        }
        assert_eq!(stdout_of(kek().arg("cat").arg(&path)), "one\n");
    }
}

#[test]
fn what_is_cut_off_is_on_the_disk_before_the_channel_is_touched() {
    let this = "what_is_cut_off_is_on_the_disk_before_the_channel_is_touched";
    let place = Place::new();
    let abandoned = place.abandoned("abandoned.kek", "one\ntwo\nthree\n");
    let (path, trace) = (place.path("a.kek"), place.path("trace"));
    std::fs::copy(&abandoned, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"x", at as u64).unwrap();
    let mut strace = std::process::Command::new("strace");
    // Descriptors with the paths behind them.
    strace
        .arg("-y")
        .args(["-e", "trace=fsync,fdatasync,mmap,fallocate,ftruncate,pwrite64,write", "-o"])
        .arg(&trace);
    let sealed = strace.arg(env!("CARGO_BIN_EXE_kek")).arg("seal").arg(&path).output();
    if !sealed.is_ok_and(|output| output.status.success()) {
        println!("skipped {this}: strace does not trace");
        return;
    }
    let calls = std::fs::read_to_string(&trace).unwrap();
    let place_of = |call: &str, path: &Path, with: &str| {
        let there = format!("<{}>", path.display());
        let found = calls
            .lines()
            .position(|line| line.starts_with(call) && line.contains(&there) && line.contains(with));
        found.unwrap_or_else(|| panic!("no {call} of {there} in {calls}"))
    };
    let cut = place.path("a.kek.cut-24");
    let order = [
        place_of("pwrite64(", &cut, ""),
        place_of("fsync(", &cut, "= 0"),
        place_of("fsync(", place.dir(), "= 0"),
        place_of("fallocate(", &path, ""),
        place_of("mmap(", &path, "PROT_WRITE"),
    ];
    assert!(order.is_sorted(), "{order:?} in {calls}");
}

fn bytes_with_x(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = b'x';
    bytes
}
