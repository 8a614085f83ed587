//! `kekbit-bench report`: writes BENCHMARKS.md and its pictures from a file of samples.
//!
//! - `benchmarks.md`: the words, with places for what is computed
//! - `document`: the whole; `sections`: what is shown of each workload, as data
//! - `tables`, `losses`, `verdicts`: what is computed
//! - `words`: what people have written elsewhere; `markdown`: tables and numbers
//!
//! The same samples give the same bytes, so that `--check` can tell whether the file that is there was made from them.

mod document;
mod losses;
mod markdown;
mod sections;
mod tables;
mod verdicts;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use self::document::{Document, Inputs};
use self::words::Words;
use crate::figures::Figures;
use crate::{Result, goals, promises, sample};

/// Writes BENCHMARKS.md from samples.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ReportArgs {
    /// The file of samples.
    #[arg(default_value = "docs/benchmarks/samples.jsonl")]
    samples: PathBuf,
    /// The machine, as `kekbit-bench machine` describes it.
    #[arg(long, default_value = "docs/benchmarks/machine.json")]
    machine: PathBuf,
    /// What the peers promise.
    #[arg(long, default_value = "docs/benchmarks/peers.json")]
    peers: PathBuf,
    /// The document.
    #[arg(long, default_value = "BENCHMARKS.md")]
    out: PathBuf,
    /// Where its pictures go: a directory at or below the document's.
    #[arg(long, default_value = "docs/benchmarks")]
    pictures: PathBuf,
    /// Write nothing; fail if what is there is not what would be written, or if it is not fit to be published: a missed goal
    /// without a reason, a peer that nothing is said about.
    #[arg(long)]
    check: bool,
}

/// Describes this machine.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct MachineArgs {
    /// The directory that the peers put their files in.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

/// Prints this machine as JSON.
pub(crate) fn describe_machine(args: &MachineArgs) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&kekbit_cli::machine::Machine::this(&args.dir))?);
    Ok(())
}

/// Writes the report, or checks it.
pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    let document = read(args)?;
    println!("{}", document.summary);
    for problem in &document.problems {
        println!("not fit to be published: {problem}");
    }
    let files = files(args, &document);
    if args.check { check(args, &document, &files) } else { write(args, &files) }
}

fn read(args: &ReportArgs) -> Result<Document> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: Box<dyn std::error::Error>| format!("{path}: {error}")
    };
    let samples = sample::read(&args.samples).map_err(named(&args.samples))?;
    let figures = Figures::new(samples).map_err(named(&args.samples))?;
    let machine = fs::read(&args.machine).map_err(|error| named(&args.machine)(error.into()))?;
    let machine = serde_json::from_slice(&machine).map_err(|error| named(&args.machine)(error.into()))?;
    let goals = goals::all();
    Document::new(&Inputs {
        figures: &figures,
        goals: &goals,
        promises: &promises::read(&args.peers)?,
        machine: &machine,
        words: &Words::ours(&goals)?,
        samples: &seen_from(&args.out, &args.samples)?,
        pictures: &seen_from(&args.out, &args.pictures)?,
    })
}

/// A path as a document refers to it.
fn seen_from(document: &Path, path: &Path) -> Result<String> {
    let dir = document.parent().unwrap_or(Path::new(""));
    let (from, to) = (std::path::absolute(dir.join("."))?, std::path::absolute(path)?);
    let relative = to.strip_prefix(&from).map_err(|_| {
        let (path, dir) = (path.display(), from.display());
        format!("{path} is not below {dir}, where the document is: it could not refer to it")
    })?;
    // `absolute` has removed `.`, but not `..`.
    let is_safe = |part: &OsStr| {
        let bytes = part.as_encoded_bytes();
        bytes != b".." && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    if !relative.iter().all(is_safe) {
        return Err(format!("{}: a link can have letters, digits, - _ and . only", path.display()).into());
    }
    Ok(relative.iter().map(OsStr::to_string_lossy).collect::<Vec<_>>().join("/"))
}

/// Everything that is written.
fn files<'a>(args: &ReportArgs, document: &'a Document) -> BTreeMap<PathBuf, &'a str> {
    let pictures = document.pictures.iter().map(|(name, svg)| (args.pictures.join(name), svg.as_str()));
    pictures.chain([(args.out.clone(), document.text.as_str())]).collect()
}

fn write(args: &ReportArgs, files: &BTreeMap<PathBuf, &str>) -> Result<()> {
    fs::create_dir_all(&args.pictures).map_err(|error| format!("{}: {error}", args.pictures.display()))?;
    for (path, text) in files {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for stale in stale(args, files)? {
        println!("{} is no picture of this report: remove it", stale.display());
    }
    println!("{} and {} pictures written", args.out.display(), files.len() - 1);
    Ok(())
}

fn check(args: &ReportArgs, document: &Document, files: &BTreeMap<PathBuf, &str>) -> Result<()> {
    let other = files.iter().filter(|(path, text)| fs::read(path).ok().as_deref() != Some(text.as_bytes()));
    let other: Vec<String> = other.map(|(path, _)| path.display().to_string()).collect();
    let stale: Vec<String> = stale(args, files)?.iter().map(|path| path.display().to_string()).collect();
    if !other.is_empty() {
        return Err(
            format!("{} would be written anew: run scripts/benchmarks --report", other.join(", ")).into()
        );
    }
    if !stale.is_empty() {
        return Err(format!("{}: no picture of this report: remove it", stale.join(", ")).into());
    }
    match document.problems.len() {
        0 => Ok(()),
        count => Err(format!("{} has gaps that are named above: {count}", args.out.display()).into()),
    }
}

/// Pictures of earlier reports.
fn stale(args: &ReportArgs, files: &BTreeMap<PathBuf, &str>) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(&args.pictures) else { return Ok(Vec::new()) };
    let mut stale = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("svg")) && !files.contains_key(&path) {
            stale.push(path);
        }
    }
    stale.sort();
    Ok(stale)
}

#[cfg(test)]
mod tests;
