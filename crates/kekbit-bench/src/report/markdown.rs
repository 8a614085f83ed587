//! Markdown as code-hosting sites show it: tables, and numbers that people can read.

use std::fmt::{self, Write as _};

use kekbit_cli::human;

use crate::figures::{Kind, Place};
use crate::stats::{Ratio, Spread};

/// A table. The first column is text, the others are numbers, on the right.
#[derive(Debug)]
pub(crate) struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<S: AsRef<str>>(headings: &[S]) -> Self {
        let mut table = Self { columns: headings.len(), text: String::new() };
        table.line(headings);
        let rule: Vec<&str> =
            (0..headings.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
        let _ = writeln!(table.text, "| {} |", rule.join(" | "));
        table
    }

    /// The same with all columns on the left. Before the first row.
    pub(crate) fn left(mut self) -> Self {
        self.text = self.text.replace("---:", "---");
        self
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If it has another number of cells than there are headings.
    pub(crate) fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        assert_eq!(cells.len(), self.columns, "a row must have as many cells as there are headings");
        self.line(cells);
    }

    fn line<S: AsRef<str>>(&mut self, cells: &[S]) {
        let cells: Vec<String> = cells.iter().map(|cell| in_cell(cell.as_ref())).collect();
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Text in a cell: a line, in which no bar ends the cell.
fn in_cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").trim().to_owned()
}

/// A name from outside, shown as it is written: no part of it is taken for Markdown or for a tag.
pub(crate) fn name(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => escaped.extend(['\\', char]),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// Three digits that mean something, or all before the point: `1.23`, `12.3`, `1,234`.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = sign.to_owned();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// A figure with its unit, if it is a time: `12.3 ns`, `1.23 µs`.
pub(crate) fn figure(place: &Place, value: f64) -> String {
    match place.kind() {
        Kind::Time | Kind::Latency => human::time(value),
        Kind::Rate | Kind::Count => number(value),
    }
}

/// Quartiles: `11.2–14.5`.
pub(crate) fn quartiles(spread: Spread) -> String {
    format!("{}–{}", number(spread.low), number(spread.high))
}

/// A ratio with its interval: `1.23 [1.10–1.41]`.
pub(crate) fn ratio(ratio: Ratio) -> String {
    format!("{} [{}–{}]", number(ratio.value), number(ratio.low), number(ratio.high))
}

/// Yes, or a dash that the eye passes over.
pub(crate) fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "–" }
}

/// A file's name made of a title: small letters, digits, single dashes.
pub(crate) fn file_name(title: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{Table, file_name, name, number, quartiles, ratio};
    use crate::stats::{Ratio, Spread};

    #[test]
    fn numbers_have_three_digits_or_groups_of_three() {
        let texts =
            [0.0123, 1.0, 9.994, 9.996, 12.34, 99.96, 123.4, 1234.5, 1_234_567.0, -1234.0].map(number);
        let expected = ["0.01", "1.00", "9.99", "10.0", "12.3", "100", "123", "1,234", "1,234,567", "-1,234"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_cell_cannot_end_the_cell_or_the_row() {
        let mut table = Table::new(&["a|b", "c"]);
        table.row(&["x\ny", "1 | 2"]);
        assert_eq!(table.to_string(), "| a\\|b | c |\n| --- | ---: |\n| x y | 1 \\| 2 |\n");
    }

    #[test]
    #[should_panic(expected = "as many cells")]
    fn a_row_has_as_many_cells_as_the_table_has_headings() {
        Table::new(&["a", "b"]).row(&["1"]);
    }

    #[test]
    fn names_are_shown_as_they_are_written() {
        assert_eq!(name("cat > file, raw_rtt <b>"), "cat &gt; file, raw\\_rtt &lt;b&gt;");
    }

    #[test]
    fn a_ratio_is_shown_with_its_interval() {
        assert_eq!(ratio(Ratio { low: 1.1, value: 1.234, high: 12.0, rounds: 15 }), "1.23 [1.10–12.0]");
        assert_eq!(quartiles(Spread { low: 9.0, median: 10.0, high: 1000.0 }), "9.00–1,000");
    }

    #[test]
    fn file_names_are_safe_everywhere() {
        assert_eq!(file_name("open-loop 1000000/s, 256 bytes"), "open-loop-1000000-s-256-bytes");
        assert_eq!(file_name("../../etc/passwd"), "etc-passwd");
        assert_eq!(file_name("Größe: µs?"), "gr-e-s");
    }
}
