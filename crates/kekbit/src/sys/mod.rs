//! What the operating system is asked for: files, space and locks. Linux only.

pub(crate) mod file;
pub(crate) mod interruption;
pub(crate) mod lock;
