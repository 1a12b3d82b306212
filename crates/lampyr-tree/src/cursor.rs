//! The chain of open directories from the target down to where the next
//! entry goes. Names are only ever resolved one component at a time, relative
//! to an open directory and without following links.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::entry::Stamp;
use crate::error::{TreeError, at, hostile};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory that is open.
#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    dir: File,
    /// What the directory gets when it is left; none if it was there before.
    stamp: Option<Stamp>,
}

/// Where we are below the target.
#[derive(Debug)]
pub(crate) struct Cursor {
    target: PathBuf,
    top: File,
    top_stamp: Option<Stamp>,
    levels: Vec<Level>,
}

impl Cursor {
    /// Opens `target`, with `stamp` to be given to it in the end.
    pub(crate) fn new(target: &Path, stamp: Option<Stamp>) -> Result<Self, TreeError> {
        let top = open_trusted(target)?;
        Ok(Self { target: target.to_owned(), top, top_stamp: stamp, levels: Vec::new() })
    }

    /// The directory we are in.
    pub(crate) fn dir(&self) -> &File {
        self.levels.last().map_or(&self.top, |level| &level.dir)
    }

    /// Where `name`, in the directory we are in, lies; for error messages.
    pub(crate) fn path(&self, name: &[u8]) -> PathBuf {
        let above = self.levels.iter().map(|level| level.name.as_slice());
        let mut path = self.target.clone();
        path.extend(above.chain([name]).map(OsStr::from_bytes));
        path
    }

    /// Goes to the directory `parts`, which has to be there; `entry` is the
    /// name to blame where it is not.
    pub(crate) fn go(&mut self, parts: &[&[u8]], entry: &[u8]) -> Result<(), TreeError> {
        let pairs = self.levels.iter().zip(parts);
        let common = pairs.take_while(|(level, part)| level.name == **part).count();
        self.leave(common)?;
        for part in &parts[common..] {
            let dir = self.open(part).map_err(|e| match e {
                Errno::NOENT => hostile("the directory around it is not there", entry),
                e if no_directory(e) => hostile("it leads through what is no directory", entry),
                e => at(&self.path(part))(e),
            })?;
            self.levels.push(Level { name: part.to_vec(), dir, stamp: None });
        }
        Ok(())
    }

    /// Makes the directory `name` and goes there, or goes to the one that is
    /// there already, which keeps its mode and time.
    pub(crate) fn make(&mut self, name: &[u8], stamp: Stamp) -> Result<(), TreeError> {
        let path = self.path(name);
        let stamp = match mkdirat(self.dir(), name, Mode::RWXU) {
            Ok(()) => Some(stamp),
            Err(Errno::EXIST) => None,
            Err(e) => return Err(at(&path)(e)),
        };
        let dir = self.open(name).map_err(|e| match e {
            e if no_directory(e) => {
                TreeError::Conflict { path, what: "a directory should go there" }
            }
            e => at(&path)(e),
        })?;
        self.levels.push(Level { name: name.to_owned(), dir, stamp });
        Ok(())
    }

    /// Leaves every directory, the target last.
    pub(crate) fn finish(mut self) -> Result<(), TreeError> {
        self.leave(0)?;
        self.top_stamp.map_or(Ok(()), |stamp| stamp.apply(&self.top)).map_err(at(&self.target))
    }

    /// Leaves directories until `depth` of them are open; each gets its mode
    /// and time now, when nothing more is written in it.
    fn leave(&mut self, depth: usize) -> Result<(), TreeError> {
        while self.levels.len() > depth {
            let Some(Level { name, dir, stamp }) = self.levels.pop() else { break };
            let applied = stamp.map_or(Ok(()), |stamp| stamp.apply(&dir));
            applied.map_err(|e| at(&self.path(&name))(e))?;
        }
        Ok(())
    }

    fn open(&self, name: &[u8]) -> Result<File, Errno> {
        let flags = DIRECTORY.union(OFlags::NOFOLLOW);
        openat(self.dir(), name, flags, Mode::empty()).map(File::from)
    }
}

/// Opens a directory that the caller named, through links.
pub(crate) fn open_trusted(path: &Path) -> Result<File, TreeError> {
    match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(dir.into()),
        Err(e) if no_directory(e) => {
            Err(TreeError::Conflict { path: path.to_owned(), what: "a directory should be there" })
        }
        Err(e) => Err(at(path)(e)),
    }
}

/// What systems say of a link or a file where a directory was wanted.
fn no_directory(error: Errno) -> bool {
    matches!(error, Errno::NOTDIR | Errno::LOOP | Errno::MLINK)
}
