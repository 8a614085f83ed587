//! Finding the end of a huge channel touches few pages, however much has been written.
//!
//! The file is written, synced and evicted from the page cache; a reader that expects to jump about then brings in just
//! the pages that it touches, and the kernel says which are there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use kekbit::{Channel, Start, State, Writer};
use nix::fcntl::{FcntlArg, PosixFadviseAdvice, fcntl, posix_fadvise};
use nix::libc;

const RECORD: usize = 4000;
/// 1 GiB of records in a channel of 1 TiB.
const RECORDS: u64 = (1 << 30) / RECORD as u64;
const PAGES: usize = 64;

fn fill(path: &Path) -> Writer {
    let mut writer = Writer::options().capacity(1 << 40).create(path).unwrap();
    for n in 0..RECORDS {
        writer
            .append_with(RECORD, |space| {
                space[..8].copy_from_slice(&n.to_le_bytes());
                RECORD
            })
            .unwrap();
    }
    writer
}

fn evict(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.sync_all().unwrap();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

/// Pages of the file that are in the page cache.
fn resident(path: &Path) -> usize {
    let file = File::open(path).unwrap();
    let map = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
    let mut pages = vec![0u8; map.len().div_ceil(4096)];
    // SAFETY: the mapping is as long as it says, and there is a byte for each of its pages.
    let result = unsafe { libc::mincore(map.as_mut_ptr().cast(), map.len(), pages.as_mut_ptr()) };
    assert_eq!(result, 0);
    pages.iter().filter(|page| **page & 1 == 1).count()
}

/// Runs `act` on the evicted file and returns how many of its pages it has brought in.
fn touched(path: &Path, act: impl FnOnce(&Channel)) -> usize {
    evict(path);
    let before = resident(path);
    let channel = Channel::options().random_access(true).open(path).unwrap();
    act(&channel);
    drop(channel);
    resident(path) - before
}

fn find_end(state: State) -> impl Fn(&Channel) {
    move |channel| {
        let end = channel.end_point().unwrap();
        assert_eq!((end.sequence, end.state), (RECORDS, state));
    }
}

fn read_last(channel: &Channel) {
    let last = channel.records_from(Start::Last(1)).unwrap().next().unwrap().unwrap();
    assert_eq!(last[..8], (RECORDS - 1).to_le_bytes());
}

#[test]
fn the_end_of_a_closed_or_live_channel_is_found_in_few_pages() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.kek");
    fill(&path).abandon();

    // Its writer is dead, but somebody holds the writer's lock, so that it counts as live; a real writer's mapping would
    // keep its pages from being evicted.
    let lock = File::options().read(true).write(true).open(&path).unwrap();
    let byte = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 1 << 62,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(lock.as_fd(), FcntlArg::F_OFD_SETLK(&byte)).unwrap();
    let live = [touched(&path, find_end(State::Open)), touched(&path, read_last)];
    drop(lock);

    Channel::seal(&path).unwrap();
    let ended = [touched(&path, find_end(State::Abandoned)), touched(&path, read_last)];
    println!("pages touched: live {live:?} (end, last record), ended {ended:?}");
    for pages in live.into_iter().chain(ended) {
        assert!(0 < pages && pages <= PAGES, "{pages} pages");
    }
}
