//! Progress of long work, shown on a terminal and nowhere else.

use std::io::{IsTerminal, stderr, stdin};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is not done yet: bytes, of `total` if it is known.
pub(crate) fn bar(total: Option<u64>, what: &str) -> ProgressBar {
    // Somebody may be typing what is to be done; nothing is drawn over that.
    let is_typed = total.is_none() && stdin().is_terminal();
    if is_typed || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::no_length(), "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    // The template is ours, and sound.
    let style = ProgressStyle::with_template(template).expect("a sound template");
    let bar = bar.with_style(style.progress_chars("=> ")).with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Work in so many steps, which says itself what it is doing.
pub(crate) fn steps(total: u64, quiet: bool) -> ProgressBar {
    if quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    // The template is ours, and sound.
    let style = ProgressStyle::with_template("[{bar:30}] {percent:>3} %, {elapsed} so far: {msg}");
    let bar = bar.with_style(style.expect("a sound template").progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
