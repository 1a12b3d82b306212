//! `cargo xtask agent`: the static guest agent that lampyr embeds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::command::run;
use crate::failure::{At, Failure, Result};
use crate::workspace;

/// One static file at a fixed address: the guest has no loader to spare.
const RUSTFLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// Builds the agent for an architecture and leaves it where lampyr's build
/// looks for it.
pub(crate) fn build(arch: &str) -> Result<()> {
    if !["x86_64", "aarch64"].contains(&arch) {
        return Err(Failure::new(format!("no agent for {arch}, only for x86_64 and aarch64")));
    }
    let target = format!("{arch}-unknown-linux-gnu");
    let built = workspace::root().join("target/agent-build");
    run(workspace::cargo()
        .env("RUSTFLAGS", RUSTFLAGS)
        .args(["build", "--quiet", "--profile", "agent", "-p", "lampyr-agent", "--target", &target])
        .arg("--target-dir")
        .arg(&built))?;
    place(&built.join(target).join("agent/lampyr-agent"), &workspace::agent())
}

/// Copies the agent, unless the copy is the same: a new time stamp alone would
/// have lampyr built again.
fn place(built: &Path, agent: &Path) -> Result<()> {
    let bytes = fs::read(built).at(built)?;
    if fs::read(agent).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = agent.parent().unwrap_or(agent);
    fs::create_dir_all(folder).at(folder)?;
    let new = agent.with_extension("new");
    fs::write(&new, bytes).at(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).at(&new)?;
    fs::rename(&new, agent).at(agent)
}
