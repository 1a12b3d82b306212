//! The guest kit: the kernel and the initramfs that guests boot from.
//!
//! The initramfs holds `/init` (the agent), the kernel modules as
//! `/lib/modules/NN-name.ko`, and `/modules`, their paths in the order to load
//! them, one per line. `/dev`, `/proc`, `/sys` and `/new` are there to mount on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lampyr_store::{Part, Store, at, read_json, write_json};
use lampyr_types::Progress;
use serde::{Deserialize, Serialize};

use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::modules::Module;
use crate::{Arch, ImageError, vmlinux};

const FORMAT: u32 = 3;
const PACKED: &str = "vmlinuz";
const UNPACKED: &str = "vmlinux";
const INITRAMFS: &str = "initramfs";
const MANIFEST: &str = "manifest.json";

/// A kit on disk, at `kits/<first 16 digits of its digest>/`.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The kernel as guests boot it: unpacked where that is possible.
    pub kernel: PathBuf,
    /// The kernel as the distribution packed it.
    pub packed: PathBuf,
    /// The initramfs, not compressed.
    pub initramfs: PathBuf,
    /// What the kit is made of.
    pub manifest: KitManifest,
}

/// What a kit is made of: its `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KitManifest {
    /// The version of this file's layout.
    pub format: u32,
    /// The architecture of the guests that boot from it.
    pub arch: Arch,
    /// The Debian package of the kernel.
    pub kernel_package: String,
    /// The version of that package.
    pub kernel_version: String,
    /// What `uname -r` says in the guest.
    pub kernel_release: String,
    /// The kernel modules, in the order to load them.
    pub modules: Vec<String>,
    /// The kit's files by name.
    pub files: BTreeMap<String, FileFacts>,
    /// Decides whether two kits are the same: a hash over all files.
    pub digest: String,
}

/// What there is to know about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its length in bytes.
    pub size: u64,
    /// Its BLAKE3 hash, in hexadecimal.
    pub blake3: String,
}

/// Which kit is in use, and what it was made from: `kits/current-<arch>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Pointer {
    format: u32,
    kit: String,
    kernel_version: String,
    agent: String,
}

impl Kit {
    /// The kit with this agent, if it was made already. Cheap enough for
    /// every launch: two small files are read and the agent is hashed.
    pub fn current(store: &Store, arch: Arch, agent: &[u8]) -> Option<Self> {
        let pointer = read_json::<Pointer>(&pointer_file(store, arch)?).ok()?;
        if pointer.format != FORMAT || pointer.agent != digest_of(agent) {
            return None;
        }
        Self::open(&store.dir(Part::Kits).ok()?.join(&pointer.kit))
    }

    /// The kit with this agent, made where it is missing. Only the first kit
    /// of an architecture needs the network, for the kernel.
    pub fn ensure(
        store: &Store,
        arch: Arch,
        agent: &[u8],
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        if let Some(kit) = Self::current(store, arch, agent) {
            return Ok(kit);
        }
        let _making = store.making(&format!("kit-{arch}"))?;
        if let Some(kit) = Self::current(store, arch, agent) {
            return Ok(kit);
        }
        let kernel = match Kernel::kept(store, arch)? {
            Some(kernel) => kernel,
            None => Kernel::fetch(store, arch, progress)?,
        };
        Self::make(store, arch, agent, &kernel)
    }

    /// The kit with this agent and the newest kernel that Debian has.
    pub fn renew(
        store: &Store,
        arch: Arch,
        agent: &[u8],
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        let _making = store.making(&format!("kit-{arch}"))?;
        let kernel = Kernel::fetch(store, arch, progress)?;
        Self::make(store, arch, agent, &kernel)
    }

    /// Opens a kit if it is whole: its files have the lengths that they should.
    fn open(dir: &Path) -> Option<Self> {
        let manifest: KitManifest = read_json(&dir.join(MANIFEST)).ok()?;
        let whole = |name: &str| {
            let len = std::fs::metadata(dir.join(name)).ok()?.len();
            (manifest.files.get(name)?.size == len).then(|| dir.join(name))
        };
        let (packed, initramfs) = (whole(PACKED)?, whole(INITRAMFS)?);
        let unpacked = manifest.files.contains_key(UNPACKED);
        let kernel = if unpacked { whole(UNPACKED)? } else { packed.clone() };
        (manifest.format == FORMAT).then_some(Self { kernel, packed, initramfs, manifest })
    }

    fn make(store: &Store, arch: Arch, agent: &[u8], kernel: &Kernel) -> Result<Self, ImageError> {
        let staging = store.stage()?;
        let files = files(agent, kernel)?;
        for (name, bytes) in &files {
            put(&staging.path().join(name), bytes)?;
        }
        let manifest = describe(arch, kernel, &files);
        write_json(&staging.path().join(MANIFEST), &manifest)?;
        let name = &manifest.digest[..16];
        let dir = store.dir(Part::Kits)?.join(name);
        // The same kit may be there, and in use: it stays as it is.
        if Self::open(&dir).is_none() {
            staging.publish(&dir)?;
        }
        point(store, arch, name, agent, kernel)?;
        let lost = || at(&dir)(std::io::ErrorKind::NotFound.into());
        Ok(Self::open(&dir).ok_or_else(lost)?)
    }
}

/// A kit's files by name.
fn files(agent: &[u8], kernel: &Kernel) -> Result<BTreeMap<&'static str, Vec<u8>>, ImageError> {
    let packed = std::fs::read(kernel.vmlinuz()).map_err(at(&kernel.vmlinuz()))?;
    let unpacked = vmlinux::unpack(&packed).map(|kernel| (UNPACKED, kernel));
    let initramfs = initramfs(agent, &kernel.modules()?);
    Ok(unpacked.into_iter().chain([(PACKED, packed), (INITRAMFS, initramfs)]).collect())
}

fn pointer_file(store: &Store, arch: Arch) -> Option<PathBuf> {
    Some(store.dir(Part::Kits).ok()?.join(format!("current-{arch}.json")))
}

fn point(
    store: &Store,
    arch: Arch,
    kit: &str,
    agent: &[u8],
    kernel: &Kernel,
) -> Result<(), ImageError> {
    let path = store.dir(Part::Kits)?.join(format!("current-{arch}.json"));
    let kernel_version = kernel.facts.version.clone();
    let (kit, agent) = (kit.to_owned(), digest_of(agent));
    Ok(write_json(&path, &Pointer { format: FORMAT, kit, kernel_version, agent })?)
}

fn describe(arch: Arch, kernel: &Kernel, files: &BTreeMap<&str, Vec<u8>>) -> KitManifest {
    let facts = |bytes: &Vec<u8>| FileFacts { size: bytes.len() as u64, blake3: digest_of(bytes) };
    let files: BTreeMap<String, FileFacts> =
        files.iter().map(|(name, bytes)| ((*name).to_owned(), facts(bytes))).collect();
    let all: String = files.values().map(|file| file.blake3.as_str()).collect();
    KitManifest {
        format: FORMAT,
        arch,
        kernel_package: kernel.facts.package.clone(),
        kernel_version: kernel.facts.version.clone(),
        kernel_release: kernel.facts.release.clone(),
        modules: kernel.facts.modules.clone(),
        files,
        digest: digest_of(all.as_bytes()),
    }
}

fn initramfs(agent: &[u8], modules: &[Module]) -> Vec<u8> {
    let mut archive = Archive::default();
    for dir in ["dev", "proc", "sys", "new", "lib", "lib/modules"] {
        archive.directory(dir);
    }
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, agent);
    let mut list = String::new();
    for (i, module) in modules.iter().enumerate() {
        let path = format!("lib/modules/{i:02}-{}.ko", module.name);
        archive.file(&path, 0o644, &module.bytes);
        let _ = writeln!(list, "/{path}");
    }
    archive.file("modules", 0o644, list.as_bytes());
    archive.finish()
}

fn digest_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    Ok(std::fs::write(path, bytes).map_err(at(path))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lampyr_types::NoProgress;

    /// A store that keeps a kernel, as if it had been downloaded.
    fn store_with_kernel() -> (tempfile::TempDir, Store) {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(&tmp.path().join("home")).unwrap();
        let dir = store.dir(Part::Kits).unwrap().join("kernel-x86_64");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("vmlinuz"), "kernel").unwrap();
        std::fs::write(dir.join("virtio.ko"), "module").unwrap();
        let wanted = Arch::X86_64.facts().modules;
        let facts = serde_json::json!({"format": 1, "package": "linux-image-6", "version": "6-1",
            "release": "6", "wanted": wanted, "modules": ["virtio"]});
        write_json(&dir.join("kernel.json"), &facts).unwrap();
        (tmp, store)
    }

    fn ensure(store: &Store, agent: &[u8]) -> Kit {
        Kit::ensure(store, Arch::X86_64, agent, &NoProgress).unwrap()
    }

    #[test]
    fn a_new_agent_makes_a_new_kit_from_the_kept_kernel() {
        let (_tmp, store) = store_with_kernel();
        assert!(Kit::current(&store, Arch::X86_64, b"one").is_none());
        let one = ensure(&store, b"one");
        let again = Kit::current(&store, Arch::X86_64, b"one").unwrap();
        assert_eq!(one.manifest, again.manifest);
        assert!(Kit::current(&store, Arch::X86_64, b"two").is_none());
        let two = ensure(&store, b"two");
        assert_ne!(one.manifest.digest, two.manifest.digest);
        assert_eq!(ensure(&store, b"one").initramfs, one.initramfs);
    }

    #[test]
    fn a_kit_that_lost_a_file_is_made_anew() {
        let (_tmp, store) = store_with_kernel();
        std::fs::write(ensure(&store, b"agent").initramfs, "cut").unwrap();
        assert!(Kit::current(&store, Arch::X86_64, b"agent").is_none());
        let kit = ensure(&store, b"agent");
        let archive = std::fs::read(&kit.initramfs).unwrap();
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("/lib/modules/00-virtio.ko\n"));
    }
}
