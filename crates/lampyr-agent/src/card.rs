//! The network card: what a restored guest is told of it, put in force.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;

use lampyr_proto::Card;

/// The one card that there is.
const NAME: &str = "eth0";
const RESOLVER: &str = "/etc/resolv.conf";
/// What a guest need not find out about a wire with two ends.
const QUIET: [&str; 3] = ["accept_dad", "accept_ra", "autoconf"];

/// Gives the card its addresses and the guest its way out.
pub(crate) fn bring_up(card: &Card) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    set(&socket, libc::SIOCSIFHWADDR as _, |r| hardware(r, card.mac))?;
    set(&socket, libc::SIOCSIFMTU as _, |r| r.ifr_ifru.ifru_mtu = card.mtu.into())?;
    let v6 = quiet();
    set(&socket, libc::SIOCSIFADDR as _, |r| r.ifr_ifru.ifru_addr = plain(card.v4))?;
    let mask = u32::MAX << 32_u32.saturating_sub(card.v4_prefix.into()).min(31);
    set(&socket, libc::SIOCSIFNETMASK as _, |r| r.ifr_ifru.ifru_netmask = plain(mask.into()))?;
    set(&socket, libc::SIOCSIFFLAGS as _, |r| {
        r.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    })?;
    route(&socket, card.v4_gateway)?;
    // A kernel without IPv6 does without.
    if v6.is_ok() {
        bring_up_v6(card)?;
    }
    resolve_by(card.v4_gateway)
}

fn quiet() -> io::Result<()> {
    let dir = Path::new("/proc/sys/net/ipv6/conf").join(NAME);
    QUIET.iter().try_for_each(|name| fs::write(dir.join(name), "0"))
}

/// An image may have a link there, to a file that nobody keeps.
fn resolve_by(gateway: Ipv4Addr) -> io::Result<()> {
    match fs::remove_file(RESOLVER) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
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

fn route(socket: &UdpSocket, gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: an rtentry is plain data, and all zeroes is a valid one.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = plain(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = plain(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = plain(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
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

fn bring_up_v6(card: &Card) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    let index = index(&socket)?;
    let address = V6Address { address: card.v6.octets(), prefix: card.v6_prefix.into(), index };
    ask(&socket, libc::SIOCSIFADDR as _, &raw const address)?;
    let route = V6Route {
        gateway: card.v6_gateway.octets(),
        flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
        metric: 1,
        index,
        ..V6Route::default()
    };
    ask(&socket, libc::SIOCADDRT as _, &raw const route)
}

fn index(socket: &UdpSocket) -> io::Result<libc::c_int> {
    let mut request = request();
    ask(socket, libc::SIOCGIFINDEX as _, &raw mut request)?;
    // SAFETY: the kernel has just put the number there.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex })
}
