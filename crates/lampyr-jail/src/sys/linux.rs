use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Gives up all that could be gained, and life itself when the parent dies.
pub(super) fn renounce() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // A change of user clears this, so it comes after it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above; then this process was
    // given to somebody else, who would never end it.
    match rustix::process::getppid() {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}
