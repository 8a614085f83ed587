//! The figures for people: tables whose columns line up.

use std::fmt::Write;

use crate::bench::plan::FILES;
use crate::bench::result::{Label, PERCENTILES, Spread, Summary};
use crate::bench::{Bench, options, place};
use crate::human;
use crate::machine::{Machine, write_list};
use crate::values::{counted, one_line};

/// A table: its head, and its rows.
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The first column to the left, all others to the right.
    fn text(&self) -> String {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in all() {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a string does not fail.
                let _ = match index {
                    0 => write!(line, "  {cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// What is going to be measured: the name and the value of each thing that was chosen.
pub(crate) fn setting(bench: &Bench) -> Vec<(&'static str, String)> {
    let Some(case) = bench.cases.first() else { return Vec::new() };
    let (plan, setting) = (&case.plan, &bench.setting);
    let mut rows = vec![
        ("command", setting.command.clone()),
        (
            "records",
            format!("{} bytes, checksum {}", plan.size, if plan.checksum { "crc32c" } else { "none" }),
        ),
        (
            "loop",
            match plan.rate {
                Some(rate) => {
                    format!("open, {} a second, timed from when they were due", human::count(rate as f64))
                }
                None => "closed, as fast as possible".to_owned(),
            },
        ),
    ];
    let passes = match plan.amount {
        crate::bench::Amount::Records(_) => "one pass".to_owned(),
        amount => format!("passes for {}", options::amount(amount, "")),
    };
    let rounds = setting.rounds;
    match bench.verb {
        "read" => {
            let records = human::count(plan.scanned as f64);
            rows.push((
                "rounds",
                format!("{rounds}, each a first pass over {records} records, then {passes}"),
            ));
        }
        _ => rows.push((
            "rounds",
            format!(
                "{rounds} of {}, after a warm-up of {}",
                options::amount(plan.amount, bench.unit),
                options::amount(plan.warmup, bench.unit)
            ),
        )),
    }
    let capacity = human::bytes(plan.capacity as f64);
    let files = match plan.files {
        Some(1) => format!("one of {capacity}"),
        Some(files) if files <= FILES => format!("{files} of {capacity}, one after the other"),
        _ => format!("of {capacity} one after the other, in a ring of {FILES} files"),
    };
    let memory = if place::is_memory(&setting.dir) { "in memory" } else { "on storage" };
    rows.push((
        "channels",
        format!("{files}, in {}, {memory}, prepare {}", setting.dir.display(), plan.prepare),
    ));
    let mut waits: Vec<&str> = bench.cases.iter().map(|case| case.plan.wait.name()).collect();
    waits.dedup();
    let pins = match setting.pins.is_empty() {
        true => "not pinned".to_owned(),
        false => format!("pinned to cores {}", write_list(setting.pins.iter().copied())),
    };
    rows.push(("processes", format!("{pins}; wait: {}", waits.join(", "))));
    rows.push(("clock", format!("reading it takes {}", human::time(setting.clock))));
    rows
}

/// What is printed before it begins.
pub(crate) fn head(bench: &Bench, machine: &Machine) -> String {
    let mut text = String::new();
    for (name, value) in setting(bench) {
        // Writing to a string does not fail.
        let _ = match name {
            "command" => writeln!(text, "{}", one_line(&value)),
            _ => writeln!(text, "  {name:<9}  {}", one_line(&value)),
        };
    }
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let cores =
        machine.cores.map_or_else(|| "unknown cores".to_owned(), |cores| counted(cores as u64, "core"));
    let (processor, kernel) = (known(&machine.processor), known(&machine.kernel));
    let _ = writeln!(text, "  machine    {processor}, {cores}, {kernel}, hypervisor {}", machine.hypervisor);
    if bench.verb == "durable" && place::is_memory(&bench.setting.dir) {
        text.push_str("  In memory nothing is durable: choose a --dir on storage.\n");
    }
    text.push('\n');
    text
}

/// A row of throughput.
pub(crate) fn throughput(bench: &Bench, summaries: &[Summary]) -> Table {
    let per_second = format!("{}/s", bench.unit);
    let head = ["", &per_second, "least", "most", "bytes/s", "time each", "label"].map(str::to_owned);
    let mut rows = Vec::new();
    for summary in summaries {
        let row = |name: String, rate: Spread| {
            vec![
                name,
                human::count(rate.median),
                human::count(rate.min),
                human::count(rate.max),
                human::count(rate.median * summary.size as f64),
                human::time(1e9 / rate.median),
                summary.label.name().to_owned(),
            ]
        };
        if let Some(first) = summary.first_pass {
            rows.push(row(format!("{}, first pass", summary.name), first));
        }
        rows.push(row(summary.name.clone(), summary.rate));
    }
    Table { head: head.to_vec(), rows }
}

/// Latencies of those that have some: the median of the rounds, then the least and the most of them.
pub(crate) fn latencies(summaries: &[Summary]) -> Table {
    let mut head = vec![String::new()];
    head.extend(PERCENTILES.iter().map(|(_, name)| (*name).to_owned()));
    head.extend(["longest".to_owned(), "samples".to_owned()]);
    let mut rows = Vec::new();
    for summary in summaries.iter().filter(|summary| !summary.latencies.is_empty()) {
        let spreads = || summary.percentiles.iter().copied().chain([summary.longest]);
        let row = |name: &str, pick: fn(Spread) -> f64, samples: String| {
            let mut row = vec![name.to_owned()];
            row.extend(
                spreads().map(|spread| spread.map_or("-".to_owned(), |spread| human::time(pick(spread)))),
            );
            row.push(samples);
            row
        };
        rows.push(row(&summary.name, |spread| spread.median, human::count(summary.latencies.len() as f64)));
        if summary.rounds > 1 {
            rows.push(row("  least", |spread| spread.min, String::new()));
            rows.push(row("  most", |spread| spread.max, String::new()));
        }
    }
    Table { head, rows }
}

/// What the labels that occur mean.
pub(crate) fn meanings(summaries: &[Summary]) -> Vec<&'static str> {
    let mut labels: Vec<Label> = Vec::new();
    for summary in summaries {
        if !labels.contains(&summary.label) {
            labels.push(summary.label);
        }
    }
    labels.into_iter().map(Label::meaning).collect()
}

/// What a latency is, and of how many records the time was taken.
pub(crate) fn latency_is(bench: &Bench) -> String {
    let mut strides: Vec<u64> = bench.cases.iter().map(|case| case.plan.stride).collect();
    strides.dedup();
    let of = strides.iter().map(|stride| match stride {
        1 => "each record".to_owned(),
        stride => format!("one record in {stride}"),
    });
    let of = of.collect::<Vec<_>>().join(", ");
    let load = match bench.cases.first().is_some_and(|case| case.plan.rate.is_none()) {
        true if matches!(bench.verb, "stream" | "fanout") => {
            "; at full load, which is mostly waiting in line"
        }
        _ => "",
    };
    format!("{}; of {of}{load}", bench.latency)
}

/// Everything that came out.
pub(crate) fn results(bench: &Bench, summaries: &[Summary]) -> String {
    let mut text = throughput(bench, summaries).text();
    let latencies = latencies(summaries);
    if !latencies.rows.is_empty() {
        let _ = write!(text, "\n  Latency: {}\n{}", latency_is(bench), latencies.text());
    }
    text.push('\n');
    for meaning in meanings(summaries) {
        let _ = writeln!(text, "  {meaning}");
    }
    text
}
