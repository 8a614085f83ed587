//! The processes of one round, from their start to what they report.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bench::clock;
use crate::bench::part::{PART, Report, Role};
use crate::bench::plan::Plan;
use crate::exit::{Exit, Failure};
use crate::signals::Signals;

/// How often a signal is looked for, and progress shown.
const LOOK: Duration = Duration::from_millis(100);
/// How long the others may take to fail as well, once one has: what one says may explain the other.
const GRACE: Duration = Duration::from_millis(300);
/// How long after the word to begin the first record of an open loop is due, so that everybody has heard it.
const SOON: u64 = 5_000_000;

/// One process.
struct Part {
    role: Role,
    child: Child,
    stdin: Option<ChildStdin>,
    ready: bool,
    report: Option<Report>,
    ended: bool,
}

/// All of them. Whoever is still running when this is dropped is ended.
struct Cast {
    parts: Vec<Part>,
}

enum Event {
    Line(usize, String),
    End(usize),
}

/// Plays one round in `dir`: the report of each part, in their order. Part `n` runs on core `pins[n]`, the pins being
/// gone through again and again.
pub(crate) fn play(
    dir: &Path,
    plan: &Plan,
    roles: &[Role],
    pins: &[usize],
    signals: &Signals,
    mut tick: impl FnMut(Duration),
) -> Result<Vec<Report>, Failure> {
    let (sender, events) = channel();
    let mut cast = Cast { parts: Vec::new() };
    for (index, role) in roles.iter().enumerate() {
        let pin = (!pins.is_empty()).then(|| pins[index % pins.len()]);
        cast.start(dir, plan, *role, pin, &sender)?;
    }
    drop(sender);
    cast.watch(&events, signals, &mut tick)?;
    let none = || Failure::new(Exit::Io, "a part of the benchmark has reported nothing");
    cast.parts.iter_mut().map(|part| part.report.take().ok_or_else(none)).collect()
}

impl Cast {
    fn start(
        &mut self,
        dir: &Path,
        plan: &Plan,
        role: Role,
        pin: Option<usize>,
        sender: &Sender<Event>,
    ) -> Result<(), Failure> {
        let cannot = |error| Failure::io("cannot start a process", error);
        let plan = serde_json::to_string(plan).map_err(|error| cannot(error.into()))?;
        let mut child = Command::new(std::env::current_exe().map_err(cannot)?)
            .args([PART, role.name()])
            .arg(dir)
            .arg(plan)
            .args(pin.map(|core| core.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let index = self.parts.len();
        self.parts.push(Part { role, child, stdin, ready: false, report: None, ended: false });
        let sender = sender.clone();
        thread::spawn(move || {
            let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
            for line in lines.map_while(Result::ok) {
                if sender.send(Event::Line(index, line)).is_err() {
                    return;
                }
            }
            // Nobody may be listening any more.
            let _ = sender.send(Event::End(index));
        });
        Ok(())
    }

    /// Until all have ended.
    fn watch(
        &mut self,
        events: &Receiver<Event>,
        signals: &Signals,
        tick: &mut impl FnMut(Duration),
    ) -> Result<(), Failure> {
        let mut begun = None;
        let mut failures: Vec<Failure> = Vec::new();
        let mut give_up = None;
        while self.parts.iter().any(|part| !part.ended) {
            match events.recv_timeout(LOOK) {
                Ok(Event::Line(index, line)) => self.heard(index, &line)?,
                Ok(Event::End(index)) => {
                    if let Err(failure) = self.parts[index].conclude() {
                        failures.push(failure);
                        give_up.get_or_insert_with(|| Instant::now() + GRACE);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(signal) = signals.received() {
                return Err(Failure::signal(signal));
            }
            if give_up.is_some_and(|time| Instant::now() >= time) {
                break;
            }
            if begun.is_none() && self.parts.iter().all(|part| part.ready) {
                begun = Some(Instant::now());
                self.begin();
            }
            tick(begun.map_or(Duration::ZERO, |begun| begun.elapsed()));
        }
        // That a channel was abandoned is what whoever was left says.
        failures.sort_by_key(|failure| (failure.exit == Exit::Lost, failure.exit != Exit::Damage));
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    fn heard(&mut self, index: usize, line: &str) -> Result<(), Failure> {
        let part = &mut self.parts[index];
        if line == "ready" {
            part.ready = true;
            return Ok(());
        }
        let report = serde_json::from_str(line);
        let unclear =
            |error| Failure::new(Exit::Io, format_args!("the {} says: {line}: {error}", part.role.name()));
        part.report = Some(report.map_err(unclear)?);
        Ok(())
    }

    /// Tells all that they may begin, the writer last: then those who read are already reading.
    fn begin(&mut self) {
        let word = format!("{}\n", clock::now() + SOON);
        for part in self.parts.iter_mut().rev() {
            if let Some(stdin) = &mut part.stdin {
                // If it has died, it is found by its end.
                let _ = stdin.write_all(word.as_bytes());
            }
        }
    }
}

impl Part {
    /// It has closed its standard output: did it end well?
    fn conclude(&mut self) -> Result<(), Failure> {
        self.ended = true;
        let mut says = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // What cannot be read is not worth more than the exit code.
            let _ = stderr.read_to_string(&mut says);
        }
        let status = self.child.wait().map_err(|error| Failure::io("cannot wait for a process", error))?;
        if status.success() {
            return Ok(());
        }
        // Whoever interrupts from the keyboard interrupts all of them.
        if let Some(signal @ (INTERRUPT | TERMINATE)) = status.signal() {
            return Err(Failure::signal(signal));
        }
        let exit = status.code().and_then(Exit::from_code).unwrap_or(Exit::Io);
        let says = says.trim();
        let says =
            if says.is_empty() { status.to_string() } else { says.trim_start_matches("kek: ").to_owned() };
        Err(Failure::new(exit, format_args!("{}: {says}", self.role.name())))
    }
}

const INTERRUPT: i32 = Signal::SIGINT as i32;
const TERMINATE: i32 = Signal::SIGTERM as i32;

impl Drop for Cast {
    fn drop(&mut self) {
        for part in &mut self.parts {
            // One that has ended already needs neither.
            let _ = part.child.kill();
            let _ = part.child.wait();
        }
    }
}
