//! An example that is run as a user runs it: as a process of its own, with input, output and `kill -9`.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Whoever takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// An example that is running. It does not outlive the test.
pub(crate) struct Example {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    errors: Receiver<Vec<u8>>,
}

/// What an example has left behind.
pub(crate) struct Finished {
    pub(crate) success: bool,
    /// What nobody has expected yet.
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Example {
    pub(crate) fn start(name: &str, args: &[&dyn AsRef<OsStr>]) -> Example {
        let mut command = Command::new(path_of(name));
        command.args(args.iter().map(AsRef::as_ref));
        Example::run(command)
    }

    /// Starts it so that it is killed before its system call number `call`, of those in `calls`, in whichever thread that is.
    pub(crate) fn start_to_be_killed(
        name: &str,
        args: &[&dyn AsRef<OsStr>],
        (calls, call): (&str, u64),
    ) -> Example {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:signal=SIGKILL:when={call}")]);
        command.arg(path_of(name)).args(args.iter().map(AsRef::as_ref));
        Example::run(command)
    }

    fn run(mut command: Command) -> Example {
        command.env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), lines(child.stdout.take().unwrap()));
        let errors = lines(child.stderr.take().unwrap());
        Example { child, input, output, errors }
    }

    /// Types `text`.
    #[track_caller]
    pub(crate) fn input(&mut self, text: impl AsRef<[u8]>) {
        self.try_input(text).unwrap();
    }

    /// Types `text`, unless nobody reads it any more.
    pub(crate) fn try_input(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.input.as_mut().unwrap().write_all(text.as_ref())
    }

    /// Waits for the next line of output; `None` at the end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.output.recv_timeout(LIMIT) {
            Ok(line) => Some(String::from_utf8(line).unwrap().trim_end_matches('\n').to_owned()),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor an end"),
        }
    }

    /// Waits for the next line of output, which must be `line`.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.line().as_deref(), Some(line));
    }

    /// How often its main thread has gone to sleep by now.
    pub(crate) fn naps(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        numbers(line)[0]
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the input, and waits until the example has ended by itself.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        self.input = None;
        let [output, errors] = [&self.output, &self.errors].map(|lines| {
            let mut text = Vec::new();
            loop {
                match lines.recv_timeout(LIMIT) {
                    Ok(line) => text.extend(line),
                    Err(RecvTimeoutError::Disconnected) => break String::from_utf8(text).unwrap(),
                    Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
                }
            }
        });
        Finished { success: self.child.wait().unwrap().success(), output, errors }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    #[track_caller]
    pub(crate) fn succeeds(&self, output: &str) {
        assert_eq!((self.success, &*self.output), (true, output), "{}", self.errors);
    }

    #[track_caller]
    pub(crate) fn fails(&self, error: &str) {
        assert!(!self.success, "it has succeeded: {}", self.output);
        assert!(self.errors.contains(error), "{} does not say {error}", self.errors);
    }
}

fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

/// The numbers in `text`, as they come.
pub(crate) fn numbers(text: &str) -> Vec<u64> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    digits.map(|digits| digits.parse().unwrap()).collect()
}

/// The lines of `from`, as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    let mut from = BufReader::new(from);
    thread::spawn(move || {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            if send.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    receive
}
