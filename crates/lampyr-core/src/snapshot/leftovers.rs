//! What no snapshot needs any more.

use std::path::Path;

use lampyr_image::Image;
use lampyr_oci::Digest;
use lampyr_store::{Lock, Store};

use super::blobs::Blobs;
use super::config::Config;
use super::layout::{Index, Manifest};
use super::{LOCK, dir, in_use};
use crate::clean::{Cleaned, remove};
use crate::{Error, template};

/// Removes what killed processes left among the snapshots.
pub(crate) fn clean(store: &Store, dry_run: bool, cleaned: &mut Cleaned) -> Result<(), Error> {
    let dir = dir(store)?;
    let Some(_alone) = store.alone(LOCK)? else { return Ok(()) };
    take_away(store, &dir, &Index::read(&dir)?, dry_run, cleaned)
}

/// Removes blobs that no snapshot needs, bases that none stands on, and the
/// templates of snapshots that are gone. The caller holds the lock.
pub(super) fn sweep(store: &Store, dir: &Path, index: &Index) -> Result<(), Error> {
    take_away(store, dir, index, false, &mut Cleaned::default())
}

/// What somebody still runs from stays for the next time, with all that it needs;
/// everything does while there is a snapshot that cannot be read, since nobody
/// knows what that one needs.
fn take_away(
    store: &Store,
    dir: &Path,
    index: &Index,
    dry_run: bool,
    cleaned: &mut Cleaned,
) -> Result<(), Error> {
    let blobs = Blobs::new(dir)?;
    let Some(Needs { parts, images, free }) = Needs::of(store, &blobs, index)? else {
        return Ok(());
    };
    for (digest, _lock) in free.iter().filter(|(digest, _)| !parts.contains(digest)) {
        for template in template::of_snapshot(store, *digest)? {
            remove(&template, "template of a snapshot", dry_run, cleaned)?;
        }
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
    /// Each blob that is no such snapshot itself, and the lock that keeps it so.
    free: Vec<(Digest, Lock)>,
}

impl Needs {
    /// `None` where one of them cannot be read.
    fn of(store: &Store, blobs: &Blobs, index: &Index) -> Result<Option<Self>, Error> {
        let named: Vec<_> = index.names().map(|(_, digest)| digest).collect();
        let (mut parts, mut images, mut free) = (named.clone(), Vec::new(), Vec::new());
        for digest in blobs.all()?.into_iter().filter(|digest| !named.contains(digest)) {
            match store.alone(&in_use(digest))? {
                Some(lock) => free.push((digest, lock)),
                None => parts.push(digest),
            }
        }
        for digest in parts.clone() {
            let read =
                Manifest::read(blobs, digest).and_then(|m| Ok((m, Config::read(blobs, digest)?)));
            let Ok((manifest, config)) = read else { return Ok(None) };
            parts.extend(manifest.all().map(|part| part.digest));
            images.push(config.of.image_digest);
        }
        Ok(Some(Self { parts, images, free }))
    }
}
