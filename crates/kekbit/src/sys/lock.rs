//! Who lives: open-file-description locks on single bytes far past any data.
//!
//! ```text
//! 2^62 + 0   writer    held exclusively as long as the writer's mapping lives
//! 2^62 + 1   sealer    held exclusively while an abandoned channel is sealed
//! 2^62 + 2   readers   shared by everyone who reads; exclusively by who reuses the file
//! 2^62 + 3 to 15       reserved
//! ```
//!
//! The locks are those of Linux that belong to the open file description (`F_OFD_SETLK`): closing another descriptor
//! of the same file does not drop them, threads do not share them by accident, and the kernel releases them when the
//! last descriptor **and** the last mapping made from it are gone, however the process ends.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const BASE: i64 = 1 << 62;

/// The bytes that are locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Writer = 0,
    Sealer = 1,
    Readers = 2,
}

/// Takes the lock of `role` exclusively; `false` if someone else has it, in any way.
pub(crate) fn exclusive(file: impl AsFd, role: Role) -> Result<bool, Errno> {
    set(file, role, libc::F_WRLCK)
}

/// Takes a share of the lock of `role`; `false` if someone else has it exclusively.
pub(crate) fn shared(file: impl AsFd, role: Role) -> Result<bool, Errno> {
    set(file, role, libc::F_RDLCK)
}

/// Gives the lock of `role` back, as far as this descriptor holds it.
pub(crate) fn release(file: impl AsFd, role: Role) -> Result<(), Errno> {
    set(file, role, libc::F_UNLCK).map(drop)
}

/// Whether someone else holds the lock of `role` exclusively. Works from a read-only descriptor.
pub(crate) fn is_held(file: impl AsFd, role: Role) -> Result<bool, Errno> {
    // Asked as a reader: other readers' shares are no answer.
    let mut lock = byte(role, libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// A lock that is given back by name: closing the file alone would leave it to a process that another thread is
/// just starting, and which has a copy of every descriptor until it runs its own program.
#[derive(Debug)]
pub(crate) struct Held<'f>(&'f File, Role);

impl<'f> Held<'f> {
    /// Takes the lock of `role` exclusively; `None` if someone else has it.
    pub(crate) fn exclusive(file: &'f File, role: Role) -> Result<Option<Held<'f>>, Errno> {
        Ok(exclusive(file, role)?.then_some(Held(file, role)))
    }

    /// Takes a share of the lock of `role`; `None` if someone else has it exclusively.
    pub(crate) fn shared(file: &'f File, role: Role) -> Result<Option<Held<'f>>, Errno> {
        Ok(shared(file, role)?.then_some(Held(file, role)))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // If it fails the lock is given back when the file is closed.
        let _ = release(self.0, self.1);
    }
}

fn set(file: impl AsFd, role: Role, kind: i32) -> Result<bool, Errno> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&byte(role, kind))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn byte(role: Role, kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BASE + role as i64,
        l_len: 1,
        l_pid: 0,
    }
}
