//! Reading a channel of 0.3 while it is written, where each read of the file is as bad as it may be: every byte that it copies is as it
//! was at some moment between the read's beginning and its end, and the writer has gone on meanwhile.
//!
//! This program's own `pread64`, which the library is linked to, makes it so.

mod common;

use std::cell::RefCell;
use std::os::fd::RawFd;

use common::bytes;
use common::campaign::Campaign;
use kekbit::legacy::Channel;
use kekbit::{End, ReadError, Wait};
use nix::libc;

const CAPACITY: usize = 16384;
const DATA: usize = 1024;
const WATERMARK: u64 = 0xFFFF_FFFF_1111_1111;

/// A file and what is still to be stored to it, in order: where, and eight bytes.
struct Live {
    file: Vec<u8>,
    stores: Vec<(usize, [u8; 8])>,
    stored: usize,
    numbers: common::Numbers,
}

thread_local! {
    static LIVE: RefCell<Option<Live>> = const { RefCell::new(None) };
}

impl Live {
    fn read(&mut self, bytes: &mut [u8], at: usize) -> usize {
        let len = bytes.len().min(self.file.len().saturating_sub(at));
        let bytes = &mut bytes[..len];
        bytes.copy_from_slice(&self.file[at..at + len]);
        for _ in 0..self.numbers.below(24) {
            let Some((to, word)) = self.stores.get(self.stored) else { break };
            self.stored += 1;
            self.file[*to..to + 8].copy_from_slice(word);
            // Some of the bytes are still as they were.
            let mask = match self.numbers.below(3) {
                0 => 0,
                1 => 0xff,
                _ => self.numbers.next(),
            };
            for n in 0..8 {
                if mask >> n & 1 == 1 && (at..at + len).contains(&(to + n)) {
                    bytes[to + n - at] = word[n];
                }
            }
        }
        len
    }
}

// SAFETY: it stands in for the C library's function of that name and signature, for this program alone.
#[unsafe(no_mangle)]
unsafe extern "C" fn pread64(
    descriptor: RawFd,
    buffer: *mut libc::c_void,
    len: libc::size_t,
    at: libc::off64_t,
) -> libc::ssize_t {
    let read = LIVE.with(|live| {
        let mut live = live.try_borrow_mut().ok()?;
        let live = live.as_mut()?;
        // SAFETY: the caller's buffer has `len` bytes, which nobody else uses during the call, and they are initialized.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
        Some(live.read(bytes, at as usize) as libc::ssize_t)
    });
    // SAFETY: the arguments are the caller's, who has promised the same to `pread64`.
    read.unwrap_or_else(
        || unsafe { libc::syscall(libc::SYS_pread64, descriptor, buffer, len, at) } as libc::ssize_t
    )
}

/// What 0.3 stores for these records, and for closing the channel behind them.
fn stores(records: &[Vec<u8>]) -> Vec<(usize, [u8; 8])> {
    let (mut at, mut stores) = (DATA, vec![]);
    for record in records {
        let mut payload = record.clone();
        payload.resize(record.len().next_multiple_of(8), 0);
        let words = payload.as_chunks::<8>().0;
        stores.extend(words.iter().enumerate().map(|(n, word)| (at + 8 + 8 * n, *word)));
        stores.push((at + 8 + payload.len(), WATERMARK.to_le_bytes()));
        stores.push((at, (record.len() as u64).to_le_bytes()));
        at += 8 + payload.len();
    }
    stores.push((at, u64::MAX.to_le_bytes()));
    stores
}

#[test]
fn every_record_is_read_once_and_whole() {
    let dir = common::dir();
    let path = dir.path().join("0000_0001.kekbit");
    let campaign = Campaign::new("every_record_is_read_once_and_whole");
    let channels = campaign.count(400, 100_000);
    // Its length is real, and it has no holes.
    std::fs::write(&path, vec![1; CAPACITY + 160]).unwrap();
    for n in 0..channels {
        let mut numbers = campaign.numbers(n);
        let lens = std::iter::repeat_with(|| match numbers.below(4) {
            0 => 0,
            1 => 120,
            _ => numbers.below(121),
        });
        let lens: Vec<_> = lens.take(100).collect();
        let records: Vec<_> =
            lens.iter().zip(0..).map(|(len, seed)| bytes(n ^ seed << 32, *len as usize)).collect();
        let mut file = vec![0; CAPACITY + 160];
        file[..8].copy_from_slice(b"*KEKBIT*");
        file[14] = 1;
        file[32..40].copy_from_slice(&(CAPACITY as u64 | 120 << 32).to_le_bytes());
        file[DATA..DATA + 8].copy_from_slice(&WATERMARK.to_le_bytes());
        let live = Live { file, stores: stores(&records), stored: 0, numbers };
        LIVE.set(Some(live));
        let read = read(&path);
        LIVE.set(None);
        let read = read.unwrap_or_else(|error| panic!("channel {n}: {error}"));
        assert_eq!(read.len(), records.len(), "channel {n}");
        for (found, record) in read.iter().zip(&records) {
            assert!(
                found == record,
                "channel {n}: {} is not {}",
                found.escape_ascii(),
                record.escape_ascii()
            );
        }
    }
    campaign.done(channels, "channels read while they were written");
}

fn read(path: &std::path::Path) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut reader = Channel::open(path).unwrap().reader();
    let mut records = Vec::new();
    while let Some(record) = reader.next(Wait::spin().retries(10_000))? {
        records.push(record.to_vec());
    }
    assert_eq!(reader.end(), Some(End::Closed));
    Ok(records)
}
