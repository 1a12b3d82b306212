//! `cargo xtask run`: from a fresh checkout to a command in a sandbox.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::{bounded, run as run_command, say, status};
use crate::failure::{Failure, Result};
use crate::{agent, packages, workspace};

/// How long the preparation may take, on the slowest mirror.
const LIMIT: Duration = Duration::from_mins(20);

/// Installs, builds and provisions what is missing, then becomes `lampyr run`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    packages::ensure(packages::IMAGE)?;
    build()?;
    provision(&workspace::lampyr_home()?)?;
    let error = Command::new(workspace::lampyr()).arg("run").args(args).exec();
    Err(Failure::new(format!("cannot start {}: {error}", workspace::lampyr().display())))
}

/// Builds lampyr in release, with its agent inside.
pub(crate) fn build() -> Result<()> {
    agent::build(workspace::HOST_ARCH)?;
    let mut command = workspace::cargo();
    command.args(["build", "--release", "-p", "lampyr"]);
    // The first build takes a minute, which cargo shows; the others are quiet.
    if workspace::lampyr().is_file() {
        command.arg("--quiet");
    }
    run_command(&mut command)
}

/// Makes the guest kit, the default image and QEMU where one is missing.
///
/// Lampyr brings a QEMU of its own where it can; the system's is installed
/// only where that failed.
pub(crate) fn provision(home: &Path) -> Result<()> {
    if is_provisioned(home) {
        return Ok(());
    }
    say("First use: preparing the guest kernel, the default image and QEMU");
    let first = doctor(home);
    if has_qemu(home) {
        return first;
    }
    packages::ensure(packages::QEMU)?;
    doctor(home)
}

/// Whether all is there that a run needs. Each part appears whole or not at all.
fn is_provisioned(home: &Path) -> bool {
    let kit = home.join(format!("kits/current-{}.json", workspace::HOST_ARCH));
    let image = home.join("images/default/manifest.json");
    kit.is_file() && image.is_file() && has_qemu(home)
}

fn has_qemu(home: &Path) -> bool {
    let builds = std::fs::read_dir(home.join("qemu")).into_iter().flatten().flatten();
    packages::QEMU.iter().all(packages::Package::is_there)
        || builds.map(|build| build.path()).any(|build| build.join("manifest.json").is_file())
}

/// Has lampyr make what is missing. What it says is a failure where nothing
/// could run; that something could be better is none.
fn doctor(home: &Path) -> Result<()> {
    let mut doctor = bounded(LIMIT, workspace::lampyr());
    doctor.args(["doctor", "--fix"]).env("LAMPYR_HOME", home).env("LAMPYR_FORMAT", "text");
    match status(&mut doctor)?.code() {
        Some(0 | 1) => Ok(()),
        _ => Err(Failure::new("`lampyr doctor --fix` could not prepare what a run needs")),
    }
}
