//! `cargo xtask soak`: the tests that take many minutes.

use crate::command::run;
use crate::failure::{Failure, Result};
use crate::{agent, fuzz, images, packages, run as launch, workspace};

/// How long each thing is done at random, unless somebody says so.
const SECONDS: u64 = 600;

/// `[--seconds N]`.
pub(crate) fn soak(args: &[&str]) -> Result<()> {
    let seconds = match args {
        [] => SECONDS,
        ["--seconds", number] => fuzz::seconds(number)?,
        _ => return Err(Failure::new("usage: cargo xtask soak [--seconds N]")),
    };
    fuzz::of_frames(seconds)?;
    packages::ensure(packages::IMAGE)?;
    agent::build(workspace::HOST_ARCH)?;
    launch::build()?;
    launch::provision(&workspace::test_home())?;
    images::usual()?;
    images::large()?;
    run(workspace::cargo()
        .args(["test", "-p", "lampyr-e2e", "--", "--ignored", "--nocapture", "--test-threads", "1"])
        .env("LAMPYR_BIN", workspace::lampyr())
        .env("LAMPYR_HOME", workspace::test_home())
        .env("LAMPYR_TEST_IMAGES", images::folder())
        .env("LAMPYR_SOAK_SECONDS", seconds.to_string()))
}
