//! What no snapshot needs any more.

use std::path::{Path, PathBuf};

use lampyr_image::Image;
use lampyr_oci::Digest;
use lampyr_store::{Lock, Store};

use super::blobs::Blobs;
use super::layout::Index;
use super::{IN_USE, LOCK, dir, in_use, read};
use crate::clean::{Cleaned, entries, remove};
use crate::template::Present;
use crate::{Error, template};

/// Removes what killed processes left among the snapshots.
pub(crate) fn clean(
    store: &Store,
    present: Option<&Present>,
    dry_run: bool,
    cleaned: &mut Cleaned,
) -> Result<(), Error> {
    let dir = dir(store)?;
    let Some(_alone) = store.alone(LOCK)? else { return Ok(()) };
    match Index::read(&dir) {
        // Nobody knows what is needed, and the rest can be cleaned all the same.
        Err(Error::SnapshotIndex(_)) => Ok(()),
        index => take_away(store, &dir, &index?, present, dry_run, cleaned),
    }
}

/// Removes what an image left that was replaced or removed, where no snapshot
/// stands on it. Whatever stands in the way, `clean` removes it later.
pub(crate) fn forget_bases(store: &Store) {
    let _ = clean(store, None, false, &mut Cleaned::default());
}

/// Removes blobs that no snapshot needs, bases that none stands on, and the
/// templates of snapshots that are gone. The caller holds the lock.
pub(super) fn sweep(store: &Store, dir: &Path, index: &Index) -> Result<(), Error> {
    take_away(store, dir, index, None, false, &mut Cleaned::default())
}

/// What somebody still runs from stays for the next time, with all that it needs;
/// everything does while there is a snapshot that cannot be read, since nobody
/// knows what that one needs.
fn take_away(
    store: &Store,
    dir: &Path,
    index: &Index,
    present: Option<&Present>,
    dry_run: bool,
    cleaned: &mut Cleaned,
) -> Result<(), Error> {
    let blobs = Blobs::new(dir)?;
    // The index is written beside itself, too.
    let is_begun = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp"))
    };
    for path in blobs.begun()?.into_iter().chain(entries(dir)?.into_iter().filter(is_begun)) {
        remove(&path, "part of a snapshot", dry_run, cleaned)?;
    }
    let Some(needs) = Needs::of(store, &blobs, index, present)? else {
        return Ok(());
    };
    let Needs { parts, images, launched, free } = needs;
    for (template, digits) in template::of_snapshots(store)? {
        let is = |digest: &Digest| digest.hex().starts_with(&digits);
        // A lock that is held here already cannot be taken once more.
        let ours = free.iter().any(|(digest, _)| is(digest));
        let lock = if ours { None } else { store.alone(&format!("{IN_USE}{digits}"))? };
        if !launched.iter().any(is) && (ours || lock.is_some()) {
            remove(&template, "template of a snapshot", dry_run, cleaned)?;
        }
    }
    for (digest, _lock) in free.iter().filter(|(digest, _)| !parts.contains(digest)) {
        remove(&blobs.path(*digest), "part of a snapshot", dry_run, cleaned)?;
    }
    for (path, digits, _lock) in Image::free_bases(store)? {
        if !images.iter().any(|image| image.starts_with(&digits)) {
            remove(&path, "root disk of a snapshot", dry_run, cleaned)?;
        }
    }
    Ok(())
}

/// What the snapshots are made of that have a name or are run from.
struct Needs {
    parts: Vec<Digest>,
    /// The digests of the images beneath them.
    images: Vec<String>,
    /// Those that can be launched here.
    launched: Vec<Digest>,
    /// Each blob that is no such snapshot itself, and the lock that keeps it so.
    free: Vec<(Digest, Lock)>,
}

impl Needs {
    /// `None` where one of them cannot be read.
    fn of(
        store: &Store,
        blobs: &Blobs,
        index: &Index,
        present: Option<&Present>,
    ) -> Result<Option<Self>, Error> {
        let named: Vec<_> = index.names().map(|(_, digest)| digest).collect();
        let (mut parts, mut free) = (named.clone(), Vec::new());
        let (mut images, mut launched) = (Vec::new(), Vec::new());
        for digest in blobs.all()?.into_iter().filter(|digest| !named.contains(digest)) {
            match store.alone(&in_use(digest))? {
                Some(lock) => free.push((digest, lock)),
                None => parts.push(digest),
            }
        }
        for digest in parts.clone() {
            let Ok((manifest, config)) = read(blobs, digest) else { return Ok(None) };
            parts.extend(manifest.all().map(|part| part.digest));
            if present.is_none_or(|present| config.is_for(present)) {
                launched.push(digest);
            }
            images.push(config.of.image_digest);
        }
        Ok(Some(Self { parts, images, launched, free }))
    }
}
