//! The directory of the host's that the guest sees, and as whose it sees it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat, fstat};
use rustix::process::{getegid, geteuid};

use crate::errno::Errno;
use crate::quota::Quota;
use crate::sys;

/// Who is nobody, to a guest.
const NOBODY: u32 = 65534;

/// A directory to be mounted.
#[derive(Debug)]
pub struct Export {
    root: OwnedFd,
    pub(crate) readonly: bool,
    pub(crate) quota: Option<Quota>,
    pub(crate) owners: Owners,
}

impl Export {
    /// Nothing outside of `dir` can be reached through it.
    pub fn open(dir: &Path, readonly: bool, quota: Option<Quota>) -> io::Result<Self> {
        let root = File::open(dir)?;
        if !root.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root: root.into(), readonly, quota, owners: Owners::of_process() })
    }

    /// Whether files belong to whom they say, so that the guest's kernel can
    /// check who may do what.
    pub fn has_owners(&self) -> bool {
        self.owners == Owners::True
    }

    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        Ok(fstat(&self.root)?)
    }

    /// Opens what is at a path.
    pub(crate) fn open_at(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        Ok(sys::open_beneath(&self.root, path, flags, mode)?)
    }

    /// Everything on the file system that it lies on.
    pub(crate) fn statvfs(&self) -> Result<rustix::fs::StatVfs, Errno> {
        Ok(rustix::fs::fstatvfs(self.root.as_fd())?)
    }

    /// How many bytes can still be written.
    pub(crate) fn room(&self) -> Option<u64> {
        let disk = self.statvfs().ok()?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let left = self.quota.as_ref().map(|quota| quota.limit().saturating_sub(quota.used()));
        Some(left.map_or(free, |left| left.min(free)))
    }

    /// Counts what something costs now, where it is counted.
    pub(crate) fn charge(&self, from: u64, to: u64) -> Result<(), Errno> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.change(from, to))
    }
}

/// Whose files are whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// We are root here: every file is whose it is.
    True,
    /// We are somebody: our files are root's in the guest, and whatever is
    /// made there is ours.
    Ours { uid: u32, gid: u32 },
}

impl Owners {
    fn of_process() -> Self {
        match (geteuid().as_raw(), getegid().as_raw()) {
            (0, _) => Self::True,
            (uid, gid) => Self::Ours { uid, gid },
        }
    }

    /// Who owns a file, to the guest.
    pub(crate) fn seen(self, uid: u32, gid: u32) -> (u32, u32) {
        let map = |id, own| if id == own { 0 } else { NOBODY };
        match self {
            Self::True => (uid, gid),
            Self::Ours { uid: own, gid: group } => (map(uid, own), map(gid, group)),
        }
    }

    /// Whether a file may be given to this user or group of the guest's, and
    /// who that is here.
    pub(crate) fn given(self, id: u32) -> Result<Option<u32>, Errno> {
        match self {
            Self::True => Ok(Some(id)),
            Self::Ours { .. } if id == 0 => Ok(None),
            Self::Ours { .. } => Err(Errno::PERM),
        }
    }
}
