//! What the first build with this format wrote, byte for byte. It must be read
//! for ever, and what is written today must be the same: where one of these
//! tests fails, docs/formats.md has the three ways to change a format.

use std::path::{Path, PathBuf};

use super::blobs::Blobs;
use super::config::Config;
use super::layout::{Index, Kind, Manifest};

const CHANGED: &str = "this build writes another format: see docs/formats.md";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/snapshot-v1")
}

#[test]
fn an_old_index_is_read_and_written_as_it_was() {
    let (dir, new) = (golden(), tempfile::tempdir().unwrap());
    let index = Index::read(&dir).unwrap();
    let names: Vec<_> = index.names().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["base", "top"]);
    index.write(new.path()).unwrap();
    for file in ["index.json", "oci-layout"] {
        let read = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
        assert!(read(new.path()) == read(&dir), "{file}: {CHANGED}");
    }
}

#[test]
fn an_old_manifest_and_its_configuration_are_read_and_written_as_they_were() {
    let dir = golden();
    let (index, blobs) = (Index::read(&dir).unwrap(), Blobs::new(&dir).unwrap());
    let found: Vec<_> = index.names().collect();
    for (_, digest) in &found {
        let manifest = Manifest::read(&blobs, *digest).unwrap();
        assert!(manifest.to_bytes().unwrap() == blobs.read(*digest).unwrap(), "{CHANGED}");
        let config = Config::read(&blobs, *digest).unwrap();
        let bytes = blobs.read(manifest.config().digest).unwrap();
        assert!(config.to_bytes().unwrap() == bytes, "{CHANGED}");
    }
    let (base, top) = (found[0].1, found[1].1);
    let manifest = Manifest::read(&blobs, top).unwrap();
    let count = |kind| manifest.of(kind).count();
    let counts = [Kind::Memory, Kind::Pages, Kind::Devices, Kind::Disk].map(count);
    assert_eq!((counts, manifest.memory().len()), ([1, 2, 1, 1], 3));
    let (of_base, of_top) =
        (Config::read(&blobs, base).unwrap(), Config::read(&blobs, top).unwrap());
    assert_eq!((of_base.parent, of_top.parent), (None, Some(base)));
    assert_eq!((of_base.of.memory, &*of_base.labels["made"]), (128 << 20, "once"));
}
