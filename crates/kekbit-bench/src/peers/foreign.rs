//! What peers that are not ours need beside their modules: each is behind a feature, since it is heavy to build or needs tools
//! that not everybody has. `heavy-peers` prints the features that can be built here.

use std::path::Path;

use super::Entry;
use crate::Result;
#[cfg(not(all(feature = "aeron", feature = "iceoryx2", feature = "chronicle")))]
use crate::peer::About;

/// Peers that are programs of their own.
pub(super) fn programs() -> Vec<Entry> {
    vec![
        #[cfg(feature = "chronicle")]
        super::chronicle::entry(),
    ]
}

/// Peers that this build is without.
pub(super) fn left_out() -> Vec<Entry> {
    vec![
        #[cfg(not(feature = "aeron"))]
        missing("Aeron", || Err("this build is without the feature aeron".into())),
        #[cfg(not(feature = "iceoryx2"))]
        missing("iceoryx2", || Err("this build is without the feature iceoryx2".into())),
        #[cfg(not(feature = "chronicle"))]
        missing("Chronicle Queue", || Err("this build is without the feature chronicle".into())),
    ]
}

#[cfg(not(all(feature = "aeron", feature = "iceoryx2", feature = "chronicle")))]
fn missing(name: &str, command: fn() -> Result<std::process::Command>) -> Entry {
    let about = About { kept: false, checksummed: false, survives_kill: false };
    Entry { name: name.into(), about, workloads: Vec::new(), command }
}

/// Whether all configurations of a system that were ever tried are measured, in place of those that turned out best: wherever
/// `KEKBIT_BENCH_SWEEP` is in the environment.
#[cfg(any(feature = "aeron", feature = "iceoryx2"))]
pub(super) fn is_sweeping() -> bool {
    std::env::var_os("KEKBIT_BENCH_SWEEP").is_some()
}

/// Where shared memory has its names on Linux, whatever directory the rest is in.
const SHARED_MEMORY: &str = "/dev/shm";

/// How the names of shared memory begin that belongs to a link's directory.
pub(super) fn shared_memory_prefix(dir: &Path) -> Result<String> {
    let name = dir.file_name().and_then(|name| name.to_str());
    Ok(format!(
        "{}.",
        name.ok_or_else(|| format!("{}: a link needs a directory with a name", dir.display()))?
    ))
}

/// Removes the shared memory that peers which were killed have left of a link's directory.
pub(crate) fn clear_away(dir: &Path) -> Result<()> {
    let prefix = shared_memory_prefix(dir)?;
    for entry in Path::new(SHARED_MEMORY).read_dir()? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_of_a_directory_is_cleared_away_and_no_other() {
        let (mine, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let left_of = |dir: &Path| {
            let path = Path::new(SHARED_MEMORY).join(shared_memory_prefix(dir).unwrap() + "data");
            std::fs::write(&path, "left").unwrap();
            path
        };
        let (left, kept) = (left_of(mine.path()), left_of(other.path()));
        clear_away(mine.path()).unwrap();
        assert!(!left.exists() && kept.exists());
        clear_away(other.path()).unwrap();
        assert!(!kept.exists());
    }
}
