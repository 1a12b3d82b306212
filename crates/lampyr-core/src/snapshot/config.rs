//! What a saved machine is, and what it takes to restore it.

use std::collections::BTreeMap;

use lampyr_engine::Accel;
use lampyr_oci::Digest;
use lampyr_proto::GENERATION;
use serde::{Deserialize, Serialize};

use super::blobs::Blobs;
use super::layout::Manifest;
use crate::copy::Copy;
use crate::template::{Description, Present};
use crate::{Error, Host};

/// A snapshot's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) struct Config {
    /// The machine.
    pub(crate) of: Description,
    /// The engine that saved it, its version, its accelerator and its machine.
    engine: String,
    /// The architecture of its processors.
    arch: String,
    /// What its processors can do, where they are the host's own.
    cpu: String,
    /// The kit whose kernel and agent run in it.
    kit: String,
    /// What its agent speaks.
    generation: u32,
    /// The snapshot that it was built on.
    pub(crate) parent: Option<Digest>,
    /// The recipe that it was built by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made_by: Option<String>,
    /// When it was taken.
    pub(crate) created: jiff::Timestamp,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Config {
    pub(super) fn new(
        host: &Host,
        copy: &Copy,
        made_by: Option<String>,
        labels: BTreeMap<String, String>,
    ) -> Self {
        let ground = &copy.ground;
        Self {
            of: Description::of(&ground.image, ground.shape),
            engine: copy.engine.clone(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: cpu(host.accel),
            kit: host.kit.manifest.digest.clone(),
            generation: GENERATION,
            parent: ground.snapshot,
            made_by,
            created: jiff::Timestamp::now(),
            labels,
        }
    }

    /// Reads the configuration of a snapshot, verified.
    pub(super) fn read(blobs: &Blobs, manifest: Digest) -> Result<Self, Error> {
        Self::parse(&blobs.read(Manifest::read(blobs, manifest)?.config().digest)?)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let unknown = |_| Error::SnapshotFormat("a configuration of another kind".into());
        serde_json::from_slice(bytes).map_err(unknown)
    }

    /// Whether its words can be shown to people as they are.
    pub(super) fn is_plain(&self) -> bool {
        let words = [&self.engine, &self.arch, &self.cpu, &self.kit];
        words.iter().all(|word| word.len() < 300 && !word.contains(char::is_control))
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|e| Error::Agent(e.to_string()))
    }

    /// Whether one of the engines that a host has is the one that it needs.
    pub(super) fn is_for(&self, present: &Present) -> bool {
        present.engines.contains(&self.engine)
    }

    /// Whether this host can restore it; the error has the differences.
    pub(crate) fn check(&self, host: &Host) -> Result<(), Error> {
        let (engine, cpu) = (host.engine.fingerprint(), cpu(host.accel));
        let generation = |number: u32| format!("protocol {number}");
        let spoken = generation(GENERATION.min(self.generation));
        let pairs = [
            (&self.engine, &engine),
            (&self.arch, &std::env::consts::ARCH.to_owned()),
            (&self.cpu, &cpu),
            (&generation(self.generation), &spoken),
        ];
        let different = pairs.into_iter().filter(|(theirs, ours)| theirs != ours);
        let told: Vec<_> =
            different.map(|(theirs, ours)| format!("it needs {theirs}, here is {ours}")).collect();
        if told.is_empty() { Ok(()) } else { Err(Error::Incompatible(told.join("; "))) }
    }
}

/// What the processors of a machine can do that is not the engine's to say.
fn cpu(accel: Accel) -> String {
    if accel == Accel::Tcg {
        return "an emulated processor".to_owned();
    }
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key: &str| about.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    let features = blake3::hash([line("flags"), line("Features")].concat().as_bytes()).to_hex();
    let model = line("model name").split_once(": ").map_or("a processor", |(_, model)| model);
    format!("{model} with features {}", &features[..12])
}
