//! A failed run.

use std::time::Duration;

use lampyr_types::ErrorKind;

use super::Error;
use crate::Usage;

/// A failed run, as every skin shows it.
#[derive(Debug)]
pub struct RunError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// One sentence for people.
    pub message: String,
    /// A next step, where there is one.
    pub hint: Option<String>,
    /// How long the command, or the attempt to start it, took.
    pub duration: Duration,
    /// Whether the command had started, so that it may have had effects.
    pub started: bool,
    /// What it used, as far as that is known.
    pub usage: Box<Usage>,
    /// Whether what was asked for is not there.
    pub missing: bool,
}

impl From<Error> for RunError {
    fn from(e: Error) -> Self {
        Self {
            kind: e.kind(),
            message: e.to_string(),
            hint: e.hint(),
            duration: Duration::ZERO,
            started: false,
            usage: Box::default(),
            missing: matches!(e, Error::NoJob(_)),
        }
    }
}

impl From<RunError> for Error {
    fn from(failed: RunError) -> Self {
        let RunError { kind, message, hint, duration, .. } = failed;
        Self::Told { kind, message, hint, took: Some(duration) }
    }
}
