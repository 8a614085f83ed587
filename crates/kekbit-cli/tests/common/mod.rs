//! Runs `kek` as real processes, and waits for what they do with a generous limit.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything takes, on however slow a machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A directory for one test.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file with this content.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// A closed channel with these lines.
    pub fn channel(&self, name: &str, lines: &str) -> PathBuf {
        let written = kek().arg("write").arg(self.path(name)).run(lines);
        assert_eq!(written.status.code(), Some(0), "{written:?}");
        self.path(name)
    }

    /// A closed channel of kekbit 0.3 that was created at this time, in milliseconds, as that writes it.
    pub fn original<R: AsRef<[u8]>>(
        &self,
        name: &str,
        id: u64,
        created: u64,
        records: impl IntoIterator<Item = R>,
    ) -> PathBuf {
        let mut data = Vec::new();
        for record in records {
            let record = record.as_ref();
            data.extend_from_slice(&(record.len() as u64).to_le_bytes());
            data.extend_from_slice(record);
            data.resize(data.len().next_multiple_of(8), 0);
        }
        data.extend_from_slice(&u64::MAX.to_le_bytes());
        // As much as the file has without having been filled.
        let capacity = (data.len() + 864).next_multiple_of(4096).max(16384) as u32;
        let mut file = vec![0; 1024];
        file[..8].copy_from_slice(b"*KEKBIT*");
        for (at, word) in [(8, 1 << 48), (16, 1850), (24, id), (40, 10_000), (48, created)] {
            file[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
        }
        file[32..36].copy_from_slice(&capacity.to_le_bytes());
        file[36..40].copy_from_slice(&120_u32.to_le_bytes());
        file[56] = 3;
        file.extend_from_slice(&data);
        file.resize(capacity as usize + 160, 0);
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, file).unwrap();
        path
    }

    /// The channel of a writer that was killed after these lines.
    pub fn abandoned(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.path(name);
        let mut writer = Running::start(kek().arg("write").arg(&path));
        writer.write(lines);
        wait_for_records(&path, lines.lines().count() as u64);
        writer.signal(Signal::SIGKILL);
        writer.status();
        path
    }
}

/// The command.
pub fn kek() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kek"))
}

pub trait Run {
    /// Runs it to its end with this input.
    fn run(&mut self, input: impl AsRef<[u8]>) -> Output;
}

impl Run for Command {
    fn run(&mut self, input: impl AsRef<[u8]>) -> Output {
        let mut child =
            self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.as_ref().to_vec();
        let feeding = thread::spawn(move || {
            // Whoever has seen enough does not read to the end.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        output
    }
}

/// What `kek` prints with these arguments; it must succeed.
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.run("");
    assert_eq!(output.status.code(), Some(0), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that it ends with this code and one line on standard error that contains `says`.
#[track_caller]
pub fn assert_fails(output: &Output, code: i32, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(stderr.starts_with("kek: ") && stderr.lines().count() == 1, "{stderr}");
    assert!(stderr.contains(says), "{stderr:?} does not say {says:?}");
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

pub fn info(path: &Path) -> serde_json::Value {
    json(&stdout_of(kek().args(["info", "--json"]).arg(path)))
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "{what} has not happened");
        thread::yield_now();
    }
}

/// Waits until the channel is there and has at least so many records.
#[track_caller]
pub fn wait_for_records(path: &Path, records: u64) {
    wait_until("the record", || {
        path.exists() && info(path)["records"].as_u64().is_some_and(|there| there >= records)
    });
}

/// A process that is running, ended when it goes out of scope.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<ChildStderr>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        Running { child, stdin, lines, stderr }
    }

    /// Writes to its standard input, which stays open.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line that it prints.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line")
    }

    /// The next line that it prints; `None` if it has ended without one.
    #[track_caller]
    pub fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end"),
        }
    }

    /// All the lines that it still prints, until it ends.
    pub fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn status(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < LIMIT, "it does not end");
            thread::yield_now();
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The next line that it prints on standard error.
    #[track_caller]
    pub fn error_line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        loop {
            // Not one more: the rest is for later.
            self.stderr.as_mut().unwrap().read_exact(&mut byte).expect("a line of errors");
            match byte {
                [b'\n'] => return String::from_utf8(line).unwrap(),
                [byte] => line.push(byte),
            }
        }
    }

    /// What it has printed on standard error, once it has ended.
    pub fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
