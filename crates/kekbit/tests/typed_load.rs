//! Eight threads share a typed writer, four processes read along: each sees each record once, those of each thread in order.
#![cfg(all(feature = "serde", feature = "zerocopy"))]

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use common::campaign::Campaign;
use common::{Child, patience, role, say};
use kekbit::typed::{Codec, Plain, Postcard};
use kekbit::{Channel, Durability, End, SharedError, Start, Timestamp, Writer};
use serde::{Deserialize, Serialize};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const THREADS: u64 = 8;
const PROCESSES: usize = 4;

/// In place: 24 bytes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PartialEq, Debug)]
#[repr(C)]
struct Reading {
    thread: U64,
    number: U64,
    check: U64,
}

kekbit::record_type!(Reading as "test.reading.v1" { thread, number, check });

/// Of many lengths.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Event {
    thread: u8,
    number: u64,
    tags: Vec<u16>,
    note: Option<String>,
}

kekbit::record_type!(Event as "test.event.v1");

/// Values that follow from who has made them.
trait Numbered: Codec {
    const NAME: &'static str;

    fn make(thread: u64, number: u64) -> Self::Value;

    /// Who has made it; fails if it is not as it was made.
    fn who(value: &Self::View<'_>) -> (u64, u64);
}

impl Numbered for Plain<Reading> {
    const NAME: &'static str = "plain";

    fn make(thread: u64, number: u64) -> Reading {
        Reading {
            thread: thread.into(),
            number: number.into(),
            check: (thread ^ number.rotate_left(17)).into(),
        }
    }

    fn who(value: &&Reading) -> (u64, u64) {
        let (thread, number) = (value.thread.get(), value.number.get());
        assert_eq!(**value, Self::make(thread, number));
        (thread, number)
    }
}

impl Numbered for Postcard<Event> {
    const NAME: &'static str = "postcard";

    fn make(thread: u64, number: u64) -> Event {
        let tags = (0..number % 7).map(|tag| (tag * 1000) as u16).collect();
        let note = number.is_multiple_of(5).then(|| format!("note {number}"));
        Event { thread: thread as u8, number, tags, note }
    }

    fn who(value: &Event) -> (u64, u64) {
        let (thread, number) = (u64::from(value.thread), value.number);
        assert_eq!(*value, Self::make(thread, number));
        (thread, number)
    }
}

#[test]
fn eight_threads_append_values_and_four_processes_see_each_once_and_in_order() {
    if let Some((codec, arguments)) = role() {
        let [path, each] = &arguments[..] else { panic!("{arguments:?}") };
        let each = each.parse().unwrap();
        return if codec == <Plain<Reading> as Numbered>::NAME {
            read_along::<Plain<Reading>>(path, each)
        } else {
            read_along::<Postcard<Event>>(path, each)
        };
    }
    let campaign = Campaign::new("typed records of 8 threads");
    let total = campaign.count(400_000, 10_000_000);
    let busy = append_and_read::<Plain<Reading>>(total) + append_and_read::<Postcard<Event>>(total);
    let what = format!("values of each of two codecs past {PROCESSES} processes, {busy} times busy");
    campaign.done(total, what);
}

fn append_and_read<K: Numbered<Value: Sized> + 'static>(total: u64) -> u64 {
    let this = "eight_threads_append_values_and_four_processes_see_each_once_and_in_order";
    let dir = common::dir();
    let path = dir.path().join("typed.kek");
    let each = total / THREADS;
    // 8 bytes of header word, 8 of timestamp, and at most 40 of payload.
    let options = Writer::options().capacity(total * 64 + 4096).durability(Durability::Never);
    let writer = options.stage(Timestamp::nanos()).create_typed::<K>(&path).unwrap();
    let arguments = [path.to_str().unwrap(), &each.to_string()];
    let mut readers: Vec<_> = (0..PROCESSES).map(|_| Child::start(this, K::NAME, &arguments)).collect();
    for reader in &mut readers {
        assert_eq!(reader.hear(), "ready");
    }
    let (shared, busy, barrier) = (writer.share(), AtomicU64::new(0), Barrier::new(THREADS as usize));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (mut shared, busy, barrier) = (shared.clone(), &busy, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..each {
                    let value = K::make(thread, number);
                    // Busy means that nothing has happened: the same value is tried again.
                    while let Err(error) = shared.append(&value) {
                        assert!(matches!(error, SharedError::Busy), "{error}");
                        busy.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    shared.into_inner().close().unwrap();
    for mut reader in readers {
        assert_eq!(reader.hear(), format!("{}", each * THREADS));
        assert!(reader.end().success());
    }
    busy.into_inner()
}

/// In a child: follows the channel to its end.
fn read_along<K: Numbered>(path: &str, each: u64) {
    let channel = Channel::open(path).unwrap().typed::<K>().unwrap();
    let mut reader = channel.reader(Start::Beginning).unwrap();
    say("ready");
    let mut next = [0; THREADS as usize];
    let (mut count, mut time) = (0, 0);
    while let Some(record) = reader.next(patience()).unwrap() {
        assert_eq!(record.sequence(), count);
        let (thread, number) = K::who(&record.value);
        assert_eq!(number, next[thread as usize], "of thread {thread}");
        let stamped = record.timestamp_nanos().unwrap();
        assert!(stamped >= time, "time went back");
        (time, next[thread as usize]) = (stamped, number + 1);
        count += 1;
    }
    assert_eq!(reader.end(), Some(End::Closed));
    assert_eq!(next, [each; THREADS as usize]);
    say(count);
}
