//! The original, kekbit 0.3.5, in processes of its own: past the end of a file it reads and writes what is not its own, and dies of
//! it, or not.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use kekbit_0_3::api::{EncoderHandler, Handler, Reader as _, Writer as _};
use kekbit_0_3::core::{
    ChainedHandler, Metadata, SequenceHandler, ShmWriter, TickUnit, TimestampHandler, shm_reader, shm_writer,
    storage_path,
};
use nix::sys::signal::Signal;

use crate::common::Running;

const ROLE: &str = "KEKBIT_TEST_ROLE";
const ARGUMENTS: &str = "KEKBIT_TEST_ARGUMENTS";
const SEPARATOR: &str = "\u{1F}";

/// What this process is to do, if a test has started it, and the arguments for that.
pub(crate) fn role() -> Option<(String, Vec<String>)> {
    let role = std::env::var(ROLE).ok()?;
    let arguments = std::env::var(ARGUMENTS).unwrap();
    Some((role, arguments.split(SEPARATOR).map(str::to_owned).collect()))
}

/// Starts this test program again, to run nothing but `test`, which finds out by [`role`] what it is to do.
fn start(test: &str, role: &str, arguments: &[&str]) -> Running {
    Running::start(
        Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGUMENTS, arguments.join(SEPARATOR)),
    )
}

/// In a child: tells the test something.
fn say(text: impl std::fmt::Display) {
    // Behind whatever the test harness has left of a line.
    let line = format!("\n@ {text}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What a child says next; `None` when it has ended.
pub(crate) fn hear(child: &Running) -> Option<String> {
    while let Some(line) = child.next_line() {
        if let Some(text) = line.strip_prefix("@ ") {
            return Some(text.to_owned());
        }
    }
    None
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

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// `len` bytes that follow from `seed`.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let words = std::iter::repeat_with(|| numbers.next().to_le_bytes());
    words.flatten().take(len).collect()
}

/// The ids of every channel here.
pub(crate) const WRITER_ID: u64 = 1850;
pub(crate) const CHANNEL_ID: u64 = 0x1234_5678_9ABC_DEF0;
/// 100 s, which the original's examples call for ever.
pub(crate) const TIMEOUT: u64 = 99_999_999_999;

/// What to write: everything follows from these numbers, so that both sides know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// As the original is asked for it; it rounds.
    pub(crate) capacity: u32,
    pub(crate) seed: u64,
    /// Records to write, or until one no longer fits.
    pub(crate) count: u64,
    /// Which handlers, the one that was linked last first: `t` and `s`.
    pub(crate) handlers: &'static str,
    /// The longest payload, and of any length up to that; 0: as long as the channel allows.
    pub(crate) limit: u64,
}

/// All chains of handlers.
pub(crate) const CHAINS: [&str; 5] = ["", "t", "s", "ts", "st"];

impl Plan {
    pub(crate) fn new(capacity: u32, count: u64) -> Plan {
        Plan { capacity, seed: u64::from(capacity), count, handlers: "", limit: 0 }
    }

    /// The capacity that the original makes of it.
    pub(crate) fn rounded(&self) -> u64 {
        u64::from(self.capacity).next_multiple_of(8).max(16384)
    }

    /// The longest record that it allows, as stored.
    pub(crate) fn longest(&self) -> u64 {
        (self.rounded() / 128 - 8).next_multiple_of(8)
    }

    /// The payload number `n`: of any length, often none at all or the longest, now and then one byte too many.
    pub(crate) fn payload(&self, n: u64) -> Vec<u8> {
        let longest = self.longest() - 8 * self.handlers.len() as u64;
        let mut numbers = Numbers(self.seed ^ n << 20);
        if self.limit > 0 {
            let len = numbers.below(self.limit + 1);
            return bytes(numbers.next(), len as usize);
        }
        let len = match numbers.below(16) {
            0 | 1 => 0,
            2 | 3 => longest,
            4 => longest + 1,
            _ => numbers.below(longest + 1),
        };
        bytes(numbers.next(), len as usize)
    }

    /// Where each payload lies that the original writes: position, number, and length as stored; and where the next would. One that
    /// `died` has done so of the first record that does not lie in its mapping, before it had published that.
    pub(crate) fn written(&self, died: bool) -> (Vec<(u64, u64, u64)>, u64) {
        let mapped = (self.rounded() + 160).next_multiple_of(4096) - 1024;
        let (mut at, mut written) = (0, Vec::new());
        for n in 0..self.count {
            let len = self.payload(n).len() as u64 + 8 * self.handlers.len() as u64;
            let available = self.rounded() - at;
            if available <= 8 {
                break;
            }
            if len > self.longest() {
                continue;
            }
            let next = at + 8 + len.next_multiple_of(8);
            if len > available - 8 || died && next + 8 > mapped {
                break;
            }
            written.push((at, n, len));
            at = next;
        }
        (written, at)
    }

    fn arguments(&self) -> [String; 5] {
        let Plan { capacity, seed, count, handlers, limit } = self;
        [capacity.to_string(), seed.to_string(), count.to_string(), (*handlers).to_owned(), limit.to_string()]
    }

    fn parse(arguments: &[String]) -> Plan {
        let number = |n: usize| arguments[n].parse::<u64>().unwrap();
        let handlers = CHAINS.into_iter().find(|chain| *chain == arguments[3]).unwrap();
        Plan { capacity: number(0) as u32, seed: number(1), count: number(2), handlers, limit: number(4) }
    }
}

/// The file of the channel below `root`.
pub(crate) fn path_in(root: &Path) -> PathBuf {
    storage_path(root, CHANNEL_ID).into_path_buf()
}

/// Starts a process that writes what `plan` says into a channel below `root`, then says `written`, and lives on until it is told
/// to close the channel. It may die of what it writes past the end of its mapping.
pub(crate) fn start_writer(test: &str, root: &Path, plan: &Plan) -> Running {
    let arguments = plan.arguments();
    let mut all = vec![root.to_str().unwrap()];
    all.extend(arguments.iter().map(String::as_str));
    start(test, "writer", &all)
}

/// Writes it all, and closes the channel: if it does not die of it, which is also said.
pub(crate) fn write(test: &str, root: &Path, plan: &Plan) -> (PathBuf, bool) {
    let mut child = start_writer(test, root, plan);
    if hear(&child).is_some() {
        child.write("close\n");
    }
    let died = !child.status().success();
    (path_in(root), died)
}

/// A record as the original's reader has returned it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Read {
    pub(crate) at: u64,
    pub(crate) stored: Vec<u8>,
}

/// All that the original's reader returns, until it has nothing more, dies, or is past the capacity; and what it said last.
pub(crate) fn read(test: &str, root: &Path) -> (Vec<Read>, String) {
    let child = start(test, "reader", &[root.to_str().unwrap()]);
    let mut records = Vec::new();
    while let Some(line) = hear(&child) {
        let Some((at, hex)) = line.strip_prefix("record ").and_then(|rest| rest.split_once(' ')) else {
            return (records, line);
        };
        let digits = hex.trim_end_matches('.').as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        records.push(Read { at: at.parse().unwrap(), stored: digits.chunks(2).map(byte).collect() });
    }
    (records, "died".to_owned())
}

/// In a child: what it was started for.
pub(crate) fn run(role: &str, arguments: &[String]) {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    // What lies behind the next mapping, mostly: it cannot be written to, so that nothing else is.
    let _guard = memmap2::MmapOptions::new().len(1 << 20).map_anon().unwrap().make_read_only().unwrap();
    let root = PathBuf::from(&arguments[0]);
    match role {
        "writer" => {
            let plan = Plan::parse(&arguments[1..]);
            let encoder = EncoderHandler::default;
            let ts = || TimestampHandler::new(TickUnit::Micros);
            let seq = || SequenceHandler::new(0);
            match plan.handlers {
                "" => write_to(&root, &plan, encoder()),
                "t" => write_to(&root, &plan, ChainedHandler::link(encoder(), ts())),
                "s" => write_to(&root, &plan, ChainedHandler::link(encoder(), seq())),
                "ts" => {
                    write_to(&root, &plan, ChainedHandler::link(ChainedHandler::link(encoder(), seq()), ts()))
                }
                _ => {
                    write_to(&root, &plan, ChainedHandler::link(ChainedHandler::link(encoder(), ts()), seq()))
                }
            }
        }
        "reader" => read_from(&root),
        other => panic!("{other} is no role"),
    }
}

fn write_to<H: Handler>(root: &Path, plan: &Plan, handler: H) {
    let longest = plan.longest() as u32;
    let metadata = Metadata::new(WRITER_ID, CHANNEL_ID, plan.capacity, longest, TIMEOUT, TickUnit::Nanos);
    let mut writer: ShmWriter<H> = shm_writer(root, &metadata, handler).unwrap();
    for n in 0..plan.count {
        let payload = plan.payload(n);
        let too_long = payload.len() as u64 + 8 * plan.handlers.len() as u64 > plan.longest();
        let written = writer.write(&payload);
        if written.is_err() && !too_long {
            break;
        }
    }
    say("written");
    // Closed when it is told to be, and then when the writer is dropped.
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

fn read_from(root: &Path) {
    let mut reader = shm_reader(root, CHANNEL_ID).unwrap();
    loop {
        let at = reader.position();
        if u64::from(at) >= u64::from(reader.metadata().capacity()) {
            return say("past the capacity");
        }
        match reader.try_read() {
            Ok(Some(record)) => {
                let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
                say(format_args!("record {at} {hex}."));
            }
            Ok(None) => return say("nothing"),
            Err(error) => return say(format_args!("{error:?}")),
        }
    }
}
