//! The guest's network card and the gateway that it sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::entropy;

/// The longest packet on the card, in bytes. It is no real wire: the longer a
/// packet, the fewer an emulated processor has to see.
pub const MTU: u16 = 16_384;
/// The bits of an IPv4 address that the guest and the gateway share.
pub const V4_PREFIX: u8 = 30;
/// The same of an IPv6 address.
pub const V6_PREFIX: u8 = 64;

/// A guest's card: fresh for each sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// The guest's hardware address.
    pub mac: [u8; 6],
    /// The guest's address.
    pub v4: Ipv4Addr,
    /// The gateway, which is the resolver as well.
    pub v4_gateway: Ipv4Addr,
    /// The guest's IPv6 address.
    pub v6: Ipv6Addr,
    /// The gateway over IPv6.
    pub v6_gateway: Ipv6Addr,
}

impl Card {
    /// The hardware address of the gateway.
    pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x6c, 0x61, 0x6d, 0x70, 0x01];

    /// A card that no other sandbox is likely to have.
    pub fn random() -> Self {
        let [net @ .., mac, high, low]: [u8; 6] = entropy::bytes();
        let [first, second, third] = net;
        // A pair of addresses in the carriers' range, which no network at
        // home or in a company has.
        let v4 = |last| Ipv4Addr::new(100, 64 | (first & 0x3f), second, (third & 0xfc) | last);
        let group = u16::from_be_bytes([high, low]);
        let v6 = |last| Ipv6Addr::new(0xfd6c, 0x616d, 0x7079, group, 0, 0, 0, last);
        Self {
            mac: [0x02, 0x6c, 0x70, mac, high, low],
            v4: v4(2),
            v4_gateway: v4(1),
            v6: v6(2),
            v6_gateway: v6(1),
        }
    }

    /// Whether this is the gateway's address.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.v4_gateway) || address == IpAddr::V6(self.v6_gateway)
    }
}
