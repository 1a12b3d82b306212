//! What registries hold that is no image: a manifest with a type of its own,
//! and parts that whoever made it knows the meaning of.

use std::fs::File;
use std::path::Path;

use lampyr_types::Task;
use serde_json::json;

use crate::manifest::{Descriptor, Manifest, senseless, shown};
use crate::pull::{is_ours, mirrors};
use crate::push::{USUAL_MANIFEST, put_manifest, upload};
use crate::transfer::arrive;
use crate::{Access, Blobs, Digest, OciError, Reference, Registry, Settings};

/// A manifest with a type of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What it is.
    pub kind: String,
    /// What describes it.
    pub config: Part,
    /// All else.
    pub parts: Vec<Part>,
}

/// A blob of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: String,
    /// What it is called.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl From<Descriptor> for Part {
    fn from(of: Descriptor) -> Self {
        Self { kind: shown(&of.media_type), digest: of.digest, size: of.size }
    }
}

/// What the types of saved VMs begin with, whatever their version.
pub const SNAPSHOT: &str = "application/vnd.lampyr.snapshot.";

impl Artifact {
    /// Nothing of it is believed but that it is a manifest.
    fn parse(bytes: &[u8], what: &str) -> Result<Self, OciError> {
        let manifest = Manifest::parse(bytes, what)?;
        let config = manifest.config.ok_or_else(|| senseless(what, &"it has no configuration"))?;
        let parts = manifest.layers.into_iter().map(Part::from).collect();
        Ok(Self { kind: shown(&manifest.artifact_type), config: config.into(), parts })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let descriptor =
            |part: &Part| json!({"mediaType": part.kind, "digest": part.digest, "size": part.size});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": USUAL_MANIFEST,
            "artifactType": self.kind,
            "config": descriptor(&self.config),
            "layers": self.parts.iter().map(descriptor).collect::<Vec<_>>(),
        });
        manifest.to_string().into_bytes()
    }
}

/// An artifact that a registry has.
#[derive(Debug)]
pub struct Offer {
    registry: Registry,
    /// What the registry says that it is.
    pub artifact: Artifact,
}

impl Offer {
    /// Looks for an artifact; mirrors of its registry are asked first.
    pub async fn find(reference: &Reference, settings: &Settings) -> Result<Self, OciError> {
        for mirror in mirrors(reference, settings) {
            match Self::of(mirror, reference, settings).await {
                Err(e) if !is_ours(&e) => {}
                done => return done,
            }
        }
        Self::of(reference.registry(), reference, settings).await
    }

    async fn of(name: &str, reference: &Reference, settings: &Settings) -> Result<Self, OciError> {
        let repository = reference.repository();
        let registry = Registry::open(name, repository, Access::Pull, settings).await?;
        let bytes = registry.manifest(reference).await?;
        let artifact = Artifact::parse(&bytes, &reference.to_string())?;
        Ok(Self { registry, artifact })
    }

    /// The bytes of a small part, verified; at most so many.
    pub async fn read(&self, part: &Part, most: u64) -> Result<Vec<u8>, OciError> {
        self.registry.small_blob(part.digest, most).await
    }

    /// Fetches a part, going on with what has come of it before, and returns it,
    /// verified. It stays until [`Blobs::forget`]. The caller holds the lock that
    /// [`Blobs::fetching`] gives.
    pub async fn fetch(
        &self,
        blobs: &Blobs,
        part: &Part,
        task: &dyn Task,
    ) -> Result<File, OciError> {
        let path = blobs.partial(part.digest)?;
        arrive(&self.registry, &path, part.digest, part.size, task).await
    }
}

/// A place in a registry for an artifact.
#[derive(Debug)]
pub struct Shelf {
    registry: Registry,
    reference: Reference,
}

impl Shelf {
    /// Gets ready to put something there.
    pub async fn open(reference: &Reference, settings: &Settings) -> Result<Self, OciError> {
        let (name, repository) = (reference.registry(), reference.repository());
        let registry = Registry::open(name, repository, Access::Push, settings).await?;
        Ok(Self { registry, reference: reference.clone() })
    }

    /// Puts a part there, unless the registry has it.
    pub async fn put(&self, digest: Digest, file: &Path) -> Result<(), OciError> {
        upload(&self.registry, digest, file).await
    }

    /// Names what was put there, and returns the digest of its manifest.
    pub async fn finish(self, artifact: &Artifact) -> Result<Digest, OciError> {
        let bytes = artifact.to_bytes();
        let digest = Digest::of(&bytes);
        put_manifest(&self.registry, &self.reference, digest, bytes).await?;
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_read_as_it_was_written() {
        let part = |kind: &str| Part { kind: kind.into(), digest: Digest::of(b"x"), size: 1 };
        let parts = vec![part("application/a"), part("application/b")];
        let artifact = Artifact { kind: "application/x".into(), config: part("c"), parts };
        assert_eq!(Artifact::parse(&artifact.to_bytes(), "x").unwrap(), artifact);
    }

    #[test]
    fn what_has_no_configuration_is_no_artifact() {
        let index = br#"{"schemaVersion": 2, "manifests": []}"#;
        assert!(matches!(Artifact::parse(index, "x"), Err(OciError::Senseless { .. })));
    }
}
