//! macOS: no symbolic link is followed, so that a path without `..` stays
//! beneath where it begins.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, chmodat, openat};
use rustix::io::{self, Errno};

use crate::errno;

/// How a directory is opened to name what is in it.
pub(crate) const DIRECTORY: OFlags = OFlags::DIRECTORY;

/// `O_NOFOLLOW_ANY`: no link in any component.
const NOFOLLOW_ANY: OFlags = OFlags::from_bits_retain(0x2000_0000);

/// Opens a path beneath `root`; a symbolic link on the way is an error.
pub(crate) fn open_beneath(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    openat(root, path, flags | NOFOLLOW_ANY | OFlags::CLOEXEC, mode)
}

/// Changes the permissions of an entry that is no symbolic link.
pub(crate) fn chmod(dir: impl AsFd, name: &[u8], mode: Mode) -> io::Result<()> {
    chmodat(dir, name, mode, AtFlags::SYMLINK_NOFOLLOW)
}

/// There is no safe way to make a FIFO or a socket in an open directory.
pub(crate) fn make_node(_: impl AsFd, _: &[u8], _: FileType, _: Mode) -> io::Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// There is no fallocate.
pub(crate) fn allocate(_: impl AsFd, _: u32, _: u64, _: u64) -> io::Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// Holes are not looked for.
pub(crate) fn seek(_: impl AsFd, _: u32, _: u64) -> io::Result<u64> {
    Err(Errno::INVAL)
}

/// A mode as a number.
pub(crate) fn bits(mode: RawMode) -> u32 {
    mode.into()
}

/// What Linux calls it.
pub(crate) fn linux(errno: Errno) -> errno::Errno {
    const TABLE: [(Errno, i32); 10] = [
        (Errno::AGAIN, 11),
        (Errno::DEADLK, 35),
        (Errno::NAMETOOLONG, 36),
        (Errno::NOTEMPTY, 39),
        (Errno::LOOP, 40),
        (Errno::OVERFLOW, 75),
        (Errno::OPNOTSUPP, 95),
        (Errno::NOTSUP, 95),
        (Errno::STALE, 116),
        (Errno::DQUOT, 122),
    ];
    let number = errno.raw_os_error();
    let named = TABLE.iter().find(|(mac, _)| *mac == errno).map(|(_, linux)| *linux);
    // Up to 34 both systems count alike, but for EAGAIN and EDEADLK.
    errno::Errno(named.unwrap_or(if number <= 34 { number } else { errno::Errno::IO.0 }))
}
