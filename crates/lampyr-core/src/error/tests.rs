//! What errors say.

use super::*;

#[test]
fn what_is_in_conflict_with_what_is_there_is_of_one_kind() {
    let name = || Name::try_from("one".to_owned()).unwrap();
    let conflicts = [
        Error::NameTaken(name()),
        Error::VolumeTaken(name()),
        Error::VolumeBusy(name()),
        Error::NetworkFull(name()),
        Error::SnapshotTaken(name()),
        ImageError::InUse { name: "default".into() }.into(),
        Error::SnapshotBusy(name()),
        Error::SnapshotNeeded { name: name(), by: vec![name()] },
        Error::HoldsSecrets,
        Error::NoPoint(None),
    ];
    for error in conflicts {
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    // There is nothing wrong with what was asked: no VM can be made of it.
    let damaged = Error::SnapshotDamaged(lampyr_oci::Digest::of(b""));
    let image = "default".to_owned();
    let others =
        [damaged, Error::ImageChanged { image }, Error::Incompatible("a difference".into())];
    for error in others {
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed, "{error}");
    }
}

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
