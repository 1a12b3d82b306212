//! `clean`: what dead processes left behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lampyr_store::{Lock, Part, Store, at};

use crate::template::{Present, Stale};
use crate::{Error, fork, pool, private, session, snapshot};

/// How long an output that was too long for its envelope is kept.
const KEEP_OUTPUTS: Duration = Duration::from_hours(24);
/// How long it is known that there was a session.
const KEEP_ENDED: Duration = Duration::from_hours(30 * 24);

/// What was removed, or would be.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// Each thing.
    pub items: Vec<CleanedItem>,
}

/// One thing that nobody needs any more.
#[derive(Debug)]
pub struct CleanedItem {
    /// What it was.
    pub what: String,
    /// Where it lay.
    pub path: PathBuf,
    /// How much room it took on the disk, in bytes.
    pub bytes: u64,
}

/// Removes sandboxes and half-made things whose owners are gone, and outputs
/// older than a day. Whatever somebody alive holds is left alone: a lock that
/// can be taken belongs to nobody. Templates go that nothing is restored from any
/// more; what the host has is `present`, where that is known. With `dry_run`
/// nothing is removed.
pub fn clean(home: &Path, present: Option<&Present>, dry_run: bool) -> Result<Cleaned, Error> {
    if !home.exists() {
        return Ok(Cleaned::default());
    }
    let store = Store::open(home)?;
    let mut cleaned = Cleaned::default();
    let owned =
        [(Part::Sandboxes, "sandbox"), (Part::Pools, "pool"), (Part::Tmp, "unfinished work")];
    for (part, what) in owned {
        for path in entries(&store.dir(part)?)? {
            sweep(&store, &path, what, dry_run, &mut cleaned)?;
        }
    }
    for mark in entries(&store.dir(Part::Members)?)? {
        if !pool::is_waiting(&store, &mark) {
            remove(&mark, "mark of a pool's VM", dry_run, &mut cleaned)?;
        }
    }
    for path in entries(&store.dir(Part::Templates)?)? {
        if fork::is_abandoned(&path) {
            remove(&path, "copy of a forked VM", dry_run, &mut cleaned)?;
        }
    }
    let stale = Stale::of(&store, present)?;
    for path in &stale.paths {
        remove(path, "template", dry_run, &mut cleaned)?;
    }
    drop(stale);
    snapshot::clean(&store, present, dry_run, &mut cleaned)?;
    for dir in entries(&store.dir(Part::Networks)?)? {
        let (_held, abandoned) = private::abandoned(&store, &dir)?;
        for mark in &abandoned {
            remove(mark, "place on a private network", dry_run, &mut cleaned)?;
        }
        if !dry_run {
            // Only one without a mark can go.
            let _ = std::fs::remove_dir(&dir);
        }
    }
    if !dry_run {
        private::let_all_go(&store)?;
    }
    for (part, what, keep) in
        [(Part::Outputs, "output", KEEP_OUTPUTS), (Part::Ended, "word of a session", KEEP_ENDED)]
    {
        for path in entries(&store.dir(part)?)? {
            let modified = path.metadata().and_then(|m| m.modified()).map_err(at(&path))?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if age > keep {
                remove(&path, what, dry_run, &mut cleaned)?;
            }
        }
    }
    Ok(cleaned)
}

pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(dir).map_err(at(dir))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

/// Removes a directory if the lock inside it can be taken.
fn sweep(
    store: &Store,
    path: &Path,
    what: &str,
    dry_run: bool,
    cleaned: &mut Cleaned,
) -> Result<(), Error> {
    let lock = path.join("lock");
    if being_born(path) {
        return Ok(());
    }
    match Lock::try_take(&lock) {
        Ok(Some(_mine)) => {
            if !dry_run {
                session::bury(store, path)?;
            }
            remove(path, what, dry_run, cleaned)
        }
        Ok(None) => Ok(()),
        // It went away meanwhile.
        Err(_) if !path.exists() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Whether somebody may be between making a directory and locking it: it is
/// new, and there is nothing in it yet.
fn being_born(path: &Path) -> bool {
    let born = path.metadata().and_then(|m| m.modified()).ok();
    let age = born.and_then(|t| SystemTime::now().duration_since(t).ok()).unwrap_or_default();
    let empty = entries(path).is_ok_and(|all| all.iter().all(|p| p.ends_with("lock")));
    empty && age < Duration::from_secs(10)
}

pub(crate) fn remove(
    path: &Path,
    what: &str,
    dry_run: bool,
    cleaned: &mut Cleaned,
) -> Result<(), Error> {
    let (bytes, what) = (size(path), what.to_owned());
    if !dry_run {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(path)(e).into()),
            _ => {}
        }
    }
    cleaned.items.push(CleanedItem { what, path: path.to_owned(), bytes });
    Ok(())
}

/// The room that a file or a tree takes on the disk.
pub(crate) fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let below = if meta.is_dir() { entries(path).unwrap_or_default() } else { Vec::new() };
    meta.blocks() * 512 + below.iter().map(|p| size(p)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let home = tmp.path().join("home");
        let store = Store::open(&home).unwrap();
        let sandboxes = store.dir(Part::Sandboxes).unwrap();
        for name in ["dead", "alive"] {
            std::fs::create_dir(sandboxes.join(name)).unwrap();
            std::fs::write(sandboxes.join(name).join("lock"), "").unwrap();
            std::fs::write(sandboxes.join(name).join("disk.qcow2"), "").unwrap();
        }
        let _held = Lock::try_take(&sandboxes.join("alive/lock")).unwrap().unwrap();
        let staged = store.stage().unwrap();

        let would = clean(&home, None, true).unwrap();
        assert_eq!(would.items.len(), 1);
        assert!(sandboxes.join("dead").exists());
        let did = clean(&home, None, false).unwrap();
        assert_eq!(did.items[0].path, sandboxes.join("dead"));
        assert!(!sandboxes.join("dead").exists() && sandboxes.join("alive").exists());
        assert!(staged.path().exists());
    }
}
