//! How much a volume may hold. The count is a file that everybody who has the
//! volume mounted shares, and changes under its lock.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::errno::Errno;

/// What a file costs is counted in blocks of this many bytes.
pub(crate) const BLOCK: u64 = 4096;

/// A bound for a volume.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    count: File,
}

impl Quota {
    /// At most `limit` bytes; `count` is the file that says how many there are.
    pub fn open(limit: u64, count: &Path) -> io::Result<Self> {
        Ok(Self { limit, count: File::options().read(true).write(true).open(count)? })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// How much is there.
    pub(crate) fn used(&self) -> u64 {
        let mut bytes = [0; 8];
        self.count.read_exact_at(&mut bytes, 0).map_or(0, |()| u64::from_le_bytes(bytes))
    }

    /// Something that cost `from` costs `to` now; refused where there is no
    /// room for it.
    pub(crate) fn change(&self, from: u64, to: u64) -> Result<(), Errno> {
        if from == to {
            return Ok(());
        }
        self.count.lock()?;
        let done = self.change_locked(from, to);
        self.count.unlock()?;
        done
    }

    fn change_locked(&self, from: u64, to: u64) -> Result<(), Errno> {
        let used = self.used().saturating_sub(from).saturating_add(to);
        if to > from && used > self.limit {
            return Err(Errno::NOSPC);
        }
        Ok(self.count.write_all_at(&used.to_le_bytes(), 0)?)
    }
}

/// What a file of this length costs: its length in whole blocks, and one for
/// its name. Holes count.
pub(crate) fn cost(length: u64) -> u64 {
    length.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

/// What everything in a directory costs.
pub fn weigh(dir: &Path) -> io::Result<u64> {
    let mut total = 0_u64;
    let mut linked = HashSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.nlink() > 1 && found.is_file() && !linked.insert((found.dev(), found.ino())) {
                continue;
            }
            total = total.saturating_add(cost(if found.is_file() { found.len() } else { 0 }));
            if found.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(total)
}

/// Writes what there is into the file that counts.
pub fn recount(dir: &Path, count: &Path) -> io::Result<()> {
    std::fs::write(count, weigh(dir)?.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_refused_and_not_counted() {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, count) = (tmp.path().join("data"), tmp.path().join("count"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a"), [0; 5000]).unwrap();
        recount(&dir, &count).unwrap();
        let quota = Quota::open(10 * BLOCK, &count).unwrap();
        assert_eq!(quota.used(), 3 * BLOCK);
        assert_eq!(quota.change(0, 8 * BLOCK), Err(Errno::NOSPC));
        quota.change(0, 7 * BLOCK).unwrap();
        let other = Quota::open(10 * BLOCK, &count).unwrap();
        assert_eq!(other.change(0, BLOCK), Err(Errno::NOSPC));
        quota.change(3 * BLOCK, 0).unwrap();
        assert_eq!(other.used(), 7 * BLOCK);
    }

    #[test]
    fn a_hole_without_end_costs_more_than_any_limit() {
        assert_eq!((cost(0), cost(1), cost(4096)), (4096, 8192, 8192));
        assert_eq!(cost(u64::MAX), u64::MAX);
    }
}
