//! Compression: what it makes, how long that becomes, and what readers say of what no compression has made.

mod common;

use common::{bytes, payloads};
use kekbit::{
    AppendContext, AppendError, Channel, CopyingReader, CreateError, Decoder, Handler, Journal,
    JournalReadError, Lz4, OpenError, ReadError, SequenceStamp, StageError, StageInfo, Start, Verify, Writer,
};

/// Says that it is `Lz4`, and stores what it is given: length and body.
#[derive(Clone, Copy)]
struct Forger {
    version: u16,
    prefix: [u8; 4],
}

impl Forger {
    const NEW: Forger = Forger { version: 1, prefix: [0; 4] };
}

impl Handler for Forger {
    fn describe(&self) -> StageInfo {
        StageInfo { version: self.version, ..Lz4::new().describe() }
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let (prefix, body) = body.split_first_chunk().unwrap();
        self.prefix = *prefix;
        out.extend_from_slice(body);
        Ok(())
    }

    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&self.prefix);
        Ok(())
    }
}

fn forged(length: u32, block: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes()[..], block].concat()
}

/// What a record becomes: the length in front of it, and the rest.
fn compressed(payload: &[u8]) -> (u32, Vec<u8>) {
    let dir = common::dir();
    let path = dir.path().join("one.kek");
    let mut writer =
        Writer::options().capacity(8 << 20).max_record_len(4 << 20).stage(Lz4::new()).create(&path).unwrap();
    writer.append(payload).unwrap();
    let channel = Channel::options().stored(true).open(&path).unwrap();
    let stored = channel.records().next().unwrap().unwrap().to_vec();
    let mut decoder = Decoder::new(&channel).stage(Lz4::new()).build().unwrap();
    assert_eq!(decoder.decode(&channel.records().next().unwrap().unwrap()).unwrap().payload, payload);
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    assert_eq!(reader.try_next().unwrap().unwrap().payload(), payload);
    (u32::from_le_bytes(stored[..4].try_into().unwrap()), stored[4..].to_vec())
}

#[test]
fn what_does_not_become_shorter_stays_as_it_is() {
    for len in [0, 1, 12, 13, 14, 100, 1000, 65_534, 65_535, 65_536, 1_000_000] {
        assert_eq!(compressed(&bytes(7, len)), (0, bytes(7, len)), "{len} random bytes");
        let (length, block) = compressed(&vec![b'x'; len]);
        if len < 13 {
            assert_eq!((length, block.len()), (0, len));
        } else {
            assert_eq!(length as usize, len);
            assert!(block.len() < len && block.len() <= 16 + len / 250, "{len} bytes became {}", block.len());
        }
    }
}

#[test]
fn a_record_may_be_longer_than_the_longest_stored_one_if_it_becomes_short_enough() {
    let dir = common::dir();
    let path = dir.path().join("long.kek");
    let options = Writer::options().capacity(1 << 16).max_record_len(104);
    let mut writer = options.stage(Lz4::new()).create(&path).unwrap();
    let refused = writer.append(&bytes(1, 101));
    assert!(matches!(refused, Err(AppendError::TooLong { len: 105, limit: 104 })), "{refused:?}");
    writer.append(&bytes(1, 100)).unwrap();
    writer.append(&[7; 5000]).unwrap();
    writer.append_with(5000, |space| space.len()).unwrap();
    writer.close().unwrap();
    let channel = Channel::open(&path).unwrap();
    let lens: Vec<_> = channel.shared_records().map(|record| record.unwrap().len()).collect();
    assert_eq!(lens, [100, 5000, 5000]);
}

/// Appends a good record, `block` as a record of `length` bytes, and another good one, alone or in one batch; every
/// reader must refuse the second.
fn refuse(length: u32, block: &[u8], what: &str) {
    for batched in [false, true] {
        let dir = common::dir();
        let path = dir.path().join("forged.kek");
        let mut writer = Writer::options().capacity(1 << 16).stage(Forger::NEW).create(&path).unwrap();
        let good = forged(0, b"good");
        let records = [&good[..], &forged(length, block), &good];
        let mut batch = writer.batch();
        for record in records {
            batch.push(record).unwrap();
        }
        if batched {
            batch.commit().unwrap();
        } else {
            drop(batch);
            for record in records {
                writer.append(record).unwrap();
            }
        }
        writer.close().unwrap();

        let at = if batched { 0 } else { 16 };
        let check = |error: ReadError| {
            assert!(error.to_string().contains("stage `lz4` cannot undo it"), "{error}");
            let ReadError::Undecodable { position, sequence, source, .. } = error else { panic!("{error}") };
            assert_eq!((position.offset(), sequence, &*source.stage), (at, 1, "lz4"));
            assert!(source.source.to_string().contains(what), "{} instead of {what}", source.source);
        };
        let channel = Channel::options().verify(Verify::Always).open(&path).unwrap();
        assert_eq!(channel.verify(|_| ()).unwrap().sequence, 3, "the file is what was written");
        macro_rules! follow {
            ($reader:ident) => {
                assert_eq!(&$reader.try_next().unwrap().unwrap()[..], b"good");
                for _ in 0..3 {
                    check($reader.try_next().unwrap_err());
                    assert_eq!($reader.sequence(), 1, "it stays");
                }
                assert_eq!(&$reader.try_previous().unwrap().unwrap()[..], b"good");
                assert!($reader.try_previous().unwrap().is_none());
            };
        }
        let mut reader = channel.reader(Start::Beginning).unwrap();
        follow!(reader);
        let mut copying = CopyingReader::open(&path).unwrap();
        follow!(copying);
        copying.seek(Start::End).unwrap();
        let mut back = channel.reader(Start::End).unwrap();
        assert_eq!(&back.try_previous().unwrap().unwrap()[..], b"good");
        assert_eq!(&copying.try_previous().unwrap().unwrap()[..], b"good");
        for _ in 0..3 {
            check(back.try_previous().unwrap_err());
            check(copying.try_previous().unwrap_err());
            assert_eq!((back.sequence(), copying.sequence()), (2, 2), "they stay");
        }
        assert_eq!(&back.try_next().unwrap().unwrap()[..], b"good");
        assert_eq!(&copying.try_next().unwrap().unwrap()[..], b"good");
        // What lies behind it is there for those who ask for it.
        let mut behind = channel.reader(Start::Sequence(2)).unwrap();
        assert_eq!(&behind.try_next().unwrap().unwrap()[..], b"good");
        let mut records = channel.shared_records();
        assert!(records.next().unwrap().is_ok());
        check(records.next().unwrap().unwrap_err());
        assert!(records.next().is_none());
        let mut records = channel.shared_records_back();
        assert!(records.next().unwrap().is_ok());
        check(records.next().unwrap().unwrap_err());
        assert!(records.next().is_none());
    }
}

#[test]
fn what_no_compression_has_made_is_refused_and_never_passed_over() {
    let text = b"all work and no play makes jack a dull boy, all work and no play makes jack a dull boy";
    let (length, block) = compressed(text);
    assert_eq!(length as usize, text.len());
    refuse(length + 1, &block, "86 bytes instead of 87");
    refuse(length - 1, &block, "damaged");
    refuse(1, &block, "damaged");
    for cut in 0..block.len() {
        let shorter = &block[..cut];
        let what = match cut as u32 * 255 {
            most if most < length => "cannot come from a block of",
            _ => "",
        };
        refuse(length, shorter, what);
    }
    // A last token that says that nothing follows, which what undoes it would not mind.
    for garbage in 0..=255 {
        refuse(length, &[&block[..], &[garbage]].concat(), "");
        refuse(length, &[&block[..], &[garbage, 0, 0]].concat(), "");
    }
    refuse(1, &[], "1 bytes cannot come from a block of 0");
    refuse(1, &[0], "does not end where it should");
    refuse(u32::MAX, &block, "4294967295 bytes cannot come from a block of");
    refuse(block.len() as u32 * 255 + 1, &block, "cannot come from a block of");
    // Matches from before the beginning, and of no distance.
    refuse(9, &[0x10, b'x', 2, 0, 0x40, b'a', b'b', b'c', b'd'], "damaged");
    refuse(9, &[0x10, b'x', 0, 0, 0x40, b'a', b'b', b'c', b'd'], "damaged");
    // Lengths that go on to the end of the block.
    refuse(60_000, &[255; 300], "damaged");
    refuse(76_500, &[&[0x1F, b'x', 1, 0][..], &[255; 296]].concat(), "damaged");
}

#[test]
fn what_is_too_short_for_the_stages_inside_is_refused() {
    let dir = common::dir();
    let path = dir.path().join("short.kek");
    /// Takes the stage inside of it away.
    struct Shortens;
    impl Handler for Shortens {
        fn describe(&self) -> StageInfo {
            Lz4::new().describe()
        }
        fn instead(
            &mut self,
            _: &mut AppendContext<'_>,
            body: &[u8],
            out: &mut Vec<u8>,
        ) -> Result<(), StageError> {
            out.extend_from_slice(&body[8..]);
            Ok(())
        }
    }
    let mut writer = Writer::options().stage(Shortens).stage(SequenceStamp).create(&path).unwrap();
    writer.append(b"1234567").unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    let error = reader.try_next().unwrap_err();
    assert!(error.to_string().contains("shorter than the stages inside make it"), "{error}");
}

#[test]
fn a_journal_reader_says_which_channel_it_is() {
    let dir = common::dir();
    let path = dir.path().join("journal");
    let mut journal = Journal::options().stage(Forger::NEW).open(&path).unwrap();
    journal.append(&forged(0, b"good")).unwrap();
    journal.append(&forged(100, b"bad")).unwrap();
    let mut reader = Journal::reader(&path).unwrap();
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], b"good");
    for _ in 0..2 {
        let error = reader.try_next().unwrap_err();
        let JournalReadError::Read { source: ReadError::Undecodable { sequence: 1, .. }, path } = error
        else {
            panic!("{error}")
        };
        assert!(path.ends_with("00000000000000000000.kek"));
    }
}

#[test]
fn another_version_of_the_stage_is_not_undone_as_this_one() {
    let dir = common::dir();
    let path = dir.path().join("newer.kek");
    let mut writer = Writer::options().stage(Forger { version: 2, ..Forger::NEW }).create(&path).unwrap();
    writer.append(&forged(0, b"what it may be")).unwrap();
    let error = Channel::open(&path).unwrap_err();
    assert!(matches!(&error, OpenError::Encoded { stage, id: 4, .. } if stage == "lz4"));
    assert!(error.to_string().contains("a newer version of kekbit may undo it"), "{error}");
    assert!(CopyingReader::open(&path).is_err());
    let channel = Channel::options().stored(true).open(&path).unwrap();
    assert_eq!(payloads(&channel), [b"\0\0\0\0what it may be"]);
}

#[test]
fn records_are_compressed_once() {
    let dir = common::dir();
    let path = dir.path().join("twice.kek");
    let twice = Writer::options().stage(Lz4::new()).stage(Lz4::new()).create(&path);
    assert!(matches!(twice, Err(CreateError::Options(text)) if text.contains("compressed more than once")));
    assert!(!path.exists());

    // A file that says so: each stage may make 255 times as much, and the next one 255 times that.
    let mut other = Lz4::new().describe();
    other.id = 0x0A0B_0C0D;
    struct Named(StageInfo);
    impl Handler for Named {
        fn describe(&self) -> StageInfo {
            self.0.clone()
        }
    }
    Writer::options().stage(Lz4::new()).stage(Named(other)).create(&path).unwrap().close().unwrap();
    let mut file = std::fs::read(&path).unwrap();
    // Among the attributes.
    let at =
        file[224..4096].windows(4).position(|bytes| bytes == 0x0A0B_0C0D_u32.to_le_bytes()).unwrap() + 224;
    file[at..at + 4].copy_from_slice(&4_u32.to_le_bytes());
    common::repair_header(&mut file);
    std::fs::write(&path, &file).unwrap();
    for error in [Channel::open(&path).unwrap_err(), CopyingReader::open(&path).unwrap_err()] {
        assert!(error.to_string().contains("compressed more than once"), "{error}");
    }
    // Who takes the stored bytes decides by itself what becomes of them.
    Channel::options().stored(true).open(&path).unwrap();
}
