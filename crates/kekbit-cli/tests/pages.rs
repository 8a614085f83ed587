//! The end of a huge channel is printed without reading the rest of it.
//!
//! The file is synced and evicted from the page cache; `kek` then brings in the pages that it touches, and the kernel
//! says which are there. So the directory for temporary files must be on a disk.

mod common;

use std::fs::File;
use std::path::Path;

use common::{Place, Run, Running, info, kek, stdout_of, wait_for_records};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use nix::sys::signal::Signal;

const RECORDS: u64 = 1 << 14;
/// 64 MiB of them in a channel of 1 TiB.
const RECORD: usize = 4 << 10;
/// Its index takes 64 MiB too, and nothing is reserved beyond this.
const USED: usize = 256 << 20;
const PAGES: usize = 64;

fn line(number: u64) -> String {
    format!("{number:0RECORD$}\n")
}

/// The channel of a writer that was killed.
fn huge(place: &Place) -> std::path::PathBuf {
    let path = place.path("huge.kek");
    let mut writer = Running::start(kek().args(["write", "--capacity", "1T"]).arg(&path));
    for number in 0..RECORDS {
        writer.write(&line(number));
    }
    wait_for_records(&path, RECORDS);
    writer.signal(Signal::SIGKILL);
    writer.status();
    path
}

fn evict(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

/// Pages of the file that are in the page cache.
fn resident(path: &Path) -> usize {
    let file = File::open(path).unwrap();
    let len = USED.min(file.metadata().unwrap().len() as usize);
    let map = memmap2::MmapOptions::new().len(len).map_raw_read_only(&file).unwrap();
    let mut pages = vec![0u8; map.len().div_ceil(4096)];
    // SAFETY: the mapping is as long as it says, and there is a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), pages.as_mut_ptr()) };
    assert_eq!(result, 0);
    pages.iter().filter(|page| **page & 1 == 1).count()
}

#[test]
fn what_looks_only_at_the_end_touches_few_pages() {
    let place = Place::new();
    let path = huge(&place);
    for state in ["abandoned", "sealed"] {
        for (command, printed) in [
            (&["tail", "-n", "1"][..], line(RECORDS - 1)),
            (&["tail", "--from", "-1"], line(RECORDS - 1)),
            (&["tail", "--from", "end"], String::new()),
            (&["cat", "--from", "-1"], line(RECORDS - 1)),
        ] {
            evict(&path);
            let before = resident(&path);
            assert_eq!(stdout_of(kek().args(command).arg(&path)), printed);
            let pages = resident(&path) - before;
            println!("{state}: {command:?} touches {pages} pages");
            assert!(0 < pages && pages <= PAGES, "{command:?} touches {pages} pages");
        }
        assert!((info(&path)["reserved"].as_u64().unwrap() as usize) < USED - (128 << 20));
        assert!(kek().arg("seal").arg(&path).run("").status.success());
    }
}
