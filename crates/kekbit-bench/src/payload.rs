//! What is in the records, and the check that it has arrived.
//!
//! ```text
//! +-----------------------+------------------------------------+
//! | sequence              | pattern ...                        |   AT = 0
//! +-----------------------+-----------------------+------------+
//! | intended time of send | sequence              | pattern ...|   AT = 8: open loop
//! +-----------------------+-----------------------+------------+
//! ```
//!
//! Numbers are 8 bytes, little endian. The byte at offset `i` of the pattern, counted from the beginning of the record, is
//! `(i * 131 + 89) mod 256`. Sequences begin with 0. A record with the sequence 2⁶⁴ - 1 says that no more will come, where
//! the receiver does not know the number beforehand; it does not count.

use crate::Result;

/// The sequence of the record that says that no more will come.
pub(crate) const LAST: u64 = u64::MAX;

/// Records that are ready at once. A number is written into a record some records before it is sent: a copy with wide loads
/// would otherwise wait for the narrow store to leave the store buffer, which is no cost of the system under test.
const SLOTS: u64 = 8;
const LEAD: u64 = 4;

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 131 + 89) as u8).collect()
}

/// Bytes that a record must have at least.
pub(crate) fn least_size(at: usize) -> usize {
    at + 8
}

/// The sender's records, with the sequence at `AT`.
pub(crate) struct Outgoing<const AT: usize> {
    slots: Vec<u8>,
    size: usize,
    sequence: u64,
}

impl<const AT: usize> Outgoing<AT> {
    pub(crate) fn new(size: usize) -> Result<Outgoing<AT>> {
        if size < least_size(AT) {
            return Err(format!(
                "records of {size} bytes are too short: they need {} at least",
                least_size(AT)
            )
            .into());
        }
        let mut outgoing = Outgoing { slots: pattern(size).repeat(SLOTS as usize), size, sequence: 0 };
        (0..LEAD).for_each(|sequence| outgoing.stamp(sequence));
        Ok(outgoing)
    }

    #[inline]
    fn slot(&mut self, sequence: u64) -> &mut [u8] {
        let start = (sequence % SLOTS) as usize * self.size;
        &mut self.slots[start..start + self.size]
    }

    #[inline]
    fn stamp(&mut self, sequence: u64) {
        self.slot(sequence)[AT..AT + 8].copy_from_slice(&sequence.to_le_bytes());
    }

    /// The next record, to be sent as it is; in the open loop with the time written into its first 8 bytes.
    #[inline]
    pub(crate) fn next(&mut self) -> &mut [u8] {
        let sequence = self.sequence;
        self.sequence += 1;
        self.stamp(sequence + LEAD);
        self.slot(sequence)
    }

    /// The record that says that no more will come.
    pub(crate) fn last(&mut self) -> &mut [u8] {
        self.stamp(LAST);
        self.slot(LAST)
    }
}

/// What the receiver expects, with the sequence at `AT`.
pub(crate) struct Incoming<const AT: usize> {
    pattern: Vec<u8>,
    received: u64,
    ended: bool,
    wrong: Option<String>,
}

impl<const AT: usize> Incoming<AT> {
    pub(crate) fn new(size: usize) -> Incoming<AT> {
        Incoming { pattern: pattern(size), received: 0, ended: false, wrong: None }
    }

    /// Looks at each byte of a record; what is wrong is kept for [`Incoming::verdict`].
    #[inline]
    pub(crate) fn check(&mut self, record: &[u8]) {
        let whole = record.len() == self.pattern.len();
        if whole && number(record, AT) == self.received && record[AT + 8..] == self.pattern[AT + 8..] {
            self.received += 1;
        } else {
            self.look_closely(record);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_closely(&mut self, record: &[u8]) {
        let wrong = if record.len() != self.pattern.len() {
            format!("a record of {} bytes instead of {}", record.len(), self.pattern.len())
        } else if let Some(at) = (AT + 8..record.len()).find(|&at| record[at] != self.pattern[at]) {
            format!("byte {at} is {:#04x} instead of {:#04x}", record[at], self.pattern[at])
        } else if self.ended {
            "a record behind the last one".to_owned()
        } else if number(record, AT) == LAST {
            self.ended = true;
            return;
        } else {
            format!("sequence {} instead of {}", number(record, AT), self.received)
        };
        self.wrong.get_or_insert(format!("after {} good records: {wrong}", self.received));
    }

    /// Records that were as expected.
    #[inline]
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the sender has said that no more will come.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// An error if anything was wrong with any record so far.
    #[inline]
    pub(crate) fn verdict(&self) -> Result<()> {
        match &self.wrong {
            None => Ok(()),
            Some(wrong) => Err(wrong.clone().into()),
        }
    }
}

/// The number at `at` in a record that is long enough.
#[inline]
pub(crate) fn number(record: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&record[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(records: &[Vec<u8>]) -> Incoming<0> {
        let mut incoming = Incoming::new(records[0].len());
        records.iter().for_each(|record| incoming.check(record));
        incoming
    }

    fn sent(count: usize) -> Vec<Vec<u8>> {
        let mut outgoing = Outgoing::<0>::new(40).unwrap();
        (0..count).map(|_| outgoing.next().to_vec()).collect()
    }

    #[test]
    fn what_was_sent_passes() {
        let mut outgoing = Outgoing::<8>::new(24).unwrap();
        let mut incoming = Incoming::<8>::new(24);
        for time in 0..100_u64 {
            let record = outgoing.next();
            record[..8].copy_from_slice(&time.to_le_bytes());
            incoming.check(record);
        }
        assert_eq!((incoming.received(), incoming.has_ended()), (100, false));
        incoming.check(outgoing.last());
        assert_eq!((incoming.received(), incoming.has_ended()), (100, true));
        incoming.verdict().unwrap();
    }

    #[test]
    fn every_byte_that_is_changed_is_an_error() {
        for at in 0..40 {
            for bit in 0..8 {
                let mut records = sent(9);
                records[5][at] ^= 1 << bit;
                let verdict = received(&records).verdict().unwrap_err().to_string();
                assert!(verdict.starts_with("after 5 good records: "), "{verdict}");
            }
        }
    }

    #[test]
    fn a_record_that_is_missing_doubled_or_cut_is_an_error() {
        let good = sent(9);
        let (mut missing, mut doubled, mut cut) = (good.clone(), good.clone(), good.clone());
        missing.remove(3);
        doubled.insert(3, good[2].clone());
        cut[3].pop();
        for (records, says) in [(missing, "sequence 4"), (doubled, "sequence 2"), (cut, "39 bytes")] {
            let verdict = received(&records).verdict().unwrap_err().to_string();
            assert!(verdict.contains(says), "{verdict}");
        }
        received(&good).verdict().unwrap();
    }

    #[test]
    fn a_record_behind_the_last_one_is_an_error() {
        let mut outgoing = Outgoing::<0>::new(16).unwrap();
        let mut incoming = Incoming::<0>::new(16);
        incoming.check(outgoing.last());
        incoming.check(outgoing.last());
        assert!(incoming.verdict().is_err());
    }

    #[test]
    fn records_too_short_for_their_numbers_are_refused() {
        assert!(Outgoing::<0>::new(7).is_err());
        assert!(Outgoing::<8>::new(15).is_err());
    }
}
