//! Whoever reads what a command says may be slow, or not read at all.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lampyr_e2e::{Session, TestContext, entries, eventually};

/// How the three ways to print are asked for.
const FORMATS: [(&str, &str); 3] =
    [("LAMPYR_FORMAT", "json"), ("LAMPYR_FORMAT", "text"), ("LAMPYR_OUTPUT", "ndjson")];

#[test]
fn a_slow_reader_delays_no_time_limit() {
    let gated = r#""$@" | { while [ -e "$GATE" ]; do sleep 0.1; done; cat >/dev/null; }"#;
    for (name, value) in [("LAMPYR_STREAM", "1"), ("LAMPYR_OUTPUT", "ndjson")] {
        let own = TestContext::own();
        let gate = own.home().join("gate");
        fs::write(&gate, "").unwrap();
        let run = own.run("yes").args(["--timeout", "2s"]).env("LAMPYR_FORMAT", "text");
        let run = run.env(name, value).env("GATE", &gate);
        let live = run.under(["bash", "-o", "pipefail", "-c", gated, "-"]).start();
        let sandboxes = own.home().join("sandboxes");
        let there = || entries(&sandboxes).len();
        eventually("no machine started", || there() == 1);
        eventually("the time limit was not kept", || there() == 0);
        fs::remove_file(&gate).unwrap();
        let finished = live.finish();
        assert_eq!(finished.status(), Some(1), "{finished:?}");
        own.assert_tidy();
    }
}

/// Starts `lampyr` with a standard output that nobody reads, sends SIGTERM
/// after a while, and says how long it then took to end, and how.
fn terminated(context: &TestContext, words: &[&str], format: (&str, &str)) -> (Duration, i32) {
    let mut lampyr = Command::new(context.program());
    lampyr.args(words).env("LAMPYR_HOME", context.home()).env("LAMPYR_ACCEL", "tcg");
    lampyr.env(format.0, format.1).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = lampyr.stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let pid = i32::try_from(child.id()).unwrap();
    let begun = Instant::now();
    // SAFETY: the child was not waited for, so the id is its own.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let limit = Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{words:?} with {format:?} outlives a signal");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    (begun.elapsed(), status.code().unwrap_or(-1))
}

#[test]
fn a_signal_ends_what_nobody_reads() {
    let own = TestContext::own();
    let session = Session::start(&own, &[]);
    for format in FORMATS {
        let run = terminated(&own, &["run", "yes", "--timeout", "60s"], format);
        assert!(run.0 < Duration::from_secs(3) && run.1 == 143, "{format:?}: {run:?}");
        let exec = ["exec", &session.sid, "yes", "--timeout", "60s"];
        let exec = terminated(&own, &exec, format);
        // At most the grace of a command that does not end by itself.
        assert!(exec.0 < Duration::from_secs(10) && exec.1 > 0, "{format:?}: {exec:?}");
    }
    session.sh("true").success();
    let quiet = "! grep -qsx yes /proc/[0-9]*/comm";
    eventually("`yes` runs on", || session.sh(quiet)["exit_code"] == 0);
    session.stop();
    own.assert_tidy();
}

#[test]
fn a_long_command_and_a_large_environment_arrive() {
    let own = TestContext::own();
    let argument = "a".repeat(120_000);
    let variables: Vec<_> = (0..40).map(|i| format!("-eV{i}={}", "v".repeat(20_000))).collect();
    let command = format!("echo ${{#V0}} $V39 | wc -c; echo -n {argument} | wc -c");
    let said = own.run(&command).args(&variables).envelope();
    assert_eq!(said.success(), "20007\n120000\n");
    let flags: Vec<_> = variables.iter().map(String::as_str).collect();
    let session = Session::start(&own, &flags);
    assert_eq!(session.sh(&command).success(), "20007\n120000\n");
    let keyed = session.exec(&command).args(["--key", "k"]).envelope();
    assert_eq!(keyed.success(), "20007\n120000\n");
}
