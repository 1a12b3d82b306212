//! One stream of a guest's and the connection of ours that stands for it; or,
//! where that is to the host of a secret, what comes between the two.
//!
//! Nothing is held but what the stack's own buffers hold, and the beginning of
//! a stream that is guarded: whoever is slow slows the other end.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::domain::Domain;
use crate::guard::{Guard, MAX_HELD};
use crate::hello::is_tls;
use crate::policy::{Policy, Reason, Verdict};
use crate::rate::{Limits, Way};
use crate::rule::{Flow, Protocol};
use crate::shared::Shared;

/// By what a stream was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// By one of these names, which gave the address.
    Names(Vec<Domain>),
    /// By the rule of this number, for its address.
    Rule(usize),
    /// By the gateway, for a port of this host.
    Host,
}

impl Opened {
    /// Whether a stream to there may go by this name.
    pub(crate) fn admits(
        &self,
        policy: &Policy,
        there: SocketAddr,
        name: &Domain,
    ) -> Result<(), Reason> {
        let (address, port, protocol) = (there.ip(), there.port(), Protocol::Tcp);
        match self {
            Self::Host => Ok(()),
            Self::Rule(n) => policy.passes(name, port, *n),
            Self::Names(pinned) if !pinned.contains(name) => Err(Reason::OtherHost),
            Self::Names(_) => {
                let names = std::slice::from_ref(name);
                match policy.judge(&Flow { address, port, protocol, names }) {
                    Verdict::Deny(reason) => Err(reason),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The other end of a stream.
enum Host {
    /// The host itself.
    Plain(TcpStream),
    /// What comes between, in plain sight of nobody but us.
    Between(DuplexStream),
    /// Nobody any more.
    Nobody,
}

impl Host {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Between(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Nobody => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Reads some bytes; none: there are no more.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        let read = match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Between(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Nobody => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        read.map_ok(|()| room.filled().len())
    }

    /// Says that nothing more comes from the guest.
    fn end(&mut self, cx: &mut Context<'_>) {
        let _ = match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Between(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Nobody => Poll::Ready(Ok(())),
        };
    }
}

/// A stream.
pub(crate) struct Relay {
    pub(crate) handle: SocketHandle,
    pub(crate) there: SocketAddr,
    opened: Opened,
    /// Whom it says that it is for.
    name: Option<Domain>,
    host: Host,
    guard: Option<Guard>,
    /// What the guard holds, and how much of it may go.
    held: Vec<u8>,
    cleared: usize,
    guest_done: bool,
    host_done: bool,
    noted: bool,
}

/// What became of a stream.
pub(crate) enum Pumped {
    /// Nothing, or whether anything moved.
    Moved(bool),
    /// It must not go on.
    Refused(Reason),
    /// Nothing of it is left.
    Over,
}

impl Relay {
    pub(crate) fn new(
        handle: SocketHandle,
        there: SocketAddr,
        opened: Opened,
        host: TcpStream,
        guard: Option<Guard>,
    ) -> Self {
        let (held, cleared, host) = (Vec::new(), 0, Host::Plain(host));
        let (guest_done, host_done) = (false, false);
        let (name, noted) = (None, false);
        Self {
            noted,
            handle,
            there,
            opened,
            name,
            host,
            guard,
            held,
            cleared,
            guest_done,
            host_done,
        }
    }

    /// Whom it is for, as far as that is known.
    pub(crate) fn names(&self) -> &[Domain] {
        match (&self.name, &self.opened) {
            (Some(name), _) => std::slice::from_ref(name),
            (None, Opened::Names(names)) => names,
            _ => &[],
        }
    }

    /// Notes whom it has reached, once that is known.
    fn note(&mut self, shared: &Shared) {
        if self.noted || (self.guard.is_some() && self.name.is_none()) {
            return;
        }
        self.noted = true;
        let address = || self.there.ip().to_canonical().to_string();
        let host = match (&self.opened, self.names().first()) {
            (Opened::Host, _) => "host".to_owned(),
            (_, name) => name.map_or_else(address, Domain::to_string),
        };
        shared.reach(host, self.there.port(), Protocol::Tcp.word());
    }

    /// Whether another policy allows it, too.
    pub(crate) fn fits(&mut self, policy: &Policy) -> bool {
        let (address, port, protocol) = (self.there.ip(), self.there.port(), Protocol::Tcp);
        let verdict = policy.judge(&Flow { address, port, protocol, names: self.names() });
        match (&self.opened, verdict) {
            (Opened::Host, _) => policy.opens_host(port, protocol),
            (Opened::Names(_), verdict) => !matches!(verdict, Verdict::Deny(_)),
            (Opened::Rule(_), Verdict::ByAddress(n)) => {
                self.opened = Opened::Rule(n);
                self.names().iter().all(|name| policy.passes(name, port, n).is_ok())
            }
            // What was not watched for its name cannot go by one.
            (Opened::Rule(_), _) => false,
        }
    }

    /// Whether its guest's first packet has not reached it.
    pub(crate) fn is_deaf(&self, sockets: &SocketSet<'_>) -> bool {
        sockets.get::<Socket<'_>>(self.handle).state() == State::Listen
    }

    /// Moves what can be moved, both ways.
    pub(crate) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        sockets: &mut SocketSet<'_>,
        limits: &mut Limits,
        shared: &Arc<Shared>,
    ) -> Pumped {
        let socket = sockets.get_mut::<Socket<'_>>(self.handle);
        match socket.state() {
            State::TimeWait => return Pumped::Over,
            // A reset that is still to be said keeps its other end.
            State::Closed if socket.remote_endpoint().is_none() => return Pumped::Over,
            State::Closed | State::SynReceived | State::Listen => return Pumped::Moved(false),
            // From now on a guest that is slow is just that.
            _ => socket.set_timeout(None),
        }
        let up = match self.guard {
            Some(_) => match self.guarded(cx, socket, &mut limits.up, shared) {
                Ok(up) => up,
                Err(reason) => return Pumped::Refused(reason),
            },
            None => self.up(cx, socket, &mut limits.up, shared),
        };
        let (Ok(up), Ok(down)) = (up, self.down(cx, socket, &mut limits.down, shared)) else {
            socket.abort();
            return Pumped::Moved(true);
        };
        let ended = self.end_up(cx, socket);
        self.note(shared);
        Pumped::Moved(up | down | ended)
    }

    /// From the guest, straight on.
    fn up(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket<'_>,
        limit: &mut Way,
        shared: &Shared,
    ) -> io::Result<bool> {
        let (share, mut moved) = (limit.share(), 0);
        while socket.can_recv() && moved < share {
            let host = &mut self.host;
            let sent =
                socket.recv(|bytes| match host.poll_write(cx, first(bytes, share - moved)) {
                    Poll::Ready(Ok(n)) => (n, Poll::Ready(Ok(n))),
                    other => (0, other),
                });
            let Ok(Poll::Ready(sent)) = sent else { break };
            let sent = sent?;
            shared.count(sent, 0);
            moved += sent;
        }
        limit.spent(moved, moved >= share && socket.can_recv());
        Ok(moved > 0)
    }

    /// From the guest, by way of the guard.
    fn guarded(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket<'_>,
        limit: &mut Way,
        shared: &Arc<Shared>,
    ) -> Result<io::Result<bool>, Reason> {
        let mut moved = false;
        loop {
            let heard = self.hold(socket, limit);
            let open = self.is_open();
            self.judge(shared)?;
            if !open && self.is_open() {
                self.come_between(shared)?;
            }
            self.release(socket)?;
            let sent = match self.send_cleared(cx, shared) {
                Ok(sent) => sent,
                Err(e) => return Ok(Err(e)),
            };
            if self.is_open() && self.held.is_empty() {
                (self.guard, self.held) = (None, Vec::new());
                return Ok(self.up(cx, socket, limit, shared).map(|_| true));
            }
            if !heard && !sent {
                return Ok(Ok(moved));
            }
            moved = true;
        }
    }

    fn hold(&mut self, socket: &mut Socket<'_>, limit: &mut Way) -> bool {
        let (room, share) = (MAX_HELD.saturating_sub(self.held.len()), limit.share());
        if room == 0 || !socket.can_recv() {
            return false;
        }
        let held = &mut self.held;
        let taken = socket.recv(|bytes| {
            let taken = first(bytes, room.min(share));
            held.extend_from_slice(taken);
            (taken.len(), taken.len())
        });
        let taken = taken.unwrap_or(0);
        limit.spent(taken, taken >= share);
        taken > 0
    }

    fn judge(&mut self, shared: &Shared) -> Result<(), Reason> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let policy = shared.policy();
        let (opened, there) = (&self.opened, self.there);
        let seen = RefCell::new(None);
        let judge = |name: &Domain| {
            seen.replace(Some(name.clone()));
            opened.admits(&policy, there, name)
        };
        let done = loop {
            let next = self.held.get(self.cleared..).unwrap_or_default();
            match guard.clear(next, judge) {
                Ok(0) => break Ok(()),
                Ok(n) => self.cleared += n,
                Err(reason) => break Err(reason),
            }
        };
        self.name = seen.into_inner().or(self.name.take());
        done
    }

    fn is_open(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_open)
    }

    /// Lets no hello through to the host of a secret: that is ours to answer.
    fn come_between(&mut self, shared: &Arc<Shared>) -> Result<(), Reason> {
        let (Some(interceptor), Some(name)) = (&shared.interceptor, &self.name) else {
            return Ok(());
        };
        // All that the guest has said so far is held.
        if !is_tls(&self.held) || !interceptor.is_for(name) {
            return Ok(());
        }
        if let Host::Plain(server) = std::mem::replace(&mut self.host, Host::Nobody) {
            self.host = Host::Between(interceptor.begin(name, self.there, server, shared)?);
        }
        Ok(())
    }

    /// What is held when the guest has said all is judged as it is.
    fn release(&mut self, socket: &Socket<'_>) -> Result<(), Reason> {
        let Some(guard) = self.guard.as_ref().filter(|_| !socket.may_recv()) else { return Ok(()) };
        guard.end(self.held.get(self.cleared..).unwrap_or_default())?;
        self.cleared = self.held.len();
        Ok(())
    }

    fn send_cleared(&mut self, cx: &mut Context<'_>, shared: &Shared) -> io::Result<bool> {
        let mut sent = 0;
        while sent < self.cleared {
            let bytes = self.held.get(sent..self.cleared).unwrap_or_default();
            let Poll::Ready(written) = self.host.poll_write(cx, bytes) else { break };
            sent += written?;
        }
        self.held.drain(..sent);
        self.cleared -= sent;
        shared.count(sent, 0);
        Ok(sent > 0)
    }

    /// To the guest.
    fn down(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket<'_>,
        limit: &mut Way,
        shared: &Shared,
    ) -> io::Result<bool> {
        let (share, mut count, mut moved) = (limit.share(), 0, false);
        while !self.host_done && socket.can_send() && count < share {
            let (host, most) = (&mut self.host, share - count);
            let read = socket.send(|room| match host.poll_read(cx, first_mut(room, most)) {
                Poll::Ready(Ok(n)) => (n, Poll::Ready(Ok(n))),
                other => (0, other),
            });
            let Ok(Poll::Ready(read)) = read else { break };
            let read = read?;
            if read == 0 {
                socket.close();
                self.host_done = true;
            }
            shared.count(0, read);
            count += read;
            moved = true;
        }
        limit.spent(count, count >= share && !self.host_done);
        Ok(moved)
    }

    /// Passes on that the guest has said all.
    fn end_up(&mut self, cx: &mut Context<'_>, socket: &mut Socket<'_>) -> bool {
        if self.guest_done || socket.may_recv() || !self.held.is_empty() {
            return false;
        }
        self.guest_done = true;
        self.host.end(cx);
        true
    }
}

/// The first of some bytes, so many at most.
fn first(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

fn first_mut(bytes: &mut [u8], most: usize) -> &mut [u8] {
    let length = bytes.len().min(most);
    bytes.get_mut(..length).unwrap_or_default()
}
