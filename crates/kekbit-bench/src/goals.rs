//! What kekbit is to reach, as data, and the verdicts of the samples.
//!
//! A goal compares two peers at one place (workload, case, measure) and demands either that ours is so many times *as fast*
//! (their time over ours: more is better) or that ours takes at most so many times *as long* (our time over theirs: less
//! is better). Samples are times, so these are each other's inverse, and each goal is said the way round that it was set.
//!
//! It is met if the end of the interval that is worse for us meets it, from at least [`ROUNDS`] rounds. Where a system has
//! several configurations, ours is compared with the one that has the best median, which is luck on the system's side.

use crate::figures::{Figures, Place};
use crate::stats::Ratio;
use crate::workloads::{rolls, stages};

/// Fewer rounds than these decide nothing.
pub(crate) const ROUNDS: usize = 15;

/// One thing to be reached.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    /// What it is called in `reasons.toml`.
    pub(crate) id: String,
    /// Where it is measured.
    pub(crate) place: Place,
    /// Their measure, if it is another one than ours.
    pub(crate) their_measure: Option<&'static str>,
    /// Our peer, by its name.
    pub(crate) ours: &'static str,
    /// What it is compared with.
    pub(crate) theirs: Theirs,
    /// What is demanded of the two.
    pub(crate) demand: Demand,
}

/// What ours is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Theirs {
    /// The peer of this name.
    Peer(&'static str),
    /// The system's configuration with the best median.
    Best(&'static str),
    /// Each of these systems, in its best configuration.
    Each(&'static [&'static str]),
}

/// What is demanded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Demand {
    /// At least so many times as fast.
    Speed(f64),
    /// Faster, by whatever.
    Faster,
    /// At most so many times as long.
    Time(f64),
    /// Less time, by whatever.
    Below,
}

/// What became of a goal.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Verdict {
    /// The interval meets it.
    Met,
    /// It does not.
    Missed,
    /// There are samples, but not from enough rounds.
    TooFewRounds,
    /// There are none of these.
    NotMeasured(Vec<String>),
}

/// A goal beside what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<'a> {
    /// The goal.
    pub(crate) goal: &'a Goal,
    /// What became of it.
    pub(crate) verdict: Verdict,
    /// The peer that decided, and the ratio to it, the way round that the demand has it.
    pub(crate) measured: Option<(String, Ratio)>,
}

impl Demand {
    /// Whether the end of the interval that is worse for us meets it.
    fn is_met_by(self, ratio: Ratio) -> bool {
        match self {
            Self::Speed(factor) => ratio.low >= factor,
            Self::Faster => ratio.low > 1.0,
            Self::Time(factor) => ratio.high <= factor,
            Self::Below => ratio.high < 1.0,
        }
    }

    /// The same ratio, the way round that the demand has it.
    fn turned(self, speed: Ratio) -> Ratio {
        match self {
            Self::Speed(_) | Self::Faster => speed,
            Self::Time(_) | Self::Below => speed.inverse(),
        }
    }

    /// How far the interval is from meeting it: the greatest is the hardest of several.
    fn distance(self, ratio: Ratio) -> f64 {
        match self {
            Self::Speed(_) | Self::Faster => -ratio.low,
            Self::Time(_) | Self::Below => ratio.high,
        }
    }

    /// As words: `at least 4 times as fast as`.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Speed(1.0) => "at least as fast as".into(),
            Self::Speed(factor) => format!("at least {factor} times as fast as"),
            Self::Faster => "faster than".into(),
            Self::Time(factor) => format!("at most {factor} times the time of"),
            Self::Below => "less time than".into(),
        }
    }

    /// What a ratio says of the two, as words: `times as fast as`.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Speed(_) | Self::Faster => "times as fast as",
            Self::Time(_) | Self::Below => "times the time of",
        }
    }
}

impl Theirs {
    /// As words: `Aeron's best`.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Peer(name) => format!("`{name}`"),
            Self::Best(system) => format!("{system}'s best"),
            Self::Each(systems) => format!("each of {}", systems.join(", ")),
        }
    }
}

impl Goal {
    /// What the samples say of it.
    pub(crate) fn judge(&self, figures: &Figures) -> Outcome<'_> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        if figures.rounds(&self.place, self.ours).is_none() {
            missing.push(self.ours.to_owned());
        }
        for (wanted, name) in self.opponents(figures) {
            match name {
                Some(name) => {
                    let speed = figures.speed_between((&self.place, self.ours), (&self.their_place(), name));
                    found.extend(speed.map(|speed| (name.to_owned(), self.demand.turned(speed))));
                }
                None => missing.push(wanted.to_owned()),
            }
        }
        let hardest = |a: &(String, Ratio), b: &(String, Ratio)| {
            self.demand.distance(a.1).total_cmp(&self.demand.distance(b.1))
        };
        let verdict = if !missing.is_empty() {
            Verdict::NotMeasured(missing)
        } else if found.is_empty() || found.iter().any(|(_, ratio)| ratio.rounds < ROUNDS) {
            Verdict::TooFewRounds
        } else if found.iter().all(|(_, ratio)| self.demand.is_met_by(*ratio)) {
            Verdict::Met
        } else {
            Verdict::Missed
        };
        Outcome { goal: self, verdict, measured: found.into_iter().max_by(hardest) }
    }

    /// Where theirs is measured.
    pub(crate) fn their_place(&self) -> Place {
        let measure = self.their_measure.unwrap_or(&self.place.measure).to_owned();
        Place { measure, ..self.place.clone() }
    }

    /// What ours is compared with, as words: `Aeron's best`.
    pub(crate) fn opponent(&self) -> String {
        let theirs = self.theirs.words();
        self.their_measure.map_or(theirs.clone(), |measure| format!("{measure} of {theirs}"))
    }

    /// Whom ours is compared with: what was wanted, and the peer that it is.
    fn opponents<'f>(&self, figures: &'f Figures) -> Vec<(&'static str, Option<&'f str>)> {
        let place = self.their_place();
        let best = |system: &'static str| (system, figures.best(&place, system));
        match self.theirs {
            Theirs::Peer(name) => {
                vec![(name, figures.peers(&place).into_iter().find(|peer| *peer == name))]
            }
            Theirs::Best(system) => vec![best(system)],
            Theirs::Each(systems) => systems.iter().copied().map(best).collect(),
        }
    }
}

/// Systems that pass records from one process to another. Bare loops are none: nobody can use them.
pub(crate) const SYSTEMS: &[&str] =
    &["kekbit 0.3.5", "Aeron", "iceoryx2", "Chronicle Queue", "Unix pipe", "Unix stream socket"];

/// All goals, in the order of the workloads.
pub(crate) fn all() -> Vec<Goal> {
    let groups = [
        stream(),
        sustained(),
        journal(),
        rolls(),
        fresh(),
        append(),
        timestamp(),
        ping_pong(),
        open_loop(),
        scan(),
        command(),
    ];
    groups.into_iter().flatten().collect()
}

fn goal(id: String, place: Place, ours: &'static str, theirs: Theirs, demand: Demand) -> Goal {
    Goal { id, place, their_measure: None, ours, theirs, demand }
}

const PREPARED: &str = "kekbit, prepared";
const PREPARED_UNCHECKED: &str = "kekbit, prepared, no checksum";
const RAW: &str = "raw, prepared";
const RAW_UNCHECKED: &str = "raw, prepared, no checksum";
const FRESH: &str = "kekbit, fresh";
const RAW_IN_SERIES: &str = "raw, populate and stream in series";
const REUSE: &str = "kekbit, reuse";
const JOURNAL: &str = "kekbit, journal";

fn stream() -> Vec<Goal> {
    use Demand::Speed;
    use Theirs::{Best, Peer};
    let mut goals = Vec::new();
    for size in [32, 96, 256, 1024] {
        let mut add = |name: &str, ours, theirs, factor| {
            let place = Place::new("stream", &format!("{size} bytes"), "ns/record");
            goals.push(goal(format!("stream-{size}-{name}"), place, ours, theirs, Speed(factor)));
        };
        add("raw", PREPARED, Peer(RAW), 0.8);
        add("raw-unchecked", PREPARED_UNCHECKED, Peer(RAW_UNCHECKED), 0.8);
        add("aeron", PREPARED, Best("Aeron"), if size <= 96 { 1.3 } else { 1.0 });
        add("old", PREPARED, Best("kekbit 0.3.5"), 4.0);
        if let Some(factor) = match size {
            32 | 96 => Some(10.0),
            1024 => Some(3.0),
            _ => None,
        } {
            add("iceoryx2", PREPARED, Best("iceoryx2"), factor);
        }
        add("chronicle", PREPARED, Best("Chronicle Queue"), 5.0);
    }
    goals
}

fn sustained() -> Vec<Goal> {
    let place = || Place::new("sustained", "96 bytes", "ns/record");
    vec![
        goal("sustained-old".into(), place(), REUSE, Theirs::Best("kekbit 0.3.5"), Demand::Speed(4.0)),
        goal("sustained-aeron".into(), place(), REUSE, Theirs::Best("Aeron"), Demand::Speed(1.0)),
    ]
}

fn journal() -> Vec<Goal> {
    let place = || Place::new("journal", "96 bytes", "ns/record");
    vec![
        goal("journal-old".into(), place(), JOURNAL, Theirs::Best("kekbit 0.3.5"), Demand::Speed(4.0)),
        goal("journal-aeron".into(), place(), JOURNAL, Theirs::Best("Aeron"), Demand::Speed(1.0)),
    ]
}

fn rolls() -> Vec<Goal> {
    let ordinary = Theirs::Peer(rolls::ORDINARY);
    let place = |measure| Place::new("rolls", "96 bytes", measure);
    let median = goal("rolls-p50".into(), place("p50 ns"), rolls::BEHIND, ordinary, Demand::Time(3.0));
    let tail = goal("rolls-p99".into(), place("p99 ns"), rolls::BEHIND, ordinary, Demand::Time(1.0));
    vec![median, Goal { their_measure: Some("p99.99 ns"), ..tail }]
}

fn fresh() -> Vec<Goal> {
    let place = || Place::new("fresh", "96 bytes", "ns/record");
    vec![
        goal("fresh-raw".into(), place(), FRESH, Theirs::Peer(RAW_IN_SERIES), Demand::Speed(0.8)),
        goal("fresh-old".into(), place(), FRESH, Theirs::Best("kekbit 0.3.5"), Demand::Faster),
    ]
}

fn append() -> Vec<Goal> {
    let append = |size| {
        let place = Place::new("append", &format!("{size} bytes"), "ns/record");
        goal(format!("append-{size}-raw"), place, PREPARED, Theirs::Peer(RAW), Demand::Time(1.3))
    };
    [96, 1024].map(append).into()
}

fn timestamp() -> Vec<Goal> {
    let place = Place::new("stages", "96 bytes", "ns/record");
    vec![goal(
        "stages-timestamp".into(),
        place,
        stages::TIMESTAMP,
        Theirs::Peer(stages::BOUND),
        Demand::Time(1.0),
    )]
}

fn ping_pong() -> Vec<Goal> {
    let mut goals = Vec::new();
    for percentile in ["p50", "p99", "p99.9"] {
        let mut add = |name: &str, theirs, demand| {
            let place = Place::new("pingpong", "96 bytes", &format!("{percentile} ns"));
            goals.push(goal(format!("pingpong-{percentile}-{name}"), place, PREPARED, theirs, demand));
        };
        add("raw_rtt", Theirs::Peer("raw_rtt"), Demand::Time(1.5));
        add("peers", Theirs::Each(SYSTEMS), Demand::Below);
    }
    goals
}

fn open_loop() -> Vec<Goal> {
    let mut goals = Vec::new();
    for rate in [100_000, 1_000_000] {
        for percentile in ["p99", "p99.99"] {
            for (name, system) in [("chronicle", "Chronicle Queue"), ("aeron", "Aeron")] {
                let case = format!("256 bytes, {rate}/s");
                let place = Place::new("open-loop", &case, &format!("{percentile} ns"));
                let id = format!("open-loop-{rate}-{percentile}-{name}");
                goals.push(goal(id, place, REUSE, Theirs::Best(system), Demand::Below));
            }
        }
    }
    goals
}

fn scan() -> Vec<Goal> {
    let place = || Place::new("scan", "96 bytes", "ns/record");
    let unchecked = Theirs::Peer("walk");
    let verified = Theirs::Peer("walk, CRC");
    vec![
        goal("scan-walk".into(), place(), "kekbit", unchecked, Demand::Speed(0.8)),
        goal("scan-verified".into(), place(), "kekbit, verified", verified, Demand::Speed(0.8)),
    ]
}

fn command() -> Vec<Goal> {
    let command = |case: &str, ours, theirs| {
        let place = Place::new("command", case, "ns/record");
        goal(format!("command-{case}"), place, ours, Theirs::Peer(theirs), Demand::Speed(0.5))
    };
    vec![command("write", "kek write", "cat > file"), command("cat", "kek cat", "cat file")]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Demand, Goal, ROUNDS, SYSTEMS, Theirs, Verdict, all};
    use crate::figures::{Figures, Place};
    use crate::sample::Sample;

    const WHERE: (&str, &str) = ("pingpong", "96 bytes");

    /// Samples of one peer, the same in each round but for a little that all peers share.
    fn samples(peer: &str, measure: &str, value: f64, rounds: usize) -> Vec<Sample> {
        let sample = |round: usize| Sample {
            workload: WHERE.0.into(),
            case: WHERE.1.into(),
            peer: peer.into(),
            round: round as u32,
            measure: measure.into(),
            value: value * (1.0 + round as f64 / 100.0),
        };
        (0..rounds).map(sample).collect()
    }

    fn goal(measure: &str, theirs: Theirs, demand: Demand) -> Goal {
        let place = Place::new(WHERE.0, WHERE.1, measure);
        Goal { id: "test".into(), place, their_measure: None, ours: "kekbit", theirs, demand }
    }

    fn verdict(goal: &Goal, samples: &[Vec<Sample>]) -> Verdict {
        goal.judge(&Figures::new(samples.concat()).unwrap().resampled(500)).verdict
    }

    #[test]
    fn a_goal_of_speed_and_one_of_time_look_at_the_same_samples_from_two_sides() {
        let cases = [
            (Demand::Speed(2.0), 10.0, Verdict::Met),
            (Demand::Speed(2.0), 10.01, Verdict::Missed),
            (Demand::Faster, 19.99, Verdict::Met),
            (Demand::Faster, 20.0, Verdict::Missed),
            (Demand::Time(1.5), 30.0, Verdict::Met),
            (Demand::Time(1.5), 30.01, Verdict::Missed),
            (Demand::Below, 19.99, Verdict::Met),
            (Demand::Below, 20.0, Verdict::Missed),
        ];
        for (demand, ours, expected) in cases {
            let goal = goal("ns/record", Theirs::Peer("raw"), demand);
            let samples = [samples("kekbit", "ns/record", ours, 16), samples("raw", "ns/record", 20.0, 16)];
            assert_eq!(verdict(&goal, &samples), expected, "{demand:?} {ours}");
        }
    }

    #[test]
    fn a_rate_counts_the_other_way() {
        let goal = goal("MB/s", Theirs::Peer("raw"), Demand::Speed(2.0));
        let of = |ours| [samples("kekbit", "MB/s", ours, 16), samples("raw", "MB/s", 20.0, 16)];
        assert_eq!(verdict(&goal, &of(40.0)), Verdict::Met);
        assert_eq!(verdict(&goal, &of(39.9)), Verdict::Missed);
    }

    #[test]
    fn the_worse_end_of_the_interval_decides() {
        // The median of the ratios is 2, but a third of the rounds says 1.
        let (mut ours, theirs) =
            (samples("kekbit", "ns/record", 10.0, 15), samples("raw", "ns/record", 20.0, 15));
        for round in 0..6 {
            ours[round].value = theirs[round].value;
        }
        let goal = goal("ns/record", Theirs::Peer("raw"), Demand::Speed(1.5));
        let figures = Figures::new([ours, theirs].concat()).unwrap();
        let outcome = goal.judge(&figures);
        let (_, ratio) = outcome.measured.unwrap();
        assert!(ratio.value >= 1.5 && ratio.low < 1.5, "{ratio:?}");
        assert_eq!(outcome.verdict, Verdict::Missed);
    }

    #[test]
    fn fewer_rounds_than_fifteen_decide_nothing() {
        let goal = goal("ns/record", Theirs::Peer("raw"), Demand::Faster);
        let of =
            |rounds| [samples("kekbit", "ns/record", 1.0, rounds), samples("raw", "ns/record", 20.0, rounds)];
        assert_eq!(verdict(&goal, &of(ROUNDS - 1)), Verdict::TooFewRounds);
        assert_eq!(verdict(&goal, &of(ROUNDS)), Verdict::Met);
        // Rounds that the two do not share are none.
        let mut apart = of(ROUNDS);
        apart[0].iter_mut().for_each(|sample| sample.round += 100);
        assert_eq!(verdict(&goal, &apart), Verdict::TooFewRounds);
    }

    #[test]
    fn without_samples_it_says_whose_are_missing() {
        let goal = goal("ns/record", Theirs::Best("Aeron"), Demand::Faster);
        let missing =
            |names: &[&str]| Verdict::NotMeasured(names.iter().map(|name| (*name).into()).collect());
        assert_eq!(verdict(&goal, &[]), missing(&["kekbit", "Aeron"]));
        let ours = samples("kekbit", "ns/record", 1.0, 15);
        assert_eq!(verdict(&goal, std::slice::from_ref(&ours)), missing(&["Aeron"]));
        // Another measure is another place.
        assert_eq!(verdict(&goal, &[ours, samples("Aeron, shared", "p50 ns", 9.0, 15)]), missing(&["Aeron"]));
    }

    #[test]
    fn the_best_configuration_of_a_system_is_the_one_to_beat() {
        let goal = goal("p50 ns", Theirs::Best("Aeron"), Demand::Below);
        let samples = [
            samples("kekbit", "p50 ns", 10.0, 15),
            samples("Aeron, shared", "p50 ns", 100.0, 15),
            samples("Aeron, dedicated", "p50 ns", 9.0, 15),
        ];
        assert_eq!(verdict(&goal, &samples), Verdict::Missed);
        assert_eq!(verdict(&goal, &samples[..2]), Verdict::Met);
    }

    #[test]
    fn a_percentile_can_be_compared_with_another_one() {
        let goal = Goal {
            their_measure: Some("p99.99 ns"),
            ..goal("p99 ns", Theirs::Peer("raw"), Demand::Time(1.0))
        };
        let of = |ours, theirs| {
            [
                samples("kekbit", "p99 ns", ours, 15),
                samples("raw", "p99 ns", 1.0, 15),
                samples("raw", "p99.99 ns", theirs, 15),
            ]
        };
        assert_eq!(verdict(&goal, &of(10.0, 10.0)), Verdict::Met);
        assert_eq!(verdict(&goal, &of(10.0, 9.9)), Verdict::Missed);
        assert_eq!(goal.opponent(), "p99.99 ns of `raw`");
        assert_eq!(verdict(&goal, &of(10.0, 10.0)[..2]), Verdict::NotMeasured(vec!["raw".into()]));
    }

    #[test]
    fn below_every_peer_is_decided_by_the_hardest_and_needs_them_all() {
        let goal = goal("p99 ns", Theirs::Each(&["Aeron", "iceoryx2"]), Demand::Below);
        let of = |aeron, iceoryx2| {
            [
                samples("kekbit", "p99 ns", 10.0, 15),
                samples("Aeron, shared", "p99 ns", aeron, 15),
                samples("iceoryx2", "p99 ns", iceoryx2, 15),
            ]
        };
        assert_eq!(verdict(&goal, &of(20.0, 30.0)), Verdict::Met);
        assert_eq!(verdict(&goal, &of(30.0, 9.0)), Verdict::Missed);
        let figures = Figures::new(of(30.0, 9.0).concat()).unwrap();
        assert_eq!(goal.judge(&figures).measured.unwrap().0, "iceoryx2");
        assert_eq!(verdict(&goal, &of(1.0, 1.0)[..2]), Verdict::NotMeasured(vec!["iceoryx2".into()]));
    }

    #[test]
    fn each_goal_has_a_name_of_its_own_and_is_said_in_words() {
        let goals = all();
        let ids: BTreeSet<&str> = goals.iter().map(|goal| goal.id.as_str()).collect();
        assert_eq!(ids.len(), goals.len());
        let find = |id: &str| goals.iter().find(|goal| goal.id == id).unwrap();
        let said = |id: &str| format!("{} {}", find(id).demand.words(), find(id).theirs.words());
        assert_eq!(said("stream-96-aeron"), "at least 1.3 times as fast as Aeron's best");
        assert_eq!(said("stream-1024-aeron"), "at least as fast as Aeron's best");
        assert_eq!(said("append-96-raw"), "at most 1.3 times the time of `raw, prepared`");
        assert!(
            said("pingpong-p99.9-peers").starts_with("less time than each of kekbit 0.3.5, Aeron, iceoryx2")
        );
        assert_eq!(SYSTEMS.len(), 6);
    }

    #[test]
    fn our_side_of_each_goal_and_the_bare_loop_beside_it_are_measured() {
        let peers = crate::promises::all();
        for goal in all() {
            assert!(peers.contains_key(goal.ours), "{}: no peer is called {}", goal.id, goal.ours);
            if let Theirs::Peer(name) = goal.theirs {
                assert!(peers.contains_key(name), "{}: no peer is called {name}", goal.id);
            }
        }
    }

    #[test]
    fn nothing_that_was_asked_for_is_left_out() {
        let count = |workload: &str| all().iter().filter(|goal| goal.place.workload == workload).count();
        // Stream: raw with and without a checksum, Aeron, 0.3.5 and Chronicle Queue at 4 sizes, iceoryx2 at 3.
        assert_eq!(count("stream"), 5 * 4 + 3);
        assert_eq!((count("sustained"), count("fresh"), count("append")), (2, 2, 2));
        // A journal beside 0.3.5 and Aeron; the appends behind a roll, their median and their tail.
        assert_eq!((count("journal"), count("rolls")), (2, 2));
        // Two goals at three percentiles; two peers at two percentiles of two rates.
        assert_eq!((count("pingpong"), count("open-loop")), (2 * 3, 2 * 2 * 2));
        assert_eq!((count("scan"), count("command")), (2, 2));
        assert_eq!(count("stages"), 1);
        assert_eq!(all().len(), 52);
    }
}
