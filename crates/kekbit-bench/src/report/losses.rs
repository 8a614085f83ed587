//! Where others are ahead of kekbit, found by comparing, not by asking anybody.

use super::markdown::{self, Table};
use super::sections::{BARE, OURS, SECTIONS};
use super::words::Words;
use crate::figures::{Figures, Place, system_of};
use crate::stats::Ratio;

/// A system that is ahead of ours at one place.
pub(crate) struct Loss<'a> {
    place: &'a Place,
    ours: &'a str,
    theirs: &'a str,
    /// How many times their time ours takes; the interval is above 1.
    time: Ratio,
}

/// All of them, by workload.
pub(crate) fn find(figures: &Figures) -> Vec<Loss<'_>> {
    let mut losses = Vec::new();
    for section in SECTIONS {
        for case in figures.cases(section.workload) {
            for place in figures.places(section.workload, case) {
                let Some(ours) = figures.first_of(place, section.ours) else { continue };
                losses.extend(rivals(figures, place).into_iter().filter_map(|theirs| {
                    let time = figures.time(place, ours, theirs)?;
                    (time.low > 1.0).then_some(Loss { place, ours, theirs, time })
                }));
            }
        }
    }
    losses
}

/// The best configuration of every other system. A bare loop is no system.
fn rivals<'a>(figures: &'a Figures, place: &Place) -> Vec<&'a str> {
    let mut systems: Vec<&str> = figures.peers(place).into_iter().map(system_of).collect();
    systems.dedup();
    let others = systems.into_iter().filter(|system| !OURS.contains(system) && !BARE.contains(system));
    others.filter_map(|system| figures.best(place, system)).collect()
}

/// The losses as a table, and below it why.
pub(crate) fn show(
    figures: &Figures,
    losses: &[Loss<'_>],
    words: &Words,
    problems: &mut Vec<String>,
) -> String {
    if losses.is_empty() {
        return "In nothing that was measured is another system ahead by more than chance.\n".into();
    }
    let mut table = Table::new(&["", "measure", "ahead", "theirs", "ours", "ours takes times theirs [95 %]"]);
    let mut reasons: Vec<(&str, &str)> = Vec::new();
    for Loss { place, ours, theirs, time } in losses {
        let median = |peer: &str| {
            figures.spread(place, peer).map_or("–".into(), |spread| markdown::figure(place, spread.median))
        };
        table.row(&[
            format!("{}, {}", markdown::name(&place.workload), markdown::name(&place.case)),
            place.measure.clone(),
            markdown::name(theirs),
            median(theirs),
            format!("{} ({})", median(ours), markdown::name(ours)),
            markdown::ratio(*time),
        ]);
        let reason = (place.workload.as_str(), system_of(theirs));
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let mut text = format!("{table}\n");
    for (workload, system) in reasons {
        match words.loss(workload, system) {
            Some(why) => text += &format!("- **{workload}, {system}:** {why}\n"),
            None => {
                text += &format!("- **{workload}, {system}:** *not explained yet.*\n");
                problems.push(format!("{system} is ahead in {workload}, and reasons.toml does not say why"));
            }
        }
    }
    text
}
