//! Packages of the real registries, installed through a policy of exactly the
//! hosts that they need.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::time::Duration;

use lampyr_e2e::TestContext;
use lampyr_net::{Domain, Policy};
use lampyr_test_registry::{TestRegistry, distribution};
use serde_json::json;

/// A guest without a translator of its own takes its time over Python's TLS.
const LONG: Duration = Duration::from_mins(8);
const PYPI: [&str; 2] = ["pypi.org:443", "files.pythonhosted.org:443"];
const NPM: [&str; 1] = ["registry.npmjs.org:443"];

/// The image with pip and npm, in a registry of this host.
fn image() -> (TestRegistry, String) {
    let registry = TestRegistry::plain();
    let name = registry.fill(&distribution("usual"), "packages", "p:1", &["--preserve-digests"]);
    (registry, name)
}

/// What opens these hosts, and nothing else. Where a mirror of one's own stands
/// for one, its address is named, too: a name alone opens none but public ones.
fn rules(hosts: &[&str]) -> Vec<String> {
    let by_name = Policy::of(hosts.iter().copied()).unwrap();
    let mirrors = hosts.iter().filter_map(|host| {
        let address = host.to_socket_addrs().expect("this host has names").next()?;
        let name = Domain::parse(host.split(':').next()?).unwrap();
        by_name.reaches(address.ip(), &name).is_err().then(|| address.to_string())
    });
    let mirrors: BTreeSet<_> = mirrors.collect();
    hosts.iter().map(|host| (*host).to_owned()).chain(mirrors).collect()
}

/// Builds a snapshot of steps that may reach these hosts, and requires that it
/// succeeds.
fn build(lampyr: &TestContext, image: &str, hosts: &[&str], steps: &[&str]) {
    let config = json!({
        "name": "made", "image": image, "net": rules(hosts), "setup": steps,
        "env": {"PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let words = ["snapshot", "build", file.to_str().unwrap(), "--step-timeout", "6m"];
    let built = lampyr.lampyr(words).within(LONG).finish();
    assert_eq!(built.status(), Some(0), "{built:?}");
}

/// What a command prints in a VM of that snapshot, which reaches nothing.
fn launched(lampyr: &TestContext, command: &str) -> String {
    let run = lampyr.lampyr(["run", "--snapshot", "made", command]).within(LONG);
    run.envelope().success().to_owned()
}

/// A step that ends well where nobody answers to a name.
fn is_shut(host: &str) -> String {
    format!("! python3 -c 'import socket; socket.create_connection((\"{host}\", 443))'")
}

#[test]
fn pip_installs_in_a_builder_that_reaches_its_hosts_alone() {
    let (_registry, image) = image();
    let lampyr = TestContext::with_images();
    let steps = [&is_shut("registry.npmjs.org"), "pip install --no-cache-dir six==1.17.0"];
    build(&lampyr, &image, &PYPI, &steps);
    assert_eq!(launched(&lampyr, "python3 -c 'import six; print(six.__version__)'"), "1.17.0\n");
    launched(&lampyr, &is_shut("pypi.org"));
}

#[test]
fn npm_installs_in_a_builder_and_in_a_run_that_reach_its_host_alone() {
    let (_registry, image) = image();
    let lampyr = TestContext::with_images();
    let install = "cd /opt && npm install --no-audit --no-fund is-number@7.0.0";
    let try_it = "cd /opt && node -e 'console.log(require(\"is-number\")(\"7\"))'";
    build(&lampyr, &image, &NPM, &[&is_shut("pypi.org"), install]);
    assert_eq!(launched(&lampyr, try_it), "true\n");
    launched(&lampyr, &is_shut("registry.npmjs.org"));

    let net = format!("allow={}", rules(&NPM).join(","));
    let both = format!("{install} >/dev/null && {try_it}");
    let words = ["run", "--image", &image, "--net", &net, "--timeout", "6m", &both];
    assert_eq!(lampyr.lampyr(words).within(LONG).envelope().success(), "true\n");
}

#[test]
fn an_image_is_made_of_what_pip_installs_and_keeps_no_way_out() {
    let (_registry, image) = image();
    let lampyr = TestContext::with_images();
    let net = format!("allow={}", rules(&PYPI).join(","));
    let install = "pip install --break-system-packages --no-cache-dir six==1.17.0";
    let words = ["images", "create", "made", "--from", &image, "--net", &net];
    let rest = ["--timeout", "6m", "--run", &is_shut("registry.npmjs.org"), "--run", install];
    let made = lampyr.lampyr(words.iter().chain(&rest)).within(LONG).finish();
    assert_eq!(made.status(), Some(0), "{made:?}");
    let look = format!("python3 -c 'import six' && {}", is_shut("pypi.org"));
    let run = lampyr.lampyr(["run", "--image", "made", &look]).within(LONG);
    assert_eq!(run.envelope().success(), "");
}
