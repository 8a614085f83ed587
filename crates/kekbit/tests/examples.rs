//! The examples, run as a user runs them: as processes of their own, with input, output and `kill -9`.
//!
//! `cargo test` builds them; `cargo test --test examples` alone does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use kekbit::{Channel, Journal, State, Wait};

/// Whoever takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// An example that is running. It does not outlive the test.
struct Example {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    errors: Receiver<Vec<u8>>,
}

/// What an example has left behind.
struct Finished {
    success: bool,
    /// What nobody has expected yet.
    output: String,
    errors: String,
}

impl Example {
    fn start(name: &str, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Example {
        let test = std::env::current_exe().unwrap();
        let path = test.parent().unwrap().with_file_name("examples").join(name);
        assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
        let mut command = Command::new(path);
        command.args(args.iter().map(AsRef::as_ref)).env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), lines(child.stdout.take().unwrap()));
        let errors = lines(child.stderr.take().unwrap());
        Example { child, input, output, errors }
    }

    /// Types `text`.
    fn input(&mut self, text: impl AsRef<[u8]>) {
        self.input.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    /// Waits for the next line of output, which must be `line`.
    #[track_caller]
    fn expect(&mut self, line: &str) {
        let got = self.output.recv_timeout(LIMIT).expect("a line of output");
        assert_eq!(String::from_utf8(got).unwrap(), format!("{line}\n"));
    }

    /// Ends it as `kill -9` does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the input, and waits until the example has ended by itself.
    #[track_caller]
    fn finish(mut self) -> Finished {
        self.input = None;
        let [output, errors] = [&self.output, &self.errors].map(|lines| {
            let mut text = Vec::new();
            loop {
                match lines.recv_timeout(LIMIT) {
                    Ok(line) => text.extend(line),
                    Err(mpsc::RecvTimeoutError::Disconnected) => break String::from_utf8(text).unwrap(),
                    Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end"),
                }
            }
        });
        Finished { success: self.child.wait().unwrap().success(), output, errors }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    #[track_caller]
    fn succeeds(&self, output: &str) {
        assert_eq!((self.success, &*self.output), (true, output), "{}", self.errors);
    }

    #[track_caller]
    fn fails(&self, error: &str) {
        assert!(!self.success, "it has succeeded: {}", self.output);
        assert!(self.errors.contains(error), "{} does not say {error}", self.errors);
    }
}

/// The lines of `from`, as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    let mut from = BufReader::new(from);
    thread::spawn(move || {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            if send.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    receive
}

/// Waits until there is a channel at `path`.
fn wait_for(path: &Path) -> Channel {
    Channel::wait_for(path, Wait::backoff().at_most(LIMIT)).unwrap().expect("a channel")
}

#[test]
fn echo_prints_each_line_as_soon_as_it_is_typed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.kek");
    // One waits for the file, one finds it.
    let mut early = Example::start("echo_out", &[&path]);
    let mut writer = Example::start("echo_in", &[&path]);
    writer.input("one\n");
    early.expect("one");
    let mut late = Example::start("echo_out", &[&path]);
    late.expect("one");
    writer.input("\ntwo\nthr");
    early.expect("");
    early.expect("two");
    writer.input("ee");
    writer.finish().succeeds("");
    for (reader, rest) in [(early, "three\n"), (late, "\ntwo\nthree\n")] {
        let finished = reader.finish();
        finished.succeeds(rest);
        assert_eq!(finished.errors, "closed by its writer\n");
    }
}

#[test]
fn echo_tells_that_the_writer_was_killed_after_all_that_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.kek");
    let mut reader = Example::start("echo_out", &[&path]);
    let mut writer = Example::start("echo_in", &[&path]);
    writer.input("first\nsecond\nnever ended");
    reader.expect("first");
    reader.expect("second");
    writer.kill();
    // The one that was there, and one that comes too late.
    for (reader, rest) in [(reader, ""), (Example::start("echo_out", &[&path]), "first\nsecond\n")] {
        let finished = reader.finish();
        finished.succeeds(rest);
        assert_eq!(finished.errors, "the writer has died; this is all that it wrote\n");
    }
}

#[test]
fn echo_does_not_write_to_a_channel_that_is_there_already() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.kek");
    let mut writer = Example::start("echo_in", &[&path]);
    writer.input("mine\n");
    writer.finish().succeeds("");
    Example::start("echo_in", &[&path]).finish().fails("AlreadyExists");
    Example::start("echo_out", &[&path]).finish().succeeds("mine\n");
}

#[test]
fn every_request_gets_its_reply() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = Example::start("request_reply", &[&"client", &dir.path()]);
    let server = Example::start("request_reply", &[&"server", &dir.path()]);
    client.input("1 2 3\n4 five\n\n-1 0.5\n");
    client.finish().succeeds(
        "1 2 3 -> 6\n\
         4 five -> invalid float literal\n \
          -> 0\n\
         -1 0.5 -> -0.5\n",
    );
    server.finish().succeeds("");
}

#[test]
fn a_client_tells_that_its_server_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = Example::start("request_reply", &[&"client", &dir.path()]);
    let server = Example::start("request_reply", &[&"server", &dir.path()]);
    wait_for(&dir.path().join("replies.kek"));
    server.kill();
    client.input("1 2 3\n4 5\n");
    let finished = client.finish();
    finished.fails("2 replies are missing");
    finished.fails("Abandoned");
    assert_eq!(finished.output, "");
}

#[test]
fn a_server_tells_that_its_client_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let client = Example::start("request_reply", &[&"client", &dir.path()]);
    let server = Example::start("request_reply", &[&"server", &dir.path()]);
    wait_for(&dir.path().join("requests.kek"));
    client.kill();
    server.finish().fails("the client has not closed its channel: Some(Abandoned)");
}

#[test]
fn a_chat_shows_who_joins_what_they_say_and_how_they_leave() {
    let dir = tempfile::tempdir().unwrap();
    let join = |name: &'static str| {
        let mut example = Example::start("chat", &[&dir.path(), &name]);
        example.expect("* you have joined");
        example
    };
    let mut alice = join("alice");
    alice.input("anybody here?\n");
    let mut bob = join("bob");
    alice.expect("* bob has joined");
    bob.expect("* alice has joined");
    bob.expect("alice: anybody here?");
    bob.input("me\nwho else?\n");
    alice.expect("bob: me");
    alice.expect("bob: who else?");

    // Who comes later hears what was said, in the order in which the others came.
    let mut carol = join("carol");
    carol.expect("* alice has joined");
    carol.expect("* bob has joined");
    carol.expect("alice: anybody here?");
    carol.expect("bob: me");
    carol.expect("bob: who else?");
    carol.input("hello\n");
    for other in [&mut alice, &mut bob] {
        other.expect("* carol has joined");
        other.expect("carol: hello");
    }

    carol.kill();
    alice.expect("* carol is gone");
    bob.expect("* carol is gone");
    bob.finish().succeeds("");
    alice.expect("* bob has left");
    alice.finish().succeeds("");
    // Nobody is there any more, but the channels are.
    join("dave").finish().succeeds(
        "* alice has joined\n* bob has joined\n* carol has joined\n\
         alice: anybody here?\n* alice has left\n\
         bob: me\nbob: who else?\n* bob has left\n\
         carol: hello\n* carol is gone\n",
    );
}

#[test]
fn many_readers_count_what_was_written() {
    Example::start("many_readers", &[&"3", &"20000"]).finish().succeeds(
        "writer: 20000 records, sum 199990000\n\
         reader 0: 20000 records, sum 199990000\n\
         reader 1: 20000 records, sum 199990000\n\
         reader 2: 20000 records, sum 199990000\n",
    );
}

#[test]
fn threads_share_a_writer_and_are_told_when_it_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shared.kek");
    Example::start("shared_writer", &[&path]).finish().succeeds(
        "in between: Err(Busy)\n\
         thread 0: 1000 records, in order\n\
         thread 1: 1000 records, in order\n\
         thread 2: 1000 records, in order\n\
         thread 3: 1000 records, in order\n",
    );
    let end = Channel::open(&path).unwrap().end_point().unwrap();
    assert_eq!((end.sequence, end.state), (4002, State::Closed));
}

#[test]
fn handlers_are_undone_by_a_decoder_and_a_refused_record_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.kek");
    let mut writer = Example::start("handler", &[&"write", &path]);
    writer.input("attack at dawn\nbring all the elephants\nnow\n");
    writer.finish().succeeds(
        "attack at dawn: sequence 0\n\
         bring all the elephants: refused, only 6 bytes of the pad are left\n\
         now: sequence 1\n",
    );
    Example::start("handler", &[&"read", &path]).finish().succeeds(
        "0 from station 7: attack at dawn, \
         stored as \\x07\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x19L3\\x10Q\\\'M;DV6\\n@:\n\
         1 from station 7: now, stored as \\x07\\x00\\x00\\x00\\x0e\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x1d8\\x0e\n",
    );
    // Who does not know the stages is told so instead of being given other bytes.
    Example::start("echo_out", &[&path]).finish().fails("Encoded");
}

#[test]
fn without_arguments_an_example_says_how_to_use_it() {
    for name in ["echo_in", "echo_out", "request_reply", "chat", "shared_writer", "handler"] {
        Example::start(name, &[]).finish().fails(&format!("usage: {name} "));
    }
    Example::start("many_readers", &[&"3"]).finish().fails("usage: many_readers ");
}

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
        let begins = step.output.recv_timeout(LIMIT).unwrap();
        let begins = String::from_utf8(begins).unwrap();
        let begin: u64 =
            begins.trim().strip_prefix("from order ").unwrap().strip_suffix(" on").unwrap().parse().unwrap();
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
