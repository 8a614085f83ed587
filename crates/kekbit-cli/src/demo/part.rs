//! The processes of the demonstration: a writer that fills a channel, and readers that check what they read.
//!
//! Each prints a line now and then, and a last one with how it ended:
//!
//! ```text
//! RECORDS BYTES NANOSECONDS END
//! ```

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use kekbit::{AppendError, Channel, End, Start, Wait, Writer};

use crate::demo::PART;
use crate::exit::{Exit, Failure};
use crate::output::print;

/// What the processes of the demonstration are told.
#[derive(Parser, Debug)]
pub(crate) struct PartArgs {
    role: Role,
    path: PathBuf,
    records: u64,
    millis: u64,
    rate: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Role {
    Writer,
    Reader,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Reader => "reader",
        }
    }
}

/// How far a process has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Report {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Since the first record.
    pub(crate) nanos: u64,
    /// How the channel ended, or `running`.
    pub(crate) end: String,
}

impl Report {
    pub(crate) fn parse(line: &str) -> Option<Report> {
        let mut words = line.split(' ');
        let mut number = || words.next()?.parse().ok();
        let (records, bytes, nanos) = (number()?, number()?, number()?);
        let end = words.next()?.to_owned();
        words.next().is_none().then_some(Report { records, bytes, nanos, end })
    }
}

/// Counts, and reports from time to time.
struct Progress {
    records: u64,
    bytes: u64,
    begun: Option<Instant>,
    ended: Option<Duration>,
    reported: Instant,
    /// Records between two looks at the clock.
    look: u64,
}

const REPORT: Duration = Duration::from_millis(100);
/// Records between two looks at the clock, at the most.
const LOOK: u64 = 512;
/// Looks at the clock for each second, at least.
const LOOKS: u64 = 50;
/// A record of the demonstration: a line of text of this length that begins with its number.
const RECORD: usize = 64;
/// How long the readers wait for the channel to appear, and then for a sign of life.
const PATIENCE: Duration = Duration::from_secs(30);

impl Progress {
    fn new(rate: u64) -> Progress {
        let look = if rate == 0 { LOOK } else { (rate / LOOKS).clamp(1, LOOK) };
        Progress { records: 0, bytes: 0, begun: None, ended: None, reported: Instant::now(), look }
    }

    fn count(&mut self, len: usize) -> Result<(), Failure> {
        self.begun.get_or_insert_with(Instant::now);
        self.records += 1;
        self.bytes += len as u64;
        if self.records.is_multiple_of(self.look) && self.reported.elapsed() >= REPORT {
            self.reported = Instant::now();
            return self.report("running");
        }
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.ended.or_else(|| Some(self.begun?.elapsed())).unwrap_or_default()
    }

    fn report(&self, end: &str) -> Result<(), Failure> {
        let nanos = self.elapsed().as_nanos();
        print(format!("{} {} {nanos} {end}\n", self.records, self.bytes).as_bytes())
    }
}

impl PartArgs {
    /// What this process is told, if it is part of a demonstration. No verb, so that nobody is told of it.
    pub(crate) fn from_process() -> Option<PartArgs> {
        let mut args = std::env::args_os().skip(1).peekable();
        args.peek().is_some_and(|first| first == PART).then(|| PartArgs::parse_from(args))
    }

    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let result = match self.role {
            Role::Writer => self.write(),
            Role::Reader => self.read(),
        };
        result.map(|()| Exit::Done)
    }

    fn write(&self) -> Result<(), Failure> {
        let capacity = self.records.saturating_mul(RECORD as u64 + 8).saturating_add(1 << 20);
        let mut writer = Writer::options().capacity(capacity).create(&self.path)?;
        let (mut progress, mut line) = (Progress::new(self.rate), [0; RECORD]);
        let limit = Duration::from_millis(self.millis);
        while progress.records < self.records {
            if progress.records.is_multiple_of(progress.look) {
                let elapsed = progress.elapsed();
                if elapsed >= limit {
                    break;
                }
                let due = progress.records.saturating_mul(1_000_000_000).checked_div(self.rate).unwrap_or(0);
                if let Some(early) = Duration::from_nanos(due).checked_sub(elapsed) {
                    thread::sleep(early.min(limit - elapsed));
                }
            }
            fill(&mut line, progress.records);
            match writer.append(&line) {
                Ok(_) => progress.count(line.len())?,
                Err(AppendError::Full { .. }) => return progress.report("full"),
                Err(error) => return Err(error.into()),
            }
        }
        // Closing syncs everything, which is not part of the rate.
        progress.ended = progress.begun.map(|begun| begun.elapsed());
        writer.close()?;
        progress.report("closed")
    }

    fn read(&self) -> Result<(), Failure> {
        let never = || Failure::new(Exit::Missing, "the channel has not appeared");
        let channel = Channel::wait_for(&self.path, Wait::backoff().at_most(PATIENCE))?.ok_or_else(never)?;
        let mut reader = channel.reader(Start::Beginning)?;
        reader.set_timeout(Some(PATIENCE));
        let (mut progress, mut expected) = (Progress::new(self.rate), [0; RECORD]);
        while let Some(record) = reader.next(Wait::backoff())? {
            fill(&mut expected, progress.records);
            if record.sequence() != progress.records || record.payload() != expected {
                let wrong = format_args!("record {} is not what was written", progress.records);
                return Err(Failure::new(Exit::Damage, wrong));
            }
            progress.count(record.len())?;
        }
        progress.report(match reader.end() {
            Some(End::Closed) => "closed",
            Some(End::Full) => "full",
            Some(End::Torn) => "torn",
            Some(End::TimedOut) => "timed-out",
            _ => "abandoned",
        })
    }
}

/// The record with this number: its digits, then letters that depend on it.
fn fill(line: &mut [u8; RECORD], number: u64) {
    let mut rest = number;
    for digit in line[..DIGITS].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line[DIGITS] = b' ';
    line[DIGITS + 1..].fill(b'a' + (number % 26) as u8);
}

const DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_parsed_and_anything_else_is_not() {
        let report = Report { records: 3, bytes: 192, nanos: 5, end: "closed".into() };
        assert_eq!(Report::parse("3 192 5 closed"), Some(report));
        for line in ["", "3 192 5", "3 192 5 closed again", "kek: no space"] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }

    #[test]
    fn records_differ_and_begin_with_their_number() {
        let (mut a, mut b) = ([0; RECORD], [0; RECORD]);
        fill(&mut a, 1234);
        fill(&mut b, 1235);
        assert!(a.starts_with(b"00000000000000001234 ") && a != b);
    }
}
