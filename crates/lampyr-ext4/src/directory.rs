//! Directories as blocks of entries.

use crate::BLOCK;

/// Kinds of file, as entries name them.
pub(crate) mod kind {
    pub(crate) const FILE: u8 = 1;
    pub(crate) const DIRECTORY: u8 = 2;
    pub(crate) const CHARACTER: u8 = 3;
    pub(crate) const BLOCK: u8 = 4;
    pub(crate) const FIFO: u8 = 5;
    pub(crate) const SYMLINK: u8 = 7;
}

/// The blocks of a directory, being filled with entries.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    bytes: Vec<u8>,
    /// Where the last entry begins.
    last: usize,
}

impl Blocks {
    pub(crate) fn push(&mut self, inode: u32, kind: u8, name: &[u8]) {
        let len = (8 + name.len()).next_multiple_of(4);
        let end = self.bytes.len().next_multiple_of(BLOCK as usize);
        if self.bytes.len() + len > end {
            self.stretch(end);
        }
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&inode.to_le_bytes());
        self.bytes.extend_from_slice(&(len as u16).to_le_bytes());
        self.bytes.extend_from_slice(&[name.len() as u8, kind]);
        self.bytes.extend_from_slice(name);
        self.bytes.resize(self.last + len, 0);
    }

    /// The last entry of a block reaches to its end.
    fn stretch(&mut self, end: usize) {
        if end > self.last && end > 0 {
            let len = ((end - self.last) as u16).to_le_bytes();
            self.bytes[self.last + 4..self.last + 6].copy_from_slice(&len);
        }
        self.bytes.resize(end, 0);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let end = self.bytes.len().next_multiple_of(BLOCK as usize);
        self.stretch(end);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader of directories finds in blocks.
    fn read(bytes: &[u8]) -> Vec<(u32, u8, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let number = |from: usize, len: usize| {
                bytes[at + from..at + from + len]
                    .iter()
                    .rev()
                    .fold(0, |n, b| n << 8 | u32::from(*b))
            };
            let (inode, len, name, kind) = (number(0, 4), number(4, 2), number(6, 1), number(7, 1));
            assert!(len % 4 == 0 && len >= 8 + name && at % 4096 + len as usize <= 4096);
            found.push((inode, kind as u8, bytes[at + 8..at + 8 + name as usize].to_vec()));
            at += len as usize;
        }
        found
    }

    proptest! {
        #[test]
        fn entries_are_read_as_they_were_written(
            names in proptest::collection::vec(proptest::collection::vec(1_u8.., 1..=255), 1..200)
        ) {
            let mut blocks = Blocks::default();
            let mut wanted = Vec::new();
            for (i, name) in names.into_iter().enumerate() {
                blocks.push(i as u32 + 1, kind::FILE, &name);
                wanted.push((i as u32 + 1, kind::FILE, name));
            }
            let bytes = blocks.finish();
            prop_assert_eq!(bytes.len() % 4096, 0);
            prop_assert_eq!(read(&bytes), wanted);
        }
    }
}
