//! Templates that nothing will be restored from any more.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use lampyr_engine::EngineError;
use lampyr_image::{Arch, Image, Kit};
use lampyr_store::{Lock, Part, Store};

use super::record::Record;
use super::{named, words};
use crate::clean::entries;
use crate::{Error, HostSettings};

/// What this host has for machines to run with.
#[derive(Debug, Clone)]
pub struct Present {
    /// The digest of its kit.
    kit: String,
    /// Each engine that it could choose.
    pub(crate) engines: Vec<String>,
}

impl Present {
    /// What a host with these settings has; nothing where that cannot be said
    /// without making something.
    pub fn of(settings: &HostSettings) -> Option<Self> {
        let store = Store::open(&settings.home).ok()?;
        let kit = Kit::current(&store, Arch::HOST, settings.agent)?.manifest.digest;
        let engines = settings.engines.candidates().into_iter();
        let fingerprint = |accel| Ok(settings.engines.with(accel)?.fingerprint());
        let engines = engines.map(fingerprint).collect::<Result<_, EngineError>>();
        Some(Self { kit, engines: engines.ok()? })
    }
}

/// Templates of images that are gone or another one, and, where that is known,
/// of kits and engines that this host has no more.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Where they lie.
    pub(crate) paths: Vec<PathBuf>,
    /// Keep it so.
    making: Vec<Lock>,
    /// Of each image of theirs, by digest; none where somebody runs from it.
    free: BTreeMap<String, Option<Lock>>,
}

impl Stale {
    pub(crate) fn of(store: &Store, present: Option<&Present>) -> Result<Self, Error> {
        let mut stale = Self::default();
        for path in entries(&store.dir(Part::Templates)?)? {
            if let Some(key) = key(&path)
                && let Some(making) = store.alone(key)?
                && stale.has(store, present, &path)?
            {
                stale.making.push(making);
                stale.paths.push(path);
            }
        }
        Ok(stale)
    }

    fn has(
        &mut self,
        store: &Store,
        present: Option<&Present>,
        path: &Path,
    ) -> Result<bool, Error> {
        // One whose record does not read is made again before it is used.
        let Some(record) = Record::read(path) else { return Ok(true) };
        if record.is_for(store, present) {
            return Ok(false);
        }
        // Whoever runs from it holds the image, and may be copied as long as it
        // runs. A lock that is held here already cannot be taken once more.
        let free = match self.free.entry(record.of.image_digest) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let lock = Image::free(store, new.key())?;
                new.insert(lock)
            }
        };
        Ok(free.is_some())
    }
}

/// The key of a template that was baked. Those of snapshots and forks go with
/// what they are of.
fn key(path: &Path) -> Option<&str> {
    let key = path.file_name()?.to_str()?;
    (key.len() == 32 && key.bytes().all(|c| c.is_ascii_hexdigit())).then_some(key)
}

impl Record {
    /// Whether a machine may be restored from its template one day.
    fn is_for(&self, store: &Store, present: Option<&Present>) -> bool {
        let made = |present: &Present| {
            let mut engines = present.engines.iter();
            engines.any(|engine| words(&present.kit, engine, &self.of) == self.made_for)
        };
        // What is kept for snapshots alone nobody launches from otherwise.
        named(store, &self.of).is_some() && present.is_none_or(made)
    }
}
