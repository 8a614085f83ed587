//! What the integration tests share: a place for files, records whose content follows from their number, child
//! processes, and waiting for a condition.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod campaign;
pub(crate) mod journal;
pub(crate) mod sectors;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kekbit::{Channel, Wait};
use tempfile::TempDir;

/// Longer than anything takes that a test waits for, on the slowest machine.
pub(crate) const GENEROUS: Duration = Duration::from_secs(60);

/// Waits for what is sure to come, but not for ever if it does not.
pub(crate) fn patience() -> Wait<'static> {
    Wait::backoff().at_most(GENEROUS)
}

/// An empty directory, in memory where there is such a file system.
pub(crate) fn dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("kekbit-test-").tempdir_in(parent).unwrap()
}

/// Writes to `ballast` until its file system has not a byte left.
pub(crate) fn fill_disk(ballast: &Path) {
    let mut file = File::options().append(true).create(true).open(ballast).unwrap();
    let block = [1; 4096];
    while file.write_all(&block).is_ok() {}
}

/// Frees the space that `ballast` takes, although a child that another test is just starting may have it open.
pub(crate) fn free_disk(ballast: &Path) {
    File::options().write(true).open(ballast).unwrap().set_len(0).unwrap();
    std::fs::remove_file(ballast).unwrap();
}

/// The names in `directory`, hidden ones too, in order.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until nobody has the lock of a writer that is dead: a child that another test is just starting may have it for a
/// moment.
pub(crate) fn wait_until_released(path: impl AsRef<Path>) {
    wait_until("the lock's release", || !Channel::open(&path).unwrap().writer_lives().unwrap());
}

/// Asks again and again until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < GENEROUS, "still waiting until {what}");
        std::thread::yield_now();
    }
}

/// Numbers that look random and are the same in every run (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// `len` bytes that follow from `seed`.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        out.extend_from_slice(&numbers.next().to_le_bytes());
    }
    out.truncate(len);
    out
}

/// The record number `sequence` of a stream that any process can make again: up to `longest` bytes.
pub(crate) fn record(sequence: u64, longest: u64) -> Vec<u8> {
    let len = Numbers(sequence ^ 0x5EED).below(longest + 1);
    bytes(sequence, len as usize)
}

/// All payloads of a channel, from a fresh cursor.
pub(crate) fn payloads(channel: &Channel) -> Vec<Vec<u8>> {
    channel.records().map(|record| record.unwrap().payload().to_vec()).collect()
}

/// A little-endian word of a file's header.
pub(crate) fn word_at(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

/// Where the data region of the channel in `file` begins.
pub(crate) fn data_offset(file: &[u8]) -> u64 {
    word_at(file, 160)
}

pub(crate) fn round_up(n: u64, unit: u64) -> u64 {
    n.div_ceil(unit) * unit
}

/// Bytes that a frame with `len` bytes of payload takes.
pub(crate) fn frame_len(len: u64) -> u64 {
    8 + round_up(len, 8)
}

/// The mix of a position, a kind and a length with the salt of the channel in `file`.
pub(crate) fn mix(file: &[u8], position: u64, kl: u32) -> u32 {
    let a = (position ^ word_at(file, 72)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let b = (a ^ a >> 32 ^ u64::from(kl)).wrapping_add(word_at(file, 80)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (b >> 32) as u32
}

/// The header word of a frame at `position` of the channel in `file`, with a right checksum.
pub(crate) fn head(file: &[u8], position: u64, kind: u32, payload: &[u8]) -> u64 {
    let kl = kind << 28 | payload.len() as u32;
    let mut padded = payload.to_vec();
    padded.resize(payload.len().next_multiple_of(8), 0);
    u64::from(kl) << 32 | u64::from(crc32c::crc32c(&padded) ^ mix(file, position, kl))
}

/// Computes the checksum of a header page anew.
pub(crate) fn repair_header(page: &mut [u8]) {
    page[4092..4096].fill(0);
    let crc = crc32c::crc32c(&page[..4096]);
    page[4092..4096].copy_from_slice(&crc.to_le_bytes());
}

const ROLE: &str = "KEKBIT_TEST_ROLE";
const ARGUMENTS: &str = "KEKBIT_TEST_ARGUMENTS";
const SEPARATOR: &str = "\u{1F}";

/// What this process is to do, if a test has started it, and the arguments for that.
pub(crate) fn role() -> Option<(String, Vec<String>)> {
    let role = std::env::var(ROLE).ok()?;
    let arguments = std::env::var(ARGUMENTS).unwrap();
    Some((role, arguments.split(SEPARATOR).map(str::to_owned).collect()))
}

/// In a child: tells the test something.
pub(crate) fn say(text: impl std::fmt::Display) {
    // One write, after whatever the test harness has left of a line.
    let line = format!("\n@ {text}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// In a child: waits until the test says something; `None` when it has nothing more to say.
pub(crate) fn listen() -> Option<String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).unwrap();
    (read > 0).then(|| line.trim_end().to_owned())
}

/// In a child that listens to nobody: lets the kernel kill it when the test is killed.
pub(crate) fn die_with_parent() {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A process of its own that runs one role of a test. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this test program again, to run nothing but `test`, which finds out by [`role`] what it is to do.
    pub(crate) fn start(test: &str, role: &str, arguments: &[&str]) -> Child {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGUMENTS, arguments.join(SEPARATOR))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = process.stdin.take();
        let from = BufReader::new(process.stdout.take().unwrap());
        Child { process, to, from }
    }

    pub(crate) fn id(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.process.id() as i32)
    }

    /// Tells the child something.
    pub(crate) fn tell(&mut self, text: &str) {
        writeln!(self.to.as_mut().unwrap(), "{text}").unwrap();
    }

    /// Waits for what the child says next; `None` if it has ended.
    pub(crate) fn hear_or_end(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.from.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(text) = line.strip_prefix("@ ") {
                return Some(text.trim_end().to_owned());
            }
        }
    }

    /// Waits for what the child says next.
    pub(crate) fn hear(&mut self) -> String {
        match self.hear_or_end() {
            Some(text) => text,
            None => panic!("the child has ended without a word: {:?}", self.process.wait()),
        }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.id(), signal).unwrap();
    }

    /// Ends the child by SIGKILL, without waiting for anything.
    pub(crate) fn kill(&self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    /// Waits until the child has ended.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.to = None;
        self.process.wait().unwrap()
    }

    /// Waits until the child, which is killed, has ended. It must have been alive until then: one that finds something wrong
    /// ends by itself.
    pub(crate) fn end_killed(self) {
        let status = self.end();
        assert_eq!(status.signal(), Some(nix::sys::signal::Signal::SIGKILL as i32), "{status}");
    }

    /// How the child has ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A file system mounted for a test; gone when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    _parent: TempDir,
}

impl Mount {
    /// A file system in memory of `size` bytes, or `None`, with a message, where mounting is not allowed.
    pub(crate) fn memory(test: &str, size: u64) -> Option<Mount> {
        use nix::mount::{MsFlags, mount};
        let options = format!("size={size},mode=0777");
        Mount::new(test, |path| {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        })
    }

    /// `directory` once more, read-only, or `None`, with a message, where mounting is not allowed.
    pub(crate) fn read_only(test: &str, directory: &Path) -> Option<Mount> {
        use nix::mount::{MsFlags, mount};
        let none: Option<&str> = None;
        Mount::new(test, |path| {
            mount(Some(directory), path, none, MsFlags::MS_BIND, none)?;
            let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(none, path, none, read_only, none)
        })
    }

    fn new(test: &str, mount: impl FnOnce(&Path) -> nix::Result<()>) -> Option<Mount> {
        let parent = dir();
        let path = parent.path().join("mount");
        std::fs::create_dir(&path).unwrap();
        let mounted = Mount { path, _parent: parent };
        match mount(&mounted.path) {
            Ok(()) => Some(mounted),
            Err(nix::Error::EPERM) => {
                eprintln!("{test}: skipped, since it may not mount a file system");
                None
            }
            Err(error) => panic!("cannot mount: {error}"),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Nothing is mounted where it was not allowed.
        let _ = nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH);
    }
}
