//! What can stand on the command line: sizes, durations, positions, keys with values. And how times are printed.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use kekbit::{Prepare, Start, TickUnit, TickUnitError};
use parse_size::Config;

/// Bytes: `4096 64K 64KiB 1G`; K is 1024, with and without `iB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; expected a size such as 4096, 64K, 64KiB or 1G"))
}

/// A number of things, at least one: `1000 100k 1M 2.5G`, decimal.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let expected = "expected a number from 1 on, such as 1000, 100k or 1M";
    let units = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
    let scaled = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(*unit)?, *scale)));
    let parsed = match scaled {
        None => text.parse::<u64>().ok(),
        Some((digits, scale)) if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            digits.parse::<f64>().ok().map(|number| (number * scale).round() as u64)
        }
        Some(_) => None,
    };
    parsed.filter(|number| *number > 0).ok_or_else(|| expected.to_owned())
}

/// A span of time: `10ms 2s 5m 1h30m 7d`, longer than nothing. A day has 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let signed = Span::from_str(text).and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let duration = signed.ok().and_then(|signed| Duration::try_from(signed).ok());
    duration.filter(|duration| !duration.is_zero()).ok_or_else(|| {
        "expected a duration longer than nothing, such as 10ms, 2s, 5m, 1h30m or 7d".to_owned()
    })
}

/// How many of something, from 1 on.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a number from 1 on".to_owned())
}

/// The id of a channel: `42 0x2a`.
pub(crate) fn id(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let parsed = match digits {
        // A sign is for the parser a part of a number.
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    parsed
        .ok_or_else(|| "expected the id of a channel, decimal or hexadecimal, such as 42 or 0x2a".to_owned())
}

/// A limit, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

/// What `parse` reads, or `none`.
pub(crate) fn limit<T>(
    parse: impl Fn(&str) -> Result<T, String> + Clone,
) -> impl Fn(&str) -> Result<Limit<T>, String> + Clone {
    move |text| match text {
        "none" => Ok(Limit(None)),
        text => parse(text).map(|limit| Limit(Some(limit))).map_err(|error| format!("{error}, or `none`")),
    }
}

/// A key and its value: `venue=XETR`.
pub(crate) fn meta(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key is empty; expected KEY=VALUE".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// When `kek write` makes records durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sync {
    None,
    Each,
    Every(Duration),
}

impl FromStr for Sync {
    type Err = String;

    fn from_str(text: &str) -> Result<Sync, String> {
        match text {
            "none" => Ok(Sync::None),
            "each" => Ok(Sync::Each),
            text => duration(text).map(Sync::Every).map_err(|error| format!("{error}, or `none`, or `each`")),
        }
    }
}

/// A unit of time: `ns us ms s`, and the words that kekbit 0.3 has for them.
pub(crate) fn tick(text: &str) -> Result<TickUnit, TickUnitError> {
    match text {
        "nanos" => Ok(TickUnit::Nanos),
        "micros" => Ok(TickUnit::Micros),
        "millis" => Ok(TickUnit::Millis),
        "secs" => Ok(TickUnit::Secs),
        text => text.parse(),
    }
}

/// How pages are made ready ahead of the tail: `demand`, `inline`, `ahead`, `inline=SIZE`, `ahead=SIZE`, `all`.
pub(crate) fn prepare(text: &str) -> Result<Prepare, String> {
    let bytes = |text: &str| {
        let bytes = size(text)?;
        u32::try_from(bytes)
            .ok()
            .filter(|&bytes| bytes > 0)
            .ok_or_else(|| format!("{bytes} bytes are outside 1 to {}", u32::MAX))
    };
    match text.split_once('=') {
        None if text == "demand" => Ok(Prepare::OnDemand),
        None if text == "inline" => Ok(Prepare::INLINE),
        None if text == "ahead" => Ok(Prepare::AHEAD),
        None if text == "all" => Ok(Prepare::All),
        Some(("inline", size)) => bytes(size).map(Prepare::Inline),
        Some(("ahead", size)) => bytes(size).map(Prepare::Ahead),
        _ => Err("expected `demand`, `inline`, `ahead`, `inline=SIZE`, `ahead=SIZE` or `all`".to_owned()),
    }
}

/// Where to begin: `start`, `end`, a sequence, `-N` from the end, `@TIME`.
pub(crate) fn start(text: &str) -> Result<Start, String> {
    let expected = "expected `start`, `end`, a sequence such as 42, -5 for the last five, \
                    @2026-01-01T00:00:00Z, or @-5m for five minutes ago";
    let parsed = match text {
        "start" => Some(Start::Beginning),
        "end" => Some(Start::End),
        _ => match text.split_at_checked(1) {
            Some(("@", time)) => {
                return at(time).map(Start::Time).map_err(|error| format!("{error}; {expected}"));
            }
            Some(("-", count)) => count.parse().ok().map(Start::Last),
            _ => text.parse().ok().map(Start::Sequence),
        },
    };
    parsed.ok_or_else(|| expected.to_owned())
}

fn at(text: &str) -> Result<SystemTime, String> {
    if let Some(ago) = text.strip_prefix('-') {
        return Ok(SystemTime::now().checked_sub(duration(ago)?).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let time = Timestamp::from_str(text).map_err(|error| error.to_string())?;
    // No record is older than the epoch, and none is from the year 2555.
    let nanos = time.as_nanosecond().clamp(0, i128::from(u64::MAX)) as u64;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
}

/// Nanoseconds since the Unix epoch, as RFC 3339 in UTC with nine digits.
pub(crate) fn rfc3339(nanos: u64) -> String {
    // Every u64 is before the year 2555, and so within the range of a timestamp.
    Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| nanos.to_string(), |time| format!("{time:.9}"))
}

/// The same of a time of the system's clock; one before 1970 is 1970.
pub(crate) fn rfc3339_of(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rfc3339(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A span of time as [`duration`] reads it.
pub(crate) fn friendly(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

/// The text on one line: what would break it, or command a terminal, as the name of a file may, is shown as an escape.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |char: char| match char.is_control() {
        true => char.escape_default().to_string(),
        false => char.to_string(),
    };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// So many of something: `1 record`, `2 records`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// What goes with so many of something: `1 record was`, `2 records were`.
pub(crate) fn were(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_with_and_without_ib() {
        for (text, bytes) in
            [("4096", 4096), ("64K", 65536), ("64KiB", 65536), ("1G", 1 << 30), ("1 MiB", 1 << 20)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("").is_err() && size("-1").is_err() && size("lots").is_err());
    }

    #[test]
    fn numbers_are_decimal_and_begin_with_one() {
        for (text, expected) in
            [("1", 1), ("1000", 1000), ("100k", 100_000), ("2.5M", 2_500_000), ("1G", 1_000_000_000)]
        {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "-1", "1.5", "1Ki", "M", "1e3k", "0.0001k", "inf", "infk"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units_and_are_longer_than_nothing() {
        for (text, millis) in
            [("10ms", 10), ("2s", 2000), ("5m", 300_000), ("1h30m", 5_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "0s", "-1s", "5m ago", "1y", "99999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_they_are_read() {
        for text in ["10ms", "2s", "5m", "1h30m"] {
            let parsed = duration(text).unwrap();
            assert_eq!(duration(&friendly(parsed)), Ok(parsed), "{text}");
        }
    }

    #[test]
    fn a_tick_unit_has_two_names() {
        for (unit, names) in TickUnit::ALL.into_iter().zip([
            ["ns", "nanos"],
            ["us", "micros"],
            ["ms", "millis"],
            ["s", "secs"],
        ]) {
            assert_eq!(names.map(tick), [Ok(unit), Ok(unit)]);
        }
        for text in ["", "Nanos", "sec", "minutes"] {
            assert!(tick(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_is_decimal_or_hexadecimal() {
        for (text, expected) in
            [("0", 0), ("42", 42), ("0x2a", 42), ("0X2A", 42), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(id(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "2a", "0x", "0x+1", "0x10000000000000000", "1.kekbit"] {
            assert!(id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_is_one_or_none() {
        let limited = limit(count);
        assert_eq!(limited("none"), Ok(Limit(None)));
        assert_eq!(limited("3"), Ok(Limit(Some(3))));
        for text in ["", "0", "-1", "None", "3K"] {
            assert_eq!(limited(text), Err("expected a number from 1 on, or `none`".to_owned()), "{text}");
        }
    }

    #[test]
    fn preparation_has_its_forms_and_sizes() {
        assert_eq!(prepare("demand"), Ok(Prepare::OnDemand));
        assert_eq!(prepare("inline"), Ok(Prepare::default()));
        assert_eq!(prepare("inline=64K"), Ok(Prepare::Inline(64 << 10)));
        assert_eq!(prepare("ahead"), Ok(Prepare::AHEAD));
        assert_eq!(prepare("ahead=16M"), Ok(Prepare::Ahead(16 << 20)));
        assert_eq!(prepare("all"), Ok(Prepare::All));
        for text in
            ["", "lazy", "all=1M", "demand=", "inline=", "inline=0", "inline=4G", "ahead=lots", "INLINE"]
        {
            assert!(prepare(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_start_has_five_forms() {
        assert_eq!(start("start"), Ok(Start::Beginning));
        assert_eq!(start("end"), Ok(Start::End));
        assert_eq!(start("42"), Ok(Start::Sequence(42)));
        assert_eq!(start("-5"), Ok(Start::Last(5)));
        let new_year = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        assert_eq!(start("@2026-01-01T00:00:00Z"), Ok(Start::Time(new_year)));
        let Ok(Start::Time(ago)) = start("@-5m") else { panic!("@-5m is a time") };
        assert!(ago <= SystemTime::now() - Duration::from_secs(300));
        assert!(matches!(start("@1960-01-01T00:00:00Z"), Ok(Start::Time(SystemTime::UNIX_EPOCH))));
        assert!(matches!(start("@3000-01-01T00:00:00Z"), Ok(Start::Time(time)) if time > new_year));
        for text in ["", "@", "-", "--5", "@yesterday", "1.5", "@-", "é"] {
            assert!(start(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_breaks_a_line_is_escaped() {
        assert_eq!(one_line("caf\u{e9} \\n"), "caf\u{e9} \\n");
        assert_eq!(one_line("a\nb\u{1b}[31m\r"), "a\\nb\\u{1b}[31m\\r");
    }

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(rfc3339(1_767_225_600_000_000_000), "2026-01-01T00:00:00.000000000Z");
        assert!(rfc3339(u64::MAX).starts_with("2554-"));
    }
}
