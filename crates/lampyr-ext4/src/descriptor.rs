//! What a file system knows of each of its groups.

use crate::bytes::Record;

/// A group of blocks and inodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) block_bitmap: u64,
    pub(crate) inode_bitmap: u64,
    pub(crate) inode_table: u64,
    pub(crate) free_blocks: u64,
    pub(crate) free_inodes: u32,
    pub(crate) directories: u32,
}

impl Group {
    pub(crate) fn encode(&self) -> [u8; 32] {
        let mut bytes = Record::<32>::new();
        bytes.u32(0, self.block_bitmap as u32);
        bytes.u32(4, self.inode_bitmap as u32);
        bytes.u32(8, self.inode_table as u32);
        bytes.u16(12, self.free_blocks as u16);
        bytes.u16(14, self.free_inodes as u16);
        bytes.u16(16, self.directories as u16);
        bytes.0
    }
}
