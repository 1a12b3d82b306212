//! Contents on their way past the page cache. In a guest every page of a cache
//! is paid for twice: the host has a cache of its own below the disk, and room
//! for more has to be made in the guest's memory first.

use std::fs::File;

/// What the system wants places, lengths and memory to be multiples of, in
/// bytes.
pub(crate) const PAGE: u64 = 4096;
/// A run of data shorter than this is better off in the cache, in bytes.
const WORTH: u64 = 1 << 20;
/// Contents are moved in pieces of this many bytes.
const PIECE: usize = 1 << 16;
/// The same past the cache, where each is a request to the disk.
const DIRECT_PIECE: usize = 1 << 20;

/// Whether contents go through the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    Used,
    /// Long runs of data pass it by, where the file system can do that.
    Passed,
}

impl Cache {
    /// How many of the first bytes of a run at `start` pass the cache by; the
    /// file is then ready for it.
    pub(crate) fn bypass(self, file: &File, start: u64, len: u64) -> u64 {
        let worth = self == Self::Passed && len >= WORTH && start.is_multiple_of(PAGE);
        if worth && set(file, true) { len - len % PAGE } else { 0 }
    }

    /// Memory for pieces of contents.
    pub(crate) fn buffer(self) -> Buffer {
        let len = if self == Self::Passed { DIRECT_PIECE } else { PIECE };
        let bytes = vec![0; len + PAGE as usize];
        let start = bytes.as_ptr().align_offset(PAGE as usize).min(PAGE as usize);
        Buffer { bytes, start, len }
    }
}

/// What follows goes through the cache again.
pub(crate) fn end(file: &File) {
    set(file, false);
}

/// Memory that begins with a page.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Says how the file is to be used from now on; whether the system does it.
#[cfg(target_os = "linux")]
fn set(file: &File, direct: bool) -> bool {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(file).map(|mut flags| {
        flags.set(OFlags::DIRECT, direct);
        flags
    });
    flags.and_then(|flags| fcntl_setfl(file, flags)).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn set(_file: &File, _direct: bool) -> bool {
    false
}

/// Whether the cache has what lies at `start`: then it is the shorter way.
#[cfg(target_os = "linux")]
pub(crate) fn is_cached(file: &File, start: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut byte = [0];
    let mut into = [std::io::IoSliceMut::new(&mut byte)];
    preadv2(file, &mut into, start, ReadWriteFlags::NOWAIT).is_ok_and(|n| n > 0)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_cached(_file: &File, _start: u64) -> bool {
    true
}
