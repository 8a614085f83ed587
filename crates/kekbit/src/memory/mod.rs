//! Memory that a writer and its readers share.
//!
//! [`Memory`] is what the publish protocol needs of it, so that the protocol runs over a mapped file in earnest and
//! over a model checker's memory in tests. [`map`] is the mapped file.

pub(crate) mod map;

/// The orderings of the publish protocol, in one place: the mapped file and the model checker's memory both use them, so
/// that what the model checks is what runs.
pub(crate) mod ordering {
    use std::sync::atomic::Ordering;

    /// Of the store that makes a frame visible, after its payload and the zero behind it. Partner: [`LOOK`].
    pub(crate) const PUBLISH: Ordering = Ordering::Release;
    /// Of the load with which a reader looks for a frame, before it touches the payload. Partner: [`PUBLISH`].
    pub(crate) const LOOK: Ordering = Ordering::Acquire;
    /// Of the zero behind a frame: the publication that follows orders it.
    pub(crate) const CLEAR: Ordering = Ordering::Relaxed;
}

/// The data region of a channel, as a reader sees it.
///
/// Offsets count from the beginning of the region. The methods are unsafe because they do not check them: the one
/// comparison that an append or a read makes anyway is the check, and it is made by the caller.
///
/// # Safety
///
/// Every method requires `at` to be a multiple of 8 and the bytes that it touches to lie inside the region. (Bytes that
/// lie inside the region but past the end of the file are no matter of memory safety: touching them raises SIGBUS.)
pub(crate) trait Memory {
    /// Bytes of a published payload, for as long as this memory gives them.
    type Bytes<'a>: AsRef<[u8]>
    where
        Self: 'a;

    /// Bytes of the region.
    fn len(&self) -> u64;

    /// Loads the word at `at`, so that everything that was stored before it was published is visible afterwards:
    /// [`ordering::LOOK`], the partner of [`WriteMemory::publish`].
    ///
    /// # Safety
    ///
    /// See the trait.
    unsafe fn load(&self, at: u64) -> u64;

    /// The `len` bytes at `at`.
    ///
    /// # Safety
    ///
    /// See the trait; also, they must be published (or be the writer's own), so that they do not change.
    unsafe fn bytes(&self, at: u64, len: u64) -> Self::Bytes<'_>;
}

/// The data region of a channel, as its one writer sees it: there is one value of such a type for each mapping.
///
/// # Safety
///
/// As for [`Memory`]; also, no reader has been told of the bytes that a method changes.
pub(crate) trait WriteMemory: Memory {
    /// Stores `word` at `at` after everything that was stored before: [`ordering::PUBLISH`], the partner of
    /// [`Memory::load`].
    ///
    /// # Safety
    ///
    /// See the trait.
    unsafe fn publish(&self, at: u64, word: u64);

    /// Stores a zero at `at`, where readers will look for the next frame: [`ordering::CLEAR`], since the publication
    /// that follows makes it visible together with the frame before it.
    ///
    /// # Safety
    ///
    /// See the trait.
    unsafe fn clear(&self, at: u64);

    /// Copies `bytes` to `at` and fills the last word with zeros.
    ///
    /// # Safety
    ///
    /// See the trait; the zeros count among the bytes changed.
    unsafe fn fill(&self, at: u64, bytes: &[u8]);
}
