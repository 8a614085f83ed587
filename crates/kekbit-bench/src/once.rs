//! Appends once through one peer, then reads once, in one process: for tools that count.

use std::hint::black_box;
use std::path::PathBuf;

use crate::Result;
use crate::peer::{Link, Peer, Receiver, Sender};
use crate::peers::{self, Visitor};

#[derive(clap::Args, Clone)]
pub(crate) struct OnceArgs {
    /// The peer, by its name.
    #[arg(long, default_value = "kekbit, prepared")]
    peer: String,
    /// Also read what was appended.
    #[arg(long)]
    read: bool,
    /// Where the files go.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Bytes of a record.
    #[arg(long, default_value_t = 96)]
    size: usize,
    /// Records.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
}

pub(crate) fn run(args: &OnceArgs) -> Result<()> {
    peers::visit(&args.peer, Once(args))
}

struct Once<'a>(&'a OnceArgs);

impl Visitor for Once<'_> {
    type Output = ();

    fn visit<P: Peer>(self, peer: &P) -> Result<()> {
        let args = self.0;
        let dir = tempfile::tempdir_in(&args.dir)?;
        let link = Link {
            dir: dir.path(),
            name: "once",
            size: args.size,
            records: Some(args.records),
            segment: 256 << 20,
        };
        let payload = vec![0x5A; args.size];
        let mut sender = peer.sender(&link)?;
        for _ in 0..args.records {
            sender.send(&payload)?;
        }
        if args.read {
            let mut receiver = peer.receiver(&link)?;
            let (mut records, mut bytes) = (0, 0);
            while records < args.records {
                let taken = receiver.poll(&mut |record| bytes += black_box(record).len())?;
                if taken == 0 {
                    return Err(format!("only {records} records are there").into());
                }
                records += taken as u64;
            }
            println!("{bytes} bytes");
        }
        sender.finish()
    }
}
