//! SIGINT and SIGTERM, noticed between two reads instead of ending the process in the middle; and SIGXFSZ, which must
//! not end it at all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level};

/// Notices SIGINT and SIGTERM. A second one ends the process at once, in case the first is not noticed.
#[derive(Debug)]
pub(crate) struct Signals {
    received: Arc<AtomicUsize>,
    /// Readable once there is a signal.
    pipe: UnixStream,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Signals> {
        let received = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        let (pipe, writer) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&received), signal as usize)?;
            low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(Signals { received, pipe })
    }

    /// The number of the signal that was received, if any.
    pub(crate) fn received(&self) -> Option<i32> {
        match self.received.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as i32),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Turns the signal for a file beyond the limit on file sizes into an error of the write that caused it.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}
