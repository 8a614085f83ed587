//! Reading a file of which parts may be unreadable: by `pread`, piece by piece, with zeros for what the disk does not give.
//!
//! Nothing is mapped, so that neither a bad sector nor a file that is cut short meanwhile raises a signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use crate::layout::crc::{Crc, crc32c_padded};
use crate::layout::frame::WORD;
use crate::layout::{PAGE, u64_at};
use crate::sys::file::{self, PIECE};
use crate::sys::interruption::uninterrupted;

/// A file, or what a test makes of one.
pub(crate) trait Storage {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// The next byte from `at` on that is not in a hole, or `end`.
    fn next_data(&self, at: u64, end: u64) -> u64;
}

impl Storage for &File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(*self, buffer, at)
    }

    fn next_data(&self, at: u64, end: u64) -> u64 {
        file::next_data(self, at, end)
    }
}

/// The data region, read piece by piece.
#[derive(Debug)]
pub(crate) struct Bytes<S> {
    pub(crate) storage: S,
    /// Where the region begins in the file, and how much of it there is.
    data: u64,
    pub(crate) len: u64,
    buffer: Vec<u8>,
    /// Position of the buffer's first byte.
    start: u64,
}

impl<S: Storage> Bytes<S> {
    /// The `len` bytes from `data` on.
    pub(crate) fn new(storage: S, data: u64, len: u64) -> Bytes<S> {
        Bytes { storage, data, len, buffer: Vec::new(), start: 0 }
    }

    fn holds(&self, at: u64, len: u64) -> bool {
        self.start <= at && at + len <= self.start + self.buffer.len() as u64
    }

    /// Whether the word at `at` is in the buffer.
    pub(crate) fn has(&self, at: u64) -> bool {
        self.holds(at, WORD)
    }

    /// The `len` bytes at `at`, which the region has; afterwards they are in the buffer.
    pub(crate) fn get(&mut self, at: u64, len: u64) -> io::Result<&[u8]> {
        if !self.holds(at, len) {
            self.buffer.resize(len.max(PIECE).min(self.len - at) as usize, 0);
            self.start = at;
            read_lossy(&self.storage, &mut self.buffer, self.data + at)?;
        }
        Ok(self.buffered(at, len))
    }

    /// Bytes that are in the buffer.
    pub(crate) fn buffered(&self, at: u64, len: u64) -> &[u8] {
        let from = (at - self.start) as usize;
        &self.buffer[from..from + len as usize]
    }

    /// The word at `at`, wherever it is.
    pub(crate) fn look(&self, at: u64) -> io::Result<u64> {
        if self.has(at) {
            return Ok(u64_at(self.buffered(at, WORD), 0));
        }
        let mut word = [0; WORD as usize];
        read_lossy(&self.storage, &mut word, self.data + at)?;
        Ok(u64::from_le_bytes(word))
    }

    /// The padded checksum of `len` bytes at `at`, wherever they are.
    pub(crate) fn crc(&self, at: u64, len: u64) -> io::Result<u32> {
        if self.holds(at, len) {
            return Ok(crc32c_padded(self.buffered(at, len)));
        }
        let mut piece = vec![0; PIECE.min(len) as usize];
        let mut crc = Crc::new();
        for done in (0..len).step_by(PIECE as usize) {
            let piece = &mut piece[..PIECE.min(len - done) as usize];
            read_lossy(&self.storage, piece, self.data + at + done)?;
            crc = crc.update(piece);
        }
        Ok(crc.finish())
    }

    /// The next multiple of 8 from `at` on that is not in a hole.
    pub(crate) fn next_data(&self, at: u64) -> u64 {
        let found = self.storage.next_data(self.data + at, self.data + self.len) - self.data;
        at.max(found & !7)
    }
}

/// Fills `buffer` from `at` on. What the disk cannot read, page by page, and what the file does not have is zero.
pub(crate) fn read_lossy(storage: &impl Storage, buffer: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    // Up to here the next read goes: to the end, and after a failure to the end of a page.
    let mut until = buffer.len();
    while done < buffer.len() {
        match uninterrupted(|| storage.read_at(&mut buffer[done..until], at + done as u64)) {
            Ok(0) => {
                buffer[done..].fill(0);
                return Ok(());
            }
            Ok(read) => {
                done += read;
                until = buffer.len();
            }
            Err(error) if is_unreadable(&error) => {
                let page_end = done + (PAGE - (at + done as u64) % PAGE) as usize;
                if until > page_end {
                    until = page_end;
                } else {
                    buffer[done..until].fill(0);
                    done = until;
                    until = buffer.len();
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the system says that it cannot read what is there.
fn is_unreadable(error: &io::Error) -> bool {
    const UNREADABLE: [Errno; 5] =
        [Errno::EIO, Errno::EBADMSG, Errno::EUCLEAN, Errno::ENODATA, Errno::EILSEQ];
    error.raw_os_error().is_some_and(|errno| UNREADABLE.contains(&Errno::from_raw(errno)))
}
