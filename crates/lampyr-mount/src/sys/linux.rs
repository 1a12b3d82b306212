//! Linux: the kernel itself keeps a path beneath a directory.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, RawMode, ResolveFlags, SeekFrom, fallocate,
    mknodat, openat, openat2, statat,
};
use rustix::io::{self, Errno};

use crate::errno;

/// How a directory is opened to name what is in it.
pub(crate) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Opens a path beneath `root`; a symbolic link on the way is an error.
pub(crate) fn open_beneath(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    loop {
        // The kernel gives up where names change under it.
        match openat2(&root, path, flags, mode, beneath) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Changes the permissions of an entry that is no symbolic link.
pub(crate) fn chmod(dir: impl AsFd, name: &[u8], mode: Mode) -> io::Result<()> {
    let entry =
        openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = statat(&entry, "", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    // A descriptor that is only a place has no fchmod; its link in /proc has.
    let link = format!("/proc/self/fd/{}", entry.as_raw_fd());
    rustix::fs::chmod(link.as_str(), mode)
}

/// Makes a FIFO or a socket.
pub(crate) fn make_node(dir: impl AsFd, name: &[u8], kind: FileType, mode: Mode) -> io::Result<()> {
    mknodat(dir, name, kind, mode, 0)
}

/// Allocates room in a file, or takes it away; `mode` is fallocate's.
pub(crate) fn allocate(file: impl AsFd, mode: u32, offset: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
    fallocate(file, flags, offset, length)
}

/// Finds data or a hole; `whence` is lseek's.
pub(crate) fn seek(file: impl AsFd, whence: u32, offset: u64) -> io::Result<u64> {
    let to = match whence {
        3 => SeekFrom::Data(offset),
        4 => SeekFrom::Hole(offset),
        _ => return Err(Errno::INVAL),
    };
    rustix::fs::seek(file, to)
}

/// A mode as a number.
pub(crate) fn bits(mode: RawMode) -> u32 {
    mode
}

/// The number itself.
pub(crate) fn linux(errno: Errno) -> errno::Errno {
    errno::Errno(errno.raw_os_error())
}
