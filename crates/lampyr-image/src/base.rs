//! Bases: root disks that came with a snapshot, and those of images that were
//! replaced or removed, for whatever stands on them. They are called by their
//! digest, and no image has that name: nobody gets one who asked for an image.

use std::path::{Path, PathBuf};

use lampyr_oci::Config;
use lampyr_store::{Lock, Part, Staging, Store, at};

use crate::image::{DISK, NewImage, digest_of, in_use};
use crate::{Image, ImageError};

impl Image {
    /// The base with this digest, as the image that it was. What it wants is for
    /// the snapshot to say.
    pub fn base(store: &Store, digest: &str, config: &Config) -> Option<Self> {
        let image = Self::open(&dir(store, digest).ok()?, "").ok();
        let image = image.filter(|image| image.digest == digest)?;
        let command = [config.entrypoint.as_slice(), &config.cmd].concat();
        Some(Self { config: config.clone(), command, ..image })
    }

    /// Makes a base of the `disk.ext4` in `staging`; `None` where its digest is
    /// another one.
    pub fn keep_base(
        store: &Store,
        staging: Staging,
        name: &str,
        digest: &str,
    ) -> Result<Option<Self>, ImageError> {
        if digest_of(&staging.path().join(DISK))? != digest {
            return Ok(None);
        }
        let (dir, new) = (dir(store, digest)?, NewImage::default());
        Self::place(staging, &dir, name, new, digest.to_owned()).map(Some)
    }

    /// Makes a base of the disk of the image in `dir`, a second name of the same
    /// file. One that is damaged is of no use to anybody.
    pub(crate) fn keep(store: &Store, dir_of_image: &Path) -> Result<(), ImageError> {
        let Ok(image) = Self::open(dir_of_image, "") else { return Ok(()) };
        if Self::base(store, &image.digest, &Config::default()).is_some() {
            return Ok(());
        }
        let staging = store.stage()?;
        let disk = staging.path().join(DISK);
        std::fs::hard_link(&image.disk, &disk).map_err(at(&image.disk))?;
        let dir = dir(store, &image.digest)?;
        Self::place(staging, &dir, &image.name, NewImage::default(), image.digest).map(drop)
    }

    /// Each base that nobody uses, its digest as far as it is known by its name,
    /// and the lock that keeps it so.
    pub fn free_bases(store: &Store) -> Result<Vec<(PathBuf, String, Lock)>, ImageError> {
        let all = store.dir(Part::Bases)?;
        let mut free = Vec::new();
        for entry in std::fs::read_dir(&all).map_err(at(&all))?.flatten() {
            let digits = entry.file_name().to_string_lossy().trim_start_matches('@').to_owned();
            if let Some(lock) = store.alone(&in_use(&entry.path()))? {
                free.push((entry.path(), digits, lock));
            }
        }
        Ok(free)
    }
}

pub(crate) fn dir(store: &Store, digest: &str) -> Result<PathBuf, ImageError> {
    let digits: String = digest.chars().filter(char::is_ascii_hexdigit).take(32).collect();
    Ok(store.dir(Part::Bases)?.join(Path::new(&format!("@{digits}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeldImage;

    #[test]
    fn a_base_is_found_by_what_it_is_and_is_no_image() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let keep = |contents: &str, digest: &str| {
            let staging = store.stage().unwrap();
            std::fs::write(staging.path().join(DISK), contents).unwrap();
            Image::keep_base(&store, staging, "default", digest).unwrap()
        };
        let digest = blake3::hash(b"disk").to_hex().to_string();
        assert!(keep("another disk", &digest).is_none());
        assert!(Image::base(&store, &digest, &Config::default()).is_none());
        assert!(keep("disk", &digest).is_some());
        let config = Config { cmd: vec!["sh".into()], ..Config::default() };
        let base = Image::base(&store, &digest, &config).unwrap();
        assert_eq!((base.name.as_str(), base.command), ("default", vec!["sh".to_owned()]));
        assert!(Image::list(&store).unwrap().is_empty());
        let held = base_lock(&store, &digest);
        assert!(Image::free_bases(&store).unwrap().is_empty());
        drop(held);
        assert!(digest.starts_with(&Image::free_bases(&store).unwrap()[0].1));
    }

    fn base_lock(store: &Store, digest: &str) -> HeldImage {
        Image::base(store, digest, &Config::default()).unwrap().hold(store).unwrap().unwrap()
    }
}
