//! Writes an ext4 file system into a file, in one pass, without root, without
//! a mount and without mkfs.
//!
//! A [`Builder`] is a tree in memory. The contents of files go to the disk as
//! they come, each behind the last; names, owners and all else stay in memory
//! until [`Builder::finish`] writes them. What is removed meanwhile leaves a
//! hole. The same calls make the same bytes.
//!
//! ```text
//! group 0: superblock | descriptors, and room for more | resize map
//!          contents of files, in the order they came
//!          inode tables in use | directories, long links, attributes
//!          bitmaps | inode tables of no use yet
//!          free
//! ```
//!
//! Groups 1 and the powers of 3, 5 and 7 begin with a copy of superblock and
//! descriptors, which all else is laid around. The kernel can grow the file
//! system to 1 TiB while it is mounted: the room for descriptors is there.
//!
//! There is no journal: a disk is written by one machine, which ends together
//! with what it wrote.

mod bytes;
mod content;
mod descriptor;
mod directory;
mod disk;
mod error;
mod extent;
mod finish;
mod inode;
mod resize;
mod space;
mod superblock;
mod sys;
mod tree;
mod xattr;

pub use content::Content;
pub use error::Ext4Error;
pub use tree::{Builder, Kind, KindName, Meta, NodeId, Time};

/// The length of a block in bytes.
const BLOCK: u64 = 4096;
/// Blocks in a group.
const GROUP: u64 = 8 * BLOCK;
/// Blocks for group descriptors, in use and in reserve.
const DESCRIPTOR_BLOCKS: u64 = 64;
/// Group descriptors in a block.
const DESCRIPTORS_A_BLOCK: u64 = BLOCK / 32;
/// The length of an inode in bytes.
const INODE: u64 = 256;
/// The inodes that a file system keeps for itself are below this one.
const FIRST_INODE: u32 = 11;
/// The most that a disk may hold, in blocks.
const MOST_BLOCKS: u64 = DESCRIPTOR_BLOCKS * DESCRIPTORS_A_BLOCK * GROUP;
