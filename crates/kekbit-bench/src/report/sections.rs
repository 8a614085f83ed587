//! What is shown of each workload, as data; the words about it are in `benchmarks.md`.

use kekbit_cli::chart::Unit;

/// What is shown of one workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// The workload.
    pub(crate) workload: &'static str,
    /// The peers of ours that others are compared with where they are ahead; the first that was measured at a place.
    pub(crate) ours: &'static [&'static str],
    /// The peers to whose time all others are put in relation; the first that was measured at a place.
    pub(crate) references: &'static [&'static str],
    /// How it is shown.
    pub(crate) form: Form,
}

/// How a workload is shown.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Form {
    /// A table for each case, the fastest first, and a picture: bars, or curves where there are percentiles.
    Systems,
    /// One table of all cases, and lines. The cases are sizes of this kind.
    Growth {
        /// What grows.
        what: &'static str,
        /// How it is written.
        unit: Unit,
    },
}

/// All workloads, in the order in which they are shown.
pub(crate) const SECTIONS: &[Section] = &[
    section("sustained", &["kekbit, reuse"], &["raw, reuse"], Form::Systems),
    section("journal", &["kekbit, journal"], &[], Form::Systems),
    section("rolls", &[], &["kekbit, journal, ordinary appends"], Form::Systems),
    section("stream", PREPARED, RAW, Form::Systems),
    section("fresh", &["kekbit, fresh"], &["raw, populate and stream in series"], Form::Systems),
    section("append", PREPARED, RAW, Form::Systems),
    section("stages", &[], &["kekbit, no stage"], Form::Systems),
    section("pingpong", PREPARED, &["raw_rtt"], Form::Systems),
    section("open-loop", &["kekbit, reuse"], &["raw, reuse"], Form::Systems),
    section("scan", &["kekbit"], &["walk"], Form::Systems),
    section("command", &["kek write", "kek cat"], &["cat > file", "cat file"], Form::Systems),
    section("cost of settings", &[], &["kekbit, default settings", "kekbit, Wait::backoff"], Form::Systems),
    section("cost of size", PREPARED, RAW, growth("bytes of a record", Unit::Bytes)),
    section("cost of capacity", &["kekbit"], &[], growth("capacity", Unit::Bytes)),
    section("cost of readers", PREPARED, RAW, growth("readers", Unit::Count)),
    section("cost of length", &["kekbit"], &[], growth("written before", Unit::Bytes)),
];

const PREPARED: &[&str] = &["kekbit, prepared"];
const RAW: &[&str] = &["raw, prepared"];

/// Systems that are none: bare loops, and `cat`. They show what the machine can do, and pass or keep no records.
pub(crate) const BARE: &[&str] = &["raw", "raw_rtt", "walk", "populate", "clock", "cat > file", "cat file"];

/// Systems that are this project.
pub(crate) const OURS: &[&str] = &["kekbit", "kek write", "kek cat"];

/// The section of a workload.
pub(crate) fn of(workload: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.workload == workload)
}

const fn section(
    workload: &'static str,
    ours: &'static [&'static str],
    references: &'static [&'static str],
    form: Form,
) -> Section {
    Section { workload, ours, references, form }
}

const fn growth(what: &'static str, unit: Unit) -> Form {
    Form::Growth { what, unit }
}
