//! `kek verify`: checks every byte of channels.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use kekbit::{Channel, Finding, Journal, OpenError, ReadError, State, legacy};
use serde::Serialize;

use crate::exit::{Exit, Failure, is_damaged, note};
use crate::original::{self, JsonLoss};
use crate::output::{print, print_json};
use crate::progress;
use crate::root::RootArgs;
use crate::salvage::{JsonGap, lost};
use crate::source::{Source, TrustArgs};
use crate::stream::expect_journal;
use crate::values::{counted, one_line};

/// Check every byte of channels
///
/// Says where the first damage is, what lies behind it, and what `kek salvage` would save, and exits with 1 if there is
/// any. A channel that was closed, is full, or was abandoned by a dead writer is fine. A torn one, whose last records a
/// crash of the machine has damaged, is not, until `kek seal` has ended it. A corrupt one has damage where no crash
/// makes any: it can only be salvaged. Of a channel that is being written, what is there is checked.
///
/// Compressed records are decompressed, too.
///
/// Of a channel of kekbit 0.3, which has no checksums, the lengths are checked. One that was filled has lost what its writer put past
/// the end of the file: how many bytes is said, and it exits with 1.
///
/// Of a journal, which is a directory, each channel is checked, and whether it begins where the one before ends.
///
/// Without --untrusted nobody but kekbit may write to the file or cut it while it is read.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek verify log.kek
  kek verify /var/lib/orders/*.kek && echo all good
  kek verify --json log.kek | jq .first_damage")]
pub(crate) struct VerifyArgs {
    /// Channels, and directories of journals
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    root: RootArgs,

    /// One JSON object for each path
    #[arg(long)]
    json: bool,

    /// The file system was shut down or its disk gone, although the machine was not restarted: what was not synced may be
    /// torn
    #[arg(long)]
    crashed: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

impl VerifyArgs {
    /// Checks all of them; damage in one outweighs everything else that went wrong.
    pub(crate) fn run(mut self) -> Result<Exit, Failure> {
        self.paths = self.paths.iter().map(|path| self.root.resolve(path)).collect::<Result<_, _>>()?;
        let mut exit = Exit::Done;
        for path in &self.paths {
            let found = if path.is_dir() { self.journal(path)? } else { self.channel(path)?.exit };
            if exit == Exit::Done || found == Exit::Damage {
                exit = found;
            }
        }
        Ok(exit)
    }

    fn channel(&self, path: &Path) -> Result<Verdict, Failure> {
        let verdict = Verdict::of(path, &self.root, self.crashed, self.trust);
        match self.json {
            true => print_json(&verdict)?,
            false => verdict.tell()?,
        }
        Ok(verdict)
    }

    /// Checks all channels of a journal, and that none is missing between them.
    fn journal(&self, path: &Path) -> Result<Exit, Failure> {
        expect_journal(path)?;
        let (mut exit, mut expected) = (Exit::Done, None);
        for channel in Journal::channels(path)? {
            let first = channel.file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok());
            if let (Some(expected), Some(first)) = (expected, first)
                && expected != first
            {
                let what = format_args!(
                    "{}: begins with record {first}, but the one before ends before {expected}",
                    channel.display()
                );
                note(what);
                exit = Exit::Damage;
            }
            let verdict = self.channel(&channel)?;
            if exit == Exit::Done || verdict.exit == Exit::Damage {
                exit = verdict.exit;
            }
            expected = first.filter(|_| verdict.ok).map(|first| first + verdict.records);
        }
        Ok(exit)
    }
}

/// What is said of one path.
#[derive(Serialize)]
struct Verdict {
    path: String,
    /// As `kek info` has it, or `corrupt`; `null` if the path could not be read.
    state: Option<String>,
    /// Records that are good, before the first damage.
    records: u64,
    /// Position behind them.
    tail: u64,
    synced: Option<u64>,
    first_damage: Option<Damage>,
    /// What `kek salvage` would leave out, the first thousand gaps; `null` where that cannot be told.
    gaps: Option<Vec<JsonGap>>,
    gap_count: Option<u64>,
    /// Records that `kek salvage` would save.
    salvageable: Option<u64>,
    /// Records that it would not, if their number is known.
    lost: Option<u64>,
    ok: bool,
    /// What lies past the end of the file of a channel of 0.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<JsonLoss>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    exit: Exit,
    /// Whether it is `kek import` that would save what is good.
    #[serde(skip)]
    import: bool,
}

#[derive(Serialize)]
struct Damage {
    /// `torn`, `corrupt`, or `cut-off`.
    kind: &'static str,
    /// `null` if it is the header's.
    position: Option<u64>,
    sequence: Option<u64>,
    /// Bytes from there to the last one that is not zero, or that is known to have been written.
    bytes_behind: Option<u64>,
    what: String,
}

/// Undoes what stands in place of the payload, in all records before `end`, as far as kekbit can.
fn undo_all(path: &Path, end: u64, trust: TrustArgs) -> Result<(), ReadError> {
    let mut channel = match Source::open(path, Channel::options(), trust) {
        Ok(channel) => channel,
        // Only its own handler can undo such a stage.
        Err(OpenError::Encoded { .. }) => return Ok(()),
        Err(error) => {
            return Err(ReadError::Io { action: "open it again", source: std::io::Error::other(error) });
        }
    };
    channel.try_for_each(|record| {
        Ok(if record.sequence() + 1 < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
}

impl Verdict {
    fn of(path: &Path, root: &RootArgs, crashed: bool, trust: TrustArgs) -> Verdict {
        let channel = match Source::open(path, Channel::options().stored(true).crashed(crashed), trust) {
            Ok(channel) => channel,
            Err(error) => {
                let original = original::instead(path, error).and_then(|channel| {
                    root.expect(path, Some(channel.channel_id()))?;
                    Ok(channel)
                });
                return match original {
                    Ok(channel) => Verdict::of_original(path, &channel),
                    Err(error) => Verdict::unopened(path, error),
                };
            }
        };
        if let Err(error) = root.expect(path, Some(channel.channel_id())) {
            return Verdict::unopened(path, error);
        }
        let bar = progress::bar(Some(channel.expected_len()), "verifying");
        let check_up = channel.check_up(|position| bar.set_position(position.offset()));
        bar.finish_and_clear();
        let check_up = match check_up {
            Ok(check_up) => check_up,
            Err(error) => return Verdict::unread(path).failed(&Failure::from(error).about(path)),
        };
        let mut verdict = Verdict {
            records: check_up.sequence - channel.first_sequence(),
            tail: check_up.position.offset(),
            synced: Some(channel.synced_tail().offset()),
            gaps: Some(Vec::new()),
            gap_count: Some(0),
            ..Verdict::unread(path)
        };
        verdict.salvageable = Some(verdict.records);
        let undecodable;
        let (mut at, mut next) = (check_up.position, check_up.sequence);
        let (kind, what) = match &check_up.outcome {
            Ok(end) if end.state == State::Torn => ("torn", "damaged or lost in a crash of the machine"),
            Ok(end) => {
                verdict.state = Some(end.state.to_string());
                match channel.has_replaced().then(|| undo_all(path, check_up.sequence, trust)) {
                    None | Some(Ok(())) => {
                        (verdict.lost, verdict.ok) = (Some(0), true);
                        return verdict;
                    }
                    Some(Err(ReadError::Undecodable { position, sequence, source, .. })) => {
                        undecodable = format!("record {sequence}: {source}");
                        (verdict.tail, verdict.records) =
                            (position.offset(), sequence - channel.first_sequence());
                        (at, next) = (position, sequence);
                        ("corrupt", &*undecodable)
                    }
                    Some(Err(error)) => return verdict.failed(&Failure::from(error).about(path)),
                }
            }
            Err(ReadError::Corrupt { what, .. }) => ("corrupt", *what),
            Err(ReadError::UnknownKind { .. }) => ("corrupt", "a frame of an unknown kind"),
            Err(error) => return verdict.failed(&Failure::new(Exit::Io, error).about(path)),
        };
        verdict.state = Some(kind.to_owned());
        verdict.first_damage = Some(Damage {
            kind,
            position: Some(verdict.tail),
            sequence: Some(next),
            bytes_behind: channel.bytes_behind(at).ok(),
            what: what.to_owned(),
        });
        drop(channel);
        verdict.look_behind(path, crashed);
        verdict.exit = Exit::Damage;
        verdict
    }

    /// What could not be opened.
    fn unopened(path: &Path, error: OpenError) -> Verdict {
        if !is_damaged(&error) {
            return Verdict::unread(path).failed(&error.into());
        }
        let what = error.to_string();
        let damage = Damage { kind: "corrupt", position: None, sequence: None, bytes_behind: None, what };
        let (state, first_damage) = (Some("corrupt".to_owned()), Some(damage));
        let verdict = Verdict { state, first_damage, ..Verdict::unread(path) };
        verdict.failed(&Failure::new(Exit::Damage, error))
    }

    /// Of a channel of 0.3, where a length is all that can be checked of a record.
    fn of_original(path: &Path, channel: &legacy::Channel) -> Verdict {
        let bar = progress::bar(channel.bytes_in_file().ok(), "verifying");
        let check_up = channel.check_up(|position| bar.set_position(position.offset()));
        bar.finish_and_clear();
        let (records, tail) = (check_up.sequence, check_up.position.offset());
        let mut verdict =
            Verdict { records, tail, salvageable: Some(records), import: true, ..Verdict::unread(path) };
        let (kind, what) = match check_up.outcome {
            Ok(end) => match end.loss {
                None => {
                    verdict.state = Some(end.state.to_string());
                    (verdict.lost, verdict.ok) = (Some(0), true);
                    return verdict;
                }
                Some(loss) => {
                    verdict.loss = Some(JsonLoss::of(&loss));
                    ("cut-off", loss.to_string())
                }
            },
            Err(ReadError::Corrupt { what, .. }) => ("corrupt", what.to_owned()),
            Err(error) => return verdict.failed(&Failure::from(error).about(path)),
        };
        verdict.state = Some(kind.to_owned());
        verdict.first_damage =
            Some(Damage { kind, position: Some(tail), sequence: Some(records), bytes_behind: None, what });
        verdict.exit = Exit::Damage;
        verdict
    }

    /// Finds out what `kek salvage` would make of it.
    fn look_behind(&mut self, path: &Path, crashed: bool) {
        let bar =
            progress::bar(path.metadata().ok().map(|metadata| metadata.len()), "looking behind the damage");
        let survey = Channel::salvage_options().crashed(crashed).survey(path, |finding| {
            if let Finding::Progress(position) = finding {
                bar.set_position(position.offset());
            }
        });
        bar.finish_and_clear();
        // A channel that is being written is not salvaged.
        let survey = survey.ok();
        self.gaps = survey.as_ref().map(|found| found.gaps.iter().map(JsonGap::of).collect());
        self.gap_count = survey.as_ref().map(|found| found.gap_count);
        self.salvageable = survey.as_ref().map(|found| found.records);
        self.lost = survey.and_then(|found| found.lost);
    }

    /// A path of which nothing is known yet.
    fn unread(path: &Path) -> Verdict {
        Verdict {
            path: path.display().to_string(),
            state: None,
            records: 0,
            tail: 0,
            synced: None,
            first_damage: None,
            gaps: None,
            gap_count: None,
            salvageable: None,
            lost: None,
            ok: false,
            loss: None,
            error: None,
            exit: Exit::Done,
            import: false,
        }
    }

    /// The same, with what went wrong.
    fn failed(self, failure: &Failure) -> Verdict {
        Verdict { error: failure.message().map(str::to_owned), exit: failure.exit, ..self }
    }

    /// Says it to people: what is good on standard output, what is not on standard error.
    fn tell(&self) -> Result<(), Failure> {
        if let Some(error) = &self.error {
            note(error);
            return Ok(());
        }
        let good = format!("{}, {}", counted(self.records, "record"), counted(self.tail, "byte"));
        let Some(damage) = &self.first_damage else {
            let state = self.state.as_deref().unwrap_or_default();
            return print(format!("{}: {state}, {good}, no damage\n", one_line(&self.path)).as_bytes());
        };
        let behind = damage
            .bytes_behind
            .map_or_else(String::new, |bytes| format!("; {} behind it", counted(bytes, "byte")));
        let mut text = format!(
            "{}: {} at position {}: {good} before it are good; {}{behind}",
            self.path, damage.kind, self.tail, damage.what
        );
        if let (Some(gaps), Some(records)) = (self.gap_count, self.salvageable) {
            let (gaps, records) = (counted(gaps, "gap"), counted(records, "record"));
            text += &format!("; `kek salvage` would save {records} around {gaps}, {}", lost(self.lost));
        }
        if self.import {
            text += &format!("; `kek import` copies the {}", counted(self.records, "good record"));
        }
        if damage.kind == "torn" {
            text += "; `kek seal` ends it there";
        }
        note(text);
        Ok(())
    }
}
