//! Where something lies in a channel.

use std::fmt;

/// Offset in bytes of a frame in the data region of a channel; a multiple of 8.
///
/// A position belongs to one channel. It grows with every record, but not by one: the count of records is the
/// sequence. Records of one batch share the position of their batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(u64);

impl Position {
    /// The position at `offset` bytes into the data region.
    pub const fn new(offset: u64) -> Position {
        Position(offset)
    }

    /// Offset in bytes from the beginning of the data region.
    pub const fn offset(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
