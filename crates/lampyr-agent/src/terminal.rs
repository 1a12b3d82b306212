//! Terminals: the agent holds the one end, a process the other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use lampyr_proto::Window;
use rustix::pty::OpenptFlags;

/// No terminal, where a number of one could be.
const NONE: u32 = u32::MAX;

/// A terminal, by our end of it.
pub(crate) struct Terminal {
    pub(crate) ours: OwnedFd,
    number: u32,
}

impl Terminal {
    pub(crate) fn open(window: Window) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&ours)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        resize(&ours, window)?;
        let mut number: libc::c_uint = 0;
        // SAFETY: the ioctl writes one number to a live local.
        let told = unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
        if told < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { ours, number }) }
    }
}

/// Tells a terminal its size.
pub(crate) fn resize(terminal: impl AsFd, window: Window) -> io::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: window.rows,
        ws_col: window.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// How a child is told of its terminal, or that it has none.
pub(crate) fn encode(terminal: Option<&Terminal>) -> [u8; 4] {
    terminal.map_or(NONE, |terminal| terminal.number).to_le_bytes()
}

/// In the child, which leads a session: makes the terminal its own, and its
/// standard streams.
pub(crate) fn take(encoded: [u8; 4]) -> io::Result<()> {
    let number = u32::from_le_bytes(encoded);
    if number == NONE {
        return Ok(());
    }
    let terminal =
        std::fs::File::options().read(true).write(true).open(format!("/dev/pts/{number}"))?;
    rustix::stdio::dup2_stdin(&terminal)?;
    rustix::stdio::dup2_stdout(&terminal)?;
    Ok(rustix::stdio::dup2_stderr(&terminal)?)
}
