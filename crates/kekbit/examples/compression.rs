//! What compressing records costs and gains: appends the same records with the stage `Lz4` and without it, reads them back, and tells
//! for each kind of content and length how many bytes are stored, and how long appending and reading a record takes.
//!
//! `cargo run --release -p kekbit --features lz4 --example compression`

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use kekbit::{Chain, Channel, Lz4, Start, Writer, WriterOptions};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Bytes of records in each channel.
const TOTAL: usize = 16 << 20;
/// Of so many runs the fastest counts.
const RUNS: usize = 3;

fn main() -> Result {
    println!(
        "{:<12} {:>7} {:>9} {:>18} {:>18}",
        "content", "bytes", "stored", "append, ns (none)", "read, ns (none)"
    );
    for (name, content) in [("random", random as fn(usize) -> Vec<u8>), ("log lines", log), ("json", json)] {
        for len in [32, 96, 256, 1024, 4096, 65_536] {
            let content = content(TOTAL);
            let compressed = measure(&content, len, || Writer::options().stage(Lz4::new()))?;
            let plain = measure(&content, len, Writer::options)?;
            println!(
                "{name:<12} {len:>7} {:>8.0}% {:>10.0} ({:>5.0}) {:>10.0} ({:>5.0})",
                100.0 * compressed.stored,
                compressed.append,
                plain.append,
                compressed.read,
                plain.read
            );
        }
    }
    Ok(())
}

/// For each record; `stored` is a ratio.
struct Measured {
    stored: f64,
    append: f64,
    read: f64,
}

fn measure<C: Chain>(content: &[u8], len: usize, options: impl Fn() -> WriterOptions<C>) -> Result<Measured> {
    let mut best = Measured { stored: 1.0, append: f64::INFINITY, read: f64::INFINITY };
    let records = content.chunks_exact(len);
    let count = records.len() as f64;
    for _ in 0..RUNS {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let path = dir.path().join("measured.kek");
        let mut writer = options().capacity(64 << 20).max_record_len(1 << 20).create(&path)?;
        let begun = Instant::now();
        for record in records.clone() {
            writer.append(record)?;
        }
        best.append = best.append.min(begun.elapsed().as_nanos() as f64 / count);
        let mut reader = Channel::open(&path)?.reader(Start::Beginning)?;
        let (mut read, mut stored) = (0, 0);
        let begun = Instant::now();
        while let Some(record) = reader.try_next()? {
            read += black_box(&record[..]).len();
            stored += record.stored().len();
        }
        best.read = best.read.min(begun.elapsed().as_nanos() as f64 / count);
        assert_eq!(read, content.len() / len * len, "what went in comes out");
        best.stored = stored as f64 / read as f64;
    }
    Ok(best)
}

/// Numbers that look random (splitmix64).
fn numbers() -> impl FnMut() -> u64 {
    let mut state = 0_u64;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

fn random(len: usize) -> Vec<u8> {
    let mut next = numbers();
    let mut out: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    out.truncate(len);
    out
}

fn log(len: usize) -> Vec<u8> {
    let mut next = numbers();
    let mut out = String::with_capacity(len + 200);
    while out.len() < len {
        let (a, b, c) = (next() % 256, next() % 100_000, next() % 5);
        let path =
            ["/index.html", "/api/v1/orders", "/api/v1/quotes", "/static/app.js", "/login"][c as usize];
        out += &format!(
            "10.0.{a}.{} - - [27/Nov/2026:13:55:{:02} +0000] \"GET {path} HTTP/1.1\" 200 {b} \"-\" \"curl/8.5.0\"\n",
            a / 2,
            b % 60
        );
    }
    out.truncate(len);
    out.into_bytes()
}

fn json(len: usize) -> Vec<u8> {
    let mut next = numbers();
    let mut out = String::with_capacity(len + 200);
    while out.len() < len {
        let (id, price, quantity) = (next(), next() % 100_000, next() % 1000);
        let side = if quantity % 2 == 0 { "buy" } else { "sell" };
        out += &format!(
            "{{\"order_id\":{id},\"symbol\":\"AAPL\",\"side\":\"{side}\",\"price\":{}.{:02},\"quantity\":{quantity},\"venue\":\"XNAS\"}}\n",
            price / 100,
            price % 100
        );
    }
    out.truncate(len);
    out.into_bytes()
}
