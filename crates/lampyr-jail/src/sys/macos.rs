use std::io;

/// macOS has no counterpart that a process can ask for before `exec`; the VM
/// ends when its channel to the owner does.
#[expect(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
pub(super) fn renounce() -> io::Result<()> {
    Ok(())
}
