//! What came out: of one round, and of all rounds together.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bench::part::{Report, Role};
use crate::bench::plan::{FILES, Plan};
use crate::bench::timing::histogram;
use crate::exit::{Exit, Failure};

/// The percentiles that are shown, and the names of their fields.
pub(crate) const PERCENTILES: [(f64, &str); 6] =
    [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9"), (99.99, "p99.99"), (99.999, "p99.999")];

/// What memory a figure rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Label {
    /// All pages were made ready before the clock was started: what a burst into prepared memory costs.
    Burst,
    /// New pages, and making them ready is part of the time.
    Fresh,
    /// Files that were used before, and making them new again is part of the time.
    Sustained,
    /// What was written before is read.
    Scan,
}

impl Label {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Label::Burst => "burst",
            Label::Fresh => "fresh",
            Label::Sustained => "sustained",
            Label::Scan => "scan",
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Label::Burst => "burst: the writer's pages were all made ready before the time began",
            Label::Fresh => "fresh: new pages, whose making is part of the time",
            Label::Sustained => "sustained: files are reused, whose making is part of the time",
            Label::Scan => {
                "scan: in memory; a first pass opens the file and maps its pages, the others find them mapped"
            }
        }
    }
}

/// One round of one case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) records: u64,
    pub(crate) nanos: u64,
    pub(crate) first_pass: Option<(u64, u64)>,
    pub(crate) latencies: Histogram<u64>,
    pub(crate) files: u64,
    pub(crate) label: Label,
    pub(crate) cut_short: bool,
}

impl Outcome {
    pub(crate) fn new(plan: &Plan, roles: &[Role], reports: &[Report]) -> Result<Outcome, Failure> {
        let [first, others @ ..] = reports else { return Err(Failure::new(Exit::Io, "nobody has reported")) };
        let mut latencies = histogram();
        for (nanos, count) in reports.iter().flat_map(|report| &report.latencies) {
            latencies.saturating_record_n(*nanos, *count);
        }
        let readers =
            || roles[1..].iter().zip(others).filter(|(role, _)| **role != Role::Pong).map(|of| of.1);
        for reader in others {
            if reader.end != first.end {
                let wrong = format_args!("{} of {} records have been read", reader.end, first.end);
                return Err(Failure::new(Exit::Damage, wrong));
            }
        }
        for reader in readers() {
            between(&first.stamps, &reader.stamps, first.first)
                .for_each(|nanos| latencies.saturating_record(nanos));
        }
        let ended = readers().map(|reader| reader.ended).fold(first.ended, u64::max);
        let scan = roles[0] == Role::Scan;
        let prepared = plan.prepare == "all" && plan.files == Some(1);
        let label = match (scan, prepared, first.files > FILES) {
            (true, ..) => Label::Scan,
            (_, true, _) => Label::Burst,
            (_, _, true) => Label::Sustained,
            _ => Label::Fresh,
        };
        Ok(Outcome {
            records: first.end - first.first,
            nanos: ended.saturating_sub(first.began).max(1),
            first_pass: scan.then_some(first.first_scan),
            latencies,
            files: first.files,
            label,
            cut_short: first.cut_short,
        })
    }

    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 * 1e9 / self.nanos as f64
    }

    pub(crate) fn percentile(&self, percentile: f64) -> Option<f64> {
        at(&self.latencies, percentile)
    }
}

/// What a percentile is, if there are enough samples to speak of it.
pub(crate) fn at(latencies: &Histogram<u64>, percentile: f64) -> Option<f64> {
    let needed = 1.0 / (1.0 - percentile / 100.0);
    (latencies.len() as f64 >= needed - 1e-6).then(|| latencies.value_at_percentile(percentile) as f64)
}

/// How long after it was sent each record was received, of those that both sides have taken the time of.
fn between<'a>(
    sent: &'a [(u64, u64)],
    received: &'a [(u64, u64)],
    first: u64,
) -> impl Iterator<Item = u64> + 'a {
    let mut received = received.iter().peekable();
    sent.iter().filter(move |(sequence, _)| *sequence >= first).filter_map(move |(sequence, sent)| {
        while received.next_if(|(other, _)| other < sequence).is_some() {}
        received.next_if(|(other, _)| other == sequence).map(|(_, time)| time.saturating_sub(*sent))
    })
}

/// The rounds of one number.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, min, max })
    }
}

/// All rounds of one case.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) size: usize,
    pub(crate) label: Label,
    pub(crate) rounds: usize,
    pub(crate) rate: Spread,
    pub(crate) first_pass: Option<Spread>,
    /// As [`PERCENTILES`]; a percentile that not each round has the samples for is none.
    pub(crate) percentiles: Vec<Option<Spread>>,
    /// The longest of each round.
    pub(crate) longest: Option<Spread>,
    /// Of all rounds.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) cut_short: bool,
}

impl Summary {
    pub(crate) fn new(name: &str, size: usize, rounds: &[Outcome]) -> Option<Summary> {
        let mut latencies = histogram();
        for round in rounds {
            latencies.add(&round.latencies).expect("histograms of one kind");
        }
        let percentiles = PERCENTILES.iter().map(|(percentile, _)| {
            let rounds: Option<Vec<f64>> = rounds.iter().map(|round| round.percentile(*percentile)).collect();
            Spread::of(rounds?.into_iter())
        });
        let longest = rounds.iter().filter(|round| !round.latencies.is_empty());
        let longest = Spread::of(longest.map(|round| round.latencies.max() as f64));
        let first_pass = rounds.iter().filter_map(|round| round.first_pass);
        Some(Summary {
            name: name.to_owned(),
            size,
            // The longest round is as sustained as the case can claim to be.
            label: rounds.iter().min_by_key(|round| round.files)?.label,
            rounds: rounds.len(),
            rate: Spread::of(rounds.iter().map(Outcome::rate))?,
            first_pass: Spread::of(first_pass.map(|(records, nanos)| records as f64 * 1e9 / nanos as f64)),
            percentiles: percentiles.collect(),
            longest,
            latencies,
            cut_short: rounds.iter().any(|round| round.cut_short),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_a_median() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn stamps_of_both_sides_are_joined() {
        let sent = [(0, 100), (3, 200), (6, 300), (9, 400)];
        let received = [(0, 150), (6, 380), (9, 390), (12, 500)];
        // The second was not received in time to be kept, and no record arrives before it is sent.
        assert_eq!(between(&sent, &received, 0).collect::<Vec<_>>(), [50, 80, 0]);
        assert_eq!(between(&sent, &received, 6).collect::<Vec<_>>(), [80, 0]);
    }

    #[test]
    fn few_samples_have_no_high_percentile() {
        let mut latencies = histogram();
        latencies.record_n(100, 99).unwrap();
        assert!(at(&latencies, 90.0).is_some() && at(&latencies, 99.0).is_none());
        latencies.record(5000).unwrap();
        assert_eq!(at(&latencies, 99.0), Some(100.0));
    }
}
