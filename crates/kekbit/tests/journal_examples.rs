//! The examples of journals, run as a user runs them: as processes of their own, that are killed again and again.
//!
//! `cargo test` builds them; `cargo test --test journal_examples` alone does not.

mod common;
#[path = "common/example.rs"]
mod example;

use std::collections::BTreeMap;
use std::path::Path;

use common::campaign::Campaign;
use common::{Numbers, dir};
use example::{Example, numbers};
use kekbit::Journal;

#[test]
fn a_bank_that_is_killed_has_its_books_when_it_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank");
    let mut bank = Example::start("bank", &[&path]);
    bank.expect("0 transfers so far");
    bank.expect("nobody has anything");
    bank.input("alice bob 10\n");
    bank.expect("alice -10, bob 10");
    bank.input("bob carol 3\n");
    bank.expect("alice -10, bob 7, carol 3");
    bank.kill();
    for opened in 0..3 {
        let mut bank = Example::start("bank", &[&path]);
        bank.expect(&format!("{} transfers so far", 2 + opened));
        bank.expect(&format!("alice {}, bob 7, carol {}", -10 - opened, 3 + opened));
        bank.input("alice carol\nalice carol 1\n");
        bank.expect("type: FROM TO AMOUNT");
        bank.expect(&format!("alice {}, bob 7, carol {}", -11 - opened, 4 + opened));
        if opened == 1 { bank.kill() } else { bank.finish().succeeds("") }
    }
}

#[test]
fn a_step_that_is_killed_again_and_again_handles_each_order_once() {
    let dir = tempfile::tempdir().unwrap();
    let (orders, invoices) = (dir.path().join("orders"), dir.path().join("invoices"));
    let mut journal = Journal::options().open(&orders).unwrap();
    let order = |number: u64| format!("order of {number}");
    let mut done = 0;
    for killed in 0..5 {
        for number in 20 * killed..20 * (killed + 1) {
            journal.append(order(number).as_bytes()).unwrap();
        }
        let mut step = Example::start("exactly_once", &[&orders, &invoices]);
        let [begin] = numbers(&step.line().unwrap())[..] else { panic!("where it begins") };
        assert!(begin >= done, "{begin} of {done}");
        for number in begin..begin + 4 * killed {
            step.expect(&format!("invoice {number}: {}", order(number)));
            done = number + 1;
        }
        step.kill();
    }
    journal.close().unwrap();
    let finished = Example::start("exactly_once", &[&orders, &invoices]).finish();
    assert!(finished.success, "{}", finished.errors);
    let mut reader = Journal::reader(&invoices).unwrap();
    for number in 0..100 {
        let expected = [format!("invoice {number}: {}", order(number)), format!("done {}", number + 1)];
        for expected in expected {
            assert_eq!(reader.try_next().unwrap().as_deref(), Some(expected.as_bytes()));
        }
    }
    assert!(reader.try_next().unwrap().is_none());
    assert_eq!(Journal::cursors(&orders).unwrap()[0].sequence, 100);
}

/// The map of `replica`, and how many records have made it.
#[derive(Default)]
struct Map {
    records: usize,
    pairs: BTreeMap<String, String>,
}

impl Map {
    fn apply(&mut self, change: &str) {
        self.records += 1;
        match change.split(' ').collect::<Vec<_>>()[..] {
            ["set", key, value] => drop(self.pairs.insert(key.into(), value.into())),
            ["remove", key] => drop(self.pairs.remove(key)),
            _ => panic!("{change} is no change"),
        }
    }

    fn text(&self) -> String {
        let pairs: String = self.pairs.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        format!("{} keys, digest {:08x}", self.pairs.len(), crc32c::crc32c(pairs.as_bytes()))
    }

    /// What the primary says after a change.
    fn line(&self) -> String {
        format!("{}: {}", self.records, self.text())
    }
}

/// Changes of a map of few keys, so that each is set, set anew, and removed.
fn changes(numbers: &mut Numbers, count: u64) -> Vec<String> {
    let change = |_| match numbers.below(3) {
        0 => format!("remove k{}", numbers.below(40)),
        _ => format!("set k{} {}", numbers.below(40), numbers.next()),
    };
    (0..count).map(change).collect()
}

/// A replica, and the number of the last record that it is known to have.
struct Replica {
    name: &'static str,
    example: Example,
    has: usize,
}

impl Replica {
    fn start(path: &Path, name: &'static str) -> Replica {
        let example = Example::start("replica", &[&"follow", &path, &name]);
        Replica { name, example, has: 0 }
    }

    /// Waits until it says that it has the same.
    fn catch_up(&mut self, map: &Map) {
        while self.has < map.records {
            let line = self.example.line().expect("it goes on");
            self.has = numbers(&line)[0] as usize;
            if self.has == map.records {
                assert_eq!(line, format!("{}, 0 behind", map.line()), "{}", self.name);
            }
        }
        assert_eq!(self.has, map.records, "{}", self.name);
    }
}

#[test]
fn replicas_hold_the_map_of_their_primary_whoever_is_killed() {
    let campaign = Campaign::new("replicas");
    let rounds = campaign.count(16, 500);
    let mut random = campaign.numbers(0);
    let dir = dir();
    let path = dir.path().join("map");
    let lead = || Example::start("replica", &[&"primary", &path]);
    let (mut primary, mut map) = (lead(), Map::default());
    primary.expect(&map.line());
    let mut replicas: Vec<_> = ["one", "two"].map(|name| Replica::start(&path, name)).into();
    for _ in 0..rounds {
        let count = random.below(100) + 1;
        let changes = changes(&mut random, count);
        primary.input(changes.join("\n") + "\n");
        let (seen, rest) = changes.split_at(random.below(count + 1) as usize);
        let see = |primary: &mut Example, map: &mut Map, changes: &[String]| {
            for change in changes {
                map.apply(change);
                primary.expect(&map.line());
            }
        };
        see(&mut primary, &mut map, seen);
        match random.below(3) {
            0 => {
                primary.kill();
                primary = lead();
                // Of what has not been answered, some may have been done: the first ones.
                let line = primary.line().unwrap();
                let more = (numbers(&line)[0] as usize).checked_sub(map.records).expect("nothing is lost");
                rest[..more].iter().for_each(|change| map.apply(change));
                assert_eq!(line, map.line());
            }
            1 => {
                // Also while it comes back, whether it has said something or not.
                for _ in 0..random.below(3) + 1 {
                    let victim = replicas.swap_remove(random.below(2) as usize);
                    victim.example.kill();
                    let mut again = Replica::start(&path, victim.name);
                    if random.below(2) == 0 && map.records > 0 {
                        again.has = numbers(&again.example.line().unwrap())[0] as usize;
                    }
                    replicas.push(again);
                }
                see(&mut primary, &mut map, rest);
            }
            _ => see(&mut primary, &mut map, rest),
        }
        replicas.iter_mut().for_each(|replica| replica.catch_up(&map));
    }
    let left = format!("left: {}\n", map.text());
    primary.finish().succeeds(&left);
    for replica in replicas {
        let finished = replica.example.finish();
        assert!(finished.success && finished.output.ends_with(&left), "{}", finished.errors);
    }
    // One that comes too late has the same.
    let late = Replica::start(&path, "late").example.finish();
    assert!(late.success && late.output.ends_with(&left), "{}", late.errors);
    assert!(Journal::cursors(&path).unwrap().iter().all(|cursor| cursor.sequence == map.records as u64 + 1));
    campaign.done(rounds, "rounds in which the primary, a replica or nobody was killed");
}

#[test]
fn a_primary_that_has_left_may_come_back() {
    let dir = dir();
    let path = dir.path().join("map");
    let mut map = Map::default();
    for change in ["set a 1", "set b 2"] {
        let mut primary = Example::start("replica", &[&"primary", &path]);
        primary.expect(&map.line());
        let mut replica = Replica::start(&path, "one");
        if map.records > 0 {
            replica.catch_up(&map);
        }
        // It has been told that the primary has left, but somebody is there; it looks ten times a second.
        let before = replica.example.naps();
        common::wait_until("it has looked again", || replica.example.naps() > before + 500);
        primary.input(format!("{change}\n"));
        map.apply(change);
        primary.expect(&map.line());
        replica.catch_up(&map);
        let left = format!("left: {}\n", map.text());
        primary.finish().succeeds(&left);
        map.records += 1;
        assert!(replica.example.finish().output.ends_with(&left));
    }
}

#[test]
fn what_the_journal_refuses_happens_in_no_map() {
    let dir = dir();
    let path = dir.path().join("map");
    let (mut primary, mut map) = (Example::start("replica", &[&"primary", &path]), Map::default());
    primary.expect(&map.line());
    let mut replica = Replica::start(&path, "one");
    for change in ["set a 1", "set b 2 3", "set a 4"] {
        primary.input(format!("set a {}\nset a\nremove a b\nleft 00000000\n", "x".repeat(1 << 20)));
        assert!(primary.line().unwrap().starts_with("refused: record of 1048582 bytes exceeds"));
        primary.expect(&map.line());
        (0..3).for_each(|_| primary.expect("type: set KEY VALUE, or remove KEY"));
        primary.input(format!("{change}\n"));
        map.records += 1;
        map.pairs.insert(change[4..5].into(), change[6..].into());
        primary.expect(&map.line());
        replica.catch_up(&map);
    }
    let left = format!("left: {}\n", map.text());
    primary.finish().succeeds(&left);
    assert!(replica.example.finish().output.ends_with(&left));
}

#[test]
fn a_replica_says_when_its_map_is_another_or_there_is_none() {
    let dir = dir();
    for (name, records, error) in [
        ("other", &["set a 1", "left 12345678"][..], "diverged: the primary had 12345678, here is 1 keys"),
        ("none", &["set a 1", "buy 10"], "\"buy 10\" is no change of a map"),
    ] {
        let path = dir.path().join(name);
        let mut journal = Journal::options().open(&path).unwrap();
        for record in records {
            journal.append(record.as_bytes()).unwrap();
        }
        journal.close().unwrap();
        Example::start("replica", &[&"follow", &path, &"one"]).finish().fails(error);
        Example::start("replica", &[&"primary", &path]).finish().fails(error);
    }
    let path = dir.path().join("missing");
    Example::start("replica", &[&"follow", &path, &"one"]).finish().fails("start the primary first");
    let primary = Example::start("replica", &[&"primary", &path]);
    common::wait_until("there is a journal", || Journal::is_at(&path));
    let mut replica = Example::start("replica", &[&"follow", &path, &"one"]);
    common::wait_until("it is known", || Journal::cursors(&path).unwrap().iter().any(|cursor| cursor.in_use));
    Example::start("replica", &[&"follow", &path, &"one"]).finish().fails("in use by another process");
    primary.kill();
    // There is nothing to say, but it goes on.
    let mut primary = Example::start("replica", &[&"primary", &path]);
    primary.input("set a 1\n");
    assert!(replica.line().unwrap().starts_with("1: 1 keys"));
}
