//! Any file of 0.3: its reader finds what a walk over the bytes finds that knows nothing of the library's, forwards, backwards and
//! from any place.
//!
//! ```text
//! flags | where to begin (9 bytes) | header (57 bytes), if the flags say so | length of the file (2 bytes), if so | pieces
//!
//! piece:  0..=127    a record of so many bytes, which follow as far as there are any
//!         128..=191  so many records without bytes and one more, less 128
//!         192..=223  nothing yet
//!         224..=239  closed
//!         240..=247  any word (8 bytes)
//!         248..=255  as many words of zeros as 32 times so many and one more, less 248
//! ```

#![no_main]

use kekbit::legacy::{Channel, State};
use kekbit::{End, Position, ReadError, Start};
use kekbit_fuzz::input::Input;
use kekbit_fuzz::place::with_place;
use libfuzzer_sys::fuzz_target;

const CAPACITY: u64 = 16384;
const DATA: usize = 1024;
const WATERMARK: u64 = 0xFFFF_FFFF_1111_1111;
const CLOSE: u64 = u64::MAX;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let flags = input.byte();
    let mut sought = Input::new(input.take(9));
    with_place(|place| {
        let mut image = std::mem::take(&mut place.buffer);
        image.clear();
        image.extend_from_slice(b"*KEKBIT*\0\0\0\0\0\0\x01\0");
        image.resize(32, 7);
        image.extend_from_slice(&(CAPACITY | 120 << 32).to_le_bytes());
        image.resize(56, 1);
        image.resize(DATA, 0);
        if flags & 1 != 0 {
            let header = input.take(57);
            image[..header.len()].copy_from_slice(header);
        }
        let len = if flags & 2 != 0 {
            usize::from(u16::from_le_bytes([input.byte(), input.byte()]))
        } else {
            16544
        };
        while !input.is_empty() && image.len() < len {
            piece(&mut input, &mut image);
        }
        image.resize(len, 0);
        place.put(&image, len as u64, false);
        look(place.path(), &image, flags, &mut sought);
        place.buffer = image;
    });
});

fn piece(input: &mut Input<'_>, image: &mut Vec<u8>) {
    match input.byte() {
        len @ 0..128 => {
            image.extend_from_slice(&u64::from(len).to_le_bytes());
            let end = image.len() + usize::from(len).next_multiple_of(8);
            image.extend_from_slice(input.take(usize::from(len)));
            image.resize(end, 0);
        }
        count @ 128..192 => image.resize(image.len() + 8 * usize::from(count - 127), 0),
        192..224 => image.extend_from_slice(&WATERMARK.to_le_bytes()),
        224..240 => image.extend_from_slice(&CLOSE.to_le_bytes()),
        240..248 => {
            let end = image.len() + 8;
            image.extend_from_slice(input.take(8));
            image.resize(end, 0);
        }
        count => image.resize(image.len() + 256 * usize::from(count - 247), 0),
    }
}

/// What there is to be read, and how it ends.
struct Walk {
    /// Position and length of each record.
    records: Vec<(u64, u64)>,
    end: Ending,
    at: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ending {
    Closed,
    Unfinished,
    Corrupt,
    /// Bytes that are missing of a record whose length is there.
    CutOff(Option<u64>),
}

fn word(image: &[u8], at: u64) -> Option<u64> {
    image.get(at as usize..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

fn walk(image: &[u8]) -> Walk {
    let half =
        |at: usize| u64::from(u32::from_le_bytes(*image[at..].first_chunk().expect("it has a header")));
    let (capacity, longest) = (half(32), half(36));
    let data = &image[DATA..image.len().min(capacity as usize + 160)];
    let (mut at, mut records) = (0, Vec::new());
    let end = loop {
        let Some(word) = word(data, at) else { break Ending::CutOff(None) };
        if let Some(end) = judge(at, word, data.len() as u64, capacity, longest) {
            break end;
        }
        if word == 0 {
            // What follows the zeros is to make sense.
            let next = (at..data.len() as u64)
                .step_by(8)
                .find(|at| self::word(data, *at).is_some_and(|word| word > 0));
            let Some(next) = next else { break Ending::Corrupt };
            let follows = self::word(data, next).expect("it was found");
            if judge(next, follows, data.len() as u64, capacity, longest) == Some(Ending::Corrupt) {
                break Ending::Corrupt;
            }
        }
        records.push((at, word));
        at += 8 + word.next_multiple_of(8);
    };
    Walk { records, end, at }
}

/// The end that `word` at `at` is, if it is one.
fn judge(at: u64, word: u64, len: u64, capacity: u64, longest: u64) -> Option<Ending> {
    match word {
        WATERMARK => Some(Ending::Unfinished),
        CLOSE => Some(Ending::Closed),
        _ if word > longest || at + 8 + word.next_multiple_of(8) > capacity => Some(Ending::Corrupt),
        _ if at + 8 + word > len => Some(Ending::CutOff(Some(at + 8 + word - len))),
        _ => None,
    }
}

fn look(path: &std::path::Path, image: &[u8], flags: u8, sought: &mut Input<'_>) {
    let channel = match Channel::open(path) {
        Ok(channel) => channel,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(flags & 3 != 0, "{error}");
            return;
        }
    };
    let walk = walk(image);
    let mut reader = channel.reader();
    for (sequence, record) in walk.records.iter().enumerate() {
        let found = reader.try_next().expect("it is good").expect("it is there");
        assert_eq!((found.position().offset(), found.len() as u64), *record);
        assert_eq!(found.sequence(), sequence as u64);
        assert_eq!(found[..], image[DATA + 8 + record.0 as usize..][..found.len()]);
    }
    let next = reader.try_next().map(|record| assert!(record.is_none(), "{record:?} is not there"));
    let found = match next {
        Ok(()) if reader.end() == Some(End::Closed) => Ending::Closed,
        Ok(()) => Ending::Unfinished,
        Err(ReadError::CutOff { loss, .. }) => Ending::CutOff(loss.record_len().map(|_| loss.missing())),
        Err(_) => Ending::Corrupt,
    };
    let count = walk.records.len() as u64;
    assert_eq!((found, reader.position().offset(), reader.sequence()), (walk.end, walk.at, count));
    if flags & 4 != 0 {
        let end = channel.end_point();
        match walk.end {
            Ending::Corrupt => assert!(end.is_err()),
            Ending::CutOff(_) => assert_eq!(end.expect("that is no error").state, State::CutOff),
            ending => {
                let closed = end.expect("that is no error").state == State::Closed;
                assert_eq!(closed, ending == Ending::Closed);
            }
        }
    }
    // From any place, some steps there and back.
    let number = sought.number(&[count, walk.at]);
    let start = match sought.byte() % 5 {
        0 => Start::Sequence(number),
        1 => Start::Last(number),
        2 => Start::Position(Position::new(number)),
        3 => Start::End,
        _ => Start::Beginning,
    };
    let sought_for = match start {
        Start::Sequence(_) => number.min(count),
        Start::Last(_) => count.saturating_sub(number),
        Start::End => count,
        Start::Position(_) => {
            walk.records.iter().position(|(at, _)| *at == number).map_or(count, |n| n as u64)
        }
        _ => 0,
    };
    if reader.seek(start).is_err() {
        assert!(matches!(start, Start::Position(_)) && sought_for == count, "{start:?}");
        return;
    }
    let mut next = sought_for;
    for step in 0..8 {
        if (flags >> (step % 5 + 3)) & 1 == 0 {
            let there = reader.try_next().ok().flatten().map(|record| record.sequence());
            assert_eq!(there, (next < count).then_some(next), "{start:?}");
            next = (next + 1).min(count);
        } else {
            let there = reader.try_previous().map(|record| record.map(|record| record.sequence()));
            match there {
                Ok(there) => assert_eq!(there, next.checked_sub(1), "{start:?}"),
                // What is to be passed over ends at damage.
                Err(_) => return,
            }
            next = next.saturating_sub(1);
        }
    }
}
