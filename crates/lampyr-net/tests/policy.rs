//! What rules mean, by example and as properties.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::net::IpAddr;

use lampyr_net::{Class, Domain, Flow, Policy, Protocol, Reason, Rule, Verdict, class};
use proptest::prelude::*;

fn policy(rules: &str) -> Policy {
    Policy::parse(&format!("allow={rules}")).unwrap().unwrap()
}

fn judge(rules: &str, address: &str, port: u16, names: &[&str]) -> Verdict {
    judge_by(rules, address, port, names, Protocol::Tcp)
}

fn judge_by(rules: &str, address: &str, port: u16, names: &[&str], protocol: Protocol) -> Verdict {
    let names: Vec<_> = names.iter().map(|name| Domain::parse(name).unwrap()).collect();
    let address = address.parse().unwrap();
    policy(rules).judge(&Flow { address, port, protocol, names: &names })
}

#[test]
fn a_bad_rule_is_pointed_at() {
    let rows = [
        ("", 1, "there is no name"),
        ("a.example.com:99999", 15, "this is no port"),
        ("a.example.com:443+x", 19, "this is no port"),
        ("a.example.com:+443", 15, "this is no port"),
        ("a.example.com:9-8", 15, "this range ends"),
        ("a..b", 3, "this is no part of a name"),
        ("über.example.com", 1, "this is no part of a name"),
        ("deny:a.é", 8, "this is no part of a name"),
        ("*.com", 3, "a suffix has two labels"),
        ("*", 1, "this is no part of a name"),
        ("a b", 2, "a rule has no spaces"),
        ("10.0.0.0/33", 10, "this is no length, 0 to 32"),
        ("deny:[2001:db8::/129]", 18, "this is no length, 0 to 128"),
        ("fe80::1%eth0", 8, "a rule is about no interface"),
        ("[::ffff:10.0.0.0/104]", 2, "this hides IPv4 addresses"),
        ("10.0.0/8", 1, "this is neither an address"),
        ("DENY:a.example.com", 1, "'deny:' is written in small letters"),
        ("host.lampyr.internal:80", 1, "for this host say host:PORT"),
        ("db.lampyr.internal", 1, "VMs on one private network need no rule"),
        ("localhost:80", 1, "localhost is the VM itself"),
        ("224.0.0.1:80", 1, "no connection leads"),
        ("[ff02::/16]:80", 1, "no connection leads"),
        ("0.0.0.0", 1, "no connection leads"),
        ("https://a.example.com", 7, "this is no port"),
        ("[::1", 1, "this bracket is never closed"),
        ("[2001:db8::1]443", 14, "only ':PORTS' can follow"),
        ("127.0.0.1:80", 1, "loopback is this host"),
        ("[::ffff:127.0.0.1]:80", 1, "loopback is this host"),
        ("host", 1, "say which port"),
        ("host:53/udp", 1, "the host is reached over TCP"),
        ("a.example.com/udp", 1, "a name over UDP needs its ports"),
        ("256.1.1.1", 1, "this is no part of a name"),
    ];
    for (text, at, why) in rows {
        let bad = Rule::parse(text).expect_err(text);
        assert!(bad.at == at && bad.why.starts_with(why), "{text}: {bad}");
    }
}

#[test]
fn a_rule_reads_as_it_is_written() {
    for text in [
        "a.example.com",
        "deny:*.cdn.example.com:80+443",
        "10.0.0.0/8:8000-8010",
        "[2001:db8::/32]:53/udp",
        "93.184.216.34",
        "host:8080",
        "public",
        "private:22",
        "10.0.0.0/8/udp",
    ] {
        assert_eq!(Rule::parse(text).expect(text).to_string(), text);
    }
    assert_eq!(Rule::parse("2001:db8::1").unwrap().to_string(), "[2001:db8::1]");
    // An IPv4 address in disguise is what it hides, in a rule as in a packet.
    for hidden in ["[::ffff:10.99.0.2]:5000", "[::ffff:10.99.0.2/128]:5000"] {
        assert_eq!(Rule::parse(hidden).unwrap().to_string(), "10.99.0.2:5000");
        assert_eq!(judge(hidden, "10.99.0.2", 5000, &[]), Verdict::ByAddress(0));
    }
}

#[test]
fn the_first_match_decides_and_the_end_is_deny() {
    let (a, web) = ("93.184.216.34", 443);
    assert_eq!(judge("a.example.com", a, web, &["a.example.com"]), Verdict::ByName(0));
    assert_eq!(judge("a.example.com", a, web, &[]), Verdict::Deny(Reason::NoRule));
    assert_eq!(judge("a.example.com", a, 22, &["a.example.com"]), Verdict::Deny(Reason::NoRule));
    let two = "deny:x.example.com,*.example.com";
    assert_eq!(judge(two, a, web, &["x.example.com"]), Verdict::Deny(Reason::Rule));
    assert_eq!(judge(two, a, web, &["y.example.com"]), Verdict::ByName(1));
    assert_eq!(judge(two, a, web, &["example.com"]), Verdict::Deny(Reason::NoRule));
    assert_eq!(judge("public", a, 22, &[]), Verdict::ByAddress(0));
    assert_eq!(judge("deny:93.0.0.0/8,public", a, 22, &[]), Verdict::Deny(Reason::Rule));
}

#[test]
fn a_name_opens_no_address_that_is_not_public() {
    let rows = [
        ("127.0.0.1", Reason::Host),
        ("169.254.169.254", Reason::Metadata),
        ("10.0.0.1", Reason::Private),
        ("fd12::1", Reason::Private),
        ("::ffff:10.0.0.1", Reason::Private),
        ("fe80::1", Reason::LinkLocal),
        ("0.0.0.0", Reason::Reserved),
    ];
    for (address, reason) in rows {
        for rules in ["a.example.com", "public", "0.0.0.0/0,[::/0]"] {
            let said = judge(rules, address, 443, &["a.example.com"]);
            assert_eq!(said, Verdict::Deny(reason), "{rules} {address}");
        }
    }
    assert_eq!(judge("10.0.0.0/8", "10.0.0.1", 22, &[]), Verdict::ByAddress(0));
    assert_eq!(judge("private", "10.0.0.1", 22, &[]), Verdict::ByAddress(0));
    let metadata = "169.254.169.254";
    assert_eq!(judge("169.254.0.0/16", metadata, 80, &[]), Verdict::Deny(Reason::Metadata));
    assert_eq!(judge(metadata, metadata, 80, &[]), Verdict::ByAddress(0));
}

#[test]
fn ways_around_the_resolver_are_named_or_shut() {
    let udp = |rules, port| judge_by(rules, "93.184.216.34", port, &[], Protocol::Udp);
    assert_eq!(judge("public", "93.184.216.34", 853, &[]), Verdict::Deny(Reason::HiddenDns));
    assert_eq!(judge("public", "1.1.1.1", 443, &[]), Verdict::Deny(Reason::HiddenDns));
    assert_eq!(judge("1.1.1.1", "1.1.1.1", 443, &[]), Verdict::ByAddress(0));
    assert_eq!(judge("public:853", "93.184.216.34", 853, &[]), Verdict::ByAddress(0));
    assert_eq!(udp("public", 123), Verdict::Deny(Reason::NoRule));
    assert_eq!(udp("public", 53), Verdict::Deny(Reason::HiddenDns));
    assert_eq!(udp("public/udp", 853), Verdict::Deny(Reason::HiddenDns));
    assert!(matches!(udp("public/udp", 443), Verdict::Deny(_)));
    assert_eq!(udp("public/udp", 123), Verdict::ByAddress(0));
    assert_eq!(udp("public:443/udp", 443), Verdict::ByAddress(0));
    let name = Domain::parse("dns.google").unwrap();
    assert_eq!(policy("public").resolves(&name), Err(Reason::HiddenDns));
    assert_eq!(policy("dns.google").resolves(&name), Ok(()));
    assert_eq!(policy("public").passes(&name, 443, 0), Err(Reason::HiddenDns));
}

#[test]
fn only_what_could_be_opened_is_resolved() {
    let ask = |rules: &str, name: &str| policy(rules).resolves(&Domain::parse(name).unwrap());
    assert_eq!(ask("a.example.com", "a.example.com"), Ok(()));
    assert_eq!(ask("a.example.com", "secret.a.example.com"), Err(Reason::NoRule));
    assert_eq!(ask("10.0.0.0/8", "a.example.com"), Err(Reason::NoRule));
    assert_eq!(ask("deny:a.example.com,public", "a.example.com"), Err(Reason::Rule));
    assert_eq!(ask("deny:a.example.com:80,public", "a.example.com"), Ok(()));
}

#[test]
fn the_host_is_open_on_named_ports_alone() {
    let policy = policy("host:8080,public,private");
    assert!(policy.opens_host(8080, Protocol::Tcp) && policy.has_host());
    assert!(!policy.opens_host(8081, Protocol::Tcp) && !policy.opens_host(8080, Protocol::Udp));
}

fn rules() -> impl Strategy<Value = String> {
    let target = prop_oneof![
        "[a-c]{1,3}\\.example\\.com",
        "\\*\\.[a-c]\\.example\\.com",
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(a, n)| format!("{}/{n}", IpAddr::from(a))),
        (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(a, n)| format!("[{}/{n}]", IpAddr::from(a))),
        Just("public".to_owned()),
        Just("private".to_owned()),
    ];
    let ports = prop_oneof!["", ":443", ":80\\+443", ":1-65535"];
    ("(deny:)?", target, ports, "(/udp)?").prop_map(|(a, b, c, d)| format!("{a}{b}{c}{d}"))
}

proptest! {
    #[test]
    fn any_text_is_a_rule_or_is_pointed_at(text in "\\PC{0,40}") {
        if let Err(bad) = Rule::parse(&text) {
            prop_assert!(bad.at >= 1 && bad.at <= text.chars().count() + 1);
        }
    }

    #[test]
    fn what_is_written_is_read_back(text in rules()) {
        if let Ok(rule) = Rule::parse(&text) {
            prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
        }
    }

    /// However the rules go: names alone open nothing but public addresses,
    /// loopback is never open, and an empty policy is shut.
    #[test]
    fn no_rule_opens_loopback_and_no_name_a_private_address(
        texts in prop::collection::vec(rules(), 0..6),
        bytes in prop_oneof![any::<[u8; 4]>(), Just([127, 0, 0, 1]), Just([169, 254, 169, 254])],
        port in any::<u16>(),
        mapped in any::<bool>(),
    ) {
        let good: Vec<_> = texts.iter().filter(|t| Rule::parse(t).is_ok()).collect();
        let policy = Policy::of(good.iter().map(|t| t.as_str())).unwrap();
        let v4 = std::net::Ipv4Addr::from(bytes);
        let address = if mapped { v4.to_ipv6_mapped().into() } else { IpAddr::V4(v4) };
        let names = [Domain::parse("a.example.com").unwrap()];
        let verdict = policy.judge(&Flow { address, port, protocol: Protocol::Tcp, names: &names });
        match verdict {
            Verdict::ByName(n) => {
                prop_assert_eq!(class(address), Class::Public);
                prop_assert!(policy.rules()[n].names(&names[0]));
            }
            Verdict::ByAddress(n) => {
                prop_assert_ne!(class(address), Class::Loopback);
                prop_assert!(!policy.rules()[n].deny);
            }
            Verdict::Deny(_) => {}
        }
    }

    /// A rule of more in front that denies never opens anything.
    #[test]
    fn a_denial_in_front_only_shuts(
        texts in prop::collection::vec(rules(), 0..5),
        bytes in any::<[u8; 4]>(),
        port in any::<u16>(),
    ) {
        let good: Vec<_> = texts.iter().filter(|t| Rule::parse(t).is_ok()).collect();
        let deny = format!("deny:{}/24", std::net::Ipv4Addr::from(bytes));
        let shut = Policy::of([deny.as_str()].into_iter().chain(good.iter().map(|t| t.as_str())));
        let flow = Flow {
            address: IpAddr::from(bytes), port, protocol: Protocol::Tcp, names: &[],
        };
        prop_assert_eq!(shut.unwrap().judge(&flow), Verdict::Deny(Reason::Rule));
    }
}
