//! Every byte of a closed file: what a check covers is noticed when it is another, the rest makes no difference.
//!
//! | bytes | |
//! | --- | --- |
//! | header | covered by its checksum, zeros too |
//! | control, index | derived: entries and slots have checks of their own and are passed over if those fail, live words are not believed |
//! | frames: header word, payload | covered by the frame's check |
//! | zeros behind a payload up to a multiple of 8 | not covered, never looked at; inside of a batch they are part of its payload |
//! | terminal word | covered by its own check |
//! | behind it | not covered, never looked at |

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use kekbit::{
    Chain, Channel, CopyingReader, CorrelationId, Start, State, TickUnit, Verify, Writer, WriterOptions,
};

use crate::any::Kind;
use crate::common::campaign::{Campaign, is_long};
use crate::common::{self, bytes, data_offset};

type All = Vec<(u64, u64, Vec<u8>, Vec<u8>)>;

/// Everything that is read, by the reader that maps or by the one that copies; `None` if either finds something wrong.
fn read(path: &Path, stored: bool) -> Option<All> {
    let options = Channel::options().verify(Verify::Always).stored(stored);
    let channel = options.clone().open(path).ok()?;
    if channel.verify(|_| ()).ok()?.state != State::Closed {
        return None;
    }
    macro_rules! all {
        ($reader:expr) => {{
            let mut reader = $reader;
            let mut all = All::new();
            while let Some(record) = reader.try_next().ok()? {
                let (position, sequence) = (record.position().offset(), record.sequence());
                all.push((position, sequence, record.stored().to_vec(), record.to_vec()));
            }
            all
        }};
    }
    let mapped = all!(channel.reader(Start::Beginning).ok()?);
    let copied: All = all!(options.copying(path).ok()?);
    (mapped == copied).then_some(mapped)
}

/// Where the bytes lie that something must notice.
fn covered(file: &[u8], all: &All) -> Vec<bool> {
    let data = data_offset(file) as usize;
    let mut covered = vec![false; file.len()];
    covered[..4096].fill(true);
    let mut cover = |from: usize, len: usize| covered[data + from..data + from + len].fill(true);
    let mut tail = 0;
    while tail < file.len() - data {
        let word = common::word_at(file, data + tail);
        let (kind, len) = (word >> 60, (word >> 32 & 0xFFF_FFFF) as usize);
        cover(tail, 8 + len);
        // Neither a record nor a batch: the terminal.
        if kind != 1 && kind != 2 {
            break;
        }
        tail += 8 + len.next_multiple_of(8);
    }
    let last = all.last().unwrap().0 as usize;
    assert!(last < tail && tail + 8 <= file.len() - data);
    covered
}

/// Tells how often it has changed a byte.
fn check<C: Chain>(options: WriterOptions<C>, kinds: &[Kind]) -> u64 {
    let dir = common::dir();
    let path = dir.path().join("flipped.kek");
    let mut writer = options.capacity(1 << 16).max_record_len(2000).create(&path).unwrap();
    for (n, len) in [0, 1, 7, 8, 45, 130].into_iter().enumerate() {
        writer.append(&bytes(n as u64, len)).unwrap();
        writer.append(&vec![n as u8; len]).unwrap();
    }
    let mut batch = writer.batch();
    batch.push(b"inner").unwrap();
    batch.push(&[b'x'; 70]).unwrap();
    batch.commit().unwrap();
    writer.close().unwrap();

    // Its own handler has to undo it, and notices no more than the frame's check.
    let stored = kinds.contains(&Kind::Reverse);
    let all = read(&path, stored).unwrap();
    assert_eq!(all.len(), 14);
    let bytes = std::fs::read(&path).unwrap();
    let covered = covered(&bytes, &all);
    let file = File::options().write(true).open(&path).unwrap();
    let mut count = 0;
    for (at, byte) in bytes.iter().enumerate() {
        // All of it, and one bit; in each test run one of the two.
        let flips = [0xFF, 1 << (at % 8)];
        for flip in if is_long() { &flips[..] } else { &flips[at % 2..][..1] } {
            count += 1;
            file.write_all_at(&[byte ^ flip], at as u64).unwrap();
            let found = read(&path, stored);
            if covered[at] {
                assert!(found.is_none(), "{kinds:?}: byte {at} ^ {flip:#x} is not noticed");
                assert!(CopyingReader::open(&path).is_err() || at >= 4096);
            } else {
                assert!(
                    found.as_ref() == Some(&all),
                    "{kinds:?}: byte {at} ^ {flip:#x} changes what is read"
                );
            }
        }
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
    // At least the header, all that is stored, and the words of its frames and of the terminal.
    let least = 4096 + all.iter().map(|(_, _, stored, _)| stored.len()).sum::<usize>() + 8 * 14;
    assert!(covered.iter().filter(|covered| **covered).count() >= least);
    assert_eq!(read(&path, stored), Some(all));
    count
}

#[test]
fn another_byte_anywhere_is_noticed_or_makes_no_difference() {
    let campaign = Campaign::new("chains, bytes");
    let mut count = 0;
    let nanos = Kind::Timestamp(TickUnit::Nanos);
    let correlation = &CorrelationId::new();
    for kinds in [
        &[nanos, Kind::Lz4][..],
        &[Kind::Sequence, Kind::Lz4, Kind::Correlation, Kind::Before(1), Kind::After(3)],
        &[Kind::Before(5), Kind::After(9), Kind::Sequence],
        &[Kind::Lz4, Kind::Reverse],
    ] {
        macro_rules! check_with {
            ($($stage:ident)*) => {
                check(Writer::options()$(.stage($stage.handler(correlation)))*, kinds)
            };
        }
        count += crate::for_each_length!(kinds, check_with);
    }
    campaign.done(count, "bytes changed");
}
