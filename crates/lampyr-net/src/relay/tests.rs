use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};

use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::socket::tcp::SocketBuffer;
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::*;
use crate::access::Access;
use crate::hello::compose;
use crate::ledger::Position;
use crate::resolver::Servers;

const PATIENCE: Duration = Duration::from_secs(20);

fn policy(rules: &str) -> Policy {
    Policy::parse(&format!("allow={rules}")).unwrap().unwrap()
}

fn name(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// A stream of a guest's to there, and a server of ours at its other end.
struct Line {
    interface: Interface,
    device: Loopback,
    sockets: SocketSet<'static>,
    guest: SocketHandle,
    relay: Relay,
    shared: Arc<Shared>,
    limits: Limits,
    born: Instant,
    server: std::net::TcpStream,
    over: Option<Result<(), Reason>>,
    parted: bool,
}

impl Line {
    async fn new(rules: &str, there: &str, names: &[&str]) -> Self {
        let there: SocketAddr = there.parse().unwrap();
        let policy = policy(rules);
        let names = names.iter().map(|text| name(text)).collect();
        let (opened, need) = Opened::by(&policy, there, names).unwrap();
        let (host, server) = pair().await;
        let mut device = Loopback::new(Medium::Ethernet);
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
        let mut interface = Interface::new(config, &mut device, StackTime::ZERO);
        interface.update_ip_addrs(|own| own.push(IpCidr::new(there.ip().into(), 24)).unwrap());
        let mut sockets = SocketSet::new(Vec::new());
        let mut add = || {
            let buffer = || SocketBuffer::new(vec![0; 128 << 10]);
            sockets.add(Socket::new(buffer(), buffer()))
        };
        let (guest, handle) = (add(), add());
        sockets.get_mut::<Socket<'_>>(handle).listen(there.port()).unwrap();
        let context = interface.context();
        sockets.get_mut::<Socket<'_>>(guest).connect(context, there, 40_000).unwrap();
        let guard = Some(Guard::new(need, there.port()));
        let shared = Arc::new(Shared::new(Access::from(policy), None, Servers::Here));
        Self {
            interface,
            device,
            sockets,
            guest,
            relay: Relay::new(handle, there, opened, host, guard),
            shared,
            limits: Limits::new(None, Instant::now()),
            born: Instant::now(),
            server,
            over: None,
            parted: false,
        }
    }

    fn guest(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.guest)
    }

    fn poll(&mut self) {
        let now = StackTime::from_micros(self.born.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.device, &mut self.sockets);
    }

    /// What the stack does in a turn.
    async fn turn(&mut self) {
        self.poll();
        let Self { relay, sockets, limits, shared, over, parted, .. } = self;
        std::future::poll_fn(|cx| {
            let pumped = match (&over, &parted) {
                (Some(_), _) => return Poll::Ready(()),
                (_, true) => relay.bequeath(cx, &mut limits.up, shared),
                _ => relay.pump(cx, sockets, limits, shared),
            };
            match pumped {
                Pumped::Moved(_) => {}
                Pumped::Refused(reason) => {
                    relay.cut(sockets);
                    relay.host = Host::Nobody;
                    *over = Some(Err(reason));
                }
                Pumped::Left => *parted = true,
                Pumped::Over => {
                    *over = Some(Ok(()));
                    relay.host = Host::Nobody;
                }
            }
            Poll::Ready(())
        })
        .await;
        self.poll();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}");
            self.turn().await;
        }
    }

    /// The guest says all of it.
    async fn say(&mut self, bytes: &[u8]) {
        self.until("it is connected", |line| line.guest().may_send()).await;
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = self.guest().send_slice(rest).unwrap();
            rest = &rest[sent..];
            self.turn().await;
        }
    }

    /// Takes turns until the server has heard so much, or all that there is.
    async fn heard(&mut self, length: usize) -> Vec<u8> {
        let (deadline, mut heard) = (Instant::now() + PATIENCE, Vec::new());
        let mut room = [0; 4096];
        self.server.set_nonblocking(true).unwrap();
        while heard.len() < length {
            match self.server.read(&mut room) {
                Ok(0) => break,
                Ok(n) => heard.extend_from_slice(&room[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "only {} were heard", heard.len());
                    self.turn().await;
                }
                Err(e) => panic!("{e} after {}", heard.len()),
            }
        }
        heard
    }
}

/// Two ends of a connection that holds next to nothing.
async fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    let host = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&host, 4096).unwrap();
    (host, listener.accept().unwrap().0)
}

const ADDRESS: &str = "10.99.0.2:5000";

#[tokio::test]
async fn what_a_guest_says_last_arrives_where_the_host_has_ended_first() {
    let mut line = Line::new("10.99.0.0/24", ADDRESS, &[]).await;
    let said: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
    line.server.write_all(b"bye").unwrap();
    line.server.shutdown(Shutdown::Write).unwrap();
    line.until("it has heard all", |line| {
        let _ = line.guest().recv(|bytes| (bytes.len(), ()));
        !line.guest().may_recv()
    })
    .await;
    line.say(&said).await;
    line.guest().close();
    line.until("it is over", |line| !line.guest().is_active()).await;
    assert!(line.heard(usize::MAX).await == said);
}

#[tokio::test]
async fn what_a_guest_says_last_arrives_where_it_has_ended_first() {
    let mut line = Line::new("10.99.0.0/24", ADDRESS, &[]).await;
    let said: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
    line.say(&said).await;
    line.guest().close();
    line.until("all is there", |line| line.guest().state() == State::FinWait2).await;
    line.server.shutdown(Shutdown::Write).unwrap();
    line.until("it is over", |line| line.guest().state() == State::TimeWait).await;
    assert!(line.heard(usize::MAX).await == said);
}

#[tokio::test]
async fn text_that_is_no_request_passes_where_an_address_is_open() {
    let long = vec![b'A'; 40_000];
    for text in [&b"JDWP-Handshake"[..], b"ruok", &long] {
        let mut line = Line::new("10.99.0.2:5000-5010", ADDRESS, &[]).await;
        line.say(text).await;
        assert!(line.heard(text.len()).await == text);
    }
    for text in [&b"ruok"[..], b"GET", &long] {
        let mut line = Line::new("10.99.0.2:5000-5010", ADDRESS, &[]).await;
        line.say(text).await;
        line.guest().close();
        assert!(line.heard(usize::MAX).await == text);
    }
}

#[tokio::test]
async fn what_may_become_a_request_waits() {
    let mut line = Line::new("deny:ads.example.com,10.99.0.0/24", ADDRESS, &[]).await;
    line.say(b"GET").await;
    tokio::time::sleep(2 * UNCLEAR).await;
    line.say(b" / HTTP/1.1\r\nHost: ads.example.com\r\n\r\n").await;
    line.until("it is refused", |line| line.over.is_some()).await;
    assert_eq!(line.over, Some(Err(Reason::Rule)));
    assert!(line.heard(1).await.is_empty());
}

#[tokio::test]
async fn a_name_that_is_shut_is_shut_for_every_request() {
    let mut line = Line::new("deny:ads.example.com,public", "93.184.216.34:80", &[]).await;
    let request = |host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    line.say(request("a.example.com").as_bytes()).await;
    let first = line.heard(request("a.example.com").len()).await;
    assert_eq!(first, request("a.example.com").as_bytes());
    line.say(request("ads.example.com").as_bytes()).await;
    line.until("it is refused", |line| line.over.is_some()).await;
    assert_eq!(line.over, Some(Err(Reason::Rule)));
}

/// What becomes of a stream of a `public` policy's, which said so much, when
/// this one comes into force.
async fn heeds(rules: &str, names: &[&str], said: &[u8]) -> (Result<(), Reason>, Line) {
    let mut line = Line::new("public", "93.184.216.34:443", names).await;
    line.say(said).await;
    if !said.is_empty() {
        assert!(line.heard(said.len()).await == said);
    }
    (line.relay.heed(&policy(rules)), line)
}

#[tokio::test]
async fn another_policy_judges_by_the_name_that_was_said() {
    let good = ["secret.example.com"];
    let hello = compose(Some("secret.example.com"));
    let rules = "secret.example.com";
    assert_eq!(heeds(rules, &good, &hello).await.0, Ok(()));
    assert_eq!(heeds("public", &good, &hello).await.0, Ok(()));
    assert_eq!(heeds("b.example.com", &good, &hello).await.0, Err(Reason::NoRule));
    assert_eq!(heeds("deny:*.example.com,public", &good, &hello).await.0, Err(Reason::Rule));
    // It says a name that did not give the address.
    assert_eq!(heeds(rules, &[], &hello).await.0, Err(Reason::NoRule));
    // Nobody watches whom it asks next.
    let request = b"GET / HTTP/1.1\r\nHost: secret.example.com\r\n\r\n";
    assert_eq!(heeds(rules, &good, request).await.0, Err(Reason::NoHost));
    assert_eq!(heeds("deny:ads.com,public", &good, request).await.0, Err(Reason::NoHost));
}

#[tokio::test]
async fn what_has_said_nothing_yet_is_watched_as_the_new_policy_wants() {
    let (heeded, mut line) = heeds("secret.example.com", &["secret.example.com"], b"").await;
    assert_eq!(heeded, Ok(()));
    line.say(&compose(Some("b.example.com"))).await;
    line.until("it is refused", |line| line.over.is_some()).await;
    assert_eq!(line.over, Some(Err(Reason::OtherHost)));
}

/// The rules that are suggested for a stream which said this.
async fn suggested(rules: &str, there: &str, names: &[&str], said: &[u8]) -> Vec<String> {
    let mut line = Line::new(rules, there, names).await;
    line.say(said).await;
    line.heard(said.len()).await;
    line.turn().await;
    assert_eq!(line.shared.since(&Position::default()).1, []);
    line.shared.suggestion().rules
}

#[tokio::test]
async fn what_is_suggested_opens_what_was_reached() {
    let request = b"GET / HTTP/1.1\r\nHost: db.corp.example.com\r\n\r\n";
    let near = "10.99.0.2:80";
    let name = ["db.corp.example.com"];
    let both = suggested("db.corp.example.com,10.99.0.0/24:80", near, &name, request).await;
    assert_eq!(both, ["10.99.0.2:80", "db.corp.example.com:80"]);
    let raw = suggested("public", "93.184.216.34:80", &[], request).await;
    assert_eq!(raw, ["93.184.216.34:80"]);
    let named = suggested("public", "93.184.216.34:80", &name, request).await;
    assert_eq!(named, ["db.corp.example.com:80"]);
    let nameless = suggested("public", "93.184.216.34:22", &name, b"SSH-2.0-x\r\n").await;
    assert_eq!(nameless, ["db.corp.example.com:22"]);
}
