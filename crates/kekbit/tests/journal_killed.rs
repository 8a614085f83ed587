//! Killed again and again: the writer of a journal dies by SIGKILL, at any moment, in the middle of rolls, and while it
//! recovers what the one before has left; then the next opens the journal by itself and goes on. Two followers with named
//! cursors read all the time, and one of them is killed at random, too.
//!
//! Before each restart and after it the whole journal is read: nothing that was appended is lost, sequences have no gap and
//! no repeat, each record is what its writer wrote, batches are whole. A follower goes on from a place that is not before
//! what it had committed, nor behind what it had processed. Retention keeps what it must.
//!
//! A writer is killed when it has noted so many records, or, by `strace`, when it makes a certain system call for so many
//! times: one of those of a roll, or of recovery. Without `strace` those kills are left out.

mod common;
#[path = "common/lives.rs"]
mod lives;
#[path = "common/strace.rs"]
mod strace;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::campaign::{Campaign, Outcomes, is_long};
use common::{Child, Numbers, listen, names_in, say, wait_until};
use kekbit::{Channel, Durability, Journal, State};
use lives::{FOLLOWERS, Following, Life, Note, Noted, Notes, Plan, check_all, cursors, open};
use strace::Strace;
use tempfile::TempDir;

const TEST: &str = "a_writer_that_is_killed_again_and_again_loses_nothing_and_cursors_stay_where_they_are";

const DURABILITIES: [Durability; 5] = [
    Durability::AtEnd,
    Durability::AtEnd,
    Durability::Never,
    Durability::Each,
    Durability::Interval(Duration::from_millis(1)),
];
/// Lives of each journal.
const LIVES: u64 = 25;
/// System calls by which a writer rolls and recovers; and how many of one sort there may be before it is killed.
const CALLS: [&str; 6] = [
    "linkat,renameat2",
    "rename,unlink,unlinkat",
    "fallocate,ftruncate",
    "msync,fsync,fdatasync",
    "openat,open",
    "mmap,munmap,madvise",
];
const MOST_CALLS: u64 = 8;

/// In a child: opens the journal when it is told to, and appends until it is killed when it is told to.
fn write_for_ever(arguments: &[String]) {
    common::die_with_parent();
    let [path, notes, seed, life] = arguments else { panic!("{arguments:?}") };
    let plan = Plan::new(seed.parse().unwrap(), &DURABILITIES);
    let life = Life { plan, life: life.parse().unwrap(), notes: &Notes::open(notes) };
    say("ready");
    listen();
    let mut journal = life.plan.options().open(path).unwrap();
    assert!(journal.set_aside().is_empty(), "{:?}", journal.set_aside());
    say(journal.next_sequence());
    listen();
    loop {
        let next = journal.next_sequence();
        while !life.may_go_on(next) {
            // Who reads nothing but what is durable may wait for that.
            journal.sync().unwrap();
            std::thread::yield_now();
        }
        life.append(&mut journal).unwrap();
        // Besides those that come by themselves.
        match (next ^ life.life) % 997 {
            0 => journal.roll().unwrap(),
            1 => journal.retain(),
            2 => journal.sync().unwrap(),
            3 => journal.heartbeat(),
            _ => {}
        }
    }
}

/// When a writer is killed.
#[derive(Clone, Debug)]
enum Kill {
    /// When it has noted so many records in this life.
    Records(u64),
    /// Before one of these system calls, when it has made so many of them, from the moment on when it was told to append.
    Rolling(&'static str, u64),
    /// The same, from when it was told to open the journal.
    Opening(&'static str, u64),
    /// When so many channels have got their names in this life: each of those calls takes a while, so that it is killed before the
    /// old channel ends.
    Naming(usize),
}

impl Kill {
    fn new(numbers: &mut Numbers, can_trace: bool) -> Kill {
        let most = 1 << numbers.below(13);
        let (records, calls) = (numbers.below(most), CALLS[numbers.below(CALLS.len() as u64) as usize]);
        let when = 1 + numbers.below(MOST_CALLS);
        match numbers.below(8) {
            0..2 if can_trace => Kill::Rolling(calls, when),
            // It makes some more of them there.
            2 if can_trace => Kill::Opening(calls, when + numbers.below(24)),
            3 if can_trace => Kill::Naming(1 + numbers.below(3) as usize),
            _ => Kill::Records(records),
        }
    }

    fn trace(&self, child: &Child, log: &Path) -> Strace {
        let fault = match self {
            Kill::Rolling(calls, when) | Kill::Opening(calls, when) => {
                format!("{calls}:signal=KILL:when={when}")
            }
            // Microseconds.
            Kill::Naming(_) => "linkat,renameat2:delay_exit=100000".to_owned(),
            Kill::Records(_) => panic!("nothing is traced for that"),
        };
        Strace::attach(child.id().as_raw(), true, log, &[fault]).unwrap()
    }
}

/// One journal and all who have to do with it.
struct Run<'r> {
    plan: Plan,
    dir: TempDir,
    path: PathBuf,
    notes: &'r Notes,
    numbers: Numbers,
    /// The first sequence of each life that began.
    lives: Vec<u64>,
    followers: Vec<Child>,
    context: String,
}

impl Run<'_> {
    fn following(&self, index: usize) -> Following<'_> {
        Following {
            path: &self.path,
            notes: self.notes,
            seed: self.plan.seed,
            index,
            durable: index == 0 && self.plan.reads_durable(),
            may_lag: self.plan.may_overtake,
        }
    }

    fn start_follower(&self, index: usize) -> Child {
        let mut child = self.following(index).start(TEST);
        // It checks that itself.
        let begun: u64 = child.hear().parse().unwrap();
        assert!(begun <= self.notes.get(Note::Appended).max(self.notes.get(Note::Intended)));
        child
    }

    /// Kills the second follower, and starts it again.
    fn kill_follower(&mut self) {
        let child = self.followers.pop().unwrap();
        child.kill();
        child.end_killed();
        self.followers.push(self.start_follower(1));
    }

    fn assert_followers_live(&mut self) {
        for (index, child) in self.followers.iter_mut().enumerate() {
            if let Some(status) = child.has_ended() {
                panic!("{}: follower {index} has ended: {status}", self.context);
            }
        }
    }

    /// Whether the followers have committed everything before `next`.
    fn have_committed(&mut self, next: u64) -> bool {
        self.assert_followers_live();
        (0..FOLLOWERS.len()).all(|i| self.notes.get(Note::Committed(i)) == next)
    }

    /// Checks everything that is there; `live`: while a writer has the journal.
    fn read_all(&self, live: bool) -> Range<u64> {
        check_all(open(&self.path, Channel::options()), self.plan.seed, &self.lives, live, &self.context)
    }

    /// What retention must have left, whatever happened to the writer. `is_open`: a writer has just opened the journal.
    fn check_kept(&self, is_open: bool) {
        // In this order: cursors only move on.
        let oldest = open(&self.path, Channel::options()).oldest_sequence().unwrap().unwrap_or(0);
        let cursors = cursors(&self.path);
        let context = &self.context;
        if self.plan.for_cursors {
            assert!(
                cursors.iter().all(|cursor| oldest <= *cursor),
                "{context}: {oldest} is the oldest; {cursors:?}"
            );
        }
        if oldest == 0 || !is_open {
            return;
        }
        let channels = Journal::channels(&self.path).unwrap();
        let len = channels.len() as u64;
        if let Some(count) = self.plan.count {
            assert!(len >= count, "{context}: {len} of {count} channels are left");
            // What it does by itself it has done by now.
            let bounded = self.plan.background || self.plan.for_cursors || len == count;
            assert!(bounded, "{context}: {len} channels are left, not {count}");
        }
        if let Some(bytes) = self.plan.bytes {
            // Those that go meanwhile are none of those that must be left.
            let sizes = channels.iter().filter_map(|path| path.symlink_metadata().ok());
            let left: u64 = sizes.map(|file| 512 * std::os::unix::fs::MetadataExt::blocks(&file)).sum();
            // The one that made it too much, and the one that will be written.
            let least = bytes.saturating_sub(2 * (self.plan.capacity + (64 << 10)));
            assert!(left >= least, "{context}: {left} bytes of {bytes} are left");
        }
    }

    /// One life of the writer, and its death. Returns what it was doing then.
    fn live_and_die(&mut self, can_trace: bool) -> String {
        let kill = Kill::new(&mut self.numbers, can_trace);
        let life = self.lives.len();
        self.context = format!("journal {}, life {life}, {kill:?}, {:?}", self.plan.seed, self.plan);
        let arguments = [
            self.path.to_str().unwrap(),
            self.notes.path.to_str().unwrap(),
            &self.plan.seed.to_string(),
            &life.to_string(),
        ];
        let mut child = Child::start(TEST, "writer", &arguments);
        assert_eq!(child.hear(), "ready");
        let log = self.dir.path().join("strace");
        let (before, oldest) = (self.read_all(false), self.oldest());
        let mut strace = matches!(kill, Kill::Opening(..)).then(|| kill.trace(&child, &log));
        child.tell("open");
        let Some(next) = child.hear_or_end() else {
            child.end_killed();
            assert!(matches!(kill, Kill::Opening(..)), "{}: the writer has died", self.context);
            let after = self.read_all(false);
            assert_eq!(after.end, before.end, "{}: killed while it recovered", self.context);
            assert!(after.start >= oldest, "{}", self.context);
            self.check_kept(false);
            return format!("opening, {}", left_behind(&self.path));
        };
        let next: u64 = next.parse().unwrap();
        assert_eq!(next, before.end, "{}: it does not go on where readers end", self.context);
        self.lives.push(next);
        self.check_kept(true);
        let after = self.read_all(true);
        assert_eq!(after.end, next, "{}", self.context);
        if matches!(kill, Kill::Rolling(..) | Kill::Naming(_)) {
            strace = Some(kill.trace(&child, &log));
        }
        child.tell("go");
        let enough = next + if let Kill::Records(records) = kill { records } else { 2000 };
        // A follower, too, when it has come so far.
        let mut of_follower = (self.numbers.below(3) == 0).then(|| self.numbers.below(400) + next);
        let known = Journal::channels(&self.path).unwrap().pop();
        wait_until("it is time to kill the writer", || {
            self.assert_followers_live();
            if of_follower.is_some_and(|at| self.notes.get(Note::Processed(1)) >= at) {
                of_follower = None;
                self.kill_follower();
            }
            let named = matches!(kill, Kill::Naming(count) if named_behind(&self.path, &known) >= count);
            named || child.has_ended().is_some() || self.notes.get(Note::Appended) >= enough
        });
        let by_call = child.has_ended().is_some();
        if !by_call {
            child.kill();
        }
        child.end_killed();
        drop(strace);
        let left = self.check_after_death();
        let when = match kill {
            Kill::Naming(_) => "while it got its name",
            _ if by_call => "at a call",
            _ => "at a record",
        };
        format!("{when}, {left}")
    }

    fn oldest(&self) -> u64 {
        open(&self.path, Channel::options()).oldest_sequence().unwrap().unwrap_or(0)
    }

    /// What a dead writer has left is what it has appended; perhaps with what it was just appending.
    fn check_after_death(&mut self) -> &'static str {
        let found = self.read_all(false);
        let noted = self.notes.all();
        let (appended, intended) = (noted.get(Note::Appended), noted.get(Note::Intended));
        assert!(
            found.end == appended || found.end == intended,
            "{}: {found:?} are there, {appended} were appended, {intended} were to be",
            self.context
        );
        for index in 0..FOLLOWERS.len() {
            let seen = self.notes.get(Note::Processed(index));
            assert!(seen <= found.end, "{}: follower {index} has seen {seen} of {}", self.context, found.end);
        }
        self.check_kept(false);
        // Whoever is to start the next has seen to that, unless overtaking is allowed, or impossible.
        if !self.plan.may_overtake && !self.plan.for_cursors {
            let end = found.end;
            wait_until("the followers are there", || self.have_committed(end));
        }
        left_behind(&self.path)
    }

    /// In the end both followers have seen everything.
    fn finish(mut self) {
        let found = self.read_all(false);
        // Which makes everything durable, if there is somebody who waits for that.
        drop(self.plan.options().open(&self.path).unwrap());
        wait_until("the followers have seen everything", || self.have_committed(found.end));
        for child in self.followers.drain(..) {
            child.kill();
            child.end_killed();
        }
        assert_eq!(cursors(&self.path), [found.end; 2]);
        let journal = self.plan.options().open(&self.path).unwrap();
        assert_eq!(journal.next_sequence(), found.end);
        journal.close().unwrap();
        assert_eq!(self.read_all(false).end, found.end);
        for name in names_in(&self.path) {
            let known = name.ends_with(".kek") && !name.starts_with('.');
            assert!(known || ["cursors", "times", "writer.lock"].contains(&&*name), "{name} is left");
        }
    }
}

/// How many channels have names behind that of `known`.
fn named_behind(path: &Path, known: &Option<PathBuf>) -> usize {
    let names = Journal::channels(path).unwrap();
    names.iter().filter(|name| known.as_ref().is_none_or(|known| known < *name)).count()
}

/// How a journal's last channels stand after the death of its writer.
fn left_behind(path: &Path) -> &'static str {
    let channels = Journal::channels(path).unwrap();
    let end = |path: &PathBuf| Channel::open(path).unwrap().end_point().unwrap();
    let [.., before, last] = &channels[..] else { return "in the first channel" };
    let (before_end, last_end) = (end(before), end(last));
    let first = Channel::open(last).unwrap().first_sequence();
    match (last_end.sequence > first, before_end.sealed, before_end.state) {
        (false, false, _) => "between the successor's name and the end of the old channel",
        (false, true, State::Closed) => "between the end of a channel and the first record of the next",
        (false, true, _) => "before the first record",
        (true, ..) if last_end.sealed => "after sealing",
        (true, ..) => "among records",
    }
}

/// A journal that is written in some lives; what was noted in the end.
fn run(campaign: &Campaign, number: u64, lives: u64, can_trace: bool, outcomes: &mut Outcomes) -> Noted {
    let mut numbers = campaign.numbers(number);
    let plan = Plan::new(numbers.next(), &DURABILITIES);
    // On a disk at times.
    let dir = if number % 8 == 7 { tempfile::tempdir().unwrap() } else { common::dir() };
    let (place, path) = (common::dir(), dir.path().join("journal"));
    let notes = Notes::create(place.path().join("notes"));
    plan.options().open(&path).unwrap().close().unwrap();
    for name in FOLLOWERS {
        Journal::set_cursor(&path, name, 0).unwrap();
    }
    let mut run = Run {
        plan,
        dir,
        path,
        notes: &notes,
        numbers,
        lives: Vec::new(),
        followers: Vec::new(),
        context: String::new(),
    };
    run.followers = (0..FOLLOWERS.len()).map(|index| run.start_follower(index)).collect();
    for _ in 0..lives {
        outcomes.add(run.live_and_die(can_trace));
    }
    run.finish();
    notes.all()
}

/// Whether `strace` can be attached; says so if not.
fn can_trace() -> bool {
    let child = Child::start(TEST, "idle", &[]);
    let place = common::dir();
    let attached = Strace::attach(child.id().as_raw(), true, &place.path().join("log"), &[]);
    child.kill();
    child.end();
    match attached {
        Ok(_) => true,
        Err(why) => {
            println!("skipped kills at system calls of {TEST}: {why}");
            false
        }
    }
}

#[test]
fn a_writer_that_is_killed_again_and_again_loses_nothing_and_cursors_stay_where_they_are() {
    match common::role() {
        Some((role, arguments)) if role == "writer" => return write_for_ever(&arguments),
        Some((role, arguments)) if role == "follower" => {
            common::die_with_parent();
            return Following::run(&arguments).unwrap();
        }
        Some(_) => {
            listen();
            return;
        }
        None => {}
    }
    let campaign = Campaign::new("journal, writers killed");
    let kills = campaign.count(30, 1000);
    let can_trace = can_trace();
    let mut outcomes = Outcomes::default();
    let (mut done, mut records, mut channels, mut lags) = (0, 0, 0, 0);
    for number in 0.. {
        let lives = LIVES.min(kills - done).min(if is_long() { LIVES } else { 6 });
        if lives == 0 {
            break;
        }
        let noted = run(&campaign, number, lives, can_trace, &mut outcomes);
        done += lives;
        records += noted.get(Note::Appended);
        channels += noted.get(Note::Begun);
        lags += (0..FOLLOWERS.len()).map(|i| noted.get(Note::Lagged(i))).sum::<u64>();
    }
    let by_records = ["at a record, among records", "at a record, before the first record"];
    let by_calls = [
        "at a call, between the end of a channel and the first record of the next",
        "at a call, among records",
        "while it got its name, between the successor's name and the end of the old channel",
        "opening, after sealing",
        "opening, among records",
        "opening, before the first record",
    ];
    let expected: Vec<_> = by_records.into_iter().chain(by_calls.into_iter().filter(|_| can_trace)).collect();
    let more = format!(" during {records} records in {channels} channels, followers overtaken {lags} times");
    outcomes.finish_with(campaign, &expected, &more);
}
