//! Whatever a stage or an encoder does wrong, at whatever place of the chain and by whatever way a record is appended: the
//! channel is as it was before, no stage is told that anything was published, and the next record is appended as if nothing
//! had been.
//!
//! "As it was": header, control, index, and all frames up to the word behind the last one, byte for byte. What lies behind that
//! word is unspecified, nobody looks at it, and a claim writes there. A journal that had to make room first may have rolled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use kekbit::{
    AppendContext, AppendError, Appended, Chain, Channel, Decoder, Encode, EncodeError, Handler, Journal,
    Roll, SharedError, SharedWriter, StageError, StageInfo, TickUnit, Wait, Writer, WriterOptions,
};

use crate::any::Kind;
use crate::common::journal::channels;
use crate::common::{self, bytes, data_offset};
use crate::trap::{DEEDS, Deed, LONGEST, Link, Scene};

/// What records are appended to: a channel, a shared one, or a journal.
trait Target<C: Chain> {
    fn with<R>(&mut self, act: impl FnOnce(&mut dyn Writing) -> R) -> R;
    fn finish(self);
}

/// What writers and journals have in common, in the ways of appending one record.
trait Writing {
    fn append(&mut self, payload: &[u8]) -> Result<Appended, AppendError>;
    fn append_encoded(&mut self, value: &dyn Encode) -> Result<Appended, AppendError>;
    fn append_with(
        &mut self,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> Result<Appended, AppendError>;
    /// Claims, fills, and commits so many bytes; or lets go of the claim.
    fn claim(&mut self, payload: &[u8], end: End) -> Result<(), AppendError>;
    /// Pushes two records, the second after `between`, and commits; or lets go of the batch.
    fn batch(&mut self, payload: &[u8], between: &mut dyn FnMut(), end: End) -> Result<(), AppendError>;
    fn next_sequence(&self) -> u64;
}

/// What becomes of a claim or a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Commit(usize),
    /// Which is the same as forgetting it: neither does anything when it goes.
    Drop,
}

macro_rules! writing {
    ($type:ident) => {
        impl<C: Chain> Writing for $type<C> {
            fn append(&mut self, payload: &[u8]) -> Result<Appended, AppendError> {
                $type::append(self, payload)
            }
            fn append_encoded(&mut self, value: &dyn Encode) -> Result<Appended, AppendError> {
                $type::append_encoded(self, value)
            }
            fn append_with(
                &mut self,
                len: usize,
                fill: &mut dyn FnMut(&mut [u8]) -> usize,
            ) -> Result<Appended, AppendError> {
                $type::append_with(self, len, fill)
            }
            fn claim(&mut self, payload: &[u8], end: End) -> Result<(), AppendError> {
                let mut claim = $type::claim(self, payload.len())?;
                claim.copy_from_slice(payload);
                match end {
                    End::Commit(more) => claim.commit(payload.len().saturating_add(more)).map(drop),
                    End::Drop => Ok(drop(claim)),
                }
            }
            fn batch(
                &mut self,
                payload: &[u8],
                between: &mut dyn FnMut(),
                end: End,
            ) -> Result<(), AppendError> {
                let mut batch = $type::batch(self);
                batch.push(b"first")?;
                between();
                batch.push(payload)?;
                match end {
                    End::Commit(_) => batch.commit().map(drop),
                    End::Drop => Ok(drop(batch)),
                }
            }
            fn next_sequence(&self) -> u64 {
                $type::next_sequence(self)
            }
        }
    };
}

writing!(Writer);
writing!(Journal);

impl<C: Chain> Target<C> for Writer<C> {
    fn with<R>(&mut self, act: impl FnOnce(&mut dyn Writing) -> R) -> R {
        act(self)
    }
    fn finish(self) {
        Writer::close(self).unwrap();
    }
}

impl<C: Chain> Target<C> for Journal<C> {
    fn with<R>(&mut self, act: impl FnOnce(&mut dyn Writing) -> R) -> R {
        act(self)
    }
    fn finish(self) {
        Journal::close(self).unwrap();
    }
}

impl<C: Chain> Target<C> for SharedWriter<C> {
    fn with<R>(&mut self, act: impl FnOnce(&mut dyn Writing) -> R) -> R {
        SharedWriter::with(self, Wait::backoff(), |writer| act(writer)).unwrap()
    }
    fn finish(self) {
        SharedWriter::close(&self).unwrap();
    }
}

/// A way to append a record, or two.
type Way = fn(&mut dyn Writing, &[u8], &mut dyn FnMut()) -> Result<(), AppendError>;

/// How many records each appends.
const WAYS: [(Way, u64); 6] = [
    (
        |writer, payload, spring| {
            spring();
            writer.append(payload).map(drop)
        },
        1,
    ),
    (
        |writer, payload, spring| {
            spring();
            writer.append_encoded(&payload).map(drop)
        },
        1,
    ),
    (
        |writer, payload, spring| {
            spring();
            let fill = &mut |space: &mut [u8]| {
                space.copy_from_slice(payload);
                space.len()
            };
            writer.append_with(payload.len(), fill).map(drop)
        },
        1,
    ),
    (
        |writer, payload, spring| {
            spring();
            writer.claim(payload, End::Commit(0))
        },
        1,
    ),
    (
        |writer, payload, spring| {
            spring();
            writer.batch(payload, &mut || (), End::Commit(0))
        },
        2,
    ),
    // The second of a batch meets it, when the first has gone through.
    (|writer, payload, spring| writer.batch(payload, spring, End::Commit(0)), 2),
];

/// What must not change: of each file everything up to the word behind its last frame.
fn snapshot(files: &[PathBuf]) -> Vec<Vec<u8>> {
    let one = |path: &PathBuf| {
        let tail = Channel::options().stored(true).open(path).unwrap().end_point().unwrap().position.offset();
        let mut file = std::fs::read(path).unwrap();
        file.truncate((data_offset(&file) + tail + 8) as usize);
        file
    };
    files.iter().map(one).collect()
}

/// Whether nothing has changed. A journal that had to make room for what then went wrong may have rolled: its last channel has an end
/// then, and a new one nothing.
fn is_unchanged(before: &[Vec<u8>], after: &[Vec<u8>]) -> bool {
    let Some((new, rest)) = after.split_last().filter(|_| after.len() == before.len() + 1) else {
        return before == after;
    };
    let frames = |file: &Vec<u8>| file[data_offset(file) as usize..file.len() - 8].to_vec();
    let same = |(a, b): (&Vec<u8>, &Vec<u8>)| a[..4096] == b[..4096] && frames(a) == frames(b);
    frames(new).is_empty() && before.iter().zip(rest).all(same)
}

/// Does everything wrong that can be done, in all ways, and something right in between.
fn torment<C: Chain, T: Target<C>>(
    scene: &Scene,
    links: &[Link],
    mut target: T,
    files: &dyn Fn() -> Vec<PathBuf>,
) -> Vec<Vec<u8>> {
    let replaces = links.contains(&Link::Trap { replaces: true });
    let stages = links.len() as u64;
    let mut gone: Vec<Vec<u8>> = Vec::new();
    for len in [0_usize, 1, 300] {
        for (way, records) in WAYS {
            for deed in DEEDS.into_iter().filter(|deed| replaces || !deed.replaces()) {
                let payload = bytes(gone.len() as u64, len);
                scene.set(Deed::Nothing);
                let (before, published) = (snapshot(&files()), scene.published.load(Ordering::Relaxed));
                let sequence = target.with(|writer| writer.next_sequence());
                assert_eq!((sequence, published), (gone.len() as u64, stages * gone.len() as u64));
                let result = catch_unwind(AssertUnwindSafe(|| {
                    target.with(|writer| way(writer, &payload, &mut || scene.set(deed)))
                }));
                let what = format!("{links:?}: {deed:?}, {len} bytes: {result:?}");
                match (deed, result) {
                    (Deed::Nothing, result) => {
                        result.unwrap().unwrap();
                        if records == 2 {
                            gone.push(b"first".to_vec());
                        }
                        gone.push(payload);
                        continue;
                    }
                    (deed, Err(_)) => assert!(deed.panics(), "{what}"),
                    (Deed::TooMuch, Ok(result)) => {
                        assert!(matches!(result, Err(AppendError::TooLong { .. })), "{what}");
                    }
                    (_, Ok(result)) => assert!(matches!(result, Err(AppendError::Stage(_))), "{what}"),
                }
                assert!(is_unchanged(&before, &snapshot(&files())), "{what}: something has changed");
                assert_eq!(scene.published.load(Ordering::Relaxed), published, "{what}");
                assert_eq!(target.with(|writer| writer.next_sequence()), sequence, "{what}");
            }
        }
    }
    scene.set(Deed::Nothing);
    mislead(scene, &mut target, files, &mut gone);
    target.finish();
    gone
}

/// Encodes itself in one of several wrong ways, after it has scribbled over all of its space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Fails,
    Panics,
    SaysMore,
    SaysTheMost,
}

const SPACE: usize = 300;

impl Wrong {
    fn fill(self, space: &mut [u8]) -> usize {
        space.fill(0x99);
        match self {
            Wrong::Fails | Wrong::SaysMore => SPACE + 1,
            Wrong::Panics => panic!("on purpose"),
            Wrong::SaysTheMost => usize::MAX,
        }
    }
}

impl Encode for Wrong {
    fn max_len(&self) -> usize {
        SPACE
    }

    fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
        let len = self.fill(space);
        if *self == Wrong::Fails { Err("refused on purpose".into()) } else { Ok(len) }
    }
}

/// A way to append what goes wrong.
type Misleading<'a> = &'a dyn Fn(&mut dyn Writing) -> Result<(), AppendError>;

/// Encoders that fail, panic, or say that they have written more than there was space for; claims and batches of which nothing
/// comes.
fn mislead<C: Chain, T: Target<C>>(
    scene: &Scene,
    target: &mut T,
    files: &dyn Fn() -> Vec<PathBuf>,
    gone: &mut Vec<Vec<u8>>,
) {
    let payload = bytes(3, SPACE);
    for wrong in [Wrong::Fails, Wrong::Panics, Wrong::SaysMore, Wrong::SaysTheMost] {
        let ways: [Misleading<'_>; 5] = [
            &|writer| writer.append_encoded(&wrong).map(drop),
            &|writer| writer.append_with(SPACE, &mut |space| wrong.fill(space)).map(drop),
            &|writer| {
                let more = if wrong == Wrong::SaysTheMost { usize::MAX } else { 1 };
                writer.claim(&payload, End::Commit(more))
            },
            &|writer| writer.claim(&payload, End::Drop),
            &|writer| writer.batch(&payload, &mut || (), End::Drop),
        ];
        for (n, way) in ways.into_iter().enumerate() {
            let (before, published) = (snapshot(&files()), scene.published.load(Ordering::Relaxed));
            let sequence = target.with(|writer| writer.next_sequence());
            let result = catch_unwind(AssertUnwindSafe(|| target.with(way)));
            let what = format!("{wrong:?}, way {n}: {result:?}");
            match (wrong, n, result) {
                (_, 3.., Ok(Ok(()))) => {}
                (Wrong::Panics, 0 | 1, Err(_)) => {}
                (Wrong::Fails, 0, Ok(Err(AppendError::Encode(_)))) => {}
                (_, 0..=2, Ok(Err(AppendError::BeyondClaim { claimed: 300, .. }))) => {}
                _ => panic!("{what}"),
            }
            assert!(is_unchanged(&before, &snapshot(&files())), "{what}: something has changed");
            assert_eq!(scene.published.load(Ordering::Relaxed), published, "{what}");
            assert_eq!(target.with(|writer| writer.next_sequence()), sequence, "{what}");
            target.with(|writer| writer.append(&payload[n..])).unwrap();
            gone.push(payload[n..].to_vec());
        }
    }
}

/// Compares what the files hold with what was appended.
fn check<C: Chain>(files: &[PathBuf], decoder: &dyn Fn(&Channel) -> Decoder<C>, gone: &[Vec<u8>]) {
    let mut rest = gone.iter();
    for path in files {
        let channel = Channel::options().stored(true).open(path).unwrap();
        let mut decoder = decoder(&channel);
        for record in channel.records() {
            let record = record.unwrap();
            assert_eq!(decoder.decode(&record).unwrap().payload, rest.next().unwrap());
        }
        channel.verify(|_| ()).unwrap();
    }
    assert_eq!(rest.next(), None);
}

fn check_all<C: Chain>(
    links: &[Link],
    options: &dyn Fn(&Scene) -> WriterOptions<C>,
    decoder: &dyn Fn(&Channel) -> Decoder<C>,
) {
    let dir = common::dir();
    let create = |name: &str, scene: &Scene| {
        let path = dir.path().join(name);
        let options = options(scene).capacity(1 << 18).max_record_len(LONGEST as u64);
        (options.create(&path).unwrap(), path)
    };
    let scene = Scene::default();
    let (writer, path) = create("alone.kek", &scene);
    let files = || vec![path.clone()];
    let gone = torment(&scene, links, writer, &files);
    check(&files(), decoder, &gone);

    let scene = Scene::default();
    let (writer, path) = create("shared.kek", &scene);
    let files = || vec![path.clone()];
    let gone = torment(&scene, links, SharedWriter::new(writer), &files);
    check(&files(), decoder, &gone);

    let scene = Scene::default();
    let path = dir.path().join("journal");
    let options = options(&scene).max_record_len(LONGEST as u64);
    let journal = Journal::options().channels(options).roll(Roll::Bytes(4096)).background(false);
    let files = || channels(&path);
    let gone = torment(&scene, links, journal.open(&path).unwrap(), &files);
    assert!(files().len() > 2, "it rolls");
    check(&files(), decoder, &gone);
}

#[test]
fn what_a_stage_or_an_encoder_does_wrong_leaves_no_trace() {
    let nanos = Link::Of(Kind::Timestamp(TickUnit::Nanos));
    let (lz4, sequence, before) = (Link::Of(Kind::Lz4), Link::Of(Kind::Sequence), Link::Of(Kind::Before(5)));
    for replaces in [false, true] {
        let trap = Link::Trap { replaces };
        for links in [
            &[trap][..],
            &[trap, nanos],
            &[nanos, trap],
            &[trap, lz4, sequence],
            &[sequence, trap, lz4],
            &[lz4, before, trap],
            &[before, lz4, trap, nanos, sequence],
        ] {
            macro_rules! check_with {
                ($($link:ident)*) => {
                    check_all(
                        links,
                        &|scene| Writer::options()$(.stage(scene.handler($link)))*,
                        &|channel| {
                            let scene = Scene::default();
                            Decoder::new(channel)$(.stage(scene.handler($link)))*.build().unwrap()
                        },
                    )
                };
            }
            crate::for_each_length!(links, check_with);
        }
    }
}

#[test]
fn a_batch_goes_on_without_the_record_that_was_refused() {
    for replaces in [false, true] {
        let dir = common::dir();
        let (scene, path) = (Scene::default(), dir.path().join("batch.kek"));
        // In place where nothing stands in place of the payload, put together outside where something does.
        let outer = Link::Of(if replaces { Kind::Lz4 } else { Kind::Sequence });
        let options = Writer::options().max_record_len(LONGEST as u64).stage(scene.handler(outer));
        let mut writer = options.stage(scene.handler(Link::Trap { replaces })).create(&path).unwrap();
        let mut batch = writer.batch();
        let deeds = DEEDS.into_iter().filter(|deed| *deed != Deed::Nothing && (replaces || !deed.replaces()));
        let mut count = 0;
        for deed in deeds {
            batch.push(b"accepted").unwrap();
            count += 1;
            scene.set(deed);
            let refused = catch_unwind(AssertUnwindSafe(|| batch.push(&bytes(count, 300))));
            scene.set(Deed::Nothing);
            assert!(!matches!(refused, Ok(Ok(()))), "{deed:?}");
            assert_eq!((batch.len() as u64, scene.published.load(Ordering::Relaxed)), (count, 0), "{deed:?}");
        }
        batch.commit().unwrap();
        assert_eq!(scene.published.load(Ordering::Relaxed), 2 * count);
        writer.close().unwrap();
        let channel = Channel::options().stored(true).open(&path).unwrap();
        assert_eq!(channel.verify(|_| ()).unwrap().sequence, count);
        let fresh = Scene::default();
        let decoder = Decoder::new(&channel).stage(fresh.handler(outer));
        let mut decoder = decoder.stage(fresh.handler(Link::Trap { replaces })).build().unwrap();
        for record in channel.records() {
            assert_eq!(decoder.decode(&record.unwrap()).unwrap().payload, b"accepted");
        }
    }
}

#[test]
fn a_shared_writer_says_what_went_wrong_and_goes_on() {
    let dir = common::dir();
    let scene = Scene::default();
    let path = dir.path().join("shared.kek");
    let options = Writer::options().stage(scene.handler(Link::Of(Kind::Lz4)));
    let writer = options.stage(scene.handler(Link::Trap { replaces: false })).create(&path).unwrap();
    let writer = SharedWriter::new(writer);
    for deed in [Deed::FailsAfter, Deed::PanicsAfter, Deed::FailsBefore, Deed::PanicsBefore] {
        scene.set(deed);
        let before = snapshot(std::slice::from_ref(&path));
        match catch_unwind(AssertUnwindSafe(|| writer.append(b"refused"))) {
            Ok(result) => assert!(matches!(result, Err(SharedError::Append(AppendError::Stage(_))))),
            Err(_) => assert!(deed.panics()),
        }
        assert!(snapshot(std::slice::from_ref(&path)) == before);
        scene.set(Deed::Nothing);
        writer.append(b"accepted").unwrap();
    }
    assert_eq!(scene.published.load(Ordering::Relaxed), 4 * 2);
    writer.close().unwrap();
    let records: Vec<_> = Channel::open(&path).unwrap().shared_records().map(Result::unwrap).collect();
    assert!(records.len() == 4 && records.iter().all(|record| &record[..] == b"accepted"));
}

/// Takes away the room that other stages have in front, and fills it with something else.
struct Overwrites;

impl Handler for Overwrites {
    fn describe(&self) -> StageInfo {
        StageInfo { id: 1 << 18, version: 1, prefix_len: 1, replaces: true, ..StageInfo::default() }
    }

    fn instead(&mut self, _: &mut AppendContext<'_>, _: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        out.clear();
        out.extend([0xEE; 20]);
        Ok(())
    }
}

/// Has four bytes in front, and leaves them as they are.
struct Silent;

impl Handler for Silent {
    fn describe(&self) -> StageInfo {
        StageInfo { id: 1 << 19, version: 1, prefix_len: 4, ..StageInfo::default() }
    }
}

#[test]
fn a_stage_does_not_reach_the_bytes_of_others() {
    let dir = common::dir();
    let path: &Path = &dir.path().join("overwritten.kek");
    let mut writer = Writer::options().stage(Silent).stage(Overwrites).create(path).unwrap();
    writer.append(b"abc").unwrap();
    let channel = Channel::options().stored(true).open(path).unwrap();
    let record = channel.records().next().unwrap().unwrap();
    assert_eq!(record[..], [&[0; 5][..], &[0xEE; 15]].concat());
}
