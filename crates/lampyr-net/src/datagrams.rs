//! Datagrams to and from the hosts that are open for them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lampyr_proto::Card;
use tokio::net::UdpSocket;

use crate::compose::say;
use crate::domain::Domain;
use crate::framing::{MAX_FRAME, Outbox};
use crate::gate::Ends;
use crate::rate::Way;
use crate::shared::Shared;

/// The most conversations at once.
const MAX_FLOWS: usize = 256;
/// A conversation is over when nothing was said for so long.
const IDLE: Duration = Duration::from_mins(1);

struct Flow {
    socket: UdpSocket,
    /// The names that gave the address when it began.
    names: Vec<Domain>,
    last: Instant,
}

/// The conversations.
pub(crate) struct Datagrams {
    flows: HashMap<Ends, Flow>,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(crate) fn new() -> Self {
        Self { flows: HashMap::new(), buffer: vec![0; MAX_FRAME] }
    }

    /// Whether this is one of a conversation that goes on.
    pub(crate) fn knows(&self, ends: &Ends) -> bool {
        self.flows.contains_key(ends)
    }

    /// Begins a conversation; false where there are too many.
    pub(crate) fn open(
        &mut self,
        ends: Ends,
        names: Vec<Domain>,
        now: Instant,
    ) -> io::Result<bool> {
        if self.flows.len() >= MAX_FLOWS {
            self.flows.retain(|_, flow| now.duration_since(flow.last) < IDLE);
        }
        if self.flows.len() >= MAX_FLOWS {
            return Ok(false);
        }
        let any: IpAddr = if ends.there.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(ends.there)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        self.flows.insert(ends, Flow { socket, names, last: now });
        Ok(true)
    }

    /// Passes a datagram on. One that does not go is lost, as they may be.
    pub(crate) fn send(&mut self, ends: &Ends, payload: &[u8], now: Instant, shared: &Shared) {
        let Some(flow) = self.flows.get_mut(ends) else { return };
        flow.last = now;
        // Not by way of the runtime, which knows nothing of a new socket yet.
        let flags = rustix::net::SendFlags::empty();
        if let Ok(sent) = rustix::net::send(&flow.socket, payload, flags) {
            shared.count(sent, 0);
        }
    }

    /// Keeps those conversations that may still be had.
    pub(crate) fn keep(&mut self, good: impl Fn(&Ends, &[Domain]) -> bool) {
        self.flows.retain(|ends, flow| good(ends, &flow.names));
    }

    /// Passes on what comes back. Returns whether anything did.
    pub(crate) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        card: &Card,
        out: &mut Outbox,
        limit: &mut Way,
        shared: &Shared,
    ) -> bool {
        let (mut moved, now) = (false, Instant::now());
        for (ends, flow) in &mut self.flows {
            while out.has_room() {
                let Poll::Ready(Ok(())) = flow.socket.poll_recv_ready(cx) else { break };
                let Ok(length) = flow.socket.try_recv(&mut self.buffer) else { continue };
                flow.last = now;
                moved = true;
                if !limit.passes(length) {
                    continue;
                }
                let payload = self.buffer.get(..length).unwrap_or_default();
                say(card, out, ends.there, ends.guest, payload);
                shared.count(0, length);
            }
        }
        moved
    }
}
