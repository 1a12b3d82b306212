//! A file system as an archive: with owners, devices, hard links and
//! extended attributes, and with what lies beneath mounts instead of them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, lgetxattr, llistxattr, major, minor};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::fchdir;
use tar::{EntryType, Header};

/// The longest list of names, and the longest value, of extended attributes.
const MOST_ATTRIBUTES: usize = 1 << 16;
/// The largest numbers that fit fields of eight and of twelve digits.
const SHORT: u64 = 0o777_7777;
const LONG: u64 = 0o777_7777_7777;
/// The place of what a check of the file system finds.
const LOST: &str = "lost+found";

/// A directory of a file system once more, on which nothing is mounted.
pub(crate) fn bare(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, path, flags)?)
}

/// Packs all that is in a directory. Files that change meanwhile are cut off or
/// filled up to the length that they had.
pub(crate) fn export(root: &OwnedFd, sink: impl Write) -> io::Result<()> {
    fchdir(root)?;
    let sink = BufWriter::with_capacity(1 << 16, sink);
    let mut export = Export { root: Path::new("."), sink, seen: HashMap::new() };
    let mut ahead = vec![PathBuf::new()];
    while let Some(path) = ahead.pop() {
        ahead.extend(export.entry(&path)?.into_iter().rev());
    }
    export.sink.write_all(&[0; 1024])?;
    export.sink.flush()
}

struct Export<'a, W> {
    root: &'a Path,
    sink: W,
    /// The first name of each file that has several.
    seen: HashMap<u64, PathBuf>,
}

impl<W: Write> Export<'_, W> {
    /// Packs one file and returns what lies in it.
    fn entry(&mut self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let whole = self.root.join(path);
        let meta = match whole.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            meta => meta?,
        };
        if meta.is_dir() {
            self.head(path, &meta, EntryType::Directory, b"", 0)?;
            return children(&whole, path);
        }
        let kind = meta.file_type();
        if kind.is_socket() {
            return Ok(Vec::new());
        }
        if meta.nlink() > 1 {
            if let Some(first) = self.seen.get(&meta.ino()).cloned() {
                self.head(path, &meta, EntryType::Link, first.as_os_str().as_bytes(), 0)?;
                return Ok(Vec::new());
            }
            self.seen.insert(meta.ino(), path.to_owned());
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(&whole)?;
            self.head(path, &meta, EntryType::Symlink, target.as_os_str().as_bytes(), 0)?;
        } else if kind.is_char_device() {
            self.head(path, &meta, EntryType::Char, b"", 0)?;
        } else if kind.is_block_device() {
            self.head(path, &meta, EntryType::Block, b"", 0)?;
        } else if kind.is_fifo() {
            self.head(path, &meta, EntryType::Fifo, b"", 0)?;
        } else {
            self.file(path, &whole, &meta)?;
        }
        Ok(Vec::new())
    }

    fn file(&mut self, path: &Path, whole: &Path, meta: &Metadata) -> io::Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(whole);
        let file: File = match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        self.head(path, meta, EntryType::Regular, b"", meta.len())?;
        let copied = io::copy(&mut file.take(meta.len()), &mut self.sink)?;
        io::copy(&mut io::repeat(0).take(meta.len() - copied), &mut self.sink)?;
        self.sink.write_all(&[0; 512][..padding(meta.len())])
    }

    /// Writes the header of an entry, and before it what that cannot say.
    fn head(
        &mut self,
        path: &Path,
        meta: &Metadata,
        kind: EntryType,
        link: &[u8],
        size: u64,
    ) -> io::Result<()> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
        }
        let mut records = attributes(&self.root.join(path));
        for (key, value) in [("path", name.as_slice()), ("linkpath", link)] {
            if value.len() > 100 {
                record(&mut records, key, value);
            }
        }
        let (uid, gid) = (u64::from(meta.uid()), u64::from(meta.gid()));
        for (key, number, most) in [("uid", uid, SHORT), ("gid", gid, SHORT), ("size", size, LONG)]
        {
            if number > most {
                record(&mut records, key, number.to_string().as_bytes());
            }
        }
        let time = u64::try_from(meta.mtime()).ok().filter(|time| *time <= LONG);
        if time.is_none() || meta.mtime_nsec() != 0 {
            let moment = moment(meta.mtime(), meta.mtime_nsec());
            record(&mut records, "mtime", moment.as_bytes());
        }
        if !records.is_empty() {
            self.records(&records)?;
        }
        let mut header = Header::new_ustar();
        put_names(&mut header, &name, link);
        header.set_entry_type(kind);
        header.set_mode(meta.mode() & 0o7777);
        header.set_uid(uid.min(SHORT));
        header.set_gid(gid.min(SHORT));
        header.set_size(size.min(LONG));
        header.set_mtime(time.unwrap_or_default());
        header.set_device_major(major(meta.rdev()))?;
        header.set_device_minor(minor(meta.rdev()))?;
        header.set_cksum();
        self.sink.write_all(header.as_bytes())
    }

    fn records(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        put_names(&mut header, b"more", b"");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.sink.write_all(header.as_bytes())?;
        self.sink.write_all(records)?;
        self.sink.write_all(&[0; 512][..padding(records.len() as u64)])
    }
}

/// A moment as a decimal number of seconds.
fn moment(sec: i64, nsec: i64) -> String {
    match (sec, nsec) {
        (sec, 0) => sec.to_string(),
        (0.., nsec) => format!("{sec}.{nsec:09}"),
        (sec, nsec) => format!("-{}.{:09}", -(sec + 1), 1_000_000_000 - nsec),
    }
}

/// What fills contents of `len` bytes up to a whole block.
fn padding(len: u64) -> usize {
    ((512 - len % 512) % 512) as usize
}

/// As much of two names as a header has room for.
fn put_names(header: &mut Header, name: &[u8], link: &[u8]) {
    let old = header.as_old_mut();
    for (place, text) in [(&mut old.name, name), (&mut old.linkname, link)] {
        let len = text.len().min(place.len());
        place[..len].copy_from_slice(&text[..len]);
    }
}

/// What lies in a directory, in order.
fn children(whole: &Path, path: &Path) -> io::Result<Vec<PathBuf>> {
    let top = path.as_os_str().is_empty();
    let mut names: Vec<OsString> = std::fs::read_dir(whole)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    names.retain(|name| !(top && name == LOST));
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// A file's extended attributes, as records.
fn attributes(path: &Path) -> Vec<u8> {
    let mut records = Vec::new();
    let mut names = vec![0_u8; MOST_ATTRIBUTES];
    // A file system without attributes has none to say.
    let Ok(len) = llistxattr(path, &mut names[..]) else { return records };
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; MOST_ATTRIBUTES];
        let key = OsString::from_vec(name.to_vec());
        if let Ok(len) = lgetxattr(path, &key, &mut value[..]) {
            record(&mut records, &format!("SCHILY.xattr.{}", key.to_string_lossy()), &value[..len]);
        }
    }
    records
}

/// Adds `length key=value`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + rest.to_string().len();
    len = rest + len.to_string().len();
    records.extend_from_slice(format!("{len} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_decimal_on_both_sides_of_1970() {
        for (sec, nsec, wanted) in
            [(3, 0, "3"), (3, 5, "3.000000005"), (-2, 0, "-2"), (-2, 750_000_000, "-1.250000000")]
        {
            assert_eq!(moment(sec, nsec), wanted);
        }
        assert_eq!(moment(-1, 500_000_000), "-0.500000000");
    }

    #[test]
    fn records_count_their_own_digits() {
        for len in [1, 90, 91, 92, 93, 94, 95, 990, 995, 9990] {
            let mut bytes = Vec::new();
            record(&mut bytes, "path", &vec![b'x'; len]);
            let said: usize =
                String::from_utf8_lossy(&bytes).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, bytes.len());
        }
    }
}
