//! Root disks: the images that sandboxes start from.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lampyr_oci::{Config, Digest};
use lampyr_store::{Lock, Part, Staging, Store, StoreError, at, read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::{ImageError, ImageRef};

const FORMAT: u32 = 1;
/// The name of an image's disk in its directory.
pub const DISK: &str = "disk.ext4";
pub(crate) const MANIFEST: &str = "manifest.json";

/// An image: a root disk at `images/<name>/`, never written after it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its disk: an ext4 file system without partitions.
    pub disk: PathBuf,
    /// The BLAKE3 hash of the disk, in hexadecimal.
    pub digest: String,
    /// The length of the disk in bytes; much of it is a hole.
    pub size_bytes: u64,
    /// What it was made from.
    pub base: Option<String>,
    /// What a sandbox runs where nothing else is asked for.
    pub command: Vec<String>,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// What it wants of whoever runs it.
    pub config: Config,
    /// What it came from, if a registry or an archive knows it.
    pub origin: Option<Origin>,
}

/// The blobs that an image was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<Digest>,
}

/// What is known of an image that is to be published.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// What it was made from.
    pub base: Option<String>,
    /// What it wants of whoever runs it.
    pub config: Config,
    /// The blobs that it was made of.
    pub origin: Option<Origin>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    name: String,
    base: Option<String>,
    command: Vec<String>,
    size_bytes: u64,
    created: String,
    digest: String,
    disk: Stamp,
    #[serde(default)]
    config: Config,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

/// What changes when somebody writes to the disk, without reading it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    mtime: i64,
    mtime_ns: i64,
}

impl Image {
    /// The image called `name`. Cheap enough for every launch.
    pub fn find(store: &Store, name: &ImageRef) -> Result<Self, ImageError> {
        Self::open(&name.dir(store)?, &name.to_string())
    }

    /// The same; a word that is no image's name is taken for the reference of
    /// one that was fetched.
    pub fn find_any(store: &Store, image: &ImageRef) -> Result<Self, ImageError> {
        Self::open(&Self::dir(store, image)?, &image.to_string())
    }

    pub(crate) fn open(dir: &Path, name: &str) -> Result<Self, ImageError> {
        let damaged = || ImageError::DamagedImage { name: name.to_owned() };
        let manifest: Manifest = match read_json(&dir.join(MANIFEST)) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(ImageError::NoImage { name: name.to_string() });
            }
            Err(StoreError::Damaged { .. }) => return Err(damaged()),
            other => other?,
        };
        let disk = dir.join(DISK);
        if manifest.format != FORMAT || Stamp::of(&disk).ok().as_ref() != Some(&manifest.disk) {
            return Err(damaged());
        }
        Ok(manifest.into_image(disk))
    }

    /// All images that are whole, by name.
    pub fn list(store: &Store) -> Result<Vec<Self>, ImageError> {
        let dir = store.dir(Part::Images)?;
        let entries = std::fs::read_dir(&dir).map_err(at(&dir))?;
        let dirs = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut images: Vec<_> = dirs.filter_map(|dir| Self::open(&dir, "").ok()).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// Keeps the image from being removed for as long as the lock is held.
    pub fn hold(&self, store: &Store) -> Result<Lock, ImageError> {
        Ok(store.sharing(&in_use(self.disk.parent().unwrap_or(&self.disk)))?)
    }

    /// Makes sure that nobody holds the image of this name, whether it is there
    /// or not; nothing where somebody does, or where no image is called so.
    pub fn free(store: &Store, name: &str) -> Result<Option<Lock>, ImageError> {
        let Ok(name) = name.parse::<ImageRef>() else { return Ok(None) };
        Ok(store.alone(&in_use(&name.dir(store)?))?)
    }

    /// Removes an image, whole or damaged, unless somebody holds it.
    pub fn remove(store: &Store, image: &ImageRef) -> Result<(), ImageError> {
        let dir = Self::dir(store, image)?;
        let name = image.to_string();
        let free = store.alone(&in_use(&dir))?;
        let _free = free.ok_or_else(|| ImageError::InUse { name: name.clone() })?;
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(ImageError::NoImage { name }),
            other => Ok(other.map_err(at(&dir))?),
        }
    }

    /// Where an image is. A word that is no image's name is taken for a
    /// reference.
    pub fn dir(store: &Store, image: &ImageRef) -> Result<PathBuf, ImageError> {
        let dir = image.dir(store)?;
        match image {
            ImageRef::Name(name) if !dir.exists() => {
                let Ok(reference) = name.as_str().parse() else { return Ok(dir) };
                let fetched = ImageRef::Reference(reference).dir(store)?;
                Ok(if fetched.exists() { fetched } else { dir })
            }
            _ => Ok(dir),
        }
    }

    /// Makes an image of the `disk.ext4` in `staging`, in place of an image
    /// that had the name. The disk is hashed here, once.
    pub fn publish(
        store: &Store,
        staging: Staging,
        name: &ImageRef,
        new: NewImage,
    ) -> Result<Self, ImageError> {
        let digest = digest_of(&staging.path().join(DISK))?;
        Self::place(staging, &name.dir(store)?, &name.to_string(), new, digest)
    }

    pub(crate) fn place(
        staging: Staging,
        dir: &Path,
        name: &str,
        new: NewImage,
        digest: String,
    ) -> Result<Self, ImageError> {
        let stamp = Stamp::of(&staging.path().join(DISK))?;
        let manifest = Manifest {
            format: FORMAT,
            name: name.to_owned(),
            base: new.base,
            command: [new.config.entrypoint.as_slice(), &new.config.cmd].concat(),
            size_bytes: stamp.size,
            created: jiff::Timestamp::now().to_string(),
            digest,
            disk: stamp,
            config: new.config,
            origin: new.origin,
        };
        write_json(&staging.path().join(MANIFEST), &manifest)?;
        staging.publish(dir)?;
        Ok(manifest.into_image(dir.join(DISK)))
    }
}

/// The lock of those that use an image.
pub(crate) fn in_use(dir: &Path) -> String {
    format!("use-{}", dir.file_name().unwrap_or_default().to_string_lossy())
}

impl Manifest {
    fn into_image(self, disk: PathBuf) -> Image {
        let Self { name, base, command, size_bytes, created, digest, config, origin, .. } = self;
        Image { name, disk, digest, size_bytes, base, command, created, config, origin }
    }
}

impl Stamp {
    fn of(disk: &Path) -> Result<Self, ImageError> {
        let found = std::fs::metadata(disk).map_err(at(disk))?;
        Ok(Self { size: found.len(), mtime: found.mtime(), mtime_ns: found.mtime_nsec() })
    }
}

pub(crate) fn digest_of(path: &Path) -> Result<String, ImageError> {
    let file = File::open(path).map_err(at(path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(at(path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// How large a disk `content` bytes of files need: a quarter for the file
/// system's own, 256 MiB of room, rounded up to 64 MiB.
pub(crate) fn disk_size(content: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    (content + content / 4 + 256 * MIB).next_multiple_of(64 * MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        (tmp, store)
    }

    fn name(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    #[test]
    fn disks_have_room_and_a_round_size() {
        assert_eq!(disk_size(0), 256 << 20);
        assert_eq!(disk_size(1), 320 << 20);
        assert_eq!(disk_size(256 << 20), 576 << 20);
    }

    #[test]
    fn an_image_is_found_as_it_was_published() {
        let (_tmp, store) = store();
        let staging = store.stage().unwrap();
        std::fs::write(staging.path().join(DISK), "disk").unwrap();
        let config = Config { cmd: vec!["sh".to_owned()], ..Config::default() };
        let new = NewImage { base: Some("default".to_owned()), config, origin: None };
        let made = Image::publish(&store, staging, &name("x"), new).unwrap();
        assert_eq!(made.command, ["sh"]);
        assert_eq!(Image::find(&store, &name("x")).unwrap(), made);
        assert_eq!(made.digest, blake3::hash(b"disk").to_hex().to_string());
        assert_eq!(Image::list(&store).unwrap(), [made]);
    }

    #[test]
    fn a_missing_image_and_a_changed_disk_are_told_apart() {
        let (_tmp, store) = store();
        let error = Image::find(&store, &name("x")).unwrap_err();
        assert_eq!(error.to_string(), "image 'x' not found");
        assert!(error.hint().is_some());
        let staging = store.stage().unwrap();
        std::fs::write(staging.path().join(DISK), "disk").unwrap();
        let image = Image::publish(&store, staging, &name("x"), NewImage::default()).unwrap();
        std::fs::write(image.disk, "other disk").unwrap();
        let found = Image::find(&store, &name("x"));
        assert!(matches!(found, Err(ImageError::DamagedImage { .. })));
    }
}
