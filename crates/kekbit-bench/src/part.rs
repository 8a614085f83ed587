//! A process that plays a role, as the coordinator sees it: it says lines, is told to go, and is killed if it hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::Result;

/// Characters of what a role complains of that are shown.
const COMPLAINT: usize = 500;
/// How often a part that is waited for looks whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Until when a measurement may take, and whether the user has had enough.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    pub(crate) until: Instant,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Patience {
    fn is_over(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        if Instant::now() >= self.until { Err("it hangs, and was killed".into()) } else { Ok(()) }
    }

    /// Waits until `child` has ended; an error if it takes too long, and then it has been killed.
    pub(crate) fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if let Err(error) = self.is_over() {
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A process that was started, and is killed when this is dropped unless it has ended.
pub(crate) struct Part {
    what: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    complaint: Arc<Mutex<String>>,
    patience: Patience,
}

impl Part {
    pub(crate) fn start(what: &'static str, mut command: Command, patience: Patience) -> Result<Part> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("{what}: cannot start {}: {error}", command.get_program().display()))?;
        let (to, lines) = channel();
        if let Some(output) = child.stdout.take() {
            // They end when the process does.
            std::thread::spawn(move || {
                BufReader::new(output).lines().map_while(std::result::Result::ok).try_for_each(|l| to.send(l))
            });
        }
        let complaint = Arc::new(Mutex::new(String::new()));
        if let Some(errors) = child.stderr.take() {
            let complaint = Arc::clone(&complaint);
            std::thread::spawn(move || listen(errors, &complaint));
        }
        let input = child.stdin.take();
        Ok(Part { what, child, input, lines, complaint, patience })
    }

    /// Waits for this line. Others before it are an error.
    pub(crate) fn expect(&mut self, line: &str) -> Result<()> {
        let said = self.line()?;
        if said == line {
            Ok(())
        } else {
            Err(format!("{}: expected \"{line}\", not \"{said}\"", self.what).into())
        }
    }

    /// Waits for the next line.
    fn line(&mut self) -> Result<String> {
        loop {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => {
                    self.patience.is_over().map_err(|error| self.failed(&error.to_string()))?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait()?;
                    return Err(self.failed(&status.to_string()).into());
                }
            }
        }
    }

    fn failed(&self, how: &str) -> String {
        // What it has complained of may still be on its way.
        std::thread::sleep(LOOK);
        let complaint = self.complaint.lock().map(|text| text.trim().to_owned()).unwrap_or_default();
        let colon = if complaint.is_empty() { "" } else { ": " };
        format!("{}: {how}{colon}{complaint}", self.what)
    }

    /// Lets it go.
    pub(crate) fn go(&mut self) -> Result<()> {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        writeln!(input, "go").map_err(|error| self.failed(&error.to_string()).into())
    }

    /// Waits for what came out: an [`Outcome`](crate::roles::Outcome), or figures.
    pub(crate) fn outcome<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|error| format!("{}: \"{line}\": {error}", self.what).into())
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn end(mut self) -> Result<()> {
        self.input = None;
        let status = self.wait()?;
        if status.success() { Ok(()) } else { Err(self.failed(&status.to_string()).into()) }
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let patience = self.patience.clone();
        patience.wait(&mut self.child).map_err(|error| self.failed(&error.to_string()).into())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the beginning of what a process complains of.
fn listen(mut errors: impl Read, complaint: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = errors.read(&mut buffer) {
        if let Ok(mut text) = complaint.lock() {
            let room = COMPLAINT.saturating_sub(text.len()).min(read);
            text.push_str(&String::from_utf8_lossy(&buffer[..room]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(script: &str, patience: Duration) -> Part {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let patience = Patience { until: Instant::now() + patience, stop: Arc::default() };
        Part::start("it", command, patience).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_part_says_its_lines_goes_and_ends() {
        let script =
            r#"echo created; read go; echo '{"records":3,"begun_ns":1,"ended_ns":2}'; read end; exit 0"#;
        let mut part = part(script, LONG);
        part.expect("created").unwrap();
        part.go().unwrap();
        assert_eq!(part.outcome::<crate::roles::Outcome>().unwrap().records, 3);
        part.end().unwrap();
    }

    #[test]
    fn a_part_that_fails_is_told_with_its_complaint() {
        let error = part("echo oh no >&2; exit 3", LONG).expect("created").unwrap_err().to_string();
        assert!(error.contains("exit status: 3: oh no"), "{error}");
        let error = part("echo what", LONG).expect("created").unwrap_err().to_string();
        assert_eq!(error, "it: expected \"created\", not \"what\"");
        assert!(part("exit 1", LONG).end().is_err());
    }

    #[test]
    fn a_part_that_hangs_is_killed() {
        let mut hanging = part("exec sleep 1000", Duration::from_millis(100));
        let error = hanging.expect("created").unwrap_err().to_string();
        assert!(error.contains("hangs"), "{error}");
        let id = hanging.child.id();
        drop(hanging);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
