//! Opening a channel for reading.
//!
//! ```text
//! open -> share of the readers' lock -> does the name still lead here? -> header -> does the writer live? -> length
//! ```
//!
//! The order matters: with the lock held the file is not reused, and a file that has its name after that is the one that
//! was asked for; a writer that is gone when it is asked for does not make the file longer afterwards.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use crate::channel::{Channel, Mapped};
use crate::cursor::Belief;
use crate::error::{Attempt, FormatError, OpenError};
use crate::layout::PAGE;
use crate::layout::frame::WORD;
use crate::layout::header::{Header, SALT};
use crate::mapping::Mapping;
use crate::memory::map::{Access, Map};
use crate::opened::Opened;
use crate::stage_layout::StageLayout;
use crate::sys::file;
use crate::sys::lock::{self, Role};
use crate::time::boot_id;

/// When the checksums of records are computed while reading. Lengths are compared with the file's always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Verify {
    /// For each record.
    Always,
    /// For each record, unless the writer was alive when the channel was opened: then its bytes have not left the
    /// memory in which they were written.
    #[default]
    UnlessLive,
    /// Never. After a crash of the machine, lost and damaged records may then be returned as good ones.
    Never,
}

/// Options for opening a channel; made by [`Channel::options`].
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `open`"]
pub struct ReadOptions {
    verify: Verify,
    stored: bool,
    random: bool,
    crashed: bool,
}

impl ReadOptions {
    /// When checksums are computed. Default: unless the writer lives.
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Lets records dereference to their stored bytes, with what the stages put around or in place of the payload.
    /// Needed for channels with a stage in place of the payload that kekbit does not bring, or was not built with: their
    /// records are then decoded by a [`Decoder`](crate::Decoder). Default: off.
    pub fn stored(mut self, stored: bool) -> Self {
        self.stored = stored;
        self
    }

    /// Tells the kernel that reads will jump about, so that it reads single pages instead of reading ahead. Default: off.
    pub fn random_access(mut self, random: bool) -> Self {
        self.random = random;
        self
    }

    /// Believes the channel only as far as after a crash of the machine, although the machine has not been restarted:
    /// for a file system that was shut down or whose disk was gone, and that was mounted again. Nothing in the file tells
    /// that from a file that is as it was written, so that without this what was not synced is called corrupt and not torn.
    /// It does no harm where nothing has crashed, and nothing to a channel whose writer lives. Default: off.
    pub fn crashed(mut self, crashed: bool) -> Self {
        self.crashed = crashed;
        self
    }

    /// Opens the channel.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Channel, OpenError> {
        open(path.as_ref(), &self, &mut None)
    }

    /// Opens the channel in a file that this process has mapped already, so that its pages need not be mapped again, as far
    /// as they were. Should `path` be another file, or its channel be longer, it is mapped as by [`ReadOptions::open`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. The mapping is taken when the file has been opened.
    ///
    /// # Example: follow channels that are written in turn in the same files
    ///
    /// ```
    /// use kekbit::{Channel, Start, Writer};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let (old, new) = (dir.path().join("1.kek"), dir.path().join("2.kek"));
    /// let options = Writer::options().capacity(1 << 20).keep_space(true);
    /// let writer = options.clone().create(&old)?;
    /// let reader = Channel::open(&old)?.reader(Start::Beginning)?;
    /// writer.close()?;
    /// let mut mapping = reader.into_mapping();
    ///
    /// let mut writer = options.create_from(&old, &new)?;
    /// writer.append(b"in the same pages")?;
    /// let channel = Channel::options().open_mapped(&new, &mut mapping)?;
    /// assert_eq!(&channel.records().next().unwrap()?[..], b"in the same pages");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_mapped(
        self,
        path: impl AsRef<Path>,
        mapping: &mut Option<Mapping>,
    ) -> Result<Channel, OpenError> {
        open(path.as_ref(), &self, mapping)
    }
}

/// How often opening starts over when the file is being reused, and how long it waits in between.
const ATTEMPTS: u32 = 100;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(1);

fn open(path: &Path, options: &ReadOptions, mapping: &mut Option<Mapping>) -> Result<Channel, OpenError> {
    let mut opened = look_into(path, options)?;
    let len = opened.header.regions.data + opened.reach;
    let metadata = opened.file.metadata().opening("look up", path)?;
    let taken =
        mapping.take().filter(|mapping| mapping.fits(&metadata, Access::Read, len)).map(Mapping::into_map);
    // The same inode is nearly, but on some file systems not quite, the same file.
    let taken = taken.filter(|(map, _)| map.words(SALT) == opened.header.salt);
    let (map, present) = match taken {
        Some(taken) => taken,
        None => (map_without_lock(&opened.file, len).opening("map", path)?, 0),
    };
    if options.random {
        map.expect_random().opening("advise on", path)?;
    }
    let map = Arc::new(map);
    opened.front = opened.live.then(|| Arc::clone(&map));
    Ok(Channel::new(Mapped::new(opened, map, present)))
}

/// Maps the file through a description of its own, on which the readers' lock does not lie, so that the mapping may outlive
/// the channel without keeping the file from being reused. Without /proc, through the one that there is.
fn map_without_lock(file: &File, len: u64) -> Result<Map, Errno> {
    match file::reopen_for_reading(file) {
        Ok(other) => Map::new(&other, len, Access::Read),
        Err(_) => Map::new(file, len, Access::Read),
    }
}

/// Opens the file and finds out what it is and what may be believed of it. Nothing is mapped.
pub(crate) fn look_into(path: &Path, options: &ReadOptions) -> Result<Opened, OpenError> {
    from_file(find(path, options.random)?, path, options)
}

/// The file that has the name `path`, with a share of its readers' lock.
pub(crate) fn find(path: &Path, random: bool) -> Result<File, OpenError> {
    for _ in 0..ATTEMPTS {
        let file = file::open(path, false).opening("open", path)?;
        let kind = file.metadata().opening("look up", path)?.file_type();
        if !kind.is_file() {
            let what = if kind.is_dir() { "a directory" } else { "a FIFO, a socket or a device" };
            return Err(OpenError::NotAFile { path: path.to_owned(), what });
        }
        if random {
            file::expect_random(&file).opening("advise on", path)?;
        }
        // Held as long as the channel is open, so that the file is not reused meanwhile; and only a file that
        // still has its name after that is the one that was asked for.
        if lock::shared(&file, Role::Readers).opening("lock", path)?
            && file::is_named(&file, path).opening("look up", path)?
        {
            return Ok(file);
        }
        std::thread::sleep(ATTEMPT_PAUSE);
    }
    Err(OpenError::Reused { path: path.to_owned() })
}

fn from_file(file: File, path: &Path, options: &ReadOptions) -> Result<Opened, OpenError> {
    let format = |source| OpenError::Format { path: path.to_owned(), source };
    let header = read_header(&file).opening("read", path)?.map_err(format)?;
    let live = lock::is_held(&file, Role::Writer).opening("ask for the writer of", path)?;
    // After the question: a writer that has gone does not make the file longer any more.
    let metadata = file.metadata().opening("look up", path)?;
    let (data, len) = (header.regions.data, metadata.len());
    if len < data + WORD {
        return Err(format(FormatError::Truncated { len, needed: data + WORD }));
    }
    let mut layout = StageLayout::new(&header.attributes.stages, header.max_record_len)
        .map_err(|what| format(FormatError::Header(what)))?;
    if options.stored {
        layout = layout.stored();
    } else if let Some(stage) = layout.replaced().find(|stage| stage.undo.is_none()) {
        return Err(OpenError::Encoded { path: path.to_owned(), stage: stage.name.clone(), id: stage.id });
    } else if layout.replaced().count() > 1 {
        // Each makes up to 255 times as much, so that some bytes would be some hundred megabytes.
        return Err(format(FormatError::Header("its records are compressed more than once")));
    }
    let total = data + header.capacity;
    let data_len = (len.min(total) - data) & !7;
    // Of a copy, and of a boot without a name, nothing is known.
    let boot = boot_id();
    let known = header.boot_id != [0; 16] && boot != [0; 16] && header.inode == metadata.ino();
    let same_boot = known && header.boot_id == boot && !options.crashed;
    let mut opened = Opened {
        path: path.to_owned(),
        file,
        layout,
        verify: match options.verify {
            Verify::Always => true,
            Verify::UnlessLive => !live,
            Verify::Never => false,
        },
        live,
        locked: live,
        random: options.random,
        same_boot: live || same_boot,
        other_boot: !live && known && header.boot_id != boot && !options.crashed,
        slots_said: 0,
        entries_below: u64::MAX,
        belief: Belief::LIVE,
        data_len,
        reach: if live { header.capacity } else { data_len },
        front: None,
        header,
    };
    // Of a channel that has ended a writer may keep the mapping, and its lock with it; so it is the file that it wrote.
    if live && opened.has_terminal().opening("read", path)? {
        opened.live = false;
        opened.verify = options.verify != Verify::Never;
        opened.reach = opened.data_len;
    }
    if !opened.live {
        opened.believe(opened.same_boot).opening("read", path)?;
    }
    Ok(opened)
}

/// Reads the header of a file, and checks it.
pub(crate) fn read_header(file: &File) -> io::Result<Result<Header, FormatError>> {
    let mut page = [0; PAGE as usize];
    let read = file::read_at(file, &mut page, 0)?;
    Ok(Header::decode(&page[..read]))
}
