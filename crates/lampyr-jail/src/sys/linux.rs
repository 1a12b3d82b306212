use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Gives up all that could be gained, and life itself when the parent dies.
pub(super) fn renounce() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // Many small VMs: a huge page for a few bytes is memory lost to the next.
    rustix::thread::disable_transparent_huge_pages(true)?;
    // A change of user clears this, so it comes after it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above; then this process was
    // given to somebody else, who would never end it.
    match rustix::process::getppid() {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Lets go of every descriptor at `exec`, whoever opened it and however; what
/// is given is marked afterwards. Needs Linux 5.11.
pub(super) fn keep_nothing() -> io::Result<()> {
    let on_exec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: the call marks descriptors and touches no memory.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, on_exec) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
