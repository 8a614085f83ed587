//! `kek seal`: ends a channel or a journal whose writer is dead.

use std::path::{Path, PathBuf};

use clap::Args;
use kekbit::{Channel, Journal, SealError, SealOptions, Sealed, State};

use crate::exit::{Exit, Failure, note};
use crate::info::Info;
use crate::root::RootArgs;
use crate::stream::expect_journal;
use crate::values::counted;

/// End a channel or a journal whose writer is dead
///
/// Checks every record and ends the channel behind the last good one, durably. It refuses while the writer lives, and
/// where there is damage that a crash cannot have made. A channel that has ended already stays as it
/// is; if its end is not known to be on the disk, it is synced.
///
/// A journal, which is a directory, is ended as its next writer would do by itself: what has no end is sealed, an empty channel is
/// removed, and what does not follow from what is before gets another name.
///
/// After a crash of the file system alone, which was then mounted again without a restart of the machine, what was not
/// synced looks like such damage: --crashed tells it for what it is.
///
/// What a crash of the machine may have left of later records is cut off, and kept in a file beside the channel:
/// `log.kek.cut-4096` holds the bytes from position 4096 on, up to the last one that was not zero. There may be intact
/// records among them. To look for them later, write the file over a copy of the sealed channel, where it was cut off,
/// and let `kek salvage` read that; or salvage before sealing.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek seal log.kek && kek info log.kek
  kek seal orders/
  kek salvage log.kek saved.kek; kek seal --discard log.kek

The data begin in the file at the offset that bytes 160 to 167 of it tell. What was cut off is put back into a copy with:
  cp log.kek torn.kek
  data=$(od -An -j160 -N8 -tu8 log.kek)
  dd if=log.kek.cut-4096 of=torn.kek bs=64K oflag=seek_bytes seek=$((data + 4096)) conv=notrunc
  kek salvage torn.kek saved.kek")]
pub(crate) struct SealArgs {
    /// The channel, or the directory of a journal
    path: PathBuf,

    #[command(flatten)]
    root: RootArgs,

    /// Gives up what is cut off, instead of keeping it in a file
    #[arg(long)]
    discard: bool,

    /// The file system was shut down or its disk gone, although the machine was not restarted
    #[arg(long)]
    crashed: bool,

    /// Seals also on a file system that other machines may share, where a writer on another machine may live
    #[arg(long)]
    force_shared_file_system: bool,
}

impl SealArgs {
    pub(crate) fn run(mut self) -> Result<Exit, Failure> {
        self.path = self.root.resolve(&self.path)?;
        let options = Channel::seal_options()
            .discard(self.discard)
            .crashed(self.crashed)
            .force_shared_file_system(self.force_shared_file_system);
        if self.path.is_dir() {
            return seal_journal(&self.path, &options);
        }
        // What cannot be opened is for sealing to tell.
        if let Ok(channel) = Info::open(&self.path) {
            self.root.expect(&self.path, Some(channel.channel_id()))?;
        }
        match options.seal(&self.path) {
            Err(SealError::Ended { state, .. }) => {
                note(format_args!("{} has ended already: it is {state}", self.path.display()));
            }
            Err(error) => return Err(error.into()),
            Ok(sealed) => tell(&self.path, &sealed),
        }
        Ok(Exit::Done)
    }
}

fn seal_journal(path: &Path, options: &SealOptions) -> Result<Exit, Failure> {
    expect_journal(path)?;
    let sealed = Journal::seal(path, options)?;
    for (channel, sealed) in &sealed.channels {
        tell(channel, sealed);
    }
    for aside in &sealed.set_aside {
        note(format_args!("{}: it does not follow from what is before, and is set aside", aside.display()));
    }
    let (path, next) = (path.display(), sealed.next_sequence);
    match sealed.channels.is_empty() && sealed.set_aside.is_empty() {
        true => note(format_args!("{path} has ended already, before sequence {next}")),
        false => note(format_args!("{path} ends before sequence {next}")),
    }
    Ok(Exit::Done)
}

/// Says what was done to a channel.
fn tell(path: &Path, sealed: &Sealed) {
    let (sequence, position) = (sealed.end.sequence, sealed.end.position);
    let given_up = match (&sealed.cut, sealed.before) {
        (Some(cut), _) => {
            format!("; {} that lay behind it are kept in {}", counted(cut.len, "byte"), cut.path.display())
        }
        (None, State::Torn) => "; what a crash of the machine has left behind it is given up".into(),
        _ => String::new(),
    };
    note(format_args!(
        "{}: it was {}, and is sealed before sequence {sequence} at position {position}{given_up}",
        path.display(),
        sealed.before
    ));
}
