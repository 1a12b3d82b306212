//! The request switch: which request is answered by what.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, Stat, fstat};

use crate::attributes;
use crate::errno::Errno;
use crate::export::Export;
use crate::handles::Handles;
use crate::nodes::{Identity, Nodes};
use crate::opcode;
use crate::sys::DIRECTORY;
use crate::target::Target;
use crate::wire::{MAX_DATA, Malformed, Reply, Request};

/// The version of FUSE that is spoken: 7.31.
const VERSION: (u32, u32) = (7, 31);
/// Requests that the guest may have under way without anybody waiting.
const MAX_BACKGROUND: u16 = 32;

/// What is agreed to where the kernel offers it: reads side by side, opens
/// that truncate, writes of more than a page, lookups and listings side by
/// side in one directory, requests of a megabyte.
const FEATURES: u32 = 1 | 1 << 3 | 1 << 5 | 1 << 18 | 1 << 22;

/// What must be free while writes are answered before they are done, in bytes.
const AHEAD: u64 = 64 << 20;

/// Serves one export to one kernel.
#[derive(Debug)]
pub struct Server {
    pub(crate) export: Export,
    pub(crate) nodes: Nodes,
    pub(crate) handles: Handles,
    pending: Vec<u8>,
}

type Done = Result<Reply, Errno>;

impl Server {
    /// Serves `export`.
    pub fn new(export: Export) -> std::io::Result<Self> {
        let root = export.stat().map_err(|e| std::io::Error::from_raw_os_error(e.0))?;
        let nodes = Nodes::new(Identity::of(&root));
        Ok(Self { export, nodes, handles: Handles::new(), pending: Vec::new() })
    }

    /// Takes bytes of requests, in pieces of any size, and answers each that
    /// is whole. After an error nothing more is to be expected of the guest.
    pub fn serve(&mut self, bytes: &[u8], mut reply: impl FnMut(Vec<u8>)) -> Result<(), Malformed> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some((request, length)) = Request::first(&pending[begin..])? {
            if let Some(done) = self.obey(&request) {
                reply(request.reply(done));
            }
            begin += length;
        }
        pending.drain(..begin);
        self.pending = pending;
        Ok(())
    }

    /// Whether there is room enough that a write can be answered before it is
    /// done: nothing that may be on its way could fail for want of it.
    pub fn is_roomy(&self) -> bool {
        !self.export.readonly && self.export.room().is_some_and(|room| room >= AHEAD)
    }

    /// `None` for what is not answered.
    fn obey(&mut self, request: &Request<'_>) -> Option<Done> {
        match request.opcode {
            opcode::FORGET => drop(self.forget(request)),
            opcode::BATCH_FORGET => drop(self.forget_all(request)),
            opcode::WRITE if !self.export.readonly => return self.write(request),
            opcode if self.export.readonly && changes(opcode) => return Some(Err(Errno::ROFS)),
            _ => return Some(self.answer(request)),
        }
        None
    }

    fn answer(&mut self, request: &Request<'_>) -> Done {
        match request.opcode {
            opcode::LOOKUP => self.lookup(request),
            opcode::GETATTR => self.getattr(request),
            opcode::SETATTR => self.setattr(request),
            opcode::READLINK => self.readlink(request),
            opcode::SYMLINK => self.symlink(request),
            opcode::MKNOD => self.mknod(request),
            opcode::MKDIR => self.mkdir(request),
            opcode::UNLINK => self.unlink(request, false),
            opcode::RMDIR => self.unlink(request, true),
            opcode::RENAME => self.rename(request, false),
            opcode::RENAME2 => self.rename(request, true),
            opcode::LINK => self.link(request),
            opcode::OPEN => self.open(request),
            opcode::CREATE => self.create(request),
            opcode::READ => self.read(request),
            opcode::FALLOCATE => self.fallocate(request),
            opcode::LSEEK => self.lseek(request),
            opcode::FLUSH => self.flush(request),
            opcode::FSYNC => self.fsync(request),
            opcode::ACCESS => self.access(request),
            opcode::OPENDIR => self.opendir(request),
            opcode::READDIR => self.readdir(request),
            opcode::FSYNCDIR => self.fsyncdir(request),
            opcode::RELEASE | opcode::RELEASEDIR => self.release(request),
            opcode::STATFS => self.statfs(),
            opcode::INIT => init(request),
            opcode::DESTROY => Ok(Reply::new()),
            _ => Err(Errno::NOSYS),
        }
    }

    fn forget(&mut self, request: &Request<'_>) -> Result<(), Errno> {
        let mut body = request.body;
        self.nodes.forget(request.node, body.u64()?);
        Ok(())
    }

    fn forget_all(&mut self, request: &Request<'_>) -> Result<(), Errno> {
        let mut body = request.body;
        let count = body.u32()?;
        body.skip(4)?;
        for _ in 0..count {
            self.nodes.forget(body.u64()?, body.u64()?);
        }
        Ok(())
    }

    /// Opens a directory to name what is in it.
    pub(crate) fn directory(&self, node: u64) -> Result<(OwnedFd, Stat), Errno> {
        let dir = self.export.open_at(&self.nodes.path(node)?, DIRECTORY, Mode::empty());
        let dir = dir.map_err(gone)?;
        let found = fstat(&dir)?;
        self.nodes.check(node, &found)?;
        Ok((dir, found))
    }

    /// What a node is, however it can be reached, and what it is like.
    pub(crate) fn target(&self, node: u64) -> Result<(Target, Stat), Errno> {
        let open = self.nodes.file(node).map(Target::Open);
        match (self.named(node), open) {
            (Err(_), Some(open)) => open.stat().map(|found| (open, found)),
            (named, _) => named,
        }
    }

    fn named(&self, node: u64) -> Result<(Target, Stat), Errno> {
        let (parent, name) = self.nodes.place(node)?;
        let named = Target::Named(self.directory(parent)?.0, name.to_vec());
        let found = named.stat().map_err(gone)?;
        self.nodes.check(node, &found)?;
        Ok((named, found))
    }

    /// Opens a node as a file.
    pub(crate) fn open_node(&self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = self.nodes.path(node)?;
        let file = self.export.open_at(&path, flags | OFlags::NONBLOCK, Mode::empty());
        let file = file.map_err(gone)?;
        self.nodes.check(node, &fstat(&file)?)?;
        Ok(file)
    }

    /// The answer for an entry that was found or made.
    pub(crate) fn entry(&mut self, parent: u64, name: &[u8], found: &Stat) -> Done {
        let node = self.nodes.found(parent, name, found)?;
        Ok(attributes::entry(node, found, self.export.owners))
    }
}

/// A name that the kernel knows and that is gone makes it look again.
fn gone(errno: Errno) -> Errno {
    if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&errno) { Errno::STALE } else { errno }
}

/// Whether a request changes something. An open that would is told by its flags.
fn changes(opcode: u32) -> bool {
    matches!(
        opcode,
        opcode::SETATTR
            | opcode::SYMLINK
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::UNLINK
            | opcode::RMDIR
            | opcode::RENAME
            | opcode::RENAME2
            | opcode::LINK
            | opcode::WRITE
            | opcode::CREATE
            | opcode::FALLOCATE
    )
}

fn init(request: &Request<'_>) -> Done {
    let mut body = request.body;
    let (major, _minor) = (body.u32()?, body.u32()?);
    if major < VERSION.0 {
        return Err(Errno::INVAL);
    }
    let hello = Reply::new().u32(VERSION.0).u32(VERSION.1);
    if major > VERSION.0 {
        // A newer kernel asks again in our version.
        return Ok(hello.zeros(56));
    }
    let (_readahead, offered) = (body.u32()?, body.u32()?);
    let hello = hello.u32(MAX_DATA).u32(offered & FEATURES);
    let hello = hello.u16(MAX_BACKGROUND).u16(MAX_BACKGROUND * 3 / 4).u32(MAX_DATA);
    // Times have nanoseconds; requests have as many pages as fit.
    Ok(hello.u32(1).u16((MAX_DATA / 4096) as u16).zeros(34))
}
