//! The connections that a copy of a machine has from the original. Their other
//! ends know the original alone, so they are ended before anything in the copy
//! runs: whoever reads or writes is told at once. What listens, listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{netlink, recv, send, socket_with};

/// What the kernel is asked: about all sockets, or to end one.
const LOOK: u16 = 20;
const DESTROY: u16 = 21;
/// The kinds of its answers that are no socket.
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;

/// Every state of a socket but closed (7) and listening (10).
const CONNECTED: u32 = 0x1fff & !(1 << 7 | 1 << 10);

/// The length of a message's head, and of what comes before the name of a
/// socket in an answer, in bytes.
const HEAD: usize = 16;
const BEFORE_NAME: usize = 4;
/// The most that the kernel says at once.
const MAX_ANSWER: usize = 32 << 10;

/// A socket's name: its ports, its addresses, its card and a cookie.
type Name = [u8; 48];

/// Ends every TCP connection that leads out of this machine.
pub(crate) fn end_all() -> io::Result<()> {
    let kernel = kernel()?;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        for name in connections(&kernel, family)? {
            if !peer(family, &name).is_loopback() {
                destroy(&kernel, family, &name)?;
            }
        }
    }
    Ok(())
}

/// The kernel, as somebody to ask about sockets.
fn kernel() -> io::Result<OwnedFd> {
    let (family, about) = (AddressFamily::NETLINK, Some(netlink::SOCK_DIAG));
    Ok(socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, about)?)
}

fn connections(kernel: &OwnedFd, family: u8) -> io::Result<Vec<Name>> {
    ask(kernel, LOOK, DUMP, family, &[0; 48])?;
    let mut found = Vec::new();
    let mut answer = vec![0; MAX_ANSWER];
    loop {
        let (length, _) = recv(kernel, &mut *answer, RecvFlags::empty())?;
        for (kind, body) in Messages(&answer[..length]) {
            match kind {
                DONE => return Ok(found),
                ERROR => return refusal(body).map(|()| found),
                _ => found.extend(body.get(BEFORE_NAME..).and_then(<[u8]>::first_chunk::<48>)),
            }
        }
    }
}

fn destroy(kernel: &OwnedFd, family: u8, name: &Name) -> io::Result<()> {
    ask(kernel, DESTROY, ACKNOWLEDGE, family, name)?;
    let mut answer = vec![0; MAX_ANSWER];
    let (length, _) = recv(kernel, &mut *answer, RecvFlags::empty())?;
    match Messages(&answer[..length]).next().map_or(Ok(()), |(_, body)| refusal(body)) {
        // It has just ended by itself.
        Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
        done => done,
    }
}

/// Asks about the sockets of a family that are connected, or one of them.
fn ask(kernel: &OwnedFd, kind: u16, flags: u16, family: u8, name: &Name) -> io::Result<()> {
    let mut body = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(CONNECTED.to_ne_bytes());
    body.extend(name);
    let mut message = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    // Neither a number nor a sender: one question is asked at a time.
    message.extend([0; 8]);
    message.extend(body);
    send(kernel, &message, SendFlags::empty())?;
    Ok(())
}

/// What the kernel refuses: a negative number, or 0 where it does not.
fn refusal(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number)) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(-number)),
    }
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

/// The kinds and bodies of the messages in an answer.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let body = self.0.get(HEAD..length)?;
        // The next one begins at a multiple of four bytes.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
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
        let kernel = kernel().unwrap();
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

    #[test]
    fn an_answer_that_is_cut_short_has_no_more_messages() {
        let mut answer = 20_u32.to_ne_bytes().to_vec();
        answer.extend(DONE.to_ne_bytes());
        answer.extend([0; 14]);
        assert_eq!(
            Messages(&answer).map(|(kind, body)| (kind, body.len())).collect::<Vec<_>>(),
            [(DONE, 4)]
        );
        assert_eq!(Messages(&answer[..19]).count(), 0);
        answer[0] = 4;
        assert_eq!(Messages(&answer).count(), 0);
    }
}
