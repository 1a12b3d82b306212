//! The process that a network is: what becomes of a session whose network
//! ends, or does not answer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::time::Duration;

use lampyr_e2e::{Session, TestContext, eventually};

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn a_network_that_is_killed_is_shut_and_the_session_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let context = TestContext::own();
    let session = Session::start(&context, &["--net", &format!("allow=host:{port}")]);
    let ask = format!("curl -sS --max-time 20 http://host.lampyr.internal:{port}/");
    let network = session.owner().child("vm-network").unwrap();
    network.signal(libc::SIGKILL);
    eventually("the network goes on", || !network.is_alive());
    let refused = session.exec(&ask).within(MINUTE).envelope();
    let code = refused["exit_code"].as_i64();
    // Not found or refused, but no time-out of curl's.
    assert!(matches!(code, Some(6 | 7)), "{refused:?}");
    assert!(refused["meta"].to_string().contains("network-ended"), "{refused:?}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody came through");
    session.sh("true").success();
    assert_eq!(session.stop()["confirmed"], true);
    context.assert_tidy();
}

#[test]
fn a_network_that_does_not_answer_delays_the_end_of_a_command_and_nothing_else() {
    let context = TestContext::shared();
    let session = Session::start(&context, &["--net", "allow=host:9"]);
    let wait = "until [ -e /tmp/go ]; do sleep 0.05; done; touch /tmp/went; exec sleep 600";
    let running = session.exec(wait).within(MINUTE).start();
    let network = session.owner().child("vm-network").unwrap();
    network.signal(libc::SIGSTOP);
    let waiting = session.exec("touch /tmp/over").within(MINUTE).start();
    let inside = |path: &str| format!("{}:{path}", session.sid);
    let there = |path: &str| {
        let to = tempfile::tempdir().unwrap();
        let copied = context.lampyr(["cp", &inside(path), to.path().to_str().unwrap()]).finish();
        copied.status() == Some(0)
    };
    eventually("the command is not over", || there("/tmp/over"));
    let go = tempfile::NamedTempFile::new().unwrap();
    let copied = context.lampyr(["cp", go.path().to_str().unwrap(), &inside("/tmp/go")]).finish();
    assert_eq!(copied.status(), Some(0), "{copied:?}");
    eventually("the other command does not go on", || there("/tmp/went"));
    assert!(waiting.process().is_some(), "the command did not wait for its network");
    let told = waiting.finish().envelope();
    assert_eq!(told.success(), "");
    assert!(told["meta"].to_string().contains("network-ended"), "{told:?}");
    running.signal(libc::SIGTERM);
    drop(running);
    assert!(!network.is_alive());
    session.stop();
}
