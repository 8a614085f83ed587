//! The command `kek`. Everything is in the library beside it, so that a fuzzer reaches the command line without a process.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kekbit_cli::main()
}
