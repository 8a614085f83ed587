//! The processes of a benchmark. Each says on its standard output that it is ready, waits for the word to begin on its
//! standard input, and prints what it has measured as one line of JSON:
//!
//! ```text
//! part:   ready            as soon as its channels are there
//! parent: TIME             when all are ready: the time, by the clock that they share, at which the first record is due
//! part:   {"first":…}      when it is done
//! ```

use std::hint;
use std::io::stdin;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kekbit::{Channel, Record, Verify};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::bench::clock::{Pace, now};
use crate::bench::pattern::Pattern;
use crate::bench::plan::{Amount, Plan, WaitFor};
use crate::bench::ring::{self, ReadRing, WriteRing};
use crate::bench::timing::{Latencies, Stamps};
use crate::exit::{Exit, Failure};
use crate::output::print;

/// The first argument with which a benchmark starts itself again.
pub(crate) const PART: &str = "bench-part";

/// What the processes of a benchmark are told.
#[derive(Parser, Debug)]
pub(crate) struct PartArgs {
    role: Role,
    dir: PathBuf,
    plan: String,
    /// The core to run on.
    pin: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Appends.
    Writer,
    /// Reads what is appended.
    Reader,
    /// Reads what has been synced.
    DurableReader,
    /// Appends a record and waits for the answer.
    Ping,
    /// Answers.
    Pong,
    /// Reads what has been written before.
    Scan,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Reader => "reader",
            Role::DurableReader => "durable-reader",
            Role::Ping => "ping",
            Role::Pong => "pong",
            Role::Scan => "scan",
        }
    }
}

/// What a process has measured. Times are those of the shared clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The first record that counts: the warm-up is over.
    pub(crate) first: u64,
    /// The record behind the last.
    pub(crate) end: u64,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// Latencies in nanoseconds, and how often each was measured.
    pub(crate) latencies: Vec<(u64, u64)>,
    /// Records and when they were sent or received.
    pub(crate) stamps: Vec<(u64, u64)>,
    /// Channels that were begun.
    pub(crate) files: u64,
    /// Whether an open loop has been cut short, since it was hopelessly behind its schedule.
    pub(crate) cut_short: bool,
    /// The records of the first scan, and how long it took, from opening the channel on.
    pub(crate) first_scan: (u64, u64),
}

impl PartArgs {
    /// What this process is told, if it is part of a benchmark. No verb, so that nobody is told of it.
    pub(crate) fn from_process() -> Option<PartArgs> {
        let mut args = std::env::args_os().skip(1).peekable();
        args.peek().is_some_and(|first| first == PART).then(|| PartArgs::parse_from(args))
    }

    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let system = |error: nix::Error| Failure::io("cannot set up the process", error.into());
        // Whoever loses its parent has nobody to report to.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(system)?;
        let plan: Plan = serde_json::from_str(&self.plan)
            .map_err(|error| Failure::new(Exit::Usage, format_args!("no plan: {error}")))?;
        let part = Part { pattern: Pattern::new(plan.size), plan, dir: self.dir, pin: self.pin };
        let report = match self.role {
            Role::Writer => part.write(),
            Role::Reader => part.read(false),
            Role::DurableReader => part.read(true),
            Role::Ping => part.ping(),
            Role::Pong => part.pong(),
            Role::Scan => part.scan(),
        }?;
        crate::output::print_json(&report).map(|()| Exit::Done)
    }
}

/// A process of a benchmark.
#[derive(Debug)]
struct Part {
    plan: Plan,
    dir: PathBuf,
    pin: Option<usize>,
    pattern: Pattern,
}

/// The names of the rings.
const THERE: &str = "there";
const BACK: &str = "back";

/// How far behind its schedule an open loop may be in the end: as long as it should take, and this.
const GRACE: u64 = 1_000_000_000;

impl Part {
    /// Says that this process is ready, and waits for the others.
    fn ready(&self) -> Result<u64, Failure> {
        if let Some(core) = self.pin {
            // Only this thread: those that help it go where there is space.
            let mut cores = CpuSet::new();
            cores
                .set(core)
                .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores))
                .map_err(|error| Failure::io(format_args!("cannot run on core {core}"), error.into()))?;
        }
        print(b"ready\n")?;
        let mut line = String::new();
        stdin().read_line(&mut line).map_err(|error| Failure::io("cannot read what to do", error))?;
        line.trim().parse().map_err(|_| Failure::new(Exit::Usage, "nobody says when to begin"))
    }

    fn write(mut self) -> Result<Report, Failure> {
        let ring = WriteRing::create(&self.plan, &self.dir, THERE)?;
        let begin = self.ready()?;
        let rate = self.plan.rate;
        let pen = self.pen(ring);
        match rate {
            None => pen.without_pause(),
            Some(rate) => pen.by_schedule(Pace::new(begin, rate)),
        }
    }

    fn pen(&mut self, ring: WriteRing) -> Pen<'_> {
        let (latencies, stamps) = (Latencies::new(&self.plan), Stamps::new(&self.plan));
        Pen { part: self, ring, sequence: 0, latencies, stamps }
    }

    fn read(self, durable: bool) -> Result<Report, Failure> {
        let ring = ReadRing::open(&self.plan, &self.dir, THERE, durable)?;
        let begin = self.ready()?;
        self.follow(ring, begin)
    }

    fn follow(&self, mut ring: ReadRing, begin: u64) -> Result<Report, Failure> {
        let Part { plan, pattern, .. } = self;
        let pace = plan.rate.map(|rate| Pace::new(begin, rate));
        let (first, last) = plan.records().map_or((0, None), |(warmup, more)| (warmup, Some(warmup + more)));
        let wait = plan.wait.wait();
        let (mut latencies, mut stamps) = (Latencies::new(plan), Stamps::new(plan));
        let (mut sequence, mut ended) = (0, None);
        while let Some(wrong) = ring.next(wait, |record| check(pattern, sequence, record))? {
            wrong?;
            if let Some(pace) = &pace {
                if sequence == latencies.next {
                    latencies.take(now().saturating_sub(pace.due(sequence)), sequence >= first);
                }
            } else if sequence == stamps.next {
                stamps.take(now());
            }
            sequence += 1;
            if last == Some(sequence) {
                ended = Some(now());
            }
        }
        let ended = ended.unwrap_or_else(now);
        let (latencies, stamps) = (latencies.counts(), stamps.taken);
        Ok(Report { first, end: sequence, ended, latencies, stamps, ..Report::default() })
    }

    fn ping(mut self) -> Result<Report, Failure> {
        let mut there = WriteRing::create(&self.plan, &self.dir, THERE)?;
        let mut back = ReadRing::open(&self.plan, &self.dir, BACK, false)?;
        let begin = self.ready()?;
        let plan = self.plan.clone();
        let (wait, mut latencies) = (plan.wait.wait(), Latencies::new(&plan));
        let mut sequence = 0;
        let mut round_trip = |due: Option<u64>, sequence: u64| -> Result<(u64, u64), Failure> {
            let mut sent = now();
            if let Some(due) = due {
                sent = wait_until(due, sent, plan.wait);
            }
            there.append(self.pattern.record(sequence))?;
            let answer = back.next(wait, |record| check(&self.pattern, sequence, record))?;
            let received = now();
            answer
                .unwrap_or_else(|| Err(Failure::new(Exit::Lost, "the channel of the answers has ended")))?;
            Ok((due.unwrap_or(sent), received))
        };
        let (mut report, mut cut_short) = (Report::default(), false);
        for (amount, counts) in [(plan.warmup, false), (plan.amount, true)] {
            let pace = plan.rate.map(|rate| Pace::new(begin, rate));
            let records = amount.records(plan.rate).unwrap_or(u64::MAX);
            let began = pace.map_or_else(now, |pace| pace.due(sequence));
            let limit = match (amount, plan.rate) {
                (Amount::Nanos(nanos), None) => began.saturating_add(nanos),
                (_, Some(rate)) => hopeless(began, records, rate),
                _ => u64::MAX,
            };
            let (first, mut received) = (sequence, began);
            while sequence - first < records && received < limit {
                let (sent, now) = round_trip(pace.map(|pace| pace.due(sequence)), sequence)?;
                received = now;
                latencies.take(received.saturating_sub(sent), counts);
                sequence += 1;
            }
            cut_short |= plan.rate.is_some() && sequence - first < records;
            report = Report { first, end: sequence, began, ended: received, ..report };
        }
        report = Report { files: there.files, latencies: latencies.counts(), cut_short, ..report };
        there.close()?;
        // The other side ends its channel, too.
        match back.next(wait, |_| ())? {
            None => Ok(report),
            Some(()) => Err(Failure::new(Exit::Damage, "there are more answers than questions")),
        }
    }

    fn pong(self) -> Result<Report, Failure> {
        let mut back = WriteRing::create(&self.plan, &self.dir, BACK)?;
        let mut there = ReadRing::open(&self.plan, &self.dir, THERE, false)?;
        self.ready()?;
        let wait = self.plan.wait.wait();
        let mut sequence = 0;
        while let Some(appended) = there.next(wait, |record| {
            check(&self.pattern, sequence, record)?;
            back.append(record.payload())
        })? {
            appended?;
            sequence += 1;
        }
        let files = back.files;
        back.close()?;
        Ok(Report { end: sequence, files, ..Report::default() })
    }

    /// Reads a closed channel: once with everything that the first time takes, then again.
    fn scan(self) -> Result<Report, Failure> {
        self.ready()?;
        self.pass()
    }

    fn pass(&self) -> Result<Report, Failure> {
        let Part { plan, pattern, .. } = self;
        let opening = now();
        let verify = if plan.verify { Verify::Always } else { Verify::Never };
        let channel = Channel::options().verify(verify).open(ring::path(&self.dir, THERE, 0))?;
        let first = walk(&channel)?;
        let first_scan = (first, (now() - opening).max(1));
        let mut report = Report { first_scan, began: now(), ..Report::default() };
        let limit = match plan.amount {
            Amount::Nanos(nanos) => report.began.saturating_add(nanos),
            Amount::Records(_) => 0,
        };
        loop {
            report.end += walk(&channel)?;
            report.ended = now();
            if report.ended >= limit {
                break;
            }
        }
        // What was read, and not only that something was.
        let mut sequence = 0;
        for record in channel.records() {
            check(pattern, sequence, &record?)?;
            sequence += 1;
        }
        if [first, sequence] != [plan.scanned; 2] {
            let wrong = format_args!("{first} and {sequence} of {} records have been read", plan.scanned);
            return Err(Failure::new(Exit::Damage, wrong));
        }
        Ok(report)
    }
}

/// How many records there are; each is looked at as far as the library does.
fn walk(channel: &Channel) -> Result<u64, Failure> {
    let mut count = 0;
    for record in channel.records() {
        hint::black_box(record?.payload());
        count += 1;
    }
    Ok(count)
}

/// Compares each byte of a record with what was written.
#[inline]
fn check(pattern: &Pattern, sequence: u64, record: &Record<'_>) -> Result<(), Failure> {
    if record.sequence() == sequence && pattern.matches(sequence, record.payload()) {
        return Ok(());
    }
    Err(mismatch(pattern, sequence, record))
}

#[cold]
fn mismatch(pattern: &Pattern, sequence: u64, record: &Record<'_>) -> Failure {
    let what = match record.sequence() == sequence {
        true => pattern.difference(sequence, record.payload()),
        false => format!("it says that it is record {}", record.sequence()),
    };
    let position = record.position().offset();
    Failure::new(
        Exit::Damage,
        format_args!("record {sequence} at position {position} is not what was written: {what}"),
    )
}

/// When an open loop that began at `began` is not worth going on with.
fn hopeless(began: u64, records: u64, rate: u64) -> u64 {
    let planned = u128::from(records) * 1_000_000_000 / u128::from(rate);
    began.saturating_add(u64::try_from(2 * planned).unwrap_or(u64::MAX)).saturating_add(GRACE)
}

/// Waits until it is `due`; `time` is the time now. Returns the time then.
#[inline]
fn wait_until(due: u64, mut time: u64, wait: WaitFor) -> u64 {
    while time < due {
        match wait {
            WaitFor::Spin => hint::spin_loop(),
            WaitFor::Yield => thread::yield_now(),
            // Sleeping takes some 60 µs longer than it should.
            WaitFor::Backoff if due - time > 200_000 => {
                thread::sleep(Duration::from_nanos(due - time - 100_000));
            }
            WaitFor::Backoff => thread::yield_now(),
        }
        time = now();
    }
    time
}

/// The writer at work.
struct Pen<'a> {
    part: &'a mut Part,
    ring: WriteRing,
    sequence: u64,
    latencies: Latencies,
    stamps: Stamps,
}

impl Pen<'_> {
    #[inline]
    fn append(&mut self) -> Result<(), Failure> {
        self.ring.append(self.part.pattern.record(self.sequence))?;
        self.sequence += 1;
        Ok(())
    }

    fn without_pause(mut self) -> Result<Report, Failure> {
        let plan = self.part.plan.clone();
        // Between two looks at the clock about 100 µs pass.
        let look = if plan.syncs_each() { 1 } else { (100_000 / (plan.size as u64 / 8 + 8)).clamp(1, 1024) };
        let mut report = Report::default();
        for (amount, counts) in [(plan.warmup, false), (plan.amount, true)] {
            let (mut left, nanos) = match amount {
                Amount::Records(records) => (records, u64::MAX),
                Amount::Nanos(nanos) => (u64::MAX, nanos),
            };
            let (first, began) = (self.sequence, now());
            let limit = began.saturating_add(nanos);
            while left > 0 {
                let some = left.min(look);
                for _ in 0..some {
                    self.timed(&plan, counts)?;
                }
                left -= some;
                if limit < u64::MAX && now() >= limit {
                    break;
                }
            }
            report = Report { first, began, end: self.sequence, ended: now(), ..report };
        }
        self.finish(report)
    }

    /// Appends, and takes the time now and then.
    #[inline]
    fn timed(&mut self, plan: &Plan, counts: bool) -> Result<(), Failure> {
        if plan.times_appends {
            if self.sequence == self.latencies.next {
                let before = now();
                self.append()?;
                self.latencies.take(now() - before, counts);
                return Ok(());
            }
        } else if self.sequence == self.stamps.next {
            self.stamps.take(now());
        }
        self.append()
    }

    fn by_schedule(mut self, pace: Pace) -> Result<Report, Failure> {
        let plan = self.part.plan.clone();
        let (warmup, records) = plan.records().unwrap_or_default();
        let rate = plan.rate.unwrap_or(1);
        let limit = hopeless(pace.due(0), warmup + records, rate);
        let mut time = now();
        let mut report = Report { first: warmup, began: pace.due(warmup), ..Report::default() };
        while self.sequence < warmup + records {
            let (sequence, due) = (self.sequence, pace.due(self.sequence));
            if time < due {
                time = wait_until(due, time, plan.wait);
            } else if sequence.is_multiple_of(64) || plan.syncs_each() {
                time = now();
                if time >= limit {
                    report.cut_short = true;
                    break;
                }
            }
            self.append()?;
            if plan.times_appends && sequence == self.latencies.next {
                time = now();
                self.latencies.take(time.saturating_sub(due), sequence >= warmup);
            }
        }
        report.end = self.sequence;
        report.ended = now();
        if report.end <= report.first {
            let slow = "not even the warm-up was over after twice its time: choose a lower --rate";
            return Err(Failure::new(Exit::Usage, slow));
        }
        self.finish(report)
    }

    fn finish(self, report: Report) -> Result<Report, Failure> {
        let report = Report {
            files: self.ring.files,
            latencies: self.latencies.counts(),
            stamps: self.stamps.taken,
            ..report
        };
        self.ring.close()?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use kekbit::{Wait, Writer};

    use super::*;
    use crate::bench::plan::{FILES, small};

    fn part(plan: &Plan, dir: &std::path::Path) -> Part {
        Part { pattern: Pattern::new(plan.size), plan: plan.clone(), dir: dir.to_owned(), pin: None }
    }

    #[test]
    fn records_follow_through_many_files_and_no_more_than_three_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let plan = small(96, 1000, 4096);
        assert!(plan.files.unwrap() > 10);
        let mut writer = WriteRing::create(&plan, dir.path(), THERE).unwrap();
        let (reading, path) = (plan.clone(), dir.path().to_owned());
        let reader = thread::spawn(move || {
            let mut ring = ReadRing::open(&reading, &path, THERE, false).unwrap();
            let pattern = Pattern::new(reading.size);
            let mut sequence = 0;
            while let Some(checked) =
                ring.next(Wait::yielding(), |record| check(&pattern, sequence, record)).unwrap()
            {
                checked.unwrap();
                sequence += 1;
            }
            sequence
        });
        let mut pattern = Pattern::new(plan.size);
        for sequence in 0..1000 {
            writer.append(pattern.record(sequence)).unwrap();
        }
        assert_eq!(writer.files, plan.files.unwrap());
        writer.close().unwrap();
        assert_eq!(reader.join().unwrap(), 1000);
        assert!(std::fs::read_dir(dir.path()).unwrap().count() as u64 <= FILES);
    }

    #[test]
    fn what_was_not_written_is_found() {
        let plan = small(96, 3, 4096);
        let mut pattern = Pattern::new(plan.size);
        let mut good: Vec<Vec<u8>> = (0..3).map(|sequence| pattern.record(sequence).to_vec()).collect();
        good[1][50] ^= 4;
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(ring::path(dir.path(), THERE, 0)).unwrap();
        for record in &good {
            writer.append(record).unwrap();
        }
        writer.close().unwrap();
        let part = part(&plan, dir.path());
        let mut ring = ReadRing::open(&plan, dir.path(), THERE, false).unwrap();
        let mut next = |sequence| {
            ring.next(Wait::spin(), |record| check(&part.pattern, sequence, record)).unwrap().unwrap()
        };
        assert!(next(0).is_ok());
        let failure = next(1).unwrap_err();
        assert_eq!(failure.exit, Exit::Damage);
        let says = failure.message().unwrap();
        assert!(says.starts_with("record 1 at position 104 is not what was written: byte 50 is"), "{says}");
        assert!(next(3).is_err(), "a record that is missing");
    }

    #[test]
    fn an_open_loop_counts_from_when_a_record_was_due() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { rate: Some(1), times_appends: true, ..small(96, 10, 4096) };
        let mut part = part(&plan, dir.path());
        // One a second was due, the last one a second ago, whenever it is sent.
        let begin = now() - 10_000_000_000;
        let ring = WriteRing::create(&plan, dir.path(), THERE).unwrap();
        let written = part.pen(ring).by_schedule(Pace::new(begin, 1)).unwrap();
        let ring = ReadRing::open(&plan, dir.path(), THERE, false).unwrap();
        let read = part.follow(ring, begin).unwrap();
        for report in [written, read] {
            assert_eq!((report.first, report.end, report.cut_short), (0, 10, false), "{report:?}");
            assert_eq!(report.latencies.iter().map(|(_, count)| count).sum::<u64>(), 10);
            for (index, (nanos, _)) in report.latencies.iter().enumerate() {
                assert!(*nanos >= (index as u64 + 1) * 999_000_000, "{report:?}");
            }
        }
    }

    #[test]
    fn an_open_loop_that_cannot_keep_up_ends() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { rate: Some(1000), ..small(96, 10, 4096) };
        let mut part = part(&plan, dir.path());
        let ring = WriteRing::create(&plan, dir.path(), THERE).unwrap();
        let failure = part.pen(ring).by_schedule(Pace::new(now() - 10_000_000_000, 1000)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message().unwrap().contains("choose a lower --rate"));
    }

    #[test]
    fn a_scan_finds_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { scanned: 10, ..small(96, 10, 4096) };
        let ring = WriteRing::create(&plan, dir.path(), THERE).unwrap();
        let report = part(&plan, dir.path()).pen(ring).without_pause().unwrap();
        assert_eq!((report.first, report.end, report.files), (0, 10, 1));
        let scanned = part(&plan, dir.path()).pass().unwrap();
        assert_eq!((scanned.first_scan.0, scanned.end), (10, 10));
        let more = Plan { scanned: 11, ..plan };
        let failure = part(&more, dir.path()).pass().unwrap_err();
        assert_eq!(failure.message(), Some("10 and 10 of 11 records have been read"));
    }
}
