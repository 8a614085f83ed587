//! `kek tail`: prints the last records, and follows the channel until it ends.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kekbit::{Channel, End, Start, Wait};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cat::{is_near_end, mention_inexact_time, mention_torn};
use crate::exit::{Exit, Failure, note};
use crate::output::{FormArgs, Output};
use crate::source::{Source, TrustArgs};
use crate::values;

/// Print the last records, and follow the channel until it ends
///
/// With -f it prints each record as soon as it is there, and ends when the channel has ended: with 0 if it was closed
/// or is full, with 6 if its writer has died or timed out, or if a crash of the machine has torn it. A writer has timed
/// out when there was no new record for as long as the channel's timeout says.
///
/// With --durable it prints a record only once a sync has reached it, so that nothing is printed that a crash of the
/// machine could undo; with -f, what a dead writer has never synced ends it with 6. -n then counts what is durable.
///
/// POS is where to begin instead: `start`, `end`, a sequence such as 42, -5 for the last five records, or @TIME for the
/// first record that is not older: @2026-01-01T00:00:00Z, or @-5m for five minutes ago. What is past the end is waited
/// for with -f, and prints nothing without.
///
/// Without --untrusted nobody but kekbit may write to the file or cut it while it is read.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek tail log.kek
  kek tail -f --from start log.kek
  kek tail -f --wait --from start not-there-yet.kek
  kek tail -f --durable --from start log.kek
  kek tail -f --wait=10s -n 0 --json log.kek | jq -r .data")]
pub(crate) struct TailArgs {
    /// The channel
    path: PathBuf,

    /// Begins with the last N records that are there
    #[arg(short = 'n', value_name = "N", default_value_t = 10)]
    count: u64,

    /// Where to begin
    #[arg(
        long, value_name = "POS", value_parser = values::start, allow_hyphen_values = true,
        conflicts_with = "count"
    )]
    from: Option<Start>,

    /// Follows the channel until it ends
    #[arg(short, long)]
    follow: bool,

    /// Prints only what is durable: stops at the synced tail
    #[arg(long)]
    durable: bool,

    /// Waits for the channel to appear, for ever or at most so long; exits with 3 if it does not
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, value_parser = values::duration)]
    wait: Option<Option<Duration>>,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    form: FormArgs,
}

/// How long a channel that does not appear goes unnoticed when it does, at the most.
const APPEARANCE: Duration = Duration::from_millis(5);
/// How often an idle follower looks whether anybody still reads what it prints.
const LOOK_AT_OUTPUT: Duration = Duration::from_millis(500);

impl TailArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut output = Output::stdout(self.form)?;
        if let Some(limit) = self.wait {
            self.wait_for_channel(limit)?;
        }
        let start = self.from.unwrap_or(Start::Last(self.count));
        let few = is_near_end(start) && !self.follow;
        let options = Channel::options().random_access(few);
        let mut source = Source::open(&self.path, options, self.trust)?;
        mention_inexact_time(&source, start);
        let start = if self.durable { durable_start(&mut source, start) } else { start };
        let followed = source.seek(start).map_err(Failure::from).and_then(|()| {
            source.set_durable(self.durable);
            if self.follow {
                follow(&mut source, &mut output).map(Some)
            } else {
                print(&mut source, &mut output).map(|()| None)
            }
        });
        // The good records first, then what is wrong behind them.
        output.flush()?;
        match followed.map_err(|failure| failure.about(&self.path))? {
            None | Some(End::Closed) => Ok(Exit::Done),
            Some(end) => self.ended(end),
        }
    }

    fn wait_for_channel(&self, limit: Option<Duration>) -> Result<(), Failure> {
        let wait = Wait::backoff_up_to(APPEARANCE);
        let wait = limit.map_or(wait, |limit| wait.at_most(limit));
        if Channel::wait_for(&self.path, wait)?.is_some() {
            return Ok(());
        }
        let waited = values::friendly(limit.unwrap_or_default());
        let path = self.path.display();
        Err(Failure::new(Exit::Missing, format_args!("{path} has not appeared within {waited}")))
    }

    fn ended(&self, end: End) -> Result<Exit, Failure> {
        let lost = |what| Err(Failure::new(Exit::Lost, what).about(&self.path));
        match end {
            End::Full => {
                note(format_args!("{}: the channel is full", self.path.display()));
                Ok(Exit::Done)
            }
            End::Torn => lost("torn: the machine has crashed, and what was not synced is damaged or lost"),
            End::Unsynced => {
                lost("abandoned: the writer is dead; what it has not synced has not been printed")
            }
            End::TimedOut => lost("timed out: no new record for as long as the channel's timeout says"),
            _ => lost("abandoned: the writer is dead; everything that it appended has been printed"),
        }
    }
}

/// Where to begin if only what is durable counts.
fn durable_start(source: &mut Source, start: Start) -> Start {
    let synced = Start::Position(source.synced_tail());
    match start {
        // A channel that has ended is durable to its end, or not known to be so.
        Start::Last(_) | Start::End if source.seek(synced).is_err() => start,
        Start::Last(count) => {
            Start::Sequence(source.sequence().saturating_sub(count).max(source.first_sequence()))
        }
        Start::End => synced,
        other => other,
    }
}

fn print(source: &mut Source, output: &mut Output) -> Result<(), Failure> {
    // What a live writer appends meanwhile is not waited for, nor chased.
    let end = source.end_point().map_or(u64::MAX, |end| end.sequence);
    while let Some(record) = source.try_next()?.filter(|record| record.sequence() < end) {
        output.record(&record)?;
    }
    mention_torn(source);
    Ok(())
}

fn follow(source: &mut Source, output: &mut Output) -> Result<End, Failure> {
    loop {
        while let Some(record) = source.try_next()? {
            output.record(&record)?;
        }
        // Caught up: somebody may be waiting for these.
        output.flush()?;
        if let Some(record) = source.next(Wait::backoff().at_most(LOOK_AT_OUTPUT))? {
            output.record(&record)?;
        } else if let Some(end) = source.end() {
            return Ok(end);
        } else if is_closed(output) {
            return Err(Failure::output(std::io::ErrorKind::BrokenPipe.into()));
        }
    }
}

/// Whether nobody reads standard output any more.
fn is_closed(output: &Output) -> bool {
    // Errors are reported without being asked for.
    let mut fds = [PollFd::new(output.file().as_fd(), PollFlags::empty())];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}
