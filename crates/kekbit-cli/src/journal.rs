//! How a journal stands, for `info` and `stat`.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kekbit::{Channel, CursorInfo, Journal, Period, State};
use serde::Serialize;

use crate::exit::Failure;
use crate::info::{Info, Stage};
use crate::stream::expect_journal;
use crate::values::{friendly, one_line, rfc3339, rfc3339_of};

/// Everything that is told of a journal, in the order in which it is told.
#[derive(Serialize)]
pub(crate) struct Status {
    path: String,
    /// `open` while somebody writes it, else that of its last channel; `empty` if there is none.
    pub(crate) state: String,
    pub(crate) channels: u64,
    pub(crate) records: u64,
    first_sequence: u64,
    pub(crate) next_sequence: u64,
    /// When its oldest channel was created.
    pub(crate) created: Option<String>,
    /// What its newest channel says, if there is one.
    writer_id: Option<String>,
    channel_id: Option<String>,
    timeout: Option<String>,
    tick: Option<String>,
    content_type: Option<String>,
    schema: Option<String>,
    layout: Option<String>,
    stages: Vec<Stage>,
    /// What the channels take on the disk.
    pub(crate) bytes: u64,
    roll_bytes: Option<u64>,
    roll_every: Option<&'static str>,
    retain_bytes: Option<u64>,
    retain_age: Option<String>,
    retain_count: Option<u64>,
    retain_cursors: bool,
    pub(crate) cursors: Vec<CursorStatus>,
}

/// A named cursor.
#[derive(Serialize)]
pub(crate) struct CursorStatus {
    pub(crate) name: String,
    pub(crate) sequence: u64,
    /// Records that it has still to see.
    pub(crate) lag: u64,
    pub(crate) committed: String,
    pub(crate) in_use: bool,
}

impl CursorStatus {
    pub(crate) fn new(cursor: &CursorInfo, end: u64) -> CursorStatus {
        CursorStatus {
            name: cursor.name.clone(),
            sequence: cursor.sequence,
            lag: end.saturating_sub(cursor.sequence),
            committed: rfc3339_of(cursor.committed),
            in_use: cursor.in_use,
        }
    }
}

impl Status {
    pub(crate) fn of(path: &Path) -> Result<Status, Failure> {
        expect_journal(path)?;
        let reader = Journal::reader(path)?;
        // The cursors first: none of them is then past the end.
        let cursors = Journal::cursors(path)?;
        let lives = reader.writer_lives()?;
        let end = reader.end_point()?;
        let first_sequence = reader.oldest_sequence()?.unwrap_or(0);
        let next_sequence = end.map_or(first_sequence, |end| end.sequence);
        let settings = Journal::settings(path)?;
        let channels = Journal::channels(path)?;
        let bytes = channels
            .iter()
            .map(|channel| channel.symlink_metadata().map_or(0, |file| 512 * file.blocks()))
            .sum();
        // It may just be given up.
        let oldest = channels.first().and_then(|channel| Info::open(channel).ok());
        let created = oldest.map(|channel| rfc3339(channel.created_nanos()));
        // The newest one may be empty, and then be removed.
        let newest = channels.last().and_then(|channel| Info::open(channel).ok());
        let newest = newest.as_ref().map(Channel::metadata);
        let state = match end.map(|end| end.state) {
            _ if lives => State::Open.to_string(),
            None => "empty".to_owned(),
            // Its writer has just gone.
            Some(State::Open) => State::Abandoned.to_string(),
            Some(state) => state.to_string(),
        };
        Ok(Status {
            path: path.display().to_string(),
            state,
            channels: channels.len() as u64,
            records: next_sequence.saturating_sub(first_sequence),
            first_sequence,
            next_sequence,
            created,
            writer_id: newest.map(|newest| newest.writer_id().to_string()),
            channel_id: newest.map(|newest| newest.channel_id().to_string()),
            timeout: newest.and_then(|newest| newest.timeout()).map(friendly),
            tick: newest.map(|newest| newest.tick_unit().to_string()),
            content_type: newest.and_then(|newest| newest.content_type()).map(str::to_owned),
            schema: newest.and_then(|newest| newest.schema()).map(str::to_owned),
            layout: newest.and_then(|newest| newest.record_layout()).map(|layout| layout.to_string()),
            stages: newest.map_or_else(Vec::new, |newest| newest.stages().iter().map(Stage::of).collect()),
            bytes,
            roll_bytes: settings.map(|settings| settings.roll_bytes),
            roll_every: settings.and_then(|settings| settings.roll_every).map(|period| match period {
                Period::Minute => "minute",
                Period::Hour => "hour",
                _ => "day",
            }),
            retain_bytes: settings.and_then(|settings| settings.retain_bytes),
            retain_age: settings.and_then(|settings| settings.retain_age).map(friendly),
            retain_count: settings.and_then(|settings| settings.retain_count),
            retain_cursors: settings.is_some_and(|settings| settings.retain_for_cursors),
            cursors: cursors.iter().map(|cursor| CursorStatus::new(cursor, next_sequence)).collect(),
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<15} {}", one_line(&value.to_string()));
        };
        line("path", &self.path);
        line("state", &self.state);
        line("channels", &self.channels);
        line("records", &self.records);
        line("first sequence", &self.first_sequence);
        line("next sequence", &self.next_sequence);
        line("created", &self.created.as_deref().unwrap_or("none"));
        for (name, value) in
            [("writer id", &self.writer_id), ("channel id", &self.channel_id), ("tick", &self.tick)]
        {
            if let Some(value) = value {
                line(name, value);
            }
        }
        line("timeout", &self.timeout.as_deref().unwrap_or("none"));
        for (name, value) in
            [("content type", &self.content_type), ("schema", &self.schema), ("layout", &self.layout)]
        {
            if let Some(value) = value {
                line(name, value);
            }
        }
        for stage in &self.stages {
            line("stage", &stage.text());
        }
        line("bytes", &self.bytes);
        let optional =
            |value: Option<u64>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        line("roll bytes", &optional(self.roll_bytes));
        line("roll every", &self.roll_every.unwrap_or("none"));
        line("retain bytes", &optional(self.retain_bytes));
        line("retain age", &self.retain_age.as_deref().unwrap_or("none"));
        line("retain count", &optional(self.retain_count));
        line("retain cursors", &if self.retain_cursors { "yes" } else { "no" });
        for cursor in &self.cursors {
            let in_use = if cursor.in_use { ", in use" } else { "" };
            line(
                "cursor",
                &format_args!("{}: next {}, lag {}{in_use}", cursor.name, cursor.sequence, cursor.lag),
            );
        }
        text
    }
}
