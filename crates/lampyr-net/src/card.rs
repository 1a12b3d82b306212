//! Cards for guests.

use std::net::{Ipv4Addr, Ipv6Addr};

use lampyr_proto::Card;

use crate::entropy;
use crate::outlook::INTERNET;
use crate::peer::Peer;
use crate::reach::{Reach, reach};

/// A card that no other sandbox is likely to have.
pub(crate) fn random() -> Card {
    let [net @ .., mac, high, low]: [u8; 6] = entropy::bytes();
    let [first, second, third] = net;
    // A host that has no way there itself spares its guests the detour.
    let away = reach(INTERNET.1.into()) == Reach::Away;
    let group = u16::from_be_bytes([high, low]);
    let v6 = Ipv6Addr::new(0xfd6c, 0x616d, 0x7079, group, 0, 0, 0, 2);
    Card {
        mac: self::mac([mac, high, low]),
        // In the carriers' range, which no network at home or in a company has.
        v4: Ipv4Addr::new(100, 64 | (first & 0x3f), second, third.clamp(1, 254)),
        v6: if away { v6 } else { Ipv6Addr::UNSPECIFIED },
    }
}

/// The card of a VM on a private network.
pub(crate) fn of(peer: &Peer) -> Card {
    Card { mac: mac(entropy::bytes()), v4: peer.v4, v6: peer.v6 }
}

fn mac([high, middle, low]: [u8; 3]) -> [u8; 6] {
    [0x02, 0x6c, 0x70, high, middle, low]
}
