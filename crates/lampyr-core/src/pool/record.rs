//! What is written down about pools: `pool.json` of each keeper, and a mark in
//! `members/` for each member that waits.
//!
//! A mark's name is the key of the template that the member was made from, a
//! dot, and the id of its sandbox; its content is the id of its pool.

use std::path::{Path, PathBuf};

use lampyr_store::{Lock, Part, Store, at, read_json, write_json};
use lampyr_types::SandboxId;
use serde::{Deserialize, Serialize};

use super::PoolRequest;
use crate::{Error, Origin};

const FORMAT: u32 = 1;
const FILE: &str = "pool.json";

/// A pool as its keeper wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// The version of this file's layout.
    pub format: u32,
    /// The pool's id.
    pub id: SandboxId,
    /// The process that keeps it.
    pub pid: u32,
    /// What its members are.
    pub origin: Origin,
    /// Virtual processors of each.
    pub cpus: u32,
    /// Memory of each in bytes.
    pub memory: u64,
    /// The size of each root disk in bytes.
    pub disk_size: u64,
    /// How many it holds ready.
    pub size: u32,
    /// When it was started.
    pub created: jiff::Timestamp,
}

impl PoolRecord {
    /// Writes down that this process keeps a pool from now on.
    pub(super) fn publish(dir: &Path, id: SandboxId, request: &PoolRequest) -> Result<(), Error> {
        let machine = request.machine.clone();
        let record = Self {
            format: FORMAT,
            id,
            pid: std::process::id(),
            origin: machine.origin,
            cpus: machine.cpus,
            memory: machine.memory,
            disk_size: machine.disk_size,
            size: request.size,
            created: jiff::Timestamp::now(),
        };
        Ok(write_json(&dir.join(FILE), &record)?)
    }
}

/// Makes a member known; returns its mark.
pub(super) fn announce(
    store: &Store,
    key: &str,
    member: SandboxId,
    pool: SandboxId,
) -> Result<PathBuf, Error> {
    let mark = store.dir(Part::Members)?.join(format!("{key}.{member}"));
    std::fs::write(&mark, pool.to_string()).map_err(at(&mark))?;
    Ok(mark)
}

/// The members that say they wait and were made from the template `key`.
pub(super) fn waiting(store: &Store, key: &str) -> Vec<SandboxId> {
    let Ok(marks) = std::fs::read_dir(store.root().join(Part::Members.name())) else {
        return Vec::new();
    };
    let fits = |name: &str| name.strip_prefix(key)?.strip_prefix('.')?.parse().ok();
    marks.filter_map(|mark| fits(mark.ok()?.file_name().to_str()?)).collect()
}

/// Whose member a mark is.
fn waiting_id(mark: &Path) -> Option<SandboxId> {
    mark.extension()?.to_str()?.parse().ok()
}

/// Whether the member behind a mark lives.
pub(crate) fn is_waiting(store: &Store, mark: &Path) -> bool {
    let home = |id: SandboxId| store.root().join(Part::Sandboxes.name()).join(id.to_string());
    waiting_id(mark).is_some_and(|id| is_held(&home(id)))
}

/// Removes what the dead owner of a member has left.
pub(super) fn sweep(store: &Store, member: SandboxId) {
    let home = store.root().join(Part::Sandboxes.name()).join(member.to_string());
    let marks = entries(&store.root().join(Part::Members.name())).unwrap_or_default();
    if home.exists() && is_held(&home) {
        return;
    }
    // What cannot be removed now, `clean` removes.
    let _ = std::fs::remove_dir_all(&home);
    for mark in marks.iter().filter(|mark| waiting_id(mark) == Some(member)) {
        let _ = std::fs::remove_file(mark);
    }
}

/// Whether somebody holds the lock of this directory.
pub(crate) fn is_held(dir: &Path) -> bool {
    dir.join("lock").exists() && matches!(Lock::try_take(&dir.join("lock")), Ok(None))
}

/// All pools that are kept, the oldest first, each with how many of its
/// members are ready.
pub fn pools(home: &Path) -> Result<Vec<(PoolRecord, usize)>, Error> {
    if !home.exists() {
        return Ok(Vec::new());
    }
    let store = Store::open(home)?;
    let ready = ready(&store)?;
    let count = |id: SandboxId| ready.iter().filter(|pool| **pool == id).count();
    let mut found = Vec::new();
    for dir in entries(&store.dir(Part::Pools)?)? {
        // One without a record is not yet born.
        let Ok(record) = read_json::<PoolRecord>(&dir.join(FILE)) else { continue };
        if is_held(&dir) {
            found.push((count(record.id), record));
        }
    }
    found.sort_by_key(|(_, record)| record.created);
    Ok(found.into_iter().map(|(ready, record)| (record, ready)).collect())
}

/// The pool of each member that waits.
fn ready(store: &Store) -> Result<Vec<SandboxId>, Error> {
    let marks = entries(&store.dir(Part::Members)?)?.into_iter();
    let alive = marks.filter(|mark| is_waiting(store, mark));
    Ok(alive.filter_map(|mark| std::fs::read_to_string(mark).ok()?.parse().ok()).collect())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(dir).map_err(at(dir))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}
