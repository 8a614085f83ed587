//! Where the stages of a channel have put their bytes, for readers.
//!
//! ```text
//! stored:  [ stamps and others | a stage that replaces's own prefix | body | suffixes ]      part 0
//!                                                                     |
//!                                                                   undo
//!                                                                     v
//! inside:                      [ stamps and others | own prefix | body | suffixes ]          part 1
//!                                                                 |
//!                                                               undo
//!                                                                 v
//!                                              [ stamps and others | payload | suffixes ]    the last part
//! ```
//!
//! Most channels have one part: their payload is found in the stored bytes. With more parts it is not there, and whoever lends
//! records has it made first, see `undo.rs`. [`StageLayout::prefix`] is then beyond every record, so that the one look that
//! finds a payload also finds that there is none, at no cost for those channels that have it.

use std::sync::Arc;

use crate::handler::{StageError, StageInfo};
use crate::layout::u64_at;
use crate::stages::{CORRELATION, SEQUENCE, TIMESTAMP};
use crate::time::TickUnit;

/// Appends to the last argument what a stage was given when it made prefix, body and suffix.
pub(crate) type Undo = fn(&[u8], &[u8], &[u8], &mut Vec<u8>) -> Result<(), StageError>;

/// Where the stages of a channel have put their bytes, and how to take them apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageLayout {
    /// Bytes around the payload; `usize::MAX` in front where it has to be made first.
    pub(crate) prefix: usize,
    pub(crate) suffix: usize,
    /// Bytes that the stages add to each record at the least: none is shorter.
    pub(crate) around: u32,
    stamps: Stamps,
    /// What was found inside, of one record.
    pub(crate) inside: Found,
    /// All parts, if there are several and the payload is wanted.
    pub(crate) parts: Arc<[Part]>,
}

/// Bytes that no stage has replaced, up to the next that does.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// Bytes around the body, or, in the last part, around the payload.
    pub(crate) before: usize,
    pub(crate) after: usize,
    pub(crate) stamps: Stamps,
    /// What stands in place of the rest; `None`: nothing does.
    pub(crate) replaced: Option<Replaced>,
}

/// A stage that stands in place of what it was given.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// Its own bytes, next to the body.
    pub(crate) prefix: usize,
    pub(crate) suffix: usize,
    /// `None`: only its own handler can undo it.
    pub(crate) undo: Option<Undo>,
}

/// Where built-in stages have put what readers tell of each record: of several of a kind the outermost counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamps {
    timestamp: Option<(usize, TickUnit)>,
    sequence: Option<usize>,
    correlation: Option<usize>,
}

/// What was found there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    timestamp: Option<u64>,
    sequence: Option<u64>,
    correlation: Option<u64>,
}

impl StageLayout {
    /// The layout that `stages` make, or what is wrong with them.
    pub(crate) fn new(stages: &[StageInfo], max_record_len: u32) -> Result<StageLayout, &'static str> {
        let mut parts = vec![Part::default()];
        for stage in stages {
            let part = parts.last_mut().expect("there is one always");
            part.stamps.note(stage, part.before)?;
            part.before += stage.prefix_len as usize;
            part.after += stage.suffix_len as usize;
            let outermost = parts.len() == 1;
            let part = parts.last_mut().expect("there is one always");
            if outermost && part.before + part.after > max_record_len as usize {
                return Err("its stages add more than a record can have");
            }
            if stage.replaces {
                part.replaced = Some(Replaced {
                    id: stage.id,
                    name: stage.name.clone(),
                    prefix: stage.prefix_len as usize,
                    suffix: stage.suffix_len as usize,
                    undo: built_in(stage),
                });
                parts.push(Part::default());
            }
        }
        let Part { before, after, stamps, .. } = parts[0];
        let is_encoded = parts.len() > 1;
        Ok(StageLayout {
            prefix: if is_encoded { usize::MAX } else { before },
            suffix: after,
            around: (before + after) as u32,
            stamps,
            inside: Found::default(),
            parts: if is_encoded { parts.into() } else { Arc::default() },
        })
    }

    /// The same, for those to whom the stored bytes are the payload.
    pub(crate) fn stored(self) -> StageLayout {
        StageLayout { prefix: 0, suffix: 0, around: 0, parts: Arc::default(), ..self }
    }

    /// Whether a payload has to be made before it can be lent.
    pub(crate) fn is_encoded(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The stages that stand in place of the payload, the outermost first.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = &Replaced> {
        self.parts.iter().filter_map(|part| part.replaced.as_ref())
    }

    pub(crate) fn has_timestamp(&self) -> bool {
        let inside = self.parts.iter().any(|part| part.stamps.timestamp.is_some());
        self.stamps.timestamp.is_some() || inside
    }

    /// Nanoseconds since the Unix epoch that a timestamp stage has put into `stored`.
    pub(crate) fn timestamp(&self, stored: &[u8]) -> Option<u64> {
        self.stamps.timestamp(stored).or(self.inside.timestamp)
    }

    /// The sequence that a sequence stage has put into `stored`.
    pub(crate) fn sequence(&self, stored: &[u8]) -> Option<u64> {
        self.stamps.sequence(stored).or(self.inside.sequence)
    }

    /// The number that a correlation stage has put into `stored`.
    pub(crate) fn correlation(&self, stored: &[u8]) -> Option<u64> {
        self.stamps.correlation(stored).or(self.inside.correlation)
    }
}

impl Stamps {
    /// Notes what `stage` puts at `at`, if it is one that readers know.
    fn note(&mut self, stage: &StageInfo, at: usize) -> Result<(), &'static str> {
        match (stage.id, stage.version, stage.prefix_len) {
            (TIMESTAMP, 1, 8) => {
                let unit = stage.params.first().and_then(|unit| TickUnit::from_number(*unit));
                let unit = unit.ok_or("a timestamp has an unknown unit")?;
                self.timestamp = self.timestamp.or(Some((at, unit)));
            }
            (SEQUENCE, 1, 8) => self.sequence = self.sequence.or(Some(at)),
            (CORRELATION, 1, 8) => self.correlation = self.correlation.or(Some(at)),
            _ => {}
        }
        Ok(())
    }

    fn timestamp(&self, bytes: &[u8]) -> Option<u64> {
        let (at, unit) = self.timestamp?;
        Some(word(bytes, at)?.saturating_mul(unit.nanos()))
    }

    fn sequence(&self, bytes: &[u8]) -> Option<u64> {
        word(bytes, self.sequence?)
    }

    fn correlation(&self, bytes: &[u8]) -> Option<u64> {
        word(bytes, self.correlation?)
    }
}

impl Found {
    /// Adds what `stamps` say of `bytes`, where nothing was found farther out.
    pub(crate) fn add(&mut self, stamps: &Stamps, bytes: &[u8]) {
        self.timestamp = self.timestamp.or_else(|| stamps.timestamp(bytes));
        self.sequence = self.sequence.or_else(|| stamps.sequence(bytes));
        self.correlation = self.correlation.or_else(|| stamps.correlation(bytes));
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).map(|bytes| u64_at(bytes, 0))
}

/// What undoes `stage`, if kekbit brings it and was built with it.
fn built_in(stage: &StageInfo) -> Option<Undo> {
    #[cfg(feature = "lz4")]
    if crate::lz4::is(stage) {
        return Some(crate::lz4::undo);
    }
    let _ = stage;
    None
}
