//! Every way a command can fail, folded into a sentence, a hint and an exit
//! status.

use std::io;

use lampyr_types::ErrorKind;

use crate::bad_input::BadInput;
use crate::core_api::RunError;
use crate::printer::Printer;

/// The exit status of a process that `SIGPIPE` would have ended.
const CLOSED_PIPE: u8 = 128 + 13;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The request makes no sense.
    #[error(transparent)]
    BadInput(#[from] BadInput),
    /// A use-case failed.
    #[error("{message}")]
    Core {
        /// What kind of failure it is.
        kind: ErrorKind,
        /// One sentence on it.
        message: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The system refused what every command needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::Core { kind: error.kind, message: error.message, hint: error.hint }
    }
}

impl From<lampyr_core::Error> for Failure {
    fn from(error: lampyr_core::Error) -> Self {
        RunError::from(error).into()
    }
}

impl Failure {
    /// The same, of what is called `what`, where there are several.
    pub(crate) fn within(self, what: &str) -> Self {
        match self {
            Self::Core { kind, message, hint } => {
                Self::Core { kind, message: format!("{what}: {message}"), hint }
            }
            other => other,
        }
    }

    /// Tells the user and returns the exit status. A reader that has gone
    /// away is no news to anybody.
    pub(crate) fn tell(&self, printer: &Printer) -> u8 {
        if !self.is_closed_pipe() {
            printer.error(&self.to_string(), self.hint().as_deref());
        }
        self.status()
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::BadInput(bad) => Some(bad.hint()),
            Self::Core { hint, .. } => hint.clone(),
            Self::Output(_) | Self::System { .. } => None,
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::BadInput(_) => ErrorKind::Usage.exit_code(),
            Self::Core { kind, .. } => kind.exit_code(),
            Self::Output(_) if self.is_closed_pipe() => CLOSED_PIPE,
            Self::Output(_) | Self::System { .. } => 1,
        }
    }

    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}
