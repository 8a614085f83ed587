//! What people have written: about the systems, why a goal was missed, why somebody else is ahead.
//!
//! It stands in files beside the code, `systems.toml` and `reasons.toml`, and is shown as it is, as Markdown.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::Result;
use crate::goals::Goal;

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    systems: Vec<System>,
    reasons: Vec<Reason>,
    losses: Vec<Loss>,
}

/// A system that takes part.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct System {
    /// Its name: what peers are called up to the comma.
    pub(crate) name: String,
    /// What it is, and how it is configured.
    pub(crate) text: String,
}

/// Why goals were missed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// The goals, by their names.
    pub(crate) goals: Vec<String>,
    /// The measured reason, and the experiment that shows it.
    pub(crate) text: String,
}

/// Why a system is ahead.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Loss {
    /// Where.
    pub(crate) workload: String,
    /// Which system.
    pub(crate) system: String,
    /// Why.
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Systems {
    #[serde(default)]
    system: Vec<System>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reasons {
    #[serde(default)]
    reason: Vec<Reason>,
    #[serde(default)]
    loss: Vec<Loss>,
}

impl Words {
    /// The files that are compiled in.
    pub(crate) fn ours(goals: &[Goal]) -> Result<Self> {
        Self::new(include_str!("../../systems.toml"), include_str!("../../reasons.toml"), goals)
    }

    /// The text of both files. A reason for what is no goal is an error: it would never be shown.
    pub(crate) fn new(systems: &str, reasons: &str, goals: &[Goal]) -> Result<Self> {
        let Systems { system: systems } =
            toml::from_str(systems).map_err(|error| format!("systems.toml: {error}"))?;
        let Reasons { reason: reasons, loss: losses } =
            toml::from_str(reasons).map_err(|error| format!("reasons.toml: {error}"))?;
        let mut seen = BTreeSet::new();
        for id in reasons.iter().flat_map(|reason| &reason.goals) {
            if goals.iter().all(|goal| goal.id != *id) {
                return Err(format!("reasons.toml: {id} is no goal").into());
            }
            if !seen.insert(id) {
                return Err(format!("reasons.toml: {id} has two reasons").into());
            }
        }
        Ok(Self { systems, reasons, losses })
    }

    /// What is said of a system.
    pub(crate) fn system(&self, name: &str) -> Option<&str> {
        self.systems.iter().find(|system| system.name == name).map(|system| system.text.trim())
    }

    /// The systems, in the order in which they are to be shown.
    pub(crate) fn systems(&self) -> impl Iterator<Item = &str> {
        self.systems.iter().map(|system| system.name.as_str())
    }

    /// Why goals were missed, in the order in which it is to be shown.
    pub(crate) fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// Why a system is ahead in a workload.
    pub(crate) fn loss(&self, workload: &str, system: &str) -> Option<&str> {
        let loss = self.losses.iter().find(|loss| loss.workload == workload && loss.system == system);
        loss.map(|loss| loss.text.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::Words;
    use crate::goals;

    #[test]
    fn what_is_compiled_in_can_be_read() {
        let words = Words::ours(&goals::all()).unwrap();
        for system in goals::SYSTEMS.iter().chain(super::super::sections::BARE).chain(&["kekbit"]) {
            assert!(words.system(system).is_some_and(|text| !text.is_empty()), "{system}");
        }
    }

    #[test]
    fn something_is_said_about_every_system_that_is_measured() {
        let words = Words::ours(&goals::all()).unwrap();
        for peer in crate::promises::all().keys() {
            let system = crate::figures::system_of(peer);
            assert!(words.system(system).is_some(), "systems.toml says nothing about {system}");
        }
    }

    #[test]
    fn reasons_are_for_goals_and_only_once() {
        let of = |reasons: &str| Words::new("", reasons, &goals::all());
        let reason = "[[reason]]\ngoals = ['stream-96-raw']\ntext = 'so'\n";
        assert_eq!(of(reason).unwrap().reasons().len(), 1);
        let error = of(&reason.repeat(2)).unwrap_err().to_string();
        assert_eq!(error, "reasons.toml: stream-96-raw has two reasons");
        let error = of("[[reason]]\ngoals = ['faster']\ntext = 'so'").unwrap_err().to_string();
        assert_eq!(error, "reasons.toml: faster is no goal");
        assert!(of("[[reasons]]").unwrap_err().to_string().starts_with("reasons.toml: "));
    }
}
