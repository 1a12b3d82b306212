//! Descriptors that a QEMU inherits, and what it calls them.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The descriptors for one QEMU. They stay open here until it has started.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Adds a descriptor and returns its number, the same on both sides.
    pub(crate) fn add(&mut self, fd: impl Into<OwnedFd>) -> RawFd {
        self.0.push(fd.into());
        self.0[self.0.len() - 1].as_raw_fd()
    }

    /// All numbers.
    pub(crate) fn numbers(&self) -> Vec<RawFd> {
        self.0.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// A path under which a process can open its own descriptor again.
pub(crate) fn path_of(fd: RawFd) -> String {
    if cfg!(target_os = "linux") { format!("/proc/self/fd/{fd}") } else { format!("/dev/fd/{fd}") }
}
