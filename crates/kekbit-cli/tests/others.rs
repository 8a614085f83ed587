//! `kek demo`, `completions`, `man` and help.

mod common;

use common::{Place, Run, Running, kek, stdout_of};
use nix::sys::signal::Signal;

#[test]
fn the_demonstration_reads_everything_that_it_writes() {
    let place = Place::new();
    let mut command = kek();
    command.args(["demo", "--records", "20000", "--rate", "0", "--readers", "2", "--duration", "1m"]);
    let printed = stdout_of(command.env("TMPDIR", place.dir()));
    let ends: Vec<_> = printed.lines().filter(|line| line.ends_with(" closed")).collect();
    assert_eq!(ends.len(), 3, "{printed}");
    assert!(ends.iter().all(|line| line.contains(" 20000 ")), "{printed}");
    assert!(printed.contains("every reader has seen every record"), "{printed}");
    assert_eq!(std::fs::read_dir(place.dir()).unwrap().count(), 0);
}

#[test]
fn the_demonstration_fails_where_it_cannot_write() {
    let output = kek().arg("demo").env("TMPDIR", "/no/such/directory").run("");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // A channel that cannot be created is not waited for.
    let records = u64::MAX.to_string();
    let output = kek().args(["demo", "--readers", "1", "--duration", "1h", "--records", &records]).run("");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the writer has failed"), "{output:?}");
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1, "{output:?}");
}

#[test]
fn completions_know_the_verbs_and_hide_what_is_hidden() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout_of(kek().args(["completions", shell]));
        assert!(script.contains("verify") && script.contains("no-timestamp"), "{shell}");
        assert!(!script.contains("demo-part") && !script.contains("bench-part"), "{shell}");
    }
    assert_eq!(kek().args(["completions", "abacus"]).run("").status.code(), Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_verb() {
    let place = Place::new();
    stdout_of(kek().args(["man", "--dir"]).arg(place.dir()));
    for verb in
        ["write", "cat", "tail", "info", "ls", "verify", "seal", "bench", "demo", "completions", "man"]
    {
        let page = stdout_of(kek().args(["man", verb]));
        assert!(page.contains(&format!("kek\\-{verb}")), "{verb}: {page}");
        assert!(place.path(&format!("kek-{verb}.1")).exists(), "{verb}");
    }
    assert!(stdout_of(kek().arg("man")).contains("Exit codes"));
    assert_eq!(kek().args(["man", "juggle"]).run("").status.code(), Some(2));
}

#[test]
fn help_explains_units_defaults_and_exit_codes() {
    let help = stdout_of(kek().args(["help", "write"]));
    for word in ["64KiB", "1024", "10ms", "Examples:", "[default:"] {
        assert!(help.contains(word), "{word}");
    }
    assert!(stdout_of(kek().arg("--help")).contains("Exit codes:"));
    assert_eq!(kek().run("").status.code(), Some(2));
    assert_eq!(kek().arg("juggle").run("").status.code(), Some(2));
}

#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    let place = Place::new();
    let mut command = kek();
    command.args(["demo", "--duration", "1h", "--records", "100000", "--rate", "1"]);
    let mut demo = Running::start(command.env("TMPDIR", place.dir()));
    assert!(demo.line().starts_with("one writer, 3 readers"));
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.status().code(), Some(130));
    assert_eq!(std::fs::read_dir(place.dir()).unwrap().count(), 0);
}
