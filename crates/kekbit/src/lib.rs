//! Ultralight persistent data channels: one writer appends records to a file at memory speed, any number of readers, in
//! other threads and other processes, read it at the same time or years later.
//!
//! ```
//! use kekbit::{Channel, Writer};
//!
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("orders.kek");
//! let mut writer = Writer::create(&path)?;
//! writer.append(b"buy 10")?;
//!
//! let channel = Channel::open(&path)?;
//! for record in channel.records() {
//!     println!("{}", record?.escape_ascii());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Writer`] creates a channel and appends to it: bytes, values that [`Encode`] themselves, space that was
//!   [claimed](Writer::claim), [batches](Writer::batch). [`SharedWriter`] shares it between threads.
//! - [`Channel`] is what is there; [`Channel::records`] a plain iterator over it, [`Reader`] follows it while it is
//!   written, from any [`Start`], with any [`Wait`].
//! - [`Journal`] is a directory of channels that follow one another, without an end: [`JournalReader`] reads it as if it were one,
//!   [`NamedCursor`] remembers how far somebody has come.
//! - [`Handler`] is a stage of the write operation; [`Timestamp`], [`SequenceStamp`] and [`CorrelationId`] are built in, and
//!   compression with the feature `lz4`. Readers undo these, [`Decoder`] the others.
//! - [`typed`] channels hold values of one type instead of bytes.
//! - [`CopyingReader`] reads the files of those who are not trusted, [`legacy`] those of the original kekbit (0.3).
//! - [`Channel::seal`] ends a channel whose writer has died, [`Channel::salvage`] copies what is good out of a damaged one.
//!
//! # Trust
//!
//! Channels are read straight from memory-mapped files. That is sound as long as nobody but kekbit writes to such a
//! file or truncates it while it is open; see [`Channel`]. Files that strangers may write to are read by a
//! [`CopyingReader`], which maps nothing and survives whatever is done to the file.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "kekbit supports Linux only: it relies on open-file-description locks, fallocate and MADV_POPULATE"
);

#[cfg(not(target_pointer_width = "64"))]
compile_error!("kekbit supports 64-bit systems only: a channel is mapped as a whole");

// In the order in which data flows: bytes, memory, protocol, file, writer, reader.
mod layout;

mod memory;
mod publish;

mod error;
mod metadata;
mod position;
mod sys;
mod time;

mod encode;
mod handler;
#[cfg(feature = "lz4")]
mod lz4;
mod stage_layout;
mod stages;

mod ahead;
mod create;
mod ground;
mod mapping;
mod options;
mod pen;
mod space;
mod sync_handle;
mod syncer;
mod syncs;
mod writer;

mod batch;
mod claim;
mod shared;

mod back;
mod channel;
mod copying;
mod cursor;
mod cut;
mod decoder;
mod follow;
mod lossy;
mod open;
mod opened;
mod reader;
mod record;
mod records;
mod salvage;
mod scheme;
mod seal;
mod seek;
mod shared_records;
mod survey;
mod undo;
mod wait;

mod journal;

pub mod legacy;
pub mod typed;

#[cfg(test)]
mod loom_tests;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

pub use batch::Batch;
pub use channel::{Channel, CheckUp, EndPoint, State};
pub use claim::Claim;
pub use copying::CopyingReader;
pub use cut::Cut;
pub use decoder::{DecodeError, Decoded, Decoder, DecoderBuilder};
pub use encode::{Encode, EncodeError};
pub use error::{
    AppendError, CreateError, FormatError, OpenError, ReadError, SalvageError, SealError, SeekError,
    SyncError, UndoError,
};
pub use handler::{AppendContext, Chain, Field, Handler, Push, Stage, StageError, StageInfo};
pub use journal::{
    CursorError, CursorInfo, Journal, JournalError, JournalFinding, JournalOptions, JournalReadError,
    JournalReader, JournalSalvaged, JournalSealed, JournalSettings, NamedCursor, Period, Roll,
};
pub use layout::frame::Checksum;
#[cfg(feature = "lz4")]
pub use lz4::Lz4;
pub use mapping::Mapping;
pub use metadata::Metadata;
pub use open::{ReadOptions, Verify};
pub use options::{Durability, Prepare, WriterOptions};
pub use position::Position;
pub use reader::{End, Reader};
pub use record::{Record, SharedRecord};
pub use records::{Records, RecordsBack};
pub use salvage::{Finding, SalvageOptions, Salvaged};
pub use seal::{SealOptions, Sealed};
pub use seek::Start;
pub use shared::{SharedError, SharedWriter};
pub use shared_records::{SharedRecords, SharedRecordsBack};
pub use stages::{CorrelationId, SequenceStamp, Timestamp};
pub use survey::Gap;
pub use sync_handle::SyncHandle;
pub use time::{TickUnit, TickUnitError};
pub use wait::Wait;
pub use writer::{Appended, Writer};

#[cfg(all(doctest, feature = "zerocopy"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/MIGRATING.md")]
struct Migrating;
