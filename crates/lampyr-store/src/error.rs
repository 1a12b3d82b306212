use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused an operation on a path.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The path in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours that does not read as what it should be.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// The file in question.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The directory was made by a Lampyr with another layout.
    #[error("{path} says format '{found}', which this version of Lampyr does not know")]
    Format {
        /// The format file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

impl StoreError {
    /// Whether the disk, or this user's share of it, is full.
    pub fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// Attaches `path` to an I/O error: `.map_err(at(&path))`.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
