//! Where things lie in this repository and on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::bounded;
use crate::failure::{Failure, Result};

/// The architecture of this machine, by rustc's name for it.
pub(crate) const HOST_ARCH: &str = std::env::consts::ARCH;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The release build of lampyr.
pub(crate) fn lampyr() -> PathBuf {
    target().join("release/lampyr")
}

/// The guest agent that lampyr embeds.
pub(crate) fn agent() -> PathBuf {
    root().join("target/agent/lampyr-agent")
}

/// A state directory of lampyr for the tests, which share it, so that the kit
/// and the image are made once.
pub(crate) fn test_home() -> PathBuf {
    target().join("lampyr-home")
}

/// Where the end-to-end tests say which of them were skipped.
pub(crate) fn skipped() -> PathBuf {
    target().join("skipped-tests")
}

/// The state directory of lampyr: `$LAMPYR_HOME` or `~/.lampyr`.
pub(crate) fn lampyr_home() -> Result<PathBuf> {
    match std::env::var_os("LAMPYR_HOME") {
        Some(folder) => Ok(folder.into()),
        None => Ok(home()?.join(".lampyr")),
    }
}

/// The home of this user.
pub(crate) fn home() -> Result<PathBuf> {
    std::env::home_dir().ok_or_else(|| Failure::new("this user has no home directory"))
}

/// No build and no run of all tests takes this long, unless it hangs.
const LIMIT: Duration = Duration::from_mins(30);

/// The same cargo that started this task, in the root of the repository.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = bounded(LIMIT, cargo);
    command.current_dir(root());
    command
}

/// The names of the crates in `crates/`.
pub(crate) fn crates() -> Result<Vec<String>> {
    let folder = root().join("crates");
    let entries = std::fs::read_dir(&folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Whether the workspace has a package at `path`.
pub(crate) fn has(path: &str) -> bool {
    root().join(path).join("Cargo.toml").is_file()
}
