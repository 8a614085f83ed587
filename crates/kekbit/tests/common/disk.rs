//! A disk of a test's own.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common;

/// A small file system on a file that plays a disk; gone when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    mounted: Option<PathBuf>,
    device: String,
    _image: TempDir,
}

impl Disk {
    /// `None`, with a message, where that is not possible.
    pub(crate) fn new(test: &str, size: u64) -> Option<Disk> {
        // In memory, if possible: whether it is safe from power cuts is not the question here, and no other program waits
        // for the same disk.
        let dir = common::dir();
        let (image, path) = (dir.path().join("image"), dir.path().join("mount"));
        File::create(&image).unwrap().set_len(size).unwrap();
        std::fs::create_dir(&path).unwrap();
        let image = image.to_str().unwrap();
        let run = |program: &str, arguments: &[&str]| -> Result<String, String> {
            let output = Command::new(program).args(arguments).output();
            let output = output.map_err(|error| format!("{program}: {error}"))?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
            if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
        };
        let skipped = |why: String| {
            println!("skipped {test}: {why}");
            None
        };
        if let Err(why) = run("mkfs.ext4", &["-q", "-F", "-m", "0", image]) {
            return skipped(why);
        }
        let device = match run("losetup", &["--find", "--show", image]) {
            Ok(device) => device,
            Err(why) => return skipped(why),
        };
        let mut disk = Disk { mounted: None, device, _image: dir };
        let (none, flags): (Option<&str>, _) = (None, nix::mount::MsFlags::empty());
        match nix::mount::mount(Some(disk.device.as_str()), &path, Some("ext4"), flags, none) {
            Ok(()) => disk.mounted = Some(path),
            Err(errno) => return skipped(errno.to_string()),
        }
        Some(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.mounted.as_ref().unwrap()
    }

    /// Writes everything down, so that what was freed is free.
    pub(crate) fn sync(&self) {
        nix::unistd::syncfs(File::open(self.path()).unwrap()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(path) = &self.mounted {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = Command::new("losetup").args(["--detach", &self.device]).output();
    }
}
