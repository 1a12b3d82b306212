//! Root disks: the images that sandboxes start from.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lampyr_store::{Part, Staging, Store, StoreError, at, read_json, write_json};
use lampyr_types::{Name, Progress};
use serde::{Deserialize, Serialize};

use crate::sources::{KEYRING, Release};
use crate::{Arch, ImageError, child};

/// The name of the image that is used where none is asked for.
pub const DEFAULT_IMAGE: &str = "default";

const FORMAT: u32 = 1;
const DISK: &str = "disk.ext4";
const MANIFEST: &str = "manifest.json";

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
    pub fn find(store: &Store, name: &Name) -> Result<Self, ImageError> {
        let dir = store.dir(Part::Images)?.join(name.as_str());
        let damaged = || ImageError::DamagedImage { name: name.to_string() };
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
        let names = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<Name>().ok());
        let mut images: Vec<_> = names.filter_map(|name| Self::find(store, &name).ok()).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

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
        let name = Name::try_from(DEFAULT_IMAGE.to_owned())
            .map_err(|_| ImageError::NoImage { name: DEFAULT_IMAGE.to_owned() })?;
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
        Self::publish(store, staging, &name, Some(&format!("debian:{}", release.codename)), &[])
    }

    /// Makes an image of the `disk.ext4` in `staging`, in place of an image
    /// that had the name. The disk is hashed here, once.
    pub fn publish(
        store: &Store,
        staging: Staging,
        name: &Name,
        base: Option<&str>,
        command: &[String],
    ) -> Result<Self, ImageError> {
        let disk = staging.path().join(DISK);
        let stamp = Stamp::of(&disk)?;
        let manifest = Manifest {
            format: FORMAT,
            name: name.to_string(),
            base: base.map(str::to_owned),
            command: command.to_vec(),
            size_bytes: stamp.size,
            created: jiff::Timestamp::now().to_string(),
            digest: digest_of(&disk)?,
            disk: stamp,
        };
        write_json(&staging.path().join(MANIFEST), &manifest)?;
        let dir = store.dir(Part::Images)?.join(name.as_str());
        staging.publish(&dir)?;
        Ok(manifest.into_image(dir.join(DISK)))
    }
}

impl Manifest {
    fn into_image(self, disk: PathBuf) -> Image {
        let Self { name, base, command, size_bytes, created, digest, .. } = self;
        Image { name, disk, digest, size_bytes, base, command, created }
    }
}

impl Stamp {
    fn of(disk: &Path) -> Result<Self, ImageError> {
        let found = std::fs::metadata(disk).map_err(at(disk))?;
        Ok(Self { size: found.len(), mtime: found.mtime(), mtime_ns: found.mtime_nsec() })
    }
}

fn digest_of(path: &Path) -> Result<String, ImageError> {
    let file = File::open(path).map_err(at(path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(at(path))?;
    Ok(hasher.finalize().to_hex().to_string())
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

/// How large a disk `content` bytes of files need: a quarter for the file
/// system's own, 256 MiB of room, rounded up to 64 MiB.
fn disk_size(content: u64) -> u64 {
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

    fn name(text: &str) -> Name {
        text.parse().unwrap()
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
        let command = ["sh".to_owned()];
        let made = Image::publish(&store, staging, &name("x"), Some("default"), &command).unwrap();
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
        let image = Image::publish(&store, staging, &name("x"), None, &[]).unwrap();
        std::fs::write(image.disk, "other disk").unwrap();
        let found = Image::find(&store, &name("x"));
        assert!(matches!(found, Err(ImageError::DamagedImage { .. })));
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
        let manifest = made.disk.with_file_name(MANIFEST);
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
