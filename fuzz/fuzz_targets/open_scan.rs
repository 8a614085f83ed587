//! Any bytes as a file: opening, reading, seeking, verifying and sealing it end without a panic, and what is read lies
//! in the file.
//!
//! A file is long and mostly zeros, and what the fuzzer makes is to be short, so it is written down as pieces:
//!
//! ```text
//! how to look at it | flags | what to seek (9 bytes) | pieces
//!
//! piece:  0..=191    so many bytes and one more, which follow
//!         192..=223  zeros up to a multiple of 8, 16, ... 4096
//!         224..=254  so many words of zeros, less 223
//!         255        zeros up to the place of the header's check
//! ```

#![no_main]

use kekbit::fuzzing::crc32c_padded;
use kekbit_fuzz::input::Input;
use kekbit_fuzz::look::Look;
use kekbit_fuzz::place::with_place;
use libfuzzer_sys::fuzz_target;

/// The longest file.
const LONGEST: usize = 1 << 16;
/// The last bytes of a header, which hold its check.
const CHECK: usize = 4092;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let look = Look::new(&mut input);
    let flags = input.byte();
    let mut sought = Input::new(input.take(9));
    with_place(|place| {
        let mut image = std::mem::take(&mut place.buffer);
        image.clear();
        while !input.is_empty() && image.len() < LONGEST {
            piece(&mut input, &mut image);
        }
        if image.len() >= 4096 {
            if flags & 1 != 0 {
                // As if it had been created here, in this boot.
                let (boot_id, inode) = place.born();
                image[88..104].copy_from_slice(&boot_id);
                image[104..112].copy_from_slice(&inode.to_le_bytes());
            }
            if flags & 3 != 0 {
                let check = crc32c_padded(&image[..CHECK]);
                image[CHECK..4096].copy_from_slice(&check.to_le_bytes());
            }
        }
        let len = image.len() as u64;
        place.put(&image, len, look.live);
        look.at(place, len, &mut sought, &[len]);
        place.release(look.live);
        place.buffer = image;
    });
});

fn piece(input: &mut Input<'_>, image: &mut Vec<u8>) {
    match input.byte() {
        piece @ 0..192 => image.extend_from_slice(input.take(usize::from(piece) + 1)),
        piece @ 192..224 => image.resize(image.len().next_multiple_of(8 << (piece % 10).min(9)), 0),
        255 => image.resize(image.len().max(CHECK), 0),
        piece => image.resize(image.len() + 8 * usize::from(piece - 223), 0),
    }
}
