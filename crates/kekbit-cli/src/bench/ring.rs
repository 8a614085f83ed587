//! Channels that follow one another, so that a run is not limited by what one of them can hold.
//!
//! ```text
//! name-0  full  ->  name-1  full  ->  name-2  full  ->  name-3 (the file of name-0)  ...  closed
//! ```
//!
//! At the end of a channel only what has to be done at once is done by the thread that is measured: the frame that ends
//! the old one, and the first in the new one. A helper has made the successor beforehand, as soon as no reader reads the
//! file that it is made of, and lets go of the old one, whose pages take a while to unmap. The reader has a helper too,
//! which opens the successor. Both do their work while the time is measured.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use kekbit::{AppendError, Channel, CreateError, End, Reader, Record, Start, Wait, Writer};

use crate::bench::plan::{FILES, Plan};
use crate::exit::{Exit, Failure};

/// How long the helper waits before it looks again whether the oldest file is still being read.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// The path of a channel of a ring.
pub(crate) fn path(dir: &Path, name: &str, number: u64) -> PathBuf {
    dir.join(format!("{name}-{number}.kek"))
}

/// The neighbours of what is in use: who makes the next, and who takes the old.
#[derive(Debug)]
struct Helper<T> {
    next: Receiver<Result<T, Failure>>,
    old: Sender<T>,
}

impl<T: Send + 'static> Helper<T> {
    fn start(work: impl FnOnce(SyncSender<Result<T, Failure>>, Receiver<T>) + Send + 'static) -> Helper<T> {
        // Without a buffer: one is ready, and no more.
        let (ready, next) = sync_channel(0);
        let (old, retired) = channel();
        thread::spawn(move || work(ready, retired));
        Helper { next, old }
    }

    /// Puts the successor in the place of `current`.
    fn replace(&self, current: &mut T) -> Result<(), Failure> {
        let gone = || Failure::new(Exit::Io, "there is no further channel");
        let next = self.next.recv().map_err(|_| gone())??;
        let old = std::mem::replace(current, next);
        self.old.send(old).map_err(|_| gone())
    }
}

/// Appends to one channel after the other.
#[derive(Debug)]
pub(crate) struct WriteRing {
    writer: Writer,
    helper: Option<Helper<Writer>>,
    /// Channels that were begun.
    pub(crate) files: u64,
}

impl WriteRing {
    pub(crate) fn create(plan: &Plan, dir: &Path, name: &str) -> Result<WriteRing, Failure> {
        let options = |plan: &Plan, number: u64| {
            let first = number.saturating_mul(plan.per_file());
            plan.options(first).map_err(|message| Failure::new(Exit::Usage, message))
        };
        let writer = options(plan, 0)?.create(path(dir, name, 0))?;
        let last = plan.files.unwrap_or(u64::MAX);
        if last <= 1 {
            return Ok(WriteRing { writer, helper: None, files: 1 });
        }
        let (plan, dir, name) = (plan.clone(), dir.to_owned(), name.to_owned());
        let helper = Helper::start(move |ready, retired| {
            for number in 1..last {
                let path = |number| path(&dir, &name, number);
                let next = options(&plan, number).and_then(|options| match number.checked_sub(FILES) {
                    None => options.create(path(number)).map_err(Failure::from),
                    Some(oldest) => loop {
                        match options.clone().create_from(path(oldest), path(number)) {
                            Err(CreateError::InUse { .. }) => thread::sleep(LOOK_AGAIN),
                            done => break done.map_err(Failure::from),
                        }
                    },
                });
                let failed = next.is_err();
                if ready.send(next).is_err() || failed {
                    return;
                }
                // Nobody can reuse the old one before it is dropped here.
                if retired.recv().is_err() {
                    return;
                }
            }
        });
        Ok(WriteRing { writer, helper: Some(helper), files: 1 })
    }

    /// Appends to this channel, or to the next if this one is full.
    #[inline]
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<(), Failure> {
        match self.writer.append(payload) {
            Ok(_) => Ok(()),
            Err(error) => self.append_slowly(error, payload),
        }
    }

    #[cold]
    fn append_slowly(&mut self, error: AppendError, payload: &[u8]) -> Result<(), Failure> {
        let (AppendError::Full { .. }, Some(helper)) = (&error, &self.helper) else {
            return Err(error.into());
        };
        let sequence = self.writer.next_sequence();
        helper.replace(&mut self.writer)?;
        if self.writer.next_sequence() != sequence {
            let began = self.writer.next_sequence();
            let wrong =
                format_args!("a channel was full after record {sequence}, its successor begins at {began}");
            return Err(Failure::new(Exit::Io, wrong));
        }
        self.files += 1;
        self.writer.append(payload)?;
        Ok(())
    }

    pub(crate) fn close(self) -> Result<(), Failure> {
        Ok(self.writer.close()?)
    }
}

/// Reads one channel after the other.
#[derive(Debug)]
pub(crate) struct ReadRing {
    reader: Reader,
    helper: Option<Helper<Reader>>,
}

impl ReadRing {
    /// Waits for the first channel. Whoever reads durably sees a record when it has been synced.
    pub(crate) fn open(plan: &Plan, dir: &Path, name: &str, durable: bool) -> Result<ReadRing, Failure> {
        let open = move |path: &Path| -> Result<Reader, Failure> {
            let never = || Failure::new(Exit::Missing, "the channel has not appeared");
            let channel = Channel::wait_for(path, Wait::backoff())?.ok_or_else(never)?;
            let mut reader = channel.reader(Start::Beginning)?;
            reader.set_durable(durable);
            Ok(reader)
        };
        let reader = open(&path(dir, name, 0))?;
        let last = plan.files.unwrap_or(u64::MAX);
        if last <= 1 {
            return Ok(ReadRing { reader, helper: None });
        }
        let (dir, name) = (dir.to_owned(), name.to_owned());
        let helper = Helper::start(move |ready, old| {
            for number in 1..last {
                let next = open(&path(&dir, &name, number));
                let failed = next.is_err();
                if ready.send(next).is_err() || failed || old.recv().is_err() {
                    return;
                }
            }
        });
        Ok(ReadRing { reader, helper: Some(helper) })
    }

    /// Waits for the next record and lets `see` look at it; `None` when the last channel is closed.
    #[inline]
    pub(crate) fn next<T>(
        &mut self,
        wait: Wait<'_>,
        see: impl FnOnce(&Record<'_>) -> T,
    ) -> Result<Option<T>, Failure> {
        loop {
            if let Some(record) = self.reader.next(wait)? {
                return Ok(Some(see(&record)));
            }
            if !self.follow()? {
                return Ok(None);
            }
        }
    }

    /// Goes on with the next channel, unless this was the last.
    #[cold]
    fn follow(&mut self) -> Result<bool, Failure> {
        match (self.reader.end(), &self.helper) {
            (Some(End::Closed), _) => Ok(false),
            (Some(End::Full), Some(helper)) => helper.replace(&mut self.reader).map(|()| true),
            (end, _) => {
                let end = end.map_or_else(|| "not ended".to_owned(), |end| end.to_string());
                Err(Failure::new(Exit::Lost, format_args!("the channel is {end}, expected closed")))
            }
        }
    }
}
