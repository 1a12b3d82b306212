//! A guest that says anything at all on its network card, in a lab with no way
//! out. For a few seconds here; `cargo xtask soak` takes its time.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and print")]

use std::time::Duration;

use lampyr_e2e::lab::{Lab, in_lab};
use lampyr_e2e::{Session, TestContext};

/// The most memory that a network may take, in kB: its share of all pages.
const MOST_MEMORY: u64 = 40_000;

/// Sends frames that were good ones, and random bytes, for so many seconds.
/// What it did begins with a number, and is the same again for that.
const HOSTILE: &str = r"
import random, socket, struct, sys, time
seconds, seed = int(sys.argv[1]), int(sys.argv[2])
dice = random.Random(seed)
card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
card.bind(('eth0', 0))
mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
gateway = bytes([2, 0x6c, 0x61, 0x6d, 0x70, 1])
def own(family, there):
    probe = socket.socket(family, socket.SOCK_DGRAM)
    probe.connect((there, 53))
    return socket.inet_pton(family, probe.getsockname()[0])
def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
own4, own6 = own(socket.AF_INET, '192.0.0.1'), own(socket.AF_INET6, '2606:2800:220:1::34')
THERE4 = [socket.inet_aton(a) for a in ('93.184.216.34', '192.0.0.1', '127.0.0.1', '255.255.255.255')]
THERE6 = [socket.inet_pton(socket.AF_INET6, a) for a in ('2606:2800:220:1::34', 'ff02::1', '::1')]
def tcp():
    ports = dice.choice((40000, dice.randrange(65536))), dice.choice((80, 443, 53, dice.randrange(65536)))
    flags = dice.choice((2, 2, 16, 24, 17, 4, 18, dice.randrange(256)))
    return 6, 16, struct.pack('!HHIIBBHHH', *ports, dice.getrandbits(32), dice.getrandbits(32),
        dice.choice((0x50, 0x50, 0x50, dice.randrange(256))), flags, 1024, 0, 0) + rest()
def udp():
    body = rest()
    length = dice.choice((8 + len(body),) * 3 + (dice.randrange(65536),))
    return 17, 6, struct.pack('!HHHH', 999, dice.choice((53, 123, 443)), length, 0) + body
def icmp():
    kind = dice.choice((8, 0, 3, 5, 128, 133, 134, 135, 136, 137))
    return dice.choice((1, 58)), 2, struct.pack('!BBHI', kind, 0, 0, dice.getrandbits(32)) + rest()
def rest():
    question = b'\0\7\1\0\0\1\0\0\0\0\0\0\4good\7example\3com\0\0\1\0\1'
    request = b'GET / HTTP/1.1\r\nHost: good.example.com\r\n\r\n'
    return dice.choice((b'', question, request, dice.randbytes(dice.randrange(1400))))
def summed(body, at, pseudo):
    body = bytearray(body)
    if len(body) >= at + 2 and dice.random() < .9:
        body[at:at + 2] = struct.pack('!H', checksum(pseudo + bytes(body)))
    return bytes(body)
def v4():
    protocol, at, body = dice.choice((tcp, udp, icmp))()
    there = dice.choice(THERE4)
    pseudo = own4 + there + struct.pack('!BBH', 0, protocol, len(body)) if protocol != 1 else b''
    flags = dice.choice((0, 0, 0x4000, 0x2000, dice.randrange(65536)))
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 7, flags, 64, protocol, 0) + own4 + there
    return b'\x08\0' + summed(head, 10, b'') + summed(body, at, pseudo)
def v6():
    protocol, at, body = dice.choice((tcp, udp, icmp))()
    there = dice.choice(THERE6)
    pseudo = own6 + there + struct.pack('!II', len(body), protocol)
    head = struct.pack('!IHBB', 6 << 28, len(body), dice.choice((protocol,) * 4 + (0, 43, 44, 60)), 255)
    return b'\x86\xdd' + head + own6 + there + summed(body, at, pseudo)
def arp():
    return b'\x08\x06' + struct.pack('!HHBBH', 1, 0x800, 6, 4, dice.choice((1, 2))) + mac + own4 + gateway + THERE4[1]
def mutated(frame):
    frame = bytearray(frame)
    for _ in range(dice.choice((0, 0, 1, 2, 8))):
        frame[dice.randrange(len(frame))] = dice.randrange(256)
    cut = dice.random()
    if cut < .1:
        del frame[dice.randrange(len(frame)):]
    elif cut < .2:
        frame += dice.randbytes(dice.randrange(1500))
    return bytes(frame)
def frame():
    if dice.random() < .05:
        return dice.randbytes(dice.randrange(1515))
    return mutated(gateway + mac + dice.choice((arp, v4, v4, v4, v6, v6))())
until, sent, refused = time.time() + seconds, 0, 0
while time.time() < until:
    try:
        card.send(frame())
        sent += 1
    except OSError:
        # The kernel sends nothing that is too short or too long.
        refused += 1
print(sent, refused)
";

/// What a guest with a clean conscience says.
const CLEAN: &str = "curl -sS --max-time 30 http://good.example.com/";

fn hostile(lab: &Lab, seconds: u64, seed: u32) {
    let context = TestContext::shared();
    let rules = "allow=good.example.com,93.184.216.34,2606:2800:220:1::34";
    let session = Session::start(&context, &["--net", rules]);
    let network = session.owner().child("vm-network").unwrap();
    session.sh(CLEAN).success();
    let (before, most) = (network.memory(), Duration::from_secs(seconds + 60));
    let call = session.exec(&format!("python3 - {seconds} {seed}")).stdin(HOSTILE);
    let done = call.args(["--timeout", &format!("{}s", most.as_secs())]).within(most).envelope();
    let (sent, refused) = done.success().trim().split_once(' ').unwrap();
    let after = network.memory();
    eprintln!(
        "{seconds} s, seed {seed}: {sent} frames, {refused} not sent; {before} -> {after} kB"
    );
    assert!(sent.parse::<u64>().unwrap() > 100 * seconds, "{sent} frames, {refused} not sent");
    assert!(network.is_alive(), "the network is gone");
    assert!(after < MOST_MEMORY, "kB: {before} -> {after}");
    assert_eq!(session.sh(CLEAN).success(), "hello from 93.184.216.34:80\n");
    assert_eq!(session.owner().child("vm-network"), Some(network));
    lab.assert_silent("host tcp");
    session.stop();
}

#[test]
fn a_network_outlives_hostile_frames() {
    in_lab("a_network_outlives_hostile_frames", |lab: &Lab| hostile(lab, 5, 1));
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_a_network_outlives_minutes_of_hostile_frames() {
    in_lab("soak_a_network_outlives_minutes_of_hostile_frames", |lab: &Lab| {
        let told = std::env::var("LAMPYR_SOAK_SECONDS");
        let seconds = told.map_or(600, |text| text.parse().unwrap());
        hostile(lab, seconds, std::process::id());
    });
}
