//! Channels that are named after their ids, below a root directory, as kekbit 0.3 named them.
//!
//! ```text
//! id 0xAAAABBBBCCCCDDDD   ->   root/aaaa_bbbb/cccc_dddd.kekbit
//! ```
//!
//! Nothing else in kekbit knows of it: a channel is a file, whatever its name. Lower-case digits only, so that a path has one
//! id and an id one path.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::channel::Channel;
use crate::error::{Attempt, CreateError, OpenError};
use crate::handler::Chain;
use crate::open::ReadOptions;
use crate::options::WriterOptions;
use crate::sys::file;
use crate::wait::Wait;
use crate::writer::Writer;

const EXTENSION: &str = "kekbit";

impl Channel {
    /// The path of the channel `id` below `root`: `root/hhhh_hhhh/hhhh_hhhh.kekbit`, the id's 16 hexadecimal digits.
    ///
    /// # Example: an id has one path, and a path one id
    ///
    /// ```
    /// use std::path::Path;
    /// use kekbit::Channel;
    ///
    /// let path = Channel::path_in("/srv/channels", 0x12_0000_10af);
    /// assert_eq!(path, Path::new("/srv/channels/0000_0012/0000_10af.kekbit"));
    /// assert_eq!(Channel::id_of(&path), Some(0x12_0000_10af));
    /// assert_eq!(Channel::id_of("/srv/channels/orders.kek"), None);
    /// ```
    pub fn path_in(root: impl AsRef<Path>, id: u64) -> PathBuf {
        let mut path = root.as_ref().join(half_name((id >> 32) as u32));
        path.push(format!("{}.{EXTENSION}", half_name(id as u32)));
        path
    }

    /// The id of the channel that has the name `path` by this scheme, below whatever root. Only the name is looked at.
    pub fn id_of(path: impl AsRef<Path>) -> Option<u64> {
        let path = path.as_ref();
        let low = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
        let high = path.parent()?.file_name()?.to_str()?;
        Some(u64::from(half(high)?) << 32 | u64::from(half(low)?))
    }

    /// The ids of the channels below `root`, by their names, in order. Whether they are what their names say is told by opening
    /// them. Other files and directories are passed over.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`] if there is no `root`, and if a directory cannot be listed.
    pub fn ids_in(root: impl AsRef<Path>) -> Result<Vec<u64>, OpenError> {
        let root = root.as_ref();
        let mut ids = Vec::new();
        for name in names(root).opening("list", root)? {
            let Some(high) = half(&name) else { continue };
            let directory = root.join(&name);
            let files = match names(&directory) {
                Ok(files) => files,
                // A file of that name, a directory that has gone meanwhile, or a link that leads nowhere or to itself.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound)
                        || error.raw_os_error() == Some(Errno::ELOOP as i32) =>
                {
                    continue;
                }
                Err(error) => return Err(error).opening("list", &directory),
            };
            let low = |file: &String| half(file.strip_suffix(EXTENSION)?.strip_suffix('.')?);
            ids.extend(files.iter().filter_map(low).map(|low| u64::from(high) << 32 | u64::from(low)));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Opens the channel `id` below `root`.
    ///
    /// # Errors
    ///
    /// See [`ReadOptions::open_in`].
    pub fn open_in(root: impl AsRef<Path>, id: u64) -> Result<Channel, OpenError> {
        Channel::options().open_in(root, id)
    }
}

impl ReadOptions {
    /// Opens the channel `id` below `root`, whose path is [`Channel::path_in`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; [`OpenError::OtherChannel`] if the file is there and says that it is another channel.
    pub fn open_in(self, root: impl AsRef<Path>, id: u64) -> Result<Channel, OpenError> {
        named(self.open(Channel::path_in(root, id))?, id)
    }

    /// The same, waiting for the channel to appear, as [`ReadOptions::wait_for`]. `None` if `wait` gave up. The directories need not
    /// be there yet.
    ///
    /// # Errors
    ///
    /// As [`ReadOptions::open_in`]; a channel that is not there is none.
    pub fn wait_for_in(
        self,
        root: impl AsRef<Path>,
        id: u64,
        wait: Wait<'_>,
    ) -> Result<Option<Channel>, OpenError> {
        self.wait_for(Channel::path_in(root, id), wait)?.map(|channel| named(channel, id)).transpose()
    }
}

/// The channel, if it has the id after which it is named.
fn named(channel: Channel, id: u64) -> Result<Channel, OpenError> {
    match channel.channel_id() {
        found if found == id => Ok(channel),
        found => Err(OpenError::OtherChannel { path: channel.path().to_owned(), expected: id, found }),
    }
}

impl<C: Chain> WriterOptions<C> {
    /// Creates the channel below `root`, under the name that [`Channel::path_in`] makes of its
    /// [channel id](WriterOptions::channel_id), which must have been chosen. Directories that are missing are created, `root`
    /// among them, with permissions that follow from those [of the file](WriterOptions::mode): who may read it may find it, and
    /// who may write to it may create others.
    ///
    /// # Durability
    ///
    /// As [`WriterOptions::create`]; the name of a new directory is synced before there is anything in it.
    ///
    /// # Errors
    ///
    /// As [`WriterOptions::create`], and [`CreateError::Options`] without a channel id. New directories stay.
    ///
    /// # Example: an id for an address
    ///
    /// ```
    /// use kekbit::{Channel, CreateError, Writer};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let root = dir.path().join("channels");
    /// let mut writer = Writer::options().channel_id(42).create_in(&root)?;
    /// writer.append(b"hello")?;
    /// writer.close()?;
    /// assert_eq!(Channel::ids_in(&root)?, [42]);
    /// assert_eq!(&Channel::open_in(&root, 42)?.records().next().unwrap()?[..], b"hello");
    ///
    /// let again = Writer::options().channel_id(42).create_in(&root);
    /// assert!(matches!(again, Err(CreateError::AlreadyExists { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_in(self, root: impl AsRef<Path>) -> Result<Writer<C>, CreateError> {
        let Some(id) = self.channel_id else {
            return Err(CreateError::Options(
                "no channel id was chosen, after which the file would be named: choose one with channel_id"
                    .into(),
            ));
        };
        let path = Channel::path_in(root, id);
        // What cannot be is refused before anything is made.
        self.header(&path)?;
        create_directories(file::directory_of(&path), directory_mode(self.mode))?;
        self.create(path)
    }
}

/// The permission bits of a directory for files with these: whoever may read or write the file may enter it; listing it goes
/// with reading, and creating others with writing.
fn directory_mode(mode: u32) -> u32 {
    mode | (mode >> 1 | mode >> 2) & 0o111 | 0o700
}

/// Creates the directory at `path` and those above it that are missing. Each name is synced before anything is put into what it
/// names, whatever the policy: nobody who syncs a record asks for that any more. So what has something in it is durable.
fn create_directories(path: &Path, mode: u32) -> Result<(), CreateError> {
    let parent = file::directory_of(path);
    let create = || DirBuilder::new().mode(mode).create(path);
    let mut created = create();
    if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) && parent != path {
        create_directories(parent, mode)?;
        created = create();
    }
    match created {
        Ok(()) => {}
        Err(_) if path.is_dir() => {
            // Who has created an empty one may have died before the sync.
            if fs::read_dir(path).creating("list", path)?.next().is_some() {
                return Ok(());
            }
        }
        Err(error) => return Err(error).creating("create the directory", path),
    }
    let synced = file::open_directory(parent).and_then(|parent| file::sync(&parent));
    synced.creating("sync the directory of", path)
}

/// Four digits, an underscore, four digits.
fn half_name(half: u32) -> String {
    format!("{:04x}_{:04x}", half >> 16, half & 0xFFFF)
}

/// The number that [`half_name`] makes this name of.
fn half(name: &str) -> Option<u32> {
    let (high, low) = name.split_once('_')?;
    let digits = |text: &str| {
        let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 4 && text.bytes().all(plain)).then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    Some(digits(high)? << 16 | digits(low)?)
}

/// The names in a directory; those that are no text cannot be any of ours.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_original() {
        for (id, path) in [
            (0, "0000_0000/0000_0000.kekbit"),
            (0xAAAA_BBBB_CCCC_DDDD, "aaaa_bbbb/cccc_dddd.kekbit"),
            (0xBBBB_CCCC_0001, "0000_bbbb/cccc_0001.kekbit"),
            (u64::MAX, "ffff_ffff/ffff_ffff.kekbit"),
        ] {
            assert_eq!(Channel::path_in("root", id), Path::new("root").join(path));
        }
    }

    #[test]
    fn what_is_not_exactly_a_name_of_the_scheme_has_no_id() {
        for path in [
            "",
            "/",
            "0000_0000.kekbit",
            "0000_0000/0000_0000",
            "0000_0000/0000_0000.kek",
            "0000_0000/0000_0000kekbit",
            "0000_0000/0000_0000.kekbit.kekbit",
            "0000_0000/0000_0000.lock",
            "0000_0000/000_00000.kekbit",
            "0000_0000/00000000.kekbit",
            "0000_0000/0000_000A.kekbit",
            "0000_0000/+000_0000.kekbit",
            "AAAA_0000/0000_0000.kekbit",
            "0000_00000/0000_0000.kekbit",
            "0000_0000_0000/0000_0000.kekbit",
            "root/0000_0000/x/0000_0000.kekbit",
            "0000_0000/..",
        ] {
            assert_eq!(Channel::id_of(path), None, "{path}");
        }
    }

    #[test]
    fn who_may_use_a_file_may_find_it() {
        for (mode, directory) in
            [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755), (0o660, 0o770), (0o666, 0o777), (0o620, 0o730)]
        {
            assert_eq!(directory_mode(mode), directory, "{mode:o}");
        }
    }

    proptest! {
        #[test]
        fn an_id_has_one_path_and_a_path_one_id(id: u64) {
            prop_assert_eq!(Channel::id_of(Channel::path_in("a/b", id)), Some(id));
        }

        #[test]
        fn a_name_with_an_id_is_the_one_that_the_id_makes(text in "[0-9a-fA-F_.kebit/]{0,32}") {
            if let Some(id) = Channel::id_of(&text) {
                prop_assert!(Path::new(&text).ends_with(Channel::path_in("", id)));
            }
        }
    }
}
