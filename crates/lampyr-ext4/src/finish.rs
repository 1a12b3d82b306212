//! From the tree in memory to a disk that can be mounted.

use crate::descriptor::Group;
use crate::directory::{Blocks, kind};
use crate::extent::{self, Extent};
use crate::inode::{self, EXTENTS, Facts, format};
use crate::space::{COPIES, Run, copies};
use crate::superblock::Superblock;
use crate::tree::{Body, Builder, Kind, Meta, NodeId};
use crate::{
    BLOCK, DESCRIPTORS_A_BLOCK, Ext4Error, FIRST_INODE, GROUP, INODE, MOST_BLOCKS, resize, xattr,
};

const ROOT_INODE: u32 = 2;
const RESIZE_INODE: u32 = 7;
const LOST: &[u8] = b"lost+found";
/// Inodes in a group where that is enough: one for each 8 KiB.
const USUAL_INODES: u32 = 16384;
/// As many as a bitmap has bits.
const MOST_INODES: u32 = 32768;

/// Files by their inode numbers, and where the tables are.
struct Numbered {
    /// The number of each node.
    numbers: Vec<u32>,
    /// The nodes in the order of their numbers.
    order: Vec<NodeId>,
    a_group: u32,
    tables: Vec<Run>,
}

impl Numbered {
    /// The highest number in use.
    fn last(&self) -> u32 {
        FIRST_INODE + (self.order.len() as u32).saturating_sub(2)
    }

    fn table_blocks(&self) -> u64 {
        u64::from(self.a_group) * INODE / BLOCK
    }

    /// Where an inode is, in bytes.
    fn place(&self, number: u32) -> Result<u64, Ext4Error> {
        let (group, index) = ((number - 1) / self.a_group, (number - 1) % self.a_group);
        let table = self.tables.get(group as usize).ok_or(Ext4Error::TooManyFiles)?;
        Ok(table.start * BLOCK + u64::from(index) * INODE)
    }
}

impl Builder {
    /// Writes all that is missing. `identity` is the file system's UUID;
    /// `size` says how large the disk is to be that holds so many bytes, and
    /// is made larger where that is too small.
    pub fn finish(
        mut self,
        identity: [u8; 16],
        label: &'static str,
        size: impl Fn(u64) -> u64,
    ) -> Result<(), Ext4Error> {
        self.add_lost()?;
        let mut numbered = self.number()?;
        let directories = self.write_nodes(&numbered)?;
        let groups = self.place_groups(&mut numbered, &size)?;
        let blocks = groups.len() as u64 * GROUP;
        let used = (groups.len() as u64).div_ceil(DESCRIPTORS_A_BLOCK);
        let map = resize::write(self.resize, used, groups.len() as u64, &mut self.disk)?;
        let bytes = inode::encode(&Meta { mode: 0o600, ..Meta::default() }, &map);
        self.disk.write_at(numbered.place(RESIZE_INODE)?, &bytes)?;
        let groups = self.write_bitmaps(groups, &numbered, &directories)?;
        self.write_copies(identity, label, &groups, &numbered)?;
        for run in self.space.freed().to_vec() {
            self.disk.clear(run.start, run.len)?;
        }
        Ok(self.disk.end(blocks)?)
    }

    /// What checks a file system wants a place to put what it finds.
    fn add_lost(&mut self) -> Result<(), Ext4Error> {
        let found = self.child(Self::ROOT, LOST);
        let is_directory = found.is_some_and(|node| self.entries(node).is_some());
        if !is_directory {
            let meta = Meta { mode: 0o700, ..self.node(Self::ROOT).meta.clone() };
            let meta = Meta { xattrs: std::collections::BTreeMap::new(), ..meta };
            self.add(Self::ROOT, LOST, meta, Kind::Directory)?;
        }
        Ok(())
    }

    /// Numbers the files: the root, what was lost, then all by their names,
    /// level by level; and places the tables that these fill.
    fn number(&mut self) -> Result<Numbered, Ext4Error> {
        let mut numbers = vec![0; self.nodes.len()];
        let mut order = vec![Self::ROOT];
        order.extend(self.child(Self::ROOT, LOST));
        let mut seen = 0;
        numbers[0] = ROOT_INODE;
        let mut next = FIRST_INODE;
        let mut give = |node: NodeId, numbers: &mut Vec<u32>| {
            let fresh = numbers[node.0 as usize] == 0;
            if fresh {
                numbers[node.0 as usize] = next;
                next += 1;
            }
            fresh
        };
        for node in order.iter().skip(1) {
            give(*node, &mut numbers);
        }
        while let Some(directory) = order.get(seen).copied() {
            for node in self.entries(directory).into_iter().flat_map(|all| all.values()) {
                if give(*node, &mut numbers) {
                    order.push(*node);
                }
            }
            seen += 1;
        }
        let a_group = self.inodes_a_group(next);
        let mut numbered = Numbered { numbers, order, a_group, tables: Vec::new() };
        for _ in 0..(numbered.last()).div_ceil(a_group) {
            numbered.tables.push(self.space.take_whole(numbered.table_blocks())?);
        }
        Ok(numbered)
    }

    /// Many small files want many inodes.
    fn inodes_a_group(&self, inodes: u32) -> u32 {
        let groups = self.space.end().div_ceil(GROUP);
        let enough = groups * u64::from(USUAL_INODES) * 3 / 4 > u64::from(inodes);
        if enough { USUAL_INODES } else { MOST_INODES }
    }

    /// Writes every inode and what belongs to it. Returns how many
    /// directories there are in each group.
    fn write_nodes(&mut self, numbered: &Numbered) -> Result<Vec<u32>, Ext4Error> {
        let mut directories = vec![0; numbered.tables.len()];
        for node in &numbered.order {
            let number = numbered.numbers[node.0 as usize];
            let facts = self.facts(*node, numbered)?;
            let group = ((number - 1) / numbered.a_group) as usize;
            directories[group] += u32::from(facts.format == format::DIRECTORY);
            let bytes = inode::encode(&self.node(*node).meta, &facts);
            self.disk.write_at(numbered.place(number)?, &bytes)?;
        }
        Ok(directories)
    }

    fn facts(&mut self, node: NodeId, numbered: &Numbered) -> Result<Facts, Ext4Error> {
        let mut facts = match &self.node(node).body {
            Body::Directory { .. } => self.directory(node, numbered)?,
            Body::File { size, extents } => {
                let (size, extents) = (*size, extents.clone());
                self.mapped(format::FILE, size, &extents)?
            }
            Body::Symlink(target) => {
                let target = target.clone();
                self.symlink(&target)?
            }
            Body::Character(major, minor) => {
                simple(format::CHARACTER, inode::device(*major, *minor))
            }
            Body::Block(major, minor) => simple(format::BLOCK, inode::device(*major, *minor)),
            Body::Fifo => simple(format::FIFO, [0; 60]),
        };
        if facts.format != format::DIRECTORY {
            facts.links = self.node(node).links as u16;
        }
        if !self.node(node).meta.xattrs.is_empty() {
            let block = xattr::block(&self.node(node).meta.xattrs)?;
            facts.attributes = self.space.take(1)?.start;
            facts.blocks += 1;
            self.disk.write(facts.attributes, &block)?;
        }
        Ok(facts)
    }

    fn directory(&mut self, node: NodeId, numbered: &Numbered) -> Result<Facts, Ext4Error> {
        let number = |node: NodeId| numbered.numbers[node.0 as usize];
        let mut blocks = Blocks::default();
        blocks.push(number(node), kind::DIRECTORY, b".");
        blocks.push(number(self.parent(node)), kind::DIRECTORY, b"..");
        let mut below = 0_u32;
        for (name, child) in self.entries(node).into_iter().flatten() {
            let kind = kind_of(&self.node(*child).body);
            below += u32::from(kind == kind::DIRECTORY);
            blocks.push(number(*child), kind, name);
        }
        let mut facts = self.written(format::DIRECTORY, &blocks.finish())?;
        // More than fit the count are said as one.
        facts.links = if below + 2 > 65_000 { 1 } else { (below + 2) as u16 };
        Ok(facts)
    }

    fn symlink(&mut self, target: &[u8]) -> Result<Facts, Ext4Error> {
        let size = target.len() as u64;
        let mut place = [0; 60];
        if target.len() >= place.len() {
            let mut block = [0; BLOCK as usize];
            block[..target.len()].copy_from_slice(target);
            return Ok(Facts { size, ..self.written(format::SYMLINK, &block)? });
        }
        place[..target.len()].copy_from_slice(target);
        Ok(Facts { size, ..simple(format::SYMLINK, place) })
    }

    /// Writes whole blocks as a file.
    fn written(&mut self, format: u16, bytes: &[u8]) -> Result<Facts, Ext4Error> {
        let mut extents = Vec::new();
        let mut left = bytes;
        while !left.is_empty() {
            let run = self.space.take(left.len() as u64 / BLOCK)?;
            let (piece, behind) = left.split_at((run.len * BLOCK) as usize);
            self.disk.write(run.start, piece)?;
            extent::push(&mut extents, (bytes.len() - left.len()) as u64 / BLOCK, run);
            left = behind;
        }
        self.mapped(format, bytes.len() as u64, &extents)
    }

    fn mapped(&mut self, format: u16, size: u64, extents: &[Extent]) -> Result<Facts, Ext4Error> {
        let root = extent::write(extents, &mut self.space, &mut self.disk)?;
        let blocks = root.blocks + extents.iter().map(|e| u64::from(e.len)).sum::<u64>();
        let place = root.bytes;
        Ok(Facts { format, links: 1, flags: EXTENTS, size, blocks, attributes: 0, place })
    }

    /// Finds out how many groups there are, and gives each its bitmaps and its
    /// table.
    fn place_groups(
        &mut self,
        numbered: &mut Numbered,
        size: &impl Fn(u64) -> u64,
    ) -> Result<Vec<Group>, Ext4Error> {
        let mut count = numbered.tables.len() as u64 + 1;
        loop {
            let more = (count - numbered.tables.len() as u64) * numbered.table_blocks() + 2 * count;
            // Whole tables leave gaps before copies.
            let gaps = copies(count + 1).count() as u64 * (COPIES + numbered.table_blocks());
            let needed = self.space.end() + more + gaps;
            let asked = size(needed * BLOCK).div_ceil(BLOCK).max(needed).div_ceil(GROUP);
            if asked <= count {
                break;
            }
            count = asked;
        }
        if count * GROUP > MOST_BLOCKS {
            return Err(Ext4Error::TooLarge);
        }
        let mut groups = vec![Group::default(); count as usize];
        for (i, group) in groups.iter_mut().enumerate() {
            group.block_bitmap = self.space.take(1)?.start;
            group.inode_bitmap = self.space.take(1)?.start;
            if i >= numbered.tables.len() {
                numbered.tables.push(self.space.take_whole(numbered.table_blocks())?);
            }
            group.inode_table = numbered.tables[i].start;
        }
        self.space.mark_copies(count);
        Ok(groups)
    }

    fn write_bitmaps(
        &mut self,
        mut groups: Vec<Group>,
        numbered: &Numbered,
        directories: &[u32],
    ) -> Result<Vec<Group>, Ext4Error> {
        let blocks = groups.len() as u64 * GROUP;
        for (i, group) in groups.iter_mut().enumerate() {
            let bits = self.space.bitmap(i as u64, blocks);
            group.free_blocks = bits.iter().map(|byte| u64::from(byte.count_zeros())).sum();
            self.disk.write(group.block_bitmap, &bits)?;
            let used = numbered.last().saturating_sub(i as u32 * numbered.a_group);
            let used = used.min(numbered.a_group);
            group.free_inodes = numbered.a_group - used;
            group.directories = directories.get(i).copied().unwrap_or_default();
            self.disk.write(group.inode_bitmap, &inode_bitmap(used, numbered.a_group))?;
        }
        Ok(groups)
    }

    fn write_copies(
        &mut self,
        identity: [u8; 16],
        label: &'static str,
        groups: &[Group],
        numbered: &Numbered,
    ) -> Result<(), Ext4Error> {
        let count = groups.len() as u64;
        let sb = Superblock {
            identity,
            label,
            blocks: count * GROUP,
            free_blocks: groups.iter().map(|group| group.free_blocks).sum(),
            inodes: count as u32 * numbered.a_group,
            free_inodes: groups.iter().map(|group| group.free_inodes).sum(),
            inodes_a_group: numbered.a_group,
            descriptor_blocks: count.div_ceil(DESCRIPTORS_A_BLOCK),
        };
        let descriptors: Vec<u8> = groups.iter().flat_map(Group::encode).collect();
        for group in std::iter::once(0).chain(copies(count)) {
            let offset = if group == 0 { 1024 } else { group * GROUP * BLOCK };
            self.disk.write_at(offset, &sb.encode(group))?;
            self.disk.write(group * GROUP + 1, &descriptors)?;
        }
        Ok(())
    }
}

fn simple(format: u16, place: [u8; 60]) -> Facts {
    Facts { format, links: 1, flags: 0, size: 0, blocks: 0, attributes: 0, place }
}

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::Directory { .. } => kind::DIRECTORY,
        Body::File { .. } => kind::FILE,
        Body::Symlink(_) => kind::SYMLINK,
        Body::Character(..) => kind::CHARACTER,
        Body::Block(..) => kind::BLOCK,
        Body::Fifo => kind::FIFO,
    }
}

/// The first `used` inodes are taken, and what lies behind the last.
fn inode_bitmap(used: u32, a_group: u32) -> [u8; BLOCK as usize] {
    let mut bits = [0; BLOCK as usize];
    for bit in (0..used).chain(a_group..8 * BLOCK as u32) {
        bits[(bit / 8) as usize] |= 1 << (bit % 8);
    }
    bits
}
