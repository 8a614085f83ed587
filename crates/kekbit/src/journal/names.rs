//! What a journal's files are called.
//!
//! ```text
//! 00000000000000000000.kek    a channel, by the sequence of its first record
//! 00000000000000041808.kek
//! .00000000000000041808.kek.0f1e2d3c4b5a6978.tmp    one that has no name yet
//! writer.lock                 locked as long as somebody writes
//! times                       when each channel began
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::layout::PAGE;
use crate::layout::header::Header;
use crate::sys::file;

/// The file that tells when each channel began.
pub(crate) const TIMES: &str = "times";
/// First sequence and creation time of a channel that has not begun: what no record has as its sequence, and a time that tells
/// what such a header was from what has become of it.
pub(crate) const NOT_BEGUN: (u64, u64) = (1 << 63, 0);
/// The file that is locked by the one who writes.
pub(crate) const LOCK: &str = "writer.lock";
const DIGITS: usize = 20;
const SUFFIX: &str = ".kek";

/// Path of the channel in `directory` whose first record has the sequence `first`.
pub(crate) fn channel_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:0DIGITS$}{SUFFIX}"))
}

/// The sequence in the name of a channel; `None` of anything else.
pub(crate) fn first_sequence(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(SUFFIX)?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// The sequence in the name of a channel that never got its own, or that has lost it; `None` of anything else.
pub(crate) fn temporary(name: &OsStr) -> Option<u64> {
    let (name, random) = name.to_str()?.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    if is_random(random) { first_sequence(OsStr::new(name)) } else { None }
}

/// Whether this is the name of a file of times that never got its own.
pub(crate) fn is_temporary_times(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| {
        name.strip_prefix('.')?.strip_prefix(TIMES)?.strip_prefix('.')?.strip_suffix(".tmp")
    });
    random.is_some_and(is_random)
}

fn is_random(digits: &str) -> bool {
    digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The sequences in the names of the channels in `directory`, ascending.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        found.extend(first_sequence(&entry?.file_name()));
    }
    found.sort_unstable();
    Ok(found)
}

/// The least sequence with which a journal may go on in which there is no channel: those that are being made, and those that were set
/// aside, tell how far it has been.
pub(crate) fn floor(directory: &Path) -> io::Result<u64> {
    let mut floor = 0;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix('.').unwrap_or(name).get(..DIGITS));
        let told = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let told = told.and_then(|digits| digits.parse().ok()).filter(|told| *told < NOT_BEGUN.0);
        floor = floor.max(told.unwrap_or(0));
    }
    Ok(floor)
}

/// The header of the channel at `path`.
pub(crate) fn read_header(path: &Path) -> io::Result<Header> {
    let mut page = vec![0; PAGE as usize];
    let file = file::open(path, false)?;
    // A page is asked for, and no more read ahead.
    file::expect_random(&file)?;
    let read = file::read_at(&file, &mut page, 0)?;
    Header::decode(&page[..read]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether the file at `path` is a channel that had not begun, or whose header was just being changed when the machine crashed: any of
/// its sectors are those of before, the others those of after. Nothing of such a channel was durable.
pub(crate) fn has_hardly_begun(path: &Path) -> io::Result<bool> {
    let mut page = vec![0; PAGE as usize];
    let read = file::read_at(&file::open(path, false)?, &mut page, 0)?;
    let page = &page[..read];
    Ok(Header::says_first_sequence(page, NOT_BEGUN.0) || Header::decode_as_of(page, NOT_BEGUN).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_twenty_digits_and_a_suffix() {
        let path = channel_path(Path::new("orders"), 41808);
        assert_eq!(path, Path::new("orders/00000000000000041808.kek"));
        assert_eq!(first_sequence(path.file_name().unwrap()), Some(41808));
        let of = |name: &str| first_sequence(OsStr::new(name));
        assert_eq!(of(&format!("{}.kek", u64::MAX)), Some(u64::MAX));
        for wrong in [
            "",
            ".kek",
            "41808.kek",
            "00000000000000041808",
            "00000000000000041808.kek.cut-0",
            "+0000000000000041808.kek",
            "99999999999999999999.kek",
            "0000000000000000000x.kek",
            ".00000000000000041808.kek.0f1e2d3c4b5a6978.tmp",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_was_on_its_way_to_such_a_name_is_temporary() {
        let of = |name: &str| temporary(OsStr::new(name));
        assert_eq!(of(".00000000000000041808.kek.0f1e2d3c4b5a6978.tmp"), Some(41808));
        for wrong in [
            "00000000000000041808.kek",
            ".00000000000000041808.kek.tmp",
            ".notes.0f1e2d3c4b5a6978.tmp",
            ".00000000000000041808.kek.0f1e2d3c4b5a697g.tmp",
            "00000000000000041808.kek.0f1e2d3c4b5a6978.tmp",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
