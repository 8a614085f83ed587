//! Does one operation of the hot path so many times and nothing else, so that its instructions can be counted:
//!
//! ```text
//! valgrind --tool=callgrind target/release/examples/hot_path append 96 200000 /dev/shm/hot.kek
//! valgrind --tool=callgrind target/release/examples/hot_path read 96 200000 /dev/shm/hot.kek
//! ```
//!
//! `.ci/instructions` does so with two numbers of records and takes the difference: what an operation costs, without starting
//! and creating or opening a channel.

use std::error::Error;
use std::hint::black_box;

use kekbit::{Chain, Channel, Checksum, Durability, Prepare, Start, Timestamp, Verify, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [operation, len, records, path] = &args[..] else {
        return Err("usage: hot_path OPERATION BYTES RECORDS PATH".into());
    };
    let (len, records) = (len.parse::<usize>()?, records.parse::<u64>()?);
    let options = Writer::options()
        .capacity((len as u64 + 40) * records + 4096)
        .prepare(Prepare::All)
        .durability(Durability::Never);
    match operation.as_str() {
        "poll" => poll(&options.create(path)?, path, records),
        "append-unchecked" => write("append", options.checksum(Checksum::None).create(path)?, len, records),
        "append-timestamp" => write("append", options.stage(Timestamp::nanos()).create(path)?, len, records),
        "append" | "append-with" | "batch" => write(operation, options.create(path)?, len, records),
        _ => {
            let (how, verify) = match operation.strip_suffix("-verified") {
                Some(how) => (how, Verify::Always),
                None => (operation.as_str(), Verify::Never),
            };
            read(how, &Channel::options().verify(verify).open(path)?, records)
        }
    }
}

fn write<C: Chain>(how: &str, mut writer: Writer<C>, len: usize, records: u64) -> Result<(), Box<dyn Error>> {
    let payload = black_box(vec![0x5A; len]);
    match how {
        "append-with" => {
            for _ in 0..records {
                writer.append_with(len, |space| {
                    space.copy_from_slice(&payload);
                    len
                })?;
            }
        }
        "batch" => {
            // Ten records each.
            for _ in 0..records / 10 {
                let mut batch = writer.batch();
                for _ in 0..10 {
                    batch.push(&payload)?;
                }
                batch.commit()?;
            }
        }
        _ => {
            for _ in 0..records {
                writer.append(&payload)?;
            }
        }
    }
    Ok(writer.close()?)
}

/// Polls a channel whose writer says nothing.
fn poll(_writer: &Writer, path: &str, polls: u64) -> Result<(), Box<dyn Error>> {
    let mut reader = Channel::open(path)?.reader(Start::Beginning)?;
    for _ in 0..polls {
        if black_box(reader.try_next()?).is_some() {
            return Err("nobody has written anything".into());
        }
    }
    Ok(())
}

fn read(how: &str, channel: &Channel, records: u64) -> Result<(), Box<dyn Error>> {
    let mut count = 0;
    match how {
        "read" => {
            let mut reader = channel.reader(Start::Beginning)?;
            while let Some(record) = reader.try_next()? {
                black_box(record.payload());
                count += 1;
            }
        }
        "scan" => {
            for record in channel.records() {
                black_box(record?.payload());
                count += 1;
            }
        }
        _ => return Err(format!("no operation {how}").into()),
    }
    if count == records { Ok(()) } else { Err(format!("{count} of {records} records were read").into()) }
}
