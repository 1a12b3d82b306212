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
    /// The default image, made from Debian's packages where it is missing.
    pub fn ensure_default(store: &Store, progress: &dyn Progress) -> Result<Self, ImageError> {
        let name: Name = DEFAULT_IMAGE
            .parse()
            .map_err(|_| ImageError::NoImage { name: DEFAULT_IMAGE.into() })?;
        let name = ImageRef::Name(name);
        let missing = |found: &Result<Self, _>| matches!(found, Err(ImageError::NoImage { .. }));
        let found = Self::find(store, &name);
        if !missing(&found) {
            return found;
        }
        let _making = store.making(&format!("image-{name}"))?;
        let found = Self::find(store, &name);
        if !missing(&found) {
            return found;
        }
        let _task = progress.begin("Making the default image");
        let staging = store.stage()?;
        let release = Release::of_host();
        build(staging.path(), &release)?;
        let base = Some(format!("debian:{}", release.codename));
        Self::publish(store, staging, &name, NewImage { base, ..NewImage::default() })
    }
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
