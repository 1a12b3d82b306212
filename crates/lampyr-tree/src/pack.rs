//! From disk to archive. Everything below the source is opened relative to
//! its open parent and without following links, so a tree that changes while
//! it is read cannot lead us out of itself.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};

use crate::Summary;
use crate::direct::{self, Buffer, Cache, PAGE};
use crate::entry::{Entry, Kind, MAX_DEPTH, MAX_PATH, ROOT, Stamp};
use crate::error::{TreeError, at};
use crate::extent::{self, Extent};
use crate::write::{Writer, stored};

/// Flags to open what may have turned into a pipe or a link meanwhile.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// How much is read of a file that does not say how long it is, in bytes.
const MAX_MADE_UP: u64 = 16 << 20;

/// Writes the file or directory at `source` to `out` as an archive for
/// [`unpack`](crate::unpack), and flushes it.
///
/// Kept are contents, holes, permission bits and modification times. Links
/// are followed in `source` itself, nowhere below. Sockets, pipes and devices
/// are left out and counted. On an error `out` holds an unfinished archive.
pub fn pack(source: &Path, out: impl Write) -> Result<Summary, TreeError> {
    begin(source, out, Cache::Used)
}

/// Does the same and leaves the page cache to others: long files that are not
/// in it do not come into it.
pub fn pack_past_cache(source: &Path, out: impl Write) -> Result<Summary, TreeError> {
    begin(source, out, Cache::Passed)
}

fn begin(source: &Path, out: impl Write, cache: Cache) -> Result<Summary, TreeError> {
    let top = open_top(source)?;
    let mut packer = Packer {
        root: source,
        name: Vec::new(),
        depth: 0,
        out: Writer::new(out),
        cache,
        buffer: cache.buffer(),
        summary: Summary::default(),
    };
    if top.metadata().map_err(at(source))?.is_dir() {
        packer.name.extend_from_slice(ROOT);
        packer.directory(&top)?;
    } else {
        packer.name.extend_from_slice(source.file_name().unwrap_or(OsStr::new("file")).as_bytes());
        packer.file(&top)?;
    }
    packer.out.finish()?;
    Ok(packer.summary)
}

/// Opens the source itself, through links.
fn open_top(source: &Path) -> Result<File, TreeError> {
    let meta = source.metadata().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => TreeError::NotFound { path: source.to_owned() },
        _ => at(source)(e),
    })?;
    if !meta.is_dir() && !meta.is_file() {
        return Err(TreeError::Unsupported { path: source.to_owned() });
    }
    let flags = READ.difference(OFlags::NOFOLLOW);
    Ok(rustix::fs::open(source, flags, Mode::empty()).map_err(at(source))?.into())
}

struct Packer<'a, W: Write> {
    root: &'a Path,
    /// The name of the current entry; a directory's ends with a slash.
    name: Vec<u8>,
    depth: usize,
    out: Writer<W>,
    cache: Cache,
    buffer: Buffer,
    summary: Summary,
}

impl<W: Write> Packer<'_, W> {
    /// Where the current entry lies, for error messages.
    fn path(&self) -> PathBuf {
        if self.name == ROOT || self.depth == 0 {
            return self.root.to_owned();
        }
        self.root.join(OsStr::from_bytes(&self.name))
    }

    fn directory(&mut self, dir: &File) -> Result<(), TreeError> {
        let stamp = self.stamp(dir)?;
        self.announce(stamp, Kind::Directory)?;
        self.summary.directories += 1;
        for name in self.children(dir)? {
            self.child(dir, name.as_bytes())?;
        }
        Ok(())
    }

    /// What is in a directory, sorted, so that equal trees are equal archives.
    fn children(&self, dir: &File) -> Result<Vec<CString>, TreeError> {
        let path = self.path();
        let mut names = Vec::new();
        for entry in Dir::read_from(dir).map_err(at(&path))? {
            let name = entry.map_err(at(&path))?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Packs the thing called `leaf` in `dir`, then forgets its name again.
    fn child(&mut self, dir: &File, leaf: &[u8]) -> Result<(), TreeError> {
        let parent = self.name.clone();
        if self.name == ROOT {
            self.name.clear();
        }
        self.name.extend_from_slice(leaf);
        self.depth += 1;
        if self.depth > MAX_DEPTH || self.name.len() >= MAX_PATH {
            return Err(TreeError::TooDeep { path: self.path() });
        }
        self.visit(dir, leaf)?;
        self.depth -= 1;
        self.name = parent;
        Ok(())
    }

    fn visit(&mut self, dir: &File, leaf: &[u8]) -> Result<(), TreeError> {
        let stat = statat(dir, leaf, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| at(&self.path())(e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let child = self.open(dir, leaf, READ.union(OFlags::DIRECTORY))?;
                self.name.push(b'/');
                self.directory(&child)
            }
            FileType::RegularFile => {
                let child = self.open(dir, leaf, READ)?;
                self.file(&child)
            }
            FileType::Symlink => self.symlink(dir, leaf, Stamp::of(&stat)),
            _ => {
                self.summary.skipped += 1;
                Ok(())
            }
        }
    }

    fn symlink(&mut self, dir: &File, leaf: &[u8], stamp: Stamp) -> Result<(), TreeError> {
        let link = readlinkat(dir, leaf, Vec::new()).map_err(|e| at(&self.path())(e))?;
        self.announce(stamp, Kind::Symlink(link.into_bytes()))?;
        self.summary.symlinks += 1;
        Ok(())
    }

    fn file(&mut self, file: &File) -> Result<(), TreeError> {
        let meta = file.metadata().map_err(|e| at(&self.path())(e))?;
        if !meta.is_file() {
            return Err(TreeError::Changed { path: self.path() });
        }
        let (stamp, size) = (self.stamp(file)?, meta.len());
        let written = if meta.blocks() == 0 && size <= self.buffer.bytes().len() as u64 {
            self.made_up(file, stamp)?
        } else {
            self.stored(file, stamp, size)?
        };
        self.summary.files += 1;
        self.summary.bytes += written;
        Ok(())
    }

    /// A file that lies on a disk: it is as long as it says.
    fn stored(&mut self, file: &File, stamp: Stamp, size: u64) -> Result<u64, TreeError> {
        let data = extent::find(file, size);
        self.announce(stamp, Kind::File { size, data: data.clone() })?;
        data.iter().try_for_each(|extent| self.contents(file, *extent))?;
        self.out.pad(stored(&data))?;
        Ok(size)
    }

    /// A file that takes no room. It may be the system's, in `/proc` or
    /// `/sys`, where a length says nothing: what can be read is what it holds.
    fn made_up(&mut self, file: &File, stamp: Stamp) -> Result<u64, TreeError> {
        let bytes = self.all_of(file)?;
        let size = bytes.len() as u64;
        self.announce(stamp, Kind::File { size, data: extent::whole(size) })?;
        self.out.data(&bytes)?;
        self.out.pad(size)?;
        Ok(size)
    }

    /// All that can be read of a file. Some of the system's refuse pieces that
    /// are not of a round size.
    fn all_of(&mut self, mut file: &File) -> Result<Vec<u8>, TreeError> {
        let mut bytes = Vec::new();
        loop {
            match file.read(self.buffer.bytes()) {
                Ok(0) => return Ok(bytes),
                Ok(got) => bytes.extend_from_slice(&self.buffer.bytes()[..got]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(at(&self.path())(e)),
            }
            if bytes.len() as u64 > MAX_MADE_UP {
                return Err(TreeError::Endless { path: self.path(), limit: MAX_MADE_UP });
            }
        }
    }

    /// Copies exactly the bytes of `extent`, as the header has promised.
    fn contents(&mut self, file: &File, extent: Extent) -> Result<(), TreeError> {
        let Extent { start, len } = extent;
        let cached = self.cache == Cache::Passed && direct::is_cached(file, start);
        let past = if cached { 0 } else { self.cache.bypass(file, start, len) };
        self.copy(file, start, past)?;
        direct::end(file);
        self.copy(file, start + past, len - past)
    }

    fn copy(&mut self, file: &File, start: u64, len: u64) -> Result<(), TreeError> {
        let (mut position, end) = (start, start + len);
        while position < end {
            let piece = self.buffer.bytes();
            let want = (end - position).min(piece.len() as u64) as usize;
            let got = match file.read_at(&mut piece[..want], position) {
                Ok(0) => return Err(TreeError::Changed { path: self.path() }),
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(at(&self.path())(e)),
            };
            self.out.data(&piece[..got])?;
            position += got as u64;
            if !position.is_multiple_of(PAGE) {
                direct::end(file);
            }
        }
        Ok(())
    }

    fn announce(&mut self, stamp: Stamp, kind: Kind) -> Result<(), TreeError> {
        self.out.entry(&Entry { name: self.name.clone(), stamp, kind })
    }

    fn stamp(&self, file: &File) -> Result<Stamp, TreeError> {
        fstat(file).map(|stat| Stamp::of(&stat)).map_err(|e| at(&self.path())(e))
    }

    fn open(&self, dir: &File, leaf: &[u8], flags: OFlags) -> Result<File, TreeError> {
        let child = openat(dir, leaf, flags, Mode::empty()).map_err(|e| at(&self.path())(e))?;
        Ok(child.into())
    }
}
