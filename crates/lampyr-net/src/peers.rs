//! The lines to the other guests of a private network: one to the stack of
//! each, on which packets go as frames do on a card's line.
//!
//! The stack that comes later connects, and says who it is before all else.
//! Both ends judge each packet, its sender's before it goes and its reader's
//! after it came, so that no guest speaks for another. What finds no room is
//! lost, as on any wire: nobody waits for somebody who is slow.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};

use lampyr_proto::Card;
use tokio::net::{UnixListener, UnixStream};

use crate::compose::{pass, reset};
use crate::crossing::{Crossing, crossing};
use crate::domain::Domain;
use crate::framing::{Broken, Inbox, Outbox};
use crate::peer::{MAX_PEERS, Peer, Wire};
use crate::rate::Way;
use crate::shared::Shared;
use crate::streams::Streams;

/// The most lines, with those on which nobody has said yet who they are.
const MAX_LINES: usize = 2 * MAX_PEERS;
/// How much is read from a line at a time.
const READ: usize = 64 << 10;

/// All lines of a guest.
pub(crate) struct Peers {
    own: Peer,
    listener: UnixListener,
    lines: Vec<Line>,
    buffer: Vec<u8>,
}

/// A line to another guest's stack.
struct Line {
    stream: UnixStream,
    /// Who is there, once that was said.
    peer: Option<Peer>,
    inbox: Inbox,
    outbox: Outbox,
    /// The guest's streams there.
    streams: Streams,
}

impl Peers {
    /// Takes over a wire, within a runtime.
    pub(crate) fn new(wire: Wire) -> io::Result<Self> {
        let Wire { own, listener, lines } = wire;
        listener.set_nonblocking(true)?;
        let line = |(peer, stream): (Peer, std::os::unix::net::UnixStream)| {
            stream.set_nonblocking(true)?;
            Ok(Line::new(UnixStream::from_std(stream)?, Some(peer)))
        };
        Ok(Self {
            own,
            listener: UnixListener::from_std(listener)?,
            lines: lines.into_iter().map(line).collect::<io::Result<_>>()?,
            buffer: vec![0; READ],
        })
    }

    /// Whether this is the address of a guest on this network, or would be.
    pub(crate) fn is_near(&self, address: IpAddr) -> bool {
        self.own.is_near(address)
    }

    /// The guest of this name; our own has one, too.
    pub(crate) fn named(&self, name: &Domain) -> Option<&Peer> {
        let others = self.lines.iter().filter_map(|line| line.peer.as_ref());
        std::iter::once(&self.own).chain(others).find(|peer| peer.is_called(name))
    }

    /// Takes a packet for another guest; false where there is no such guest.
    pub(crate) fn send(
        &mut self,
        to: IpAddr,
        packet: &[u8],
        limit: &mut Way,
        shared: &Shared,
    ) -> bool {
        let is_there = |line: &&mut Line| line.peer.as_ref().is_some_and(|peer| peer.has(to));
        let Some(line) = self.lines.iter_mut().find(is_there) else { return false };
        let Some(peer) = &line.peer else { return false };
        let Some(Crossing { packet, stream }) = crossing(&self.own, peer, packet) else {
            return true;
        };
        if line.outbox.has_room() && limit.passes(packet.len()) {
            line.outbox.push(packet.len(), |room| room.copy_from_slice(packet));
            if let Some(segment) = stream {
                line.streams.sends(segment);
            }
            shared.count(packet.len(), 0);
        }
        true
    }

    /// Moves what can be moved. Returns whether anything did.
    pub(crate) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        card: &Card,
        out: &mut Outbox,
        limit: &mut Way,
        shared: &Shared,
    ) -> bool {
        let (mut moved, mut n) = (self.accept(cx), 0);
        // Room is scarce where somebody speaks without end: another is first.
        let turn = self.lines.len().min(1);
        self.lines.rotate_left(turn);
        while n < self.lines.len() {
            match self.turn(n, cx, card, out, limit, shared) {
                Ok(any) => (moved, n) = (moved | any, n + 1),
                Err(_) => {
                    self.lines.remove(n).tell_end(card, out);
                    moved = true;
                }
            }
        }
        moved
    }

    /// Takes the lines of those who have come. Nobody else's is taken.
    fn accept(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Ok((stream, _))) = self.listener.poll_accept(cx) {
            any = true;
            let own = rustix::process::geteuid().as_raw();
            let ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
            if ours && self.lines.len() < MAX_LINES {
                self.lines.push(Line::new(stream, None));
            }
        }
        any
    }

    /// One line's turn.
    fn turn(
        &mut self,
        n: usize,
        cx: &mut Context<'_>,
        card: &Card,
        out: &mut Outbox,
        limit: &mut Way,
        shared: &Shared,
    ) -> io::Result<bool> {
        let Some(line) = self.lines.get_mut(n) else { return Ok(false) };
        let heard = out.has_room() && line.hear(cx, &mut self.buffer)?;
        while let Some(frame) = line.inbox.next_frame().map_err(|Broken| broken())? {
            let Some(peer) = &line.peer else {
                line.peer = Some(meet(&self.own, frame)?);
                continue;
            };
            if let Some(Crossing { packet, stream }) = crossing(peer, &self.own, frame)
                && limit.passes(packet.len())
            {
                if let Some(segment) = stream {
                    line.streams.hears(segment);
                }
                pass(card, out, packet);
                shared.count(0, packet.len());
            }
        }
        line.flush(cx)?;
        Ok(heard)
    }
}

/// Reads who has come: somebody of our network, and not us.
fn meet(own: &Peer, hello: &[u8]) -> io::Result<Peer> {
    let peer: Peer = serde_json::from_slice(hello)?;
    let near = own.is_near(peer.v4.into()) && own.is_near(peer.v6.into());
    if near && !peer.is_like(own) { Ok(peer) } else { Err(broken()) }
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Line {
    fn new(stream: UnixStream, peer: Option<Peer>) -> Self {
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        Self { stream, peer, inbox, outbox, streams: Streams::default() }
    }

    /// Reads some of what has come.
    fn hear(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(ready) => ready?,
            }
            match self.stream.try_read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.inbox.feed(buffer.get(..length).unwrap_or_default());
                    return Ok(true);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.outbox.next_piece().is_empty() {
            match self.stream.poll_write_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready?,
            }
            match self.stream.try_write(self.outbox.next_piece()) {
                Ok(n) => self.outbox.sent(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Tells the guest that nobody is there any more, so that it does not wait.
    fn tell_end(self, card: &Card, out: &mut Outbox) {
        for (ends, next) in self.streams.living() {
            reset(card, out, &ends, next);
        }
    }
}
