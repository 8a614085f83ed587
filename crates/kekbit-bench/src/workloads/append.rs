//! One thread appends; nobody reads meanwhile. Afterwards it is read, so that what is measured is known to be there.

use crate::Result;
use crate::peer::{Link, Peer, Sender};
use crate::roles::{Role, conclude, say, wait_for_go};
use crate::workloads::stream;

pub(crate) fn play<P: Peer>(peer: &P, role: &Role, link: &Link<'_>) -> Result<()> {
    let mut sender = peer.sender(link)?;
    say("created")?;
    say("ready")?;
    wait_for_go()?;
    let outcome = stream::send(&mut sender, role)?;
    let received = stream::receive(&mut peer.receiver(link)?, role)?;
    if received.records != outcome.records {
        return Err(format!("{} of {} records are there", received.records, outcome.records).into());
    }
    conclude(&outcome)?;
    sender.finish()
}
