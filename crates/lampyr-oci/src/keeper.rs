//! Bytes on their way into a blob whose digest nobody knows yet.

use std::io::Write;
use std::path::Path;

use lampyr_store::{StoreError, at};

use crate::{Blobs, Digest, Digester};

/// Bytes that become a blob. Dropping it forgets them.
pub(crate) struct Keeper {
    file: tempfile::NamedTempFile,
    digester: Digester,
    size: u64,
    blobs: Blobs,
}

impl Keeper {
    pub(crate) fn new(blobs: &Blobs, dir: &Path) -> Result<Self, StoreError> {
        let file = tempfile::Builder::new().prefix("new-").tempfile_in(dir).map_err(at(dir))?;
        Ok(Self { file, digester: Digester::default(), size: 0, blobs: blobs.clone() })
    }

    /// Keeps the bytes and returns their digest and how many there are.
    pub(crate) fn finish(self) -> Result<(Digest, u64), StoreError> {
        let (digest, size) = (self.digester.finish(), self.size);
        let path = self.blobs.path(digest)?;
        self.file.as_file().sync_all().map_err(at(&path))?;
        self.file.persist(&path).map_err(|e| at(&path)(e.error))?;
        Ok((digest, size))
    }
}

impl Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.digester.update(&bytes[..len]);
        self.size += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
