//! Datagrams to and from the hosts that are open for them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lampyr_proto::Card;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr,
};
use tokio::net::UdpSocket;

use crate::framing::{MAX_FRAME, Outbox};
use crate::gate::Ends;
use crate::rate::Way;
use crate::shared::Shared;

/// The most conversations at once.
const MAX_FLOWS: usize = 256;
/// A conversation is over when nothing was said for so long.
const IDLE: Duration = Duration::from_mins(1);
const ETHERNET: usize = 14;
const HOPS: u8 = 64;

struct Flow {
    socket: UdpSocket,
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
    pub(crate) fn open(&mut self, ends: Ends, now: Instant) -> io::Result<bool> {
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
        self.flows.insert(ends, Flow { socket, last: now });
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
    pub(crate) fn keep(&mut self, good: impl Fn(&Ends) -> bool) {
        self.flows.retain(|ends, _| good(ends));
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

/// Tells the guest a datagram. One that is too long for the card is dropped.
pub(crate) fn say(card: &Card, out: &mut Outbox, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let header = if from.is_ipv4() { 20 } else { 40 };
    let length = ETHERNET + header + 8 + payload.len();
    if length <= MAX_FRAME {
        out.push(length, |frame| write(card, frame, from, to, payload));
    }
}

fn write(card: &Card, bytes: &mut [u8], from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let checksums = ChecksumCapabilities::default();
    let payload_len = 8 + payload.len();
    let mut frame = EthernetFrame::new_unchecked(bytes);
    let v4 = from.is_ipv4();
    EthernetRepr {
        src_addr: EthernetAddress(Card::GATEWAY_MAC),
        dst_addr: EthernetAddress(card.mac),
        ethertype: if v4 { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 },
    }
    .emit(&mut frame);
    let body = match (from.ip(), to.ip()) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
            let next_header = IpProtocol::Udp;
            let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOPS };
            repr.emit(&mut packet, &checksums);
            packet.into_inner().get_mut(20..)
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
            let next_header = IpProtocol::Udp;
            let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOPS };
            repr.emit(&mut packet);
            packet.into_inner().get_mut(40..)
        }
        _ => None,
    };
    let Some(body) = body else { return };
    let (here, there) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let mut packet = UdpPacket::new_unchecked(body);
    let fill = |room: &mut [u8]| room.copy_from_slice(payload);
    repr.emit(&mut packet, &here, &there, payload.len(), fill, &checksums);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Heard, hear};

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        let v6 = std::net::Ipv6Addr::new(0xfd6c, 0, 0, 0, 0, 0, 0, 2);
        let card = Card { v6, ..crate::card::random() };
        // The guest's own view, so that the gate can read it.
        let mirrored = Card { mac: Card::GATEWAY_MAC, ..card };
        for (from, to) in [
            (SocketAddr::from((card.v4, 7)), SocketAddr::from(([93, 184, 216, 34], 9))),
            (SocketAddr::from((card.v6, 7)), SocketAddr::from(([0x2606, 0, 0, 0, 0, 0, 0, 1], 9))),
        ] {
            let mut out = Outbox::default();
            say(&card, &mut out, from, to, b"hello");
            let mut frame = out.waiting()[4..].to_vec();
            frame[..6].copy_from_slice(&Card::GATEWAY_MAC);
            let ends = Ends { guest: from, there: to };
            assert_eq!(hear(&mirrored, &frame), Heard::Datagram(ends, b"hello"));
            let last = frame.len() - 1;
            frame[last] ^= 1;
            assert_eq!(hear(&mirrored, &frame), Heard::Dropped);
        }
    }
}
