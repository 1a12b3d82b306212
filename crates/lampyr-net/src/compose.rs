//! Packets of our own making, for a guest to hear.

use std::net::{IpAddr, SocketAddr};

use lampyr_proto::Card;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4DstUnreachable,
    Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr, IpAddress,
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

use crate::framing::{ETHERNET, MAX_FRAME, Outbox};
use crate::gate::Ends;

const HOPS: u8 = 64;
const UDP: usize = 8;

/// What a packet is to be.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing {
    pub(crate) to_mac: [u8; 6],
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: IpProtocol,
}

/// Tells the guest a datagram. One that is too long for the card is dropped.
pub(crate) fn say(card: &Card, out: &mut Outbox, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let outgoing =
        Outgoing { to_mac: card.mac, from: from.ip(), to: to.ip(), protocol: IpProtocol::Udp };
    if ETHERNET + header(from.ip()) + UDP + payload.len() > MAX_FRAME {
        return;
    }
    compose(out, outgoing, UDP + payload.len(), |room| {
        let (here, there) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
        let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
        let fill = |room: &mut [u8]| room.copy_from_slice(payload);
        let mut packet = UdpPacket::new_unchecked(room);
        repr.emit(&mut packet, &here, &there, payload.len(), fill, &checksums());
    });
}

/// Ends a stream of the guest's, which wants byte `next`.
pub(crate) fn reset(card: &Card, out: &mut Outbox, ends: &Ends, next: u32) {
    let (from, to) = (ends.there, ends.guest);
    let repr = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control: TcpControl::Rst,
        seq_number: TcpSeqNumber(next.cast_signed()),
        ack_number: None,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let outgoing =
        Outgoing { to_mac: card.mac, from: from.ip(), to: to.ip(), protocol: IpProtocol::Tcp };
    compose(out, outgoing, repr.buffer_len(), |room| {
        let (here, there) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
        repr.emit(&mut TcpPacket::new_unchecked(room), &here, &there, &checksums());
    });
}

/// Tells the guest that nobody hears its datagrams there.
pub(crate) fn unreachable(card: &Card, out: &mut Outbox, ends: &Ends, length: usize) {
    let about = Outgoing {
        to_mac: card.mac,
        from: ends.there.ip(),
        to: ends.guest.ip(),
        protocol: if ends.there.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 },
    };
    let data = opening(ends, length);
    let payload_len = UDP + length;
    let (next_header, hop_limit) = (IpProtocol::Udp, HOPS);
    match (ends.guest.ip(), ends.there.ip()) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let header = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let reason = Icmpv4DstUnreachable::PortUnreachable;
            let repr = Icmpv4Repr::DstUnreachable { reason, header, data: &data };
            compose(out, about, repr.buffer_len(), |room| {
                repr.emit(&mut Icmpv4Packet::new_unchecked(room), &checksums());
            });
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let header = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let reason = Icmpv6DstUnreachable::PortUnreachable;
            let repr = Icmpv6Repr::DstUnreachable { reason, header, data: &data };
            compose(out, about, repr.buffer_len(), |room| {
                let mut packet = Icmpv6Packet::new_unchecked(room);
                repr.emit(&dst_addr, &src_addr, &mut packet, &checksums());
            });
        }
        _ => {}
    }
}

/// The header of a datagram of the guest's, by which it knows whose it was.
fn opening(ends: &Ends, length: usize) -> [u8; UDP] {
    let mut header = [0; UDP];
    let mut packet = UdpPacket::new_unchecked(&mut header);
    packet.set_src_port(ends.guest.port());
    packet.set_dst_port(ends.there.port());
    packet.set_len((UDP + length) as u16);
    header
}

/// Tells the guest a packet that somebody else has made.
pub(crate) fn pass(card: &Card, out: &mut Outbox, packet: &[u8]) {
    let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    out.push(ETHERNET + packet.len(), |bytes| {
        let mut frame = EthernetFrame::new_unchecked(bytes);
        ethernet(card.mac, v6).emit(&mut frame);
        frame.payload_mut().copy_from_slice(packet);
    });
}

fn header(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 } else { 40 }
}

fn checksums() -> ChecksumCapabilities {
    ChecksumCapabilities::default()
}

fn ethernet(to: [u8; 6], v6: bool) -> EthernetRepr {
    EthernetRepr {
        src_addr: EthernetAddress(Card::GATEWAY_MAC),
        dst_addr: EthernetAddress(to),
        ethertype: if v6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 },
    }
}

/// Writes a packet whose body is so long; `fill` writes that.
pub(crate) fn compose(
    out: &mut Outbox,
    outgoing: Outgoing,
    payload_len: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    let Outgoing { to_mac, from, to, protocol: next_header } = outgoing;
    out.push(ETHERNET + header(from) + payload_len, |bytes| {
        let mut frame = EthernetFrame::new_unchecked(bytes);
        ethernet(to_mac, from.is_ipv6()).emit(&mut frame);
        let room = frame.payload_mut();
        match (from, to) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                let hop_limit = HOPS;
                let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
                repr.emit(&mut Ipv4Packet::new_unchecked(&mut *room), &checksums());
            }
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                let hop_limit = HOPS;
                let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
                repr.emit(&mut Ipv6Packet::new_unchecked(&mut *room));
            }
            _ => return,
        }
        fill(room.get_mut(header(from)..).unwrap_or_default());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Heard, hear};

    /// Reads a packet to the guest with this card as the gate would read it if
    /// the guest had sent it, and once more with a damaged byte.
    fn assert_reads(card: &Card, out: &Outbox, expected: &Heard<'_>) {
        let mirrored = Card { mac: Card::GATEWAY_MAC, ..*card };
        let mut frame = out.next_piece()[4..].to_vec();
        frame[..6].copy_from_slice(&Card::GATEWAY_MAC);
        assert_eq!(hear(&mirrored, &frame), *expected);
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert_eq!(hear(&mirrored, &frame), Heard::Dropped);
    }

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        let v6 = std::net::Ipv6Addr::new(0xfd6c, 0, 0, 0, 0, 0, 0, 2);
        let card = Card { v6, ..crate::card::random() };
        for (from, to) in [
            (SocketAddr::from((card.v4, 7)), SocketAddr::from(([93, 184, 216, 34], 9))),
            (SocketAddr::from((card.v6, 7)), SocketAddr::from(([0x2606, 0, 0, 0, 0, 0, 0, 1], 9))),
        ] {
            let ends = Ends { guest: from, there: to };
            let mut out = Outbox::default();
            say(&card, &mut out, from, to, b"hello");
            assert_reads(&card, &out, &Heard::Datagram(ends, b"hello"));
            let mut out = Outbox::default();
            reset(&card, &mut out, &Ends { guest: to, there: from }, u32::MAX);
            assert_reads(&card, &out, &Heard::Stream(ends, false));
        }
    }

    #[test]
    fn a_refused_datagram_is_told_to_whom_it_was_for() {
        let v6 = std::net::Ipv6Addr::new(0xfd6c, 0, 0, 0, 0, 0, 0, 2);
        let card = Card { v6, ..crate::card::random() };
        let there = SocketAddr::from(([93, 184, 216, 34], 9));
        let mut out = Outbox::default();
        unreachable(&card, &mut out, &Ends { guest: (card.v4, 7).into(), there }, 5);
        let ip = Ipv4Packet::new_checked(&out.next_piece()[4 + ETHERNET..]).unwrap();
        assert_eq!((IpAddr::V4(ip.src_addr()), ip.dst_addr()), (there.ip(), card.v4));
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (3, 3));
        let about = Ipv4Packet::new_unchecked(icmp.data());
        assert_eq!(IpAddr::V4(about.dst_addr()), there.ip());
        assert_eq!(icmp.data()[20..26], [0, 7, 0, 9, 0, 13]);

        let there = SocketAddr::from(([0x2606, 0, 0, 0, 0, 0, 0, 1], 9));
        let mut out = Outbox::default();
        unreachable(&card, &mut out, &Ends { guest: (card.v6, 7).into(), there }, 5);
        let ip = Ipv6Packet::new_checked(&out.next_piece()[4 + ETHERNET..]).unwrap();
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
        assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (1, 4));
        assert_eq!(icmp.payload()[40..46], [0, 7, 0, 9, 0, 13]);
    }
}
