//! One rule: `[deny:]TARGET[:PORTS][/udp]`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::address::{self, Class};
use crate::domain::Domain;
use crate::names::HOST_NAME;

/// How a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A set of addresses that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The internet.
    Public,
    /// Private networks.
    Private,
    /// This host's loopback.
    Host,
}

impl Group {
    const ALL: [(&'static str, Self); 3] =
        [("public", Self::Public), ("private", Self::Private), ("host", Self::Host)];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, group)| *group == self).map_or("", |(word, _)| word)
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The host of this name.
    Name(Domain),
    /// Every host below this name.
    Suffix(Domain),
    /// These addresses.
    Net(IpNet),
    /// A group.
    Group(Group),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// It shuts what it matches.
    pub deny: bool,
    /// Whom it is about.
    pub target: Target,
    /// Which ports; none: those that are usual for the target.
    pub ports: Vec<RangeInclusive<u16>>,
    /// By which protocol.
    pub protocol: Protocol,
}

/// Why some text is no rule, and at which character of it, from 1 on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {at}: {why}")]
pub struct BadRule {
    /// Where.
    pub at: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// What a connection is, as far as its ends say.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'a> {
    /// Where it goes.
    pub address: IpAddr,
    /// To which port.
    pub port: u16,
    /// How.
    pub protocol: Protocol,
    /// The names that gave this address.
    pub names: &'a [Domain],
}

/// The ports that a name stands for where nobody says.
const WEB: [RangeInclusive<u16>; 2] = [80..=80, 443..=443];
/// Ports that lead around the resolver, or by which nobody sees a name. They
/// are open only where a rule names them.
const GUARDED: [(u16, Protocol); 5] = [
    (53, Protocol::Tcp),
    (53, Protocol::Udp),
    (443, Protocol::Udp),
    (853, Protocol::Tcp),
    (853, Protocol::Udp),
];

impl Rule {
    /// Everything on the internet.
    pub(crate) fn public() -> Self {
        let target = Target::Group(Group::Public);
        Self { deny: false, target, ports: Vec::new(), protocol: Protocol::Tcp }
    }

    /// Reads a rule.
    pub fn parse(text: &str) -> Result<Self, BadRule> {
        Reader { text }.rule().map_err(|(at, why)| BadRule { at: count(text, at) + 1, why })
    }

    /// Whether it says anything of this connection.
    pub fn matches(&self, flow: &Flow<'_>) -> bool {
        self.is_by(flow.protocol) && self.has_port(flow.port) && self.is_about(flow)
    }

    /// What shuts a stream shuts datagrams, too.
    fn is_by(&self, protocol: Protocol) -> bool {
        self.protocol == protocol || (self.deny && self.protocol == Protocol::Tcp)
    }

    fn is_about(&self, flow: &Flow<'_>) -> bool {
        let class = address::class(flow.address);
        match &self.target {
            // What a name resolves to opens no other network; what shuts a
            // name shuts it wherever it leads.
            Target::Name(_) | Target::Suffix(_) => {
                (self.deny || class == Class::Public) && flow.names.iter().any(|n| self.names(n))
            }
            Target::Net(net) => {
                let inside = net.contains(&address::meant(flow.address));
                let open = class != Class::Loopback && address::is_within(net, class);
                inside && (self.deny || open)
            }
            Target::Group(Group::Public) => class == Class::Public,
            Target::Group(Group::Private) => class == Class::Private,
            // The host is behind the gateway, which has no such address.
            Target::Group(Group::Host) => false,
        }
    }

    /// Whether this is a rule about that name.
    pub fn names(&self, name: &Domain) -> bool {
        match &self.target {
            Target::Name(own) => own == name,
            Target::Suffix(own) => name.is_below(own),
            _ => false,
        }
    }

    /// Whether it shuts names for streams to this port.
    pub(crate) fn shuts_by_name(&self, port: u16) -> bool {
        let by_name = matches!(self.target, Target::Name(_) | Target::Suffix(_));
        by_name && self.deny && self.is_by(Protocol::Tcp) && self.has_port(port)
    }

    /// Whether it is about this port.
    pub fn has_port(&self, port: u16) -> bool {
        let named = !self.ports.is_empty();
        match &self.target {
            _ if named => self.ports.iter().any(|range| range.contains(&port)),
            Target::Name(_) | Target::Suffix(_) if !self.deny => {
                WEB.iter().any(|range| range.contains(&port))
            }
            _ => self.deny || !is_guarded(port, self.protocol),
        }
    }
}

/// Whether a port is open only where a rule names it.
pub(crate) fn is_guarded(port: u16, protocol: Protocol) -> bool {
    GUARDED.contains(&(port, protocol))
}

/// How many characters there are before a byte.
fn count(text: &str, byte: usize) -> usize {
    text.char_indices().take_while(|(at, _)| *at < byte).count()
}

type Fault = (usize, &'static str);
/// A target, and ports with where they begin.
type Parts<'a> = (&'a str, Option<(usize, &'a str)>);

/// Reads the text; faults are at bytes.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn rule(&self) -> Result<Rule, Fault> {
        if let Some(at) = self.text.find(|c: char| c.is_whitespace() || c.is_control()) {
            return Err((at, "a rule has no spaces"));
        }
        let (deny, start) = if self.text.starts_with("deny:") { (true, 5) } else { (false, 0) };
        if self.text.get(..5).is_some_and(|head| !deny && head.eq_ignore_ascii_case("deny:")) {
            return Err((0, "'deny:' is written in small letters"));
        }
        let (protocol, end) = self.protocol();
        let body = self.text.get(start..end).unwrap_or_default();
        if body.is_empty() {
            return Err((start, "there is no name, address or group here"));
        }
        let (target, ports) = Self::split(body).map_err(|(at, why)| (at + start, why))?;
        let inside = start + usize::from(body.starts_with('['));
        let target = Self::target(target).map_err(|(at, why)| (at + inside, why))?;
        let ports = match ports {
            Some((at, text)) => Self::ports(text).map_err(|(n, why)| (start + at + n, why))?,
            None => Vec::new(),
        };
        let rule = Rule { deny, target, ports, protocol };
        Self::sensible(&rule).map_err(|why| (start, why))?;
        Ok(rule)
    }

    fn protocol(&self) -> (Protocol, usize) {
        match self.text.strip_suffix("/udp") {
            Some(rest) => (Protocol::Udp, rest.len()),
            None => (Protocol::Tcp, self.text.len()),
        }
    }

    fn split(body: &str) -> Result<Parts<'_>, Fault> {
        if let Some(rest) = body.strip_prefix('[') {
            let (inside, behind) =
                rest.split_once(']').ok_or((0, "this bracket is never closed"))?;
            let at = inside.len() + 2;
            return match behind.strip_prefix(':') {
                Some(ports) => Ok((inside, Some((at + 1, ports)))),
                None if behind.is_empty() => Ok((inside, None)),
                None => Err((at, "only ':PORTS' can follow a bracket")),
            };
        }
        // An IPv6 address has colons of its own, and no room for ports.
        if body.matches(':').count() > 1 {
            return Ok((body, None));
        }
        Ok(match body.split_once(':') {
            Some((target, ports)) => (target, Some((target.len() + 1, ports))),
            None => (body, None),
        })
    }

    fn target(text: &str) -> Result<Target, Fault> {
        if let Some((_, group)) = Group::ALL.iter().find(|(word, _)| *word == text) {
            return Ok(Target::Group(*group));
        }
        if let Some(net) = Self::net(text)? {
            return Ok(Target::Net(net));
        }
        let Some(suffix) = text.strip_prefix("*.") else {
            let name = Domain::parse(text).map_err(|at| (at, "this is no part of a name"))?;
            return Ok(Target::Name(name));
        };
        let suffix = Domain::parse(suffix).map_err(|at| (at + 2, "this is no part of a name"))?;
        match suffix.labels() {
            0 | 1 => Err((2, "a suffix has two labels or more, as in *.example.com")),
            _ => Ok(Target::Suffix(suffix)),
        }
    }

    /// Reads addresses; `None`: it is about a name. What carries an IPv4
    /// address inside is that, as it is wherever a connection goes.
    fn net(text: &str) -> Result<Option<IpNet>, Fault> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Some(address::meant(address).into()));
        }
        if let Ok(net) = text.parse::<IpNet>() {
            let hides = address::meant(net.broadcast()) != net.broadcast();
            let whole = net.prefix_len() == net.max_prefix_len();
            return match (hides, whole) {
                (false, _) => Ok(Some(net.trunc())),
                (true, true) => Ok(Some(address::meant(net.addr()).into())),
                (true, false) => Err((0, "this hides IPv4 addresses: say their own network")),
            };
        }
        let end = text.find(['/', '%']).unwrap_or(text.len());
        let (host, rest) = text.split_at(end);
        match (host.parse::<IpAddr>(), rest.chars().next()) {
            (Ok(IpAddr::V4(_)), Some('/')) => Err((end + 1, "this is no length, 0 to 32")),
            (Ok(IpAddr::V6(_)), Some('/')) => Err((end + 1, "this is no length, 0 to 128")),
            (Ok(_), Some('%')) => Err((end, "a rule is about no interface of this host's")),
            _ if text.contains(['/', ':']) => {
                Err((0, "this is neither an address nor a network, such as 10.0.0.0/8"))
            }
            _ => Ok(None),
        }
    }

    fn ports(text: &str) -> Result<Vec<RangeInclusive<u16>>, Fault> {
        let mut at = 0;
        let mut ports = Vec::new();
        for part in text.split('+') {
            let bad = (at, "this is no port, 1 to 65535");
            let number = |text: &str| {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                text.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or(bad)
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..=number(last)?;
            if range.is_empty() {
                return Err((at, "this range ends before it begins"));
            }
            ports.push(range);
            at += part.len() + 1;
        }
        Ok(ports)
    }

    fn sensible(rule: &Rule) -> Result<(), &'static str> {
        let unsaid = rule.ports.is_empty();
        match &rule.target {
            Target::Group(Group::Host) if rule.protocol == Protocol::Udp => {
                Err("the host is reached over TCP alone")
            }
            Target::Group(Group::Host) if unsaid && !rule.deny => {
                Err("say which port of this host, as in host:8080")
            }
            Target::Name(_) | Target::Suffix(_)
                if unsaid && !rule.deny && rule.protocol == Protocol::Udp =>
            {
                Err("a name over UDP needs its ports, as in ntp.example.com:123/udp")
            }
            Target::Net(net) if !rule.deny && address::class(net.addr()) == Class::Loopback => {
                Err("loopback is this host: say host:PORT")
            }
            Target::Net(net) if !rule.deny && address::is_nobodys(net) => {
                Err("no connection leads to such an address")
            }
            Target::Name(name) | Target::Suffix(name) if !rule.deny => Self::foreign(name),
            _ => Ok(()),
        }
    }
}

/// Names that no name server is asked for.
const OWN: [&str; 2] = ["localhost", "lampyr.internal"];

impl Reader<'_> {
    /// Some names lead where no rule about a name does.
    fn foreign(name: &Domain) -> Result<(), &'static str> {
        let own = OWN.iter().find(|own| {
            let above = name.as_str().strip_suffix(**own);
            above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        match own {
            Some(&"localhost") => Err("localhost is the VM itself: for this host say host:PORT"),
            Some(_) if name.as_str() == HOST_NAME => Err("for this host say host:PORT"),
            Some(_) => Err("VMs on one private network need no rule to reach each other"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Suffix(name) => write!(f, "*.{name}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => match net.addr() {
                IpAddr::V6(v6) => write!(f, "[{v6}]"),
                IpAddr::V4(v4) => v4.fmt(f),
            },
            Self::Net(IpNet::V6(net)) => write!(f, "[{net}]"),
            Self::Net(net) => net.fmt(f),
            Self::Group(group) => f.write_str(group.word()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let ports: Vec<_> = self.ports.iter().map(port).collect();
        let colon = if ports.is_empty() { "" } else { ":" };
        let deny = if self.deny { "deny:" } else { "" };
        let udp = if self.protocol == Protocol::Udp { "/udp" } else { "" };
        write!(f, "{deny}{}{colon}{}{udp}", self.target, ports.join("+"))
    }
}
