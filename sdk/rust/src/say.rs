//! What callers asked to be told while they wait.

use std::io::Write;

/// Prints on standard error. Whoever has closed it wants to hear nothing.
pub(crate) fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
