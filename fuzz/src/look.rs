//! Everything that can be done with a file that may be a channel, and what must hold of it whatever the file is: it
//! ends, nothing panics, and what is read lies in the file.

use std::time::{Duration, SystemTime};

use kekbit::{Channel, Position, ReadError, Record, Start, State, Verify, Wait};

use crate::input::Input;
use crate::place::Place;

/// How to look at a file. Each choice is a part of the input, so that one execution does little.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether a writer seems to live.
    pub live: bool,
    /// Whether to seal the file in the end.
    pub seal: bool,
    verify: Verify,
    stored: bool,
    random: bool,
    what: u8,
    begin: u8,
}

impl Look {
    /// The choices in the next two bytes of `input`.
    pub fn new(input: &mut Input<'_>) -> Look {
        let (flags, what) = (input.byte(), input.byte());
        let verify = [Verify::UnlessLive, Verify::Always, Verify::Never, Verify::UnlessLive];
        let live = flags & 4 != 0;
        Look {
            live,
            // Sealing takes as long as ten looks, and whatever has new things in it is tried more often.
            seal: !live
                && what >> 5 == 0b111
                && input.rest().iter().fold(0, |sum: u8, byte| sum ^ byte) % 4 == 0,
            verify: verify[usize::from(flags & 3)],
            stored: flags & 8 != 0,
            random: flags & 16 != 0,
            what,
            begin: flags >> 5,
        }
    }

    /// Whether this is about what can be read, by whoever trusts nobody.
    pub fn reads_all(&self) -> bool {
        !self.live && self.what & 15 == 0
    }

    /// Where to begin to read: a number of `input` that is likely to be near `marks`.
    fn start(&self, input: &mut Input<'_>, marks: &[u64]) -> Start {
        match self.begin {
            0 => Start::Beginning,
            1 => Start::End,
            2 => Start::Last(input.number(marks)),
            3 => Start::Sequence(input.number(marks)),
            4 => Start::Position(Position::new(input.number(marks))),
            5 => Start::Time(SystemTime::UNIX_EPOCH + Duration::from_nanos(input.number(marks))),
            6 => Start::Last(u64::from(input.byte())),
            _ => Start::Position(Position::new(u64::from(input.byte()) * 8)),
        }
    }

    /// Looks at the file in `place`, which has `len` bytes. What is sought is taken from `input`.
    pub fn at(&self, place: &mut Place, len: u64, input: &mut Input<'_>, marks: &[u64]) {
        self.read(place, len, self.start(input, marks));
        if self.seal {
            seal(place, len, self.what & 1 != 0);
        }
    }

    fn read(&self, place: &Place, len: u64, start: Start) {
        match self.what & 15 {
            8 | 9 => return copy(place, len, start),
            10 => return survey(place, len),
            _ => {}
        }
        let options = Channel::options().verify(self.verify).stored(self.stored).random_access(self.random);
        let channel = match options.open(place.path()) {
            Ok(channel) => channel,
            Err(error) => {
                if self.what & 1 != 0 {
                    assert!(!error.to_string().is_empty());
                }
                return;
            }
        };
        let bounds = Bounds::of(&channel, len);
        match self.what & 7 {
            0 => bounds.check_all(channel.records()),
            1 => {
                if let Ok(records) = channel.records_from(start) {
                    bounds.check_all(records);
                }
            }
            2 => bounds.check_reader(&channel, start),
            3 => {
                let end = channel.end_point();
                bounds.check_end(&end);
            }
            4 => {
                let mut last = 0;
                let end = channel.verify(|position| {
                    assert!(last <= position.offset(), "progress goes forward");
                    last = position.offset();
                });
                bounds.check_end(&end);
            }
            5 => bounds.agree(&channel),
            6 => bounds.check_shared(&channel),
            _ => describe(&channel),
        }
    }
}

/// What is read must lie within these.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    data_len: u64,
    max_record_len: u64,
}

impl Bounds {
    fn of(channel: &Channel, len: u64) -> Bounds {
        // The data region begins behind header, control and index, wherever that is.
        let data_len = len.saturating_sub(8192).min(channel.capacity());
        Bounds { data_len, max_record_len: channel.max_record_len() }
    }

    /// No record takes less than a word.
    fn most_records(&self) -> u64 {
        self.data_len / 8
    }

    fn check(&self, record: &Record<'_>) -> u64 {
        let (position, stored) = (record.position().offset(), record.stored());
        assert!(position.is_multiple_of(8) && stored.len() as u64 <= self.max_record_len);
        assert!(
            position + 16 + stored.len() as u64 <= self.data_len,
            "a record and the word behind it lie in the file"
        );
        // What is compressed becomes longer, bounded by what it says.
        assert!(record.payload().len() < 1 << 28);
        let _ = (record.timestamp_nanos(), record.sequence_stamp());
        // All of it can be touched.
        stored.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
    }

    fn check_all<'c>(&self, mut records: impl Iterator<Item = Result<Record<'c>, ReadError>>) {
        let (mut count, mut last) = (0, None);
        while let Some(record) = records.next() {
            let Ok(record) = record else {
                assert!(records.next().is_none(), "there is nothing behind damage");
                return;
            };
            self.check(&record);
            let here = (record.position(), record.sequence());
            if let Some((position, sequence)) = last {
                assert!(position <= here.0 && sequence + 1 == here.1, "in order");
            }
            last = Some(here);
            count += 1;
            assert!(count <= self.most_records());
        }
        assert!(records.next().is_none(), "the end stays");
    }

    fn check_reader(&self, channel: &Channel, start: Start) {
        let Ok(mut reader) = channel.reader(start) else { return };
        let mut count = 0;
        while let Ok(Some(record)) = reader.try_next() {
            self.check(&record);
            count += 1;
            assert!(count <= self.most_records());
        }
        let _ = reader.check_end();
        assert!(!matches!(reader.next(Wait::spin().retries(1)), Ok(Some(_))), "nobody writes");
    }

    fn check_shared(&self, channel: &Channel) {
        let shared: Vec<_> =
            channel.records().map_while(Result::ok).map(|record| record.to_shared()).collect();
        for shared in &shared {
            self.check(&shared.record());
        }
        let forwards: Vec<_> = channel.shared_records().map_while(Result::ok).collect();
        for shared in &forwards {
            self.check(&shared.record());
        }
        if !is_encoded(channel) {
            assert_eq!(shared.len(), forwards.len(), "both find the same");
        }
    }

    fn check_end(&self, end: &Result<kekbit::EndPoint, ReadError>) {
        match end {
            Ok(end) => assert!(end.position.offset() + 8 <= self.data_len),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    /// The same where the payload does not lie in the file: the iterator lends nothing, the other and the reader find the same.
    fn agree_on_encoded(&self, channel: &Channel) {
        let mut records = channel.shared_records();
        let mut reader = channel.reader(Start::Beginning).expect("the beginning is there always");
        loop {
            match (records.next(), reader.try_next()) {
                (Some(Ok(a)), Ok(Some(b))) => {
                    let a = a.record();
                    assert_eq!(
                        (a.position(), a.sequence(), a.stored()),
                        (b.position(), b.sequence(), b.stored())
                    );
                    assert_eq!((a.payload(), a.timestamp_nanos()), (b.payload(), b.timestamp_nanos()));
                }
                (None, Ok(None)) | (Some(Err(_)), Err(_)) => return,
                (a, b) => panic!("{a:?} is not {b:?}"),
            }
        }
    }

    /// The iterator, the reader and the verifier find the same.
    fn agree(&self, channel: &Channel) {
        if is_encoded(channel) {
            return self.agree_on_encoded(channel);
        }
        let mut records = channel.records();
        let mut reader = channel.reader(Start::Beginning).expect("the beginning is there always");
        let (mut last, mut damaged) = (None, false);
        loop {
            match (records.next(), reader.try_next()) {
                (Some(Ok(a)), Ok(Some(b))) => {
                    assert_eq!(
                        (a.position(), a.sequence(), a.stored()),
                        (b.position(), b.sequence(), b.stored())
                    );
                    last = Some(a.sequence());
                }
                (None, Ok(None)) => break,
                (Some(Err(_)), Err(_)) => {
                    damaged = true;
                    break;
                }
                (a, b) => panic!("{a:?} is not {b:?}"),
            }
        }
        if damaged {
            assert!(channel.verify(|_| ()).is_err(), "what reading calls damaged, verifying does too");
            return;
        }
        assert_eq!(records.end(), reader.end());
        if let Ok(end) = channel.verify(|_| ()) {
            let next = last.map_or(channel.first_sequence(), |last| last + 1);
            assert!(end.sequence <= next, "verifying finds no record that reading does not");
        }
    }
}

/// Whether the payload does not lie in the file.
fn is_encoded(channel: &Channel) -> bool {
    matches!(channel.records().next(), Some(Err(ReadError::Encoded { .. })))
}

/// The reader that copies finds what one finds that maps the file and verifies everything.
fn copy(place: &Place, len: u64, start: Start) {
    let options = Channel::options().verify(Verify::Always);
    let copying = options.clone().copying(place.path());
    let (mut copying, channel) = match (copying, options.open(place.path())) {
        (Ok(copying), Ok(channel)) => (copying, channel),
        (Err(_), Err(_)) => return,
        (a, b) => panic!("{a:?} is not {b:?}"),
    };
    let bounds = Bounds::of(&channel, len);
    if start != Start::Beginning {
        // It believes less of the index, and so may begin elsewhere.
        if copying.seek(start).is_ok() {
            let mut count = 0;
            while let Ok(Some(record)) = copying.try_next() {
                bounds.check(&record);
                count += 1;
                assert!(count <= bounds.most_records());
            }
        }
        return;
    }
    let mut mapped = channel.reader(start).expect("the beginning is there always");
    loop {
        match (copying.try_next(), mapped.try_next()) {
            (Ok(Some(a)), Ok(Some(b))) => {
                bounds.check(&a);
                assert_eq!(
                    (a.position(), a.sequence(), a.stored()),
                    (b.position(), b.sequence(), b.stored())
                );
            }
            (Ok(None), Ok(None)) => break,
            (Err(_), Err(_)) => return,
            (a, b) => panic!("{a:?} is not {b:?}"),
        }
    }
    assert_eq!(copying.sequence(), mapped.sequence());
    match (copying.check_end(), mapped.check_end()) {
        // When it is too late is an opinion of each.
        (Ok(a), Ok(b)) => {
            assert!(a == b || [a, b].contains(&Some(kekbit::End::TimedOut)), "{a:?} is not {b:?}")
        }
        (Err(_), Err(_)) => {}
        (a, b) => panic!("{a:?} is not {b:?}"),
    }
}

/// What salvaging would save lies in the file, too.
fn survey(place: &Place, len: u64) {
    let Ok(found) = Channel::salvage_options().survey(place.path(), |_| ()) else { return };
    assert!(found.records <= len / 8 && found.gaps.len() as u64 <= found.gap_count);
    let mut last = 0;
    for gap in &found.gaps {
        assert!(last <= gap.from.offset() && gap.from <= gap.to && gap.to.offset() <= len);
        last = gap.to.offset();
    }
}

/// What a header says, and what is known of a channel without reading it.
fn describe(channel: &Channel) {
    assert!(channel.synced_tail().offset() <= channel.capacity() && channel.reserved() <= channel.capacity());
    let _ =
        (channel.heartbeat_nanos(), channel.timeout(), channel.seeks_time_exactly(), channel.meta_value("k"));
    let _ = (channel.writer_lives(), channel.is_on_storage(), channel.stages().len(), channel.checksum());
    assert!(!format!("{channel:?}").is_empty());
}

/// Seals the file: if that succeeds, it reads as before, and has ended.
fn seal(place: &mut Place, len: u64, discard: bool) {
    let before = contents(place);
    let sealed = Channel::seal_options().discard(discard).seal(place.path());
    place.look_up();
    match sealed {
        Ok(sealed) => {
            if let Some(cut) = &sealed.cut {
                assert!(!discard && cut.position == sealed.end.position && cut.len <= len);
                std::fs::remove_file(&cut.path).expect("what was cut off is kept");
            }
            let (records, state, _) = before.expect("what was sealed could be read");
            assert_eq!(state, sealed.before);
            let (after, state, end) = contents(place).expect("what was sealed can be read");
            assert!(after == records, "sealing changes no record");
            assert_eq!((state, end), (State::Abandoned, true));
            assert!(place.len() <= len.max(16384), "sealing makes no file longer");
            assert!(Channel::seal(place.path()).is_err(), "an end is final");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Everything that is in the file, how it stands, and whether it has ended; `None` if it is damaged.
#[allow(clippy::type_complexity, reason = "used twice, below each other")]
fn contents(place: &Place) -> Option<(Vec<(u64, u64, Vec<u8>)>, State, bool)> {
    let channel = Channel::options().verify(Verify::Always).stored(true).open(place.path()).ok()?;
    let mut all = Vec::new();
    for record in channel.records() {
        let record = record.ok()?;
        all.push((record.position().offset(), record.sequence(), record.stored().to_vec()));
    }
    let end = channel.verify(|_| ()).ok()?;
    Some((all, end.state, end.sealed))
}
