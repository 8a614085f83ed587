//! `kek completions`: a script for the shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Kek;
use crate::exit::{Exit, Failure};
use crate::output::print;

/// Print a script that completes `kek` in a shell
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  source <(kek completions bash)
  kek completions fish > ~/.config/fish/completions/kek.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Kek::command(), "kek", &mut script);
        print(&script).map(|()| Exit::Done)
    }
}
