//! A place to unpack hostile archives in, with a canary beside the target.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory of our own: `inner/target` is for archives, `inner/canary` is
/// to stay as it is, and nothing else is ever to appear.
pub(crate) struct Room {
    outer: TempDir,
    outside: Vec<Trace>,
}

/// A path and all of it that a stray archive could change.
type Trace = (PathBuf, u32, u64, i64, i64, Vec<u8>);

impl Room {
    pub(crate) fn new() -> Self {
        let outer = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory: {error}"));
        let mut room = Self { outer, outside: Vec::new() };
        let canary = room.canary();
        sure(&canary, fs::create_dir_all(&canary));
        sure(&canary, fs::write(canary.join("f"), "sings"));
        room.outside = room.look();
        room
    }

    /// Panics if anything but the target is not as it was in the beginning.
    pub(crate) fn check_outside(&self) {
        assert_eq!(self.look(), self.outside, "something outside the target has changed");
    }

    pub(crate) fn canary(&self) -> PathBuf {
        self.inner().join("canary")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.inner().join("target")
    }

    /// Where an archive of the target may be unpacked once more, under the
    /// same name.
    pub(crate) fn twin(&self) -> PathBuf {
        self.outer.path().join("twin/target")
    }

    fn inner(&self) -> PathBuf {
        self.outer.path().join("inner")
    }

    /// Everything but the target, and the directory that it comes and goes in.
    fn look(&self) -> Vec<Trace> {
        let (inner, target) = (self.inner(), self.target());
        let (mut found, mut left) = (Vec::new(), children(self.outer.path()));
        while let Some(path) = left.pop() {
            if path != target && path.is_dir() && !path.is_symlink() {
                left.extend(children(&path));
            }
            if path != target && path != inner {
                found.push(trace(path));
            }
        }
        found
    }

    /// Removes what was unpacked.
    pub(crate) fn clear(&self) {
        for path in [self.target(), self.outer.path().join("twin")] {
            if path.is_file() {
                sure(&path, fs::remove_file(&path));
            } else if path.exists() && fs::remove_dir_all(&path).is_err() {
                open_up(&path);
                sure(&path, fs::remove_dir_all(&path));
            }
        }
    }
}

/// Lets us into each directory, whatever mode its archive gave it.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    let below = children(path).into_iter();
    below.filter(|child| child.is_dir() && !child.is_symlink()).for_each(|child| open_up(&child));
}

/// What is in a directory, in order.
fn children(path: &Path) -> Vec<PathBuf> {
    let entries = sure(path, fs::read_dir(path)).flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn trace(path: PathBuf) -> Trace {
    let meta = sure(&path, path.symlink_metadata());
    let bytes = fs::read(&path).unwrap_or_default();
    (path, meta.mode(), meta.nlink(), meta.ctime(), meta.ctime_nsec(), bytes)
}

/// What has to work where nothing hostile is near.
pub(crate) fn sure<T>(path: &Path, result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("cannot use {}: {error}", path.display()))
}
