//! Reads the blocks of an archive, none of which is trusted.

use std::io::{BufReader, Read};

use tar::{EntryType, Header};

use crate::direct::{Buffer, Cache};
use crate::entry::{BLOCK, Entry, Kind, MAX_PATH, Stamp, Time, padding};
use crate::error::{TreeError, damaged, hostile, incoming};
use crate::extent::{self, Extent, MAX_EXTENTS};
use crate::record::{Record, number};
use crate::write::stored;

/// The longest pax record in bytes: two paths and some numbers.
const MAX_RECORD: u64 = 4 * MAX_PATH as u64;

/// An archive that is being read.
#[derive(Debug)]
pub(crate) struct Reader<R: Read> {
    input: BufReader<R>,
    buffer: Buffer,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R, cache: Cache) -> Self {
        Self { input: BufReader::with_capacity(1 << 16, input), buffer: cache.buffer() }
    }

    /// The next entry, or none at the proper end of archive and stream. After
    /// a file its contents have to be taken with [`Self::data`] for each
    /// extent, then [`Self::pad`].
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TreeError> {
        let Some(header) = self.header()? else {
            return self.end().map(|()| None);
        };
        if header.entry_type() != EntryType::XHeader {
            return self.entry(&header, Record::default()).map(Some);
        }
        let record = self.record(&header)?;
        let header = self.header()?.ok_or_else(|| damaged("a pax record has no entry"))?;
        self.entry(&header, record).map(Some)
    }

    /// A header whose checksum is right, or none for a block of zeros.
    fn header(&mut self) -> Result<Option<Header>, TreeError> {
        let mut header = Header::new_old();
        self.input.read_exact(header.as_mut_bytes()).map_err(incoming)?;
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

    /// Checks that one more block of zeros follows, and then nothing at all.
    fn end(&mut self) -> Result<(), TreeError> {
        if self.header()?.is_some() {
            return Err(damaged("there is a block of zeros in the middle"));
        }
        match self.input.read_exact(&mut [0]) {
            Ok(()) => Err(damaged("it goes on after its end")),
            Err(e) => match incoming(e) {
                TreeError::Truncated => Ok(()),
                other => Err(other),
            },
        }
    }

    fn record(&mut self, header: &Header) -> Result<Record, TreeError> {
        let len = size_of(header)?;
        if len > MAX_RECORD {
            return Err(damaged("a pax record is too long"));
        }
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes).map_err(incoming)?;
        self.pad(len)?;
        Record::decode(&bytes)
    }

    fn entry(&mut self, header: &Header, record: Record) -> Result<Entry, TreeError> {
        let name = record.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let mode = header.mode().map_err(|_| damaged("a header has a bad mode"))?;
        let time = record.time.map_or_else(|| time_of(header), Ok)?;
        let len = size_of(header)?;
        let kind = match header.entry_type() {
            EntryType::Regular => self.file(len, record.sparse)?,
            _ if len > 0 => return Err(hostile("only a regular file has contents", &name)),
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link_of(header, record.link, &name)?),
            _ => return Err(hostile("it is no file, directory or symbolic link", &name)),
        };
        Ok(Entry { name, stamp: Stamp::new(mode, time), kind })
    }

    fn file(&mut self, len: u64, sparse: Option<u64>) -> Result<Kind, TreeError> {
        match sparse {
            None => Ok(Kind::File { size: len, data: extent::whole(len) }),
            Some(size) => Ok(Kind::File { size, data: self.map(len, size)? }),
        }
    }

    /// Reads the map of a file with holes: extents in order, inside `size`,
    /// that make up `len` bytes together with the map itself.
    fn map(&mut self, len: u64, size: u64) -> Result<Vec<Extent>, TreeError> {
        let wrong = || damaged("the map of a file with holes is wrong");
        let mut numbers = Numbers::new(&mut self.input, len);
        let count = numbers.next()?;
        let mut data = Vec::new();
        let mut end = 0;
        for _ in 0..count {
            let (start, len) = (numbers.next()?, numbers.next()?);
            let next = start.checked_add(len).filter(|&next| start >= end && next <= size);
            end = next.filter(|_| data.len() <= MAX_EXTENTS).ok_or_else(wrong)?;
            data.push(Extent { start, len });
        }
        if numbers.left == stored(&data) { Ok(data) } else { Err(wrong()) }
    }

    /// Hands the next `len` bytes of contents to `sink`, piece by piece.
    pub(crate) fn data(
        &mut self,
        len: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let mut left = len;
        while left > 0 {
            let buffer = self.buffer.bytes();
            let want = left.min(buffer.len() as u64) as usize;
            let piece = &mut buffer[..want];
            self.input.read_exact(piece).map_err(incoming)?;
            sink(piece)?;
            left -= want as u64;
        }
        Ok(())
    }

    /// Skips what fills contents of `len` bytes up to a whole block.
    pub(crate) fn pad(&mut self, len: u64) -> Result<(), TreeError> {
        let mut block = [0; BLOCK as usize];
        self.input.read_exact(&mut block[..padding(len)]).map_err(incoming)
    }
}

/// The numbers of a map, one a line, from as many blocks as they need.
struct Numbers<'a, R> {
    input: &'a mut R,
    /// How many bytes of the entry have not been read.
    left: u64,
    block: [u8; BLOCK as usize],
    at: usize,
}

impl<'a, R: Read> Numbers<'a, R> {
    fn new(input: &'a mut R, left: u64) -> Self {
        Self { input, left, block: [0; BLOCK as usize], at: BLOCK as usize }
    }

    fn next(&mut self) -> Result<u64, TreeError> {
        let mut digits = Vec::new();
        while digits.len() <= 20 {
            match self.byte()? {
                b'\n' => break,
                digit => digits.push(digit),
            }
        }
        let found = number(&digits).filter(|_| !digits.is_empty());
        found.ok_or_else(|| damaged("the map of a file with holes has a bad number"))
    }

    fn byte(&mut self) -> Result<u8, TreeError> {
        if self.at == self.block.len() {
            let left = self.left.checked_sub(BLOCK);
            self.left = left.ok_or_else(|| damaged("the map of a file with holes is cut off"))?;
            self.input.read_exact(&mut self.block).map_err(incoming)?;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.block[self.at - 1])
    }
}

fn size_of(header: &Header) -> Result<u64, TreeError> {
    header.entry_size().map_err(|_| damaged("a header has a bad size"))
}

fn time_of(header: &Header) -> Result<Time, TreeError> {
    let sec = header.mtime().ok().and_then(|sec| i64::try_from(sec).ok());
    let sec = sec.filter(|&sec| sec <= 1 << 40);
    sec.map(|sec| Time { sec, nsec: 0 }).ok_or_else(|| damaged("a header has a bad time"))
}

fn link_of(header: &Header, long: Option<Vec<u8>>, name: &[u8]) -> Result<Vec<u8>, TreeError> {
    let short = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
    let link = long.or_else(short).unwrap_or_default();
    if link.is_empty() || link.len() > MAX_PATH || link.contains(&0) {
        return Err(hostile("its target is empty, too long, or contains a NUL byte", name));
    }
    Ok(link)
}
