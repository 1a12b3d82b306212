//! One stream of a guest's and the connection of ours that stands for it; or,
//! where that is to the host of a secret, what comes between the two.
//!
//! Nothing is held but what the stack's own buffers hold, and the beginning of
//! a stream that is guarded: whoever is slow slows the other end.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use tokio::net::TcpStream;

use crate::domain::Domain;
use crate::far::Host;
use crate::guard::{Guard, MAX_HELD, Need, Spoken};
use crate::hello::is_tls;
use crate::opened::Opened;
use crate::policy::{Policy, Reason};
use crate::rate::{Limits, Way};
use crate::rule::Protocol;
use crate::shared::Shared;

/// How long the beginning of a stream may stay unclear where a glance is enough.
const UNCLEAR: Duration = Duration::from_millis(200);

/// A stream.
pub(crate) struct Relay {
    pub(crate) handle: SocketHandle,
    pub(crate) there: SocketAddr,
    pub(crate) opened: Opened,
    /// Whom it says that it is for.
    name: Option<Domain>,
    /// What is spoken on it, once nobody watches it any more.
    spoken: Spoken,
    host: Host,
    guard: Option<Guard>,
    /// What the guard holds, and how much of it may go.
    held: Vec<u8>,
    cleared: usize,
    /// Since when something is held.
    since: Option<Instant>,
    guest_done: bool,
    host_done: bool,
    /// Nothing but the guest's last acknowledgement is missing.
    parting: bool,
    noted: bool,
}

/// What became of a stream.
pub(crate) enum Pumped {
    /// Nothing, or whether anything moved.
    Moved(bool),
    /// It must not go on.
    Refused(Reason),
    /// The guest's end is gone, and what it said last is still to go.
    Left,
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
        Self {
            handle,
            there,
            opened,
            name: None,
            spoken: Spoken::Other,
            host: Host::Plain(host),
            guard,
            held: Vec::new(),
            cleared: 0,
            since: None,
            guest_done: false,
            host_done: false,
            parting: false,
            noted: false,
        }
    }

    /// Whom it is for, as far as that is known.
    pub(crate) fn names(&self) -> &[Domain] {
        self.name.as_ref().map_or(self.opened.names(), std::slice::from_ref)
    }

    /// Notes whom it has reached, once that is known: the names that lead
    /// there, and the address where no name opens it.
    fn note(&mut self, shared: &Shared) {
        if self.noted || (self.guard.is_some() && self.name.is_none()) {
            return;
        }
        self.noted = true;
        let (port, proto) = (self.there.port(), Protocol::Tcp.word());
        if self.opened == Opened::Host {
            return shared.reach("host".to_owned(), port, proto);
        }
        shared.reach_all(self.leading(), self.there, proto);
    }

    /// The names that lead there and by which it goes.
    fn leading(&self) -> &[Domain] {
        match &self.name {
            Some(name) if self.opened.names().contains(name) => std::slice::from_ref(name),
            Some(_) => &[],
            None => self.opened.names(),
        }
    }

    /// Holds it to another policy; fails where that does not allow it.
    pub(crate) fn heed(&mut self, policy: &Policy) -> Result<(), Reason> {
        let port = self.there.port();
        if self.opened == Opened::Host {
            let open = policy.opens_host(port, Protocol::Tcp);
            return if open { Ok(()) } else { Err(Reason::Host) };
        }
        let (opened, need) = Opened::by(policy, self.there, self.leading().to_vec())?;
        if let (Opened::Rule(..), Some(name)) = (&opened, &self.name) {
            opened.admits(policy, self.there, name)?;
        }
        let names = self.opened.names().to_vec();
        match opened {
            // What was to go by a name still does.
            Opened::Rule(n, _) if matches!(self.opened, Opened::Rule(..)) => {
                self.opened = Opened::Rule(n, names);
            }
            Opened::Names(_) => self.opened = Opened::Names(names),
            _ => {}
        }
        if self.meets(need) { Ok(()) } else { Err(Reason::NoHost) }
    }

    /// Whether it says all that there is need of, or is made to.
    fn meets(&mut self, need: Need) -> bool {
        let port = self.there.port();
        match &mut self.guard {
            Some(guard) if guard.watches(need) => true,
            Some(guard) if guard.is_fresh() && self.cleared == 0 => {
                *guard = Guard::new(need, port);
                true
            }
            Some(guard) => guard.spoken().meets(need, port, self.name.is_some()),
            None => self.spoken.meets(need, port, self.name.is_some()),
        }
    }

    /// How long until what is held may go as it is; `None`: it never may.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let since = self.since.filter(|_| self.guard.as_ref().is_some_and(Guard::is_fresh))?;
        UNCLEAR.checked_sub(now.duration_since(since)).filter(|wait| !wait.is_zero())
    }

    /// Ends it at once.
    pub(crate) fn cut(&mut self, sockets: &mut SocketSet<'_>) {
        self.parting = false;
        sockets.get_mut::<Socket<'_>>(self.handle).abort();
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
            State::TimeWait => return self.part(socket, shared),
            State::Closed if self.parting => return self.part(socket, shared),
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
        self.parting = socket.state() == State::LastAck;
        self.note(shared);
        Pumped::Moved(up | down | ended)
    }

    /// Takes what the guest said last: its end is over.
    fn part(&mut self, socket: &mut Socket<'_>, shared: &Arc<Shared>) -> Pumped {
        let held = &mut self.held;
        let mut take = |bytes: &mut [u8]| {
            held.extend_from_slice(bytes);
            (bytes.len(), bytes.len())
        };
        while socket.recv(&mut take).is_ok_and(|taken| taken > 0) {}
        let known = if self.guard.is_some() {
            self.watch(true, shared)
        } else {
            self.cleared = self.held.len();
            Ok(())
        };
        match known {
            Err(reason) => Pumped::Refused(reason),
            Ok(()) if self.held.is_empty() => Pumped::Over,
            Ok(()) => Pumped::Left,
        }
    }

    /// Moves what a guest that is gone has left.
    pub(crate) fn bequeath(
        &mut self,
        cx: &mut Context<'_>,
        limit: &mut Way,
        shared: &Shared,
    ) -> Pumped {
        let share = limit.share();
        let before = self.held.len();
        let sent = self.send_cleared(cx, share, shared);
        let moved = before - self.held.len();
        limit.spent(moved, moved >= share);
        self.note(shared);
        match sent {
            Ok(sent) if !self.held.is_empty() => Pumped::Moved(sent),
            Ok(_) => {
                self.host.end(cx);
                Pumped::Over
            }
            Err(_) => Pumped::Over,
        }
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
            self.watch(!socket.may_recv(), shared)?;
            let sent = match self.send_cleared(cx, usize::MAX, shared) {
                Ok(sent) => sent,
                Err(e) => return Ok(Err(e)),
            };
            if let Some(guard) = self.guard.as_ref().filter(|guard| guard.is_open())
                && self.held.is_empty()
            {
                self.spoken = guard.spoken();
                (self.guard, self.held) = (None, Vec::new());
                return Ok(self.up(cx, socket, limit, shared).map(|_| true));
            }
            if !heard && !sent {
                return Ok(Ok(moved));
            }
            moved = true;
        }
    }

    /// Clears what is good of what is held; `all`: the guest has said all.
    fn watch(&mut self, all: bool, shared: &Arc<Shared>) -> Result<(), Reason> {
        let open = self.is_open();
        self.judge(shared)?;
        self.tire();
        if !open && self.is_open() {
            self.come_between(shared)?;
        }
        if all { self.release() } else { Ok(()) }
    }

    /// Lets go what has been unclear for long enough.
    fn tire(&mut self) {
        let Some(guard) = self.guard.as_mut().filter(|guard| guard.is_fresh()) else { return };
        if self.held.is_empty() {
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= UNCLEAR && guard.tire(&self.held) {
            self.cleared = self.held.len();
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
    fn release(&mut self) -> Result<(), Reason> {
        let Some(guard) = &self.guard else { return Ok(()) };
        guard.end(self.held.get(self.cleared..).unwrap_or_default())?;
        self.cleared = self.held.len();
        Ok(())
    }

    /// Sends so much of what may go at most.
    fn send_cleared(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        shared: &Shared,
    ) -> io::Result<bool> {
        let (end, mut sent) = (self.cleared.min(most), 0);
        while sent < end {
            let bytes = self.held.get(sent..end).unwrap_or_default();
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
