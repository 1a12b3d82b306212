//! What tests of images need: the distribution's registry on loopback, and
//! images that are put together by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod gate;
mod layout;
mod registry;
mod tokens;

pub use gate::{Gate, Rule};
pub use layout::{Layout, Packing, Tar, digest};
pub use registry::{PASSWORD, TestRegistry, USER};
pub use tokens::IDENTITY;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A layout with images of the distribution's own packages, which
/// `cargo xtask test` makes: `debian`, `python`, `packages` (pip and npm),
/// `busybox` and `many` are `usual`, and there is one that is `large`.
pub fn distribution(which: &str) -> PathBuf {
    let made = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-images-2");
    let layout =
        std::env::var_os("LAMPYR_TEST_IMAGES").map_or_else(made, PathBuf::from).join(which);
    assert!(layout.is_dir(), "{} is not there: cargo xtask test makes it", layout.display());
    layout
}

/// Runs a program of the host that must succeed.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
