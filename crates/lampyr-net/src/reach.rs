//! Where an address leads from this host.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To this host itself.
    Here,
    /// To some other host.
    Away,
    /// Nowhere.
    Nowhere,
}

/// Asks the system, which alone knows all its addresses: a socket that speaks
/// to one of them speaks from it, too. Nothing is sent.
pub(crate) fn reach(address: IpAddr) -> Reach {
    let from: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let asked = UdpSocket::bind(from).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    match asked {
        Ok(own) if own.ip() == address || own.ip().is_loopback() => Reach::Here,
        Ok(_) => Reach::Away,
        Err(_) => Reach::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_here_by_all_its_names() {
        for address in ["127.0.0.1", "127.3.4.5", "0.0.0.0"] {
            assert_eq!(reach(address.parse().unwrap()), Reach::Here, "{address}");
        }
    }
}
