//! Measurements by one process that nobody else takes part in: it says one line of JSON, a list of figures, and exits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::roles::{die_with_parent, pin, say};
use crate::workloads::{costs, rolls, scan, stages};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum What {
    Scan,
    Populate,
    Capacity,
    Length,
    Rolls,
    Stages,
}

/// What the process is told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Alone {
    #[arg(long)]
    pub(crate) what: What,
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) core: usize,
    /// For a second thread.
    #[arg(long)]
    pub(crate) other_core: usize,
    /// Turns the order in which things are measured.
    #[arg(long)]
    pub(crate) round: u32,
    /// Bytes of a record.
    #[arg(long, default_value_t = 96)]
    pub(crate) size: usize,
    /// Or rolls.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) records: u64,
    /// Bytes: capacities, what is written before, or a channel's.
    #[arg(long = "bytes")]
    pub(crate) bytes: Vec<u64>,
}

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) peer: String,
    pub(crate) measure: String,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn of(case: String, peer: &str, measure: &str, value: f64) -> Figure {
        Figure { case, peer: peer.into(), measure: measure.into(), value }
    }
}

impl Alone {
    /// The arguments that say the same.
    pub(crate) fn arguments(&self) -> Vec<String> {
        use clap::ValueEnum;
        let what = self.what.to_possible_value().map(|value| value.get_name().to_owned());
        let mut arguments: Vec<_> = ["alone", "--what"].map(String::from).into();
        arguments.extend(what);
        let rest = [
            ("--dir", self.dir.display().to_string()),
            ("--core", self.core.to_string()),
            ("--other-core", self.other_core.to_string()),
            ("--round", self.round.to_string()),
            ("--size", self.size.to_string()),
            ("--records", self.records.to_string()),
        ];
        let bytes = self.bytes.iter().map(|bytes| ("--bytes", bytes.to_string()));
        arguments
            .extend(rest.into_iter().chain(bytes).flat_map(|(option, value)| [option.to_owned(), value]));
        arguments
    }
}

pub(crate) fn run(alone: &Alone) -> Result<()> {
    die_with_parent()?;
    // A thread that it starts would have to stay there too.
    if alone.what != What::Rolls {
        pin(alone.core)?;
    }
    let dir = alone.dir.as_path();
    let figures = match alone.what {
        What::Scan => scan::measure(dir, alone.size, alone.records, alone.round)?,
        What::Populate => costs::populate(dir, alone.size, alone.records)?,
        What::Capacity => {
            let capacity = |bytes: &u64| costs::capacity(dir, *bytes, alone.records);
            alone.bytes.iter().map(capacity).collect::<Result<Vec<_>>>()?.concat()
        }
        What::Rolls => {
            let segment = *alone.bytes.first().ok_or("how many bytes a channel has")?;
            rolls::measure(dir, alone.size, alone.records, segment, [alone.core, alone.other_core])?
        }
        What::Stages => stages::measure(dir, alone.size, alone.records, alone.round)?,
        What::Length => costs::length(dir, &alone.bytes)?,
    };
    say(&serde_json::to_string(&figures)?)
}
