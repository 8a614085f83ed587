//! Campaigns: tests that do a little in each run and a lot when they are asked to.
//!
//! ```text
//! KEKBIT_LONG=1        the long campaign: what docs/RELIABILITY.md reports
//! KEKBIT_SEED=N        the numbers of an earlier run, which a failure prints
//! ```
//!
//! Each ends with one line that `scripts/campaign` gathers into a table: `@campaign NAME: N WHAT, seed S`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Instant;

use super::Numbers;

/// One campaign. Drop it in a panic and it says how to run the same again.
#[derive(Debug)]
pub(crate) struct Campaign {
    name: &'static str,
    seed: u64,
    begun: Instant,
}

/// Whether the long campaign was asked for.
pub(crate) fn is_long() -> bool {
    std::env::var_os("KEKBIT_LONG").is_some_and(|value| value != "0")
}

impl Campaign {
    /// A campaign with the seed that was asked for, or one of its own.
    pub(crate) fn new(name: &'static str) -> Campaign {
        Campaign::begun_at(name, Instant::now())
    }

    /// One that has begun a while ago.
    pub(crate) fn begun_at(name: &'static str, begun: Instant) -> Campaign {
        let seed = match std::env::var("KEKBIT_SEED") {
            Ok(text) => text.parse().expect("KEKBIT_SEED is a number"),
            Err(_) => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).unwrap();
                u64::from_le_bytes(bytes)
            }
        };
        Campaign { name, seed, begun }
    }

    /// How many of something: `short` in each test run, `long` in the long campaign.
    pub(crate) fn count(&self, short: u64, long: u64) -> u64 {
        if is_long() { long } else { short }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Numbers that follow from the seed and `part`.
    pub(crate) fn numbers(&self, part: u64) -> Numbers {
        let mut numbers = Numbers(self.seed ^ part.wrapping_mul(0xA076_1D64_78BD_642F));
        numbers.next();
        numbers
    }

    /// Says how much was done, once it is.
    pub(crate) fn done(self, count: u64, what: impl Display) {
        let seconds = self.begun.elapsed().as_secs();
        println!("\n@campaign {}: {count} {what}, seed {}, {seconds} s", self.name, self.seed);
    }
}

impl Drop for Campaign {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: failed; the same again: KEKBIT_SEED={}", self.name, self.seed);
        }
    }
}

/// How often each outcome was seen.
#[derive(Default, Debug)]
pub(crate) struct Outcomes(BTreeMap<String, u64>);

impl Outcomes {
    pub(crate) fn add(&mut self, outcome: impl Into<String>) {
        *self.0.entry(outcome.into()).or_default() += 1;
    }

    /// Says what was seen; in a long campaign everything that is `expected` must have been.
    pub(crate) fn finish(self, campaign: Campaign, expected: &[&str]) {
        self.finish_with(campaign, expected, "");
    }

    /// The same, and `more`.
    pub(crate) fn finish_with(self, campaign: Campaign, expected: &[&str], more: &str) {
        if is_long() {
            for outcome in expected {
                assert!(self.0.contains_key(*outcome), "never seen: {outcome}; seen: {:?}", self.0);
            }
        }
        let parts: Vec<_> = self.0.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
        let kills = self.0.values().sum();
        campaign.done(kills, format!("kills{more} ({})", parts.join(", ")));
    }
}
