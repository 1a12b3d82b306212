//! The TypeScript SDK, tried by Node's own runner.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use crate::command::{bounded, find, run, say};
use crate::failure::{At, Result};
use crate::{images, workspace};

/// Its tests take a minute, and some more with lightbox's examples.
const LIMIT: Duration = Duration::from_mins(15);

/// Builds it and tries it on the release build. Where there is no Node, that
/// is said, and counts as a skipped test.
pub(crate) fn test() -> Result<()> {
    if find("node").is_none() || find("npm").is_none() {
        return skip("the TypeScript SDK, since there is no node or npm");
    }
    run(npm().args(["ci", "--no-audit", "--no-fund"]))?;
    run(npm().args(["run", "build"]))?;
    run(npm().arg("test"))
}

fn npm() -> Command {
    let mut command = bounded(LIMIT, "npm");
    command
        .current_dir(workspace::root().join("sdk/typescript"))
        .env("LAMPYR_E2E_SKIPPED", workspace::skipped())
        .env("LAMPYR_TEST_IMAGES", images::folder())
        .env("LAMPYR_BIN", workspace::lampyr())
        .env("LAMPYR_HOME", workspace::test_home());
    command
}

fn skip(what: &str) -> Result<()> {
    say(&format!("SKIPPED {what}"));
    let path = workspace::skipped();
    let mut file = File::options().append(true).create(true).open(&path).at(&path)?;
    writeln!(file, "{what}").at(&path)
}
