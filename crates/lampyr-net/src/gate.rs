//! What of a guest's frames is heard at all. A guest speaks for itself, from
//! its own addresses, in whole packets; whatever else it says is dropped.

use std::net::{IpAddr, SocketAddr};

use lampyr_proto::Card;
use smoltcp::wire::{
    ArpHardware, ArpOperation, ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpPacket, UdpPacket,
};

use crate::framing::{ETHERNET, MAX_FRAME};

/// The two ends of what a guest sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The guest's.
    pub guest: SocketAddr,
    /// The other.
    pub there: SocketAddr,
}

/// What a frame is.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Nothing that is listened to.
    Dropped,
    /// For the gateway itself: who has which address, is anybody there.
    Gateway,
    /// Part of a stream; whether it begins one.
    Stream(Ends, bool),
    /// A datagram.
    Datagram(Ends, &'a [u8]),
}

/// Tells what a frame of the guest with this card is.
pub fn hear<'a>(card: &Card, frame: &'a [u8]) -> Heard<'a> {
    look(card, frame).unwrap_or(Heard::Dropped)
}

fn look<'a>(card: &Card, bytes: &'a [u8]) -> Option<Heard<'a>> {
    let (ethertype, payload) = unpack(card, bytes)?;
    match ethertype {
        EthernetProtocol::Arp => arp(card, payload),
        EthernetProtocol::Ipv4 => v4(card, payload),
        EthernetProtocol::Ipv6 => v6(card, payload),
        EthernetProtocol::Unknown(_) => None,
    }
}

/// What a frame holds, if it is from the guest and to us.
fn unpack<'a>(card: &Card, bytes: &'a [u8]) -> Option<(EthernetProtocol, &'a [u8])> {
    let frame = EthernetFrame::new_checked(bytes).ok().filter(|_| bytes.len() <= MAX_FRAME)?;
    let to = frame.dst_addr();
    let ours = to == EthernetAddress(Card::GATEWAY_MAC) || !to.is_unicast();
    let honest = frame.src_addr() == EthernetAddress(card.mac) && ours;
    honest.then_some((frame.ethertype(), bytes.get(ETHERNET..)?))
}

/// The packet in a frame and where it is to go, whatever else is wrong with it.
pub(crate) fn aim<'a>(card: &Card, frame: &'a [u8]) -> Option<(IpAddr, &'a [u8])> {
    let (ethertype, packet) = unpack(card, frame)?;
    let to = match ethertype {
        EthernetProtocol::Ipv4 => Ipv4Packet::new_checked(packet).ok()?.dst_addr().into(),
        EthernetProtocol::Ipv6 => Ipv6Packet::new_checked(packet).ok()?.dst_addr().into(),
        _ => return None,
    };
    Some((to, packet))
}

/// Only about the two ends of this wire.
fn arp<'a>(card: &Card, payload: &[u8]) -> Option<Heard<'a>> {
    let packet = ArpPacket::new_checked(payload).ok()?;
    let known = packet.hardware_type() == ArpHardware::Ethernet
        && packet.protocol_type() == EthernetProtocol::Ipv4
        && (packet.hardware_len(), packet.protocol_len()) == (6, 4)
        && matches!(packet.operation(), ArpOperation::Request | ArpOperation::Reply);
    let honest = packet.source_hardware_addr() == card.mac
        && packet.source_protocol_addr() == card.v4.octets()
        && packet.target_protocol_addr() == Card::GATEWAY_V4.octets();
    (known && honest).then_some(Heard::Gateway)
}

fn v4<'a>(card: &Card, payload: &'a [u8]) -> Option<Heard<'a>> {
    let packet = Ipv4Packet::new_checked(payload).ok()?;
    let whole = !packet.more_frags() && packet.frag_offset() == 0;
    let honest = packet.version() == 4 && packet.verify_checksum() && packet.src_addr() == card.v4;
    let to = packet.dst_addr();
    if !whole || !honest || to.is_multicast() || to.is_broadcast() || to.is_unspecified() {
        return None;
    }
    let body = payload.get(packet.header_len().into()..packet.total_len().into())?;
    let protocol = packet.next_header();
    if protocol == IpProtocol::Icmp {
        let echo = Icmpv4Packet::new_checked(body).ok()?;
        let asks = echo.msg_type() == Icmpv4Message::EchoRequest && echo.verify_checksum();
        return (asks && to == Card::GATEWAY_V4).then_some(Heard::Gateway);
    }
    transport(card.v4.into(), to.into(), protocol, body)
}

fn v6<'a>(card: &Card, payload: &'a [u8]) -> Option<Heard<'a>> {
    let packet = Ipv6Packet::new_checked(payload).ok()?;
    let body = payload.get(packet.header_len()..packet.total_len())?;
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    if packet.version() != 6 || from.is_unspecified() {
        return None;
    }
    if packet.next_header() == IpProtocol::Icmpv6 {
        return icmpv6(card, &packet, body);
    }
    if from != card.v6 || to.is_multicast() || to.is_unspecified() {
        return None;
    }
    transport(card.v6.into(), to.into(), packet.next_header(), body)
}

/// Echoes to the gateway, and what neighbours must say.
fn icmpv6<'a>(card: &Card, packet: &Ipv6Packet<&[u8]>, body: &[u8]) -> Option<Heard<'a>> {
    let message = Icmpv6Packet::new_checked(body).ok()?;
    let (from, to) = (packet.src_addr(), packet.dst_addr());
    let own = from == card.v6 || from.is_unicast_link_local();
    if !own || !message.verify_checksum(&from, &to) {
        return None;
    }
    let heard = match message.msg_type() {
        Icmpv6Message::EchoRequest => from == card.v6 && to == Card::GATEWAY_V6,
        Icmpv6Message::NeighborSolicit | Icmpv6Message::NeighborAdvert => packet.hop_limit() == 255,
        _ => false,
    };
    heard.then_some(Heard::Gateway)
}

fn transport(from: IpAddr, to: IpAddr, protocol: IpProtocol, body: &[u8]) -> Option<Heard<'_>> {
    let (here, there) = (IpAddress::from(from), IpAddress::from(to));
    let ends = |ports: (u16, u16)| {
        let ends = Ends { guest: (from, ports.0).into(), there: (to, ports.1).into() };
        (ports.0 != 0 && ports.1 != 0).then_some(ends)
    };
    match protocol {
        IpProtocol::Tcp => {
            let packet = TcpPacket::new_checked(body).ok()?;
            let begins = packet.syn() && !packet.ack() && !packet.rst() && !packet.fin();
            let ends = ends((packet.src_port(), packet.dst_port()))?;
            packet.verify_checksum(&here, &there).then_some(Heard::Stream(ends, begins))
        }
        IpProtocol::Udp => {
            let packet = UdpPacket::new_checked(body).ok()?;
            let ends = ends((packet.src_port(), packet.dst_port()))?;
            let payload = body.get(8..usize::from(packet.len()))?;
            packet.verify_checksum(&here, &there).then_some(Heard::Datagram(ends, payload))
        }
        _ => None,
    }
}
