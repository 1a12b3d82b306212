//! Files and directory trees as a stream of bytes, and back.
//!
//! [`pack`] writes one file or one directory as a tar archive; [`unpack`]
//! puts such an archive on disk and trusts no byte of it: nothing that a
//! hostile archive says makes it touch anything outside its target.
//!
//! The archive is a strict dialect of pax, which any `tar` can read:
//!
//! - A tree begins with the directory `./`; then each directory comes right
//!   before what is in it, sorted by name. A single file is an archive of one
//!   regular file under its own name.
//! - There are directories, regular files and symbolic links; no other kind
//!   is written, and none is accepted. Further hard links become copies.
//! - Name, link target and modification time stand in a pax record before
//!   each entry. A file with holes is stored as GNU's sparse format 1.0.
//! - Two blocks of zeros close the archive, and nothing comes after them.

mod cursor;
mod direct;
mod entry;
mod error;
mod extent;
mod pack;
mod read;
mod record;
mod unpack;
mod write;

pub use error::TreeError;
pub use pack::{pack, pack_past_cache};
pub use unpack::{Limits, unpack, unpack_past_cache};

/// What was packed or unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regular files.
    pub files: u64,
    /// Directories, the tree's own among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// The sizes of all files in bytes, holes counted too.
    pub bytes: u64,
    /// Sockets, pipes and devices that were left out while packing.
    pub skipped: u64,
}
