//! A policy: rules, of which the first that matches decides. The end is deny.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::{self, Class};
use crate::domain::Domain;
use crate::guard::Need;
use crate::rule::{self, BadRule, Flow, Group, Protocol, Rule, Target};

/// The most rules that a policy may have.
pub const MAX_RULES: usize = 1000;

/// What may leave a VM, and what is noted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Policy {
    rules: Vec<Rule>,
}

/// A policy as text.
#[derive(Serialize, Deserialize)]
struct Plain {
    rules: Vec<String>,
}

/// Why some text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// None of the words that it can be.
    #[error("invalid value '{0}': use none, public, record or allow=RULE[,RULE…]")]
    Word(String),
    /// A rule that does not hold.
    #[error("invalid rule '{rule}', {bad}")]
    Rule {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        bad: BadRule,
    },
    /// More rules than anybody could mean.
    #[error("more than {MAX_RULES} rules")]
    TooMany,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing allows it.
    NoRule,
    /// A rule denies it.
    Rule,
    /// It leads to a private network that no rule names.
    Private,
    /// It leads to an address of the link that no rule names.
    LinkLocal,
    /// It leads to where a cloud keeps its secrets, and no rule names that.
    Metadata,
    /// It leads to this host.
    Host,
    /// It leads to nobody.
    Reserved,
    /// It speaks to another host than its address stands for.
    OtherHost,
    /// It does not say to which host it speaks.
    NoHost,
    /// It asks for something over HTTP in a way that others could read otherwise.
    Unclear,
    /// It leads around the resolver.
    HiddenDns,
    /// There are too many of them already.
    TooMany,
    /// It leads to a server that cannot show that it is the host of a secret.
    Untrusted,
    /// It leads to a VM of a private network that is not there.
    NoPeer,
    /// Nothing is there any more that could let it through.
    Ended,
}

impl Reason {
    /// The word for it in an envelope.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::Rule => "denied-by-rule",
            Self::Private => "private-address",
            Self::LinkLocal => "link-local-address",
            Self::Metadata => "metadata-address",
            Self::Host => "host-address",
            Self::Reserved => "reserved-address",
            Self::OtherHost => "other-host",
            Self::NoHost => "no-host-name",
            Self::Unclear => "unclear-request",
            Self::HiddenDns => "hidden-dns",
            Self::TooMany => "too-many",
            Self::Untrusted => "untrusted-server",
            Self::NoPeer => "no-peer",
            Self::Ended => "network-ended",
        }
    }
}

/// What a policy says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule of this number opens it, for the names that gave the address.
    ByName(usize),
    /// The rule of this number opens it, whatever name it goes by.
    ByAddress(usize),
    /// It is shut.
    Deny(Reason),
}

/// Who answers DNS over HTTPS for everybody.
const OPEN_RESOLVERS: [&str; 14] = [
    "dns.google",
    "dns64.dns.google",
    "cloudflare-dns.com",
    "mozilla.cloudflare-dns.com",
    "chrome.cloudflare-dns.com",
    "security.cloudflare-dns.com",
    "family.cloudflare-dns.com",
    "one.one.one.one",
    "dns.quad9.net",
    "doh.opendns.com",
    "dns.adguard-dns.com",
    "dns.nextdns.io",
    "doh.cleanbrowsing.org",
    "doh.mullvad.net",
];
/// Where they do.
const OPEN_RESOLVER_ADDRESSES: [[u8; 4]; 8] = [
    [1, 1, 1, 1],
    [1, 0, 0, 1],
    [8, 8, 8, 8],
    [8, 8, 4, 4],
    [9, 9, 9, 9],
    [149, 112, 112, 112],
    [208, 67, 222, 222],
    [208, 67, 220, 220],
];

impl Policy {
    /// A policy of these rules.
    pub fn new(rules: Vec<Rule>) -> Result<Self, BadPolicy> {
        if rules.len() > MAX_RULES { Err(BadPolicy::TooMany) } else { Ok(Self { rules }) }
    }

    /// Reads what `--net` says; `None`: no network at all.
    pub fn parse(text: &str) -> Result<Option<Self>, BadPolicy> {
        match (text, text.strip_prefix("allow=")) {
            ("none", _) => Ok(None),
            ("public" | "record", _) => Ok(Some(Self { rules: vec![Rule::public()] })),
            (_, Some(rules)) => Self::of(rules.split(',')).map(Some),
            _ => Err(BadPolicy::Word(text.chars().take(80).collect())),
        }
    }

    /// Reads rules.
    pub fn of<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPolicy> {
        let bad = |rule: &str, bad| BadPolicy::Rule { rule: rule.chars().take(300).collect(), bad };
        let read = |text: &str| Rule::parse(text).map_err(|e| bad(text, e));
        Self::new(rules.into_iter().take(MAX_RULES + 1).map(read).collect::<Result<_, _>>()?)
    }

    /// Its rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What it says of a connection to anywhere but the gateway.
    pub fn judge(&self, flow: &Flow<'_>) -> Verdict {
        let deciding = self.rules.iter().enumerate().find(|(_, rule)| rule.matches(flow));
        match deciding {
            Some((_, rule)) if rule.deny => Verdict::Deny(Reason::Rule),
            Some((n, Rule { target: Target::Name(_) | Target::Suffix(_), .. })) => {
                Verdict::ByName(n)
            }
            Some((_, Rule { target: Target::Group(_), .. })) if hides_dns(flow) => {
                Verdict::Deny(Reason::HiddenDns)
            }
            Some((n, _)) => Verdict::ByAddress(n),
            None => Verdict::Deny(self.unmatched(flow)),
        }
    }

    fn unmatched(&self, flow: &Flow<'_>) -> Reason {
        match address::class(flow.address) {
            Class::Public if self.is_guarded(flow) => Reason::HiddenDns,
            Class::Public => Reason::NoRule,
            Class::Private => Reason::Private,
            Class::LinkLocal => Reason::LinkLocal,
            Class::Metadata => Reason::Metadata,
            Class::Loopback => Reason::Host,
            Class::Reserved => Reason::Reserved,
        }
    }

    /// Whether some rule opens the address on ordinary ports, so that it is
    /// the port that is guarded.
    fn is_guarded(&self, flow: &Flow<'_>) -> bool {
        let opens = |protocol| {
            let flow = Flow { port: 1, protocol, ..*flow };
            self.rules.iter().find(|rule| rule.matches(&flow)).is_some_and(|rule| !rule.deny)
        };
        rule::is_guarded(flow.port, flow.protocol) && (opens(Protocol::Tcp) || opens(Protocol::Udp))
    }

    /// Whether a port of this host's loopback is open, by way of the gateway.
    pub fn opens_host(&self, port: u16, protocol: Protocol) -> bool {
        let about = |rule: &&Rule| {
            rule.target == Target::Group(Group::Host)
                && rule.protocol == protocol
                && rule.has_port(port)
        };
        self.rules.iter().find(about).is_some_and(|rule| !rule.deny)
    }

    /// Whether there is any port of this host that is open.
    pub fn has_host(&self) -> bool {
        self.rules.iter().any(|rule| !rule.deny && rule.target == Target::Group(Group::Host))
    }

    /// Whether a name may be asked for: some rule opens it, or what it could
    /// lead to.
    pub fn resolves(&self, name: &Domain) -> Result<(), Reason> {
        for rule in &self.rules {
            match &rule.target {
                // Who is shut on some ports only can be asked for.
                Target::Name(_) | Target::Suffix(_) if rule.names(name) => {
                    if !rule.deny {
                        return Ok(());
                    }
                    if rule.ports.is_empty() {
                        return Err(Reason::Rule);
                    }
                }
                Target::Group(Group::Public | Group::Private) if !rule.deny => {
                    return if is_open_resolver(name) { Err(Reason::HiddenDns) } else { Ok(()) };
                }
                _ => {}
            }
        }
        Err(Reason::NoRule)
    }

    /// Whether the policy could let anything through to an address that a
    /// name gave.
    pub fn reaches(&self, address: IpAddr, name: &Domain) -> Result<(), Reason> {
        let names = std::slice::from_ref(name);
        let flow = Flow { address, port: 0, protocol: Protocol::Tcp, names };
        let about = |rule: &&Rule| {
            let port = rule.ports.first().map_or(443, |range| *range.start());
            !rule.deny && rule.matches(&Flow { port, protocol: rule.protocol, ..flow })
        };
        if self.rules.iter().any(|rule| about(&rule)) { Ok(()) } else { Err(self.unmatched(&flow)) }
    }

    /// What a stream must say of whom it speaks to that rule `opened` has
    /// opened for its address: where a name is shut, no request may go by it.
    pub(crate) fn need(&self, port: u16, opened: usize) -> Need {
        let shut = self.rules.iter().take(opened).any(|rule| rule.shuts_by_name(port));
        if shut { Need::Each } else { Need::Glance }
    }

    /// What it says of the name by which a connection goes that was opened by
    /// its address with rule `opened`.
    pub fn passes(&self, name: &Domain, port: u16, opened: usize) -> Result<(), Reason> {
        let denies = |rule: &Rule| rule.shuts_by_name(port) && rule.names(name);
        if self.rules.iter().take(opened).any(denies) {
            return Err(Reason::Rule);
        }
        let group = self.rules.get(opened).is_some_and(|r| matches!(r.target, Target::Group(_)));
        if group && is_open_resolver(name) { Err(Reason::HiddenDns) } else { Ok(()) }
    }
}

fn is_open_resolver(name: &Domain) -> bool {
    OPEN_RESOLVERS.contains(&name.as_str())
}

fn hides_dns(flow: &Flow<'_>) -> bool {
    let IpAddr::V4(v4) = address::meant(flow.address) else { return false };
    flow.port == 443 && OPEN_RESOLVER_ADDRESSES.contains(&v4.octets())
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<_> = self.rules.iter().map(Rule::to_string).collect();
        write!(f, "allow={}", rules.join(","))
    }
}

impl TryFrom<Plain> for Policy {
    type Error = BadPolicy;

    fn try_from(plain: Plain) -> Result<Self, BadPolicy> {
        Self::of(plain.rules.iter().map(String::as_str))
    }
}

impl From<Policy> for Plain {
    fn from(policy: Policy) -> Self {
        Self { rules: policy.rules.iter().map(Rule::to_string).collect() }
    }
}
