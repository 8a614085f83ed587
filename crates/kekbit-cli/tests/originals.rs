//! The original's files: what kekbit 0.3.5 has written is read here record by record as its own reader reads it, up to where that one
//! returns what is not in the file; and it refuses ours.

#[path = "../../kekbit/tests/common/campaign.rs"]
#[allow(dead_code, reason = "it counts one campaign")]
mod campaign;
mod common;
#[path = "originals/original.rs"]
mod original;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campaign::Campaign;
use common::LIMIT;
use kekbit::legacy::{self, State};
use kekbit::{Channel, End, FormatError, OpenError, ReadError, TickUnit, Wait, Writer};
use kekbit_0_3::api::ChannelError;
use kekbit_0_3::core::{shm_reader, storage_path};
use nix::sys::signal::Signal;
use original::{
    CHAINS, CHANNEL_ID, Numbers, Plan, Read, TIMEOUT, WRITER_ID, path_in, role, start_writer, write,
};

/// A directory, in memory where there is such a file system: there nothing is written back while a test looks.
fn dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("kekbit-test-").tempdir_in(parent).unwrap()
}

/// What our reader returns, up to an end or an error.
fn ours(path: &Path) -> (Vec<Read>, Result<Option<End>, ReadError>) {
    let mut reader = legacy::Channel::open(path).unwrap().reader();
    let mut records = Vec::new();
    loop {
        match reader.try_next() {
            Ok(Some(record)) => {
                assert_eq!(record.sequence(), records.len() as u64);
                records.push(Read { at: record.position().offset(), stored: record.stored().to_vec() });
            }
            Ok(None) => return (records, Ok(reader.end())),
            Err(error) => return (records, Err(error)),
        }
    }
}

/// Bytes of data that the file of a channel has.
fn bound(plan: &Plan) -> u64 {
    plan.rounded() + 128 + 32 - 1024
}

/// How many of the records of `plan` that were written can be read, and whether what ends that are zeros up to the end of the file.
fn readable(plan: &Plan, written: &[(u64, u64, u64)], next: u64) -> (usize, bool) {
    let whole = written.iter().take_while(|(at, _, len)| at + 8 + len <= bound(plan)).count();
    let after = written.get(whole).map_or(next, |(at, _, _)| *at);
    if after < bound(plan) {
        return (whole, false);
    }
    // The last word of the file says nothing of what is behind it.
    let empty = written[..whole].iter().rev().take_while(|(_, _, len)| *len == 0).count();
    (whole - empty, empty > 0)
}

/// Writes what `plan` says and reads it with both readers. How many more records the original returns than are in the file: as many
/// as were written there and are still in memory, and as many of zeros.
fn compare(this: &str, plan: &Plan) -> (u64, u64) {
    let dir = dir();
    let (path, died) = write(this, dir.path(), plan);
    assert_eq!(path.metadata().unwrap().len(), plan.rounded() + 160);
    let (written, next) = plan.written(died);
    let (kept, zeros) = readable(plan, &written, next);
    let (ours, end) = ours(&path);
    let (theirs, last) = original::read(this, dir.path());
    assert_eq!(ours.len(), kept, "{plan:?}");
    assert!(theirs.len() >= kept, "{plan:?}: {} of {kept}, then {last}", theirs.len());
    assert_eq!(ours, theirs[..kept], "{plan:?}");
    for (read, (at, n, len)) in ours.iter().zip(&written) {
        assert_eq!((read.at, read.stored.len() as u64), (*at, *len), "{plan:?}");
        assert_eq!(read.stored[8 * plan.handlers.len()..], plan.payload(*n), "{plan:?}");
    }
    if kept == written.len() && next + 8 <= bound(plan) {
        // Nothing was lost: the closing mark is there, or the one that there is nothing yet.
        let (mark, expected) = if died { ("nothing", None) } else { ("Closed", Some(End::Closed)) };
        assert_eq!((theirs.len(), last.as_str()), (kept, mark), "{plan:?}");
        assert!(matches!(end, Ok(end) if end == expected), "{plan:?}: {end:?}");
        return (0, 0);
    }
    let after = written.get(kept).map_or(next, |(at, _, _)| *at);
    match end {
        Err(ReadError::Corrupt { position, .. }) if zeros => assert_eq!(position.offset(), after),
        Err(ReadError::CutOff { position, loss }) if !zeros => {
            assert_eq!(position.offset(), after, "{plan:?}");
            assert_eq!((loss.beyond(), loss.capacity()), (864, plan.rounded()));
            let cut = written.get(kept).filter(|(at, _, _)| at + 8 <= bound(plan));
            let expected = cut.map(|(at, _, len)| (*len, at + 8 + len - bound(plan)));
            assert_eq!(loss.record_len().map(|len| (len, loss.missing())), expected, "{plan:?}");
        }
        other => panic!("{plan:?}: {other:?}"),
    }
    // All that the original returns beyond ours: at or behind the place where ours has stopped, what was written there, or zeros.
    let (mut remembered, mut garbage) = (0, 0);
    for (n, read) in theirs.iter().enumerate().skip(kept) {
        assert!(read.at >= after, "{plan:?}");
        let is_written = written.get(n).is_some_and(|(at, number, len)| {
            let begins = 8 * plan.handlers.len();
            (read.at, read.stored.len() as u64) == (*at, *len)
                && read.stored[begins..] == plan.payload(*number)
        });
        if is_written { remembered += 1 } else { garbage += 1 }
    }
    (remembered, garbage)
}

#[test]
fn what_the_original_has_closed_is_read_as_it_reads_it() {
    let this = "what_the_original_has_closed_is_read_as_it_reads_it";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    for handlers in CHAINS {
        for count in [0, 1, 2, 150] {
            let plan = Plan { handlers, ..Plan::new(20000, count) };
            assert_eq!(compare(this, &plan), (0, 0), "{plan:?}");
        }
    }
}

#[test]
fn of_a_full_channel_what_is_in_the_file_is_read() {
    let this = "of_a_full_channel_what_is_in_the_file_is_read";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    let campaign = Campaign::new("of_a_full_channel_what_is_in_the_file_is_read");
    let around: &[i64] = match campaign.count(0, 1) {
        0 => &[-8, -1, 0, 1, 8],
        _ => &[-24, -17, -16, -15, -9, -8, -7, -1, 0, 1, 7, 8, 9, 15, 16, 17, 24],
    };
    let (mut channels, mut remembered, mut garbage) = (0, 0, 0);
    for pages in 4..=campaign.count(6, 20) {
        // At 3936 the mapping ends with the file, and both the original's writer and its reader die beyond it.
        for inside in [0, 1032, 2048, 3936] {
            for (n, delta) in around.iter().enumerate() {
                let capacity = (4096 * pages + inside).checked_add_signed(*delta).unwrap() as u32;
                let plan = Plan {
                    handlers: CHAINS[(n + pages as usize) % CHAINS.len()],
                    ..Plan::new(capacity, u64::MAX)
                };
                let (more, zeros) = compare(this, &plan);
                channels += 1;
                remembered += more;
                garbage += zeros;
            }
        }
    }
    println!(
        "beyond the files the original returned {remembered} records from memory and {garbage} of zeros"
    );
    campaign.done(channels, "full channels");
}

#[test]
fn the_records_that_a_full_channel_has_lost_are_these() {
    let this = "the_records_that_a_full_channel_has_lost_are_these";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    let plan = Plan::new(16384, u64::MAX);
    let (written, next) = plan.written(false);
    // 16384 of capacity, of which the file has the first 15520.
    assert_eq!((written.len(), next, bound(&plan)), (220, 16360, 15520));
    let dir = dir();
    let (path, died) = write(this, dir.path(), &plan);
    assert!(!died, "the mapping ends behind the capacity");
    let channel = legacy::Channel::open(&path).unwrap();
    let end = channel.end_point().unwrap();
    let loss = end.loss.unwrap();
    // The record at 15512 has its length in the file, and nothing else.
    assert_eq!((end.state, end.sequence, end.position.offset()), (State::CutOff, 212, 15512));
    assert_eq!((loss.record_len(), loss.missing(), loss.beyond()), (Some(112), 112, 864));
    let error = ours(&path).1.unwrap_err();
    let says = "cut off at position 15512: the first record that is lost has 112 bytes, of which 112 lie past the end of the \
                file, as does all that was written behind it: 864 of the channel's 16384 bytes lie there";
    assert_eq!(error.to_string(), says);
    // A copy of the file is what its reader finds when the memory has been given back. It goes on with zeros.
    let root = dir.path().join("copy");
    std::fs::create_dir_all(path_in(&root).parent().unwrap()).unwrap();
    std::fs::copy(&path, path_in(&root)).unwrap();
    let (theirs, last) = original::read(this, &root);
    let (kept, garbage) = theirs.split_at(212);
    assert_eq!(ours(&path_in(&root)).0, kept);
    // The record that is cut off with 112 zeros in its place, and then one without bytes for each word, past the capacity too.
    assert_eq!((garbage.len(), last.as_str()), (1 + 94, "past the capacity"));
    assert_eq!(garbage[0], Read { at: 15512, stored: vec![0; 112] });
    for (n, read) in garbage[1..].iter().enumerate() {
        assert_eq!(*read, Read { at: 15632 + 8 * n as u64, stored: Vec::new() });
    }
}

#[test]
fn handlers_are_taken_off_if_they_are_named() {
    let this = "handlers_are_taken_off_if_they_are_named";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    let micros = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 * 1000;
    for handlers in CHAINS {
        let plan = Plan { handlers, ..Plan::new(30000, 120) };
        let dir = dir();
        let before = micros();
        let (path, _) = write(this, dir.path(), &plan);
        let after = micros();
        let options = handlers.chars().fold(legacy::Channel::options(), |options, handler| match handler {
            't' => options.timestamp(TickUnit::Micros),
            _ => options.sequence(),
        });
        let channel = options.open(&path).unwrap();
        assert_eq!(channel.seeks_time_exactly(), handlers.contains('t'));
        let mut reader = channel.reader();
        for (_, n, len) in plan.written(false).0 {
            let record = reader.try_next().unwrap().unwrap();
            assert_eq!(record.payload(), plan.payload(n));
            assert_eq!(record.stored().len() as u64, len);
            // The original counts what it refuses, too.
            assert_eq!(record.sequence_stamp(), handlers.contains('s').then_some(n + 1));
            let time = record.timestamp_nanos();
            assert_eq!(time.is_some(), handlers.contains('t'));
            assert!(time.is_none_or(|time| (before..=after).contains(&time)), "{before} {time:?} {after}");
        }
        assert_eq!((reader.try_next().unwrap().is_none(), reader.end()), (true, Some(End::Closed)));
    }
}

#[test]
fn the_header_is_told() {
    let this = "the_header_is_told";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    let dir = dir();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (path, _) = write(this, dir.path(), &Plan::new(100_001, 1));
    let channel = legacy::Channel::open(&path).unwrap();
    let theirs = shm_reader(dir.path(), CHANNEL_ID).unwrap();
    let metadata = theirs.metadata();
    assert_eq!((channel.writer_id(), channel.channel_id()), (WRITER_ID, CHANNEL_ID));
    assert_eq!(channel.capacity(), u64::from(metadata.capacity()));
    assert_eq!(channel.max_record_len(), u64::from(metadata.max_msg_len()));
    assert_eq!(channel.timeout(), Some(Duration::from_nanos(TIMEOUT)));
    assert_eq!(channel.created_nanos(), metadata.creation_time());
    assert!(channel.created_nanos() >= before);
    let since = channel.created().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(since.as_nanos(), u128::from(channel.created_nanos()));
    assert_eq!(channel.tick_unit(), TickUnit::Nanos);
    assert_eq!(channel.format_version(), (1, 0));
    assert_eq!(metadata.version(), "1.0.0");
    assert_eq!(channel.bytes_in_file().unwrap(), channel.capacity() - 864);
    assert_eq!(channel.path(), path);
    assert!(channel.stages().is_empty());
}

#[test]
fn a_channel_is_followed_while_it_is_written_and_a_killed_writer_cannot_be_told() {
    let this = "a_channel_is_followed_while_it_is_written_and_a_killed_writer_cannot_be_told";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    let plan = Plan { limit: 96, ..Plan::new(4 << 20, 40_000) };
    for close in [true, false] {
        let dir = dir();
        let mut writer = start_writer(this, dir.path(), &plan);
        let path = path_in(dir.path());
        let channel = loop {
            match legacy::Channel::open(&path) {
                Ok(channel) => break channel,
                Err(OpenError::NotFound { .. } | OpenError::BeingCreated { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        let mut reader = channel.reader();
        let (written, next) = plan.written(false);
        for (at, n, _) in &written {
            let record = reader.next(Wait::backoff().at_most(LIMIT)).unwrap().expect("a record");
            assert_eq!((record.position().offset(), record.payload()), (*at, &plan.payload(*n)[..]));
        }
        assert_eq!(original::hear(&writer).as_deref(), Some("written"));
        assert!(reader.try_next().unwrap().is_none());
        let end = channel.end_point().unwrap();
        assert_eq!((end.state, end.sequence), (State::Unfinished, written.len() as u64));
        assert_eq!((end.position.offset(), end.loss), (next, None));
        // Time tells, if nothing else does.
        reader.set_timeout(Some(Duration::from_millis(1)));
        assert!(reader.next(Wait::backoff()).unwrap().is_none());
        assert_eq!(reader.end(), Some(End::TimedOut));
        if close {
            writer.write("close\n");
            assert!(writer.status().success());
            assert!(reader.try_next().unwrap().is_none());
            assert_eq!(reader.end(), Some(End::Closed));
            assert_eq!(channel.end_point().unwrap().state, State::Closed);
        } else {
            writer.signal(Signal::SIGKILL);
            assert_eq!(writer.status().signal(), Some(Signal::SIGKILL as i32));
            let after = ours(&path);
            assert_eq!(after.0.len(), written.len());
            assert!(matches!(after.1, Ok(None)));
            assert_eq!(channel.end_point().unwrap().state, State::Unfinished);
            let (theirs, last) = original::read(this, dir.path());
            assert_eq!((after.0 == theirs, last.as_str()), (true, "nothing"));
        }
    }
}

#[test]
fn the_original_refuses_our_channels() {
    for (n, state) in ["open", "closed", "full"].into_iter().enumerate() {
        let dir = dir();
        let id = 42 + n as u64;
        let path = storage_path(dir.path(), id).into_path_buf();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = Writer::options().capacity(16384).channel_id(id).create(&path).unwrap();
        writer.append(b"ours").unwrap();
        let writer = match state {
            "open" => Some(writer),
            "closed" => writer.close().map(|()| None).unwrap(),
            _ => {
                while writer.append(&[7; 1000]).is_ok() {}
                None
            }
        };
        let before = std::fs::read(&path).unwrap();
        match shm_reader(dir.path(), id) {
            Err(ChannelError::IncompatibleVersion { expected, actual }) => {
                assert_eq!((expected, actual), (1 << 48, 2 << 48), "{state}");
            }
            other => panic!("{state}: {other:?}"),
        }
        assert!(std::fs::read(&path).unwrap() == before, "{state}: it is as it was");
        let channel = Channel::open(&path).unwrap();
        assert_eq!(channel.end_point().unwrap().state.to_string(), state);
        assert_eq!(&channel.records().next().unwrap().unwrap()[..], b"ours");
        // Nor does what reads its files.
        let error = legacy::Channel::open(&path).unwrap_err();
        assert!(matches!(
            error,
            OpenError::Format { source: FormatError::NotLegacy { major: 2, minor: 0 }, .. }
        ));
        assert!(error.to_string().contains("`kekbit::Channel` reads it"), "{error}");
        drop(writer);
    }
}

#[test]
fn a_channel_is_found_by_its_id_and_waited_for() {
    let this = "a_channel_is_found_by_its_id_and_waited_for";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    let dir = dir();
    let path = path_in(dir.path());
    let gives_up = || legacy::Channel::wait_for(&path, Wait::spin().retries(3)).unwrap().is_none();
    assert!(gives_up());
    assert!(matches!(legacy::Channel::open_in(dir.path(), CHANNEL_ID), Err(OpenError::NotFound { .. })));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Somebody is about to copy it.
    std::fs::write(&path, "").unwrap();
    assert!(gives_up());
    std::fs::remove_file(&path).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| legacy::Channel::wait_for(&path, Wait::backoff().at_most(LIMIT)));
        write(this, dir.path(), &Plan::new(16384, 3));
        assert_eq!(waiting.join().unwrap().unwrap().expect("it has appeared").channel_id(), CHANNEL_ID);
    });
    let found = legacy::Channel::open_in(dir.path(), CHANNEL_ID).unwrap();
    assert_eq!((found.channel_id(), found.path()), (CHANNEL_ID, &*path));
    // As it is between the two steps of its creation.
    let lock = path.with_extension("lock");
    std::fs::write(&lock, "").unwrap();
    assert!(gives_up());
    std::fs::remove_file(&lock).unwrap();
    // Under another's name.
    let other = Channel::path_in(dir.path(), CHANNEL_ID ^ 1);
    std::fs::copy(&path, &other).unwrap();
    let refused = legacy::Channel::open_in(dir.path(), CHANNEL_ID ^ 1).unwrap_err();
    assert!(
        matches!(&refused, OpenError::OtherChannel { path, expected, found: CHANNEL_ID }
            if *path == other && *expected == CHANNEL_ID ^ 1),
        "{refused}"
    );
    let (wait, options) = (|| Wait::spin().retries(3), legacy::Channel::options);
    assert!(options().wait_for_in(dir.path(), CHANNEL_ID, wait()).unwrap().is_some());
    assert!(options().wait_for_in(dir.path(), CHANNEL_ID ^ 2, wait()).unwrap().is_none());
    let refused = options().wait_for_in(dir.path(), CHANNEL_ID ^ 1, wait()).unwrap_err();
    assert!(matches!(refused, OpenError::OtherChannel { .. }), "{refused}");
    // What is none is not waited for.
    std::fs::write(&other, "no channel at all").unwrap();
    assert!(legacy::Channel::wait_for(&other, Wait::backoff()).is_err());
}

#[test]
fn its_channels_are_refused_by_name_and_what_is_being_created_is_not_read() {
    let this = "its_channels_are_refused_by_name_and_what_is_being_created_is_not_read";
    if let Some((role, arguments)) = role() {
        return original::run(&role, &arguments);
    }
    let dir = dir();
    let (path, _) = write(this, dir.path(), &Plan::new(16384, 3));
    let error = Channel::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Format { source: FormatError::Legacy, .. }), "{error:?}");
    assert!(error.to_string().contains("kekbit::legacy"), "{error}");
    // As it is between the two steps of its creation.
    let lock = path.with_extension("lock");
    std::fs::write(&lock, "").unwrap();
    let error = legacy::Channel::open(&path).unwrap_err();
    assert!(matches!(&error, OpenError::BeingCreated { lock: found, .. } if *found == lock), "{error:?}");
    assert!(matches!(shm_reader(dir.path(), CHANNEL_ID), Err(ChannelError::StorageNotReady { .. })));
    std::fs::remove_file(&lock).unwrap();
    assert_eq!(legacy::Channel::open(&path).unwrap().end_point().unwrap().state, State::Closed);
}
