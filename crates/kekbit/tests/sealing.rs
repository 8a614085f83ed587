//! Sealing gives nothing up before it is kept elsewhere, and does not trust that what it reads is on the disk.

mod common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Mount, bytes, data_offset, names_in, record};
use kekbit::{Channel, Checksum, Cut, SealError, Sealed, State, Writer};

const LEN: usize = 100;
/// Bytes of a frame with a record of `LEN` bytes.
const FRAME: u64 = 112;

/// An abandoned channel of `count` records, none of them synced; its bytes.
fn abandoned(path: &Path, count: u64) -> Vec<u8> {
    let mut writer = Writer::options().capacity(1 << 20).create(path).unwrap();
    for n in 0..count {
        writer.append(&bytes(n, LEN)).unwrap();
    }
    writer.abandon();
    common::wait_until_released(path);
    std::fs::read(path).unwrap()
}

/// A copy, which counts as written in another boot, whose record number `torn` is damaged.
fn torn(directory: &Path, name: &str, count: u64, torn: u64) -> (PathBuf, Vec<u8>) {
    let original = directory.join("original.kek");
    let mut bytes = abandoned(&original, count);
    let data = data_offset(&bytes);
    bytes[(data + torn * FRAME + 50) as usize] ^= 1;
    let path = directory.join(name);
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_file(&original).unwrap();
    (path, bytes)
}

fn cut_of(sealed: Sealed) -> Cut {
    sealed.cut.expect("something was cut off")
}

#[test]
fn what_sealing_cuts_off_is_kept_beside_the_channel_and_can_be_salvaged() {
    let dir = common::dir();
    let (path, before) = torn(dir.path(), "torn.kek", 20, 7);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let sealed = Channel::seal(&path).unwrap();
    assert_eq!((sealed.before, sealed.end.sequence), (State::Torn, 7));
    let cut = cut_of(sealed);
    assert_eq!(cut.path, dir.path().join(format!("torn.kek.cut-{}", 7 * FRAME)));
    assert_eq!((cut.position.offset(), cut.len), (7 * FRAME, 13 * FRAME), "zeros at the end are not kept");
    let (kept, data) = (std::fs::read(&cut.path).unwrap(), data_offset(&before) as usize);
    assert!(kept == before[data + 7 * FRAME as usize..][..cut.len as usize]);
    assert_eq!(std::fs::metadata(&cut.path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(names_in(dir.path()), ["torn.kek", &format!("torn.kek.cut-{}", 7 * FRAME)]);

    // What FORMAT.md says can be done with it.
    let again = dir.path().join("again.kek");
    std::fs::copy(&path, &again).unwrap();
    let file = File::options().write(true).open(&again).unwrap();
    file.write_all_at(&kept, data as u64 + cut.position.offset()).unwrap();
    let saved = dir.path().join("saved.kek");
    let salvaged = Channel::salvage(&again, &saved).unwrap();
    assert_eq!((salvaged.records, salvaged.gap_count), (19, 1));
    let expected: Vec<_> = (0..20).filter(|&n| n != 7).map(|n| bytes(n, LEN)).collect();
    assert_eq!(common::payloads(&Channel::open(&saved).unwrap()), expected);
}

#[test]
fn a_cut_never_takes_the_place_of_something_else() {
    let dir = common::dir();
    let (path, _) = torn(dir.path(), "torn.kek", 20, 7);
    let name = |suffix: &str| dir.path().join(format!("torn.kek.cut-{}{suffix}", 7 * FRAME));
    std::fs::write(name(""), "an earlier cut").unwrap();
    symlink(dir.path().join("elsewhere"), name(".1")).unwrap();
    let cut = cut_of(Channel::seal(&path).unwrap());
    assert_eq!(cut.path, name(".2"));
    assert_eq!(std::fs::read(name("")).unwrap(), b"an earlier cut");
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn what_is_to_be_discarded_is_not_kept() {
    let dir = common::dir();
    let (path, _) = torn(dir.path(), "torn.kek", 20, 7);
    let sealed = Channel::seal_options().discard(true).seal(&path).unwrap();
    assert_eq!((sealed.before, sealed.cut, sealed.end.sequence), (State::Torn, None, 7));
    assert_eq!(names_in(dir.path()), ["torn.kek"]);
}

#[test]
fn records_behind_a_lost_head_are_kept_too() {
    // A head that never reached the disk reads as the end: the channel does not even look torn.
    let dir = common::dir();
    let (path, mut bytes) = torn(dir.path(), "torn.kek", 20, 7);
    let data = data_offset(&bytes);
    bytes[(data + 7 * FRAME) as usize..][..8].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let sealed = Channel::seal(&path).unwrap();
    assert_eq!((sealed.before, sealed.end.sequence), (State::Abandoned, 7));
    assert_eq!(cut_of(sealed).len, 13 * FRAME);
}

#[test]
fn intact_records_behind_the_tail_are_kept_in_the_same_boot_too() {
    // As after a crash of the file system alone: boot and inode are those of the writer.
    let dir = common::dir();
    let path = dir.path().join("a.kek");
    let data = data_offset(&abandoned(&path, 20));
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 8], data + 7 * FRAME).unwrap();
    let sealed = Channel::seal(&path).unwrap();
    assert_eq!((sealed.before, sealed.end.sequence), (State::Abandoned, 7));
    assert_eq!(cut_of(sealed).len, 13 * FRAME);
}

#[test]
fn nothing_is_cut_off_where_nothing_was_lost() {
    let dir = common::dir();
    let path = dir.path().join("a.kek");
    let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
    writer.append(b"one").unwrap();
    // A claim that came to nothing leaves bytes behind the tail.
    writer.claim(100).unwrap().fill(7);
    writer.abandon();
    common::wait_until_released(&path);
    // A copy with nothing but zeros behind the tail.
    let copy = dir.path().join("copy.kek");
    let mut bytes = std::fs::read(&path).unwrap();
    let tail = data_offset(&bytes) as usize + 16;
    bytes[tail..].fill(0);
    std::fs::write(&copy, bytes).unwrap();
    for path in [&path, &copy] {
        let sealed = Channel::seal(path).unwrap();
        assert_eq!((sealed.before, sealed.cut), (State::Abandoned, None));
    }
    assert_eq!(names_in(dir.path()), ["a.kek", "copy.kek"]);
}

#[test]
fn without_space_for_the_cut_the_channel_is_as_it_was() {
    let this = "without_space_for_the_cut_the_channel_is_as_it_was";
    let Some(mount) = Mount::memory(this, 2 << 20) else {
        println!("skipped {this}: it may not mount a file system");
        return;
    };
    let dir = common::dir();
    let (path, before) = torn(dir.path(), "torn.kek", 2000, 7);
    let torn = mount.path.join("torn.kek");
    std::fs::copy(&path, &torn).unwrap();
    let ballast = mount.path.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while file.write(&[1; 4096]).is_ok() {}
    let names = names_in(&mount.path);
    let refused = Channel::seal(&torn);
    assert!(
        matches!(refused, Err(SealError::NoSpaceForCut { needed, .. }) if needed > 200_000),
        "{refused:?}"
    );
    assert!(std::fs::read(&torn).unwrap() == before, "the channel was changed");
    assert_eq!(names_in(&mount.path), names, "something is left behind");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(cut_of(Channel::seal(&torn).unwrap()).position.offset(), 7 * FRAME);
}

/// Bytes of pages that this thread has made dirty. Only pages of files on a disk count.
fn bytes_dirtied() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

#[test]
fn sealing_writes_again_what_only_the_page_cache_may_have() {
    let this = "sealing_writes_again_what_only_the_page_cache_may_have";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.kek");
    let mut writer = Writer::options().capacity(4 << 20).create(&path).unwrap();
    for n in 0..20_000 {
        writer.append(&bytes(n, LEN)).unwrap();
    }
    let tail = writer.tail().offset();
    writer.abandon();
    common::wait_until_released(&path);
    // Now everything is on the disk and clean, as it is after a failed write that nobody was told of.
    File::open(&path).unwrap().sync_all().unwrap();
    let Some(before) = bytes_dirtied() else {
        println!("skipped {this}: the kernel does not count what a thread writes");
        return;
    };
    std::fs::write(dir.path().join("probe"), [1; 4096]).unwrap();
    if bytes_dirtied().unwrap() - before < 4096 {
        println!("skipped {this}: the temporary directory is not on a disk");
        return;
    }
    let before = bytes_dirtied().unwrap();
    Channel::seal(&path).unwrap();
    let dirtied = bytes_dirtied().unwrap() - before;
    // Control region, index, and all of the data, since no slot says that anything was synced.
    assert!(dirtied >= tail + 2 * 4096, "{dirtied} bytes of {tail}");
}

/// What the disk's file system writes at once.
const BLOCK: usize = 4096;

/// A file system on a loop device. Gone when dropped.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

impl Disk {
    fn new(directory: &Path) -> Result<Disk, String> {
        let (image, mount) = (directory.join("image"), directory.join("mount"));
        std::fs::create_dir(&mount).unwrap();
        File::create(&image).unwrap().set_len(32 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-O", "^has_journal", image.to_str().unwrap()])?;
        let mut disk = Disk { image, mount, mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), self.mount.to_str().unwrap()])?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) {
        self.mounted = false;
        run("umount", &[self.mount.to_str().unwrap()]).unwrap();
    }

    /// Where the block `content` lies on the disk.
    fn find(&self, content: &[u8]) -> u64 {
        let mut image = Vec::new();
        File::open(&self.image).unwrap().read_to_end(&mut image).unwrap();
        let block = image.chunks(BLOCK).position(|block| block == content).expect("it is on the disk");
        (block * BLOCK) as u64
    }

    /// Writes to the disk behind the file system's back.
    fn overwrite(&self, at: u64, content: &[u8]) {
        let mut file = File::options().write(true).open(&self.image).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(content).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = run("umount", &[self.mount.to_str().unwrap()]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[test]
fn what_the_disk_has_lost_behind_clean_pages_is_there_after_sealing() {
    let this = "what_the_disk_has_lost_behind_clean_pages_is_there_after_sealing";
    let dir = tempfile::tempdir().unwrap();
    let mut disk = match Disk::new(dir.path()) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped {this}: {why}"),
    };
    let path = disk.mount.join("a.kek");
    let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
    for n in 0..1000 {
        writer.append(&record(n, 200)).unwrap();
    }
    let blocks = writer.tail().offset() as usize / BLOCK;
    writer.abandon();
    common::wait_until_released(&path);
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    // Keeps the pages in memory, from which the kernel might drop them, being clean.
    let pinned = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
    pinned.lock().unwrap();
    // The pages are clean, and what the disk has of them is lost: so it is when writing them back has failed.
    let content = std::fs::read(&path).unwrap();
    let data = data_offset(&content) as usize;
    for page in content[data..].chunks(BLOCK).take(blocks) {
        disk.overwrite(disk.find(page), &[0; BLOCK]);
    }
    assert_eq!(Channel::seal(&path).unwrap().end.sequence, 1000);
    drop((pinned, file));
    // From here on only what is on the disk counts.
    disk.unmount();
    disk.mount().unwrap();
    let channel = Channel::open(&path).unwrap();
    let end = channel.verify(|_| ()).unwrap();
    assert_eq!((end.state, end.sequence, end.sealed), (State::Abandoned, 1000, true));
    let payloads = common::payloads(&channel);
    assert!(payloads.iter().enumerate().all(|(n, payload)| *payload == record(n as u64, 200)));
    drop(channel);
}

#[test]
fn a_slot_whose_number_has_no_next_one_does_not_keep_the_end_from_counting() {
    let dir = common::dir();
    let path = dir.path().join("a.kek");
    let mut writer = Writer::options().capacity(64 << 10).checksum(Checksum::None).create(&path).unwrap();
    writer.append(b"one").unwrap();
    writer.sync().unwrap();
    writer.abandon();
    common::wait_until_released(&path);
    let mut file = std::fs::read(&path).unwrap();
    let (synced, counter) = (16_u64, (1_u64 << 63) - 1);
    let mut slot = [synced.to_le_bytes(), counter.to_le_bytes()].concat();
    let check = crc32c::crc32c(&slot) ^ common::mix(&file, u64::MAX, 0);
    slot.extend(u64::from(check).to_le_bytes());
    let at = 4096 + 3072;
    file[at..at + 24].copy_from_slice(&slot);
    // A copy, of which nothing is believed but what a slot says.
    let copy = dir.path().join("copy.kek");
    std::fs::write(&copy, file).unwrap();
    assert_eq!(Channel::open(&copy).unwrap().synced_tail().offset(), synced);
    let sealed = Channel::seal(&copy).unwrap();
    assert_eq!(Channel::open(&copy).unwrap().verify(|_| ()).unwrap(), sealed.end);
}
