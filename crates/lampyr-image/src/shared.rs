//! Images that leave this host, and images that come in files.

use std::fs::File;
use std::path::{Path, PathBuf};

use lampyr_oci::bundle::{self, Bundled};
use lampyr_oci::{Blobs, Image as Remote, Reference, Tree, changes, push};
use lampyr_store::{Store, at};
use lampyr_types::Progress;

use crate::image::DISK;
use crate::pulled::{beside, lay, limits, locks, platform};
use crate::{Image, ImageError, ImageRef, Registries};

impl Image {
    /// Makes an image of a file: an archive with one image, or one of a root
    /// directory.
    pub async fn import(
        store: &Store,
        file: &Path,
        name: &ImageRef,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        let (_alone, _blobs) = locks(store, name).await?;
        let mut found = read(store, file, registries, progress).await?;
        let count = found.len();
        let only = found.pop().filter(|_| count == 1);
        let only = only.ok_or_else(|| ImageError::NotOne { file: file.to_owned(), count })?;
        Self::unpack(store, name, None, only.image, registries.most, progress).await
    }

    /// Makes an image of `root`, an archive of the root file system of a VM of
    /// `base`: the layers of that, and one more.
    pub async fn of_root(
        store: &Store,
        name: &ImageRef,
        base: &Self,
        root: File,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        let (_alone, _blobs) = locks(store, name).await?;
        let (blobs, beneath, most) = (Blobs::new(store), base.clone(), registries.most);
        let (staging, task) = (store.stage()?, progress.begin("Comparing the disk"));
        let remote = beside(move || {
            let scratch = staging.path().join(DISK);
            let file = File::create_new(&scratch).map_err(at(&scratch))?;
            let mut tree = Tree::remembering(file, limits(most))?;
            let mut layers = Vec::new();
            if beneath.origin.is_some() {
                let remote = beneath.remote(&blobs)?;
                lay(&mut tree, &blobs, &remote, &*task)?;
                layers = remote.layers;
            }
            layers.push(changes(&tree, &root, &blobs, limits(most))?);
            Ok(bundle::compose(&blobs, &platform(), &beneath.config, &layers)?)
        });
        let (remote, base) = (remote.await?, Some(base.name.clone()));
        Self::unpack(store, name, base, remote, registries.most, progress).await
    }

    /// Makes images of all that an archive holds, under their own names.
    pub async fn load(
        store: &Store,
        file: &Path,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<Vec<Self>, ImageError> {
        // Nobody removes the blobs before the images are there.
        let _blobs = Blobs::new(store).hold()?;
        let mut images = Vec::new();
        for Bundled { name, image } in read(store, file, registries, progress).await? {
            let name = name.ok_or_else(|| ImageError::Nameless { file: file.to_owned() })?;
            let name =
                called(&name).ok_or_else(|| ImageError::Nameless { file: file.to_owned() })?;
            let (_alone, _blobs) = locks(store, &name).await?;
            images.push(Self::unpack(store, &name, None, image, registries.most, progress).await?);
        }
        Ok(images)
    }

    /// Writes an image as an archive that Docker, Podman and skopeo can read.
    pub async fn save(&self, store: &Store, file: PathBuf) -> Result<(), ImageError> {
        let blobs = Blobs::new(store);
        let _hold = blobs.hold()?;
        let remote = self.remote(&blobs)?;
        let name = if Reference::is_plain(&self.name) {
            self.name.clone()
        } else {
            format!("{}:latest", self.name)
        };
        beside(move || Ok(bundle::write(&blobs, &remote, &name, &file)?)).await
    }

    /// Puts an image into a registry.
    pub async fn push(
        &self,
        store: &Store,
        reference: &Reference,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let blobs = Blobs::new(store);
        let _hold = blobs.hold()?;
        let remote = self.remote(&blobs)?;
        Ok(push(&blobs, &remote, reference, &registries.settings, progress).await?)
    }

    /// The image as registries have it.
    fn remote(&self, blobs: &Blobs) -> Result<Remote, ImageError> {
        let origin = self.origin.as_ref();
        let origin = origin.ok_or_else(|| ImageError::NoLayers { name: self.name.clone() })?;
        Ok(Remote::kept(blobs, origin.manifest, &platform(), &self.name)?)
    }
}

async fn read(
    store: &Store,
    file: &Path,
    registries: &Registries,
    progress: &dyn Progress,
) -> Result<Vec<Bundled>, ImageError> {
    let _task = progress.begin(&format!("Reading {}", file.display()));
    let (blobs, file) = (Blobs::new(store), file.to_owned());
    let limits = limits(registries.most);
    beside(move || Ok(bundle::read(&blobs, &file, &platform(), limits)?)).await
}

/// What an image of an archive is called here. A name of ours leaves with a
/// tag, because Docker's rules want one.
fn called(name: &str) -> Option<ImageRef> {
    let own = name.strip_suffix(":latest").filter(|own| !Reference::is_plain(own));
    own.unwrap_or(name).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_left() {
        for (name, ours) in [
            ("tools:latest", "tools"),
            ("localhost:5000/tools:latest", "localhost:5000/tools:latest"),
            ("python:3.12", "docker.io/library/python:3.12"),
        ] {
            assert_eq!(called(name).unwrap().to_string(), ours);
        }
        assert!(called("").is_none());
    }
}
