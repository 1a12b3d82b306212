//! Layers, one over the other, as one tree on its way to a disk.
//!
//! A layer's paths are resolved in the tree alone: `..` is refused, symbolic
//! links lead from the tree's root, and nothing leads out of it. A layer's
//! whiteouts hide what lies in the layers beneath it, wherever they stand in
//! their own.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;

use lampyr_ext4::{Builder, Content, Ext4Error, Kind, KindName, Meta, NodeId, Time};
use lampyr_types::Size;

use crate::archive::{Archive, Entry, EntryKind, Piece, hostile, shown};
use crate::layer::{Allowance, Measured, unpack};
use crate::{Digest, Digester, LayerError, OciError};

pub(crate) const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How many links a path may lead through.
const MOST_LINKS: u32 = 40;
/// How deep directories may lie.
const MOST_DEEP: usize = 1024;

/// How much an image may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In bytes, over all layers, with holes counted in full.
    pub size: Size,
    /// In files.
    pub files: u64,
}

impl Limits {
    /// What memory allows: a million files take about 150 MB of it.
    pub const FILES: u64 = 2_000_000;
}

/// A tree that layers are laid over.
pub struct Tree {
    pub(crate) builder: Builder,
    allowance: Allowance,
    most_files: u64,
    /// Of the contents of files, if they are remembered.
    pub(crate) digests: Option<HashMap<NodeId, Digest>>,
}

/// Whether a directory that is missing is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make(Time),
    Leave,
}

impl Tree {
    /// An empty tree, whose disk is written to `disk`.
    pub fn new(disk: File, limits: Limits) -> Result<Self, OciError> {
        let builder = Builder::new(disk).map_err(OciError::Disk)?;
        let allowance = Allowance::new(limits.size.as_bytes());
        Ok(Self { builder, allowance, most_files: limits.files, digests: None })
    }

    /// The same, of which it can be told what another has changed.
    pub fn remembering(disk: File, limits: Limits) -> Result<Self, OciError> {
        Ok(Self { digests: Some(HashMap::new()), ..Self::new(disk, limits)? })
    }

    /// Lays a layer over what is there. `packed` may be plain or packed with
    /// gzip or zstd; unpacked it must have the digest `contents`.
    pub fn lay(&mut self, packed: impl Read, contents: Option<Digest>) -> Result<(), LayerError> {
        let mut archive = Archive::new(Measured::new(unpack(packed)?, self.allowance.clone()));
        let mut layer = Layer { tree: self, own: HashSet::new(), links: HashSet::new() };
        while let Some(entry) = archive.next()? {
            layer.entry(entry, &mut archive)?;
        }
        match contents {
            Some(digest) => archive.into_inner().check(digest),
            None => Ok(()),
        }
    }

    /// Makes a directory where there is none.
    pub fn ensure_directory(&mut self, path: &str, mode: u16) -> Result<(), LayerError> {
        let (directory, name) = self.place(path)?;
        let found = self.resolve(directory, std::slice::from_ref(&name), Missing::Leave)?;
        if found.is_none() && self.builder.child(directory, &name).is_none() {
            let meta = Meta { mode, ..Meta::default() };
            self.builder
                .add(directory, &name, meta, Kind::Directory)
                .map_err(unfit(path.as_bytes()))?;
        }
        Ok(())
    }

    /// Makes a file with these contents where there is none, or an empty one.
    pub fn ensure_file(&mut self, path: &str, contents: &[u8]) -> Result<(), LayerError> {
        let (directory, name) = self.place(path)?;
        let found = self.builder.child(directory, &name).map(|node| self.builder.kind(node));
        if !matches!(found, None | Some(KindName::Other(Some(0)))) {
            return Ok(());
        }
        let mut content = Content::default();
        self.builder.append(&mut content, contents).map_err(unfit(path.as_bytes()))?;
        let meta = Meta { mode: 0o644, ..Meta::default() };
        let added = self.builder.add(directory, &name, meta, Kind::File(content));
        added.map(drop).map_err(unfit(path.as_bytes()))
    }

    /// Writes the disk. `identity` becomes its UUID; `size` says how large a
    /// disk is that holds so many bytes.
    pub fn finish(self, identity: [u8; 16], size: impl Fn(u64) -> u64) -> Result<(), OciError> {
        self.builder.finish(identity, "lampyr", size).map_err(OciError::Disk)
    }

    /// The directory that a path lies in, and its name there.
    fn place(&mut self, path: &str) -> Result<(NodeId, Vec<u8>), LayerError> {
        let mut names = names(path.as_bytes())?;
        let name = names.pop().ok_or_else(|| hostile(path.as_bytes(), "is no file"))?;
        let directory = self.resolve(Builder::ROOT, &names, Missing::Make(Time::default()))?;
        let directory = directory.ok_or_else(|| hostile(path.as_bytes(), "leads nowhere"))?;
        Ok((directory, name))
    }

    /// The directory that `names` lead to from `start`, through links too.
    /// `None` where one is missing and not made.
    fn resolve(
        &mut self,
        start: NodeId,
        names: &[Vec<u8>],
        missing: Missing,
    ) -> Result<Option<NodeId>, LayerError> {
        let mut ahead: Vec<Vec<u8>> = names.iter().rev().cloned().collect();
        let (mut at, mut links) = (start, 0);
        while let Some(name) = ahead.pop() {
            if name == b".." {
                at = self.builder.parent(at);
                continue;
            }
            let Some(child) = self.builder.child(at, &name) else {
                let Missing::Make(time) = missing else { return Ok(None) };
                at = self.make(at, &name, time)?;
                continue;
            };
            match self.builder.kind(child) {
                KindName::Directory => at = child,
                KindName::Other(_) => {
                    return Err(hostile(&name, "is no directory, but files lie in it"));
                }
                KindName::Symlink(target) => {
                    links += 1;
                    if links > MOST_LINKS || ahead.len() > MOST_DEEP {
                        return Err(hostile(&name, "is a link that leads in circles"));
                    }
                    if target.starts_with(b"/") {
                        at = Builder::ROOT;
                    }
                    ahead.extend(parts(target).rev().map(<[u8]>::to_vec));
                }
            }
        }
        Ok(Some(at))
    }

    fn make(&mut self, directory: NodeId, name: &[u8], time: Time) -> Result<NodeId, LayerError> {
        self.count()?;
        let meta = Meta { mode: 0o755, time, ..Meta::default() };
        self.builder.add(directory, name, meta, Kind::Directory).map_err(unfit(name))
    }

    fn count(&self) -> Result<(), LayerError> {
        let full = self.builder.count() as u64 >= self.most_files;
        if full { Err(LayerError::TooMany(self.most_files)) } else { Ok(()) }
    }
}

/// A layer that is being laid.
struct Layer<'a> {
    tree: &'a mut Tree,
    /// What is of this layer, and the directories above it.
    own: HashSet<NodeId>,
    /// Names that it gives to files that lie beneath it.
    links: HashSet<(NodeId, Box<[u8]>)>,
}

impl Layer<'_> {
    fn entry<R: Read>(&mut self, entry: Entry, archive: &mut Archive<R>) -> Result<(), LayerError> {
        let mut names = names(&entry.path)?;
        let Some(name) = names.pop() else {
            if matches!(entry.kind, EntryKind::Directory) {
                self.tree.builder.set_meta(Builder::ROOT, meta(entry));
            }
            return Ok(());
        };
        if names.len() > MOST_DEEP {
            return Err(hostile(&entry.path, "lies too deep"));
        }
        if name.starts_with(WHITEOUT) {
            return self.whiteout(&names, &name);
        }
        let made = self.tree.resolve(Builder::ROOT, &names, Missing::Make(entry.time))?;
        let directory = made.ok_or_else(|| hostile(&entry.path, "leads nowhere"))?;
        self.place(directory, &name, entry, archive)
    }

    fn place<R: Read>(
        &mut self,
        directory: NodeId,
        name: &[u8],
        entry: Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), LayerError> {
        self.tree.count()?;
        let path = entry.path.clone();
        let builder = &mut self.tree.builder;
        let node = match &entry.kind {
            EntryKind::Directory => return self.directory(directory, name, entry),
            EntryKind::Link(target) => {
                let node = self.linked(&path, target)?;
                self.tree.builder.link(directory, name, node).map_err(unfit(&path))?;
                self.links.insert((directory, name.into()));
                directory
            }
            EntryKind::File(size) => {
                let mut digester = self.tree.digests.as_ref().map(|_| Digester::default());
                let content = self.contents(*size, &path, archive, digester.as_mut())?;
                let node = self.add(directory, name, entry, Kind::File(content))?;
                let digest = digester.map(Digester::finish);
                self.tree.digests.iter_mut().zip(digest).for_each(|(digests, digest)| {
                    digests.insert(node, digest);
                });
                node
            }
            EntryKind::Symlink(target) => {
                let kind = Kind::Symlink(target.as_slice().into());
                self.add(directory, name, entry, kind)?
            }
            EntryKind::Character(major, minor) => {
                let kind = Kind::Character(*major, *minor);
                builder.add(directory, name, meta(entry), kind).map_err(unfit(&path))?
            }
            EntryKind::Block(major, minor) => {
                let kind = Kind::Block(*major, *minor);
                builder.add(directory, name, meta(entry), kind).map_err(unfit(&path))?
            }
            EntryKind::Fifo => self.add(directory, name, entry, Kind::Fifo)?,
        };
        self.claim(directory, node);
        Ok(())
    }

    fn add(
        &mut self,
        directory: NodeId,
        name: &[u8],
        entry: Entry,
        kind: Kind,
    ) -> Result<NodeId, LayerError> {
        let path = entry.path.clone();
        self.tree.builder.add(directory, name, meta(entry), kind).map_err(unfit(&path))
    }

    /// A directory over a directory changes what that has, and keeps what is
    /// in it.
    fn directory(&mut self, parent: NodeId, name: &[u8], entry: Entry) -> Result<(), LayerError> {
        let found = self.tree.builder.child(parent, name);
        let same = found.filter(|node| self.tree.builder.kind(*node) == KindName::Directory);
        let node = match same {
            Some(node) => {
                self.tree.builder.set_meta(node, meta(entry));
                node
            }
            None => self.add(parent, name, entry, Kind::Directory)?,
        };
        self.claim(parent, node);
        Ok(())
    }

    /// The file that a hard link is another name of.
    fn linked(&mut self, path: &[u8], target: &[u8]) -> Result<NodeId, LayerError> {
        let missing = || hostile(path, "is another name of a file that is not there");
        let mut names = names(target)?;
        let name = names.pop().ok_or_else(missing)?;
        let directory = self.tree.resolve(Builder::ROOT, &names, Missing::Leave)?;
        let directory = directory.ok_or_else(missing)?;
        let node = self.tree.builder.child(directory, &name).ok_or_else(missing)?;
        if self.tree.builder.kind(node) == KindName::Directory {
            return Err(hostile(path, "is another name of a directory"));
        }
        Ok(node)
    }

    fn contents<R: Read>(
        &mut self,
        size: u64,
        path: &[u8],
        archive: &mut Archive<R>,
        mut digester: Option<&mut Digester>,
    ) -> Result<Content, LayerError> {
        let mut content = Content::default();
        let (builder, allowance) = (&mut self.tree.builder, &self.tree.allowance);
        archive.contents(size, |piece| {
            if let Some(digester) = &mut digester {
                piece.digest(digester);
            }
            match piece {
                Piece::Data(bytes) => builder.append(&mut content, bytes).map_err(unfit(path)),
                // Data was counted when it was read.
                Piece::Zeros(len) => {
                    allowance.take(len)?;
                    builder.append_zeros(&mut content, len).map_err(unfit(path))
                }
            }
        })?;
        Ok(content)
    }

    /// Hides what lies beneath this layer.
    fn whiteout(&mut self, names: &[Vec<u8>], name: &[u8]) -> Result<(), LayerError> {
        let found = self.tree.resolve(Builder::ROOT, names, Missing::Leave)?;
        let Some(directory) = found else { return Ok(()) };
        if name == OPAQUE {
            self.hide_all(directory);
            return Ok(());
        }
        // Other names that begin so are notes that a storage driver left.
        let hidden = name.get(WHITEOUT.len()..).unwrap_or_default();
        if !hidden.starts_with(WHITEOUT) {
            self.hide(directory, hidden);
        }
        Ok(())
    }

    fn hide(&mut self, directory: NodeId, name: &[u8]) {
        let Some(node) = self.tree.builder.child(directory, name) else { return };
        if self.is_own(directory, name, node) {
            self.hide_all(node);
        } else {
            self.tree.builder.remove(directory, name);
        }
    }

    fn is_own(&self, directory: NodeId, name: &[u8], node: NodeId) -> bool {
        self.own.contains(&node) || self.links.contains(&(directory, name.into()))
    }

    /// Hides all in a directory that is not of this layer.
    fn hide_all(&mut self, directory: NodeId) {
        let mut directories = vec![directory];
        while let Some(directory) = directories.pop() {
            for name in self.tree.builder.names(directory) {
                match self.tree.builder.child(directory, &name) {
                    Some(node) if self.is_own(directory, &name, node) => directories.push(node),
                    _ => drop(self.tree.builder.remove(directory, &name)),
                }
            }
        }
    }

    /// Notes that a file and the directories above it are of this layer.
    fn claim(&mut self, directory: NodeId, node: NodeId) {
        self.own.insert(node);
        let mut at = directory;
        while self.own.insert(at) {
            at = self.tree.builder.parent(at);
        }
    }
}

pub(crate) fn meta(entry: Entry) -> Meta {
    let Entry { mode, uid, gid, time, extra, .. } = entry;
    Meta { mode, uid, gid, time, xattrs: extra.xattrs }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The names of a path, none of which may lead up.
pub(crate) fn names(path: &[u8]) -> Result<Vec<Vec<u8>>, LayerError> {
    if parts(path).any(|part| part == b"..") {
        return Err(hostile(path, "leads out of the image"));
    }
    Ok(parts(path).map(<[u8]>::to_vec).collect())
}

fn unfit(path: &[u8]) -> impl FnOnce(Ext4Error) -> LayerError {
    let path = shown(path);
    move |source| match source {
        Ext4Error::Io(e) => LayerError::Io(e),
        source => LayerError::Unfit { path, source },
    }
}
