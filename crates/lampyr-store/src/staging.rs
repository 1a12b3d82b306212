//! Directories that are made in `tmp/` and renamed into place.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::{Lock, StoreError, at};

/// A directory under `tmp/` that is being made. Dropping it removes it.
#[derive(Debug)]
pub struct Staging {
    dir: tempfile::TempDir,
    _lock: Lock,
}

impl Staging {
    pub(crate) fn new(tmp: &Path) -> Result<Self, StoreError> {
        let dir = tempfile::Builder::new().prefix("new-").tempdir_in(tmp).map_err(at(tmp))?;
        let lock = Lock::wait(&dir.path().join("lock"))?;
        Ok(Self { dir, _lock: lock })
    }

    /// Where to put the parts.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Syncs the parts and gives the directory its final name. Something that
    /// stands there already is replaced.
    pub fn publish(self, target: &Path) -> Result<(), StoreError> {
        for part in list(self.dir.path())? {
            File::open(&part).and_then(|f| f.sync_all()).map_err(at(&part))?;
        }
        self.place(target)
    }

    /// The same for what nobody wants any more after the host's next start: it
    /// need not be on the disk.
    pub fn place(self, target: &Path) -> Result<(), StoreError> {
        if target.exists() {
            std::fs::remove_dir_all(target).map_err(at(target))?;
        }
        std::fs::rename(self.dir.path(), target).map_err(at(target))?;
        // Only now: while it lies in `tmp/`, the lock says that it is alive.
        let lock = target.join("lock");
        std::fs::remove_file(&lock).map_err(at(&lock))?;
        // The name now belongs to the published directory; the guard must not
        // look for the old one.
        let _ = self.dir.keep();
        Ok(())
    }
}

/// The entries of a directory.
fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(at(dir))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(at(dir))).collect()
}
