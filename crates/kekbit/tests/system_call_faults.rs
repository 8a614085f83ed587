//! Every system call of a channel's life fails, once and for good, with every error that it may plausibly have.
//!
//! ```text
//! a scene runs without faults, watched        which calls does it make, and how many?
//! for each call, error, once | from then on   the scene runs again, and strace lets that call fail
//! ```
//!
//! Whatever fails, the process neither panics nor dies nor hangs; it is told what has failed; every record that was
//! acknowledged is there, in order, and nothing else; a sync that has failed poisons the writer for good; where there was
//! no space the writer goes on once there is some; a creation that has failed leaves nothing behind.
//!
//! Needs `strace`, and the right to attach it to a process.

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "system_call_faults/scenes.rs"]
mod scenes;
#[path = "common/strace.rs"]
mod strace;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use common::campaign::{self, Campaign};
use common::{Child, Numbers, names_in, record, role};
use disk::Disk;
use kekbit::{Channel, State, Verify};
use nix::sys::signal::{Signal, kill};
use scenes::{LONGEST, NAME, Place, SCENES, Scene};
use strace::{Call, Strace};
use tempfile::TempDir;

/// System calls that the library makes, and how each may fail. A call that is in no list of this file fails the test.
const ERRORS: &[(&str, &[&str])] = &[
    (
        "openat",
        &[
            "EACCES",
            "EDQUOT",
            "EINTR",
            "EIO",
            "EMFILE",
            "ENFILE",
            "ENOENT",
            "ENOMEM",
            "ENOSPC",
            "EOPNOTSUPP",
            "EROFS",
        ],
    ),
    ("close", &["EDQUOT", "EINTR", "EIO", "ENOSPC"]),
    ("read", &["EINTR", "EIO"]),
    ("pread64", &["EINTR", "EIO", "ENOMEM"]),
    ("pwrite64", &["EDQUOT", "EFBIG", "EINTR", "EIO", "ENOSPC"]),
    ("fallocate", &["EDQUOT", "EFBIG", "EINTR", "EIO", "ENOSPC", "EOPNOTSUPP", "EPERM"]),
    ("ftruncate", &["EDQUOT", "EFBIG", "EINTR", "EIO", "ENOSPC", "EPERM"]),
    ("fsync", &["EDQUOT", "EINTR", "EIO", "ENOSPC", "EROFS"]),
    ("msync", &["EDQUOT", "EINTR", "EIO", "ENOMEM", "ENOSPC"]),
    ("mmap", &["EACCES", "EAGAIN", "ENFILE", "ENOMEM"]),
    ("munmap", &["ENOMEM"]),
    ("mprotect", &["EACCES", "ENOMEM"]),
    ("madvise", &["EAGAIN", "EFAULT", "EHWPOISON", "EINVAL", "EIO", "ENOMEM"]),
    ("fadvise64", &["EINVAL", "ESPIPE"]),
    ("fcntl", &["EACCES", "EAGAIN", "EINTR", "EINVAL", "EIO", "ENOLCK"]),
    ("statx", &["EACCES", "EINTR", "EIO", "ENOENT", "ENOMEM"]),
    ("fstat", &["EIO", "ENOMEM"]),
    ("newfstatat", &["EACCES", "EINTR", "EIO", "ENOENT", "ENOMEM"]),
    ("lseek", &["EINVAL", "ESPIPE"]),
    ("fstatfs", &["EINTR", "EIO", "ENOMEM", "ENOSYS"]),
    ("prlimit64", &["EINVAL", "EPERM"]),
    ("fchown", &["EDQUOT", "EINTR", "EIO", "EPERM", "EROFS"]),
    ("fchmod", &["EINTR", "EIO", "EPERM", "EROFS"]),
    ("getrandom", &["ENOSYS", "EPERM"]),
    (
        "linkat",
        &["EACCES", "EDQUOT", "EEXIST", "EIO", "EMLINK", "ENOENT", "ENOSPC", "EPERM", "EROFS", "EXDEV"],
    ),
    ("unlink", &["EACCES", "EBUSY", "EIO", "EPERM", "EROFS"]),
    (
        "renameat2",
        &["EACCES", "EDQUOT", "EEXIST", "EINVAL", "EIO", "ENOENT", "ENOSPC", "EPERM", "EROFS", "EXDEV"],
    ),
    ("clone3", &["EAGAIN", "ENOMEM", "ENOSYS", "EPERM"]),
];

/// Calls that cannot fail as they are used here, or that are not the library's: of memory, threads, time, and of the
/// scenes themselves, which say what they do.
const NOT_MADE_TO_FAIL: &[&str] = &[
    "brk",
    "clock_nanosleep",
    "exit",
    "futex",
    "getpid",
    "gettid",
    "getuid",
    "prctl",
    "restart_syscall",
    "rseq",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
    "write",
];

/// Longer than any scene takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// One system call that fails.
#[derive(Clone, Debug)]
struct Fault {
    scene: &'static Scene,
    call: String,
    /// Which of the calls of that name, from 1 on.
    nth: usize,
    /// What the call was about in the run without faults.
    arguments: String,
    errno: &'static str,
    /// Only this call, or it and all later ones of that name.
    once: bool,
}

impl Fault {
    fn inject(&self) -> String {
        let Fault { call, errno, nth, once, .. } = self;
        format!("{call}:error={errno}:when={nth}{}", if *once { "" } else { "+" })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scene `{}`, {} of {}({})", self.scene.name, self.inject(), self.call, self.arguments)
    }
}

/// Why nobody need be told of a fault: it costs nothing that was promised. `None` if somebody must be told.
fn excuse(fault: &Fault) -> Option<&'static str> {
    let about = |text: &str| fault.arguments.contains(text);
    let is = |names: &[&str]| names.contains(&fault.errno);
    let seals = fault.scene.name.starts_with("seal");
    let opens = seals || fault.scene.name.starts_with("read");
    let why = match fault.call.as_str() {
        "openat" if about("/proc/sys") || about("/proc/self/status") => KERNEL_TEXT,
        "read" => KERNEL_TEXT,
        "statx" if about("/proc/self/fd") => "a temporary name serves as well",
        "openat" if about("/proc/self/fd") && about("O_RDONLY") => {
            "for the mapping alone; the file's own description serves as well"
        }
        "openat" if about("/proc/self/fd") && fault.once && is(&["ENOENT"]) => {
            "the temporary name serves as well"
        }
        "openat" if about("O_TMPFILE") && is(&["EOPNOTSUPP", "ENOENT"]) => "a temporary name serves as well",
        "statx" if !opens && about(NAME) => "a look whether the name is taken; naming the file tells, too",
        "statx" if opens && about(NAME) && fault.once && is(&["ENOENT"]) => STARTS_OVER,
        "fcntl" if opens && about("F_RDLCK") && fault.once && is(&["EACCES", "EAGAIN"]) => STARTS_OVER,
        "close" => "the descriptor is gone whatever it says; what was written is synced without it",
        "madvise" if about("MADV_POPULATE") || about("MADV_HUGEPAGE") => "pages then fault one by one",
        "madvise" if fault.scene.name.starts_with("preparing thread") => {
            "which thread's it was is not sure; pages then fault one by one"
        }
        "mprotect" => "memory of the allocator, which finds other",
        "munmap" => "addresses are lost, no records",
        "pwrite64" if about("\"\\0\\0\\0\\0") => "zeros that make syncs cheap; the space is reserved",
        "fallocate" | "prlimit64" if seals && !is(&["EDQUOT", "ENOSPC"]) => {
            "the file has had its space before"
        }
        "pread64" if about(", 32, ") || about(", 512, ") => {
            "an entry of the index, or the trail: without it one walks further"
        }
        "pread64" if about(", 24, ") && fault.nth > 3 => {
            "the slots: what they said when the channel was opened counts"
        }
        "lseek" => "holes are read like zeros",
        "fchown" => "what is cut off is then for its owner only",
        "fcntl" if seals && about(READERS) && is(&["EACCES", "EAGAIN"]) => {
            "somebody reads what is sealed: the space behind its end stays"
        }
        "fcntl" if about("F_UNLCK") => "the lock goes with the descriptor",
        "fallocate" | "prlimit64" if fault.once => "less is reserved",
        "getrandom" => "such bytes come from /dev/urandom",
        "renameat2" if is(&["EINVAL"]) => "linked and unlinked instead",
        "clone3" if is(&["ENOSYS"]) => "clone serves as well",
        "ftruncate" if fault.scene.name.ends_with("drop") => "who wants to know closes the writer",
        call if MADE_AGAIN.contains(&call) && is(&["EINTR"]) && fault.once => {
            "an interrupted call is made again"
        }
        _ => return None,
    };
    Some(why)
}

/// Calls that wait for storage, so that a signal may interrupt them: made again then.
const MADE_AGAIN: &[&str] =
    &["openat", "fallocate", "fsync", "ftruncate", "msync", "pread64", "pwrite64", "fchmod"];
/// The byte of the readers' lock.
const READERS: &str = "l_start=4611686018427387906";
const KERNEL_TEXT: &str =
    "the boot and the mask of permissions: without them less is believed, and the file is private";
const STARTS_OVER: &str = "the file is being reused: opening starts over";

/// What a run of a scene has left.
struct Run {
    dir: TempDir,
    /// What it has said.
    said: Vec<String>,
    calls: Vec<Call>,
}

/// A disk for the scenes that need one, if there can be one of their own, on which nobody else waits.
fn storage() -> Option<Disk> {
    Disk::new("a disk of its own", 512 << 20)
}

/// Runs a scene under faults; `Err` if strace is of no use here.
fn run(test: &str, disk: Option<&Disk>, scene: &Scene, fault: Option<&Fault>) -> Result<Run, String> {
    let dir = match scene.place {
        Place::Storage => {
            let mut builder = tempfile::Builder::new();
            builder.prefix("kekbit-test-");
            match disk {
                Some(disk) => builder.tempdir_in(disk.path()).unwrap(),
                None => builder.tempdir().unwrap(),
            }
        }
        Place::Memory => common::dir(),
    };
    let log = TempDir::new().unwrap();
    let litter =
        if fault.is_some_and(|fault| fault.call == "unlink" && !fault.once) { "litter" } else { "tidy" };
    let mut child = Child::start(test, "scene", &[scene.name, dir.path().to_str().unwrap(), litter]);
    let thread = child.hear().parse().unwrap();
    let mut inject: Vec<_> = scene.always.iter().map(|&fault| fault.to_owned()).collect();
    inject.extend(fault.map(Fault::inject));
    let strace = Strace::attach(thread, !scene.in_all_threads.is_empty(), &log.path().join("log"), &inject)?;
    // Whoever hangs is killed, and found to have said too little.
    let (ended, watch) = channel::<()>();
    let id = child.id();
    let watchdog = std::thread::spawn(move || {
        let hangs = watch.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        if hangs {
            kill(id, Signal::SIGKILL).unwrap();
        }
        hangs
    });
    child.tell("go");
    let mut said = Vec::new();
    while let Some(line) = child.hear_or_end() {
        said.push(line);
    }
    drop(ended);
    let hangs = watchdog.join().unwrap();
    let status = child.end();
    let calls = strace.calls();
    assert!(!hangs, "it hangs, after {said:?} and {:?}", calls.iter().rev().take(5).collect::<Vec<_>>());
    assert!(status.success() && said.pop().as_deref() == Some("done"), "{status}, after {said:?}");
    Ok(Run { dir, said, calls })
}

/// The errors that a call is made to fail with, if it is.
fn can_fail(call: &Call) -> Option<&'static [&'static str]> {
    let has = |text: &str| call.arguments.contains(text);
    // What the allocator and threads' stacks ask for is not the library's, nor would anybody survive it; and the standard
    // library looks at descriptors before it closes them, if it checks itself.
    let anonymous = call.name == "mmap" && has("MAP_ANONYMOUS") && !has("MAP_STACK");
    if anonymous || has("MADV_DONTNEED") || has("F_GETFD") {
        return None;
    }
    let errors = ERRORS.iter().find(|(name, _)| *name == call.name).map(|(_, errors)| *errors);
    assert!(
        errors.is_some() || NOT_MADE_TO_FAIL.contains(&call.name.as_str()),
        "how can {call:?} fail? The lists of this test do not say"
    );
    errors
}

/// All faults of a scene, found out by running it without. `Err` if strace is of no use here.
fn faults(test: &str, disk: Option<&Disk>, scene: &'static Scene) -> Result<Vec<Fault>, String> {
    let run = run(test, disk, scene, None)?;
    judge(scene, None, &run);
    let unnamed = run.calls.iter().any(|call| call.injected && call.arguments.contains("O_TMPFILE"));
    assert_eq!(unnamed, !scene.always.is_empty(), "the call was hit that was aimed at");
    let mut counts = BTreeMap::new();
    let mut faults = Vec::new();
    for call in &run.calls {
        let nth = match counts.entry(call.name.clone()) {
            Entry::Vacant(first) => *first.insert(1_usize),
            Entry::Occupied(mut more) => {
                *more.get_mut() += 1;
                *more.get()
            }
        };
        // In a scene with several threads it is not sure which thread's call is which.
        let several = !scene.in_all_threads.is_empty();
        if several && (!scene.in_all_threads.contains(&call.name.as_str()) || nth > 4) {
            continue;
        }
        // strace knows one fault for each call: those that are there always stay.
        if scene.always.iter().any(|fault| fault.starts_with(&format!("{}:", call.name))) {
            continue;
        }
        for &errno in can_fail(call).unwrap_or_default() {
            for once in [true, false] {
                if several && !once && call.name != "msync" {
                    // The helper would not succeed either, since it is one of the threads.
                    continue;
                }
                let (call, arguments) = (call.name.clone(), call.arguments.clone());
                faults.push(Fault { scene, call, nth, arguments, errno, once });
            }
        }
    }
    Ok(faults)
}

/// Whether a run was as it should be.
fn judge(scene: &Scene, fault: Option<&Fault>, run: &Run) {
    let said =
        |prefix: &str| run.said.iter().filter_map(|line| line.strip_prefix(prefix)).collect::<Vec<_>>();
    let failures = said("failed ");
    let injected: Vec<_> = run.calls.iter().filter(|call| call.injected).collect();
    match fault {
        None => assert!(failures.is_empty(), "{failures:?}"),
        Some(fault) => {
            let reached = injected.iter().any(|call| call.name == fault.call);
            let sure = scene.in_all_threads.is_empty();
            assert!(reached || !sure, "the call was not made");
            if excuse(fault).is_none() && reached {
                assert!(!failures.is_empty(), "nobody was told");
            }
            if MADE_AGAIN.contains(&fault.call.as_str()) && fault.errno == "EINTR" && fault.once {
                assert!(failures.is_empty(), "one interruption is no failure: {failures:?}");
            }
        }
    }
    for failure in &failures {
        // What has a path names it.
        let (what, message) = failure.split_once(": ").unwrap();
        if ["create", "open", "seal"].contains(&what) {
            assert!(message.contains(".kek"), "{message}");
        }
    }
    let failed_sync = injected.iter().any(|call| call.name == "msync" && !call.result.contains("EINTR"));
    let poisoned = said("poisoned ");
    let sealed_or_closed = scene.name.starts_with("seal");
    if failed_sync && !sealed_or_closed {
        // That of a reused file's creation comes before there is a writer.
        let told =
            failures.iter().any(|failure| failure.starts_with("close") || failure.starts_with("create"));
        assert!(
            !poisoned.is_empty() || told || scene.name.ends_with("drop"),
            "a failed sync poisons the writer"
        );
    }
    check_records(scene, run, &said, &poisoned);
    // Without a boot id the writer's word is not believed, but a slot, which lags.
    let lags = fault.is_some_and(|fault| excuse(fault) == Some(KERNEL_TEXT));
    if let Some(&synced) = said("synced ").last().filter(|_| !lags) {
        let channel = Channel::open(run.dir.path().join(NAME)).unwrap();
        assert!(
            channel.synced_tail().offset() >= synced.parse().unwrap(),
            "what was synced counts as synced"
        );
    }
}

/// What is in the channel afterwards is what was said to be.
fn check_records<'r>(scene: &Scene, run: &'r Run, said: &dyn Fn(&str) -> Vec<&'r str>, poisoned: &[&str]) {
    let path = run.dir.path().join(NAME);
    let expected: u64 = said("appended ").last().map_or(0, |count| count.parse().unwrap());
    let channel = Channel::options().verify(Verify::Always).open(&path).unwrap();
    let count = || {
        let mut count = 0;
        for found in channel.records() {
            assert!(found.unwrap()[..] == record(count, LONGEST)[..], "record {count}");
            count += 1;
        }
        count
    };
    assert_eq!(count(), expected, "each record that was appended, and no other");
    let end = channel.verify(|_| ()).unwrap();
    assert_eq!(end, channel.end_point().unwrap());
    let state = match said("ended ").first() {
        Some(&"closed") => Some(State::Closed),
        Some(&"full") => Some(State::Full),
        Some(&"abandoned") => Some(State::Abandoned),
        _ => None,
    };
    if let Some(state) = state {
        assert_eq!((end.state, end.sealed), (state, true));
    } else if scene.name.ends_with("drop") && poisoned.is_empty() {
        assert!(matches!(end.state, State::Closed | State::Abandoned), "{end:?}");
    }
    let sealed = end.sealed;
    drop(channel);
    if !sealed {
        assert_eq!(Channel::seal(&path).unwrap().end.sequence, expected);
    }
    if !scene.name.starts_with("seal") {
        let names = names_in(run.dir.path());
        // What can never be removed stays.
        let litter = run.calls.iter().filter(|call| call.name == "unlink" && call.injected).count() > 1;
        assert!(names == [NAME] || litter, "{names:?}");
    }
}

/// Runs `faults`, two at a time, and says which of them went wrong.
fn run_all(test: &str, disk: Option<&Disk>, faults: &[Fault]) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = std::panic::catch_unwind(|| {
                        judge(fault.scene, Some(fault), &run(test, disk, fault.scene, Some(fault)).unwrap());
                    });
                    if let Err(panic) = done {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text =
                            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        let text = format!("{fault}: {}", text.unwrap_or_default());
                        eprintln!("{text}");
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// `count` of `faults`, of each system call about as many.
fn sample(mut faults: Vec<Fault>, count: usize, numbers: &mut Numbers) -> Vec<Fault> {
    for i in 0..faults.len() {
        let other = i + numbers.below((faults.len() - i) as u64) as usize;
        faults.swap(i, other);
    }
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let turn = |fault: &Fault| {
        let taken = taken.entry(fault.call.clone()).or_default();
        *taken += 1;
        *taken
    };
    let mut turns: Vec<_> = faults.iter().map(turn).zip(faults.iter().cloned()).collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().take(count).map(|(_, fault)| fault).collect()
}

/// Prints what is done for each system call.
fn print_table(faults: &[Fault]) {
    println!("\n| system call | calls | errors | faults |\n| --- | ---: | ---: | ---: |");
    let names: BTreeSet<_> = faults.iter().map(|fault| &fault.call).collect();
    for name in names {
        let of_it = || faults.iter().filter(|fault| fault.call == *name);
        let calls: BTreeSet<_> = of_it().map(|fault| (fault.scene.name, fault.nth)).collect();
        let errors: BTreeSet<_> = of_it().map(|fault| fault.errno).collect();
        println!("| {name} | {} | {} | {} |", calls.len(), errors.len(), of_it().count());
    }
    let excuses: BTreeSet<_> =
        faults.iter().filter_map(|fault| Some((&fault.call, excuse(fault)?))).collect();
    println!("\nNobody need be told of:");
    for (call, why) in excuses {
        println!("- {call}: {why}");
    }
}

#[test]
fn every_system_call_may_fail_once_or_always() {
    let this = "every_system_call_may_fail_once_or_always";
    if let Some((_, arguments)) = role() {
        return scenes::run(&arguments);
    }
    let campaign = Campaign::new("system call faults");
    let disk = storage();
    let mut all = Vec::new();
    for scene in SCENES {
        match faults(this, disk.as_ref(), scene) {
            Ok(faults) => all.extend(faults),
            Err(why) => {
                println!("skipped {this}: {why}");
                return;
            }
        }
    }
    if let Ok(only) = std::env::var("KEKBIT_FAULT") {
        // One of them again, or some.
        all.retain(|fault| fault.to_string().contains(&only));
    }
    let total = all.len();
    if !campaign::is_long() {
        all = sample(all, 120, &mut campaign.numbers(0));
    }
    print_table(&all);
    let wrong = run_all(this, disk.as_ref(), &all);
    assert!(wrong.is_empty(), "{} of {} faults went wrong", wrong.len(), all.len());
    campaign.done(all.len() as u64, format_args!("of {total} faults (system call, error, once or always)"));
}

/// The scene of that name, run without faults; `None`, with a message, if strace is of no use here.
fn watch(test: &str, disk: Option<&Disk>, name: &str) -> Option<(&'static Scene, Run)> {
    let scene = SCENES.iter().find(|scene| scene.name == name).unwrap();
    match run(test, disk, scene, None) {
        Ok(run) => Some((scene, run)),
        Err(why) => {
            println!("skipped {test}: {why}");
            None
        }
    }
}

/// The arguments of the call that has opened the descriptor which the call number `at` is about.
fn opened_by(calls: &[Call], at: usize) -> &str {
    let descriptor = calls[at].arguments.split(',').next().unwrap();
    let opens = |call: &&Call| call.name == "openat" && call.result == descriptor;
    &calls[..at].iter().rev().find(opens).expect("it was opened").arguments
}

#[test]
fn the_file_is_synced_before_it_has_its_name_and_the_directory_after() {
    let this = "the_file_is_synced_before_it_has_its_name_and_the_directory_after";
    if let Some((_, arguments)) = role() {
        return scenes::run(&arguments);
    }
    let disk = storage();
    for (name, naming, durable) in [
        ("at the end, on demand, close", "linkat", true),
        ("each, on demand, drop", "linkat", true),
        ("interval, inline, close", "linkat", true),
        ("never, inline, close", "linkat", false),
        ("without unnamed files", "renameat2", true),
        ("reuse", "renameat2", true),
    ] {
        let Some((_, run)) = watch(this, disk.as_ref(), name) else { return };
        let calls = &run.calls;
        let directory = run.dir.path().to_str().unwrap();
        let named =
            |call: &Call| call.name == naming && call.arguments.contains(&format!("{directory}/{NAME}\""));
        let at =
            calls.iter().position(named).unwrap_or_else(|| panic!("{name}: it gets its name: {calls:#?}"));
        let syncs = |call: &'static str, range: std::ops::Range<usize>| {
            range.filter(|&at| calls[at].name == call && calls[at].result == "0").collect::<Vec<_>>()
        };
        // Of a reused file only what is new is synced, through the mapping.
        let reuse = name == "reuse";
        let before = syncs(if reuse { "msync" } else { "fsync" }, 0..at);
        let (&synced, others) = before.split_last().expect("the file is synced before");
        assert!(others.is_empty(), "{name}: once");
        if reuse {
            let numbers: Vec<_> = calls[synced].arguments.split(", ").collect();
            let mapped = |call: &&Call| {
                call.name == "mmap" && call.arguments.contains("PROT_READ|PROT_WRITE, MAP_SHARED")
            };
            let base = &calls[..synced].iter().rev().find(mapped).expect("it is mapped").result;
            assert_eq!(numbers[0], base, "{name}: from the header on");
            assert!(numbers[1].parse::<u64>().unwrap() >= 4 * 4096, "{name}: to the first page of data");
        } else {
            assert!(
                !opened_by(calls, synced).contains("O_DIRECTORY"),
                "{name}: {}",
                opened_by(calls, synced)
            );
        }
        let header = |call: &Call| call.name == "pwrite64" && call.arguments.contains("*KEKBIT*");
        let written = calls.iter().position(header).expect("the header is written");
        assert!(written < synced, "{name}: the header is part of what is synced");
        let changes = ["pwrite64", "fallocate", "ftruncate"];
        assert!(!calls[synced..at].iter().any(|call| changes.contains(&call.name.as_str())), "{name}");

        // The file is never synced this way again: whatever is, is the directory.
        let named = at;
        let after = syncs("fsync", at..calls.len());
        assert_eq!(
            after.len(),
            usize::from(durable),
            "{name}: the directory is synced if durability was asked for"
        );
        for at in after {
            let opened = opened_by(calls, at);
            assert!(
                opened.contains("O_DIRECTORY") && opened.contains(&format!("\"{directory}\"")),
                "{opened}"
            );
            // Nothing else happens before it: nobody has appended, or been told that the channel is there.
            let earlier = calls[named..at]
                .iter()
                .filter(|call| ["msync", "write"].contains(&call.name.as_str()))
                .count();
            assert_eq!(earlier, 0, "{name}");
        }
    }
}

/// A hexadecimal address.
fn address(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

#[test]
fn the_synced_tail_moves_only_after_the_sync_of_all_that_is_before_it() {
    let this = "the_synced_tail_moves_only_after_the_sync_of_all_that_is_before_it";
    if let Some((_, arguments)) = role() {
        return scenes::run(&arguments);
    }
    let disk = storage();
    let Some((scene, watched)) = watch(this, disk.as_ref(), "sync") else { return };
    judge(scene, None, &watched);
    let file = std::fs::read(watched.dir.path().join(NAME)).unwrap();
    let (control, data) = (4096, common::data_offset(&file));
    let tails: Vec<u64> = watched
        .said
        .iter()
        .filter_map(|line| line.strip_prefix("synced "))
        .map(|at| at.parse().unwrap())
        .collect();
    // Three syncs, that of the end, and one more of the control page.
    let syncs: Vec<_> = watched.calls.iter().filter(|call| call.name == "msync").collect();
    assert_eq!((tails.len(), syncs.len()), (3, 5));
    let mapped =
        |call: &&Call| call.name == "mmap" && call.arguments.contains("PROT_READ|PROT_WRITE, MAP_SHARED");
    let base = address(&watched.calls.iter().find(mapped).unwrap().result);
    for (call, tail) in syncs.iter().zip(&tails) {
        let numbers: Vec<_> = call.arguments.split(", ").collect();
        let (from, len) = (address(numbers[0]) - base, numbers[1].parse::<u64>().unwrap());
        assert!(
            from <= control && from + len >= data + tail + 8,
            "control page, records, the word behind: {call:?}"
        );
        assert_eq!(numbers[2], "MS_SYNC");
    }
    // The same again, with each sync in turn failing.
    for failing in 1..=5 {
        let call = "msync".to_owned();
        let fault = Fault { scene, call, nth: failing, arguments: String::new(), errno: "EIO", once: true };
        let failed = run(this, disk.as_ref(), scene, Some(&fault)).unwrap();
        let file = std::fs::read(failed.dir.path().join(NAME)).unwrap();
        let before = tails[..(failing - 1).min(3)].last().copied().unwrap_or(0);
        assert_eq!(
            common::word_at(&file, control as usize),
            before,
            "live word, after {failing} syncs of which one failed"
        );
        if failing < 5 {
            // The last one is there to let a slot tell of the one before, which has succeeded.
            for slot in [2048, 3072] {
                assert!(
                    common::word_at(&file, control as usize + slot) <= before,
                    "slots, after {failing} syncs"
                );
            }
        }
        judge(scene, Some(&fault), &failed);
    }
}
