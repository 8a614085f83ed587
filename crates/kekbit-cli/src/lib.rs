//! `kek`: writes, reads, follows, inspects, verifies, seals and salvages channels, and measures how fast that is.
//!
//! Each verb has a file of its own, which begins with what it accepts and what it does; what they share:
//!
//! - `values`: sizes, durations, positions, times
//! - `input`, `split`, `arrival`: bytes from files and standard input, records from bytes, and their times
//! - `root`: channels by their ids
//! - `source`, `original`, `stream`: channels that are mapped, or copied out of their files; those of kekbit 0.3; journals of channels
//! - `output`, `shape`, `pipe`: the forms in which records are printed, what they are, and what they often go through
//! - `signals`, `progress`, `exit`: signals, progress bars, exit codes and diagnostics
//!
//! - `human`, `chart`, `machine`: numbers for people, pictures, and the machine they were measured on
//!
//! It is the program `kek` and no library for others: its face is `main`, and the last three, which the project's own
//! benchmarks use as well.

#![forbid(unsafe_code)]

mod exit;
mod values;

pub mod chart;
pub mod human;
pub mod machine;

mod arrival;
mod input;
mod original;
mod output;
mod pipe;
mod progress;
mod root;
mod shape;
mod signals;
mod source;
mod split;
mod stream;

mod cat;
mod tail;
mod write;

mod cursor;
mod import;
mod info;
mod journal;
mod ls;
mod retain;
mod salvage;
mod seal;
mod stat;
mod verify;

mod bench;

mod completions;
mod demo;
mod man;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{Exit, Failure};

/// Ultralight persistent data channels: one writer appends records to a file, any number of readers follow it
#[derive(Parser, Debug)]
#[command(name = "kek", version, after_long_help = EXIT_CODES)]
struct Kek {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Write(write::WriteArgs),
    Cat(cat::CatArgs),
    Tail(tail::TailArgs),
    Info(info::InfoArgs),
    Ls(ls::LsArgs),
    Verify(verify::VerifyArgs),
    Seal(seal::SealArgs),
    Salvage(salvage::SalvageArgs),
    Import(import::ImportArgs),
    Cursor(cursor::CursorArgs),
    Retain(retain::RetainArgs),
    Stat(stat::StatArgs),
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  damage found
  2  wrong usage
  3  missing, or not a channel
  4  exists already, or locked by a live writer
  5  full, no space left, or a record too long
  6  abandoned, torn, timed out, or given up
  7  another error of input or output

Example: follow a log in one terminal while another writes it
  kek tail -f --wait log.kek
  seq 1000000 | kek write log.kek";

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    let exit = run().unwrap_or_else(|failure| {
        failure.report();
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn run() -> Result<Exit, Failure> {
    signals::survive_file_size_limit().map_err(|error| Failure::io("cannot handle signals", error))?;
    if let Some(part) = demo::part::PartArgs::from_process() {
        return part.run();
    }
    if let Some(part) = bench::part::PartArgs::from_process() {
        return part.run();
    }
    let verb = match Kek::try_parse() {
        Ok(kek) => kek.verb,
        Err(error) => {
            // Help and version are no errors: they go to standard output.
            let printed = error.print();
            return if error.use_stderr() {
                Ok(Exit::Usage)
            } else {
                printed.map(|()| Exit::Done).map_err(Failure::output)
            };
        }
    };
    match verb {
        Verb::Write(args) => args.run(),
        Verb::Cat(args) => args.run(),
        Verb::Tail(args) => args.run(),
        Verb::Info(args) => args.run(),
        Verb::Ls(args) => args.run(),
        Verb::Verify(args) => args.run(),
        Verb::Seal(args) => args.run(),
        Verb::Salvage(args) => args.run(),
        Verb::Import(args) => args.run(),
        Verb::Cursor(args) => args.run(),
        Verb::Retain(args) => args.run(),
        Verb::Stat(args) => args.run(),
        Verb::Bench(args) => args.run(),
        Verb::Demo(args) => args.run(),
        Verb::Completions(args) => args.run(),
        Verb::Man(args) => args.run(),
    }
}
