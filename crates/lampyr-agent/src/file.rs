//! What the host has done with single files. All of it runs in a process of
//! its own, as whoever is to do it.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lampyr_proto::{FileFacts, FileJob, FileKind, FileMkdir, FileStat, FileWrite, encode_message};
use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;

use crate::export::{bare, export};

/// The permissions of a file and a directory that nobody says anything of.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// Does it; the number of what went wrong is the process's exit code.
pub(crate) fn work(job: FileJob, stdin: File, stdout: File) -> Result<(), (String, i32)> {
    let at = |path: &str| {
        let path = path.to_owned();
        move |e: io::Error| told(&path, &e)
    };
    match job {
        FileJob::Read(path) => read(Path::new(&path), stdout).map_err(at(&path)),
        FileJob::Write(put) => write(&put, stdin).map_err(at(&put.path)),
        FileJob::Stat(asked) => stat(&asked, stdout).map_err(at(&asked.path)),
        FileJob::List(path) => list(Path::new(&path), stdout).map_err(at(&path)),
        FileJob::Move(from, to) => std::fs::rename(&from, &to).map_err(at(&from)),
        FileJob::Mkdir(asked) => mkdir(&asked).map_err(at(&asked.path)),
        FileJob::Remove(path, all) => remove(Path::new(&path), all).map_err(at(&path)),
        FileJob::Pack(path) => pack(Path::new(&path), stdout).map_err(at(&path)),
        FileJob::Unpack(path) => unpack(Path::new(&path), stdin).map_err(at(&path)),
    }
}

/// A sentence, and the number that says the same to a program.
fn told(path: &str, error: &io::Error) -> (String, i32) {
    let number = error.raw_os_error().or_else(|| {
        let source = error.get_ref()?.source()?.downcast_ref::<io::Error>()?;
        source.raw_os_error()
    });
    let said = error.to_string();
    let said = said.split(" (os error").next().unwrap_or_default();
    (format!("{path}: {said}"), number.filter(|number| (1..126).contains(number)).unwrap_or(125))
}

fn read(path: &Path, mut to: File) -> io::Result<()> {
    // A pipe that nobody writes to is not waited for.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    io::copy(&mut file, &mut to).map(drop)
}

/// Writes beside the file and gives that its name at the end.
fn write(put: &FileWrite, mut from: File) -> io::Result<()> {
    let path = resolve(Path::new(&put.path))?;
    let dir = path.parent().ok_or(Errno::ISDIR)?;
    path.file_name().ok_or(Errno::ISDIR)?;
    let known = path.metadata().ok();
    if known.as_ref().is_some_and(Metadata::is_dir) {
        return Err(Errno::ISDIR.into());
    }
    if put.parents {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    }
    // A device or a pipe is written to as it is.
    if known.as_ref().is_some_and(|meta| !meta.is_file()) {
        let mut there = OpenOptions::new().write(true).open(&path)?;
        return io::copy(&mut from, &mut there).map(drop);
    }
    let new = New::beside(&path, dir)?;
    new.fill(put.mode, known.as_ref(), &mut from)?;
    new.take_name(&path)
}

/// Where a link leads; a path that is not there yet leads to itself.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        found => found,
    }
}

/// A file that has no name of its own yet: where the file system knows such,
/// none at all, so that nothing is left should we be killed.
struct New {
    file: File,
    beside: PathBuf,
    named: bool,
}

impl New {
    fn beside(path: &Path, dir: &Path) -> io::Result<Self> {
        let beside = path.with_file_name(format!(".lampyr-{}", std::process::id()));
        let flags = OFlags::TMPFILE.bits() as i32;
        let nameless = OpenOptions::new().write(true).custom_flags(flags).mode(0o600).open(dir);
        match nameless {
            Ok(file) => Ok(Self { file, beside, named: false }),
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::OPNOTSUPP | Errno::ISDIR)) => {
                let mut new = OpenOptions::new();
                let file = new.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
                Ok(Self { file, beside, named: true })
            }
            Err(e) => Err(e),
        }
    }

    fn fill(&self, mode: Option<u32>, known: Option<&Metadata>, from: &mut File) -> io::Result<()> {
        io::copy(from, &mut &self.file)?;
        if let Some(known) = known {
            // Who may not give a file away keeps it.
            let _ = std::os::unix::fs::fchown(&self.file, Some(known.uid()), Some(known.gid()));
        }
        let kept = known.map_or(FILE_MODE, Metadata::mode);
        self.file.set_permissions(Permissions::from_mode(mode.unwrap_or(kept) & 0o7777))
    }

    fn take_name(mut self, path: &Path) -> io::Result<()> {
        if !self.named {
            let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, file, CWD, &self.beside, AtFlags::SYMLINK_FOLLOW)?;
            self.named = true;
        }
        std::fs::rename(&self.beside, path)?;
        self.named = false;
        Ok(())
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if self.named {
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

fn stat(asked: &FileStat, mut to: File) -> io::Result<()> {
    let path = Path::new(&asked.path);
    let meta = if asked.follow { path.metadata() } else { path.symlink_metadata() };
    to.write_all(&encode_message(&facts(path, &meta?)))
}

fn list(path: &Path, to: File) -> io::Result<()> {
    let entries = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let mut to = BufWriter::new(to);
    for path in paths {
        // What is gone meanwhile is not there.
        if let Ok(meta) = path.symlink_metadata() {
            to.write_all(&encode_message(&facts(&path, &meta)))?;
        }
    }
    to.flush()
}

fn facts(path: &Path, meta: &Metadata) -> FileFacts {
    let kind = meta.file_type();
    let target = kind.is_symlink().then(|| std::fs::read_link(path).ok()).flatten();
    FileFacts {
        name: path.file_name().unwrap_or_default().as_bytes().to_vec(),
        kind: match kind {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Directory,
            kind if kind.is_symlink() => FileKind::Symlink,
            _ => FileKind::Other,
        },
        size: meta.len(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        modified_ms: meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000,
        target: target.map(|target| target.as_os_str().as_bytes().to_vec()),
    }
}

fn mkdir(asked: &FileMkdir) -> io::Result<()> {
    let path = Path::new(&asked.path);
    DirBuilder::new().recursive(asked.parents).mode(DIR_MODE).create(path)?;
    match asked.mode {
        Some(mode) => std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)),
        None => Ok(()),
    }
}

fn remove(path: &Path, all: bool) -> io::Result<()> {
    let is_dir = path.symlink_metadata()?.is_dir();
    match (is_dir, all) {
        (true, true) => std::fs::remove_dir_all(path),
        (true, false) => std::fs::remove_dir(path),
        (false, _) => std::fs::remove_file(path),
    }
}

fn pack(path: &Path, to: File) -> io::Result<()> {
    if !path.metadata()?.is_dir() {
        return Err(Errno::NOTDIR.into());
    }
    // An ordinary user gets it with what is mounted on it.
    let root = bare(path).or_else(|_| File::open(path).map(OwnedFd::from))?;
    export(&root, to)
}

/// Nothing is written outside: the archive's paths are checked by who unpacks
/// it, and whoever may send it may do anything in here anyway.
fn unpack(path: &Path, mut from: File) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)?;
    let mut archive = tar::Archive::new(&mut from);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    archive.set_overwrite(true);
    archive.unpack(path)?;
    // What follows its end belongs to it: whoever sends it is not broken off.
    io::copy(&mut from, &mut io::sink()).map(drop)
}
