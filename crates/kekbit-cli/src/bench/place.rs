//! Where the channels of a benchmark are: in a directory of their own, which is removed in the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use tempfile::{Builder, TempDir};

use crate::bench::Case;
use crate::bench::part::Role;
use crate::bench::plan::{FILES, Plan};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::machine;

const MEMORY: &str = "/dev/shm";
const STORAGE: &str = "/var/tmp";

/// The directory in memory, if there is one; on storage, where things are to be durable.
pub(crate) fn default(durable: bool) -> PathBuf {
    match durable {
        true => PathBuf::from(STORAGE),
        false if Path::new(MEMORY).is_dir() => PathBuf::from(MEMORY),
        false => std::env::temp_dir(),
    }
}

/// A directory in `dir` for the channels of these cases, removed when it is dropped.
pub(crate) fn directory(dir: &Path, cases: &[Case]) -> Result<TempDir, Failure> {
    let place = Builder::new().prefix("kek-bench-").tempdir_in(dir).map_err(|error| {
        Failure::new(Exit::Usage, format_args!("cannot use --dir {}: {error}", dir.display()))
    })?;
    let free = free_space(place.path())
        .map_err(|error| Failure::io(format_args!("cannot look up {}", dir.display()), error))?;
    let needs = cases.iter().map(needs).max().unwrap_or(0);
    if free < needs {
        return Err(Failure::new(
            Exit::Full,
            format_args!(
                "{}: a round may need {}, {} are free: choose another --dir, or less --records or --capacity",
                dir.display(),
                human::bytes(needs as f64),
                human::bytes(free as f64)
            ),
        ));
    }
    Ok(place)
}

/// Bytes that a round may need. Of a channel's capacity only what is used takes space, unless all of it is prepared.
fn needs(case: &Case) -> u64 {
    let plan = &case.plan;
    let rings = if case.roles.contains(&Role::Pong) { 2 } else { 1 };
    let files = plan.files.unwrap_or(FILES).min(FILES);
    // The index takes 64 bytes a mebibyte, the rest is small.
    let file = plan.capacity + plan.capacity / 4096 + (64 << 10);
    let all = file.saturating_mul(files);
    let used = plan.records().filter(|_| plan.prepare != "all").map_or(all, |(warmup, records)| {
        let records = warmup.saturating_add(records).max(plan.scanned).saturating_mul(Plan::frame(plan.size));
        records.saturating_add(plan.capacity / 4096 + (1 << 20))
    });
    all.min(used).saturating_mul(rings)
}

/// Bytes that may be written there. A file system in memory has no more than there is memory.
fn free_space(dir: &Path) -> io::Result<u64> {
    let space = statvfs(dir)?;
    let free = space.blocks_available() as u64 * space.fragment_size() as u64;
    let memory = is_memory(dir).then(|| fs::read_to_string("/proc/meminfo").ok()).flatten();
    let memory = memory.and_then(|meminfo| machine::kibibytes(&meminfo, "MemAvailable"));
    Ok(memory.map_or(free, |memory| memory.min(free)))
}

/// Whether this is a file system in memory.
pub(crate) fn is_memory(dir: &Path) -> bool {
    machine::file_system(dir).is_some_and(|found| ["tmpfs", "ramfs", "devtmpfs"].contains(&&*found.kind))
}
