//! The channel as the agent has it: non-blocking bytes in and out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Output waits here while the host does not read. Data is only added below
/// this mark, so that the buffer stays within it and a few messages.
const HIGH_WATER: usize = 512 * 1024;

pub(crate) struct Port {
    fd: OwnedFd,
    out: Vec<u8>,
    sent: usize,
}

impl Port {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, out: Vec::new(), sent: 0 })
    }

    /// Reads what is there; `None` when that is nothing yet, 0 when nobody is
    /// at the other end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Where to append what is to be sent.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether more data may be appended.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() - self.sent < HIGH_WATER
    }

    /// Sends what the other end takes now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match rustix::io::write(&self.fd, &self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.forget_output();
        Ok(())
    }

    /// Sends everything, waiting for the other end.
    pub(crate) fn flush_all(&mut self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        self.flush()?;
        while self.sent < self.out.len() {
            poll(&mut [PollFd::new(&self.fd, PollFlags::OUT)], None)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Drops what was not sent.
    pub(crate) fn forget_output(&mut self) {
        self.out.clear();
        self.sent = 0;
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
