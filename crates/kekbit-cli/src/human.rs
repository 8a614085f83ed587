//! Numbers for people: three significant digits and a unit.

/// A span of time: `8.2 ns`, `110 ns`, `1.25 µs`, `3.00 ms`, `42.0 s`.
pub fn time(nanos: f64) -> String {
    scaled(nanos, &[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")])
}

/// A number of things: `950`, `12.3 k`, `45.0 M`.
pub fn count(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e4 {
        return format!("{number}");
    }
    scaled(number, &[(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")])
}

/// A number of bytes: `96 B`, `1 KiB`, `1.5 GiB`.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [(f64, &str); 5] =
        [(1.0, "B"), (1024.0, "KiB"), (1048576.0, "MiB"), (1073741824.0, "GiB"), (1099511627776.0, "TiB")];
    let (size, unit) = *UNITS.iter().rev().find(|(size, _)| bytes.abs() >= *size).unwrap_or(&UNITS[0]);
    let number = bytes / size;
    if number.fract() == 0.0 { format!("{number} {unit}") } else { format!("{} {unit}", digits(number)) }
}

fn scaled(number: f64, units: &[(f64, &str)]) -> String {
    // What would be rounded up to a thousand belongs to the next unit.
    let fits = |(size, _): &&(f64, &str)| number.abs() >= size * 0.9995;
    let (size, unit) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    let number = digits(number / size);
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}

/// Three significant digits, but no more than two behind the point, and all that are before it.
fn digits(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (nanos, text) in [
            (0.0, "0 ns"),
            (8.2, "8.20 ns"),
            (110.4, "110 ns"),
            (999.6, "1.00 µs"),
            (1250.0, "1.25 µs"),
            (3e6, "3.00 ms"),
            (42e9, "42.0 s"),
            (5000e9, "5000 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }

    #[test]
    fn counts_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (950.0, "950"),
            (9999.0, "9999"),
            (12345.0, "12.3 k"),
            (45e6, "45.0 M"),
            (0.5, "0.50"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn bytes_are_binary() {
        for (number, text) in [
            (0.0, "0 B"),
            (96.0, "96 B"),
            (1024.0, "1 KiB"),
            (1500.0, "1.46 KiB"),
            (1.5 * 1073741824.0, "1.50 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
