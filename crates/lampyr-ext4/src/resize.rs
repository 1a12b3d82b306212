//! The map of the blocks that are kept for more group descriptors, with which
//! the kernel grows a mounted file system.
//!
//! The map is a file, inode 7. Its one doubly indirect block lists the blocks
//! in reserve in group 0, and each of these lists its own copies.

use std::io;

use crate::bytes::Record;
use crate::disk::Disk;
use crate::inode::{Facts, format};
use crate::space::{Run, copies};
use crate::{BLOCK, DESCRIPTOR_BLOCKS, GROUP};

/// How many block numbers fit a block.
const NUMBERS: u64 = BLOCK / 4;

/// Writes the map for a file system of `groups` and returns its inode.
pub(crate) fn write(map: Run, used: u64, groups: u64, disk: &mut Disk) -> io::Result<Facts> {
    let mut list = Record::<{ BLOCK as usize }>::new();
    for index in used..DESCRIPTOR_BLOCKS {
        let block = 1 + index;
        list.u32(4 * index as usize, block as u32);
        let mut own = Record::<{ BLOCK as usize }>::new();
        for (i, group) in copies(groups).enumerate() {
            own.u32(4 * i, (group * GROUP + block) as u32);
        }
        disk.write(block, &own.0)?;
    }
    disk.write(map.start, &list.0)?;
    let mut place = Record::<60>::new();
    place.u32(4 * 13, map.start as u32);
    let reserve = DESCRIPTOR_BLOCKS - used;
    Ok(Facts {
        format: format::FILE,
        links: 1,
        flags: 0,
        size: (NUMBERS * NUMBERS + NUMBERS + 12) * BLOCK,
        blocks: 1 + reserve * (1 + copies(groups).count() as u64),
        attributes: 0,
        place: place.0,
    })
}
