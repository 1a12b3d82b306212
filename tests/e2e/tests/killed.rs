//! Whoever takes part in a build, a snapshot, a fork, an undo or a removal is
//! killed at one moment after another: what there was is there, or what there was
//! to be, and `clean` finds the rest.
//!
//! `LAMPYR_FAULTS` says how many moments are tried of each.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lampyr_e2e::{Call, Live, Process, Session, TestContext, entries, eventually, rows};

/// A machine that is saved quickly.
const SMALL: [&str; 4] = ["--memory", "256MB", "--checkpoints", "2"];
/// How many moments are tried where nobody says.
const USUAL: u32 = 6;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The program that was called.
    Program,
    /// The owner of the session that it is about.
    Owner,
    /// The machine of that session.
    Machine,
}

/// Something to do, and when somebody is killed in the middle of it.
#[derive(Debug, Clone, Copy)]
struct Kill {
    number: u32,
    victim: Victim,
    moment: Duration,
}

/// Kills at moments within so long, one victim after the other. They lie about
/// as if by chance, and are the same each time: parts of the golden ratio.
fn kills(victims: &[Victim], whole: Duration) -> Vec<Kill> {
    let count = std::env::var("LAMPYR_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(USUAL);
    let part = |n: u32| (f64::from(n) * 0.618_033_988_749_894_9).fract();
    let kill = |number: u32| Kill {
        number,
        victim: victims[number as usize % victims.len()],
        moment: whole.mul_f64(part(number)),
    };
    (1..=count).map(kill).collect()
}

impl Kill {
    /// Lets a call begin, and kills at the moment; `of` is the session's owner,
    /// where there is one. Says whether there was anybody to kill.
    fn strike(self, call: Call, of: impl FnOnce(&Live) -> Option<Process>) -> bool {
        let live = call.start();
        std::thread::sleep(self.moment);
        let owner = if self.victim == Victim::Program { None } else { of(&live) };
        let victim = match self.victim {
            Victim::Program => live.process(),
            Victim::Owner => owner,
            Victim::Machine => owner.and_then(machine_of),
        };
        if let Some(victim) = victim {
            victim.signal(libc::SIGKILL);
        }
        let finished = live.finish();
        assert!(finished.took < Duration::from_mins(1), "{self:?}: {finished:?}");
        victim.is_some()
    }
}

fn machine_of(owner: Process) -> Option<Process> {
    let is_machine = |process: &Process| process.command_line().iter().any(|w| w == "-machine");
    owner.children().into_iter().find(is_machine)
}

/// How long a call takes that nobody interrupts.
fn usual(call: Call) -> Duration {
    let begun = Instant::now();
    let finished = call.finish();
    assert_eq!(finished.status(), Some(0), "{finished:?}");
    begun.elapsed()
}

/// A session with this in a file.
fn session<'a>(own: &'a TestContext, what: &str) -> Session<'a> {
    let session = Session::start(own, &SMALL);
    write(&session, what);
    session
}

fn write(session: &Session<'_>, what: &str) {
    session.sh(&format!("echo {what} > /root/file; sync")).success();
}

fn read(session: &Session<'_>) -> String {
    session.sh("cat /root/file").success().trim().to_owned()
}

/// What is in the file of a snapshot.
fn saved(own: &TestContext, name: &str) -> String {
    let run = own.lampyr(["run", "--snapshot", name, "cat /root/file"]);
    run.envelope().success().trim().to_owned()
}

fn is_there(own: &TestContext, name: &str) -> bool {
    rows(own, &["snapshot", "list"]).iter().any(|row| row["name"] == name)
}

fn running(own: &TestContext) -> Vec<String> {
    let rows = rows(own, &["session", "list"]).into_iter();
    let running = rows.filter(|row| row["status"] == "running");
    running.map(|row| row["sid"].as_str().unwrap().to_owned()).collect()
}

/// Requires that nothing is left of snapshots once the last is removed.
fn assert_no_snapshots_left(own: &TestContext, name: &str) {
    own.assert_nothing_left();
    own.lampyr(["snapshot", "rm", name]).finish().json();
    eventually("a blob of nobody's is left", || {
        own.lampyr(["clean"]).finish().json();
        entries(&own.home().join("snapshots/blobs/sha256")).is_empty()
    });
    let of_one = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("s-");
    assert!(!own.templates().iter().any(of_one), "{:?}", own.templates());
}

#[test]
fn a_create_leaves_the_old_snapshot_or_the_new_one() {
    let own = TestContext::fresh();
    let mut of = session(&own, "0");
    let create = |of: &Session<'_>| own.lampyr(["snapshot", "create", &of.sid, "one"]);
    let (mut was, whole) = ("0".to_owned(), usual(create(&of)));
    for kill in kills(&[Victim::Program, Victim::Owner, Victim::Machine], whole) {
        let new = kill.number.to_string();
        write(&of, &new);
        let owner = of.owner();
        kill.strike(create(&of), |_| Some(owner));
        let is = saved(&own, "one");
        assert!([&was, &new].contains(&&is), "{kill:?}: {is}, it was {was}");
        was = is;
        if kill.victim == Victim::Program {
            assert_eq!(read(&of), new, "{kill:?}");
        } else {
            eventually("the session outlives its end", || !running(&own).contains(&of.sid));
            of = session(&own, &new);
        }
    }
    drop(of);
    assert_no_snapshots_left(&own, "one");
}

#[test]
fn a_build_leaves_the_old_snapshot_or_the_new_one() {
    let own = TestContext::fresh();
    let file = own.home().join("one.toml");
    let describe = |what: &str| {
        let steps = format!("setup = [\"echo {what} > /root/file\", \"sync\"]");
        fs::write(
            &file,
            format!(
                "name = \"one\"\nimage = \"default\"\n{steps}\n[resources]\nmemory = \"256M\"\n"
            ),
        )
        .unwrap();
    };
    let build = || own.lampyr(["snapshot", "build", file.to_str().unwrap()]);
    describe("first");
    usual(build());
    // The template is there now, as it will be.
    describe("0");
    let (mut was, whole, mut dead) = ("0".to_owned(), usual(build()), 0);
    for kill in kills(&[Victim::Program, Victim::Owner, Victim::Machine], whole) {
        let new = kill.number.to_string();
        describe(&new);
        // The builder's owner is a child of the program that is called.
        let is_owner = |child: &Process| child.command_line().contains(&"session-owner".into());
        let owner = |live: &Live| live.process()?.children().into_iter().find(is_owner);
        let struck = kill.strike(build(), owner);
        dead += u32::from(struck && kill.victim != Victim::Program);
        let is = saved(&own, "one");
        assert!([&was, &new].contains(&&is), "{kill:?}: {is}, it was {was}");
        was = is;
        eventually("the builder lives on", || running(&own).is_empty());
    }
    assert!(dead > 0, "no builder was killed");
    assert_no_snapshots_left(&own, "one");
}

#[test]
fn a_fork_leaves_sessions_that_are_whole_or_none() {
    let own = TestContext::fresh();
    let mut of = session(&own, "kept");
    let fork = |of: &Session<'_>| own.lampyr(["fork", &of.sid, "--count", "2"]);
    let whole = usual(fork(&of));
    let stop_forks = |of: &Session<'_>| {
        for sid in running(&own).into_iter().filter(|sid| *sid != of.sid) {
            let fork = Session::of(&own, &sid);
            let finished = fork.exec("cat /root/file").finish();
            if finished.stdout().contains("exit_code") {
                assert_eq!(finished.envelope().success(), "kept\n");
            } else {
                // Its forker was killed before it heard of it, and it ends itself.
                eventually("a fork lives and says nothing", || !running(&own).contains(&sid));
            }
            fork.stop();
        }
    };
    stop_forks(&of);
    for kill in kills(&[Victim::Program, Victim::Owner, Victim::Machine], whole) {
        let owner = of.owner();
        kill.strike(fork(&of), |_| Some(owner));
        if kill.victim != Victim::Program {
            eventually("the session outlives its end", || !running(&own).contains(&of.sid));
        }
        // Those whose making nobody could end are there in a moment.
        let alone = usize::from(kill.victim == Victim::Program);
        eventually("something of a fork is left", || {
            stop_forks(&of);
            own.lampyr(["clean"]).finish().json();
            let forks = own.templates().into_iter();
            let forks = forks.filter(|t| t.to_string_lossy().contains("/fork-")).count();
            entries(&own.home().join("sandboxes")).len() == alone && forks == 0
        });
        if kill.victim == Victim::Program {
            assert_eq!(read(&of), "kept", "{kill:?}");
        } else {
            of = session(&own, "kept");
        }
    }
    drop(of);
    own.assert_nothing_left();
}

#[test]
fn an_undo_leaves_what_was_or_what_is_wanted() {
    let own = TestContext::fresh();
    let mut of = session(&own, "old");
    write(&of, "new");
    let undo = |of: &Session<'_>| own.lampyr(["undo", &of.sid]);
    let whole = usual(undo(&of));
    for kill in kills(&[Victim::Program, Victim::Owner, Victim::Machine], whole) {
        write(&of, "old");
        write(&of, "new");
        let owner = of.owner();
        kill.strike(undo(&of), |_| Some(owner));
        match kill.victim {
            Victim::Program => {}
            Victim::Owner => eventually("the owner lives", || !owner.is_alive()),
            // The old machine may be gone already, and the new one be there; then
            // the session goes on.
            Victim::Machine => eventually("nobody knows how the session is", || {
                let probe = of.exec("true").finish();
                probe.stdout().contains("exit_code") || !running(&own).contains(&of.sid)
            }),
        }
        if running(&own).contains(&of.sid) {
            let is = read(&of);
            assert!(["old", "new"].contains(&is.as_str()), "{kill:?}: {is}");
        } else {
            assert_ne!(kill.victim, Victim::Program, "{kill:?}: the session is gone");
            of = session(&own, "old");
        }
    }
    drop(of);
    own.assert_nothing_left();
}

#[test]
fn a_removal_leaves_the_snapshot_or_nothing() {
    let own = TestContext::fresh();
    let of = session(&own, "kept");
    let create = || own.lampyr(["snapshot", "create", &of.sid, "one"]).finish().json();
    let rm = || own.lampyr(["snapshot", "rm", "one"]);
    create();
    let whole = usual(rm());
    for kill in kills(&[Victim::Program], whole) {
        if !is_there(&own, "one") {
            create();
        }
        kill.strike(rm(), |_| None);
        if is_there(&own, "one") {
            assert_eq!(saved(&own, "one"), "kept", "{kill:?}");
        } else {
            let run = own.lampyr(["run", "--snapshot", "one", "true"]).envelope();
            assert!(run.error("connection_failed").contains("not found"), "{kill:?}");
        }
    }
    if !is_there(&own, "one") {
        create();
    }
    drop(of);
    assert_no_snapshots_left(&own, "one");
}
