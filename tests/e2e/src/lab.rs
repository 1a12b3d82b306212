//! A network of a test's own, with no way out of it: a host and an internet,
//! joined by a wire. What reaches a server is written down.
//!
//! ```text
//! the test, lampyr and its VMs            the servers
//!   10.99.0.1, fd99::1  --- a wire ---  10.99.0.2, fd99::2
//!   93.184.216.99 (lo)                  and all of `AWAY` (lo)
//! ```

mod web;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use lampyr_net::{Kind, Question};

/// Names the file that holds a line for each test that was skipped.
const SKIPPED: &str = "LAMPYR_E2E_SKIPPED";
/// Says that a test runs inside.
const INSIDE: &str = "LAMPYR_E2E_LAB";
/// The servers' addresses.
const AWAY: [&str; 6] = [
    "93.184.216.34/32",
    "93.184.216.35/32",
    "93.184.216.36/32",
    "169.254.169.254/32",
    "1.1.1.1/32",
    "2606:2800:220:1::34/128",
];
const TCP_PORTS: [u16; 6] = [53, 80, 443, 853, 5000, 8080];
const UDP_PORTS: [u16; 3] = [123, 443, 853];
/// The port on the host's loopback that tests open.
pub const HOST_PORT: u16 = 7000;

/// Where TLS is spoken on port 443.
const WEB: [u8; 4] = [93, 184, 216, 36];

/// What was said to the servers so far.
#[derive(Clone)]
pub struct Lab {
    log: Arc<Mutex<Vec<String>>>,
    web: Arc<web::Web>,
}

/// Runs a test in a lab. Where there can be none, the test says so and is
/// skipped.
pub fn in_lab(test: &str, body: impl FnOnce(&Lab)) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&Lab::build());
    }
    let namespaces = ["--net", "--mount", "--map-current-user", "--keep-caps"];
    let flags = if super::is_root() { &namespaces[..2] } else { &namespaces[..] };
    let may = Command::new("unshare").args(flags).arg("true").output();
    if !may.is_ok_and(|done| done.status.success()) {
        skip(test);
        return;
    }
    let mut inside = Command::new("unshare");
    inside.args(flags).arg("--").arg(std::env::current_exe().unwrap());
    let alone = ["--exact", "--include-ignored", "--nocapture", "--test-threads", "1"];
    inside.arg(test).args(alone).env(INSIDE, "1");
    assert!(inside.status().unwrap().success(), "{test} failed in its lab");
}

/// A test that was not made is no test that has passed: whoever runs it reads
/// this, captured or not, and whoever counts finds it in a file.
fn skip(test: &str) {
    let line = format!("{test}: this host lets us make no network of our own\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("SKIPPED {line}").as_bytes());
    if let Some(path) = std::env::var_os(SKIPPED) {
        let file = File::options().append(true).create(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

impl Lab {
    fn build() -> Self {
        let lab = Self { log: Arc::default(), web: Arc::new(web::Web::new()) };
        ip("link set lo up");
        ip("addr add 93.184.216.99/32 dev lo");
        let (up, is_up) = mpsc::channel();
        let (go, went) = mpsc::channel();
        let away = lab.clone();
        thread::spawn(move || {
            // SAFETY: the call moves this thread alone to a network of its own.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            // SAFETY: the call has no preconditions.
            up.send(unsafe { libc::gettid() }).unwrap();
            went.recv().unwrap();
            away.serve_away();
            up.send(0).unwrap();
            thread::park();
        });
        let them = is_up.recv().unwrap();
        ip(&format!("link add here type veth peer name there netns {them}"));
        go.send(()).unwrap();
        is_up.recv().unwrap();
        ip("addr add 10.99.0.1/24 dev here");
        ip("addr add fd99::1/64 dev here nodad");
        ip("link set here up");
        ip("route add default via 10.99.0.2");
        ip("route add default via fd99::2");
        lab.serve_host();
        resolve_by("10.99.0.2");
        lab
    }

    fn serve_away(&self) {
        ip("link set lo up");
        for address in AWAY {
            ip(&format!("addr add {address} dev lo nodad"));
        }
        ip("addr add 10.99.0.2/24 dev there");
        ip("addr add fd99::2/64 dev there nodad");
        ip("link set there up");
        for port in TCP_PORTS {
            self.listen((Ipv6Addr::UNSPECIFIED, port).into(), "away");
        }
        for port in UDP_PORTS {
            let (lab, socket) = (self.clone(), UdpSocket::bind(("93.184.216.34", port)).unwrap());
            thread::spawn(move || lab.hear(&socket));
        }
        let (lab, socket) = (self.clone(), UdpSocket::bind("10.99.0.2:53").unwrap());
        thread::spawn(move || lab.resolve(&socket));
    }

    /// Whoever gets through to the host itself is written down, too.
    fn serve_host(&self) {
        self.listen(([127, 0, 0, 1], HOST_PORT).into(), "host");
        for port in [80, 443, 7001] {
            self.listen((Ipv6Addr::UNSPECIFIED, port).into(), "host");
        }
    }

    fn listen(&self, at: SocketAddr, who: &'static str) {
        let (lab, listener) = (self.clone(), TcpListener::bind(at).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lab = lab.clone();
                thread::spawn(move || lab.greet(stream, who));
            }
        });
    }

    /// Writes down what comes first, and answers as a web server does.
    fn greet(&self, mut stream: TcpStream, who: &str) {
        let at = stream.local_addr().unwrap();
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        if at == SocketAddr::from((WEB, 443)) {
            return self.web.serve(stream, |line| self.note(line));
        }
        self.note(format!("{who} tcp {at} opened"));
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = vec![0; 65_536];
        while let Ok(n) = stream.read(&mut bytes) {
            if n == 0 {
                break;
            }
            let said = String::from_utf8_lossy(&bytes[..n]).into_owned();
            self.note(format!("{who} tcp {at} heard {said:?}"));
            let body = format!("hello from {at}\n");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if stream.write_all((head + &body).as_bytes()).is_err() {
                break;
            }
        }
    }

    fn hear(&self, socket: &UdpSocket) {
        let mut bytes = vec![0; 65_536];
        while let Ok((n, from)) = socket.recv_from(&mut bytes) {
            let said = String::from_utf8_lossy(&bytes[..n]).into_owned();
            self.note(format!("away udp {} heard {said:?}", socket.local_addr().unwrap().port()));
            let _ = socket.send_to(b"pong", from);
        }
    }

    fn resolve(&self, socket: &UdpSocket) {
        let mut bytes = [0; 4096];
        while let Ok((n, from)) = socket.recv_from(&mut bytes) {
            let Some(question) = Question::read(&bytes[..n]) else { continue };
            self.note(format!("away dns {}", question.name));
            let addresses = addresses(question.name.as_str()).into_iter();
            let wanted = |a: &IpAddr| a.is_ipv4() == (question.kind == Kind::V4);
            let answer: Vec<_> = addresses.filter(wanted).collect();
            let _ = socket.send_to(&question.answer(&answer, 60), from);
        }
    }

    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    /// The authority that the web server's certificate is from, as a file.
    pub fn authority(&self) -> &Path {
        self.web.authority()
    }

    /// What was said so far that has this in it.
    pub fn heard(&self, what: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(what)).cloned().collect()
    }

    /// Requires that nothing was said that has this in it.
    pub fn assert_silent(&self, what: &str) {
        assert_eq!(self.heard(what), Vec::<String>::new(), "{what} was heard");
    }
}

/// The names that there are.
fn addresses(name: &str) -> Vec<IpAddr> {
    let all: &[&str] = match name {
        "good.example.com" | "same.example.com" => &["93.184.216.34"],
        "other.example.com" => &["93.184.216.35"],
        "secret.example.com" | "twin.example.com" => &["93.184.216.36"],
        "six.example.com" => &["2606:2800:220:1::34"],
        "mixed.bad.example.com" => &["93.184.216.34", "127.0.0.1", "10.99.0.2", "::1"],
        "loop.bad.example.com" => &["127.0.0.1", "::1"],
        "zero.bad.example.com" => &["0.0.0.0", "::"],
        "meta.bad.example.com" => &["169.254.169.254"],
        "private.bad.example.com" => &["10.99.0.2", "fd99::2"],
        "host.bad.example.com" => &["10.99.0.1", "fd99::1"],
        "own.bad.example.com" => &["93.184.216.99"],
        "mapped.bad.example.com" => &["::ffff:127.0.0.1", "64:ff9b::7f00:1", "::127.0.0.1"],
        "gateway.bad.example.com" => &["192.0.0.1"],
        _ => &[],
    };
    all.iter().map(|address| address.parse().unwrap()).collect()
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Only here: the mounts are this test's own.
fn resolve_by(server: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("nameserver {server}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let done = Command::new("mount").args(["--bind", path, "/etc/resolv.conf"]).status();
    assert!(done.unwrap().success());
}
