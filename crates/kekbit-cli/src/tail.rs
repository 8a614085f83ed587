//! `kek tail`: prints the last records, and follows the channel until it ends.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use kekbit::{Channel, End, Journal, OpenError, Start, Wait};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cat::{is_near_end, mention_inexact_time, mention_torn};
use crate::exit::{Exit, Failure, note};
use crate::original;
use crate::output::{FormArgs, Output};
use crate::root::RootArgs;
use crate::source::{Source, TrustArgs};
use crate::stream::Stream;
use crate::values;

/// Print the last records, and follow the channel until it ends
///
/// With -f it prints each record as soon as it is there, and ends when the channel has ended: with 0 if it was closed
/// or is full, with 6 if its writer has died or timed out, or if a crash of the machine has torn it. A writer has timed
/// out when there was no new record for as long as the channel's timeout says.
///
/// Of a channel of kekbit 0.3, which has no locks, nobody can tell whether its writer has died: it is followed until it is closed or
/// times out.
///
/// A journal, which is a directory, has ended when nobody writes it: with 0 if its last channel was closed. With -F it is followed
/// further on, whoever writes it next, and waited for if it is not there yet.
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
  kek tail -F --from end orders/
  kek tail -f --durable --from start log.kek
  kek tail -f --wait=10s -n 0 --json log.kek | jq -r .data")]
pub(crate) struct TailArgs {
    /// The channel, or the directory of a journal
    path: PathBuf,

    #[command(flatten)]
    root: RootArgs,

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

    /// Follows a journal for ever, across restarts of its writer
    #[arg(short = 'F', long)]
    forever: bool,

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
    pub(crate) fn run(mut self) -> Result<Exit, Failure> {
        self.path = self.root.resolve(&self.path)?;
        let mut output = Output::stdout(self.form)?;
        if let Some(limit) = self.wait.or(self.forever.then_some(None)) {
            self.wait_for_appearance(limit)?;
        }
        let start = self.from.unwrap_or(Start::Last(self.count));
        let follow = self.follow || self.forever;
        let few = is_near_end(start) && !follow;
        let options = Channel::options().random_access(few);
        let mut stream = Stream::open(&self.path, options, self.trust)?;
        self.root.expect(&self.path, stream.channel_id())?;
        output.expect(stream.shape());
        if self.durable && matches!(stream, Stream::Original(_)) {
            let why = "--durable is for channels of today: kekbit 0.3 does not record what is synced";
            return Err(Failure::new(Exit::Usage, why).about(&self.path));
        }
        if self.forever && !matches!(stream, Stream::Journal(_)) {
            let why = "-F is for journals: a channel that has ended is never written again";
            return Err(Failure::new(Exit::Usage, why).about(&self.path));
        }
        mention_inexact_time(&stream, start);
        let start = match &mut stream {
            Stream::Channel(source) if self.durable => durable_start(source, start),
            _ => start,
        };
        let followed = stream.seek(start).and_then(|()| {
            stream.set_durable(self.durable);
            if follow {
                self.follow(&mut stream, &mut output).map(Some)
            } else {
                print(&mut stream, &mut output).map(|()| None)
            }
        });
        // The good records first, then what is wrong behind them.
        output.flush()?;
        match followed.map_err(|failure| failure.about(&self.path))? {
            None | Some(End::Closed) => Ok(Exit::Done),
            Some(end) => self.ended(end),
        }
    }

    /// Waits until there is a channel or a journal.
    fn wait_for_appearance(&self, limit: Option<Duration>) -> Result<(), Failure> {
        let (begun, path) = (Instant::now(), self.path.display());
        let mut told = self.wait.is_some();
        loop {
            // A directory becomes a journal when its writer has come so far.
            let there = match Channel::wait_for(&self.path, Wait::spin().retries(0)) {
                Ok(channel) => channel.is_some(),
                Err(OpenError::NotAFile { .. }) if self.path.is_dir() => Journal::is_at(&self.path),
                Err(error) => match original::instead(&self.path, error) {
                    Ok(_) => true,
                    Err(OpenError::BeingCreated { .. }) => false,
                    Err(error) => return Err(error.into()),
                },
            };
            if there {
                return Ok(());
            }
            if let Some(limit) = limit.filter(|limit| begun.elapsed() >= *limit) {
                let waited = values::friendly(limit);
                return Err(Failure::new(
                    Exit::Missing,
                    format_args!("{path} has not appeared within {waited}"),
                ));
            }
            if !std::mem::replace(&mut told, true) {
                note(format_args!("{path}: waiting for it to appear"));
            }
            std::thread::sleep(limit.map_or(APPEARANCE, |limit| APPEARANCE.min(limit)));
        }
    }

    /// Prints what comes until nothing more can.
    fn follow(&self, stream: &mut Stream, output: &mut Output) -> Result<End, Failure> {
        loop {
            print_all(stream, output)?;
            // Caught up: somebody may be waiting for these.
            output.flush()?;
            if let Some(record) = stream.next(Wait::backoff().at_most(LOOK_AT_OUTPUT))? {
                output.record(&record)?;
                continue;
            }
            let end = if self.forever { None } else { stream.end()? };
            if let Some(end) = end {
                // What has come between the look and the question.
                print_all(stream, output)?;
                return Ok(end);
            }
            if is_closed(output) {
                return Err(Failure::output(std::io::ErrorKind::BrokenPipe.into()));
            }
        }
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

fn print(stream: &mut Stream, output: &mut Output) -> Result<(), Failure> {
    // What a live writer appends meanwhile is not waited for, nor chased.
    let end = stream.end_point().ok().flatten().map_or(u64::MAX, |end| end.sequence);
    stream.try_for_each(|record| {
        if record.sequence() >= end {
            return Ok(ControlFlow::Break(()));
        }
        output.record(record)?;
        Ok(ControlFlow::Continue(()))
    })?;
    mention_torn(stream);
    Ok(())
}

fn print_all(stream: &mut Stream, output: &mut Output) -> Result<(), Failure> {
    stream.try_for_each(|record| {
        output.record(record)?;
        Ok(ControlFlow::Continue(()))
    })
}

/// Whether nobody reads standard output any more.
fn is_closed(output: &Output) -> bool {
    // Errors are reported without being asked for.
    let mut fds = [PollFd::new(output.file().as_fd(), PollFlags::empty())];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}
