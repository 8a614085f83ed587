//! What the tests of migration share: the same channel here and there.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::path::Path;
use std::time::Duration;

use kekbit::{Channel, Wait, Writer, WriterOptions};
use kekbit_0_3::api as old_api;
use kekbit_0_3::core as old;
use tempfile::TempDir;

pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Waits for what is sure to come, but not for ever if it does not.
pub(crate) fn patience() -> Wait<'static> {
    Wait::backoff().at_most(Duration::from_secs(60))
}

pub(crate) const CAPACITY: u64 = 1 << 20;
pub(crate) const LONGEST: u64 = 1000;

pub(crate) fn options() -> WriterOptions {
    Writer::options().capacity(CAPACITY).max_record_len(LONGEST).writer_id(100).channel_id(1000)
}

pub(crate) fn old_metadata(timeout: u64, tick: old::TickUnit) -> old::Metadata {
    old::Metadata::new(100, 1000, CAPACITY as u32, LONGEST as u32, timeout, tick)
}

pub(crate) fn old_writer(root: &Path) -> old::ShmWriter<old_api::EncoderHandler> {
    old::shm_writer(root, &old_metadata(1, old::TickUnit::Secs), old_api::EncoderHandler::default()).unwrap()
}

pub(crate) fn payloads(channel: &Channel) -> Vec<Vec<u8>> {
    channel.records().map(|record| record.unwrap().to_vec()).collect()
}
