//! What each peer promises, in a file beside the samples: the figures of one are worth little without it.
//!
//! The file is a JSON object: the name of a peer, and its [`About`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Result;
use crate::peer::About;
use crate::peers;
use crate::workloads::{rolls, stages};

/// The file's name.
pub(crate) const FILE: &str = "peers.json";

/// What peers promise, by their names.
pub(crate) type Promises = BTreeMap<String, About>;

/// What everything that is measured promises.
pub(crate) fn all() -> Promises {
    let peers = peers::entries().into_iter().map(|entry| (entry.name, entry.about));
    let others = OTHERS.map(|(name, [kept, checksummed, survives_kill])| {
        (name.to_owned(), About { kept, checksummed, survives_kill })
    });
    peers.chain(others).collect()
}

/// What takes part in scans and in the costs of one channel, and commands: kept, checksummed, outlives a kill.
const OTHERS: [(&str, [bool; 3]); 19] = [
    // These two scan without looking at the checksum.
    ("kekbit", [true, false, true]),
    ("kekbit, Reader", [true, false, true]),
    ("kekbit, verified", [true, true, true]),
    ("kekbit, Reader, verified", [true, true, true]),
    (rolls::ORDINARY, [true, true, true]),
    (rolls::BEHIND, [true, true, true]),
    (rolls::ROLLING, [true, true, true]),
    (stages::NONE, [true, true, true]),
    (stages::TIMESTAMP, [true, true, true]),
    (stages::BOTH, [true, true, true]),
    (stages::CLOCK, [false, false, false]),
    (stages::BOUND, [false, false, false]),
    ("walk", [true, false, true]),
    ("walk, CRC", [true, true, true]),
    ("populate", [false, false, false]),
    ("kek write", [true, true, true]),
    ("kek cat", [true, true, true]),
    ("cat > file", [true, false, true]),
    ("cat file", [true, false, true]),
];

/// The promises in a file.
pub(crate) fn read(path: &Path) -> Result<Promises> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Adds promises to a file. Those of other peers stay, so that a run of a few peers forgets nothing about earlier samples.
pub(crate) fn add(path: &Path, promises: impl IntoIterator<Item = (String, About)>) -> Result<()> {
    let named = |error| format!("{}: {error}", path.display());
    let mut all = if fs::exists(path).map_err(named)? { read(path)? } else { Promises::new() };
    all.extend(promises);
    fs::write(path, serde_json::to_string_pretty(&all)? + "\n").map_err(named)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{add, all, read};
    use crate::peer::About;

    #[test]
    fn what_is_no_peer_promises_something_too() {
        let all = all();
        assert!(all["raw, prepared"].checksummed && !all["walk"].checksummed);
        assert!(all["kek write"].kept && !all["Unix pipe, 1 MiB"].kept);
    }

    #[test]
    fn promises_are_added_to_those_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.json");
        assert!(read(&path).unwrap_err().to_string().contains("peers.json: "));
        let about = |kept| About { kept, checksummed: false, survives_kill: true };
        add(&path, [("raw".to_owned(), about(true)), ("Unix pipe".to_owned(), about(true))]).unwrap();
        add(&path, [("Unix pipe".to_owned(), about(false))]).unwrap();
        let all = read(&path).unwrap();
        assert_eq!(all.len(), 2);
        assert!(all["raw"].kept && !all["Unix pipe"].kept);
    }
}
