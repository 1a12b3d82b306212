//! `cargo xtask test-python`: the Python SDK, as somebody would install it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{bounded, find, run};
use crate::failure::{Failure, Result};
use crate::workspace;

/// How long one step may take, on the slowest mirror.
const LIMIT: Duration = Duration::from_mins(10);

/// Installs the package and what its tests need, checks style and types, and
/// runs the tests.
pub(crate) fn test() -> Result<()> {
    let folder = workspace::target().join("python-sdk");
    run(bounded(LIMIT, python()?).args(["-m", "venv"]).arg(&folder))?;
    let sdk = workspace::root().join("sdk/python");
    let tool = |name: &str| {
        let mut command = bounded(LIMIT, folder.join("bin/python"));
        command.current_dir(&sdk).args(["-m", name]).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    run(tool("pip").args(["install", "--quiet", "--disable-pip-version-check", ".[test]"]))?;
    run(tool("ruff").args(["check", "--quiet", "--no-cache"]))?;
    run(tool("ruff").args(["format", "--quiet", "--no-cache", "--check"]))?;
    run(tool("mypy").arg("--cache-dir").arg(folder.join("mypy")))?;
    run(tool("pytest")
        .args(["--quiet", "-p", "no:cacheprovider", "-rs"])
        .env("LAMPYR_BIN", workspace::lampyr())
        .env("LAMPYR_HOME", workspace::test_home()))
}

/// A Python that can make environments; Debian has that in a package apart.
fn python() -> Result<PathBuf> {
    let python = find("python3").ok_or_else(|| Failure::skipped("there is no python3"))?;
    let mut probe = Command::new(&python);
    probe.args(["-c", "import ensurepip, venv"]).stdin(Stdio::null()).stderr(Stdio::null());
    match probe.status() {
        Ok(status) if status.success() => Ok(python),
        _ => Err(Failure::skipped("python3 cannot make an environment; Debian: python3-venv")),
    }
}
