//! Inodes as they stand in their table.

use crate::INODE;
use crate::bytes::Record;
use crate::tree::{Meta, Time};

/// The file's blocks are a tree of extents.
pub(crate) const EXTENTS: u32 = 0x8_0000;

/// The highest bits of a mode: what a file is.
pub(crate) mod format {
    pub(crate) const FIFO: u16 = 0x1000;
    pub(crate) const CHARACTER: u16 = 0x2000;
    pub(crate) const DIRECTORY: u16 = 0x4000;
    pub(crate) const BLOCK: u16 = 0x6000;
    pub(crate) const FILE: u16 = 0x8000;
    pub(crate) const SYMLINK: u16 = 0xa000;
}

/// What an inode says besides its file's [`Meta`].
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) format: u16,
    pub(crate) links: u16,
    pub(crate) flags: u32,
    pub(crate) size: u64,
    /// Blocks that belong to it, of whatever kind.
    pub(crate) blocks: u64,
    /// The block of its extended attributes, or 0.
    pub(crate) attributes: u64,
    /// Its extents, a short link, or the numbers of a device.
    pub(crate) place: [u8; 60],
}

/// The moments that an inode can say: 34 bits from 1901 on.
const FIRST: i64 = i32::MIN as i64;
const LAST: i64 = FIRST + (1 << 34) - 1;

pub(crate) fn encode(meta: &Meta, facts: &Facts) -> [u8; INODE as usize] {
    let mut inode = Record::<{ INODE as usize }>::new();
    let sectors = facts.blocks * 8;
    inode.u16(0x00, facts.format | meta.mode & 0o7777);
    inode.u16(0x02, meta.uid as u16);
    inode.u32(0x04, facts.size as u32);
    inode.u16(0x18, meta.gid as u16);
    inode.u16(0x1a, facts.links);
    inode.u32(0x1c, sectors as u32);
    inode.u32(0x20, facts.flags);
    inode.put(0x28, &facts.place);
    inode.u32(0x68, facts.attributes as u32);
    inode.u32(0x6c, (facts.size >> 32) as u32);
    inode.u16(0x74, (sectors >> 32) as u16);
    inode.u16(0x78, (meta.uid >> 16) as u16);
    inode.u16(0x7a, (meta.gid >> 16) as u16);
    inode.u16(0x80, 32);
    // Accessed, changed, modified, created.
    for (at, more) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
        let (low, high) = time(meta.time);
        inode.u32(at, low);
        inode.u32(more, high);
    }
    inode.0
}

/// A moment: 32 bits of seconds; two more and the nanoseconds.
fn time(time: Time) -> (u32, u32) {
    let sec = time.sec.clamp(FIRST, LAST);
    let low = sec as u32;
    let more = (sec - i64::from(low as i32)) >> 32;
    (low, time.nsec.min(999_999_999) << 2 | more as u32 & 3)
}

/// The numbers of a device, in the first or the second word.
pub(crate) fn device(major: u32, minor: u32) -> [u8; 60] {
    let mut place = Record::<60>::new();
    if major < 256 && minor < 256 {
        place.u32(0, major << 8 | minor);
    } else {
        place.u32(4, minor & 0xff | major << 8 | (minor & !0xff) << 12);
    }
    place.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_beyond_32_bits_are_kept() {
        let at = |sec, nsec| time(Time { sec, nsec });
        assert_eq!(at(0, 0), (0, 0));
        assert_eq!(at(-1, 5), (u32::MAX, 5 << 2));
        assert_eq!(at(1 << 31, 0), (1 << 31, 1));
        assert_eq!(at(i64::MAX, 0), at(LAST, 0));
        assert_eq!(at(i64::MIN, 0), (1 << 31, 0));
    }
}
