//! What a root file system has other than the image that it began as: one
//! layer over it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use lampyr_ext4::{Builder, KindName, NodeId};

use crate::archive::{Archive, Entry, EntryKind};
use crate::bundle::append;
use crate::keeper::Keeper;
use crate::tree::{WHITEOUT, meta, names};
use crate::{Blobs, Digester, Layer, LayerError, Limits, OciError, Tree};

/// Keeps as a layer what `root`, an archive of a whole file system, has other
/// than `base`, which remembers digests ([`Tree::remembering`]). Over an empty
/// tree that is all of it.
pub fn changes(base: &Tree, root: &File, blobs: &Blobs, limits: Limits) -> Result<Layer, OciError> {
    let failed = |source| OciError::Layer { layer: "of the VM's disk".to_owned(), source };
    let all = Comparison::of(base, root, limits).map_err(failed)?;
    let mut writer = LayerWriter::new(blobs)?;
    write(&all, root, &mut writer).map_err(|e| failed(e.into()))?;
    writer.finish()
}

/// An entry of the archive.
struct Place {
    start: u64,
    end: u64,
    changed: bool,
    /// The first name of a file, which may have more.
    file: Option<Vec<u8>>,
}

/// An archive beside a tree.
struct Comparison<'a> {
    base: &'a Tree,
    places: Vec<Place>,
    /// All names that there are, and whether they are of directories.
    seen: HashMap<Vec<u8>, bool>,
    /// Files of the base that are as they were.
    same: HashSet<NodeId>,
}

impl<'a> Comparison<'a> {
    fn of(base: &'a Tree, root: &File, limits: Limits) -> Result<Self, LayerError> {
        let (seen, same) = (HashMap::new(), HashSet::new());
        let mut all = Self { base, places: Vec::new(), seen, same };
        let mut input = BufReader::new(root);
        input.rewind()?;
        let (mut archive, mut start) = (Archive::new(input), 0);
        while let Some(entry) = archive.next()? {
            if all.places.len() as u64 >= limits.files {
                return Err(LayerError::TooMany(limits.files));
            }
            let (changed, file) = all.take(entry, &mut archive)?;
            let end = archive.position()?;
            all.places.push(Place { start, end, changed, file });
            start = end;
        }
        Ok(all)
    }

    /// Whether an entry is other than in the base, and which file it is of.
    fn take<R: Read>(
        &mut self,
        entry: Entry,
        archive: &mut Archive<R>,
    ) -> Result<(bool, Option<Vec<u8>>), LayerError> {
        let path = names(&entry.path)?;
        self.seen.insert(path.join(&b'/'), matches!(entry.kind, EntryKind::Directory));
        let node = self.find(&path);
        let kind = node.map(|node| self.base.builder.kind(node));
        let (same, file) = match (&entry.kind, kind) {
            (EntryKind::File(size), _) => {
                let digest = archive.digest(*size)?;
                let known = node.and_then(|node| self.base.digests.as_ref()?.get(&node));
                let same = kind == Some(KindName::Other(Some(*size))) && known == Some(&digest);
                // Of two names of the base for one file one may be another now.
                let same = same && node.is_some_and(|node| !self.same.contains(&node));
                (same, Some(path.join(&b'/')))
            }
            (EntryKind::Link(target), _) => {
                let target = names(target)?;
                let same = node.is_some_and(|node| self.same.contains(&node));
                return Ok((!same || self.find(&target) != node, Some(target.join(&b'/'))));
            }
            (EntryKind::Directory, kind) => (kind == Some(KindName::Directory), None),
            (EntryKind::Symlink(target), kind) => (kind == Some(KindName::Symlink(target)), None),
            // Devices and pipes are small, and few.
            _ => (false, None),
        };
        let meta = meta(entry);
        let node = node.filter(|node| same && *self.base.builder.meta(*node) == meta);
        self.same.extend(node.filter(|_| file.is_some()));
        Ok((node.is_none(), file))
    }

    /// The file of the base with exactly this path.
    fn find(&self, path: &[Vec<u8>]) -> Option<NodeId> {
        let step = |at: NodeId, name: &Vec<u8>| self.base.builder.child(at, name);
        path.iter().try_fold(Builder::ROOT, step)
    }

    /// Whether two names lead to one file is told within one layer: a file of
    /// which one name changed is given with all of them.
    fn changed(&self) -> impl Iterator<Item = &Place> {
        let changed = self.places.iter().filter(|place| place.changed);
        let files: HashSet<_> = changed.filter_map(|place| place.file.as_ref()).collect();
        let of_those = move |place: &&Place| {
            place.changed || place.file.as_ref().is_some_and(|file| files.contains(file))
        };
        self.places.iter().filter(of_those)
    }

    /// Paths of whiteouts for what the base has and the archive has not.
    fn gone(&self) -> Vec<Vec<u8>> {
        let builder = &self.base.builder;
        let mut gone = Vec::new();
        let mut ahead = vec![(Builder::ROOT, Vec::new())];
        while let Some((directory, path)) = ahead.pop() {
            for name in builder.names(directory) {
                let at = |name: &[u8]| [&path, name].concat();
                match (self.seen.get(&at(&name)), builder.child(directory, &name)) {
                    (None, _) => gone.push(at(&[WHITEOUT, &name].concat())),
                    (Some(true), Some(child)) => {
                        ahead.push((child, [&at(&name), &b"/"[..]].concat()));
                    }
                    _ => {}
                }
            }
        }
        gone
    }
}

fn write(all: &Comparison<'_>, root: &File, writer: &mut LayerWriter) -> io::Result<()> {
    let mut root = root;
    for place in all.changed() {
        root.seek(SeekFrom::Start(place.start))?;
        io::copy(&mut root.take(place.end - place.start), writer)?;
    }
    let mut whiteouts = tar::Builder::new(writer);
    for path in all.gone() {
        append(&mut whiteouts, Path::new(OsStr::from_bytes(&path)), 0, io::empty())?;
    }
    whiteouts.into_inner().map(drop)
}

/// Takes an archive and keeps it, packed.
struct LayerWriter {
    packer: GzEncoder<Keeper>,
    digester: Digester,
}

impl LayerWriter {
    fn new(blobs: &Blobs) -> Result<Self, OciError> {
        let packer = GzEncoder::new(blobs.keeper()?, Compression::fast());
        Ok(Self { packer, digester: Digester::default() })
    }

    fn finish(self) -> Result<Layer, OciError> {
        let contents = self.digester.finish();
        let failed = |e| OciError::Layer { layer: contents.to_string(), source: LayerError::Io(e) };
        let (digest, size) = self.packer.finish().map_err(failed)?.finish()?;
        Ok(Layer { digest, size, contents })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.packer.write_all(bytes)?;
        self.digester.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.packer.flush()
    }
}
