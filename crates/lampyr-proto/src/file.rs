//! What is asked of a guest's files, and what it says of them.

use minicbor::{Decode, Encode};

/// Something to do with files. Its process exits with 0, or with the number of
/// the guest's error and a sentence on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FileJob {
    /// Writes the bytes of this file to standard output.
    #[n(0)]
    Read(#[n(0)] String),
    /// Makes a file of what comes on standard input. It has its name once it is
    /// whole; until then what had the name before stays.
    #[n(1)]
    Write(#[n(0)] FileWrite),
    /// Writes the [`FileFacts`] of this path to standard output.
    #[n(2)]
    Stat(#[n(0)] FileStat),
    /// Writes the [`FileFacts`] of all that is in this directory, in the order
    /// of their names.
    #[n(3)]
    List(#[n(0)] String),
    /// Gives the first path the name of the second; what had it is replaced.
    #[n(4)]
    Move(#[n(0)] String, #[n(1)] String),
    /// Makes this directory.
    #[n(5)]
    Mkdir(#[n(0)] FileMkdir),
    /// Removes this path, or with `true` all that is in it, too.
    #[n(6)]
    Remove(#[n(0)] String, #[n(1)] bool),
    /// Packs what is in this directory as a tar archive to standard output.
    #[n(7)]
    Pack(#[n(0)] String),
    /// Unpacks the tar archive that comes on standard input into this
    /// directory, which is made where it is missing.
    #[n(8)]
    Unpack(#[n(0)] String),
}

impl FileJob {
    /// What it changes, in a line; `None` where it only looks.
    pub fn changes(&self) -> Option<String> {
        match self {
            Self::Read(_) | Self::Stat(_) | Self::List(_) | Self::Pack(_) => None,
            Self::Write(file) => Some(format!("write {}", file.path)),
            Self::Move(from, to) => Some(format!("move {from} to {to}")),
            Self::Mkdir(dir) => Some(format!("make {}", dir.path)),
            Self::Remove(path, _) => Some(format!("remove {path}")),
            Self::Unpack(path) => Some(format!("unpack to {path}")),
        }
    }
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileWrite {
    /// Where, absolute. Where a link has the name, the file it leads to.
    #[n(0)]
    pub path: String,
    /// Its permissions; those of the file that had the name, or 0644.
    #[n(1)]
    pub mode: Option<u32>,
    /// Directories that are missing are made.
    #[n(2)]
    pub parents: bool,
}

/// A path to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileStat {
    /// Which, absolute.
    #[n(0)]
    pub path: String,
    /// Where it is a link, what it leads to is looked at.
    #[n(1)]
    pub follow: bool,
}

/// A directory to be made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileMkdir {
    /// Where, absolute.
    #[n(0)]
    pub path: String,
    /// Those it lies in are made, too, and one that is there is no error.
    #[n(1)]
    pub parents: bool,
    /// Its permissions, or 0755.
    #[n(2)]
    pub mode: Option<u32>,
}

/// What kind of thing has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FileKind {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link.
    #[n(2)]
    Symlink,
    /// A device, a pipe or a socket.
    #[n(3)]
    Other,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileFacts {
    /// The last part of its path.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// What it is.
    #[n(1)]
    pub kind: FileKind,
    /// How long it is, in bytes.
    #[n(2)]
    pub size: u64,
    /// Its permissions.
    #[n(3)]
    pub mode: u32,
    /// Who owns it.
    #[n(4)]
    pub uid: u32,
    /// Which group owns it.
    #[n(5)]
    pub gid: u32,
    /// When it was last changed, in milliseconds since 1970.
    #[n(6)]
    pub modified_ms: i64,
    /// Where it leads, if it is a link.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub target: Option<Vec<u8>>,
}

/// Reads facts that follow each other without anything between.
pub fn decode_facts(bytes: &[u8]) -> Result<Vec<FileFacts>, crate::WireError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let mut all = Vec::new();
    while decoder.position() < bytes.len() {
        let facts = decoder.decode();
        all.push(facts.map_err(|e| crate::WireError::Message(e.to_string()))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_message;
    use proptest::prelude::*;

    fn facts(name: &[u8], target: Option<Vec<u8>>) -> FileFacts {
        let (size, mode, uid, gid, modified_ms) = (5, 0o644, 0, 7, -3);
        let name = name.to_vec();
        FileFacts { name, kind: FileKind::Symlink, size, mode, uid, gid, modified_ms, target }
    }

    #[test]
    fn facts_in_a_row_are_read_again() {
        let all = vec![facts(b"a", None), facts(b"\xff", Some(b"/x".to_vec()))];
        let bytes: Vec<u8> = all.iter().flat_map(encode_message).collect();
        assert_eq!(decode_facts(&bytes), Ok(all));
        assert!(decode_facts(&bytes[..bytes.len() - 1]).is_err());
        assert_eq!(decode_facts(b""), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = decode_facts(&bytes);
        }
    }
}
