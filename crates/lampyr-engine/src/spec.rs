//! What a machine is made of.

use std::fmt;
use std::fs::File;
use std::str::FromStr;

/// The shape of a machine: what a saved one must agree on with a restored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MachineSpec {
    /// Virtual processors, at least one.
    pub cpus: u32,
    /// Memory in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// Whether it has a network card.
    pub network: bool,
}

/// What a machine boots from. All of it is open files.
#[derive(Debug)]
pub struct BootImage {
    /// The kernel.
    pub kernel: File,
    /// The initramfs that holds the agent.
    pub initramfs: File,
    /// Where the guest's memory lives, if the machine is to be saved.
    pub memory: Option<File>,
    /// The root disk, lowest layer first (raw, then copy-on-write layers);
    /// only the last is written. Empty: a machine without a disk.
    pub disks: Vec<File>,
}

/// What a saved machine is: its memory file and its device state.
#[derive(Debug)]
pub struct MachineImage {
    /// The guest's memory, mapped privately: never written.
    pub memory: File,
    /// The state of the devices, as [`crate::Machine::save`] gave it.
    pub devices: Vec<u8>,
}

/// What a machine is restored from.
#[derive(Debug)]
pub struct Restore {
    /// The saved machine.
    pub image: MachineImage,
    /// Pages that go over its memory before it runs.
    pub pages: Option<crate::Pages>,
    /// The disks as in [`BootImage::disks`], with one more layer on top.
    pub disks: Vec<File>,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accel {
    /// Linux's hardware virtualization.
    Kvm,
    /// macOS's hardware virtualization.
    Hvf,
    /// Software emulation: works everywhere.
    Tcg,
}

impl Accel {
    /// The word for it on every surface.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Accel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Kvm, Self::Hvf, Self::Tcg].into_iter().find(|a| a.word() == text).ok_or(())
    }
}
