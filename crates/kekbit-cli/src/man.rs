//! `kek man`: the manual's pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::Kek;
use crate::exit::{Exit, Failure};
use crate::output::print;

/// Print a page of the manual, or write all of them to a directory
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek man write | man -l -
  kek man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The verb; without it, the page of `kek` itself
    verb: Option<String>,

    /// Writes all pages to this directory
    #[arg(long, conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

impl ManArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut kek = Kek::command();
        if let Some(dir) = self.dir {
            let cannot = |error| Failure::io(format_args!("cannot write to {}", dir.display()), error);
            clap_mangen::generate_to(kek, &dir).map_err(cannot)?;
            return Ok(Exit::Done);
        }
        kek.build();
        let page = match &self.verb {
            None => Man::new(kek),
            Some(verb) => {
                let unknown = || Failure::new(Exit::Usage, format_args!("there is no verb `{verb}`"));
                let command = kek.find_subcommand(verb).ok_or_else(unknown)?;
                Man::new(command.clone().name(format!("kek-{verb}")).version(env!("CARGO_PKG_VERSION")))
            }
        };
        let mut text = Vec::new();
        page.render(&mut text).map_err(Failure::output)?;
        print(&text).map(|()| Exit::Done)
    }
}
