//! What is shown of each workload, as data; the words about it are in `benchmarks.md`.

use kekbit_cli::chart::Unit;

use crate::figures::Kind;

/// What is shown of one workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// The workload.
    pub(crate) workload: &'static str,
    /// The peer of ours that others are compared with where they are ahead.
    pub(crate) ours: &'static str,
    /// The peer to whose time all others are put in relation.
    pub(crate) reference: &'static str,
    /// How it is shown.
    pub(crate) form: Form,
}

/// How a workload is shown.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Form {
    /// A table for each case, the fastest first, and bars.
    Ranking,
    /// A table for each case, with a column for each percentile, and curves.
    Percentiles,
    /// One table, with a row for each case and a column for each peer, and lines. The cases are sizes of this kind.
    Growth {
        /// What grows.
        what: &'static str,
        /// How it is written.
        unit: Unit,
    },
}

impl Form {
    /// The kinds of figures that are shown and compared.
    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Percentiles => &[Kind::Latency],
            Self::Ranking | Self::Growth { .. } => &[Kind::Time, Kind::Rate],
        }
    }
}

/// All workloads, in the order in which they are shown.
pub(crate) const SECTIONS: &[Section] = &[
    section("sustained", "kekbit, ring", "raw, ring", Form::Ranking),
    section("stream", "kekbit, prepared", "raw, prepared", Form::Ranking),
    section("fresh", "kekbit, fresh", "raw, populate and stream in series", Form::Ranking),
    section("append", "kekbit, prepared", "raw, prepared", Form::Ranking),
    section("pingpong", "kekbit, prepared", "raw_rtt", Form::Percentiles),
    section("open-loop", "kekbit, ring", "raw, ring", Form::Percentiles),
    section("scan", "kekbit", "walk", Form::Ranking),
    section("command", "kek", "cat", Form::Ranking),
    section("cost of settings", "kekbit", "kekbit", Form::Ranking),
    section("cost of size", "kekbit, prepared", "raw, prepared", growth("bytes of a record", Unit::Bytes)),
    section("cost of capacity", "kekbit", "raw, prepared", growth("capacity", Unit::Bytes)),
    section("cost of readers", "kekbit", "raw, prepared", growth("readers", Unit::Count)),
    section("cost of length", "kekbit", "raw, prepared", growth("written before", Unit::Bytes)),
];

/// Systems that are none: bare loops, and `cat`. They show what the machine can do, and pass or keep no records.
pub(crate) const BARE: &[&str] = &["raw", "raw_rtt", "walk", "cat"];

/// Systems that are this project.
pub(crate) const OURS: &[&str] = &["kekbit", "kek"];

/// The section of a workload.
pub(crate) fn of(workload: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.workload == workload)
}

const fn section(workload: &'static str, ours: &'static str, reference: &'static str, form: Form) -> Section {
    Section { workload, ours, reference, form }
}

const fn growth(what: &'static str, unit: Unit) -> Form {
    Form::Growth { what, unit }
}
