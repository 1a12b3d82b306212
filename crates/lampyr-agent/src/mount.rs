//! A file system that the host serves: requests from the kernel's FUSE device
//! go to the host, replies come back.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use lampyr_proto::{Kind, Lane, MAX_PAYLOAD, Mount, ReceiveWindow, SendWindow, WireError, encode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::port::Port;
use crate::spawn::fork_into;

/// The kernel's longest request, and more: it refuses to be read in less.
const MAX_REQUEST: usize = (1 << 20) + 64 * 1024;
/// The host's longest reply.
const MAX_REPLY: usize = MAX_REQUEST;
/// How far the kernel reads ahead of whoever reads a file from its beginning
/// on, in KiB: a request has a long way, so fewer and larger ones.
const READ_AHEAD: &str = "1024";

/// A mounted file system. Dropped, whoever uses it hears that it is gone.
pub(crate) struct Mounted {
    device: OwnedFd,
    path: String,
    /// The process that mounts it, until it has.
    beginner: Option<i32>,
    /// Whether there may be a request to read.
    pub(crate) ready: bool,
    pub(crate) window: SendWindow,
    request: Vec<u8>,
    unsent: std::ops::Range<usize>,
    reply: Vec<u8>,
    granted: ReceiveWindow,
    /// Whether writes are answered before the host has them.
    pub(crate) behind: bool,
    over: bool,
}

impl Mounted {
    /// Begins to mount it. A process of its own does that: the place may lie
    /// in another mount, and we are who answers there.
    pub(crate) fn begin(wanted: &Mount) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        rustix::io::ioctl_fionbio(&device, true)?;
        let pid = match fork_into(None)? {
            0 => {
                let done = begin(wanted, device.as_raw_fd());
                let code = done.err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::EIO));
                // SAFETY: ends this process without running the parent's destructors.
                unsafe { libc::_exit(code) }
            }
            pid => pid,
        };
        Ok(Self {
            device: device.into(),
            path: wanted.path.clone(),
            beginner: Some(pid),
            ready: false,
            window: SendWindow::default(),
            request: vec![0; MAX_REQUEST],
            unsent: 0..0,
            reply: Vec::new(),
            granted: ReceiveWindow::default(),
            behind: false,
            over: false,
        })
    }

    pub(crate) fn is_begun_by(&self, pid: i32) -> bool {
        self.beginner == Some(pid)
    }

    /// The process that mounts it has ended: the device that requests come
    /// from, or why there is no mount.
    pub(crate) fn begun(&mut self, status: i32) -> Result<&impl AsFd, String> {
        self.beginner = None;
        if status == 0 {
            return Ok(&self.device);
        }
        let why = io::Error::from_raw_os_error(libc::WEXITSTATUS(status));
        Err(format!("cannot mount at {}: {why}", self.path))
    }

    /// Whether the guest has unmounted it.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Moves a piece of a request towards the host. Returns whether there may
    /// be more to move at once.
    pub(crate) fn pump(&mut self, stream: u32, port: &mut Port) -> bool {
        if self.unsent.is_empty() && !self.read_request() {
            return false;
        }
        let piece = self.unsent.len().min(self.window.available()).min(MAX_PAYLOAD);
        if piece == 0 || !port.has_room() {
            return false;
        }
        let end = self.unsent.start + piece;
        encode(port.out(), stream, Kind::Data, Lane::Stdout, &self.request[self.unsent.start..end]);
        self.window.spend(piece);
        self.unsent.start = end;
        true
    }

    fn read_request(&mut self) -> bool {
        while self.ready {
            match rustix::io::read(&self.device, &mut self.request[..]) {
                Ok(n) => {
                    self.unsent = 0..n;
                    self.answer_ahead(n);
                    return true;
                }
                Err(Errno::AGAIN) => self.ready = false,
                // It was taken back while we read it.
                Err(Errno::INTR | Errno::NOENT) => {}
                Err(_) => (self.ready, self.over) = (false, true),
            }
        }
        false
    }

    /// Answers a write at once and marks it so, where the host has room for it:
    /// whoever writes small pieces need not wait for each to go there and back.
    /// The host says at the next flush if it went wrong after all.
    fn answer_ahead(&mut self, length: usize) {
        let whole = self.behind.then(|| self.request.get_mut(..length)).flatten();
        if let Some(reply) = whole.and_then(fuse::answered) {
            self.write_reply(&reply);
        }
    }

    /// A piece of a reply arrived. Returns credit to give, if any.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) -> Result<Option<u32>, WireError> {
        self.granted.arrive(bytes.len())?;
        if self.reply.is_empty() && length_of(bytes) == Some(bytes.len()) {
            self.write_reply(bytes);
        } else {
            self.gather(bytes)?;
        }
        Ok(self.granted.consume(bytes.len()))
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let mut reply = std::mem::take(&mut self.reply);
        reply.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(length) = length_of(&reply[begin..]) {
            if !(16..=MAX_REPLY).contains(&length) {
                return Err(WireError::Length(length as u32));
            }
            let Some(whole) = reply.get(begin..begin + length) else { break };
            self.write_reply(whole);
            begin += length;
        }
        reply.drain(..begin);
        self.reply = reply;
        Ok(())
    }

    /// A reply that nobody waits for any more is refused, and that is all.
    fn write_reply(&self, reply: &[u8]) {
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.device, reply));
    }
}

/// The one thing that the agent knows of requests.
mod fuse {
    const WRITE: u32 = 16;
    const OPCODE: usize = 4;
    const UNIQUE: usize = 8;
    const SIZE: usize = 56;
    /// Zero but for what the kernel writes back on its own.
    const FLAGS: usize = 60;
    const PADDING: usize = 76;

    /// The reply to a plain write, which is marked as answered.
    pub(super) fn answered(request: &mut [u8]) -> Option<[u8; 24]> {
        if number(request, OPCODE)? != WRITE || number(request, FLAGS)? != 0 {
            return None;
        }
        let (unique, size) = (request.get(UNIQUE..UNIQUE + 8)?, request.get(SIZE..SIZE + 4)?);
        let mut reply = [0; 24];
        reply[..4].copy_from_slice(&24_u32.to_le_bytes());
        reply[8..16].copy_from_slice(unique);
        reply[16..20].copy_from_slice(size);
        request.get_mut(PADDING..PADDING + 4)?.copy_from_slice(&1_u32.to_le_bytes());
        Some(reply)
    }

    fn number(request: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*request.get(at..)?.first_chunk()?))
    }
}

/// What the reply at the beginning of `bytes` says of its length.
fn length_of(bytes: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?) as usize)
}

/// Mounts what `device` serves.
fn begin(wanted: &Mount, device: i32) -> io::Result<()> {
    const NOT_CONNECTED: Option<i32> = Some(libc::ENOTCONN);
    let path = wanted.path.as_str();
    if fs::metadata(path).is_err_and(|e| e.raw_os_error() == NOT_CONNECTED) {
        // Who served it before the machine was saved is gone.
        unmount(path, UnmountFlags::DETACH)?;
    }
    fs::create_dir_all(path)?;
    let checks = if wanted.owners { ",default_permissions" } else { "" };
    let options = format!("fd={device},rootmode=40000,user_id=0,group_id=0,allow_other{checks}");
    let readonly = if wanted.readonly { MountFlags::RDONLY } else { MountFlags::empty() };
    let flags = MountFlags::NOSUID | MountFlags::NODEV | readonly;
    mount("lampyr", path, "fuse", flags, CString::new(options)?.as_c_str())?;
    let _ = read_ahead();
    Ok(())
}

/// Lets the kernel read far ahead in what was mounted last.
fn read_ahead() -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let device = mounts.lines().last().and_then(|line| line.split(' ').nth(2));
    let device = device.ok_or(io::ErrorKind::NotFound)?;
    fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD)
}
