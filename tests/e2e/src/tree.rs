//! Trees of many small files: planted, and looked at again.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::entries;

/// A tree of this many small files, each different.
pub fn plant(root: &Path, files: usize) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
    for i in 0..files {
        let dir = root.join(format!("d{}/e{}", i % 10, i / 10 % 50));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("f{i}"));
        fs::write(&path, format!("{i}\n").repeat(i % 40)).unwrap();
        let mode = [0o644, 0o600, 0o755][i % 3];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let file = File::options().read(true).open(&path).unwrap();
        file.set_modified(long_ago + Duration::from_millis(i as u64)).unwrap();
        if i % 50 == 0 {
            symlink(format!("f{i}"), dir.join(format!("l{i}"))).unwrap();
        }
    }
}

/// What is to stay the same of one thing in a tree: its name, its mode, its time
/// and its contents.
pub type Looks = (PathBuf, u32, (i64, i64), Vec<u8>);

/// All that is to stay the same of a tree, sorted by name.
pub fn look(root: &Path) -> Vec<Looks> {
    let mut seen = Vec::new();
    look_at(root, root, &mut seen);
    seen
}

fn look_at(root: &Path, at: &Path, seen: &mut Vec<Looks>) {
    let mut paths = entries(at);
    paths.sort();
    for path in paths {
        let meta = path.symlink_metadata().unwrap();
        let contents = if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if meta.is_dir() {
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        let name = path.strip_prefix(root).unwrap().to_owned();
        seen.push((name, meta.mode(), (meta.mtime(), meta.mtime_nsec()), contents));
        if meta.is_dir() {
            look_at(root, &path, seen);
        }
    }
}
