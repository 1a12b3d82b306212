//! Puts the guest agent where `src/agent.rs` embeds it from.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    fs::write(Path::new(&out).join("agent"), agent()?)
}

/// The agent that `LAMPYR_AGENT` names; empty where there is none yet.
fn agent() -> io::Result<Vec<u8>> {
    tell("rerun-if-env-changed=LAMPYR_AGENT");
    let Some(path) = env::var_os("LAMPYR_AGENT") else { return Ok(Vec::new()) };
    tell(&format!("rerun-if-changed={}", Path::new(&path).display()));
    match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Tells Cargo something, which listens on standard output.
fn tell(what: &str) {
    println!("cargo:{what}");
}
