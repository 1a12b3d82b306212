//! The network of a machine: started with it, told to its guest, counted.

use std::io;
use std::sync::Arc;

use lampyr_engine::Machine;
use lampyr_net::{Access, Beginning, Mark, Network, Private, Suggestion, Traffic, Wire};
use lampyr_proto::{AUTHORITY, BUNDLE, Denied, NetUse};

use crate::{Error, Host};

/// A network that makes ready while its machine does.
pub(crate) struct Begun {
    network: Beginning,
    /// Its place on a private one, where it is to have one.
    pub(crate) private: Option<Private>,
}

impl Begun {
    /// Begins the network of a machine that has a card.
    pub(crate) async fn new(host: &Host, access: Option<&Access>) -> Result<Option<Self>, Error> {
        let Some(access) = access else { return Ok(None) };
        let network = Beginning::new(&host.network, access).await.map_err(Error::Network)?;
        Ok(Some(Self { network, private: access.private.clone() }))
    }

    /// Gives it the machine's card; with `wire` it is on a private one.
    pub(crate) async fn join(
        self,
        machine: &mut dyn Machine,
        wire: Option<Wire>,
    ) -> Result<Network, Error> {
        let none = || Error::Network(io::Error::other("this engine gives its machines no card"));
        let line = machine.card().ok_or_else(none)?.into_std().map_err(Error::Network)?;
        self.network.join(line, wire).await.map_err(Error::Network)
    }
}

/// What programs ask for a bundle of authorities.
const TRUSTING: [&str; 7] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];
/// What asks for those that are trusted besides.
const TRUSTING_BESIDES: [&str; 2] = ["DENO_CERT", "NODE_EXTRA_CA_CERTS"];

/// The variables by which everything in a guest knows its secrets, and whom to
/// trust with them.
pub(crate) fn variables(access: Option<&Access>) -> Vec<(String, String)> {
    let secrets = access.map(|access| access.secrets.as_slice()).unwrap_or_default();
    if secrets.is_empty() {
        return Vec::new();
    }
    let held = secrets.iter().map(|secret| (secret.name(), secret.placeholder()));
    let bundle = TRUSTING.iter().map(|name| (*name, BUNDLE));
    let besides = TRUSTING_BESIDES.iter().map(|name| (*name, AUTHORITY));
    let all = held.chain(bundle).chain(besides);
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The most bytes of rules that go into one answer.
const MAX_RULES: usize = 48 << 10;

/// The rules that open what was reached, as far as an answer holds them.
pub(crate) async fn suggestion(network: &Network) -> io::Result<Suggestion> {
    Ok(fitting(network.suggestion().await?))
}

fn fitting(mut suggestion: Suggestion) -> Suggestion {
    let mut room = MAX_RULES;
    let fits = |rule: &&String| {
        let left = room.checked_sub(rule.len() + 4);
        room = left.unwrap_or(0);
        left.is_some()
    };
    let fit = suggestion.rules.iter().take_while(fits).count();
    suggestion.left_out |= fit < suggestion.rules.len();
    suggestion.rules.truncate(fit);
    suggestion
}

/// What went over the network since then.
pub(crate) async fn since(network: &Network, mark: Mark) -> NetUse {
    told(network.since(mark).await)
}

/// All that went over a network that there may be.
pub(crate) async fn total(network: Option<Arc<Network>>) -> Option<Box<NetUse>> {
    Some(Box::new(told(network?.total().await)))
}

fn told((traffic, denied): (Traffic, Vec<lampyr_net::Denied>)) -> NetUse {
    let denied = denied.into_iter().map(|denied| Denied {
        host: denied.host,
        port: denied.port,
        proto: denied.proto.into_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_does_not_hold_is_told() {
        let long = |n: usize| format!("{n:0>200}.example.com:443");
        let of = |count| Suggestion { rules: (0..count).map(long).collect(), left_out: false };
        assert_eq!(fitting(of(10)), of(10));
        let cut = fitting(of(500));
        let bytes: usize = cut.rules.iter().map(String::len).sum();
        assert!(cut.left_out && cut.rules.len() > 200 && bytes < MAX_RULES);
    }
}
