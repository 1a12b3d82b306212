//! From kept blobs into a registry.

use std::path::Path;

use lampyr_store::at;
use lampyr_types::Progress;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Client, Response, Url};
use serde_json::Value;

use crate::manifest::senseless;
use crate::registry::{MOST_MANIFEST, unreachable};
use crate::{Access, Blobs, Digest, Image, OciError, Reference, Registry, Settings};

/// How often an upload that broke off is begun anew.
const TRIES: usize = 3;
pub(crate) const USUAL_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Puts an image into a registry under a reference. What the registry has
/// already is not sent.
pub async fn push(
    blobs: &Blobs,
    image: &Image,
    reference: &Reference,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<(), OciError> {
    let (name, repository) = (reference.registry(), reference.repository());
    let registry = Registry::open(name, repository, Access::Push, settings).await?;
    let mut digests: Vec<Digest> = image.layers.iter().map(|layer| layer.digest).collect();
    digests.push(image.config_digest);
    let task = progress.begin(&format!("Pushing {reference}"));
    for (done, digest) in digests.iter().enumerate() {
        task.advance(done as u64, digests.len() as u64);
        upload(&registry, *digest, &blobs.path(*digest)?).await?;
    }
    let lost = || senseless(&image.manifest.to_string(), &"it is no longer here");
    let manifest = blobs.read(image.manifest, MOST_MANIFEST)?.ok_or_else(lost)?;
    put_manifest(&registry, reference, image.manifest, manifest).await
}

/// Puts a file into a registry, unless the registry has it.
pub(crate) async fn upload(
    registry: &Registry,
    digest: Digest,
    path: &Path,
) -> Result<(), OciError> {
    let url = registry.url(&format!("blobs/{digest}"));
    let known = registry.send("look for a blob", |http: &Client| http.head(&url)).await?;
    if known.status().is_success() {
        return Ok(());
    }
    let mut tries = 1;
    loop {
        match upload_once(registry, digest, path).await {
            Err(OciError::NoRoute { .. }) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

async fn upload_once(registry: &Registry, digest: Digest, path: &Path) -> Result<(), OciError> {
    let url = registry.url("blobs/uploads/");
    let ask = |http: &Client| http.post(&url).header(CONTENT_LENGTH, 0);
    let begun = registry.send("begin an upload", ask).await?;
    let begun = registry.check("begin an upload", begun).await?;
    let mut place = place(&begun).ok_or_else(|| {
        senseless(&format!("the answer of {}", registry.name), &"it does not say where to send")
    })?;
    place.query_pairs_mut().append_pair("digest", &digest.to_string());
    let file = tokio::fs::File::open(path).await.map_err(at(path))?;
    let size = file.metadata().await.map_err(at(path))?.len();
    let request = registry.http.put(place.clone()).body(Body::from(file));
    let request = request
        .header(CONTENT_LENGTH, size)
        .header(CONTENT_TYPE, "application/octet-stream")
        .timeout(std::time::Duration::from_hours(2));
    // Who stores for the registry is not to hear who we are.
    let ours = registry.is_own(&place);
    let request = if ours { registry.authorized(request).await } else { request };
    let answer = request.send().await.map_err(|e| unreachable(&registry.name, &e))?;
    registry.check("take a blob", answer).await.map(drop)
}

/// Where to send a blob, as the answer says: in whole or from its root.
fn place(answer: &Response) -> Option<Url> {
    let text = answer.headers().get(LOCATION)?.to_str().ok()?;
    answer.url().join(text).ok()
}

/// Names what is there already.
pub(crate) async fn put_manifest(
    registry: &Registry,
    reference: &Reference,
    digest: Digest,
    manifest: Vec<u8>,
) -> Result<(), OciError> {
    let value: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let kind = value["mediaType"].as_str().unwrap_or(USUAL_MANIFEST).to_owned();
    let tag = reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
    let url = registry.url(&format!("manifests/{tag}"));
    let put =
        |http: &Client| http.put(&url).header(CONTENT_TYPE, kind.clone()).body(manifest.clone());
    let answer = registry.send("take the manifest", put).await?;
    registry.check("take the manifest", answer).await.map(drop)
}
