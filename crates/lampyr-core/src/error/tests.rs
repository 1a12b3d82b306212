//! What errors say.

use super::*;

#[test]
fn every_end_of_a_machine_has_a_hint() {
    let ended = |log: &str, starved| {
        Error::Crashed(Ended { how: "it ended".into(), log: log.into(), starved })
    };
    let hint = |error: Error| error.hint().unwrap();
    assert_eq!(hint(ended("a\nb\n\n", false)), "its last words were: b");
    assert!(hint(ended("", false)).contains("lampyr doctor"));
    assert!(hint(ended("b", true)).contains("no room left"));
}

#[test]
fn all_that_was_built_on_a_snapshot_is_named() {
    let said = |count: usize| {
        let by = ["a", "b", "c", "d", "e", "f", "g"][..count].iter();
        let by = by.map(|name| name.parse().unwrap()).collect();
        Error::SnapshotNeeded { name: "x".parse().unwrap(), by }.to_string()
    };
    assert_eq!(said(1), "snapshot 'a' was built on 'x'");
    assert_eq!(said(2), "snapshots 'a', 'b' were built on 'x'");
    assert_eq!(said(7), "snapshots 'a', 'b', 'c', 'd', 'e' and 2 more were built on 'x'");
}
