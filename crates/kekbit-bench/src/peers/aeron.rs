//! Aeron IPC, through the C client and the C media driver (crates rusteron-client and rusteron-media-driver).
//!
//! One exclusive publication a link. The media driver of a directory runs in the process that sends there first. It opens the
//! publication's window as the receiver gets on and clears what was read, so its threads, what they do when there is nothing
//! to do, and the length of a term decide how fast the whole is. No combination is the best at every size: [`all`] has
//! those of [`sweep`] that were at one or another.

use std::ffi::CString;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rusteron_client::{
    Aeron as Client, AeronBufferClaim, AeronCnc, AeronContext, AeronExclusivePublication,
    AeronFragmentClosureAssembler, AeronHeader, AeronOfferError, AeronSubscription, Handlers,
};
use rusteron_media_driver::bindings::aeron_threading_mode_enum as Mode;
use rusteron_media_driver::{AeronDriver, AeronDriverContext, AeronIdleStrategyKind as Idle};

use super::meet::wait_until;
use super::{AT_ONCE, foreign};
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender};

/// How long the driver may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two turns of an invoked driver while nobody is held up.
const TURN: Duration = Duration::from_millis(5);
/// The longest message that travels in one piece: the largest unit of transmission less its header.
const ONE_PIECE: usize = 65504 - HEADER;
const HEADER: usize = 32;
/// The unit of transmission by default.
const UNIT: usize = 1408;

/// Threads of the media driver. The network's threads, which a driver has in other modes, have no part in IPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Threads {
    /// Conductor, sender and receiver have one each.
    Dedicated,
    /// The conductor has one, sender and receiver share one.
    SharedNetwork,
    /// All share one.
    Shared,
    /// None: the sending thread runs the driver when it is held up.
    Invoker,
}

/// Aeron IPC in one configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Aeron {
    threads: Threads,
    /// What the conductor does when there is nothing to do.
    idle: Idle,
    /// Bytes of a term. A publication has three, and is ahead of its receiver by half a term at the most.
    term: u32,
    /// Whether the pages of the terms come into being as they are used, or all at creation, touched by both sides.
    sparse: bool,
    /// Whether a record is copied into a claimed place, or offered.
    claims: bool,
}

/// Those that are measured: the best of the sweep, at one size or another.
pub(crate) fn all() -> Vec<Aeron> {
    if foreign::is_sweeping() {
        return sweep();
    }
    let of = |threads, idle, term, claims| Aeron { threads, idle, term, sparse: false, claims };
    vec![
        of(Threads::Shared, Idle::Backoff, 16 << 20, false),
        of(Threads::Shared, Idle::Backoff, 64 << 20, false),
        of(Threads::Invoker, Idle::BusySpin, 8 << 20, false),
        // The best of all with long records.
        of(Threads::Invoker, Idle::BusySpin, 4 << 20, true),
    ]
}

/// What was tried.
fn sweep() -> Vec<Aeron> {
    let drivers = [
        (Threads::Dedicated, Idle::BusySpin),
        (Threads::Dedicated, Idle::Backoff),
        (Threads::SharedNetwork, Idle::BusySpin),
        (Threads::Shared, Idle::BusySpin),
        (Threads::Shared, Idle::Yielding),
        (Threads::Shared, Idle::Backoff),
        (Threads::Invoker, Idle::BusySpin),
    ];
    let terms = [16, 18, 20, 21, 22, 23, 24, 26, 28, 30].map(|bits| 1 << bits);
    let of = |(threads, idle), term| Aeron { threads, idle, term, sparse: false, claims: false };
    let mut all: Vec<_> =
        drivers.iter().flat_map(|driver| terms.iter().map(move |term| of(*driver, *term))).collect();
    for driver in [(Threads::Shared, Idle::Backoff), (Threads::Invoker, Idle::BusySpin)] {
        for term in [4 << 20, 16 << 20] {
            all.push(Aeron { claims: true, ..of(driver, term) });
            all.push(Aeron { sparse: true, ..of(driver, term) });
        }
    }
    all
}

impl Aeron {
    fn channel(&self, size: usize) -> Result<CString> {
        let unit = (size.min(ONE_PIECE) + HEADER).next_multiple_of(32).max(UNIT);
        let (term, sparse) = (self.term, self.sparse);
        Ok(CString::new(format!("aeron:ipc?term-length={term}|mtu={unit}|sparse={sparse}"))?)
    }

    fn client(&self, dir: &Path) -> Result<Client> {
        let home = home(dir)?;
        wait_until("the media driver", || Ok(AeronCnc::open(&home).ok().map(drop)))?;
        let context = AeronContext::new()?;
        context.set_dir(&home)?;
        context.set_pre_touch_mapped_memory(!self.sparse)?;
        // Its own way is to end the process, also when the other side's driver has just done its work.
        context.set_error_handler(Some(|code: i32, what: &str| eprintln!("aeron: {code}: {what}")))?;
        on_every_core(|| {
            let client = Client::new(&context)?;
            client.start()?;
            Ok(client)
        })
    }
}

/// Where the driver of a link's directory keeps its files.
fn home(dir: &Path) -> Result<CString> {
    Ok(CString::new(dir.join("aeron").into_os_string().into_encoded_bytes())?)
}

/// Streams of one driver are told apart by numbers.
fn stream(name: &str) -> i32 {
    name.bytes().fold(0, |number, byte| (number * 31 + i32::from(byte)) % 1_000_003)
}

/// Threads stay on the core of the thread that starts them: those of Aeron are to run wherever there is time for them.
fn on_every_core<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let this_thread = Pid::from_raw(0);
    let here = sched_getaffinity(this_thread)?;
    let mut everywhere = CpuSet::new();
    (0..CpuSet::count()).try_for_each(|core| everywhere.set(core))?;
    sched_setaffinity(this_thread, &everywhere)?;
    let started = start();
    sched_setaffinity(this_thread, &here)?;
    started
}

impl Peer for Aeron {
    type Sender = AeronSender;
    type Receiver = AeronReceiver;

    fn name(&self) -> String {
        let threads = match self.threads {
            Threads::Dedicated => "dedicated",
            Threads::SharedNetwork => "shared network",
            Threads::Shared => "shared",
            Threads::Invoker => "invoker",
        };
        let idle = match (self.threads, self.idle) {
            (Threads::Invoker, _) => "",
            (_, Idle::Backoff) => " backing off",
            (_, Idle::Yielding) => " yielding",
            (_, _) => " spinning",
        };
        let term = match self.term {
            term if term < 1 << 20 => format!("{}K", term >> 10),
            term => format!("{}M", term >> 20),
        };
        let sparse = if self.sparse { ", sparse" } else { "" };
        let claims = if self.claims { ", claims" } else { "" };
        format!("Aeron, {threads}{idle}, {term}{sparse}{claims}")
    }

    fn about(&self) -> About {
        About { kept: false, checksummed: false, survives_kill: true }
    }

    fn sender(&self, link: &Link<'_>) -> Result<AeronSender> {
        // Of two that send in one directory, one has the driver.
        let driver = match File::create_new(link.dir.join("driver")) {
            Ok(_) => Some(Driver::start(self, link.dir)?),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(error.into()),
        };
        let client = self.client(link.dir)?;
        let publication = client
            .async_add_exclusive_publication(&self.channel(link.size)?, stream(link.name))?
            .poll_blocking(PATIENCE)?;
        let claim = AeronBufferClaim::default();
        Ok(AeronSender { publication, claims: self.claims, claim, _client: client, driver })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<AeronReceiver> {
        let client = self.client(link.dir)?;
        let subscription = client
            .async_add_subscription(
                &self.channel(link.size)?,
                stream(link.name),
                Handlers::NONE,
                Handlers::NONE,
            )?
            .poll_blocking(PATIENCE)?;
        let assembler = (link.size > ONE_PIECE).then(AeronFragmentClosureAssembler::new).transpose()?;
        Ok(AeronReceiver { subscription, assembler, _client: client })
    }
}

/// The media driver, in this process.
struct Driver {
    /// The sending thread and [`Turns`] invoke it; in the other modes nobody does.
    driver: Arc<Mutex<AeronDriver>>,
    turns: Option<Turns>,
}

impl Driver {
    fn start(aeron: &Aeron, dir: &Path) -> Result<Driver> {
        let context = AeronDriverContext::new()?;
        context.set_dir(&home(dir)?)?;
        context.set_dir_delete_on_shutdown(true)?;
        context.set_term_buffer_sparse_file(aeron.sparse)?;
        context.set_threading_mode(match aeron.threads {
            Threads::Dedicated => Mode::AERON_THREADING_MODE_DEDICATED,
            Threads::SharedNetwork => Mode::AERON_THREADING_MODE_SHARED_NETWORK,
            Threads::Shared => Mode::AERON_THREADING_MODE_SHARED,
            Threads::Invoker => Mode::AERON_THREADING_MODE_INVOKER,
        })?;
        context.set_conductor_idle_strategy_kind(aeron.idle)?;
        context.set_shared_idle_strategy_kind(aeron.idle)?;
        // Nothing of IPC passes through the network's threads: they are to take no time from anybody.
        context.set_sharednetwork_idle_strategy_kind(Idle::Backoff)?;
        context.set_sender_idle_strategy_kind(Idle::Backoff)?;
        context.set_receiver_idle_strategy_kind(Idle::Backoff)?;
        let invoked = aeron.threads == Threads::Invoker;
        on_every_core(|| {
            let driver = AeronDriver::new(&context)?;
            driver.start(invoked)?;
            let driver = Arc::new(Mutex::new(driver));
            let turns = invoked.then(|| Turns::start(Arc::clone(&driver)));
            Ok(Driver { driver, turns })
        })
    }
}

/// Invokes the driver now and then, so that clients get their answers while the sending thread waits for something else.
struct Turns {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Turns {
    fn start(driver: Arc<Mutex<AeronDriver>>) -> Turns {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Err(error) = invoke(&driver) {
                    eprintln!("aeron: the media driver: {error}");
                    return;
                }
                std::thread::sleep(TURN);
            }
        });
        Turns { stop, thread: Some(thread) }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

fn invoke(driver: &Mutex<AeronDriver>) -> Result<()> {
    driver.lock().unwrap_or_else(PoisonError::into_inner).main_do_work()?;
    Ok(())
}

/// An exclusive publication. Closed in the order of the fields.
pub(crate) struct AeronSender {
    publication: AeronExclusivePublication,
    claims: bool,
    claim: AeronBufferClaim,
    _client: Client,
    driver: Option<Driver>,
}

impl AeronSender {
    #[inline]
    fn try_send(&mut self, record: &[u8]) -> std::result::Result<i64, AeronOfferError> {
        if self.claims && record.len() <= ONE_PIECE {
            let position = self.publication.try_claim(record.len(), &self.claim)?;
            self.claim.data_mut().copy_from_slice(record);
            self.claim.commit().map_err(AeronOfferError::Error)?;
            Ok(position)
        } else {
            self.publication.offer(record)
        }
    }

    /// Does what lets it go on.
    #[cold]
    fn held_up(&self, why: &AeronOfferError) -> Result<()> {
        if !why.is_retryable() {
            return Err(format!("aeron: the publication cannot go on: {why}").into());
        }
        match &self.driver {
            Some(Driver { driver, turns: Some(_) }) => invoke(driver),
            _ => {
                // The driver's thread may be waiting for this core.
                std::thread::yield_now();
                Ok(())
            }
        }
    }
}

impl Sender for AeronSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        while let Err(why) = self.try_send(record) {
            self.held_up(&why)?;
        }
        Ok(())
    }

    fn is_connected(&mut self) -> Result<bool> {
        Ok(self.publication.is_connected())
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// A subscription. Closed in the order of the fields.
pub(crate) struct AeronReceiver {
    subscription: AeronSubscription,
    /// Puts records together that come in pieces.
    assembler: Option<AeronFragmentClosureAssembler>,
    _client: Client,
}

impl Receiver for AeronReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        let Some(assembler) = &mut self.assembler else {
            return Ok(self.subscription.poll_fn(|record, _| each(record), AT_ONCE)? as usize);
        };
        let mut whole = Whole { each, count: 0 };
        assembler.poll(&self.subscription, &mut whole, Whole::next, AT_ONCE)?;
        Ok(whole.count)
    }
}

/// What becomes of records that were put together.
struct Whole<'e, F> {
    each: &'e mut F,
    count: usize,
}

impl<F: FnMut(&[u8])> Whole<'_, F> {
    fn next(&mut self, record: &[u8], _: AeronHeader) {
        (self.each)(record);
        self.count += 1;
    }
}
