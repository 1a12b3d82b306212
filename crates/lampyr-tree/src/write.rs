//! Writes the blocks of an archive.

use std::io::{BufWriter, Write};

use tar::{EntryType, Header};

use crate::entry::{BLOCK, Entry, Kind, padding};
use crate::error::TreeError;
use crate::extent::{self, Extent};
use crate::record::Record;

/// An archive that is being written.
#[derive(Debug)]
pub(crate) struct Writer<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, out) }
    }

    /// Writes everything of `entry` but a file's contents: those follow, the
    /// bytes of its extents through [`Self::data`], then [`Self::pad`].
    pub(crate) fn entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let map = map_of(&entry.kind);
        let record = record_of(entry).encode();
        self.header(EntryType::XHeader, b"pax", 0o644, 0, record.len() as u64)?;
        self.data(&record)?;
        self.pad(record.len() as u64)?;
        let (kind, len) = match &entry.kind {
            Kind::Directory => (EntryType::Directory, 0),
            Kind::Symlink(_) => (EntryType::Symlink, 0),
            Kind::File { data, .. } => (EntryType::Regular, stored(data) + map.len() as u64),
        };
        let sec = entry.stamp.time.sec.max(0).unsigned_abs();
        self.header(kind, &entry.name, entry.stamp.bits(), sec, len)?;
        self.data(&map)
    }

    fn header(
        &mut self,
        kind: EntryType,
        name: &[u8],
        mode: u32,
        sec: u64,
        len: u64,
    ) -> Result<(), TreeError> {
        let mut header = Header::new_ustar();
        let shown = &name[..name.len().min(100)];
        header.as_old_mut().name[..shown.len()].copy_from_slice(shown);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(sec);
        header.set_size(len);
        header.set_cksum();
        self.data(header.as_bytes())
    }

    /// Writes a piece of a file's contents.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.out.write_all(bytes).map_err(TreeError::Stream)
    }

    /// Fills contents of `len` bytes up to a whole block.
    pub(crate) fn pad(&mut self, len: u64) -> Result<(), TreeError> {
        self.data(&[0; BLOCK as usize][..padding(len)])
    }

    /// Closes the archive and hands everything on.
    pub(crate) fn finish(mut self) -> Result<(), TreeError> {
        self.data(&[0; 2 * BLOCK as usize])?;
        self.out.flush().map_err(TreeError::Stream)
    }
}

/// How many bytes of data there are in `extents`.
pub(crate) fn stored(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.len).sum()
}

fn record_of(entry: &Entry) -> Record {
    let link = match &entry.kind {
        Kind::Symlink(link) => Some(link.clone()),
        _ => None,
    };
    let sparse = match &entry.kind {
        Kind::File { size, data } if *data != extent::whole(*size) => Some(*size),
        _ => None,
    };
    Record { path: Some(entry.name.clone()), link, time: Some(entry.stamp.time), sparse }
}

/// The map in front of a file with holes, filled up to a whole block; nothing
/// for anything else. As in GNU's format, an empty extent marks the end.
fn map_of(kind: &Kind) -> Vec<u8> {
    let Kind::File { size, data } = kind else { return Vec::new() };
    if *data == extent::whole(*size) {
        return Vec::new();
    }
    let mut map = format!("{}\n", data.len() + 1).into_bytes();
    for Extent { start, len } in data.iter().chain(&[Extent { start: *size, len: 0 }]) {
        map.extend_from_slice(format!("{start}\n{len}\n").as_bytes());
    }
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}
