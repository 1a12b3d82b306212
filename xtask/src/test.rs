//! `cargo xtask test`: everything that must hold before a change is merged.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::command::{answer, find, run, say};
use crate::failure::{Failure, Result};
use crate::{
    agent, check_macos, fuzz, images, packages, run as launch, rust_sdk, test_kvm, typescript,
    workspace,
};

const E2E: &str = "tests/e2e";

/// How much to test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Without the emulated KVM host.
    Quick,
    Full,
}

type Step = (&'static str, fn() -> Result<()>);

/// Runs the steps up to the first that fails, and sums up.
pub(crate) fn test(extent: Extent) -> Result<()> {
    let mut summary = Vec::new();
    // What an earlier run has left says nothing of this one.
    let _ = std::fs::remove_file(workspace::skipped());
    let mut outcome = Ok(());
    for (name, step) in steps(extent) {
        say(&format!("==> {name}"));
        let start = Instant::now();
        outcome = step();
        summary.push(line(name, start.elapsed(), outcome.is_ok()));
        if outcome.is_err() {
            break;
        }
    }
    let failed = usize::from(outcome.is_err());
    let passed = summary.len() - failed;
    let skipped = skipped();
    summary.extend(skipped.lines().map(|test| format!("skipped: {test}")));
    if let Err(failure) = &outcome {
        say(&format!("error: {failure}"));
    }
    answer(&format!(
        "\n{}\n{passed} passed, {failed} failed, {} tests skipped",
        summary.join("\n"),
        skipped.lines().count()
    ));
    outcome.map_err(|_| Failure::told())
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
        steps.push(("images for tests", images::usual));
        steps.push(("end-to-end tests", e2e_tests));
    }
    steps.push(("Rust SDK", rust_sdk::test));
    steps.push(("TypeScript SDK", typescript::test));
    steps.push(("macOS check", check_macos::check));
    steps.push(("Python SDK", crate::python_sdk::test));
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
    command.args(rust_sdk::PACKAGES.iter().flat_map(|package| ["--exclude", package]));
    run(&mut command)
}

/// The tests that were not made, for want of what they need: a line for each.
fn skipped() -> String {
    std::fs::read_to_string(workspace::skipped()).unwrap_or_default()
}

/// The end-to-end tests try the release build.
fn e2e_tests() -> Result<()> {
    run(runner()
        .env("LAMPYR_E2E_SKIPPED", workspace::skipped())
        .args(["-p", "lampyr-e2e"])
        .env("LAMPYR_BIN", workspace::lampyr())
        .env("LAMPYR_HOME", workspace::test_home())
        .env("LAMPYR_TEST_IMAGES", images::folder()))
}

/// cargo-nextest where it is installed, else `cargo test`.
pub(crate) fn runner() -> Command {
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

fn line(name: &str, took: Duration, passed: bool) -> String {
    let verdict = if passed { "ok" } else { "FAILED" };
    format!("{name:<20} {:>7.1} s  {verdict}", took.as_secs_f64())
}
