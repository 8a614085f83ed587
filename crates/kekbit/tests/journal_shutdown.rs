//! A file system that stops in the middle of everything, as at a power cut, while a journal on it rolls, gives up what it
//! need not keep, and is followed by two with named cursors: when it is mounted again the next writer opens the journal by
//! itself and goes on.
//!
//! ```text
//! write, roll, give up, commit --> shutdown --> mount, read --> [ open --> shutdown --> mount, read ] --> open, read, go on
//! ```
//!
//! What had been acknowledged as durable before the shutdown began is there: records, by a sync or since a reader of what is
//! durable has returned them, and commits of cursors that were synced. Sequences have no gap and no repeat, each record is
//! what the life of its sequence wrote, batches are whole. A cursor is not ahead of what was processed, unless at the end,
//! and with "not before every cursor has passed" what it has still to read is there.
//!
//! To the processes the crash is a restart of the machine: each time they find another boot id, in a mount namespace of this
//! test's own. Or it is none, and the journal is opened with `crashed`.
//!
//! Needs root, mkfs.ext4 and losetup. See also file_system_shutdown.rs, which does this to single channels, on what counts as
//! acknowledged.

mod common;
#[path = "common/lives.rs"]
mod lives;
#[path = "common/volume.rs"]
mod volume;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use common::campaign::{Campaign, is_long};
use common::{Child, Numbers, listen, names_in, say, wait_until};
use kekbit::{Appended, Channel, Durability, Journal, ReadOptions, SyncHandle, Writer};
use lives::{FOLLOWERS, Following, Life, Note, Noted, Notes, Plan, check_all, cursors, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use volume::Volume;

const TEST: &str = "a_journal_on_a_file_system_that_stops_keeps_what_was_acknowledged_and_goes_on";

const DURABILITIES: [Durability; 3] =
    [Durability::Each, Durability::Interval(Duration::from_millis(2)), Durability::AtEnd];
/// Shutdowns of each journal.
const CYCLES: u64 = 10;

/// What a campaign has come across.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    opening: u64,
    same_boot: u64,
    begun: u64,
    acknowledged: u64,
    found: u64,
    given_up: u64,
    lost: u64,
    set_aside: u64,
    set_back: u64,
    late: u64,
}

/// In a child: opens the journal when it is told to, and appends until the file system stops when it is told to.
fn write_until_killed(arguments: &[String]) {
    common::die_with_parent();
    let [path, notes, seed, life, crashed] = arguments else { panic!("{arguments:?}") };
    let plan = Plan::new(seed.parse().unwrap(), &DURABILITIES);
    let notes = &Notes::open(notes);
    let life = Life { plan, life: life.parse().unwrap(), notes };
    say("ready");
    listen();
    let mut journal = match life.plan.options().crashed(crashed == "true").open(path) {
        Ok(journal) => journal,
        Err(error) => {
            say(format!("failed: {error}"));
            listen();
            return;
        }
    };
    say(format!("{} {}", journal.next_sequence(), journal.set_aside().len()));
    listen();
    let durable = &Mutex::new(notes.get(Note::Durable));
    let tell = |sequence: u64| {
        let mut durable = durable.lock().unwrap();
        if sequence > *durable {
            *durable = sequence;
            notes.set(Note::Durable, sequence);
        }
    };
    std::thread::scope(|scope| {
        let (to, from) = sync_channel(2);
        let handle = journal.sync_handle();
        scope.spawn(|| {
            let _ = wait_for_records(from, handle, &tell);
        });
        let mut numbers = Numbers(life.plan.seed ^ life.life);
        let ended = loop {
            let next = journal.next_sequence();
            let mut synced = Ok(());
            while !life.may_go_on(next) && synced.is_ok() {
                // Who reads nothing but what is durable may wait for that.
                synced = journal.sync();
                if synced.is_ok() {
                    tell(next);
                }
                std::thread::yield_now();
            }
            if let Err(error) = synced {
                break error.to_string();
            }
            let (appended, next) = match life.append(&mut journal) {
                Ok(appended) => appended,
                Err(error) => break error.to_string(),
            };
            match (life.plan.durability, numbers.below(32)) {
                (Durability::Each, 0..31) => tell(next),
                // By hand, or by another thread, or not at all for a while.
                (_, 0) => match journal.sync() {
                    Ok(()) => tell(next),
                    Err(error) => break error.to_string(),
                },
                (_, 1) => {
                    let _ = to.try_send((appended, next));
                }
                (_, 2) if numbers.below(64) == 0 => journal.retain(),
                (_, 3) if numbers.below(64) == 0 => {
                    if let Err(error) = journal.roll() {
                        break error.to_string();
                    }
                }
                _ => {}
            }
        };
        notes.failed(&format!("the writer: {ended}"));
        drop(to);
    });
    // It is not to be ended as one that lives would be.
    listen();
}

/// In a thread of its own: waits for some of the records to be durable.
fn wait_for_records(
    from: Receiver<(Appended, u64)>,
    handle: SyncHandle,
    tell: &impl Fn(u64),
) -> Result<(), kekbit::SyncError> {
    for (appended, next) in from {
        handle.wait_for_record(appended)?;
        tell(next);
    }
    Ok(())
}

/// In a child: follows until the file system stops.
fn follow_until_killed(arguments: &[String]) {
    common::die_with_parent();
    let ended = Following::run(arguments).unwrap_err();
    Notes::open(&arguments[1]).failed(&format!("follower {}: {ended}", arguments[3]));
    listen();
}

/// Which boot of the machine it is to this thread and the processes that it starts.
struct Boot {
    file: PathBuf,
    numbers: Numbers,
    _dir: TempDir,
}

impl Boot {
    /// `None`, with a message, where that is not possible.
    fn new(numbers: Numbers) -> Option<Boot> {
        let dir = common::dir();
        let boot = Boot { file: dir.path().join("boot_id"), numbers, _dir: dir };
        std::fs::write(&boot.file, "").unwrap();
        let none: Option<&str> = None;
        let made = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
            .and_then(|()| {
                let place = "/proc/sys/kernel/random/boot_id";
                mount(Some(&boot.file), place, none, MsFlags::MS_BIND, none)
            });
        match made {
            Ok(()) => Some(boot),
            Err(error) => {
                println!("skipped {TEST}: a mount namespace: {error}");
                None
            }
        }
    }

    /// From now on it is another.
    fn restart(&mut self) {
        let digits = format!("{:016x}{:016x}", self.numbers.next(), self.numbers.next());
        std::fs::write(&self.file, digits).unwrap();
    }
}

/// What is there after a crash.
#[derive(Clone, Debug)]
struct Found {
    records: Range<u64>,
    cursors: [u64; 2],
}

/// One journal and all who have to do with it.
struct Run<'r> {
    volume: &'r Volume,
    boot: &'r mut Boot,
    seen: &'r mut Seen,
    notes: &'r Notes,
    plan: Plan,
    ordered: bool,
    path: PathBuf,
    numbers: Numbers,
    /// The first sequence of each life that began.
    lives: Vec<u64>,
    /// Whether the machine has not been restarted since the last crash.
    same_boot: bool,
    context: String,
}

/// As after a crash, whether or not the boot tells of it.
fn crashed() -> ReadOptions {
    Channel::options().crashed(true)
}

impl Run<'_> {
    fn start_writer(&self) -> Child {
        let arguments = [
            self.path.to_str().unwrap(),
            self.notes.path.to_str().unwrap(),
            &self.plan.seed.to_string(),
            &self.lives.len().to_string(),
            &self.same_boot.to_string(),
        ];
        let mut child = Child::start(TEST, "writer", &arguments);
        assert_eq!(child.hear(), "ready");
        child.tell("open");
        child
    }

    /// The power is gone, and comes back.
    fn crash(&mut self, children: Vec<Child>) {
        self.volume.shut_down();
        for child in &children {
            child.kill();
        }
        // Some may have died before, of what they mapped.
        children.into_iter().for_each(|child| _ = child.end());
        self.volume.mount_again(self.ordered);
        self.same_boot = self.numbers.below(3) == 0;
        if self.same_boot {
            self.seen.same_boot += 1;
        } else {
            self.boot.restart();
        }
    }

    /// What whoever reads it finds; `live`: while a writer has the journal.
    fn find(&self, live: bool) -> Found {
        let reader = open(&self.path, crashed());
        let cursors = cursors(&self.path);
        if self.plan.for_cursors {
            let oldest = reader.oldest_sequence().unwrap().unwrap_or(0);
            assert!(
                cursors.iter().all(|cursor| oldest <= *cursor),
                "{}: {oldest} is the oldest; {cursors:?}",
                self.context
            );
        }
        Found { records: check_all(reader, self.plan.seed, &self.lives, live, &self.context), cursors }
    }

    /// After a shutdown while something was written: what was noted before it began is there, and not more than what was noted
    /// by then.
    fn check(&mut self, noted: Noted, last: Noted) -> Found {
        let found = self.find(false);
        let context = format!("{}, {found:?}", self.context);
        let durable = noted.get(Note::Durable);
        // The first follower reads nothing but what is durable.
        let seen = noted.get(Note::Processed(0));
        if !found.records.is_empty() {
            let end = found.records.end;
            assert!(end >= durable, "{context}: {durable} was acknowledged");
            assert!(end >= seen, "{context}: {seen} was read as durable");
            assert!(end <= last.get(Note::Intended), "{context}: {last:?}");
            self.seen.lost += last.get(Note::Appended).saturating_sub(end);
            self.seen.late += u64::from(end < last.get(Note::Durable));
        }
        for (index, cursor) in found.cursors.into_iter().enumerate() {
            let (low, high) = (noted.get(Note::Synced(index)), last.get(Note::Processed(index)));
            assert!((low..=high).contains(&cursor), "{context}: cursor {index}, from {low} to {high}");
        }
        self.seen.acknowledged += durable.max(seen) - self.lives.last().unwrap();
        self.seen.found += found.records.end - found.records.start.max(*self.lives.last().unwrap());
        found
    }

    /// The file system stops while the next writer recovers, or right after.
    fn stop_while_opening(&mut self, before: &Found) -> Found {
        let child = self.start_writer();
        std::thread::sleep(Duration::from_micros(self.numbers.below(12_000)));
        self.crash(vec![child]);
        self.seen.opening += 1;
        let found = self.find(false);
        let context = format!("{}, stopped while opening, {before:?}, {found:?}", self.context);
        let gone = before.records.is_empty() && found.records.is_empty();
        assert!(gone || found.records.end == before.records.end, "{context}");
        assert!(found.records.start >= before.records.start || gone, "{context}");
        for (before, now) in before.cursors.into_iter().zip(found.cursors) {
            let set_back = found.records.is_empty() || now == before.min(found.records.end);
            assert!(now == before || set_back, "{context}");
        }
        found
    }

    /// The next writer opens the journal and begins a life, and the followers go on.
    fn open(&mut self, found: &Found) -> (u64, Vec<Child>) {
        let mut writer = self.start_writer();
        let said = writer.hear();
        let (next, aside) = said
            .split_once(' ')
            .filter(|_| !said.starts_with("failed"))
            .unwrap_or_else(|| panic!("{}, {found:?}: {said}, {:?}", self.context, names_in(&self.path)));
        let (next, aside): (u64, u64) = (next.parse().unwrap(), aside.parse().unwrap());
        self.seen.set_aside += aside;
        let context = format!("{}, {found:?}, opened at {next}", self.context);
        assert!(found.records.is_empty() || next == found.records.end, "{context}");
        assert!(next >= self.notes.get(Note::Durable) || !found.records.is_empty(), "{context}");
        assert!(self.lives.last().is_none_or(|last| next >= *last), "{context}");
        self.lives.push(next);
        let now = self.find(true);
        assert!(now.records.is_empty() || now.records.end == next, "{context}, {now:?}");
        assert!(now.records.start >= found.records.start || found.records.is_empty(), "{context}, {now:?}");
        self.seen.given_up += now.records.start - found.records.start.min(now.records.start);
        self.context = format!("{context}, {now:?}");
        for (index, (before, now)) in found.cursors.into_iter().zip(now.cursors).enumerate() {
            assert_eq!(now, before.min(next), "{}: cursor {index}", self.context);
            self.seen.set_back += u64::from(now < before);
            for note in [Note::Processed(index), Note::Committed(index), Note::Synced(index)] {
                self.notes.set(note, now);
            }
        }
        // So says the documentation of opening.
        for note in [Note::Intended, Note::Appended, Note::Durable] {
            self.notes.set(note, next);
        }
        let mut children = vec![writer];
        for index in 0..FOLLOWERS.len() {
            let following = Following {
                path: &self.path,
                notes: self.notes,
                seed: self.plan.seed,
                index,
                durable: index == 0,
                may_lag: !self.plan.for_cursors,
            };
            let mut child = following.start(TEST);
            assert_eq!(child.hear(), now.cursors[index].to_string(), "{}", self.context);
            children.push(child);
        }
        (next, children)
    }

    fn assert_all_is_well(&self, children: &mut [Child]) {
        for (n, child) in children.iter_mut().enumerate() {
            if let Some(status) = child.has_ended() {
                panic!("{}: child {n} has ended: {status}", self.context);
            }
        }
        assert_eq!(self.notes.get(Note::Failed), 0, "{}: {}", self.context, self.notes.failure());
    }

    fn cycle(&mut self, found: Found, cycle: u64) -> Found {
        self.context = format!("journal {}, cycle {cycle}, {:?}", self.plan.seed, self.plan);
        let found =
            if cycle > 0 && self.numbers.below(2) == 0 { self.stop_while_opening(&found) } else { found };
        let (next, mut children) = self.open(&found);
        children[0].tell("go");
        // So that some are stopped at once, and others when they have begun many times.
        let most = 32 << self.numbers.below(8);
        let (enough, of_durable) = (next + self.numbers.below(most), self.numbers.below(2) == 0);
        let note = if of_durable { Note::Processed(0) } else { Note::Appended };
        wait_until("enough is written", || {
            self.assert_all_is_well(&mut children);
            self.notes.get(note) >= enough
        });
        let noted = self.notes.all();
        self.assert_all_is_well(&mut children);
        self.crash(children);
        let last = self.notes.all();
        self.notes.set(Note::Failed, 0);
        self.check(noted, last)
    }

    /// In the end both followers see everything that is left, and a writer ends it.
    fn finish(mut self, found: Found) {
        let (next, children) = self.open(&found);
        wait_until("the followers have seen everything", || {
            (0..FOLLOWERS.len()).all(|i| self.notes.get(Note::Committed(i)) == next)
        });
        children.iter().for_each(Child::kill);
        children.into_iter().for_each(Child::end_killed);
        assert_eq!(self.find(false).cursors, [next; 2], "{}", self.context);
    }
}

/// Makes a journal, and lets its file system stop some times.
fn run(volume: &Volume, boot: &mut Boot, campaign: &Campaign, number: u64, cycles: u64, seen: &mut Seen) {
    let mut numbers = campaign.numbers(number);
    let plan = Plan::new(numbers.next(), &DURABILITIES);
    let ordered = numbers.below(2) == 0;
    let place = common::dir();
    let notes = Notes::create(place.path().join("notes"));
    volume.mount(ordered).unwrap();
    let path = volume.path.join("journal");
    // Durable, each of them.
    plan.options().open(&path).unwrap().close().unwrap();
    for name in FOLLOWERS {
        Journal::set_cursor(&path, name, 0).unwrap();
    }
    let mut run = Run {
        volume,
        boot,
        seen,
        notes: &notes,
        plan,
        ordered,
        path: path.clone(),
        numbers,
        lives: Vec::new(),
        same_boot: false,
        context: String::new(),
    };
    run.boot.restart();
    let mut found = Found { records: 0..0, cursors: [0; 2] };
    for cycle in 0..cycles {
        found = run.cycle(found, cycle);
    }
    run.seen.begun += notes.get(Note::Begun);
    run.finish(found);
    std::fs::remove_dir_all(&path).unwrap();
    volume.unmount();
}

#[test]
fn a_journal_on_a_file_system_that_stops_keeps_what_was_acknowledged_and_goes_on() {
    match common::role() {
        Some((role, arguments)) if role == "writer" => return write_until_killed(&arguments),
        Some((_, arguments)) => return follow_until_killed(&arguments),
        None => {}
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped {TEST}: needs root");
        return;
    }
    let campaign = Campaign::new("journal, file system shutdowns");
    let Some(mut boot) = Boot::new(campaign.numbers(u64::MAX)) else { return };
    // This process keeps the one that it sees first: to it all that is written here is of another.
    boot.restart();
    let first = common::dir();
    let channel = first.path().join("channel.kek");
    Writer::create(&channel).unwrap().close().unwrap();
    assert!(Channel::open(&channel).is_ok());
    // In memory, if possible, so that no other program waits for the same disk.
    let Some(volume) = Volume::new(TEST, common::dir()) else { return };
    let cycles = campaign.count(6, 200);
    let mut seen = Seen::default();
    let mut done = 0;
    for number in 0.. {
        let of_this = CYCLES.min(cycles - done).min(if is_long() { CYCLES } else { 3 });
        if of_this == 0 {
            break;
        }
        run(&volume, &mut boot, &campaign, number, of_this, &mut seen);
        done += of_this;
    }
    // Otherwise nothing was tested.
    assert!(seen.acknowledged > 0, "{seen:?}");
    assert!(
        !is_long()
            || [seen.lost, seen.set_aside, seen.set_back, seen.given_up].iter().all(|count| *count > 0),
        "{seen:?}"
    );
    campaign.done(
        cycles,
        format!(
            "shutdowns while writing, {} while or after opening, {} without a restart of the machine, {} channels written to, {} records acknowledged, {} \
             found, {} given up, {} lost that nobody was told are durable, {} channels set aside, {} cursors set back to the \
             end, {} syncs lost that succeeded during a shutdown",
            seen.opening,
            seen.same_boot,
            seen.begun,
            seen.acknowledged,
            seen.found,
            seen.given_up,
            seen.lost,
            seen.set_aside,
            seen.set_back,
            seen.late,
        ),
    );
}
