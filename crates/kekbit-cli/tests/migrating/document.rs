//! docs/MIGRATING.md is complete and true: each public item of the original has a row, what a row names exists, and so do
//! the tests and examples that it says use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The public items of kekbit 0.3.5, from the JSON of `cargo rustdoc -p kekbit@0.3.5`: without modules, and of implementations
/// without the derived ones.
const ITEMS: [&str; 106] = [
    "api::ChannelError",
    "api::ChannelError::AccessError",
    "api::ChannelError::CouldNotAccessStorage",
    "api::ChannelError::IncompatibleVersion",
    "api::ChannelError::InvalidCapacity",
    "api::ChannelError::InvalidMaxMessageLength",
    "api::ChannelError::InvalidSignature",
    "api::ChannelError::MemoryMappingFailed",
    "api::ChannelError::StorageAlreadyExists",
    "api::ChannelError::StorageNotFound",
    "api::ChannelError::StorageNotReady",
    "api::Encodable",
    "api::Encodable for AsRef<[u8]>",
    "api::Encodable::encode",
    "api::EncoderHandler",
    "api::EncoderHandler: Default",
    "api::EncoderHandler: Handler",
    "api::Handler",
    "api::Handler::handle",
    "api::Handler::incoming",
    "api::Handler::outgoing",
    "api::ReadError",
    "api::ReadError::ChannelFull",
    "api::ReadError::Closed",
    "api::ReadError::Failed",
    "api::ReadError::Timeout",
    "api::Reader",
    "api::Reader::exhausted",
    "api::Reader::try_read",
    "api::WriteError",
    "api::WriteError::ChannelFull",
    "api::WriteError::EncodingError",
    "api::WriteError::NoSpaceForRecord",
    "api::WriteError::Wait",
    "api::Writer",
    "api::Writer::flush",
    "api::Writer::write",
    "core::ChainedHandler",
    "core::ChainedHandler: Handler",
    "core::ChainedHandler::link",
    "core::Metadata",
    "core::Metadata: PartialEq",
    "core::Metadata::capacity",
    "core::Metadata::channel_id",
    "core::Metadata::creation_time",
    "core::Metadata::len",
    "core::Metadata::max_msg_len",
    "core::Metadata::new",
    "core::Metadata::read",
    "core::Metadata::tick_unit",
    "core::Metadata::timeout",
    "core::Metadata::version",
    "core::Metadata::write_to",
    "core::Metadata::writer_id",
    "core::ReadResult",
    "core::ReadResult::Failed",
    "core::ReadResult::Nothing",
    "core::ReadResult::Record",
    "core::SequenceHandler",
    "core::SequenceHandler: Default",
    "core::SequenceHandler: Handler",
    "core::SequenceHandler::new",
    "core::ShmReader",
    "core::ShmReader: Reader",
    "core::ShmReader::metadata",
    "core::ShmReader::position",
    "core::ShmReader::try_iter",
    "core::ShmWriter",
    "core::ShmWriter: Drop",
    "core::ShmWriter: Send",
    "core::ShmWriter: Writer",
    "core::ShmWriter::available",
    "core::ShmWriter::metadata",
    "core::ShmWriter::write_offset",
    "core::TickUnit",
    "core::TickUnit::Micros",
    "core::TickUnit::Millis",
    "core::TickUnit::Nanos",
    "core::TickUnit::Secs",
    "core::TickUnit::convert",
    "core::TickUnit::from_id",
    "core::TickUnit::id",
    "core::TickUnit::nix_time",
    "core::TimeoutReader",
    "core::TimeoutReader: From",
    "core::TimeoutReader: Reader",
    "core::TimeoutReader::new",
    "core::TimeoutReader::try_iter",
    "core::TimestampHandler",
    "core::TimestampHandler: Handler",
    "core::TimestampHandler::new",
    "core::TryIter",
    "core::TryIter: FusedIterator",
    "core::TryIter: Iterator",
    "core::shm_reader",
    "core::shm_timeout_reader",
    "core::shm_writer",
    "core::storage_path",
    "core::try_shm_reader",
    "retry::RetryIter",
    "retry::RetryIter: From",
    "retry::RetryIter: FusedIterator",
    "retry::RetryIter: Iterator",
    "retry::RetryWriter",
    "retry::RetryWriter: Writer",
    "retry::RetryWriter::new",
];

struct Row {
    items: Vec<String>,
    counterpart: String,
    shown_by: String,
}

/// What stands between backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(repository().join("docs/MIGRATING.md")).unwrap();
    let tables = text.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [items, counterpart, shown_by] = cells[..] else { panic!("three cells: {line}") };
        Row { items: code(items), counterpart: counterpart.to_owned(), shown_by: shown_by.to_owned() }
    };
    tables.map(row).collect()
}

/// The Rust sources in a directory, and below it.
fn sources(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
    found
}

#[test]
fn every_item_of_the_original_has_one_row() {
    let mut rows_of = BTreeMap::new();
    for item in rows().into_iter().flat_map(|row| row.items) {
        *rows_of.entry(item).or_insert(0) += 1;
    }
    let expected = ITEMS.iter().map(|item| ((*item).to_owned(), 1));
    assert_eq!(rows_of, BTreeMap::from_iter(expected));
}

/// The list above was made once. Here is another look at the same: whatever the original's sources declare as public.
#[test]
fn the_list_of_items_has_what_the_originals_sources_declare() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(repository().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata = String::from_utf8(metadata.stdout).unwrap();
    let manifest = metadata
        .split('"')
        .find(|text| text.ends_with("kekbit-0.3.5/Cargo.toml"))
        .expect("the original is a dependency");
    let source = Path::new(manifest).parent().unwrap().join("src");
    let mut declared = BTreeSet::new();
    for file in sources(&source) {
        // Not public: only what no module re-exports is declared in these.
        if file.contains("struct Version") || file.contains("const WATERMARK") {
            continue;
        }
        let api = file.split("#[cfg(test)]").next().unwrap();
        let words = api.lines().filter_map(|line| line.trim_start().strip_prefix("pub "));
        for line in words {
            let mut words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
            if let (Some("fn" | "struct" | "enum" | "trait"), Some(name)) = (words.next(), words.next()) {
                declared.insert(name.to_owned());
            }
        }
    }
    let names: BTreeSet<_> = ITEMS.iter().map(|item| item.rsplit("::").next().unwrap().to_owned()).collect();
    let missing: Vec<_> = declared.difference(&names).collect();
    assert!(declared.len() > 40, "{declared:?}");
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_row_has_tests_that_exist_or_a_reason() {
    let tests = |directory: &str| repository().join(directory);
    let directories = [tests("crates/kekbit-cli/tests"), tests("crates/kekbit/tests")];
    for row in rows() {
        let what = row.items.join(", ");
        if row.counterpart.starts_with("none:") {
            assert!(row.counterpart.len() > 40 && row.shown_by == "–", "a reason, and no test: {what}");
            continue;
        }
        let mut shown = 0;
        for shower in row.shown_by.split(", ") {
            let name = &code(shower)[0];
            if shower.starts_with("example ") {
                let path = repository().join(format!("crates/kekbit/examples/{name}.rs"));
                assert!(path.is_file(), "{what}: {}", path.display());
            } else {
                let (file, test) = name.split_once("::").expect("file::test");
                let declared = format!("#[test]\nfn {test}()");
                let has = |directory: &PathBuf| {
                    let source = fs::read_to_string(directory.join(file).with_extension("rs"));
                    source.is_ok_and(|source| source.contains(&declared))
                };
                assert!(directories.iter().any(has), "{what}: no test {name}");
            }
            shown += 1;
        }
        assert!(shown > 0, "{what}");
    }
}

#[test]
fn what_a_row_names_is_there() {
    let library = sources(&repository().join("crates/kekbit/src")).concat();
    let words: BTreeSet<_> = library.split(|char: char| !char.is_alphanumeric() && char != '_').collect();
    let declares = |kind: &str, name: &str| {
        let there = |rest: &str| rest.starts_with(|char: char| !char.is_alphanumeric() && char != '_');
        library.match_indices(&format!("{kind} {name}")).any(|(at, text)| there(&library[at + text.len()..]))
    };
    let mut named = 0;
    for text in rows().iter().flat_map(|row| code(&row.counterpart)) {
        let plain = |segment: &str| segment.chars().all(|char| char.is_alphanumeric() || char == '_');
        let Some((of, name)) = text.split_once("::").filter(|(of, name)| plain(of) && plain(name)) else {
            continue;
        };
        if !of.starts_with(char::is_uppercase) {
            continue;
        }
        let type_is_there =
            ["struct", "enum", "trait"].iter().any(|kind| declares(&format!("pub {kind}"), of));
        assert!(type_is_there, "{text}");
        let is_there = match name.starts_with(char::is_uppercase) {
            true => words.contains(name),
            false => declares("fn", name),
        };
        assert!(is_there, "{text}");
        named += 1;
    }
    assert!(named > 60, "{named}");
}
