//! How the channels of a journal are made, and which of them are kept.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::LEAST_ROOM;
use super::names::{NOT_BEGUN, channel_path, read_header};
use super::period::Period;
use super::retention::Retention;
use crate::create::Nameless;
use crate::error::CreateError;
use crate::layout::header::Header;
use crate::mapping::Mapping;
use crate::options::WriterOptions;
use crate::sys::file;
use crate::time::boot_id;

/// What a journal's writer was told when it was opened.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) options: WriterOptions<()>,
    /// Of each channel, but for what tells them apart.
    pub(crate) header: Header,
    pub(crate) every: Option<Period>,
    pub(crate) retention: Retention,
}

impl Plan {
    /// The header of a channel that has not begun.
    pub(crate) fn header(&self) -> Result<Header, CreateError> {
        let salt = file::random();
        let salt = salt.map_err(|source| CreateError::Io {
            action: "find random bytes for",
            path: self.directory.clone(),
            source,
        })?;
        let (first_sequence, created) = NOT_BEGUN;
        Ok(Header { salt, boot_id: boot_id(), first_sequence, created, ..self.header.clone() })
    }

    /// The path of the channel that begins with the record `first`.
    pub(crate) fn path(&self, first: u64) -> PathBuf {
        channel_path(&self.directory, first)
    }

    /// A channel that has not begun, in a file of its own.
    pub(crate) fn prepare(&self) -> Result<Nameless, CreateError> {
        Ok(made_ready(self.options.create_nameless(self.header()?, &self.path(NOT_BEGUN.0))?))
    }

    /// The same in the file of the channel that begins with `first`, which is given up by that.
    pub(crate) fn reuse(&self, first: u64, mapping: &mut Option<Mapping>) -> Result<Nameless, CreateError> {
        let (retired, place) = (self.path(first), self.path(NOT_BEGUN.0));
        Ok(made_ready(self.options.reuse_nameless(self.header()?, &retired, mapping, &place)?))
    }

    /// Whether the file with the name of such a channel is one: what is something else is nobody's to remove.
    pub(crate) fn is_ours(&self, first: u64) -> bool {
        read_header(&self.path(first)).is_ok_and(|header| header.first_sequence == first)
    }

    /// Bytes that the file of such a channel takes on the disk.
    pub(crate) fn bytes_of(&self, first: u64) -> u64 {
        fs::symlink_metadata(self.path(first)).map_or(0, |file| 512 * file.blocks())
    }
}

/// The channel with what its beginning needs, so that whoever begins it need not wait for that.
fn made_ready(mut nameless: Nameless) -> Nameless {
    // A failure costs speed only: it is tried again when it begins, and told then.
    let _ = nameless.pen.reserve_first(LEAST_ROOM);
    nameless.pen.touch_beginning();
    nameless
}
