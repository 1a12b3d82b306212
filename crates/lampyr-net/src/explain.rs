//! Rules in sentences.

use crate::policy::Policy;
use crate::rule::{Group, Protocol, Rule, Target};

impl Rule {
    /// What it does, as a sentence without its end.
    pub fn explain(&self) -> String {
        let verb = if self.deny { "denies" } else { "allows" };
        let protocol = match (self.protocol, self.deny) {
            (Protocol::Udp, _) => "UDP",
            (Protocol::Tcp, true) => "TCP and UDP",
            (Protocol::Tcp, false) => "TCP",
        };
        format!("{verb} {protocol} to {}, {}", self.whom(), self.where_to())
    }

    fn whom(&self) -> String {
        match &self.target {
            Target::Name(name) if self.deny => name.to_string(),
            Target::Suffix(name) if self.deny => format!("every name below {name}"),
            Target::Name(name) => format!("{name}, where it is a public address"),
            Target::Suffix(name) => {
                format!("every name below {name}, where it is a public address")
            }
            Target::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                format!("the address {}", net.addr())
            }
            Target::Net(net) => format!("the addresses in {net}"),
            Target::Group(Group::Public) => "every public address".into(),
            Target::Group(Group::Private) => "every private address".into(),
            Target::Group(Group::Host) => "this host's loopback".into(),
        }
    }

    fn where_to(&self) -> String {
        let named = |ports: Vec<String>| match ports.as_slice() {
            [one] if !one.contains(" to ") => format!("port {one}"),
            ports => format!("ports {}", ports.join(" and ")),
        };
        let words = |range: &std::ops::RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        };
        match &self.target {
            _ if !self.ports.is_empty() => named(self.ports.iter().map(words).collect()),
            _ if self.deny => "all ports".into(),
            Target::Name(_) | Target::Suffix(_) => "ports 80 and 443".into(),
            _ if self.protocol == Protocol::Udp => "all ports but 53, 443 and 853".into(),
            _ => "all ports but 53 and 853".into(),
        }
    }
}

impl Policy {
    /// What it does, a sentence for each rule and one for the end.
    pub fn explain(&self) -> Vec<String> {
        let rules = self.rules().iter().map(|rule| format!("{rule} {}.", rule.explain()));
        rules.chain(["What no rule matches is denied.".into()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_a_sentence() {
        let rows = [
            (
                "a.example.com",
                "allows TCP to a.example.com, where it is a public address, ports 80 and 443",
            ),
            (
                "deny:*.example.com:22",
                "denies TCP and UDP to every name below example.com, port 22",
            ),
            (
                "10.0.0.0/8:1-2+5/udp",
                "allows UDP to the addresses in 10.0.0.0/8, ports 1 to 2 and 5",
            ),
            ("public", "allows TCP to every public address, all ports but 53 and 853"),
            ("host:8080", "allows TCP to this host's loopback, port 8080"),
        ];
        for (rule, sentence) in rows {
            assert_eq!(Rule::parse(rule).unwrap().explain(), sentence);
        }
    }
}
