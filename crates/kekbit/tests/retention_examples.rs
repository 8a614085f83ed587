//! The examples of journals that give up what is old, run as a user runs them, and killed again and again.
//!
//! `cargo test` builds them; `cargo test --test retention_examples` alone does not.

mod common;
#[path = "common/example.rs"]
mod example;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use common::campaign::Campaign;
use common::{Numbers, dir, names_in};
use example::{Example, numbers};
use kekbit::{Channel, Journal, Writer};

/// The words of `system_image`, and what it says of them.
#[derive(Default)]
struct Words {
    lines: u64,
    counts: BTreeMap<String, u64>,
    /// How many lines are in the last image.
    covered: u64,
}

impl Words {
    fn add(&mut self, line: &str) {
        self.lines += 1;
        line.split(' ').for_each(|word| *self.counts.entry(word.to_owned()).or_default() += 1);
    }

    fn text(&self) -> String {
        format!("{} words, {} different", self.counts.values().sum::<u64>(), self.counts.len())
    }

    /// Counts these lines, which have been typed, and expects the answers of a program that makes an image after each `between`.
    fn see(&mut self, program: &mut Example, lines: &[String], between: u64) {
        for line in lines {
            self.add(line);
            program.expect(&format!("{} lines: {}", self.lines, self.text()));
            if self.lines - self.covered >= between {
                self.covered = self.lines;
                program.expect(&format!("image of {} lines", self.lines));
            }
        }
    }

    /// Expects that nothing that was answered is lost when the program comes back, and that not more is replayed than has to be.
    /// Of what was typed in vain the first lines may be there. How many.
    fn come_back(&mut self, program: &mut Example, typed: &[String]) -> usize {
        let line = program.line().expect("it says how it stands");
        let [covers, replayed, ..] = numbers(&line)[..] else { panic!("{line}") };
        assert!(covers >= self.covered, "{line}: an image of {} was there", self.covered);
        let more = (covers + replayed).checked_sub(self.lines).expect("nothing is lost") as usize;
        typed[..more].iter().for_each(|line| self.add(line));
        self.covered = covers;
        assert_eq!(line, format!("image of {covers} lines, {replayed} replayed: {}", self.text()));
        more
    }
}

/// Lines with this many words out of 1000, of 99 letters each.
fn lines(numbers: &mut Numbers, count: u64, words: u64) -> Vec<String> {
    let mut line =
        || (0..words).map(|_| format!("{:099}", numbers.below(1000))).collect::<Vec<_>>().join(" ");
    (0..count).map(|_| line()).collect()
}

#[test]
fn an_image_and_what_came_after_it_are_the_state_whenever_it_is_killed() {
    const LINES: u64 = 20;
    let campaign = Campaign::new("system image");
    let rounds = campaign.count(16, 500);
    let mut random = campaign.numbers(0);
    let dir = dir();
    let path = dir.path().join("words");
    // About as many lines as a channel has: what no image covers is often in a channel that has ended.
    let start = || Example::start("system_image", &[&path, &LINES.to_string()]);
    let (mut program, mut words) = (start(), Words::default());
    words.come_back(&mut program, &[]);
    for _ in 0..rounds {
        let count = random.below(20) + 1;
        let lines = lines(&mut random, count, 300);
        let typed: String = lines.iter().map(|line| format!("{line}\n")).collect();
        program.input(typed);
        let (seen, rest) = lines.split_at(random.below(count + 1) as usize);
        words.see(&mut program, seen, LINES);
        program.kill();
        // What an image that was not finished may look like.
        if random.below(2) == 0 {
            fs::write(path.join("image.new"), "half a header").unwrap();
        }
        program = start();
        words.come_back(&mut program, rest);
    }
    while words.covered < words.lines || words.lines == 0 {
        let line = lines(&mut random, 1, 300);
        program.input(format!("{}\n", line[0]));
        words.see(&mut program, &line, LINES);
    }
    program.finish().succeeds("");
    let image = Channel::open(path.join("image.kek")).unwrap();
    assert_eq!(image.meta_value("covers").unwrap(), words.lines.to_string());
    let found: Vec<_> = image.records().map(|record| record.unwrap().to_vec()).collect();
    let counts: Vec<_> =
        words.counts.iter().map(|(word, count)| format!("{count} {word}").into_bytes()).collect();
    assert_eq!(found, counts);
    // What it covers has gone, but for the channel in which it was made.
    let journal = path.join("journal");
    assert_eq!(Journal::cursors(&journal).unwrap()[0].sequence, words.lines);
    assert!(Journal::channels(&journal).unwrap().len() <= 2, "{:?}", names_in(&journal));
    let oldest = Journal::reader(&journal).unwrap().oldest_sequence().unwrap().unwrap();
    assert!((1..words.lines).contains(&oldest), "{oldest} of {}", words.lines);
    campaign.done(rounds, "kills of a program that makes images");
}

#[test]
fn an_image_is_whole_or_not_at_all_before_whichever_system_call_it_is_killed() {
    const CALLS: &str = "write,openat,linkat,rename,unlink,msync,fsync,fdatasync,fallocate,madvise,pwrite64,ftruncate,fcntl,munmap";
    let campaign = Campaign::new("system image, call by call");
    let (mut random, dir) = (campaign.numbers(0), dir());
    let lines = lines(&mut random, 24, 600);
    let typed: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut all = Words::default();
    lines.iter().for_each(|line| all.add(line));
    let step = campaign.count(23, 1);
    let mut call = random.below(step) + 1;
    let mut kills = 0;
    loop {
        let path = dir.path().join(call.to_string());
        let arguments: [&dyn AsRef<OsStr>; 2] = [&path, &"2"];
        let mut program = Example::start_to_be_killed("system_image", &arguments, (CALLS, call));
        // It may be killed before it has read that.
        let _ = program.try_input(&typed);
        let killed = program.finish();
        let (mut words, mut program) = (Words::default(), Example::start("system_image", &arguments));
        for line in killed.output.lines() {
            match line.strip_prefix("image of ") {
                Some(rest) => words.covered = numbers(rest)[0],
                None => words.add(&lines[words.lines as usize]),
            }
        }
        words.come_back(&mut program, &lines[words.lines as usize..]);
        let rest = lines[words.lines as usize..].to_vec();
        program.input(rest.iter().map(|line| format!("{line}\n")).collect::<String>());
        words.see(&mut program, &rest, 2);
        assert_eq!(words.text(), all.text());
        program.finish().succeeds("");
        fs::remove_dir_all(&path).unwrap();
        if killed.success {
            break;
        }
        (kills, call) = (kills + 1, call + step);
    }
    assert!(kills > 3, "it makes fewer system calls than it must");
    campaign.done(kills, "kills of a program that makes images, each before another of its system calls");
}

#[test]
fn an_image_that_does_not_fit_its_journal_is_refused() {
    let dir = dir();
    let path = dir.path().join("words");
    let start = || Example::start("system_image", &[&path, &"2"]);
    let mut program = start();
    program.input("a b\nc d\ne f\n");
    assert!(program.finish().output.ends_with("image of 2 lines\n3 lines: 6 words, 6 different\n"));
    start().finish().succeeds("image of 2 lines, 1 replayed: 6 words, 6 different\n");
    // A journal that begins behind the image.
    let (image, kept) = (path.join("image.kek"), dir.path().join("image.kek"));
    fs::rename(&image, &kept).unwrap();
    let settings = Journal::settings(path.join("journal")).unwrap().unwrap();
    let mut journal = Journal::options().settings(&settings).open(path.join("journal")).unwrap();
    Journal::set_cursor(path.join("journal"), "image", 3).unwrap();
    journal.append(b"g h").unwrap();
    journal.retain();
    journal.close().unwrap();
    start().finish().fails("the image is too old: record 0 has been given up: the oldest that is there is 3");
    // One that ends before it.
    fs::rename(&kept, &image).unwrap();
    fs::remove_dir_all(path.join("journal")).unwrap();
    start().finish().fails("the image covers 2 lines, but");
    fs::write(&image, "notes").unwrap();
    start().finish().fails("not a kekbit channel");
    fs::remove_file(&image).unwrap();
    Writer::create(&image).unwrap().close().unwrap();
    start().finish().fails("image.kek is no image");
}

/// A writer of measurements.
struct Telemetry {
    example: Example,
}

/// What it says: where the journal begins and ends, and what it takes.
#[derive(Clone, Copy, Debug)]
struct Kept {
    oldest: u64,
    end: u64,
    bytes: u64,
    /// Since this writer has begun.
    channels: u64,
    files: u64,
}

impl Telemetry {
    fn start(path: &Path, limits: &[&str]) -> Telemetry {
        let mut arguments: Vec<&dyn AsRef<OsStr>> = vec![&"write", &path];
        arguments.extend(limits.iter().map(|limit| limit as &dyn AsRef<OsStr>));
        Telemetry { example: Example::start("retention", &arguments) }
    }

    fn kept(&mut self) -> Kept {
        let line = self.example.line().expect("what is there");
        let found = numbers(&line);
        let written = found.get(4..6).unwrap_or(&[0, 0]);
        Kept { oldest: found[0], end: found[1], bytes: found[3], channels: written[0], files: written[1] }
    }

    fn append(&mut self, count: u64) -> Kept {
        self.example.input(format!("{count}\n"));
        self.kept()
    }

    /// Asks until the journal's thread has given up what it has to, and then once more: the figures of one answer are taken one after
    /// the other.
    fn settle(&mut self, settled: impl Fn(&Kept) -> bool) -> Kept {
        common::wait_until("the limits are kept", || settled(&self.append(0)));
        self.append(0)
    }
}

/// The mean of these measurements, added up and rounded as a reader does that.
fn mean(of: &[u64]) -> String {
    let tenths = of.iter().map(|sequence| 100 + (sequence % 400).min(399 - sequence % 400));
    let celsius = tenths.map(|tenths| format!("{}.{}", tenths / 10, tenths % 10).parse::<f64>().unwrap());
    format!("{:.1}", celsius.fold(0.0, |sum, celsius| sum + celsius) / of.len().max(1) as f64)
}

/// What a reader says when it has read these.
fn have_read(of: std::ops::Range<u64>) -> String {
    let all: Vec<_> = of.clone().collect();
    format!("read: {}, mean {} C; next: {}", all.len(), mean(&all), of.end)
}

#[test]
fn telemetry_takes_no_more_space_than_it_may_and_who_is_too_slow_is_told() {
    const LIMIT: u64 = 400_000;
    let campaign = Campaign::new("retention");
    let rounds = campaign.count(30, 1000);
    let mut random = campaign.numbers(0);
    let dir = dir();
    let path = dir.path().join("telemetry");
    let start = || Telemetry::start(&path, &[&format!("bytes={LIMIT}")]);
    let mut writer = start();
    let (mut end, mut next, mut lost) = (writer.kept().end, 0, 0);
    let mut reader = Example::start("retention", &[&"read", &path, &"slow"]);
    reader.expect("next: 0");
    for _ in 0..rounds {
        let count = random.below(12_000);
        if random.below(4) == 0 {
            writer.example.input(format!("{count}\n"));
            writer.example.kill();
            writer = start();
            let kept = writer.kept();
            assert!((end..=end + count).contains(&kept.end), "{kept:?} after {end}");
            end = kept.end;
        } else {
            end += count;
            assert_eq!(writer.append(count).end, end);
        }
        // Now nobody gives anything up any more.
        let kept = writer.settle(|kept| kept.bytes <= LIMIT);
        if random.below(4) == 0 {
            reader.kill();
            reader = Example::start("retention", &[&"read", &path, &"slow"]);
            reader.expect(&format!("next: {next}"));
        }
        let wanted = random.below(3_000) + 1;
        reader.input(format!("{wanted}\n"));
        let mut line = reader.line().unwrap();
        let mut read = (next..end).take(wanted as usize).collect::<Vec<_>>();
        if line.starts_with("record ") {
            let [gone, oldest, missed] = numbers(&line)[..] else { panic!("{line}") };
            assert!(next < oldest && gone < oldest, "{line}, but {next} was next");
            assert_eq!((oldest, missed), (kept.oldest, oldest - gone), "{line}");
            // What it still had open it has read to the end.
            read = (next..gone).chain(oldest..end).take(wanted as usize).collect();
            (lost, line) = (lost + 1, reader.line().unwrap());
        }
        next = read.last().map_or(next, |last| last + 1);
        assert_eq!(line, format!("read: {}, mean {} C; next: {next}", read.len(), mean(&read)));
    }
    assert!(lost > 0 || rounds < 30, "the reader was never overtaken");
    campaign.done(rounds, format_args!("rounds of a slow reader, which was overtaken in {lost}"));
}

#[test]
fn what_is_given_up_makes_room_in_the_same_files() {
    let dir = dir();
    let path = dir.path().join("telemetry");
    let mut writer = Telemetry::start(&path, &["bytes=400000"]);
    writer.kept();
    let mut last = writer.append(0);
    for _ in 0..40 {
        // About the half of a channel, so that the next one is ready in time.
        writer.append(2000);
        last = writer.settle(|kept| kept.bytes <= 400_000);
    }
    assert!(last.channels > 15 && last.files < last.channels / 2, "{last:?}");
}

#[test]
fn a_cursor_holds_back_retention_until_it_has_passed() {
    let dir = dir();
    let path = dir.path().join("telemetry");
    let mut writer = Telemetry::start(&path, &["bytes=200000", "cursors"]);
    writer.kept();
    let mut reader = Example::start("retention", &[&"read", &path, &"alarms"]);
    reader.expect("next: 0");
    let mut end = 0;
    for next in (0..40_000).step_by(10_000) {
        end += 20_000;
        let kept = writer.append(20_000);
        assert!(kept.oldest <= next && kept.end == end, "{kept:?}");
        // Who is killed is waited for.
        reader.kill();
        assert!(writer.append(0).oldest <= next);
        reader = Example::start("retention", &[&"read", &path, &"alarms"]);
        reader.expect(&format!("next: {next}"));
        reader.input("10000\n");
        reader.expect(&have_read(next..next + 10_000));
    }
    let kept = writer.append(0);
    assert!(kept.bytes > 200_000, "{kept:?}");
    reader.input("100000\n");
    reader.expect(&have_read(40_000..80_000));
    writer.settle(|kept| kept.bytes <= 200_000);
    // Killed in the middle of it, it goes on where it was.
    writer.append(200_000);
    reader.input("200000\n");
    let cursor = || Journal::cursors(&path).unwrap()[0].sequence;
    common::wait_until("it has begun", || cursor() > 80_000);
    reader.kill();
    let next = cursor();
    let mut reader = Example::start("retention", &[&"read", &path, &"alarms"]);
    reader.expect(&format!("next: {next}"));
    reader.input("1000000\n");
    reader.expect(&have_read(next..280_000));
}

#[test]
fn what_is_too_old_goes() {
    let dir = dir();
    let path = dir.path().join("telemetry");
    let mut writer = Telemetry::start(&path, &["age=3600"]);
    writer.kept();
    let kept = writer.append(50_000);
    assert!(kept.oldest == 0 && kept.channels > 5, "{kept:?}");
    writer.example.finish().succeeds("");
    let mut writer = Telemetry::start(&path, &["age=0"]);
    writer.kept();
    writer.append(1);
    let kept = writer.settle(|kept| kept.oldest == 50_000);
    assert_eq!(kept.end, 50_001);
}
