use std::io;

use crate::Means;

/// macOS has no counterpart that a process can ask for before `exec`; the VM
/// ends when its channel to the owner does.
#[expect(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
pub(super) fn renounce() -> io::Result<()> {
    Ok(())
}

/// Our own descriptors are all closed on `exec` already; macOS has no call
/// that would close those of whoever started us.
#[allow(clippy::unnecessary_wraps, reason = "one signature on every system")]
pub(super) fn keep_nothing() -> io::Result<()> {
    Ok(())
}

/// There are none: see [`seal`].
pub(super) fn means() -> Means {
    Means { landlock: None, filter: None }
}

/// macOS has nothing of the kind that is meant for programs like ours.
#[allow(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
pub(super) fn seal() -> io::Result<()> {
    Ok(())
}
