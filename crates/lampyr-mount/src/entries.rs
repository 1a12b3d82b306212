//! Requests about names: found, made, moved and removed.

use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, linkat, mkdirat, readlinkat,
    renameat_with, statat, symlinkat, unlinkat,
};

use crate::errno::Errno;
use crate::handles::{Handle, Listed};
use crate::quota::cost;
use crate::server::Server;
use crate::sys;
use crate::target::Target;
use crate::wire::{MAX_DATA, Reply, Request};

type Done = Result<Reply, Errno>;

/// Permissions that the guest may give: never those that lend its identity to
/// whoever runs a program here.
const GIVEN: u32 = 0o1777;
const SETGID: u32 = 0o2000;
/// A directory with more entries is not listed.
const MAX_ENTRIES: usize = 1 << 20;

pub(crate) fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate((mode & GIVEN) as _)
}

impl Server {
    pub(crate) fn lookup(&mut self, request: &Request<'_>) -> Done {
        let name = { request.body }.name()?;
        let (dir, _) = self.directory(request.node)?;
        let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.entry(request.node, name, &found)
    }

    pub(crate) fn readlink(&mut self, request: &Request<'_>) -> Done {
        match self.target(request.node)?.0 {
            Target::Named(dir, name) => {
                let text = readlinkat(dir, name.as_slice(), Vec::new())?;
                Ok(Reply::new().bytes(text.as_bytes()))
            }
            Target::Open(_) => Err(Errno::INVAL),
        }
    }

    pub(crate) fn symlink(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (name, text) = (body.name()?, body.text()?);
        self.make(request, name, None, |dir| Ok(symlinkat(text, dir, name)?))
    }

    pub(crate) fn mknod(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let mode = body.u32()?;
        body.skip(12)?;
        let name = body.name()?;
        let given = permissions(mode);
        self.make(request, name, Some(given), |dir| match FileType::from_raw_mode(mode as _) {
            FileType::RegularFile => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                Ok(rustix::fs::openat(dir, name, flags, given).map(drop)?)
            }
            kind @ (FileType::Fifo | FileType::Socket) => {
                Ok(sys::make_node(dir, name, kind, given)?)
            }
            _ => Err(Errno::PERM),
        })
    }

    pub(crate) fn mkdir(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let mode = permissions(body.u32()?);
        body.skip(4)?;
        let name = body.name()?;
        self.make(request, name, Some(mode), |dir| Ok(mkdirat(dir, name, mode)?))
    }

    /// Makes an entry of a directory, and makes it what it should be.
    fn make(
        &mut self,
        request: &Request<'_>,
        name: &[u8],
        mode: Option<Mode>,
        make: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Done {
        let (dir, parent) = self.directory(request.node)?;
        self.export.charge(0, cost(0))?;
        if let Err(e) = make(&dir) {
            self.export.charge(cost(0), 0)?;
            return Err(e);
        }
        let found = self.settle(request, &Target::Named(dir, name.to_vec()), &parent, mode)?;
        self.entry(request.node, name, &found)
    }

    /// Gives something new the owner and the permissions that it should have.
    pub(crate) fn settle(
        &self,
        request: &Request<'_>,
        new: &Target,
        parent: &Stat,
        mode: Option<Mode>,
    ) -> Result<Stat, Errno> {
        let found = new.stat()?;
        let keeps_group = sys::bits(parent.st_mode) & SETGID != 0;
        let gid = if keeps_group { found.st_gid } else { request.gid };
        let theirs = self.export.has_owners() && (found.st_uid, found.st_gid) != (request.uid, gid);
        if theirs {
            new.chown(Some(request.uid), Some(gid))?;
        }
        // Our own umask took some away.
        let short = mode.filter(|mode| permissions(sys::bits(found.st_mode)) != *mode);
        if let Some(mode) = short {
            new.chmod(mode)?;
        }
        if theirs || short.is_some() { new.stat() } else { Ok(found) }
    }

    pub(crate) fn link(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (source, name) = (body.u64()?, body.name()?);
        let Target::Named(from, old) = self.target(source)?.0 else {
            return Err(Errno::STALE);
        };
        let (dir, _) = self.directory(request.node)?;
        linkat(from, old.as_slice(), &dir, name, AtFlags::empty())?;
        let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.entry(request.node, name, &found)
    }

    pub(crate) fn unlink(&mut self, request: &Request<'_>, directory: bool) -> Done {
        let name = { request.body }.name()?;
        let (dir, _) = self.directory(request.node)?;
        let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&dir, name, flags)?;
        self.removed(request.node, name, &found)?;
        Ok(Reply::new())
    }

    /// A name is gone; with the last one goes what the file cost, unless
    /// somebody has it open.
    fn removed(&mut self, parent: u64, name: &[u8], found: &Stat) -> Result<(), Errno> {
        let open = self.nodes.removed(parent, name, found);
        let regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        match (regular, open) {
            (true, true) => Ok(()),
            (true, false) if found.st_nlink > 1 => Ok(()),
            (true, false) => self.export.charge(cost(found.st_size as u64), 0),
            (false, _) => self.export.charge(cost(0), 0),
        }
    }

    pub(crate) fn rename(&mut self, request: &Request<'_>, flagged: bool) -> Done {
        let mut body = request.body;
        let target = body.u64()?;
        let flags = if flagged { body.u64()? as u32 } else { 0 };
        let (old, new) = (body.name()?, body.name()?);
        let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
        let flags = RenameFlags::from_bits(flags).filter(|flags| known.contains(*flags));
        let flags = flags.ok_or(Errno::INVAL)?;
        let ((from, _), (to, _)) = (self.directory(request.node)?, self.directory(target)?);
        let moved = statat(&from, old, AtFlags::SYMLINK_NOFOLLOW)?;
        let replaced = statat(&to, new, AtFlags::SYMLINK_NOFOLLOW).ok();
        if flags.is_empty() {
            // By far the most, and known to every file system.
            rustix::fs::renameat(&from, old, &to, new)?;
        } else {
            renameat_with(&from, old, &to, new, flags)?;
        }
        let same = |other: &Stat| (other.st_dev, other.st_ino) == (moved.st_dev, moved.st_ino);
        if let Some(replaced) = replaced.filter(|replaced| !same(replaced)) {
            if flags.contains(RenameFlags::EXCHANGE) {
                self.nodes.moved((target, new), (request.node, old), &replaced);
            } else {
                self.removed(target, new, &replaced)?;
            }
        }
        self.nodes.moved((request.node, old), (target, new), &moved);
        Ok(Reply::new())
    }

    pub(crate) fn opendir(&mut self, request: &Request<'_>) -> Done {
        self.handles.check_room()?;
        let listing = self.list(request.node)?;
        let handle = Handle::Directory { node: request.node, listing };
        Ok(Reply::new().u64(self.handles.add(handle)).u64(0))
    }

    fn list(&self, node: u64) -> Result<Vec<Listed>, Errno> {
        let dir = self.open_node(node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut listing = Vec::new();
        for entry in Dir::new(dir)? {
            let entry = entry?;
            if listing.len() >= MAX_ENTRIES {
                return Err(Errno::NFILE);
            }
            let (name, inode) = (entry.file_name().to_bytes().to_vec(), entry.ino());
            let kind = sys::bits(entry.file_type().as_raw_mode()) >> 12;
            listing.push(Listed { name, inode, kind });
        }
        Ok(listing)
    }

    pub(crate) fn readdir(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?.min(MAX_DATA) as usize);
        if offset == 0 {
            // Whoever begins again sees what is there now.
            let node = self.handles.directory(handle)?.0;
            *self.handles.directory(handle)?.1 = self.list(node)?;
        }
        let listing = self.handles.directory(handle)?.1;
        let mut reply = Reply::new();
        for (index, listed) in listing.iter().enumerate().skip(offset as usize) {
            let padding = listed.name.len().next_multiple_of(8) - listed.name.len();
            if reply.len() + 24 + listed.name.len() + padding > size {
                break;
            }
            reply = reply.u64(listed.inode).u64(index as u64 + 1);
            reply = reply.u32(listed.name.len() as u32).u32(listed.kind);
            reply = reply.bytes(&listed.name).zeros(padding);
        }
        Ok(reply)
    }
}
