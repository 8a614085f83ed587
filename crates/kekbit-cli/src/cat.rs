//! `kek cat`: prints the records that are there.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use kekbit::{Channel, Start, Verify};

use crate::exit::{Exit, Failure, note};
use crate::output::{FormArgs, Output};
use crate::root::RootArgs;
use crate::source::TrustArgs;
use crate::stream::Stream;
use crate::{progress, values};

/// Print the records that are there, and end
///
/// Every record is checked before it is printed. At damage it prints the good records before it, says on standard error
/// where the damage is, and exits with 1; otherwise with 0, however the channel stands: `kek info` tells that. What is
/// good of a torn channel is printed, and standard error says that it is torn.
///
/// POS is where to begin: `start`, `end`, a sequence such as 42, -5 for the last five records, or @TIME for the first
/// record that is not older: @2026-01-01T00:00:00Z, or @-5m for five minutes ago. What is past the end prints nothing.
///
/// Of a channel of kekbit 0.3 the records are its handlers' bytes and the payload; `kek import` takes them apart. Its records have no
/// checksums, and what lies past the end of its file is damage.
///
/// With --reverse the same records are printed from the last to the first: --from and --until say which, and -n counts
/// from the last one. At damage it ends too, up to 1 MiB before the damage is reached. Of a channel of kekbit 0.3 it prints the good
/// records before the damage, and then what is wrong behind them.
///
/// Without --untrusted nobody but kekbit may write to the file or cut it while it is read.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek cat log.kek
  kek cat --from -100 --json log.kek | jq -r .ts
  kek cat --from @2026-01-01T12:00:00Z -n 10 log.kek
  kek cat --from @2026-01-01T12:00:00Z --until @2026-01-01T13:00:00Z log.kek
  kek cat --reverse --from @-1h orders/ | grep -m 1 -w AAPL
  kek cat --untrusted /tmp/of-a-stranger.kek
  kek cat --framed old.kek | kek write --framed new.kek")]
pub(crate) struct CatArgs {
    /// The channel, or the directory of a journal
    path: PathBuf,

    #[command(flatten)]
    root: RootArgs,

    /// Where to begin
    #[arg(long, value_name = "POS", value_parser = values::start, allow_hyphen_values = true, default_value = "start")]
    from: Start,

    /// Where to end: before the record at this place
    #[arg(long, value_name = "POS", value_parser = values::start, allow_hyphen_values = true)]
    until: Option<Start>,

    /// Prints the last record first
    #[arg(short, long)]
    reverse: bool,

    /// Prints at most N records
    #[arg(short = 'n', value_name = "N")]
    count: Option<u64>,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    form: FormArgs,
}

impl CatArgs {
    pub(crate) fn run(mut self) -> Result<Exit, Failure> {
        self.path = self.root.resolve(&self.path)?;
        let few = match self.reverse {
            true => self.count.is_some_and(|count| count <= FEW),
            false => is_near_end(self.from),
        };
        let options = Channel::options().verify(Verify::Always).random_access(few);
        let mut source = Stream::open(&self.path, options, self.trust)?;
        self.root.expect(&self.path, source.channel_id())?;
        let mut output = Output::stdout(self.form)?;
        output.expect(source.shape());
        let progress = match output.is_file() {
            true => progress::bar(source.expected_len(), "printing"),
            false => ProgressBar::hidden(),
        };
        let printed = match self.reverse {
            true => self.print_back(&mut source, &mut output, &progress),
            false => self.print(&mut source, &mut output, &progress),
        };
        progress.finish_and_clear();
        // The good records first, then what is wrong behind them.
        output.flush()?;
        printed.map(|()| Exit::Done).map_err(|failure| failure.about(&self.path))
    }

    fn print(&self, source: &mut Stream, output: &mut Output, progress: &ProgressBar) -> Result<(), Failure> {
        let end = there_now(source)?.min(self.end_before(source)?);
        mention_inexact_time(source, self.from);
        let mut left = self.count.unwrap_or(u64::MAX);
        if left == 0 {
            return Ok(());
        }
        let (mut shown, mut at_end) = (0, true);
        source.seek(self.from)?;
        source.try_for_each(|record| {
            if record.sequence() >= end {
                at_end = self.until.is_none();
                return Ok(ControlFlow::Break(()));
            }
            output.record(record)?;
            let at = record.position().offset();
            if at >= shown {
                progress.set_position(at);
                shown = at + PROGRESS_STEP;
            }
            left -= 1;
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if left > 0 && at_end {
            mention_torn(source);
        }
        Ok(())
    }

    fn print_back(
        &self,
        source: &mut Stream,
        output: &mut Output,
        progress: &ProgressBar,
    ) -> Result<(), Failure> {
        mention_inexact_time(source, self.from);
        let first = self.first(source)?;
        let before = self.end_before(source)?;
        let mut left = self.count.unwrap_or(u64::MAX);
        if left == 0 || before <= first {
            return Ok(());
        }
        let start = match self.until {
            Some(_) => Start::Sequence(before),
            None => Start::End,
        };
        source.seek(start)?;
        let mut damage = None;
        if start == Start::End {
            mention_torn(source);
            damage = source.damage_at_end();
        }
        let (len, mut shown) = (source.expected_len().unwrap_or(0), u64::MAX);
        source.try_for_each_back(|record| {
            if record.sequence() < first {
                return Ok(ControlFlow::Break(()));
            }
            output.record(record)?;
            let at = record.position().offset();
            if at <= shown {
                progress.set_position(len.saturating_sub(at));
                shown = at.saturating_sub(PROGRESS_STEP);
            }
            left -= 1;
            Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        damage.map_or(Ok(()), Err)
    }

    /// Sequence of the first record to be printed. Where that is told by counting or by its number, nothing on the way is looked at:
    /// going back comes to it, unless there is damage.
    fn first(&self, source: &mut Stream) -> Result<u64, Failure> {
        match self.from {
            Start::Beginning => source.first_sequence(),
            Start::Last(count) => {
                let end = source.end_point()?.map_or(0, |end| end.sequence);
                Ok(end.saturating_sub(count).max(source.first_sequence()?))
            }
            from => {
                // What has been given up is refused, as forwards.
                source.seek(from)?;
                source.sequence_at(from)
            }
        }
    }

    /// Sequence of the record before which to end.
    fn end_before(&self, source: &mut Stream) -> Result<u64, Failure> {
        let Some(until) = self.until else { return Ok(u64::MAX) };
        if matches!(until, Start::Time(_)) && !source.seeks_time_exactly() {
            let path = source.path().display();
            let place = match source.is_original() {
                true => "none is known to be before that time",
                false => "ending before the block that may hold that time",
            };
            note(format_args!("{path}: its records carry no timestamps: {place}"));
        }
        source.sequence_at(until)
    }
}

const PROGRESS_STEP: u64 = 1 << 20;

/// Sequence behind the last record that is there now: a live writer could go on for ever.
fn there_now(source: &Stream) -> Result<u64, Failure> {
    if !source.writer_lives()? {
        return Ok(u64::MAX);
    }
    // Damage is for the walk itself to find, behind the good records.
    Ok(source.end_point().ok().flatten().map_or(u64::MAX, |end| end.sequence))
}

/// A torn channel is printed as far as it is good. Says so, since more had been written.
pub(crate) fn mention_torn(source: &Stream) {
    // Where there is damage, that is reported instead.
    if source.end_point().is_ok_and(|end| end.is_some_and(|end| end.torn)) {
        note(format_args!("{}: torn: what follows is damaged or lost", source.path().display()));
    }
}

/// Whether so little is to be read that it is looked up page by page; for more, reading ahead pays.
pub(crate) fn is_near_end(start: Start) -> bool {
    matches!(start, Start::End | Start::Last(..=FEW))
}

const FEW: u64 = 1000;

/// Without timestamps a time is found by block only. Says so, since more is printed than was asked for.
pub(crate) fn mention_inexact_time(source: &Stream, start: Start) {
    if matches!(start, Start::Time(_)) && !source.seeks_time_exactly() {
        let path = source.path().display();
        let place = match source.is_original() {
            true => "beginning with the first one; `kek import` can name a TimestampHandler",
            false => "beginning with the block that may hold that time",
        };
        note(format_args!("{path}: its records carry no timestamps: {place}"));
    }
}
