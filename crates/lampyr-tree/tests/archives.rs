//! Archives of every shape: made by us, made up, and made to do harm.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lampyr_tree::{Limits, Summary, TreeError, pack, unpack};
use proptest::prelude::*;

const FILE: u8 = b'0';
const LINK: u8 = b'2';
const DIR: u8 = b'5';
const PAX: u8 = b'x';

fn packed(source: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    pack(source, &mut out).unwrap();
    out
}

fn open(bytes: &[u8], target: &Path) -> Result<Summary, TreeError> {
    unpack(bytes, target, Limits::default())
}

/// Unpacks into a fresh directory.
fn opened(bytes: &[u8]) -> Result<Summary, TreeError> {
    open(bytes, &tempfile::tempdir().unwrap().path().join("t"))
}

fn fix_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
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

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(bytes.len().next_multiple_of(512), 0);
    out
}

/// An entry with contents.
fn entry(kind: u8, name: &[u8], contents: &[u8]) -> Vec<u8> {
    [header(kind, name, b"", contents.len() as u64), padded(contents)].concat()
}

/// A pax record in front of the next entry.
fn record(pairs: &[(&str, &[u8])]) -> Vec<u8> {
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
fn tree(entries: &[Vec<u8>]) -> Vec<u8> {
    [header(DIR, b"./", b"", 0), entries.concat(), vec![0; 1024]].concat()
}

/// A file with this map in front of its data.
fn sparse(size: &str, map: &str, data: &[u8]) -> Vec<u8> {
    let contents = [padded(map.as_bytes()), data.to_vec()].concat();
    let numbers: [(&str, &[u8]); 3] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    tree(&[record(&numbers), entry(FILE, b"f", &contents)])
}

fn is_hostile(result: &Result<Summary, TreeError>) -> bool {
    matches!(result, Err(TreeError::Hostile { .. }))
}

fn is_damaged(result: &Result<Summary, TreeError>) -> bool {
    matches!(result, Err(TreeError::Damaged { .. }))
}

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

trait ToOs {
    fn to_os(&self) -> &OsStr;
}

impl ToOs for Vec<u8> {
    fn to_os(&self) -> &OsStr {
        OsStr::from_bytes(self)
    }
}

#[test]
fn names_that_no_tree_may_hold_are_refused() {
    let deep = vec!["d"; 257].join("/");
    let long = vec!["d".repeat(200); 21].join("/");
    let names: [&[u8]; 12] = [
        &[b'x'; 256],
        deep.as_bytes(),
        long.as_bytes(),
        b"a\0b",
        b"",
        b"/",
        b"//x",
        b"a//b",
        b"./x",
        b"x/.",
        b"..",
        b"x/../../y",
    ];
    for name in names {
        let result = opened(&tree(&[record(&[("path", name)]), header(FILE, b"fine", b"", 0)]));
        assert!(is_hostile(&result), "{}: {result:?}", name.escape_ascii());
    }
    for link in [b"".as_slice(), b"a\0b", &[b'x'; 4097]] {
        let result = opened(&tree(&[record(&[("linkpath", link)]), header(LINK, b"l", b"x", 0)]));
        assert!(is_hostile(&result), "{}: {result:?}", link.escape_ascii());
    }
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

#[test]
fn honest_maps_are_read() {
    let tmp = tempfile::tempdir().unwrap();
    let to = tmp.path().join("to");
    let data = [b'x'; 512];
    open(&sparse("2048", "2\n1024\n512\n2048\n0\n", &data), &to).unwrap();
    let found = fs::read(to.join("f")).unwrap();
    assert_eq!(found, [vec![0; 1024], data.to_vec(), vec![0; 512]].concat());
    open(&sparse("4096", "0\n", b""), &to).unwrap();
    assert_eq!(fs::read(to.join("f")).unwrap(), vec![0; 4096]);
}

#[test]
fn hostile_maps_are_refused() {
    let data = [b'x'; 512];
    let huge = u64::MAX.to_string();
    let over = format!("1\n{huge}\n512\n");
    let wrap = format!("2\n0\n512\n512\n{huge}\n");
    let maps = [
        "2\n512\n256\n512\n256\n",           // overlap
        "2\n1024\n256\n0\n256\n",            // not in order
        "1\n1536\n1024\n",                   // past the size
        "1\n0\n256\n",                       // less data than there is
        "1\n0\n1024\n",                      // more data than there is
        "3\n0\n512\n",                       // cut off
        "18446744073709551615\n0\n512\n",    // no end
        "99999999999999999999999\n0\n512\n", // no number
        "-1\n0\n512\n",                      // nor this
        "\n0\n512\n",                        // nor nothing
        "1\n+0\n512\n",
        "1 0 512\n",
        "",
        over.as_str(),
        wrap.as_str(),
    ];
    for map in maps {
        let result = opened(&sparse("2048", map, &data));
        assert!(is_damaged(&result), "{map:?}: {result:?}");
    }
    let result = opened(&sparse(&huge, "0\n", b""));
    assert!(matches!(result, Err(TreeError::TooLarge { unit: "bytes", .. })), "{result:?}");
    for size in ["", "-1", "1e3", "99999999999999999999"] {
        let result = opened(&sparse(size, "1\n0\n512\n", &data));
        assert!(is_damaged(&result), "{size:?}: {result:?}");
    }
}

#[test]
fn a_map_of_countless_extents_is_refused() {
    let count = 70_000;
    let map = format!("{count}\n{}", "0\n0\n".repeat(count));
    let result = opened(&sparse("2048", &map, b""));
    assert!(is_damaged(&result), "{result:?}");
}

#[test]
fn a_pax_record_overrides_its_header_and_is_checked_like_it() {
    let tmp = tempfile::tempdir().unwrap();
    let to = tmp.path().join("to");
    let pairs: [(&str, &[u8]); 3] =
        [("path", b"real"), ("mtime", b"12.5"), ("SCHILY.xattr.security.capability", b"x")];
    open(&tree(&[record(&pairs), entry(FILE, b"shown", b"text")]), &to).unwrap();
    let meta = fs::metadata(to.join("real")).unwrap();
    assert_eq!((meta.len(), meta.mtime(), meta.mtime_nsec()), (4, 12, 500_000_000));
    assert!(!to.join("shown").exists());

    fs::write(tmp.path().join("outside"), "outside").unwrap();
    let absolute = tmp.path().join("outside");
    for path in [b"../outside".as_slice(), absolute.as_os_str().as_bytes()] {
        let result = open(&tree(&[record(&[("path", path)]), entry(FILE, b"f", b"evil")]), &to);
        assert!(is_hostile(&result), "{result:?}");
    }
    assert_eq!(fs::read(tmp.path().join("outside")).unwrap(), b"outside");
    for time in ["", "x", "1.x", "99999999999999", "--1", "1.5.5"] {
        let result =
            opened(&tree(&[record(&[("mtime", time.as_bytes())]), header(FILE, b"f", b"", 0)]));
        assert!(is_damaged(&result), "{time:?}: {result:?}");
    }
}

#[test]
fn records_in_the_wrong_place_or_too_long_are_refused() {
    let path = record(&[("path", b"x")]);
    let alone = tree(std::slice::from_ref(&path));
    assert!(is_damaged(&opened(&alone)));
    assert!(is_hostile(&opened(&tree(&[path.clone(), path, header(FILE, b"f", b"", 0)]))));
    for kind in [b'g', b'L', b'K', b'S', b'7', 0x80] {
        let result = opened(&tree(&[entry(kind, b"x", b"5 a=b\n"), header(FILE, b"f", b"", 0)]));
        assert!(is_hostile(&result), "{kind}: {result:?}");
    }
    let long = record(&[("comment", &vec![b'x'; 20_000]), ("path", b"x")]);
    assert!(is_damaged(&opened(&tree(&[long, header(FILE, b"f", b"", 0)]))));
    // Refused by its header: none of what it announces is there.
    let endless = [header(DIR, b"./", b"", 0), header(PAX, b"pax", b"", 0o77_777_777_777)].concat();
    assert!(is_damaged(&opened(&endless)));
}

#[test]
fn entries_and_bytes_are_limited() {
    let files: Vec<_> = (0..5).map(|i| entry(FILE, format!("f{i}").as_bytes(), b"12345")).collect();
    let bytes = tree(&files);
    let limited = |entries, limit| {
        let tmp = tempfile::tempdir().unwrap();
        unpack(&*bytes, &tmp.path().join("t"), Limits { bytes: limit, entries })
    };
    assert_eq!(limited(6, 25).unwrap().files, 5);
    let result = limited(5, 25);
    assert!(matches!(result, Err(TreeError::TooLarge { limit: 5, unit: "entries" })));
    let result = limited(6, 24);
    assert!(matches!(result, Err(TreeError::TooLarge { limit: 24, unit: "bytes" })));
}

#[test]
fn nothing_follows_the_end() {
    let bytes = tree(&[header(FILE, b"f", b"", 0)]);
    for more in [vec![0; 1], vec![0; 512], b"x".to_vec(), header(FILE, b"g", b"", 0)] {
        assert!(is_damaged(&opened(&[bytes.clone(), more].concat())));
    }
    let middle = tree(&[vec![0; 512], header(FILE, b"f", b"", 0)]);
    assert!(is_damaged(&opened(&middle)));
    assert!(is_damaged(&opened(&[0; 1024])));
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

/// Every name below a directory with all that is kept of it.
fn contents(root: &Path) -> Vec<(PathBuf, u32, i64, i64, Vec<u8>)> {
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

/// Names that would lead astray if anybody followed them.
fn astray() -> impl Strategy<Value = &'static [u8]> {
    proptest::sample::select(vec![
        b"a".as_slice(),
        b"b",
        b"a/",
        b"a/b",
        b"l",
        b"l/x",
        b"l/f",
        b"b/l",
        b"b/l/f",
        b"./",
        b".",
        b"..",
        b"../s",
        b"../s/f",
        b"../../s/f",
        b"a/../../s/f",
        b"/tmp/x-lampyr",
        b"l/../s/f",
        b"",
    ])
}

/// Entries and records that an attacker may string together.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        4 => Just(FILE), 3 => Just(DIR), 4 => Just(LINK), 1 => Just(b'1'), 1 => any::<u8>(),
    ];
    let link = proptest::sample::select(vec![b"..".as_slice(), b"../s", b"../s/f", b"a", b"/"]);
    let record = prop_oneof![
        3 => Just(Vec::new()),
        1 => (astray(), proptest::sample::select(vec![b"../s".as_slice(), b"../s/f"]))
            .prop_map(|(path, link)| record(&[("path", path), ("linkpath", link)])),
        1 => any::<u16>().prop_map(|n| record(&[("GNU.sparse.realsize", n.to_string().as_bytes())])),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| entry(PAX, b"p", &bytes)),
    ];
    let contents = prop_oneof![
        4 => Just(Vec::new()),
        1 => proptest::collection::vec(any::<u8>(), 0..1200),
    ];
    (record, kind, astray(), link, contents).prop_map(|(record, kind, name, link, contents)| {
        let link = if kind == LINK || kind == b'1' { link } else { b"".as_slice() };
        let header = header(kind, name, link, contents.len() as u64);
        [record, header, padded(&contents)].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_the_target_is_touched(
        pieces in proptest::collection::vec(pieces(), 0..10),
        flips in proptest::collection::vec(any::<(u16, u8)>(), 0..4),
        repaired in any::<bool>(),
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let sentinel = tmp.path().join("s");
        fs::create_dir(&sentinel).unwrap();
        fs::write(sentinel.join("f"), "sentinel").unwrap();
        let mut bytes = tree(&pieces);
        for (at, byte) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        for block in bytes.chunks_exact_mut(512).filter(|b| repaired && &b[257..262] == b"ustar") {
            fix_checksum(block);
        }
        let before = contents(&sentinel);
        let _ = open(&bytes, &tmp.path().join("t"));
        prop_assert_eq!(contents(&sentinel), before);
        prop_assert_eq!(fs::metadata(sentinel.join("f")).unwrap().nlink(), 1);
        let beside = fs::read_dir(tmp.path()).unwrap().filter(|e| {
            !["s", "t"].contains(&e.as_ref().unwrap().file_name().to_str().unwrap())
        });
        prop_assert_eq!(beside.count(), 0);
        prop_assert!(!Path::new("/tmp/x-lampyr").exists());
    }
}
