//! What the fuzz targets share.
//!
//! - [`input`]: choices and numbers out of the bytes that the fuzzer makes
//! - [`blocks`]: undoing compression, as FORMAT.md describes it
//! - [`frames`]: frames as FORMAT.md describes them, and a walk over them that knows nothing of the library's
//! - [`place`]: a file that is rewritten in each execution, and a writer that seems to live
//! - [`look`]: everything that can be done with a file that may be a channel, and what must hold of it

pub mod blocks;
pub mod frames;
pub mod input;
pub mod look;
pub mod place;
