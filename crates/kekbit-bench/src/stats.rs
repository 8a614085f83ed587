//! What is computed from samples: medians, quartiles, and the ratio of two medians with its interval.
//!
//! Samples of one round belong together: the machine's mood lasts longer than a round, and every peer had its turn in it. So
//! a ratio takes them in pairs, and its interval resamples rounds, never samples of one side alone.
//!
//! The interval is the percentile interval of the bootstrap (B. Efron and R. J. Tibshirani, *An Introduction to the Bootstrap*,
//! 1993, chapter 13): as many rounds as there are, drawn with replacement, give one ratio of medians; of [`RESAMPLES`]
//! such ratios it is the range without the lowest and the highest 2.5 %. It assumes nothing about the distribution, which
//! on a shared machine has a long tail.

/// How often the rounds are drawn anew for one interval.
pub(crate) const RESAMPLES: usize = 20_000;

/// Where the random numbers of each interval begin. It is the same for all, so that an interval does not depend on what else
/// is computed.
const SEED: u64 = 0x6B65_6B62_6974;

/// The middle of some values, and the two between which the middle half of them lies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    /// A quarter of the values is below.
    pub(crate) low: f64,
    /// Half of the values is below.
    pub(crate) median: f64,
    /// Three quarters of the values are below.
    pub(crate) high: f64,
}

/// A ratio, and the range in which 95 of 100 such campaigns would have the true one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Ratio {
    /// Lower end of the interval.
    pub(crate) low: f64,
    /// The ratio of the medians.
    pub(crate) value: f64,
    /// Upper end of the interval.
    pub(crate) high: f64,
    /// Rounds that it rests on.
    pub(crate) rounds: usize,
}

impl Ratio {
    /// The same seen from the other side.
    pub(crate) fn inverse(self) -> Self {
        Self { low: 1.0 / self.high, value: 1.0 / self.value, high: 1.0 / self.low, rounds: self.rounds }
    }
}

/// Median and quartiles; `None` without values.
pub(crate) fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share| quantile(&sorted, share);
    (!sorted.is_empty()).then(|| Spread { low: at(0.25), median: at(0.5), high: at(0.75) })
}

/// The median of what comes first in each round over the median of what comes second, both positive, with an interval from
/// so many resamples; `None` without rounds.
///
/// The interval of a single round is the ratio itself: whoever judges looks at `rounds`.
pub(crate) fn ratio(rounds: &[(f64, f64)], resamples: usize) -> Option<Ratio> {
    if rounds.is_empty() {
        return None;
    }
    let firsts = Ordered::new(rounds.iter().map(|round| round.0));
    let seconds = Ordered::new(rounds.iter().map(|round| round.1));
    let of = |times: &[u32]| firsts.median(times) / seconds.median(times);
    let mut times = vec![1; rounds.len()];
    let value = of(&times);
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut draw = || {
        times.fill(0);
        for _ in rounds {
            times[random.usize(..rounds.len())] += 1;
        }
        of(&times)
    };
    let mut ratios: Vec<f64> = (0..resamples.max(1)).map(|_| draw()).collect();
    ratios.sort_by(f64::total_cmp);
    let (low, high) = (quantile(&ratios, 0.025), quantile(&ratios, 0.975));
    Some(Ratio { low, value, high, rounds: rounds.len() })
}

/// One side of all rounds, sorted once for all resamples.
struct Ordered {
    /// Values in ascending order, each with its round.
    values: Vec<(f64, usize)>,
}

impl Ordered {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<(f64, usize)> = values.zip(0..).collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { values }
    }

    /// The median of a resample in which each round occurs so many times, as many in total as there are rounds.
    fn median(&self, times: &[u32]) -> f64 {
        let count = self.values.len() as u32;
        let (middle, next) = ((count - 1) / 2, count / 2);
        let mut passed = 0;
        let mut lower = None;
        for &(value, round) in &self.values {
            passed += times[round];
            if passed > middle && lower.is_none() {
                lower = Some(value);
            }
            if let Some(lower) = lower
                && passed > next
            {
                return f64::midpoint(lower, value);
            }
        }
        unreachable!("a resample has as many rounds as there are")
    }
}

/// The value below which a share of the sorted ones lies, between two neighbours where it falls between them (type 7 of R.
/// J. Hyndman and Y. Fan, *Sample Quantiles in Statistical Packages*, 1996, what R and NumPy do by default).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Ordered, RESAMPLES, Ratio, ratio, spread};

    /// Positive figures with a long tail, as times are: half of them are below `median`.
    fn time(random: &mut fastrand::Rng, median: f64) -> f64 {
        // The sum of twelve uniform numbers is near enough to a normal one, and symmetrical around its median.
        let normal: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        median * (0.4 * normal).exp()
    }

    #[test]
    fn median_and_quartiles_of_known_values() {
        assert_eq!(spread(&[]), None);
        let one = spread(&[7.0]).unwrap();
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
        // As R's quantile() has them.
        let four = spread(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((four.low, four.median, four.high), (1.75, 2.5, 3.25));
        let five = spread(&[50.0, 10.0, 40.0, 20.0, 30.0]).unwrap();
        assert_eq!((five.low, five.median, five.high), (20.0, 30.0, 40.0));
    }

    #[test]
    fn an_interval_is_the_one_that_others_compute() {
        // The example of ci.ratio.median.ps of the R package statpsych; the interval is that of 100,000 resamples that were
        // drawn and sorted by Python's random and statistics.
        let first = [21., 4., 9., 12., 35., 18., 10., 22., 24., 1., 6., 8., 13., 16., 19.];
        let second = [67., 28., 30., 28., 52., 40., 25., 37., 44., 10., 14., 20., 28., 40., 51.];
        let rounds: Vec<_> = first.into_iter().zip(second).collect();
        let found = ratio(&rounds, RESAMPLES).unwrap();
        assert_eq!(found, Ratio { low: 0.3, value: 13.0 / 30.0, high: 19.0 / 37.0, rounds: 15 });
    }

    #[test]
    fn the_interval_of_two_rounds_can_be_told_by_hand() {
        // Drawn are (1, 1) twice, (3, 1) twice, or one of each: ratios 1, 3 and 2, a quarter, a quarter, a half.
        let found = ratio(&[(1.0, 1.0), (3.0, 1.0)], RESAMPLES).unwrap();
        assert_eq!(found, Ratio { low: 1.0, value: 2.0, high: 3.0, rounds: 2 });
    }

    #[test]
    fn no_rounds_no_ratio_and_one_round_no_range() {
        assert_eq!(ratio(&[], RESAMPLES), None);
        assert_eq!(
            ratio(&[(6.0, 3.0)], RESAMPLES),
            Some(Ratio { low: 2.0, value: 2.0, high: 2.0, rounds: 1 })
        );
    }

    #[test]
    fn the_true_ratio_is_in_about_95_of_100_intervals() {
        let mut random = fastrand::Rng::with_seed(4);
        let campaigns = 1000;
        let inside = (0..campaigns)
            .filter(|_| {
                // Each round has a mood, which both share.
                let rounds: Vec<_> = (0..15)
                    .map(|_| {
                        let mood = time(&mut random, 1.0);
                        (time(&mut random, 3.0) * mood, time(&mut random, 2.0) * mood)
                    })
                    .collect();
                let found = ratio(&rounds, 1000).unwrap();
                (found.low..=found.high).contains(&1.5)
            })
            .count();
        // The percentile interval of medians of 15 is known to be a little too wide; never too narrow here.
        assert!((930..=985).contains(&inside), "{inside} of {campaigns}");
    }

    #[test]
    fn pairs_tell_more_than_either_side_where_the_mood_of_the_machine_drifts() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut moods: Vec<f64> = (0..15).map(|_| time(&mut random, 1.0) * 10.0).collect();
        let paired: Vec<_> = moods.iter().map(|mood| (mood * 2.0, *mood)).collect();
        let found = ratio(&paired, RESAMPLES).unwrap();
        assert!((found.low - 2.0).abs() < 1e-9 && (found.high - 2.0).abs() < 1e-9, "{found:?}");
        // The same figures, torn apart.
        moods.rotate_left(7);
        let torn: Vec<_> = paired.iter().zip(moods).map(|(pair, mood)| (pair.0, mood)).collect();
        let torn = ratio(&torn, RESAMPLES).unwrap();
        assert!(torn.high - torn.low > 0.1, "{torn:?}");
    }

    fn rounds() -> impl Strategy<Value = Vec<(f64, f64)>> {
        prop::collection::vec((0.1..1e6, 0.1..1e6), 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_median_of_a_resample_is_what_sorting_it_gives(
            values in prop::collection::vec(0.1..1e6, 1..40),
            seed in any::<u64>(),
        ) {
            let (mut times, mut drawn) = (vec![0; values.len()], Vec::new());
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..values.len() {
                let round = random.usize(..values.len());
                times[round] += 1;
                drawn.push(values[round]);
            }
            let (found, expected) = (Ordered::new(values.into_iter()).median(&times), spread(&drawn).unwrap().median);
            prop_assert!((found - expected).abs() <= expected * 1e-12, "{} {}", found, expected);
        }

        #[test]
        fn an_interval_is_ordered_and_lies_between_the_extremes(rounds in rounds()) {
            let found = ratio(&rounds, 500).unwrap();
            let ends = |values: Vec<f64>| {
                values.into_iter().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
            };
            let (first, second) = (ends(rounds.iter().map(|r| r.0).collect()), ends(rounds.iter().map(|r| r.1).collect()));
            prop_assert!(found.low <= found.high);
            prop_assert!(found.low >= first.0 / second.1 * 0.999_999 && found.high <= first.1 / second.0 * 1.000_001);
            prop_assert_eq!(found.rounds, rounds.len());
        }

        #[test]
        fn the_ratio_scales_with_its_sides(rounds in rounds(), factor in 0.01..100.0_f64) {
            let scaled: Vec<_> = rounds.iter().map(|&(first, second)| (first * factor, second)).collect();
            let (plain, scaled) = (ratio(&rounds, 500).unwrap(), ratio(&scaled, 500).unwrap());
            for (plain, scaled) in [(plain.low, scaled.low), (plain.value, scaled.value), (plain.high, scaled.high)] {
                prop_assert!((plain * factor / scaled - 1.0).abs() < 1e-9);
            }
        }

        #[test]
        fn turned_around_it_is_the_inverse(rounds in rounds()) {
            let swapped: Vec<_> = rounds.iter().map(|&(first, second)| (second, first)).collect();
            // With 401 resamples the ends fall on ratios, not between two of them.
            let (inverse, swapped) = (ratio(&rounds, 401).unwrap().inverse(), ratio(&swapped, 401).unwrap());
            for (inverse, swapped) in
                [(inverse.low, swapped.low), (inverse.value, swapped.value), (inverse.high, swapped.high)]
            {
                prop_assert!((inverse / swapped - 1.0).abs() < 1e-6, "{} {}", inverse, swapped);
            }
        }
    }
}
