//! Frames over plain memory: whatever the bytes and the rules are, the cursor finds what a walk finds that was written
//! down from FORMAT.md alone. Every access to the memory is checked.
//!
//! ```text
//! rules | where the file ends | pieces: bytes as they are, frames and batches whose check is right
//! ```

#![no_main]

use kekbit::fuzzing::{Found, Rules, Walk};
use kekbit_fuzz::frames::{BATCH, push_frame, push_inner, walk};
use kekbit_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    let salt = input.byte();
    let rules = Rules {
        salt: [salt; 16],
        crc: flags & 1 == 0,
        verify: flags & 2 == 0,
        written: if flags & 4 == 0 { 0 } else { bound(&mut input) },
        sound: if flags & 8 == 0 { u64::MAX } else { bound(&mut input) },
        believed: if flags & 16 == 0 { u64::MAX } else { bound(&mut input) },
        durable: if salt & 7 != 7 { None } else { Some(bound(&mut input)) },
        around: if flags & 32 == 0 { 0 } else { u32::from(input.byte()) },
        max_record_len: if flags & 64 == 0 { 1 << 20 } else { u32::from(input.u16()) },
    };
    // A channel whose stages add more than a record can have is not opened.
    let rules = Rules { around: rules.around.min(rules.max_record_len), ..rules };
    let (cut, begun) = (input.byte(), input.byte());
    let first = if flags & 128 == 0 { 0 } else { 1 << 63 };
    let data = region(&mut input, &rules);
    // How much of it the file has, and how much of that was known when it was opened.
    let bound = (data.len() as u64).saturating_sub(u64::from(cut % 32) * 8).max(8);
    let known = bound.saturating_sub(u64::from(begun) * 8).max(8);

    let expected = walk(&data, bound, first, &rules);
    let mut cursor = Walk::new(&data, known, bound, first, &rules);
    let mut reach = 0;
    for (i, expected) in expected.iter().enumerate() {
        let found = cursor.step();
        assert_eq!(found, *expected, "step {i}");
        if let Found::Record { position, at, len, .. } = found {
            assert!(reach < cursor.reach(), "a record is progress");
            reach = cursor.reach();
            assert!(position + 8 <= at && at + len <= bound && reach + 8 <= bound, "a record lies inside");
        }
    }
    // What it has come to stays.
    let last = expected.last().copied();
    assert_eq!(Some(cursor.step()), last);
    assert!(cursor.reach() + 8 <= bound);
    // From any place it ends, too, within as many steps as there are words.
    let from = input.number(&[bound, known]);
    if cursor.move_to(kekbit::Position::new(from), 7) {
        assert!(from.is_multiple_of(8) && from + 8 <= bound);
        let mut steps = 0;
        while let Found::Record { at, len, .. } = cursor.step() {
            steps += 1;
            assert!(steps <= bound / 8 && from + 8 <= at && at + len <= bound);
        }
    }
});

fn bound(input: &mut Input<'_>) -> u64 {
    u64::from(input.u16())
}

/// A data region out of pieces; at least one word.
fn region(input: &mut Input<'_>, rules: &Rules) -> Vec<u8> {
    let mut data = Vec::with_capacity(1024);
    while !input.is_empty() && data.len() < 4096 {
        let piece = input.byte();
        let len = usize::from(input.byte());
        match piece % 8 {
            // As they are.
            0 => {
                data.extend_from_slice(input.take(len));
                data.resize(data.len().next_multiple_of(8), 0);
            }
            // A word with a length of its own.
            1 => data.extend_from_slice(&input.u64().to_le_bytes()),
            2 => {
                let mut batch = vec![piece >> 3, 0, 0, 0, 0, 0, 0, 0];
                let count = len % 8;
                for _ in 0..count {
                    let len = input.below(40);
                    push_inner(&mut batch, input.take(len));
                }
                if piece & 0x80 == 0 {
                    batch[0] = count as u8;
                }
                push_frame(&mut data, rules, BATCH, &batch);
            }
            // A batch of anything.
            3 => push_frame(&mut data, rules, BATCH, input.take(len)),
            // Records; then every kind.
            4..=6 => push_frame(&mut data, rules, 1, input.take(len)),
            _ => {
                let kind = piece >> 4;
                let len = if matches!(kind, 4..=6) { len & 8 } else { len };
                push_frame(&mut data, rules, kind, input.take(len));
            }
        }
    }
    data.extend_from_slice(&[0; 8]);
    data
}
