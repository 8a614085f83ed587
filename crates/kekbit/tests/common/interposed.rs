//! This test program's own `msync`, `fsync` and `fdatasync`, which the library is linked to. None of them writes anything to a
//! real disk: they tell the test's `disk` what would be durable now.

use std::fs::File;
use std::path::PathBuf;

use nix::libc::{c_int, c_void};

use crate::common::sectors::Key;
use crate::disk;

/// The file that is mapped at `address`, where in it that is, and what it is called.
fn mapped(address: usize) -> Option<(Key, usize, PathBuf)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (begin, end) = fields.next()?.split_once('-')?;
        let hex = |text| usize::from_str_radix(text, 16).ok();
        let (begin, end) = (hex(begin)?, hex(end)?);
        if !(begin..end).contains(&address) {
            return None;
        }
        let offset = hex(fields.nth(1)?)?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = nix::libc::makedev(hex(major)? as u32, hex(minor)? as u32);
        let inode = fields.next()?.parse().ok()?;
        Some(((device, inode), offset + address - begin, fields.next()?.into()))
    })
}

// SAFETY: it stands in for the C library's function of that name and signature, for this program alone; it touches no
// memory of the caller.
#[unsafe(no_mangle)]
extern "C" fn msync(address: *mut c_void, len: usize, _flags: c_int) -> c_int {
    if let Some((key, at, path)) = mapped(address as usize) {
        disk::sync_mapped(key, &path, at, at + len);
    }
    0
}

// SAFETY: as for `msync`.
#[unsafe(no_mangle)]
extern "C" fn fsync(descriptor: c_int) -> c_int {
    if let Ok(file) = File::open(format!("/proc/self/fd/{descriptor}")) {
        disk::sync_opened(&file);
    }
    0
}

// SAFETY: as for `msync`.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    fsync(descriptor)
}
