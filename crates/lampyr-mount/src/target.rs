//! One file that something is done to: by its name in an open directory, or
//! by an open file where it has no name any more.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timestamps, Uid, chownat, fchmod, fchown, fstat, futimens, statat,
    utimensat,
};

use crate::errno::Errno;
use crate::sys;

/// A file.
#[derive(Debug)]
pub(crate) enum Target {
    Named(OwnedFd, Vec<u8>),
    Open(Arc<File>),
}

const ITSELF: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

impl Target {
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        Ok(match self {
            Self::Named(dir, name) => statat(dir, name.as_slice(), ITSELF)?,
            Self::Open(file) => fstat(file)?,
        })
    }

    pub(crate) fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Named(dir, name) => sys::chmod(dir, name, mode)?,
            Self::Open(file) => fchmod(file, mode)?,
        }
        Ok(())
    }

    pub(crate) fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Named(dir, name) => chownat(dir, name.as_slice(), uid, gid, ITSELF)?,
            Self::Open(file) => fchown(file, uid, gid)?,
        }
        Ok(())
    }

    pub(crate) fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Named(dir, name) => utimensat(dir, name.as_slice(), times, ITSELF)?,
            Self::Open(file) => futimens(file, times)?,
        }
        Ok(())
    }
}
