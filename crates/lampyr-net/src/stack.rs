//! The stack: one loop around the card, the guest's streams and our sockets.
//!
//! ```text
//! a first packet --the policy--> refused: a reset
//!   `--> held while we connect --no--> a reset
//!                    `--yes--> a socket of the stack's hears it: a `Relay`
//! ```
//!
//! So a guest is connected only to what is connected, and is refused at once.

mod datagram;
mod enforce;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lampyr_proto::Card;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{EthernetAddress, IpCidr, IpListenEndpoint};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::datagrams::Datagrams;
use crate::domain::Domain;
use crate::entropy;
use crate::framing::Inbox;
use crate::gate::{Ends, Heard, aim, hear};
use crate::guard::Guard;
use crate::ledger::Denied;
use crate::names::{self, Names};
use crate::opened::Opened;
use crate::peers::Peers;
use crate::policy::Reason;
use crate::queue::Queue;
use crate::rate::Limits;
use crate::reach::{Reach, reach};
use crate::relay::{Pumped, Relay};
use crate::rule::Protocol;
use crate::shared::Shared;

/// The most streams at once.
const MAX_STREAMS: usize = 1024;
/// The most that we are connecting at once.
const MAX_DIALS: usize = 256;
/// How long a host may take to answer.
const DIAL_WAIT: Duration = Duration::from_secs(10);
/// How long a guest may take to say that it has heard an answer.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// So many streams have large buffers; all others have small ones, so that
/// there is a bound on all of them together.
const LARGE: usize = 24;
const LARGE_BUFFER: usize = 128 << 10;
const SMALL_BUFFER: usize = 6 << 10;
/// How much is read from the card at a time.
const READ: usize = 64 << 10;
/// How often something may move before others have a turn.
const ROUNDS: usize = 16;

/// A stream that we are connecting: its first packet, by what it is open, and
/// who will watch it.
struct Held {
    frame: Vec<u8>,
    opened: Opened,
    guard: Option<Guard>,
}

pub(crate) struct Stack {
    line: UnixStream,
    card: Card,
    shared: Arc<Shared>,
    inbox: Inbox,
    buffer: Vec<u8>,
    queue: Queue,
    interface: Interface,
    sockets: SocketSet<'static>,
    streams: HashMap<Ends, Relay>,
    /// Those whose guest has said all and is gone.
    parted: Vec<Relay>,
    held: HashMap<Ends, Held>,
    dials: JoinSet<(Ends, io::Result<TcpStream>)>,
    datagrams: Datagrams,
    limits: Limits,
    names: Names,
    /// The other guests on its private network, where it is on one.
    peers: Option<Peers>,
    born: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Stack {
    pub(crate) fn new(
        line: UnixStream,
        card: Card,
        shared: Arc<Shared>,
        peers: Option<Peers>,
    ) -> Self {
        let mut queue = Queue::default();
        let born = Instant::now();
        Self {
            interface: interface(&mut queue),
            line,
            card,
            names: Names::new(card),
            limits: Limits::new(shared.rate, born),
            shared,
            inbox: Inbox::default(),
            buffer: vec![0; READ],
            queue,
            sockets: SocketSet::new(Vec::new()),
            streams: HashMap::new(),
            parted: Vec::new(),
            held: HashMap::new(),
            dials: JoinSet::new(),
            datagrams: Datagrams::new(),
            peers,
            born,
            alarm: Box::pin(sleep(Duration::ZERO)),
        }
    }

    /// Somebody else has read from the card before, and may have stopped within
    /// a frame.
    pub(crate) fn find_a_frame(&mut self) {
        self.inbox.seek(self.card.mac);
    }

    /// Serves the card until its other end is gone.
    pub(crate) async fn serve(mut self) {
        let mut policy = self.shared.changes();
        loop {
            tokio::select! {
                biased;
                changed = policy.changed() => match changed {
                    Ok(()) => self.enforce(),
                    Err(_) => return,
                },
                () = std::future::poll_fn(|cx| self.turn(cx)) => return,
            }
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            self.limits.begin(Instant::now());
            let Ok(heard) = self.hear(cx) else { return Poll::Ready(()) };
            let crossed = self.cross(cx);
            let dialled = self.dialled(cx);
            let (out, down) = (&mut self.queue.out, &mut self.limits.down);
            let said = self.names.pump(cx, out, &self.shared)
                | self.datagrams.pump(cx, &self.card, out, down, &self.shared);
            self.poll();
            let moved = self.pump(cx);
            if moved {
                self.poll();
            }
            let full = !self.queue.out.has_room();
            if self.flush(cx).is_err() {
                return Poll::Ready(());
            }
            // Whoever was not listened to for want of room is from now on.
            let eased = full && self.queue.out.has_room();
            if !(heard | crossed | dialled | said | moved | eased) && self.rests(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn now(&self) -> StackTime {
        StackTime::from_micros(i64::try_from(self.born.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    fn poll(&mut self) {
        let now = self.now();
        self.interface.poll(now, &mut self.queue, &mut self.sockets);
    }

    /// Sets the alarm for when the stack wants to be asked again. Returns
    /// whether that is later.
    fn rests(&mut self, cx: &mut Context<'_>) -> bool {
        let delay = self.interface.poll_delay(self.now(), &self.sockets);
        // A stack without room for what it wants to say waits for that room.
        let room = self.queue.out.has_room();
        let delay = delay.map(|delay| if room { delay.into() } else { Duration::from_secs(1) });
        let now = Instant::now();
        let waits = self.streams.values().filter_map(|relay| relay.wait(now));
        let delays = delay.into_iter().chain(self.limits.wait()).chain(waits);
        let Some(delay) = delays.min() else { return true };
        let at = tokio::time::Instant::now() + delay;
        self.alarm.as_mut().reset(at);
        self.alarm.as_mut().poll(cx).is_pending()
    }

    /// Hears some of what the guest says.
    fn hear(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if !self.queue.out.has_room() {
            return Ok(false);
        }
        let length = loop {
            match self.line.poll_read_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(ready) => ready?,
            }
            match self.line.try_read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => break length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        };
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.feed(self.buffer.get(..length).unwrap_or_default());
        let broken = |_| io::Error::from(io::ErrorKind::InvalidData);
        while let Some(frame) = inbox.next_frame().map_err(broken)? {
            self.obey(frame);
        }
        self.inbox = inbox;
        Ok(true)
    }

    /// Lets packets cross from and to the other guests.
    fn cross(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(peers) = &mut self.peers else { return false };
        peers.pump(cx, &self.card, &mut self.queue.out, &mut self.limits.down, &self.shared)
    }

    fn obey(&mut self, frame: &[u8]) {
        if let Some(peers) = &mut self.peers
            && let Some((to, packet)) = aim(&self.card, frame)
            && peers.send(to, packet, &mut self.limits.up, &self.shared)
        {
            return;
        }
        match hear(&self.card, frame) {
            Heard::Dropped => {}
            Heard::Stream(ends, true) if !self.streams.contains_key(&ends) => {
                self.begin(ends, frame);
            }
            // What belongs to no stream is answered by a reset.
            Heard::Gateway | Heard::Stream(..) => self.queue.heard.push_back(frame.to_vec()),
            Heard::Datagram(ends, payload)
                if Card::is_gateway(ends.there.ip()) && ends.there.port() == names::PORT =>
            {
                let out = &mut self.queue.out;
                self.names.ask(ends, payload, out, self.peers.as_ref(), &self.shared);
            }
            Heard::Datagram(ends, payload) => self.datagram(ends, payload),
        }
    }

    fn begin(&mut self, ends: Ends, frame: &[u8]) {
        if self.held.contains_key(&ends) {
            return;
        }
        let names = self.names.of(ends.there.ip());
        let opened =
            if self.is_full() { Err(Reason::TooMany) } else { self.judge(ends.there, names) };
        match opened {
            Ok((opened, guard)) => {
                let at_host = SocketAddr::from((Ipv4Addr::LOCALHOST, ends.there.port()));
                let to = if opened == Opened::Host { at_host } else { ends.there };
                self.held.insert(ends, Held { frame: frame.to_vec(), opened, guard });
                self.dials.spawn(async move { (ends, dial(to).await) });
            }
            Err(reason) => {
                let name = self.names.of(ends.there.ip()).first().map(Domain::to_string);
                self.shared.deny(Denied::connection(ends.there, name, "tcp", reason));
                self.queue.heard.push_back(frame.to_vec());
            }
        }
    }

    fn is_full(&self) -> bool {
        let streams = self.streams.len() + self.parted.len() + self.held.len();
        self.dials.len() >= MAX_DIALS || streams >= MAX_STREAMS
    }

    /// Whether a stream to there may begin, by what, and who watches it.
    fn judge(
        &self,
        there: SocketAddr,
        names: Vec<Domain>,
    ) -> Result<(Opened, Option<Guard>), Reason> {
        let (address, port) = (there.ip(), there.port());
        let policy = self.shared.policy();
        if Card::is_gateway(address) {
            let open = policy.opens_host(port, Protocol::Tcp);
            return if open { Ok((Opened::Host, None)) } else { Err(Reason::Host) };
        }
        if self.is_near(address) {
            return Err(Reason::NoPeer);
        }
        let (opened, need) = Opened::by(&policy, there, names)?;
        match reach(address) {
            Reach::Here => Err(Reason::Host),
            _ => Ok((opened, Some(Guard::new(need, port)))),
        }
    }

    /// Whether this is the address of another guest, or would be.
    fn is_near(&self, address: IpAddr) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.is_near(address))
    }

    /// Lets streams begin that we are connected for, and refuses the others.
    fn dialled(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(done)) = self.dials.poll_join_next(cx) {
            any = true;
            let Ok((ends, host)) = done else { continue };
            // Another policy may have ended it meanwhile.
            let Some(Held { frame, opened, guard }) = self.held.remove(&ends) else { continue };
            if let Ok(host) = host
                && let Some(handle) = self.listen(ends.there)
            {
                let relay = Relay::new(handle, ends.there, opened, host, guard);
                self.streams.insert(ends, relay);
                self.shared.opened();
            }
            // The socket, or the lack of one, answers.
            self.queue.heard.push_back(frame);
            self.poll();
        }
        any
    }

    fn listen(&mut self, there: SocketAddr) -> Option<smoltcp::iface::SocketHandle> {
        let size = if self.streams.len() + self.parted.len() < LARGE {
            LARGE_BUFFER
        } else {
            SMALL_BUFFER
        };
        let buffer = || SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(OPEN_WAIT.into()));
        let there = IpListenEndpoint { addr: Some(there.ip().into()), port: there.port() };
        socket.listen(there).ok()?;
        Some(self.sockets.add(socket))
    }

    /// Moves what can be moved on every stream.
    fn pump(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut any, mut over, mut left) = (false, Vec::new(), Vec::new());
        let all_heard = self.queue.heard.is_empty();
        for (ends, relay) in &mut self.streams {
            // Its first packet was one that the stack could not read. It must
            // not wait for that of another.
            if all_heard && relay.is_deaf(&self.sockets) {
                over.push(*ends);
                continue;
            }
            match relay.pump(cx, &mut self.sockets, &mut self.limits, &self.shared) {
                Pumped::Moved(moved) => any |= moved,
                Pumped::Refused(reason) => {
                    let name = relay.names().first().map(Domain::to_string);
                    self.shared.deny(Denied::connection(relay.there, name, "tcp", reason));
                    relay.cut(&mut self.sockets);
                    any = true;
                }
                Pumped::Left => left.push(*ends),
                Pumped::Over => over.push(*ends),
            }
        }
        for ends in over {
            self.remove(&ends);
        }
        let left: Vec<_> = left.iter().filter_map(|ends| self.remove(ends)).collect();
        self.parted.extend(left);
        any | self.pump_parted(cx)
    }

    fn remove(&mut self, ends: &Ends) -> Option<Relay> {
        let relay = self.streams.remove(ends)?;
        self.sockets.remove(relay.handle);
        Some(relay)
    }

    /// Moves what guests have said last on streams that are over for them.
    fn pump_parted(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut any, limit, shared) = (false, &mut self.limits.up, &self.shared);
        self.parted.retain_mut(|relay| match relay.bequeath(cx, limit, shared) {
            Pumped::Moved(moved) => {
                any |= moved;
                true
            }
            _ => false,
        });
        any
    }

    /// Says what there is to say.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.queue.out.next_piece().is_empty() {
            match self.line.poll_write_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready?,
            }
            match self.line.try_write(self.queue.out.next_piece()) {
                Ok(n) => self.queue.out.sent(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream = timeout(DIAL_WAIT, TcpStream::connect(to)).await.map_err(late)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn interface(queue: &mut Queue) -> Interface {
    let mut config = Config::new(EthernetAddress(Card::GATEWAY_MAC).into());
    config.random_seed = u64::from_ne_bytes(entropy::bytes());
    let mut interface = Interface::new(config, queue, StackTime::ZERO);
    interface.update_ip_addrs(|own| {
        // Whoever is spoken to is at the other end of this wire.
        let _ = own.push(IpCidr::new(Card::GATEWAY_V4.into(), 0));
        let _ = own.push(IpCidr::new(Card::GATEWAY_V6.into(), 0));
    });
    interface.set_any_ip(true);
    interface
}
