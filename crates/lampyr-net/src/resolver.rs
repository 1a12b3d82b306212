//! Asks the host's name servers.

use std::io;
use std::net::{IpAddr, SocketAddr};
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
/// Where the system says who its servers are.
const SERVERS: &str = "/etc/resolv.conf";

/// The host's name servers, as they are now: a laptop moves.
pub(crate) fn of_host() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(SERVERS).unwrap_or_default();
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = named.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.take(MAX_SERVERS).map(|address| (address, 53).into()).collect()
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
