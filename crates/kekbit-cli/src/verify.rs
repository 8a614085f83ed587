//! `kek verify`: checks every byte of channels.

use std::path::{Path, PathBuf};

use clap::Args;
use kekbit::{Channel, State};

use crate::exit::{Exit, Failure, is_damaged};
use crate::output::print;
use crate::progress;
use crate::source::{Source, TrustArgs};
use crate::values::{counted, one_line};

/// Check every byte of channels
///
/// Says where the first damage is, and exits with 1 if there is any. A channel that was closed, is full, or was
/// abandoned by a dead writer is fine. A torn one, whose last records a crash of the machine has damaged, is not, until
/// `kek seal` has ended it. Of a channel that is being written, what is there is checked.
///
/// Without --untrusted nobody but kekbit may write to the file or cut it while it is read.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek verify log.kek
  kek verify /var/lib/orders/*.kek && echo all good")]
pub(crate) struct VerifyArgs {
    /// The channels
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    trust: TrustArgs,
}

impl VerifyArgs {
    /// Checks all of them; damage in one outweighs everything else that went wrong.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut exit = Exit::Done;
        for path in &self.paths {
            match verify(path, self.trust) {
                Ok(good) => print(good.as_bytes())?,
                Err(failure) => {
                    failure.report();
                    if exit == Exit::Done || failure.exit == Exit::Damage {
                        exit = failure.exit;
                    }
                }
            }
        }
        Ok(exit)
    }
}

/// Checks one channel; what is good about it, as a line.
fn verify(path: &Path, trust: TrustArgs) -> Result<String, Failure> {
    let opened = Source::open(path, Channel::options().stored(true), trust);
    let source = opened.map_err(|error| match is_damaged(&error) {
        true => Failure::new(Exit::Damage, error),
        false => error.into(),
    })?;
    let bar = progress::bar(Some(source.expected_len()), "verifying");
    let verified = source.verify(|position| bar.set_position(position.offset()));
    bar.finish_and_clear();
    let end = verified.map_err(|error| Failure::from(error).about(path))?;
    let records = end.sequence - source.first_sequence();
    let good = format!("{}, {}", counted(records, "record"), counted(end.position.offset(), "byte"));
    if end.state == State::Torn {
        let torn = format_args!(
            "torn at position {}: {good} are good, what follows is damaged or lost; `kek seal` ends it there",
            end.position
        );
        return Err(Failure::new(Exit::Damage, torn).about(path));
    }
    Ok(format!("{}: {}, {good}, no damage\n", one_line(&path.to_string_lossy()), end.state))
}
