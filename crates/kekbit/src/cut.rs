//! What sealing gives up: the bytes behind the last good record, kept in a file beside the channel.
//!
//! ```text
//! orders.kek              ...good frames | what a crash has left: damaged frames, and intact ones behind them | zeros
//! orders.kek.cut-81920                    ^ position 81920                                                  ^
//!                                         +-------------- these bytes, and nothing else -------------------+
//! ```
//!
//! The file is complete and synced, and so is its name, before the channel is touched. It never takes the place of
//! another file, and is removed again if the channel is not sealed after all.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::Position;
use crate::error::{Attempt, SealError, is_no_space};
use crate::sys::file::{self, PIECE};

/// The bytes that sealing has taken off the end of a channel, in a file of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Cut {
    /// The file: named like the channel, with `.cut-`, the position, and a number where that name was taken.
    pub path: PathBuf,
    /// Position in the channel of the file's first byte: where the channel ends now.
    pub position: Position,
    /// Bytes of the file.
    pub len: u64,
}

/// A cut that is on the disk, and is removed again unless it is wanted.
#[derive(Debug)]
pub(crate) struct KeptCut {
    cut: Cut,
    wanted: bool,
}

impl KeptCut {
    /// Copies `len` bytes at `position` of the channel `path`, whose data begin at `data` of `channel`.
    pub(crate) fn make(
        channel: &File,
        path: &Path,
        data: u64,
        position: u64,
        len: u64,
    ) -> Result<KeptCut, SealError> {
        let (file, name) = create_beside(path, position)?;
        let kept = KeptCut { cut: Cut { path: name, position: Position::new(position), len }, wanted: false };
        kept.fill(&file, channel, data + position).map_err(|source| {
            let full = source.raw_os_error().map(Errno::from_raw).is_some_and(is_no_space);
            let path = kept.cut.path.clone();
            if full {
                SealError::NoSpaceForCut { path, needed: len, source }
            } else {
                SealError::Io { action: "keep what is cut off in", path, source }
            }
        })?;
        Ok(kept)
    }

    fn fill(&self, file: &File, channel: &File, from: u64) -> io::Result<()> {
        like(file, channel)?;
        let len = self.cut.len;
        match file::reserve(file, 0, len) {
            // A file system that cannot reserve says at a write that it is full.
            Ok(()) | Err(Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut piece = vec![0; PIECE.min(len) as usize];
        for at in (0..len).step_by(PIECE as usize) {
            let piece = &mut piece[..PIECE.min(len - at) as usize];
            if file::read_at(channel, piece, from + at)? < piece.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file::write_all_at(file, piece, at)?;
        }
        file::sync(file)?;
        file::sync(&file::open_directory(file::directory_of(&self.cut.path))?)?;
        Ok(())
    }

    /// The channel is being sealed: the file stays.
    pub(crate) fn keep(mut self) -> Cut {
        self.wanted = true;
        self.cut.clone()
    }
}

impl Drop for KeptCut {
    fn drop(&mut self) {
        if !self.wanted {
            // Sealing has failed already, with an error of its own.
            let _ = std::fs::remove_file(&self.cut.path);
        }
    }
}

/// A new file, not one that is there already and not through a symbolic link.
fn create_beside(path: &Path, position: u64) -> Result<(File, PathBuf), SealError> {
    for number in 0_u64.. {
        let mut name = OsString::from(path);
        name.push(format!(".cut-{position}"));
        if number > 0 {
            name.push(format!(".{number}"));
        }
        match file::create_new(Path::new(&name)) {
            Err(Errno::EEXIST) => {}
            opened => return Ok((opened.sealing("create", Path::new(&name))?, name.into())),
        }
    }
    unreachable!("no directory has so many files")
}

/// Gives `file` the owner, the group and the permission bits of `channel`; if it cannot have the owner and the group,
/// then only the bits of the owner.
fn like(file: &File, channel: &File) -> io::Result<()> {
    let metadata = channel.metadata()?;
    let theirs = fchown(file, Some(metadata.uid()), Some(metadata.gid())).is_ok();
    let mask = if theirs { 0o777 } else { 0o700 };
    Ok(file::set_mode(file, metadata.mode() & mask)?)
}
