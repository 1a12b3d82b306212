//! The output of a process that goes on in a copy of its machine, where nobody
//! is who asked for it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::process::Process;

/// One output. It is read to its end, so that whoever writes does not wait for
/// ever.
pub(crate) struct Orphan(OwnedFd);

impl Orphan {
    /// What is left to hear of a process: its input ends, and its control group
    /// stays until it is empty.
    pub(crate) fn outputs_of(process: Process) -> Vec<Self> {
        let outputs = [process.stdout.fd, process.stderr.fd];
        outputs.into_iter().flatten().map(Self).collect()
    }

    /// What is to be watched.
    pub(crate) fn output(&self) -> &OwnedFd {
        &self.0
    }

    /// Reads what there is; returns whether that was the end.
    pub(crate) fn drain(&self, scratch: &mut [u8]) -> bool {
        loop {
            match rustix::io::read(&self.0, &mut *scratch) {
                Ok(n) if n > 0 => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Ok(_) | Err(_) => return true,
            }
        }
    }
}
