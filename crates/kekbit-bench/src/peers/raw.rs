//! The bare loop: the frames of kekbit in a mapped file, without any library around them. It is the yardstick: what the
//! machine gives to anybody who writes these bytes, and reads them on another core.
//!
//! It has a checksum, or has none; otherwise it looks after nothing: no end of the channel, no dead writer, no growth, no
//! file that was damaged.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::meet::wait_for_path;
use crate::peer::{About, Link, Peer, Receiver, Sender, Workload};
use crate::{Result, crc};

/// When the pages of the file are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pages {
    /// All of them beforehand, on both sides.
    Prepared,
    /// Each when it is touched first.
    Fresh,
    /// All of them at once, before the first record: what "fresh" costs who does the one after the other.
    InSeries,
}

/// The bare loop, over such a file.
pub(crate) struct Raw<const CHECKSUM: bool> {
    pages: Pages,
}

pub(crate) fn all<const CHECKSUM: bool>() -> Vec<Raw<CHECKSUM>> {
    let pages: &[_] =
        if CHECKSUM { &[Pages::Prepared, Pages::Fresh, Pages::InSeries] } else { &[Pages::Prepared] };
    pages.iter().map(|&pages| Raw { pages }).collect()
}

impl<const CHECKSUM: bool> Peer for Raw<CHECKSUM> {
    type Sender = RawSender<CHECKSUM>;
    type Receiver = RawReceiver;

    fn name(&self) -> String {
        let pages = match self.pages {
            Pages::Prepared => "prepared",
            Pages::Fresh => "fresh",
            Pages::InSeries => "populate and stream in series",
        };
        format!("raw, {pages}{}", if CHECKSUM { "" } else { ", no checksum" })
    }

    fn about(&self) -> About {
        About { kept: true, checksummed: CHECKSUM, survives_kill: true }
    }

    fn takes_part(&self, workload: Workload) -> bool {
        match self.pages {
            Pages::Prepared if CHECKSUM => {
                matches!(workload, Workload::Append | Workload::Stream | Workload::Pingpong)
            }
            Pages::Prepared => matches!(workload, Workload::Append | Workload::Stream),
            Pages::Fresh => matches!(workload, Workload::Append | Workload::Fresh),
            Pages::InSeries => workload == Workload::Fresh,
        }
    }

    fn sender(&self, link: &Link<'_>) -> Result<RawSender<CHECKSUM>> {
        let path = link.dir.join(link.name);
        let begun = path.with_extension("new");
        let records = link.records.ok_or("raw needs to know the number of records")?;
        let len = frame_len(link.size) as u64 * records + WORD as u64;
        let map = create(&begun, len)?;
        if self.pages != Pages::Fresh {
            map.advise(Advice::PopulateWrite)?;
        }
        // The receiver finds it when it is ready.
        std::fs::rename(&begun, &path)?;
        Ok(RawSender { to: Frames::new(map, len as usize) })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<RawReceiver> {
        let path = link.dir.join(link.name);
        wait_for_path(&path)?;
        let map = open(&path)?;
        if self.pages != Pages::Fresh {
            map.advise(Advice::PopulateRead)?;
        }
        Ok(RawReceiver { from: Taking::new(map) })
    }
}

pub(crate) const WORD: usize = 8;
const RECORD: u32 = 1;
/// The kind of the frame behind which the sender goes on elsewhere.
pub(crate) const JUMP: u32 = 4;
const SALT: (u64, u64) = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210);

/// Bytes of a frame: header word, payload, padding.
#[inline]
pub(crate) fn frame_len(len: usize) -> usize {
    (len + WORD + 7) & !7
}

/// A new file of `len` bytes, all of them holes, mapped.
pub(crate) fn create(path: &Path, len: u64) -> Result<MmapRaw> {
    OpenOptions::new().write(true).create_new(true).open(path)?.set_len(len)?;
    open_for_writing(path)
}

/// Such a file, mapped for reading and writing.
pub(crate) fn open_for_writing(path: &Path) -> Result<MmapRaw> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(MmapOptions::new().map_raw(&file)?)
}

/// Such a file, mapped for reading.
pub(crate) fn open(path: &Path) -> Result<MmapRaw> {
    Ok(MmapOptions::new().map_raw_read_only(&OpenOptions::new().read(true).open(path)?)?)
}

/// Where the next frame goes.
pub(crate) struct Frames<const CHECKSUM: bool> {
    map: MmapRaw,
    /// A multiple of 8 with `at + 8 <= end`, and zero until something is published there.
    at: usize,
    /// Not beyond the map.
    end: usize,
    /// The checksum of short records, where the processor has an instruction for it.
    short: Option<crc::Short>,
}

/// Up to so many bytes are checked and copied without a call.
const SHORT: usize = 128;

impl<const CHECKSUM: bool> Frames<CHECKSUM> {
    /// In the first `len` bytes of `map`, which is new: its first word is zero.
    pub(crate) fn new(map: MmapRaw, len: usize) -> Frames<CHECKSUM> {
        assert!(WORD <= len && len <= map.len());
        Frames { map, at: 0, end: len, short: crc::Short::new() }
    }

    /// Goes on at the beginning of another part of the map, which nobody reads any more: the frame that says so is
    /// published last.
    pub(crate) fn jump(&mut self, start: usize, len: usize) {
        assert!(start.is_multiple_of(WORD) && WORD <= len && start + len <= self.map.len());
        // Relaxed: ordered by the store below.
        self.word(start).store(0, Ordering::Relaxed);
        // Release, as in `put`.
        self.word(self.at).store(u64::from(JUMP) << 60, Ordering::Release);
        (self.at, self.end) = (start, start + len);
    }

    /// Publishes a record; `false` if it and the word behind it do not fit.
    #[inline]
    pub(crate) fn put(&mut self, payload: &[u8]) -> bool {
        let end = self.at + frame_len(payload.len());
        if end + WORD > self.end {
            return false;
        }
        let kl = RECORD << 28 | payload.len() as u32;
        // From the source, before the line is touched that the receiver polls.
        let check = if CHECKSUM { self.crc(payload) } else { 0 } ^ mix(self.at as u64, kl);
        let to = self.map.as_mut_ptr().wrapping_add(self.at + WORD);
        if !payload.len().is_multiple_of(8) {
            // SAFETY: the last word of the padded payload, inside the file; the payload then covers its part.
            unsafe { to.wrapping_add(payload.len() & !7).cast::<u64>().write(0) };
        }
        // SAFETY: inside the file; the payload lies elsewhere.
        unsafe { copy(to, payload) };
        // Relaxed: ordered by the store below.
        self.word(end).store(0, Ordering::Relaxed);
        // Release: what the receiver's Acquire load of this word lets it see.
        self.word(self.at).store(u64::from(kl) << 32 | u64::from(check), Ordering::Release);
        self.at = end;
        true
    }

    #[inline]
    fn crc(&self, payload: &[u8]) -> u32 {
        match self.short {
            Some(short) if payload.len() <= SHORT => short.crc32c_padded(payload),
            _ => crc::crc32c_padded(payload),
        }
    }

    /// The word at `at`, a multiple of 8 that leaves room for it.
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        word(&self.map, at)
    }
}

/// Copies `from` to `to`: short ones as two halves that may overlap.
///
/// # Safety
///
/// As many bytes as `from` has may be written at `to`, and do not overlap them.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: &[u8]) {
    /// # Safety
    ///
    /// As above; `from` has at least `N` bytes.
    #[inline(always)]
    unsafe fn halves<const N: usize>(to: *mut u8, from: &[u8]) {
        let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return };
        let (first, last) = (*first, *last);
        // SAFETY: these bytes are among those that the caller has promised.
        unsafe { to.cast::<[u8; N]>().write(first) };
        // SAFETY: so are these.
        unsafe { to.wrapping_add(from.len() - N).cast::<[u8; N]>().write(last) };
    }
    match from.len() {
        // SAFETY: promised by the caller, and there are so many.
        64..=SHORT => unsafe { halves::<64>(to, from) },
        // SAFETY: as above.
        32..64 => unsafe { halves::<32>(to, from) },
        // SAFETY: as above.
        16..32 => unsafe { halves::<16>(to, from) },
        // SAFETY: as above.
        8..16 => unsafe { halves::<8>(to, from) },
        // SAFETY: promised by the caller.
        _ => unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) },
    }
}

#[inline]
fn mix(position: u64, kl: u32) -> u32 {
    let a = (position ^ SALT.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let b = ((a ^ a >> 32 ^ u64::from(kl)).wrapping_add(SALT.1)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (b >> 32) as u32
}

/// The word at `at`, which the callers know to be a multiple of 8 with `at + 8 <= map.len()`.
#[inline]
pub(crate) fn word(map: &MmapRaw, at: usize) -> &AtomicU64 {
    debug_assert!(at.is_multiple_of(WORD) && at + WORD <= map.len());
    // SAFETY: aligned and inside the file, which is only accessed through atomics and raw pointers.
    unsafe { &*map.as_mut_ptr().wrapping_add(at).cast::<AtomicU64>() }
}

/// The sending side.
pub(crate) struct RawSender<const CHECKSUM: bool> {
    to: Frames<CHECKSUM>,
}

impl<const CHECKSUM: bool> Sender for RawSender<CHECKSUM> {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        if self.to.put(record) { Ok(()) } else { Err("the file of the bare loop is full".into()) }
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// The receiving side.
pub(crate) struct RawReceiver {
    from: Taking,
}

impl Receiver for RawReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        for count in 0..super::AT_ONCE {
            match self.from.next() {
                Found::Record(record) => each(record),
                Found::Nothing => return Ok(count),
                Found::Jump => return Err("the bare loop has gone on elsewhere".into()),
                Found::Damage(head) => return Err(damage(head)),
            }
        }
        Ok(super::AT_ONCE)
    }
}

/// Where the next frame is taken.
pub(crate) struct Taking {
    map: MmapRaw,
    /// A multiple of 8 with `at + 8 <= map.len()`.
    at: usize,
}

/// What is there.
pub(crate) enum Found<'a> {
    Record(&'a [u8]),
    Nothing,
    /// The sender has gone on elsewhere.
    Jump,
    /// This header word.
    Damage(u64),
}

impl Taking {
    pub(crate) fn new(map: MmapRaw) -> Taking {
        assert!(WORD <= map.len());
        Taking { map, at: 0 }
    }

    /// The next record, if there is one.
    #[inline]
    pub(crate) fn next(&mut self) -> Found<'_> {
        // Acquire: the partner of the sender's Release store.
        let head = word(&self.map, self.at).load(Ordering::Acquire);
        let len = (head >> 32 & 0x0FFF_FFFF) as usize;
        let end = self.at + frame_len(len);
        if head >> 60 == u64::from(RECORD) && end + WORD <= self.map.len() {
            let payload = self.map.as_ptr().wrapping_add(self.at + WORD);
            self.at = end;
            // SAFETY: inside the file, and published: it does not change before the receiver says that it has gone on.
            return Found::Record(unsafe { std::slice::from_raw_parts(payload, len) });
        }
        match head {
            0 => Found::Nothing,
            _ if head >> 60 == u64::from(JUMP) => Found::Jump,
            _ => Found::Damage(head),
        }
    }

    /// Goes on where the sender has.
    pub(crate) fn jump(&mut self, start: usize) {
        assert!(start.is_multiple_of(WORD) && start + WORD <= self.map.len());
        self.at = start;
    }
}

pub(crate) fn damage(head: u64) -> Box<dyn std::error::Error> {
    format!("{head:#x} is no header of the bare loop").into()
}
