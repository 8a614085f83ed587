//! `--root`: channels that are named after their ids, below a directory.

use std::path::{Path, PathBuf};

use clap::Args;
use kekbit::{Channel, OpenError};

use crate::exit::{Exit, Failure};
use crate::values;

/// The option that says so.
#[derive(Args, Clone, Debug)]
pub(crate) struct RootArgs {
    /// PATH is the id of a channel, decimal or hexadecimal as in 0x2a, and its file DIR/hhhh_hhhh/hhhh_hhhh.kekbit
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

impl RootArgs {
    /// The path that is meant.
    pub(crate) fn resolve(&self, path: &Path) -> Result<PathBuf, Failure> {
        match &self.root {
            Some(root) => Ok(Channel::path_in(root, id(path)?)),
            None => Ok(path.to_owned()),
        }
    }

    /// Refuses what was found at `path`, which has been resolved, if it is a channel whose header says another id than its name.
    pub(crate) fn expect(&self, path: &Path, found: Option<u64>) -> Result<(), OpenError> {
        match (Channel::id_of(path).filter(|_| self.root.is_some()), found) {
            (Some(expected), Some(found)) if expected != found => {
                Err(OpenError::OtherChannel { path: path.to_owned(), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// The root and the id, if that is what was said.
    pub(crate) fn place(&self, path: &Path) -> Result<Option<(&Path, u64)>, Failure> {
        self.root.as_deref().map(|root| Ok((root, id(path)?))).transpose()
    }
}

fn id(path: &Path) -> Result<u64, Failure> {
    let text = path.to_string_lossy();
    values::id(&text).map_err(|error| Failure::new(Exit::Usage, format_args!("`{text}`: {error}")))
}

/// Whether there are channels in the directory that are named after their ids.
pub(crate) fn is_root(dir: &Path) -> bool {
    Channel::ids_in(dir).is_ok_and(|ids| !ids.is_empty())
}
