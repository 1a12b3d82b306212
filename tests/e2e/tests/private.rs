//! Private networks, and attacks on them, each in a lab with no way out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use lampyr_e2e::lab::{HOST_PORT, Lab, in_lab};
use lampyr_e2e::{Envelope, Session, TestContext, entries, eventually, rows};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);

/// What the guests have.
const TOOLS: &str = r#"
import fcntl, socket, struct, sys, threading, time
def told(call, *words):
    """What comes of a call: a word, and late where that took long."""
    start = time.time()
    try:
        said = call(*words)
    except Exception as e:
        said = type(e).__name__
    return said if time.time() - start < 4 else f'late {said}'
def address(host): return host if ':' in host else socket.gethostbyname(host)
def ask(host, port=7000, wait=5):
    def call():
        s = socket.create_connection((address(host), port), wait)
        s.sendall(b'hello')
        return s.recv(100).decode()
    return told(call)
def throw(host, payload, port=7001, wait=2):
    def call():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(wait)
        s.connect((address(host), port))
        s.send(payload)
        return s.recv(100).decode()
    return told(call)
def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def v4(name): return socket.inet_aton(socket.gethostbyname(name))
def v6(name):
    found = socket.getaddrinfo(name, 1, socket.AF_INET6)[0][4][0]
    return socket.inet_pton(socket.AF_INET6, found)
GATEWAY = bytes([2, 0x6c, 0x61, 0x6d, 0x70, 1])
MAC = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
def card():
    card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    card.bind(('eth0', 0))
    return card
def ip(source, to, protocol, body, flags=0, options=b''):
    words = 5 + len(options) // 4
    head = struct.pack('!BBHHHBBH', 0x40 + words, 0, 4 * words + len(body), 7, flags, 64, protocol, 0)
    head += source + to + options
    return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + body
def ip6(source, to, protocol, body, hops=255):
    return struct.pack('!IHBB', 6 << 28, len(body), protocol, hops) + source + to + body
def udp(source, to, payload, port=7001):
    length = 8 + len(payload)
    pseudo = source + to + (struct.pack('!BBH', 0, 17, length) if len(source) == 4
                            else struct.pack('!II', length, 17))
    head = struct.pack('!HHHH', 999, port, length, 0)
    return head[:6] + struct.pack('!H', checksum(pseudo + head + payload)) + payload
def icmp(kind, code, rest):
    message = struct.pack('!BBH', kind, code, 0) + rest
    return message[:2] + struct.pack('!H', checksum(message)) + message[4:]
def icmp6(source, to, kind, code, rest):
    message = struct.pack('!BBH', kind, code, 0) + rest
    pseudo = source + to + struct.pack('!II', len(message), 58)
    return message[:2] + struct.pack('!H', checksum(pseudo + message)) + message[4:]
def neighbours(family):
    """Who the kernel thinks has which address on the card."""
    asked = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    asked.send(struct.pack('=IHHIIB11x', 28, 30, 0x301, 1, 0, family))
    found, rest = set(), asked.recv(65536)
    while len(rest) > 16 and struct.unpack_from('=H', rest, 4)[0] == 28:
        length, = struct.unpack_from('=I', rest)
        card, at, is_a = struct.unpack_from('=i', rest, 20)[0], 28, {}
        while at < length:
            size, kind = struct.unpack_from('=HH', rest, at)
            is_a[kind] = rest[at + 4:at + size]
            at += (size + 3) & ~3
        if card == socket.if_nametoindex('eth0') and 2 in is_a and is_a[1][0] not in (0xff, 224):
            found.add(socket.inet_ntop(family, is_a[1]) + ' ' + is_a[2].hex())
        rest = rest[length:]
    return found
def ping(name):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    raw.settimeout(3)
    there = socket.gethostbyname(name)
    raw.sendto(icmp(8, 0, struct.pack('!HH', 77, 1) + b'ping'), (there, 0))
    while True:
        said, (who, _) = raw.recvfrom(1000)
        if who == there and said[20] == 0:
            return 'pong'
"#;

/// Answers on every address; writes down each datagram and who sent it.
const SERVER: &str = r"
def stream():
    s = socket.create_server(('', 7000), family=socket.AF_INET6, dualstack_ipv6=True, backlog=100)
    while True:
        c, (who, *_) = s.accept()
        threading.Thread(target=serve, args=(c, who), daemon=True).start()
def serve(c, who):
    with c:
        while c.recv(100):
            c.sendall(f'{socket.gethostname()[:6]} hears {who}'.encode())
def datagrams():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(('', 7001))
    log = open('/tmp/heard', 'w')
    while True:
        said, who = s.recvfrom(70000)
        print(who[0], len(said), said[:9].decode(errors='replace'), file=log, flush=True)
        s.sendto(b'%d' % len(said), who)
threading.Thread(target=stream, daemon=True).start()
datagrams()
";

/// VMs on one network, by their names.
struct Peers<'a> {
    sessions: BTreeMap<String, Session<'a>>,
    addresses: BTreeMap<String, String>,
}

impl<'a> Peers<'a> {
    /// Starts VMs of these names, each with a server.
    fn start(context: &'a TestContext, names: &[&str]) -> Self {
        let sessions: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        let printed = run_manifest(context, &json!({"sessions": sessions}), &["--name", "lan"]);
        let (mut sessions, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        assert_eq!(printed["network"], "lan");
        for row in printed["sessions"].as_array().unwrap() {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            sessions.insert(text("name"), Session::of(context, &text("sid")));
            addresses.insert(text("name"), text("address"));
        }
        let peers = Self { sessions, addresses };
        for name in names {
            serve(&peers.sessions[*name]);
        }
        peers
    }

    /// Runs a program on one of them.
    fn run(&self, name: &str, program: &str) -> Envelope {
        python(&self.sessions[name], program)
    }

    /// The datagrams that one has heard.
    fn heard(&self, name: &str) -> String {
        self.sessions[name].sh("cat /tmp/heard").success().to_owned()
    }
}

fn python(session: &Session<'_>, program: &str) -> Envelope {
    session.exec("python3 -").stdin(format!("{TOOLS}{program}")).within(MINUTE).envelope()
}

/// Starts the server on a VM, and waits until it is there.
fn serve(session: &Session<'_>) {
    let put = session.exec("cat > /tmp/server.py").stdin(format!("{TOOLS}{SERVER}"));
    put.within(MINUTE).envelope().success();
    let start = "nohup python3 /tmp/server.py >/dev/null 2>&1 </dev/null & \
                 for n in $(seq 100); do [ -e /tmp/heard ] && exit 0; sleep 0.1; done; exit 1";
    session.exec(start).within(MINUTE).envelope().success();
}

/// What `network run` prints.
fn run_manifest(context: &TestContext, manifest: &Value, flags: &[&str]) -> Value {
    let path = context.home().join("manifest.json");
    fs::write(&path, manifest.to_string()).unwrap();
    let words = ["network", "run", path.to_str().unwrap()];
    let done = context.lampyr(words.iter().chain(flags)).within(2 * MINUTE).finish();
    assert_eq!(done.status(), Some(0), "{done:?}");
    serde_json::from_str(&done.stdout()).unwrap()
}

fn reason(envelope: &Envelope, host: &str) -> Option<String> {
    let rows = envelope["meta"]["denied"].as_array()?;
    let row = rows.iter().find(|row| row["host"] == host)?;
    Some(row["reason"].as_str().unwrap().to_owned())
}

#[test]
fn peers_reach_each_other_by_name_and_nothing_else() {
    in_lab("peers_reach_each_other_by_name_and_nothing_else", |lab: &Lab| {
        let context = TestContext::own();
        let peers = Peers::start(&context, &["left", "right"]);
        let other = Session::start(&context, &["--network", "other", "--name", "stranger"]);
        serve(&other);
        let listed = rows(&context, &["network", "list"]);
        assert_eq!(listed.len(), 2, "{listed:?}");
        let stranger = listed[1]["sessions"][0]["address"].as_str().unwrap();

        for (here, there) in [("left", "right"), ("right", "left")] {
            let own = &peers.addresses[here];
            let done = peers.run(
                here,
                &format!(
                    r"
print(ask('{there}'))
print(ask('{there}.lampyr.internal'))
print('fd6c:' in ask(socket.inet_ntop(socket.AF_INET6, v6('{there}'))))
print(ask('{there}', 7002))
print(throw('{there}', b'x' * 16000))
print(throw('{there}', b'x', 7003))
print(told(ping, '{there}'))
print(socket.gethostbyname('{here}'))
"
                ),
            );
            let hears = format!("lampyr hears ::ffff:{own}");
            let refused = "ConnectionRefusedError";
            let expected =
                [&hears, &hears, "True", refused, "16000", refused, "pong", own.as_str()];
            assert_eq!(done.success().lines().collect::<Vec<_>>(), expected);
            assert!(done["meta"]["denied"].is_null(), "{:?}", done["meta"]);
        }

        let done = peers.run(
            "left",
            &format!(
                r"
for host, port in (('{stranger}', 7000), ('stranger', 7000), ('good.example.com', 80),
                   ('93.184.216.34', 80), ('10.99.0.1', 80), ('192.0.0.1', 80),
                   ('host.lampyr.internal', {HOST_PORT}), ('192.0.0.1', {HOST_PORT})):
    print(ask(host, port))
block = socket.gethostbyname('left').rsplit('.', 1)[0]
free = [f'{{block}}.{{n}}' for n in (0, 1, 255)]
print({{ask(address) for address in free}}, free[1])
"
            ),
        );
        let lines: Vec<_> = done.success().lines().collect();
        let shut = ["ConnectionRefusedError", "gaierror"];
        assert!(lines[..8].iter().all(|line| shut.contains(line)), "{lines:?}");
        let (said, free) = lines[8].rsplit_once(' ').unwrap();
        assert!(said.contains("ConnectionRefusedError"), "{said}");
        assert_eq!(reason(&done, free).as_deref(), Some("no-peer"));
        assert_eq!(reason(&done, "93.184.216.34").as_deref(), Some("no-rule"));
        assert_eq!(reason(&done, "stranger").as_deref(), Some("no-rule"));
        assert_eq!(other.sh("cat /tmp/heard").success(), "");
        lab.assert_silent("");
    });
}

#[test]
fn nobody_speaks_for_another() {
    in_lab("nobody_speaks_for_another", |_: &Lab| {
        let context = TestContext::own();
        let peers = Peers::start(&context, &["evil", "mark", "other"]);
        let done = peers.run(
            "evil",
            r"
card = card()
own, mark, other = v4('evil'), v4('mark'), v4('other')
own6, mark6, other6 = v6('evil'), v6('mark'), v6('other')
gateway = socket.inet_aton('192.0.0.1')
gateway6 = socket.inet_pton(socket.AF_INET6, 'fe80::1')
forged = b'forged'
packets = []
# For the third one, for the gateway, for the host, for nobody.
for source in (other, gateway, mark, socket.inet_aton('127.0.0.1'), socket.inet_aton('0.0.0.0')):
    packets.append(ip(source, mark, 17, udp(source, mark, forged)))
for source in (other6, gateway6, mark6, bytes(16)):
    packets.append(ip6(source, mark6, 17, udp(source, mark6, forged)))
body = udp(own, mark, forged)
# In pieces, with detours, cut short, damaged, by other protocols.
packets += [ip(own, mark, 17, body[:8], 0x2000), ip(own, mark, 17, body[8:], 1)]
packets += [ip(own, mark, 17, body, options=b'\x83\x07\x04' + other + b'\0')]
packets += [ip(own, mark, 17, body)[:n] for n in range(1, 34)]
packets += [ip(own, mark, 17, body[:-1] + b'!'), ip(own, mark, 47, body), ip(own, mark, 4, packets[0])]
packets += [ip6(own6, mark6, 44, b'\x11\0\0\0\0\0\0\1' + udp(own6, mark6, forged))]
packets += [ip6(own6, mark6, 0, b'\x11\0\1\4\0\0\0\0' + udp(own6, mark6, forged))]
# A way by us, a smaller packet, the end of a talk with another.
about = ip(mark, other, 17, udp(mark, other, b'x', 7001))
packets += [ip(own, mark, 1, icmp(5, 1, own + about)), ip(own, mark, 1, icmp(3, 4, b'\0\0\0\x44' + about))]
packets += [ip(own, mark, 1, icmp(3, 3, bytes(4) + about))]
about6 = ip6(mark6, other6, 17, udp(mark6, other6, b'x'))
packets += [ip6(own6, mark6, 58, icmp6(own6, mark6, 1, 4, bytes(4) + about6)),
            ip6(own6, mark6, 58, icmp6(own6, mark6, 2, 0, struct.pack('!I', 1280) + about6))]
# The addresses of others are ours, and so is the gateway's.
for target in (other6, gateway6, mark6):
    rest = b'\xe0\0\0\0' + target + b'\x02\x01' + MAC
    for to in (mark6, socket.inet_pton(socket.AF_INET6, 'ff02::1')):
        for source in (own6, target):
            packets.append(ip6(source, to, 58, icmp6(source, to, 136, 0, rest)))
    router = icmp6(own6, mark6, 134, 0, b'\x40\0\xff\xff' + bytes(8) + b'\x01\x01' + MAC)
    packets.append(ip6(own6, mark6, 58, router))
everybody = b'\xff' * 6
for to in (GATEWAY, everybody):
    for packet in packets:
        card.send(to + MAC + (b'\x86\xdd' if packet[0] >> 4 == 6 else b'\x08\x00') + packet)
    for operation in (1, 2):
        for claimed in (other, gateway, mark):
            for asked in (mark, gateway, claimed):
                arp = struct.pack('!HHBBH', 1, 0x800, 6, 4, operation) + MAC + claimed + bytes(6) + asked
                card.send(to + MAC + b'\x08\x06' + arp)
    card.send(to + bytes([2, 0, 0, 0, 0, 9]) + b'\x08\x00' + ip(own, mark, 17, udp(own, mark, forged)))
# Longer than any card may say.
fcntl.ioctl(card, 0x8922, struct.pack('16si12x', b'eth0', 40000))
for length in (16400, 17000, 39000):
    long = ip(own, mark, 17, udp(own, mark, forged + bytes(length)))
    card.send(GATEWAY + MAC + b'\x08\x00' + long)
print(len(packets))
print(throw('mark', b'honest'))
",
        );
        assert_eq!(done.success(), "70\n6\n");
        let evil = &peers.addresses["evil"];
        assert_eq!(peers.heard("mark"), format!("::ffff:{evil} 6 honest\n"));
        assert_eq!(peers.heard("other"), "");

        // The others know nobody but the gateway, and speak to whom they mean.
        let there = peers.run(
            "mark",
            r"
print(throw('other', b'after'), ask(socket.inet_ntop(socket.AF_INET6, v6('other')))[:12])
for family in (socket.AF_INET, socket.AF_INET6):
    print(neighbours(family))
",
        );
        let lines: Vec<_> = there.success().lines().collect();
        assert_eq!(lines[0], "5 lampyr hears");
        for (line, gateway) in [(lines[1], "192.0.0.1"), (lines[2], "fe80::1")] {
            assert_eq!(line, format!("{{'{gateway} 026c616d7001'}}"));
        }
        let mark = &peers.addresses["mark"];
        assert_eq!(peers.heard("other"), format!("::ffff:{mark} 5 after\n"));
    });
}

#[test]
fn a_flood_at_one_leaves_the_others_fine() {
    in_lab("a_flood_at_one_leaves_the_others_fine", |_: &Lab| {
        let context = TestContext::own();
        let peers = Peers::start(&context, &["evil", "mark", "other"]);
        let memory = |name: &str| -> u64 {
            let owner = peers.sessions[name].owner();
            let most = owner.child("vm-network").unwrap().status("VmHWM");
            most.split(' ').next().unwrap().parse().unwrap()
        };
        let before = ["evil", "mark", "other"].map(memory);
        let done = peers.run(
            "evil",
            r"
own, mark, card = v4('evil'), v4('mark'), card()
for n in range(10000):
    head = struct.pack('!HHIIBBH', 10000 + n, 7000, n, 0, 0x50, 2, 1024)
    pseudo = own + mark + struct.pack('!BBH', 0, 6, 20)
    total = checksum(pseudo + head + b'\0\0\0\0')
    packet = ip(own, mark, 6, head + struct.pack('!HH', total, 0))
    while True:
        try:
            card.send(GATEWAY + MAC + b'\x08\x00' + packet)
            break
        except OSError:
            time.sleep(0.001)
print('sent')
",
        );
        assert_eq!(done.success(), "sent\n");
        for (here, there) in [("mark", "other"), ("other", "mark"), ("other", "evil")] {
            let said = peers.run(here, &format!("print(ask('{there}'))"));
            let own = &peers.addresses[here];
            assert_eq!(said.success(), format!("lampyr hears ::ffff:{own}\n"), "{here} {there}");
        }
        for (name, before) in ["evil", "mark", "other"].into_iter().zip(before) {
            let grown = memory(name).saturating_sub(before);
            assert!(grown < 40 << 10, "the flood took {grown} KiB of {name}'s network");
        }
    });
}

#[test]
fn who_dies_is_gone_at_once() {
    let context = TestContext::own();
    let peers = Peers::start(&context, &["left", "right"]);
    let held = peers.sessions["left"].exec("python3 -").stdin(format!(
        "{TOOLS}
held = socket.create_connection(('right', 7000))
held.sendall(b'hello')
held.recv(100)
open('/tmp/held', 'w').close()
start = time.time()
print(told(held.recv, 1), ask('right'), ask('{}'), flush=True)
",
        peers.addresses["right"]
    ));
    let held = held.within(MINUTE).start();
    let there = "for n in $(seq 200); do [ -e /tmp/held ] && exit 0; sleep 0.1; done; exit 1";
    peers.sessions["left"].exec(there).within(MINUTE).envelope().success();
    let owner = peers.sessions["right"].owner();
    owner.signal(libc::SIGKILL);
    let said = held.finish().envelope();
    let line = said.success();
    assert!(
        line == "ConnectionResetError gaierror ConnectionRefusedError\n",
        "whoever waits for the dead waits for nothing: {line}"
    );
    // Its name can be had again, and what it left goes with `clean`.
    let networks = rows(&context, &["network", "list"]);
    assert_eq!(networks[0]["sessions"].as_array().unwrap().len(), 1, "{networks:?}");
    let mark = context.home().join("networks/lan/right");
    assert!(mark.exists());
    let cleaned = context.lampyr(["clean"]).finish();
    assert_eq!(cleaned.status(), Some(0), "{cleaned:?}");
    assert!(!mark.exists());
    let again = context.lampyr(["run", "--network", "lan", "getent hosts left"]);
    let again = again.within(MINUTE).envelope();
    assert!(again.success().contains("left"), "{}", again.success());

    let stopped = context.lampyr(["network", "stop", "lan"]).within(MINUTE).finish();
    assert_eq!(stopped.status(), Some(0), "{stopped:?}");
    assert_eq!(rows(&context, &["network", "list"]), Vec::<Value>::new());
    assert_eq!(entries(&context.home().join("networks")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_manifest_is_started_whole_or_not_at_all() {
    let context = TestContext::own();
    let path = context.home().join("bad.toml");
    let bad = |text: &str, status: i32, expected: &[&str]| {
        fs::write(&path, text).unwrap();
        let call = context.lampyr(["network", "run", path.to_str().unwrap()]);
        let done = call.within(2 * MINUTE).finish();
        assert_eq!(done.status(), Some(status), "{done:?}");
        for part in expected {
            assert!(done.stderr().contains(part), "{part}: {done:?}");
        }
        assert_eq!(rows(&context, &["session", "list"]), Vec::<Value>::new());
        assert_eq!(rows(&context, &["network", "list"]), Vec::<Value>::new());
    };
    let one = "[[sessions]]\nname = 'one'\n";
    bad(&format!("{one}imgae = 'x'"), 2, &["unknown field `imgae`", "did you mean 'image'?"]);
    bad(&format!("{one}net = 'allow=a.b:x'"), 2, &["session 'one': --net: invalid rule"]);
    bad(&format!("{one}{one}"), 2, &["two sessions have the name 'one'"]);
    bad("[[sessions]]\nname = 'a.b'", 2, &["'a.b'", "it has a dot"]);
    bad(&format!("{one}[[sessions]]\nname = 'two'\nimage = 'missing'"), 1, &["missing"]);
    context.assert_tidy();
    eventually("the network is left", || entries(&context.home().join("networks")).is_empty());
}

#[test]
fn a_manifest_says_what_each_reaches_besides() {
    in_lab("a_manifest_says_what_each_reaches_besides", |_: &Lab| {
        let context = TestContext::own();
        let printed = run_manifest(
            &context,
            &json!({
                "net": "allow=good.example.com",
                "sessions": [{"name": "open"}, {"name": "shut", "net": "none", "env": {"A": "b"}}],
            }),
            &[],
        );
        let sessions = printed["sessions"].as_array().unwrap();
        let program = "print(told(socket.gethostbyname, 'good.example.com'))";
        for (row, name, said) in [(0, "open", "93.184.216.34"), (1, "shut", "gaierror")] {
            assert_eq!(sessions[row]["name"], name);
            let session = Session::of(&context, sessions[row]["sid"].as_str().unwrap());
            assert_eq!(python(&session, program).success(), format!("{said}\n"));
            let env = session.sh("echo $A");
            assert_eq!(env.success(), if name == "shut" { "b\n" } else { "\n" });
        }
    });
}
