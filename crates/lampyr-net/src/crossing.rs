//! What may cross from one VM of a private network to another: whole packets
//! between these two, of TCP, UDP, and echoes. Nothing else: no packet that
//! tells a VM of ways or of neighbours, so that nobody can be led astray.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpPacket, UdpPacket,
};

use crate::framing::MAX_PACKET;
use crate::gate::Ends;
use crate::peer::Peer;

/// The codes by which a VM says that nobody listens on a port.
const NO_PORT_V4: u8 = 3;
const NO_PORT_V6: u8 = 4;

/// A packet that may cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing<'a> {
    /// The packet, without what may have followed it.
    pub packet: &'a [u8],
    /// What it says of a stream, where it is of one.
    pub stream: Option<Segment>,
}

/// What a packet says of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The stream's ends, of which the guest's is the sender's.
    pub ends: Ends,
    /// Which byte its sender wants next, if any.
    pub next: Option<u32>,
    /// Whether its sender has said all.
    pub last: bool,
}

/// A packet taken apart.
struct Parts<'a> {
    packet: &'a [u8],
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    body: &'a [u8],
}

/// Tells whether a packet may cross.
pub fn crossing<'a>(from: &Peer, to: &Peer, packet: &'a [u8]) -> Option<Crossing<'a>> {
    let parts = match packet.first()? >> 4 {
        4 => v4(packet)?,
        6 => v6(packet)?,
        _ => return None,
    };
    let own = parts.packet.len() <= MAX_PACKET && from.has(parts.from) && to.has(parts.to);
    let stream = match parts.protocol {
        _ if !own => return None,
        IpProtocol::Tcp => Some(tcp(&parts)?),
        IpProtocol::Udp => udp(&parts).map(|()| None)?,
        IpProtocol::Icmp => icmp(&parts).map(|()| None)?,
        IpProtocol::Icmpv6 => icmpv6(&parts).map(|()| None)?,
        _ => return None,
    };
    Some(Crossing { packet: parts.packet, stream })
}

/// A packet with options could ask for detours.
fn v4(bytes: &[u8]) -> Option<Parts<'_>> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    let whole = !packet.more_frags() && packet.frag_offset() == 0;
    let plain = packet.header_len() == 20 && packet.verify_checksum();
    let length = usize::from(packet.total_len());
    let parts = Parts {
        packet: bytes.get(..length)?,
        from: packet.src_addr().into(),
        to: packet.dst_addr().into(),
        protocol: packet.next_header(),
        body: bytes.get(20..length)?,
    };
    (whole && plain).then_some(parts)
}

fn v6(bytes: &[u8]) -> Option<Parts<'_>> {
    let packet = Ipv6Packet::new_checked(bytes).ok()?;
    Some(Parts {
        packet: bytes.get(..packet.total_len())?,
        from: packet.src_addr().into(),
        to: packet.dst_addr().into(),
        protocol: packet.next_header(),
        body: bytes.get(packet.header_len()..packet.total_len())?,
    })
}

fn tcp(parts: &Parts<'_>) -> Option<Segment> {
    let segment = TcpPacket::new_checked(parts.body).ok()?;
    let ends = Ends {
        guest: SocketAddr::new(parts.from, segment.src_port()),
        there: SocketAddr::new(parts.to, segment.dst_port()),
    };
    let wants = segment.ack() && !segment.rst();
    let next = wants.then(|| segment.ack_number().0.cast_unsigned());
    let whole = segment.verify_checksum(&IpAddress::from(parts.from), &IpAddress::from(parts.to));
    whole.then_some(Segment { ends, next, last: segment.fin() })
}

fn udp(parts: &Parts<'_>) -> Option<()> {
    let datagram = UdpPacket::new_checked(parts.body).ok()?;
    let whole = datagram.verify_checksum(&IpAddress::from(parts.from), &IpAddress::from(parts.to));
    whole.then_some(())
}

/// What a port has to say is about a packet that the one who hears it sent.
fn icmp(parts: &Parts<'_>) -> Option<()> {
    let message = Icmpv4Packet::new_checked(parts.body).ok()?;
    let known = match message.msg_type() {
        Icmpv4Message::EchoRequest | Icmpv4Message::EchoReply => true,
        Icmpv4Message::DstUnreachable => {
            let about = Ipv4Packet::new_unchecked(message.data().get(..20)?);
            let (from, to) = (IpAddr::V4(about.src_addr()), IpAddr::V4(about.dst_addr()));
            message.msg_code() == NO_PORT_V4 && (from, to) == (parts.to, parts.from)
        }
        _ => false,
    };
    (known && message.verify_checksum()).then_some(())
}

fn icmpv6(parts: &Parts<'_>) -> Option<()> {
    let message = Icmpv6Packet::new_checked(parts.body).ok()?;
    let known = match message.msg_type() {
        Icmpv6Message::EchoRequest | Icmpv6Message::EchoReply => true,
        Icmpv6Message::DstUnreachable => {
            let about = Ipv6Packet::new_unchecked(message.payload().get(..40)?);
            let (from, to) = (IpAddr::V6(about.src_addr()), IpAddr::V6(about.dst_addr()));
            message.msg_code() == NO_PORT_V6 && (from, to) == (parts.to, parts.from)
        }
        _ => false,
    };
    let (IpAddr::V6(from), IpAddr::V6(to)) = (parts.from, parts.to) else { return None };
    (known && message.verify_checksum(&from, &to)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::{Outgoing, compose};
    use crate::framing::{ETHERNET, Outbox};
    use crate::peer::peer_name;

    fn peers() -> [Peer; 3] {
        let mut all: Vec<Peer> = Vec::new();
        for name in ["a", "b", "c"] {
            let peer = Peer::new(peer_name(name).unwrap(), &all).unwrap();
            all.push(peer);
        }
        all.try_into().unwrap()
    }

    /// A packet between two addresses, as it would come out of a card.
    fn packet(from: IpAddr, to: IpAddr, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
        let mut out = Outbox::default();
        let outgoing = Outgoing { to_mac: [2; 6], from, to, protocol };
        compose(&mut out, outgoing, body.len(), |room| room.copy_from_slice(body));
        out.next_piece()[4 + ETHERNET..].to_vec()
    }

    fn internet_checksum(bytes: &[u8]) -> u16 {
        let pairs =
            bytes.chunks(2).map(|b| u32::from(b[0]) << 8 | u32::from(*b.get(1).unwrap_or(&0)));
        let sum: u32 = pairs.sum();
        !(((sum & 0xffff) + (sum >> 16)) as u16)
    }

    fn icmp_message(kind: u8, code: u8, data: &[u8]) -> Vec<u8> {
        let mut message = [&[kind, code, 0, 0, 0, 0, 0, 0], data].concat();
        let sum = internet_checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// A datagram without a checksum, as IPv4 has them.
    const DATAGRAM: [u8; 12] = [0, 7, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4];

    #[test]
    fn only_what_is_between_two_peers_crosses() {
        let [a, b, c] = peers();
        let (own, there) = (IpAddr::V4(a.v4), IpAddr::V4(b.v4));
        let good = packet(own, there, IpProtocol::Udp, &DATAGRAM);
        let found = crossing(&a, &b, &good).unwrap();
        assert_eq!((found.packet, found.stream), (good.as_slice(), None));
        // What follows a packet does not cross with it.
        assert_eq!(crossing(&a, &b, &[&good[..], b"more"].concat()).unwrap().packet, good);
        assert_eq!(crossing(&b, &a, &good), None);
        assert_eq!(crossing(&c, &b, &good), None);
        assert_eq!(crossing(&a, &c, &good), None);
        let mut cut: Vec<_> = (0..good.len()).map(|n| good[..n].to_vec()).collect();
        let mut fragment = good.clone();
        fragment[6] |= 0x20;
        fragment[10..12].fill(0);
        let sum = internet_checksum(&fragment[..20]);
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        cut.push(fragment);
        cut.push(packet(own, there, IpProtocol::Unknown(47), &DATAGRAM));
        cut.push(packet(own, there, IpProtocol::Tcp, &[0; 20]));
        assert!(cut.iter().all(|bad| crossing(&a, &b, bad).is_none()));
        // Too long to go over any card.
        let long = vec![0; MAX_PACKET];
        assert_eq!(crossing(&a, &b, &packet(own, there, IpProtocol::Udp, &long)), None);
    }

    #[test]
    fn a_message_crosses_only_about_what_its_reader_has_sent() {
        let [a, b, c] = peers();
        let (own, there) = (IpAddr::V4(a.v4), IpAddr::V4(b.v4));
        let sent = |from: &Peer, to: &Peer| {
            packet(from.v4.into(), to.v4.into(), IpProtocol::Udp, &DATAGRAM)
        };
        let crosses = |kind, code, data: &[u8]| {
            let message = icmp_message(kind, code, data);
            crossing(&a, &b, &packet(own, there, IpProtocol::Icmp, &message)).is_some()
        };
        assert!(crosses(8, 0, b"ping") && crosses(0, 0, b"pong"));
        assert!(crosses(3, 3, &sent(&b, &a)));
        assert!(!crosses(3, 3, &sent(&b, &c)), "about somebody else's");
        assert!(!crosses(3, 3, b"short"));
        assert!(!crosses(3, 4, &sent(&b, &a)), "a smaller packet is asked for");
        assert!(!crosses(5, 1, &sent(&b, &a)), "another way is shown");
    }

    #[test]
    fn neighbours_are_not_spoken_of() {
        let [a, b, _] = peers();
        for kind in [133, 134, 135, 136, 137] {
            let body = [&[kind, 0, 0, 0], &[0; 60][..]].concat();
            let bad = packet(a.v6.into(), b.v6.into(), IpProtocol::Icmpv6, &body);
            assert_eq!(crossing(&a, &b, &bad), None);
        }
    }
}
