//! Why a task failed: a sentence for the person at the terminal.

use std::fmt;
use std::path::Path;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A sentence that says what went wrong, and where there is one, what to do.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// One that was told already: the task only ends with it.
    pub(crate) fn told() -> Self {
        Self(String::new())
    }

    pub(crate) fn is_told(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names the file that an I/O error is about.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    }
}
