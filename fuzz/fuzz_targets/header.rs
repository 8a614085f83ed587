//! Decoding of what is not a record: header, attributes, slots, entries. Nothing panics, nothing takes more memory than
//! the bytes could ask for, and what was decoded means the same when it is encoded and decoded again.
//!
//! ```text
//! choice | the bytes to be decoded
//! ```

#![no_main]

use kekbit::fuzzing::{Attributes, Header, crc32c_padded, entry, entry_bytes, head, slot, slot_bytes};
use libfuzzer_sys::fuzz_target;

/// The last bytes of a header, which hold its check.
const CHECK: usize = 4092;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    match choice % 8 {
        // As it is.
        0 => header(bytes),
        // The beginning of a page whose check is right.
        1..=4 => {
            let mut page = [0; 4096];
            let len = bytes.len().min(CHECK);
            page[..len].copy_from_slice(&bytes[..len]);
            if choice & 0x80 != 0 {
                // What else every header begins with.
                page[..16].copy_from_slice(b"*KEKBIT*\0\0\0\0\0\0\x02\0");
            }
            let check = crc32c_padded(&page[..CHECK]);
            page[CHECK..].copy_from_slice(&check.to_le_bytes());
            header(&page);
        }
        5 => attributes(bytes),
        6 => words(bytes),
        _ => {
            let word = bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            let (kind, len, check, frame) = head(word);
            assert_eq!(u64::from(kind) << 60 | len << 32 | u64::from(check), word);
            assert!(frame >= 8 + len && frame < 16 + len && frame.is_multiple_of(8));
        }
    }
});

fn header(bytes: &[u8]) {
    let header = match Header::decode(bytes) {
        Ok(header) => header,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let (regions, capacity) = header.regions();
    let mut last = 4096;
    for (begin, end) in regions {
        assert!(last <= begin && begin <= end && end <= 1 << 46, "{regions:?}");
        assert!(begin % 4096 == 0 && end % 4096 == 0, "{regions:?}");
        last = end;
    }
    assert!((4096..=1 << 45).contains(&capacity) && u64::from(header.max_record_len()) <= capacity - 16);
    assert!((128..=1 << 34).contains(&header.index_slots()));
    frugal(&header.attributes(), bytes);
    let stored = &bytes[..bytes.len().min(usize::try_from(header.max_record_len()).unwrap())];
    if let Ok(parts) = header.take_apart(stored) {
        assert!(parts.prefix + parts.suffix <= header.max_record_len() as usize);
    }
    // It may have had attributes that are not known, so that it is shorter now; never longer than it may be.
    let again = header.encode().expect("what was in a header fits a header");
    assert_eq!(Header::decode(&again).expect("what was encoded is a header"), header);
    assert_eq!(header.encode(), Some(again));
}

fn attributes(bytes: &[u8]) {
    if let Ok(attributes) = Attributes::decode(bytes) {
        frugal(&attributes, bytes);
        let again = attributes.encode().expect("what was decoded can be encoded");
        assert_eq!(Attributes::decode(&again).as_ref(), Ok(&attributes));
    }
}

/// Each attribute takes 8 bytes in the file, and less than 128 in memory beside its text; vectors double.
fn frugal(attributes: &Attributes, bytes: &[u8]) {
    assert!(attributes.footprint() <= 1024 + 40 * bytes.len(), "{} bytes", attributes.footprint());
}

fn words(bytes: &[u8]) {
    let Some((salt, bytes)) = bytes.split_first_chunk::<16>() else { return };
    if let Some(bytes) = bytes.first_chunk::<24>() {
        if let Some((synced, counter)) = slot(bytes, *salt) {
            assert_eq!(slot_bytes(synced, counter, *salt), *bytes);
        }
        let (synced, counter) = (u64_at(bytes, 0), u64_at(bytes, 8));
        let again = slot(&slot_bytes(synced, counter, *salt), *salt);
        assert_eq!(again, (counter < 1 << 63).then_some((synced, counter)));
    }
    if let Some(bytes) = bytes.first_chunk::<32>() {
        if let Some((position, sequence, time, terminal)) = entry(bytes, *salt) {
            assert_eq!(entry_bytes(position, sequence, time, terminal, *salt), *bytes);
        }
        let (position, sequence, time, terminal) =
            (u64_at(bytes, 0), u64_at(bytes, 8), u64_at(bytes, 16), bytes[28] & 1 == 1);
        let again = entry(&entry_bytes(position, sequence, time, terminal, *salt), *salt);
        let valid = position.is_multiple_of(8);
        assert_eq!(again, valid.then_some((position, sequence, time, terminal)));
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}
