//! What every system under test has in common: one side that sends, one that receives, each in a process of its own.
//!
//! The workloads are generic over these traits, so that their loops are compiled for each peer and nothing is dispatched
//! while it is measured. A peer in another language is a program that speaks the same lines (see `roles`).

use std::path::Path;

use crate::Result;

/// Where a sender and a receiver meet, and what is going to pass between them.
#[derive(Clone, Debug)]
pub(crate) struct Link<'a> {
    /// A directory of their own, which exists; the coordinator removes it afterwards.
    pub(crate) dir: &'a Path,
    /// Tells apart the links in one directory: "there" and "back" of a ping-pong.
    pub(crate) name: &'a str,
    /// Bytes of each record.
    pub(crate) size: usize,
    /// Records that will pass, so that files can be large enough; `None` if that is not known: until the time is up.
    pub(crate) records: Option<u64>,
    /// Bytes of a file, for systems that go from file to file.
    pub(crate) segment: u64,
}

/// A way to put a system under load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Workload {
    /// One thread appends, nobody reads.
    Append,
    /// Records from sender to receiver, as fast as they go; what has to be created is there beforehand.
    Stream,
    /// The same, with everything included: creation, pages, the end.
    Fresh,
    /// The same for a given time, without an end to the number of records.
    Sustained,
    /// One record there and back, again and again.
    Pingpong,
    /// Records at a given rate, whether or not the system keeps up.
    OpenLoop,
}

/// A system that carries records from one process to another.
pub(crate) trait Peer {
    /// Its sending side.
    type Sender: Sender;
    /// Its receiving side.
    type Receiver: Receiver;

    /// As it is shown and found again: the system, then its configuration after a comma.
    fn name(&self) -> String;

    /// What this system promises in this configuration.
    fn about(&self) -> About;

    /// Whether this configuration is measured by `workload`.
    fn takes_part(&self, workload: Workload) -> bool {
        matches!(workload, Workload::Stream | Workload::Sustained | Workload::Pingpong | Workload::OpenLoop)
    }

    /// Creates what there is to create. Returns at once; the receiver may not be there yet.
    fn sender(&self, link: &Link<'_>) -> Result<Self::Sender>;

    /// Waits for the sender, at most some seconds.
    fn receiver(&self, link: &Link<'_>) -> Result<Self::Receiver>;
}

/// What stands beside each figure.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct About {
    /// Whether records are still there when sender and receiver have gone.
    pub(crate) kept: bool,
    /// Whether a damaged record is noticed.
    pub(crate) checksummed: bool,
    /// Whether what was sent outlives a `kill -9` of the sender.
    pub(crate) survives_kill: bool,
}

/// The sending side.
pub(crate) trait Sender {
    /// Sends `record`; waits where the system makes its sender wait.
    fn send(&mut self, record: &[u8]) -> Result<()>;

    /// Lets what was sent be on its way, for systems that gather records. Called whenever nothing more is due.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether the receiver is there, for systems that lose what is sent before.
    fn is_connected(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Ends it, when the receiver has said that it has got everything; only in [`Workload::Fresh`] before that.
    fn finish(self) -> Result<()>;
}

/// The receiving side.
pub(crate) trait Receiver {
    /// Calls `each` for the records that are there, some hundred at the most, and returns how many there were. Does not
    /// wait, unless the system can do nothing else.
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize>;

    /// Spends some time when there was nothing, where only throughput counts.
    ///
    /// Polling a line that is being written slows down whoever writes it, and what then comes is taken one by one; so a
    /// receiver that has caught up does best to rest until there is something worth its while. For shared memory some ten
    /// microseconds were best in all sizes: with the bare loop the throughput of 256 and 1024 bytes is two to four times what
    /// it is without.
    #[inline]
    fn rest(&mut self) {
        for _ in 0..512 {
            std::hint::spin_loop();
        }
    }
}
