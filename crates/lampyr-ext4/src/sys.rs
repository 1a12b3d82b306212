//! What differs between systems: holes in files.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::punch;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::punch;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes zeros, where no hole can be made.
fn write_zeros(file: &File, mut offset: u64, mut len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 16];
    while len > 0 {
        let piece = len.min(zeros.len() as u64);
        file.write_all_at(&zeros[..piece as usize], offset)?;
        (offset, len) = (offset + piece, len - piece);
    }
    Ok(())
}
