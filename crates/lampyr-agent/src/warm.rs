//! Warming the processor while the host still says who we are.
//!
//! Where the processor is emulated, code is translated when it first runs, and
//! after a restore all of it is new: most of a launch is the translation of
//! what the kernel, the loader and the shell do for the first command. What
//! one virtual processor has translated, all of them use. So a throw-away
//! command runs on the second processor from the moment the host speaks,
//! and the user's command finds its path ready.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::thread::sched_setaffinity;

use crate::place;
use crate::spawn::fork_into;

/// Loads a program through the shell, as most commands do.
const COMMAND: &std::ffi::CStr = c"uname >/dev/null; :";

/// A process that waits for the word to go.
pub(crate) struct Warmer(OwnedFd);

impl Warmer {
    /// Parks a process on the second processor; `None` where that would not
    /// help.
    pub(crate) fn park() -> Option<Self> {
        if !place::is_emulated() || place::processors() < 2 {
            return None;
        }
        let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
        match fork_into(None).ok()? {
            0 => {
                drop(go);
                let _ = wait_and_run(&wait);
                // SAFETY: ends this process without running the parent's destructors.
                unsafe { libc::_exit(0) }
            }
            _ => Some(Self(go)),
        }
    }

    /// Lets it go. It ends by itself, and is reaped like any orphan.
    pub(crate) fn go(self) {
        let _ = rustix::io::write(&self.0, b"g");
    }
}

/// Whoever waits must not hold the ends of other processes' pipes meanwhile.
fn let_go_of_all_but(kept: &OwnedFd) {
    let kept = kept.as_raw_fd() as libc::c_uint;
    // SAFETY: nothing in this process uses any of the others.
    unsafe {
        libc::close_range(3, kept - 1, 0);
        libc::close_range(kept + 1, libc::c_uint::MAX, 0);
    }
}

fn wait_and_run(wait: &OwnedFd) -> io::Result<()> {
    let_go_of_all_but(wait);
    sched_setaffinity(None, &place::only(1))?;
    // An end of file means that nobody will ever say the word.
    if rustix::io::read(wait, &mut [0])? == 0 {
        return Ok(());
    }
    if fork_into(None)? == 0 {
        let argv = [c"sh".as_ptr(), c"-c".as_ptr(), COMMAND.as_ptr(), std::ptr::null()];
        let env = [c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
        // SAFETY: both arrays end in null and live until the call replaces
        // this process or fails.
        unsafe { libc::execve(c"/bin/sh".as_ptr(), argv.as_ptr(), env.as_ptr()) };
    }
    Ok(())
}
