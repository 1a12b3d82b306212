//! Trees there and back: what was packed is what is unpacked.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{ToOs, contents, open, packed};
use lampyr_tree::{TreeError, pack};
use proptest::prelude::*;

#[test]
fn five_thousand_files_survive() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    for i in 0..5000 {
        let dir = from.join(format!("d{}", i % 70));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{i}")), i.to_string()).unwrap();
    }
    let bytes = packed(&from);
    let summary = open(&bytes, &to).unwrap();
    assert_eq!((summary.files, summary.directories), (5000, 71));
    assert_eq!(fs::read(to.join("d69/f4969")).unwrap(), b"4969");
    assert!(packed(&to) == bytes);
}

#[test]
fn names_of_any_bytes_and_the_greatest_length_survive() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    let longest = [b"\xff\xfe", [b'x'; 253].as_slice()].concat();
    let mut dir = from.clone();
    for _ in 0..8 {
        dir.push(OsStr::from_bytes(&longest));
    }
    fs::create_dir_all(&dir).unwrap();
    for name in [b"\xc3\x28 bad".as_slice(), b"\\ \"'\t\x01\x7f", b"-rf", b"a=b\n12 path=c"] {
        fs::write(dir.join(OsStr::from_bytes(name)), "x").unwrap();
        symlink(OsStr::from_bytes(name), dir.join([name, b".l"].concat().to_os())).unwrap();
    }
    let bytes = packed(&from);
    assert_eq!(open(&bytes, &to).unwrap().files, 4);
    assert!(packed(&to) == bytes);
}

#[test]
fn a_source_that_is_too_deep_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let deep: PathBuf = std::iter::repeat_n("d", 257).collect();
    fs::create_dir_all(tmp.path().join(deep)).unwrap();
    let result = pack(tmp.path(), Vec::new());
    assert!(matches!(result, Err(TreeError::TooDeep { .. })), "{result:?}");
}

#[test]
fn gnu_tar_reads_what_we_write() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    let long = "x".repeat(200);
    fs::create_dir_all(from.join(&long)).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join(&long).join("f"), "text").unwrap();
    symlink("f", from.join(&long).join("l")).unwrap();
    let holes = fs::File::create(from.join("holes")).unwrap();
    holes.set_len(8 << 20).unwrap();
    holes.write_all_at(b"data", 4 << 20).unwrap();
    let bytes = packed(&from);

    let tar = |args: &[&str]| {
        let mut tar = Command::new("tar")
            .args(args)
            .current_dir(&to)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success(), "tar {args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = tar(&["-tf", "-"]);
    let expected = format!("./\nholes\n{long}/\n{long}/f\n{long}/l\n");
    assert_eq!(listed, expected);
    tar(&["-xpf", "-"]);
    assert!(packed(&to) == bytes);
}

#[test]
#[cfg(target_os = "linux")]
fn files_that_say_no_length_are_read_to_their_end_within_a_bound() {
    let tmp = tempfile::tempdir().unwrap();
    for file in
        ["/proc/version", "/proc/self/mounts", "/sys/kernel/mm/transparent_hugepage/enabled"]
    {
        // Not every host has each of them.
        let Ok(text) = fs::read(file) else { continue };
        let to = tmp.path().join("to");
        let summary = open(&packed(Path::new(file)), &to).unwrap();
        assert_eq!((summary.bytes, fs::read(&to).unwrap()), (text.len() as u64, text), "{file}");
    }
    assert!(fs::read(tmp.path().join("to")).unwrap().len() > 1);
    let result = pack(Path::new("/proc/self/pagemap"), Vec::new());
    assert!(matches!(result, Err(TreeError::Endless { .. })), "{result:?}");
}

/// A thing at a random place.
#[derive(Debug, Clone)]
enum Thing {
    Dir,
    File(Vec<u8>),
    Holes(u32, Vec<u8>),
    Link(Vec<u8>),
}

fn thing() -> impl Strategy<Value = Thing> {
    let bytes = |len| proptest::collection::vec(any::<u8>(), len);
    prop_oneof![
        2 => Just(Thing::Dir),
        3 => bytes(0..1500_usize).prop_map(Thing::File),
        1 => (0_u32..1 << 21, bytes(1..9_usize)).prop_map(|(at, b)| Thing::Holes(at, b)),
        1 => proptest::collection::vec(1_u8..=255, 1..200).prop_map(Thing::Link),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = (1_u8..=255).prop_map(|b| if b == b'/' { b'_' } else { b });
    let any = proptest::collection::vec(byte, 1..20).prop_filter("no dots", |n| n[0] != b'.');
    prop_oneof![4 => "[a-c]".prop_map(String::into_bytes), 1 => any]
}

/// Puts a thing on disk, unless something is in its way.
fn put(root: &Path, path: &[Vec<u8>], thing: &Thing, mode: u32) {
    let at = root.join(path.iter().map(ToOs::to_os).collect::<PathBuf>());
    let around = at.parent().unwrap();
    if fs::create_dir_all(around).is_err() || at.symlink_metadata().is_ok() {
        return;
    }
    match thing {
        Thing::Dir => fs::create_dir(&at).unwrap(),
        Thing::File(bytes) => fs::write(&at, bytes).unwrap(),
        Thing::Holes(start, bytes) => {
            let file = fs::File::create(&at).unwrap();
            file.write_all_at(bytes, u64::from(*start)).unwrap();
            file.set_len(u64::from(*start) * 2 + 100).unwrap();
        }
        Thing::Link(target) => return symlink(target.to_os(), &at).unwrap(),
    }
    fs::set_permissions(&at, fs::Permissions::from_mode(0o700 | mode)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_survives(
        things in proptest::collection::vec(
            (proptest::collection::vec(name(), 1..5), thing(), 0_u32..0o100), 0..25),
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
        fs::create_dir(&from).unwrap();
        for (path, thing, mode) in &things {
            put(&from, path, thing, *mode);
        }
        let mut bytes = Vec::new();
        let summary = pack(&from, &mut bytes).unwrap();
        prop_assert_eq!(open(&bytes, &to).unwrap(), summary);
        // Where the holes lie is the file system's choice; the contents are not.
        prop_assert!(contents(&to) == contents(&from));
        // A second time over the first changes nothing but directories' times.
        prop_assert_eq!(open(&bytes, &to).unwrap(), summary);
        let timeless = |root: &Path| {
            let all = contents(root).into_iter();
            all.map(|(path, mode, _, _, bytes)| (path, mode, bytes)).collect::<Vec<_>>()
        };
        prop_assert!(timeless(&to) == timeless(&from));
    }
}
