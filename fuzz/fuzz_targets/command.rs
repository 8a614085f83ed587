//! The command line of `kek`, its values, and how `kek write` cuts its input into records: nothing panics, what is
//! accepted means something, and no byte of the input is lost.
//!
//! ```text
//! choice | arguments, with zeros between them; or a value; or how to cut | what is cut
//! ```

#![no_main]

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use kekbit_cli::fuzzing::{
    CommandLine, Cut, duration, friendly, is_sync, meta, one_line, rfc3339, size, split, start,
};
use kekbit_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static COMMAND_LINE: RefCell<CommandLine> = RefCell::default();
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    match input.byte() % 8 {
        0 | 1 => arguments(input.rest()),
        2..=4 => cut(&mut input),
        _ => value(input.rest()),
    }
});

fn arguments(bytes: &[u8]) {
    let mut arguments = vec![OsString::from("kek")];
    arguments.extend(bytes.split(|byte| *byte == 0).map(|part| OsString::from_vec(part.to_vec())));
    COMMAND_LINE.with_borrow_mut(|command| {
        if let Err(error) = command.parse(arguments) {
            assert!([0, 2].contains(&error.exit_code()));
        }
    });
}

fn value(bytes: &[u8]) {
    let word = bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    assert!(rfc3339(word).ends_with('Z'));
    let text = String::from_utf8_lossy(bytes);
    let line = one_line(&text);
    assert!(!line.contains(char::is_control));
    let told = |error: String| assert!(!error.is_empty());
    let _ = size(&text).map_err(told);
    let _ = start(&text).map_err(told);
    if let Ok((key, value)) = meta(&text) {
        assert_eq!(format!("{key}={value}"), text);
        assert!(!key.is_empty());
    }
    match duration(&text) {
        Ok(span) => {
            assert!(!span.is_zero() && is_sync(&text));
            assert_eq!(duration(&friendly(span)), Ok(span), "it is printed as it is read");
        }
        Err(error) => {
            told(error);
            assert!(!is_sync(&text) || matches!(&*text, "none" | "each"));
        }
    }
}

fn cut(input: &mut Input<'_>) {
    let (how, piece, limit) = (input.byte(), usize::from(input.byte()), usize::from(input.u16()) % 600);
    let cut = match how % 4 {
        0 => Cut::Terminated(b'\n'),
        1 => Cut::Terminated(0),
        2 => Cut::Framed,
        _ => Cut::Whole,
    };
    let bytes = input.rest();
    let mut records = Vec::new();
    let all = split(cut, limit, bytes.chunks(piece.max(1)), |record| records.push(record.to_vec()));
    assert!(records.iter().all(|record| record.len() <= limit));
    let (expected, whole) = expected(cut, limit, bytes);
    assert_eq!((records, all), (expected, whole));
}

/// The records of an input that is there at once, and whether they are all.
fn expected(cut: Cut, limit: usize, bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut pieces: Vec<&[u8]> = Vec::new();
    let mut complete = true;
    match cut {
        Cut::Whole => pieces.push(bytes),
        Cut::Terminated(terminator) => {
            pieces = bytes.split(|byte| *byte == terminator).collect();
            // Behind the last terminator there is nothing.
            pieces.pop_if(|last| last.is_empty());
        }
        Cut::Framed => {
            let mut rest = bytes;
            while let Some((len, behind)) = rest.split_first_chunk::<4>() {
                let len = u32::from_le_bytes(*len) as usize;
                if len > limit || len > behind.len() {
                    break;
                }
                pieces.push(&behind[..len]);
                rest = &behind[len..];
            }
            complete = rest.is_empty();
        }
    }
    let good = pieces.iter().take_while(|piece| piece.len() <= limit);
    let records: Vec<_> = good.map(|piece| piece.to_vec()).collect();
    let all = complete && records.len() == pieces.len();
    (records, all)
}
