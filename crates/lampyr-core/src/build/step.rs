//! How a step of a build ended that failed.

use lampyr_types::{ErrorKind, Span};

use crate::Error;

/// How a step of a build ended that failed.
#[derive(Debug, thiserror::Error)]
pub enum StepEnd {
    /// With this exit code.
    #[error("failed with exit code {0}")]
    Exit(i32),
    /// It was ended: it had run for as long as a step may.
    #[error("ran longer than {0}")]
    Late(Span),
    /// Something else came between.
    #[error("broke off: {0}")]
    Broken(Box<Error>),
}

impl StepEnd {
    /// Its exit code; -1 where it did not end by itself.
    pub fn code(&self) -> i32 {
        if let Self::Exit(code) = self { *code } else { -1 }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Exit(_) => ErrorKind::ConnectionFailed,
            Self::Late(_) => ErrorKind::Timeout,
            Self::Broken(e) => e.kind(),
        }
    }

    /// A next step, after a look at what it said.
    pub(crate) fn hint(&self, sealed: bool) -> String {
        match self {
            Self::Exit(_) if sealed => "--debug-builder keeps the VM; without `net` the builder \
                has no network, and nothing is fetched"
                .into(),
            Self::Exit(_) => "--debug-builder keeps the VM".into(),
            Self::Late(_) => "--step-timeout gives it longer".into(),
            Self::Broken(e) => e.hint().unwrap_or_else(|| "try again".into()),
        }
    }
}
