//! What guests are made of, and how it comes onto this machine.
//!
//! - [`Kit`]: the kernel and the initramfs that every guest boots from.
//! - [`Image`]: a root disk.
//! - [`QemuBuild`]: a QEMU of our own, where the host's is old or missing.
//!
//! Images come from registries, by way of `lampyr-oci`. All the rest comes from
//! Debian's signed archive, fetched by the host's own apt in a private state:
//! the host's package lists, sources and packages are read, never changed. No
//! step needs root.
//!
//! Whatever is asked for at every launch ([`Kit::current`], [`Image::find`],
//! [`QemuBuild::list`]) reads a few small files and hashes nothing big.

mod arch;
mod base;
mod child;
mod cpio;
mod debian;
mod default;
mod error;
mod image;
mod image_ref;
mod kernel;
mod kit;
mod modules;
mod pulled;
mod qemu;
mod shared;
mod sources;
mod sys;
mod version;
mod vmlinux;

pub use arch::Arch;
pub use child::interrupted;
pub use default::DEFAULT_IMAGE;
pub use error::ImageError;
pub use image::{DISK, HeldImage, Image, NewImage, Origin};
pub use image_ref::{BadImageRef, ImageRef};
pub use kit::{FileFacts, Kit, KitManifest};
pub use pulled::Registries;
pub use qemu::{QemuBuild, fetch_from, fetch_newer};
