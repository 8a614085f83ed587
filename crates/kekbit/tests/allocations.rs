//! Compressing and undoing it allocate nothing for a record, once their buffers are as long as the longest.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kekbit::{Channel, CopyingReader, CorrelationId, Lz4, Start, Timestamp, Writer};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

// SAFETY: everything is the system allocator's, which keeps the contract of the trait; counting touches nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `System`, as all of them.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() -> u64 {
    COUNT.with(Cell::get)
}

/// Records of all lengths that buffers grow for, and both tables: what can be compressed and what cannot.
fn records() -> Vec<Vec<u8>> {
    let mut numbers = 1_u64;
    let mut next = move || {
        numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (numbers >> 56) as u8
    };
    let lens = [100_000, 0, 5, 100, 3000, 70_000];
    lens.into_iter().flat_map(|len| [vec![b'x'; len], (0..len).map(|_| next()).collect()]).collect()
}

#[test]
fn no_record_allocates_once_the_buffers_are_warm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warm.kek");
    let correlation = CorrelationId::new();
    let mut writer = Writer::options()
        .capacity(16 << 20)
        .max_record_len(1 << 20)
        .stage(Timestamp::nanos())
        .stage(Lz4::new())
        .stage(correlation.clone())
        .create(&path)
        .unwrap();
    let mut reader = Channel::open(&path).unwrap().reader(Start::Beginning).unwrap();
    let mut copying = CopyingReader::open(&path).unwrap();
    let records = records();
    let mut read = 0;
    for round in 0..10 {
        let before = count();
        for (n, record) in records.iter().enumerate() {
            correlation.set(n as u64);
            writer.append(record).unwrap();
            writer
                .append_with(record.len(), |space| {
                    space.copy_from_slice(record);
                    space.len()
                })
                .unwrap();
            let mut batch = writer.batch();
            batch.push(record).unwrap();
            batch.commit().unwrap();
        }
        let appended = count();
        while let Some(record) = reader.try_next().unwrap() {
            assert!(record[..] == records[record.correlation_id().unwrap() as usize][..]);
            read += 1;
        }
        let after = count();
        if round > 0 {
            assert_eq!((appended - before, after - appended), (0, 0), "in round {round}");
        }
        // Its copies of the file are allocated, the payloads are not.
        while copying.try_next().unwrap().is_some() {}
        while round == 9 && reader.try_previous().unwrap().is_some() {
            read -= 1;
        }
    }
    assert_eq!(read, 0);
    assert!(count() > 0);
}
