//! A layer as a stream: unpacked, measured, digested.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use flate2::bufread::MultiGzDecoder;
use lampyr_types::Size;

use crate::{Digest, Digester, LayerError};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The most that unpacking zstd may keep in memory is two to this power.
pub(crate) const ZSTD_WINDOW: u32 = 26;
const BUFFER: usize = 1 << 18;

/// How much may still come out of all layers of an image.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    most: u64,
    left: Arc<AtomicU64>,
}

impl Allowance {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, left: Arc::new(AtomicU64::new(most)) }
    }

    /// Takes from it, as long as there is something.
    pub(crate) fn take(&self, len: u64) -> Result<(), LayerError> {
        let left = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(len));
        left.map(drop).map_err(|_| LayerError::TooLarge(Size::bytes(self.most)))
    }
}

/// Opens a layer. How it is packed is told by its first bytes, whatever its
/// manifest says.
pub(crate) fn unpack<'a>(packed: impl Read + 'a) -> Result<Box<dyn Read + 'a>, LayerError> {
    let mut packed = BufReader::with_capacity(BUFFER, packed);
    let start = packed.fill_buf()?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(MultiGzDecoder::new(packed)));
    }
    if start.starts_with(&ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
        decoder.window_log_max(ZSTD_WINDOW)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(packed))
}

/// What comes out of a layer, measured and digested as it is read.
pub(crate) struct Measured<R> {
    inner: R,
    allowance: Allowance,
    digester: Digester,
}

impl<R: Read> Measured<R> {
    pub(crate) fn new(inner: R, allowance: Allowance) -> Self {
        Self { inner, allowance, digester: Digester::default() }
    }

    /// Reads to the end and returns the digest of all.
    pub(crate) fn digest(mut self) -> Result<Digest, LayerError> {
        let mut rest = vec![0; BUFFER];
        while self.read(&mut rest)? > 0 {}
        Ok(self.digester.finish())
    }

    /// Reads to the end and checks the digest of all.
    pub(crate) fn check(self, wanted: Digest) -> Result<(), LayerError> {
        let found = self.digest()?;
        if found == wanted { Ok(()) } else { Err(LayerError::WrongDigest { wanted, found }) }
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.allowance.take(len as u64).map_err(io::Error::other)?;
        self.digester.update(buffer.get(..len).unwrap_or_default());
        Ok(len)
    }
}
