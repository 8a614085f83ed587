//! The figures of one workload: its tables and its pictures.

use std::collections::BTreeMap;

use kekbit_cli::chart::{self, Axis, Bar, Curve, Line, Unit};

use super::markdown::{self, Table};
use super::sections::{BARE, Form, OURS, Section};
use crate::Result;
use crate::figures::{Figures, Kind, Place, size, system_of};
use crate::promises::Promises;

/// A workload as Markdown, and the pictures that it refers to, by file name.
#[derive(Default)]
pub(crate) struct Shown {
    /// Tables, with the pictures between them.
    pub(crate) text: String,
    /// File names and SVG.
    pub(crate) pictures: BTreeMap<String, String>,
}

/// Where figures come from, and where the pictures are, seen from the document.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// The samples.
    pub(crate) figures: &'a Figures,
    /// What peers promise.
    pub(crate) promises: &'a Promises,
    /// A relative path: `docs/benchmarks`.
    pub(crate) pictures: &'a str,
}

/// Everything that is shown of a workload.
pub(crate) fn section(sources: Sources<'_>, section: &Section) -> Result<Shown> {
    let cases = sources.figures.cases(section.workload);
    let mut shown = Shown::default();
    if cases.is_empty() {
        shown.text = "*Not measured.*\n".into();
        return Ok(shown);
    }
    if let Form::Growth { what, unit } = section.form {
        Tables { sources, section, case: "" }.growth(&cases, what, unit, &mut shown)?;
    } else {
        for case in &cases {
            if cases.len() > 1 {
                shown.text += &format!("**{}**\n\n", markdown::name(case));
            }
            let tables = Tables { sources, section, case };
            match sources.figures.places(section.workload, case).as_slice() {
                places @ [first, ..] if first.kind() == Kind::Latency => {
                    tables.percentiles(places, &mut shown)?
                }
                places => tables.rankings(places, &mut shown)?,
            }
        }
    }
    shown.text = shown.text.trim_end().to_owned() + "\n";
    Ok(shown)
}

/// What builds the tables of one case.
struct Tables<'a> {
    sources: Sources<'a>,
    section: &'a Section,
    case: &'a str,
}

impl<'a> Tables<'a> {
    /// A table for each measure of the case, the fastest first, with bars.
    fn rankings(&self, places: &[&Place], shown: &mut Shown) -> Result<()> {
        for place in places {
            let peers = self.fastest_first(place);
            let best = self.best_of_each(&[place], &peers);
            let title = format!("{}, {}: {}", self.section.workload, self.case, per_second_of(place));
            let bars: Vec<Bar> = best.iter().filter_map(|peer| self.bar(place, peer)).collect();
            let unit = if place.measure == PER_RECORD { "records/s" } else { place.measure.as_str() };
            self.picture(shown, &title, chart::bars(&title, unit, &bars)?);
            shown.text += &self.ranking(place, &best);
            self.details(shown, &peers, &best, |peers| self.ranking(place, peers));
        }
        Ok(())
    }

    fn ranking(&self, place: &Place, peers: &[&str]) -> String {
        let figures = self.sources.figures;
        let reference = self.reference(place);
        let per_record = place.measure == PER_RECORD;
        let mut headings = vec![String::new(), place.measure.clone(), "quartiles".into()];
        headings.extend(per_record.then(|| "million/s".into()));
        headings.extend(reference.map(|name| format!("times {} takes [95 %]", markdown::name(name))));
        headings.extend(PROMISES.map(String::from));
        let mut table = Table::new(&headings);
        for peer in peers {
            let Some(spread) = figures.spread(place, peer) else { continue };
            let mut cells =
                vec![self.named(peer), markdown::number(spread.median), markdown::quartiles(spread)];
            cells.extend(per_record.then(|| markdown::number(1e3 / spread.median)));
            cells.extend(reference.map(|name| self.ratio_to(place, peer, name)));
            cells.extend(self.promises(peer));
            table.row(&cells);
        }
        format!("{table}\n")
    }

    /// A table with a column for each percentile, with curves.
    fn percentiles(&self, places: &[&Place], shown: &mut Shown) -> Result<()> {
        let peers = self.fastest_first(places[0]);
        let best = self.best_of_each(places, &peers);
        let title = format!("{}, {}: latency", self.section.workload, self.case);
        let curves: Vec<Curve> = best.iter().map(|peer| self.curve(places, peer)).collect();
        self.picture(shown, &title, chart::latency(&title, &curves)?);
        shown.text += &self.columns(places, &best);
        self.details(shown, &peers, &best, |peers| self.columns(places, peers));
        Ok(())
    }

    fn columns(&self, places: &[&Place], peers: &[&str]) -> String {
        let measures = places.iter().map(|place| place.measure.trim_end_matches(" ns").to_owned());
        let mut table = Table::new(&std::iter::once(String::new()).chain(measures).collect::<Vec<_>>());
        for peer in peers {
            let cells = places.iter().map(|place| self.cell(place, peer));
            table.row(&std::iter::once(self.with_promises(peer)).chain(cells).collect::<Vec<_>>());
        }
        format!("{table}\n")
    }

    /// All cases, and lines. Where several peers are compared, a table for each measure, with a column for each peer; where
    /// one is looked at from several sides, one table with a column for each measure.
    fn growth(&self, cases: &[&'a str], what: &str, unit: Unit, shown: &mut Shown) -> Result<()> {
        let (figures, workload) = (self.sources.figures, self.section.workload);
        let places: Vec<&Place> = cases.iter().flat_map(|case| figures.places(workload, case)).collect();
        let measures = distinct(places.iter().map(|place| place.measure.as_str()));
        let peers = distinct(places.iter().flat_map(|place| figures.peers(place)));
        let series = |peer: &'a str, measure: &str, name: &str| Series {
            name: name.to_owned(),
            peer,
            places: cases.iter().map(|case| Place::new(workload, case, measure)).collect(),
        };
        if let [peer] = peers[..] {
            let of = |measure: &&str| series(peer, measure, measure.trim_start_matches("ns/"));
            let all: Vec<Series<'_>> = measures.iter().map(of).collect();
            let headings = all.iter().map(|one| markdown::name(&one.name)).collect::<Vec<_>>();
            self.grown(workload, "time", (what, unit), &headings, &all, shown)?;
            shown.text += &format!("{}: {}.\n\n", self.named(peer), self.promised(peer));
            return Ok(());
        }
        for measure in measures {
            let all: Vec<Series<'_>> = peers.iter().map(|peer| series(peer, measure, peer)).collect();
            let headings = peers.iter().map(|peer| self.with_promises(peer)).collect::<Vec<_>>();
            self.grown(&format!("{workload}: {measure}"), measure, (what, unit), &headings, &all, shown)?;
        }
        Ok(())
    }

    /// A table with a row for each case and a column for each series, and lines.
    fn grown(
        &self,
        title: &str,
        measure: &str,
        (what, unit): (&str, Unit),
        headings: &[String],
        all: &[Series<'_>],
        shown: &mut Shown,
    ) -> Result<()> {
        let lines: Vec<Line> = all.iter().map(|series| self.line(series)).collect();
        let drawn: Vec<Line> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
        let (x, y) = (Axis { label: what, unit }, Axis { label: measure, unit: Unit::Time });
        self.picture(shown, title, chart::lines(title, x, y, &drawn)?);
        let mut table = Table::new(&[&[what.to_owned()], headings].concat());
        for (row, place) in all[0].places.iter().enumerate() {
            let cells = all.iter().map(|series| self.cell(&series.places[row], series.peer));
            table.row(&std::iter::once(markdown::name(&place.case)).chain(cells).collect::<Vec<_>>());
        }
        shown.text += &format!("{table}\n");
        Ok(())
    }

    /// Median, and below it the quartiles and the ratio to the reference.
    fn cell(&self, place: &Place, peer: &str) -> String {
        let Some(spread) = self.sources.figures.spread(place, peer) else { return "–".into() };
        let written = |value| markdown::figure(place, value);
        let mut text = format!(
            "{}<br><sub>{}–{}</sub>",
            written(spread.median),
            written(spread.low),
            written(spread.high)
        );
        if let Some(reference) = self.reference(place).filter(|reference| *reference != peer) {
            text += &format!("<br><sub>× {}</sub>", self.ratio_to(place, peer, reference));
        }
        text
    }

    fn ratio_to(&self, place: &Place, peer: &str, reference: &str) -> String {
        if peer == reference {
            return "1".into();
        }
        self.sources.figures.time(place, peer, reference).map_or("–".into(), markdown::ratio)
    }

    /// The reference, if there is one here.
    fn reference(&self, place: &Place) -> Option<&'static str> {
        self.sources.figures.first_of(place, self.section.references)
    }

    /// All peers of a place, the fastest first.
    fn fastest_first(&self, place: &Place) -> Vec<&'a str> {
        let figures = self.sources.figures;
        let median = |peer: &str| figures.spread(place, peer).map_or(f64::NAN, |spread| spread.median);
        let mut peers = figures.peers(place);
        peers.sort_by(|a, b| match place.more_is_better() {
            true => median(b).total_cmp(&median(a)),
            false => median(a).total_cmp(&median(b)),
        });
        peers
    }

    /// Of these peers all of ours and the bare loops, and of every other system those that are its best somewhere.
    fn best_of_each(&self, places: &[&Place], peers: &[&'a str]) -> Vec<&'a str> {
        let figures = self.sources.figures;
        let is_shown = |peer: &&&str| {
            let system = system_of(peer);
            OURS.contains(&system)
                || BARE.contains(&system)
                || places.iter().any(|place| figures.best(place, system) == Some(**peer))
        };
        peers.iter().filter(is_shown).copied().collect()
    }

    /// The same table with every configuration, folded away, if any was left out.
    fn details(&self, shown: &mut Shown, all: &[&str], best: &[&str], table: impl Fn(&[&str]) -> String) {
        let left_out = all.len() - best.len();
        if left_out > 0 {
            let what = format!("With {left_out} slower configurations");
            shown.text += &format!("<details><summary>{what}</summary>\n\n{}</details>\n\n", table(all));
        }
    }

    fn named(&self, peer: &str) -> String {
        let name = markdown::name(peer);
        match system_of(peer) {
            system if OURS.contains(&system) => format!("**{name}**"),
            system if BARE.contains(&system) => format!("*{name}*"),
            _ => name,
        }
    }

    /// Whether records are kept, have a checksum, and outlive a kill of the sender.
    fn promises(&self, peer: &str) -> [String; 3] {
        let about = self.sources.promises.get(peer);
        about.map_or_else(
            || ["?"; 3].map(String::from),
            |about| [about.kept, about.checksummed, about.survives_kill].map(|is| markdown::yes(is).into()),
        )
    }

    /// What a peer promises, in a line.
    fn promised(&self, peer: &str) -> String {
        if !self.sources.promises.contains_key(peer) {
            return "?".into();
        }
        let promises = self.promises(peer);
        let given = PROMISES.iter().zip(&promises).filter(|(_, is)| *is == markdown::yes(true));
        let given: Vec<&str> = given.map(|(what, _)| *what).collect();
        if given.is_empty() { "nothing kept".into() } else { given.join(", ") }
    }

    /// A peer's name and what it promises, in one cell.
    fn with_promises(&self, peer: &str) -> String {
        format!("{}<br><sub>{}</sub>", self.named(peer), self.promised(peer))
    }

    /// Amounts per second, since the longer bar is to be the better one.
    fn bar(&self, place: &Place, peer: &str) -> Option<Bar> {
        let spread = self.sources.figures.spread(place, peer)?;
        let (value, interval) = match place.measure == PER_RECORD {
            true => (1e9 / spread.median, (1e9 / spread.high, 1e9 / spread.low)),
            false => (spread.median, (spread.low, spread.high)),
        };
        Some(Bar { name: peer.into(), value, interval: Some(interval) })
    }

    fn curve(&self, places: &[&Place], peer: &str) -> Curve {
        let point = |place: &&Place| {
            Some((percentile(&place.measure)?, self.sources.figures.spread(place, peer)?.median))
        };
        Curve { name: peer.into(), points: places.iter().filter_map(point).collect() }
    }

    fn line(&self, series: &Series<'_>) -> Line {
        let point = |place: &Place| {
            Some((size(&place.case)?, self.sources.figures.spread(place, series.peer)?.median))
        };
        // Nothing, as in nothing written before, has no place on a logarithmic axis.
        let points = series.places.iter().filter_map(point).filter(|(x, _)| *x > 0.0);
        Line { name: series.name.clone(), points: points.collect() }
    }

    fn picture(&self, shown: &mut Shown, title: &str, svg: String) {
        let file = format!("{}.svg", markdown::file_name(title));
        shown.text += &format!("![{}]({}/{file})\n\n", markdown::name(title), self.sources.pictures);
        shown.pictures.insert(file, svg);
    }
}

/// What is one line and one column.
struct Series<'a> {
    name: String,
    peer: &'a str,
    places: Vec<Place>,
}

/// Each once, in their order.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

const PER_RECORD: &str = "ns/record";

/// Headings: whether records are kept, whether they have a checksum, whether they outlive a kill of the sender.
const PROMISES: [&str; 3] = ["kept", "checksum", "outlives kill"];

/// What bars show of a place.
fn per_second_of(place: &Place) -> &str {
    if place.measure == PER_RECORD { "records per second" } else { &place.measure }
}

/// The percentile that a measure is: `p99.9 ns`, `max ns`.
fn percentile(measure: &str) -> Option<f64> {
    match measure.strip_suffix(" ns")? {
        "max" => Some(100.0),
        name => name.strip_prefix('p')?.parse().ok(),
    }
}
