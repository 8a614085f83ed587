//! A file that is rewritten in each execution, and a writer that seems to live.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// One file for the whole process, in memory; `KEKBIT_FUZZ_DIR` says where.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    file: File,
    /// Whose lock on the file is the writer's.
    writer: File,
    len: u64,
    inode: u64,
    boot_id: [u8; 16],
    /// A buffer for the next image, so that it is not allocated anew.
    pub buffer: Vec<u8>,
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Lends the file of this process.
pub fn with_place<T>(work: impl FnOnce(&mut Place) -> T) -> T {
    PLACE.with_borrow_mut(|place| work(place.get_or_insert_with(Place::new)))
}

impl Place {
    fn new() -> Place {
        let directory = std::env::var_os("KEKBIT_FUZZ_DIR").map_or_else(|| "/dev/shm".into(), PathBuf::from);
        let path = directory.join(format!("kekbit-fuzz-{}", std::process::id()));
        let open = || File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = open().unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        let writer = open().expect("it was created just now");
        let inode = file.metadata().expect("it is open").ino();
        Place { path, file, writer, len: 0, inode, boot_id: kekbit::fuzzing::boot_id(), buffer: Vec::new() }
    }

    /// Bytes that it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a header says of a file that was created here, in this boot: its boot id and its inode.
    pub fn born(&self) -> ([u8; 16], u64) {
        (self.boot_id, self.inode)
    }

    /// The file holds `bytes`, and zeros up to `len`; whether a writer lives is up to `live`.
    pub fn put(&mut self, bytes: &[u8], len: u64, live: bool) {
        let bytes = &bytes[..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
        if self.len > bytes.len() as u64 {
            // Whatever was behind is gone.
            self.file.set_len(bytes.len() as u64).expect("a file can be cut");
        }
        self.file.write_all_at(bytes, 0).expect("there is space for a few pages");
        if len > bytes.len() as u64 {
            self.file.set_len(len).expect("a file can have a hole");
        }
        self.len = len;
        if live {
            self.lock(libc::F_WRLCK);
        }
    }

    /// The writer dies, and the file may have another length by now.
    pub fn release(&mut self, live: bool) {
        if live {
            self.lock(libc::F_UNLCK);
        }
    }

    /// Somebody may have changed the file's length.
    pub fn look_up(&mut self) {
        self.len = self.file.metadata().expect("it is open").len();
    }

    fn lock(&self, kind: i32) {
        let lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 1 << 62,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&self.writer, FcntlArg::F_OFD_SETLK(&lock)).expect("nobody else has the writer's lock");
    }
}
