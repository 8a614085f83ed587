//! One record there and back, again and again: how long each round trip takes.

use crate::Result;
use crate::clock::now_ns;
use crate::histogram::Latencies;
use crate::payload::{Incoming, Outgoing};
use crate::peer::{Receiver, Sender};
use crate::peers::rtt::Line;
use crate::roles::{Outcome, Role, Side, conclude, say, wait_for_go};

/// Measures `trips` round trips, of which the first tenth are not counted.
#[inline]
fn measure(trips: u64, mut trip: impl FnMut(u64) -> Result<()>) -> Result<Outcome> {
    let mut latencies = Latencies::new()?;
    let begun_ns = now_ns();
    for n in 0..trips {
        let begun = now_ns();
        trip(n)?;
        let took = now_ns() - begun;
        if n >= trips / 10 {
            latencies.record(took);
        }
    }
    let ended_ns = now_ns();
    Ok(Outcome { records: trips, begun_ns, ended_ns, histogram: Some(latencies.encode()?) })
}

pub(crate) fn ping<S: Sender, R: Receiver>(sender: &mut S, receiver: &mut R, role: &Role) -> Result<Outcome> {
    let mut outgoing = Outgoing::<0>::new(role.size)?;
    let mut incoming = Incoming::<0>::new(role.size);
    measure(role.known_total()?, |n| {
        sender.send(outgoing.next())?;
        sender.flush()?;
        while incoming.received() == n {
            let polled = receiver.poll(&mut |record| incoming.check(record));
            incoming.verdict()?;
            if polled? == 0 {
                std::hint::spin_loop();
            }
        }
        Ok(())
    })
}

pub(crate) fn pong<R: Receiver, S: Sender>(receiver: &mut R, sender: &mut S, role: &Role) -> Result<Outcome> {
    let mut outgoing = Outgoing::<0>::new(role.size)?;
    let mut incoming = Incoming::<0>::new(role.size);
    let trips = role.known_total()?;
    let begun_ns = now_ns();
    for n in 0..trips {
        while incoming.received() == n {
            let polled = receiver.poll(&mut |record| incoming.check(record));
            incoming.verdict()?;
            if polled? == 0 {
                std::hint::spin_loop();
            }
        }
        sender.send(outgoing.next())?;
        sender.flush()?;
    }
    Ok(Outcome { records: trips, begun_ns, ended_ns: now_ns(), histogram: None })
}

/// The same with nothing but a cache line.
pub(crate) fn one_line(role: &Role) -> Result<()> {
    let path = role.dir.join(&role.link);
    let line = match role.side {
        Side::Sender => {
            let line = Line::create(&path)?;
            say("created")?;
            line
        }
        Side::Receiver => Line::open(&path)?,
    };
    say("ready")?;
    wait_for_go()?;
    let trips = role.known_total()?;
    conclude(&match role.side {
        Side::Sender => measure(trips, |n| {
            line.ping(n);
            Ok(())
        })?,
        Side::Receiver => {
            let begun_ns = now_ns();
            (0..trips).for_each(|n| line.pong(n));
            Outcome { records: trips, begun_ns, ended_ns: now_ns(), histogram: None }
        }
    })
}
