//! `kek info`: what a channel or a journal is and how it stands.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::HEXLOWER;
use kekbit::{
    Channel, Checksum, Handler, OpenError, ReadError, StageInfo, State, TickUnit, Timestamp, legacy,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::{Exit, Failure};
use crate::journal::Status;
use crate::original::{self, JsonLoss};
use crate::output::{print, print_json};
use crate::root::RootArgs;
use crate::values::{friendly, one_line, rfc3339};

/// Tell what a channel or a journal is and how it stands
///
/// The state is `open` while its writer lives; then `closed`, `full`, `abandoned` (the writer is dead) or `torn` (the
/// machine has crashed, and the last records, which had not been synced, are damaged or lost).
///
/// `durability` is what a sync gives: `machine` if what is synced outlives a power cut, `process` on a file system in
/// memory. `synced` is the position up to which records are known to be synced, `tail` the one behind the last record.
///
/// A channel of kekbit 0.3 has format 1.0, and is `closed`, `unfinished` (nobody can tell whether its writer lives, since it has no
/// locks) or `cut-off` (its records go on past the end of its file, where they are lost). If it is `corrupt`, what is good of it is
/// told, then where the damage is, and it exits with 1.
///
/// Of a journal, which is a directory, it tells which records are there, what they take, what the journal remembers, and how far its
/// named cursors have come.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek info log.kek
  kek info orders/
  kek info --json log.kek | jq -r .state")]
pub(crate) struct InfoArgs {
    /// The channel, or the directory of a journal
    path: PathBuf,

    #[command(flatten)]
    root: RootArgs,

    /// One JSON object; 64-bit identifiers are strings
    #[arg(long)]
    json: bool,
}

impl InfoArgs {
    pub(crate) fn run(mut self) -> Result<Exit, Failure> {
        self.path = self.root.resolve(&self.path)?;
        if self.path.is_dir() {
            let status = Status::of(&self.path)?;
            return match self.json {
                true => print_json(&status),
                false => print(status.text().as_bytes()),
            }
            .map(|()| Exit::Done);
        }
        let info = Info::opened(&self.path, Info::open(&self.path))?;
        self.root.expect(&self.path, Some(info.id))?;
        if self.json {
            print_json(&info)?;
        } else {
            print(info.text().as_bytes())?;
        }
        info.damage.map_or(Ok(Exit::Done), Err)
    }
}

/// Everything that is told of a channel, in the order in which it is told.
#[derive(Serialize)]
pub(crate) struct Info {
    path: String,
    format: String,
    pub(crate) state: String,
    sealed: bool,
    /// As strings: JSON's numbers are rounded by many who read them.
    writer_id: String,
    channel_id: String,
    pub(crate) capacity: u64,
    max_record_len: u64,
    timeout: Option<String>,
    /// The unit in which the timeout is recorded.
    tick: String,
    pub(crate) created: String,
    pub(crate) records: u64,
    first_sequence: u64,
    pub(crate) tail: u64,
    /// `null` for a channel of 0.3, which does not record it.
    synced: Option<u64>,
    reserved: u64,
    durability: &'static str,
    checksum: &'static str,
    content_type: Option<String>,
    schema: Option<String>,
    /// Where the fields of each record lie, as FORMAT.md writes it.
    layout: Option<String>,
    meta: Map<String, Value>,
    stages: Vec<Stage>,
    /// What lies past the end of the file of a channel of 0.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<JsonLoss>,
    /// What else is to be said of the state.
    #[serde(skip)]
    remark: Option<String>,
    #[serde(skip)]
    id: u64,
    /// What is wrong with a channel of 0.3, of which the good records are told.
    #[serde(skip)]
    pub(crate) damage: Option<Failure>,
}

#[derive(Serialize)]
pub(crate) struct Stage {
    name: String,
    id: u32,
    version: u16,
    prefix_len: u32,
    suffix_len: u32,
    replaces: bool,
    /// Hexadecimal.
    params: String,
    /// The unit of timestamps.
    #[serde(skip_serializing_if = "Option::is_none")]
    tick: Option<String>,
}

impl Stage {
    pub(crate) fn of(stage: &StageInfo) -> Stage {
        Stage {
            name: stage.name.clone(),
            id: stage.id,
            version: stage.version,
            prefix_len: stage.prefix_len,
            suffix_len: stage.suffix_len,
            replaces: stage.replaces,
            params: HEXLOWER.encode(&stage.params),
            tick: unit(stage).map(|unit| unit.to_string()),
        }
    }

    /// As `info` prints it.
    pub(crate) fn text(&self) -> String {
        format!("{} (id {}, version {})", self.name, self.id, self.version)
    }
}

/// The unit of the timestamps that the stage makes, if it is kekbit's own.
fn unit(stage: &StageInfo) -> Option<TickUnit> {
    let known = Timestamp::nanos().describe();
    let is_timestamp = (stage.id, stage.version) == (known.id, known.version);
    stage.params.first().filter(|_| is_timestamp).and_then(|number| TickUnit::from_number(*number))
}

impl Info {
    /// Opens a channel to look at.
    pub(crate) fn open(path: &Path) -> Result<Channel, OpenError> {
        // The stored bytes will do: nothing of a record is shown.
        Channel::options().stored(true).random_access(true).open(path)
    }

    /// What is told of the channel at `path`, which was tried to be opened; it may be one of 0.3.
    pub(crate) fn opened(path: &Path, channel: Result<Channel, OpenError>) -> Result<Info, Failure> {
        match channel {
            Ok(channel) => Info::of(&channel),
            Err(error) => Info::of_original(&original::instead(path, error)?),
        }
    }

    fn of_original(channel: &legacy::Channel) -> Result<Info, Failure> {
        let path = channel.path();
        let found = channel.check_up(|_| {});
        let (end, damage) = match found.outcome {
            Ok(end) => (Some(end), None),
            Err(error @ ReadError::Io { .. }) => return Err(Failure::from(error).about(path)),
            Err(error) => (None, Some(Failure::from(error).about(path))),
        };
        let cannot = |error| Failure::io("cannot look it up", error).about(path);
        let on_storage = channel.is_on_storage().map_err(cannot)?;
        let (major, minor) = channel.format_version();
        Ok(Info {
            path: path.display().to_string(),
            format: format!("{major}.{minor}"),
            state: end.map_or_else(|| "corrupt".to_owned(), |end| end.state.to_string()),
            sealed: end.is_some_and(|end| end.state == legacy::State::Closed),
            writer_id: channel.writer_id().to_string(),
            channel_id: channel.channel_id().to_string(),
            capacity: channel.capacity(),
            max_record_len: channel.max_record_len(),
            timeout: channel.timeout().map(friendly),
            tick: channel.tick_unit().to_string(),
            created: rfc3339(channel.created_nanos()),
            records: found.sequence,
            first_sequence: 0,
            tail: found.position.offset(),
            synced: None,
            reserved: channel.bytes_in_file().map_err(cannot)?,
            durability: if on_storage { "machine" } else { "process" },
            checksum: "none",
            content_type: None,
            schema: None,
            layout: None,
            meta: Map::new(),
            stages: Vec::new(),
            loss: end.and_then(|end| end.loss).as_ref().map(JsonLoss::of),
            remark: end.as_ref().and_then(original::remark),
            id: channel.channel_id(),
            damage,
        })
    }

    fn of(channel: &Channel) -> Result<Info, Failure> {
        let path = channel.path();
        // The end first: whatever else changes meanwhile is not older than it.
        let end = channel.end_point().map_err(|error| Failure::from(error).about(path))?;
        let on_storage = channel.is_on_storage().map_err(|error| Failure::from(error).about(path))?;
        let (major, minor) = channel.format_version();
        Ok(Info {
            path: path.display().to_string(),
            format: format!("{major}.{minor}{}", if channel.is_draft() { "-draft" } else { "" }),
            state: end.state.to_string(),
            sealed: end.sealed,
            writer_id: channel.writer_id().to_string(),
            channel_id: channel.channel_id().to_string(),
            capacity: channel.capacity(),
            max_record_len: longest_payload(channel),
            timeout: channel.timeout().map(friendly),
            tick: channel.tick_unit().to_string(),
            created: rfc3339(channel.created_nanos()),
            records: end.sequence - channel.first_sequence(),
            first_sequence: channel.first_sequence(),
            tail: end.position.offset(),
            synced: Some(channel.synced_tail().offset()),
            reserved: channel.reserved(),
            durability: if on_storage { "machine" } else { "process" },
            checksum: match channel.checksum() {
                Checksum::Crc32c => "crc32c",
                _ => "none",
            },
            content_type: channel.content_type().map(str::to_owned),
            schema: channel.schema().map(str::to_owned),
            layout: channel.metadata().record_layout().map(|layout| layout.to_string()),
            meta: channel.meta().iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect(),
            stages: channel.stages().iter().map(Stage::of).collect(),
            loss: None,
            remark: (end.sealed && end.state == State::Abandoned).then(|| "sealed".to_owned()),
            id: channel.channel_id(),
            damage: None,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<15} {}", one_line(&value.to_string()));
        };
        line("path", &self.path);
        line("format", &self.format);
        let remark = self.remark.as_ref().map_or_else(String::new, |remark| format!(", {remark}"));
        line("state", &format_args!("{}{remark}", self.state));
        line("records", &self.records);
        line("first sequence", &self.first_sequence);
        line("tail", &self.tail);
        line("synced", &self.synced.map_or_else(|| "not recorded".to_owned(), |synced| synced.to_string()));
        line("capacity", &self.capacity);
        line("reserved", &self.reserved);
        line("max record", &self.max_record_len);
        line("created", &self.created);
        line("timeout", &self.timeout.as_deref().unwrap_or("none"));
        line("tick", &self.tick);
        line("writer id", &self.writer_id);
        line("channel id", &self.channel_id);
        line("checksum", &self.checksum);
        let durability = match self.durability {
            "machine" if self.synced.is_none() => {
                "machine: a sync outlives a power cut, and which there were is not recorded"
            }
            "machine" => "machine: what is synced outlives a power cut",
            _ => "process: in memory, nothing outlives a power cut",
        };
        line("durability", &durability);
        if let Some(content_type) = &self.content_type {
            line("content type", content_type);
        }
        if let Some(schema) = &self.schema {
            line("schema", schema);
        }
        if let Some(layout) = &self.layout {
            line("layout", layout);
        }
        for stage in &self.stages {
            line("stage", &stage.text());
        }
        for (key, value) in &self.meta {
            line("meta", &format_args!("{key}={}", value.as_str().unwrap_or_default()));
        }
        text
    }
}

/// The longest record as it is appended: without what the stages put around it.
fn longest_payload(channel: &Channel) -> u64 {
    let around =
        channel.stages().iter().map(|stage| u64::from(stage.prefix_len) + u64::from(stage.suffix_len));
    channel.max_record_len().saturating_sub(around.sum())
}
