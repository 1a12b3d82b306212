//! `cargo xtask run`: from a fresh checkout to a command in a sandbox.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::command::{run as run_command, say};
use crate::failure::{Failure, Result};
use crate::{agent, packages, workspace};

/// Installs, builds and provisions what is missing, then becomes `lampyr run`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    packages::ensure(packages::IMAGE)?;
    build()?;
    provision()?;
    let error = Command::new(workspace::lampyr()).arg("run").args(args).exec();
    Err(Failure::new(format!("cannot start {}: {error}", workspace::lampyr().display())))
}

/// Builds lampyr in release, with its agent inside.
pub(crate) fn build() -> Result<()> {
    agent::build(workspace::HOST_ARCH)?;
    run_command(workspace::cargo().args(["build", "--quiet", "--release", "-p", "lampyr"]))
}

/// Makes the guest kit and the default image on first use.
///
/// Lampyr brings a QEMU of its own where it can; the system's is installed
/// only where that failed.
pub(crate) fn provision() -> Result<()> {
    if workspace::lampyr_home()?.join("kits").is_dir() {
        return Ok(());
    }
    say("First use: preparing the guest kernel, the default image and QEMU");
    doctor().or_else(|_| {
        packages::ensure(packages::QEMU)?;
        doctor()
    })
}

fn doctor() -> Result<()> {
    run_command(Command::new(workspace::lampyr()).args(["doctor", "--fix"]))
}
