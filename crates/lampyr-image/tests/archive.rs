//! Everything that is made from Debian's archive, made for real. Shown with
//! `--nocapture`: how long each part takes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests")]

use std::path::PathBuf;
use std::time::Instant;

use lampyr_image::{Arch, DEFAULT_IMAGE, Image, Kit, QemuBuild, fetch_from, fetch_newer};
use lampyr_store::Store;
use lampyr_types::NoProgress;

/// The state directory to fill: `LAMPYR_TEST_HOME`, else one that goes away.
fn home() -> (Option<tempfile::TempDir>, Store) {
    if let Some(path) = std::env::var_os("LAMPYR_TEST_HOME") {
        return (None, Store::open(&PathBuf::from(path)).unwrap());
    }
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(&tmp.path().join("home")).unwrap();
    (Some(tmp), store)
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let made = work();
    eprintln!("{what}: {:.2?}", begun.elapsed());
    made
}

#[test]
#[ignore = "downloads packages; run by xtask"]
fn a_fresh_home_gets_a_kit_an_image_and_both_qemus() {
    let (_tmp, store) = home();
    let agent = std::fs::read(std::env::current_exe().unwrap()).unwrap();

    let kit = timed("kit", || Kit::ensure(&store, Arch::HOST, &agent, &NoProgress).unwrap());
    let again = timed("kit again", || Kit::current(&store, Arch::HOST, &agent).unwrap());
    assert_eq!(again.manifest, kit.manifest);
    let other = timed("kit with another agent", || {
        Kit::ensure(&store, Arch::HOST, b"another agent", &NoProgress).unwrap()
    });
    assert_ne!(other.manifest.digest, kit.manifest.digest);

    let newer = timed("newer QEMU", || fetch_newer(&store, Arch::HOST, &NoProgress).unwrap());
    let builds = timed("QEMU list", || QemuBuild::list(&store, Arch::HOST));
    assert_eq!(builds.is_empty(), newer.is_none());

    let image = timed("image", || Image::ensure_default(&store, &NoProgress).unwrap());
    let name = DEFAULT_IMAGE.parse().unwrap();
    assert_eq!(timed("image again", || Image::find(&store, &name).unwrap()), image);
}

#[test]
#[ignore = "downloads packages; run by xtask"]
fn the_release_own_qemu_can_be_fetched_beside_a_newer_one() {
    let (_tmp, store) = home();
    let os_release = std::fs::read_to_string("/etc/os-release").unwrap();
    let codename = os_release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME=")).unwrap();
    let dir = timed("QEMU of the release", || {
        fetch_from(&store, Arch::HOST, codename, &NoProgress).unwrap()
    });
    let builds = QemuBuild::list(&store, Arch::HOST);
    assert!(builds.iter().any(|build| build.program.starts_with(&dir)), "{builds:?}");
}

#[test]
#[ignore = "downloads packages; run by xtask"]
fn every_architecture_has_a_kit() {
    let (_tmp, store) = home();
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let kit = timed("kit", || Kit::ensure(&store, arch, b"agent", &NoProgress).unwrap());
        assert!(kit.manifest.modules.contains(&"virtio_blk".to_owned()), "{:?}", kit.manifest);
    }
}
