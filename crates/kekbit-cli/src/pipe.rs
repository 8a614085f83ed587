//! Wider pipes: with the usual 64 KiB, both ends spend more time waiting for each other than moving bytes.

use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, fcntl};

/// As much as everybody may ask for, unless the administrator says otherwise.
const WIDE: i32 = 1 << 20;

/// Makes the pipe wider, if it is one. It works as well if this is refused.
pub(crate) fn widen(fd: impl AsFd) {
    if fcntl(&fd, FcntlArg::F_GETPIPE_SZ).is_ok_and(|size| size < WIDE) {
        let _ = fcntl(&fd, FcntlArg::F_SETPIPE_SZ(WIDE));
    }
}
