//! `kek` on the channels of the original, written by the real 0.3.5: the verbs that read, and `kek import`.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Place, Run, Running, assert_fails, info, json, kek, stdout_of};
use kekbit::{Channel, Journal, Start};
use kekbit_0_3::api::{EncoderHandler, Handler, Writer as _};
use kekbit_0_3::core::{
    ChainedHandler, Metadata, SequenceHandler, ShmWriter, TickUnit as OldUnit, TimestampHandler, shm_writer,
    storage_path,
};
use serde_json::{Value, json};

/// 10 s.
const TIMEOUT: u64 = 10_000;

/// A channel of 0.3 that is being written, and its path. Its capacity is 16 KiB: a mapping behind whose end nothing is written.
fn create<H: Handler>(place: &Place, handler: H) -> (ShmWriter<H>, PathBuf) {
    let metadata = Metadata::new(1850, 42, 16384, 120, TIMEOUT, OldUnit::Millis);
    let writer = shm_writer(place.dir(), &metadata, handler).unwrap();
    (writer, storage_path(place.dir(), 42).into_path_buf())
}

fn append<H: Handler>(writer: &mut ShmWriter<H>, lines: &str) {
    for line in lines.lines() {
        writer.write(&line).unwrap();
    }
}

/// A closed channel with these lines.
fn closed(place: &Place, lines: &str) -> PathBuf {
    let (mut writer, path) = create(place, EncoderHandler::default());
    append(&mut writer, lines);
    path
}

/// One that was filled with as many lines of 100 bytes as fit: 146, of which 138 are in the file.
fn full(place: &Place) -> PathBuf {
    let (mut writer, path) = create(place, EncoderHandler::default());
    let mut count = 0;
    while writer.write(&line(count)).is_ok() {
        count += 1;
    }
    assert_eq!(count, 16384 / 112);
    path
}

fn line(n: usize) -> String {
    format!("{n:0100}")
}

/// Whole records before the end of the file, and where the next begins.
const KEPT: usize = (16384 - 864) / 112;
const CUT: usize = KEPT * 112;
const LOSS: &str = "lie past the end of the file, as does all that was written behind it";

const FIVE: &str = "a\nb\n\nd\ne\n";

#[test]
fn the_forms_of_output_are_what_they_are_for_channels_of_today() {
    let place = Place::new();
    let (old, new) = (closed(&place, FIVE), place.path("new.kek"));
    assert!(kek().args(["write", "--no-timestamp"]).arg(&new).run(FIVE).status.success());
    for verb in ["cat", "tail"] {
        for form in [None, Some("-0"), Some("--raw"), Some("--framed"), Some("--hex"), Some("--json")] {
            let [old, new] = [&old, &new].map(|path| kek().arg(verb).args(form).arg(path).run(""));
            assert_eq!(old.status.code(), Some(0), "{old:?}");
            assert_eq!(old.stdout, new.stdout, "{verb} {form:?}");
        }
    }
    for arguments in [
        &["--from", "2"][..],
        &["--from", "-2"],
        &["--from", "end"],
        &["--from", "7"],
        &["-n", "2"],
        &["--reverse"],
        &["--reverse", "-n", "2"],
        &["--reverse", "--from", "1", "--until", "3"],
        &["--from", "1", "--until", "-1"],
        &["--untrusted"],
    ] {
        let [old, new] = [&old, &new].map(|path| stdout_of(kek().arg("cat").args(arguments).arg(path)));
        assert_eq!(old, new, "{arguments:?}");
    }
    assert_eq!(stdout_of(kek().args(["tail", "-n", "1"]).arg(&old)), "e\n");
}

#[test]
fn info_tells_what_the_file_does() {
    let place = Place::new();
    let (mut writer, path) = create(&place, EncoderHandler::default());
    append(&mut writer, FIVE);
    let open = info(&path);
    for (key, value) in [
        ("format", json!("1.0")),
        ("state", json!("unfinished")),
        ("sealed", json!(false)),
        ("writer_id", json!("1850")),
        ("channel_id", json!("42")),
        ("capacity", json!(16384)),
        ("max_record_len", json!(120)),
        ("timeout", json!("10s")),
        ("records", json!(5)),
        ("first_sequence", json!(0)),
        ("tail", json!(72)),
        ("synced", Value::Null),
        ("reserved", json!(16384 - 864)),
        ("checksum", json!("none")),
        ("meta", json!({})),
        ("stages", json!([])),
    ] {
        assert_eq!(open[key], value, "{key}");
    }
    // The same fields as for a channel of today.
    let today = info(&place.channel("today.kek", FIVE));
    let keys = |info: &Value| info.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&open), keys(&today));
    let text = stdout_of(kek().arg("info").arg(&path));
    assert!(text.contains("unfinished, kekbit 0.3 has no locks"), "{text}");
    drop(writer);
    assert_eq!(info(&path)["state"], "closed");
    let dir = path.parent().unwrap();
    let row = stdout_of(kek().arg("ls").arg(dir));
    assert!(row.contains("closed") && row.contains("0000_002a.kekbit"), "{row}");
    assert_eq!(json(&stdout_of(kek().args(["ls", "--json"]).arg(dir)))["format"], "1.0");
}

#[test]
fn of_a_full_channel_verify_and_info_say_what_is_lost() {
    let place = Place::new();
    let path = full(&place);
    let missing = CUT + 8 + 100 - (16384 - 864);
    let verified = kek().arg("verify").arg(&path).run("");
    assert_fails(&verified, 1, &format!("cut-off at position {CUT}"));
    assert_fails(
        &verified,
        1,
        &format!("the first record that is lost has 100 bytes, of which {missing} {LOSS}"),
    );
    assert_fails(&verified, 1, "864 of the channel's 16384 bytes");
    assert_fails(&verified, 1, &format!("`kek import` copies the {KEPT} good records"));
    let verified = kek().args(["verify", "--json"]).arg(&path).run("");
    assert_eq!(verified.status.code(), Some(1));
    let verdict = json(std::str::from_utf8(&verified.stdout).unwrap());
    let loss = json!({"record_len": 100, "missing": missing, "beyond": 864});
    assert_eq!(
        (&verdict["state"], &verdict["ok"], &verdict["loss"]),
        (&json!("cut-off"), &json!(false), &loss)
    );
    assert_eq!((&verdict["records"], &verdict["first_damage"]["position"]), (&json!(KEPT), &json!(CUT)));
    let told = info(&path);
    assert_eq!((&told["state"], &told["loss"], &told["records"]), (&json!("cut-off"), &loss, &json!(KEPT)));
    // The good records, and then what is wrong.
    let printed = kek().arg("cat").arg(&path).run("");
    assert_fails(&printed, 1, LOSS);
    let lines: Vec<_> = (0..KEPT).map(line).collect();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), lines.join("\n") + "\n");
    let last = kek().args(["tail", "-n", "2"]).arg(&path).run("");
    assert_fails(&last, 1, LOSS);
    assert_eq!(String::from_utf8(last.stdout).unwrap(), lines[KEPT - 2..].join("\n") + "\n");
    let back = kek().args(["cat", "--reverse", "-n", "1"]).arg(&path).run("");
    assert_fails(&back, 1, LOSS);
    assert_eq!(String::from_utf8(back.stdout).unwrap(), line(KEPT - 1) + "\n");
    // A good one is good.
    let other = Place::new();
    let good = kek().arg("verify").arg(closed(&other, FIVE)).run("");
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(String::from_utf8(good.stdout).unwrap().contains("closed, 5 records, 72 bytes, no damage"));
}

#[test]
fn tail_follows_until_it_is_closed() {
    let place = Place::new();
    let path = storage_path(place.dir(), 42).into_path_buf();
    let mut tail = Running::start(kek().args(["tail", "-f", "--wait", "--from", "start"]).arg(&path));
    let (mut writer, _) = create(&place, EncoderHandler::default());
    append(&mut writer, "one");
    assert_eq!(tail.line(), "one");
    append(&mut writer, "two\nthree");
    assert_eq!((tail.line(), tail.line()), ("two".to_owned(), "three".to_owned()));
    assert!(tail.is_running());
    drop(writer);
    assert_eq!(tail.status().code(), Some(0));
    assert!(tail.rest().is_empty());
}

#[test]
fn tail_waits_for_a_channel_that_is_being_created() {
    let place = Place::new();
    let path = storage_path(place.dir(), 42).into_path_buf();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = path.with_extension("lock");
    // As 0.3 goes about it.
    std::fs::write(&lock, "").unwrap();
    std::fs::write(&path, vec![0; 16384 + 160]).unwrap();
    assert_fails(&kek().arg("info").arg(&path).run(""), 4, "is being created");
    assert_fails(&kek().args(["tail", "--wait=1ms"]).arg(&path).run(""), 3, "has not appeared");
    let mut tail = Running::start(kek().args(["tail", "-f", "--wait"]).arg(&path));
    std::fs::remove_file(&path).unwrap();
    let written = Place::new();
    std::fs::copy(closed(&written, FIVE), &path).unwrap();
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(tail.status().code(), Some(0));
    assert_eq!(tail.rest().len(), 5);
    // What merely has a lock beside it is no channel.
    std::fs::write(place.path("a.toml"), "no channel, and long enough for one").unwrap();
    std::fs::write(place.path("a.lock"), "").unwrap();
    assert_fails(&kek().arg("info").arg(place.path("a.toml")).run(""), 3, "not a kekbit channel");
}

#[test]
fn a_silent_writer_times_out_and_what_is_not_recorded_is_refused() {
    let place = Place::new();
    let metadata = Metadata::new(1, 7, 16384, 120, 20, OldUnit::Millis);
    let mut writer = shm_writer(place.dir(), &metadata, EncoderHandler::default()).unwrap();
    append(&mut writer, "one");
    let path = storage_path(place.dir(), 7).into_path_buf();
    let followed = kek().args(["tail", "-f"]).arg(&path).run("");
    assert_fails(&followed, 6, "timed out");
    assert_eq!(followed.stdout, b"one\n");
    assert_fails(&kek().args(["tail", "--durable"]).arg(&path).run(""), 2, "does not record what is synced");
    assert_fails(&kek().args(["tail", "-F"]).arg(&path).run(""), 2, "-F is for journals");
    // Those who can do nothing with it say who can.
    for verb in ["seal", "salvage"] {
        let mut command = kek();
        command.arg(verb).arg(&path).args((verb == "salvage").then(|| place.path("saved.kek")));
        assert_fails(&command.run(""), 3, "`kek import`");
    }
}

#[test]
fn a_closed_channel_is_imported_with_everything_that_it_has() {
    let place = Place::new();
    let (old, new) = (closed(&place, FIVE), place.path("new.kek"));
    let before = std::fs::read(&old).unwrap();
    let imported = kek().arg("import").args([&old, &new]).run("");
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    assert!(String::from_utf8_lossy(&imported.stderr).contains("no damage; "), "{imported:?}");
    assert!(std::fs::read(&old).unwrap() == before, "the old one is as it was");
    assert_eq!(stdout_of(kek().arg("cat").arg(&new)), FIVE);
    let (was, is) = (info(&old), info(&new));
    for key in ["writer_id", "channel_id", "timeout", "records", "max_record_len", "capacity", "tail"] {
        assert_eq!(is[key], was[key], "{key}");
    }
    assert_eq!((&is["state"], &is["checksum"]), (&json!("closed"), &json!("crc32c")));
    assert_eq!(is["meta"]["kekbit-0.3-created"], was["created"]);
    let channel = Channel::open(&new).unwrap();
    assert!(channel.stages().is_empty() && channel.synced_tail() >= channel.end_point().unwrap().position);
    // Once is enough.
    assert_fails(&kek().arg("import").args([&old, &new]).run(""), 4, "exists already");
    assert_fails(
        &kek().arg("import").args([&new, &place.path("newer.kek")]).run(""),
        3,
        "not that of kekbit 0.3",
    );
    assert_fails(
        &kek().arg("import").args([place.path("none"), place.path("x.kek")]).run(""),
        3,
        "does not exist",
    );
}

#[test]
fn a_journal_is_continued() {
    let place = Place::new();
    let (old, journal) = (closed(&place, FIVE), place.path("journal/"));
    for round in 1..=2 {
        let imported = kek().args(["import", "--json"]).args([&old, &journal]).run("");
        assert_eq!(imported.status.code(), Some(0), "{imported:?}");
        let report = json(std::str::from_utf8(&imported.stdout).unwrap());
        assert_eq!((&report["records"], &report["state"]), (&json!(5), &json!("closed")));
        assert_eq!(stdout_of(kek().arg("cat").arg(&journal)), FIVE.repeat(round));
    }
    let channels = Journal::channels(&journal).unwrap();
    assert_eq!(Channel::open(&channels[0]).unwrap().writer_id(), 1850);
    let crowded = place.dir();
    assert_fails(&kek().arg("import").args([old.as_path(), crowded]).run(""), 4, "with other things in it");
}

/// Times and payloads, as they are in the file.
fn raw(path: &Path, at: usize) -> Vec<(u64, Vec<u8>)> {
    let mut reader = kekbit::legacy::Channel::open(path).unwrap().reader();
    let mut records = Vec::new();
    while let Some(record) = reader.try_next().unwrap() {
        let ticks = u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
        records.push((ticks, record[16..].to_vec()));
    }
    records
}

#[test]
fn handlers_become_times_and_sequences() {
    let lines = "one\ntwo\nthree\n";
    for timestamp_first in [true, false] {
        let place = Place::new();
        let (times, numbers) = (|| TimestampHandler::new(OldUnit::Micros), || SequenceHandler::new(70));
        let inner = EncoderHandler::default();
        let path = if timestamp_first {
            let (mut writer, path) =
                create(&place, ChainedHandler::link(ChainedHandler::link(inner, numbers()), times()));
            append(&mut writer, lines);
            path
        } else {
            let (mut writer, path) =
                create(&place, ChainedHandler::link(ChainedHandler::link(inner, times()), numbers()));
            append(&mut writer, lines);
            path
        };
        let (right, wrong) = if timestamp_first {
            (["--timestamp=micros", "--sequence"], ["--sequence", "--timestamp=micros"])
        } else {
            (["--sequence", "--timestamp=micros"], ["--timestamp=micros", "--sequence"])
        };
        let (new, journal) = (place.path("new.kek"), place.path("journal/"));
        let imported = kek().args(["import", "--json"]).args(right).args([&path, &new]).run("");
        assert_eq!(imported.status.code(), Some(0), "{imported:?}");
        let report = json(std::str::from_utf8(&imported.stdout).unwrap());
        assert_eq!((&report["first_number"], &report["last_number"]), (&json!(71), &json!(73)));
        assert_eq!((&report["numbers_kept"], &report["raised_times"]), (&json!(true), &json!(0)));
        let channel = Channel::open(&new).unwrap();
        assert_eq!(channel.stages().len(), 1);
        let found: Vec<_> = channel
            .records()
            .map(|record| record.unwrap())
            .map(|record| (record.sequence(), record.timestamp_nanos().unwrap(), record.to_vec()))
            .collect();
        let expected: Vec<_> = raw(&path, if timestamp_first { 0 } else { 8 })
            .into_iter()
            .zip(71..)
            .map(|((ticks, payload), n)| (n, ticks * 1000, payload))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(
            found.iter().map(|(_, _, payload)| &payload[..]).collect::<Vec<_>>(),
            [&b"one"[..], b"two", b"three"]
        );
        // And a time is found.
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(found[1].1);
        let mut reader = channel.reader(Start::Time(time)).unwrap();
        assert_eq!(reader.try_next().unwrap().unwrap().timestamp_nanos(), Some(found[1].1));
        // A journal has its own numbers, and says so.
        let imported = kek().arg("import").args(right).args([&path, &journal]).run("");
        assert!(
            String::from_utf8_lossy(&imported.stderr).contains("its numbers 71 to 73 are not those"),
            "{imported:?}"
        );
        assert_eq!(stdout_of(kek().arg("cat").arg(&journal)), lines);
        // The other way round they make no sense.
        let other = place.path("other.kek");
        let refused = kek().arg("import").args(wrong).args([&path, &other]).run("");
        assert_fails(&refused, 2, "name its handlers");
        // Nor does another unit.
        for unit in ["nanos", "millis", "secs"] {
            let named = right.map(|named| named.replace("micros", unit));
            let refused = kek().arg("import").args(named).args([&path, &other]).run("");
            assert_fails(&refused, 2, "has no time since the channel's creation");
        }
        assert!(!other.exists());
    }
}

#[test]
fn times_that_go_back_are_raised_and_missing_numbers_are_told() {
    let place = Place::new();
    let handler = ChainedHandler::link(EncoderHandler::default(), SequenceHandler::new(0));
    let (mut writer, path) =
        create(&place, ChainedHandler::link(handler, TimestampHandler::new(OldUnit::Nanos)));
    append(&mut writer, "a\nb");
    // What is refused is counted, too.
    assert!(writer.write(&[0; 200]).is_err());
    append(&mut writer, "c");
    drop(writer);
    // The clock is set back before the second: its time is in bytes 8 to 15 of a frame of 32.
    let first = raw(&path, 0)[0].0;
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(&(first - 5).to_le_bytes(), 1024 + 32 + 8)
        .unwrap();
    let new = place.path("new.kek");
    let imported =
        kek().args(["import", "--json", "--timestamp", "nanos", "--sequence"]).args([&path, &new]).run("");
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    let report = json(std::str::from_utf8(&imported.stdout).unwrap());
    assert_eq!((&report["raised_times"], &report["numbers_kept"]), (&json!(1), &json!(false)));
    let stderr = String::from_utf8_lossy(&imported.stderr);
    assert!(
        stderr.contains("the clock went back: 1 record") && stderr.contains("some are missing"),
        "{stderr}"
    );
    let times: Vec<_> = Channel::open(&new)
        .unwrap()
        .records()
        .map(|record| record.unwrap().timestamp_nanos().unwrap())
        .collect();
    assert_eq!(times[..2], [first, first]);
    assert!(times[2] >= first);
    // No timestamps, no sequences, too short.
    let plain = Place::new();
    let path = closed(&plain, FIVE);
    for named in [&["--sequence"][..], &["--timestamp=secs"]] {
        assert_fails(
            &kek().arg("import").args(named).args([&path, &plain.path("x.kek")]).run(""),
            2,
            "record 0 is shorter",
        );
    }
}

#[test]
fn what_is_lost_or_damaged_is_said_when_the_rest_is_imported() {
    let place = Place::new();
    let (old, new) = (full(&place), place.path("new.kek"));
    let imported = kek().args(["import", "--json"]).args([&old, &new]).run("");
    assert_fails(&imported, 1, LOSS);
    let report = json(std::str::from_utf8(&imported.stdout).unwrap());
    let missing = CUT + 108 - (16384 - 864);
    assert_eq!(report["loss"], json!({"record_len": 100, "missing": missing, "beyond": 864}));
    assert_eq!(
        (&report["records"], &report["state"], &report["tail"]),
        (&json!(KEPT), &json!("cut-off"), &json!(CUT))
    );
    let lines: Vec<_> = (0..KEPT).map(line).collect();
    assert_eq!(stdout_of(kek().arg("cat").arg(&new)), lines.join("\n") + "\n");
    assert_eq!(info(&new)["state"], "closed");
    // A length that cannot be.
    File::options().write(true).open(&old).unwrap().write_all_at(&[0xff], 1024 + 10 * 112 + 1).unwrap();
    let (mut command, newer) = (kek(), place.path("newer.kek"));
    let imported = command.arg("import").args([&old, &newer]).run("");
    assert_fails(&imported, 1, "corrupt at position 1120");
    assert_eq!(stdout_of(kek().arg("cat").arg(&newer)), lines[..10].join("\n") + "\n");
    assert_fails(&kek().arg("verify").arg(&old).run(""), 1, "corrupt at position 1120");
    assert_fails(&kek().arg("info").arg(&old).run(""), 1, "corrupt at position 1120");
    // A header that cannot be: no channel for those who read it, damage for who looks for that.
    File::options().write(true).open(&old).unwrap().write_all_at(&[5], 56).unwrap();
    assert_fails(&kek().arg("verify").arg(&old).run(""), 1, "damaged header: the tick unit is unknown");
    for verb in ["cat", "info"] {
        assert_fails(&kek().arg(verb).arg(&old).run(""), 3, "damaged header: the tick unit is unknown");
    }
    assert_fails(&kek().arg("import").args([&old, &place.path("no.kek")]).run(""), 3, "damaged header");
}

#[test]
fn an_unfinished_channel_is_imported_as_far_as_it_goes() {
    let place = Place::new();
    let (mut writer, old) = create(&place, EncoderHandler::default());
    for (n, lines) in ["", "a\nb"].into_iter().enumerate() {
        append(&mut writer, lines);
        let new = place.path(&format!("{n}.kek"));
        let imported = kek().arg("import").args([&old, &new]).run("");
        assert_eq!(imported.status.code(), Some(0), "{imported:?}");
        assert!(String::from_utf8_lossy(&imported.stderr).contains("unfinished: kekbit 0.3 has no locks"));
        assert_eq!(info(&new)["records"], json!(lines.lines().count()));
    }
}
