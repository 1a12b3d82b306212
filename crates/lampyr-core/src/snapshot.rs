//! Snapshots: machines that were saved while they ran, by name.
//!
//! `snapshots/` is an OCI image layout (`layout.rs`): a manifest lists the
//! configuration (`config.rs`) and what the machine is made of, each a blob
//! that is called by its digest, so that what several snapshots share is there
//! once. The index is written last: until it names a snapshot there is none.

mod agree;
mod blobs;
mod config;
#[cfg(test)]
mod goldens;
mod layout;
mod leftovers;
mod packed;
mod pull;
mod push;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lampyr_engine::Pages;
use lampyr_oci::Digest;
use lampyr_store::{Lock, Part, Store};
use lampyr_types::Name;

use crate::copy::{Copy, PAGES};
use crate::template::{DEVICES, Moment, Template};
use crate::{Error, Host, Origin, SessionClient};

pub use agree::{AskedMachine, Differs, MachinePart};
use blobs::Blobs;
pub(crate) use config::Config;
use layout::{Descriptor, Index, Kind, Manifest};
use leftovers::sweep;
pub(crate) use leftovers::{clean, forget_bases};
pub use pull::{PullRequest, pull_snapshot};
pub use push::push_snapshot;

/// What is known of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: Name,
    /// The digest of its manifest.
    pub digest: Digest,
    /// When it was taken.
    pub created: jiff::Timestamp,
    /// The image beneath its disk.
    pub image: String,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of its root disk in bytes.
    pub disk_size: u64,
    /// Whether it has a network card.
    pub network: bool,
    /// What it was given to be told by.
    pub labels: BTreeMap<String, String>,
    /// The snapshot that it was built on, and its name where it has one still.
    pub parent: Option<(Digest, Option<Name>)>,
    /// What it takes on the disk that no other snapshot does, in bytes.
    pub own_bytes: u64,
    /// What all of its parts take, in bytes.
    pub total_bytes: u64,
}

/// A snapshot to take.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    /// Its name.
    pub name: Name,
    /// Whether it replaces one that has the name.
    pub overwrite: bool,
    /// Take it even if the session holds secrets. What is launched from it
    /// holds none.
    pub with_secrets: bool,
    /// What to tell it by.
    pub labels: BTreeMap<String, String>,
}

/// What came of taking a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What there is now.
    pub snapshot: Snapshot,
    /// How long the session stood still.
    pub pause: Duration,
}

/// A snapshot as it lies in the store.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) digest: Digest,
    pub(crate) config: Config,
    manifest: Manifest,
}

/// Takes a snapshot of the session called `word`, which goes on at once.
///
/// # Errors
///
/// Whatever goes wrong, a snapshot that had the name before is as it was.
pub async fn create_snapshot(
    host: &Host,
    word: &str,
    request: &SnapshotRequest,
) -> Result<Taken, Error> {
    take(host, word, request, None).await
}

/// The same of what was made by a recipe.
pub(crate) async fn take(
    host: &Host,
    word: &str,
    request: &SnapshotRequest,
    made_by: Option<String>,
) -> Result<Taken, Error> {
    refuse_taken(&host.store, &request.name, request.overwrite)?;
    let staging = host.store.stage()?;
    let client = SessionClient::connect(host.store.root(), word).await?;
    let copy = client.copy_to(staging.path(), request.with_secrets).await?;
    let task = host.progress.begin("storing the snapshot");
    let pause = copy.pause;
    let keeping = keep(host, request, &copy, made_by, staging.path());
    let snapshot = keeping?;
    drop((task, staging));
    // Whoever launches from it finds its template ready, or makes it, and hears
    // why that cannot be.
    let origin = Origin::Snapshot(request.name.clone());
    let _ = Template::get(host, &origin, copy.ground.shape).await;
    Ok(Taken { snapshot, pause })
}

/// Says that a name is taken where it may not be replaced.
pub(crate) fn refuse_taken(store: &Store, name: &Name, overwrite: bool) -> Result<(), Error> {
    let index = Index::read(&dir(store)?)?;
    if !overwrite && index.find(name).is_some() {
        return Err(Error::SnapshotTaken(name.clone()));
    }
    Ok(())
}

/// The snapshot of this name, if it was made by this recipe. One of which a part
/// is missing or cut off, or that cannot be read, does for none.
pub(crate) fn made_by(store: &Store, name: &Name, recipe: &str) -> Result<Option<Snapshot>, Error> {
    let dir = dir(store)?;
    let index = Index::read(&dir)?;
    let Some(digest) = index.find(name) else { return Ok(None) };
    let blobs = Blobs::new(&dir)?;
    let (manifest, config) = match read(&blobs, digest) {
        Err(Error::SnapshotDamaged(_) | Error::SnapshotFormat(_)) => return Ok(None),
        found => found?,
    };
    let is_whole = manifest.all().all(|part| blobs.has(part));
    if !is_whole || config.made_by.as_deref() != Some(recipe) {
        return Ok(None);
    }
    look(&dir, &index, name, digest).map(Some)
}

/// Makes blobs of what lies in `copied`, and names them.
fn keep(
    host: &Host,
    request: &SnapshotRequest,
    copy: &Copy,
    made_by: Option<String>,
    copied: &Path,
) -> Result<Snapshot, Error> {
    let dir = dir(&host.store)?;
    let _alone = host.store.making(LOCK)?;
    refuse_taken(&host.store, &request.name, request.overwrite)?;
    let blobs = Blobs::new(&dir)?;
    let mut layers = Vec::new();
    for (part, kind) in copy.ground.memory_parts().iter().zip(memory_kinds()) {
        layers.push(blobs.link(kind, part)?);
    }
    layers.push(blobs.link(Kind::Pages, &copied.join(PAGES))?);
    layers.push(blobs.link(Kind::Devices, &copied.join(DEVICES))?);
    for layer in &copy.ground.layers {
        layers.push(blobs.link(Kind::Disk, layer)?);
    }
    let config = Config::new(host, copy, made_by, request.labels.clone());
    let config = blobs.keep(Kind::Config, &config.to_bytes()?)?;
    let manifest = Manifest::new(config, layers);
    let descriptor = blobs.keep(Kind::Manifest, &manifest.to_bytes()?)?;
    name_it(&host.store, &dir, &request.name, descriptor)
}

/// What the parts of a memory are: a whole one, and pages over it.
fn memory_kinds() -> impl Iterator<Item = Kind> {
    std::iter::once(Kind::Memory).chain(std::iter::repeat(Kind::Pages))
}

/// Gives a manifest whose parts are there its name. The caller holds the lock.
fn name_it(
    store: &Store,
    dir: &Path,
    name: &Name,
    manifest: Descriptor,
) -> Result<Snapshot, Error> {
    let (mut index, digest) = (Index::read(dir)?, manifest.digest);
    let replaced = index.put(name, manifest);
    index.write(dir)?;
    if replaced.is_some() {
        // It is there: what is not removed now is removed later.
        let _ = sweep(store, dir, &index);
    }
    look(dir, &index, name, digest)
}

/// All snapshots, by name.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Those that can be read.
    pub whole: Vec<Snapshot>,
    /// The others, and what stands in the way: of these `rm` alone is possible.
    pub unreadable: Vec<(Name, Error)>,
}

/// All snapshots, by name.
///
/// # Errors
///
/// Where the state directory cannot be read, or holds what is no layout.
pub fn snapshots(home: &Path) -> Result<Snapshots, Error> {
    let mut all = Snapshots::default();
    if !home.exists() {
        return Ok(all);
    }
    let dir = dir(&Store::open(home)?)?;
    let index = Index::read(&dir)?;
    for (name, digest) in index.names() {
        match look(&dir, &index, &name, digest) {
            Ok(snapshot) => all.whole.push(snapshot),
            Err(e) => all.unreadable.push((name, e)),
        }
    }
    Ok(all)
}

/// The snapshot called `name`.
///
/// # Errors
///
/// [`Error::NoSnapshot`] where there is none.
pub fn snapshot(home: &Path, name: &Name) -> Result<Snapshot, Error> {
    let missing = || Error::NoSnapshot(name.clone());
    if !home.exists() {
        return Err(missing());
    }
    let dir = dir(&Store::open(home)?)?;
    let index = Index::read(&dir)?;
    let digest = index.find(name).ok_or_else(missing)?;
    look(&dir, &index, name, digest)
}

/// Removes a snapshot; with `force` also those that were built on it. Where it
/// has another name only this one goes. Returns what was removed.
///
/// # Errors
///
/// [`Error::SnapshotNeeded`] where others were built on it, and
/// [`Error::SnapshotBusy`] where a sandbox runs that was launched from it.
pub fn remove_snapshot(home: &Path, name: &Name, force: bool) -> Result<Vec<Name>, Error> {
    let missing = || Error::NoSnapshot(name.clone());
    if !home.exists() {
        return Err(missing());
    }
    let store = Store::open(home)?;
    let dir = dir(&store)?;
    let _alone = store.making(LOCK)?;
    let mut index = Index::read(&dir)?;
    let digest = index.find(name).ok_or_else(missing)?;
    if index.names().any(|(other, one)| one == digest && other != *name) {
        index.remove(name);
        index.write(&dir)?;
        return Ok(vec![name.clone()]);
    }
    let built_on_it = dependents(&Blobs::new(&dir)?, &index, digest);
    if !force && !built_on_it.is_empty() {
        let by = built_on_it.into_iter().map(|(name, _)| name).collect();
        return Err(Error::SnapshotNeeded { name: name.clone(), by });
    }
    let going: Vec<_> = std::iter::once((name.clone(), digest)).chain(built_on_it).collect();
    drop_all(&store, &dir, &mut index, &going)?;
    Ok(going.into_iter().map(|(name, _)| name).collect())
}

/// Removes snapshots, unless somebody runs from one of them.
fn drop_all(
    store: &Store,
    dir: &Path,
    index: &mut Index,
    going: &[(Name, Digest)],
) -> Result<(), Error> {
    let mut free: Vec<(Digest, Lock)> = Vec::new();
    for (name, digest) in going {
        // Of two names of one snapshot the first takes its lock.
        if free.iter().all(|(one, _)| one != digest) {
            let lock = store.alone(&in_use(*digest))?;
            free.push((*digest, lock.ok_or_else(|| Error::SnapshotBusy(name.clone()))?));
        }
    }
    for (name, _) in going {
        index.remove(name);
    }
    index.write(dir)?;
    // Nobody can find them any more, and the sweep takes each lock itself.
    drop(free);
    sweep(store, dir, index)
}

/// The snapshots that were built on this one, or on one that was, and so on. One
/// that cannot be read is built on nothing.
fn dependents(blobs: &Blobs, index: &Index, digest: Digest) -> Vec<(Name, Digest)> {
    let mut parents = BTreeMap::new();
    for (name, one) in index.names() {
        let parent = Config::read(blobs, one).ok().and_then(|config| config.parent);
        parents.insert(name, (one, parent));
    }
    let (mut found, mut wanted) = (Vec::new(), vec![digest]);
    while let Some(parent) = wanted.pop() {
        for (name, (digest, of)) in &parents {
            if *of == Some(parent) && !found.contains(&(name.clone(), *digest)) {
                found.push((name.clone(), *digest));
                wanted.push(*digest);
            }
        }
    }
    found
}

/// What the snapshot of this name is now.
pub(crate) fn digest(store: &Store, name: &Name) -> Result<Option<Digest>, Error> {
    Ok(Index::read(&dir(store)?)?.find(name))
}

/// Looks a snapshot up to launch from it; it stays while the lock is held.
pub(crate) fn find(store: &Store, name: &Name) -> Result<(Saved, Lock), Error> {
    let dir = dir(store)?;
    let missing = || Error::NoSnapshot(name.clone());
    let named = || Index::read(&dir)?.find(name).ok_or_else(missing);
    let mut digest = named()?;
    for _ in 0..TRIES {
        let held = store.sharing(&in_use(digest))?;
        // It may have gone before it was held, or be another one by now.
        let now = named()?;
        if now == digest {
            let (manifest, config) = read(&Blobs::new(&dir)?, digest)?;
            return Ok((Saved { digest, config, manifest }, held));
        }
        digest = now;
    }
    Err(missing())
}

fn read(blobs: &Blobs, digest: Digest) -> Result<(Manifest, Config), Error> {
    Ok((Manifest::read(blobs, digest)?, Config::read(blobs, digest)?))
}

impl Saved {
    /// What its template is assembled from, each part verified.
    pub(crate) fn moment(&self, store: &Store) -> Result<Moment, Error> {
        let blobs = Blobs::new(&dir(store)?)?;
        let verified = |part: &Descriptor| blobs.verified(part);
        let one = |kind| self.manifest.of(kind).next().ok_or(Error::SnapshotDamaged(self.digest));
        let memory = verified(one(Kind::Memory)?)?;
        let parts = self.manifest.memory();
        let parts = parts.iter().map(|part| blobs.path(part.digest)).collect();
        let mut pages = Vec::new();
        for part in self.manifest.of(Kind::Pages) {
            let damaged = |_| Error::SnapshotDamaged(self.digest);
            pages.push(Pages::open(verified(part)?).map_err(damaged)?);
        }
        let devices = one(Kind::Devices)?;
        verified(devices)?;
        let mut layers = Vec::new();
        for part in self.manifest.of(Kind::Disk) {
            verified(part)?;
            layers.push(blobs.path(part.digest));
        }
        Ok(Moment { memory, pages, parts, devices: blobs.path(devices.digest), layers })
    }
}

/// Does work that would keep others waiting on a thread of its own.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::Agent(e.to_string()))?
}

fn look(dir: &Path, index: &Index, name: &Name, digest: Digest) -> Result<Snapshot, Error> {
    let blobs = Blobs::new(dir)?;
    let (manifest, config) = read(&blobs, digest)?;
    let mut others = Vec::new();
    for (_, other) in index.names().filter(|(other, _)| other != name) {
        let manifest = Manifest::read(&blobs, other).ok();
        others.extend(manifest.iter().flat_map(Manifest::all).map(|part| part.digest));
    }
    let takes = |part: &Descriptor| blobs.takes(part.digest);
    let parent_name = |parent| index.names().find(|(_, one)| *one == parent).map(|(name, _)| name);
    Ok(Snapshot {
        name: name.clone(),
        digest,
        created: config.created,
        image: config.of.image,
        cpus: config.of.cpus,
        memory: config.of.memory,
        disk_size: config.of.disk,
        network: config.of.network,
        labels: config.labels,
        parent: config.parent.map(|parent| (parent, parent_name(parent))),
        own_bytes: manifest.all().filter(|p| !others.contains(&p.digest)).map(takes).sum(),
        total_bytes: manifest.all().map(takes).sum(),
    })
}

fn dir(store: &Store) -> Result<std::path::PathBuf, Error> {
    Ok(store.dir(Part::Snapshots)?)
}

/// How often a name may get another snapshot while it is looked up.
const TRIES: usize = 100;

/// Who writes the index.
const LOCK: &str = "snapshots";

/// The lock that those share who run from a snapshot.
fn in_use(digest: Digest) -> String {
    format!("{IN_USE}{}", &digest.hex()[..32])
}

/// What such a lock is called, before the first digits of the digest.
const IN_USE: &str = "snapshot-";
