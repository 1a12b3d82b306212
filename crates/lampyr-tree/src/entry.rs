//! One entry of an archive, and which names it may have.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, RawMode, Stat, Timespec, Timestamps, UTIME_OMIT};

use crate::extent::Extent;

/// The size of a tar block in bytes.
pub(crate) const BLOCK: u64 = 512;
/// The name that opens the archive of a tree.
pub(crate) const ROOT: &[u8] = b"./";
/// The longest name, and the longest link target, in bytes.
pub(crate) const MAX_PATH: usize = 4096;
/// The longest single component of a name in bytes.
const MAX_COMPONENT: usize = 255;
/// The greatest number of components in a name.
pub(crate) const MAX_DEPTH: usize = 256;

/// One thing in a tree.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) stamp: Stamp,
    pub(crate) kind: Kind,
}

/// What an entry is.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory,
    /// Where the link points, any bytes but NUL.
    Symlink(Vec<u8>),
    /// `size` bytes, zeros except in `data`, which is in order.
    File {
        size: u64,
        data: Vec<Extent>,
    },
}

/// Permissions and time of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    mode: RawMode,
    pub(crate) time: Time,
}

impl Stamp {
    /// Keeps only the permission bits of `mode`: no setuid, setgid or sticky.
    pub(crate) fn new(mode: u32, time: Time) -> Self {
        Self { mode: (mode & 0o777) as RawMode, time }
    }

    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the types of these fields differ by platform"
    )]
    pub(crate) fn of(stat: &Stat) -> Self {
        let time = Time { sec: stat.st_mtime as i64, nsec: stat.st_mtime_nsec as u32 };
        Self::new(u32::from(stat.st_mode), time)
    }

    /// The permission bits, at most 0o777.
    #[allow(clippy::useless_conversion, reason = "the type differs by platform")]
    pub(crate) fn bits(self) -> u32 {
        u32::from(self.mode)
    }

    /// Gives an open file or directory this mode and time, whatever the umask.
    pub(crate) fn apply(self, file: &File) -> io::Result<()> {
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))?;
        Ok(rustix::fs::futimens(file, &self.time.stamps())?)
    }
}

/// A modification time: seconds since 1970, and nanoseconds after them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) sec: i64,
    pub(crate) nsec: u32,
}

impl Time {
    /// This modification time, with the access time left as it is.
    pub(crate) fn stamps(self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.sec, tv_nsec: self.nsec.into() },
        }
    }
}

/// Takes a name apart, or says why no tree may hold it. One slash may end it.
pub(crate) fn components(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if name.len() > MAX_PATH {
        return Err("its name is too long");
    }
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let parts: Vec<&[u8]> = name.split(|&byte| byte == b'/').collect();
    if parts.len() > MAX_DEPTH {
        return Err("it lies too deep");
    }
    parts.iter().try_for_each(|part| check(part))?;
    Ok(parts)
}

fn check(part: &[u8]) -> Result<(), &'static str> {
    match part {
        b"" => Err("its name is absolute, or has an empty part"),
        b"." | b".." => Err("its name has a part that is '.' or '..'"),
        _ if part.contains(&0) => Err("its name contains a NUL byte"),
        _ if part.len() > MAX_COMPONENT => Err("a part of its name is too long"),
        _ => Ok(()),
    }
}

/// How many bytes fill `size` up to a whole block.
pub(crate) fn padding(size: u64) -> usize {
    ((BLOCK - size % BLOCK) % BLOCK) as usize
}
