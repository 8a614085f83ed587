//! What `cat` and `tail` read from: a channel, a journal of channels, which is a directory, or a channel of kekbit 0.3.

use std::ops::ControlFlow;
use std::path::Path;

use kekbit::legacy::{self, CheckUp};
use kekbit::{Channel, End, Journal, JournalReader, ReadError, ReadOptions, Record, Start, State, Wait};

use crate::exit::{Exit, Failure};
use crate::original;
use crate::root::is_root;
use crate::shape::Shape;
use crate::source::{Source, TrustArgs};

/// Opened, and a place in it.
#[derive(Debug)]
pub(crate) enum Stream {
    Channel(Source),
    Journal(Box<JournalReader>),
    Original(Box<legacy::Reader>),
}

/// Where it ends at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Sequence of the record that would be next.
    pub(crate) sequence: u64,
    /// Whether a crash has damaged what follows.
    pub(crate) torn: bool,
}

impl Stream {
    /// Opens the channel or the journal at `path`, to be read from its first record on.
    pub(crate) fn open(path: &Path, options: ReadOptions, trust: TrustArgs) -> Result<Stream, Failure> {
        if path == Path::new("-") {
            let why = "a channel is a file, and no pipe: name the file, or `./-` if that is its name";
            return Err(Failure::new(Exit::Usage, why));
        }
        if !path.is_dir() {
            return match Source::open(path, options, trust) {
                Ok(source) => Ok(Stream::Channel(source)),
                // Of that nothing is mapped, whoever is trusted.
                Err(error) => Ok(Stream::Original(Box::new(original::instead(path, error)?.reader()))),
            };
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
            Stream::Original(reader) => Ok(reader.seek(start)?),
        }
    }

    pub(crate) fn set_durable(&mut self, durable: bool) {
        match self {
            Stream::Channel(source) => source.set_durable(durable),
            Stream::Journal(reader) => reader.set_durable(durable),
            // It does not know what is durable: who asks for that is refused.
            Stream::Original(_) => {}
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
            Stream::Original(reader) => {
                while let Some(record) = reader.try_next()? {
                    if each(&record)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// Hands over each record before this place, the last first, until there is none or `each` has had enough.
    pub(crate) fn try_for_each_back(
        &mut self,
        mut each: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        match self {
            Stream::Channel(source) => source.try_for_each_back(each),
            Stream::Journal(reader) => {
                while let Some(record) = reader.try_previous()? {
                    if each(&record)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Stream::Original(reader) => {
                while let Some(record) = reader.try_previous()? {
                    if each(&record)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// The sequence of the first record from `start` on, or of the one that would be next. What is named by its sequence is not
    /// looked for.
    pub(crate) fn sequence_at(&mut self, start: Start) -> Result<u64, Failure> {
        if let Start::Sequence(sequence) = start {
            return Ok(sequence);
        }
        self.seek(start)?;
        let mut found = None;
        self.try_for_each(|record| {
            found = Some(record.sequence());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found.unwrap_or_else(|| self.sequence()))
    }

    /// Sequence of the oldest record that is there, or of the next if there is none.
    pub(crate) fn first_sequence(&self) -> Result<u64, Failure> {
        match self {
            Stream::Channel(source) => Ok(source.first_sequence()),
            Stream::Journal(reader) => Ok(reader.oldest_sequence()?.unwrap_or(0)),
            Stream::Original(_) => Ok(0),
        }
    }

    /// Sequence of the next record.
    fn sequence(&self) -> u64 {
        match self {
            Stream::Channel(source) => source.sequence(),
            Stream::Journal(reader) => reader.sequence(),
            Stream::Original(reader) => reader.sequence(),
        }
    }

    pub(crate) fn next(&mut self, wait: Wait<'_>) -> Result<Option<Record<'_>>, Failure> {
        match self {
            Stream::Channel(source) => Ok(source.next(wait)?),
            Stream::Journal(reader) => Ok(reader.next(wait)?),
            Stream::Original(reader) => Ok(reader.next(wait)?),
        }
    }

    /// How it has ended, if nothing can come any more: of a journal, unless somebody writes it again.
    pub(crate) fn end(&self) -> Result<Option<End>, Failure> {
        let reader = match self {
            Stream::Channel(source) => return Ok(source.end()),
            Stream::Original(reader) => return Ok(reader.end()),
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
    pub(crate) fn end_point(&self) -> Result<Option<Ending>, Failure> {
        let end = match self {
            Stream::Channel(source) => Some(source.end_point()?),
            Stream::Journal(reader) => reader.end_point()?,
            Stream::Original(reader) => {
                // Damage is an end of the records, too.
                let CheckUp { sequence, outcome, .. } = reader.channel().check_up(|_| {});
                if let Err(error @ ReadError::Io { .. }) = outcome {
                    return Err(error.into());
                }
                return Ok(Some(Ending { sequence, torn: false }));
            }
        };
        Ok(end.map(|end| Ending { sequence: end.sequence, torn: end.state == State::Torn }))
    }

    /// What is wrong at its end, to which it has been moved: of a channel of 0.3, where going back would not come to it.
    pub(crate) fn damage_at_end(&mut self) -> Option<Failure> {
        match self {
            Stream::Original(reader) => reader.try_next().err().map(Failure::from),
            Stream::Channel(_) | Stream::Journal(_) => None,
        }
    }

    /// The id in the header; `None` of a journal, whose channels may have different ones.
    pub(crate) fn channel_id(&self) -> Option<u64> {
        match self {
            Stream::Channel(source) => Some(source.channel_id()),
            Stream::Original(reader) => Some(reader.channel().channel_id()),
            Stream::Journal(_) => None,
        }
    }

    /// Whether it is a channel of 0.3.
    pub(crate) fn is_original(&self) -> bool {
        matches!(self, Stream::Original(_))
    }

    /// Whether somebody writes it; of a channel of 0.3, whether that may be.
    pub(crate) fn writer_lives(&self) -> Result<bool, Failure> {
        match self {
            Stream::Original(reader) => Ok(reader.end() != Some(End::Closed)),
            Stream::Channel(source) => Ok(source.writer_lives()?),
            Stream::Journal(reader) => Ok(reader.writer_lives()?),
        }
    }

    /// What payloads are that do not say it themselves.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Stream::Channel(source) => source.shape(),
            Stream::Journal(_) | Stream::Original(_) => Shape::Bytes,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Stream::Channel(source) => source.path(),
            Stream::Journal(reader) => reader.path(),
            Stream::Original(reader) => reader.channel().path(),
        }
    }

    pub(crate) fn seeks_time_exactly(&self) -> bool {
        match self {
            Stream::Channel(source) => source.seeks_time_exactly(),
            Stream::Original(reader) => reader.channel().seeks_time_exactly(),
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
            Stream::Original(reader) => reader.channel().bytes_in_file().ok(),
        }
    }
}

/// Refuses what is no journal.
pub(crate) fn expect_journal(path: &Path) -> Result<(), Failure> {
    if Journal::is_at(path) {
        return Ok(());
    }
    let what = match path.metadata() {
        Ok(metadata) if metadata.is_dir() && is_root(path) => {
            let dir = path.display();
            let what = format_args!(
                "it is a directory with no journal in it: `kek ls {dir}` lists its channels, `--root {dir} ID` names one"
            );
            return Err(Failure::new(Exit::Missing, what).about(path));
        }
        Ok(metadata) if metadata.is_dir() => {
            "it is a directory with no journal in it: `kek write` begins one in an empty directory"
        }
        Ok(_) => "it is no directory: a journal is a directory of channels",
        Err(_) => return Err(Failure::new(Exit::Missing, format_args!("{} does not exist", path.display()))),
    };
    Err(Failure::new(Exit::Missing, what).about(path))
}
