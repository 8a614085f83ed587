//! Raw samples: one JSON object a line, appended to a file as they are measured. Everything that is shown is computed from
//! them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;

/// One figure of one peer in one round.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The workload: `append`, `stream`, `sustained`, `journal`, `rolls`, `fresh`, `pingpong`, `open-loop`, `scan`, `command`, or one of the
    /// costs: `cost of settings`, `cost of size`, `cost of capacity`, `cost of readers`, `cost of length`.
    pub(crate) workload: String,
    /// What was varied: `96 bytes`, `1000000/s`. Samples are compared with those of the same workload and case.
    pub(crate) case: String,
    /// The name of the peer.
    pub(crate) peer: String,
    /// The round, from 0. In one round every peer has its turn, in rotating order.
    pub(crate) round: u32,
    /// What was measured, with its unit: `ns/record`, `p50 ns`, `p99.9 ns`, `max ns`, `MB/s`.
    pub(crate) measure: String,
    /// The figure.
    pub(crate) value: f64,
}

/// Adds samples to a file.
pub(crate) fn append(path: &Path, samples: &[Sample]) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    for sample in samples {
        writeln!(file, "{}", serde_json::to_string(sample)?)?;
    }
    Ok(())
}

/// All samples of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Sample>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
