//! What is done under faults: each scene runs on a thread of its own in a process of its own, which makes no system calls
//! but those of the library. What must not fail (preparations, looking at the result) is done by the process's main
//! thread, the helper, to which no fault is made.
//!
//! A scene says what has happened, line by line; a panic is a failure of the test. After an operation has failed it is tried
//! again, some times under the fault if that is still there, then by the helper, for whom it must succeed.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use kekbit::{
    AppendError, Channel, Checksum, CreateError, Durability, End, OpenError, Prepare, ReadError, SealError,
    SharedError, SharedWriter, Start, State, SyncError, SyncHandle, Writer, WriterOptions,
};
use nix::unistd::gettid;

use crate::common::{GENEROUS, listen, names_in, patience, payloads, record, say};

/// The longest record of a scene, unless it says otherwise.
pub(crate) const LONGEST: u64 = 100;
/// The name of the channel that a scene is about.
pub(crate) const NAME: &str = "channel.kek";
/// How often a scene tries what has failed before the helper does it.
const TRIES: u32 = 3;

/// Where a scene's files lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the directory for temporary files.
    Storage,
    /// On a file system in memory.
    Memory,
}

/// One scene.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    act: fn(&Stage),
    /// Faults that are there always: they lead to parts of the library that are for other systems.
    pub(crate) always: &'static [&'static str],
    /// Calls that fail in all threads of the process, in no order that could be repeated. If there are none, whatever the
    /// scene's own thread calls fails.
    pub(crate) in_all_threads: &'static [&'static str],
}

impl Scene {
    const fn new(name: &'static str, place: Place, act: fn(&Stage)) -> Scene {
        Scene { name, place, act, always: &[], in_all_threads: &[] }
    }
}

/// A file system that knows no files without names. The first file that is opened is /proc's, with the boot id.
const NAMED: &str = "openat:error=EOPNOTSUPP:when=2";
/// One that cannot rename without replacing either.
const UNRENAMED: &str = "renameat2:error=EINVAL:when=1+";

/// What may fail of starting the preparing thread, and of what it does.
const HELPERS: &[&str] = &["clone3", "fallocate", "madvise", "prlimit64"];

/// All scenes.
pub(crate) const SCENES: &[Scene] = &[
    Scene::new("never, inline, close", Place::Storage, |stage| {
        live(stage, &Life { durability: Durability::Never, prepare: Prepare::Inline(64 << 10), ..LIFE });
    }),
    Scene::new("at the end, on demand, close", Place::Storage, |stage| live(stage, &LIFE)),
    Scene::new("each, on demand, drop", Place::Storage, |stage| {
        live(stage, &Life { durability: Durability::Each, ending: Ending::Drop, grow: 300 << 10, ..LIFE });
    }),
    Scene::new("each, without checksums, close", Place::Storage, |stage| {
        live(stage, &Life { durability: Durability::Each, checksum: Checksum::None, grow: 1 << 10, ..LIFE });
    }),
    Scene::new("interval, inline, close", Place::Storage, |stage| {
        let (durability, prepare) = (Durability::Interval(GENEROUS * 60), Prepare::Inline(64 << 10));
        live(stage, &Life { durability, prepare, grow: 300 << 10, ..LIFE });
    }),
    Scene::new("at the end, all, close", Place::Memory, |stage| {
        live(stage, &Life { prepare: Prepare::All, capacity: 1 << 20, grow: 200 << 10, ..LIFE });
    }),
    Scene::new("at the end, inline, close, in memory", Place::Memory, |stage| {
        live(stage, &Life { prepare: Prepare::default(), grow: 300 << 10, ..LIFE });
    }),
    Scene::new("at the end, on demand, until full", Place::Storage, |stage| {
        live(stage, &Life { capacity: 64 << 10, grow: 100, ending: Ending::Full, ..LIFE });
    }),
    Scene {
        always: &[NAMED],
        ..Scene::new("without unnamed files", Place::Storage, |stage| {
            live(stage, &Life { grow: 100, ..LIFE })
        })
    },
    Scene {
        always: &[NAMED, UNRENAMED],
        ..Scene::new("without unnamed files, nor renaming without replacing", Place::Memory, |stage| {
            live(stage, &Life { grow: 100, ..LIFE });
        })
    },
    Scene::new("reuse", Place::Storage, |stage| {
        live(stage, &Life { reuse: true, durability: Durability::Each, grow: 300 << 10, ..LIFE });
    }),
    Scene::new("reuse, in memory", Place::Memory, |stage| {
        live(stage, &Life { reuse: true, grow: 300 << 10, ..LIFE });
    }),
    Scene::new("shared writer", Place::Storage, share),
    Scene { in_all_threads: &["msync"], ..Scene::new("syncing thread", Place::Storage, tick) },
    Scene {
        in_all_threads: HELPERS,
        ..Scene::new("preparing thread, in memory", Place::Memory, |stage| {
            live(stage, &Life { prepare: Prepare::Ahead(256 << 10), grow: 300 << 10, ..LIFE });
        })
    },
    Scene {
        in_all_threads: HELPERS,
        ..Scene::new("preparing thread", Place::Storage, |stage| {
            live(stage, &Life { prepare: Prepare::Ahead(4 << 20), durability: Durability::Never, ..LIFE });
        })
    },
    Scene::new("read and follow", Place::Memory, |stage| read(stage, false)),
    Scene::new("read and follow, at random", Place::Memory, |stage| read(stage, true)),
    Scene::new("seal an abandoned channel", Place::Storage, |stage| seal(stage, State::Abandoned)),
    Scene::new("seal a torn channel", Place::Storage, |stage| seal(stage, State::Torn)),
    Scene::new("sync", Place::Storage, sync_order),
];

/// What a scene runs on.
pub(crate) struct Stage {
    dir: PathBuf,
    path: PathBuf,
    /// Whether files may be left over, since it is removing them that fails.
    litter: bool,
    helper: Sender<Box<dyn FnOnce() + Send>>,
}

impl Stage {
    /// Lets the helper do something.
    fn help<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (give, take) = channel();
        self.helper.send(Box::new(move || give.send(act()).unwrap())).unwrap();
        take.recv().expect("the helper has panicked")
    }
}

/// The child process: waits to be watched, runs the scene, and helps it.
pub(crate) fn run(arguments: &[String]) {
    let scene = SCENES.iter().find(|scene| scene.name == arguments[0]).unwrap();
    let dir = PathBuf::from(&arguments[1]);
    let (helper, jobs) = channel();
    let stage = Stage { path: dir.join(NAME), dir, litter: arguments[2] == "litter", helper };
    let (go, gone) = channel();
    let (tell, told) = channel();
    let acting = std::thread::spawn(move || {
        tell.send(gettid()).unwrap();
        gone.recv().unwrap();
        (scene.act)(&stage);
    });
    say(told.recv().unwrap());
    listen();
    go.send(()).unwrap();
    for job in jobs {
        job();
    }
    acting.join().expect("the scene has panicked");
    say("done");
}

/// How a channel ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Close,
    Drop,
    Full,
}

/// A channel's life from creation to end.
#[derive(Clone, Copy, Debug)]
struct Life {
    durability: Durability,
    prepare: Prepare,
    checksum: Checksum,
    capacity: u64,
    /// What is claimed now and then, so that more space must be reserved.
    grow: usize,
    ending: Ending,
    reuse: bool,
}

const LIFE: Life = Life {
    durability: Durability::AtEnd,
    prepare: Prepare::OnDemand,
    checksum: Checksum::Crc32c,
    capacity: 32 << 20,
    grow: 5 << 20,
    ending: Ending::Close,
    reuse: false,
};

impl Life {
    fn options(&self) -> WriterOptions {
        Writer::options()
            .capacity(self.capacity)
            .max_record_len((3 * self.grow as u64).max(8 << 10))
            .durability(self.durability)
            .prepare(self.prepare)
            .checksum(self.checksum)
    }

    fn create(&self, path: &Path) -> Result<Writer, CreateError> {
        if self.reuse { self.options().create_from(retired(path), path) } else { self.options().create(path) }
    }
}

fn retired(path: &Path) -> PathBuf {
    path.with_file_name("retired.kek")
}

fn retire(path: &Path) {
    let mut writer = Writer::options().capacity(128 << 10).mode(0o640).create(retired(path)).unwrap();
    for i in 0..5 {
        writer.append(&record(1000 + i, LONGEST)).unwrap();
    }
    writer.close().unwrap();
}

fn live(stage: &Stage, life: &Life) {
    let mut scribe = Scribe::new(stage, create(stage, life));
    let grow = life.grow;
    scribe.append(|writer, at| writer.append(&record(at, LONGEST)).map(drop), 1);
    scribe.append(move |writer, at| claim(writer, grow, at), 1);
    scribe.append(batch, 3);
    scribe.sync();
    scribe.append(
        |writer, at| {
            let record = record(at, LONGEST);
            let fill = |to: &mut [u8]| {
                to[..record.len()].copy_from_slice(&record);
                record.len()
            };
            writer.append_with(100, fill).map(drop)
        },
        1,
    );
    scribe.sync_by_handle();
    scribe.append(move |writer, at| claim(writer, 3 * grow, at), 1);
    scribe.end(life);
}

fn claim(writer: &mut Writer, len: usize, at: u64) -> Result<(), AppendError> {
    let record = record(at, LONGEST);
    let mut claim = writer.claim(len)?;
    claim[..record.len()].copy_from_slice(&record);
    claim.commit(record.len()).map(drop)
}

fn batch(writer: &mut Writer, at: u64) -> Result<(), AppendError> {
    let mut batch = writer.batch();
    for i in 0..3 {
        batch.push(&record(at + i, LONGEST))?;
    }
    batch.commit().map(drop)
}

/// Creates the channel, in the end. What fails leaves nothing behind.
fn create(stage: &Stage, life: &Life) -> Writer {
    let life = *life;
    let path = stage.path.clone();
    if life.reuse {
        stage.help(move || retire(&path));
    }
    for _ in 0..TRIES {
        match life.create(&stage.path) {
            Ok(writer) => return writer,
            Err(error) => {
                assert!(!matches!(error, CreateError::Options(_)), "{error}");
                say(format_args!("failed create: {error}"));
                let (dir, path, litter) = (stage.dir.clone(), stage.path.clone(), stage.litter);
                stage.help(move || after_failed_creation(&life, &dir, &path, litter));
            }
        }
    }
    let path = stage.path.clone();
    stage.help(move || life.create(&path).expect("without faults it succeeds"))
}

/// What is there after a creation that has failed is what was there before, or, of a reused file, nothing.
fn after_failed_creation(life: &Life, dir: &Path, path: &Path, litter: bool) {
    let mut names = names_in(dir);
    if litter {
        for name in &names {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        names.clear();
    }
    if !life.reuse {
        assert_eq!(names, [""; 0], "nothing is left behind");
    } else if names.is_empty() {
        retire(path);
    } else {
        assert_eq!(names, ["retired.kek"]);
        let left = Channel::open(retired(path)).unwrap();
        assert!(payloads(&left).into_iter().eq((0..5).map(|i| record(1000 + i, LONGEST))), "as it was");
    }
}

/// Appends to a channel, and keeps account.
struct Scribe<'s> {
    stage: &'s Stage,
    /// `None` when the channel has ended.
    writer: Option<Writer>,
    handle: SyncHandle,
    /// Records that are there.
    appended: u64,
    /// The error of the sync that has failed.
    poison: Option<i32>,
}

fn code(source: &std::io::Error) -> i32 {
    source.raw_os_error().unwrap_or_else(|| panic!("no error of the system: {source}"))
}

impl<'s> Scribe<'s> {
    fn new(stage: &'s Stage, writer: Writer) -> Scribe<'s> {
        let handle = writer.sync_handle();
        Scribe { stage, writer: Some(writer), handle, appended: 0, poison: None }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    fn acknowledge(&mut self, count: u64) {
        self.appended += count;
        say(format_args!("appended {}", self.appended));
        let (expected, tail) = (self.appended, self.writer().tail());
        assert_eq!(self.writer().next_sequence(), expected);
        assert!(self.handle.synced_tail() <= tail);
    }

    /// Appends `count` records by `act`, which gets the sequence of the first; unless the writer is poisoned.
    fn append(
        &mut self,
        act: impl Fn(&mut Writer, u64) -> Result<(), AppendError> + Copy + Send + 'static,
        count: u64,
    ) {
        for _ in 0..TRIES {
            if self.poison.is_some() {
                return;
            }
            let at = self.appended;
            let (tail, synced) = (self.writer().tail(), self.handle.synced_tail());
            let Err(error) = act(self.writer(), at) else { return self.acknowledge(count) };
            say(format_args!("failed append: {error}"));
            match error {
                AppendError::NoSpace { .. } | AppendError::Io { .. } => {
                    assert_eq!(
                        (self.writer().tail(), self.writer().next_sequence()),
                        (tail, at),
                        "as it was"
                    );
                }
                AppendError::Sync { source } => {
                    // It is visible all the same.
                    self.acknowledge(count);
                    self.poisoned(code(&source), synced);
                }
                AppendError::Poisoned { source } => self.poisoned(code(&source), synced),
                other => panic!("{other:?}"),
            }
        }
        if self.poison.is_none() {
            let (mut writer, at) = (self.writer.take().unwrap(), self.appended);
            self.writer = Some(self.stage.help(move || {
                act(&mut writer, at).expect("it goes on once nothing fails");
                writer
            }));
            self.acknowledge(count);
        }
    }

    /// The writer is of no use any more, for good and for everybody, and says why; nothing counts as synced that was not
    /// before.
    fn poisoned(&mut self, errno: i32, synced: kekbit::Position) {
        assert_eq!(*self.poison.get_or_insert(errno), errno, "the first error is kept");
        say(format_args!("poisoned {errno}"));
        let (path, handle, appended) = (self.stage.path.clone(), self.handle.clone(), self.appended);
        let mut writer = self.writer.take().unwrap();
        self.writer = Some(self.stage.help(move || {
            assert_eq!((handle.synced_tail(), writer.synced_tail()), (synced, synced));
            let channel = Channel::open(path).unwrap();
            assert_eq!(channel.synced_tail(), synced, "what the failed sync did not reach is not synced");
            for _ in 0..2 {
                match writer.append(b"never") {
                    Err(AppendError::Poisoned { source }) => assert_eq!(code(&source), errno),
                    other => panic!("{other:?}"),
                }
                assert!(!writer.fits(1));
                // Nothing fails any more, but what has failed stays lost.
                for (by_handle, done) in [(false, writer.sync()), (true, handle.sync().map(drop))] {
                    match done {
                        Err(SyncError::Failed { source }) => assert_eq!(code(&source), errno),
                        // The sync that has failed was not of records: they are all durable.
                        Ok(()) if by_handle && synced == writer.tail() => {}
                        Ok(()) => panic!("a sync that has failed does not succeed later"),
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(handle.failure().map(|source| code(&source)), Some(errno));
            }
            assert_eq!(payloads(&channel).len() as u64, appended);
            writer
        }));
    }

    fn sync(&mut self) {
        if self.poison.is_none() {
            let synced = self.handle.synced_tail();
            let done = self.writer().sync();
            self.after_sync(done, synced);
        }
    }

    fn sync_by_handle(&mut self) {
        if self.poison.is_none() {
            let synced = self.handle.synced_tail();
            let done = self.handle.sync().map(drop);
            self.after_sync(done, synced);
        }
    }

    fn after_sync(&mut self, done: Result<(), SyncError>, before: kekbit::Position) {
        match done {
            Ok(()) => {
                let tail = self.writer().tail();
                assert_eq!(self.handle.synced_tail(), tail);
                say(format_args!("synced {}", tail.offset()));
            }
            Err(SyncError::Failed { source }) => {
                say(format_args!("failed sync: {source}"));
                self.poisoned(code(&source), before);
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn end(mut self, life: &Life) {
        if life.ending == Ending::Full {
            self.fill();
        }
        let is_full = self.writer().is_ended();
        let writer = self.writer.take().unwrap();
        if life.ending == Ending::Drop {
            drop(writer);
            if let Some(error) = self.handle.failure().filter(|_| self.poison.is_none()) {
                say(format_args!("failed drop: {error}"));
            }
            return;
        }
        match (writer.close(), self.poison) {
            (Ok(()), None) => say(if is_full { "ended full" } else { "ended closed" }),
            (Err(SyncError::Trim { source }), None) => {
                say(format_args!("failed to give back space: {source}"));
                say("ended closed");
            }
            (Err(SyncError::Failed { source }), Some(errno)) => assert_eq!(code(&source), errno),
            (Err(SyncError::Failed { source }), None) => say(format_args!("failed close: {source}")),
            other => panic!("{other:?}"),
        }
    }

    /// Appends until the channel is full.
    fn fill(&mut self) {
        while self.poison.is_none() {
            let (at, synced) = (self.appended, self.handle.synced_tail());
            match self.writer().append(&record(at, LONGEST)) {
                Ok(_) => {
                    self.appended += 1;
                    if self.writer().fits(LONGEST as usize) {
                        continue;
                    }
                    say(format_args!("appended {}", self.appended));
                }
                Err(AppendError::Full { .. }) => {
                    assert!(matches!(self.writer().append(b"x"), Err(AppendError::Full { .. })));
                    return;
                }
                Err(AppendError::Poisoned { source }) => {
                    say(format_args!("failed append: {source}"));
                    self.poisoned(code(&source), synced);
                }
                Err(error) => {
                    say(format_args!("failed append: {error}"));
                    let mut writer = self.writer.take().unwrap();
                    self.writer = Some(self.stage.help(move || {
                        writer.append(&record(at, LONGEST)).expect("it goes on once nothing fails");
                        writer
                    }));
                    self.acknowledge(1);
                }
            }
        }
    }
}

/// Threads that share a writer with each append durable.
fn share(stage: &Stage) {
    let life = Life { durability: Durability::Each, grow: 100, ..LIFE };
    let writer = SharedWriter::new(create(stage, &life));
    let (mut appended, mut failed) = (0, None);
    for turn in 0..8_u64 {
        let at = appended;
        let done = if turn % 3 == 2 {
            let other = writer.clone();
            stage.help(move || other.append(&record(at, LONGEST)))
        } else {
            writer.append(&record(at, LONGEST))
        };
        match done {
            Ok(at) => {
                assert_eq!((at.sequence, failed), (appended, None));
                assert!(writer.sync_handle().synced_tail() > at.position, "it is durable");
                appended += 1;
            }
            Err(SharedError::Append(AppendError::Sync { source })) => {
                say(format_args!("failed append: {source}"));
                assert_eq!(failed.replace(code(&source)), None, "nothing is appended after that");
                appended += 1;
            }
            Err(SharedError::Append(AppendError::Poisoned { source })) => {
                say(format_args!("failed append: {source}"));
                assert_eq!(*failed.get_or_insert(code(&source)), code(&source), "the first error is kept");
            }
            Err(SharedError::Append(error @ (AppendError::NoSpace { .. } | AppendError::Io { .. }))) => {
                say(format_args!("failed append: {error}"));
            }
            Err(other) => panic!("{other:?}"),
        }
        say(format_args!("appended {appended}"));
    }
    if let Some(errno) = failed {
        say(format_args!("poisoned {errno}"));
    }
    match (writer.close(), failed) {
        (Ok(()), None) => say("ended closed"),
        (Err(SyncError::Trim { source }), None) => {
            say(format_args!("failed to give back space: {source}"));
            say("ended closed");
        }
        (Err(SyncError::Failed { source }), Some(errno)) => assert_eq!(code(&source), errno),
        (Err(SyncError::Failed { source }), None) => say(format_args!("failed close: {source}")),
        other => panic!("{other:?}"),
    }
}

/// A thread of the writer's own syncs.
fn tick(stage: &Stage) {
    let life = Life { durability: Durability::Interval(Duration::from_millis(1)), grow: 100, ..LIFE };
    let mut scribe = Scribe::new(stage, create(stage, &life));
    for _ in 0..3 {
        if scribe.handle.failure().is_some() {
            break;
        }
        let at = scribe.appended;
        match scribe.writer().append(&record(at, LONGEST)) {
            Ok(_) => scribe.acknowledge(1),
            Err(AppendError::Poisoned { .. }) => break,
            Err(error) => {
                say(format_args!("failed append: {error}"));
                continue;
            }
        }
        let (begun, tail) = (Instant::now(), scribe.writer().tail());
        while scribe.handle.synced_tail() < tail && scribe.handle.failure().is_none() {
            assert!(begun.elapsed() < GENEROUS, "it is synced by itself");
            std::thread::yield_now();
        }
    }
    if let Some(error) = scribe.handle.failure() {
        say(format_args!("failed sync: {error}"));
        let synced = scribe.handle.synced_tail();
        scribe.poisoned(code(&error), synced);
    }
    scribe.end(&life);
}

/// Tries something under the fault, and then lets the helper do it.
fn insist<T: Send + 'static, E: std::error::Error>(
    stage: &Stage,
    what: &str,
    act: impl Fn() -> Result<T, E> + Send + 'static,
) -> T {
    for _ in 0..TRIES {
        match act() {
            Ok(done) => return done,
            Err(error) => say(format_args!("failed {what}: {error}")),
        }
    }
    stage.help(move || act().expect("without faults it succeeds"))
}

/// Reads a channel and follows it while it is written, till its writer has died.
fn read(stage: &Stage, random: bool) {
    let path = stage.path.clone();
    let mut writer = stage.help(move || {
        let mut writer = Writer::options().capacity(1 << 20).create(path).unwrap();
        append_until(&mut writer, 20);
        writer
    });
    let path = stage.path.clone();
    let channel = insist(stage, "open", move || -> Result<Channel, OpenError> {
        Channel::options().random_access(random).open(&path)
    });
    let again = channel.clone();
    let mut reader = insist(stage, "read", move || again.reader(Start::Beginning));
    let mut count = 0;
    // The file grows again and again, which the reader must find out.
    for written in [20, 2000, 4000, 6000] {
        writer = stage.help(move || {
            append_until(&mut writer, written);
            writer
        });
        let mut failures = 0;
        while count < written {
            match reader.try_next() {
                Ok(Some(found)) => {
                    assert!(found[..] == record(count, LONGEST)[..] && found.sequence() == count);
                    count += 1;
                }
                Ok(None) => panic!("record {count} is there"),
                Err(ReadError::Io { source, .. }) => {
                    say(format_args!("failed read: {source}"));
                    failures += 1;
                    if failures >= TRIES {
                        reader = stage.help(move || {
                            let found = reader.try_next().expect("without faults it is read").unwrap();
                            assert!(found[..] == record(count, LONGEST)[..]);
                            reader
                        });
                        count += 1;
                    }
                }
                Err(other) => panic!("{other}"),
            }
        }
        match reader.check_end() {
            Ok(end) => assert_eq!(end, None, "the writer lives"),
            Err(error) => say(format_args!("failed check: {error}")),
        }
        say(format_args!("read {count}"));
    }
    let states = [
        channel.end_point().map(|end| end.state),
        channel.verify(|_| ()).map(|end| end.state),
        channel.writer_lives().map(|lives| if lives { State::Open } else { State::Abandoned }),
    ];
    for state in states {
        match state {
            Ok(state) => assert_eq!(state, State::Open),
            Err(error) => say(format_args!("failed look: {error}")),
        }
    }
    for start in [Start::Last(5), Start::Sequence(5995)] {
        match channel.records_from(start) {
            Ok(records) => {
                let found: Vec<_> = records.collect();
                assert!(found.len() <= 5);
                for (found, at) in found.into_iter().zip(5995..) {
                    match found {
                        Ok(found) => assert!(found[..] == record(at, LONGEST)[..]),
                        Err(error) => say(format_args!("failed read: {error}")),
                    }
                }
            }
            Err(error) => say(format_args!("failed seek: {error}")),
        }
    }
    if let Err(error) = channel.is_on_storage() {
        say(format_args!("failed look: {error}"));
    }
    stage.help(move || writer.abandon());
    let mut failures = 0;
    let end = loop {
        // The helper waits where it keeps failing.
        let waited = if failures < TRIES {
            reader.next(patience()).map(|found| found.is_some())
        } else {
            let (moved, waited) = stage.help(move || {
                let waited = reader.next(patience()).map(|found| found.is_some());
                (reader, waited)
            });
            reader = moved;
            Ok(waited.expect("without faults it ends"))
        };
        match waited {
            Ok(found) => {
                assert!(!found, "nothing was appended");
                break reader.end();
            }
            Err(error) => {
                say(format_args!("failed wait: {error}"));
                failures += 1;
            }
        }
    };
    assert_eq!(end, Some(End::Abandoned));
    say("appended 6000");
}

fn append_until(writer: &mut Writer, count: u64) {
    while writer.next_sequence() < count {
        let at = writer.next_sequence();
        writer.append(&record(at, LONGEST)).unwrap();
    }
}

/// Seals a channel whose writer has died. A torn one has a record that did not survive a crash of the machine.
fn seal(stage: &Stage, before: State) {
    let path = stage.path.clone();
    stage.help(move || {
        let written = path.with_file_name("written");
        let mut writer = Writer::options().capacity(256 << 10).create(&written).unwrap();
        append_until(&mut writer, 9);
        let last = writer.tail().offset();
        append_until(&mut writer, 10);
        writer.abandon();
        let lives = || Channel::open(&written).unwrap().writer_lives().unwrap();
        crate::common::wait_until("its lock is released", || !lives());
        if before == State::Torn {
            // A copy is another file, to which the rules for after a crash apply. Its last record is damaged.
            let mut bytes = std::fs::read(&written).unwrap();
            let at = crate::common::data_offset(&bytes) + last;
            bytes[at as usize] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            std::fs::remove_file(&written).unwrap();
        } else {
            std::fs::rename(&written, &path).unwrap();
        }
    });
    let records = if before == State::Torn { 9 } else { 10 };
    let mut failed = false;
    for attempt in 0..=TRIES {
        let path = stage.path.clone();
        let sealed =
            if attempt < TRIES { Channel::seal(&path) } else { stage.help(move || Channel::seal(path)) };
        match sealed {
            Ok(sealed) => {
                assert_eq!((sealed.end.sequence, sealed.end.sealed), (records, true));
                break;
            }
            // What has failed came after the end was in place.
            Err(SealError::Ended { .. }) if failed => break,
            Err(error) => {
                assert!(attempt < TRIES, "without faults it succeeds: {error}");
                say(format_args!("failed seal: {error}"));
                failed = true;
            }
        }
    }
    say(format_args!("appended {records}"));
    say("ended abandoned");
}

/// Three syncs one after the other.
fn sync_order(stage: &Stage) {
    let mut scribe = Scribe::new(stage, create(stage, &Life { grow: 100, ..LIFE }));
    for _ in 0..3 {
        scribe.append(|writer, at| writer.append(&record(at, LONGEST)).map(drop), 1);
        scribe.sync();
    }
    scribe.end(&LIFE);
}
