//! The figures for programs: one object a line, which says itself what `kind` it is.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bench::plan::Amount;
use crate::bench::result::{Outcome, PERCENTILES, Summary};
use crate::bench::{Bench, Case, place};
use crate::machine::Machine;

/// The first line: what is measured, how, and where.
pub(crate) fn machine(machine: &Machine, bench: &Bench) -> impl Serialize {
    let setting = &bench.setting;
    let amount = |amount: Amount| match amount {
        Amount::Records(records) => json!({ "records": records }),
        Amount::Nanos(nanos) => json!({ "ns": nanos }),
    };
    let case = |case: &Case| {
        let plan = &case.plan;
        json!({
            "case": case.name,
            "size": plan.size,
            "capacity": plan.capacity,
            "files": plan.files,
            "checksum": if plan.checksum { "crc32c" } else { "none" },
            "prepare": plan.prepare,
            "sync": plan.sync,
            "wait": plan.wait,
            "rate": plan.rate,
            "warmup": amount(plan.warmup),
            "amount": amount(plan.amount),
            "timed_one_in": plan.stride,
        })
    };
    json!({
        "kind": "setting",
        "bench": bench.verb,
        "command": setting.command,
        "version": env!("CARGO_PKG_VERSION"),
        "unit": bench.unit,
        "latency": bench.latency,
        "rounds": setting.rounds,
        "pin": setting.pins,
        "dir": setting.dir.to_string_lossy(),
        "in_memory": place::is_memory(&setting.dir),
        "clock_ns": setting.clock,
        "cases": bench.cases.iter().map(case).collect::<Vec<_>>(),
        "machine": machine,
    })
}

/// A round.
pub(crate) fn round(bench: &Bench, case: &Case, round: u64, outcome: &Outcome) -> impl Serialize {
    let mut percentiles = Map::new();
    for (percentile, name) in PERCENTILES {
        percentiles.insert(name.to_owned(), json!(outcome.percentile(percentile)));
    }
    let has_some = !outcome.latencies.is_empty();
    percentiles.insert("max".to_owned(), json!(has_some.then(|| outcome.latencies.max())));
    json!({
        "kind": "round",
        "bench": bench.verb,
        "case": case.name,
        "round": round,
        "label": outcome.label,
        "records": outcome.records,
        "ns": outcome.nanos,
        "records_per_s": outcome.rate(),
        "first_pass": outcome.first_pass.map(|(records, nanos)| json!({ "records": records, "ns": nanos })),
        "files": outcome.files,
        "cut_short": outcome.cut_short,
        "samples": outcome.latencies.len(),
        "latency_ns": percentiles,
    })
}

/// A result: the rounds of one case.
pub(crate) fn result(bench: &Bench, summary: &Summary) -> impl Serialize {
    let mut percentiles = Map::new();
    for ((_, name), spread) in PERCENTILES.iter().zip(&summary.percentiles) {
        percentiles.insert((*name).to_owned(), json!(spread));
    }
    percentiles.insert("max".to_owned(), json!(summary.longest));
    let mean = (!summary.latencies.is_empty()).then(|| summary.latencies.mean());
    percentiles.insert("mean".to_owned(), mean.map_or(Value::Null, |mean| json!(mean)));
    json!({
        "kind": "result",
        "bench": bench.verb,
        "case": summary.name,
        "label": summary.label,
        "rounds": summary.rounds,
        "size": summary.size,
        "records_per_s": summary.rate,
        "bytes_per_s": summary.rate.median * summary.size as f64,
        "ns_per_record": 1e9 / summary.rate.median,
        "first_pass_records_per_s": summary.first_pass,
        "samples": summary.latencies.len(),
        "cut_short": summary.cut_short,
        "latency_ns": percentiles,
    })
}
