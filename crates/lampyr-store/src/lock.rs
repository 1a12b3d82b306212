//! Liveness by `flock`: the kernel lets go when the last holder is gone,
//! however it went, so a process id that was used again cannot fool us.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
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

    /// Takes the lock at `path` together with others who share it, waiting for
    /// whoever holds it alone.
    pub fn share(path: &Path) -> Result<Self, StoreError> {
        let file = Self::open(path)?;
        file.lock_shared().map_err(at(path))?;
        Ok(Self(file))
    }

    /// As [`Self::wait`] does, for a lock whose file goes by [`Self::remove`].
    pub fn wait_again(path: &Path) -> Result<Self, StoreError> {
        loop {
            let lock = Self::wait(path)?;
            // One that was removed while we waited is nobody's any more.
            if lock.is_at(path) {
                return Ok(lock);
            }
        }
    }

    /// Lets go of the lock at `path`, and of its file. All who take it do so by
    /// [`Self::wait_again`].
    pub fn remove(self, path: &Path) {
        if self.is_at(path) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn is_at(&self, path: &Path) -> bool {
        let place = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let (own, there) = (self.0.metadata().map(place), path.metadata().map(place));
        matches!((own, there), (Ok(own), Ok(there)) if own == there)
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
