//! The connections that a copy of a machine has from the original. Their other
//! ends know the original alone, so they are ended before anything in the copy
//! runs: whoever reads or writes is told at once. What listens, listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::netlink::{DONE, ERROR, Kernel, Messages, refusal};

/// What the kernel is asked: about all sockets, or to end one.
const LOOK: u16 = 20;
const DESTROY: u16 = 21;
const DUMP: u16 = 0x300;

/// Every state of a socket but closed (7) and listening (10).
const CONNECTED: u32 = 0x1fff & !(1 << 7 | 1 << 10);

/// The length of what comes before the name of a socket in an answer, in bytes.
const BEFORE_NAME: usize = 4;

/// A socket's name: its ports, its addresses, its card and a cookie.
type Name = [u8; 48];

/// Ends every TCP connection that leads out of this machine.
pub(crate) fn end_all() -> io::Result<()> {
    let kernel = Kernel::of_sockets()?;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for name in connections(&kernel, family)? {
            if !peer(family, &name).is_loopback() {
                destroy(&kernel, family, &name)?;
            }
        }
    }
    Ok(())
}

fn connections(kernel: &Kernel, family: u8) -> io::Result<Vec<Name>> {
    kernel.ask(LOOK, DUMP, &question(family, &[0; 48]))?;
    let mut found = Vec::new();
    loop {
        let answer = kernel.hear()?;
        for (kind, body) in Messages::of(&answer) {
            match kind {
                DONE => return Ok(found),
                ERROR => return refusal(body).map(|()| found),
                _ => found.extend(body.get(BEFORE_NAME..).and_then(<[u8]>::first_chunk::<48>)),
            }
        }
    }
}

fn destroy(kernel: &Kernel, family: u8, name: &Name) -> io::Result<()> {
    match kernel.order(DESTROY, 0, &question(family, name)) {
        // It has just ended by itself.
        Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
        done => done,
    }
}

/// About the sockets of a family that are connected, or one of them.
fn question(family: u8, name: &Name) -> Vec<u8> {
    let mut body = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(CONNECTED.to_ne_bytes());
    body.extend(name);
    body
}

/// Who is at the other end.
fn peer(family: u8, name: &Name) -> IpAddr {
    let mut address = [0; 16];
    address.copy_from_slice(&name[20..36]);
    match address {
        [a, b, c, d, ..] if family == libc::AF_INET as u8 => Ipv4Addr::new(a, b, c, d).into(),
        address => IpAddr::from(Ipv6Addr::from(address)).to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_found_by_its_other_end_and_what_listens_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let kernel = Kernel::of_sockets().unwrap();
        let family = libc::AF_INET as u8;
        let to_it = |name: &Name| name[2..4] == port.to_be_bytes();
        let count = || match connections(&kernel, family) {
            Ok(all) => Some(all.into_iter().filter(to_it).collect::<Vec<_>>()),
            // A kernel that cannot tell says so.
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::ENOENT));
                None
            }
        };
        let Some(none) = count() else { return };
        assert!(none.is_empty());
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let found = count().unwrap();
        assert_eq!(found.len(), 1);
        assert!(peer(family, &found[0]).is_loopback());
    }

    #[test]
    fn an_address_within_another_is_what_it_stands_for() {
        let mut name = [0; 48];
        name[20..36].copy_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
        assert!(peer(libc::AF_INET6 as u8, &name).is_loopback());
        name[35] = 2;
        name[32] = 93;
        assert!(!peer(libc::AF_INET6 as u8, &name).is_loopback());
    }
}
