//! What happens to things that are at the target already.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use common::{DIR, FILE, header, open, packed, tree};
use lampyr_tree::TreeError;

#[test]
fn a_tree_merges_into_what_is_there() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    fs::create_dir_all(from.join("d")).unwrap();
    for name in ["d/new", "d/old", "linked", "hard"] {
        fs::write(from.join(name), "new").unwrap();
    }
    let bytes = packed(&from);

    fs::create_dir_all(to.join("d")).unwrap();
    fs::set_permissions(to.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
    for name in ["d/old", "d/kept"] {
        fs::write(to.join(name), "old").unwrap();
    }
    let outside = tmp.path().join("outside");
    fs::write(&outside, "outside").unwrap();
    symlink(&outside, to.join("linked")).unwrap();
    fs::hard_link(&outside, to.join("hard")).unwrap();

    open(&bytes, &to).unwrap();
    let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
    assert_eq!(
        ["d/new", "d/old", "linked", "hard", "d/kept"].map(read),
        ["new", "new", "new", "new", "old"]
    );
    assert_eq!(fs::metadata(to.join("d")).unwrap().mode() & 0o777, 0o711);
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
    assert!(!to.join("linked").is_symlink());
}

#[test]
fn what_is_in_the_way_stays() {
    let file = tree(&[header(FILE, b"x", b"", 0)]);
    let dir = tree(&[header(DIR, b"x/", b"", 0), header(FILE, b"x/y", b"", 0)]);
    let tmp = tempfile::tempdir().unwrap();
    let (to, outside) = (tmp.path().join("to"), tmp.path().join("outside"));
    fs::create_dir_all(to.join("x/kept")).unwrap();
    fs::create_dir(&outside).unwrap();
    let conflict = |bytes: &[u8]| {
        let result = open(bytes, &to);
        assert!(matches!(result, Err(TreeError::Conflict { .. })), "{result:?}");
    };
    conflict(&file);
    assert!(to.join("x/kept").is_dir());
    fs::remove_dir_all(to.join("x")).unwrap();
    fs::write(to.join("x"), "file").unwrap();
    conflict(&dir);
    assert_eq!(fs::read(to.join("x")).unwrap(), b"file");
    fs::remove_file(to.join("x")).unwrap();
    symlink(&outside, to.join("x")).unwrap();
    conflict(&dir);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let made = Command::new("mkfifo").arg(to.join("p")).status().unwrap();
    assert!(made.success());
    conflict(&tree(&[header(FILE, b"p", b"", 0)]));
}
