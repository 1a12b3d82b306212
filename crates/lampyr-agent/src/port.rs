//! The channel as the agent has it: non-blocking bytes in and out.

use std::array;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Output waits here while the host does not read. Data is only added below
/// this mark, so that the buffer stays within it and a few messages.
const HIGH_WATER: usize = 512 * 1024;

/// What the port gives at once, in bytes.
const PAGE: usize = 4096;
/// How many of these are asked for in one call.
const PAGES: usize = 64;

/// Whether the host has said more than was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Perhaps,
    Later,
    /// Nobody is at the other end.
    Never,
}

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

    /// Reads what is there until the buffer is full: how much that was, and
    /// whether there is more.
    pub(crate) fn read_all(&self, buffer: &mut [u8]) -> io::Result<(usize, More)> {
        let mut filled = 0;
        while filled < buffer.len() {
            // The port gives a page at a time, but page after page where it is
            // asked for several in one call.
            let mut pages: [_; PAGES] = array::from_fn(|_| IoSliceMut::new(&mut []));
            let slots = pages.iter_mut().zip(buffer[filled..].chunks_mut(PAGE));
            slots.for_each(|(slot, page)| *slot = IoSliceMut::new(page));
            match rustix::io::readv(&self.fd, &mut pages) {
                Ok(0) => return Ok((filled, More::Never)),
                Ok(n) => filled += n,
                Err(Errno::AGAIN) => return Ok((filled, More::Later)),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok((filled, More::Perhaps))
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
