//! Corners in which several mechanisms meet: policies and claims, the last word of a file, large batches and the index,
//! a sealer and a reader, polling in small portions.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kekbit::{
    AppendError, Channel, Checksum, CreateError, Durability, EncodeError, End, Prepare, Start, State, Verify,
    Wait, Writer,
};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("corner.kek");
    (dir, path)
}

/// A value that cannot be encoded.
struct Refusing;

impl kekbit::Encode for Refusing {
    fn max_len(&self) -> usize {
        64
    }

    fn encode(&self, _: &mut [u8]) -> Result<usize, EncodeError> {
        Err("refused".into())
    }
}

#[test]
fn each_append_is_synced_whatever_was_dropped_before() {
    let (_dir, path) = place();
    let mut writer = Writer::options().durability(Durability::Each).create(&path).unwrap();
    assert!(matches!(writer.append_encoded(&Refusing), Err(AppendError::Encode(_))));
    for _ in 0..3 {
        drop(writer.claim(100).unwrap());
        let mut batch = writer.batch();
        batch.push(b"never").unwrap();
        drop(batch);
        writer.append(b"a").unwrap();
        assert_eq!(writer.synced_tail(), writer.tail());
        writer.claim(8).unwrap().commit(3).unwrap();
        assert_eq!(writer.synced_tail(), writer.tail());
        let mut batch = writer.batch();
        batch.push(b"b").unwrap();
        batch.commit().unwrap();
        assert_eq!(writer.synced_tail(), writer.tail());
    }
}

#[test]
fn a_channel_whose_tail_is_the_last_word_of_its_file_can_be_sealed() {
    // In memory 64 KiB are reserved at first.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("corner.kek");
    for len in 65500..65536 {
        let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
        writer.append(&vec![7; len]).unwrap();
        writer.abandon();
        let sealed = Channel::seal(&path).unwrap();
        assert_eq!((sealed.before, sealed.end.sequence), (State::Abandoned, 1));
        let end = Channel::open(&path).unwrap().verify(|_| ()).unwrap();
        assert!(end.sealed);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn data_that_begins_where_the_first_reservation_ends_is_reserved_too() {
    let (_dir, path) = place();
    // The index of this capacity ends at 4 MiB.
    let mut writer = Writer::options().capacity(65_400 << 20).create(&path).unwrap();
    writer.append(b"there").unwrap();
    writer.close().unwrap();
    assert_eq!(Channel::open(&path).unwrap().records().count(), 1);
}

/// Positions of the entries of the index.
fn index_positions(path: &Path) -> Vec<u64> {
    let mut head = [0; 256];
    let file = File::open(path).unwrap();
    file.read_exact_at(&mut head, 0).unwrap();
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
    let mut index = vec![0; word(152) as usize];
    file.read_exact_at(&mut index, word(144)).unwrap();
    index
        .chunks(32)
        .take_while(|entry| entry[28] != 0)
        .map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap()))
        .collect()
}

#[test]
fn a_large_batch_takes_one_entry_of_the_index() {
    let (_dir, path) = place();
    let mut writer = Writer::options().capacity(64 << 20).max_record_len(1 << 16).create(&path).unwrap();
    let mut batch = writer.batch();
    for _ in 0..20_000 {
        batch.push(&[1; 120]).unwrap();
    }
    batch.commit().unwrap();
    for _ in 0..100_000 {
        writer.append(&[2; 120]).unwrap();
    }
    writer.close().unwrap();

    let used = index_positions(&path);
    assert!(used.windows(2).all(|pair| pair[0] < pair[1]), "{used:?}");
    // 120,000 records of 128 bytes: one entry a megabyte, but for the batch, and the terminal's.
    assert!((12..=16).contains(&used.len()), "{used:?}");
}

/// Makes a torn channel out of a copy of an abandoned one: damages the record `n`.
fn tear(path: &Path, copy: &Path, n: u64) {
    let position = {
        let channel = Channel::open(path).unwrap();
        channel.records_from(Start::Sequence(n)).unwrap().next().unwrap().unwrap().position()
    };
    std::fs::copy(path, copy).unwrap();
    let file = File::options().read(true).write(true).open(copy).unwrap();
    let mut word = [0; 8];
    file.read_exact_at(&mut word, 160).unwrap();
    let at = u64::from_le_bytes(word) + position.offset() + 8;
    file.write_all_at(&[0xEE; 8], at).unwrap();
}

#[test]
fn sealing_a_torn_channel_leaves_its_readers_alone() {
    let (dir, path) = place();
    let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
    for _ in 0..200 {
        writer.append(&[3; 4000]).unwrap();
    }
    writer.abandon();
    let torn = dir.path().join("torn.kek");
    tear(&path, &torn, 10);

    let channel = Channel::options().verify(Verify::Never).open(&torn).unwrap();
    let beyond = channel.records().last().unwrap().unwrap();
    assert_eq!(beyond.sequence(), 199);
    let sealed = Channel::seal(&torn).unwrap();
    assert_eq!((sealed.before, sealed.end.sequence), (State::Torn, 10));
    assert_eq!(beyond[3999], 3, "the reader's page is still there");

    drop(channel);
    let end = Channel::open(&torn).unwrap().verify(|_| ()).unwrap();
    assert_eq!((end.state, end.sealed, end.sequence), (State::Abandoned, true, 10));
}

#[test]
fn sealing_a_torn_channel_that_nobody_reads_gives_the_space_back() {
    let (dir, path) = place();
    let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
    for _ in 0..200 {
        writer.append(&[3; 4000]).unwrap();
    }
    writer.abandon();
    let torn = dir.path().join("torn.kek");
    tear(&path, &torn, 10);
    Channel::seal(&torn).unwrap();
    assert!(torn.metadata().unwrap().len() < 100_000);
}

#[test]
fn who_waits_little_at_a_time_notices_a_dead_writer_and_a_timeout() {
    let (_dir, path) = place();
    let writer = Writer::options().timeout(Duration::from_millis(1)).create(&path).unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while reader.end().is_none() && Instant::now() < patience {
        assert!(reader.next(Wait::spin().retries(3)).unwrap().is_none());
    }
    assert_eq!(reader.end(), Some(End::TimedOut));
    writer.abandon();
    while reader.end() != Some(End::Abandoned) && Instant::now() < patience {
        assert!(reader.next(Wait::spin().retries(3)).unwrap().is_none());
    }
    assert_eq!(reader.end(), Some(End::Abandoned));
}

#[test]
fn a_reused_file_has_the_mode_of_the_new_channel() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path) = place();
    Writer::options().mode(0o644).create(&path).unwrap().close().unwrap();
    let next = dir.path().join("next.kek");
    Writer::options().mode(0o600).create_from(&path, &next).unwrap().close().unwrap();
    assert_eq!(next.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_iterator_says_how_the_channel_ended() {
    let (_dir, path) = place();
    let mut writer = Writer::options().capacity(4096).create(&path).unwrap();
    let channel = Channel::open(&path).unwrap();
    let mut records = channel.records();
    assert!(records.next().is_none() && records.end().is_none());
    while writer.append(&[0; 100]).is_ok() {}
    assert_eq!(records.by_ref().count(), 36);
    assert_eq!(records.end(), Some(End::Full));
}

#[test]
fn whatever_a_claim_left_behind_is_not_in_the_padding() {
    let (_dir, path) = place();
    let mut writer = Writer::options().capacity(1 << 16).prepare(Prepare::OnDemand).create(&path).unwrap();
    for len in 1..40 {
        writer.claim(64).unwrap().fill(0xEE);
        writer.append(&vec![0x11; len]).unwrap();
        writer.claim(64).unwrap().fill(0xEE);
        writer.claim(64).unwrap().commit(len).unwrap();
    }
    writer.close().unwrap();
    let mut bytes = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    let data = u64::from_le_bytes(bytes[160..168].try_into().unwrap()) as usize;
    for record in Channel::open(&path).unwrap().records() {
        let record = record.unwrap();
        let end = data + record.position().offset() as usize + 8 + record.len();
        assert!(bytes[end..end.next_multiple_of(8)].iter().all(|byte| *byte == 0), "{record:?}");
    }
}

#[test]
fn claims_that_are_committed_short_do_not_use_up_the_index() {
    let (_dir, path) = place();
    let mut writer = Writer::options().capacity(64 << 20).max_record_len(2 << 20).create(&path).unwrap();
    for n in 0..100_000_u64 {
        writer
            .append_with(1 << 20, |space| {
                space[..8].copy_from_slice(&n.to_le_bytes());
                100
            })
            .unwrap();
    }
    writer.close().unwrap();
    let used = index_positions(&path);
    // 11 MB of records.
    assert!((10..=26).contains(&used.len()), "{used:?}");
    assert!(used.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= 3 << 20), "{used:?}");
    let channel = Channel::open(&path).unwrap();
    for n in [0, 1, 49_999, 99_999] {
        let record = channel.records_from(Start::Sequence(n)).unwrap().next().unwrap().unwrap();
        assert_eq!(record[..8], n.to_le_bytes());
    }
}

#[test]
fn a_file_that_is_being_read_is_not_reused_after_a_sealer_has_gone() {
    let (dir, path) = place();
    let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
    writer.append(b"old").unwrap();
    writer.abandon();
    let reader = Channel::open(&path).unwrap();
    Channel::seal(&path).unwrap();
    let next = dir.path().join("next.kek");
    assert!(matches!(Writer::options().create_from(&path, &next), Err(CreateError::InUse { .. })));
    assert_eq!(&reader.records().next().unwrap().unwrap()[..], b"old");
    drop(reader);
    // The sealer has left no lock behind.
    Writer::options().create_from(&path, &next).unwrap().append(b"new").unwrap();
    assert_eq!(&Channel::open(&next).unwrap().records().next().unwrap().unwrap()[..], b"new");
}

#[test]
fn a_record_behind_skipped_frames_is_found_by_its_position() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/draft/skippable.kek");
    let channel = Channel::open(sample).unwrap();
    for record in channel.records() {
        let record = record.unwrap();
        let found =
            channel.records_from(Start::Position(record.position())).unwrap().next().unwrap().unwrap();
        assert_eq!((found.sequence(), &found[..]), (record.sequence(), &record[..]));
    }
}

#[test]
fn what_is_written_beyond_a_claim_is_refused_by_name() {
    let (_dir, path) = place();
    let mut writer = Writer::create(&path).unwrap();
    let refused = writer.append_with(4, |_| 5).unwrap_err();
    assert!(matches!(refused, AppendError::BeyondClaim { len: 5, claimed: 4 }));
    assert_eq!(writer.append(b"next").unwrap().sequence, 0);
}

#[test]
fn live_words_of_another_boot_do_not_count() {
    let (dir, path) = place();
    let mut writer = Writer::options().create(&path).unwrap();
    writer.append(b"synced").unwrap();
    writer.close().unwrap();
    let synced = Channel::open(&path).unwrap().synced_tail();
    let copy = dir.path().join("copy.kek");
    std::fs::copy(&path, &copy).unwrap();
    File::options().write(true).open(&copy).unwrap().write_all_at(&[0xFF; 6], 4096).unwrap();
    assert_eq!(Channel::open(&copy).unwrap().synced_tail(), synced);
}

#[test]
fn sealing_never_makes_a_file_longer() {
    let (dir, path) = place();
    let mut writer = Writer::options().capacity(1 << 20).create(&path).unwrap();
    writer.append(b"kept").unwrap();
    writer.abandon();
    let cut = dir.path().join("cut.kek");
    std::fs::copy(&path, &cut).unwrap();
    // An interrupted copy ends anywhere.
    let len = 12_288 + 100;
    File::options().write(true).open(&cut).unwrap().set_len(len).unwrap();
    assert_eq!(Channel::seal(&cut).unwrap().end.sequence, 1);
    assert_eq!(cut.metadata().unwrap().len(), len);
    assert!(Channel::open(&cut).unwrap().verify(|_| ()).unwrap().sealed);
}

#[test]
fn without_checksums_nothing_past_the_synced_tail_of_a_copy_is_returned_not_even_unverified() {
    let (dir, path) = place();
    let mut writer = Writer::options().checksum(Checksum::None).create(&path).unwrap();
    writer.append(b"synced").unwrap();
    writer.sync().unwrap();
    writer.append(b"perhaps").unwrap();
    writer.abandon();
    let copy = dir.path().join("copy.kek");
    std::fs::copy(&path, &copy).unwrap();
    for verify in [Verify::Always, Verify::UnlessLive, Verify::Never] {
        let channel = Channel::options().verify(verify).open(&copy).unwrap();
        let mut records = channel.records();
        assert_eq!(records.by_ref().map(|record| record.unwrap().to_vec()).collect::<Vec<_>>(), [b"synced"]);
        assert_eq!(records.end(), Some(End::Torn), "{verify:?}");
    }
}
