//! Root disks: the images that sandboxes start from.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lampyr_oci::{Config, Digest};
use lampyr_store::{Lock, Part, Staging, Store, StoreError, at, read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::{ImageError, ImageRef, base};

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

    /// Opens the disk, and keeps it from being removed for as long as that is
    /// held. Nothing where there is no such disk any more: it may have been
    /// replaced since the image was found.
    pub fn hold(&self, store: &Store) -> Result<Option<HeldImage>, ImageError> {
        let (dir, kept) = (self.dir_of_disk(), base::dir(store, &self.digest)?);
        let locks = [store.sharing(&in_use(dir))?, store.sharing(&in_use(&kept))?];
        let disk = disk_in(dir, &self.digest).or_else(|| disk_in(&kept, &self.digest));
        Ok(disk.map(|disk| HeldImage { disk, _locks: locks }))
    }

    fn dir_of_disk(&self) -> &Path {
        self.disk.parent().unwrap_or(&self.disk)
    }

    /// Makes sure that nobody holds a disk with this digest, whatever image it
    /// is of; nothing where somebody does.
    pub fn free(store: &Store, digest: &str) -> Result<Option<Lock>, ImageError> {
        Ok(store.alone(&in_use(&base::dir(store, digest)?))?)
    }

    /// Removes an image, whole or damaged, unless somebody holds it. Its disk
    /// becomes a base: whether anybody needs it is not known here.
    pub fn remove(store: &Store, image: &ImageRef) -> Result<(), ImageError> {
        let dir = Self::dir(store, image)?;
        let name = image.to_string();
        let free = Self::free_dir(store, &dir)?;
        let _free = free.ok_or_else(|| ImageError::InUse { name: name.clone() })?;
        Self::keep(store, &dir)?;
        match store.take_away(&dir) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(ImageError::NoImage { name })
            }
            other => Ok(other?),
        }
    }

    /// Makes sure that nobody holds the image in `dir`.
    fn free_dir(store: &Store, dir: &Path) -> Result<Option<Lock>, ImageError> {
        if let Some(lock) = store.alone(&in_use(dir))? {
            return Ok(Some(lock));
        }
        // It may be one that had the name before that somebody holds.
        let image = Self::open(dir, "").ok();
        image.map_or(Ok(None), |image| Self::free(store, &image.digest))
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
    /// that had the name, whose disk becomes a base. The disk is hashed here,
    /// once.
    pub fn publish(
        store: &Store,
        staging: Staging,
        name: &ImageRef,
        new: NewImage,
    ) -> Result<Self, ImageError> {
        let (digest, dir) = (digest_of(&staging.path().join(DISK))?, name.dir(store)?);
        Self::keep(store, &dir)?;
        Self::place(staging, &dir, &name.to_string(), new, digest)
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

/// An image whose disk is open, and stays as it is.
#[derive(Debug)]
pub struct HeldImage {
    /// The disk, to be read.
    pub disk: File,
    _locks: [Lock; 2],
}

/// The disk in `dir`, if it is the one with this digest.
fn disk_in(dir: &Path, digest: &str) -> Option<File> {
    // Open before anything is known of it: what is checked is what is read.
    let disk = File::open(dir.join(DISK)).ok()?;
    let manifest: Manifest = read_json(&dir.join(MANIFEST)).ok()?;
    let found = Stamp::from(&disk.metadata().ok()?);
    let same = manifest.format == FORMAT && manifest.digest == digest && manifest.disk == found;
    same.then_some(disk)
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
        Ok(Self::from(&std::fs::metadata(disk).map_err(at(disk))?))
    }
}

impl From<&std::fs::Metadata> for Stamp {
    fn from(found: &std::fs::Metadata) -> Self {
        Self { size: found.len(), mtime: found.mtime(), mtime_ns: found.mtime_nsec() }
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

    fn publish(store: &Store, contents: &str) -> Image {
        let staging = store.stage().unwrap();
        std::fs::write(staging.path().join(DISK), contents).unwrap();
        Image::publish(store, staging, &name("x"), NewImage::default()).unwrap()
    }

    fn text(held: &HeldImage) -> String {
        std::io::read_to_string(&held.disk).unwrap()
    }

    #[test]
    fn a_disk_that_was_replaced_is_held_as_it_was_or_not_at_all() {
        let (_tmp, store) = store();
        let first = publish(&store, "disk");
        let held = first.hold(&store).unwrap().unwrap();
        let second = publish(&store, "DISK");
        assert_eq!(text(&held), "disk");
        assert_eq!(text(&first.hold(&store).unwrap().unwrap()), "disk");
        assert_eq!(text(&second.hold(&store).unwrap().unwrap()), "DISK");
        assert!(Image::free_bases(&store).unwrap().is_empty());
        assert!(Image::free(&store, &first.digest).unwrap().is_none());
        drop(held);
        assert!(Image::free(&store, &first.digest).unwrap().is_some());
        let (base, digits, lock) = Image::free_bases(&store).unwrap().pop().unwrap();
        assert!(first.digest.starts_with(&digits));
        std::fs::remove_dir_all(base).unwrap();
        drop(lock);
        assert!(first.hold(&store).unwrap().is_none());
    }

    #[test]
    fn an_image_goes_when_nobody_holds_it_and_its_disk_becomes_a_base() {
        let (_tmp, store) = store();
        let first = publish(&store, "disk");
        let old = first.hold(&store).unwrap().unwrap();
        let second = publish(&store, "DISK");
        let new = second.hold(&store).unwrap().unwrap();
        let refused = Image::remove(&store, &name("x")).unwrap_err();
        assert!(matches!(refused, ImageError::InUse { .. }), "{refused}");
        drop(new);
        // Who runs from what had the name before does not need this one.
        Image::remove(&store, &name("x")).unwrap();
        for (image, contents) in [(first, "disk"), (second, "DISK")] {
            let base = Image::base(&store, &image.digest, &Config::default()).unwrap();
            assert_eq!(text(&base.hold(&store).unwrap().unwrap()), contents);
        }
        drop(old);
        let gone = Image::remove(&store, &name("x")).unwrap_err();
        assert!(matches!(gone, ImageError::NoImage { .. }), "{gone}");
    }
}
