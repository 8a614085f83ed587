//! `kek stat`: how fast a journal grows, what it takes, and how far its cursors are behind, again and again.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::human;
use crate::journal::Status;
use crate::output::{print, print_json};
use crate::values::{self, rfc3339_of};

/// Tell again and again how fast a journal grows, and how far its cursors are behind
///
/// Prints a line for each interval: records that were appended a second, records and bytes that are there, and how many records each
/// named cursor has still to see.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  kek stat orders/
  kek stat -i 10s --json orders/ | jq .cursors")]
pub(crate) struct StatArgs {
    /// The directory of the journal
    path: PathBuf,

    /// How long to wait between two lines; a number alone counts seconds
    #[arg(short, long, value_name = "DURATION", value_parser = interval, default_value = "1")]
    interval: Duration,

    /// Prints at most N lines
    #[arg(short = 'n', value_name = "N")]
    count: Option<u64>,

    /// One JSON object a line: time, rate, and what `kek info --json` prints
    #[arg(long)]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(u64::from(seconds))),
        _ => values::duration(text),
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    /// Records that were appended a second since the line before.
    rate: f64,
    #[serde(flatten)]
    status: &'a Status,
}

impl StatArgs {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut before = Status::of(&self.path)?;
        let mut since = Instant::now();
        if !self.json {
            print(
                format!(
                    "{:>10}  {:>12}  {:>8}  {:>10}  {:<9}  LAG OF CURSORS\n",
                    "RECORDS/S", "RECORDS", "CHANNELS", "BYTES", "STATE"
                )
                .as_bytes(),
            )?;
        }
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            std::thread::sleep(self.interval);
            let status = Status::of(&self.path)?;
            let now = Instant::now();
            let appended = status.next_sequence.saturating_sub(before.next_sequence);
            let rate = appended as f64 / (now - since).as_secs_f64();
            if self.json {
                print_json(&Line { time: rfc3339_of(SystemTime::now()), rate, status: &status })?;
            } else {
                let lags: Vec<_> =
                    status.cursors.iter().map(|cursor| format!("{} {}", cursor.name, cursor.lag)).collect();
                let line = format!(
                    "{:>10}  {:>12}  {:>8}  {:>10}  {:<9}  {}\n",
                    human::count(rate.round()),
                    status.records,
                    status.channels,
                    human::bytes(status.bytes as f64),
                    status.state,
                    lags.join(", ")
                );
                print(line.as_bytes())?;
            }
            (before, since) = (status, now);
            left -= 1;
        }
        Ok(Exit::Done)
    }
}
