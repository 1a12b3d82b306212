//! The contents of files, on their way to the disk.

use crate::extent::{self, Extent};
use crate::tree::Builder;
use crate::{BLOCK, Ext4Error, MOST_BLOCKS};

/// Holes are looked for at both ends of stretches of this many bytes, so that a
/// file has no more extents than can be remembered.
const CHUNK: usize = 1 << 16;

/// The contents of a file, which a [`Builder`] has on its disk.
#[derive(Debug, Default)]
pub struct Content {
    pub(crate) size: u64,
    pub(crate) extents: Vec<Extent>,
    /// What has not filled a chunk yet.
    rest: Vec<u8>,
}

impl Builder {
    /// Adds bytes to the end of contents.
    pub fn append(&mut self, content: &mut Content, mut bytes: &[u8]) -> Result<(), Ext4Error> {
        while !bytes.is_empty() {
            let whole = content.rest.is_empty() && bytes.len() >= CHUNK;
            let (piece, behind) = bytes.split_at(bytes.len().min(CHUNK - content.rest.len()));
            bytes = behind;
            if whole {
                self.chunk(content, piece)?;
                continue;
            }
            content.rest.extend_from_slice(piece);
            if content.rest.len() == CHUNK {
                self.flush(content)?;
            }
        }
        Ok(())
    }

    /// Adds zeros to the end of contents.
    pub fn append_zeros(&mut self, content: &mut Content, len: u64) -> Result<(), Ext4Error> {
        let zeros = vec![0; CHUNK];
        let fill = (CHUNK - content.rest.len()) as u64 % CHUNK as u64;
        let fill = fill.min(len);
        self.append(content, &zeros[..fill as usize])?;
        let left = len - fill;
        if content.rest.is_empty() {
            content.size = content.size.saturating_add(left - left % CHUNK as u64);
            if content.size > MOST_BLOCKS * BLOCK {
                return Err(Ext4Error::TooLarge);
            }
            self.append(content, &zeros[..(left % CHUNK as u64) as usize])?;
        }
        Ok(())
    }

    /// Writes what has not filled a chunk. Nothing can be added after that.
    pub(crate) fn flush(&mut self, content: &mut Content) -> Result<(), Ext4Error> {
        let rest = std::mem::take(&mut content.rest);
        let done = self.chunk(content, &rest);
        content.rest = rest;
        content.rest.clear();
        done
    }

    /// Writes the next chunk of a file, and what fills its last block.
    fn chunk(&mut self, content: &mut Content, bytes: &[u8]) -> Result<(), Ext4Error> {
        let (skipped, mut left) = trim(bytes);
        let mut logical = content.size / BLOCK + skipped;
        content.size += bytes.len() as u64;
        while !left.is_empty() {
            let run = self.space.take((left.len() as u64).div_ceil(BLOCK))?;
            let len = left.len().min((run.len * BLOCK) as usize);
            let (piece, behind) = left.split_at(len);
            self.disk.write(run.start, piece)?;
            if !(len as u64).is_multiple_of(BLOCK) {
                let fill = BLOCK - len as u64 % BLOCK;
                let zeros = [0; BLOCK as usize];
                self.disk.write_at(run.start * BLOCK + len as u64, &zeros[..fill as usize])?;
            }
            extent::push(&mut content.extents, logical, run);
            logical += run.len;
            left = behind;
        }
        Ok(())
    }
}

/// Leaves out blocks of zeros at both ends, and says how many at the first.
fn trim(bytes: &[u8]) -> (u64, &[u8]) {
    let holds = |block: &[u8]| block.iter().any(|&byte| byte != 0);
    let mut blocks = bytes.chunks(BLOCK as usize);
    let Some(first) = blocks.position(holds) else { return (0, &[]) };
    let last = first + 1 + blocks.rposition(holds).map_or(0, |behind| behind + 1);
    let end = bytes.len().min(last * BLOCK as usize);
    (first as u64, bytes.get(first * BLOCK as usize..end).unwrap_or_default())
}
