//! A QEMU of our own, for hosts whose own is old or missing: the
//! distribution's packages, unpacked into the state directory.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lampyr_store::{Part, Store, at, read_json, write_json};
use lampyr_types::Progress;
use serde::{Deserialize, Serialize};

use crate::debian::{self, Apt, HOST_STATUS};
use crate::sources::Release;
use crate::{Arch, ImageError, child, version};

const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";

/// What comes with our QEMU even where the host has it, since QEMU and its
/// firmware belong together: packages whose names begin so.
const OWN: [&str; 3] = ["qemu", "seabios", "ipxe-qemu"];

/// A QEMU at `qemu/<version>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuBuild {
    /// The version, as QEMU's authors call it: `10.0.2`.
    pub version: String,
    /// The version of the Debian package.
    pub package_version: String,
    /// The program.
    pub program: PathBuf,
    /// Where its libraries lie, for `LD_LIBRARY_PATH`.
    pub lib_dirs: Vec<PathBuf>,
    /// Where its firmware lies, each for a `-L` of its own.
    pub data_dirs: Vec<PathBuf>,
}

/// A build's `manifest.json`; its paths are relative to it.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    arch: Arch,
    version: String,
    package_version: String,
    program: PathBuf,
    /// The length of the program in bytes.
    #[serde(default)]
    program_size: Option<u64>,
    lib_dirs: Vec<PathBuf>,
    data_dirs: Vec<PathBuf>,
}

impl QemuBuild {
    /// The builds for guests of `arch`, newest first. What is not whole is
    /// left out.
    pub fn list(store: &Store, arch: Arch) -> Vec<Self> {
        let Ok(entries) = store.dir(Part::Qemu).and_then(|d| std::fs::read_dir(&d).map_err(at(&d)))
        else {
            return Vec::new();
        };
        let dirs = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut builds: Vec<_> = dirs.filter_map(|dir| Self::open(&dir, arch)).collect();
        builds.sort_by(|a, b| version::compare(&b.package_version, &a.package_version));
        builds
    }

    /// The value of `LD_LIBRARY_PATH` that the program needs.
    pub fn library_path(&self) -> OsString {
        std::env::join_paths(&self.lib_dirs).unwrap_or_default()
    }

    fn open(dir: &Path, arch: Arch) -> Option<Self> {
        let manifest: Manifest = read_json(&dir.join(MANIFEST)).ok()?;
        let fits = manifest.format == FORMAT && manifest.arch == arch;
        (fits && manifest.is_whole(dir)).then(|| manifest.into_build(dir))
    }

    /// Runs the program, which must know its own version.
    fn check(&self, arch: Arch) -> Result<(), ImageError> {
        let mut command = child::command("env");
        let mut libraries = OsString::from("LD_LIBRARY_PATH=");
        libraries.push(self.library_path());
        command.arg(libraries).arg(&self.program).arg("--version");
        let said = child::run(&mut command)?;
        let said = String::from_utf8_lossy(&said);
        if said.contains(&format!("version {}", self.version)) {
            return Ok(());
        }
        let said = said.lines().next().unwrap_or_default().to_owned();
        Err(ImageError::BadQemu { program: arch.qemu_program(), said })
    }
}

impl Manifest {
    /// Whether the program is there, and as long as it was.
    fn is_whole(&self, dir: &Path) -> bool {
        let found = std::fs::metadata(dir.join(&self.program));
        let right = |len: u64| self.program_size.map_or(len > 0, |size| size == len);
        found.is_ok_and(|found| found.is_file() && right(found.len()))
    }

    fn into_build(self, dir: &Path) -> QemuBuild {
        let inside = |paths: Vec<PathBuf>| paths.iter().map(|path| dir.join(path)).collect();
        QemuBuild {
            version: self.version,
            package_version: self.package_version,
            program: dir.join(self.program),
            lib_dirs: inside(self.lib_dirs),
            data_dirs: inside(self.data_dirs),
        }
    }
}

/// Fetches the newest QEMU that the host's distribution offers for guests of
/// `arch`, backports included, and returns its directory. `None` where the
/// host has that already, or is not Debian.
pub fn fetch_newer(
    store: &Store,
    arch: Arch,
    progress: &dyn Progress,
) -> Result<Option<PathBuf>, ImageError> {
    let release = Release::of_host();
    if !release.is_host {
        return Ok(None);
    }
    let suite = release.backports();
    fetch(store, arch, &release, &suite, true, progress)
}

/// Fetches the QEMU of one `suite` of the host's distribution, such as
/// `bookworm` or `bookworm-backports`, and returns its directory.
pub fn fetch_from(
    store: &Store,
    arch: Arch,
    suite: &str,
    progress: &dyn Progress,
) -> Result<PathBuf, ImageError> {
    let missing = || ImageError::NoPackage {
        package: arch.facts().qemu_package.to_owned(),
        suite: suite.to_owned(),
    };
    let release = Release::of_host();
    if !release.is_host {
        return Err(missing());
    }
    fetch(store, arch, &release, suite, false, progress)?.ok_or_else(missing)
}

fn fetch(
    store: &Store,
    arch: Arch,
    release: &Release,
    suite: &str,
    only_newer: bool,
    progress: &dyn Progress,
) -> Result<Option<PathBuf>, ImageError> {
    let _task = progress.begin("Fetching QEMU");
    let _making = store.making(&format!("qemu-{arch}"))?;
    let status_file = Path::new(HOST_STATUS);
    let status = std::fs::read_to_string(status_file).map_err(at(status_file))?;
    let work = store.stage()?;
    let own = debian::without(&status, &OWN);
    let apt = Apt::open(&work.path().join("apt"), Arch::HOST, release, suite, &own)?;
    let package = arch.facts().qemu_package;
    let newest = apt.record(package)?.version().to_owned();
    let here = debian::installed(&status, package);
    let is_newer = here.is_none_or(|here| version::compare(&newest, &here) == Ordering::Greater);
    if only_newer && !is_newer {
        return Ok(None);
    }
    let dir = place(store, arch, &newest)?;
    if QemuBuild::open(&dir, arch).is_none() {
        let root = work.path().join("root");
        for package in apt.download_missing(package)? {
            debian::unpack(&package, &root)?;
        }
        keep(store, &root, &dir, arch, newest)?;
    }
    Ok(Some(dir))
}

/// Colons separate the entries of a library path, so none may be in a name.
fn place(store: &Store, arch: Arch, newest: &str) -> Result<PathBuf, ImageError> {
    let name = version::without_epoch(newest);
    let suffix = if arch == Arch::HOST { String::new() } else { format!("-{arch}") };
    Ok(store.dir(Part::Qemu)?.join(format!("{name}{suffix}")))
}

/// Moves what QEMU needs from the unpacked packages at `root` to `dir`, and
/// sees that it works there.
fn keep(
    store: &Store,
    root: &Path,
    dir: &Path,
    arch: Arch,
    package_version: String,
) -> Result<(), ImageError> {
    let staging = store.stage()?;
    let triplet = Arch::HOST.facts().triplet;
    let program = PathBuf::from("usr/bin").join(arch.qemu_program());
    take(root, staging.path(), &program)?;
    let taken = staging.path().join(&program);
    let program_size = Some(std::fs::metadata(&taken).map_err(at(&taken))?.len());
    let lib_dirs = ["usr/lib", "lib"].map(|lib| Path::new(lib).join(triplet));
    let manifest = Manifest {
        format: FORMAT,
        arch,
        version: version::upstream(&package_version).to_owned(),
        package_version,
        program,
        program_size,
        lib_dirs: take_all(root, staging.path(), lib_dirs)?,
        data_dirs: take_all(root, staging.path(), ["usr/share/qemu", "usr/share/seabios"])?,
    };
    write_json(&staging.path().join(MANIFEST), &manifest)?;
    manifest.into_build(staging.path()).check(arch)?;
    Ok(staging.publish(dir)?)
}

/// Moves those `parts` of `root` that are there; returns them.
fn take_all(
    root: &Path,
    target: &Path,
    parts: impl IntoIterator<Item = impl Into<PathBuf>>,
) -> Result<Vec<PathBuf>, ImageError> {
    let there = parts.into_iter().map(Into::into).filter(|part: &PathBuf| root.join(part).is_dir());
    there.map(|part| take(root, target, &part).map(|()| part)).collect()
}

/// Moves `root/part` to `target/part`.
fn take(root: &Path, target: &Path, part: &Path) -> Result<(), ImageError> {
    let (from, to) = (root.join(part), target.join(part));
    let parent = to.parent().unwrap_or(target);
    std::fs::create_dir_all(parent).map_err(at(parent))?;
    Ok(std::fs::rename(&from, &to).map_err(at(&from))?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// The unpacked packages of a QEMU that can only say its version.
    fn unpacked(root: &Path, version: &str) {
        let program = root.join("usr/bin").join(Arch::X86_64.qemu_program());
        for dir in ["usr/bin", "usr/share/qemu", "usr/share/doc"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::write(&program, format!("#!/bin/sh\necho QEMU emulator version {version}\n"))
            .unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
    }

    fn install(store: &Store, said: &str, package_version: &str) -> Result<(), ImageError> {
        let root = tempfile::tempdir_in(store.dir(Part::Tmp)?).unwrap();
        unpacked(root.path(), said);
        let dir = place(store, Arch::X86_64, package_version)?;
        keep(store, root.path(), &dir, Arch::X86_64, package_version.to_owned())
    }

    #[test]
    fn builds_are_listed_newest_first_and_only_whole_ones() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        install(&store, "7.2.22", "1:7.2+dfsg-7+deb12u18").unwrap();
        install(&store, "10.0.2", "1:10.0.2+ds-2~bpo12+1").unwrap();
        std::fs::create_dir(store.dir(Part::Qemu).unwrap().join("99")).unwrap();
        let builds = QemuBuild::list(&store, Arch::X86_64);
        let versions: Vec<_> = builds.iter().map(|b| b.version.as_str()).collect();
        assert_eq!(versions, ["10.0.2", "7.2"]);
        assert!(builds[0].program.is_file());
        assert!(builds[0].data_dirs[0].ends_with("10.0.2+ds-2~bpo12+1/usr/share/qemu"));
        assert!(!tmp.path().join("home/qemu/10.0.2+ds-2~bpo12+1/usr/share/doc").exists());
    }

    #[test]
    fn a_build_whose_program_lost_bytes_is_not_there() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        install(&store, "10.0.2", "1:10.0.2+ds-2").unwrap();
        let list = || QemuBuild::list(&store, Arch::X86_64);
        let program = list()[0].program.clone();
        for length in [1, 0] {
            File::options().write(true).open(&program).unwrap().set_len(length).unwrap();
            assert!(list().is_empty(), "{length}");
        }
        // Manifests of before know no length; a program without bytes is none.
        let manifest = store.dir(Part::Qemu).unwrap().join("10.0.2+ds-2").join(MANIFEST);
        let mut old: serde_json::Value = read_json(&manifest).unwrap();
        old.as_object_mut().unwrap().remove("program_size").unwrap();
        write_json(&manifest, &old).unwrap();
        assert!(list().is_empty());
        std::fs::write(&program, "x").unwrap();
        assert_eq!(list().len(), 1);
        // The same package again takes its place.
        write_json(&manifest, &serde_json::json!({"format": 0})).unwrap();
        install(&store, "10.0.2", "1:10.0.2+ds-2").unwrap();
        assert!(list()[0].program.metadata().unwrap().len() > 1);
    }

    #[test]
    fn a_qemu_that_is_not_what_it_should_be_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let error = install(&store, "5.0.0", "1:7.2+dfsg-7").unwrap_err();
        assert!(matches!(error, ImageError::BadQemu { .. }));
        assert!(QemuBuild::list(&store, Arch::X86_64).is_empty());
    }
}
