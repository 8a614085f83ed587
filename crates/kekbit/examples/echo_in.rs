//! Echo, the writing half: appends each line of standard input to a new channel.
//!
//! ```sh
//! cargo run --example echo_out -- /tmp/echo.kek   # in one terminal; it may be started first
//! cargo run --example echo_in -- /tmp/echo.kek    # in another one: type, end with Ctrl-D
//! ```
//!
//! End with Ctrl-C or `kill -9` instead, and the reader says that the writer has died. A channel is written once: for
//! a second run choose another path, or remove the file.

use std::env;
use std::error::Error;
use std::io::{self, BufRead};

use kekbit::Writer;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: echo_in PATH")?;
    let mut writer = Writer::create(path)?;
    for line in io::stdin().lock().split(b'\n') {
        writer.append(&line?)?;
    }
    // Dropping the writer would close the channel too, but could not tell whether that has succeeded.
    writer.close()?;
    Ok(())
}
