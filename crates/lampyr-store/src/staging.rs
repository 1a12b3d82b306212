//! Directories that are made in `tmp/` and renamed into place.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

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
        let renamed = std::fs::rename(self.dir.path(), target);
        let replaces = renamed.as_ref().is_err_and(is_in_the_way);
        let done = if replaces { exchange(self.dir.path(), target) } else { renamed };
        done.map_err(at(target))?;
        // Only now: while it lies in `tmp/`, the lock says that it is alive.
        let lock = target.join("lock");
        std::fs::remove_file(&lock).map_err(at(&lock))?;
        if !replaces {
            // The name now belongs to the published directory; the guard must
            // not look for the old one.
            let _ = self.dir.keep();
        }
        Ok(())
    }
}

/// Whether a directory could not be renamed because there is one already.
fn is_in_the_way(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
}

/// Puts `new` in the place of `old`, and `old` in that of `new`: a kill at any
/// time leaves one of them where `old` was.
fn exchange(new: &Path, old: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => one_by_one(new, old),
        exchanged => Ok(exchanged?),
    }
}

/// The same where the file system knows no exchange: for a moment nothing is
/// where `old` was.
fn one_by_one(new: &Path, old: &Path) -> std::io::Result<()> {
    let aside = new.with_extension("before");
    std::fs::rename(old, &aside)?;
    let renamed = std::fs::rename(new, old);
    if renamed.is_err() {
        return std::fs::rename(&aside, old).and(renamed);
    }
    std::fs::rename(&aside, new)
}

/// The entries of a directory.
fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(at(dir))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(at(dir))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Part, Store};

    type Way = fn(&Path, &Path) -> std::io::Result<()>;

    #[test]
    fn what_is_replaced_is_there_until_the_new_one_is() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let target = store.dir(Part::Images).unwrap().join("x");
        let put = |number: usize| {
            let staging = store.stage().unwrap();
            std::fs::write(staging.path().join("x"), number.to_string()).unwrap();
            staging.place(&target).unwrap();
        };
        put(0);
        std::thread::scope(|scope| {
            let putting = scope.spawn(|| (1..500).for_each(put));
            while !putting.is_finished() {
                std::fs::read_dir(&target).unwrap();
            }
        });
        assert_eq!(std::fs::read_to_string(target.join("x")).unwrap(), "499");
        assert!(!target.join("lock").exists());
        assert!(list(&store.dir(Part::Tmp).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn both_ways_of_exchanging_do_the_same() {
        let ways: [Way; 2] = [exchange, one_by_one];
        for way in ways {
            let tmp = tempfile::tempdir().unwrap();
            let (new, old) = (tmp.path().join("new"), tmp.path().join("old"));
            for dir in [&new, &old] {
                std::fs::create_dir(dir).unwrap();
                std::fs::write(dir.join(dir.file_name().unwrap()), "").unwrap();
            }
            way(&new, &old).unwrap();
            assert!(old.join("new").exists() && new.join("old").exists());
            std::fs::remove_dir_all(&new).unwrap();
            assert!(way(&new, &old).is_err());
            assert!(old.join("new").exists());
        }
    }
}
