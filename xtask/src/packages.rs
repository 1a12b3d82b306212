//! The system packages that a task needs, installed through apt.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::{bounded, find, run, say};
use crate::failure::{Failure, Result};

/// How long apt may take, on the slowest mirror.
const LIMIT: Duration = Duration::from_mins(15);

/// A Debian package and the file or program that shows that it is there.
pub(crate) struct Package {
    name: &'static str,
    shown_by: &'static str,
}

/// What building an image takes.
pub(crate) const IMAGE: &[Package] = &[
    Package { name: "mmdebstrap", shown_by: "mmdebstrap" },
    Package { name: "fakeroot", shown_by: "fakeroot" },
    Package { name: "e2fsprogs", shown_by: "mkfs.ext4" },
    Package { name: "debian-archive-keyring", shown_by: crate::apt::KEYRING },
];

/// What the end-to-end tests use besides lampyr.
pub(crate) const TEST: &[Package] = &[
    Package { name: "libfaketime", shown_by: "/usr/share/doc/libfaketime" },
    Package { name: "iproute2", shown_by: "ip" },
    Package { name: "tmux", shown_by: "tmux" },
];

/// What the tests of images talk to and compare with.
pub(crate) const REGISTRY: &[Package] = &[
    Package { name: "docker-registry", shown_by: "docker-registry" },
    Package { name: "skopeo", shown_by: "skopeo" },
    Package { name: "umoci", shown_by: "umoci" },
    Package { name: "buildah", shown_by: "buildah" },
    Package { name: "uidmap", shown_by: "newuidmap" },
    Package { name: "apache2-utils", shown_by: "htpasswd" },
    Package { name: "npm", shown_by: "npm" },
    Package { name: "openssl", shown_by: "openssl" },
    Package { name: "busybox-static", shown_by: "busybox" },
];

/// What building libFuzzer takes.
pub(crate) const FUZZ: &[Package] = &[Package { name: "g++", shown_by: "c++" }];

/// The system's own QEMU, for when lampyr finds no better one.
pub(crate) const QEMU: &[Package] = &[qemu()];

const fn qemu() -> Package {
    if cfg!(target_arch = "aarch64") {
        Package { name: "qemu-system-arm", shown_by: "qemu-system-aarch64" }
    } else {
        Package { name: "qemu-system-x86", shown_by: "qemu-system-x86_64" }
    }
}

impl Package {
    pub(crate) fn is_there(&self) -> bool {
        let absolute = self.shown_by.starts_with('/');
        if absolute { Path::new(self.shown_by).exists() } else { find(self.shown_by).is_some() }
    }
}

/// Installs those of the packages that are missing, and says which.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        return Err(by_hand(&missing));
    }
    say(&format!("Installing system packages: {}", missing.join(" ")));
    run(apt_get(&missing)?.arg("update"))?;
    run(apt_get(&missing)?.args(["install", "--no-install-recommends"]).args(&missing))
}

/// apt-get as root, asking nothing.
fn apt_get(missing: &[&str]) -> Result<Command> {
    let mut command = match (is_root(), find("sudo")) {
        (true, _) => bounded(LIMIT, "env"),
        (false, Some(sudo)) => {
            let mut command = bounded(LIMIT, sudo);
            command.arg("env");
            command
        }
        (false, None) => return Err(by_hand(missing)),
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]);
    Ok(command)
}

fn by_hand(missing: &[&str]) -> Failure {
    Failure::new(format!(
        "these programs are missing and only apt with root's rights could install them here; \
         install them by hand (the names are Debian's): {}",
        missing.join(" ")
    ))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
