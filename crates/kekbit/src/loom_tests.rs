//! The publish protocol under a model checker: every interleaving of writer and readers, and every value that the memory
//! model lets a load return.
//!
//! What runs here is the code that runs over a mapped file ([`Room`], [`Window`], [`Cursor`]), with the same orderings
//! ([`ordering`]); only the memory is [loom]'s. Payloads are loaded and stored word by word, Relaxed, so that a missing
//! Release or Acquire shows as a stale payload instead of undefined behaviour.
//!
//! Each model is run once as it is and must pass, and once for each [`Mutant`] that it is there to catch, and must fail.
//! Two readers are explored up to a number of preemptions, which the test names; everything else to the end.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool as PlainBool, AtomicU64 as PlainU64, AtomicUsize as PlainUsize};

use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use loom::thread;

use crate::cursor::{Belief, Cursor, Growth, Rules, Silence, Step};
use crate::error::ReadError;
use crate::layout::frame::{Checksum, Head, Kind, Salt, WORD, kind_and_length};
use crate::memory::{Memory, WriteMemory, ordering};
use crate::publish::{Room, Window};

/// What is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// A frame is published by a Relaxed store.
    NoRelease,
    /// A reader looks for a frame with a Relaxed load.
    NoAcquire,
    /// No zero is put behind a frame.
    NoZero,
    /// A reader does not look again after it has asked for the writer's lock.
    NoSecondLook,
    /// A file is reused without regard to the readers' lock.
    NoReadersLock,
    /// Having locked a file, a reader does not compare it with the path.
    NoNameCheck,
}

/// The memory of a channel: words of the model checker, shared by the threads of a model.
#[derive(Clone, Debug)]
struct Words {
    words: Arc<Vec<AtomicU64>>,
    mutant: Mutant,
    /// For [`Mutant::NoSecondLook`]: whether loads return `looked`, what the one before has returned.
    frozen: Arc<PlainBool>,
    looked: Arc<PlainU64>,
}

impl Words {
    fn new(len: usize, mutant: Mutant) -> Words {
        let words = (0..len).map(|_| AtomicU64::new(0)).collect();
        Words { words: Arc::new(words), mutant, frozen: Arc::default(), looked: Arc::default() }
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        &self.words[(at / WORD) as usize]
    }

    /// The same memory, for another thread.
    fn share(&self) -> Words {
        Words { frozen: Arc::default(), looked: Arc::default(), ..self.clone() }
    }
}

// The model checker's words are atomic, so that no safe or unsafe use of them is undefined behaviour.
impl Memory for Words {
    type Bytes<'a> = Vec<u8>;

    fn len(&self) -> u64 {
        self.words.len() as u64 * WORD
    }

    unsafe fn load(&self, at: u64) -> u64 {
        if self.frozen.load(Ordering::Relaxed) {
            return self.looked.load(Ordering::Relaxed);
        }
        let order = if self.mutant == Mutant::NoAcquire { Ordering::Relaxed } else { ordering::LOOK };
        let word = self.word(at).load(order);
        self.looked.store(word, Ordering::Relaxed);
        word
    }

    unsafe fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        let words = (at..at + len).step_by(8).map(|at| self.word(at).load(Ordering::Relaxed));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(len as usize);
        bytes
    }
}

impl WriteMemory for Words {
    unsafe fn publish(&self, at: u64, word: u64) {
        let order = if self.mutant == Mutant::NoRelease { Ordering::Relaxed } else { ordering::PUBLISH };
        self.word(at).store(word, order);
    }

    unsafe fn clear(&self, at: u64) {
        if self.mutant != Mutant::NoZero {
            self.word(at).store(0, ordering::CLEAR);
        }
    }

    unsafe fn fill(&self, at: u64, bytes: &[u8]) {
        for (i, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(at + 8 * i as u64).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }
}

/// The file reaches as far as the memory.
struct Whole(u64);

impl Growth for Whole {
    fn data_len(&self) -> Result<u64, ReadError> {
        Ok(self.0)
    }

    fn durable_tail(&self) -> u64 {
        u64::MAX
    }
}

/// The salt of a life of the file.
fn salt(life: u64) -> Salt {
    Salt::new([0x51 + life as u8; 16])
}

/// A writer at the beginning of `memory`, with all of it as room.
fn room(memory: &Words, life: u64) -> Room<Words> {
    let mut room = Room::new(memory.share(), 0, 64, salt(life), Checksum::Crc32c);
    room.set_limit(memory.len(), true);
    room
}

/// Fills `words` words of space behind the tail, as a claim does that is then dropped or forgotten. Wherever the next
/// frame may end there is what looks like the head of a record of 8 bytes.
fn claim(memory: &Words, tail: u64, words: usize) {
    for at in (tail + WORD..).step_by(8).take(words) {
        let kl = kind_and_length(Kind::Record, 8);
        let head = Head::new(kl, salt(0).mix(at, kl));
        // SAFETY: inside the memory, behind the tail, and this is the writer's thread.
        unsafe { memory.fill(at, &head.0.to_le_bytes()) };
    }
}

/// A reader of life `life` at the beginning.
fn cursor(memory: Words, life: u64, verify: bool) -> Cursor<Words> {
    let rules = Rules {
        salt: salt(life),
        checksum: Checksum::Crc32c,
        verify,
        belief: Belief::LIVE,
        around: 0,
        max_record_len: 64,
    };
    let bound = memory.len();
    let window = Window::new(memory, bound);
    Cursor::new(window, 0, rules)
}

fn record(life: u64, sequence: u64) -> [u8; 8] {
    (0xA0_0000 + life * 0x1000 + sequence + 1).to_le_bytes()
}

/// A batch's payload: two records of 8 bytes.
fn batch(first: u64) -> Vec<u8> {
    let head = Head::new(kind_and_length(Kind::Record, 8), 0).0;
    let words =
        [2, head, u64::from_le_bytes(record(0, first)), head, u64::from_le_bytes(record(0, first + 1))];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Takes a step, and checks what it finds against the `records` records and the `end` of life `life`.
fn check_step(cursor: &mut Cursor<Words>, memory: &Words, life: u64, records: u64, end: Kind) -> Step {
    let before = cursor.sequence();
    let step = cursor.step(&Whole(memory.len())).expect("a live channel is never damaged");
    match step {
        Step::Record => {
            assert!(before < records, "a record that was never written");
            assert_eq!(cursor.record(), record(life, before), "record {before} is stale");
        }
        Step::End(kind) => assert_eq!((before, kind), (records, end), "an end that was never written"),
        Step::Torn | Step::Unsynced => {
            panic!("a live channel is never torn, and nobody asked for what is durable")
        }
        Step::Nothing => {}
    }
    step
}

/// Follows the channel for at most `polls` polls.
fn follow(memory: &Words, verify: bool, polls: usize, records: u64) {
    let mut cursor = cursor(memory.share(), 0, verify);
    for _ in 0..polls {
        match check_step(&mut cursor, memory, 0, records, Kind::Closed) {
            Step::End(_) => return,
            Step::Nothing => thread::yield_now(),
            _ => {}
        }
    }
}

/// Writer: a claim that is forgotten, a record, a claim that is dropped, a batch of two, the end. Meanwhile one reader
/// for each of `readers`, which says whether it verifies. Afterwards everything is there.
fn stream(mutant: Mutant, readers: &'static [bool], with_batch: bool) {
    let memory = Words::new(if with_batch { 12 } else { 9 }, mutant);
    let records = if with_batch { 3 } else { 2 };
    let threads: Vec<_> = readers
        .iter()
        .map(|&verify| {
            let memory = memory.share();
            thread::spawn(move || follow(&memory, verify, 4, records))
        })
        .collect();
    let mut writer = room(&memory, 0);
    claim(&memory, writer.tail(), 3);
    writer.append(&record(0, 0)).expect("it fits");
    claim(&memory, writer.tail(), 2);
    if with_batch {
        writer.append_as(Kind::Batch, &batch(1)).expect("it fits");
    } else {
        writer.append(&record(0, 1)).expect("it fits");
    }
    writer.end(Kind::Closed);
    for thread in threads {
        thread.join().expect("a reader");
    }
    let mut cursor = cursor(memory.share(), 0, true);
    for _ in 0..records {
        assert_eq!(check_step(&mut cursor, &memory, 0, records, Kind::Closed), Step::Record);
    }
    assert_eq!(check_step(&mut cursor, &memory, 0, records, Kind::Closed), Step::End(Kind::Closed));
}

/// The writer appends `appended` records, leaves half a claim behind, and dies: the kernel releases its lock. A reader
/// that is then told by [`Cursor::silence`] that this is final has seen everything.
fn death(mutant: Mutant, appended: u64) {
    let memory = Words::new(8, mutant);
    // Held from the beginning. Release and Acquire stand for the kernel's own lock around its list of locks.
    let lock = Arc::new(AtomicBool::new(true));
    let reader = {
        let (memory, lock) = (memory.share(), Arc::clone(&lock));
        let frozen = Arc::clone(&memory.frozen);
        thread::spawn(move || {
            let whole = memory.share();
            let mut cursor = cursor(memory, 0, false);
            loop {
                if check_step(&mut cursor, &whole, 0, appended, Kind::Closed) != Step::Nothing {
                    continue;
                }
                let silence = cursor.silence(|| {
                    let lives = lock.load(Ordering::Acquire);
                    frozen.store(mutant == Mutant::NoSecondLook, Ordering::Relaxed);
                    Ok::<_, Infallible>(lives)
                });
                frozen.store(false, Ordering::Relaxed);
                match silence {
                    Ok(Silence::Broken) => {}
                    Ok(Silence::Pause) => thread::yield_now(),
                    Ok(Silence::Final) => break,
                }
            }
            assert_eq!(cursor.sequence(), appended, "found abandoned before its last record was seen");
        })
    };
    let mut writer = room(&memory, 0);
    for sequence in 0..appended {
        writer.append(&record(0, sequence)).expect("it fits");
    }
    claim(&memory, writer.tail(), 2);
    lock.store(false, Ordering::Release);
    reader.join().expect("the reader");
}

/// A file that is being reused: what it is called, who reads it, whose header it has. Lives and names have the same
/// numbers; in between it has no name.
#[derive(Debug)]
struct File {
    name: AtomicUsize,
    /// The readers' byte: how many share it, or [`EXCLUSIVE`].
    readers: AtomicUsize,
    header: AtomicU64,
    memory: Words,
}

const NAMELESS: usize = 9;
const EXCLUSIVE: usize = 1 << 16;

/// Opens the file under the name of life `life`, as `Channel::open` does, reads, and closes it.
fn open_and_read(file: &File, life: u64, records: u64, end: Kind) {
    let is_named = || file.name.load(Ordering::Acquire) == life as usize;
    if !is_named() {
        return;
    }
    if file.readers.fetch_add(1, Ordering::Acquire) < EXCLUSIVE
        && (file.memory.mutant == Mutant::NoNameCheck || is_named())
    {
        assert_eq!(file.header.load(Ordering::Relaxed), life, "the header of another life");
        let mut cursor = cursor(file.memory.share(), life, false);
        for _ in 0..3 {
            check_step(&mut cursor, &file.memory, life, records, end);
        }
    }
    file.readers.fetch_sub(1, Ordering::Release);
}

/// A file with two records and an end is reused, as `create_from` does, and two records are appended in its next life,
/// with the first life's frames behind the tail. Meanwhile one reader opens it by its old name, one by the new one.
fn reuse(mutant: Mutant) {
    let memory = Words::new(6, mutant);
    let mut first = room(&memory, 0);
    first.append(&record(0, 0)).expect("it fits");
    first.append(&record(0, 1)).expect("it fits");
    first.end(Kind::Closed);
    let file = Arc::new(File {
        name: AtomicUsize::new(0),
        readers: AtomicUsize::new(0),
        header: AtomicU64::new(0),
        memory,
    });
    let readers = [(0, Kind::Closed), (1, Kind::Abandoned)].map(|(life, end)| {
        let file = Arc::clone(&file);
        thread::spawn(move || open_and_read(&file, life, 2, end))
    });
    let exclusive = file.readers.compare_exchange(0, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed);
    if mutant == Mutant::NoReadersLock || exclusive.is_ok() {
        file.name.store(NAMELESS, Ordering::Release);
        // SAFETY: inside the memory, and nobody else may look at it now.
        unsafe { file.memory.fill(0, &[0; 8]) };
        file.header.store(1, Ordering::Relaxed);
        if exclusive.is_ok() {
            file.readers.fetch_sub(EXCLUSIVE, Ordering::Release);
        }
        file.name.store(1, Ordering::Release);
        let mut next = room(&file.memory, 1);
        next.append(&record(1, 0)).expect("it fits");
        next.append(&record(1, 1)).expect("it fits");
    }
    for reader in readers {
        reader.join().expect("a reader");
    }
}

/// Explores `model`, with at most so many preemptions if there is a bound, and returns how many executions there are.
fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) -> usize {
    let executions = Arc::new(PlainUsize::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    executions.load(Ordering::Relaxed)
}

/// Asserts that a mutant is caught, by an assertion that says `because`.
fn assert_caught(because: &str, model: impl Fn() + Send + Sync + 'static) {
    let caught = catch_unwind(AssertUnwindSafe(|| explore(Some(3), model)));
    let panic = match caught {
        Ok(executions) => panic!("the mutant has survived {executions} executions"),
        Err(panic) => panic,
    };
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    println!("caught: {message}");
    assert!(message.contains(because), "the mutant was caught for another reason: {message}");
}

/// Explores a model that must pass.
fn assert_holds(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let executions = explore(preemptions, model);
    println!("{executions} executions");
    assert!(executions > 1, "there is nothing to explore");
}

/// Explored without a bound it takes a minute, with 240773 executions, and holds.
#[test]
fn two_readers_see_records_as_they_were_written() {
    assert_holds(Some(3), || stream(Mutant::None, &[false, true], false));
}

/// Explored without a bound it takes half a minute, with 63400 executions, and holds.
#[test]
fn two_readers_see_a_batch_whole_or_not_at_all() {
    assert_holds(Some(3), || stream(Mutant::None, &[false, true], true));
}

#[test]
fn a_reader_sees_every_interleaving_with_its_writer() {
    for with_batch in [false, true] {
        assert_holds(None, move || stream(Mutant::None, &[false], with_batch));
        assert_holds(None, move || stream(Mutant::None, &[true], with_batch));
    }
}

#[test]
fn a_dead_writer_is_noticed_after_its_last_record() {
    for appended in 0..=2 {
        assert_holds(None, move || death(Mutant::None, appended));
    }
}

#[test]
fn a_reused_file_shows_each_reader_one_life() {
    assert_holds(Some(3), || reuse(Mutant::None));
}

#[test]
fn publishing_without_release_is_caught() {
    assert_caught("is stale", || stream(Mutant::NoRelease, &[false], false));
}

#[test]
fn looking_without_acquire_is_caught() {
    assert_caught("is stale", || stream(Mutant::NoAcquire, &[false], false));
}

#[test]
fn checksums_notice_a_missing_acquire() {
    assert_caught("never damaged", || stream(Mutant::NoAcquire, &[true], false));
}

#[test]
fn a_batch_published_without_release_is_caught() {
    assert_caught("never damaged", || stream(Mutant::NoRelease, &[true], true));
}

#[test]
fn a_missing_zero_shows_the_leftovers_of_a_claim() {
    assert_caught("is stale", || stream(Mutant::NoZero, &[false], false));
}

#[test]
fn a_missing_zero_shows_the_frames_of_an_earlier_life() {
    assert_caught("is stale", || reuse(Mutant::NoZero));
}

#[test]
fn a_missing_second_look_loses_the_last_record() {
    assert_caught("found abandoned before", || death(Mutant::NoSecondLook, 1));
}

#[test]
fn reuse_without_the_readers_lock_is_caught() {
    assert_caught("is stale", || reuse(Mutant::NoReadersLock));
}

#[test]
fn opening_without_a_look_at_the_name_is_caught() {
    assert_caught("the header of another life", || reuse(Mutant::NoNameCheck));
}
