//! A channel file, mapped into memory: with `publish.rs` the only place that handles pointers.
//!
//! The mapping covers header, control, index and the whole capacity, also what the file does not have yet: address
//! space costs nothing. Touching a page past the end of the file raises SIGBUS, so nothing here is touched before the
//! caller knows that the file reaches that far.
//!
//! **The assumption.** As long as a channel is open, nobody but kekbit writes to its file or truncates it. Whoever may
//! write to the file can break that: truncation then ends the process by SIGBUS, and published bytes may change under a
//! `&[u8]`. The operating system offers no way to enforce it; see "Trust" in the crate's documentation.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, MmapAdvise, MsFlags, ProtFlags};

use super::{Memory, WriteMemory, ordering};
use crate::layout::PAGE;
use crate::layout::frame::SHORT;

/// What a mapping may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A mapped channel file. Unmapped when the last owner drops it.
#[derive(Debug)]
pub(crate) struct Map {
    base: NonNull<u8>,
    len: usize,
    access: Access,
    /// The process that made it: a forked child has no writable mapping there, and perhaps something of its own.
    process: u32,
    /// Whether the writer's view has been handed out: there is one.
    writing: AtomicBool,
}

// SAFETY: a Map is a range of addresses that stays mapped until it is dropped; it has no tie to the thread that made it.
unsafe impl Send for Map {}
// SAFETY: the shared methods only load atomically, or hand out pointers whose use is the callers' proof.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of `file`, which may be shorter.
    ///
    /// A writable mapping is not inherited by forked children: they must not keep the writer's lock, which lives as
    /// long as the mapping, nor write into a channel that is not theirs.
    pub(crate) fn new(file: impl AsFd, len: u64, access: Access) -> Result<Map, Errno> {
        let len = usize::try_from(len).ok().and_then(NonZeroUsize::new).ok_or(Errno::EOVERFLOW)?;
        let (prot, flags) = match access {
            Access::Read => (ProtFlags::PROT_READ, MapFlags::MAP_SHARED),
            Access::Write => (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED),
        };
        // SAFETY: the kernel chooses the place, so that no existing mapping is touched.
        let base = unsafe { mman::mmap(None, len, prot, flags | MapFlags::MAP_NORESERVE, file, 0) }?;
        let map = Map {
            base: base.cast(),
            len: len.get(),
            access,
            process: std::process::id(),
            writing: AtomicBool::new(false),
        };
        if access == Access::Write {
            map.advise(0, map.len as u64, MmapAdvise::MADV_DONTFORK)?;
        }
        Ok(map)
    }

    /// Whether this process has made it. A forked child has no writable mapping of its parent's.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }

    /// What it may be used for.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// The same mapping, whose writer's view has gone: nobody else has it, so that no view is left.
    pub(crate) fn without_writer(mut self) -> Map {
        *self.writing.get_mut() = false;
        self
    }

    /// Bytes of the mapping.
    pub(crate) fn len(&self) -> u64 {
        self.len as u64
    }

    fn advise(&self, at: u64, len: u64, advice: MmapAdvise) -> Result<(), Errno> {
        assert!(at + len <= self.len());
        let start = self.address(at);
        // SAFETY: the range lies inside this mapping, and none of the advices used here discards its content.
        unsafe { mman::madvise(start, len as usize, advice) }
    }

    /// Makes the pages that hold `[at, at + len)` present and writable, so that later stores do not fault. The file
    /// must reach that far. On failure nothing is lost: the pages fault one by one.
    pub(crate) fn populate_write(&self, at: u64, len: u64) -> Result<(), Errno> {
        assert!(self.access == Access::Write);
        let start = at & !(PAGE - 1);
        self.advise(start, at + len - start, MmapAdvise::MADV_POPULATE_WRITE)
    }

    /// The same for reading.
    pub(crate) fn populate_read(&self, at: u64, len: u64) -> Result<(), Errno> {
        let start = at & !(PAGE - 1);
        self.advise(start, at + len - start, MmapAdvise::MADV_POPULATE_READ)
    }

    /// Tells the kernel that reads will jump about, so that it reads single pages.
    pub(crate) fn expect_random(&self) -> Result<(), Errno> {
        self.advise(0, self.len(), MmapAdvise::MADV_RANDOM)
    }

    /// Tells the kernel that everything will be written once and from the first byte on: large pages pay.
    pub(crate) fn expect_streaming(&self) -> Result<(), Errno> {
        self.advise(0, self.len(), MmapAdvise::MADV_HUGEPAGE)
    }

    /// Takes [`Map::expect_streaming`] back.
    pub(crate) fn expect_nothing(&self) -> Result<(), Errno> {
        self.advise(0, self.len(), MmapAdvise::MADV_NOHUGEPAGE)
    }

    /// Writes the pages that hold `[at, at + len)` to the storage and waits for it.
    pub(crate) fn sync(&self, at: u64, len: u64) -> Result<(), Errno> {
        assert!(at + len <= self.len());
        let start = at & !(PAGE - 1);
        // SAFETY: the range lies inside this mapping; syncing changes no memory.
        unsafe { mman::msync(self.address(start), (at + len - start) as usize, MsFlags::MS_SYNC) }
    }

    /// The word at `at`, loaded with Acquire; `at` is a multiple of 8 inside the mapping and inside the file.
    pub(crate) fn word(&self, at: u64) -> u64 {
        // Acquire is the partner of the Release in `store`.
        u64::from_le(self.atomic(at).load(Ordering::Acquire))
    }

    /// Stores `word` at `at` with Release; `at` is a multiple of 8 inside the mapping and inside the file.
    pub(crate) fn store(&self, at: u64, word: u64) {
        assert!(self.access == Access::Write);
        // Release is the partner of the Acquire in `word`.
        self.atomic(at).store(word.to_le(), Ordering::Release);
    }

    /// `N` bytes at `at`, read word by word: the writer may be changing them, so their checksum must be checked.
    pub(crate) fn words<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        // From the last word on, which the writer stores last: what is found there was stored after the others.
        for (i, word) in bytes.chunks_exact_mut(8).enumerate().rev() {
            word.copy_from_slice(&self.word(at + 8 * i as u64).to_le_bytes());
        }
        bytes
    }

    /// Stores `bytes`, a whole number of words, at `at`, the last word last.
    pub(crate) fn store_words(&self, at: u64, bytes: &[u8]) {
        for (i, word) in bytes.chunks_exact(8).enumerate() {
            self.store(at + 8 * i as u64, crate::layout::u64_at(word, 0));
        }
    }

    /// Stores a word of each page that holds a part of `[at, at + len)` again, unchanged: the kernel then takes the pages
    /// for written, and the next sync writes them whatever became of earlier ones. The file has space there. Whoever
    /// reads the words meanwhile reads what was there before.
    pub(crate) fn write_again(&self, at: u64, len: u64) {
        for page in (at & !(PAGE - 1)..at + len).step_by(PAGE as usize) {
            self.store(page, self.word(page));
        }
    }

    fn atomic(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.len());
        let word = self.address(at).cast::<AtomicU64>();
        // SAFETY: the address lies inside this mapping, which outlives the borrow, and is a multiple of 8, since `at`
        // and the page that the mapping begins with are. Every process accesses these words atomically.
        unsafe { word.as_ref() }
    }

    fn address(&self, at: u64) -> NonNull<c_void> {
        assert!(at <= self.len());
        // SAFETY: `at` is at most the length of this mapping.
        unsafe { self.base.add(at as usize) }.cast()
    }
}

/// Published bytes that keep their mapping alive.
#[derive(Clone, Debug)]
pub(crate) struct SharedBytes {
    map: Arc<Map>,
    at: usize,
    len: usize,
}

impl SharedBytes {
    /// Lets `bytes`, which lie in `map`, live as long as they are needed; `None` if they lie elsewhere.
    pub(crate) fn new(map: &Arc<Map>, bytes: &[u8]) -> Option<SharedBytes> {
        // A mapping for reading hands out references to published bytes only.
        assert!(map.access == Access::Read);
        let at = bytes.as_ptr().addr().checked_sub(map.base.addr().get())?;
        (at.checked_add(bytes.len())? <= map.len).then(|| SharedBytes {
            map: Arc::clone(map),
            at,
            len: bytes.len(),
        })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        let address = self.map.address(self.at as u64).cast::<u8>();
        // SAFETY: these bytes were published when this value was made, so they never change; they lie inside the
        // mapping, which `self.map` keeps.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.access == Access::Write && !self.is_of_this_process() {
            return;
        }
        // SAFETY: this value made the mapping and is its only owner; the views into it keep an Arc of it or borrow it.
        let unmapped = unsafe { mman::munmap(self.base.cast(), self.len) };
        // ENOMEM is the limit on the number of mappings: then addresses are lost, and a writer's lock until the process ends.
        debug_assert_ne!(unmapped, Err(Errno::EINVAL));
    }
}

/// The data region of a mapping: a pointer that needs no detour, and what keeps it valid.
#[derive(Debug)]
pub(crate) struct View<K> {
    base: NonNull<u8>,
    len: u64,
    _keep: K,
}

/// Keeps the mapping alive, and is the only one of its mapping.
#[derive(Debug)]
pub(crate) struct Sole {
    _map: Arc<Map>,
}

/// The writer's view. There is one for each mapping.
pub(crate) type WriterView = View<Sole>;
/// A reader's view that keeps the mapping alive.
pub(crate) type OwnedView = View<Arc<Map>>;
/// A reader's view that borrows the mapping.
pub(crate) type BorrowedView<'m> = View<PhantomData<&'m Map>>;

// SAFETY: the pointer leads into a Map, which is Send and Sync, and which the view keeps alive or borrows.
unsafe impl<K: Send> Send for View<K> {}
// SAFETY: as above; the methods that store are unsafe and name their conditions.
unsafe impl<K: Sync> Sync for View<K> {}

impl WriterView {
    /// The bytes of `map`, which is writable, from `at` on. A second view of the same mapping is a bug.
    pub(crate) fn sole(map: Arc<Map>, at: u64) -> WriterView {
        assert!(map.access == Access::Write);
        // Relaxed: nothing is ordered by it, only the second caller found.
        assert!(!map.writing.swap(true, Ordering::Relaxed), "a channel has one writer");
        View { base: map.address(at).cast(), len: map.len() - at, _keep: Sole { _map: map } }
    }

    /// The `len` bytes at `at`, to be written.
    ///
    /// # Safety
    ///
    /// Inside the region; bytes that no reader has been told of; the caller chooses `'a`, no longer than the borrow of
    /// whatever keeps the one writer from changing them otherwise.
    #[inline]
    pub(crate) unsafe fn bytes_mut<'a>(&self, at: u64, len: u64) -> &'a mut [u8] {
        // SAFETY: as this function requires.
        let address = unsafe { self.address(at) };
        // SAFETY: mapped and initialized (a file's bytes always are), and by the contract nobody else looks at them.
        unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), len as usize) }
    }
}

impl OwnedView {
    /// The bytes of `map` from `at` on.
    pub(crate) fn owned(map: Arc<Map>, at: u64) -> OwnedView {
        View { base: map.address(at).cast(), len: map.len() - at, _keep: map }
    }
}

impl<'m> BorrowedView<'m> {
    /// The bytes of `map` from `at` on.
    pub(crate) fn borrowed(map: &'m Map, at: u64) -> BorrowedView<'m> {
        View { base: map.address(at).cast(), len: map.len() - at, _keep: PhantomData }
    }
}

impl<K> View<K> {
    /// # Safety
    ///
    /// `at` is a multiple of 8, at most the region's length.
    #[inline]
    unsafe fn address(&self, at: u64) -> NonNull<u8> {
        // SAFETY: the caller keeps `at` inside the region, which lies inside a live mapping.
        unsafe { self.base.add(at as usize) }
    }

    /// # Safety
    ///
    /// `at` is a multiple of 8, and `at + 8` is at most the region's length.
    #[inline]
    unsafe fn atomic(&self, at: u64) -> &AtomicU64 {
        // SAFETY: as this function requires.
        let address = unsafe { self.address(at) };
        // SAFETY: aligned, since `at` and the region's beginning are multiples of 8; mapped, by the bound; and words
        // that a reader polls are only ever accessed atomically while it may look at them.
        unsafe { address.cast::<AtomicU64>().as_ref() }
    }

    /// # Safety
    ///
    /// Inside the region; published; `'a` does not outlive the mapping.
    #[inline]
    unsafe fn published<'a>(&self, at: u64, len: u64) -> &'a [u8] {
        // SAFETY: as this function requires.
        let address = unsafe { self.address(at) };
        // SAFETY: mapped and initialized; published bytes never change again, under the assumption of this module.
        unsafe { std::slice::from_raw_parts(address.as_ptr(), len as usize) }
    }
}

/// What the views have in common; they differ in how long the bytes live.
macro_rules! memory {
    ([$($generics:tt)*] $view:ty, $lifetime:lifetime) => {
        impl $($generics)* Memory for $view {
            type Bytes<'s> = &$lifetime [u8] where Self: 's;

            #[inline]
            fn len(&self) -> u64 {
                self.len
            }

            #[inline]
            unsafe fn load(&self, at: u64) -> u64 {
                // SAFETY: the caller keeps the contract of Memory.
                u64::from_le(unsafe { self.atomic(at) }.load(ordering::LOOK))
            }

            #[inline]
            unsafe fn bytes(&self, at: u64, len: u64) -> Self::Bytes<'_> {
                // SAFETY: the caller keeps the contract of Memory; the lifetime is that of the mapping's keeper.
                unsafe { self.published(at, len) }
            }
        }
    };
}

memory!([] WriterView, 's);
memory!([] OwnedView, 's);
memory!([<'m>] BorrowedView<'m>, 'm);

impl WriteMemory for WriterView {
    #[inline]
    unsafe fn publish(&self, at: u64, word: u64) {
        // SAFETY: the caller keeps the contract of WriteMemory.
        unsafe { self.atomic(at) }.store(word.to_le(), ordering::PUBLISH);
    }

    #[inline]
    unsafe fn clear(&self, at: u64) {
        // SAFETY: the caller keeps the contract of WriteMemory.
        unsafe { self.atomic(at) }.store(0, ordering::CLEAR);
    }

    #[inline]
    unsafe fn fill(&self, at: u64, bytes: &[u8]) {
        // SAFETY: the caller keeps the contract of WriteMemory.
        let to = unsafe { self.address(at) };
        if !bytes.len().is_multiple_of(8) {
            // The last word as a whole; the payload then covers its part of it.
            // SAFETY: the last word lies inside the region.
            let last = unsafe { to.add(bytes.len() & !7) };
            // SAFETY: as above; aligned, since `at` is.
            unsafe { last.cast::<u64>().write(0) };
        }
        if bytes.len() as u64 <= SHORT {
            // SAFETY: mapped, and nobody else looks at these bytes, of which only this writer knows; none of its own
            // claims is alive, since they borrow it.
            let to = unsafe { std::slice::from_raw_parts_mut(to.as_ptr(), bytes.len()) };
            copy_short(to, bytes);
            return;
        }
        // SAFETY: `to` is valid for the payload's length; the source is the caller's memory and cannot overlap bytes
        // of which only this writer knows, since no safe reference to them exists outside a claim.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }
}

/// Copies up to [`SHORT`] bytes of one slice into another of the same length: in two halves that may overlap, without a loop and
/// without a call.
#[inline(always)]
fn copy_short(to: &mut [u8], from: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
        let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
            return false;
        };
        // Both are read before one is written, so that the compiler need not wonder whether they overlap.
        let (first, last) = (*first, *last);
        if let Some(to) = to.first_chunk_mut() {
            *to = first;
        }
        if let Some(to) = to.last_chunk_mut() {
            *to = last;
        }
        true
    }
    debug_assert!(to.len() == from.len() && from.len() as u64 <= SHORT);
    let copied = match from.len() {
        64.. => ends::<64>(to, from),
        32.. => ends::<32>(to, from),
        16.. => ends::<16>(to, from),
        8.. => ends::<8>(to, from),
        4.. => ends::<4>(to, from),
        2.. => ends::<2>(to, from),
        _ => ends::<1>(to, from),
    };
    debug_assert!(copied || from.is_empty());
}
