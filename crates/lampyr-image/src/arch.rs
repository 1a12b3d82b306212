//! Everything that differs between processor architectures, in one table.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A processor architecture that guests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit Intel and AMD.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// What there is to know about one architecture.
pub(crate) struct Facts {
    /// Its name, as the kernel and QEMU spell it.
    pub(crate) name: &'static str,
    /// Its name in Debian's archive.
    pub(crate) debian: &'static str,
    /// The directory of its libraries.
    pub(crate) triplet: &'static str,
    /// The package that depends on the newest kernel for virtual machines.
    pub(crate) kernel_package: &'static str,
    /// How the kernel's file in `/boot` begins.
    pub(crate) kernel_prefix: &'static str,
    /// The kernel modules that a guest needs, where they are not built in.
    pub(crate) modules: &'static [&'static str],
    /// The package of the QEMU that emulates it.
    pub(crate) qemu_package: &'static str,
    /// The program in that package.
    pub(crate) qemu_program: &'static str,
}

const MODULES: &[&str] =
    &["virtio_mmio", "virtio_console", "virtio_blk", "virtio_net", "tcp_diag", "ext4", "fuse"];

const X86_64: Facts = Facts {
    name: "x86_64",
    debian: "amd64",
    triplet: "x86_64-linux-gnu",
    kernel_package: "linux-image-cloud-amd64",
    kernel_prefix: "vmlinuz-",
    modules: MODULES,
    qemu_package: "qemu-system-x86",
    qemu_program: "qemu-system-x86_64",
};

const AARCH64: Facts = Facts {
    name: "aarch64",
    debian: "arm64",
    triplet: "aarch64-linux-gnu",
    kernel_package: "linux-image-cloud-arm64",
    kernel_prefix: "vmlinuz-",
    modules: MODULES,
    qemu_package: "qemu-system-arm",
    qemu_program: "qemu-system-aarch64",
};

impl Arch {
    /// The architecture of this host.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// The name of the QEMU program that emulates this architecture.
    pub fn qemu_program(self) -> &'static str {
        self.facts().qemu_program
    }

    pub(crate) fn facts(self) -> &'static Facts {
        match self {
            Self::X86_64 => &X86_64,
            Self::Aarch64 => &AARCH64,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}
