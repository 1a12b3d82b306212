//! A private copy of a saved machine's memory.
//!
//! QEMU before 8.2 opens the memory for writing even to map it privately. As
//! a user of its own it may not do that to the file that all machines share;
//! so it gets a copy of its own, in memory, of what is not a hole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Copies `saved` to a file that has no name and goes with its last user.
pub(crate) fn copy(saved: &File) -> io::Result<File> {
    let copy = nameless()?;
    let size = saved.metadata()?.len();
    copy.set_len(size)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while let Some((start, end)) = extent(saved, at, size) {
        at = start;
        while at < end {
            let wanted = buffer.len().min((end - at) as usize);
            saved.read_exact_at(&mut buffer[..wanted], at)?;
            copy.write_all_at(&buffer[..wanted], at)?;
            at += wanted as u64;
        }
    }
    Ok(copy)
}

#[cfg(target_os = "linux")]
fn nameless() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("lampyr-memory", MemfdFlags::CLOEXEC)?.into())
}

/// Elsewhere no machine runs under a user of its own.
#[cfg(not(target_os = "linux"))]
fn nameless() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The next stretch of data at or behind `from`. A file system that knows no
/// holes has nothing but data.
fn extent(file: &File, from: u64, size: u64) -> Option<(u64, u64)> {
    if from >= size {
        return None;
    }
    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => Some((start, seek(file, SeekFrom::Hole(start)).unwrap_or(size))),
        Err(Errno::NXIO) => None,
        Err(_) => Some((from, size)),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let saved = tempfile::tempfile().unwrap();
        saved.set_len(64 << 20).unwrap();
        saved.write_all_at(&[7; 5000], 9 << 20).unwrap();
        saved.write_all_at(b"end", (64 << 20) - 3).unwrap();
        let copy = copy(&saved).unwrap();
        let (mut a, mut b) = (vec![0; 64 << 20], vec![0; 64 << 20]);
        saved.read_exact_at(&mut a, 0).unwrap();
        copy.read_exact_at(&mut b, 0).unwrap();
        assert!(a == b);
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
