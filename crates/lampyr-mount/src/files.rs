//! Requests about one file: what it is like, and what is in it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat, Timespec, Timestamps, fstat, openat};

use crate::attributes;
use crate::entries::permissions;
use crate::errno::Errno;
use crate::handles::Handle;
use crate::quota::{BLOCK, cost};
use crate::server::Server;
use crate::sys;
use crate::target::Target;
use crate::wire::{Body, MAX_DATA, Reply, Request};

type Done = Result<Reply, Errno>;

// What a `setattr` is to set.
const SET_MODE: u32 = 1;
const SET_UID: u32 = 1 << 1;
const SET_GID: u32 = 1 << 2;
const SET_SIZE: u32 = 1 << 3;
const SET_ATIME: u32 = 1 << 4;
const SET_MTIME: u32 = 1 << 5;
const BY_HANDLE: u32 = 1 << 6;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;

// How a guest opens a file: Linux's numbers, whatever the host.
const ACCESS: u32 = 0o3;
const EXCL: u32 = 0o200;
const TRUNC: u32 = 0o1000;
const APPEND: u32 = 0o2000;

/// Tells the kernel that there is nothing to say when it closes the file.
const NO_FLUSH: u32 = 1 << 5;

impl Server {
    pub(crate) fn getattr(&mut self, request: &Request<'_>) -> Done {
        let (_, found) = self.target(request.node)?;
        Ok(attributes::attributes_alone(&found, self.export.owners))
    }

    pub(crate) fn setattr(&mut self, request: &Request<'_>) -> Done {
        let change = Change::read(request.body)?;
        let has = |flag| change.valid & flag != 0;
        if has(SET_SIZE) {
            self.truncate(request.node, change.handle, change.size)?;
        }
        let (target, _) = self.target(request.node)?;
        if has(SET_UID | SET_GID) {
            let given = |flag, id| has(flag).then(|| self.export.owners.given(id)).transpose();
            let (uid, gid) = (given(SET_UID, change.uid)?, given(SET_GID, change.gid)?);
            target.chown(uid.flatten(), gid.flatten())?;
        }
        if has(SET_MODE) {
            target.chmod(permissions(change.mode))?;
        }
        if has(SET_ATIME | SET_MTIME) {
            target.set_times(&change.times())?;
        }
        Ok(attributes::attributes_alone(&target.stat()?, self.export.owners))
    }

    fn truncate(&self, node: u64, handle: Option<u64>, size: u64) -> Result<(), Errno> {
        let file = match handle {
            Some(handle) => self.handles.file(handle)?,
            None => Arc::new(File::from(self.open_node(node, OFlags::WRONLY)?)),
        };
        let before = cost(file.metadata()?.len());
        self.export.charge(before, cost(size))?;
        let cut = file.set_len(size);
        if cut.is_err() {
            self.export.charge(cost(size), before)?;
        }
        Ok(cut?)
    }

    pub(crate) fn open(&mut self, request: &Request<'_>) -> Done {
        let flags = { request.body }.u32()?;
        self.check_access(flags)?;
        self.handles.check_room()?;
        let file = Arc::new(File::from(self.open_node(request.node, host_flags(flags))?));
        regular(&file)?;
        self.empty(&file, flags)?;
        let handle = self.opened(request.node, file)?;
        let quiet = if flags & ACCESS == 0 { NO_FLUSH } else { 0 };
        Ok(Reply::new().u64(handle).u32(quiet).u32(0))
    }

    fn check_access(&self, flags: u32) -> Result<(), Errno> {
        let writes = flags & (ACCESS | TRUNC) != 0;
        if self.export.readonly && writes { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Empties a file that was opened to be emptied.
    fn empty(&self, file: &File, flags: u32) -> Result<(), Errno> {
        if flags & TRUNC == 0 {
            return Ok(());
        }
        let before = file.metadata()?.len();
        file.set_len(0)?;
        self.export.charge(cost(before), cost(0))
    }

    fn opened(&mut self, node: u64, file: Arc<File>) -> Result<u64, Errno> {
        self.nodes.opened(node, &file)?;
        Ok(self.handles.add(Handle::File { node, file, failed: None }))
    }

    pub(crate) fn create(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (flags, mode) = (body.u32()?, body.u32()?);
        body.skip(8)?;
        let name = body.name()?;
        self.handles.check_room()?;
        let (told, (file, found)): (fn(_, &_, _) -> _, _) =
            match self.make_file(request, name, flags, mode) {
                // Somebody else was faster, and that will do.
                Err(Errno::EXIST) if flags & EXCL == 0 => {
                    (attributes::entry, self.open_entry(request, name, flags)?)
                }
                opened => (attributes::new_entry, opened?),
            };
        let node = self.nodes.found(request.node, name, &found)?;
        let handle = self.opened(node, Arc::new(file))?;
        Ok(told(node, &found, self.export.owners).u64(handle).u64(0))
    }

    /// Makes a file that is not there, and opens it.
    fn make_file(
        &self,
        request: &Request<'_>,
        name: &[u8],
        flags: u32,
        mode: u32,
    ) -> Result<(File, Stat), Errno> {
        let given = permissions(mode);
        let (dir, parent) = self.directory(request.node)?;
        self.export.charge(0, cost(0))?;
        let new = host_flags(flags) | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        match openat(&dir, name, new, given) {
            Ok(file) => {
                let new = Target::Named(dir, name.to_vec());
                Ok((file.into(), self.settle(request, &new, &parent, Some(given))?))
            }
            Err(e) => {
                self.export.charge(cost(0), 0)?;
                Err(e.into())
            }
        }
    }

    /// Opens an entry that the kernel does not know yet.
    fn open_entry(
        &self,
        request: &Request<'_>,
        name: &[u8],
        flags: u32,
    ) -> Result<(File, Stat), Errno> {
        let (dir, _) = self.directory(request.node)?;
        let own = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(openat(&dir, name, host_flags(flags) | own, Mode::empty())?);
        regular(&file)?;
        self.empty(&file, flags)?;
        let found = fstat(&file)?;
        Ok((file, found))
    }

    pub(crate) fn release(&mut self, request: &Request<'_>) -> Done {
        let handle = { request.body }.u64()?;
        if let Some(Handle::File { node, file, .. }) = self.handles.remove(handle)
            && self.nodes.closed(node)
        {
            let found = fstat(&file)?;
            if found.st_nlink == 0 {
                self.export.charge(cost(found.st_size as u64), 0)?;
            }
        }
        Ok(Reply::new())
    }

    pub(crate) fn read(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?.min(MAX_DATA));
        let file = self.handles.file(handle)?;
        Reply::new().fill(size as usize, |room| read_full(&file, room, offset))
    }

    /// A write that the guest's agent has answered already is done and not
    /// answered again.
    pub(crate) fn write(&mut self, request: &Request<'_>) -> Option<Done> {
        let done = self.write_now(request);
        if !is_answered(request.body) {
            return Some(done);
        }
        if let (Err(e), Ok(handle)) = (done, { request.body }.u64()) {
            self.handles.fail(handle, e);
        }
        None
    }

    fn write_now(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()?);
        body.skip(4 + 8)?;
        let flags = body.u32()?;
        body.skip(4)?;
        let data = body.rest().get(..size as usize).ok_or(Errno::INVAL)?;
        self.handles.told(handle)?;
        let file = self.handles.file(handle)?;
        let before = self.grow(&file, offset, size, flags)?;
        let written = file.write_all_at(data, offset);
        if let (Err(_), Some(after)) = (&written, before) {
            self.export.charge(after, cost(file.metadata()?.len()))?;
        }
        written?;
        Ok(Reply::new().u32(size).u32(0))
    }

    /// Counts what a write will make a file cost; `None` where nothing changes.
    fn grow(&self, file: &File, offset: u64, size: u32, flags: u32) -> Result<Option<u64>, Errno> {
        if self.export.quota.is_none() {
            return Ok(None);
        }
        let length = file.metadata()?.len();
        let begin = if flags & APPEND != 0 { length } else { offset };
        let end = begin.saturating_add(u64::from(size));
        if end <= length {
            return Ok(None);
        }
        self.export.charge(cost(length), cost(end))?;
        Ok(Some(cost(end)))
    }

    pub(crate) fn flush(&mut self, request: &Request<'_>) -> Done {
        self.handles.told({ request.body }.u64()?)?;
        Ok(Reply::new())
    }

    pub(crate) fn fsync(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (handle, flags) = (body.u64()?, body.u32()?);
        self.handles.told(handle)?;
        let file = self.handles.file(handle)?;
        if flags & 1 == 1 {
            file.sync_data()?
        } else {
            file.sync_all()?
        }
        Ok(Reply::new())
    }

    pub(crate) fn fsyncdir(&mut self, request: &Request<'_>) -> Done {
        let dir = self.open_node(request.node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        File::from(dir).sync_all()?;
        Ok(Reply::new())
    }

    pub(crate) fn fallocate(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (handle, offset, length, mode) = (body.u64()?, body.u64()?, body.u64()?, body.u32()?);
        let file = self.handles.file(handle)?;
        let before = cost(file.metadata()?.len());
        let end = offset.saturating_add(length);
        let reserved = before.max(cost(end));
        self.export.charge(before, reserved)?;
        let done = sys::allocate(&file, mode, offset, length);
        self.export.charge(reserved, cost(file.metadata()?.len()))?;
        done?;
        Ok(Reply::new())
    }

    pub(crate) fn lseek(&mut self, request: &Request<'_>) -> Done {
        let mut body = request.body;
        let (handle, offset, whence) = (body.u64()?, body.u64()?, body.u32()?);
        let file = self.handles.file(handle)?;
        Ok(Reply::new().u64(sys::seek(&file, whence, offset)?))
    }

    pub(crate) fn access(&mut self, request: &Request<'_>) -> Done {
        let mask = { request.body }.u32()? & 0o7;
        let (_, found) = self.target(request.node)?;
        let refused = mask & !may(&found) != 0 || (mask & 2 != 0 && self.export.readonly);
        if refused && !self.export.has_owners() { Err(Errno::ACCES) } else { Ok(Reply::new()) }
    }

    pub(crate) fn statfs(&mut self) -> Done {
        let found = self.export.statvfs()?;
        let (mut total, mut free) =
            (found.f_blocks * found.f_frsize / BLOCK, found.f_bavail * found.f_frsize / BLOCK);
        if let Some(quota) = &self.export.quota {
            total = quota.limit() / BLOCK;
            free = free.min(total.saturating_sub(quota.used().div_ceil(BLOCK)));
        }
        let reply = Reply::new().u64(total).u64(free).u64(free).u64(found.f_files);
        let reply = reply.u64(found.f_ffree).u32(BLOCK as u32).u32(255).u32(BLOCK as u32);
        Ok(reply.zeros(28))
    }
}

/// Whether a write bears the agent's mark.
fn is_answered(mut body: Body<'_>) -> bool {
    body.skip(36).and_then(|()| body.u32()) == Ok(1)
}

/// Refuses what is no file, such as a device.
fn regular(file: &File) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(fstat(file)?.st_mode);
    if kind == FileType::RegularFile { Ok(()) } else { Err(Errno::INVAL) }
}

/// What we may do with a file of ours or of somebody else's.
fn may(found: &Stat) -> u32 {
    let mode = sys::bits(found.st_mode);
    let ours = found.st_uid == rustix::process::geteuid().as_raw();
    if ours { mode >> 6 & 7 } else { (mode | mode >> 3) & 7 }
}

/// What of the guest's flags the host's open is told.
fn host_flags(flags: u32) -> OFlags {
    let access = match flags & ACCESS {
        0 => OFlags::RDONLY,
        1 => OFlags::WRONLY,
        _ => OFlags::RDWR,
    };
    if flags & APPEND != 0 { access | OFlags::APPEND } else { access }
}

/// Reads until `room` is full or the file is at its end.
fn read_full(file: &File, room: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < room.len() {
        match file.read_at(&mut room[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(filled)
}

/// What a `setattr` asks for.
struct Change {
    valid: u32,
    handle: Option<u64>,
    size: u64,
    accessed: (u64, u32),
    modified: (u64, u32),
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Change {
    fn read(mut body: Body<'_>) -> Result<Self, Errno> {
        let valid = body.u32()?;
        body.skip(4)?;
        let (handle, size) = (body.u64()?, body.u64()?);
        body.skip(8)?;
        let (atime, mtime, _ctime) = (body.u64()?, body.u64()?, body.u64()?);
        let (atime_ns, mtime_ns, _ctime_ns) = (body.u32()?, body.u32()?, body.u32()?);
        let mode = body.u32()?;
        body.skip(4)?;
        let (uid, gid) = (body.u32()?, body.u32()?);
        let handle = (valid & BY_HANDLE != 0).then_some(handle);
        let (accessed, modified) = ((atime, atime_ns), (mtime, mtime_ns));
        Ok(Self { valid, handle, size, accessed, modified, mode, uid, gid })
    }

    fn times(&self) -> Timestamps {
        let time = |set, now, (seconds, nanos): (u64, u32)| Timespec {
            tv_sec: seconds as i64,
            tv_nsec: match (self.valid & set != 0, self.valid & now != 0) {
                (false, _) => rustix::fs::UTIME_OMIT,
                (_, true) => rustix::fs::UTIME_NOW,
                _ => nanos.into(),
            },
        };
        Timestamps {
            last_access: time(SET_ATIME, ATIME_NOW, self.accessed),
            last_modification: time(SET_MTIME, MTIME_NOW, self.modified),
        }
    }
}
