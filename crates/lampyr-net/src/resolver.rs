//! Asks the host's name servers.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::control::hear;
use crate::dns::{self, Kind, Said};
use crate::domain::Domain;
use crate::entropy;

/// How long each server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most servers that are asked.
const MAX_SERVERS: usize = 3;
/// The longest list of servers, in bytes.
const MAX_LIST: usize = 1 << 10;
/// The port of a server.
const DNS: u16 = 53;
/// Where Linux tells of its interfaces.
const INTERFACES: &str = "/sys/class/net";
/// Where the system says who its servers are.
const SERVERS: &str = "/etc/resolv.conf";

/// The host's name servers, as they are now: a laptop moves.
pub(crate) fn of_host() -> Vec<SocketAddr> {
    listed().0
}

/// The same, and what stands there as a server and cannot be asked.
pub(crate) fn listed() -> (Vec<SocketAddr>, Vec<String>) {
    read(&std::fs::read_to_string(SERVERS).unwrap_or_default())
}

/// The first word after `nameserver` is a server, as it is for everybody.
fn read(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut odd) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(word) = words.next().filter(|word| *word == "nameserver").and(words.next()) else {
            continue;
        };
        match server(word) {
            Some(server) => servers.push(server),
            None => odd.push(word.chars().take(80).collect()),
        }
    }
    servers.truncate(MAX_SERVERS);
    odd.truncate(MAX_SERVERS);
    (servers, odd)
}

fn server(word: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = word.split_once('%') else {
        return Some((word.parse::<IpAddr>().ok()?, DNS).into());
    };
    let scope = scope.parse().ok().or_else(|| interface(scope))?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS, 0, scope).into())
}

/// The number of an interface, where the system says it.
fn interface(name: &str) -> Option<u32> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    let good = name.chars().all(plain) && !name.starts_with('.');
    let path = good.then(|| Path::new(INTERFACES).join(name).join("ifindex"))?;
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Who knows the host's name servers: a sealed process cannot look.
#[derive(Debug)]
pub(crate) enum Servers {
    /// This process.
    Here,
    /// Its owner, who answers each byte with a list.
    Owner(Mutex<UnixStream>),
}

impl Servers {
    /// Asks the owner at the other end of `line`, within a runtime.
    pub(crate) fn of_owner(line: std::os::unix::net::UnixStream) -> io::Result<Self> {
        Ok(Self::Owner(Mutex::new(UnixStream::from_std(line)?)))
    }

    async fn now(&self) -> Vec<SocketAddr> {
        match self {
            Self::Here => of_host(),
            Self::Owner(line) => told(&mut *line.lock().await).await.unwrap_or_default(),
        }
    }
}

async fn told(line: &mut UnixStream) -> io::Result<Vec<SocketAddr>> {
    line.write_all(&[0]).await?;
    hear(line, MAX_LIST).await
}

/// Whether a server answers within this time, whatever it says.
pub(crate) async fn answers(server: SocketAddr, wait: Duration) -> bool {
    // Every server can tell of this one by itself.
    let Ok(name) = Domain::parse("localhost") else { return false };
    matches!(timeout(wait, ask(server, &name, Kind::V4)).await, Ok(Ok(_)))
}

/// Asks for a name, each server once.
pub(crate) async fn resolve(servers: &Servers, name: &Domain, kind: Kind) -> Said {
    for server in servers.now().await {
        let asked = timeout(PATIENCE, ask(server, name, kind)).await;
        if let Ok(Ok(said @ (Said::Addresses(..) | Said::NoName))) = asked {
            return said;
        }
    }
    Said::Failed
}

async fn ask(server: SocketAddr, name: &Domain, kind: Kind) -> io::Result<Said> {
    let id = u16::from_ne_bytes(entropy::bytes());
    let question = dns::ask(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
    let here: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(here).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match dns::hear(buffer.get(..length).unwrap_or_default(), id, name, kind) {
            Some(Said::Cut) => return at_length(server, &question, id, name, kind).await,
            Some(said) => return Ok(said),
            None => {}
        }
    }
}

/// The same over TCP.
async fn at_length(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &Domain,
    kind: Kind,
) -> io::Result<Said> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&(question.len() as u16).to_be_bytes()).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(dns::hear(&answer, id, name, kind).unwrap_or(Said::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_server() {
        let text = "# nameserver 10.0.0.9\nnameserver 10.99.0.2 # lab\n nameserver\t10.99.0.3\n\
                    nameservers 10.0.0.8\nnameserver fe80::1%7\nsearch example.com\n";
        let (servers, odd) = read(text);
        let said: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(said, ["10.99.0.2:53", "10.99.0.3:53", "[fe80::1%7]:53"]);
        assert!(odd.is_empty());
        // The network's process is told so.
        let told = serde_json::to_vec(&servers).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<SocketAddr>>(&told).unwrap(), servers);
    }

    #[test]
    fn what_is_no_server_is_told() {
        let (servers, odd) = read("nameserver dns.example.com\nnameserver fe80::1%no-such-card\n");
        assert_eq!((servers, odd.len()), (Vec::new(), 2));
        assert_eq!(interface("../../etc"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_has_a_number() {
        assert_eq!(server("fe80::1%lo").unwrap().to_string(), "[fe80::1%1]:53");
    }
}
