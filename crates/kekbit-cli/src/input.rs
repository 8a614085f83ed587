//! Where records come from: files and standard input, read without being blind to signals and the clock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::{Exit, Failure};
use crate::pipe;
use crate::signals::Signals;

/// The inputs of one command, in order.
#[derive(Debug)]
pub(crate) struct Inputs {
    paths: Vec<PathBuf>,
    /// Bytes of all of them, if all are regular files.
    pub(crate) total: Option<u64>,
}

impl Inputs {
    /// Looks at the inputs, so that what is missing is found before anything is created. No path means standard input.
    pub(crate) fn look_up(paths: Vec<PathBuf>) -> Result<Inputs, Failure> {
        if paths.is_empty() {
            return Ok(Inputs { paths: vec!["-".into()], total: None });
        }
        let mut total = Some(0_u64);
        for path in &paths {
            total = match regular_len(path)? {
                Some(len) => total.map(|sum| sum.saturating_add(len)),
                None => None,
            };
        }
        Ok(Inputs { paths, total })
    }

    /// The inputs, each opened when its turn comes.
    pub(crate) fn open(&self) -> impl Iterator<Item = Result<Input, Failure>> {
        self.paths.iter().map(|path| Input::open(path))
    }
}

/// Bytes of a regular file that may be read; `None` for everything that has no length.
fn regular_len(path: &Path) -> Result<Option<u64>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(None);
    }
    let cannot = |error| Failure::io(format_args!("cannot read {}", path.display()), error);
    let metadata = path.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(Failure::new(
            Exit::Io,
            format_args!("cannot read {}: it is a directory", path.display()),
        ));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    File::open(path).map_err(cannot)?;
    Ok(Some(metadata.len()))
}

/// One input.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    file: File,
}

/// What came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// So many bytes were read; 0 is the end.
    Read(usize),
    /// This signal was received. Nothing was read.
    Signal(i32),
}

impl Input {
    fn open(path: &Path) -> Result<Input, Failure> {
        if path.as_os_str() == "-" {
            let file = io::stdin().as_fd().try_clone_to_owned().map(<File as From<OwnedFd>>::from);
            let file = file.map_err(|error| Failure::io("cannot read standard input", error))?;
            pipe::widen(&file);
            return Ok(Input { name: "standard input".into(), file });
        }
        let name = path.display().to_string();
        // A FIFO that nobody writes to yet must not keep the signals waiting.
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
        let file = file.map_err(|error| Failure::io(format_args!("cannot read {name}"), error))?;
        Ok(Input { name, file })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads what is there, waiting for it until there is a signal.
    pub(crate) fn read(&mut self, into: &mut [u8], signals: &Signals) -> Result<Event, Failure> {
        loop {
            if let Some(signal) = signals.received() {
                return Ok(Event::Signal(signal));
            }
            let mut fds = [
                PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(self.failed(errno.into())),
                Ok(_) if fds[1].any() == Some(true) => continue,
                Ok(_) => {}
            }
            match self.file.read(into) {
                Ok(len) => return Ok(Event::Read(len)),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::new(Exit::Io, format_args!("cannot read {}: {error}", self.name))
    }
}
