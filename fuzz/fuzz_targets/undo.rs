//! Undoing compression: whatever the bytes are, what is made of them is what a decoder makes that was written down from FORMAT.md
//! alone, or both refuse them; and what was compressed comes out again.
//!
//! ```text
//! flags | a record as it may be stored, or pieces of a payload
//! ```

#![no_main]

use kekbit::fuzzing::{compress, undo};
use kekbit::{CorrelationId, Handler, Lz4, StageInfo, Timestamp};
use kekbit_fuzz::blocks;
use kekbit_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    match flags % 4 {
        0 => same(input.rest()),
        // With the length that the block may have.
        1 => {
            let length = u32::from(input.u16());
            same(&[&length.to_le_bytes()[..], input.rest()].concat());
        }
        2 => {
            let payload = payload(&mut input);
            let mut stored = compress(&payload, 1);
            assert!(stored.len() <= payload.len() + 4);
            assert_eq!(undo(&[lz4()], &stored).as_ref(), Some(&payload));
            same(&stored);
            // Damaged, it is something else, or nothing.
            let at = usize::from(flags >> 2) * stored.len() / 64;
            stored[at] ^= 1 << (flags >> 5);
            same(&stored);
        }
        _ => nested(&mut input),
    }
});

fn lz4() -> StageInfo {
    Lz4::new().describe()
}

fn same(stored: &[u8]) {
    if stored.len() < 4 {
        return;
    }
    let (found, expected) = (undo(&[lz4()], stored), blocks::undo(stored));
    assert!(found == expected, "{stored:?}: {found:?} is not {expected:?}");
}

/// Compressed twice, with other stages in between.
fn nested(input: &mut Input<'_>) {
    let stages = [
        Timestamp::nanos().describe(),
        lz4(),
        CorrelationId::new().describe(),
        StageInfo { id: 1 << 16, prefix_len: 1, suffix_len: 2, ..StageInfo::default() },
        lz4(),
        StageInfo { id: 1 << 16, suffix_len: 1, ..StageInfo::default() },
    ];
    let whole = input.byte() & 1 == 0;
    let inner = match whole {
        true => compress(&[&payload(input)[..], b"."].concat(), 1),
        false => input.take(64).to_vec(),
    };
    let middle = [&[1, 2, 3, 4, 5, 6, 7, 8, 9], &inner[..], &[1, 2]].concat();
    let middle = if input.byte() & 1 == 0 { middle } else { input.take(64).to_vec() };
    let stored = [&[0; 8], &compress(&middle, 1)[..]].concat();
    let expected =
        (middle.len() >= 11).then(|| &middle[9..middle.len() - 2]).filter(|inner| inner.len() >= 4);
    let expected = expected.and_then(blocks::undo).and_then(|mut made| made.pop().map(|_| made));
    assert!(undo(&stages, &stored) == expected);
}

/// Bytes that come again, and others.
fn payload(input: &mut Input<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    while !input.is_empty() && payload.len() < 200_000 {
        let (what, len) = (input.byte(), usize::from(input.u16()));
        match what % 4 {
            0 => payload.extend_from_slice(input.take(len % 64)),
            1 => payload.resize(payload.len() + len % 2000, what),
            // From some bytes before.
            2 if !payload.is_empty() => {
                let from = payload.len().saturating_sub(usize::from(input.u16()) + 1);
                for at in from..from + len % 300 {
                    payload.push(payload[at]);
                }
            }
            _ => payload.resize(payload.len() + len, what),
        }
    }
    payload
}
