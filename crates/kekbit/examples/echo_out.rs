//! Echo, the reading half: prints each record of a channel as a line, as soon as it is there, until the channel ends.
//!
//! ```sh
//! cargo run --example echo_out -- /tmp/echo.kek   # in as many terminals as you like, before or after the writer
//! cargo run --example echo_in -- /tmp/echo.kek    # in one other
//! ```
//!
//! How the channel has ended is said on standard error.

use std::env;
use std::error::Error;
use std::io::{self, Write};

use kekbit::{Channel, End, Start, Wait};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: echo_out PATH")?;
    let channel = Channel::wait_for(path, Wait::backoff())?.ok_or("waiting was given up")?;
    let mut reader = channel.reader(Start::Beginning)?;
    let mut out = io::stdout().lock();
    while let Some(record) = reader.next(Wait::backoff())? {
        out.write_all(&record)?;
        out.write_all(b"\n")?;
    }
    match reader.end() {
        Some(End::Closed) => eprintln!("closed by its writer"),
        Some(End::Abandoned) => eprintln!("the writer has died; this is all that it wrote"),
        Some(end) => eprintln!("ended: {end:?}"),
        None => eprintln!("waiting was given up"),
    }
    Ok(())
}
