//! What went through, and what was refused.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::policy::Reason;
use crate::rule::Rule;

/// The most refusals that are told apart.
const MAX_DENIED: usize = 128;

/// The most hosts that are told apart of those that were reached.
const MAX_CONTACTS: usize = 500;
/// The most ports of one of them.
const MAX_PORTS: usize = 16;

/// How much has gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes from the guest.
    pub sent: u64,
    /// Bytes to the guest.
    pub received: u64,
    /// Connections that were opened.
    pub connections: u64,
}

/// What was refused, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Whom it was for: a name where one is known, else an address.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// `tcp`, `udp`, or `dns` for a name that was asked for.
    pub proto: Cow<'static, str>,
    /// Why.
    pub reason: Reason,
    /// A rule that would open it, where one could.
    pub rule_hint: Option<String>,
    /// How often.
    pub count: u64,
}

/// Keeps all of it. Refusals are never forgotten, so that they can be counted
/// from any moment on; there are only so many different ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    /// How much has gone through.
    pub traffic: Traffic,
    denied: Vec<Denied>,
    contacts: BTreeMap<(String, &'static str), BTreeSet<u16>>,
    /// Whether more was reached than there is room for.
    left_out: bool,
}

/// Rules that open what was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestion {
    /// The rules.
    pub rules: Vec<String>,
    /// Whether they open a part of it only: more was reached than is kept.
    pub left_out: bool,
}

/// What a ledger said at some moment.
#[derive(Debug, Default)]
pub(crate) struct Position {
    traffic: Traffic,
    counts: Vec<u64>,
}

impl Ledger {
    /// Notes a refusal.
    pub(crate) fn deny(&mut self, mut denied: Denied) {
        if self.denied.len() >= MAX_DENIED {
            // The last entry stands for all that do not fit.
            denied = Denied { host: "*".into(), port: 0, rule_hint: None, ..denied };
            denied.proto = "any".into();
        }
        let same = |known: &&mut Denied| {
            known.host == denied.host
                && (known.port, &known.proto) == (denied.port, &denied.proto)
                && (known.reason == denied.reason || known.host == "*")
        };
        match self.denied.iter_mut().find(same) {
            Some(known) => known.count += denied.count,
            None => self.denied.push(denied),
        }
    }

    /// Notes that somebody was reached.
    pub(crate) fn reach(&mut self, host: String, port: u16, proto: &'static str) {
        let key = (host, proto);
        let known = self.contacts.len() < MAX_CONTACTS || self.contacts.contains_key(&key);
        let ports = known.then(|| self.contacts.entry(key).or_default());
        match ports.filter(|ports| ports.len() < MAX_PORTS || ports.contains(&port)) {
            Some(ports) => drop(ports.insert(port)),
            None => self.left_out = true,
        }
    }

    /// The rules that open what was reached, and nothing else.
    pub(crate) fn suggestion(&self) -> Suggestion {
        let rule = |((host, proto), ports): (&(String, &str), &BTreeSet<u16>)| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            let suffix = if *proto == "udp" { "/udp" } else { "" };
            format!("{host}:{}{suffix}", ports.join("+"))
        };
        let rules = self.contacts.iter().map(rule).collect();
        Suggestion { rules, left_out: self.left_out }
    }

    /// This moment.
    pub(crate) fn position(&self) -> Position {
        let counts = self.denied.iter().map(|denied| denied.count).collect();
        Position { traffic: self.traffic, counts }
    }

    /// What has come since then.
    pub(crate) fn since(&self, then: &Position) -> (Traffic, Vec<Denied>) {
        let (now, before) = (self.traffic, then.traffic);
        let traffic = Traffic {
            sent: now.sent - before.sent,
            received: now.received - before.received,
            connections: now.connections - before.connections,
        };
        let before = |n: usize| then.counts.get(n).copied().unwrap_or(0);
        let more = |(n, denied): (usize, &Denied)| {
            let count = denied.count - before(n);
            (count > 0).then(|| Denied { count, ..denied.clone() })
        };
        (traffic, self.denied.iter().enumerate().filter_map(more).collect())
    }
}

impl Denied {
    /// A connection that was refused. `name` is whom it was for, where that is
    /// known.
    pub(crate) fn connection(
        there: SocketAddr,
        name: Option<String>,
        proto: &'static str,
        reason: Reason,
    ) -> Self {
        let host = name.unwrap_or_else(|| there.ip().to_canonical().to_string());
        let rule_hint = hint(&host, there.port(), proto, reason);
        Self { host, port: there.port(), proto: proto.into(), reason, rule_hint, count: 1 }
    }

    /// A name that was not answered for.
    pub(crate) fn name(name: &str, reason: Reason) -> Self {
        let rule_hint = matches!(reason, Reason::NoRule | Reason::HiddenDns);
        let rule_hint = rule_hint.then(|| name.to_owned()).filter(|rule| Rule::parse(rule).is_ok());
        let proto = "dns".into();
        Self { host: name.to_owned(), port: 53, proto, reason, rule_hint, count: 1 }
    }

    /// Everything, once there is no network any more.
    pub(crate) fn all() -> Self {
        let (host, proto) = ("*".into(), "any".into());
        Self { host, port: 0, proto, reason: Reason::Ended, rule_hint: None, count: 1 }
    }
}

/// The rule that would open it. What is nobody's cannot be opened, and what a
/// rule shuts is meant to be shut.
fn hint(host: &str, port: u16, proto: &str, reason: Reason) -> Option<String> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let suffix = if proto == "udp" { "/udp" } else { "" };
    match reason {
        Reason::Host if proto == "tcp" => Some(format!("host:{port}")),
        Reason::Host
        | Reason::Rule
        | Reason::Unclear
        | Reason::Reserved
        | Reason::TooMany
        | Reason::NoHost
        | Reason::Untrusted
        | Reason::NoPeer
        | Reason::Ended => None,
        _ => Some(format!("{host}:{port}{suffix}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_a_moment_is_told_apart() {
        let mut ledger = Ledger::default();
        let there = "93.184.216.34:443".parse().unwrap();
        let denied = || Denied::connection(there, None, "tcp", Reason::NoRule);
        ledger.deny(denied());
        let then = ledger.position();
        ledger.traffic.sent += 5;
        assert_eq!(ledger.since(&then).1, []);
        ledger.deny(denied());
        ledger.deny(denied());
        let (traffic, since) = ledger.since(&then);
        assert_eq!((traffic.sent, since.len(), since[0].count), (5, 1, 2));
        assert_eq!(since[0].rule_hint.as_deref(), Some("93.184.216.34:443"));
    }

    #[test]
    fn a_hint_is_a_rule_that_opens_it() {
        let there = "100.64.0.1:123".parse().unwrap();
        let hint = |proto| Denied::connection(there, None, proto, Reason::Host).rule_hint;
        assert_eq!((hint("tcp").as_deref(), hint("udp")), (Some("host:123"), None));
        assert_eq!(Denied::name("999.1.2.3", Reason::NoRule).rule_hint, None);
        assert_eq!(Denied::name("a.b", Reason::NoRule).rule_hint.as_deref(), Some("a.b"));
    }

    #[test]
    fn what_is_left_out_of_a_suggestion_is_told() {
        let mut ledger = Ledger::default();
        for port in 1..=MAX_PORTS as u16 {
            ledger.reach("a.example.com".into(), port, "tcp");
            ledger.reach("a.example.com".into(), 1, "tcp");
        }
        assert!(!ledger.suggestion().left_out);
        ledger.reach("a.example.com".into(), 99, "tcp");
        assert!(ledger.suggestion().left_out);
        let mut ledger = Ledger::default();
        for n in 0..=MAX_CONTACTS {
            assert!(!ledger.suggestion().left_out);
            ledger.reach(format!("n{n}"), 1, "tcp");
        }
        assert!(ledger.suggestion().left_out);
        assert_eq!(ledger.suggestion().rules.len(), MAX_CONTACTS);
    }

    #[test]
    fn there_are_never_too_many() {
        let mut ledger = Ledger::default();
        for n in 0..1000_u32 {
            let there = SocketAddr::from((n.to_be_bytes(), 1));
            ledger.deny(Denied::connection(there, None, "tcp", Reason::NoRule));
        }
        let all = ledger.since(&Position::default()).1;
        assert_eq!(all.len(), MAX_DENIED + 1);
        assert_eq!(all.iter().map(|denied| denied.count).sum::<u64>(), 1000);
    }
}
