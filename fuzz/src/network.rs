//! Properties of `lampyr-net`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use lampyr_net::{
    Access, Class, Crossing, Domain, Guard, Heard, Inbox, Kind, Need, Peer, Policy, Question,
    Reason, class, crossing, hear, hear_answer, read_policy, serve_here,
};
use lampyr_proto::Card;
use tokio::runtime::Runtime;

use crate::memory::within;
use crate::pieces::{cuttings, however_cut};

/// The buffers of a stack, which it has whatever comes: half a megabyte may
/// wait for the card, in a vector that grows.
const BUFFERS: usize = 2 << 20;
const CARD: Card = Card {
    mac: [2, 0x6c, 0x70, 1, 2, 3],
    v4: Ipv4Addr::new(100, 64, 1, 2),
    v6: Ipv6Addr::new(0xfd6c, 0x616d, 0x7079, 1, 0, 0, 0, 2),
};

/// The guest with the card, and another on its private network, which has the
/// addresses that all frames here are for.
static PEERS: LazyLock<[Peer; 2]> = LazyLock::new(|| {
    let peer = |name, v4, v6| {
        let name = Domain::parse(name).unwrap_or_else(|at| panic!("no name at {at}"));
        Peer { name, v4, v6 }
    };
    let other = peer("other", Card::GATEWAY_V4, Card::GATEWAY_V6);
    [peer("own", CARD.v4, CARD.v6), other]
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.unwrap_or_else(|error| panic!("no runtime: {error}"))
});

/// A guest speaks for itself alone, frames and streams are the same however
/// they are cut, and a stack takes no more memory than it always does.
pub fn network(bytes: &[u8]) {
    let said = framed(bytes);
    for stream in [bytes, &said] {
        for frame in however_cut(stream, frames).0 {
            from_the_guest(&frame);
        }
        within(BUFFERS + 100 * stream.len(), || play(stream));
    }
    for need in [Need::Name, Need::Glance] {
        for port in [80, 5000] {
            guarded(bytes, need, port);
        }
    }
    names(bytes);
}

fn frames(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut inbox, mut frames) = (Inbox::default(), Vec::new());
    for piece in pieces {
        inbox.feed(piece);
        loop {
            match inbox.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fn from_the_guest(frame: &[u8]) {
    if let Heard::Stream(ends, _) | Heard::Datagram(ends, _) = hear(&CARD, frame) {
        let own = [IpAddr::V4(CARD.v4), IpAddr::V6(CARD.v6)];
        assert!(own.contains(&ends.guest.ip()), "heard for {}", ends.guest);
    }
    if let Some(packet) = frame.get(14..) {
        to_a_peer(packet);
    }
}

/// What crosses to another guest is for that one, from this one, and no longer
/// than it was.
fn to_a_peer(packet: &[u8]) {
    let [own, peer] = &*PEERS;
    let Some(Crossing { packet: crosses, stream }) = crossing(own, peer, packet) else { return };
    assert!(packet.starts_with(crosses));
    let (from, to) = match crosses.first().map(|first| first >> 4) {
        Some(4) => (crosses.get(12..16), crosses.get(16..20)),
        _ => (crosses.get(8..24), crosses.get(24..40)),
    };
    let is = |peer: &Peer, bytes: Option<&[u8]>| {
        bytes == Some(&peer.v4.octets()) || bytes == Some(&peer.v6.octets())
    };
    assert!(is(own, from) && is(peer, to), "{crosses:?} crossed");
    assert!(
        stream.is_none_or(|part| own.has(part.ends.guest.ip()) && peer.has(part.ends.there.ip()))
    );
}

/// Lets a stack that opens nothing hear all of it.
fn play(stream: &[u8]) {
    let Ok((mut guest, host)) = UnixStream::pair() else { panic!("no sockets") };
    let ready = host.set_nonblocking(true).and_then(|()| guest.write_all(stream));
    ready.and_then(|()| guest.shutdown(std::net::Shutdown::Write)).unwrap_or_default();
    let _ = RUNTIME.block_on(serve_here(host, CARD, Access::default()));
    let _ = guest.set_nonblocking(true);
    let _ = guest.read(&mut [0; 4096]);
}

/// What passes a guard is the same however it comes, and is its beginning.
fn guarded(stream: &[u8], need: Need, port: u16) {
    let judge = |name: &Domain| {
        if name.as_str().starts_with('a') { Ok(()) } else { Err(Reason::OtherHost) }
    };
    let passed = |pieces: &[&[u8]]| {
        let (mut guard, mut held, mut passed) = (Guard::new(need, port), Vec::new(), 0);
        for piece in pieces {
            held.extend_from_slice(piece);
            loop {
                match guard.clear(&held, judge) {
                    Ok(0) => break,
                    Ok(n) => {
                        assert!(n <= held.len(), "more passes than there is");
                        held.drain(..n);
                        passed += n;
                    }
                    Err(reason) => return (passed, Some(reason)),
                }
            }
        }
        (passed, guard.end(&held).err())
    };
    let [whole, others @ ..] = cuttings(stream).map(|pieces| passed(&pieces));
    for other in others {
        assert_eq!(other.0, whole.0, "what passes depends on how it was cut");
    }
}

fn names(bytes: &[u8]) {
    if let Some(question) = Question::read(bytes) {
        assert!(question.answer(&[CARD.v4.into(); 20], 1).len() < 1232, "too long an answer");
        let _ = hear_answer(bytes, 7, &question.name, Kind::V4);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(policy) = read_policy(text)
    {
        assert_eq!(Policy::parse(&policy.to_string()), Ok(Some(policy)));
    }
    if let Some(address) = bytes.first_chunk::<16>() {
        let mapped = IpAddr::from(*address);
        assert!(class(mapped) != Class::Public || class(mapped.to_canonical()) == Class::Public);
    }
}

/// What asks for the gateway's hardware address, without the Ethernet header.
pub(crate) fn arp() -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &CARD.mac, &CARD.v4.octets(), &[0; 6], &Card::GATEWAY_V4.octets()].concat()
}

/// Packets of IPv4 that are wrong in one thing each: pieces of one, cut, with
/// a wrong length, with wrong checksums.
pub(crate) fn odd(datagram: &[u8]) -> [(&'static str, Vec<u8>); 6] {
    let packet = v4(17, 6, datagram);
    let with = |at: usize, byte: u8| {
        let (mut head, mut body) = (packet[..20].to_vec(), packet[20..].to_vec());
        if at < 20 {
            head[at] ^= byte
        } else {
            body[at - 20] ^= byte
        }
        [summed(&head, 10, &[]), body].concat()
    };
    let wrong = [&packet[..10], &[!packet[10]], &packet[11..]].concat();
    [
        ("first-piece", with(6, 0x20)),
        ("last-piece", with(7, 1)),
        ("cut", packet[..packet.len() - 3].to_vec()),
        ("too-long", with(2, 0xff)),
        ("wrong-sum", wrong),
        ("wrong-sum-inside", with(26, 1)),
    ]
}

/// A chain of a kind, a length and so many bytes, as the frames of an honest
/// card: addresses, lengths and checksums are right.
fn framed(mut chain: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(([kind, length], rest)) = chain.split_first_chunk() {
        let (body, rest) = rest.split_at(rest.len().min((*length).into()));
        let frame = frame(*kind, body);
        all.extend((frame.len() as u32).to_be_bytes());
        all.extend(frame);
        chain = rest;
    }
    all
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let ethernet = |kind: [u8; 2]| [&Card::GATEWAY_MAC[..], &CARD.mac, &kind].concat();
    match kind % 8 {
        0 => [ethernet([8, 6]), body.to_vec()].concat(),
        1 => [ethernet([8, 0]), v4(6, 16, body)].concat(),
        2 => [ethernet([8, 0]), v4(17, 6, body)].concat(),
        3 => [ethernet([8, 0]), v4(1, 2, body)].concat(),
        4 => [ethernet([0x86, 0xdd]), v6(6, 16, body)].concat(),
        5 => [ethernet([0x86, 0xdd]), v6(17, 6, body)].concat(),
        6 => [ethernet([0x86, 0xdd]), v6(58, 2, body)].concat(),
        _ => [ethernet([8, 0]), body.to_vec()].concat(),
    }
}

fn v4(protocol: u8, sum_at: usize, body: &[u8]) -> Vec<u8> {
    let (from, to) = (CARD.v4.octets(), Card::GATEWAY_V4.octets());
    let length = (20 + body.len() as u16).to_be_bytes();
    let head = [&[0x45, 0], length.as_slice(), &[0, 1, 0, 0, 64, protocol, 0, 0], &from, &to];
    let head = summed(&head.concat(), 10, &[]);
    let pseudo = if protocol == 1 { vec![] } else { pseudo(&from, &to, protocol, body) };
    [head, summed(body, sum_at, &pseudo)].concat()
}

fn v6(protocol: u8, sum_at: usize, body: &[u8]) -> Vec<u8> {
    let (from, to) = (CARD.v6.octets(), Card::GATEWAY_V6.octets());
    let length = (body.len() as u16).to_be_bytes();
    let head = [&[0x60, 0, 0, 0], length.as_slice(), &[protocol, 255], &from, &to].concat();
    [head, summed(body, sum_at, &pseudo(&from, &to, protocol, body))].concat()
}

fn pseudo(from: &[u8], to: &[u8], protocol: u8, body: &[u8]) -> Vec<u8> {
    [from, to, &[0, protocol], &(body.len() as u16).to_be_bytes()].concat()
}

/// The bytes with the checksum of them, and of what goes before, in its place.
fn summed(bytes: &[u8], at: usize, before: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&[0, 0]);
    }
    let words = [before, &bytes].concat();
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let mut sum: u32 = words.chunks(2).map(word).sum();
    while sum >> 16 > 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&(!sum as u16).to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_packets_are_not_heard() {
        let datagram = [0x9c, 0x40, 0, 53, 0, 10, 0, 0, b'h', b'i'];
        let heard = |packet: &[u8]| hear(&CARD, &frame(7, packet)) != Heard::Dropped;
        assert!(heard(&v4(17, 6, &datagram)));
        for (name, packet) in odd(&datagram) {
            assert!(!heard(&packet), "{name}");
        }
    }

    #[test]
    fn composed_frames_are_heard() {
        let syn = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0];
        assert_eq!(hear(&CARD, &frame(0, &arp())), Heard::Gateway);
        for kind in [1, 4] {
            let frame = frame(kind, &syn);
            assert!(matches!(hear(&CARD, &frame), Heard::Stream(_, true)));
            assert!(crossing(&PEERS[0], &PEERS[1], &frame[14..]).is_some());
        }
    }
}
