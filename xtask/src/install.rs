//! `cargo xtask install`: the release build of lampyr on the PATH.

use std::fs;
use std::path::PathBuf;

use crate::command::say;
use crate::failure::{At, Failure, Result};
use crate::{run, workspace};

/// Builds lampyr and puts it, whole or not at all, into a folder of the user's
/// that the PATH names.
pub(crate) fn install() -> Result<()> {
    let folder = folder()?;
    run::build()?;
    fs::create_dir_all(&folder).at(&folder)?;
    let new = folder.join(format!(".lampyr-{}", std::process::id()));
    fs::copy(workspace::lampyr(), &new).at(&new)?;
    let installed = folder.join("lampyr");
    fs::rename(&new, &installed).at(&installed)?;
    say(&format!("Installed {}", installed.display()));
    Ok(())
}

fn folder() -> Result<PathBuf> {
    let home = workspace::home()?;
    let cargo = std::env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    [cargo.join("bin"), home.join(".local/bin")]
        .into_iter()
        .find(|folder| std::env::split_paths(&path).any(|entry| entry == *folder))
        .ok_or_else(|| {
            Failure::new("neither ~/.cargo/bin nor ~/.local/bin is on the PATH; add one")
        })
}
