//! The examples, run as a user runs them: as processes of their own, with input, output and `kill -9`.
//!
//! `cargo test` builds them; `cargo test --test examples` alone does not.

#[path = "common/example.rs"]
mod example;

use std::path::Path;

use example::{Example, LIMIT};
use kekbit::{Channel, State, Wait};

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
    let channels = ["echo_in", "echo_out", "request_reply", "chat", "shared_writer", "handler"];
    let journals = ["bank", "exactly_once", "replica", "system_image", "retention"];
    for name in channels.into_iter().chain(journals) {
        Example::start(name, &[]).finish().fails(&format!("usage: {name} "));
    }
    Example::start("many_readers", &[&"3"]).finish().fails("usage: many_readers ");
}
