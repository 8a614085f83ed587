//! One writer, many readers: a process that writes a channel, and others that read it at the same time.
//!
//! ```sh
//! cargo run --release --example many_readers              # 4 readers, 1000000 records
//! cargo run --release --example many_readers -- 8 50000   # 8 readers, 50000 records
//! ```
//!
//! The writer starts its readers, which are processes of the same program, and writes without regard to them. Each
//! counts and adds up what it reads until the channel is closed. In the end all must have the same.

use std::env;
use std::error::Error;
use std::process::{Command, Stdio};

use kekbit::{Channel, End, Start, Wait, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [] => write(4, 1_000_000),
        [role, path] if role == "read" => read(path),
        [readers, records] => write(readers.parse()?, records.parse()?),
        _ => Err("usage: many_readers [READERS RECORDS]".into()),
    }
}

fn write(readers: u32, records: u64) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("numbers.kek");
    let mut writer = Writer::create(&path)?;

    let mut reader = Command::new(env::current_exe()?);
    reader.arg("read").arg(&path).stdout(Stdio::piped());
    let readers = (0..readers).map(|_| reader.spawn()).collect::<Result<Vec<_>, _>>()?;

    let mut sum = 0;
    for number in 0..records {
        writer.append(&number.to_le_bytes())?;
        sum += number;
    }
    writer.close()?;

    let written = tally(records, sum);
    println!("writer: {written}");
    for (n, reader) in readers.into_iter().enumerate() {
        let output = reader.wait_with_output()?;
        let seen = String::from_utf8(output.stdout)?;
        println!("reader {n}: {}", seen.trim_end());
        if !output.status.success() || seen.trim_end() != written {
            return Err("a reader has not seen what was written".into());
        }
    }
    Ok(())
}

fn read(path: &str) -> Result<(), Box<dyn Error>> {
    let mut reader = Channel::open(path)?.reader(Start::Beginning)?;
    let (mut count, mut sum) = (0, 0);
    while let Some(record) = reader.next(Wait::backoff())? {
        count += 1;
        sum += u64::from_le_bytes(record[..].try_into()?);
    }
    match reader.end() {
        Some(End::Closed) => {
            println!("{}", tally(count, sum));
            Ok(())
        }
        end => Err(format!("the writer has not closed its channel: {end:?}").into()),
    }
}

fn tally(count: u64, sum: u64) -> String {
    format!("{count} records, sum {sum}")
}
