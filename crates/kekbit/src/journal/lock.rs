//! The lock of the one who writes a journal.
//!
//! It lies on a mapping, as the writer's of a channel does, and for the same reasons: a process that is forked or started
//! meanwhile inherits descriptors, but not this. The file is empty, is never removed, and nothing of it is ever touched.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::JournalError;
use super::names::LOCK;
use crate::layout::PAGE;
use crate::memory::map::{Access, Map};
use crate::sys::file;
use crate::sys::lock::{self, Role};
use crate::wait::{Next, Wait, Waiting};

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _map: Map,
}

impl WriterLock {
    /// Takes the lock of the journal in `directory`; waits as `wait` says for one that is just dying.
    pub(crate) fn take(directory: &Path, wait: Wait<'_>) -> Result<WriterLock, JournalError> {
        let path = directory.join(LOCK);
        let mut waiting = Waiting::new(wait);
        loop {
            // A description of its own for each attempt, which only the mapping keeps.
            let file = open_or_create(&path).map_err(JournalError::io("open", &path))?;
            let map = Map::new(&file, PAGE, Access::Write)
                .map_err(|errno| JournalError::io("map", &path)(errno.into()))?;
            let locked = lock::exclusive(&file, Role::Writer);
            if locked.map_err(|errno| JournalError::io("lock", &path)(errno.into()))? {
                return Ok(WriterLock { _map: map });
            }
            if waiting.pause() == Next::GiveUp {
                return Err(JournalError::InUse { path: directory.to_owned() });
            }
        }
    }

    /// Whether somebody writes the journal in `directory`.
    pub(crate) fn is_taken(directory: &Path) -> io::Result<bool> {
        match file::open(&directory.join(LOCK), false) {
            Ok(file) => Ok(lock::is_held(&file, Role::Writer)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn open_or_create(path: &Path) -> io::Result<File> {
    loop {
        match file::open(path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match file::create_new(path) {
                Err(nix::errno::Errno::EEXIST) => {}
                created => return Ok(created?),
            },
            opened => return opened,
        }
    }
}
