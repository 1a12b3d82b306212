use std::fs::File;
use std::io;

/// Makes `len` bytes from `offset` on zeros.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    super::write_zeros(file, offset, len)
}
