//! What a channel says of itself: the same wherever it is asked for, in every unit of time.

mod common;

use std::time::{Duration, SystemTime};

use common::dir;
use kekbit::{
    Channel, Checksum, Journal, Metadata, Roll, SharedWriter, Start, TickUnit, Timestamp, Writer,
    WriterOptions,
};

fn options() -> WriterOptions {
    Writer::options()
        .capacity(1 << 16)
        .max_record_len(1000)
        .writer_id(7)
        .channel_id(u64::MAX)
        .timeout(Duration::from_millis(1500))
        .tick(TickUnit::Millis)
        .checksum(Checksum::None)
        .content_type("text/plain")
        .schema("lines")
        .meta("venue", "XETR")
}

#[track_caller]
fn assert_is_as_chosen(metadata: Metadata<'_>) {
    assert_eq!(metadata.format_version().0, 2);
    assert!(metadata.is_draft());
    assert_eq!((metadata.writer_id(), metadata.channel_id()), (7, u64::MAX));
    assert_eq!((metadata.capacity(), metadata.max_record_len()), (1 << 16, 1000));
    assert_eq!(metadata.timeout(), Some(Duration::from_millis(1500)));
    assert_eq!(metadata.tick_unit(), TickUnit::Millis);
    assert_eq!(metadata.checksum(), Checksum::None);
    assert_eq!((metadata.content_type(), metadata.schema()), (Some("text/plain"), Some("lines")));
    assert_eq!((metadata.meta_value("venue"), metadata.meta_value("other")), (Some("XETR"), None));
    assert_eq!(metadata.stages().iter().map(|stage| &stage.name[..]).collect::<Vec<_>>(), ["timestamp"]);
}

#[test]
fn every_face_of_a_channel_tells_the_same() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    let before = SystemTime::now();
    let writer = options().first_sequence(5).stage(Timestamp::nanos()).create(&path).unwrap();
    let after = SystemTime::now();
    let channel = Channel::open(&path).unwrap();
    let reader = channel.reader(Start::Beginning).unwrap();
    let copying = Channel::options().copying(&path).unwrap();
    for metadata in [writer.metadata(), channel.metadata(), reader.metadata(), copying.metadata()] {
        assert_is_as_chosen(metadata);
        assert_eq!(metadata.first_sequence(), 5);
        assert!((before..=after).contains(&metadata.created()));
        assert_eq!(metadata, writer.metadata());
    }
    let shared = SharedWriter::new(writer);
    assert_eq!(shared.clone().metadata(), channel.metadata());
    shared.close().unwrap();
    assert_eq!(shared.metadata(), channel.metadata());
}

#[test]
fn another_channel_with_the_same_options_is_another() {
    let dir = dir();
    let [one, other] = ["1", "2"].map(|name| options().create(dir.path().join(name)).unwrap());
    assert_ne!(one.metadata(), other.metadata());
}

#[test]
fn a_channel_tells_the_same_as_its_metadata() {
    let dir = dir();
    let path = dir.path().join("a.kek");
    drop(options().first_sequence(5).stage(Timestamp::nanos()).create(&path).unwrap());
    let channel = Channel::open(&path).unwrap();
    let metadata = channel.metadata();
    assert_eq!(channel.format_version(), metadata.format_version());
    assert_eq!(channel.is_draft(), metadata.is_draft());
    assert_eq!((channel.writer_id(), channel.channel_id()), (metadata.writer_id(), metadata.channel_id()));
    assert_eq!((channel.capacity(), channel.max_record_len()), (1 << 16, 1000));
    assert_eq!((channel.timeout(), channel.tick_unit()), (metadata.timeout(), metadata.tick_unit()));
    assert_eq!((channel.created_nanos(), channel.first_sequence()), (metadata.created_nanos(), 5));
    assert_eq!((channel.checksum(), channel.content_type()), (Checksum::None, Some("text/plain")));
    assert_eq!((channel.schema(), channel.meta()), (Some("lines"), metadata.meta()));
    assert_eq!(channel.stages(), metadata.stages());
}

#[test]
fn a_journal_tells_of_the_channel_in_which_it_is() {
    let dir = dir();
    let channels = options().stage(Timestamp::nanos());
    let mut journal =
        Journal::options().channels(channels).roll(Roll::Bytes(1 << 16)).open(dir.path()).unwrap();
    assert_is_as_chosen(journal.metadata());
    assert_eq!(journal.metadata().first_sequence(), 0);
    journal.append(b"first").unwrap();
    journal.roll().unwrap();
    assert_is_as_chosen(journal.metadata());
    assert_eq!(journal.metadata().first_sequence(), 1);
    journal.append(b"second").unwrap();

    let mut reader = Journal::reader(dir.path()).unwrap();
    assert_eq!(reader.metadata(), None);
    for first_sequence in [0, 1] {
        reader.try_next().unwrap().unwrap();
        let metadata = reader.metadata().unwrap();
        assert_is_as_chosen(metadata);
        assert_eq!(metadata.first_sequence(), first_sequence);
    }
    assert_eq!(reader.metadata(), Some(journal.metadata()));
    let shared = journal.share();
    assert_eq!(Some(shared.metadata()), reader.metadata());
}

#[test]
fn a_timeout_is_never_shorter_than_it_was_asked_for() {
    let dir = dir();
    let asked = Duration::new(1, 500_000_001);
    for (unit, recorded) in [
        (TickUnit::Nanos, asked),
        (TickUnit::Micros, Duration::from_micros(1_500_001)),
        (TickUnit::Millis, Duration::from_millis(1_501)),
        (TickUnit::Secs, Duration::from_secs(2)),
    ] {
        let path = dir.path().join(unit.to_string());
        let writer = Writer::options().timeout(asked).tick(unit).create(&path).unwrap();
        for metadata in [writer.metadata(), Channel::open(&path).unwrap().metadata()] {
            assert_eq!((metadata.timeout(), metadata.tick_unit()), (Some(recorded), unit));
        }
    }
}

#[test]
fn no_timeout_is_none_and_one_of_nothing_is_the_shortest() {
    let dir = dir();
    for unit in TickUnit::ALL {
        let path = |name: &str| dir.path().join(format!("{unit} {name}"));
        let none = Writer::options().tick(unit).create(path("none")).unwrap();
        assert_eq!((none.metadata().timeout(), none.metadata().tick_unit()), (None, unit));
        let zero = Writer::options().tick(unit).timeout(Duration::ZERO).create(path("zero")).unwrap();
        assert_eq!(zero.metadata().timeout(), Some(unit.duration(1)));
        let longest = Writer::options().tick(unit).timeout(Duration::MAX).create(path("longest")).unwrap();
        assert_eq!(longest.metadata().timeout(), Some(unit.duration(u64::MAX)));
    }
}

#[test]
fn timestamps_are_whole_ticks_of_their_unit() {
    let dir = dir();
    for unit in TickUnit::ALL {
        let path = dir.path().join(unit.to_string());
        let mut writer =
            Writer::options().capacity(1 << 16).stage(Timestamp::new(unit)).create(&path).unwrap();
        let before = unit.now();
        let records = 3;
        for number in 0..records {
            writer.append(&[number]).unwrap();
        }
        let after = unit.now();
        let channel = Channel::open(&path).unwrap();
        for record in channel.records() {
            let record = record.unwrap();
            let ticks = u64::from_le_bytes(record.stored()[..8].try_into().unwrap());
            assert!((before..=after).contains(&ticks), "{unit}");
            assert_eq!(record.timestamp_nanos(), Some(ticks * unit.nanos()));
            assert_eq!(record.timestamp(), Some(SystemTime::UNIX_EPOCH + unit.duration(ticks)));
        }
        // A tick's beginning is before all of its records.
        let from = |time| channel.records_from(Start::Time(time)).unwrap().count();
        let tick = SystemTime::UNIX_EPOCH + unit.duration(before);
        assert_eq!(from(tick), usize::from(records), "{unit}");
        assert_eq!(from(SystemTime::UNIX_EPOCH + unit.duration(after + 1)), 0, "{unit}");
    }
}
