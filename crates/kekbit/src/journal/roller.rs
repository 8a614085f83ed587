//! Where a journal's writer goes on when its channel is at its end.
//!
//! ```text
//!                    successor                 retire
//! writer:  ...full --> [ named, begins ] --> old one: terminal ........................ first frame in the new one
//!                          ^                        \
//! helper:   prepared, nameless <--- reused <--- given up <--- synced, trimmed
//! ```
//!
//! In this order: the successor gets its name, then the old channel its terminal frame, then the successor its first frame. So
//! whoever finds the terminal finds the successor, and a channel that has no terminal has no successor with records.
//!
//! Nothing of this waits for the disk: the successor was made beforehand, and what has ended is synced by the helper, or by
//! whoever syncs next. Nor does the writer wait for the helper: what is not prepared it makes itself.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::lock::WriterLock;
use super::names::{NOT_BEGUN, channel_path, read_header};
use super::period::Period;
use super::retention::{Retention, Segment};
use super::times::{Began, Times};
use super::{LEAST_ROOM, cursor};
use crate::create::Nameless;
use crate::error::{AppendError, CreateError, SyncError, is_no_space_error};
use crate::layout::header::Header;
use crate::mapping::Mapping;
use crate::options::{Durability, WriterOptions};
use crate::pen::{Pen, Successors};
use crate::syncer::{Ending, Syncer};
use crate::syncs::{Ended, Syncs};
use crate::sys::file;
use crate::time::{Clock, boot_id, unix_nanos};

/// Mapped bytes of channels that have ended, which are kept for those that will be written in the same files.
const KEEP_MAPPED: u64 = 256 << 20;
/// However large they are, so many are kept.
const KEEP_LEAST: usize = 2;
/// Channels that have ended and wait for the helper: with so many, the writer does it itself.
const BACKLOG: usize = 16;

/// How the channels of a journal are made, and which of them are kept.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) options: WriterOptions<()>,
    /// Of each channel, but for what tells them apart.
    pub(crate) header: Header,
    pub(crate) every: Option<Period>,
    pub(crate) retention: Retention,
}

impl Plan {
    fn header(&self) -> Result<Header, CreateError> {
        let salt = file::random();
        let salt = salt.map_err(|source| CreateError::Io {
            action: "find random bytes for",
            path: self.directory.clone(),
            source,
        })?;
        Ok(Header { salt, boot_id: boot_id(), first_sequence: NOT_BEGUN, ..self.header.clone() })
    }

    /// A channel that has not begun, in a file of its own.
    fn prepare(&self) -> Result<Nameless, CreateError> {
        self.options.create_nameless(self.header()?, &channel_path(&self.directory, NOT_BEGUN))
    }

    /// The same in the file of the channel that begins with `first`, which is given up by that.
    fn reuse(&self, first: u64, mapping: &mut Option<Mapping>) -> Result<Nameless, CreateError> {
        let retired = channel_path(&self.directory, first);
        let place = channel_path(&self.directory, NOT_BEGUN);
        self.options.reuse_nameless(self.header()?, &retired, mapping, &place)
    }

    /// Whether the file with the name of such a channel is one: what is something else is nobody's to remove.
    fn is_ours(&self, first: u64) -> bool {
        read_header(&channel_path(&self.directory, first)).is_ok_and(|header| header.first_sequence == first)
    }

    fn bytes_of(&self, first: u64) -> u64 {
        fs::symlink_metadata(channel_path(&self.directory, first)).map_or(0, |file| 512 * file.blocks())
    }
}

/// What writer and helper share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    state: Mutex<State>,
    /// Something is to be done.
    wake: Condvar,
    /// Whether the time of the channel that is being written is over.
    due: AtomicBool,
    /// Held while channels are given up: one after the other.
    retaining: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The next channel.
    ready: Option<Nameless>,
    /// Whether one is to be prepared.
    wanted: bool,
    /// Channels that have ended, with their writers.
    retired: VecDeque<Pen>,
    /// Channels that have ended and are there, oldest first.
    segments: Vec<Segment>,
    /// Mappings of some of them.
    mappings: VecDeque<(u64, Mapping)>,
    /// The channel that is being written: its first record, and when its time is over.
    first: u64,
    over: Option<u64>,
    syncer: Weak<Syncer>,
    /// Whether it is to be seen what can be given up.
    retains: bool,
    stops: bool,
}

/// One thing to be done by the helper.
enum Job {
    Prepare,
    Retire(Box<Pen>),
    Retain,
    /// The time of the channel that is being written is over.
    Over,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked, the state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do; `None` at the end.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.wanted && state.ready.is_none() && !state.stops {
                state.wanted = false;
                return Some(Job::Prepare);
            }
            if let Some(pen) = state.retired.pop_front() {
                return Some(Job::Retire(Box::new(pen)));
            }
            if std::mem::take(&mut state.retains) {
                return Some(Job::Retain);
            }
            if state.stops {
                return None;
            }
            let now = unix_nanos();
            state = match state.over {
                Some(over) if over <= now => {
                    state.over = None;
                    return Some(Job::Over);
                }
                Some(over) => {
                    // Not longer than that: the system's clock may be set.
                    let rest = Duration::from_nanos(over - now).min(Duration::from_secs(1));
                    self.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn work(&self, syncs: &Syncs) {
        while let Some(job) = self.next_job() {
            match job {
                Job::Prepare => self.prepare(),
                Job::Retire(pen) => self.settle(*pen, syncs),
                Job::Retain => self.retain(),
                Job::Over => {
                    self.due.store(true, Ordering::SeqCst);
                    let syncer = self.state().syncer.upgrade();
                    if let Some(syncer) = syncer {
                        syncer.gate().pause();
                    }
                }
            }
        }
    }

    fn prepare(&self) {
        // The writer comes to it by itself if this fails, and is told then.
        if let Ok(mut nameless) = self.plan.prepare() {
            // So does it if this does.
            let _ = nameless.pen.reserve_first(LEAST_ROOM);
            self.state().ready.get_or_insert(nameless);
        }
    }

    /// Syncs a channel that has ended, unless nobody asked for that, and gives back what it does not need.
    fn settle(&self, mut pen: Pen, syncs: &Syncs) {
        // A failure poisons the writer, which reports it.
        if self.plan.options.durability != Durability::Never && syncs.settle().is_err() {
            return;
        }
        let (first, _) = pen.begun();
        if !self.plan.retention.is_limited() {
            let _ = pen.trim();
        } else if let Ok(Some((map, metadata, present))) = pen.mapped() {
            drop(pen);
            let mut state = self.state();
            let kept = (state.mappings.len() as u64 + 1).saturating_mul(map.len());
            if (kept <= KEEP_MAPPED || state.mappings.len() < KEEP_LEAST)
                && state.segments.iter().any(|segment| segment.first == first)
                && let Ok(mapping) = Mapping::new(map, &metadata, present)
            {
                state.mappings.push_back((first, mapping));
            }
        }
        let bytes = self.plan.bytes_of(first);
        let mut state = self.state();
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.first == first) {
            segment.bytes = bytes;
        }
        state.retains = true;
    }

    /// Gives up what exceeds the limits, the oldest first and one at a time, so that whatever happens meanwhile there is no hole. A file
    /// that nobody holds becomes the next channel's.
    fn retain(&self) {
        let _retaining = self.retaining.lock().unwrap_or_else(PoisonError::into_inner);
        let retention = &self.plan.retention;
        if !retention.is_limited() {
            return;
        }
        // Cursors only move on; who sets one back while this happens may find that it has lagged.
        let needed = if retention.for_cursors { cursor::least_needed(&self.plan.directory) } else { None };
        loop {
            let mut state = self.state();
            let current = (state.first, self.plan.bytes_of(state.first));
            let excess = retention.excess(&state.segments, current, unix_nanos(), needed);
            // The newest record stays, wherever it is: its sequence tells the next writer where to go on.
            let only =
                state.segments.len() == 1 && !state.syncer.upgrade().is_some_and(|syncer| syncer.has_begun());
            if excess == 0 || only {
                return;
            }
            let first = state.segments.remove(0).first;
            if !self.plan.is_ours(first) {
                continue;
            }
            let at = state.mappings.iter().position(|(of, _)| *of == first);
            let mut mapping = at.and_then(|at| state.mappings.remove(at)).map(|(_, mapping)| mapping);
            let reuses = state.ready.is_none();
            drop(state);
            if reuses && let Ok(mut nameless) = self.plan.reuse(first, &mut mapping) {
                let _ = nameless.pen.reserve_first(LEAST_ROOM);
                self.state().ready.get_or_insert(nameless);
                continue;
            }
            // Somebody reads it still, and will do so until it is through; or it has gone.
            match fs::remove_file(channel_path(&self.plan.directory, first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return,
                _ => {}
            }
        }
    }
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Roller {
    shared: Arc<Shared>,
    helper: Option<JoinHandle<()>>,
    /// Whether a successor has been asked for.
    asked: bool,
    /// When the time of the channel is over, by the last look at the clock.
    over: u64,
    process: u32,
    times: Times,
    /// As long as this is there nobody else writes the journal.
    _lock: WriterLock,
}

impl Roller {
    /// For the writer that has the lock of the journal of `plan`, whose channels, all of them ended, are `segments`.
    pub(crate) fn new(plan: Plan, segments: Vec<Segment>, lock: WriterLock) -> Roller {
        let state = State { segments, retains: true, ..State::default() };
        let (due, retaining) = (AtomicBool::new(false), Mutex::new(()));
        let shared = Shared { plan, state: Mutex::new(state), wake: Condvar::new(), due, retaining };
        let (shared, process) = (Arc::new(shared), std::process::id());
        Roller {
            shared,
            helper: None,
            asked: false,
            over: u64::MAX,
            process,
            times: Times::none(),
            _lock: lock,
        }
    }

    /// Starts a thread that does what the writer need not wait for.
    pub(crate) fn start_helper(&mut self, syncs: &Arc<Syncs>) -> io::Result<()> {
        let (shared, syncs) = (Arc::clone(&self.shared), Arc::clone(syncs));
        let builder = thread::Builder::new().name("kekbit-journal".to_owned());
        self.helper = Some(builder.spawn(move || shared.work(&syncs))?);
        Ok(())
    }

    /// The first channel of this writer, which begins with the record `first`, not before `time`: its header is synced, its
    /// name unless the policy is never.
    pub(crate) fn first(&mut self, first: u64, time: u64) -> Result<Pen, CreateError> {
        let plan = &self.shared.plan;
        let mut clock = Clock::not_before(time);
        let header = Header { first_sequence: first, created: clock.now(), ..plan.header()? };
        let path = channel_path(&plan.directory, first);
        let mut pen = plan.options.create_nameless(header, &path)?.name(&path)?;
        pen.clock = clock;
        // A failure costs speed only: the first append does it.
        let _ = pen.reserve_first(LEAST_ROOM);
        let mut state = self.shared.state();
        (state.first, state.syncer) = (first, Arc::downgrade(pen.syncer()));
        let names: Vec<_> = state.segments.iter().map(|segment| segment.first).collect();
        drop(state);
        self.times = Times::open(&plan.directory, &names, first);
        self.times.add(Began { first, created: pen.begun().1 });
        Ok(pen)
    }
}

impl Successors for Roller {
    fn is_due(&self) -> bool {
        self.shared.due.load(Ordering::SeqCst) || (self.helper.is_none() && self.over <= unix_nanos())
    }

    fn tell(&mut self, tail: u64, capacity: u64) {
        let every = self.shared.plan.every;
        if tail == 0
            && let Some(every) = every
        {
            // Its time begins with its first record.
            let over = every.end_of(unix_nanos());
            self.over = over;
            let mut state = self.shared.state();
            state.over = Some(over);
            self.shared.due.store(false, Ordering::SeqCst);
            drop(state);
            self.shared.wake.notify_one();
        }
        if !self.asked && (tail >= capacity / 2 || every.is_some()) {
            self.asked = true;
            self.shared.state().wanted = true;
            self.shared.wake.notify_one();
        }
    }

    fn successor(&mut self, first: u64, now: u64, room: u64) -> Result<Pen, AppendError> {
        let plan = &self.shared.plan;
        let ready = {
            let mut state = self.shared.state();
            state.wanted = false;
            state.ready.take()
        };
        let refused = |error| match error {
            CreateError::NoSpace { source, .. } => {
                AppendError::NoSpace { needed: plan.options.capacity, source }
            }
            CreateError::Io { source, .. } if is_no_space_error(&source) => {
                AppendError::NoSpace { needed: plan.options.capacity, source }
            }
            CreateError::Io { source, .. } => {
                AppendError::Io { action: "begin the next channel of the journal", source }
            }
            other => AppendError::Io {
                action: "begin the next channel of the journal",
                source: io::Error::other(other),
            },
        };
        let mut nameless = ready.map_or_else(|| plan.prepare(), Ok).map_err(refused)?;
        if let Err(error) = nameless.pen.reserve_first(room) {
            self.shared.state().ready.get_or_insert(nameless);
            return Err(error);
        }
        nameless.begin(first, now, &channel_path(&plan.directory, first)).map_err(refused)
    }

    fn retire(&mut self, old: Pen, ending: Ending, new: &Pen) -> Result<(), SyncError> {
        let plan = &self.shared.plan;
        let ((first, _), (next, began)) = (old.begun(), new.begun());
        let ended = match plan.options.durability {
            Durability::Never => Ended::Closed(channel_path(&plan.directory, first)),
            _ => Ended::Written { syncer: Arc::clone(old.syncer()), ending },
        };
        new.syncs().advance(ended, Arc::clone(new.syncer()), next);
        self.times.add(Began { first: next, created: began });
        self.asked = false;
        self.shared.due.store(false, Ordering::SeqCst);
        let mut state = self.shared.state();
        state.segments.push(Segment { first, ended: began, bytes: 0 });
        (state.first, state.syncer) = (next, Arc::downgrade(new.syncer()));
        if self.helper.is_some() && state.retired.len() < BACKLOG {
            state.retired.push_back(old);
            drop(state);
            self.shared.wake.notify_one();
            // Whoever wants each record durable wants it before this one, too.
            return if plan.options.durability == Durability::Each { new.syncs().settle() } else { Ok(()) };
        }
        drop(state);
        let settled = match plan.options.durability {
            Durability::Never => Ok(()),
            _ => new.syncs().settle(),
        };
        self.shared.settle(old, new.syncs());
        if self.helper.is_none() {
            self.shared.retain();
        }
        settled
    }

    fn retain(&self) {
        self.shared.retain();
    }

    fn discard(&self, first: u64) {
        // Its name tells where to go on, if there is no other.
        if first > 0 && self.shared.state().segments.is_empty() {
            return;
        }
        // The next writer does it, if this fails.
        let _ = fs::remove_file(channel_path(&self.shared.plan.directory, first));
    }
}

impl Drop for Roller {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // A forked child has no such thread, and must not wait for it; nor may it remove files that have no name yet.
            std::mem::forget((self.helper.take(), Arc::clone(&self.shared)));
            return;
        }
        let Some(helper) = self.helper.take() else { return };
        self.shared.state().stops = true;
        self.shared.wake.notify_one();
        // It does not panic, and if it did, the records would be as safe as without it.
        let _ = helper.join();
    }
}
