//! `cargo xtask check-macos`: the host side for macOS, without a Mac.
//!
//! rustc needs no more than the source of its own standard library to check
//! for a target, and Debian packages that source for each version. Nothing is
//! linked or run: this shows that the code is well typed, not that it works.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{Apt, cached};
use crate::command::{read, run};
use crate::failure::{Failure, Result};
use crate::{packages, rust_sdk, workspace};

const TARGET: &str = "aarch64-apple-darwin";

/// Where Debian's newest compilers for its stable release are.
const SUITE: &str = "trixie-backports";

/// Only ever built for Linux.
const GUEST_SIDE: &[&str] = &["lampyr-agent"];

/// Type-checks and lints every crate that runs on the host.
pub(crate) fn check() -> Result<()> {
    packages::ensure(packages::IMAGE)?;
    let library = standard_library(&workspace::target().join("macos"))?;
    run(&mut cargo("check", &library)?)?;
    run(cargo("clippy", &library)?.args(["--", "-D", "warnings"]))
}

fn cargo(task: &str, library: &Path) -> Result<Command> {
    let mut command = workspace::cargo();
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", library)
        .env("CARGO_TARGET_DIR", workspace::target().join("macos/build"))
        // C code is compiled by build scripts even for a check; nothing links it.
        .env("CC_aarch64_apple_darwin", "true")
        .env("AR_aarch64_apple_darwin", "true")
        .args([task, "--quiet", "-Zbuild-std=std,panic_abort", "--target", TARGET])
        .args(["--lib", "--bins"]);
    command.args(["-p", rust_sdk::SDK]);
    for name in workspace::crates()? {
        if !GUEST_SIDE.contains(&name.as_str()) {
            command.args(["-p", &name]);
        }
    }
    Ok(command)
}

/// The source of the standard library of this very rustc, fetched once.
fn standard_library(folder: &Path) -> Result<PathBuf> {
    let version = rustc_version()?;
    let source = folder.join(format!("rust-src-{version}"));
    cached(&source, |new| {
        let apt = Apt::open(&folder.join(format!("apt-{version}")), SUITE)?;
        apt.unpack_one(&format!("rust-src={}", packaged(&apt, &version)?), new)
    })?;
    Ok(source.join(format!("usr/src/rustc-{version}/library")))
}

/// Debian's version of the package for a version of rustc.
fn packaged(apt: &Apt, version: &str) -> Result<String> {
    let found = apt.versions("rust-src")?;
    let wanted = format!("{version}+");
    found.iter().find(|candidate| candidate.starts_with(&wanted)).cloned().ok_or_else(|| {
        Failure::new(format!(
            "{SUITE} has no rust-src for rustc {version}, only {}; \
             the macOS check needs a toolchain of one of these versions",
            found.join(", ")
        ))
    })
}

fn rustc_version() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let line = read(Command::new(rustc).arg("--version").current_dir(workspace::root()))?;
    let version = line.split_whitespace().nth(1).map(str::to_owned);
    version.ok_or_else(|| Failure::new(format!("rustc --version says only: {line}")))
}
