//! Templates that nothing will be restored from any more.

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
/// of kits and engines that this host has no more. The locks keep it so.
pub(crate) fn stale(
    store: &Store,
    present: Option<&Present>,
) -> Result<Vec<(PathBuf, Vec<Lock>)>, Error> {
    let mut stale = Vec::new();
    for path in entries(&store.dir(Part::Templates)?)? {
        if let Some(key) = key(&path)
            && let Some(locks) = unneeded(store, present, &path, key)?
        {
            stale.push((path, locks));
        }
    }
    Ok(stale)
}

/// The key of a template that was baked. Those of snapshots and forks go with
/// what they are of.
fn key(path: &Path) -> Option<&str> {
    let key = path.file_name()?.to_str()?;
    (key.len() == 32 && key.bytes().all(|c| c.is_ascii_hexdigit())).then_some(key)
}

fn unneeded(
    store: &Store,
    present: Option<&Present>,
    path: &Path,
    key: &str,
) -> Result<Option<Vec<Lock>>, Error> {
    let Some(making) = store.alone(key)? else { return Ok(None) };
    // One whose record does not read is made again before it is used.
    let Some(record) = Record::read(path) else { return Ok(Some(vec![making])) };
    if record.is_for(store, present) {
        return Ok(None);
    }
    // Whoever runs from it holds the image, and may be copied as long as it runs.
    let free = Image::free(store, &record.of.image_digest)?;
    Ok(free.map(|free| vec![making, free]))
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
