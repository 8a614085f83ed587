//! One writer, shared by threads that never block on each other.
//!
//! ```sh
//! cargo run --example shared_writer -- /tmp/shared.kek
//! cargo run --example echo_out -- /tmp/shared.kek         # meanwhile or afterwards
//! ```
//!
//! A thread that finds the writer taken tries again for a moment, and is then told that it is busy. What it does about
//! that is its own business; here it tries on.

use std::env;
use std::error::Error;
use std::thread;

use kekbit::{AppendError, Channel, SharedError, SharedWriter, Wait, Writer};

const THREADS: usize = 4;
const RECORDS: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: shared_writer PATH")?;
    let writer = SharedWriter::new(Writer::create(&path)?);

    // Whoever has something longer to do takes the writer for that time. These two records appear at once, with nothing
    // in between; and the thread that tries is told that the writer is busy.
    let other = writer.with(Wait::backoff(), |mine| -> Result<_, AppendError> {
        let mut batch = mine.batch();
        batch.push(b"first of all")?;
        let other = thread::scope(|scope| scope.spawn(|| writer.append(b"in between")).join());
        batch.push(b"second of all")?;
        batch.commit()?;
        Ok(other.expect("no panic"))
    })??;
    println!("in between: {other:?}");

    thread::scope(|scope| {
        let start = |thread| {
            let writer = writer.clone();
            scope.spawn(move || append_all(&writer, thread))
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    writer.close()?;

    let channel = Channel::open(&path)?;
    let mut next = [0; THREADS];
    for record in channel.records().skip(2) {
        let record = record?;
        let (thread, n) = str::from_utf8(&record)?.split_once(' ').ok_or("a record of another kind")?;
        let expected = &mut next[thread.parse::<usize>()?];
        if n.parse() != Ok(*expected) {
            return Err(format!("thread {thread}: record {n} instead of {expected}").into());
        }
        *expected += 1;
    }
    for (thread, count) in next.iter().enumerate() {
        println!("thread {thread}: {count} records, in order");
    }
    Ok(())
}

fn append_all(writer: &SharedWriter, thread: usize) -> Result<(), SharedError> {
    for n in 0..RECORDS {
        let record = format!("{thread} {n}");
        loop {
            match writer.append(record.as_bytes()) {
                Ok(_) => break,
                // Nothing has happened. Had this thread anything else to do, it would do that first.
                Err(SharedError::Busy) => thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
