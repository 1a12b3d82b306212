//! The tree of files in memory.

use std::collections::BTreeMap;
use std::fs::File;

use crate::Ext4Error;
use crate::content::Content;
use crate::disk::Disk;
use crate::extent::Extent;
use crate::space::{Run, Space};

/// The most names of a file.
const MOST_LINKS: u32 = 65_000;
/// More nodes than an inode number can count are not made.
const MOST_NODES: usize = 1 << 27;

/// A file of whatever kind in a [`Builder`]. It is good until the last name of
/// the file is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

/// A moment, in seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Whole seconds. What ext4 cannot say becomes the nearest that it can.
    pub sec: i64,
    /// Nanoseconds, less than a thousand million.
    pub nsec: u32,
}

/// What every file has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// The permissions with set-user-ID, set-group-ID and sticky: 12 bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was changed.
    pub time: Time,
    /// Extended attributes by their whole names, such as `user.origin`.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// What a file is to be.
#[derive(Debug)]
pub enum Kind {
    /// A directory without entries.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link to this.
    Symlink(Box<[u8]>),
    /// A character device: major and minor number.
    Character(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindName<'a> {
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(&'a [u8]),
    /// Anything else; of a regular file the length.
    Other(Option<u64>),
}

#[derive(Debug)]
pub(crate) enum Body {
    Directory { parent: NodeId, entries: BTreeMap<Box<[u8]>, NodeId> },
    File { size: u64, extents: Box<[Extent]> },
    Symlink(Box<[u8]>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) body: Body,
    /// How many names it has.
    pub(crate) links: u32,
}

/// A file system that is being made.
#[derive(Debug)]
pub struct Builder {
    pub(crate) disk: Disk,
    pub(crate) space: Space,
    pub(crate) nodes: Vec<Node>,
    /// Places of nodes that are gone.
    gone: Vec<NodeId>,
    /// The block of the resize map.
    pub(crate) resize: Run,
}

impl Builder {
    /// The directory that is the root.
    pub const ROOT: NodeId = NodeId(0);

    /// Begins a file system in `file`, which is empty and can be written.
    pub fn new(file: File) -> Result<Self, Ext4Error> {
        let mut space = Space::new();
        let resize = space.take(1)?;
        let mut builder =
            Self { disk: Disk::new(file), space, nodes: Vec::new(), gone: Vec::new(), resize };
        let meta = Meta { mode: 0o755, ..Meta::default() };
        let body = Body::Directory { parent: Self::ROOT, entries: BTreeMap::new() };
        builder.nodes.push(Node { meta, body, links: 1 });
        Ok(builder)
    }

    /// How many files there are.
    pub fn count(&self) -> usize {
        self.nodes.len() - self.gone.len()
    }

    /// What a file is.
    pub fn kind(&self, node: NodeId) -> KindName<'_> {
        match &self.node(node).body {
            Body::Directory { .. } => KindName::Directory,
            Body::Symlink(target) => KindName::Symlink(target),
            Body::File { size, .. } => KindName::Other(Some(*size)),
            _ => KindName::Other(None),
        }
    }

    /// What a file has.
    pub fn meta(&self, node: NodeId) -> &Meta {
        &self.node(node).meta
    }

    /// The directory that a directory lies in; the root lies in itself.
    pub fn parent(&self, directory: NodeId) -> NodeId {
        match self.node(directory).body {
            Body::Directory { parent, .. } => parent,
            _ => Self::ROOT,
        }
    }

    /// The entry of a directory called `name`.
    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.entries(directory)?.get(name).copied()
    }

    /// The names in a directory, in order.
    pub fn names(&self, directory: NodeId) -> Vec<Box<[u8]>> {
        self.entries(directory).map(|all| all.keys().cloned().collect()).unwrap_or_default()
    }

    /// Makes a file in a directory, in place of whatever has the name.
    pub fn add(
        &mut self,
        directory: NodeId,
        name: &[u8],
        meta: Meta,
        kind: Kind,
    ) -> Result<NodeId, Ext4Error> {
        check_name(name)?;
        let body = self.body(directory, kind)?;
        self.remove(directory, name);
        let node = self.place(Node { meta, body, links: 1 })?;
        self.enter(directory, name, node)?;
        Ok(node)
    }

    /// Gives a file that is no directory another name, in place of whatever
    /// has that name.
    pub fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId) -> Result<(), Ext4Error> {
        check_name(name)?;
        if self.child(directory, name) == Some(node) {
            return Ok(());
        }
        self.node_mut(node).links += 1;
        if self.node(node).links > MOST_LINKS {
            return Err(Ext4Error::TooManyLinks);
        }
        self.remove(directory, name);
        self.enter(directory, name, node)
    }

    /// Changes what a file has.
    pub fn set_meta(&mut self, node: NodeId, meta: Meta) {
        self.node_mut(node).meta = meta;
    }

    /// Removes a name, and a directory with all that is in it. Returns whether
    /// there was one.
    pub fn remove(&mut self, directory: NodeId, name: &[u8]) -> bool {
        let Body::Directory { entries, .. } = &mut self.node_mut(directory).body else {
            return false;
        };
        let Some(removed) = entries.remove(name) else { return false };
        let mut doomed = vec![removed];
        while let Some(node) = doomed.pop() {
            self.node_mut(node).links -= 1;
            if self.node(node).links == 0 {
                doomed.extend(self.bury(node));
            }
        }
        true
    }

    /// Forgets a node without a name and returns what was in it.
    fn bury(&mut self, node: NodeId) -> Vec<NodeId> {
        let body = std::mem::replace(&mut self.node_mut(node).body, Body::Fifo);
        self.node_mut(node).meta = Meta::default();
        self.gone.push(node);
        match body {
            Body::Directory { entries, .. } => entries.into_values().collect(),
            Body::File { extents, .. } => {
                extents.iter().for_each(|extent| self.space.free(extent.run()));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn body(&mut self, parent: NodeId, kind: Kind) -> Result<Body, Ext4Error> {
        Ok(match kind {
            Kind::Directory => Body::Directory { parent, entries: BTreeMap::new() },
            Kind::File(mut content) => {
                self.flush(&mut content)?;
                Body::File { size: content.size, extents: content.extents.into_boxed_slice() }
            }
            Kind::Symlink(target) if target.is_empty() || target.len() > 4095 => {
                return Err(Ext4Error::BadSymlink);
            }
            Kind::Symlink(target) => Body::Symlink(target),
            Kind::Character(major, minor) => Body::Character(major, minor),
            Kind::Block(major, minor) => Body::Block(major, minor),
            Kind::Fifo => Body::Fifo,
        })
    }

    fn place(&mut self, node: Node) -> Result<NodeId, Ext4Error> {
        if let Some(id) = self.gone.pop() {
            *self.node_mut(id) = node;
            return Ok(id);
        }
        if self.nodes.len() >= MOST_NODES {
            return Err(Ext4Error::TooManyFiles);
        }
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() as u32 - 1))
    }

    fn enter(&mut self, directory: NodeId, name: &[u8], node: NodeId) -> Result<(), Ext4Error> {
        match &mut self.node_mut(directory).body {
            Body::Directory { entries, .. } => {
                entries.insert(name.into(), node);
                Ok(())
            }
            _ => Err(Ext4Error::NotADirectory),
        }
    }

    pub(crate) fn entries(&self, directory: NodeId) -> Option<&BTreeMap<Box<[u8]>, NodeId>> {
        match &self.node(directory).body {
            Body::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    // An id is made where its node is, and only this file takes nodes away.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }
}

fn check_name(name: &[u8]) -> Result<(), Ext4Error> {
    let dots = name == b"." || name == b"..";
    let strange = name.contains(&b'/') || name.contains(&0);
    let bad = name.is_empty() || name.len() > 255 || dots || strange;
    if bad { Err(Ext4Error::BadName) } else { Ok(()) }
}
