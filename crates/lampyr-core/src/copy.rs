//! A copy of a session's machine, as its owner leaves it for whoever asked.
//!
//! The owner puts everything into a directory that the client made: the state
//! of the devices, the pages that changed, the layers of the disk, and a note
//! on what else the machine stands on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lampyr_engine::Pages;
use lampyr_oci::Digest;
use lampyr_store::{Store, at, read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::sandbox::Saved;
use crate::template::{DEVICES, Description, FileId, Ground, Hold, Moment, image_here, layer_name};
use crate::{Access, Error, Host, SessionRequest};

const NOTE: &str = "copy.json";
pub(crate) const PAGES: &str = "pages";

/// What a copy is, as it is written down beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    of: Description,
    template: PathBuf,
    memory: FileId,
    /// The engine that the machine runs on.
    engine: String,
    layers: usize,
    snapshot: Option<Digest>,
    pause_us: u64,
    request: SessionRequest,
}

/// A copy of a session's machine.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) ground: Ground,
    /// The engine that the machine runs on.
    pub(crate) engine: String,
    /// How long the machine stood still.
    pub(crate) pause: Duration,
    /// What the session was asked to be.
    pub(crate) request: SessionRequest,
}

/// A copy is not the one that is known on a private network.
fn of_a_copy(access: Access) -> Access {
    Access { secrets: Vec::new(), private: None, ..access }
}

impl Copy {
    /// Writes down in `dir` what was saved there, and gives the layers of its
    /// disk names there, so that they outlive the session.
    pub(crate) fn leave(
        dir: &Path,
        saved: &Saved,
        ground: &Ground,
        request: &SessionRequest,
        host: &Host,
    ) -> Result<(), Error> {
        for (number, layer) in ground.layers.iter().enumerate() {
            let name = dir.join(layer_name(number));
            std::fs::hard_link(layer, &name).map_err(at(&name))?;
        }
        let note = Note {
            of: Description::of(&ground.image, ground.shape),
            template: ground.template.clone(),
            memory: ground.memory,
            engine: host.engine.fingerprint(),
            layers: ground.layers.len(),
            snapshot: ground.snapshot,
            pause_us: u64::try_from(saved.pause.as_micros()).unwrap_or(u64::MAX),
            // Secrets are written down nowhere.
            request: SessionRequest { net: request.net.clone().map(of_a_copy), ..request.clone() },
        };
        Ok(write_json(&dir.join(NOTE), &note)?)
    }

    /// Reads what an owner left in `dir`.
    pub(crate) fn find(store: &Store, dir: &Path) -> Result<Self, Error> {
        let note: Note = read_json(&dir.join(NOTE))?;
        let changed = || Error::ImageChanged { image: note.of.image.clone() };
        let image = image_here(store, &note.of).ok_or_else(changed)?;
        // Its session may end before the copy is used.
        let base = image.hold(store)?.ok_or_else(changed)?;
        let ground = Ground {
            image,
            hold: Hold::of(base),
            shape: note.of.shape(),
            template: note.template,
            memory: note.memory,
            layers: (0..note.layers).map(|i| dir.join(layer_name(i))).collect(),
            snapshot: note.snapshot,
        };
        let pause = Duration::from_micros(note.pause_us);
        Ok(Self { ground, engine: note.engine, pause, request: note.request })
    }

    /// The pages that changed since the machine was restored.
    pub(crate) fn pages(dir: &Path) -> Result<Pages, Error> {
        let path = dir.join(PAGES);
        Ok(File::open(&path).and_then(Pages::open).map_err(at(&path))?)
    }

    /// What a template of it is assembled from.
    pub(crate) fn moment(&self, dir: &Path) -> Result<Moment, Error> {
        let mut parts = self.ground.memory_parts();
        parts.push(dir.join(PAGES));
        Ok(Moment {
            memory: self.ground.memory()?,
            pages: vec![Self::pages(dir)?],
            parts,
            devices: dir.join(DEVICES),
            layers: self.ground.layers.clone(),
        })
    }
}
