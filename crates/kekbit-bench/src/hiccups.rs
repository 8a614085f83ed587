//! What the machine itself does to latencies: the open loop with nothing behind it. Each moment at which a record would be due is
//! compared with the moment at which this thread, which does nothing else, notices it.

use std::time::Duration;

use crate::Result;
use crate::clock::now_ns;
use crate::histogram::Latencies;
use crate::roles::pin;

#[derive(clap::Args, Clone)]
pub(crate) struct HiccupsArgs {
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Moments a second.
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// Where.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

pub(crate) fn run(args: &HiccupsArgs) -> Result<()> {
    pin(args.core)?;
    if !(1.0..=1e9).contains(&args.rate) {
        return Err("the rate is from 1 to 10⁹ a second".into());
    }
    let duration = Duration::try_from_secs_f64(args.seconds)?.as_nanos() as u64;
    let interval = 1e9 / args.rate;
    let mut latencies = Latencies::new()?;
    let begun = now_ns();
    for n in 0.. {
        let due = begun + (n as f64 * interval) as u64;
        if due - begun > duration {
            break;
        }
        let mut now = now_ns();
        while now < due {
            std::hint::spin_loop();
            now = now_ns();
        }
        latencies.record(now - due);
    }
    let figures: Vec<_> =
        latencies.figures().into_iter().map(|(measure, value)| format!("{value} {measure}")).collect();
    println!("{}", figures.join("; "));
    Ok(())
}
