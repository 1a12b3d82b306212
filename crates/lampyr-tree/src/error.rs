use std::io;
use std::path::{Path, PathBuf};

/// Why a tree could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// There is nothing at the path that should be packed.
    #[error("{path} not found")]
    NotFound {
        /// The path in question.
        path: PathBuf,
    },
    /// The path names a socket, a pipe or a device.
    #[error("{path} is neither a file nor a directory")]
    Unsupported {
        /// The path in question.
        path: PathBuf,
    },
    /// A path that is longer or deeper than an archive may hold.
    #[error("{path} lies too deep: no more than 256 levels and 4096 bytes can be copied")]
    TooDeep {
        /// The path in question.
        path: PathBuf,
    },
    /// A file lost its end while it was being packed.
    #[error("{path} got shorter while it was being copied")]
    Changed {
        /// The file in question.
        path: PathBuf,
    },
    /// A file that says no length, and goes on and on.
    #[error("{path} does not say how long it is, and holds more than {limit} bytes")]
    Endless {
        /// The file in question.
        path: PathBuf,
        /// How much would have been read, in bytes.
        limit: u64,
    },
    /// Something at the destination that is not replaced: a directory or a
    /// device where a file should go, or no directory where one should go.
    #[error("{path} is in the way: {what}")]
    Conflict {
        /// The path at the destination.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        what: &'static str,
    },
    /// An entry that no honest archive holds.
    #[error("refused the archive's entry '{}': {what}", name.escape_ascii())]
    Hostile {
        /// What is wrong with the entry, as a sentence.
        what: &'static str,
        /// The name of the entry, as it came.
        name: Vec<u8>,
    },
    /// Bytes that do not read as an archive.
    #[error("the archive is damaged: {what}")]
    Damaged {
        /// What is wrong with it, as a sentence.
        what: &'static str,
    },
    /// The archive broke off before its end.
    #[error("the archive broke off before its end")]
    Truncated,
    /// The archive holds more than the caller allows.
    #[error("the archive holds more than {limit} {unit}")]
    TooLarge {
        /// How much is allowed.
        limit: u64,
        /// What is counted: `bytes` or `entries`.
        unit: &'static str,
    },
    /// The system refused an operation on a path.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The path in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stream that carries the archive failed.
    #[error("the stream failed: {0}")]
    Stream(#[source] io::Error),
}

/// Attaches `path` to an I/O error: `.map_err(at(&path))`.
pub(crate) fn at<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> TreeError {
    move |source| TreeError::Io { path: path.to_owned(), source: source.into() }
}

/// An error of the incoming stream; its end before its time has its own name.
pub(crate) fn incoming(error: io::Error) -> TreeError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TreeError::Truncated,
        _ => TreeError::Stream(error),
    }
}

pub(crate) fn hostile(what: &'static str, name: &[u8]) -> TreeError {
    TreeError::Hostile { what, name: name.to_owned() }
}

pub(crate) fn damaged(what: &'static str) -> TreeError {
    TreeError::Damaged { what }
}
