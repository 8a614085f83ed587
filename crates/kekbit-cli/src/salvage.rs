//! `kek salvage`: copies what is still good of a damaged channel or journal.

use std::path::{Path, PathBuf};

use clap::Args;
use kekbit::{Channel, Finding, Gap, Journal, JournalFinding, JournalSalvaged, SalvageError, Salvaged};
use serde::Serialize;

use crate::exit::{Exit, Failure, note};
use crate::output::{print, print_json};
use crate::progress;
use crate::stream::expect_journal;
use crate::values::{counted, one_line};

/// Copy every record that is still good out of a damaged channel or journal
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
/// Of a journal, which is a directory, each channel is salvaged in order into the new directory DST, and what is missing between them
/// is told as holes. There, records keep their sequences as far as they are known: behind a gap a channel of its own begins with the
/// next one. Named cursors are copied.
///
/// Exits with 1 if anything is missing, with 0 if nothing is.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek salvage damaged.kek saved.kek
  kek salvage orders/ saved-orders/
  kek salvage --json damaged.kek saved.kek | jq 'select(.gap) | .gap'")]
pub(crate) struct SalvageArgs {
    /// The damaged channel, or the directory of a journal
    #[arg(value_name = "SRC")]
    from: PathBuf,

    /// The new channel, or directory
    #[arg(value_name = "DST")]
    to: PathBuf,

    /// One JSON object for each gap, hole and lost channel, then one for the whole
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
        if self.from.is_dir() {
            return self.run_journal();
        }
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
                    true => print_json(&GapLine { channel: None, gap: JsonGap::of(&gap) }),
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

    fn run_journal(&self) -> Result<Exit, Failure> {
        expect_journal(&self.from)?;
        let lens: Vec<_> = Journal::channels(&self.from)?
            .into_iter()
            .map(|path| {
                let len = path.symlink_metadata().map_or(0, |metadata| metadata.len());
                (path, len)
            })
            .collect();
        let bar = progress::bar(Some(lens.iter().map(|(_, len)| len).sum()), "salvaging");
        let before =
            |path: &Path| lens.iter().take_while(|(of, _)| of != path).map(|(_, len)| len).sum::<u64>();
        // The sum is made once for each channel.
        let (mut current, mut base) = (PathBuf::new(), 0);
        let mut printed = Ok(());
        let options = Channel::salvage_options()
            .crashed(self.crashed)
            .force_shared_file_system(self.force_shared_file_system);
        let salvaged = options.run_journal(&self.from, &self.to, |finding| {
            if let JournalFinding::Channel(path, _) = finding
                && current != path
            {
                (current, base) = (path.to_owned(), before(path));
            }
            match finding {
                JournalFinding::Channel(_, Finding::Progress(at)) => bar.set_position(base + at.offset()),
                finding if printed.is_ok() => printed = bar.suspend(|| self.tell(&finding)),
                _ => {}
            }
        });
        bar.finish_and_clear();
        let salvaged = salvaged?;
        // DST is complete, whether or not anybody reads the report.
        printed?;
        if self.json {
            print_json(&JournalSummary::of(&salvaged, &self.from, &self.to))?;
        }
        let records = counted(salvaged.records, "record");
        let (from, to) = (self.from.display(), self.to.display());
        if salvaged.is_whole() {
            note(format_args!("{from}: no damage; {to} has its {records}"));
            return Ok(Exit::Done);
        }
        let wrong: Vec<_> =
            [(salvaged.gap_count, "gap"), (salvaged.lost_channels, "lost channel"), (salvaged.holes, "hole")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, noun)| counted(count, noun))
                .collect();
        let (wrong, lost) = (wrong.join(", "), lost(salvaged.lost));
        note(format_args!("{from}: {wrong}, {lost}; {to} has the {records} that are good"));
        Ok(Exit::Damage)
    }

    /// Says what was found in a journal.
    fn tell(&self, finding: &JournalFinding<'_>) -> Result<(), Failure> {
        let line = match finding {
            JournalFinding::Channel(path, Finding::Gap(gap)) if self.json => {
                return print_json(&GapLine {
                    channel: Some(path.display().to_string()),
                    gap: JsonGap::of(gap),
                });
            }
            JournalFinding::Channel(path, Finding::Gap(gap)) => {
                format!("{}: {}\n", path.display(), in_words(gap))
            }
            JournalFinding::Lost(path, error) if self.json => {
                let (channel, error) = (path.display().to_string(), error.to_string());
                return print_json(&LostLine { lost_channel: LostChannel { channel, error } });
            }
            JournalFinding::Lost(path, error) => format!("{}: lost: {error}\n", path.display()),
            JournalFinding::Hole(from, to) if self.json => {
                return print_json(&HoleLine { hole: JsonHole { from: *from, to: *to } });
            }
            JournalFinding::Hole(from, Some(to)) => {
                format!("hole: {} from sequence {from} on; then sequence {to}\n", lost(Some(to - from)))
            }
            JournalFinding::Hole(from, None) => {
                format!("hole: {} from sequence {from} on\n", lost(None))
            }
            JournalFinding::Cursor(error) => {
                note(error);
                return Ok(());
            }
            _ => return Ok(()),
        };
        print(one_line(line.trim_end()).as_bytes()).and_then(|()| print(b"\n"))
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
    /// In which channel of a journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    gap: JsonGap,
}

#[derive(Serialize)]
struct LostLine {
    lost_channel: LostChannel,
}

#[derive(Serialize)]
struct LostChannel {
    channel: String,
    error: String,
}

#[derive(Serialize)]
struct HoleLine {
    hole: JsonHole,
}

/// Sequences: of the first record that is missing, and of the first behind it.
#[derive(Serialize)]
struct JsonHole {
    from: u64,
    to: Option<u64>,
}

#[derive(Serialize)]
struct JournalSummary {
    from: String,
    to: String,
    records: u64,
    first_sequence: u64,
    next_sequence: u64,
    channels: u64,
    gaps: u64,
    gap_bytes: u64,
    lost_channels: u64,
    holes: u64,
    lost: Option<u64>,
}

impl JournalSummary {
    fn of(salvaged: &JournalSalvaged, from: &Path, to: &Path) -> JournalSummary {
        JournalSummary {
            from: from.display().to_string(),
            to: to.display().to_string(),
            records: salvaged.records,
            first_sequence: salvaged.first_sequence,
            next_sequence: salvaged.next_sequence,
            channels: salvaged.channels,
            gaps: salvaged.gap_count,
            gap_bytes: salvaged.gap_bytes,
            lost_channels: salvaged.lost_channels,
            holes: salvaged.holes,
            lost: salvaged.lost,
        }
    }
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
