//! A network and a guest that is nothing but frames.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "network/mod.rs"]
mod network;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use lampyr_net::{Inbox, Network, Policy};
use lampyr_proto::Card;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

/// More than there can be at once.
const MANY: u16 = 10_000;
const PATIENCE: Duration = Duration::from_secs(40);

struct Guest {
    line: UnixStream,
    card: Card,
    inbox: Inbox,
    /// What each port was answered last: whether it was a reset.
    answers: BTreeMap<u16, bool>,
}

impl Guest {
    fn new(line: UnixStream, card: Card) -> Self {
        line.set_nonblocking(true).unwrap();
        Self { line, card, inbox: Inbox::default(), answers: BTreeMap::new() }
    }

    fn say(&mut self, ethertype: EthernetProtocol, packet: &[u8]) {
        let mut bytes = vec![0; 14 + packet.len()];
        let mut frame = EthernetFrame::new_unchecked(&mut bytes);
        let src_addr = EthernetAddress(self.card.mac);
        let dst_addr = EthernetAddress(Card::GATEWAY_MAC);
        EthernetRepr { src_addr, dst_addr, ethertype }.emit(&mut frame);
        frame.payload_mut().copy_from_slice(packet);
        let said = [&(bytes.len() as u32).to_be_bytes(), bytes.as_slice()].concat();
        let mut rest = said.as_slice();
        while !rest.is_empty() {
            match self.line.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(_) => self.hear(),
            }
        }
    }

    fn arp(&mut self, operation: ArpOperation) {
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(self.card.mac),
            source_protocol_addr: self.card.v4,
            target_hardware_addr: EthernetAddress(Card::GATEWAY_MAC),
            target_protocol_addr: Card::GATEWAY_V4,
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut ArpPacket::new_unchecked(&mut bytes));
        self.say(EthernetProtocol::Arp, &bytes);
    }

    /// The first packet of a stream to the gateway, and nothing after it.
    fn begin(&mut self, from: u16, to: u16) {
        self.begin_with(from, to, 4);
    }

    /// The same, with an option that says that it is so long.
    fn begin_with(&mut self, from: u16, to: u16, length: u8) {
        let repr = TcpRepr {
            src_port: from,
            dst_port: to,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(1),
            ack_number: None,
            window_len: 1000,
            window_scale: None,
            max_seg_size: Some(1000),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (src_addr, dst_addr) = (self.card.v4, Card::GATEWAY_V4);
        let (next_header, payload_len) = (IpProtocol::Tcp, repr.buffer_len());
        let ip = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: 64 };
        let checksums = ChecksumCapabilities::default();
        let mut bytes = vec![0; 20 + payload_len];
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &checksums);
        let mut packet = TcpPacket::new_unchecked(&mut bytes[20..]);
        repr.emit(&mut packet, &src_addr.into(), &dst_addr.into(), &checksums);
        packet.options_mut()[1] = length;
        packet.fill_checksum(&src_addr.into(), &dst_addr.into());
        self.say(EthernetProtocol::Ipv4, &bytes);
    }

    fn hear(&mut self) {
        let mut bytes = vec![0; 1 << 16];
        let Ok(n) = self.line.read(&mut bytes) else {
            return std::thread::sleep(Duration::from_millis(1));
        };
        self.inbox.feed(&bytes[..n]);
        let mut asked = false;
        while let Some(frame) = self.inbox.next_frame().unwrap() {
            let frame = EthernetFrame::new_checked(frame).unwrap();
            match frame.ethertype() {
                EthernetProtocol::Arp => asked = true,
                EthernetProtocol::Ipv4 => {
                    let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
                    let tcp = TcpPacket::new_checked(packet.payload()).unwrap();
                    let (from, to) = (packet.src_addr(), packet.dst_addr());
                    assert!(tcp.verify_checksum(&IpAddress::from(from), &IpAddress::from(to)));
                    self.answers.insert(tcp.dst_port(), tcp.rst());
                }
                _ => {}
            }
        }
        if asked {
            self.arp(ArpOperation::Reply);
        }
    }

    /// Hears until this holds.
    fn until(&mut self, what: &str, holds: impl Fn(&BTreeMap<u16, bool>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.answers) {
            assert!(Instant::now() < deadline, "{what}: {} answers", self.answers.len());
            self.hear();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn streams_beyond_the_bound_are_refused_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let policy = Policy::of([format!("host:{port}").as_str()]).unwrap();
    let (program, access) = (network::program(), policy.into());
    let network = Network::start(&program, theirs, &access, None).await.unwrap();
    let mut guest = Guest::new(ours, network.card());
    guest.arp(ArpOperation::Request);
    for from in 1..=MANY {
        guest.begin(from, port);
    }
    guest.until("each is answered", |answers| answers.len() == usize::from(MANY));
    let refused = guest.answers.values().filter(|reset| **reset).count();
    assert!(refused > 8000, "{refused} of {MANY} were refused");
    let denied = network.total().await.1;
    assert!(denied.iter().any(|d| d.reason.word() == "too-many" && d.count > 8000), "{denied:?}");
    // And the network goes on.
    let mut from = MANY;
    let deadline = Instant::now() + PATIENCE;
    loop {
        from += 1;
        guest.begin(from, port);
        guest.until("a later one is answered", |answers| answers.contains_key(&from));
        if !guest.answers[&from] {
            break;
        }
        assert!(Instant::now() < deadline, "the network did not come back");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_begins_a_stream_and_cannot_be_read_leaves_none_behind() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let policy = Policy::of([format!("host:{port}").as_str()]).unwrap();
    let network = Network::start(&network::program(), theirs, &policy.into(), None).await.unwrap();
    let mut guest = Guest::new(ours, network.card());
    guest.arp(ArpOperation::Request);
    guest.begin_with(1, port, 200);
    let (mut first, _) = listener.accept().unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0, "nobody is to speak on it any more");
    // The next one is connected to its own other end.
    guest.begin(2, port);
    guest.until("it is answered", |answers| answers.get(&2) == Some(&false));
    let (second, _) = listener.accept().unwrap();
    drop(second);
}
