//! The maps of files with holes, honest and hostile.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{is_damaged, open, opened, sparse};
use lampyr_tree::TreeError;

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
