//! The system calls of one thread, recorded and made to fail by `strace`.
//!
//! A thread that is to be watched waits until `strace` has attached to it, so that `strace` counts from its first call
//! on: the third `openat` of a run is the third of every other run.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};

/// One system call, as strace has written it down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: String,
    /// What is behind the equals sign: a value, or -1 and the error's name.
    pub(crate) result: String,
    /// Whether strace made it fail.
    pub(crate) injected: bool,
}

/// A strace that is attached to a thread of another process, and ends with it.
#[derive(Debug)]
pub(crate) struct Strace {
    process: Process,
    log: PathBuf,
}

impl Strace {
    /// Attaches to `thread`, or to all threads of its process and those that they start. `inject` are faults in strace's own
    /// words, such as `msync:error=EIO:when=1` or `linkat:signal=KILL:when=2`. What cannot be done is told as text.
    pub(crate) fn attach(
        thread: i32,
        all_threads: bool,
        log: &Path,
        inject: &[String],
    ) -> Result<Strace, String> {
        let mut command = Command::new("strace");
        command.arg("-o").arg(log).args(["-s", "32", "-p", &thread.to_string()]);
        if all_threads {
            command.arg("-f");
        }
        for fault in inject {
            command.arg("-e").arg(format!("inject={fault}"));
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|error| format!("strace cannot be started: {error}"))?;
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut all = String::new();
        // It says so when the thread makes no further call unseen.
        while !all.contains("attached") {
            if said.read_line(&mut all).unwrap() == 0 {
                let _ = process.wait();
                return Err(format!("strace cannot attach: {}", all.trim_end()));
            }
        }
        // What else it says is of no interest, but must not stop it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Ok(Strace { process, log: log.to_owned() })
    }

    /// Waits until what it watches has ended, and returns all calls in order.
    pub(crate) fn calls(mut self) -> Vec<Call> {
        self.process.wait().unwrap();
        parse(&std::fs::read_to_string(&self.log).unwrap())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The complete calls of a log; of one that was interrupted by another thread's, its second half.
fn parse(log: &str) -> Vec<Call> {
    log.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Call> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (call, result) = line.rsplit_once(" = ")?;
    let call = call.trim_end();
    let (name, arguments) = match call.strip_prefix("<... ") {
        Some(rest) => rest.split_once(" resumed>")?,
        None => call.split_once('(')?,
    };
    if !name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_') {
        return None;
    }
    Some(Call {
        name: name.to_owned(),
        arguments: arguments.strip_suffix(')').unwrap_or(arguments).to_owned(),
        result: result.trim_end_matches(" (INJECTED)").to_owned(),
        injected: result.ends_with("(INJECTED)"),
    })
}

#[test]
fn lines_of_strace_are_understood() {
    let call = |line| parse_line(line).map(|call| (call.name, call.arguments, call.result, call.injected));
    let some = |name: &str, arguments: &str, result: &str, injected| {
        Some((name.to_owned(), arguments.to_owned(), result.to_owned(), injected))
    };
    assert_eq!(call("msync(0x7f, 4096, MS_SYNC)    = 0"), some("msync", "0x7f, 4096, MS_SYNC", "0", false));
    assert_eq!(
        call("123 openat(AT_FDCWD, \"a = (b)\", O_RDONLY) = -1 EIO (Input/output error) (INJECTED)"),
        some("openat", "AT_FDCWD, \"a = (b)\", O_RDONLY", "-1 EIO (Input/output error)", true)
    );
    assert_eq!(
        call("123   <... msync resumed>) = -1 EIO (Input/output error) (INJECTED)"),
        some("msync", "", "-1 EIO (Input/output error)", true)
    );
    assert_eq!(call("123 msync(0x7f, 4096, MS_SYNC <unfinished ...>"), None);
    assert_eq!(call("+++ exited with 0 +++"), None);
}
