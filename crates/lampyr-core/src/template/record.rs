//! A template's record of itself, and the names of its parts.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use lampyr_engine::MachineSpec;
use lampyr_oci::{Config, Digest};
use lampyr_store::{at, read_json, write_json};
use lampyr_types::Size;
use serde::{Deserialize, Serialize};

use super::{Purpose, Shape};
use crate::Error;
use crate::fingerprint::{Fingerprint, Verdict};

pub(crate) const MEMORY: &str = "memory";
pub(crate) const DEVICES: &str = "devices";
const RECORD: &str = "manifest.json";
/// The version of this record.
const FORMAT: u32 = 2;

/// The name of a disk layer; 0 is the one right above the image.
pub(crate) fn layer_name(number: usize) -> String {
    format!("disk{number}.qcow2")
}

/// The name of a part that its memory is made of; 0 is a whole memory, the others
/// are pages over it.
pub(super) fn part_name(number: usize) -> String {
    format!("memory{number}")
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// What it depends on, in words.
    pub(super) made_for: String,
    /// What it is, for whoever has nothing but the template.
    pub(super) of: Description,
    memory: Fingerprint,
    devices: Fingerprint,
    disks: Vec<Fingerprint>,
    /// The snapshot that it comes from.
    #[serde(default)]
    pub(super) snapshot: Option<Digest>,
}

/// What a saved machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The image beneath its disk.
    pub(crate) image: String,
    /// The image's digest.
    pub(crate) image_digest: String,
    /// Virtual processors.
    pub(crate) cpus: u32,
    /// Memory in bytes.
    pub(crate) memory: u64,
    /// The size of its root disk in bytes.
    pub(crate) disk: u64,
    /// Whether it has a network card.
    pub(crate) network: bool,
    /// What the image wants, for where it is not.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(crate) wants: Config,
}

fn is_nothing(wants: &Config) -> bool {
    *wants == Config::default()
}

impl Description {
    pub(crate) fn of(image: &lampyr_image::Image, shape: Shape) -> Self {
        let MachineSpec { cpus, memory, network } = shape.spec;
        let disk = shape.disk.as_bytes();
        // Labels are as long as their maker liked, and nobody runs by them.
        let wants = Config { labels: BTreeMap::new(), ..image.config.clone() };
        let (image, image_digest) = (image.name.clone(), image.digest.clone());
        Self { image, image_digest, cpus, memory, disk, network, wants }
    }

    pub(crate) fn shape(&self) -> Shape {
        let Self { cpus, memory, network, disk, .. } = *self;
        Shape { spec: MachineSpec { cpus, memory, network }, disk: Size::bytes(disk) }
    }
}

/// The parts of a template, open.
pub(super) struct Parts {
    pub(super) memory: File,
    pub(super) disks: Vec<File>,
}

impl Record {
    /// Records what lies in `dir`, with so many layers of its disk.
    pub(super) fn write(dir: &Path, purpose: &Purpose, layers: usize) -> Result<(), Error> {
        let fingerprint = |name: &str| {
            let path = dir.join(name);
            File::open(&path).and_then(|file| Fingerprint::of(&file)).map_err(at(&path))
        };
        let disks: Result<_, _> = (0..layers).map(|i| fingerprint(&layer_name(i))).collect();
        let record = Self {
            format: FORMAT,
            made_for: purpose.words.clone(),
            of: Description::of(&purpose.image, purpose.shape),
            memory: fingerprint(MEMORY)?,
            devices: fingerprint(DEVICES)?,
            disks: disks?,
            snapshot: purpose.comes_from(),
        };
        Ok(write_json(&dir.join(RECORD), &record)?)
    }

    /// Reads the record of the template in `dir`.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        read_json::<Self>(&dir.join(RECORD)).ok().filter(|record| record.format == FORMAT)
    }

    /// Opens the parts, if they are what was recorded.
    pub(super) fn open(mut self, dir: &Path) -> Option<Parts> {
        let open = |name: &str| File::open(dir.join(name)).ok();
        let (memory, devices) = (open(MEMORY)?, open(DEVICES)?);
        let disks: Option<Vec<_>> = (0..self.disks.len()).map(|i| open(&layer_name(i))).collect();
        let disks = disks?;
        let mut parts = vec![(&mut self.memory, &memory), (&mut self.devices, &devices)];
        parts.extend(self.disks.iter_mut().zip(&disks));
        let mut touched = false;
        for (record, file) in parts {
            match record.check(file).ok()? {
                Verdict::Same => {}
                Verdict::Touched(new) => (*record, touched) = (new, true),
                Verdict::Changed => return None,
            }
        }
        if touched {
            // Only spares the next launch the hashing; this one may go on.
            let _ = write_json(&dir.join(RECORD), &self);
        }
        Some(Parts { memory, disks })
    }
}
