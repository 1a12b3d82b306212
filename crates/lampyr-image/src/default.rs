//! The default image, made of Debian's packages.

use std::fs::File;
use std::path::Path;

use lampyr_store::{Store, at};
use lampyr_types::{Name, Progress};

use crate::image::{DISK, NewImage, disk_size};
use crate::sources::{KEYRING, Release};
use crate::{Arch, Image, ImageError, ImageRef, child};

/// The name of the image that is used where none is asked for.
pub const DEFAULT_IMAGE: &str = "default";

/// A disk with less room than this, in bytes, is full.
const LEAST_ROOM: u64 = 4 << 20;

/// What the default image has besides Debian's minimum.
const PACKAGES: &str = "bash,coreutils,python3-minimal,curl,ca-certificates,git";

/// What a guest never reads; licences stay.
const LEFT_OUT: [&str; 6] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

impl Image {
    /// The default image, made from Debian's packages where it is missing. One
    /// that is damaged is told, and left as it is.
    pub fn ensure_default(store: &Store, progress: &dyn Progress) -> Result<Self, ImageError> {
        let missing = |e: &ImageError| matches!(e, ImageError::NoImage { .. });
        Self::default_or(store, progress, missing, build)
    }

    /// The default image, made anew where it is missing or damaged.
    pub fn repair_default(store: &Store, progress: &dyn Progress) -> Result<Self, ImageError> {
        Self::default_or(store, progress, |_| true, build)
    }

    /// The default image; where finding it failed in such a way, a new one.
    fn default_or(
        store: &Store,
        progress: &dyn Progress,
        is_cured: impl Fn(&ImageError) -> bool,
        build: impl FnOnce(&Path, &Release) -> Result<(), ImageError>,
    ) -> Result<Self, ImageError> {
        let name: Name = DEFAULT_IMAGE
            .parse()
            .map_err(|_| ImageError::NoImage { name: DEFAULT_IMAGE.into() })?;
        let name = ImageRef::Name(name);
        let is_final = |found: &Result<Self, _>| !found.as_ref().is_err_and(&is_cured);
        let found = Self::find(store, &name);
        if is_final(&found) {
            return found;
        }
        let _making = store.making(&format!("image-{name}"))?;
        let found = Self::find(store, &name);
        if is_final(&found) {
            return found;
        }
        let _task = progress.begin("Making the default image");
        let staging = store.stage()?;
        let release = Release::of_host();
        // The programs that make it say little of why they failed.
        let told = |e| full(staging.path(), LEAST_ROOM).unwrap_or(e);
        build(staging.path(), &release).map_err(told)?;
        let base = Some(format!("debian:{}", release.codename));
        Self::publish(store, staging, &name, NewImage { base, ..NewImage::default() })
    }
}

/// The error of a full disk, where there are not `least` bytes left for `dir`.
fn full(dir: &Path, least: u64) -> Option<ImageError> {
    let room = rustix::fs::statvfs(dir).ok()?;
    let left = room.f_bavail.saturating_mul(room.f_frsize);
    let error = || at(dir)(rustix::io::Errno::NOSPC.into()).into();
    (left < least).then(error)
}

/// Makes `disk.ext4` in `dir` from the packages of `release`.
fn build(dir: &Path, release: &Release) -> Result<(), ImageError> {
    let tools = [
        ("mmdebstrap", "mmdebstrap"),
        ("fakeroot", "fakeroot"),
        ("mkfs.ext4", "e2fsprogs"),
        (KEYRING, "debian-archive-keyring"),
    ];
    child::need("making the default image", &tools)?;
    let (tar, tree, disk) = (dir.join("root.tar"), dir.join("root"), dir.join(DISK));
    bootstrap(&tar, release)?;
    let content = std::fs::metadata(&tar).map_err(at(&tar))?.len();
    let file = File::create(&disk).map_err(at(&disk))?;
    file.set_len(disk_size(content)).map_err(at(&disk))?;
    let mut pack = child::command("fakeroot");
    pack.args(["--", "sh", "-c", include_str!("pack.sh"), "pack"]).args([&tar, &tree, &disk]);
    child::run(&mut pack)?;
    Ok(std::fs::remove_dir_all(&tree).map_err(at(&tree))?)
}

/// Writes the files of a minimal system as an archive at `tar`.
fn bootstrap(tar: &Path, release: &Release) -> Result<(), ImageError> {
    let mut command = child::command("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--format=tar"]);
    command.arg(format!("--include={PACKAGES}"));
    command.arg(format!("--architectures={}", Arch::HOST.facts().debian));
    command.arg("--aptopt=Acquire::Languages \"none\"");
    command.args(LEFT_OUT.map(|rule| format!("--dpkgopt={rule}")));
    command.arg(&release.codename).arg(tar);
    let options = format!("arch={}", Arch::HOST.facts().debian);
    command.args(release.lines(None, &options));
    // The day, so that two builds of one day from one archive are alike.
    let now = jiff::Timestamp::now().as_second();
    command.env("SOURCE_DATE_EPOCH", (now - now % 86400).to_string());
    child::run(&mut command)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        (tmp, store)
    }

    #[test]
    fn a_full_disk_is_said_to_be_full() {
        let tmp = tempfile::tempdir().unwrap();
        assert!(full(tmp.path(), 0).is_none());
        let error = full(tmp.path(), u64::MAX).unwrap();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(error.hint().unwrap().contains("free some disk space"));
    }

    #[test]
    fn a_damaged_default_image_is_made_anew_only_when_that_is_asked_for() {
        let (_tmp, store) = store();
        let build = |dir: &Path, _: &Release| {
            std::fs::write(dir.join(DISK), "disk").unwrap();
            Ok(())
        };
        let ensure = |cures: bool| {
            let is_cured = |e: &ImageError| cures || matches!(e, ImageError::NoImage { .. });
            Image::default_or(&store, &lampyr_types::NoProgress, is_cured, build)
        };
        let made = ensure(false).unwrap();
        let manifest = made.disk.with_file_name(crate::image::MANIFEST);
        for (damaged, bytes) in [(&made.disk, "other disk"), (&manifest, "{"), (&manifest, "{}")] {
            std::fs::write(damaged, bytes).unwrap();
            let error = ensure(false).unwrap_err();
            assert!(error.to_string().contains("is damaged"), "{error}");
            assert_eq!(error.hint().unwrap(), "`lampyr doctor --fix` makes it anew");
            assert_eq!(ensure(true).unwrap().digest, made.digest);
            assert_eq!(ensure(false).unwrap().digest, made.digest);
        }
    }
}
