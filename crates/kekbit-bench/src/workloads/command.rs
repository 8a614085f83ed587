//! The command `kek` beside `cat`, over lines of 100 bytes: into a file from a pipe, and out of one.
//!
//! A measurement begins before the command is started and ends when it has ended. What it reads from a pipe or writes to
//! one goes through this process, on another core; each byte that it leaves behind is checked, but for what goes to
//! `/dev/null`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, ScopedJoinHandle};

use kekbit::{Channel, Durability, TickUnit, Timestamp, Writer};

use crate::Result;
use crate::clock::now_ns;
use crate::part::Patience;
use crate::roles::pin;

/// Bytes of a line, with its line feed.
pub(crate) const LINE: usize = 100;
/// Different lines.
const LINES: usize = 10_000;

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tool {
    KekWrite,
    CatToFile,
    KekCat(Output),
    CatFile(Output),
}

/// Where the output goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    Null,
    Pipe,
}

impl Tool {
    /// As the report names it: case and peer.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        let case = |output| if output == Output::Null { "cat" } else { "cat, into a pipe" };
        match self {
            Tool::KekWrite => ("write", "kek write"),
            Tool::CatToFile => ("write", "cat > file"),
            Tool::KekCat(output) => (case(output), "kek cat"),
            Tool::CatFile(output) => (case(output), "cat file"),
        }
    }
}

/// The commands, in groups that are compared.
pub(crate) const TOOLS: [[Tool; 2]; 3] = [
    [Tool::KekWrite, Tool::CatToFile],
    [Tool::KekCat(Output::Null), Tool::CatFile(Output::Null)],
    [Tool::KekCat(Output::Pipe), Tool::CatFile(Output::Pipe)],
];

/// The command `kek` beside this program, unless another is named.
pub(crate) fn find_kek(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("kek"),
    };
    if path.is_file() {
        return Ok(path);
    }
    let build = "build it with `cargo build --release -p kekbit-cli`, or name it with --kek";
    Err(format!("{} is not there: {build}", path.display()).into())
}

/// Lines that are repeated.
fn block() -> Vec<u8> {
    (0..LINES).flat_map(|n| format!("{n:0>width$}\n", width = LINE - 1).into_bytes()).collect()
}

/// Blocks, the last of which may be cut, for so many lines.
fn blocks(block: &[u8], lines: u64) -> impl Iterator<Item = &[u8]> {
    let whole = lines / LINES as u64;
    let rest = (lines % LINES as u64) as usize * LINE;
    (0..whole).map(move |_| block).chain([&block[..rest]])
}

/// Runs the command over so many lines, and says how many nanoseconds it took.
pub(crate) fn measure(
    tool: Tool,
    kek: &Path,
    dir: &Path,
    lines: u64,
    cores: &[usize],
    patience: &Patience,
) -> Result<f64> {
    let block = block();
    let (channel, file) = (dir.join("lines.kek"), dir.join("lines"));
    let mut command = match tool {
        Tool::KekWrite => {
            let mut command = Command::new(kek);
            command.arg("write").arg("--quiet").arg(&channel);
            command
        }
        Tool::CatToFile => {
            let mut command = Command::new("cat");
            command.stdout(File::create(&file)?);
            command
        }
        Tool::KekCat(_) => {
            write_channel(&channel, &block, lines)?;
            let mut command = Command::new(kek);
            command.arg("cat").arg(&channel);
            command
        }
        Tool::CatFile(_) => {
            let mut to = BufWriter::new(File::create(&file)?);
            blocks(&block, lines).try_for_each(|part| to.write_all(part))?;
            to.flush()?;
            let mut command = Command::new("cat");
            command.arg(&file);
            command
        }
    };
    match tool {
        Tool::KekWrite => command.stdin(Stdio::piped()).stdout(Stdio::null()),
        Tool::CatToFile => command.stdin(Stdio::piped()),
        Tool::KekCat(Output::Null) | Tool::CatFile(Output::Null) => {
            command.stdin(Stdio::null()).stdout(Stdio::null())
        }
        Tool::KekCat(Output::Pipe) | Tool::CatFile(Output::Pipe) => {
            command.stdin(Stdio::null()).stdout(Stdio::piped())
        }
    };
    let nanoseconds = run(&mut command, &block, lines, cores, patience)?;
    match tool {
        Tool::KekWrite => check_channel(&channel, &block, lines)?,
        Tool::CatToFile => expect(File::open(&file)?, &block, lines)?,
        Tool::KekCat(_) | Tool::CatFile(_) => {}
    }
    Ok(nanoseconds)
}

/// Runs it on the first core; feeds it, or takes what comes out of it, on the second.
fn run(command: &mut Command, block: &[u8], lines: u64, cores: &[usize], patience: &Patience) -> Result<f64> {
    let other = cores.get(1).copied().unwrap_or(cores[0]);
    thread::scope(|scope| {
        let begun = now_ns();
        // It inherits the core of the thread that starts it.
        let child = scope.spawn(|| -> std::result::Result<Child, String> {
            pin(cores[0]).map_err(|error| error.to_string())?;
            command
                .spawn()
                .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))
        });
        let mut child = Guard(joined(child)?);
        let feeding = child.0.stdin.take().map(|mut input| {
            scope.spawn(move || -> std::result::Result<(), String> {
                pin(other).map_err(|error| error.to_string())?;
                blocks(block, lines).try_for_each(|part| input.write_all(part)).map_err(|e| e.to_string())
            })
        });
        let draining = child.0.stdout.take().map(|output| {
            scope.spawn(move || -> std::result::Result<(), String> {
                pin(other).map_err(|error| error.to_string())?;
                expect(output, block, lines).map_err(|error| error.to_string())
            })
        });
        // If it hangs it is killed here, and with it end those who feed and drain it.
        let status = patience.wait(&mut child.0)?;
        let ended = now_ns();
        for helper in feeding.into_iter().chain(draining) {
            joined(helper)?;
        }
        if !status.success() {
            return Err(format!("{}: {status}", command_name(&child.0)).into());
        }
        Ok((ended - begun) as f64)
    })
}

fn command_name(child: &Child) -> String {
    format!("process {}", child.id())
}

fn joined<T>(thread: ScopedJoinHandle<'_, std::result::Result<T, String>>) -> Result<T> {
    Ok(thread.join().map_err(|_| "a thread has panicked")??)
}

/// Kills the child if it has not ended.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The channel that `kek write` would make.
fn write_channel(path: &Path, block: &[u8], lines: u64) -> Result<()> {
    let mut writer = Writer::options()
        .capacity(((LINE as u64 + 23) & !7) * lines + 4096)
        .durability(Durability::Never)
        .stage(Timestamp::new(TickUnit::Nanos))
        .create(path)?;
    for line in blocks(block, lines).flat_map(|part| part.chunks_exact(LINE)) {
        writer.append(&line[..LINE - 1])?;
    }
    Ok(writer.close()?)
}

fn check_channel(path: &Path, block: &[u8], lines: u64) -> Result<()> {
    let channel = Channel::open(path)?;
    let mut records = channel.records();
    for (n, line) in blocks(block, lines).flat_map(|part| part.chunks_exact(LINE)).enumerate() {
        let record = records.next().ok_or_else(|| format!("only {n} records are there"))??;
        if record[..] != line[..LINE - 1] {
            return Err(format!("record {n} is wrong").into());
        }
    }
    if records.next().is_some() { Err("there are too many records".into()) } else { Ok(()) }
}

/// Reads to the end, which must be the lines and nothing else.
fn expect(mut from: impl Read, block: &[u8], lines: u64) -> Result<()> {
    let mut buffer = vec![0; block.len()];
    for part in blocks(block, lines) {
        let read = &mut buffer[..part.len()];
        from.read_exact(read).map_err(|_| "the output ends too early")?;
        if read != part {
            return Err("the output is wrong".into());
        }
    }
    if from.read(&mut buffer)? == 0 { Ok(()) } else { Err("there is too much output".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_is_wrong_short_or_long_is_an_error() {
        let block = block();
        let good: Vec<u8> = blocks(&block, 25_003).flatten().copied().collect();
        assert_eq!(good.len(), 2_500_300);
        expect(&good[..], &block, 25_003).unwrap();
        for at in [0, 99, 1_000_000, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            expect(&bad[..], &block, 25_003).unwrap_err();
        }
        expect(&good[..good.len() - 1], &block, 25_003).unwrap_err();
        expect(&[&good[..], b"\n"].concat()[..], &block, 25_003).unwrap_err();
    }

    #[test]
    fn a_channel_that_lacks_a_line_or_has_another_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (path, block) = (dir.path().join("lines.kek"), block());
        write_channel(&path, &block, 10_001).unwrap();
        check_channel(&path, &block, 10_001).unwrap();
        check_channel(&path, &block, 10_000).unwrap_err();
        check_channel(&path, &block, 10_002).unwrap_err();
        let mut other = block;
        other[LINE * 5000 + 98] ^= 1;
        check_channel(&path, &other, 10_001).unwrap_err();
    }
}
