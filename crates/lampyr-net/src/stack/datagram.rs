//! A guest's datagrams.

use std::net::SocketAddr;
use std::time::Instant;

use lampyr_proto::Card;

use super::Stack;
use crate::compose::unreachable;
use crate::domain::Domain;
use crate::gate::Ends;
use crate::ledger::Denied;
use crate::policy::{Reason, Verdict};
use crate::reach::{Reach, reach};
use crate::rule::{Flow, Protocol};

/// What a refusal takes of the bytes that there are for them.
const REFUSAL: usize = 96;

impl Stack {
    pub(super) fn datagram(&mut self, ends: Ends, payload: &[u8]) {
        let now = Instant::now();
        if !self.datagrams.knows(&ends) {
            let names = self.names.of(ends.there.ip());
            let reason = match self.may_say(ends.there, &names) {
                Ok(()) => match self.datagrams.open(ends, names.clone(), now) {
                    Ok(true) => None,
                    Ok(false) => Some(Reason::TooMany),
                    Err(_) => return,
                },
                Err(reason) => Some(reason),
            };
            if let Some(reason) = reason {
                let name = names.first().map(Domain::to_string);
                self.shared.deny(Denied::connection(ends.there, name, "udp", reason));
                return self.refuse(&ends, payload.len());
            }
            self.shared.opened();
            self.shared.reach_all(&names, ends.there, Protocol::Udp.word());
        }
        if self.limits.up.passes(payload.len()) {
            self.datagrams.send(&ends, payload, now, &self.shared);
        }
    }

    /// Tells the guest that a datagram does not go, unless it was told so often
    /// just now.
    fn refuse(&mut self, ends: &Ends, length: usize) {
        if self.queue.out.has_room() && self.limits.refusals.passes(REFUSAL) {
            unreachable(&self.card, &mut self.queue.out, ends, length);
        }
    }

    /// Whether datagrams to there may go.
    fn may_say(&self, there: SocketAddr, names: &[Domain]) -> Result<(), Reason> {
        let (address, port, protocol) = (there.ip(), there.port(), Protocol::Udp);
        match self.shared.policy().judge(&Flow { address, port, protocol, names }) {
            _ if Card::is_gateway(address) => Err(Reason::Host),
            _ if self.is_near(address) => Err(Reason::NoPeer),
            Verdict::Deny(reason) => Err(reason),
            _ if reach(address) == Reach::Here => Err(Reason::Host),
            _ => Ok(()),
        }
    }
}
