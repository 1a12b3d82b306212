//! By what a stream was opened, and what that lets it say.

use std::net::SocketAddr;

use crate::domain::Domain;
use crate::guard::Need;
use crate::policy::{Policy, Reason, Verdict};
use crate::rule::{Flow, Protocol};

/// By what a stream was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// By one of these names, which gave the address.
    Names(Vec<Domain>),
    /// By the rule of this number, for its address, which these names gave.
    Rule(usize, Vec<Domain>),
    /// By the gateway, for a port of this host.
    Host,
}

impl Opened {
    /// Whether a policy opens a stream to there, by what, and what it must say.
    pub(crate) fn by(
        policy: &Policy,
        there: SocketAddr,
        names: Vec<Domain>,
    ) -> Result<(Self, Need), Reason> {
        let (address, port, protocol) = (there.ip(), there.port(), Protocol::Tcp);
        match policy.judge(&Flow { address, port, protocol, names: &names }) {
            Verdict::Deny(reason) => Err(reason),
            Verdict::ByName(_) => Ok((Self::Names(names), Need::Name)),
            Verdict::ByAddress(n) => Ok((Self::Rule(n, names), policy.need(port, n))),
        }
    }

    /// The names that gave the address.
    pub(crate) fn names(&self) -> &[Domain] {
        match self {
            Self::Names(names) | Self::Rule(_, names) => names,
            Self::Host => &[],
        }
    }

    /// Whether a stream to there may go by this name.
    pub(crate) fn admits(
        &self,
        policy: &Policy,
        there: SocketAddr,
        name: &Domain,
    ) -> Result<(), Reason> {
        let (address, port, protocol) = (there.ip(), there.port(), Protocol::Tcp);
        match self {
            Self::Host => Ok(()),
            Self::Rule(n, _) => policy.passes(name, port, *n),
            Self::Names(pinned) if !pinned.contains(name) => Err(Reason::OtherHost),
            Self::Names(_) => {
                let names = std::slice::from_ref(name);
                match policy.judge(&Flow { address, port, protocol, names }) {
                    Verdict::Deny(reason) => Err(reason),
                    _ => Ok(()),
                }
            }
        }
    }
}
