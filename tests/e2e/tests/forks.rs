//! Forks of running sessions, on real machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::time::Duration;

use lampyr_e2e::{Finished, Process, Session, TestContext, entries, eventually, rows};

const SECOND: Duration = Duration::from_secs(1);
/// A machine that is copied quickly.
const SMALL: [&str; 2] = ["--memory", "256MB"];

/// One of the eight points, as a user checks it.
fn verify(point: &str) {
    let own = TestContext::apart();
    let checked = own.lampyr(["verify-fork", "--only", point]).within(180 * SECOND).finish();
    let said = checked.json();
    assert_eq!((&said["passed"], &said["checks"][0]["passed"]), (&true.into(), &true.into()));
    assert_eq!(said["checks"][0]["point"].to_string(), point);
    assert!(!said["checks"][0]["detail"].as_str().unwrap().is_empty());
    own.assert_tidy();
}

#[test]
fn forks_never_draw_the_same_random_numbers() {
    verify("1");
}

#[test]
fn a_fork_s_clocks_are_right() {
    verify("2");
}

#[test]
fn a_fork_has_names_and_addresses_of_its_own() {
    verify("3");
}

#[test]
fn a_session_with_secrets_is_not_forked_unless_that_is_said() {
    verify("4");
}

#[test]
fn a_fork_has_no_connections_of_its_parent_and_listens_still() {
    verify("5");
}

#[test]
fn memory_and_disk_of_a_fork_are_of_one_instant() {
    verify("6");
}

#[test]
fn a_snapshot_of_another_kind_is_refused_by_name() {
    verify("7");
}

#[test]
fn killing_anybody_leaves_the_old_state_or_the_new_one() {
    verify("8");
}

#[test]
fn a_verification_that_is_ended_leaves_nothing() {
    let own = TestContext::apart();
    for (moment, signal) in [(1500, libc::SIGINT), (4000, libc::SIGTERM), (5000, libc::SIGKILL)] {
        let live = own.lampyr(["verify-fork"]).start();
        std::thread::sleep(Duration::from_millis(moment));
        live.signal(signal);
        live.finish();
        if signal == libc::SIGKILL { own.assert_nothing_left() } else { own.assert_tidy() }
    }
}

/// Forks a session; the new ones.
fn fork<'a>(context: &'a TestContext, of: &Session<'_>, words: &[&str]) -> Vec<Session<'a>> {
    let words = ["fork", of.sid.as_str()].into_iter().chain(words.iter().copied());
    let told = context.lampyr(words).finish().json();
    let sids = told["sids"].as_array().unwrap().iter();
    assert!(told["pause_ms"].as_f64().unwrap() > 0.0, "{told}");
    sids.map(|sid| Session::of(context, sid.as_str().unwrap())).collect()
}

/// The templates that are of forks.
fn templates(context: &TestContext) -> usize {
    let of_fork = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_string_lossy().starts_with("fork-")
    };
    context.templates().iter().filter(|path| of_fork(path)).count()
}

#[test]
fn five_forks_go_five_ways_and_their_template_goes_with_the_last() {
    let own = TestContext::fresh();
    let parent = Session::start(&own, &SMALL);
    parent.sh("echo before > /root/file").success();
    let forks = fork(&own, &parent, &["--count", "5"]);
    assert_eq!((forks.len(), templates(&own)), (5, 1));
    for (n, fork) in forks.iter().enumerate() {
        let said = fork.sh(&format!("cat /root/file; echo {n} > /root/file"));
        assert_eq!(said.success(), "before\n");
    }
    for (n, fork) in forks.iter().enumerate() {
        assert_eq!(fork.sh("cat /root/file").success(), format!("{n}\n"));
    }
    assert_eq!(parent.sh("cat /root/file").success(), "before\n");
    for fork in &forks {
        assert_eq!(templates(&own), 1);
        fork.stop();
    }
    assert_eq!(templates(&own), 0);
    parent.stop();
    own.assert_tidy();
}

/// How many processes of the agent wait on the second processor. `None` where
/// none ever does: it is not emulated.
fn waiting(session: &Session<'_>) -> Option<u32> {
    let seen = session.sh("grep -q lampyr.warm /proc/cmdline || exit 0; \
                           for p in /proc/[0-9]*; do \
                           [ \"$(cat $p/comm)\" = init ] && cat $p/status; done | \
                           grep -c 'Cpus_allowed_list:.1$'; :");
    seen.success().trim().parse().ok()
}

#[test]
fn only_a_fork_that_wakes_up_alone_warms_its_second_processor() {
    let own = TestContext::fresh();
    let processors = std::thread::available_parallelism().unwrap().get();
    let parent = Session::start(&own, &SMALL);
    let crowd = fork(&own, &parent, &["--count", &(processors / 2 + 1).to_string()]);
    if waiting(&parent).is_none() || processors < 2 {
        return;
    }
    for fork in &crowd {
        assert_eq!(waiting(fork), Some(1));
    }
    let alone = fork(&own, &parent, &[]);
    eventually("its second processor was not warmed", || waiting(&alone[0]) == Some(0));
}

#[test]
fn a_fork_that_is_ended_halfway_leaves_none() {
    let own = TestContext::fresh();
    let parent = Session::start(&own, &SMALL);
    let sessions = || rows(&own, &["session", "list"]).len();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let live = own.lampyr(["fork", &parent.sid, "--count", "8"]).start();
        eventually("no fork was started", || sessions() > 1);
        live.signal(signal);
        let ended = live.finish();
        assert_eq!((ended.status() == Some(0), ended.stdout()), (false, String::new()));
        eventually("forks are left that nobody knows of", || sessions() == 1);
    }
    parent.stop();
    assert_eq!(own.lampyr(["clean"]).finish().status(), Some(0));
    eventually("a template is left", || templates(&own) == 0);
}

#[test]
fn a_fork_of_a_fork_has_what_both_had() {
    let own = TestContext::fresh();
    let parent = Session::start(&own, &[&SMALL[..], &["--cpus", "1"]].concat());
    parent.sh("echo 1 >> /root/file").success();
    let child = fork(&own, &parent, &[]).remove(0);
    child.sh("echo 2 >> /root/file").success();
    let grandchild = fork(&own, &child, &[]).remove(0);
    parent.stop();
    child.stop();
    assert_eq!(grandchild.sh("cat /root/file; nproc").success(), "1\n2\n1\n");
    grandchild.stop();
    assert_eq!(templates(&own), 0);
    own.assert_tidy();
}

#[test]
fn jobs_go_on_in_both_and_are_the_parent_s_alone_to_hear() {
    let own = TestContext::apart();
    let parent = Session::start(&own, &SMALL);
    let count = "n=0; while :; do n=$((n+1)); echo $n > /root/n; echo $n; sleep 0.05; done";
    let started = own.lampyr(["exec", &parent.sid, "--detach", count]).finish();
    assert_eq!(started.status(), Some(0), "{started:?}");
    parent.sh("until [ -s /root/n ]; do sleep 0.05; done").success();
    let child = fork(&own, &parent, &[]).remove(0);
    for session in [&parent, &child] {
        let goes_on =
            "n=$(cat /root/n); until [ $(cat /root/n) -gt $n ] 2>/dev/null; do sleep 0.05; done";
        session.sh(goes_on).success();
    }
    assert_eq!(rows(&own, &["ps"]).len(), 2);
    parent.stop();
    child.stop();
    own.assert_tidy();
}

#[test]
fn a_fork_sees_the_mounts_and_volumes_of_its_parent() {
    let own = TestContext::apart();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("given"), "given").unwrap();
    assert_eq!(own.lampyr(["volume", "create", "shelf"]).finish().status(), Some(0));
    let mount = format!("{}:/m", dir.path().display());
    let flags = ["--mount", &mount, "--volume", "shelf:/v"];
    let parent = Session::start(&own, &[&SMALL[..], &flags].concat());
    parent.sh("cat /m/given; echo parent > /v/parent; cd /m").success();
    let child = fork(&own, &parent, &[]).remove(0);
    let said = child.sh("cat /m/given /v/parent; echo child > /m/child; echo child > /v/child");
    assert_eq!(said.success(), "givenparent\n");
    assert_eq!(fs::read_to_string(dir.path().join("child")).unwrap(), "child\n");
    assert_eq!(parent.sh("cat /m/child /v/child").success(), "child\nchild\n");
    parent.stop();
    assert_eq!(child.sh("cat /v/child").success(), "child\n");
    child.stop();
    own.assert_tidy();
}

#[test]
fn a_machine_with_more_memory_than_fits_below_its_devices_is_forked() {
    let own = TestContext::fresh();
    let parent = Session::start(&own, &["--memory", "5GB"]);
    parent
        .sh("head -c 3000000 /dev/urandom > /dev/shm/x; sha256sum < /dev/shm/x > /root/sum")
        .success();
    let child = fork(&own, &parent, &[]).remove(0);
    assert_eq!(
        child.sh("sha256sum < /dev/shm/x | cmp - /root/sum && echo same").success(),
        "same\n"
    );
    child.stop();
    parent.stop();
    own.assert_tidy();
}

/// Requires a sentence with this in it.
fn refused(finished: &Finished, what: &str) {
    let (message, hint) = finished.failure();
    assert!(message.contains(what) && !hint.is_empty(), "{finished:?}");
}

#[test]
fn what_cannot_be_forked_is_refused() {
    let own = TestContext::apart();
    refused(&own.lampyr(["fork", "nobody"]).finish(), "session 'nobody' not found");
    let session = Session::start(&own, &SMALL);
    let bad = own.lampyr(["fork", &session.sid, "--count", "0"]).finish();
    assert_eq!(bad.status(), Some(2), "{bad:?}");
    session.stop();
    refused(&own.lampyr(["fork", &session.sid]).finish(), "has ended");
    own.assert_tidy();
}

#[test]
fn a_machine_killed_while_it_is_copied_is_told_of() {
    let own = TestContext::apart();
    for moment in [20, 60, 120, 200] {
        let parent = Session::start(&own, &SMALL);
        parent.sh("head -c 60000000 /dev/urandom > /dev/shm/x").success();
        let machine = machine_of(parent.owner());
        let live = own.lampyr(["fork", &parent.sid]).start();
        std::thread::sleep(Duration::from_millis(moment));
        machine.signal(libc::SIGKILL);
        let finished = live.finish();
        // It may have been copied already; then there is a fork, and it works.
        if finished.status() == Some(0) {
            let sid = finished.json()["sids"][0].as_str().unwrap().to_owned();
            let child = Session::of(&own, &sid);
            assert_eq!(child.sh("echo works").success(), "works\n");
            child.stop();
        } else {
            let (message, _) = finished.failure();
            assert!(message.contains("ended") || message.contains("dead"), "{finished:?}");
        }
        assert!(finished.took < 20 * SECOND, "{finished:?}");
        eventually("the owner outlived its machine", || {
            parent.row().is_none_or(|row| row["status"] == "dead")
        });
        own.assert_nothing_left();
    }
    assert!(entries(&own.home().join("sandboxes")).is_empty());
}

fn machine_of(owner: Process) -> Process {
    let is_machine = |process: &Process| process.command_line().iter().any(|w| w == "-machine");
    owner.children().into_iter().find(is_machine).expect("a machine")
}
