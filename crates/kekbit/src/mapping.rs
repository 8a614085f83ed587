//! A mapping that outlives its channel, for the next channel in the same file.
//!
//! Mapping a file and unmapping it costs some 0.3 µs for each page on either side, which is as much as writing and reading the
//! records in it. Where channels follow one another in the same files, each side keeps its mappings and pays once.
//!
//! Invariants:
//! - It is the only owner of its mapping: no view, no record and no handle of the channel is left.
//! - A writer's still holds the writer's lock of the file, which lies on it. A reader's holds no lock: the readers' lock lies
//!   on another description of the file, which is closed with the channel.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::memory::map::{Access, Map};

/// The mapping of a channel that is no longer used in this process: what [`Writer::close_mapped`](crate::Writer::close_mapped)
/// and [`Reader::into_mapping`](crate::Reader::into_mapping) leave, for
/// [`WriterOptions::create_from_mapped`](crate::WriterOptions::create_from_mapped) and
/// [`ReadOptions::open_mapped`](crate::ReadOptions::open_mapped).
///
/// It belongs to a file, not to a name. Given to what turns out to be another file, or a channel of another length, or to
/// the other side, it is dropped, and the file is mapped as ever: nothing but time is lost. Dropping it unmaps the file; until
/// then a file that was removed keeps its space.
///
/// A writer's mapping keeps others from reusing the file; a reader's does not.
#[derive(Debug)]
pub struct Mapping {
    map: Map,
    device: u64,
    inode: u64,
    /// Bytes of the data region whose pages are present.
    present: u64,
}

impl Mapping {
    /// The mapping `map` of the file with this metadata, of whose data region the pages of the first `present` bytes are
    /// present. `Err` if somebody else still has it.
    pub(crate) fn new(map: Arc<Map>, file: &Metadata, present: u64) -> Result<Mapping, Arc<Map>> {
        let map = Arc::try_unwrap(map)?.without_writer();
        Ok(Mapping { map, device: file.dev(), inode: file.ino(), present })
    }

    /// Bytes that are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.map.len()
    }

    /// Whether it maps the file with this metadata.
    pub(crate) fn is_of(&self, file: &Metadata) -> bool {
        (file.dev(), file.ino()) == (self.device, self.inode)
    }

    /// Whether it maps the first `len` bytes of the file with this metadata for `access`, in this process.
    pub(crate) fn fits(&self, file: &Metadata, access: Access, len: u64) -> bool {
        // A writer's ends with its channel; what a reader's has beyond is never looked at.
        let long_enough = match access {
            Access::Write => self.map.len() == len,
            Access::Read => self.map.len() >= len,
        };
        self.map.is_of_this_process() && self.map.access() == access && long_enough && self.is_of(file)
    }

    /// The mapping, and how many bytes of the data region are present.
    pub(crate) fn into_map(self) -> (Map, u64) {
        (self.map, self.present)
    }
}
