//! What is read from: a channel that is mapped, or, of a stranger, one that is copied out of its file.

use std::ops::ControlFlow;
use std::path::Path;

use clap::Args;
use kekbit::{
    CheckUp, CopyingReader, End, EndPoint, OpenError, Position, ReadError, ReadOptions, Reader, Record,
    SeekError, Start, Wait,
};

use crate::shape::Shape;

/// The option that chooses.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TrustArgs {
    /// For files that others may change or cut meanwhile: copies everything out of the file before it is checked and
    /// printed, and survives whatever is done to it; slower
    #[arg(long)]
    pub(crate) untrusted: bool,
}

/// An opened channel, and a place in it.
#[derive(Debug)]
pub(crate) enum Source {
    Mapped(Box<Reader>),
    Copied(Box<CopyingReader>),
}

/// The same method of both.
macro_rules! either {
    ($source:expr, $reader:ident => $call:expr, $copying:ident => $other:expr) => {
        match $source {
            Source::Mapped($reader) => $call,
            Source::Copied($copying) => $other,
        }
    };
}

impl Source {
    /// Opens the channel at `path`, to be read from its first record on.
    pub(crate) fn open(path: &Path, options: ReadOptions, trust: TrustArgs) -> Result<Source, OpenError> {
        if trust.untrusted {
            return Ok(Source::Copied(Box::new(options.copying(path)?)));
        }
        let channel = options.open(path)?;
        let io = |error: SeekError| OpenError::Io {
            action: "read",
            path: path.to_owned(),
            source: std::io::Error::other(error),
        };
        Ok(Source::Mapped(Box::new(channel.reader(Start::Beginning).map_err(io)?)))
    }

    pub(crate) fn seek(&mut self, start: Start) -> Result<(), SeekError> {
        either!(self, mapped => { **mapped = mapped.channel().reader(start)?; Ok(()) }, copied => copied.seek(start))
    }

    pub(crate) fn set_durable(&mut self, durable: bool) {
        either!(self, mapped => mapped.set_durable(durable), copied => copied.set_durable(durable));
    }

    /// Hands over each record that is there by now, until there is none or `each` has had enough. Which of the two readers it
    /// is has been decided once: a record that comes out of such a choice has been moved through memory, and a third of the
    /// time to print a line is then spent waiting for that.
    pub(crate) fn try_for_each<E: From<ReadError>>(
        &mut self,
        mut each: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        macro_rules! drain {
            ($reader:ident) => {
                while let Some(record) = $reader.try_next()? {
                    if each(&record)?.is_break() {
                        break;
                    }
                }
            };
        }
        either!(self, mapped => drain!(mapped), copied => drain!(copied));
        Ok(())
    }

    /// The same of the records before this place, the last first.
    pub(crate) fn try_for_each_back<E: From<ReadError>>(
        &mut self,
        mut each: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        macro_rules! drain {
            ($reader:ident) => {
                while let Some(record) = $reader.try_previous()? {
                    if each(&record)?.is_break() {
                        break;
                    }
                }
            };
        }
        either!(self, mapped => drain!(mapped), copied => drain!(copied));
        Ok(())
    }

    pub(crate) fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, ReadError> {
        either!(self, mapped => mapped.next(wait), copied => copied.next(wait))
    }

    pub(crate) fn end(&self) -> Option<End> {
        either!(self, mapped => mapped.end(), copied => copied.end())
    }

    pub(crate) fn end_point(&self) -> Result<EndPoint, ReadError> {
        either!(self, mapped => mapped.channel().end_point(), copied => copied.end_point())
    }

    pub(crate) fn check_up(&self, progress: impl FnMut(Position)) -> Result<CheckUp, ReadError> {
        either!(self, mapped => Ok(mapped.channel().check_up(progress)), copied => copied.check_up(progress))
    }

    pub(crate) fn bytes_behind(&self, position: Position) -> Result<u64, ReadError> {
        either!(self, mapped => mapped.channel().bytes_behind(position), copied => copied.bytes_behind(position))
    }

    /// Whether a stage stands in place of the payload.
    pub(crate) fn has_replaced(&self) -> bool {
        let stages = either!(self, mapped => mapped.channel().stages(), copied => copied.stages());
        stages.iter().any(|stage| stage.replaces)
    }

    /// What its payloads are.
    pub(crate) fn shape(&self) -> Shape {
        Shape::of(either!(self, mapped => mapped.metadata(), copied => copied.metadata()))
    }

    pub(crate) fn synced_tail(&self) -> Position {
        either!(self, mapped => mapped.channel().synced_tail(), copied => copied.synced_tail())
    }

    pub(crate) fn writer_lives(&self) -> Result<bool, ReadError> {
        either!(self, mapped => mapped.channel().writer_lives(), copied => copied.writer_lives())
    }

    pub(crate) fn path(&self) -> &Path {
        either!(self, mapped => mapped.channel().path(), copied => copied.path())
    }

    pub(crate) fn channel_id(&self) -> u64 {
        either!(self, mapped => mapped.channel().channel_id(), copied => copied.metadata().channel_id())
    }

    /// Sequence of the next record.
    pub(crate) fn sequence(&self) -> u64 {
        either!(self, mapped => mapped.sequence(), copied => copied.sequence())
    }

    pub(crate) fn first_sequence(&self) -> u64 {
        either!(self, mapped => mapped.channel().first_sequence(), copied => copied.first_sequence())
    }

    pub(crate) fn seeks_time_exactly(&self) -> bool {
        either!(self, mapped => mapped.channel().seeks_time_exactly(), copied => copied.seeks_time_exactly())
    }

    /// About how many bytes there are to be read.
    pub(crate) fn expected_len(&self) -> u64 {
        let (synced, reserved) = either!(
            self,
            mapped => (mapped.channel().synced_tail(), mapped.channel().reserved()),
            copied => (copied.synced_tail(), copied.reserved())
        );
        synced.offset().max(reserved)
    }
}
