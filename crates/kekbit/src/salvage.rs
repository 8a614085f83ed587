//! Salvage: copies what can still be proven good of a damaged channel into a new one.
//!
//! ```text
//! SRC   good | gap | good, 40 records | gap | good         may be damaged anywhere but in its header; never changed
//! DST   good | good, 40 records | good | closed            intact, durable, and there only when it is complete
//! ```
//!
//! The records of DST are consecutive, as those of every channel are; where gaps lie between them is told by [`Gap`]s.
//! What counts as proven is said in `survey.rs`.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::channel::{Channel, end_state};
use crate::create::Nameless;
use crate::error::{AppendError, CreateError, FormatError, OpenError, SalvageError};
use crate::layout::frame::{Kind, WORD};
use crate::layout::header::Header;
use crate::open;
use crate::options::WriterOptions;
use crate::pen::Pen;
use crate::stage_layout::StageLayout;
use crate::survey::{Found, Gap, Sink, Survey};
use crate::sys::lock::{self, Held, Role};
use crate::time::boot_id;
use crate::{Position, State};

/// Key of the attribute in which a salvaged channel says what it was salvaged from.
const SALVAGED_FROM: &str = "salvaged-from";
/// Gaps that are listed in [`Salvaged`]; all of them are told one by one.
const LISTED: usize = 1000;

/// What was found in a damaged channel.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Salvaged {
    /// Records that are good, and are in the new channel.
    pub records: u64,
    /// Sequence of the first of them in the new channel.
    pub first_sequence: u64,
    /// The gaps, the first thousand of them.
    pub gaps: Vec<Gap>,
    /// How many gaps there are.
    pub gap_count: u64,
    /// Bytes of all gaps.
    pub gap_bytes: u64,
    /// Records that are lost in all, if that is known. What was lost behind the last good record without a trace does
    /// not count.
    pub lost: Option<u64>,
    /// How the channel had ended, if its terminal frame was reached.
    pub end: Option<State>,
}

/// The same, where the records are in as many channels as let them keep their sequences.
#[derive(Debug)]
pub(crate) struct Apart {
    pub(crate) salvaged: Salvaged,
    /// Sequences of the first records of the new channels.
    pub(crate) begins: Vec<u64>,
    /// Sequence behind the last record.
    pub(crate) next: u64,
}

/// What is told while a channel is salvaged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// So far the damaged channel has been looked at.
    Progress(Position),
    /// A gap. It is told of when it is known, or cannot be known any more, which record comes behind it.
    Gap(Gap),
}

/// Options for salvaging; made by [`Channel::salvage_options`].
///
/// # Example: what is left of a channel with a damaged record
///
/// ```
/// use kekbit::{Channel, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let (damaged, saved) = (dir.path().join("damaged.kek"), dir.path().join("saved.kek"));
/// # let mut writer = Writer::options().capacity(1 << 16).create(&damaged)?;
/// # for n in 0..10 {
/// #     writer.append(format!("record {n}").as_bytes())?;
/// # }
/// # writer.close()?;
/// # let mut bytes = std::fs::read(&damaged)?;
/// # let at = bytes.windows(8).position(|window| window == b"record 3").unwrap();
/// # bytes[at] ^= 1;
/// # std::fs::write(&damaged, bytes)?;
/// let salvaged = Channel::salvage(&damaged, &saved)?;
/// assert_eq!((salvaged.records, salvaged.lost), (9, Some(1)));
/// assert_eq!(salvaged.gaps[0].sequence, Some(3));
/// assert_eq!(Channel::open(&saved)?.records().count(), 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `run` or `survey`"]
pub struct SalvageOptions {
    force: bool,
    crashed: bool,
}

impl Channel {
    /// Copies every record of the damaged channel `from` that can be proven good into the new channel `to`, and tells
    /// what is lost.
    ///
    /// The new channel has the same stages, attributes, ids, limits and first sequence, one more attribute
    /// `salvaged-from` with the path of the damaged one, a creation time and a salt of its own. Its records are
    /// consecutive; a batch is there as a whole or not at all. Padding, and frames of kinds that this version does
    /// not know, are not copied.
    ///
    /// A record is proven good if it passes its check and lies, without a break, behind the beginning of the channel or
    /// behind a place where a frame is known to begin: by an intact entry of the index, or because three intact frames
    /// follow one another. In a channel without checksums nothing behind the first damage can be proven.
    ///
    /// The damaged channel is not changed, and need not be writable. What the disk cannot read of it counts as damaged.
    ///
    /// # Durability
    ///
    /// The new channel is complete, closed and synced before it has its name, and then its name is synced.
    ///
    /// # Errors
    ///
    /// See [`SalvageError`].
    pub fn salvage(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Salvaged, SalvageError> {
        Channel::salvage_options().run(from, to, |_| ())
    }

    /// Options for salvaging.
    pub fn salvage_options() -> SalvageOptions {
        SalvageOptions::default()
    }
}

impl SalvageOptions {
    /// Writes the new channel also to a file system that other machines may share. Default: refused.
    pub fn force_shared_file_system(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Takes what was not synced for what a crash may have left, although the machine has not been restarted: see
    /// [`ReadOptions::crashed`](crate::ReadOptions::crashed). Default: off.
    pub fn crashed(mut self, crashed: bool) -> Self {
        self.crashed = crashed;
        self
    }

    /// As [`Channel::salvage`]; `watch` is told what is found while it is found.
    ///
    /// # Errors
    ///
    /// See [`SalvageError`].
    pub fn run(
        self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        watch: impl FnMut(Finding),
    ) -> Result<Salvaged, SalvageError> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let wreck = Wreck::open(from)?;
        let _sealer = wreck.keep_sealers_away()?;
        let metadata = wreck.file.metadata().map_err(SalvageError::reading)?;
        let options = WriterOptions::default()
            .mode(metadata.mode() & 0o777 | 0o600)
            .force_shared_file_system(self.force);
        let mut nameless = options.create_nameless(salvage_header(&wreck.header, from)?, to)?;
        let append = |source| SalvageError::Append { path: to.to_owned(), source };
        let copy = |kind, payload: &[u8], records, time: Option<u64>| {
            copy_frame(&mut nameless.pen, kind, payload, records, time).map_err(append)
        };
        let salvaged = wreck.survey(self.crashed, copy, watch)?;
        let sync = |source| SalvageError::Sync { path: to.to_owned(), source };
        nameless.pen.end(Kind::Closed).map_err(sync)?;
        nameless.name(to)?;
        Ok(salvaged)
    }

    /// As [`SalvageOptions::run`], but behind a gap of which it is known which record comes next a new channel begins with that, so
    /// that records keep their sequences; `place` says where a channel goes that begins with a record. Of nothing there is no channel.
    /// The gaps that are told of say in `salvaged_sequence` what becomes of the sequence here. It reads twice: progress is half of it.
    pub(crate) fn run_apart(
        &self,
        from: &Path,
        place: impl Fn(u64) -> PathBuf,
        mut watch: impl FnMut(Finding),
    ) -> Result<Apart, SalvageError> {
        let wreck = Wreck::open(from)?;
        let _sealer = wreck.keep_sealers_away()?;
        let metadata = wreck.file.metadata().map_err(SalvageError::reading)?;
        let half = |position: Position| position.offset() / 2;
        // By how much the sequence in one new channel would be too low.
        let (mut breaks, mut shift) = (VecDeque::new(), 0);
        let first = wreck.header.first_sequence;
        let mut gaps = Vec::new();
        let looked = wreck.survey(
            self.crashed,
            |_, _, _, _| Ok(()),
            |finding| match finding {
                Finding::Progress(position) => watch(Finding::Progress(Position::new(half(position)))),
                Finding::Gap(mut gap) => {
                    let at = gap.salvaged_sequence;
                    if let Some(next) = gap.next_sequence.filter(|next| gap.resumes && *next > at + shift) {
                        shift = next - at;
                        breaks.push_back((at, next));
                    }
                    gap.salvaged_sequence += shift;
                    if gaps.len() < LISTED {
                        gaps.push(gap.clone());
                    }
                    watch(Finding::Gap(gap));
                }
            },
        )?;
        let options = WriterOptions::default()
            .mode(metadata.mode() & 0o777 | 0o600)
            .force_shared_file_system(self.force);
        let mut part: Option<Nameless> = None;
        let (mut taken, mut next, mut begins) = (first, first, Vec::new());
        let end = |part: Option<Nameless>, begins: &[u64]| match (part, begins.last()) {
            (Some(mut part), Some(first)) => {
                let path = place(*first);
                let sync = |source| SalvageError::Sync { path: path.clone(), source };
                part.pen.end(Kind::Closed).map_err(sync)?;
                part.name(&path).map(drop).map_err(SalvageError::Create)
            }
            _ => Ok(()),
        };
        let copy = |kind, payload: &[u8], records, time: Option<u64>| {
            while let Some((_, known)) = breaks.front().filter(|(at, _)| *at == taken) {
                next = *known;
                breaks.pop_front();
                end(part.take(), &begins)?;
            }
            let part = match &mut part {
                Some(part) => part,
                None => {
                    begins.push(next);
                    let header = Header { first_sequence: next, ..salvage_header(&wreck.header, from)? };
                    part.insert(options.create_nameless(header, &place(next))?)
                }
            };
            let append = |source| SalvageError::Append { path: place(next), source };
            copy_frame(&mut part.pen, kind, payload, records, time).map_err(append)?;
            taken += records;
            next += records;
            Ok(())
        };
        wreck.survey(self.crashed, copy, |finding| {
            if let Finding::Progress(position) = finding {
                watch(Finding::Progress(Position::new((metadata.len() / 2).saturating_add(half(position)))));
            }
        })?;
        end(part, &begins)?;
        Ok(Apart { salvaged: Salvaged { gaps, ..looked }, begins, next })
    }

    /// Tells what salvaging the channel `from` would save and lose, and writes nothing.
    ///
    /// # Errors
    ///
    /// See [`SalvageError`].
    pub fn survey(
        self,
        from: impl AsRef<Path>,
        watch: impl FnMut(Finding),
    ) -> Result<Salvaged, SalvageError> {
        let wreck = Wreck::open(from.as_ref())?;
        let _sealer = wreck.keep_sealers_away()?;
        wreck.survey(self.crashed, |_, _, _, _| Ok(()), watch)
    }
}

/// The header of the new channel.
fn salvage_header(wreck: &Header, from: &Path) -> Result<Header, CreateError> {
    let fresh = WriterOptions::default().capacity(wreck.capacity).header(from)?;
    let mut header = Header {
        writer_id: wreck.writer_id,
        channel_id: wreck.channel_id,
        max_record_len: wreck.max_record_len,
        tick: wreck.tick,
        checksum: wreck.checksum,
        timeout: wreck.timeout,
        first_sequence: wreck.first_sequence,
        attributes: wreck.attributes.clone(),
        ..fresh
    };
    header.attributes.user.push((SALVAGED_FROM.to_owned(), from.to_string_lossy().into_owned()));
    if header.encode().is_none() {
        // No space for it beside the others, which say more.
        header.attributes.user.pop();
    }
    Ok(header)
}

fn copy_frame(
    pen: &mut Pen,
    kind: Kind,
    payload: &[u8],
    records: u64,
    time: Option<u64>,
) -> Result<(), AppendError> {
    let len = payload.len() as u64;
    if !pen.room.may_begin(len) {
        pen.make_room(len)?;
    }
    pen.room.append_as(kind, payload).expect("there is room for it");
    pen.sequence += records;
    if let Some(time) = time {
        // The entries of the index must not be earlier than the records before them, whatever today's clock says.
        pen.clock.catch_up(time);
    }
    Ok(())
}

/// A damaged channel that nobody writes.
struct Wreck {
    file: File,
    path: PathBuf,
    header: Header,
}

impl Wreck {
    fn open(path: &Path) -> Result<Wreck, SalvageError> {
        let file = open::find(path, false).map_err(SalvageError::Open)?;
        let damaged = |source| match source {
            FormatError::Header(_) | FormatError::Truncated { .. } => {
                SalvageError::Header { path: path.to_owned(), source }
            }
            _ => SalvageError::Open(OpenError::Format { path: path.to_owned(), source }),
        };
        let header = open::read_header(&file).map_err(SalvageError::reading)?.map_err(damaged)?;
        let len = file.metadata().map_err(SalvageError::reading)?.len();
        let needed = header.regions.data + WORD;
        if len < needed {
            return Err(damaged(FormatError::Truncated { len, needed }));
        }
        let ask = |errno: nix::errno::Errno| SalvageError::Io {
            action: "ask for the writer of",
            source: errno.into(),
        };
        if lock::is_held(&file, Role::Writer).map_err(ask)? {
            return Err(SalvageError::WriterLives { path: path.to_owned() });
        }
        Ok(Wreck { file, path: path.to_owned(), header })
    }

    /// Takes a share of the sealer's lock: then nobody seals, and several may salvage.
    fn keep_sealers_away(&self) -> Result<Held<'_>, SalvageError> {
        let held = Held::shared(&self.file, Role::Sealer)
            .map_err(|errno| SalvageError::Io { action: "lock", source: errno.into() })?;
        held.ok_or_else(|| SalvageError::BeingSealed { path: self.path.clone() })
    }

    fn survey(
        &self,
        crashed: bool,
        copy: impl FnMut(Kind, &[u8], u64, Option<u64>) -> Result<(), SalvageError>,
        watch: impl FnMut(Finding),
    ) -> Result<Salvaged, SalvageError> {
        let header = self.header.clone();
        let metadata = self.file.metadata().map_err(SalvageError::reading)?;
        let layout = StageLayout::new(&header.attributes.stages, header.max_record_len).map_err(|what| {
            SalvageError::Header { path: self.path.clone(), source: FormatError::Header(what) }
        })?;
        let known = header.boot_id != [0; 16] && header.inode == metadata.ino();
        let same_boot = known && header.boot_id == boot_id() && !crashed;
        let first_sequence = header.first_sequence;
        let mut survey = Survey::new(&self.file, metadata.len(), header, layout, same_boot)
            .map_err(SalvageError::reading)?;
        let mut report = Report { copy, watch, gaps: Vec::new(), gap_count: 0, gap_bytes: 0 };
        let Found { records, terminal, next_sequence } = survey.run(&mut report)?;
        Ok(Salvaged {
            records,
            first_sequence,
            gaps: report.gaps,
            gap_count: report.gap_count,
            gap_bytes: report.gap_bytes,
            lost: next_sequence.map(|next| next - first_sequence - records),
            end: terminal.map(end_state),
        })
    }
}

/// Where findings go.
struct Report<C, W> {
    copy: C,
    watch: W,
    gaps: Vec<Gap>,
    gap_count: u64,
    gap_bytes: u64,
}

impl<C, W> Sink for Report<C, W>
where
    C: FnMut(Kind, &[u8], u64, Option<u64>) -> Result<(), SalvageError>,
    W: FnMut(Finding),
{
    fn frame(
        &mut self,
        kind: Kind,
        payload: &[u8],
        records: u64,
        time: Option<u64>,
    ) -> Result<(), SalvageError> {
        (self.copy)(kind, payload, records, time)
    }

    fn gap(&mut self, gap: Gap) {
        self.gap_count += 1;
        self.gap_bytes += gap.len();
        if self.gaps.len() < LISTED {
            self.gaps.push(gap.clone());
        }
        (self.watch)(Finding::Gap(gap));
    }

    fn progress(&mut self, at: Position) {
        (self.watch)(Finding::Progress(at));
    }
}
