//! What a crash of the machine may leave of the directory of a journal, and how the next writer goes on.
//!
//! A scene (scene.rs) is a journal that is written, rolled, synced, followed by cursors, given up from its beginning, left and opened
//! again, on a disk that notes what each sync has made durable (disk.rs): of what is in the files, and of what they are called. At
//! some moments the machine crashes. An image (image.rs) is what the disk may have then: any versions of the sectors, any of the
//! names. Then, always (check.rs):
//!
//! - a reader that cannot write gets a beginning of what was appended, from what was given up on, with everything in it that
//!   somebody was told is durable, or is told that it lags;
//! - the journal opens for writing by itself, goes on behind that, and lets another reader see the same and what is new;
//! - named cursors are not back behind what they durably committed, nor ahead of what is there;
//! - if the machine crashes again, wherever in this, all that is still so.
//!
//! Beside the model there are directories that no crash has left but somebody's hand (by_hand.rs).

mod common;

#[path = "journal_crash_images/by_hand.rs"]
mod by_hand;
#[path = "journal_crash_images/check.rs"]
mod check;
#[path = "journal_crash_images/disk.rs"]
mod disk;
#[path = "journal_crash_images/image.rs"]
mod image;
#[path = "common/interposed.rs"]
mod interposed;
#[path = "journal_crash_images/scene.rs"]
mod scene;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use check::{Bench, Count};
use common::campaign::{Campaign, is_long};
use kekbit::{Checksum, Durability};
use scene::{Leave, PLAN, Plan};

#[test]
fn channels_that_follow_one_another_leave_a_beginning_with_everything_durable() {
    let mut bench = Bench::new();
    bench.check(4, PLAN);
    bench.check(3, Plan { background: false, ..PLAN });
    bench.check(2, Plan { unit: 4096, ..PLAN });
}

#[test]
fn each_record_that_was_synced_by_itself_is_there_in_whichever_channel() {
    let mut bench = Bench::new();
    let plan = Plan { durability: Durability::Each, first: Durability::Each, ..PLAN };
    bench.check(3, plan);
    bench.check(2, Plan { count: Some(1), ..plan });
    bench.check(1, Plan { storage: true, ..plan });
}

#[test]
fn files_that_are_given_up_and_used_again_leave_no_hole_and_no_false_record() {
    let mut bench = Bench::new();
    for count in [1, 2, 4] {
        bench.check(3, Plan { count: Some(count), steps: 40, ..PLAN });
        bench.check(2, Plan { count: Some(count), steps: 40, background: false, ..PLAN });
    }
}

#[test]
fn without_a_policy_what_was_synced_by_hand_is_there() {
    let mut bench = Bench::new();
    let plan = Plan { durability: Durability::Never, first: Durability::Never, ..PLAN };
    bench.check(8, plan);
    bench.check(3, Plan { count: Some(2), steps: 40, ..plan });
    bench.check(3, Plan { checksum: Checksum::None, ..plan });
}

#[test]
fn a_writer_that_follows_a_dead_one_vouches_for_nothing_that_is_not_durable() {
    let mut bench = Bench::new();
    let plan = Plan { writers: 2, steps: 60, ..PLAN };
    bench.check(2, Plan { writers: 3, ..plan });
    let never = Plan { first: Durability::Never, by_hand: false, ..plan };
    bench.check(4, never);
    bench.check(4, Plan { durability: Durability::Never, ..never });
    bench.check(1, Plan { leave: Leave::Closes, ..plan });
}

#[test]
fn cursors_are_where_they_were_durably_or_farther_and_never_past_the_end() {
    let mut bench = Bench::new();
    let plan = Plan { cursors: true, steps: 80, ..PLAN };
    bench.check(3, plan);
    let kept = Plan { for_cursors: true, count: Some(1), background: false, ..plan };
    bench.check(6, kept);
    // Several are given up at once, and the one that is being written has records that are durable.
    bench.check(4, Plan { durability: Durability::Each, first: Durability::Each, steps: 120, ..kept });
}

#[test]
fn what_is_synced_at_an_interval_is_a_beginning_too() {
    let interval = Durability::Interval(Duration::from_millis(1));
    Bench::new().check(3, Plan { durability: interval, first: interval, count: Some(3), ..PLAN });
}

#[test]
fn crash_images_of_directories_of_all_kinds() {
    let campaign = Campaign::new("crash images of directories");
    let goal = campaign.count(1500, 300_000);
    let (images, scenes) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = if is_long() { 2 } else { 1 };
    let counts: Vec<_> = std::thread::scope(|scope| {
        let work = || {
            let mut bench = Bench::new();
            while images.load(Ordering::Relaxed) < goal {
                let mut numbers = campaign.numbers(scenes.fetch_add(1, Ordering::Relaxed));
                let plan = Plan::any(&mut numbers);
                let before = bench.count.images;
                bench.check_scene(plan, numbers.next());
                images.fetch_add(bench.count.images - before, Ordering::Relaxed);
            }
            bench.count
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let Count { images, again, aside, cut, lagged, lost } = counts.into_iter().sum();
    campaign.done(
        images,
        format!(
            "images of {} scenes, {again} of them of a crash while recovering; {aside} had files set aside, {cut} were cut, \
             {lagged} readers lagged, {lost} had lost something that was not durable",
            scenes.into_inner()
        ),
    );
}
