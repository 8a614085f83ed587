//! Walking back over frames, which do not tell where the one before begins.
//!
//! ```text
//!  index:      entry                            entry
//!               v                                v
//!  data:   ... | r | r | r | r | r | r | r | r | r | r | r | ...
//!                        spots: 4   5   6   7      ^ here, before record 9
//!                              \_ taken back one after the other
//! ```
//!
//! From the last entry of the index before this place one walks forward up to it, once, and notes where the records begin. Then they
//! are taken from the last to the first, and so on from the entry before. So each record is looked at twice, and once more where there
//! are more than are noted: amortized a constant time for each. Entries that are damaged or missing make the way longer, not the answer
//! another one.
//!
//! Invariants:
//! - What is noted is true for as long as the channel is there, since what was published never changes; of a file of a stranger it is
//!   only where to look, and what is found there is checked anew.
//! - Memory is bounded, whatever the way: of more than [`NOTED`] records on it every second is noted, every fourth, and so on. The way
//!   between two of them is walked again when it comes to that, with a list of its own, and is at least `NOTED / 2` times as short: so
//!   four lists are enough for the largest channel, less than 1 MiB.
//! - A step that fails leaves the cursor where it was.

use crate::cursor::{Cursor, Spot, Step};
use crate::error::ReadError;
use crate::opened::Source;
use crate::publish::Place;

/// Records that are noted on one way: all those of 96 bytes in a block of the index of 1 MiB, in 240 KiB.
const NOTED: usize = 10 << 10;

/// Where records begin that lie before a place.
#[derive(Debug)]
pub(crate) struct Back {
    /// Records that are noted on one way.
    noted: usize,
    /// Ascending. Between two of them, and between the last and `known_to`, there are as many records as their sequences say.
    spots: Vec<Spot>,
    /// Sequence behind the last record of which something is known.
    known_to: u64,
}

impl Default for Back {
    fn default() -> Back {
        Back { noted: NOTED, spots: Vec::new(), known_to: 0 }
    }
}

impl Back {
    /// Takes the record before `cursor`'s place, and moves there: before it. `false`, and nothing, if there is none.
    ///
    /// # Errors
    ///
    /// As a walk from the last entry of the index before that record.
    pub(crate) fn step<P: Place>(
        &mut self,
        source: &impl Source<P>,
        cursor: &mut Cursor<P>,
    ) -> Result<bool, ReadError> {
        let here = cursor.here();
        if here.sequence <= source.opened().header.first_sequence {
            return Ok(false);
        }
        // The caller's limit is for what comes next.
        cursor.set_limit(u64::MAX);
        let found = self.take(source, cursor, here.sequence - 1);
        cursor.set_limit(0);
        if found.is_err() {
            self.spots.clear();
            // What went wrong first is what is told.
            let _ = cursor.return_to(&here, source);
        }
        found.map(|()| true)
    }

    /// Takes the record `wanted`.
    fn take<P: Place>(
        &mut self,
        source: &impl Source<P>,
        cursor: &mut Cursor<P>,
        wanted: u64,
    ) -> Result<(), ReadError> {
        while self.spots.pop_if(|spot| spot.sequence > wanted).is_some() {}
        if wanted >= self.known_to || self.spots.is_empty() {
            self.spots.clear();
            self.walk_from_entry(source, cursor, wanted)?;
        }
        loop {
            let Some(spot) = self.spots.last().copied() else { return Err(missing(cursor)) };
            if spot.sequence == wanted {
                let taken = cursor.take_at(&spot, source)? == Step::Record;
                return if taken { Ok(()) } else { Err(missing(cursor)) };
            }
            cursor.return_to(&spot, source)?;
            self.walk(source, cursor, wanted)?;
        }
    }

    /// Walks to the record `wanted` from the last entry before it.
    fn walk_from_entry<P: Place>(
        &mut self,
        source: &impl Source<P>,
        cursor: &mut Cursor<P>,
        wanted: u64,
    ) -> Result<(), ReadError> {
        let entry = source.last_entry(|entry| entry.sequence <= wanted)?;
        if !cursor.move_to(entry.position, entry.sequence, source)? {
            // A file that was cut short before it: as far as it reaches.
            cursor.move_to(0, source.opened().header.first_sequence, source)?;
        }
        self.walk(source, cursor, wanted)?;
        self.known_to = wanted + 1;
        Ok(())
    }

    /// Walks from where `cursor` is over all records up to `wanted`, and notes where they begin.
    fn walk<P: Place>(
        &mut self,
        source: &impl Source<P>,
        cursor: &mut Cursor<P>,
        wanted: u64,
    ) -> Result<(), ReadError> {
        let (before, first, mut stride) = (self.spots.len(), cursor.sequence(), 1);
        while cursor.sequence() <= wanted {
            if cursor.step(source)? != Step::Record {
                return Err(missing(cursor));
            }
            let spot = cursor.taken();
            // The one from which it began is noted already.
            let is_new = self.spots.last().is_none_or(|last| last.sequence < spot.sequence);
            if is_new && (spot.sequence - first).is_multiple_of(stride) {
                self.spots.push(spot);
            }
            if self.spots.len() - before > self.noted {
                stride *= 2;
                let mut at = 0;
                self.spots.retain(|spot| {
                    at += 1;
                    at <= before || (spot.sequence - first).is_multiple_of(stride)
                });
            }
        }
        Ok(())
    }
}

/// The way that leads here does not any more: somebody else has changed the file.
fn missing<P: Place>(cursor: &Cursor<P>) -> ReadError {
    cursor.corrupt("the records that lead here have gone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, Writer};

    /// With a list of a few records, so that a short channel needs as many lists as the largest one otherwise.
    #[test]
    fn few_places_are_noted_and_each_record_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("back.kek");
        let mut writer = Writer::options().capacity(1 << 20).first_sequence(7).create(&path).unwrap();
        let mut count = 0;
        while writer.tail().offset() < 60_000 {
            let mut batch = writer.batch();
            for _ in 0..count % 5 {
                batch.push(b"inner").unwrap();
            }
            count += batch.len() as u64 + 1;
            batch.commit().unwrap();
            writer.append(b"alone").unwrap();
        }
        let channel = Channel::open(&path).unwrap();
        let forwards: Vec<_> = channel.records().map(|record| record.unwrap().position()).collect();
        assert_eq!(forwards.len() as u64, count);
        for noted in [2, 3, 4, 7, 50, NOTED] {
            let mut back = Back { noted, ..Back::default() };
            let mut cursor = channel.cursor();
            while cursor.step(&channel).unwrap() == Step::Record {}
            let mut most = 0;
            for (n, position) in forwards.iter().enumerate().rev() {
                assert!(back.step(&channel, &mut cursor).unwrap());
                assert_eq!((cursor.sequence(), cursor.record_position()), (7 + n as u64, position.offset()));
                most = most.max(back.spots.len());
            }
            assert!(!back.step(&channel, &mut cursor).unwrap());
            // A list is at least so many times as short as the one before.
            let ratio = (noted / 2).max(2) as u64;
            let lists = 1 + (count as f64).log(ratio as f64).ceil() as usize;
            assert!(most <= lists * (noted + 1), "{most} of {count} with lists of {noted}");
        }
    }
}
