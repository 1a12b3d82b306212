//! From a reference to verified blobs.

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use lampyr_types::Progress;

use crate::artifact::SNAPSHOT;
use crate::manifest::{Descriptor, Manifest, senseless};
use crate::transfer::fetch;
use crate::{Access, Blobs, Digest, Image, OciError, Platform, Reference, Registry, Settings};

/// How many layers are fetched at a time.
const AT_ONCE: usize = 4;
/// The most bytes of a configuration.
pub(crate) const MOST_CONFIG: u64 = 8 << 20;

/// Fetches an image for `platform`: manifest, configuration, layers. Mirrors
/// of its registry are asked first.
pub async fn pull(
    blobs: &Blobs,
    reference: &Reference,
    platform: &Platform,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Image, OciError> {
    for mirror in mirrors(reference, settings) {
        match pull_from(mirror, blobs, reference, platform, settings, progress).await {
            Err(e) if !is_ours(&e) => {}
            done => return done,
        }
    }
    pull_from(reference.registry(), blobs, reference, platform, settings, progress).await
}

/// The mirrors of a reference's registry.
pub(crate) fn mirrors<'a>(
    reference: &Reference,
    settings: &'a Settings,
) -> impl Iterator<Item = &'a String> {
    settings.mirrors.get(reference.registry()).into_iter().flatten()
}

/// Whether it is our disk that failed. A mirror that fails is as good as none.
pub(crate) fn is_ours(error: &OciError) -> bool {
    matches!(error, OciError::Store(_))
}

async fn pull_from(
    registry: &str,
    blobs: &Blobs,
    reference: &Reference,
    platform: &Platform,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Image, OciError> {
    let what = reference.to_string();
    let _task = progress.begin(&format!("Pulling {what}"));
    let registry = Registry::open(registry, reference.repository(), Access::Pull, settings).await?;
    let (bytes, manifest) = manifest(&registry, reference, platform).await?;
    if manifest.artifact_type.starts_with(SNAPSHOT) {
        return Err(OciError::Snapshot { reference: what });
    }
    let config = manifest.config.as_ref().ok_or_else(|| senseless(&what, &"it is no image"))?;
    let config_bytes = config_of(&registry, blobs, config, &what).await?;
    let (digest, layers) = (Digest::of(&bytes), &manifest.layers);
    let image = Image::new(digest, layers, config.digest, &config_bytes, platform, &what)?;
    // Of an image that is of no use here nothing is kept.
    blobs.keep(&config_bytes)?;
    blobs.keep(&bytes)?;
    fetch_layers(&registry, blobs, layers, progress).await?;
    Ok(image)
}

/// The manifest of the image for `platform`, by way of an index where there
/// is one.
async fn manifest(
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
) -> Result<(Vec<u8>, Manifest), OciError> {
    let what = reference.to_string();
    let bytes = registry.manifest(reference).await?;
    let manifest = Manifest::parse(&bytes, &what)?;
    if manifest.manifests.is_empty() {
        return Ok((bytes, manifest));
    }
    let entry = manifest.select(platform, &what)?;
    let bytes = registry.manifest(&reference.with_digest(entry.digest)).await?;
    let manifest = Manifest::parse(&bytes, &what)?;
    Ok((bytes, manifest))
}

async fn config_of(
    registry: &Registry,
    blobs: &Blobs,
    config: &Descriptor,
    what: &str,
) -> Result<Vec<u8>, OciError> {
    if config.size > MOST_CONFIG {
        return Err(senseless(what, &"its configuration is too long"));
    }
    match blobs.read(config.digest, MOST_CONFIG)? {
        Some(bytes) => Ok(bytes),
        None => registry.small_blob(config.digest, MOST_CONFIG).await,
    }
}

async fn fetch_layers(
    registry: &Registry,
    blobs: &Blobs,
    layers: &[Descriptor],
    progress: &dyn Progress,
) -> Result<(), OciError> {
    let fetches: Vec<_> =
        layers.iter().map(|layer| fetch_layer(registry, blobs, layer, progress)).collect();
    iter(fetches).buffer_unordered(AT_ONCE).try_collect::<()>().await
}

async fn fetch_layer(
    registry: &Registry,
    blobs: &Blobs,
    layer: &Descriptor,
    progress: &dyn Progress,
) -> Result<(), OciError> {
    let task = progress.begin(&format!("Layer {}", &layer.digest.hex()[..12]));
    fetch(registry, blobs, layer.digest, layer.size, &*task).await
}
