//! How a channel's file comes into being: all at once or not at all.
//!
//! ```text
//! unnamed file -> writer's lock -> space -> header, control -> sync -> name -> sync of the directory
//! ```
//!
//! Whoever finds the name finds a complete channel with a living writer. A process that dies before leaves nothing
//! behind, or, where a file system knows no unnamed files and when a file is reused, a hidden file named `*.tmp`.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use crate::error::{Attempt, CreateError};
use crate::handler::Chain;
use crate::layout::control::{HEARTBEAT, RESERVED, SLOTS, Slot};
use crate::layout::header::{Header, Regions};
use crate::layout::{PAGE, round_up};
use crate::mapping::Mapping;
use crate::memory::map::{Access, Map};
use crate::options::{Durability, Prepare, WriterOptions};
use crate::pen::{Pen, PenStart};
use crate::sys::file::{self, Unnamed};
use crate::sys::interruption::uninterrupted;
use crate::sys::lock::{self, Role};
use crate::writer::Writer;

/// Where the file ends at first: on storage at a multiple of this, which costs next to nothing and lets the page cache
/// use large pages; in memory so many bytes behind the beginning of the data.
const FIRST_ON_STORAGE: u64 = 4 << 20;
const FIRST_IN_MEMORY: u64 = 64 << 10;
/// Where syncs are frequent: bytes of data that are written with zeros at creation.
const FIRST_FOR_SYNCS: u64 = 256 << 10;

impl<C: Chain> WriterOptions<C> {
    /// Creates the channel. The file has its name when it is complete and not before; nothing is left behind otherwise.
    ///
    /// # Durability
    ///
    /// The header is synced always; the name in its directory unless the policy is never.
    ///
    /// # Errors
    ///
    /// See [`CreateError`]. Of several processes that create the same path one succeeds.
    pub fn create(self, path: impl AsRef<Path>) -> Result<Writer<C>, CreateError> {
        let path = path.as_ref();
        let pen = self.create_nameless(self.header(path)?, path)?.name(path)?;
        Ok(Writer::new(pen, self.chain))
    }

    /// Creates the channel in the file of a retired one, which loses its name and its content. Its pages are in memory
    /// and its space is reserved already (all of it with [`WriterOptions::keep_space`]), so that this is faster than a fresh
    /// file. The pages must be mapped again: [`Prepare`] says what that costs.
    ///
    /// # Durability
    ///
    /// As [`WriterOptions::create`]. What is left of the old content is not synced, nor is it believed by anybody.
    ///
    /// # Errors
    ///
    /// [`CreateError::InUse`] while anybody reads, writes or seals the retired channel. Then, and if there is no space or
    /// the new name is taken at first sight, the retired channel is as it was; if anything fails later it is gone.
    pub fn create_from(
        self,
        retired: impl AsRef<Path>,
        path: impl AsRef<Path>,
    ) -> Result<Writer<C>, CreateError> {
        self.create_over(retired.as_ref(), &mut None, path.as_ref())
    }

    /// The same in a file that this process has mapped already: then also its pages need not be mapped again, as far as they
    /// were, which makes the next channel as fast as one that is prepared as a whole. The retired channel and the new one should
    /// [keep their space](WriterOptions::keep_space) and have the same capacity.
    ///
    /// # Errors
    ///
    /// As [`WriterOptions::create_from`]. The mapping is taken when the file is, so that it is still there after
    /// [`CreateError::InUse`].
    ///
    /// # Example: two channels in turn
    ///
    /// ```
    /// use kekbit::{Channel, Writer};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let path = |number: u32| dir.path().join(format!("{number}.kek"));
    /// let options = Writer::options().capacity(1 << 20).keep_space(true);
    /// let mut writer = options.clone().create(path(0))?;
    /// for number in 1..4 {
    ///     writer.append(format!("channel {number}").as_bytes())?;
    ///     // Everybody who cares has read it by now.
    ///     let mut mapping = writer.close_mapped()?;
    ///     writer = options.clone().create_from_mapped(path(number - 1), &mut mapping, path(number))?;
    /// }
    /// assert!(Channel::open(path(0)).is_err() && Channel::open(path(3)).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_from_mapped(
        self,
        retired: impl AsRef<Path>,
        mapping: &mut Option<Mapping>,
        path: impl AsRef<Path>,
    ) -> Result<Writer<C>, CreateError> {
        self.create_over(retired.as_ref(), mapping, path.as_ref())
    }

    fn create_over(
        self,
        retired: &Path,
        mapping: &mut Option<Mapping>,
        path: &Path,
    ) -> Result<Writer<C>, CreateError> {
        let pen = self.reuse_nameless(self.header(path)?, retired, mapping, path)?.name(path)?;
        Ok(Writer::new(pen, self.chain))
    }

    /// Creates a channel with this header in the file of a retired one, for the name `path`, but without it.
    pub(crate) fn reuse_nameless(
        &self,
        mut header: Header,
        retired: &Path,
        mapping: &mut Option<Mapping>,
        path: &Path,
    ) -> Result<Nameless, CreateError> {
        if path.symlink_metadata().is_ok() {
            return Err(CreateError::AlreadyExists { path: path.to_owned() });
        }
        let old = file::open(retired, true).creating("open", retired)?;
        let in_use = || CreateError::InUse { path: retired.to_owned() };
        let locked = lock::exclusive(&old, Role::Readers).creating("lock", retired)?;
        let held = |role| lock::is_held(&old, role).creating("lock", retired);
        // A writer's mapping of this file has the writer's lock on it. One that does not fit is of no use.
        let metadata = old.metadata().creating("look up", retired)?;
        let total = header.regions.data + header.capacity;
        *mapping = mapping.take().filter(|mapping| mapping.fits(&metadata, Access::Write, total));
        if !locked || (mapping.is_none() && held(Role::Writer)?) || held(Role::Sealer)? {
            return Err(in_use());
        }
        if !file::is_named(&old, retired).creating("look up", retired)? {
            return Err(in_use());
        }
        let mut page = vec![0; PAGE as usize];
        let read = file::read_at(&old, &mut page, 0).creating("read", retired)?;
        let before = Header::decode(&page[..read])
            .map_err(|source| CreateError::Retired { path: retired.to_owned(), source })?;
        header.salt = next_salt(before.salt, header.salt);
        // A copy may have holes.
        let original = before.inode == metadata.ino();
        self.check_file_system(&old, path)?;
        let clear = header.regions.data + PAGE;
        file::reserve(&old, 0, clear).creating("reserve space for", path)?;
        // From here on the file belongs to the new channel, or to nobody.
        let Some(unnamed) = Unnamed::take(old, retired, path).creating("rename", retired)? else {
            return Err(in_use());
        };
        if self.joins_journal {
            // Or its old name might lead to what is just being written, after a crash of the machine.
            let directory =
                file::open_directory(file::directory_of(path)).creating("open the directory of", path)?;
            file::sync(&directory).creating("sync the directory of", path)?;
        }
        let mapping = mapping.take();
        let mode = self.mode & !file::mode_mask();
        if unnamed.file.metadata().creating("look up", path)?.mode() & 0o777 != mode {
            file::set_mode(&unnamed.file, mode).creating("set the permissions of", path)?;
        }
        let len = unnamed.file.metadata().creating("look up", path)?.len();
        if len > total {
            file::set_len(&unnamed.file, total).creating("shorten", path)?;
        }
        // Header, control, index and the first word; what is behind is stale by its salt.
        file::write_zeros(&unnamed.file, 0, clear).creating("clear", path)?;
        self.establish(unnamed, header, path, Origin::Reused { original, mapping })
    }

    fn check_file_system(&self, file: &File, path: &Path) -> Result<file::FileSystem, CreateError> {
        let file_system = file::file_system(file).creating("look up the file system of", path)?;
        if let Some(name) = file_system.shared_between_machines().filter(|_| !self.force) {
            return Err(CreateError::SharedFileSystem { path: path.to_owned(), file_system: name });
        }
        Ok(file_system)
    }

    /// Creates a channel with this header, whose inode is not known yet, for the name `path`, but without it.
    pub(crate) fn create_nameless(&self, header: Header, path: &Path) -> Result<Nameless, CreateError> {
        if path.symlink_metadata().is_ok() {
            return Err(CreateError::AlreadyExists { path: path.to_owned() });
        }
        let unnamed = Unnamed::create(path, self.mode).creating("create", path)?;
        let file_system = self.check_file_system(&unnamed.file, path)?;
        if file_system.is_btrfs() {
            file::disable_copy_on_write(&unnamed.file).creating("disable copy-on-write of", path)?;
        }
        self.establish(unnamed, header, path, Origin::Fresh)
    }

    /// Turns a file that nobody else knows, empty or cleared, into a channel that has no name yet.
    fn establish(
        &self,
        unnamed: Unnamed,
        mut header: Header,
        path: &Path,
        origin: Origin,
    ) -> Result<Nameless, CreateError> {
        let file = &unnamed.file;
        let total = header.regions.data + header.capacity;
        let (original, mapping) = match origin {
            Origin::Fresh => (None, None),
            Origin::Reused { original, mapping } => (Some(original), mapping),
        };
        let taken_over = mapping.is_some();
        let (map, present) = match mapping {
            Some(mapping) => mapping.into_map(),
            None => (map_and_lock(&unnamed, total, path)?, 0),
        };
        let metadata = file.metadata().creating("look up", path)?;
        header.inode = metadata.ino();
        let Regions { control, data, .. } = header.regions;
        let on_storage = file::file_system(file).creating("look up the file system of", path)?.is_storage();
        let zeroes = on_storage && self.durability.syncs_often();
        let generous = match self.prepare {
            Prepare::All => total,
            _ if zeroes => total.min(data + FIRST_FOR_SYNCS),
            _ if on_storage => total.min(round_up(data + PAGE, FIRST_ON_STORAGE)),
            _ => total.min(data + FIRST_IN_MEMORY),
        };
        let generous = generous.max(metadata.len());
        let reserved = match reserve_rest(file, &metadata, generous, original == Some(true), on_storage) {
            Ok(()) => generous.min(total) - data,
            // Nearly full: what it has is its own, and is left.
            Err(_)
                if original == Some(true)
                    && metadata.len() >= data + PAGE
                    && file::reserve(file, 0, metadata.len()).is_ok() =>
            {
                (metadata.len().min(total) - data) & !(PAGE - 1)
            }
            Err(_) => {
                // Nearly full: as little as possible. What the file has beyond that is not surely its own.
                file::reserve(file, 0, data + PAGE).creating("reserve space for", path)?;
                file::set_len(file, data + PAGE).creating("shorten", path)?;
                PAGE
            }
        };
        let mut cleared = PAGE;
        if zeroes {
            // Of a reused file everything has been written already. A failure costs speed only: the space is reserved.
            // The first pages of the index too, or the first sync that writes one would have to change the file's metadata.
            let written = round_up(metadata.len(), PAGE);
            let front = data.min(FIRST_FOR_SYNCS);
            let _ = file::write_zeros(file, written.min(front), front);
            let _ = file::write_zeros(file, written.max(data).min(data + reserved), data + reserved);
            if written < data + reserved {
                cleared = reserved;
            }
        }
        let page = header.encode().ok_or_else(|| CreateError::Options("the header is too long".into()))?;
        file::write_all_at(file, &page, 0).creating("write", path)?;
        if on_storage && self.durability == Durability::Never {
            // Nobody will wait for a sync, which would write whole large pages. Refused where there are none.
            let _ = map.expect_streaming();
        } else if taken_over {
            // Its last life may have asked for them.
            let _ = map.expect_nothing();
        }
        map.store(control + RESERVED, reserved);
        map.store(control + HEARTBEAT, header.created);
        map.store_words(control + SLOTS[1], &Slot { synced: 0, counter: 1 }.encode(header.mixing()));
        match original {
            None => file::sync(file),
            // Not what is left of the old life, which may be the whole file: nobody needs it any more. The new name and mode
            // go along because reserving, which comes after them, is part of what such a sync waits for.
            Some(_) => uninterrupted(|| map.sync(0, data + reserved.min(cleared))),
        }
        .creating("sync", path)?;
        let second = unnamed.reopen().creating("reopen", path)?;
        // Given back by name: a process that another thread is just starting may have a copy of the descriptor.
        lock::release(file, Role::Readers).creating("unlock", path)?;
        let start = PenStart {
            tail: 0,
            sequence: header.first_sequence,
            reserved,
            // On storage, pages that were written back fault again, present or not.
            prepared: if on_storage { 0 } else { present.min(reserved) },
            index_used: 0,
            synced: 0,
            slot_counter: 1,
            on_storage,
        };
        let mut pen = Pen::new(Arc::new(map), second, header, start, self.durability, self.prepare);
        if self.keep_space {
            pen.keep_space();
        }
        pen.prepare_at_creation().creating("start the preparing thread of", path)?;
        if !self.joins_journal {
            pen.start_ticker().creating("start the syncing thread of", path)?;
        }
        // Opened before there is anything to be undone.
        let directory = match self.durability {
            Durability::Never if !self.joins_journal => None,
            _ => {
                Some(file::open_directory(file::directory_of(path)).creating("open the directory of", path)?)
            }
        };
        Ok(Nameless { pen, unnamed, directory })
    }
}

/// Where the file of a new channel comes from.
#[derive(Debug)]
enum Origin {
    Fresh,
    /// From a retired channel; whether its file is the one that kekbit has written, not a copy of it, and how it is mapped.
    Reused {
        original: bool,
        mapping: Option<Mapping>,
    },
}

/// Reserves what the file does not have yet of its first `to` bytes. `original`: it is not fresh, and no copy.
fn reserve_rest(
    file: &File,
    metadata: &Metadata,
    to: u64,
    original: bool,
    on_storage: bool,
) -> Result<(), Errno> {
    // The kernel looks at each page of a file in memory, 0.1 ms for each mebibyte. kekbit's own files have no
    // holes, and there the number of blocks tells exactly.
    let whole = metadata.blocks() * 512 >= metadata.len();
    let known = original && !on_storage && whole;
    let from = if known { metadata.len() & !(PAGE - 1) } else { 0 };
    if from < to { file::reserve(file, from, to) } else { Ok(()) }
}

/// A complete channel that has no name yet. Nothing is left of it if it does not get one.
#[derive(Debug)]
pub(crate) struct Nameless {
    pub(crate) pen: Pen,
    unnamed: Unnamed,
    /// To be synced when it has its name.
    directory: Option<File>,
}

impl Nameless {
    /// Gives the channel the name `path`, unless something has it already.
    pub(crate) fn name(mut self, path: &Path) -> Result<Pen, CreateError> {
        self.unnamed.name(path).creating("name", path)?;
        if let Some(error) = self.directory.and_then(|directory| file::sync(&directory).err()) {
            // The name may or may not outlive a power cut; so that there is no doubt, there is none.
            let _ = std::fs::remove_file(path);
            return Err(error).creating("sync the directory of", path);
        }
        Ok(self.pen)
    }

    /// Gives the channel the name `path`, unless something has it already, and says in its header that it begins at the time
    /// `now`, with the record `first`. Neither is synced: the first sync of the channel will do so, and before it nothing of the channel is
    /// durable. What comes along may be dropped at leisure, which closes the file.
    pub(crate) fn begin(self, first: u64, now: u64, path: &Path) -> Result<(Pen, Unnamed), CreateError> {
        let Nameless { mut pen, mut unnamed, directory } = self;
        pen.begin(first, now, directory);
        unnamed.name(path).creating("name", path)?;
        Ok((pen, unnamed))
    }
}

/// Maps the file for writing, and takes the writer's lock. The lock lies on a description of its own, whose descriptor
/// is closed again at once, so that only the mapping keeps it: a process that another thread forks or starts meanwhile
/// inherits all descriptors, and would keep the lock with them.
fn map_and_lock(unnamed: &Unnamed, total: u64, path: &Path) -> Result<Map, CreateError> {
    let locked = unnamed.reopen().creating("reopen", path)?;
    let map = Map::new(&locked, total, Access::Write).creating("map", path)?;
    if lock::exclusive(&locked, Role::Writer).creating("lock", path)? {
        Ok(map)
    } else {
        Err(CreateError::InUse { path: path.to_owned() })
    }
}

/// A salt for the next life of a file: not the old one, whatever the randomness is worth, so that no frame of the old
/// life passes for one of the new.
fn next_salt(old: [u8; 16], random: [u8; 16]) -> [u8; 16] {
    u128::from_le_bytes(old).wrapping_add(u128::from_le_bytes(random) | 1).to_le_bytes()
}
