//! BENCHMARKS.md as a whole: the words of `benchmarks.md` with everything that is computed in its place.

use std::collections::BTreeMap;

use kekbit_cli::machine::Machine;
use minijinja::{Environment, UndefinedBehavior, context};

use super::markdown::{self, Table};
use super::sections::{self, BARE, SECTIONS};
use super::tables::{self, Sources};
use super::words::Words;
use super::{losses, verdicts};
use crate::Result;
use crate::figures::{Figures, system_of};
use crate::goals::{self, Goal};
use crate::promises::Promises;

/// All that the document is made of.
pub(crate) struct Inputs<'a> {
    /// The samples.
    pub(crate) figures: &'a Figures,
    /// What was to be reached.
    pub(crate) goals: &'a [Goal],
    /// What peers promise.
    pub(crate) promises: &'a Promises,
    /// Where it was measured.
    pub(crate) machine: &'a Machine,
    /// What people have written.
    pub(crate) words: &'a Words,
    /// The file of samples, seen from the document.
    pub(crate) samples: &'a str,
    /// The directory of the pictures, seen from the document.
    pub(crate) pictures: &'a str,
}

/// What comes out.
#[derive(Debug)]
pub(crate) struct Document {
    /// Markdown.
    pub(crate) text: String,
    /// File names and SVG.
    pub(crate) pictures: BTreeMap<String, String>,
    /// What is missing before it can be published, a line each.
    pub(crate) problems: Vec<String>,
    /// How the goals came out, in a sentence.
    pub(crate) summary: String,
}

impl Document {
    /// Writes it. The same inputs give the same bytes.
    pub(crate) fn new(inputs: &Inputs<'_>) -> Result<Self> {
        let Inputs { figures, goals, promises, machine, words, samples, pictures } = *inputs;
        let mut problems = strangers(inputs);
        let (mut texts, mut drawn) = (BTreeMap::new(), BTreeMap::new());
        for section in SECTIONS {
            let shown = tables::section(Sources { figures, promises, pictures }, section)?;
            texts.insert(section.workload, shown.text);
            for (file, svg) in shown.pictures {
                if drawn.insert(file.clone(), svg).is_some() {
                    return Err(format!("two pictures are called {file}").into());
                }
            }
        }
        let outcomes: Vec<_> = goals.iter().map(|goal| goal.judge(figures)).collect();
        let summary = verdicts::summary(&outcomes);
        let context = context! {
            summary => summary.clone(),
            sections => texts,
            losses => losses::show(figures, &losses::find(figures), words, &mut problems),
            goals => verdicts::table(&outcomes),
            reasons => verdicts::reasons(&outcomes, words, &mut problems),
            rounds => rounds(figures),
            resamples => markdown::number(figures.resamples() as f64),
            least_rounds => goals::ROUNDS,
            machine => description(machine),
            systems => systems(figures, words),
            samples => samples,
            samples_name => samples.rsplit('/').next().unwrap_or(samples),
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let text = environment.render_named_str("benchmarks.md", TEMPLATE, context)?;
        let text = text.trim_end().to_owned() + "\n";
        Ok(Self { text, pictures: drawn, problems, summary })
    }
}

const TEMPLATE: &str = include_str!("benchmarks.md");

/// What is in the samples and nobody has said anything about.
fn strangers(inputs: &Inputs<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for workload in inputs.figures.workloads() {
        if sections::of(workload).is_none() {
            problems.push(format!("there are samples of the workload {workload}, which is not shown"));
        }
    }
    for peer in inputs.figures.all_peers() {
        if !inputs.promises.contains_key(peer) {
            problems.push(format!("nothing says what {peer} promises"));
        }
    }
    for system in systems_of(inputs.figures) {
        if inputs.words.system(system).is_none() {
            problems.push(format!("systems.toml says nothing about {system}"));
        }
    }
    problems
}

/// How many rounds there are, in a sentence.
fn rounds(figures: &Figures) -> String {
    let Some((least, most)) = figures.rounds_of_all() else { return "None yet.".into() };
    match least == most {
        true => format!("{most} of each."),
        false => format!("{least} to {most} of each."),
    }
}

fn description(machine: &Machine) -> String {
    let mut table = Table::new(&["", "machine"]).left();
    for (name, text) in machine.rows() {
        table.row(&[name.to_owned(), markdown::name(&text)]);
    }
    table.to_string()
}

/// The systems that were measured, in the order of systems.toml, others at the end.
fn systems(figures: &Figures, words: &Words) -> String {
    let measured = systems_of(figures);
    let known = words.systems().filter(|name| measured.contains(name));
    let unknown = measured.iter().copied().filter(|name| words.system(name).is_none());
    let mut text = String::new();
    for name in known.chain(unknown) {
        let about = words.system(name).unwrap_or("*nothing has been said about it.*").replace('\n', " ");
        let mark = if BARE.contains(&name) { "*" } else { "**" };
        text += &format!("- {mark}{}{mark}: {about}\n", markdown::name(name));
    }
    text
}

fn systems_of(figures: &Figures) -> Vec<&str> {
    let mut systems: Vec<&str> = figures.all_peers().into_iter().map(system_of).collect();
    systems.sort_unstable();
    systems.dedup();
    systems
}
