//! Samples in order: by place, peer and round. Everything that is shown or judged asks here, so that it comes out the same
//! whatever the order of the lines in the file.
//!
//! A *place* is what samples must have in common to be compared: workload, case and measure. A *system* is what stands
//! before the comma in a peer's name; what comes behind it is its configuration.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::Result;
use crate::sample::Sample;
use crate::stats::{self, Ratio, Spread};

/// What samples must have in common to be compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// As in [`Sample`].
    pub(crate) workload: String,
    /// As in [`Sample`].
    pub(crate) case: String,
    /// As in [`Sample`].
    pub(crate) measure: String,
}

impl Place {
    /// The place of these names.
    pub(crate) fn new(workload: &str, case: &str, measure: &str) -> Self {
        Self { workload: workload.into(), case: case.into(), measure: measure.into() }
    }

    /// What kind of figure this is, by its unit.
    pub(crate) fn kind(&self) -> Kind {
        match self.measure.as_str() {
            measure if measure.ends_with(" ns") => Kind::Latency,
            measure if measure.starts_with("ns/") => Kind::Time,
            measure if measure.ends_with("/s") => Kind::Rate,
            _ => Kind::Count,
        }
    }

    /// Whether more is better here.
    pub(crate) fn more_is_better(&self) -> bool {
        self.kind() == Kind::Rate
    }
}

/// What a figure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Time for each of something: `ns/record`. Less is better.
    Time,
    /// A percentile, or the maximum: `p99.9 ns`, `max ns`. Less is better.
    Latency,
    /// So much a second: `MB/s`. More is better.
    Rate,
    /// How much there was: `records`, `samples`. Neither is better.
    Count,
}

/// What one peer has measured at one place, by round.
pub(crate) type Rounds = BTreeMap<u32, f64>;

/// All samples.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    places: BTreeMap<Place, BTreeMap<String, Rounds>>,
    resamples: usize,
}

impl Figures {
    /// Puts samples in order. A value that nothing can be divided by is refused, and so are two samples for one round.
    pub(crate) fn new(samples: Vec<Sample>) -> Result<Self> {
        let mut places: BTreeMap<Place, BTreeMap<String, Rounds>> = BTreeMap::new();
        for sample in samples {
            let Sample { workload, case, peer, round, measure, value } = sample;
            let here = format!("{workload}, {case}: {measure} of {peer} in round {round}");
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{here} is {value}: a sample must be greater than zero").into());
            }
            let rounds =
                places.entry(Place { workload, case, measure }).or_default().entry(peer).or_default();
            if rounds.insert(round, value).is_some() {
                return Err(format!("{here} is there twice: remove one of the two").into());
            }
        }
        Ok(Self { places, resamples: stats::RESAMPLES })
    }

    /// The same with intervals from so many resamples.
    #[cfg(test)]
    pub(crate) fn resampled(self, resamples: usize) -> Self {
        Self { resamples, ..self }
    }

    /// How often the rounds are drawn anew for one interval.
    pub(crate) fn resamples(&self) -> usize {
        self.resamples
    }

    /// The workloads, by name.
    pub(crate) fn workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.places.keys().map(|place| place.workload.as_str()).collect();
        names.dedup();
        names
    }

    /// The cases of a workload, the smallest first.
    pub(crate) fn cases(&self, workload: &str) -> Vec<&str> {
        let mut cases: Vec<&str> = self.of(workload).map(|place| place.case.as_str()).collect();
        cases.sort_by(|a, b| by_size(a, b));
        cases.dedup();
        cases
    }

    /// The places of a workload's case that can be compared, the low percentiles first: its latencies if there are any, since
    /// then times for each record only say how much was sent; otherwise all that is not a mere count.
    pub(crate) fn places(&self, workload: &str, case: &str) -> Vec<&Place> {
        let of = |is: fn(Kind) -> bool| -> Vec<&Place> {
            self.of(workload).filter(|place| place.case == case && is(place.kind())).collect()
        };
        let mut places = of(|kind| kind == Kind::Latency);
        if places.is_empty() {
            places = of(|kind| kind != Kind::Count);
        }
        places.sort_by(|a, b| by_size(&a.measure, &b.measure));
        places
    }

    /// Every peer, by name.
    pub(crate) fn all_peers(&self) -> Vec<&str> {
        let mut peers: Vec<&str> = self.places.values().flatten().map(|(peer, _)| peer.as_str()).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// The least and the greatest number of rounds that any peer has at any place.
    pub(crate) fn rounds_of_all(&self) -> Option<(usize, usize)> {
        let counts = || self.places.values().flatten().map(|(_, rounds)| rounds.len());
        counts().min().zip(counts().max())
    }

    /// The peers at a place, by name.
    pub(crate) fn peers(&self, place: &Place) -> Vec<&str> {
        self.places.get(place).into_iter().flatten().map(|(peer, _)| peer.as_str()).collect()
    }

    /// The first of these peers that was measured at a place.
    pub(crate) fn first_of(&self, place: &Place, peers: &[&'static str]) -> Option<&'static str> {
        peers.iter().copied().find(|peer| self.rounds(place, peer).is_some())
    }

    /// What a peer has measured at a place.
    pub(crate) fn rounds(&self, place: &Place, peer: &str) -> Option<&Rounds> {
        self.places.get(place)?.get(peer)
    }

    /// Median and quartiles of a peer at a place.
    pub(crate) fn spread(&self, place: &Place, peer: &str) -> Option<Spread> {
        let values: Vec<f64> = self.rounds(place, peer)?.values().copied().collect();
        stats::spread(&values)
    }

    /// The peer of this system with the best median at a place.
    pub(crate) fn best(&self, place: &Place, system: &str) -> Option<&str> {
        let peers = self.peers(place).into_iter().filter(|peer| system_of(peer) == system);
        let medians = peers.filter_map(|peer| Some((peer, self.spread(place, peer)?.median)));
        let (peer, _) = medians.min_by(|a, b| match place.more_is_better() {
            true => b.1.total_cmp(&a.1),
            false => a.1.total_cmp(&b.1),
        })?;
        Some(peer)
    }

    /// How many times as fast `ours` is as `theirs`: their time over ours, or our rate over theirs; from the rounds that both
    /// have.
    pub(crate) fn speed(&self, place: &Place, ours: &str, theirs: &str) -> Option<Ratio> {
        self.speed_between((place, ours), (place, theirs))
    }

    /// The same for two places of one kind, such as two percentiles.
    pub(crate) fn speed_between(
        &self,
        (place, ours): (&Place, &str),
        (their_place, theirs): (&Place, &str),
    ) -> Option<Ratio> {
        let (ours, theirs) = (self.rounds(place, ours)?, self.rounds(their_place, theirs)?);
        let both = ours.iter().filter_map(|(round, ours)| Some((*theirs.get(round)?, *ours)));
        let rounds: Vec<(f64, f64)> = match place.more_is_better() {
            true => both.map(|(theirs, ours)| (ours, theirs)).collect(),
            false => both.collect(),
        };
        stats::ratio(&rounds, self.resamples)
    }

    /// How many times the time of `theirs` `ours` takes.
    pub(crate) fn time(&self, place: &Place, ours: &str, theirs: &str) -> Option<Ratio> {
        self.speed(place, ours, theirs).map(Ratio::inverse)
    }

    fn of(&self, workload: &str) -> impl Iterator<Item = &Place> {
        self.places.keys().filter(move |place| place.workload == workload)
    }
}

/// The system of a peer: its name up to the comma.
pub(crate) fn system_of(peer: &str) -> &str {
    peer.split_once(',').map_or(peer, |(system, _)| system)
}

/// Orders names by the size that they begin with, so that 96 bytes come before 256, and 64 MiB before 1 GiB; names
/// without one follow, as text. `p99` counts as 99, and `max` as the greatest percentile.
pub(crate) fn by_size(a: &str, b: &str) -> Ordering {
    let (first, second) = (size(a).unwrap_or(f64::INFINITY), size(b).unwrap_or(f64::INFINITY));
    first.total_cmp(&second).then_with(|| a.cmp(b))
}

/// The size that a name begins with.
pub(crate) fn size(name: &str) -> Option<f64> {
    let name = name.strip_prefix('p').unwrap_or(name);
    let digits = name.find(|c: char| !(c.is_ascii_digit() || "._,".contains(c))).unwrap_or(name.len());
    let number: f64 = name[..digits].replace(['_', ','], "").parse().ok()?;
    let unit = name[digits..].trim_start();
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let power = units.iter().find(|(name, _)| unit.starts_with(name)).map_or(0, |(_, power)| *power);
    Some(number * f64::from(power).exp2())
}

#[cfg(test)]
mod tests {
    use super::{Figures, Place, by_size, size, system_of};
    use crate::sample::Sample;

    fn samples(peer: &str, measure: &str, values: &[f64]) -> Vec<Sample> {
        let sample = |(round, value): (usize, &f64)| Sample {
            workload: "stream".into(),
            case: "96 bytes".into(),
            peer: peer.into(),
            round: round as u32,
            measure: measure.into(),
            value: *value,
        };
        values.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn faster_is_less_time_or_more_in_a_second() {
        let both = [samples("kekbit", "ns/record", &[10.0, 11.0]), samples("raw", "ns/record", &[5.0, 5.5])];
        let figures = Figures::new(both.concat()).unwrap();
        let place = Place::new("stream", "96 bytes", "ns/record");
        assert_eq!(figures.speed(&place, "kekbit", "raw").unwrap().value, 0.5);
        assert_eq!(figures.time(&place, "kekbit", "raw").unwrap().value, 2.0);
        let both = [samples("kekbit", "MB/s", &[10.0, 11.0]), samples("raw", "MB/s", &[5.0, 5.5])];
        let figures = Figures::new(both.concat()).unwrap();
        let place = Place::new("stream", "96 bytes", "MB/s");
        assert_eq!(figures.speed(&place, "kekbit", "raw").unwrap().value, 2.0);
        assert_eq!(figures.time(&place, "kekbit", "raw").unwrap().value, 0.5);
    }

    #[test]
    fn a_ratio_takes_the_rounds_that_both_have() {
        let mut both =
            [samples("kekbit", "ns/record", &[10.0, 10.0, 99.0]), samples("raw", "ns/record", &[5.0; 2])];
        both[1][0].round = 7;
        let figures = Figures::new(both.concat()).unwrap();
        let ratio = figures.time(&Place::new("stream", "96 bytes", "ns/record"), "kekbit", "raw").unwrap();
        assert_eq!((ratio.value, ratio.rounds), (2.0, 1));
    }

    #[test]
    fn the_best_configuration_has_the_best_median() {
        let of = |measure: &str| {
            Figures::new(
                [
                    samples("Aeron, shared", measure, &[8.0, 9.0, 1.0]),
                    samples("Aeron, dedicated", measure, &[7.0, 7.0, 50.0]),
                    samples("Aeronaut", measure, &[1.0, 1.0, 1.0]),
                ]
                .concat(),
            )
            .unwrap()
        };
        let best = |measure: &str, system: &str| {
            of(measure).best(&Place::new("stream", "96 bytes", measure), system).map(str::to_owned)
        };
        assert_eq!(best("ns/record", "Aeron").as_deref(), Some("Aeron, dedicated"));
        assert_eq!(best("MB/s", "Aeron").as_deref(), Some("Aeron, shared"));
        assert_eq!(best("MB/s", "iceoryx2"), None);
    }

    #[test]
    fn what_cannot_be_divided_by_or_is_there_twice_is_refused() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Figures::new(samples("raw", "ns/record", &[value])).unwrap_err().to_string();
            assert!(error.starts_with("stream, 96 bytes: ns/record of raw in round 0 is"), "{error}");
        }
        let twice = [samples("raw", "ns/record", &[1.0]), samples("raw", "ns/record", &[1.0])].concat();
        assert!(Figures::new(twice).unwrap_err().to_string().contains("is there twice"));
    }

    #[test]
    fn names_are_ordered_by_their_size() {
        let mut names = [
            "1 GiB",
            "256 bytes",
            "max ns",
            "p99.9 ns",
            "64 MiB",
            "p50 ns",
            "96 bytes",
            "default",
            "1_000/s",
        ];
        names.sort_by(|a, b| by_size(a, b));
        let ordered = [
            "p50 ns",
            "96 bytes",
            "p99.9 ns",
            "256 bytes",
            "1_000/s",
            "64 MiB",
            "1 GiB",
            "default",
            "max ns",
        ];
        assert_eq!(names, ordered);
        assert_eq!((size("64 KiB"), size("prepared")), (Some(65536.0), None));
    }

    #[test]
    fn a_system_ends_at_the_comma() {
        assert_eq!((system_of("Aeron, shared, 64K"), system_of("raw")), ("Aeron", "raw"));
    }
}
