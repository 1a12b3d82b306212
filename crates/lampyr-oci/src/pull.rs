//! From a reference to verified blobs.

use futures_util::stream::{StreamExt, TryStreamExt, iter};
use lampyr_types::Progress;

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
    let from = |registry| pull_from(registry, blobs, reference, platform, settings, progress);
    mirrored(reference, settings, from).await
}

/// Asks the mirrors of a registry, and then the registry itself.
pub(crate) async fn mirrored<'a, T>(
    reference: &'a Reference,
    settings: &'a Settings,
    ask: impl AsyncFn(&'a str) -> Result<T, OciError>,
) -> Result<T, OciError> {
    let mirrors = settings.mirrors.get(reference.registry()).into_iter().flatten();
    for mirror in mirrors {
        match ask(mirror).await {
            Ok(found) => return Ok(found),
            // A mirror that fails is as good as none, unless it is our disk.
            Err(e @ OciError::Store(_)) => return Err(e),
            Err(_) => {}
        }
    }
    ask(reference.registry()).await
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
