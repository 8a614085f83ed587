//! `kek seal`: ends a channel whose writer is dead.

use std::path::PathBuf;

use clap::Args;
use kekbit::{Channel, SealError, State};

use crate::exit::{Exit, Failure, note};

/// End a channel whose writer is dead
///
/// Checks every record and ends the channel behind the last good one, durably. It refuses while the writer lives, and
/// where there is damage that a crash cannot have made. What a crash of the machine has left of later records in a torn
/// channel is given up. A channel that has ended already is left as it is.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  kek seal log.kek && kek info log.kek")]
pub(crate) struct SealArgs {
    /// The channel
    path: PathBuf,

    /// Seals also on a file system that other machines may share, where a writer on another machine may live
    #[arg(long)]
    force_shared_file_system: bool,
}

impl SealArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let path = self.path.display();
        let sealed = match self.force_shared_file_system {
            true => Channel::seal_on_shared_file_system(&self.path),
            false => Channel::seal(&self.path),
        };
        match sealed {
            Err(SealError::Ended { state, .. }) => {
                note(format_args!("{path} has ended already: it is {state}"));
            }
            Err(error) => return Err(error.into()),
            Ok(sealed) => {
                let (sequence, position) = (sealed.end.sequence, sealed.end.position);
                let given_up = match sealed.before {
                    State::Torn => "; what a crash of the machine has left behind it is given up",
                    _ => "",
                };
                note(format_args!(
                    "{path}: it was {}, and is sealed before sequence {sequence} at position {position}{given_up}",
                    sealed.before
                ));
            }
        }
        Ok(Exit::Done)
    }
}
