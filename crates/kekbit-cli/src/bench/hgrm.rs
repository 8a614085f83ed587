//! The percentile distribution in the text form of HdrHistogram, which its plotters read. Values are nanoseconds.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Lines for each halving of the distance to 100 %, as the other implementations have them by default.
const TICKS: u32 = 5;

pub(crate) fn text(latencies: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut count = 0;
    for step in latencies.iter_quantiles(TICKS) {
        let (value, quantile) = (step.value_iterated_to() as f64, step.quantile_iterated_to());
        count += step.count_since_last_iteration();
        // Writing to a string does not fail.
        let _ = match quantile < 1.0 {
            true => {
                writeln!(text, "{value:12.3} {quantile:14.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))
            }
            false => writeln!(text, "{value:12.3} {quantile:14.12} {count:10}"),
        };
    }
    let (mean, deviation) = (latencies.mean(), latencies.stdev());
    let (most, total) = (latencies.max() as f64, latencies.len());
    let _ = writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ = writeln!(text, "#[Max     = {most:12.3}, Total count    = {total:12}]");
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        latencies.buckets(),
        (2 * 10u64.pow(latencies.sigfig().into())).next_power_of_two()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::timing::histogram;

    #[test]
    fn lines_go_up_to_all_samples() {
        let mut latencies = histogram();
        (1..=1000u64).for_each(|nanos| latencies.record(nanos).unwrap());
        let text = text(&latencies);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("       Value     Percentile TotalCount 1/(1-Percentile)"));
        let rows: Vec<Vec<f64>> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert_eq!(rows[0][..2], [1.0, 0.0]);
        assert!(
            rows.windows(2)
                .all(|two| two[0][0] <= two[1][0] && two[0][1] <= two[1][1] && two[0][2] <= two[1][2])
        );
        assert_eq!(rows.last().unwrap()[..], [1000.0, 1.0, 1000.0]);
        let half = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert_eq!(half[..], [500.0, 0.5, 500.0, 2.0]);
        assert!(text.contains("#[Mean    =      500.500, StdDeviation   ="), "{text}");
        assert!(text.contains("#[Max     =     1000.000, Total count    =         1000]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn nothing_is_a_table_without_rows() {
        assert_eq!(text(&histogram()).lines().count(), 5);
    }
}
