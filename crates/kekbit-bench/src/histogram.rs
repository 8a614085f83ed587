//! Latencies: counted in a histogram, sent as a line of text, and told in percentiles.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::Result;

/// What is told of a histogram of nanoseconds.
const PERCENTILES: [(&str, f64); 5] =
    [("p50 ns", 50.0), ("p90 ns", 90.0), ("p99 ns", 99.0), ("p99.9 ns", 99.9), ("p99.99 ns", 99.99)];

/// Latencies in nanoseconds, up to a minute, with three digits.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Latencies> {
        Ok(Latencies(Histogram::new_with_bounds(1, 60_000_000_000, 3)?))
    }

    #[inline]
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    /// As a line of text: HdrHistogram V2, deflated, base64.
    pub(crate) fn encode(&self) -> Result<String> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .map_err(|error| format!("cannot write the histogram: {error:?}"))?;
        Ok(data_encoding::BASE64.encode(&bytes))
    }

    /// From such a line.
    pub(crate) fn decode(text: &str) -> Result<Latencies> {
        let bytes = data_encoding::BASE64.decode(text.as_bytes())?;
        let histogram = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("cannot read the histogram: {error:?}"))?;
        Ok(Latencies(histogram))
    }

    /// The percentiles, the largest, and how many there are: measure and value.
    pub(crate) fn figures(&self) -> Vec<(String, f64)> {
        let mut figures: Vec<_> = PERCENTILES
            .iter()
            .map(|(measure, percentile)| {
                ((*measure).to_owned(), self.0.value_at_percentile(*percentile) as f64)
            })
            .collect();
        figures.push(("max ns".into(), self.0.max() as f64));
        figures.push(("samples".into(), self.0.len() as f64));
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_text_keeps_the_percentiles() {
        let mut latencies = Latencies::new().unwrap();
        (1..=10_000).for_each(|n| latencies.record(n));
        let figures = Latencies::decode(&latencies.encode().unwrap()).unwrap().figures();
        assert_eq!(figures, latencies.figures());
        for ((measure, value), expected) in
            figures.iter().zip([5000.0, 9000.0, 9900.0, 9990.0, 9999.0, 10_000.0, 10_000.0])
        {
            assert!((value / expected - 1.0).abs() < 0.002, "{measure}: {value} instead of {expected}");
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        assert!(Latencies::decode("!").is_err());
        assert!(Latencies::decode("AAAA").is_err());
    }
}
