//! Images as registries hold them, and how they become root disks.
//!
//! - [`Reference`]: what an image is called, by Docker's rules.
//! - [`Registry`]: one registry, spoken to with whatever it wants to know.
//! - [`Blobs`]: manifests, configurations and layers, by digest, each once.
//! - [`pull`]: from a reference to blobs; everything is verified before use.
//! - [`push`]: from blobs into a registry.
//! - [`Artifact`]: what registries hold that is no image.
//! - [`bundle`]: images in files.
//! - [`check`]: whether a registry can be reached, and knows us.
//! - [`changes`]: what a VM made of an image, as a layer.
//! - [`Tree`]: layers, one over the other, on their way to a disk.
//!
//! Whatever a registry says is hostile: sizes, names, digests, archives. No
//! file of a layer is ever made on this host; a layer is read as a stream and
//! becomes blocks of one disk.

mod archive;
mod artifact;
mod auth;
mod blobs;
pub mod bundle;
mod changes;
mod check;
mod credentials;
mod digest;
mod error;
mod keeper;
mod layer;
mod manifest;
mod packed;
mod pax;
mod pull;
mod push;
mod reference;
mod registry;
mod sparse;
mod transfer;
mod tree;

pub use artifact::{Artifact, Offer, Part, SNAPSHOT, Shelf};
pub use blobs::Blobs;
pub use changes::changes;
pub use check::{Reached, check};
pub use credentials::Credentials;
pub use digest::{Digest, Digester};
pub use error::{LayerError, OciError};
pub use manifest::{Config, Image, Layer, Platform};
pub use packed::{most_packed, pack, unpack};
pub use pull::pull;
pub use push::push;
pub use reference::Reference;
pub use registry::{Access, Registry, Settings};
pub use tree::{Limits, Tree};
