//! Aeron IPC, through the C client and the C media driver (crates rusteron-client and rusteron-media-driver).
//!
//! One exclusive publication a link. The media driver of a link's directory runs in the process that sends first; it opens
//! the publication's window and clears what was read, so its threads, their idle strategy and the length of a term decide
//! how fast the whole is. No combination is the best at every size: [`configurations`] are those that were.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusteron_client::{
    Aeron as Client, AeronContext, AeronExclusivePublication, AeronFragmentClosureAssembler, AeronHeader,
    AeronOfferError, AeronSubscription, Handlers,
};
use rusteron_media_driver::bindings::aeron_threading_mode_enum as Mode;
use rusteron_media_driver::{AeronDriver, AeronDriverContext};

use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender};

/// How long the other side and the driver may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two turns of an invoked driver while nobody is held up.
const INVOKER_TURN: Duration = Duration::from_millis(5);

/// Fragments of one poll.
const FRAGMENTS: usize = 256;

/// The longest message that travels as one fragment: the largest unit less its header.
const MAX_FRAGMENT: usize = 65504 - 32;

/// Threads of the media driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Threading {
    /// Conductor, sender and receiver each have a thread.
    Dedicated,
    /// The conductor has one, sender and receiver share one.
    SharedNetwork,
    /// All share one.
    Shared,
    /// None: the sending thread runs the driver whenever it is held up.
    Invoker,
}

/// What a thread of the driver does when there is no work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Idle {
    /// It spins.
    Spin,
    /// It yields the core.
    Yield,
    /// It spins, then yields, then sleeps up to a millisecond.
    Backoff,
}

/// Aeron IPC in one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Aeron {
    pub(crate) threading: Threading,
    pub(crate) idle: Idle,
    /// Bytes of a term buffer; a publication has three.
    pub(crate) term: u32,
    /// Bytes that the sender may be ahead; `None` for half a term.
    pub(crate) window: Option<u32>,
    pub(crate) sparse: bool,
    pub(crate) touch: bool,
    pub(crate) claim: bool,
}

impl Aeron {
    fn channel(&self, size: usize) -> Result<CString> {
        let mtu = (size.min(MAX_FRAGMENT) + 32).next_multiple_of(32).max(1408);
        let mut uri = format!("aeron:ipc?term-length={}|mtu={mtu}|sparse={}", self.term, self.sparse);
        if let Some(window) = self.window {
            uri += &format!("|pub-wnd={window}");
        }
        Ok(CString::new(uri)?)
    }
    fn client(&self, dir: &Path) -> Result<Client> {
        let context = AeronContext::new()?;
        context.set_dir(&home(dir)?)?;
        context.set_pre_touch_mapped_memory(self.touch)?;
        let client = Client::new(&context)?;
        client.start()?;
        Ok(client)
    }
}

fn home(dir: &Path) -> Result<CString> {
    Ok(CString::new(dir.join("aeron").into_os_string().into_encoded_bytes())?)
}

fn stream(name: &str) -> i32 {
    name.bytes().fold(1000, |sum, byte| sum * 31 % 1_000_003 + i32::from(byte))
}

fn threads_everywhere<T>(start: impl FnOnce() -> T) -> Result<T> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    let me = Pid::from_raw(0);
    let pinned = sched_getaffinity(me)?;
    let mut all = CpuSet::new();
    for core in 0..CpuSet::count().min(std::thread::available_parallelism()?.get().max(2)) {
        all.set(core)?;
    }
    if std::env::var("DRV_CORE").is_ok() {
        all = CpuSet::new();
        all.set(std::env::var("DRV_CORE")?.parse()?)?;
    }
    sched_setaffinity(me, &all)?;
    let started = start();
    sched_setaffinity(me, &pinned)?;
    Ok(started)
}

/// The media driver, in this process.
pub(crate) struct Driver {
    driver: Arc<Mutex<AeronDriver>>,
    stop: Arc<AtomicBool>,
    turns: Option<JoinHandle<()>>,
}

impl Driver {
    fn launch(aeron: &Aeron, dir: &Path) -> Result<Driver> {
        let context = AeronDriverContext::new()?;
        context.set_dir(&home(dir)?)?;
        context.set_dir_delete_on_start(true)?;
        context.set_dir_delete_on_shutdown(true)?;
        context.set_term_buffer_sparse_file(aeron.sparse)?;
        context.set_perform_storage_checks(false)?;
        context.set_threading_mode(match aeron.threading {
            Threading::Dedicated => Mode::AERON_THREADING_MODE_DEDICATED,
            Threading::SharedNetwork => Mode::AERON_THREADING_MODE_SHARED_NETWORK,
            Threading::Shared => Mode::AERON_THREADING_MODE_SHARED,
            Threading::Invoker => Mode::AERON_THREADING_MODE_INVOKER,
        })?;
        let idle = match aeron.idle {
            Idle::Spin => c"spin",
            Idle::Yield => c"yield",
            Idle::Backoff => c"backoff",
        };
        context.set_conductor_idle_strategy(idle)?;
        context.set_shared_idle_strategy(idle)?;
        // Nothing of IPC passes through the network's threads: they are to take no time from anybody.
        context.set_sharednetwork_idle_strategy(c"backoff")?;
        context.set_sender_idle_strategy(c"backoff")?;
        context.set_receiver_idle_strategy(c"backoff")?;
        let invoked = aeron.threading == Threading::Invoker;
        let driver = threads_everywhere(|| -> Result<AeronDriver> {
            let driver = AeronDriver::new(&context)?;
            driver.start(invoked)?;
            Ok(driver)
        })??;
        #[allow(clippy::arc_with_non_send_sync)]
        let driver = Arc::new(Mutex::new(driver));
        let stop = Arc::new(AtomicBool::new(false));
        let turns = if invoked {
            let (driver, stop) = (driver.clone(), stop.clone());
            Some(threads_everywhere(move || std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = driver.lock().unwrap().main_do_work();
                    std::thread::sleep(INVOKER_TURN);
                }
            }))?)
        } else {
            None
        };
        Ok(Driver { driver, stop, turns })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(turns) = self.turns.take() {
            let _ = turns.join();
        }
    }
}

impl Peer for Aeron {
    type Sender = AeronSender;
    type Receiver = AeronReceiver;

    fn name(&self) -> String {
        let mut s = format!("aeron, {:?} {:?}, {}K", self.threading, self.idle, self.term >> 10);
        if let Some(w) = self.window { s += &format!(" wnd {}K", w >> 10); }
        if self.sparse { s += " sparse"; }
        if self.touch { s += " touch"; }
        if self.claim { s += " claim"; }
        s
    }

    fn about(&self) -> About {
        About { kept: false, checksummed: false, survives_kill: false }
    }

    fn sender(&self, link: &Link<'_>) -> Result<AeronSender> {
        let first = std::fs::File::create_new(link.dir.join("aeron-driver"));
        let driver = match first {
            Ok(_) => Some(Driver::launch(self, link.dir)?),
            Err(_) => None,
        };
        wait_for_driver(link.dir)?;
        let client = self.client(link.dir)?;
        let channel = self.channel(link.size)?;
        let publication =
            client.async_add_exclusive_publication(&channel, stream(link.name))?.poll_blocking(PATIENCE)?;
        let claim_buf = rusteron_client::AeronBufferClaim::default();
        Ok(AeronSender { publication, _client: client, driver, invoker: self.threading == Threading::Invoker, claim: self.claim, claim_buf, held: 0 })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<AeronReceiver> {
        wait_for_driver(link.dir)?;
        let client = self.client(link.dir)?;
        let channel = self.channel(link.size)?;
        let subscription = client
            .async_add_subscription(&channel, stream(link.name), Handlers::NONE, Handlers::NONE)?
            .poll_blocking(PATIENCE)?;
        let assembler =
            if link.size > MAX_FRAGMENT { Some(AeronFragmentClosureAssembler::new()?) } else { None };
        Ok(AeronReceiver { subscription, assembler, _client: client })
    }
}

fn wait_for_driver(dir: &Path) -> Result<()> {
    let begun = Instant::now();
    let home = home(dir)?;
    while rusteron_client::AeronCnc::open(&home).is_err() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("no media driver in {} after {PATIENCE:?}", home.to_string_lossy()).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// An exclusive publication.
pub(crate) struct AeronSender {
    publication: AeronExclusivePublication,
    _client: Client,
    driver: Option<Driver>,
    invoker: bool,
    claim: bool,
    claim_buf: rusteron_client::AeronBufferClaim,
    pub(crate) held: u64,
}

impl AeronSender {
    #[cold]
    fn held_up(&mut self, why: AeronOfferError) -> Result<()> {
        self.held += 1;
        if !why.is_retryable() { return Err(why.into()); }
        if self.invoker && let Some(driver) = &self.driver {
            driver.driver.lock().unwrap().main_do_work()?;
        } else if YIELD.load(Ordering::Relaxed) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        Ok(())
    }
}
pub(crate) static YIELD: AtomicBool = AtomicBool::new(false);

impl Sender for AeronSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        loop {
            let sent = if self.claim {
                match self.publication.try_claim(record.len(), &self.claim_buf) {
                    Ok(_) => { self.claim_buf.data_mut().copy_from_slice(record); self.claim_buf.commit()?; return Ok(()) }
                    Err(e) => Err(e)
                }
            } else { self.publication.offer(record) };
            match sent {
                Ok(_) => return Ok(()),
                Err(why) => self.held_up(why)?,
            }
        }
    }

    fn is_connected(&mut self) -> Result<bool> {
        Ok(self.publication.is_connected())
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// A subscription.
pub(crate) struct AeronReceiver {
    subscription: AeronSubscription,
    assembler: Option<AeronFragmentClosureAssembler>,
    _client: Client,
}

impl Receiver for AeronReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        match &mut self.assembler {
            None => Ok(self.subscription.poll_fn(|record, _| each(record), FRAGMENTS)? as usize),
            Some(assembler) => {
                let mut context = (each, 0);
                assembler.poll(&self.subscription, &mut context, whole, FRAGMENTS)?;
                Ok(context.1)
            }
        }
    }
}

fn whole(context: &mut (&mut impl FnMut(&[u8]), usize), record: &[u8], _: AeronHeader) {
    context.0(record);
    context.1 += 1;
}
