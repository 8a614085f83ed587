//! `kek salvage`: copies what is still good of a damaged channel.

use std::path::{Path, PathBuf};

use clap::Args;
use kekbit::{Channel, Finding, Gap, SalvageError, Salvaged};
use serde::Serialize;

use crate::exit::{Exit, Failure, note};
use crate::output::{print, print_json};
use crate::progress;
use crate::values::counted;

/// Copy every record that is still good out of a damaged channel
///
/// SRC is not changed, and need not be writable. DST is a new channel with the same stages and attributes; it is there when
/// it is complete, closed and durable, and not before. Its records are consecutive: where some are missing between them is
/// told as gaps, in positions and sequences of SRC. Batches are copied as a whole or not at all.
///
/// A record is good if it passes its check, and lies, without a break, behind the beginning of the channel or behind a
/// place where a frame is known to begin: by an intact entry of the index, or because three intact frames follow one
/// another. In a channel without checksums nothing behind the first damage can be proven. Without an intact header
/// nothing can be proven at all. What the disk cannot read counts as damaged.
///
/// Exits with 1 if anything is missing, with 0 if nothing is.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek salvage damaged.kek saved.kek
  kek salvage --json damaged.kek saved.kek | jq 'select(.gap) | .gap'")]
pub(crate) struct SalvageArgs {
    /// The damaged channel
    #[arg(value_name = "SRC")]
    from: PathBuf,

    /// The new channel
    #[arg(value_name = "DST")]
    to: PathBuf,

    /// One JSON object for each gap, then one for the whole
    #[arg(long)]
    json: bool,

    /// The file system of SRC was shut down or its disk gone, although the machine was not restarted
    #[arg(long)]
    crashed: bool,

    /// Creates DST also on a file system that other machines may share
    #[arg(long)]
    force_shared_file_system: bool,
}

impl SalvageArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let len = self.from.metadata().map_or(0, |metadata| metadata.len());
        let bar = progress::bar(Some(len), "salvaging");
        let mut printed = Ok(());
        let options = Channel::salvage_options()
            .crashed(self.crashed)
            .force_shared_file_system(self.force_shared_file_system);
        let salvaged = options.run(&self.from, &self.to, |finding| match finding {
            Finding::Progress(position) => bar.set_position(position.offset()),
            Finding::Gap(gap) if printed.is_ok() => {
                printed = bar.suspend(|| match self.json {
                    true => print_json(&GapLine { gap: JsonGap::of(&gap) }),
                    false => print(format!("{}\n", in_words(&gap)).as_bytes()),
                });
            }
            _ => {}
        });
        bar.finish_and_clear();
        let salvaged = salvaged?;
        // DST is complete, whether or not anybody reads the report.
        printed?;
        if self.json {
            print_json(&Summary::of(&salvaged, &self.from, &self.to))?;
        }
        let records = counted(salvaged.records, "record");
        let (from, to) = (self.from.display(), self.to.display());
        if salvaged.gap_count == 0 {
            note(format_args!("{from}: no damage; {to} has its {records}"));
            return Ok(Exit::Done);
        }
        let gaps = counted(salvaged.gap_count, "gap");
        note(format_args!("{from}: {gaps}, {}; {to} has the {records} that are good", lost(salvaged.lost)));
        Ok(Exit::Damage)
    }
}

/// How much is lost, as far as it is known.
pub(crate) fn lost(records: Option<u64>) -> String {
    records.map_or_else(|| "an unknown number of records lost".to_owned(), |n| counted(n, "record") + " lost")
}

/// A gap as a line for people.
pub(crate) fn in_words(gap: &Gap) -> String {
    let first = gap.sequence.map_or_else(String::new, |sequence| format!(", from sequence {sequence} on"));
    let next = match (gap.resumes, gap.next_sequence) {
        (false, _) => "nothing good behind it".to_owned(),
        (true, Some(sequence)) => format!("then sequence {sequence}"),
        (true, None) => "then a record of unknown sequence".to_owned(),
    };
    format!(
        "gap at positions {} to {}: {}: {}{first}; {next}, as {} in the new channel",
        gap.from,
        gap.to,
        gap.what,
        lost(gap.lost()),
        gap.salvaged_sequence
    )
}

#[derive(Serialize)]
struct GapLine {
    gap: JsonGap,
}

/// A gap as `--json` prints it.
#[derive(Serialize)]
pub(crate) struct JsonGap {
    from: u64,
    to: u64,
    sequence: Option<u64>,
    next_sequence: Option<u64>,
    lost: Option<u64>,
    salvaged_sequence: u64,
    resumes: bool,
    what: &'static str,
}

impl JsonGap {
    pub(crate) fn of(gap: &Gap) -> JsonGap {
        JsonGap {
            from: gap.from.offset(),
            to: gap.to.offset(),
            sequence: gap.sequence,
            next_sequence: gap.next_sequence,
            lost: gap.lost(),
            salvaged_sequence: gap.salvaged_sequence,
            resumes: gap.resumes,
            what: gap.what,
        }
    }
}

#[derive(Serialize)]
struct Summary {
    from: String,
    to: String,
    records: u64,
    first_sequence: u64,
    gaps: u64,
    gap_bytes: u64,
    lost: Option<u64>,
    /// How SRC had ended, if its terminal frame was reached.
    end: Option<String>,
}

impl Summary {
    fn of(salvaged: &Salvaged, from: &Path, to: &Path) -> Summary {
        Summary {
            from: from.display().to_string(),
            to: to.display().to_string(),
            records: salvaged.records,
            first_sequence: salvaged.first_sequence,
            gaps: salvaged.gap_count,
            gap_bytes: salvaged.gap_bytes,
            lost: salvaged.lost,
            end: salvaged.end.map(|state| state.to_string()),
        }
    }
}

impl From<SalvageError> for Failure {
    fn from(error: SalvageError) -> Failure {
        let exit = match error {
            SalvageError::Open(error) => return error.into(),
            SalvageError::Create(error) => return error.into(),
            SalvageError::Append { path, source } => return Failure::from(source).about(&path),
            SalvageError::Sync { path, source } => return Failure::from(source).about(&path),
            SalvageError::WriterLives { .. } | SalvageError::BeingSealed { .. } => Exit::Taken,
            SalvageError::Header { .. } => Exit::Damage,
            _ => Exit::Io,
        };
        Failure::new(exit, error)
    }
}
