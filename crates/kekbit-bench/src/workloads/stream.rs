//! Records from sender to receiver, as fast as they go: a given number of them, or for a given time.

use std::time::Duration;

use crate::Result;
use crate::clock::now_ns;
use crate::payload::{Incoming, Outgoing};
use crate::peer::{Receiver, Sender};
use crate::roles::{Outcome, Role};

/// Records between two looks at the clock.
const A_WHILE: u64 = 1024;

pub(crate) fn send<S: Sender>(sender: &mut S, role: &Role) -> Result<Outcome> {
    let mut outgoing = Outgoing::<0>::new(role.size)?;
    let begun_ns = now_ns();
    let records = match (role.records, role.seconds) {
        (Some(records), _) => {
            for _ in 0..records {
                sender.send(outgoing.next())?;
            }
            records
        }
        (None, Some(seconds)) => {
            let end = begun_ns + Duration::try_from_secs_f64(seconds)?.as_nanos() as u64;
            let mut records = 0;
            while now_ns() < end {
                for _ in 0..A_WHILE {
                    sender.send(outgoing.next())?;
                }
                records += A_WHILE;
            }
            sender.send(outgoing.last())?;
            records
        }
        (None, None) => return Err("neither the number of records nor the time is given".into()),
    };
    sender.flush()?;
    Ok(Outcome { records, begun_ns, ended_ns: now_ns(), histogram: None })
}

pub(crate) fn receive<R: Receiver>(receiver: &mut R, role: &Role) -> Result<Outcome> {
    let mut incoming = Incoming::<0>::new(role.size);
    let expected = role.records.unwrap_or(u64::MAX);
    let begun_ns = now_ns();
    while incoming.received() < expected && !incoming.has_ended() {
        let polled = receiver.poll(&mut |record| incoming.check(record));
        incoming.verdict()?;
        if polled? == 0 {
            receiver.rest();
        }
    }
    Ok(Outcome { records: incoming.received(), begun_ns, ended_ns: now_ns(), histogram: None })
}
