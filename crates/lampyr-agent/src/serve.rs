//! The agent's loop: one `epoll` over the channel, the children and their pipes.
//!
//! ```text
//! Silent --greeting--> Open --frames--> Open
//!   ^                   |
//!   +---- Quiesce, a broken frame, or a channel without a host
//! ```
//!
//! Leaving `Open` ends every process of that conversation. All descriptors
//! are edge-triggered: what is ready is remembered, and moved when there is
//! credit and room for it.

mod copied;
mod hear;
mod mounts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Instant;

use lampyr_proto::{
    Control, Event, Exec, Frame, GENERATION, Kind, Lane, MAX_PAYLOAD, Request, Resumed, Welcome,
    WireError, decode_message, encode, encode_message,
};
use rustix::event::epoll;

use crate::cgroup::Cgroups;
use crate::conversation::Conversation;
use crate::identity::{self, Identity, Scope};
use crate::mount::Mounted;
use crate::orphan::Orphan;
use crate::port::Port;
use crate::process::{self, Process};
use crate::spawn::{Parked, Spawned};
use crate::terminal::Terminal;
use crate::warm::Warmer;

use hear::HEARD;

const PORT: u64 = u64::MAX;
const CHILDREN: u64 = u64::MAX - 1;
const STILLNESS: u64 = u64::MAX - 2;

/// Serves the host on `port` for as long as the machine lives; as an ordinary
/// process, until the host is gone.
pub(crate) fn serve(port: OwnedFd, cgroups: Cgroups, scope: Scope) -> io::Result<()> {
    let mut server = Server::new(Port::new(port)?, cgroups, scope)?;
    while server.turn()? {}
    Ok(())
}

struct Server {
    epoll: OwnedFd,
    port: Port,
    children: OwnedFd,
    conversation: Conversation,
    processes: BTreeMap<u32, Process>,
    mounts: BTreeMap<u32, Mounted>,
    /// A mount had something to do in this turn.
    mount_used: bool,
    /// Streams that may have something to move.
    active: BTreeSet<u32>,
    cgroups: Cgroups,
    scope: Scope,
    scratch: Vec<u8>,
    /// What the host has said; the first `held` bytes are the start of a frame.
    heard: Vec<u8>,
    held: usize,
    host_gone: bool,
    identity: Option<Identity>,
    /// Saved and not yet told who it is now: nothing runs.
    nobody: bool,
    /// What runs was stopped, to be copied.
    frozen: bool,
    /// It is a copy, and has what connected the original still.
    connected: bool,
    /// Who waits until it stands still, and what tells that.
    freezing: Option<u32>,
    stillness: Option<File>,
    /// What runs on in a copy.
    orphans: BTreeMap<u64, Orphan>,
    next_orphan: u64,
    /// Both are parked before the machine is saved: the first command after a
    /// restore, and what is let go when the host says who we are.
    parked: Option<Parked>,
    warmer: Option<Warmer>,
    /// A warmer was let go once; this processor needs no more of them.
    warmed: bool,
}

impl Server {
    fn new(port: Port, cgroups: Cgroups, scope: Scope) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let children = child_signals()?;
        watch(&epoll, &port, PORT, epoll::EventFlags::IN | epoll::EventFlags::OUT)?;
        watch(&epoll, &children, CHILDREN, epoll::EventFlags::IN)?;
        let stillness = cgroups.events();
        if let Some(events) = &stillness {
            watch(&epoll, events, STILLNESS, epoll::EventFlags::PRI)?;
        }
        Ok(Self {
            epoll,
            port,
            children,
            conversation: Conversation::new(),
            processes: BTreeMap::new(),
            mounts: BTreeMap::new(),
            mount_used: false,
            active: BTreeSet::new(),
            cgroups,
            scope,
            scratch: vec![0; MAX_PAYLOAD],
            heard: vec![0; HEARD],
            held: 0,
            host_gone: false,
            identity: Identity::open(scope)?,
            nobody: false,
            frozen: false,
            connected: false,
            freezing: None,
            stillness,
            orphans: BTreeMap::new(),
            next_orphan: 0,
            parked: None,
            warmer: None,
            warmed: false,
        })
    }

    /// Waits for something to happen and deals with all of it. Returns whether
    /// to go on.
    fn turn(&mut self) -> io::Result<bool> {
        self.linger();
        for (token, writable) in self.wait()? {
            match token {
                PORT => self.hear()?,
                CHILDREN => self.collect_children()?,
                STILLNESS => self.see_stillness(),
                token if self.hears_orphan(token) => {}
                token => self.pipe_ready(token, writable),
            }
        }
        self.pump()?;
        Ok(!(self.host_gone && self.scope == Scope::Process))
    }

    fn wait(&self) -> io::Result<Vec<(u64, bool)>> {
        let mut events = Vec::with_capacity(64);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let out = epoll::EventFlags::OUT | epoll::EventFlags::ERR;
        Ok(events.iter().map(|e| (e.data.u64(), { e.flags }.intersects(out))).collect())
    }

    fn end_conversation(&mut self) {
        for process in std::mem::take(&mut self.processes).values() {
            process.kill();
        }
        self.mounts.clear();
        self.active.clear();
        self.port.forget_output();
        self.held = 0;
        self.conversation = Conversation::new();
    }

    /// The message switch: one line per kind of frame.
    fn obey(&mut self, frame: &Frame<&[u8]>) -> io::Result<Result<(), WireError>> {
        let stream = frame.stream;
        Ok(match frame.kind {
            Kind::Open if self.is_in_use(stream) => {
                Err(WireError::OutOfPlace("request on a stream that is in use"))
            }
            Kind::Open => match decode_message(frame.payload) {
                Ok(request) => self.answer(stream, request, frame.payload).map(Ok)?,
                Err(e) => Err(e),
            },
            Kind::Message => self.control(stream, frame.payload),
            Kind::Data => self.input(stream, frame.payload),
            Kind::End => {
                self.with(stream, |p| p.stdin.end());
                Ok(())
            }
            Kind::Credit => self.credit(frame),
            Kind::Close => {
                self.close(stream);
                Ok(())
            }
        })
    }

    /// The request switch: one line per request.
    fn answer(&mut self, stream: u32, request: Request, encoded: &[u8]) -> io::Result<()> {
        match request {
            Request::Hello(_) => self.say(stream, &Event::Welcome(welcome())),
            Request::Resumed(new) => self.resume(stream, &new)?,
            Request::Exec(_) | Request::Mount(_) if self.nobody => {
                self.say(stream, &Event::Failed("it does not know yet who it is".into()));
            }
            Request::Exec(exec) => self.start(stream, &exec, encoded),
            Request::Clock(ns) => self.set_clock(stream, ns),
            Request::Mount(mount) => self.mount(stream, &mount),
            Request::Quiesce => self.rest(stream)?,
            Request::Freeze => self.freeze(stream),
            Request::Thaw => {
                self.thaw();
                self.say(stream, &Event::Done);
            }
            Request::Start(_)
            | Request::Attach(_)
            | Request::Status
            | Request::Stop(_)
            | Request::Restrict(_)
            | Request::Copy(..)
            | Request::Log
            | Request::Undo(_)
            | Request::Suggest
            | Request::Detach => {
                self.say(stream, &Event::Failed("only who owns a session does that".into()));
            }
        }
        Ok(())
    }

    fn resume(&mut self, stream: u32, new: &Resumed) -> io::Result<()> {
        self.warm(new.crowd);
        let assumed = self.identity.as_mut().map_or(Ok(()), |identity| identity.assume(new));
        match assumed.and_then(|()| self.be_cut_off()) {
            Ok(()) => {
                self.nobody = false;
                self.thaw();
                self.say(stream, &Event::Done);
                // From now on the host counts: what follows must not delay it.
                self.port.flush()?;
            }
            Err(e) => self.say(stream, &Event::Failed(e.to_string())),
        }
        Ok(())
    }

    /// Warms the other processor. In a crowd that would take from others what
    /// it gains here.
    fn warm(&mut self, crowd: bool) {
        if crowd {
            // To end it now would be work for that processor, too.
            return;
        }
        if let Some(warmer) = self.warmer.take() {
            warmer.go();
            self.warmed = true;
        }
    }

    fn set_clock(&mut self, stream: u32, ns: u64) {
        let set = match self.scope {
            Scope::Machine => identity::set_clock(ns),
            Scope::Process => Ok(()),
        };
        let event = set.map_or_else(|e| Event::Failed(e.to_string()), |()| Event::Done);
        self.say(stream, &event);
    }

    /// Gets ready to be saved: what a restored guest will want is made now.
    fn rest(&mut self, stream: u32) -> io::Result<()> {
        self.parked = Parked::new(self.cgroups.take()).ok();
        self.warmer = if self.warmed { None } else { Warmer::park() };
        self.nobody = true;
        self.say(stream, &Event::Done);
        self.port.flush_all()?;
        self.end_conversation();
        Ok(())
    }

    fn start(&mut self, stream: u32, exec: &Exec, encoded: &[u8]) {
        let started = Instant::now();
        let parked = match self.parked.take() {
            Some(parked) => Ok(parked),
            None => Parked::new(self.cgroups.take()),
        };
        let spawned = parked.and_then(|parked| {
            parked.start(encoded, exec.terminal.map(Terminal::open).transpose()?)
        });
        match spawned.and_then(|child| self.watch_pipes(stream, child)) {
            Ok(child) => {
                self.processes.insert(stream, Process::new(child, started, &exec.job));
            }
            Err(e) => self.say(stream, &Event::Failed(format!("cannot start a process: {e}"))),
        }
    }

    fn is_in_use(&self, stream: u32) -> bool {
        self.processes.contains_key(&stream) || self.mounts.contains_key(&stream)
    }

    fn watch_pipes(&self, stream: u32, child: Spawned) -> io::Result<Spawned> {
        for (pipe, lane) in [(&child.stdin, 0), (&child.stdout, 1), (&child.stderr, 2)] {
            let flags = if lane == 0 { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            watch(&self.epoll, pipe, u64::from(stream) << 2 | lane, flags)?;
        }
        Ok(child)
    }

    fn say(&mut self, stream: u32, event: &Event) {
        encode(self.port.out(), stream, Kind::Message, Lane::Stdin, &encode_message(event));
    }

    /// Does something with a process, unless it has just ended.
    fn with(&mut self, stream: u32, act: impl FnOnce(&mut Process)) {
        if let Some(process) = self.processes.get_mut(&stream) {
            act(process);
        }
    }

    fn control(&mut self, stream: u32, payload: &[u8]) -> Result<(), WireError> {
        match decode_message(payload)? {
            Control::Signal(number) => self.with(stream, |p| p.signal(number)),
            Control::Resize(window) => self.with(stream, |p| p.resize(window)),
            Control::Behind(behind) => self.set_behind(stream, behind),
        }
        Ok(())
    }

    fn input(&mut self, stream: u32, bytes: &[u8]) -> Result<(), WireError> {
        if let Some(mounted) = self.mounts.get_mut(&stream) {
            self.mount_used = true;
            let grant = mounted.arrive(bytes)?;
            self.grant(stream, grant);
            return Ok(());
        }
        let Some(process) = self.processes.get_mut(&stream) else { return Ok(()) };
        let grant = process.stdin.arrive(bytes)?;
        self.grant(stream, grant);
        Ok(())
    }

    fn grant(&mut self, stream: u32, grant: Option<u32>) {
        if let Some(more) = grant {
            encode(self.port.out(), stream, Kind::Credit, Lane::Stdin, &more.to_le_bytes());
        }
    }

    fn credit(&mut self, frame: &Frame<&[u8]>) -> Result<(), WireError> {
        let more = frame.credit()?;
        if let Some(mounted) = self.mounts.get_mut(&frame.stream) {
            mounted.window.grant(more)?;
            self.active.insert(frame.stream);
            return Ok(());
        }
        let Some(process) = self.processes.get_mut(&frame.stream) else { return Ok(()) };
        match frame.lane {
            Lane::Stdin => return Err(WireError::OutOfPlace("credit for an input")),
            Lane::Stdout => process.stdout.window.grant(more)?,
            Lane::Stderr => process.stderr.window.grant(more)?,
        }
        self.active.insert(frame.stream);
        Ok(())
    }

    fn close(&mut self, stream: u32) {
        self.mounts.remove(&stream);
        if let Some(process) = self.processes.remove(&stream) {
            process.kill();
        }
    }

    fn collect_children(&mut self) -> io::Result<()> {
        let mut info = [0; 16 * size_of::<libc::signalfd_siginfo>()];
        while rustix::io::read(&self.children, &mut info).is_ok_and(|n| n > 0) {}
        while let Some((pid, status, usage)) = process::reap()? {
            // Anybody else is an orphan that was left to us.
            if let Some((stream, process)) = self.processes.iter_mut().find(|(_, p)| p.pid == pid) {
                process.reaped(status, &usage);
                self.active.insert(*stream);
            }
            self.mount_reaped(pid, status);
        }
        Ok(())
    }

    fn pipe_ready(&mut self, token: u64, writable: bool) {
        let (stream, lane) = ((token >> 2) as u32, token & 3);
        if let Some(mounted) = self.mounts.get_mut(&stream) {
            mounted.ready = true;
            self.mount_used = true;
            self.active.insert(stream);
            return;
        }
        let Some(process) = self.processes.get_mut(&stream) else { return };
        match lane {
            0 if writable => {
                let grant = process.stdin.pump(0);
                self.grant(stream, grant);
            }
            1 => process.stdout.ready = true,
            2 => process.stderr.ready = true,
            _ => {}
        }
        self.active.insert(stream);
    }

    /// Moves output round robin until nothing is ready, or nothing more goes
    /// into the channel; the channel's next edge continues then.
    fn pump(&mut self) -> io::Result<()> {
        loop {
            self.port.flush()?;
            for stream in std::mem::take(&mut self.active) {
                self.pump_one(stream);
            }
            if self.active.is_empty() || !self.port.has_room() {
                return self.port.flush();
            }
        }
    }

    fn pump_one(&mut self, stream: u32) {
        if let Some(mounted) = self.mounts.get_mut(&stream) {
            if mounted.pump(stream, &mut self.port) || !self.port.has_room() {
                self.active.insert(stream);
            }
            if mounted.is_over() {
                self.close(stream);
                self.say(stream, &Event::Done);
            }
            return;
        }
        let Some(process) = self.processes.get_mut(&stream) else { return };
        if process.pump(stream, &mut self.port, &mut self.scratch) || !self.port.has_room() {
            self.active.insert(stream);
        }
        if process.fell_silent() {
            self.say(stream, &Event::Done);
            return;
        }
        if let Some(exited) = process.finished() {
            self.say(stream, &Event::Exited(exited));
            self.active.remove(&stream);
            let group = self.processes.remove(&stream).and_then(Process::into_group);
            if let Some(group) = group {
                self.cgroups.give_back(group);
            }
        }
    }
}

fn welcome() -> Welcome {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Welcome { generation: GENERATION, kernel }
}

fn watch(epoll: &OwnedFd, fd: &impl AsFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
    let data = epoll::EventData::new_u64(token);
    Ok(epoll::add(epoll, fd, data, flags | epoll::EventFlags::ET)?)
}

/// A descriptor that is readable when a child has ended.
fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before use, lives through every call,
    // and the descriptor that signalfd returns is ours alone.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
