//! How a receiver finds what its sender creates.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a receiver waits for its sender.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer, or for too long.
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{what}: not there after {} s", PATIENCE.as_secs()).into());
        }
        std::thread::yield_now();
    }
}

/// Waits until there is something at `path`.
pub(crate) fn wait_for_path(path: &Path) -> Result<()> {
    wait_until(&path.display().to_string(), || Ok(path.exists().then_some(())))
}
