//! Images: what is here, what is fetched, what is removed.

use std::collections::HashSet;
use std::path::Path;

use lampyr_image::{Image, ImageError, ImageRef, Registries};
use lampyr_oci::{Blobs, Reference};
use lampyr_store::{Part, Store};
use lampyr_types::Progress;

use crate::clean::{Cleaned, CleanedItem, entries, remove, size};
use crate::{Error, snapshot, template};

/// All images that are whole, by name.
pub fn images(home: &Path) -> Result<Vec<Image>, Error> {
    Ok(Image::list(&Store::open(home)?)?)
}

/// An image that is here.
pub fn image(home: &Path, image: &ImageRef) -> Result<Image, Error> {
    Ok(Image::find_any(&Store::open(home)?, image)?)
}

/// Fetches an image from a registry.
pub async fn pull_image(
    home: &Path,
    reference: &Reference,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    let store = Store::open(home)?;
    let pulled = Image::pull(&store, reference, registries, progress).await?;
    snapshot::forget_bases(&store);
    Ok(pulled)
}

/// Puts an image that is here into a registry.
pub async fn push_image(
    home: &Path,
    image: &ImageRef,
    reference: &Reference,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let store = Store::open(home)?;
    let image = Image::find_any(&store, image)?;
    Ok(image.push(&store, reference, registries, progress).await?)
}

/// Makes an image of a file.
pub async fn import_image(
    home: &Path,
    file: &Path,
    name: &ImageRef,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    let store = Store::open(home)?;
    let imported = Image::import(&store, file, name, registries, progress).await?;
    snapshot::forget_bases(&store);
    Ok(imported)
}

/// Makes images of all that an archive holds.
pub async fn load_images(
    home: &Path,
    file: &Path,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Vec<Image>, Error> {
    let store = Store::open(home)?;
    let loaded = Image::load(&store, file, registries, progress).await;
    snapshot::forget_bases(&store);
    Ok(loaded?)
}

/// Writes an image into a file.
pub async fn save_image(home: &Path, image: &ImageRef, file: &Path) -> Result<(), Error> {
    let store = Store::open(home)?;
    Ok(Image::find_any(&store, image)?.save(&store, file.to_owned()).await?)
}

/// Removes an image and its templates, unless a VM uses it. Blobs stay for
/// [`prune_images`], since other images may share them; and the disk as long as
/// a snapshot stands on it.
pub fn remove_image(home: &Path, image: &ImageRef) -> Result<Cleaned, Error> {
    let store = Store::open(home)?;
    let dir = Image::dir(&store, image)?;
    // A damaged image has no templates that could be used.
    let known = Image::find_any(&store, image).ok();
    let templates = known.as_ref().map(|image| template::of_image(&store, image)).transpose()?;
    let mut item = CleanedItem { what: "image".to_owned(), bytes: size(&dir), path: dir };
    Image::remove(&store, image)?;
    snapshot::forget_bases(&store);
    let kept = known.and_then(|image| Image::base(&store, &image.digest, &image.config));
    item.bytes = item.bytes.saturating_sub(kept.map_or(0, |base| size(&base.disk)));
    let mut cleaned = Cleaned { items: vec![item] };
    for dir in templates.unwrap_or_default() {
        remove(&dir, "template", false, &mut cleaned)?;
    }
    Ok(cleaned)
}

/// Removes blobs that no image needs and what is left of transfers. With
/// `dry_run` nothing is removed.
pub fn prune_images(home: &Path, dry_run: bool) -> Result<Cleaned, Error> {
    let store = Store::open(home)?;
    let blobs = Blobs::new(&store);
    let _alone = blobs.alone()?.ok_or(ImageError::Fetching)?;
    let needed: HashSet<String> = Image::list(&store)?
        .into_iter()
        .filter_map(|image| image.origin)
        .flat_map(|origin| [vec![origin.manifest, origin.config], origin.layers].concat())
        .map(|digest| digest.hex())
        .collect();
    let mut cleaned = Cleaned::default();
    for (part, what) in [("sha256", "blob"), ("partial", "part of a blob")] {
        let dir = store.dir(Part::Blobs)?.join(part);
        if !dir.exists() {
            continue;
        }
        for path in entries(&dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if part == "partial" || !needed.contains(&name) {
                remove(&path, what, dry_run, &mut cleaned)?;
            }
        }
    }
    Ok(cleaned)
}
