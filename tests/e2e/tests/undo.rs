//! Taking sessions back, on real machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;

use lampyr_e2e::{Finished, Session, TestContext, entries, eventually, rows};
use serde_json::Value;

const SMALL: [&str; 4] = ["--memory", "256MB", "--checkpoints", "3"];

fn undo(of: &Session<'_>, context: &TestContext, words: &[&str]) -> Finished {
    let words = ["undo", of.sid.as_str()].into_iter().chain(words.iter().copied());
    context.lampyr(words).finish()
}

fn log(of: &Session<'_>, context: &TestContext) -> Vec<Value> {
    rows(context, &["log", &of.sid])
}

fn commands(of: &Session<'_>, context: &TestContext) -> Vec<String> {
    let points = log(of, context);
    points.iter().map(|point| point["command"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_broken_machine_is_taken_back() {
    let own = TestContext::apart();
    let session = Session::start(&own, &SMALL);
    session.sh("echo good > /root/file; sleep 1000 & echo $! > /root/pid").success();
    session.sh("rm -rf /usr /bin /lib /root/file; kill $(cat /root/pid)");
    assert_ne!(session.sh("cat /root/file")["exit_code"], 0);
    let told = undo(&session, &own, &["--to", "2"]).json();
    assert_eq!(told["undone_to"], 2);
    assert!(told["took_ms"].as_f64().unwrap() > 0.0, "{told}");
    let works = "cat /root/file; grep -q sleep /proc/$(cat /root/pid)/comm && ls /usr/bin/env";
    assert_eq!(session.sh(works).success(), "good\n/usr/bin/env\n");
    session.stop();
    own.assert_tidy();
}

#[test]
fn a_session_remembers_its_last_commands_and_goes_back_to_each() {
    let own = TestContext::apart();
    let session = Session::start(&own, &SMALL);
    assert!(undo(&session, &own, &[]).stderr().contains("nothing to undo"));
    for n in 1..=5 {
        session.sh(&format!("echo {n} >> /root/file")).success();
    }
    let numbers: Vec<_> =
        log(&session, &own).iter().map(|p| p["index"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 4, 5]);
    let gone = undo(&session, &own, &["--to", "2"]);
    assert!(gone.stderr().contains("does not remember what it was before command 2"), "{gone:?}");
    assert_eq!(undo(&session, &own, &[]).json()["undone_to"], 5);
    assert_eq!(undo(&session, &own, &[]).json()["undone_to"], 4);
    assert_eq!(commands(&session, &own), ["echo 3 >> /root/file"]);
    assert_eq!(session.sh("cat /root/file").success(), "1\n2\n3\n");
    session.sh("echo again >> /root/file").success();
    assert_eq!(undo(&session, &own, &["--to", "3"]).json()["undone_to"], 3);
    assert_eq!(session.sh("cat /root/file").success(), "1\n2\n");
    // Nothing that nobody can go back to takes room.
    assert_eq!(log(&session, &own).len(), 1);
    let points = entries(&own.home().join("sandboxes").join(&session.sid).join("points"));
    assert_eq!(points.len(), 1, "{points:?}");
    session.stop();
    own.assert_tidy();
}

#[test]
fn what_runs_hears_that_it_never_was() {
    let own = TestContext::apart();
    let session = Session::start(&own, &SMALL);
    session.sh("echo first").success();
    let live = session.exec("echo begun > /dev/shm/begun; sleep 100").start();
    session.sh("until [ -e /dev/shm/begun ]; do sleep 0.05; done").success();
    assert_eq!(undo(&session, &own, &["--to", "1"]).json()["undone_to"], 1);
    let ended = live.finish().envelope();
    assert!(ended.error("session_disconnected").contains("taken back"), "{ended:?}");
    assert_ne!(session.sh("test -e /dev/shm/begun")["exit_code"], 0);
    session.stop();
    own.assert_tidy();
}

#[test]
fn jobs_and_copies_are_points_and_mounts_stay() {
    let own = TestContext::apart();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "given\n").unwrap();
    let mount = format!("{}:/m", dir.path().display());
    let session = Session::start(&own, &[&SMALL[..], &["--mount", &mount]].concat());
    let given = dir.path().join("file").display().to_string();
    let copied = own.lampyr(["cp", &given, &format!("{}:/root/copied", session.sid)]).finish();
    assert_eq!(copied.status(), Some(0), "{copied:?}");
    let command = "echo said; touch /m/said; sleep 1000";
    let job = own.lampyr(["exec", &session.sid, "--detach", command]).finish();
    assert_eq!(job.status(), Some(0), "{job:?}");
    eventually("the job says nothing", || dir.path().join("said").exists());
    assert_eq!(commands(&session, &own), ["cp to /root/copied", command]);
    session.sh("true").success();
    undo(&session, &own, &["--to", "1"]).json();
    let job = own.lampyr(["exec", &session.sid, "--wait", "j1"]).envelope();
    assert!(job.error("session_disconnected").contains("taken back"), "{job:?}");
    assert_eq!(job.text("partial_stdout"), "said\n");
    fs::remove_file(dir.path().join("said")).unwrap();
    assert_eq!(session.sh("ls /root; cat /m/file; echo new > /m/new").success(), "given\n");
    assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "new\n");
    session.stop();
    own.assert_tidy();
}

#[test]
fn the_files_of_a_session_do_not_add_up() {
    // The first and the last, one for each point, those that are a fork's as
    // well, and one that is about to be merged.
    const MOST: usize = 7;
    let own = TestContext::apart();
    let session = Session::start(&own, &["--memory", "256MB", "--checkpoints", "2"]);
    let layers = || {
        let files = entries(&own.home().join("sandboxes").join(&session.sid));
        files.iter().filter(|f| f.extension().is_some_and(|e| e == "qcow2")).count()
    };
    let mut fork = None;
    for n in 0..12 {
        session.sh(&format!("echo {n} >> /root/file; sync")).success();
        assert!(layers() <= MOST, "{} layers after {n} commands", layers());
        if n == 6 {
            let told = own.lampyr(["fork", &session.sid]).finish().json();
            fork = Some(Session::of(&own, told["sids"][0].as_str().unwrap()));
        }
    }
    // What changes nothing on the disk needs no layer.
    for _ in 0..3 {
        session.sh("true").success();
    }
    let told = undo(&session, &own, &["--to", "14"]).json();
    assert_eq!(told["undone_to"], 14);
    assert!(layers() <= MOST, "{} layers", layers());
    let cold = "echo 3 > /proc/sys/vm/drop_caches; cat /root/file | tr '\\n' ' '";
    assert_eq!(session.sh(cold).success(), "0 1 2 3 4 5 6 7 8 9 10 11 ");
    let fork = fork.unwrap();
    assert_eq!(fork.sh(cold).success(), "0 1 2 3 4 5 6 ");
    fork.stop();
    session.stop();
    own.assert_tidy();
}

#[test]
fn the_clock_is_right_however_often_a_session_stood_still() {
    let own = TestContext::apart();
    let session = Session::start(&own, &SMALL);
    for _ in 0..4 {
        session.sh("true").success();
    }
    undo(&session, &own, &[]).json();
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_millis() as i128
    };
    let before = now();
    let told: i128 = session.sh("date +%s%3N").success().trim().parse().unwrap();
    let after = now();
    assert!(before - 50 <= told && told <= after + 50, "{before} {told} {after}");
    session.stop();
    own.assert_tidy();
}

#[test]
fn who_goes_back_is_on_its_private_network_still() {
    let own = TestContext::apart();
    let on_lan = |name| {
        let words = [SMALL.as_slice(), &["--network", "lan", "--name", name]].concat();
        Session::start(&own, &words)
    };
    let (one, two) = (on_lan("one"), on_lan("two"));
    one.sh("echo bad > /root/file").success();
    for _ in 0..2 {
        one.sh("echo worse > /root/file").success();
        undo(&one, &own, &[]).json();
    }
    assert_eq!(one.sh("cat /root/file").success(), "bad\n");
    // Nobody listens there, which only its own kernel can say.
    for (from, to) in [(&two, "one"), (&one, "two")] {
        let asked = from.sh(&format!("bash -c 'echo > /dev/tcp/{to}/7000'"));
        let said = asked["stderr"].as_str().unwrap();
        assert!(said.contains("Connection refused"), "{to}: {said}");
    }
    own.lampyr(["network", "stop", "lan"]).finish();
    own.assert_tidy();
}
