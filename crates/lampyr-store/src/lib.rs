//! The state directory: where everything lies, how it is born, who holds it.
//!
//! ```text
//! $LAMPYR_HOME/            0700
//!   format                 the version of this layout
//!   config.toml            the user's settings
//!   accel.json             which accelerator really works on this host
//!   kits/<digest>/         guest kernel and initramfs
//!   images/<name>/         root disks
//!   bases/<digest>/        root disks that only snapshots or VMs stand on
//!   blobs/                 what registries hold, by digest
//!   templates-v1/<key>/    machines to restore from
//!   snapshots/             saved machines by name, as an OCI image layout
//!   sandboxes/<id>/        one running sandbox each
//!   names/                 links from the names of sessions to their sandboxes
//!   ended/                 for each session or pool that there was, its id
//!   volumes/<name>/        directories that outlive the sandboxes they are in
//!   pools/<id>/            one keeper each, which holds VMs ready
//!   members/<key>.<id>     a VM that waits in the sandbox <id> to be claimed
//!   networks/<name>/       one private network each: a mark for each VM on it
//!   outputs/               whole outputs that were too long for an envelope
//!   qemu/<version>/        a QEMU of our own, where the system's is old
//!   locks/                 who makes what; never removed, or two could hold one
//!   tmp/                   everything is born here, synced, renamed
//! ```
//!
//! Invariants: whoever uses a sandbox or a half-made directory holds its lock
//! (`flock`), and a lock that can be taken belongs to nobody alive. A file
//! appears under its name whole or not at all.

mod atomic;
mod error;
mod lock;
mod staging;

use std::path::{Path, PathBuf};

pub use atomic::{read_json, write_atomic, write_json};
pub use error::{StoreError, at};
pub use lock::Lock;
pub use staging::Staging;

/// The version of the layout that this build reads and writes.
const FORMAT: &str = "1";

/// An opened state directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the state directory at `root`, making it where it is missing.
    ///
    /// Fails where it cannot be made private to this user, and where a newer
    /// Lampyr made it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        make_private(root)?;
        let store = Self { root: root.to_owned() };
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let path = self.root.join("format");
        match std::fs::read_to_string(&path) {
            Ok(found) if found.trim() == FORMAT => Ok(()),
            Ok(found) => Err(StoreError::Format { path, found: found.trim().to_owned() }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                write_atomic(&path, format!("{FORMAT}\n").as_bytes())
            }
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A part of the store that is a directory, made where it is missing.
    pub fn dir(&self, part: Part) -> Result<PathBuf, StoreError> {
        let path = self.root.join(part.name());
        std::fs::create_dir_all(&path).map_err(at(&path))?;
        Ok(path)
    }

    /// Where the verdict on this host's accelerators is remembered.
    pub fn accel_file(&self) -> PathBuf {
        self.root.join("accel.json")
    }

    /// A new directory under `tmp/`, locked, to be renamed into place when it
    /// is whole; dropped before that, it is removed.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        Staging::new(&self.dir(Part::Tmp)?)
    }

    /// Takes a directory away. A kill at any time leaves all of it, or none for
    /// anybody to find.
    pub fn take_away(&self, dir: &Path) -> Result<(), StoreError> {
        let staging = self.stage()?;
        let aside = staging.path().join("gone");
        std::fs::rename(dir, &aside).map_err(at(dir))?;
        std::fs::remove_dir_all(&aside).map_err(at(&aside))
    }

    /// Waits until this process alone may make the thing called `name`.
    pub fn making(&self, name: &str) -> Result<Lock, StoreError> {
        Lock::wait(&self.dir(Part::Locks)?.join(name))
    }

    /// Makes sure that nobody else makes or shares the thing called `name`; at
    /// once, or not at all.
    pub fn alone(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        Lock::try_take(&self.dir(Part::Locks)?.join(name))
    }

    /// Waits until nobody makes the thing called `name`, which then stays as
    /// it is while the lock is shared.
    pub fn sharing(&self, name: &str) -> Result<Lock, StoreError> {
        Lock::share(&self.dir(Part::Locks)?.join(name))
    }
}

/// The directories of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are drawn at the head of this file")]
pub enum Part {
    Kits,
    Images,
    Bases,
    Blobs,
    Templates,
    Snapshots,
    Sandboxes,
    Names,
    Ended,
    Volumes,
    Pools,
    Members,
    Networks,
    Outputs,
    Qemu,
    Locks,
    Tmp,
}

impl Part {
    /// The name of its directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kits => "kits",
            Self::Images => "images",
            Self::Bases => "bases",
            Self::Blobs => "blobs",
            Self::Templates => "templates-v1",
            Self::Snapshots => "snapshots",
            Self::Sandboxes => "sandboxes",
            Self::Names => "names",
            Self::Ended => "ended",
            Self::Volumes => "volumes",
            Self::Pools => "pools",
            Self::Members => "members",
            Self::Networks => "networks",
            Self::Outputs => "outputs",
            Self::Qemu => "qemu",
            Self::Locks => "locks",
            Self::Tmp => "tmp",
        }
    }
}

/// Makes `path` a directory that only this user can enter.
fn make_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
    let found = std::fs::metadata(path).map_err(at(path))?.permissions();
    if found.mode() & 0o777 != 0o700 {
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(path, private).map_err(at(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_store_is_private_and_refuses_a_newer_format() {
        let tmp = tempfile::tempdir().unwrap();
        let home = tmp.path().join("home");
        Store::open(&home).unwrap();
        let mode = std::fs::metadata(&home).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(home.join("format"), "2\n").unwrap();
        assert!(
            matches!(Store::open(&home), Err(StoreError::Format { found, .. }) if found == "2")
        );
    }

    #[test]
    fn staging_is_removed_unless_it_is_published() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let lost = store.stage().unwrap().path().to_owned();
        assert!(!lost.exists());

        let staging = store.stage().unwrap();
        std::fs::write(staging.path().join("x"), "1").unwrap();
        let target = store.dir(Part::Kits).unwrap().join("k");
        staging.publish(&target).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("x")).unwrap(), "1");
        assert!(!target.join("lock").exists());
    }

    #[test]
    fn a_held_lock_cannot_be_taken_twice() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("lock");
        let held = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }
}
