//! Snapshots that leave this host.

use std::fs::File;
use std::path::Path;

use lampyr_oci::{Digest, Reference, Settings, Shelf, pack};
use lampyr_store::{Store, at};
use lampyr_types::{Name, Progress};

use super::blobs::Blobs;
use super::layout::{Descriptor, Kind};
use super::packed::artifact;
use super::{Saved, beside, dir, find};
use crate::{Error, template};

/// Puts a snapshot into a registry, with the root disk that it stands on.
/// Returns the digest of what is there then. What the registry has is not sent.
///
/// # Errors
///
/// Whatever goes wrong, the reference stands for what it stood for before.
pub async fn push_snapshot(
    home: &Path,
    name: &Name,
    reference: &Reference,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Digest, Error> {
    if !home.exists() {
        return Err(Error::NoSnapshot(name.clone()));
    }
    let store = Store::open(home)?;
    let (saved, _held) = find(&store, name)?;
    let files = files(&store, &saved)?;
    let dir = dir(&store)?;
    let shelf = Shelf::open(reference, settings).await?;
    let task = progress.begin(&format!("Pushing {reference}"));
    let (mut parts, count) = (Vec::new(), files.len() as u64);
    for (done, (part, from)) in files.into_iter().enumerate() {
        task.advance(done as u64, count);
        parts.push(put(&store, &shelf, part, from).await?);
    }
    let itself = Blobs::new(&dir)?.path(saved.digest);
    let size = itself.metadata().map_err(at(&itself))?.len();
    shelf.put(saved.digest, &itself).await?;
    let artifact = artifact(&saved.manifest, (saved.digest, size), parts);
    Ok(shelf.finish(&artifact).await?)
}

/// A part, unless it is what the snapshot stands on, which it does not list; and
/// the file that it is.
type PartFile = (Option<Descriptor>, File);

/// What a snapshot is made of, in its order, and last what it stands on.
fn files(store: &Store, saved: &Saved) -> Result<Vec<PartFile>, Error> {
    let (blobs, of) = (Blobs::new(&dir(store)?)?, &saved.config.of);
    let missing = || Error::ImageChanged { image: of.image.clone() };
    let image = template::image_here(store, of).ok_or_else(missing)?;
    let base = image.hold(store)?.ok_or_else(missing)?;
    let mut files = Vec::new();
    for part in saved.manifest.all() {
        let damaged = |_| Error::SnapshotDamaged(part.digest);
        let file = File::open(blobs.path(part.digest)).map_err(damaged)?;
        files.push((Some(part.clone()), file));
    }
    files.push((None, base.disk));
    Ok(files)
}

/// Puts a part there, verified, and packed unless it is small. What is packed
/// goes again: it is the same the next time.
async fn put(
    store: &Store,
    shelf: &Shelf,
    part: Option<Descriptor>,
    from: File,
) -> Result<(Digest, u64), Error> {
    let (staging, blobs) = (store.stage()?, Blobs::new(&dir(store)?)?);
    let packed = staging.path().join("packed");
    let to = packed.clone();
    let packing = move || {
        if let Some(part) = &part {
            blobs.verified(part)?;
        }
        let made = File::create_new(&to).map_err(at(&to))?;
        if let Some(part) = part.filter(|part| part.media_type == Kind::Config) {
            std::io::copy(&mut &from, &mut &made).map_err(at(&to))?;
            return Ok((part.digest, part.size));
        }
        Ok::<_, Error>(pack(&from, &made).map_err(at(&to))?)
    };
    let part = beside(packing).await?;
    shelf.put(part.0, &packed).await?;
    Ok(part)
}
