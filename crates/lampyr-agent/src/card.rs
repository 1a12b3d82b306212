//! The network card: what a restored guest is told of it, put in force.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use lampyr_proto::Card;

use crate::netlink::{Kernel, attribute, link};

/// The one card that there is.
const NAME: &str = "eth0";
const RESOLVER: &str = "/etc/resolv.conf";
/// What a guest need not find out about a wire with two ends, and no address
/// but the one that it is given.
const QUIET: [(&str, &str); 4] =
    [("accept_dad", "0"), ("accept_ra", "0"), ("autoconf", "0"), ("addr_gen_mode", "1")];

/// What makes something that may be there already, then puts itself in its place.
const PUT: u16 = 0x500;
/// A route whose gateway is on the wire, whatever the addresses say.
const ON_LINK: u32 = 4;

/// The machine's card, opened ahead of its use. Each look at something new costs
/// an emulated processor milliseconds, and this is done before every first command.
pub(crate) struct Slot {
    kernel: Kernel,
    index: u32,
    /// What it was told to be the last time.
    held: Option<Card>,
}

impl Slot {
    /// Opens the card; `None` where the machine has none.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        let index = match fs::read_to_string(Path::new("/sys/class/net").join(NAME).join("ifindex"))
        {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            index => index?,
        };
        let index = index.trim().parse().map_err(io::Error::other)?;
        Ok(Some(Self { kernel: Kernel::of_cards()?, index, held: None }))
    }

    /// Makes the card ready, as far as it is the same for everybody.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let quiet = Path::new("/proc/sys/net/ipv6/conf").join(NAME);
        for (name, value) in QUIET {
            // A kernel without IPv6 does without.
            let _ = fs::write(quiet.join(name), value);
        }
        let mtu = attribute(libc::IFLA_MTU, &u32::from(Card::MTU).to_ne_bytes());
        self.kernel.order(libc::RTM_NEWLINK, 0, &link(self.index, libc::IFF_UP as u32, &mtu))?;
        self.kernel.order(libc::RTM_NEWROUTE, PUT, &self.way_out(Card::GATEWAY_V4.into()))?;
        unless_absent(self.kernel.order(
            libc::RTM_NEWROUTE,
            PUT,
            &self.way_out(Card::GATEWAY_V6.into()),
        ))?;
        resolve_by(Card::GATEWAY_V4)
    }

    /// Gives the card its addresses. The new ones come before the old ones go:
    /// with its last address a card would lose its ways out.
    pub(crate) fn assume(&mut self, card: &Card) -> io::Result<()> {
        let was = self.held.replace(*card);
        let mac = attribute(libc::IFLA_ADDRESS, &card.mac);
        self.kernel.order(libc::RTM_SETLINK, 0, &link(self.index, 0, &mac))?;
        self.kernel.order(libc::RTM_NEWADDR, PUT, &self.address(card.v4.into()))?;
        if !card.v6.is_unspecified() {
            unless_absent(self.kernel.order(
                libc::RTM_NEWADDR,
                PUT,
                &self.address(card.v6.into()),
            ))?;
        }
        let old = was.map_or([None; 2], |was| {
            [
                (was.v4 != card.v4).then_some(was.v4.into()),
                (was.v6 != card.v6).then_some(was.v6.into()),
            ]
        });
        for old in old.into_iter().flatten() {
            // Who runs here may have removed it before.
            let _ = self.kernel.order(libc::RTM_DELADDR, 0, &self.address(old));
        }
        Ok(())
    }

    /// About an address that nobody else on the wire has.
    fn address(&self, address: IpAddr) -> Vec<u8> {
        let (family, octets) = raw(address);
        let (alone, known_unique) = (8 * octets.len() as u8, libc::IFA_F_NODAD as u8);
        let mut body = vec![family, alone, known_unique, libc::RT_SCOPE_UNIVERSE];
        body.extend(self.index.to_ne_bytes());
        body.extend(attribute(libc::IFA_LOCAL, &octets));
        body.extend(attribute(libc::IFA_ADDRESS, &octets));
        body
    }

    /// About the way to everywhere.
    fn way_out(&self, gateway: IpAddr) -> Vec<u8> {
        let (family, octets) = raw(gateway);
        let (table, by) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
        let mut body = vec![family, 0, 0, 0, table, by, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST];
        body.extend(ON_LINK.to_ne_bytes());
        body.extend(attribute(libc::RTA_GATEWAY, &octets));
        body.extend(attribute(libc::RTA_OIF, &self.index.to_ne_bytes()));
        body
    }
}

fn raw(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

/// A kernel without IPv6, or one where it was shut off, does without.
fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    match done.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => Ok(()),
        _ => done,
    }
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
