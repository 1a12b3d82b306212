//! The VMs of a private network, as they know each other.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::entropy;

/// The most VMs on one private network: each is connected with each.
pub const MAX_PEERS: usize = 32;
/// Names that mean this host to somebody.
const TAKEN: [&str; 2] = ["host", "localhost"];
/// What a name may end with besides.
const SUFFIX: &str = ".lampyr.internal";

/// A VM on a private network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What the others call it.
    pub name: Domain,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// Nothing that a VM on a private network can be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot be the name of a VM on a private network: {1}")]
pub struct BadPeerName(String, &'static str);

/// Reads the name of a VM on a private network: one label of a host's name.
pub fn peer_name(text: &str) -> Result<Domain, BadPeerName> {
    let bad = |why| BadPeerName(text.chars().take(80).collect(), why);
    let name = Domain::parse(text).map_err(|_| bad("it is no name of a host"))?;
    match name.as_str() {
        plain if TAKEN.contains(&plain) => Err(bad("that is this host")),
        _ if name.labels() > 1 => Err(bad("it has a dot")),
        _ => Ok(name),
    }
}

impl Peer {
    /// Gives a VM addresses that none of the `others` has, in the block that
    /// they share; `None`: there are [`MAX_PEERS`] of them.
    pub fn new(name: Domain, others: &[Self]) -> Option<Self> {
        if others.len() >= MAX_PEERS {
            return None;
        }
        let [high, low, start]: [u8; 3] = entropy::bytes();
        let (high, low) = others.first().map_or((64 | (high & 0x3f), low), Self::block);
        let taken = |n: &u8| others.iter().any(|other| other.v4.octets()[3] == *n);
        let number = (0..=u8::MAX).map(|n| n.wrapping_add(start));
        let number = number.filter(|n| (2..=254).contains(n)).find(|n| !taken(n))?;
        let group = u16::from_be_bytes([high, low]);
        Some(Self {
            name,
            // As every card: see there.
            v4: Ipv4Addr::new(100, high, low, number),
            v6: Ipv6Addr::new(0xfd6c, 0x616d, 0x7079, group, 0, 0, 0, number.into()),
        })
    }

    fn block(&self) -> (u8, u8) {
        let [_, high, low, _] = self.v4.octets();
        (high, low)
    }

    /// Whether it has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.v4) || address == IpAddr::V6(self.v6)
    }

    /// Whether it goes by this name.
    pub(crate) fn is_called(&self, name: &Domain) -> bool {
        let plain = name.as_str().strip_suffix(SUFFIX).unwrap_or(name.as_str());
        plain == self.name.as_str()
    }

    /// Whether an address lies in the block of its network.
    pub(crate) fn is_near(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4.octets()[..3] == self.v4.octets()[..3],
            IpAddr::V6(v6) => v6.octets()[..8] == self.v6.octets()[..8],
        }
    }

    /// Whether one cannot be told from the other.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.name == other.name || self.v4 == other.v4 || self.v6 == other.v6
    }
}

/// What a VM needs to be on a private network: who it is, where others come
/// to, and lines to those that were there before.
#[derive(Debug)]
pub struct Wire {
    pub(crate) own: Peer,
    pub(crate) listener: UnixListener,
    pub(crate) lines: Vec<(Peer, UnixStream)>,
}

impl Wire {
    /// The wire of a VM that is alone so far.
    pub fn new(own: Peer, listener: UnixListener) -> Self {
        Self { own, listener, lines: Vec::new() }
    }

    /// Adds a line to a peer, and says on it who we are.
    pub fn reach(&mut self, peer: Peer, mut line: UnixStream) -> io::Result<()> {
        let hello = serde_json::to_vec(&self.own)?;
        line.write_all(&(hello.len() as u32).to_be_bytes())?;
        line.write_all(&hello)?;
        self.lines.push((peer, line));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Domain {
        peer_name(&format!("vm-{n}")).unwrap()
    }

    #[test]
    fn a_network_has_room_for_so_many_and_no_two_are_alike() {
        let mut peers: Vec<Peer> = Vec::new();
        while let Some(peer) = Peer::new(name(peers.len()), &peers) {
            assert!(!peers.iter().any(|other| other.is_like(&peer)));
            assert!(peers.iter().all(|other| other.is_near(peer.v4.into())));
            assert!(peers.iter().all(|other| other.is_near(peer.v6.into())));
            peers.push(peer);
        }
        assert_eq!(peers.len(), MAX_PEERS);
    }

    #[test]
    fn a_peer_goes_by_two_names() {
        let peer = Peer::new(name(1), &[]).unwrap();
        for (text, is) in [
            ("vm-1", true),
            ("VM-1.lampyr.internal.", true),
            ("vm-2", false),
            ("vm-1.example.com", false),
        ] {
            assert_eq!(peer.is_called(&Domain::parse(text).unwrap()), is, "{text}");
        }
    }

    #[test]
    fn a_name_is_one_label_and_not_this_host() {
        for text in ["host", "localhost", "a.b", "7", "a_", "", "-a"] {
            assert_eq!(peer_name(text).is_ok(), text == "a_", "{text}");
        }
    }
}
