//! `cargo xtask test`: everything that must hold before a change is merged.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::command::{answer, find, run, say};
use crate::failure::{Failure, Result};
use crate::{agent, check_macos, fuzz, packages, python_sdk, run as launch, test_kvm, workspace};

const E2E: &str = "tests/e2e";

/// How much to test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Without the emulated KVM host.
    Quick,
    Full,
}

type Step = (&'static str, fn() -> Result<()>);

/// How a step went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    Failed,
}

/// Runs the steps up to the first that fails, and sums up.
pub(crate) fn test(extent: Extent) -> Result<()> {
    let (mut summary, mut verdicts) = (Vec::new(), Vec::new());
    for (name, step) in steps(extent) {
        say(&format!("==> {name}"));
        let start = Instant::now();
        let verdict = judge(name, step());
        summary.push(line(name, start.elapsed(), verdict));
        verdicts.push(verdict);
        if verdict == Verdict::Failed {
            break;
        }
    }
    let [passed, skipped, failed] = [Verdict::Passed, Verdict::Skipped, Verdict::Failed]
        .map(|kind| verdicts.iter().filter(|verdict| **verdict == kind).count());
    let lines = summary.join("\n");
    answer(&format!("\n{lines}\n{passed} passed, {skipped} skipped, {failed} failed"));
    if failed == 0 { Ok(()) } else { Err(Failure::told()) }
}

fn judge(name: &str, outcome: Result<()>) -> Verdict {
    match outcome {
        Ok(()) => Verdict::Passed,
        Err(why) if why.is_skipped() => {
            say(&format!("SKIPPED {name}: {why}"));
            Verdict::Skipped
        }
        Err(failure) => {
            say(&format!("error: {failure}"));
            Verdict::Failed
        }
    }
}

fn steps(extent: Extent) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![
        ("system packages", || {
            packages::ensure(packages::IMAGE)?;
            packages::ensure(packages::TEST)?;
            packages::ensure(packages::REGISTRY)
        }),
        ("guest agent", || agent::build(workspace::HOST_ARCH)),
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("clippy", || {
            cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
        }),
        ("tests", tests),
        ("fuzzing", fuzz::briefly),
        ("release build", launch::build),
        ("guest kit and image", || launch::provision(&workspace::test_home())),
    ];
    if workspace::has(E2E) {
        steps.push(("end-to-end tests", e2e_tests));
    }
    steps.push(("Python SDK", python_sdk::test));
    steps.push(("macOS check", check_macos::check));
    if extent == Extent::Full {
        steps.push(("emulated KVM host", test_kvm::test));
    }
    steps
}

/// All that needs no virtual machine.
fn tests() -> Result<()> {
    let mut command = runner();
    command.arg("--workspace").env("LAMPYR_TEST_AGENT", workspace::agent());
    if workspace::has(E2E) {
        command.args(["--exclude", "lampyr-e2e"]);
    }
    run(&mut command)
}

/// The end-to-end tests try the release build.
fn e2e_tests() -> Result<()> {
    run(runner()
        .args(["-p", "lampyr-e2e"])
        .env("LAMPYR_BIN", workspace::lampyr())
        .env("LAMPYR_HOME", workspace::test_home()))
}

/// cargo-nextest where it is installed, else `cargo test`.
fn runner() -> Command {
    let mut command = workspace::cargo();
    if find("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--no-tests=pass"]);
    } else {
        command.args(["test", "--no-fail-fast"]);
    }
    command
}

fn cargo(args: &[&str]) -> Result<()> {
    run(workspace::cargo().args(args))
}

fn line(name: &str, took: Duration, verdict: Verdict) -> String {
    let verdict = match verdict {
        Verdict::Passed => "ok",
        Verdict::Skipped => "SKIPPED",
        Verdict::Failed => "FAILED",
    };
    format!("{name:<20} {:>7.1} s  {verdict}", took.as_secs_f64())
}
