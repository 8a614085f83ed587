//! Making the payload of a record again, where stages stand in place of it that kekbit brings: for readers, which lend it
//! until their next step.

use std::mem;

use crate::error::{ReadError, UndoError};
use crate::handler::StageError;
use crate::position::Position;
use crate::stage_layout::{Found, Replaced, StageLayout};

/// The payload of the record that was taken last, and what was found on the way to it.
///
/// Allocates until its buffers are as long as the longest record that it has made.
#[derive(Debug)]
pub(crate) struct Undone {
    /// That of the channel, with what was found inside of this record.
    layout: StageLayout,
    /// What the innermost stage that replaces was given; payload and what is around it.
    inside: Vec<u8>,
    /// Where the next one is made.
    spare: Vec<u8>,
    /// Where the payload lies in `inside`.
    payload: (usize, usize),
}

impl Undone {
    /// `None` if the records of a channel with `layout` have their payload in them.
    pub(crate) fn new(layout: &StageLayout) -> Option<Box<Undone>> {
        let undone =
            || Undone { layout: layout.clone(), inside: Vec::new(), spare: Vec::new(), payload: (0, 0) };
        layout.is_encoded().then(|| Box::new(undone()))
    }

    /// Makes the payload of the record that is stored as `stored`.
    ///
    /// # Errors
    ///
    /// If no writer can have made it so. There is no payload then.
    pub(crate) fn undo(&mut self, stored: &[u8], position: u64, sequence: u64) -> Result<(), ReadError> {
        let error = |stage: String, source| ReadError::Undecodable {
            position: Position::new(position),
            sequence,
            source: Box::new(UndoError { stage, source }),
        };
        self.payload = (0, 0);
        self.inside.clear();
        self.layout.inside = Found::default();
        let mut last = None;
        for (n, part) in self.layout.parts.iter().enumerate() {
            let bytes = if n == 0 { stored } else { &self.inside };
            let end = bytes.len().checked_sub(part.after).filter(|end| *end >= part.before);
            let Some(end) = end else {
                return Err(error(
                    name(last),
                    "what it was given is shorter than the stages inside make it".into(),
                ));
            };
            self.layout.inside.add(&part.stamps, bytes);
            let Some(replaced) = &part.replaced else {
                self.payload = (part.before, end);
                break;
            };
            self.spare.clear();
            let undone = undo_one(replaced, bytes, part.before, end, &mut self.spare);
            undone.map_err(|source| error(replaced.name.clone(), source))?;
            mem::swap(&mut self.inside, &mut self.spare);
            last = Some(replaced);
        }
        Ok(())
    }

    /// What was appended.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.inside[self.payload.0..self.payload.1]
    }

    /// The layout, which knows what was found inside.
    pub(crate) fn layout(&self) -> &StageLayout {
        &self.layout
    }
}

/// Undoes the stage whose body lies at `[start, end)` of `bytes`.
fn undo_one(
    stage: &Replaced,
    bytes: &[u8],
    start: usize,
    end: usize,
    out: &mut Vec<u8>,
) -> Result<(), StageError> {
    let undo = stage.undo.ok_or("only its own handler can undo it")?;
    undo(&bytes[start - stage.prefix..start], &bytes[start..end], &bytes[end..end + stage.suffix], out)
}

fn name(stage: Option<&Replaced>) -> String {
    stage.map_or_else(String::new, |stage| stage.name.clone())
}
