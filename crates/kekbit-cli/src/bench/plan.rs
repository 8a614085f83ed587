//! What one round does, as it is told to the processes that do it.

use kekbit::{Checksum, Durability, Wait, Writer, WriterOptions};
use serde::{Deserialize, Serialize};

use crate::values::{self, Sync};

/// Files of a ring: one that is written, one that is read or made ready, one that whoever is late may still read. The
/// next is made of the oldest.
pub(crate) const FILES: u64 = 3;

/// How much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Amount {
    Records(u64),
    Nanos(u64),
}

impl Amount {
    /// How many records these are, if that is known beforehand.
    pub(crate) fn records(self, rate: Option<u64>) -> Option<u64> {
        match (self, rate) {
            (Amount::Records(records), _) => Some(records),
            (Amount::Nanos(nanos), Some(rate)) => {
                Some((u128::from(nanos) * u128::from(rate) / 1_000_000_000) as u64)
            }
            (Amount::Nanos(_), None) => None,
        }
    }
}

/// How a process waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitFor {
    /// Poll without a pause: the shortest latency, a core for each process
    Spin,
    /// Let others run between polls
    Yield,
    /// Poll, yield, then sleep up to a millisecond
    Backoff,
}

impl WaitFor {
    pub(crate) fn wait(self) -> Wait<'static> {
        match self {
            WaitFor::Spin => Wait::spin(),
            WaitFor::Yield => Wait::yielding(),
            WaitFor::Backoff => Wait::backoff(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            WaitFor::Spin => "spin",
            WaitFor::Yield => "yield",
            WaitFor::Backoff => "backoff",
        }
    }
}

/// One round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Bytes of a record.
    pub(crate) size: usize,
    /// Bytes of a channel.
    pub(crate) capacity: u64,
    /// How many channels there are, one after the other, if that is known beforehand.
    pub(crate) files: Option<u64>,
    pub(crate) checksum: bool,
    /// As on the command line.
    pub(crate) prepare: String,
    /// As on the command line; not at all without it.
    pub(crate) sync: Option<String>,
    pub(crate) wait: WaitFor,
    pub(crate) warmup: Amount,
    pub(crate) amount: Amount,
    /// Records a second in an open loop; without it the loop is closed.
    pub(crate) rate: Option<u64>,
    /// One record of how many is timed.
    pub(crate) stride: u64,
    /// Whether the writer takes the time of its appends, or the reader that of the records' arrival.
    pub(crate) times_appends: bool,
    /// Records that are written for a scan, and whether their checksums are computed.
    pub(crate) scanned: u64,
    pub(crate) verify: bool,
}

impl Plan {
    /// Bytes that a record takes in a channel.
    pub(crate) fn frame(size: usize) -> u64 {
        8 + (size as u64).next_multiple_of(8)
    }

    /// Records that fit a channel. The last word belongs to the frame that ends it.
    pub(crate) fn per_file(&self) -> u64 {
        (self.capacity.next_multiple_of(4096) - 8) / Plan::frame(self.size)
    }

    /// Records in the warm-up and in what is measured, if that is known beforehand.
    pub(crate) fn records(&self) -> Option<(u64, u64)> {
        self.warmup.records(self.rate).zip(self.amount.records(self.rate))
    }

    pub(crate) fn syncs_each(&self) -> bool {
        self.sync.as_deref() == Some("each")
    }

    /// Options of a channel whose first record has this sequence.
    pub(crate) fn options(&self, first_sequence: u64) -> Result<WriterOptions, String> {
        let durability = match self.sync.as_deref().map(str::parse).transpose()? {
            None | Some(Sync::None) => Durability::Never,
            Some(Sync::Each) => Durability::Each,
            Some(Sync::Every(interval)) => Durability::Interval(interval),
        };
        Ok(Writer::options()
            .capacity(self.capacity)
            .max_record_len(self.size.max(8) as u64)
            .first_sequence(first_sequence)
            .checksum(if self.checksum { Checksum::Crc32c } else { Checksum::None })
            .prepare(values::prepare(&self.prepare)?)
            .durability(durability))
    }
}

#[cfg(test)]
pub(crate) fn small(size: usize, records: u64, capacity: u64) -> Plan {
    let mut plan = Plan {
        size,
        capacity,
        files: None,
        checksum: true,
        prepare: "demand".into(),
        sync: None,
        wait: WaitFor::Yield,
        warmup: Amount::Records(0),
        amount: Amount::Records(records),
        rate: None,
        stride: 1,
        times_appends: false,
        scanned: 0,
        verify: true,
    };
    plan.files = Some(records.div_ceil(plan.per_file()));
    plan
}

#[cfg(test)]
mod tests {
    use kekbit::AppendError;

    use super::*;

    #[test]
    fn as_many_records_fit_as_is_said() {
        for (size, capacity) in [(0, 4096), (1, 4096), (7, 5000), (8, 8192), (96, 4096), (1000, 70_000)] {
            let (dir, plan) = (tempfile::tempdir().unwrap(), small(size, 1, capacity));
            let mut writer = plan.options(5).unwrap().create(dir.path().join("x")).unwrap();
            let payload = vec![1; size];
            for _ in 0..plan.per_file() {
                writer.append(&payload).unwrap();
            }
            assert_eq!(writer.next_sequence(), 5 + plan.per_file());
            assert!(matches!(writer.append(&payload), Err(AppendError::Full { .. })), "{size}, {capacity}");
        }
    }

    #[test]
    fn with_a_rate_time_is_a_number_of_records() {
        assert_eq!(Amount::Nanos(500_000_000).records(Some(1000)), Some(500));
        assert_eq!(Amount::Nanos(500_000_000).records(None), None);
        assert_eq!(Amount::Records(7).records(None), Some(7));
    }
}
