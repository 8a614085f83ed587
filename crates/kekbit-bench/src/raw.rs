//! The bare loop: the same frames in a mapped file, without any library around them.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, MmapRaw};

use crate::{Append, Peer, Read, Result};

/// The bare loop, over memory that is prepared beforehand or faults as it goes.
pub(crate) struct Raw {
    pub(crate) prepared: bool,
}

const SALT: (u64, u64) = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210);

fn file_len(size: usize, records: u64) -> u64 {
    ((size as u64 + 15) & !7) * records + 8
}

impl Peer for Raw {
    fn name(&self) -> &'static str {
        if self.prepared { "raw, prepared" } else { "raw, fresh" }
    }

    fn writer(&self, path: &Path, size: usize, records: u64) -> Result<Append> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(file_len(size, records))?;
        // SAFETY: nobody else writes to this file.
        let map: MmapRaw = unsafe { MmapMut::map_mut(&file) }?.into();
        if self.prepared {
            map.advise(memmap2::Advice::PopulateWrite)?;
        }
        Ok(Box::new(move |payload, records| {
            let mut at = 0;
            for _ in 0..records {
                at = put(&map, at, payload);
            }
            Ok(())
        }))
    }

    fn reader(&self, path: &Path) -> Result<Read> {
        let file = OpenOptions::new().read(true).open(path)?;
        let map = memmap2::MmapOptions::new().map_raw_read_only(&file)?;
        if self.prepared {
            map.advise(memmap2::Advice::PopulateRead)?;
        }
        Ok(Box::new(move |records| {
            let (mut at, mut bytes) = (0, 0);
            for _ in 0..records {
                let head = loop {
                    // SAFETY: the word lies inside the file, aligned.
                    let word = unsafe { &*map.as_ptr().wrapping_add(at).cast::<AtomicU64>() }
                        .load(Ordering::Acquire);
                    if word != 0 {
                        break word;
                    }
                    std::hint::spin_loop();
                };
                let len = (head >> 32 & 0x0FFF_FFFF) as usize;
                if head >> 60 != 1 || at + len + 16 > map.len() {
                    return Err("an impossible frame".into());
                }
                // SAFETY: the payload lies inside the file and is published.
                let payload = unsafe { std::slice::from_raw_parts(map.as_ptr().wrapping_add(at + 8), len) };
                bytes += payload.len() as u64 + u64::from(std::hint::black_box(payload)[0] == 0);
                at += (len + 15) & !7;
            }
            Ok(bytes)
        }))
    }
}

#[inline]
fn put(map: &MmapRaw, at: usize, payload: &[u8]) -> usize {
    let (kl, position) = (1u32 << 28 | payload.len() as u32, at as u64);
    let a = (position ^ SALT.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let b = ((a ^ a >> 32 ^ u64::from(kl)).wrapping_add(SALT.1)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let check = crate::crc::crc32c_padded(payload) ^ (b >> 32) as u32;
    let end = at + ((payload.len() + 15) & !7);
    // SAFETY: the file has room for every frame and the word behind the last one.
    let base = unsafe { map.as_mut_ptr().add(at) };
    // SAFETY: as above.
    let to = unsafe { base.add(8) };
    if !payload.len().is_multiple_of(8) {
        let last = to.wrapping_add(payload.len() & !7);
        // SAFETY: as above; the last word, of which the payload then covers its part.
        unsafe { last.cast::<u64>().write(0) };
    }
    // SAFETY: as above; the payload lies elsewhere.
    unsafe { std::ptr::copy_nonoverlapping(payload.as_ptr(), to, payload.len()) };
    // SAFETY: as above.
    let behind = unsafe { map.as_mut_ptr().add(end) };
    // SAFETY: aligned and inside the file.
    unsafe { &*behind.cast::<AtomicU64>() }.store(0, Ordering::Relaxed);
    // SAFETY: aligned and inside the file.
    unsafe { &*base.cast::<AtomicU64>() }.store(u64::from(kl) << 32 | u64::from(check), Ordering::Release);
    end
}
