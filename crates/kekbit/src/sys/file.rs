//! Files: opened without following links, created all at once or not at all, with space that is really theirs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{
    self, AT_FDCWD, AtFlags, FallocateFlags, OFlag, PosixFadviseAdvice, RenameFlags, fallocate,
    posix_fadvise, renameat2,
};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::statfs::{self, FsType, fstatfs};
use nix::unistd::{Whence, fsync, ftruncate, linkat, lseek};

use super::interruption::uninterrupted;
use crate::layout::{PAGE, round_up};

/// Opens an existing regular file, not through a symbolic link as its last component.
///
/// `O_NONBLOCK`, so that opening a FIFO fails here instead of waiting for its other end.
pub(crate) fn open(path: &Path, write: bool) -> io::Result<File> {
    let access = if write { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    Ok(open_with(path, access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)?)
}

/// Creates a file with this name, unless there is something already.
pub(crate) fn create_new(path: &Path) -> Result<File, Errno> {
    open_with(path, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL, 0o600)
}

/// Opens the file of `file` once more, for reading: another open file description, on which no lock lies.
pub(crate) fn reopen_for_reading(file: &File) -> Result<File, Errno> {
    open_with(&descriptor_path(file), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)
}

/// Opens a directory, to sync it.
pub(crate) fn open_directory(path: &Path) -> Result<File, Errno> {
    open_with(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
}

fn open_with(path: &Path, flags: OFlag, mode: u32) -> Result<File, Errno> {
    let (flags, mode) = (flags | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE, Mode::from_bits_truncate(mode));
    uninterrupted(|| fcntl::open(path, flags, mode)).map(File::from)
}

/// The text of a file of /proc, or nothing.
pub(crate) fn kernel_text(path: &str) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = open_with(Path::new(path), OFlag::O_RDONLY, 0)?;
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match uninterrupted(|| file.read(&mut piece))? {
                0 => return Ok(text),
                len => text.extend_from_slice(&piece[..len]),
            }
        }
    };
    read().ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default()
}

/// Reads into `bytes` from the offset `at` on, and tells how much was there: less only at the end of the file.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match uninterrupted(|| file.read_at(&mut bytes[read..], at + read as u64))? {
            0 => break,
            len => read += len,
        }
    }
    Ok(read)
}

/// Makes the file `len` bytes long.
pub(crate) fn set_len(file: &File, len: u64) -> Result<(), Errno> {
    uninterrupted(|| ftruncate(file, len as i64))
}

/// Writes everything of the file or directory to the storage and waits for it.
pub(crate) fn sync(file: &File) -> Result<(), Errno> {
    uninterrupted(|| fsync(file))
}

/// Sets the permission bits of the file.
pub(crate) fn set_mode(file: &File, mode: u32) -> Result<(), Errno> {
    uninterrupted(|| fchmod(file, Mode::from_bits_truncate(mode)))
}

/// Writes all of `bytes` at the offset `at`.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match uninterrupted(|| file.write_at(bytes, at))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => (bytes, at) = (&bytes[written..], at + written as u64),
        }
    }
    Ok(())
}

fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Tells the kernel that reads will jump about, so that it does not read ahead.
pub(crate) fn expect_random(file: &File) -> Result<(), Errno> {
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)
}

/// Whether `path` still names the file behind `file`.
pub(crate) fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The directory that holds `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The process's mask of permission bits. The system call for it changes it for a moment, in all threads; so ask /proc,
/// and mask everything but the owner's bits if it does not tell.
pub(crate) fn mode_mask() -> u32 {
    let status = kernel_text("/proc/self/status");
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o077)
}

/// A file that has no name yet, or a temporary one, which is removed again unless the file gets its own.
#[derive(Debug)]
pub(crate) struct Unnamed {
    pub(crate) file: File,
    temporary: Option<PathBuf>,
}

impl Unnamed {
    /// A new, empty file in the directory of `path`, with permission bits `mode` less the process's mask.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Unnamed> {
        match open_with(directory_of(path), OFlag::O_RDWR | OFlag::O_TMPFILE, mode) {
            Ok(file) if descriptor_path(&file).exists() => return Ok(Unnamed { file, temporary: None }),
            // No /proc to name it through, or a file system without unnamed files.
            Ok(_) => {}
            // ENOENT also where the directory is missing: then the next attempt says so.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let temporary = temporary_name(path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let file = open_with(&temporary, flags, mode)?;
        Ok(Unnamed { file, temporary: Some(temporary) })
    }

    /// An existing file, taken from its name `from` to a temporary one beside `path`. `None`, and nothing, if something
    /// else has that name by now.
    pub(crate) fn take(file: File, from: &Path, path: &Path) -> io::Result<Option<Unnamed>> {
        let temporary = temporary_name(path)?;
        renameat2(AT_FDCWD, from, AT_FDCWD, &temporary, RenameFlags::RENAME_NOREPLACE)?;
        match is_named(&file, &temporary) {
            Ok(true) => Ok(Some(Unnamed { file, temporary: Some(temporary) })),
            other => {
                renameat2(AT_FDCWD, &temporary, AT_FDCWD, from, RenameFlags::RENAME_NOREPLACE)?;
                other.map(|_| None)
            }
        }
    }

    /// Opens the file once more: another open file description, on which the locks of this one do not lie.
    pub(crate) fn reopen(&self) -> io::Result<File> {
        let opened = match (open_with(&descriptor_path(&self.file), OFlag::O_RDWR, 0), &self.temporary) {
            // Without /proc.
            (Err(Errno::ENOENT), Some(temporary)) => open_with(temporary, OFlag::O_RDWR, 0),
            (opened, _) => opened,
        };
        Ok(opened?)
    }

    /// Gives the file the name `path`, unless something has it already.
    pub(crate) fn name(&mut self, path: &Path) -> io::Result<()> {
        match &self.temporary {
            Some(temporary) => {
                match renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
                    // A file system that cannot rename without replacing can link.
                    Err(Errno::EINVAL) => {
                        std::fs::hard_link(temporary, path)?;
                        if let Err(error) = std::fs::remove_file(temporary) {
                            // Two names for one file are one too many.
                            let _ = std::fs::remove_file(path);
                            return Err(error);
                        }
                    }
                    other => other?,
                }
                self.temporary = None;
            }
            None => {
                let from = descriptor_path(&self.file);
                linkat(AT_FDCWD, &from, AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
            }
        }
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The creation has failed already, with an error of its own.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Bytes that nobody can foretell.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            Err(error.raw_os_error().map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error))
        }
    }
}

/// A hidden name beside `path`, which nobody has.
pub(crate) fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let random = random()?;
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?);
    name.push(format!(".{:016x}.tmp", u64::from_le_bytes(random)));
    Ok(directory_of(path).join(name))
}

/// Reserves `[from, to)` of the file on the storage, and makes the file that long.
///
/// Afterwards storing there cannot fail for want of space. On failure the file is as long as before, or longer with
/// space that is its own.
pub(crate) fn reserve(file: &File, from: u64, to: u64) -> Result<(), Errno> {
    // Growing past this limit would not fail but raise SIGXFSZ.
    let (soft, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
    if to > soft {
        return Err(Errno::EFBIG);
    }
    uninterrupted(|| fallocate(file, FallocateFlags::empty(), from as i64, (to - from) as i64))
}

/// Writes zeros into `[from, to)`, whole pages of the file, in small pieces: large ones would make large pages of the page
/// cache, and every later sync would write such a page as a whole.
pub(crate) fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    for at in (from..to).step_by(PAGE as usize) {
        write_all_at(file, &[0; PAGE as usize], at)?;
    }
    Ok(())
}

/// Bytes that are read at once where a whole file is.
pub(crate) const PIECE: u64 = 1 << 20;

/// Where in `[from, to)` of the file the last byte lies that is not zero: behind it, at a multiple of 8 from `from`;
/// `from` if there is none. Passes over holes where the file system tells of them.
pub(crate) fn end_of_content(file: &File, from: u64, to: u64) -> io::Result<u64> {
    let (mut at, mut end) = (from, from);
    let mut piece = vec![0; PIECE.min(to.saturating_sub(from)) as usize];
    while at < to {
        // Data begin at a block, which is a multiple of 8; `at` is one too, or there already.
        at = at.max(next_data(file, at, to) & !7);
        let piece = &mut piece[..PIECE.min(to.saturating_sub(at)) as usize];
        if read_at(file, piece, at)? < piece.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(last) = piece.iter().rposition(|&byte| byte != 0) {
            end = (at + round_up(last as u64 + 1, 8)).min(to);
        }
        at += piece.len() as u64;
    }
    Ok(end)
}

/// The next byte from `at` on that is not in a hole, or `end`, or `at` where the file system does not tell.
pub(crate) fn next_data(file: &File, at: u64, end: u64) -> u64 {
    match lseek(file, at as i64, Whence::SeekData) {
        Ok(found) => (found as u64).clamp(at, end.max(at)),
        Err(Errno::ENXIO) => end.max(at),
        Err(_) => at,
    }
}

/// What a file system means for a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileSystem {
    kind: FsType,
}

/// The file system that holds `file`.
pub(crate) fn file_system(file: impl AsFd) -> Result<FileSystem, Errno> {
    Ok(FileSystem { kind: fstatfs(file)?.filesystem_type() })
}

/// File systems whose files other machines may have open too, by the numbers of `statfs(2)`. virtiofs shows as FUSE.
const SHARED: [(FsType, &str); 15] = [
    (statfs::NFS_SUPER_MAGIC, "NFS"),
    (statfs::FUSE_SUPER_MAGIC, "FUSE or virtiofs"),
    (statfs::SMB_SUPER_MAGIC, "SMB"),
    (statfs::CODA_SUPER_MAGIC, "Coda"),
    (statfs::AFS_SUPER_MAGIC, "AFS"),
    (statfs::OCFS2_SUPER_MAGIC, "OCFS2"),
    (FsType(0x0102_1997), "9p"),
    (FsType(0xFF53_4D42), "CIFS"),
    (FsType(0xFE53_4D42), "SMB2"),
    (FsType(0x00C3_6400), "Ceph"),
    (FsType(0x0BD0_0BD0), "Lustre"),
    (FsType(0x0116_1970), "GFS2"),
    (FsType(0x4750_4653), "GPFS"),
    (FsType(0x1983_0326), "BeeGFS"),
    (FsType(0x2003_0528), "OrangeFS"),
];

impl FileSystem {
    /// The name of a file system whose locks are not known to be shared between machines, else `None`.
    pub(crate) fn shared_between_machines(self) -> Option<&'static str> {
        SHARED.iter().find(|(kind, _)| *kind == self.kind).map(|(_, name)| *name)
    }

    /// Whether what is synced outlives a power cut.
    pub(crate) fn is_storage(self) -> bool {
        // ramfs has no constant of its own.
        self.kind != statfs::TMPFS_MAGIC && self.kind != FsType(0x8584_58F6)
    }

    pub(crate) fn is_btrfs(self) -> bool {
        self.kind == statfs::BTRFS_SUPER_MAGIC
    }
}

/// Switches copy-on-write off for an empty file of btrfs, without which reserved space is not kept.
pub(crate) fn disable_copy_on_write(file: &File) -> Result<(), Errno> {
    const FS_NOCOW_FL: libc::c_int = 0x0080_0000;
    let mut flags: libc::c_int = 0;
    // SAFETY: the request fills one int, which is what the pointer leads to.
    unsafe { ioctl::get_flags(file.as_raw_fd(), (&raw mut flags).cast()) }?;
    flags |= FS_NOCOW_FL;
    // SAFETY: the request reads one int, which is what the pointer leads to.
    unsafe { ioctl::set_flags(file.as_raw_fd(), (&raw const flags).cast()) }?;
    Ok(())
}

#[allow(missing_docs, unreachable_pub, reason = "made by macros")]
mod ioctl {
    // Declared with long, used with int: the kernel's own discrepancy.
    nix::ioctl_read!(get_flags, b'f', 1, nix::libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, nix::libc::c_long);
}
