//! Where a file's blocks lie, and the tree that says so on the disk.

use crate::disk::Disk;
use crate::space::{Run, Space};
use crate::{BLOCK, Ext4Error};

/// The longest extent in blocks.
const LONGEST: u64 = 32768;
/// Entries in an inode.
const IN_INODE: usize = 4;
/// Entries in a block.
const IN_BLOCK: usize = (BLOCK as usize - 12) / 12;

/// Blocks of a file that follow each other on the disk, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first block's place in the file.
    pub(crate) logical: u32,
    pub(crate) start: u32,
    pub(crate) len: u16,
}

impl Extent {
    pub(crate) fn run(self) -> Run {
        Run { start: u64::from(self.start), len: u64::from(self.len) }
    }
}

/// Adds a run of blocks to the end of a list.
pub(crate) fn push(extents: &mut Vec<Extent>, logical: u64, run: Run) {
    let mut left = run;
    let mut logical = logical;
    if let Some(last) = extents.last_mut() {
        let follows = u64::from(last.logical) + u64::from(last.len) == logical
            && u64::from(last.start) + u64::from(last.len) == run.start;
        let room = if follows { LONGEST - u64::from(last.len) } else { 0 };
        let joined = room.min(left.len);
        last.len += joined as u16;
        left = Run { start: left.start + joined, len: left.len - joined };
        logical += joined;
    }
    while left.len > 0 {
        let len = left.len.min(LONGEST);
        extents.push(Extent { logical: logical as u32, start: left.start as u32, len: len as u16 });
        left = Run { start: left.start + len, len: left.len - len };
        logical += len;
    }
}

/// The root of a tree of extents as it stands in an inode.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) bytes: [u8; 60],
    /// Blocks that the tree itself takes.
    pub(crate) blocks: u64,
}

/// Writes the tree of a list of extents as far as it does not fit an inode.
pub(crate) fn write(
    extents: &[Extent],
    space: &mut Space,
    disk: &mut Disk,
) -> Result<Root, Ext4Error> {
    let mut level: Vec<(u32, [u8; 12])> = extents.iter().map(|e| (e.logical, leaf(*e))).collect();
    let (mut depth, mut blocks) = (0, 0);
    while level.len() > IN_INODE {
        let mut above = Vec::with_capacity(level.len().div_ceil(IN_BLOCK));
        for entries in level.chunks(IN_BLOCK) {
            let block = space.take(1)?.start;
            disk.write(block, &node::<{ BLOCK as usize }>(entries, IN_BLOCK, depth))?;
            let first = entries.first().map_or(0, |entry| entry.0);
            above.push((first, index(first, block)));
        }
        blocks += above.len() as u64;
        level = above;
        depth += 1;
    }
    Ok(Root { bytes: node(&level, IN_INODE, depth), blocks })
}

fn leaf(extent: Extent) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&extent.logical.to_le_bytes());
    bytes[4..6].copy_from_slice(&extent.len.to_le_bytes());
    bytes[8..].copy_from_slice(&extent.start.to_le_bytes());
    bytes
}

fn index(logical: u32, block: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&logical.to_le_bytes());
    bytes[4..8].copy_from_slice(&(block as u32).to_le_bytes());
    bytes
}

fn node<const N: usize>(entries: &[(u32, [u8; 12])], most: usize, depth: u16) -> [u8; N] {
    let mut bytes = [0; N];
    let head = [0xf30a, entries.len() as u16, most as u16, depth];
    for (place, number) in bytes.chunks_exact_mut(2).zip(head) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    for (place, (_, entry)) in bytes[12..].chunks_exact_mut(12).zip(entries) {
        place.copy_from_slice(entry);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_joined_up_to_the_longest_extent() {
        let mut extents = Vec::new();
        push(&mut extents, 0, Run { start: 100, len: 30_000 });
        push(&mut extents, 30_000, Run { start: 30_100, len: 40_000 });
        let starts: Vec<_> = extents.iter().map(|e| (e.logical, e.start, e.len)).collect();
        assert_eq!(starts, [(0, 100, 32768), (32768, 32868, 32768), (65536, 65636, 4464)]);
        push(&mut extents, 80_000, Run { start: 70_100, len: 1 });
        assert_eq!(extents.len(), 4);
    }
}
