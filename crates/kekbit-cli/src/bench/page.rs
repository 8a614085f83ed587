//! The figures as one page, which needs nothing but itself: no script, no font, no picture from elsewhere.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::bench::Bench;
use crate::bench::result::{Summary, at};
use crate::bench::table::{self, Table};
use crate::chart::{self, Bar, ChartError, Curve, escape};
use crate::machine::Machine;

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { max-width: 100%; height: auto; border-radius: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; }
.facts td { text-align: left; white-space: normal; } .facts td:first-child { white-space: nowrap; color: #777; }
p { color: #777; }
";

pub(crate) fn page(bench: &Bench, summaries: &[Summary], machine: &Machine) -> Result<String, ChartError> {
    let title = format!("kek bench {}", bench.verb);
    let mut body = format!("<h1>{title}</h1>\n");
    put(
        &mut body,
        "Throughput",
        &chart::bars(&format!("{} per second", bench.unit), "/s", &bars(summaries))?,
    );
    put(&mut body, "", &table(&table::throughput(bench, summaries)));
    for meaning in table::meanings(summaries) {
        let _ = writeln!(body, "<p>{}</p>", escape(meaning));
    }
    let with: Vec<&Summary> = summaries.iter().filter(|summary| !summary.latencies.is_empty()).collect();
    if !with.is_empty() {
        let curves: Vec<Curve> = with
            .iter()
            .map(|summary| Curve { name: summary.name.clone(), points: points(&summary.latencies) })
            .collect();
        put(&mut body, "Latency", &chart::latency("Latency by percentile, all rounds together", &curves)?);
        put(&mut body, "", &table(&table::latencies(summaries)));
        let _ = writeln!(body, "<p>{}</p>", escape(&table::latency_is(bench)));
    }
    put(&mut body, "Setting", &facts(&table::setting(bench)));
    put(&mut body, "Machine", &facts(&machine.rows()));
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width\"/>\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}<p>kek {version}</p>\n</body>\n</html>\n"
    ))
}

fn bars(summaries: &[Summary]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for summary in summaries {
        let bar = |name: String, rate: crate::bench::result::Spread| Bar {
            name,
            value: rate.median,
            interval: (summary.rounds > 1).then_some((rate.min, rate.max)),
        };
        bars.extend(summary.first_pass.map(|rate| bar(format!("{}, first pass", summary.name), rate)));
        bars.push(bar(format!("{} ({})", summary.name, summary.label.name()), summary.rate));
    }
    bars
}

/// As far as there are samples: ten points for each nine, the median, the longest.
fn points(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut percentiles: Vec<f64> =
        (0..=50).map(|step| 100.0 - 100.0 * 0.1f64.powf(f64::from(step) / 10.0)).collect();
    percentiles.push(50.0);
    let mut points: Vec<(f64, f64)> = percentiles
        .into_iter()
        .filter_map(|percentile| Some((percentile, at(latencies, percentile)?)))
        .collect();
    points.push((100.0, latencies.max() as f64));
    points
}

fn put(body: &mut String, heading: &str, content: &str) {
    // Writing to a string does not fail.
    if !heading.is_empty() {
        let _ = writeln!(body, "<h2>{}</h2>", escape(heading));
    }
    let _ = writeln!(body, "<div class=\"wide\">{}</div>", content.trim());
}

fn table(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<table>\n{}{rows}</table>", row(&table.head, "th"))
}

fn facts(facts: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| {
        format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(name), escape(value))
    };
    format!("<table class=\"facts\">\n{}</table>", facts.iter().map(row).collect::<String>())
}
