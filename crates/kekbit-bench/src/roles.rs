//! The part of a measurement that one process plays, and what the coordinator and the process say to each other.
//!
//! A role is started as `PROGRAM role ARGUMENTS`, or as another program with the same arguments:
//!
//! ```text
//! --peer NAME --side sender|receiver --workload NAME --dir DIR --link NAME --size BYTES --segment BYTES --core N
//! [--records N] [--seconds S] [--rate R]
//! ```
//!
//! It keeps itself on core N, and speaks in lines over its standard input and output. Anything for people goes to standard
//! error, of which the last line is shown if the role fails. In this order:
//!
//! ```text
//! coordinator                              sender                              receiver
//! starts the sender                        creates what there is to create
//!                                          says "created"
//! starts the receiver                                                          finds what the sender has created
//!                                          waits until it is connected         says "ready"
//!                                          says "ready"
//! says "go" to the receiver, then to the sender
//!                                          sends                               receives, checks each byte
//!                                          prints one line of JSON             prints one line of JSON
//! closes both standard inputs              finishes, exits with 0              exits with 0
//! ```
//!
//! The line is `{"records":N,"begun_ns":T,"ended_ns":T,"histogram":"..."}`: what was sent or received; when the first record
//! was about to be sent, and when the last one had been sent or checked, by `CLOCK_MONOTONIC` in nanoseconds; and where there
//! are latencies, a histogram of them in nanoseconds (HdrHistogram V2, deflated, base64 with padding). What is in the
//! records is said in `payload`. A role that finds anything wrong exits with another code, and prints no such line.
//!
//! | workload | what passes | latencies |
//! | --- | --- | --- |
//! | `stream` | `--records` records, as fast as they go | |
//! | `fresh` | the same, but "created" and "ready" are said before anything is created, and the sender finishes before it reads the clock for the last time: everything is included | |
//! | `sustained` | as many as can be sent in `--seconds` seconds, then a record with the last sequence | |
//! | `pingpong` | `--records` round trips: the sender sends on the link NAME, the receiver sends each record back on the link `NAME-back` (it is that link's sender, and creates it before it says "ready") | the sender's: from before the record is sent to when it is back and checked; the first tenth of the trips is not counted |
//! | `open-loop` | `--rate` times `--seconds` records, each of which is due at its time, whether or not those before it could be sent in time; that time is in its first 8 bytes | the receiver's: from when the record was due to when it is checked; the first tenth is not counted |

use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::peer::{Link, Peer, Sender, Workload};
use crate::peers::{self, RAW_RTT, Visitor};
use crate::workloads::{append, open_loop, pingpong, stream};
use crate::{Result, clock};

/// Which part a process plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

/// What a role is told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Role {
    /// The peer, by its name.
    #[arg(long)]
    pub(crate) peer: String,
    #[arg(long)]
    pub(crate) side: Side,
    #[arg(long)]
    pub(crate) workload: Workload,
    /// A directory of this measurement's own.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) link: String,
    /// Bytes of a record.
    #[arg(long)]
    pub(crate) size: usize,
    /// Bytes of a file, for peers that go from file to file.
    #[arg(long)]
    pub(crate) segment: u64,
    #[arg(long)]
    pub(crate) core: usize,
    #[arg(long)]
    pub(crate) records: Option<u64>,
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Records a second.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

/// What a role has to say in the end.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) records: u64,
    pub(crate) begun_ns: u64,
    pub(crate) ended_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) histogram: Option<String>,
}

impl Role {
    /// How many records will pass, if that is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.records.or_else(|| Some((self.rate? * self.seconds?).ceil() as u64))
    }

    pub(crate) fn known_total(&self) -> Result<u64> {
        self.total().ok_or_else(|| format!("{:?} needs the number of records", self.workload).into())
    }

    fn link<'a>(&'a self, name: &'a str) -> Link<'a> {
        Link { dir: &self.dir, name, size: self.size, records: self.total(), segment: self.segment }
    }

    /// The arguments that say the same.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        use clap::ValueEnum;
        let mut arguments: Vec<String> = [
            ("--peer", self.peer.clone()),
            ("--side", name(self.side.to_possible_value())),
            ("--workload", name(self.workload.to_possible_value())),
            ("--dir", self.dir.display().to_string()),
            ("--link", self.link.clone()),
            ("--size", self.size.to_string()),
            ("--segment", self.segment.to_string()),
            ("--core", self.core.to_string()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect();
        let mut add = |option: &str, value: Option<String>| {
            arguments.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        };
        add("--records", self.records.map(|n| n.to_string()));
        add("--seconds", self.seconds.map(|n| n.to_string()));
        add("--rate", self.rate.map(|n| n.to_string()));
        arguments
    }
}

/// Plays the role.
pub(crate) fn run(role: &Role) -> Result<()> {
    die_with_parent()?;
    pin(role.core)?;
    match (role.peer.as_str(), role.workload) {
        (RAW_RTT, Workload::Pingpong) => pingpong::one_line(role),
        _ => peers::visit(&role.peer, Play(role)),
    }
}

/// A coordinator that is killed leaves nobody behind who spins.
pub(crate) fn die_with_parent() -> Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
}

/// Keeps this thread on one core: sender and receiver each have their own.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(core)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
        .map_err(|error| format!("cannot stay on core {core}: {error}: name other cores with --cores").into())
}

/// Says a line to the coordinator.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Waits until the coordinator says so.
pub(crate) fn wait_for_go() -> Result<()> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    if line.trim_end() == "go" { Ok(()) } else { Err(format!("expected \"go\", not {line:?}").into()) }
}

/// Says what came out, and waits until the coordinator has heard it from everybody.
pub(crate) fn conclude(outcome: &Outcome) -> Result<()> {
    say(&serde_json::to_string(outcome)?)?;
    let mut rest = String::new();
    stdin().lock().read_line(&mut rest)?;
    Ok(())
}

/// Waits until the receiver is there.
fn connect(sender: &mut impl Sender) -> Result<()> {
    // The coordinator has a deadline.
    while !sender.is_connected()? {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

struct Play<'r>(&'r Role);

impl Visitor for Play<'_> {
    type Output = ();

    fn visit<P: Peer>(self, peer: &P) -> Result<()> {
        let role = self.0;
        match (role.workload, role.side) {
            (Workload::Append, _) => append::play(peer, role, &role.link(&role.link)),
            (Workload::Fresh, side) => fresh(peer, role, side),
            (Workload::Pingpong, side) => pingpong(peer, role, side),
            (_, Side::Sender) => {
                let mut sender = peer.sender(&role.link(&role.link))?;
                say("created")?;
                connect(&mut sender)?;
                say("ready")?;
                wait_for_go()?;
                let outcome = match role.workload {
                    Workload::OpenLoop => open_loop::send(&mut sender, role)?,
                    _ => stream::send(&mut sender, role)?,
                };
                conclude(&outcome)?;
                sender.finish()
            }
            (_, Side::Receiver) => {
                let mut receiver = peer.receiver(&role.link(&role.link))?;
                say("ready")?;
                wait_for_go()?;
                let outcome = match role.workload {
                    Workload::OpenLoop => open_loop::receive(&mut receiver, role)?,
                    _ => stream::receive(&mut receiver, role)?,
                };
                conclude(&outcome)
            }
        }
    }
}

/// A stream with everything that belongs to it.
fn fresh<P: Peer>(peer: &P, role: &Role, side: Side) -> Result<()> {
    let link = role.link(&role.link);
    if side == Side::Receiver {
        say("ready")?;
        wait_for_go()?;
        return conclude(&stream::receive(&mut peer.receiver(&link)?, role)?);
    }
    say("created")?;
    say("ready")?;
    wait_for_go()?;
    let begun_ns = clock::now_ns();
    let mut sender = peer.sender(&link)?;
    connect(&mut sender)?;
    let sent = stream::send(&mut sender, role)?;
    sender.finish()?;
    conclude(&Outcome { begun_ns, ended_ns: clock::now_ns(), ..sent })
}

fn pingpong<P: Peer>(peer: &P, role: &Role, side: Side) -> Result<()> {
    let back_name = format!("{}-back", role.link);
    let (there, back) = (role.link(&role.link), role.link(&back_name));
    let (mut sender, mut receiver);
    if side == Side::Sender {
        sender = peer.sender(&there)?;
        say("created")?;
        receiver = peer.receiver(&back)?;
    } else {
        receiver = peer.receiver(&there)?;
        sender = peer.sender(&back)?;
    }
    connect(&mut sender)?;
    say("ready")?;
    wait_for_go()?;
    let outcome = match side {
        Side::Sender => pingpong::ping(&mut sender, &mut receiver, role)?,
        Side::Receiver => pingpong::pong(&mut receiver, &mut sender, role)?,
    };
    conclude(&outcome)?;
    sender.finish()
}
