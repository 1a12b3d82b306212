//! `cargo xtask test-python`: the Python SDK, as somebody would install it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{bounded, find, run, say};
use crate::failure::{At, Result};
use crate::workspace;

/// How long one step may take, on the slowest mirror.
const LIMIT: Duration = Duration::from_mins(10);

/// Installs the package and what its tests need, checks style and types, and
/// runs the tests.
pub(crate) fn test() -> Result<()> {
    let Some(python) = python() else {
        return skip("there is no python3 that can make an environment (Debian: python3-venv)");
    };
    let folder = workspace::target().join("python-sdk");
    run(bounded(LIMIT, python).args(["-m", "venv"]).arg(&folder))?;
    let tool = |name| tool(&folder, name);
    run(tool("pip").args(["install", "--quiet", "--disable-pip-version-check", ".[test]"]))?;
    run(tool("ruff").args(["check", "--quiet", "--no-cache"]))?;
    run(tool("ruff").args(["format", "--quiet", "--no-cache", "--check"]))?;
    run(tool("mypy").arg("--cache-dir").arg(folder.join("mypy")))?;
    run(tool("pytest")
        .args(["--quiet", "-p", "no:cacheprovider", "-rs", "-n", "auto"])
        .env("LAMPYR_BIN", workspace::lampyr())
        .env("LAMPYR_HOME", workspace::test_home()))
}

/// A tool of the environment in `folder`.
fn tool(folder: &Path, name: &str) -> Command {
    let mut command = bounded(LIMIT, folder.join("bin/python"));
    command
        .current_dir(workspace::root().join("sdk/python"))
        .args(["-m", name])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A Python that can make environments; Debian has that in a package apart.
fn python() -> Option<PathBuf> {
    let python = find("python3")?;
    let mut probe = Command::new(&python);
    probe.args(["-c", "import ensurepip, venv"]).stdin(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success()).then_some(python)
}

/// What was not tried has not passed: it is told, and counted.
fn skip(why: &str) -> Result<()> {
    let (line, path) = (format!("the Python SDK: {why}"), workspace::skipped());
    say(&format!("SKIPPED {line}"));
    let file = File::options().append(true).create(true).open(&path);
    file.and_then(|mut file| writeln!(file, "{line}")).at(&path)
}
