//! A process that runs for the host: its pipes and its end.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use lampyr_proto::{
    Exited, Job, Kind, Lane, MAX_PAYLOAD, ReceiveWindow, SendWindow, Window, WireError, encode,
};
use rustix::io::Errno;

use crate::cgroup::Cgroup;
use crate::port::Port;
use crate::spawn::Spawned;
use crate::terminal;

/// What the kernel counts a process's reads and writes in, in bytes.
const BLOCK: u64 = 512;

pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    group: Option<Cgroup>,
    started: Instant,
    exited: Option<Exited>,
    /// Whether somebody is to hear when it has nothing more to say, but goes on.
    carries: bool,
}

impl Process {
    pub(crate) fn new(spawned: Spawned, started: Instant, job: &Job) -> Self {
        Self {
            pid: spawned.pid,
            stdin: Input { fd: Some(spawned.stdin), ..Input::default() },
            stdout: Output::new(spawned.stdout, Lane::Stdout),
            stderr: Output::new(spawned.stderr, Lane::Stderr),
            group: spawned.group,
            started,
            exited: None,
            carries: matches!(job, Job::Dial(_)),
        }
    }

    /// Sends a signal to the process group. Numbers that are no signals, and
    /// processes that are gone, are passed over.
    pub(crate) fn signal(&self, number: i32) {
        // SAFETY: kill has no memory effects; a bad number is an error it returns.
        let sent = unsafe { libc::kill(-self.pid, number) };
        // Between its birth and its setsid it has no group of its own yet.
        if sent < 0 && self.exited.is_none() {
            // SAFETY: as above; it was not reaped, so the id is still its own.
            unsafe { libc::kill(self.pid, number) };
        }
    }

    /// Tells its terminal its size; a process without one has nothing to tell.
    pub(crate) fn resize(&self, window: Window) {
        if let Some(terminal) = &self.stdout.fd {
            let _ = terminal::resize(terminal, window);
        }
    }

    /// Ends the process and all it started.
    pub(crate) fn kill(&self) {
        match &self.group {
            Some(group) => group.kill(),
            None => self.signal(libc::SIGKILL),
        }
    }

    /// The process itself has ended; what it wrote last is still to be read.
    pub(crate) fn reaped(&mut self, status: i32, usage: &libc::rusage) {
        let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
        self.exited = Some(Exited {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            wall_us: self.started.elapsed().as_micros() as u64,
            cpu_us: Some(micros(usage.ru_utime) + micros(usage.ru_stime)),
            peak_memory: Some(usage.ru_maxrss as u64 * 1024),
            read_bytes: Some(usage.ru_inblock as u64 * BLOCK),
            write_bytes: Some(usage.ru_oublock as u64 * BLOCK),
            ..Exited::default()
        });
        self.stdout.ready = true;
        self.stderr.ready = true;
    }

    /// Moves one piece of each output towards the host. Returns whether there
    /// may be more to move at once.
    pub(crate) fn pump(&mut self, stream: u32, port: &mut Port, scratch: &mut [u8]) -> bool {
        let last = self.exited.is_some();
        let out = self.stdout.pump(stream, port, scratch, last);
        let err = self.stderr.pump(stream, port, scratch, last);
        out || err
    }

    /// Whether a connection's other end has just said its last byte, and may
    /// still listen.
    pub(crate) fn fell_silent(&mut self) -> bool {
        let silent = self.carries && self.stdout.fd.is_none() && self.exited.is_none();
        self.carries &= !silent;
        silent
    }

    /// How it ended, once it did and all its output was sent.
    pub(crate) fn finished(&mut self) -> Option<Exited> {
        if self.stdout.fd.is_some() || self.stderr.fd.is_some() {
            return None;
        }
        let mut exited = self.exited.take()?;
        exited.left_running = self.stdout.left_open || self.stderr.left_open;
        if let Some(group) = &mut self.group {
            let troubles = group.troubles();
            (exited.oom, exited.pids_limit) = (troubles.oom, troubles.pids_limit);
            exited.disk_full = (exited.code != Some(0) && is_disk_full()).then_some(true);
        }
        Some(exited)
    }

    /// Gives its control group back.
    pub(crate) fn into_group(self) -> Option<Cgroup> {
        self.group
    }
}

/// Whether nobody but the kernel gets another block of the root file system.
fn is_disk_full() -> bool {
    rustix::fs::statvfs("/").is_ok_and(|disk| disk.f_blocks > 0 && disk.f_bavail == 0)
}

/// A standard input: bytes from the host on their way into a pipe.
#[derive(Default)]
pub(crate) struct Input {
    pub(crate) fd: Option<OwnedFd>,
    pending: VecDeque<Vec<u8>>,
    /// How much of the first piece was written.
    written: usize,
    ended: bool,
    window: ReceiveWindow,
}

impl Input {
    /// Bytes arrived. Returns credit to give, if any.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) -> Result<Option<u32>, WireError> {
        if self.ended {
            return Err(WireError::OutOfPlace("byte behind the end of its lane"));
        }
        self.window.arrive(bytes.len())?;
        // Most of the time all of it goes into the pipe at once.
        let direct = self.fd.as_ref().filter(|_| self.pending.is_empty() && !bytes.is_empty());
        let written = direct.map_or(0, |fd| rustix::io::write(fd, bytes).unwrap_or(0));
        self.pending.extend((written < bytes.len()).then(|| bytes[written..].to_vec()));
        Ok(self.pump(written))
    }

    /// No more bytes will arrive.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.pump(0);
    }

    /// Moves what the pipe takes now; `moved` bytes of it were moved already. A process that does not read any more
    /// must not stop the host: its input is dropped.
    pub(crate) fn pump(&mut self, mut moved: usize) -> Option<u32> {
        while let (Some(fd), Some(piece)) = (&self.fd, self.pending.front()) {
            match rustix::io::write(fd, &piece[self.written..]) {
                Ok(n) => moved += self.wrote(n),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.fd = None,
            }
        }
        if self.fd.is_none() {
            moved += self.drop_pending();
        } else if self.ended && self.pending.is_empty() {
            self.fd = None;
        }
        self.window.consume(moved)
    }

    fn wrote(&mut self, n: usize) -> usize {
        self.written += n;
        if self.pending.front().is_some_and(|piece| piece.len() == self.written) {
            self.pending.pop_front();
            self.written = 0;
        }
        n
    }

    fn drop_pending(&mut self) -> usize {
        let all: usize = self.pending.drain(..).map(|piece| piece.len()).sum();
        all - std::mem::take(&mut self.written)
    }
}

/// A standard output or error: bytes from a pipe on their way to the host.
pub(crate) struct Output {
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) ready: bool,
    pub(crate) window: SendWindow,
    lane: Lane,
    left_open: bool,
}

impl Output {
    fn new(fd: OwnedFd, lane: Lane) -> Self {
        Self { fd: Some(fd), ready: false, window: SendWindow::default(), lane, left_open: false }
    }

    /// Moves one frame's worth. `last`: the process is gone, so an empty pipe
    /// is the end, even where something it left behind still holds it open.
    fn pump(&mut self, stream: u32, port: &mut Port, scratch: &mut [u8], last: bool) -> bool {
        let limit = self.window.available().min(scratch.len()).min(MAX_PAYLOAD);
        let Some(fd) = self.fd.as_ref().filter(|_| self.ready && limit > 0 && port.has_room())
        else {
            return false;
        };
        match rustix::io::read(fd, &mut scratch[..limit]) {
            Ok(n) if n > 0 => {
                self.window.spend(n);
                encode(port.out(), stream, Kind::Data, self.lane, &scratch[..n]);
                return true;
            }
            Err(Errno::INTR) => return true,
            Err(Errno::AGAIN) if !last => self.ready = false,
            Err(Errno::AGAIN) => {
                self.left_open = true;
                self.fd = None;
            }
            Ok(_) | Err(_) => self.fd = None,
        }
        false
    }
}

/// Collects one child that has ended: its id, status and use of resources.
pub(crate) fn reap() -> io::Result<Option<(i32, i32, libc::rusage)>> {
    let mut status = 0;
    // SAFETY: an rusage is plain data, and all zeroes is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some((pid, status, usage))),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            e => Err(e),
        },
    }
}
