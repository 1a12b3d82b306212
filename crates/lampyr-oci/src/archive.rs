//! Reads tar archives as layers have them: old, GNU and pax, none trusted.

use std::io::{self, Read, Seek};

use lampyr_ext4::Time;
use tar::{EntryType, Header};

use crate::pax::Extra;
use crate::sparse::{Map, damaged as damaged_map};
use crate::{Digest, Digester, LayerError};

const BLOCK: u64 = 512;
/// The most that may stand before an entry, in bytes.
const MOST_EXTRA: u64 = 1 << 20;

/// One entry of an archive.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) time: Time,
    pub(crate) extra: Extra,
}

/// What an entry is.
#[derive(Debug)]
pub(crate) enum EntryKind {
    /// A file of a length, which [`Archive::contents`] hands out.
    File(u64),
    Directory,
    Symlink(Vec<u8>),
    /// Another name of a file.
    Link(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// A piece of a file's contents.
pub(crate) enum Piece<'a> {
    Data(&'a [u8]),
    Zeros(u64),
}

impl Piece<'_> {
    /// Adds it to what is being digested.
    pub(crate) fn digest(&self, digester: &mut Digester) {
        match *self {
            Piece::Data(bytes) => digester.update(bytes),
            Piece::Zeros(len) => {
                let (zeros, mut left) = ([0; 1 << 12], len);
                while left > 0 {
                    let piece = left.min(zeros.len() as u64);
                    digester.update(&zeros[..piece as usize]);
                    left -= piece;
                }
            }
        }
    }
}

/// An archive that is being read.
pub(crate) struct Archive<R> {
    input: R,
    buffer: Vec<u8>,
    /// How much of the present entry was not read, and what fills its block.
    left: u64,
    padding: u64,
    map: Option<Map>,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: vec![0; 1 << 16], left: 0, padding: 0, map: None }
    }

    /// What is read from.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// The next entry, or none at the end. What is left of the one before is
    /// skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip()?;
        let mut extra = Extra::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            match header.entry_type() {
                EntryType::XHeader => {
                    let bytes = self.extra(&header)?;
                    extra.read(&bytes)?;
                }
                EntryType::XGlobalHeader => drop(self.extra(&header)?),
                EntryType::GNULongName => extra.path = Some(until_zero(self.extra(&header)?)),
                EntryType::GNULongLink => extra.link = Some(until_zero(self.extra(&header)?)),
                _ => return self.entry(&header, extra).map(Some),
            }
        }
    }

    /// A header whose checksum is right, or none at the end.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let mut header = Header::new_old();
        if !fill(&mut self.input, header.as_mut_bytes())? {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let sum = bytes.iter().enumerate().map(|(i, &byte)| {
            let in_checksum = (148..156).contains(&i);
            u32::from(if in_checksum { b' ' } else { byte })
        });
        if header.cksum().ok() != Some(sum.sum()) {
            return Err(damaged("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// The contents of an entry that belongs to the next one.
    fn extra(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        let len = size_of(header)?;
        if len > MOST_EXTRA {
            return Err(damaged("a name or a pax header is too long"));
        }
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes)?;
        self.padding = padding(len);
        self.skip()?;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, mut extra: Extra) -> Result<Entry, LayerError> {
        let path = extra.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extra.link.take();
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let link = link.unwrap_or_default();
        let number = |asked: Option<u64>, said: io::Result<u64>| {
            let number = asked.map_or(said, Ok).ok().and_then(|n| u32::try_from(n).ok());
            number.ok_or_else(|| damaged("a header has a bad number"))
        };
        let device =
            |said: io::Result<Option<u32>>| number(None, said.map(|n| n.unwrap_or(0).into()));
        let kind = match header.entry_type() {
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink(link),
            EntryType::Link => EntryKind::Link(link),
            EntryType::Char => {
                EntryKind::Character(device(header.device_major())?, device(header.device_minor())?)
            }
            EntryType::Block => {
                EntryKind::Block(device(header.device_major())?, device(header.device_minor())?)
            }
            EntryType::Fifo => EntryKind::Fifo,
            // The oldest archives know directories by their names.
            EntryType::Regular if path.ends_with(b"/") => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                EntryKind::File(self.file(header, &mut extra)?)
            }
            _ => return Err(hostile(&path, "is of a kind that no layer has")),
        };
        let mode = told(&header.as_old().mode, header.mode().map(u64::from))
            .map_err(|_| damaged("a header has a bad mode"))?;
        let time = extra
            .time
            .or_else(|| time_of(header))
            .ok_or_else(|| damaged("a header has a bad time"))?;
        let (uid, gid) = (
            number(extra.uid, told(&header.as_old().uid, header.uid()))?,
            number(extra.gid, told(&header.as_old().gid, header.gid()))?,
        );
        Ok(Entry { path, kind, mode: (mode & 0o7777) as u16, uid, gid, time, extra })
    }

    /// Gets ready for a file's contents and returns its length.
    fn file(&mut self, header: &Header, extra: &mut Extra) -> Result<u64, LayerError> {
        self.left = extra.size.map_or_else(|| size_of(header), Ok)?;
        self.padding = padding(self.left);
        if header.entry_type() == EntryType::GNUSparse {
            return self.old_map(header);
        }
        let Some(size) = extra.real_size else { return Ok(self.left) };
        let map =
            if extra.map_follows { self.map()? } else { extra.map.take().unwrap_or_default() };
        map.check(size, self.left)?;
        self.map = Some(map);
        Ok(size)
    }

    /// The map in the header itself and in blocks behind it.
    fn old_map(&mut self, header: &Header) -> Result<u64, LayerError> {
        let gnu = header.as_gnu().ok_or_else(damaged_map)?;
        let mut map = Map::default();
        let push = |map: &mut Map, piece: &tar::GnuSparseHeader| {
            if piece.is_empty() {
                return Ok(());
            }
            let (start, len) = (piece.offset(), piece.length());
            map.push(start.map_err(|_| damaged_map())?, len.map_err(|_| damaged_map())?)
        };
        gnu.sparse.iter().try_for_each(|piece| push(&mut map, piece))?;
        let mut more = gnu.is_extended();
        while more {
            let mut next = tar::GnuExtSparseHeader::new();
            self.input.read_exact(next.as_mut_bytes())?;
            next.sparse().iter().try_for_each(|piece| push(&mut map, piece))?;
            more = next.is_extended();
        }
        let size = gnu.real_size().map_err(|_| damaged_map())?;
        map.check(size, self.left)?;
        self.map = Some(map);
        Ok(size)
    }

    /// The map before the data: numbers, one a line, in whole blocks.
    fn map(&mut self) -> Result<Map, LayerError> {
        let mut lines = Lines { archive: self, block: [0; BLOCK as usize], at: BLOCK as usize };
        let count = lines.number()?;
        let mut map = Map::default();
        for _ in 0..count {
            let start = lines.number()?;
            map.push(start, lines.number()?)?;
        }
        Ok(map)
    }

    /// Hands out the contents of the present file, of length `size`.
    pub(crate) fn contents(
        &mut self,
        size: u64,
        mut sink: impl FnMut(Piece<'_>) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let pieces = self.map.take().map_or_else(|| vec![(0, size)], |map| map.pieces);
        let mut at = 0;
        for (start, len) in pieces {
            sink(Piece::Zeros(start - at))?;
            self.data(len, &mut sink)?;
            at = start + len;
        }
        sink(Piece::Zeros(size - at))
    }

    /// The digest of the contents of the present file.
    pub(crate) fn digest(&mut self, size: u64) -> Result<Digest, LayerError> {
        let mut digester = Digester::default();
        self.contents(size, |piece| {
            piece.digest(&mut digester);
            Ok(())
        })?;
        Ok(digester.finish())
    }

    fn data(
        &mut self,
        len: u64,
        sink: &mut impl FnMut(Piece<'_>) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut left = len;
        while left > 0 {
            let want = left.min(self.buffer.len() as u64) as usize;
            self.input.read_exact(&mut self.buffer[..want])?;
            sink(Piece::Data(&self.buffer[..want]))?;
            left -= want as u64;
            self.left -= (want as u64).min(self.left);
        }
        Ok(())
    }

    /// Skips what is left of the present entry.
    fn skip(&mut self) -> Result<(), LayerError> {
        let mut left =
            std::mem::take(&mut self.left).saturating_add(std::mem::take(&mut self.padding));
        self.map = None;
        while left > 0 {
            let want = left.min(self.buffer.len() as u64) as usize;
            self.input.read_exact(&mut self.buffer[..want])?;
            left -= want as u64;
        }
        Ok(())
    }
}

impl<R: Read + Seek> Archive<R> {
    /// Where the next entry begins. What is left of the present one is
    /// skipped.
    pub(crate) fn position(&mut self) -> Result<u64, LayerError> {
        self.skip()?;
        Ok(self.input.stream_position()?)
    }
}

/// Lines of numbers in an entry's data.
struct Lines<'a, R> {
    archive: &'a mut Archive<R>,
    block: [u8; BLOCK as usize],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64, LayerError> {
        let mut number = 0_u64;
        loop {
            let digit = match self.byte()? {
                b'\n' => return Ok(number),
                byte @ b'0'..=b'9' => u64::from(byte - b'0'),
                _ => return Err(damaged_map()),
            };
            let grown = number.checked_mul(10).and_then(|n| n.checked_add(digit));
            number = grown.ok_or_else(damaged_map)?;
        }
    }

    fn byte(&mut self) -> Result<u8, LayerError> {
        if self.at == self.block.len() {
            let left = self.archive.left.checked_sub(BLOCK).ok_or_else(damaged_map)?;
            self.archive.input.read_exact(&mut self.block)?;
            self.archive.left = left;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.block[self.at - 1])
    }
}

/// Fills a block; whether there was one.
fn fill(input: &mut impl Read, block: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < block.len() {
        match input.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn padding(len: u64) -> u64 {
    (BLOCK - len % BLOCK) % BLOCK
}

/// A number of a header; one that was left blank is nought.
fn told(field: &[u8], number: io::Result<u64>) -> io::Result<u64> {
    let blank = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if blank { Ok(0) } else { number }
}

fn size_of(header: &Header) -> Result<u64, LayerError> {
    told(&header.as_old().size, header.entry_size()).map_err(|_| damaged("a header has a bad size"))
}

fn time_of(header: &Header) -> Option<Time> {
    // GNU tar says times before 1970 in two's complement.
    let sec = told(&header.as_old().mtime, header.mtime()).ok()?;
    Some(Time { sec: sec as i64, nsec: 0 })
}

fn damaged(what: &str) -> LayerError {
    LayerError::Damaged(format!("it is damaged: {what}"))
}

/// An entry that no honest layer has.
pub(crate) fn hostile(path: &[u8], what: &'static str) -> LayerError {
    LayerError::Hostile { path: shown(path), what }
}

/// A path that a terminal can bear.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}
