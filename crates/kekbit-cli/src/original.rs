//! The channels of the original kekbit (0.3), which most verbs read as they do those of today.

use std::path::Path;

use kekbit::legacy::{Channel, EndPoint, Loss, State};
use kekbit::{FormatError, OpenError};
use serde::Serialize;

/// The channel of 0.3 at `path`, which could not be opened as one of today; the same error if it is none of those either.
pub(crate) fn instead(path: &Path, error: OpenError) -> Result<Channel, OpenError> {
    match error {
        OpenError::Format { source: FormatError::Legacy, .. } => Channel::open(path),
        // While it is being created it has no header yet.
        OpenError::Format { source: FormatError::NotAChannel, .. } => match Channel::open(path) {
            Err(OpenError::Format { .. }) => Err(error),
            other => other,
        },
        error => Err(error),
    }
}

/// What is to be said of how it stands.
pub(crate) fn remark(end: &EndPoint) -> Option<String> {
    match end.state {
        State::Unfinished => {
            Some("kekbit 0.3 has no locks, so its writer may be at it or have died long ago".to_owned())
        }
        State::CutOff => end.loss.map(|loss| loss.to_string()),
        _ => None,
    }
}

/// What lies past the end of the file, as `--json` prints it.
#[derive(Serialize)]
pub(crate) struct JsonLoss {
    /// Length of the record that is cut off; `null` if not even that is left.
    record_len: Option<u64>,
    /// Bytes of it that are lost.
    missing: u64,
    /// Bytes of the capacity that lie past the end of the file.
    beyond: u64,
}

impl JsonLoss {
    pub(crate) fn of(loss: &Loss) -> JsonLoss {
        JsonLoss { record_len: loss.record_len(), missing: loss.missing(), beyond: loss.beyond() }
    }
}
