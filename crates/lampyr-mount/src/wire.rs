//! FUSE as bytes: requests are taken apart, replies are put together. Numbers
//! are little-endian, as on every processor that Lampyr runs on.

use crate::errno::Errno;

/// The most bytes of data in one read or write.
pub(crate) const MAX_DATA: u32 = 1 << 20;
/// A request is never longer than this.
pub(crate) const MAX_REQUEST: usize = MAX_DATA as usize + 64 * 1024;

const REQUEST_HEADER: usize = 40;
const REPLY_HEADER: usize = 16;

/// Bytes that are no request. Whoever sent them is not a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the VM sent a file system request of {0} bytes")]
pub struct Malformed(usize);

/// One request: its header and what follows that.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) opcode: u32,
    unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) body: Body<'a>,
}

impl<'a> Request<'a> {
    /// The whole request at the beginning of `bytes`, and its length; `None`
    /// while some of it is missing.
    pub(crate) fn first(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut header = Body(bytes);
        let Ok(length) = header.u32().map(|length| length as usize) else { return Ok(None) };
        if !(REQUEST_HEADER..=MAX_REQUEST).contains(&length) {
            return Err(Malformed(length));
        }
        let Some(whole) = bytes.get(..length) else { return Ok(None) };
        let request = Self::read(Body(whole)).map_err(|_| Malformed(length))?;
        Ok(Some((request, length)))
    }

    fn read(mut header: Body<'a>) -> Result<Self, Errno> {
        header.skip(4)?;
        let (opcode, unique, node) = (header.u32()?, header.u64()?, header.u64()?);
        let (uid, gid) = (header.u32()?, header.u32()?);
        header.skip(8)?;
        Ok(Self { opcode, unique, node, uid, gid, body: header })
    }

    /// The reply to it.
    pub(crate) fn reply(&self, done: Result<Reply, Errno>) -> Vec<u8> {
        let (error, Reply(mut bytes)) = match done {
            Ok(reply) => (0, reply),
            Err(errno) => (-errno.0, Reply::new()),
        };
        let length = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&error.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.unique.to_le_bytes());
        bytes
    }
}

/// What is left of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Errno::INVAL)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        self.take(N)?.try_into().map_err(|_| Errno::INVAL)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn skip(&mut self, length: usize) -> Result<(), Errno> {
        self.take(length).map(drop)
    }

    /// A text that ends with a zero.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let text = self.take(end)?;
        self.skip(1)?;
        Ok(text)
    }

    /// The name of an entry of a directory: never a way out of it.
    pub(crate) fn name(&mut self) -> Result<&'a [u8], Errno> {
        match self.text()? {
            name if name.len() > 255 => Err(Errno::NAMETOOLONG),
            b"" | b"." | b".." => Err(Errno::INVAL),
            name if name.contains(&b'/') => Err(Errno::INVAL),
            name => Ok(name),
        }
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// A reply that is being put together, with room for its header.
#[derive(Debug)]
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    pub(crate) fn new() -> Self {
        Self(vec![0; REPLY_HEADER])
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// How long it is without its header.
    pub(crate) fn len(&self) -> usize {
        self.0.len() - REPLY_HEADER
    }

    /// Lets `fill` write up to `room` bytes behind it.
    pub(crate) fn fill(
        mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<Self, Errno> {
        let begin = self.0.len();
        self.0.resize(begin + room, 0);
        let filled = fill(&mut self.0[begin..])?;
        self.0.truncate(begin + filled);
        Ok(self)
    }
}
