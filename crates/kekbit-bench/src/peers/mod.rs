//! Every system under test, and how it is found by its name.
//!
//! A system is a family of configurations, a `Vec` of values that implement [`Peer`]. To add one, add its module, behind a
//! feature if it is heavy, and its line in `families!`. A system that is a program of its own (another language) has a line
//! in [`foreign::programs`] instead: it is started in place of this program's `role`, with the same arguments.

#[cfg(feature = "aeron")]
mod aeron;
#[cfg(feature = "chronicle")]
mod chronicle;
pub(crate) mod foreign;
mod framed;
#[cfg(feature = "iceoryx2")]
mod iceoryx2;
mod journal;
mod kekbit;
mod meet;
mod old;
mod old_files;
mod pipe;
mod raw;
mod raw_reuse;
mod reuse;
pub(crate) mod rtt;
pub(crate) mod settings;
mod socket;

use std::process::Command;

use crate::Result;
use crate::peer::{About, Peer, Workload};

pub(crate) use self::raw::{create as new_map, frame_len};
pub(crate) use self::rtt::NAME as RAW_RTT;

/// Records that a receiver takes in one poll, at most.
const AT_ONCE: usize = 256;

/// Files, or parts of one, that peers have at once that go from one to the next.
const PARTS: u64 = 4;

/// The one place where families of peers are named.
macro_rules! families {
    ($each:ident) => {
        $each!(raw::all::<true>());
        $each!(raw::all::<false>());
        $each!(raw_reuse::all());
        $each!(kekbit::all());
        $each!(reuse::all());
        $each!(journal::all());
        $each!(old::all());
        $each!(old_files::all());
        $each!(settings::appending());
        $each!(settings::in_place());
        $each!(settings::stamped());
        $each!(settings::batches());
        $each!(settings::waiting());
        #[cfg(feature = "aeron")]
        $each!(aeron::all());
        #[cfg(feature = "iceoryx2")]
        $each!(iceoryx2::all());
        $each!(pipe::all());
        $each!(socket::all());
    };
}

/// Something to be done with a peer of whatever type.
pub(crate) trait Visitor {
    type Output;

    fn visit<P: Peer>(self, peer: &P) -> Result<Self::Output>;
}

/// Does it with the peer of this name.
pub(crate) fn visit<V: Visitor>(name: &str, visitor: V) -> Result<V::Output> {
    macro_rules! look_in {
        ($family:expr) => {
            if let Some(peer) = $family.into_iter().find(|peer| peer.name() == name) {
                return visitor.visit(&peer);
            }
        };
    }
    families!(look_in);
    let names: Vec<_> = entries().into_iter().map(|entry| entry.name).collect();
    Err(format!("no peer is called {name}: there are {}", names.join("; ")).into())
}

/// A peer, as the coordinator sees it.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) about: About,
    /// The workloads that measure it.
    pub(crate) workloads: Vec<Workload>,
    /// What is started as its sender and its receiver; an error says which tools are missing.
    pub(crate) command: fn() -> Result<Command>,
}

/// All peers, in the order in which they are shown.
pub(crate) fn entries() -> Vec<Entry> {
    let mut entries = vec![rtt::entry()];
    macro_rules! add {
        ($family:expr) => {
            entries.extend($family.iter().map(entry));
        };
    }
    families!(add);
    entries.extend(foreign::programs());
    entries.extend(foreign::left_out());
    entries
}

fn entry<P: Peer>(peer: &P) -> Entry {
    let all = <Workload as clap::ValueEnum>::value_variants();
    Entry {
        name: peer.name(),
        about: peer.about(),
        workloads: all.iter().copied().filter(|workload| peer.takes_part(*workload)).collect(),
        command: this_program,
    }
}

/// This program, told to play a role.
pub(crate) fn this_program() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("role");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name;

    impl Visitor for Name {
        type Output = String;

        fn visit<P: Peer>(self, peer: &P) -> Result<String> {
            Ok(peer.name())
        }
    }

    #[test]
    fn every_peer_is_found_by_its_name_and_no_two_share_one() {
        let mut names: Vec<_> = entries().into_iter().map(|entry| entry.name).collect();
        let others = foreign::programs().into_iter().chain(foreign::left_out());
        let others: Vec<_> = others.map(|entry| entry.name).collect();
        for name in names.iter().filter(|name| **name != RAW_RTT && !others.contains(name)) {
            assert_eq!(&visit(name, Name).unwrap(), name);
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(visit("nobody", Name).unwrap_err().to_string().contains("raw, prepared"));
    }
}
