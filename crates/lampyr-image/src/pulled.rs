//! Images from registries: their layers become a root disk.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use lampyr_oci::{
    Blobs, Image as Remote, Limits, OciError, Platform, Reference, Settings, Tree, pull,
};
use lampyr_store::{Lock, Store, at};
use lampyr_types::{Progress, Size, Task};

use crate::image::{DISK, NewImage, Origin, disk_size};
use crate::{Arch, Image, ImageError, ImageRef};

/// How registries are spoken to, and what is taken from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries {
    /// Credentials, certificates, mirrors.
    pub settings: Settings,
    /// How much an image may unpack to.
    pub most: Size,
}

/// What images say of the guests that they are for.
pub(crate) fn platform() -> Platform {
    Platform { architecture: Arch::HOST.facts().debian }
}

/// Directories that a guest needs, and their permissions.
const DIRECTORIES: [(&str, u16); 7] = [
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
];
/// Files that a runtime of containers would give, where the image has none.
const FILES: [(&str, &str); 3] = [
    ("/etc/hosts", "127.0.0.1\tlocalhost lampyr\n::1\tlocalhost ip6-localhost\n"),
    ("/etc/hostname", "lampyr\n"),
    ("/etc/resolv.conf", "# no network\n"),
];

impl Image {
    /// Fetches an image, or finds out that the one that is here is what the
    /// registry has. What a disk or a layer needs and is here is not fetched.
    pub async fn pull(
        store: &Store,
        reference: &Reference,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        let name = ImageRef::Reference(reference.clone());
        let (_alone, _blobs) = locks(store, &name).await?;
        let blobs = Blobs::new(store);
        let settings = &registries.settings;
        let remote = pull(&blobs, reference, &platform(), settings, progress).await?;
        Self::unpack(store, &name, None, remote, registries.most, progress).await
    }

    /// Makes the disk of an image whose blobs are here, unless that is here,
    /// too. The caller holds the locks.
    pub(crate) async fn unpack(
        store: &Store,
        name: &ImageRef,
        base: Option<String>,
        remote: Remote,
        most: Size,
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        let known = Self::find(store, name).ok();
        let same = |image: &Self| {
            image.origin.as_ref().is_some_and(|origin| origin.manifest == remote.manifest)
        };
        if let Some(image) = known.filter(same) {
            return Ok(image);
        }
        // Whoever gives up waiting takes the half-made disk away, too.
        let staging = store.stage()?;
        let (new, blobs) = (NewImage { base, ..describe(&remote) }, Blobs::new(store));
        let path = staging.path().join(DISK);
        let task = progress.begin(&format!("Unpacking {name}"));
        beside(move || write_disk(&path, &blobs, &remote, most, &*task)).await?;
        let (store, name) = (store.clone(), name.clone());
        beside(move || Self::publish(&store, staging, &name, new)).await
    }
}

/// Does work that would keep others waiting on a thread of its own.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(ImageError::GivenUp)?
}

/// Waits until nobody else makes this image or removes blobs.
pub(crate) async fn locks(store: &Store, name: &ImageRef) -> Result<(Lock, Lock), ImageError> {
    let (store, name) = (store.clone(), name.clone());
    beside(move || {
        let dir = name.dir(&store)?;
        let dir = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((store.making(&format!("image-{dir}"))?, Blobs::new(&store).hold()?))
    })
    .await
}

fn describe(remote: &Remote) -> NewImage {
    let layers = remote.layers.iter().map(|layer| layer.digest).collect();
    let origin = Origin { manifest: remote.manifest, config: remote.config_digest, layers };
    NewImage { base: None, config: remote.config.clone(), origin: Some(origin) }
}

/// Makes the disk of an image whose blobs are here.
fn write_disk(
    path: &Path,
    blobs: &Blobs,
    remote: &Remote,
    most: Size,
    task: &dyn Task,
) -> Result<(), ImageError> {
    let file = File::create_new(path).map_err(at(path))?;
    let mut tree = Tree::new(file, limits(most))?;
    lay(&mut tree, blobs, remote, task)?;
    let mut identity = [0; 16];
    identity.copy_from_slice(&remote.manifest.as_bytes()[..16]);
    Ok(tree.finish(identity, disk_size)?)
}

/// What an image that unpacks to so much may have.
pub(crate) fn limits(most: Size) -> Limits {
    Limits { size: most, files: Limits::FILES }
}

/// Lays the layers of an image, and adds what a guest needs.
pub(crate) fn lay(
    tree: &mut Tree,
    blobs: &Blobs,
    remote: &Remote,
    task: &dyn Task,
) -> Result<(), ImageError> {
    let total = remote.layers.iter().map(|layer| layer.size).sum();
    let mut done = 0;
    for layer in &remote.layers {
        let failed = |source| OciError::Layer { layer: layer.digest.to_string(), source };
        let blob = blobs.open(layer.digest)?;
        let lost = || blobs.path(layer.digest).map(|path| at(&path)(ErrorKind::NotFound.into()));
        let blob = blob.map_or_else(|| Err(lost()?), Ok)?;
        tree.lay(blob, Some(layer.contents)).map_err(failed)?;
        done += layer.size;
        task.advance(done, total);
    }
    let unfurnished = |source| OciError::Layer { layer: "of Lampyr's own".to_owned(), source };
    Ok(furnish(tree, &remote.config.workdir).map_err(unfurnished)?)
}

/// Adds what a guest needs to run and layers leave to others.
fn furnish(tree: &mut Tree, workdir: &str) -> Result<(), lampyr_oci::LayerError> {
    for (path, mode) in DIRECTORIES {
        tree.ensure_directory(path, mode)?;
    }
    for (path, text) in FILES {
        tree.ensure_file(path, text.as_bytes())?;
    }
    if workdir.trim_matches('/').is_empty() {
        return Ok(());
    }
    tree.ensure_directory(workdir, 0o755)
}
