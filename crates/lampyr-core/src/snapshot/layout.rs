//! The layout on the disk: an OCI image layout, and in it manifests of our own
//! kind.
//!
//! ```text
//! oci-layout          which layout this is
//! index.json          the manifests, by name; its rename is the commit point
//! blobs/sha256/…      everything else
//! ```
//!
//! Each kind of blob has its version in its media type. There are three ways
//! to change one (docs/formats.md): not at all; readably, under the same type;
//! or else under a new type, which an older build refuses by name.

use std::io::ErrorKind;
use std::path::Path;

use lampyr_oci::Digest;
use lampyr_store::{StoreError, read_json, write_json};
use lampyr_types::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blobs::Blobs;
use crate::Error;

const INDEX: &str = "index.json";
/// The annotation that names a manifest.
const NAMED: &str = "org.opencontainers.image.ref.name";

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A list of the others.
    #[serde(rename = "application/vnd.oci.image.manifest.v1+json")]
    Manifest,
    /// What the machine is, and what it needs.
    #[serde(rename = "application/vnd.lampyr.snapshot.config.v1+json")]
    Config,
    /// A machine's memory, byte for byte.
    #[serde(rename = "application/vnd.lampyr.memory.v1")]
    Memory,
    /// Pages that go over what comes before.
    #[serde(rename = "application/vnd.lampyr.pages.v1")]
    Pages,
    /// The state of the devices, as the engine has it.
    #[serde(rename = "application/vnd.lampyr.devices.v1")]
    Devices,
    /// A layer of the disk over what comes before.
    #[serde(rename = "application/vnd.lampyr.disk.v1+qcow2")]
    Disk,
}

/// A blob and how it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: Kind,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    annotations: Annotations,
}

type Annotations = std::collections::BTreeMap<String, String>;

impl Descriptor {
    pub(super) fn new(media_type: Kind, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, annotations: Annotations::new() }
    }
}

/// What a snapshot is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u32,
    media_type: Kind,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// The type of the whole.
const ARTIFACT: &str = "application/vnd.lampyr.snapshot.v1";

impl Manifest {
    pub(super) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let (media_type, artifact_type) = (Kind::Manifest, ARTIFACT.to_owned());
        Self { schema_version: 2, media_type, artifact_type, config, layers }
    }

    /// Reads one, verified.
    pub(super) fn read(blobs: &Blobs, digest: Digest) -> Result<Self, Error> {
        Self::parse(&blobs.read(digest)?)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|_| Error::SnapshotFormat(stranger(bytes)))
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|e| Error::Agent(e.to_string()))
    }

    /// The configuration.
    pub(super) fn config(&self) -> &Descriptor {
        &self.config
    }

    /// All parts.
    pub(super) fn all(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Those of a kind, in their order.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().filter(move |layer| layer.media_type == kind)
    }

    /// What its memory is made of.
    pub(super) fn memory(&self) -> Vec<Descriptor> {
        let parts = self.of(Kind::Memory).chain(self.of(Kind::Pages));
        parts.cloned().collect()
    }
}

/// What a manifest that is whole has and this build does not know.
fn stranger(manifest: &[u8]) -> String {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let kinds = [&manifest, &manifest["config"]].into_iter().chain(layers);
    let mut kinds = kinds.map(|part| &part["mediaType"]);
    let unknown = kinds.find(|kind| serde_json::from_value::<Kind>((*kind).clone()).is_err());
    let kind = unknown.and_then(Value::as_str).unwrap_or("a manifest of another kind");
    kind.chars().take(100).collect()
}

/// The snapshots by name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    schema_version: u32,
    manifests: Vec<Descriptor>,
}

impl Index {
    /// Reads the index of the layout in `dir`; where there is none, nobody has
    /// made a snapshot yet.
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        match read_json(&dir.join(INDEX)) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(Self { schema_version: 2, manifests: Vec::new() })
            }
            Err(StoreError::Damaged { path, .. }) => Err(Error::SnapshotIndex(path)),
            read => Ok(read?),
        }
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), Error> {
        write_json(&dir.join("oci-layout"), &serde_json::json!({"imageLayoutVersion": "1.0.0"}))?;
        Ok(write_json(&dir.join(INDEX), self)?)
    }

    /// Every name, in order, and what it stands for.
    pub(super) fn names(&self) -> impl Iterator<Item = (Name, Digest)> {
        self.manifests.iter().filter_map(|one| {
            let name = one.annotations.get(NAMED)?.parse().ok()?;
            Some((name, one.digest))
        })
    }

    pub(super) fn find(&self, name: &Name) -> Option<Digest> {
        self.names().find(|(one, _)| one == name).map(|(_, digest)| digest)
    }

    /// Names a manifest; returns what had the name.
    pub(super) fn put(&mut self, name: &Name, mut manifest: Descriptor) -> Option<Digest> {
        let before = self.find(name);
        self.remove(name);
        manifest.annotations.insert(NAMED.to_owned(), name.to_string());
        self.manifests.push(manifest);
        self.manifests.sort_by_key(|one| one.annotations.get(NAMED).cloned());
        before
    }

    pub(super) fn remove(&mut self, name: &Name) {
        self.manifests
            .retain(|one| one.annotations.get(NAMED).map(String::as_str) != Some(name.as_str()));
    }
}
