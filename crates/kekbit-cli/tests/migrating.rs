//! Whatever kekbit 0.3 could do, done here: a test for each row of docs/MIGRATING.md that names a counterpart. Where it tells
//! something, the original does the same beside it. Handlers are in `migrating_handlers`.

#[path = "migrating/common.rs"]
mod common;
#[path = "migrating/document.rs"]
mod document;

use std::fs;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use common::{LONGEST, dir, old_metadata, old_writer, options, patience, payloads};
use kekbit::{
    AppendContext, AppendError, Channel, CreateError, Encode, EncodeError, End, FormatError, Handler,
    OpenError, ReadError, Reader, SharedError, SharedWriter, StageError, StageInfo, Start, TickUnit, Wait,
    WriterOptions,
};
use kekbit_0_3::api as old_api;
use kekbit_0_3::core as old;
use old_api::{Reader as _, Writer as _};

#[test]
fn a_value_encodes_itself_as_it_did() {
    struct Sum(u32, u32);

    impl old_api::Encodable for Sum {
        fn encode(&self, write: &mut impl io::Write) -> io::Result<usize> {
            Ok(write.write(&self.0.to_le_bytes())? + write.write(&self.1.to_le_bytes())?)
        }
    }

    // The same: what has a `Write` to write to has one here, too.
    impl Encode for Sum {
        fn max_len(&self) -> usize {
            8
        }

        fn encode(&self, mut space: &mut [u8]) -> Result<usize, EncodeError> {
            Ok(old_api::Encodable::encode(self, &mut space)?)
        }
    }

    let dir = dir();
    let mut old = old_writer(dir.path());
    old.write(&Sum(1, 2)).unwrap();
    old.write(&"text").unwrap();
    old.write(&[1_u8, 2, 3]).unwrap();
    let mut reader = old::shm_reader(dir.path(), 1000).unwrap();

    let mut writer = options().create(dir.path().join("new")).unwrap();
    writer.append_encoded(&Sum(1, 2)).unwrap();
    writer.append_encoded("text").unwrap();
    writer.append_encoded(&[1_u8, 2, 3]).unwrap();
    let channel = Channel::open(dir.path().join("new")).unwrap();
    for payload in payloads(&channel) {
        assert_eq!(reader.try_read().unwrap().unwrap(), payload);
    }
    assert!(reader.try_read().unwrap().is_none());
}

#[test]
fn what_is_no_channel_is_refused_by_name() {
    let dir = dir();
    fs::write(dir.path().join("other"), [7; 4096]).unwrap();
    let refused = Channel::open(dir.path().join("other")).unwrap_err();
    assert!(matches!(refused, OpenError::Format { source: FormatError::NotAChannel, .. }), "{refused}");
    drop(old_writer(dir.path()));
    let refused = Channel::open_in(dir.path(), 1000).unwrap_err();
    assert!(matches!(refused, OpenError::Format { .. }) && refused.to_string().contains("0.3"), "{refused}");

    // And the other way round.
    fs::remove_file(Channel::path_in(dir.path(), 1000)).unwrap();
    drop(options().create_in(dir.path()).unwrap());
    let refused = old::shm_reader(dir.path(), 1000).unwrap_err();
    assert!(matches!(refused, old_api::ChannelError::IncompatibleVersion { .. }), "{refused:?}");
}

#[test]
fn a_header_that_says_something_impossible_is_refused() {
    let dir = dir();
    let path = dir.path().join("new");
    drop(options().create(&path).unwrap());
    let whole = fs::read(&path).unwrap();
    // Whatever byte it is.
    for at in (16..4096).step_by(61) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let refused = Channel::open(&path).unwrap_err();
        assert!(
            matches!(refused, OpenError::Format { source: FormatError::Header(_), .. }),
            "{at}: {refused}"
        );
    }
}

#[test]
fn what_cannot_be_chosen_is_an_error_and_not_something_else() {
    let dir = dir();
    let path = dir.path().join("new");
    let wrong = |options: WriterOptions| {
        let refused = options.create(&path).unwrap_err();
        assert!(matches!(refused, CreateError::Options(_)), "{refused}");
        refused.to_string()
    };
    // The original takes 16 KiB instead, and 120 bytes.
    assert!(wrong(options().capacity(100)).contains("capacity of 100 bytes"));
    assert_eq!(old::Metadata::new(1, 1, 100, 10, 1, old::TickUnit::Secs).capacity(), 16 << 10);
    assert!(
        wrong(options().capacity(16 << 10).max_record_len(1 << 20)).contains("max_record_len of 1048576")
    );
    assert_eq!(old::Metadata::new(1, 1, 16 << 10, 1 << 20, 1, old::TickUnit::Secs).max_msg_len(), 120);
}

#[test]
fn a_channel_is_created_once_and_found_by_its_id() {
    let dir = dir();
    let missing = Channel::open_in(dir.path(), 1000).unwrap_err();
    assert!(matches!(missing, OpenError::NotFound { .. }), "{missing}");
    let path = old::storage_path(dir.path(), 1000);
    assert_eq!(Channel::path_in(dir.path(), 1000), *path);
    let mut writer = options().create_in(dir.path()).unwrap();
    assert!(path.is_file());
    writer.append(b"payload").unwrap();
    let again = options().create_in(dir.path()).unwrap_err();
    assert!(matches!(again, CreateError::AlreadyExists { .. }), "{again}");
    assert_eq!(payloads(&Channel::open_in(dir.path(), 1000).unwrap()), [b"payload"]);
}

#[test]
fn a_reader_waits_for_a_channel_to_appear() {
    let dir = dir();
    let wait = Wait::spin().retries(3);
    assert!(Channel::options().wait_for_in(dir.path(), 1000, wait).unwrap().is_none());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| Channel::options().wait_for_in(dir.path(), 1000, patience()).unwrap());
        let mut writer = options().create_in(dir.path()).unwrap();
        writer.append(b"payload").unwrap();
        assert!(reader.join().unwrap().is_some());
    });
}

#[test]
fn what_the_system_refuses_is_told_with_the_path() {
    let dir = dir();
    fs::write(dir.path().join("file"), "").unwrap();
    let refused = Channel::open(dir.path().join("file/channel")).unwrap_err();
    assert!(matches!(&refused, OpenError::Io { path, .. } if path.ends_with("file/channel")), "{refused}");
    let refused = options().create(dir.path().join("file/channel")).unwrap_err();
    assert!(matches!(&refused, CreateError::Io { path, .. } if path.ends_with("file/channel")), "{refused}");
    let refused = options().capacity(1 << 46).create(dir.path().join("huge")).unwrap_err();
    assert!(matches!(&refused, CreateError::Options(_)), "{refused}");
}

#[test]
fn a_full_channel_has_ended_and_lost_nothing() {
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().capacity(4096).max_record_len(100).create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    let mut appended = 0_u32;
    let full = loop {
        match writer.append(&appended.to_le_bytes()) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, AppendError::Full { capacity: 4096 }), "{full}");
    assert!(matches!(writer.append(b""), Err(AppendError::Full { .. })));
    for number in 0..appended {
        assert_eq!(reader.try_next().unwrap().unwrap()[..], number.to_le_bytes());
    }
    assert!(reader.try_next().unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Full));
}

#[test]
fn a_record_that_is_too_long_is_refused_and_the_next_one_is_not() {
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    let long = vec![7; LONGEST as usize + 1];
    let refused = old_writer(dir.path()).write(&vec![7; 2 * LONGEST as usize]).unwrap_err();
    assert!(matches!(refused, old_api::WriteError::EncodingError(_)), "{refused:?}");
    let refused = writer.append(&long).unwrap_err();
    assert!(matches!(refused, AppendError::TooLong { len: 1001, limit: LONGEST }), "{refused}");
    writer.append(&long[1..]).unwrap();
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [&long[1..]]);
}

#[test]
fn what_cannot_be_encoded_leaves_nothing_behind() {
    struct Fails;

    impl Encode for Fails {
        fn max_len(&self) -> usize {
            8
        }

        fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
            space.fill(7);
            Err("no".into())
        }
    }

    /// Refuses what is empty.
    struct NotEmpty;

    impl Handler for NotEmpty {
        fn describe(&self) -> StageInfo {
            StageInfo { id: 1 << 16, version: 1, name: "not empty".into(), ..StageInfo::default() }
        }

        fn before(&mut self, _: &mut AppendContext<'_>, body: &[u8], _: &mut [u8]) -> Result<(), StageError> {
            if body.is_empty() { Err("empty".into()) } else { Ok(()) }
        }
    }

    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().stage(NotEmpty).create(&path).unwrap();
    assert!(matches!(writer.append_encoded(&Fails), Err(AppendError::Encode(_))));
    assert!(matches!(writer.append(b""), Err(AppendError::Stage(_))));
    writer.append(b"good").unwrap();
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [b"good"]);
}

#[test]
fn threads_share_a_writer_and_are_told_when_it_is_busy() {
    let dir = dir();
    let path = dir.path().join("new");
    let writer = SharedWriter::new(options().create(&path).unwrap());
    std::thread::scope(|scope| {
        let (has_it, held) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let other = writer.clone();
        scope.spawn(move || {
            other.with(patience(), |writer| {
                has_it.send(()).unwrap();
                released.recv().unwrap();
                writer.append(b"first").unwrap();
            })
        });
        held.recv().unwrap();
        let busy = writer.append_wait(b"no", Wait::spin().retries(3)).unwrap_err();
        assert!(matches!(busy, SharedError::Busy), "{busy}");
        release.send(()).unwrap();
        writer.append_wait(b"second", patience()).unwrap();
    });
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [&b"first"[..], b"second"]);
}

#[test]
fn a_sync_makes_durable_what_a_flush_did() {
    let dir = dir();
    let mut old = old_writer(dir.path());
    old.write(&"payload").unwrap();
    old.flush().unwrap();
    let mut writer = options().create(dir.path().join("new")).unwrap();
    let appended = writer.append(b"payload").unwrap();
    assert_eq!(writer.synced_tail(), appended.position);
    writer.sync().unwrap();
    assert_eq!(writer.synced_tail(), writer.tail());
}

#[test]
fn damage_is_an_error_with_its_position() {
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    let payload = [b'x'; 64];
    writer.append(&payload).unwrap();
    writer.append(&payload).unwrap();
    writer.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.windows(64).rposition(|window| window == payload).unwrap();
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], payload);
    let damage = reader.try_next().unwrap_err();
    assert!(matches!(damage, ReadError::Corrupt { position, .. } if position.offset() == 72), "{damage}");
}

#[test]
fn a_silent_writer_times_out_and_may_go_on() {
    let dir = dir();
    let path = dir.path().join("new");
    let options = options().timeout(Duration::from_millis(5)).tick(TickUnit::Millis);
    let mut writer = options.create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::TimedOut));
    // The original's reader is exhausted for good.
    writer.append(b"late").unwrap();
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], b"late");
    assert_eq!(reader.end(), None);
    // A timeout of the reader's own, as `TimeoutReader::new`, and none at all.
    reader.set_timeout(Some(Duration::from_millis(1)));
    assert!(reader.next(patience()).unwrap().is_none());
    assert_eq!(reader.end(), Some(End::TimedOut));
    reader.set_timeout(None);
    assert_eq!(reader.check_end().unwrap(), None);
}

#[test]
fn reading_tells_records_nothing_and_the_end_apart() {
    let dir = dir();
    let mut old = old_writer(dir.path());
    let mut old_reader = old::shm_reader(dir.path(), 1000).unwrap();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();

    assert!(matches!(old_reader.try_iter().next(), Some(old::ReadResult::Nothing)));
    assert!(reader.try_next().unwrap().is_none() && reader.end().is_none());
    old.write(&"payload").unwrap();
    writer.append(b"payload").unwrap();
    assert!(matches!(old_reader.try_iter().next(), Some(old::ReadResult::Record(b"payload"))));
    assert_eq!(reader.try_next().unwrap().as_deref(), Some(&b"payload"[..]));
    drop(old);
    drop(writer);
    assert!(matches!(
        old_reader.try_iter().next(),
        Some(old::ReadResult::Failed(old_api::ReadError::Closed))
    ));
    assert!(reader.try_next().unwrap().is_none());
    assert_eq!(reader.end(), Some(End::Closed));
    assert_eq!(old_reader.exhausted(), Some(old_api::ReadError::Closed));
}

#[test]
fn an_iterator_gives_what_is_there_and_goes_on_when_there_is_more() {
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    let channel = Channel::open(&path).unwrap();
    let mut records = channel.records();
    assert!(records.next().is_none());
    assert_eq!(records.end(), None);
    writer.append(b"payload").unwrap();
    assert_eq!(&records.next().unwrap().unwrap()[..], b"payload");
    writer.close().unwrap();
    assert!(records.next().is_none());
    // What the size hint said.
    assert_eq!(records.end(), Some(End::Closed));
}

#[test]
fn a_reader_tries_several_times_before_it_gives_up() {
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    assert!(reader.next(Wait::backoff().retries(10)).unwrap().is_none());
    assert_eq!(reader.end(), None);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || reader.next(patience()).unwrap().map(|record| record.to_vec()));
        writer.append(b"payload").unwrap();
        assert_eq!(reading.join().unwrap().as_deref(), Some(&b"payload"[..]));
    });
}

#[test]
fn writer_and_reader_tell_how_far_they_are() {
    let dir = dir();
    let mut old = old_writer(dir.path());
    let mut old_reader = old::shm_reader(dir.path(), 1000).unwrap();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    for len in [1, 7, 8, 9, 100] {
        // A record takes as much as it did.
        let taken = old.write(&vec![0; len]).unwrap();
        let at = writer.append(&vec![0; len]).unwrap();
        assert_eq!(writer.tail().offset() - at.position.offset(), u64::from(taken));
        old_reader.try_read().unwrap().unwrap();
        reader.try_next().unwrap().unwrap();
        assert_eq!(writer.tail().offset(), u64::from(old.write_offset()));
        assert_eq!(
            (reader.position(), reader.position().offset()),
            (writer.tail(), u64::from(old_reader.position()))
        );
    }
    let available = writer.metadata().capacity() - writer.tail().offset();
    assert_eq!(available, u64::from(old.available()));
    assert!(writer.fits(LONGEST as usize) && !writer.fits(LONGEST as usize + 1));
}

#[test]
fn metadata_is_what_was_chosen_on_both_sides() {
    let dir = dir();
    let before = SystemTime::now();
    let metadata = old_metadata(2, old::TickUnit::Secs);
    let old = old::shm_writer(dir.path(), &metadata, old_api::EncoderHandler::default()).unwrap();
    let path = dir.path().join("new");
    let options = options().timeout(Duration::from_secs(2)).tick(TickUnit::Secs);
    let writer = options.create(&path).unwrap();
    let after = SystemTime::now();
    let (theirs, ours) = (old.metadata(), writer.metadata());
    assert_eq!(ours, Channel::open(&path).unwrap().metadata());
    assert_eq!((ours.writer_id(), ours.channel_id()), (theirs.writer_id(), theirs.channel_id()));
    assert_eq!(ours.capacity(), u64::from(theirs.capacity()));
    // The original adds the eight bytes of the record's header, and rounds up.
    assert_eq!(ours.max_record_len() + 8, u64::from(theirs.max_msg_len()));
    assert_eq!(ours.timeout(), Some(ours.tick_unit().duration(theirs.timeout())));
    assert!((before..=after).contains(&ours.created()));
    assert_eq!((ours.format_version(), &*theirs.version()), ((2, 0), "1.0.0"));
}

#[test]
fn tick_units_convert_as_they_did() {
    let units = [
        (TickUnit::Nanos, old::TickUnit::Nanos),
        (TickUnit::Micros, old::TickUnit::Micros),
        (TickUnit::Millis, old::TickUnit::Millis),
        (TickUnit::Secs, old::TickUnit::Secs),
    ];
    for (ours, theirs) in units {
        for span in [Duration::ZERO, Duration::from_nanos(999), Duration::new(1, 999_999_999)] {
            assert_eq!(ours.ticks(span), theirs.convert(span));
        }
        let before = theirs.nix_time();
        let now = ours.now();
        assert!((before..=theirs.nix_time()).contains(&now));
        assert_eq!(TickUnit::from_number(ours.number()), Some(ours));
        // The file's numbers are not the original's: those are the powers of ten.
        assert_eq!(old::TickUnit::from_id(theirs.id()), theirs);
        assert_eq!(ours.nanos(), 10_u64.pow(9 - u32::from(theirs.id())));
    }
    // Where the original panics.
    assert_eq!(TickUnit::from_number(9), None);
}

#[test]
fn a_dropped_writer_closes_its_channel_and_a_panicking_one_leaves_it() {
    let dir = dir();
    let path = dir.path().join("new");
    drop(options().create(&path).unwrap());
    let ended = |path| Channel::open(path).unwrap().end_point().unwrap().state;
    assert_eq!(ended(&path), kekbit::State::Closed);
    let other = dir.path().join("other");
    let writer = options().create(&other).unwrap();
    let panicked = std::thread::spawn(move || {
        let _writer = writer;
        panic!("as if something had gone wrong");
    });
    assert!(panicked.join().is_err());
    // What another test is just starting may have the lock for a moment.
    let begun = Instant::now();
    while Channel::open(&other).unwrap().writer_lives().unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    assert_eq!(ended(&other), kekbit::State::Abandoned);
}

#[test]
fn writers_and_readers_move_to_other_threads() {
    fn moves<T: Send + 'static>(value: T) -> T {
        std::thread::spawn(move || value).join().unwrap()
    }
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = moves(options().create(&path).unwrap());
    let mut reader: Reader = moves(Channel::open(&path).unwrap().reader(Start::Beginning).unwrap());
    writer.append(b"payload").unwrap();
    assert_eq!(&reader.try_next().unwrap().unwrap()[..], b"payload");
}

#[test]
fn a_record_can_be_kept_after_its_reader_has_gone() {
    let dir = dir();
    let path = dir.path().join("new");
    options().create(&path).unwrap().append(b"payload").unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    let kept = Arc::new(reader.try_next().unwrap().unwrap().to_shared());
    drop(reader);
    assert_eq!(&kept[..], b"payload");
}

#[test]
fn empty_records_are_records() {
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    writer.append(b"").unwrap();
    writer.append(b"after").unwrap();
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [&b""[..], b"after"]);
}

#[test]
fn what_writes_into_a_write_is_appended_in_place() {
    let dir = dir();
    let path = dir.path().join("new");
    let mut writer = options().create(&path).unwrap();
    let mut claim = writer.claim(LONGEST as usize).unwrap();
    let mut space = &mut claim[..];
    write!(space, "{} and {}", 1, 2).unwrap();
    let len = LONGEST as usize - space.len();
    claim.commit(len).unwrap();
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [b"1 and 2"]);
}
