//! One thread of another process, which goes from system call to system call as the test lets it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::common::GENEROUS;

/// What the helper thread of a writer is called.
pub(crate) const HELPER: &str = "kekbit-ahead";

/// Where a thread has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// Before this system call.
    Entry(i64),
    /// Behind the one before.
    Exit,
    /// It is no more.
    End,
}

/// A thread that stands still. It goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Stopped {
    thread: Option<Pid>,
}

impl Stopped {
    /// Stops `thread`, which belongs to a child; `None`, with a message, where that is not allowed.
    pub(crate) fn stop(test: &str, thread: Pid) -> Option<Stopped> {
        match ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD) {
            Ok(()) => {}
            Err(Errno::EPERM) => {
                eprintln!("{test}: skipped, since it may not trace its children");
                return None;
            }
            Err(error) => panic!("cannot trace: {error}"),
        }
        ptrace::interrupt(thread).unwrap();
        let stopped = Stopped { thread: Some(thread) };
        assert!(matches!(stopped.wait(), WaitStatus::PtraceEvent(..)));
        Some(stopped)
    }

    /// The thread of `process` that is called `name`, if there is one.
    pub(crate) fn find(process: Pid, name: &str) -> Option<Pid> {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let mut named = tasks.filter_map(|task| {
            let task = task.ok()?;
            let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
            (comm.trim_end() == name).then_some(task.file_name())
        });
        let thread = named.next()?.into_string().ok()?.parse().ok()?;
        Some(Pid::from_raw(thread))
    }

    fn wait(&self) -> WaitStatus {
        let begun = Instant::now();
        loop {
            match waitpid(self.thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).unwrap() {
                WaitStatus::StillAlive => assert!(begun.elapsed() < GENEROUS, "it makes no system call"),
                stopped => return stopped,
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Lets it go on to the beginning or the end of a system call.
    pub(crate) fn step(&mut self) -> At {
        let Some(thread) = self.thread else { return At::End };
        loop {
            ptrace::syscall(thread, None).unwrap();
            match self.wait() {
                WaitStatus::PtraceSyscall(_) => {
                    let info = ptrace::syscall_info(thread).unwrap();
                    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
                        return At::Exit;
                    }
                    // SAFETY: this part of the union is filled at the beginning of a system call.
                    return At::Entry(unsafe { info.u.entry }.nr as i64);
                }
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                    self.thread = None;
                    return At::End;
                }
                // The stop that it was asked for, once more.
                WaitStatus::PtraceEvent(..) => {}
                other => panic!("an unexpected stop: {other:?}"),
            }
        }
    }

    /// Lets it go on to the beginning of a system call with this number.
    pub(crate) fn step_to(&mut self, number: i64) {
        loop {
            match self.step() {
                At::Entry(found) if found == number => return,
                At::End => panic!("it has ended without system call {number}"),
                _ => {}
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(thread) = self.thread {
            // It may have been killed.
            let _ = ptrace::detach(thread, None);
        }
    }
}
