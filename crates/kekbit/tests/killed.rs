//! Killed at random: writers, readers and sealers of real channels die by SIGKILL at any moment, again and again.
//!
//! A writer creates channel after channel, each with other options, appends what follows from the channel's number, and
//! notes in a file how far it has got. After its death the last channels hold exactly the first so many records, at least
//! those noted, batches whole; a reader that has followed all the time has seen the same. A killed reader leaves no trace, and
//! a killed sealer a channel that is as before or sealed.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::campaign::{Campaign, Outcomes};
use common::{Child, Numbers, bytes, listen, names_in, patience, role, say, wait_until};
use kekbit::{
    AppendError, Chain, Channel, Checksum, Claim, CreateError, Durability, End, Prepare, Reader, SealError,
    Sealed, Start, State, Timestamp, Wait, Writer, WriterOptions,
};
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use tempfile::TempDir;

/// How the channel number `index` of a run is made, and what is done to it. Follows from the two numbers.
struct Plan {
    first_sequence: u64,
    stamped: bool,
    reused: bool,
    /// Steps until it is left, unless it is full before.
    steps: u64,
    leave: Leave,
    numbers: Numbers,
    options: WriterOptions,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leave {
    Close,
    Drop,
    Abandon,
}

/// One thing that a writer does.
enum Step {
    Append(Vec<u8>),
    AppendWith(Vec<u8>),
    /// A claim with this much to spare.
    Commit(Vec<u8>, usize),
    DropClaim(usize),
    ForgetClaim(usize),
    Batch(Vec<Vec<u8>>),
    DropBatch(Vec<Vec<u8>>),
    Sync,
    Heartbeat,
}

impl Plan {
    fn new(run: u64, index: u64) -> Plan {
        let mut numbers = Numbers(run ^ index.wrapping_mul(0xA076_1D64_78BD_642F));
        let capacity = [4096, 4096, 8192, 65536, 1 << 20, 64 << 20][numbers.below(6) as usize];
        let durability = match numbers.below(8) {
            0 => Durability::Each,
            1 => Durability::Interval(Duration::from_micros(50 + numbers.below(500))),
            2 | 3 => Durability::Never,
            _ => Durability::AtEnd,
        };
        let prepare = match numbers.below(8) {
            0 => Prepare::All,
            1 => Prepare::OnDemand,
            2 => Prepare::Inline(8192),
            3 | 4 => Prepare::Ahead(512 << 10),
            _ => Prepare::default(),
        };
        // All of a large channel takes long to prepare.
        let prepare =
            if capacity > 1 << 20 && prepare == Prepare::All { Prepare::default() } else { prepare };
        let checksum = if numbers.below(4) == 0 { Checksum::None } else { Checksum::Crc32c };
        let first_sequence = numbers.below(1000);
        let options = Writer::options()
            .capacity(capacity)
            .max_record_len(2048)
            .durability(durability)
            .prepare(prepare)
            .checksum(checksum)
            .channel_id(index)
            .first_sequence(first_sequence);
        // So that some channels live for a moment, and some longer than anybody waits.
        let steps = 16 << numbers.below(12);
        Plan {
            first_sequence,
            stamped: numbers.below(3) == 0,
            reused: numbers.below(3) == 0,
            steps: numbers.below(steps),
            leave: [Leave::Close, Leave::Drop, Leave::Abandon][numbers.below(3) as usize],
            numbers,
            options,
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = if self.numbers.below(8) == 0 { self.numbers.below(1500) } else { self.numbers.below(120) };
        bytes(self.numbers.next(), len as usize)
    }

    fn batch(&mut self) -> Vec<Vec<u8>> {
        (0..1 + self.numbers.below(8)).map(|_| bytes(self.numbers.next(), 30)).collect()
    }

    fn step(&mut self) -> Step {
        match self.numbers.below(32) {
            0..12 => Step::Append(self.payload()),
            12..16 => Step::AppendWith(self.payload()),
            16..20 => Step::Commit(self.payload(), self.numbers.below(200) as usize),
            20..22 => Step::DropClaim(self.numbers.below(300) as usize),
            22..24 => Step::ForgetClaim(self.numbers.below(300) as usize),
            24..29 => Step::Batch(self.batch()),
            29 => Step::DropBatch(self.batch()),
            30 => Step::Sync,
            _ => Step::Heartbeat,
        }
    }

    /// What each step appends, of those that append anything, until the channel is left.
    fn groups(mut self) -> impl Iterator<Item = Vec<Vec<u8>>> {
        (0..self.steps).filter_map(move |_| match self.step() {
            Step::Append(payload) | Step::AppendWith(payload) | Step::Commit(payload, _) => {
                Some(vec![payload])
            }
            Step::Batch(payloads) => Some(payloads),
            _ => None,
        })
    }
}

/// What a writer is about to do, in the words of its note.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Doing {
    Creating,
    Reusing,
    Writing,
    Ending,
    /// Done with this channel, which has ended as full or as planned.
    Full,
    Left,
}

const DOING: [Doing; 6] =
    [Doing::Creating, Doing::Reusing, Doing::Writing, Doing::Ending, Doing::Full, Doing::Left];

/// How far a writer has got: what it writes into a file before it goes on, so that it is true after its death.
#[derive(Clone, Copy, Debug)]
struct Note {
    channel: u64,
    doing: Doing,
    /// Records for which it had been told that they are appended.
    records: u64,
}

impl Note {
    fn write(self, file: &File) {
        let words = [self.channel, self.doing as u64, self.records];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        file.write_all_at(&bytes, 0).unwrap();
    }

    fn read(file: &File) -> Note {
        let mut bytes = [0; 24];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let word = |i: usize| common::word_at(&bytes, 8 * i);
        Note { channel: word(0), doing: DOING[word(1) as usize], records: word(2) }
    }
}

fn channel_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{index}.kek"))
}

const NOTE: &str = "note";
const RETIRED: &str = "retired";

/// Writes one channel after another until it is killed.
fn write_for_ever(dir: &Path, run: u64, micros: &str) {
    let note = File::options().write(true).open(dir.join(NOTE)).unwrap();
    say("ready");
    listen();
    let _timer = die_after(micros);
    for index in 0.. {
        let plan = Plan::new(run, index);
        let options = plan.options.clone();
        if plan.stamped {
            write_channel(dir, index, plan, options.stage(Timestamp::nanos()), &note);
        } else {
            write_channel(dir, index, plan, options, &note);
        }
    }
}

fn write_channel<C: Chain>(dir: &Path, index: u64, mut plan: Plan, options: WriterOptions<C>, note: &File) {
    let path = channel_path(dir, index);
    let tell = |doing, records| Note { channel: index, doing, records }.write(note);
    let mut writer = if plan.reused {
        let retired = dir.join(RETIRED);
        let mut before = Writer::options().capacity(8192).create(&retired).unwrap();
        while before.append(b"of an earlier life").is_ok() {}
        drop(before);
        tell(Doing::Reusing, 0);
        options.create_from(retired, path).unwrap()
    } else {
        tell(Doing::Creating, 0);
        options.create(path).unwrap()
    };
    tell(Doing::Writing, 0);
    for _ in 0..plan.steps {
        match take_step(&mut writer, plan.step()) {
            Ok(()) => tell(Doing::Writing, writer.next_sequence() - plan.first_sequence),
            Err(AppendError::Full { .. }) => {
                return tell(Doing::Full, writer.next_sequence() - plan.first_sequence);
            }
            Err(other) => panic!("{other}"),
        }
    }
    let records = writer.next_sequence() - plan.first_sequence;
    tell(Doing::Ending, records);
    match plan.leave {
        Leave::Close => writer.close().unwrap(),
        Leave::Drop => drop(writer),
        Leave::Abandon => writer.abandon(),
    }
    tell(Doing::Left, records);
}

fn take_step<C: Chain>(writer: &mut Writer<C>, step: Step) -> Result<(), AppendError> {
    match step {
        Step::Append(payload) => writer.append(&payload).map(drop),
        Step::AppendWith(payload) => writer
            .append_with(payload.len() + 9, |space| {
                space[..payload.len()].copy_from_slice(&payload);
                payload.len()
            })
            .map(drop),
        Step::Commit(payload, spare) => {
            let mut claim = writer.claim(payload.len() + spare)?;
            claim.fill(0xEE);
            claim[..payload.len()].copy_from_slice(&payload);
            claim.commit(payload.len()).map(drop)
        }
        Step::DropClaim(len) => writer.claim(len).map(|mut claim| claim.fill(0xEE)),
        Step::ForgetClaim(len) => {
            let mut claim = writer.claim(len)?;
            claim.fill(0xEE);
            forget(claim);
            Ok(())
        }
        Step::Batch(payloads) => {
            let mut batch = writer.batch();
            payloads.iter().try_for_each(|payload| batch.push(payload))?;
            batch.commit().map(drop)
        }
        Step::DropBatch(payloads) => {
            let mut batch = writer.batch();
            payloads.iter().try_for_each(|payload| batch.push(payload))
        }
        Step::Sync => writer.sync().map_err(|error| panic!("{error}")),
        Step::Heartbeat => {
            writer.heartbeat();
            Ok(())
        }
    }
}

/// Leaves a claim to itself, whether or not dropping it does anything.
#[allow(clippy::forget_non_drop, reason = "what a claim does when it is dropped is the library's business")]
fn forget<C: Chain>(claim: Claim<'_, C>) {
    std::mem::forget(claim);
}

/// A directory in memory or, in every sixteenth round, on a disk, where syncs take time.
fn some_dir(round: u64) -> TempDir {
    if round % 16 == 15 { tempfile::tempdir().unwrap() } else { common::dir() }
}

/// Any time up to some 25 ms; half of the times short ones are as likely as long ones.
fn some_delay(numbers: &mut Numbers) -> Duration {
    let most = 100 << (numbers.below(16)).min(8);
    Duration::from_micros(numbers.below(most))
}

/// In a child: lets the kernel kill it after some time, whatever it does then and however busy the machine is.
fn die_after(micros: &str) -> Timer {
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event).unwrap();
    let after = Duration::from_micros(micros.parse().unwrap()).max(Duration::from_micros(1));
    timer.set(Expiration::OneShot(after.into()), TimerSetTimeFlags::empty()).unwrap();
    timer
}

fn wait_until_released(channel: &Channel) {
    wait_until("the dead writer's lock is released", || !channel.writer_lives().unwrap());
}

/// Follows the channels of a writer, one after another; returns the reader at the one that did not end, and its number.
fn follow(dir: &Path, run: u64, killed: impl Fn() -> bool) -> Option<(u64, Reader)> {
    for index in 0.. {
        let path = channel_path(dir, index);
        let channel = loop {
            // Asked before the look, so that what a dead writer has created is found.
            let over = killed();
            match Channel::wait_for(&path, Wait::spin().retries(0)).unwrap() {
                Some(channel) => break channel,
                None if over => return None,
                None => {}
            }
        };
        let mut reader = channel.reader(Start::Beginning).unwrap();
        let expected = Plan::new(run, index).groups().flatten();
        for expected in expected {
            match reader.next(patience()).unwrap() {
                Some(record) => {
                    assert!(record.payload() == expected, "record {} of {path:?}", record.sequence())
                }
                None => break,
            }
        }
        // Either it has ended by then, or its writer has come to its end and may be about to.
        let more = reader.next(patience()).unwrap().is_some();
        assert!(!more && reader.end().is_some(), "more than was appended, or no end: {path:?}");
        // In this order: the note of a dead writer does not change any more.
        if killed() && Note::read(&File::open(dir.join(NOTE)).unwrap()).channel == index {
            return Some((index, reader));
        }
    }
    unreachable!()
}

/// Checks what a dead writer has left of a channel: the first so many records, at least those noted; then seals it. Returns
/// how many there are, and how it stood.
fn check_channel(path: &Path, plan: Plan, noted: u64, exactly: bool) -> (u64, State) {
    let name = path.display();
    let channel = Channel::open(path).unwrap_or_else(|error| panic!("{error}"));
    wait_until_released(&channel);
    let first_sequence = plan.first_sequence;
    let check = |channel: &Channel, groups: &mut dyn Iterator<Item = Vec<Vec<u8>>>| {
        let mut count = 0;
        let mut records = channel.records();
        while let Some(first) = records.next() {
            let group = groups.next().unwrap_or_else(|| panic!("{name}: more than was appended"));
            let mut found = first.unwrap();
            for (i, expected) in group.iter().enumerate() {
                if i > 0 {
                    found = records.next().unwrap_or_else(|| panic!("{name}: a part of a batch")).unwrap();
                }
                assert!(found.payload() == expected, "{name}: record {count}");
                assert_eq!(found.sequence(), first_sequence + count, "{name}");
                count += 1;
            }
        }
        count
    };
    let (run_steps, leave) = (plan.steps, plan.leave);
    let groups: Vec<_> = plan.groups().collect();
    let count = check(&channel, &mut groups.iter().cloned());
    assert!(count == noted || count > noted && !exactly, "{name}: {count} records, {noted} were noted");
    let end = channel.verify(|_| ()).unwrap();
    assert_eq!((end, end.sequence), (channel.end_point().unwrap(), first_sequence + count), "{name}");
    match end.state {
        State::Abandoned => assert!(!end.sealed, "{name}"),
        State::Closed => {
            let all: usize = groups.iter().map(Vec::len).sum();
            assert!(
                leave != Leave::Abandon && count == all as u64,
                "{name}: closed too early, {run_steps} steps"
            );
        }
        State::Full => {}
        other => panic!("{name}: {other}"),
    }

    let over = Writer::create(path);
    assert!(matches!(over, Err(CreateError::AlreadyExists { .. })), "{name}: {over:?}");
    match Channel::seal(path) {
        Ok(Sealed { before, .. }) => assert_eq!((before, end.state), (State::Abandoned, before), "{name}"),
        Err(SealError::Ended { state, .. }) => assert!(end.sealed && state == end.state, "{name}"),
        Err(other) => panic!("{other}"),
    }
    let sealed = Channel::open(path).unwrap();
    assert_eq!(check(&sealed, &mut groups.iter().cloned()), count, "{name}: sealed");
    let after = sealed.verify(|_| ()).unwrap();
    assert_eq!((after.state, after.sequence, after.sealed), (end.state, end.sequence, true), "{name}");
    assert!(matches!(Channel::seal(path), Err(SealError::Ended { .. })), "{name}");
    (count, end.state)
}

/// Kills a writer once, and checks what it has left. Returns what it was doing, and how the channel stood.
fn kill_a_writer(this: &str, round: u64, mut numbers: Numbers) -> String {
    let dir = some_dir(round);
    let run = numbers.next();
    let note = File::options().read(true).write(true).create_new(true).open(dir.path().join(NOTE)).unwrap();
    Note { channel: 0, doing: Doing::Creating, records: 0 }.write(&note);
    // After some time; or after so many records of some channel, if there come to be so many in that time.
    let (delay, follows) = (some_delay(&mut numbers).as_micros().to_string(), numbers.below(2) == 0);
    let most = 1 << numbers.below(9);
    let enough = (numbers.below(2) == 0).then(|| 1 + numbers.below(most));
    let arguments = [dir.path().to_str().unwrap(), &run.to_string(), &delay];
    let mut child = Child::start(this, "writer", &arguments);
    assert_eq!(child.hear(), "ready");
    let dead = AtomicBool::new(false);
    let path = dir.path();
    let followed = std::thread::scope(|scope| {
        let killed = || dead.load(Ordering::SeqCst);
        let following = follows.then(|| scope.spawn(move || follow(path, run, killed)));
        child.tell("go");
        if let Some(enough) = enough {
            let begun = Instant::now();
            while Note::read(&note).records < enough && begun.elapsed() < Duration::from_millis(10) {}
            child.kill();
        }
        child.end_killed();
        dead.store(true, Ordering::SeqCst);
        following.map(|following| following.join().unwrap())
    });

    let last = Note::read(&note);
    let at = channel_path(dir.path(), last.channel);
    for index in last.channel.saturating_sub(3)..last.channel {
        // Those that it had done with.
        let path = channel_path(dir.path(), index);
        let records = Channel::open(&path).unwrap().records().count() as u64;
        let (_, state) = check_channel(&path, Plan::new(run, index), records, true);
        let planned = Plan::new(run, index).groups().flatten().count() as u64;
        let abandoned = Plan::new(run, index).leave == Leave::Abandon;
        let as_planned = records == planned && (state == State::Abandoned) == abandoned;
        assert!(state == State::Full || as_planned, "{path:?}: {state}, {records} of {planned} records");
    }
    let birth = matches!(last.doing, Doing::Creating | Doing::Reusing);
    let outcome = if !at.exists() {
        assert!(birth, "{last:?}: the channel has gone");
        let options = Plan::new(run, last.channel).options;
        let retired = dir.path().join(RETIRED);
        // Nothing is in the way of the next one; a retired file is as it was or gone.
        let again = if last.doing == Doing::Reusing && retired.exists() {
            options.create_from(&retired, &at)
        } else {
            options.create(&at)
        };
        again.unwrap().close().unwrap();
        format!("{:?}, no channel", last.doing)
    } else {
        let exactly = last.doing != Doing::Writing;
        let (records, state) = check_channel(&at, Plan::new(run, last.channel), last.records, exactly);
        assert!(last.doing != Doing::Full || state == State::Full, "{last:?}: {state}");
        if let Some(Some((index, mut reader))) = followed {
            assert_eq!(index, last.channel);
            let seen = reader.sequence() - Plan::new(run, index).first_sequence;
            assert_eq!(seen, records, "the reader that has followed has seen as many");
            let ends =
                [(State::Abandoned, End::Abandoned), (State::Closed, End::Closed), (State::Full, End::Full)];
            assert!(ends.contains(&(state, reader.check_end().unwrap().unwrap())), "{state}");
        }
        format!("{:?}, {state}", last.doing)
    };
    for name in names_in(dir.path()) {
        let hidden = name.starts_with('.');
        let known = name == NOTE || name == RETIRED || name.ends_with(".kek");
        // A file that is reused has a hidden name in between; nothing else is left lying about.
        assert!(known || hidden && last.doing == Doing::Reusing, "{name}: {last:?}");
    }
    outcome
}

#[test]
fn a_writer_killed_at_random_leaves_everything_that_it_had_appended() {
    let this = "a_writer_killed_at_random_leaves_everything_that_it_had_appended";
    if let Some((_, arguments)) = role() {
        return write_for_ever(Path::new(&arguments[0]), arguments[1].parse().unwrap(), &arguments[2]);
    }
    let campaign = Campaign::new("killed at random, writers");
    let (rounds, outcomes) = (AtomicU64::new(0), Mutex::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    if round >= campaign.count(60, 7000) {
                        return;
                    }
                    let outcome = kill_a_writer(this, round, campaign.numbers(round));
                    Outcomes::add(&mut outcomes.lock().unwrap(), outcome);
                }
            });
        }
    });
    let outcomes: Outcomes = outcomes.into_inner().unwrap();
    let expected = [
        "Creating, no channel",
        "Creating, abandoned",
        "Reusing, no channel",
        "Reusing, abandoned",
        "Writing, abandoned",
        "Writing, full",
        "Ending, abandoned",
        "Ending, closed",
        "Full, full",
        "Left, abandoned",
        "Left, closed",
    ];
    outcomes.finish(campaign, &expected);
}

/// A record of the channels that are read: any process can make it again.
fn record(sequence: u64) -> Vec<u8> {
    common::record(sequence, 200)
}

/// Opens the channel, reads some of it in every way, and closes it, until it is killed.
fn read_for_ever(path: &Path, seed: u64) {
    let mut numbers = Numbers(seed);
    say("ready");
    listen();
    loop {
        let channel = Channel::open(path).unwrap();
        let start = match numbers.below(4) {
            0 => Start::Beginning,
            1 => Start::End,
            2 => Start::Last(numbers.below(100)),
            _ => Start::Sequence(numbers.below(1000)),
        };
        let mut reader = channel.reader(start).unwrap();
        let mut kept = Vec::new();
        for _ in 0..numbers.below(500) {
            let Some(found) = reader.next(Wait::backoff().at_most(Duration::from_millis(1))).unwrap() else {
                break;
            };
            assert!(found[..] == record(found.sequence())[..]);
            kept.push(found.to_shared());
        }
        drop((channel, reader));
        assert!(kept.iter().all(|kept| kept[..] == record(kept.record().sequence())[..]));
    }
}

/// Readers of one channel that are killed.
const READERS: u64 = 6;

/// Kills the readers of one channel, one after another, while it is written and others read it.
fn kill_readers(this: &str, round: u64, mut numbers: Numbers, outcomes: &mut Outcomes) {
    let dir = some_dir(round);
    let (path, next) = (dir.path().join("read.kek"), dir.path().join("next.kek"));
    let options = Writer::options().capacity(16 << 20);
    let mut writer = options.clone().create(&path).unwrap();
    let mut survivor = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    let mut children: Vec<_> = (0..READERS)
        .map(|_| Child::start(this, "reader", &[path.to_str().unwrap(), &numbers.next().to_string()]))
        .collect();
    for child in &mut children {
        assert_eq!(child.hear(), "ready");
        child.tell("go");
    }
    let append = |writer: &mut Writer| writer.append(&record(writer.next_sequence())).map(drop);
    for child in children {
        let (delay, begun) = (some_delay(&mut numbers), Instant::now());
        while begun.elapsed() < delay {
            // Slower than the readers, for it is to last.
            let pause = Instant::now();
            while pause.elapsed() < Duration::from_micros(20) {}
            append(&mut writer).unwrap();
        }
        child.kill();
        child.end_killed();
        append(&mut writer).unwrap();
        outcomes.add("reader");
    }
    let written = writer.next_sequence();
    assert_eq!(
        Channel::open(&path).unwrap().end_point().unwrap().state,
        State::Open,
        "the writer is unharmed"
    );
    writer.close().unwrap();
    for sequence in 0..written {
        let found = survivor.try_next().unwrap().map(|found| found.to_vec());
        assert!(found == Some(record(sequence)), "record {sequence} for a reader that lives");
    }
    assert!(survivor.try_next().unwrap().is_none() && survivor.end() == Some(End::Closed));
    assert_eq!(Channel::open(&path).unwrap().verify(|_| ()).unwrap().sequence, written);

    // The living one keeps the file from being reused, and the dead do not. (A process that another test is just starting
    // may have a copy of a descriptor for a moment.)
    let in_use = options.clone().create_from(&path, &next);
    assert!(matches!(in_use, Err(CreateError::InUse { .. })), "{in_use:?}");
    drop(survivor);
    wait_until("the file can be reused", || match options.clone().create_from(&path, &next) {
        Ok(mut writer) => writer.append(b"new").is_ok(),
        Err(CreateError::InUse { .. }) => false,
        Err(other) => panic!("{other}"),
    });
    assert_eq!(common::payloads(&Channel::open(&next).unwrap()), [b"new"]);
}

#[test]
fn readers_killed_at_random_disturb_neither_the_writer_nor_others_nor_reuse() {
    let this = "readers_killed_at_random_disturb_neither_the_writer_nor_others_nor_reuse";
    if let Some((_, arguments)) = role() {
        return read_for_ever(Path::new(&arguments[0]), arguments[1].parse().unwrap());
    }
    let campaign = Campaign::new("killed at random, readers");
    let mut outcomes = Outcomes::default();
    for round in 0..campaign.count(3, 250) {
        kill_readers(this, round, campaign.numbers(round), &mut outcomes);
    }
    outcomes.finish(campaign, &["reader"]);
}

/// How many channels a sealer has to seal.
const SEALED: u64 = 12;

/// Makes a channel that is to be sealed; every other one is torn, as a crash of the machine leaves it.
fn make_abandoned(dir: &Path, index: u64, numbers: &mut Numbers) {
    let path = channel_path(dir, index);
    let mut writer = Writer::options().capacity(16384 << numbers.below(3)).create(&path).unwrap();
    for _ in 0..numbers.below(20) {
        writer.append(&record(writer.next_sequence())).unwrap();
    }
    if numbers.below(2) == 0 {
        writer.sync().unwrap();
    }
    let (tail, sequence) = (writer.tail().offset(), writer.next_sequence());
    if index.is_multiple_of(2) {
        return writer.abandon();
    }
    writer.append(&record(sequence)).unwrap();
    let more = numbers.below(10);
    for i in 0..more {
        writer.append(&record(sequence + 1 + i)).unwrap();
    }
    writer.abandon();
    // In another file, so that it is read as after another boot, with one frame behind the synced ones damaged.
    let mut image = std::fs::read(&path).unwrap();
    let at = (common::data_offset(&image) + tail) as usize;
    image[at] ^= 1 << numbers.below(8);
    let other = path.with_extension("new");
    std::fs::write(&other, image).unwrap();
    std::fs::rename(other, path).unwrap();
}

/// Seals one channel after another, and says in a file how many it has done.
fn seal_all(dir: &Path, micros: &str) {
    let note = File::options().write(true).open(dir.join(NOTE)).unwrap();
    say("ready");
    listen();
    let _timer = die_after(micros);
    for channel in 0..SEALED {
        Note { channel, doing: Doing::Ending, records: 0 }.write(&note);
        Channel::seal(channel_path(dir, channel)).unwrap();
    }
    Note { channel: SEALED, doing: Doing::Left, records: 0 }.write(&note);
    nix::unistd::pause();
}

/// What is read of a channel.
fn contents(path: &Path) -> (Vec<Vec<u8>>, kekbit::EndPoint) {
    let channel = Channel::open(path).unwrap();
    wait_until_released(&channel);
    (common::payloads(&channel), channel.verify(|_| ()).unwrap())
}

/// Kills a sealer once, and checks what it has left.
fn kill_a_sealer(this: &str, round: u64, mut numbers: Numbers, outcomes: &mut Outcomes) {
    let dir = some_dir(round);
    for index in 0..SEALED {
        make_abandoned(dir.path(), index, &mut numbers);
    }
    let path = |index| channel_path(dir.path(), index);
    let before: Vec<_> = (0..SEALED).map(|index| contents(&path(index))).collect();
    for (index, (_, end)) in (0..).zip(&before) {
        let state = if index % 2 == 0 { State::Abandoned } else { State::Torn };
        assert_eq!((end.state, end.sealed), (state, false), "made to be so");
    }
    let note = File::options().read(true).write(true).create_new(true).open(dir.path().join(NOTE)).unwrap();
    Note { channel: 0, doing: Doing::Creating, records: 0 }.write(&note);
    // About as long as it takes to seal them all.
    let most = if cfg!(debug_assertions) { 3000 } else { 1200 };
    let arguments = [dir.path().to_str().unwrap(), &numbers.below(most).to_string()];
    let mut child = Child::start(this, "sealer", &arguments);
    assert_eq!(child.hear(), "ready");
    child.tell("go");
    child.end_killed();

    let last = Note::read(&note);
    for (index, (records, end)) in (0..).zip(&before) {
        let (found, now) = contents(&path(index));
        assert!(found == *records, "{index}, {last:?}: the records are the same");
        assert_eq!((now.position, now.sequence), (end.position, end.sequence), "{index}, {last:?}");
        assert!(now.sealed || now == *end, "{index}, {last:?}: {now:?}, before {end:?}");
        assert!(!now.sealed || now.state == State::Abandoned, "{index}, {last:?}: {now:?}");
        assert!(index >= last.channel || now.sealed, "{index}, {last:?}: it had been sealed");
        assert!(index <= last.channel || !now.sealed, "{index}, {last:?}: nobody has sealed it");
        if index == last.channel {
            let sealed = if now.sealed { "sealed" } else { "not sealed" };
            outcomes.add(format!("{}, {sealed}", end.state));
        }
        match Channel::seal(path(index)) {
            Ok(sealed) => assert!(!now.sealed && sealed.before == end.state, "{index}, {last:?}"),
            Err(SealError::Ended { state: State::Abandoned, .. }) => assert!(now.sealed, "{index}, {last:?}"),
            Err(other) => panic!("{index}, {last:?}: {other}"),
        }
        let (found, now) = contents(&path(index));
        assert!(
            found == *records && now.sealed && now.sequence == end.sequence,
            "{index}, {last:?}: {now:?}"
        );
        assert!(matches!(Channel::seal(path(index)), Err(SealError::Ended { .. })));
    }
    if last.channel == SEALED {
        outcomes.add("all done");
    }
}

#[test]
fn a_sealer_killed_at_random_leaves_the_channel_as_it_was_or_sealed() {
    let this = "a_sealer_killed_at_random_leaves_the_channel_as_it_was_or_sealed";
    if let Some((_, arguments)) = role() {
        return seal_all(Path::new(&arguments[0]), &arguments[1]);
    }
    let campaign = Campaign::new("killed at random, sealers");
    let mut outcomes = Outcomes::default();
    for round in 0..campaign.count(20, 1500) {
        kill_a_sealer(this, round, campaign.numbers(round), &mut outcomes);
    }
    let expected = ["abandoned, sealed", "abandoned, not sealed", "torn, sealed", "torn, not sealed"];
    outcomes.finish(campaign, &expected);
}
