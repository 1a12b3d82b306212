//! Archives there and back, and archives that nobody honest wrote.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use lampyr_tree::{Limits, Summary, TreeError, pack, unpack};
use proptest::prelude::*;
use tar::{EntryType, Header};

fn packed(source: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    pack(source, &mut out).unwrap();
    out
}

fn open(bytes: &[u8], target: &Path) -> Result<Summary, TreeError> {
    unpack(bytes, target, Limits::default())
}

fn header(kind: EntryType, name: &[u8], link: &[u8], mode: u32, size: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A tree of the given headers, properly closed.
fn tree(entries: &[Vec<u8>]) -> Vec<u8> {
    let root = header(EntryType::Directory, b"./", b"", 0o755, 0);
    [root, entries.concat(), vec![0; 1024]].concat()
}

fn a_tree(root: &Path) {
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/run"), "#!/bin/sh").unwrap();
    fs::set_permissions(root.join("d/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.join("new\nline"), vec![7; 70_000]).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o555)).unwrap();
}

#[test]
fn a_tree_packs_the_same_after_a_round_trip() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("x/to"));
    a_tree(&from);
    let bytes = packed(&from);
    let summary = open(&bytes, &to).unwrap();
    assert_eq!((summary.files, summary.directories, summary.symlinks), (2, 3, 2));
    assert_eq!(packed(&to), bytes);
    for root in [from, to] {
        fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn hostile_entries_are_refused_and_touch_nothing_outside() {
    let (file, link) = (EntryType::Regular, EntryType::Symlink);
    let evil = [
        tree(&[header(file, b"../x", b"", 0o644, 0)]),
        tree(&[header(file, b"/x", b"", 0o644, 0)]),
        tree(&[header(file, b"a/../../x", b"", 0o644, 0)]),
        tree(&[header(link, b"l", b"..", 0o777, 0), header(file, b"l/x", b"", 0o644, 0)]),
        tree(&[header(EntryType::Link, b"h", b"../secret", 0o644, 0)]),
        tree(&[header(EntryType::Char, b"c", b"", 0o644, 0)]),
        tree(&[header(EntryType::Fifo, b"p", b"", 0o644, 0)]),
    ];
    for bytes in evil {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("secret"), "s").unwrap();
        let result = open(&bytes, &tmp.path().join("t"));
        assert!(matches!(result, Err(TreeError::Hostile { .. })), "{result:?}");
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 2);
        assert_eq!(fs::metadata(tmp.path().join("secret")).unwrap().nlink(), 1);
    }
}

#[test]
fn setuid_is_dropped_duplicates_replace_and_size_is_limited() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("secret"), "s").unwrap();
    let link = header(EntryType::Symlink, b"f", b"../secret", 0o777, 0);
    let file = header(EntryType::Regular, b"f", b"", 0o6755, 0);
    open(&tree(&[link, file]), &tmp.path().join("t")).unwrap();
    let mode = fs::symlink_metadata(tmp.path().join("t/f")).unwrap().mode();
    assert_eq!(mode, 0o100_755);
    assert_eq!(fs::read(tmp.path().join("secret")).unwrap(), b"s");
    let huge = tree(&[header(EntryType::Regular, b"f", b"", 0o644, u64::MAX >> 1)]);
    let result = open(&huge, &tmp.path().join("u"));
    assert!(matches!(result, Err(TreeError::TooLarge { unit: "bytes", .. })));
}

#[test]
fn holes_stay_holes() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    let file = fs::File::create(&from).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 500 << 20).unwrap();
    let bytes = packed(&from);
    assert!(bytes.len() < 1 << 20);
    open(&bytes, &to).unwrap();
    let meta = fs::metadata(&to).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() < 4096);
    assert_eq!(packed(&to).len(), bytes.len());
}

#[test]
fn a_single_file_goes_to_the_name_or_into_the_directory() {
    let tmp = tempfile::tempdir().unwrap();
    let from = tmp.path().join("from");
    fs::write(&from, "x").unwrap();
    let bytes = packed(&from);
    for (target, lands) in [("a/b", "a/b"), ("a", "a/from"), ("new/", "new/from")] {
        open(&bytes, &tmp.path().join(target)).unwrap();
        assert_eq!(fs::read(tmp.path().join(lands)).unwrap(), b"x");
    }
    assert!(matches!(pack(&tmp.path().join("no"), Vec::new()), Err(TreeError::NotFound { .. })));
}

#[test]
fn a_cut_stream_is_an_error_at_every_length() {
    let tmp = tempfile::tempdir().unwrap();
    let from = tmp.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("f"), vec![1; 700]).unwrap();
    let bytes = packed(&from);
    for len in (0..bytes.len()).step_by(37).chain([bytes.len() - 512, bytes.len() - 1]) {
        let result = open(&bytes[..len], &tmp.path().join("to"));
        assert!(matches!(result, Err(TreeError::Truncated)), "{len}: {result:?}");
    }
}

proptest! {
    #[test]
    fn mutated_archives_stay_inside(flips in proptest::collection::vec(any::<(u16, u8)>(), 1..9)) {
        let tmp = tempfile::tempdir().unwrap();
        let from = tmp.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("f"), vec![1; 700]).unwrap();
        symlink("../from", from.join("l")).unwrap();
        let mut bytes = packed(&from);
        for (at, byte) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let before = packed(&from);
        let _ = open(&bytes, &tmp.path().join("to"));
        prop_assert_eq!(packed(&from), before);
        let to = usize::from(tmp.path().join("to").exists());
        prop_assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1 + to);
    }
}
