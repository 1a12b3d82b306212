//! Liveness by `flock`: the kernel lets go when the last holder is gone,
//! however it went, so a process id that was used again cannot fool us.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::{StoreError, at};

/// A lock on a file, held until dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock at `path`, or `None` where somebody holds it.
    pub fn try_take(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(at(path)(e)),
        }
    }

    /// Takes the lock at `path`, waiting for whoever holds it. The wait ends
    /// when that process does, whatever becomes of it.
    pub fn wait(path: &Path) -> Result<Self, StoreError> {
        let file = Self::open(path)?;
        file.lock().map_err(at(path))?;
        Ok(Self(file))
    }

    /// Shares the lock at `path` with others that share it, waiting for whoever
    /// holds it alone.
    pub fn share(path: &Path) -> Result<Self, StoreError> {
        let file = Self::open(path)?;
        file.lock_shared().map_err(at(path))?;
        Ok(Self(file))
    }

    fn open(path: &Path) -> Result<File, StoreError> {
        File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(at(path))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
