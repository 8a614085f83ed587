//! Whatever the handlers of kekbit 0.3 could do, done here, with the original beside it. See `migrating`.

#[path = "migrating/common.rs"]
mod common;

use std::io;

use common::{dir, old_metadata, old_writer, options, payloads};
use kekbit::{
    AppendContext, Channel, Handler, OpenError, SequenceStamp, StageError, StageInfo, TickUnit, Timestamp,
};
use kekbit_0_3::api as old_api;
use kekbit_0_3::core as old;
use old_api::{Reader as _, Writer as _};

/// Puts a byte before each record, and one behind it.
struct Mark(u8);

impl old_api::Handler for Mark {
    fn incoming(&mut self, _: &impl old_api::Encodable, write: &mut impl io::Write) -> io::Result<usize> {
        write.write(&[self.0])
    }

    fn outgoing(&mut self, _: &impl old_api::Encodable, write: &mut impl io::Write) -> io::Result<usize> {
        write.write(&[self.0])
    }
}

impl Handler for Mark {
    fn describe(&self) -> StageInfo {
        let name = format!("mark {}", self.0);
        StageInfo { id: 1 << 16, version: 1, prefix_len: 1, suffix_len: 1, name, ..StageInfo::default() }
    }

    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix[0] = self.0;
        Ok(())
    }

    fn after(&mut self, _: &mut AppendContext<'_>, _: &[u8], suffix: &mut [u8]) -> Result<(), StageError> {
        suffix[0] = self.0;
        Ok(())
    }
}

#[test]
fn handlers_chain_as_they_did_and_are_recorded() {
    let dir = dir();
    let bottom = old_api::EncoderHandler::default();
    let chain = old::ChainedHandler::link(old::ChainedHandler::link(bottom, Mark(2)), Mark(1));
    let mut old = old::shm_writer(dir.path(), &old_metadata(1, old::TickUnit::Secs), chain).unwrap();
    old.write(&"payload").unwrap();
    let stored = old::shm_reader(dir.path(), 1000).unwrap().try_read().unwrap().unwrap().to_vec();

    // The outermost first, where the original names the innermost first.
    let path = dir.path().join("new");
    let mut writer = options().stage(Mark(1)).stage(Mark(2)).create(&path).unwrap();
    writer.append(b"payload").unwrap();
    let channel = Channel::open(&path).unwrap();
    let record = channel.records().next().unwrap().unwrap();
    assert_eq!(record.stored(), stored);
    assert_eq!(&record[..], b"payload");
    let names: Vec<_> = channel.stages().iter().map(|stage| &stage.name[..]).collect();
    assert_eq!(names, ["mark 1", "mark 2"]);
}

#[test]
fn a_handler_can_replace_the_record() {
    /// Writes each record in capitals.
    struct Loud;

    impl Handler for Loud {
        fn describe(&self) -> StageInfo {
            StageInfo { id: 1 << 16, version: 1, replaces: true, name: "loud".into(), ..StageInfo::default() }
        }

        fn instead(
            &mut self,
            _: &mut AppendContext<'_>,
            body: &[u8],
            out: &mut Vec<u8>,
        ) -> Result<(), StageError> {
            out.extend(body.to_ascii_uppercase());
            Ok(())
        }
    }

    let dir = dir();
    let path = dir.path().join("new");
    options().stage(Loud).create(&path).unwrap().append(b"payload").unwrap();
    // Who does not know the stage does not get its bytes for the payload.
    assert!(matches!(Channel::open(&path), Err(OpenError::Encoded { id: 65536, .. })));
    let channel = Channel::options().stored(true).open(&path).unwrap();
    assert_eq!(payloads(&channel), [b"PAYLOAD"]);
}

#[test]
fn without_stages_a_record_is_its_payload() {
    let dir = dir();
    let mut old = old_writer(dir.path());
    old.write(&"payload").unwrap();
    assert_eq!(old::shm_reader(dir.path(), 1000).unwrap().try_read().unwrap().unwrap(), b"payload");
    let mut writer = options().create(dir.path().join("new")).unwrap();
    writer.append(b"payload").unwrap();
    let channel = Channel::open(dir.path().join("new")).unwrap();
    let record = channel.records().next().unwrap().unwrap();
    assert_eq!((record.payload(), record.stored()), (&b"payload"[..], &b"payload"[..]));

    // A handler without one that encodes at the bottom forgets the payload there, and cannot here.
    let root = dir.path().join("alone");
    let stamp = old::TimestampHandler::new(old::TickUnit::Nanos);
    let mut old = old::shm_writer(&root, &old_metadata(1, old::TickUnit::Secs), stamp).unwrap();
    old.write(&"payload").unwrap();
    assert_eq!(old::shm_reader(&root, 1000).unwrap().try_read().unwrap().unwrap().len(), 8);
    let path = dir.path().join("stamped");
    options().stage(Timestamp::nanos()).create(&path).unwrap().append(b"payload").unwrap();
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [b"payload"]);
}

#[test]
fn timestamps_and_sequences_lie_where_they_lay() {
    let dir = dir();
    let unit = old::TickUnit::Millis;
    let chain = old::ChainedHandler::link(
        old::ChainedHandler::link(old_api::EncoderHandler::default(), old::SequenceHandler::new(41)),
        old::TimestampHandler::new(unit),
    );
    let before = TickUnit::Millis.now();
    let mut old = old::shm_writer(dir.path(), &old_metadata(1, unit), chain).unwrap();
    let path = dir.path().join("new");
    let stamps = options().stage(Timestamp::new(TickUnit::Millis)).stage(SequenceStamp);
    // The original's counter says which number was the last one, here it is which will be the first one.
    let mut writer = stamps.first_sequence(42).create(&path).unwrap();
    for payload in ["a", "b"] {
        old.write(&payload).unwrap();
        writer.append(payload.as_bytes()).unwrap();
    }
    let after = TickUnit::Millis.now();
    let mut reader = old::shm_reader(dir.path(), 1000).unwrap();
    let channel = Channel::open(&path).unwrap();
    for (record, expected) in channel.records().zip(42_u64..) {
        let record = record.unwrap();
        let stored = reader.try_read().unwrap().unwrap();
        for bytes in [stored, record.stored()] {
            let time = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert!((before..=after).contains(&time));
        }
        assert_eq!(record.stored()[8..], stored[8..]);
        assert_eq!((record.sequence(), record.sequence_stamp()), (expected, Some(expected)));
    }
}
