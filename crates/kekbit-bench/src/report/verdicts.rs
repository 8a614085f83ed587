//! The goals beside what was measured.

use super::markdown::{self, Table};
use super::words::Words;
use crate::goals::{Outcome, ROUNDS, Verdict};

/// How many goals came out how, in a sentence.
pub(crate) fn summary(outcomes: &[Outcome<'_>]) -> String {
    let count = |is: fn(&Verdict) -> bool| outcomes.iter().filter(|outcome| is(&outcome.verdict)).count();
    let met = count(|verdict| *verdict == Verdict::Met);
    let rest = [
        (count(|verdict| *verdict == Verdict::Missed), "missed"),
        (count(|verdict| *verdict == Verdict::TooFewRounds), "measured in too few rounds to tell"),
        (count(|verdict| matches!(verdict, Verdict::NotMeasured(_))), "not measured"),
    ];
    let rest = rest.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    format!("{met} of {} goals are met{}.", outcomes.len(), rest.collect::<String>())
}

/// The goals that are not met, and the others, folded away.
pub(crate) fn table(outcomes: &[Outcome<'_>]) -> String {
    let table = |wanted: &[&Outcome<'_>]| {
        let mut table = Table::new(&["goal", "measured [95 %]", "verdict"]).left();
        for outcome in wanted {
            table.row(&[sentence(outcome), measured(outcome), verdict(outcome)]);
        }
        table
    };
    let (met, mut others): (Vec<&Outcome<'_>>, Vec<&Outcome<'_>>) =
        outcomes.iter().partition(|outcome| outcome.verdict == Verdict::Met);
    others.sort_by_key(|outcome| match outcome.verdict {
        Verdict::Missed => 0,
        Verdict::TooFewRounds => 1,
        Verdict::NotMeasured(_) | Verdict::Met => 2,
    });
    let mut text = String::new();
    if !others.is_empty() {
        text += &format!("{}\n", table(&others));
    }
    if !met.is_empty() {
        let what = format!("The {} that are met", met.len());
        text += &format!("<details><summary>{what}</summary>\n\n{}\n</details>\n\n", table(&met));
    }
    text.trim_end().to_owned() + "\n"
}

/// Why goals were missed. One that nobody has explained is a problem.
pub(crate) fn reasons(outcomes: &[Outcome<'_>], words: &Words, problems: &mut Vec<String>) -> String {
    let missed: Vec<&Outcome<'_>> =
        outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Missed).collect();
    let mut text = String::new();
    let mut explained: Vec<&str> = Vec::new();
    for reason in words.reasons() {
        let these: Vec<&&Outcome<'_>> =
            missed.iter().filter(|outcome| reason.goals.contains(&outcome.goal.id)).collect();
        if these.is_empty() {
            continue;
        }
        let names: Vec<String> =
            these.iter().map(|outcome| format!("`{}` ({})", outcome.goal.id, measured(outcome))).collect();
        text += &format!("- {}: {}\n", names.join(", "), reason.text.trim().replace('\n', "\n  "));
        explained.extend(these.iter().map(|outcome| outcome.goal.id.as_str()));
    }
    for outcome in missed.iter().filter(|outcome| !explained.contains(&outcome.goal.id.as_str())) {
        text +=
            &format!("- `{}` ({}): *no reason has been found yet.*\n", outcome.goal.id, measured(outcome));
        let id = &outcome.goal.id;
        problems.push(format!("goal {id} is missed, {}: reasons.toml does not say why", measured(outcome)));
    }
    if text.is_empty() { "None was missed.\n".into() } else { text }
}

/// A goal in words.
fn sentence(outcome: &Outcome<'_>) -> String {
    let goal = outcome.goal;
    let measure = match goal.place.measure.strip_suffix(" ns") {
        Some(percentile) => format!(", {percentile}"),
        None => String::new(),
    };
    format!(
        "{}, {}{measure}: `{}` {} {}<br><sub>{}</sub>",
        goal.place.workload,
        goal.place.case,
        goal.ours,
        goal.demand.words(),
        goal.opponent(),
        goal.id
    )
}

/// The ratio, and to whom.
fn measured(outcome: &Outcome<'_>) -> String {
    match &outcome.measured {
        Some((peer, ratio)) => {
            format!("{} {} `{peer}`", markdown::ratio(*ratio), outcome.goal.demand.unit())
        }
        None => "–".into(),
    }
}

fn verdict(outcome: &Outcome<'_>) -> String {
    match &outcome.verdict {
        Verdict::Met => "met".into(),
        Verdict::Missed => "**missed**".into(),
        Verdict::TooFewRounds => format!("fewer than {ROUNDS} rounds"),
        Verdict::NotMeasured(missing) => {
            let missing: Vec<String> = missing.iter().map(|name| markdown::name(name)).collect();
            format!("not measured: {}", missing.join(", "))
        }
    }
}
