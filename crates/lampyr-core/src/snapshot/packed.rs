//! A snapshot as registries hold it: its manifest as it is, each of its parts
//! packed, and the root disk that all of it stands on.
//!
//! The manifest is what the artifact's configuration is, so that a snapshot has
//! the same digest wherever it is. Parts are in the manifest's order.

use lampyr_oci::{Artifact, Digest, Part, SNAPSHOT};

use super::layout::{Kind, Manifest};
use crate::Error;

/// The type of the whole.
pub(super) const PACKED: &str = "application/vnd.lampyr.snapshot.packed.v1";
const MANIFEST: &str = "application/vnd.lampyr.snapshot.manifest.v1+json";
const BASE: &str = "application/vnd.lampyr.image.disk.v1+ext4+zstd";

/// What a part is called on the way. A configuration is small, and is to be read
/// before anything is fetched: it is as it is.
fn kind(part: Kind) -> String {
    let word = serde_json::to_value(part).unwrap_or_default();
    let word = word.as_str().unwrap_or_default();
    if part == Kind::Config { word.to_owned() } else { format!("{word}+zstd") }
}

/// The artifact of a snapshot: its manifest, its parts, and its base.
pub(super) fn artifact(
    manifest: &Manifest,
    itself: (Digest, u64),
    parts: Vec<(Digest, u64)>,
) -> Artifact {
    let part = |kind: String, (digest, size)| Part { kind, digest, size };
    let kinds = manifest.all().map(|part| kind(part.media_type)).chain([BASE.to_owned()]);
    let parts = kinds.zip(parts).map(|(kind, of)| part(kind, of)).collect();
    Artifact { kind: PACKED.to_owned(), config: part(MANIFEST.to_owned(), itself), parts }
}

/// Requires that an artifact is a snapshot that this build can read.
pub(super) fn check_kind(artifact: &Artifact, reference: &str) -> Result<(), Error> {
    match artifact.kind.as_str() {
        PACKED if artifact.config.kind == MANIFEST => Ok(()),
        PACKED => Err(Error::SnapshotFormat(artifact.config.kind.clone())),
        other if other.starts_with(SNAPSHOT) => Err(Error::SnapshotFormat(other.to_owned())),
        _ => Err(Error::NotSnapshot(reference.to_owned())),
    }
}

/// Requires that an artifact has the parts that its manifest lists, and the base;
/// returns those of the manifest, and the base.
pub(super) fn check_parts<'a>(
    artifact: &'a Artifact,
    manifest: &Manifest,
) -> Result<(&'a [Part], &'a Part), Error> {
    let damaged = || Error::SnapshotDamaged(artifact.config.digest);
    let kinds: Vec<_> = manifest.all().map(|part| kind(part.media_type)).collect();
    let known = |part: &&Part| part.kind == BASE || kinds.contains(&part.kind);
    if let Some(stranger) = artifact.parts.iter().find(|part| !known(part)) {
        return Err(Error::SnapshotFormat(stranger.kind.clone()));
    }
    let (base, parts) = artifact.parts.split_last().ok_or_else(damaged)?;
    let found = parts.iter().map(|part| &part.kind);
    if base.kind != BASE || !found.eq(kinds.iter()) {
        return Err(damaged());
    }
    Ok((parts, base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::layout::Descriptor;

    fn whole() -> (Manifest, Artifact) {
        let descriptor = |kind| Descriptor::new(kind, Digest::of(b"x"), 1);
        let layers = [Kind::Memory, Kind::Pages, Kind::Devices, Kind::Disk].map(descriptor);
        let manifest = Manifest::new(descriptor(Kind::Config), layers.to_vec());
        let part = (Digest::of(b"packed"), 2);
        let artifact = artifact(&manifest, part, vec![part; 6]);
        (manifest, artifact)
    }

    #[test]
    fn what_is_sent_is_what_is_taken() {
        let (manifest, artifact) = whole();
        check_kind(&artifact, "x").unwrap();
        let (parts, base) = check_parts(&artifact, &manifest).unwrap();
        assert_eq!((parts.len(), base.kind.as_str()), (5, BASE));
        assert_eq!(parts[1].kind, "application/vnd.lampyr.memory.v1+zstd");
    }

    #[test]
    fn what_is_unknown_is_named() {
        let (manifest, whole) = whole();
        let said = |change: &dyn Fn(&mut Artifact)| {
            let mut artifact = whole.clone();
            change(&mut artifact);
            let checked = check_kind(&artifact, "localhost/x:1");
            checked
                .and_then(|()| check_parts(&artifact, &manifest).map(drop))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(said(&|a| a.kind.clear()), "localhost/x:1 is no snapshot");
        let newer = format!("{SNAPSHOT}packed.v2");
        assert!(
            said(&|a| a.kind = newer.clone())
                .ends_with("it has application/vnd.lampyr.snapshot.packed.v2")
        );
        assert!(said(&|a| a.config.kind = "m".into()).ends_with("it has m"));
        assert!(
            said(&|a| a.parts[2].kind = "application/y".into()).ends_with("it has application/y")
        );
        for change in
            [&|a: &mut Artifact| a.parts.swap(1, 2), &|a| drop(a.parts.pop()), &|a| a.parts.clear()]
                as [&dyn Fn(&mut Artifact); 3]
        {
            assert!(said(change).starts_with("the snapshot is damaged"));
        }
    }
}
