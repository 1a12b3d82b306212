//! The parts of a file that hold data; between them lie holes.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The greatest number of extents that a file is described with.
pub(crate) const MAX_EXTENTS: usize = 1 << 16;

/// A run of data in a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// The extents of a file without holes.
pub(crate) fn whole(size: u64) -> Vec<Extent> {
    vec![Extent { start: 0, len: size }]
}

/// Finds the data in the first `size` bytes of `file`. Where the file system
/// does not tell, all of it counts as data.
pub(crate) fn find(file: &File, size: u64) -> Vec<Extent> {
    let sparse = file.metadata().is_ok_and(|meta| meta.blocks().saturating_mul(512) < size);
    if !sparse {
        return whole(size);
    }
    search(file, size).unwrap_or_else(|_| whole(size))
}

fn search(file: &File, size: u64) -> Result<Vec<Extent>, Errno> {
    let mut found = Vec::new();
    let mut position = 0;
    while let Some(start) = next_data(file, position)?.filter(|&start| start < size) {
        let last = found.len() + 1 == MAX_EXTENTS;
        let end = if last { size } else { seek(file, SeekFrom::Hole(start))?.min(size) };
        if end <= start {
            break; // The file changed under us; what is missing is found on reading.
        }
        found.push(Extent { start, len: end - start });
        position = end;
    }
    Ok(found)
}

fn next_data(file: &File, from: u64) -> Result<Option<u64>, Errno> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        Err(e) => Err(e),
    }
}
