//! The sample files under `testdata/draft`: this library reads each to exactly what is written down beside it, the
//! independent reader in Python does too, and FORMAT.md's worked example is the file that it says it is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use kekbit::{Channel, ReadError, Record, Start, Verify};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every sample: the channel file, and the lines that are expected of it.
fn samples() -> Vec<(PathBuf, String)> {
    let directory = repository().join("testdata/draft");
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .expect("the samples are part of the repository")
        .map(|entry| entry.expect("the directory is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "kek"))
        // Without the feature it is refused, which tests/stages.rs checks.
        .filter(|path| cfg!(feature = "lz4") || name(path) != "compressed")
        .collect();
    files.sort();
    assert!(files.len() >= 19, "there are samples of everything: {files:?}");
    let expected = |path: &Path| fs::read_to_string(path.with_extension("jsonl"));
    files.into_iter().map(|path| (path.clone(), expected(&path).expect("each has its lines"))).collect()
}

/// A record as it is written down.
fn line(record: &Record<'_>) -> String {
    let payload = record.payload();
    let mut out =
        format!(r#"{{"seq":{},"pos":{},"len":{}"#, record.sequence(), record.position(), payload.len());
    match payload.first() {
        Some(first) if payload.len() > 64 && payload.iter().all(|byte| byte == first) => {
            write!(out, r#","fill":"{first:02x}""#).expect("strings grow");
        }
        _ => {
            let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            write!(out, r#","hex":"{hex}""#).expect("strings grow");
        }
    }
    if let Some(time) = record.timestamp_nanos() {
        write!(out, r#","ts":{time}"#).expect("strings grow");
    }
    if let Some(stamp) = record.sequence_stamp() {
        write!(out, r#","stamp":{stamp}"#).expect("strings grow");
    }
    if let Some(correlation) = record.correlation_id() {
        write!(out, r#","corr":{correlation}"#).expect("strings grow");
    }
    out + "}"
}

fn error_line(error: &ReadError) -> String {
    match error {
        ReadError::Corrupt { position, .. } => format!(r#"{{"error":"corrupt","pos":{position}}}"#),
        ReadError::UnknownKind { position, kind, .. } => {
            format!(r#"{{"error":"unknown kind {kind}","pos":{position}}}"#)
        }
        other => panic!("a file that is not damaged can be read: {other}"),
    }
}

/// All that this library finds in the channel.
fn lines(channel: &Channel) -> String {
    let mut out = String::new();
    let is_encoded = channel.stages().iter().any(|stage| stage.replaces);
    // What does not lie in the file is not lent from it.
    let records: Box<dyn Iterator<Item = _>> = match is_encoded {
        true => Box::new(channel.shared_records()),
        false => Box::new(channel.records().map(|record| Ok(record?.to_shared()))),
    };
    for record in records {
        match record {
            Ok(record) => writeln!(out, "{}", line(&record.record())).expect("strings grow"),
            Err(error) => {
                let told = error_line(&error);
                assert_eq!(
                    channel.verify(|_| ()).map_err(|error| error_line(&error)),
                    Err(told.clone()),
                    "verifying and reading find the same damage"
                );
                return out + &told + "\n";
            }
        }
    }
    let end = channel.verify(|_| ()).expect("nothing was found while reading");
    writeln!(
        out,
        r#"{{"end":"{}","pos":{},"next":{},"sealed":{}}}"#,
        end.state, end.position, end.sequence, end.sealed
    )
    .expect("strings grow");
    out
}

/// A copy is another file, of another boot than any header tells of, also on the machine where the sample was made.
fn copy(sample: &Path, directory: &tempfile::TempDir) -> PathBuf {
    let path = directory.path().join("sample.kek");
    fs::copy(sample, &path).expect("a temporary directory takes a copy");
    path
}

fn name(path: &Path) -> String {
    path.file_stem().expect("a sample has a name").to_string_lossy().into_owned()
}

#[test]
fn every_sample_reads_to_exactly_what_is_written_down() {
    for (path, expected) in samples() {
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let path_of_copy = copy(&path, &directory);
        for verify in [Verify::UnlessLive, Verify::Always] {
            let channel = Channel::options().verify(verify).open(&path_of_copy).expect("a sample opens");
            assert_eq!(lines(&channel), expected, "{}", name(&path));
            assert!(channel.is_draft(), "golden files have a place of their own: {}", name(&path));
        }
    }
}

#[test]
fn the_end_of_an_undamaged_sample_is_found_through_its_index_too() {
    let mut checked = 0;
    for (path, expected) in samples() {
        let last = expected.lines().last().expect("every sample ends somehow");
        if last.contains("error") {
            continue;
        }
        let directory = tempfile::tempdir().expect("there is a place for temporary files");
        let channel = Channel::open(copy(&path, &directory)).expect("a sample opens");
        let end = channel.end_point().expect("it is not damaged");
        let told = format!(
            r#"{{"end":"{}","pos":{},"next":{},"sealed":{}}}"#,
            end.state, end.position, end.sequence, end.sealed
        );
        assert_eq!(told, last, "{}", name(&path));
        checked += 1;
    }
    assert!(checked >= 14, "{checked} samples are not damaged");
}

#[test]
fn every_record_of_the_large_sample_is_found_by_its_sequence() {
    let (path, expected) = sample("large");
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let channel = Channel::open(copy(&path, &directory)).expect("a sample opens");
    let records: Vec<&str> = expected.lines().filter(|line| line.contains("seq")).collect();
    for (sequence, expected) in (0..).zip(&records) {
        let mut found = channel.records_from(Start::Sequence(sequence)).expect("it is there");
        let record = found.next().expect("it is there").expect("it is not damaged");
        assert_eq!(&line(&record), expected);
    }
    assert!(records.len() > 200);
}

fn sample(wanted: &str) -> (PathBuf, String) {
    samples().into_iter().find(|(path, _)| name(path) == wanted).expect("the sample is there")
}

#[test]
fn the_reader_in_python_finds_the_same() {
    let script = repository().join("testdata/read_channel.py");
    let run = |arguments: &[&str], path: &Path| {
        Command::new("python3").arg("-B").arg(&script).args(arguments).arg(path).output()
    };
    for (path, expected) in samples() {
        let output = match run(&[], &path) {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("SKIPPED the_reader_in_python_finds_the_same: there is no python3");
                return;
            }
            Err(error) => panic!("cannot start python3: {error}"),
        };
        let damaged = expected.contains("error");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}: {complaint}", name(&path));
        assert_eq!(output.status.code(), Some(i32::from(damaged)), "{}: {complaint}", name(&path));
        if !damaged {
            let output = run(&["--end"], &path).expect("it has just run");
            let last = expected.lines().last().map(|line| format!("{line}\n"));
            assert_eq!(Some(String::from_utf8_lossy(&output.stdout).into_owned()), last, "{}", name(&path));
        }
    }
}

/// The lines of the code block of FORMAT.md that follows `mark`.
fn block(mark: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join("FORMAT.md")).expect("the format is described");
    let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("FORMAT.md has {mark}"));
    let (_, rest) = rest.split_once("```text\n").expect("a code block follows");
    let (block, _) = rest.split_once("```").expect("a code block ends");
    block.lines().map(str::to_owned).collect()
}

#[test]
fn the_worked_example_of_the_format_shows_all_bytes_of_its_sample() {
    let bytes = fs::read(sample("worked").0).expect("a sample is readable");
    let mut shown = vec![0; bytes.len()];
    let lines = block("<!-- worked: bytes -->");
    let (length, rows) = lines.split_last().expect("the example is not empty");
    for row in rows.iter().filter(|row| *row != "*") {
        let (offset, rest) = row.split_once("  ").expect("an offset comes first");
        let (digits, printable) = rest.split_once("  |").expect("printable characters come last");
        let at = usize::from_str_radix(offset, 16).expect("an offset is a number");
        let row: Vec<u8> = digits
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte is two digits"))
            .collect();
        assert_eq!(row.len(), 16, "{offset}");
        let as_text: String =
            row.iter().map(|&b| if (32..127).contains(&b) { char::from(b) } else { '.' }).collect();
        assert_eq!(printable, as_text + "|", "{offset}");
        shown[at..at + 16].copy_from_slice(&row);
    }
    assert_eq!(usize::from_str_radix(length, 16), Ok(bytes.len()));
    assert!(shown == bytes, "what is not shown is zero, and what is shown is there: run testdata/worked.py");
}

#[test]
fn the_bytes_that_the_worked_example_explains_are_those_of_its_sample() {
    let bytes = fs::read(sample("worked").0).expect("a sample is readable");
    let text = fs::read_to_string(repository().join("FORMAT.md")).expect("the format is described");
    let (_, rest) = text.split_once("## 16. Worked example").expect("there is an example");
    let (example, _) = rest.split_once("## 17.").expect("more follows");
    let mut checked = 0;
    for row in example.lines().filter_map(|line| line.strip_prefix("| ")) {
        let Some((offset, cells)) = row.split_once(" | ") else { continue };
        let Ok(mut at) = usize::from_str_radix(offset, 16) else { continue };
        // Bytes in backquotes follow each other; `check` stands for four that differ in each file.
        let cells = cells.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ' || c == '|');
        let before = bytes.len();
        let shown = if let Some(rest) = cells.strip_prefix("check, ") {
            at += 4;
            rest
        } else {
            cells
        };
        let column = shown.split(" | ").next().unwrap_or_default();
        for group in column.split('`').skip(1).step_by(2) {
            for byte in group.split(' ') {
                assert_eq!(u8::from_str_radix(byte, 16), Ok(bytes[at]), "{offset}: {row}");
                at += 1;
                checked += 1;
            }
        }
        assert!(at <= before);
    }
    assert!(checked > 150, "{checked} bytes are explained one by one");
}

/// CRC-32C of `bytes`, zero-padded to 8: another implementation than the library's.
fn crc(bytes: &[u8]) -> u32 {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(8), 0);
    crc32c::crc32c(&padded)
}

fn number(text: &str) -> u64 {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn the_check_that_the_worked_example_computes_comes_out_as_it_says() {
    let bytes = fs::read(sample("worked").0).expect("a sample is readable");
    let (salt0, salt1, head) = (word(&bytes, 72), word(&bytes, 80), word(&bytes, 0x3000));
    let (kl, position) = (head >> 32, 0_u64);
    let a = (position ^ salt0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = a ^ a >> 32 ^ kl;
    let b = mixed.wrapping_add(salt1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let len = usize::try_from(kl & 0x0FFF_FFFF).expect("28 bits");
    let crc = u64::from(crc(&bytes[0x3008..0x3008 + len]));
    let steps = [
        ("word", head),
        ("kl", kl),
        ("salt0", salt0),
        ("salt1", salt1),
        ("position", position),
        ("position ^ salt0", position ^ salt0),
        ("a", a),
        ("a ^ a >> 32 ^ kl", mixed),
        ("... + salt1", mixed.wrapping_add(salt1)),
        ("b", b),
        ("b >> 32", b >> 32),
        ("crc", crc),
        ("check", crc ^ b >> 32),
    ];
    let lines = block("<!-- worked: check -->");
    let told: Vec<(&str, u64)> = lines
        .iter()
        .map(|line| line.split_once(" = ").expect("name = value"))
        .map(|(name, value)| (name.trim(), number(value)))
        .collect();
    assert_eq!(told, steps);
    assert_eq!(crc ^ b >> 32, head & 0xFFFF_FFFF, "the frame passes its check");
}

#[test]
fn the_test_vectors_of_the_format_are_right() {
    let crcs = block("`crc32c_padded` of bytes in hexadecimal");
    for line in &crcs {
        let (digits, value) =
            line.strip_prefix("crc(").and_then(|rest| rest.split_once(") = ")).expect("crc(...) = value");
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).expect("hexadecimal digits"))
            .collect();
        assert_eq!(u64::from(crc(&bytes)), number(value), "{line}");
    }
    let salt = b"sixteen of salt!";
    let mixes = block("`mix(position, kl)` with the salt `sixteen of salt!`");
    for line in &mixes {
        let (inner, value) =
            line.strip_prefix("mix(").and_then(|rest| rest.split_once(") = ")).expect("mix(...) = value");
        let (position, kl) = inner.split_once(", ").expect("position, kl");
        let a = (number(position) ^ word(salt, 0)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let b = (a ^ a >> 32 ^ number(kl)).wrapping_add(word(salt, 8)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        assert_eq!(b >> 32, number(value), "{line}");
    }
    assert_eq!((crcs.len(), mixes.len()), (8, 7));
}
