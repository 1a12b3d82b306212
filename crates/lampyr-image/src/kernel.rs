//! The guest kernel: what is kept of Debian's package, so that a new agent
//! needs no download.

use std::path::{Path, PathBuf};

use lampyr_store::{Part, Store, at, read_json, write_json};
use lampyr_types::Progress;
use serde::{Deserialize, Serialize};

use crate::debian::{self, Apt};
use crate::modules::{Module, Tree};
use crate::sources::Release;
use crate::{Arch, ImageError};

const FORMAT: u32 = 1;
const MANIFEST: &str = "kernel.json";

/// A kernel and its modules, at `kits/kernel-<arch>/`.
#[derive(Debug)]
pub(crate) struct Kernel {
    dir: PathBuf,
    pub(crate) facts: KernelFacts,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KernelFacts {
    format: u32,
    /// The package that it came from.
    pub(crate) package: String,
    /// The version of that package.
    pub(crate) version: String,
    /// What `uname -r` says in the guest.
    pub(crate) release: String,
    /// What was asked for.
    wanted: Vec<String>,
    /// The names of the modules, in the order to load them.
    pub(crate) modules: Vec<String>,
}

impl Kernel {
    /// The kernel that is kept, if it has the modules that we want today.
    pub(crate) fn kept(store: &Store, arch: Arch) -> Result<Option<Self>, ImageError> {
        let dir = place(store, arch)?;
        let facts = read_json::<KernelFacts>(&dir.join(MANIFEST)).ok();
        let fits = |facts: &KernelFacts| facts.format == FORMAT && facts.wanted == wanted(arch);
        Ok(facts.filter(fits).map(|facts| Self { dir, facts }))
    }

    /// Downloads the newest kernel and keeps what guests need of it.
    pub(crate) fn fetch(
        store: &Store,
        arch: Arch,
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        let _task = progress.begin("Fetching the guest kernel");
        let (work, kernel) = (store.stage()?, store.stage()?);
        let release = Release::of_host();
        let apt = Apt::open(&work.path().join("apt"), arch, &release, &release.codename, "")?;
        let (package, version) = newest(&apt, arch)?;
        let root = work.path().join("root");
        debian::unpack(&apt.download(&package)?, &root)?;
        let facts = keep(&root, kernel.path(), arch, package, version)?;
        let dir = place(store, arch)?;
        kernel.publish(&dir)?;
        Ok(Self { dir, facts })
    }

    /// The kernel's file.
    pub(crate) fn vmlinuz(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The modules, in the order to load them.
    pub(crate) fn modules(&self) -> Result<Vec<Module>, ImageError> {
        let read = |name: &String| {
            let path = self.dir.join(format!("{name}.ko"));
            let bytes = std::fs::read(&path).map_err(at(&path))?;
            Ok(Module { name: name.clone(), bytes })
        };
        self.facts.modules.iter().map(read).collect()
    }
}

fn place(store: &Store, arch: Arch) -> Result<PathBuf, ImageError> {
    Ok(store.dir(Part::Kits)?.join(format!("kernel-{arch}")))
}

fn wanted(arch: Arch) -> Vec<String> {
    arch.facts().modules.iter().map(|&name| name.to_owned()).collect()
}

/// The newest kernel package and its version.
fn newest(apt: &Apt, arch: Arch) -> Result<(String, String), ImageError> {
    let meta = arch.facts().kernel_package;
    let record = apt.record(meta)?;
    let package = record.needs().find(|name| name.starts_with("linux-image-"));
    let package = package.ok_or_else(|| bad(meta, "the name of a kernel"))?;
    Ok((package.to_owned(), record.version().to_owned()))
}

/// Copies what guests need from the unpacked package at `root` into `dir`.
fn keep(
    root: &Path,
    dir: &Path,
    arch: Arch,
    package: String,
    version: String,
) -> Result<KernelFacts, ImageError> {
    let wants = arch.facts();
    let release = package.trim_start_matches("linux-image-").trim_end_matches("-unsigned");
    let vmlinuz = root.join("boot").join(format!("{}{release}", wants.kernel_prefix));
    std::fs::copy(&vmlinuz, dir.join("vmlinuz")).map_err(at(&vmlinuz))?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|part| root.join(part).join(release));
    let modules = modules.iter().find(|path| path.is_dir());
    let modules = modules.ok_or_else(|| bad(&package, "kernel modules"))?;
    let modules = Tree::read(modules, &package)?.load_order(wants.modules)?;
    for module in &modules {
        let path = dir.join(format!("{}.ko", module.name));
        std::fs::write(&path, &module.bytes).map_err(at(&path))?;
    }
    let release = release.to_owned();
    let modules = modules.into_iter().map(|module| module.name).collect();
    let wanted = wanted(arch);
    let facts = KernelFacts { format: FORMAT, package, version, release, wanted, modules };
    write_json(&dir.join(MANIFEST), &facts)?;
    Ok(facts)
}

fn bad(package: &str, what: &str) -> ImageError {
    ImageError::BadPackage { package: package.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guests_need_is_kept_and_found_again_while_it_fits() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let root = tmp.path().join("root");
        let modules = root.join("lib/modules/6.1.0-1-cloud-amd64");
        std::fs::create_dir_all(root.join("boot")).unwrap();
        std::fs::create_dir_all(modules.join("kernel")).unwrap();
        std::fs::write(root.join("boot/vmlinuz-6.1.0-1-cloud-amd64"), "kernel").unwrap();
        std::fs::write(modules.join("modules.builtin"), "x/ext4.ko\nx/fuse.ko\n").unwrap();
        let wanted = ["virtio_mmio", "virtio_console", "virtio_blk", "virtio_net", "tcp_diag"];
        for name in wanted {
            std::fs::write(modules.join(format!("kernel/{name}.ko")), "\0depends=\0").unwrap();
        }
        let staging = store.stage().unwrap();
        let package = "linux-image-6.1.0-1-cloud-amd64".to_owned();
        keep(&root, staging.path(), Arch::X86_64, package, "6.1.2-1".to_owned()).unwrap();
        staging.publish(&place(&store, Arch::X86_64).unwrap()).unwrap();

        let kept = Kernel::kept(&store, Arch::X86_64).unwrap().unwrap();
        assert_eq!(kept.facts.release, "6.1.0-1-cloud-amd64");
        assert_eq!(kept.facts.modules, wanted);
        assert_eq!(kept.modules().unwrap()[2].bytes, b"\0depends=\0");
        assert!(Kernel::kept(&store, Arch::Aarch64).unwrap().is_none());
    }
}
