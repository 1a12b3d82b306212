//! What an address is, whoever says so.
//!
//! An address that carries another one inside (IPv4-mapped, NAT64, 6to4) is
//! what that one is. What is neither known to be private nor known to be
//! public is reserved: a new special range is shut, not open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The kinds of addresses that a policy tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anybody's, on the internet.
    Public,
    /// Of a network that is somebody's own.
    Private,
    /// Of the link alone.
    LinkLocal,
    /// Where a cloud tells a machine its secrets.
    Metadata,
    /// The machine itself.
    Loopback,
    /// Nobody's: multicast, documentation, tests, the future.
    Reserved,
}

/// Where clouds answer whoever runs on them.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// The special ranges of IPv4; all else is public.
const V4: [(Ipv4Net, Class); 17] = [
    (v4([0, 0, 0, 0], 8), Class::Reserved),
    (v4([10, 0, 0, 0], 8), Class::Private),
    (v4([100, 64, 0, 0], 10), Class::Private),
    (v4([127, 0, 0, 0], 8), Class::Loopback),
    (v4([169, 254, 0, 0], 16), Class::LinkLocal),
    (v4([172, 16, 0, 0], 12), Class::Private),
    (v4([192, 0, 0, 0], 24), Class::Reserved),
    (v4([192, 0, 2, 0], 24), Class::Reserved),
    (v4([192, 31, 196, 0], 24), Class::Reserved),
    (v4([192, 52, 193, 0], 24), Class::Reserved),
    (v4([192, 88, 99, 0], 24), Class::Reserved),
    (v4([192, 168, 0, 0], 16), Class::Private),
    (v4([192, 175, 48, 0], 24), Class::Reserved),
    (v4([198, 18, 0, 0], 15), Class::Reserved),
    (v4([198, 51, 100, 0], 24), Class::Reserved),
    (v4([203, 0, 113, 0], 24), Class::Reserved),
    (v4([224, 0, 0, 0], 3), Class::Reserved),
];

/// The special ranges of IPv6; what else is not in `2000::/3` is reserved.
const V6: [(Ipv6Net, Class); 7] = [
    (v6(0xfc00, 0, 7), Class::Private),
    (v6(0xfe80, 0, 10), Class::LinkLocal),
    (v6(0xfec0, 0, 10), Class::Private),
    (v6(0x2001, 0, 23), Class::Reserved),
    (v6(0x2001, 0xdb8, 32), Class::Reserved),
    (v6(0x3fff, 0, 20), Class::Reserved),
    (v6(0x5f00, 0, 16), Class::Reserved),
];

const fn v4(octets: [u8; 4], length: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(first: u16, second: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

/// The address that is meant: the IPv4 one inside, where there is one.
pub(crate) fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    inside(v6).map_or(address, IpAddr::V4)
}

fn inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (segments, bits) = (address.segments(), address.to_bits());
    let last = Some(Ipv4Addr::from_bits(bits as u32));
    match segments {
        // The unspecified and the loopback address look like IPv4 ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => last,
        [0x2002, ..] => Some(Ipv4Addr::from_bits((bits >> 80) as u32)),
        _ => None,
    }
}

/// What an address is.
pub fn class(address: IpAddr) -> Class {
    let address = meant(address);
    if METADATA.contains(&address) {
        return Class::Metadata;
    }
    match address {
        IpAddr::V4(v4) => {
            V4.iter().find(|(net, _)| net.contains(&v4)).map_or(Class::Public, |(_, c)| *c)
        }
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Class::Loopback,
        IpAddr::V6(v6) => {
            let global = v6.segments()[0] & 0xe000 == 0x2000;
            let other = if global { Class::Public } else { Class::Reserved };
            V6.iter().find(|(net, _)| net.contains(&v6)).map_or(other, |(_, c)| *c)
        }
    }
}

/// Whether every address of a network is of this class. A network that is
/// wider than a special range does not name it.
pub(crate) fn is_within(net: &IpNet, class: Class) -> bool {
    let lies_in = |outer: IpNet| outer.contains(net);
    match class {
        Class::Public => true,
        Class::Metadata => net.prefix_len() == net.max_prefix_len(),
        _ => {
            let v4 = V4.iter().map(|(outer, c)| (IpNet::V4(*outer), *c));
            let v6 = V6.iter().map(|(outer, c)| (IpNet::V6(*outer), *c));
            v4.chain(v6).any(|(outer, c)| c == class && lies_in(outer))
        }
    }
}

/// Whether no stream and no datagram of ours goes to any address of a network.
pub(crate) fn is_nobodys(net: &IpNet) -> bool {
    let (first, last) = (net.network(), net.broadcast());
    let is_all = first == IpAddr::V4(Ipv4Addr::BROADCAST);
    (first == last && (first.is_unspecified() || is_all))
        || (first.is_multicast() && last.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_is_told() {
        use Class::{LinkLocal, Loopback, Metadata, Private, Public, Reserved};
        let rows = [
            ("8.8.8.8", Public),
            ("2606:4700::1111", Public),
            ("10.1.2.3", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("100.64.0.1", Private),
            ("fd12::1", Private),
            ("127.8.8.8", Loopback),
            ("::1", Loopback),
            ("169.254.1.1", LinkLocal),
            ("fe80::1", LinkLocal),
            ("169.254.169.254", Metadata),
            ("fd00:ec2::254", Metadata),
            ("0.0.0.0", Reserved),
            ("::", Reserved),
            ("224.0.0.1", Reserved),
            ("255.255.255.255", Reserved),
            ("ff02::1", Reserved),
            ("2001:db8::1", Reserved),
            ("4000::1", Reserved),
        ];
        for (address, expected) in rows {
            assert_eq!(class(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn an_address_in_disguise_is_what_it_hides() {
        for form in ["::ffff:V", "::V", "64:ff9b::V", "::ffff:0:V"] {
            for (hidden, expected) in [
                ("127.0.0.1", Class::Loopback),
                ("169.254.169.254", Class::Metadata),
                ("10.0.0.1", Class::Private),
                ("8.8.8.8", Class::Public),
            ] {
                let address: IpAddr = form.replace('V', hidden).parse().unwrap();
                assert_eq!(class(address), expected, "{address}");
                assert_eq!(meant(address), hidden.parse::<IpAddr>().unwrap());
            }
        }
        assert_eq!(class("2002:7f00:1::".parse().unwrap()), Class::Loopback);
    }
}
