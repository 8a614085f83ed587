//! System calls that a signal has interrupted.
//!
//! The standard library makes such calls again for ever, where it does. A file system that interrupts every call, or a
//! process that is never without a signal, would then hang; so the library makes its own, and gives up at last.

use std::io;

use nix::errno::Errno;

/// How often a call is made again: far more often than signals come.
const AGAIN: u32 = 100;

/// Makes a system call, again if it was interrupted, but not for ever.
pub(crate) fn uninterrupted<T, E: Error>(mut call: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut again = AGAIN;
    loop {
        match call() {
            Err(error) if error.is_interruption() && again > 0 => again -= 1,
            other => return other,
        }
    }
}

/// What a system call says when it fails.
pub(crate) trait Error {
    fn is_interruption(&self) -> bool;
}

impl Error for Errno {
    fn is_interruption(&self) -> bool {
        *self == Errno::EINTR
    }
}

impl Error for io::Error {
    fn is_interruption(&self) -> bool {
        self.kind() == io::ErrorKind::Interrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again_but_not_for_ever() {
        let mut calls = 0;
        let mut interrupted = |times: u32| {
            calls = 0;
            uninterrupted(|| {
                calls += 1;
                if calls > times { Ok(calls) } else { Err(Errno::EINTR) }
            })
        };
        assert_eq!(interrupted(0), Ok(1));
        assert_eq!(interrupted(AGAIN), Ok(AGAIN + 1));
        assert_eq!(interrupted(AGAIN + 1), Err(Errno::EINTR));
        let other: Result<(), _> = uninterrupted(|| Err(Errno::EIO));
        assert_eq!(other, Err(Errno::EIO));
    }
}
