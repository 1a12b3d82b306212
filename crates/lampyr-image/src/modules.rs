//! Which kernel modules to load, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lampyr_store::at;

use crate::{ImageError, child};

/// The modules of one kernel: `lib/modules/<release>` of its package.
#[derive(Debug)]
pub(crate) struct Tree {
    package: String,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A module, ready to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Tree {
    /// Reads which modules lie under `dir`, unpacked from `package`.
    pub(crate) fn read(dir: &Path, package: &str) -> Result<Self, ImageError> {
        let list = dir.join("modules.builtin");
        let builtin = std::fs::read_to_string(&list).map_err(at(&list))?;
        let builtin = builtin.lines().filter_map(|line| name_of(Path::new(line)));
        let mut files = BTreeMap::new();
        collect(&dir.join("kernel"), &mut files)?;
        Ok(Self { package: package.to_owned(), files, builtin: builtin.collect() })
    }

    /// The `wanted` modules and all that they need, each after what it needs.
    /// What is built into the kernel is left out.
    pub(crate) fn load_order(&self, wanted: &[&str]) -> Result<Vec<Module>, ImageError> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(name, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<Module>) -> Result<(), ImageError> {
        if self.builtin.contains(name) || order.iter().any(|m| m.name == name) {
            return Ok(());
        }
        let bytes = read(self.files.get(name).ok_or_else(|| self.lacks(name))?)?;
        for needed in needs(&bytes).ok_or_else(|| self.lacks(name))? {
            self.visit(&needed, order)?;
        }
        order.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }

    fn lacks(&self, name: &str) -> ImageError {
        let what = format!("a readable kernel module {name}");
        ImageError::BadPackage { package: self.package.clone(), what }
    }
}

/// The module's name, in the spelling that dependencies use.
fn name_of(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ImageError> {
    for entry in std::fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        let path = entry.path();
        if entry.file_type().map_err(at(&path))?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// Reads a module; newer Debian releases compress them.
fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    if path.extension().is_some_and(|e| e == "xz") {
        child::need("unpacking kernel modules", &[("xz", "xz-utils")])?;
        return child::run(child::command("xz").args(["--decompress", "--stdout"]).arg(path));
    }
    Ok(std::fs::read(path).map_err(at(path))?)
}

/// What a module says it needs. Every module says so, in a string that the
/// kernel's build puts between zero bytes; the rest of the file is its code.
fn needs(module: &[u8]) -> Option<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    let start = module.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
    let value = module[start..].split(|&b| b == 0).next()?;
    let names = std::str::from_utf8(value).ok()?.split(',').filter(|name| !name.is_empty());
    Some(names.map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(modules: &[(&str, &str)], builtin: &str) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let drivers = dir.path().join("kernel/drivers");
        std::fs::create_dir_all(&drivers).unwrap();
        for (name, depends) in modules {
            let text = format!("ELF\0license=GPL\0depends={depends}\0name=x\0");
            std::fs::write(drivers.join(format!("{name}.ko")), text).unwrap();
        }
        std::fs::write(dir.path().join("modules.builtin"), builtin).unwrap();
        let tree = Tree::read(dir.path(), "linux-image-x").unwrap();
        (dir, tree)
    }

    fn order(tree: &Tree, wanted: &[&str]) -> Vec<String> {
        tree.load_order(wanted).unwrap().into_iter().map(|m| m.name).collect()
    }

    #[test]
    fn a_module_comes_once_and_after_what_it_needs() {
        let modules = [
            ("virtio_console", "virtio,virtio_ring"),
            ("virtio-mmio", "virtio-ring,virtio"),
            ("virtio", ""),
            ("virtio_ring", ""),
            ("unused", ""),
        ];
        let (_dir, tree) = tree(&modules, "kernel/fs/ext4/ext4.ko\n");
        assert_eq!(
            order(&tree, &["virtio_mmio", "ext4", "virtio_console"]),
            ["virtio_ring", "virtio", "virtio_mmio", "virtio_console"]
        );
    }

    #[test]
    fn a_module_that_is_nowhere_is_an_error_that_names_it() {
        let (_dir, tree) = tree(&[("a", "b")], "");
        let error = tree.load_order(&["a"]).unwrap_err().to_string();
        assert_eq!(error, "the package linux-image-x does not hold a readable kernel module b");
    }
}
