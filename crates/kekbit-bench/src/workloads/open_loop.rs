//! Records at a given rate, whether or not the system keeps up: the delay of each is counted from when it was due, so that a
//! sender that is held up cannot hide what those behind it have to wait (no coordinated omission).

use crate::Result;
use crate::clock::now_ns;
use crate::histogram::Latencies;
use crate::payload::{Incoming, Outgoing, number};
use crate::peer::{Receiver, Sender};
use crate::roles::{Outcome, Role};

pub(crate) fn send<S: Sender>(sender: &mut S, role: &Role) -> Result<Outcome> {
    let mut outgoing = Outgoing::<8>::new(role.size)?;
    let records = role.known_total()?;
    let interval = 1e9 / role.rate.ok_or("the open loop needs a rate")?;
    let begun_ns = now_ns();
    for n in 0..records {
        let due = begun_ns + (n as f64 * interval) as u64;
        if now_ns() < due {
            sender.flush()?;
            while now_ns() < due {
                std::hint::spin_loop();
            }
        }
        let record = outgoing.next();
        record[..8].copy_from_slice(&due.to_le_bytes());
        sender.send(record)?;
    }
    sender.flush()?;
    Ok(Outcome { records, begun_ns, ended_ns: now_ns(), histogram: None })
}

pub(crate) fn receive<R: Receiver>(receiver: &mut R, role: &Role) -> Result<Outcome> {
    let mut incoming = Incoming::<8>::new(role.size);
    let mut latencies = Latencies::new()?;
    let records = role.known_total()?;
    let begun_ns = now_ns();
    while incoming.received() < records {
        let polled = receiver.poll(&mut |record| {
            let before = incoming.received();
            incoming.check(record);
            if before >= records / 10 && incoming.received() > before {
                latencies.record(now_ns().saturating_sub(number(record, 0)));
            }
        });
        incoming.verdict()?;
        if polled? == 0 {
            std::hint::spin_loop();
        }
    }
    let ended_ns = now_ns();
    Ok(Outcome { records, begun_ns, ended_ns, histogram: Some(latencies.encode()?) })
}
