//! `kek`: writes, reads, follows, inspects, verifies and seals channels.
//!
//! Each verb has a file of its own, which begins with what it accepts and what it does; what they share:
//!
//! - [`values`]: sizes, durations, positions, times
//! - [`input`], [`split`]: bytes from files and standard input, and records from bytes
//! - [`output`]: the forms in which records are printed
//! - [`signals`], [`progress`], [`exit`]: signals, progress bars, exit codes and diagnostics

#![forbid(unsafe_code)]

mod exit;
mod values;

mod input;
mod output;
mod progress;
mod signals;
mod split;

mod cat;
mod tail;
mod write;

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
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  damage found
  2  wrong usage
  3  missing, or not a channel
  4  exists already, or locked by a live writer
  5  full, no space left, or a record too long
  6  abandoned, torn or timed out
  7  another error of input or output

Example: follow a log in one terminal while another writes it
  kek tail -f --wait log.kek
  seq 1000000 | kek write log.kek";

fn main() -> ExitCode {
    let verb = match Kek::try_parse() {
        Ok(kek) => kek.verb,
        Err(error) => {
            // Help and version are no errors, and whoever closes the pipe has seen enough of them.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage.code() } else { Exit::Done.code() });
        }
    };
    let exit = run(verb).unwrap_or_else(|failure| {
        failure.report();
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn run(verb: Verb) -> Result<Exit, Failure> {
    signals::survive_file_size_limit().map_err(|error| Failure::io("cannot handle signals", error))?;
    match verb {
        Verb::Write(args) => args.run(),
        Verb::Cat(args) => args.run(),
        Verb::Tail(args) => args.run(),
    }
}
