//! Sessions on real machines: what a user sees of them, and what they leave.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::time::{Duration, Instant};

use lampyr_e2e::{Session, TestContext, entries, eventually, rows};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// Whether nothing in the machine sleeps.
const NO_SLEEP: &str = "! grep -qsx sleep /proc/[0-9]*/comm";

#[test]
fn a_session_s_life_as_a_user_sees_it() {
    let own = TestContext::own();
    assert!(rows(&own, &["session", "list"]).is_empty() && rows(&own, &["ps"]).is_empty());
    let session = Session::start(&own, &["--name", "it", "--memory", "512MB", "-e", "A=1"]);
    let row = session.row().unwrap();
    assert_eq!(
        (&row["name"], &row["status"], &row["image"]),
        (&"it".into(), &"running".into(), &"default".into())
    );
    assert_eq!((&row["cpus"], &row["memory"]), (&2.into(), &(512_u64 << 20).into()));
    assert!(row["created"].as_str().unwrap().ends_with('Z'));

    let exit = session.sh("echo $A; echo err >&2; exit 3");
    assert_eq!(
        (exit.text("stdout"), exit.text("stderr"), &exit["exit_code"]),
        ("1\n", "err\n", &3.into())
    );
    // A file stays, a variable does not; a name and the printed JSON will do.
    session.sh("B=2; cd /tmp; echo kept > /root/file").success();
    let by_name = own.lampyr(["exec", "it", "cat /root/file; echo $B; pwd"]).envelope();
    assert_eq!(by_name.success(), "kept\n\n/root\n");
    let json = format!(r#"{{"sid":"{}"}}"#, session.sid);
    assert_eq!(own.lampyr(["exec", &json, "--", "echo", "a b"]).envelope().success(), "a b\n");
    let uptime = rows(&own, &["ps"]);
    assert_eq!((uptime.len(), &uptime[0]["active_execs"]), (1, &0.into()));
    assert!(uptime[0]["memory_bytes"].as_u64().unwrap() > 1 << 20, "{uptime:?}");

    let stopped = own.lampyr(["session", "stop", "it"]).finish().stdout();
    let stopped: Value = serde_json::from_str(&stopped).unwrap();
    assert_eq!(stopped, serde_json::json!({"stopped": session.sid, "confirmed": true}));
    assert_eq!(session.stop()["note"], "already stopped");
    let never = own.lampyr(["session", "stop", "nobody"]).finish();
    assert_eq!(
        (never.status(), never.stderr().contains("session 'nobody' not found")),
        (Some(1), true)
    );
    let gone = session.sh("true");
    assert!(gone.error("connection_failed").contains("has ended"), "{gone:?}");
    own.assert_tidy();
}

#[test]
fn input_output_and_users_are_as_with_a_shell() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let sum = session.exec("sha256sum; wc -c < /dev/null").stdin(bytes.clone()).envelope();
    let expected = session.exec("head -c 3000000 | sha256sum").stdin(bytes).envelope();
    assert_eq!(sum.success().lines().next(), expected.success().lines().next());
    let big = session.exec("head -c 20000000 /dev/zero").finish();
    assert_eq!(big.envelope().success().len(), 20_000_000);
    let nobody =
        own.lampyr(["exec", &session.sid, "--user", "nobody", "id -un; echo $HOME"]).envelope();
    assert_eq!(nobody.success(), "nobody\n/nonexistent\n");
    let dir = own
        .lampyr(["exec", &session.sid, "--workdir", "/usr", "-e", "X=y z", "pwd; echo $X"])
        .envelope();
    assert_eq!(dir.success(), "/usr\ny z\n");
}

#[test]
fn a_hundred_commands_at_once_are_all_answered() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let all: Vec<_> = (0..100)
        .map(|i| session.exec(&format!("echo {i}; exit {i}")).within(120 * SECOND).start())
        .collect();
    for (i, live) in all.into_iter().enumerate() {
        let envelope = live.finish().envelope();
        assert_eq!(
            (&envelope["exit_code"], envelope.text("stdout")),
            (&i.into(), format!("{i}\n").as_str())
        );
    }
}

#[test]
fn a_timeout_ends_the_command_and_not_the_session() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    session.sh("true").success();
    let late =
        own.lampyr(["exec", &session.sid, "--timeout", "300ms", "echo part; sleep 30"]).envelope();
    late.error("timeout");
    assert_eq!(late.text("partial_stdout"), "part\n");
    assert!(late.took < 3 * SECOND, "{late:?}");
    session.sh(NO_SLEEP).success();
}

#[test]
fn a_signal_goes_to_the_command() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let call =
        session.exec("trap 'echo got it; exit 5' INT; touch /tmp/up; while :; do sleep 0.05; done");
    let live = call.start();
    session.sh("until [ -e /tmp/up ]; do sleep 0.05; done").success();
    live.signal(libc::SIGINT);
    let envelope = live.finish().envelope();
    assert_eq!((&envelope["exit_code"], envelope.text("stdout")), (&5.into(), "got it\n"));
}

#[test]
fn a_killed_client_takes_its_command_with_it() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let live = session.exec("touch /tmp/up; exec sleep 1234").start();
    session.sh("until [ -e /tmp/up ]; do sleep 0.05; done").success();
    assert_eq!(session.sh(NO_SLEEP)["exit_code"], 1);
    live.signal(libc::SIGKILL);
    drop(live);
    eventually("the command lives", || session.sh(NO_SLEEP)["exit_code"] == 0);
}

#[test]
fn jobs_and_keys() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let words = ["exec", &session.sid, "--detach", "echo one; sleep 1; echo two; exit 6"];
    let begun = Instant::now();
    let printed: Value = serde_json::from_str(&own.lampyr(words).finish().stdout()).unwrap();
    assert!(begun.elapsed() < SECOND, "it waited for the job");
    let job = printed["job"].as_str().unwrap();
    for flag in ["--wait", "--attach"] {
        let envelope = own.lampyr(["exec", &session.sid, flag, job]).envelope();
        assert_eq!((&envelope["exit_code"], envelope.text("stdout")), (&6.into(), "one\ntwo\n"));
        assert!(envelope.duration() >= SECOND, "{envelope:?}");
    }
    let once = || {
        own.lampyr(["exec", &session.sid, "--key", "k", "echo x >> /tmp/x; cat /tmp/x"]).envelope()
    };
    assert_eq!((once().success(), once().success()), ("x\n", "x\n"));
    let other = own.lampyr(["exec", &session.sid, "--key", "k", "true"]).finish();
    assert_eq!((other.status(), other.stderr().contains("another command")), (Some(2), true));
    let none = own.lampyr(["exec", &session.sid, "--wait", "j9"]).envelope();
    none.error("connection_failed");
}

#[test]
fn copies_keep_what_files_are() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let dir = tempfile::tempdir().unwrap();
    let (here, back) = (dir.path().join("here"), dir.path().join("back"));
    fs::create_dir_all(here.join("sub")).unwrap();
    fs::write(here.join("sub/run"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(here.join("sub/run"), std::os::unix::fs::PermissionsExt::from_mode(0o750))
        .unwrap();
    std::os::unix::fs::symlink("sub/run", here.join("link")).unwrap();
    let there = format!("{}:/opt/tree", session.sid);
    let silent = own.lampyr(["cp", here.to_str().unwrap(), &there]).finish();
    assert_eq!(
        (silent.status(), silent.stdout(), silent.stderr()),
        (Some(0), String::new(), String::new())
    );
    assert_eq!(session.sh("/opt/tree/link; stat -c %a /opt/tree/sub/run").success(), "ran\n750\n");
    assert_eq!(own.lampyr(["cp", &there, back.to_str().unwrap()]).finish().status(), Some(0));
    assert_eq!(fs::read_link(back.join("link")).unwrap().to_str(), Some("sub/run"));
    let times = |path: &std::path::Path| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(times(&here.join("sub/run")), times(&back.join("sub/run")));
    for (from, to, status) in
        [("/no/such", there.as_str(), 2), (here.to_str().unwrap(), "/tmp/x", 2)]
    {
        assert_eq!(own.lampyr(["cp", from, to]).finish().status(), Some(status), "{from} {to}");
    }
    let missing =
        own.lampyr(["cp", &format!("{}:/no/such", session.sid), back.to_str().unwrap()]).finish();
    assert_eq!(
        (missing.status(), missing.stderr().contains("/no/such")),
        (Some(1), true),
        "{missing:?}"
    );
}

#[test]
fn a_killed_machine_is_a_crash_and_a_dead_session() {
    let own = TestContext::own();
    let session = Session::start(&own, &["--name", "frail"]);
    let live = session.exec("echo part; touch /tmp/up; sleep 60").start();
    session.sh("until [ -e /tmp/up ]; do sleep 0.05; done").success();
    let machine = session.owner().children().into_iter().next().unwrap();
    machine.signal(libc::SIGKILL);
    let envelope = live.finish().envelope();
    envelope.error("vm_crashed");
    assert_eq!(envelope.text("partial_stdout"), "part\n");
    eventually("the session is not dead", || session.row().unwrap()["status"] == "dead");
    assert!(session.sh("true").error("connection_failed").contains("dead"));
    own.assert_nothing_left();
    assert!(session.row().is_none());
    assert_eq!(session.stop()["note"], "already stopped");
    // Its name is free again.
    drop(Session::start(&own, &["--name", "frail"]));
}

#[test]
fn a_killed_owner_takes_the_machine_with_it() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    let live = session.exec("echo part; touch /tmp/up; sleep 60").start();
    session.sh("until [ -e /tmp/up ]; do sleep 0.05; done").success();
    let owner = session.owner();
    let machine = owner.children().into_iter().next().unwrap();
    owner.signal(libc::SIGKILL);
    let envelope = live.finish().envelope();
    envelope.error("session_disconnected");
    assert_eq!(envelope.text("partial_stdout"), "part\n");
    eventually("the machine lives", || !machine.is_alive());
    assert_eq!(session.row().unwrap()["status"], "dead");
    assert_eq!(session.stop()["note"], "already stopped");
    own.assert_tidy();
}

#[test]
fn clean_leaves_a_living_session_alone_and_a_ttl_ends_it() {
    let own = TestContext::own();
    let session = Session::start(&own, &["--ttl", "4s"]);
    assert_eq!(own.lampyr(["clean"]).finish().status(), Some(0));
    assert_eq!(session.sh("sleep 1; echo on").success(), "on\n");
    let quiet = Instant::now();
    while session.row().is_some() {
        assert!(quiet.elapsed() < 20 * SECOND, "the session does not end");
        std::thread::sleep(SECOND / 10);
    }
    assert!(quiet.elapsed() > 2 * SECOND, "it ended too soon: {:?}", quiet.elapsed());
    own.assert_tidy();
}

#[test]
fn all_sessions_are_stopped_at_once() {
    let own = TestContext::own();
    let (one, two) = (Session::start(&own, &[]), Session::start(&own, &[]));
    let stopped = rows(&own, &["session", "stop", "--all"]);
    assert_eq!(stopped.len(), 2, "{stopped:?}");
    assert!(one.row().is_none() && two.row().is_none());
    own.assert_tidy();
}

#[test]
fn what_makes_no_sense_starts_nothing() {
    let own = TestContext::own();
    for words in [
        &["session", "start", "--name", "No Way"][..],
        &["session", "start", "--ttl", "soon"],
        &["session", "start", "--memory", "1MB"],
        &["session", "stop"],
        &["session", "stop", "x", "--all"],
        &["exec", "x"],
        &["exec", "x", " "],
        &["exec", "a/b", "true"],
        &["exec", "--pty", "x", "sh"],
        &["exec", "x", "true", "--wait", "j1"],
        &["cp", "a", "b"],
        &["cp", "x:/a", "y:/b"],
    ] {
        let refused = own.lampyr(words).finish();
        assert_eq!(refused.status(), Some(2), "{words:?}: {refused:?}");
        assert!(
            refused.stderr().starts_with("error: ") && refused.stdout.is_empty(),
            "{refused:?}"
        );
    }
    let image = own.lampyr(["session", "start", "--image", "none"]).finish();
    assert_eq!((image.status(), image.stderr().contains("none")), (Some(1), true), "{image:?}");
    own.assert_tidy();
}

/// A server in the guest that answers every connection with what it heard,
/// reversed.
const REVERSER: &str = r#"
import socket, _thread
def reverse(peer):
    heard = b""
    while more := peer.recv(65536):
        heard += more
    peer.sendall(heard[::-1])
    peer.close()
server = socket.create_server(("127.0.0.1", 7000), backlog=128)
while True:
    _thread.start_new_thread(reverse, (server.accept()[0],))
"#;

/// Sends bytes to a port of this host and hears what comes back.
fn through(port: u16, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Write};
    let mut peer = std::net::TcpStream::connect(("127.0.0.1", port))?;
    peer.set_read_timeout(Some(30 * SECOND))?;
    peer.write_all(bytes)?;
    peer.shutdown(std::net::Shutdown::Write)?;
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard)?;
    Ok(heard)
}

/// A port of this host that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_port_leads_into_the_session_and_is_gone_with_it() {
    let own = TestContext::own();
    let port = free_port();
    let forward = format!("{port}:7000");
    let session = Session::start(&own, &["--forward", &forward]);
    let taken = own.lampyr(["session", "start", "--forward", &forward]).finish();
    assert_eq!(
        (taken.status(), taken.stderr().contains("cannot listen")),
        (Some(1), true),
        "{taken:?}"
    );
    // Nobody listens inside yet: the connection is closed, and that is all.
    assert_eq!(through(port, b"early").unwrap_or_default(), b"");
    let words = ["exec", &session.sid, "--detach", "--", "python3", "-c", REVERSER];
    assert_eq!(own.lampyr(words).finish().status(), Some(0));
    eventually("the server does not answer", || through(port, b"abc").is_ok_and(|b| b == b"cba"));
    let big: Vec<u8> = (0..=255).cycle().take(5_000_000).collect();
    let back = through(port, &big).unwrap();
    assert!(back.iter().rev().eq(big.iter()), "{} bytes came back", back.len());
    let many: Vec<_> = (0..50_u32)
        .map(|i| std::thread::spawn(move || through(port, &i.to_le_bytes()).unwrap()))
        .collect();
    for (i, one) in many.into_iter().enumerate() {
        let mut back = one.join().unwrap();
        back.reverse();
        assert_eq!(back, (i as u32).to_le_bytes());
    }
    session.stop();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    own.assert_tidy();
}

/// A server in the guest that says all that it has to say before it listens:
/// to the first that comes it closes one way, to all others both.
const HASTY: &str = r#"
import socket
server = socket.create_server(("127.0.0.1", 7000))
first = True
while True:
    peer = server.accept()[0]
    peer.sendall(b"bye")
    if first:
        peer.shutdown(socket.SHUT_WR)
        heard = peer.recv(100)
        if heard:
            open("/tmp/heard", "wb").write(heard)
            first = False
    peer.close()
"#;

#[test]
fn who_hears_no_more_from_a_port_knows_it_at_once() {
    use std::io::{Read, Write};
    let own = TestContext::shared();
    let port = free_port();
    let session = Session::start(&own, &["--forward", &format!("{port}:7000")]);
    let words = ["exec", &session.sid, "--detach", "--", "python3", "-c", HASTY];
    assert_eq!(own.lampyr(words).finish().status(), Some(0));
    // It closes nothing itself, and hears to the end.
    let hear = || {
        let mut peer = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        peer.set_read_timeout(Some(10 * SECOND)).unwrap();
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        (peer, heard)
    };
    let mut first = hear();
    let deadline = Instant::now() + 20 * SECOND;
    while first.1.is_empty() {
        assert!(Instant::now() < deadline, "the server does not answer");
        first = hear();
    }
    assert_eq!(first.1, "bye");
    first.0.write_all(b"thanks").unwrap();
    let heard = || session.sh("cat /tmp/heard")["stdout"] == "thanks";
    eventually("the server did not listen", heard);
    assert_eq!(hear().1, "bye");
    session.stop();
}

#[test]
fn a_run_can_have_a_port_too() {
    let own = TestContext::own();
    let port = free_port();
    let script = r#"import socket; s=socket.create_server(("127.0.0.1",7000)); c=s.accept()[0]; print(c.recv(9).decode())"#;
    let words = ["run", "--forward", &format!("{port}:7000"), "--", "python3", "-c", script];
    let live = own.lampyr(words).start();
    let deadline = Instant::now() + 20 * SECOND;
    // Until the server is up, connections are closed at once.
    while live.process().is_some() && Instant::now() < deadline {
        let _ = through(port, b"hello");
        std::thread::sleep(SECOND / 20);
    }
    assert_eq!(live.finish().envelope().success(), "hello\n");
    own.assert_tidy();
}

/// A library that lets a program see another time than there is.
fn faketime() -> String {
    let libraries = lampyr_e2e::entries(std::path::Path::new("/usr/lib"));
    let inside = libraries.iter().map(|dir| dir.join("faketime/libfaketime.so.1"));
    let found = inside.into_iter().find(|path| path.is_file());
    found.expect("libfaketime is installed").display().to_string()
}

#[test]
fn the_clock_follows_when_the_host_has_slept() {
    let own = TestContext::own();
    let time = own.home().join("time");
    fs::write(&time, "+0").unwrap();
    let started = own
        .lampyr(["session", "start", "--name", "sleeper"])
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME_TIMESTAMP_FILE", &time)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .finish();
    assert_eq!(started.status(), Some(0), "{started:?}");
    let printed: Value = serde_json::from_str(&started.stdout()).unwrap();
    let session = Session::of(&own, printed["sid"].as_str().unwrap());
    let now = || session.sh("date +%s").success().trim().parse::<u64>().unwrap();
    let before = now();
    // A host that sleeps has a clock that jumps, and one that does not.
    fs::write(&time, "+7200s").unwrap();
    let after = now();
    assert!((7200..7260).contains(&(after - before)), "{before} {after}");
}

#[test]
fn a_session_whose_id_cannot_be_told_is_stopped_again() {
    let own = TestContext::own();
    let nowhere = ["sh", "-c", "exec \"$@\" > /dev/full", "sh"];
    let started = own.lampyr(["session", "start", "--name", "it"]).under(nowhere).finish();
    assert_eq!(started.status(), Some(1), "{started:?}");
    assert!(started.stderr().contains("No space left"), "{started:?}");
    assert!(rows(&own, &["session", "list"]).is_empty());
    own.assert_tidy();
}

#[test]
fn a_bench_that_is_interrupted_leaves_nothing() {
    let own = TestContext::own();
    let live = own.lampyr(["bench", "-n", "2"]).within(Duration::from_mins(3)).start();
    let begun = Instant::now();
    while rows(&own, &["session", "list"]).is_empty() {
        assert!(live.process().is_some() && begun.elapsed() < 120 * SECOND, "no session started");
        std::thread::sleep(SECOND / 10);
    }
    let staged = entries(&own.home().join("tmp"));
    assert!(staged.iter().any(|dir| dir.join("file").exists()), "{staged:?}");
    live.signal(libc::SIGTERM);
    let finished = live.finish();
    assert_eq!(finished.status(), Some(143), "{finished:?}");
    assert!(rows(&own, &["session", "list"]).is_empty());
    own.assert_tidy();
}

#[test]
fn an_ordinary_user_has_sessions_too() {
    if !lampyr_e2e::is_root() {
        return;
    }
    let own = TestContext::whole(65532);
    let user = ["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", "--"];
    let call = |words: &[&str]| own.lampyr(words).under(user).within(120 * SECOND).finish();
    let started = call(&["session", "start", "--name", "theirs"]);
    assert_eq!(started.status(), Some(0), "{started:?}");
    let said = call(&["exec", "theirs", "id -u; cat", "--user", "65534"]).envelope();
    assert_eq!(said.success(), "65534\n");
    // Root may, and nobody else.
    assert_eq!(own.lampyr(["exec", "theirs", "true"]).envelope()["exit_code"], 0);
    let stranger = ["setpriv", "--reuid", "65531", "--regid", "65531", "--clear-groups", "--"];
    let refused = own.lampyr(["exec", "theirs", "true"]).under(stranger).finish();
    assert_ne!(refused.status(), Some(0), "{refused:?}");
    let stopped = call(&["session", "stop", "theirs"]);
    assert_eq!(stopped.status(), Some(0), "{stopped:?}");
    own.assert_tidy();
}
