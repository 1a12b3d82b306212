//! Networks whose guests are nothing but packets, on one private network.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "network/mod.rs"]
mod network;

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use lampyr_net::{Access, Inbox, Network, Peer, Wire, peer_name};
use lampyr_proto::Card;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    UdpPacket, UdpRepr,
};

const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 7000;
const NEXT: i32 = 77_777;

struct Guest {
    peer: Peer,
    network: Network,
    line: UnixStream,
    inbox: Inbox,
}

/// Guests of these names, each connected with all before it.
async fn guests(names: &[&str]) -> Vec<Guest> {
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<Guest> = Vec::new();
    for name in names {
        let others: Vec<_> = all.iter().map(|guest| guest.peer.clone()).collect();
        let peer = Peer::new(peer_name(name).unwrap(), &others).unwrap();
        let listener = UnixListener::bind(dir.path().join(name)).unwrap();
        let mut wire = Wire::new(peer.clone(), listener);
        for other in others {
            let line = UnixStream::connect(dir.path().join(other.name.as_str())).unwrap();
            wire.reach(other, line).unwrap();
        }
        let (line, theirs) = UnixStream::pair().unwrap();
        line.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let started =
            Network::start(&network::program(), theirs, &Access::default(), Some(wire)).await;
        let network = started.unwrap();
        all.push(Guest { peer, network, line, inbox: Inbox::default() });
    }
    all
}

impl Guest {
    /// Says a packet that claims to be from one and is for another.
    fn say(&mut self, from: &Peer, to: &Peer, protocol: IpProtocol, body: &[u8]) {
        let ip = Ipv4Repr {
            src_addr: from.v4,
            dst_addr: to.v4,
            next_header: protocol,
            payload_len: body.len(),
            hop_limit: 64,
        };
        let mut packet = vec![0; 20 + body.len()];
        let checksums = ChecksumCapabilities::default();
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
        packet[20..].copy_from_slice(body);
        let head = [&Card::GATEWAY_MAC[..], &self.network.card().mac, &[8, 0]].concat();
        let length = (head.len() + packet.len()) as u32;
        let said = [&length.to_be_bytes()[..], &head, &packet].concat();
        self.line.write_all(&said).unwrap();
    }

    fn throw(&mut self, from: &Peer, to: &Peer, payload: &[u8]) {
        let repr = UdpRepr { src_port: PORT, dst_port: PORT };
        let mut body = vec![0; 8 + payload.len()];
        let fill = |room: &mut [u8]| room.copy_from_slice(payload);
        let checksums = ChecksumCapabilities::default();
        let mut packet = UdpPacket::new_unchecked(&mut body);
        let (source, target) = (from.v4.into(), to.v4.into());
        repr.emit(&mut packet, &source, &target, payload.len(), fill, &checksums);
        self.say(from, to, IpProtocol::Udp, &body);
    }

    /// The next packet that it hears, within a while.
    fn hear(&mut self, wait: Duration) -> Option<Vec<u8>> {
        let (deadline, mut bytes) = (Instant::now() + wait, vec![0; 1 << 16]);
        loop {
            if let Some(frame) = self.inbox.next_frame().unwrap() {
                let frame = EthernetFrame::new_checked(frame.to_vec()).unwrap();
                assert_eq!(frame.src_addr().0, Card::GATEWAY_MAC);
                assert_eq!(frame.dst_addr().0, self.network.card().mac);
                return Some(frame.into_inner()[14..].to_vec());
            }
            if Instant::now() > deadline {
                return None;
            }
            if let Ok(n) = self.line.read(&mut bytes) {
                self.inbox.feed(&bytes[..n]);
            }
        }
    }

    /// Throws until it is heard: who has come last may not be known yet.
    fn meet(&mut self, other: &mut Self) {
        let deadline = Instant::now() + PATIENCE;
        let (own, there) = (self.peer.clone(), other.peer.clone());
        loop {
            assert!(Instant::now() < deadline, "they never met");
            self.throw(&own, &there, b"hello");
            if other.hear(Duration::from_millis(50)).is_some() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_packet_crosses_under_its_own_name_alone() {
    let mut all = guests(&["a", "b", "c"]).await;
    let [a, b, c] = all.as_mut_slice() else { unreachable!() };
    a.meet(b);
    b.meet(a);
    a.meet(c);
    let (own, there, third) = (a.peer.clone(), b.peer.clone(), c.peer.clone());
    a.throw(&third, &there, b"forged");
    a.throw(&there, &there, b"forged");
    a.throw(&own, &there, b"honest");
    let heard = b.hear(PATIENCE).unwrap();
    let packet = Ipv4Packet::new_checked(heard.as_slice()).unwrap();
    assert_eq!((packet.src_addr(), packet.dst_addr()), (own.v4, there.v4));
    assert!(heard.ends_with(b"honest"), "{heard:?}");
    assert_eq!(c.hear(Duration::from_millis(50)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_is_reset_when_its_other_end_dies() {
    let mut all = guests(&["a", "b"]).await;
    let mut b = all.pop().unwrap();
    let mut a = all.pop().unwrap();
    a.meet(&mut b);
    let repr = TcpRepr {
        src_port: 40_000,
        dst_port: PORT,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(1),
        ack_number: Some(TcpSeqNumber(NEXT)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: b"hello",
    };
    let (own, there) = (a.peer.clone(), b.peer.clone());
    let mut body = vec![0; repr.buffer_len()];
    let (source, target) = (own.v4.into(), there.v4.into());
    let checksums = ChecksumCapabilities::default();
    repr.emit(&mut TcpPacket::new_unchecked(&mut body), &source, &target, &checksums);
    a.say(&own, &there, IpProtocol::Tcp, &body);
    assert!(b.hear(PATIENCE).unwrap().ends_with(b"hello"));
    drop(b);
    let heard = a.hear(PATIENCE).unwrap();
    let packet = Ipv4Packet::new_checked(heard.as_slice()).unwrap();
    let segment = TcpPacket::new_checked(packet.payload()).unwrap();
    assert_eq!((IpAddr::V4(packet.src_addr()), segment.dst_port()), (there.v4.into(), 40_000));
    assert!(segment.rst() && segment.seq_number() == TcpSeqNumber(NEXT));
    assert!(segment.verify_checksum(&target, &source));
    // From then on nobody is there, and whoever tries is told.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, denied) = a.network.total().await;
        if denied.iter().any(|denied| denied.reason.word() == "no-peer") {
            return;
        }
        assert!(Instant::now() < deadline, "{denied:?}");
        a.throw(&own, &there, b"anybody?");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_does_not_listen_stops_nobody() {
    let mut all = guests(&["a", "deaf", "c"]).await;
    let [a, deaf, c] = all.as_mut_slice() else { unreachable!() };
    a.meet(deaf);
    a.meet(c);
    let (own, there) = (a.peer.clone(), deaf.peer.clone());
    // Much more than all queues between them hold.
    for _ in 0..1000 {
        a.throw(&own, &there, &[7; 16_000]);
    }
    a.meet(c);
    c.meet(a);
}
