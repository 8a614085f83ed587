//! What durability costs: records that must outlive a power cut, one by one, through each peer in turn.
//!
//! ```text
//! cargo run --release -p kekbit-bench -- durable --dir /var/tmp
//! cargo run --release -p kekbit-bench -- durable --dir /var/tmp --threads 8
//! cargo run --release -p kekbit-bench -- sync-bytes --dir /var/tmp
//! ```
//!
//! "raw" is what the disk can do: one 4 KiB write of `O_DIRECT | O_DSYNC` for each record, into a file that has been
//! written before; sequential pages, and one page again and again.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kekbit::{Durability, Prepare, SharedWriter, Wait, Writer};
use okaywal::{LogVoid, WriteAheadLog};

use crate::Result;

#[derive(clap::Args, Clone)]
pub(crate) struct DurableArgs {
    /// Where the files go: on a disk.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Bytes of a record.
    #[arg(long, default_value_t = 96)]
    size: usize,
    /// Records of a round, of each thread.
    #[arg(long, default_value_t = 200)]
    records: u64,
    /// Rounds of each peer.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Threads that append at the same time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Something that makes a record durable, from any thread.
trait DurablePeer: Sync {
    fn name(&self) -> &'static str;
    fn append(&self, payload: &[u8]) -> Result<()>;
}

const PAGE: usize = 4096;
const RAW_PAGES: u64 = 1024;

struct Raw {
    file: File,
    buffer: Mutex<(memmap2::MmapMut, u64)>,
    sequential: bool,
}

impl Raw {
    fn new(path: &Path, sequential: bool) -> Result<Raw> {
        let file = File::create(path)?;
        for page in 0..RAW_PAGES {
            file.write_all_at(&[0; PAGE], page * PAGE as u64)?;
        }
        file.sync_all()?;
        let flags = nix::libc::O_DIRECT | nix::libc::O_DSYNC;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        // Aligned to a page, as direct writes must be.
        Ok(Raw { file, buffer: Mutex::new((memmap2::MmapMut::map_anon(PAGE)?, 0)), sequential })
    }
}

impl DurablePeer for Raw {
    fn name(&self) -> &'static str {
        if self.sequential { "raw, page after page" } else { "raw, one page" }
    }

    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut guard = self.buffer.lock().map_err(|_| "poisoned")?;
        let (buffer, next) = &mut *guard;
        let at = *next % RAW_PAGES * PAGE as u64;
        *next += u64::from(self.sequential);
        let len = payload.len().min(PAGE);
        buffer[..len].copy_from_slice(&payload[..len]);
        self.file.write_all_at(&buffer[..], at)?;
        Ok(())
    }
}

/// One thread owns the writer.
struct Each(Mutex<Writer>);

impl DurablePeer for Each {
    fn name(&self) -> &'static str {
        "kekbit, each record"
    }

    fn append(&self, payload: &[u8]) -> Result<()> {
        self.0.lock().map_err(|_| "poisoned")?.append(payload)?;
        Ok(())
    }
}

/// Threads share their syncs.
struct Shared(SharedWriter);

impl DurablePeer for Shared {
    fn name(&self) -> &'static str {
        "kekbit, shared writer"
    }

    fn append(&self, payload: &[u8]) -> Result<()> {
        self.0.append_wait(payload, Wait::backoff())?;
        Ok(())
    }
}

struct Okay(WriteAheadLog);

impl DurablePeer for Okay {
    fn name(&self) -> &'static str {
        "okaywal"
    }

    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(payload)?;
        entry.commit()?;
        Ok(())
    }
}

struct Sqlite(Mutex<rusqlite::Connection>);

impl Sqlite {
    fn new(path: &Path) -> Result<Sqlite> {
        let connection = rusqlite::Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute("CREATE TABLE records (sequence INTEGER PRIMARY KEY, payload BLOB)", ())?;
        Ok(Sqlite(Mutex::new(connection)))
    }
}

impl DurablePeer for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite, WAL, FULL"
    }

    fn append(&self, payload: &[u8]) -> Result<()> {
        let connection = self.0.lock().map_err(|_| "poisoned")?;
        connection.prepare_cached("INSERT INTO records (payload) VALUES (?1)")?.execute([payload])?;
        Ok(())
    }
}

fn peers(dir: &Path) -> Result<Vec<Box<dyn DurablePeer>>> {
    let options = Writer::options().capacity(256 << 20).durability(Durability::Each);
    Ok(vec![
        Box::new(Raw::new(&dir.join("raw"), true)?),
        Box::new(Raw::new(&dir.join("raw-one"), false)?),
        Box::new(Each(Mutex::new(options.clone().create(dir.join("each.kek"))?))),
        Box::new(Shared(SharedWriter::new(options.create(dir.join("shared.kek"))?))),
        Box::new(Okay(WriteAheadLog::recover(dir.join("okaywal"), LogVoid)?)),
        Box::new(Sqlite::new(&dir.join("sqlite"))?),
    ])
}

pub(crate) fn run(args: &DurableArgs) -> Result<()> {
    let dir = tempfile::tempdir_in(&args.dir)?;
    let peers = peers(dir.path())?;
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); peers.len()];
    for round in 0..args.rounds {
        for turn in 0..peers.len() {
            let which = (round + turn) % peers.len();
            times[which].push(one_round(&*peers[which], args)?);
        }
    }
    let records = (args.records * args.threads as u64) as f64;
    let median = |which: usize| {
        let mut sorted = times[which].clone();
        sorted.sort();
        sorted[sorted.len() / 2].as_secs_f64() / records
    };
    println!("{} threads, {} bytes, {} rounds", args.threads, args.size, args.rounds);
    println!(
        "{:24} {:>12} {:>12} {:>24} {:>16}",
        "", "µs/record", "records/s", "of raw, page after page", "of raw, one page"
    );
    for (which, peer) in peers.iter().enumerate() {
        let seconds = median(which);
        println!(
            "{:24} {:>12.1} {:>12.0} {:>24.2} {:>16.2}",
            peer.name(),
            seconds * 1e6,
            1.0 / seconds,
            seconds / median(0),
            seconds / median(1)
        );
    }
    Ok(())
}

fn one_round(peer: &dyn DurablePeer, args: &DurableArgs) -> Result<Duration> {
    let payload = vec![0x5A; args.size];
    let append_all = || (0..args.records).try_for_each(|_| peer.append(&payload).map_err(|e| e.to_string()));
    let begun = Instant::now();
    if args.threads == 1 {
        append_all()?;
        return Ok(begun.elapsed());
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads).map(|_| scope.spawn(append_all)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread has panicked".to_owned())?)
    })?;
    Ok(begun.elapsed())
}

#[derive(clap::Args, Clone)]
pub(crate) struct SyncBytesArgs {
    /// Where the file goes: on a disk that nobody else writes to.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Syncs of one record each.
    #[arg(long, default_value_t = 400)]
    syncs: u64,
}

/// Bytes that the device below `path` has been told to write since it exists.
fn written(path: &Path) -> Result<u64> {
    let device = path.metadata()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
    let sectors: u64 = stat.split_whitespace().nth(6).ok_or("no such counter")?.parse()?;
    Ok(sectors * 512)
}

/// What each sync of one record makes the device write.
pub(crate) fn sync_bytes(args: &SyncBytesArgs) -> Result<()> {
    println!("{:44} {:>10} {:>10} {:>10}", "bytes a sync", "median", "mean", "largest");
    for (name, durability) in [("each", Durability::Each), ("at end, with syncs by hand", Durability::AtEnd)]
    {
        for (kind, prepare) in [("fresh", Prepare::Inline(256 << 10)), ("prepared", Prepare::All)] {
            let dir = tempfile::tempdir_in(&args.dir)?;
            let options = Writer::options().capacity(16 << 20).durability(durability).prepare(prepare);
            let mut writer = options.clone().create(dir.path().join("fresh.kek"))?;
            measure(&format!("{name}, {kind}"), &mut writer, args)?;
            if prepare == Prepare::All {
                while writer.fits(4096) {
                    writer.append(&[7; 4096])?;
                }
                writer.close()?;
                let mut writer =
                    options.create_from(dir.path().join("fresh.kek"), dir.path().join("new.kek"))?;
                measure(&format!("{name}, reused"), &mut writer, args)?;
            }
        }
    }
    Ok(())
}

fn measure(name: &str, writer: &mut Writer, args: &SyncBytesArgs) -> Result<()> {
    let mut bytes = Vec::new();
    for _ in 0..args.syncs {
        let before = written(&args.dir)?;
        writer.append(&[0x5A; 96])?;
        if writer.synced_tail() < writer.tail() {
            writer.sync()?;
        }
        bytes.push(written(&args.dir)? - before);
    }
    // Which of them wrote more than four pages.
    let many: Vec<_> = (1..).zip(&bytes).filter(|(_, bytes)| **bytes > 16 << 10).collect();
    for (nth, bytes) in many {
        println!("{name}: sync {nth} wrote {bytes} bytes");
    }
    bytes.sort_unstable();
    let mean = bytes.iter().sum::<u64>() / bytes.len() as u64;
    println!("{name:44} {:>10} {mean:>10} {:>10}", bytes[bytes.len() / 2], bytes[bytes.len() - 1]);
    Ok(())
}
