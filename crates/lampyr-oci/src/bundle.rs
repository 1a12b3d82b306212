//! Images in files: OCI layouts, what `docker save` writes, and plain trees,
//! each as one archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use lampyr_store::{StoreError, at};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::archive::{Archive, Entry, EntryKind, Piece, shown};
use crate::layer::{Allowance, Measured, unpack};
use crate::manifest::{Descriptor, Manifest, senseless};
use crate::pull::MOST_CONFIG;
use crate::registry::MOST_MANIFEST;
use crate::{Blobs, Config, Digest, Image, Layer, LayerError, Limits, OciError, Platform};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image that an archive held, and what it is called there.
#[derive(Debug)]
pub struct Bundled {
    /// What it is called, if it says so.
    pub name: Option<String>,
    /// The image, whose blobs are kept now.
    pub image: Image,
}

/// What `docker save` says of each image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The files of an archive that are kept now, by their names in it.
#[derive(Debug, Default)]
struct Files {
    kept: BTreeMap<String, (Digest, u64)>,
    links: BTreeMap<String, String>,
}

/// Keeps the images of an archive. One that holds no images is taken for the
/// root directory of one.
pub fn read(
    blobs: &Blobs,
    path: &Path,
    platform: &Platform,
    limits: Limits,
) -> Result<Vec<Bundled>, OciError> {
    let failed = |source| OciError::Layer { layer: path.display().to_string(), source };
    let mut file = File::open(path).map_err(at(path))?;
    let plain = !holds_images(&file).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(at(path))?;
    if plain {
        let image = root(blobs, &mut file, path, platform, limits)?;
        return Ok(vec![Bundled { name: None, image }]);
    }
    let files = keep_files(blobs, &file, limits).map_err(failed)?;
    files.images(blobs, platform, &path.display().to_string())
}

/// Whether the top of an archive says that it holds images.
fn holds_images(file: &File) -> Result<bool, LayerError> {
    let mut archive = Archive::new(unpack(file)?);
    while let Some(entry) = archive.next()? {
        if matches!(name_of(&entry).as_str(), "oci-layout" | "manifest.json") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn name_of(entry: &Entry) -> String {
    let text = shown(&entry.path);
    text.trim_start_matches("./").trim_end_matches('/').to_owned()
}

fn keep_files(blobs: &Blobs, file: &File, limits: Limits) -> Result<Files, LayerError> {
    let allowance = Allowance::new(limits.size.as_bytes());
    let mut archive = Archive::new(Measured::new(unpack(file)?, allowance.clone()));
    let mut files = Files::default();
    while let Some(entry) = archive.next()? {
        let name = name_of(&entry);
        match &entry.kind {
            EntryKind::File(size) => {
                let mut keeper = blobs.keeper().map_err(io)?;
                archive.contents(*size, |piece| match piece {
                    Piece::Data(bytes) => Ok(keeper.write_all(bytes)?),
                    // No blob has holes that are worth their name.
                    Piece::Zeros(len) => {
                        allowance.take(len)?;
                        Ok(std::io::copy(&mut std::io::repeat(0).take(len), &mut keeper)
                            .map(drop)?)
                    }
                })?;
                files.kept.insert(name, keeper.finish().map_err(io)?);
            }
            EntryKind::Symlink(target) | EntryKind::Link(target) => {
                let target = shown(target).trim_start_matches("../").to_owned();
                files.links.insert(name, target);
            }
            _ => {}
        }
        if files.kept.len() + files.links.len() > 100_000 {
            return Err(LayerError::TooMany(100_000));
        }
    }
    Ok(files)
}

fn io(e: StoreError) -> LayerError {
    match e {
        StoreError::Io { source, .. } => LayerError::Io(source),
        other => LayerError::Damaged(other.to_string()),
    }
}

impl Files {
    fn find(&self, name: &str, what: &str) -> Result<(Digest, u64), OciError> {
        let name = self.links.get(name).map_or(name, String::as_str);
        let found = self.kept.get(name).copied();
        found.ok_or_else(|| senseless(what, &format!("it has no {name}")))
    }

    fn images(
        &self,
        blobs: &Blobs,
        platform: &Platform,
        what: &str,
    ) -> Result<Vec<Bundled>, OciError> {
        let missing = || senseless(what, &"a part of it was changed");
        if let Some((index, _)) = self.kept.get("index.json") {
            let bytes = blobs.read(*index, MOST_MANIFEST)?.ok_or_else(missing)?;
            return of_layout(blobs, &bytes, platform, what);
        }
        let (saved, _) = self.find("manifest.json", what)?;
        let bytes = blobs.read(saved, MOST_MANIFEST)?.ok_or_else(missing)?;
        let saved: Vec<Saved> = serde_json::from_slice(&bytes).map_err(|e| senseless(what, &e))?;
        saved.into_iter().map(|image| self.saved(blobs, &image, platform, what)).collect()
    }

    fn saved(
        &self,
        blobs: &Blobs,
        saved: &Saved,
        platform: &Platform,
        what: &str,
    ) -> Result<Bundled, OciError> {
        let (config, size) = self.find(&saved.config, what)?;
        let layers: Result<Vec<_>, _> =
            saved.layers.iter().map(|layer| self.find(layer, what)).collect();
        let manifest = describe(blobs, (config, size), &layers?)?;
        let image = Image::kept(blobs, manifest, platform, what)?;
        let name = saved.repo_tags.as_ref().and_then(|tags| tags.first().cloned());
        Ok(Bundled { name, image })
    }
}

/// The images that a layout's index names.
fn of_layout(
    blobs: &Blobs,
    index: &[u8],
    platform: &Platform,
    what: &str,
) -> Result<Vec<Bundled>, OciError> {
    let value: Value = serde_json::from_slice(index).map_err(|e| senseless(what, &e))?;
    let index = Manifest::parse(index, what)?;
    let annotations = value["manifests"].as_array().into_iter().flatten();
    let names = annotations.map(|entry| {
        let found = NAMES.iter().find_map(|key| entry["annotations"][*key].as_str());
        found.map(str::to_owned)
    });
    let pairs = index.manifests.iter().zip(names);
    pairs
        .map(|(entry, name)| {
            Ok(Bundled { name, image: Image::kept(blobs, entry.digest, platform, what)? })
        })
        .collect()
}

/// Takes a whole archive for the one layer of an image.
fn root(
    blobs: &Blobs,
    file: &mut File,
    path: &Path,
    platform: &Platform,
    limits: Limits,
) -> Result<Image, OciError> {
    let failed = |source| OciError::Layer { layer: path.display().to_string(), source };
    let allowance = Allowance::new(limits.size.as_bytes());
    let unpacked = unpack(&*file).map_err(failed)?;
    let contents = Measured::new(unpacked, allowance).digest().map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(at(path))?;
    let mut keeper = blobs.keeper()?;
    std::io::copy(file, &mut keeper).map_err(at(path))?;
    let (digest, size) = keeper.finish()?;
    compose(blobs, platform, &Config::default(), &[Layer { digest, size, contents }])
}

/// Makes an image of layers that are kept, and keeps what describes it.
pub fn compose(
    blobs: &Blobs,
    platform: &Platform,
    config: &Config,
    layers: &[Layer],
) -> Result<Image, OciError> {
    let contents: Vec<_> = layers.iter().map(|layer| layer.contents).collect();
    let config = json!({"architecture": platform.architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": contents}});
    let config = config.to_string();
    let config = (blobs.keep(config.as_bytes())?, config.len() as u64);
    let layers: Vec<_> = layers.iter().map(|layer| (layer.digest, layer.size)).collect();
    let manifest = describe(blobs, config, &layers)?;
    Image::kept(blobs, manifest, platform, "the new image")
}

/// Keeps a manifest of these blobs.
fn describe(
    blobs: &Blobs,
    config: (Digest, u64),
    layers: &[(Digest, u64)],
) -> Result<Digest, OciError> {
    let entry = |media_type: &str, (digest, size): (Digest, u64)| {
        let media_type = media_type.to_owned();
        Descriptor { media_type, digest, size, platform: None }
    };
    let mut described = Vec::new();
    for layer in layers {
        let mut start = [0; 4];
        let path = blobs.path(layer.0)?;
        let len =
            File::open(&path).and_then(|mut file| file.read(&mut start)).map_err(at(&path))?;
        let ending = match &start[..len] {
            [0x1f, 0x8b, ..] => "+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
            _ => "",
        };
        described.push(entry(&format!("{LAYER_TYPE}{ending}"), *layer));
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": entry(CONFIG, config), "layers": described});
    Ok(blobs.keep(manifest.to_string().as_bytes())?)
}

impl Image {
    /// The image with a manifest that is kept, by way of an index where it is
    /// one.
    pub fn kept(
        blobs: &Blobs,
        manifest: Digest,
        platform: &Platform,
        what: &str,
    ) -> Result<Self, OciError> {
        let read = |digest, most| {
            let bytes = blobs.read(digest, most)?;
            bytes.ok_or_else(|| senseless(what, &format!("{digest} is not there, or not whole")))
        };
        let (mut digest, mut bytes) = (manifest, read(manifest, MOST_MANIFEST)?);
        let mut parsed = Manifest::parse(&bytes, what)?;
        if !parsed.manifests.is_empty() {
            digest = parsed.select(platform, what)?.digest;
            bytes = read(digest, MOST_MANIFEST)?;
            parsed = Manifest::parse(&bytes, what)?;
        }
        let config = parsed.config.ok_or_else(|| senseless(what, &"it is no image"))?;
        let layers = &parsed.layers;
        for layer in layers {
            if !blobs.has(layer.digest)? {
                return Err(senseless(what, &format!("{} is not there", layer.digest)));
            }
        }
        let config_bytes = read(config.digest, MOST_CONFIG)?;
        Self::new(digest, layers, config.digest, &config_bytes, platform, what)
    }
}

/// Writes an image as an archive that Docker, Podman and skopeo can read: an
/// OCI layout, with what `docker load` wants besides. The file appears whole or
/// not at all.
pub fn write(blobs: &Blobs, image: &Image, name: &str, to: &Path) -> Result<(), OciError> {
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(dir).map_err(at(to))?;
    let mut tar = tar::Builder::new(BufWriter::new(file));
    let blob = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
    let manifest_path = blobs.path(image.manifest)?;
    let size = std::fs::metadata(&manifest_path).map_err(at(&manifest_path))?.len();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST,
        "digest": image.manifest, "size": size, "annotations": {NAMES[0]: name, NAMES[1]: name}}]});
    let layers: Vec<_> = image.layers.iter().map(|layer| blob(layer.digest)).collect();
    let saved =
        json!([{"Config": blob(image.config_digest), "RepoTags": [name], "Layers": layers}]);
    for (name, text) in [
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ("index.json", index),
        ("manifest.json", saved),
    ] {
        let text = text.to_string();
        append(&mut tar, name, text.len() as u64, text.as_bytes()).map_err(at(to))?;
    }
    let mut digests = vec![image.manifest, image.config_digest];
    digests.extend(image.layers.iter().map(|layer| layer.digest));
    digests.sort();
    digests.dedup();
    for digest in digests {
        let path = blobs.path(digest)?;
        let file = File::open(&path).map_err(at(&path))?;
        let size = file.metadata().map_err(at(&path))?.len();
        append(&mut tar, blob(digest), size, file).map_err(at(to))?;
    }
    let out = tar.into_inner().map_err(at(to))?;
    let file = out.into_inner().map_err(|e| at(to)(e.into_error()))?;
    file.persist(to).map(drop).map_err(|e| at(to)(e.error).into())
}

pub(crate) fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: impl AsRef<Path>,
    size: u64,
    contents: impl Read,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, name, contents)
}
