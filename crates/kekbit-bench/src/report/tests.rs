//! The report over samples that are invented here and nowhere else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kekbit_cli::machine::Machine;

use super::document::{Document, Inputs};
use super::sections::SECTIONS;
use super::words::Words;
use super::{ReportArgs, run, seen_from};
use crate::figures::{Figures, Place};
use crate::goals::{self, SYSTEMS};
use crate::peer::About;
use crate::promises::{self, Promises};
use crate::sample::{self, Sample};

const ROUNDS: u32 = 15;

/// Samples of one peer: 15 rounds around a value.
fn around(workload: &str, case: &str, peer: &str, measure: &str, value: f64) -> Vec<Sample> {
    let sample = |round: u32| Sample {
        workload: workload.into(),
        case: case.into(),
        peer: peer.into(),
        round,
        measure: measure.into(),
        // The mood of the machine, which all share, and a little of its own.
        value: value
            * (1.0 + f64::from(round * 7 % 15) / 20.0)
            * (1.0 + (peer.len() as f64 + f64::from(round)).sin() / 100.0),
    };
    (0..ROUNDS).map(sample).collect()
}

/// A campaign in which kekbit takes 10, what it is compared with without a library 9, and every other system 200.
fn campaign() -> Vec<Sample> {
    let mut samples = Vec::new();
    for goal in goals::all() {
        let mut add = |place: &Place, peer: &str, value| {
            let of = around(&place.workload, &place.case, peer, &place.measure, value);
            if !samples.contains(&of[0]) {
                samples.extend(of);
            }
        };
        add(&goal.place, goal.ours, 10.0);
        let theirs = goal.their_place();
        match goal.theirs {
            // A greater percentile is greater.
            goals::Theirs::Peer(name) if theirs != goal.place => add(&theirs, name, 12.0),
            // So is what a clock takes beside an append.
            goals::Theirs::Peer(name) if name.starts_with("clock") => add(&theirs, name, 12.0),
            goals::Theirs::Peer(name) => add(&theirs, name, 9.0),
            goals::Theirs::Best(system) => add(&theirs, &in_a_configuration(system), 200.0),
            goals::Theirs::Each(systems) => {
                systems.iter().for_each(|system| add(&theirs, &in_a_configuration(system), 200.0));
            }
        }
    }
    samples.extend(around("stream", "96 bytes", "Aeron, slower", "ns/record", 300.0));
    samples.extend(around("stream", "96 bytes", "kekbit, prepared", "records", 1e6));
    for (peer, value) in [("kekbit, default settings", 10.0), ("kekbit, Checksum::None", 5.0)] {
        samples.extend(around("cost of settings", "append, 96 bytes", peer, "ns/record", value));
    }
    for (case, value) in [("64 MiB", 900.0), ("16 GiB", 2500.0)] {
        samples.extend(around("cost of length", case, "kekbit", "ns/open at the end", value));
        samples.extend(around("cost of length", case, "kekbit", "ns/record", 10.0));
    }
    for (case, value) in [("8 bytes", 5.0), ("64 KiB", 4000.0)] {
        samples.extend(around("cost of size", case, "kekbit, prepared", "ns/record", value));
        samples.extend(around("cost of size", case, "raw, prepared", "ns/record", value * 0.9));
    }
    samples
}

fn in_a_configuration(system: &str) -> String {
    match system {
        "kekbit 0.3.5" => "kekbit 0.3.5, fresh".into(),
        "Aeron" => "Aeron, shared".into(),
        other => other.into(),
    }
}

fn promised(samples: &[Sample]) -> Promises {
    let about = |kept| About { kept, checksummed: kept, survives_kill: kept };
    samples.iter().map(|sample| (sample.peer.clone(), about(sample.peer.starts_with("kek")))).collect()
}

fn document_with(samples: Vec<Sample>, reasons: &str) -> Document {
    let goals = goals::all();
    let promises = promised(&samples);
    Document::new(&Inputs {
        figures: &Figures::new(samples).unwrap().resampled(400),
        goals: &goals,
        promises: &promises,
        machine: &machine(),
        words: &Words::new(include_str!("../../systems.toml"), reasons, &goals).unwrap(),
        samples: "docs/benchmarks/samples.jsonl",
        pictures: "docs/benchmarks",
    })
    .unwrap()
}

fn document(samples: Vec<Sample>) -> Document {
    document_with(samples, "")
}

fn machine() -> Machine {
    Machine { date: "2024-01-01T00:00:00Z".into(), ..Machine::this(Path::new("/")) }
}

/// The part of a document below a heading.
fn below<'a>(text: &'a str, heading: &str) -> &'a str {
    let start =
        text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}")) + heading.len() + 2;
    let level = heading.chars().take_while(|c| *c == '#').count();
    let is_next = |line: &str| {
        let hashes = line.chars().take_while(|c| *c == '#').count();
        (1..=level).contains(&hashes) && line[hashes..].starts_with(' ')
    };
    let mut end = start;
    for line in text[start..].split_inclusive('\n') {
        if is_next(line) {
            break;
        }
        end += line.len();
    }
    &text[start..end]
}

/// The cells of a table's row.
fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\u{1}");
    line.trim()
        .trim_start_matches('|')
        .trim_end_matches('|')
        .split('|')
        .map(|cell| cell.trim().into())
        .collect()
}

/// The row of a table that begins with this.
fn row(text: &str, first: &str) -> Vec<String> {
    let found = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(cells)
        .find(|cells| cells[0].starts_with(first));
    found.unwrap_or_else(|| panic!("no row {first} in {text}"))
}

#[test]
fn a_good_campaign_has_no_gaps_and_meets_what_it_should() {
    let document = document(campaign());
    assert_eq!(document.problems, Vec::<String>::new());
    assert_eq!(document.summary, "52 of 52 goals are met.");
    assert!(below(&document.text, "### What was missed, and why").contains("None was missed."));
    assert!(below(&document.text, "## Where kekbit loses").contains("In nothing that was measured"));
    assert!(document.text.contains("15 of each."));
    assert!(!document.text.contains("{{") && !document.text.contains("undefined"));
}

#[test]
fn the_headline_is_the_sustained_one_and_a_burst_is_called_one() {
    let text = document(campaign()).text;
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(headings[0], "## Headline: sustained, everything included");
    assert_eq!(headings[1], "## Where kekbit loses");
    let burst = below(&text, "## Burst: prepared memory");
    assert!(burst.contains("docs/benchmarks/stream-96-bytes-records-per-second.svg"), "{burst}");
}

#[test]
fn a_row_has_median_quartiles_rate_ratio_and_promises() {
    let text = document(campaign()).text;
    let burst = below(&text, "## Burst: prepared memory");
    let table = burst.split("**96 bytes**").nth(1).unwrap();
    let headings = row(table, "");
    assert_eq!(
        headings,
        [
            "",
            "ns/record",
            "quartiles",
            "million/s",
            "times raw, prepared takes [95 %]",
            "kept",
            "checksum",
            "outlives kill"
        ]
    );
    let ours = row(table, "**kekbit, prepared**");
    let median: f64 = ours[1].parse().unwrap();
    assert!((13.0..14.0).contains(&median), "{ours:?}");
    assert!((ours[3].parse::<f64>().unwrap() - 1e3 / median).abs() < 0.5, "{ours:?}");
    assert!(ours[4].starts_with("1.09 ["), "{ours:?}");
    assert_eq!(&ours[5..], ["yes", "yes", "yes"]);
    assert_eq!(row(table, "*raw, prepared*")[4], "1");
    assert_eq!(&row(table, "Aeron, shared")[5..], ["–", "–", "–"]);
    // How many records there were is no figure to compare.
    assert!(!burst.contains("| records |"), "{burst}");
}

#[test]
fn the_best_configuration_is_shown_and_the_others_are_folded_away() {
    let text = document(campaign()).text;
    let burst = below(&text, "## Burst: prepared memory");
    let (shown, folded) = burst.split("**96 bytes**").nth(1).unwrap().split_once("<details>").unwrap();
    assert!(shown.contains("Aeron, shared") && !shown.contains("Aeron, slower"), "{shown}");
    assert!(folded.starts_with("<summary>With 1 slower configurations</summary>\n\n|"), "{folded}");
    assert!(folded.split("</details>").next().unwrap().contains("Aeron, slower"), "{folded}");
}

#[test]
fn a_missed_goal_is_shown_with_its_ratio_and_needs_a_reason() {
    let mut samples = campaign();
    for sample in samples.iter_mut().filter(|sample| sample.workload == "append" && sample.case == "96 bytes")
    {
        if sample.peer == "kekbit, prepared" {
            sample.value *= 2.0;
        }
    }
    let document = document(samples.clone());
    assert_eq!(document.summary, "51 of 52 goals are met, 1 missed.");
    let [problem] = document.problems.as_slice() else { panic!("{:?}", document.problems) };
    assert!(problem.starts_with("goal append-96-raw is missed, 2.18"), "{problem}");
    let goals = below(&document.text, "## Goals");
    let first = goals.lines().filter(|line| line.starts_with("| ")).map(cells).nth(2).unwrap();
    assert!(first[0].contains("append-96-raw") && first[2] == "**missed**", "{first:?}");
    assert!(
        first[1].starts_with("2.18") && first[1].ends_with("times the time of `raw, prepared`"),
        "{first:?}"
    );
    assert!(goals.contains("*no reason has been found yet.*"));

    let reasons = "[[reason]]\ngoals = ['append-96-raw']\ntext = '''\nThe page\nis **cold**.\n'''";
    let document = document_with(samples, reasons);
    assert_eq!(document.problems, Vec::<String>::new());
    let why = below(&document.text, "### What was missed, and why");
    assert!(why.contains("`append-96-raw` (2.18") && why.contains(": The page\n  is **cold**.\n"), "{why}");
}

#[test]
fn goals_without_samples_or_rounds_are_neither_met_nor_missed() {
    let samples: Vec<Sample> = campaign()
        .into_iter()
        .filter(|sample| sample.peer != "Chronicle Queue" && (sample.workload != "scan" || sample.round < 14))
        .collect();
    let document = document(samples);
    assert_eq!(
        document.summary,
        "39 of 52 goals are met, 2 measured in too few rounds to tell, 11 not measured."
    );
    let goals = below(&document.text, "## Goals");
    let open_loop =
        row(goals, "open-loop, 256 bytes, 100000/s, p99: `kekbit, reuse` less time than Chronicle");
    assert_eq!(&open_loop[1..], ["–", "not measured: Chronicle Queue"]);
    assert_eq!(row(goals, "scan, 96 bytes")[2], "fewer than 15 rounds");
    assert!(document.text.contains("14 to 15 of each."));
}

#[test]
fn without_any_samples_there_is_a_document_that_says_so() {
    let document = document(Vec::new());
    assert_eq!(document.summary, "0 of 52 goals are met, 52 not measured.");
    assert_eq!(document.text.matches("*Not measured.*").count(), SECTIONS.len());
    assert!(document.pictures.is_empty());
}

#[test]
fn who_is_ahead_of_us_is_listed_unless_it_may_be_chance_or_is_no_system() {
    let mut samples = campaign();
    let set = |samples: &mut Vec<Sample>, peer: &str, value: f64| {
        samples.retain(|sample| (sample.workload.as_str(), sample.peer.as_str()) != ("sustained", peer));
        samples.extend(around("sustained", "96 bytes", peer, "ns/record", value));
    };
    set(&mut samples, "Aeron, shared", 5.0);
    set(&mut samples, "Aeron, dedicated", 6.0);
    set(&mut samples, "iceoryx2", 10.0);
    set(&mut samples, "raw, reuse", 1.0);
    let document = document(samples.clone());
    let losses = below(&document.text, "## Where kekbit loses");
    let rows: Vec<Vec<String>> =
        losses.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect();
    let [loss] = rows.as_slice() else { panic!("{losses}") };
    assert_eq!(&loss[..3], ["sustained, 96 bytes", "ns/record", "Aeron, shared"]);
    assert!(loss[5].starts_with("1.9") || loss[5].starts_with("2.0"), "{loss:?}");
    assert!(losses.contains("*not explained yet.*"));
    assert!(
        document
            .problems
            .iter()
            .any(|p| p == "Aeron is ahead in sustained, and reasons.toml does not say why")
    );

    let why = "[[loss]]\nworkload = 'sustained'\nsystem = 'Aeron'\ntext = 'Its window stays in the cache.'";
    let document = document_with(samples, why);
    assert!(document.text.contains("- **sustained, Aeron:** Its window stays in the cache.\n"));
    assert!(!document.problems.iter().any(|problem| problem.contains("is ahead")));
}

#[test]
fn latencies_have_a_column_for_each_percentile() {
    let text = document(campaign()).text;
    let table = below(&text, "## Ping-pong");
    assert_eq!(row(table, ""), ["", "p50", "p99", "p99.9"]);
    let ours = row(table, "**kekbit, prepared**");
    assert!(
        ours[1].starts_with("13.") && ours[1].contains(" ns<br><sub>") && ours[1].contains("<sub>× 1.09"),
        "{ours:?}"
    );
    let loops = below(&text, "## Open loop");
    assert!(loops.contains("**256 bytes, 100000/s**") && loops.contains("p99.99"), "{loops}");
}

#[test]
fn growth_has_a_row_for_each_size_in_their_order() {
    let text = document(campaign()).text;
    let table = below(&text, "### With the size of a record");
    let firsts: Vec<String> =
        table.lines().filter(|line| line.starts_with('|')).map(|line| cells(line)[0].clone()).collect();
    assert_eq!(firsts, ["bytes of a record", "---", "8 bytes", "64 KiB"]);
    assert!(row(table, "64 KiB")[1].contains("× 1.09"), "{table}");
    assert!(
        row(table, "bytes of a record")[1].contains("<br><sub>kept, checksum, outlives kill</sub>"),
        "{table}"
    );
}

#[test]
fn one_peer_from_several_sides_is_one_table() {
    let text = document(campaign()).text;
    let table = below(&text, "### With what was written before");
    assert_eq!(row(table, "written before"), ["written before", "open at the end", "record"]);
    assert!(
        row(table, "16 GiB")[1].starts_with("3.") && row(table, "16 GiB")[1].contains(" µs<br>"),
        "{table}"
    );
    assert_eq!(table.matches(".svg)").count(), 1);
    assert!(table.contains("**kekbit**: kept, checksum"), "{table}");
}

#[test]
fn settings_are_put_in_relation_to_the_default_ones() {
    let text = document(campaign()).text;
    let table = below(&text, "## What each setting costs");
    assert_eq!(row(table, "**kekbit, default settings**")[4], "1");
    assert!(row(table, "**kekbit, Checksum::None**")[4].starts_with("0.5"), "{table}");
}

#[test]
fn every_row_of_every_table_has_as_many_cells_as_its_heading() {
    let mut samples = campaign();
    samples.extend(around("fresh", "96 | 97\nbytes", "a|b, <i>*c*", "ns/record", 3.0));
    let text = document(samples).text;
    let mut columns = None;
    let mut tables = 0;
    for line in text.lines() {
        if !line.starts_with('|') {
            columns = None;
            continue;
        }
        let count = cells(line).len();
        tables += usize::from(columns.is_none());
        assert_eq!(*columns.get_or_insert(count), count, "{line}");
        assert!(line.ends_with('|'), "{line}");
    }
    assert!(tables > 15, "{tables}");
}

#[test]
fn a_table_or_a_heading_has_an_empty_line_before_it() {
    let text = document(campaign()).text;
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let begins = pair[1].starts_with('|') && !pair[0].starts_with('|') || pair[1].starts_with('#');
        assert!(!begins || pair[0].is_empty(), "{pair:?}");
    }
    assert!(!text.contains("\n\n\n"), "two empty lines");
}

#[test]
fn pictures_are_referred_to_and_their_names_are_safe() {
    let mut samples = campaign();
    samples.extend(around("fresh", "../../96 bytes?", "raw, fresh", "ns/record", 3.0));
    let document = document(samples);
    let named: BTreeSet<&str> = document
        .text
        .split("](docs/benchmarks/")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|name| name.ends_with(".svg"))
        .collect();
    let drawn: BTreeSet<&str> = document.pictures.keys().map(String::as_str).collect();
    assert_eq!(named, drawn);
    assert!(drawn.len() > 8);
    for (name, svg) in &document.pictures {
        let is_safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.strip_suffix(".svg").unwrap().chars().all(is_safe), "{name}");
        assert!(svg.starts_with("<svg "), "{name}");
    }
}

#[test]
fn the_same_samples_in_whatever_order_give_the_same_bytes() {
    let samples = campaign();
    let (first, again) = (document(samples.clone()), document(samples.clone()));
    let mut shuffled = samples;
    fastrand::Rng::with_seed(7).shuffle(&mut shuffled);
    let shuffled = document(shuffled);
    for other in [again, shuffled] {
        assert_eq!(other.text, first.text);
        assert_eq!(other.pictures, first.pictures);
    }
}

#[test]
fn what_nobody_has_said_anything_about_is_a_gap() {
    let mut samples = campaign();
    samples.extend(around("juggling", "3 balls", "newcomer, fast", "ns/record", 1.0));
    let promises = promised(&campaign());
    let goals = goals::all();
    let document = Document::new(&Inputs {
        figures: &Figures::new(samples).unwrap().resampled(400),
        goals: &goals,
        promises: &promises,
        machine: &machine(),
        words: &Words::new(include_str!("../../systems.toml"), "", &goals).unwrap(),
        samples: "samples.jsonl",
        pictures: "pictures",
    });
    let expected = [
        "there are samples of the workload juggling, which is not shown",
        "nothing says what newcomer, fast promises",
        "systems.toml says nothing about newcomer",
    ];
    assert_eq!(document.unwrap().problems, expected);
}

#[test]
fn links_stay_below_the_document() {
    assert_eq!(
        seen_from(Path::new("BENCHMARKS.md"), Path::new("docs/benchmarks")).unwrap(),
        "docs/benchmarks"
    );
    assert_eq!(seen_from(Path::new("/a/B.md"), Path::new("/a/./x/y.jsonl")).unwrap(), "x/y.jsonl");
    assert!(
        seen_from(Path::new("/a/b/B.md"), Path::new("/a/x"))
            .unwrap_err()
            .to_string()
            .contains("is not below")
    );
    assert!(
        seen_from(Path::new("/a/B.md"), Path::new("/a/x y)"))
            .unwrap_err()
            .to_string()
            .contains("a link can have")
    );
}

#[test]
fn check_tells_whether_the_file_was_made_from_the_samples() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<Sample> = campaign()
        .into_iter()
        .filter(|s| ["sustained", "cost of size"].contains(&s.workload.as_str()))
        .collect();
    let args = ReportArgs {
        samples: dir.path().join("pictures/samples.jsonl"),
        machine: dir.path().join("machine.json"),
        peers: dir.path().join("peers.json"),
        out: dir.path().join("BENCHMARKS.md"),
        pictures: dir.path().join("pictures"),
        check: false,
    };
    let check = ReportArgs { check: true, ..args.clone() };
    let failure = |args: &ReportArgs| run(args).unwrap_err().to_string();
    assert!(failure(&args).contains("samples.jsonl: "));
    fs::create_dir(&args.pictures).unwrap();
    sample::append(&args.samples, &samples).unwrap();
    fs::write(&args.machine, serde_json::to_string(&machine()).unwrap()).unwrap();
    promises::add(&args.peers, promised(&samples)).unwrap();

    assert!(failure(&check).contains("BENCHMARKS.md"), "nothing is there yet");
    run(&args).unwrap();
    run(&check).unwrap();
    fs::write(args.pictures.join("old.svg"), "<svg/>").unwrap();
    assert!(failure(&check).contains("old.svg: no picture of this report"));
    fs::remove_file(args.pictures.join("old.svg")).unwrap();
    fs::write(&args.out, fs::read_to_string(&args.out).unwrap().replacen("1.", "2.", 1)).unwrap();
    assert!(failure(&check).contains("would be written anew"));

    // Something is not known: the report is written, but does not pass.
    let mut promises = promised(&samples);
    promises.remove("Aeron, shared");
    fs::remove_file(&args.peers).unwrap();
    promises::add(&args.peers, promises).unwrap();
    run(&args).unwrap();
    assert!(failure(&check).ends_with("gaps that are named above: 1"));
}

#[test]
fn every_workload_has_its_place_in_the_words() {
    for section in SECTIONS {
        let place = format!("{{{{ sections[\"{}\"] }}}}", section.workload);
        assert_eq!(include_str!("benchmarks.md").matches(&place).count(), 1, "{place}");
    }
    assert!(SYSTEMS.iter().all(|system| !system.contains(',')));
}
