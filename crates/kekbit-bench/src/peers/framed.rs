//! Records in a stream of bytes: a length of 4 bytes, little endian, then the record.
//!
//! Both sides move as much at once as they can: the sender gathers records until its buffer is full or nothing more is
//! due, the receiver takes whatever is there.

use std::io::{Read, Write};

use crate::Result;
use crate::peer::{Receiver, Sender};

const PREFIX: usize = 4;
/// Bytes that the sender moves by one system call, at most; the receiver takes up to twice as many.
const BUFFER: usize = 64 << 10;

/// The sending side.
pub(crate) struct FramedSender<W> {
    to: W,
    buffer: Vec<u8>,
}

impl<W: Write> FramedSender<W> {
    pub(crate) fn new(to: W) -> FramedSender<W> {
        FramedSender { to, buffer: Vec::with_capacity(BUFFER) }
    }

    /// Where the bytes go.
    pub(crate) fn target(&mut self) -> &mut W {
        &mut self.to
    }
}

impl<W: Write> Sender for FramedSender<W> {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        if self.buffer.len() + PREFIX + record.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(record);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.flush()
    }
}

/// The receiving side. Blocks where there is nothing.
pub(crate) struct FramedReceiver<R> {
    from: R,
    buffer: Vec<u8>,
    /// The bytes of the buffer that hold something.
    start: usize,
    end: usize,
}

impl<R: Read> FramedReceiver<R> {
    pub(crate) fn new(from: R) -> FramedReceiver<R> {
        FramedReceiver { from, buffer: vec![0; 2 * BUFFER], start: 0, end: 0 }
    }

    /// Bytes of the next frame, as far as is known.
    #[inline]
    fn wanted(&self) -> usize {
        match self.buffer[self.start..self.end].first_chunk::<PREFIX>() {
            Some(prefix) => PREFIX + u32::from_le_bytes(*prefix) as usize,
            None => PREFIX,
        }
    }

    fn fill(&mut self, wanted: usize) -> Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted, 0);
        }
        match self.from.read(&mut self.buffer[self.end..])? {
            0 => Err("the sender has gone".into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

impl<R: Read> Receiver for FramedReceiver<R> {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        let mut count = 0;
        loop {
            let wanted = self.wanted();
            if self.start + wanted > self.end {
                if count == 0 {
                    self.fill(wanted)?;
                }
                return Ok(count);
            }
            each(&self.buffer[self.start + PREFIX..self.start + wanted]);
            self.start += wanted;
            count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has in pieces of so many bytes.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = self.0.len().min(self.1).min(buffer.len());
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    #[test]
    fn records_of_any_length_arrive_in_pieces_of_any_length() {
        let records: Vec<Vec<u8>> =
            [0, 1, 3, 4, 5, 96, 70_000, 0, 200_000, 7].iter().map(|len| vec![*len as u8; *len]).collect();
        let mut bytes = Vec::new();
        let mut sender = FramedSender::new(&mut bytes);
        records.iter().for_each(|record| sender.send(record).unwrap());
        sender.finish().unwrap();
        for piece in [1, 3, 4, 5, 1000, usize::MAX] {
            let mut receiver = FramedReceiver::new(Pieces(&bytes, piece));
            let mut received = Vec::new();
            while received.len() < records.len() {
                receiver.poll(&mut |record| received.push(record.to_vec())).unwrap();
            }
            assert!(received == records, "pieces of {piece}");
            assert!(receiver.poll(&mut |_| {}).is_err());
        }
    }
}
