//! The block that says what the rest is.

use crate::bytes::Record;
use crate::{DESCRIPTOR_BLOCKS, FIRST_INODE, GROUP, INODE};

/// Extended attributes, room to grow, directories with an index.
const COMPATIBLE: u32 = 0x8 | 0x10 | 0x20;
/// Kinds in directories, extents, bitmaps and tables anywhere.
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x200;
/// Few copies, large and huge files, many links of directories, large inodes.
const READ_ONLY: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40;
/// Extended attributes for users, and lists of access rights.
const MOUNTED_WITH: u32 = 0x4 | 0x8;

/// What differs from one file system to the next.
#[derive(Debug)]
pub(crate) struct Superblock {
    pub(crate) identity: [u8; 16],
    pub(crate) label: &'static str,
    pub(crate) blocks: u64,
    pub(crate) free_blocks: u64,
    pub(crate) inodes: u32,
    pub(crate) free_inodes: u32,
    pub(crate) inodes_a_group: u32,
    pub(crate) descriptor_blocks: u64,
}

impl Superblock {
    /// The copy in a group. It lies 1024 bytes into the first block of all,
    /// and at the beginning of a block elsewhere.
    pub(crate) fn encode(&self, group: u64) -> [u8; 1024] {
        let mut sb = Record::<1024>::new();
        sb.u32(0x00, self.inodes);
        sb.u32(0x04, self.blocks as u32);
        sb.u32(0x0c, self.free_blocks as u32);
        sb.u32(0x10, self.free_inodes);
        sb.u32(0x18, 2);
        sb.u32(0x1c, 2);
        sb.u32(0x20, GROUP as u32);
        sb.u32(0x24, GROUP as u32);
        sb.u32(0x28, self.inodes_a_group);
        sb.u16(0x36, u16::MAX);
        sb.u16(0x38, 0xef53);
        sb.u16(0x3a, 1);
        sb.u16(0x3c, 1);
        sb.u32(0x4c, 1);
        sb.u32(0x54, FIRST_INODE);
        sb.u16(0x58, INODE as u16);
        sb.u16(0x5a, group as u16);
        sb.u32(0x5c, COMPATIBLE);
        sb.u32(0x60, INCOMPATIBLE);
        sb.u32(0x64, READ_ONLY);
        sb.put(0x68, &self.identity);
        sb.put(0x78, self.label.as_bytes());
        sb.u16(0xce, (DESCRIPTOR_BLOCKS - self.descriptor_blocks) as u16);
        sb.put(0xec, &self.identity);
        // Names are hashed by half of MD4, and their bytes have no sign.
        sb.u8(0xfc, 1);
        sb.u32(0x160, 2);
        sb.u32(0x100, MOUNTED_WITH);
        sb.u16(0x15c, 32);
        sb.u16(0x15e, 32);
        // Groups come in sixteens.
        sb.u8(0x174, 4);
        sb.0
    }
}
