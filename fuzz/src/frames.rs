//! Frames, written down from FORMAT.md alone, and a walk over them that shares nothing with the library but the CRC and
//! the mix. What the library reads is compared with what this reads.

use kekbit::fuzzing::{Found, Rules, crc32c_padded, mix};

/// Kinds by their number in the file.
pub const RECORD: u8 = 1;
/// Several records that appear together.
pub const BATCH: u8 = 2;

/// Appends a frame to `data` whose check is right.
pub fn push_frame(data: &mut Vec<u8>, rules: &Rules, kind: u8, payload: &[u8]) {
    let kl = u32::from(kind & 15) << 28 | payload.len() as u32;
    let check = check(rules, data.len() as u64, kl, payload);
    push(data, kl, check, payload);
}

/// Appends a frame inside of a batch, which has no check of its own.
pub fn push_inner(data: &mut Vec<u8>, payload: &[u8]) {
    push(data, u32::from(RECORD) << 28 | payload.len() as u32, 0, payload);
}

fn push(data: &mut Vec<u8>, kl: u32, check: u32, payload: &[u8]) {
    data.extend_from_slice(&check.to_le_bytes());
    data.extend_from_slice(&kl.to_le_bytes());
    data.extend_from_slice(payload);
    data.resize(data.len().next_multiple_of(8), 0);
}

/// The check of a frame.
pub fn check(rules: &Rules, position: u64, kl: u32, payload: &[u8]) -> u32 {
    mix(rules.salt, position, kl) ^ if rules.crc { crc32c_padded(payload) } else { 0 }
}

/// Everything that a reader finds in `data`: records, and what comes behind the last. Section 12 of FORMAT.md.
///
/// `bound` is how much of `data` the file has.
pub fn walk(data: &[u8], bound: u64, first_sequence: u64, rules: &Rules) -> Vec<Found> {
    let mut found = Vec::new();
    let (mut at, mut next) = (0_u64, first_sequence);
    loop {
        let invalid = if at < rules.sound { Found::Corrupt(at) } else { Found::Torn };
        let word = u64_at(data, at);
        if word == 0 {
            found.push(if at < rules.written { Found::Corrupt(at) } else { Found::Nothing });
            return found;
        }
        if rules.durable.is_some_and(|durable| at >= durable) {
            found.push(Found::Unsynced);
            return found;
        }
        if at >= rules.believed {
            found.push(Found::Torn);
            return found;
        }
        let (kl, given) = ((word >> 32) as u32, word as u32);
        let (kind, len) = ((kl >> 28) as u8, u64::from(kl & 0x0FFF_FFFF));
        if matches!(kind, 4..=6) {
            let good = len == 0 && given == mix(rules.salt, at, kl);
            found.push(if good { Found::End(kind) } else { invalid });
            return found;
        }
        let end = at + 8 + len.next_multiple_of(8);
        if end + 8 > bound {
            found.push(invalid);
            return found;
        }
        let payload = &data[at as usize + 8..][..len as usize];
        let unknown = matches!(kind, 0 | 7..=11);
        if (rules.verify || unknown) && given != check(rules, at, kl, payload) {
            found.push(invalid);
            return found;
        }
        if unknown {
            found.push(Found::Unknown(at, kind));
            return found;
        }
        let possible = |len: u64| u64::from(rules.around) <= len && len <= u64::from(rules.max_record_len);
        if kind == RECORD {
            if !possible(len) {
                found.push(invalid);
                return found;
            }
            found.push(Found::Record { position: at, sequence: next, at: at + 8, len });
            next += 1;
        }
        if kind == BATCH {
            let Some(inner) = batch(payload, possible) else {
                found.push(invalid);
                return found;
            };
            for (from, len) in inner {
                found.push(Found::Record { position: at, sequence: next, at: at + 8 + from, len });
                next += 1;
            }
        }
        at = end;
    }
}

/// Where the records of a batch lie in its payload, if it is one.
fn batch(payload: &[u8], possible: impl Fn(u64) -> bool) -> Option<Vec<(u64, u64)>> {
    let total = payload.len() as u64;
    if total < 8 || !total.is_multiple_of(8) {
        return None;
    }
    let first = u64_at(payload, 0);
    if first >> 32 != 0 {
        return None;
    }
    let (mut at, mut inner) = (8, Vec::new());
    while at < total {
        let word = u64_at(payload, at);
        let len = word >> 32 & 0x0FFF_FFFF;
        let end = at + 8 + len.next_multiple_of(8);
        if word >> 60 != u64::from(RECORD) || word as u32 != 0 || !possible(len) || end > total {
            return None;
        }
        inner.push((at + 8, len));
        at = end;
    }
    (inner.len() as u64 == first).then_some(inner)
}

fn u64_at(bytes: &[u8], at: u64) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at as usize..][..8]);
    u64::from_le_bytes(word)
}
