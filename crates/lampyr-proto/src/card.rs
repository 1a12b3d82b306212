//! A guest's network card, as it is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minicbor::{Decode, Encode};

/// A guest's network card. What is the same for all of them is in [`Self::MTU`]
/// and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Card {
    /// Its hardware address.
    #[n(0)]
    pub mac: [u8; 6],
    /// Its only IPv4 address.
    #[n(1)]
    pub v4: Ipv4Addr,
    /// Its only IPv6 address; the unspecified one where it has none.
    #[n(2)]
    pub v6: Ipv6Addr,
}

impl Card {
    /// The longest packet, in bytes. The card is no real wire: the longer a
    /// packet, the fewer an emulated processor has to see.
    pub const MTU: u16 = 16_384;
    /// The gateway, which is the resolver as well. Nobody else has this
    /// address: it is reserved for the inner end of a tunnel.
    pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
    /// The gateway for IPv6.
    pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    /// The hardware address of the gateway.
    pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x6c, 0x61, 0x6d, 0x70, 0x01];

    /// Whether this is the gateway's address.
    pub fn is_gateway(address: IpAddr) -> bool {
        address == IpAddr::V4(Self::GATEWAY_V4) || address == IpAddr::V6(Self::GATEWAY_V6)
    }
}
