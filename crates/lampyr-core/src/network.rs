//! The network of a machine: started with it, told to its guest, counted.

use std::io;

use lampyr_engine::Machine;
use lampyr_net::{Mark, Network, Policy};
use lampyr_proto::{Denied, NetUse};

use crate::Error;

/// Starts the network of a machine that has a card.
pub(crate) fn start(machine: &mut dyn Machine, policy: &Policy) -> Result<Network, Error> {
    let none = || Error::Network(io::Error::other("this engine gives its machines no card"));
    let line = machine.card().ok_or_else(none)?.into_std().map_err(Error::Network)?;
    Network::start(line, policy.clone()).map_err(Error::Network)
}

/// The most bytes of rules that go into one answer.
const MAX_RULES: usize = 48 << 10;

/// The rules that open what was reached, as far as an answer holds them.
pub(crate) fn suggestion(network: &Network) -> Vec<String> {
    let mut room = MAX_RULES;
    let fits = |rule: &String| {
        let left = room.checked_sub(rule.len() + 4);
        room = left.unwrap_or(0);
        left.is_some()
    };
    network.rules().into_iter().take_while(fits).collect()
}

/// What went over the network since then.
pub(crate) fn used(network: &Network, mark: &Mark) -> NetUse {
    let (traffic, denied) = network.since(mark);
    let denied = denied.into_iter().map(|denied| Denied {
        host: denied.host,
        port: denied.port,
        proto: denied.proto.to_owned(),
        reason: denied.reason.word().to_owned(),
        rule_hint: denied.rule_hint,
        count: denied.count,
    });
    NetUse {
        sent: traffic.sent,
        received: traffic.received,
        connections: traffic.connections,
        denied: denied.collect(),
    }
}
