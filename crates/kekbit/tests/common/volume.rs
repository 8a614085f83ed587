//! A file system that a test stops in the middle of everything, as a power cut does.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use tempfile::TempDir;

use crate::common;

/// An ext4 in a file, which stops when it is told to. Unmounted and detached when dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    device: String,
    pub(crate) path: PathBuf,
    _dir: TempDir,
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Volume {
    /// In a file in `dir`. `None`, with a message, where that is not possible.
    pub(crate) fn new(test: &str, dir: TempDir) -> Option<Volume> {
        let skipped = |why: &str| {
            println!("skipped {test}: {why}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return skipped("needs root");
        }
        let (image, path) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::create_dir(&path).unwrap();
        File::create(&image).unwrap().set_len(128 << 20).unwrap();
        let image = image.to_str().unwrap();
        if let Err(error) = run("mkfs.ext4", &["-q", "-F", "-b", "4096", image]) {
            return skipped(&format!("mkfs.ext4: {error}"));
        }
        let device = match run("losetup", &["--find", "--show", image]) {
            Ok(device) => device,
            Err(error) => return skipped(&format!("losetup: {error}")),
        };
        let volume = Volume { device, path, _dir: dir };
        match volume.mount(true) {
            Ok(()) => {
                volume.unmount();
                Some(volume)
            }
            Err(error) => skipped(&format!("mount: {error}")),
        }
    }

    pub(crate) fn mount(&self, ordered: bool) -> nix::Result<()> {
        let data = if ordered { "data=ordered" } else { "data=writeback" };
        mount(Some(self.device.as_str()), &self.path, Some("ext4"), MsFlags::empty(), Some(data))
    }

    /// Stops the file system where it is.
    pub(crate) fn shut_down(&self) {
        const FS_IOC_SHUTDOWN: nix::libc::c_ulong = 0x8004_587D;
        const NO_LOG_FLUSH: u32 = 2;
        let root = File::open(&self.path).unwrap();
        // SAFETY: the descriptor is open, and this request reads one u32.
        let result = unsafe { nix::libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN as _, &NO_LOG_FLUSH) };
        Errno::result(result).unwrap();
    }

    pub(crate) fn unmount(&self) {
        // Whoever was killed may still be going.
        let begun = Instant::now();
        while let Err(error) = umount(&self.path) {
            assert!(error == Errno::EBUSY && begun.elapsed() < common::GENEROUS, "umount: {error}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn mount_again(&self, ordered: bool) {
        self.unmount();
        self.mount(ordered).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // It may not be mounted; and in a panic there is nobody to be told.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = run("losetup", &["--detach", &self.device]);
    }
}
