use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Asks a child to end when its parent dies: runs between fork and exec.
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}
