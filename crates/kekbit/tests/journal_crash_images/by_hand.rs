//! Directories that somebody's hand has changed: files that are missing, extra, half made, renamed, empty, torn or damaged. What must be
//! is DESIGN's: what is durable and follows from what is before is kept; what does not is set aside under another name, and
//! only what is empty is deleted; where a channel is missing and a later one is there, readers lag; damage that no crash can have made
//! is an error. Nothing panics, nothing goes on for ever.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use kekbit::{
    Channel, CursorError, Durability, Journal, JournalError, JournalOptions, JournalReadError, ReadError,
    Roll, Start, Writer,
};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::common::campaign::Campaign;
use crate::common::{Numbers, bytes, data_offset, dir, names_in, patience, repair_header};
use crate::disk::Disk;
use crate::image::{self, Content};
use crate::scene::{PLAN, Script, die};

/// Records of each channel: two of a page do not fit, so that they are always as many.
const EACH: u64 = 4;
const CHANNELS: u64 = 6;
/// Sequence behind the last record.
const END: u64 = CHANNELS * EACH;

fn options() -> JournalOptions {
    Journal::options()
        .channels(Writer::options().max_record_len(1024).durability(Durability::AtEnd))
        .roll(Roll::Bytes(4096))
}

fn payload(sequence: u64) -> Vec<u8> {
    bytes(sequence, 900)
}

fn name_of(first: u64) -> String {
    format!("{first:020}.kek")
}

/// A journal of six channels of four records each, as after another boot.
struct Made {
    dir: TempDir,
    path: PathBuf,
}

impl Made {
    /// Closed, so that all of it is durable.
    fn closed() -> Made {
        Made::new(|journal| journal.close().unwrap())
    }

    /// Left by a writer that died: the last channel has no end.
    fn left() -> Made {
        Made::new(die)
    }

    fn new(leave: impl FnOnce(Journal)) -> Made {
        let dir = dir();
        let written = dir.path().join("written");
        let mut journal = options().open(&written).unwrap();
        for sequence in 0..END {
            journal.append(&payload(sequence)).unwrap();
        }
        leave(journal);
        Journal::set_cursor(&written, "first", 5).unwrap();
        Journal::set_cursor(&written, "second", 5).unwrap();
        let made = Made { path: dir.path().join("journal"), dir };
        copy(&written, &made.path);
        assert_eq!(channels(&made.path), (0..CHANNELS).map(|n| n * EACH).collect::<Vec<_>>());
        made
    }

    /// The same once more, to be changed.
    fn again(&self) -> Made {
        let dir = dir();
        let path = dir.path().join("journal");
        copy(&self.path, &path);
        Made { dir, path }
    }

    fn channel(&self, first: u64) -> PathBuf {
        self.path.join(name_of(first))
    }

    fn change(&self, first: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut file = fs::read(self.channel(first)).unwrap();
        change(&mut file);
        fs::write(self.channel(first), file).unwrap();
    }

    /// What a reader gets from the beginning on: runs of records, and the lags between them.
    fn runs(&self) -> Vec<(u64, u64)> {
        let (runs, error) = read(&self.path);
        assert!(error.is_none(), "{error:?}");
        runs
    }

    /// The next writer goes on with the record `next`, sets these aside, and others stay as they are.
    fn goes_on(&self, next: u64, aside: &[u64]) {
        let before = inodes(&self.path);
        let mut journal = options().open(&self.path).unwrap();
        assert_eq!(journal.next_sequence(), next);
        let mut expected: Vec<_> =
            aside.iter().map(|first| self.path.join(format!("{}.stray-0", name_of(*first)))).collect();
        let mut set_aside = journal.set_aside().to_owned();
        set_aside.sort();
        expected.sort();
        assert_eq!(set_aside, expected);
        for first in aside {
            let now = inodes(&self.path);
            assert_eq!(now[&format!("{}.stray-0", name_of(*first))], before[&name_of(*first)]);
        }
        journal.append(b"more").unwrap();
        journal.close().unwrap();
        let mut reader = Journal::reader(&self.path).unwrap();
        reader.seek(Start::Last(1)).unwrap();
        let record = reader.try_next().unwrap().unwrap();
        assert_eq!((record.sequence(), &record[..]), (next, &b"more"[..]));
        // And once more there is nothing to be done.
        let journal = options().open(&self.path).unwrap();
        assert_eq!((journal.next_sequence(), journal.set_aside()), (next + 1, &[][..]));
        let names = names_in(&self.path);
        assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
    }
}

/// Copies a journal, so that its channels are no longer those that were written in this boot.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in names_in(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn channels(path: &Path) -> Vec<u64> {
    let names = names_in(path);
    names.iter().filter_map(|name| name.strip_suffix(".kek")?.parse().ok()).collect()
}

/// The inode of each name.
fn inodes(path: &Path) -> BTreeMap<String, u64> {
    let inode = |name: &String| fs::symlink_metadata(path.join(name)).unwrap().ino();
    names_in(path).into_iter().map(|name| (name.clone(), inode(&name))).collect()
}

/// Reads from the beginning to where there is nothing, or an error; runs of records, between which the reader has lagged.
fn read(path: &Path) -> (Vec<(u64, u64)>, Option<JournalReadError>) {
    let mut reader = Journal::reader(path).unwrap();
    let (mut runs, mut lagged) = (Vec::new(), true);
    // Each record is seen once, and each channel lagged behind once, however the names are.
    for _ in 0..1000 {
        match reader.try_next() {
            Ok(Some(record)) => {
                let sequence = record.sequence();
                assert!(
                    record[..] == payload(sequence)[..] || record[..] == b"more"[..],
                    "record {sequence}"
                );
                if std::mem::take(&mut lagged) {
                    runs.push((sequence, sequence));
                }
                let (_, end) = runs.last_mut().unwrap();
                assert_eq!(sequence, *end);
                *end += 1;
            }
            Ok(None) => return (runs, None),
            Err(JournalReadError::Lagged { wanted, oldest }) => {
                assert!(oldest > wanted && !std::mem::replace(&mut lagged, true) || runs.is_empty());
                reader.seek(Start::Sequence(oldest)).unwrap();
            }
            Err(error) => return (runs, Some(error)),
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn a_missing_channel_with_a_later_one_means_lagged_and_nothing_is_given_up_for_it() {
    let closed = Made::closed();
    for missing in (0..CHANNELS).map(|n| n * EACH) {
        let made = closed.again();
        fs::remove_file(made.channel(missing)).unwrap();
        let (runs, next) = match missing {
            0 => (vec![(EACH, END)], END),
            // Nobody can tell that there was one more.
            last if last == END - EACH => (vec![(0, last)], last),
            _ => (vec![(0, missing), (missing + EACH, END)], END),
        };
        assert_eq!(made.runs(), runs);
        let mut reader = Journal::reader(&made.path).unwrap();
        let sought =
            reader.seek(Start::Sequence(0)).and_then(|()| reader.try_next().map(|found| found.is_some()));
        match sought {
            Ok(found) => assert!(found && missing > 0),
            Err(JournalReadError::Lagged { wanted, oldest }) => {
                assert_eq!((missing, wanted, oldest), (0, 0, EACH))
            }
            Err(error) => panic!("{error}"),
        }
        made.goes_on(next, &[]);
    }
}

#[test]
fn without_any_channel_the_journal_goes_on_where_its_names_say_or_begins() {
    for (name, next) in [(None, 0), (Some(format!("{}.stray-0", name_of(77))), 77)] {
        let made = Made::closed();
        channels(&made.path).into_iter().for_each(|first| fs::remove_file(made.channel(first)).unwrap());
        if let Some(name) = name {
            fs::write(made.path.join(name), b"").unwrap();
        }
        assert_eq!(made.runs(), []);
        made.goes_on(next, &[]);
        let places: Vec<_> =
            Journal::cursors(&made.path).unwrap().iter().map(|cursor| cursor.sequence).collect();
        assert_eq!(places, [next.min(5); 2]);
    }
}

#[test]
fn names_that_are_none_of_the_journal_mean_nothing_and_stay() {
    let made = Made::closed();
    let strange =
        ["README", "24.kek", "x.kek", "00000000000000000024.kek.bak", "0000000000000000002x.kek", ".hidden"];
    for name in strange {
        fs::write(made.path.join(name), b"mine").unwrap();
    }
    fs::create_dir(made.path.join("00000000000000000024")).unwrap();
    // But what was on its way to a name of the journal's is removed.
    for name in [name_of(24), name_of(1 << 63), "times".to_owned()] {
        fs::write(made.path.join(format!(".{name}.0123456789abcdef.tmp")), b"never named").unwrap();
    }
    assert_eq!(made.runs(), [(0, END)]);
    made.goes_on(END, &[]);
    assert!(strange.iter().all(|name| fs::read(made.path.join(name)).unwrap() == b"mine"));
}

/// Puts something at a path.
type Place = Box<dyn Fn(&Path)>;

/// What may stand under the name of a channel that is none.
fn impostors(made: &Made) -> Vec<(&'static str, Place)> {
    let (first, other) = (made.channel(0), made.dir.path().join("other.kek"));
    let options = Writer::options().capacity(4096).max_record_len(1024).first_sequence(END);
    let mut writer = options.create(&other).unwrap();
    writer.append(&payload(END)).unwrap();
    writer.close().unwrap();
    vec![
        ("a copy of another channel", Box::new(move |path| assert!(fs::copy(&first, path).unwrap() > 0))),
        ("a directory", Box::new(|path| fs::create_dir(path).unwrap())),
        ("a link to a channel that would follow", Box::new(move |path| symlink(&other, path).unwrap())),
        ("a link that leads nowhere", Box::new(|path| symlink("nowhere", path).unwrap())),
        ("a link to itself", Box::new(|path| symlink(path, path).unwrap())),
        ("a pipe", Box::new(|path| mkfifo(path, Mode::S_IRWXU).unwrap())),
        ("an empty file", Box::new(|path| fs::write(path, b"").unwrap())),
        ("a text", Box::new(|path| fs::write(path, b"dear diary".repeat(2000)).unwrap())),
        ("zeros", Box::new(|path| fs::write(path, vec![0; 20000]).unwrap())),
    ]
}

#[test]
fn what_is_no_channel_of_that_name_is_set_aside_behind_the_end_and_ignored_before_it() {
    for (closed, made) in [(true, Made::closed()), (false, Made::left())] {
        for (what, place) in impostors(&made) {
            println!("{what}");
            // In the way of the next channel, and farther on.
            for behind in [END, END + 7] {
                let made = made.again();
                place(&made.channel(behind));
                assert_eq!(made.runs(), [(0, END)]);
                made.goes_on(END, &[behind]);
            }
            // In the place of an old one, which a later durable one vouches for; or of the last.
            let made = made.again();
            fs::remove_file(made.channel(8)).unwrap();
            place(&made.channel(8));
            assert_eq!(made.runs(), [(0, 8)], "what is there may still become the channel");
            made.goes_on(END, &[]);
            assert!(made.channel(8).symlink_metadata().is_ok());
            let last = END - EACH;
            fs::remove_file(made.channel(END)).unwrap();
            fs::remove_file(made.channel(last)).unwrap();
            place(&made.channel(last));
            made.goes_on(last, &[last]);
            assert!(closed || !made.channel(END).exists());
        }
    }
}

#[test]
fn a_half_created_channel_is_set_aside_and_an_empty_one_is_gone() {
    let left = Made::left();
    let whole = left.dir.path().join("whole.kek");
    Writer::options().capacity(4096).first_sequence(END).create(&whole).unwrap().abandon();
    let whole = fs::read(whole).unwrap();
    let data = data_offset(&whole) as usize;
    let every = [
        1,
        7,
        8,
        15,
        16,
        63,
        64,
        72,
        511,
        512,
        513,
        2048,
        4088,
        4095,
        4096,
        4097,
        8192,
        data - 1,
        data,
        data + 7,
    ];
    for len in [0].into_iter().chain(every) {
        let made = left.again();
        fs::write(made.channel(END), &whole[..len]).unwrap();
        assert_eq!(made.runs(), [(0, END)]);
        made.goes_on(END, &[END]);
    }
    // With its capacity not yet there, and with it; left, and closed.
    let closed = left.dir.path().join("closed.kek");
    Writer::options().capacity(4096).first_sequence(END).create(&closed).unwrap().close().unwrap();
    for empty in [&whole[..data + 8], &whole[..data + 4096], &whole, &fs::read(closed).unwrap()] {
        let made = left.again();
        fs::write(made.channel(END), empty).unwrap();
        assert_eq!(made.runs(), [(0, END)]);
        made.goes_on(END, &[]);
    }
}

#[test]
fn a_header_that_was_just_being_changed_is_that_of_a_channel_that_has_not_begun() {
    let left = Made::left();
    let begun = fs::read(left.channel(END - EACH)).unwrap();
    let mut before = begun[..4096].to_vec();
    before[56..64].fill(0);
    before[64..72].copy_from_slice(&(1_u64 << 63).to_le_bytes());
    repair_header(&mut before);
    // Records are behind it. Sectors, and words of the first.
    let all = [(0..4096, 0..0), (0..512, 0..0), (3584..4096, 0..0), (64..72, 0..0), (64..72, 3584..4096)];
    for (one, other) in all {
        let made = left.again();
        made.change(END - EACH, |file| {
            for range in [one, other] {
                file[range.clone()].copy_from_slice(&before[range]);
            }
        });
        assert_eq!(made.runs(), [(0, END - EACH)]);
        made.goes_on(END - EACH, &[END - EACH]);
    }
}

#[test]
fn a_damaged_header_with_records_behind_it_is_an_error_and_changes_nothing() {
    let left = Made::left();
    for byte in [20, 56, 64, 71, 80, 110, 700, 4095] {
        let made = left.again();
        made.change(END - EACH, |file| file[byte] ^= 1);
        // Behind it is what would be set aside.
        fs::write(made.channel(END + 50), b"").unwrap();
        let before = inodes(&made.path);
        assert!(matches!(options().open(&made.path), Err(JournalError::Open(_))), "byte {byte}");
        assert_eq!(inodes(&made.path), before);
        assert_eq!(made.runs(), [(0, END - EACH)]);
    }
}

#[test]
fn a_renamed_channel_is_none_of_the_journal() {
    // The last one, to a later name: what it held is set aside with it.
    let made = Made::closed();
    fs::rename(made.channel(20), made.channel(23)).unwrap();
    assert_eq!(made.runs(), [(0, 20)]);
    made.goes_on(20, &[23]);
    // One in the middle: it is missing, and what has its file is ignored.
    let made = Made::closed();
    fs::rename(made.channel(8), made.channel(9)).unwrap();
    assert_eq!(made.runs(), [(0, 8), (12, END)]);
    made.goes_on(END, &[]);
    assert!(made.channel(9).exists());
    // Two with each other's names.
    let made = Made::closed();
    let place = made.path.join("place");
    for (from, to) in
        [(made.channel(8), place.clone()), (made.channel(12), made.channel(8)), (place, made.channel(12))]
    {
        fs::rename(from, to).unwrap();
    }
    assert_eq!(made.runs(), [(0, 8)]);
    made.goes_on(END, &[]);
}

/// Sets everything of the data from `at` on to what a crash may have left.
fn tear(file: &mut [u8], at: usize, garbage: bool) {
    let begin = data_offset(file) as usize + at;
    let len = file.len() - begin;
    if garbage { file[begin..].copy_from_slice(&bytes(!(at as u64), len)) } else { file[begin..].fill(0) }
}

#[test]
fn an_old_channel_that_is_torn_below_its_successor_is_an_error_or_means_lagged() {
    let closed = Made::closed();
    let left = Made::left();
    let frame = 912;
    for at in (0..EACH as usize * frame).step_by(if crate::common::campaign::is_long() { 8 } else { 152 }) {
        let good = 8 + (at / frame) as u64;
        for garbage in [true, false] {
            // It says that it was durable to its end.
            let made = closed.again();
            made.change(8, |file| tear(file, at, garbage));
            let (runs, error) = read(&made.path);
            assert_eq!(runs, [(0, good)]);
            let Some(JournalReadError::Read { path, source: ReadError::Corrupt { position, .. } }) = error
            else {
                panic!("{error:?}")
            };
            assert_eq!((path, position.offset()), (made.channel(8), ((good - 8) as usize * frame) as u64));
            made.goes_on(END, &[]);
            // It does not even say that; a later one does.
            let made = closed.again();
            made.change(8, |file| {
                let data = data_offset(file) as usize;
                file[4096..data].fill(0);
                tear(file, at, garbage);
            });
            // What is torn is seen at once. Where nothing is there may be something yet, so that those learn of it who wait.
            let mut reader = Journal::reader(&made.path).unwrap();
            reader.seek(Start::Sequence(good)).unwrap();
            let lagged = reader.next(patience());
            let is_right =
                matches!(lagged, Err(JournalReadError::Lagged { wanted, oldest: 12 }) if wanted == good);
            assert!(is_right, "torn at {at}, garbage: {garbage}: {lagged:?}");
            let runs = made.runs();
            let torn = runs == [(0, good), (12, END)];
            assert!(torn || !garbage && runs == [(0, good)], "torn at {at}, garbage: {garbage}: {runs:?}");
            made.goes_on(END, &[]);
            // No later one is durable to its end: so none of them was durable.
            let made = left.again();
            for first in [8, 12, 16, 20] {
                made.change(first, |file| {
                    let data = data_offset(file) as usize;
                    file[4096..data].fill(0);
                    if first == 8 {
                        tear(file, at, garbage);
                    }
                });
            }
            // What has no good record, but something that may be worth it, is not deleted.
            let is_left = good == 8 && (garbage || at > 0);
            made.goes_on(good, if is_left { &[8, 12, 16, 20] } else { &[12, 16, 20] });
            assert_eq!(made.runs(), [(0, good + 1)]);
        }
    }
}

#[test]
fn times_that_are_damaged_cost_speed_only() {
    let closed = Made::closed();
    let times = fs::read(closed.path.join("times")).unwrap();
    assert_eq!(times.len(), 32 * CHANNELS as usize);
    let began: Vec<_> = channels(&closed.path)
        .iter()
        .map(|first| Channel::open(closed.channel(*first)).unwrap().created_nanos())
        .collect();
    let mut all: Vec<Vec<u8>> = (0..times.len())
        .map(|byte| {
            let mut flipped = times.clone();
            flipped[byte] ^= 1 << (byte % 8);
            flipped
        })
        .collect();
    all.extend((0..times.len()).map(|len| times[..len].to_vec()));
    all.extend([vec![0; 100], bytes(1, 32 * 40), [&times[96..], &times[..96]].concat(), times.repeat(3)]);
    let check = |path: &Path| {
        for (n, nanos) in began.iter().enumerate() {
            let mut reader = Journal::reader(path).unwrap();
            reader.seek(Start::Time(UNIX_EPOCH + Duration::from_nanos(*nanos))).unwrap();
            // What began at that time may hold it, or the one before does.
            let sequence = reader.try_next().unwrap().unwrap().sequence();
            let channel = sequence / EACH;
            assert!(channel == n as u64 || channel + 1 == n as u64, "{channel} for {n}");
        }
    };
    check(&closed.path);
    for times in all {
        let made = closed.again();
        fs::write(made.path.join("times"), times).unwrap();
        check(&made.path);
        made.goes_on(END, &[]);
    }
    for (_, place) in impostors(&closed) {
        let made = closed.again();
        fs::remove_file(made.path.join("times")).unwrap();
        place(&made.path.join("times"));
        check(&made.path);
        made.goes_on(END, &[]);
    }
}

#[test]
fn a_damaged_cursor_is_an_error_of_its_own_and_keeps_what_it_may_need() {
    let closed = Made::closed();
    let place = |made: &Made, name: &str| made.path.join("cursors").join(format!("{name}.cursor"));
    let file = fs::read(place(&closed, "first")).unwrap();
    let mut all: Vec<Vec<u8>> =
        [0, 1, 8, 511, 512, 544, 1024, 1056, 4095].map(|len| file[..len].to_vec()).into();
    for damaged in [0..8, 8..16, 512..1056] {
        let mut file = file.clone();
        file[damaged].iter_mut().for_each(|byte| *byte ^= 0x55);
        all.push(file);
    }
    let mut places: Vec<Place> = all
        .into_iter()
        .map(|file| Box::new(move |path: &Path| fs::write(path, &file).unwrap()) as _)
        .collect();
    places.extend(impostors(&closed).into_iter().map(|(_, place)| place));
    for damage in places {
        let made = closed.again();
        // Past the end, as after a crash that has taken records away.
        Journal::set_cursor(&made.path, "second", 1000).unwrap();
        fs::remove_file(place(&made, "first")).unwrap();
        damage(&place(&made, "first"));
        let taken = Journal::reader(&made.path).unwrap().cursor("first");
        assert!(matches!(taken, Err(CursorError::Damaged { .. } | CursorError::Io { .. })), "{taken:?}");
        assert!(Journal::cursors(&made.path).is_err());
        let mut journal =
            options().retain_count(1).retain_for_cursors(true).background(false).open(&made.path).unwrap();
        // The other one is not past the end any more, and nothing is given up.
        journal.append(b"more").unwrap();
        journal.close().unwrap();
        assert_eq!(made.runs(), [(0, END + 1)]);
        let mut second = Journal::reader(&made.path).unwrap().cursor("second").unwrap();
        assert_eq!(&second.try_next().unwrap().unwrap()[..], b"more");
    }
    let made = closed.again();
    fs::remove_dir_all(made.path.join("cursors")).unwrap();
    fs::write(made.path.join("cursors"), b"no directory").unwrap();
    assert!(matches!(Journal::cursors(&made.path), Err(CursorError::Io { .. })));
    assert!(Journal::reader(&made.path).unwrap().cursor("first").is_err());
    made.goes_on(END, &[]);
}

#[test]
fn a_cursor_past_the_end_is_set_back_by_its_owner_too_if_that_comes_first() {
    let made = Made::closed();
    Journal::set_cursor(&made.path, "first", 1000).unwrap();
    let mut cursor = Journal::reader(&made.path).unwrap().cursor("first").unwrap();
    assert_eq!(cursor.committed(), END);
    assert!(cursor.try_next().unwrap().is_none());
    made.goes_on(END, &[]);
    assert_eq!(&cursor.try_next().unwrap().unwrap()[..], b"more");
}

#[test]
fn a_lock_that_is_no_file_is_an_error_and_a_file_is_a_lock_whatever_it_holds() {
    let closed = Made::closed();
    let lock = |made: &Made| made.path.join("writer.lock");
    let made = closed.again();
    fs::remove_file(lock(&made)).unwrap();
    made.goes_on(END, &[]);
    for (what, place) in impostors(&closed) {
        let made = closed.again();
        fs::remove_file(lock(&made)).unwrap();
        place(&lock(&made));
        let is_file = fs::symlink_metadata(lock(&made)).unwrap().is_file();
        match options().open(&made.path) {
            Ok(journal) => {
                assert!(is_file, "{what}");
                assert!(matches!(
                    options().patience(Duration::ZERO).open(&made.path),
                    Err(JournalError::InUse { .. })
                ));
                journal.close().unwrap();
            }
            Err(JournalError::Io { path, .. }) => assert!(!is_file && path == lock(&made), "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
        assert_eq!(made.runs(), [(0, END)]);
    }
}

/// Lets something happen in the directory `root`, and the machine crash at each moment of that; checks what may be left of the journal in
/// it, of which so many records were acknowledged.
fn check_every_moment(root: &Path, act: impl FnOnce(&Path, &Disk), check: impl Fn(&Path, u64, &str)) {
    let numbers = &mut Numbers(1);
    let disk = Disk::watch(root, u64::MAX, numbers.clone());
    act(&root.join("journal"), &disk);
    let mut moments = disk.moments();
    moments.push(disk.crash());
    drop(disk);
    for (which, moment) in moments.iter().enumerate() {
        for mut recipe in image::recipes(moment, 8, numbers) {
            if let Content::Mixed { rich, .. } = &mut recipe.content {
                // No slot tells of what was durable from the beginning.
                *rich = false;
            }
            let root = dir();
            image::make(root.path(), moment, recipe, PLAN, &Script::default());
            let context = format!("moment {which}, {recipe:?}");
            check(&root.path().join("journal"), moment.told.acknowledged, &context);
        }
    }
}

fn go_on(path: &Path, _: &Disk) {
    options().open(path).unwrap().close().unwrap();
}

#[test]
fn a_sequence_is_never_given_twice_although_everything_before_is_given_up_whenever_the_machine_crashes() {
    let write = |path: &Path, disk: &Disk| {
        let mut journal = options().retain_count(1).background(false).open(path).unwrap();
        for sequence in 0..3 {
            journal.append(&payload(sequence)).unwrap();
        }
        journal.roll().unwrap();
        // There is nothing in the channel that is being written, which would be synced with its name.
        journal.sync_handle().sync().unwrap();
        disk.tell(|told| told.acknowledged = 3);
        // This one is not durable, but the ones before it may go now.
        journal.append(&payload(3)).unwrap();
        journal.retain();
        assert_eq!(channels(path), [3]);
        die(journal);
    };
    check_every_moment(dir().path(), write, |path, acknowledged, context| {
        if path.is_dir() || acknowledged > 0 {
            let next = options().open(path).unwrap().next_sequence();
            assert!(next >= acknowledged, "goes on at {next}, {acknowledged} were durable: {context}");
        }
    });
}

#[test]
fn a_journal_of_which_only_a_name_is_left_goes_on_there_whenever_the_machine_crashes() {
    let made = Made::closed().again();
    channels(&made.path).into_iter().for_each(|first| fs::remove_file(made.channel(first)).unwrap());
    Act::Empty(77).act(&made);
    check_every_moment(made.dir.path(), go_on, |path, _, context| {
        assert_eq!(options().open(path).unwrap().next_sequence(), 77, "{context}");
    });
}

#[test]
fn nobody_lags_because_what_does_not_follow_is_set_aside_whenever_the_machine_crashes() {
    // What is torn is kept in a file, whose name is synced; where there is nothing there is no such file.
    for (garbage, stray) in [(true, false), (false, false), (false, true)] {
        let made = Made::left().again();
        for first in [8, 12, 16, 20] {
            made.change(first, |file| {
                let data = data_offset(file) as usize;
                file[4096..data].fill(0);
                if first == 8 {
                    tear(file, 912, garbage);
                }
            });
        }
        if stray {
            // As long as something has this name it may become the channel that follows the end before.
            fs::write(made.channel(8), b"").unwrap();
        }
        let end = if stray { 8 } else { 9 };
        check_every_moment(made.dir.path(), go_on, |path, _, context| {
            let (runs, error) = read(path);
            assert!(runs == [(0, end)] && error.is_none(), "{runs:?}, {error:?}: {context}");
            assert_eq!(options().open(path).unwrap().next_sequence(), end, "{context}");
        });
    }
}

/// One thing that a hand does.
#[derive(Clone, Debug)]
enum Act {
    Remove(u64),
    Copy(u64, u64),
    Rename(u64, u64),
    Cut(u64, usize),
    Damage(u64, usize, usize),
    Zeros(u64, usize),
    Directory(u64),
    Link(u64, u64),
    Pipe(u64),
    Empty(u64),
}

impl Act {
    fn any(numbers: &mut Numbers) -> Act {
        // Mostly the names that are there, else those beside them.
        let file = |numbers: &mut Numbers| EACH * numbers.below(CHANNELS);
        let name = |numbers: &mut Numbers| match numbers.below(8) {
            0..=3 => EACH * numbers.below(CHANNELS),
            4 | 5 => EACH * numbers.below(CHANNELS + 2) + numbers.below(2),
            _ => END,
        };
        match numbers.below(10) {
            0 => Act::Remove(name(numbers)),
            1 => Act::Copy(file(numbers), name(numbers)),
            2 => Act::Rename(file(numbers), name(numbers)),
            3 => Act::Cut(file(numbers), numbers.below(17_000) as usize),
            4 => Act::Damage(file(numbers), numbers.below(17_000) as usize, 1 + numbers.below(600) as usize),
            5 => Act::Zeros(name(numbers), numbers.below(20_000) as usize),
            6 => Act::Directory(name(numbers)),
            7 => Act::Link(file(numbers), name(numbers)),
            8 => Act::Pipe(name(numbers)),
            _ => Act::Empty(name(numbers)),
        }
    }

    fn act(&self, made: &Made) {
        let remove = |first: u64| {
            let path = made.channel(first);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        };
        let change = |first: u64, change: &dyn Fn(&mut Vec<u8>)| {
            if made.channel(first).symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                made.change(first, change);
            }
        };
        let is_file =
            |first: u64| made.channel(first).symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        match *self {
            Act::Remove(first) => remove(first),
            Act::Copy(from, to) if from != to && is_file(from) => {
                remove(to);
                fs::copy(made.channel(from), made.channel(to)).unwrap();
            }
            Act::Rename(from, to) if from != to && is_file(from) => {
                remove(to);
                fs::rename(made.channel(from), made.channel(to)).unwrap();
            }
            Act::Copy(..) | Act::Rename(..) => {}
            Act::Cut(first, len) => change(first, &|file| file.truncate(len)),
            Act::Damage(first, at, len) => change(first, &|file| {
                let end = (at + len).min(file.len());
                file[at.min(end)..end].iter_mut().for_each(|byte| *byte ^= 0xA5);
            }),
            Act::Zeros(first, len) => {
                remove(first);
                fs::write(made.channel(first), vec![0; len]).unwrap();
            }
            Act::Directory(first) => {
                remove(first);
                fs::create_dir(made.channel(first)).unwrap();
            }
            Act::Link(from, to) => {
                remove(to);
                symlink(made.channel(from), made.channel(to)).unwrap();
            }
            Act::Pipe(first) => {
                remove(first);
                mkfifo(&made.channel(first), Mode::S_IRWXU).unwrap();
            }
            Act::Empty(first) => {
                remove(first);
                let options = Writer::options().capacity(4096).first_sequence(first);
                options.create(made.channel(first)).unwrap().abandon();
            }
        }
    }
}

/// Inodes of what is no channel without records: of that, nothing is ever deleted.
fn worth_something(path: &Path) -> Vec<u64> {
    let is_empty = |name: &str| {
        let path = path.join(name);
        // An end that is not to be found is where records may be.
        Channel::open(&path).is_ok_and(|channel| {
            channel.end_point().is_ok_and(|end| end.sequence == channel.first_sequence())
        })
    };
    let names = inodes(path).into_iter().filter(|(name, _)| name != "times" && !is_empty(name));
    names.map(|(_, inode)| inode).collect()
}

#[test]
fn whatever_a_hand_does_to_the_names_nothing_is_lost_or_invented() {
    let campaign = Campaign::new("directories changed by hand");
    let (closed, left) = (Made::closed(), Made::left());
    let (mut refused, mut aside, mut lagged) = (0, 0, 0);
    let count = campaign.count(150, 50_000);
    for case in 0..count {
        let numbers = &mut campaign.numbers(case);
        let made = if numbers.below(2) == 0 { left.again() } else { closed.again() };
        let acts: Vec<_> = (0..1 + numbers.below(7)).map(|_| Act::any(numbers)).collect();
        acts.iter().for_each(|act| act.act(&made));
        // Records that are read are right, and reading comes to an end.
        let (before, _) = read(&made.path);
        lagged += u64::from(before.len() > 1);
        let worth = worth_something(&made.path);
        let opened = options().open(&made.path);
        let now: Vec<_> = inodes(&made.path).into_values().collect();
        assert!(worth.iter().all(|inode| now.contains(inode)), "something was deleted: {acts:?}");
        let mut journal = match opened {
            Ok(journal) => journal,
            // Damage that no crash can have made.
            Err(JournalError::Open(_) | JournalError::Seal(_) | JournalError::Damaged { .. }) => {
                let damaged = acts.iter().any(|act| matches!(act, Act::Damage(..) | Act::Cut(..)));
                assert!(damaged, "nothing is damaged: {acts:?}");
                refused += 1;
                continue;
            }
            Err(error) => panic!("{error}: {acts:?}"),
        };
        let next = journal.next_sequence();
        aside += journal.set_aside().len();
        assert!(journal.set_aside().iter().all(|path| path.symlink_metadata().is_ok()), "{acts:?}");
        assert_eq!(journal.append(b"more").unwrap().sequence, next, "{acts:?}");
        journal.close().unwrap();
        // What could be read before the first lag can be read still, unless it is behind what is gone on from.
        let (after, _) = read(&made.path);
        if let ([(begin, end), ..], [(first, last), ..]) = (&before[..], &after[..]) {
            assert!(first > begin || *last >= (*end).min(next), "{before:?}, then {after:?}: {acts:?}");
        }
        let mut reader = Journal::reader(&made.path).unwrap();
        reader.seek(Start::Sequence(next)).unwrap();
        assert_eq!(&reader.try_next().unwrap().unwrap()[..], b"more", "{acts:?}");
        let journal = options().open(&made.path).unwrap();
        assert_eq!((journal.next_sequence(), journal.set_aside()), (next + 1, &[][..]), "{acts:?}");
    }
    campaign.done(
        count,
        format!("directories; {refused} refused, {aside} files set aside, {lagged} readers lagged"),
    );
}
