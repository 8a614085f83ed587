//! `kek demo`: the whole thing in one command.
//!
//! It starts itself again, once as a writer and several times as a reader; see [`part`] for what these do. They report
//! on their standard outputs, and one thread for each passes that on to the one that prints.

pub(crate) mod part;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, IsTerminal, Write as _, stderr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::demo::part::{Report, Role};
use crate::exit::{Exit, Failure, note};
use crate::output::print;
use crate::signals::Signals;
use crate::values::{self, counted};

/// The first argument with which the demonstration starts itself again.
pub(crate) const PART: &str = "demo-part";

/// Show the whole thing: one writer process, several reader processes, a channel in a temporary directory
///
/// Shows live what has been written and what each reader has read, and in the end how the channel ended. Each reader
/// checks that it sees every record, in order and unchanged; the exit code is 0 only if all do.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek demo
  kek demo --readers 8 --duration 10s
  kek demo --rate 0 --records 10000000")]
pub(crate) struct DemoArgs {
    /// How many readers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=64))]
    readers: u64,

    /// The writer ends after so many records
    #[arg(long, value_name = "N", default_value_t = 1_500_000)]
    records: u64,

    /// The writer ends after this time
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "3s")]
    duration: Duration,

    /// Records a second, so that there is something to watch; 0 is as fast as possible
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    rate: u64,
}

/// How often a terminal is refreshed, and how often a line is printed elsewhere.
const REFRESH: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);

impl DemoArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let signals = Signals::install().map_err(|error| Failure::io("cannot handle signals", error))?;
        let dir = tempfile::Builder::new()
            .prefix("kek-demo-")
            .tempdir()
            .map_err(|error| Failure::io("cannot create a temporary directory", error))?;
        let path = dir.path().join("demo.kek");
        let readers = counted(self.readers, "reader");
        print(format!("one writer, {readers}, one channel: {}\n", path.display()).as_bytes())?;
        let (sender, reports) = channel();
        let mut cast = Cast { parts: Vec::new() };
        // The readers first: they wait for the channel to appear.
        for number in 1..=self.readers {
            cast.start(Role::Reader, format!("reader {number}"), &path, &self, &sender)?;
        }
        cast.start(Role::Writer, "writer".into(), &path, &self, &sender)?;
        // What is left are the senders of the parts, so that the reports end with the last of them.
        drop(sender);
        let watched = cast.watch(&reports, &signals);
        if stderr().is_terminal() {
            let _ = stderr().write_all(b"\r\x1b[K");
        }
        match watched? {
            Some(signal) => Ok(Exit::Signal(signal)),
            None => cast.conclude(),
        }
    }
}

/// One process of the demonstration, and what it has reported.
struct Part {
    name: String,
    child: Child,
    last: Report,
    error: Option<String>,
}

/// All of them; the writer is the last. Whoever is still running when this is dropped is ended.
struct Cast {
    parts: Vec<Part>,
}

/// A line that a part has printed.
struct Line {
    part: usize,
    text: String,
}

impl Cast {
    fn start(
        &mut self,
        role: Role,
        name: String,
        path: &Path,
        args: &DemoArgs,
        sender: &Sender<Line>,
    ) -> Result<(), Failure> {
        let cannot = |error| Failure::io("cannot start a process", error);
        let mut child = Command::new(std::env::current_exe().map_err(cannot)?)
            .arg(PART)
            .arg(role.name())
            .arg(path)
            .args([args.records.to_string(), args.duration.as_millis().to_string(), args.rate.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let stdout = child.stdout.take();
        let part = self.parts.len();
        self.parts.push(Part { name, child, last: Report::default(), error: None });
        let sender = sender.clone();
        thread::spawn(move || {
            for text in
                stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok)
            {
                if sender.send(Line { part, text }).is_err() {
                    break;
                }
            }
        });
        Ok(())
    }

    /// Shows what is reported until all have ended; the signal that has cut it short, if one has.
    fn watch(&mut self, reports: &Receiver<Line>, signals: &Signals) -> Result<Option<i32>, Failure> {
        let live = stderr().is_terminal();
        let interval = if live { REFRESH } else { LINE };
        let (begun, mut shown) = (Instant::now(), Instant::now());
        loop {
            match reports.recv_timeout(REFRESH) {
                Ok(line) => match Report::parse(&line.text) {
                    Some(report) => self.parts[line.part].last = report,
                    None => self.parts[line.part].error = Some(line.text),
                },
                Err(RecvTimeoutError::Timeout) => self.look_after_writer()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(signal) = signals.received() {
                return Ok(Some(signal));
            }
            if shown.elapsed() >= interval {
                shown = Instant::now();
                let (start, end) = if live { ("\r\x1b[K", "") } else { ("", "\n") };
                // Whether it is seen does not matter.
                let _ =
                    stderr().write_all(format!("{start}{}{end}", self.status(begun.elapsed())).as_bytes());
            }
        }
        Ok(None)
    }

    /// Without a channel the readers would wait for it in vain.
    fn look_after_writer(&mut self) -> Result<(), Failure> {
        let Some(writer) = self.parts.last_mut().filter(|writer| writer.last.end.is_empty()) else {
            return Ok(());
        };
        match writer.child.try_wait() {
            Ok(Some(status)) if !status.success() => {
                Err(Failure::new(Exit::Io, format_args!("the writer has failed: {status}")))
            }
            _ => Ok(()),
        }
    }

    fn status(&self, elapsed: Duration) -> String {
        let mut status = format!("{:4.1} s", elapsed.as_secs_f64());
        for part in self.parts.iter().rev() {
            // Writing to a string does not fail.
            let _ = write!(status, "  {} {}", part.name, part.last.records);
        }
        status
    }

    /// Says what was written, what each has read, and how it ended.
    fn conclude(mut self) -> Result<Exit, Failure> {
        let written = self.parts.last().map_or(0, |writer| writer.last.records);
        let mut table = format!("{:<10} {:>12} {:>14} {:>12}  end\n", "", "records", "bytes", "records/s");
        let mut wrong = Vec::new();
        for part in self.parts.iter_mut().rev() {
            let status =
                part.child.wait().map_err(|error| Failure::io("cannot wait for a process", error))?;
            let Report { records, bytes, nanos, ref end } = part.last;
            let rate = records as f64 / (nanos.max(1) as f64 / 1e9);
            let _ = writeln!(table, "{:<10} {records:>12} {bytes:>14} {rate:>12.0}  {end}", part.name);
            if let Some(error) = part.error.take() {
                wrong.push(format!("{}: {error}", part.name));
            } else if !status.success() {
                wrong.push(format!("{}: {status}", part.name));
            } else if records != written {
                wrong.push(format!("{}: {records} of {written} records", part.name));
            } else if end != "closed" {
                wrong.push(format!("{}: ended {end}, not closed", part.name));
            }
        }
        print(table.as_bytes())?;
        if wrong.is_empty() {
            print(b"every reader has seen every record, in order and unchanged\n")?;
            return Ok(Exit::Done);
        }
        wrong.iter().for_each(note);
        Err(Failure::new(Exit::Damage, "not every reader has seen every record"))
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for part in &mut self.parts {
            // One that has ended already needs neither.
            let _ = part.child.kill();
            let _ = part.child.wait();
        }
    }
}
