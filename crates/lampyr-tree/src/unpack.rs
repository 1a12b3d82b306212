//! From archive to disk.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, mkdir, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::Summary;
use crate::cursor::{Cursor, open_trusted};
use crate::direct::{self, Cache};
use crate::entry::{Entry, Kind, ROOT, Stamp, components};
use crate::error::{TreeError, at, damaged, hostile};
use crate::extent::Extent;
use crate::read::Reader;
use crate::write::stored;

/// How much an archive may hold before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The sizes of all files together in bytes, holes counted too.
    pub bytes: u64,
    /// Files, directories and links together.
    pub entries: u64,
}

impl Default for Limits {
    /// 1 TiB and ten million entries.
    fn default() -> Self {
        Self { bytes: 1 << 40, entries: 10_000_000 }
    }
}

/// Puts the archive that [`pack`](crate::pack) wrote to `input` on disk, and
/// reads `input` up to its end.
///
/// What is in a packed directory goes under `target`, which is made with its
/// parents if it is missing. A packed file becomes `target`, or goes into it
/// under its own name if `target` is a directory or ends with a slash. Files
/// and links that are there are replaced; directories that are there stay as
/// they are and are filled up.
///
/// The caller's `target` may lead through links; no name in the archive may,
/// and none gets outside `target`. Links are made with whatever target they
/// have. Setuid, setgid and sticky bits are dropped. An archive that is
/// hostile, damaged or cut off is an error; what came before the fault stays.
pub fn unpack(input: impl Read, target: &Path, limits: Limits) -> Result<Summary, TreeError> {
    begin(input, target, limits, Cache::Used)
}

/// Does the same and leaves the page cache to others: long files do not come
/// into it.
pub fn unpack_past_cache(
    input: impl Read,
    target: &Path,
    limits: Limits,
) -> Result<Summary, TreeError> {
    begin(input, target, limits, Cache::Passed)
}

fn begin(
    input: impl Read,
    target: &Path,
    limits: Limits,
    cache: Cache,
) -> Result<Summary, TreeError> {
    let reader = Reader::new(input, cache);
    let mut unpacker = Unpacker { reader, limits, cache, summary: Summary::default() };
    let first = unpacker.next()?.ok_or_else(|| damaged("it holds nothing"))?;
    match first.kind {
        Kind::Directory if first.name == ROOT => unpacker.tree(target, first.stamp)?,
        Kind::File { size, data } => {
            unpacker.single(target, &first.name, first.stamp, size, &data)?;
        }
        _ => return Err(hostile("an archive begins with a file or with './'", &first.name)),
    }
    Ok(unpacker.summary)
}

struct Unpacker<R: Read> {
    reader: Reader<R>,
    limits: Limits,
    cache: Cache,
    summary: Summary,
}

impl<R: Read> Unpacker<R> {
    /// The next entry, if the limits allow it; it counts as done.
    fn next(&mut self) -> Result<Option<Entry>, TreeError> {
        let Some(entry) = self.reader.next()? else { return Ok(None) };
        let sum = &mut self.summary;
        match &entry.kind {
            Kind::Directory => sum.directories += 1,
            Kind::Symlink(_) => sum.symlinks += 1,
            Kind::File { size, .. } => {
                sum.files += 1;
                sum.bytes = sum.bytes.saturating_add(*size);
            }
        }
        self.check_limits()?;
        Ok(Some(entry))
    }

    fn check_limits(&self) -> Result<(), TreeError> {
        let Summary { files, directories, symlinks, bytes, .. } = self.summary;
        if bytes > self.limits.bytes {
            return Err(TreeError::TooLarge { limit: self.limits.bytes, unit: "bytes" });
        }
        if files + directories + symlinks > self.limits.entries {
            return Err(TreeError::TooLarge { limit: self.limits.entries, unit: "entries" });
        }
        Ok(())
    }

    fn tree(&mut self, target: &Path, stamp: Stamp) -> Result<(), TreeError> {
        let made = make_target(target)?;
        let mut cursor = Cursor::new(target, made.then_some(stamp))?;
        while let Some(entry) = self.next()? {
            self.place(&mut cursor, entry)?;
        }
        cursor.finish()
    }

    fn place(&mut self, cursor: &mut Cursor, entry: Entry) -> Result<(), TreeError> {
        let Entry { name, stamp, kind } = entry;
        let parts = components(&name).map_err(|what| hostile(what, &name))?;
        let Some((&leaf, parents)) = parts.split_last() else { return Ok(()) };
        cursor.go(parents, &name)?;
        if let Kind::Directory = kind {
            return cursor.make(leaf, stamp);
        }
        let spot = Spot { dir: cursor.dir(), name: leaf, path: cursor.path(leaf) };
        match kind {
            Kind::File { size, data } => self.file(&spot, stamp, size, &data),
            Kind::Symlink(link) => spot.symlink(&link, stamp),
            Kind::Directory => Ok(()),
        }
    }

    fn single(
        &mut self,
        target: &Path,
        name: &[u8],
        stamp: Stamp,
        size: u64,
        data: &[Extent],
    ) -> Result<(), TreeError> {
        let parts = components(name).map_err(|what| hostile(what, name))?;
        if parts.len() != 1 || parts[0] != name {
            return Err(hostile("a single file has a plain name", name));
        }
        let (around, leaf) = destination(target, name)?;
        fs::create_dir_all(&around).map_err(at(&around))?;
        let dir = open_trusted(&around)?;
        let path = around.join(OsStr::from_bytes(&leaf));
        self.file(&Spot { dir: &dir, name: &leaf, path }, stamp, size, data)?;
        match self.next()? {
            None => Ok(()),
            Some(more) => Err(hostile("a single file is alone in its archive", &more.name)),
        }
    }

    /// Makes a file; one that cannot be finished is taken away again.
    fn file(
        &mut self,
        spot: &Spot<'_>,
        stamp: Stamp,
        size: u64,
        data: &[Extent],
    ) -> Result<(), TreeError> {
        let file = spot.create()?;
        let filled = self.fill(&file, &spot.path, size, data);
        let done = filled.and_then(|()| stamp.apply(&file).map_err(at(&spot.path)));
        if done.is_err() {
            let _ = unlinkat(spot.dir, spot.name, AtFlags::empty());
        }
        done
    }

    fn fill(
        &mut self,
        file: &File,
        path: &Path,
        size: u64,
        data: &[Extent],
    ) -> Result<(), TreeError> {
        for &Extent { start, len } in data {
            let past = self.cache.bypass(file, start, len);
            self.contents(file, path, start, past)?;
            direct::end(file);
            self.contents(file, path, start + past, len - past)?;
        }
        if stored(data) < size {
            file.set_len(size).map_err(at(path))?;
        }
        self.reader.pad(stored(data))
    }

    fn contents(
        &mut self,
        file: &File,
        path: &Path,
        start: u64,
        len: u64,
    ) -> Result<(), TreeError> {
        let mut position = start;
        self.reader.data(len, |piece| {
            file.write_all_at(piece, position).map_err(at(path))?;
            position += piece.len() as u64;
            Ok(())
        })
    }
}

/// A name in an open directory, where one thing goes.
struct Spot<'a> {
    dir: &'a File,
    name: &'a [u8],
    path: PathBuf,
}

impl Spot<'_> {
    /// Makes an empty file that only this user can read.
    fn create(&self) -> Result<File, TreeError> {
        self.clear()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.dir, self.name, flags, Mode::RUSR | Mode::WUSR);
        Ok(file.map_err(at(&self.path))?.into())
    }

    fn symlink(&self, link: &[u8], stamp: Stamp) -> Result<(), TreeError> {
        self.clear()?;
        symlinkat(link, self.dir, self.name).map_err(at(&self.path))?;
        let times = stamp.time.stamps();
        utimensat(self.dir, self.name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(at(&self.path))
    }

    /// Removes the file or link that is there. Anything else stays: not even
    /// root loses a directory or `/dev/null` by copying a file.
    fn clear(&self) -> Result<(), TreeError> {
        let stat = match statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(at(&self.path)(e)),
        };
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => {
                return unlinkat(self.dir, self.name, AtFlags::empty()).map_err(at(&self.path));
            }
            FileType::Directory => "a directory is not replaced by a file",
            _ => "only files and links are replaced",
        };
        Err(TreeError::Conflict { path: self.path.clone(), what })
    }
}

/// Makes the directory `target` and its parents; says whether it is new.
fn make_target(target: &Path) -> Result<bool, TreeError> {
    let target: PathBuf = target.components().collect();
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(at(parent))?;
    }
    match mkdir(&target, Mode::RWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(at(&target)(e)),
    }
}

/// In which directory a single file goes, and under which name.
fn destination(target: &Path, name: &[u8]) -> Result<(PathBuf, Vec<u8>), TreeError> {
    if target.as_os_str().as_bytes().ends_with(b"/") || target.is_dir() {
        return Ok((target.to_owned(), name.to_owned()));
    }
    let leaf = target.file_name().ok_or_else(|| TreeError::NotFound { path: target.to_owned() })?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), leaf.as_bytes().to_owned()))
}
