//! Archives that nobody honest wrote.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{
    DIR, FILE, LINK, PAX, contents, entry, fix_checksum, header, is_damaged, is_hostile, open,
    opened, padded, record, tree,
};
use lampyr_tree::{Limits, TreeError, unpack};
use proptest::prelude::*;

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
