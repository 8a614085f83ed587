//! A Unix pipe.

use std::fs::{File, OpenOptions};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::Mode;

use super::framed::{FramedReceiver, FramedSender};
use super::meet::wait_for_path;
use crate::Result;
use crate::peer::{About, Link, Peer};

/// A pipe with a name, as wide as an ordinary user may make it.
pub(crate) struct Pipe;

pub(crate) fn all() -> Vec<Pipe> {
    vec![Pipe]
}

const WIDTH: nix::libc::c_int = 1 << 20;

impl Peer for Pipe {
    type Sender = FramedSender<File>;
    type Receiver = FramedReceiver<File>;

    fn name(&self) -> String {
        "Unix pipe, 1 MiB".into()
    }

    fn about(&self) -> About {
        About { kept: false, checksummed: false, survives_kill: false }
    }

    fn sender(&self, link: &Link<'_>) -> Result<FramedSender<File>> {
        let path = link.dir.join(link.name);
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // For reading, too: opening it for writing alone would wait for the receiver.
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        fcntl(&file, FcntlArg::F_SETPIPE_SZ(WIDTH))?;
        Ok(FramedSender::new(file))
    }

    fn receiver(&self, link: &Link<'_>) -> Result<FramedReceiver<File>> {
        let path = link.dir.join(link.name);
        wait_for_path(&path)?;
        Ok(FramedReceiver::new(File::open(path)?))
    }
}
