//! What a network would find on this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lampyr_jail::Means;
use tokio::task::JoinSet;

use crate::intercept::can_verify;
use crate::reach::{Reach, reach};
use crate::resolver::{answers, listed};

/// Addresses of the internet's; nothing is sent there.
pub(crate) const INTERNET: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(8, 8, 8, 8), Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888));

/// What the network of a VM has to do with on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// The host's name servers, as they are asked, and whether each answers.
    pub servers: Vec<(IpAddr, bool)>,
    /// What stands among them and cannot be asked.
    pub odd: Vec<String>,
    /// Whether the internet can be reached over IPv4, as far as routes go.
    pub v4: bool,
    /// The same over IPv6.
    pub v6: bool,
    /// What there is to seal its process with.
    pub means: Means,
    /// Why no server can be verified for which there is a secret.
    pub unverified: Option<String>,
}

impl Outlook {
    /// Looks around, within a runtime. `wait` is how long name servers may take,
    /// which are asked all at once.
    pub async fn here(wait: Duration) -> Self {
        let leads_out = |address: IpAddr| reach(address) == Reach::Away;
        let (servers, odd) = listed();
        Self {
            servers: heard_of(servers, wait).await,
            odd,
            v4: leads_out(INTERNET.0.into()),
            v6: leads_out(INTERNET.1.into()),
            means: Means::here(),
            unverified: can_verify().err().map(|e| e.to_string()),
        }
    }
}

/// Who of these answers, in their order.
async fn heard_of(servers: Vec<SocketAddr>, wait: Duration) -> Vec<(IpAddr, bool)> {
    let mut asked = JoinSet::new();
    for (n, server) in servers.into_iter().enumerate() {
        asked.spawn(async move { (n, server.ip(), answers(server, wait).await) });
    }
    let mut heard = asked.join_all().await;
    heard.sort_unstable();
    heard.into_iter().map(|(_, server, answers)| (server, answers)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_name_server_that_is_silent_is_not_waited_for() {
        let (silent, good) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.2:0").unwrap());
        let servers = vec![silent.local_addr().unwrap(), good.local_addr().unwrap()];
        // It answers that it does not know, which is an answer.
        let server = std::thread::spawn(move || {
            let mut question = [0; 512];
            let (n, from) = good.recv_from(&mut question).unwrap();
            question[2] |= 0x80;
            question[3] = 2;
            good.send_to(&question[..n], from).unwrap();
        });
        let begun = Instant::now();
        let heard = heard_of(servers, Duration::from_millis(500)).await;
        let expected =
            [("127.0.0.1".parse().unwrap(), false), ("127.0.0.2".parse().unwrap(), true)];
        assert_eq!(heard, expected);
        assert!(begun.elapsed() < Duration::from_secs(10));
        server.join().unwrap();
    }
}
