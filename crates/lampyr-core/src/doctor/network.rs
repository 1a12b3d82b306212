//! What the network of a VM would find on this host, were one asked for.

use std::net::IpAddr;
use std::time::Duration;

use lampyr_net::{Means, Outlook};

use super::{Check, Severity, info};

/// How long name servers may take. For each that takes longer a VM waits as long.
pub(super) const WAIT: Duration = Duration::from_secs(2);

/// The findings. `proxy` is a variable that tells programs of a proxy. But for
/// a network that could not start, none is worse than a warning: what needs no
/// network runs without.
pub(super) fn checks(outlook: &Outlook, proxy: Option<&str>) -> Vec<Check> {
    let shut = "a VM has no network card; with --net or --policy it has one, and reaches what \
                their rules open"
        .to_owned();
    let mut checks = vec![
        info("net", "the network of a VM", shut),
        names(&outlook.servers),
        ways(outlook.v4, outlook.v6),
        seal(outlook.means),
        authorities(outlook.unverified.as_deref()),
    ];
    checks.extend((!outlook.odd.is_empty()).then(|| unread(&outlook.odd)));
    checks.extend(proxy.map(ignored));
    checks
}

fn names(servers: &[(IpAddr, bool)]) -> Check {
    let title = "names for a VM with --net";
    let said = |(server, answers): &(IpAddr, bool)| match answers {
        true => format!("{server} answers"),
        false => format!("{server} does not answer within {} s", WAIT.as_secs()),
    };
    let detail = servers.iter().map(said).collect::<Vec<_>>().join("; ");
    let silent = servers.iter().filter(|(_, answers)| !answers).count();
    if servers.is_empty() {
        let fix = "name a server there; rules for addresses work without";
        return warning("net-names", title, "/etc/resolv.conf names no server", fix);
    }
    let fix = match silent {
        0 => return info("net-names", title, detail),
        n if n == servers.len() => {
            "no name is found: name a server that answers in \
                                    /etc/resolv.conf; rules for addresses work without"
        }
        _ => "each name may take that much longer: leave it out of /etc/resolv.conf",
    };
    warning("net-names", title, &detail, fix)
}

fn unread(odd: &[String]) -> Check {
    let detail = format!("/etc/resolv.conf names what cannot be asked: {}", odd.join(", "));
    let fix = "give each server's address there, and of a local one an interface that exists";
    warning("net-names-odd", "names for a VM with --net", &detail, fix)
}

fn ways(v4: bool, v6: bool) -> Check {
    let title = "the way out for a VM with --net";
    let detail = match (v4, v6) {
        (true, true) => "IPv4 and IPv6 have a route to the internet",
        (true, false) => "IPv4 has a route to the internet; IPv6 has none, and VMs have no address",
        (false, true) => "IPv6 has a route to the internet, IPv4 has none",
        (false, false) => {
            let fix = "connect this host; what rules open on it and near it is reached without";
            return warning("net-route", title, "this host has no route to the internet", fix);
        }
    };
    info("net-route", title, detail.to_owned())
}

fn seal(means: Means) -> Check {
    let title = "the seal of a network's process";
    let Means { landlock, filter } = means;
    match (filter, landlock) {
        (None, _) => {
            let fix = "it runs as the user that you are; use an account of its own";
            warning("net-seal", title, "on this system it has none", fix)
        }
        (Some(false), _) => {
            let fix = "a VM with a card does not start without: use a kernel with seccomp";
            warning("net-seal", title, "this kernel cannot filter system calls", fix)
        }
        (Some(true), Some(version)) => {
            info("net-seal", title, format!("seccomp, and version {version} of Landlock"))
        }
        (Some(true), None) => {
            let fix = "Linux has it from 5.13 on, where `lsm=` at boot does not leave it out";
            let alone = "seccomp alone keeps it from files and programs: this kernel has no \
                         Landlock, or does not use it";
            warning("net-seal", title, alone, fix)
        }
    }
}

fn authorities(unverified: Option<&str>) -> Check {
    let title = "certificates for --secret";
    match unverified {
        None => info("net-authorities", title, "this host can verify servers by them".into()),
        Some(why) => {
            let fix = "install ca-certificates, or name a bundle with SSL_CERT_FILE";
            let detail = format!("no server of a secret can be verified: {why}");
            warning("net-authorities", title, &detail, fix)
        }
    }
}

fn ignored(proxy: &str) -> Check {
    let detail = format!("{proxy} is set; a VM does not use it, and connects by itself");
    let fix = format!("where only the proxy leads out: --net allow=HOST:PORT of it, -e {proxy}=…");
    Check { fix: Some(fix), ..info("net-proxy", "a proxy", detail) }
}

fn warning(id: &'static str, title: &str, detail: &str, fix: &str) -> Check {
    let (severity, fix) = (Severity::Warning, Some(fix.to_owned()));
    Check { severity, fix, ..info(id, title, detail.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Outlook {
        let servers = vec![("127.0.0.53".parse().unwrap(), true)];
        let means = Means { landlock: Some(6), filter: Some(true) };
        Outlook { servers, odd: Vec::new(), v4: true, v6: true, means, unverified: None }
    }

    /// What is said with this id, where the host is not as it should be.
    fn said(id: &str, spoil: impl FnOnce(&mut Outlook)) -> (Severity, String) {
        let mut outlook = good();
        spoil(&mut outlook);
        let check = checks(&outlook, None).into_iter().find(|check| check.id == id).unwrap();
        assert_eq!(check.severity > Severity::Info, check.fix.is_some(), "{check:?}");
        (check.severity, check.detail)
    }

    #[test]
    fn a_good_host_has_nothing_in_the_way() {
        let checks = checks(&good(), None);
        assert!(checks.iter().all(|check| check.severity == Severity::Info), "{checks:?}");
        assert_eq!(checks.len(), 5);
    }

    #[test]
    fn name_servers_that_are_silent_are_told_apart() {
        let servers = |answers: [bool; 2]| {
            let all = ["127.0.0.53", "10.0.0.1"].map(|text| text.parse().unwrap());
            move |outlook: &mut Outlook| outlook.servers = all.into_iter().zip(answers).collect()
        };
        let (severity, detail) = said("net-names", servers([false, true]));
        let expected = "127.0.0.53 does not answer within 2 s; 10.0.0.1 answers";
        assert_eq!((severity, detail.as_str()), (Severity::Warning, expected));
        assert_eq!(said("net-names", servers([true, true])).0, Severity::Info);
        assert_eq!(said("net-names", servers([false, false])).0, Severity::Warning);
        let (severity, detail) = said("net-names", |outlook| outlook.servers.clear());
        assert_eq!(severity, Severity::Warning);
        assert_eq!(detail, "/etc/resolv.conf names no server");
    }

    #[test]
    fn a_server_that_cannot_be_asked_is_named() {
        let (severity, detail) = said("net-names-odd", |outlook| {
            outlook.odd = vec!["fe80::1%gone".into()];
        });
        assert_eq!(severity, Severity::Warning);
        assert!(detail.ends_with("fe80::1%gone"), "{detail}");
    }

    #[test]
    fn a_host_without_a_way_out_is_warned() {
        let routes = |v4, v6| move |outlook: &mut Outlook| (outlook.v4, outlook.v6) = (v4, v6);
        assert_eq!(said("net-route", routes(true, false)).0, Severity::Info);
        assert_eq!(said("net-route", routes(false, true)).0, Severity::Info);
        assert_eq!(said("net-route", routes(false, false)).0, Severity::Warning);
    }

    #[test]
    fn what_a_kernel_lacks_to_seal_with_is_said() {
        let means = |filter, landlock| {
            move |outlook: &mut Outlook| outlook.means = Means { landlock, filter }
        };
        let (severity, detail) = said("net-seal", means(Some(true), None));
        assert!(severity == Severity::Warning && detail.contains("no Landlock"), "{detail}");
        // A VM without a card runs there.
        assert_eq!(said("net-seal", means(Some(false), Some(6))).0, Severity::Warning);
        assert_eq!(said("net-seal", means(None, None)).0, Severity::Warning);
    }

    #[test]
    fn a_host_that_trusts_nobody_and_a_proxy_are_told() {
        let none = |outlook: &mut Outlook| outlook.unverified = Some("no certificates".into());
        let (severity, detail) = said("net-authorities", none);
        assert!(severity == Severity::Warning && detail.ends_with("no certificates"), "{detail}");
        let told = checks(&good(), Some("https_proxy"));
        let proxy = told.iter().find(|check| check.id == "net-proxy").unwrap();
        assert!(proxy.detail.starts_with("https_proxy is set"), "{proxy:?}");
    }
}
