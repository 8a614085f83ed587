//! Whatever is done to a writer, in whatever order: readers see what a plain list of payloads says, no more, no less,
//! and the file holds nothing else.

mod common;

use std::mem::ManuallyDrop;
use std::path::Path;

use common::{bytes, data_offset, frame_len, payloads, round_up, word_at};
use kekbit::{
    AppendContext, AppendError, Appended, Chain, Channel, Checksum, CreateError, Durability, End, Handler,
    Prepare, Records, SealError, SequenceStamp, StageError, StageInfo, Start, State, TickUnit, Timestamp,
    Writer, WriterOptions,
};
use proptest::prelude::*;

/// One thing to do to a writer. Lengths are of payloads.
#[derive(Clone, Debug)]
enum Operation {
    Append(usize),
    /// Claims the first, uses the second.
    AppendWith(usize, usize),
    AppendEncoded(usize),
    /// Claims, scribbles, and commits this much.
    Claim(usize, usize),
    DropClaim(usize),
    ForgetClaim(usize),
    CommitBatch(Vec<usize>),
    DropBatch(Vec<usize>),
    ForgetBatch(Vec<usize>),
    Sync,
    Heartbeat,
    /// Looks at what is there from a cursor that began long ago.
    Look,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Close,
    Drop,
    Abandon,
}

/// Why an operation fails, as the model sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    TooLong,
    BeyondClaim,
    BatchTooLong,
    Full,
}

/// What the channel should be.
#[derive(Debug)]
struct Model {
    records: Vec<Vec<u8>>,
    capacity: u64,
    longest: u64,
    /// Bytes that the stages add to each record.
    around: u64,
    tail: u64,
    full: bool,
}

impl Model {
    fn room_for(&mut self, frame_payload: u64) -> Result<(), Refusal> {
        if self.full || self.tail + frame_len(frame_payload) + 8 > self.capacity {
            self.full = true;
            return Err(Refusal::Full);
        }
        Ok(())
    }

    fn claim(&mut self, len: usize) -> Result<(), Refusal> {
        let stored = len as u64 + self.around;
        if stored > self.longest { Err(Refusal::TooLong) } else { self.room_for(stored) }
    }

    fn append(&mut self, claimed: usize, used: usize, seed: u64) -> Result<(), Refusal> {
        self.claim(claimed)?;
        if used > claimed {
            return Err(Refusal::BeyondClaim);
        }
        self.tail += frame_len(used as u64 + self.around);
        self.records.push(bytes(seed, used));
        Ok(())
    }

    /// Bytes of a batch of `lens`, or why one of them is refused, and which.
    fn batch(&mut self, lens: &[usize]) -> Result<u64, (usize, Refusal)> {
        let mut used = 8;
        for (i, len) in lens.iter().enumerate() {
            let stored = *len as u64 + self.around;
            if stored > self.longest {
                return Err((i, Refusal::TooLong));
            }
            used += frame_len(stored);
            if used > (self.capacity - 16).min((1 << 28) - 1) {
                return Err((i, Refusal::BatchTooLong));
            }
            self.room_for(used).map_err(|refusal| (i, refusal))?;
        }
        Ok(used)
    }
}

fn refusal<T>(result: Result<T, AppendError>) -> Result<T, Refusal> {
    result.map_err(|error| match error {
        AppendError::TooLong { .. } => Refusal::TooLong,
        AppendError::BeyondClaim { .. } => Refusal::BeyondClaim,
        AppendError::BatchTooLong { .. } => Refusal::BatchTooLong,
        AppendError::Full { .. } => Refusal::Full,
        other => panic!("{other}"),
    })
}

/// Does `operation` to both, and compares what they say of it.
fn apply<C: Chain>(writer: &mut Writer<C>, model: &mut Model, operation: &Operation, seed: u64) {
    let before = (writer.tail().offset(), writer.next_sequence(), model.records.len());
    let appended = |result: Result<Appended, AppendError>| {
        refusal(result).map(|at| assert_eq!((at.position.offset(), at.sequence), (before.0, before.1)))
    };
    match operation {
        Operation::Append(len) => {
            assert_eq!(
                writer.fits(*len),
                !model.full && {
                    let stored = *len as u64 + model.around;
                    stored <= model.longest && model.tail + frame_len(stored) + 8 <= model.capacity
                }
            );
            let said = appended(writer.append(&bytes(seed, *len)));
            assert_eq!(said, model.append(*len, *len, seed));
        }
        Operation::AppendWith(claimed, used) => {
            let said = appended(writer.append_with(*claimed, |space| {
                let n = (*used).min(space.len());
                space[..n].copy_from_slice(&bytes(seed, *used)[..n]);
                *used
            }));
            assert_eq!(said, model.append(*claimed, *used, seed));
        }
        Operation::AppendEncoded(len) => {
            let said = appended(writer.append_encoded(&bytes(seed, *len)));
            assert_eq!(said, model.append(*len, *len, seed));
        }
        Operation::Claim(claimed, used) => {
            let said = refusal(writer.claim(*claimed)).and_then(|mut claim| {
                claim.fill(0xAA);
                let n = (*used).min(*claimed);
                claim[..n].copy_from_slice(&bytes(seed, *used)[..n]);
                appended(claim.commit(*used))
            });
            assert_eq!(said, model.append(*claimed, *used, seed));
        }
        Operation::DropClaim(len) => {
            let said = refusal(writer.claim(*len)).map(|mut claim| claim.fill(0xBB));
            assert_eq!(said, model.claim(*len));
        }
        Operation::ForgetClaim(len) => {
            let said = refusal(writer.claim(*len)).map(|mut claim| {
                claim.fill(0xCC);
                let _forgotten = ManuallyDrop::new(claim);
            });
            assert_eq!(said, model.claim(*len));
        }
        Operation::CommitBatch(lens) => commit_batch(writer, model, lens, seed, before),
        Operation::DropBatch(lens) | Operation::ForgetBatch(lens) => {
            let mut batch = writer.batch();
            let said: Result<Vec<()>, Refusal> =
                lens.iter().map(|len| refusal(batch.push(&bytes(seed, *len)))).collect();
            if matches!(operation, Operation::ForgetBatch(_)) {
                let _forgotten = ManuallyDrop::new(batch);
            }
            assert_eq!(said.err(), model.batch(lens).err().map(|(_, refusal)| refusal));
        }
        Operation::Sync => {
            writer.sync().unwrap();
            let end = if model.full { 8 } else { 0 };
            assert_eq!(writer.synced_tail().offset(), model.tail + end);
        }
        Operation::Heartbeat => writer.heartbeat(),
        Operation::Look => {}
    }
    assert_eq!(writer.tail().offset(), model.tail);
    assert_eq!(writer.next_sequence() - before.1, (model.records.len() - before.2) as u64);
    assert_eq!(writer.is_ended(), model.full);
}

/// Pushes until one is refused, and commits what the batch then holds.
fn commit_batch<C: Chain>(
    writer: &mut Writer<C>,
    model: &mut Model,
    lens: &[usize],
    seed: u64,
    before: (u64, u64, usize),
) {
    let said = model.batch(lens);
    let good = said.map_or_else(|(i, _)| i, |_| lens.len());
    let mut batch = writer.batch();
    for (i, len) in lens[..good].iter().enumerate() {
        batch.push(&bytes(seed ^ i as u64, *len)).unwrap();
    }
    if let Err((i, expected)) = said {
        assert_eq!(refusal(batch.push(&bytes(seed, lens[i]))), Err(expected));
    }
    assert_eq!((batch.len(), batch.is_empty()), (good, good == 0));
    let committed = refusal(batch.commit());
    if good > 0 && model.full {
        assert_eq!(committed, Err(Refusal::Full), "a batch that did not fit is lost as a whole");
        return;
    }
    let at = committed.unwrap();
    assert_eq!((at.position.offset(), at.sequence), (before.0, before.1));
    if good > 0 {
        let used = model.batch(&lens[..good]).unwrap();
        model.tail += frame_len(used);
        model.records.extend(lens[..good].iter().enumerate().map(|(i, len)| bytes(seed ^ i as u64, *len)));
    }
}

/// Three bytes behind each record: its length, so that a record in the wrong place is seen.
#[derive(Clone, Debug)]
struct Tally;

impl Handler for Tally {
    fn describe(&self) -> StageInfo {
        StageInfo { id: 1 << 20, version: 3, suffix_len: 3, name: "tally".into(), ..StageInfo::default() }
    }

    fn after(&mut self, _: &mut AppendContext<'_>, body: &[u8], suffix: &mut [u8]) -> Result<(), StageError> {
        suffix.copy_from_slice(&(body.len() as u64).to_le_bytes()[..3]);
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Plan {
    capacity: u64,
    /// In thousandths between what the stages need and the longest possible.
    longest: u64,
    stages: u8,
    checksum: Checksum,
    prepare: Prepare,
    durability: Durability,
    operations: Vec<Operation>,
    ending: Ending,
}

fn plan() -> impl Strategy<Value = Plan> {
    let capacity = prop_oneof![Just(4096_u64), Just(8192), 4096_u64..70_000, 300_000_u64..400_000];
    capacity.prop_flat_map(|capacity| {
        (
            prop_oneof![Just(0_u64), Just(1000), 0_u64..=1000],
            0_u8..4,
            prop_oneof![Just(Checksum::Crc32c), Just(Checksum::None)],
            prop_oneof![
                Just(Prepare::OnDemand),
                Just(Prepare::Inline(1)),
                Just(Prepare::Inline(256 << 10)),
                Just(Prepare::Ahead(128 << 10)),
                Just(Prepare::All)
            ],
            prop_oneof![Just(Durability::Never), Just(Durability::AtEnd), Just(Durability::Each)],
            prop::collection::vec(operation(capacity), 0..60),
            prop_oneof![Just(Ending::Close), Just(Ending::Drop), Just(Ending::Abandon)],
        )
            .prop_map(move |(longest, stages, checksum, prepare, durability, operations, ending)| {
                Plan { capacity, longest, stages, checksum, prepare, durability, operations, ending }
            })
    })
}

fn operation(capacity: u64) -> impl Strategy<Value = Operation> {
    let capacity = capacity as usize;
    let len = prop_oneof![
        4 => prop::sample::select(vec![0, 1, 7, 8, 9, 15, 16, 17, 96, 255, 256, 257]),
        4 => 0..capacity / 12,
        1 => 0..capacity + 32,
        1 => capacity - 64..capacity + 8,
    ];
    let lens = prop::collection::vec(prop_oneof![0..30_usize, 0..capacity / 8], 0..12);
    prop_oneof![
        4 => len.clone().prop_map(Operation::Append),
        2 => (len.clone(), len.clone()).prop_map(|(a, b)| Operation::AppendWith(a.max(b), a.min(b))),
        1 => (len.clone(), len.clone()).prop_map(|(claimed, used)| Operation::AppendWith(claimed, used)),
        2 => len.clone().prop_map(Operation::AppendEncoded),
        2 => (len.clone(), 0..2000_usize).prop_map(|(claimed, used)| Operation::Claim(claimed, used)),
        1 => len.clone().prop_map(Operation::DropClaim),
        1 => len.prop_map(Operation::ForgetClaim),
        3 => lens.clone().prop_map(Operation::CommitBatch),
        1 => lens.clone().prop_map(Operation::DropBatch),
        1 => lens.prop_map(Operation::ForgetBatch),
        1 => Just(Operation::Sync),
        1 => Just(Operation::Heartbeat),
        2 => Just(Operation::Look),
    ]
}

fn run<C: Chain>(plan: &Plan, options: WriterOptions<C>, around: u64) {
    let dir = common::dir();
    let path = dir.path().join("model.kek");
    let capacity = round_up(plan.capacity, 4096);
    let longest = around + (capacity - 16 - around) * plan.longest / 1000;
    let mut writer = options.max_record_len(longest).create(&path).unwrap();
    let header = std::fs::read(&path).unwrap()[..4096].to_vec();
    let mut model = Model { records: Vec::new(), capacity, longest, around, tail: 0, full: false };

    let channel = Channel::open(&path).unwrap();
    assert_eq!((channel.capacity(), channel.max_record_len()), (capacity, longest));
    let mut live = Live { iterator: channel.records(), seen: 0 };
    let mut reader = channel.reader(Start::Beginning).unwrap();
    let mut read = 0;
    for (i, operation) in plan.operations.iter().enumerate() {
        apply(&mut writer, &mut model, operation, i as u64 * 1_000_003);
        if matches!(operation, Operation::Look) {
            live.look(&model);
        }
        while let Some(record) = reader.try_next().unwrap() {
            assert_eq!((&record[..], record.sequence()), (&model.records[read][..], read as u64));
            read += 1;
        }
        assert_eq!((read, reader.end()), (model.records.len(), model.full.then_some(End::Full)));
    }
    match plan.ending {
        Ending::Close => writer.close().unwrap(),
        Ending::Drop => drop(writer),
        Ending::Abandon => writer.abandon(),
    }
    live.look(&model);
    assert!(reader.try_next().unwrap().is_none());
    let state = match plan.ending {
        _ if model.full => State::Full,
        Ending::Abandon => State::Abandoned,
        Ending::Close | Ending::Drop => State::Closed,
    };
    let end = match state {
        State::Full => End::Full,
        State::Closed => End::Closed,
        _ => End::Abandoned,
    };
    assert_eq!(reader.check_end().unwrap(), Some(end));
    check_afterwards(&path, &model, state, state != State::Abandoned);
    // Sealing gives back the space behind the end if nobody is reading.
    drop((reader, channel));
    if state == State::Abandoned {
        let sealed = Channel::seal(&path).unwrap();
        assert_eq!((sealed.before, sealed.end.position.offset()), (State::Abandoned, model.tail));
        check_afterwards(&path, &model, State::Abandoned, true);
    }
    assert!(matches!(Channel::seal(&path), Err(SealError::Ended { state: s, .. }) if s == state));
    assert_eq!(std::fs::read(&path).unwrap()[..4096], header, "the header never changes");
}

/// An iterator that goes on when there is more.
struct Live<'c> {
    iterator: Records<'c>,
    seen: usize,
}

impl Live<'_> {
    fn look(&mut self, model: &Model) {
        for record in &mut self.iterator {
            let record = record.unwrap();
            assert_eq!((&record[..], record.sequence()), (&model.records[self.seen][..], self.seen as u64));
            self.seen += 1;
        }
        assert_eq!(self.seen, model.records.len());
    }
}

fn check_afterwards(path: &Path, model: &Model, state: State, sealed: bool) {
    let channel = Channel::open(path).unwrap();
    assert_eq!(payloads(&channel), model.records);
    for end in [channel.verify(|_| ()).unwrap(), channel.end_point().unwrap()] {
        assert_eq!((end.position.offset(), end.sequence), (model.tail, model.records.len() as u64));
        assert_eq!((end.state, end.sealed), (state, sealed));
    }
    let file = std::fs::read(path).unwrap();
    let data = data_offset(&file);
    if sealed {
        assert_eq!(file.len() as u64, data + round_up(model.tail + 8, 4096), "as long as its content");
    }
    assert!(file.len() as u64 <= data + model.capacity);
    let control = &file[4096..8192];
    let used = [0..8, 128..136, 256..264, 512..1024, 2048..2072, 3072..3096];
    for (at, byte) in control.iter().enumerate() {
        assert!(*byte == 0 || used.iter().any(|range| range.contains(&at)), "byte {at} of the control page");
    }
    let entries: Vec<_> = file[8192..data as usize].chunks_exact(32).collect();
    let written = entries.iter().take_while(|entry| entry[28] != 0).count();
    assert!(entries[written..].iter().all(|entry| **entry == [0; 32]), "nothing behind the last entry");
    for entry in &entries[..written] {
        assert!(word_at(entry, 0) <= model.tail && word_at(entry, 8) <= model.records.len() as u64);
    }
    if sealed {
        assert_eq!(word_at(entries[written - 1], 0), model.tail, "the last entry is the end's");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn readers_see_what_was_appended_and_the_file_holds_nothing_else(plan in plan()) {
        let options = Writer::options()
            .capacity(plan.capacity)
            .checksum(plan.checksum)
            .prepare(plan.prepare)
            .durability(plan.durability);
        match plan.stages {
            0 => run(&plan, options, 0),
            1 => run(&plan, options.stage(Timestamp::new(TickUnit::Micros)), 8),
            2 => run(&plan, options.stage(Tally).stage(SequenceStamp), 11),
            _ => run(&plan, options.stage(SequenceStamp).stage(Timestamp::nanos()).stage(Tally), 19),
        }
    }

    #[test]
    fn a_channel_is_used_to_within_one_frame(
        capacity in 4096_u64..40_000,
        lens in prop::collection::vec(0_usize..600, 1..8),
        batches in any::<bool>(),
    ) {
        let dir = common::dir();
        let path = dir.path().join("full.kek");
        let mut writer =
            Writer::options().capacity(capacity).max_record_len(4000).create(&path).unwrap();
        let capacity = round_up(capacity, 4096);
        let mut written = Vec::new();
        let refused = loop {
            let payload = bytes(written.len() as u64, lens[written.len() % lens.len()]);
            let (stored, result) = if batches {
                let mut batch = writer.batch();
                let pushed = batch.push(&payload);
                (8 + frame_len(payload.len() as u64), pushed.and_then(|()| batch.commit()))
            } else {
                (payload.len() as u64, writer.append(&payload))
            };
            match result {
                Ok(_) => written.push(payload),
                Err(AppendError::Full { capacity: said }) => {
                    prop_assert_eq!(said, capacity);
                    break stored;
                }
                Err(other) => panic!("{other}"),
            }
        };
        let tail = writer.tail().offset();
        prop_assert!(tail + 8 <= capacity && tail + frame_len(refused) + 8 > capacity);
        let full = |result| matches!(result, Err(AppendError::Full { .. }));
        prop_assert!(full(writer.append(b"")), "a full channel stays full, also for what would fit");
        let channel = Channel::open(&path).unwrap();
        prop_assert_eq!(payloads(&channel), written);
        prop_assert_eq!(channel.end_point().unwrap().state, State::Full);
        writer.close().unwrap();
        prop_assert_eq!(Channel::open(&path).unwrap().end_point().unwrap().state, State::Full);
    }
}

#[test]
fn the_last_record_may_fill_the_channel_to_its_last_byte() {
    for (lens, tail) in [(&[4080_usize][..], 4088_u64), (&[0; 511], 4088), (&[9, 1, 4040], 4088)] {
        let dir = common::dir();
        let path = dir.path().join("exact.kek");
        let mut writer = Writer::options().capacity(4096).max_record_len(4080).create(&path).unwrap();
        for len in lens {
            writer.append(&vec![7; *len]).unwrap();
        }
        assert_eq!(writer.tail().offset(), tail);
        writer.close().unwrap();
        let file = std::fs::read(&path).unwrap();
        assert_eq!(file.len() as u64, data_offset(&file) + 4096);
        let channel = Channel::open(&path).unwrap();
        let read: Vec<_> = payloads(&channel).iter().map(Vec::len).collect();
        assert_eq!(read, lens);
        assert_eq!(channel.verify(|_| ()).unwrap().state, State::Closed);
    }
}

#[test]
fn a_record_length_beyond_what_the_capacity_allows_is_refused_at_creation() {
    let dir = common::dir();
    let path = dir.path().join("x.kek");
    let create = |len| Writer::options().capacity(4096).max_record_len(len).create(&path);
    assert!(matches!(create(4081), Err(CreateError::Options(_))));
    let mut writer = create(0).unwrap();
    assert!(matches!(writer.append(b"x"), Err(AppendError::TooLong { len: 1, limit: 0 })));
    writer.append(b"").unwrap();
    assert_eq!(payloads(&Channel::open(&path).unwrap()), [b""]);
}

#[test]
fn the_longest_possible_record_is_written_and_read() {
    let dir = common::dir();
    let path = dir.path().join("long.kek");
    let longest = (256 << 20) - 1;
    let options = || Writer::options().capacity(257 << 20);
    assert!(matches!(options().max_record_len(longest + 1).create(&path), Err(CreateError::Options(_))));
    let mut writer = options().max_record_len(longest).create(&path).unwrap();
    let block = bytes(1, 4093);
    let mut payload = block.repeat(longest as usize / block.len() + 1);
    payload.truncate(longest as usize);
    writer.append(&payload).unwrap();
    writer.append(b"and one more").unwrap();
    let too_long = writer.append(&block.repeat(longest as usize / block.len() + 1));
    assert!(matches!(too_long, Err(AppendError::TooLong { .. })));
    writer.close().unwrap();
    let channel = Channel::open(&path).unwrap();
    let mut records = channel.records();
    assert!(records.next().unwrap().unwrap()[..] == payload[..]);
    assert_eq!(&records.next().unwrap().unwrap()[..], b"and one more");
    assert!(records.next().is_none());
}

#[test]
fn a_channel_of_one_tebibyte_takes_little_space() {
    use std::os::unix::fs::MetadataExt;
    let dir = common::dir();
    let path = dir.path().join("huge.kek");
    let mut writer = Writer::options().capacity(1 << 40).durability(Durability::Never).create(&path).unwrap();
    for i in 0..1000_u64 {
        writer.append(&i.to_le_bytes()).unwrap();
    }
    let channel = Channel::open(&path).unwrap();
    assert_eq!(channel.capacity(), 1 << 40);
    assert_eq!(channel.records().count(), 1000);
    // The index, 32 bytes for each half MiB of capacity, is reserved at once.
    let index = data_offset(&std::fs::read(&path).unwrap()) - 8192;
    assert!(index <= (64 << 20) + 4096);
    assert!(path.metadata().unwrap().blocks() * 512 <= index + (1 << 20));
    writer.close().unwrap();
    assert_eq!(path.metadata().unwrap().len(), 8192 + index + round_up(1000 * 16 + 8, 4096));
}
