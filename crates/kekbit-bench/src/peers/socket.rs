//! A Unix stream socket.

use std::io::{ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{setsockopt, sockopt};

use super::framed::{FramedReceiver, FramedSender};
use super::meet::wait_until;
use crate::Result;
use crate::peer::{About, Link, Peer, Sender};

/// A stream socket with a name.
pub(crate) struct Socket;

pub(crate) fn all() -> Vec<Socket> {
    vec![Socket]
}

impl Peer for Socket {
    type Sender = SocketSender;
    type Receiver = FramedReceiver<UnixStream>;

    fn name(&self) -> String {
        "Unix stream socket".into()
    }

    fn about(&self) -> About {
        About { kept: false, checksummed: false, survives_kill: false }
    }

    fn sender(&self, link: &Link<'_>) -> Result<SocketSender> {
        let path = link.dir.join(link.name);
        let begun = path.with_extension("new");
        let listener = UnixListener::bind(&begun)?;
        listener.set_nonblocking(true)?;
        // The receiver finds it when it listens.
        std::fs::rename(begun, path)?;
        Ok(SocketSender { listener, connection: FramedSender::new(Connection(None)) })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<FramedReceiver<UnixStream>> {
        let path = link.dir.join(link.name);
        let stream = wait_until("the listening socket", || match UnixStream::connect(&path) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        })?;
        Ok(FramedReceiver::new(stream))
    }
}

/// The stream, when the receiver has connected.
pub(crate) struct Connection(Option<UnixStream>);

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.as_ref().ok_or(ErrorKind::NotConnected)?.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The sending side.
pub(crate) struct SocketSender {
    listener: UnixListener,
    connection: FramedSender<Connection>,
}

impl Sender for SocketSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.connection.send(record)
    }

    fn flush(&mut self) -> Result<()> {
        self.connection.flush()
    }

    fn is_connected(&mut self) -> Result<bool> {
        if self.connection.target().0.is_some() {
            return Ok(true);
        }
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                // As much in flight as the system lets an ordinary user have.
                setsockopt(&stream, sockopt::SndBuf, &(1 << 20))?;
                self.connection.target().0 = Some(stream);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(self) -> Result<()> {
        self.connection.finish()
    }
}
