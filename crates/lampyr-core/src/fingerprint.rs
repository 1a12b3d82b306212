//! Whether a file is still what it was.
//!
//! A template's memory is too large to hash at each launch. But nothing
//! changes a file without changing what `stat` says of it, down to the
//! nanosecond of the inode's last change, which no program can set. So: a file
//! whose `stat` is as recorded is taken as it is; any other is hashed. A name
//! more or less changes an inode, too: each fork and snapshot links parts of a
//! template, and the launches after it would hash all of it. Where the number of
//! names is another one, the time of the last write decides.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What a file was when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    size: u64,
    digest: String,
    stat: Stat,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stat {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// How many names it has; 0 where older versions recorded none.
    #[serde(default)]
    links: u64,
}

impl Stat {
    /// Whether nothing happened to a file but that it got or lost names.
    fn differs_in_names(&self, now: &Self) -> bool {
        let but_names = Self { changed: now.changed, links: now.links, ..self.clone() };
        self.links != 0 && self.links != now.links && but_names == *now
    }
}

/// What became of a file since it was recorded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not touched.
    Same,
    /// It was touched, and its content is as it was; this is its new record.
    Touched(Fingerprint),
    /// It is another file.
    Changed,
}

impl Fingerprint {
    /// Records a file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let (size, stat) = look(file)?;
        Ok(Self { size, digest: digest(file, size)?, stat })
    }

    /// Compares a file with its record.
    pub(crate) fn check(&self, file: &File) -> io::Result<Verdict> {
        let (size, stat) = look(file)?;
        if size != self.size {
            return Ok(Verdict::Changed);
        }
        if stat == self.stat {
            return Ok(Verdict::Same);
        }
        if self.stat.differs_in_names(&stat) {
            return Ok(Verdict::Touched(Self { stat, ..self.clone() }));
        }
        let found = Self { size, digest: digest(file, size)?, stat };
        Ok(if found.digest == self.digest { Verdict::Touched(found) } else { Verdict::Changed })
    }
}

fn look(file: &File) -> io::Result<(u64, Stat)> {
    let meta = file.metadata()?;
    let modified = (meta.mtime(), meta.mtime_nsec());
    let changed = (meta.ctime(), meta.ctime_nsec());
    Ok((meta.len(), Stat { inode: meta.ino(), modified, changed, links: meta.nlink() }))
}

/// A digest of all that is not a hole, and where it lies. All-zero blocks
/// count as holes, so that the same content has one digest.
fn digest(file: &File, size: u64) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while let Some(start) = next_data(file, at, size) {
        // Whole blocks, wherever the file system says that data begins.
        at = start - start % buffer.len() as u64;
        let n = file.read_at(&mut buffer, at)?;
        if n == 0 {
            break;
        }
        if buffer[..n].iter().any(|b| *b != 0) {
            hasher.update(&at.to_le_bytes());
            hasher.update(&buffer[..n]);
        }
        at += n as u64;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Where there is data next, from `from` on.
fn next_data(file: &File, from: u64, size: u64) -> Option<u64> {
    if from >= size {
        return None;
    }
    match seek(file, SeekFrom::Data(from)) {
        Ok(at) => Some(at.max(from)),
        Err(Errno::NXIO) => None,
        // A file system without holes: all of it is data.
        Err(_) => Some(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(dir: &std::path::Path) -> File {
        let options = File::options().read(true).write(true).create(true).truncate(true).clone();
        let file = options.open(dir.join("f")).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"data", 33 << 20).unwrap();
        file
    }

    #[test]
    fn a_touched_file_is_told_from_a_changed_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = sparse(dir.path());
        let record = Fingerprint::of(&file).unwrap();
        assert_eq!(record.check(&file).unwrap(), Verdict::Same);

        file.set_modified(std::time::SystemTime::now()).unwrap();
        let Verdict::Touched(record) = record.check(&file).unwrap() else { panic!("touched") };
        assert_eq!(record.check(&file).unwrap(), Verdict::Same);

        for (at, len) in [(5 << 20, 64 << 20), (33 << 20, 64 << 20), (0, 63 << 20)] {
            let file = sparse(dir.path());
            let record = Fingerprint::of(&file).unwrap();
            file.write_all_at(b"X", at).unwrap();
            file.set_len(len).unwrap();
            assert_eq!(record.check(&file).unwrap(), Verdict::Changed, "{at} {len}");
        }
    }

    #[test]
    fn the_same_time_stamps_do_not_hide_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = sparse(dir.path());
        let record = Fingerprint::of(&file).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"Y", 33 << 20).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(record.check(&file).unwrap(), Verdict::Changed);
    }

    #[test]
    fn another_name_alone_is_no_reason_to_hash() {
        let dir = tempfile::tempdir().unwrap();
        let file = sparse(dir.path());
        let record = Fingerprint::of(&file).unwrap();
        // A digest that no content has shows whether the content was looked at.
        let unhashed = Fingerprint { digest: "none".into(), ..record.clone() };
        std::fs::hard_link(dir.path().join("f"), dir.path().join("g")).unwrap();
        let Verdict::Touched(linked) = unhashed.check(&file).unwrap() else { panic!("hashed") };
        assert_eq!(linked.check(&file).unwrap(), Verdict::Same);

        file.write_all_at(b"Y", 33 << 20).unwrap();
        assert_eq!(record.check(&file).unwrap(), Verdict::Changed);
        let old = Stat { links: 0, ..record.stat };
        assert!(!old.differs_in_names(&linked.stat), "what is not known says nothing");
    }
}
