use std::io;

/// Why a file system could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// The file that holds it could not be used.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file or all of them need more room than there can be.
    #[error("it does not fit a disk of 1 TiB")]
    TooLarge,
    /// More files than the file system can count.
    #[error("it has more files than a disk can hold")]
    TooManyFiles,
    /// A file has more names than ext4 can count.
    #[error("a file has more than 65000 names")]
    TooManyLinks,
    /// A name is longer than 255 bytes, empty, or has a slash or a zero in it.
    #[error("a name is not fit for a file")]
    BadName,
    /// A symbolic link is empty or longer than 4095 bytes.
    #[error("a symbolic link leads to a name that is too long")]
    BadSymlink,
    /// More extended attributes than fit a block.
    #[error("a file has more extended attributes than ext4 can keep")]
    TooManyAttributes,
    /// What should be a directory is none.
    #[error("a file stands where a directory should be")]
    NotADirectory,
}
