//! Archives and trees, as the tests make and compare them.

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lampyr_tree::{Limits, Summary, TreeError, pack, unpack};

pub(crate) const FILE: u8 = b'0';
pub(crate) const LINK: u8 = b'2';
pub(crate) const DIR: u8 = b'5';
pub(crate) const PAX: u8 = b'x';

pub(crate) fn packed(source: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    pack(source, &mut out).unwrap();
    out
}

pub(crate) fn open(bytes: &[u8], target: &Path) -> Result<Summary, TreeError> {
    unpack(bytes, target, Limits::default())
}

/// Unpacks into a fresh directory.
pub(crate) fn opened(bytes: &[u8]) -> Result<Summary, TreeError> {
    open(bytes, &tempfile::tempdir().unwrap().path().join("t"))
}

pub(crate) fn fix_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(crate) fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000755");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000001");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    fix_checksum(&mut block);
    block
}

pub(crate) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(bytes.len().next_multiple_of(512), 0);
    out
}

/// An entry with contents.
pub(crate) fn entry(kind: u8, name: &[u8], contents: &[u8]) -> Vec<u8> {
    [header(kind, name, b"", contents.len() as u64), padded(contents)].concat()
}

/// A pax record in front of the next entry.
pub(crate) fn record(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        let rest = key.len() + value.len() + 3;
        let len = (rest + 1..rest + 9).find(|len| *len == rest + len.to_string().len()).unwrap();
        out.extend(format!("{len} {key}=").as_bytes());
        out.extend(*value);
        out.push(b'\n');
    }
    entry(PAX, b"pax", &out)
}

/// A whole archive of a tree.
pub(crate) fn tree(entries: &[Vec<u8>]) -> Vec<u8> {
    [header(DIR, b"./", b"", 0), entries.concat(), vec![0; 1024]].concat()
}

/// A file with this map in front of its data.
pub(crate) fn sparse(size: &str, map: &str, data: &[u8]) -> Vec<u8> {
    let contents = [padded(map.as_bytes()), data.to_vec()].concat();
    let numbers: [(&str, &[u8]); 3] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    tree(&[record(&numbers), entry(FILE, b"f", &contents)])
}

pub(crate) fn is_hostile(result: &Result<Summary, TreeError>) -> bool {
    matches!(result, Err(TreeError::Hostile { .. }))
}

pub(crate) fn is_damaged(result: &Result<Summary, TreeError>) -> bool {
    matches!(result, Err(TreeError::Damaged { .. }))
}

pub(crate) trait ToOs {
    fn to_os(&self) -> &OsStr;
}

impl ToOs for Vec<u8> {
    fn to_os(&self) -> &OsStr {
        OsStr::from_bytes(self)
    }
}

/// Every name below a directory with all that is kept of it.
pub(crate) fn contents(root: &Path) -> Vec<(PathBuf, u32, i64, i64, Vec<u8>)> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let meta = path.symlink_metadata().unwrap();
        let bytes = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_owned()
        } else {
            fs::read(&path).unwrap()
        };
        let below = path.strip_prefix(root).unwrap().to_owned();
        found.push((below, meta.mode(), meta.mtime(), meta.mtime_nsec(), bytes));
    }
    found.sort();
    found
}
