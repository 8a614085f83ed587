//! From OLD to NEW, record by record; and what becomes of NEW if that fails.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;

use indicatif::ProgressBar;
use kekbit::legacy::{Channel, CheckUp};
use kekbit::{AppendContext, Handler, StageError, StageInfo, TickUnit, Timestamp};

use super::{ImportArgs, Target};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::values::counted;
use crate::write::Sink;

/// Puts the time that a record had in OLD before it.
pub(super) struct OriginalStamp {
    pub(super) unit: TickUnit,
    pub(super) ticks: Rc<Cell<u64>>,
}

impl Handler for OriginalStamp {
    fn describe(&self) -> StageInfo {
        Timestamp::new(self.unit).describe()
    }

    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&self.ticks.get().to_le_bytes());
        Ok(())
    }
}

/// What is to be copied.
pub(super) struct Copy<'a> {
    pub(super) args: &'a ImportArgs,
    pub(super) signals: &'a Signals,
    pub(super) old: &'a Channel,
    pub(super) found: &'a CheckUp,
    pub(super) to: &'a Target,
    pub(super) ticks: Rc<Cell<u64>>,
}

/// What was copied.
#[derive(Default)]
pub(super) struct Imported {
    pub(super) records: u64,
    /// Of their payloads.
    pub(super) bytes: u64,
}

const PROGRESS_STEP: u64 = 1 << 20;

impl Copy<'_> {
    /// Appends everything that was found, and closes NEW. If that fails a new channel is removed, since it would look like a whole one;
    /// in a journal, what was appended stays.
    pub(super) fn run(self, mut sink: impl Sink) -> Result<Imported, Failure> {
        let bar = self.args.bar(Some(self.found.position.offset()), "importing");
        let mut imported = Imported::default();
        // Removed while its writer has it, so that nobody finds it closed.
        let copied = self.append_all(&mut sink, &bar, &mut imported);
        let copied = copied.map_err(|failure| self.given_up(failure, imported.records));
        bar.finish_and_clear();
        let closed = sink.close();
        copied?;
        closed
            .map_err(|error| self.given_up(Failure::from(error).about(self.to.path()), imported.records))?;
        Ok(imported)
    }

    fn append_all(
        &self,
        sink: &mut impl Sink,
        bar: &ProgressBar,
        imported: &mut Imported,
    ) -> Result<(), Failure> {
        let (mut reader, mut shown) = (self.old.reader(), 0);
        let unit = self.args.handlers.unit().map_or(1, TickUnit::nanos);
        while imported.records < self.found.sequence {
            if let Some(signal) = self.signals.received() {
                return Err(Failure::new(Exit::Signal(signal), "interrupted").about(self.old.path()));
            }
            // It has been there: what is wrong now has become so.
            let next = reader.try_next().map_err(|error| Failure::from(error).about(self.old.path()))?;
            let Some(record) = next else {
                let why = "it has fewer records than a moment ago: somebody has changed it";
                return Err(Failure::new(Exit::Damage, why).about(self.old.path()));
            };
            if let Some(nanos) = record.timestamp_nanos() {
                self.ticks.set(self.ticks.get().max(nanos / unit));
            }
            sink.append(record.payload()).map_err(|error| Failure::from(error).about(self.to.path()))?;
            imported.records += 1;
            imported.bytes += record.payload().len() as u64;
            let at = record.position().offset();
            if at >= shown {
                bar.set_position(at);
                shown = at + PROGRESS_STEP;
            }
        }
        Ok(())
    }

    /// Removes NEW, if it is a channel, and says what is left.
    fn given_up(&self, failure: Failure, records: u64) -> Failure {
        let of = counted(self.found.sequence, "record");
        let failure = failure.and(format_args!("{records} of {of} had been copied"));
        let to = self.to.path().display();
        match (self.to, records) {
            (Target::Journal(_), 0) => failure,
            (Target::Journal(_), _) => failure.and(format_args!(
                "they stay in {to}, and importing again appends them again: begin with an empty directory"
            )),
            (Target::Channel(path) | Target::Named { path, .. }, _) => match fs::remove_file(path) {
                Ok(()) => failure.and(format_args!("{to} is removed again")),
                Err(error) => failure.and(format_args!("{to} has no more, and cannot be removed: {error}")),
            },
        }
    }
}
