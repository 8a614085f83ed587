//! Killed at every instruction: a child that is traced does one thing to a channel, one instruction at a time.
//!
//! ```text
//! child    ...preparing... mark  i i i i i i i i ... i  mark
//! parent                     look look look   ...   look          at every instruction: what would a kill leave?
//! parent                     k instructions, SIGKILL, look        for every k, with a child of its own
//! ```
//!
//! What is stored through a mapping is in the page cache at once and outlives the process. So at each stop the file is
//! what a kill there would leave, and a copy of it can be looked at; whenever it has changed it is, in the two ways in
//! which a file of a dead writer may be read: as after another boot (a copy has another inode), and as in this one (the
//! copy's header says that inode). That this is right is shown by real kills, of which the child's locks die too.
//!
//! Whatever the instruction: the records are those before or those after, and once after, never before again; the channel
//! is abandoned or has ended as the operation ends it, and sealing changes nothing about the records.
// On other machines an atomic operation may be several instructions that never succeed one at a time.
#![cfg(target_arch = "x86_64")]

mod common;

use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::campaign::{Campaign, is_long};
use common::{bytes, names_in, repair_header, wait_until};
use kekbit::{
    AppendError, Chain, Channel, Checksum, Claim, CreateError, Durability, End, Prepare, SealError,
    SequenceStamp, Start, State, Timestamp, Writer, WriterOptions,
};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// One thing that is done to a channel.
#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    checksum: Checksum,
    /// Records that are there before, and that the operation adds, all at once.
    before: u64,
    adds: u64,
    /// How it ends the channel.
    end: Option<State>,
    /// Prepares the channel, and does it between two calls of the mark.
    act: fn(&Path, Checksum, fn()),
}

const OPERATION: Operation =
    Operation { name: "", checksum: Checksum::Crc32c, before: BEFORE, adds: 0, end: None, act: |_, _, _| () };

/// Records in a channel that is prepared.
const BEFORE: u64 = 3;

fn payload(i: u64) -> Vec<u8> {
    bytes(i ^ 0xA11, 41 + (i * 29 % 90) as usize)
}

fn options(checksum: Checksum) -> WriterOptions {
    Writer::options().capacity(4096).max_record_len(2048).checksum(checksum).prepare(Prepare::All)
}

/// Leaves words behind the tail that would pass for frames.
fn litter(writer: &mut Writer, len: usize) {
    let mut claim = writer.claim(len).unwrap();
    for (i, word) in claim.chunks_exact_mut(8).enumerate() {
        let head = 1 << 60 | (i as u64 % 64) << 32 | 0x0BAD_0BAD;
        word.copy_from_slice(&head.to_le_bytes());
    }
}

/// A channel with records, and with room that is reserved, present, and full of litter.
fn prepared(path: &Path, checksum: Checksum) -> Writer {
    let mut writer = options(checksum).create(path).unwrap();
    for i in 0..BEFORE {
        writer.append(&payload(i)).unwrap();
    }
    litter(&mut writer, 1500);
    writer
}

/// Leaves a claim to itself, whether or not dropping it does anything.
#[allow(clippy::forget_non_drop, reason = "what a claim does when it is dropped is the library's business")]
fn forget<C: Chain>(claim: Claim<'_, C>) {
    std::mem::forget(claim);
}

fn append(path: &Path, checksum: Checksum, mark: fn()) {
    let (mut writer, payload) = (prepared(path, checksum), payload(BEFORE));
    mark();
    writer.append(&payload).unwrap();
    mark();
}

fn append_with(path: &Path, checksum: Checksum, mark: fn()) {
    let (mut writer, payload) = (prepared(path, checksum), payload(BEFORE));
    mark();
    let fill = |space: &mut [u8]| {
        space[..payload.len()].copy_from_slice(&payload);
        payload.len()
    };
    writer.append_with(200, fill).unwrap();
    mark();
}

fn commit_claim(path: &Path, checksum: Checksum, mark: fn()) {
    let (mut writer, payload) = (prepared(path, checksum), payload(BEFORE));
    mark();
    let mut claim = writer.claim(200).unwrap();
    claim[..payload.len()].copy_from_slice(&payload);
    claim.commit(payload.len()).unwrap();
    mark();
}

fn drop_claim(path: &Path, checksum: Checksum, mark: fn()) {
    let (mut writer, payload) = (prepared(path, checksum), payload(BEFORE));
    mark();
    let mut claim = writer.claim(200).unwrap();
    claim[..payload.len()].copy_from_slice(&payload);
    drop(claim);
    mark();
}

fn forget_claim(path: &Path, checksum: Checksum, mark: fn()) {
    let (mut writer, payload) = (prepared(path, checksum), payload(BEFORE));
    mark();
    let mut claim = writer.claim(200).unwrap();
    claim[..payload.len()].copy_from_slice(&payload);
    forget(claim);
    mark();
}

fn append_after_aborts(path: &Path, checksum: Checksum, mark: fn()) {
    let (mut writer, payload) = (prepared(path, checksum), payload(BEFORE));
    mark();
    drop(writer.claim(300).unwrap());
    let mut claim = writer.claim(100).unwrap();
    claim.fill(0xEE);
    forget(claim);
    writer.append(&payload).unwrap();
    mark();
}

fn commit_batch(path: &Path, checksum: Checksum, mark: fn()) {
    let mut writer = prepared(path, checksum);
    let payloads: Vec<_> = (BEFORE..BEFORE + 3).map(payload).collect();
    mark();
    let mut batch = writer.batch();
    for payload in &payloads {
        batch.push(payload).unwrap();
    }
    batch.commit().unwrap();
    mark();
}

fn drop_batch(path: &Path, checksum: Checksum, mark: fn()) {
    let (mut writer, payload) = (prepared(path, checksum), payload(BEFORE));
    mark();
    let mut batch = writer.batch();
    batch.push(&payload).unwrap();
    batch.push(&payload).unwrap();
    drop(batch);
    mark();
}

fn append_through_stages(path: &Path, checksum: Checksum, mark: fn()) {
    let stages = options(checksum).stage(Timestamp::nanos()).stage(SequenceStamp);
    let mut writer = stages.create(path).unwrap();
    for i in 0..BEFORE {
        writer.append(&payload(i)).unwrap();
    }
    let payload = payload(BEFORE);
    mark();
    writer.append(&payload).unwrap();
    mark();
}

/// The first append of all: with an entry of the index and of the trail, and pages that are made present.
fn append_first(path: &Path, checksum: Checksum, mark: fn()) {
    let mut writer = options(checksum).prepare(Prepare::Inline(4096)).create(path).unwrap();
    let payload = payload(0);
    mark();
    writer.append(&payload).unwrap();
    mark();
}

/// An append behind what is reserved, which makes the file longer.
fn append_growing(path: &Path, checksum: Checksum, mark: fn()) {
    let mut writer =
        options(checksum).capacity(128 << 10).prepare(Prepare::Inline(4096)).create(path).unwrap();
    for i in 0..GROWN {
        writer.append(&long_payload(i)).unwrap();
    }
    let payload = long_payload(GROWN);
    mark();
    writer.append(&payload).unwrap();
    mark();
}

/// Records of [`long_payload`] that fit the 64 KiB that a file in memory has at first.
const GROWN: u64 = 32;

fn long_payload(i: u64) -> Vec<u8> {
    bytes(i ^ 0xA11, 2000)
}

fn append_and_sync(path: &Path, checksum: Checksum, mark: fn()) {
    let mut writer = options(checksum).durability(Durability::Each).create(path).unwrap();
    for i in 0..BEFORE {
        writer.append(&payload(i)).unwrap();
    }
    let payload = payload(BEFORE);
    mark();
    writer.append(&payload).unwrap();
    mark();
}

fn append_too_much(path: &Path, checksum: Checksum, mark: fn()) {
    let mut writer = options(checksum).max_record_len(4080).create(path).unwrap();
    for i in 0..BEFORE {
        writer.append(&payload(i)).unwrap();
    }
    litter(&mut writer, 3000);
    mark();
    let full = writer.append(&[1; 4000]);
    assert!(matches!(full, Err(AppendError::Full { .. })));
    mark();
}

fn create(path: &Path, checksum: Checksum, mark: fn()) {
    let options = options(checksum);
    mark();
    let writer = options.create(path).unwrap();
    mark();
    writer.abandon();
}

/// Creates the channel in the file of another one, full of frames.
fn create_from(path: &Path, checksum: Checksum, mark: fn()) {
    let (retired, options) = (path.with_file_name(RETIRED), options(checksum));
    let mut before = options.clone().create(&retired).unwrap();
    while before.append(&payload(0)).is_ok() {}
    drop(before);
    mark();
    let writer = options.create_from(retired, path).unwrap();
    mark();
    writer.abandon();
}

const RETIRED: &str = "retired.kek";

fn sync(path: &Path, checksum: Checksum, mark: fn()) {
    let mut writer = prepared(path, checksum);
    mark();
    writer.sync().unwrap();
    mark();
}

fn close(path: &Path, checksum: Checksum, mark: fn()) {
    let writer = prepared(path, checksum);
    mark();
    writer.close().unwrap();
    mark();
}

fn seal(path: &Path, checksum: Checksum, mark: fn()) {
    prepared(path, checksum).abandon();
    mark();
    Channel::seal(path).unwrap();
    mark();
}

/// Those with few instructions: publishing, claiming and giving up a claim.
const SMALL: [Operation; 13] = [
    Operation { name: "append", adds: 1, act: append, ..OPERATION },
    Operation { name: "append, no checksum", adds: 1, checksum: Checksum::None, act: append, ..OPERATION },
    Operation { name: "append_with", adds: 1, act: append_with, ..OPERATION },
    Operation { name: "claim, commit", adds: 1, act: commit_claim, ..OPERATION },
    Operation {
        name: "claim, commit, no checksum",
        adds: 1,
        checksum: Checksum::None,
        act: commit_claim,
        ..OPERATION
    },
    Operation { name: "claim, drop", act: drop_claim, ..OPERATION },
    Operation { name: "claim, forget", act: forget_claim, ..OPERATION },
    Operation { name: "claim, drop, claim, forget, append", adds: 1, act: append_after_aborts, ..OPERATION },
    Operation { name: "batch, commit", adds: 3, act: commit_batch, ..OPERATION },
    Operation {
        name: "batch, commit, no checksum",
        adds: 3,
        checksum: Checksum::None,
        act: commit_batch,
        ..OPERATION
    },
    Operation { name: "batch, drop", act: drop_batch, ..OPERATION },
    Operation { name: "append through stages", adds: 1, act: append_through_stages, ..OPERATION },
    Operation { name: "first append", before: 0, adds: 1, act: append_first, ..OPERATION },
];

/// Those that call the system.
const LARGE: [Operation; 6] = [
    Operation { name: "append, file grows", before: GROWN, adds: 1, act: append_growing, ..OPERATION },
    Operation { name: "append, sync each", adds: 1, act: append_and_sync, ..OPERATION },
    Operation { name: "append, full", end: Some(State::Full), act: append_too_much, ..OPERATION },
    Operation { name: "sync", act: sync, ..OPERATION },
    Operation { name: "close", end: Some(State::Closed), act: close, ..OPERATION },
    Operation { name: "seal", end: Some(State::Abandoned), act: seal, ..OPERATION },
];

/// Those that create a channel.
const CREATIONS: [Operation; 2] = [
    Operation { name: "create", before: 0, act: create, ..OPERATION },
    Operation { name: "create, reusing", before: 0, act: create_from, ..OPERATION },
];

impl Operation {
    fn payload(&self, i: u64) -> Vec<u8> {
        if self.before == GROWN { long_payload(i) } else { payload(i) }
    }
}

/// How the child has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Step,
    Mark,
}

/// A child that is traced by this thread. Killed when dropped.
struct Traced(Pid);

/// What a child ends with that may not be traced.
const REFUSED: i32 = 77;

impl Traced {
    /// Starts a child that does `act` in place of the test, and waits until it is at its first mark. `None`, with a
    /// message, where tracing is not allowed.
    fn start(act: impl FnOnce(fn())) -> Option<Traced> {
        // SAFETY: the child does `act` and ends. It takes no lock that another thread may have held when it was forked:
        // those of the allocator are given back by the C library, and the tests of this file wait for each other.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    if ptrace::traceme().is_err() {
                        return REFUSED;
                    }
                    act(|| raise(Signal::SIGSTOP).unwrap());
                    0
                }));
                let code = ended.unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
                    let _ = writeln!(std::io::stderr(), "the child has panicked: {text}");
                    1
                });
                // SAFETY: ends this process at once, without running what its copy of the test harness would.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => {
                match waitpid(child, None).unwrap() {
                    WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
                    WaitStatus::Exited(_, REFUSED) => {
                        println!("skipped every_instruction: this process may not trace its children");
                        return None;
                    }
                    other => panic!("the child has not come to its mark: {other:?}"),
                }
                let traced = Traced(child);
                let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
                ptrace::setoptions(child, options).unwrap();
                Some(traced)
            }
        }
    }

    /// Lets the child go on for one instruction; a system call is one.
    fn step(&self) -> Stop {
        ptrace::step(self.0, None).unwrap();
        self.wait()
    }

    /// Lets the child go on to the beginning or the end of a system call.
    fn step_to_system_call(&self) -> Stop {
        ptrace::syscall(self.0, None).unwrap();
        self.wait()
    }

    fn wait(&self) -> Stop {
        match waitpid(self.0, None).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceSyscall(_) => Stop::Step,
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Stop::Mark,
            other => panic!("the child has ended in between: {other:?}"),
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        assert!(matches!(waitpid(self.0, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))));
    }
}

/// One test at a time, on one processor with its children: then a step is a switch, and no wake-up across processors.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut here = CpuSet::new();
    if nix::sched::sched_getcpu().is_ok_and(|cpu| here.set(cpu).is_ok()) {
        // It costs time only if it fails.
        let _ = sched_setaffinity(Pid::from_raw(0), &here);
    }
    guard
}

/// Reads the channel in every way there is: its records must be those before or those after the operation. Returns
/// whether they are those after, and the state.
fn check(path: &Path, operation: &Operation, context: &str) -> (bool, State) {
    let channel = Channel::open(path).unwrap_or_else(|error| panic!("{error}: {context}"));
    wait_until("the dead writer's lock is released", || !channel.writer_lives().unwrap());
    let read: Vec<_> = channel
        .records()
        .map(|record| record.unwrap_or_else(|error| panic!("{error}: {context}")).payload())
        .collect();
    let (count, whole) = (read.len() as u64, operation.before + operation.adds);
    assert!(count == operation.before || count == whole, "{count} records: {context}");
    for (i, read) in read.iter().enumerate() {
        assert!(*read == operation.payload(i as u64), "record {i} is not what was appended: {context}");
    }
    let end = channel.end_point().unwrap_or_else(|error| panic!("{error}: {context}"));
    assert_eq!(end.sequence, count, "{context}");
    let verified = channel.verify(|_| ()).unwrap_or_else(|error| panic!("{error}: {context}"));
    assert_eq!(verified, end, "{context}");
    let possible = if end.sealed { operation.end } else { Some(State::Abandoned) };
    assert_eq!(Some(end.state), possible, "{context}");

    let mut reader = channel.reader(Start::Last(2)).unwrap();
    for expected in &read[read.len().saturating_sub(2)..] {
        let record = reader.try_next().unwrap().map(|record| record.payload().to_vec());
        assert_eq!(record.as_deref(), Some(*expected), "{context}");
    }
    assert!(reader.try_next().unwrap().is_none(), "{context}");
    let ends = [(State::Abandoned, End::Abandoned), (State::Closed, End::Closed), (State::Full, End::Full)];
    let seen = reader.check_end().unwrap();
    assert!(ends.iter().any(|&(state, end_seen)| state == end.state && Some(end_seen) == seen), "{context}");
    (count == whole, end.state)
}

/// The same, and afterwards it is sealed, which changes nothing about the records; returns whether they are those after.
fn check_and_seal(path: &Path, operation: &Operation, context: &str) -> bool {
    let (after, state) = check(path, operation, context);
    match (Channel::seal(path), state) {
        (Ok(sealed), State::Abandoned) => assert_eq!(sealed.before, state, "{context}"),
        (Err(SealError::Ended { state: ended, .. }), _) => {
            assert_eq!((Some(ended), ended), (operation.end, state), "{context}");
        }
        (other, _) => panic!("{other:?}, {state}: {context}"),
    }
    let sealed = Operation { end: Some(state), ..*operation };
    assert_eq!(check(path, &sealed, &format!("{context}, sealed")), (after, state), "{context}");
    assert!(matches!(Channel::seal(path), Err(SealError::Ended { .. })), "{context}");
    after
}

/// What was done, for the last line.
#[derive(Default)]
struct Tally {
    stops: u64,
    kills: u64,
    /// Of those, before the channel had its name.
    unborn: u64,
    states: HashSet<Vec<u8>>,
}

/// A file that is looked at whenever it has changed.
struct Observed<'t> {
    operation: &'t Operation,
    copy: PathBuf,
    last: Vec<u8>,
    buffer: Vec<u8>,
    after: bool,
    tally: &'t mut Tally,
}

impl<'t> Observed<'t> {
    fn new(operation: &'t Operation, dir: &Path, tally: &'t mut Tally) -> Observed<'t> {
        let buffer = vec![0; 256 << 10];
        Observed { operation, copy: dir.join("copy"), last: Vec::new(), buffer, after: false, tally }
    }

    /// What a kill would leave at this instruction.
    fn look(&mut self, file: &File, step: u64) {
        let len = file.read_at(&mut self.buffer, 0).unwrap();
        assert!(len < self.buffer.len());
        if self.buffer[..len] == self.last[..] {
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(&self.buffer[..len]);
        let Operation { name, checksum, .. } = *self.operation;
        let mut ways = vec![("this boot", true)];
        // Without checksums nothing is believed after a boot that was not synced.
        if checksum == Checksum::Crc32c {
            ways.push(("another boot", false));
        }
        let was_after = self.after;
        for (way, same_boot) in ways {
            let context = format!("{name}: killed at stop {step}, read as in {way}");
            let copy = File::create(&self.copy).unwrap();
            let mut image = self.last.clone();
            if same_boot {
                image[104..112].copy_from_slice(&copy.metadata().unwrap().ino().to_le_bytes());
                repair_header(&mut image);
            }
            copy.write_all_at(&image, 0).unwrap();
            self.after = check_and_seal(&self.copy, self.operation, &context);
            assert!(self.after || !was_after, "a record has gone again: {context}");
        }
        self.tally.states.insert(self.last.clone());
    }
}

/// Looks at what a kill would leave at each stop of the operation; returns how many there are.
fn look_at_each(operation: &Operation, stop: fn(&Traced) -> Stop, tally: &mut Tally) -> Option<u64> {
    let dir = common::dir();
    let path = dir.path().join("channel.kek");
    let child = Traced::start(|mark| (operation.act)(&path, operation.checksum, mark))?;
    let file = File::open(&path).unwrap();
    let mut observed = Observed::new(operation, dir.path(), tally);
    observed.look(&file, 0);
    assert!(operation.adds == 0 || !observed.after, "{}: nothing is done before the mark", operation.name);
    let mut steps = 0;
    while stop(&child) == Stop::Step {
        steps += 1;
        observed.look(&file, steps);
    }
    observed.look(&file, steps);
    assert!(observed.after, "{}: everything is done behind the mark", operation.name);
    drop(child);
    // The end of it all, after a kill in earnest.
    assert!(check_and_seal(&path, operation, operation.name));
    tally.stops += steps;
    Some(steps)
}

/// Looks at the directory, and at the channel once it has its name, at each stop of its creation.
fn look_at_creation(operation: &Operation, stop: fn(&Traced) -> Stop, tally: &mut Tally) -> Option<u64> {
    let (dir, elsewhere) = (common::dir(), common::dir());
    let path = dir.path().join("channel.kek");
    let child = Traced::start(|mark| (operation.act)(&path, operation.checksum, mark))?;
    let before: Vec<_> = names_in(dir.path()).iter().map(|name| read(&dir.path().join(name))).collect();
    let mut observed = Observed::new(operation, elsewhere.path(), tally);
    let (mut named, mut stops) = (None, 0);
    loop {
        let names = names_in(dir.path());
        check_names(&names, before.len(), &format!("{}: at stop {stops}", operation.name));
        if names.iter().any(|name| name == RETIRED) {
            assert!(
                [read(&dir.path().join(RETIRED))] == before[..],
                "it is not touched before it has lost its name"
            );
        }
        if named.is_none() {
            named = File::open(&path).ok();
        }
        if let Some(file) = &named {
            observed.look(file, stops);
        }
        if stop(&child) == Stop::Mark {
            break;
        }
        stops += 1;
    }
    drop(child);
    assert!(named.is_some() && check_and_seal(&path, operation, operation.name));
    tally.stops += stops;
    Some(stops)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// What may lie in the directory in which a channel is created, of so many files in place of which it comes.
fn check_names(names: &[String], reused: usize, context: &str) {
    let most = names.len() == reused || names.len() <= 1;
    let known = |name: &String| {
        let temporary = name.starts_with(".channel.kek.") && name.ends_with(".tmp");
        name == "channel.kek" || reused > 0 && (name == RETIRED || temporary)
    };
    assert!(most && names.iter().all(known), "{names:?}: {context}");
}

/// Kills a child after `k` stops of the operation, and looks at what it has left. `Some(false)` if it was done before.
fn kill_after(operation: &Operation, stop: fn(&Traced) -> Stop, k: u64, tally: &mut Tally) -> Option<bool> {
    let dir = common::dir();
    let path = dir.path().join("channel.kek");
    let child = Traced::start(|mark| (operation.act)(&path, operation.checksum, mark))?;
    let reused = usize::from(dir.path().join(RETIRED).exists());
    for _ in 0..k {
        if stop(&child) == Stop::Mark {
            return Some(false);
        }
    }
    drop(child);
    let context = format!("{}: killed in earnest at stop {k}", operation.name);
    check_names(&names_in(dir.path()), reused, &context);
    if CREATIONS.iter().any(|creation| creation.name == operation.name) && !path.exists() {
        // Nothing is in the way of the next one.
        let retired = dir.path().join(RETIRED);
        let again = if retired.exists() {
            options(operation.checksum).create_from(retired, &path)
        } else {
            options(operation.checksum).create(&path)
        };
        again.unwrap_or_else(|error| panic!("{error}: {context}")).abandon();
        tally.unborn += 1;
    }
    let over = Writer::create(&path);
    assert!(matches!(over, Err(CreateError::AlreadyExists { .. })), "{over:?}: {context}");
    check_and_seal(&path, operation, &context);
    tally.kills += 1;
    Some(true)
}

/// Where to stop: at every instruction in the long campaign, else only at system calls where there are many.
fn stops(seldom: bool) -> (fn(&Traced) -> Stop, &'static str) {
    if seldom && !is_long() {
        (Traced::step_to_system_call, "stops at system calls")
    } else {
        (Traced::step, "instructions")
    }
}

#[test]
fn at_every_instruction_a_kill_leaves_what_was_before_or_what_comes_after() {
    let _alone = alone();
    let campaign = Campaign::new("every instruction, looked at");
    let mut tally = Tally::default();
    for operation in SMALL.iter().chain(&LARGE).chain(&CREATIONS) {
        let before = tally.states.len();
        let creates = CREATIONS.iter().any(|creation| creation.name == operation.name);
        // These take some hundred thousand where nothing is optimized.
        let (stop, what) = stops(creates || operation.name == "seal");
        let look = if creates { look_at_creation } else { look_at_each };
        let Some(count) = look(operation, stop, &mut tally) else { return };
        println!("{}: {count} {what}, {} states", operation.name, tally.states.len() - before);
    }
    let states = tally.states.len();
    campaign.done(tally.stops, format!("instructions, {states} states of the file"));
}

#[test]
fn a_kill_after_any_number_of_instructions_leaves_what_was_before_or_what_comes_after() {
    let _alone = alone();
    let campaign = Campaign::new("every instruction, killed");
    let mut tally = Tally::default();
    for operation in SMALL.iter().chain(&LARGE).chain(&CREATIONS) {
        let (stop, what) = stops(!SMALL.iter().any(|small| small.name == operation.name));
        // In the long campaign all of them, but of those that take ten thousands one in a hundred. Else some that lie
        // anywhere, fewer the longer it takes to get there.
        let is_vast = operation.name == "seal" || CREATIONS.iter().any(|c| c.name == operation.name);
        let mut numbers = campaign.numbers(1);
        let mut stride = |k: u64| match (is_long(), is_vast, what) {
            (true, false, _) => 1,
            (true, true, _) => 1 + numbers.below(400 + k / 50),
            (false, _, "instructions") => 1 + numbers.below(400 + 2 * k),
            (false, ..) => 1 + numbers.below(4 + k / 4),
        };
        let (mut k, before) = (if is_long() { 0 } else { stride(0) }, tally.kills);
        loop {
            match kill_after(operation, stop, k, &mut tally) {
                Some(true) => k += stride(k),
                Some(false) => break,
                None => return,
            }
        }
        println!("{}: {} kills in {what}", operation.name, tally.kills - before);
    }
    campaign.done(tally.kills, format!("kills, {} before the channel had its name", tally.unborn));
}
