//! The network card: what a restored guest is told of it, put in force.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;

use lampyr_proto::Card;

/// The one card that there is.
const NAME: &str = "eth0";
const V6_ADDRESSES: &str = "/proc/net/if_inet6";
const RESOLVER: &str = "/etc/resolv.conf";
/// What a guest need not find out about a wire with two ends, and no address
/// but the one that it is given.
const QUIET: [(&str, &str); 4] =
    [("accept_dad", "0"), ("accept_ra", "0"), ("autoconf", "0"), ("addr_gen_mode", "1")];

/// Makes the card ready, as far as it is the same for everybody. A machine
/// without one does without.
pub(crate) fn prepare() -> io::Result<()> {
    if !Path::new("/sys/class/net").join(NAME).exists() {
        return Ok(());
    }
    let quiet = Path::new("/proc/sys/net/ipv6/conf").join(NAME);
    for (name, value) in QUIET {
        // A kernel without IPv6 does without.
        let _ = fs::write(quiet.join(name), value);
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    set(&socket, libc::SIOCSIFMTU as _, |r| r.ifr_ifru.ifru_mtu = Card::MTU.into())?;
    set(&socket, libc::SIOCSIFFLAGS as _, |r| {
        r.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    })?;
    if let Ok(socket) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        route_v6(&socket)?;
    }
    resolve_by(Card::GATEWAY_V4)
}

/// Gives the card its addresses, and the guest its way out.
pub(crate) fn assume(card: &Card) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    set(&socket, libc::SIOCSIFHWADDR as _, |r| hardware(r, card.mac))?;
    set(&socket, libc::SIOCSIFADDR as _, |r| r.ifr_ifru.ifru_addr = plain(card.v4))?;
    let alone = plain(Ipv4Addr::BROADCAST);
    set(&socket, libc::SIOCSIFNETMASK as _, |r| r.ifr_ifru.ifru_netmask = alone)?;
    route(&socket, Some(Card::GATEWAY_V4), None)?;
    route(&socket, None, Some(Card::GATEWAY_V4))?;
    if !card.v6.is_unspecified()
        && let Ok(socket) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
    {
        let index = index(&socket)?;
        let address = |address| V6Address { address, prefix: 128, index };
        let before = addresses_v6(&fs::read_to_string(V6_ADDRESSES)?);
        let new = address(card.v6.octets());
        ask(&socket, libc::SIOCSIFADDR as _, &raw const new)?;
        // Unlike for IPv4, a new one does not take the place of the last.
        for old in before.into_iter().filter(|old| *old != new.address).map(address) {
            ask(&socket, libc::SIOCDIFADDR as _, &raw const old)?;
        }
    }
    Ok(())
}

/// The addresses of the card in the kernel's list of all.
fn addresses_v6(list: &str) -> Vec<[u8; 16]> {
    let ours = list.lines().filter(|line| line.ends_with(&format!(" {NAME}")));
    let number = |line: &str| u128::from_str_radix(line.get(..32)?, 16).ok();
    ours.filter_map(number).map(u128::to_be_bytes).collect()
}

/// An image may have a link there, to a file that nobody keeps.
fn resolve_by(gateway: Ipv4Addr) -> io::Result<()> {
    match fs::remove_file(RESOLVER) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::create_dir_all("/etc")?;
    fs::write(RESOLVER, format!("nameserver {gateway}\n"))
}

fn set(
    socket: &UdpSocket,
    what: libc::c_ulong,
    fill: impl FnOnce(&mut libc::ifreq),
) -> io::Result<()> {
    let mut request = request();
    fill(&mut request);
    ask(socket, what, &raw const request)
}

fn request() -> libc::ifreq {
    // SAFETY: an ifreq is plain data, and all zeroes is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// Asks the kernel to do something of a card's, as the request says.
fn ask<T>(socket: &UdpSocket, what: libc::c_ulong, request: *const T) -> io::Result<()> {
    // SAFETY: the kernel reads, and for some requests writes, one value of the
    // type that belongs to `what`, which is alive behind the pointer.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), what as _, request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn hardware(request: &mut libc::ifreq, mac: [u8; 6]) {
    let mut address = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: [0; 14] };
    for (to, from) in address.sa_data.iter_mut().zip(mac) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = address;
}

/// An IPv4 address as the kernel's older interfaces have it.
fn plain(address: Ipv4Addr) -> libc::sockaddr {
    let mut plain = libc::sockaddr { sa_family: libc::AF_INET as _, sa_data: [0; 14] };
    for (to, from) in plain.sa_data.iter_mut().skip(2).zip(address.octets()) {
        *to = from as libc::c_char;
    }
    plain
}

/// The way to one host, or to all, over the card or by way of a gateway.
fn route(socket: &UdpSocket, to: Option<Ipv4Addr>, by: Option<Ipv4Addr>) -> io::Result<()> {
    let mut name = *b"eth0\0";
    // SAFETY: an rtentry is plain data, and all zeroes is a valid one.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    let mask = to.map_or(Ipv4Addr::UNSPECIFIED, |_| Ipv4Addr::BROADCAST);
    route.rt_dst = plain(to.unwrap_or(Ipv4Addr::UNSPECIFIED));
    route.rt_genmask = plain(mask);
    route.rt_gateway = plain(by.unwrap_or(Ipv4Addr::UNSPECIFIED));
    let one = to.map_or(0, |_| libc::RTF_HOST);
    route.rt_flags = libc::RTF_UP | one | by.map_or(0, |_| libc::RTF_GATEWAY);
    route.rt_dev = name.as_mut_ptr().cast();
    ask(socket, libc::SIOCADDRT as _, &raw const route)
}

/// What the kernel takes as the IPv6 address of a card.
#[repr(C)]
struct V6Address {
    address: [u8; 16],
    prefix: u32,
    index: libc::c_int,
}

/// What it takes as a route.
#[derive(Default)]
#[repr(C)]
struct V6Route {
    to: [u8; 16],
    from: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    to_prefix: u16,
    from_prefix: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: libc::c_int,
}

fn route_v6(socket: &UdpSocket) -> io::Result<()> {
    let route = V6Route {
        gateway: Card::GATEWAY_V6.octets(),
        flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
        metric: 1,
        index: index(socket)?,
        ..V6Route::default()
    };
    ask(socket, libc::SIOCADDRT as _, &raw const route)
}

fn index(socket: &UdpSocket) -> io::Result<libc::c_int> {
    let mut request = request();
    ask(socket, libc::SIOCGIFINDEX as _, &raw mut request)?;
    // SAFETY: the kernel has just put the number there.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_other_cards_are_not_ours() {
        let list = "\
00000000000000000000000000000001 01 80 10 80       lo
fd00000000000000000000000000abcd 02 80 00 80     eth0
fd00000000000000000000000000beef 03 80 00 80    eth01
";
        let ours: Ipv6Addr = "fd00::abcd".parse().unwrap();
        assert_eq!(addresses_v6(list), [ours.octets()]);
    }
}
