//! Pictures of measurements, as SVG in a string: latency by percentile, bars, lines.
//!
//! A picture has its own white background, so that it is legible on a dark page too, needs no font but the reader's own
//! sans-serif, and refers to nothing outside of itself. Curves differ in their dots' shape as well as in colour.

use std::fmt;
use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{Cartesian2d, DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle};

use crate::human;

/// Latencies of one thing that was measured.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What the legend calls it.
    pub name: String,
    /// Percentiles, 0 to 100, and nanoseconds. The one at 100, the maximum, is drawn in a column of its own, since it has
    /// no place on the axis.
    pub points: Vec<(f64, f64)>,
}

/// One bar, and what it may also have been.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What is written beside it.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// Drawn as a whisker: a confidence interval, or the least and the most.
    pub interval: Option<(f64, f64)>,
}

/// How one thing grows with another.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Both coordinates; that of x greater than zero.
    pub points: Vec<(f64, f64)>,
}

/// How the numbers on an axis are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Of anything: `12.3 M`.
    Count,
    /// Binary: `64 KiB`.
    Bytes,
    /// Nanoseconds, as time: `1.25 µs`.
    Time,
}

/// What an axis tells, and how.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// What stands beside the axis.
    pub label: &'a str,
    /// How its numbers are written.
    pub unit: Unit,
}

/// Why there is no picture.
#[derive(Debug)]
pub struct ChartError(String);

impl fmt::Display for ChartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ChartError {}

type Result<T, E = ChartError> = std::result::Result<T, E>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<Scale, Scale>>;

/// Latency by percentile. The horizontal axis stretches the high percentiles: each nine is as wide as the one before.
/// The vertical axis is logarithmic.
pub fn latency(title: &str, curves: &[Curve]) -> Result<String> {
    let mut drawn = Vec::new();
    let mut nines: f64 = 2.0;
    for curve in curves {
        let mut points = curve.points.clone();
        for &(percentile, nanos) in &points {
            let sound = (0.0..=100.0).contains(&percentile) && nanos.is_finite() && nanos >= 0.0;
            check(sound, || format!("{}: {nanos} ns at percentile {percentile}", curve.name))?;
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let farthest = points.iter().rev().find(|(percentile, _)| *percentile < 100.0);
        nines = nines.max(farthest.map_or(0.0, |(percentile, _)| nine(*percentile)));
        // Zero has no logarithm; nothing takes less than this.
        drawn.push((
            &curve.name,
            points.into_iter().map(|(p, nanos)| (p, nanos.max(0.1))).collect::<Vec<_>>(),
        ));
    }
    let nines = (nines - 1e-9).ceil().min(8.0);
    let last = nines + 0.5;
    let place = |percentile: f64| if percentile < 100.0 { nine(percentile).min(nines) } else { last };
    let drawn: Vec<(&String, Vec<(f64, f64)>)> = drawn
        .into_iter()
        .map(|(name, points)| {
            (name, points.into_iter().map(|(p, nanos)| (place(p), nanos.log10())).collect())
        })
        .collect();
    let (low, high) = range(drawn.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)))
        .ok_or_else(|| nothing(title))?;
    let vertical = Scale::logarithmic(low, high, Unit::Time);

    let mut ticks = vec![(0.0, "0 %".to_owned()), (2f64.log10(), "50 %".to_owned())];
    for nine in 1..=nines as usize {
        let text = match nine {
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            _ => format!("99.{} %", "9".repeat(nine - 2)),
        };
        ticks.push((nine as f64, text));
    }
    if drawn.iter().any(|(_, points)| points.iter().any(|point| point.0 == last)) {
        ticks.push((last, "max".to_owned()));
    }
    let marks: Vec<f64> = ticks.iter().map(|tick| tick.0).collect();
    let horizontal = Scale { from: 0.0, to: last + 0.1, ticks };
    let names: Vec<&str> = drawn.iter().map(|(name, _)| name.as_str()).collect();
    draw(title, 470, |area| {
        let area = head(&area, title, &names)?;
        let mut chart = axes(&area, (horizontal, "percentile"), (vertical, "latency"))?;
        for (index, (_, points)) in drawn.iter().enumerate() {
            let (curve, most): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.0 < last);
            curve_of(&mut chart, index, &curve)?;
            let marked = |place: f64| marks.iter().any(|mark| (mark - place).abs() < 1e-6);
            curve
                .iter()
                .filter(|point| marked(point.0))
                .try_for_each(|&point| dot(&mut chart, index, point))?;
            for &point in &most {
                if let Some(&end) = curve.last() {
                    let style = color(index).mix(0.35).stroke_width(1);
                    chart.draw_series([PathElement::new([end, point], style)]).map_err(failed)?;
                }
                dot(&mut chart, index, point)?;
            }
        }
        Ok(())
    })
}

/// Horizontal bars from zero, each with its value beside it.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> Result<String> {
    let mut longest: f64 = 0.0;
    for Bar { name, value, interval } in bars {
        for number in [Some(*value), interval.map(|of| of.0), interval.map(|of| of.1)].into_iter().flatten() {
            check(number.is_finite() && number >= 0.0, || format!("{name}: a bar of {number}"))?;
            longest = longest.max(number);
        }
    }
    check(!bars.is_empty(), || nothing(title).0)?;
    let longest = if longest > 0.0 { longest } else { 1.0 };
    let written = |bar: &Bar| format!("{} {unit}", human::count(bar.value)).trim_end().to_owned();
    let left = bars.iter().map(|bar| width_of(&bar.name, TEXT)).max().unwrap_or(0).min(WIDTH as i32 / 3)
        + 2 * MARGIN;
    let right = bars.iter().map(|bar| width_of(&written(bar), TEXT)).max().unwrap_or(0) + 2 * MARGIN;
    let space = f64::from(WIDTH as i32 - left - right);
    let top = HEAD - 4;
    let height = top + bars.len() as i32 * ROW + MARGIN;
    draw(title, height as u32, |area| {
        write(&area, title, (MARGIN, MARGIN), &title_style(), HPos::Left)?;
        for (index, bar) in bars.iter().enumerate() {
            let middle = top + index as i32 * ROW + ROW / 2;
            let at = |value: f64| left + (value / longest * space).round() as i32;
            write(&area, &bar.name, (left - 8, middle), &text(TEXT, &INK), HPos::Right)?;
            let corners = [(left, middle - BAR / 2), (at(bar.value).max(left + 1), middle + BAR / 2)];
            area.draw(&Rectangle::new(corners, color(index).mix(0.85).filled())).map_err(failed)?;
            let mut end = at(bar.value);
            if let Some((from, to)) = bar.interval {
                let (from, to) = (at(from), at(to));
                for ends in [
                    [(from, middle), (to, middle)],
                    [(from, middle - 5), (from, middle + 5)],
                    [(to, middle - 5), (to, middle + 5)],
                ] {
                    area.draw(&PathElement::new(ends, INK.stroke_width(1))).map_err(failed)?;
                }
                end = end.max(to);
            }
            write(&area, &written(bar), (end + 8, middle), &text(TEXT, &INK), HPos::Left)?;
        }
        let base = [(left, top), (left, height - MARGIN)];
        area.draw(&PathElement::new(base, FAINT.stroke_width(1))).map_err(failed)
    })
}

/// How one thing grows with another. The horizontal axis is logarithmic; the vertical one as well if the greatest value
/// is more than [`DECADES_FROM`] times the least, otherwise it begins at zero.
pub fn lines(title: &str, x: Axis<'_>, y: Axis<'_>, lines: &[Line]) -> Result<String> {
    for line in lines {
        for &(x, y) in &line.points {
            let sound = x.is_finite() && x > 0.0 && y.is_finite() && y >= 0.0;
            check(sound, || format!("{}: no place for {x}, {y}", line.name))?;
        }
    }
    let all = || lines.iter().flat_map(|line| &line.points);
    let (least, most) = range(all().map(|point| point.1)).ok_or_else(|| nothing(title))?;
    let decades = least > 0.0 && most / least > DECADES_FROM;
    let vertical = match decades {
        true => Scale::logarithmic(least.log10(), most.log10(), y.unit),
        false => Scale::linear(most, y.unit),
    };
    // The ticks are what was measured, as far as there is space.
    let mut measured: Vec<f64> = all().map(|point| point.0).collect();
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    let (from, to) = (measured[0].log10(), measured[measured.len() - 1].log10());
    let around = ((to - from) * 0.04).max(0.05);
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for x_value in measured {
        let place = x_value.log10();
        let apart = (to - from + 2.0 * around) / 12.0;
        if ticks.last().is_none_or(|tick| place - tick.0 >= apart) {
            ticks.push((place, x.unit.write(x_value)));
        }
    }
    let horizontal = Scale { from: from - around, to: to + around, ticks };
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    draw(title, 430, |area| {
        let area = head(&area, title, &names)?;
        let mut chart = axes(&area, (horizontal, x.label), (vertical, y.label))?;
        for (index, line) in lines.iter().enumerate() {
            let mut points: Vec<(f64, f64)> =
                line.points.iter().map(|&(x, y)| (x.log10(), if decades { y.log10() } else { y })).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            curve_of(&mut chart, index, &points)?;
            points.iter().try_for_each(|&point| dot(&mut chart, index, point))?;
        }
        Ok(())
    })
}

/// The ratio of the greatest to the least value above which [`lines`] draws the vertical axis logarithmic.
pub const DECADES_FROM: f64 = 20.0;

const WIDTH: u32 = 860;
const MARGIN: i32 = 18;
/// Up to where the title reaches, and the height of a row of the legend.
const HEAD: i32 = 44;
const LEGEND: i32 = 22;
const ROW: i32 = 34;
const BAR: i32 = 20;
const TITLE: f64 = 17.0;
const TEXT: f64 = 13.0;
const SMALL: f64 = 12.0;

const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(38, 42, 48);
const DIM: RGBColor = RGBColor(96, 103, 112);
const FAINT: RGBColor = RGBColor(226, 229, 233);

/// Distinct for those who see no red or no green, too, and dark enough on white.
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 95, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 138, 100),
    RGBColor(176, 74, 145),
    RGBColor(120, 94, 240),
    RGBColor(181, 137, 0),
    RGBColor(60, 160, 210),
    RGBColor(90, 90, 90),
];

fn color(index: usize) -> RGBColor {
    COLORS[index % COLORS.len()]
}

/// How many nines a percentile has: 0 at 0, 1 at 90, 2 at 99.
fn nine(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Unit::Count => human::count(value),
            Unit::Bytes => human::bytes(value),
            Unit::Time => human::time(value),
        }
    }

    /// A round number, without the digits that say nothing.
    fn tick(self, value: f64) -> String {
        let text = self.write(value);
        let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
        let number = match number.contains('.') {
            true => number.trim_end_matches('0').trim_end_matches('.'),
            false => number,
        };
        format!("{number} {unit}").trim_end().to_owned()
    }
}

/// What an axis covers, and where something is written.
struct Scale {
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// From and to are logarithms.
    fn logarithmic(low: f64, high: f64, unit: Unit) -> Scale {
        // With few decades between them there is space for 2 and 5.
        let steps: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let candidates: Vec<f64> = (low.floor() as i32 - 1..=high.ceil() as i32 + 1)
            .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
            .collect();
        let below = |tick: &&f64| tick.log10() <= low + 1e-9;
        let above = |tick: &&f64| tick.log10() >= high - 1e-9;
        let from = candidates.iter().rev().find(below).map_or(low, |tick| tick.log10());
        let to = candidates.iter().find(above).map_or(high, |tick| tick.log10());
        let to = if to - from < 0.1 { from + 1.0 } else { to };
        let inside = |tick: &f64| tick.log10() >= from - 1e-9 && tick.log10() <= to + 1e-9;
        let ticks =
            candidates.iter().copied().filter(inside).map(|tick| (tick.log10(), unit.tick(tick))).collect();
        Scale { from, to, ticks }
    }

    /// From zero to a round number that is not less than `most`, in about five steps.
    fn linear(most: f64, unit: Unit) -> Scale {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / 5.0;
        let step = match unit {
            Unit::Bytes => 2f64.powf(rough.log2().ceil()),
            _ => {
                let decade = 10f64.powf(rough.log10().floor());
                let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
                factors.map(|factor| factor * decade).into_iter().find(|step| *step >= rough).unwrap_or(rough)
            }
        };
        let steps = (most / step - 1e-9).ceil().max(1.0) as usize;
        let ticks =
            (0..=steps).map(|index| index as f64 * step).map(|tick| (tick, unit.tick(tick))).collect();
        Scale { from: 0.0, to: steps as f64 * step, ticks }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + ((value - self.from) / (self.to - self.from) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.0).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format(place: &f64) -> String {
        place.to_string()
    }

    fn format_ext(&self, place: &f64) -> String {
        let here = self.ticks.iter().find(|(tick, _)| (tick - place).abs() < 1e-9);
        here.map_or_else(String::new, |(_, text)| text.clone())
    }
}

/// Makes a picture, `WIDTH` wide.
fn draw(title: &str, height: u32, content: impl FnOnce(Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    area.fill(&PAPER).map_err(failed)?;
    content(area.clone())?;
    area.present().map_err(failed)?;
    drop(area);
    // What a screen reader says, and what is shown where the mouse rests.
    let Some(end) = svg.find('>') else { return Err(ChartError("the picture is empty".into())) };
    svg.insert_str(end + 1, &format!("\n<title>{}</title>", escape(title)));
    svg.insert_str(end, " role=\"img\"");
    Ok(svg)
}

/// Draws title and legend, and returns what is below.
fn head<'a>(area: &Area<'a>, title: &str, names: &[&str]) -> Result<Area<'a>> {
    write(area, title, (MARGIN, MARGIN), &title_style(), HPos::Left)?;
    let (mut x, mut y) = (MARGIN, HEAD);
    for (index, name) in names.iter().enumerate() {
        let width = 26 + width_of(name, TEXT) + 18;
        if x > MARGIN && x + width > WIDTH as i32 - MARGIN {
            (x, y) = (MARGIN, y + LEGEND);
        }
        area.draw(&PathElement::new([(x, y), (x + 18, y)], color(index).stroke_width(2))).map_err(failed)?;
        mark(
            index,
            (x + 9, y),
            |style, at| area.draw(&Circle::new(at, 3, style)).map_err(failed),
            |style, at| area.draw(&Polygon::new(at, style)).map_err(failed),
        )?;
        write(area, name, (x + 26, y), &text(TEXT, &INK), HPos::Left)?;
        x += width;
    }
    Ok(area.split_vertically(y + LEGEND / 2).1)
}

/// The two axes, with a faint line at each tick.
fn axes<'a, 'b>(
    area: &'b Area<'a>,
    (horizontal, x_label): (Scale, &str),
    (vertical, y_label): (Scale, &str),
) -> Result<Chart<'a, 'b>> {
    let widest = vertical.ticks.iter().map(|(_, text)| width_of(text, SMALL)).max().unwrap_or(0);
    let (x_ticks, y_ticks) = (horizontal.ticks.len(), vertical.ticks.len());
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_top(10)
        .margin_right(2 * MARGIN)
        .x_label_area_size(46)
        .y_label_area_size(widest + 36)
        .build_cartesian_2d(horizontal, vertical)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .bold_line_style(FAINT.stroke_width(1))
        .light_line_style(PAPER.mix(0.0))
        .axis_style(DIM.stroke_width(1))
        .label_style(text(SMALL, &DIM))
        .axis_desc_style(text(SMALL, &DIM))
        .x_desc(x_label)
        .y_desc(y_label)
        .x_labels(x_ticks)
        .y_labels(y_ticks)
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

fn curve_of(chart: &mut Chart<'_, '_>, index: usize, points: &[(f64, f64)]) -> Result<()> {
    let series = LineSeries::new(points.iter().copied(), color(index).stroke_width(2));
    chart.draw_series(series).map(drop).map_err(failed)
}

fn dot(chart: &mut Chart<'_, '_>, index: usize, at: (f64, f64)) -> Result<()> {
    let pixel = chart.backend_coord(&at);
    let area = chart.plotting_area().strip_coord_spec();
    let (left, top) = area.get_base_pixel();
    let here = (pixel.0 - left, pixel.1 - top);
    mark(
        index,
        here,
        |style, at| area.draw(&Circle::new(at, 3, style)).map_err(failed),
        |style, at| area.draw(&Polygon::new(at, style)).map_err(failed),
    )
}

/// A dot whose shape belongs to its curve: round, square, upright or inverted triangle.
fn mark(
    index: usize,
    (x, y): (i32, i32),
    circle: impl FnOnce(ShapeStyle, (i32, i32)) -> Result<()>,
    polygon: impl FnOnce(ShapeStyle, Vec<(i32, i32)>) -> Result<()>,
) -> Result<()> {
    let style = color(index).filled();
    match index % 4 {
        0 => circle(style, (x, y)),
        1 => polygon(style, vec![(x - 3, y - 3), (x + 3, y - 3), (x + 3, y + 3), (x - 3, y + 3)]),
        2 => polygon(style, vec![(x - 4, y + 3), (x, y - 4), (x + 4, y + 3)]),
        _ => polygon(style, vec![(x - 4, y - 3), (x, y + 4), (x + 4, y - 3)]),
    }
}

fn text<'a>(size: f64, color: &RGBColor) -> TextStyle<'a> {
    ("sans-serif", size).into_font().color(color)
}

fn title_style<'a>() -> TextStyle<'a> {
    ("sans-serif", TITLE, FontStyle::Bold).into_font().color(&INK)
}

fn write(area: &Area<'_>, what: &str, at: (i32, i32), style: &TextStyle<'_>, side: HPos) -> Result<()> {
    let style = style.pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(what.to_owned(), at, style)).map_err(failed)
}

/// About as wide as this text is, in pixels: the font is the reader's own.
fn width_of(text: &str, size: f64) -> i32 {
    (text.chars().count() as f64 * size * 0.56).ceil() as i32
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// Text in XML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Most control characters cannot stand in XML at all.
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

fn check(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(ChartError(message())) }
}

fn nothing(title: &str) -> ChartError {
    ChartError(format!("nothing to draw in `{title}`"))
}

fn failed(error: impl fmt::Display) -> ChartError {
    ChartError(format!("cannot draw: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, points: &[(f64, f64)]) -> Curve {
        Curve { name: name.into(), points: points.to_vec() }
    }

    #[test]
    fn names_are_escaped_and_nothing_is_referred_to() {
        let svg =
            latency("a <title> & more", &[curve("<curve>", &[(0.0, 100.0), (50.0, 120.0), (100.0, 9000.0)])]);
        let svg = svg.unwrap();
        assert!(svg.contains("a &lt;title&gt; &amp; more") && svg.contains("&lt;curve&gt;"), "{svg}");
        assert!(!svg.contains("<curve>"));
        assert_eq!(svg.matches("http").count(), 1, "the name space, and no more: {svg}");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn what_has_no_place_is_refused() {
        assert!(latency("empty", &[]).is_err());
        assert!(latency("no number", &[curve("a", &[(50.0, f64::NAN)])]).is_err());
        assert!(latency("no percentile", &[curve("a", &[(101.0, 5.0)])]).is_err());
        assert!(bars("empty", "", &[]).is_err());
        let negative = Bar { name: "a".into(), value: -1.0, interval: None };
        assert!(bars("negative", "", &[negative]).is_err());
        let axis = Axis { label: "", unit: Unit::Count };
        assert!(lines("zero", axis, axis, &[Line { name: "a".into(), points: vec![(0.0, 1.0)] }]).is_err());
    }

    #[test]
    fn what_is_hardly_anything_is_drawn() {
        assert!(latency("one point", &[curve("a", &[(100.0, 0.0)])]).is_ok());
        assert!(latency("all the same", &[curve("a", &[(0.0, 100.0), (99.9, 100.0)])]).is_ok());
        assert!(
            bars("nothing", "records/s", &[Bar { name: String::new(), value: 0.0, interval: None }]).is_ok()
        );
        let axis = Axis { label: "", unit: Unit::Bytes };
        let point = Line { name: "a".into(), points: vec![(1.0, 0.0)] };
        assert!(lines("one point", axis, axis, &[point]).is_ok());
    }

    #[test]
    fn each_nine_is_as_wide_as_the_one_before() {
        for (percentile, nines) in [(0.0, 0.0), (90.0, 1.0), (99.0, 2.0), (99.999, 5.0)] {
            assert!((nine(percentile) - nines).abs() < 1e-9, "{percentile}");
        }
    }

    #[test]
    fn ticks_are_round_and_cover_everything() {
        let scale = Scale::logarithmic(130f64.log10(), 9000f64.log10(), Unit::Time);
        let texts: Vec<&str> = scale.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["100 ns", "200 ns", "500 ns", "1 µs", "2 µs", "5 µs", "10 µs"]);
        let scale = Scale::linear(43.0, Unit::Time);
        let texts: Vec<&str> = scale.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["0 ns", "10 ns", "20 ns", "30 ns", "40 ns", "50 ns"]);
    }

    #[test]
    fn lines_grow_from_zero_or_by_decades() {
        let axis = |unit| Axis { label: "", unit };
        let drawn = |points: &[(f64, f64)]| {
            let line = Line { name: "a".into(), points: points.to_vec() };
            lines("", axis(Unit::Bytes), axis(Unit::Time), &[line]).unwrap()
        };
        assert!(drawn(&[(32.0, 4.0), (64.0, 5.0)]).contains("0 ns"));
        assert!(!drawn(&[(32.0, 4.0), (64.0, 500.0)]).contains("\n0 ns"));
    }
}
