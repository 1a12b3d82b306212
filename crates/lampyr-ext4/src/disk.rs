//! The file that becomes the disk. Small pieces that follow each other are
//! written together.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::BLOCK;
use crate::sys;

/// How much is gathered before it is written.
const GATHERED: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    /// Where the gathered bytes belong.
    start: u64,
    gathered: Vec<u8>,
}

impl Disk {
    pub(crate) fn new(file: File) -> Self {
        Self { file, start: 0, gathered: Vec::with_capacity(GATHERED) }
    }

    /// Writes bytes from the beginning of a block on.
    pub(crate) fn write(&mut self, block: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(block * BLOCK, bytes)
    }

    /// Writes bytes at an offset.
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let follows = offset == self.start + self.gathered.len() as u64;
        if !follows || self.gathered.len() + bytes.len() > GATHERED {
            self.flush()?;
            self.start = offset;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.gathered, self.start)?;
        self.gathered.clear();
        Ok(())
    }

    /// Makes blocks that were written zeros again, and gives their room back
    /// where the host can do that.
    pub(crate) fn clear(&mut self, block: u64, count: u64) -> io::Result<()> {
        self.flush()?;
        self.start = u64::MAX;
        sys::punch(&self.file, block * BLOCK, count * BLOCK)
    }

    /// Writes what is left and gives the file its length.
    pub(crate) fn end(mut self, blocks: u64) -> io::Result<()> {
        self.flush()?;
        self.file.set_len(blocks * BLOCK)
    }
}
