//! What goes in comes out: of channels and journals, by every reader, in step with the writer and from what it has left.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kekbit::{
    AppendError, Appended, Chain, Channel, CopyingReader, CorrelationId, Decoder, End, Journal,
    JournalReader, OpenError, ReadError, Reader, Record, Roll, SharedRecord, Start, TickUnit, Writer,
    WriterOptions,
};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::any::{Kind, any_chain};
use crate::common::campaign::Campaign;
use crate::common::{self, bytes};

/// The longest stored record of these tests, and what the channels of a journal hold.
const LONGEST: usize = 3000;
const CHANNEL: u64 = 16 << 10;

/// What a record is made of.
#[derive(Clone, Copy, Debug)]
enum Content {
    Random,
    /// The same byte again and again.
    Constant,
    /// Words that come again.
    Text,
}

/// How a record is appended.
#[derive(Clone, Copy, Debug)]
enum Way {
    Append,
    Encoded,
    With,
    Claim,
    /// So many, of which this is the last.
    Batch(u8),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    content: Content,
    /// Of 256: how much of the longest record that is possible whatever it holds.
    len: u16,
    way: Way,
    correlation: u64,
}

fn any_step() -> impl Strategy<Value = Step> {
    let content = prop::sample::select(vec![Content::Random, Content::Constant, Content::Text]);
    let len = prop_oneof![Just(0_u16), 1..8_u16, 1..256_u16, Just(256)];
    let way = prop_oneof![
        Just(Way::Append),
        Just(Way::Encoded),
        Just(Way::With),
        Just(Way::Claim),
        (1..4_u8).prop_map(Way::Batch),
    ];
    (content, len, way, any::<u64>()).prop_map(|(content, len, way, correlation)| Step {
        content,
        len,
        way,
        correlation,
    })
}

fn payload(step: &Step, number: u64, limit: usize) -> Vec<u8> {
    let len = limit * usize::from(step.len) / 256;
    match step.content {
        Content::Random => bytes(number, len),
        Content::Constant => vec![number as u8; len],
        Content::Text => {
            let words = [&b"buy "[..], b"sell ", b"cancel ", b"limit "];
            let text = bytes(number, len).into_iter().flat_map(|byte| words[usize::from(byte % 4)]);
            text.copied().take(len).collect()
        }
    }
}

/// What was appended.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Went {
    payload: Vec<u8>,
    correlation: u64,
}

/// What a record was found to be, wherever it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Came {
    sequence: u64,
    position: u64,
    payload: Vec<u8>,
    stored: Vec<u8>,
    timestamp: Option<u64>,
    stamp: Option<u64>,
    correlation: Option<u64>,
}

impl Came {
    fn of(record: &Record<'_>) -> Came {
        assert_eq!(record.payload(), &record[..]);
        Came {
            sequence: record.sequence(),
            position: record.position().offset(),
            payload: record.payload().to_vec(),
            stored: record.stored().to_vec(),
            timestamp: record.timestamp_nanos(),
            stamp: record.sequence_stamp(),
            correlation: record.correlation_id(),
        }
    }

    fn of_shared(record: SharedRecord) -> Came {
        assert_eq!(Came::of(&record.record().to_shared().record()), Came::of(&record.record()));
        Came::of(&record.record())
    }

    /// Compares with what was appended, as the stages `kinds` have recorded it.
    fn check(&self, went: &Went, kinds: &[Kind]) {
        assert!(self.payload == went.payload, "record {} is another", self.sequence);
        let has = |wanted: fn(&Kind) -> bool| kinds.iter().any(wanted);
        assert_eq!(self.stamp, has(|kind| *kind == Kind::Sequence).then_some(self.sequence));
        assert_eq!(self.correlation, has(|kind| *kind == Kind::Correlation).then_some(went.correlation));
        assert_eq!(self.timestamp.is_some(), has(|kind| matches!(kind, Kind::Timestamp(_))));
        let around: usize = kinds.iter().map(|kind| kind.around()).sum();
        assert!(
            self.stored.len() <= self.payload.len() + around,
            "no record is longer than its stages make it"
        );
    }
}

/// The same of both kinds of writers.
trait Append {
    fn append_by(&mut self, way: Way, payload: &[u8]) -> Result<Appended, AppendError>;
    fn next_sequence(&self) -> u64;
}

macro_rules! append_by {
    ($type:ident) => {
        impl<C: Chain> Append for $type<C> {
            fn append_by(&mut self, way: Way, payload: &[u8]) -> Result<Appended, AppendError> {
                let len = payload.len();
                match way {
                    Way::Append => self.append(payload),
                    Way::Encoded => self.append_encoded(payload),
                    Way::With => self.append_with(len, |space| {
                        space.copy_from_slice(payload);
                        len
                    }),
                    Way::Claim => {
                        let mut claim = self.claim(len)?;
                        claim.copy_from_slice(payload);
                        claim.commit(len)
                    }
                    Way::Batch(count) => {
                        let mut batch = self.batch();
                        for _ in 1..count {
                            batch.push(COMPANION)?;
                        }
                        batch.push(payload)?;
                        batch.commit()
                    }
                }
            }

            fn next_sequence(&self) -> u64 {
                $type::next_sequence(self)
            }
        }
    };
}

append_by!(Writer);
append_by!(Journal);

const COMPANION: &[u8] = b"companion companion companion";

/// Appends what `steps` say; after each, `each` sees what has gone in so far.
fn append_all(
    writer: &mut impl Append,
    steps: &[Step],
    kinds: &[Kind],
    correlation: &CorrelationId,
    mut each: impl FnMut(&[Went]),
) -> Vec<Went> {
    let limit = LONGEST - kinds.iter().map(|kind| kind.around()).sum::<usize>();
    let mut gone = Vec::new();
    for step in steps {
        correlation.set(step.correlation);
        let payload = payload(step, gone.len() as u64, limit);
        writer.append_by(step.way, &payload).unwrap();
        let went = |payload: &[u8]| Went { payload: payload.to_vec(), correlation: step.correlation };
        if let Way::Batch(count) = step.way {
            gone.extend((1..count).map(|_| went(COMPANION)));
        }
        gone.push(went(&payload));
        assert_eq!(writer.next_sequence(), gone.len() as u64);
        each(&gone);
    }
    // A byte more than the limit; more where the stages inside may make something that can be saved.
    let too_long = bytes(99, if kinds.contains(&Kind::Lz4) { 2 * LONGEST } else { limit + 1 });
    let before = writer.next_sequence();
    let refused = writer.append_by(Way::Append, &too_long);
    assert!(matches!(refused, Err(AppendError::TooLong { .. })), "{refused:?}");
    assert_eq!(writer.next_sequence(), before);
    gone
}

/// Everything that `next` finds, in order.
fn drain(mut next: impl FnMut() -> Option<Came>) -> Vec<Came> {
    std::iter::from_fn(&mut next).collect()
}

macro_rules! next {
    ($reader:expr) => {
        || $reader.try_next().unwrap().map(|record| Came::of(&record))
    };
}

macro_rules! previous {
    ($reader:expr) => {
        || $reader.try_previous().unwrap().map(|record| Came::of(&record))
    };
}

/// Reads one channel in every way that there is for what stands in it, and compares all with `expected`.
fn read_channel(channel: &Channel, kinds: &[Kind], expected: &[Went]) -> Vec<Came> {
    let path = channel.path();
    let first = channel.first_sequence();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    let all = drain(next!(reader));
    assert_eq!(all.len(), expected.len());
    for (n, (came, went)) in all.iter().zip(expected).enumerate() {
        assert_eq!(came.sequence, first + n as u64);
        came.check(went, kinds);
    }
    assert!(all.is_sorted_by_key(|came| came.timestamp));
    let mut reversed = all.clone();
    reversed.reverse();

    assert_eq!(drain(previous!(reader)), reversed);
    let mut copying = CopyingReader::open(path).unwrap();
    assert_eq!(drain(next!(copying)), all);
    assert_eq!(drain(previous!(copying)), reversed);
    let shared = channel.shared_records().map(|record| Came::of_shared(record.unwrap()));
    assert!(shared.eq(all.iter().cloned()));
    let shared = channel.shared_records_back().map(|record| Came::of_shared(record.unwrap()));
    assert!(shared.eq(reversed.iter().cloned()));
    if kinds.contains(&Kind::Lz4) {
        let encoded = |record| matches!(record, Some(Err(ReadError::Encoded { id: 4, .. })));
        let (mut records, mut back) = (channel.records(), channel.records_back());
        assert!(encoded(records.next()) && records.next().is_none());
        assert!(encoded(back.next()) && back.next().is_none());
    } else {
        assert!(channel.records().map(|record| Came::of(&record.unwrap())).eq(all.iter().cloned()));
        let back = channel.records_back().map(|record| Came::of(&record.unwrap()));
        assert!(back.eq(reversed.iter().cloned()));
    }
    seek(channel, kinds, &all);
    all
}

/// From the middle on, found by sequence and by time.
fn seek(channel: &Channel, kinds: &[Kind], all: &[Came]) {
    let Some(middle) = all.get(all.len() / 2) else { return };
    let from = Start::Sequence(middle.sequence);
    let mut reader = channel.reader(from).unwrap();
    assert_eq!(Came::of(&reader.try_next().unwrap().unwrap()), *middle);
    let rest = channel.shared_records_from(from).unwrap();
    assert_eq!(rest.count() as u64, all.len() as u64 - (middle.sequence - all[0].sequence));
    let before = channel.shared_records_back_from(from).unwrap();
    assert_eq!(before.count() as u64, middle.sequence - all[0].sequence);
    assert_eq!(channel.seeks_time_exactly(), middle.timestamp.is_some());
    let Some(time) = middle.timestamp else { return };
    let start = Start::Time(UNIX_EPOCH + Duration::from_nanos(time));
    let found = Came::of(&channel.reader(start).unwrap().try_next().unwrap().unwrap());
    assert_eq!(found, *all.iter().find(|came| came.timestamp >= Some(time)).unwrap());
    assert!(UNIX_EPOCH + Duration::from_nanos(time) <= SystemTime::now(), "{kinds:?}");
}

/// Takes one channel apart with its own handlers.
fn decode<C: Chain>(
    path: &std::path::Path,
    decoder: &dyn Fn(&Channel) -> Decoder<C>,
    kinds: &[Kind],
) -> Vec<Came> {
    let channel = Channel::options().stored(true).open(path).unwrap();
    assert_eq!(channel.stages(), kinds.iter().map(|kind| kind.describe()).collect::<Vec<_>>());
    let mut decoder = decoder(&channel);
    let mut all = Vec::new();
    for record in channel.records() {
        let record = record.unwrap();
        assert_eq!(record.payload(), record.stored());
        let decoded = decoder.decode(&record).unwrap();
        assert_eq!(decoded.fields.len(), kinds.len());
        let word = |wanted: fn(&Kind) -> bool| {
            let at = kinds.iter().position(wanted)?;
            Some(u64::from_le_bytes(decoded.fields[at].prefix.try_into().unwrap()))
        };
        let unit = kinds.iter().find_map(|kind| match kind {
            Kind::Timestamp(unit) => Some(unit.nanos()),
            _ => None,
        });
        all.push(Came {
            payload: decoded.payload.to_vec(),
            timestamp: word(|kind| matches!(kind, Kind::Timestamp(_))).map(|ticks| ticks * unit.unwrap()),
            stamp: word(|kind| *kind == Kind::Sequence),
            correlation: word(|kind| *kind == Kind::Correlation),
            ..Came::of(&record)
        });
    }
    all
}

/// Whether readers undo all of it.
fn is_readable(kinds: &[Kind]) -> bool {
    !kinds.contains(&Kind::Reverse)
}

fn refused(kinds: &[Kind], opened: Result<Channel, OpenError>) {
    let Err(OpenError::Encoded { stage, id, .. }) = opened else { panic!("{opened:?}") };
    assert_eq!(
        (stage.as_str(), id),
        ("Reverse", 3 | 1 << 16),
        "{kinds:?}: the one that nobody undoes is named"
    );
}

fn check_channel<C: Chain>(
    options: WriterOptions<C>,
    decoder: &dyn Fn(&Channel) -> Decoder<C>,
    correlation: &CorrelationId,
    kinds: &[Kind],
    steps: &[Step],
) {
    let dir = common::dir();
    let path = dir.path().join("chain.kek");
    let mut writer = options.capacity(4 << 20).max_record_len(LONGEST as u64).create(&path).unwrap();
    let mut live: Option<(Reader, CopyingReader)> = is_readable(kinds).then(|| {
        let channel = Channel::open(&path).unwrap();
        (channel.reader(Start::Beginning).unwrap(), CopyingReader::open(&path).unwrap())
    });
    let gone = append_all(&mut writer, steps, kinds, correlation, |gone| {
        let Some((reader, copying)) = &mut live else { return };
        for found in [drain(next!(reader)), drain(next!(copying))] {
            for came in &found {
                came.check(&gone[came.sequence as usize], kinds);
            }
            assert_eq!(found.last().unwrap().sequence + 1, gone.len() as u64);
        }
    });
    writer.close().unwrap();
    let decoded = decode(&path, decoder, kinds);
    assert_eq!(decoded.len(), gone.len());
    for (came, went) in decoded.iter().zip(&gone) {
        came.check(went, kinds);
    }
    let Some((mut reader, mut copying)) = live else { return refused(kinds, Channel::open(&path)) };
    assert!(reader.try_next().unwrap().is_none() && reader.end() == Some(End::Closed));
    assert!(copying.try_next().unwrap().is_none() && copying.end() == Some(End::Closed));
    assert_eq!(read_channel(&Channel::open(&path).unwrap(), kinds, &gone), decoded);
}

fn check_journal<C: Chain>(
    options: WriterOptions<C>,
    decoder: &dyn Fn(&Channel) -> Decoder<C>,
    correlation: &CorrelationId,
    kinds: &[Kind],
    steps: &[Step],
) -> usize {
    let dir = common::dir();
    let path = dir.path().join("journal");
    let options = options.max_record_len(LONGEST as u64);
    let mut journal = Journal::options().channels(options).roll(Roll::Bytes(CHANNEL)).open(&path).unwrap();
    let mut live: Option<JournalReader> = is_readable(kinds).then(|| Journal::reader(&path).unwrap());
    let gone = append_all(&mut journal, steps, kinds, correlation, |gone| {
        let Some(reader) = &mut live else { return };
        let found = drain(next!(reader));
        for came in &found {
            came.check(&gone[came.sequence as usize], kinds);
        }
        assert_eq!(found.last().unwrap().sequence + 1, gone.len() as u64);
    });
    journal.close().unwrap();
    let channels = Journal::channels(&path).unwrap();
    let mut decoded = Vec::new();
    for channel in &channels {
        let part = decode(channel, decoder, kinds);
        if is_readable(kinds) {
            let first = decoded.len();
            let expected = &gone[first..first + part.len()];
            assert_eq!(read_channel(&Channel::open(channel).unwrap(), kinds, expected), part);
        } else {
            refused(kinds, Channel::open(channel));
        }
        decoded.extend(part);
    }
    assert_eq!(decoded.len(), gone.len());
    let Some(mut reader) = live else { return channels.len() };
    assert!(reader.try_next().unwrap().is_none());
    let mut reversed = decoded.clone();
    reversed.reverse();
    assert_eq!(drain(previous!(reader)), reversed);
    let mut fresh = Journal::reader(&path).unwrap();
    assert_eq!(drain(next!(fresh)), decoded);
    channels.len()
}

/// Builds the chain, twice of the same stages: one to write, one to take apart. Tells how many channels the journal has come to.
fn check(kinds: &[Kind], steps: &[Step]) -> usize {
    let correlation = &CorrelationId::new();
    macro_rules! check_with {
        ($($stage:ident)*) => {{
            let options = || Writer::options()$(.stage($stage.handler(correlation)))*;
            let decoder = |channel: &Channel| {
                Decoder::new(channel)$(.stage($stage.handler(correlation)))*.build().unwrap()
            };
            check_channel(options(), &decoder, correlation, kinds, steps);
            check_journal(options(), &decoder, correlation, kinds, steps)
        }};
    }
    crate::for_each_length!(kinds, check_with)
}

#[test]
fn what_goes_through_any_chain_comes_out_of_every_reader() {
    let campaign = Campaign::new("chains");
    let cases = campaign.count(300, 20_000);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases as u32) };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&campaign.seed().to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let plans = (any_chain(), prop::collection::vec(any_step(), 1..16));
    let outcome = runner.run(&plans, |(kinds, steps)| {
        check(&kinds, &steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    campaign.done(cases, "chains, each with a channel and a journal");
}

#[test]
fn what_is_nested_deeply_comes_out() {
    let steps: Vec<_> = (0..200_u16)
        .map(|n| Step {
            content: [Content::Random, Content::Constant, Content::Text][usize::from(n % 3)],
            len: [0, 3, 40, 256][usize::from(n / 3 % 4)],
            way: [Way::Append, Way::Encoded, Way::With, Way::Claim, Way::Batch(3)][usize::from(n % 5)],
            correlation: u64::from(n) << 50,
        })
        .collect();
    let nanos = Kind::Timestamp(TickUnit::Nanos);
    for kinds in [
        &[nanos, Kind::Lz4, Kind::Sequence, Kind::Correlation][..],
        &[Kind::Sequence, nanos, Kind::Lz4, Kind::Correlation, Kind::Before(4)],
        &[Kind::After(3), Kind::Lz4, Kind::Before(2), Kind::Sequence, Kind::After(7)],
        &[Kind::Reverse, Kind::Sequence, Kind::Lz4, Kind::Reverse, nanos],
    ] {
        assert!(check(kinds, &steps) > 2, "the journal rolls");
    }
}
