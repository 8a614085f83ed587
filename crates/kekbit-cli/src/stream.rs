//! What `cat` and `tail` read from: a channel, or a journal of channels, which is a directory.

use std::ops::ControlFlow;
use std::path::Path;

use kekbit::{Channel, End, EndPoint, Journal, JournalReader, ReadOptions, Record, Start, State, Wait};

use crate::exit::{Exit, Failure};
use crate::source::{Source, TrustArgs};

/// Opened, and a place in it.
#[derive(Debug)]
pub(crate) enum Stream {
    Channel(Source),
    Journal(Box<JournalReader>),
}

impl Stream {
    /// Opens the channel or the journal at `path`, to be read from its first record on.
    pub(crate) fn open(path: &Path, options: ReadOptions, trust: TrustArgs) -> Result<Stream, Failure> {
        if !path.is_dir() {
            return Ok(Stream::Channel(Source::open(path, options, trust)?));
        }
        if trust.untrusted {
            let why = "--untrusted reads channels: name the files of the journal one by one";
            return Err(Failure::new(Exit::Usage, why).about(path));
        }
        expect_journal(path)?;
        Ok(Stream::Journal(Box::new(Journal::reader_with(path, options)?)))
    }

    pub(crate) fn seek(&mut self, start: Start) -> Result<(), Failure> {
        match self {
            Stream::Channel(source) => Ok(source.seek(start)?),
            Stream::Journal(reader) => Ok(reader.seek(start)?),
        }
    }

    pub(crate) fn set_durable(&mut self, durable: bool) {
        match self {
            Stream::Channel(source) => source.set_durable(durable),
            Stream::Journal(reader) => reader.set_durable(durable),
        }
    }

    /// Hands over each record that is there by now, until there is none or `each` has had enough.
    pub(crate) fn try_for_each(
        &mut self,
        mut each: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        match self {
            Stream::Channel(source) => source.try_for_each(each),
            Stream::Journal(reader) => {
                while let Some(record) = reader.try_next()? {
                    if each(&record)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    pub(crate) fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, Failure> {
        match self {
            Stream::Channel(source) => Ok(source.next(wait)?),
            Stream::Journal(reader) => Ok(reader.next(wait)?),
        }
    }

    /// How it has ended, if nothing can come any more: of a journal, unless somebody writes it again.
    pub(crate) fn end(&self) -> Result<Option<End>, Failure> {
        let reader = match self {
            Stream::Channel(source) => return Ok(source.end()),
            Stream::Journal(reader) => reader,
        };
        if reader.writer_lives()? {
            return Ok(None);
        }
        Ok(Some(match reader.end_point()?.map(|end| end.state) {
            None | Some(State::Closed) => End::Closed,
            Some(State::Full) => End::Full,
            Some(State::Torn) => End::Torn,
            Some(_) => End::Abandoned,
        }))
    }

    /// Where it ends at the moment; `None` if there is nothing at all.
    pub(crate) fn end_point(&self) -> Result<Option<EndPoint>, Failure> {
        match self {
            Stream::Channel(source) => Ok(Some(source.end_point()?)),
            Stream::Journal(reader) => Ok(reader.end_point()?),
        }
    }

    pub(crate) fn writer_lives(&self) -> Result<bool, Failure> {
        match self {
            Stream::Channel(source) => Ok(source.writer_lives()?),
            Stream::Journal(reader) => Ok(reader.writer_lives()?),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Stream::Channel(source) => source.path(),
            Stream::Journal(reader) => reader.path(),
        }
    }

    pub(crate) fn seeks_time_exactly(&self) -> bool {
        match self {
            Stream::Channel(source) => source.seeks_time_exactly(),
            // All channels of a journal have the stages that its writer was given; the last tells best.
            Stream::Journal(reader) => {
                let channels = Journal::channels(reader.path()).unwrap_or_default();
                channels
                    .last()
                    .is_none_or(|last| Channel::open(last).is_ok_and(|channel| channel.seeks_time_exactly()))
            }
        }
    }

    /// About how many bytes there are to be read; `None` where positions do not tell how far one is.
    pub(crate) fn expected_len(&self) -> Option<u64> {
        match self {
            Stream::Channel(source) => Some(source.expected_len()),
            Stream::Journal(_) => None,
        }
    }
}

/// Refuses a directory that is no journal.
pub(crate) fn expect_journal(path: &Path) -> Result<(), Failure> {
    if Journal::is_at(path) {
        return Ok(());
    }
    let what = if path.exists() { "it is a directory with no journal in it" } else { "it does not exist" };
    Err(Failure::new(Exit::Missing, what).about(path))
}
