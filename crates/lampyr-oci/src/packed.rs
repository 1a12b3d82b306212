//! Large files with holes, packed with zstd for the way.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;

use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use crate::layer::ZSTD_WINDOW;
use crate::{Digest, Digester};

/// What packs well enough and is quick.
const LEVEL: i32 = 3;
/// What is unpacked at once; of that which is all zero, nothing is written.
const PIECE: usize = 64 << 10;

/// Packs a file; returns the digest and the length of what it becomes.
pub fn pack(mut from: &File, to: &File) -> io::Result<(Digest, u64)> {
    let counted = Counted { to, digester: Digester::default(), size: 0 };
    let mut encoder = Encoder::new(counted, LEVEL)?;
    // A reader sees a frame that was cut off.
    encoder.include_checksum(true)?;
    io::copy(&mut from, &mut encoder)?;
    let Counted { digester, size, .. } = encoder.finish()?;
    Ok((digester.finish(), size))
}

/// The most bytes that `size` bytes can be packed to by an honest hand.
pub fn most_packed(size: u64) -> u64 {
    size.saturating_add(size >> 7).saturating_add(1 << 16)
}

/// Unpacks into an empty file, with holes where there are zeros; returns the
/// digest and the length of what came out.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] where it is damaged, or unpacks to more than
/// `most` bytes.
pub fn unpack(packed: &File, to: &File, most: u64) -> io::Result<(Digest, u64)> {
    let mut decoder = Decoder::new(BufReader::with_capacity(1 << 18, packed)).map_err(damaged)?;
    decoder.window_log_max(ZSTD_WINDOW)?;
    let (mut digester, mut size, mut piece) = (Digester::default(), 0, vec![0; PIECE]);
    loop {
        let bytes = match fill(&mut decoder, &mut piece).map_err(damaged)? {
            0 => break,
            len => &piece[..len],
        };
        if bytes.len() as u64 > most - size {
            return Err(damaged("it unpacks to more than it should"));
        }
        digester.update(bytes);
        if bytes.iter().any(|byte| *byte != 0) {
            to.write_all_at(bytes, size)?;
        }
        size += bytes.len() as u64;
    }
    to.set_len(size)?;
    Ok((digester.finish(), size))
}

/// Reads until the buffer is full, or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match from.read(&mut buffer[len..])? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What is written, digested and counted.
struct Counted<'a> {
    to: &'a File,
    digester: Digester,
    size: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.to.write(bytes)?;
        self.digester.update(&bytes[..len]);
        self.size += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;
    use std::os::unix::fs::MetadataExt;

    fn packed(bytes: &[u8]) -> File {
        let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(bytes).unwrap();
        from.rewind().unwrap();
        let (digest, size) = pack(&from, &to).unwrap();
        to.rewind().unwrap();
        let mut bytes = Vec::new();
        to.read_to_end(&mut bytes).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (digest, size));
        assert!(size <= most_packed(from.metadata().unwrap().len()));
        to.rewind().unwrap();
        to
    }

    #[test]
    fn files_come_back_with_their_holes() {
        let mut bytes = vec![0; 8 << 20];
        bytes[1 << 20] = 1;
        bytes.extend(b"end");
        let to = tempfile::tempfile().unwrap();
        let found = unpack(&packed(&bytes), &to, bytes.len() as u64).unwrap();
        assert_eq!(found, (Digest::of(&bytes), bytes.len() as u64));
        let mut again = vec![0; bytes.len()];
        to.read_exact_at(&mut again, 0).unwrap();
        assert!(again == bytes && to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn what_is_too_much_cut_off_or_not_packed_is_refused() {
        let refused = |packed: &File, most| {
            let error = unpack(packed, &tempfile::tempfile().unwrap(), most).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        };
        refused(&packed(&vec![0; 100_000]), 99_999);
        let cut = packed(b"something to pack");
        cut.set_len(cut.metadata().unwrap().len() - 1).unwrap();
        refused(&cut, 1 << 20);
        let mut plain = tempfile::tempfile().unwrap();
        plain.write_all(b"plain").unwrap();
        plain.rewind().unwrap();
        refused(&plain, 1 << 20);
    }
}
