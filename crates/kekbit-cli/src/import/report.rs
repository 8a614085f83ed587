//! What is said of an import: on standard error, and with `--json`.

use kekbit::legacy::{CheckUp, EndPoint, State};
use serde::Serialize;

use super::copy::Imported;
use super::handlers::{Stamps, likely_unit};
use super::{ImportArgs, Target};
use crate::exit::{Exit, Failure, note};
use crate::original::{JsonLoss, remark};
use crate::output::print_json;
use crate::values::{counted, rfc3339};

/// One OLD that was imported.
pub(super) struct Outcome<'a> {
    pub(super) args: &'a ImportArgs,
    pub(super) old: &'a kekbit::legacy::Channel,
    pub(super) found: &'a CheckUp,
    pub(super) stamps: &'a Stamps,
    pub(super) to: &'a Target,
    pub(super) first_sequence: u64,
    pub(super) imported: Imported,
}

impl Outcome<'_> {
    pub(super) fn report(&self) -> Result<Exit, Failure> {
        let Outcome { args, found, stamps, imported, .. } = self;
        let damage = match &found.outcome {
            Ok(end) if end.state == State::CutOff => remark(end),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let is_numbered = self.is_numbered();
        if args.json {
            print_json(&self.json(damage.clone()))?;
        }
        let (from, to) = (self.old.path().display(), self.to.path().display());
        if !args.quiet {
            self.tell_times();
        }
        if stamps.back > 0 {
            let raised = counted(stamps.back, "record");
            note(format_args!(
                "{from}: the clock went back: {raised} got a time before them, since none goes back in {to}"
            ));
        }
        if let Some(numbers) = stamps.numbers.as_ref().filter(|_| !is_numbered) {
            let why = match self.to {
                Target::Journal(_) => "a journal has its own",
                _ => "some are missing between them",
            };
            let (first, last) = (numbers.start(), numbers.end());
            note(format_args!("{from}: its numbers {first} to {last} are not those of {to}: {why}"));
        }
        let records =
            format!("{} ({})", counted(imported.records, "record"), counted(imported.bytes, "byte"));
        match (&found.outcome, damage) {
            (Err(_), Some(damage)) => {
                note(format_args!("{from}: {damage}; {to} has the {records} before it"));
                Ok(Exit::Damage)
            }
            (Ok(EndPoint { position, .. }), Some(damage)) => {
                note(format_args!(
                    "{from}: cut off at position {position}: {damage}; {to} has the {records} before it"
                ));
                Ok(Exit::Damage)
            }
            _ if args.quiet => Ok(Exit::Done),
            (Ok(end), None) if end.state == State::Unfinished => {
                let why = remark(end).unwrap_or_default();
                note(format_args!("{from}: unfinished: {why}; {to} has the {records} that are there by now"));
                Ok(Exit::Done)
            }
            _ => {
                note(format_args!("{from}: no damage; {to} has its {records}"));
                Ok(Exit::Done)
            }
        }
    }

    /// Says from when its records are, or that nobody has said so.
    fn tell_times(&self) {
        let from = self.old.path().display();
        if let Some(times) = &self.stamps.times {
            let (first, last) = (rfc3339(*times.start()), rfc3339(*times.end()));
            note(format_args!("{from}: its records are from {first} to {last}"));
        }
        if self.args.handlers.is_empty()
            && let Some(unit) = likely_unit(self.old, self.found.sequence)
        {
            note(format_args!(
                "{from}: its records seem to begin with times in {unit}, which are part of the records now: if a \
                 TimestampHandler has put them there, import it anew with --timestamp {unit}"
            ));
        }
    }

    /// Whether its numbers are the sequences of the records in NEW.
    fn is_numbered(&self) -> bool {
        let numbers = self.stamps.numbers.as_ref().filter(|numbers| *numbers.start() == self.first_sequence);
        numbers.is_some() && !self.stamps.has_gaps && !matches!(self.to, Target::Journal(_))
    }

    fn json(&self, damage: Option<String>) -> Report {
        let Outcome { found, stamps, imported, .. } = self;
        let loss = found.outcome.as_ref().ok().and_then(|end| end.loss);
        let numbers = stamps.numbers.as_ref();
        Report {
            from: self.old.path().display().to_string(),
            to: self.to.path().display().to_string(),
            records: imported.records,
            bytes: imported.bytes,
            state: found.outcome.as_ref().map_or_else(|_| "corrupt".to_owned(), |end| end.state.to_string()),
            tail: found.position.offset(),
            loss: loss.as_ref().map(JsonLoss::of),
            damage,
            first_time: stamps.times.as_ref().map(|times| rfc3339(*times.start())),
            last_time: stamps.times.as_ref().map(|times| rfc3339(*times.end())),
            raised_times: stamps.back,
            first_number: numbers.map(|numbers| *numbers.start()),
            last_number: numbers.map(|numbers| *numbers.end()),
            numbers_kept: numbers.map(|_| self.is_numbered()),
        }
    }
}

#[derive(Serialize)]
struct Report {
    from: String,
    to: String,
    records: u64,
    /// Of their payloads.
    bytes: u64,
    /// Of OLD: `closed`, `unfinished`, `cut-off` or `corrupt`.
    state: String,
    /// Position in OLD behind the last record.
    tail: u64,
    loss: Option<JsonLoss>,
    damage: Option<String>,
    first_time: Option<String>,
    last_time: Option<String>,
    /// Records whose time was before that of one before them, and is not any more.
    raised_times: u64,
    first_number: Option<u64>,
    last_number: Option<u64>,
    /// Whether the numbers are the sequences of the records in NEW.
    numbers_kept: Option<bool>,
}
